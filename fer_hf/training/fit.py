"""Training as one function: recipe, faces and run folder in, the best model in `run.model` out."""

import logging
import os
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import psutil
import torch
from datasets import DatasetDict
from transformers import TrainingArguments, set_seed
from transformers.trainer_callback import TrainerState

from fer_hf.data import Faces
from fer_hf.errors import TerminatedError, UserError
from fer_hf.machine import process_settings_kept
from fer_hf.models.load import check_loads_again
from fer_hf.recipe.schema import Recipe
from fer_hf.runs.folder import Run
from fer_hf.runs.records import Best, Epoch, Stage, Training
from fer_hf.training.batch_size import memory_explained, what_to_lower
from fer_hf.training.build import StagePlan, TrainerBuilder
from fer_hf.training.callbacks import Clock, ProgressLine, SaveOnSigterm, tensorboard_callback
from fer_hf.training.checkpoints import checkpoints, newest_sound
from fer_hf.training.hooks import unprepare
from fer_hf.training.launch import processes, told_by_main
from fer_hf.training.profile import Profile
from fer_hf.training.trainer import FerTrainer

logger = logging.getLogger(__name__)
LAST_IS_ALONE = "{images} images in batches of {size}: the one left over, another in each epoch, is left out"


@process_settings_kept()
def fit(recipe: Recipe, faces: Faces | DatasetDict, run: Run, resume: bool = False, profile: bool = False) -> None:
    """Train, keep the best model in `run.model`, and write the sections `model` and `training` of metrics.json.

    Each stage goes on from the last weights of the one before; the best model is the best of all of them. All processes
    of a launch call this.

    Args:
        recipe: what to train, and how.
        faces: the images, or their splits `train` and `validation`.
        run: the run folder.
        resume: go on from the newest checkpoint that verifies, and end with the weights of a run that was not stopped.
        profile: measure how many seconds each part of a step took, for `run.metrics.training.profile`.

    Raises:
        UserError: something does not go together, or into memory, or the network could not be loaded again.
        FerError: training diverged, or could not be saved; earlier checkpoints are untouched.
        TerminatedError: SIGTERM came; the step in which it came is saved.
    """
    set_seed(recipe.train.seed)
    builder, summary = TrainerBuilder(recipe, faces, run), Summary({} if profile else None)
    if not any(checkpoints(stage.folder) for stage in builder.stages):  # or it has passed the check
        told_by_main(partial(check_loads_again, builder.loaded, run.path / ".check"))
    for stage in builder.stages:
        _fit_stage(builder, stage, summary, resume)
    if processes().is_main_process:
        events = builder.stages[-1].events.relative_to(run.path).as_posix()
        run.update(model=builder.describe_model(), training=summary.record(len(builder.train), events))
    processes().wait_for_everyone()  # before the others read what was written


def _fit_stage(builder: TrainerBuilder, stage: StagePlan, summary: "Summary", resume: bool) -> None:
    """Train one stage, or what a resume has left of it, and add it to the summary."""
    args = builder.arguments(stage)
    checkpoint = _checkpoint_to_resume(stage.folder, args) if resume else None
    state = TrainerState.load_from_json(str(checkpoint / "trainer_state.json")) if checkpoint else None
    trainer = builder.trainer(stage, args, state)
    trainer.best_before = summary.best
    trainer.clear_leftovers()
    ended = state if state and _has_ended(state) else None
    if processes().is_main_process:
        _log_beginning(builder, stage, args, bool(ended))
        if trainer.last_is_alone and not stage.number:
            logger.info("  %s", LAST_IS_ALONE.format(images=len(builder.train), size=args.train_batch_size))
    if ended:
        trainer.load_checkpoint(str(checkpoint))
        trainer.state = ended
    else:
        _run(trainer, stage, checkpoint, summary.profile)
    summary.add(trainer, stage.trainable)
    unprepare(trainer.model)


def _run(trainer: FerTrainer, stage: StagePlan, checkpoint: Path | None, seconds: dict[str, float] | None) -> None:
    """Train to the end of a stage, with progress on the terminal and in TensorBoard's files."""
    progress, sigterm = ProgressLine(trainer.images_per_step), SaveOnSigterm()
    if trainer.is_world_process_zero():
        trainer.add_callback(progress)
        if "tensorboard" in stage.train.report_to:
            trainer.add_callback(tensorboard_callback(trainer, stage.events, checkpoint))
    if seconds is not None:
        trainer.add_callback(Profile(trainer, seconds))
    trainer.callback_handler.callbacks.insert(0, sigterm)
    try:
        with memory_explained(lambda: what_to_lower(trainer)):
            trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    except ValueError as error:
        if "more than 1 value per channel" in str(error):
            advice = "raise train.per_device_train_batch_size, and have two training images or more"
            raise UserError(f"Batch norm needs two images or more in a batch: {advice}.") from error
        raise
    except RuntimeError as error:  # of a loader whose workers were terminated, as those of an evaluation are
        if sigterm.received:
            raise TerminatedError("Stopped by SIGTERM: go on from the last checkpoint with --resume.") from error
        raise
    except TerminatedError as error:
        raise error.with_traceback(None) from None  # or its frames hold on to the loader, whose workers end late
    finally:
        sigterm.restore()
        progress.stop()  # also after an error, which is printed below it
    if sigterm.received:
        raise TerminatedError("Stopped by SIGTERM at the end of training: go on with --resume.")


def _log_beginning(builder: TrainerBuilder, stage: StagePlan, args: TrainingArguments, ended: bool) -> None:
    """Say what a stage trains, and before the first one what there is to know of the model and the GPUs."""
    if not stage.number:
        for note in builder.loaded.notes:
            logger.info("  %s", note)
        if args.device.type == "cuda" and args.world_size == 1 < (gpus := torch.cuda.device_count()):
            launch = f"accelerate launch --multi_gpu --num_processes {gpus}"
            logger.info("  one of %s GPUs is used; all of them by %s", gpus, launch)
    if builder.recipe.train.stages:
        learning, total = builder.model.num_parameters(only_trainable=True), builder.model.num_parameters()
        size = f"{learning / 1e6:.2f} M of {total / 1e6:.2f} M weights" + (", ended before" if ended else "")
        line = f"stage {stage.number + 1} of {len(builder.stages)}: {stage.name}, {size}"
        logger.info(line, extra={"style": ""})


def _checkpoint_to_resume(folder: Path, args: TrainingArguments) -> Path | None:
    """The newest sound checkpoint; logs which ones were passed over and why."""
    checkpoint, passed_over = newest_sound(folder, args.world_size)
    if passed_over and not checkpoint:
        way = "Resume on as many processes as wrote them, or start a new run without --resume."
        raise UserError(f"No checkpoint in {folder} can be resumed from: {'; '.join(passed_over)}. {way}")
    if args.process_index == 0:
        for line in passed_over:
            logger.warning("passed over %s", line)
        name = checkpoint.name if checkpoint else "the beginning"
        logger.info("resuming from %s", name, extra={"style": ""})
    return checkpoint


def _has_ended(state: TrainerState) -> bool:
    """Whether training was over when this state was saved: all steps done, or stopped early."""
    saved: Any = state.stateful_callbacks or {}
    stopped = saved.get("TrainerControl", {}).get("args", {}).get("should_training_stop")
    return state.global_step >= state.max_steps or bool(stopped)


class Summary:
    """Adds up what the stages of a run leave; epochs and steps are counted over all of them.

    Args:
        profile: the seconds of each part of a step are added to it; None measures none.
    """

    best: float | None = None
    """The best validation metric so far."""
    epochs, steps, stopped_early = 0.0, 0, False

    def __init__(self, profile: dict[str, float] | None = None):
        self.profile = profile
        self.log: list[dict[str, float]] = []
        self.clocks: list[Clock] = []
        self.stages: list[Stage] = []

    def add(self, trainer: FerTrainer, trainable: str | int | Sequence[str]) -> None:
        """Add a stage that has ended, just now or before a resume."""
        state, self.args, self.images_per_step = trainer.state, trainer.args, trainer.images_per_step
        clock = next((c for c in trainer.callback_handler.callbacks if isinstance(c, Clock) and c.seconds), None)
        self.clocks.append(clock or Clock.from_state(cast(Any, state.stateful_callbacks)["Clock"]))
        shift = {"epoch": self.epochs, "step": self.steps}
        self.log += [{k: v + shift.get(k, 0) for k, v in entry.items()} for entry in state.log_history]
        self.epochs, self.steps = self.epochs + (state.epoch or 0.0), self.steps + state.global_step
        self.stopped_early |= state.global_step < state.max_steps
        values = [best for best in (trainer.best_before, state.best_metric) if best is not None]
        self.best = (max if self.args.greater_is_better else min)(values)
        learning, epochs = trainer.model.num_parameters(only_trainable=True), round(state.epoch or 0.0, 4)
        self.stages.append(Stage(trainable, learning, epochs, state.global_step, self.args.learning_rate))

    def record(self, images: int, events: str) -> Training:
        """The section `training` of metrics.json.

        Args:
            images: the number of training images.
            events: TensorBoard's folder of the last stage, relative to the run.
        """
        args, metric = self.args, str(self.args.metric_for_best_model)
        best = next(entry for entry in self.log if entry.get(f"eval_{metric}") == self.best)
        seconds = sum(clock.train_seconds for clock in self.clocks)
        return Training(
            epochs=round(self.epochs, 4),
            steps=self.steps,
            seconds=round(sum(clock.seconds for clock in self.clocks), 1),
            images_per_second=round(images * self.epochs / max(seconds, 1e-9), 1),
            effective_batch_size=self.images_per_step,
            processes=args.world_size,
            precision="bf16" if args.bf16 else "fp16" if args.fp16 else "fp32",
            device=torch.cuda.get_device_name(args.device) if args.device.type == "cuda" else args.device.type,
            seed=args.seed,
            peak_memory_mb=round(peak_memory_mb(args.device), 1),
            stopped_early=self.stopped_early,
            resumed_at_steps=[step for clock in self.clocks for step in clock.resumed_at_steps],
            stages=self.stages,
            events=events,
            best=Best(metric, best[f"eval_{metric}"], best["epoch"], int(best["step"])),
            history=history(self.log),
            profile=self.profile or None,
            date=datetime.now(UTC).date().isoformat(),
        )


def history(log: Sequence[Mapping[str, float]]) -> list[Epoch]:
    """One record per evaluation in a Trainer's log; figures of training are means since the last.

    The loss is one over steps, the accuracy one over images.
    """
    epochs: list[Epoch] = []
    losses, right, images = list[float](), 0.0, 0
    step, rate = 0, 0.0
    for entry in log:
        if "loss" in entry:
            losses += [entry["loss"]] * int(entry["step"] - step)
            right += entry.get("accuracy", 0) * entry.get("images", 0)
            images += int(entry.get("images", 0))
            step, rate = int(entry["step"]), entry["learning_rate"]
        elif "eval_loss" in entry:
            loss, accuracy = float(np.mean(losses)) if losses else None, right / images if images else None
            figures = (entry["eval_loss"], entry["eval_accuracy"], entry["eval_macro_f1"])
            epochs.append(Epoch(entry["epoch"], int(entry["step"]), loss, *figures, rate, accuracy))
            losses, right, images = [], 0.0, 0
    return epochs


def peak_memory_mb(device: torch.device) -> float:
    """Peak memory in MiB: of the GPU, or resident of this process (where the system keeps no peak, the present one)."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated() / 2**20
    try:
        import resource
    except ImportError:  # Windows
        return psutil.Process().memory_info().rss / 2**20
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if os.uname().sysname == "Darwin" else peak / 2**10

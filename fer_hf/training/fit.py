"""Training as one function: recipe, faces and run folder in, the best model in `run.model` out.

A run is one stage, or several. Each stage is a Trainer of its own, with its own parameters, optimiser, schedule and
checkpoints, and goes on from the last weights of the one before; the best model is the best of all of them.
"""

import gc
import re
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from datasets import Dataset, DatasetDict
from torch import nn
from torch.utils.tensorboard import SummaryWriter
from transformers import EarlyStoppingCallback, TrainingArguments, set_seed
from transformers.integrations import TensorBoardCallback
from transformers.trainer_callback import PrinterCallback, ProgressCallback, TrainerState

from fer_hf.console import console
from fer_hf.errors import TerminatedError, UserError
from fer_hf.images.batches import as_is
from fer_hf.images.spec import ImageSpec
from fer_hf.images.transforms import EvalTransform
from fer_hf.metrics import classification_metrics
from fer_hf.models.load import Loaded, load_model
from fer_hf.recipe.schema import Loss, Recipe, Stage, Train
from fer_hf.runs.folder import Run
from fer_hf.training.arguments import ONE_CYCLE, training_arguments
from fer_hf.training.batch_size import batch_that_fits, memory_explained, try_step, what_to_lower
from fer_hf.training.callbacks import Clock, ExactResume, ProgressLine, SaveOnSigterm
from fer_hf.training.checkpoints import newest_sound, step_of
from fer_hf.training.compiling import should_compile
from fer_hf.training.inputs import batches, check_sizes, train_transform
from fer_hf.training.losses import balanced_weights, classification_loss, effective_number_weights
from fer_hf.training.mixing import Mix
from fer_hf.training.parameters import parameter_groups, set_trainable
from fer_hf.training.profile import Profile
from fer_hf.training.sampling import ClassBalancedSampler
from fer_hf.training.summary import history, peak_memory_mb
from fer_hf.training.teacher import Teacher
from fer_hf.training.trainer import FerTrainer


def fit(recipe: Recipe, splits: DatasetDict, run: Run, resume: bool = False, profile: bool = False) -> None:
    """Train, keep the best model in `run.model`, and write the sections `model` and `training` of metrics.json.

    With `resume`, training goes on from the newest checkpoint that verifies. With `profile`, `training` says how many
    seconds each part took. All processes of a launch call this.
    """
    set_seed(recipe.train.seed)
    labels = tuple(splits["train"].features["label"].names)
    settings = recipe.model.model_dump(exclude={"name", "pretrained"})
    loaded = load_model(recipe.model.name, labels, pretrained=recipe.model.pretrained, **settings)
    check_sizes(recipe, loaded.model, ImageSpec.from_processor(loaded.processor).size)
    for number, stage in enumerate(recipe.train.stages):  # all of them, before the first step of the first
        set_trainable(loaded.model, stage.trainable, _key(recipe, number))
        training_arguments(_settings(recipe.train, stage), run.checkpoints)
    fitting = _Fit(recipe, splits, run, loaded, resume, profile)
    for number in range(len(recipe.train.stages) or 1):
        fitting.stage(number)
    trainer = fitting.trainer
    if trainer.is_world_process_zero():
        parent = Run(recipe.model.name).metrics().get("model", {})  # a run that was fine-tuned again
        run.update_metrics(
            model={
                "name": recipe.public()["model"]["name"],
                "base_model": loaded.base_model or parent.get("base_model"),
                "architecture": getattr(loaded.model.config, "architecture", loaded.model.config.model_type),
                "pretrained": recipe.model.pretrained,
                "parameters": sum(p.numel() for p in loaded.model.parameters()),
                "image_size": list(fitting.spec.size),
                "mean": list(fitting.spec.mean),
                "std": list(fitting.spec.std),
                "head": loaded.head,
                "notes": loaded.notes or parent.get("notes", []),
            },
            training=fitting.summary(),
        )
    trainer.accelerator.wait_for_everyone()  # before the others read what was written


def _settings(train: Train, stage: Stage) -> Train:
    """The settings of a stage: its own, and those of `train` for the rest."""
    return train.model_copy(update=stage.model_dump(exclude={"trainable"}, exclude_none=True))


def _key(recipe: Recipe, stage: int) -> str:
    """What to call the choice of a stage's parameters in an error."""
    return f"train.stages.{stage}.trainable ({recipe.where(f'train.stages.{stage}.trainable')})"


class _Fit:
    """The stages of one run: what they share, and what each leaves for the next."""

    trainer: FerTrainer
    events: Path
    """TensorBoard's folder of the last stage."""

    def __init__(
        self, recipe: Recipe, splits: DatasetDict, run: Run, loaded: Loaded, resume: bool, profile: bool = False
    ):
        self.recipe, self.run, self.loaded, self.resume = recipe, run, loaded, resume
        self.train, self.validation = splits["train"], splits["validation"]
        self.labels = tuple(self.train.features["label"].names)
        self.spec = ImageSpec.from_processor(loaded.processor)
        if recipe.loss.soft_labels and "soft_label" not in self.train.column_names:
            where = recipe.where("loss.soft_labels")
            raise UserError(f"loss.soft_labels ({where}): this source has no soft labels; `ferplus:` has.")
        self.train_batches = batches(recipe, self.train, self.spec, training=True)
        self.validation_batches = batches(recipe, self.validation, self.spec)
        self.log: list[dict[str, float]] = []
        self.clocks: list[Clock] = []
        self.stages: list[dict[str, Any]] = []
        self.epochs, self.steps = 0.0, 0
        self.best: float | None = None
        self.stopped_early = False
        self.teacher: Teacher | None = None
        self.profile: dict[str, float] | None = {} if profile else None

    def stage(self, number: int) -> None:
        """Train one stage, or what a resume has left of it."""
        recipe, several = self.recipe, bool(self.recipe.train.stages)
        stage = recipe.train.stages[number] if several else Stage()
        train = _settings(recipe.train, stage)
        set_trainable(self.loaded.model, stage.trainable, _key(recipe, number))
        folder = self.run.checkpoints / f"stage-{number + 1}" if several else self.run.checkpoints
        args = self._arguments(train, folder, number)
        checkpoint = _checkpoint_to_resume(folder, args) if self.resume else None
        state = TrainerState.load_from_json(str(checkpoint / "trainer_state.json")) if checkpoint else None
        if train.auto_find_batch_size or (train.progressive_sizes and not train.fsdp):
            self._try_batch(train, args, state)
        vars(self).pop("trainer", None)
        gc.collect()  # what an earlier stage, or the attempt, has left on the GPU, in cycles
        self.trainer = trainer = self._trainer(train, args, train.seed + number, self._compile(train, args))
        trainer.clear_leftovers()
        ended = bool(state and _had_ended(state))
        learning = sum(p.numel() for p in self.loaded.model.parameters() if p.requires_grad)
        what = str(stage.trainable) if not isinstance(stage.trainable, list) else "+".join(stage.trainable)
        model = re.sub(r"[^\w.-]+", "-", recipe.public()["model"]["name"])
        self.events = self.run.tensorboard / model / (f"{number + 1}-{what}" if several else what)
        if number == 0 and trainer.is_world_process_zero():
            for note in self.loaded.notes:
                console.print(f"  {note}", style="dim")
            gpus = torch.cuda.device_count() if args.device.type == "cuda" else 1
            if args.world_size == 1 < gpus:
                launch = f"accelerate launch --multi_gpu --num_processes {gpus}"
                console.print(f"  one of {gpus} GPUs is used; all of them by {launch}", style="dim")
        if several and trainer.is_world_process_zero():
            total = sum(p.numel() for p in self.loaded.model.parameters())
            size = f"{learning / 1e6:.2f} M of {total / 1e6:.2f} M weights" + (", ended before" if ended else "")
            console.print(f"stage {number + 1} of {len(recipe.train.stages)}: {what}, {size}")
        if state and ended:
            trainer._load_from_checkpoint(str(checkpoint))
            trainer.state = state
        else:
            self._run(train, checkpoint)
        self._take(stage, learning)

    def _arguments(self, train: Train, folder: Path, number: int) -> TrainingArguments:
        args = training_arguments(train, folder)
        args.run_name = f"{self.recipe.name}/{self.run.path.name}"
        stores = [data.pixels for data in (self.train_batches, self.validation_batches) if data.pixels is not None]
        args.dataloader_pin_memory &= not any(pixels.is_cuda for pixels in stores)  # what lies there need not be sent
        if number:
            args.data_seed = train.seed + number
        return args

    def _try_batch(self, train: Train, args: TrainingArguments, state: TrainerState | None) -> None:
        """Find now, not in a later epoch of larger images, whether a batch fits into memory.

        With `auto_find_batch_size` it becomes one that does, accumulated; on a resume the one of the checkpoint.
        """
        wanted = size = args.per_device_train_batch_size
        if state:
            size = state.train_batch_size or wanted
        else:
            trainer = self._trainer(train, args, train.seed)
            with memory_explained(lambda: what_to_lower(trainer)):
                if train.auto_find_batch_size:
                    size = batch_that_fits(trainer)
                else:
                    try_step(trainer, wanted)
        args.per_device_train_batch_size = size
        args.gradient_accumulation_steps *= wanted // size

    def _compile(self, train: Train, args: TrainingArguments) -> bool:
        steps = train.passed_through.get("max_steps", -1)
        images = train.num_train_epochs * len(self.train) / args.world_size
        if steps > 0:
            images = steps * args.gradient_accumulation_steps * args.train_batch_size
        sizes = [(size, size) for size in train.progressive_sizes] + [self.spec.size]
        return not train.fsdp and should_compile(train.torch_compile, self.loaded.model, sizes, images, args.device)

    def _run(self, train: Train, checkpoint: Path | None) -> None:
        progress = self._add_callbacks(train, checkpoint)
        if self.profile is not None:
            self.trainer.add_callback(Profile(self.trainer, self.profile))
        sigterm = SaveOnSigterm()
        self.trainer.callback_handler.callbacks.insert(0, sigterm)
        try:
            with memory_explained(lambda: what_to_lower(self.trainer)):
                self.trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        except RuntimeError as error:  # of a loader whose workers were terminated, as those of an evaluation are
            if sigterm.received:
                raise TerminatedError("Stopped by SIGTERM: go on from the last checkpoint with --resume.") from error
            raise
        except TerminatedError as error:
            raise error.with_traceback(None) from None  # or its frames hold on to the loader, whose workers end late
        finally:
            sigterm.restore()
            if progress:
                progress.stop()  # also after an error, which is printed below it
        if sigterm.received:
            raise TerminatedError("Stopped by SIGTERM at the end of training: go on with --resume.")

    def _take(self, stage: Stage, learning: int) -> None:
        """Add what a stage has left to what is known of the run."""
        trainer, state = self.trainer, self.trainer.state
        clock = next((c for c in trainer.callback_handler.callbacks if isinstance(c, Clock) and c.seconds), None)
        self.clocks.append(clock or _restored_clock(state))
        shift = {"epoch": self.epochs, "step": self.steps}
        self.log += [{k: v + shift.get(k, 0) for k, v in entry.items()} for entry in state.log_history]
        self.epochs, self.steps = self.epochs + (state.epoch or 0.0), self.steps + state.global_step
        self.stopped_early |= state.global_step < state.max_steps
        values = [best for best in (self.best, state.best_metric) if best is not None]
        self.best = (max if trainer.args.greater_is_better else min)(values)
        self.stages.append(
            {
                "trainable": stage.trainable,
                "parameters": learning,
                "epochs": round(state.epoch or 0.0, 4),
                "steps": state.global_step,
                "learning_rate": trainer.args.learning_rate,
            }
        )
        for name in ("forward", "_original_forward", "_is_accelerate_prepared"):  # the next stage's autocast is its own
            vars(trainer.model).pop(name, None)

    def _trainer(self, train: Train, args: TrainingArguments, seed: int, compile: bool = False) -> FerTrainer:
        """The trainer of a stage; `seed` is for what is drawn of images and batches, another one for each stage."""
        recipe, labels, spec, loss = self.recipe, self.labels, self.spec, self.recipe.loss
        weight = class_weights(loss, self.train)
        weight = None if weight is None else weight.to(args.device)

        def train_loss(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
            return classification_loss(logits, targets, weight, loss.label_smoothing, loss.focal_gamma)

        def compute_metrics(result: Any) -> dict[str, float]:
            metrics = classification_metrics(result.predictions, result.label_ids, labels)
            return {name: value for name, value in metrics.items() if isinstance(value, float)}

        mixes = recipe.augment.mixup or recipe.augment.cutmix
        balanced = train.sampling == "class_balanced"
        if loss.teacher and not self.teacher:
            key = f"loss.teacher ({recipe.where('loss.teacher')})"
            self.teacher = Teacher(loss.teacher, labels, spec, args.device, key)
        return FerTrainer(
            self.loaded.model,
            args,
            data_collator=as_is,
            train_dataset=self.train_batches,
            eval_dataset=self.validation_batches,
            compute_metrics=compute_metrics,
            callbacks=[ExactResume(), Clock()],
            train_transform=train_transform(recipe.augment, train, spec, len(self.train), seed),
            eval_transform=EvalTransform(spec),
            processor=self.loaded.processor,
            best_model=self.run.model,
            best_before=self.best,
            train_loss=train_loss,
            parameter_groups=parameter_groups(
                self.loaded.model, train.learning_rate, train.weight_decay, train.head_learning_rate, train.layer_decay
            ),
            sampler=ClassBalancedSampler(np.asarray(self.train["label"][:]), seed) if balanced else None,
            mix=Mix(len(labels), recipe.augment.mixup, recipe.augment.cutmix, seed) if mixes else None,
            teacher=self.teacher,
            teacher_weight=loss.teacher_weight,
            temperature=loss.temperature,
            sam_rho=train.sam_rho,
            sam_adaptive=train.sam_adaptive,
            ema_decay=train.ema_decay,
            momentum=train.momentum,
            one_cycle=train.lr_scheduler_type == ONE_CYCLE,
            channels_last=train.channels_last,
            compile=compile,
            ddp_comm_hook=train.ddp_comm_hook,
        )

    def _add_callbacks(self, train: Train, checkpoint: Path | None) -> ProgressLine | None:
        """Early stopping, TensorBoard and the terminal; returns the progress line of the main process."""
        trainer = self.trainer
        trainer.remove_callback(PrinterCallback)
        trainer.remove_callback(ProgressCallback)
        if train.early_stopping_patience:
            trainer.add_callback(EarlyStoppingCallback(train.early_stopping_patience))
        if not trainer.is_world_process_zero():
            return None
        line = ProgressLine(console, _images_per_step(trainer))
        trainer.add_callback(line)
        if "tensorboard" in train.report_to:
            step = step_of(checkpoint) + 1 if checkpoint else None  # what a killed run logged after its checkpoint
            writer = SummaryWriter(str(self.events), purge_step=step)
            if not checkpoint:
                _write_graph(writer, trainer.model, self.spec)
            trainer.add_callback(TensorBoardCallback(writer))
        return line

    def summary(self) -> dict[str, Any]:
        """The section `training` of metrics.json."""
        args, metric = self.trainer.args, self.recipe.train.metric_for_best_model
        best = next(entry for entry in self.log if entry.get(f"eval_{metric}") == self.best)
        seconds = sum(clock.train_seconds for clock in self.clocks)
        return {
            "epochs": round(self.epochs, 4),
            "steps": self.steps,
            "seconds": round(sum(clock.seconds for clock in self.clocks), 1),
            "images_per_second": round(len(self.train) * self.epochs / max(seconds, 1e-9), 1),
            "effective_batch_size": _images_per_step(self.trainer),
            "processes": args.world_size,
            "precision": "bf16" if args.bf16 else "fp16" if args.fp16 else "fp32",
            "device": torch.cuda.get_device_name(args.device) if args.device.type == "cuda" else args.device.type,
            "seed": self.recipe.train.seed,
            "peak_memory_mb": round(peak_memory_mb(args.device), 1),
            "stopped_early": self.stopped_early,
            "resumed_at_steps": [step for clock in self.clocks for step in clock.resumed_at_steps],
            "stages": self.stages,
            "events": self.events.relative_to(self.run.path).as_posix(),
            "best": {"metric": metric, "value": self.best, "epoch": best["epoch"], "step": best["step"]},
            "history": history(self.log),
            **({"profile": self.profile} if self.profile else {}),
        }


def class_weights(loss: Loss, train: Dataset) -> torch.Tensor | None:
    """Weights `(C,)` of the loss in the order of the labels, or None."""
    if loss.class_weights == "none":
        return None
    counts = np.bincount(train["label"][:], minlength=len(train.features["label"].names))
    if loss.class_weights == "balanced":
        return balanced_weights(counts)
    if loss.class_weights == "effective_number":
        return effective_number_weights(counts, loss.effective_number_beta)
    return torch.tensor(loss.class_weights, dtype=torch.float32)


class _Logits(nn.Module):
    """A model as TensorBoard's graph wants it: tensor in, tensor out."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        return self.model(pixel_values=pixel_values).logits


def _write_graph(writer: SummaryWriter, model: nn.Module, spec: ImageSpec) -> None:
    """The model's graph for TensorBoard."""
    device = next(model.parameters()).device
    try:
        writer.add_graph(_Logits(model).eval(), torch.zeros(1, 3, *spec.size, device=device))
    except RuntimeError:  # some models cannot be traced
        console.print("  TensorBoard gets no graph of this model: it cannot be traced", style="dim")


def _images_per_step(trainer: FerTrainer) -> int:
    return trainer.args.train_batch_size * trainer.args.gradient_accumulation_steps * trainer.args.world_size


def _checkpoint_to_resume(folder: Path, args: TrainingArguments) -> Path | None:
    """The newest sound checkpoint; says which ones were passed over and why."""
    checkpoint, passed_over = newest_sound(folder, args.world_size)
    if passed_over and not checkpoint:
        raise UserError(
            f"No checkpoint in {folder} can be resumed from: {'; '.join(passed_over)}. Resume on as many "
            "processes as wrote them, or start a new run without --resume."
        )
    if args.process_index == 0:
        for line in passed_over:
            console.print(f"passed over {line}", style="yellow")
        console.print(f"resuming from {checkpoint.name if checkpoint else 'the beginning'}")
    return checkpoint


def _had_ended(state: TrainerState) -> bool:
    """Whether training was over when this state was saved: all steps done, or stopped early."""
    saved: Any = state.stateful_callbacks or {}
    stopped = saved.get("TrainerControl", {}).get("args", {}).get("should_training_stop")
    return state.global_step >= state.max_steps or bool(stopped)


def _restored_clock(state: TrainerState) -> Clock:
    clock, saved = Clock(), cast(dict[str, Any], state.stateful_callbacks)
    for name, value in saved["Clock"]["attributes"].items():
        setattr(clock, name, value)
    return clock

"""What a training leaves in metrics.json: one history over all stages, the best evaluation, time and memory."""

import os
from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
import psutil
import torch

from fer_hf.runs.records import Best, Epoch, Stage, Training
from fer_hf.training.callbacks import Clock
from fer_hf.training.trainer import FerTrainer


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
        values = [best for best in (self.best, state.best_metric) if best is not None]
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
        )


def history(log: Sequence[Mapping[str, float]]) -> list[Epoch]:
    """One record per evaluation in a Trainer's log; the training loss is the mean over the steps since the last."""
    epochs: list[Epoch] = []
    losses: list[float] = []
    step, rate = 0, 0.0
    for entry in log:
        if "loss" in entry:
            losses += [entry["loss"]] * int(entry["step"] - step)
            step, rate = int(entry["step"]), entry["learning_rate"]
        elif "eval_loss" in entry:
            loss = float(np.mean(losses)) if losses else None
            figures = (entry["eval_loss"], entry["eval_accuracy"], entry["eval_macro_f1"])
            epochs.append(Epoch(entry["epoch"], int(entry["step"]), loss, *figures, rate))
            losses = []
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

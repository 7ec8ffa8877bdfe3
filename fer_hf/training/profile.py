"""Where the time of a training goes: a stopwatch around the parts of a step, from outside the trainer."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from transformers import TrainerCallback

PARTS = {
    "get_batch_samples": "data",
    "prepare_batch": "augmentation",
    "compute_loss": "forward",
    "save_checkpoint": "checkpoint",
    "log": "logging",
    "evaluate": "evaluation",
}
"""Methods of a `HookedTrainer`, and what their time is booked on; a plain `Trainer` has most of them."""


class Profile(TrainerCallback):
    """Adds to `seconds` what each part took, and to `other` the rest.

    What happens inside of an evaluation counts as evaluation; otherwise a part inside of another is taken from it. A
    checkpoint is copied here, and written beside the next steps, whose time that lengthens on a CPU. On a GPU each part
    waits until it is done, so a profiled training is slower than another.
    """

    def __init__(self, trainer: Any, seconds: dict[str, float]):
        self.seconds = seconds
        self._open: list[str] = []
        self._mark = 0.0
        for method, part in PARTS.items():
            if hasattr(trainer, method):
                setattr(trainer, method, self._part(part)(getattr(trainer, method)))
        trainer.accelerator.backward = self._part("backward")(trainer.accelerator.backward)

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        optimizer = kwargs["optimizer"]
        optimizer.step = self._part("optimiser")(optimizer.step)
        self._mark = time.perf_counter()

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._lap()

    def _lap(self) -> None:
        """Book the time since the last mark on the part that is open."""
        if torch.accelerator.is_available():
            torch.accelerator.synchronize()
        now = time.perf_counter()
        part = "evaluation" if "evaluation" in self._open else ["other", *self._open][-1]
        self.seconds[part] = self.seconds.get(part, 0.0) + now - self._mark
        self._mark = now

    @contextmanager
    def _part(self, name: str) -> Iterator[None]:
        """Inside, time is booked on a part; also a decorator."""
        self._lap()
        self._open.append(name)
        try:
            yield
        finally:
            self._lap()
            self._open.pop()

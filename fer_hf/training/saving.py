"""A `Trainer` whose checkpoints are whole or not there at all, and cost training little time; it keeps the best model.

- The Trainer writes a checkpoint into a staging folder. What is large it only copies: a thread writes the copies, seals
  the folder and renames it into place while training goes on. One checkpoint at a time.
- The best model is written aside, then renamed file by file.
"""

import os
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from accelerate.utils import recursively_apply
from torch import nn

from fer_hf.errors import FerError, TerminatedError
from fer_hf.files import disk_is_full, move_into_place
from fer_hf.models.load import save_model
from fer_hf.training.averaging import FILE as AVERAGE
from fer_hf.training.averaging import WeightAverage
from fer_hf.training.checkpoints import STAGING, publish
from fer_hf.training.hooks import OPTIMIZER_FILE, SCHEDULER_FILE, HookedTrainer


def on_cpu(state: Any) -> Any:
    """A copy of the tensors in a state dict, in memory of the CPU: what they are now, whatever training does next."""
    return recursively_apply(lambda tensor: tensor.detach().to("cpu", copy=True), state)


class SavingTrainer(HookedTrainer):
    """A trainer that saves as the module says.

    Args:
        best_model: the folder of the best model.
        processor: the image processor, saved beside it.
        settings: the arguments of `Trainer`.
    """

    average: WeightAverage | None = None
    """Saved in checkpoints, too."""
    _to_write: list[Callable[[], object]]
    """The parts of a checkpoint, while it is made."""

    def __init__(self, best_model: Path, processor: Any, **settings: Any):
        super().__init__(**settings)
        self._best_model, self._processor = best_model, processor
        self._aside = best_model.with_name(f".{best_model.name}")  # where the best model is written first
        self._staging = Path(str(self.args.output_dir)) / STAGING  # and checkpoints
        self._writer = ThreadPoolExecutor(1)
        self._writing: Future[None] | None = None

    def train(self, *args: Any, **kwargs: Any) -> Any:
        """The Trainer's; when it returns, or fails, what it has saved is in its place."""
        try:
            return super().train(*args, **kwargs)
        except TerminatedError:  # a launcher kills the other processes soon after the first has ended
            self.finish_saving()
            self.accelerator.wait_for_everyone()
            raise
        finally:
            self.finish_saving()

    def keep_best(self) -> None:
        """Write the model aside, then rename file by file, the weights last."""
        if not self.args.should_save:
            return
        try:
            with self._naming("the best model"):
                save_model(self.accelerator.unwrap_model(self.model), self._processor, self._aside)
                self._best_model.mkdir(exist_ok=True)
                for path in sorted(self._aside.iterdir(), key=lambda p: p.suffix == ".safetensors"):
                    move_into_place(path, self._best_model / path.name)
        finally:
            shutil.rmtree(self._aside, ignore_errors=True)

    @property
    def has_best(self) -> bool:
        """Whether a best model is there."""
        return (self._best_model / "model.safetensors").is_file()

    def clear_leftovers(self) -> None:
        """Remove what a killed process was writing. All processes call this."""
        if self.args.should_save:
            shutil.rmtree(self._aside, ignore_errors=True)
            shutil.rmtree(self._staging, ignore_errors=True)
        self.accelerator.wait_for_everyone()

    def checkpoint_folder(self, trial: Any) -> str:
        """The staging folder."""
        return str(self._staging)

    def save_checkpoint(self, model: Any, trial: Any) -> None:
        """The Trainer's, into a staging folder that is sealed and renamed into place.

        What is large is copied now, and written while training goes on, one checkpoint at a time.
        """
        self.finish_saving()
        self.accelerator.wait_for_everyone()  # before a process writes into the staging folder that the first clears
        staged = self._staging / f"checkpoint-{self.state.global_step}"
        self._to_write = to_write = []
        with self._naming(staged.name):
            super().save_checkpoint(model, trial)
            if self.average and self.args.should_save:
                to_write.append(partial(torch.save, on_cpu(self.average.state_dict()), staged / AVERAGE))
        del self._to_write
        self.accelerator.wait_for_everyone()  # every process has written its random state

        def write() -> None:
            while to_write:
                to_write.pop(0)()  # and let its copy go
            publish(staged, self._staging.parent, self.args.save_total_limit)

        if self.args.should_save:
            self._writing = self._writer.submit(write)

    def save_weights(self, folder: str | None = None, state_dict: Any = None) -> None:
        """The Trainer's for a checkpoint; later, and of the weights as they are now."""
        os.makedirs(str(folder), exist_ok=True)
        weights = on_cpu(cast(nn.Module, self.model).state_dict())
        self._to_write.append(partial(super().save_weights, folder, weights))

    def save_optimizer(self, folder: str) -> None:
        """The Trainer's for a checkpoint; later, and as they are now."""
        if self.args.should_save:
            for name, part in ((OPTIMIZER_FILE, self.optimizer), (SCHEDULER_FILE, self.lr_scheduler)):
                state = on_cpu(cast(Any, part).state_dict())
                self._to_write.append(partial(torch.save, state, os.path.join(folder, name)))

    def finish_saving(self) -> None:
        """Wait until the last checkpoint is in its place."""
        try:
            with self._naming("the last checkpoint"):
                if self._writing:
                    self._writing.result()
        finally:
            if not self._writing or self._writing.done():  # after Ctrl-C it goes on, and Python waits for it
                self._writing = None
                if self.args.should_save:
                    shutil.rmtree(self._staging, ignore_errors=True)

    @contextmanager
    def _naming(self, what: str) -> Iterator[None]:
        """Inside, an error becomes a `FerError` that says what could not be written."""
        try:
            yield
        except Exception as error:
            reason = "the disk is full" if disk_is_full(self._staging.parent) else error
            raise FerError(
                f"{what} could not be written to {self.args.output_dir}: {reason}. Earlier checkpoints are untouched: "
                "free some space or mend the permissions, then run the same command with --resume."
            ) from error

"""A `Trainer` whose checkpoints are whole or not there at all, and cost training little time; it keeps the best model.

- The Trainer writes a checkpoint into a staging folder. What is large it only copies: the copies are written, and the
  folder sealed and renamed into place, by a thread, while training goes on. One checkpoint at a time.
- The best model is written aside, then renamed file by file.
"""

import os
import shutil
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from accelerate.utils import recursively_apply
from torch import nn
from transformers import Trainer
from transformers.trainer import OPTIMIZER_NAME, SCHEDULER_NAME

from fer_hf.errors import FerError, TerminatedError
from fer_hf.files import move_into_place
from fer_hf.models.load import save_model
from fer_hf.training.averaging import FILE as AVERAGE
from fer_hf.training.averaging import WeightAverage
from fer_hf.training.checkpoints import STAGING, publish


def on_cpu(state: Any) -> Any:
    """A copy of the tensors in a state dict, in memory of the CPU: what they are now, whatever training does next."""
    return recursively_apply(lambda tensor: tensor.detach().to("cpu", copy=True), state)


class SavingTrainer(Trainer):
    """Args beyond the Trainer's own.

    Args:
        processor: saved beside the best model.
        best_model: folder of the best model's config and weights; `_keep_best` writes them.
    """

    average: WeightAverage | None = None
    """Saved in checkpoints, too."""

    def __init__(self, *args: Any, processor: Any, best_model: Path, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.processor, self.best_model = processor, best_model
        self._aside = best_model.with_name(f".{best_model.name}")  # where the best model is written first
        self._staging = Path(str(self.args.output_dir)) / STAGING  # and checkpoints
        self._writer = ThreadPoolExecutor(1)
        self._writing: Future[None] | None = None
        self._to_write: list[Callable[[], object]] | None = None  # the parts of the checkpoint that is being made

    def train(self, *args: Any, **kwargs: Any) -> Any:
        """The Trainer's; when it returns, or fails, what it has saved is in its place."""
        try:
            return super().train(*args, **kwargs)
        except TerminatedError:  # a launcher kills the others soon after the first has ended
            self.finish_saving()
            self.accelerator.wait_for_everyone()
            raise
        finally:
            self.finish_saving()

    def _keep_best(self) -> None:
        """Write the model aside, then rename file by file, the weights last."""
        if not self.args.should_save:
            return
        try:
            save_model(self.accelerator.unwrap_model(self.model), self.processor, self._aside)
            self.best_model.mkdir(exist_ok=True)
            for path in sorted(self._aside.iterdir(), key=lambda p: p.suffix == ".safetensors"):
                move_into_place(path, self.best_model / path.name)
        except Exception as error:
            raise self._not_saved("the best model", error) from error
        finally:
            shutil.rmtree(self._aside, ignore_errors=True)

    def clear_leftovers(self) -> None:
        """Remove what a killed process was writing. All processes call this."""
        if self.args.should_save:
            shutil.rmtree(self._aside, ignore_errors=True)
            shutil.rmtree(self._staging, ignore_errors=True)
        self.accelerator.wait_for_everyone()

    def _determine_best_metric(self, metrics: dict[str, float], trial: Any) -> bool:
        """The Trainer's, without its search for the checkpoint of the best step: ours lies in `best_model`."""
        is_best = super()._determine_best_metric(metrics, trial)
        self.state.best_global_step = None
        return is_best

    def _get_output_dir(self, trial: Any) -> str:
        return str(self._staging)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        """The Trainer's, into a staging folder that is sealed and renamed into place.

        What is large is copied now, and written while training goes on, one checkpoint at a time.
        """
        self.finish_saving()
        self.accelerator.wait_for_everyone()  # before a process writes into the staging folder that the first clears
        staged = self._staging / f"checkpoint-{self.state.global_step}"
        self._to_write = to_write = []
        try:
            super()._save_checkpoint(model, trial)
            if self.average and self.args.should_save:
                to_write.append(partial(torch.save, on_cpu(self.average.state_dict()), staged / AVERAGE))
        except Exception as error:
            raise self._not_saved(f"checkpoint-{self.state.global_step}", error) from error
        finally:
            self._to_write = None
        self.accelerator.wait_for_everyone()  # every process has written its random state

        def write() -> None:
            while to_write:
                to_write.pop(0)()  # and let its copy go
            publish(staged, self._staging.parent, self.args.save_total_limit)

        if self.args.should_save:
            self._writing = self._writer.submit(write)

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        """The Trainer's; of a checkpoint, later, and of the weights as they are now."""
        if self._to_write is None or self.is_fsdp_enabled:  # which is written by all processes together
            return super()._save(output_dir, state_dict)
        os.makedirs(str(output_dir), exist_ok=True)
        self._to_write.append(partial(super()._save, output_dir, on_cpu(cast(nn.Module, self.model).state_dict())))

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        """The Trainer's; later, and as they are now."""
        if self._to_write is None or self.is_fsdp_enabled:
            return super()._save_optimizer_and_scheduler(output_dir)
        if self.args.should_save:
            parts: dict[str, Any] = {OPTIMIZER_NAME: self.optimizer, SCHEDULER_NAME: self.lr_scheduler}
            for name, part in parts.items():
                self._to_write.append(partial(torch.save, on_cpu(part.state_dict()), os.path.join(output_dir, name)))

    def finish_saving(self) -> None:
        """Wait until the last checkpoint is in its place."""
        try:
            if self._writing:
                self._writing.result()
        except Exception as error:
            raise self._not_saved("the last checkpoint", error) from error
        finally:
            if not self._writing or self._writing.done():  # after Ctrl-C it goes on, and Python waits for it
                self._writing = None
                if self.args.should_save:
                    shutil.rmtree(self._staging, ignore_errors=True)

    def _not_saved(self, what: str, error: Exception) -> FerError:
        return FerError(
            f"{what} could not be written to {self.args.output_dir}: {error}. Earlier checkpoints are untouched: "
            "free some space or mend the permissions, then run the same command with --resume."
        )

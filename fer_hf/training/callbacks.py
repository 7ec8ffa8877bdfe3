"""Trainer callbacks: when checkpoints are due, how long training took, what the terminal and TensorBoard show."""

import logging
import signal
import threading
import time
from pathlib import Path
from typing import Any

import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn
from torch import nn
from torch.utils.tensorboard import SummaryWriter
from transformers import TrainerCallback
from transformers.integrations import TensorBoardCallback
from transformers.trainer_callback import ExportableState

from fer_hf.console import console, progress_shown
from fer_hf.errors import TerminatedError
from fer_hf.training.checkpoints import step_of
from fer_hf.training.launch import PROCESS_TIMEOUT

LINE_EVERY = 60.0
"""Seconds between two lines of progress where there is no terminal."""
logger = logging.getLogger(__name__)


class ExactResume(TrainerCallback):
    """What it takes for a resumed run to do just what the uninterrupted one does.

    - At the end of an epoch, evaluate first, then save. The Trainer saves the last step before it evaluates; a run
      killed in between would resume in the next epoch, never look at this one, and could end with another best model.
    - Log whenever a checkpoint is saved: the running mean of the loss is not part of it.
    - Tell the sampler the epoch before batches are skipped: transformers 5 does so too late to reach it under DDP.
    """

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        kwargs["train_dataloader"].set_epoch(int(state.epoch or 0))

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.epoch == int(state.epoch) or control.should_training_stop:
            control.should_save = False
        control.should_log |= control.should_save

    def on_epoch_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        control.should_log = True  # so that no logged loss spans two epochs
        control.should_save = True


class SaveOnSigterm(TrainerCallback):
    """SIGTERM, as a scheduler sends it before it kills: the step ends, is saved, and `TerminatedError` is raised.

    Goes before `ExactResume`, which has the last word on when an epoch's last step is saved.
    """

    def __init__(self) -> None:
        self.received = self.agreed = False
        self._before: Any = None
        self._group: Any = None

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        def receive(*_: Any) -> None:
            self.received = True

        if threading.current_thread() is threading.main_thread():  # no other may set a handler
            self._before = signal.signal(signal.SIGTERM, receive)
        if args.world_size > 1:  # a group that talks among CPUs: GPUs would first have to end the step
            self._group = torch.distributed.new_group(backend="gloo", timeout=PROCESS_TIMEOUT)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.agreed = self.received
        if args.world_size > 1:  # all save at the same step, also when the signal reached some of them a step earlier
            flag = torch.tensor(float(self.received))
            torch.distributed.all_reduce(flag, op=torch.distributed.ReduceOp.MAX, group=self._group)
            self.agreed = bool(flag.item())
        control.should_save |= self.agreed

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self.agreed:
            step = state.global_step
            raise TerminatedError(f"Stopped by SIGTERM after step {step}, which is saved: go on with --resume.")

    def restore(self) -> None:
        """Let SIGTERM do what it did before training."""
        if self._before is not None:
            signal.signal(signal.SIGTERM, self._before)


class Clock(TrainerCallback, ExportableState):
    """Seconds of training, over all resumes: its state travels in the checkpoints."""

    def __init__(self) -> None:
        self.seconds = self.train_seconds = self._start = self._mark = 0.0
        self.resumed_at_steps: list[int] = []

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps; the Trainer restores it on a resume."""
        now = time.monotonic()
        return {
            "args": {},
            "attributes": {
                "seconds": self.seconds + (now - self._start if self._start else 0.0),
                "train_seconds": self.train_seconds + (now - self._mark if self._mark else 0.0),
                "resumed_at_steps": self.resumed_at_steps,
            },
        }

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._start = time.monotonic()
        if state.global_step:
            self.resumed_at_steps = [*self.resumed_at_steps, state.global_step]

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._mark = time.monotonic()

    def on_epoch_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.train_seconds += time.monotonic() - self._mark
        self._mark = 0.0

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.seconds += time.monotonic() - self._start
        self._start = 0.0


class ProgressLine(TrainerCallback):
    """A bar with epoch, step, loss, images/s and time left, and a line in the log for each evaluation.

    Where stderr is no terminal, the log gets a line of progress each minute instead of the bar.
    """

    def __init__(self, images_per_step: int):
        self.images_per_step, self.loss = images_per_step, float("nan")
        speed = "steps  loss {task.fields[loss]}  {task.fields[rate]} images/s"
        columns = ("epoch {task.fields[epoch]}", BarColumn(), MofNCompleteColumn(), speed, TimeRemainingColumn())
        self.bar = Progress(*columns, console=console, transient=True)

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.first, self.began, self.has_header = state.global_step, time.monotonic(), False
        self.next_line = self.began + LINE_EVERY
        if console.is_terminal and progress_shown():
            self.bar.start()
        fields: dict[str, Any] = {"epoch": "1", "loss": "...", "rate": "..."}
        self.task = self.bar.add_task("", total=state.max_steps, completed=state.global_step, **fields)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        values: dict[str, Any] = {"epoch": f"{state.epoch:.1f}/{state.num_train_epochs:g}", "loss": f"{self.loss:.3f}"}
        values["rate"] = f"{self._rate(state):.0f}"
        self.bar.update(self.task, completed=state.global_step, **values)
        if not console.is_terminal and progress_shown() and time.monotonic() > self.next_line:
            self.next_line = time.monotonic() + LINE_EVERY
            line = "  step {step} of {total}, epoch {epoch}: loss {loss}, {rate} images/s"
            logger.info(line.format(step=state.global_step, total=state.max_steps, **values))

    def on_log(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.loss = kwargs["logs"].get("loss", self.loss)

    def on_evaluate(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        metrics = kwargs["metrics"]
        if not self.has_header:
            header = "epoch   step   train loss   validation loss   accuracy   macro F1   images/s"
            logger.info(header, extra={"style": "bold"})
            self.has_header = True
        line = f"{state.epoch:5.1f} {state.global_step:6d} {self.loss:12.4f} {metrics['eval_loss']:17.4f}"
        line += f" {metrics['eval_accuracy']:10.1%} {metrics['eval_macro_f1']:10.1%} {self._rate(state):10.0f}"
        logger.info(line, extra={"style": ""})

    def stop(self) -> None:
        """Take the bar away, so that what is printed next stands on a line of its own."""
        if self.bar.live.is_started:
            self.bar.stop()

    def _rate(self, state: Any) -> float:
        """Images per second since training began, or was resumed."""
        return (state.global_step - self.first) * self.images_per_step / max(time.monotonic() - self.began, 1e-9)


class Logits(nn.Module):
    """A model as TensorBoard's graph wants it: tensor in, tensor out."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """Logits `(B, C)` of images `(B, 3, H, W)`."""
        return self.model(pixel_values=pixel_values).logits


def tensorboard_callback(trainer: Any, events: Path, checkpoint: Path | None) -> TensorBoardCallback:
    """Writes into `events`: after a `checkpoint` in place of what a killed run logged, else from a graph on."""
    writer = SummaryWriter(str(events), purge_step=step_of(checkpoint) + 1 if checkpoint else None)
    if not checkpoint:
        size, device = trainer.parts.eval_transform.spec.size, next(trainer.model.parameters()).device
        try:
            writer.add_graph(Logits(trainer.model).eval(), torch.zeros(1, 3, *size, device=device))
        except RuntimeError:
            logger.info("  TensorBoard gets no graph of this model: it cannot be traced")
    return TensorBoardCallback(writer)

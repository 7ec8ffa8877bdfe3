"""The batch that fits: looked for before the first step, and made up for by accumulation."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import cast

import torch
from accelerate.utils.memory import clear_device_cache, should_reduce_batch_size

from fer_hf.errors import UserError
from fer_hf.images.batches import FaceDataset
from fer_hf.training.sam import running_statistics_kept
from fer_hf.training.trainer import FerTrainer

logger = logging.getLogger(__name__)


def batch_that_fits(trainer: FerTrainer) -> int:
    """The largest part of a trainer's batch that fits into the memory of all processes.

    Train with another trainer afterwards: the attempts leave random numbers and gradients of their own.
    """
    wanted = trainer.args.per_device_train_batch_size
    largest = torch.tensor(largest_that_fits(wanted, partial(try_step, trainer)), device=trainer.args.device)
    size = int(trainer.accelerator.gather(largest).min())
    if size < wanted and trainer.is_world_process_zero():
        parts = f"batches of {size}, {wanted // size} of them for one"
        logger.warning("  %s images do not fit into memory: %s", wanted, parts)
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()  # what is reported is the training's
    return size


@contextmanager
def memory_explained(advice: Callable[[], str]) -> Iterator[None]:
    """Out of memory becomes a `UserError` with `advice`."""
    try:
        yield
    except RuntimeError as error:
        if should_reduce_batch_size(error):
            raise UserError(f"Out of memory {advice()}") from error
        raise


def what_to_lower(trainer: FerTrainer) -> str:
    """After "Out of memory ", for who trains or evaluates with this trainer."""
    key = "per_device_train_batch_size" if trainer.model.training else "per_device_eval_batch_size"
    size, what = getattr(trainer.args, key), f"lower train.{key}"
    if trainer.model.training and size > 1:
        what += ", or set train.auto_find_batch_size=true, which accumulates smaller batches"
    height, width = trainer.parts.eval_transform.spec.size
    images = f"{size} images of {height} x {width} pixels"
    return f"with {images} at once: {what}. A smaller model.image_size needs less, too."


def largest_that_fits(size: int, attempt: Callable[[int], None]) -> int:
    """The largest divisor of `size` with which `attempt` does not run out of memory.

    Raises what the last attempt raised, where a single image is too much or something else is wrong.
    """
    for divisor in (d for d in range(1, size + 1) if size % d == 0):
        try:
            attempt(size // divisor)
            return size // divisor
        except Exception as error:
            if divisor == size or not should_reduce_batch_size(error):
                raise
        clear_device_cache(garbage_collection=True)
    raise AssertionError(size)


def try_step(trainer: FerTrainer, size: int) -> None:
    """Use the memory that a step with `size` images uses, and leave the model as it was.

    Forward and backward on the first images, beside what the optimiser keeps (two numbers for each weight, as Adam
    does), SAM, and gradients on their way between processes.
    """
    model = trainer.model
    learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
    copies = 2 + 3 * bool(trainer.parts.settings.sam_rho) + (trainer.args.world_size > 1)
    trainer.state.epoch = trainer.args.num_train_epochs  # when images are as large as they become
    with running_statistics_kept(model):
        reserved = [torch.empty_like(parameter) for parameter in learning for _ in range(copies)]
        model.train()
        inputs = trainer.prepare_batch(cast(FaceDataset, trainer.train_dataset).__getitems__(range(size)))
        with trainer.accelerator.autocast():
            loss = trainer.compute_loss(model, inputs)
        loss.backward()
    model.zero_grad()
    del reserved

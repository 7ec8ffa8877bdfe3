"""What this process is in a launch: alone, or one of several, on the CPU or on accelerators."""

import ctypes
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import timedelta
from typing import Any, TypeVar

import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list

PROCESS_TIMEOUT = timedelta(hours=6)
"""How long processes wait for one another."""
T = TypeVar("T")


def processes() -> PartialState:
    """The state that all parts of `accelerate` share: rank, number of processes, device.

    Without an accelerator, or with `accelerate launch --cpu`, several processes share the CPU; `accelerate` has to be
    told, or each of them believes that it is alone. The others may wait long while the main process reads data.

    Example:
        >>> processes().is_main_process
        True
    """
    wants_cpu = os.environ.get("ACCELERATE_USE_CPU", "").lower() in ("1", "true", "yes")
    return PartialState(cpu=wants_cpu or not torch.accelerator.is_available(), timeout=PROCESS_TIMEOUT)


def told_by_main(make: Callable[[], T]) -> T:
    """What the main process makes, or the error that it raises, in every process of a launch."""
    result: list[Any] = [None, None]
    if processes().is_main_process:
        try:
            result[0] = make()
        except Exception as error:  # the others must hear of it, or they would wait for ever
            result[1] = error
    if processes().num_processes > 1:
        broadcast_object_list(result)
    if result[1]:
        raise result[1]
    return result[0]


@contextmanager
def tf32() -> Iterator[None]:
    """Inside, multiply float32 matrices in TF32 on GPUs that have it: several times faster, to ten bits."""
    with ExitStack() as at_the_end:
        at_the_end.callback(torch.set_float32_matmul_precision, torch.get_float32_matmul_precision())
        torch.set_float32_matmul_precision("high")
        yield


def keep_memory() -> None:
    """Let glibc keep the memory of large tensors for the next step, in this process, for good.

    Otherwise it gives each back to the system, which zeroes it before it can be had again: a sixth of the time of a
    step of EfficientNet-B0 at 112 pixels on two CPU cores.
    """
    if "MALLOC_MMAP_MAX_" in os.environ or "MALLOC_TRIM_THRESHOLD_" in os.environ:
        return  # somebody knows better
    with suppress(AttributeError, OSError, TypeError):  # another C library, or Windows
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(-4, 0)  # M_MMAP_MAX
        mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD

"""torch.compile: whether it works here, and for how long a network is compiled."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import torch
from torch import nn

from fer_hf.models.network import network
from fer_hf.training.hooks import compiled_calls


@cache
def compiler_fault(device: torch.device) -> str | None:
    """Why `torch.compile` does not work on a device, such as for want of a compiler; None when it does.

    Found by trying.
    """
    try:
        torch.compile(lambda x: x + 1)(torch.zeros(8, device=device))
    except Exception as error:  # of compilers, drivers and headers, each in a class of its own
        cause = getattr(error, "inner_exception", error)
        return (str(cause).strip() or repr(cause)).splitlines()[0]
    return None


@contextmanager
def compiled(model: nn.Module) -> Iterator[None]:
    """Inside, the network of a model is compiled in place, so that its weights keep their names."""
    inner = network(model)
    torch.compiler.reset()  # or the models of earlier trainings in this process count against its limit
    inner.compile(dynamic=False)
    with compiled_calls(inner):
        yield

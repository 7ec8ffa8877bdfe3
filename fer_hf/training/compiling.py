"""torch.compile: where it repays the time it takes, and for how long a network is compiled."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from fer_hf.console import console
from fer_hf.errors import UserError
from fer_hf.models.network import network
from fer_hf.training.launch import processes

COMPILING = 0.3
"""Seconds for each layer: EfficientNet-B0 takes 70 s on two CPU cores."""
GAIN = 1.3
DEPTHWISE, OTHERS = 5e12, 30e12
"""How many times faster compiled networks train on a GPU, and FLOP/s with and without depthwise convolutions: from
published figures of an A100, not measured by us. On CPUs little is gained: 0.93 to 1.09 times."""


def repays(model: nn.Module, sizes: Sequence[tuple[int, int]], images: float) -> tuple[float, float] | None:
    """Seconds of training on a GPU on so many images, an equal share of each size, and those that compiling saves.

    None if it does not save twice what it costs. An estimate, not a measurement, so that a run that is resumed comes to
    the same conclusion.
    """
    layers = [module for module in model.modules() if not [*module.children()]]
    depthwise = any(isinstance(layer, nn.Conv2d) and layer.groups > 1 for layer in layers)
    # On a CPU only this attention is counted; so a run that is resumed, whose model lies there, comes to the same.
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        for size in sizes:
            model.eval()(torch.zeros(1, 3, *size, device=next(model.parameters()).device))
    passes = 3 if all(parameter.requires_grad for parameter in model.parameters()) else 1  # backward takes two
    seconds = passes * counter.get_total_flops() / len(sizes) * images / (DEPTHWISE if depthwise else OTHERS)
    saved = seconds * (1 - 1 / GAIN)
    return (seconds, saved) if saved > 2 * COMPILING * len(layers) * len(sizes) else None


@cache
def fault(device: torch.device) -> str | None:
    """Why `torch.compile` does not work here, such as for want of a compiler; None when it does. Found by trying."""
    try:
        torch.compile(lambda x: x + 1)(torch.zeros(8, device=device))
    except Exception as error:  # of compilers, drivers and headers, each in a class of its own
        cause = getattr(error, "inner_exception", error)
        return (str(cause).strip() or repr(cause)).splitlines()[0]
    return None


def should_compile(
    asked: bool | str, model: nn.Module, sizes: Sequence[tuple[int, int]], images: float, device: torch.device
) -> bool:
    """What `train.torch_compile` comes to; of `auto`, the terminal says so. Raises `UserError` where it cannot be."""
    if asked != "auto":
        if asked and (reason := fault(device)):
            raise UserError(f"train.torch_compile=true does not work here: {reason}")
        return bool(asked)
    estimate = repays(model, sizes, images) if device.type == "cuda" else None
    if not estimate:
        return False
    minutes, saved = (round(part / 60) or 1 for part in estimate)
    reason = fault(device)
    said = f"not compiled: {reason}" if reason else f"compiled: of about {minutes} min of training it saves {saved}"
    if processes().is_main_process:
        console.print(f"  network {said}", style="dim")
    return not reason


@contextmanager
def compiled(model: nn.Module) -> Iterator[None]:
    """The network compiled in place, so that its weights keep their names; each shape of a batch by itself.

    What cannot be compiled runs as it is.
    """
    inner = network(model)
    torch.compiler.reset()  # or the models of earlier trainings in this process count against its limit
    inner.compile(dynamic=False)
    try:
        with torch._dynamo.config.patch(suppress_errors=True, recompile_limit=64):
            yield
    finally:
        vars(inner).pop("_compiled_call_impl")

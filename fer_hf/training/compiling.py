"""torch.compile: where it repays the time it takes, and for how long a network is compiled."""

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from transformers import TrainingArguments

from fer_hf.errors import UserError
from fer_hf.launch import processes
from fer_hf.progress import console

COMPILING = 0.3
"""Seconds for each layer: EfficientNet-B0 takes 70 s on two CPU cores."""
GAIN = 1.3
DEPTHWISE, OTHERS = 5e12, 30e12
"""How many times faster compiled networks train on a GPU, and FLOP/s with and without depthwise convolutions: from
published figures of an A100, not measured by us. On CPUs nothing is gained: 1.02 times for EfficientNet-B0 at 112
pixels, 0.93 for ResNet18 at 48."""


def repays(model: nn.Module, sizes: Sequence[tuple[int, int]], images: float) -> tuple[float, float] | None:
    """Seconds of training on a GPU on so many images, an equal share of each size, and those that compiling saves.

    None if it does not save twice what it costs. An estimate, not a measurement, so that a run that is resumed comes to
    the same conclusion.
    """
    layers = [module for module in model.modules() if not [*module.children()]]
    depthwise = any(isinstance(layer, nn.Conv2d) and layer.groups > 1 for layer in layers)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        for size in sizes:
            model.eval()(torch.zeros(1, 3, *size, device=next(model.parameters()).device))
    passes = 3 if all(parameter.requires_grad for parameter in model.parameters()) else 1  # backward takes two
    seconds = passes * counter.get_total_flops() / len(sizes) * images / (DEPTHWISE if depthwise else OTHERS)
    saved = seconds * (1 - 1 / GAIN)
    return (seconds, saved) if saved > 2 * COMPILING * len(layers) * len(sizes) else None


def compiler() -> str | None:
    """The C++ compiler that torch.compile needs, on a GPU too."""
    return shutil.which(os.environ.get("CXX", "g++").split()[0])


def should_compile(
    asked: bool | str, model: nn.Module, sizes: Sequence[tuple[int, int]], images: float, args: TrainingArguments
) -> bool:
    """What `train.torch_compile` comes to; `auto` says so where it is yes. Raises `UserError` where it cannot be done.

    Copies of one process on several GPUs (`DataParallel`) would share what was compiled for the first.
    """
    several = args.n_gpu > 1
    if asked != "auto":
        if asked and not compiler():
            raise UserError("train.torch_compile=true needs a C++ compiler: install g++, or set CXX to another.")
        if asked and several:
            raise UserError("train.torch_compile=true needs a process for each GPU: use accelerate launch.")
        return bool(asked)
    if args.device.type != "cuda" or several or not compiler():
        return False
    estimate = repays(model, sizes, images)
    if estimate and processes().is_main_process:
        seconds, saved = (round(part / 60) or 1 for part in estimate)
        console.print(
            f"  network compiled: of about {seconds} min of training it saves about {saved}", style="dim", markup=False
        )
    return bool(estimate)


@contextmanager
def compiled(model: nn.Module) -> Iterator[None]:
    """The network compiled in place, so that its weights keep their names; each shape of a batch by itself.

    What cannot be compiled runs as it is.
    """
    network: nn.Module = getattr(model, "timm_model", model)
    torch.compiler.reset()  # or the models of earlier trainings in this process count against its limit
    network.compile(dynamic=False)
    try:
        with torch._dynamo.config.patch(suppress_errors=True, recompile_limit=64):
            yield
    finally:
        vars(network).pop("_compiled_call_impl")

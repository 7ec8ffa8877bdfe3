"""Sharpness-aware minimisation: go uphill to the worst point nearby, and take the gradient from there.

SAM: arXiv 2010.01412. Adaptive SAM, whose neighbourhood is relative to each weight: arXiv 2102.11600.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


@torch.no_grad()
def ascent(parameters: Sequence[Tensor], rho: float, adaptive: bool = False) -> list[Tensor]:
    """The step, one tensor for each parameter, to where the loss is highest within `rho`, to first order.

    SAM: rho * g / |g|; adaptive: rho * w² g / | |w| g |, the norms being over all parameters together. All of them hold
    a gradient.
    """
    gradients: Any = [parameter.grad for parameter in parameters]
    scales: Any = torch._foreach_abs(list(parameters)) if adaptive else None
    if scales:
        gradients = torch._foreach_mul(gradients, scales)
    norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
    step = torch._foreach_mul(gradients, rho / (norm + 1e-12))
    return list(torch._foreach_mul(step, scales) if scales else step)


@contextmanager
def moved(parameters: Sequence[Tensor], step: Sequence[Tensor]) -> Iterator[None]:
    """The parameters one step further, and exactly back where they were at the end."""
    before = [parameter.detach().clone() for parameter in parameters]
    with torch.no_grad():
        torch._foreach_add_(list(parameters), list(step))
    try:
        yield
    finally:
        with torch.no_grad():
            torch._foreach_copy_(list(parameters), before)


@contextmanager
def running_statistics_kept(model: nn.Module) -> Iterator[None]:
    """Batch norm uses the statistics of the batch, as in training, but does not add them to its running ones."""
    with ExitStack() as at_the_end:
        for norm in (module for module in model.modules() if isinstance(module, _BatchNorm)):
            at_the_end.callback(setattr, norm, "track_running_stats", norm.track_running_stats)
            norm.track_running_stats = False
        yield

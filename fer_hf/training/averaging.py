"""An exponential moving average of the weights, evaluated and saved in their place."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch
from timm.utils import ModelEmaV3
from torch import nn
from transformers import TrainerCallback

FILE = "weight_average.pt"


class WeightAverage(TrainerCallback):
    """timm's `ModelEmaV3`, batch norm's statistics included, updated after each optimiser step.

    The decay of step t is the lower of `decay` and 1 - t ** (-2/3), so that a short run forgets its first weights.
    """

    def __init__(self, model: nn.Module, decay: float):
        self.average = ModelEmaV3(model, decay=decay, use_warmup=True)

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if not state.global_step:  # else `load` has been called
            self.average.to(args.device).set(kwargs["model"])

    def on_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.average.update(kwargs["model"], state.global_step + 1)

    @contextmanager
    def in_place_of(self, model: nn.Module) -> Iterator[None]:
        """Inside, `model` has the averaged weights; at the end exactly those from before again."""
        before = {name: value.clone() for name, value in model.state_dict().items()}
        with ExitStack() as at_the_end:
            at_the_end.callback(model.load_state_dict, before)
            model.load_state_dict(self.state_dict())
            yield

    def state_dict(self) -> dict[str, Any]:
        """The averaged weights by name: what a checkpoint keeps in `FILE`."""
        return self.average.module.state_dict()

    def load(self, checkpoint: Path, device: torch.device) -> None:
        """Go on from the average in a checkpoint."""
        self.average.to(device)
        self.average.module.load_state_dict(torch.load(checkpoint / FILE, map_location=device, weights_only=True))

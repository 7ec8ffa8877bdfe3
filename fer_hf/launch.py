"""What this process is in a launch: alone, or one of several, on the CPU or on accelerators."""

import os
from datetime import timedelta

import torch
from accelerate import PartialState


def processes() -> PartialState:
    """The state that all parts of `accelerate` share.

    Without an accelerator, or with `accelerate launch --cpu`, several processes share the CPU; `accelerate` has to be
    told, or each of them believes to be alone. The others may wait long while the main process reads or checks data.
    """
    asked = os.environ.get("ACCELERATE_USE_CPU", "").lower() in ("1", "true", "yes")
    return PartialState(cpu=asked or not torch.accelerator.is_available(), timeout=timedelta(hours=6))

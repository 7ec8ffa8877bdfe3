"""CPU latency of a model: batch 1, float32, PyTorch eager, as `pipeline` runs it."""

from pathlib import Path
from timeit import repeat
from typing import Any

import numpy as np
import torch

from fer_hf.machine import environment
from fer_hf.models.classifier import load_classifier
from fer_hf.runs.folder import Run

WARM_UP = 10
"""Forward passes before the timed ones."""


@torch.inference_mode()
def cpu_latency(source: str | Path | Run, runs: int = 30) -> dict[str, Any]:
    """Time forward passes of one image `(1, 3, H, W)`, after a warm-up.

    Args:
        source: a run, a model folder or a Hub id.
        runs: how many passes are timed.

    Returns:
        Median, least and most milliseconds. With them go the name of the CPU and torch's number of threads: figures
        with other ones cannot be compared.
    """
    classifier = load_classifier(source)
    image = torch.zeros(1, 3, *classifier.spec.size)
    seconds = repeat(lambda: classifier.model(pixel_values=image), number=1, repeat=WARM_UP + runs)[WARM_UP:]
    names = ("latency_min_ms", "latency_ms", "latency_max_ms")
    milliseconds = np.quantile(1000 * np.array(seconds), [0, 0.5, 1]).round(3).tolist()
    surroundings = {"threads": torch.get_num_threads(), "cpu": environment()["hardware"]["cpu"]}
    return dict(zip(names, milliseconds, strict=True)) | surroundings

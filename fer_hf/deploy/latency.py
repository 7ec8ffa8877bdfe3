"""CPU latency of a model: batch 1, as `pipeline` runs it, in PyTorch or ONNX Runtime."""

from pathlib import Path
from timeit import repeat
from typing import Any

import numpy as np
import torch

from fer_hf.machine import environment
from fer_hf.models.classifier import Format, load_classifier
from fer_hf.runs.folder import Run

WARM_UP = 10
"""Forward passes before the timed ones."""


@torch.inference_mode()
def cpu_latency(source: str | Path | Run, runs: int = 30, format: Format = "pytorch") -> dict[str, Any]:
    """Time forward passes of one image `(1, 3, H, W)`, after a warm-up.

    Args:
        source: a run, a model folder or a Hub id.
        runs: how many passes are timed.
        format: which file of the model.

    Returns:
        Median, least and most milliseconds. With them go the name of the CPU and torch's number of threads (None for
        ONNX Runtime, which takes all cores): figures with other ones cannot be compared.
    """
    classifier = load_classifier(source, format)
    image = torch.zeros(1, 3, *classifier.spec.size)
    seconds = repeat(lambda: classifier.model(pixel_values=image), number=1, repeat=WARM_UP + runs)[WARM_UP:]
    names = ("latency_min_ms", "latency_ms", "latency_max_ms")
    milliseconds = np.quantile(1000 * np.array(seconds), [0, 0.5, 1]).round(3).tolist()
    threads = torch.get_num_threads() if format == "pytorch" else None
    return dict(zip(names, milliseconds, strict=True)) | {"threads": threads, "cpu": environment()["hardware"]["cpu"]}

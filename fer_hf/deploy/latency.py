"""CPU latency of a model: batch 1, float32, PyTorch eager, as `pipeline` runs it."""

import time
from pathlib import Path
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
    milliseconds = []
    for _ in range(WARM_UP + runs):
        began = time.perf_counter()
        classifier.model(pixel_values=image)
        milliseconds.append(1000 * (time.perf_counter() - began))
    timed = np.array(milliseconds[WARM_UP:])
    return {
        "latency_ms": round(float(np.median(timed)), 3),
        "latency_min_ms": round(float(timed.min()), 3),
        "latency_max_ms": round(float(timed.max()), 3),
        "threads": torch.get_num_threads(),
        "cpu": environment()["hardware"]["cpu"],
    }

"""CPU latency of a model: batch 1, float32, PyTorch eager, as `pipeline` runs it."""

import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fer_hf.images.spec import ImageSpec
from fer_hf.machine import environment
from fer_hf.models.load import load_model

WARM_UP = 10


@torch.inference_mode()
def cpu_latency(model_folder: Path, runs: int = 30) -> dict[str, Any]:
    """Median, least and most milliseconds of `runs` forward passes of one image `(1, 3, H, W)`, after a warm-up.

    With them go the CPU's name and torch's number of threads: figures with other ones cannot be compared.
    """
    loaded = load_model(str(model_folder))
    model = loaded.model.cpu().float().eval()
    image = torch.zeros(1, 3, *ImageSpec.from_processor(loaded.processor).size)
    milliseconds = []
    for _ in range(WARM_UP + runs):
        began = time.perf_counter()
        model(pixel_values=image)
        milliseconds.append(1000 * (time.perf_counter() - began))
    timed = np.array(milliseconds[WARM_UP:])
    return {
        "latency_ms": round(float(np.median(timed)), 3),
        "latency_min_ms": round(float(timed.min()), 3),
        "latency_max_ms": round(float(timed.max()), 3),
        "threads": torch.get_num_threads(),
        "cpu": environment()["hardware"]["cpu"],
    }

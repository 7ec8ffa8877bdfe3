"""What training leaves in metrics.json: one history over all stages, the best evaluation, time and memory."""

import os

import numpy as np
import psutil
import torch


def history(log: list[dict[str, float]]) -> list[dict[str, float | None]]:
    """One row per evaluation from the log; the training loss is the mean over the steps since the last one."""
    rows: list[dict[str, float | None]] = []
    losses: list[float] = []
    step, rate = 0, 0.0
    for entry in log:
        if "loss" in entry:
            losses += [entry["loss"]] * int(entry["step"] - step)
            step, rate = int(entry["step"]), entry["learning_rate"]
        elif "eval_loss" in entry:
            rows.append(
                {
                    "epoch": entry["epoch"],
                    "step": entry["step"],
                    "train_loss": float(np.mean(losses)) if losses else None,
                    "validation_loss": entry["eval_loss"],
                    "accuracy": entry["eval_accuracy"],
                    "macro_f1": entry["eval_macro_f1"],
                    "learning_rate": rate,
                }
            )
            losses = []
    return rows


def peak_memory_mb(device: torch.device) -> float:
    """Peak memory in MiB: of the GPU, or resident of this process (where the system keeps no peak, the present one)."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated() / 2**20
    try:
        import resource
    except ImportError:  # Windows
        return psutil.Process().memory_info().rss / 2**20
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if os.uname().sysname == "Darwin" else peak / 2**10

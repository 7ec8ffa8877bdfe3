"""What this process runs on: versions, processor, memory, the commit of the code; and settings that are kept."""

import gc
import logging
import os
import platform
import subprocess
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil

PACKAGES = (
    *("accelerate", "datasets", "evaluate", "fer_hf", "huggingface_hub", "numpy", "onnxruntime", "optimum"),
    *("pillow", "scikit-learn", "timm", "torch", "torchvision", "transformers"),
)

LOGGERS = (None, "accelerate", "datasets", "evaluate", "fer_hf", "huggingface_hub", "optimum", "torch", "transformers")
"""Whose levels are kept; None is the root of all loggers."""


@contextmanager
def process_settings_kept() -> Iterator[None]:
    """Inside, libraries may change settings of this process; at the end they are what they were.

    These are: environment variables, warning filters, levels of loggers, the garbage collector's, and of torch the
    number of threads and the precision of matrix products. Also a decorator, of functions that users call.

    Example:
        >>> with process_settings_kept():
        ...     os.environ["FER_HF_EXAMPLE"] = "1"
        >>> "FER_HF_EXAMPLE" in os.environ
        False
    """
    import torch

    environ = dict(os.environ)
    loggers = [logging.getLogger(name) for name in LOGGERS]
    levels, disabled = [(logger.level, logger.propagate) for logger in loggers], logging.root.manager.disable
    collects, thresholds = gc.isenabled(), gc.get_threshold()
    threads, precision = torch.get_num_threads(), torch.get_float32_matmul_precision()
    try:
        with warnings.catch_warnings():
            yield
    finally:
        for name in os.environ.keys() - environ.keys():
            del os.environ[name]
        os.environ.update(environ)
        for logger, (level, propagates) in zip(loggers, levels, strict=True):
            logger.setLevel(level)
            logger.propagate = propagates
        logging.disable(disabled)
        (gc.enable if collects else gc.disable)()
        gc.set_threshold(*thresholds)
        torch.set_num_threads(threads)
        torch.set_float32_matmul_precision(precision)


def environment(seed: int | None = None) -> dict[str, Any]:
    """What a run depended on: versions, hardware, git commit of the code, seed. No names of people or folders."""
    versions = {}
    for name in PACKAGES:
        with suppress(PackageNotFoundError):
            versions[name] = version(name)
    gpu = None
    if torch := sys.modules.get("torch"):
        gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": versions,
        "hardware": {
            "cpu": _cpu_name(),
            "cores": os.cpu_count(),
            "memory_gb": round(psutil.virtual_memory().total / 2**30, 1),
            "gpu": gpu,
        },
        "git_commit": _git_commit(),
        "seed": seed,
    }


def _cpu_name() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _git_commit() -> str | None:
    """The commit of the checkout that this code runs from, if it is one."""
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=5, check=True).stdout.strip()  # noqa: S603
    except (OSError, subprocess.SubprocessError):
        return None


def has_vnni() -> bool:
    """Whether this CPU multiplies INT8 without saturating (AVX-512 VNNI, AVX-VNNI, or Arm); True where it is unknown.

    Without it, U8 x S8 products saturate at 16 bits, and weights must leave one bit of their range unused.
    """
    cpu = Path("/proc/cpuinfo")
    if not cpu.is_file():
        return True
    text = cpu.read_text(encoding="utf-8", errors="replace")
    return "vnni" in text or "flags" not in text

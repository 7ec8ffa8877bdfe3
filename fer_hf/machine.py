"""What this process runs on: versions, processor, memory, the commit of the code; and settings that are kept."""

import gc
import logging
import os
import platform
import re
import subprocess
import sys
import tomllib
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
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
def library_bars_off() -> Iterator[None]:
    """Inside, libraries draw no progress bars of their own: progress is for `console` to draw. Also a decorator.

    Example:
        >>> with library_bars_off():
        ...     pass
    """
    import datasets
    from huggingface_hub import utils as hub
    from transformers.utils import logging as transformers

    bars = (
        # The switch of transformers turns that of huggingface_hub too, which is therefore put back last.
        (not hub.are_progress_bars_disabled(), hub.enable_progress_bars, hub.disable_progress_bars),
        (transformers.is_progress_bar_enabled(), transformers.enable_progress_bar, transformers.disable_progress_bar),
        (not datasets.are_progress_bars_disabled(), datasets.enable_progress_bars, datasets.disable_progress_bars),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # huggingface_hub's, where an environment variable settles it
        for _, _, disable in bars:
            disable()
    try:
        yield
    finally:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for shown, enable, disable in reversed(bars):
                (enable if shown else disable)()


@contextmanager
def process_settings_kept() -> Iterator[None]:
    """Inside, libraries may change settings of this process; at the end they are what they were.

    These are: environment variables, warning filters, levels of loggers, the garbage collector's, and of torch the
    number of threads, the precision of matrix products and whether algorithms are deterministic. Also a
    decorator, of functions that users call.

    Example:
        >>> with process_settings_kept():
        ...     os.environ["FER_HF_EXAMPLE"] = "1"
        >>> "FER_HF_EXAMPLE" in os.environ
        False
    """
    import torch

    environ = dict(os.environ)
    with warnings.catch_warnings(), library_bars_off(), ExitStack() as at_the_end:
        at_the_end.callback(os.environ.update, environ)
        at_the_end.callback(lambda: [os.environ.pop(name) for name in os.environ.keys() - environ.keys()])
        for logger in map(logging.getLogger, LOGGERS):
            at_the_end.callback(logger.setLevel, logger.level)
            at_the_end.callback(setattr, logger, "propagate", logger.propagate)
        at_the_end.callback(logging.disable, logging.root.manager.disable)
        at_the_end.callback(gc.enable if gc.isenabled() else gc.disable)
        at_the_end.callback(gc.set_threshold, *gc.get_threshold())
        at_the_end.callback(torch.set_num_threads, torch.get_num_threads())
        at_the_end.callback(torch.use_deterministic_algorithms, torch.are_deterministic_algorithms_enabled())
        for name in ("deterministic", "benchmark"):
            at_the_end.callback(setattr, torch.backends.cudnn, name, getattr(torch.backends.cudnn, name))
        at_the_end.callback(torch.set_float32_matmul_precision, torch.get_float32_matmul_precision())
        yield


def environment(seed: int | None = None) -> dict[str, Any]:
    """What a run depended on: versions, hardware, git commit of the code, seed. No names of people or folders."""
    versions = {}
    for name in PACKAGES:
        with suppress(PackageNotFoundError):
            versions[name] = version(name)
    torch, cpu = sys.modules.get("torch"), re.search(r"^model name.*?:(.*)$", _cpuinfo(), re.MULTILINE)
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": versions,
        "hardware": {
            "cpu": cpu[1].strip() if cpu else platform.processor() or platform.machine(),
            "cores": os.cpu_count(),
            "memory_gb": round(psutil.virtual_memory().total / 2**30, 1),
            "gpu": torch.cuda.get_device_name() if torch and torch.cuda.is_available() else None,
        },
        "git_commit": _git_commit(),
        "seed": seed,
    }


def _cpuinfo() -> str:
    """What Linux says of the processors; empty elsewhere."""
    file = Path("/proc/cpuinfo")
    return file.read_text(encoding="utf-8", errors="replace") if file.is_file() else ""


def _git_commit() -> str | None:
    """The commit of the checkout of this project that the code runs from; None where it is installed.

    An installed copy may lie in a repository of its user's, whose commit says nothing of this code.
    """
    file = Path(__file__)
    command = ["git", "-C", str(file.parent), "rev-parse", "--show-prefix", "HEAD", f"HEAD:./{file.name}"]
    try:
        project = tomllib.loads((file.parents[1] / "pyproject.toml").read_text(encoding="utf-8"))["project"]["name"]
        answer = subprocess.run(command, capture_output=True, text=True, timeout=5, check=True).stdout  # noqa: S603
    except (OSError, ValueError, LookupError, subprocess.SubprocessError):
        return None
    prefix, commit, _ = answer.splitlines()
    return commit if (project, prefix) == ("fer_hf", f"{file.parent.name}/") else None


def has_vnni() -> bool:
    """Whether this CPU multiplies INT8 without saturating (AVX-512 VNNI, AVX-VNNI, or Arm); True where it is unknown.

    Without it, U8 x S8 products saturate at 16 bits, and weights must leave one bit of their range unused.
    """
    cpu = _cpuinfo()
    return "vnni" in cpu or "flags" not in cpu

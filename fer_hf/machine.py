"""What this process runs on: versions, processor and its abilities, memory, the commit of the code."""

import os
import platform
import subprocess
import sys
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil

PACKAGES = (
    *("accelerate", "datasets", "fer_hf", "huggingface_hub", "numpy", "onnxruntime", "optimum"),
    *("pillow", "scikit-learn", "timm", "torch", "torchvision", "transformers"),
)


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

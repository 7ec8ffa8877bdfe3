"""The run folder: where each stage of an experiment writes plain files that the next one reads.

recipe.yaml, splits.csv, checkpoints/, model/ (with onnx/ and figures/), predictions/, metrics.json, environment.json,
tensorboard/
"""

import csv
import io
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil

from fer_hf.errors import UserError

PACKAGES = (
    *("accelerate", "datasets", "evaluate", "fer_hf", "huggingface_hub", "numpy", "onnxruntime", "optimum"),
    *("pillow", "scikit-learn", "timm", "torch", "torchvision", "transformers"),
)


def write_text(path: Path, text: str) -> None:
    """Write a file aside, flush it to disk and rename it into place: a reader never sees half of it."""
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with open(aside, "w", encoding="utf-8") as file:
            file.write(text)
        move_into_place(aside, path)
    finally:
        aside.unlink(missing_ok=True)


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """A csv with a header, written as `write_text` does."""
    write_text(path, csv_text(columns, rows))


def csv_text(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """What `write_csv` writes."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([columns, *rows])
    return text.getvalue()


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


def move_into_place(aside: Path, path: Path) -> None:
    """Flush a file, or a folder of flushed files, and rename it: after a crash there is the old one or the new."""
    if aside.is_file():
        with open(aside, "rb+") as file:
            os.fsync(file.fileno())
    os.replace(aside, path)
    if os.name == "posix":  # the rename itself
        directory = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)


class Run:
    """Paths of one run folder, and its `metrics.json`, to which every stage adds its own section."""

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self.recipe_file = self.path / "recipe.yaml"
        self.splits_file = self.path / "splits.csv"
        self.checkpoints = self.path / "checkpoints"
        self.model = self.path / "model"
        self.onnx = self.model / "onnx"
        self.predictions = self.path / "predictions"
        self.metrics_file = self.path / "metrics.json"
        self.environment_file = self.path / "environment.json"
        self.tensorboard = self.path / "tensorboard"

    @classmethod
    def open(cls, path: str | Path) -> "Run":
        """An existing run folder. Raises `UserError` when `path` is none."""
        run = cls(path)
        if not run.recipe_file.is_file():
            raise UserError(f"{str(path)!r} is not a run folder: it has no recipe.yaml. `fer-hf train` makes one.")
        return run

    @classmethod
    def all(cls, folder: Path) -> "list[Run]":
        """The runs in `folder`, the one that was started last first."""
        return [cls(recipe.parent) for recipe in sorted(folder.glob("*/recipe.yaml"), reverse=True)]

    def lock(self) -> None:
        """Keep other processes from writing here until this one ends. Raises `UserError` when one does already."""
        try:
            import fcntl
        except ImportError:  # Windows
            return
        self._lock = open(self.recipe_file, "r+", encoding="utf-8")  # noqa: SIM115 (for as long as this object lives)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(f"{self.path} is in use: another process trains there. Wait for it, or stop it.") from error

    def finished_model(self) -> Path:
        """The folder of the best model. Raises `UserError` when training has not made one yet."""
        if not (self.model / "model.safetensors").is_file():
            raise UserError(f"{self.path} has no model yet: finish its training with `fer-hf train RECIPE --resume`.")
        return self.model

    @staticmethod
    def new_path(folder: Path) -> Path:
        """A name for a new run that sorts by time, and that no other has: `runs/<recipe>/20260131-175900`."""
        while (path := folder / datetime.now().strftime("%Y%m%d-%H%M%S")).exists():
            time.sleep(0.1)
        return path

    def metrics(self) -> dict[str, Any]:
        """What `metrics.json` holds so far; empty before the first stage has written."""
        if not self.metrics_file.is_file():
            return {}
        return json.loads(self.metrics_file.read_text(encoding="utf-8"))

    def update_metrics(self, **sections: Any) -> None:
        """Merge sections into `metrics.json`: dicts are merged one level deep, everything else is replaced."""
        metrics = self.metrics()
        for name, value in sections.items():
            if isinstance(value, dict) and isinstance(metrics.get(name), dict):
                metrics[name] |= value
            else:
                metrics[name] = value
        write_text(self.metrics_file, json.dumps(metrics, indent=1, ensure_ascii=False, allow_nan=False) + "\n")

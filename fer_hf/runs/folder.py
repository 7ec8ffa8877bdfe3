"""The run folder: where each stage of an experiment writes plain files that the next one reads.

recipe.yaml, splits.csv, checkpoints/, model/ (with onnx/ and figures/), predictions/, metrics.json, environment.json,
tensorboard/
"""

import json
import time
from datetime import datetime
from pathlib import Path
from typing import Any

from fer_hf.errors import UserError
from fer_hf.files import write_text


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

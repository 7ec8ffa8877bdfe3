"""The run folder: where each step of an experiment writes plain files that the next one reads.

recipe.yaml, splits.csv, copies.csv, checkpoints/, model/ (with onnx/ and figures/), predictions/, metrics.json,
environment.json, tensorboard/
"""

import json
import os
import re
import shlex
import time
from collections.abc import Collection
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

from filelock import FileLock
from pydantic import ValidationError

from fer_hf.errors import UserError
from fer_hf.files import lock, write_text
from fer_hf.runs.records import PLAIN, Evaluation, Metrics, plain, read_record

ONNX_FILES = {"onnx": "model.onnx", "int8": "model_int8.onnx"}
"""Names of the exported files below `onnx/`, by format; transformers.js uses the same."""
RECORDS = (
    "evaluations",
    "export",
    "calibration",
    "slices",
    "robustness",
    "explanations",
    "domains",
    "transfers",
    "ensembles",
)
"""Sections of metrics.json that hold many records by a key."""
PLACEHOLDER = "PATH/TO/MODEL"
"""What a card's snippets load as long as the model has no name on the Hub."""


class Run:
    """Paths of one run folder, and its `metrics.json`, to which every step adds its own section.

    Args:
        path: the folder; it need not exist yet.

    Example:
        >>> Run("runs/quickstart/20260131-175900").model.as_posix()
        'runs/quickstart/20260131-175900/model'
    """

    def __init__(self, path: str | os.PathLike[str]):
        self.path = Path(path)
        self.recipe_file = self.path / "recipe.yaml"
        self.splits_file = self.path / "splits.csv"
        self.copies_file = self.path / "copies.csv"
        self.checkpoints = self.path / "checkpoints"
        self.model = self.path / "model"
        self.onnx = self.model / "onnx"
        self.card = self.model / "README.md"
        self.figures = self.model / "figures"
        self.predictions = self.path / "predictions"
        self.metrics_file = self.path / "metrics.json"
        self.environment_file = self.path / "environment.json"
        self.tensorboard = self.path / "tensorboard"
        self._lock: FileLock | None = None

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r})"

    def __fspath__(self) -> str:
        return str(self.path)

    @classmethod
    def open(cls, path: "str | Path | Run") -> "Run":
        """An existing run folder. Raises `UserError` when `path` is not one."""
        run = path if isinstance(path, Run) else cls(path)
        if not run.exists():
            given = os.fspath(path)  # and not as a path, which makes one slash of an address's two
            raise UserError(f"{given!r} is not a run folder: it has no recipe.yaml. `fer-hf train` makes one.")
        return run

    @classmethod
    def all(cls, folder: Path) -> "list[Run]":
        """The runs in `folder`, the latest first."""
        return [cls(recipe.parent) for recipe in sorted(folder.glob("*/recipe.yaml"), reverse=True)]

    @staticmethod
    def new_path(folder: Path) -> Path:
        """A path in `folder` that does not exist, named after the time: `runs/<recipe>/20260131-175900`."""
        while (path := folder / datetime.now().strftime("%Y%m%d-%H%M%S")).exists():
            time.sleep(0.1)
        return path

    def exists(self) -> bool:
        """Whether this is the folder of a run, finished or not, rather than that of a model."""
        return self.recipe_file.is_file()

    def lock(self) -> None:
        """Keep others from training here until `unlock`, or until this process ends.

        Raises:
            UserError: somebody trains here already.
        """
        self._lock = lock(self.path / ".lock")
        if self._lock is None:
            raise UserError(f"{self.path} is in use: another process trains there. Wait for it, or stop it.")

    def unlock(self) -> None:
        """Let others train here again."""
        if self._lock:
            self._lock.release()
            self._lock = None

    def finished_model(self) -> Path:
        """The folder of the best model. Raises `UserError` when training has not written one yet."""
        if not (self.model / "model.safetensors").is_file():
            remedy = f"finish its training with `fer-hf train {self.recipe_file} --output {self.path} --resume`"
            if self.metrics.training:
                remedy = "model/model.safetensors has gone. Put a copy back, or train again"
            raise UserError(f"{self.path} has no model{'' if self.metrics.training else ' yet'}: {remedy}.")
        return self.model

    def model_file(self, format: str) -> Path:
        """The weights in a format: `model/model.safetensors`, or a file below `model/onnx/`; it need not exist."""
        return self.model / "model.safetensors" if format == "pytorch" else self.onnx / ONNX_FILES[format]

    # --- metrics.json

    @property
    def metrics(self) -> Metrics:
        """What `metrics.json` holds so far; all sections are empty before the first step has written."""
        content = self._content()
        try:
            return read_record(Metrics, content)
        except ValidationError as error:
            first = error.errors()[0]
            raise self._damaged(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from error

    def readable_metrics(self) -> tuple[Metrics, dict[str, str]]:
        """`metrics` without the records that are damaged, and what is wrong with these, by `section` or `section.key`.

        A number that is none (NaN, Infinity) counts as missing. Raises `UserError` when the file is no JSON.
        """
        content, problems = self._content(parse_constant=lambda _: None), dict[str, str]()
        while True:
            try:
                return read_record(Metrics, content), problems
            except ValidationError as error:
                first = error.errors()[0]
                section, *inside = map(str, first["loc"])
                record = content[section]
                of_many = section in RECORDS and inside and isinstance(record, dict)
                name = f"{section}.{inside[0]}" if of_many else section
                where = ".".join(inside[1:] if of_many else inside)
                problems[name] = f"{where}: {first['msg']}" if where else first["msg"]
                if of_many:
                    del record[inside[0]]
                else:
                    del content[section]

    def _content(self, **reading: Any) -> dict[str, Any]:
        try:
            text = self.metrics_file.read_text(encoding="utf-8") if self.metrics_file.is_file() else "{}"
            content = json.loads(text, **reading)
        except ValueError as error:
            raise self._damaged(str(error)) from error
        if not isinstance(content, dict):
            raise self._damaged(f"it holds a {type(content).__name__}")
        return content

    def _damaged(self, reason: str) -> UserError:
        return UserError(f"{self.metrics_file} is damaged: {reason}. Put a copy back, or train again.")

    def update(self, **sections: Any) -> None:
        """Write sections of metrics.json, whole or not at all.

        Args:
            sections: fields of `Metrics`, each a record, a mapping of records, or a plain value. A record or mapping is
                merged with what the file has, one level deep; any other value replaces it.
        """
        content = self._content()
        for name, value in sections.items():
            new = plain(value)
            merges = isinstance(new, dict) and isinstance(content.get(name), dict)
            content[name] = content[name] | new if merges else new
        self._write(content)

    def _write(self, content: dict[str, Any]) -> None:
        write_text(self.metrics_file, json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n")

    # --- evaluations

    def forget(self, keys: Collection[str]) -> None:
        """Remove evaluations from metrics.json; their predictions files stay."""
        content = self._content()
        content["evaluations"] = {k: v for k, v in content.get("evaluations", {}).items() if k not in keys}
        self._write(content)

    def evaluation(self, split: str = "test", format: str = "pytorch", tta: str = "none") -> Evaluation:
        """The figures on a split of the run's own data, as in `run.evaluation("test").accuracy`.

        Args:
            split: "train", "validation" or "test".
            format: "pytorch", "onnx" or "int8".
            tta: "none", "flip" or "ten_crop".

        Raises:
            UserError: the split was not evaluated in this way.
        """
        for evaluation in self.metrics.own_evaluations(split):
            if (evaluation.format, evaluation.tta) == (format, tta):
                return evaluation
        splits = self.metrics.data.splits if self.metrics.data else {}
        if splits and split not in splits:
            raise UserError(f"{self.path} has no {split} split: its data have {', '.join(splits)}.")
        command = self.evaluate_command(Evaluation("", split, format, tta, own=True))
        raise UserError(f"{self.path} has no figures on its {split} split: {command}")

    def evaluate_command(self, evaluation: Evaluation) -> str:
        """The command that makes the figures and predictions of an evaluation."""
        own = self.owns(evaluation)
        options = {
            "--data": None if own else "SOURCE",
            "--split": evaluation.split,
            "--format": None if evaluation.format == "pytorch" else evaluation.format,
            "--tta": None if evaluation.tta == PLAIN else evaluation.tta,
        }
        given = " ".join(f"{name} {value}" for name, value in options.items() if value)
        note = "" if own else f" (SOURCE: that of {evaluation.dataset})"
        return f"fer-hf evaluate {shlex.quote(str(self.path))} {given}{note}"

    def owns(self, evaluation: Evaluation) -> bool:
        """Whether an evaluation is on the run's own data."""
        return self.metrics.owns(evaluation)

    def evaluation_key(self, name: str, evaluation: Evaluation) -> str:
        """The key of an evaluation in metrics.json, which is also the name of its predictions file.

        It is `<name>-<split>` and what marks the file, such as `fer2013-test-int8`. Where other data could take the key
        of the run's own, or has another name or content than the data whose key it is, the beginning of its hash is
        added: only figures on the same images are ever replaced.

        Args:
            name: the dataset in a form that is fit for a file name (see `file_stem`).
            evaluation: with `content` and `own`.

        Returns:
            The key; the same one for the same data, split, format and augmentation.
        """
        key = f"{name}-{evaluation.split}{evaluation.files}"
        metrics = self.metrics
        there, data = metrics.evaluations.get(key), metrics.data
        same = there is not None and (there.dataset, there.content) == (evaluation.dataset, evaluation.content)
        named_alike = data is not None and name in (data.dataset, file_stem(data.source, data.dataset))
        if evaluation.own:
            free = there is None or named_alike or metrics.owns(there)
        else:
            free = not named_alike and (there is None or (same and not metrics.owns(there)))
        return key if free else f"{key}-{(evaluation.content or 'other')[:8]}"

    def record(self, name: str, evaluation: Evaluation) -> str:
        """Write an evaluation to metrics.json; returns its key, see `evaluation_key`."""
        key = self.evaluation_key(name, evaluation)
        self.update(evaluations={key: replace(evaluation, predictions=f"predictions/{key}.parquet")})
        return key


def file_stem(source: str | None, dataset: str | None) -> str:
    """The name of a dataset as files and keys have it; `source` is its kind, such as "fer2013" or "folder".

    Example:
        >>> file_stem("fer2013", "FER2013"), file_stem("hub", "someone/faces@v2")
        ('fer2013', 'someone-faces-v2')
    """
    return source if source in ("fer2013", "toy") else re.sub(r"[^\w.-]+", "-", dataset or "")

"""Predictions are made once and kept; all figures are computed from the Parquet files that are read and written here.

Columns: `id`, `label` (a ClassLabel, which keeps the names), `logits`, and the attributes of the images, if any.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from datasets import ClassLabel, Dataset, Features, List, Value
from scipy.special import softmax

from fer_hf.errors import UserError
from fer_hf.files import written_whole
from fer_hf.metrics import Array, ExpressionMetric

PERSONAL = ("gender", "age", "race")
"""Attributes by which a model could treat people differently."""


@dataclass(frozen=True)
class Predictions:
    """The output of a model for N images and C classes.

    `ids` are unique in their split. `labels` `(N,)` are the true class ids, `logits` `(N, C)` are float64; both are in
    the order of `label_names`. `attributes` maps each other column, such as gender, to N values, None where unknown.
    """

    ids: list[str]
    labels: Array
    logits: Array
    label_names: tuple[str, ...]
    attributes: dict[str, list[Any]]

    @property
    def probabilities(self) -> Array:
        """Softmax of the logits, `(N, C)`."""
        return softmax(self.logits, axis=1)

    @property
    def predicted(self) -> Array:
        """The most probable class id of each image, `(N,)`."""
        return self.logits.argmax(axis=1)

    def mistakes(self, most: int) -> "list[Mistake]":
        """The most confident mistakes, the most confident first, at most so many."""
        names, predicted = self.label_names, self.predicted
        confidence = self.probabilities.max(axis=1)
        wrong = np.flatnonzero(predicted != self.labels)
        rows = wrong[np.argsort(-confidence[wrong], kind="stable")][:most].tolist()
        return [
            Mistake(row, self.ids[row], names[self.labels[row]], names[predicted[row]], float(confidence[row]))
            for row in rows
        ]


@dataclass(frozen=True)
class Mistake:
    """An image of another class than the predicted one: its `row` in the file, and the confidence of the prediction."""

    row: int
    id: str
    true: str
    predicted: str
    confidence: float


def write_predictions(path: Path, dataset: Dataset, logits: Array) -> None:
    """Write a predictions file, whole or not at all.

    Args:
        path: the Parquet file; its folder is made.
        dataset: with the columns `id`, `label` (a ClassLabel) and attributes; a column `image` is left out.
        logits: `(N, C)`, in the order of the dataset and of its label names.
    """
    label: ClassLabel = dataset.features["label"]
    others = {name: feature for name, feature in dataset.features.items() if name != "image"}
    columns = dataset.select_columns(list(others)).to_dict() | {"logits": logits.tolist()}
    features = Features(others | {"label": label, "logits": List(Value("float32"), length=len(label.names))})
    path.parent.mkdir(parents=True, exist_ok=True)
    with written_whole(path) as aside, open(aside, "wb") as file:  # fsspec would take a path for a pattern or a chain
        Dataset.from_dict(columns, features=features).to_parquet(file)


def divide_logits(source: Path, target: Path, divisor: float) -> None:
    """Write a predictions file again, with all logits divided by a number."""
    logits = read_predictions(source).logits / divisor
    write_predictions(target, Dataset(pq.read_table(source)), logits.astype(np.float32))


def read_predictions(path: Path) -> Predictions:
    """Read a predictions file, in its order.

    Args:
        path: the Parquet file.

    Raises:
        UserError: there is no such file, it holds no predictions, or ids, labels or logits that cannot be right.
    """
    if not path.is_file():
        raise UserError(f"{path} is missing: `fer-hf evaluate` makes it again.")
    try:
        data = Dataset(pq.read_table(path))
    except pa.ArrowInvalid as error:
        raise UserError(f"{path} is damaged: {error}. Delete it: `fer-hf evaluate` makes it again.") from error
    if missing := {"id", "label", "logits"} - set(data.column_names):
        raise UserError(f"{path} holds no predictions: it lacks {', '.join(sorted(missing))}.")
    arrays = data.select_columns(["label", "logits"]).with_format("numpy")
    others = [name for name in data.column_names if name not in ("id", "label", "logits")]
    predictions = Predictions(
        ids=data["id"][:],
        labels=arrays["label"][:],
        logits=np.asarray(arrays["logits"][:], dtype=np.float64),
        label_names=tuple(data.features["label"].names),
        attributes={name: data[name][:] for name in others},
    )
    if fault := _fault(predictions):
        raise UserError(f"{path} {fault}")
    return predictions


def _fault(predictions: Predictions) -> str:
    """What cannot be right in a predictions file, as the rest of a sentence; "" where nothing is wrong."""
    ids, labels, names = predictions.ids, predictions.labels, predictions.label_names
    if not ids:
        return "holds no image: evaluate on a split that has some."
    if predictions.logits.shape != (len(ids), len(names)):
        return f"has logits of shape {predictions.logits.shape} for {len(ids)} images and {len(names)} classes."
    if others := [ids[row] for row in np.flatnonzero(~((labels >= 0) & (labels < len(names))))]:
        return f"has {len(others):,} of {len(ids):,} images without a label of its classes, such as {others[0]!r}."
    if len({*ids}) < len(ids):
        return f"has an id twice, {next(name for name, count in Counter(ids).items() if count > 1)!r}: ids are unique."
    if lost := [ids[row] for row in np.flatnonzero(~np.isfinite(predictions.logits).all(axis=1))]:
        return (
            f"has logits that are NaN or infinite, for {len(lost):,} of {len(ids):,} images, such as {lost[0]!r}: the "
            "model's weights or its numbers overflowed. Choose an earlier checkpoint, or train with a lower "
            "train.learning_rate or in train.precision=fp32."
        )
    return ""


def figures_of(path: Path, top_k: Sequence[int] = ()) -> dict[str, Any]:
    """All figures of a predictions file (see `metrics.classification_metrics`), and what it knows of the people."""
    predictions = read_predictions(path)
    figures = ExpressionMetric(predictions.label_names, top_k).compute(
        predictions=predictions.logits, references=predictions.labels
    )
    known = {name: sum(v is not None for v in predictions.attributes.get(name, [])) for name in PERSONAL}
    return figures | {"attributes": {name: count for name, count in known.items() if count}}

"""Predictions are made once and kept; all figures are computed from the Parquet files that are read and written here.

Columns: `id`, `label` (a ClassLabel, which keeps the names), `logits`, and the attributes of the images, if any.
"""

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
        UserError: there is no such file, or it holds no predictions.
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
    return Predictions(
        ids=data["id"][:],
        labels=arrays["label"][:],
        logits=np.asarray(arrays["logits"][:], dtype=np.float64),
        label_names=tuple(data.features["label"].names),
        attributes={name: data[name][:] for name in others},
    )


def figures_of(path: Path, top_k: Sequence[int] = ()) -> dict[str, Any]:
    """All figures of a predictions file (see `metrics.classification_metrics`), and what it knows of the people."""
    predictions = read_predictions(path)
    figures = ExpressionMetric(predictions.label_names, top_k).compute(
        predictions=predictions.logits, references=predictions.labels
    )
    known = {name: sum(v is not None for v in predictions.attributes.get(name, [])) for name in PERSONAL}
    return figures | {"attributes": {name: count for name, count in known.items() if count}}

"""Predictions are made once and kept: every figure is computed from the Parquet file that is written here."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from datasets import ClassLabel, Dataset, Features, Sequence, Value

from fer_hf.metrics import ExpressionMetric


def write_predictions(path: Path, dataset: Dataset, logits: np.ndarray) -> None:
    """Parquet with `id`, `label` (a ClassLabel, so that names travel along), `logits`, and any attribute columns."""
    label: ClassLabel = dataset.features["label"]
    columns = dataset.remove_columns("image").to_dict() | {"logits": logits.tolist()}
    others = {name: feature for name, feature in dataset.features.items() if name != "image"}
    features = Features(others | {"label": label, "logits": Sequence(Value("float32"), length=len(label.names))})
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}")
    Dataset.from_dict(columns, features=features).to_parquet(aside)
    aside.replace(path)


def metrics_from(path: Path) -> dict[str, Any]:
    """All figures of a predictions file (see `classification_metrics`)."""
    predictions = Dataset(pq.read_table(path)).with_format("numpy")
    metric = ExpressionMetric(predictions.features["label"].names)
    return metric.compute(predictions=predictions["logits"][:], references=predictions["label"][:])

"""Every figure of a classifier from its logits, as pure functions, and as an `evaluate.Metric` that works offline."""

from collections.abc import Sequence
from typing import Any

import datasets
import evaluate
import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

Array = NDArray[Any]


def reliability(probabilities: Array, references: Array, bins: int = 15) -> list[dict[str, float]]:
    """Reliability diagram: mean confidence, accuracy and count of each non-empty bin of equal width.

    Args: probabilities `(N, C)` in [0, 1], references `(N,)`. Source: Guo et al. 2017, arXiv 1706.04599.
    """
    confidence, hit = probabilities.max(axis=1), probabilities.argmax(axis=1) == references
    bin_of = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    rows = []
    for index in np.unique(bin_of):
        inside = bin_of == index
        rows.append(
            {
                "confidence": float(confidence[inside].mean()),
                "accuracy": float(hit[inside].mean()),
                "count": int(inside.sum()),
            }
        )
    return rows


def expected_calibration_error(rows: list[dict[str, float]]) -> float:
    """Mean gap between confidence and accuracy, weighted by the bins' counts, in [0, 1] (arXiv 1706.04599)."""
    total = sum(row["count"] for row in rows)
    return sum(row["count"] * abs(row["confidence"] - row["accuracy"]) for row in rows) / total


def macro_f1_of(confusion: Array) -> Array:
    """Macro F1 of confusion matrices `(..., C, C)`, rows being references; over the classes seen on either side.

    F1 = 2 TP / (support + predicted), which is 0 / 0 for a class that is neither; it is left out of the mean.
    """
    hits = np.diagonal(confusion, axis1=-2, axis2=-1)
    both = confusion.sum(axis=-1) + confusion.sum(axis=-2)
    f1 = np.divide(2 * hits, both, out=np.zeros(both.shape), where=both > 0)
    return f1.sum(axis=-1) / np.maximum((both > 0).sum(axis=-1), 1)


def bootstrap_intervals(confusion: Array, resamples: int = 2000, seed: int = 0) -> dict[str, list[float]]:
    """95 % percentile intervals of accuracy and macro F1.

    Drawing N images with replacement is drawing the cells of the confusion matrix from a multinomial, so a resample
    costs `C * C` numbers, whatever N is.
    """
    n, classes = int(confusion.sum()), len(confusion)
    draws = np.random.default_rng(seed).multinomial(n, confusion.ravel() / n, size=resamples)
    draws = draws.reshape(resamples, classes, classes)
    accuracy = np.trace(draws, axis1=1, axis2=2) / n
    return {
        "accuracy_ci": [float(q) for q in np.quantile(accuracy, [0.025, 0.975])],
        "macro_f1_ci": [float(q) for q in np.quantile(macro_f1_of(draws), [0.025, 0.975])],
    }


def classification_metrics(logits: Array, references: Array, label_names: Sequence[str]) -> dict[str, Any]:
    """All figures of one evaluation.

    Args: logits `(N, C)` before the softmax, references `(N,)` integer ids, label_names `C` names in the logits' order.
    Returns plain numbers: shares in [0, 1], log_loss in nats; per class, confusion counts (rows are references), and
    the bins of the reliability diagram. Ties in the logits go to the lower id. Classes that are neither in the
    references nor predicted do not count in macro averages. Raises ValueError on empty or ill-shaped input.
    """
    logits, references = np.asarray(logits, dtype=np.float64), np.asarray(references)
    if logits.ndim != 2 or not len(logits) or logits.shape != (len(references), len(label_names)):
        raise ValueError(f"logits {logits.shape} do not fit {len(references)} references of {len(label_names)} labels")
    ids = np.arange(len(label_names))
    predictions = logits.argmax(axis=1)
    log_probabilities = log_softmax(logits, axis=1)
    confusion = confusion_matrix(references, predictions, labels=ids)
    seen = ids[(confusion.sum(axis=0) + confusion.sum(axis=1)) > 0]
    precision, recall, f1, support = precision_recall_fscore_support(
        references, predictions, labels=ids, zero_division=0
    )
    macro = precision_recall_fscore_support(references, predictions, labels=seen, average="macro", zero_division=0)
    weighted = precision_recall_fscore_support(references, predictions, labels=ids, average="weighted", zero_division=0)
    second_best = np.sort(logits, axis=1)[:, -2:].min(axis=1) if len(ids) > 1 else logits[:, 0]
    own = logits[np.arange(len(logits)), references]
    rows = reliability(np.exp(log_probabilities), references)
    return {
        "images": len(references),
        "accuracy": float((predictions == references).mean()),
        "balanced_accuracy": float(recall[support > 0].mean()),
        "macro_precision": float(macro[0]),
        "macro_recall": float(macro[1]),
        "macro_f1": float(macro[2]),
        "weighted_precision": float(weighted[0]),
        "weighted_recall": float(weighted[1]),
        "weighted_f1": float(weighted[2]),
        "top_2_accuracy": float((own >= second_best).mean()),
        "expected_calibration_error": expected_calibration_error(rows),
        "log_loss": float(-log_probabilities[np.arange(len(logits)), references].mean()),
        **bootstrap_intervals(confusion),
        "per_class": {
            name: {
                "precision": float(precision[i]),
                "recall": float(recall[i]),
                "f1": float(f1[i]),
                "support": int(support[i]),
            }
            for i, name in enumerate(label_names)
        },
        "confusion_matrix": confusion.tolist(),
        "reliability": rows,
    }


class ExpressionMetric(evaluate.Metric):
    """`classification_metrics` as an `evaluate.Metric`: nothing is downloaded, nothing is written to disk.

    >>> metric = ExpressionMetric(label_names=("happy", "sad"))
    >>> metric.compute(predictions=[[2.0, 0.0], [0.0, 1.0]], references=[0, 1])["accuracy"]
    1.0
    """

    def __init__(self, label_names: Sequence[str], **kwargs: Any):
        self.label_names = tuple(label_names)
        super().__init__(keep_in_memory=True, **kwargs)

    def _info(self) -> evaluate.MetricInfo:
        features = {
            "predictions": datasets.Sequence(datasets.Value("float32")),
            "references": datasets.Value("int64"),
        }
        return evaluate.MetricInfo(
            description="Accuracy, F1, calibration and confusion of a facial-expression classifier.",
            citation="",
            inputs_description="predictions: logits (N, C); references: label ids (N,)",
            features=datasets.Features(features),
        )

    def _compute(self, predictions: Any, references: Any) -> dict[str, Any]:
        return classification_metrics(np.asarray(predictions), np.asarray(references), self.label_names)

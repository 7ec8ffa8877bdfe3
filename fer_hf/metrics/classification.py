"""Every figure of a classifier, as pure functions of its logits, and how evenly classes are represented."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import datasets
import evaluate
import numpy as np
from scipy.special import log_softmax
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

from fer_hf.metrics.calibration import Array, expected_calibration_error, reliability

SCORES = ("precision", "recall", "f1")
OVER, UNDER = 1.5, 0.5
"""Times an even share, beyond which a class is over- or under-represented."""


@dataclass(frozen=True)
class ClassBalance:
    """How evenly images are spread over classes.

    `ratio` is the count of the `commonest` class over that of the `rarest` one that has images; `times` maps each class
    to its count over an even share, the mean count. `over` lists the classes above 1.5 times an even share, and `under`
    those below half of it.
    """

    ratio: float
    commonest: str
    rarest: str
    times: Mapping[str, float]

    @property
    def over(self) -> list[str]:
        return [name for name, times in self.times.items() if times > OVER]

    @property
    def under(self) -> list[str]:
        return [name for name, times in self.times.items() if times < UNDER]


def class_balance(counts: Mapping[str, int]) -> ClassBalance:
    """The class balance of a split.

    Args:
        counts: the number of images of each class; at least one class has some.

    Returns:
        The ratio of the largest class to the smallest, and how each compares with an even share.

    Raises:
        ValueError: no class has images.

    Example:
        >>> balance = class_balance({"angry": 100, "happy": 260, "sad": 40})
        >>> balance.ratio, balance.over, balance.under
        (6.5, ['happy'], ['sad'])
    """
    present = {name: count for name, count in counts.items() if count}
    if not present:
        raise ValueError("no class has images")
    most, least = max(present, key=present.__getitem__), min(present, key=present.__getitem__)
    total = sum(present.values())
    times = {name: count * len(counts) / total for name, count in counts.items()}
    return ClassBalance(present[most] / present[least], most, least, times)


def f1_of(confusion: Array) -> Array:
    """F1 of each class of confusion matrices.

    Args:
        confusion: counts `(..., C, C)`; a row is a true class, a column a predicted one.

    Returns:
        2 TP / (true + predicted) `(..., C)`; 0 for a class that is neither among the true nor the predicted ones.

    Example:
        >>> f1_of(np.array([[1, 1, 0], [0, 2, 0], [0, 0, 0]])).round(4).tolist()
        [0.6667, 0.8, 0.0]
    """
    both = confusion.sum(axis=-1) + confusion.sum(axis=-2)
    hits = np.diagonal(confusion, axis1=-2, axis2=-1)
    return np.divide(2 * hits, both, out=np.zeros(both.shape), where=both > 0)


def macro_f1_of(confusion: Array) -> Array:
    """Macro F1 of confusion matrices.

    Args:
        confusion: counts `(..., C, C)`; a row is a true class, a column a predicted one.

    Returns:
        The mean F1 `(...)` of the classes that are among the true or the predicted ones.

    Example:
        >>> float(macro_f1_of(np.array([[1, 1, 0], [0, 2, 0], [0, 0, 0]])).round(4))
        0.7333
    """
    both = confusion.sum(axis=-1) + confusion.sum(axis=-2)
    return f1_of(confusion).sum(axis=-1) / np.maximum((both > 0).sum(axis=-1), 1)


def bootstrap_intervals(confusion: Array, resamples: int = 2000, seed: int = 0) -> dict[str, list[float]]:
    """95 % percentile intervals of accuracy and macro F1, by bootstrap.

    To draw N images with replacement is to draw the cells of the confusion matrix from a multinomial distribution, so
    a resample costs `C * C` numbers, whatever N is.

    Args:
        confusion: counts `(C, C)`, a row for each true class.
        resamples: the number of bootstrap resamples.
        seed: of the random draws; equal seeds give equal intervals.

    Returns:
        `accuracy_ci` and `macro_f1_ci`, each `[low, high]` in [0, 1].

    Example:
        >>> bootstrap_intervals(np.array([[5, 0], [0, 5]]))
        {'accuracy_ci': [1.0, 1.0], 'macro_f1_ci': [1.0, 1.0]}
    """
    n, classes = int(confusion.sum()), len(confusion)
    draws = np.random.default_rng(seed).multinomial(n, confusion.ravel() / n, size=resamples)
    draws = draws.reshape(resamples, classes, classes)
    samples = {"accuracy_ci": np.trace(draws, axis1=1, axis2=2) / n, "macro_f1_ci": macro_f1_of(draws)}
    return {name: [float(q) for q in np.quantile(values, [0.025, 0.975])] for name, values in samples.items()}


def top_k_accuracy(logits: Array, references: Array, k: int) -> float:
    """The share of images whose true class is among the `k` most probable; ties go to the lower id.

    Args:
        logits: `(N, C)`, or probabilities.
        references: `(N,)` true class ids.
        k: from 1, which gives the accuracy, to C, which gives 1.

    Raises:
        ValueError: there are fewer than `k` classes.

    Example:
        >>> [top_k_accuracy(np.array([[2.0, 1.0, 0.0], [0.0, 1.0, 2.0]]), np.array([1, 2]), k) for k in (1, 2)]
        [0.5, 1.0]
    """
    if not 1 <= k <= logits.shape[1]:
        raise ValueError(f"k={k} of top-k is not in 1 ... {logits.shape[1]}, the number of classes")
    own = logits[np.arange(len(logits)), references][:, None]
    before = np.arange(logits.shape[1]) < np.asarray(references)[:, None]
    rank = ((logits > own) | ((logits == own) & before)).sum(axis=1)
    return float((rank < k).mean())


def classification_metrics(
    logits: Array, references: Array, label_names: Sequence[str], top_k: Sequence[int] = ()
) -> dict[str, Any]:
    """All figures of one evaluation, under the names that `runs.records.Evaluation` has for them.

    Ties in the logits go to the lower id. Classes that are neither among the references nor predicted do not count in
    macro averages.

    Args:
        logits: `(N, C)`, before the softmax.
        references: `(N,)` true class ids.
        label_names: the C names, in the order of the logits.
        top_k: the numbers of classes for `top_k_accuracy`, which is there where some are given.

    Returns:
        Plain numbers: shares in [0, 1], `log_loss` in nats, and `[low, high]` of the 95 % bootstrap intervals;
        `per_class` scores by name; `confusion_matrix` counts, a row for each true class; the bins of `reliability`.

    Raises:
        ValueError: the input is empty, its shapes do not fit one another, or there are fewer classes than a `top_k`.

    Example:
        >>> figures = classification_metrics(np.array([[2.0, 0.0], [0.0, 1.0]]), np.array([0, 0]), ("happy", "sad"))
        >>> figures["accuracy"], figures["confusion_matrix"]
        (0.5, [[1, 1], [0, 0]])
    """
    logits, references = np.asarray(logits, dtype=np.float64), np.asarray(references)
    if logits.ndim != 2 or not len(logits) or logits.shape != (len(references), len(label_names)):
        raise ValueError(f"logits {logits.shape} do not fit {len(references)} references of {len(label_names)} labels")
    ids, rows = np.arange(len(label_names)), np.arange(len(logits))
    predictions, log_probabilities = logits.argmax(axis=1), log_softmax(logits, axis=1)
    confusion = confusion_matrix(references, predictions, labels=ids)
    by_class = precision_recall_fscore_support(references, predictions, labels=ids, zero_division=0)
    recall, support = by_class[1], by_class[3]
    bins = reliability(np.exp(log_probabilities), references)
    return {
        "images": len(references),
        "accuracy": float((predictions == references).mean()),
        "balanced_accuracy": float(recall[support > 0].mean()),
        **_averages("macro", references, predictions, ids[(confusion.sum(axis=0) + confusion.sum(axis=1)) > 0]),
        **_averages("weighted", references, predictions, ids),
        "top_2_accuracy": top_k_accuracy(logits, references, min(2, len(label_names))),
        "expected_calibration_error": expected_calibration_error(bins),
        "log_loss": float(-log_probabilities[rows, references].mean()),
        **bootstrap_intervals(confusion),
        "per_class": {
            name: dict(zip((*SCORES, "support"), (*map(float, scores), int(images)), strict=True))
            for name, *scores, images in zip(label_names, *by_class, strict=True)
        },
        "confusion_matrix": confusion.tolist(),
        "reliability": bins,
        **({"top_k_accuracy": {k: top_k_accuracy(logits, references, k) for k in sorted({*top_k})}} if top_k else {}),
    }


def _averages(average: str, references: Array, predictions: Array, labels: Array) -> dict[str, float]:
    """Precision, recall and F1 averaged over `labels`: `{"macro_precision": ..., ...}`."""
    values = precision_recall_fscore_support(references, predictions, labels=labels, average=average, zero_division=0)
    return {f"{average}_{name}": float(value) for name, value in zip(SCORES, values, strict=False)}


class ExpressionMetric(evaluate.Metric):
    """`classification_metrics` as an `evaluate.Metric`: nothing is downloaded, nothing is written to disk.

    >>> metric = ExpressionMetric(label_names=("happy", "sad"))
    >>> metric.compute(predictions=[[2.0, 0.0], [0.0, 1.0]], references=[0, 1])["accuracy"]
    1.0
    """

    def __init__(self, label_names: Sequence[str], top_k: Sequence[int] = (), **kwargs: Any):
        self.label_names, self.top_k = tuple(label_names), top_k
        super().__init__(keep_in_memory=True, **kwargs)

    def _info(self) -> evaluate.MetricInfo:
        about = "Accuracy, F1, calibration and confusion of a facial-expression classifier."
        inputs = "predictions: logits (N, C); references: label ids (N,)"
        logits, label = datasets.Sequence(datasets.Value("float32")), datasets.Value("int64")
        return evaluate.MetricInfo(about, "", datasets.Features(predictions=logits, references=label), inputs)

    def _compute(self, predictions: Any, references: Any) -> dict[str, Any]:
        return classification_metrics(np.asarray(predictions), np.asarray(references), self.label_names, self.top_k)

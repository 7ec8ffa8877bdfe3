"""Every figure of a classifier, as pure functions of its logits, and how evenly classes are represented."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import datasets
import evaluate
import numpy as np
from scipy.special import softmax
from sklearn.metrics import confusion_matrix

from fer_hf.metrics.calibration import calibration_error_per_class, reliability
from fer_hf.metrics.confusion import f1_of, precision_of, recall_of, valence_figures
from fer_hf.metrics.curves import Array, average_precision, roc_auc
from fer_hf.metrics.headline import RESAMPLES, bootstrap_intervals, headline_figures, top_k_hits

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
    return float(top_k_hits(logits, references, k).mean())


def classification_metrics(
    logits: Array,
    references: Array,
    label_names: Sequence[str],
    top_k: Sequence[int] = (),
    resamples: int = RESAMPLES,
) -> dict[str, Any]:
    """All figures of one evaluation, under the names that `runs.records.Evaluation` has for them.

    Ties in the logits go to the lower id. Classes that are neither among the references nor predicted do not count in
    macro averages.

    Args:
        logits: `(N, C)`, before the softmax.
        references: `(N,)` true class ids.
        label_names: the C names, in the order of the logits.
        top_k: the numbers of classes for `top_k_accuracy`, which is there where some are given.
        resamples: of the bootstrap; 0 for no intervals. A thousand take about 2 s for 3,589 images of seven classes,
            and longer in proportion to the images.

    Returns:
        Plain numbers: shares in [0, 1], `log_loss` in nats, `[low, high]` of the 95 % bootstrap `intervals`, and None
        for what cannot be computed; `per_class` scores by name; `confusion_matrix` counts, a row for each true class;
        the bins of `reliability`.

    Raises:
        ValueError: the input is empty, its shapes do not fit one another, or there are fewer classes than a `top_k`.

    Example:
        >>> figures = classification_metrics(np.array([[2.0, 0.0], [0.0, 1.0]]), np.array([0, 0]), ("happy", "sad"))
        >>> figures["accuracy"], figures["confusion_matrix"], figures["macro_roc_auc"]
        (0.5, [[1, 1], [0, 0]], None)
    """
    logits, references = np.asarray(logits, dtype=np.float64), np.asarray(references)
    if logits.ndim != 2 or not len(logits) or logits.shape != (len(references), len(label_names)):
        raise ValueError(f"logits {logits.shape} do not fit {len(references)} references of {len(label_names)} labels")
    confusion = confusion_matrix(references, logits.argmax(axis=1), labels=range(len(label_names)))
    probabilities = softmax(logits, axis=1)
    figures: dict[str, Any] = {
        "images": len(references),
        **{name: _known(value[0]) for name, value in headline_figures(logits, references, label_names).items()},
        "per_class": _class_figures(probabilities, references, label_names, confusion),
        "valence": valence_figures(confusion, label_names),
        "confusion_matrix": confusion.tolist(),
        "reliability": reliability(probabilities, references),
    }
    if top_k:
        figures["top_k_accuracy"] = {k: top_k_accuracy(logits, references, k) for k in sorted({*top_k})}
    if resamples:
        intervals = bootstrap_intervals(logits, references, label_names, resamples)
        shown = {f"{name}_ci": intervals[name] for name in ("accuracy", "macro_f1")}
        figures |= {"intervals": intervals, **shown}
    return figures


def _known(value: Array) -> float | None:
    return None if np.isnan(value) else float(value)


def _class_figures(
    probabilities: Array, references: Array, label_names: Sequence[str], confusion: Array
) -> dict[str, dict[str, Any]]:
    """The figures of each class, by name."""
    against_rest = [(scores, references == i) for i, scores in enumerate(probabilities.T)]
    columns = {
        "precision": precision_of(confusion).tolist(),
        "recall": recall_of(confusion).tolist(),
        "f1": f1_of(confusion).tolist(),
        "support": confusion.sum(axis=1).tolist(),
        "roc_auc": [roc_auc(*one) for one in against_rest],
        "average_precision": [average_precision(*one) for one in against_rest],
        "calibration_error": calibration_error_per_class(probabilities, references).tolist(),
    }
    return {name: {figure: values[i] for figure, values in columns.items()} for i, name in enumerate(label_names)}


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

"""Figures that follow from a confusion matrix alone: precision, recall, F1, agreement, the largest errors.

All of them take many matrices at once, `(..., C, C)` counts whose rows are true classes and whose columns are predicted
ones, since a bootstrap has one for each resample. What cannot be computed, such as 0 / 0, is NaN.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np

from fer_hf.emotions import VALENCE, emotion_of
from fer_hf.metrics.curves import Array


def _ratio(part: Array, whole: Array, empty: float = np.nan) -> Array:
    """`part / whole`, and `empty` where `whole` is 0."""
    part, whole = np.broadcast_arrays(part, whole)
    return np.divide(part, whole, out=np.full(part.shape, empty), where=whole != 0)


def _hits(confusion: Array) -> Array:
    return np.diagonal(confusion, axis1=-2, axis2=-1)


def precision_of(confusion: Array) -> Array:
    """Precision of each class `(..., C)`; 0 for one that is never predicted."""
    return _ratio(_hits(confusion), confusion.sum(axis=-2), empty=0.0)


def recall_of(confusion: Array) -> Array:
    """Recall of each class `(..., C)`; 0 for one without images."""
    return _ratio(_hits(confusion), confusion.sum(axis=-1), empty=0.0)


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
    return _ratio(2 * _hits(confusion), confusion.sum(axis=-1) + confusion.sum(axis=-2), empty=0.0)


def _macro(scores: Array, confusion: Array) -> Array:
    """The mean of `(..., C)` over the classes that are among the true or the predicted ones."""
    present = (confusion.sum(axis=-1) + confusion.sum(axis=-2)) > 0
    return (scores * present).sum(axis=-1) / np.maximum(present.sum(axis=-1), 1)


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
    return _macro(f1_of(confusion), confusion)


def accuracy_of(confusion: Array) -> Array:
    """The share of images `(...)` whose class is predicted."""
    return _ratio(_hits(confusion).sum(axis=-1), confusion.sum(axis=(-2, -1)))


def balanced_accuracy_of(confusion: Array) -> Array:
    """The mean recall `(...)` of the classes that have images."""
    return _ratio(recall_of(confusion).sum(axis=-1), (confusion.sum(axis=-1) > 0).sum(axis=-1))


def cohen_kappa_of(confusion: Array) -> Array:
    """Cohen's kappa: agreement beyond what chance gives (https://doi.org/10.1177/001316446002000104).

    Args:
        confusion: counts `(..., C, C)`.

    Returns:
        `(...)` from -1 to 1, where 0 is chance; NaN where all images have one class and all are given it.

    Example:
        >>> float(cohen_kappa_of(np.array([[20, 5], [10, 15]])).round(4))
        0.4
    """
    images = confusion.sum(axis=(-2, -1))
    by_chance = (confusion.sum(axis=-1) * confusion.sum(axis=-2)).sum(axis=-1)
    return _ratio(_hits(confusion).sum(axis=-1) * images - by_chance, images**2 - by_chance)


def matthews_correlation_of(confusion: Array) -> Array:
    """Matthews' correlation coefficient of several classes (Gorodkin 2004, doi 10.1016/j.compbiolchem.2004.09.006).

    Args:
        confusion: counts `(..., C, C)`.

    Returns:
        `(...)` from -1 to 1; NaN where all images have one class or are given one.

    Example:
        >>> float(matthews_correlation_of(np.array([[20, 5], [10, 15]])).round(4))
        0.4082
    """
    true, predicted = confusion.sum(axis=-1), confusion.sum(axis=-2)
    images = confusion.sum(axis=(-2, -1))
    spread = (images**2 - (true**2).sum(axis=-1)) * (images**2 - (predicted**2).sum(axis=-1))
    together = _hits(confusion).sum(axis=-1) * images - (true * predicted).sum(axis=-1)
    return _ratio(together, np.sqrt(spread))


def confusion_figures(confusion: Array) -> dict[str, Array]:
    """All figures `(...)` of confusion matrices `(..., C, C)`, by their names in `runs.records.Evaluation`.

    Example:
        >>> {name: float(value.round(3)) for name, value in confusion_figures(np.array([[20, 5], [10, 15]])).items()}
        ... # doctest: +NORMALIZE_WHITESPACE
        {'accuracy': 0.7, 'balanced_accuracy': 0.7, 'macro_precision': 0.708, 'weighted_precision': 0.708,
         'macro_recall': 0.7, 'weighted_recall': 0.7, 'macro_f1': 0.697, 'weighted_f1': 0.697, 'cohen_kappa': 0.4,
         'matthews_correlation': 0.408}
    """
    confusion = np.asarray(confusion, dtype=np.float64)
    support, images = confusion.sum(axis=-1), confusion.sum(axis=(-2, -1))
    figures = {"accuracy": accuracy_of(confusion), "balanced_accuracy": balanced_accuracy_of(confusion)}
    for name, of in {"precision": precision_of, "recall": recall_of, "f1": f1_of}.items():
        scores = of(confusion)
        figures[f"macro_{name}"] = _macro(scores, confusion)
        figures[f"weighted_{name}"] = _ratio((scores * support).sum(axis=-1), images)
    figures["cohen_kappa"] = cohen_kappa_of(confusion)
    figures["matthews_correlation"] = matthews_correlation_of(confusion)
    return figures


def normalised(confusion: Array, over: Literal["true", "predicted"] = "true") -> Array:
    """A confusion matrix as shares.

    Args:
        confusion: counts `(C, C)`.
        over: "true" divides each row by the images of its class, so that the diagonal is recall; "predicted" each
            column by the images that were given its class, so that the diagonal is precision.

    Returns:
        `(C, C)` in [0, 1]; NaN in the row of a class without images, or the column of one that is never predicted.

    Example:
        >>> normalised(np.array([[3, 1], [0, 0]])).tolist()
        [[0.75, 0.25], [nan, nan]]
        >>> normalised(np.array([[3, 1], [0, 1]]), over="predicted").tolist()
        [[1.0, 0.5], [0.0, 0.5]]
    """
    counts = np.asarray(confusion)
    return _ratio(counts, counts.sum(axis=1 if over == "true" else 0, keepdims=True))


class Confusion(NamedTuple):
    """How many `images` of a class are taken for another, and their `share` of the true class, in [0, 1].

    >>> print(Confusion("angry", "happy", 442, 0.3))
    angry -> happy: 442, 30 % of angry
    """

    true: str
    predicted: str
    images: int
    share: float

    def __str__(self) -> str:
        return f"{self.true} -> {self.predicted}: {self.images:,}, {100 * self.share:.0f} % of {self.true}"


def largest_confusions(
    confusion: Sequence[Sequence[int]], label_names: Sequence[str], most: int = 5, least: int = 3
) -> list[Confusion]:
    """The largest systematic errors, ranked by images, since a share of a handful says little.

    Args:
        confusion: counts `(C, C)`.
        label_names: of its rows and columns.
        most: how many to return.
        least: how many images a pair of classes needs to count.

    Example:
        >>> [str(pair) for pair in largest_confusions([[5, 5, 0], [2, 8, 0], [1, 3, 0]], ("angry", "happy", "sad"))]
        ['angry -> happy: 5, 50 % of angry', 'sad -> happy: 3, 75 % of sad']
    """
    pairs = [
        Confusion(true, predicted, int(count), float(count / sum(row)))
        for true, row in zip(label_names, confusion, strict=True)
        for predicted, count in zip(label_names, row, strict=True)
        if predicted != true and count >= least
    ]
    return sorted(pairs, key=lambda pair: (-pair.images, -pair.share))[:most]


def valence_of(label_names: Sequence[str]) -> list[str]:
    """The group of each label in `emotions.VALENCE`; a label that is no emotion is a group of its own.

    Example:
        >>> valence_of(("angry", "happy", "sad"))
        ['negative', 'positive', 'negative']
    """
    groups = {emotion: group for group, emotions in VALENCE.items() for emotion in emotions}
    return [groups.get(emotion_of(name), name) for name in label_names]


def valence_figures(confusion: Sequence[Sequence[int]], label_names: Sequence[str]) -> dict[str, dict[str, object]]:
    """How well each group of emotions is recognised, groups without images left out.

    Args:
        confusion: counts `(C, C)`.
        label_names: of its rows and columns.

    Returns:
        By group its `labels`, the number of `images`, the share of them whose very class is predicted (`accuracy`), and
        the share for which some class of the group is (`recall`).

    Example:
        >>> valence_figures([[1, 1, 2], [0, 3, 1], [2, 0, 2]], ("angry", "happy", "sad"))["negative"]
        {'labels': ['angry', 'sad'], 'images': 8, 'accuracy': 0.375, 'recall': 0.875}
    """
    counts, groups = np.asarray(confusion), np.array(valence_of(label_names))
    figures: dict[str, dict[str, object]] = {}
    for group in dict.fromkeys(groups.tolist()):
        inside = groups == group
        if images := int(counts[inside].sum()):
            figures[group] = {
                "labels": [name for name, member in zip(label_names, inside, strict=True) if member],
                "images": images,
                "accuracy": float(np.diagonal(counts)[inside].sum() / images),
                "recall": float(counts[np.ix_(inside, inside)].sum() / images),
            }
    return figures

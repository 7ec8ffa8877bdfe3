"""Curves over a threshold, and the areas below them: ROC, precision-recall, each class against the rest.

Everything here counts images from the highest score down. Images of one score are accepted together, so their order
does not matter; and images may have weights, several sets of them at once, as the resamples of a bootstrap are.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


@dataclass(frozen=True)
class Curve:
    """Points `x` and `y`, `(P,)` each, in the order in which a line joins them."""

    x: Array
    y: Array

    def thinned(self, points: int = 200) -> "Curve":
        """At most so many of the points, evenly along the line, both ends kept: as many as a figure can show."""
        length = np.cumsum(np.abs(np.diff(self.x, prepend=self.x[0])) + np.abs(np.diff(self.y, prepend=self.y[0])))
        kept = np.unique(np.searchsorted(length, np.linspace(0, length[-1], points)))
        kept = np.union1d(kept, [0, len(length) - 1]) if len(length) > points else np.arange(len(length))
        return Curve(self.x[kept], self.y[kept])


class Ranking:
    """N images from the highest score to the lowest, those of equal score in one block.

    Args:
        scores: `(N,)`.
    """

    def __init__(self, scores: Array):
        self.order = np.argsort(-scores, kind="stable")
        ordered = scores[self.order]
        self.ends = np.flatnonzero(np.append(ordered[1:] != ordered[:-1], True))

    def cumulate(self, weights: Array) -> Array:
        """The sums of weights `(N, R)` from the top to the end of each of B blocks, after a row of 0: `(B + 1, R)`."""
        sums = np.cumsum(weights[self.order], axis=0)
        if len(self.ends) < len(sums):
            sums = sums[self.ends]
        return np.concatenate([np.zeros((1, *sums.shape[1:])), sums])


def _positives_and_negatives(scores: Array, positive: Array, weights: Array) -> tuple[Array, Array]:
    """The weights of positive and of negative images above each threshold, `(B + 1, R)` both."""
    ranking, positive = Ranking(scores), np.asarray(positive)[:, None]
    return ranking.cumulate(weights * positive), ranking.cumulate(weights * ~positive)


def areas(scores: Array, positive: Array, weights: Array) -> tuple[Array, Array]:
    """The area below the ROC curve and the average precision, under R sets of weights.

    Args:
        scores: `(N,)`, higher for images that are rather positive.
        positive: `(N,)` bool.
        weights: `(N, R)`, not negative.

    Returns:
        `(R,)` both; NaN where no weight is on positive images, and the first also where none is on negative ones.
    """
    true, false = _positives_and_negatives(scores, positive, weights)
    with np.errstate(invalid="ignore"):
        gained = np.diff(true, axis=0)
        roc = ((true[1:] - gained / 2) * np.diff(false, axis=0)).sum(axis=0) / (true[-1] * false[-1])
        accepted = true[1:] + false[1:]
        precision = np.divide(true[1:], accepted, out=np.zeros_like(accepted), where=accepted > 0)
        return roc, (gained * precision).sum(axis=0) / true[-1]


def _single(scores: Array, positive: Array) -> tuple[float | None, float | None]:
    roc, precision = areas(scores, positive, np.ones((len(scores), 1)))
    return tuple(None if np.isnan(value) else float(value) for value in (roc[0], precision[0]))  # type: ignore[return-value]


def roc_auc(scores: Array, positive: Array) -> float | None:
    """The area below the ROC curve: how often a positive image has a higher score than a negative one.

    Args:
        scores: `(N,)`, such as the probability of a class.
        positive: `(N,)` bool, such as whether it is the true class.

    Returns:
        In [0, 1], where 0.5 is chance; None without a positive or without a negative image.

    Example:
        >>> roc_auc(np.array([0.1, 0.4, 0.35, 0.8]), np.array([False, False, True, True]))
        0.75
    """
    return _single(scores, positive)[0]


def average_precision(scores: Array, positive: Array) -> float | None:
    """Average precision: the mean precision at each positive image, as scikit-learn has it, without interpolation.

    Args:
        scores: `(N,)`, such as the probability of a class.
        positive: `(N,)` bool, such as whether it is the true class.

    Returns:
        In [0, 1], where the share of positive images is chance; None without a positive image.

    Example:
        >>> round(average_precision(np.array([0.1, 0.4, 0.35, 0.8]), np.array([False, False, True, True])), 4)
        0.8333
    """
    return _single(scores, positive)[1]


def roc_curve(scores: Array, positive: Array, points: int = 200) -> Curve | None:
    """The ROC curve: `x` the share of negative images and `y` that of positive ones above each threshold.

    Args:
        scores: `(N,)`, such as the probability of a class.
        positive: `(N,)` bool, such as whether it is the true class.
        points: how many the curve has at most.

    Returns:
        The curve from (0, 0) to (1, 1), or None without a positive or without a negative image.

    Example:
        >>> curve = roc_curve(np.array([0.1, 0.4, 0.35, 0.8]), np.array([False, False, True, True]))
        >>> curve.x.tolist(), curve.y.tolist()
        ([0.0, 0.0, 0.5, 0.5, 1.0], [0.0, 0.5, 0.5, 1.0, 1.0])
    """
    true, false = (sums[:, 0] for sums in _positives_and_negatives(scores, positive, np.ones((len(scores), 1))))
    if not true[-1] or not false[-1]:
        return None
    return Curve(false / false[-1], true / true[-1]).thinned(points)


def precision_recall_curve(scores: Array, positive: Array, points: int = 200) -> Curve | None:
    """The precision-recall curve: `x` recall and `y` precision above each threshold.

    Args:
        scores: `(N,)`, such as the probability of a class.
        positive: `(N,)` bool, such as whether it is the true class.
        points: how many the curve has at most.

    Returns:
        The curve by rising recall, from the precision of the highest score; None without a positive image.

    Example:
        >>> curve = precision_recall_curve(np.array([0.1, 0.4, 0.35, 0.8]), np.array([False, False, True, True]))
        >>> curve.x.tolist(), curve.y.round(2).tolist()
        ([0.0, 0.5, 0.5, 1.0, 1.0], [1.0, 1.0, 0.5, 0.67, 0.5])
    """
    true, false = (sums[1:, 0] for sums in _positives_and_negatives(scores, positive, np.ones((len(scores), 1))))
    if not true[-1]:
        return None
    precision = true / (true + false)
    return Curve(np.append(0.0, true / true[-1]), np.append(precision[0], precision)).thinned(points)

"""Accuracy on test sets that are mixtures of two groups, such as women and men, from predictions on both."""

from dataclasses import dataclass

import numpy as np

from fer_hf.evaluation.significance import contrast, interval, resampled
from fer_hf.metrics import Array
from fer_hf.runs.analyses import Estimate

SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Shares of the first group in the test set."""


@dataclass(frozen=True)
class MixtureRow:
    """A configuration on every mixture of `SHARES`; `trained` is the share of the group in its training set, if set."""

    name: str
    seeds: int
    trained: float | None
    accuracy: tuple[Estimate, ...]


def accuracy_on_mixtures(references: Array, predicted: Array, member: Array, classes: int) -> tuple[Estimate, ...]:
    """The accuracy of a configuration on test sets with the shares `SHARES` of a group.

    No test set is drawn: accuracy is a mean over images, so what a mixture would give follows from the recall of each
    class in each group. Class shares are those of all images in every mixture, so that it is the mixture that is
    compared; a class that one group lacks does not count. Intervals are over images, and over seeds where there are
    several.

    Args:
        references: true class ids `(N,)`.
        predicted: those that S seeds predict `(S, N)`.
        member: whether an image is of the group `(N,)`.
        classes: their number.

    Returns:
        An estimate for each of `SHARES`.

    Example:
        >>> references, member = np.zeros(200, int), np.arange(200) < 100
        >>> predicted = (np.arange(200) % 100 >= np.where(member, 90, 60)).astype(int)[None]
        >>> [round(estimate.value, 3) for estimate in accuracy_on_mixtures(references, predicted, member, 1)]
        [0.6, 0.675, 0.75, 0.825, 0.9]
    """
    shares = np.array(SHARES)

    def figures(confusion: Array) -> Array:
        cells = np.stack([confusion.sum(axis=-1), np.diagonal(confusion, axis1=-2, axis2=-1)])
        lacking = 2 * classes - cells.shape[-1]
        cells = np.concatenate([cells, np.zeros((*cells.shape[:-1], max(lacking, 0)))], axis=-1)[..., : 2 * classes]
        images, hits = cells.reshape(*cells.shape[:-1], classes, 2)
        weights = images.sum(axis=-1) * (images > 0).all(axis=-1)
        weights = weights / np.maximum(weights.sum(axis=-1, keepdims=True), 1)
        of_group = (weights[..., None] * hits / np.maximum(images, 1)).sum(axis=-2)
        return of_group[..., :1] * (1 - shares) + of_group[..., 1:] * shares

    scores, draws = resampled(2 * references + member, 2 * predicted + member, figures)
    parts = [contrast([(scores[:, n], draws[:, :, n])], [1.0]) for n in range(len(shares))]
    return tuple(Estimate(float(scores[:, n].mean()), *interval(part)) for n, part in enumerate(parts))

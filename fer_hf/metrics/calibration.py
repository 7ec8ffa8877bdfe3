"""How far probabilities can be believed: reliability, calibration errors, the Brier score."""

from collections.abc import Mapping, Sequence

import numpy as np
from scipy.sparse import csr_array

from fer_hf.metrics.curves import Array, Ranking


def bin_of(probability: Array, bins: int) -> Array:
    """The bin of each probability, from 0 to `bins` - 1: bin b holds those in (b / bins, (b + 1) / bins], and 0 too."""
    return np.clip(np.ceil(probability * bins).astype(int) - 1, 0, bins - 1)


def reliability(probabilities: Array, references: Array, bins: int = 15) -> list[dict[str, float]]:
    """Reliability diagram (Guo et al. 2017, https://arxiv.org/abs/1706.04599).

    Args:
        probabilities: `(N, C)` in [0, 1].
        references: `(N,)` true class ids.
        bins: the number of bins of equal width in [0, 1].

    Returns:
        Mean `confidence`, `accuracy` and `count` of each bin that is not empty, by confidence.

    Example:
        >>> reliability(np.array([[0.9, 0.1], [0.25, 0.75]]), np.array([0, 0]), bins=2)
        [{'confidence': 0.825, 'accuracy': 0.5, 'count': 2}]
    """
    confidence, hit = probabilities.max(axis=1), probabilities.argmax(axis=1) == references
    bin_ids = bin_of(confidence, bins)
    groups = [bin_ids == index for index in np.unique(bin_ids)]
    return [
        {"confidence": float(confidence[g].mean()), "accuracy": float(hit[g].mean()), "count": int(g.sum())}
        for g in groups
    ]


def expected_calibration_error(rows: Sequence[Mapping[str, float]]) -> float:
    """Mean gap between confidence and accuracy (Guo et al. 2017, https://arxiv.org/abs/1706.04599).

    Args:
        rows: a reliability diagram, as `reliability` returns it.

    Returns:
        The mean gap of the bins, weighted by their counts, in [0, 1].

    Example:
        >>> expected_calibration_error([{"confidence": 0.75, "accuracy": 0.5, "count": 2}])
        0.25
    """
    total = sum(row["count"] for row in rows)
    return sum(row["count"] * abs(row["confidence"] - row["accuracy"]) for row in rows) / total


def confidence_gaps(probabilities: Array, references: Array, bins: int = 15) -> csr_array:
    """Confidence less correctness of each image, in the column of its bin: `(N, bins)`.

    The mean over images of the absolute sums of the columns is the expected calibration error.
    """
    confidence, hit = probabilities.max(axis=1), probabilities.argmax(axis=1) == references
    cells = np.arange(len(confidence)), bin_of(confidence, bins)
    return csr_array((confidence - hit, cells), shape=(len(confidence), bins))


def class_gaps(probabilities: Array, references: Array, bins: int = 15) -> csr_array:
    """Probability of each class less whether it is the true one, by image, and by bin and class: `(N, bins * C)`."""
    images, classes = probabilities.shape
    gaps = probabilities - (np.asarray(references)[:, None] == np.arange(classes))
    columns = bin_of(probabilities, bins) * classes + np.arange(classes)
    rows = np.repeat(np.arange(images), classes)
    return csr_array((gaps.ravel(), (rows, columns.ravel())), shape=(images, bins * classes))


def calibration_error_per_class(probabilities: Array, references: Array, bins: int = 15) -> Array:
    """For each class, the gap between the probability given to it and how often it is the true one.

    Args:
        probabilities: `(N, C)` in [0, 1].
        references: `(N,)` true class ids.
        bins: the number of bins of equal width in [0, 1].

    Returns:
        `(C,)` in [0, 1]: the mean gap of the bins, weighted by their counts.

    Example:
        >>> calibration_error_per_class(np.array([[0.75, 0.25], [0.75, 0.25]]), np.array([0, 1]), bins=2).tolist()
        [0.25, 0.25]
    """
    sums = class_gaps(probabilities, references, bins).sum(axis=0)
    return np.abs(sums).reshape(bins, -1).sum(axis=0) / len(probabilities)


def classwise_calibration_error(probabilities: Array, references: Array, bins: int = 15) -> float:
    """Class-wise expected calibration error (Kull et al. 2019, https://arxiv.org/abs/1910.12656).

    `expected_calibration_error` looks at the most probable class of each image alone; this at the probabilities of all.

    Args:
        probabilities: `(N, C)` in [0, 1].
        references: `(N,)` true class ids.
        bins: the number of bins of equal width in [0, 1].

    Returns:
        The mean over the C classes of `calibration_error_per_class`, in [0, 1].

    Example:
        >>> classwise_calibration_error(np.array([[0.75, 0.25], [0.75, 0.25]]), np.array([0, 1]), bins=2)
        0.25
    """
    return float(calibration_error_per_class(probabilities, references, bins).mean())


def adaptive_calibration_error(probabilities: Array, references: Array, bins: int = 15) -> float:
    """Expected calibration error over bins that hold equally many images (Mukhoti et al. 2020, arXiv 2002.09437).

    Bins of equal width leave nearly all images of a confident model in the last one. Images of one confidence that
    stand on both sides of a limit count on each by their share, so that the order of the images does not matter.

    Args:
        probabilities: `(N, C)` in [0, 1].
        references: `(N,)` true class ids.
        bins: the number of bins.

    Returns:
        The mean gap between confidence and accuracy in the bins, in [0, 1].

    Example:
        >>> adaptive_calibration_error(np.array([[0.9, 0.1], [0.25, 0.75]]), np.array([0, 0]), bins=2)
        0.425
    """
    return float(adaptive_calibration_errors(probabilities, references, np.ones((len(probabilities), 1)), bins)[0])


def adaptive_calibration_errors(probabilities: Array, references: Array, weights: Array, bins: int = 15) -> Array:
    """`adaptive_calibration_error` under R sets of weights `(N, R)`: `(R,)`."""
    confidence, hit = probabilities.max(axis=1), probabilities.argmax(axis=1) == references
    ranking = Ranking(confidence)
    images, gaps = ranking.cumulate(weights), ranking.cumulate(weights * (confidence - hit)[:, None])
    limits = np.linspace(0, images[-1], bins + 1)
    at_limits = [np.interp(*columns) for columns in zip(limits.T, images.T, gaps.T, strict=True)]
    return np.abs(np.diff(at_limits, axis=1)).sum(axis=1) / images[-1]


def brier_score(probabilities: Array, references: Array) -> float:
    """Brier score of several classes (Brier 1950, https://doi.org/10.1175/1520-0493(1950)078%3C0001:VOFEIT%3E2.0.CO;2).

    Args:
        probabilities: `(N, C)` in [0, 1].
        references: `(N,)` true class ids.

    Returns:
        The mean over images of the squared differences from 1 for the true class and 0 for the others, summed over
        classes: 0 is perfect, 2 is certain of a wrong class each time, 1 - 1/C is all classes equally probable.

    Example:
        >>> brier_score(np.array([[1.0, 0.0], [0.5, 0.5]]), np.array([0, 0]))
        0.25
    """
    return float(squared_errors(probabilities, references).mean())


def squared_errors(probabilities: Array, references: Array) -> Array:
    """The Brier score of each image, `(N,)` in [0, 2]."""
    truth = np.asarray(references)[:, None] == np.arange(probabilities.shape[1])
    return ((probabilities - truth) ** 2).sum(axis=1)

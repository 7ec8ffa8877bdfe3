"""An evaluation without the test images that have a copy among the training images."""

from collections.abc import Callable, Collection

import numpy as np

from fer_hf.evaluation.significance import METRICS, Metric, interval
from fer_hf.metrics import Array
from fer_hf.runs.analyses import Estimate, WithoutCopies
from fer_hf.runs.predictions import Predictions

RESAMPLES = 10_000


def without_copies(predictions: Predictions, copied: Collection[str], audit: str) -> WithoutCopies | None:
    """The figures of an evaluation without some of its images, and how far they are from the official accuracy.

    Images are resampled once for both figures (paired bootstrap), so the interval of the difference is that of one set
    of images, with and without its copies. The images left out may be easier than others: what a leak gives is shown
    only by a model that was trained without the copies (`data.exclude`).

    Args:
        predictions: of all images, N of them.
        copied: the ids of those that have a copy among the training images.
        audit: the name of the audited data.

    Returns:
        The figures; None where every image has a copy.

    Example:
        >>> logits = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
        >>> four = Predictions(["a", "b", "c", "d"], np.array([0, 0, 1, 0]), logits, ("happy", "sad"), {})
        >>> result = without_copies(four, {"a", "b"}, "faces")
        >>> result.accuracy.value, result.accuracy_of_copies, result.difference.value
        (0.5, 1.0, 0.25)
    """
    classes = len(predictions.label_names)
    copy = np.isin(predictions.ids, list(copied))
    if copy.all():
        return None
    cells = (copy * classes + predictions.labels) * classes + predictions.predicted
    counts = np.bincount(cells, minlength=2 * classes**2)
    draws = np.random.default_rng(0).multinomial(len(cells), counts / len(cells), RESAMPLES)
    counts, draws = counts.reshape(1, 2, classes, classes), draws.reshape(-1, 2, classes, classes)
    draws = draws[draws[:, 0].sum(axis=(-2, -1)) > 0]  # of very few images, a resample may hold copies alone
    return WithoutCopies(
        audit=audit,
        images=int((~copy).sum()),
        copies=int(copy.sum()),
        accuracy=_estimate(_of_rest(METRICS["accuracy"]), counts, draws),
        macro_f1=_estimate(_of_rest(METRICS["macro_f1"]), counts, draws),
        difference=_estimate(_difference, counts, draws),
        accuracy_of_copies=float(METRICS["accuracy"](counts[0, 1])) if copy.any() else None,
    )


def _of_rest(metric: Metric) -> Metric:
    return lambda counts: metric(counts[:, 0])


def _difference(counts: Array) -> Array:
    """Accuracy on all images less that on those without copies, of confusion matrices (R, 2, C, C)."""
    accuracy = METRICS["accuracy"]
    return accuracy(counts.sum(axis=1)) - accuracy(counts[:, 0])


def _estimate(figure: Callable[[Array], Array], counts: Array, draws: Array) -> Estimate:
    return Estimate(float(figure(counts)[0]), *interval(figure(draws)))

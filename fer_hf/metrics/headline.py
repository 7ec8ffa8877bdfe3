"""The headline figures of an evaluation, and how sure they are: one function of weighted images.

To draw N images with replacement is to give each a whole number as its weight. So every figure is a function of
weights: all 1 gives the figure itself, and a thousand sets of weights at once give a thousand resamples of it.
"""

from collections.abc import Sequence

import numpy as np
from scipy.sparse import csr_array
from scipy.special import log_softmax

from fer_hf.metrics.calibration import adaptive_calibration_errors, class_gaps, confidence_gaps, squared_errors
from fer_hf.metrics.confusion import confusion_figures, valence_of
from fer_hf.metrics.curves import Array, areas
from fer_hf.metrics.selective import aurcs

RESAMPLES = 1000
MEANS = ("top_2_accuracy", "valence_accuracy", "log_loss", "brier_score")
"""Figures that are means over images."""
BIASED = ("expected_calibration_error", "classwise_calibration_error", "adaptive_calibration_error")
"""Figures that are too high on a sample, and higher still on a resample of it: noise in a bin counts as a gap."""
AT_ONCE = 2**20
"""Weights of a batch of resamples: 8 MiB, which the figures hold several times over."""


def top_k_hits(logits: Array, references: Array, k: int) -> Array:
    """Whether the true class of each image is among the `k` most probable, `(N,)`; ties go to the lower id."""
    own = logits[np.arange(len(logits)), references][:, None]
    before = np.arange(logits.shape[1]) < np.asarray(references)[:, None]
    return ((logits > own) | ((logits == own) & before)).sum(axis=1) < k


def confusion_matrices(references: Array, predictions: Array, classes: int, weights: Array) -> Array:
    """Confusion matrices of class ids `(N,)` under R sets of weights `(N, R)`: `(R, C, C)`, a row for a true class."""
    images = len(references)
    cells = csr_array((np.ones(images), (np.arange(images), references * classes + predictions)), (images, classes**2))
    return (cells.T @ weights).T.reshape(-1, classes, classes)


def headline_figures(
    logits: Array, references: Array, label_names: Sequence[str], weights: Array | None = None
) -> dict[str, Array]:
    """Every headline figure, under the name that `runs.records.Evaluation` has for it.

    Args:
        logits: `(N, C)`, before the softmax.
        references: `(N,)` true class ids.
        label_names: the C names, in the order of the logits.
        weights: `(N, R)` of the images; by default all are 1, and R is 1.

    Returns:
        `(R,)` each; NaN for what cannot be computed, such as the confidence of wrong predictions where all are right.

    Example:
        >>> figures = headline_figures(np.array([[2.0, 0.0], [0.0, 1.0]]), np.array([0, 0]), ("happy", "sad"))
        >>> [float(figures[name][0].round(4)) for name in ("accuracy", "macro_f1", "log_loss", "aurc")]
        [0.5, 0.3333, 0.7201, 0.25]
    """
    weights = np.ones((len(logits), 1)) if weights is None else weights
    log_probabilities, predictions = log_softmax(logits, axis=1), logits.argmax(axis=1)
    probabilities = np.exp(log_probabilities)
    right, confidence = predictions == references, probabilities.max(axis=1)
    valence, classes = np.array(valence_of(label_names)), len(label_names)
    sums = {
        "images": np.ones(len(logits)),
        "top_2_accuracy": top_k_hits(logits, references, 2),
        "log_loss": -log_probabilities[np.arange(len(logits)), references],
        "brier_score": squared_errors(probabilities, references),
        "valence_accuracy": valence[predictions] == valence[references],
        "right": right,
        "confidence": confidence,
        "confidence_when_right": right * confidence,
    }
    total = dict(zip(sums, np.stack([*sums.values()]) @ weights, strict=True))
    images, rights = total["images"], total["right"]
    by_class = [areas(probabilities[:, i], references == i, weights) for i in range(classes)]
    roc, precision = (_mean_of_known(np.stack(values)) for values in zip(*by_class, strict=True))
    wrong_confidence = total["confidence"] - total["confidence_when_right"]
    with np.errstate(invalid="ignore", divide="ignore"):
        return {
            **confusion_figures(confusion_matrices(references, predictions, classes, weights)),
            **{
                name: total[name] / images for name in ("top_2_accuracy", "valence_accuracy", "log_loss", "brier_score")
            },
            "expected_calibration_error": _size_of(confidence_gaps(probabilities, references), weights) / images,
            "classwise_calibration_error": _size_of(class_gaps(probabilities, references), weights) / images / classes,
            "adaptive_calibration_error": adaptive_calibration_errors(probabilities, references, weights),
            "aurc": aurcs(probabilities, references, weights),
            "macro_roc_auc": roc,
            "macro_average_precision": precision,
            "confidence_when_right": total["confidence_when_right"] / rights,
            "confidence_when_wrong": np.where(rights < images, wrong_confidence / (images - rights), np.nan),
        }


def _size_of(gaps: csr_array, weights: Array) -> Array:
    """The absolute sums of the columns of gaps `(N, B)`, added up, under weights `(N, R)`: `(R,)`."""
    return np.abs(gaps.T @ weights).sum(axis=0)


def _mean_of_known(values: Array) -> Array:
    """The mean over classes of `(C, R)`, without those that are NaN: `(R,)`."""
    known = ~np.isnan(values)
    with np.errstate(invalid="ignore"):
        return np.where(known, values, 0).sum(axis=0) / known.sum(axis=0)


def bootstrap_intervals(
    logits: Array, references: Array, label_names: Sequence[str], resamples: int = RESAMPLES, seed: int = 0
) -> dict[str, list[float]]:
    """95 % intervals of every headline figure, by bootstrap over the images.

    They are percentile intervals. Those of binned calibration errors, which are biased, are "basic" ones instead
    (Davison & Hinkley 1997, section 5.2): reflected at the figure, which takes the bias off, and widened to hold it.

    Args:
        logits: `(N, C)`, before the softmax.
        references: `(N,)` true class ids.
        label_names: the C names, in the order of the logits.
        resamples: the number of bootstrap resamples.
        seed: of the random draws; equal seeds give equal intervals.

    Returns:
        `[low, high]` by figure. One that more than 5 % of the resamples lack, such as the confidence of wrong
        predictions where a single one is wrong, has no interval.

    Example:
        >>> intervals = bootstrap_intervals(np.eye(2)[[0, 1, 1]], np.array([0, 1, 1]), ("happy", "sad"))
        >>> intervals["accuracy"], "confidence_when_wrong" in intervals
        ([1.0, 1.0], False)
    """
    rng, images, draws = np.random.default_rng(seed), len(references), list[dict[str, Array]]()
    at_once = max(1, AT_ONCE // images)
    for first in range(0, resamples, at_once):
        size = min(at_once, resamples - first)
        cells = rng.integers(images, size=(images, size)) * size + np.arange(size)
        weights = np.bincount(cells.ravel(), minlength=images * size).reshape(images, size).astype(np.float64)
        draws.append(headline_figures(logits, references, label_names, weights))
    figures = headline_figures(logits, references, label_names)
    values = {name: np.concatenate([draw[name] for draw in draws]) for name in figures}
    return {
        name: _interval(value, float(figures[name][0]), name in BIASED)
        for name, value in values.items()
        if np.isnan(value).mean() <= 0.05
    }


def _interval(draws: Array, figure: float, biased: bool) -> list[float]:
    low, high = map(float, np.nanquantile(draws, [0.025, 0.975]))
    return [max(0.0, 2 * figure - high), max(2 * figure - low, figure)] if biased else [low, high]

"""Conformal sets: as few labels as hold the right one with a wanted probability.

Split conformal prediction (arXiv 2107.07511) with the probability of a label as its score, which is called LAC (Sadinle
et al. 2019, https://doi.org/10.1080/01621459.2017.1395341): a set has all labels whose probability is at least a
threshold. No other rule has smaller sets on average, and a user of `pipeline` needs nothing but that one number. The
adaptive sets of APS (arXiv 2006.02544) come nearer to the level in each class alone, but are larger, and take random
numbers to be exact; so the coverage of each class is measured instead.

The promise is one on average over images, classes and validation sets, and only where validation and test images are
drawn alike. Validation has chosen the weights, so the network does a little better on it, and coverage on test can be a
little below the level.
"""

import math
from collections.abc import Sequence

import numpy as np
from scipy.stats import binomtest

from fer_hf.metrics import Array
from fer_hf.runs.analyses import Conformal, Estimate


def conformal_threshold(probabilities: Array, references: Array, level: float) -> float:
    """The probability from which on a label belongs to the set.

    Args:
        probabilities: `(N, C)` on validation images.
        references: `(N,)` their true class ids.
        level: how often sets are to hold the right label, between 0 and 1.

    Returns:
        The ceil((N + 1) level)-th largest probability of a right label; 0, which puts all labels into each set, where
        N is too small for the level.

    Example:
        >>> own = np.arange(0.05, 1, 0.1)  # the probabilities of the right labels of ten images
        >>> probabilities = np.stack([own, 1 - own], axis=1)
        >>> round(conformal_threshold(probabilities, np.zeros(10, dtype=int), level=0.9), 2)
        0.05
    """
    images = len(references)
    rank = math.ceil(round((images + 1) * level, 9))  # 0.7 * 10 is more than 7
    own = np.sort(probabilities[np.arange(images), references])
    return float(own[images - rank]) if rank <= images else 0.0


def measure_conformal(
    probabilities: Array, references: Array, threshold: float, level: float, label_names: Sequence[str]
) -> Conformal:
    """What the sets of a threshold are like on other images.

    Args:
        probabilities: `(N, C)` on test images.
        references: `(N,)` their true class ids.
        threshold: from `conformal_threshold`.
        level: the one it was chosen for.
        label_names: the C names, in the order of the probabilities.

    Example:
        >>> sets = measure_conformal(np.array([[0.9, 0.1], [0.6, 0.4]]), np.array([0, 1]), 0.3, 0.9, ("happy", "sad"))
        >>> sets.coverage.value, sets.mean_size, sets.sizes
        (1.0, 1.5, [0, 1, 1])
    """
    sets = probabilities >= threshold
    held, sizes = sets[np.arange(len(references)), references], sets.sum(axis=1)
    low, high = binomtest(int(held.sum()), len(held)).proportion_ci(method="wilson")
    return Conformal(
        level=level,
        threshold=threshold,
        coverage=Estimate(float(held.mean()), float(low), float(high)),
        mean_size=float(sizes.mean()),
        sizes=np.bincount(sizes, minlength=len(label_names) + 1).tolist(),
        coverage_per_class={
            name: float(held[references == label].mean())
            for label, name in enumerate(label_names)
            if (references == label).any()
        },
    )

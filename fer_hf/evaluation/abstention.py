"""Abstention: give no answer where the network is not sure enough (selective classification, arXiv 1705.08500)."""

import numpy as np
from scipy.stats import beta, binomtest

from fer_hf.metrics import Array
from fer_hf.runs.analyses import Abstention

SURENESS = 0.95
"""How likely the error of the answers is to be below the bound that a threshold is chosen by."""


def abstention_threshold(probabilities: Array, references: Array, target_error: float) -> float | None:
    """The confidence from which on to answer, for as many answers as possible of which few enough are wrong.

    A threshold at which just the wanted share of answers is wrong on these images lets more be wrong on half of all
    other sets. So the upper 95 % bound of that share has to be small enough (Clopper and Pearson): with 10 % wanted,
    no wrong one of 29 answers, or 84 of 1,000. In simulations with 300 to 3,589 images, 4 to 5 % of the thresholds
    then let more be wrong than wanted, for a third fewer answers.

    Args:
        probabilities: `(N, C)` on validation images, calibrated.
        references: `(N,)` their true class ids.
        target_error: the share of answers that may be wrong, between 0 and 1.

    Returns:
        The least confidence to answer with; 0 where all may be answered, None where no threshold would do.

    Example:
        >>> confidence = np.linspace(0.5, 1, 100)
        >>> probabilities = np.stack([confidence, 1 - confidence], axis=1)
        >>> abstention_threshold(probabilities, np.array([1] * 20 + [0] * 80), target_error=0.1).__round__(2)
        0.59
    """
    order = np.argsort(-probabilities.max(axis=1), kind="stable")
    confidence = probabilities.max(axis=1)[order]
    wrong = np.cumsum((probabilities.argmax(axis=1) != references)[order])
    answers = np.arange(1, len(order) + 1)
    bound = np.where(wrong < answers, beta.ppf(SURENESS, wrong + 1, np.maximum(answers - wrong, 1)), 1.0)
    whole = np.append(confidence[1:] < confidence[:-1], True)  # equal confidences are answered together
    fits = np.flatnonzero(whole & (bound <= target_error))
    if not len(fits):
        return None
    return 0.0 if fits[-1] == len(order) - 1 else float(confidence[fits[-1]])


def measure_abstention(
    probabilities: Array, references: Array, threshold: float | None, target_error: float
) -> Abstention:
    """How many other images are answered at a threshold, and how many answers are wrong.

    Example:
        >>> measure_abstention(np.array([[0.9, 0.1], [0.6, 0.4]]), np.array([0, 1]), 0.8, 0.1).coverage
        0.5
    """
    answered = probabilities.max(axis=1) >= (np.inf if threshold is None else threshold)
    if not answered.any():
        return Abstention(target_error, threshold, coverage=0.0, error=None)
    wrong, answers = int((probabilities.argmax(axis=1) != references)[answered].sum()), int(answered.sum())
    low, high = binomtest(wrong, answers).proportion_ci(method="wilson")
    return Abstention(target_error, threshold, float(answered.mean()), wrong / answers, (float(low), float(high)))

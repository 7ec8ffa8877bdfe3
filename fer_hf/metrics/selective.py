"""What is gained by not answering where confidence is low: risk against coverage (arXiv 1705.08500)."""

import numpy as np

from fer_hf.metrics.curves import Array, Curve, Ranking


def _risk_coverage(probabilities: Array, references: Array, weights: Array) -> tuple[Array, Array]:
    """Coverage and risk above each threshold of confidence, `(B, R)` both, under weights `(N, R)`."""
    wrong = probabilities.argmax(axis=1) != references
    ranking = Ranking(probabilities.max(axis=1))
    answered, errors = ranking.cumulate(weights)[1:], ranking.cumulate(weights * wrong[:, None])[1:]
    risk = np.divide(errors, answered, out=np.zeros_like(errors), where=answered > 0)
    return answered / answered[-1], risk


def risk_coverage(probabilities: Array, references: Array, points: int = 200) -> Curve:
    """The risk-coverage curve (Geifman & El-Yaniv 2017, https://arxiv.org/abs/1705.08500).

    Args:
        probabilities: `(N, C)` in [0, 1].
        references: `(N,)` true class ids.
        points: how many the curve has at most.

    Returns:
        `x` the share of images with at least some confidence, and `y` the share of these whose class is wrong.

    Example:
        >>> curve = risk_coverage(np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4], [0.7, 0.3]]), np.array([0, 0, 0, 0]))
        >>> curve.x.tolist(), curve.y.round(2).tolist()
        ([0.25, 0.5, 0.75, 1.0], [0.0, 0.5, 0.33, 0.25])
    """
    coverage, risk = _risk_coverage(probabilities, references, np.ones((len(probabilities), 1)))
    return Curve(coverage[:, 0], risk[:, 0]).thinned(points)


def aurcs(probabilities: Array, references: Array, weights: Array) -> Array:
    """`aurc` under R sets of weights `(N, R)`: `(R,)`."""
    coverage, risk = _risk_coverage(probabilities, references, weights)
    return (np.diff(coverage, axis=0, prepend=0) * risk).sum(axis=0)


def aurc(probabilities: Array, references: Array) -> float:
    """The area below the risk-coverage curve (Geifman et al. 2019, https://arxiv.org/abs/1805.08206).

    Args:
        probabilities: `(N, C)` in [0, 1].
        references: `(N,)` true class ids.

    Returns:
        The mean over images of the error rate among those that are at least as confident, in [0, 1]: lower is better,
        and the error rate is what confidence without any meaning gives.

    Example:
        >>> aurc(np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4], [0.7, 0.3]]), np.array([0, 0, 0, 0])).__round__(4)
        0.2708
    """
    return float(aurcs(probabilities, references, np.ones((len(probabilities), 1)))[0])

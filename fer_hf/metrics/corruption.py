"""The mean corruption error: one figure for what corruption costs a classifier."""

from collections.abc import Mapping, Sequence

import numpy as np


def mean_corruption_error(
    errors: Mapping[str, Sequence[float]], baseline: Mapping[str, Sequence[float]] | None = None
) -> float:
    """Mean corruption error (Hendrycks and Dietterich, arXiv 1903.12261, section 4.2), as a share: 1 is the baseline.

    Args:
        errors: of each corruption, the error (1 - accuracy) at each strength.
        baseline: the same of another classifier on the same images. Without it the plain mean error is returned.

    Returns:
        The mean over corruptions of the error summed over strengths, divided by that of the baseline.

    Raises:
        ValueError: there are no corruptions, the baseline's are others, or it makes no error in one of them.

    Example:
        >>> mean_corruption_error({"blur": [0.2, 0.4], "noise": [0.3, 0.3]}, {"blur": [0.4, 0.8], "noise": [0.3, 0.3]})
        0.75
    """
    if not errors:
        raise ValueError("there are no corruptions")
    if baseline is None:
        return float(np.mean([np.mean(of) for of in errors.values()]))
    if {name: len(of) for name, of in errors.items()} != {name: len(of) for name, of in baseline.items()}:
        raise ValueError("the baseline was measured under other corruptions or strengths")
    if spotless := [name for name, of in baseline.items() if not sum(of)]:
        raise ValueError(f"the baseline makes no error under {spotless[0]}, so there is nothing to divide by")
    return float(np.mean([sum(of) / sum(baseline[name]) for name, of in errors.items()]))

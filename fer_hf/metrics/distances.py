"""How far two sets of features are apart, such as those of real and of drawn faces before a network's classifier.

Both distances depend on the network that made the features, so they compare sets of images and not networks.
"""

import numpy as np

from fer_hf.metrics.classification import Array

BLOCK = 1024
"""Rows of a kernel matrix that are in memory at once."""
MOST_ROWS = 10_000
"""Of each set, for the maximum mean discrepancy, whose cost grows with their square."""
MEDIAN_OF = 1000
"""Rows of each set from which the width of the kernel is taken."""


def frechet_distance(a: Array, b: Array) -> float:
    """Frechet distance of two Gaussians with the means and covariances of the features (FID, arXiv 1706.08500).

    `|m_a - m_b|^2 + tr(C_a + C_b - 2 (C_a C_b)^(1/2))`. It grows as there are fewer images (by about D / N), so only
    figures of equal numbers of images can be compared.

    Args:
        a: features `(N, D)`, N of 2 or more.
        b: features `(M, D)`.

    Returns:
        0 for equal means and covariances, and more the farther they are apart.

    Raises:
        ValueError: a set has fewer than two rows, the widths differ, or a feature is not finite.

    Example:
        >>> points = np.array([[0.0, 0.0], [2.0, 0.0], [0.0, 2.0], [2.0, 2.0]])
        >>> round(frechet_distance(points, points + [3, 4]), 6)
        25.0
    """
    a, b = _checked(a, b)
    means = a.mean(axis=0), b.mean(axis=0)
    # The trace of the root of C_a C_b is the sum of the singular values of A B^T, for centred rows scaled to C = A^T A.
    rows = [(x - mean) / np.sqrt(len(x) - 1) for x, mean in zip((a, b), means, strict=True)]
    thin = [np.asarray(np.linalg.qr(x, mode="r")) if len(x) > x.shape[1] else x for x in rows]  # of the same C
    root = np.linalg.svd(thin[0] @ thin[1].T, compute_uv=False).sum()
    traces = sum(float((x**2).sum()) for x in thin)
    return max(0.0, float(((means[0] - means[1]) ** 2).sum()) + traces - 2 * float(root))


def maximum_mean_discrepancy(a: Array, b: Array) -> float:
    """Unbiased estimate of the squared maximum mean discrepancy with a Gaussian kernel (Gretton et al. 2012).

    `mean k(a, a') + mean k(b, b') - 2 mean k(a, b)` without the pairs of an image with itself, where `k(x, y) =
    exp(-|x - y|^2 / s)` and s is the median squared distance of both sets taken together, so that the scale of the
    features does not matter. See https://jmlr.org/papers/v13/gretton12a.html, Lemma 6. Unlike the Frechet distance it
    does not depend on the number of images.

    Args:
        a: features `(N, D)`, N of 2 or more; of more than 10,000 rows, so many at even distances are taken.
        b: features `(M, D)`.

    Returns:
        About 0 for samples of one distribution, where it can be a little below; at most 2.

    Raises:
        ValueError: a set has fewer than two rows, the widths differ, or a feature is not finite.

    Example:
        >>> a = np.random.default_rng(0).normal(size=(200, 8))
        >>> round(maximum_mean_discrepancy(a[:100], a[100:]), 3), round(maximum_mean_discrepancy(a, a + 1), 3)
        (-0.004, 0.275)
    """
    a, b = (_evenly(x, MOST_ROWS) for x in _checked(a, b))
    sample = np.concatenate([_evenly(x, MEDIAN_OF) for x in (a, b)])
    distances = _squared_distances(sample, sample)[np.triu_indices(len(sample), k=1)]
    scale = float(np.median(distances)) or float(distances.mean()) or 1.0
    within = [(_kernel_sum(x, x, scale) - len(x)) / (len(x) * (len(x) - 1)) for x in (a, b)]
    return within[0] + within[1] - 2 * _kernel_sum(a, b, scale) / (len(a) * len(b))


def _evenly(rows: Array, most: int) -> Array:
    """All rows, or so many of them at even distances."""
    return rows[np.linspace(0, len(rows) - 1, min(len(rows), most)).astype(int)]


def _checked(a: Array, b: Array) -> tuple[Array, Array]:
    a, b = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1] or min(len(a), len(b)) < 2:
        raise ValueError(f"features {a.shape} and {b.shape}: (N, D) and (M, D) are wanted, with N and M of 2 or more")
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise ValueError("a feature is infinite or no number")
    return a, b


def _squared_distances(a: Array, b: Array) -> Array:
    squares = (a**2).sum(axis=1)[:, None] + (b**2).sum(axis=1)[None]
    return np.maximum(squares - 2 * a @ b.T, 0)


def _kernel_sum(a: Array, b: Array, scale: float) -> float:
    blocks = (a[start : start + BLOCK] for start in range(0, len(a), BLOCK))
    return float(sum(np.exp(-_squared_distances(block, b) / scale).sum() for block in blocks))

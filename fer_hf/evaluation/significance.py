"""Whether one configuration is better than another on the same images: paired bootstrap and exact McNemar.

Resampled images are the same for all runs. Seeds are few, and resampling three of them finds differences where there
are none (up to 18 % of the time instead of 5); so what they vary beyond what the images explain is added to the
resamples as noise of Student's t, as in an analysis of variance.
"""

from collections.abc import Callable, Sequence

import numpy as np
from scipy.stats import binomtest

from fer_hf.metrics import Array, accuracy_of, balanced_accuracy_of, macro_f1_of

RESAMPLES = 10_000
Draws = tuple[Array, Array]
"""A metric of S runs `(S,)`, and its resamples `(R, S)`."""


Metric = Callable[[Array], Array]
METRICS: dict[str, Metric] = {  # of confusion matrices (..., C, C), rows being references
    "accuracy": accuracy_of,
    "balanced_accuracy": balanced_accuracy_of,
    "macro_f1": macro_f1_of,
}


def resampled(
    references: Array, predictions: Array, metric: str | Metric, resamples: int = RESAMPLES
) -> tuple[Array, Array]:
    """A metric of S runs `(S,)`, and on resampled images `(resamples, S)`; ids of classes: `(N,)` and `(S, N)`.

    A metric of several figures, such as one for each class, has them as a last dimension in both. Images on which label
    and all predictions agree are one cell of a multinomial, so none is counted singly.
    """
    cells, counts = np.unique(np.vstack([references, predictions]), axis=1, return_counts=True)
    classes, rng = int(cells.max()) + 1, np.random.default_rng(0)
    figures = METRICS[metric] if isinstance(metric, str) else metric
    one_hot = np.eye(classes**2, dtype=np.float32)[cells[0] * classes + cells[1:]]  # (S, cells, C * C)

    def score(draws: Array) -> Array:
        confusion = (draws.astype(np.float32) @ one_hot).reshape(len(one_hot), -1, classes, classes)
        return figures(confusion).swapaxes(0, 1)

    sizes = [len(part) for part in np.array_split(np.empty(resamples), -(-resamples // 500))]  # 500 at a time
    parts = (rng.multinomial(counts.sum(), counts / counts.sum(), size) for size in sizes)
    return score(counts[None])[0], np.concatenate([score(part) for part in parts])


def contrast(groups: Sequence[Draws], weights: Sequence[float]) -> Array:
    """Resamples `(R,)` of a weighted sum of configurations' means over images and seeds; a group is from `resampled`.

    With the weights 1 and -1 it is a difference. Seeds are taken to vary alike in all groups, those of weight 0 too
    (pooled variance).
    """
    total = sum(weight * draws.mean(axis=1) for weight, (_, draws) in zip(weights, groups, strict=True))
    free = sum(len(scores) - 1 for scores, _ in groups)
    if not free:
        return total
    squares = sum(((scores - scores.mean()) ** 2).sum() for scores, _ in groups)
    by_images = sum(len(s) * (draws.var(axis=0).mean() - draws.mean(axis=1).var()) for s, draws in groups)
    spread = max(0.0, squares - by_images) / free
    factor = sum(weight**2 / len(scores) for weight, (scores, _) in zip(weights, groups, strict=True))
    return total + np.sqrt(spread * factor) * np.random.default_rng(1).standard_t(free, len(total))


def interval(draws: Array) -> tuple[float, float]:
    """The 95 % percentile interval."""
    low, high = np.quantile(draws, [0.025, 0.975])
    return float(low), float(high)


def p_value(differences: Array) -> float:
    """Two-sided: twice the share of resampled differences on the rarer side of 0."""
    rarer = min((differences <= 0).sum(), (differences >= 0).sum())
    return float(min(1.0, 2 * (rarer + 1) / (len(differences) + 1)))


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values corrected for their number, so that the chance of any false finding among them stays the level's.

    After Holm (1979), https://www.jstor.org/stable/4615733.

    Example:
        >>> holm([0.01, 0.04, 0.03])
        [0.03, 0.06, 0.06]
    """
    order = np.argsort(p_values)
    raised = np.array(p_values)[order] * np.arange(len(order), 0, -1)
    corrected = np.empty(len(order))
    corrected[order] = np.minimum(np.maximum.accumulate(raised), 1)
    return corrected.tolist()


def mcnemar(right: Array, other_right: Array) -> float:
    """Exact two-sided p-value from two models' hits `(N,)`: only images that one of them alone gets right count."""
    alone, other_alone = int((right & ~other_right).sum()), int((~right & other_right).sum())
    return float(binomtest(alone, alone + other_alone).pvalue) if alone + other_alone else 1.0

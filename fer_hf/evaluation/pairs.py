"""Every pair of compared configurations: by how much they differ, and whether that is more than chance.

The more pairs are looked at, the more of them differ by chance; so p-values are corrected for their number.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from fer_hf.evaluation.significance import Draws, contrast, holm, interval, mcnemar, p_value
from fer_hf.metrics import Array


@dataclass(frozen=True)
class Pair:
    """Two configurations on the same images; `points` is the metric of the `first` less that of the `second`.

    The 95 % interval, `low` to `high`, is in points too, and not corrected. `p` is that of a paired bootstrap over
    images and seeds, and `mcnemar` that of McNemar's exact test of accuracy, which there is between single runs only.
    Both are corrected by Holm for the number of pairs.
    """

    first: str
    second: str
    points: float
    low: float
    high: float
    p: float
    mcnemar: float | None = None

    @property
    def more_than_chance(self) -> bool:
        return self.p < 0.05


def all_pairs(draws: Mapping[str, Draws], right: Mapping[str, Array]) -> list[Pair]:
    """Test each pair of configurations.

    Args:
        draws: of each configuration, its scores `(S,)` and their resamples `(R, S)` on images that are drawn for all
            configurations together, as `resampled` returns them.
        right: whether its S runs predict the N images right, `(S, N)` bool.

    Returns:
        Each pair once, in the order of the configurations.

    Example:
        >>> import numpy as np
        >>> scores = np.array([[0.5], [0.6], [0.6]])
        >>> draws = {name: (score, np.tile(score, (999, 1))) for name, score in zip("abc", scores)}
        >>> hits = {name: np.arange(10)[None] < 10 * score for name, (score, _) in draws.items()}
        >>> [(pair.first, pair.second, round(pair.points, 1), round(pair.p, 3)) for pair in all_pairs(draws, hits)]
        [('a', 'b', -10.0, 0.006), ('a', 'c', -10.0, 0.006), ('b', 'c', 0.0, 1.0)]
    """
    names = list(combinations(draws, 2))
    found = [contrast([draws[first], draws[second]], [1, -1]) for first, second in names]
    p_values = holm([p_value(differences) for differences in found])
    exact: Sequence[float | None] = [None] * len(names)
    if all(len(hits) == 1 for hits in right.values()):
        exact = holm([mcnemar(right[first][0], right[second][0]) for first, second in names])
    pairs = []
    for (first, second), differences, p, exact_p in zip(names, found, p_values, exact, strict=True):
        points = 100 * float(draws[first][0].mean() - draws[second][0].mean())
        low, high = interval(differences)
        pairs.append(Pair(first, second, points, 100 * low, 100 * high, p, exact_p))
    return pairs

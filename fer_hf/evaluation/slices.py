"""An evaluation by groups of images: how well each is recognised, and whether the gap between them is more than chance.

Everything is computed from a predictions file. Images of one person are alike: where people are known, intervals come
from resampled people, and the test permutes whole people.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from fer_hf.data.splits import GROUPS
from fer_hf.errors import UserError
from fer_hf.evaluation.attributes import Groups, combined, commonest, groups_of
from fer_hf.evaluation.significance import METRICS, holm, interval
from fer_hf.metrics import Array, macro_f1_of
from fer_hf.runs.analyses import FEW_UNITS, SMALL, Estimate, Group, Slices
from fer_hf.runs.predictions import Predictions

RESAMPLES = 2000
PERMUTATIONS = 9_999
AT_ONCE = 101
"""Permutations of people that are in memory at once."""


@dataclass(frozen=True)
class _Images:
    """N images in C classes; `units` `(N,)` tells who or what stays together, and `unit` what that is called."""

    labels: Array
    predicted: Array
    classes: int
    units: Array | None
    unit: str

    @property
    def cells(self) -> Array:
        """The cell of the flat confusion matrix that each image is in `(N,)`."""
        return self.labels * self.classes + self.predicted

    def confusion(self, rows: Array) -> Array:
        """The confusion matrix `(C, C)` of these rows."""
        counts = np.bincount(self.cells[rows], minlength=self.classes**2)
        return counts.reshape(self.classes, self.classes)


def slice_predictions(data: Predictions, by: Sequence[Sequence[str]], evaluation: str = "") -> list[Slices]:
    """Slice predictions by attributes, and correct the tests for their number.

    Args:
        data: the predictions, with attributes.
        by: attributes, each alone or several together, as `[("gender",), ("gender", "age")]`.
        evaluation: the key of the evaluation that the predictions are of.

    Returns:
        A record for each of `by`, in its order. Groups are in the order of their values.

    Raises:
        UserError: an attribute is not known of any image, or a logit is no number.

    Example:
        >>> logits = np.eye(2)[[0] * 60 + [1] * 60 + [0] * 60]
        >>> labels = np.repeat([0, 1], [60, 120])
        >>> genders = ["female", "male", "male"] * 20 + ["female"] * 60 + ["male"] * 60
        >>> data = Predictions([*map(str, range(180))], labels, logits, ("happy", "sad"), {"gender": genders})
        >>> [slices] = slice_predictions(data, [("gender",)])
        >>> [(group.values, group.images, round(group.accuracy.value, 2)) for group in slices.groups]
        [(('female',), 80, 1.0), (('male',), 100, 0.4)]
        >>> round(slices.gap.value, 2), slices.p < 0.05
        (0.6, True)
    """
    known = _known_groups(data, by)
    column = next((name for name in GROUPS if any(data.attributes.get(name, []))), None)
    units = _units(data.attributes[column]) if column else None
    images = _Images(data.labels, data.predicted, len(data.label_names), units, GROUPS.get(column or "", "image"))
    result = []
    for names in by:
        # With one person in each group there would be no other way to deal them out.
        kept = images if column not in names else replace(images, units=None, unit="image")
        sliced = _slice(kept, combined([known[name] for name in names]), data.label_names)
        result.append(replace(sliced, evaluation=evaluation, attributes=tuple(names)))
    p_values = [slices.p for slices in result if slices.p is not None]
    corrected = iter(holm(p_values))
    return [s if s.p is None else replace(s, p=next(corrected), tested=len(p_values)) for s in result]


def _known_groups(data: Predictions, by: Sequence[Sequence[str]]) -> dict[str, Groups]:
    """The groups of each attribute in `by`. Raises `UserError` for predictions or attributes that are no good."""
    if not np.isfinite(data.logits).all():
        rows = np.flatnonzero(~np.isfinite(data.logits).all(axis=1))
        raise UserError(f"{len(rows):,} of the predictions, such as that of {data.ids[rows[0]]!r}, are no numbers.")
    known = {}
    for name in dict.fromkeys(name for names in by for name in names):
        known[name] = groups_of(name, data.attributes.get(name, []))
        if not any(group is not None for group in known[name]):
            there = ", ".join(name for name in data.attributes if name != "soft_label") or "none"
            raise UserError(f"Of no image is {name!r} known. Attributes that the predictions have: {there}.")
    return known


def _units(values: Sequence[str | None]) -> Array:
    """The number of the person of each image `(N,)`; an image of nobody who is known stands alone."""
    names = [f"?{row}" if value is None else f"={value}" for row, value in enumerate(values)]
    return np.unique(names, return_inverse=True)[1]


def _slice(images: _Images, groups: Sequence[tuple[str, ...] | None], label_names: Sequence[str]) -> Slices:
    """The record of one way to slice, without names."""
    shown = commonest(groups)
    place = {group: number for number, group in enumerate(shown)}
    group_of = np.array([-1 if group is None else place.get(group, -2) for group in groups])
    members = [np.flatnonzero(group_of == number) for number in range(len(shown))]
    recall, rng = _rates(images.confusion(np.arange(len(groups))))[0], np.random.default_rng(0)
    scores, rows = [_resampled(images, rows, rng) for rows in members], list[Group]()
    for values, chosen, (accuracies, f1s) in zip(shown, members, scores, strict=True):
        units = None if images.units is None else len(np.unique(images.units[chosen]))
        small = len(chosen) < SMALL or (units is not None and units < FEW_UNITS)
        expected = float(recall[images.labels[chosen]].mean())
        rows.append(Group(values, len(chosen), _estimate(accuracies), _estimate(f1s), small, expected, units))
    slices = Slices("", (), rows, unknown=int((group_of == -1).sum()), others=int((group_of == -2).sum()))
    large = [number for number, row in enumerate(rows) if not row.small]
    if len(large) < 2:
        return slices
    best, *_, worst = sorted(large, key=lambda number: -rows[number].accuracy.value)
    there = np.isin(group_of, large)
    right, kept = images.labels == images.predicted, None if images.units is None else images.units[there]
    difference, where = equalised_odds_difference(np.stack([images.confusion(members[n]) for n in large]), label_names)
    return replace(
        slices,
        gap=_estimate(scores[best][0] - scores[worst][0]),
        best=shown[best],
        worst=shown[worst],
        p=gap_p_value(right[there], group_of[there], kept),
        permuted=images.unit,
        equalised_odds_difference=difference,
        equalised_odds_at=where,
    )


def _resampled(images: _Images, rows: Array, rng: np.random.Generator) -> tuple[Array, Array]:
    """Accuracy and macro F1 of a group, each `(1 + RESAMPLES,)`: of the group itself, then of resamples of it."""
    cells, size = images.cells[rows], images.classes**2
    if images.units is None:  # images in one cell are alike, so they are drawn together
        counts: Array = np.bincount(cells, minlength=size)
        draws: Array = rng.multinomial(len(rows), counts / len(rows), size=RESAMPLES)
    else:
        people, number = np.unique(images.units[rows], return_inverse=True)
        of_each = np.zeros((len(people), size))
        np.add.at(of_each, (number, cells), 1)
        counts = of_each.sum(axis=0)
        draws = rng.multinomial(len(people), np.full(len(people), 1 / len(people)), size=RESAMPLES) @ of_each
    confusion = np.vstack([counts, draws]).reshape(-1, images.classes, images.classes)
    return METRICS["accuracy"](confusion), macro_f1_of(confusion)


def _estimate(values: Array) -> Estimate:
    """The first value, and the interval of the others."""
    return Estimate(float(values[0]), *interval(values[1:]))


def gap_p_value(right: Array, groups: Array, units: Array | None = None) -> float:
    """The chance of a gap as large as this between the best and the worst group, if groups did not matter.

    Groups are dealt out anew, in their sizes: over single images, or over the images that one person has in one group,
    which stay together. A person whose images are in several groups is cut, which makes the test conservative.

    Args:
        right: whether each image is recognised `(N,)`.
        groups: the number of the group of each `(N,)`.
        units: the number of the person of each `(N,)`; None: images are independent.

    Returns:
        The share of 9,999 permutations, and of what was seen, whose gap is as large.

    Example:
        >>> gap_p_value(np.repeat([True, False, True, False], [42, 8, 30, 20]), np.repeat([0, 1], 50)) < 0.05
        True
    """
    groups = np.unique(groups, return_inverse=True)[1]
    sizes, hits = np.bincount(groups), np.bincount(groups, weights=right)
    seen, rng = np.ptp(hits / sizes), np.random.default_rng(0)
    if units is None:  # who is right is then a draw without replacement
        gaps = np.ptp(rng.multivariate_hypergeometric(sizes, int(right.sum()), size=PERMUTATIONS) / sizes, axis=1)
    else:
        pairs, number = np.unique(np.stack([units, groups]), axis=1, return_inverse=True)
        together = np.stack([np.bincount(number.ravel()), np.bincount(number.ravel(), weights=right)], axis=1)
        times = [AT_ONCE] * (PERMUTATIONS // AT_ONCE)
        gaps = np.concatenate([_dealt(pairs[1], together, len(sizes), part, rng) for part in times])
    return float((1 + (gaps >= seen - 1e-9).sum()) / (1 + len(gaps)))


def _dealt(groups: Array, together: Array, number: int, times: int, rng: np.random.Generator) -> Array:
    """The gap `(times,)` with the groups of U people `(U,)` dealt out anew; their images and hits are `(U, 2)`."""
    dealt = rng.permuted(np.tile(groups, (times, 1)), axis=1)
    sums = np.stack([(dealt == group) @ together for group in range(number)])  # (groups, times, 2)
    return np.ptp(sums[..., 1] / sums[..., 0], axis=0)


def _rates(confusion: Array) -> tuple[Array, Array, Array, Array]:
    """True and false positive rates `(..., C)` of confusion matrices, and of how many images each is."""
    images, predicted = confusion.sum(axis=-1), confusion.sum(axis=-2)
    hits = np.diagonal(confusion, axis1=-2, axis2=-1)
    others = images.sum(axis=-1, keepdims=True) - images
    return hits / np.maximum(images, 1), (predicted - hits) / np.maximum(others, 1), images, others


def equalised_odds_difference(confusion: Array, label_names: Sequence[str]) -> tuple[float | None, str | None]:
    """The largest difference between groups of a class's true or false positive rate, one class against the others.

    After Hardt et al. 2016, https://arxiv.org/abs/1610.02413, as `fairlearn.metrics.equalized_odds_difference` has it
    for two classes. A rate of fewer than 30 images is left out: of a handful, it differs by chance. Being the largest
    of many, the difference is above 0 by chance too; and a false positive rate also depends on which of the other
    classes a group shows.

    Args:
        confusion: of G groups `(G, C, C)`; a row is a true class, a column a predicted one.
        label_names: of the C classes.

    Returns:
        The difference in [0, 1], and whose it is, as "recall of sad"; None where no rate is known of two groups.

    Example:
        >>> groups = np.array([[[40, 10], [0, 50]], [[30, 20], [5, 45]]])
        >>> value, where = equalised_odds_difference(groups, ("happy", "sad"))
        >>> round(value, 3), where
        (0.2, 'recall of happy')
    """
    recall, false, images, others = _rates(confusion)
    best: tuple[float | None, str | None] = None, None
    for rate, of, what in ((recall, images, "recall"), (false, others, "false positives")):
        for place, name in enumerate(label_names):
            values = rate[of[:, place] >= SMALL, place]
            if len(values) > 1 and (best[0] is None or np.ptp(values) > best[0]):
                best = float(np.ptp(values)), f"{what} of {name}"
    return best

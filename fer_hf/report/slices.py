"""What slices say: a table of the groups, and sentences on the gap between them."""

from collections.abc import Sequence

from fer_hf.report.markdown import counted, percent
from fer_hf.runs.analyses import FEW_UNITS, SMALL, Group, Slices

MORE_THAN_CHANCE = 0.05
"""The p-value below which a gap is called that."""


def group_name(values: Sequence[str]) -> str:
    """A group in words: `female, 20-39`."""
    return ", ".join(values)


def slice_cells(slices: Slices) -> tuple[list[str], list[list[str]]]:
    """The header of the table of groups, and a row of cells for each; `*` marks the small ones."""
    header = [" and ".join(slices.attributes), "images", "accuracy [95 %]", "expected", "macro F1 [95 %]"]
    rows = []
    for group in slices.groups:
        accuracy, f1 = group.accuracy, group.macro_f1
        rows.append(
            [
                group_name(group.values) + " *" * group.small,
                f"{group.images:,}" + (f" of {group.units:,}" if group.units else ""),
                percent(accuracy.value, (accuracy.low, accuracy.high)),
                percent(group.expected),
                percent(f1.value, (f1.low, f1.high)),
            ]
        )
    return header, rows


def slice_sentences(slices: Slices) -> list[str]:
    """What the figures say of the gap between the groups, and what they leave out.

    Example:
        >>> from fer_hf.runs.analyses import Estimate
        >>> estimates = Estimate(0.8, 0.75, 0.85), Estimate(0.7, 0.65, 0.75)
        >>> groups = [Group((name,), 250, one, one, False, 0.75) for name, one in zip(("old", "young"), estimates)]
        >>> gap = Estimate(0.1, 0.03, 0.17)
        >>> slices = Slices("", ("age",), groups, gap, ("old",), ("young",), 0.01, 0.12, 4, "recall of sad", 0, "image")
        >>> for sentence in slice_sentences(slices): print(sentence)
        Accuracy is 10.0 points [3.0, 17.0] higher for old (80.0%) than for young (70.0%): more than chance (p = 0.01).
        The classes that their images show would alone make a difference of 0.0 points.
        Equalised odds: the recall of sad differs by 12.0 points between two groups, the most of all classes and rates.
        Of 4 images age is not known.
    """
    sentences = gap_sentences(slices)
    if any(group.small for group in slices.groups):
        people = any(group.units for group in slices.groups)
        few = f" or fewer than {FEW_UNITS} {slices_unit(slices)}" if people else ""
        sentences.append(f"* Fewer than {SMALL} images{few}: too few to compare.")
    if slices.unknown:
        sentences.append(f"Of {counted(slices.unknown, 'image')} {' or '.join(slices.attributes)} is not known.")
    if slices.others:
        sentences.append(
            f"{counted(slices.others, 'image')} of rarer values are left out: only the commonest are shown."
        )
    return sentences


def slices_unit(slices: Slices) -> str:
    """Who or what images are from, in the plural."""
    return {"person": "people", "picture": "pictures", "photograph": "photographs"}.get(slices.permuted or "", "people")


def gap_sentences(slices: Slices) -> list[str]:
    """Sentences on the best and the worst group, or why there are none."""
    if slices.gap is None or slices.p is None:
        large = sum(not group.small for group in slices.groups)
        return [f"There is no gap to measure: {'only one' if large else 'no'} group is large enough."]
    best, worst = (_find(slices, values) for values in (slices.best, slices.worst))
    gap, p = slices.gap, "p < 0.001" if slices.p < 0.001 else f"p = {slices.p:.2g}"
    corrected = f", corrected for {slices.tested} gaps" if slices.tested > 1 else ""
    whole = f", {slices_unit(slices)} kept whole" if slices.permuted not in (None, "image") else ""
    verdict = "more than chance" if slices.p < MORE_THAN_CHANCE else "chance could explain it"
    sentences = [
        f"Accuracy is {_points(gap.value)} [{100 * gap.low:.1f}, {100 * gap.high:.1f}] higher for "
        f"{group_name(best.values)} ({percent(best.accuracy.value)}) than for {group_name(worst.values)} "
        f"({percent(worst.accuracy.value)}): {verdict} ({p}{corrected}{whole})."
    ]
    if gap.low > 0 and slices.p >= MORE_THAN_CHANCE:
        sentences.append("The interval is of two groups chosen by their figures; the test allows for that choice.")
    if best.expected is not None and worst.expected is not None:
        explained = _points(best.expected - worst.expected)
        sentences.append(f"The classes that their images show would alone make a difference of {explained}.")
    if slices.equalised_odds_difference is not None:
        sentences.append(
            f"Equalised odds: the {_rate(slices.equalised_odds_at)} differs by "
            f"{_points(slices.equalised_odds_difference)} between two groups, the most of all classes and rates."
        )
    return sentences


def _find(slices: Slices, values: Sequence[str]) -> Group:
    return next(group for group in slices.groups if tuple(group.values) == tuple(values))


def _points(share: float) -> str:
    return f"{100 * share + 0.0:.1f} points"


def _rate(where: str | None) -> str:
    """`false positives of sad` as a rate."""
    return (where or "").replace("false positives of", "false positive rate of")

"""The groups that an attribute of the images makes: its values, or ranges of them where they are numbers."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np

from fer_hf.data.splits import GROUPS
from fer_hf.metrics import Array
from fer_hf.runs.predictions import PERSONAL

BINS = 4
"""Ranges that numbers are cut into, of about equally many images."""
MOST_NUMBERS = 8
"""Different numbers up to which each is a group of its own, such as an intensity from 1 to 5."""
MOST_GROUPS = 20
"""Groups that a table and a figure can still show."""
Groups = list[str | None]


def groups_of(name: str, values: Sequence[Any]) -> Groups:
    """The group of each image by one attribute, None where its value is not known.

    Text is its own group. Numbers, also those that are stored as text, are cut at their quantiles when there are more
    than eight different ones, unless they are names, as those of people are.

    Args:
        name: the attribute, such as "age".
        values: one for each image.

    Example:
        >>> groups_of("gender", ["female", None, "male"])
        ['female', None, 'male']
        >>> sorted({*groups_of("age", [*map(str, range(18, 58))])})
        ['18 to 27', '28 to 37', '38 to 47', '48 to 57']
    """
    values = [None if value is None or value != value else value for value in values]  # NaN differs from itself
    numbers = None if name in GROUPS else _numbers(values)
    if numbers is None or len(np.unique(numbers[np.isfinite(numbers)])) <= MOST_NUMBERS:
        return [None if v is None else f"{v:g}" if isinstance(v, float) else str(v) for v in values]
    known = np.isfinite(numbers)
    limits = np.unique(np.quantile(numbers[known], np.linspace(0, 1, BINS + 1)[1:-1]))
    bins = np.searchsorted(limits, numbers, side="left")
    ranges = [numbers[known & (bins == place)] for place in range(len(limits) + 1)]
    names = _range_names([(part.min(), part.max()) if len(part) else None for part in ranges])
    return [names[place] if there else None for place, there in zip(bins, known, strict=True)]


def _numbers(values: Sequence[Any]) -> Array | None:
    """The values as numbers, NaN where there is none; None when one of them is something else."""
    try:
        numbers = np.array([np.nan if value is None else float(value) for value in values])
    except (TypeError, ValueError):
        return None
    return None if np.isinf(numbers).any() else numbers


def _range_names(ranges: Sequence[tuple[float, float] | None]) -> list[str]:
    """`0.31 to 0.42`, with as many decimals, from two on, as tell the ranges apart; whole numbers have none."""
    ends = [end for each in ranges if each for end in each]
    for digits in (0,) if all(float(end).is_integer() for end in ends) else range(2, 10):
        shown = [tuple(f"{end:.{digits}f}" for end in each) if each else ("", "") for each in ranges]
        names = [low if low == high else f"{low} to {high}" for low, high in shown]
        if len({*names}) == len(names):
            break
    return names


def combined(columns: Sequence[Groups]) -> list[tuple[str, ...] | None]:
    """The group of each image by several attributes together, None where one of them is not known.

    Example:
        >>> combined([["female", "male", None], ["0-3", "70+", "70+"]])
        [('female', '0-3'), ('male', '70+'), None]
    """
    return [None if None in row else row for row in zip(*columns, strict=True)]


def commonest(groups: Iterable[tuple[str, ...] | None]) -> list[tuple[str, ...]]:
    """The groups with most images, at most twenty, in the order of their values; ranges of numbers by size."""
    counts = Counter(group for group in groups if group is not None)
    return sorted((group for group, _ in counts.most_common(MOST_GROUPS)), key=lambda group: [*map(_order, group)])


def _order(value: str) -> tuple[float, str]:
    """Where a value stands in a list: numbers, and ranges and brackets by their first number, before text."""
    first = value.replace("+", " ").partition(" ")[0]
    first = first[:1] + first[1:].partition("-")[0]  # of "20-39", but not of "-0.31"
    try:
        return float(first), value
    except ValueError:
        return np.inf, value


def usual(attributes: Mapping[str, Sequence[Any]]) -> list[tuple[str, ...]]:
    """By what predictions are sliced when nobody says: each attribute that makes groups, and pairs of personal ones.

    What only tells people and pictures apart makes none, nor do texts of more than twenty values.

    Args:
        attributes: the values of each, one for each image.

    Example:
        >>> usual({"gender": ["female", "male"], "age": ["0-3", "70+"], "subject": ["S1", "S2"], "city": ["x", "x"]})
        [('gender',), ('age',), ('gender', 'age')]
    """
    grouped = {
        name: {group for group in groups_of(name, values) if group is not None}
        for name, values in attributes.items()
        if name not in (*GROUPS, "soft_label")
    }
    single = [name for name, groups in grouped.items() if 2 <= len(groups) <= MOST_GROUPS]
    return [(name,) for name in single] + [*combinations([name for name in PERSONAL if name in single], 2)]

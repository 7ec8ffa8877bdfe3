"""Subsets: images left out by a list, and smaller training sets of a chosen make-up.

Everything is drawn class by class and seeded, so that two subsets of one experiment differ in what was asked and in
nothing else.
"""

from collections.abc import Container, Mapping
from pathlib import Path

import numpy as np
from datasets import Dataset

from fer_hf.data.columns import RESERVED
from fer_hf.data.splits import SPLITS
from fer_hf.errors import UserError
from fer_hf.files import read_csv

Mixture = Mapping[str, Mapping[str, float]]
SUBSETS = {"per_class": "train", "validation_per_class": "validation", "test_per_class": "test"}
"""The keys of the section `data` that limit the images of each class, and the split that each is of."""


def read_exclude(path: str | Path) -> set[tuple[str, str]]:
    """The `(split, id)` pairs of a csv with the columns `split` and `id`, as `fer-hf data audit` writes it."""
    file = Path(path).expanduser()
    if not file.is_file():
        raise UserError(f"data.exclude: there is no file {str(path)!r}. `fer-hf data audit` writes one.")
    bad: dict[str, str] = {}
    pairs = {(row["split"], row["id"]) for _, _, row in read_csv(file, ("split", "id"), bad)}
    if bad or (unknown := {split for split, _ in pairs} - set(SPLITS)):
        reason = "; ".join(f"{where}: {why}" for where, why in bad.items()) or f"no split is called {min(unknown)!r}"
        raise UserError(f"data.exclude: {str(path)!r}: {reason}.")
    return pairs


def without(data: Dataset, ids: Container[str]) -> Dataset:
    """The rows whose id is not in `ids`."""
    return data.select([row for row, name in enumerate(data["id"][:]) if name not in ids])


def thin_out(
    train: Dataset,
    mixture: Mixture | None = None,
    fraction: float | None = None,
    per_class: int | None = None,
    seed: int = 0,
    name: str = "training",
) -> tuple[Dataset, list[str]]:
    """A smaller split, most often of training images, in the old order, and a sentence on how it was drawn.

    `mixture`, such as `{"gender": {"female": 0.75, "male": 0.25}}`, draws each class with these shares of an attribute.
    The size of a class is the largest at which every mixture of the named values can be drawn (its number of images of
    the rarest value), so runs that differ in the mixture alone have equal size and equal class shares; name a value
    with share 0 to leave it out. `fraction` then keeps that share of each class, `per_class` at most so many images.
    Images are drawn without replacement; a larger subset holds the smaller one of the same seed.
    """
    if mixture is None and fraction is None and per_class is None:
        return train, []
    attribute, shares = _shares(train, mixture)
    values = np.asarray(train[attribute][:] if attribute else [""] * len(train), dtype=object)
    labels = np.asarray(train["label"][:])
    order = np.random.default_rng(seed).permutation(len(train))
    chosen: list[int] = []
    for label in np.unique(labels):
        members = {value: [row for row in order if labels[row] == label and values[row] == value] for value in shares}
        size = min(map(len, members.values()))
        size = max(1, round(size * fraction)) if fraction is not None and size else size
        size = min(size, per_class) if per_class is not None else size
        if not size:
            name = train.features["label"].names[label]
            rare = min(members, key=lambda value: len(members[value]))
            raise UserError(
                f"data.mixture: the class {name!r} has no training image with {attribute} {rare!r}. "
                "Leave the class out with data.label_set."
            )
        for value, count in _round(shares, size).items():
            chosen += members[value][:count]
    parts = [
        f"{attribute} " + ", ".join(f"{value} {share:.0%}" for value, share in shares.items()) if attribute else "",
        f"{fraction:.0%} of each class" if fraction is not None else "",
        f"at most {per_class:,} images of each class" if per_class is not None else "",
    ]
    note = (
        f"The {name} split is a subset of {len(chosen):,} of {len(train):,} images, drawn by class with seed {seed}: "
        f"{'; '.join(part for part in parts if part)}."
    )
    return train.select(sorted(int(row) for row in chosen)), [note]


def _shares(train: Dataset, mixture: Mixture | None) -> tuple[str, dict[str, float]]:
    """The attribute of a mixture and its shares; without one, every image has the same value."""
    if mixture is None:
        return "", {"": 1.0}
    [(attribute, shares)] = mixture.items()
    known = [name for name in train.column_names if name not in RESERVED]
    if attribute not in known:
        has = ", ".join(known) or "no attributes"
        raise UserError(f"data.mixture: the faces have no {attribute!r}; they have {has}.")
    known_values = {value for value in train[attribute][:] if value is not None}
    if unknown := [value for value in shares if value not in known_values]:
        there = ", ".join(sorted(map(str, known_values)))[:200]
        raise UserError(f"data.mixture: no training image has {attribute} {unknown[0]!r}; there are {there}.")
    return attribute, dict(shares)


def _round(shares: Mapping[str, float], size: int) -> dict[str, int]:
    """Whole numbers that add up to `size`, as near to the shares as can be (the largest remainders are rounded up)."""
    exact = {value: share * size for value, share in shares.items()}
    counts = {value: int(share) for value, share in exact.items()}
    rest = sorted(exact, key=lambda value: counts[value] - exact[value])
    for value in rest[: size - sum(counts.values())]:
        counts[value] += 1
    return counts

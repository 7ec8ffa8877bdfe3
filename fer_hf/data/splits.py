"""Splits: what a source hands over, what splits are called in the field, and how missing ones are made."""

from dataclasses import dataclass, field

import numpy as np
from datasets import Dataset

from fer_hf.errors import UserError

SPLITS = ("train", "validation", "test")

SPLIT_ALIASES = {
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "dev": "validation",
    "publictest": "validation",  # FER2013's official names
    "testing": "test",
    "privatetest": "test",
}

SPLIT_HELP = "train (training), validation (val, valid, dev), test (testing)"


@dataclass
class Raw:
    """What a source found, before `load_faces` aligns and checks it.

    `splits` holds those of train, validation and test that the source has. Their columns: `image` (`datasets.Image`),
    `label` (`ClassLabel` with the source's own names in its own order, -1 where there is no label) and `id` (str).
    `bad` maps the id of each record that could not be read to the reason.
    """

    splits: dict[str, Dataset]
    dataset: str
    hub_id: str | None = None
    license: str | None = None
    notes: list[str] = field(default_factory=list)
    bad: dict[str, str] = field(default_factory=dict)


def split_name(name: str) -> str | None:
    """The split that a folder, file or Hub split of this name holds (case does not matter), or None."""
    key = name.lower()
    key = SPLIT_ALIASES.get(key, key)
    return key if key in SPLITS else None


def add_missing(
    splits: dict[str, Dataset], validation_fraction: float, test_fraction: float, seed: int
) -> tuple[dict[str, Dataset], list[str]]:
    """All three splits, with missing ones set aside from `train` by class, and a sentence for each one made.

    Every class gives the fraction of its own images, and at least one image, to each split that is made: a plain
    stratified draw would give a class of five images nothing at 10 %. The same images, fractions and seed give the
    same splits. Raises `UserError` when a class is too small for it, and when there is no train split at all.
    """
    if "train" not in splits:
        raise UserError(f"There is no train split, only {', '.join(splits) or 'nothing'}. Split names: {SPLIT_HELP}.")
    fractions = {"validation": validation_fraction, "test": test_fraction}
    for name, fraction in fractions.items():
        if not 0 < fraction < 1:
            raise UserError(f"data.{name}_fraction is {fraction}: it has to lie between 0 and 1, such as 0.1.")
    missing = {name: fraction for name, fraction in fractions.items() if name not in splits}
    if not missing:
        return {name: splits[name] for name in SPLITS}, []

    train = splits["train"]
    class_names = train.features["label"].names
    labels = np.asarray(train["label"][:])
    rng = np.random.default_rng(seed)
    rows: dict[str, list[int]] = {name: [] for name in ("train", *missing)}
    for label in np.unique(labels):
        members = rng.permutation(np.flatnonzero(labels == label))
        total = len(members)
        for name, fraction in missing.items():
            count = max(1, round(fraction * total))
            rows[name].extend(members[:count])
            members = members[count:]
        if not len(members):
            raise UserError(
                f"The class {class_names[label]!r} has {total} training image(s): too few to set some aside for "
                f"{' and '.join(missing)} and keep one. Add images, leave the class out, or bring splits of your own: "
                f"{SPLIT_HELP}."
            )
        rows["train"].extend(members)

    made = {name: train.select(sorted(indices)) for name, indices in rows.items()}
    notes = [
        f"The dataset has no {name} split of its own: {len(made[name]):,} of its {len(train):,} training images "
        f"({fraction:.0%} of each class, seed {seed}) were set aside. They were drawn image by image, so one person "
        "may stand on both sides, and figures on this split may be too good."
        for name, fraction in missing.items()
    ]
    return {name: made.get(name, splits.get(name)) for name in SPLITS}, notes

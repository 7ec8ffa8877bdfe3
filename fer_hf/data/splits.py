"""Splits: what they are called in the field, and how missing ones are made."""

import numpy as np
from datasets import Dataset
from sklearn.model_selection import StratifiedGroupKFold

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


def split_name(name: str) -> str | None:
    """The split that a folder, file or Hub split of this name holds (case does not matter), or None."""
    key = name.lower()
    key = SPLIT_ALIASES.get(key, key)
    return key if key in SPLITS else None


def add_missing(
    splits: dict[str, Dataset], fractions: dict[str, float], seed: int
) -> tuple[dict[str, Dataset], list[str]]:
    """All three splits, with missing ones set aside from `train`, and a sentence for each one made.

    `fractions` says for "validation" and "test" which share of the training images is set aside.

    Where the images have a `subject`, each person stands on one side only, and class shares are as near as that
    allows. Otherwise every class gives the fraction of its own images, and at least one, to each split that is made:
    a plain stratified draw would give a class of five images nothing at 10 %. The same images, fractions and seed give
    the same splits. Raises `UserError` when a class is too small for it, and when there is no train split at all.
    """
    if "train" not in splits:
        raise UserError(f"There is no train split, only {', '.join(splits) or 'nothing'}. Split names: {SPLIT_HELP}.")
    missing = {name: fraction for name, fraction in fractions.items() if name not in splits}
    if not missing:
        return {name: splits[name] for name in SPLITS}, []

    train = splits["train"]
    by_person = "subject" in train.column_names and any(train["subject"][:])
    rows = _rows_by_person(train, missing, seed) if by_person else _rows_by_class(train, missing, seed)
    made = {name: train.select(sorted(indices)) for name, indices in rows.items()}
    how = (
        "No person stands in two of the splits made."
        if by_person
        else "They were drawn image by image, so one person may stand on both sides, and figures on this split may be "
        "too good."
    )
    notes = [
        f"The dataset has no {name} split of its own: {len(made[name]):,} of its {len(train):,} training images "
        f"({'about ' if by_person else ''}{fraction:.0%}{'' if by_person else ' of each class'}, seed {seed}) were set "
        f"aside. {how}"
        for name, fraction in missing.items()
    ]
    return {name: made.get(name, splits.get(name)) for name in SPLITS}, notes


def _rows_by_class(train: Dataset, missing: dict[str, float], seed: int) -> dict[str, list[int]]:
    """Row numbers per split, each class giving the same share of its images."""
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
                f"The class {train.features['label'].names[label]!r} has {total} training image(s): too few to set "
                f"some aside for {' and '.join(missing)} and keep one. Add images, leave the class out, or bring "
                f"splits of your own: {SPLIT_HELP}."
            )
        rows["train"].extend(members)
    return rows


def people(data: Dataset) -> list[str]:
    """Who each image shows; an image without `subject` is a person of its own, however often it occurs."""
    subjects = data["subject"][:] if "subject" in data.column_names else [None] * len(data)
    return [subject or f"\0{name}" for name, subject in zip(data["id"][:], subjects, strict=True)]


def _rows_by_person(train: Dataset, missing: dict[str, float], seed: int) -> dict[str, list[int]]:
    """Row numbers per split."""
    labels = np.asarray(train["label"][:])
    groups = np.unique(people(train), return_inverse=True)[1]
    rest, rows = np.arange(len(labels)), dict[str, list[int]]()
    share = 1.0
    for name, fraction in missing.items():
        most = min(len(np.unique(groups[rest])), np.bincount(labels[rest]).max())  # what the splitter can do
        folds = min(max(2, round(share / fraction)), most)
        if folds < 2:
            raise UserError(f"There are too few people in {len(labels)} images to set some aside for {name}.")
        splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
        keep, chosen = next(splitter.split(rest, labels[rest], groups[rest]))
        rows[name], rest, share = rest[chosen].tolist(), rest[keep], share - fraction
    return {"train": rest.tolist(), **rows}

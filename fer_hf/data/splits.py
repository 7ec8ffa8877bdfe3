"""Splits: what a source hands over, what splits are called in the field, and how missing ones are made."""

from collections.abc import Sequence as Items
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from datasets import ClassLabel, Dataset, Features, Image, Sequence, Value
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

# What a source may know of an image beside `image`, `label` and `id`; None where it does not know. `soft_label` has one
# probability per class, in the order of the label names. Valence and arousal run from -1 to 1.
ATTRIBUTES = {
    "gender": Value("string"),
    "age": Value("string"),
    "race": Value("string"),
    "valence": Value("float32"),
    "arousal": Value("float32"),
    "subject": Value("string"),
}


@dataclass
class Raw:
    """What a source found, before `load_faces` aligns and checks it.

    `splits` holds those of train, validation and test that the source has. Their columns: `image` (`datasets.Image`),
    `label` (`ClassLabel` with the source's own names in its own order, -1 where there is no label), `id` (str, unique
    in its split) and any of `soft_label` and `ATTRIBUTES`. `bad` maps the id of each record that could not be read to
    the reason.
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


def make_split(names: Items[str], image: list[Any], label: list[int], id: list[str], **known: list[Any]) -> Dataset:
    """A split of `Raw`: `image` holds absolute paths, or encoded images as bytes; `label` indexes `names`.

    `known` are further columns: `soft_label` or any of `ATTRIBUTES`.
    """
    features = Features(image=Image(), label=ClassLabel(names=list(names)), id=Value("string"))
    for name in known:
        features[name] = ATTRIBUTES.get(name) or Sequence(Value("float32"), length=len(names))
    if image and isinstance(image[0], bytes):
        image = [{"bytes": content, "path": None} for content in image]
    return Dataset.from_dict({"image": image, "label": label, "id": id, **known}, features=features)


def add_missing(
    splits: dict[str, Dataset], validation_fraction: float, test_fraction: float, seed: int
) -> tuple[dict[str, Dataset], list[str]]:
    """All three splits, with missing ones set aside from `train`, and a sentence for each one made.

    Where the images have a `subject`, each person stands on one side only, and class shares are as near as that
    allows. Otherwise every class gives the fraction of its own images, and at least one, to each split that is made:
    a plain stratified draw would give a class of five images nothing at 10 %. The same images, fractions and seed give
    the same splits. Raises `UserError` when a class is too small for it, and when there is no train split at all.
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

"""Splits: what they are called in the field, and how missing ones are made."""

from collections.abc import Iterable

import numpy as np
from datasets import Dataset
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
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
GROUPS = {"subject": "person", "picture": "picture", "photograph": "photograph"}
"""Columns whose values tell which images belong together, and in words: one person, or cells of one picture."""
SPLIT_HELP = "train (training), validation (val, valid, dev), test (testing)"


def split_name(name: str) -> str | None:
    """The split that a folder, file or Hub split of this name holds (case does not matter), or None."""
    key = name.lower()
    key = SPLIT_ALIASES.get(key, key)
    return key if key in SPLITS else None


def add_missing(
    splits: dict[str, Dataset], fractions: dict[str, float], seed: int
) -> tuple[dict[str, Dataset], list[str]]:
    """The splits that are missing, set aside from `train`, with the others, and a sentence for each one.

    `fractions` says for "validation" and "test" which share of the training images is set aside; 0 makes no such split.

    Images of one group (`GROUPS`) stand on one side only: a person, or the cells that a picture was cut into. Every
    class gives the fraction of its own images or pictures, and at least one, to each split that is made: a plain
    stratified draw would give a class of five images nothing at 10 %. Where groups hold several classes, as people do,
    class shares are as near as they allow. The same images, fractions and seed give the same splits. Raises `UserError`
    when a class is too small for it, and when there is no train split at all.
    """
    if "train" not in splits:
        there = f"only {', '.join(splits)}" if splits else "nor any other"
        raise UserError(f"There is no train split, {there}. Split names: {SPLIT_HELP}.")
    train = splits["train"]
    missing = {name: fraction for name, fraction in fractions.items() if name not in splits and fraction}
    kinds = [column for column in GROUPS if column in train.column_names and any(train[column][:])]
    notes = [
        f"No {name} split was made, as data.{name}_fraction is 0: there are no figures on one."
        for name, fraction in fractions.items()
        if name not in splits and not fraction
    ]
    notes += _shared(splits, kinds)
    rows = _rows(train, missing, seed) if missing else {}
    made = {name: train.select(sorted(indices)) for name, indices in rows.items()}
    words = " and no ".join(GROUPS[column] for column in kinds)
    how = (
        f"No {words} stands in two of the splits made.{'' if 'subject' in kinds else ' One person may.'}"
        if kinds
        else "They were drawn image by image, so one person may stand on both sides, and figures on this split may be "
        "too good."
    )
    notes += [
        f"The dataset has no {name} split of its own: {len(made[name]):,} of its {len(train):,} training images "
        f"({'about ' if kinds else ''}{len(made[name]) / len(train) if kinds else fraction:.0%}"
        f"{'' if kinds else ' of each class'}, seed {seed}) were set aside. {how}"
        for name, fraction in missing.items()
    ]
    return {name: made.get(name, splits.get(name)) for name in SPLITS if name in made or name in splits}, notes


def groups(data: Dataset) -> NDArray[np.intp]:
    """The number of the group of each image `(N,)`, counted as they come.

    Images that share a person, a picture or an id are of one group, and so are those that a third one ties together.
    """
    count = len(data)
    first = [np.arange(count)]  # of each kind, the first image with the same value
    for column in ("id", *(name for name in GROUPS if name in data.column_names)):
        seen: dict[str, int] = {}
        values = enumerate(data[column][:])
        first.append(np.array([seen.setdefault(value, row) if value else row for row, value in values], dtype=np.intp))
    ends, starts = np.concatenate(first), np.tile(np.arange(count), len(first))
    return connected_components(coo_matrix((np.ones(len(ends)), (ends, starts)), shape=(count, count)), False)[1]


def _shared(splits: dict[str, Dataset], kinds: Iterable[str]) -> list[str]:
    """A sentence for each column whose values stand in several of the splits that a dataset brings."""
    notes = []
    for column in kinds:
        values = [set(data[column][:]) - {None} for data in splits.values() if column in data.column_names]
        if twice := sum(map(len, values)) - len(set().union(*values)):
            notes.append(
                f"The dataset's own splits share {twice:,} {column}(s): figures may be too good, as images of one "
                f"{GROUPS[column]} are alike."
            )
    return notes


def _rows(train: Dataset, missing: dict[str, float], seed: int) -> dict[str, list[int]]:
    """Row numbers per split."""
    labels, group_of = np.asarray(train["label"][:]), groups(train)
    of_one_class = len(np.unique(group_of)) == len(np.unique(np.stack([group_of, labels]), axis=1)[0])
    return (_rows_by_class if of_one_class else _rows_by_group)(train, labels, group_of, missing, seed)


def _rows_by_class(
    train: Dataset, labels: NDArray[np.intp], group_of: NDArray[np.intp], missing: dict[str, float], seed: int
) -> dict[str, list[int]]:
    """Each class gives the same share of its groups, which are of one class each."""
    rng = np.random.default_rng(seed)
    rows: dict[str, list[int]] = {name: [] for name in ("train", *missing)}
    for label in np.unique(labels):
        members = rng.permutation(np.unique(group_of[labels == label]))
        total = len(members)
        for name, fraction in missing.items():
            count = max(1, round(fraction * total))
            rows[name].extend(np.flatnonzero(np.isin(group_of, members[:count])))
            members = members[count:]
        if not len(members):
            words = [GROUPS[column] for column in train.column_names if column in GROUPS]
            of = "image" if total == np.sum(labels == label) else " or ".join(words)
            raise UserError(
                f"The class {train.features['label'].names[label]!r} has {total} training {of}(s): too few to set "
                f"some aside for {' and '.join(missing)} and keep one. Add {of}s, leave the class out, bring splits of "
                f"your own ({SPLIT_HELP}), or do without a test split (data.test_fraction=0)."
            )
        rows["train"].extend(np.flatnonzero(np.isin(group_of, members)))
    return rows


def _rows_by_group(
    train: Dataset, labels: NDArray[np.intp], group_of: NDArray[np.intp], missing: dict[str, float], seed: int
) -> dict[str, list[int]]:
    """Groups of several classes, with class shares as near as they allow."""
    rest, rows = np.arange(len(labels)), dict[str, list[int]]()
    share = 1.0
    for name, fraction in missing.items():
        most = min(len(np.unique(group_of[rest])), np.bincount(labels[rest]).max())  # what the splitter can do
        folds = min(max(2, round(share / fraction)), most)
        if folds < 2:
            raise UserError(
                f"There are too few people or pictures in {len(labels)} images to set some aside for {name}."
            )
        splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
        keep, chosen = next(splitter.split(rest, labels[rest], group_of[rest]))
        rows[name], rest, share = rest[chosen].tolist(), rest[keep], share - fraction
    return {"train": rest.tolist(), **rows}

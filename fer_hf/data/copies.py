"""Which image is a copy of which: what an audit finds, as rows of copies.csv, and the leaks that follow from it.

A row says that the image `id` of `split` shows the same photograph as the image `of_id` of `of_split`. `kind` is
"exact" where both have the same decoded pixels, else "near" (see `data.audit`; whoever is near to a copy counts as
one). Each image has one row at most: its copy is in train where there is one, else in validation, else in its own
split, and the first image of a group of copies has none. So the rows hold each group together.
"""

from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from fer_hf.data.splits import SPLITS
from fer_hf.errors import UserError
from fer_hf.files import read_csv, write_csv

FILE = "copies.csv"


@dataclass(frozen=True)
class Copy:
    """A row of copies.csv: an image, and another that shows the same photograph."""

    split: str
    id: str
    label: str
    kind: str
    of_split: str
    of_id: str
    of_label: str


COLUMNS = tuple(field.name for field in fields(Copy))


@dataclass(frozen=True)
class Leaks:
    """The images of a split that have a copy among the training images.

    `unknown` of the `listed` images are not in the data: they were left out of it, or of its training.
    """

    ids: frozenset[str]
    listed: int = 0
    unknown: int = 0


def list_copies(rows: Sequence[Mapping[str, str]], group_of: np.ndarray, exact_of: np.ndarray) -> list[Copy]:
    """One row for each image with a copy, but for the first of each group.

    Args:
        rows: `split`, `id` and `label` of N images.
        group_of: `(N,)` the number of the group of copies that each is in.
        exact_of: `(N,)` likewise for groups of equal pixels, which are parts of those groups.

    Example:
        >>> splits = ("test", "train", "train")
        >>> rows = [{"split": split, "id": str(n), "label": "sad"} for n, split in enumerate(splits)]
        >>> [(row.id, row.kind, row.of_id) for row in list_copies(rows, np.array([0, 0, 0]), np.array([0, 1, 1]))]
        [('2', 'exact', '1'), ('0', 'near', '1')]
    """
    first: dict[int, int] = {}
    first_equal: dict[int, int] = {}
    copies = []
    for row in sorted(range(len(rows)), key=lambda row: SPLITS.index(rows[row]["split"])):
        original = first.setdefault(int(group_of[row]), row)
        equal = first_equal.setdefault(int(exact_of[row]), row)
        if original != row:
            of = equal if equal != row and rows[equal]["split"] == rows[original]["split"] else original
            kind = "exact" if exact_of[of] == exact_of[row] else "near"
            image, other = rows[row], rows[of]
            names = (other["split"], other["id"], other["label"])
            copies.append(Copy(image["split"], image["id"], image["label"], kind, *names))
    return copies


def write_copies(path: Path, copies: Sequence[Copy]) -> None:
    """Write copies.csv."""
    write_csv(path, COLUMNS, map(astuple, copies))


def read_copies(path: str | Path) -> list[Copy]:
    """The rows of a copies.csv.

    Args:
        path: the file, or the folder that `fer-hf data audit` wrote it to.

    Raises:
        UserError: there is no such file, or it is no list of copies.
    """
    place = Path(path).expanduser()
    file = place / FILE if place.is_dir() else place
    if not file.is_file():
        raise UserError(
            f"copies: there is no file {str(file)!r}. `fer-hf data audit SOURCE --output FOLDER` writes it."
        )
    bad: dict[str, str] = {}
    copies = [Copy(**{name: row[name] for name in COLUMNS}) for _, _, row in read_csv(file, COLUMNS, bad)]
    if bad or (unknown := {split for row in copies for split in (row.split, row.of_split)} - set(SPLITS)):
        reason = "; ".join(f"{where}: {why}" for where, why in bad.items()) or f"no split is called {min(unknown)!r}"
        raise UserError(f"copies: {str(file)!r}: {reason}.")
    return copies


def leaks(copies: Sequence[Copy], ids: Mapping[str, Sequence[str]], split: str) -> Leaks:
    """The images of a split that have a copy among the training images.

    An image counts where it stands in the data, which may have been split otherwise than those that were audited.

    Args:
        copies: the rows of a copies.csv.
        ids: of the images in each split of the data; `train` are those that the model has learnt from.
        split: whose images are asked for.

    Returns:
        Their ids, and how many listed images the data lack.

    Raises:
        UserError: none of the listed images is in the data.

    Example:
        >>> copies = [Copy("test", "a", "sad", "near", "train", "b", "sad")]
        >>> leaks(copies, {"train": ["b", "c"], "test": ["a", "d"]}, "test").ids
        frozenset({'a'})
    """
    ends = [((row.split, row.id), (row.of_split, row.of_id)) for row in copies]
    nodes = {node: place for place, node in enumerate(dict.fromkeys(end for pair in ends for end in pair))}
    if not nodes:
        return Leaks(frozenset())
    split_of = _placed(list(nodes), ids)
    unknown = sum(place is None for place in split_of)
    if unknown == len(nodes):
        names = ", ".join(repr(name) for _, name in list(nodes)[:3])
        raise UserError(
            f"copies: none of the {len(nodes):,} images that it lists, such as {names}, is in the data: it is the "
            "audit of other data, or names them otherwise. Look in these: `--copies find`, or evaluate.copies=find."
        )
    pairs = np.array([(nodes[first], nodes[second]) for first, second in ends]).T
    graph = coo_matrix((np.ones(len(ends)), (pairs[0], pairs[1])), shape=(len(nodes), len(nodes)))
    group_of = connected_components(graph, directed=False)[1]
    learnt = {group for group, place in zip(group_of.tolist(), split_of, strict=True) if place == "train"}
    members = zip(nodes, group_of.tolist(), split_of, strict=True)
    leaked = frozenset(name for (_, name), group, place in members if place == split and group in learnt)
    return Leaks(leaked, len(nodes), unknown)


def _placed(nodes: Sequence[tuple[str, str]], ids: Mapping[str, Sequence[str]]) -> list[str | None]:
    """The split in which each listed `(split, id)` stands in the data; None for one that is in none, or in several."""
    splits: dict[str, list[str]] = {}
    for split, names in ids.items():
        for name in set(names):
            splits.setdefault(name, []).append(split)
    places = [(split, splits.get(name, [])) for split, name in nodes]
    return [split if split in known else known[0] if len(known) == 1 else None for split, known in places]

"""Readers: one module for each dataset or layout, all with the same names, and `Raw`, what they return.

To add a dataset, write a module here with the names of `Reader`, and enter it in `data.source.READERS`; its tests go to
`tests/data/readers/`. What a reader cannot use it counts in `Raw.notes` or lists in `Raw.bad`, and never drops unsaid.
`columns.make_split` makes a split from lists; `folder.list_images` finds images in class folders.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from datasets import Dataset


@dataclass
class Raw:
    """What a reader returns, before it is aligned with a label set and checked.

    Attributes:
        splits: those of train, validation and test that the dataset has. Columns: `image` (`datasets.Image`), `label`
            (`ClassLabel` with the dataset's own names in its own order, -1 where there is no label), `id` (str, unique
            in its split) and any of `soft_label` and `columns.ATTRIBUTES`.
        dataset: the name to show.
        hub_id: its id on the Hub, when it is from there.
        license: what its authors say of its use.
        notes: sentences for the model card.
        bad: for each record that could not be read, what to call it and the reason.
    """

    splits: dict[str, Dataset]
    dataset: str
    hub_id: str | None = None
    license: str | None = None
    notes: list[str] = field(default_factory=list)
    bad: dict[str, str] = field(default_factory=dict)


def left_aside(root: Path, read: Collection[str]) -> list[str]:
    """A note on what lies in a folder beside the files and folders that a reader has read.

    Args:
        root: the folder; hidden files and its README.md are passed over.
        read: names of what was read there.
    """
    names = sorted(child.name for child in root.iterdir() if not child.name.startswith("."))
    others = [name for name in names if name != "README.md" and name not in read]
    shown = f"{', '.join(others[:8])}{', ...' if len(others) > 8 else ''}"
    return [f"{len(others)} other file(s) or folder(s) were not read: {shown}."] if others else []


class Reader(Protocol):
    """What every module in this folder offers."""

    NAME: str
    """The dataset's name, for people."""
    WANTED: str
    """What it looks like on disk, in words that follow "Wanted:"."""

    @property
    def OPTIONS(self) -> tuple[str, ...]:  # noqa: N802 (a constant of the module)
        """The keys of the recipe's section `data` that only this reader takes."""

    def layout(self, path: Path) -> str | None:
        """Which of its layouts lies at `path`; None when none of them does."""

    @property
    def read(self) -> Callable[..., Raw]:
        """`read(place, **options)`: the dataset at `place`, a path that `layout` knows (`hub`: a name; `toy`: nothing).

        Raises `UserError`.
        """

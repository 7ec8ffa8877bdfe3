"""One source of faces, such as `rafdb:PATH`: its reader is found, then it is aligned, split and checked."""

import re
from collections import Counter
from pathlib import Path
from typing import Any

from datasets import Dataset

from fer_hf.data.cache import Checked, check
from fer_hf.data.columns import per_class_counts, relabel
from fer_hf.data.readers import Raw, affectnet, ckplus, fer2013, ferplus, folder, hub, rafdb, toy
from fer_hf.data.splits import add_missing
from fer_hf.data.subsets import without
from fer_hf.data.tables import parquet_files
from fer_hf.emotions import LabelError, label_names
from fer_hf.errors import FerError, UserError
from fer_hf.recipe.schema import Data

READERS: dict[str, Any] = {
    "ferplus": ferplus,
    "rafdb": rafdb,
    "affectnet": affectnet,
    "ckplus": ckplus,
    "fer2013": fer2013,
    "folder": folder,
    "hub": hub,
    "toy": toy,
}
"""Each a `readers.Reader`. In this order a path is tried for the layouts of each, the most peculiar ones first."""
LOCAL = [kind for kind in READERS if kind not in ("hub", "toy")]
HELP = f"toy, {', '.join(f'{kind}:PATH' for kind in LOCAL)}, hub:org/name or hub:org/name:config@revision"


def read(source: str, settings: Data) -> "Source":
    """The images of a source such as `folder:PATH`, as its reader finds them.

    Args:
        source: one of `HELP`.
        settings: the section `data` of a recipe; a reader gets those that it lists in `OPTIONS`.

    Raises:
        UserError: it is no source, or a path is not of the kind named; the message says which kind it looks like.
        FerError: the Hub or the disk failed.
    """
    kind, _, place = source.partition(":")
    if not (source == "toy" or (kind in READERS and kind != "toy" and place)):
        path = Path(source).expanduser()
        hint = f" Did you mean hub:{source}?" if re.fullmatch(r"[\w.-]+/[\w.-]+", source) else ""
        if path.exists():
            kind = looks_like(path) or ("folder" if path.is_dir() else "")
            hint = f" There is something at this path: did you mean {kind}:{source}?" if kind else _table(path)
        raise UserError(f"data.source is {source!r}, which is no source of faces: use {HELP}.{hint}")
    options = {name: getattr(settings, name) for name in READERS[kind].OPTIONS}
    is_path = kind in LOCAL
    raw = _read_local(kind, Path(place).expanduser(), options) if is_path else READERS[kind].read(place, **options)
    return Source(kind, raw, source)


def looks_like(path: Path) -> str | None:
    """The kind whose layout `path` has."""
    kinds = [kind for kind, reader in READERS.items() if reader.layout(path)]
    if "fer2013" in kinds and not fer2013.is_unmistakable(path):
        kinds.remove("fer2013")
    return kinds[0] if kinds else None


def _read_local(kind: str, path: Path, options: dict[str, object]) -> Raw:
    reader = READERS[kind]
    if not path.exists():
        raise UserError(f"{str(path)!r} does not exist. Wanted: {reader.WANTED}.")
    if not reader.layout(path):
        raise UserError(
            f"{str(path)!r} is not {reader.NAME}: it {_contents(path)}.{_hint(path, kind)} Wanted: {reader.WANTED}."
        )
    try:
        raw = reader.read(path, **options)
    except UserError as error:
        raise UserError(f"{error}{_other_kind(path, kind)}") from error
    if kind == "folder" and (guess := looks_like(path)) not in ("folder", None):
        # Notes are published, so they name no path of this machine.
        about = f"It looks like {READERS[str(guess)].NAME}: use {guess}:PATH."
        raw.notes.append(f"The folder was read as classes of images. {about}")
    return raw


def _contents(path: Path) -> str:
    if path.is_file():
        return f"is a file that ends in {path.suffix or 'nothing'!r}"
    names = sorted(child.name for child in path.iterdir() if not child.name.startswith("."))
    return f"holds {', '.join(names[:8]) or 'nothing'}{', ...' if len(names) > 8 else ''}"


def _hint(path: Path, wanted: str) -> str:
    """What the path looks like, or which folder in it is what was wanted. Any folder looks like a folder: not said."""
    if (guess := looks_like(path)) not in ("folder", wanted, None):
        return f" It looks like {READERS[str(guess)].NAME}: use {guess}:{path}."
    if wanted != "folder" and parquet_files(path):
        return f" It holds a table of images: use folder:{path}."
    for child in sorted(path.iterdir()) if path.is_dir() and wanted != "folder" else ():
        if not child.name.startswith(".") and READERS[wanted].layout(child):
            return f" {str(child)!r} looks like {READERS[wanted].NAME}: use {wanted}:{child}."
    return _table(path)


def _other_kind(path: Path, failed: str) -> str:
    """The kind that a path looks like, if it can be read as that: what has just failed is no advice."""
    guess = looks_like(path)
    if guess in ("folder", failed, None):
        return ""
    try:
        READERS[str(guess)].read(path)
    except FerError:
        return ""
    return f" It looks like {READERS[str(guess)].NAME}: use {guess}:{path}."


def _table(path: Path) -> str:
    """The folder of a Parquet file, which is what can be read."""
    if not path.is_file() or path.suffix.lower() != ".parquet":
        return ""
    return f" It is a table of images: name its folder, folder:{path.parent}."


class Source:
    """One source on its way from what its reader returned to checked splits in the order of a label set.

    Attributes:
        kind: its key in `READERS`.
        raw: what its reader returned.
        where: the source as the recipe names it, to begin messages with.
        splits: the splits as they are now.
        emotions: all that its label names name, in their order.
        dropped: the number of images of each emotion outside the label set, by the split that they were read in.
        skipped: what to call the records that could not be read.
        excluded: split and listed id of each image that `data.exclude` took away.
        matched: the entries of `data.exclude` that did so.
        checked: what the check has found, by split.
    """

    def __init__(self, kind: str, raw: Raw, where: str):
        self.kind, self.raw, self.where = kind, raw, where
        self.splits: dict[str, Dataset] = dict(raw.splits)
        self.read_splits: set[str] = set()  # others are drawn from them
        self.emotions: dict[str, None] = {}
        self.dropped: dict[str, Counter[str]] = {}
        self.skipped: list[str] = []
        self.excluded: set[tuple[str, str]] = set()
        self.matched: set[tuple[str, str]] = set()
        self.checked: dict[str, Checked] = {}
        for split, data in self.splits.items():
            try:
                self.emotions |= dict.fromkeys(label_names(data.features["label"].names))
            except LabelError as error:
                raise UserError(
                    f"{where}, split {split}: {error} Each class has to be named after one emotion: rename the class, "
                    "or remove its images."
                ) from error

    @property
    def name(self) -> str:
        """What its images are told by beside those of other sources."""
        return self.raw.dataset if self.kind in ("folder", "hub") else self.kind

    def align(self, names: tuple[str, ...]) -> None:
        """Labels in the order of `names`; other emotions, and images without a label, are dropped and counted."""
        for split, data in list(self.splits.items()):
            source_names = [*label_names(data.features["label"].names), ""]
            emotions = [source_names[label] for label in data["label"][:]]  # -1, no label, takes the last
            self.dropped[split] = Counter(emotion for emotion in emotions if emotion and emotion not in names)
            if unlabelled := emotions.count(""):
                self.raw.notes.append(f"{unlabelled:,} image(s) of the {split} split have no label and were left out.")
            data = relabel(data, names)
            rows = [row for row, label in enumerate(data["label"][:]) if label >= 0]
            self.splits[split] = data if len(rows) == len(data) else data.select(rows)
        self.splits = {split: data for split, data in self.splits.items() if len(data)}
        self.read_splits = set(self.splits)

    def make_splits(self, purpose: str, settings: Data) -> None:
        """Set missing splits aside, unless the faces are only looked at or evaluated."""
        if purpose == "evaluation" and self.kind == "folder" and self.splits.keys() == {"train"}:
            self.splits = {"test": self.splits["train"]}
            self.dropped = {"test": self.dropped["train"]}
            self.raw.notes.append("The folder has no splits: all of its images were used as the test split.")
        elif purpose == "training" or (purpose == "evaluation" and "train" in self.splits):
            fractions = {"validation": settings.validation_fraction, "test": settings.test_fraction}
            try:
                self.splits, notes = add_missing(self.splits, fractions, settings.split_seed)
            except UserError as error:
                raise UserError(f"{self.where}: {error}{self.first_bad()}") from error
            self.raw.notes.extend(notes)

    def leave_out(self, listed: set[tuple[str, str]], prefix: str) -> None:
        """Drop the images that `data.exclude` lists, with or without the prefix that ids get beside other sources.

        This comes after splits are drawn, so that runs with and without a list test on the same images. Where splits
        were drawn from the training images, a list may name them by any of these splits.
        """
        drawn = self.splits.keys() - self.read_splits
        for split, data in self.splits.items() if listed else ():
            alike = {"train", *drawn} if split in drawn or (drawn and split == "train") else {split}
            here = {name for listed_split, name in listed if listed_split in alike}
            ids = {name for name in data["id"][:] if name in here or prefix + name in here}
            if ids:
                self.splits[split] = without(data, ids)
                matches = here & (ids | {prefix + name for name in ids})
                self.excluded |= {(split, name) for name in matches}
                self.matched |= {entry for entry in listed if entry[0] in alike and entry[1] in matches}

    def check(self, on_bad_image: str, keep: bool) -> None:
        """Decode every image once, and keep the pixels; refuse or drop what cannot be read."""
        self.checked = {split: check(data, split, keep) for split, data in self.splits.items()}
        bad = [*self.raw.bad.items(), *(item for checked in self.checked.values() for item in checked.bad.items())]
        if bad and on_bad_image == "error":
            name, reason = bad[0]
            raise UserError(
                f"{self.where}: {name}: {reason}. {len(bad):,} image(s) cannot be read. Mend or remove them, or set "
                "data.on_bad_image=skip to go on without them."
            )
        if bad:
            self.raw.notes.append(f"{len(bad):,} unreadable image(s) were left out.")
            self.splits = {split: without(data, self.checked[split].bad) for split, data in self.splits.items()}
        self.skipped = [name for name, _ in bad]

    def first_bad(self) -> str:
        """A sentence on the first record that could not be read, for messages on what is missing."""
        bad = self.raw.bad | {name: reason for checked in self.checked.values() for name, reason in checked.bad.items()}
        for name, reason in bad.items():
            return f" {len(bad):,} image(s) cannot be read, such as {name}: {reason}."
        return ""

    def refuse_absent(self, names: tuple[str, ...]) -> None:
        """Raises `UserError` when a class has no training image."""
        counts = per_class_counts(self.splits["train"])
        if absent := [name for name in names if not counts[name]]:
            raise UserError(
                f"{self.where}: the train split has no image of {', '.join(absent)}. Choose other labels with "
                "data.label_set, or allow it with data.absent_classes=allow."
            )

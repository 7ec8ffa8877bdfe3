"""Faces: one call from sources such as `rafdb:PATH` to checked splits, labelled in the order of a label set.

Label ids never leave a source: every split is aligned by the names of its classes. For each source, in order: read,
align, drop emotions outside the label set, set missing splits aside, leave out what `exclude` lists, decode every image
once. Then: join the sources, thin the training split out, refuse what cannot be trained on.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from datasets import ClassLabel, Dataset, DatasetDict, Features, Value, concatenate_datasets
from datasets import Sequence as Sequences

from fer_hf.data import source as sources
from fer_hf.data.check import unreadable
from fer_hf.data.splits import ATTRIBUTES, SPLITS, Raw, add_missing
from fer_hf.data.subsets import Mixture, read_exclude, thin_out, without
from fer_hf.emotions import EMOTIONS, LabelError, label_names
from fer_hf.errors import UserError

Purpose = Literal["training", "evaluation", "inspection"]


@dataclass(frozen=True)
class Faces:
    """What `load_faces` returns: aligned, checked and described.

    `splits` has train, validation and test, each with the columns `image` (`datasets.Image`, any size and mode),
    `label` (`ClassLabel` in the order of `label_names`), `id` (str, unique in its split) and what the source knows of
    `soft_label` (one probability per label) and `splits.ATTRIBUTES`; with several sources also `source`. `source` is
    the kind (toy, fer2013, folder, hub, ... or several); `dataset` is the name to show; `notes` are sentences for the
    model card; `dropped` counts the images of each emotion outside the label set; `skipped` lists the ids of unreadable
    images that were left out, and `unread` the records, with the reason, that no reader could make an image of.
    """

    splits: DatasetDict
    label_names: tuple[str, ...]
    source: str
    dataset: str
    hub_id: str | None
    license: str | None
    notes: list[str]
    dropped: dict[str, int]
    skipped: list[str]
    unread: dict[str, str]

    def describe(self) -> dict[str, Any]:
        """The section `data` of `metrics.json`: plain JSON types, and no path of this machine."""
        return {
            "source": self.source,
            "dataset": self.dataset,
            "hub_id": self.hub_id,
            "license": self.license,
            "splits": {
                str(name): {"images": len(data), "per_class": per_class_counts(data)}
                for name, data in self.splits.items()
            },
            "skipped": self.skipped,
            "dropped": self.dropped,
            "notes": self.notes,
        }


def load_faces(
    source: str | Sequence[str | Mapping[str, Any]],
    label_set: str | Sequence[str] | None = "fer7",
    *,
    validation_fraction: float = 0.1,
    test_fraction: float = 0.1,
    split_seed: int = 0,
    on_bad_image: Literal["error", "skip"] = "error",
    votes: str = "majority",
    stream_images: int | None = None,
    exclude: str | None = None,
    absent_classes: Literal["allow", "error"] = "allow",
    mixture: Mixture | None = None,
    fraction: float | None = None,
    per_class: int | None = None,
    check_images: bool = True,
    purpose: Purpose = "training",
) -> Faces:
    """The faces of one source, or of several together, with the labels of `label_set`.

    `source` is one of `sources.HELP`, or a list of them; an entry of a list may be `{"source": ..., "weight": 2}`,
    which counts its training images twice (0.5: takes half of each class). With several sources ids begin with the
    name of their source. Without `label_set`, the labels are all emotions that the sources name.

    The keys up to `per_class` are those of the recipe's `data` section. `check_images` decodes every image once.
    For "evaluation", a source may lack a train split, and a folder of classes is one test split; for "inspection",
    splits stay as they are found and may lack classes.

    Raises `UserError` for an unknown source, a class that is no emotion, unreadable images, an empty split, and a class
    that the sources have but without an image to train on. A class that no source has at all is only noted.
    Raises `FerError` when the Hub or the disk fails.
    """
    if on_bad_image not in ("error", "skip"):
        raise UserError(f"data.on_bad_image is {on_bad_image!r}: it has to be error or skip.")
    entries = [source] if isinstance(source, str) else source
    wanted = [{"source": entry} if isinstance(entry, str) else entry for entry in entries]
    found = [_Source(*sources.read(entry["source"], votes, stream_images), entry["source"]) for entry in wanted]
    names = _label_names(label_set, found)
    listed = read_exclude(exclude) if exclude else set()
    prefixes = _prefixes(found)

    notes, dropped = list[str](), Counter[str]()
    for part, prefix in zip(found, prefixes, strict=True):
        part.align(names)
        part.make_splits(purpose, validation_fraction, test_fraction, split_seed)
        part.leave_out(listed, prefix)
        if check_images:
            part.check(on_bad_image)
        if purpose == "training" and absent_classes == "error":
            part.refuse_absent(names)
    if listed:
        out = Counter(entry for part in found for entry in part.excluded)
        if not out:
            raise UserError(f"data.exclude: none of the {len(listed):,} ids of {exclude!r} is in {found[0].where}.")
        [((split, name), times)] = out.most_common(1)
        if times > 1:
            raise UserError(
                f"data.exclude: {name!r} ({split}) is in {times} of the sources. Write which one is meant, such as "
                f"{prefixes[0] + name!r}, or take the list of an audit of all of them together."
            )
        notes.append(f"{out.total():,} image(s) listed in data.exclude were left out.")
    weights = [float(entry.get("weight", 1.0)) for entry in wanted]
    if weights == [1.0]:
        splits = found[0].splits
    else:
        splits = _join(found, prefixes, weights, split_seed)
        notes.append(f"Training images by source: {_counts(splits.get('train'), 'source')}.")
    for part in found:
        about = f"{part.raw.dataset}: " if len(found) > 1 else ""
        notes += [about + note for note in part.raw.notes]
        dropped.update(part.dropped)
    where = " + ".join(part.where for part in found)
    if purpose != "inspection" and "train" in splits:
        splits["train"], made = thin_out(splits["train"], mixture, fraction, per_class, split_seed)
        known = {emotion for part in found for emotion in part.emotions}
        notes += made + _check_classes(splits, names, known, where)
    elif purpose != "training":
        splits = {split: data for split, data in splits.items() if len(data)}
    if not splits:
        raise UserError(f"{where}: there are no images of {', '.join(names)}.")
    several = len(found) > 1
    return Faces(
        DatasetDict({split: splits[split] for split in SPLITS if split in splits}),
        names,
        source="several" if several else found[0].kind,
        dataset=" + ".join(part.raw.dataset for part in found),
        hub_id=None if several else found[0].raw.hub_id,
        license="; ".join(dict.fromkeys(part.raw.license for part in found if part.raw.license)) or None,
        notes=notes,
        dropped={emotion: dropped[emotion] for emotion in EMOTIONS if emotion not in names},
        skipped=[name for part in found for name in part.skipped],
        unread={name: reason for part in found for name, reason in part.raw.bad.items()},
    )


def _label_names(label_set: str | Sequence[str] | None, found: "list[_Source]") -> tuple[str, ...]:
    if label_set is None:
        known = {emotion for part in found for emotion in part.emotions}
        return tuple(emotion for emotion in EMOTIONS if emotion in known)
    try:
        return label_names(label_set)
    except LabelError as error:
        raise UserError(f"data.label_set: {error}") from error


class _Source:
    """One source on its way from what its reader found to splits in the order of a label set."""

    def __init__(self, kind: str, raw: Raw, where: str):
        self.kind, self.raw, self.where = kind, raw, where
        self.splits: dict[str, Dataset] = dict(raw.splits)
        self.found: set[str] = set()  # the splits that the source has; others are drawn
        self.emotions: dict[str, None] = {}  # all that its label names name, in their order
        self.dropped: Counter[str] = Counter()
        self.skipped: list[str] = []
        self.excluded: set[tuple[str, str]] = set()  # split, and what data.exclude calls the image
        for split, data in self.splits.items():
            try:
                self.emotions |= dict.fromkeys(label_names(data.features["label"].names))
            except LabelError as error:
                raise UserError(
                    f"{where}, split {split}: {error} Each class has to be named after one emotion: rename the class, "
                    "or remove its images."
                ) from error

    def align(self, names: tuple[str, ...]) -> None:
        """Labels in the order of `names`; other emotions, and images without a label, are dropped and counted."""
        for split, data in list(self.splits.items()):
            theirs = [*label_names(data.features["label"].names), ""]
            emotions = [theirs[label] for label in data["label"][:]]  # -1, no label, takes the last
            self.dropped.update(emotion for emotion in emotions if emotion and emotion not in names)
            if unlabelled := emotions.count(""):
                self.raw.notes.append(f"{unlabelled:,} image(s) of the {split} split have no label and were left out.")
            self.splits[split] = _with_labels(data, emotions, names)
        self.splits = {split: data for split, data in self.splits.items() if len(data)}
        self.found = set(self.splits)

    def leave_out(self, listed: set[tuple[str, str]], prefix: str) -> None:
        """Drop the images that `data.exclude` lists, with or without the prefix that ids get beside other sources.

        This comes after splits are drawn, so that runs with and without a list test on the same images. Where splits
        were drawn from the training images, a list may name them by any of these splits.
        """
        drawn = self.splits.keys() - self.found
        for split, data in self.splits.items() if listed else ():
            named = {"train", *drawn} if split in drawn or (drawn and split == "train") else {split}
            here = {name for listed_split, name in listed if listed_split in named}
            ids = {name for name in data["id"][:] if name in here or prefix + name in here}
            if ids:
                self.splits[split] = without(data, ids)
                self.excluded |= {(split, name) for name in here & (ids | {prefix + name for name in ids})}

    def check(self, on_bad_image: str) -> None:
        """Decode every image once; refuse or drop what cannot be read."""
        unread = unreadable(self.splits) if self.kind != "toy" else {}
        bad = [*self.raw.bad.items(), *(item for found in unread.values() for item in found.items())]
        if bad and on_bad_image == "error":
            first, reason = bad[0]
            raise UserError(
                f"{self.where}: {first}: {reason}. {len(bad):,} image(s) cannot be read. Mend or remove them, or set "
                "data.on_bad_image=skip to go on without them."
            )
        if bad:
            self.raw.notes.append(f"{len(bad):,} unreadable image(s) were left out.")
            self.splits |= {split: without(self.splits[split], set(found)) for split, found in unread.items()}
        self.skipped = [name for name, _ in bad]

    def make_splits(self, purpose: Purpose, validation_fraction: float, test_fraction: float, seed: int) -> None:
        """Set missing splits aside, unless the faces are only looked at or evaluated."""
        if purpose == "evaluation" and self.kind == "folder" and self.splits.keys() == {"train"}:
            self.splits = {"test": self.splits["train"]}
            self.raw.notes.append("The folder has no splits: all of its images were used as the test split.")
        elif purpose == "training" or (purpose == "evaluation" and "train" in self.splits):
            try:
                self.splits, notes = add_missing(self.splits, validation_fraction, test_fraction, seed)
            except UserError as error:
                raise UserError(f"{self.where}: {error}") from error
            self.raw.notes.extend(notes)

    def refuse_absent(self, names: tuple[str, ...]) -> None:
        counts = per_class_counts(self.splits["train"])
        if absent := [name for name in names if not counts[name]]:
            raise UserError(
                f"{self.where}: the train split has no image of {', '.join(absent)}. Choose other labels with "
                "data.label_set, or allow it with data.absent_classes=allow."
            )


def _with_labels(data: Dataset, emotions: list[str], names: tuple[str, ...]) -> Dataset:
    """The images whose emotion is in `names`, with labels, and soft labels, in that order."""
    ids = [names.index(emotion) if emotion in names else -1 for emotion in emotions]
    theirs = label_names(data.features["label"].names)
    soft = np.asarray(data["soft_label"][:], dtype=np.float32) if "soft_label" in data.column_names else None
    keep = [name for name in ("image", "id", *ATTRIBUTES) if name in data.column_names]
    data = data.select_columns(keep).add_column("label", ids, feature=ClassLabel(names=list(names)))
    if soft is not None:
        aligned = np.zeros((len(ids), len(names)), dtype=np.float32)
        for place, name in enumerate(names):
            if name in theirs:
                aligned[:, place] = soft[:, theirs.index(name)]
        total = aligned.sum(axis=1, keepdims=True)  # what went to emotions outside the label set is shared out
        aligned = np.where(total > 0, aligned / np.maximum(total, 1e-9), np.eye(len(names), dtype=np.float32)[ids])
        feature = Sequences(Value("float32"), length=len(names))
        data = data.add_column("soft_label", aligned.tolist(), feature=feature)
    data = data.select_columns([*dict.fromkeys(("image", "label", "id", *data.column_names))])
    return data if min(ids, default=0) >= 0 else data.select([row for row, label in enumerate(ids) if label >= 0])


# --- several sources


def _prefixes(found: list[_Source]) -> list[str]:
    """What the ids of each source begin with beside others: its kind, or the name of the folder or Hub dataset."""
    names = [part.raw.dataset if part.kind in ("folder", "hub") else part.kind for part in found]
    again = [names[:place].count(name) for place, name in enumerate(names)]
    return [f"{name}-{count + 1}:" if count else f"{name}:" for name, count in zip(names, again, strict=True)]


def _join(found: list[_Source], prefixes: list[str], weights: list[float], seed: int) -> dict[str, Dataset]:
    """The splits of several sources, one after another, with the column `source`."""
    joined = {}
    for split in SPLITS:
        parts = []
        for part, prefix, weight in zip(found, prefixes, weights, strict=True):
            if split in part.splits:
                data = part.splits[split]
                ids = [prefix + name for name in data["id"][:]]
                data = data.remove_columns("id").add_column("id", ids, feature=Value("string"))
                data = data.add_column("source", [prefix[:-1]] * len(data), feature=Value("string"))
                parts.append(_weighted(data, weight, seed) if split == "train" else data)
        if parts:
            joined[split] = concatenate_datasets(_same_columns(parts))
    return joined


def _weighted(train: Dataset, weight: float, seed: int) -> Dataset:
    """A training split `weight` times over: whole copies, and for the rest that share of each class."""
    copies = [train] * int(weight)
    if rest := weight - int(weight):
        copies.append(thin_out(train, fraction=rest, seed=seed)[0])
    return concatenate_datasets(copies)


def _same_columns(parts: list[Dataset]) -> list[Dataset]:
    """Every column that one of them has, empty in those that do not know it."""
    features = Features({name: feature for part in parts for name, feature in part.features.items()})
    filled = []
    for part in parts:
        for name in features.keys() - part.features.keys():
            part = part.add_column(name, [None] * len(part), feature=features[name])
        filled.append(part.select_columns(list(features)))
    return filled


# --- counts


def per_class_counts(data: Dataset) -> dict[str, int]:
    """How many images of each label a split has, in the order of the label names."""
    names = data.features["label"].names
    counts = np.bincount(np.asarray(data["label"][:], dtype=int), minlength=len(names))
    return dict(zip(names, counts.tolist(), strict=True))


def _counts(data: Dataset | None, column: str) -> str:
    counted = Counter(data[column][:]) if data is not None else Counter()
    return ", ".join(f"{name} {count:,}" for name, count in counted.items())


def _check_classes(splits: dict[str, Dataset], names: tuple[str, ...], known: set[str], where: str) -> list[str]:
    """Refuse empty splits and classes that cannot be trained; a note names the classes that the sources lack."""
    if empty := [split for split, data in splits.items() if not len(data)]:
        raise UserError(f"{where}: no image is left in the split(s) {', '.join(empty)}, given {', '.join(names)}.")
    counts = per_class_counts(splits["train"])
    if untrained := [name for name in names if name in known and not counts[name]]:
        raise UserError(
            f"{where}: the train split has no image of {', '.join(untrained)}. Add images, or leave the class out "
            f"with data.label_set=[{', '.join(name for name in names if counts[name])}]."
        )
    if sum(count > 0 for count in counts.values()) < 2:
        shown = ", ".join(name for name in names if counts[name])
        raise UserError(f"{where}: at least two classes are needed, but the images show only {shown}.")
    absent = [name for name in names if not counts[name]]
    return [f"The dataset has no images of {', '.join(absent)}: a model cannot learn it from them."] if absent else []

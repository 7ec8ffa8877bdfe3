"""Faces: one call from sources such as `rafdb:PATH` to checked splits, labelled in the order of a label set.

Label ids never leave a source: every split is aligned by the names of its classes. For each source, in order: read,
align, drop emotions outside the label set, set missing splits aside, leave out what `exclude` lists, decode every image
once. Then: join the sources, thin the training split out, refuse what cannot be trained on.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from datasets import Dataset, DatasetDict
from pydantic import ValidationError

from fer_hf.data.cache import Checked
from fer_hf.data.columns import per_class_counts
from fer_hf.data.decode import BATCH, Array, undecoded
from fer_hf.data.join import join, prefixes
from fer_hf.data.source import Source, read
from fer_hf.data.splits import SPLITS
from fer_hf.data.subsets import SUBSETS, read_exclude, thin_out
from fer_hf.emotions import EMOTIONS, LabelError, label_names
from fer_hf.errors import UserError
from fer_hf.machine import library_bars_off
from fer_hf.recipe.schema import Data, Weighted
from fer_hf.runs import records
from fer_hf.runs.folder import file_stem

Purpose = Literal["training", "evaluation", "inspection"]
GATHERED = 2**30
"""Bytes of pixels that `Faces.pixels` copies at most, for splits that are a part of what was decoded, or several."""


@dataclass(frozen=True)
class Faces:
    """What `load_faces` returns: aligned, checked and described.

    Attributes:
        splits: train, validation and test, each with the columns `image` (`datasets.Image`, any size and mode), `label`
            (`ClassLabel` in the order of `label_names`), `id` (str, unique in its split) and what the source knows of
            `soft_label` (one probability per label) and `columns.ATTRIBUTES`; with several sources also `source`.
        label_names: the emotions, in the order of the label ids.
        source: the kind (toy, fer2013, folder, hub, ... or several).
        dataset: the name to show.
        hub_id: the id on the Hub, where the faces are from there.
        license: what the authors say of its use.
        notes: sentences for the model card.
        dropped: the number of images of each emotion outside the label set.
        dropped_in: the same by the split that they were read in; a split that was drawn from another one has none.
        skipped: the ids of unreadable images that were left out.
        unread: the records that no reader could make an image of, with the reason.
        checked: what the check has kept of each split: prefix of the ids, and images.
        whole: the images of each split before some were drawn from it.
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
    checked: dict[str, list[tuple[str, Checked]]] = field(default_factory=dict, repr=False)
    whole: dict[str, int] = field(default_factory=dict)
    dropped_in: dict[str, dict[str, int]] = field(default_factory=dict)

    @property
    def file_name(self) -> str:
        """The dataset's name, fit for a file name."""
        return file_stem(self.source, self.dataset)

    def describe(self) -> records.Data:
        """The section `data` of metrics.json, without paths of this machine."""
        splits = {str(name): records.Split(len(data), per_class_counts(data)) for name, data in self.splits.items()}
        return records.Data(
            source=self.source,
            dataset=self.dataset,
            hub_id=self.hub_id,
            license=self.license,
            splits=splits,
            skipped=self.skipped,
            dropped=self.dropped,
            notes=self.notes,
        )

    def pixels(self, split: str) -> Array | None:
        """The images of a split as the check has decoded them, so that nobody decodes them again.

        Returns:
            uint8 `(N, C, H, W)` in the order of the split, C being 1 where all images are grey. None where sizes
            differ, where the images were not checked, or where the pixels are too many to keep.
        """
        parts = [(prefix, checked.images["id"][:], checked.pixels()) for prefix, checked in self.checked.get(split, [])]
        arrays = [array for _, _, array in parts if array is not None]
        if not arrays or len(arrays) < len(parts) or len({array.shape[2:] for array in arrays}) > 1:
            return None
        places = {
            prefix + name: (part, row) for part, (prefix, ids, _) in enumerate(parts) for row, name in enumerate(ids)
        }
        rows = np.array([places[name] for name in self.splits[split]["id"][:]])
        if len(arrays) == 1 and np.array_equal(rows[:, 1], np.arange(len(arrays[0]))):
            return arrays[0]
        shape = (len(rows), max(array.shape[1] for array in arrays), *arrays[0].shape[2:])
        if np.prod(shape) > GATHERED:
            return None
        gathered = np.empty(shape, np.uint8)
        for part, array in enumerate(arrays):
            gathered[rows[:, 0] == part] = array[rows[rows[:, 0] == part, 1]]
        return gathered

    def with_train(self, rows: Sequence[int]) -> "Faces":
        """The same faces with these rows of the training split alone."""
        return replace(self, splits=DatasetDict({**self.splits, "train": self.splits["train"].select(rows)}))

    def content(self, split: str) -> str:
        """A hash that tells the images and labels of a split from those of other datasets, wherever the files lie.

        Returns:
            12 hexadecimal digits: the beginning of the SHA-256 of ids, names of the labels, and bytes of the images.
        """
        digest = hashlib.sha256()
        data = self.splits[split]
        for start in range(0, len(data), BATCH):
            rows = range(start, min(start + BATCH, len(data)))
            images = undecoded(data).select(rows)["image"]
            for name, label, image in zip(data[rows]["id"], data["label"][start : start + BATCH], images, strict=True):
                content = image["bytes"] if image["bytes"] is not None else Path(image["path"]).read_bytes()
                digest.update(f"{name}\0{self.label_names[label]}\0{len(content)}\0".encode())
                digest.update(content)
        return digest.hexdigest()[:12]


@library_bars_off()
def load_faces(
    source: str | Sequence[str | Mapping[str, Any]] | Data,
    label_set: str | Sequence[str] | None = "fer7",
    *,
    purpose: Purpose = "training",
    check_images: bool = True,
    **settings: Any,
) -> Faces:
    """Load the faces of one source, or of several together, with the labels of a label set.

    Args:
        source: one of `source.HELP`, or a list of them; an entry of a list may be `{"source": ..., "weight": 2}`, which
            counts its training images twice (0.5: takes half of each class). With several sources ids begin with the
            name of their source. Or the section `data` of a recipe, whose label set is taken then.
        label_set: a name such as "fer7", or names of emotions; None takes all emotions that the sources name.
        purpose: for "evaluation", a source may lack a train split, and a folder of classes is one test split; for
            "inspection", splits stay as they are in the source and may lack classes.
        check_images: whether to decode every image once. What is decoded is kept for `Faces.pixels`.
        settings: further keys of the recipe's section `data` (`recipe.schema.Data`), such as `on_bad_image="skip"`.

    Returns:
        The faces: splits, what was left out, and notes.

    Raises:
        UserError: an unknown source or setting, a class that is no emotion, unreadable images, an empty split, or a
            class that the sources have but without an image to train on. A class that no source has is only noted.
        FerError: the Hub or the disk fails.

    Example:
        >>> faces = load_faces("toy", ["happy", "sad"], per_class=10)
        >>> {split: len(data) for split, data in faces.splits.items()}
        {'train': 20, 'validation': 120, 'test': 200}
    """
    if purpose not in get_args(Purpose):
        raise UserError(f"purpose={purpose!r} is unknown: use {', '.join(get_args(Purpose))}.")
    data = _settings(source, settings)
    entries = [Weighted(source=entry) if isinstance(entry, str) else entry for entry in _listed(data.source)]
    names = _label_names(data.label_set if isinstance(source, Data) else label_set)
    sources = [read(entry.source, data) for entry in entries]
    known = {emotion for part in sources for emotion in part.emotions}
    names = names or tuple(emotion for emotion in EMOTIONS if emotion in known)
    listed = read_exclude(data.exclude) if data.exclude else set()
    for part, prefix in zip(sources, prefixes(sources), strict=True):
        part.align(names)
        part.make_splits(purpose, data)
        part.leave_out(listed, prefix)
        if check_images:
            part.check(data.on_bad_image, keep=purpose != "inspection")
        if purpose == "training" and data.absent_classes == "error":
            part.refuse_absent(names)
    notes = _note_excluded(sources, listed, data.exclude) if listed else []
    splits = sources[0].splits
    joined = [entry.weight for entry in entries] != [1.0]
    if joined:
        splits = join(sources, [entry.weight for entry in entries], data.split_seed)
        counts = Counter(splits["train"]["source"][:]) if "train" in splits else {}
        shown = ", ".join(f"{name} {count:,}" for name, count in counts.items())
        notes.append(f"Training images by source: {shown}.")
    notes += [note for part in sources for note in _notes(part, len(sources) > 1)]
    where = " + ".join(part.where for part in sources)
    whole = {split: len(rows) for split, rows in splits.items()}
    if purpose != "inspection":
        splits, made = _thinned(splits, data)
        notes += made
    if purpose != "inspection" and "train" in splits:
        notes += _check_classes(splits, names, known, where)
    elif purpose != "training":
        splits = {split: rows for split, rows in splits.items() if len(rows)}
    reasons = "".join(part.first_bad() for part in sources)
    if not splits and (check_images or not reasons):  # an audit is there to list what is bad
        raise UserError(f"{where}: there are no images{' of ' * bool(names)}{', '.join(names)}.{reasons}")
    whole = {split: whole[split] for split, rows in splits.items() if len(rows) < whole[split]}
    return replace(_faces(splits, names, sources, notes, joined), whole=whole)


def _thinned(splits: dict[str, Dataset], data: Data) -> tuple[dict[str, Dataset], list[str]]:
    """The splits with as many images as the recipe wants, and a sentence on each that has fewer now."""
    thinned, notes = dict(splits), list[str]()
    for key, split in SUBSETS.items():
        if split in splits and len(splits[split]):
            shaped = (data.mixture, data.fraction) if split == "train" else (None, None)
            name = "training" if split == "train" else split
            thinned[split], made = thin_out(splits[split], *shaped, getattr(data, key), data.split_seed, name)
            notes += made
    return thinned, notes


def _notes(part: Source, several: bool) -> list[str]:
    """The notes of a source, each with the name of its dataset where there are several sources."""
    return [f"{part.raw.dataset}: {note}" if several else note for note in part.raw.notes]


def _faces(
    splits: dict[str, Dataset], names: tuple[str, ...], sources: list[Source], notes: list[str], joined: bool
) -> Faces:
    """The splits with what their sources say of them; `joined`: ids begin with the name of their source."""
    several = len(sources) > 1
    dropped_in = {split: _total(part.dropped.get(split, Counter()) for part in sources) for split in splits}
    dropped = _total(count for part in sources for count in part.dropped.values())
    return Faces(
        DatasetDict({split: splits[split] for split in SPLITS if split in splits}),
        names,
        source="several" if several else sources[0].kind,
        dataset=" + ".join(part.raw.dataset for part in sources),
        hub_id=None if several else sources[0].raw.hub_id,
        license="; ".join(dict.fromkeys(part.raw.license for part in sources if part.raw.license)) or None,
        notes=notes,
        dropped={emotion: dropped[emotion] for emotion in EMOTIONS if emotion not in names},
        skipped=[name for part in sources for name in part.skipped],
        unread={name: reason for part in sources for name, reason in part.raw.bad.items()},
        checked={
            split: [
                (prefix if joined else "", part.checked[split])
                for part, prefix in zip(sources, prefixes(sources), strict=True)
                if split in part.checked
            ]
            for split in splits
        },
        dropped_in={split: dict(sorted(count.items())) for split, count in dropped_in.items()},
    )


def _total(counts: Iterable[Counter[str]]) -> Counter[str]:
    return sum(counts, Counter[str]())


def _settings(source: Any, settings: dict[str, Any]) -> Data:
    """The section `data` of a recipe from the arguments of `load_faces`. Raises `UserError` that names the key."""
    given = source.model_dump() if isinstance(source, Data) else {"source": source}
    known = [name for name in Data.model_fields if name not in ("source", "label_set")]
    if unknown := settings.keys() - known:
        raise UserError(f"load_faces has no setting {min(unknown)!r}: use {', '.join(known)}.")
    try:
        return Data.model_validate(given | settings)
    except ValidationError as error:
        problem = error.errors()[-1]
        key = ".".join(["data", *(str(part) for part in problem["loc"][:1])])
        message = problem["msg"].removeprefix("Value error, ")
        raise UserError(f"{key} is {problem['input']!r}: {message}.") from error


def _listed(source: Any) -> list[Any]:
    return [source] if isinstance(source, str) else source


def _label_names(label_set: str | Sequence[str] | None) -> tuple[str, ...]:
    try:
        return () if label_set is None else label_names(label_set)
    except LabelError as error:
        raise UserError(f"data.label_set: {error}") from error


def _note_excluded(sources: list[Source], listed: set[tuple[str, str]], file: str | None) -> list[str]:
    """A sentence on what was left out. Raises `UserError` for a list of other images, or of images of two sources."""
    excluded = Counter(entry for part in sources for entry in part.excluded)
    if not excluded:
        raise UserError(f"data.exclude: none of the {len(listed):,} ids of {file!r} is in {sources[0].where}.")
    [((split, name), times)] = excluded.most_common(1)
    if times > 1:
        raise UserError(
            f"data.exclude: {name!r} ({split}) is in {times} of the sources. Write which one is meant, such as "
            f"{prefixes(sources)[0] + name!r}, or take the list of an audit of all of them together."
        )
    notes = [f"{excluded.total():,} image(s) listed in data.exclude were left out."]
    if rest := sorted(listed - set().union(*(part.matched for part in sources))):
        split, name = rest[0]
        notes.append(
            f"{len(rest):,} of the {len(listed):,} entries of data.exclude match no image of these classes and splits, "
            f"such as {name!r} ({split})."
        )
    return notes


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
    present = [name for name in names if counts[name]]
    if len(present) < 2:
        raise UserError(f"{where}: at least two classes are needed, but the images show only {', '.join(present)}.")
    absent = [name for name in names if not counts[name]]
    return [f"The dataset has no images of {', '.join(absent)}: a model cannot learn it from them."] if absent else []

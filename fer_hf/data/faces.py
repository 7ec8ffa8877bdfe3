"""Faces: one call from a source such as `folder:PATH` to checked splits, labelled in the order of a label set.

Label ids never leave a source: every split is aligned by the names of its classes. In order: read, align, drop emotions
outside the label set, decode every image once, set missing splits aside, refuse what cannot be trained on.
"""

import io
import math
import os
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import PIL.Image
from datasets import ClassLabel, Dataset, DatasetDict, Image

from fer_hf.data import fer2013, folder, hub, toy
from fer_hf.data.splits import Raw, add_missing
from fer_hf.emotions import EMOTIONS, LabelError, label_names
from fer_hf.errors import UserError
from fer_hf.progress import track

READERS = {"fer2013": fer2013.read, "folder": folder.read, "hub": hub.read}
SOURCES = "toy, fer2013:PATH, folder:PATH, hub:org/name or hub:org/name@revision"


@dataclass(frozen=True)
class Faces:
    """What `load_faces` returns: aligned, checked and described.

    `splits` has train, validation and test, each with the columns `image` (`datasets.Image`, any size and mode),
    `label` (`ClassLabel` in the order of `label_names`) and `id` (str, unique in its split). `source` is toy, fer2013,
    folder or hub; `dataset` is the name to show; `notes` are sentences for the model card; `dropped` counts the images
    of each emotion outside the label set; `skipped` lists the ids of unreadable images that were left out.
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

    def describe(self) -> dict[str, Any]:
        """The section `data` of `metrics.json`: plain JSON types, and no path of this machine."""
        return {
            "source": self.source,
            "dataset": self.dataset,
            "hub_id": self.hub_id,
            "license": self.license,
            "splits": {
                str(name): {"images": len(data), "per_class": _per_class(data)} for name, data in self.splits.items()
            },
            "skipped": self.skipped,
            "dropped": self.dropped,
            "notes": self.notes,
        }


def load_faces(
    source: str,
    label_set: str | Sequence[str] = "fer7",
    *,
    validation_fraction: float = 0.1,
    test_fraction: float = 0.1,
    seed: int = 0,
    on_bad_image: Literal["error", "skip"] = "error",
    check_images: bool = True,
    training: bool = True,
) -> Faces:
    """The faces of a source, with the labels of `label_set`.

    `source` is `toy`, `fer2013:PATH`, `folder:PATH`, `hub:org/name` or `hub:org/name@revision`. The fractions and the
    seed matter only where the source lacks a split. With `check_images` every image is decoded once; unreadable images
    and records raise, or are left out with `on_bad_image="skip"`. Without `training`, a source may lack a train split,
    and a folder of classes is one test split. Nothing else depends on `seed`: the toy faces are
    always the same.

    Raises `UserError` for an unknown source, a class that is no emotion, unreadable images, an empty split, and a class
    that the source has but without an image to train on. A class that the source does not have at all is only noted.
    Raises `FerError` when the Hub or the disk fails.
    """
    if on_bad_image not in ("error", "skip"):
        raise UserError(f"data.on_bad_image is {on_bad_image!r}: it has to be error or skip.")
    try:
        names = label_names(label_set)
    except LabelError as error:
        raise UserError(f"data.label_set: {error}") from error
    kind, raw = _read(source)

    aligned: dict[str, Dataset] = {}
    dropped = {emotion: 0 for emotion in EMOTIONS if emotion not in names}
    known: set[str] = set()
    for split, data in raw.splits.items():
        labels, emotions = _emotions_of(data, f"{source}, split {split}")
        known |= set(emotions)
        for emotion in dropped:
            dropped[emotion] += int(np.sum(labels == emotion))
        if unlabelled := int(np.sum(labels == "")):
            raw.notes.append(f"{unlabelled:,} image(s) of the {split} split have no label and were left out.")
        if len(data := _with_labels(data, labels, names)):
            aligned[split] = data

    unread = unreadable(aligned) if check_images and kind != "toy" else {}
    bad = [*raw.bad.items(), *(item for found in unread.values() for item in found.items())]
    if bad and on_bad_image == "error":
        first, reason = bad[0]
        raise UserError(
            f"{source}: {first}: {reason}. {len(bad)} image(s) cannot be read. Mend or remove them, or set "
            "data.on_bad_image=skip to go on without them."
        )
    if bad:
        raw.notes.append(f"{len(bad):,} unreadable image(s) were left out.")
        aligned |= {split: _without(aligned[split], found) for split, found in unread.items()}
        aligned = {split: data for split, data in aligned.items() if len(data)}

    splits, notes = aligned, list[str]()
    if not training and kind == "folder" and set(aligned) == {"train"}:
        splits = {"test": aligned["train"]}
        notes = ["The folder has no splits: all of its images were used as the test split."]
    elif training or "train" in aligned:
        try:
            splits, notes = add_missing(aligned, validation_fraction, test_fraction, seed)
        except UserError as error:
            raise UserError(f"{source}: {error}") from error
        notes += _check_classes(splits, names, known, source)
    if not splits:
        raise UserError(f"{source}: there are no images of {', '.join(names)}.")
    return Faces(
        DatasetDict(splits),
        names,
        kind,
        raw.dataset,
        raw.hub_id,
        raw.license,
        notes=raw.notes + notes,
        dropped=dropped,
        skipped=[name for name, _ in bad],
    )


def _read(source: str) -> tuple[str, Raw]:
    """The kind of a source, and what its reader found."""
    kind, _, place = source.partition(":")
    if source == "toy":
        note = "The faces are drawings made by a program, not people: figures on them say nothing about real faces."
        return kind, Raw(dict(toy.load()), "procedural faces (toy)", notes=[note])
    if kind in READERS and place:
        return kind, READERS[kind](place)
    path = Path(source).expanduser()
    if path.exists():
        prefix = "fer2013" if path.is_file() or fer2013.layout(path) in ("csv", "parquet") else "folder"
        hint = f" There is something at this path: did you mean {prefix}:{source}?"
    else:
        hint = f" Did you mean hub:{source}?" if re.fullmatch(r"[\w.-]+/[\w.-]+", source) else ""
    raise UserError(f"data.source is {source!r}, which is no source of faces: use {SOURCES}.{hint}")


def _emotions_of(data: Dataset, where: str) -> tuple[np.ndarray, tuple[str, ...]]:
    """The canonical emotion of every image (N,), empty where it has no label, and all emotions that the split names."""
    try:
        emotions = label_names(data.features["label"].names)
    except LabelError as error:
        raise UserError(
            f"{where}: {error} Each class has to be named after one emotion: rename the class, or remove its images."
        ) from error
    labels = np.asarray(data["label"][:], dtype=int)
    return np.array([*emotions, ""])[labels], emotions  # -1, no label, takes the last


def _with_labels(data: Dataset, labels: np.ndarray, names: tuple[str, ...]) -> Dataset:
    """The images whose emotion is in `names`, with labels in that order."""
    ids = [names.index(label) if label in names else -1 for label in labels.tolist()]
    data = data.remove_columns("label").add_column("label", ids, feature=ClassLabel(names=list(names)))
    data = data.select_columns(["image", "label", "id"])
    return data if min(ids, default=0) >= 0 else data.select([row for row, label in enumerate(ids) if label >= 0])


def _without(data: Dataset, bad: dict[str, str]) -> Dataset:
    return data.select([row for row, name in enumerate(data["id"]) if name not in bad])


def _per_class(data: Dataset) -> dict[str, int]:
    names = data.features["label"].names
    counts = np.bincount(np.asarray(data["label"][:], dtype=int), minlength=len(names))
    return dict(zip(names, counts.tolist(), strict=True))


def _check_classes(splits: dict[str, Dataset], names: tuple[str, ...], known: set[str], source: str) -> list[str]:
    """Refuse empty splits and classes that cannot be trained; a note names the classes that the source lacks."""
    if empty := [split for split, data in splits.items() if not len(data)]:
        raise UserError(f"{source}: no image is left in the split(s) {', '.join(empty)}, given {', '.join(names)}.")
    counts = _per_class(splits["train"])
    if untrained := [name for name in names if name in known and not counts[name]]:
        raise UserError(
            f"{source}: the train split has no image of {', '.join(untrained)}. Add images, or leave the class out "
            f"with data.label_set=[{', '.join(name for name in names if counts[name])}]."
        )
    if sum(count > 0 for count in counts.values()) < 2:
        raise UserError(f"{source}: at least two classes are needed, but the images show only {', '.join(known)}.")
    absent = [name for name in names if not counts[name]]
    return [f"The dataset has no images of {', '.join(absent)}: a model cannot learn it from them."] if absent else []


# --- reading every image once


def unreadable(splits: dict[str, Dataset]) -> dict[str, dict[str, str]]:
    """For each split that has any: the ids of images that cannot be decoded whole, with the reason.

    Every image is decoded once, in threads; a progress bar appears when that takes long.
    """
    bad: dict[str, dict[str, str]] = {}
    threads = min(os.cpu_count() or 1, 16)
    with ThreadPoolExecutor(threads) as pool:
        for split, data in splits.items():
            raw = data.cast_column("image", Image(decode=False))
            for batch in track(raw.iter(1024), f"checking {split} images", math.ceil(len(data) / 1024)):
                pairs = list(zip(batch["id"], batch["image"], strict=True))
                for found in pool.map(_unreadable_of, [pairs[start::threads] for start in range(threads)]):
                    if found:
                        bad.setdefault(split, {}).update(found)
    return {split: dict(sorted(found.items())) for split, found in bad.items()}


def _unreadable_of(pairs: list[tuple[str, dict[str, Any] | None]]) -> dict[str, str]:
    return {name: reason for name, image in pairs if (reason := _why_unreadable(image))}


def _why_unreadable(image: dict[str, Any] | None) -> str | None:
    """Why an undecoded image, `{"bytes": ..., "path": ...}`, cannot be read; None when it can."""
    if image is None or (image["bytes"] is None and not image["path"]):
        return "there is no image"
    try:
        with PIL.Image.open(image["path"] if image["bytes"] is None else io.BytesIO(image["bytes"])) as picture:
            if picture.width * picture.height > (PIL.Image.MAX_IMAGE_PIXELS or math.inf):
                return f"{picture.width} x {picture.height} pixels are more than Pillow holds to be safe"
            picture.load()
    except PIL.UnidentifiedImageError:
        return "it is no image, or of a format that Pillow does not know"
    except Exception as error:  # decoders raise many kinds on damaged data, and each of them makes a bad image
        return str(error) or type(error).__name__
    return None

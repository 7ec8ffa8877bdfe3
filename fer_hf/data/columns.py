"""The standard columns of a split, and how the columns of any `datasets` table become them, found by their types.

A column of bare numbers is refused as a label: every dataset of this field numbers the emotions in an order of its own.
The same holds for numbers as gender and race.
"""

import glob
import math
import os
import re
from collections import Counter
from collections.abc import Sequence as Items
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasets import ClassLabel, Dataset, Features, Image, Sequence, Value, load_dataset
from huggingface_hub import constants

from fer_hf.data.decode import decode
from fer_hf.data.splits import SPLIT_HELP, split_name
from fer_hf.emotions import emotion_of
from fer_hf.errors import FerError, UserError

ATTRIBUTES = {
    "gender": Value("string"),
    "age": Value("string"),
    "race": Value("string"),
    "valence": Value("float32"),
    "arousal": Value("float32"),
    "subject": Value("string"),
}
"""What a dataset may know of an image beside `image`, `label`, `id` and `soft_label` (one probability per class, in the
order of the label names); None where it does not know. Valence and arousal run from -1 to 1."""
USUAL_NAMES = {"image": ("image", "img"), "label": ("label", "labels", "emotion", "expression")}
MOST_CLASSES = 100
"""A text column with more values than this is no label."""
TEXT = (Value("string"), Value("large_string"))
UNKNOWN = {"", "-", "n/a", "nan", "none", "null", "unknown", "unsure"}
GENDERS = dict.fromkeys(("f", "woman", "girl"), "female") | dict.fromkeys(("m", "man", "boy"), "male")


def make_split(names: Items[str], image: list[Any], label: list[int], id: list[str], **known: list[Any]) -> Dataset:
    """A split from lists.

    Args:
        names: the label names.
        image: absolute paths, or encoded images as bytes.
        label: indices of `names`.
        id: names of the images.
        known: further columns, `soft_label` or any of `ATTRIBUTES`.
    """
    features = Features(image=Image(), label=ClassLabel(names=list(names)), id=Value("string"))
    for name in known:
        features[name] = ATTRIBUTES.get(name) or soft_feature(len(names))
    if image and isinstance(image[0], bytes):
        image = [{"bytes": content, "path": None} for content in image]
    return Dataset.from_dict({"image": image, "label": label, "id": id, **known}, features=features)


def soft_feature(classes: int) -> Sequence:
    """The type of the column `soft_label`."""
    return Sequence(Value("float32"), length=classes)


def per_class_counts(data: Dataset) -> dict[str, int]:
    """How many images of each label a split has, in the order of the label names."""
    names = data.features["label"].names
    counts = np.bincount(np.asarray(data["label"][:], dtype=int), minlength=len(names))
    return dict(zip(names, counts.tolist(), strict=True))


def read_parquet(path: Path, notes: list[str]) -> dict[str, Dataset]:
    """The splits in the files `train-*.parquet` and so on of the folder `path`, or of its sub-folder `data`.

    What is left out is said in `notes`.
    """
    if "::" in str(path.resolve()):
        raise UserError(f"{str(path)!r} has '::' in its path, at which `datasets` would cut it: rename the folder.")
    files: dict[str, list[str]] = {}
    for file in parquet_files(path):
        split = split_name(file.stem.split("-")[0])
        if split is None:
            raise UserError(f"{str(file)!r} names no split: train-*.parquet and so on is wanted ({SPLIT_HELP}).")
        files.setdefault(split, []).append(glob.escape(str(file.resolve())))  # `datasets` expands patterns
    try:
        loaded = load_dataset("parquet", data_files=files)
    except Exception as error:  # `datasets` wraps what goes wrong in a file or on the disk into many classes
        cause = error.__cause__ or error
        raise FerError(
            f"The Parquet files of {str(path)!r} could not be read: {cause} If they are whole (their size, a second "
            "download), look at the room and rights of the folder that `datasets` copies to (HF_DATASETS_CACHE)."
        ) from error
    where = f"split of {str(path)!r}"
    return {split: standard_columns(loaded[split], split, f"The {split} {where}", notes) for split in files}


def parquet_files(path: Path) -> list[Path]:
    """The Parquet files of a folder, or else of its sub-folder `data`."""
    return sorted(path.glob("*.parquet")) or sorted(path.glob("data/*.parquet"))


def standard_columns(data: Dataset, split: str, where: str, notes: list[str]) -> Dataset:
    """The columns `image`, `label` and `id` of a table of any column names; `where` begins the error messages.

    A column of text `id` is kept where its values are unique. Else ids are the file names that the images carry;
    `<split>_<row>`, rows counted from 0, for an image that carries none, or one that another image carries too.
    `soft_label` and the columns of `ATTRIBUTES` are kept; `notes` gets a sentence on each that cannot be used.
    """
    image = _image_column(data, where)
    label, names = _label_column(data, where)
    labels = data.select_columns(label).with_format("arrow")[:][label]
    if not isinstance(data.features[label], ClassLabel):
        labels = pc.index_in(labels, pa.array(names, labels.type))
    labels = pc.fill_null(labels, -1).to_pylist()
    if wrong := [value for value in labels if not -1 <= value < len(names)]:  # `datasets` lets them pass
        labels = [value if value < len(names) else -1 for value in np.maximum(labels, -1).tolist()]
        notes.append(f"{len(wrong):,} label(s) of the {split} split, such as {wrong[0]}, are of no class.")
    faces = data.select_columns(image)
    faces = faces if image == "image" else faces.rename_column(image, "image")
    faces = faces.cast_column("image", Image())
    paths = image_paths(faces.with_format("arrow")[:]["image"], where)
    faces = faces.add_column("label", labels, feature=ClassLabel(names=names))
    faces = faces.add_column("id", _ids(data, paths, split), feature=Value("string"))
    for name in ("soft_label", *ATTRIBUTES):
        if name not in data.column_names:
            continue
        try:
            if name == "soft_label":
                faces = faces.add_column(name, _soft_labels(data, label, labels), feature=soft_feature(len(names)))
            else:
                faces = faces.add_column(name, _attributes(data, name), feature=ATTRIBUTES[name])
        except ValueError as error:
            notes.append(f"The column {name} of the {split} split was left out: {error}.")
    return faces


def attribute(name: str, value: Any) -> str | float | None:
    """A value of anybody's as `ATTRIBUTES` has it; None where it says that the attribute is not known.

    "F", "Woman" are "female"; text is in lower case, names of subjects aside. Raises `ValueError` that says what is
    wrong with it: a number as gender or race, and valence or arousal that is no number from -1 to 1.
    """
    text = "" if value is None else str(value).strip()
    if text.lower() in UNKNOWN:
        return None
    if ATTRIBUTES[name].dtype == "string":
        if name in ("gender", "race") and re.fullmatch(r"[\d.-]+", text):
            raise ValueError(f"{name} is {text!r}, a number of unknown meaning")
        text = re.sub(r"^(\d+)\.0$", r"\1", text if name == "subject" else text.lower())  # a table with gaps has 34.0
        return GENDERS.get(text, text) if name == "gender" else text
    try:
        number = float(text)
    except ValueError:
        number = math.inf
    if number == -2:  # AffectNet's sign for an image without
        return None
    if not -1 <= number <= 1:
        raise ValueError(f"{name} is {text[:20]!r}, not a number from -1 to 1")
    return number


def license_in(card: dict[str, Any]) -> str | None:
    """The licence in the metadata of a card: `license_name` stands for licences that the Hub has no id for."""
    licence = card.get("license_name") or card.get("license")
    return ", ".join(map(str, licence)) if isinstance(licence, list) else licence


def _image_column(data: Dataset, where: str) -> str:
    matches = [name for name in data.column_names if _holds_images(data, name)]
    return _choose(matches, "image", "column of images", data.features, where)


def _holds_images(data: Dataset, name: str) -> bool:
    """Whether a column has the type of images, or holds files as bytes of which the first is an image."""
    feature = data.features[name]
    raw = {"bytes": Value("binary"), "path": Value("string")}  # an Image whose Parquet file lost its metadata
    if isinstance(feature, Image) or feature == raw:
        return True
    if feature not in (Value("binary"), Value("large_binary")):
        return False
    first = next((value for value in data.select_columns(name)[:10][name] if value), None)
    try:
        return bool(decode({"bytes": first, "path": None}))
    except ValueError:
        return False


def _label_column(data: Dataset, where: str) -> tuple[str, list[str]]:
    """The column whose class names, or strings, are emotions, and these names."""
    matches = {}
    for column, feature in data.features.items():
        if isinstance(feature, ClassLabel):
            names = feature.names
        elif feature in TEXT:
            names = sorted(value for value in data.unique(column) if value is not None)
        else:
            continue
        if len(names) <= MOST_CLASSES and any(emotion_of(name) for name in names):
            matches[column] = names
    column = _choose(list(matches), "label", "column of labels with the names of emotions", data.features, where)
    return column, matches[column]


def _choose(matches: list[str], kind: str, what: str, features: Features, where: str) -> str:
    usual = [name for name in matches if name.lower() in USUAL_NAMES[kind]]
    if len(matches) != 1 and len(usual) != 1:
        columns = "; ".join(f"{name}: {_describe(feature)}" for name, feature in features.items())
        raise UserError(
            f"{where} has {'no' if not matches else 'more than one'} {what}. Its columns: {columns}. Wanted: one Image "
            "column, and one column of ClassLabel or strings that names emotions. Bare numbers are refused, since "
            "every dataset numbers the emotions in an order of its own."
        )
    return matches[0] if len(matches) == 1 else usual[0]


def _describe(feature: object) -> str:
    if isinstance(feature, ClassLabel):
        return f"ClassLabel ({', '.join(feature.names[:10])})"
    return feature.dtype if isinstance(feature, Value) else type(feature).__name__


def image_paths(images: pa.ChunkedArray, where: str) -> list[str | None]:
    """The path of each image. Raises `UserError` for one without bytes that is no file which was downloaded for it."""
    paths = pc.struct_field(images, "path").to_pylist()
    empty = pc.is_null(pc.struct_field(images, "bytes")).to_pylist()
    homes = tuple(os.path.join(home, "") for home in (constants.HF_HUB_CACHE, datasets.config.HF_DATASETS_CACHE))
    for path, missing in zip(paths, empty, strict=True):
        if missing and path and "://" not in path and not os.path.normpath(path).startswith(homes):
            raise UserError(
                f"{where} holds the path of an image, {path!r}, and not the image. Embed the images first, as "
                "`fer-hf data save` does."
            )
    return paths


def _ids(data: Dataset, paths: list[str | None], split: str) -> list[str]:
    if data.features.get("id") in TEXT:
        ids = data["id"][:]
        if None not in ids and len(set(ids)) == len(ids):
            return ids
    files = [re.split(r"[/\\]", path)[-1] if path else "" for path in paths]
    count = Counter(files)
    rows = [f"{split}_{row}" for row in range(len(files))]
    ids = [file if file and count[file] == 1 else row for file, row in zip(files, rows, strict=True)]
    return ids if len(set(ids)) == len(ids) else rows  # a file may be called train_7, of all things


def _attributes(data: Dataset, name: str) -> list[str | float | None]:
    feature, values = data.features[name], data[name][:]
    if isinstance(feature, ClassLabel):
        values = [None if value is None or value < 0 else feature.names[value] for value in values]
    elif not isinstance(feature, Value):
        raise ValueError(f"it is {_describe(feature)}")
    return [attribute(name, value) for value in values]


def _soft_labels(data: Dataset, label: str, labels: list[int]) -> list[list[float]]:
    """The probabilities; for an image without any, as beside other sources, those that its label stands for."""
    if not isinstance(data.features[label], ClassLabel):
        raise ValueError("the labels are text, so the order of its numbers is unknown")
    certain = np.eye(len(data.features[label].names), dtype=np.float32).tolist()
    rows = [certain[hard] if row is None else row for row, hard in zip(data["soft_label"][:], labels, strict=True)]
    if {len(row) for row in rows} - {len(certain)}:
        raise ValueError(f"its rows do not all have {len(certain)} numbers, one per class")
    return rows

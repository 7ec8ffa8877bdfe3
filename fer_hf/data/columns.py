"""The standard columns of a split, and how the columns of any `datasets` table become them, found by their types.

A column of bare numbers is refused as a label: every dataset of this field numbers the emotions in an order of its own.
The same holds for numbers as gender and race.
"""

import math
import os
import re
from collections import Counter
from collections.abc import Sequence as Items
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasets import ClassLabel, Dataset, Features, Image, Sequence, Value
from huggingface_hub import constants

from fer_hf.data.decode import decode
from fer_hf.emotions import emotion_of, label_names
from fer_hf.errors import UserError

ATTRIBUTES = {
    "gender": Value("string"),
    "age": Value("string"),
    "race": Value("string"),
    "intensity": Value("string"),
    "valence": Value("float32"),
    "arousal": Value("float32"),
    "subject": Value("string"),
    "picture": Value("string"),
    "photograph": Value("string"),
}
"""What a dataset may know of an image beside `image`, `label`, `id` and `soft_label` (one probability per class, in the
order of the label names); None where it does not know. Valence and arousal run from -1 to 1. Whatever else it says of
its images is kept as text."""
RESERVED = ("image", "label", "id", "soft_label", "source", "logits", "file_name")
"""Columns that mean something else: an attribute cannot have these names."""
LOWER_CASE = ("gender", "age", "race", "intensity")
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
        known: further columns, `soft_label` or attributes.
    """
    features = Features(image=Image(), label=ClassLabel(names=list(names)), id=Value("string"))
    for name in known:
        features[name] = soft_feature(len(names)) if name == "soft_label" else feature_of(name)
    if image and isinstance(image[0], bytes):
        image = [{"bytes": content, "path": None} for content in image]
    return Dataset.from_dict({"image": image, "label": label, "id": id, **known}, features=features)


def feature_of(name: str) -> Value:
    """The type of an attribute."""
    return ATTRIBUTES.get(name, Value("string"))


def soft_feature(classes: int) -> Sequence:
    """The type of the column `soft_label`."""
    return Sequence(Value("float32"), length=classes)


def per_class_counts(data: Dataset) -> dict[str, int]:
    """How many images of each label a split has, in the order of the label names."""
    names = data.features["label"].names
    counts = np.bincount(np.asarray(data["label"][:], dtype=int), minlength=len(names))
    return dict(zip(names, counts.tolist(), strict=True))


def relabel(data: Dataset, names: Items[str]) -> Dataset:
    """Labels, and soft labels, in the order of `names`, by name; the label of an image of another emotion is -1.

    A row without soft labels gets those that its label stands for. Raises `LabelError` where a class is no emotion.
    """
    own = label_names(data.features["label"].names)
    places = [names.index(name) if name in names else -1 for name in own] + [-1]
    labels = data["label"][:]
    ids = [places[label] for label in labels]
    keep = [name for name in data.column_names if name not in ("label", "soft_label")]
    relabelled = data.select_columns(keep).add_column("label", ids, feature=ClassLabel(names=list(names)))
    if "soft_label" in data.column_names:
        soft = np.array(_complete(data["soft_label"][:], labels, len(own)), np.float32)
        aligned = np.zeros((len(ids), len(names)), dtype=np.float32)
        for place, name in enumerate(names):
            if name in own:
                aligned[:, place] = soft[:, own.index(name)]
        total = aligned.sum(axis=1, keepdims=True)  # what went to emotions outside the label set is shared out
        aligned = np.where(total > 0, aligned / np.maximum(total, 1e-9), np.eye(len(names), dtype=np.float32)[ids])
        relabelled = relabelled.add_column("soft_label", aligned.tolist(), feature=soft_feature(len(names)))
    return relabelled.select_columns([*dict.fromkeys(("image", "label", "id", *relabelled.column_names))])


def same_columns(parts: list[Dataset]) -> list[Dataset]:
    """Every column that one of the datasets has, empty in those that do not know it."""
    features = Features({name: feature for part in parts for name, feature in part.features.items()})
    filled = []
    for part in parts:
        for name in features.keys() - part.features.keys():
            part = part.add_column(name, [None] * len(part), feature=features[name])
        filled.append(part.select_columns(list(features)))
    return filled


def standard_columns(data: Dataset, split: str, where: str, notes: list[str]) -> Dataset:
    """The columns `image`, `label` and `id` of a table of any column names; `where` begins the error messages.

    A column of text `id` is kept where its values are unique. Else ids are the file names that the images carry;
    `<split>_<row>`, rows counted from 0, for an image that carries none, or one that another image carries too.
    `soft_label`, the columns of `ATTRIBUTES` and other ones of text are kept; `notes` gets a sentence on each that is
    not.
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
    ids = _ids(data, paths, split)
    faces = faces.add_column("id", ids, feature=Value("string"))
    others = [name for name in data.column_names if name not in (image, label)]
    texts = [name for name in others if data.features[name] in TEXT and name not in RESERVED]
    for name in dict.fromkeys(name for name in ("soft_label", *ATTRIBUTES, *texts) if name in others):
        try:
            if name == "soft_label":
                faces = faces.add_column(name, _soft_labels(data, label, labels), feature=soft_feature(len(names)))
            else:
                faces = faces.add_column(name, _attributes(data, name), feature=feature_of(name))
        except ValueError as error:
            notes.append(f"The column {name} of the {split} split was left out: {error}.")
    read = {"soft_label", *ATTRIBUTES, *texts} | ({"id"} if "id" in others and ids == data["id"][:] else set())
    if unread := [name for name in others if name not in read]:
        notes.append(f"The {split} split has columns that were not read: {', '.join(unread)}.")
    return faces


def attribute(name: str, value: Any) -> str | float | None:
    """A value of anybody's as `ATTRIBUTES` has it; None where it says that the attribute is not known.

    "F", "Woman" are "female"; gender, age, race and intensity are in lower case. Raises `ValueError` that says what is
    wrong with it: a number as gender or race, and valence or arousal that is no number from -1 to 1.
    """
    text = "" if value is None else str(value).strip()
    if not text or (name in ATTRIBUTES and text.lower() in UNKNOWN):
        return None
    if name not in ATTRIBUTES:
        return text
    if ATTRIBUTES[name].dtype == "string":
        if name in ("gender", "race") and re.fullmatch(r"[\d.-]+", text):
            raise ValueError(f"{name} is {text!r}, a number of unknown meaning")
        text = re.sub(r"^(\d+)\.0$", r"\1", text.lower() if name in LOWER_CASE else text)  # a table with gaps has 34.0
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
    """The probabilities, of as many classes as there are."""
    if not isinstance(data.features[label], ClassLabel):
        raise ValueError("the labels are text, so the order of its numbers is unknown")
    classes = len(data.features[label].names)
    rows = _complete(data["soft_label"][:], labels, classes)
    if {len(row) for row in rows} - {classes}:
        raise ValueError(f"its rows do not all have {classes} numbers, one per class")
    return rows


def _complete(rows: list[list[float] | None], labels: list[int], classes: int) -> list[list[float]]:
    """Soft labels; for an image without any, as beside other sources, those that its label stands for."""
    certain = np.eye(classes, dtype=np.float32).tolist()
    return [certain[label] if row is None else row for row, label in zip(rows, labels, strict=True)]

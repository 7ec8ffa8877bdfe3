"""FER2013 (Goodfellow et al. 2013, arXiv 1307.0414) in the three layouts it is passed on in, told apart by looking.

- csv: `fer2013.csv` or `icml_face_data.csv`, one image per row: `emotion,pixels,Usage`
- Kaggle folders: `train|test/<class>/*.jpg`, where `test` mixes the files PublicTest_* and PrivateTest_*
- Parquet: `train-*.parquet`, `validation-*.parquet`, `test-*.parquet`, in the folder or its sub-folder `data`

Training, PublicTest and PrivateTest become train, validation and test. Images are 48x48, grey.
"""

import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from datasets import ClassLabel, Features

from fer_hf.data.columns import make_split
from fer_hf.data.readers import Raw, folder, left_aside
from fer_hf.data.splits import split_name
from fer_hf.data.tables import parquet_files, read_parquet
from fer_hf.emotions import emotion_of
from fer_hf.errors import UserError
from fer_hf.files import read_csv

SIZE = 48
CSV_NAMES = ("fer2013.csv", "icml_face_data.csv")
CSV_LABELS = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
USAGES = {"Training": "train", "PublicTest": "validation", "PrivateTest": "test"}
LICENSE = "DbCL 1.0 (as published on Kaggle)"
DEFECTS = (
    "As published, 12.8 % of FER2013's test images and 12.1 % of its validation images have a copy, exact or near, in "
    "the training split (`fer-hf data audit`); there are wrong labels, drawings and black images.",
    "About 12 % of FER2013's images have no majority among the ten annotators of FER+, and people agree with its "
    "labels on about 65 % of images (Goodfellow et al. 2013).",
)
NAME = "FER2013"
WANTED = (
    "a csv file of FER2013, or a folder with fer2013.csv or icml_face_data.csv, with train/<class>/ and test/<class>/, "
    "or with train-*.parquet and so on"
)
OPTIONS = ()


def read(path: Path) -> Raw:
    """FER2013 at `path`: a csv file, or a folder in one of the three layouts. Raises `UserError`."""
    readers = {"csv": _read_csv, "folders": _read_folders, "parquet": _read_parquet}
    raw = readers[str(layout(path))](path)
    raw.notes[:0] = DEFECTS
    return raw


def layout(path: Path) -> str | None:
    """`"csv"`, `"parquet"`, `"folders"`, or None when `path` does not look like FER2013."""
    if path.is_file():
        return "csv" if path.suffix.lower() == ".csv" and path.name.lower() != "ckextended.csv" else None
    if any((path / name).is_file() for name in CSV_NAMES):
        return "csv"
    if files := parquet_files(path):
        return "parquet" if _may_be_fer2013(files[0]) else None
    tops = [top for top in path.glob("*/") if split_name(top.name)]
    return "folders" if any(emotion_of(child.name) for top in tops for child in top.glob("*/")) else None


def _may_be_fer2013(file: Path) -> bool:
    """Whether a Parquet file has no other classes than FER2013, and no `id`, which `fer-hf data save` writes."""
    try:
        features = Features.from_arrow_schema(pq.read_schema(file))
    except (OSError, ValueError):  # damaged: the reader says so
        return True
    names = {name for feature in features.values() if isinstance(feature, ClassLabel) for name in feature.names}
    return "id" not in features and all(emotion_of(name) in ("", *CSV_LABELS) for name in names)


def is_unmistakable(path: Path) -> bool:
    """Whether names say that `path`, whose layout other datasets share, is FER2013."""
    kind = layout(path)
    if kind == "parquet":
        try:
            image = next(pq.ParquetFile(parquet_files(path)[0]).iter_batches(1, columns=["image.path"]))["image"][0]
        except (OSError, ValueError, KeyError, StopIteration):  # damaged, or of other columns
            return False
        return str(image.as_py()["path"]).startswith(tuple(USAGES))
    return kind == "csv" or (kind == "folders" and any(path.glob("*/*/PrivateTest_*")))


def _read_csv(path: Path) -> Raw:
    """Ids are `<Usage>_<row>`, rows counted from 0 over the whole file, as FER+ counts them."""
    file = path if path.is_file() else next(path / name for name in CSV_NAMES if (path / name).is_file())
    raw = read_pixels(file, NAME, CSV_LABELS)
    raw.license = LICENSE
    raw.notes += left_aside(path, {file.name}) if path.is_dir() else []
    return raw


def read_pixels(file: Path, dataset: str, labels: Sequence[str]) -> Raw:
    """The images of a csv with `emotion,pixels,Usage`; `labels` are the names of its emotions, from 0."""
    splits: dict[str, dict[str, list]] = {}
    bad, columns = dict[str, str](), ("emotion", "pixels", "usage")
    others: dict[str, None] = {}
    for row, where, cells in read_csv(file, columns, bad):
        emotion, usage = cells["emotion"], usage_of(cells["usage"])
        others |= dict.fromkeys(name for name in cells if name not in columns)
        try:
            if usage not in USAGES:
                raise ValueError(f"Usage is {usage[:20]!r}, not one of {', '.join(USAGES)}")
            if emotion not in map(str, range(len(labels))):
                raise ValueError(f"emotion is {emotion[:20]!r}, not one of 0 to {len(labels) - 1}")
            image = grey_image(cells["pixels"], SIZE)
        except ValueError as error:
            bad[where] = str(error)
            continue
        split = splits.setdefault(USAGES[usage], {"image": [], "label": [], "id": []})
        split["image"].append(image)
        split["label"].append(int(emotion))
        split["id"].append(f"{usage}_{row}")
    notes = [f"Columns of {file.name} that were not read: {', '.join(map(repr, others))}."] if others else []
    data = {split: make_split(labels, **rows) for split, rows in splits.items()}
    return Raw(data, dataset, notes=notes, bad=bad)


def usage_of(text: str) -> str:
    """The Usage that a cell names, whatever its case."""
    return next((usage for usage in USAGES if usage.lower() == text.lower()), text)


def grey_image(pixels: str, size: int) -> bytes:
    """`size` x `size` numbers from 0 to 255 with blanks or commas between them, as a binary PGM: lossless and cheap.

    Raises `ValueError` that says what is wrong with them.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("error", DeprecationWarning)  # NumPy's sign of text that is no number
        try:
            values = np.fromstring(
                pixels.strip("[]").replace(",", " "), dtype=np.int64, sep=" "
            )  # six times as fast as int() on each number
        except (ValueError, DeprecationWarning):
            raise ValueError("pixels are not all whole numbers") from None
    if values.size != size * size:
        raise ValueError(f"there are {values.size} pixels, not {size * size}")
    if values.min() < 0 or values.max() > 255:
        raise ValueError(f"pixels run from {values.min()} to {values.max()}, not from 0 to 255")
    return b"P5 %d %d 255\n" % (size, size) + values.astype(np.uint8).tobytes()


def _read_folders(path: Path) -> Raw:
    splits, notes, bad = folder.list_images(path)
    usages: dict[str, list[folder.ImageFile]] = {"PublicTest": [], "PrivateTest": [], "": []}
    for file in splits.get("test", []):
        prefix = file.id.rsplit("/", 1)[-1].split("_")[0]
        usages[prefix if prefix in usages else ""].append(file)
    if usages["PublicTest"] and "validation" not in splits:
        if usages[""]:
            other = usages[""][0].id
            raise UserError(
                f"{str(path / other)!r} is named neither PublicTest_* nor PrivateTest_*, but other files of its split "
                "are: the two cannot be told apart. Move the file away, or use folder: to take the test split whole."
            )
        splits |= {"validation": usages["PublicTest"], "test": usages["PrivateTest"]}
        notes.append("The test folder was split by file name: PublicTest_* is validation, PrivateTest_* is test.")
    data = {split or "train": folder.to_dataset(path, files) for split, files in splits.items() if files}
    return Raw(data, "FER2013", license=LICENSE, notes=notes, bad=bad)


def _read_parquet(path: Path) -> Raw:
    notes: list[str] = []
    return Raw(read_parquet(path, notes), NAME, license=LICENSE, notes=notes)

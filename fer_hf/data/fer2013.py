"""FER2013 (Goodfellow et al. 2013, arXiv 1307.0414) in the three layouts it is passed on in, told apart by looking.

- csv: `fer2013.csv` or `icml_face_data.csv`, one image per row: `emotion,pixels,Usage`
- Kaggle folders: `train|test/<class>/*.jpg`, where `test` mixes the files PublicTest_* and PrivateTest_*
- Parquet: `train-*.parquet`, `validation-*.parquet`, `test-*.parquet`, in the folder or its sub-folder `data`

Training, PublicTest and PrivateTest become train, validation and test. Images are 48x48, grey.
"""

import csv
import glob
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from datasets import ClassLabel, Dataset, Features, Image, Value, load_dataset

from fer_hf.data import folder
from fer_hf.data.hub import standard_columns
from fer_hf.data.splits import SPLIT_HELP, Raw, split_name
from fer_hf.errors import FerError, UserError

SIZE = 48
CSV_NAMES = ("fer2013.csv", "icml_face_data.csv")
CSV_LABELS = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
USAGES = {"Training": "train", "PublicTest": "validation", "PrivateTest": "test"}
LICENSE = "DbCL 1.0 (as published on Kaggle)"
DEFECTS = (
    "FER2013's known defects were kept: about 5 % of all images are duplicates, about 8 % of the validation images and "
    "of the test images also stand in the training split, and there are wrong labels, drawings and black images.",
    "About 12 % of FER2013's images have no majority among the ten annotators of FER+, and people agree with its "
    "labels on about 65 % of images (Goodfellow et al. 2013).",
)


def read(place: str) -> Raw:
    """FER2013 at `place`: a csv file, or a folder in one of the three layouts. Raises `UserError`."""
    path = Path(place).expanduser()
    kind = layout(path)
    if kind is None:
        raise UserError(_what_else(path))
    read_layout = {"csv": _read_csv, "folders": _read_folders, "parquet": _read_parquet}[kind]
    raw = read_layout(path)
    raw.notes[:0] = DEFECTS
    return raw


def layout(path: Path) -> str | None:
    """`"csv"`, `"parquet"`, `"folders"`, or None when `path` does not look like FER2013."""
    if path.is_file():
        return "csv" if path.suffix.lower() == ".csv" else None
    if any((path / name).is_file() for name in CSV_NAMES):
        return "csv"
    if _parquet_files(path):
        return "parquet"
    return "folders" if path.is_dir() and any(_split_folders(path)) else None


def _split_folders(path: Path) -> Iterator[Path]:
    return (child for child in path.iterdir() if child.is_dir() and split_name(child.name))


def _what_else(path: Path) -> str:
    wanted = (
        "Wanted: a csv file of FER2013, or a folder with fer2013.csv or icml_face_data.csv, with train/<class>/ and "
        "test/<class>/, or with train-*.parquet and so on."
    )
    if not path.exists():
        return f"{str(path)!r} does not exist. {wanted}"
    if path.is_file():
        return f"{str(path)!r} is not FER2013: it is no csv file. {wanted}"
    children = sorted(child for child in path.iterdir() if not child.name.startswith("."))
    for child in children:
        if layout(child):
            return f"{str(path)!r} is not FER2013 itself, but {str(child)!r} looks like it: use fer2013:{child}"
    holds = ", ".join(child.name for child in children[:8]) + (", ..." if len(children) > 8 else "")
    return f"{str(path)!r} is not FER2013: it holds {holds or 'nothing'}. {wanted}"


# --- csv


def _read_csv(path: Path) -> Raw:
    """Ids are `<Usage>_<row>`, rows counted from 0 over the whole file, as FER+ counts them."""
    file = path if path.is_file() else next(path / name for name in CSV_NAMES if (path / name).is_file())
    splits: dict[str, dict[str, list]] = {}
    bad: dict[str, str] = {}
    with open(file, encoding="utf-8-sig", errors="replace", newline="") as lines, warnings.catch_warnings():
        warnings.simplefilter("error", DeprecationWarning)  # NumPy's sign of text that is no number
        reader = csv.reader(lines)
        try:
            columns = _find_columns(file, next(reader, []))
            for row, cells in enumerate(reader):
                try:
                    emotion, image, usage = _parse_row(*(cells[column].strip() for column in columns))
                except (ValueError, IndexError) as error:
                    reason = "cells are missing" if isinstance(error, IndexError) else str(error)
                    bad[f"{file.name} line {reader.line_num}"] = reason
                    continue
                split = splits.setdefault(USAGES[usage], {"image": [], "label": [], "id": []})
                split["image"].append(image)
                split["label"].append(emotion)
                split["id"].append(f"{usage}_{row}")
        except csv.Error as error:
            raise UserError(f"{str(file)!r}, line {reader.line_num}, is no csv: {error}.") from error
    features = Features(image=Value("binary"), label=ClassLabel(names=list(CSV_LABELS)), id=Value("string"))
    data = {name: Dataset.from_dict(split, features).cast_column("image", Image()) for name, split in splits.items()}
    return Raw(data, "FER2013", license=LICENSE, bad=bad)


def _find_columns(file: Path, header: list[str]) -> list[int]:
    """Where emotion, pixels and Usage stand: `icml_face_data.csv` has blanks around its names."""
    found = [name.strip().lower() for name in header]
    missing = [name for name in ("emotion", "pixels", "usage") if name not in found]
    if missing:
        line = ", ".join(header)[:80] or "nothing"
        raise UserError(f"{str(file)!r} lacks the column(s) {', '.join(missing)}; its first line has: {line}.")
    return [found.index(name) for name in ("emotion", "pixels", "usage")]


def _parse_row(emotion: str, pixels: str, usage: str) -> tuple[int, bytes, str]:
    """The label, the image and the usage of a row; the image as binary PGM, which is lossless and costs nothing."""
    if usage not in USAGES:
        raise ValueError(f"Usage is {usage[:20]!r}, not one of {', '.join(USAGES)}")
    if emotion not in ("0", "1", "2", "3", "4", "5", "6"):
        raise ValueError(f"emotion is {emotion[:20]!r}, not one of 0 to 6")
    try:
        values = np.fromstring(pixels, dtype=np.int64, sep=" ")  # six times as fast as int() on each number
    except (ValueError, DeprecationWarning):
        raise ValueError("pixels are not all whole numbers") from None
    if values.size != SIZE * SIZE:
        raise ValueError(f"there are {values.size} pixels, not {SIZE * SIZE}")
    if values.min() < 0 or values.max() > 255:
        raise ValueError(f"pixels run from {values.min()} to {values.max()}, not from 0 to 255")
    return int(emotion), b"P5 %d %d 255\n" % (SIZE, SIZE) + values.astype(np.uint8).tobytes(), usage


# --- Kaggle folders


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


# --- Parquet


def _parquet_files(path: Path) -> list[Path]:
    return sorted(path.glob("*.parquet")) or sorted(path.glob("data/*.parquet"))


def _read_parquet(path: Path) -> Raw:
    files: dict[str, list[str]] = {}
    for file in _parquet_files(path):
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
    data = {split: standard_columns(loaded[split], split, f"The {split} split of {str(path)!r}") for split in files}
    return Raw(data, "FER2013", license=LICENSE)

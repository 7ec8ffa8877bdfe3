"""Parquet tables of images: each file has class names of its own, and its ids mean what these say."""

import glob
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import fsspec
import pyarrow.parquet as pq
from datasets import Dataset, Features, Value, concatenate_datasets, load_dataset

from fer_hf.data.columns import relabel, same_columns, standard_columns
from fer_hf.data.readers import left_aside
from fer_hf.data.splits import SPLIT_HELP, split_name
from fer_hf.emotions import EMOTIONS, LabelError, label_names
from fer_hf.errors import FerError, UserError

Alike = tuple[Features, dict[str, list[str]]]
"""Columns, with their class names, and the files of each split that have them."""


def read_parquet(path: Path, notes: list[str]) -> dict[str, Dataset]:
    """The splits in the files `train-*.parquet` and so on of the folder `path`, or of its sub-folder `data`.

    What is left out is said in `notes`.
    """
    if "::" in str(path.resolve()):
        raise UserError(f"{str(path)!r} has '::' in its path, at which `datasets` would cut it: rename the folder.")
    files, read = dict[str, list[str]](), dict[Path, set[str]]()
    for file in parquet_files(path):
        split = split_name(file.stem.split("-")[0])
        if split is None:
            raise UserError(f"{str(file)!r} names no split: train-*.parquet and so on is wanted ({SPLIT_HELP}).")
        files.setdefault(split, []).append(str(file.resolve()))
        read |= {file.parent: read.get(file.parent, set()) | {file.name}}
    if path not in read:  # they lie in its folder `data`
        notes += left_aside(path, {place.name for place in read})
    notes += [note for place, names in read.items() for note in left_aside(place, names)]
    try:
        loaded = load_tables(files_alike(files))
    except Exception as error:  # `datasets` wraps what goes wrong in a file or on the disk into many classes
        cause = error.__cause__ or error
        raise FerError(
            f"The Parquet files of {str(path)!r} could not be read: {cause} If they are whole (their size, a second "
            "download), look at the room and rights of the folder that `datasets` copies to (HF_DATASETS_CACHE)."
        ) from error
    where = f"split of {str(path)!r}"
    return {split: standard_table(loaded[split], split, f"The {split} {where}", notes) for split in files}


def parquet_files(path: Path) -> list[Path]:
    """The Parquet files of a folder, or else of its sub-folder `data`."""
    return sorted(path.glob("*.parquet")) or sorted(path.glob("data/*.parquet"))


def files_alike(files: Mapping[str, Sequence[str]], first: bool = False) -> list[Alike]:
    """The files of each split, put together where columns and class names are the same.

    Args:
        files: paths or addresses (`hf://`) by split; only the end of each file is read.
        first: look into the first file of each split alone, and take its others to be like it.
    """
    alike: list[Alike] = []
    for split, file in ((split, file) for split, of in files.items() for file in of):
        if not first or file == files[split][0]:
            with fsspec.open(file, "rb") as opened:
                features = Features.from_arrow_schema(pq.read_schema(opened))
        members = next((members for other, members in alike if other == features), None)
        if members is None:
            alike.append((features, members := {}))
        members.setdefault(split, []).append(file)
    return alike


def load_tables(alike: Sequence[Alike], **options: Any) -> dict[str, list[Any]]:
    """The tables of each split. `datasets` would lay the class names of one file over all that it loads at once."""
    tables: dict[str, list[Any]] = {}
    for _, files in alike:
        patterns = {split: [glob.escape(file) for file in of] for split, of in files.items()}
        for split, table in load_dataset("parquet", data_files=patterns, **options).items():
            tables.setdefault(str(split), []).append(table)
    return tables


def standard_table(tables: Sequence[Dataset], split: str, where: str, notes: list[str]) -> Dataset:
    """The standard columns of all tables of a split in one, with labels aligned by name.

    Ids that several tables have become `<split>_<row>`. Raises `UserError`, also where one table of several has bare
    numbers for labels.
    """
    parts = [standard_columns(table, split, where, notes) for table in tables]
    if len(parts) == 1:
        return parts[0]
    try:
        present = {name for part in parts for name in label_names(part.features["label"].names)}
        parts = [relabel(part, tuple(name for name in EMOTIONS if name in present)) for part in parts]
    except LabelError as error:
        raise UserError(f"{where}: {error}") from error
    data = concatenate_datasets(same_columns(parts))
    ids = data["id"][:]
    if len(set(ids)) == len(ids):
        return data
    rows = [f"{split}_{row}" for row in range(len(ids))]
    return data.remove_columns("id").add_column("id", rows, feature=Value("string"))

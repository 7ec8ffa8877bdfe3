"""What the sources share in reading tables: csv rows with line numbers, pixels written as text, safe file names.

A row that cannot be used never stops a source: it is named, with the reason, and counted.
"""

import csv
import os
import warnings
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np

from fer_hf.errors import UserError

_real = lru_cache(1024)(os.path.realpath)  # of folders: a table names many files in few of them


def read_csv(
    file: Path, wanted: Sequence[str], bad: dict[str, str], header: Sequence[str] | None = None
) -> Iterator[tuple[int, str, dict[str, str]]]:
    """Each row as `(number, "name.csv line 7", {column: cell})`, with column names in lower case and no outer blanks.

    Rows are counted from 0, bad ones too; empty lines are passed over.

    Without `header` the first line names the columns. A row that lacks a cell of a `wanted` column goes to `bad`.
    Raises `UserError` when the file lacks a `wanted` column or is no csv.
    """
    with open(file, encoding="utf-8-sig", errors="replace", newline="") as lines:
        reader = csv.reader(lines)
        try:
            first = next(reader, []) if header is None else header
            columns = [name.strip().lower() for name in first]
            if missing := [name for name in wanted if name not in columns]:
                line = ", ".join(first)[:80] or "nothing"
                raise UserError(f"{str(file)!r} lacks the column(s) {', '.join(missing)}; its first line has: {line}.")
            for number, cells in enumerate(cells for cells in reader if cells):
                where = f"{file.name} line {reader.line_num}"
                row = {name: cell.strip() for name, cell in zip(columns, cells, strict=False)}
                if all(name in row for name in wanted):
                    yield number, where, row
                else:
                    bad[where] = "cells are missing"
        except csv.Error as error:
            raise UserError(f"{str(file)!r}, line {reader.line_num}, is no csv: {error}.") from error


def grey_image(pixels: str, size: int) -> bytes:
    """`size` x `size` numbers from 0 to 255, separated by blanks, as a binary PGM: lossless, and it costs nothing.

    Raises `ValueError` that says what is wrong with them.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("error", DeprecationWarning)  # NumPy's sign of text that is no number
        try:
            values = np.fromstring(pixels, dtype=np.int64, sep=" ")  # six times as fast as int() on each number
        except (ValueError, DeprecationWarning):
            raise ValueError("pixels are not all whole numbers") from None
    if values.size != size * size:
        raise ValueError(f"there are {values.size} pixels, not {size * size}")
    if values.min() < 0 or values.max() > 255:
        raise ValueError(f"pixels run from {values.min()} to {values.max()}, not from 0 to 255")
    return b"P5 %d %d 255\n" % (size, size) + values.astype(np.uint8).tobytes()


def file_below(root: str | Path, name: str) -> str:
    """The path of the file `name`, given relative to `root` in a table, with `/` or `\\` between its parts.

    Raises `ValueError` when it leads out of `root`, as a link too, or does not exist.
    """
    relative = os.path.normpath(name.replace("\\", "/"))
    if os.path.isabs(relative) or relative.split(os.sep)[0] == ".." or os.path.splitdrive(relative)[0]:
        raise ValueError(f"{name[:80]!r} leads out of the dataset's folder")
    path = os.path.join(root, relative)
    if not os.path.isfile(path):
        raise ValueError(f"there is no file {relative[:80]!r}")
    real = os.path.realpath(path) if os.path.islink(path) else _real(os.path.dirname(path))
    if not os.path.join(real, "").startswith(os.path.join(_real(str(root)), "")):
        raise ValueError(f"{name[:80]!r} is a link that leads out of the dataset's folder")
    return path

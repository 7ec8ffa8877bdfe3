"""Plain files, written so that nobody ever sees half of one; csv with line numbers; names that stay in their folder."""

import codecs
import csv
import errno
import io
import os
import shutil
import unicodedata
import weakref
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from fer_hf.errors import UserError


def new_folder(output: Path) -> None:
    """Raises `UserError` when `output` is there and not an empty folder."""
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise UserError(f"{str(output)!r} exists and is not an empty folder: name a new one.")


def lock(path: Path) -> FileLock | None:
    """Lock a file until the returned object is gone or this process has ended; None when another process has it.

    Processes that this one forks, such as workers of a loader, outlive a kill of it. They let go of the lock at once.
    """
    held = FileLock(path)
    try:
        held.acquire(blocking=False)
    except Timeout:
        return None
    descriptor = held._context.lock_file_fd  # filelock has no name for closing without unlocking
    if descriptor is not None and hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=partial(_close, weakref.ref(held), descriptor))
    return held


def _close(held: "weakref.ref[FileLock]", descriptor: int) -> None:
    lock = held()
    if lock is not None and lock._context.lock_file_fd == descriptor:
        os.close(descriptor)
        lock._context.lock_file_fd = None


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Inside, a file or folder is written aside; at the end it is flushed to disk and renamed: nobody sees half of it.

    Yields:
        Where to write: beside `path`, with its ending.

    Raises:
        OSError: it cannot be written; whoever raised it, the error names `path`.
    """
    aside = path.with_name(f".{os.getpid()}.{path.name}")
    try:
        yield aside
        move_into_place(aside, path)
    except OSError as error:  # those of a full disk name no file, those of libraries perhaps the one aside
        error.filename = str(error.filename or path).replace(str(aside), str(path))
        raise
    except Exception as error:
        if disk_is_full(path.parent):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path)) from error
        raise
    finally:
        shutil.rmtree(aside, ignore_errors=True)
        with suppress(OSError):  # there is none left, or nothing may be changed there
            aside.unlink()


def disk_is_full(folder: Path) -> bool:
    """Whether a failure to write was the disk's: torch, safetensors and ONNX Runtime say other things then."""
    return folder.is_dir() and shutil.disk_usage(folder).free < 2**16


def write_text(path: Path, text: str) -> None:
    """Write a file whole or not at all, see `written_whole`."""
    with written_whole(path) as aside:
        aside.write_text(text, encoding="utf-8")


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """A csv with a header, written as `write_text` does."""
    write_text(path, csv_text(columns, rows))


def csv_text(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """What `write_csv` writes."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([columns, *rows])
    return text.getvalue()


def move_into_place(aside: Path, path: Path) -> None:
    """Flush a file, or a folder of flushed files, and rename it: after a crash there is the old one or the new."""
    if aside.is_file():
        with open(aside, "rb+") as file:
            os.fsync(file.fileno())
    os.replace(aside, path)
    if os.name == "posix":  # the rename itself
        directory = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)


_real = lru_cache(1024)(os.path.realpath)  # of folders: a table names many files in few of them


def read_csv(
    file: Path, wanted: Sequence[str], bad: dict[str, str], header: Sequence[str] | None = None
) -> Iterator[tuple[int, str, dict[str, str]]]:
    """Each row as `(number, "name.csv line 7", {column: cell})`, with column names in lower case and no outer blanks.

    Rows are counted from 0, bad ones too; empty lines are passed over.

    Without `header` the first line names the columns; where semicolons or tabs part the `wanted` ones, they part cells.
    A row that lacks a cell of a `wanted` column, or has more cells than there are columns, goes to `bad`. Raises
    `UserError` when the file lacks a `wanted` column or is no csv.
    """
    with open(file, "rb") as start:
        encoding = "utf-16" if start.read(2) in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) else "utf-8-sig"
    with open(file, encoding=encoding, errors="replace", newline="") as lines:
        mark = "," if header else _mark(lines.readline(), wanted)
        lines.seek(0)
        reader = csv.reader(lines, delimiter=mark)
        try:
            first = next(reader, []) if header is None else header
            columns = [name.strip().lower() for name in first]
            if missing := [name for name in wanted if name not in columns]:
                line = ", ".join(first)[:80] or "nothing"
                raise UserError(f"{str(file)!r} lacks the column(s) {', '.join(missing)}; its first line has: {line}.")
            for number, cells in enumerate(cells for cells in reader if cells):
                where = f"{file.name} line {reader.line_num}"
                row = {name: cell.strip() for name, cell in zip(columns, cells, strict=False)}
                if header is None and any(cells[len(columns) :]):
                    bad[where] = f"it has {len(cells):,} cells, and there are {len(columns)} columns"
                elif all(name in row for name in wanted):
                    yield number, where, row
                else:
                    bad[where] = "cells are missing"
        except csv.Error as error:
            raise UserError(f"{str(file)!r}, line {reader.line_num}, is no csv: {error}.") from error


def _mark(first: str, wanted: Sequence[str]) -> str:
    """What parts the cells of a csv: the comma, or else what parts the `wanted` columns in its first line."""
    names = {mark: [name.strip(' "\r\n').lower() for name in first.split(mark)] for mark in ",;\t"}
    return next((mark for mark in names if set(wanted) <= set(names[mark])), ",")


def file_below(root: str | Path, name: str) -> str:
    """The path of the file `name`, given relative to `root` in a table, with `/` or `\\` between its parts.

    Its accents may be composed in the one place and decomposed in the other. Raises `ValueError` when it leads out of
    `root`, as a link too, or does not exist.
    """
    relative = os.path.normpath(name.replace("\\", "/"))
    if os.path.isabs(relative) or relative.split(os.sep)[0] == ".." or os.path.splitdrive(relative)[0]:
        raise ValueError(f"{name[:80]!r} leads out of the dataset's folder")
    forms = (relative, unicodedata.normalize("NFC", relative), unicodedata.normalize("NFD", relative))
    path = next((path for form in forms if os.path.isfile(path := os.path.join(root, form))), None)
    if path is None:
        raise ValueError(f"there is no file {relative[:80]!r}")
    real = os.path.realpath(path) if os.path.islink(path) else _real(os.path.dirname(path))
    if not os.path.join(real, "").startswith(os.path.join(_real(str(root)), "")):
        raise ValueError(f"{name[:80]!r} is a link that leads out of the dataset's folder")
    return path

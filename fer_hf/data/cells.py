"""From pictures of many faces to a folder of faces: cut, checked, and laid out for a person to approve or reject.

In the output folder: faces/ (what is kept, by emotion, with metadata.csv: the source `folder:OUT/faces`), rejected/,
contact_sheets/ (one per picture, every cell with its verdict), review.csv (every cell with `keep`, yes or no) and
rejects.csv (what is not kept, and why). `apply_review` makes the folders agree with an edited review.csv.
"""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from fer_hf.data.check import decode
from fer_hf.data.crops import Limits, quality, reject_reasons
from fer_hf.data.detect import Detector
from fer_hf.data.folder import EXTENSIONS
from fer_hf.data.grid import find_grid
from fer_hf.data.sheet import contact_sheet
from fer_hf.data.tables import file_below
from fer_hf.emotions import LabelError, canonical
from fer_hf.errors import UserError
from fer_hf.progress import track
from fer_hf.run import write_csv

SIZE = 128  # pixels of a face that is kept
ABOUT = ("gender", "age", "intensity")
Check = Callable[[np.ndarray], tuple[list[str], dict[str, float]]]


def slice_pictures(source: Path, output: Path, check: Check, emotion: str | None = None) -> dict[str, Any]:
    """Cut the pictures below `source` into cells; `output` is a new or empty folder.

    The emotion, gender, age and intensity of a picture come from `source`/images.jsonl, as `generate` writes it;
    without it the emotion is `emotion`, or the name of the picture's folder. `check` takes a cell, uint8 `(H, W, 3)`,
    and returns why it is not good enough, and scores. Returns how many `pictures`, `cells` and `kept` there are, how
    many `without_grid`, and `surprises`: pictures whose grid is not the one that was asked for.
    """
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise UserError(f"{str(output)!r} exists and is not an empty folder: name a new one.")
    pictures = _pictures(source, emotion)
    (output / "contact_sheets").mkdir(parents=True)
    rows, surprises, without_grid = list[dict[str, Any]](), list[str](), list[list[Any]]()
    for about in track(pictures, "slicing pictures"):
        try:
            picture = np.asarray(decode({"path": str(about["path"]), "bytes": None}).convert("RGB"))
            grid = find_grid(picture)
        except ValueError as error:
            without_grid.append([about["id"], "", "", str(error)])
            continue
        if about.get("rows") and grid.columns != (about["columns"],) * about["rows"]:
            surprises.append(f"{about['id']}: {about['rows']}x{about['columns']} was asked for, {grid} was found")
        rows += _cut(picture, grid.cells, about, output, check)
    _write_review(output, rows)
    write_csv(output / "without_grid.csv", ("picture", "row", "column", "reasons"), without_grid)
    kept = apply_review(output)
    return {
        "pictures": len(pictures),
        "cells": len(rows),
        "kept": kept,
        "without_grid": len(without_grid),
        "surprises": surprises,
    }


def one_good_face(cell: np.ndarray, detector: Detector, limits: Limits) -> tuple[list[str], dict[str, float]]:
    """The check of a cell with a face detector: exactly one face, and one that `limits` lets pass."""
    found = detector.detect(cell)
    if len(found) != 1:
        return [f"{len(found) or 'no'} face{'s' if found else ''}"], {}
    scores = quality(cell, found[0])
    return reject_reasons(scores, limits), scores


def apply_review(output: Path) -> int:
    """Move every cell to faces/ or rejected/ as review.csv says, write metadata.csv and rejects.csv; how many are kept.

    Raises `UserError` when review.csv is missing, or a line of it says neither yes nor no or names no cell.
    """
    file = output / "review.csv"
    if not file.is_file():
        raise UserError(f"{str(output)!r} has no review.csv; `fer-hf data grid slice` makes one.")
    with open(file, encoding="utf-8-sig", newline="") as lines:
        rows = list(csv.DictReader(lines))
    moves = []
    for number, row in enumerate(rows, start=2):
        keep = (row.get("keep") or "").strip().lower()
        if keep not in ("yes", "no"):
            raise UserError(f"{str(file)!r}, line {number}: keep is {row.get('keep')!r}; it has to be yes or no.")
        row["keep"], name = keep, row.get("file_name") or ""
        here, there = ("faces", "rejected") if keep == "yes" else ("rejected", "faces")
        try:
            file_below(output / here, name)
        except ValueError:
            try:
                moves.append((file_below(output / there, name), output / here / name))
            except ValueError as error:
                raise UserError(f"{str(file)!r}, line {number}: {error}.") from error
    for old, new in moves:
        new.parent.mkdir(parents=True, exist_ok=True)
        Path(old).replace(new)
    kept = [row for row in rows if row["keep"] == "yes"]
    (output / "faces").mkdir(exist_ok=True)
    columns = [name for name in (rows[0] if rows else ("file_name", "label")) if name not in ("keep", "reasons")]
    write_csv(output / "faces" / "metadata.csv", columns, [[row[name] for name in columns] for row in kept])
    rejects = ("picture", "row", "column", "reasons")
    table = [
        [row[name] for name in rejects[:3]] + [row["reasons"] or "a person"] for row in rows if row["keep"] == "no"
    ]
    write_csv(output / "rejects.csv", rejects, table)
    return len(kept)


def _pictures(source: Path, emotion: str | None) -> list[dict[str, Any]]:
    """What is known of each picture: path, id, emotion, and perhaps gender, age, intensity, rows and columns."""
    table = source / "images.jsonl"
    if table.is_file():
        lines = [json.loads(line) for line in table.read_text(encoding="utf-8").splitlines()]
        return [{**line, "path": file_below(source, line["file"])} for line in lines]
    paths = sorted(path for path in source.rglob("*") if path.suffix.lower() in EXTENSIONS and path.is_file())
    if not paths:
        raise UserError(f"{str(source)!r} holds no pictures.")
    try:
        return [
            {
                "path": path,
                "id": "-".join(path.relative_to(source).with_suffix("").parts),
                "emotion": canonical(emotion or path.parent.name),
            }
            for path in paths
        ]
    except LabelError as error:
        raise UserError(
            f"{error} Give --emotion, or put the pictures into folders that are named after one."
        ) from error


def _cut(
    picture: np.ndarray, cells: list[Any], about: dict[str, Any], output: Path, check: Check
) -> list[dict[str, Any]]:
    """Write the cells of one picture and its contact sheet; their lines of review.csv."""
    rows, faces, captions = [], [], []
    for cell in cells:
        left, top, right, bottom = cell.box
        content = picture[top:bottom, left:right]
        reasons, scores = check(content)
        face = Image.fromarray(content).resize((SIZE, SIZE), Image.Resampling.LANCZOS)
        name = f"{about['emotion']}/{about['id']}_r{cell.row + 1}_c{cell.column + 1}.png"
        path = output / ("rejected" if reasons else "faces") / name
        path.parent.mkdir(parents=True, exist_ok=True)
        face.save(path)
        faces.append(face)
        captions.append(f"r{cell.row + 1} c{cell.column + 1}\n{reasons[0].split(':')[0] if reasons else 'kept'}")
        rows.append(
            {"file_name": name, "keep": "no" if reasons else "yes", "reasons": "; ".join(reasons)}
            | {"label": about["emotion"], **{key: about.get(key, "") for key in ABOUT}}
            | {"picture": about["id"], "row": cell.row + 1, "column": cell.column + 1}
            | {key: "" if np.isnan(value) else round(value, 3) for key, value in scores.items()}
        )
    sheet = contact_sheet(
        faces,
        captions,
        columns=max(cell.column for cell in cells) + 1,
        title=about["id"],
        marks=["good" if row["keep"] == "yes" else "bad" for row in rows],
    )
    sheet.save(output / "contact_sheets" / f"{about['id']}.png")
    return rows


def _write_review(output: Path, rows: list[dict[str, Any]]) -> None:
    columns = list(dict.fromkeys(name for row in rows for name in row)) or ["file_name", "keep", "reasons"]
    write_csv(output / "review.csv", columns, [[row.get(name, "") for name in columns] for row in rows])

"""From pictures of many faces to a folder of faces: cut, checked, and laid out for a person to approve or reject.

In the output folder: faces/ (what is kept, by emotion, with metadata.csv: the source `folder:OUT/faces`), rejected/,
contact_sheets/ (one per picture, every cell with its verdict), review.csv (every cell with `keep`, yes or no),
rejects.csv (what is not kept, and why) and without_grid.csv. `apply_review` makes the folders agree with an edited
review.csv.
"""

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from fer_hf.collect.crops import Limits, quality, reject_reasons
from fer_hf.collect.detect import Detector
from fer_hf.collect.generate import read_records
from fer_hf.collect.grid import find_grid
from fer_hf.collect.sheet import save_sheet
from fer_hf.console import track
from fer_hf.data.decode import decode
from fer_hf.data.readers.folder import walk
from fer_hf.emotions import LabelError, canonical
from fer_hf.errors import UserError
from fer_hf.files import file_below, new_folder, read_csv, write_csv, written_whole

BLANK = Image.new("RGB", (1, 1), "white")
SIZE = 128  # pixels of a face that is kept
ABOUT = ("gender", "age", "intensity")
Check = Callable[[np.ndarray], tuple[list[str], dict[str, float]]]


def slice_pictures(source: Path, output: Path, check: Check, emotion: str | None = None) -> dict[str, Any]:
    """Cut the pictures below `source` into cells; `output` is a new or empty folder.

    The emotion, gender, age and intensity of a picture come from `source`/images.jsonl, as `generate` writes it;
    without it the emotion is the name of the picture's folder. `emotion`, where it is given, holds for all of them
    instead. `check` takes a cell, uint8 `(H, W, 3)`, and returns why it is not good enough, and scores. Returns how
    many `pictures`, `cells` and `kept` there are, how many `without_grid`, and `surprises`: pictures whose grid is not
    the one that was asked for.
    """
    new_folder(output)
    pictures = _pictures(source, emotion)
    (output / "contact_sheets").mkdir(parents=True)
    rows, surprises, without_grid = list[dict[str, Any]](), list[str](), list[list[Any]]()
    for about in track(pictures, "slicing pictures"):
        try:
            picture = np.asarray(decode(file_below(source, about["file"])).convert("RGB"))
            grid = find_grid(picture)
        except ValueError as error:
            without_grid.append([about["id"], str(error)])
            continue
        asked = f"{about.get('rows')}x{about.get('columns')}"
        if about.get("rows") and asked != str(grid):
            surprises.append(f"{about['id']}: {asked} was asked for, {grid} was found")
        rows += _cut(picture, grid.cells, about, output, check)
    columns = list(dict.fromkeys(name for row in rows for name in row)) or ["file_name", "keep"]
    write_csv(output / "review.csv", columns, [[row.get(name, "") for name in columns] for row in rows])
    write_csv(output / "without_grid.csv", ("picture", "reason"), without_grid)
    kept, without = apply_review(output), len(without_grid)
    done = {"pictures": len(pictures), "cells": len(rows), "kept": kept, "without_grid": without}
    return done | {"surprises": surprises}


def one_good_face(cell: np.ndarray, detector: Detector, limits: Limits) -> tuple[list[str], dict[str, float]]:
    """The check of a cell with a face detector: exactly one face, and one that `limits` lets pass."""
    faces = detector.detect(cell)
    if len(faces) != 1:
        return [f"{len(faces) or 'no'} face{'s' if faces else ''}"], {}
    scores = quality(cell, faces[0])
    return reject_reasons(scores, limits), scores


def apply_review(output: Path) -> int:
    """Move every cell to faces/ or rejected/ as review.csv says, write metadata.csv and rejects.csv; how many are kept.

    Raises `UserError` when review.csv is missing, says neither yes nor no of a cell, or leaves one out.
    """
    file = output / "review.csv"
    if not file.is_file():
        raise UserError(f"{str(output)!r} has no review.csv; `fer-hf data grid slice` makes one.")
    places = {"yes": output / "faces", "no": output / "rejected"}
    cells = {path.relative_to(top).as_posix(): path for top in places.values() for path in top.rglob("*.png")}
    rows, bad = list[dict[str, str]](), dict[str, str]()
    for _, where, row in read_csv(file, ("file_name", "keep"), bad):
        rows.append(row | {"keep": row["keep"].lower(), "path": str(cells.pop(row["file_name"], ""))})
        if rows[-1]["keep"] not in places:
            bad[where] = f"keep is {row['keep']!r}; it has to be yes or no"
        elif not rows[-1]["path"]:
            bad[where] = f"{row['file_name']!r} is no cell, or is there twice"
    bad |= {f"{file.name}": f"it lacks {name!r}: write no instead of taking out a line" for name in cells}
    for where, reason in bad.items():
        raise UserError(f"{str(output)!r}, {where}: {reason}. Nothing was changed.")
    for row in rows:
        new = places[row["keep"]] / row["file_name"]
        new.parent.mkdir(parents=True, exist_ok=True)
        Path(row.pop("path")).replace(new)
    kept = [row for row in rows if row["keep"] == "yes"]
    (output / "faces").mkdir(exist_ok=True)
    columns = [name for name in (rows[0] if rows else ("file_name", "label")) if name not in ("keep", "reasons")]
    write_csv(output / "faces" / "metadata.csv", columns, [[row.get(name, "") for name in columns] for row in kept])
    rejects = [row | {"reasons": row.get("reasons") or "a person"} for row in rows if row["keep"] == "no"]
    columns = ["picture", "row", "column", "reasons"]
    write_csv(output / "rejects.csv", columns, [[row.get(name, "") for name in columns] for row in rejects])
    return len(kept)


def _pictures(source: Path, emotion: str | None) -> list[dict[str, Any]]:
    """What is known of each picture: plain id, file, emotion, and perhaps gender, age, intensity, rows and columns."""
    listed = read_records(source / "images.jsonl", id=str, file=str)
    pictures = {record["id"]: record for record in listed}  # one that was made again has two lines
    for parts in () if listed else walk(source).images:
        name = re.sub(r"[^\w+-]", "-", os.path.splitext("-".join(parts))[0])[-50:]
        while name in pictures:
            name += "-2"
        pictures[name] = {"id": name, "file": "/".join(parts), "emotion": source.resolve().joinpath(*parts).parent.name}
    if not pictures:
        raise UserError(f"{str(source)!r} holds no pictures.")
    try:
        return [about | {"emotion": canonical(emotion or str(about.get("emotion")))} for about in pictures.values()]
    except LabelError as error:
        raise UserError(
            f"{error} Give --emotion, or put the pictures into folders that are named after one."
        ) from error


def _cut(
    picture: np.ndarray, cells: list[Any], about: dict[str, Any], output: Path, check: Check
) -> list[dict[str, Any]]:
    """Write the cells of one picture and its contact sheet; their lines of review.csv."""
    rows = []
    columns = max(cell.column for cell in cells) + 1
    shown: dict[int, tuple[Image.Image, str, str | None]] = {}  # a short row ends before the sheet does
    for cell in cells:
        left, top, right, bottom = cell.box
        side = round(0.96 * min(right - left, bottom - top))  # no seam at the border, and no face squeezed
        x, y = (left + right - side) // 2, (top + bottom - side) // 2
        content = picture[y : y + side, x : x + side]
        reasons, scores = check(content)
        face = Image.fromarray(content).resize((SIZE, SIZE), Image.Resampling.LANCZOS)
        name = f"{about['emotion']}/{about['id']}_r{cell.row + 1}_c{cell.column + 1}.png"
        path = output / ("rejected" if reasons else "faces") / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with written_whole(path) as aside:
            face.save(aside)
        caption = f"r{cell.row + 1} c{cell.column + 1}\n{reasons[0].split(':')[0] if reasons else 'kept'}"
        shown[cell.row * columns + cell.column] = face, caption, "bad" if reasons else "good"
        rows.append(
            {"file_name": name, "keep": "no" if reasons else "yes", "reasons": "; ".join(reasons)}
            | {"label": about["emotion"], **{key: about.get(key, "") for key in ABOUT}}
            | {"picture": about["id"], "row": cell.row + 1, "column": cell.column + 1}
            | {key: "" if np.isnan(value) else round(value, 3) for key, value in scores.items()}
        )
    places = [shown.get(place, (BLANK, "", None)) for place in range(max(shown) + 1)]
    faces, captions, marks = zip(*places, strict=True)
    path = output / "contact_sheets" / f"{about['id']}.png"
    save_sheet(path, faces, captions, columns=columns, title=about["id"], marks=marks)
    return rows

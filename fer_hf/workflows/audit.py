"""What the commands of `fer-hf data` do: load faces to look at, and write tables, sheets, audits and lists."""

import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from rich.table import Column, Table

from fer_hf.collect.sheet import contact_sheet
from fer_hf.console import console, output, quiet_libraries
from fer_hf.data import Faces, load_faces
from fer_hf.data.audit import audit
from fer_hf.data.columns import per_class_counts
from fer_hf.errors import UserError
from fer_hf.files import write_csv, write_text
from fer_hf.report.audit_page import audit_page, shown, summary
from fer_hf.workflows.faces import remarks

OVER, UNDER = 1.5, 0.5  # times an equal share, beyond which a class is over- or under-represented


def inspect(sources: list[str], label_set: str | None, check_images: bool = True, exclude: str | None = None) -> Faces:
    """Faces as their sources have them; unreadable images are left out, and what was left out is said."""
    quiet_libraries()
    labels: Any = label_set if label_set is None or label_set.startswith("fer") else label_set.split(",")
    source: Any = sources if len(sources) > 1 else sources[0]
    faces = load_faces(
        source, labels, on_bad_image="skip", exclude=exclude, check_images=check_images, purpose="inspection"
    )
    for line in remarks(faces):
        console.print(line, style="dim")
    return faces


def _place(path: Path | None, default: str, faces: Faces, ending: str = "") -> Path:
    return path or Path("runs") / default / (re.sub(r"[^\w.-]+", "-", faces.dataset) + ending)


def class_table(faces: Faces) -> Table:
    """The images of each class and their share in each split; how the first split's compares with equal shares."""
    table = Table(Column("class", no_wrap=True))
    for split in faces.splits:
        table.add_column(str(split), justify="right", no_wrap=True)
        table.add_column("%", justify="right", no_wrap=True)
    table.add_column("represented", no_wrap=True)
    counts = [per_class_counts(data) for data in faces.splits.values()]
    totals = [sum(found.values()) for found in counts]
    for name in faces.label_names:
        cells = [
            (f"{found[name]:,}", f"{found[name] / total:.1%}"[:-1]) for found, total in zip(counts, totals, strict=True)
        ]
        times = counts[0][name] / totals[0] * len(faces.label_names)
        mark = "over" if times > OVER else "under" if times < UNDER else ""
        table.add_row(name, *(cell for pair in cells for cell in pair), f"{times:.2f}x {mark}")
    table.add_section()
    table.add_row("all", *(cell for total in totals for cell in (f"{total:,}", "")))
    present = [[count for count in found.values() if count] for found in counts]
    table.add_row("imbalance", *(cell for found in present for cell in (f"{max(found) / min(found):.1f}:1", "")))
    return table


def class_sheet(faces: Faces, split: str, per_class: int, seed: int, path: Path | None) -> Path:
    """A contact sheet with a row of faces, drawn at random, for each class."""
    if split not in faces.splits:
        raise UserError(f"{faces.dataset} has no {split} split; it has {', '.join(faces.splits)}.")
    data = faces.splits[split]
    order, labels = np.random.default_rng(seed).permutation(len(data)), np.asarray(data["label"][:])
    pictures, captions = list[Image.Image](), list[str]()
    for label, name in enumerate(faces.label_names):
        rows = [int(row) for row in order if labels[row] == label][:per_class]
        pictures += data[rows]["image"] if rows else []
        pictures += [Image.new("RGB", (1, 1), "white")] * (per_class - len(rows))
        captions += [name] * len(rows) + [""] * (per_class - len(rows))
    path = _place(path, "show", faces, f"-{split}.png")
    path.parent.mkdir(parents=True, exist_ok=True)
    title = f"{faces.dataset}, {split}, seed {seed}"
    contact_sheet(pictures, captions, columns=per_class, title=title).save(path, "PNG")
    return path


def write_audit(faces: Faces, folder: Path | None) -> None:
    """Audit, then audit.json, audit.html and exclude.csv in a folder, and a table on the terminal."""
    folder = _place(folder, "audit", faces)
    found = audit(faces)
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / "audit.json", json.dumps(found, indent=1, ensure_ascii=False) + "\n")
    columns = ("split", "id", "reason")
    write_csv(folder / "exclude.csv", columns, [[row[name] for name in columns] for row in found["exclude"]])
    pictures = _pictures(faces, shown(found))
    page = audit_page(found, lambda row: pictures[row["split"], row["id"]])
    write_text(folder / "audit.html", page)
    table = Table(faces.dataset, Column("images", justify="right"))
    for what, count in summary(found).items():
        table.add_row(what, f"{count:,}")
    output.print(class_table(faces), table, sep="\n")
    for what, name in {"page": "audit.html", "figures": "audit.json", "to leave out": "exclude.csv"}.items():
        output.print(f"{what + ':':14}{folder / name}", soft_wrap=True)


def _pictures(faces: Faces, rows: list[dict[str, str]]) -> dict[tuple[str, str], bytes]:
    """A PNG of at most 96 pixels of each image in `rows`."""
    pictures = {}
    for split, data in faces.splits.items():
        wanted = {row["id"] for row in rows if row["split"] == split}
        places = [place for place, name in enumerate(data["id"][:]) if name in wanted]
        for row in data.select(places):
            image, file = row["image"].convert("RGB"), io.BytesIO()
            image.thumbnail((96, 96))
            image.save(file, "PNG")
            pictures[str(split), row["id"]] = file.getvalue()
    return pictures

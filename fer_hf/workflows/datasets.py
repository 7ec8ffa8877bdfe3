"""Look at faces, audit them, and keep them as a dataset of one's own."""

import io
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from fer_hf.collect.sheet import save_sheet
from fer_hf.data import Faces, copies, load_faces
from fer_hf.data.audit import audit
from fer_hf.data.columns import per_class_counts
from fer_hf.data.decode import decode_rows, undecoded
from fer_hf.data.prepared import columns, save
from fer_hf.files import write_csv, write_text
from fer_hf.metrics import ClassBalance, class_balance
from fer_hf.report.audit_page import audit_page, shown, summary
from fer_hf.report.dataset_card import dataset_card
from fer_hf.workflows.faces import remarks, require_split

logger = logging.getLogger(__name__)
EXCLUDE_COLUMNS = ("split", "id", "reason")
THUMBNAIL = 96
"""Pixels of a picture on the page of an audit."""


def inspect_faces(
    sources: list[str], label_set: str | None = None, check_images: bool = True, exclude: str | None = None
) -> Faces:
    """Faces as their sources have them; unreadable images are left out, and what was left out is logged.

    Args:
        sources: one source, or several that make one.
        label_set: `"fer7"` and so on, or names joined by commas; all emotions that there are when None.
        check_images: decode every image once.
        exclude: a csv of images to leave out.
    """
    labels: Any = label_set if label_set is None or label_set.startswith("fer") else label_set.split(",")
    source: Any = sources if len(sources) > 1 else sources[0]
    settings = {"on_bad_image": "skip", "exclude": exclude}
    faces = load_faces(source, labels, purpose="inspection", check_images=check_images, **settings)
    for line in remarks(faces):
        logger.info(line)
    return faces


def class_counts(faces: Faces) -> dict[str, tuple[dict[str, int], ClassBalance]]:
    """Images of each class in each split, and how evenly they are spread."""
    counts = {str(split): per_class_counts(data) for split, data in faces.splits.items()}
    return {split: (of, class_balance(of)) for split, of in counts.items()}


def draw_classes(
    faces: Faces, split: str | None = None, per_class: int = 12, seed: int = 0, path: Path | None = None
) -> Path:
    """Draw a contact sheet with a row of faces, chosen at random, for each class; returns where it is.

    Args:
        split: the first there is when None.
        per_class: faces in a row.
        path: the PNG; `runs/show/<dataset>-<split>.png` when None.
    """
    split = split or str(next(iter(faces.splits)))
    require_split(faces, split)
    data = faces.splits[split]
    images = undecoded(data)
    order, labels = np.random.default_rng(seed).permutation(len(data)), np.asarray(data["label"][:])
    pictures, captions = list[Image.Image](), list[str]()
    for label, name in enumerate(faces.label_names):
        rows = [int(row) for row in order if labels[row] == label][:per_class]
        blank = per_class - len(rows)
        pictures += [*decode_rows(images, rows), *[Image.new("RGB", (1, 1), "white")] * blank]
        captions += [name] * len(rows) + [""] * blank
    path = path or Path("runs/show") / f"{faces.file_name}-{split}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    title = f"{faces.dataset}, {split}, seed {seed}"
    save_sheet(path, pictures, captions, columns=per_class, title=title)
    return path


@dataclass(frozen=True)
class Audit:
    """What an audit has found, by what it counts, and where its files lie."""

    dataset: str
    counts: Mapping[str, int]
    page: Path
    figures: Path
    exclude: Path
    copies: Path


def audit_faces(faces: Faces, folder: Path | None = None) -> Audit:
    """Audit faces that were not checked; writes what `Audit` names to a folder.

    audit.html (with pictures), audit.json, exclude.csv for `data.exclude`, and copies.csv for `evaluate.copies`.
    """
    folder = folder or Path("runs/audit") / faces.file_name
    report = audit(faces)
    folder.mkdir(parents=True, exist_ok=True)
    places = (folder / name for name in ("audit.html", "audit.json", "exclude.csv", copies.FILE))
    result = Audit(faces.dataset, summary(report), *places)
    write_text(result.figures, json.dumps(report, indent=1, ensure_ascii=False) + "\n")
    write_csv(result.exclude, EXCLUDE_COLUMNS, [[row[name] for name in EXCLUDE_COLUMNS] for row in report["exclude"]])
    copies.write_copies(result.copies, [copies.Copy(**row) for row in report["copies"]])
    pictures = _thumbnails(faces, shown(report))
    write_text(result.page, audit_page(report, lambda row: pictures[row["split"], row["id"]]))
    return result


def _thumbnails(faces: Faces, rows: list[dict[str, str]]) -> dict[tuple[str, str], bytes]:
    """A small PNG of each image in `rows`, by split and id."""
    pictures = {}
    for split, data in faces.splits.items():
        wanted = {row["id"] for row in rows if row["split"] == split}
        names, images = data["id"][:], undecoded(data)
        places = [place for place, name in enumerate(names) if name in wanted]
        for place in places:
            image, file = decode_rows(images, [place])[0].convert("RGB"), io.BytesIO()
            image.thumbnail((THUMBNAIL, THUMBNAIL))
            image.save(file, "PNG")
            pictures[str(split), names[place]] = file.getvalue()
    return pictures


def save_faces(faces: Faces, folder: Path, title: str | None = None) -> list[Path]:
    """Write faces as Parquet files that hold the images, with a dataset card, to a new folder; returns the files."""
    card = dataset_card(faces.describe(), title or faces.dataset, columns(faces))
    return save(faces, folder, card)

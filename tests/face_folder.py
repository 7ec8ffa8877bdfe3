"""Drawn faces as files: `split/class/*.png`."""

from pathlib import Path

from fer_hf.data.readers import toy
from fer_hf.emotions import LABEL_SETS


def write_faces(folder: Path, **images_per_class: int) -> None:
    """Draw `train`, `validation` and `test` images of each class, 32 pixels wide, into `folder`."""
    for split, rows in toy.load(**images_per_class, size=32).items():
        for row in rows:
            target = folder / split / LABEL_SETS["fer7"][row["label"]]
            target.mkdir(parents=True, exist_ok=True)
            row["image"].save(target / f"{row['id']}.png")

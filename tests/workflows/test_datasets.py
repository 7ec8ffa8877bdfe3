"""What is drawn of a dataset: its pictures, as the one decoder has them."""

import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fer_hf.data import load_faces
from fer_hf.workflows.datasets import audit_faces, draw_classes

SHORT, TEXT = 3, 2


@pytest.mark.parametrize("kind", [SHORT, TEXT])
def test_sheets_show_pictures_as_training_sees_them(tmp_path: Path, kind: int) -> None:
    """One is turned, and an orientation that is text stops nobody."""
    exif = b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<HHHIII", 1, 0x0112, kind, 1, 6, 0)
    picture = np.zeros((96, 96, 3), np.uint8)
    picture[:, 48:] = (255, 0, 0)  # the right half: the lower one, once it is turned
    for label in ("happy", "sad"):
        (tmp_path / "faces" / label).mkdir(parents=True)
        Image.fromarray(picture).save(tmp_path / "faces" / label / "a.jpg", exif=exif, quality=95)
    faces = load_faces(f"folder:{tmp_path / 'faces'}", ["happy", "sad"], purpose="inspection", check_images=False)
    sheet = Image.open(draw_classes(faces, per_class=1, path=tmp_path / "sheet.png"))
    left_below, right_above = sheet.getpixel((20, 117)), sheet.getpixel((94, 45))  # of the first face
    assert (left_below[0] > 200) == (kind == SHORT)
    assert (right_above[0] > 200) == (kind == TEXT)
    assert audit_faces(faces, tmp_path / "audit").page.is_file()

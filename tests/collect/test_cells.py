"""Cells of pictures: cut where they are, checked, laid out for a person, and moved as the person says."""

import csv
import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fer_hf.collect.cells import apply_review, slice_pictures
from fer_hf.data import load_faces
from fer_hf.data.prepared import save
from fer_hf.data.readers import toy
from fer_hf.errors import UserError


def picture(
    rows: int, columns: int, seed: int, emotion: str = "happy", blank: tuple[int, int] | None = None
) -> Image.Image:
    """A grid of drawn faces of 100 pixels with white gutters of 8, one cell perhaps left blank."""
    canvas = Image.new("RGB", (columns * 108 + 8, rows * 108 + 8), "white")
    for row in range(rows):
        for column in range(columns):
            if (row, column) != blank:
                face = toy.draw_face(emotion, np.random.default_rng([seed, row, column]), size=100)
                canvas.paste(face, (8 + column * 108, 8 + row * 108))
    return canvas


def bright_enough(cell: np.ndarray) -> tuple[list[str], dict[str, float]]:
    """A check that stands in for a face detector: a cell of one colour shows no face."""
    contrast = float(cell.std())
    return (["no face"] if contrast < 10 else []), {"contrast": contrast, "yaw": float("nan")}


def rows_of(path: Path) -> list[dict[str, str]]:
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """What `generate` leaves: a 4 x 4 picture where 4 x 4 was asked for, a 3 x 3 one where it was not, and no grid."""
    source = tmp_path / "grids"
    (source / "images").mkdir(parents=True)
    pictures = {
        "sad-female": picture(4, 4, 1, "sad", blank=(1, 2)),
        "happy-male": picture(3, 3, 2),
        "fear-male": Image.new("RGB", (400, 400), "grey"),
    }
    with open(source / "images.jsonl", "w") as lines:
        for name, image in pictures.items():
            image.save(source / "images" / f"{name}.png")
            emotion, gender = name.split("-")
            about = {"id": name, "file": f"images/{name}.png", "emotion": emotion, "gender": gender, "age": "20-39"}
            lines.write(json.dumps(about | {"rows": 4, "columns": 4}) + "\n")
    return source


def test_cells_become_a_source_of_faces(made: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    found = slice_pictures(made, out, bright_enough)
    assert (found["pictures"], found["cells"], found["kept"], found["without_grid"]) == (3, 25, 24, 1)
    assert found["surprises"] == ["happy-male: 4x4 was asked for, 3x3 was found"]
    assert [row["picture"] for row in rows_of(out / "without_grid.csv")] == ["fear-male"]
    [reject] = rows_of(out / "rejects.csv")
    assert reject == {"picture": "sad-female", "row": "2", "column": "3", "reasons": "no face"}
    assert (out / "rejected/sad/sad-female_r2_c3.png").is_file()
    faces = load_faces(f"folder:{out / 'faces'}", None, purpose="inspection")
    assert faces.label_names == ("happy", "sad")
    data = faces.splits["train"]
    assert len(data) == 24
    row = data[data["id"][:].index("sad/sad-female_r3_c4.png")]
    assert (row["gender"], row["age"], faces.label_names[row["label"]], row["image"].size) == (
        "female",
        "20-39",
        "sad",
        (128, 128),
    )
    drawn = toy.draw_face("sad", np.random.default_rng([1, 2, 3]), size=100).crop((2, 2, 98, 98))
    drawn = drawn.resize((128, 128), Image.Resampling.LANCZOS)
    assert np.abs(np.asarray(row["image"], float) - np.asarray(drawn, float)).mean() < 12  # within a pixel or two
    assert Image.open(out / "contact_sheets/sad-female.png").width > 4 * 96


def test_cells_of_one_picture_fall_into_one_split(tmp_path: Path) -> None:
    source = tmp_path / "grids"
    for emotion in ("happy", "sad"):
        (source / emotion).mkdir(parents=True)
        for seed in range(3):
            picture(3, 3, seed, emotion).save(source / emotion / f"{seed}.png")
    slice_pictures(source, tmp_path / "out", bright_enough)
    faces = load_faces(f"folder:{tmp_path / 'out/faces'}", ["happy", "sad"])
    seen = {split: set(data["picture"][:]) for split, data in faces.splits.items()}
    assert {split: len(names) for split, names in seen.items()} == {"train": 2, "validation": 2, "test": 2}
    assert len(set.union(*seen.values())) == 6
    assert sum(map(len, faces.splits.values())) == 54
    assert sum("No picture stands in two of the splits made." in note for note in faces.notes) == 2
    save(load_faces(f"folder:{tmp_path / 'out/faces'}", None, purpose="inspection"), tmp_path / "saved", "Faces")
    again = load_faces(f"folder:{tmp_path / 'saved'}", ["happy", "sad"])  # Parquet, which keeps the pictures
    assert {split: set(data["picture"][:]) for split, data in again.splits.items()} == seen


def test_a_person_has_the_last_word(made: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    slice_pictures(made, out, bright_enough)
    table = rows_of(out / "review.csv")
    for row in table:
        if row["file_name"] in ("happy/happy-male_r1_c1.png", "sad/sad-female_r2_c3.png"):
            row["keep"] = {"yes": " No", "no": "YES "}[row["keep"]]
    with open(out / "review.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, list(table[0]))
        writer.writeheader()
        writer.writerows(table)
    for _ in range(2):  # a second time changes nothing
        assert apply_review(out) == 24
        assert (out / "rejected/happy/happy-male_r1_c1.png").is_file()
        assert not (out / "faces/happy/happy-male_r1_c1.png").exists()
        kept = {row["file_name"] for row in rows_of(out / "faces/metadata.csv")}
        assert "sad/sad-female_r2_c3.png" in kept
        assert "happy/happy-male_r1_c1.png" not in kept
        assert [row["reasons"] for row in rows_of(out / "rejects.csv")] == ["a person"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("sad/a.png,no\n../x.png,yes", r"line 3: '\.\./x\.png' is no cell"),
        ("sad/a.png,no\nsad/nobody.png,yes", r"line 3: 'sad/nobody\.png' is no cell"),
        ("sad/a.png,no\nsad/a.png,yes", r"line 3: 'sad/a\.png' is no cell, or is there twice"),
        ("sad/a.png,perhaps", "line 2: keep is 'perhaps'"),
        ("sad/a.png", "line 2: cells are missing"),
        ("", r"it lacks 'sad/a\.png': write no"),
    ],
)
def test_a_review_that_makes_no_sense(tmp_path: Path, line: str, message: str) -> None:
    (tmp_path / "faces" / "sad").mkdir(parents=True)
    (tmp_path / "faces" / "sad" / "a.png").touch()
    (tmp_path / "x.png").touch()
    (tmp_path / "review.csv").write_text("file_name,keep\n" + line)
    with pytest.raises(UserError, match=message):
        apply_review(tmp_path)
    with pytest.raises(UserError, match=r"has no review\.csv"):
        apply_review(tmp_path / "nowhere")
    assert (tmp_path / "faces" / "sad" / "a.png").is_file()


def test_lists_that_lead_astray(tmp_path: Path) -> None:
    """An id or an emotion that is a path, a picture that was made twice, is gone or lies elsewhere."""
    source, about = tmp_path / "grids", {"id": "a", "file": "a.png", "emotion": "sad", "rows": "x"}
    source.mkdir()
    picture(2, 2, 1).save(source / "a.png")
    picture(2, 2, 1).save(tmp_path / "b.png")

    def listed(*lines: dict) -> Path:
        (source / "images.jsonl").write_text("".join(json.dumps(about | line) + "\n" for line in lines))
        return source

    for line, message in [({"id": "../up"}, "no plain name"), ({"emotion": "../up"}, "is not an emotion")]:
        with pytest.raises(UserError, match=message):
            slice_pictures(listed(line), tmp_path / "out", bright_enough)
        assert not (tmp_path / "out").exists()
    source = listed({}, {"age": 5}, {"id": "gone", "file": "gone.png"}, {"id": "out", "file": "../b.png"})
    found = slice_pictures(source, tmp_path / "out", bright_enough, emotion="fear")
    assert (found["pictures"], found["cells"], found["kept"], found["without_grid"]) == (3, 4, 4, 2)
    assert [row["age"] for row in rows_of(tmp_path / "out/faces/metadata.csv")] == ["5"] * 4
    reasons = [row["reason"] for row in rows_of(tmp_path / "out/without_grid.csv")]
    assert [reason.split("'")[0] for reason in reasons] == ["there is no file ", ""]
    assert (tmp_path / "out/faces/fear/a_r1_c1.png").is_file()


def test_names_that_would_meet(tmp_path: Path) -> None:
    source = tmp_path / "grids"
    for name in ("sad/a b.png", "sad/a-b.png", "sad/a-b.bmp", "sad/a\\b.png", f"sad/{'x' * 200}.png"):
        (source / "sad").mkdir(parents=True, exist_ok=True)
        picture(2, 2, 1).save(source / name)
    (source / "sad" / os.fsdecode(b"\xff.png")).write_bytes(b"")
    (source / "sad" / "._a.png").write_bytes(b"no picture")
    found = slice_pictures(source, tmp_path / "out", bright_enough)
    assert (found["pictures"], found["cells"], found["kept"], found["without_grid"]) == (6, 16, 16, 2)
    assert len(list((tmp_path / "out/faces/sad").iterdir())) == 16


def test_no_face_anywhere(cli, tmp_path: Path) -> None:
    (tmp_path / "sad").mkdir()
    for number in range(2):
        Image.fromarray(np.random.default_rng(number).integers(0, 99, (300, 300, 3), np.uint8)).save(
            f"sad/{number}.png"
        )
    code, out, err = cli("data", "grid", "slice", "sad", "--output", "out", "--detector", "haar")
    assert code == 0, err
    assert "2 pictures (2 without a grid), 0 cells, 0 kept" in out
    code, out, err = cli("data", "grid", "review", "out")
    assert (code, out) == (0, "0 faces are kept: out/faces\n"), err


def test_pictures_without_a_list(tmp_path: Path) -> None:
    source = tmp_path / "my grids"
    for name in ("Happiness/a.png", "sad/deep/b.png"):
        (source / name).parent.mkdir(parents=True)
    picture(3, 3, 5).save(source / "Happiness/a.png")
    slice_pictures(source, tmp_path / "out", bright_enough)
    assert len(rows_of(tmp_path / "out/faces/metadata.csv")) == 9
    picture(3, 3, 6, "sad").save(source / "sad/deep/b.png")
    with pytest.raises(UserError, match=r"'deep' is not an emotion.*--emotion"):
        slice_pictures(source, tmp_path / "other", bright_enough)
    assert slice_pictures(source, tmp_path / "other", bright_enough, emotion="joy")["kept"] == 18
    with pytest.raises(UserError, match="not an empty folder"):
        slice_pictures(source, tmp_path / "out", bright_enough)

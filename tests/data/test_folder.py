"""Folders of images: both layouts, odd names and formats, links, and what is refused."""

from pathlib import Path

import pytest
from PIL import Image

from fer_hf.data.faces import load_faces
from fer_hf.errors import UserError


def save(path: Path, mode: str = "RGB", size: int = 8) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, (size, size)).save(path)
    return path


def fill(root: Path, classes: tuple[str, ...] = ("happy", "sad"), count: int = 10) -> Path:
    for name in classes:
        for number in range(count):
            save(root / name / f"{number:03}.png")
    return root


def all_ids(faces) -> set[str]:
    return {name for data in faces.splits.values() for name in data["id"]}


def test_split_folders_with_other_names(tmp_path: Path) -> None:
    for split in ("Training", "val", "TEST"):
        fill(tmp_path / split, ("Happiness", "ANGER"), 2)
    faces = load_faces(f"folder:{tmp_path}")
    assert (faces.source, faces.dataset) == ("folder", tmp_path.name)
    assert list(faces.splits["validation"]["id"]) == [
        "val/ANGER/000.png",
        "val/ANGER/001.png",
        "val/Happiness/000.png",
        "val/Happiness/001.png",
    ]
    assert [faces.label_names[label] for label in faces.splits["test"]["label"]] == ["angry"] * 2 + ["happy"] * 2
    assert not any("split" in note for note in faces.notes)


def test_class_names_may_differ_between_splits(tmp_path: Path) -> None:
    fill(tmp_path / "train", ("anger", "sadness"), 3)
    fill(tmp_path / "test", ("sad", "angry"), 1)
    faces = load_faces(f"folder:{tmp_path}")
    assert [faces.label_names[label] for label in faces.splits["test"]["label"]] == ["angry", "sad"]


def test_class_folders_get_all_splits(tmp_path: Path) -> None:
    fill(tmp_path, ("happy", "sad", "fear"), 20)
    faces = load_faces(f"folder:{tmp_path}", validation_fraction=0.1, test_fraction=0.2, seed=3)
    per_class = {name: split["per_class"] for name, split in faces.describe()["splits"].items()}
    for split, count in (("train", 14), ("validation", 2), ("test", 4)):
        assert {name: n for name, n in per_class[split].items() if n} == {"fear": count, "happy": count, "sad": count}
    ids = [set(data["id"]) for data in faces.splits.values()]
    assert len(set.union(*ids)) == 60  # no image in two splits, none lost
    again = load_faces(f"folder:{tmp_path}", validation_fraction=0.1, test_fraction=0.2, seed=3)
    other = load_faces(f"folder:{tmp_path}", validation_fraction=0.1, test_fraction=0.2, seed=4)
    assert list(again.splits["test"]["id"]) == list(faces.splits["test"]["id"])
    assert list(other.splits["test"]["id"]) != list(faces.splits["test"]["id"])


@pytest.mark.parametrize(
    ("name", "mode"),
    [
        ("grey.jpg", "L"),
        ("CMYK.JPEG", "CMYK"),
        ("palette.gif", "P"),
        ("alpha.png", "RGBA"),
        ("deep.tif", "I;16"),
        ("one bit.bmp", "1"),
        ("x.webp", "RGB"),
        ("Bär 表情 #1 %20.png", "LA"),
        ("inner/deeper/a b.png", "RGB"),
    ],
)
def test_formats_modes_and_names(tmp_path: Path, name: str, mode: str) -> None:
    fill(tmp_path / "train")
    save(tmp_path / "train" / "happy" / name, mode)
    faces = load_faces(f"folder:{tmp_path}")
    rows = {row["id"]: row for data in faces.splits.values() for row in data}
    assert rows[f"train/happy/{name}"]["image"].convert("RGB").size == (8, 8)
    assert len(rows) == 21


def test_hidden_and_other_files_are_ignored(tmp_path: Path) -> None:
    fill(tmp_path)
    (tmp_path / "happy" / "notes.txt").write_text("x")
    (tmp_path / "happy" / "._000.png").write_bytes(b"x")
    (tmp_path / ".cache" / "angry").mkdir(parents=True)
    (tmp_path / ".cache" / "angry" / "a.png").write_bytes(b"x")
    (tmp_path / "empty").mkdir()
    save(tmp_path / "preview.png")
    faces = load_faces(f"folder:{tmp_path}")
    assert len(all_ids(faces)) == 20
    assert "1 image(s) that lie in no class folder, such as 'preview.png', were left out." in faces.notes


def test_links_out_of_the_folder_are_not_followed(tmp_path: Path) -> None:
    root, outside = fill(tmp_path / "in"), tmp_path / "out"
    secret = save(outside / "happy" / "secret.png")
    (root / "happy" / "link.png").symlink_to(secret)
    (root / "angry").symlink_to(outside / "happy")
    (root / "happy" / "inside.png").symlink_to(root / "happy" / "000.png")
    (root / "happy" / "loop").symlink_to(root)
    faces = load_faces(f"folder:{root}")
    assert all_ids(faces) == {f"{name}/{n:03}.png" for name in ("happy", "sad") for n in range(10)} | {
        "happy/inside.png"
    }
    assert any(note.startswith("3 link(s) were not followed") for note in faces.notes)


def test_images_stay_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmp_path / "faces")
    monkeypatch.chdir(tmp_path)
    faces = load_faces("folder:faces")
    monkeypatch.chdir("/")
    row = faces.splits["train"][0]
    assert row["image"].size == (8, 8)
    save(tmp_path / "faces" / row["id"], size=16)  # changed under the same path: seen at once
    assert faces.splits["train"][0]["image"].size == (16, 16)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ((), "holds no images in class folders"),
        (("a.png",), r"1 image\(s\) lie outside, such as 'a.png'"),
        (("train/a.png", "train/b.png"), r"2 image\(s\) lie outside"),
        (("happy/1.png", "angryy/1.png"), r"'angryy' is not an emotion. Did you mean 'angry'"),
        (("train/happy/1.png", "train/1/1.png"), r"split train: '1' is not an emotion"),
        (("train/happy/1.png", "extra/sad/1.png"), r"also 'extra' with 1 image\(s\), which is no split"),
        (("val/happy/1.png", "valid/sad/1.png"), "two validation folders, 'val' and 'valid'"),
        (("happy/1.png", "joy/1.png"), "twice"),
        (("test/happy/1.png", "test/sad/1.png"), "no train split, only test"),
        (("happy/1.png", "sad/1.png"), r"'happy' has 1 training image\(s\): too few"),
    ],
)
def test_refused_folders(tmp_path: Path, files: tuple[str, ...], message: str) -> None:
    for file in files:
        save(tmp_path / file)
    with pytest.raises(UserError, match=message):
        load_faces(f"folder:{tmp_path}")


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not exist"):
        load_faces(f"folder:{tmp_path / 'nowhere'}")
    with pytest.raises(UserError, match="is a file"):
        load_faces(f"folder:{save(tmp_path / 'a.png')}")


def test_smallest_classes_reach_every_split(tmp_path: Path) -> None:
    fill(tmp_path, ("happy",), 40)
    fill(tmp_path, ("sad",), 3)
    faces = load_faces(f"folder:{tmp_path}")
    assert [split["per_class"]["sad"] for split in faces.describe()["splits"].values()] == [1, 1, 1]
    with pytest.raises(UserError, match=r"data\.test_fraction is 0"):
        load_faces(f"folder:{tmp_path}", test_fraction=0)

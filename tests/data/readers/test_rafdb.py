"""RAF-DB as its authors and as Kaggle hand it out."""

import csv
from pathlib import Path

import datasets
import numpy as np
import pytest
from PIL import Image

from fer_hf.data.faces import Faces, load_faces
from fer_hf.data.readers import rafdb
from fer_hf.data.source import looks_like
from fer_hf.errors import UserError

ORDER = ("surprise", "fear", "disgust", "happy", "sad", "angry", "neutral")  # ids 1 to 7
GENDER = ("male", "female", None)
RACE = ("caucasian", "african-american", "asian")
AGE = ("0-3", "4-19", "20-39", "40-69", "70+")
LIST = Path("EmoLabel", "list_patition_label.txt")
LANDMARKS = "".join(f"{30 + mark}.000\t{40 + mark}.500\n" for mark in range(5))


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))


def save(file: Path, label: int) -> None:
    """An image whose brightness tells its class."""
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (20, 20), (30 * label,) * 3).save(file, quality=95)


def stems(split: str) -> list[str]:
    """Two training images and a test image of each class, class by class."""
    return [f"train_{number:05}" for number in range(14)] if split == "train" else [f"test_{n:04}" for n in range(7)]


def label_of(split: str, number: int) -> int:
    return 1 + (number // 2 if split == "train" else number)


def write_official(root: Path, images: str = "aligned") -> Path:
    """The attributes of an image are its number modulo 3, 3 and 5."""
    lines = []
    for split in ("train", "test"):
        for number, stem in enumerate(stems(split)):
            label = label_of(split, number)
            lines.append(f"{stem}.jpg {label}\n")
            save(root / "Image" / images / f"{stem}{'_aligned' if images == 'aligned' else ''}.jpg", label)
            file = root / "Annotation" / "manual" / f"{stem}_manu_attri.txt"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(f"{LANDMARKS}{number % 3}\n{number % 3}\n{number % 5}\n")
    (root / "EmoLabel").mkdir()
    (root / LIST).write_text("".join(lines))
    return root


def write_kaggle(root: Path, tables: Path | None) -> Path:
    """The folder DATASET in `root`, and the csv files in `tables`."""
    for split in ("train", "test"):
        rows = [(f"{stem}_aligned.jpg", label_of(split, number)) for number, stem in enumerate(stems(split))]
        for name, label in rows:
            save(root / "DATASET" / split / str(label) / name, label)
        if tables:
            with open(tables / f"{split}_labels.csv", "w", newline="") as file:
                csv.writer(file).writerows([("image", "label"), *rows])
    return root


def check_known(faces: Faces, ending: str) -> None:
    assert (faces.source, faces.dataset) == ("rafdb", "RAF-DB")
    for split in ("train", "test"):
        data = faces.splits[split]
        assert list(data["id"]) == [f"{stem}{ending}" for stem in stems(split)]
        for number, row in enumerate(data):
            label = label_of(split, number)
            assert faces.label_names[row["label"]] == ORDER[label - 1]
            assert np.asarray(row["image"]).mean() == pytest.approx(30 * label, abs=2)


def test_official_images_labels_and_attributes(tmp_path: Path) -> None:
    root = tmp_path / "RAF DB [é]"
    write_official(root / "basic")
    for place in (root, root / "basic"):
        assert looks_like(place) == "rafdb"
        faces = load_faces(f"rafdb:{place}", purpose="inspection")
        check_known(faces, ".jpg")
    for split in ("train", "test"):
        for number, row in enumerate(faces.splits[split]):
            assert (row["gender"], row["race"], row["age"]) == (GENDER[number % 3], RACE[number % 3], AGE[number % 5])
    assert faces.license is not None
    assert "research only" in faces.license
    trained = load_faces(f"rafdb:{root}")
    assert {split: len(data) for split, data in trained.splits.items()} == {"train": 7, "validation": 7, "test": 7}


def test_original_photographs_where_there_are_no_aligned_faces(tmp_path: Path) -> None:
    faces = load_faces(f"rafdb:{write_official(tmp_path, 'original')}", purpose="inspection")
    check_known(faces, ".jpg")
    assert any("original photographs" in note for note in faces.notes)
    (tmp_path / "Image" / "original").rename(tmp_path / "Image" / "originals")
    with pytest.raises(UserError, match="neither Image/aligned nor Image/original"):
        load_faces(f"rafdb:{tmp_path}")


def test_missing_and_damaged_attribute_files(tmp_path: Path) -> None:
    manual = write_official(tmp_path) / "Annotation" / "manual"
    damage = {
        0: "",
        1: LANDMARKS,
        2: f"{LANDMARKS}0\n0\n5\n",  # no such age
        3: f"{LANDMARKS}-1\n0\n0\n",
        4: f"{LANDMARKS}0\n0\n",
        5: f"{LANDMARKS}0\n0\n0\n0\n",
    }
    for number, text in damage.items():
        (manual / f"train_{number:05}_manu_attri.txt").write_text(text)
    (manual / "train_00006_manu_attri.txt").write_bytes(b"\xff\xfe" * 40)
    (manual / "train_00007_manu_attri.txt").unlink()
    (manual / "train_00008_manu_attri.txt").write_text(f"{LANDMARKS}1\n2\n4\n".replace("\n", "\r\n"))
    faces = load_faces(f"rafdb:{tmp_path}", purpose="inspection")
    check_known(faces, ".jpg")
    train = faces.splits["train"]
    assert [train[row][name] for row in range(8) for name in ("gender", "race", "age")] == [None] * 24
    assert [train[8][name] for name in ("gender", "race", "age")] == ["female", "asian", "70+"]
    assert [note for note in faces.notes if "gender" in note] == [
        "8 image(s) have no gender, race and age: their attribute file is missing or damaged."
    ]


def test_bad_lines_of_the_official_list(tmp_path: Path) -> None:
    root = write_official(tmp_path / "raf")
    save(tmp_path / "secret_aligned.jpg", 1)
    (root / "Image" / "aligned" / "test_0006_aligned.jpg").write_bytes(b"no image")
    lines = {
        "train_00099.jpg 1": "there is no file 'train_00099_aligned.jpg'",
        "train_00000.jpg 1": "train_00000.jpg is listed twice",
        "train_00001.jpg": "is not like",
        "other_00001.jpg 5": "'other_00001.jpg 5' is not like",
        "train_/../../../../secret.jpg 1": "leads out of the dataset's folder",
    }
    for label in ("0", "8", "-1", "1.0", "x"):
        save(root / "Image" / "aligned" / f"train_9{label}_aligned.jpg", 1)
        lines[f"train_9{label}.jpg {label}"] = f"the label is '{label}', not one of 1 to 7"
    (root / LIST).write_text("\n".join([(root / LIST).read_text(), *lines]))
    bad = rafdb.read(root).bad
    assert list(bad) == [f"list_patition_label.txt line {line}" for line in range(23, 23 + len(lines))]
    for found, reason in zip(bad.values(), lines.values(), strict=True):
        assert reason in found
    with pytest.raises(UserError, match=r"list_patition_label\.txt line 23: there is no file .* 11 image\(s\) cannot"):
        load_faces(f"rafdb:{root}")
    faces = load_faces(f"rafdb:{root}", on_bad_image="skip", purpose="inspection")
    assert len(faces.skipped) == len(lines) + 1
    assert {split: len(data) for split, data in faces.splits.items()} == {"train": 14, "test": 6}


def test_official_list_with_tabs_and_what_it_does_not_name(tmp_path: Path) -> None:
    root = write_official(tmp_path)
    (root / LIST).write_text((root / LIST).read_text().replace(" ", "\t").replace("\n", "\r\n"))
    (root / "compound").mkdir()
    save(root / "Image" / "aligned" / "train_77777_aligned.jpg", 1)
    faces = load_faces(f"rafdb:{root}", purpose="inspection")
    check_known(faces, ".jpg")
    assert "1 other file(s) or folder(s) were not read: compound." in faces.notes
    assert "1 image(s) that no list names, such as 'train_77777_aligned.jpg', were left out." in faces.notes


@pytest.mark.parametrize("tables", ["beside", "inside", "none"])
def test_kaggle_images_and_labels(tmp_path: Path, tables: str) -> None:
    root = tmp_path / "RAF DB [é]"
    (root / "DATASET").mkdir(parents=True)
    write_kaggle(root, {"beside": root, "inside": root / "DATASET", "none": None}[tables])
    for place in (root, root / "DATASET"):
        assert looks_like(place) == "rafdb"
        check_known(load_faces(f"rafdb:{place}", purpose="inspection"), "_aligned.jpg")


def test_kaggle_folder_and_table_have_to_agree(tmp_path: Path) -> None:
    root = write_kaggle(tmp_path, tmp_path)
    train = root / "DATASET" / "train"
    save(train / "2" / "train_00000_aligned.jpg", 1)  # a copy in a wrong class
    save(train / "3" / "train_new.jpg", 3)
    save(train / "8" / "train_eight.jpg", 1)
    save(tmp_path / "secret.jpg", 1)
    with open(root / "train_labels.csv", "a") as file:
        file.write("../../secret.jpg,1\ntrain_gone.jpg,1\ntrain_00001_aligned.jpg,7\ntrain_new.jpg,9\n\nshort\n")
    faces = load_faces(f"rafdb:{root}", purpose="inspection", on_bad_image="skip")
    check_known(faces, "_aligned.jpg")
    reasons = {
        "train/2/train_00000_aligned.jpg": "its class folder is 2, but train_labels.csv says 1",
        "train/3/train_new.jpg": "its class folder is 3, but train_labels.csv says nothing",
        "train/8/train_eight.jpg": "the class folder is '8', not one of 1 to 7",
        "train_labels.csv line 16": "there is no file '../../secret.jpg'",
        "train_labels.csv line 17": "there is no file 'train_gone.jpg'",
        "train_labels.csv line 18": "train_00001_aligned.jpg is listed twice",
        "train_labels.csv line 19": "the label is '9', not one of 1 to 7",
        "train_labels.csv line 21": "cells are missing",
    }
    assert rafdb.read(root).bad == reasons
    assert sorted(faces.skipped) == sorted(reasons)


def test_kaggle_one_name_in_two_classes_without_a_table(tmp_path: Path) -> None:
    root = write_kaggle(tmp_path, None)
    save(root / "DATASET" / "train" / "7" / "train_00000_aligned.jpg", 7)
    with pytest.raises(
        UserError, match=r"train/7/train_00000_aligned\.jpg: another class folder has a file of this name"
    ):
        load_faces(f"rafdb:{root}")
    check_known(load_faces(f"rafdb:{root}", purpose="inspection", on_bad_image="skip"), "_aligned.jpg")


def test_rafdb_under_another_name(tmp_path: Path) -> None:
    official = write_official(tmp_path / "far" / "away" / "basic")
    kaggle = write_kaggle(tmp_path / "kaggle", None)
    for root in (official, kaggle):
        with pytest.raises(UserError, match=rf"is not FER\+.* looks like RAF-DB: use rafdb:{root}\."):
            load_faces(f"ferplus:{root}")
    with pytest.raises(UserError, match=rf"is not RAF-DB: it holds away\. .* use rafdb:{official.parent}\. Wanted: "):
        load_faces(f"rafdb:{tmp_path / 'far'}")
    with pytest.raises(UserError, match="is not RAF-DB: it is a file"):
        load_faces(f"rafdb:{official / LIST}")


@pytest.mark.parametrize("names", [ORDER, range(8), range(7)])
def test_other_class_folders_are_no_rafdb(tmp_path: Path, names: tuple[object, ...]) -> None:
    for name in names:
        save(tmp_path / "train" / str(name) / "0.jpg", 1)
    assert looks_like(tmp_path) != "rafdb"

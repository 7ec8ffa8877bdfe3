"""AffectNet in each of its layouts: csv, .npy files, YOLO, and what only looks like it."""

import os
from collections.abc import Callable
from pathlib import Path

import datasets
import numpy as np
import pytest
from datasets import Dataset
from PIL import Image

from fer_hf.data.faces import load_faces
from fer_hf.data.readers import affectnet
from fer_hf.data.source import looks_like
from fer_hf.errors import UserError

EMOTIONS = ("neutral", "happy", "sad", "surprise", "fear", "disgust", "angry", "contempt")  # AffectNet's ids 0 to 7
HEADER = "subDirectory_filePath,face_x,face_y,face_width,face_height,facial_landmarks,expression,valence,arousal"


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))


def picture(file: Path, label: int) -> Path:
    """An image whose grey tells its class: 20 times the id."""
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (12, 12), (20 * label,) * 3).save(file)
    return file


def shown(data: Dataset) -> dict[str, str]:
    """The emotion that each image shows, by id."""
    pixels = {row["id"]: np.asarray(row["image"]).mean() for row in data}
    return {name: EMOTIONS[round(grey / 20)] for name, grey in pixels.items()}


def labels(data: Dataset) -> dict[str, str]:
    names = data.features["label"].names
    return {row["id"]: names[row["label"]] for row in data}


# --- csv


def row(name: str, label: object, valence: object = 0.5, arousal: object = -0.25) -> str:
    return f"{name},10,10,90,90,1.5;2.5;3.5,{label},{valence},{arousal}"


def write_csv(
    root: Path, lists: str = ".", images: str = ".", headless: bool = False, extra: tuple[str, ...] = ()
) -> Path:
    """Three training images and one of the validation set per class, and one of each label that is no emotion."""
    folder = root / images / "Manually_Annotated_Images"
    train, test = [HEADER, row("9/gone.jpg", 8, -2, -2), row("9/gone too.jpg", 10, -2, -2)], [row("9/unsure.jpg", 9)]
    for label in range(8):
        for copy in range(3):
            picture(folder / str(label) / f"é {copy}.jpg", label)
            train.append(row(f"{label}/é {copy}.jpg", label, label / 10, -label / 10))
        picture(folder / "val" / f"{label}.png", label)
        test.append(row(f"val/{label}.png", label, *((-2, -2) if label == 1 else (0.5, -0.25))))
    (root / lists).mkdir(exist_ok=True)
    (root / lists / "training.csv").write_text("\n".join([*train, *extra]), encoding="utf-8")
    (root / lists / "validation.csv").write_text("\n".join(test if headless else [HEADER, *test]), encoding="utf-8")
    return root


@pytest.mark.parametrize(
    ("lists", "images", "headless"),
    [
        (".", ".", False),
        ("Manually_Annotated_file_lists", "Manually_Annotated", True),
        ("Manually_Annotated", "Manually_Annotated", False),
    ],
)
def test_csv(tmp_path: Path, lists: str, images: str, headless: bool) -> None:
    root = write_csv(tmp_path / "Affect [Net]", lists, images, headless)
    assert looks_like(root) == "affectnet"
    faces = load_faces(f"affectnet:{root}", "fer8")
    assert (faces.source, faces.dataset) == ("affectnet", "AffectNet")
    assert {split: len(data) for split, data in faces.splits.items()} == {"train": 16, "validation": 8, "test": 8}
    for data in faces.splits.values():
        assert labels(data) == shown(data)
    test = {row["id"]: (row["valence"], row["arousal"]) for row in faces.splits["test"]}
    assert test["val/1.png"] == (None, None)
    assert test["val/6.png"] == (0.5, -0.25)
    train = {row["id"]: row for split in ("train", "validation") for row in faces.splits[split]}
    assert [train["7/é 2.jpg"][name] for name in ("valence", "arousal")] == pytest.approx([0.7, -0.7])
    notes = " ".join(faces.notes)
    assert "AffectNet's test set was never released" in notes
    assert "no validation split of its own: 8 of its 24" in notes
    assert "3 image(s) were left out since their label is no emotion: none 1, no-face 1, uncertain 1." in notes
    for name in ("training.csv", "validation.csv"):
        assert f"Columns of {name} that were not read: 'face_x', 'face_y', 'face_width', 'face_height', 'f" in notes


def test_seven_classes_drop_contempt_and_count_it(tmp_path: Path) -> None:
    faces = load_faces(f"affectnet:{write_csv(tmp_path)}", "fer7")
    assert faces.dropped == {"contempt": 4}
    assert all(labels(data) == shown(data) for data in faces.splits.values())


BAD_ROWS = [
    (row("0/é 0.jpg", 11), "class is '11', not one of 0, 1, 2"),
    (row("0/é 0.jpg", -1), "class is '-1'"),
    (row("0/é 0.jpg", "happy"), "class is 'happy'"),
    (row("0/é 0.jpg", 3), "'0/é 0.jpg' is listed twice"),
    (row("0/../0\\é 0.jpg", 0), "'0/é 0.jpg' is listed twice"),
    (row("0/none.jpg", 0), "there is no file '0/none.jpg'"),
    (row("0", 0), "there is no file '0'"),
    (row("", 0), "there is no file"),
    (row("../outside.jpg", 0), "leads out of the dataset's folder"),
    (row("0/link.jpg", 0), "leads out of the dataset's folder"),
    (row("/etc/passwd", 0), "leads out of the dataset's folder"),
    (row("0/new.jpg", 0, 1.5), "valence or arousal is 1.5"),
    (row("0/new.jpg", 0, 0, "nan"), "valence or arousal is nan"),
    (row("0/new.jpg", 0, "?"), "'?'"),
    ("0/new.jpg,1,1", "cells are missing"),
    ("\0\ufffd", "cells are missing"),
]


def test_csv_bad_rows(tmp_path: Path) -> None:
    extra = (*(text for text, _ in BAD_ROWS), row("0/last.jpg", "0.0"))
    root = write_csv(tmp_path / "set", extra=extra)
    for name in ("0/new.jpg", "0/last.jpg", "../outside.jpg"):
        picture(root / "Manually_Annotated_Images" / name, 0)
    (root / "Manually_Annotated_Images/0/link.jpg").symlink_to(picture(tmp_path / "secret.jpg", 0))
    raw = affectnet.read(root)
    assert list(raw.bad) == [f"training.csv line {28 + number}" for number in range(len(BAD_ROWS))]
    for (text, reason), found in zip(BAD_ROWS, raw.bad.values(), strict=True):
        assert reason in found, text
    assert raw.splits["train"]["id"][-1] == "0/last.jpg"
    assert len(raw.splits["train"]) == 25


def test_bad_rows_stop_the_loading_or_are_counted(tmp_path: Path) -> None:
    root = write_csv(tmp_path, extra=(row("0/none.jpg", 0), row("1/none.jpg", 1)))
    with pytest.raises(UserError, match=r"training\.csv line 28: there is no file '0/none\.jpg'\. 2 image\(s\)"):
        load_faces(f"affectnet:{root}", "fer8")
    faces = load_faces(f"affectnet:{root}", "fer8", on_bad_image="skip")
    assert faces.skipped == ["training.csv line 28", "training.csv line 29"]
    assert "2 unreadable image(s) were left out." in faces.notes


def test_csv_without_its_columns(tmp_path: Path) -> None:
    root = write_csv(tmp_path)
    (root / "validation.csv").write_text("path,label\n0/0.jpg,0\n")
    with pytest.raises(UserError, match=r"validation\.csv' lacks the column\(s\) subdirectory_filepath, expression"):
        load_faces(f"affectnet:{root}")


# --- npy


def write_npy(root: Path, as_value: Callable[[object], object] = str) -> Path:
    """Three training images and one of the validation set per class, numbered from 0 in both."""
    for top, copies in (("train_set", 3), ("val_set", 1)):
        (root / top / "annotations").mkdir(parents=True)
        for number in range(8 * copies):
            label = number % 8
            picture(root / top / "images" / f"{number}.jpg", label)
            save = root / top / "annotations"
            np.save(save / f"{number}_exp.npy", np.array(as_value(label)))
            np.save(save / f"{number}_val.npy", np.array(as_value(-label / 8)))
            np.save(save / f"{number}_aro.npy", np.array(as_value(-2 if label == 1 else 0.25)))
            np.save(save / f"{number}_lnd.npy", np.zeros(136))
    (root / "val_set/annotations/0_val.npy").unlink()
    (root / "val_set/images/.DS_Store").touch()
    (root / "val_set/annotations/._7_exp.npy").touch()
    return root


@pytest.mark.parametrize("as_value", [str, float, np.float32, lambda value: [value]])
def test_npy(tmp_path: Path, as_value: Callable[[object], object]) -> None:
    root = write_npy(tmp_path, as_value)
    assert looks_like(root) == "affectnet"
    faces = load_faces(f"affectnet:{root}", "fer8")
    assert {split: len(data) for split, data in faces.splits.items()} == {"train": 16, "validation": 8, "test": 8}
    for data in faces.splits.values():
        assert labels(data) == shown(data)
    test = {row["id"]: (row["valence"], row["arousal"]) for row in faces.splits["test"]}
    assert test["val_set/images/0.jpg"] == (None, 0.25)
    assert test["val_set/images/1.jpg"] == (-0.125, None)
    assert test["val_set/images/6.jpg"] == (-0.75, 0.25)


class Trap:
    """Makes a folder when it is unpickled."""

    def __reduce__(self) -> tuple:
        return os.mkdir, ("unpickled",)


def save(file: Path, value: object, version: tuple[int, int] = (1, 0)) -> None:
    with open(file, "wb") as to:
        np.lib.format.write_array(to, np.array(value), version=version)


SPOILT: list[tuple[Callable[[Path], object], str]] = [
    (
        lambda exp: save(exp, Trap()),
        "is no .npy file of one value: shape (), dtype object",
    ),
    (lambda exp: save(exp, "11"), "class is '11'"),
    (lambda exp: save(exp, 0.5), "class is '0.5'"),
    (lambda exp: save(exp, ["1", "2"]), "no .npy file of one value"),
    (lambda exp: save(exp, 1, version=(2, 0)), "no .npy file of one value"),
    (lambda exp: exp.write_bytes(b""), "no .npy file of one value"),
    (lambda exp: exp.write_bytes(exp.read_bytes()[:-1]), "no .npy file of one value"),
    (lambda exp: exp.write_bytes(b"\x93NUMPY\x01\x00\x04\x00{{{{0000"), "no .npy file of one value"),
    (lambda exp: exp.unlink(), "No such file"),
    (lambda exp: save(exp.with_name(exp.name.replace("exp", "val")), "-1.5"), "valence or arousal is -1.5"),
    (lambda exp: save(exp.with_name(exp.name.replace("exp", "aro")), "x"), "'x'"),
]


def test_npy_bad_annotations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = write_npy(tmp_path / "set")
    monkeypatch.chdir(tmp_path)
    for number, (spoil, _) in enumerate(SPOILT):
        spoil(root / f"train_set/annotations/{number}_exp.npy")
    raw = affectnet.read(root)
    assert set(raw.bad) == {f"train_set/images/{number}.jpg" for number in range(len(SPOILT))}
    for number, (_, reason) in enumerate(SPOILT):
        assert reason in raw.bad[f"train_set/images/{number}.jpg"]
    assert {split: len(data) for split, data in raw.splits.items()} == {"train": 24 - len(SPOILT), "test": 8}
    assert not Path("unpickled").exists()


def test_npy_bad_images(tmp_path: Path) -> None:
    root = write_npy(tmp_path / "set")
    (root / "train_set/images/5.jpg").unlink()
    (root / "train_set/images/6.jpg").unlink()
    (root / "train_set/images/6.jpg").symlink_to(picture(tmp_path / "secret.jpg", 6))
    (root / "val_set/images/7.jpg").write_text("no image")
    odd = os.fsencode(root / "train_set/images") + b"/\xff.jpg"
    os.link(root / "train_set/images/0.jpg", odd)
    os.link(root / "train_set/annotations/0_exp.npy", os.fsencode(root / "train_set/annotations") + b"/\xff_exp.npy")
    faces = load_faces(f"affectnet:{root}", "fer8", on_bad_image="skip")
    assert sorted(faces.skipped) == [
        "train_set/annotations/5_exp.npy",
        "train_set/images/6.jpg",
        "train_set/images/\\udcff.jpg",
        "val_set/images/7.jpg",
    ]
    reasons = affectnet.read(root).bad
    assert reasons["train_set/annotations/5_exp.npy"] == "there is no image of it"
    assert "leads out of the dataset's folder" in reasons["train_set/images/6.jpg"]


def test_only_the_validation_set(tmp_path: Path) -> None:
    root = write_npy(tmp_path)
    (root / "train_set").rename(tmp_path / "elsewhere")
    assert set(load_faces(f"affectnet:{root}", "fer8", purpose="evaluation").splits) == {"test"}


# --- YOLO

YOLO = ("Anger", "Contempt", "Disgust", "Fear", "Happy", "Neutral", "Sad", "Surprise", "None")  # Kaggle's, and one more
YOLO_EMOTIONS = ("angry", "contempt", "disgust", "fear", "happy", "neutral", "sad", "surprise")


def write_yolo(root: Path, names: object = list(YOLO)) -> Path:
    """One image per class and split, the last class being no emotion."""
    for top in ("train", "valid", "test"):
        (root / top / "labels").mkdir(parents=True)
        for label, name in enumerate((*YOLO_EMOTIONS, "neutral")):
            picture(root / top / "images" / f"ffhq_{label}.rf.1{'.png' if label % 2 else '.jpg'}", EMOTIONS.index(name))
            (root / top / "labels" / f"ffhq_{label}.rf.1.txt").write_text(f"{label} 0.5 0.5 1 0.9\n")
    (root / "data.yaml").write_text(f"train: ../train/images\nnc: {len(YOLO)}\nnames: {names!r}\n")
    return root


@pytest.mark.parametrize("names", [list(YOLO), dict(enumerate(YOLO))])
def test_yolo_takes_the_order_of_data_yaml(tmp_path: Path, names: object) -> None:
    root = write_yolo(tmp_path, names)
    assert looks_like(root) == "affectnet"
    faces = load_faces(f"affectnet:{root}", "fer8")
    assert {split: len(data) for split, data in faces.splits.items()} == {"train": 8, "validation": 8, "test": 8}
    for data in faces.splits.values():
        assert labels(data) == shown(data)
        assert data.column_names == ["image", "label", "id"]
    assert faces.notes == ["3 image(s) were left out since their label is no emotion: None 3."]


def test_yolo_bad_labels(tmp_path: Path) -> None:
    reasons = {
        "4 0.5 0.5 1 1\n5 0.2 0.2 0.1 0.1\n": "has not one class",
        "": "has not one class",
        "4 0.5": "has not one class",
        "9 0.5 0.5 1 1": "class is '9', not one of 0, 1",
        "-1 0.5 0.5 1 1": "class is '-1'",
        "no file": "No such file",
    }
    root = write_yolo(tmp_path)
    names = [f"ffhq_{number}.rf.1" for number in range(len(reasons))]
    for name, text in zip(names, reasons, strict=True):
        (root / f"train/labels/{name}.txt").write_text(text)
    (root / f"train/labels/{names[-1]}.txt").unlink()
    bad = affectnet.read(root).bad
    assert [Path(place).stem for place in bad] == names
    for found, reason in zip(bad.values(), reasons.values(), strict=True):
        assert reason in found


def test_yolo_two_boxes_of_one_class_are_one_label(tmp_path: Path) -> None:
    root = write_yolo(tmp_path)
    (root / "train/labels/ffhq_4.rf.1.txt").write_text("4 0.5 0.5 1 1\n\n4 0.2 0.2 0.1 0.1\n")
    assert labels(load_faces(f"affectnet:{root}", "fer8").splits["train"])["train/images/ffhq_4.rf.1.jpg"] == "happy"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "No such file"),
        ("nc: 8\n", "KeyError"),
        ("names: 8\n", "TypeError"),
        ("names: [Anger", "ParserError"),
        ("", "TypeError"),
        ("names: [car, bus]", "no emotions: car, bus"),
    ],
)
def test_yolo_without_its_order_is_refused(tmp_path: Path, content: str | None, reason: str) -> None:
    root = write_yolo(tmp_path)
    (root / "data.yaml").unlink() if content is None else (root / "data.yaml").write_text(content)
    with pytest.raises(UserError, match=r"data\.yaml'.*" + reason):
        load_faces(f"affectnet:{root}")


# --- what is no AffectNet


def test_no_affectnet(tmp_path: Path) -> None:
    picture(tmp_path / "folder/happy/1.jpg", 1)
    picture(tmp_path / "fer/train/happy/1.jpg", 1)
    picture(tmp_path / "ck/happy/S010_004_00000017.png", 1)
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists/training.csv").write_text(HEADER)  # without images
    for name in ("folder", "fer", "ck", "lists"):
        assert affectnet.layout(tmp_path / name) is None
    with pytest.raises(UserError, match=r"is not AffectNet: it holds happy\. It looks like CK\+: use ckplus:"):
        load_faces(f"affectnet:{tmp_path / 'ck'}")
    write_yolo(tmp_path / "kaggle/YOLO_format")
    with pytest.raises(UserError, match=r"YOLO_format' looks like AffectNet: use affectnet:.*YOLO_format\."):
        load_faces(f"affectnet:{tmp_path / 'kaggle'}")

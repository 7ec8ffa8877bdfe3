"""FER2013 in each of its layouts: csv, Kaggle folders, Parquet, and what only looks like it."""

import io
import os
from pathlib import Path

import datasets
import numpy as np
import pytest
from datasets import ClassLabel, Dataset, Features, Image, Value
from PIL import Image as PILImage

from fer_hf.data.faces import load_faces
from fer_hf.errors import FerError, UserError

CSV_ORDER = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
USAGES = ("Training", "PublicTest", "PrivateTest")


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))


def face(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (48, 48), dtype=np.uint8)


def csv_row(label: object, seed: int, usage: str) -> str:
    return f"{label},{' '.join(map(str, face(seed).ravel()))},{usage}"


def write_csv(path: Path, header: str = "emotion,pixels,Usage", extra: tuple[str, ...] = ()) -> Path:
    """Seven images per split, one per class, the seed of each being its row."""
    rows = [csv_row(label, 7 * part + label, usage) for part, usage in enumerate(USAGES) for label in range(7)]
    path.write_text("\n".join([header, *rows, *extra]) + "\n")
    return path


@pytest.mark.parametrize(
    ("name", "header"), [("fer2013.csv", "emotion,pixels,Usage"), ("icml_face_data.csv", "emotion, Usage, pixels")]
)
def test_csv_pixels_labels_and_splits(tmp_path: Path, name: str, header: str) -> None:
    file = write_csv(tmp_path / name, header)
    if header == "emotion, Usage, pixels":  # icml_face_data.csv: blanks in the header, other order
        lines = [line.split(",") for line in file.read_text().splitlines()[1:]]
        file.write_text("\n".join([header, *(f"{label}, {usage}, {pixels}" for label, pixels, usage in lines)]))
    for place in (tmp_path, file):
        faces = load_faces(f"fer2013:{place}")
        assert (faces.source, faces.dataset) == ("fer2013", "FER2013")
        for part, split in enumerate(("train", "validation", "test")):
            data = faces.splits[split]
            assert list(data["id"]) == [f"{USAGES[part]}_{7 * part + label}" for label in range(7)]
            for label, row in enumerate(data):
                assert faces.label_names[row["label"]] == CSV_ORDER[label]
                np.testing.assert_array_equal(np.asarray(row["image"]), face(7 * part + label))


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("7,1 2 3,Training", "emotion is '7'"),
        ("0,1 2 3,Training", "3 pixels, not 2304"),
        ("0," + "1 " * 2303 + "256,Training", "from 1 to 256"),
        ("0," + "1 " * 2303 + "-1,Training", "from -1 to 1"),
        ("0," + "1 " * 2303 + "x,Training", "not all whole numbers"),
        ("0," + "1 " * 2304 + "x,Training", "not all whole numbers"),
        ("0," + "1 " * 2303 + "1.5,Training", "not all whole numbers"),
        ("0,,Training", "pixels"),
        ("0", "cells are missing"),
        ("0," + "1 " * 2304 + ",Train", "Usage is 'Train'"),
    ],
)
def test_csv_bad_row(tmp_path: Path, row: str, reason: str) -> None:
    write_csv(tmp_path / "fer2013.csv", extra=(row, csv_row(3, 1, "Training")))
    with pytest.raises(UserError, match=r"fer2013\.csv line 23: .*1 image\(s\).*on_bad_image=skip") as caught:
        load_faces(f"fer2013:{tmp_path}")
    assert reason in str(caught.value)
    faces = load_faces(f"fer2013:{tmp_path}", on_bad_image="skip")
    assert faces.skipped == ["fer2013.csv line 23"]
    assert faces.splits["train"]["id"][-1] == "Training_22"  # the bad row keeps its number
    assert "1 unreadable image(s) were left out." in faces.notes


@pytest.mark.parametrize("part", [";", "\t", ","])
@pytest.mark.parametrize("pixels", [" ", ", "])
def test_csv_that_is_written_differently_is_read_where_it_is_clear(tmp_path: Path, part: str, pixels: str) -> None:
    lines = write_csv(tmp_path / "fer2013.csv").read_text().splitlines()
    rows = [line.split(",") for line in lines[1:]]
    quoted = [(label, f'"[{values.replace(" ", pixels)}]"', usage.upper()) for label, values, usage in rows]
    text = "\n".join(part.join(cells) for cells in [("emotion", "pixels", "Usage"), *quoted])
    (tmp_path / "fer2013.csv").write_text(text)
    faces = load_faces(f"fer2013:{tmp_path}")
    for number, (split, usage) in enumerate(zip(("train", "validation", "test"), USAGES, strict=True)):
        assert list(faces.splits[split]["id"]) == [f"{usage}_{7 * number + label}" for label in range(7)]
        np.testing.assert_array_equal(np.asarray(faces.splits[split][3]["image"]), face(7 * number + 3))


def test_csv_pixels_that_are_cells_of_their_own_are_told(tmp_path: Path) -> None:
    (tmp_path / "fer2013.csv").write_text(f"emotion,pixels,Usage\n0,{','.join('1' * 2304)},Training\n")
    with pytest.raises(UserError, match=r"fer2013\.csv line 2: it has 2,306 cells, and there are 3 columns") as caught:
        load_faces(f"fer2013:{tmp_path}")
    assert "use fer2013:" not in str(caught.value)  # what has just failed
    with pytest.raises(UserError, match="it has 2,306 cells"):
        load_faces(f"fer2013:{tmp_path}", purpose="inspection")


def test_csv_what_is_not_read_is_named(tmp_path: Path) -> None:
    text = write_csv(tmp_path / "fer2013.csv").read_text()
    (tmp_path / "fer2013.csv").write_text(text.replace("Usage", "Usage,Note").replace("Test\n", "Test,x\n"))
    (tmp_path / "train.csv").touch()
    (tmp_path / "test").mkdir()
    notes = load_faces(f"fer2013:{tmp_path}").notes
    assert "Columns of fer2013.csv that were not read: 'note'." in notes
    assert "2 other file(s) or folder(s) were not read: test, train.csv." in notes


def test_a_hint_that_leads_to_the_same_error_is_not_given(tmp_path: Path) -> None:
    """It looks like FER2013, but cannot be read as that either."""
    write_kaggle(tmp_path)
    (tmp_path / "extra" / "sad").mkdir(parents=True)
    PILImage.new("L", (8, 8)).save(tmp_path / "extra" / "sad" / "1.png")
    for kind in ("folder", "fer2013"):
        with pytest.raises(UserError, match="also 'extra' with 1 image") as caught:
            load_faces(f"{kind}:{tmp_path}")
        assert "looks like" not in str(caught.value)


def test_csv_without_its_columns(tmp_path: Path) -> None:
    file = tmp_path / "fer2013.csv"
    file.write_text("emotion,pixels\n0,1 2 3\n")
    with pytest.raises(UserError, match=r"lacks the column\(s\) usage.*emotion, pixels"):
        load_faces(f"fer2013:{file}")
    file.write_bytes(b"")
    with pytest.raises(UserError, match=r"lacks the column.*has: nothing"):
        load_faces(f"fer2013:{file}")
    file.write_text("emotion,pixels,Usage\n")
    with pytest.raises(UserError, match="no train split"):
        load_faces(f"fer2013:{file}")


def write_kaggle(root: Path, prefixes: tuple[str, ...] = ("PublicTest_", "PrivateTest_")) -> Path:
    for label, name in enumerate(sorted(CSV_ORDER)):
        for split in ("train", "test"):
            (root / split / name).mkdir(parents=True, exist_ok=True)
        for number in range(3):
            PILImage.fromarray(face(label)).save(root / "train" / name / f"Training_{label}{number}.jpg")
        for number, prefix in enumerate(prefixes):
            PILImage.fromarray(face(label)).save(root / "test" / name / f"{prefix}{label}{number}.jpg")
    return root


def test_kaggle_test_folder_is_split_by_prefix(tmp_path: Path) -> None:
    faces = load_faces(f"fer2013:{write_kaggle(tmp_path)}")
    assert {split: len(data) for split, data in faces.splits.items()} == {"train": 21, "validation": 7, "test": 7}
    assert all("/PublicTest_" in name for name in faces.splits["validation"]["id"])
    assert all("/PrivateTest_" in name for name in faces.splits["test"]["id"])
    assert list(faces.splits["test"]["label"]) == list(range(7))
    assert any("split by file name" in note for note in faces.notes)


def test_kaggle_test_folder_without_prefixes_stays_test(tmp_path: Path) -> None:
    faces = load_faces(f"fer2013:{write_kaggle(tmp_path, ('im', 'face'))}")
    assert {split: len(data) for split, data in faces.splits.items()} == {"train": 14, "validation": 7, "test": 14}
    assert any("no validation split of its own: 7 of its 21" in note for note in faces.notes)


def test_kaggle_test_folder_with_an_odd_file(tmp_path: Path) -> None:
    write_kaggle(tmp_path, ("PublicTest_", "PrivateTest_", "mine"))
    with pytest.raises(UserError, match=r"mine02\.jpg.*neither PublicTest_\* nor PrivateTest_"):
        load_faces(f"fer2013:{tmp_path}")


def write_parquet(folder: Path, paths: bool = True, order: tuple[str, ...] = ("sad", "happy", "angry")) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for part, (split, usage) in enumerate(zip(("train", "validation", "test"), USAGES, strict=True)):
        images = []
        for label in range(len(order)):
            buffer = io.BytesIO()
            PILImage.fromarray(face(10 * part + label)).save(buffer, "PNG")
            images.append({"bytes": buffer.getvalue(), "path": f"{usage}_{label}.png" if paths else None})
        features = Features(label=ClassLabel(names=list(order)), image=Image(), extra=Value("int64"))
        columns = {"image": images, "label": list(range(len(order))), "extra": [0] * len(order)}
        Dataset.from_dict(columns, features).to_parquet(folder / f"{split}-00000-of-00001.parquet")


@pytest.mark.parametrize("below", ["data", "."])
def test_parquet(tmp_path: Path, below: str) -> None:
    root = tmp_path / "FER [2013] é"
    write_parquet(root / below)
    faces = load_faces(f"fer2013:{root}")
    assert faces.splits["train"].column_names == ["image", "label", "id"]
    for part, split in enumerate(("train", "validation", "test")):
        for label, row in enumerate(faces.splits[split]):
            assert row["id"] == f"{USAGES[part]}_{label}.png"
            assert faces.label_names[row["label"]] == ("sad", "happy", "angry")[label]
            assert row["image"].mode == "L"
            np.testing.assert_array_equal(np.asarray(row["image"]), face(10 * part + label))


def test_parquet_ids_without_paths_and_no_stale_cache(tmp_path: Path) -> None:
    write_parquet(tmp_path, paths=False)
    assert list(load_faces(f"fer2013:{tmp_path}").splits["test"]["id"]) == ["test_0", "test_1", "test_2"]
    write_parquet(tmp_path, order=("fear", "neutral"))
    faces = load_faces(f"fer2013:{tmp_path}")
    assert [faces.label_names[label] for label in faces.splits["test"]["label"]] == ["fear", "neutral"]


def test_broken_parquet(tmp_path: Path) -> None:
    write_parquet(tmp_path)
    file = tmp_path / "test-00000-of-00001.parquet"
    file.write_bytes(file.read_bytes()[:200])
    with pytest.raises(FerError, match="could not be read"):
        load_faces(f"fer2013:{tmp_path}")


def test_not_fer2013(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not exist"):
        load_faces(f"fer2013:{tmp_path / 'nothing'}")
    with pytest.raises(UserError, match="it holds nothing"):
        load_faces(f"fer2013:{tmp_path}")
    (tmp_path / "readme.txt").touch()
    with pytest.raises(UserError, match=r"it holds readme\.txt"):
        load_faces(f"fer2013:{tmp_path}")
    with pytest.raises(UserError, match=r"ends in '\.txt'"):
        load_faces(f"fer2013:{tmp_path / 'readme.txt'}")
    write_parquet(tmp_path / "inner" / "data")
    with pytest.raises(UserError, match=r"use fer2013:.*inner\. Wanted"):
        load_faces(f"fer2013:{tmp_path}")


@pytest.mark.skipif("FER_HF_DATA" not in os.environ, reason="FER_HF_DATA names no folder that holds fer2013/")
def test_real_fer2013() -> None:
    faces = load_faces(f"fer2013:{os.environ['FER_HF_DATA']}/fer2013")
    splits = faces.describe().splits
    assert {name: split.images for name, split in splits.items()} == {
        "train": 28709,
        "validation": 3589,
        "test": 3589,
    }
    assert list(splits["train"].per_class.values()) == [3995, 436, 4097, 7215, 4965, 4830, 3171]
    assert faces.skipped == []
    for name, usage in zip(("train", "validation", "test"), USAGES, strict=True):
        ids = list(faces.splits[name]["id"])
        assert len(set(ids)) == len(ids)
        assert sum(each.startswith(f"{usage}_") for each in ids) > 0.99 * len(ids)  # some file names occur twice

"""Parquet files whose class names differ: labels travel by name, file by file, wherever the files are read."""

import io
from pathlib import Path

import datasets
import numpy as np
import pytest
from datasets import ClassLabel, Dataset, Features, Image, Value
from PIL import Image as PILImage

from fer_hf.data import load_faces
from fer_hf.data.readers import hub
from fer_hf.errors import UserError

NAMES = ("angry", "happy", "sad")


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))


def write(file: Path, names: tuple[str, ...], feature: object = None, each: int = 2, **known: list) -> None:
    """Images of each class; the id, and the brightness, of an image tell what it shows."""
    file.parent.mkdir(parents=True, exist_ok=True)
    rows: dict[str, list] = {"image": [], "label": [], "id": [], **known}
    for label, name in enumerate(names):
        for number in range(each):
            content = io.BytesIO()
            PILImage.fromarray(np.full((8, 8), 80 * NAMES.index(name.lower()), np.uint8)).save(content, "PNG")
            rows["image"].append({"bytes": content.getvalue(), "path": None})
            rows["label"].append(name if feature == Value("string") else label)
            rows["id"].append(f"{file.stem}-{name.lower()}-{number}")
    features = Features(image=Image(), label=feature or ClassLabel(names=list(names)), id=Value("string"))
    for column in known:
        features[column] = datasets.Sequence(Value("float32")) if column == "soft_label" else Value("string")
    Dataset.from_dict(rows, features).to_parquet(file)


def check_labels(faces, images: dict[str, int]) -> None:
    assert {split: len(data) for split, data in faces.splits.items()} == images
    for data in faces.splits.values():
        for row in data:
            shown = NAMES[row["image"].getpixel((0, 0)) // 80]
            assert shown in row["id"] or row["id"].startswith("train_")
            assert faces.label_names[row["label"]] == shown


@pytest.mark.parametrize(
    "other",
    [("happy", "sad"), ("sad", "angry", "happy"), ("Sad", "HAPPY", "angry")],
    ids=["fewer", "order", "spelling"],
)
@pytest.mark.parametrize("place", ["folder", "data", "hub", "stream", "several"])
def test_labels_of_files_that_name_their_classes_differently(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str, other: tuple[str, ...]
) -> None:
    root = tmp_path / ("one [1]" if place == "folder" else "one")
    inner = root / "data" if place == "data" else root
    write(inner / "test-00000-of-00001.parquet", other)  # the first in alphabetical order
    write(inner / "train-00000-of-00002.parquet", NAMES)
    if place != "stream":
        write(inner / "train-00001-of-00002.parquet", other)
    images = {"train": 6 + (place != "stream") * 2 * len(other), "test": 2 * len(other)}
    source: str | list[str] = f"folder:{root}"
    options = {"stream_images": 99} if place == "stream" else {}
    monkeypatch.setattr(datasets.config, "SLEEP_TIME_ON_THREADS_SHUTDOWN", 0)  # of a stream: seconds
    if place in ("hub", "stream"):
        builder = datasets.load_dataset_builder
        monkeypatch.setattr(hub, "load_dataset_builder", lambda name, config, revision: builder(str(root)))
        monkeypatch.setattr(hub, "_license", lambda name, revision: None)
        source = "hub:someone/faces"
    if place == "several":
        write(tmp_path / "two" / "train-0.parquet", ("sad", "happy"))
        source, images["train"] = [source, f"folder:{tmp_path / 'two'}"], images["train"] + 4
    faces = load_faces(source, NAMES, purpose="inspection", **options)
    check_labels(faces, images)
    assert faces.dropped == dict.fromkeys(faces.dropped, 0)


def test_soft_labels_and_attributes_of_files_of_one_split(tmp_path: Path) -> None:
    write(tmp_path / "train-0.parquet", ("sad", "happy"), each=1, soft_label=[[0.75, 0.25], [0.0, 1.0]])
    write(tmp_path / "train-1.parquet", ("happy", "angry"), each=1, gender=["F", "M"])
    write(tmp_path / "train-2.parquet", ("sad", "angry"), Value("string"), each=1)
    data = load_faces(f"folder:{tmp_path}", NAMES, purpose="inspection").splits["train"]
    assert data["label"][:] == [2, 1, 1, 0, 2, 0]
    assert data["soft_label"][:2] == [[0, 0.25, 0.75], [0, 1, 0]]
    assert np.argmax(data["soft_label"][2:], axis=1).tolist() == [1, 0, 2, 0]
    assert data["gender"][:] == [None, None, "female", "male", None, None]


def test_ids_that_several_files_have_become_rows(tmp_path: Path) -> None:
    write(tmp_path / "a" / "train-0.parquet", ("sad", "happy"), each=1)
    for number, names in enumerate([("sad", "happy"), ("happy", "angry")]):
        write(tmp_path / "b" / f"train-{number}.parquet", names, each=1)
        table = Dataset.from_parquet(str(tmp_path / "b" / f"train-{number}.parquet"))
        table.remove_columns("id").to_parquet(tmp_path / "b" / f"train-{number}.parquet")
    data = load_faces(f"folder:{tmp_path / 'b'}", NAMES, purpose="inspection").splits["train"]
    assert data["id"][:] == ["train_0", "train_1", "train_2", "train_3"]
    assert data["label"][:] == [2, 1, 1, 0]


@pytest.mark.parametrize("name", ["train-00001.parquet", "test-00000.parquet"])
def test_bare_numbers_among_names_are_refused_as_they_are_alone(tmp_path: Path, name: str) -> None:
    write(tmp_path / "train-00000.parquet", NAMES)
    write(tmp_path / name, NAMES, Value("int64"))
    with pytest.raises(UserError, match=r"no column of labels.*label: int64.*Bare numbers are refused"):
        load_faces(f"folder:{tmp_path}", NAMES)
    write(tmp_path / name, ("sad", "happy"), ClassLabel(names=["sad", "smug"]))
    with pytest.raises(UserError, match="'smug' is not an emotion"):
        load_faces(f"folder:{tmp_path}", NAMES)


def test_what_lies_beside_and_columns_that_are_not_read_are_named(tmp_path: Path) -> None:
    write(tmp_path / "data" / "train-0.parquet", NAMES, camera=["A"] * 6, source=["x"] * 6)
    (tmp_path / "README.md").write_text("---\nlicense: mit\n---\n")
    (tmp_path / "extra.txt").touch()
    (tmp_path / "data" / "old.csv").touch()
    faces = load_faces(f"folder:{tmp_path}", NAMES, purpose="inspection")
    assert faces.notes == [
        "1 other file(s) or folder(s) were not read: extra.txt.",
        "1 other file(s) or folder(s) were not read: old.csv.",
        "The train split has columns that were not read: source.",
    ]
    assert faces.splits["train"]["camera"][:] == ["A"] * 6


@pytest.mark.parametrize("kind", ["", "folder:", "fer2013:"])
def test_a_parquet_file_is_refused_with_its_folder(tmp_path: Path, kind: str) -> None:
    write(tmp_path / "train-0.parquet", NAMES)
    with pytest.raises(UserError, match=rf"It is a table of images: name its folder, folder:{tmp_path}\."):
        load_faces(f"{kind}{tmp_path / 'train-0.parquet'}")

"""Hub datasets: columns found by type, splits by name. Only the Hub's name is replaced, by a local folder."""

import io
import json
import subprocess
import sys
from pathlib import Path

import datasets
import pytest
from datasets import ClassLabel, Dataset, Features, Image, Value
from PIL import Image as PILImage

from fer_hf.data import hub
from fer_hf.data.faces import load_faces
from fer_hf.errors import FerError, UserError


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))


def png(grey: int) -> bytes:
    buffer = io.BytesIO()
    PILImage.new("L", (8, 8), grey).save(buffer, "PNG")
    return buffer.getvalue()


def write(
    folder: Path, split: str, features: dict, labels: list, image: str = "image", path: str | None = "{}.png"
) -> None:
    folder.mkdir(exist_ok=True)
    images = [{"bytes": png(row), "path": path and path.format(row)} for row in range(len(labels))]
    label = next(name for name in features if name != image)
    columns = {image: images, label: labels} | {
        name: [0] * len(labels) for name in features if name not in (image, label)
    }
    Dataset.from_dict(columns, Features(features)).to_parquet(folder / f"{split}.parquet")


@pytest.fixture
def repo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A local folder in the place of the Hub dataset someone/faces."""
    folder = tmp_path / "repo"

    def from_folder(name: str, revision: str | None = None) -> datasets.DatasetDict:
        assert name == "someone/faces"
        return datasets.load_dataset(str(folder))

    monkeypatch.setattr(hub, "load_dataset", from_folder)
    monkeypatch.setattr(hub, "_license", lambda name, revision: "cc-by-4.0")
    monkeypatch.chdir(tmp_path)
    return folder


def test_class_labels_in_any_order(repo: Path) -> None:
    names = ["Surprise", "fear", "contempt", "Happiness"]
    features = {"face": Image(), "expression": ClassLabel(names=names), "gender": ClassLabel(names=["f", "m"])}
    write(repo, "train", features, [0, 1, 2, 3] * 5, image="face")
    write(repo, "test", features, [3, 2, 1, 0], image="face")
    faces = load_faces("hub:someone/faces")
    assert (faces.source, faces.dataset, faces.hub_id, faces.license) == (
        "hub",
        "someone/faces",
        "someone/faces",
        "cc-by-4.0",
    )
    test = faces.splits["test"]
    assert test.column_names == ["image", "label", "id"]
    assert [faces.label_names[label] for label in test["label"]] == ["happy", "fear", "surprise"]
    assert list(test["id"]) == ["0.png", "2.png", "3.png"]
    assert [row["image"].getpixel((0, 0)) for row in test] == [0, 2, 3]
    assert faces.dropped == {"contempt": 6}
    assert len(faces.splits["validation"]) == 3


def test_strings_missing_labels_and_row_ids(repo: Path) -> None:
    features = {"img": Image(), "label": Value("string")}
    write(repo, "train", features, ["sadness", "joy", None] * 6, image="img", path="same.png")
    faces = load_faces("hub:someone/faces")
    rows = {row["id"]: faces.label_names[row["label"]] for data in faces.splits.values() for row in data}
    assert rows == {f"train_{row}": ("sad", "happy")[row % 3] for row in range(18) if row % 3 < 2}
    assert "6 image(s) of the train split have no label and were left out." in faces.notes


def test_a_file_name_that_occurs_twice() -> None:
    features = Features({"image": Image(), "label": Value("string")})

    def ids(*paths: str | None) -> list[str]:
        images = [{"bytes": png(0), "path": path} for path in paths]
        data = Dataset.from_dict({"image": images, "label": ["sad"] * len(paths)}, features)
        return list(hub.standard_columns(data, "train", "It")["id"])

    assert ids("/home/me/a.png", "b/b.png", r"c\c.png") == ["a.png", "b.png", "c.png"]
    assert ids("a.png", "b.png", "other/a.png", None) == ["train_0", "b.png", "train_2", "train_3"]
    assert ids("train_1", None) == ["train_0", "train_1"]


def test_an_unlabelled_test_split_is_replaced(repo: Path) -> None:
    features = {"image": Image(), "label": ClassLabel(names=["sad", "happy"])}
    write(repo, "train", features, [0, 1] * 10)
    write(repo, "test", features, [-1, -1, -1])
    faces = load_faces("hub:someone/faces")
    assert {split: len(data) for split, data in faces.splits.items()} == {"train": 16, "validation": 2, "test": 2}
    assert any("no test split of its own" in note for note in faces.notes)


def test_image_column_that_lost_its_type(repo: Path) -> None:
    features = {"image": {"bytes": Value("binary"), "path": Value("string")}, "emotion": Value("string")}
    write(repo, "train", features, ["sad", "happy"] * 10)
    assert load_faces("hub:someone/faces").splits["train"][0]["image"].size == (8, 8)


@pytest.mark.parametrize(
    ("features", "labels", "message"),
    [
        ({"image": Image(), "label": Value("int64")}, [0, 1], r"no column of labels.*label: int64.*Bare numbers"),
        ({"image": Image(), "label": ClassLabel(names=["0", "1"])}, [0, 1], r"label: ClassLabel \(0, 1\)"),
        ({"image": Image(), "label": ClassLabel(names=["happy", "angryy"])}, [0, 1], "Did you mean 'angry'"),
        ({"image": Value("binary"), "label": Value("string")}, ["sad", "happy"], "no column of images"),
        (
            {"image": Image(), "a": ClassLabel(names=["sad", "happy"]), "b": ClassLabel(names=["sad", "happy"])},
            [0, 1],
            "more than one column of labels",
        ),
    ],
)
def test_refused_columns(repo: Path, features: dict, labels: list, message: str) -> None:
    if isinstance(features["image"], Value):
        repo.mkdir()
        columns = {"image": [b"x", b"y"], "label": labels}
        Dataset.from_dict(columns, Features(features)).to_parquet(repo / "train.parquet")
    else:
        write(repo, "train", features, labels)
    with pytest.raises(UserError, match=message):
        load_faces("hub:someone/faces")


@pytest.mark.parametrize("name", ["faces", "a/b/c", "someone/faces@", "../secret", "-/..", "a/b c"])
def test_names_that_are_no_hub_datasets(name: str) -> None:
    with pytest.raises(UserError, match="org/name"):
        load_faces(f"hub:{name}")


def test_a_local_folder_is_not_taken_for_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "someone" / "faces").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="Use folder:someone/faces"):
        load_faces("hub:someone/faces")


@pytest.mark.parametrize(
    ("failure", "kind", "message"),
    [
        (datasets.exceptions.DatasetNotFoundError("Dataset 'a/b' doesn't exist on the Hub."), UserError, "auth login"),
        (RuntimeError("Dataset scripts are no longer supported"), UserError, "scripts are no longer supported"),
        (ValueError("Config name is missing."), UserError, "Config name is missing"),
        (ConnectionError("Couldn't reach 'a/b' on the Hub"), FerError, "Check the connection"),
        (datasets.exceptions.DatasetGenerationError("An error occurred"), FerError, "room on the disk"),
    ],
)
def test_failures_of_the_hub(
    monkeypatch: pytest.MonkeyPatch, failure: Exception, kind: type[Exception], message: str
) -> None:
    def fail(name: str, revision: str | None = None) -> None:
        assert (name, revision) == ("a/b", "v1")
        raise failure

    monkeypatch.setattr(hub, "load_dataset", fail)
    with pytest.raises(FerError, match=message) as caught:
        load_faces("hub:a/b@v1")
    assert type(caught.value) is kind


SCRIPT = """
import json, sys
from fer_hf.data import load_faces
found = load_faces(sys.argv[1])
print(json.dumps(found.describe()))
"""


def test_over_http_labels_are_aligned_and_the_licence_is_read(hub, tmp_path: Path) -> None:
    """A private dataset whose labels have an order and names of their own, from the local Hub by the real clients."""
    names = ["surprise", "fear", "disgust", "happiness", "sadness", "anger", "neutral"]
    features = datasets.Features({"img": datasets.Image(), "emotion": datasets.ClassLabel(names=names)})
    folder = tmp_path / "faces"
    (folder / "data").mkdir(parents=True)
    for split, labels in {"train": [*range(7), *range(7), 3], "validation": [0] * 4, "test": [*range(7)]}.items():
        rows = {"img": [PILImage.new("L", (8, 8), 7)] * len(labels), "emotion": labels}
        Dataset.from_dict(rows, features=features).to_parquet(folder / "data" / f"{split}-00000-of-00001.parquet")
    (folder / "README.md").write_text("---\nlicense: cc-by-4.0\n---\n")
    hub.add_repo("someone/faces", folder, repo_type="dataset", private=True)
    env = hub.env(tmp_path / "home") | {"PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"}

    def load(name: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", SCRIPT, f"hub:{name}"]
        return subprocess.run(command, env=env, capture_output=True, text=True, timeout=180, check=False)

    done = load("someone/faces")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["splits"]["train"]["per_class"] == {
        "angry": 2, "disgust": 2, "fear": 2, "happy": 3, "neutral": 2, "sad": 2, "surprise": 2,
    }  # fmt: skip
    assert found["splits"]["validation"]["per_class"]["surprise"] == 4
    assert (found["hub_id"], found["license"]) == ("someone/faces", "cc-by-4.0")
    missing = load("someone/nothing")
    assert missing.returncode != 0
    assert "auth login" in missing.stderr
    assert hub.escaped == []

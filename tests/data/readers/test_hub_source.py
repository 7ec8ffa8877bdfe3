"""Hub datasets: columns found by type, splits by name. Only the Hub's name is replaced, by a local folder."""

import io
import json
import subprocess
import sys
from pathlib import Path

import datasets
import pyarrow.parquet as pq
import pytest
from datasets import ClassLabel, Dataset, Features, Image, Value
from PIL import Image as PILImage

from fer_hf.data.columns import standard_columns
from fer_hf.data.faces import load_faces
from fer_hf.data.readers import hub
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

    def from_folder(name: str, config: str | None, revision: str | None) -> datasets.DatasetBuilder:
        assert (name, config, revision) == ("someone/faces", None, None)
        return datasets.load_dataset_builder(str(folder))

    monkeypatch.setattr(hub, "load_dataset_builder", from_folder)
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
    assert test.column_names == ["image", "label", "id", "gender"]
    assert test["gender"][:] == ["female"] * 3
    assert [faces.label_names[label] for label in test["label"]] == ["happy", "fear", "surprise"]
    assert list(test["id"]) == ["0.png", "2.png", "3.png"]
    assert [row["image"].getpixel((0, 0)) for row in test] == [0, 2, 3]
    assert faces.dropped == {"contempt": 6}
    assert len(faces.splits["validation"]) == 3


def test_labels_of_no_class_are_left_out_and_said(repo: Path) -> None:
    """Python would take -2 for the last class but one."""
    names = ["happy", "sad", "fear"]
    write(repo, "train", {"image": Image(), "label": Value("int64")}, [0, 1, 2, -2, 7, -1])
    table = pq.read_table(repo / "train.parquet")
    schema = Features(image=Image(), label=ClassLabel(names=names)).arrow_schema
    pq.write_table(table.replace_schema_metadata(schema.metadata), repo / "train.parquet")
    faces = load_faces("hub:someone/faces", names, purpose="inspection")
    assert faces.splits["train"]["label"][:] == [0, 1, 2]
    assert "2 label(s) of the train split, such as -2, are of no class." in faces.notes


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
        return list(standard_columns(data, "train", "It", [])["id"])

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


@pytest.mark.parametrize("kind", ["binary", "large_binary"])
def test_a_column_of_bytes_holds_images_when_its_first_one_is_one(repo: Path, kind: str) -> None:
    features = Features(img_bytes=Value(kind), labels=ClassLabel(names=["sad", "happy"]), hash=Value("binary"))
    rows = {"img_bytes": [None, *map(png, range(19))], "labels": [0, 1] * 10, "hash": [b"x"] * 20}
    repo.mkdir()
    Dataset.from_dict(rows, features).to_parquet(repo / "train.parquet")
    faces = load_faces("hub:someone/faces", on_bad_image="skip", purpose="inspection")
    found = {row["id"]: (row["image"].getpixel((0, 0)), row["label"]) for row in faces.splits["train"]}
    happy, sad = (faces.label_names.index(name) for name in ("happy", "sad"))
    assert found == {f"train_{row}": (row - 1, happy if row % 2 else sad) for row in range(1, 20)}


def test_ids_attributes_and_soft_labels_are_kept() -> None:
    features = Features(
        image=Image(),
        label=ClassLabel(names=["sad", "happy"]),
        id=Value("string"),
        gender=Value("string"),
        age=Value("float32"),
        race=ClassLabel(names=["Asian", "Black"]),
        valence=Value("float64"),
        arousal=Value("string"),
        subject=Value("int64"),
        soft_label=datasets.Sequence(Value("float64")),
    )
    columns = {
        "image": [{"bytes": png(row), "path": "same.png"} for row in range(4)],
        "label": [0, 1, 1, 0],
        "id": ["d", "c", "b", "a"],
        "gender": ["F", "Male", "woman", "unsure"],
        "age": [34, None, 5, 6],
        "race": [1, 0, None, 0],
        "valence": [0.5, None, -2, float("nan")],
        "arousal": ["0.25", "-1", "", "much"],
        "subject": [7, 8, 7, None],
        "soft_label": [[0.75, 0.25], [0, 1], None, [1, 0]],
    }
    notes: list[str] = []
    found = standard_columns(Dataset.from_dict(columns, features), "train", "It", notes)
    kept = {name: found[name][:] for name in found.column_names if name not in ("image", "label")}
    assert kept == {
        "id": ["d", "c", "b", "a"],
        "gender": ["female", "male", "female", None],
        "age": ["34", None, "5", "6"],
        "race": ["black", "asian", None, "asian"],
        "valence": [0.5, None, None, None],
        "subject": ["7", "8", "7", None],
        "soft_label": [[0.75, 0.25], [0, 1], [0, 1], [1, 0]],
    }
    assert notes == [
        "The column arousal of the train split was left out: arousal is 'much', not a number from -1 to 1."
    ]


@pytest.mark.parametrize(
    ("column", "feature", "values", "reason"),
    [
        ("gender", Value("int64"), [0, 1], "gender is '0', a number of unknown meaning"),
        ("valence", Value("float32"), [1, 9], "valence is '9.0'"),
        ("age", datasets.Sequence(Value("int64")), [[1], [2]], "it is List"),
        ("soft_label", datasets.Sequence(Value("float32")), [[1, 0, 0], [0, 1]], "its rows do not all have 2 numbers"),
    ],
)
def test_columns_that_cannot_be_used_are_left_out(column: str, feature: object, values: list, reason: str) -> None:
    features = Features({"image": Image(), "label": ClassLabel(names=["sad", "happy"]), column: feature})
    images = [{"bytes": png(0), "path": None}] * 2
    notes: list[str] = []
    data = Dataset.from_dict({"image": images, "label": [0, 1], column: values}, features)
    assert standard_columns(data, "train", "It", notes).column_names == ["image", "label", "id"]
    assert len(notes) == 1
    assert f"The column {column} of the train split was left out: {reason}" in notes[0]


def test_soft_labels_beside_labels_of_text_have_no_known_order() -> None:
    features = Features(image=Image(), label=Value("string"), soft_label=datasets.Sequence(Value("float32"), length=2))
    columns = {"image": [{"bytes": png(0), "path": None}], "label": ["sad"], "soft_label": [[0, 1]]}
    notes: list[str] = []
    standard_columns(Dataset.from_dict(columns, features), "train", "It", notes)
    assert "order of its numbers is unknown" in notes[0]


def test_ids_that_are_not_unique_and_texts_without_end_are_passed_over() -> None:
    features = Features(image=Image(), label=Value("string"), id=Value("string"), file=Value("string"))
    images = [{"bytes": png(0), "path": None}] * 200
    columns = {
        "image": images,
        "label": ["sad", "happy"] * 100,
        "id": ["x"] * 200,
        "file": [*map(str, range(199)), "sad"],
    }
    found = standard_columns(Dataset.from_dict(columns, features), "test", "It", [])
    assert found["id"][:3] == ["test_0", "test_1", "test_2"]
    assert found.features["label"].names == ["happy", "sad"]


def test_paths_of_this_computer_are_not_followed(repo: Path, tmp_path: Path) -> None:
    (tmp_path / "private.png").write_bytes(png(0))
    repo.mkdir()
    features = Features(image={"bytes": Value("binary"), "path": Value("string")}, label=Value("string"))
    images = [{"bytes": None, "path": str(tmp_path / "private.png")}] * 2
    Dataset.from_dict({"image": images, "label": ["sad", "happy"]}, features).to_parquet(repo / "train.parquet")
    with pytest.raises(UserError, match=r"holds the path of an image, .*private\.png.*fer-hf data save"):
        load_faces("hub:someone/faces")


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


@pytest.mark.parametrize("name", ["faces", "a/b/c", "a/b@", "../secret", "-/..", "a/b c", "a/b:", "a/b:@v"])
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
    def fail(name: str, config: str | None, revision: str | None) -> None:
        assert (name, config, revision) == ("a/b", None, "v1")
        raise failure

    monkeypatch.setattr(hub, "load_dataset_builder", fail)
    with pytest.raises(FerError, match=message) as caught:
        load_faces("hub:a/b@v1")
    assert type(caught.value) is kind


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
    script = """
from fer_hf.runs.records import plain
print(json.dumps(plain(load_faces("hub:someone/faces").describe())))
try:
    load_faces("hub:someone/nothing")
except UserError as error:
    print(json.dumps(str(error)))
"""
    found, missing = in_own_process(hub, tmp_path, script)
    assert found["splits"]["train"]["per_class"] == {
        "angry": 2, "disgust": 2, "fear": 2, "happy": 3, "neutral": 2, "sad": 2, "surprise": 2,
    }  # fmt: skip
    assert found["splits"]["validation"]["per_class"]["surprise"] == 4
    assert (found["hub_id"], found["license"]) == ("someone/faces", "cc-by-4.0")
    assert "auth login" in missing


def in_own_process(hub_server, tmp_path: Path, script: str) -> list:
    """The JSON lines that a script prints whose Hub is this server; `load(source, **options)` loads faces."""
    env = hub_server.env(tmp_path / "home") | {"PYTHONPATH": str(Path(__file__).parents[3]), "OMP_NUM_THREADS": "1"}
    begin = """
import json
from fer_hf.data import load_faces
from fer_hf.data.readers import hub
from fer_hf.errors import UserError
def load(source, **options):
    return load_faces(source, None, purpose="inspection", **options)
"""
    command = [sys.executable, "-c", begin + script]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stderr
    assert hub_server.escaped == []
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_over_http_configurations_are_named_and_chosen(hub, tmp_path: Path) -> None:
    folder, features = tmp_path / "faces", {"image": Image(), "label": ClassLabel(names=["sad", "happy"])}
    folder.mkdir()
    for config, labels in (("small", [0, 1]), ("large", [0, 1, 1])):
        write(folder / config, "train", features, labels)
    configs = "".join(f"- config_name: {name}\n  data_files: {name}/*.parquet\n" for name in ("small", "large"))
    (folder / "README.md").write_text(f"---\nconfigs:\n{configs}---\n")
    repo = hub.add_repo("someone/faces", folder, repo_type="dataset")
    first = repo.commits[-1].oid
    repo.add("emptied", {"README.md": repo.files["README.md"]})
    script = f"""
for place in ("someone/faces@{first}", "someone/faces:medium@{first}"):
    try:
        load("hub:" + place)
    except ValueError as error:
        print(json.dumps(str(error)))
faces = load("hub:someone/faces:large@{first}")
print(json.dumps([faces.dataset, faces.hub_id, len(faces.splits["train"])]))
"""
    several, unknown, large = in_own_process(hub, tmp_path, script)
    assert several == f"someone/faces has several configurations. Choose one of small, large, such as {HINT}@{first}."
    assert unknown.startswith("someone/faces has no configuration 'medium'. Choose one of small, large")
    assert large == ["someone/faces:large", "someone/faces", 3]


HINT = "hub:someone/faces:small"


def test_over_http_a_stream_fetches_only_what_it_needs(hub, tmp_path: Path) -> None:
    folder, shards = tmp_path / "faces", 25
    features = {"image": Image(), "label": ClassLabel(names=["sad", "happy"])}
    for shard in range(shards):
        write(folder, f"train-{shard:05}-of-{shards:05}", features, [0, 1] * 5, path=f"{shard}-{{}}.png")
    write(folder, "unsplit", features, [0, 1])
    (folder / "README.md").write_text(
        "---\nconfigs:\n- config_name: default\n  data_files:\n  - {split: train, path: train-*}\n"
        "  - {split: extra, path: unsplit*}\n---\n"
    )
    hub.add_repo("someone/faces", folder, repo_type="dataset", private=True)
    script = """
hub.STREAM_BUFFER = 4
for _ in range(2):
    faces = load("hub:someone/faces", stream_images=13)
    train = faces.splits["train"]
    greys = [row["image"].getpixel((0, 0)) for row in train]
    print(json.dumps([train["id"][:], greys, train["label"][:], faces.notes]))
"""
    first, again = in_own_process(hub, tmp_path, script)
    ids, greys, labels, notes = first
    assert first == again
    assert len(set(ids)) == len(ids) == 13
    for name, grey, label in zip(ids, greys, labels, strict=True):
        assert name.endswith(f"-{grey}.png")
        assert label == (0, 1)[grey % 2 == 0]  # happy stands before sad
    assert "The split 'extra' was left out." in notes
    assert any(note.startswith("Only the first 13 images of each split were taken") for note in notes)
    fetched = {path.rsplit("/", 1)[-1] for kind, path in hub.requests if kind == "GET" and path.endswith(".parquet")}
    assert 2 <= len(fetched) < shards / 2  # `datasets` fills the buffer from ten files at a time

"""Prepared datasets: what is saved comes back through `datasets`, `folder:` and, in test_hub.py, the Hub."""

import io
from dataclasses import replace
from pathlib import Path

import datasets
import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from datasets import ClassLabel, Dataset, Features, Image, load_dataset
from PIL import Image as PILImage

from fer_hf.data import prepared
from fer_hf.data.faces import Faces, load_faces
from fer_hf.data.prepared import columns, save
from fer_hf.data.readers import fer2013
from fer_hf.data.source import looks_like
from fer_hf.errors import FerError, UserError
from fer_hf.report.dataset_card import dataset_card

NAMES = ("angry", "happy", "sad")
EMPTY = {"gender": None, "valence": None}


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))


def fill(root: Path, splits: tuple[str, ...] = ("train", "test"), count: int = 3) -> Path:
    """A folder of noise in several formats, with attributes of some images."""
    rng = np.random.default_rng(0)
    for split in splits:
        for name in NAMES:
            for number, ending in zip(range(count), ("png", "jpg", "webp") * count, strict=False):
                pixels = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
                file = root / split / name / f"{number} é.{ending}"
                file.parent.mkdir(parents=True, exist_ok=True)
                PILImage.fromarray(pixels).convert("L" if number % 2 else "RGB").save(file)
    lines = ["file_name,gender,valence", f"{splits[0]}/angry/0 é.png,f,0.5", f"{splits[0]}/sad/1 é.jpg,m,"]
    (root / "metadata.csv").write_text("\n".join(lines), encoding="utf-8")
    return root


@pytest.fixture
def faces(tmp_path: Path) -> Faces:
    root = fill(tmp_path / "private place")
    return load_faces(f"folder:{root}", NAMES, purpose="inspection")


def plain(data: Dataset) -> list[dict]:
    """The rows, with the images as bytes and the arrays that they decode to."""
    files = data.cast_column("image", Image(decode=False))["image"][:]
    content = [file["bytes"] or Path(file["path"]).read_bytes() for file in files]
    return [
        EMPTY | row | {"image": np.asarray(row["image"]).tolist(), "bytes": file}
        for row, file in zip(data, content, strict=True)
    ]


def test_load_dataset_gives_the_same_back(faces: Faces, tmp_path: Path) -> None:
    files = save(faces, tmp_path / "new" / "saved", "Faces")
    folder = tmp_path / "new" / "saved"
    assert [file.relative_to(folder).as_posix() for file in files] == [
        "README.md",
        "data/test-00000-of-00001.parquet",
        "data/train-00000-of-00001.parquet",
    ]
    assert sorted(path.name for path in folder.parent.iterdir()) == ["saved"]  # nothing else is left behind
    loaded = load_dataset(str(folder))
    for split, data in faces.splits.items():
        assert loaded[split].features == faces.splits["train"].features  # `datasets` wants the same in each split
        assert plain(loaded[split]) == plain(data)
    stored = pq.read_table(folder / "data" / "train-00000-of-00001.parquet")["image"].to_pylist()
    assert {image["path"] for image in stored} == {"0 é.png", "1 é.jpg", "2 é.webp"}
    assert str(tmp_path) not in (folder / "README.md").read_text(encoding="utf-8")


def test_folder_reads_it_and_fer2013_does_not(faces: Faces, tmp_path: Path) -> None:
    folder = tmp_path / "saved [1]"
    save(faces, folder, "Faces")
    (folder / "preview.png").write_bytes(b"x")
    again = load_faces(f"folder:{folder}", NAMES, purpose="inspection")
    assert again.dataset == "saved [1]"
    for split, data in faces.splits.items():
        assert plain(again.splits[split]) == plain(data)
    assert fer2013.layout(folder) is None
    assert looks_like(folder) == "folder"
    with pytest.raises(UserError, match=r"is not FER2013: it holds README\.md, data"):
        load_faces(f"fer2013:{folder}")


def test_other_emotions_than_those_of_fer2013_are_not_taken_for_it(tmp_path: Path) -> None:
    for name in ("contempt", "happy"):
        features = Features(image=Image(), label=ClassLabel(names=["sad", name]))
        columns = {"image": [{"bytes": b"x", "path": None}], "label": [0]}
        Dataset.from_dict(columns, features).to_parquet(tmp_path / "train-0.parquet")
        assert fer2013.layout(tmp_path) == (None if name == "contempt" else "parquet")


def test_soft_labels_of_some_and_the_source_of_all_are_kept(faces: Faces, tmp_path: Path) -> None:
    train = faces.splits["train"]
    soft = [[0.25, 0.5, 0.25], *[None] * (len(train) - 1)]
    train = train.add_column("soft_label", soft, feature=datasets.Sequence(datasets.Value("float32"), length=3))
    faces.splits["train"] = train.add_column("source", [f"s{row % 2}" for row in range(len(train))])
    save(faces, tmp_path / "saved", "Faces")
    loaded = load_dataset(str(tmp_path / "saved"))["train"]
    assert loaded["soft_label"][:] == soft
    assert loaded["source"][:3] == ["s0", "s1", "s0"]
    again = load_faces(f"folder:{tmp_path / 'saved'}", ["sad", "angry", "happy"], purpose="inspection")
    rows = {row["id"]: row["soft_label"] for row in again.splits["train"]}
    assert rows[train["id"][0]] == [0.25, 0.25, 0.5]
    assert rows[train["id"][1]] == [0, 1, 0]  # an angry image without soft labels


def test_images_that_are_bytes_and_shards(faces: Faces, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prepared, "SHARD_BYTES", 5000)
    monkeypatch.setattr(prepared, "ROW_GROUP", 3)
    images = []
    for seed in range(30):
        buffer = io.BytesIO()
        PILImage.fromarray(np.random.default_rng(seed).integers(0, 256, (16, 16), dtype=np.uint8)).save(buffer, "PNG")
        images.append({"bytes": buffer.getvalue(), "path": ["/home/me/a.png", r"C:\me\b.png", None][seed % 3]})
    features = Features(image=Image(), label=ClassLabel(names=["sad", "happy"]), id=datasets.Value("string"))
    columns = {"image": images, "label": [0, 1] * 15, "id": [f"i{row}" for row in range(30)]}
    split = datasets.DatasetDict(train=Dataset.from_dict(columns, features).select(range(29, -1, -1)))
    found = replace(faces, splits=split, label_names=("sad", "happy"))
    files = save(found, tmp_path / "saved", "Faces")[1:]
    assert len(files) > 1
    assert [file.name for file in files] == [
        f"train-{number:05}-of-{len(files):05}.parquet" for number in range(len(files))
    ]
    assert {pq.read_table(file).num_rows for file in files} == {30 // len(files)}  # as even as they can be
    loaded = load_dataset(str(tmp_path / "saved"))["train"]
    assert loaded["id"][:] == [f"i{row}" for row in range(29, -1, -1)]
    assert [row["bytes"] for row in plain(loaded)] == [image["bytes"] for image in reversed(images)]
    stored = loaded.cast_column("image", Image(decode=False))["image"][:]
    assert [image["path"] for image in stored[-3:]] == [None, "b.png", "a.png"]


def test_nothing_half_written_is_left(faces: Faces, tmp_path: Path) -> None:
    gone = tmp_path / "private place" / "test" / "sad" / "0 é.png"  # train is written before it
    gone.unlink()
    with pytest.raises(FerError, match=r"0 é\.png' can no longer be read: No such file"):
        save(faces, tmp_path / "saved", "Faces")
    assert [path.name for path in tmp_path.iterdir()] == ["private place"]


def test_only_a_new_or_an_empty_folder_is_written(faces: Faces, tmp_path: Path) -> None:
    folder = tmp_path / "saved"
    folder.mkdir()
    save(faces, folder, "Faces")
    before = (folder / "README.md").read_bytes()
    for taken in (folder, folder / "README.md"):
        with pytest.raises(UserError, match="is not an empty folder"):
            save(faces, taken, "Other")
    assert (folder / "README.md").read_bytes() == before


def test_the_card(faces: Faces, tmp_path: Path) -> None:
    found = replace(
        faces,
        dataset="RAF_DB",
        license="My licence: no | copies",
        notes=["A <b>note</b>\nfor *all*."],
        dropped={"disgust": 1200, "fear": 0},
    )
    card = dataset_card(found.describe(), 'Faces: "mine" #1\n---', columns(found))
    save(found, tmp_path / "saved", card)
    card = (tmp_path / "saved" / "README.md").read_text(encoding="utf-8")
    _, head, body = card.split("---\n", 2)
    assert yaml.safe_load(head) == {
        "license": "other",
        "license_name": "My licence: no | copies",
        "task_categories": ["image-classification"],
        "tags": ["facial-expression-recognition"],
        "pretty_name": 'Faces: "mine" #1 ---',
        "configs": [
            {
                "config_name": "default",
                "data_files": [
                    {"split": "train", "path": "data/train-*"},
                    {"split": "test", "path": "data/test-*"},
                ],
            }
        ],
    }
    for part in (
        '\n# Faces: "mine" \\#1 ---\n',
        "\n18 images of faces in 3 classes of facial expression: angry, happy, sad. Made from RAF_DB with",
        "*perceived* expressions",
        "\n| class | train | test |\n| ----- | ----: | ---: |\n| angry |     3 |    3 |\n",
        "\n| all   |     9 |    9 |\n",
        "- `label`: the class, 0 angry, 1 happy, 2 sad\n- `id`",
        "\n- `gender`: known of 2 images: female 1, male 1\n- `valence`: known of 1 image: numbers from -1 to 1\n",
        "\n- Images of other emotions were left out: disgust 1,200.\n- A &lt;b>note&lt;/b> for \\*all\\*.\n",
        'load_dataset("PATH/TO/DATASET")',
        "load_faces(\"folder:PATH/TO/DATASET\", label_set=['angry', 'happy', 'sad'])",
        "Art. 5(1)(f)",
        "since 2 February 2025",
        "Licence of the source, which holds for this copy too: My licence: no \\| copies.",
        "needs the right to do so",
    ):
        assert part in body
    assert load_faces(f"folder:{tmp_path / 'saved'}", NAMES, purpose="inspection").license == "My licence: no | copies"


@pytest.mark.parametrize(("given", "head"), [("cc-by-4.0", "license: cc-by-4.0\n"), (None, "task_categories:\n")])
def test_a_licence_that_the_hub_has_an_id_for_and_none(faces: Faces, given: str | None, head: str) -> None:
    card = dataset_card(replace(faces, source="toy", license=given).describe(), "Faces", {})
    assert card.startswith(f"---\n{head}")
    assert "license_name" not in card
    assert ("The licence of the source is not known." in card) == (given is None)
    assert "drawings of faces" in card
    assert "personal data" not in card

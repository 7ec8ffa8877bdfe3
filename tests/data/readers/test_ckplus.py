"""CK+ in each of its layouts: official, CK+48 and ckextended.csv; its splits share no person."""

from pathlib import Path

import datasets
import numpy as np
import pytest
from datasets import Dataset
from PIL import Image

from fer_hf.data.faces import Faces, load_faces
from fer_hf.data.readers import ckplus
from fer_hf.data.source import looks_like
from fer_hf.errors import UserError

EMOTIONS = ("neutral", "angry", "contempt", "disgust", "fear", "happy", "sad", "surprise")  # CK+'s ids 0 to 7
PEOPLE = ("S005", "S010", "S011", "S014", "S022", "S999")


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))


def picture(file: Path, label: int) -> Path:
    """An image whose grey tells its class: 30 times the id."""
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (12, 12), 30 * label).save(file)
    return file


def shown(data: Dataset) -> list[str]:
    return [EMOTIONS[round(np.asarray(row["image"]).mean() / 30)] for row in data]


def labels(data: Dataset) -> list[str]:
    return [data.features["label"].names[label] for label in data["label"]]


def check_people(faces: Faces) -> None:
    """No person in two splits, and each id tells its person."""
    people = {split: set(data["subject"]) for split, data in faces.splits.items()}
    assert set().union(*people.values()) == set(PEOPLE)
    assert sum(map(len, people.values())) == len(PEOPLE)
    assert sum("No person stands in two of the splits made." in note for note in faces.notes) == 2
    for data in faces.splits.values():
        assert all(f"{row['subject']}_" in row["id"] for row in data)


# --- official


def write_official(root: Path, images: str = "cohn-kanade-images", emotions: str = "Emotion") -> Path:
    """Each person shows each emotion in a sequence of five frames; the first three of them show a neutral face."""
    for person in PEOPLE:
        for label in range(1, 8):
            sequence = f"{person}/{label:03}"
            name = f"{person}_{label:03}_000000"
            for frame in range(8, 13):
                picture(root / images / sequence / f"{name}{frame:02}.png", label if frame > 9 else 0)
            file = root / emotions / sequence / f"{name}12_emotion.txt"
            file.parent.mkdir(parents=True)
            file.write_text(f"   {label:.7e}\n")
        picture(root / images / f"{person}/008/{person}_008_00000001.png", 0)  # a sequence without a label
        (root / emotions / person / "008").mkdir()
    (root / images / ".DS_Store").touch()
    (root / images / "S005/001/._S005_001_00000012.png").touch()
    (root / images / "S005/001/S005_001_00000012.txt").touch()
    (root / emotions / "S005/.DS_Store").touch()
    (root / emotions / "S005/001/._S005_001_00000012_emotion.txt").touch()
    return root


@pytest.mark.parametrize(
    ("images", "emotions"),
    [
        ("cohn-kanade-images", "Emotion"),
        ("extended-cohn-kanade-images/cohn-kanade-images", "Emotion_labels/Emotion"),
    ],
)
def test_official_takes_the_last_three_frames_and_splits_by_person(tmp_path: Path, images: str, emotions: str) -> None:
    root = write_official(tmp_path / "CK+ é", images, emotions)
    assert looks_like(root) == "ckplus"
    faces = load_faces(f"ckplus:{root}", "fer8", validation_fraction=0.2, test_fraction=0.2)
    assert (faces.source, faces.dataset) == ("ckplus", "CK+")
    assert sum(map(len, faces.splits.values())) == len(PEOPLE) * 7 * 3
    for data in faces.splits.values():
        assert labels(data) == shown(data)
    ids = {name for data in faces.splits.values() for name in data["id"]}
    assert {name for name in ids if name.startswith("S005/003/")} == {
        f"S005/003/S005_003_000000{frame}.png" for frame in (10, 11, 12)
    }
    check_people(faces)
    assert "was not taken as neutral" in " ".join(faces.notes)
    assert "The dataset has no images of neutral" in " ".join(faces.notes)
    assert f"{len(PEOPLE)} sequence(s) without a label that can be used were left out." in faces.notes


def test_official_bad_labels(tmp_path: Path) -> None:
    root = write_official(tmp_path)
    files = sorted((root / "Emotion").glob("S01*/*/S*_emotion.txt"))
    texts = ["", "happy", "8.0000000e+00", "-1.0", "3.5", "nan", "3 4", "\x00\xff"]
    for file, text in zip(files, texts, strict=False):
        file.write_text(text, encoding="latin-1")
    raw = ckplus.read(root)
    assert list(raw.bad) == [file.relative_to(root / "Emotion").as_posix() for file in files[: len(texts)]]
    for text, reason in zip(texts[:-1], raw.bad.values(), strict=False):
        assert reason == f"the emotion is {text!r}, not one of 0 to 7"
    assert len(raw.splits["train"]) == (len(PEOPLE) * 7 - len(texts)) * 3


def test_official_bad_sequences(tmp_path: Path) -> None:
    root = write_official(tmp_path / "set")
    for file in (root / "cohn-kanade-images/S005/002").iterdir():
        file.unlink()
    (root / "cohn-kanade-images/S005/003").rename(tmp_path / "elsewhere")
    (root / "Emotion/S005/004/S005_004_00000011_emotion.txt").write_text("5.0")
    (root / "cohn-kanade-images/S005/005/S005_005_00000012.png").write_text("no image")
    faces = load_faces(f"ckplus:{root}", "fer8", on_bad_image="skip", validation_fraction=0.2, test_fraction=0.2)
    assert faces.skipped == [
        "S005/002/S005_002_00000012_emotion.txt",
        "S005/003/S005_003_00000012_emotion.txt",
        "S005/004/S005_004_00000012_emotion.txt",
        "S005/005/S005_005_00000012.png",
    ]
    assert list(ckplus.read(root).bad.values()) == [
        "there are no images in S005/002",
        "there are no images in S005/003",
        "S005/004 has a second label",
    ]


def test_official_without_labels(tmp_path: Path) -> None:
    (tmp_path / "cohn-kanade-images").mkdir()
    (tmp_path / "Emotion").mkdir()
    with pytest.raises(UserError, match=r"Emotion' holds no labels such as S005/001/"):
        load_faces(f"ckplus:{tmp_path}")


# --- CK+48


def write_ck48(root: Path) -> Path:
    for label, name in enumerate(("anger", "contempt", "disgust", "fear", "happy", "sadness", "surprise"), start=1):
        for person in PEOPLE:
            for frame in (15, 16, 17):
                picture(root / name / f"{person}_{label:03}_000000{frame}.png", label)
        (root / name / ".DS_Store").touch()
    return root


def test_ck48(tmp_path: Path) -> None:
    root = write_ck48(tmp_path / "CK+48")
    assert looks_like(root) == "ckplus"
    faces = load_faces(f"ckplus:{root}", "fer8", validation_fraction=0.2, test_fraction=0.2)
    assert sum(map(len, faces.splits.values())) == len(PEOPLE) * 7 * 3
    for data in faces.splits.values():
        assert labels(data) == shown(data)
    check_people(faces)
    assert load_faces(f"ckplus:{root}", "fer7", validation_fraction=0.2, test_fraction=0.2).dropped == {
        "contempt": len(PEOPLE) * 3
    }
    as_folder = load_faces(f"folder:{root}", "fer7")
    assert any("looks like CK+: use ckplus:PATH." in note for note in as_folder.notes)  # notes are published
    assert str(root) not in repr(as_folder.describe())


def test_ck48_keeps_the_splits_inside_of_its_class_folders(tmp_path: Path) -> None:
    for name in ("happy", "sadness"):
        for person in range(1, 10):
            picture(tmp_path / name / ("test" if person > 7 else "train") / f"S{person:03}_001_00000009.png", 5)
    faces = load_faces(f"ckplus:{tmp_path}", ["happy", "sad"], validation_fraction=0.2)
    assert set(faces.splits["test"]["subject"]) == {"S008", "S009"}
    assert len({*faces.splits["train"]["subject"], *faces.splits["validation"]["subject"]}) == 7
    assert sum("No person stands in two" in note for note in faces.notes) == 1


def test_ck48_without_the_person_is_bad(tmp_path: Path) -> None:
    root = write_ck48(tmp_path)
    picture(root / "happy" / "augmented 1.png", 5)
    raw = ckplus.read(root)
    assert list(raw.bad) == ["happy/augmented 1.png"]
    assert "does not tell the person" in raw.bad["happy/augmented 1.png"]
    assert None not in raw.splits["train"]["subject"]


# --- ckextended.csv

CSV_ORDER = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral", "contempt")


def write_csv(file: Path, extra: str = "") -> Path:
    rows = [
        f"{label},{' '.join([str(30 * EMOTIONS.index(name))] * 2304)},{usage}"
        for usage in ("Training", "PublicTest", "PrivateTest")
        for label, name in enumerate(CSV_ORDER)
    ]
    file.write_text("\n".join(["emotion,pixels,Usage", *rows, extra]))
    return file


def test_ckextended_keeps_its_splits(tmp_path: Path) -> None:
    file = write_csv(tmp_path / "ckextended.csv")
    for place in (file, tmp_path):
        assert looks_like(place) == "ckplus"
        faces = load_faces(f"ckplus:{place}", "fer8")
        assert {split: len(data) for split, data in faces.splits.items()} == {"train": 8, "validation": 8, "test": 8}
        for data in faces.splits.values():
            assert sorted(labels(data)) == sorted(CSV_ORDER)
            assert labels(data) == shown(data)
        assert faces.splits["test"]["id"][0] == "PrivateTest_16"
        assert "does not tell who is shown" in " ".join(faces.notes)
    with pytest.raises(UserError, match=r"It looks like CK\+: use ckplus:"):
        load_faces(f"fer2013:{file}")


def test_ckextended_bad_row(tmp_path: Path) -> None:
    bad = ckplus.read(write_csv(tmp_path / "ckextended.csv", "8," + "1 " * 2304 + ",Training")).bad
    assert bad == {"ckextended.csv line 26": "emotion is '8', not one of 0 to 7"}


# --- what is no CK+


def test_no_ckplus(tmp_path: Path) -> None:
    picture(tmp_path / "folder/happy/S1.png", 1)
    (tmp_path / "unlabelled/cohn-kanade-images").mkdir(parents=True)
    (tmp_path / "fer2013.csv").touch()
    picture(tmp_path / "affect/train_set/images/0.jpg", 0)
    (tmp_path / "affect/train_set/annotations").mkdir()
    for name in ("folder", "unlabelled", "fer2013.csv", "affect", "."):
        assert ckplus.layout(tmp_path / name) is None
    with pytest.raises(UserError, match=r"is not CK\+: it holds train_set\. It looks like AffectNet: use affectnet:"):
        load_faces(f"ckplus:{tmp_path / 'affect'}")
    write_ck48(tmp_path / "kaggle/CK+48")
    with pytest.raises(UserError, match=r"CK\+48' looks like CK\+: use ckplus:.*CK\+48\."):
        load_faces(f"ckplus:{tmp_path / 'kaggle'}")

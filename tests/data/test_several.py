"""Several sources at once, exclusion lists, and the options of `load_faces` that shape a training set."""

from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from fer_hf.data import load_faces
from fer_hf.data.columns import make_split
from fer_hf.data.readers import Raw
from fer_hf.data.source import READERS
from fer_hf.errors import UserError


def fill(root: Path, classes: dict[str, int], seed: int = 0) -> Path:
    """Grey noise in class folders, no two images alike."""
    rng = np.random.default_rng(seed)
    for name, count in classes.items():
        (root / name).mkdir(parents=True)
        for number in range(count):
            Image.fromarray(rng.integers(0, 256, (8, 8), dtype=np.uint8)).save(root / name / f"{number:02d}.png")
    return root


@pytest.fixture
def two(tmp_path: Path) -> list[str]:
    """Two folders with label orders of their own; the second has no fear."""
    first = fill(tmp_path / "first", {"Angry": 20, "Fear": 20, "Happy": 20}, seed=1)
    second = fill(tmp_path / "second", {"happiness": 30, "anger": 10}, seed=2)
    return [f"folder:{first}", f"folder:{second}"]


def test_labels_are_aligned_by_name_and_the_origin_is_kept(two: list[str], tmp_path: Path) -> None:
    faces = load_faces(two, ["happy", "fear", "angry"])
    assert (faces.source, faces.dataset) == ("several", "first + second")
    for data in faces.splits.values():
        for row in data:
            prefix, path = row["id"].split(":")
            assert prefix == row["source"]
            name = {"Angry": "angry", "Fear": "fear", "Happy": "happy", "happiness": "happy", "anger": "angry"}
            assert faces.label_names[row["label"]] == name[path.split("/")[0]]
            np.testing.assert_array_equal(row["image"], Image.open(tmp_path / prefix / path))
    assert {split: len(data) for split, data in faces.splits.items()} == {"train": 80, "validation": 10, "test": 10}
    assert "Training images by source: first 48, second 32." in faces.notes
    assert any(note.startswith("second: The dataset has no test split") for note in faces.notes)


def test_weights_repeat_or_thin_training_images_alone(two: list[str]) -> None:
    faces = load_faces([{"source": two[0], "weight": 2.5}, {"source": two[1], "weight": 0.5}], "fer7")
    count = Counter(zip(faces.splits["train"]["source"][:], faces.splits["train"]["label"][:], strict=True))
    angry, happy = (faces.label_names.index(name) for name in ("angry", "happy"))
    assert count["first", angry] == 2.5 * 16
    assert count["second", happy] == 0.5 * 24
    assert len(faces.splits["test"]) == 10


def test_absent_classes_are_allowed_or_refused(two: list[str]) -> None:
    load_faces(two, ["happy", "fear", "angry"])
    with pytest.raises(UserError, match=r"second: the train split has no image of fear.*absent_classes=allow"):
        load_faces(two, ["happy", "fear", "angry"], absent_classes="error")


def test_attributes_that_one_source_lacks_are_empty(two: list[str], tmp_path: Path) -> None:
    rows = "".join(f"Happy/{number:02d}.png,female\n" for number in range(20))
    (tmp_path / "first" / "metadata.csv").write_text("file_name,gender\n" + rows)
    train = load_faces(two, ["happy", "fear", "angry"]).splits["train"]
    found = {(row["source"], row["gender"]) for row in train if row["label"] == 0}
    assert found == {("first", "female"), ("second", None)}


def test_the_same_folder_name_twice(tmp_path: Path) -> None:
    places = [fill(tmp_path / top / "faces", {"sad": 10, "happy": 10}, seed) for seed, top in enumerate("ab")]
    train = load_faces([f"folder:{place}" for place in places]).splits["train"]
    assert set(train["source"][:]) == {"faces", "faces-2"}
    assert len(set(train["id"][:])) == len(train)


def test_exclude_leaves_out_what_it_lists(two: list[str], tmp_path: Path) -> None:
    """With or without the prefix that ids have beside other sources, and before splits are set aside."""
    listed = tmp_path / "exclude.csv"
    listed.write_text("split,id\ntrain,first:Happy/03.png\nvalidation,anger/04.png\ntest,Happy/05.png\n")
    faces = load_faces(two, ["happy", "fear", "angry"], exclude=str(listed))
    ids = {name for data in faces.splits.values() for name in data["id"][:]}
    assert len(ids) == 97
    assert not ids & {"first:Happy/03.png", "second:anger/04.png", "first:Happy/05.png"}
    assert "3 image(s) listed in data.exclude were left out." in faces.notes
    assert not any("match no image" in note for note in faces.notes)
    with open(listed, "a") as file:
        file.write("train,nobody.png\ntest,second:sad/01.png\n")
    assert (
        "2 of the 5 entries of data.exclude match no image of these classes and splits, such as "
        "'second:sad/01.png' (test)."
    ) in load_faces(two, ["happy", "fear", "angry"], exclude=str(listed)).notes
    listed.write_text("split,id\ntrain,nobody.png\n")
    with pytest.raises(UserError, match=r"none of the 1 ids of .*exclude\.csv"):
        load_faces(two, exclude=str(listed))


def test_exclude_moves_no_other_image_to_another_split(two: list[str], tmp_path: Path) -> None:
    """Runs with and without a list test on the same images, those listed apart."""
    listed = tmp_path / "exclude.csv"
    listed.write_text("split,id\ntrain,Happy/03.png\ntrain,Fear/11.png\n")
    gone = {"Happy/03.png", "Fear/11.png"}
    before, after = (load_faces(two[0], ["happy", "fear", "angry"], exclude=file) for file in (None, str(listed)))
    for split, data in before.splits.items():
        assert after.splits[split]["id"][:] == [name for name in data["id"][:] if name not in gone]


def test_exclude_keeps_to_the_splits_that_a_source_has(tmp_path: Path) -> None:
    for split in ("train", "validation", "test"):
        fill(tmp_path / "faces" / split, {"happy": 3, "sad": 3})
    data = load_faces(f"folder:{tmp_path / 'faces'}").splits
    listed = tmp_path / "exclude.csv"
    listed.write_text(f"split,id\ntest,{data['train']['id'][0]}\ntest,{data['test']['id'][0]}\n")
    faces = load_faces(f"folder:{tmp_path / 'faces'}", exclude=str(listed))
    assert {split: len(data) for split, data in faces.splits.items()} == {"train": 6, "validation": 6, "test": 5}


def test_without_a_label_set_all_emotions_that_there_are(two: list[str]) -> None:
    assert load_faces(two, None, purpose="inspection").label_names == ("angry", "fear", "happy")


def test_soft_labels_follow_the_label_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What went to an emotion outside the label set is shared out among the others."""
    folder = fill(tmp_path / "pixels", {"any": 3})
    pixels = [file.read_bytes() for file in sorted(folder.glob("any/*"))]
    soft = [[0.5, 0.25, 0.25], [0.0, 1.0, 0.0], [0.2, 0.0, 0.8]]
    split = make_split(("sadness", "contempt", "happiness"), pixels, [0, 1, 2], list("abc"), soft_label=soft)
    raw = Raw({"train": split}, "made up")
    monkeypatch.setitem(READERS, "toy", SimpleNamespace(OPTIONS=(), read=lambda place: raw))
    faces = load_faces("toy", ["happy", "sad"], purpose="inspection")
    assert faces.dropped["contempt"] == 1
    np.testing.assert_allclose(faces.splits["train"]["soft_label"][:], [[1 / 3, 2 / 3], [0.8, 0.2]], rtol=1e-6)
    assert faces.splits["train"]["label"][:] == [1, 0]


def test_an_id_to_exclude_that_several_sources_have_is_refused(tmp_path: Path) -> None:
    places = [fill(tmp_path / top, {"sad": 10, "happy": 10}, seed) for seed, top in enumerate("ab")]
    both, listed = [f"folder:{place}" for place in places], tmp_path / "exclude.csv"
    listed.write_text("split,id\ntrain,sad/01.png\n")
    with pytest.raises(UserError, match=r"'sad/01\.png' \(train\) is in 2 of the sources.*such as 'a:sad/01\.png'"):
        load_faces(both, exclude=str(listed))
    listed.write_text("split,id\ntrain,b:sad/01.png\n")
    faces = load_faces(both, exclude=str(listed))
    ids = {name for data in faces.splits.values() for name in data["id"][:]}
    assert ("a:sad/01.png" in ids, "b:sad/01.png" in ids) == (True, False)

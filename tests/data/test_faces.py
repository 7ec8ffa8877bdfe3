"""load_faces whatever the source: alignment, dropping, bad images, and the description for metrics.json."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import datasets
import numpy as np
import PIL.Image
import pytest
from PIL import Image

from fer_hf.cli.tables import class_table
from fer_hf.data import cache
from fer_hf.data.cache import check
from fer_hf.data.decode import decode
from fer_hf.data.faces import load_faces
from fer_hf.emotions import LABEL_SETS
from fer_hf.errors import UserError
from fer_hf.recipe.load import validate_recipe
from fer_hf.recipe.schema import Data
from fer_hf.runs.records import plain
from fer_hf.workflows.datasets import audit_faces, class_counts, inspect_faces
from fer_hf.workflows.faces import recipe_faces


def fill(
    root: Path, classes: tuple[str, ...], count: int = 4, splits: tuple[str, ...] = ("train", "val", "test")
) -> Path:
    for split in splits:
        for name in classes:
            for number in range(count):
                file = root / split / name / f"{number}.png"
                file.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(np.full((8, 8), 10 * number, np.uint8)).save(file)
    return root


def test_describe_is_plain_json_without_machine_paths(tmp_path: Path) -> None:
    root = fill(tmp_path / "my faces", ("Happy", "sadness", "contempt"))
    (root / "train" / "Happy" / "0.png").write_bytes(b"no image")
    Image.new("L", (8, 8)).save(root / "loose.png")
    faces = load_faces(f"folder:{root}", "fer7", on_bad_image="skip")
    described = plain(faces.describe())
    assert json.loads(json.dumps(described)) == described
    assert str(tmp_path) not in json.dumps(described)
    zeros = dict.fromkeys(LABEL_SETS["fer7"], 0)
    notes = described.pop("notes")
    assert described == {
        "source": "folder",
        "dataset": "my faces",
        "hub_id": None,
        "license": None,
        "splits": {
            "train": {"images": 7, "per_class": zeros | {"happy": 3, "sad": 4}},
            "validation": {"images": 8, "per_class": zeros | {"happy": 4, "sad": 4}},
            "test": {"images": 8, "per_class": zeros | {"happy": 4, "sad": 4}},
        },
        "skipped": ["train/Happy/0.png"],
        "dropped": {"contempt": 12},
    }
    assert any("no images of angry, disgust, fear, neutral, surprise" in note for note in notes)


@pytest.mark.parametrize("label_set", ["fer6", "fer8", ["sad", "Joy", "contempt"]])
def test_labels_follow_the_label_set(tmp_path: Path, label_set: str | list[str]) -> None:
    fill(tmp_path, ("contempt", "happiness", "sad"))
    faces = load_faces(f"folder:{tmp_path}", label_set)
    wanted = LABEL_SETS[label_set] if isinstance(label_set, str) else ("sad", "happy", "contempt")
    assert faces.label_names == wanted
    for data in faces.splits.values():
        assert tuple(data.features["label"].names) == wanted
        for row in data:
            folder = row["id"].split("/")[1].replace("happiness", "happy")
            assert wanted[row["label"]] == folder
    assert faces.dropped.get("contempt", 0) == (12 if label_set == "fer6" else 0)


def test_unknown_label_set_and_option(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"data\.label_set: 'fer9' is not a label set"):
        load_faces("toy", "fer9")
    with pytest.raises(UserError, match=r"data\.label_set: 'smug'"):
        load_faces("toy", ["smug", "sad"])
    with pytest.raises(UserError, match=r"data\.on_bad_image is 'ignore'"):
        load_faces("toy", on_bad_image="ignore")  # type: ignore[arg-type]


def test_a_class_without_training_images(tmp_path: Path) -> None:
    fill(tmp_path, ("happy", "sad"))
    fill(tmp_path, ("fear",), splits=("test",))
    with pytest.raises(UserError, match=r"no image of fear.*label_set=\[happy, sad\]"):
        load_faces(f"folder:{tmp_path}")
    faces = load_faces(f"folder:{tmp_path}", ["happy", "sad"])
    assert faces.dropped["fear"] == 4


def test_nothing_left(tmp_path: Path) -> None:
    fill(tmp_path, ("happy", "sad"))
    with pytest.raises(UserError, match="no train split"):
        load_faces(f"folder:{tmp_path}", ["fear", "angry"])
    with pytest.raises(UserError, match="at least two classes"):
        load_faces(f"folder:{tmp_path}", ["happy", "angry"])


def broken_files(root: Path) -> list[str]:
    """Four kinds of damage, in the validation split."""
    folder = root / "val" / "happy"
    for name in ("cut.jpg", "cut.png"):
        Image.effect_noise((64, 64), 50).save(folder / name)
        (folder / name).write_bytes((folder / name).read_bytes()[:-300])
    (folder / "empty.png").write_bytes(b"")
    (folder / "text.jpg").write_text("<html>not found</html>")
    return [f"val/happy/{name}" for name in ("cut.jpg", "cut.png", "empty.png", "text.jpg")]


def test_bad_images(tmp_path: Path) -> None:
    fill(tmp_path, ("happy", "sad"))
    bad = broken_files(tmp_path)
    with pytest.raises(UserError, match=r"val/happy/cut\.jpg: .*truncated.* 4 image\(s\) cannot.*on_bad_image=skip"):
        load_faces(f"folder:{tmp_path}")
    faces = load_faces(f"folder:{tmp_path}", on_bad_image="skip")
    assert faces.skipped == bad
    assert {split: len(data) for split, data in faces.splits.items()} == {"train": 8, "validation": 8, "test": 8}
    assert "4 unreadable image(s) were left out." in faces.notes
    assert len(load_faces(f"folder:{tmp_path}", check_images=False).splits["validation"]) == 12


def test_the_same_name_in_two_splits(tmp_path: Path) -> None:
    """A bad image takes no good one of the same id with it."""
    fill(tmp_path, ("happy", "sad"))
    data = load_faces(f"folder:{tmp_path}").splits
    same = {split: data[split].remove_columns("id").add_column("id", list("abcdefgh")) for split in ("train", "test")}
    Path(tmp_path / "test" / "happy" / "1.png").write_bytes(b"")
    assert {split: list(check(data, split).bad) for split, data in same.items()} == {"train": [], "test": ["b"]}


def test_decompression_bombs_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmp_path, ("happy", "sad"))
    monkeypatch.setattr(PIL.Image, "MAX_IMAGE_PIXELS", 20)  # 64 pixels are more than twice as many
    with pytest.raises(UserError, match="decompression bomb"):
        load_faces(f"folder:{tmp_path}")


def test_toy() -> None:
    faces = load_faces("toy", "fer8")
    assert (faces.source, faces.dataset) == ("toy", "procedural faces (toy)")
    assert any("drawings" in note for note in faces.notes)
    assert any("no images of contempt" in note for note in faces.notes)
    assert faces.splits["train"].column_names == ["image", "label", "id"]
    train = faces.describe().splits["train"]
    assert train.images == sum(train.per_class.values())
    assert train.per_class["contempt"] == 0
    assert all(count > 0 for name, count in train.per_class.items() if name != "contempt")


def test_unknown_sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmp_path / "faces", ("happy",))
    (tmp_path / "my.csv").touch()
    monkeypatch.chdir(tmp_path)
    for source, hint in {
        "faces": "did you mean folder:faces",
        "my.csv": "did you mean fer2013:my.csv",
        "someone/faces": "Did you mean hub:someone/faces",
        "fer2012:x": "use toy, ferplus:PATH",
        "fer2013": "use toy, ferplus:PATH",
        "folder:": "use toy, ferplus:PATH",
        "": "use toy, ferplus:PATH",
    }.items():
        with pytest.raises(UserError, match=hint) as caught:
            load_faces(source)
        assert repr(source) in str(caught.value)


def test_what_could_not_be_read_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rights of a file can be mended without a change of its size or time."""
    fill(tmp_path, ("happy", "sad"))
    real = PIL.Image.open

    def denied(file: object) -> Image.Image:
        if str(file).endswith("train/sad/1.png"):
            raise PermissionError(13, "Permission denied")
        return real(file)

    monkeypatch.setattr(PIL.Image, "open", denied)
    with pytest.raises(UserError, match=r"train/sad/1\.png: .*Permission denied"):
        load_faces(f"folder:{tmp_path}")
    monkeypatch.undo()
    assert not load_faces(f"folder:{tmp_path}", on_bad_image="skip").skipped


@pytest.mark.parametrize(("pixels", "mode"), [(np.uint16, "I;16"), (np.int32, "I"), (np.float32, "F")])
def test_grey_values_that_pillow_would_cut_off_are_refused(tmp_path: Path, pixels: type, mode: str) -> None:
    fill(tmp_path, ("happy", "sad"))
    Image.fromarray(np.full((8, 8), 40_000, pixels)).save(tmp_path / "train" / "sad" / "deep.tif")
    with pytest.raises(UserError, match=rf"train/sad/deep\.tif: its mode is {mode}, of more than 8 bits"):
        load_faces(f"folder:{tmp_path}")


def test_settings_are_those_of_the_recipe(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"load_faces has no setting 'batch_size': use .*on_bad_image"):
        load_faces("toy", batch_size=3)
    with pytest.raises(UserError, match=r"data\.test_fraction is 2: Input should be less than 1"):
        load_faces("toy", test_fraction=2)
    fill(tmp_path, ("happy", "sad"))
    section = Data(source=f"folder:{tmp_path}", label_set=["sad", "happy"], per_class=3)
    faces = load_faces(section, per_class=2)
    assert (faces.label_names, len(faces.splits["train"])) == (("sad", "happy"), 4)


def decoded_as_stored(data) -> np.ndarray:
    return np.stack([np.asarray(image.convert("L"))[None] for image in data["image"]])


def test_pixels_follow_the_rows_and_are_decoded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Through a second label set, a list of images to exclude, a subset, a weight and a second source."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    one, other = fill(tmp_path / "one", ("happy", "sad", "fear")), fill(tmp_path / "two", ("sad", "happy"), 5)
    (tmp_path / "exclude.csv").write_text("split,id\ntrain,one:train/sad/2.png\n")
    decodes = []
    monkeypatch.setattr(cache, "decode", lambda image: decodes.append(1) or decode(image))
    settings = {"exclude": str(tmp_path / "exclude.csv"), "per_class": 3}
    for kept in (2**22, 0):  # in memory, and in files
        monkeypatch.setattr(cache, "KEPT_IN_MEMORY", kept)
        shutil.rmtree(tmp_path / "cache", ignore_errors=True)
        for source in (f"folder:{one}", [f"folder:{one}", {"source": f"folder:{other}", "weight": 2.0}]):
            for again in (False, True):
                decodes.clear()
                faces = load_faces(source, ["sad", "happy"], **settings)
                for split, data in faces.splits.items():
                    assert np.array_equal(faces.pixels(split), decoded_as_stored(data))
                images = 23 if isinstance(source, str) else 53
                assert len(decodes) <= images + 6  # the first of each split gives the shape
                assert not (again and not kept and decodes)


def test_no_pixels_of_images_that_differ_in_size_or_were_not_checked(tmp_path: Path) -> None:
    fill(tmp_path, ("happy", "sad"))
    assert load_faces(f"folder:{tmp_path}", check_images=False).pixels("train") is None
    Image.new("L", (9, 8)).save(tmp_path / "train" / "sad" / "0.png")
    faces = load_faces(f"folder:{tmp_path}")
    assert faces.pixels("train") is None
    assert faces.pixels("test").shape == (8, 1, 8, 8)


def test_grey_among_colour_has_three_channels(tmp_path: Path) -> None:
    fill(tmp_path, ("happy", "sad"))
    Image.new("RGB", (8, 8), (1, 2, 3)).save(tmp_path / "train" / "sad" / "3.png")
    pixels = load_faces(f"folder:{tmp_path}").pixels("train")
    assert pixels.shape == (8, 3, 8, 8)
    assert pixels[-1, :, 0, 0].tolist() == [1, 2, 3]


def test_content_tells_datasets_apart_wherever_they_lie(tmp_path: Path) -> None:
    for name in ("one", "two"):
        fill(tmp_path / name, ("happy", "sad"))
    one, two = (load_faces(f"folder:{tmp_path / name}") for name in ("one", "two"))
    assert one.content("test") == two.content("test")
    assert one.content("test") != one.content("train")
    assert re.fullmatch("[0-9a-f]{12}", one.content("test"))
    Image.new("L", (8, 8), 200).save(tmp_path / "two" / "test" / "sad" / "3.png")
    assert load_faces(f"folder:{tmp_path / 'two'}").content("test") != one.content("test")
    assert (one.file_name, replace(one, dataset="a b/ü", source="hub").file_name) == ("one", "a-b-ü")


def test_validation_and_test_can_be_limited_and_a_test_split_need_not_be(tmp_path: Path) -> None:
    """Study D: 75 % for training, 25 % for validation, and as many images of each class as one likes."""
    fill(tmp_path, ("happy", "sad"), 20, splits=("",))
    settings = {"validation_fraction": 0.25, "test_fraction": 0, "validation_per_class": 3}
    faces = load_faces(f"folder:{tmp_path}", ["happy", "sad"], **settings)
    per_class = {split: record.per_class for split, record in faces.describe().splits.items()}
    assert per_class == {"train": {"happy": 15, "sad": 15}, "validation": {"happy": 3, "sad": 3}}
    assert faces.whole == {"validation": 10}
    assert any(note.startswith("No test split was made, as data.test_fraction is 0") for note in faces.notes)
    assert any(note.startswith("The validation split is a subset of 6 of 10 images, drawn by") for note in faces.notes)
    assert np.array_equal(faces.pixels("validation"), decoded_as_stored(faces.splits["validation"]))
    tested = load_faces(f"folder:{tmp_path}", purpose="evaluation", test_per_class=5)
    assert (len(tested.splits["test"]), tested.whole) == (10, {"test": 40})


def test_a_recipe_that_evaluates_nothing_is_refused_before_training(tmp_path: Path) -> None:
    fill(tmp_path, ("happy", "sad"), 8, splits=("",))
    data = {"source": f"folder:{tmp_path}", "label_set": ["happy", "sad"], "test_fraction": 0}
    with pytest.raises(UserError, match=r"evaluate\.splits is \['test'\], but the data have only train, validation"):
        recipe_faces(validate_recipe({"data": data, "evaluate": {"splits": ["test"]}}))
    assert recipe_faces(validate_recipe({"data": data})).splits.keys() == {"train", "validation"}


@pytest.mark.parametrize("source", ["csv", "folder"])
def test_an_audit_of_nothing_but_bad_images_is_written(tmp_path: Path, source: str) -> None:
    place = fill(tmp_path / "faces", ("happy", "sad"), 2) if source == "folder" else tmp_path / "fer2013.csv"
    for file in place.rglob("*.png"):
        file.write_bytes(b"no image")
    if source == "csv":
        place.write_text("emotion,pixels,Usage\n0.0,1 2,Training\n0,1 2,Training\n")
    faces = inspect_faces([f"{'folder' if source == 'folder' else 'fer2013'}:{place}"], check_images=False)
    result = audit_faces(faces, tmp_path / "audit")
    assert result.counts["broken"] == (12 if source == "folder" else 2)
    assert "no image" in result.page.read_text() or "emotion is &#39;0.0&#39;" in result.page.read_text()
    class_table(class_counts(faces))
    with pytest.raises(UserError, match=r"there are no images.* (12|2) image\(s\) cannot be read, such as .*: "):
        inspect_faces([f"{'folder' if source == 'folder' else 'fer2013'}:{place}"])

"""Folders of images: both layouts, odd names and formats, links, and what is refused."""

import unicodedata
from pathlib import Path

import pytest
from PIL import Image

from fer_hf.data.faces import load_faces
from fer_hf.data.subsets import thin_out
from fer_hf.errors import UserError
from fer_hf.files import file_below


def save(path: Path, mode: str = "RGB", size: int = 8) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, (size, size)).save(path)
    return path


def fill(root: Path, classes: tuple[str, ...] = ("happy", "sad"), count: int = 10) -> Path:
    for name in classes:
        for number in range(count):
            save(root / name / f"{number:03}.png")
    return root


def all_ids(faces) -> set[str]:
    return {name for data in faces.splits.values() for name in data["id"]}


def test_split_folders_with_other_names(tmp_path: Path) -> None:
    for split in ("Training", "val", "TEST"):
        fill(tmp_path / split, ("Happiness", "ANGER"), 2)
    faces = load_faces(f"folder:{tmp_path}")
    assert (faces.source, faces.dataset) == ("folder", tmp_path.name)
    assert list(faces.splits["validation"]["id"]) == [
        "val/ANGER/000.png",
        "val/ANGER/001.png",
        "val/Happiness/000.png",
        "val/Happiness/001.png",
    ]
    assert [faces.label_names[label] for label in faces.splits["test"]["label"]] == ["angry"] * 2 + ["happy"] * 2
    assert not any("split" in note for note in faces.notes)


def test_class_names_may_differ_between_splits(tmp_path: Path) -> None:
    fill(tmp_path / "train", ("anger", "sadness"), 3)
    fill(tmp_path / "test", ("sad", "angry"), 1)
    faces = load_faces(f"folder:{tmp_path}")
    assert [faces.label_names[label] for label in faces.splits["test"]["label"]] == ["angry", "sad"]


def test_class_folders_get_all_splits(tmp_path: Path) -> None:
    fill(tmp_path, ("happy", "sad", "fear"), 20)
    faces = load_faces(f"folder:{tmp_path}", validation_fraction=0.1, test_fraction=0.2, split_seed=3)
    per_class = {name: split.per_class for name, split in faces.describe().splits.items()}
    for split, count in (("train", 14), ("validation", 2), ("test", 4)):
        assert {name: n for name, n in per_class[split].items() if n} == {"fear": count, "happy": count, "sad": count}
    ids = [set(data["id"]) for data in faces.splits.values()]
    assert len(set.union(*ids)) == 60  # no image in two splits, none lost
    again = load_faces(f"folder:{tmp_path}", validation_fraction=0.1, test_fraction=0.2, split_seed=3)
    other = load_faces(f"folder:{tmp_path}", validation_fraction=0.1, test_fraction=0.2, split_seed=4)
    assert list(again.splits["test"]["id"]) == list(faces.splits["test"]["id"])
    assert list(other.splits["test"]["id"]) != list(faces.splits["test"]["id"])


@pytest.mark.parametrize(
    ("name", "mode"),
    [
        ("grey.jpg", "L"),
        ("CMYK.JPEG", "CMYK"),
        ("palette.gif", "P"),
        ("alpha.png", "RGBA"),
        ("deep.tif", "I;16"),
        ("one bit.bmp", "1"),
        ("x.webp", "RGB"),
        ("Bär 表情 #1 %20.png", "LA"),
        ("inner/deeper/a b.png", "RGB"),
    ],
)
def test_formats_modes_and_names(tmp_path: Path, name: str, mode: str) -> None:
    fill(tmp_path / "train")
    save(tmp_path / "train" / "happy" / name, mode)
    faces = load_faces(f"folder:{tmp_path}")
    rows = {row["id"]: row for data in faces.splits.values() for row in data}
    assert rows[f"train/happy/{name}"]["image"].convert("RGB").size == (8, 8)
    assert len(rows) == 21


def test_hidden_and_other_files_are_ignored(tmp_path: Path) -> None:
    fill(tmp_path)
    (tmp_path / "happy" / "notes.txt").write_text("x")
    (tmp_path / "happy" / "._000.png").write_bytes(b"x")
    (tmp_path / ".cache" / "angry").mkdir(parents=True)
    (tmp_path / ".cache" / "angry" / "a.png").write_bytes(b"x")
    (tmp_path / "empty").mkdir()
    save(tmp_path / "preview.png")
    faces = load_faces(f"folder:{tmp_path}")
    assert len(all_ids(faces)) == 20
    assert "1 image(s) that lie in no class folder, such as 'preview.png', were left out." in faces.notes
    assert "1 file(s) are no images by their endings and were left out: .txt 1." in faces.notes
    for name in ("a.heic", "b.HEIC", "Makefile"):
        (tmp_path / "sad" / name).touch()
    (tmp_path / "README.md").touch()
    notes = load_faces(f"folder:{tmp_path}").notes
    assert "4 file(s) are no images by their endings and were left out: .heic 2, .txt 1, none 1." in notes


@pytest.mark.parametrize("deeper", ["", "a/"])
def test_splits_inside_of_class_folders_are_used(tmp_path: Path, deeper: str) -> None:
    for name in ("happy", "sad"):
        for split, count in (("Train", 4), ("val", 2), ("testing", 3)):
            for number in range(count):
                save(tmp_path / name / deeper / split / f"{number}.png")
    faces = load_faces(f"folder:{tmp_path}")
    assert {split: len(data) for split, data in faces.splits.items()} == {"train": 8, "validation": 4, "test": 6}
    for split, folder in {"train": "Train", "validation": "val", "test": "testing"}.items():
        assert all(f"/{folder}/" in name for name in faces.splits[split]["id"])
        assert {name.split("/")[0] for name in faces.splits[split]["id"]} == {"happy", "sad"}
    assert sum("splits train, validation, test" in note for note in faces.notes) == 1


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (("sad/1.png",), r"such as that of 'happy/train/0\.png', but 1 image\(s\) lie in none, such as 'sad/1\.png'"),
        (("happy/more/1.png", "sad/train/1.png"), r"lie in none, such as 'happy/more/1\.png'"),
        (("happy/train/test/1.png",), r"lies in folders of two splits, 'train' and 'test'"),
    ],
)
def test_splits_of_a_part_of_the_images_are_refused(tmp_path: Path, files: tuple[str, ...], message: str) -> None:
    for file in ("happy/train/0.png", *files):
        save(tmp_path / file)
    with pytest.raises(UserError, match=message):
        load_faces(f"folder:{tmp_path}")


def test_a_split_inside_of_another_is_refused(tmp_path: Path) -> None:
    fill(tmp_path / "train", count=2)
    save(tmp_path / "train" / "sad" / "Train" / "1.png")  # says the same
    assert len(load_faces(f"folder:{tmp_path}", purpose="inspection").splits["train"]) == 5
    save(tmp_path / "train" / "sad" / "val" / "1.png")
    with pytest.raises(UserError, match="folders of two splits, 'train' and 'val'"):
        load_faces(f"folder:{tmp_path}")


def test_every_column_of_metadata_is_an_attribute(tmp_path: Path) -> None:
    fill(tmp_path, ("happy", "sad"), 2)
    table(
        tmp_path / "metadata.csv",
        "file_name;Intensity;Camera;glasses;id;source",
        "happy/000.png;Extreme;Leica M3;none;7;web",
        "happy/001.png;;;;8;",
    )
    faces = load_faces(f"folder:{tmp_path}", purpose="inspection")
    row = rows_of(faces)["happy/000.png"]
    assert (row["intensity"], row["camera"], row["glasses"]) == ("extreme", "Leica M3", "none")
    assert rows_of(faces)["happy/001.png"]["camera"] is None
    assert "Columns of metadata.csv that were not read: 'id', 'source'." in faces.notes
    subset = load_faces(f"folder:{tmp_path}", purpose="inspection")
    assert thin_out(subset.splits["train"].select([0]), {"intensity": {"extreme": 1.0}})[0]["id"][:] == [
        "happy/000.png"
    ]


@pytest.mark.parametrize("on_disk", ["NFC", "NFD"])
@pytest.mark.parametrize("in_table", ["NFC", "NFD"])
def test_names_whose_accents_are_stored_differently(tmp_path: Path, on_disk: str, in_table: str) -> None:
    names = {unicodedata.normalize(on_disk, f"Bilder é/{n}ü.png"): n for n in range(4)}
    for name in names:
        save(tmp_path / name)
    lines = [f"{unicodedata.normalize(in_table, name)},{('happy', 'sad')[n % 2]}" for name, n in names.items()]
    table(tmp_path / "metadata.csv", "file_name,label", *lines)
    faces = load_faces(f"folder:{tmp_path}", purpose="inspection")
    found = {names[name]: faces.label_names[row["label"]] for name, row in rows_of(faces).items()}
    assert found == {0: "happy", 1: "sad", 2: "happy", 3: "sad"}
    name = unicodedata.normalize(in_table, "Bilder é/0ü.png")
    assert Path(file_below(tmp_path, name)).is_file()


def test_a_table_as_a_spreadsheet_writes_unicode_text(tmp_path: Path) -> None:
    save(tmp_path / "Bär.png")
    (tmp_path / "metadata.csv").write_text("file_name\tlabel\nBär.png\tsad\n", encoding="utf-16")
    assert list(rows_of(load_faces(f"folder:{tmp_path}", purpose="inspection"))) == ["Bär.png"]


def test_rows_with_more_cells_than_columns_are_bad(tmp_path: Path) -> None:
    fill(tmp_path, ("happy", "sad"), 2)
    table(tmp_path / "metadata.csv", "file_name,camera", "happy/000.png,Leica, old", "happy/001.png,Nikon,,")
    with pytest.raises(UserError, match=r"metadata\.csv line 2: it has 3 cells, and there are 2 columns"):
        load_faces(f"folder:{tmp_path}", purpose="inspection")


def test_links_out_of_the_folder_are_not_followed(tmp_path: Path) -> None:
    root, outside = fill(tmp_path / "in"), tmp_path / "out"
    secret = save(outside / "happy" / "secret.png")
    (root / "happy" / "link.png").symlink_to(secret)
    (root / "angry").symlink_to(outside / "happy")
    (root / "happy" / "inside.png").symlink_to(root / "happy" / "000.png")
    (root / "happy" / "loop").symlink_to(root)
    faces = load_faces(f"folder:{root}")
    assert all_ids(faces) == {f"{name}/{n:03}.png" for name in ("happy", "sad") for n in range(10)} | {
        "happy/inside.png"
    }
    assert any(note.startswith("3 link(s) were not followed") for note in faces.notes)


def test_images_stay_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmp_path / "faces")
    monkeypatch.chdir(tmp_path)
    faces = load_faces("folder:faces")
    monkeypatch.chdir("/")
    row = faces.splits["train"][0]
    assert row["image"].size == (8, 8)
    save(tmp_path / "faces" / row["id"], size=16)  # changed under the same path: seen at once
    assert faces.splits["train"][0]["image"].size == (16, 16)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ((), "holds no images in class folders"),
        (("a.png",), r"1 image\(s\) lie outside, such as 'a.png'"),
        (("train/a.png", "train/b.png"), r"2 image\(s\) lie outside"),
        (("happy/1.png", "angryy/1.png"), r"'angryy' is not an emotion. Did you mean 'angry'"),
        (("train/happy/1.png", "train/1/1.png"), r"split train: '1' is not an emotion"),
        (("train/happy/1.png", "extra/sad/1.png"), r"also 'extra' with 1 image\(s\), which is no split"),
        (("val/happy/1.png", "valid/sad/1.png"), "two validation folders, 'val' and 'valid'"),
        (("happy/1.png", "joy/1.png"), "twice"),
        (("test/happy/1.png", "test/sad/1.png"), "no train split, only test"),
        (("happy/1.png", "sad/1.png"), r"'happy' has 1 training image\(s\): too few"),
    ],
)
def test_refused_folders(tmp_path: Path, files: tuple[str, ...], message: str) -> None:
    for file in files:
        save(tmp_path / file)
    with pytest.raises(UserError, match=message):
        load_faces(f"folder:{tmp_path}")


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not exist"):
        load_faces(f"folder:{tmp_path / 'nowhere'}")
    with pytest.raises(UserError, match=r"'https://example\.org/faces' does not exist"):  # not https:/
        load_faces("folder:https://example.org/faces")
    with pytest.raises(UserError, match="is a file"):
        load_faces(f"folder:{save(tmp_path / 'a.png')}")


def test_smallest_classes_reach_every_split(tmp_path: Path) -> None:
    fill(tmp_path, ("happy",), 40)
    fill(tmp_path, ("sad",), 3)
    faces = load_faces(f"folder:{tmp_path}")
    assert [split.per_class["sad"] for split in faces.describe().splits.values()] == [1, 1, 1]
    with pytest.raises(UserError, match=r"data\.validation_fraction is 0"):
        load_faces(f"folder:{tmp_path}", validation_fraction=0)


def table(file: Path, *lines: str) -> None:
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")


def rows_of(faces) -> dict[str, dict]:
    return {row["id"]: row for data in faces.splits.values() for row in data}


def test_metadata_lies_at_the_root_in_a_split_and_in_a_class(tmp_path: Path) -> None:
    for split in ("train", "test"):
        fill(tmp_path / split, ("happy", "sad"), 3)
    save(tmp_path / "train" / "happy" / "Bär 1.png")
    table(
        tmp_path / "metadata.csv",
        "file_name,gender,Age,valence,camera",
        "train/happy/000.png,F,20-39,0.5,A",
        r".\train\happy\001.png,,,,B",
    )
    table(tmp_path / "train" / "metadata.csv", "file_name,race,subject", "sad/000.png,Asian,S1")
    table(tmp_path / "train" / "happy" / "metadata.csv", "gender,file_name", "man,Bär 1.png")
    faces = load_faces(f"folder:{tmp_path}", purpose="inspection")
    assert faces.skipped == []
    attributes = ["gender", "age", "race", "valence", "subject", "camera"]
    assert faces.splits["train"].column_names == ["image", "label", "id", *attributes]
    assert faces.splits["test"].column_names == ["image", "label", "id"]
    rows = rows_of(faces)
    found = {
        name: {key: value for key, value in row.items() if value is not None and key not in ("image", "label", "id")}
        for name, row in rows.items()
    }
    assert {name: known for name, known in found.items() if known} == {
        "train/happy/000.png": {"gender": "female", "age": "20-39", "valence": 0.5, "camera": "A"},
        "train/happy/001.png": {"camera": "B"},
        "train/sad/000.png": {"race": "asian", "subject": "S1"},
        "train/happy/Bär 1.png": {"gender": "male"},
    }


@pytest.mark.parametrize("place", ["", "images/", "train/", "images/train/any/depth/"])
def test_metadata_labels_images_that_lie_anywhere(tmp_path: Path, place: str) -> None:
    emotions = ["Happiness", "ANGER", "joy", "sadness"]
    for number in range(4):
        save(tmp_path / f"{place}{number}.png", size=number + 1)
    save(tmp_path / f"{place}unknown.png")
    save(tmp_path / f"{place}unlabelled.png")
    lines = [f"{place}{number}.png,{emotion}" for number, emotion in enumerate(emotions)]
    table(tmp_path / "metadata.csv", "file_name,expression", *lines, f"{place}unlabelled.png,")
    faces = load_faces(f"folder:{tmp_path}", purpose="inspection")
    found = {row["image"].width: faces.label_names[row["label"]] for row in faces.splits["train"]}
    assert found == {1: "happy", 2: "angry", 3: "happy", 4: "sad"}
    assert any(note.startswith("2 image(s) that lie in no class folder") for note in faces.notes)


def test_metadata_labels_agree_with_class_folders_by_name(tmp_path: Path) -> None:
    fill(tmp_path, ("happy", "sadness", "extra"), 2)
    table(
        tmp_path / "metadata.csv",
        "file_name,label",
        "happy/000.png,joy",
        "happy/001.png,sad",
        "extra/000.png,sad",
        "sadness/001.png,",
    )
    faces = load_faces(f"folder:{tmp_path}", purpose="inspection", on_bad_image="skip")
    assert {name: faces.label_names[row["label"]] for name, row in rows_of(faces).items()} == {
        "happy/000.png": "happy",
        "sadness/000.png": "sad",
        "sadness/001.png": "sad",
        "extra/000.png": "sad",
    }
    assert faces.skipped == ["metadata.csv line 3"]
    with pytest.raises(UserError, match=r"metadata\.csv line 3: 'happy/001\.png' is 'sad' here, but .* folder 'happy'"):
        load_faces(f"folder:{tmp_path}", purpose="inspection")


@pytest.mark.parametrize(
    ("row", "reason", "lost"),
    [
        ("happy/nothing.png,0.5,sad", "there is no file 'happy/nothing.png'", None),
        ("../private.png,0.5,sad", "leads out of the dataset's folder", None),
        ("/etc/passwd,0.5,sad", "leads out of the dataset's folder", None),
        ("notes.txt,0.5,sad", "is no image", None),
        (",0.5,sad", "there is no file", None),
        ("happy/000.png,0.5,happy", "'happy/000.png' is listed twice", None),
        ("happy/./000.png,0.5,happy", "is listed twice", None),
        ("happy/001.png,much,happy", "valence is 'much', not a number from -1 to 1", "happy/001.png"),
        ("happy/001.png,5,happy", "valence is '5', not a number from -1 to 1", "happy/001.png"),
        ("happy/001.png,0.5,3", "'3' is not an emotion", "happy/001.png"),
    ],
)
def test_bad_rows_of_metadata(tmp_path: Path, row: str, reason: str, lost: str | None) -> None:
    root = fill(tmp_path / "faces", count=3)
    save(tmp_path / "private.png")
    (root / "notes.txt").write_text("x")
    table(root / "metadata.csv", "file_name,valence,label", "happy/000.png,1,happy", row)
    with pytest.raises(UserError, match=r"metadata\.csv line 3: ") as caught:
        load_faces(f"folder:{root}", purpose="inspection")
    assert reason in str(caught.value)
    faces = load_faces(f"folder:{root}", purpose="inspection", on_bad_image="skip")
    assert faces.skipped == ["metadata.csv line 3"]
    every = {f"{name}/{number:03}.png" for name in ("happy", "sad") for number in range(3)}
    assert all_ids(faces) == every - {lost}
    assert rows_of(faces)["happy/000.png"]["valence"] == 1


def test_metadata_that_cannot_be_used(tmp_path: Path) -> None:
    root = tmp_path / "faces"
    save(root / "images" / "1.png")
    table(root / "metadata.csv", "file_name,label", "images/1.png,3")
    with pytest.raises(UserError, match=r"1 cannot be used, such as metadata\.csv line 2: '3' is not an emotion"):
        load_faces(f"folder:{root}")
    table(root / "metadata.csv", "file,label", "images/1.png,happy")
    with pytest.raises(UserError, match=r"lacks the column\(s\) file_name"):
        load_faces(f"folder:{root}")
    fill(root)
    (root / "metadata.csv").rename(tmp_path / "elsewhere.csv")
    (root / "metadata.csv").symlink_to(tmp_path / "elsewhere.csv")
    (root / "images" / "1.png").unlink()
    assert "1 link(s) were not followed, since they lead out of the folder or to another folder." in (
        load_faces(f"folder:{root}").notes
    )


@pytest.mark.parametrize("around", ["dataset", "a b/RAF [x]", "train data/data"])
def test_folders_around_the_tree(tmp_path: Path, around: str) -> None:
    for split in ("train", "valid", "test"):
        fill(tmp_path / around / split, ("happy", "sad"), 2)
    save(tmp_path / "preview.png")
    faces = load_faces(f"folder:{tmp_path}")
    assert set(faces.splits["validation"]["id"]) == {
        f"{around}/valid/{name}/00{number}.png" for name in ("happy", "sad") for number in (0, 1)
    }
    assert "1 image(s) that lie in no class folder, such as 'preview.png', were left out." in faces.notes


def test_parquet_files_beside_class_folders_are_not_read(tmp_path: Path) -> None:
    fill(tmp_path)
    (tmp_path / "train-0.parquet").write_bytes(b"x")
    assert len(all_ids(load_faces(f"folder:{tmp_path}"))) == 20


def test_files_that_tables_name_are_not_reached_through_linked_folders(tmp_path: Path) -> None:
    save(tmp_path / "out" / "a.png")
    root = fill(tmp_path / "in")
    (root / "link").symlink_to(tmp_path / "out")
    (root / "again").symlink_to(root / "happy")
    with pytest.raises(ValueError, match=r"'link/a\.png' is a link that leads out"):
        file_below(root, "link/a.png")
    assert file_below(root, "again/000.png") == str(root / "again" / "000.png")

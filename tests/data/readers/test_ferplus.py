"""FER+ in both of its layouts, and how votes become labels."""

from collections.abc import Sequence
from pathlib import Path

import datasets
import numpy as np
import pytest
from PIL import Image

from fer_hf.data.faces import Faces, load_faces
from fer_hf.data.readers.ferplus import decide
from fer_hf.data.source import looks_like
from fer_hf.errors import UserError

ORDER = ("neutral", "happy", "surprise", "sad", "angry", "disgust", "fear", "contempt")  # of the vote columns
HEADER = "Usage,Image name,neutral,happiness,surprise,sadness,anger,disgust,fear,contempt,unknown,NF"
FOLDERS = {"Training": "FER2013Train", "PublicTest": "FER2013Valid", "PrivateTest": "FER2013Test"}
NO_FACE = [0] * 9 + [10]
TORN = [5, 5, 0, 0, 0, 0, 0, 0, 0, 0]  # no majority
Row = tuple[str, str, Sequence[object]]  # Usage, Image name, votes


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))


def face(row: int) -> np.ndarray:
    return np.random.default_rng(row).integers(0, 256, (48, 48), dtype=np.uint8)


def known_rows() -> list[Row]:
    """In each split one image of every emotion, in column order, and one image without a face."""
    rows: list[Row] = []
    for usage in FOLDERS:
        for column in range(8):
            votes = [0] * 10
            votes[column], votes[(column + 1) % 8], votes[8] = 7, 2, 1
            rows.append((usage, f"fer{len(rows):07}.png", votes))
        rows.append((usage, "", NO_FACE))
    return rows


def write_csv(root: Path, rows: list[Row], name: str = "fer2013.csv") -> Path:
    root.mkdir(parents=True, exist_ok=True)
    lines = [f"{usage},{image},{','.join(map(str, votes))}" for usage, image, votes in rows]
    (root / "fer2013new.csv").write_text("\n".join([HEADER, *lines]) + "\n")
    pixels = [" ".join(map(str, face(number).ravel())) for number in range(len(rows))]
    if name == "fer2013.csv":  # FER2013's labels play no part here, not even wrong ones
        lines = ["emotion,pixels,Usage", *(f"9,{text},{row[0]}" for text, row in zip(pixels, rows, strict=True))]
    else:
        lines = ["emotion, Usage, pixels", *(f"0, {row[0]}, {text}" for text, row in zip(pixels, rows, strict=True))]
    (root / name).write_text("\n".join(lines) + "\n")
    return root


def write_folders(root: Path, rows: list[Row], box: str = ',"(0, 0, 48, 48)"') -> Path:
    for number, (usage, name, votes) in enumerate(rows):
        folder = root / FOLDERS[usage]
        folder.mkdir(parents=True, exist_ok=True)
        if name:  # the authors' script leaves the others out
            with open(folder / "label.csv", "a") as file:
                file.write(f"{name}{box},{','.join(map(str, votes))}\n")
            Image.fromarray(face(number)).save(folder / name)
    return root


def check_known(faces: Faces) -> None:
    assert (faces.source, faces.dataset) == ("ferplus", "FER+")
    for part, split in enumerate(("train", "validation", "test")):
        assert list(faces.splits[split]["id"]) == [f"fer{9 * part + column:07}.png" for column in range(8)]
        for column, row in enumerate(faces.splits[split]):
            assert faces.label_names[row["label"]] == ORDER[column]
            np.testing.assert_array_equal(np.asarray(row["image"]), face(9 * part + column))
            soft = {ORDER[column]: 7 / 9, ORDER[(column + 1) % 8]: 2 / 9}
            assert row["soft_label"] == pytest.approx([soft.get(name, 0) for name in faces.label_names])


@pytest.mark.parametrize("name", ["fer2013.csv", "icml_face_data.csv"])
def test_csv_images_labels_and_splits(tmp_path: Path, name: str) -> None:
    root = write_csv(tmp_path / "FER plus [é]", known_rows(), name)
    for place in (root, root / "fer2013new.csv"):
        assert looks_like(place) == "ferplus"
        faces = load_faces(f"ferplus:{place}", "fer8")
        check_known(faces)
    assert any("Left out: 1 of 9 (train), 1 of 9 (validation), 1 of 9 (test)." in note for note in faces.notes)
    assert faces.license is not None
    assert "MIT" in faces.license
    assert "DbCL" in faces.license


@pytest.mark.parametrize(("below", "box"), [("", ',"(0, 0, 48, 48)"'), ("data", "")])
def test_folders_images_labels_and_splits(tmp_path: Path, below: str, box: str) -> None:
    root = tmp_path / "FER plus [é]"
    write_folders(root / below, known_rows(), box)
    assert looks_like(root) == "ferplus"
    check_known(load_faces(f"ferplus:{root}", "fer8"))


def test_images_and_files_that_are_not_read_are_named(tmp_path: Path) -> None:
    write_folders(tmp_path, known_rows())
    Image.fromarray(face(0)).save(tmp_path / "FER2013Test" / "more.png")
    (tmp_path / "extra").mkdir()
    notes = load_faces(f"ferplus:{tmp_path}", "fer8").notes
    assert "1 other file(s) or folder(s) were not read: extra." in notes
    assert "1 image(s) that no list names, such as 'more.png', were left out." in notes


def test_votes_without_image_names(tmp_path: Path) -> None:
    write_csv(tmp_path, known_rows())
    lines = [line.split(",") for line in (tmp_path / "fer2013new.csv").read_text().splitlines()]
    (tmp_path / "fer2013new.csv").write_text("\n".join(",".join(cells[:1] + cells[2:]) for cells in lines))
    faces = load_faces(f"ferplus:{tmp_path}", "fer8")
    assert list(faces.splits["test"]["id"]) == [f"PrivateTest_{row}" for row in range(18, 26)]


# Columns: neutral, happiness, surprise, sadness, anger, disgust, fear, contempt, unknown, NF.
WORKED = [
    ("0 10 0 0 0 0 0 0 0 0", "majority", (1, {1: 1.0})),
    ("6 0 0 4 0 0 0 0 0 0", "majority", (0, {0: 0.6, 3: 0.4})),
    ("5 0 0 4 1 0 0 0 0 0", "majority", (0, {0: 5 / 9, 3: 4 / 9})),  # 5 of 9 once the single vote is gone
    ("5 5 0 0 0 0 0 0 0 0", "majority", None),  # exactly half is no majority
    ("4 0 0 2 2 0 0 0 0 2", "majority", None),  # 4 of 10: NF counts in the sum
    ("6 0 0 0 0 0 0 0 4 0", "majority", (0, {0: 1.0})),
    ("4 0 0 0 0 0 0 0 6 0", "majority", None),  # the winner is unknown
    ("2 0 0 0 0 0 0 0 0 8", "majority", None),  # the winner is NF
    ("0 0 0 0 0 0 0 0 0 10", "majority", None),
    ("1 1 1 1 1 1 1 1 1 1", "majority", None),  # nothing but single votes
    ("3 1 1 1 1 1 1 1 0 0", "majority", (0, {0: 1.0})),  # 3 votes of ten, the others being single
    ("0 0 0 0 0 2 0 7 1 0", "majority", (7, {5: 2 / 9, 7: 7 / 9})),
    ("4 0 0 2 2 0 0 0 0 2", "argmax", (0, {0: 0.5, 3: 0.25, 4: 0.25})),
    ("0 0 3 0 4 3 0 0 0 0", "argmax", (4, {2: 0.3, 4: 0.4, 5: 0.3})),
    ("4 4 0 0 0 0 0 0 2 0", "argmax", (0, {0: 0.5, 1: 0.5})),  # the first of equals
    ("0 0 0 0 0 0 5 0 5 0", "argmax", (6, {6: 1.0})),  # an emotion stands before unknown
    ("4 0 0 0 0 0 0 0 6 0", "argmax", None),
    ("3 3 0 0 0 0 0 0 0 4", "argmax", None),
    ("0 0 0 0 0 0 0 0 0 10", "argmax", None),
    ("0 1 1 1 1 1 1 1 1 1", "argmax", (1, {1: 1.0})),  # only single votes: nothing is left but the label
    ("6 0 0 4 0 0 0 0 0 0", "soft", (0, {0: 0.6, 3: 0.4})),
    ("8 2 0 0 0 0 0 0 0 0", "soft", (0, {0: 1.0})),  # 80 % is enough
    ("5 0 0 3 2 0 0 0 0 0", "soft", (0, {0: 5 / 8, 3: 3 / 8})),  # 8 of 10 is enough
    ("4 0 0 2 0 0 0 2 2 0", "soft", (0, {0: 0.5, 3: 0.25, 7: 0.25})),  # three, and unknown has as many as the last two
    ("0 0 5 5 0 0 0 0 0 0", "soft", (2, {2: 0.5, 3: 0.5})),
    ("3 3 2 2 0 0 0 0 0 0", "soft", None),  # two tie for the third place: that would be four
    ("2 2 2 2 2 0 0 0 0 0", "soft", None),
    ("4 3 3 2 2 0 0 0 0 0", "soft", (0, {0: 0.4, 1: 0.3, 2: 0.3})),  # three are enough, with 10 of 14
    ("6 0 0 0 0 0 0 0 4 0", "soft", (0, {0: 1.0})),  # unknown is reached and not taken
    ("4 0 0 0 0 0 0 0 4 2", "soft", None),  # tie with unknown at the top, and 4 of 10 is too little
    ("3 3 0 0 0 0 0 0 3 1", "soft", (0, {0: 0.5, 1: 0.5})),  # tie with unknown at the top, and 6 of 9 is enough
    ("5 0 0 0 0 0 0 0 5 0", "soft", None),  # exactly half
    ("3 3 0 0 0 0 0 0 4 0", "soft", None),  # unknown leads
    ("0 0 0 0 0 0 0 0 0 10", "soft", None),
    ("1 1 1 1 1 1 1 1 1 1", "soft", None),
]


@pytest.mark.parametrize(("votes", "how", "expected"), WORKED)
def test_votes_worked_by_hand(votes: str, how: str, expected: tuple[int, dict[int, float]] | None) -> None:
    found = decide([int(count) for count in votes.split()], how)
    assert (found is None) == (expected is None)
    if found and expected:
        assert found[0] == expected[0]
        assert found[1] == pytest.approx([expected[1].get(place, 0.0) for place in range(8)])


@pytest.mark.parametrize(("votes", "kept"), [("majority", 8), ("argmax", 10), ("soft", 9)])
def test_each_filter_and_what_it_says(tmp_path: Path, votes: str, kept: int) -> None:
    scattered = [3, 3, 2, 2, 0, 0, 0, 0, 0, 0]  # argmax alone keeps it
    extra: list[Row] = [("Training", "fer1.png", TORN), ("Training", "fer2.png", scattered), ("Training", "", NO_FACE)]
    faces = load_faces(f"ferplus:{write_csv(tmp_path, known_rows() + extra)}", "fer8", votes=votes)
    assert len(faces.splits["train"]) == kept
    assert any(
        note.startswith(f"FER+ filter: {votes}. ") and f"{12 - kept} of 12 (train)" in note for note in faces.notes
    )
    assert faces.skipped == []


def test_unknown_filter(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"data\.votes is 'plurality'.*'majority', 'argmax' or 'soft'"):
        load_faces(f"ferplus:{write_csv(tmp_path, known_rows())}", votes="plurality")


@pytest.mark.parametrize("cell", ["-1", "1.5", "", "9" * 5000])
def test_votes_out_of_range(tmp_path: Path, cell: str) -> None:
    bad: Row = ("Training", "fer1.png", [cell, 9, 0, 0, 0, 0, 0, 0, 0, 0])
    for root in (
        write_csv(tmp_path / "csv", [*known_rows(), bad]),
        write_folders(tmp_path / "f", [*known_rows(), bad]),
    ):
        with pytest.raises(
            UserError, match=r"(fer2013\.csv line 29|FER2013Train/label\.csv line 9): .*on_bad_image=skip"
        ):
            load_faces(f"ferplus:{root}", "fer8")
        check_known(load_faces(f"ferplus:{root}", "fer8", on_bad_image="skip"))


@pytest.mark.parametrize(
    ("row", "pixels", "reason"),
    [
        ("Training,fer1.png,0,0,0,0,0,0,0,0,0,0", None, "its votes are 0, 0, .* not all 0"),
        ("Training,fer1.png,0,9,0", None, r"fer2013new\.csv line 29: cells are missing"),
        ("Training,fer1.png,0,9,0,0,0,0,0,0,0,0", "0,1 2 3,Training", "fer2013.csv line 29: there are 3 pixels"),
        ("Training,fer1.png,0,9,0,0,0,0,0,0,0,0", "0", r"fer2013\.csv line 29: cells are missing"),
        ("Test,fer1.png,0,9,0,0,0,0,0,0,0,0", "0,1 2 3,Test", "Usage is 'Test', not one of Training"),
        ("Training,fer0000001.png,0,9,0,0,0,0,0,0,0,0", None, "fer0000001.png is listed twice"),
    ],
)
def test_bad_csv_rows(tmp_path: Path, row: str, pixels: str | None, reason: str) -> None:
    write_csv(tmp_path, known_rows())
    pixels = pixels or f"0,{' '.join(map(str, face(1).ravel()))},Training"
    for name, line in (("fer2013new.csv", row), ("fer2013.csv", pixels)):
        with open(tmp_path / name, "a") as file:
            file.write(line + "\n")
    with pytest.raises(UserError, match=rf"{reason}.*\. 1 image\(s\) cannot be read"):
        load_faces(f"ferplus:{tmp_path}", "fer8")
    check_known(load_faces(f"ferplus:{tmp_path}", "fer8", on_bad_image="skip"))


def test_csv_files_that_do_not_belong_together(tmp_path: Path) -> None:
    rows = known_rows()
    write_csv(tmp_path / "usage", rows)
    lines = (tmp_path / "usage" / "fer2013.csv").read_text().splitlines()
    (tmp_path / "usage" / "fer2013.csv").write_text("\n".join([*lines[:5], *lines[6:], lines[-1]]))  # moved by a row
    with pytest.raises(UserError, match=r"'Training' in fer2013new\.csv line 10, 'PublicTest' in fer2013\.csv line 10"):
        load_faces(f"ferplus:{tmp_path / 'usage'}")
    for name, more, fewer in (("fer2013.csv", 27, 26), ("fer2013new.csv", 26, 27)):
        root = write_csv(tmp_path / name, rows)
        (root / name).write_text("\n".join((root / name).read_text().splitlines()[:-1]))
        with pytest.raises(
            UserError, match=rf"do not belong together: the one has {more} rows of images, the other {fewer}"
        ):
            load_faces(f"ferplus:{root}")


def test_bad_rows_and_files_of_folders(tmp_path: Path) -> None:
    root = write_folders(tmp_path / "faces", known_rows())
    Image.fromarray(face(0)).save(tmp_path / "private.png")
    (root / "FER2013Test" / "fer0000018.png").write_bytes(b"no image")
    with open(root / "FER2013Train" / "label.csv", "a") as file:
        for name in ("../../private.png", str(tmp_path / "private.png"), "fer0000001.png", "fer0000099.png"):
            file.write(f'{name},"(0, 0, 48, 48)",0,9,0,0,0,0,0,0,0,0\n')
        file.write('fer0000098.png,"(0, 0, 48, 48)",0,9\n')
    with open(root / "FER2013Valid" / "label.csv", "a") as file:
        file.write('fer0000099.png,"(0, 0, 48, 48)",0,0,0,0,0,0,0,0,0,10\n')  # its file is not needed
    with pytest.raises(
        UserError, match=r"FER2013Train/label\.csv line 9: '../../private\.png' leads out .* 6 image\(s\)"
    ):
        load_faces(f"ferplus:{root}", "fer8")
    faces = load_faces(f"ferplus:{root}", "fer8", on_bad_image="skip")
    listed = [f"FER2013Train/label.csv line {line}" for line in (9, 10, 11, 12, 13)]
    assert sorted(faces.skipped) == sorted([*listed, "fer0000018.png"])
    assert {split: len(data) for split, data in faces.splits.items()} == {"train": 8, "validation": 8, "test": 7}


def test_ferplus_under_another_name(tmp_path: Path) -> None:
    csv, folders = write_csv(tmp_path / "csv", known_rows()), write_folders(tmp_path / "folders", known_rows())
    for root in (csv, folders):
        with pytest.raises(UserError, match=rf"is not RAF-DB.* looks like FER\+: use ferplus:{root}\."):
            load_faces(f"rafdb:{root}")
    with pytest.raises(UserError, match=rf"looks like FER\+: use ferplus:{folders}\."):
        load_faces(f"fer2013:{folders}")
    (csv / "fer2013new.csv").rename(tmp_path / "fer2013new.csv")
    assert looks_like(csv) == "fer2013"
    with pytest.raises(UserError, match=rf"is not FER\+.* use fer2013:{csv}\..*Wanted: a folder with fer2013new\.csv"):
        load_faces(f"ferplus:{csv}")
    with pytest.raises(UserError, match=r"has the votes, fer2013new\.csv, but no images: put fer2013\.csv"):
        load_faces(f"ferplus:{tmp_path}")


def test_class_folders_are_no_ferplus(tmp_path: Path) -> None:
    for name in ("happy", "sad"):
        (tmp_path / "FER2013Train" / name).mkdir(parents=True)
        Image.fromarray(face(0)).save(tmp_path / "FER2013Train" / name / "0.png")
    assert looks_like(tmp_path) == "folder"

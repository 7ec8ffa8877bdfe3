"""Files that are written whole or not at all, whatever the disk does, and errors that name them."""

import errno
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from fer_hf import files
from fer_hf.data.faces import load_faces
from fer_hf.data.prepared import save
from fer_hf.data.readers import toy
from fer_hf.errors import UserError
from fer_hf.files import write_csv, write_text, written_whole
from fer_hf.recipe.load import copy_recipe
from fer_hf.report.figures.style import save_figure
from fer_hf.runs.predictions import read_predictions, write_predictions
from fer_hf.workflows.datasets import draw_classes

NASTY = "runs[1]{a}:b #%20 [red]x*?$"
"""Brackets and stars are patterns for glob and fsspec, `:` and `#` parts of addresses, `[red]` markup of rich."""


@pytest.fixture(scope="module")
def faces():
    return load_faces("toy", ["happy", "sad"], purpose="inspection", check_images=False)


def predictions(path: Path) -> None:
    split = toy.load(train=1, validation=1, test=1, size=32)["test"]
    write_predictions(path, split, np.eye(7)[np.asarray(split["label"][:])])


@pytest.mark.parametrize("reason", [errno.ENOSPC, errno.EROFS])
@pytest.mark.parametrize(
    ("write", "name"),
    [
        (lambda path, _: write_text(path, "new"), "a.txt"),
        (lambda path, _: write_csv(path, ["a"], [[1]]), "a.csv"),
        (lambda path, _: predictions(path), "a.parquet"),
        (lambda path, _: save_figure(Figure(), path), "a.png"),
        (lambda path, faces: draw_classes(faces, per_class=1, path=path), "a.png"),
        (lambda path, faces: save(faces, path, "card"), "folder"),
        (lambda path, _: copy_recipe("quickstart", path), "a.yaml"),
    ],
    ids=["text", "csv", "predictions", "figure", "sheet", "dataset", "recipe"],
)
def test_a_disk_that_cannot_be_written_leaves_nothing_and_is_named(
    tmp_path: Path, faces, monkeypatch, write: Callable[..., object], name: str, reason: int
) -> None:
    def full(*_: object) -> None:
        raise OSError(reason, "no")

    path = tmp_path / NASTY / name
    path.parent.mkdir()
    monkeypatch.setattr(files, "move_into_place", full)
    with pytest.raises(OSError, match="no") as raised:
        write(path, faces)
    assert raised.value.errno == reason
    assert raised.value.filename.startswith(str(path))  # a dataset's, or that of a file in it
    assert list(path.parent.iterdir()) == []
    monkeypatch.undo()
    write(path, faces)
    assert {file.stem for file in path.parent.iterdir()} == {path.stem}  # a figure is a PNG and an SVG


def test_what_was_there_stays_until_all_is_written(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(UnicodeEncodeError):
        write_text(path, "half \ud800")
    assert path.read_text() == "old"
    with pytest.raises(FileNotFoundError) as raised, written_whole(path) as aside:
        aside.write_bytes((tmp_path / "input").read_bytes())
    assert raised.value.filename == str(tmp_path / "input")  # not what was to be written
    with pytest.raises(OSError, match="nowhere") as raised:
        write_text(tmp_path / "nowhere" / "a.txt", "new")
    assert raised.value.filename == str(tmp_path / "nowhere" / "a.txt")


def test_what_libraries_say_of_a_full_disk_is_put_right(tmp_path: Path, monkeypatch) -> None:
    def cut_short() -> None:
        with written_whole(tmp_path / "a.onnx"):
            raise RuntimeError("unexpected pos 842688 vs 842580")

    with pytest.raises(RuntimeError, match="unexpected pos"):
        cut_short()
    monkeypatch.setattr(files, "disk_is_full", lambda folder: folder == tmp_path)
    with pytest.raises(OSError, match="No space left") as raised:
        cut_short()
    assert raised.value.filename == str(tmp_path / "a.onnx")


def test_predictions_and_datasets_come_back_from_a_folder_of_any_name(tmp_path: Path, faces) -> None:
    folder = tmp_path / NASTY
    predictions(folder / "::" / "a.parquet")
    found = read_predictions(folder / "::" / "a.parquet")
    assert found.predicted.tolist() == found.labels.tolist()
    assert len(found.labels) == 7
    save(faces, folder / "saved", "card")
    again = load_faces(f"folder:{folder / 'saved'}", ["happy", "sad"], purpose="inspection", check_images=False)
    assert {split: len(data) for split, data in again.splits.items()} == {
        split: len(data) for split, data in faces.splits.items()
    }
    with pytest.raises(UserError, match="'::' in its path, at which `datasets` would cut it"):
        load_faces(f"folder:{save(faces, folder / 'a::b', 'card')[0].parent}", purpose="inspection")

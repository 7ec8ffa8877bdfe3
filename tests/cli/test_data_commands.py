"""`fer-hf data`: what people type, what they see, and what lies there afterwards."""

import csv
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fer_hf.data import load_faces
from fer_hf.data.readers import toy
from fer_hf.emotions import LABEL_SETS
from fer_hf.errors import UserError
from fer_hf.runs.folder import Run

LABELS = LABEL_SETS["fer7"]


@pytest.fixture
def faces(tmp_path: Path) -> Path:
    """Drawn faces in class folders, with a copy and a broken file."""
    root = tmp_path / "my faces"
    for row in toy.load(train=6, validation=1, test=1, size=32)["train"]:
        folder = root / LABELS[row["label"]]
        folder.mkdir(parents=True, exist_ok=True)
        row["image"].save(folder / f"{row['id']}.png")
    first = sorted((root / "happy").iterdir())[0]
    (root / "happy" / "copy.png").write_bytes(first.read_bytes())
    (root / "sad" / "broken.png").write_bytes(b"nothing")
    return root


def rows_of(path: Path) -> list[dict[str, str]]:
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_show(cli, faces, tmp_path):
    code, out, err = cli("data", "show", f"folder:{faces}", "--per-class", 5)
    assert code == 0, err
    assert "1 unreadable image(s) were left out" in err
    assert "43" in out
    sheet = Image.open(tmp_path / "runs/show/my-faces-train.png")
    assert sheet.width > 5 * 96
    code, _, err = cli("data", "show", f"folder:{faces}", "--split", "test")
    assert (code, "no test split; it has train" in err) == (2, True)


def test_audit_and_exclude(cli, faces, tmp_path):
    code, out, err = cli("data", "audit", f"folder:{faces}", "--output", "audit")
    assert code == 0, err
    assert "exact copies beyond the first" in out
    found = json.loads((tmp_path / "audit/audit.json").read_text())
    assert found["duplicates"]["exact"]["redundant"] == 1
    assert "copies:       audit/copies.csv" in out
    assert [(row["kind"], row["split"], row["of_split"]) for row in rows_of(tmp_path / "audit/copies.csv")] == [
        ("exact", "train", "train")
    ]
    assert (
        str(tmp_path) not in (tmp_path / "audit/audit.html").read_text() + (tmp_path / "audit/audit.json").read_text()
    )
    reasons = {row["id"]: row["reason"] for row in rows_of(tmp_path / "audit/exclude.csv")}
    assert reasons.keys() == {"happy/copy.png", "sad/broken.png"} or len(reasons) == 2
    clean = load_faces(f"folder:{faces}", exclude=str(tmp_path / "audit/exclude.csv"), purpose="inspection")
    assert len(clean.splits["train"]) == 42
    train = (
        "train",
        "quickstart",
        f"data.source=folder:{faces}",
        "data.exclude=audit/exclude.csv",
        "export.onnx=false",
    )
    small = ("export.int8=false", "model.image_size=32", "train.num_train_epochs=1", "--output", "run")
    code, _, err = cli(*train, *small)
    assert code == 0, err
    run = Run(tmp_path / "run")
    assert "2 image(s) listed in data.exclude were left out." in run.metrics.data.notes
    assert run.metrics.recipe["data"]["exclude"] == "exclude.csv"
    listed = rows_of(run.splits_file)
    assert len(listed) == 42
    assert {row["split"] for row in listed} == {"train", "validation", "test"}
    assert not {row["id"] for row in listed} & reasons.keys()
    with open(tmp_path / "audit/exclude.csv", "a") as file:
        file.write(f"train,{listed[0]['id']},a later thought\n")
    run.update(finished=False)
    for again in ((*train, *small, "--resume"), ("data", "label-errors", "run")):
        code, _, err = cli(*again)
        assert (code, "was started with other images" in " ".join(err.split())) == (2, True), err


def test_label_errors(cli, tmp_path):
    small = ("model.image_size=32", "data.fraction=0.5", "train.num_train_epochs=2", "export.onnx=false")
    code, _, err = cli("train", "quickstart", *small, "export.int8=false", "--output", "run")
    assert code == 0, err
    code, out, err = cli("data", "label-errors", "run")
    assert code == 0, err
    rows = rows_of(tmp_path / "run/label_errors/validation.csv")
    assert rows
    assert f"{len(rows)} of 420 validation images are candidates" in out
    qualities = [float(row["quality"]) for row in rows]
    assert qualities == sorted(qualities)
    assert all(row["label"] != row["suggested"] for row in rows)
    assert Image.open(tmp_path / "run/label_errors/validation.png").width > 900


def test_label_errors_out_of_fold(cli, faces, tmp_path):
    """Every training image is predicted by a model that was trained without it; a second call trains nothing anew."""
    (faces / "sad" / "broken.png").unlink()
    small = ("model.image_size=32", "train.num_train_epochs=1", "export.onnx=false", "export.int8=false")
    code, _, err = cli("train", "quickstart", f"data.source=folder:{faces}", *small, "--output", "run")
    assert code == 0, err
    code, _, err = cli("data", "label-errors", "run", "--split", "train", "--folds", 2)
    assert code == 0, err
    from datasets import Dataset

    run = Run(tmp_path / "run")
    predicted = Dataset.from_parquet(str(run.predictions / "train-out-of-fold.parquet"), keep_in_memory=True)
    train = [row["id"] for row in rows_of(run.splits_file) if row["split"] == "train"]
    assert sorted(predicted["id"][:]) == sorted(train)
    written = [path.stat().st_mtime_ns for path in sorted((run.path / "folds").glob("*/model/model.safetensors"))]
    assert len(written) == 2
    assert cli("data", "label-errors", "run", "--split", "train", "--folds", 2)[0] == 0
    again = [path.stat().st_mtime_ns for path in sorted((run.path / "folds").glob("*/model/model.safetensors"))]
    assert again == written


def test_out_of_fold_keeps_repeated_images_together(faces, tmp_path, monkeypatch):
    """A source of weight 2 has each image twice: no model may learn the copy of what it predicts."""
    from fer_hf.recipe.load import validate_recipe
    from fer_hf.workflows import label_errors as command

    (faces / "sad" / "broken.png").unlink()
    loaded, seen = load_faces([{"source": f"folder:{faces}", "weight": 2}]), []

    def stop(path):
        raise StopAsyncIteration

    monkeypatch.setattr(command, "fit", lambda recipe, faces, run, resume: seen.append(faces.splits["train"]))
    monkeypatch.setattr(command, "load_classifier", stop)
    with pytest.raises(StopAsyncIteration):
        command._predict_out_of_fold(Run(tmp_path / "run"), validate_recipe({}), loaded, 2)
    train = Counter(loaded.splits["train"]["id"][:])
    assert set(train.values()) == {2}
    kept = Counter(seen[0]["id"][:])
    assert all(train[name] == count for name, count in kept.items())
    with pytest.raises(UserError, match=r"--folds is 20: the 58 training images can be split into \d+ at most"):
        command._predict_out_of_fold(Run(tmp_path / "run"), validate_recipe({}), loaded, 20)


def test_save_and_train_on_what_was_saved(cli, faces, tmp_path):
    code, out, err = cli("data", "save", f"folder:{faces}", "--output", "prepared")
    assert code == 0, err
    assert "dataset: prepared" in out
    there = load_faces("folder:prepared", purpose="inspection").splits["train"]
    here = load_faces(f"folder:{faces}", on_bad_image="skip", purpose="inspection").splits["train"]
    assert there["id"][:] == here["id"][:]
    np.testing.assert_array_equal(there[7]["image"], here[7]["image"])
    code, out, _ = cli("data", "push", "prepared", "--repo-id", "someone/faces", "--dry-run")
    assert (code, "nothing was sent" in out) == (0, True)

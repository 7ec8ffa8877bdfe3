"""Pictures that are classified together: what cannot be read comes last, and keeps no other back."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fer_hf.models.classifier import load_classifier
from fer_hf.workflows import predict as workflow
from fer_hf.workflows.predict import predict


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Four pictures with odd names in odd folders, and four files that are none."""
    folder = tmp_path / "pictures [1] #ü"
    (folder / "b [x]" / "*").mkdir(parents=True)
    (folder / ".hidden").mkdir()
    for number, name in enumerate(("a.PNG", "b [x]/[red]é?.png", "b [x]/*/-1.jpg", "z::1.png", ".hidden/c.png")):
        Image.effect_noise((32, 32), 20 + 60 * number).save(folder / name)
    Image.fromarray(np.full((32, 32), 40_000, np.uint16)).save(folder / "sixteen.png")
    (folder / "empty.jpg").touch()
    (folder / "cut.jpg").write_bytes((folder / "b [x]/*/-1.jpg").read_bytes()[:-40])
    (folder / "notes.txt").write_text("no picture")
    return folder


def test_a_folder_is_read_whole_and_failures_come_last(tiny_model, pictures, monkeypatch):
    monkeypatch.setattr(workflow, "BATCH_SIZE", 3)
    names = ["a.PNG", "b [x]/*/-1.jpg", "b [x]/[red]é?.png", "z::1.png"]
    good, empty = [str(pictures / name) for name in names], str(pictures / "none")
    Path(empty).mkdir()
    outside = ["https://example.org/face.jpg", str(pictures / "nowhere.png")]
    found = list(predict(tiny_model, [empty, *outside[:1], pictures, *outside[1:], good[0]]))
    assert [one.file for one in found if one.answers] == [*good, good[0]]
    expected = load_classifier(tiny_model)(good, top_k=7)
    for one, answers in zip(found[:5], [*expected, expected[0]], strict=True):
        assert [row["label"] for row in one.answers] == [row["label"] for row in answers]
        assert [row["score"] for row in one.answers] == pytest.approx([row["score"] for row in answers], abs=1e-6)
    reasons = {Path(one.file).name: one.reason for one in found[5:]}
    wanted = {
        "none": "a folder without pictures",
        "face.jpg": "an address, not a file: save the picture first",
        "cut.jpg": "truncated",
        "empty.jpg": "no image",
        "sixteen.png": "I;16, of more than 8 bits",
        "nowhere.png": "No such file or directory",
    }
    assert list(reasons) == list(wanted)
    for name, reason in wanted.items():
        assert reason in reasons[name]


def test_large_pictures_make_small_batches(tiny_model, pictures, monkeypatch):
    seen = []
    monkeypatch.setattr(workflow, "BATCH_PIXELS", 1500)
    real = workflow.load_classifier(tiny_model)

    class Counting:
        label_names = real.label_names

        def __call__(self, images, top_k):
            seen.append(len(images))
            return real(images, top_k=top_k)

    monkeypatch.setattr(workflow, "load_classifier", lambda *_: Counting())
    assert len(list(predict(tiny_model, [pictures / "a.PNG"] * 5))) == 5
    assert seen == [2, 2, 1]


def test_the_exit_code_says_whether_pictures_failed(cli, tiny_model, pictures):
    good, bad = pictures / "b [x]/[red]é?.png", pictures / "sixteen.png"
    code, out, err = cli("predict", tiny_model, bad, good, "--top-k", 1)
    assert code == 1
    assert out.startswith(f"{good}  ")
    assert f"1 of 2 could not be read.\n{bad} is no picture that can be read: its mode is I;16" in err
    code, out, err = cli("predict", tiny_model, bad, good, "--json")
    assert code == 1
    first, last = map(json.loads, out.splitlines())
    assert (first["file"], sum(first["probabilities"].values())) == (str(good), pytest.approx(1))
    assert last["file"] == str(bad)
    assert "of more than 8 bits" in last["error"]
    assert cli("predict", tiny_model, bad)[0] == 2

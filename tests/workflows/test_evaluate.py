"""Evaluation; that of several processes is tested in `tests/training/test_two_processes.py`."""

import pytest
from face_folder import write_faces

from fer_hf.data import Faces, load_faces
from fer_hf.errors import UserError
from fer_hf.models.classifier import load_classifier
from fer_hf.runs.folder import Run
from fer_hf.workflows.evaluate import EvaluationOptions, evaluate, evaluate_on


def test_what_cannot_be_evaluated_is_refused_before_the_work(tiny_model, tmp_path, monkeypatch):
    with pytest.raises(UserError, match=r"--data is missing: .*nowhere' is no run folder, which would have data of"):
        evaluate(tmp_path / "nowhere")
    (tmp_path / "file").touch()
    write_faces(tmp_path / "faces", train=1, validation=1, test=1)
    monkeypatch.setattr("fer_hf.workflows.evaluate.evaluate_on", None)
    with pytest.raises(NotADirectoryError):
        evaluate(tiny_model, f"folder:{tmp_path / 'faces'}", output=tmp_path / "file")


def test_a_split_is_hashed_and_gathered_once_for_all_that_is_evaluated_on_it(tiny_model, tmp_path, monkeypatch):
    write_faces(tmp_path / "faces", train=1, validation=1, test=1)
    faces, asked = load_faces(f"folder:{tmp_path / 'faces'}"), []
    for name in ("content", "pixels"):
        method = getattr(Faces, name)
        monkeypatch.setattr(Faces, name, lambda self, split, m=method: asked.append(m.__name__) or m(self, split))
    classifiers = [load_classifier(tiny_model), load_classifier(tiny_model)]
    found = evaluate_on(
        faces, "test", classifiers, Run(tmp_path / "run"), EvaluationOptions(["none", "flip"], alone=True)
    )
    assert sorted(asked) == ["content", "pixels"]
    assert [e.tta for e in found] == ["none", "flip", "none", "flip"]
    assert found[0] == found[2] != found[1]


def test_a_limited_test_set_says_how_many_of_how_many(tiny_model, tmp_path):
    write_faces(tmp_path / "faces", train=1, validation=1, test=5)
    faces = load_faces(f"folder:{tmp_path / 'faces'}", purpose="evaluation", test_per_class=2)
    run = Run(tmp_path / "run")
    run.path.mkdir()
    [evaluation] = evaluate_on(faces, "test", [load_classifier(tiny_model)], run, EvaluationOptions(alone=True))
    assert (evaluation.images, evaluation.images_of, evaluation.of_all) == (14, 35, " of 35")
    whole = load_faces(f"folder:{tmp_path / 'faces'}", purpose="evaluation")
    [evaluation] = evaluate_on(whole, "validation", [load_classifier(tiny_model)], run, EvaluationOptions(alone=True))
    assert (evaluation.images, evaluation.images_of, evaluation.of_all) == (7, None, "")

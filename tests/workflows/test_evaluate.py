"""Evaluation on several processes."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from face_folder import write_faces

from fer_hf.data import load_faces
from fer_hf.errors import UserError
from fer_hf.models.classifier import load_classifier
from fer_hf.runs.folder import Run
from fer_hf.runs.predictions import read_predictions
from fer_hf.workflows.evaluate import evaluate


def test_what_cannot_be_evaluated_is_refused_before_the_work(tiny_model, tmp_path, monkeypatch):
    with pytest.raises(UserError, match=r"--data is missing: .*nowhere' is no run folder, which would have data of"):
        evaluate(tmp_path / "nowhere")
    (tmp_path / "file").touch()
    write_faces(tmp_path / "faces", train=1, validation=1, test=1)
    monkeypatch.setattr("fer_hf.workflows.evaluate.evaluate_on", None)
    with pytest.raises(NotADirectoryError):
        evaluate(tiny_model, f"folder:{tmp_path / 'faces'}", output=tmp_path / "file")


def test_two_processes_evaluate_as_one(tiny_model, tmp_path):
    """`accelerate launch` on two CPU processes: 35 images do not divide evenly, and none is lost or counted twice."""
    write_faces(tmp_path / "faces", train=1, validation=1, test=5)
    command = ["-m", "fer_hf", "evaluate", tiny_model, "--data", f"folder:{tmp_path / 'faces'}", "--batch-size", "4"]
    launch = ["-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--main_process_port", "0"]
    done = subprocess.run(
        [sys.executable, *launch, *map(str, command), "--output", "two"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    predictions = read_predictions(next((tmp_path / "two" / "predictions").iterdir()))
    faces = load_faces(f"folder:{tmp_path / 'faces'}").splits["test"]
    assert predictions.ids == faces["id"][:]
    assert predictions.logits == pytest.approx(load_classifier(tiny_model).predict(faces), abs=1e-4)
    evaluation = Run(tmp_path / "two").metrics.evaluations["faces-test"]
    assert (evaluation.processes, evaluation.images) == (2, 35)
    predicted, labels = predictions.logits.argmax(axis=1), predictions.labels
    assert evaluation.accuracy == pytest.approx(np.mean(predicted == labels))
    assert np.sum(evaluation.confusion_matrix) == 35

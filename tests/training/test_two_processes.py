"""`accelerate launch` on two CPU processes: train, export and evaluate as one, checkpoint for both, resume alike.

With the techniques that could let the processes drift apart: SAM, whose first pass is not shared, mixing, sampling, and
the average of the weights. A launch takes longer than what is done in it, so there are two of them for all tests.
"""

import hashlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from face_folder import write_faces

from fer_hf.data import load_faces
from fer_hf.models.classifier import load_classifier
from fer_hf.runs.folder import Run
from fer_hf.runs.predictions import read_predictions
from fer_hf.training.checkpoints import checkpoints, step_of

RECIPE = """
model: {name: test_resnet, pretrained: false, image_size: 32, drop_rate: 0.2}
data: {source: "folder:faces"}
train:
  {num_train_epochs: 3, per_device_train_batch_size: 8, learning_rate: 1e-3, save_steps: 2, save_total_limit: null,
   report_to: [], sam_rho: 0.05, ema_decay: 0.9, sampling: class_balanced}
augment: {mixup: 0.4}
"""
COMMANDS = """
import sys
from fer_hf.cli import main
for command in sys.argv[1:]:
    sys.argv[:] = ["fer-hf", *command.split()]
    try:
        main()
    except SystemExit as stop:
        assert not stop.code, (command, stop.code)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory, tiny_model) -> Path:
    """Where two processes have trained a run, `whole`, exported it, and evaluated another model, `two`."""
    folder = tmp_path_factory.mktemp("two")
    (folder / "tiny.yaml").write_text(RECIPE)
    (folder / "commands.py").write_text(COMMANDS)
    write_faces(folder / "faces", train=9, validation=3, test=3)
    write_faces(folder / "more", train=1, validation=1, test=5)
    exports = "export.onnx=true" if importlib.util.find_spec("optimum") else ""
    train = f"train tiny.yaml {exports} --output whole"
    done = launch(folder, "commands.py", train, f"evaluate {tiny_model} --data folder:more --batch-size 4 --output two")
    assert done.returncode == 0, done.stderr
    return folder


def launch(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    options = ["--quiet", "--num_processes", "2", "--multi_gpu"]  # which means torchrun, and works on CPUs too
    command = [sys.executable, "-m", "accelerate.commands.launch", *options, "--main_process_port", "0", *arguments]
    env = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=900, check=False)


def digest(run: Run) -> str:
    return hashlib.sha256((run.model / "model.safetensors").read_bytes()).hexdigest()


def test_two_processes_train_and_resume_to_the_same_bytes(folder, cli, monkeypatch):
    whole, resumed = Run(folder / "whole"), Run(folder / "resumed")
    training = whole.metrics.training
    assert (training.processes, training.effective_batch_size, training.steps) == (2, 16, 12)
    assert whole.metrics.evaluations["faces-test"].images == 21
    newest = checkpoints(whole.checkpoints)[-1]
    assert sorted(p.name for p in newest.glob("rng_state*")) == ["rng_state_0.pth", "rng_state_1.pth"]

    resumed.checkpoints.mkdir(parents=True)
    resumed.recipe_file.write_text(whole.recipe_file.read_text().replace("onnx: true", "onnx: false"))
    for path in checkpoints(whole.checkpoints):
        if step_of(path) <= 6:  # the middle of the second epoch
            shutil.copytree(path, resumed.checkpoints / path.name)
    shutil.copytree(whole.model, resumed.model, ignore=shutil.ignore_patterns("figures", "onnx", "README.md"))
    done = launch(folder, "-m", "fer_hf", "train", "tiny.yaml", "--output", "resumed", "--resume")
    assert done.returncode == 0, done.stderr
    assert "resuming from checkpoint-6" in done.stderr
    assert digest(resumed) == digest(whole)
    assert resumed.metrics.training.history == training.history
    assert list(resumed.metrics.training.resumed_at_steps) == [6]

    shutil.rmtree(resumed.checkpoints / "checkpoint-12")
    unfinished = json.loads(resumed.metrics_file.read_text())
    del unfinished["training"], unfinished["finished"]
    resumed.metrics_file.write_text(json.dumps(unfinished))
    monkeypatch.chdir(folder)
    code, _, err = cli("train", "tiny.yaml", "--output", "resumed", "--resume")  # by one process, this
    assert code != 0
    assert "as many processes as wrote them" in " ".join(err.split())
    assert digest(resumed) == digest(whole)


@pytest.mark.export
def test_the_first_of_two_processes_exports(folder):
    evaluations = Run(folder / "whole").metrics.evaluations
    assert {name: (one.format, one.processes) for name, one in evaluations.items()} == {
        "faces-validation": ("pytorch", 2),
        "faces-test": ("pytorch", 2),
        "faces-validation-onnx": ("onnx", 1),
    }


def test_two_processes_evaluate_as_one(folder, tiny_model):
    """35 images do not divide evenly, and none is lost or counted twice."""
    predictions = read_predictions(next((folder / "two" / "predictions").iterdir()))
    faces = load_faces(f"folder:{folder / 'more'}").splits["test"]
    assert predictions.ids == faces["id"][:]
    assert predictions.logits == pytest.approx(load_classifier(tiny_model).predict(faces), abs=1e-4)
    evaluation = Run(folder / "two").metrics.evaluations["more-test"]
    assert (evaluation.processes, evaluation.images) == (2, 35)
    predicted, labels = predictions.logits.argmax(axis=1), predictions.labels
    assert evaluation.accuracy == pytest.approx(np.mean(predicted == labels))
    assert np.sum(evaluation.confusion_matrix) == 35

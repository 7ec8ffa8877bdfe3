"""`accelerate launch` on two CPU processes: trains, checkpoints for both, and resumes to the same bytes.

With the techniques that could let the processes drift apart: SAM, whose first pass is not shared, mixing, sampling, and
the average of the weights.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from face_folder import write_faces

from fer_hf.runs.folder import Run
from fer_hf.training.checkpoints import checkpoints, step_of

RECIPE = """
model: {name: test_resnet, pretrained: false, image_size: 32, drop_rate: 0.2}
train:
  {num_train_epochs: 3, per_device_train_batch_size: 8, learning_rate: 1e-3, save_steps: 2, save_total_limit: null,
   report_to: [], sam_rho: 0.05, ema_decay: 0.9, sampling: class_balanced}
augment: {mixup: 0.4}
evaluate: {splits: [test]}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("two")
    (folder / "tiny.yaml").write_text(RECIPE)
    write_faces(folder / "faces", train=9, validation=3, test=3)
    return folder


def launch(folder: Path, *arguments: str, processes: int = 2) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "accelerate.commands.launch", "--quiet", "--num_processes", str(processes)]
    command += ["--multi_gpu"] if processes > 1 else []  # which means torchrun, and works on CPUs too
    command += [
        "--main_process_port",
        "0",
        "-m",
        "fer_hf",
        "train",
        "tiny.yaml",
        "data.source=folder:faces",
        *arguments,
    ]
    env = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=900, check=False)


def digest(run: Run) -> str:
    return hashlib.sha256((run.model / "model.safetensors").read_bytes()).hexdigest()


def test_two_processes_train_and_resume_to_the_same_bytes(folder):
    whole, resumed = Run(folder / "whole"), Run(folder / "resumed")
    done = launch(folder, "--output", "whole")
    assert done.returncode == 0, done.stderr
    training = whole.metrics.training
    assert (training.processes, training.effective_batch_size, training.steps) == (2, 16, 12)
    assert whole.metrics.evaluations["faces-test"].images == 21
    newest = checkpoints(whole.checkpoints)[-1]
    assert sorted(p.name for p in newest.glob("rng_state*")) == ["rng_state_0.pth", "rng_state_1.pth"]

    resumed.checkpoints.mkdir(parents=True)
    shutil.copy(whole.recipe_file, resumed.recipe_file)
    for path in checkpoints(whole.checkpoints):
        if step_of(path) <= 6:  # the middle of the second epoch
            shutil.copytree(path, resumed.checkpoints / path.name)
    shutil.copytree(whole.model, resumed.model, ignore=shutil.ignore_patterns("figures", "README.md"))
    done = launch(folder, "--output", "resumed", "--resume")
    assert done.returncode == 0, done.stderr
    assert "resuming from checkpoint-6" in done.stderr
    assert digest(resumed) == digest(whole)
    assert resumed.metrics.training.history == training.history
    assert list(resumed.metrics.training.resumed_at_steps) == [6]

    shutil.rmtree(resumed.checkpoints / "checkpoint-12")
    unfinished = json.loads(resumed.metrics_file.read_text())
    del unfinished["training"], unfinished["finished"]
    resumed.metrics_file.write_text(json.dumps(unfinished))
    alone = launch(folder, "--output", "resumed", "--resume", processes=1)
    assert alone.returncode != 0
    assert "as many processes as wrote them" in " ".join(alone.stderr.split())
    assert digest(resumed) == digest(whole)


@pytest.mark.export
def test_the_first_of_two_processes_exports(folder):
    options = ("export.onnx=true", "train.num_train_epochs=1", "evaluate.splits=[validation]", "--output", "exported")
    done = launch(folder, *options)
    assert done.returncode == 0, done.stderr
    evaluations = Run(folder / "exported").metrics.evaluations
    assert [(one.format, one.processes) for one in evaluations.values()] == [("pytorch", 2), ("onnx", 1)]

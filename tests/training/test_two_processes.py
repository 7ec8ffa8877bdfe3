"""`accelerate launch` on two CPU processes: trains, checkpoints for both, and resumes to the same bytes.

With the techniques that could let the processes drift apart: SAM, whose first pass is not shared, mixing, sampling, and
the average of the weights. And without them: a ViT whose gradients are compressed, and one that is sharded.
"""

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from face_folder import write_faces
from safetensors.torch import load_file

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
VIT = ["model.name=test_vit", "train.sam_rho=0", "train.ema_decay=0", "train.num_train_epochs=1"]
# `accelerate` leaves FSDP out on CPUs; torch does not.
AS_ON_GPUS = """
import runpy
from accelerate import DistributedType, PartialState

begin = PartialState.__init__

def pretend(self, *arguments, **settings):
    begin(self, *arguments, **settings)
    if self.distributed_type == DistributedType.MULTI_CPU:
        self.distributed_type = DistributedType.MULTI_GPU

PartialState.__init__ = pretend
runpy.run_module("fer_hf", run_name="__main__", alter_sys=True)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("two")
    (folder / "tiny.yaml").write_text(RECIPE)
    write_faces(folder / "faces", train=9, validation=3, test=3)
    (folder / "as_on_gpus.py").write_text(AS_ON_GPUS)
    return folder


@pytest.fixture(scope="module")
def vit(folder) -> Run:
    done = launch(folder, "--output", "vit", *VIT)
    assert done.returncode == 0, done.stderr
    return Run(folder / "vit")


def launch(
    folder: Path, *arguments: str, processes: int = 2, program: tuple[str, ...] = ("-m", "fer_hf")
) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "accelerate.commands.launch", "--quiet", "--num_processes", str(processes)]
    command += ["--multi_gpu"] if processes > 1 else []  # which means torchrun, and works on CPUs too
    command += [
        "--main_process_port",
        "0",
        *program,
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
    training = whole.metrics()["training"]
    assert (training["processes"], training["effective_batch_size"], training["steps"]) == (2, 16, 12)
    assert whole.metrics()["evaluations"]["faces-test"]["images"] == 21
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
    assert resumed.metrics()["training"]["history"] == training["history"]
    assert resumed.metrics()["training"]["resumed_at_steps"] == [6]

    shutil.rmtree(resumed.checkpoints / "checkpoint-12")
    unfinished = resumed.metrics() | {"finished": None}
    del unfinished["training"], unfinished["finished"]
    resumed.metrics_file.unlink()
    resumed.update_metrics(**unfinished)
    alone = launch(folder, "--output", "resumed", "--resume", processes=1)
    assert alone.returncode != 0
    assert "as many processes as wrote them" in " ".join(alone.stderr.split())
    assert digest(resumed) == digest(whole)


def difference(run: Run, other: Run) -> float:
    """The largest, of all weights of the best models."""
    weights, others = (load_file(run.model / "model.safetensors") for run in (run, other))
    assert weights.keys() == others.keys()
    return max(float((weights[name] - others[name]).abs().max()) for name in weights)


def test_compressed_gradients_change_little(folder, vit):
    done = launch(folder, "--output", "bf16", *VIT, "train.ddp_comm_hook=bf16")
    assert done.returncode == 0, done.stderr
    assert 1e-5 < difference(Run(folder / "bf16"), vit) < 5e-3


def test_a_sharded_vit_learns_the_same_and_resumes_to_the_same_bytes(folder, vit):
    sharded, resumed = Run(folder / "sharded"), Run(folder / "sharded-resumed")
    command = [*VIT, "train.fsdp=true", "--output"]
    done = launch(folder, *command, "sharded", program=("as_on_gpus.py",))
    assert done.returncode == 0, done.stderr
    assert (sharded.checkpoints / "checkpoint-4" / "pytorch_model_fsdp.bin").is_file()
    assert difference(sharded, vit) < 1e-4

    resumed.checkpoints.mkdir(parents=True)
    shutil.copy(sharded.recipe_file, resumed.recipe_file)
    shutil.copytree(sharded.checkpoints / "checkpoint-2", resumed.checkpoints / "checkpoint-2")
    done = launch(folder, *command, "sharded-resumed", "--resume", program=("as_on_gpus.py",))
    assert done.returncode == 0, done.stderr
    assert "resuming from checkpoint-2" in done.stderr
    assert digest(resumed) == digest(sharded)


def test_a_sharded_vit_learns_in_bf16(folder, vit):
    command = [*VIT, "train.fsdp=true", "train.precision=bf16", "--output"]
    done = launch(folder, *command, "sharded-bf16", program=("as_on_gpus.py",))
    assert done.returncode == 0, done.stderr
    assert 1e-5 < difference(Run(folder / "sharded-bf16"), vit) < 5e-3

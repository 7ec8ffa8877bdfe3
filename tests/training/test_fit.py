"""Training for real, on a tiny network and a few drawn faces: resume, killing, best model, both memory formats."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import DatasetDict
from sklearn.utils.class_weight import compute_class_weight
from transformers import TrainingArguments

import fer_hf.training.fit as fitting
from fer_hf.data.readers import toy
from fer_hf.errors import FerError, UserError
from fer_hf.recipe.load import validate_recipe
from fer_hf.runs.folder import Run
from fer_hf.training import saving
from fer_hf.training.arguments import training_arguments
from fer_hf.training.checkpoints import checkpoints, defect
from fer_hf.training.fit import class_weights, fit
from fer_hf.training.summary import history

TINY = {
    "name": "tiny",
    "model": {"name": "test_resnet", "pretrained": False, "image_size": 32, "drop_rate": 0.2},
    "augment": {"erasing": 0.3},
    "train": {
        "num_train_epochs": 3,
        "per_device_train_batch_size": 8,
        "learning_rate": 3e-3,
        "save_steps": 2,
        "save_total_limit": None,
        "logging_steps": 3,
        "report_to": [],
    },
}


def recipe(**train):
    return validate_recipe(TINY | {"train": TINY["train"] | train})


@pytest.fixture(scope="module")
def splits() -> DatasetDict:
    return toy.load(train=6, validation=4, test=1, size=32)  # 42 images: 6 steps of 8 an epoch, the last one short


def new_run(path: Path) -> Run:
    run = Run(path)
    run.checkpoints.mkdir(parents=True)
    return run


def digest(run: Run) -> str:
    return hashlib.sha256((run.model / "model.safetensors").read_bytes()).hexdigest()


@pytest.fixture(scope="module")
def whole(splits, tmp_path_factory) -> Run:
    """A run that nobody disturbed."""
    run = new_run(tmp_path_factory.mktemp("runs") / "whole")
    fit(recipe(), splits, run)
    return run


def test_what_a_run_leaves(whole):
    training = whole.metrics()["training"]
    assert (training["steps"], training["epochs"]) == (18, 3.0)
    assert [row["step"] for row in training["history"]] == [6, 12, 18]
    best = max(training["history"], key=lambda row: row["macro_f1"])
    assert training["best"]["step"] == best["step"]
    assert training["best"]["value"] == pytest.approx(best["macro_f1"])
    assert [path.name for path in checkpoints(whole.checkpoints)] == [f"checkpoint-{n}" for n in range(2, 19, 2)]
    assert sorted(path.name for path in whole.model.iterdir()) == ["config.json", "model.safetensors"]
    assert not list(whole.path.rglob(".*"))
    assert training["seconds"] > 0
    assert whole.metrics()["model"]["image_size"] == [32, 32]


@pytest.mark.parametrize("step", [2, 4, 6, 10, 18])
def test_resumed_from_any_checkpoint_it_ends_in_the_same_bytes(whole, splits, tmp_path, step):
    run = new_run(tmp_path / "resumed")
    for path in checkpoints(whole.checkpoints):
        if int(path.name.split("-")[1]) <= step:
            subprocess.run(["cp", "-r", path, run.checkpoints], check=True)
    if step >= 6:  # an evaluation has been made by then
        subprocess.run(["cp", "-r", whole.model, run.model], check=True)
    fit(recipe(), splits, run, resume=True)
    ours, theirs = run.metrics()["training"], whole.metrics()["training"]
    assert ours["history"] == theirs["history"]
    assert ours["best"] == theirs["best"]
    assert ours["resumed_at_steps"] == ([] if step == 18 else [step])
    assert digest(run) == digest(whole)


KILLED = """
import sys
from tests.training.test_fit import recipe
from fer_hf.data import toy
from fer_hf.runs.folder import Run
from fer_hf.training.fit import fit
fit(recipe(), toy.load(train=6, validation=4, test=1, size=32), Run(sys.argv[1]), resume=True)
"""


def test_killed_three_times_it_ends_in_the_same_bytes(whole, tmp_path):
    """kill -9 as soon as a given number of checkpoints is there; what is being written at that moment is torn."""
    run = new_run(tmp_path / "killed")
    root = Path(__file__).parents[2]
    env = os.environ | {"PYTHONPATH": str(root)}
    command = [sys.executable, "-c", KILLED, str(run.path)]
    for target in (1, 4, 7):
        process = subprocess.Popen(command, cwd=root, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        deadline = time.monotonic() + 900
        while len(checkpoints(run.checkpoints)) < target and process.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        _, errors = process.communicate()
        assert process.returncode in (-signal.SIGKILL, 0), errors.decode()
    subprocess.run(command, cwd=root, env=env, check=True, capture_output=True)
    assert digest(run) == digest(whole)
    assert run.metrics()["training"]["history"] == whole.metrics()["training"]["history"]
    assert 1 <= len(run.metrics()["training"]["resumed_at_steps"]) <= 3


def test_a_damaged_newest_checkpoint_is_passed_over(whole, splits, tmp_path, capfd):
    run = new_run(tmp_path / "damaged")
    for path in checkpoints(whole.checkpoints)[:3]:
        subprocess.run(["cp", "-r", path, run.checkpoints], check=True)
    (run.checkpoints / "checkpoint-6" / "optimizer.pt").unlink()
    fit(recipe(), splits, run, resume=True)
    said = capfd.readouterr().err
    assert "checkpoint-6: optimizer.pt is missing" in said
    assert "resuming from checkpoint-4" in said
    assert digest(run) == digest(whole)


@pytest.mark.parametrize(("file", "what"), [("rng_state.pth", "checkpoint-6"), ("optimizer.pt", "the last checkpoint")])
def test_disk_full_while_saving_keeps_the_last_checkpoint(splits, tmp_path, monkeypatch, file, what):
    """In the way of training, and beside it."""
    run = new_run(tmp_path / "full")
    saved = torch.save

    def full(state, path, *args, **kwargs):
        if "checkpoint-6" in str(path) and Path(path).name == file:
            raise OSError(28, "No space left on device")
        return saved(state, path, *args, **kwargs)

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(FerError, match=rf"{what} could not be written.*No space left.*--resume") as error:
        fit(recipe(), splits, run)
    assert error.value.exit_code == 1
    assert [path.name for path in checkpoints(run.checkpoints)] == ["checkpoint-2", "checkpoint-4"]
    assert not (run.checkpoints / ".staging").exists()


@pytest.mark.parametrize(("owner", "name"), [(saving.Trainer, "_save"), (saving, "publish")])
def test_training_goes_on_while_a_checkpoint_is_written_and_sealed(splits, tmp_path, monkeypatch, owner, name):
    """It holds what was so when it was due, not what training has made of it since."""
    expected = new_run(tmp_path / "expected")
    fit(recipe(ema_decay=0.9), splits, expected)
    losses, due, went_on = [], [], []
    classification_loss, write = fitting.classification_loss, getattr(owner, name)

    def counted(*args):
        losses.append(1)
        return classification_loss(*args)

    class Writer(ThreadPoolExecutor):
        def submit(self, *args):
            due.append(len(losses))
            return super().submit(*args)

    def waits_for_a_step(*args):
        deadline = time.monotonic() + 300
        while len(losses) == due[0] and time.monotonic() < deadline:
            time.sleep(0.01)
        went_on.append(len(losses) > due[0])
        return write(*args)

    monkeypatch.setattr(saving, "ThreadPoolExecutor", Writer)
    monkeypatch.setattr(fitting, "classification_loss", counted)
    monkeypatch.setattr(owner, name, waits_for_a_step)
    run = new_run(tmp_path / "run")
    fit(recipe(ema_decay=0.9), splits, run)
    assert went_on[0]
    assert len(went_on) == 9
    for path, other in zip(checkpoints(run.checkpoints), checkpoints(expected.checkpoints), strict=True):
        for file in ("model.safetensors", "optimizer.pt", "scheduler.pt", "weight_average.pt"):
            assert (path / file).read_bytes() == (other / file).read_bytes()


def test_disk_full_while_sealing_keeps_the_last_checkpoint(splits, tmp_path, monkeypatch):
    publish, sealed = saving.publish, []

    def full(staged, *args):
        if sealed:
            raise OSError(28, "No space left on device")
        sealed.append(staged)
        publish(staged, *args)

    monkeypatch.setattr(saving, "publish", full)
    run = new_run(tmp_path / "full")
    with pytest.raises(FerError, match=r"the last checkpoint could not be written.*No space left.*--resume"):
        fit(recipe(), splits, run)
    assert [path.name for path in checkpoints(run.checkpoints)] == ["checkpoint-2"]
    assert not (run.checkpoints / ".staging").exists()


def test_ctrl_c_while_a_checkpoint_is_sealed_leaves_it_whole(splits, tmp_path, monkeypatch):
    publish, interrupted, futures = saving.publish, threading.Event(), []

    def slow(*args):
        interrupted.wait(30)
        publish(*args)

    def interrupt():
        interrupted.set()
        raise KeyboardInterrupt

    class Writer(ThreadPoolExecutor):
        def submit(self, *args):
            future = super().submit(*args)
            futures.append(future.result)
            future.result = interrupt
            return future

    monkeypatch.setattr(saving, "publish", slow)
    monkeypatch.setattr(saving, "ThreadPoolExecutor", Writer)
    run = new_run(tmp_path / "run")
    with pytest.raises(KeyboardInterrupt):
        fit(recipe(), splits, run)
    for result in futures:
        result()
    assert [(path.name, defect(path)) for path in checkpoints(run.checkpoints)] == [("checkpoint-2", None)]


def test_a_profile_says_where_the_time_goes(splits, tmp_path):
    run = new_run(tmp_path / "profiled")
    fit(recipe(), splits, run, profile=True)
    training = run.metrics()["training"]
    parts = training["profile"]
    assert parts.keys() == {
        *("data", "augmentation", "forward", "backward", "optimiser", "checkpoint", "logging", "evaluation", "other")
    }
    assert min(parts.values()) > 0
    assert sum(parts.values()) == pytest.approx(training["seconds"], rel=0.1, abs=0.5)


def test_early_stopping_stops_and_a_resume_does_not_start_again(splits, tmp_path):
    run = new_run(tmp_path / "early")
    settings = recipe(learning_rate=1e-9, num_train_epochs=20, early_stopping_patience=2)  # nothing is ever gained
    fit(settings, splits, run)
    training = run.metrics()["training"]
    assert training["stopped_early"]
    assert training["steps"] == 18
    fit(settings, splits, run, resume=True)
    assert run.metrics()["training"]["steps"] == 18
    assert run.metrics()["training"]["history"] == training["history"]


def test_accumulation_takes_the_same_steps_as_one_large_batch(splits, tmp_path):
    """One step without augmentation, dropout or clipping: 2 x 4 images are 8 images."""
    small = {"max_steps": 1, "learning_rate": 1e-2, "warmup_ratio": 0.0, "max_grad_norm": 0.0}
    weights = []
    for name, batch, accumulation in (("large", 8, 1), ("small", 4, 2)):
        run = new_run(tmp_path / name)
        settings = recipe(**small, per_device_train_batch_size=batch, gradient_accumulation_steps=accumulation)
        settings = settings.model_copy(
            update={
                "model": settings.model.model_copy(update={"name": "test_vit", "image_size": 160, "drop_rate": 0.0}),
                "augment": settings.augment.model_copy(update={"enabled": False}),
            }
        )
        fit(settings, splits, run)
        weights.append(run.metrics()["training"]["history"][0]["validation_loss"])
    assert weights[0] == pytest.approx(weights[1], rel=1e-4)


def test_balanced_class_weights_are_scikit_learns(splits):
    train = splits["train"].select([*range(6), *range(10, 42)])
    ours = class_weights(recipe().loss.model_copy(update={"class_weights": "balanced"}), train)
    labels = np.array(train["label"][:])
    assert ours.numpy() == pytest.approx(compute_class_weight("balanced", classes=np.arange(7), y=labels), rel=1e-6)
    assert class_weights(recipe().loss, train) is None


def test_history_averages_the_losses_of_an_epoch_over_its_steps():
    log = [
        {"loss": 2.0, "learning_rate": 0.1, "step": 3},
        {"loss": 1.0, "learning_rate": 0.2, "step": 4},
        {"eval_loss": 0.5, "eval_accuracy": 0.6, "eval_macro_f1": 0.7, "epoch": 1.0, "step": 4},
    ]
    assert history(log)[0]["train_loss"] == pytest.approx((2.0 * 3 + 1.0) / 4)
    assert history(log)[0]["learning_rate"] == 0.2


def test_every_field_of_training_arguments_passes_through(tmp_path):
    args = training_arguments(recipe(adam_beta2=0.95, dataloader_num_workers=1).train, tmp_path)
    assert (args.adam_beta2, args.dataloader_num_workers) == (0.95, 1)
    assert args.get_warmup_steps(100) == 10
    assert training_arguments(recipe(warmup_steps=7).train, tmp_path).get_warmup_steps(100) == 7
    with pytest.raises(UserError, match="does not make TrainingArguments"):
        training_arguments(recipe(lr_scheduler_type="cosin").train, tmp_path)


def test_one_process_has_one_gpu(tmp_path, monkeypatch):
    """Not all that it sees: the Trainer would make a thread for each, without autocast, and with no timm model."""

    def four_gpus(self):
        self._n_gpu = 4
        return torch.device("cpu")

    there = cached_property(four_gpus)
    there.__set_name__(TrainingArguments, "_setup_devices")
    monkeypatch.setattr(TrainingArguments, "_setup_devices", there)
    assert TrainingArguments(str(tmp_path)).n_gpu == 4
    assert training_arguments(recipe().train, tmp_path).n_gpu == 1


@pytest.mark.skipif(torch.cuda.is_available(), reason="has a GPU")
def test_fp16_without_a_gpu_is_refused(tmp_path):
    with pytest.raises(UserError, match="fp16 needs a GPU"):
        training_arguments(recipe(precision="fp16").train, tmp_path)


def test_sharding_is_refused_where_accelerate_would_leave_it_out(tmp_path, monkeypatch):
    with pytest.raises(UserError, match=r"train\.fsdp needs several GPUs"):
        training_arguments(recipe(fsdp=True).train, tmp_path)
    for way in ("FSDP", "DEEPSPEED"):
        monkeypatch.setenv(f"ACCELERATE_USE_{way}", "true")
        with pytest.raises(UserError, match=r"in the recipe, train\.fsdp=true"):
            training_arguments(recipe().train, tmp_path)
        monkeypatch.delenv(f"ACCELERATE_USE_{way}")


def test_checkpoints_hold_no_best_model_state_of_another_machine(whole):
    """The Trainer's state has no absolute path in it, so a run folder can be moved and resumed elsewhere."""
    for path in checkpoints(whole.checkpoints):
        state = json.loads((path / "trainer_state.json").read_text())
        assert state["best_model_checkpoint"] is None

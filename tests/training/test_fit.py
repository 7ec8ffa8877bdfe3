"""Training for real, on a tiny network and a few drawn faces: resume, killing, best model, both memory formats."""

import hashlib
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cached_property
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate.data_loader import BatchSamplerShard
from rich.console import Console
from sklearn.utils.class_weight import compute_class_weight
from tiny_training import WHOLE, make_trainer, read, recipe, train
from torch.utils.data import BatchSampler, SequentialSampler
from transformers import TrainingArguments
from transformers.trainer_callback import TrainerState

from fer_hf.errors import FerError, UserError
from fer_hf.recipe.checks import PASSED_ON
from fer_hf.runs.folder import Run
from fer_hf.training import losses, saving
from fer_hf.training.arguments import training_arguments
from fer_hf.training.build import class_weights
from fer_hf.training.callbacks import ProgressLine
from fer_hf.training.checkpoints import checkpoints, defect, go_back, step_of
from fer_hf.training.fit import history
from fer_hf.training.hooks import HookedTrainer


def digest(run: Run) -> str:
    return hashlib.sha256((run.model / "model.safetensors").read_bytes()).hexdigest()


def stopped_after(whole: Run, path: Path, step: int) -> Run:
    """What `whole` had written when it came to `step`."""
    run = Run(path)
    for checkpoint in checkpoints(whole.checkpoints):
        if step_of(checkpoint) <= step:
            shutil.copytree(checkpoint, run.checkpoints / checkpoint.name)
    if step >= 4:  # an evaluation has been made by then
        shutil.copytree(whole.model, run.model)
    return run


def test_the_process_is_left_as_it_was(whole, splits, tmp_path, monkeypatch):
    monkeypatch.setattr("fer_hf.training.fit.check_loads_again", None)  # it has passed this check
    run, threads = stopped_after(whole, tmp_path / "run", 12), torch.get_num_threads()
    torch.set_num_threads(3)  # a number that no training chooses
    before = dict(os.environ)
    try:
        train(run.path, splits, resume=True, **WHOLE)
        assert (torch.get_num_threads(), dict(os.environ)) == (3, before)
    finally:
        torch.set_num_threads(threads)


def test_what_a_run_leaves(whole):
    training = whole.metrics.training
    assert (training.steps, training.epochs) == (12, 3.0)
    assert [epoch.step for epoch in training.history] == [4, 8, 12]
    best = max(training.history, key=lambda epoch: epoch.macro_f1)
    assert training.best.step == best.step
    assert training.best.value == pytest.approx(best.macro_f1)
    assert [path.name for path in checkpoints(whole.checkpoints)] == [f"checkpoint-{n}" for n in range(2, 13, 2)]
    assert sorted(path.name for path in whole.model.iterdir()) == ["config.json", "model.safetensors"]
    assert not list(whole.path.rglob(".*"))
    assert training.seconds > 0
    assert training.profile is None
    assert list(whole.metrics.model.image_size) == [32, 32]


@pytest.mark.parametrize("step", [4, 6, 12])
def test_resumed_from_any_checkpoint_it_ends_in_the_same_bytes(whole, splits, tmp_path, step):
    """At the end of an epoch, within the next, and when all was done."""
    run = stopped_after(whole, tmp_path / "resumed", step)
    train(run.path, splits, resume=True, **WHOLE)
    assert run.metrics.training.history == whole.metrics.training.history
    assert run.metrics.training.best == whole.metrics.training.best
    assert list(run.metrics.training.resumed_at_steps) == ([] if step == 12 else [step])
    assert digest(run) == digest(whole)


KILLED = """
import os, sys
from tiny_training import WHOLE, Run, draw, train
workers = {"dataloader_num_workers": 2, "dataloader_prefetch_factor": 4}
for _ in range(2):
    child = os.fork()  # libraries are loaded once
    if not child:
        run = Run(sys.argv[1])
        run.checkpoints.mkdir(parents=True, exist_ok=True)
        run.lock()
        train(run.path, draw(), resume=True, **WHOLE | {"train": WHOLE["train"] | workers})
        os._exit(0)
    print(child, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
    sys.stdin.readline()
"""


def test_killed_twice_it_ends_in_the_same_bytes(whole, splits, tmp_path):
    """kill -9 as soon as a given number of checkpoints is there; what is being written at that moment is torn.

    It has workers that outlive it for seconds: they do not hold its lock.
    """
    run = Run(tmp_path / "killed")
    tests = Path(__file__).parents[1]
    env = os.environ | {"PYTHONPATH": f"{tests.parent}{os.pathsep}{tests}"}
    command, pipe = [sys.executable, "-c", KILLED, str(run.path)], subprocess.PIPE
    with subprocess.Popen(command, env=env, stdin=pipe, stdout=pipe, text=True) as parent:
        for target in (1, 4):
            child, deadline = int(parent.stdout.readline()), time.monotonic() + 900
            while len(checkpoints(run.checkpoints)) < target and parent.poll() is None:
                assert time.monotonic() < deadline
                time.sleep(0.002)
            with suppress(ProcessLookupError):  # it was faster
                os.kill(child, signal.SIGKILL)
            assert int(parent.stdout.readline()) in (-signal.SIGKILL, 0)
            run.lock()
            run.unlock()
            print(file=parent.stdin, flush=True)
    train(run.path, splits, resume=True, **WHOLE)
    assert digest(run) == digest(whole)
    assert run.metrics.training.history == whole.metrics.training.history
    assert 1 <= len(run.metrics.training.resumed_at_steps) <= 2


def test_gone_back_to_a_chosen_checkpoint_it_ends_in_the_same_bytes(whole, splits, tmp_path):
    run = stopped_after(whole, tmp_path / "run", 10)
    os.utime(run.model / "model.safetensors")  # written since
    assert go_back(run, "6") == f"what came after checkpoint-6 has been moved to {run.path / 'aside' / '1'}"
    assert [step_of(path) for path in checkpoints(run.checkpoints)] == [2, 4, 6]
    assert sorted(path.name for path in (run.path / "aside" / "1").iterdir()) == ["checkpoints", "model"]
    train(run.path, splits, resume=True, **WHOLE)
    assert digest(run) == digest(whole)
    assert list(run.metrics.training.resumed_at_steps) == [6]
    assert read(run.model).keys() == read(whole.model).keys()


def test_without_its_best_model_the_best_of_what_follows_is_kept(splits, tmp_path):
    """Every figure is as good as the other, so that none would be better than what went aside."""
    frozen = {"learning_rate": 1e-9, "stages": [{"trainable": "head"}], "num_train_epochs": 2}
    run = train(tmp_path / "whole", splits, train=frozen)
    assert run.metrics.training.best.step == 4
    again = Run(tmp_path / "again")
    shutil.copytree(run.checkpoints / "stage-1" / "checkpoint-4", again.checkpoints / "stage-1" / "checkpoint-4")
    train(again.path, splits, resume=True, train=frozen)
    assert again.finished_model()


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ("5", "--resume-from 5: there is no such checkpoint in .* which has checkpoint-2, checkpoint-4"),
        ("checkpoint-4", "checkpoint-4 cannot be resumed from: optimizer.pt is missing. Choose another one"),
        ("stage-1/checkpoint-2", "there is no such checkpoint"),
    ],
)
def test_a_checkpoint_that_cannot_be_chosen_moves_nothing(whole, tmp_path, wanted, message):
    run = stopped_after(whole, tmp_path, 4)
    (run.checkpoints / "checkpoint-4" / "optimizer.pt").unlink()
    with pytest.raises(UserError, match=message):
        go_back(run, wanted)
    assert not (run.path / "aside").exists()
    assert len(checkpoints(run.checkpoints)) == 2


def test_a_checkpoint_of_a_stage_is_chosen_by_its_path(whole, tmp_path):
    run = Run(tmp_path)
    for stage, step in ((1, 2), (1, 4), (2, 4), (10, 2)):
        place = run.checkpoints / f"stage-{stage}" / f"checkpoint-{step}"
        shutil.copytree(whole.checkpoints / place.name, place)
    with pytest.raises(UserError, match="several checkpoints are called so"):
        go_back(run, "4")
    go_back(run, "stage-2/checkpoint-4")
    assert not list((run.checkpoints / "stage-10").iterdir())
    go_back(run, str(run.checkpoints / "stage-1" / "checkpoint-2"))
    left = [path.relative_to(run.checkpoints).as_posix() for path in run.checkpoints.glob("*/*")]
    assert left == ["stage-1/checkpoint-2"]
    assert sorted(path.name for path in (run.path / "aside").iterdir()) == ["1", "2"]


def test_a_damaged_newest_checkpoint_is_passed_over(whole, splits, tmp_path, log):
    run = stopped_after(whole, tmp_path / "damaged", 4)
    (run.checkpoints / "checkpoint-4" / "optimizer.pt").unlink()
    train(run.path, splits, resume=True, **WHOLE)
    assert "checkpoint-4: optimizer.pt is missing" in log.text
    assert "resuming from checkpoint-2" in log.text
    assert digest(run) == digest(whole)


@pytest.mark.parametrize(("file", "what"), [("rng_state.pth", "checkpoint-6"), ("optimizer.pt", "the last checkpoint")])
def test_disk_full_while_saving_keeps_the_last_checkpoint(splits, tmp_path, monkeypatch, file, what):
    """In the way of training, and beside it."""
    saved = torch.save

    def full(state, path, *args, **kwargs):
        if "checkpoint-6" in str(path) and Path(path).name == file:
            raise OSError(28, "No space left on device")
        return saved(state, path, *args, **kwargs)

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(FerError, match=rf"{what} could not be written.*No space left.*--resume") as error:
        train(tmp_path, splits)
    assert error.value.exit_code == 1
    assert [path.name for path in checkpoints(tmp_path / "checkpoints")] == ["checkpoint-2", "checkpoint-4"]
    assert not (tmp_path / "checkpoints" / ".staging").exists()


@pytest.mark.parametrize(("owner", "name"), [(HookedTrainer, "save_weights"), (saving, "publish")])
def test_training_goes_on_while_a_checkpoint_is_written_and_sealed(whole, splits, tmp_path, monkeypatch, owner, name):
    """It holds what was so when it was due, not what training has made of it since."""
    steps, due, went_on = [], [], []
    classification_loss, write = losses.classification_loss, getattr(owner, name)

    def counted(*args):
        steps.append(1)
        return classification_loss(*args)

    class Writer(ThreadPoolExecutor):
        def submit(self, *args):
            due.append(len(steps))
            return super().submit(*args)

    def waits_for_a_step(*args):
        deadline = time.monotonic() + 300
        while len(steps) == due[0] and time.monotonic() < deadline:
            time.sleep(0.01)
        went_on.append(len(steps) > due[0])
        return write(*args)

    monkeypatch.setattr(saving, "ThreadPoolExecutor", Writer)
    monkeypatch.setattr(losses, "classification_loss", counted)
    monkeypatch.setattr(owner, name, waits_for_a_step)
    run = train(tmp_path, splits, **WHOLE)
    assert went_on[0]
    assert len(went_on) == 6
    for path, other in zip(checkpoints(run.checkpoints), checkpoints(whole.checkpoints), strict=True):
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
    with pytest.raises(FerError, match=r"the last checkpoint could not be written.*No space left.*--resume"):
        train(tmp_path, splits)
    assert [path.name for path in checkpoints(tmp_path / "checkpoints")] == ["checkpoint-2"]
    assert not (tmp_path / "checkpoints" / ".staging").exists()


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
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, splits)
    for result in futures:
        result()
    assert [(path.name, defect(path)) for path in checkpoints(tmp_path / "checkpoints")] == [("checkpoint-2", None)]


def test_a_profile_says_where_the_time_goes(splits, tmp_path):
    training = train(tmp_path, splits, profile=True).metrics.training
    assert training.profile.keys() == {
        *("data", "augmentation", "forward", "backward", "optimiser", "checkpoint", "logging", "evaluation", "other")
    }
    assert min(training.profile.values()) > 0
    assert sum(training.profile.values()) == pytest.approx(training.seconds, rel=0.1, abs=0.5)


def test_early_stopping_stops_and_a_resume_does_not_start_again(splits, tmp_path):
    settings = {"learning_rate": 1e-9, "num_train_epochs": 20, "early_stopping_patience": 2}
    settings["stages"] = [{"trainable": "head"}]  # nothing is ever gained, since batch norm's statistics are frozen
    first = train(tmp_path, splits, train=settings).metrics.training
    assert first.stopped_early
    assert first.steps == 12
    again = train(tmp_path, splits, resume=True, train=settings).metrics.training
    assert (again.steps, again.history) == (12, first.history)


def test_the_log_has_a_line_for_each_evaluation_and_now_and_then_one_of_progress(splits, tmp_path, log, monkeypatch):
    monkeypatch.setattr("fer_hf.training.callbacks.LINE_EVERY", 0.0)
    train(tmp_path, splits, train={"num_train_epochs": 1})
    lines = [record.getMessage() for record in log.records]
    [header] = [number for number, line in enumerate(lines) if line.startswith("epoch   step   train loss")]
    assert lines[header + 1].split()[:2] == ["1.0", "4"]
    assert any(line.startswith("  step 2 of 4, epoch 0.5/1: loss ") and line.endswith("images/s") for line in lines)


def test_no_progress_is_drawn_where_it_is_switched_off(monkeypatch):
    monkeypatch.setattr("fer_hf.training.callbacks.console", console := Console(file=StringIO(), force_terminal=True))
    for shown in (False, True):
        monkeypatch.setattr("fer_hf.training.callbacks.progress_shown", lambda shown=shown: shown)
        line = ProgressLine(images_per_step=8)
        line.on_train_begin(None, TrainerState(max_steps=4), None)
        assert line.bar.live.is_started is shown
        line.on_step_end(None, TrainerState(max_steps=4, epoch=0.5, num_train_epochs=1), None)
        line.stop()
        assert not line.bar.live.is_started
    assert console.is_terminal


def test_accumulation_takes_the_same_steps_as_one_large_batch(splits, tmp_path):
    """One step without augmentation, dropout or clipping: 2 x 4 images are 8 images."""
    settings = {"max_steps": 1, "learning_rate": 1e-2, "warmup_ratio": 0.0, "max_grad_norm": 0.0}
    validation_losses = []
    for batch, accumulation in ((8, 1), (4, 2)):
        run = train(
            tmp_path / str(batch),
            splits,
            model={"name": "test_vit"},
            augment={"enabled": False},
            train=settings | {"per_device_train_batch_size": batch, "gradient_accumulation_steps": accumulation},
        )
        validation_losses.append(run.metrics.training.history[0].validation_loss)
    assert validation_losses[0] == pytest.approx(validation_losses[1], rel=1e-4)


def test_balanced_class_weights_are_scikit_learns(splits):
    train = splits["train"].select([*range(4), *range(7, 28)])
    ours = class_weights(recipe().loss.model_copy(update={"class_weights": "balanced"}), train)
    labels = np.array(train["label"][:])
    assert ours.numpy() == pytest.approx(compute_class_weight("balanced", classes=np.arange(7), y=labels), rel=1e-6)
    assert class_weights(recipe().loss, train) is None


def test_history_averages_losses_over_steps_and_accuracy_over_images():
    log = [
        {"loss": 2.0, "learning_rate": 0.1, "step": 3, "accuracy": 0.5, "images": 24},
        {"loss": 1.0, "learning_rate": 0.2, "step": 4, "accuracy": 1.0, "images": 6},
        {"eval_loss": 0.5, "eval_accuracy": 0.6, "eval_macro_f1": 0.7, "epoch": 1.0, "step": 4},
    ]
    assert history(log)[0].train_loss == pytest.approx((2.0 * 3 + 1.0) / 4)
    assert history(log)[0].learning_rate == 0.2
    assert history(log)[0].train_accuracy == pytest.approx(18 / 30)
    assert history([{"loss": 2.0, "learning_rate": 0.1, "step": 3}, log[2]])[0].train_accuracy is None


PASSED = {
    "max_steps": 2,
    "gradient_accumulation_steps": 2,
    "warmup_steps": 1,
    "optim": "adamw_torch",
    "optim_args": "foo=1",
    "adam_beta1": 0.8,
    "adam_beta2": 0.95,
    "adam_epsilon": 1e-7,
    "lr_scheduler_kwargs": {"num_cycles": 0.4},
    "tf32": None,
    "use_cpu": True,
    "full_determinism": False,
    "logging_first_step": True,
    "logging_strategy": "epoch",
    "eval_accumulation_steps": 1,
    "torch_empty_cache_steps": 1,
    "gradient_checkpointing": True,
    "gradient_checkpointing_kwargs": {"use_reentrant": False},
    "dataloader_num_workers": 1,
    "dataloader_prefetch_factor": 3,
    "dataloader_multiprocessing_context": "fork",
    "dataloader_drop_last": True,
    "dataloader_pin_memory": False,
    "dataloader_persistent_workers": True,
    "ddp_bucket_cap_mb": 5,
    "ddp_find_unused_parameters": True,
    "ddp_broadcast_buffers": False,
    "ddp_static_graph": False,
    "project": "faces",
    "trackio_space_id": None,
    "trackio_bucket_id": None,
}
"""A value of each field that is passed on, with which two steps can be made."""


def test_every_field_that_is_passed_on_works(splits, tmp_path):
    of_5_alone = {"activation_checkpointing", "activation_checkpointing_kwargs"}  # other names of gradient_...
    assert PASSED.keys() == PASSED_ON.keys() - of_5_alone
    settings = {key: value for key, value in PASSED.items() if key in TrainingArguments.__dataclass_fields__}
    args = training_arguments(recipe(train=settings), tmp_path)
    for key in settings.keys() - {"dataloader_drop_last"}:  # which is of training images alone
        assert getattr(args, key) == settings[key]
    run = train(tmp_path, splits, model={"name": "test_vit"}, train=settings)
    assert run.metrics.training.steps == 2


def test_warm_up_is_a_share_or_a_number_of_steps(tmp_path):
    assert training_arguments(recipe(), tmp_path).get_warmup_steps(100) == 10
    assert training_arguments(recipe(train={"warmup_steps": 7}), tmp_path).get_warmup_steps(100) == 7


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"lr_scheduler_type": "cosin"}, "train.lr_scheduler_type='cosin' .the default.: cosin is not a valid"),
        ({"lr_scheduler_kwargs": {"cycles": 1}}, "train.lr_scheduler_kwargs=.*unexpected keyword argument 'cycles'"),
        ({"lr_scheduler_type": "cosine_with_min_lr"}, "train.lr_scheduler_type=.*min_lr"),
        ({"optim": "adamm"}, "train.optim='adamm' .*adamm is not a valid OptimizerNames"),
        ({"optim": "lomo"}, "train.optim='lomo' .*lomo"),
        ({"adam_beta1": 2.0, "optim": "adamw_torch"}, "train.optim='adamw_torch' .*Invalid beta parameter"),
        ({"report_to": ["wandbb"]}, r"train.report_to=\['wandbb'\] .*wandbb is not supported, only azure_ml"),
    ],
)
def test_what_transformers_would_find_out_later_is_found_now(tmp_path, settings, message):
    with pytest.raises(UserError, match=message):
        training_arguments(recipe(train=settings), tmp_path)


@pytest.mark.skipif(importlib.util.find_spec("wandb") is not None, reason="wandb is installed")
def test_a_package_that_is_missing_is_named(tmp_path):
    with pytest.raises(UserError, match=r"train.report_to=.*pip install wandb"):
        training_arguments(recipe(train={"report_to": ["wandb"]}), tmp_path)


def test_no_checkpointing_of_a_network_that_has_none(splits, tmp_path):
    changes = {"model": {"attention": True}, "train": {"gradient_checkpointing": True}}
    with pytest.raises(UserError, match=r"train.gradient_checkpointing \(.*\): test_resnet has no checkpointing"):
        make_trainer(tmp_path, splits, **changes)


@pytest.mark.parametrize(
    ("settings", "sizes"),
    [
        ({}, [8, 8, 8, 4]),
        ({"per_device_train_batch_size": 9}, [9, 9, 9]),  # 28 images: the last one alone
        ({"per_device_train_batch_size": 27}, [27]),
        ({"per_device_train_batch_size": 9, "sampling": "class_balanced"}, [9, 9, 9]),
        ({"per_device_train_batch_size": 9, "gradient_accumulation_steps": 2}, [9, 9, 9]),
        ({"per_device_train_batch_size": 9, "dataloader_num_workers": 1}, [9, 9, 9]),
        ({"dataloader_drop_last": True}, [8, 8, 8]),
    ],
)
def test_no_image_is_alone_in_the_last_batch(splits, tmp_path, settings, sizes):
    trainer = make_trainer(tmp_path, splits, train=settings)
    assert [len(batch["labels"]) for batch in trainer.get_train_dataloader()] == sizes
    assert sum(len(batch["labels"]) for batch in trainer.get_eval_dataloader()) == len(splits["validation"])


def test_workers_that_stay_draw_nothing_that_a_resume_would_draw_again(splits, tmp_path):
    settings = {"dataloader_num_workers": 1, "dataloader_persistent_workers": True}
    trainer = make_trainer(tmp_path, splits, train=settings)
    state = torch.get_rng_state()
    for loader in (trainer.get_train_dataloader(), trainer.get_eval_dataloader()):
        next(iter(loader))
    assert torch.equal(torch.get_rng_state(), state)


def test_several_processes_fill_up_their_last_batches():
    """This is accelerate's doing: no process has a single image."""
    for process in (0, 1):
        batches = BatchSampler(SequentialSampler(range(9)), 4, drop_last=False)
        assert [len(batch) for batch in BatchSamplerShard(batches, 2, process)] == [4, 4]


def test_a_lone_image_is_left_out_and_a_resume_goes_on_alike(splits, tmp_path, log):
    settings = {"train": {"per_device_train_batch_size": 9}}
    whole = train(tmp_path / "whole", splits, **settings)
    assert log.text.count("28 images in batches of 9: the one left over, another in each epoch, is left out") == 1
    assert whole.metrics.training.steps == 6
    resumed = stopped_after(whole, tmp_path / "resumed", 4)
    train(resumed.path, splits, resume=True, **settings)
    assert digest(resumed) == digest(whole)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"per_device_train_batch_size": 1}, "needs two images or more in a batch: raise train.per_device_train_batch"),
        ({"per_device_train_batch_size": 99, "dataloader_drop_last": True}, "nothing of 28 images in batches of 99"),
    ],
)
def test_batches_that_cannot_be_trained_on(splits, tmp_path, settings, message):
    with pytest.raises(UserError, match=message):
        train(tmp_path, splits, train=settings)


def test_one_process_has_one_gpu(tmp_path, monkeypatch):
    """Not all that it sees: the Trainer would make a thread for each, without autocast, and with no timm model."""

    def four_gpus(self):
        self._n_gpu = 4
        return torch.device("cpu")

    there = cached_property(four_gpus)
    there.__set_name__(TrainingArguments, "_setup_devices")
    monkeypatch.setattr(TrainingArguments, "_setup_devices", there)
    assert TrainingArguments(str(tmp_path)).n_gpu == 4
    assert training_arguments(recipe(), tmp_path).n_gpu == 1


@pytest.mark.skipif(torch.cuda.is_available(), reason="has a GPU")
def test_fp16_without_a_gpu_is_refused(tmp_path):
    with pytest.raises(UserError, match="fp16 needs a GPU"):
        training_arguments(recipe(train={"precision": "fp16"}), tmp_path)


def test_sharding_by_a_launcher_is_refused(tmp_path, monkeypatch):
    for way in ("FSDP", "DEEPSPEED"):
        monkeypatch.setenv(f"ACCELERATE_USE_{way}", "true")
        with pytest.raises(UserError, match=f"asks for {way}: models are not sharded here"):
            training_arguments(recipe(), tmp_path)
        monkeypatch.delenv(f"ACCELERATE_USE_{way}")


def test_checkpoints_hold_no_best_model_state_of_another_machine(whole):
    """The Trainer's state has no absolute path in it, so a run folder can be moved and resumed elsewhere."""
    for path in checkpoints(whole.checkpoints):
        state = json.loads((path / "trainer_state.json").read_text())
        assert state["best_model_checkpoint"] is None

"""Techniques in whole trainings on a tiny network: what they do to the weights, and that a resume loses none of it."""

import os
import shutil
import signal
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from datasets import Dataset, DatasetDict, Features, Sequence, Value
from tiny_training import WHOLE, make_trainer, read, same, train
from transformers import set_seed

from fer_hf.errors import FerError, TerminatedError, UserError
from fer_hf.images.batches import FaceDataset
from fer_hf.images.spec import ImageSpec
from fer_hf.images.transforms import EvalTransform
from fer_hf.models.load import load_model
from fer_hf.runs.folder import Run
from fer_hf.training.checkpoints import checkpoints, step_of
from fer_hf.training.losses import classification_loss, distillation_loss
from fer_hf.training.sampling import ClassBalancedSampler
from fer_hf.training.teacher import Teacher
from fer_hf.training.trainer import FerTrainer

STAGES = [
    {"trainable": "head", "num_train_epochs": 1, "learning_rate": 1e-2},
    {"trainable": ["layer4"], "num_train_epochs": 1, "lr_scheduler_type": "one_cycle"},
    {"num_train_epochs": 1},
]


def weights(run: Run) -> dict[str, torch.Tensor]:
    return read(run.model)


EVERYTHING = {
    "augment": {"mixup": 0.4, "cutmix": 1.0},
    "train": {
        "sam_rho": 0.05,
        "ema_decay": 0.9,
        "sampling": "class_balanced",
        "layer_decay": 0.7,
        "gradient_accumulation_steps": 2,
        "lr_scheduler_type": "one_cycle",
        "optim": "sgd",
        "save_steps": 1,
        "progressive_sizes": [24],
    },
}


def test_with_everything_on_a_resume_ends_in_the_same_bytes(splits, tmp_path):
    whole = train(tmp_path / "whole", splits, **EVERYTHING)
    resumed = Run(tmp_path / "resumed")
    for path in checkpoints(whole.checkpoints):
        if step_of(path) <= 3:  # the middle of the second epoch, whose images are larger
            shutil.copytree(path, resumed.checkpoints / path.name)
    shutil.copytree(whole.model, resumed.model)
    train(resumed.path, splits, resume=True, **EVERYTHING)
    assert same(weights(resumed), weights(whole))
    assert resumed.metrics.training.history == whole.metrics.training.history


@pytest.fixture(scope="module")
def staged(splits, tmp_path_factory) -> Run:
    return train(tmp_path_factory.mktemp("staged"), splits, train={"stages": STAGES})


def test_stages_train_what_they_say(staged, splits):
    training = staged.metrics.training
    assert [(stage.steps, stage.learning_rate) for stage in training.stages] == [(4, 0.01), (4, 0.003), (4, 0.003)]
    assert [epoch.step for epoch in training.history] == [4, 8, 12]
    assert [epoch.epoch for epoch in training.history] == [1, 2, 3]
    assert training.best.value == max(epoch.macro_f1 for epoch in training.history)
    set_seed(42)
    begun = load_model("test_resnet", splits["train"].features["label"].names, pretrained=False, image_size=32).model
    states = [{name.removeprefix("timm_model."): value for name, value in begun.state_dict().items()}]
    states += [read(checkpoints(staged.checkpoints / f"stage-{n}")[-1]) for n in (1, 2, 3)]
    changed = [{name for name in a if not torch.equal(a[name], b[name])} for a, b in pairwise(states)]
    assert changed[0] == {"fc.weight", "fc.bias"}
    assert changed[1]
    assert all(name.startswith(("layer4.", "fc.")) for name in changed[1])  # nor batch norm's statistics elsewhere
    assert any(name.startswith("layer1.") for name in changed[2])


@pytest.mark.parametrize(("stage", "step"), [(1, 2), (1, 4), (2, 2)])
def test_resumed_inside_and_between_stages(staged, splits, tmp_path, stage, step):
    resumed = Run(tmp_path / "resumed")
    for number in range(1, stage + 1):
        for path in checkpoints(staged.checkpoints / f"stage-{number}"):
            if number < stage or step_of(path) <= step:
                shutil.copytree(path, resumed.checkpoints / f"stage-{number}" / path.name)
    if (stage, step) != (1, 2):
        kept = [epoch.macro_f1 for epoch in staged.metrics.training.history]
        if kept.index(max(kept)) < stage - (step < 4):
            shutil.copytree(staged.model, resumed.model)
    train(resumed.path, splits, resume=True, train={"stages": STAGES})
    assert same(weights(resumed), weights(staged))
    assert resumed.metrics.training.history == staged.metrics.training.history


def test_each_stage_has_its_own_autocast_and_draws_its_own_batches(splits, tmp_path, monkeypatch):
    seen, dtypes = [], []

    def watched(logits, targets, *args):
        seen.append(targets.argmax(1).tolist())
        return classification_loss(logits, targets, *args)

    forward = torch.nn.Linear.forward
    monkeypatch.setattr("fer_hf.training.losses.classification_loss", watched)
    monkeypatch.setattr(
        torch.nn.Linear, "forward", lambda self, x: dtypes.append((out := forward(self, x)).dtype) or out
    )
    stages = [{"num_train_epochs": 1}, {"num_train_epochs": 1}]
    train(tmp_path, splits, train={"stages": stages, "precision": "bf16"}, augment={"mixup": 0.4})
    assert set(dtypes[2:]) == {torch.bfloat16}  # the first two are those of the check that it can be loaded again
    assert seen[:4] != seen[4:]


def test_images_grow_over_the_epochs_and_evaluation_is_at_the_models_size(splits, tmp_path, monkeypatch):
    sizes = []
    forward = torch.nn.Conv2d.forward
    monkeypatch.setattr(
        torch.nn.Conv2d,
        "forward",
        lambda self, x: (sizes.append((x.shape[-1], self.training)) if x.shape[1] == 3 else None) or forward(self, x),
    )
    train(tmp_path, splits, train={"num_train_epochs": 4, "progressive_sizes": [16, 24], "report_to": []})
    sizes = sizes[5:]  # each size is tried first, loading it again, and the memory that the last one takes
    trained = [size for size, training in sizes if training]
    assert trained == [16] * 4 + [24] * 8 + [32] * 4  # 1.33 epochs each, in whole ones
    assert {size for size, training in sizes if not training} == {32}


def test_sizes_that_a_model_cannot_take_are_refused(splits, tmp_path):
    model = {"name": "test_vit", "pretrained": False, "image_size": 32}
    with pytest.raises(UserError, match=r"train\.progressive_sizes \(.*\): test_vit takes no images of 24 pixels"):
        train(tmp_path, splits, model=model, train={"progressive_sizes": [24]})


def test_a_stage_of_parts_that_do_not_exist_is_refused_before_the_first_step(splits, tmp_path):
    stages = [{"trainable": "head"}, {"trainable": ["blocks.9"]}]
    with pytest.raises(
        UserError, match=r"train\.stages\.1\.trainable \(.*\): no part of the model is called 'blocks\.9'"
    ):
        train(tmp_path, splits, train={"stages": stages})
    assert not checkpoints(tmp_path / "checkpoints" / "stage-1")


def test_the_recipe_decides_on_the_precision_whatever_the_environment_says(splits, tmp_path, monkeypatch):
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    assert make_trainer(tmp_path, splits).accelerator.mixed_precision == "no"
    assert make_trainer(tmp_path, splits, train={"precision": "bf16"}).accelerator.mixed_precision == "bf16"
    assert make_trainer(tmp_path, splits).accelerator.mixed_precision == "no"


ONE_STEP = {  # of plain SGD, on all 28 images
    "max_steps": 1,
    "optim": "sgd",
    "momentum": 0.0,
    "learning_rate": 0.1,
    "warmup_ratio": 0.0,
    "lr_scheduler_type": "constant",
    "max_grad_norm": 0.0,
    "weight_decay": 0.0,
    "per_device_train_batch_size": 28,
}


def test_sam_takes_the_step_of_the_paper(splits, tmp_path):
    """Written out: up by rho * g / |g|, gradient there, down from the old weights.

    On a network without kinks: the batch comes in another order, and where a ReLU turns over, last digits matter.
    """
    network = {"name": "test_vit", "pretrained": False, "image_size": 32}
    run = train(tmp_path, splits, model=network, train=ONE_STEP | {"sam_rho": 0.5}, augment={"enabled": False})
    set_seed(42)
    loaded = load_model("test_vit", splits["train"].features["label"].names, pretrained=False, image_size=32)
    model = loaded.model.train()
    batch = FaceDataset(splits["train"]).__getitems__(range(28))
    pixels = EvalTransform(ImageSpec.from_processor(loaded.processor))(batch["images"])
    parameters = list(model.parameters())
    first = torch.autograd.grad(F.cross_entropy(model(pixel_values=pixels).logits, batch["labels"]), parameters)
    norm = torch.cat([g.flatten() for g in first]).norm()
    before = [p.detach().clone() for p in parameters]
    with torch.no_grad():
        for p, g in zip(parameters, first, strict=True):
            p.add_(0.5 * g / norm)
    second = torch.autograd.grad(F.cross_entropy(model(pixel_values=pixels).logits, batch["labels"]), parameters)
    saved = weights(run)
    for (name, _), old, gradient in zip(model.named_parameters(), before, second, strict=True):
        assert torch.allclose(saved[name.removeprefix("timm_model.")], old - 0.1 * gradient, atol=1e-5), name


def test_batch_norm_counts_the_first_of_sams_two_passes_alone(splits, tmp_path):
    batch, statistics = FaceDataset(splits["train"]).__getitems__(range(8)), []
    for rho in (0.0, 0.5):
        trainer = make_trainer(tmp_path, splits, train={"sam_rho": rho}, augment={"enabled": False})
        trainer.training_step(trainer.model, dict(batch))
        statistics.append({name: v for name, v in trainer.model.state_dict().items() if "running" in name})
    assert statistics[0]
    assert same(*statistics)


def test_sam_climbs_for_each_accumulated_batch_and_adds_their_gradients(splits, tmp_path):
    """One batch twice, at half its weight each time, is that batch."""
    batch = FaceDataset(splits["train"]).__getitems__(range(8))
    gradients = []
    for steps in (1, 2):
        settings = {"sam_rho": 0.5, "gradient_accumulation_steps": steps}
        trainer = make_trainer(tmp_path, splits, train=settings, augment={"enabled": False})
        for _ in range(steps):
            trainer.training_step(trainer.model, dict(batch))
        gradients.append([p.grad.clone() for p in trainer.model.parameters()])
    for one, two in zip(*gradients, strict=True):
        assert torch.allclose(one, two, atol=1e-5)


def test_the_average_is_evaluated_and_saved_and_training_goes_on_from_the_weights(splits, tmp_path):
    settings = {"num_train_epochs": 1, "save_steps": 1}
    plain = train(tmp_path / "plain", splits, train=settings)
    averaged = train(tmp_path / "averaged", splits, train=settings | {"ema_decay": 0.9})
    each = [read(path) for path in checkpoints(plain.checkpoints)]
    assert same(each[-1], read(checkpoints(averaged.checkpoints)[-1]))
    mean = {name: value.clone() for name, value in each[0].items()}
    for step, state in enumerate(each[1:], 2):
        decay = min(0.9, 1 - (1 + step - 1) ** (-2 / 3))
        for name, value in state.items():
            mean[name] = decay * mean[name] + (1 - decay) * value if value.is_floating_point() else value
    saved = weights(averaged)
    assert all(torch.allclose(saved[name], value, atol=1e-6) for name, value in mean.items())
    assert not same(saved, each[-1])


def test_one_cycle_rises_over_the_warm_up_and_falls_to_almost_nothing(splits, tmp_path):
    trainer = make_trainer(tmp_path, splits, train={"lr_scheduler_type": "one_cycle", "warmup_ratio": 0.25})
    rates = [trainer.logged_learning_rate()]
    for _ in range(15):
        trainer.optimizer.step()
        trainer.lr_scheduler.step()
        rates.append(trainer.logged_learning_rate())
    assert np.argmax(rates) == 4 - 1  # a quarter of 16 steps, counted from 0
    assert max(rates) == pytest.approx(3e-3, rel=0.2)
    assert rates[-1] < 1e-5
    with pytest.raises(UserError, match="one_cycle needs 4 steps or more, not 3"):
        train(tmp_path, splits, train={"lr_scheduler_type": "one_cycle", "max_steps": 3})


def test_plateau_lowers_the_rate_when_the_chosen_metric_does_not_rise(splits, tmp_path):
    plateau = {"lr_scheduler_type": "reduce_lr_on_plateau", "num_train_epochs": 6, "learning_rate": 1e-6}
    plateau |= {"lr_scheduler_kwargs": {"factor": 0.5, "patience": 1, "threshold": 0.5}}
    plateau["stages"] = [{"trainable": "head"}]  # at this rate, with batch norm's statistics frozen, no metric moves
    run = train(tmp_path, splits, train=plateau)
    logged = [epoch.learning_rate for epoch in run.metrics.training.history]
    assert logged == pytest.approx([1e-6, 1e-6, 1e-6, 5e-7, 5e-7, 2.5e-7])


def test_class_balanced_sampling():
    labels = np.repeat([0, 1, 2, 3], [4, 60, 300, 36])
    sampler = ClassBalancedSampler(labels, seed=5)
    drawn = list(sampler)
    assert drawn == list(sampler)
    sampler.set_epoch(1)
    assert drawn != list(sampler)
    assert len(drawn) == len(set(drawn)) == 400  # each draw of a row has a number of its own
    counts = np.zeros(4)
    for epoch in range(20):
        sampler.set_epoch(epoch)
        counts += np.bincount(labels[np.array(list(sampler)) % 400], minlength=4)
    assert counts / counts.sum() == pytest.approx([0.25] * 4, abs=0.02)


def test_a_row_drawn_again_has_an_augmentation_of_its_own(splits):
    faces = FaceDataset(splits["train"])
    batch = faces.__getitems__([3, 3 + 28])
    assert torch.equal(*batch["images"])
    assert batch["index"] == [3, 4]


def test_soft_labels_reach_the_loss(splits, tmp_path):
    features = Features({**splits["train"].features, "soft_label": Sequence(Value("float32"), length=7)})
    shares = np.random.default_rng(0).dirichlet(np.ones(7), size=28)
    rows = [row | {"soft_label": share} for row, share in zip(splits["train"], shares, strict=True)]
    soft = DatasetDict(train=Dataset.from_list(rows, features=features), validation=splits["validation"])
    trainer = make_trainer(tmp_path, soft, loss={"soft_labels": True})
    trainer.model.train()
    batch = trainer.prepare_batch(trainer.train_dataset.__getitems__(range(8)))
    assert torch.allclose(batch["labels"], torch.tensor(shares[:8], dtype=torch.float32))
    loss, outputs = trainer.compute_loss(trainer.model, batch, return_outputs=True)
    assert torch.allclose(loss, F.cross_entropy(outputs["logits"], batch["labels"]))
    with pytest.raises(UserError, match=r"loss\.soft_labels .* no soft labels"):
        train(tmp_path / "none", splits, loss={"soft_labels": True})


def test_a_student_learns_its_teacher_and_refuses_one_with_other_labels(whole, splits, tmp_path):
    names = splits["train"].features["label"].names
    loaded = load_model(str(whole.path))
    pixels = EvalTransform(ImageSpec.from_processor(loaded.processor))(
        torch.randint(0, 256, (4, 1, 32, 32), dtype=torch.uint8)
    )
    expected = loaded.model(pixel_values=pixels).logits
    spec = ImageSpec.from_processor(loaded.processor)
    turned = Teacher(str(whole.path), names[::-1], spec, torch.device("cpu"), "loss.teacher")(pixels)
    assert torch.allclose(turned, expected.flip(1), atol=1e-4)
    with pytest.raises(UserError, match=r"loss\.teacher .*other labels.*contempt"):
        Teacher(str(whole.path), [*names, "contempt"], spec, torch.device("cpu"), "loss.teacher (x.yaml, line 3)")

    heard = {"teacher": str(whole.path), "teacher_weight": 0.7, "temperature": 2.0}
    trainer = make_trainer(tmp_path, splits, loss=heard)
    trainer.model.train()
    batch = trainer.prepare_batch(trainer.train_dataset.__getitems__(range(8)))
    assert torch.allclose(batch["teacher_logits"], loaded.model(pixel_values=batch["pixel_values"]).logits, atol=1e-4)
    loss, outputs = trainer.compute_loss(trainer.model, batch, return_outputs=True)
    taught = distillation_loss(outputs["logits"], batch["teacher_logits"], 2.0)
    assert torch.allclose(loss, 0.3 * F.cross_entropy(outputs["logits"], batch["labels"]) + 0.7 * taught)


def test_a_loss_that_is_not_a_number_stops_and_keeps_the_checkpoints_before(splits, tmp_path, monkeypatch):
    calls = []

    def poisoned(logits, targets, *args):
        calls.append(1)
        return F.cross_entropy(logits, targets) * (float("nan") if len(calls) == 6 else 1)

    monkeypatch.setattr("fer_hf.training.losses.classification_loss", poisoned)
    with pytest.raises(FerError, match=r"the loss of step 6 is nan, at a learning rate of 0\.00\d+.*checkpoints"):
        train(tmp_path, splits)
    assert [path.name for path in checkpoints(tmp_path / "checkpoints")] == ["checkpoint-2", "checkpoint-4"]


def test_on_a_gpu_the_loss_is_looked_at_when_it_is_logged():
    """To look at it earlier is to wait for the GPU at each step."""
    looked = []
    loss = SimpleNamespace(device=torch.device("cuda"), item=lambda: looked.append(1) or float("nan"))
    trainer = SimpleNamespace(args=SimpleNamespace(logging_steps=3), diverged=FerError)
    for step in (0, 1):
        trainer.state = SimpleNamespace(global_step=step)
        assert FerTrainer.finite(trainer, loss) is loss
    assert not looked
    trainer.state = SimpleNamespace(global_step=2)
    with pytest.raises(FerError, match="the loss of step 3 is nan"):
        FerTrainer.finite(trainer, loss)


def test_weights_that_are_not_finite_are_not_saved(splits, tmp_path):
    with pytest.raises(FerError, match=r"Training diverged: (after step 2|the loss of step 2)"):
        train(
            tmp_path, splits, train={"learning_rate": 1e38, "warmup_ratio": 0.0, "optim": "sgd", "max_grad_norm": 0.0}
        )
    assert not checkpoints(tmp_path / "checkpoints")


def test_sigterm_saves_and_a_resume_ends_in_the_same_bytes(whole, splits, tmp_path, monkeypatch):
    seldom = WHOLE | {"train": WHOLE["train"] | {"save_steps": 1000}}
    before = signal.getsignal(signal.SIGTERM)
    calls = []

    def signalled(*args):
        calls.append(1)
        if len(calls) == 6:
            os.kill(os.getpid(), signal.SIGTERM)
        return classification_loss(*args)

    monkeypatch.setattr("fer_hf.training.losses.classification_loss", signalled)
    with pytest.raises(TerminatedError, match=r"SIGTERM after step 6, which is saved.*--resume") as stop:
        train(tmp_path, splits, **seldom)
    assert stop.value.exit_code == 143
    assert signal.getsignal(signal.SIGTERM) == before
    run = train(tmp_path, splits, resume=True, **seldom)
    assert list(run.metrics.training.resumed_at_steps) == [6]
    assert same(weights(run), weights(whole))

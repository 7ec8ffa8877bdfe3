"""The batch that fits, on a machine whose memory ends at a number of images."""

import shutil

import pytest
import torch
from tiny_training import make_trainer, train

from fer_hf.errors import UserError
from fer_hf.runs.folder import Run
from fer_hf.training.batch_size import largest_that_fits
from fer_hf.training.trainer import FerTrainer

MODEL = {"drop_rate": 0.2}
FIND = {"per_device_train_batch_size": 12, "auto_find_batch_size": True}


@pytest.fixture
def room(monkeypatch):
    """Memory for so many images in training, and so many in evaluation."""
    compute_loss, room = FerTrainer.compute_loss, {True: 10**6, False: 10**6}

    def limited(self, model, inputs, *args, **kwargs):
        if len(inputs["labels"]) > room[self.model.training]:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")
        return compute_loss(self, model, inputs, *args, **kwargs)

    monkeypatch.setattr(FerTrainer, "compute_loss", limited)
    return room


@pytest.mark.parametrize(("room", "size"), [(100, 12), (12, 12), (11, 6), (5, 4), (1, 1)])
def test_the_largest_divisor_that_fits_is_found(room, size):
    def attempt(images: int) -> None:
        if images > room:
            raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate")

    assert largest_that_fits(12, attempt) == size


def test_what_does_not_fit_at_all_and_other_errors_are_raised():
    def attempt(size: int) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory." if size > 4 else "CUDA out of memory. One image")

    with pytest.raises(torch.OutOfMemoryError):
        largest_that_fits(12, attempt)
    with pytest.raises(ZeroDivisionError):
        largest_that_fits(12, lambda size: print(1 / 0))


def test_smaller_batches_are_accumulated_to_the_same_steps_also_where_a_resume_has_more_room(
    splits, tmp_path, room, log
):
    room[True] = 5
    whole = train(tmp_path / "whole", splits, model=MODEL, train=FIND)
    assert "12 images do not fit into memory: batches of 4, 3 of them for one" in log.text
    assert (whole.metrics.training.effective_batch_size, whole.metrics.training.steps) == (12, 6)
    resumed = Run(tmp_path / "resumed")
    shutil.copytree(whole.checkpoints / "checkpoint-2", resumed.checkpoints / "checkpoint-2")
    room[True] = 100
    train(resumed.path, splits, resume=True, model=MODEL, train=FIND)
    assert resumed.metrics.training.effective_batch_size == 12
    weights = [(run.checkpoints / "checkpoint-6" / "model.safetensors").read_bytes() for run in (whole, resumed)]
    assert weights[0] == weights[1]


def test_looking_for_a_batch_changes_nothing(splits, tmp_path):
    states = []
    for find in (False, True):
        trainer = make_trainer(tmp_path, splits, model=MODEL, train=FIND | {"auto_find_batch_size": find})
        batch = trainer.train_dataset.__getitems__(range(12))
        states.append([trainer.training_step(trainer.model, batch), *trainer.model.state_dict().values()])
        states[-1] += [parameter.grad for parameter in trainer.model.parameters()]
    assert all(torch.equal(one, other) for one, other in zip(*states, strict=True))


@pytest.mark.parametrize(
    ("training", "what"),
    [
        (True, r"12 images of 32 x 32 pixels at once: lower .*, or set train\.auto_find_batch_size=true"),
        (False, r"128 images of 32 x 32 pixels at once: lower train\.per_device_eval_batch_size"),
    ],
)
def test_out_of_memory_says_what_to_lower(splits, tmp_path, room, training, what):
    room[training] = 3
    with pytest.raises(UserError, match=rf"Out of memory with {what}"):
        train(tmp_path, splits, train={"per_device_train_batch_size": 12, "num_train_epochs": 1})


def test_memory_for_the_largest_images_is_tried_first(splits, tmp_path, monkeypatch):
    sizes, compute_loss = [], FerTrainer.compute_loss

    def limited(self, model, inputs, *args, **kwargs):
        sizes.append(inputs["pixel_values"].shape[-1])
        if sizes[-1] > 24:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")
        return compute_loss(self, model, inputs, *args, **kwargs)

    monkeypatch.setattr(FerTrainer, "compute_loss", limited)
    with pytest.raises(UserError, match="Out of memory with 8 images of 32 x 32 pixels"):
        make_trainer(tmp_path, splits, train={"progressive_sizes": [24]})
    assert sizes == [32]


def test_not_even_one_image(splits, tmp_path, room):
    room[True] = 0
    with pytest.raises(UserError, match=r"train\.per_device_train_batch_size"):
        make_trainer(tmp_path, splits, train=FIND)

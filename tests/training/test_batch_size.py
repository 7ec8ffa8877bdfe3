"""The batch that fits, on a machine whose memory ends at a number of images."""

import shutil

import pytest
import torch
from datasets import DatasetDict

from fer_hf.data.readers import toy
from fer_hf.errors import UserError
from fer_hf.recipe.load import validate_recipe
from fer_hf.runs.folder import Run
from fer_hf.training.batch_size import largest_that_fits
from fer_hf.training.fit import fit
from fer_hf.training.trainer import FerTrainer


@pytest.fixture(scope="module")
def splits() -> DatasetDict:
    return toy.load(train=4, validation=2, test=1, size=32)  # 28 images


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


def train(folder, splits, resume=False, **settings) -> Run:
    run = Run(folder)
    run.checkpoints.mkdir(parents=True, exist_ok=True)
    settings = {"num_train_epochs": 2, "per_device_train_batch_size": 12, "report_to": []} | settings
    model = {"name": "test_resnet", "pretrained": False, "image_size": 32, "drop_rate": 0.2}
    fit(validate_recipe({"model": model, "train": settings}), splits, run, resume)
    return run


@pytest.mark.parametrize(("room", "found"), [(100, 12), (12, 12), (11, 6), (5, 4), (1, 1)])
def test_the_largest_divisor_that_fits_is_found(room, found):
    def attempt(size: int) -> None:
        if size > room:
            raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate")

    assert largest_that_fits(12, attempt) == found


def test_what_does_not_fit_at_all_and_other_errors_are_raised():
    def attempt(size: int) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory." if size > 4 else "CUDA out of memory. One image")

    with pytest.raises(torch.OutOfMemoryError):
        largest_that_fits(12, attempt)
    with pytest.raises(ZeroDivisionError):
        largest_that_fits(12, lambda size: print(1 / 0))


def test_smaller_batches_are_accumulated_to_the_same_steps(splits, tmp_path, room, capfd):
    room[True] = 5
    training = train(tmp_path, splits, auto_find_batch_size=True).metrics()["training"]
    assert "12 images do not fit into memory: batches of 4, 3 of them for one" in capfd.readouterr().err
    assert (training["effective_batch_size"], training["steps"]) == (12, 6)


def test_a_resume_keeps_the_batch_also_where_there_is_more_room(splits, tmp_path, room):
    room[True] = 5
    whole = train(tmp_path / "whole", splits, auto_find_batch_size=True, save_steps=2, save_total_limit=None)
    resumed = Run(tmp_path / "resumed")
    shutil.copytree(whole.checkpoints / "checkpoint-2", resumed.checkpoints / "checkpoint-2")
    room[True] = 100
    train(resumed.path, splits, resume=True, auto_find_batch_size=True, save_steps=2, save_total_limit=None)
    assert resumed.metrics()["training"]["effective_batch_size"] == 12
    weights = [(run.checkpoints / "checkpoint-6" / "model.safetensors").read_bytes() for run in (whole, resumed)]
    assert weights[0] == weights[1]


def test_looking_for_a_batch_changes_nothing(splits, tmp_path):
    weights = [
        (train(tmp_path / str(find), splits, auto_find_batch_size=find).model / "model.safetensors").read_bytes()
        for find in (False, True)
    ]
    assert weights[0] == weights[1]


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
        train(tmp_path, splits)


def test_memory_for_the_largest_images_is_tried_first(splits, tmp_path, monkeypatch):
    sizes, compute_loss = [], FerTrainer.compute_loss

    def limited(self, model, inputs, *args, **kwargs):
        sizes.append(inputs["pixel_values"].shape[-1])
        if sizes[-1] > 24:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")
        return compute_loss(self, model, inputs, *args, **kwargs)

    monkeypatch.setattr(FerTrainer, "compute_loss", limited)
    with pytest.raises(UserError, match="Out of memory with 12 images of 32 x 32 pixels"):
        train(tmp_path, splits, progressive_sizes=[24], num_train_epochs=2)
    assert sizes == [32]


def test_not_even_one_image(splits, tmp_path, room):
    room[True] = 0
    with pytest.raises(UserError, match=r"train\.per_device_train_batch_size"):
        train(tmp_path, splits, auto_find_batch_size=True)

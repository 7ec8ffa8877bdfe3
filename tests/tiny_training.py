"""A recipe that trains in seconds on a few drawn faces, and what tests ask of its runs."""

from pathlib import Path

import torch
from datasets import DatasetDict
from safetensors.torch import load_file
from transformers import set_seed

from fer_hf.data.readers import toy
from fer_hf.recipe.load import validate_recipe
from fer_hf.recipe.schema import Recipe
from fer_hf.runs.folder import Run
from fer_hf.training.build import TrainerBuilder
from fer_hf.training.fit import fit
from fer_hf.training.trainer import FerTrainer

TINY = {
    "model": {"name": "test_resnet", "pretrained": False, "image_size": 32},
    "train": {
        "num_train_epochs": 2,
        "per_device_train_batch_size": 8,
        "learning_rate": 3e-3,
        "save_steps": 2,
        "save_total_limit": None,
        "logging_steps": 1,
        "report_to": [],
    },
}
WHOLE = {
    "model": {"drop_rate": 0.2},
    "augment": {"erasing": 0.3},
    "train": {"num_train_epochs": 3, "logging_steps": 3, "ema_decay": 0.9},
}
"""The run that others are held against: the fixture `whole`."""


def recipe(**sections: dict) -> Recipe:
    """A recipe on top of `TINY`."""
    return validate_recipe({name: TINY.get(name, {}) | sections.get(name, {}) for name in {*TINY, *sections}})


def draw() -> DatasetDict:
    """28 training images: 4 steps of 8 an epoch, the last one short."""
    return toy.load(train=4, validation=2, test=1, size=32)


def train(folder: Path, splits: DatasetDict, resume: bool = False, profile: bool = False, **sections: dict) -> Run:
    """Train `recipe(**sections)` in a folder."""
    run = Run(folder)
    run.checkpoints.mkdir(parents=True, exist_ok=True)
    fit(recipe(**sections), splits, run, resume, profile)
    return run


def make_trainer(folder: Path, splits: DatasetDict, **sections: dict) -> FerTrainer:
    """The trainer of the first stage of `recipe(**sections)`, ready for `training_step`."""
    settings = recipe(**sections)
    set_seed(settings.train.seed)
    builder = TrainerBuilder(settings, splits, Run(folder))
    trainer = builder.trainer(builder.stages[0], builder.arguments(builder.stages[0]))
    trainer.create_optimizer_and_scheduler(16)
    trainer.current_gradient_accumulation_steps = trainer.args.gradient_accumulation_steps
    return trainer


def read(folder: Path) -> dict[str, torch.Tensor]:
    """Weights by timm's names; transformers 5 saves them with a prefix."""
    return {name.removeprefix("timm_model."): value for name, value in load_file(folder / "model.safetensors").items()}


def same(first: dict, second: dict) -> bool:
    """Whether two state dicts are equal to the last bit."""
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)

"""What a training looks at: images of every kind, decoded once."""

import math

import numpy as np
import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, Image, Value
from PIL import Image as Pillow

from fer_hf.data import cache
from fer_hf.emotions import LABEL_SETS
from fer_hf.errors import UserError
from fer_hf.images.spec import ImageSpec
from fer_hf.models.load import load_model
from fer_hf.recipe.load import validate_recipe
from fer_hf.runs.folder import Run
from fer_hf.training.build import batches
from fer_hf.training.fit import fit

KINDS = [("L", 48, 48), ("RGB", 48, 48), ("RGBA", 30, 60), ("L", 1, 1), ("RGB", 200, 90), ("P", 20, 20), ("1", 9, 5)]
BASE = {
    "model": {"name": "test_resnet", "pretrained": False, "image_size": 32},
    "train": {"num_train_epochs": 1, "per_device_train_batch_size": 8, "report_to": []},
}


def split(seed: int) -> Dataset:
    """Two faces of each kind, so one of each kind in each half of the batch."""
    random = np.random.default_rng(seed)
    images = [
        Pillow.fromarray(random.integers(0, 256, (height, width, 3), dtype=np.uint8)).convert(mode)
        for mode, height, width in KINDS * 2
    ]
    columns = {"image": images, "label": [*range(7)] * 2, "id": [str(row) for row in range(14)]}
    features = {"image": Image(), "label": ClassLabel(names=list(LABEL_SETS["fer7"])), "id": Value("string")}
    return Dataset.from_dict(columns, features=Features(features))


@pytest.mark.parametrize("augment", [True, False])
def test_images_of_all_kinds_and_sizes_train(tmp_path, augment):
    splits = DatasetDict(train=split(0), validation=split(1), test=split(2))
    run = Run(tmp_path)
    run.checkpoints.mkdir(parents=True)
    fit(validate_recipe(BASE | {"augment": {"enabled": augment}}), splits, run)
    [epoch] = run.metrics.training.history
    assert math.isfinite(epoch.train_loss)
    assert math.isfinite(epoch.validation_loss)


def test_images_are_kept_as_large_as_the_smallest_crop_needs_them(tmp_path, monkeypatch):
    monkeypatch.setattr(cache, "folder", lambda: tmp_path)
    recipe = validate_recipe(BASE | {"augment": {"crop_scale": [0.25, 1.0]}})
    spec = ImageSpec.from_processor(
        load_model("test_resnet", LABEL_SETS["fer7"], pretrained=False, image_size=32).processor
    )
    assert batches(recipe, split(0), spec, training=True).pixels.shape == (14, 3, 64, 64)
    assert batches(recipe, split(0), spec).pixels is None  # evaluation looks at them as they are


def test_sizes_grow_towards_the_models_own(tmp_path):
    splits = DatasetDict(train=split(0), validation=split(1))
    recipe = validate_recipe(BASE | {"train": BASE["train"] | {"progressive_sizes": [32], "num_train_epochs": 2}})
    with pytest.raises(UserError, match="32 is not below the 32 x 32 pixels"):
        fit(recipe, splits, Run(tmp_path))

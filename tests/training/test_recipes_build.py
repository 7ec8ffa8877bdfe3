"""Every shipped recipe makes training arguments, a model of its architecture and its transforms, without a download."""

import pytest
import timm
import torch

from fer_hf.emotions import label_names
from fer_hf.images.spec import ImageSpec
from fer_hf.images.transforms import TrainTransform
from fer_hf.models.load import load_model
from fer_hf.recipe.load import load_recipe, shipped_recipes
from fer_hf.runs.folder import Run
from fer_hf.training.arguments import training_arguments
from fer_hf.training.build import plan_stages
from fer_hf.training.parameters import set_trainable

RECIPES = sorted(path for path in shipped_recipes().rglob("*.yaml") if path.name != "study.yaml")


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_recipe_builds(path, tmp_path):
    recipe = load_recipe(path)
    assert training_arguments(recipe, tmp_path).num_train_epochs == recipe.train.num_train_epochs
    if not timm.is_model(recipe.model.name.removeprefix("timm/")):
        pytest.skip(f"{recipe.model.name} lies on the Hub; its kind is tested with a tiny model of the same labels")
    labels = label_names(recipe.data.label_set)
    settings = recipe.model.model_dump(exclude={"name", "pretrained", "weights"})
    loaded = load_model(recipe.model.name, labels, pretrained=False, **settings)
    for stage in plan_stages(recipe, Run(tmp_path)):
        set_trainable(loaded.model, stage.trainable, stage.key)
        training_arguments(recipe, stage.folder, stage.train)
    spec = ImageSpec.from_processor(loaded.processor)
    transform = TrainTransform(
        spec, 2, recipe.train.seed, **recipe.augment.model_dump(exclude={"enabled", "mixup", "cutmix"})
    )
    images = torch.randint(0, 256, (2, 1, 48, 48), dtype=torch.uint8)
    with torch.inference_mode():
        logits = loaded.model.eval()(pixel_values=transform(images, [0, 1], epoch=0)).logits
    assert logits.shape == (2, len(labels))

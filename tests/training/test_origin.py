"""What a run records of where its weights come from."""

import json

import pytest
import torch
from tiny_training import recipe

from fer_hf.models.load import load_model
from fer_hf.models.network import network
from fer_hf.runs.folder import Run
from fer_hf.training.build import TrainerBuilder, parent_of


@pytest.fixture(scope="module")
def ancestor(tmp_path_factory) -> Run:
    """A run from random weights, as far as its records tell."""
    run = Run(tmp_path_factory.mktemp("runs") / "20260131-175900")
    run.model.mkdir(parents=True)
    run.recipe_file.write_text("name: scratch\n")
    (run.model / "config.json").write_text("{}")
    run.update(name="scratch", model={"pretrained": False, "notes": ["A note."]})
    return run


def test_a_run_that_is_fine_tuned_again_is_named_with_what_it_began_with(ancestor, tmp_path):
    for name in (ancestor.path, ancestor.model):
        parent = parent_of(str(name))
        assert (parent.parent, parent.pretrained) == ("scratch/20260131-175900", False)
    published = tmp_path / "published"  # as it is downloaded from the Hub: model and metrics.json in one folder
    published.mkdir()
    (published / "metrics.json").write_text(json.dumps({"name": "b0", "model": {"base_model": "timm/x"}}))
    assert (parent_of(str(published)).parent, parent_of(str(published)).base_model) == ("b0/published", "timm/x")
    (tmp_path / "bare").mkdir()
    assert (parent_of(str(tmp_path / "bare")).parent, parent_of("timm/resnet18").parent) == ("bare", None)


def test_random_weights_a_file_and_a_parent_are_told_apart(splits, ancestor, tiny_model, tmp_path):
    def described(**model):
        return TrainerBuilder(recipe(model=model), splits, Run(tmp_path)).describe_model()

    random = described()
    assert (random.pretrained, random.weights, random.parent, random.attention) == (False, None, None, None)
    bare = network(load_model("test_resnet", ["happy", "sad"], pretrained=False, image_size=32).model)
    torch.save(bare.state_dict(), tmp_path / "faces.pt")
    filled = described(pretrained=True, weights=str(tmp_path / "faces.pt"))
    assert (filled.pretrained, filled.weights, filled.base_model) == (True, "faces.pt", None)
    child = described(name=str(tiny_model), pretrained=True, image_size=None)
    assert (child.parent, child.pretrained) == ("model", True)  # nothing is recorded of that folder
    again = described(name=str(tiny_model), pretrained=False, image_size=None)
    assert (again.parent, again.pretrained) == (None, False)  # the architecture alone
    assert described(name="test_efficientnet", attention=True).attention

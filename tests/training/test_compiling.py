"""torch.compile in whole trainings, and the estimate of whether it is worth it."""

from types import SimpleNamespace

import pytest
import timm
import torch
from safetensors.torch import load_file
from transformers import set_seed

from fer_hf.data import toy
from fer_hf.emotions import LABEL_SETS
from fer_hf.errors import UserError
from fer_hf.models.load import load_model, save_model
from fer_hf.recipe_file import validate_recipe
from fer_hf.run import Run
from fer_hf.training import compiling
from fer_hf.training.compiling import repays, should_compile
from fer_hf.training.fit import fit

needs_a_compiler = pytest.mark.skipif(not compiling.compiler(), reason="needs a C++ compiler: apt-get install g++")


def flat(folder) -> torch.Tensor:
    """All weights of a folder, in the order of their names."""
    weights = load_file(folder / "model.safetensors")
    return torch.cat([weights[name].flatten().double() for name in sorted(weights)])


@needs_a_compiler
def test_compiled_it_learns_the_same(tmp_path, capfd):
    """Whole batches alone are compiled: the short last one and those of evaluation run as they are."""
    splits = toy.load(train=4, validation=2, test=1, size=32)  # 28 images: 3 steps of 8, one of 4
    seen = []
    runs = {}
    for name, compile in (("eager", False), ("compiled", True)):
        runs[name] = run = Run(tmp_path / name)
        run.checkpoints.mkdir(parents=True)
        settings = {"num_train_epochs": 2, "per_device_train_batch_size": 8, "learning_rate": 1e-2, "report_to": []}
        recipe = validate_recipe(
            {
                "model": {"name": "test_resnet", "pretrained": False, "image_size": 32},
                "train": settings | {"torch_compile": compile},
            }
        )
        if not seen:
            set_seed(recipe.train.seed)  # as `fit` does
            start = load_model("test_resnet", LABEL_SETS["fer7"], pretrained=False, image_size=32)
            save_model(start.model, start.processor, tmp_path)
        torch._dynamo.utils.counters.clear()
        fit(recipe, splits, run)
        seen.append(torch._dynamo.utils.counters["stats"]["unique_graphs"])
    assert seen == [0, 1]
    first, eager, compiled = (flat(folder) for folder in (tmp_path, *(run.model for run in runs.values())))
    assert (compiled - eager).norm() < 0.01 * (eager - first).norm()


def test_a_long_training_repays_compiling_and_a_short_one_does_not():
    model = timm.create_model("mobilenetv3_small_050", num_classes=7)
    large = [(224, 224)]
    assert repays(model, large, 10**6) is None
    seconds, saved = repays(model, large, 10**8)
    assert seconds > saved > 0
    assert repays(model, [(112, 112), *large], 10**8)[0] < 0.7 * seconds
    model.conv_stem.requires_grad_(False)
    assert repays(model, large, 10**8)[0] == pytest.approx(seconds / 3)


def test_it_is_refused_where_it_cannot_be_and_left_out_where_nobody_asked(monkeypatch):
    model = timm.create_model("mobilenetv3_small_050", num_classes=7)

    def decided(asked, device="cuda", n_gpu=1):
        args = SimpleNamespace(device=torch.device(device), n_gpu=n_gpu)
        return should_compile(asked, model, [(224, 224)], 10**8, args)

    monkeypatch.setattr(compiling, "compiler", lambda: "g++")
    assert decided("auto")
    assert not decided(False)
    assert not decided("auto", n_gpu=2)
    assert not decided("auto", device="cpu")  # where it gains nothing
    assert decided(True, device="cpu")
    with pytest.raises(UserError, match="a process for each GPU"):
        decided(True, n_gpu=2)
    monkeypatch.setattr(compiling, "compiler", lambda: None)
    assert not decided("auto")
    with pytest.raises(UserError, match=r"train\.torch_compile=true needs a C\+\+ compiler"):
        decided(True)

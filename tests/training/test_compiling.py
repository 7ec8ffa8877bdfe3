"""torch.compile in whole trainings, and the estimate of whether it is worth it."""

import os
import shutil
import subprocess
import sys

import pytest
import timm
import torch
from safetensors.torch import load_file
from transformers import set_seed

from fer_hf.data.readers import toy
from fer_hf.emotions import LABEL_SETS
from fer_hf.errors import UserError
from fer_hf.models.load import load_model, save_model
from fer_hf.recipe.load import validate_recipe
from fer_hf.runs.folder import Run
from fer_hf.training import compiling
from fer_hf.training.compiling import repays, should_compile
from fer_hf.training.fit import fit

needs_a_compiler = pytest.mark.skipif(not shutil.which("g++"), reason="needs a C++ compiler: apt-get install g++")


def flat(folder) -> torch.Tensor:
    """All weights of a folder, in the order of their names."""
    weights = load_file(folder / "model.safetensors")
    return torch.cat([weights[name].flatten().double() for name in sorted(weights)])


@needs_a_compiler
def test_compiled_it_learns_the_same(tmp_path, monkeypatch):
    """Whole batches alone are compiled: the short last one and those of evaluation run as they are."""
    monkeypatch.setattr(compiling, "fault", lambda device: None)  # which compiles something, too
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


def test_it_is_refused_where_it_cannot_be_and_left_out_where_nobody_asked(monkeypatch, capfd):
    model = timm.create_model("mobilenetv3_small_050", num_classes=7)
    reasons: list[str | None] = [None]
    monkeypatch.setattr(compiling, "fault", lambda device: reasons[-1])

    def decided(asked, device="cuda"):
        return should_compile(asked, model, [(224, 224)], 10**8, torch.device(device))

    assert decided("auto")
    assert "network compiled: of about" in capfd.readouterr().err
    assert not decided(False)
    assert not decided("auto", device="cpu")  # where it gains nothing
    assert decided(True, device="cpu")
    reasons.append("no compiler")
    assert not decided("auto")
    assert "network not compiled: no compiler" in capfd.readouterr().err
    with pytest.raises(UserError, match=r"train\.torch_compile=true does not work here: no compiler"):
        decided(True)


def test_a_missing_compiler_is_found_out_by_trying():
    code = "import torch; from fer_hf.training.compiling import fault; print(fault(torch.device('cpu')))"
    env = os.environ | {"CXX": "no-such-compiler", "TORCHINDUCTOR_FORCE_DISABLE_CACHES": "1"}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert "no-such-compiler" in done.stdout


def test_attention_is_counted_on_a_cpu_too():
    """Where torch counts none of its fused attention: a resume would come to another conclusion than a GPU."""
    fused = timm.create_model("test_vit", num_classes=7)
    for block in (by_hand := timm.create_model("test_vit", num_classes=7)).blocks:
        block.attn.fused_attn = False
    assert repays(fused, [(160, 160)], 10**12) == repays(by_hand, [(160, 160)], 10**12)

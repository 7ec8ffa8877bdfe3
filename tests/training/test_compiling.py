"""torch.compile in whole trainings. Its own compiler would take minutes, so graphs are run by PyTorch here."""

import os
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file
from tiny_training import recipe, train
from torch import nn
from transformers import set_seed

from fer_hf.emotions import LABEL_SETS
from fer_hf.errors import UserError
from fer_hf.models.load import load_model, save_model
from fer_hf.training import build


def flat(folder) -> torch.Tensor:
    """All weights of a folder, in the order of their names."""
    weights = load_file(folder / "model.safetensors")
    return torch.cat([weights[name].flatten().double() for name in sorted(weights)])


def test_compiled_it_learns_the_same(splits, tmp_path, monkeypatch):
    """Whole batches alone are compiled: the short last one and those of evaluation run as they are."""
    compile = nn.Module.compile
    monkeypatch.setattr(nn.Module, "compile", lambda self, **options: compile(self, backend="aot_eager", **options))
    monkeypatch.setattr(build, "compiler_fault", lambda device: None)  # which compiles something, too
    set_seed(recipe().train.seed)  # as `fit` does
    start = load_model("test_resnet", LABEL_SETS["fer7"], pretrained=False, image_size=32)
    save_model(start.model, start.processor, tmp_path)
    graphs, runs = [], []
    for compiles in (False, True):
        torch._dynamo.utils.counters.clear()
        settings = {"learning_rate": 1e-2, "torch_compile": compiles}
        runs.append(train(tmp_path / str(compiles), splits, train=settings))
        graphs.append(torch._dynamo.utils.counters["stats"]["unique_graphs"])
    assert graphs == [0, 1]
    first, eager, compiled = (flat(folder) for folder in (tmp_path, *(run.model for run in runs)))
    assert (compiled - eager).norm() < 0.01 * (eager - first).norm()


def test_it_is_refused_where_it_cannot_be(splits, tmp_path, monkeypatch):
    monkeypatch.setattr(build, "compiler_fault", lambda device: "no compiler")
    with pytest.raises(UserError, match=r"train\.torch_compile=true does not work here: no compiler"):
        train(tmp_path, splits, train={"torch_compile": True})


def test_a_missing_compiler_is_found_out_by_trying():
    code = "import torch; from fer_hf.training.arguments import compiler_fault as f; print(f(torch.device('cpu')))"
    env = os.environ | {"CXX": "no-such-compiler", "TORCHINDUCTOR_FORCE_DISABLE_CACHES": "1"}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert "no-such-compiler" in done.stdout

"""The public names of the package: what they are, and that whoever imports or calls them keeps their own settings."""

import gc
import inspect
import logging
import os
import subprocess
import sys
import warnings

import datasets
import pytest
import torch
from face_folder import write_faces
from huggingface_hub.utils import are_progress_bars_disabled
from transformers.utils import logging as transformers_logging

import fer_hf

HEAVY = ("accelerate", "datasets", "matplotlib", "pandas", "pyarrow", "sklearn", "timm", "torch", "transformers")
SIGNATURES = {
    "compare_runs": "(folders, split='test', metric='accuracy', output=None, *, dataset=None, format='pytorch', "
    "baseline=None, x='latency')",
    "evaluate": "(model, data=None, split='test', format='pytorch', tta='none', batch_size=128, output=None)",
    "export": "(run, int8=False)",
    "load_classifier": "(source, format='pytorch', device=None)",
    "load_faces": "(source, label_set='fer7', *, purpose='training', check_images=True, **settings)",
    "load_recipe": "(name, overrides=None)",
    "push": "(run, repo_id=None, private=False, dry_run=False)",
    "train": "(recipe, output=None, resume=False, profile=False, resume_from=None)",
}
CLASSES = {"Classifier", "Evaluation", "Faces", "FerError", "Recipe", "Run", "UserError"}


def signature(function) -> str:
    """The parameters of a function without their types."""
    found = inspect.signature(function)
    parameters = [parameter.replace(annotation=inspect.Parameter.empty) for parameter in found.parameters.values()]
    return str(found.replace(parameters=parameters, return_annotation=inspect.Signature.empty))


def test_names_and_signatures_are_frozen():
    assert set(fer_hf.__all__) == SIGNATURES.keys() | CLASSES
    assert {name: signature(getattr(fer_hf, name)) for name in SIGNATURES} == SIGNATURES
    assert all(inspect.isclass(getattr(fer_hf, name)) for name in CLASSES)
    assert set(fer_hf.__all__) < set(dir(fer_hf))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = fer_hf.nothing


@pytest.mark.parametrize("name", sorted(fer_hf.__all__))
def test_every_name_is_documented_and_typed(name):
    thing = getattr(fer_hf, name)
    assert inspect.getdoc(thing)
    if name in SIGNATURES:
        parameters = inspect.signature(thing).parameters.values()
        assert all(parameter.annotation is not inspect.Parameter.empty for parameter in parameters)
        for part in ("Args:", "Example"):
            assert part in thing.__doc__, f"{name} lacks {part}"
        for parameter in parameters:
            assert f"{parameter.name}:" in thing.__doc__ or parameter.kind is parameter.VAR_KEYWORD


def test_nothing_heavy_is_imported():
    script = f"import sys, fer_hf, fer_hf.cli; print([name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def settings() -> dict[str, object]:
    """What a guest must not change."""
    loggers = ("", "accelerate", "datasets", "fer_hf", "huggingface_hub", "timm", "torch", "transformers")
    return {
        "environment": dict(os.environ),
        "warning filters": list(warnings.filters),
        "log levels": {name: logging.getLogger(name).level for name in loggers},
        "log handlers": {name: list(logging.getLogger(name).handlers) for name in loggers},
        "logging switched off": logging.root.manager.disable,
        "threads": torch.get_num_threads(),
        "matmul precision": torch.get_float32_matmul_precision(),
        "garbage collection": (gc.isenabled(), gc.get_threshold()),
        "bars of datasets": datasets.are_progress_bars_disabled(),
        "bars of transformers": transformers_logging.is_progress_bar_enabled(),
        "bars of huggingface_hub": are_progress_bars_disabled(),
        "folder": os.getcwd(),
    }


def test_train_and_evaluate_leave_no_setting_changed(tmp_path, capfd, monkeypatch):
    monkeypatch.setattr(gc, "freeze", pytest.fail)
    assert all(map(callable, (fer_hf.train, fer_hf.evaluate)))  # what torch and others change when they are imported
    torch.set_num_threads(3)  # a number that no training chooses
    datasets.enable_progress_bars()
    transformers_logging.enable_progress_bar()
    before = settings()
    write_faces(tmp_path / "faces", train=3, validation=2, test=1)
    overrides = [f"data.source=folder:{tmp_path / 'faces'}", "model.image_size=32", "train.num_train_epochs=1"]
    recipe = fer_hf.load_recipe("quickstart", [*overrides, "export.onnx=false", "export.int8=false"])
    run = fer_hf.train(recipe, tmp_path / "run")
    assert settings() == before
    figures = fer_hf.evaluate(run, split="validation", tta="flip")
    assert settings() == before
    assert figures == run.evaluation("validation", tta="flip")
    out, err = capfd.readouterr()
    assert out == ""
    assert "it/s" not in err
    assert "ba/s" not in err

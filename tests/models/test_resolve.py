"""What the name of a model means."""

import pytest

from fer_hf.errors import UserError
from fer_hf.models.resolve import Source, resolve
from fer_hf.runs.folder import Run


def test_names_of_timm_and_of_the_hub():
    assert resolve("resnet18") == Source("resnet18", timm_name="resnet18")
    assert resolve("timm/resnet18.a1_in1k") == Source("timm/resnet18.a1_in1k", timm_name="resnet18.a1_in1k")
    assert resolve("resnet18.a1_in1k").location == "timm/resnet18.a1_in1k"
    with pytest.raises(UserError, match=r"'resnet18.none' could not be loaded from timm: .*tag \(none\)"):
        resolve("resnet18.none")
    assert resolve("someone/faces") == Source("someone/faces")
    assert resolve("someone/faces").location == "someone/faces"
    with pytest.raises(UserError, match=r"^'https://hf\.co/someone/faces' is an address: .* or a Hub id"):
        resolve("https://hf.co/someone/faces")


def test_folders_go_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "resnet18").mkdir()
    with pytest.raises(UserError, match=r"'resnet18' holds no model: there is no config\.json"):
        resolve("resnet18")
    (tmp_path / "resnet18" / "config.json").touch()
    assert resolve("resnet18").location == "resnet18"
    assert resolve("resnet18").timm_name is None
    with pytest.raises(UserError, match=r"config\.json' is a file: a run folder, a model folder, .* is wanted"):
        resolve("resnet18/config.json")
    model = tmp_path / "fold" / "model"
    model.mkdir(parents=True)
    (model / "config.json").touch()
    assert resolve(tmp_path / "fold").folder == model  # no run, for want of a recipe, but it holds a model


def test_a_run(tmp_path):
    run = Run(tmp_path)
    run.recipe_file.touch()
    with pytest.raises(UserError, match="has no model yet"):
        resolve(run)
    run.model.mkdir()
    for name in ("config.json", "model.safetensors"):
        (run.model / name).touch()
    assert resolve(run) == resolve(tmp_path) == resolve(str(tmp_path)) == Source(str(run.model), folder=run.model)

"""`robustness`, `explain` and `features` on a run with a small network and drawn faces."""

import importlib.util
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from face_folder import write_faces
from PIL import Image

from fer_hf.errors import UserError
from fer_hf.files import write_text
from fer_hf.images.corruptions import CORRUPTIONS
from fer_hf.recipe.schema import Recipe
from fer_hf.runs.folder import Run
from fer_hf.runs.predictions import read_predictions
from fer_hf.workflows import explain as explaining
from fer_hf.workflows import robustness as measuring
from fer_hf.workflows.explain import explain
from fer_hf.workflows.features import features
from fer_hf.workflows.robustness import robustness

FEW = {name: CORRUPTIONS[name] for name in ("gaussian_noise", "mouth_covered")}


@pytest.fixture(scope="module")
def run(tiny_model, tmp_path_factory) -> Run:
    folder = tmp_path_factory.mktemp("analyses")
    write_faces(folder / "faces", train=1, validation=1, test=4)
    made = Run(folder / "run")
    made.path.mkdir()
    shutil.copytree(tiny_model, made.model)
    recipe = Recipe.model_validate({"name": "tiny", "data": {"source": f"folder:{folder / 'faces'}"}})
    write_text(made.recipe_file, recipe.to_yaml())
    return made


def test_robustness_can_be_traced_to_the_logits_and_held_against_a_run(run, tmp_path, monkeypatch):
    monkeypatch.setattr(measuring, "CORRUPTIONS", FEW)
    other = Run(shutil.copytree(run.path, tmp_path / "other"))
    record = robustness(run, per_class=3, baseline=other, batch_size=8)
    assert (record.images, record.mean_corruption_error, record.baseline) == (21, 1.0, "other")
    assert run.metrics.robustness == {record.evaluation: record}
    assert other.metrics.robustness[record.evaluation].corruptions == record.corruptions
    table = read_predictions(run.path / record.predictions)
    for each in record.corruptions:
        rows = [
            (name, strength) == (each.name, each.strength)
            for name, strength in zip(*(table.attributes[key] for key in ("corruption", "strength")), strict=True)
        ]
        assert sum(rows) == 21
        assert (table.predicted[rows] == table.labels[rows]).mean() == pytest.approx(each.accuracy)
    whole = read_predictions(run.predictions / f"{record.evaluation}.parquet")
    chosen = np.isin(whole.ids, table.attributes["image_id"])
    assert (whole.predicted[chosen] == whole.labels[chosen]).mean() == pytest.approx(record.clean.accuracy)
    for file in (record.figure, record.examples):
        assert Image.open(run.path / file).width > 500
    assert "Mean corruption error: 1.000 of that of other" in measuring.verdict(record)


def test_a_baseline_on_other_images_is_refused(run, tmp_path, monkeypatch):
    monkeypatch.setattr(measuring, "CORRUPTIONS", FEW)
    write_faces(tmp_path / "faces", train=1, validation=1, test=2)
    other = Run(shutil.copytree(run.path, tmp_path / "other"))
    recipe = Recipe.model_validate({"name": "tiny", "data": {"source": f"folder:{tmp_path / 'faces'}"}})
    write_text(other.recipe_file, recipe.to_yaml())
    other.splits_file.unlink(missing_ok=True)
    with pytest.raises(UserError, match="its test images are not those of"):
        robustness(run, per_class=1, baseline=other)


@pytest.mark.skipif(importlib.util.find_spec("pytorch_grad_cam") is None, reason="needs the extra `analysis`")
def test_maps_of_two_sources_stand_side_by_side_and_are_scored(run, monkeypatch):
    monkeypatch.setattr("fer_hf.explain.maps.PERCENTILES", (60,))
    monkeypatch.setattr(explaining, "SCORED", 6)
    source = f"folder:{run.path.parent / 'faces'}"
    first, second = explain(run, [source, source], per_class=1)
    assert first == second == run.metrics.explanations[first.evaluation]
    assert first.right <= 7 <= first.images <= 14
    assert first.scored == 6
    sheet = Image.open(run.path / first.sheet)
    assert sheet.width > 2 * 2 * 96
    scores = (run.path / first.scores).read_text().splitlines()
    assert scores[0] == "id,label,predicted,probability,road,road_random"
    mean = np.mean([float(line.split(",")[4]) for line in scores[1:7]])
    assert mean == pytest.approx(first.road.value, abs=1e-3)
    assert explaining.verdict(first).startswith("The maps are ")
    with pytest.raises(UserError, match="--data is given 3 times"):
        explain(run, [source] * 3)


def test_features_are_written_drawn_and_compared(run, tmp_path):
    write_faces(tmp_path / "others", train=1, validation=1, test=2)
    sources = [f"folder:{run.path.parent / 'faces'}", f"folder:{tmp_path / 'others'}"]
    space = features(run, sources, k=3)
    assert (space.images, len(space.tables)) == ([28, 14], 2)
    table = pq.read_table(space.tables[0])
    assert (table.column_names, len(table)) == (["id", "label", "features"], 28)
    assert len(table["features"][0]) == space.dimensions
    [domains] = run.metrics.domains.values()
    assert domains == space.domains
    assert domains.probe_chance == pytest.approx(2 / 3)
    for file in (space.planes, space.neighbours):
        assert Image.open(file).width > 400
    alone = features(run, query=[table["id"][3].as_py()], output=tmp_path / "alone")
    assert alone.domains is None
    assert {Path(file).parent for file in alone.tables} == {tmp_path / "alone"}
    with pytest.raises(UserError, match=r"--query 'nobody': .* has no such id"):
        features(run, query=["nobody"])

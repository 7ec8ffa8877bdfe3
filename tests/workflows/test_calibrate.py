"""Calibration of stored predictions, and a temperature that goes into the weights and everything made of them."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from datasets import ClassLabel, Dataset, Features, Value
from scipy.special import log_softmax, softmax
from transformers import AutoImageProcessor, AutoModelForImageClassification

from fer_hf.data.readers import toy
from fer_hf.emotions import LABEL_SETS
from fer_hf.errors import UserError
from fer_hf.files import write_text
from fer_hf.models.classifier import load_classifier
from fer_hf.recipe.schema import Recipe
from fer_hf.runs.folder import Run
from fer_hf.runs.predictions import figures_of, read_predictions, write_predictions
from fer_hf.runs.records import Evaluation
from fer_hf.workflows.calibrate import calibrate
from fer_hf.workflows.evaluate import evaluate
from fer_hf.workflows.export import export

FER7 = LABEL_SETS["fer7"]


@pytest.fixture
def run(tmp_path):
    """A finished run whose predictions are drawn: half as sure as they should be."""
    run = Run(tmp_path / "run")
    run.model.mkdir(parents=True)
    (run.model / "model.safetensors").touch()
    write_text(run.recipe_file, Recipe().to_yaml())
    run.update(training={}, data={"dataset": "toy"})
    for seed, split in enumerate(("validation", "test")):
        add_predictions(run, split, seed)
    return run


def add_predictions(run, split, seed, images=400, own=True, tta="none"):
    rng = np.random.default_rng(seed)
    logits = 2 * rng.normal(size=(images, 7)).astype(np.float32)
    labels = [rng.choice(7, p=p) for p in softmax(2 * logits.astype(float), axis=1)]
    evaluation = Evaluation("toy" if own else "RAF-DB", split, tta=tta, own=own)
    key = run.evaluation_key("toy" if own else "rafdb", evaluation)
    features = Features({"id": Value("string"), "label": ClassLabel(names=list(FER7))})
    file = run.predictions / f"{key}.parquet"
    write_predictions(file, Dataset.from_dict({"id": list(map(str, range(images))), "label": labels}, features), logits)
    run.record("toy" if own else "rafdb", replace(evaluation, **figures_of(file)))
    return key


def test_what_is_fitted_on_validation_is_measured_on_test_and_kept(run):
    record = calibrate(run, errors=[0.1, 0.001], coverage=0.8)
    assert run.metrics.calibration == {"toy-test": record}
    assert (record.fitted_on, record.measured_on, record.folded) == ("toy-validation", "toy-test", False)
    assert record.temperature == pytest.approx(0.5, rel=0.15)
    before, after = record.methods["none"], record.methods["temperature"]
    assert before.log_loss == pytest.approx(run.evaluation("test").log_loss)
    assert (after.accuracy, after.log_loss < before.log_loss) == (before.accuracy, True)
    assert after.expected_calibration_error < before.expected_calibration_error / 2
    assert record.best == "temperature"
    reached, never = record.abstention
    assert reached.error < 0.15 < 0.3 < reached.coverage
    assert (never.target_error, never.threshold, never.error) == (0.001, None, None)
    assert record.conformal.coverage.value == pytest.approx(0.8, abs=0.07)
    assert {path.stem for path in run.figures.iterdir()} == {"calibration", "calibration_per_class", "risk_coverage"}


def test_what_cannot_be_calibrated_is_refused(run):
    with pytest.raises(UserError, match="split is 'validation', on which everything is fitted"):
        calibrate(run, "validation")
    with pytest.raises(UserError, match="coverage is 90: it is a share between 0 and 1"):
        calibrate(run, coverage=90)
    with pytest.raises(UserError, match=r"error is 0\.0: it is a share"):
        calibrate(run, errors=[0.0])
    add_predictions(run, "test", seed=0)
    with pytest.raises(UserError, match="has the same images as validation, on which it is fitted"):
        calibrate(run)
    add_predictions(run, "test", seed=1, images=1)
    assert calibrate(run).methods["none"].accuracy in (0, 1)
    add_predictions(run, "validation", seed=0, images=40)
    with pytest.raises(UserError, match="cannot be fitted on 40 validation images"):
        calibrate(run)
    run.update(training=None)
    with pytest.raises(UserError, match=r"The training of .* has not ended"):
        calibrate(run)


@pytest.fixture
def real_run(run, tiny_model):
    """The same, with a model and images: what `tiny_model` sees in most of them is what they are."""
    shutil.copytree(tiny_model, run.model, dirs_exist_ok=True)
    classifier, folder = load_classifier(tiny_model), run.path.parent / "faces"
    rng = np.random.default_rng(0)
    for split, rows in toy.load(train=2, validation=10, test=3, size=32).items():
        seen = [answer[0]["label"] for answer in classifier(rows["image"][:])]
        for number, image in enumerate(rows["image"]):
            label = seen[number] if split != "train" and rng.random() < 0.7 else FER7[number % 7]
            (folder / split / label).mkdir(parents=True, exist_ok=True)
            image.save(folder / split / label / f"{number}.png")
    settings = {"data": {"source": f"folder:{folder}"}, "evaluate": {"splits": ["test"]}}
    write_text(run.recipe_file, Recipe.model_validate(settings).to_yaml())
    shutil.rmtree(run.predictions)
    run.update(data={"dataset": "faces", "source": "folder"})
    run.forget(run.metrics.evaluations)
    return run


def probabilities(folder, images):
    """What a user of transformers alone gets."""
    model, processor = (
        AutoModelForImageClassification.from_pretrained(folder),
        AutoImageProcessor.from_pretrained(folder),
    )
    with torch.no_grad():
        return model(**processor([image.convert("RGB") for image in images], return_tensors="pt")).logits.softmax(-1)


def test_a_folded_temperature_is_in_the_weights_and_in_every_prediction_once(real_run, caplog):
    run, images = real_run, toy.load(train=1, validation=1, test=1, size=32)["test"]["image"][:]
    evaluate(run, tta="flip")
    foreign = [add_predictions(run, "test", 5, own=False, tta=tta) for tta in ("none", "flip")]
    logits = read_predictions(run.predictions / f"{foreign[0]}.parquet").logits
    before = probabilities(run.model, images)
    unfolded = calibrate(run)  # evaluates both splits first
    assert unfolded.temperature > 1.1
    plain, test = calibrate(run, fold=True), run.evaluation("test")
    assert plain == replace(unfolded, folded=True)
    assert run.metrics.calibration == {plain.measured_on: plain}
    assert not (run.path / ".folding").exists()
    wanted = (before.log() / plain.temperature).softmax(-1)
    assert torch.allclose(probabilities(run.model, images), wanted, atol=1e-5)
    assert test.log_loss == pytest.approx(plain.methods["temperature"].log_loss, rel=1e-5)
    assert test.accuracy == plain.methods["none"].accuracy
    divided = read_predictions(run.predictions / f"{foreign[0]}.parquet").logits
    assert divided == pytest.approx(logits / plain.temperature, rel=1e-6)
    assert foreign[1] not in run.metrics.evaluations
    assert "Removed, since they average over views: fer-hf evaluate" in caplog.text
    flipped = run.evaluation("test", tta="flip")
    evaluate(run, tta="flip")
    assert run.evaluation("test", tta="flip").log_loss == pytest.approx(flipped.log_loss)

    weights = (run.model / "model.safetensors").read_bytes()
    again = calibrate(run, fold=True)
    assert (run.model / "model.safetensors").read_bytes() == weights
    assert (again.temperature, again.folded) == (plain.temperature, True)
    assert again.methods["none"].log_loss == pytest.approx(plain.methods["none"].log_loss, rel=1e-5)
    evaluate(run)  # made anew, predictions are those that were divided
    assert run.evaluation("test").log_loss == pytest.approx(test.log_loss, rel=1e-5)


def test_a_folding_that_was_stopped_is_finished_by_the_next_call(real_run, monkeypatch):
    run = real_run
    unfolded, weights = calibrate(run), (run.model / "model.safetensors").read_bytes()

    def stop(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("fer_hf.workflows.folding.divide_logits", stop)
        with pytest.raises(KeyboardInterrupt):
            calibrate(run, fold=True)
    assert (run.model / "model.safetensors").read_bytes() == weights
    assert not run.metrics.calibration[unfolded.measured_on].folded
    with monkeypatch.context() as patched:
        aside = run.path / ".folding"  # which is whole once it is there
        patched.setattr("fer_hf.workflows.folding._put_in_place", lambda _: stop() if aside.exists() else None)
        with pytest.raises(KeyboardInterrupt):
            calibrate(run, fold=True)
    finished = calibrate(run, fold=True)
    assert (run.model / "model.safetensors").read_bytes() != weights
    assert finished.folded
    assert finished.temperature == unfolded.temperature
    assert run.evaluation("test").log_loss == pytest.approx(finished.methods["temperature"].log_loss, rel=1e-5)


@pytest.mark.export
def test_every_file_gives_the_probabilities_of_the_temperature(real_run):
    """In INT8 too: divided weights are the same integers with another scale."""
    run, images = real_run, toy.load(train=1, validation=1, test=1, size=32)["test"]["image"][:]
    export(run, int8=True)

    def logits(format):
        scores = [{row["label"]: row["score"] for row in answer} for answer in load_classifier(run, format)(images, 7)]
        return np.log([[row[label] for label in FER7] for row in scores])

    before = {format: logits(format) for format in ("pytorch", "onnx", "int8")}
    temperature = calibrate(run, fold=True).temperature
    assert abs(temperature - 1) > 0.05
    for format, old in before.items():
        assert np.exp(logits(format)) == pytest.approx(np.exp(log_softmax(old / temperature, axis=1)), abs=1e-3)
    assert set(json.loads(run.metrics_file.read_text())["export"]) == {"onnx", "int8"}

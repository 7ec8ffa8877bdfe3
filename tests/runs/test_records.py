"""metrics.json is read whatever version wrote it, and what is written back is what was there."""

import json
from dataclasses import fields, replace
from pathlib import Path

import pytest

from fer_hf.errors import UserError
from fer_hf.runs.folder import Run
from fer_hf.runs.records import Evaluation, ExportedFile, Metrics, Training, plain, read_record

WRITTEN = Path(__file__).with_name("metrics.json")
"""As version 0.1.0 wrote it before there were records: staged, resumed, exported, with test-time augmentation."""
OLDEST = Path(__file__).parents[2] / "model_cards" / "fer2013_cpu_from_scratch"


def test_sections_that_are_read_and_written_back_are_the_same_bytes(tmp_path):
    run = Run(tmp_path)
    run.metrics_file.write_bytes(WRITTEN.read_bytes())
    metrics, written = run.metrics, json.loads(WRITTEN.read_text())
    run.update(**{field.name: getattr(metrics, field.name) for field in fields(Metrics) if field.name in written})
    assert run.metrics_file.read_bytes() == WRITTEN.read_bytes()
    assert metrics.evaluations["toy-test-flip"].tta == "flip"
    assert "tta" not in json.loads(WRITTEN.read_text())["evaluations"]["toy-test"]
    assert metrics.training.stages[0].parameters > 0
    assert isinstance(metrics.export["int8"], ExportedFile)


def test_a_file_of_an_earlier_version_is_read():
    metrics = Run(OLDEST).metrics
    assert 0.6 < metrics.evaluations["fer2013-test"].accuracy < 0.7
    assert (metrics.training.stages, metrics.training.events) == ((), None)
    assert metrics.evaluations["fer2013-test"].content is None
    assert metrics.owns(metrics.evaluations["fer2013-test"])  # by the name of the data, all that it tells


def test_what_is_not_known_is_passed_over_and_what_is_missing_is_empty(tmp_path):
    run = Run(tmp_path)
    assert run.metrics == Metrics()
    run.metrics_file.write_text('{"name": "x", "later": {"a": 1}, "training": {"epochs": 3, "unheard_of": []}}')
    assert run.metrics == Metrics(name="x", training=Training(epochs=3.0))
    run.update(finished=True)
    assert json.loads(run.metrics_file.read_text())["later"] == {"a": 1}  # and kept


def test_fields_that_say_nothing_are_not_written():
    content = plain(Evaluation("toy", "test"))
    assert not {"tta", "content", "own"} & content.keys()
    content = plain(Evaluation("toy", "test", tta="flip", content="ab", own=False))
    assert (content["tta"], content["content"], content["own"]) == ("flip", "ab", False)
    assert plain({"onnx": ExportedFile("onnx/model.onnx", 1.5)}) == {
        "onnx": {"file": "onnx/model.onnx", "megabytes": 1.5}
    }
    assert "profile" not in plain(Training())


@pytest.mark.parametrize(
    ("changed", "plain_one", "files"),
    [({}, True, ""), ({"format": "int8"}, False, "-int8"), ({"tta": "flip"}, False, "-flip")],
)
def test_the_plain_evaluation_is_that_of_pytorch_without_augmentation(changed, plain_one, files):
    evaluation = replace(Evaluation("toy", "test"), **changed)
    assert (evaluation.plain, evaluation.files) == (plain_one, files)


def test_a_damaged_file_is_named(tmp_path):
    Run(tmp_path).metrics_file.write_bytes(WRITTEN.read_bytes()[:300])
    with pytest.raises(UserError, match=r"metrics\.json is damaged: .*line"):
        _ = Run(tmp_path).metrics


def test_a_value_of_a_wrong_type_is_refused():
    with pytest.raises(ValueError, match=r"training\.steps"):
        read_record(Metrics, {"training": {"steps": "many"}})

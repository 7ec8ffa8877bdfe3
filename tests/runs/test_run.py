import json

import pytest

from fer_hf.errors import UserError
from fer_hf.files import write_text
from fer_hf.machine import environment
from fer_hf.runs.folder import Run


def test_sections_are_merged_one_level_deep(tmp_path):
    run = Run(tmp_path)
    assert run.metrics() == {}
    run.update_metrics(name="a", evaluations={"x": {"accuracy": 1, "old": 2}})
    run.update_metrics(name="b", evaluations={"x": {"accuracy": 3}, "y": {}})
    assert run.metrics() == {"name": "b", "evaluations": {"x": {"accuracy": 3}, "y": {}}}


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "metrics.json"
    write_text(path, "old")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_text(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_open_wants_a_run_folder(tmp_path):
    with pytest.raises(UserError, match=r"no recipe\.yaml"):
        Run.open(tmp_path)
    (tmp_path / "recipe.yaml").touch()
    assert Run.open(tmp_path).path == tmp_path


def test_runs_are_listed_newest_first(tmp_path):
    assert Run.all(tmp_path / "nowhere") == []
    for name in ("20260102-000000", "20260101-000000", "20260103-000000"):
        (tmp_path / name).mkdir()
    for name in ("20260102-000000", "20260101-000000"):
        (tmp_path / name / "recipe.yaml").touch()
    assert [run.path.name for run in Run.all(tmp_path)] == ["20260102-000000", "20260101-000000"]


def test_a_new_run_has_a_name_that_no_other_has(tmp_path):
    paths = [Run.new_path(tmp_path)]
    paths[0].mkdir()
    paths.append(Run.new_path(tmp_path))
    assert paths[0] != paths[1]
    assert not paths[1].exists()


def test_environment_is_plain_and_names_what_matters():
    found = environment(seed=3)
    json.dumps(found)
    assert found["seed"] == 3
    assert {"torch", "transformers", "fer_hf"} <= set(found["packages"])
    assert found["hardware"]["cores"] >= 1

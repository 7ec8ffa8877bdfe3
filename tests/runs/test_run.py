"""The folder of a run: what it is, who writes to it, and that no figures are lost in it."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from fer_hf.errors import UserError
from fer_hf.files import write_text
from fer_hf.machine import environment
from fer_hf.runs.folder import Run
from fer_hf.runs.records import Data, Evaluation, Split, Training


def test_sections_are_merged_one_level_deep(tmp_path):
    run = Run(tmp_path)
    run.update(name="a", evaluations={"x": Evaluation("toy", "test", accuracy=0.1), "z": Evaluation("toy", "train")})
    run.update(
        name="b", evaluations={"x": Evaluation("toy", "test", accuracy=0.3), "y": Evaluation("toy", "validation")}
    )
    assert run.metrics.name == "b"
    assert list(run.metrics.evaluations) == ["x", "z", "y"]
    assert run.metrics.evaluations["x"].accuracy == 0.3
    run.update(data=Data(dataset="toy", splits={"test": Split(3)}))
    assert run.metrics.data.splits["test"].images == 3


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


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"finished": ', "line 1"),
        ("[1]", "it holds a list"),
        ('{"evaluations": {"toy-test": 3}}', "evaluations.toy-test: Input should be"),
    ],
)
def test_metrics_that_are_none_are_named(tmp_path, text, reason):
    run = Run(tmp_path)
    write_text(run.metrics_file, text)
    with pytest.raises(UserError, match=rf"metrics\.json is damaged: .*{reason}.*Put a copy back, or train again"):
        _ = run.metrics


def test_a_run_without_a_model_says_how_to_get_one(tmp_path):
    run = Run(tmp_path)
    with pytest.raises(UserError, match=rf"no model yet: .* --output {run.path} --resume"):
        run.finished_model()
    run.update(training=Training())  # the same command would train nothing now
    with pytest.raises(UserError, match=r"no model: model/model\.safetensors has gone"):
        run.finished_model()


def test_open_wants_a_run_folder(tmp_path):
    with pytest.raises(UserError, match=r"no recipe\.yaml"):
        Run.open(tmp_path)
    with pytest.raises(UserError, match=r"'https://example\.org/run' is not a run folder"):  # not https:/
        Run.open("https://example.org/run")
    (tmp_path / "recipe.yaml").touch()
    assert Run.open(tmp_path).path == tmp_path
    assert Run.open(Run(tmp_path)).exists()
    assert not Run(tmp_path / "model").exists()


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
    surroundings = environment(seed=3)
    json.dumps(surroundings)
    assert surroundings["seed"] == 3
    assert {"torch", "transformers", "fer_hf"} <= set(surroundings["packages"])
    assert surroundings["hardware"]["cores"] >= 1


# --- evaluations


@pytest.fixture
def run(tmp_path) -> Run:
    run = Run(tmp_path)
    run.update(data=Data(source="fer2013", dataset="FER2013"))
    return run


def figures(dataset: str, content: str, own: bool = False, split: str = "test", **more) -> Evaluation:
    return Evaluation(dataset, split, content=content, own=own, **more)


def test_other_data_of_the_same_name_never_replace_the_runs_own(run):
    """A cleaned FER2013, whether it is evaluated before or after the run's own test split."""
    cleaned = figures("FER2013", "c" * 64, accuracy=0.9)
    own = figures("FER2013", "a" * 64, own=True, accuracy=0.6)
    assert run.record("fer2013", cleaned) == "fer2013-test-cccccccc"
    assert run.record("fer2013", own) == "fer2013-test"
    assert run.record("fer2013", cleaned) == "fer2013-test-cccccccc"
    assert run.evaluation("test").accuracy == 0.6
    assert run.metrics.evaluations["fer2013-test-cccccccc"].predictions == "predictions/fer2013-test-cccccccc.parquet"
    assert len(run.metrics.evaluations) == 2
    assert run.record("FER2013", figures("FER2013", "f" * 64)) == "FER2013-test-ffffffff"  # a folder of that name


def test_figures_of_an_older_version_on_the_runs_own_data_are_not_replaced_either(run):
    run.update(evaluations={"fer2013-test": Evaluation("FER2013", "test", accuracy=0.6)})
    assert run.record("fer2013", figures("FER2013", "c" * 64, accuracy=0.9)) == "fer2013-test-cccccccc"
    assert run.evaluation("test").accuracy == 0.6
    own = figures("FER2013", "a" * 64, own=True, accuracy=0.7)  # evaluated anew
    assert run.record("fer2013", own) == "fer2013-test"
    assert run.evaluation("test").accuracy == 0.7


def test_a_split_that_the_data_lack_cannot_be_evaluated(run):
    run.update(data=Data(splits={"train": Split(6), "validation": Split(2)}))
    with pytest.raises(UserError, match="has no test split: its data have train, validation"):
        run.evaluation("test")
    with pytest.raises(UserError, match=r"no figures on its validation split: fer-hf evaluate .* --split validation"):
        run.evaluation("validation")


@pytest.mark.parametrize(
    ("first", "second", "name"),
    [
        ("faces", "faces", "faces"),  # two copies: folder:a/faces and folder:b/faces
        ("someone/faces@v1", "someone/faces@v2", "someone-faces"),  # two revisions of one dataset on the Hub
        ("men/faces", "women/faces", "faces"),
        ("men/faces", "men-faces", "men-faces"),
    ],
)
def test_two_datasets_under_one_name_are_kept_apart(run, first, second, name):
    one, other = figures(first, "1" * 64, accuracy=0.1), figures(second, "2" * 64, accuracy=0.2)
    keys = [run.record(name, evaluation) for evaluation in (one, other, one, other)]
    assert keys == [f"{name}-test", f"{name}-test-22222222"] * 2
    assert [evaluation.accuracy for evaluation in run.metrics.evaluations.values()] == [0.1, 0.2]
    with pytest.raises(UserError, match=r"test split: fer-hf evaluate .* --split test --format int8 --tta flip$"):
        run.evaluation("test", "int8", "flip")
    with pytest.raises(UserError, match="no figures on its test split: fer-hf evaluate"):
        run.evaluation("test")


def test_two_revisions_with_the_same_images_are_kept_apart(run):
    for revision in ("v1", "v2"):
        run.record("someone-faces", figures(f"someone/faces@{revision}", "1" * 64))
    assert list(run.metrics.evaluations) == ["someone-faces-test", "someone-faces-test-11111111"]


def test_splits_formats_and_augmentation_have_keys_of_their_own(run):
    own = {"content": "a" * 64, "own": True}
    for evaluation in (
        figures("FER2013", **own),
        figures("FER2013", split="validation", **own),
        figures("FER2013", format="int8", **own),
        figures("FER2013", tta="flip", **own),
    ):
        run.record("fer2013", evaluation)
    assert list(run.metrics.evaluations) == [
        *("fer2013-test", "fer2013-validation", "fer2013-test-int8", "fer2013-test-flip"),
    ]
    assert run.evaluation("test", format="int8").format == "int8"
    assert run.evaluation("test", tta="flip").tta == "flip"


# --- the lock

HOLDER = """
import os, sys, time
from fer_hf.runs.folder import Run
run = Run(sys.argv[1])
run.lock()
if not os.fork():
    print(os.getpid(), flush=True)
time.sleep(60)
os._exit(0)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_run_that_is_let_go_can_be_locked_again(tmp_path):
    run = Run(tmp_path)
    run.lock()
    with pytest.raises(UserError, match="another process trains there"):
        Run(tmp_path).lock()
    run.unlock()
    Run(tmp_path).lock()


def test_own_content_under_the_name_of_other_data_does_not_replace_it(run):
    run.record("faces", figures("faces", content="a" * 64, own=False))
    run.record("faces", figures("faces", content="b" * 64, own=True))
    assert sorted(one.content[0] for one in run.metrics.evaluations.values()) == ["a", "b"]


def test_a_child_that_outlives_a_killed_run_does_not_hold_its_lock(tmp_path):
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-c", HOLDER, str(tmp_path)]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as holder:
        child = int(holder.stdout.readline())
        try:
            with pytest.raises(UserError, match="another process trains there"):
                Run(tmp_path).lock()
            holder.send_signal(signal.SIGKILL)
            holder.wait()
            os.kill(child, 0)  # it lives on
            Run(tmp_path).lock()
        finally:
            os.kill(child, signal.SIGKILL)
            holder.kill()

"""The commands as a user types them, on a tiny network and a folder of drawn faces."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import datasets
import pytest

from fer_hf import __version__
from fer_hf.data import cache
from fer_hf.data.readers import toy
from fer_hf.emotions import LABEL_SETS
from fer_hf.errors import UserError
from fer_hf.runs.folder import Run

COMMANDS = [
    "quickstart",
    "train",
    "study",
    "compare",
    "evaluate",
    "export",
    "report",
    "push",
    "predict",
    "cache",
    "recipe",
]
RECIPE = """
model: {name: test_resnet, pretrained: false, image_size: 32}
train: {num_train_epochs: 1, per_device_train_batch_size: 16, learning_rate: 1e-3, save_steps: 2, report_to: []}
"""


@pytest.fixture(scope="session")
def faces(tmp_path_factory) -> Path:
    """`split/class/*.png`, the classes under names of another dataset's."""
    folder = tmp_path_factory.mktemp("data") / "my faces"
    for split, rows in toy.load(train=8, validation=3, test=3, size=32).items():
        for row in rows:
            name = {"angry": "Anger", "happy": "happiness"}.get(
                LABEL_SETS["fer7"][row["label"]], LABEL_SETS["fer7"][row["label"]]
            )
            (folder / split / name).mkdir(parents=True, exist_ok=True)
            row["image"].save(folder / split / name / f"{row['id']}.png")
    return folder


@pytest.fixture(scope="session")
def recipe(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("recipes") / "tiny.yaml"
    path.write_text(RECIPE)
    return path


@pytest.fixture(scope="session")
def trained(tmp_path_factory, faces, recipe) -> Path:
    """A finished run, made once by the command."""
    folder = tmp_path_factory.mktemp("trained")
    command = [sys.executable, "-m", "fer_hf", "train", str(recipe), f"data.source=folder:{faces}", "--output", "run"]
    done = subprocess.run(
        command, cwd=folder, env=_environment(), capture_output=True, text=True, timeout=900, check=False
    )
    assert done.returncode == 0, done.stderr
    ours = r"^(  [A-Z]|tiny: |epoch +step |  1\.0 ).*$"  # no leak, bar or warning of a library
    assert not re.sub(ours, "", done.stderr, flags=re.MULTILINE).strip(), done.stderr
    return folder / "run"


def _environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"}


def test_help_and_version(cli):
    code, out, _ = cli("--help")
    assert code == 0
    assert all(command in out for command in COMMANDS)
    assert cli("--version") == (0, f"fer_hf {__version__}\n", "")


@pytest.mark.parametrize("command", [*COMMANDS[:-1], "recipe show", "recipe validate", "recipe copy"])
def test_help_of_each_command_has_an_example(cli, command):
    code, out, _ = cli(*command.split(), "--help")
    assert code == 0
    assert "Example" in out
    assert f"fer-hf {command}" in out


def test_what_train_leaves(trained, faces):
    metrics = json.loads((trained / "metrics.json").read_text())
    assert metrics["finished"]
    assert set(metrics["evaluations"]) == {"my-faces-validation", "my-faces-test"}
    assert metrics["data"]["splits"]["train"]["images"] == 56
    card = (trained / "model" / "README.md").read_text()
    assert "image-classification" in card
    assert sorted(p.name for p in (trained / "predictions").iterdir()) == [
        "my-faces-test.parquet",
        "my-faces-validation.parquet",
    ]
    published = [trained / "metrics.json", trained / "environment.json", *(trained / "model").rglob("*.*")]
    for path in published:
        assert str(faces).encode() not in path.read_bytes(), path
        assert str(trained).encode() not in path.read_bytes(), path


def test_evaluate_a_run_again_and_a_model_folder(cli, trained, faces, tmp_path):
    before = Run(trained).metrics.evaluations["my-faces-test"]
    code, out, _ = cli("evaluate", trained, "--data", f"folder:{faces}", "--split", "test")
    assert code == 0
    assert f"{before.accuracy:.1%}" in out
    report = {
        row[0]: row[1:] for row in (line.strip("│ \n").split(" │ ") for line in out.splitlines()) if len(row) == 7
    }
    means = (before.macro_precision, before.macro_recall, before.macro_f1)
    assert [cell.strip() for cell in report["macro average   "]][:3] == [f"{mean:.1%}" for mean in means]
    assert Run(trained).metrics.evaluations["my-faces-test"] == before
    code, _, _ = cli("evaluate", trained / "model", "--data", f"folder:{faces}", "--output", tmp_path / "elsewhere")
    assert code == 0
    assert Run(tmp_path / "elsewhere").metrics.evaluations["my-faces-test"].accuracy == before.accuracy


def test_evaluate_with_augmentation_stands_beside_the_plain_figures(cli, trained, faces, tmp_path):
    plain = ["evaluate", trained / "model", "--data", f"folder:{faces}", "--output", tmp_path / "x"]
    assert cli(*plain)[0] == 0
    before = Run(tmp_path / "x").metrics.evaluations["my-faces-test"]
    code, out, err = cli(*plain, "--tta", "flip")
    assert code == 0, err
    assert "pytorch + flip" in out
    found = Run(tmp_path / "x").metrics.evaluations
    assert found["my-faces-test"] == before
    assert before.tta == "none"
    assert found["my-faces-test-flip"].tta == "flip"
    assert found["my-faces-test-flip"].log_loss != before.log_loss
    assert sorted(p.stem for p in (tmp_path / "x" / "predictions").iterdir()) == ["my-faces-test", "my-faces-test-flip"]
    code, _, err = cli(*plain, "--tta", "five_crop")
    assert code == 2
    assert "ten_crop" in err


def test_a_folder_with_nothing_but_a_test_split_can_be_evaluated(cli, trained, faces, tmp_path):
    shutil.copytree(faces / "test", tmp_path / "only" / "test")
    code, out, err = cli(
        "evaluate", trained / "model", "--data", f"folder:{tmp_path / 'only'}", "--output", tmp_path / "x"
    )
    assert code == 0, err
    assert "21 images" in out


def test_a_folder_of_classes_is_evaluated_whole_and_apart_from_the_runs_own(cli, trained, faces, tmp_path):
    run = Run(shutil.copytree(trained, tmp_path / "run"))
    own, card = run.metrics.evaluations, run.card.read_text()
    shutil.copytree(faces / "validation", tmp_path / faces.name)
    run.recipe_file.write_text(run.recipe_file.read_text().replace("top_k: []", "top_k: [1, 3]"))
    code, out, err = cli("evaluate", run.path, "--data", f"folder:{tmp_path / faces.name}")
    assert code == 0, err
    assert "21 images" in out
    assert [name in out for name in ("top 1", "top 2", "top 3", "top 4")] == [True, True, True, False]
    assert "no splits: all of its images" in " ".join(err.split())
    (key,) = run.metrics.evaluations.keys() - own.keys()
    other = run.metrics.evaluations[key]
    assert key == f"my-faces-test-{other.content[:8]}"
    assert not run.owns(other)
    assert other.top_k[1] == other.accuracy <= other.top_k[2] <= other.top_k[3]
    assert {name: run.metrics.evaluations[name] for name in own} == own
    assert (run.path / other.predictions).is_file()
    redrawn = run.card.read_text()  # the card that the command names has the new figures
    assert str(run.card) in out
    assert f"({other.content[:8]})" in redrawn
    assert redrawn.partition("## Results")[0] == card.partition("## Results")[0]
    assert cli("report", run.path)[0] == 0
    assert run.card.read_text() == redrawn


def test_predict_agrees_with_evaluate(cli, trained, faces):
    face = next((faces / "test" / "sad").iterdir())
    code, out, err = cli("predict", trained, face, "--json")
    assert (code, err) == (0, "")
    probabilities = json.loads(out)["probabilities"]
    assert sum(probabilities.values()) == pytest.approx(1)
    assert set(probabilities) == set(LABEL_SETS["fer7"])
    code, out, _ = cli("predict", trained, face, face, "--top-k", 2)
    assert code == 0
    assert out.count(next(iter(probabilities))) == 2


def test_report_writes_the_card_again(cli, trained):
    card = trained / "model" / "README.md"
    text = card.read_text()
    card.unlink()
    code, out, _ = cli("report", trained)
    assert code == 0
    assert str(card) in out
    assert card.read_text() == text


def test_push_dry_run_lists_files_and_sends_nothing(cli, trained):
    code, out, _ = cli("push", trained, "--repo-id", "someone/name", "--dry-run")
    assert code == 0
    for name in ("model.safetensors", "README.md", "recipe.yaml", "figures/confusion_matrix.png", "nothing was sent"):
        assert name in out


def test_resume_of_a_finished_run_does_nothing(cli, trained, recipe, faces):
    before = (trained / "model" / "model.safetensors").stat().st_mtime_ns
    smaller = "train.per_device_eval_batch_size=1"  # as somebody asks for whose last evaluation ran out of memory
    code, _, err = cli("train", recipe, f"data.source=folder:{faces}", smaller, "--output", trained, "--resume")
    assert code == 0
    assert "finished already" in err
    assert (trained / "model" / "model.safetensors").stat().st_mtime_ns == before


def test_a_folder_holds_one_run(cli, trained, recipe, faces, tmp_path):
    (tmp_path / "other" / "checkpoints").mkdir(parents=True)  # by a process that began at the same moment
    for folder in (trained, tmp_path / "other"):
        code, _, err = cli("train", recipe, f"data.source=folder:{faces}", "--output", folder)
        assert code == 2
        assert "holds a run already: add --resume" in err
    assert [path.name for path in (tmp_path / "other").rglob("*")] == ["checkpoints"]


def test_recipe_commands(cli, recipe, tmp_path):
    code, out, _ = cli("recipe", "show", recipe, "train.seed=7")
    assert code == 0
    assert "seed: 7" in out
    assert cli("recipe", "validate", recipe)[:2] == (0, "tiny: valid\n")
    assert cli("recipe", "copy", "quickstart", tmp_path / "mine.yaml")[0] == 0
    assert cli("recipe", "copy", "quickstart", tmp_path / "mine.yaml")[0] == 2


# --- mistakes: one message that says what to do, the right exit code, no traceback


def bad_recipe(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["train", "{recipe}", "data.source=folder:/nowhere"], "/nowhere"),
        (["train", "{recipe}", "data.source=fer2013:{trained}"], "fer2013"),
        (["train", "{recipe}", "data.source={faces}"], "folder:"),
        (["train", "{recipe}", "train.learning_rat=1"], "train.learning_rate"),
        (["train", "nowhere.yaml"], "There is no recipe 'nowhere.yaml'"),
        (["train", "{recipe}", "data.source=folder:{faces}", "--output", "{trained}"], "add --resume"),
        (["train", "{recipe}", "data.source=folder:{faces}", "--resume-from", "4"], "no checkpoint to resume from"),
        (
            ["train", "{recipe}", "data.source=folder:{faces}", "--output", "{trained}", "--resume-from", "4"],
            "has been trained to its end",
        ),
        (
            ["train", "{recipe}", "data.source=folder:{faces}", "train.seed=1", "--output", "{trained}", "--resume"],
            "train.seed was 42, now 1",
        ),
        (["train", "{recipe}", "data.source=folder:{faces}", "model.name=resnt18"], "resnet18"),
        (["train", "{recipe}", "data.source=folder:{faces}", "loss.class_weights=[1,2]"], "2 weights for the 7 labels"),
        (["evaluate", "{trained}/model"], "--data is missing"),
        (["evaluate", "{trained}", "--data", "hub:x"], "hub:"),
        (["evaluate", "nobody/nothing", "--data", "folder:{faces}"], "nobody/nothing"),
        (["export", "{faces}"], "no recipe.yaml"),
        (["report", "{faces}"], "no recipe.yaml"),
        (["push", "{trained}"], "--repo-id"),
        (["push", "{trained}", "--repo-id", "no name"], "someone/name"),
        (["predict", "{trained}", "nowhere.jpg"], "nowhere.jpg"),
        (["predict", "{trained}", "{recipe}"], "tiny.yaml is no picture"),
    ],
)
def test_mistakes_end_in_one_message_and_exit_code_2(cli, arguments, says, recipe, faces, trained):
    places = {"recipe": recipe, "faces": faces, "trained": trained}
    code, out, err = cli(*(argument.format(**places) for argument in arguments))
    assert code == 2
    assert says in " ".join(err.split())
    assert err.count("Error:") == 1
    assert "Traceback" not in out + err


def test_unknown_class_folder_and_unreadable_image(cli, recipe, faces, tmp_path):
    broken = tmp_path / "broken"
    shutil.copytree(faces, broken)
    target = next((broken / "train" / "sad").iterdir())
    target.write_bytes(target.read_bytes()[:100])
    train = ["train", recipe, f"data.source=folder:{broken}", "--output", tmp_path / "run"]
    code, _, err = cli(*train)
    assert code == 2
    assert target.name in err
    assert "data.on_bad_image=skip" in err
    code, _, err = cli(*train[:-1], tmp_path / "skipping", "data.on_bad_image=skip", "train.max_steps=1")
    assert code == 0
    assert len(Run(tmp_path / "skipping").metrics.data.skipped) == 1
    (broken / "train" / "sad").rename(broken / "train" / "sadd")
    code, _, err = cli(*train[:-1], tmp_path / "third")
    assert code == 2
    assert "sadd" in err


def test_an_output_that_cannot_be_a_folder(cli, recipe, faces, tmp_path):
    (tmp_path / "file").touch()
    code, _, err = cli("train", recipe, f"data.source=folder:{faces}", "--output", tmp_path / "file" / "run")
    assert code == 2
    assert "Choose another place" in err


@pytest.mark.parametrize(
    ("error", "code", "says"),
    [
        (PermissionError(13, "Permission denied", "/runs"), 2, "Permission denied: /runs. Choose another place"),
        (OSError(30, "Read-only file system", "/runs"), 2, "Read-only file system: /runs"),
        (OSError(28, "No space left on device"), 1, "Free some space, then go on (a training: with --resume)"),
        (ConnectionResetError(104, "Connection reset by peer"), 1, "Nothing finished was lost"),
        (ZeroDivisionError("division by zero"), 1, "Run the command with --debug"),
    ],
)
def test_other_failures_are_explained(error, code, says):
    from fer_hf.cli import _explain

    found, message = _explain(error)
    assert found == code
    assert says in message


def test_ctrl_c_says_how_to_go_on(cli, monkeypatch, recipe):
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("fer_hf.recipe.load.load_recipe", interrupted)
    code, _, err = cli("train", recipe)
    assert code == 130
    assert "--resume" in err


def test_a_diverged_training_is_no_success(cli, recipe, faces, tmp_path):
    changes = ["train.learning_rate=1e30", "train.max_grad_norm=0", "train.warmup_ratio=0", "train.num_train_epochs=3"]
    code, _, err = cli("train", recipe, f"data.source=folder:{faces}", *changes, "--output", tmp_path / "run")
    assert code == 1
    assert "Training diverged" in err
    assert "train.learning_rate" in err


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("train.lr_scheduler_type=cosin", "train.lr_scheduler_type='cosin' (the command line): cosin is not a valid"),
        ("model.weights=nowhere.pt", "model.weights='nowhere.pt' is no file"),
        ("model.name=someone/nothing", "The model 'someone/nothing' could not be loaded"),
        ("model.name=faces", "'faces' holds no model"),
    ],
)
def test_what_is_refused_at_first_sight_leaves_no_folder(cli, recipe, faces, tmp_path, change, says):
    (tmp_path / "faces").mkdir()
    code, _, err = cli("train", recipe, f"data.source=folder:{faces}", change)
    assert code == 2
    assert says in err
    assert not (tmp_path / "runs").exists()


def test_debug_leaves_the_traceback_to_python(cli, tmp_path):
    with pytest.raises(UserError, match="is not a run folder"):
        cli("report", tmp_path, "--debug")


@pytest.mark.export
def test_export_measures_both_files(cli, trained, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    code, _, err = cli("export", run, "--int8")
    assert (code, err) == (0, "")
    metrics = Run(run).metrics
    assert metrics.export["onnx"].max_logit_difference < 1e-4
    assert metrics.evaluations["my-faces-validation-onnx"].images == 21
    assert metrics.evaluations["my-faces-validation-int8"].format == "int8"


def test_export_without_the_extra_says_what_to_install(cli, trained, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    code, _, err = cli("export", trained)
    assert code == 2
    assert "fer_hf[onnx]" in err
    code, _, err = cli("quickstart")
    assert code == 2
    assert "fer_hf[onnx]" in err


def test_help_is_fast():
    def once() -> float:
        began = time.perf_counter()
        subprocess.run([sys.executable, "-m", "fer_hf", "--help"], env=_environment(), capture_output=True, check=True)
        return time.perf_counter() - began

    def python() -> float:
        began = time.perf_counter()
        subprocess.run([sys.executable, "-c", "import typer, rich.console"], capture_output=True, check=True)
        return time.perf_counter() - began

    # Half a second on a quiet machine; on a busy one, no more than a few times what its libraries alone take.
    ours, libraries = zip(*[(once(), python()) for _ in range(5)], strict=True)
    assert min(ours) < max(0.5, 3 * min(libraries))


def test_a_profile_names_what_holds_a_training_up(cli, faces, recipe):
    code, out, err = cli("train", recipe, f"data.source=folder:{faces}", "--output", "run", "--profile")
    assert code == 0, err
    table, said = out.partition("It is held up by ")[::2]
    assert [part for part in ("backward", "optimiser", "evaluation", "checkpoint") if part not in table] == []
    assert re.search(r"Memory: [\d,]+ MiB at most\.", said)


def test_the_cache_is_shown_and_cleared(cli, monkeypatch, tmp_path):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path)
    monkeypatch.setattr(cache, "KEPT_IN_MEMORY", 0)
    folder = tmp_path / "fer_hf_decoded"
    empty = (0, f"decoded images: 0 MB kept, {folder}\n", "")
    assert cli("cache") == empty
    cache.decoded(toy.load(train=7, validation=1, test=1, size=240)["train"], "training")
    assert cli("cache") == (0, f"decoded images: 8 MB kept, {folder}\n", "")
    assert cli("cache", "--clear") == (0, f"decoded images: 8 MB removed, {folder}\n", "")
    assert [file.suffix for file in folder.iterdir()] == [".lock"]  # on which another training may wait
    assert cli("cache") == empty

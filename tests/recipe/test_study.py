"""Studies: names and products, mistakes found before anything starts, and what is skipped, resumed and failed."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from face_folder import write_faces

from fer_hf.errors import UserError
from fer_hf.recipe.load import find_recipe, shipped_recipes
from fer_hf.recipe.study import load_study
from fer_hf.runs.folder import Run
from fer_hf.training.checkpoints import checkpoints
from fer_hf.workflows import study as studies

BASE = """
model: {name: test_resnet, pretrained: false, image_size: 32}
data: {source: "folder:faces"}
train: {max_steps: 4, num_train_epochs: 1, per_device_train_batch_size: 4, save_steps: 2, report_to: []}
evaluate: {splits: [validation]}
"""


def write(tmp_path: Path, study: str) -> str:
    folder = tmp_path / "mine"
    folder.mkdir(exist_ok=True)
    (folder / "base.yaml").write_text(BASE)
    (folder / "study.yaml").write_text(study)
    return str(folder / "study.yaml")


def test_entries_are_variants_times_matrix_in_the_order_of_the_file(tmp_path):
    text = """
recipe: base.yaml
variants:
  plain: {}
  mixup: {augment.mixup: 0.2, loss.class_weights: [1, 2]}
matrix:
  train.seed: [0, 1]
  model.name: [timm/efficientnet_b0.ra_in1k, resnet18]
"""
    study = load_study(write(tmp_path, text))
    assert study.name == "mine"
    assert study.base == str(tmp_path / "mine" / "base.yaml")
    assert list(study.entries) == [
        "plain-seed=0-efficientnet_b0.ra_in1k",
        "plain-seed=0-resnet18",
        "plain-seed=1-efficientnet_b0.ra_in1k",
        "plain-seed=1-resnet18",
        "mixup-seed=0-efficientnet_b0.ra_in1k",
        "mixup-seed=0-resnet18",
        "mixup-seed=1-efficientnet_b0.ra_in1k",
        "mixup-seed=1-resnet18",
    ]
    assert study.entries["mixup-seed=1-resnet18"] == [
        "augment.mixup=0.2",
        "loss.class_weights=[1, 2]",
        "train.seed=1",
        'model.name="resnet18"',
    ]


def test_names_are_unique_and_fit_for_a_folder(tmp_path):
    values = "['fer2013:/a/b c', 'fer2013:/a/b/c', '../..', logs, ärger, " + "x" * 300 + ", [toy, toy]]"
    names = list(load_study(write(tmp_path, f"recipe: base.yaml\nmatrix: {{data.source: {values}}}")).entries)
    assert names[:2] == ["source=fer2013-a-b-c", "source=fer2013-a-b-c-1"]
    assert names[3:5] == ["source=logs", "source=ärger"]
    assert len({*names}) == 7
    assert max(map(len, names)) == 100
    assert not any(set(name) & set("/\\: *?'\"[]") or name.startswith((".", "-")) for name in names)
    variants = list(load_study(write(tmp_path, "recipe: base.yaml\nvariants: {logs: {}, ..: {train.seed: 1}}")).entries)
    assert variants == ["logs-1", "entry"]


def test_values_reach_the_recipe_with_their_types(tmp_path):
    text = """
recipe: base.yaml
variants:
  all: {train.learning_rate: 1e-5, loss.class_weights: balanced, data.source: 'folder:/a/b: c #2', data.exclude: null}
  head: {train.stages: [{trainable: head, num_train_epochs: 2}, {}], train.max_steps: -1, augment.enabled: false}
"""
    study = load_study(write(tmp_path, text))
    everything, head = (study.recipe(entry, ["train.seed=7"]) for entry in study.entries)
    assert (everything.train.learning_rate, everything.loss.class_weights) == (1e-5, "balanced")
    assert (everything.data.source, everything.train.seed) == ("folder:/a/b: c #2", 7)
    assert [stage.trainable for stage in head.train.stages] == ["head", "all"]
    assert head.augment.enabled is False


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("recipe: base.yaml\nmatrx: {train.seed: [0]}", "matrx: unknown key. Did you mean 'matrix'?"),
        ("matrix: {train.seed: [0]}", "it needs `recipe:`"),
        ("- recipe", "is no study"),
        ("recipe: [", "is not valid YAML"),
        ("recipe: base.yaml\nmatrix: {train.seed: 0}", "a list of values for each key"),
        ("recipe: base.yaml\nmatrix: {train.seed: []}", "a list of values for each key"),
        ("recipe: base.yaml\nmatrix: {seed: [1]}", "'seed' in the matrix is no key of a recipe: write section.key"),
        ("recipe: base.yaml\nvariants: {a: {augment: {mixup: 1}}}", "'augment' in a is no key of a recipe"),
        ("recipe: base.yaml\nvariants: [a]", "variants are names with overrides each"),
        (
            "recipe: base.yaml\nvariants: {a: {train.seed: 1}}\nmatrix: {train.seed: [0]}",
            "train.seed stands in a and in the matrix",
        ),
        ("recipe: base.yaml\nmatrix: {train.seed: [0, 0]}", "seed=0 would be the same run as seed=0"),
    ],
)
def test_mistakes_in_a_study_are_named(tmp_path, text, message):
    with pytest.raises(UserError) as error:
        load_study(write(tmp_path, text))
    assert message in str(error.value)
    assert "study.yaml" in str(error.value)


def test_a_study_that_is_no_text_is_named(tmp_path):
    (tmp_path / "study.yaml").write_bytes(b"\xff\xfe")
    with pytest.raises(UserError, match=r"study\.yaml is no text in UTF-8"):
        load_study(str(tmp_path / "study.yaml"))


def test_every_shipped_study_is_valid_and_no_recipe():
    for path in shipped_recipes().rglob("study.yaml"):
        study = load_study(path.parent.name)
        assert study.name == path.parent.name
        assert all(study.recipe(entry, []) for entry in study.entries)
    with pytest.raises(UserError, match=r"There is no recipe 'studies/x/study'\. .*quickstart") as error:
        find_recipe("studies/x/study")
    assert "study," not in str(error.value)
    with pytest.raises(UserError, match="There is no study 'nothing'"):
        load_study("nothing")


def test_nothing_starts_when_one_entry_is_wrong(tmp_path, cli, monkeypatch):
    study = write(
        tmp_path, "recipe: base.yaml\nvariants:\n  good: {}\n  bad: {loss.focal_gamma: 2, augment.mixup: 0.2}\n"
    )
    code, _, err = cli("study", study)
    assert code == 2
    assert "Entry bad of the study mine:" in err
    assert "the focal loss takes hard labels only" in err
    study = write(tmp_path, "recipe: base.yaml\nmatrix: {train.sed: [0]}\n")
    assert "Entry sed=0 of the study mine:" in cli("study", study)[2]
    study = write(tmp_path, "recipe: base.yaml\nmatrix: {train.seed: [0, 1]}\n")
    assert "'train.seed=3': the study itself varies this key" in cli("study", study, "train.seed=3")[2]
    assert "no entry '2'" in cli("study", study, "--entry", "2")[2]
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert "say which with --entry" in cli("study", study)[2]
    assert not (tmp_path / "runs").exists()


def test_a_study_skips_resumes_and_outlives_failures(tmp_path, cli, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    write_faces(tmp_path / "faces", train=3, validation=2, test=1)
    text = """
recipe: base.yaml
variants:
  first: {}
  lost: {data.source: "folder:nowhere"}
  third: {train.seed: 3}
"""
    study, runs = write(tmp_path, text), tmp_path / "runs" / "mine"
    assert cli("study", study, "--entry", "first")[0] == 0
    assert cli("study", study, "--entry", "2")[0] == 0
    third = Run(runs / "third")  # as if it had been killed after its second step
    weights = (third.model / "model.safetensors").read_bytes()
    metrics = json.loads(third.metrics_file.read_text())
    third.metrics_file.write_text(json.dumps({k: metrics[k] for k in ("name", "recipe", "data")}))
    shutil.rmtree(checkpoints(third.checkpoints)[-1])
    listed = cli("study", study, "--list")[1]
    assert [line.split(None, 2)[2] for line in listed.splitlines()] == ["finished", "not started", "unfinished"]

    code, out, err = cli("study", study)
    assert code == 1
    lines = out.splitlines()
    assert lines[0] == "1 of 3  first  skipped, finished already"
    assert re.match(r"2 of 3  lost  failed after 0:\d\d:\d\d: ", lines[1])
    assert "nowhere" in lines[1]
    assert lines[2].startswith("3 of 3  third  resumed, finished in 0:")
    assert lines[3] == f"2 of 3 are finished. Rank them: fer-hf compare {Path('runs/mine')}"
    assert "These failed: lost." in err
    assert "nowhere" in (runs / "logs" / "lost.log").read_text()
    assert "resuming from checkpoint-2" in (runs / "logs" / "third.log").read_text()
    assert not (runs / "logs" / "first.log").exists()
    assert third.metrics.training.resumed_at_steps == [2]
    assert (third.model / "model.safetensors").read_bytes() == weights

    listed = cli("study", study, "train.per_device_eval_batch_size=8", "--list")[1]
    assert listed.splitlines()[0] == "  0  first  finished"  # a resume may change it, too
    listed = cli("study", study, "train.learning_rate=1", "--list")[1]
    assert listed.splitlines()[0] == "  0  first  of another recipe"
    code, _, err = cli("study", study, "train.learning_rate=1")
    assert code == 2
    assert "started with other settings (first, third)" in err


STUBBORN = """
import signal, sys, time
def save(*_):
    time.sleep(1)
    print("saved", flush=True)
    sys.exit(143)
signal.signal(signal.SIGTERM, save)
print("began", flush=True)
time.sleep(300)
"""
RUNNER = """
import pathlib, signal, sys
from fer_hf.workflows import study
signal.signal(signal.SIGTERM, signal.default_int_handler)
study._run_one([sys.executable, "-c", sys.argv[1]], pathlib.Path(sys.argv[2]))
"""


def test_a_study_that_is_stopped_stops_its_entry_and_waits_for_it(tmp_path):
    log = tmp_path / "entry.log"
    env = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    runner = subprocess.Popen([sys.executable, "-c", RUNNER, STUBBORN, str(log)], env=env, stderr=subprocess.DEVNULL)
    end = time.monotonic() + 300
    while not (log.is_file() and log.read_text()):
        assert time.monotonic() < end
        time.sleep(0.1)
    runner.send_signal(signal.SIGTERM)
    assert runner.wait(300) != 0
    assert log.read_text() == "began\nsaved\n"


def test_folders_may_have_names_that_rich_and_slurm_read_otherwise(tmp_path, monkeypatch):
    runs = studies.open_study(write(tmp_path, "recipe: base.yaml\n"), output=tmp_path / "100%a [" / "bold]")
    monkeypatch.setattr(studies, "_run_one", lambda command, log: "")
    assert [result.failed for result in studies.run_entries(runs)] == [False]
    monkeypatch.setattr(studies.shutil, "which", lambda name: name)
    monkeypatch.setattr(studies, "_slurm", lambda *call: "\n".join(call))
    assert f"--output={tmp_path}/100%%a [/bold]/logs/slurm-%a.log" in studies.submit_study(runs)


def test_slurm_gets_the_entries_that_are_not_finished(tmp_path, cli, monkeypatch):
    study = write(tmp_path, "recipe: base.yaml\nmatrix: {train.seed: [0, 1, 2, 3, 4, 5]}\n")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    code, _, err = cli("study", study, "--slurm")
    assert code == 2
    assert "There is no sbatch here" in err
    script = tmp_path / "runs" / "mine" / "slurm.sh"
    assert script.read_text() == (shipped_recipes() / "slurm" / "study.sh").read_text()

    (tmp_path / "bin").mkdir()
    for name, text in [("squeue", ""), ("sbatch", f'printf "%s\\n" "$@" > {tmp_path}/asked; echo "12;cluster"')]:
        (tmp_path / "bin" / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / "bin" / name).chmod(0o755)
    for seed in (3, 5):
        run = Run(tmp_path / "runs" / "mine" / f"seed={seed}")
        run.path.mkdir()
        run.recipe_file.write_text(load_study(study).recipe(f"seed={seed}", ["train.learning_rate=1"]).to_yaml())
        run.update(finished=True)
    script.write_text("edited")
    options = ("--slurm", "--slurm-options", "--partition=gpu --time='2:00:00'")
    code, out, err = cli("study", study, "train.learning_rate=1", *options)
    assert code == 0, err
    assert out.startswith("Job 12: 4 of 6 entries.")
    assert (tmp_path / "asked").read_text().splitlines() == [
        *("--parsable", "--array=0,1,2,4", "--job-name=mine", "--output=runs/mine/logs/slurm-%a.log"),
        *("--partition=gpu", "--time=2:00:00", "runs/mine/slurm.sh", "runs/mine/logs"),
        "seed=0 seed=1 seed=2 seed=3 seed=4 seed=5",
        *(sys.executable, "-m", "fer_hf", "study", study, "train.learning_rate=1", "--output", "runs/mine"),
    ]
    assert script.read_text() == "edited"

    (tmp_path / "bin" / "squeue").write_text(f'#!/bin/sh\necho "mine {tmp_path}"\n')
    assert "in the queue already" in cli("study", study, "train.learning_rate=1", "--slurm")[2]
    (tmp_path / "bin" / "squeue").write_text("#!/bin/sh\n")
    (tmp_path / "bin" / "sbatch").write_text("#!/bin/sh\necho 'invalid partition specified: gpu' >&2; exit 1\n")
    code, _, err = cli("study", study, "train.learning_rate=1", "--slurm")
    assert code == 2
    assert "invalid partition specified: gpu" in err

"""`fer-hf compare` as a user types it, on tiny models with made-up predictions."""

import csv
import json
import re
import shutil

import pytest
import torch
from PIL import Image
from run_maker import LABELS, make_run, noisy

from fer_hf.models.load import load_model, save_model
from fer_hf.runs.folder import Run

TRUE = [LABELS[i % 3] for i in range(300)]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A study of six configurations, three seeds each."""
    folder = tmp_path_factory.mktemp("made") / "phase1"
    loaded = load_model("test_resnet", LABELS, pretrained=False, image_size=32)
    for number, name in enumerate(("plain", "mixup", "cutmix", "smooth[v2]", "balanced_efficientnet_b0", "attention")):
        for seed in range(3):
            predicted = noisy(TRUE, 0.5 + 0.06 * number, 10 * number + seed)
            run = make_run(
                folder / f"{name}-seed={seed}", predicted, TRUE, seed=seed, augment={"rotation": number}, seconds=6000
            )
        save_model(loaded.model, loaded.processor, Run(folder / f"{name}-seed=0").model)
    run.update(finished=False)
    return folder


@pytest.fixture
def study(made, tmp_path):
    shutil.copytree(made, tmp_path / "runs/phase1")
    return tmp_path / "runs/phase1"


def test_a_study_is_ranked_written_and_drawn(cli, study, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")  # as in a pipe
    code, out, err = cli("compare", "runs/phase1", "--baseline", "runs/phase1/plain-seed=1", "--x", "augment.rotation")
    assert code == 0, err
    assert "left out: runs/phase1/attention-seed=2: not finished" in err
    shown = ["attention", "balanced_efficientnet_b0", "smooth[v2]", "cutmix", "mixup", "plain"]
    first = re.findall(r"^ (\S+) .*\[", out, flags=re.MULTILINE)
    assert all(name.startswith(start) for name, start in zip(shown, first, strict=True))  # a long one is folded
    assert re.findall(r"^ (\S+) +[+\d.*]+ ", out, flags=re.MULTILINE)[-6:] == ["plain", *shown[:-1]]
    assert max(map(len, out.splitlines())) <= 100
    assert "…" not in out
    assert "attention is better than balanced_efficientnet_b0: " in out.replace("\n", " ")
    with open(study / "compare.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["name"] for row in rows] == shown
    assert [int(row["seeds"]) for row in rows] == [2, 3, 3, 3, 3, 3]
    assert [float(row["augment.rotation"]) for row in rows] == [5, 4, 3, 2, 1, 0]
    with open(study / "compare_changes.csv", newline="") as file:
        changes = list(csv.DictReader(file))
    assert [row["figure"] for row in changes] == ["accuracy", *LABELS] * 5
    gain = 100 * (float(rows[0]["mean"]) - float(rows[-1]["mean"]))
    assert float(changes[0]["points"]) == pytest.approx(gain)
    assert f"{gain:+.1f}*" in out
    with open(study / "compare_pairs.csv", newline="") as file:
        pairs = list(csv.DictReader(file))
    assert len(pairs) == 15
    assert [pair["second"] for pair in pairs if pair["first"] == "attention"] == shown[1:]
    assert "Holm's correction for all 15 pairs" in out.replace("\n", " ")
    each = ", ".join(f"{100 * score:.1f}" for score in json.loads(rows[-1]["scores"]))
    assert f"plain {each}." in out.replace("\n", " ")
    assert all(0 < float(row["latency_min_ms"]) <= float(row["latency_ms"]) for row in rows)
    page = (study / "compare.md").read_text()
    assert re.search(rf"\| plain +\| {float(rows[-1]['mean']) * 100:.1f} ± {float(rows[-1]['std']) * 100:.1f} \|", page)
    assert f"(threads: {torch.get_num_threads()})" in page
    assert "![accuracy and augment.rotation](compare.png)" in page
    with Image.open(study / "compare.png") as image:
        assert image.width == 1050
    page = (study / "compare.html").read_text(encoding="utf-8")
    assert "augment.rotation" in page
    assert f"plain {each}." in page
    assert "Holm&#39;s correction for all 15 pairs" in page
    assert str(study) not in page


def test_runs_one_by_one_go_to_a_folder_of_their_own_or_the_one_given(cli, study, tmp_path):
    Run(study / "plain-seed=0").update(model={"image_size": [64, 48]})
    code, out, err = cli("compare", "runs/phase1/plain-seed=0", "runs/phase1/mixup-seed=0", "--x", "model.image_size")
    assert code == 0
    assert "not in the figure: mixup, which has no model.image_size" in err
    with open(tmp_path / "runs/compare/compare.csv", newline="") as file:
        assert {row["name"]: row["model.image_size"] for row in csv.DictReader(file)} == {"plain": "64", "mixup": ""}
    assert "tables and figure: runs/compare/compare.csv" in out
    assert not (tmp_path / "runs/compare/compare_changes.csv").exists()
    assert "not about other seeds" in out.replace("\n", " ")
    code, out, _ = cli("compare", "runs/phase1/plain-seed=0", "--output", "alone", "--metric", "balanced_accuracy")
    assert code == 0
    assert "There is nothing to compare it with." in out
    assert (tmp_path / "alone/compare.png").is_file()


def test_what_cannot_be_compared_ends_in_a_message(cli, study, tmp_path):
    (tmp_path / "empty").mkdir()
    for arguments, message in (
        (("empty",), "There is no finished run in empty (unfinished: 0)"),
        (("runs/nowhere",), "There is no finished run in runs/nowhere"),
        (("runs/phase1", "--split", "validation"), "has no figures on a validation split: fer-hf evaluate"),
        (("runs/phase1", "--metric", "speed"), "'speed' is not one of"),
        (("runs/phase1", "--format", "int8"), "with its int8 file: fer-hf evaluate"),
        (("runs/phase1", "--dataset", "RAF-DB"), "--data SOURCE --split test (SOURCE: that of RAF-DB)"),
        (("runs/phase1", "--baseline", "runs/phase1"), "'runs/phase1' is not a run folder"),
        (("runs/phase1", "--baseline", "runs/phase1/attention-seed=2"), "attention-seed=2 is left out, see above"),
        (("runs/phase1", "--x", "augment.rotatoin"), "Did you mean 'augment.rotation'?"),
    ):
        code, out, err = cli("compare", *arguments)
        assert (code, out) == (2, "")
        assert message in err.replace("\n", " ")
    assert not (study / "compare.csv").exists()
    shutil.rmtree(study / "mixup-seed=1/predictions")
    code, _, err = cli("compare", "runs/phase1")
    assert code == 2
    again = "predictions/toy-test.parquet is missing, which this makes again: fer-hf evaluate"
    assert f"{again} runs/phase1/mixup-seed=1 --split test" in " ".join(err.split())

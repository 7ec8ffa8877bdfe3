"""What `fer-hf evaluate` prints of an evaluation, new or from an older file."""

from pathlib import Path

import numpy as np

from fer_hf.cli.tables import print_classes
from fer_hf.metrics import classification_metrics
from fer_hf.runs.folder import Run
from fer_hf.runs.records import Evaluation, read_record

OLDEST = Path(__file__).parents[2] / "model_cards" / "fer2013_cpu_from_scratch"


def printed(evaluation, capsys, monkeypatch) -> str:
    monkeypatch.setenv("COLUMNS", "80")
    print_classes(evaluation)
    out = capsys.readouterr().out
    assert "…" not in out
    assert max(map(len, out.splitlines())) <= 80
    return " ".join(out.split())


def test_every_figure_is_there_with_its_interval(capsys, monkeypatch):
    labels, references = ("angry", "happy", "sad"), np.repeat([0, 1], [60, 40])  # no sad face
    logits = 2.0 * np.eye(3)[np.where(np.arange(100) % 5 == 0, 1, references)]
    figures = classification_metrics(logits, references, labels)
    out = printed(read_record(Evaluation, {"dataset": "toy", "split": "test"} | figures), capsys, monkeypatch)
    low, high = figures["intervals"]["cohen_kappa"]
    assert f"Cohen's kappa {figures['cohen_kappa']:.2f} [{low:.2f}, {high:.2f}]" in out
    assert "accuracy 88.0% [" in out
    assert "Given an emotion of the right group: negative 80.0% of 60, positive 100.0% of 40." in out
    assert out.endswith("Largest errors: angry -> happy: 12, 20 % of angry.")


def test_an_older_evaluation_has_dashes(capsys, monkeypatch):
    evaluation = Run(OLDEST).metrics.evaluations["fer2013-test"]
    assert (evaluation.aurc, evaluation.intervals, evaluation.per_class["sad"].roc_auc) == (None, None, None)
    out = printed(evaluation, capsys, monkeypatch)
    assert "│ sad │ 52.4% │ 51.0% │ 51.7% │ – │ – │ 594 │" in out
    assert "Largest errors: sad -> neutral: 118, 20 % of sad; " in out

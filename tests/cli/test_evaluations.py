"""What `fer-hf evaluate` prints of one evaluation, of several, and of an ensemble."""

from dataclasses import replace
from pathlib import Path

import pytest
from report_figures import evaluation
from rich.console import Console

from fer_hf.cli import evaluations
from fer_hf.runs.analyses import Domains, Ensemble, Estimate, Member, Transfer, WithoutCopies
from fer_hf.runs.folder import Run
from fer_hf.runs.records import Evaluation, read_record
from fer_hf.workflows.across import RULE, Result, Results
from fer_hf.workflows.ensemble import EnsembleResult

GAP = Estimate(0.054, -0.0004, 0.107)
OWN = read_record(Evaluation, evaluation("test", "pytorch", [[6, 1, 3], [0, 18, 2], [4, 0, 6]]) | {"own": True})
OTHER = read_record(Evaluation, evaluation("test", "pytorch", [[5, 2, 3], [0, 0, 0], [0, 4, 6]], dataset="faces"))
TRANSFER = Transfer("fer2013-test", {"contempt": 1200}, ["happy"], 6, 0.85, GAP, GAP, {"sad": GAP})


@pytest.fixture
def printed(monkeypatch, capsys):
    """What a function of the module prints, its lines without blanks at their ends."""

    def call(name, *arguments):
        for module in ("evaluations", "tables"):
            monkeypatch.setattr(f"fer_hf.cli.{module}.output", Console(width=160, markup=False))
        getattr(evaluations, name)(*arguments)
        return "\n".join(line.rstrip() for line in capsys.readouterr().out.splitlines())

    return call


def test_the_gap_to_the_own_test_set_and_what_had_no_counterpart(printed):
    row = Result("runs/a", Run("runs/a"), OTHER, OWN, TRANSFER, Domains("own", "faces", [40, 20], 1.234, -0.0001))
    text = printed("print_evaluations", Results([row]), RULE)
    for part in ("FER2013 test (own)", "1,200", "85.0%", "5.4 [0.0, 10.7]", "1.23", "0.000", RULE):
        assert part in text
    assert "faces test: 1,200 images of contempt left out; no images of happy, which 6 images were taken for." in text
    assert "-0.0" not in text


def test_a_matrix_has_a_row_for_each_model(printed):
    rows = [Result(model, Run(model), OTHER, OWN, TRANSFER) for model in ("runs/a", "runs/b")]
    text = printed("print_evaluations", Results(rows, Path(__file__)), RULE)
    [first, second] = [line for line in text.splitlines() if line.strip().startswith("runs/") and "75.0%" in line]
    assert first.split()[1:] == second.split()[1:]
    assert f"table: {__file__}" in text


def test_figures_without_copies_and_without_any(printed):
    rest = WithoutCopies("FER2013", 30, 10, Estimate(0.7, 0.6, 0.8), Estimate(0.65, 0.5, 0.7), GAP, 0.9)
    record = read_record(Evaluation, evaluation("test", "pytorch", [[6, 1, 3], [0, 18, 2], [4, 0, 6]]))
    text = printed("print_without_copies", replace(record, without_copies=rest))
    assert "10 of 40 images (25.0%) have a copy" in text
    assert "75.0% officially and 70.0% [60.0, 80.0] without them, a difference of 5.4 [0.0, 10.7] points" in text
    assert "no image has a copy" in printed(
        "print_without_copies", replace(record, without_copies=replace(rest, copies=0))
    )
    assert printed("print_without_copies", record) == ""


@pytest.mark.parametrize(
    ("difference", "p", "says"),
    [
        (0.02, 0.01, "is better than its best member, a: 2.0"),
        (-0.02, 0.0001, "is worse than its best member, a: -2.0 [-3.0, -1.0] points of accuracy, p < 0.001"),
        (0.02, 0.2, "is not significantly better than its best member"),
    ],
)
def test_an_ensemble_beside_its_members(printed, difference, p, says):
    members = [Member("a", 0.7, 0.6, 1_500_000, 6.0, 3.0), Member("b", 0.6, 0.5, None, 4.0, 2.0)]
    estimate = Estimate(difference, difference - 0.01, difference + 0.01)
    found = Ensemble(members, "a", estimate, p, 0.5, None, 10.0, 5.0, 2, "Some CPU")
    text = printed("print_ensemble", EnsembleResult(Run("nowhere"), OWN, found))
    assert says in text
    assert "Some CPU (threads: 2)" in text
    assert [line.split()[-3:] for line in text.splitlines() if line.startswith(" ensemble")] == [["–", "10.0", "5.0"]]

"""Several models on several datasets, figures without copies, and ensembles: what is computed, and where it lies."""

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest
from face_folder import write_faces

from fer_hf.errors import UserError
from fer_hf.evaluation.compare import find_runs
from fer_hf.files import write_text
from fer_hf.metrics.distances import frechet_distance
from fer_hf.models.classifier import load_classifier
from fer_hf.recipe.schema import Recipe
from fer_hf.report.model_card import card_text
from fer_hf.runs.folder import Run
from fer_hf.runs.predictions import read_predictions
from fer_hf.workflows import across, ensemble, evaluate
from fer_hf.workflows.across import evaluate_all
from fer_hf.workflows.ensemble import evaluate_ensemble
from fer_hf.workflows.evaluate import Settings
from fer_hf.workflows.faces import recipe_faces, splits_csv

OTHER_NAMES = {"angry": "Anger", "happy": "happiness", "sad": "sadness", "fear": "contempt"}


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """Faces with a test image that is also in train, and four of them under other names, one as contempt."""
    place = tmp_path_factory.mktemp("across")
    write_faces(place / "faces", train=4, validation=1, test=6)
    test = sorted((place / "faces/test/happy").iterdir())
    shutil.copy(test[0], place / "faces/train/happy/leak.png")
    for own, other in OTHER_NAMES.items():
        shutil.copytree(place / "faces/test" / own, place / "other" / other)
    return place


@pytest.fixture(scope="module")
def runs(place, tiny_model) -> list[Run]:
    """Two runs as a training leaves them; the second has other weights."""
    made = []
    for name, shift in (("one", 0.0), ("two", 0.5)):
        run = Run(place / name)
        shutil.copytree(tiny_model, run.model)
        recipe = Recipe.model_validate({"name": name, "data": {"source": f"folder:{place / 'faces'}"}})
        write_text(run.recipe_file, recipe.to_yaml())
        faces = recipe_faces(recipe)
        write_text(run.splits_file, splits_csv(faces))
        run.update(name=name, label_names=list(faces.label_names), data=faces.describe(), model={"parameters": 1000})
        if shift:
            classifier = load_classifier(run)
            for parameter in classifier.model.parameters():
                parameter.data += shift * parameter.data.std(unbiased=False)
            classifier.model.save_pretrained(run.model)
        made.append(run)
    return made


@pytest.fixture(scope="module")
def own(runs):
    """The first run on its own test set, with a look for copies."""
    return evaluate_all([runs[0].path], (), Settings(copies="find")).rows[0].evaluation


def test_the_figures_without_copies_stand_beside_the_official_ones(runs, own):
    rest = own.without_copies
    assert (rest.copies, rest.images, own.images) == (1, 41, 42)
    found = read_predictions(runs[0].path / own.predictions)
    kept = np.array(["happy" not in name or not name.endswith("/" + leaked(runs[0])) for name in found.ids])
    assert rest.accuracy.value == pytest.approx((found.predicted == found.labels)[kept].mean())
    with open(runs[0].copies_file, encoding="utf-8") as file:
        assert [(row["split"], row["kind"], row["of_split"]) for row in csv.DictReader(file)] == [
            ("test", "exact", "train")
        ]


def leaked(run: Run) -> str:
    return run.copies_file.read_text().splitlines()[1].split(",")[1].rpartition("/")[2]


def test_a_run_remembers_its_copies_and_an_audit_of_others_is_refused(runs, own, place, tmp_path, monkeypatch):
    monkeypatch.setattr("fer_hf.workflows.copies.find_copies", None)
    assert evaluate.evaluate(runs[0]).without_copies == own.without_copies
    (tmp_path / "copies.csv").write_text("split,id,label,kind,of_split,of_id,of_label\ntest,x,sad,near,train,y,sad\n")
    for data, says in (
        ((), "none of the 2 images that it lists"),
        ([f"folder:{place / 'other'}"], "is not what .*one has learnt"),
    ):
        with pytest.raises(UserError, match=says):
            evaluate_all([runs[0].path], data, Settings(copies=str(tmp_path)))
    assert evaluate.evaluate(runs[0]).without_copies == own.without_copies


def test_other_data_are_searched_for_copies_of_the_runs_training_images(runs, own, place):
    [row] = evaluate_all([runs[0].path], [f"folder:{place / 'other'}"], Settings(copies="find")).rows
    assert (row.evaluation.without_copies.copies, row.evaluation.without_copies.audit) == (1, "faces and other")


def test_several_data_are_held_against_the_own_test_set(runs, own, place):
    found = evaluate_all([runs[0].path], [f"folder:{place / 'other'}", f"folder:{place / 'faces'}"], distances=True)
    other, again = found.rows
    assert (other.evaluation.images, other.transfer.left_out, again.transfer) == (18, {"contempt": 6}, None)
    assert other.transfer.own == "faces-test"
    assert other.transfer.gap.value == pytest.approx(own.accuracy - other.evaluation.accuracy)
    assert other.transfer.recall_gap["sad"].value == 0  # the same images
    assert set(other.transfer.absent) == {"disgust", "fear", "neutral", "surprise"}
    assert runs[0].metrics.transfers == {other.key: other.transfer}
    assert runs[0].metrics.domains == {other.key: other.domains}
    assert other.domains.images == [42, 18]
    assert other.domains.frechet > 0 == frechet_distance(np.eye(3), np.eye(3))
    with open(found.table, encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [(row["dataset"], row["left_out"], row["gap"] != "") for row in rows] == [
        ("other", "6", True),
        ("faces", "0", False),
    ]


def test_a_matrix_of_runs_keeps_the_figures_in_each(runs, own, place, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    found = evaluate_all([run.path for run in runs], [f"folder:{place / 'other'}"])
    assert [row.run.path for row in found.rows] == [run.path for run in runs]
    assert found.table == Path("runs/evaluate/datasets.csv")
    with pytest.raises(UserError, match="there are 2 models: each keeps its own figures"):
        evaluate_all([run.path for run in runs], (), output=tmp_path / "x")


def test_an_ensemble_is_the_mean_of_stored_predictions_beside_its_members(runs, own, place, monkeypatch, tmp_path):
    evaluate.evaluate(runs[1])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(ensemble, "evaluate_one", None)  # nothing is predicted again
    found = evaluate_ensemble([run.path for run in runs])
    files = [read_predictions(run.path / run.evaluation("test").predictions) for run in runs]
    mean = np.mean([file.probabilities for file in files], axis=0)
    stored = read_predictions(found.run.path / found.evaluation.predictions)
    np.testing.assert_allclose(stored.probabilities, mean, atol=1e-6)
    assert found.evaluation.accuracy == pytest.approx((mean.argmax(axis=1) == files[0].labels).mean())
    assert [row.accuracy for row in found.ensemble.members] == [run.evaluation("test").accuracy for run in runs]
    cost = found.ensemble
    assert (cost.parameters, cost.megabytes) == (2000, pytest.approx(sum(row.megabytes for row in cost.members)))
    assert found.run.metrics.ensembles == {"faces-test": cost}
    assert Run(found.run.path).evaluation("test") == found.evaluation
    assert "Ensemble of one, two" in card_text(found.run.metrics)
    with pytest.raises(UserError, match="no finished run"):  # it is no run, so that `compare` passes it over
        find_runs([found.run.path])


@pytest.mark.parametrize(
    ("data", "copies", "names", "says"),
    [
        ((), None, ["one"], "needs two runs or more, and there is one"),
        ((), None, ["one", "faces"], "not a run folder"),
        (["toy", "toy"], None, ["one", "two"], "--data names 2: give one"),
        ((), "find", ["one", "two"], "--copies is of single models"),
    ],
)
def test_what_is_no_ensemble_is_refused(runs, place, data, copies, names, says):
    with pytest.raises(UserError, match=says):
        evaluate_ensemble([place / name for name in names], data, Settings(copies=copies))


def test_distances_need_a_run_with_a_test_set(tiny_model, place, tmp_path):
    with pytest.raises(UserError, match="is no run, so it has no test set to measure from"):
        evaluate_all([tiny_model], [f"folder:{place / 'other'}"], output=tmp_path / "x", distances=True)
    assert across.RULE.startswith("Labels are aligned by name")

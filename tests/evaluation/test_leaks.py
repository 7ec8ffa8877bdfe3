"""An evaluation without its copies, against scikit-learn and a plain bootstrap."""

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, f1_score

from fer_hf.evaluation.leaks import without_copies
from fer_hf.runs.predictions import Predictions


@pytest.fixture(scope="module")
def predictions() -> Predictions:
    """400 images of three classes, the first 100 easier than the others."""
    rng = np.random.default_rng(0)
    labels = rng.integers(3, size=400)
    right = rng.random(400) < np.where(np.arange(400) < 100, 0.9, 0.6)
    answers = np.where(right, labels, (labels + 1) % 3)
    return Predictions([f"{n}" for n in range(400)], labels, np.eye(3)[answers], ("angry", "happy", "sad"), {})


def test_figures_and_interval_of_the_difference(predictions):
    found = without_copies(predictions, [f"{n}" for n in range(100)], "faces")
    labels, answers = predictions.labels, predictions.predicted
    official, rest = accuracy_score(labels, answers), accuracy_score(labels[100:], answers[100:])
    assert (found.images, found.copies, found.audit) == (300, 100, "faces")
    assert found.accuracy.value == pytest.approx(rest)
    assert found.macro_f1.value == pytest.approx(f1_score(labels[100:], answers[100:], average="macro"))
    assert found.accuracy_of_copies == pytest.approx(accuracy_score(labels[:100], answers[:100]))
    assert found.difference.value == pytest.approx(official - rest)
    drawn = np.random.default_rng(1).integers(400, size=(4000, 400))
    hits = (labels == answers)[drawn]
    differences = hits.mean(axis=1) - (hits * (drawn >= 100)).sum(axis=1) / (drawn >= 100).sum(axis=1)
    expected = np.quantile(differences, [0.025, 0.975])
    np.testing.assert_allclose([found.difference.low, found.difference.high], expected, atol=0.004)


def test_without_copies_nothing_changes_and_with_copies_alone_nothing_is_left(predictions):
    found = without_copies(predictions, ["none of these"], "faces")
    assert (found.copies, found.accuracy_of_copies) == (0, None)
    assert (found.difference.value, found.difference.low, found.difference.high) == (0, 0, 0)
    assert without_copies(predictions, predictions.ids, "faces") is None


def test_two_images_of_which_one_is_a_copy():
    found = without_copies(Predictions(["a", "b"], np.array([0, 1]), np.eye(2), ("happy", "sad"), {}), {"a"}, "two")
    assert (found.accuracy.value, found.accuracy.low, found.difference.high) == (1, 1, 0)

"""The mean of several models: images by id, classes by name, and the best member beside it."""

from dataclasses import replace

import numpy as np
import pytest

from fer_hf.errors import UserError
from fer_hf.evaluation.ensemble import against_best, aligned, mean_logits
from fer_hf.runs.predictions import Predictions

NAMES = ("angry", "happy", "sad")


@pytest.fixture
def first() -> Predictions:
    rng = np.random.default_rng(0)
    return Predictions(["a", "b", "c", "d"], np.array([0, 1, 2, 1]), rng.normal(size=(4, 3)), NAMES, {})


def test_images_and_classes_in_any_order_are_one(first):
    rows, columns = [2, 0, 3, 1], [1, 2, 0]
    labels = np.array([columns.index(label) for label in first.labels])[rows]
    names = tuple(NAMES[column] for column in columns)
    shuffled = Predictions([first.ids[r] for r in rows], labels, first.logits[rows][:, columns], names, {})
    references, probabilities = aligned({"one": first, "other": shuffled})
    np.testing.assert_array_equal(references, first.labels)
    np.testing.assert_allclose(probabilities[0], probabilities[1])
    np.testing.assert_allclose(probabilities[0], first.probabilities)
    logits = mean_logits(probabilities)
    np.testing.assert_allclose(np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True), first.probabilities)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"ids": ["a", "b", "c", "e"]}, r"other and one differ in the images \(d, e\)"),
        ({"label_names": ("angry", "happy", "fear")}, r"differ in the classes \(fear, sad\)"),
        ({"labels": np.array([0, 1, 2, 2])}, "different labels for 1 images, such as d"),
    ],
)
def test_members_that_differ_are_refused(first, change, says):
    with pytest.raises(UserError, match=says):
        aligned({"one": first, "other": replace(first, **change)})
    with pytest.raises(UserError, match="several images of one id"):
        aligned({"one": replace(first, ids=["a", "a", "c", "d"]), "other": first})


def test_the_best_member_is_the_one_to_beat():
    rng = np.random.default_rng(0)
    references = rng.integers(3, size=600)
    members = np.stack([np.where(rng.random(600) < share, references, (references + 1) % 3) for share in (0.6, 0.7)])
    better = np.where(rng.random(600) < 0.85, references, (references + 1) % 3)
    found = against_best(references, members, better)
    difference = (better == references).mean() - (members[1] == references).mean()
    assert (found.best, found.difference.value) == (1, pytest.approx(difference))
    assert 0 < found.difference.low < difference < found.difference.high
    assert max(found.p, found.mcnemar_p) < 0.001
    same = against_best(references, members, members[1])
    assert (same.difference.value, same.p, same.mcnemar_p) == (0, 1, 1)

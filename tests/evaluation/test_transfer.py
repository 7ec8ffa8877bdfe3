"""The gap between datasets: labels by name, independent samples, and emotions that one side lacks."""

import numpy as np
import pytest
from report_figures import evaluation

from fer_hf.evaluation.transfer import transfer
from fer_hf.runs.predictions import Predictions
from fer_hf.runs.records import Evaluation, read_record

OWN = [[60, 20, 20], [10, 80, 10], [20, 10, 70]]


def both(counts, labels=("angry", "happy", "sad")):
    """An evaluation and its predictions, from a confusion matrix."""
    record = read_record(Evaluation, evaluation("test", "pytorch", counts, list(labels)))
    true = np.repeat(np.arange(3), np.sum(counts, axis=1))
    answers = np.concatenate([np.repeat(np.arange(3), row) for row in counts])
    logits = 2.0 * np.eye(3)[answers] + np.eye(3)[true]  # the true class comes second
    return record, Predictions([str(n) for n in range(len(true))], true, logits, labels, {})


def test_gaps_are_of_two_independent_samples():
    own, _ = both(OWN)
    found = transfer(*both([[20, 20, 10], [0, 50, 0], [30, 10, 60]]), {"contempt": 3, "fear": 0}, ("own-test", own))
    assert (found.own, found.left_out, found.absent, found.answered_absent) == ("own-test", {"contempt": 3}, [], 0)
    here, there = 0.7, 130 / 200
    assert found.gap.value == pytest.approx(here - there)
    spread = 1.96 * np.sqrt(here * (1 - here) / 300 + there * (1 - there) / 200)
    np.testing.assert_allclose([found.gap.low, found.gap.high], [0.05 - spread, 0.05 + spread], atol=0.005)
    recalls = {"angry": 0.6 - 0.4, "happy": 0.8 - 1, "sad": 0.7 - 0.6}
    assert {name: gap.value for name, gap in found.recall_gap.items()} == pytest.approx(recalls)
    assert found.balanced_gap.value == pytest.approx(np.mean(list(recalls.values())))


def test_emotions_that_the_data_lack_stay_in_the_competition():
    own, _ = both(OWN)
    counts = [[5, 2, 3], [0, 0, 0], [0, 4, 6]]  # six answers are an emotion that no image shows
    record, predictions = both(counts)
    found = transfer(record, predictions, {}, ("own-test", own))
    assert (found.absent, found.answered_absent, record.accuracy) == (["happy"], 6, 11 / 20)
    assert found.accuracy_of_shared == 17 / 20  # without "happy" its six would be right
    assert found.recall_gap.keys() == {"angry", "sad"}
    assert found.balanced_gap.value == pytest.approx(0.65 - 0.55)


def test_one_emotion_alone_has_nothing_to_compete_with():
    found = transfer(*both([[0, 0, 0], [2, 7, 1], [0, 0, 0]]), {}, None)
    assert (found.absent, found.accuracy_of_shared) == (["angry", "sad"], None)


def test_labels_in_another_order_and_a_model_without_a_test_set_of_its_own():
    own, _ = both(np.array(OWN)[[2, 0, 1]][:, [2, 0, 1]], ("sad", "angry", "happy"))
    record, predictions = both(OWN)
    found = transfer(record, predictions, {}, ("own-test", own))
    assert found.gap.value == 0
    assert {gap.value for gap in found.recall_gap.values()} == {0}
    alone = transfer(record, predictions, {}, None)
    assert (alone.own, alone.gap, alone.balanced_gap, alone.recall_gap) == (None, None, None, {})

import json

import numpy as np
import pytest
import torch
from scipy.special import softmax
from sklearn import metrics as sk
from torchmetrics.functional.classification import multiclass_accuracy, multiclass_calibration_error

from fer_hf.metrics import class_balance, classification_metrics, top_k_accuracy

LABELS = ("angry", "fear", "happy", "sad")


@pytest.fixture(scope="module")
def sample():
    rng = np.random.default_rng(0)
    references = rng.choice(4, size=500, p=[0.1, 0.2, 0.5, 0.2])
    logits = rng.normal(size=(500, 4))
    logits[np.arange(500), references] += 1.2
    return logits, references


def test_against_scikit_learn(sample):
    logits, references = sample
    ours = classification_metrics(logits, references, LABELS)
    predictions = logits.argmax(1)
    report = sk.classification_report(references, predictions, target_names=LABELS, output_dict=True)
    assert ours["accuracy"] == pytest.approx(sk.accuracy_score(references, predictions))
    assert ours["balanced_accuracy"] == pytest.approx(sk.balanced_accuracy_score(references, predictions))
    assert ours["log_loss"] == pytest.approx(sk.log_loss(references, softmax(logits, axis=1)))
    assert ours["top_2_accuracy"] == pytest.approx(sk.top_k_accuracy_score(references, logits, k=2))
    for average in ("macro", "weighted"):
        for ours_name, theirs in (("precision", "precision"), ("recall", "recall"), ("f1", "f1-score")):
            assert ours[f"{average}_{ours_name}"] == pytest.approx(report[f"{average} avg"][theirs])
    for label in LABELS:
        assert ours["per_class"][label]["f1"] == pytest.approx(report[label]["f1-score"])
        assert ours["per_class"][label]["support"] == report[label]["support"]
    assert ours["confusion_matrix"] == sk.confusion_matrix(references, predictions).tolist()
    assert ours["images"] == 500


def test_against_torchmetrics(sample):
    logits, references = sample
    ours = classification_metrics(logits, references, LABELS)
    probabilities, targets = torch.tensor(softmax(logits, axis=1)), torch.tensor(references)
    error = multiclass_calibration_error(probabilities, targets, num_classes=4, n_bins=15, norm="l1")
    assert ours["expected_calibration_error"] == pytest.approx(float(error), abs=1e-6)
    top2 = multiclass_accuracy(probabilities, targets, num_classes=4, top_k=2, average="micro")
    assert ours["top_2_accuracy"] == pytest.approx(float(top2))
    assert sum(row["count"] for row in ours["reliability"]) == 500


def test_top_k_against_scikit_learn_and_torchmetrics_and_by_hand_where_classes_tie(sample):
    logits, references = sample
    ours = classification_metrics(logits, references, LABELS, top_k=[3, 1])
    assert list(ours["top_k_accuracy"]) == [1, 3]
    assert ours["top_k_accuracy"][1] == ours["accuracy"]
    for k in (1, 2, 3):
        value = top_k_accuracy(logits, references, k)
        assert value == pytest.approx(sk.top_k_accuracy_score(references, logits, k=k))
        torch_value = multiclass_accuracy(
            torch.tensor(logits), torch.tensor(references), num_classes=4, top_k=k, average="micro"
        )
        assert value == pytest.approx(float(torch_value))
    tied = np.zeros((4, 4))  # as of a saturated INT8 model: the lower id comes first
    assert [top_k_accuracy(tied, np.arange(4), k) for k in (1, 2, 3, 4)] == [0.25, 0.5, 0.75, 1.0]
    for k in (0, 5):
        with pytest.raises(ValueError, match=rf"k={k} of top-k is not in 1 ... 4, the number of classes"):
            classification_metrics(logits, references, LABELS, top_k=[2, k])


def test_a_class_that_is_nowhere_does_not_count():
    logits = np.eye(4)[[0, 1, 1, 0]] * 5
    ours = classification_metrics(logits, np.array([0, 1, 1, 0]), LABELS)
    assert ours["macro_f1"] == 1.0
    assert ours["balanced_accuracy"] == 1.0
    assert ours["macro_f1_ci"] == [1.0, 1.0]
    sad = ours["per_class"]["sad"]
    assert [sad[name] for name in ("precision", "recall", "f1", "support")] == [0.0, 0.0, 0.0, 0]
    assert (sad["roc_auc"], sad["average_precision"]) == (None, None)  # and the means are over the others
    assert ours["macro_roc_auc"] == ours["macro_average_precision"] == 1.0
    assert ours["confidence_when_wrong"] is None
    assert "confidence_when_wrong" not in ours["intervals"]
    assert ours["valence"] == {
        "negative": {"labels": ["angry", "fear", "sad"], "images": 4, "accuracy": 1.0, "recall": 1.0}
    }


@pytest.mark.parametrize(("logits", "label"), [([5, 0, 0, 0], 0), ([0, 0, 0, 0], 3)])
def test_one_image_has_figures_and_what_it_cannot_have_is_none(logits, label):
    ours = classification_metrics(np.array([logits], dtype=float), np.array([label]), LABELS)
    json.dumps(ours, allow_nan=False)
    assert ours["accuracy"] == (label == 0)
    assert ours["macro_roc_auc"] is None
    assert ours["per_class"][LABELS[label]]["average_precision"] == 1.0
    assert ours["matthews_correlation"] is None


def test_extreme_logits_stay_finite():
    ours = classification_metrics(np.array([[1e4, 0, 0, 0], [0, 1e4, 0, 0]]), np.array([0, 0]), LABELS)
    assert np.isfinite(ours["log_loss"])
    assert ours["log_loss"] == pytest.approx(5000)


@pytest.mark.parametrize(("logits", "references"), [(np.zeros((0, 4)), []), (np.zeros((2, 3)), [0, 1])])
def test_ill_shaped_input_is_refused(logits, references):
    with pytest.raises(ValueError, match="do not fit"):
        classification_metrics(logits, np.array(references), LABELS)


def test_class_balance_is_by_counts_over_an_even_share():
    balance = class_balance({"angry": 0, "happy": 70, "sad": 15, "fear": 35})
    assert (balance.ratio, balance.commonest, balance.rarest) == (pytest.approx(70 / 15), "happy", "sad")
    assert balance.times == {"angry": 0.0, "happy": 70 / 30, "sad": 0.5, "fear": 35 / 30}
    assert (balance.over, balance.under) == (["happy"], ["angry"])  # half an even share is not less than half
    with pytest.raises(ValueError, match="no class has images"):
        class_balance({"angry": 0})

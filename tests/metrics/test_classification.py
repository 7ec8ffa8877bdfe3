import numpy as np
import pytest
import torch
from scipy.special import softmax
from sklearn import metrics as sk
from torchmetrics.functional.classification import multiclass_accuracy, multiclass_calibration_error

from fer_hf.metrics import bootstrap_intervals, class_balance, classification_metrics, macro_f1_of, top_k_accuracy

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


def test_intervals_agree_with_a_plain_bootstrap(sample):
    logits, references = sample
    predictions = logits.argmax(1)
    ours = classification_metrics(logits, references, LABELS)
    rng = np.random.default_rng(1)
    draws = [rng.integers(0, 500, 500) for _ in range(300)]
    accuracy = [sk.accuracy_score(references[d], predictions[d]) for d in draws]
    f1 = [sk.f1_score(references[d], predictions[d], average="macro") for d in draws]
    assert ours["accuracy_ci"] == pytest.approx(np.quantile(accuracy, [0.025, 0.975]), abs=0.01)
    assert ours["macro_f1_ci"] == pytest.approx(np.quantile(f1, [0.025, 0.975]), abs=0.01)
    assert ours["accuracy_ci"][0] < ours["accuracy"] < ours["accuracy_ci"][1]


def test_intervals_are_reproducible():
    confusion = np.array([[5, 1], [2, 8]])
    assert bootstrap_intervals(confusion) == bootstrap_intervals(confusion)
    assert macro_f1_of(confusion) == pytest.approx(
        sk.f1_score([0] * 6 + [1] * 10, [0] * 5 + [1] + [0] * 2 + [1] * 8, average="macro")
    )


def test_a_class_that_is_nowhere_does_not_count():
    logits = np.eye(4)[[0, 1, 1, 0]] * 5
    ours = classification_metrics(logits, np.array([0, 1, 1, 0]), LABELS)
    assert ours["macro_f1"] == 1.0
    assert ours["balanced_accuracy"] == 1.0
    assert ours["macro_f1_ci"] == [1.0, 1.0]
    assert ours["per_class"]["sad"] == {"precision": 0.0, "recall": 0.0, "f1": 0.0, "support": 0}


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

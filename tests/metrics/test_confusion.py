"""What follows from confusion matrices against scikit-learn, and the errors in words."""

import numpy as np
import pytest
from sklearn import metrics as sk

from fer_hf.emotions import EMOTIONS, VALENCE
from fer_hf.metrics import cohen_kappa_of, largest_confusions, matthews_correlation_of, normalised
from fer_hf.metrics.confusion import confusion_figures, valence_figures, valence_of

rng = np.random.default_rng(0)
TRUE = rng.choice(5, 300, p=[0.5, 0.2, 0.2, 0.1, 0])
PREDICTED = np.where(rng.random(300) < 0.5, TRUE, rng.integers(0, 5, 300))
COUNTS = sk.confusion_matrix(TRUE, PREDICTED, labels=range(5))


def test_figures_are_those_of_scikit_learn_for_many_matrices_at_once():
    ours = confusion_figures(np.stack([COUNTS, COUNTS.T]))
    both = ((TRUE, PREDICTED), (PREDICTED, TRUE))
    assert ours["accuracy"] == pytest.approx([sk.accuracy_score(*pair) for pair in both])
    assert ours["balanced_accuracy"][0] == pytest.approx(
        sk.recall_score(TRUE, PREDICTED, labels=range(4), average="macro")
    )
    assert ours["cohen_kappa"] == pytest.approx([sk.cohen_kappa_score(*pair) for pair in both])
    assert ours["matthews_correlation"] == pytest.approx([sk.matthews_corrcoef(*pair) for pair in both])
    for name, score in {"precision": sk.precision_score, "recall": sk.recall_score, "f1": sk.f1_score}.items():
        for average in ("macro", "weighted"):
            theirs = [score(*pair, average=average, zero_division=0) for pair in both]
            assert ours[f"{average}_{name}"] == pytest.approx(theirs)


def test_agreement_that_cannot_be_computed_is_nan():
    all_alike = np.array([[7, 0], [0, 0]])
    assert np.isnan([cohen_kappa_of(all_alike), matthews_correlation_of(all_alike)]).all()


@pytest.mark.parametrize("over", ["true", "predicted"])
def test_normalised_is_that_of_scikit_learn_but_for_empty_classes(over):
    theirs = sk.confusion_matrix(TRUE, PREDICTED, labels=range(5), normalize={"predicted": "pred"}.get(over, over))
    ours = normalised(COUNTS, over)
    np.testing.assert_allclose(np.nan_to_num(ours), theirs)
    assert np.isnan(ours[4]).all() == (over == "true")


def test_the_largest_errors_in_words():
    counts = [[982, 442, 50], [1, 7, 2], [0, 4, 6]]
    words = [str(pair) for pair in largest_confusions(counts, ("angry", "happy", "sad"))]
    assert words == [
        "angry -> happy: 442, 30 % of angry",
        "angry -> sad: 50, 3 % of angry",
        "sad -> happy: 4, 40 % of sad",
    ]


def test_every_emotion_has_one_group_and_other_labels_are_their_own():
    assert sorted(name for names in VALENCE.values() for name in names) == sorted(EMOTIONS)
    assert valence_of(("Happiness", "drowsy")) == ["positive", "drowsy"]
    figures = valence_figures([[0, 0, 0], [1, 2, 1], [0, 3, 3]], ("happy", "sad", "angry"))
    assert figures == {"negative": {"labels": ["sad", "angry"], "images": 10, "accuracy": 0.5, "recall": 0.9}}

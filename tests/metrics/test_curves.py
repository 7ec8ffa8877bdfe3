"""Curves and areas against scikit-learn, with ties, and risk-coverage against its definition."""

import numpy as np
import pytest
from sklearn import metrics as sk

from fer_hf.metrics import Curve, aurc, average_precision, precision_recall_curve, risk_coverage, roc_auc, roc_curve


@pytest.fixture(scope="module", params=[2, 12], ids=["tied", "distinct"])
def sample(request):
    rng = np.random.default_rng(0)
    positive = rng.random(400) < 0.3
    return np.round(rng.normal(size=400) + positive, request.param - 1), positive


def test_areas_are_those_of_scikit_learn(sample):
    scores, positive = sample
    assert roc_auc(scores, positive) == pytest.approx(sk.roc_auc_score(positive, scores))
    assert average_precision(scores, positive) == pytest.approx(sk.average_precision_score(positive, scores))


def test_curves_are_those_of_scikit_learn(sample):
    scores, positive = sample
    ours, theirs = roc_curve(scores, positive, 1000), sk.roc_curve(positive, scores, drop_intermediate=False)
    np.testing.assert_allclose((ours.x, ours.y), theirs[:2])
    ours, (precision, recall, _) = (
        precision_recall_curve(scores, positive, 1000),
        sk.precision_recall_curve(positive, scores),
    )
    np.testing.assert_allclose((ours.x[1:], ours.y[1:]), (recall[-2::-1], precision[-2::-1]))


def test_thinned_curves_keep_their_ends_and_their_area(sample):
    scores, positive = sample
    curve = roc_curve(scores, positive, points=60)
    assert len(curve.x) <= 62
    assert (curve.x[0], curve.y[0], curve.x[-1], curve.y[-1]) == (0, 0, 1, 1)
    assert np.trapezoid(curve.y, curve.x) == pytest.approx(roc_auc(scores, positive), abs=0.01)
    flat = Curve(np.zeros(500), np.zeros(500)).thinned(10)
    assert flat.x.tolist() == [0, 0]


@pytest.mark.parametrize("positive", [np.ones(3, bool), np.zeros(3, bool)])
def test_without_positive_or_negative_images_there_is_no_roc(positive):
    scores = np.array([0.1, 0.2, 0.3])
    assert (roc_auc(scores, positive), roc_curve(scores, positive)) == (None, None)
    assert average_precision(scores, positive) == (1.0 if positive.all() else None)
    assert (precision_recall_curve(scores, positive) is None) == (not positive.any())


def test_risk_is_the_error_rate_of_those_at_least_as_confident():
    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet(np.ones(4), 300)
    references = np.where(rng.random(300) < 0.5, probabilities.argmax(axis=1), rng.integers(0, 4, 300))
    confidence, wrong = probabilities.max(axis=1), probabilities.argmax(axis=1) != references
    risks = [wrong[confidence >= one].mean() for one in confidence]
    assert aurc(probabilities, references) == pytest.approx(np.mean(risks))
    curve = risk_coverage(probabilities, references, points=1000)
    np.testing.assert_allclose(curve.y, np.array(risks)[np.argsort(-confidence)])
    np.testing.assert_allclose(curve.x, np.arange(1, 301) / 300)
    assert aurc(np.full((10, 2), 0.5), np.repeat([0, 1], [6, 4])) == pytest.approx(0.4)  # no order: the error rate

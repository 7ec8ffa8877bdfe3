"""The bootstrap draws what a plain one draws, and finds differences where there are some, not where there are none."""

import numpy as np
import pytest
import torch
from scipy.stats import binom, ttest_1samp, ttest_ind
from sklearn.metrics import accuracy_score, balanced_accuracy_score, f1_score
from torchmetrics.functional.classification import multiclass_accuracy, multiclass_f1_score, multiclass_recall

from fer_hf.evaluation.significance import contrast, interval, mcnemar, p_value, resampled

ORACLES = {
    "accuracy": accuracy_score,
    "balanced_accuracy": balanced_accuracy_score,
    "macro_f1": lambda references, predictions: f1_score(references, predictions, average="macro"),
}
BATCHED = {  # the same of many resamples at once
    "accuracy": (multiclass_accuracy, "micro"),
    "balanced_accuracy": (multiclass_recall, "macro"),
    "macro_f1": (multiclass_f1_score, "macro"),
}


def answers(rng, references, chances, classes=4):
    """Predictions that are right with the chance of each image."""
    wrong = (references + rng.integers(1, classes, len(references))) % classes
    return np.where(rng.random(len(references)) < chances, references, wrong)


@pytest.mark.parametrize("metric", ORACLES)
def test_scores_and_resamples_are_those_of_scikit_learn_on_drawn_images(metric):
    rng = np.random.default_rng(0)
    references = rng.choice(4, 300, p=[0.5, 0.3, 0.15, 0.05])
    predictions = np.stack([answers(rng, references, chance) for chance in (0.6, 0.7)])
    scores, draws = resampled(references, predictions, metric, 2000)
    np.testing.assert_allclose(scores, [ORACLES[metric](references, one) for one in predictions])
    images, (function, average) = rng.integers(300, size=(600, 300)), BATCHED[metric]
    drawn = [(torch.tensor(one[images]), torch.tensor(references[images])) for one in predictions]
    plain = np.stack([function(*pair, 4, average, multidim_average="samplewise").numpy() for pair in drawn], axis=1)
    np.testing.assert_allclose(draws.mean(axis=0), np.mean(plain, axis=0), atol=0.006)
    np.testing.assert_allclose(np.cov(draws.T), np.cov(np.transpose(plain)), rtol=0.25, atol=2e-5)  # paired too


def test_the_difference_spreads_as_the_theory_of_paired_proportions_says():
    rng = np.random.default_rng(0)
    references = rng.integers(0, 4, 500)
    one, other = answers(rng, references, 0.7), answers(rng, references, 0.65)
    alone, other_alone = (
        ((one == references) & (other != references)).sum(),
        ((one != references) & (other == references)).sum(),
    )
    scores, draws = resampled(references, np.stack([one, other]), "accuracy")
    differences = contrast([(scores[:1], draws[:, :1]), (scores[1:], draws[:, 1:])], [1, -1])
    variance = (alone + other_alone - (alone - other_alone) ** 2 / 500) / 500**2
    assert differences.mean() == pytest.approx((alone - other_alone) / 500, abs=0.001)
    assert differences.var() == pytest.approx(variance, rel=0.05)
    low, high = interval(differences)
    assert (high - low) / 2 == pytest.approx(1.96 * variance**0.5, rel=0.05)


def test_equal_predictions_do_not_differ():
    references = np.array([0, 1, 2] * 20)
    scores, draws = resampled(references, np.stack([references, references]), "accuracy", 100)
    differences = contrast([(scores[:1], draws[:, :1]), (scores[1:], draws[:, 1:])], [1, -1])
    assert (differences == 0).all()
    assert p_value(differences) == 1
    assert mcnemar(references == 0, references == 0) == 1


def test_mcnemar_is_the_binomial_test_of_the_images_that_one_model_alone_gets_right():
    right = np.repeat([True, True, False, False], [101, 121, 59, 33])
    other = np.repeat([True, False, True, False], [101, 121, 59, 33])
    assert mcnemar(right, other) == pytest.approx(2 * binom.cdf(59, 180, 0.5))
    assert mcnemar(right, other) == pytest.approx(4.434e-06, rel=1e-3)  # the example of statsmodels' manual


@pytest.mark.parametrize(("gain", "least", "most"), [(0.0, 0.01, 0.09), (0.1, 0.8, 1.0)])
def test_one_seed_each_false_positives_and_power(gain, least, most):
    rng, found = np.random.default_rng(0), 0
    for _ in range(300):
        references, chances = rng.integers(0, 4, 400), rng.beta(2, 1, 400)
        pair = np.stack([answers(rng, references, chances), answers(rng, references, chances + gain)])
        scores, draws = resampled(references, pair, "accuracy", 400)
        found += p_value(contrast([(scores[:1], draws[:, :1]), (scores[1:], draws[:, 1:])], [1, -1])) < 0.05
    assert least <= found / 300 <= most


def test_where_images_do_not_matter_seeds_are_compared_as_by_a_t_test():
    rng = np.random.default_rng(0)
    one, other = rng.normal(0.700, 0.004, 3), rng.normal(0.705, 0.004, 4)
    groups = [(scores, np.tile(scores, (40_000, 1))) for scores in (one, other)]
    test = ttest_ind(one, other)
    differences = contrast(groups, [1, -1])
    assert p_value(differences) == pytest.approx(test.pvalue, abs=0.01)
    np.testing.assert_allclose(interval(differences), test.confidence_interval(), atol=3e-4)
    np.testing.assert_allclose(
        interval(contrast(groups[:1], [1])), ttest_1samp(one, 0).confidence_interval(), atol=5e-4
    )


def test_seeds_that_vary_raise_no_false_alarm_and_seeds_that_do_not_cost_no_power():
    rng = np.random.default_rng(0)

    def found(spread: float, gain: float) -> float:
        hits = 0
        for _ in range(120):
            references, chances = rng.integers(0, 4, 400), rng.beta(2, 1, 400)
            runs = [answers(rng, references, chances + rng.normal(0, spread)) for _ in range(3)]
            runs += [answers(rng, references, chances + gain + rng.normal(0, spread)) for _ in range(3)]
            scores, draws = resampled(references, np.stack(runs), "accuracy", 400)
            hits += p_value(contrast([(scores[:3], draws[:, :3]), (scores[3:], draws[:, 3:])], [1, -1])) < 0.05
        return hits / 120

    assert found(0.05, 0) <= 0.12  # resampling the seeds finds a difference in 0.18 of such pairs
    assert found(0, 0.08) >= 0.85

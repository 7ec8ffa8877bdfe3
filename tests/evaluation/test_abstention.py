"""The threshold of abstention keeps its promise on other images, and is held against a search over all of them."""

import numpy as np
import pytest
from scipy.stats import binomtest

from fer_hf.evaluation.abstention import abstention_threshold, measure_abstention


def draw(images: int, seed: int, digits: int = 9):
    """Two classes, and labels drawn by their probabilities."""
    rng = np.random.default_rng(seed)
    confidence = rng.uniform(0.5, 1, images).round(digits)
    references = (rng.random(images) > confidence).astype(int)
    return np.stack([confidence, 1 - confidence], axis=1), references


@pytest.mark.parametrize("digits", [9, 1])
def test_it_is_the_least_threshold_whose_upper_bound_is_low_enough(digits):
    probabilities, references = draw(400, seed=1, digits=digits)

    def bound(threshold):
        answered = probabilities[:, 0] >= threshold
        test = binomtest(int(references[answered].sum()), int(answered.sum()))
        return test.proportion_ci(confidence_level=0.9).high  # two-sided: its upper end is the one-sided 95 % bound

    expected = min(t for t in np.unique(probabilities[:, 0]) if bound(t) <= 0.2)
    assert abstention_threshold(probabilities, references, 0.2) == expected


def test_more_wrong_answers_than_wanted_are_rare():
    """The error from a confidence c on is (1 - c) / 2, since confidence is uniform and honest: c = 0.6 for 20 %."""
    thresholds = [abstention_threshold(*draw(500, seed), 0.2) for seed in range(200)]
    assert np.mean([t is not None and t < 0.6 for t in thresholds]) < 0.1
    assert 0.6 < np.median(thresholds) < 0.7


def test_all_none_and_ties():
    probabilities, references = draw(300, seed=2)
    assert abstention_threshold(probabilities, references, 0.5) == 0.0
    assert abstention_threshold(probabilities, 1 - references, 0.1) is None
    assert abstention_threshold(probabilities[:1], np.array([0]), 0.1) is None
    none = measure_abstention(probabilities, references, None, 0.1)
    assert (none.threshold, none.coverage, none.error) == (None, 0.0, None)
    half = measure_abstention(np.array([[0.9, 0.1], [0.8, 0.2], [0.6, 0.4]]), np.array([0, 1, 1]), 0.8, 0.1)
    assert (half.coverage, half.error) == (pytest.approx(2 / 3), 0.5)
    assert half.error_ci == pytest.approx((0.0945, 0.9055), abs=1e-3)

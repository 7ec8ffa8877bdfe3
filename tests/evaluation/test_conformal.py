"""Conformal sets hold the right label as often as they promise, on average over validation sets."""

import numpy as np
import pytest
from scipy.special import softmax

from fer_hf.evaluation.conformal import conformal_threshold, measure_conformal

NAMES = ("angry", "happy", "sad", "fear")


def draw(images: int, seed: int):
    rng = np.random.default_rng(seed)
    references = rng.integers(0, 3, images)  # none is of the last class
    return softmax(rng.normal(size=(images, 4)) + 1.5 * np.eye(4)[references], axis=1), references


@pytest.mark.parametrize(("images", "level"), [(19, 0.9), (50, 0.8)])
def test_mean_coverage_is_that_of_the_finite_sample(images, level):
    """ceil((n + 1) level) / (n + 1) exactly, for scores without ties (arXiv 2107.07511, appendix D)."""
    test = draw(2000, seed=10_000)
    thresholds = [conformal_threshold(*draw(images, seed), level) for seed in range(300)]
    own = test[0][np.arange(2000), test[1]]
    assert np.mean([own >= threshold for threshold in thresholds]) == pytest.approx(
        np.ceil((images + 1) * level) / (images + 1), abs=0.015
    )


def test_too_few_images_put_every_label_into_the_set():
    probabilities, references = draw(8, seed=0)
    assert conformal_threshold(probabilities, references, 0.9) == 0.0
    assert measure_conformal(probabilities, references, 0.0, 0.9, NAMES).sizes == [0, 0, 0, 0, 8]


def test_sets_are_counted_by_size_and_class():
    probabilities = np.array([[0.7, 0.1, 0.1, 0.1], [0.4, 0.4, 0.1, 0.1], [0.25, 0.25, 0.25, 0.25]])
    sets = measure_conformal(probabilities, np.array([0, 2, 0]), 0.3, 0.9, NAMES)
    assert sets.sizes == [1, 1, 1, 0, 0]
    assert sets.mean_size == 1.0
    assert sets.coverage.value == pytest.approx(1 / 3)
    assert sets.coverage.low < 1 / 3 < sets.coverage.high
    assert sets.coverage_per_class == {"angry": 0.5, "sad": 0.0}

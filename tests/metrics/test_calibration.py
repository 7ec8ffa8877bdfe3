"""Calibration errors and the Brier score against torchmetrics, scikit-learn and definitions written out."""

import numpy as np
import pytest
import torch
from scipy.special import softmax
from sklearn.metrics import brier_score_loss
from torchmetrics.functional.classification import binary_calibration_error, multiclass_calibration_error

from fer_hf.metrics import (
    adaptive_calibration_error,
    brier_score,
    calibration_error_per_class,
    classwise_calibration_error,
    expected_calibration_error,
    reliability,
)


@pytest.fixture(scope="module")
def sample():
    rng = np.random.default_rng(0)
    references = rng.choice(5, size=600, p=[0.1, 0.2, 0.4, 0.3, 0.0])  # no image of the last class
    logits = rng.normal(size=(600, 5))
    logits[np.arange(600), references] += 1.2
    return softmax(2 * logits, axis=1), references


@pytest.mark.parametrize("bins", [7, 15])
def test_against_torchmetrics(sample, bins):
    probabilities, references = map(torch.tensor, sample)
    top = multiclass_calibration_error(probabilities, references, num_classes=5, n_bins=bins, norm="l1")
    assert expected_calibration_error(reliability(*sample, bins)) == pytest.approx(float(top), abs=1e-6)
    by_class = [
        float(binary_calibration_error(probabilities[:, i].contiguous(), (references == i).int(), bins, norm="l1"))
        for i in range(5)
    ]
    assert calibration_error_per_class(*sample, bins) == pytest.approx(by_class, abs=1e-6)
    assert classwise_calibration_error(*sample, bins) == pytest.approx(np.mean(by_class), abs=1e-6)


def test_the_brier_score_is_that_of_scikit_learn(sample):
    theirs = brier_score_loss(sample[1], sample[0], labels=range(5), scale_by_half=False)
    assert brier_score(*sample) == pytest.approx(theirs)
    assert brier_score(np.full((4, 4), 0.25), np.arange(4)) == 0.75


def test_adaptive_bins_hold_equally_many_images(sample):
    probabilities, references = sample
    confidence, hit = probabilities.max(axis=1), probabilities.argmax(axis=1) == references
    parts = np.split(np.argsort(confidence), 15)  # 40 images each
    gaps = [abs(confidence[part].mean() - hit[part].mean()) for part in parts]
    assert adaptive_calibration_error(*sample, bins=15) == pytest.approx(np.mean(gaps))


def test_images_of_one_confidence_share_their_bins_whatever_their_order():
    probabilities, references = np.tile([0.75, 0.25], (60, 1)), np.repeat([0, 1], [45, 15])
    assert adaptive_calibration_error(probabilities, references) == pytest.approx(0, abs=1e-12)
    assert adaptive_calibration_error(probabilities, references[::-1]) == pytest.approx(0, abs=1e-12)

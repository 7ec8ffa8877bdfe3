"""Scalings hold against torch's optimiser, scikit-learn, and what the data were drawn by."""

import numpy as np
import pytest
import torch
from scipy.special import softmax
from sklearn.metrics import log_loss as sklearn_log_loss
from torch.nn.functional import cross_entropy

from fer_hf.errors import UserError
from fer_hf.evaluation.calibration import (
    at_limit,
    calibration_scores,
    fit_isotonic,
    fit_scalings,
    fit_temperature,
    fit_vector,
    log_loss,
)


def draw(images: int, temperature: float = 2.0, classes: int = 5, seed: int = 0):
    """Logits of a network that is too sure of itself, and labels drawn by what its probabilities should be."""
    rng = np.random.default_rng(seed)
    logits = 3 * rng.normal(size=(images, classes))
    below = softmax(logits / temperature, axis=1).cumsum(axis=1) < rng.random((images, 1))
    return logits, np.minimum(below.sum(axis=1), classes - 1)


def torch_loss(fit, logits, references, *start):
    """The least cross-entropy of `fit(logits, *parameters)` that torch's L-BFGS finds."""
    parameters = [torch.tensor(each, dtype=torch.float64, requires_grad=True) for each in start]
    optimiser = torch.optim.LBFGS(parameters, max_iter=200, line_search_fn="strong_wolfe")

    def step():
        optimiser.zero_grad()
        loss = cross_entropy(fit(torch.tensor(logits), *parameters), torch.tensor(references))
        loss.backward()
        return loss

    optimiser.step(step)
    return float(step().detach())


def test_temperature_and_vector_scaling_are_the_best_of_their_kind():
    logits, references = draw(2000)
    temperature = fit_temperature(logits, references)
    assert temperature == pytest.approx(2, rel=0.1)
    best = torch_loss(lambda x, t: x / t, logits, references, 1.0)
    assert log_loss(softmax(logits / temperature, axis=1), references) == pytest.approx(best, abs=1e-6)
    best = torch_loss(lambda x, scale, bias: x * scale + bias, logits, references, np.ones(5), np.zeros(5))
    assert log_loss(fit_vector(logits, references)(logits), references) == pytest.approx(best, abs=1e-4)


def test_isotonic_regression_gives_probabilities_that_are_never_0_or_1():
    fitted, measured = draw(1000), draw(1000, seed=1)
    probabilities = fit_isotonic(*fitted)(measured[0])
    assert probabilities.sum(axis=1) == pytest.approx(np.ones(1000))
    assert 0 < probabilities.min() < probabilities.max() < 1
    before = calibration_scores(softmax(measured[0], axis=1), measured[1])
    after = calibration_scores(probabilities, measured[1])
    assert after.expected_calibration_error < before.expected_calibration_error / 3
    assert after.log_loss < before.log_loss


def test_the_choice_is_made_on_images_that_a_scaling_has_not_seen():
    logits, references = draw(200)  # too few for the curves of isotonic regression
    scalings = fit_scalings(logits, references)
    seen = {name: log_loss(scaling(logits), references) for name, scaling in scalings.methods.items()}
    assert min(seen, key=seen.get) == "isotonic"
    assert min(scalings.log_losses, key=scalings.log_losses.get) == "temperature"
    assert fit_scalings(logits, references).log_losses == scalings.log_losses
    assert fit_scalings(logits, references, temperature=1.5).temperature == 1.5


def test_scores_are_those_of_scikit_learn():
    logits, references = draw(300)
    probabilities = softmax(logits, axis=1)
    scores = calibration_scores(probabilities, references)
    assert scores.log_loss == pytest.approx(sklearn_log_loss(references, probabilities))
    assert scores.accuracy == (logits.argmax(axis=1) == references).mean()


def test_a_class_without_images_leaves_the_temperature():
    logits, references = draw(300)
    references = np.where(references == 4, 0, references)
    scalings = fit_scalings(logits, references)
    assert list(scalings.methods) == list(scalings.log_losses) == ["none", "temperature"]
    assert scalings.notes == ["no vector and isotonic scaling: 1 class(es) have fewer than 5 validation images"]


@pytest.mark.parametrize("images", [1, 49])
def test_too_few_images_are_refused(images):
    with pytest.raises(UserError, match=rf"cannot be fitted on {images} validation images: it takes 50 or more"):
        fit_scalings(*draw(images))


def test_where_all_images_are_right_there_is_no_temperature():
    logits, _ = draw(100)
    scalings = fit_scalings(logits, logits.argmax(axis=1))
    assert at_limit(scalings.temperature)
    assert "validation images are all right" in scalings.notes[0]

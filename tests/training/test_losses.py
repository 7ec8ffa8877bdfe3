"""Losses and class weights against independent implementations and worked examples."""

import numpy as np
import pytest
import torch
from scipy.special import log_softmax, softmax
from torchvision.ops import sigmoid_focal_loss

from fer_hf.training.losses import balanced_weights, classification_loss, distillation_loss, effective_number_weights

LOGITS = np.random.default_rng(0).normal(size=(20, 5)) * 2
HARD = np.random.default_rng(1).integers(0, 5, size=20)
SOFT = np.random.default_rng(2).dirichlet(np.ones(5), size=20)
WEIGHT = np.array([0.5, 1.0, 2.0, 1.5, 0.1])


def ours(targets, **settings):
    if "weight" in settings:
        settings["weight"] = torch.tensor(settings["weight"])
    return classification_loss(torch.tensor(LOGITS), torch.tensor(targets), **settings).item()


def test_cross_entropy_of_soft_targets_with_weights_and_smoothing():
    smoothed = 0.9 * SOFT + 0.1 / 5
    by_hand = -(smoothed * WEIGHT * log_softmax(LOGITS, axis=1)).sum() / 20
    assert ours(SOFT, weight=WEIGHT, label_smoothing=0.1) == pytest.approx(by_hand, rel=1e-6)


def test_weighted_mean_of_hard_targets():
    per_image = -log_softmax(LOGITS, axis=1)[np.arange(20), HARD]
    assert ours(HARD) == pytest.approx(per_image.mean())
    assert ours(HARD, weight=WEIGHT) == pytest.approx(np.average(per_image, weights=WEIGHT[HARD]))


@pytest.mark.parametrize("gamma", [0.5, 2.0])
def test_focal_loss_of_two_classes_is_torchvisions_binary_one(gamma):
    logits, targets = torch.tensor(LOGITS[:, 0]), torch.tensor(HARD % 2)
    expected = sigmoid_focal_loss(logits, targets.double(), alpha=-1, gamma=gamma, reduction="mean")
    two = torch.stack([torch.zeros_like(logits), logits], dim=1)
    assert classification_loss(two, targets, focal_gamma=gamma).item() == pytest.approx(expected.item())


def test_focal_loss_of_many_classes_weighted():
    own = softmax(LOGITS, axis=1)[np.arange(20), HARD]
    by_hand = np.average(-((1 - own) ** 2) * np.log(own), weights=WEIGHT[HARD])
    assert ours(HARD, weight=WEIGHT, focal_gamma=2.0) == pytest.approx(by_hand)
    assert ours(HARD, focal_gamma=2.0) < ours(HARD)


def test_distillation_is_the_softened_divergence():
    teacher = np.random.default_rng(3).normal(size=(20, 5))
    p, q = softmax(teacher / 3, axis=1), softmax(LOGITS / 3, axis=1)
    by_hand = 9 * (p * np.log(p / q)).sum(axis=1).mean()
    assert distillation_loss(torch.tensor(LOGITS), torch.tensor(teacher), 3.0).item() == pytest.approx(by_hand)
    assert distillation_loss(torch.tensor(LOGITS), torch.tensor(LOGITS), 3.0).item() == pytest.approx(0, abs=1e-12)


def test_at_a_high_temperature_distillation_matches_centred_logits():
    """Hinton et al., section 2.1: the gradient tends to (z - v) / N, whatever the temperature."""
    student, teacher = torch.tensor(LOGITS, requires_grad=True), torch.tensor(LOGITS[::-1].copy())
    distillation_loss(student, teacher, 1000.0).backward()
    difference = student.detach() - teacher
    centred = (difference - difference.mean(dim=1, keepdim=True)) / 5 / 20
    assert torch.allclose(student.grad, centred, atol=1e-3)


def test_class_weights():
    counts = np.array([436, 7215, 0, 3171])
    assert balanced_weights(counts)[2] == effective_number_weights(counts, beta=0.999)[2] == 0  # an absent class
    assert effective_number_weights(counts, beta=0.999)[[0, 1, 3]].mean() == pytest.approx(1.0)
    assert balanced_weights(counts)[[0, 1, 3]].numpy() == pytest.approx(
        counts.sum() / (3 * counts[[0, 1, 3]]), rel=1e-6
    )
    weights = effective_number_weights(np.array([10, 100]), beta=0.9)
    raw = np.array([0.1 / (1 - 0.9**10), 0.1 / (1 - 0.9**100)])  # the paper's formula, then its scaling to C
    assert weights.numpy() == pytest.approx(raw / raw.sum() * 2, rel=1e-6)
    assert effective_number_weights(np.array([10, 100]), beta=0.0).tolist() == [1.0, 1.0]


def test_focal_gradients_are_finite_where_the_class_is_certain():
    logits = torch.tensor([[40.0, -40.0]], requires_grad=True)
    classification_loss(logits, torch.tensor([0]), focal_gamma=0.5).backward()
    assert logits.grad.isfinite().all()


def test_gradients_flow_to_all_classes():
    logits = torch.tensor(LOGITS, requires_grad=True)
    classification_loss(logits, torch.tensor(HARD), focal_gamma=2.0).backward()
    assert (logits.grad != 0).all()
    assert torch.allclose(logits.grad.sum(dim=1), torch.zeros(20, dtype=torch.float64), atol=1e-12)

"""Losses as pure functions of logits and targets, and class weights as pure functions of counts.

Targets are hard, int64 `(B,)`, or soft, float `(B, C)` rows that sum to 1. Losses are means over the batch, in nats.
"""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class TrainLoss:
    """The loss of a training batch: `classification_loss`, and a share of `distillation_loss` where a teacher is heard.

    Example:
        >>> loss = TrainLoss(label_smoothing=0.1)
        >>> round(loss(torch.tensor([[2.0, 0.0]]), torch.tensor([0])).item(), 3)
        0.227
    """

    weight: Tensor | None = None
    label_smoothing: float = 0.0
    focal_gamma: float = 0.0
    teacher_weight: float = 0.5
    temperature: float = 4.0

    def __call__(self, logits: Tensor, targets: Tensor, teacher_logits: Tensor | None = None) -> Tensor:
        """The mean over the batch; `logits` and `teacher_logits` are float `(B, C)`."""
        loss = classification_loss(logits, targets, self.weight, self.label_smoothing, self.focal_gamma)
        if teacher_logits is None:
            return loss
        distance = distillation_loss(logits, teacher_logits, self.temperature)
        return (1 - self.teacher_weight) * loss + self.teacher_weight * distance


def classification_loss(
    logits: Tensor, targets: Tensor, weight: Tensor | None = None, label_smoothing: float = 0, focal_gamma: float = 0
) -> Tensor:
    """Cross-entropy of hard or soft targets, or the focal loss of hard ones.

    Args:
        logits: float `(B, C)`.
        weight: per class, `(C,)`. With hard targets the mean is divided by the weights of the batch, as torch does it.
        label_smoothing: in [0, 1); how much of each target is spread evenly over the classes (arXiv 1512.00567).
        focal_gamma: each image counts (1 - p) ** gamma, p being the probability of its class (arXiv 1708.02002).
    """
    if not focal_gamma:
        return F.cross_entropy(logits, targets, weight=weight, label_smoothing=label_smoothing)
    log_p = F.log_softmax(logits, dim=1).gather(1, targets[:, None])[:, 0]
    per_image = -((1 - log_p.exp()).clamp(min=1e-6) ** focal_gamma) * log_p  # the slope at 0 may be infinite
    if weight is None:
        return per_image.mean()
    return (weight[targets] * per_image).sum() / weight[targets].sum()


def distillation_loss(logits: Tensor, teacher_logits: Tensor, temperature: float) -> Tensor:
    """KL divergence from the teacher's softened probabilities, times temperature squared (arXiv 1503.02531).

    The square keeps the size of the gradients when the temperature changes.
    """
    student = F.log_softmax(logits / temperature, dim=1)
    teacher = F.log_softmax(teacher_logits / temperature, dim=1)
    return F.kl_div(student, teacher, reduction="batchmean", log_target=True) * temperature**2


def balanced_weights(counts: np.ndarray) -> Tensor:
    """n / (classes * n_class) for each class `(C,)`, as in scikit-learn; an absent class has 0 and is not counted."""
    weights = counts.sum() / (np.count_nonzero(counts) * np.maximum(counts, 1)) * (counts > 0)
    return torch.tensor(weights, dtype=torch.float32)


def effective_number_weights(counts: np.ndarray, beta: float) -> Tensor:
    """(1 - beta) / (1 - beta ** n_class), scaled to a mean of 1 (arXiv 1901.05555); 0 for an absent class."""
    weights = (1 - beta) / (1 - beta ** np.maximum(counts, 1)) * (counts > 0)
    return torch.tensor(weights / weights[counts > 0].mean(), dtype=torch.float32)

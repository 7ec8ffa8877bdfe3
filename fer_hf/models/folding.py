"""A temperature in the weights: the logits come out of a model divided, and so out of every file that is made of it."""

import torch
from transformers import PreTrainedModel

from fer_hf.errors import UserError
from fer_hf.models.network import heads

TOLERANCE = 1e-3
"""Largest difference of a logit from the divided one, relative to the largest logit."""


@torch.no_grad()
def fold_temperature(model: PreTrainedModel, temperature: float, size: tuple[int, int]) -> None:
    """Divide weights and biases of the classifiers by a temperature (Guo et al. 2017, arXiv 1706.04599).

    Whether the logits follow is tried: they do not where something after the classifier, or in it, undoes the division,
    such as weights that are normalised.

    Args:
        model: is put into evaluation mode, and changed, also where this raises.
        temperature: above 0.
        size: height and width of `pixel_values`.

    Raises:
        UserError: the model has no linear classifier, its logits are not those of a softmax, or they do not follow.

    Example:
        >>> from fer_hf.models.load import load_model
        >>> model = load_model("test_resnet", ("happy", "sad"), pretrained=False, image_size=32).model.eval()
        >>> pixels = torch.ones(1, 3, 32, 32)
        >>> before = model(pixels).logits.detach()
        >>> fold_temperature(model, 2.0, (32, 32))
        >>> torch.allclose(2 * model(pixels).logits, before)
        True
    """
    name = type(model).__name__
    if getattr(model.config, "problem_type", None) == "multi_label_classification":
        raise UserError(f"{name} gives each label a probability of its own (multi_label_classification): no softmax.")
    pixels = torch.randn(4, 3, *size, generator=torch.Generator().manual_seed(0)).to(model.device)
    wanted = model.eval()(pixels).logits / temperature
    for classifier in heads(model):
        for parameter in classifier.parameters():
            parameter.div_(temperature)
    difference = float((model(pixels).logits - wanted).abs().max())
    if not difference <= TOLERANCE * float(wanted.abs().max()):  # nor is NaN
        raise UserError(
            f"The logits of {name} do not follow its last layer: with weights divided by {temperature:.3f} they are "
            f"off by {difference:.2g}. Divide its logits by {temperature:.3f} where you use them."
        )

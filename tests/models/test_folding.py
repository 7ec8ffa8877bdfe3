"""A temperature in the weights divides the logits of every kind of head, or is refused."""

import pytest
import torch
from test_network import hf_deit, hf_vit, wrapped
from torch import nn

from fer_hf.errors import UserError
from fer_hf.models.folding import fold_temperature


@pytest.mark.parametrize(
    "make",
    [
        lambda: wrapped("test_resnet"),
        lambda: wrapped("dla46x_c"),  # its head is a convolution
        lambda: wrapped("test_efficientnet", attention=True),
        hf_vit,
        hf_deit,  # two heads
    ],
    ids=["timm", "convolution", "attention", "transformers", "two heads"],
)
def test_logits_are_divided(make):
    torch.manual_seed(0)
    model = make().eval()
    pixels = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        before = model(pixels).logits
        fold_temperature(model, 1.7, (32, 32))
        assert torch.allclose(1.7 * model(pixels).logits, before, atol=1e-5)


class Normalised(nn.Linear):
    """A head of cosines, as face recognition has them."""

    def forward(self, features):
        return nn.functional.linear(nn.functional.normalize(features), nn.functional.normalize(self.weight))


def test_what_cannot_be_divided_is_refused():
    model = hf_vit()
    model.classifier = Normalised(8, 7, bias=False)
    with pytest.raises(UserError, match="The logits of ViTForImageClassification do not follow its last layer"):
        fold_temperature(model, 1.7, (32, 32))
    model = hf_vit()
    model.classifier = nn.Identity()
    with pytest.raises(UserError, match="has no classifier with 7 outputs"):
        fold_temperature(model, 1.7, (32, 32))
    model = hf_vit()
    model.config.problem_type = "multi_label_classification"
    with pytest.raises(UserError, match="multi_label_classification"):
        fold_temperature(model, 1.7, (32, 32))

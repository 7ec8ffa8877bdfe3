"""One function loads them all: Hub checkpoints, timm models through transformers, local folders, files, random weights.

Labels travel by name: a checkpoint whose own labels cover the wanted ones keeps their head rows, in the wanted order;
any other gets a new head. Input size, mean and std end up where `AutoImageProcessor` finds them again.
"""

from torch import nn
from transformers import (
    AutoConfig,
    AutoModelForImageClassification,
    PreTrainedModel,
)

from fer_hf.errors import UserError
from fer_hf.models.attention import EmotionAttentionConfig, EmotionAttentionForImageClassification

# Our own commands load these from here, without trust in code that lies beside the weights.
AutoConfig.register("emotion_attention", EmotionAttentionConfig, exist_ok=True)


AutoModelForImageClassification.register(EmotionAttentionConfig, EmotionAttentionForImageClassification, exist_ok=True)


def head_of(model: PreTrainedModel) -> nn.Linear:
    """The classifier: the last linear layer that ends in one output per label."""
    linear = [m for m in model.modules() if isinstance(m, nn.Linear) and m.out_features == model.config.num_labels]
    if not linear:
        raise UserError(f"{type(model).__name__} has no linear classifier with {model.config.num_labels} outputs.")
    return linear[-1]

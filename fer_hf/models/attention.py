"""A timm backbone with squeeze-excite and CBAM on its last feature map, as a transformers model.

This file is copied beside the weights of every saved model, so that `AutoModelForImageClassification` and `pipeline`
load it with `trust_remote_code=True` where fer_hf is not installed. It therefore imports torch, timm and transformers
only.
"""

from typing import Any

import timm
import torch
from timm.layers import SEModule
from timm.layers.cbam import CbamModule
from torch import nn
from transformers import PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import ImageClassifierOutput
from transformers.utils import can_return_tuple


class EmotionAttentionConfig(PretrainedConfig):
    """What it takes to build the network again.

    Args:
        architecture: name of the timm model that makes the features.
        model_args: further arguments of `timm.create_model`, such as `drop_path_rate`.
        drop_rate: dropout before the classifier.
    """

    model_type = "emotion_attention"

    def __init__(
        self,
        architecture: str = "efficientnet_b0",
        model_args: dict[str, Any] | None = None,
        drop_rate: float = 0.0,
        **kwargs: Any,
    ) -> None:
        self.architecture = architecture
        self.model_args = model_args
        self.drop_rate = drop_rate
        super().__init__(**kwargs)


class EmotionAttentionForImageClassification(PreTrainedModel):
    """Features `(B, C, h, w)` -> squeeze-excite -> CBAM -> mean over h and w -> dropout -> linear classifier.

    Squeeze-excite weighs channels (Hu et al. 2018, section 3, reduction 16); CBAM weighs channels, then places (Woo et
    al. 2018, section 3). Both keep the shape. The backbone must end in a feature map with the channels first, as
    convolutional networks do.
    """

    config_class = EmotionAttentionConfig
    base_model_prefix = "backbone"
    main_input_name = "pixel_values"
    accepts_loss_kwargs = False  # the loss is a mean over the batch, so the Trainer has to divide by accumulation steps

    def __init__(self, config: EmotionAttentionConfig) -> None:
        super().__init__(config)
        args = config.model_args or {}
        backbone: Any = timm.create_model(config.architecture, pretrained=False, num_classes=0, global_pool="", **args)
        channels: int = backbone.head_hidden_size
        self.backbone = backbone
        self.squeeze_excite = SEModule(channels)
        self.cbam = CbamModule(channels)
        self.dropout = nn.Dropout(config.drop_rate)
        self.classifier = nn.Linear(channels, config.num_labels)
        self.post_init()

    def _init_weights(self, module: Any) -> None:
        """Only a classifier that was not in the file: everything else has been initialised by timm."""
        if module is self.classifier:
            module.reset_parameters()
        elif hasattr(module, "init_non_persistent_buffers"):  # no file holds them
            module.init_non_persistent_buffers()

    @can_return_tuple
    def forward(
        self, pixel_values: torch.Tensor, labels: torch.Tensor | None = None, **kwargs: Any
    ) -> ImageClassifierOutput:
        """Logits `(B, num_labels)` of normalised images `(B, 3, H, W)`.

        With `labels`, class indices `(B,)` or probabilities `(B, num_labels)`, also their mean cross-entropy.
        """
        features = self.cbam(self.squeeze_excite(self.backbone(pixel_values)))
        logits = self.classifier(self.dropout(features.mean(dim=(2, 3))))
        loss: Any = None if labels is None else nn.functional.cross_entropy(logits, labels)
        return ImageClassifierOutput(loss=loss, logits=logits)


EmotionAttentionConfig.register_for_auto_class()
EmotionAttentionForImageClassification.register_for_auto_class("AutoModelForImageClassification")

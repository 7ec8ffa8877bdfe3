"""The features before the classifier: what a network has made of an image when it decides."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from datasets import Dataset
from torch import Tensor

from fer_hf.data.decode import Array
from fer_hf.errors import UserError
from fer_hf.models.classifier import Classifier
from fer_hf.models.network import heads


def require_pytorch(classifier: Classifier, what: str) -> None:
    """Refuse an ONNX file, whose layers cannot be reached.

    Args:
        classifier: of any format.
        what: what is asked for, as the message begins: "Features".

    Raises:
        UserError: its format is not "pytorch".
    """
    if classifier.format != "pytorch":
        raise UserError(
            f"{what} of the {classifier.format} file cannot be had: ONNX Runtime gives out its logits alone. Take the "
            "PyTorch model, which it was exported from: format pytorch."
        )


def penultimate_features(
    classifier: Classifier, dataset: Dataset, batch_size: int = 128, pixels: Array | Tensor | None = None
) -> np.ndarray:
    """What goes into the classifier of a network, for each image of a dataset.

    Of a network with several classifiers (DeiT, LeViT) it is what goes into the first; where that sees several places
    or tokens, their mean.

    Args:
        classifier: of the format "pytorch".
        dataset: with `image` and `label`; the labels are not looked at.
        batch_size: images per step.
        pixels: the images, decoded, uint8 `(N, C, H, W)`; None: decoded when their turn comes.

    Returns:
        Features `(N, D)` float32, in the order of the dataset.

    Raises:
        UserError: the classifier is an ONNX file, or its network has no classifier.

    Example:
        `penultimate_features(load_classifier("runs/mine/20260131-175900"), faces.splits["test"])`
    """
    with features_kept(classifier) as batches:
        classifier.predict(dataset, batch_size, pixels=pixels)
    return np.concatenate(batches)


@contextmanager
def features_kept(classifier: Classifier) -> Iterator[list[np.ndarray]]:
    """Inside, the features of all that a classifier looks at are kept, as in `penultimate_features`.

    Args:
        classifier: of the format "pytorch".

    Yields:
        A list, to which each batch adds its features `(B, D)` float32.

    Raises:
        UserError: the classifier is an ONNX file, or its network has no classifier.
    """
    require_pytorch(classifier, "Features")
    batches: list[np.ndarray] = []

    def keep(_: Any, inputs: tuple[Tensor, ...]) -> None:
        batches.append(_one_row_per_image(inputs[0]).float().cpu().numpy())

    hook = heads(classifier.model)[0].register_forward_pre_hook(keep)
    try:
        yield batches
    finally:
        hook.remove()


def _one_row_per_image(features: Tensor) -> Tensor:
    """`(B, D)` of what goes into a linear layer, `(B, ..., D)`, or into a convolution, `(B, D, H, W)`."""
    if features.ndim == 4:
        return features.mean(dim=(2, 3))
    return features.flatten(1, -2).mean(dim=1) if features.ndim > 2 else features

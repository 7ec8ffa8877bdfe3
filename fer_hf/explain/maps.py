"""Maps of what a network looks at (Grad-CAM), and how far they can be believed (ROAD).

Both are those of the library `grad-cam`, which the extra `analysis` brings.
"""

import importlib.util
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fer_hf.console import track
from fer_hf.errors import UserError
from fer_hf.explain.features import require_pytorch
from fer_hf.images.transforms import EvalTransform
from fer_hf.metrics import Array
from fer_hf.models.classifier import Classifier
from fer_hf.models.network import FeatureMap, feature_map

PERCENTILES = (20, 40, 60, 80)
"""Shares of an image, in percent, that are kept while ROAD takes the rest out."""
ROAD_BATCH = 8
"""Images that ROAD takes at once."""
ROAD_EDGE = 48
"""Pixels of the longer edge at which ROAD fills in what it takes out: it solves an equation for each pixel."""


def require_grad_cam() -> None:
    """Raise `UserError` with the way to install `grad-cam`, when it is missing."""
    if importlib.util.find_spec("pytorch_grad_cam") is None:
        raise UserError("Explaining needs grad-cam: pip install 'fer_hf[analysis]', or '.[analysis]' in a checkout.")


class _Network(nn.Module):
    """Logits `(B, C)` of `pixel_values`, or of float images in [0, 1] of any size, as a plain module."""

    def __init__(self, model: Any, prepare: Callable[[Tensor], Tensor] | None = None):
        super().__init__()
        self.model, self.prepare = model, prepare

    def forward(self, images: Tensor) -> Tensor:
        return self.model(pixel_values=self.prepare(images) if self.prepare else images).logits.float()


def explainable(classifier: Classifier) -> FeatureMap:
    """The feature map of a classifier on which its maps are drawn.

    Raises:
        UserError: it is an ONNX file, its images are too small for a feature map, or `grad-cam` is missing.
    """
    require_grad_cam()
    require_pytorch(classifier, "Maps")
    return feature_map(classifier.model, classifier.spec.size)


def grad_cam(
    classifier: Classifier, images: Tensor | Sequence[Tensor], targets: Sequence[int] | Array, batch_size: int = 32
) -> np.ndarray:
    """Grad-CAM (Selvaraju et al., arXiv 1610.02391): which places of an image speak for a class.

    Args:
        classifier: of the format "pytorch".
        images: uint8 `(B, C, H, W)`, or a list of `(C, H, W)`.
        targets: the id of the class that each image is asked about.
        batch_size: images per step.

    Returns:
        Maps `(B, h, w)` float32 in [0, 1], each with its own maximum at 1, of the size of `pixel_values`; all 0 where
        no place speaks for the class.

    Raises:
        UserError: as `explainable`.

    Example:
        `grad_cam(classifier, images, classifier.predict(faces).argmax(axis=1))`
    """
    place = explainable(classifier)
    from pytorch_grad_cam import GradCAM
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    transform, maps = EvalTransform(classifier.spec), list[np.ndarray]()
    with GradCAM(_Network(classifier.model), [place.module], place.as_bchw) as cam:
        for start in track(range(0, len(targets), batch_size), "drawing maps"):
            part = slice(start, start + batch_size)
            pixel_values = transform(images[part]).to(classifier.device)
            maps.append(cam(pixel_values, [ClassifierOutputTarget(int(target)) for target in targets[part]]))
    classifier.model.zero_grad(set_to_none=True)
    return np.concatenate(maps)


def random_maps(count: int, grid: tuple[int, int], size: tuple[int, int], seed: int = 0) -> np.ndarray:
    """Maps that know nothing: random numbers on the places of a feature map, enlarged as those of `grad_cam` are.

    Args:
        count: how many.
        grid: rows and columns of places.
        size: height and width of the maps.
        seed: of the random numbers.

    Returns:
        `(count, h, w)` float32 in [0, 1].

    Example:
        >>> random_maps(2, (4, 4), (112, 112)).shape
        (2, 112, 112)
    """
    drawn = torch.from_numpy(np.random.default_rng(seed).random((count, 1, *grid), dtype=np.float32))
    return F.interpolate(drawn, size, mode="bilinear", align_corners=False)[:, 0].numpy()


def road_scores(
    classifier: Classifier,
    images: Tensor | Sequence[Tensor],
    maps: Array,
    targets: Sequence[int] | Array,
    seed: int = 0,
) -> np.ndarray:
    """ROAD (Rong et al., arXiv 2202.00449): does a map tell the places that matter to the network from the others?

    Parts of the image are taken out and filled in from around them: first the most important ones by the map, then the
    least important ones. The score is half the difference in confidence between the two, over several sizes of the
    part (`ROADCombined` of `grad-cam`): above 0 where the map is right, about 0 for a random one.

    Only the order of a map's values counts. Equal ones, such as the zeros of Grad-CAM, are put in a random order, since
    the library would take all of them out at once.

    Args:
        classifier: of the format "pytorch".
        images: uint8 `(B, C, H, W)`, or a list of `(C, H, W)`.
        maps: `(B, h, w)`, the largest value being the most important.
        targets: the id of the class whose probability is the confidence.
        seed: of the order of equal values, and of the noise in what is filled in.

    Returns:
        Scores `(B,)` in [-1, 1].

    Example:
        `road_scores(classifier, images, grad_cam(classifier, images, targets), targets).mean()`
    """
    require_grad_cam()
    require_pytorch(classifier, "Maps")
    from pytorch_grad_cam.metrics.road import ROADCombined
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputSoftmaxTarget

    spec, height, width = classifier.spec, *classifier.spec.size
    shrink = min(1.0, ROAD_EDGE / max(height, width))
    size = (round(height * shrink), round(width * shrink))
    model = _Network(classifier.model, lambda x: F.interpolate(x, (height, width), mode="bilinear"))
    pixel_values = EvalTransform(spec)(images).to(classifier.device)
    small = F.interpolate(pixel_values, size, mode="bilinear", antialias=True)
    ranks = _ranks(F.interpolate(torch.from_numpy(maps)[:, None], size, mode="bilinear", antialias=True)[:, 0], seed)
    road, scores = ROADCombined(list(PERCENTILES)), list[float]()
    with torch.random.fork_rng():  # the library draws its noise from torch's global generator
        torch.manual_seed(seed)
        for start in track(range(0, len(targets), ROAD_BATCH), "scoring maps"):
            part = slice(start, start + ROAD_BATCH)
            confidence = [ClassifierOutputSoftmaxTarget(int(target)) for target in targets[part]]
            scores += road(small[part], ranks[part], confidence, model).tolist()
    return np.array(scores)


def _ranks(maps: Tensor, seed: int) -> Array:
    """The places of each map in the order of their values, as numbers in [0, 1); ties in a random order."""
    flat = maps.flatten(1).numpy()
    noise = np.random.default_rng(seed).random(flat.shape)
    order = np.stack([np.lexsort((tie, values)) for values, tie in zip(flat, noise, strict=True)])
    ranks = np.empty(flat.shape, dtype=np.float32)
    np.put_along_axis(ranks, order, np.arange(flat.shape[1], dtype=np.float32)[None] / flat.shape[1], axis=1)
    return ranks.reshape(maps.shape)

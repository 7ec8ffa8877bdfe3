"""How a model wants its images: size, crop, interpolation, mean and std, read from its image processor.

With these, `transforms.EvalTransform` gives what the processor itself gives, only in batches.
"""

import math
from dataclasses import dataclass
from typing import Any

from PIL import Image
from torchvision.transforms.v2 import InterpolationMode

from fer_hf.errors import UserError

INTERPOLATION: dict[Any, InterpolationMode] = {
    Image.Resampling.NEAREST: InterpolationMode.NEAREST_EXACT,
    Image.Resampling.BILINEAR: InterpolationMode.BILINEAR,
    Image.Resampling.BICUBIC: InterpolationMode.BICUBIC,
    Image.Resampling.LANCZOS: InterpolationMode.BICUBIC,  # tensors have no Lanczos; bicubic is within the tolerance
}


@dataclass(frozen=True)
class ImageSpec:
    """How a model wants its images: resize, then centre crop, then (x / 255 - mean) / std."""

    size: tuple[int, int]
    """Height and width of `pixel_values`."""
    resize: int | tuple[int, int]
    """Length of the shorter edge, or (height, width) whatever the aspect ratio."""
    interpolation: InterpolationMode
    mean: tuple[float, ...]
    std: tuple[float, ...]
    crop_rounds_down: bool = False
    """Where a centre crop with an odd margin starts: transformers rounds down, torchvision (so timm) to even."""

    @classmethod
    def from_processor(cls, processor: Any) -> "ImageSpec":
        """Read an image processor.

        Args:
            processor: from `AutoImageProcessor`, `TimmWrapperImageProcessor` included.

        Raises:
            UserError: it does something that a resize, a centre crop and a normalisation are not.

        Example:
            >>> from transformers import ViTImageProcessor
            >>> ImageSpec.from_processor(ViTImageProcessor(size={"height": 32, "width": 32})).size
            (32, 32)
        """
        if hasattr(processor, "data_config"):
            return cls._from_timm(processor.data_config)
        name, config = type(processor).__name__, processor.to_dict()
        if getattr(processor, "do_flip_channel_order", False) or getattr(processor, "rescale_offset", False):
            raise UserError(f"{name} flips channels or shifts values: take the timm model of its kind.")
        if name.startswith("Levit"):
            raise UserError(f"{name} has a resize of its own: take the timm model of its kind.")
        interpolation = INTERPOLATION.get(config.get("resample", Image.Resampling.BILINEAR))
        if interpolation is None:
            raise UserError(f"{name} uses an interpolation that is not supported: {config['resample']}.")
        size, resize = _sizes(processor, config)
        return cls(size, resize, interpolation, *_mean_and_std(processor, config), crop_rounds_down=True)

    @classmethod
    def _from_timm(cls, config: dict[str, Any]) -> "ImageSpec":
        """timm's evaluation transform: enlarge by 1 / crop_pct, then centre crop."""
        height, width = config["input_size"][-2:]
        scaled = (math.floor(height / config["crop_pct"]), math.floor(width / config["crop_pct"]))
        mode = config.get("crop_mode") or "center"
        if mode not in ("center", "squash") or (mode == "center" and height != width):
            at = f"{mode!r} at {height}x{width}"
            raise UserError(f"timm's crop_mode {at} is not supported: only centre and squash are.")
        interpolation = INTERPOLATION.get(getattr(Image.Resampling, config["interpolation"].upper(), None))
        if interpolation is None:
            raise UserError(f"timm's interpolation {config['interpolation']!r} is not supported.")
        resize = scaled if mode == "squash" else scaled[0]
        return cls((height, width), resize, interpolation, tuple(config["mean"]), tuple(config["std"]))


def _sizes(processor: Any, config: dict[str, Any]) -> tuple[tuple[int, int], int | tuple[int, int]]:
    """Final height and width, and what is resized to before the crop."""
    name, size = type(processor).__name__, dict(config.get("size") or {})
    edge = size.get("shortest_edge")
    if not getattr(processor, "do_resize", False) or not (size.get("height") or edge):
        raise UserError(f"{name} does not resize to one size: it cannot make batches ({size}).")
    both = (edge, edge) if edge else (size["height"], size["width"])
    if edge and config.get("crop_pct"):  # ConvNeXT: enlarge and crop below 384 pixels, squash from there on
        return both, both if edge >= 384 else int(edge / config["crop_pct"])
    crop = dict(config.get("crop_size") or {})
    if crop and getattr(processor, "do_center_crop", False):
        return (crop["height"], crop["width"]), edge or both
    if edge:
        raise UserError(f"{name} keeps the aspect ratio without a crop: it cannot make batches.")
    return both, both


def _mean_and_std(processor: Any, config: dict[str, Any]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Of images in [0, 1]."""
    normalises = getattr(processor, "do_normalize", False)
    mean, std = (config["image_mean"], config["image_std"]) if normalises else ((0.0,) * 3, (1.0,) * 3)
    if getattr(processor, "include_top", False):  # EfficientNet divides by std a second time
        std = tuple(s * s for s in std)
    factor = 255 * config.get("rescale_factor", 1 / 255) if getattr(processor, "do_rescale", False) else 255.0
    return tuple(m / factor for m in mean), tuple(s / factor for s in std)

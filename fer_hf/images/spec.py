"""From pictures to pixel values: whole uint8 batches, on whatever device they lie.

Design:
- What a model wants (size, crop, interpolation, mean, std) is read from its `AutoImageProcessor` into an `ImageSpec`;
  evaluation then gives what the processor itself gives, only in batches.
- Images stay uint8, grey ones with a single channel, until the last moment.
- Training composes crop, flip, rotation and resize into one sampling grid, so pixels are interpolated once (images of
  many sizes were brought to one before, see `data.cache`).
- Nothing is sent to a GPU in a way that waits for it.
- Randomness is keyed: row `index` of a table drawn from (seed, epoch) holds all that image `index` needs then.
"""

import math
from dataclasses import dataclass
from typing import Any

from PIL import Image
from torchvision.transforms.v2 import InterpolationMode

from fer_hf.errors import UserError

PIL_INTERPOLATION = {
    Image.Resampling.NEAREST: InterpolationMode.NEAREST_EXACT,
    Image.Resampling.BILINEAR: InterpolationMode.BILINEAR,
    Image.Resampling.BICUBIC: InterpolationMode.BICUBIC,
    Image.Resampling.LANCZOS: InterpolationMode.BICUBIC,  # tensors have no Lanczos; bicubic is within the tolerance
}


TIMM_INTERPOLATION = {
    "bilinear": InterpolationMode.BILINEAR,
    "bicubic": InterpolationMode.BICUBIC,
    "lanczos": InterpolationMode.BICUBIC,
    "random": InterpolationMode.BILINEAR,
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
        """Read an `AutoImageProcessor`, `TimmWrapperImageProcessor` included.

        Raises `UserError` when the processor does something that a resize, a centre crop and a normalisation are not.
        """
        if hasattr(processor, "data_config"):
            return cls._from_timm(processor.data_config)
        config = processor.to_dict()
        flags = {
            name: bool(getattr(processor, name, False)) for name in ("do_resize", "do_center_crop", "do_normalize")
        }
        if getattr(processor, "do_flip_channel_order", False) or getattr(processor, "rescale_offset", False):
            raise UserError(
                f"{type(processor).__name__} flips channels or shifts values: take the timm model of its kind."
            )
        if type(processor).__name__.startswith("Levit"):
            raise UserError(f"{type(processor).__name__} has a resize of its own: take the timm model of its kind.")
        size, crop = dict(config.get("size") or {}), dict(config.get("crop_size") or {})
        if not flags["do_resize"] or not (size.get("height") or size.get("shortest_edge")):
            raise UserError(f"{type(processor).__name__} does not resize to one size: it cannot make batches ({size}).")
        interpolation = PIL_INTERPOLATION.get(config.get("resample", Image.Resampling.BILINEAR))
        if interpolation is None:
            raise UserError(
                f"{type(processor).__name__} uses an interpolation that is not supported: {config['resample']}."
            )
        edge = size.get("shortest_edge")
        resize: int | tuple[int, int] = edge or (size["height"], size["width"])
        final = (edge, edge) if edge else (size["height"], size["width"])
        if config.get("crop_pct") and edge:  # ConvNeXT: enlarge and crop below 384 pixels, squash from there on
            resize = (edge, edge) if edge >= 384 else int(edge / config["crop_pct"])
        elif flags["do_center_crop"] and crop:
            final = (crop["height"], crop["width"])
        elif edge:
            raise UserError(
                f"{type(processor).__name__} keeps the aspect ratio without a crop: it cannot make batches."
            )
        factor = 255 * config.get("rescale_factor", 1 / 255) if getattr(processor, "do_rescale", False) else 255.0
        mean = tuple(config["image_mean"]) if flags["do_normalize"] else (0.0, 0.0, 0.0)
        std = tuple(config["image_std"]) if flags["do_normalize"] else (1.0, 1.0, 1.0)
        if getattr(processor, "include_top", False):  # EfficientNet divides by std a second time
            mean, std = mean, tuple(s * s for s in std)
        mean, std = tuple(m / factor for m in mean), tuple(s / factor for s in std)
        return cls(final, resize, interpolation, mean, std, crop_rounds_down=True)

    @classmethod
    def _from_timm(cls, config: dict[str, Any]) -> "ImageSpec":
        """timm's evaluation transform: enlarge by 1 / crop_pct, then centre crop."""
        height, width = config["input_size"][-2:]
        scaled = (math.floor(height / config["crop_pct"]), math.floor(width / config["crop_pct"]))
        mode = config.get("crop_mode") or "center"
        if mode not in ("center", "squash") or (mode == "center" and height != width):
            raise UserError(
                f"timm's crop_mode {mode!r} at {height}x{width} is not supported: only centre and squash are."
            )
        interpolation = TIMM_INTERPOLATION.get(config["interpolation"])
        if interpolation is None:
            raise UserError(f"timm's interpolation {config['interpolation']!r} is not supported.")
        resize = scaled if mode == "squash" else scaled[0]
        return cls((height, width), resize, interpolation, tuple(config["mean"]), tuple(config["std"]))

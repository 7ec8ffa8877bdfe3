"""From uint8 batches to `pixel_values`: what the processor does for evaluation, augmentation for training.

- Images stay uint8, grey ones with a single channel, until the last moment.
- Training composes crop, flip, rotation, shear, shift and resize into one sampling grid, so pixels are interpolated
  once (images of many sizes were brought to one before, see `data.cache`).
- Nothing is sent to a GPU in a way that waits for it.
- Randomness is keyed: row `index` of a table drawn from (seed, epoch) holds all that image `index` needs then.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.transforms.v2 import functional as tv

from fer_hf.errors import UserError
from fer_hf.images.spec import ImageSpec

DRAWN = (16, 4)
"""Random numbers of each image in each epoch: the first, and those of what came later, which leave the first as they
were."""


def by_shape(images: Tensor | Sequence[Tensor], transform: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """Transform images of any shapes, in groups of one shape, and keep their order.

    Args:
        images: a batch `(B, C, H, W)`, or a list of `(C, H, W)`.
        transform: called with the images `(b, C, H, W)` of a group and their positions `(b,)` among all.
    """
    if isinstance(images, Tensor):
        return transform(images, torch.arange(len(images), device=images.device))
    groups: dict[torch.Size, list[int]] = {}
    for position, image in enumerate(images):
        groups.setdefault(image.shape, []).append(position)
    parts = [transform(torch.stack([images[p] for p in group]), torch.tensor(group)) for group in groups.values()]
    order = torch.tensor([p for group in groups.values() for p in group]).argsort()
    return torch.cat(parts)[order.to(parts[0].device)]


def normalise(images: Tensor, spec: ImageSpec) -> Tensor:
    """Float images `(B, 1 or 3, H, W)` in [0, 1] to `pixel_values` `(B, 3, H, W)`."""
    mean, std = _mean_and_std(spec, images.device)
    return (images - mean) / std  # broadcasting turns one grey channel into three


@lru_cache
def _mean_and_std(spec: ImageSpec, device: torch.device) -> tuple[Tensor, Tensor]:
    """Mean and std `(1, 3, 1, 1)` of a spec; cached, since sending them to a GPU would wait for it."""
    mean, std = (torch.tensor(values, device=device).view(1, -1, 1, 1) for values in (spec.mean, spec.std))
    return mean, std


def views(images: Tensor | Sequence[Tensor], tta: str) -> list[Any]:
    """What test-time augmentation shows a model of uint8 images, whole batches of the same kind.

    Args:
        images: uint8 `(B, C, H, W)`, or a list of `(C, H, W)`.
        tta: `"none"`: the images. `"flip"`: the images and their mirror images. `"ten_crop"`: the corners and the
            centre, of 7/8 of height and width, and the same of the mirror images (Krizhevsky et al., 2012, section 4.1:
            224 of 256 pixels).

    Example:
        >>> len(views(torch.zeros(2, 1, 48, 48, dtype=torch.uint8), "ten_crop"))
        10
    """
    if tta not in ("none", "flip", "ten_crop"):
        raise UserError(f"tta={tta!r} is unknown: use none, flip or ten_crop.")
    if not isinstance(images, Tensor):
        return [list(view) for view in zip(*(views(image, tta) for image in images), strict=True)]
    if tta == "ten_crop":
        return list(tv.ten_crop(images, [round(pixels * 7 / 8) for pixels in images.shape[-2:]]))
    return [images, tv.horizontal_flip(images)] if tta == "flip" else [images]


class EvalTransform:
    """Uint8 images to float32 `pixel_values` `(B, 3, h, w)`, as the processor makes them.

    Args:
        spec: size, crop, interpolation, mean and std.

    Example:
        >>> spec = ImageSpec((32, 32), 36, tv.InterpolationMode.BILINEAR, (0.5,) * 3, (0.5,) * 3)
        >>> EvalTransform(spec)(torch.zeros(2, 1, 48, 48, dtype=torch.uint8)).shape
        torch.Size([2, 3, 32, 32])
    """

    def __init__(self, spec: ImageSpec):
        self.spec = spec

    def __call__(self, images: Tensor | Sequence[Tensor]) -> Tensor:
        """Uint8 `(B, C, H, W)`, or a list of `(C, H, W)`, to `(B, 3, h, w)`."""
        return by_shape(images, lambda group, _: self._transform(group))

    def _transform(self, images: Tensor) -> Tensor:
        wanted = [self.spec.resize] if isinstance(self.spec.resize, int) else list(self.spec.resize)
        images = tv.resize(images, wanted, interpolation=self.spec.interpolation, antialias=True)
        rounded = math.floor if self.spec.crop_rounds_down else round
        margins = (rounded((there - kept) / 2) for there, kept in zip(images.shape[-2:], self.spec.size, strict=True))
        images = tv.crop(images, *margins, *self.spec.size)
        return normalise(images.float() / 255, self.spec)


@dataclass(eq=False)
class TrainTransform:
    """Augmentation and normalisation in one: random resized crop, flip, affine map, colour jitter, erasing.

    The only sources of randomness are `seed`, epoch and index.
    """

    spec: ImageSpec
    num_samples: int
    """Length of the training set; `index` runs below it."""
    seed: int
    crop_scale: tuple[float, float] = (0.8, 1.0)
    """Area of the crop as a share of the image; above 1 zooms out (reflecting at the border)."""
    crop_ratio: tuple[float, float] = (0.9, 1.11)
    """Its aspect ratio, drawn log-uniformly."""
    horizontal_flip: float = 0.5
    """A probability, as is `erasing`."""
    rotation: float = 10.0
    """Degrees to either side, as of `shear`."""
    shear: float = 0.0
    """Along the rows, before the rotation."""
    shift: float = 0.0
    """Share of width and of height, to either side."""
    brightness: float = 0.2
    """Factors are drawn from [1 - x, 1 + x], of contrast and saturation too."""
    contrast: float = 0.2
    saturation: float = 0.0
    hue: float = 0.0
    """Share of the colour circle, to either side; a grey image has no hue."""
    erasing: float = 0.0
    sizes: Sequence[int] = ()
    """Edges of `pixel_values` in the first epochs, one for each; after them it is the model's own size."""

    def uniform(self, epoch: int, index: Sequence[int]) -> Tensor:
        """The random numbers of each image in an epoch: `(B, 20)` in [0, 1)."""
        return _table(self.seed, epoch, self.num_samples)[list(index)]

    def __call__(self, images: Tensor | Sequence[Tensor], index: Sequence[int], epoch: int) -> Tensor:
        """Augment images.

        Args:
            images: uint8 `(B, C, H, W)`, or a list of `(C, H, W)`.
            index: their `B` row numbers in the training set.
            epoch: counted from 0.

        Returns:
            `pixel_values`, float32 `(B, 3, h, w)`.
        """
        drawn = self.uniform(epoch, index).to(images[0].device, non_blocking=True)
        size = (self.sizes[epoch],) * 2 if epoch < len(self.sizes) else self.spec.size
        return by_shape(images, lambda group, rows: self._transform(group, drawn[rows.to(drawn.device)], size))

    def _transform(self, images: Tensor, u: Tensor, size: tuple[int, int]) -> Tensor:
        if min(images.shape[-2:]) > 2 * max(size):  # the grid samples four neighbours: large images are shrunk first
            images = tv.resize(images, [2 * max(size)], antialias=True)
        grid = _grid(self._theta(u, *images.shape[-2:]), size)
        x = F.grid_sample(images.float() / 255, grid, mode="bilinear", padding_mode="reflection", align_corners=False)
        return self._erase(normalise(self._jitter(x, u), self.spec), u)

    def _theta(self, u: Tensor, height: int, width: int) -> Tensor:
        """Affine maps `(B, 2, 3)` from output to input coordinates, both in [-1, 1]."""
        area = _between(u[:, 0], *self.crop_scale)
        ratio = torch.exp(_between(u[:, 1], math.log(self.crop_ratio[0]), math.log(self.crop_ratio[1])))
        crop_w, crop_h = (area * ratio).sqrt(), (area / ratio).sqrt()  # as shares of width and height
        if self.crop_scale[1] <= 1:
            crop_w, crop_h = crop_w.clamp(max=1), crop_h.clamp(max=1)
        centre_x, centre_y = (2 * u[:, 2] - 1) * (1 - crop_w), (2 * u[:, 3] - 1) * (1 - crop_h)
        flip = torch.where(u[:, 4] < self.horizontal_flip, -1.0, 1.0)
        angle = torch.deg2rad(_between(u[:, 5], -self.rotation, self.rotation))
        slope = torch.deg2rad(_between(u[:, 16], -self.shear, self.shear)).tan()
        # Shares of the whole image, which is 2 wide and 2 high.
        centre_x = centre_x + 2 * _between(u[:, 17], -self.shift, self.shift)
        centre_y = centre_y + 2 * _between(u[:, 18], -self.shift, self.shift)
        cos, sin, aspect = angle.cos(), angle.sin(), height / width
        sheared = cos + slope * sin, sin - slope * cos
        row_x = torch.stack([flip * crop_w * sheared[0], -crop_h * sheared[1] * aspect, centre_x], dim=1)
        row_y = torch.stack([flip * crop_w * sin / aspect, crop_h * cos, centre_y], dim=1)
        return torch.stack([row_x, row_y], dim=1)

    def _jitter(self, x: Tensor, u: Tensor) -> Tensor:
        """Brightness, contrast, saturation, hue as torchvision's `ColorJitter` defines them, in this order."""
        if self.brightness:
            x = (x * _factor(u[:, 6], self.brightness)).clamp(0, 1)
        if self.contrast:
            mean = _grey(x).mean(dim=(1, 2, 3), keepdim=True)
            x = (mean + (x - mean) * _factor(u[:, 7], self.contrast)).clamp(0, 1)
        if self.saturation and x.shape[1] == 3:
            grey = _grey(x)
            x = (grey + (x - grey) * _factor(u[:, 8], self.saturation)).clamp(0, 1)
        if self.hue and x.shape[1] == 3:
            x = _turn_hue(x, _between(u[:, 19], -self.hue, self.hue).view(-1, 1, 1, 1))
        return x

    def _erase(self, x: Tensor, u: Tensor) -> Tensor:
        """Random erasing (arXiv 1708.04896) with the mean colour, which is 0 after normalisation."""
        if not self.erasing:
            return x
        area, ratio = _between(u[:, 9], 0.02, 0.2), torch.exp(_between(u[:, 10], math.log(0.3), math.log(3.3)))
        w, h = (area * ratio).sqrt().clamp(max=1), (area / ratio).sqrt().clamp(max=1)
        left, top = u[:, 11] * (1 - w), u[:, 12] * (1 - h)
        inside_x = _inside(left, w, x.shape[-1]).view(len(x), 1, 1, -1)
        inside_y = _inside(top, h, x.shape[-2]).view(len(x), 1, -1, 1)
        chosen = (u[:, 13] < self.erasing).view(-1, 1, 1, 1)
        return x.masked_fill(inside_x & inside_y & chosen, 0.0)


@lru_cache(maxsize=1)
def _table(seed: int, epoch: int, num_samples: int) -> Tensor:
    """The random numbers of a whole epoch, `(num_samples, 20)`."""

    def part(number: int, columns: int) -> Any:
        stream = np.random.Philox(key=[seed, epoch], counter=[0, 0, 0, number])
        return np.random.Generator(stream).random((num_samples, columns), dtype=np.float32)

    return torch.from_numpy(np.concatenate([part(*numbered) for numbered in enumerate(DRAWN)], axis=1))


def _grid(theta: Tensor, size: tuple[int, int]) -> Tensor:
    """`F.affine_grid` without its matrix product, which would be done in TF32 on a GPU: `(B, h, w, 2)`."""
    height, width = ((torch.arange(n, device=theta.device) + 0.5) * (2 / n) - 1 for n in size)
    of_x, of_y, shift = theta[:, None, None].unbind(-1)  # (B, 1, 1, 2) each
    return of_x * width[:, None] + of_y * height[:, None, None] + shift


def _between(u: Tensor, low: float, high: float) -> Tensor:
    return low + (high - low) * u


def _factor(u: Tensor, amount: float) -> Tensor:
    return _between(u, 1 - amount, 1 + amount).view(-1, 1, 1, 1)


def _grey(x: Tensor) -> Tensor:
    return tv.rgb_to_grayscale(x) if x.shape[1] == 3 else x


def _turn_hue(x: Tensor, turns: Tensor) -> Tensor:
    """Colours `(B, 3, H, W)` with their hue turned by shares of the circle `(B, 1, 1, 1)`; HSV's S and V stay."""
    red, green, blue = x.split(1, dim=1)
    high, span = x.amax(1, keepdim=True), x.amax(1, keepdim=True) - x.amin(1, keepdim=True)
    rest = torch.where(high == green, 2 * span + blue - red, 4 * span + red - green)
    sixths = torch.where(high == red, green - blue, rest) / span.clamp(min=1e-9) + 6 * turns
    # https://en.wikipedia.org/wiki/HSL_and_HSV#HSV_to_RGB_alternative: S * V is the span.
    place = (sixths + torch.arange(5, 0, -2, device=x.device).view(1, 3, 1, 1)) % 6
    return high - span * torch.minimum(place, 4 - place).clamp(0, 1)


def _inside(start: Tensor, length: Tensor, pixels: int) -> Tensor:
    """Which of `pixels` positions lie in [start, start + length), both given as shares: bool `(B, pixels)`."""
    position = (torch.arange(pixels, device=start.device) + 0.5) / pixels
    return (position >= start[:, None]) & (position < (start + length)[:, None])

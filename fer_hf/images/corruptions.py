"""Images as a worse camera, a worse light or an obstacle would give them, at five strengths.

After the corruptions of ImageNet-C (Hendrycks and Dietterich, arXiv 1903.12261), with those that faces meet: turned
heads, sunglasses, masks. Lengths are shares of the shorter edge, so that an image of 48 pixels and one of 224 lose
alike; noise and JPEG, whose grain is the pixel, have the same strength at any size.

Randomness is keyed by (seed, index): an image gets the same noise, angle and direction whatever the batch, the model
and the strength.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.transforms.v2 import functional as tv

from fer_hf.errors import UserError

STRENGTHS = (1, 2, 3, 4, 5)
EYES, MOUTH = 0.37, 0.77
"""Where eyes and mouth are, as shares of the height: in the mean face of FER2013, whose crops are upright."""


@dataclass(frozen=True)
class Keys:
    """What is random for each of B images: an angle and a sign `(B,)`, and the stream that its noise is drawn from."""

    seed: int
    index: Sequence[int]

    def uniform(self) -> Tensor:
        """Two numbers in [0, 1) for each image, `(B, 2)`."""
        return torch.from_numpy(np.stack([self._stream(i, 0).random(2, dtype=np.float32) for i in self.index]))

    def normal(self, shape: Sequence[int]) -> Tensor:
        """Standard normal numbers, `(B, *shape)`."""
        drawn = [self._stream(i, 1).standard_normal(shape, dtype=np.float32) for i in self.index]
        return torch.from_numpy(np.stack(drawn))

    def _stream(self, index: int, use: int) -> np.random.Generator:
        return np.random.Generator(np.random.Philox(key=[self.seed, index], counter=[0, 0, 0, use]))


def gaussian_blur(images: Tensor, sigma: float, _: Keys) -> Tensor:
    """Out of focus; `sigma` is a share of the shorter edge."""
    edge = min(images.shape[-2:])
    radius = min(math.ceil(3 * sigma * edge), edge - 1)  # what reflection at the border allows
    if radius == 0:
        return images
    for kernel in ([2 * radius + 1, 1], [1, 2 * radius + 1]):  # one direction at a time is many times faster
        images = tv.gaussian_blur(images, kernel, [sigma * edge] * 2)
    return images


def motion_blur(images: Tensor, length: float, keys: Keys) -> Tensor:
    """Moved while it was taken, each image in a direction of its own; `length` is a share of the shorter edge."""
    batch, channels, *size = images.shape
    radius = min(math.ceil(length * min(size) / 2), min(size) - 1)
    if radius == 0:
        return images
    angle = keys.uniform()[:, 0].view(-1, 1, 1) * math.pi
    steps = torch.arange(-radius, radius + 1)
    along = angle.cos() * steps + angle.sin() * steps[:, None]
    across = angle.cos() * steps[:, None] - angle.sin() * steps
    line = (1 - across.abs()).clamp(min=0) * (length * min(size) / 2 + 0.5 - along.abs()).clamp(0, 1)
    kernels = (line / line.sum(dim=(1, 2), keepdim=True)).repeat_interleave(channels, dim=0)[:, None]
    flat = images.float().reshape(1, batch * channels, *size)
    flat = F.conv2d(F.pad(flat, [radius] * 4, mode="reflect"), kernels.to(images.device), groups=batch * channels)
    return _to_uint8(flat.view(images.shape))


def gaussian_noise(images: Tensor, std: float, keys: Keys) -> Tensor:
    """The noise of a sensor in each pixel; `std` is a share of the range of values."""
    return _to_uint8(images + keys.normal(images.shape[1:]).to(images.device) * (255 * std))


def jpeg(images: Tensor, quality: float, _: Keys) -> Tensor:
    """Compressed; `quality` is that of libjpeg, 1 to 100."""
    return tv.jpeg(images.cpu(), int(quality)).to(images.device)


def low_light(images: Tensor, gamma: float, _: Keys) -> Tensor:
    """Under-exposed: values in [0, 1] are raised to `gamma`, which takes most from shadows."""
    return tv.adjust_gamma(images, gamma)


def low_resolution(images: Tensor, share: float, _: Keys) -> Tensor:
    """Taken from afar: shrunk to a `share` of each edge, and enlarged again."""
    small = [max(1, round(share * pixels)) for pixels in images.shape[-2:]]
    return tv.resize(tv.resize(images, small, antialias=True), list(images.shape[-2:]), antialias=True)


def rotation(images: Tensor, degrees: float, keys: Keys) -> Tensor:
    """A tilted head: turned about the centre, to the left or the right; the border is reflected."""
    height, width = images.shape[-2:]
    angle = torch.deg2rad(torch.where(keys.uniform()[:, 1] < 0.5, -degrees, degrees))
    cos, sin, zero = angle.cos(), angle.sin(), torch.zeros_like(angle)
    turn = torch.stack([cos, sin * height / width, zero, -sin * width / height, cos, zero], dim=1).view(-1, 2, 3)
    grid = F.affine_grid(turn.to(images.device), list(images.shape), align_corners=False)
    return _to_uint8(F.grid_sample(images.float(), grid, padding_mode="reflection", align_corners=False))


def eyes_covered(images: Tensor, share: float, _: Keys) -> Tensor:
    """A band over the eyes, in the mean colour of the image; `share` is the height of the band."""
    return _banded(images, EYES, share)


def mouth_covered(images: Tensor, share: float, _: Keys) -> Tensor:
    """A band over the mouth, in the mean colour of the image; `share` is the height of the band."""
    return _banded(images, MOUTH, share)


def _banded(images: Tensor, centre: float, share: float) -> Tensor:
    height = images.shape[-2]
    top, rows = round((centre - share / 2) * height), max(1, round(share * height))
    covered = images.clone()
    covered[..., top : top + rows, :] = _to_uint8(images.float().mean(dim=(2, 3), keepdim=True))
    return covered


def _to_uint8(values: Tensor) -> Tensor:
    return values.round().clamp(0, 255).to(torch.uint8)


CORRUPTIONS: dict[str, tuple[Callable[[Tensor, float, Keys], Tensor], tuple[float, ...]]] = {
    "gaussian_blur": (gaussian_blur, (0.01, 0.02, 0.03, 0.045, 0.06)),
    "motion_blur": (motion_blur, (0.05, 0.1, 0.15, 0.2, 0.3)),
    "gaussian_noise": (gaussian_noise, (0.04, 0.08, 0.12, 0.18, 0.26)),
    "jpeg": (jpeg, (40, 25, 15, 10, 6)),
    "low_light": (low_light, (1.5, 2, 3, 4, 6)),
    "low_resolution": (low_resolution, (0.6, 0.45, 0.33, 0.25, 0.17)),
    "rotation": (rotation, (6, 12, 18, 24, 30)),
    "eyes_covered": (eyes_covered, (0.06, 0.11, 0.16, 0.21, 0.26)),
    "mouth_covered": (mouth_covered, (0.06, 0.11, 0.16, 0.21, 0.26)),
}
"""Each corruption, and its parameter at the strengths 1 to 5."""


def corrupt(images: Tensor, name: str, strength: int, index: Sequence[int], seed: int = 0) -> Tensor:
    """Corrupt a batch of images.

    Eyes and mouth are taken to be where they are in upright crops of faces (FER2013, RAF-DB aligned): no landmarks are
    looked for.

    Args:
        images: uint8 `(B, C, H, W)`, of one or three channels.
        name: one of `CORRUPTIONS`.
        strength: 1 to 5.
        index: the B numbers of the images, which key what is random.
        seed: the other key.

    Returns:
        uint8 of the same shape; the images are left as they are.

    Raises:
        UserError: there is no such corruption or strength.

    Example:
        >>> corrupt(torch.zeros(2, 1, 48, 48, dtype=torch.uint8), "gaussian_noise", 3, index=[0, 1]).shape
        torch.Size([2, 1, 48, 48])
    """
    if name not in CORRUPTIONS:
        raise UserError(f"corruption={name!r} is unknown: use {', '.join(CORRUPTIONS)}.")
    if strength not in STRENGTHS:
        raise UserError(f"strength={strength!r} of {name} is unknown: use 1 (weak) to 5 (strong).")
    function, parameters = CORRUPTIONS[name]
    return function(images, parameters[strength - 1], Keys(seed, index))

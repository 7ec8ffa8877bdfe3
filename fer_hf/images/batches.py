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

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor


def to_uint8(image: Image.Image) -> Tensor:
    """A PIL image as uint8 `(C, H, W)`: one channel for a grey image, three for any other mode."""
    array = np.array(image if image.mode == "L" else image.convert("RGB"))
    return torch.from_numpy(array if array.ndim == 3 else array[..., None]).permute(2, 0, 1).contiguous()


class FaceDataset(torch.utils.data.Dataset):
    """A `datasets.Dataset` with `image` and `label`, in batches that need no collating (see `as_is`).

    A batch has `labels` `(B,)`, `index` (the row numbers, a list) and `images`, uint8 `(B, C, H, W)` or, of mixed
    shapes, a list of `(C, H, W)`; with `soft` also `soft_labels`, float `(B, classes)`, from the column `soft_label`. A
    number beyond the end counts on from the beginning: that row once more, with the random numbers of another (see
    `ClassBalancedSampler`).

    Args:
        pixels: the images, decoded, uint8 `(N, C, H, W)`, on the device that wants them; None: decoded when asked for.
    """

    def __init__(self, dataset: Any, soft: bool = False, pixels: Tensor | None = None):
        self.dataset, self.pixels = dataset.select_columns(["image"]), pixels
        self.labels = torch.tensor(dataset["label"][:])
        self.soft_labels = torch.tensor(dataset["soft_label"][:]) if soft else None

    def __len__(self) -> int:
        return len(self.labels)

    def __getitems__(self, indices: Sequence[int]) -> dict[str, Any]:
        times, rows = zip(*(divmod(index, len(self)) for index in indices), strict=True)
        number = torch.tensor(rows)
        # Labels come first: accelerate reads the batch size off the first tensor it finds.
        batch: dict[str, Any] = {
            "labels": self.labels[number],
            "index": [(row + time) % len(self) for row, time in zip(rows, times, strict=True)],
            "images": self._decode(rows)
            if self.pixels is None
            else self.pixels[number.to(self.pixels.device, non_blocking=True)],
        }
        return batch if self.soft_labels is None else batch | {"soft_labels": self.soft_labels[number]}

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.__getitems__([index])

    def _decode(self, rows: Sequence[int]) -> Tensor | list[Tensor]:
        images = [to_uint8(image) for image in self.dataset[list(rows)]["image"]]
        return torch.stack(images) if len({image.shape for image in images}) == 1 else images


def as_is(batch: Any) -> Any:
    """The `collate_fn` of a loader of `FaceDataset`."""
    return batch

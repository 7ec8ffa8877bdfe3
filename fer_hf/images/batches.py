"""From pictures to whole uint8 batches, on whatever device they lie.

Images stay uint8, grey ones with a single channel, until the last moment (`images.transforms`). Pixels that are decoded
already (`Faces.pixels`, `data.cache.decoded`) are taken as they are; other images are decoded when they are asked for.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from PIL import Image
from torch import Tensor

from fer_hf.data.decode import Array, decode, decode_rows, to_array, undecoded


def to_uint8(image: Image.Image) -> Tensor:
    """A PIL image as uint8 `(C, H, W)`: one channel for a grey image, three for any other mode.

    Example:
        >>> to_uint8(Image.new("L", (4, 2))).shape
        torch.Size([1, 2, 4])
    """
    return torch.from_numpy(np.array(to_array(decode(image)), order="C"))


class FaceDataset(torch.utils.data.Dataset):
    """A split with `image` and `label`, in batches that need no collating (see `as_is`).

    A batch has `labels` `(B,)`, `index` (the row numbers, a list) and `images`, uint8 `(B, C, H, W)` or, of mixed
    shapes, a list of `(C, H, W)`; with `soft` also `soft_labels`, float `(B, classes)`, from the column `soft_label`. A
    number beyond the end counts on from the beginning: that row once more, with the random numbers of another (see
    `ClassBalancedSampler`).

    Args:
        dataset: the split.
        soft: whether batches have soft labels.
        pixels: its images, decoded, uint8 `(N, C, H, W)`: an array, or a tensor on the device that wants them. None:
            they are decoded when asked for.
    """

    def __init__(self, dataset: Dataset, soft: bool = False, pixels: Array | Tensor | None = None):
        self.images = undecoded(dataset)
        self.pixels = pixels if pixels is None or isinstance(pixels, Tensor) else torch.from_numpy(pixels)
        self.labels = torch.tensor(dataset["label"][:])
        self.soft_labels = torch.tensor(dataset["soft_label"][:]) if soft else None

    def __len__(self) -> int:
        return len(self.labels)

    def __getitems__(self, indices: Sequence[int]) -> dict[str, Any]:
        times, rows = zip(*(divmod(index, len(self)) for index in indices), strict=True)
        number, images = torch.tensor(rows), self._images(rows)
        index = [(row + time) % len(self) for row, time in zip(rows, times, strict=True)]
        # Labels come first: accelerate reads the batch size off the first tensor it finds.
        batch = {"labels": self.labels[number], "index": index, "images": images}
        return batch if self.soft_labels is None else batch | {"soft_labels": self.soft_labels[number]}

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.__getitems__([index])

    def _images(self, rows: Sequence[int]) -> Tensor | list[Tensor]:
        if self.pixels is not None:
            return self.pixels[torch.tensor(rows).to(self.pixels.device, non_blocking=True)]
        images = [to_uint8(picture) for picture in decode_rows(self.images, rows)]
        return torch.stack(images) if len({image.shape for image in images}) == 1 else images


def as_is(batch: Any) -> Any:
    """The `collate_fn` of a loader of `FaceDataset`."""
    return batch

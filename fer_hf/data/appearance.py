"""What can be measured of the images themselves: how bright they are, and how large before anything resizes them."""

import numpy as np
from datasets import Dataset

from fer_hf.console import track
from fer_hf.data.decode import BATCH, decode_rows, undecoded

MEASURED = ("brightness", "size")
"""What `appearance` measures."""


def appearance(data: Dataset) -> dict[str, list[float]]:
    """Measure the images of a split.

    Args:
        data: with the column `image`.

    Returns:
        In the order of the split: `brightness`, the mean grey value in [0, 1] (luma, ITU-R BT.601), and `size`, the
        edge in pixels of a square of as many pixels as the file has: the square root of width times height.

    Raises:
        FerError: an image can no longer be read.

    Example:
        >>> from fer_hf.data.readers import toy
        >>> appearance(toy.load(train=1, validation=1, test=1)["test"])["size"][:2]
        [64.0, 64.0]
    """
    images, measured = undecoded(data), np.empty((len(data), 2))
    for start in track(range(0, len(data), BATCH), "measuring images"):
        rows = range(start, min(start + BATCH, len(data)))
        pictures = decode_rows(images, rows)
        measured[start : rows.stop, 0] = [np.asarray(picture.convert("L")).mean() / 255 for picture in pictures]
        measured[start : rows.stop, 1] = [(picture.width * picture.height) ** 0.5 for picture in pictures]
    return dict(zip(MEASURED, measured.T.tolist(), strict=True))

"""Checking that every image can be decoded, once: the result is kept in the cache of `datasets`.

It is kept under a hash of the images themselves, or of the names, sizes and times of files, so a changed image is
checked again.
"""

import io
import math
import os
import warnings
from typing import Any

import numpy as np
import PIL.Image

BATCH = 1024  # images read at once


THREADS = min(os.cpu_count() or 1, 16)


def decode(image: dict[str, Any] | None) -> PIL.Image.Image:
    """The picture in an undecoded image, `{"bytes": ..., "path": ...}`. Raises `ValueError` that says why it cannot."""
    if image is None or (image["bytes"] is None and not image["path"]):
        raise ValueError("there is no image")
    try:
        with PIL.Image.open(image["path"] if image["bytes"] is None else io.BytesIO(image["bytes"])) as picture:
            if picture.width * picture.height <= (PIL.Image.MAX_IMAGE_PIXELS or math.inf):
                picture.load()
                deep: Any = picture.getextrema() if picture.mode[0] in "IF" else (0, 0)
                if deep[1] <= 255 and picture.mode != "F":
                    return picture
                raise ValueError(f"its mode is {picture.mode}, of more than 8 bits, which Pillow would cut off")
            reason = f"{picture.width} x {picture.height} pixels are more than Pillow holds to be safe"
    except PIL.UnidentifiedImageError:
        reason = "it is no image, or of a format that Pillow does not know"
    except Exception as error:  # decoders raise many kinds on damaged data, and each of them makes a bad image
        reason = str(error) or type(error).__name__
    raise ValueError(reason)


def grey_image(pixels: str, size: int) -> bytes:
    """`size` x `size` numbers from 0 to 255, separated by blanks, as a binary PGM: lossless, and it costs nothing.

    Raises `ValueError` that says what is wrong with them.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("error", DeprecationWarning)  # NumPy's sign of text that is no number
        try:
            values = np.fromstring(pixels, dtype=np.int64, sep=" ")  # six times as fast as int() on each number
        except (ValueError, DeprecationWarning):
            raise ValueError("pixels are not all whole numbers") from None
    if values.size != size * size:
        raise ValueError(f"there are {values.size} pixels, not {size * size}")
    if values.min() < 0 or values.max() > 255:
        raise ValueError(f"pixels run from {values.min()} to {values.max()}, not from 0 to 255")
    return b"P5 %d %d 255\n" % (size, size) + values.astype(np.uint8).tobytes()

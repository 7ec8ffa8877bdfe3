"""The one decoder of images: the check, the cache, training, evaluation, predictions and crops all go through it.

A decoded picture is upright, as its EXIF orientation says, and has 8 bits: grey (mode "L") where its file is grey,
RGB otherwise. What cannot become that is refused with a reason: no image, a damaged or truncated one, one larger than
Pillow holds to be safe, and one of more than 8 bits, which Pillow would cut off.
"""

import io
import math
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import PIL.Image
from datasets import Dataset
from PIL.ExifTags import Base
from PIL.Image import Transpose

from fer_hf.errors import FerError

Encoded = Mapping[str, Any] | str | Path | bytes | PIL.Image.Image | None
"""An image as `datasets` stores it (`{"bytes": ..., "path": ...}`), a path, the bytes of a file, or a picture."""
Array = np.ndarray[Any, np.dtype[np.uint8]]
BATCH = 1024
"""Images that are read at once."""
THREADS = min(os.cpu_count() or 1, 16)
TURNS = {
    2: Transpose.FLIP_LEFT_RIGHT,
    3: Transpose.ROTATE_180,
    4: Transpose.FLIP_TOP_BOTTOM,
    5: Transpose.TRANSPOSE,
    6: Transpose.ROTATE_270,
    7: Transpose.TRANSVERSE,
    8: Transpose.ROTATE_90,
}
"""What makes a picture upright, by its EXIF orientation."""


def decode(image: Encoded) -> PIL.Image.Image:
    """Decode an image to an upright picture of mode "L" or "RGB".

    Args:
        image: a path, the bytes of an image file, a PIL image, or an undecoded image of `datasets`.

    Returns:
        The picture, grey only where the image is 8-bit grey without alpha.

    Raises:
        ValueError: the reason why the image cannot be decoded.

    Example:
        >>> decode(PIL.Image.new("RGBA", (4, 2))).mode
        'RGB'
    """
    picture = decode_as_stored(image)
    try:
        return picture if picture.mode == "L" else picture.convert("RGB")
    except Exception as error:  # such as a mode that has no way to RGB
        raise ValueError(str(error) or type(error).__name__) from error


def decode_as_stored(image: Encoded) -> PIL.Image.Image:
    """An upright picture of the mode that its file has, as `decode` makes it otherwise. Raises `ValueError`."""
    try:
        with _open(image) as picture:
            if picture.width * picture.height <= (PIL.Image.MAX_IMAGE_PIXELS or math.inf):
                picture.load()
                if not picture.width * picture.height:
                    raise ValueError("it has no pixels")
                if picture.mode == "F" or (picture.mode[0] == "I" and not _fits_8_bits(picture)):
                    raise ValueError(f"its mode is {picture.mode}, of more than 8 bits, which Pillow would cut off")
                return _upright(picture)
            reason = f"{picture.width} x {picture.height} pixels are more than Pillow holds to be safe"
    except PIL.UnidentifiedImageError:
        reason = "it is no image, or of a format that Pillow does not know"
    except FileNotFoundError as error:
        is_address = re.match(r"[a-z][a-z0-9+.-]+:/", str(image), re.IGNORECASE)
        reason = "it is an address, not a file: save the picture first" if is_address else str(error.strerror)
    except Exception as error:  # decoders raise many kinds on damaged data, and each of them makes a bad image
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
    raise ValueError(reason)


def shape_of(image: Encoded) -> tuple[int, int, int]:
    """Channels, height and width that `decode` will give, mostly from the header alone. Raises `ValueError`."""
    try:
        with _open(image) as picture:
            width, height = picture.size
            # Pillow gives the size of a TIFF with its orientation applied. To ask a PNG for its orientation is to
            # decode it, so squares are not asked.
            if width != height and picture.format != "TIFF" and _orientation(picture) in (5, 6, 7, 8):
                width, height = height, width
            return (1 if picture.mode == "L" else 3), height, width
    except Exception as error:
        raise ValueError(str(error) or type(error).__name__) from error


def to_array(picture: PIL.Image.Image) -> Array:
    """A decoded picture as uint8 `(C, H, W)`, C being 1 for grey and 3 for RGB."""
    array = np.asarray(picture)
    return array[None] if array.ndim == 2 else array.transpose(2, 0, 1)


def undecoded(data: Dataset) -> Dataset:
    """The columns `id` (where there is one) and `image` of a split, its images being read but not decoded."""
    columns = [name for name in ("id", "image") if name in data.column_names]
    return data.select_columns(columns).cast_column("image", datasets.Image(decode=False))


def decode_rows(images: Dataset, rows: Sequence[int]) -> list[PIL.Image.Image]:
    """Decode some rows of what `undecoded` returns. Raises `FerError` that names an image which cannot be read."""
    batch = images[list(rows)]
    pictures = []
    for place, image in enumerate(batch["image"]):
        try:
            pictures.append(decode(image))
        except ValueError as error:
            name = batch["id"][place] if "id" in batch else f"in row {rows[place]}"
            raise FerError(f"The image {name} can no longer be read: {error}.") from error
    return pictures


def _open(image: Encoded) -> PIL.Image.Image:
    """The picture, its pixels not yet decoded; leaving it as a context closes its file."""
    if isinstance(image, PIL.Image.Image):
        return image.copy()
    if isinstance(image, Mapping):
        image = image["path"] if image["bytes"] is None else image["bytes"]
    if not image and not isinstance(image, bytes):
        raise ValueError("there is no image")
    return PIL.Image.open(io.BytesIO(image) if isinstance(image, bytes) else image)  # type: ignore[arg-type]


def _fits_8_bits(picture: PIL.Image.Image) -> bool:
    """Whether the values of a picture of mode "I" or "I;16" are those of 8 bits."""
    least, most = (picture if picture.mode == "I" else picture.convert("I")).getextrema()
    return least >= 0 and most <= 255  # type: ignore[operator]


def _upright(picture: PIL.Image.Image) -> PIL.Image.Image:
    """The picture, turned, and without the tag that said so: a picture that is decoded again is not turned again."""
    turn = TURNS.get(_orientation(picture))
    if turn is None:
        return picture
    turned = picture.transpose(turn)
    for name in ("exif", "xmp", "XML:com.adobe.xmp", "Raw profile type exif"):
        turned.info.pop(name, None)
    return turned


def _orientation(picture: PIL.Image.Image) -> Any:
    """The EXIF orientation of a picture; a tag that cannot be read says nothing."""
    try:
        return picture.getexif().get(Base.Orientation)
    except Exception:  # damaged EXIF, of which Pillow raises many kinds
        return None

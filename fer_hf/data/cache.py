"""Decoded images, kept: each split one uint8 array in a file that is mapped into memory.

Decoded bytes are read tens of times faster than images are decoded. A file is found by what the images were made from
(their bytes, or the names, sizes and times of files), so a source that has changed has another file. It is written
aside and renamed when it is whole; of several processes that want the same one, one writes it and the others wait.
"""

import io
import math
import os
import shutil
import zlib
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import PIL.Image
from datasets import Dataset, Image
from filelock import FileLock
from PIL.ExifTags import Base

from fer_hf.console import console, track
from fer_hf.data.check import fingerprint
from fer_hf.data.decode import BATCH, THREADS
from fer_hf.errors import UserError
from fer_hf.files import move_into_place

Array = np.ndarray[Any, np.dtype[np.uint8]]

KEPT_IN_MEMORY = 4 * 2**20
"""Bytes of a split that is decoded anew by each run: that takes a moment, and leaves no file behind."""
CHECKED = 2**30
"""Bytes up to which the checksum of a file is verified each time it is opened."""
AT_ONCE = 2**26
"""Bytes of decoded images that are in memory before they are written."""
PART = 128
VERSION = 1
"""Of how images become bytes: files of another version are not looked at."""


def folder() -> Path:
    """Where the files lie: in the cache of `datasets`."""
    return Path(datasets.config.HF_DATASETS_CACHE) / "fer_hf_decoded"


def decoded(data: Dataset, what: str, largest: float = math.inf) -> Array | None:
    """The column `image` as uint8 `(N, C, H, W)`, C being 1 where all images are grey.

    Images of one size keep it, unless their shorter edge is above `largest`: then they are shrunk to that. Images of
    many sizes become squares, whatever their shape, of the longest edge among them or of `largest`; where that is
    infinite they stay as they are, and None is returned.

    `what` names the images in the terminal. When the disk has no room, None is returned and said, for images that are
    the same when they are decoded anew. For others, and for an image that cannot be read, raises `UserError`.
    """
    images = data.select_columns(["id", "image"]).cast_column("image", Image(decode=False))
    key = f"{fingerprint(images)}-v{VERSION}"
    whole, changed = folder() / f"{key}.npy", folder() / f"{key}-{largest}.npy"
    if (array := _open(whole)) is not None and min(array.shape[2:]) <= largest:
        return array
    if (array := _open(changed)) is not None:
        return array
    unchanged, shape = _shape(images, what, largest)
    if not unchanged and math.isinf(largest):
        return None
    path = whole if unchanged else changed
    needed = len(images) * math.prod(shape)
    if needed <= KEPT_IN_MEMORY:
        return np.concatenate(list(_decode(images, shape, what)))
    try:
        folder().mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_suffix(".lock")):
            if (array := _open(path)) is not None:  # another process was faster
                return array
            if needed > (free := shutil.disk_usage(folder()).free) / 2:
                raise OSError(f"it would take {needed / 1e9:.1f} of {free / 1e9:.1f} free GB")
            _write(path, _decode(images, shape, what), (len(images), *shape))
    except OSError as error:
        said = f"{what} images cannot be kept in {folder()}: {error}"
        if not unchanged:  # a run that is resumed with more room would see other ones
            raise UserError(f"Shrunk {said}. Make room, or set HF_DATASETS_CACHE to a folder with more.") from error
        console.print(f"  Decoded {said}. So they are decoded anew in each epoch.", style="yellow")
        return None
    console.print(f"  {what} images decoded: {needed / 1e6:.0f} MB in {folder()}", style="dim")
    return _open(path)


def _open(path: Path) -> Array | None:
    """A file as it was written, or None."""
    try:
        array: Array = np.load(path, mmap_mode="c")  # private, so that torch may have it
    except (OSError, ValueError, EOFError):  # there is none, or it was cut short
        return None
    if array.nbytes > CHECKED:
        return array
    with open(path, "rb") as file:
        file.seek(-4, os.SEEK_END)
        return array if zlib.crc32(array.data) == int.from_bytes(file.read(4)) else None


def _write(path: Path, batches: Iterable[Array], shape: tuple[int, ...]) -> None:
    """A .npy file with its checksum behind, under its name only when it is whole. Raises `OSError` on a full disk."""
    aside = path.with_suffix(".part")  # one that a killed process left behind is written over
    checksum = 0
    try:
        with open(aside, "wb") as file:
            header = {"descr": "|u1", "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(file, header)
            for batch in batches:
                checksum = zlib.crc32(batch.data, checksum)
                file.write(batch.data)
            file.write(checksum.to_bytes(4))
        move_into_place(aside, path)
    finally:
        aside.unlink(missing_ok=True)


def _decode(images: Dataset, shape: tuple[int, int, int], what: str) -> Iterator[Array]:
    """Batches `(n, C, H, W)`; large images in threads, since Pillow lets go of the interpreter while it decodes."""
    feature = Image()
    channels, *size = shape
    rows = max(1, min(BATCH, AT_ONCE // math.prod(shape)))

    def fill(targets: Array, names: list[str], encoded: list[Any]) -> None:
        for target, name, one in zip(targets, names, encoded, strict=True):
            try:
                picture = feature.decode_example(one).convert("L" if channels == 1 else "RGB")
            except OSError as error:
                raise UserError(f"The {what} image {name} can no longer be read: {error}") from error
            if picture.size != tuple(size[::-1]):
                picture = picture.resize(size[::-1], PIL.Image.Resampling.BICUBIC)
            target[:] = np.asarray(picture).reshape(*size, channels).transpose(2, 0, 1)

    # To decode a small image is mostly Python, for which threads wait for one another.
    with ThreadPoolExecutor(THREADS if math.prod(size) > 128 * 128 else 1) as pool:
        for batch in track(images.iter(rows), f"decoding {what} images", math.ceil(len(images) / rows)):
            array = np.empty((len(batch["image"]), *shape), np.uint8)
            list(pool.map(fill, _parts(array), _parts(batch["id"]), _parts(batch["image"])))
            yield array


def _shape(images: Dataset, what: str, largest: float) -> tuple[bool, tuple[int, int, int]]:
    """Whether the images are kept as they are, and the channels, height and width of the array."""
    found: set[tuple[int, int, int]] = set()
    with ThreadPoolExecutor(THREADS) as pool:
        batches = track(images.iter(BATCH), f"measuring {what} images", math.ceil(len(images) / BATCH))
        for batch in batches:
            found.update(*pool.map(_shapes_of, _parts(batch["image"])))
    channels, sizes = max(shape[0] for shape in found), {shape[1:] for shape in found}
    if len(sizes) > 1:
        edge = int(min(largest, max(map(max, sizes))))
        return False, (channels, edge, edge)
    height, width = sizes.pop()
    scale = min(1.0, largest / min(height, width))
    return scale == 1, (channels, round(height * scale), round(width * scale))


def _parts(column: Any) -> list[Any]:
    """What each turn of a thread works on; more than one image, or the threads would wait for one another."""
    return [column[start : start + PART] for start in range(0, len(column), PART)]


def _shapes_of(images: list[dict[str, Any]]) -> set[tuple[int, int, int]]:
    return {_shape_of(image) for image in images}


def _shape_of(image: dict[str, Any]) -> tuple[int, int, int]:
    with PIL.Image.open(image["path"] if image["bytes"] is None else io.BytesIO(image["bytes"])) as picture:
        width, height = picture.size
        # What lies on its side is turned by `datasets`. To ask for it is to decode a PNG, so squares are not asked.
        if width != height and picture.getexif().get(Base.Orientation, 1) >= 5:
            width, height = height, width
        return (1 if picture.mode == "L" else 3), height, width

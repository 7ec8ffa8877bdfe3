"""Images are checked and decoded in one pass, and kept: each split is one uint8 array, in a file mapped into memory.

Decoded bytes are read tens of times faster than images are decoded. A file, and what the check found, is recognised by
what the images were made from (their bytes, or the names, sizes and times of files), so a source that has changed is
looked at again. Files are written aside and renamed when they are whole; of several processes that want the same one,
one writes it and the others wait.
"""

import hashlib
import json
import logging
import math
import os
import shutil
import zlib
from collections.abc import Container, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import PIL.Image
from datasets import Dataset
from filelock import FileLock

from fer_hf.console import track
from fer_hf.data.decode import BATCH, THREADS, Array, decode, shape_of, to_array, undecoded
from fer_hf.errors import UserError
from fer_hf.files import move_into_place, write_text

logger = logging.getLogger(__name__)
Shape = tuple[int, int, int]
"""Channels, height and width."""
KEPT_IN_MEMORY = 4 * 2**20
"""Bytes of a split that each run decodes anew: that takes a moment, and leaves no file behind."""
KEPT_AT_MOST = 2**32
"""Bytes of a split up to which the check keeps what it decodes; training keeps larger ones shrunk to what it needs."""
CHECKSUM_UP_TO = 2**30
"""Bytes up to which the checksum of a file is verified each time it is opened."""
AT_ONCE = 2**26
"""Bytes of decoded images that are in memory before they are written."""
PART = 128
"""Images that a thread decodes in one turn; with single ones, threads would wait for one another."""
VERSION = 4
"""Of how images become bytes: files of another version are not looked at."""


def folder() -> Path:
    """Where the arrays lie: in the cache of `datasets`."""
    return Path(datasets.config.HF_DATASETS_CACHE) / "fer_hf_decoded"


def fingerprint(images: Dataset) -> str:
    """A hash of the ids and of what the images are read from. `images` is what `undecoded` returns."""
    digest = hashlib.sha256(
        f"{PIL.Image.MAX_IMAGE_PIXELS} v{VERSION}".encode()
    )  # the fastest where a processor has it built in
    for batch in images.iter(BATCH):
        for name, image in zip(batch["id"], batch["image"], strict=True):
            digest.update(name.encode())
            digest.update(image["bytes"] if image and image["bytes"] is not None else _stat(image).encode())
    return digest.hexdigest()


# --- the check


@dataclass
class Checked:
    """A split whose images have all been decoded once.

    Attributes:
        images: those that can be read, undecoded, with their ids.
        what: what they are called in the terminal.
        bad: why each of the others cannot be read, by id.
        shape: the common shape of `images`; None where their sizes differ.
        array: the pixels, once they are asked for.
    """

    images: Dataset
    what: str
    bad: dict[str, str]
    shape: Shape | None
    array: Array | None = None

    def pixels(self) -> Array | None:
        """The images as uint8 `(N, C, H, W)`; None where sizes differ, and where there are too many bytes to keep."""
        if self.array is None and self.shape and len(self.images) * math.prod(self.shape) <= KEPT_AT_MOST:
            self.array = decoded(self.images, self.what, shape=self.shape)
        return self.array


def check(data: Dataset, what: str, keep: bool = True) -> Checked:
    """Decode every image of a split once, in threads, and keep the pixels where all images have one size.

    What the check finds is remembered in the cache of `datasets`. Images that could not be read are tried again: the
    rights of a file, the disk or Pillow may have been mended since.

    Args:
        data: a split with the columns `id` and `image`.
        what: what its images are called in the terminal.
        keep: whether decoded images are kept for `Checked.pixels`; otherwise they are decoded again for it.
    """
    images = undecoded(data)
    key = fingerprint(images)
    report = folder().with_name("fer_hf_checked") / f"{key}.json"
    with suppress(OSError, ValueError, LookupError, TypeError):  # no report, or none that can be read
        remembered = json.loads(report.read_text(encoding="utf-8"))
        again = _Pass(_rows(images, remembered["bad"], True), (1, 1, 1), f"checking {what} images")
        again.finish()
        if again.bad.keys() == remembered["bad"].keys():
            shape = remembered["shape"] and tuple(remembered["shape"])
            return Checked(_rows(images, again.bad, False), what, again.bad, shape)
    passed, array = _Pass(images, _first_shape(images), f"checking {what} images"), None
    if keep and passed.size <= KEPT_AT_MOST:
        with suppress(OSError):  # no room: whoever needs the pixels says so
            array = _keep(passed, _path(key), what)
    passed.finish()
    bad = dict(sorted(passed.bad.items()))
    with suppress(OSError):  # a cache that cannot be written is no reason to stop
        report.parent.mkdir(parents=True, exist_ok=True)
        write_text(report, json.dumps({"bad": bad, "shape": passed.common_shape()}))
    return Checked(_rows(images, bad, False), what, bad, passed.common_shape(), array)


def _rows(images: Dataset, ids: Container[str], wanted: bool) -> Dataset:
    """The rows whose id is among `ids`, or those whose id is not."""
    rows = [row for row, name in enumerate(images["id"][:]) if (name in ids) == wanted]
    return images if len(rows) == len(images) else images.select(rows)


def _first_shape(images: Dataset) -> Shape:
    """The shape of the first image that can be read."""
    for row in images:
        with suppress(ValueError):
            return to_array(decode(row["image"])).shape
    return 3, 1, 1


# --- the arrays


def decoded(
    data: Dataset, what: str, largest: float = math.inf, pixels: Array | None = None, shape: Shape | None = None
) -> Array | None:
    """The images of a split as one array, of a size that is enough for training.

    Images of one size keep it, unless their shorter edge is above `largest`: then they are shrunk to that. Images of
    many sizes become squares, whatever their shape, of the longest edge among them or of `largest`; where that is
    infinite they stay as they are, and None is returned.

    Args:
        data: a split with the columns `id` and `image`.
        what: what its images are called in the terminal.
        largest: pixels of the shorter edge that are enough.
        pixels: what `Faces.pixels` returns for the split, taken where it is no larger than needed.
        shape: channels, height and width of all images, where they are known.

    Returns:
        uint8 `(N, C, H, W)`, C being 1 where all images are grey. None, and a warning, when the disk has no room for
        images that are the same when they are decoded anew.

    Raises:
        UserError: an image cannot be read, or the disk has no room for images whose size had to be changed.
    """
    if pixels is not None and min(pixels.shape[2:]) <= largest:
        return pixels
    images = undecoded(data)
    key = fingerprint(images)
    if (array := _open(_path(key))) is not None and min(array.shape[2:]) <= largest:
        return array
    if (array := _open(_path(key, largest))) is not None:
        return array
    unchanged, shape = (True, shape) if shape else _measure(images, what, largest)
    if not unchanged and math.isinf(largest):
        return None
    passed = _Pass(images, shape, f"decoding {what} images", resize=True)
    try:
        array = _keep(passed, _path(key) if unchanged else _path(key, largest), what)
    except OSError as error:
        if not unchanged:  # a run that is resumed with more room would see other ones
            raise UserError(
                f"Shrunk {what} images cannot be kept in {folder()}: {error}. Make room, or set HF_DATASETS_CACHE to a "
                "folder with more."
            ) from error
        message = "  Decoded %s images cannot be kept in %s: %s. So they are decoded anew each time."
        logger.warning(message, what, folder(), error)
    for name, reason in passed.bad.items():
        raise UserError(f"The {what} image {name} can no longer be read: {reason}")
    return array


def _measure(images: Dataset, what: str, largest: float) -> tuple[bool, Shape]:
    """Whether the images are kept as they are, and the shape that all of them get."""
    shapes: set[Shape] = set()
    with ThreadPoolExecutor(THREADS) as pool:
        for batch in track(images.iter(BATCH), f"measuring {what} images", math.ceil(len(images) / BATCH)):
            shapes.update(*pool.map(_shapes_of, _parts(batch["image"])))
    if not shapes:
        return True, (3, 1, 1)
    channels, sizes = max(shape[0] for shape in shapes), {shape[1:] for shape in shapes}
    if len(sizes) > 1:
        edge = int(min(largest, max(map(max, sizes))))
        return False, (channels, edge, edge)
    height, width = sizes.pop()
    scale = min(1.0, largest / min(height, width))
    return scale == 1, (channels, round(height * scale), round(width * scale))


def _shapes_of(images: list[Any]) -> set[Shape]:
    """Of the images that can be read."""
    shapes = set()
    for image in images:
        with suppress(ValueError):
            shapes.add(shape_of(image))
    return shapes


class _Pass:
    """One pass over all images of a split.

    With `resize`, every image is brought to `shape`. `bad` has the reason for each image that cannot be read, by id;
    `shapes` has the shapes of the others.
    """

    def __init__(self, images: Dataset, shape: Shape, title: str, resize: bool = False):
        self.images, self.shape, self.title, self.resize = images, shape, title, resize
        self.size = len(images) * math.prod(shape)
        self.bad: dict[str, str] = {}
        self.shapes: set[Shape] = set()
        self.done = False

    def batches(self) -> Iterator[Array]:
        """Pixels `(n, C, H, W)` of all images, up to the first that cannot be read or has another size."""
        rows = max(1, min(BATCH, AT_ONCE // math.prod(self.shape)))
        whole = True
        # To decode a small image is mostly Python, for which threads wait for one another.
        with ThreadPoolExecutor(THREADS if self.shape[1] * self.shape[2] > 128 * 128 else 1) as pool:
            for batch in track(self.images.iter(rows), self.title, math.ceil(len(self.images) / rows)):
                array = np.empty((len(batch["id"]), *self.shape), np.uint8)
                parts = pool.map(self._fill, _parts(array), _parts(batch["id"]), _parts(batch["image"]))
                whole &= all(list(parts))  # each of them, also after one that is not whole
                if whole:
                    yield array
        self.done = True

    def finish(self) -> None:
        """Look at all images, if that is not done."""
        if not self.done:
            for _ in self.batches():
                pass

    def common_shape(self) -> Shape | None:
        """The shape of all images, grey ones counting as coloured among those; None where sizes differ."""
        sizes = {shape[1:] for shape in self.shapes}
        return (max(shape[0] for shape in self.shapes), *sizes.pop()) if len(sizes) == 1 else None

    def _fill(self, target: Array, names: list[str], images: list[Any]) -> bool:
        """Decode images into `target`; whether that could be done with all of them."""
        channels, *size = self.shape
        whole = True
        for pixels, name, image in zip(target, names, images, strict=True):
            try:
                picture = decode(image)
            except ValueError as error:
                self.bad[name], whole = str(error), False
                continue
            shape = (1 if picture.mode == "L" else 3, picture.height, picture.width)
            self.shapes.add(shape)
            if shape != self.shape:
                if not self.resize and (channels == 1 or [*shape[1:]] != size):
                    whole = False
                    continue
                picture = picture.convert("L" if channels == 1 else "RGB")
                if [*shape[1:]] != size:
                    picture = picture.resize(size[::-1], PIL.Image.Resampling.BICUBIC)
            pixels[:] = to_array(picture)
        return whole


def _parts(column: Any) -> list[Any]:
    return [column[start : start + PART] for start in range(0, len(column), PART)]


# --- the files


def _path(key: str, largest: float | None = None) -> Path:
    return folder() / f"{key}{'' if largest is None else f'-{largest}'}.npy"


def _open(path: Path) -> Array | None:
    """A file as it was written, or None."""
    try:
        array: Array = np.load(path, mmap_mode="c")  # private, so that torch may have it
    except (OSError, ValueError, EOFError):  # there is none, or it was cut short
        return None
    if array.nbytes > CHECKSUM_UP_TO:
        return array
    with open(path, "rb") as file:
        file.seek(-4, os.SEEK_END)
        return array if zlib.crc32(array.data) == int.from_bytes(file.read(4)) else None


def _keep(passed: _Pass, path: Path, what: str) -> Array | None:
    """The array of all images: of the file `path`, which is written where there is none, or small, in memory.

    None when images cannot be read or differ in size. Raises `OSError` when the disk has no room.
    """
    if passed.size <= KEPT_IN_MEMORY:
        batches = list(passed.batches())
        return np.concatenate(batches) if sum(map(len, batches)) == len(passed.images) > 0 else None
    folder().mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_suffix(".lock")):
        if (array := _open(path)) is not None:  # another process was faster
            return array
        if passed.size > (free := shutil.disk_usage(folder()).free) / 2:
            raise OSError(f"it would take {passed.size / 1e9:.1f} of {free / 1e9:.1f} free GB")
        if not _write(path, passed):
            return None
    logger.info("  %s images decoded: %.0f MB in %s", what, passed.size / 1e6, folder())
    return _open(path)


def _write(path: Path, passed: _Pass) -> bool:
    """A .npy file with its checksum behind it, under its name only when it is whole; whether it is."""
    aside = path.with_suffix(".part")  # one that a killed process left behind is written over
    checksum = rows = 0
    try:
        with open(aside, "wb") as file:
            header = {"descr": "|u1", "fortran_order": False, "shape": (len(passed.images), *passed.shape)}
            np.lib.format.write_array_header_1_0(file, header)
            for batch in passed.batches():
                checksum, rows = zlib.crc32(batch.data, checksum), rows + len(batch)
                file.write(batch.data)
            file.write(checksum.to_bytes(4))
        if rows == len(passed.images):
            move_into_place(aside, path)
        return rows == len(passed.images)
    finally:
        aside.unlink(missing_ok=True)


def _stat(image: dict[str, Any] | None) -> str:
    path = (image or {}).get("path") or ""
    try:
        status = os.stat(path)
    except OSError:
        return f"{path} missing"
    return f"{path} {status.st_size} {status.st_mtime_ns}"

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
from collections.abc import Iterator
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
VERSION = 2
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
        key: the fingerprint of `images`.
        shape: the common shape of `images`; None where their sizes differ.
    """

    images: Dataset
    what: str
    bad: dict[str, str]
    key: str
    shape: Shape | None
    array: Array | None = None

    def pixels(self) -> Array | None:
        """The images as uint8 `(N, C, H, W)`; None where sizes differ, and where there are too many bytes to keep."""
        if self.array is None and self.shape and len(self.images) * math.prod(self.shape) <= KEPT_AT_MOST:
            try:
                self.array = _array(self.images, _path(self.key), self.shape, self.what)
            except OSError as error:
                _warn_of_no_room(self.what, error)
        return self.array


def check(data: Dataset, what: str, keep: bool = True) -> Checked:
    """Decode every image of a split once, in threads, and keep the pixels where all images have one size.

    What was found is remembered in the cache of `datasets`. Images that could not be read are tried again: the rights
    of a file, the disk or Pillow may have been mended since.

    Args:
        data: a split with the columns `id` and `image`.
        what: what its images are called in the terminal.
        keep: whether decoded images are kept for `Checked.pixels`; otherwise they are decoded again for it.
    """
    images = undecoded(data)
    key = fingerprint(images)
    if checked := _remembered(images, what, key):
        return checked
    shape = _first_shape(images)
    size = len(images) * math.prod(shape)
    passed = _Pass(images, shape, f"checking {what} images")
    if not keep or size > KEPT_AT_MOST:
        for _ in passed:
            pass
        checked = passed.result(what, key)
    elif size <= KEPT_IN_MEMORY:
        batches = list(passed)
        checked = passed.result(what, key)
        if passed.alike and batches:
            checked.array = np.concatenate(batches)
    else:
        checked = _check_into_file(passed, what, key)
    with suppress(OSError):  # a cache that cannot be written is no reason to stop
        file = _report(key)
        file.parent.mkdir(parents=True, exist_ok=True)
        write_text(file, json.dumps({"bad": checked.bad, "key": checked.key, "shape": checked.shape}))
    return checked


def _check_into_file(passed: "_Pass", what: str, key: str) -> Checked:
    """Check, and write what is decoded to a file; without room for it, check alone."""
    try:
        folder().mkdir(parents=True, exist_ok=True)
        with FileLock(_path(key).with_suffix(".lock")):
            if checked := _remembered(passed.images, what, key):  # another process was faster
                return checked
            _require_room(len(passed.images) * math.prod(passed.shape))
            with _Writer(_path(key), passed.shape) as writer:
                for batch in passed:
                    if passed.alike:
                        writer.add(batch)
                checked = passed.result(what, key)
                if passed.alike:
                    writer.finish(_path(checked.key))
                    _tell(what, writer.size)
    except OSError:
        for _ in passed:
            pass
        checked = passed.result(what, key)
    return checked


def _report(key: str) -> Path:
    return folder().with_name("fer_hf_checked") / f"{key}.json"


def _remembered(images: Dataset, what: str, key: str) -> Checked | None:
    """What an earlier check has found, when all of it still holds."""
    try:
        report = json.loads(_report(key).read_text(encoding="utf-8"))
        shape, failed = report["shape"] and tuple(report["shape"]), report["bad"]
        good, bad = images, dict[str, str]()
        if failed:
            again = _Pass(_rows(images, failed, True), (1, 1, 1), f"checking {what} images")
            list(again)
            good, bad = _rows(images, failed, False), again.bad
    except (OSError, ValueError, LookupError, TypeError):
        return None
    return Checked(good, what, bad, report["key"], shape) if bad.keys() == failed.keys() else None


def _rows(images: Dataset, ids: dict[str, str], wanted: bool) -> Dataset:
    return images.select([row for row, name in enumerate(images["id"][:]) if (name in ids) == wanted])


def _first_shape(images: Dataset) -> Shape:
    """The shape of the first image that can be read."""
    for image in images.select_columns("image"):
        with suppress(ValueError):
            return to_array(decode(image["image"])).shape  # type: ignore[return-value]
    return 3, 1, 1


# --- the arrays


def decoded(data: Dataset, what: str, largest: float = math.inf, pixels: Array | None = None) -> Array | None:
    """The images of a split as one array, of a size that is enough for training.

    Images of one size keep it, unless their shorter edge is above `largest`: then they are shrunk to that. Images of
    many sizes become squares, whatever their shape, of the longest edge among them or of `largest`; where that is
    infinite they stay as they are, and None is returned.

    Args:
        data: a split with the columns `id` and `image`.
        what: what its images are called in the terminal.
        largest: pixels of the shorter edge that are enough.
        pixels: what `Faces.pixels` returns for the split, taken where it is no larger than needed.

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
    unchanged, shape = _measure(images, what, largest)
    if not unchanged and math.isinf(largest):
        return None
    try:
        return _array(images, _path(key) if unchanged else _path(key, largest), shape, what)
    except OSError as error:
        if not unchanged:  # a run that is resumed with more room would see other ones
            raise UserError(
                f"Shrunk {what} images cannot be kept in {folder()}: {error}. Make room, or set HF_DATASETS_CACHE to a "
                "folder with more."
            ) from error
        _warn_of_no_room(what, error)
        return None


def _array(images: Dataset, path: Path, shape: Shape, what: str) -> Array:
    """The array in the file `path`, which is written first where there is none; a small one is made in memory.

    Raises `OSError` when the disk has no room, and `UserError` for an image that cannot be read.
    """
    passed = _Pass(images, shape, f"decoding {what} images", resize=True)
    size = len(images) * math.prod(shape)
    if size <= KEPT_IN_MEMORY:
        return np.concatenate([batch for batch in passed if passed.all_good(what)])
    folder().mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_suffix(".lock")):
        if (array := _open(path)) is not None:
            return array
        _require_room(size)
        with _Writer(path, shape) as writer:
            for batch in passed:
                passed.all_good(what)
                writer.add(batch)
            writer.finish(path)
    _tell(what, size)
    array = _open(path)
    if array is None:
        raise OSError(f"{path} was written, and cannot be read")
    return array


def _measure(images: Dataset, what: str, largest: float) -> tuple[bool, Shape]:
    """Whether the images are kept as they are, and the shape that all of them get."""
    shapes: set[Shape] = set()
    with ThreadPoolExecutor(THREADS) as pool:
        for batch in track(images.iter(BATCH), f"measuring {what} images", math.ceil(len(images) / BATCH)):
            shapes.update(*pool.map(lambda part: {shape_of(image) for image in part}, _parts(batch["image"])))
    channels, sizes = max(shape[0] for shape in shapes), {shape[1:] for shape in shapes}
    if len(sizes) > 1:
        edge = int(min(largest, max(map(max, sizes))))
        return False, (channels, edge, edge)
    height, width = sizes.pop()
    scale = min(1.0, largest / min(height, width))
    return scale == 1, (channels, round(height * scale), round(width * scale))


class _Pass:
    """One pass over all images of a split, as batches `(n, C, H, W)` of those that can be read.

    With `resize`, every image is brought to `shape`; otherwise images of another shape are left out of the batches,
    and `alike` is False from then on. `bad` has the reason for each image that cannot be read, by id.
    """

    def __init__(self, images: Dataset, shape: Shape, title: str, resize: bool = False):
        self.images, self.shape, self.title, self.resize = images, shape, title, resize
        self.bad: dict[str, str] = {}
        self.shapes: set[Shape] = set()

    def __iter__(self) -> Iterator[Array]:
        self.bad, self.shapes = {}, set()
        rows = max(1, min(BATCH, AT_ONCE // math.prod(self.shape)))
        # To decode a small image is mostly Python, for which threads wait for one another.
        with ThreadPoolExecutor(THREADS if self.shape[1] * self.shape[2] > 128 * 128 else 1) as pool:
            for batch in track(self.images.iter(rows), self.title, math.ceil(len(self.images) / rows)):
                array = np.empty((len(batch["id"]), *self.shape), np.uint8)
                counts = list(pool.map(self._fill, _parts(array), _parts(batch["id"]), _parts(batch["image"])))
                filled = [part[:count] for part, count in zip(_parts(array), counts, strict=True)]
                yield array if sum(counts) == len(array) else np.concatenate(filled)

    def _fill(self, target: Array, names: list[str], images: list[Any]) -> int:
        """Decode images into the first rows of `target`; how many rows that were."""
        count, (channels, height, width) = 0, self.shape
        for name, image in zip(names, images, strict=True):
            try:
                picture = decode(image)
            except ValueError as error:
                self.bad[name] = str(error)
                continue
            shape = (1 if picture.mode == "L" else 3, picture.height, picture.width)
            if shape != self.shape:
                self.shapes.add(shape)
                if not self.resize and (shape[1:] != (height, width) or channels == 1):
                    continue
                picture = picture.convert("L" if channels == 1 else "RGB")
                if picture.size != (width, height):
                    picture = picture.resize((width, height), PIL.Image.Resampling.BICUBIC)
            target[count] = to_array(picture)
            count += 1
        return count

    @property
    def alike(self) -> bool:
        """Whether all images so far have the shape, grey ones counting as coloured where others are."""
        return all(shape[1:] == self.shape[1:] and self.shape[0] == 3 for shape in self.shapes)

    def all_good(self, what: str) -> bool:
        """True. Raises `UserError` that names an image which cannot be read."""
        for name, reason in self.bad.items():
            raise UserError(f"The {what} image {name} can no longer be read: {reason}")
        return True

    def result(self, what: str, key: str) -> Checked:
        """What the pass has found; `key` is the fingerprint of all its images."""
        bad = dict(sorted(self.bad.items()))
        good = _rows(self.images, bad, False) if bad else self.images
        sizes = {shape[1:] for shape in (*self.shapes, self.shape)}
        shape = (max(shape[0] for shape in (*self.shapes, self.shape)), *self.shape[1:]) if len(sizes) == 1 else None
        return Checked(good, what, bad, fingerprint(good) if bad else key, shape)


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


class _Writer:
    """A .npy file that grows by batches, with its checksum behind it. Use it as a context; raises `OSError`."""

    def __init__(self, path: Path, shape: Shape):
        self.aside, self.shape = path.with_suffix(".part"), shape
        self.rows = self.size = self.checksum = 0

    def __enter__(self) -> "_Writer":
        self.file = open(self.aside, "wb")
        self._header()
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()
        self.aside.unlink(missing_ok=True)

    def add(self, batch: Array) -> None:
        self.checksum = zlib.crc32(batch.data, self.checksum)
        self.file.write(batch.data)
        self.rows, self.size = self.rows + len(batch), self.size + batch.nbytes

    def finish(self, path: Path) -> None:
        """Give the file its name."""
        self.file.write(self.checksum.to_bytes(4))
        self.file.seek(0)
        self._header()  # as long as before: NumPy leaves room for the number of rows to grow
        self.file.close()
        move_into_place(self.aside, path)

    def _header(self) -> None:
        header = {"descr": "|u1", "fortran_order": False, "shape": (self.rows, *self.shape)}
        np.lib.format.write_array_header_1_0(self.file, header)  # type: ignore[arg-type]


def _require_room(size: int) -> None:
    if size > (free := shutil.disk_usage(folder()).free) / 2:
        raise OSError(f"it would take {size / 1e9:.1f} of {free / 1e9:.1f} free GB")


def _tell(what: str, size: int) -> None:
    logger.info("  %s images decoded: %.0f MB in %s", what, size / 1e6, folder())


def _warn_of_no_room(what: str, error: OSError) -> None:
    logger.warning(
        "  Decoded %s images cannot be kept in %s: %s. So they are decoded anew in each epoch.", what, folder(), error
    )


def _stat(image: dict[str, Any] | None) -> str:
    path = (image or {}).get("path") or ""
    try:
        status = os.stat(path)
    except OSError:
        return f"{path} missing"
    return f"{path} {status.st_size} {status.st_mtime_ns}"

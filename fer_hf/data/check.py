"""Checking that every image can be decoded, once: the result is kept in the cache of `datasets`.

It is kept under a hash of the images themselves, or of the names, sizes and times of files, so a changed image is
checked again.
"""

import hashlib
import json
import math
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import datasets
import PIL.Image
from datasets import Dataset, Image

from fer_hf.console import track
from fer_hf.data.decode import BATCH, THREADS, decode
from fer_hf.files import write_text


def unreadable(splits: dict[str, Dataset]) -> dict[str, dict[str, str]]:
    """For each split that has any: the ids of images that cannot be decoded whole, with the reason.

    Images are decoded in threads, once; a progress bar appears when that takes long.
    """
    found = {split: _remembered(split, data) for split, data in splits.items()}
    return {split: bad for split, bad in found.items() if bad}


def _remembered(split: str, data: Dataset) -> dict[str, str]:
    data = data.cast_column("image", Image(decode=False))
    file = Path(datasets.config.HF_DATASETS_CACHE) / "fer_hf_checked" / f"{fingerprint(data)}.json"
    with suppress(OSError, ValueError):
        # What failed is tried again: the rights of a file, the disk or Pillow may have been mended since.
        failed = json.loads(file.read_text(encoding="utf-8"))
        data = data.select([row for row, name in enumerate(data["id"][:]) if name in failed])
    bad = _decode_all(split, data)
    with suppress(OSError):  # a cache that cannot be written is no reason to stop
        file.parent.mkdir(parents=True, exist_ok=True)
        write_text(file, json.dumps(bad))
    return bad


def fingerprint(data: Dataset) -> str:
    """A hash of the ids and of what the images are read from."""
    digest = hashlib.sha256(str(PIL.Image.MAX_IMAGE_PIXELS).encode())  # the fastest where a processor has it built in
    for batch in data.select_columns(["id", "image"]).iter(BATCH):
        for name, image in zip(batch["id"], batch["image"], strict=True):
            digest.update(name.encode())
            digest.update(image["bytes"] if image and image["bytes"] is not None else _stat(image).encode())
    return digest.hexdigest()


def _stat(image: dict[str, Any] | None) -> str:
    path = (image or {}).get("path") or ""
    try:
        found = os.stat(path)
    except OSError:
        return f"{path} missing"
    return f"{path} {found.st_size} {found.st_mtime_ns}"


def _decode_all(split: str, data: Dataset) -> dict[str, str]:
    bad: dict[str, str] = {}
    with ThreadPoolExecutor(THREADS) as pool:
        for batch in track(data.iter(BATCH), f"checking {split} images", math.ceil(len(data) / BATCH)):
            pairs = list(zip(batch["id"], batch["image"], strict=True))
            for found in pool.map(_unreadable_of, [pairs[start::THREADS] for start in range(THREADS)]):
                bad |= found
    return dict(sorted(bad.items()))


def _unreadable_of(pairs: Iterable[tuple[str, dict[str, Any] | None]]) -> dict[str, str]:
    bad = {}
    for name, image in pairs:
        try:
            decode(image)
        except ValueError as error:
            bad[name] = str(error)
    return bad

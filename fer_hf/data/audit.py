"""An audit of a dataset: class balance, sizes, light, blank and broken images, duplicates within and across splits.

- Exact duplicates have the same decoded pixels, whatever the file.
- Near duplicates are one photograph cropped, scaled or compressed anew: their perceptual hashes (`imagehash.phash`, 64
  bits) differ in at most 10 bits, and their grey thumbnails (24 x 24) correlate with at least 0.95. On FER2013 almost
  every pair above 0.94 is one photograph to the eye, and below 0.92 many are not; mirrored copies are so rare there (29
  pairs) that they are not looked for.
- Duplicates form groups: whoever is a duplicate of a member belongs to the group.
"""

import hashlib
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from typing import Any, NamedTuple

import imagehash
import numpy as np
from datasets import Dataset
from PIL import Image as PILImage
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from fer_hf.console import track
from fer_hf.data.columns import per_class_counts
from fer_hf.data.copies import Copy, list_copies
from fer_hf.data.decode import BATCH, THREADS, decode_as_stored, undecoded
from fer_hf.data.faces import Faces
from fer_hf.metrics import class_balance

HASH_BITS = 10  # of 64
CORRELATION = 0.95
THUMBNAIL = 24  # pixels
PAIRS = 2**16  # correlated at once
BLANK = 0.02  # contrast below which an image shows nothing
ORDER = ("test", "validation", "train")  # of two copies in different splits, the one in the later split is left out


class Measured(NamedTuple):
    """What the audit keeps of an image."""

    mode: str
    size: tuple[int, int]
    brightness: float  # mean grey value, 0 to 1
    contrast: float  # its standard deviation
    pixels: bytes  # a hash of the decoded pixels
    phash: int  # 64 bits
    thumbnail: np.ndarray  # uint8 (24, 24)


def measure(image: PILImage.Image) -> Measured:
    """The figures of one picture of any mode and size."""
    grey = image.convert("L")
    values = np.asarray(grey)
    digest = hashlib.blake2b(f"{image.mode} {image.size}".encode() + image.tobytes(), digest_size=16).digest()
    bits = int(str(imagehash.phash(grey)), 16)
    thumbnail = np.asarray(grey.resize((THUMBNAIL, THUMBNAIL), PILImage.Resampling.BOX))
    return Measured(image.mode, image.size, values.mean() / 255, values.std() / 255, digest, bits, thumbnail)


def audit(faces: Faces) -> dict[str, Any]:
    """The audit of `faces`, loaded for inspection and unchecked, as plain JSON types.

    The key `copies` has the rows of copies.csv (`data.copies.Copy`). The key `exclude` lists the images to leave out,
    each with its reason: broken ones; outside the test split, blank ones and copies of which another is kept, the copy
    in test before the one in validation before the one in train; and training images of one photograph under different
    labels. The test split stays whole, for comparable figures.
    """
    rows, measured, broken = _measure_all(faces.splits)
    group_of, exact_group_of = _copy_groups(measured)
    light = {name: np.array([getattr(one, name) for one in measured]) for name in ("brightness", "contrast")}
    blank = [row for row, contrast in zip(rows, light["contrast"], strict=True) if contrast < BLANK]
    groups = _list_groups(rows, group_of, exact_group_of)
    classes = {str(split): per_class_counts(data) for split, data in faces.splits.items()}
    return {
        "dataset": faces.dataset,
        "notes": faces.notes,
        "splits": {str(split): len(data) for split, data in faces.splits.items()},
        "classes": classes,
        "imbalance_ratio": {split: round(class_balance(counts).ratio, 2) for split, counts in classes.items()},
        "sizes": [
            {"width": size[0], "height": size[1], "mode": mode, "images": count}
            for (mode, size), count in Counter((one.mode, one.size) for one in measured).most_common()
        ],
        "light": {name: _spread(values) for name, values in light.items()},
        "blank": blank,
        "broken": [{"split": "", "id": name, "label": "", "reason": why} for name, why in faces.unread.items()]
        + broken,
        "duplicates": {
            "exact": _redundant(exact_group_of),
            "near_or_exact": _redundant(group_of),
            "across": _across(rows, faces, group_of, exact_group_of),
            "one_image_two_labels": sum(group["labels"] > 1 for group in groups if group["exact"]),
            "one_photograph_two_labels": sum(group["labels"] > 1 for group in groups),
        },
        "groups": groups,
        "copies": [asdict(row) for row in list_copies(rows, group_of, exact_group_of)],
        "exclude": _exclude(broken, blank, groups),
    }


def find_copies(splits: Mapping[str, Dataset]) -> list[Copy]:
    """Which image is a copy of which, within and across splits; see `copies.list_copies`.

    Args:
        splits: with the columns `image`, `label` and `id`. Images that cannot be read are passed over.
    """
    rows, measured, _ = _measure_all(splits)
    return list_copies(rows, *_copy_groups(measured))


def _copy_groups(measured: list[Measured]) -> tuple[np.ndarray, np.ndarray]:
    """For each image the number of its group of copies (N,), and of its group of equal pixels (N,)."""
    first, second, exact = _duplicates(measured)
    return _groups(len(measured), first, second), _groups(len(measured), first[exact], second[exact])


def _measure_all(
    splits: Mapping[str, Dataset],
) -> tuple[list[dict[str, str]], list[Measured], list[dict[str, str]]]:
    """Split, id and label of each image that can be read, its figures, and the images that cannot be read."""
    rows: list[dict[str, str]] = []
    measured: list[Measured] = []
    broken: list[dict[str, str]] = []
    with ThreadPoolExecutor(THREADS) as pool:
        for split, data in splits.items():
            names = data.features["label"].names
            batches = track(undecoded(data).iter(BATCH), f"looking at {split} images", -(-len(data) // BATCH))
            results = (result for batch in batches for result in pool.map(_try, batch["image"]))
            for name, label, result in zip(data["id"][:], data["label"][:], results, strict=True):
                row = {"split": str(split), "id": name, "label": names[label]}
                if isinstance(result, str):
                    broken.append(row | {"reason": result})
                else:
                    rows.append(row)
                    measured.append(result)
    return rows, measured, broken


def _try(image: dict[str, Any]) -> Measured | str:
    """The figures of an image, or why it cannot be read."""
    try:
        return measure(decode_as_stored(image))
    except ValueError as error:
        return str(error)


def _duplicates(measured: list[Measured]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pairs of duplicates, as two arrays of row numbers (P,), and which of the pairs are exact (bool, P)."""
    digests = np.array([one.pixels.hex() for one in measured], dtype=str)
    _, kinds, pixels = np.unique(digests, return_index=True, return_inverse=True)
    # A copy is tied to the first of its kind, and only that is compared with others: a thousand black images would
    # make half a million pairs.
    pairs = [np.stack([kinds[pixels], np.arange(len(measured))])]
    hashes = np.array([measured[row].phash for row in kinds], dtype=np.uint64)
    thumbnails = np.array([measured[row].thumbnail for row in kinds], dtype=np.uint8).reshape(len(kinds), THUMBNAIL**2)
    step = max(1, 2**23 // max(1, len(kinds)))
    for start in track(range(0, len(kinds), step), "comparing images"):
        distance = np.bitwise_count(hashes[start : start + step, None] ^ hashes[None, start:])
        i, j = np.nonzero(distance <= HASH_BITS)
        i, j = i[j > i] + start, j[j > i] + start
        for part in range(0, len(i), PAIRS):
            a, b = i[part : part + PAIRS], j[part : part + PAIRS]
            same = _correlation(thumbnails[a], thumbnails[b]) >= CORRELATION
            pairs.append(kinds[np.stack([a[same], b[same]])])
    first, second = np.concatenate(pairs, axis=1)
    return first, second, pixels[first] == pixels[second]


def _correlation(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Pearson's correlation of each row of `a` with the same row of `b`, both (P, D); 0 where one is constant."""
    a, b = (x - x.mean(axis=1, keepdims=True, dtype=np.float32) for x in (a, b))
    norm = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return np.einsum("pd,pd->p", a, b) / np.maximum(norm, 1e-6)


def _groups(count: int, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """For each of `count` rows the number of its group (N,)."""
    pairs = coo_matrix((np.ones(len(first)), (first, second)), shape=(count, count))
    return connected_components(pairs, directed=False)[1]


def _redundant(group_of: np.ndarray) -> dict[str, int]:
    """How many groups of more than one image there are, and how many images could go if one of each were kept."""
    sizes = np.bincount(group_of)
    return {"groups": int(np.sum(sizes > 1)), "redundant": int(np.sum(sizes) - len(sizes))}


def _across(rows: list[dict[str, str]], faces: Faces, group_of: np.ndarray, exact_of: np.ndarray) -> list[dict]:
    """For each pair of splits: how many images of the one have a copy in the other."""
    split_of = np.array([row["split"] for row in rows])
    table = []
    for place, split in enumerate(ORDER):
        for other in ORDER[place + 1 :]:
            here, there = split_of == split, split_of == other
            if here.any() and there.any():
                exact, near = (int(np.isin(of[here], of[there]).sum()) for of in (exact_of, group_of))
                images = len(faces.splits[split])
                table.append(
                    {"split": split, "also_in": other, "images": images, "exact": exact, "near_or_exact": near}
                )
    return table


def _list_groups(rows: list[dict[str, str]], group_of: np.ndarray, exact_of: np.ndarray) -> list[dict[str, Any]]:
    """The groups of more than one image, those across splits first, then those with several labels."""
    members: dict[int, list[int]] = {}
    for row, group in enumerate(group_of.tolist()):
        members.setdefault(group, []).append(row)
    groups = [
        {
            "exact": len(set(exact_of[copies].tolist())) == 1,
            "labels": len({rows[row]["label"] for row in copies}),
            "splits": len({rows[row]["split"] for row in copies}),
            "images": [rows[row] for row in sorted(copies, key=lambda row: ORDER.index(rows[row]["split"]))],
        }
        for copies in members.values()
        if len(copies) > 1
    ]
    return sorted(groups, key=lambda group: (-group["splits"], -group["labels"], not group["exact"]))


def _exclude(
    broken: list[dict[str, str]], blank: list[dict[str, str]], groups: list[dict[str, Any]]
) -> list[dict[str, str]]:
    """What to leave out, each image once, with the first reason that holds."""
    reasons: dict[tuple[str, str], str] = {(row["split"], row["id"]): f"broken: {row['reason']}" for row in broken}
    for row in blank:
        if row["split"] != "test":
            reasons.setdefault((row["split"], row["id"]), "blank")
    for group in groups:
        keep, *others = group["images"]  # the test split's first, then validation's
        differ = group["labels"] > 1 and keep["split"] == "train"
        for row in group["images"] if differ else others:
            if row["split"] != "test":
                if differ:
                    other = next(one for one in group["images"] if one["label"] != row["label"])
                    why = f"{row['label']}, but its copy {other['id']} is {other['label']}"
                else:
                    why = f"copy of {keep['id']} ({keep['split']})"
                reasons.setdefault((row["split"], row["id"]), why)
    return [{"split": split, "id": name, "reason": why} for (split, name), why in reasons.items()]


def _spread(values: np.ndarray) -> dict[str, Any]:
    """Percentiles, and a histogram of 20 bins from 0 to 1."""
    if not len(values):
        return {"percentiles": {}, "histogram": [0] * 20}
    percentiles = {str(p): round(float(np.percentile(values, p)), 3) for p in (1, 5, 50, 95, 99)}
    return {"percentiles": percentiles, "histogram": np.histogram(values, bins=20, range=(0, 1))[0].tolist()}

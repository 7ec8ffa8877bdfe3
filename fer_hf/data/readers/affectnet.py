"""AffectNet (Mollahosseini et al. 2017, arXiv 1708.03985) in the three layouts it is passed on in.

- csv, the first release: `training.csv`, `validation.csv` and `Manually_Annotated_Images/`, each at the top, in
  `Manually_Annotated_file_lists` or in `Manually_Annotated`. A published `validation.csv` has no line of column names.
- npy, the release of 2021: `train_set|val_set/images/N.jpg` with `annotations/N_exp.npy` and, where they are known,
  `N_val.npy` and `N_aro.npy`: one value each, mostly written as text
- YOLO, as on Kaggle: `train|valid|test/images/*` with `labels/<name>.txt`, lines of `class cx cy w h`, and `data.yaml`,
  whose `names` give the order of the classes, since it is not AffectNet's own

The test set was never released: what the field calls accuracy on AffectNet is that on its validation set, which is the
test split here (the YOLO layout has one of its own). Images are taken whole: those of the first release are cut out
around the face, and `face_x` to `face_height` are a box within them. The automatically annotated half is not read.
"""

import io
import math
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from fer_hf.console import track
from fer_hf.data.columns import make_split
from fer_hf.data.readers import Raw, left_aside
from fer_hf.data.readers.folder import EXTENSIONS, unlisted
from fer_hf.data.splits import split_name
from fer_hf.emotions import emotion_of
from fer_hf.errors import UserError
from fer_hf.files import file_below, read_csv

NAME = "AffectNet"
WANTED = (
    "a folder with training.csv, validation.csv and Manually_Annotated_Images/, with train_set/ and val_set/ (images/ "
    "and annotations/ in each), or with data.yaml and train/, valid/ and test/ (images/ and labels/ in each)"
)
OPTIONS = ()
LICENSE = "research only, by agreement with the authors"
LABELS = ("neutral", "happy", "sad", "surprise", "fear", "disgust", "anger", "contempt", "none", "uncertain", "no-face")
UNKNOWN = -2  # AffectNet's sign for no valence or arousal
IMAGES = "Manually_Annotated_Images"
PLACES = ("", "Manually_Annotated_file_lists", "Manually_Annotated")
LISTS = {"training.csv": "train", "validation.csv": "test"}
COLUMNS = ["subDirectory_filePath", "face_x", "face_y", "face_width", "face_height", "facial_landmarks"]
COLUMNS += ["expression", "valence", "arousal"]
READ = ("subdirectory_filepath", "expression", "valence", "arousal")
SETS = {"train_set": "train", "val_set": "test"}
BATCH = 1000  # images from one step of the progress bar to the next
TEST_NOTE = "AffectNet's test set was never released: its validation set is the test split, as is usual in the field."
# An image: its split, what to call it when it is bad, folder and name of its file, and a function that gives the id of
# its class, valence and arousal, or raises OSError or ValueError.
Record = tuple[str, str, str, str, Callable[[], tuple]]


def layout(path: Path) -> str | None:
    """`"csv"`, `"npy"`, `"yolo"`, or None when `path` does not look like AffectNet."""
    if _find(path, IMAGES) and any(_find(path, name) for name in LISTS):
        return "csv"
    if any((path / top / "images").is_dir() and (path / top / "annotations").is_dir() for top in SETS):
        return "npy"
    tops = [path / top for top in _split_folders(path)]
    return "yolo" if any((top / "images").is_dir() and (top / "labels").is_dir() for top in tops) else None


def read(path: Path) -> Raw:
    """AffectNet at `path`; ids are paths below the folder of images (csv) or of the dataset. Raises `UserError`.

    `valence` and `arousal` run from -1 to 1; the YOLO layout has none.
    """
    kind, root = layout(path), path.resolve()
    classes = _yolo_classes(path) if kind == "yolo" else {str(id): name for id, name in enumerate(LABELS)}
    names = [name for name in classes.values() if emotion_of(name)]
    bad: dict[str, str] = {}
    kept: dict[str, dict[str, tuple]] = {}
    left_out, notes = Counter[str](), [] if kind == "yolo" else [TEST_NOTE]
    if kind == "csv":
        records = _csv(root, bad, notes)
    elif kind == "npy":
        records = _pairs(root, SETS, "annotations", "_exp.npy", _npy_annotation, bad)
    else:
        records = _pairs(root, _split_folders(root), "labels", ".txt", _yolo_annotation, bad)
    for split, where, folder, name, annotation in records:
        try:
            value, valence, arousal = annotation()
            key = str(value).removesuffix(".0")
            if key not in classes:
                raise ValueError(f"the class is {key[:20]!r}, not one of {', '.join(classes)}")
            if classes[key] not in names:
                left_out[classes[key]] += 1  # its image need not exist
                continue
            image = file_below(folder, name)
            id, row = image[len(folder) + 1 :], (image, names.index(classes[key]), _affect(valence), _affect(arousal))
            id.encode()  # raises UnicodeEncodeError, a ValueError, where a file's name is no text
            if kept.setdefault(split, {}).setdefault(id, row) is not row:
                raise ValueError(f"{id[:80]!r} is listed twice")
        except (OSError, ValueError) as error:
            bad[where] = str(error)

    splits = {}
    for split, rows in kept.items():
        columns = [list(column) for column in zip(*rows.values(), strict=True)]
        known = {} if kind == "yolo" else {"valence": columns[2], "arousal": columns[3]}
        splits[split] = make_split(names, image=columns[0], label=columns[1], id=list(rows), **known)
    if left_out:
        counts = ", ".join(f"{name} {count:,}" for name, count in left_out.most_common())
        notes.append(f"{left_out.total():,} image(s) were left out since their label is no emotion: {counts}.")
    notes += left_aside(
        root, {IMAGES, *LISTS, *PLACES} if kind == "csv" else {*SETS, *_split_folders(root), "data.yaml"}
    )
    bad = {where.encode("utf-8", "backslashreplace").decode(): reason for where, reason in bad.items()}
    return Raw(splits, NAME, license=LICENSE, notes=notes, bad=bad)


def _affect(value: str | float) -> float | None:
    number = float(value)
    if not (-1 <= number <= 1 or number == UNKNOWN):
        raise ValueError(f"valence or arousal is {number:g}, not from -1 to 1")
    return None if number == UNKNOWN else number


def _find(root: Path, name: str) -> Path | None:
    return next((root / place / name for place in PLACES if (root / place / name).exists()), None)


def _csv(root: Path, bad: dict[str, str], notes: list[str]) -> Iterator[Record]:
    images, listed = str(_find(root, IMAGES)), set[str]()
    for name, split in LISTS.items():
        if file := _find(root, name):
            with open(file, "rb") as lines:
                first = next(lines, b"").decode(errors="replace").split(",")
                total = sum(1 for _ in lines)
            header = COLUMNS if len(first) == len(COLUMNS) and first[6].strip().isdigit() else None
            rows = read_csv(file, ("subdirectory_filepath", "expression"), bad, header)
            others = list[str]()
            for _, where, row in track(rows, f"reading {name}", total):
                others = others or [column for column in row if column not in READ]
                listed.add(row["subdirectory_filepath"])
                values = (row["expression"], row.get("valence", UNKNOWN), row.get("arousal", UNKNOWN))
                yield split, where, images, row["subdirectory_filepath"], partial(tuple, values)
            if others:
                notes.append(f"Columns of {name} that were not read: {', '.join(map(repr, others))}.")
    notes += unlisted(Path(images), listed)


def _pairs(
    root: Path, tops: Mapping[str, str], beside: str, suffix: str, read: Callable[[str], tuple], bad: dict[str, str]
) -> Iterator[Record]:
    """The images of each top folder; annotations without an image go to `bad`."""
    for top, split in tops.items():
        images = [name for name in _listed(root / top / "images") if os.path.splitext(name)[1].lower() in EXTENSIONS]
        stems = {os.path.splitext(name)[0] for name in images}
        for name in _listed(root / top / beside):
            if name.endswith(suffix) and name.removesuffix(suffix) not in stems:
                bad[f"{top}/{beside}/{name}"] = "there is no image of it"
        for start in track(range(0, len(images), BATCH), f"reading {top}"):
            for name in images[start : start + BATCH]:
                id, file = f"{top}/images/{name}", f"{root}/{top}/{beside}/{os.path.splitext(name)[0]}{suffix}"
                yield split, id, str(root), id, partial(read, file)


def _listed(folder: Path) -> list[str]:
    return sorted(name for name in os.listdir(folder) if not name.startswith(".")) if folder.is_dir() else []


def _npy_annotation(file: str) -> tuple:
    values: list[Any] = [_value(file)]
    for end in ("_val.npy", "_aro.npy"):
        try:
            values.append(_value(file.removesuffix("_exp.npy") + end))
        except FileNotFoundError:
            values.append(UNKNOWN)
    return tuple(values)


def _value(file: str) -> str | float:
    """The one value in a .npy file. `np.load` would take six times as long, and there are 870,000 of these files."""
    with open(file, "rb", buffering=0) as raw:
        content = raw.read(4096)
    start = 10 + int.from_bytes(content[8:10], "little")  # magic string, version and length, then the header
    try:
        return np.frombuffer(content, _dtype(content[:start]), count=1, offset=start)[0].item()
    except Exception as error:  # the parser of headers raises many kinds
        raise ValueError(f"{os.path.basename(file)} is no .npy file of one value: {error}") from error


@lru_cache(64)
def _dtype(header: bytes) -> np.dtype:
    file = io.BytesIO(header)
    np.lib.format.read_magic(file)
    shape, _, dtype = np.lib.format.read_array_header_1_0(file)
    if math.prod(shape) != 1 or dtype.kind not in "iufU":  # numbers or text; objects would have to be unpickled
        raise ValueError(f"shape {shape}, dtype {dtype}")
    return dtype


def _yolo_annotation(file: str) -> tuple:
    lines = [line.split() for line in Path(file).read_text(encoding="utf-8").splitlines() if line.strip()]
    if len({line[0] for line in lines}) != 1 or any(len(line) != 5 for line in lines):
        raise ValueError(f"{os.path.basename(file)} has not one class, in lines of `class cx cy w h`")
    return lines[0][0], UNKNOWN, UNKNOWN


def _split_folders(root: Path) -> dict[str, str]:
    """The split of each folder that is named after one."""
    return {top.name: split for top in sorted(root.glob("*/")) if (split := split_name(top.name))}


def _yolo_classes(path: Path) -> dict[str, str]:
    """The names in data.yaml by id."""
    file = path / "data.yaml"
    try:
        names = yaml.safe_load(file.read_bytes())["names"]
        classes = {str(id): str(name) for id, name in (names.items() if isinstance(names, dict) else enumerate(names))}
    except (OSError, yaml.YAMLError, TypeError, KeyError) as error:
        raise UserError(f"{str(file)!r} has to give the `names` of the class ids in labels/, but: {error!r}") from error
    if not any(map(emotion_of, classes.values())):
        raise UserError(f"The classes in {str(file)!r} are no emotions: {', '.join(classes.values())[:200]}.")
    return classes

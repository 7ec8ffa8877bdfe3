"""CK+ (Lucey et al. 2010, the extended Cohn-Kanade dataset) in the three layouts it is passed on in.

- official: `cohn-kanade-images/S005/001/S005_001_00000011.png` and `Emotion/S005/001/S005_001_00000011_emotion.txt`.
  Only 327 of the 593 sequences have a label. A sequence leads from a neutral face to the peak of the expression; its
  last three frames are taken, whole (about 640x490 pixels, head and shoulders).
- CK+48: the same 981 frames, cut to the face, 48x48, in class folders, named like `S010_004_00000017.png`
- csv: `ckextended.csv`, as on Kaggle, 920 images of 48x48, `emotion,pixels,Usage`, with splits of its own

The first two have no splits, unless class folders hold folders of splits, but tell the person (`subject`), so that the
splits made of them share nobody.
"""

import re
from pathlib import Path

from fer_hf.data.columns import make_split
from fer_hf.data.readers import Raw, fer2013, folder, left_aside
from fer_hf.emotions import emotion_of
from fer_hf.errors import UserError
from fer_hf.files import file_below

NAME = "CK+"
WANTED = (
    "a folder with cohn-kanade-images/ and Emotion/, a folder with class/*.png, named like S010_004_00000017.png, or "
    "ckextended.csv"
)
OPTIONS = ()
LICENSE = "research only, by agreement with the authors"
LABELS = ("neutral", "anger", "contempt", "disgust", "fear", "happy", "sadness", "surprise")
CSV_LABELS = ("anger", "disgust", "fear", "happiness", "sadness", "surprise", "neutral", "contempt")
CSV_NAME = "ckextended.csv"
IMAGES = ("cohn-kanade-images", "extended-cohn-kanade-images/cohn-kanade-images")  # or as the archives unpack
EMOTIONS = ("Emotion", "Emotion_labels/Emotion")
FRAME = re.compile(r"(S\d{3})_\d{3}_\d{8}\.(png|jpe?g|tiff?)", re.ASCII | re.IGNORECASE)  # person, sequence, frame
LAST_FRAMES = 3
Rows = dict[str, tuple[str, str, str]]
"""Path, label and person of each image, by id."""
FRAMES_NOTE = (
    f"The last {LAST_FRAMES} frames of each labelled sequence were taken, as is usual in the field. The first frame, "
    "which shows a neutral face, was not taken as neutral."
)
CSV_NOTE = (
    "ckextended.csv does not tell who is shown: the same person may stand in several of its splits, so figures on them "
    "may be too good."
)


def layout(path: Path) -> str | None:
    """`"csv"`, `"official"`, `"ck48"`, or None when `path` does not look like CK+."""
    if (path / CSV_NAME).is_file() or (path.is_file() and path.name.lower() == CSV_NAME):
        return "csv"
    if _find(path, IMAGES) and _find(path, EMOTIONS):
        return "official"
    tops = [top for top in path.glob("*/") if emotion_of(top.name)]
    files = (file for top in tops for pattern in ("S*", "*/S*") for file in top.glob(pattern))
    return "ck48" if any(FRAME.fullmatch(file.name) for file in files) else None


def read(path: Path) -> Raw:
    """CK+ at `path`; ids are `<Usage>_<row>` (csv) or paths of images. Raises `UserError`."""
    return {"csv": _read_csv, "official": _read_official, "ck48": _read_ck48}[str(layout(path))](path)


def _read_csv(path: Path) -> Raw:
    raw = fer2013.read_pixels(path if path.is_file() else path / CSV_NAME, NAME, CSV_LABELS)
    raw.license, raw.notes = LICENSE, [CSV_NOTE, *raw.notes]
    raw.notes += left_aside(path, {CSV_NAME}) if path.is_dir() else []
    return raw


def _find(path: Path, places: tuple[str, ...]) -> Path | None:
    return next((path / place for place in places if (path / place).is_dir()), None)


def _read_official(path: Path) -> Raw:
    images, emotions = _find(path.resolve(), IMAGES) or path, _find(path.resolve(), EMOTIONS) or path
    rows: dict[str, tuple[str, str, str]] = {}
    bad: dict[str, str] = {}
    for file in sorted(emotions.glob("S*/*/S*_emotion.txt")):
        sequence = file.parent.relative_to(emotions).as_posix()
        try:
            label = _label(file)
            names = sorted(frame.name for frame in (images / sequence).glob("S*") if FRAME.fullmatch(frame.name))
            if not names:
                raise ValueError(f"there are no images in {sequence}")
            for id in [f"{sequence}/{name}" for name in names[-LAST_FRAMES:]]:
                if id in rows:
                    raise ValueError(f"{sequence} has a second label")
                rows[id] = (file_below(images, id), label, sequence[:4])
        except ValueError as error:
            bad[f"{sequence}/{file.name}"] = str(error)
    if not rows and not bad:
        raise UserError(f"{str(emotions)!r} holds no labels such as S005/001/S005_001_00000011_emotion.txt.")
    notes = [FRAMES_NOTE, *left_aside(path, {place.split("/")[0] for place in (*IMAGES, *EMOTIONS)})]
    labelled = {id.rsplit("/", 1)[0] for id in rows}
    if rest := sum(folder.relative_to(images).as_posix() not in labelled for folder in images.glob("S*/*/")):
        notes.append(f"{rest:,} sequence(s) without a label that can be used were left out.")
    return _raw({"train": rows} if rows else {}, notes, bad)


def _label(file: Path) -> str:
    """The emotion in a file of one number, such as `   3.0000000e+00`."""
    text = file.read_text(encoding="utf-8", errors="replace").strip()
    try:
        return {float(id): name for id, name in enumerate(LABELS)}[float(text)]
    except (ValueError, KeyError):
        raise ValueError(f"the emotion is {text[:20]!r}, not one of 0 to {len(LABELS) - 1}") from None


def _read_ck48(path: Path) -> Raw:
    splits, notes, bad = folder.list_images(path)
    rows_of: dict[str, Rows] = {}
    for split, file in ((split or "train", file) for split, files in splits.items() for file in files):
        if match := FRAME.fullmatch(file.id.rsplit("/", 1)[-1]):
            row = (str(path.resolve() / file.id), file.class_name, match[1])
            rows_of.setdefault(split, {})[file.id] = row
        else:
            bad[file.id] = "its name does not tell the person, as that of S010_004_00000017.png does"
    return _raw(rows_of, notes, bad)


def _raw(rows_of: dict[str, Rows], notes: list[str], bad: dict[str, str]) -> Raw:
    """Splits of path, label and person by id."""
    splits = {}
    for split, rows in rows_of.items():
        image, label, subject = ([row[column] for row in rows.values()] for column in range(3))
        names = sorted(set(label))
        labels = [names.index(name) for name in label]
        splits[split] = make_split(names, image=image, label=labels, id=list(rows), subject=subject)
    return Raw(splits, NAME, license=LICENSE, notes=notes, bad=bad)

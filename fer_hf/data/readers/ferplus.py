"""FER+ (Barsoum et al. 2016, arXiv 1608.01041): the images of FER2013 with the votes of ten people on each.

- csv: `fer2013new.csv` beside `fer2013.csv` or `icml_face_data.csv`; both files have the same rows
- folders: `FER2013Train|FER2013Valid|FER2013Test/`, each with `label.csv` and its images, or these in a folder `data`

Votes become labels in one of three ways (`decide`), and each keeps other images: figures compare only within one way.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

from fer_hf.data.columns import make_split
from fer_hf.data.readers import Raw, fer2013, left_aside
from fer_hf.data.readers.folder import unlisted
from fer_hf.data.splits import SPLITS
from fer_hf.errors import UserError
from fer_hf.files import file_below, read_csv

NAME = "FER+"
WANTED = (
    "a folder with fer2013new.csv and fer2013.csv (or icml_face_data.csv), or with FER2013Train/, FER2013Valid/ and "
    "FER2013Test/, each with label.csv and its images"
)
OPTIONS = ("votes",)
LICENSE = f"MIT for the FER+ labels; the images are FER2013's: {fer2013.LICENSE}"
VOTES_CSV = "fer2013new.csv"
FOLDERS = {"FER2013Train": "train", "FER2013Valid": "validation", "FER2013Test": "test"}
EMOTIONS = ("neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", "contempt")
COLUMNS = (*EMOTIONS, "unknown", "nf")  # nf: not a face
FILTERS = {
    "majority": "one emotion has more than half of the votes, columns with a single vote not counted",
    "argmax": "of all ten columns, that of an emotion has the most votes, the first among equals",
    "soft": "up to three leading emotions have more than half of the votes, columns with a single vote not counted",
}
# One image: its split, its id (empty: it shows no face), where it is listed, its votes, and how to get its pixels.
Record = tuple[str, str, str, list[str], Callable[[], bytes | str]]


def layout(path: Path) -> str | None:
    """`"csv"`, `"folders"`, or None when `path`, a folder or the file of votes, does not look like FER+."""
    root = _root(path)
    csv = (root / VOTES_CSV).is_file() and (_pixels_csv(root) or not _folders(root))
    return "csv" if csv else "folders" if _folders(root) else None


def read(path: Path, votes: str = "majority") -> Raw:
    """FER+ at `path`, with labels made from votes by one of `FILTERS`. Ids are names such as fer0000000.png.

    The column `soft_label` has the shares of the votes for the eight emotions. Images that the filter rejects are left
    out, and a note counts them. Raises `UserError` when the two csv files do not belong together.
    """
    if votes not in FILTERS:
        raise UserError(f"data.votes is {votes!r}: it has to be one of {', '.join(FILTERS)}.")
    bad: dict[str, str] = {}
    splits: dict[str, dict[str, list]] = defaultdict(lambda: defaultdict(list))
    counted, rejected, seen = Counter[str](), Counter[str](), set[tuple[str, str]]()
    for split, name, where, cells, image in (_from_csv if layout(path) == "csv" else _from_folders)(_root(path), bad):
        try:
            if name and (split, name) in seen:
                raise ValueError(f"{name} is listed twice")
            seen.add((split, name))
            decided = decide(_counts(cells), votes) if name else None
            pixels = image() if decided else None
        except ValueError as error:
            bad[where] = str(error)
            continue
        counted[split] += 1
        rejected[split] += decided is None
        if decided:
            for column, value in zip(("image", "id", "label", "soft_label"), (pixels, name, *decided), strict=True):
                splits[split][column].append(value)
    notes = _left_aside(_root(path), seen)
    left_out = ", ".join(f"{rejected[split]:,} of {counted[split]:,} ({split})" for split in SPLITS if counted[split])
    notes[:0] = [
        f"FER+ filter: {votes}. An image was kept where {FILTERS[votes]}. Left out: {left_out}.",
        "The images are FER2013's: about 5 % of all of them are duplicates, some across splits.",
    ]
    return Raw({split: make_split(EMOTIONS, **rows) for split, rows in splits.items()}, NAME, None, LICENSE, notes, bad)


def _left_aside(root: Path, seen: set[tuple[str, str]]) -> list[str]:
    """Notes on files that were not read, and on images without votes."""
    file, place = _pixels_csv(root), _folders(root)
    if layout(root) == "csv" and file:
        return left_aside(root, {VOTES_CSV, file.name})
    if place is None:
        return []
    used = [name for name in FOLDERS if (place / name / "label.csv").is_file()]
    notes = left_aside(place, used)
    for name in used:
        notes += unlisted(place / name, [image for split, image in seen if split == FOLDERS[name]])
    return notes


def decide(votes: Sequence[int], how: str) -> tuple[int, list[float]] | None:
    """The label, and the shares (8,) of the emotions, for votes (10,) in the order of `COLUMNS`; None when rejected.

    A vote that stands alone in its column is taken for a slip; only argmax counts it, and only to find the label.
    "majority" and "soft" are the authors' "majority" and "crossentropy" (github.com/microsoft/FERPlus, src/ferplus.py).
    """
    clear = [count if count > 1 else 0 for count in votes]
    shares = _leading(clear) if how == "soft" else clear[: len(EMOTIONS)]
    ranked = {"majority": clear, "argmax": list(votes), "soft": shares}[how]
    label = ranked.index(max(ranked))
    support = sum(shares) if how == "soft" else max(clear)
    if label >= len(EMOTIONS) or (how != "argmax" and 2 * support <= sum(clear)):
        return None
    total = sum(shares)
    return label, [count / total if total else float(place == label) for place, count in enumerate(shares)]


def _leading(votes: list[int]) -> list[int]:
    """The votes of the emotions in the lead, from the top down until they have 75 % of all or are three.

    Emotions with equally many votes enter together, and all is zero when that makes more than three. Where unknown or
    not-a-face comes up, emotions with just as many votes still enter, and nothing below.
    """
    kept = [0] * len(EMOTIONS)
    for level in sorted({count for count in votes if count}, reverse=True):
        if 4 * sum(kept) >= 3 * sum(votes) or sum(map(bool, kept)) >= 3:
            break
        kept = [level if count == level else before for count, before in zip(votes, kept, strict=False)]
        if level in votes[len(EMOTIONS) :]:
            break
    return kept if sum(map(bool, kept)) <= 3 else [0] * len(EMOTIONS)


def _counts(cells: list[str]) -> list[int]:
    if not all(cell.isdecimal() for cell in cells) or not any(counts := [int(cell) for cell in cells]):
        raise ValueError(f"its votes are {', '.join(cells)[:60]}: whole numbers from 0 on are wanted, not all 0")
    return counts


def _root(path: Path) -> Path:
    return path.parent if path.name == VOTES_CSV and path.is_file() else path


def _pixels_csv(root: Path) -> Path | None:
    return next((root / name for name in fer2013.CSV_NAMES if (root / name).is_file()), None)


def _from_csv(root: Path, bad: dict[str, str]) -> Iterator[Record]:
    """The rows of both files side by side. Votes without the column Image name give ids `<Usage>_<row>`."""
    file = _pixels_csv(root)
    if file is None:
        names = " or ".join(fer2013.CSV_NAMES)
        raise UserError(f"{str(root)!r} has the votes, {VOTES_CSV}, but no images: put {names} of FER2013 beside it.")
    differ = f"{VOTES_CSV} and {file.name} in {str(root)!r} do not belong together:"
    voted = {row: (at, cells) for row, at, cells in read_csv(root / VOTES_CSV, ("usage", *COLUMNS), bad)}
    rows, read, short = len(voted) + len(bad), 0, dict[str, str]()
    for row, where, pixels in read_csv(file, ("pixels", "usage"), short):
        read += 1
        usage, (votes_at, cells) = fer2013.usage_of(pixels["usage"]), voted.get(row, ("", {}))
        if cells and usage != fer2013.usage_of(cells["usage"]):
            raise UserError(f"{differ} Usage is {cells['usage'][:20]!r} in {votes_at}, {usage[:20]!r} in {where}.")
        if usage not in fer2013.USAGES:
            bad[where] = f"Usage is {usage[:20]!r}, not one of {', '.join(fer2013.USAGES)}"
        elif cells:
            name = cells.get("image name", f"{usage}_{row}")
            image = partial(fer2013.grey_image, pixels["pixels"], fer2013.SIZE)
            yield fer2013.USAGES[usage], name, where, [cells[column] for column in COLUMNS], image
    if rows != read + len(short):
        raise UserError(f"{differ} the one has {rows:,} rows of images, the other {read + len(short):,}.")
    bad |= short


def _folders(root: Path) -> Path | None:
    """The folder that holds `FOLDERS`: `root`, or its sub-folder `data`, as in the authors' repository."""
    places = (root, root / "data")
    return next((place for place in places if any((place / name / "label.csv").is_file() for name in FOLDERS)), None)


def _from_folders(root: Path, bad: dict[str, str]) -> Iterator[Record]:
    for name, split in FOLDERS.items():
        folder, short = (_folders(root) or root).resolve() / name, dict[str, str]()
        if not (folder / "label.csv").is_file():
            continue
        with open(folder / "label.csv", encoding="utf-8", errors="replace") as lines:
            box = ("box",) if "(" in lines.readline() else ()  # the authors' later script writes none
        header = ("image name", *box, *COLUMNS)
        for _, where, cells in read_csv(folder / "label.csv", header, short, header):
            image = partial(file_below, folder, cells["image name"])
            yield split, cells["image name"], f"{name}/{where}", [cells[column] for column in COLUMNS], image
        bad |= {f"{name}/{where}": reason for where, reason in short.items()}

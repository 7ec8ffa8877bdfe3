"""RAF-DB (Li, Deng and Du 2017, CVPR): the set of basic emotions, as its authors and as Kaggle hand it out.

- official: `EmoLabel/list_patition_label.txt` (so spelt), `Image/aligned/` and `Annotation/manual/`, which has what
  annotators took for gender, race and age
- Kaggle: `DATASET/train|test/1..7/*.jpg`, with `train_labels.csv` and `test_labels.csv`; no attributes

Both have the splits train and test, of aligned faces at 100x100 in colour.
"""

from pathlib import Path

from fer_hf.data.columns import make_split
from fer_hf.data.readers import Raw, folder, left_aside
from fer_hf.data.readers.folder import unlisted
from fer_hf.data.splits import SPLITS, split_name
from fer_hf.errors import UserError
from fer_hf.files import file_below, read_csv

NAME = "RAF-DB"
WANTED = (
    "a folder with EmoLabel/list_patition_label.txt and Image/aligned/, or with these in a folder basic, or a folder "
    "with train/ and test/, each with the folders 1 to 7, or with these in a folder DATASET"
)
OPTIONS = ()
LICENSE = "non-commercial research only, by agreement with its authors"
LABELS = ("surprise", "fear", "disgust", "happiness", "sadness", "anger", "neutral")  # ids 1 to 7
LIST = "EmoLabel/list_patition_label.txt"
# The last three lines of an attribute file; five of landmarks stand before them.
ATTRIBUTES: dict[str, dict[str, str | None]] = {
    "gender": {"0": "male", "1": "female", "2": None},  # 2: unsure
    "race": {"0": "caucasian", "1": "african-american", "2": "asian"},
    "age": {"0": "0-3", "1": "4-19", "2": "20-39", "3": "40-69", "4": "70+"},
}
Columns = dict[str, dict[str, list]]


def layout(path: Path) -> str | None:
    """`"official"`, `"kaggle"`, or None when the folder `path` does not look like RAF-DB."""
    return "official" if _official(path) else "kaggle" if _kaggle(path) else None


def read(path: Path) -> Raw:
    """RAF-DB at `path`; ids are file names. Raises `UserError` when the official layout lacks its images."""
    official = _official(path)
    splits, notes, bad = _read_official(official) if official else _read_kaggle(_kaggle(path) or path)
    return Raw({split: make_split(LABELS, **rows) for split, rows in splits.items()}, NAME, None, LICENSE, notes, bad)


def _add(splits: Columns, split: str, **row: object) -> None:
    columns = splits.setdefault(split, {name: [] for name in row})
    for name, value in row.items():
        columns[name].append(value)


def _label(text: str, what: str) -> int:
    if text not in map(str, range(1, len(LABELS) + 1)):
        raise ValueError(f"{what} is {text[:20]!r}, not one of 1 to {len(LABELS)}")
    return int(text) - 1


def _official(path: Path) -> Path | None:
    return next((root for root in (path, path / "basic") if (root / LIST).is_file()), None)


def _read_official(root: Path) -> tuple[Columns, list[str], dict[str, str]]:
    root = root.resolve()
    aligned = (root / "Image" / "aligned").is_dir()
    images, ending = (root / "Image" / "aligned", "_aligned.jpg") if aligned else (root / "Image" / "original", ".jpg")
    if not images.is_dir():
        raise UserError(f"{str(root)!r} has neither Image/aligned nor Image/original: unpack the images there.")
    splits, bad, seen, unknown = Columns(), dict[str, str](), set[str](), 0
    for number, line in enumerate((root / LIST).read_text(encoding="utf-8", errors="replace").split("\n"), 1):
        if not line.strip():
            continue
        *names, label = line.split()  # blanks or tabs
        name = " ".join(names)
        stem = name.removesuffix(".jpg")
        try:
            split = split_name(name.split("_")[0])
            if split is None:
                raise ValueError(f"{line.strip()[:40]!r} is not like 'train_00001.jpg 5' or 'test_0001.jpg 5'")
            if name in seen:
                raise ValueError(f"{name} is listed twice")
            seen.add(name)
            row = {"image": file_below(images, stem + ending), "label": _label(label, "the label"), "id": name}
        except ValueError as error:
            bad[f"{Path(LIST).name} line {number}"] = str(error)
            continue
        attributes = _attributes(root, stem)
        unknown += attributes is None
        _add(splits, split, **row, **(attributes or dict.fromkeys(ATTRIBUTES)))
    notes = [] if aligned else ["The images are the original photographs, since there is no folder Image/aligned."]
    notes += left_aside(root, {"EmoLabel", "Image", "Annotation"})
    notes += unlisted(images, [name.removesuffix(".jpg") + ending for name in seen])
    if unknown:
        notes.append(f"{unknown:,} image(s) have no gender, race and age: their attribute file is missing or damaged.")
    return splits, notes, bad


def _attributes(root: Path, stem: str) -> dict[str, str | None] | None:
    """Gender, race and age of an image; None when its attribute file is missing or is none."""
    try:
        with open(file_below(root / "Annotation" / "manual", f"{stem}_manu_attri.txt"), encoding="utf-8") as file:
            lines = file.read().strip().split("\n")
        values = zip(ATTRIBUTES.items(), lines[5:], strict=True)
        return {name: meanings[line.strip()] for (name, meanings), line in values}
    except (OSError, ValueError, KeyError):
        return None


def _kaggle(path: Path) -> Path | None:
    """The folder that holds train or test with the classes 1 to 7; other sets count theirs from 0."""
    for root in (path, path / "DATASET"):
        for split in ("train", "test"):
            classes = {child.name for child in (root / split).glob("*/")}
            if classes.issuperset("1234567") and "0" not in classes:
                return root
    return None


def _read_kaggle(root: Path) -> tuple[Columns, list[str], dict[str, str]]:
    """The class folders; where `<split>_labels.csv` lies in `root` or above it, both have to agree."""
    root = root.resolve()
    files_of, notes, bad = folder.list_images(root, [f"{split}_labels.csv" for split in SPLITS])
    splits = Columns()
    for split, files in files_of.items():
        tables = [place / f"{split}_labels.csv" for place in (root, root.parent)]
        table = next((file for file in tables if file.is_file()), None)
        listed = _read_table(table, bad) if table else {}
        seen: set[str] = set()
        for image in files:
            name = image.id.rsplit("/", 1)[-1]
            try:
                label = _label(image.class_name, "the class folder")
                stated = listed.get(name, ("nothing", ""))[0]
                if table and stated != image.class_name:
                    raise ValueError(f"its class folder is {image.class_name}, but {table.name} says {stated}")
                if name in seen:
                    raise ValueError("another class folder has a file of this name")
            except ValueError as error:
                bad[image.id] = str(error)
            else:
                seen.add(name)
                _add(splits, split or "train", image=str(root / image.id), label=label, id=name)
        there = {image.id.rsplit("/", 1)[-1] for image in files}
        bad |= {where: f"there is no file {name[:80]!r}" for name, (_, where) in listed.items() if name not in there}
    return splits, notes, bad


def _read_table(file: Path, bad: dict[str, str]) -> dict[str, tuple[str, str]]:
    """The class, "1" to "7", of each image that the table names, and the line that says so."""
    listed: dict[str, tuple[str, str]] = {}
    for _, where, row in read_csv(file, ("image", "label"), bad):
        try:
            _label(row["label"], "the label")
            if row["image"] in listed:
                raise ValueError(f"{row['image'][:80]} is listed twice")
            listed[row["image"]] = row["label"], where
        except ValueError as error:
            bad[where] = str(error)
    return listed

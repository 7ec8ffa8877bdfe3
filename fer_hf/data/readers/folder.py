"""A folder of images: `split/class/*`, `class/*` or `class/split/*`; a class folder is named after an emotion.

- Below a class folder any depth will do, and so will folders around the whole tree: `dataset/train/happy/a/1.png`.
- `metadata.csv`, in any folder, tells of the images in that folder (the convention of imagefolder in `datasets`):
  `file_name` relative to it, perhaps `label`, which class folders then have to agree with, and attributes in its other
  columns. Images with a label need no class folder.
- A folder without class folders but with `train-*.parquet`, as `fer-hf data save` writes it, is read as that.

Of images only paths are read here; they stay files. Hidden files and files that are no images are passed over, and no
link is followed out of the folder.
"""

import os
import posixpath
import unicodedata
from collections import Counter
from collections.abc import Container, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from datasets import Dataset
from huggingface_hub import metadata_load

from fer_hf.data.columns import ATTRIBUTES, RESERVED, attribute, license_in, make_split
from fer_hf.data.readers import Raw
from fer_hf.data.splits import SPLIT_HELP, SPLITS, split_name
from fer_hf.data.tables import parquet_files, read_parquet
from fer_hf.emotions import canonical, emotion_of
from fer_hf.errors import UserError
from fer_hf.files import file_below, read_csv

EXTENSIONS = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".gif", ".tif", ".tiff"}
TABLE = "metadata.csv"
LABEL_COLUMNS = ("label", "emotion", "expression")
NAME = "a folder of images"
WANTED = (
    "a folder with class/*.jpg or split/class/*.jpg, where class is an emotion, with metadata.csv that has the columns "
    "file_name and label, or with train-*.parquet"
)
OPTIONS = ()


class ImageFile(NamedTuple):
    """An image file: its path relative to the dataset's folder with `/` between the parts, its class, its attributes.

    The class is the name of the class folder, or the emotion that `metadata.csv` says.
    """

    id: str
    class_name: str
    known: dict[str, Any]


class Row(NamedTuple):
    """What `metadata.csv` says of an image: where it says so, the emotion or "", and the attributes."""

    where: str
    emotion: str
    known: dict[str, Any]


NO_ROW = Row("", "", {})


def layout(path: Path) -> str | None:
    """`"folder"` for any folder."""
    return "folder" if path.is_dir() else None


def read(root: Path) -> Raw:
    """The images below the folder `root`, ids being paths relative to it. Raises `UserError`."""
    if parquet_files(root) and not any(emotion_of(name) for parts in walk(root).images for name in parts[:-1]):
        notes: list[str] = []
        return Raw(read_parquet(root, notes), root.resolve().name, license=_license(root), notes=notes)
    splits, notes, bad = list_images(root)
    return Raw(
        splits={split or "train": to_dataset(root, files) for split, files in splits.items()},
        dataset=root.resolve().name,
        notes=notes,
        bad=bad,
    )


def list_images(
    root: Path, read: Container[str] = ()
) -> tuple[dict[str | None, list[ImageFile]], list[str], dict[str, str]]:
    """The images of each split (key None: the folder has no splits), notes, and unusable files with the reason.

    `read` has the names of files in `root` that the caller reads itself.
    """
    if not root.is_dir():
        what = "is a file" if root.exists() else "does not exist"
        raise UserError(f"{str(root)!r} {what}: a folder of images is wanted, with one sub-folder per emotion.")
    tree, bad, notes = walk(root, read), dict[str, str](), list[str]()
    rows, labelled = _read_tables(root, tree, bad, notes)
    top = _folders_around(tree.images)
    has_splits = _has_split_folders(root, Counter(parts[top] for parts in tree.images if len(parts) > top + 1))
    splits: dict[str | None, list[ImageFile]] = {}
    loose: list[str] = []
    for parts in tree.images:
        class_folder = top + has_splits
        row = rows.get("/".join(parts), NO_ROW)
        class_name = parts[class_folder] if len(parts) > class_folder + 1 else ""
        if labelled:  # a folder may have any name then
            class_name = emotion_of(class_name)
        if row is None:
            continue
        if not (class_name or row.emotion) or (has_splits and len(parts) <= class_folder):
            loose.append("/".join(parts))
        elif image := _image(parts, row, class_name, bad):
            splits.setdefault(_split_of(root, parts, top), []).append(image)
    if not splits:
        raise UserError(_nothing(root, notes, loose, bad))
    if not has_splits and splits.keys() - {None}:
        notes.append(_splits_inside(root, splits))
    if loose:
        where = f"in no class folder{' and have no label' if labelled else ''}, such as {loose[0]!r},"
        notes.append(f"{len(loose)} image(s) that lie {where} were left out.")
    return splits, notes, bad


def _image(parts: tuple[str, ...], row: Row, class_name: str, bad: dict[str, str]) -> ImageFile | None:
    """An image of a class folder and a row of `metadata.csv`, either of which may say nothing; None when it is bad."""
    file = "/".join(parts)
    if (readable := file.encode("utf-8", "backslashreplace").decode()) != file:
        bad[readable] = "the file name is not valid UTF-8"
    elif row.emotion and class_name and row.emotion != class_name:
        folder = next(part for part in parts if emotion_of(part) == class_name)
        bad[row.where] = f"{file!r} is {row.emotion!r} here, but lies in a folder {folder!r}"
    else:
        return ImageFile(file, row.emotion or class_name, row.known)
    return None


def _split_of(root: Path, parts: tuple[str, ...], top: int) -> str | None:
    """The split that a folder of an image names, at the top or inside of its class folder."""
    names = {split: part for part in parts[top:-1] if (split := split_name(part))}
    if len(names) > 1:
        folders = " and ".join(map(repr, names.values()))
        raise UserError(
            f"{str(root)!r}: {'/'.join(parts)!r} lies in folders of two splits, {folders}. Rename or move one of them. "
            f"Split names: {SPLIT_HELP}."
        )
    return next(iter(names), None)


def _splits_inside(root: Path, splits: dict[str | None, list[ImageFile]]) -> str:
    """A note on splits below the class folders. Raises `UserError` when some images are in none of them."""
    named = [str(split) for split in SPLITS if split in splits]
    if outside := splits.get(None):
        inside = splits[named[0]][0].id
        raise UserError(
            f"{str(root)!r} has folders of splits inside of class folders, such as that of {inside!r}, but "
            f"{len(outside)} image(s) lie in none, such as {outside[0].id!r}. Move them, or rename these folders. "
            f"Split names: {SPLIT_HELP}."
        )
    return f"Folders further inside were taken for the splits {', '.join(named)}, as their names say."


def _nothing(root: Path, notes: list[str], loose: list[str], bad: dict[str, str]) -> str:
    """The message for a folder without a single image that can be used."""
    return (
        f"{str(root)!r} holds no images in class folders. Wanted: class/*.jpg or split/class/*.jpg, where class is "
        f"an emotion and split is one of {SPLIT_HELP}; images end in {', '.join(sorted(EXTENSIONS))}."
        + (f" {len(loose)} image(s) lie outside, such as {loose[0]!r}." if loose else "")
        + "".join(f" {len(bad)} cannot be used, such as {where}: {why}." for where, why in list(bad.items())[:1])
        + "".join(f" {note}" for note in notes)
    )


def to_dataset(root: Path, files: list[ImageFile]) -> Dataset:
    """A dataset of files that are read when they are asked for; the label names are the classes, sorted."""
    names = sorted({file.class_name for file in files})
    base = str(root.resolve())  # a later change of the working directory does not matter then
    return make_split(
        names,
        image=[os.path.join(base, file.id) for file in files],
        label=[names.index(file.class_name) for file in files],
        id=[file.id for file in files],
        **{
            name: [file.known.get(name) for file in files]
            for name in dict.fromkeys((*ATTRIBUTES, *(name for file in files for name in file.known)))
            if any(name in file.known for file in files)
        },
    )


class Tree(NamedTuple):
    """What lies below a folder: the path parts of every image, sorted, and of every `metadata.csv`.

    `links` counts those that were not followed, `others` the files of each other ending.
    """

    images: list[tuple[str, ...]]
    tables: list[tuple[str, ...]]
    links: int
    others: Counter[str]


def walk(root: Path, read: Container[str] = ()) -> Tree:
    """Images and tables below `root`; hidden files, a README.md at the top and those in `read` are passed over."""

    def refuse(error: OSError) -> None:
        raise UserError(f"{error.filename!r} cannot be read: {error.strerror}.") from error

    home = root.resolve()
    images, tables, links, others = list[tuple[str, ...]](), list[tuple[str, ...]](), 0, Counter[str]()
    for folder, subfolders, files in os.walk(root, onerror=refuse):
        subfolders[:] = [name for name in subfolders if not name.startswith(".")]
        links += sum(os.path.islink(os.path.join(folder, name)) for name in subfolders)  # os.walk follows none
        parts = Path(folder).relative_to(root).parts
        for name in files:
            if name.startswith(".") or (not parts and (name == "README.md" or name in read)):
                continue
            path, ending = os.path.join(folder, name), os.path.splitext(name)[1].lower()
            if name != TABLE and ending not in EXTENSIONS:
                others[ending] += 1
            elif os.path.islink(path) and not Path(path).resolve().is_relative_to(home):
                links += 1
            else:
                (tables if name == TABLE else images).append((*parts, name))
    return Tree(sorted(images), sorted(tables), links, others)


def unlisted(folder: Path, listed: Iterable[str]) -> list[str]:
    """A note on the images below a folder that no list names; `listed` has their paths relative to it."""
    known = {unicodedata.normalize("NFC", name.replace("\\", "/")) for name in listed}
    names = ["/".join(parts) for parts in walk(folder).images]
    others = [name for name in names if unicodedata.normalize("NFC", name) not in known]
    return [f"{len(others):,} image(s) that no list names, such as {others[0]!r}, were left out."] if others else []


def _folders_around(paths: list[tuple[str, ...]]) -> int:
    """How many folders lie around everything: 1 for `dataset/train/happy/a.png`."""
    depth = 0
    while True:
        inside = [parts for parts in paths if len(parts) > depth + 1]
        tops = {parts[depth] for parts in inside}
        if len(tops) != 1 or any(split_name(top) or emotion_of(top) for top in tops):
            return depth
        if any(len(parts) == depth + 2 for parts in inside):
            return depth
        depth += 1


def _read_tables(root: Path, tree: Tree, bad: dict[str, str], notes: list[str]) -> tuple[dict[str, Row | None], bool]:
    """What each `metadata.csv` says of each image (None: it cannot be used), and whether one of them has labels."""
    if tree.links:
        notes.append(f"{tree.links} link(s) were not followed, since they lead out of the folder or to another folder.")
    if tree.others:
        endings = ", ".join(f"{ending or 'none'} {count:,}" for ending, count in tree.others.most_common())
        notes.append(f"{tree.others.total():,} file(s) are no images by their endings and were left out: {endings}.")
    rows: dict[str, Row | None] = {}
    files = {unicodedata.normalize("NFC", file): file for file in map("/".join, tree.images)}
    labelled, columns, passed_over = False, {"file_name", *RESERVED, *LABEL_COLUMNS, ""}, dict[str, None]()
    for parts in tree.tables:
        folder, unread = "/".join(parts[:-1]), dict[str, str]()
        for _, line, cells in read_csv(root.joinpath(*parts), ("file_name",), unread):
            where, name, file = posixpath.join(folder, line), cells["file_name"], ""
            label_column = next((column for column in LABEL_COLUMNS if cells.get(column)), "")
            labelled = labelled or any(column in cells for column in LABEL_COLUMNS)
            passed_over |= dict.fromkeys(name for name in cells if name in columns - {"file_name", *LABEL_COLUMNS})
            try:
                path = posixpath.normpath(posixpath.join(folder, name.replace("\\", "/")))
                if unicodedata.normalize("NFC", path) not in files:  # systems differ in how they store accents
                    file_below(root / folder, name)
                    raise ValueError(f"{name[:80]!r} is no image")
                path = files[unicodedata.normalize("NFC", path)]
                if path in rows:
                    raise ValueError(f"{name[:80]!r} is listed twice")
                rows[file := path] = None
                known = {column: attribute(column, cells[column]) for column in cells if column not in columns}
                rows[file] = Row(where, canonical(cells[label_column]) if label_column else "", known)
            except ValueError as error:
                bad[where] = str(error).rstrip(".")
        bad |= {posixpath.join(folder, line): reason for line, reason in unread.items()}
    if passed_over:
        notes.append(f"Columns of {TABLE} that were not read: {', '.join(map(repr, passed_over))}.")
    return rows, labelled


def _license(root: Path) -> str | None:
    """The licence in the card of a saved dataset."""
    try:
        return license_in(metadata_load(root / "README.md") or {})
    except (OSError, ValueError, yaml.YAMLError):
        return None


def _has_split_folders(root: Path, tops: Counter[str]) -> bool:
    """Whether the top folders are splits. Then every one with images has to be a split, and each split one folder."""
    if not any(split_name(name) for name in tops):
        return False
    seen: dict[str, str] = {}
    for top in sorted(tops):
        split = split_name(top)
        if split is None:
            raise UserError(
                f"{str(root)!r} has split folders, but also {top!r} with {tops[top]} image(s), which is no split. "
                f"Split names: {SPLIT_HELP}. Rename the folder or move it away."
            )
        if split in seen:
            raise UserError(f"{str(root)!r} has two {split} folders, {seen[split]!r} and {top!r}: keep one.")
        seen[split] = top
    return True

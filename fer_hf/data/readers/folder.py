"""A folder of images: `split/class/*` or `class/*`, where each class folder is named after an emotion.

- Below a class folder any depth will do, and so will folders around the whole tree: `dataset/train/happy/a/1.png`.
- `metadata.csv`, in any folder, tells of the images in that folder (the convention of imagefolder in `datasets`):
  `file_name` relative to it, the columns of `splits.ATTRIBUTES`, and perhaps `label`, which class folders then have to
  agree with. Images with a label need no class folder. Other columns are not read.
- A folder without class folders but with `train-*.parquet`, as `fer-hf data save` writes it, is read as that.

Of images only paths are read here; they stay files. Hidden files and files that are no images are passed over, and no
link is followed out of the folder.
"""

import os
import posixpath
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from datasets import Dataset
from huggingface_hub import metadata_load

from fer_hf.data.columns import ATTRIBUTES, attribute, license_in, make_split, parquet_files, read_parquet
from fer_hf.data.readers import Raw
from fer_hf.data.splits import SPLIT_HELP, split_name
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


def list_images(root: Path) -> tuple[dict[str | None, list[ImageFile]], list[str], dict[str, str]]:
    """The images of each split (key None: the folder has no splits), notes, and unusable files with the reason."""
    if not root.is_dir():
        what = "is a file" if root.exists() else "does not exist"
        raise UserError(f"{str(root)!r} {what}: a folder of images is wanted, with one sub-folder per emotion.")
    paths, tables, links = walk(root)
    bad: dict[str, str] = {}
    rows, labelled = _read_tables(root, tables, {"/".join(parts) for parts in paths}, bad)
    top = _folders_around(paths)
    tops = Counter(parts[top] for parts in paths if len(parts) > top + 1)
    has_splits = any(split_name(name) for name in tops)
    if has_splits:
        _check_split_folders(root, tops)
    place = top + 1 if has_splits else top  # of the class folder among the parts of a path

    splits: dict[str | None, list[ImageFile]] = {}
    loose: list[str] = []
    for parts in paths:
        file = "/".join(parts)
        row = rows.get(file, NO_ROW)
        if row is None:
            continue
        class_name = parts[place] if len(parts) > place + 1 else ""
        if labelled:  # a folder may have any name then
            class_name = emotion_of(class_name)
        if not (class_name or row.emotion) or (has_splits and len(parts) <= place):
            loose.append(file)
        elif (readable := file.encode("utf-8", "backslashreplace").decode()) != file:
            bad[readable] = "the file name is not valid UTF-8"
        elif row.emotion and class_name and row.emotion != class_name:
            bad[row.where] = f"{file!r} is {row.emotion!r} here, but lies in a folder {parts[place]!r}"
        else:
            split = split_name(parts[top]) if has_splits else None
            splits.setdefault(split, []).append(ImageFile(file, row.emotion or class_name, row.known))

    return splits, _notes(root, splits, loose, links, bad), bad


def _notes(root: Path, splits: dict, loose: list[str], links: int, bad: dict[str, str]) -> list[str]:
    """Sentences on the images that were left out. Raises `UserError` when there are no others."""
    link_text = f"{links} link(s) were not followed, since they lead out of the folder or to another folder."
    if not splits:
        raise UserError(
            f"{str(root)!r} holds no images in class folders. Wanted: class/*.jpg or split/class/*.jpg, where class is "
            f"an emotion and split is one of {SPLIT_HELP}; images end in {', '.join(sorted(EXTENSIONS))}."
            + (f" {len(loose)} image(s) lie outside, such as {loose[0]!r}." if loose else "")
            + "".join(f" {len(bad)} cannot be used, such as {where}: {why}." for where, why in list(bad.items())[:1])
            + (f" {link_text}" if links else "")
        )
    notes = [link_text] if links else []
    if loose:
        notes.append(f"{len(loose)} image(s) that lie in no class folder, such as {loose[0]!r}, were left out.")
    return notes


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
            for name in ATTRIBUTES
            if any(name in file.known for file in files)
        },
    )


class Tree(NamedTuple):
    """The path parts of every image, sorted; the same of every `metadata.csv`; how many links were not followed."""

    images: list[tuple[str, ...]]
    tables: list[tuple[str, ...]]
    links: int


def walk(root: Path) -> Tree:
    """Images and tables below `root`; hidden files are passed over, and links that lead out are counted."""

    def refuse(error: OSError) -> None:
        raise UserError(f"{error.filename!r} cannot be read: {error.strerror}.") from error

    home = root.resolve()
    tree, links = Tree([], [], 0), 0
    for folder, subfolders, files in os.walk(root, onerror=refuse):
        subfolders[:] = [name for name in subfolders if not name.startswith(".")]
        links += sum(os.path.islink(os.path.join(folder, name)) for name in subfolders)  # os.walk follows none
        parts = Path(folder).relative_to(root).parts
        for name in files:
            if name.startswith(".") or (name != TABLE and os.path.splitext(name)[1].lower() not in EXTENSIONS):
                continue
            path = os.path.join(folder, name)
            if os.path.islink(path) and not Path(path).resolve().is_relative_to(home):
                links += 1
            else:
                (tree.tables if name == TABLE else tree.images).append((*parts, name))
    return Tree(sorted(tree.images), sorted(tree.tables), links)


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


def _read_tables(
    root: Path, tables: list[tuple[str, ...]], files: set[str], bad: dict[str, str]
) -> tuple[dict[str, Row | None], bool]:
    """What each `metadata.csv` says of each image (None: it cannot be used), and whether one of them has labels."""
    rows: dict[str, Row | None] = {}
    labelled = False
    for parts in tables:
        folder, unread = "/".join(parts[:-1]), dict[str, str]()
        for _, line, cells in read_csv(root.joinpath(*parts), ("file_name",), unread):
            where, name, file = posixpath.join(folder, line), cells["file_name"], ""
            label = next((cells[column] for column in LABEL_COLUMNS if cells.get(column)), "")
            labelled = labelled or any(column in cells for column in LABEL_COLUMNS)
            try:
                path = posixpath.normpath(posixpath.join(folder, name.replace("\\", "/")))
                if path not in files:
                    file_below(root / folder, name)
                    raise ValueError(f"{name[:80]!r} is no image")
                if path in rows:
                    raise ValueError(f"{name[:80]!r} is listed twice")
                rows[file := path] = None
                known = {column: attribute(column, cells[column]) for column in ATTRIBUTES if column in cells}
                rows[file] = Row(where, canonical(label) if label else "", known)
            except ValueError as error:
                bad[where] = str(error).rstrip(".")
        bad |= {posixpath.join(folder, line): reason for line, reason in unread.items()}
    return rows, labelled


def _license(root: Path) -> str | None:
    """The licence in the card of a saved dataset."""
    try:
        return license_in(metadata_load(root / "README.md") or {})
    except (OSError, ValueError, yaml.YAMLError):
        return None


def _check_split_folders(root: Path, tops: Counter[str]) -> None:
    """Every top folder that holds images has to be a split, and each split one folder."""
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

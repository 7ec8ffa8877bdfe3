"""A folder of images: `split/class/*` or `class/*`, where each class folder is named after an emotion.

Only paths are read here; the images stay files. Hidden files and files that are no images are passed over, and no link
is followed out of the folder.
"""

import os
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from datasets import ClassLabel, Dataset, Features, Image, Value

from fer_hf.data.splits import SPLIT_HELP, Raw, split_name
from fer_hf.errors import UserError

EXTENSIONS = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".gif", ".tif", ".tiff"}


class ImageFile(NamedTuple):
    """An image file: its path relative to the dataset's folder with `/` between the parts, and its class folder."""

    id: str
    class_name: str


def read(place: str) -> Raw:
    """The images below the folder `place`, ids being paths relative to it. Raises `UserError`."""
    root = Path(place).expanduser()
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
    found, links = _walk(root)
    tops = Counter(parts[0] for parts in found if len(parts) > 1)
    has_splits = any(split_name(top) for top in tops)
    depth = 3 if has_splits else 2  # split/class/file or class/file

    if has_splits:
        _check_split_folders(root, tops)
    splits: dict[str | None, list[ImageFile]] = {}
    loose: list[str] = []
    bad: dict[str, str] = {}
    for parts in found:
        file = "/".join(parts)
        if len(parts) < depth:
            loose.append(file)
        elif (readable := file.encode("utf-8", "backslashreplace").decode()) != file:
            bad[readable] = "the file name is not valid UTF-8"
        else:
            split = split_name(parts[0]) if has_splits else None
            splits.setdefault(split, []).append(ImageFile(file, parts[depth - 2]))

    link_text = f"{links} link(s) were not followed, since they lead out of the folder or to another folder."
    if not splits:
        raise UserError(
            f"{str(root)!r} holds no images in class folders. Wanted: class/*.jpg or split/class/*.jpg, where class is "
            f"an emotion and split is one of {SPLIT_HELP}; images end in {', '.join(sorted(EXTENSIONS))}."
            + (f" {len(loose)} image(s) lie outside, such as {loose[0]!r}." if loose else "")
            + (f" {link_text}" if links else "")
        )
    notes = [link_text] if links else []
    if loose:
        notes.append(f"{len(loose)} image(s) that lie in no class folder, such as {loose[0]!r}, were left out.")
    return splits, notes, bad


def to_dataset(root: Path, files: list[ImageFile]) -> Dataset:
    """A dataset of files that are read when they are asked for; the label names are the class folders, sorted."""
    names = sorted({file.class_name for file in files})
    base = root.resolve()  # a later change of the working directory does not matter then
    columns = {
        "image": [str(base / file.id) for file in files],
        "label": [names.index(file.class_name) for file in files],
        "id": [file.id for file in files],
    }
    return Dataset.from_dict(columns, Features(image=Image(), label=ClassLabel(names=names), id=Value("string")))


def _walk(root: Path) -> tuple[list[tuple[str, ...]], int]:
    """The path parts of every image below `root`, sorted, and the number of links that were not followed."""

    def refuse(error: OSError) -> None:
        raise UserError(f"{error.filename!r} cannot be read: {error.strerror}.") from error

    home = root.resolve()
    found, links = [], 0
    for folder, subfolders, files in os.walk(root, onerror=refuse):
        subfolders[:] = [name for name in subfolders if not name.startswith(".")]
        links += sum(os.path.islink(os.path.join(folder, name)) for name in subfolders)  # os.walk follows none
        parts = Path(folder).relative_to(root).parts
        for name in files:
            if name.startswith(".") or os.path.splitext(name)[1].lower() not in EXTENSIONS:
                continue
            path = Path(folder, name)
            if path.is_symlink() and not path.resolve().is_relative_to(home):
                links += 1
            else:
                found.append((*parts, name))
    return sorted(found), links


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

"""Sources of faces by kind, and which kind a folder looks like: `rafdb:PATH` names the kind, the layout is found.

Each module has `NAME`, `WANTED` (its layouts, in words), `layout(path)` (None when the path has none of them) and
`read(path)`. The order below is the order of guessing, the most peculiar layout first.
"""

import re
from pathlib import Path
from typing import Any

from fer_hf.data import columns as hub
from fer_hf.data.readers import affectnet, ckplus, fer2013, ferplus, folder, rafdb, toy
from fer_hf.data.splits import Raw
from fer_hf.errors import UserError

LOCAL: dict[str, Any] = {
    "ferplus": ferplus,
    "rafdb": rafdb,
    "affectnet": affectnet,
    "ckplus": ckplus,
    "fer2013": fer2013,
    "folder": folder,
}


HELP = f"toy, {', '.join(f'{kind}:PATH' for kind in LOCAL)}, hub:org/name or hub:org/name:config@revision"


TOY_NOTE = "The faces are drawings made by a program, not people: figures on them say nothing about real faces."


def read(source: str, votes: str = "majority", stream_images: int | None = None) -> tuple[str, Raw]:
    """The kind of a source, and what its reader found.

    `votes` is how FER+ turns votes into labels; `stream_images` is how many images of each split are taken from the
    Hub. Raises `UserError` that says which kind a path looks like when it is not of the kind named.
    """
    kind, _, place = source.partition(":")
    if source == "toy":
        return kind, Raw(dict(toy.load()), "procedural faces (toy)", notes=[TOY_NOTE])
    if kind == "hub" and place:
        return kind, hub.read(place, stream_images)
    if kind in LOCAL and place:
        return kind, _read_local(kind, Path(place).expanduser(), votes)
    path = Path(source).expanduser()
    if path.exists():
        hint = f" There is something at this path: did you mean {looks_like(path) or 'folder'}:{source}?"
    else:
        hint = f" Did you mean hub:{source}?" if re.fullmatch(r"[\w.-]+/[\w.-]+", source) else ""
    raise UserError(f"data.source is {source!r}, which is no source of faces: use {HELP}.{hint}")


def looks_like(path: Path) -> str | None:
    """The kind whose layout `path` has."""
    found = [kind for kind, module in LOCAL.items() if module.layout(path)]
    if "fer2013" in found and not fer2013.is_unmistakable(path):
        found.remove("fer2013")
    return found[0] if found else None


def _read_local(kind: str, path: Path, votes: str) -> Raw:
    module = LOCAL[kind]
    if not path.exists():
        raise UserError(f"{str(path)!r} does not exist. Wanted: {module.WANTED}.")
    if not module.layout(path):
        raise UserError(
            f"{str(path)!r} is not {module.NAME}: it {_holds(path)}.{_hint(path, kind)} Wanted: {module.WANTED}."
        )
    try:
        raw = module.read(path, votes) if kind == "ferplus" else module.read(path)
    except UserError as error:
        raise UserError(f"{error}{_hint(path, kind)}") from error
    if kind == "folder" and (guess := looks_like(path)) not in ("folder", None):
        # Notes are published, so they name no path of this machine.
        about = f"It looks like {LOCAL[str(guess)].NAME}: use {guess}:PATH."
        raw.notes.append(f"The folder was read as classes of images. {about}")
    return raw


def _holds(path: Path) -> str:
    if path.is_file():
        return f"is a file that ends in {path.suffix or 'nothing'!r}"
    names = sorted(child.name for child in path.iterdir() if not child.name.startswith("."))
    return f"holds {', '.join(names[:8]) or 'nothing'}{', ...' if len(names) > 8 else ''}"


def _hint(path: Path, wanted: str) -> str:
    """What the path looks like, or which folder in it is what was wanted. Any folder looks like a folder: not said."""
    if (guess := looks_like(path)) not in ("folder", wanted, None):
        return f" It looks like {LOCAL[str(guess)].NAME}: use {guess}:{path}."
    if wanted != "folder" and hub.parquet_files(path):
        return f" It holds a table of images: use folder:{path}."
    for child in sorted(path.iterdir()) if path.is_dir() and wanted != "folder" else ():
        if not child.name.startswith(".") and LOCAL[wanted].layout(child):
            return f" {str(child)!r} looks like {LOCAL[wanted].NAME}: use {wanted}:{child}."
    return ""

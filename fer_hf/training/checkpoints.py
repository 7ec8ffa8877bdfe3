"""Checkpoints that can be trusted: written aside, hashed, flushed to disk, renamed; verified before a resume.

The Trainer writes straight into `checkpoint-N` and resumes from the highest number whatever it holds: a missing
optimiser file resumes silently and wrong. Here a checkpoint exists only whole, and its manifest says what whole means.
"""

import hashlib
import itertools
import json
import os
import shutil
from pathlib import Path

from fer_hf.errors import UserError
from fer_hf.files import move_into_place, write_text
from fer_hf.runs.folder import Run

MANIFEST = "manifest.json"
STAGING = ".staging"


def seal(folder: Path) -> None:
    """Write the manifest of a finished folder: size and SHA-256 of every file, all of it flushed to disk."""
    files = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        with open(path, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            os.fsync(file.fileno())
        files[path.relative_to(folder).as_posix()] = {"bytes": path.stat().st_size, "sha256": digest}
    write_text(folder / MANIFEST, json.dumps(files, indent=1) + "\n")


def defect(folder: Path, processes: int = 1) -> str | None:
    """What is wrong with a checkpoint, in words; None when it holds exactly what its manifest says.

    `processes` is the number that will resume: each needs its own random state.
    """
    manifest = folder / MANIFEST
    if not manifest.is_file():
        return "it has no manifest"
    try:
        files = json.loads(manifest.read_text(encoding="utf-8"))
    except ValueError:
        files = None
    if not isinstance(files, dict):
        return "its manifest is damaged"
    for name, expected in files.items():
        path = folder / name
        if not path.is_file():
            return f"{name} is missing"
        if (size := path.stat().st_size) != expected["bytes"]:
            return f"{name} has {size} bytes instead of {expected['bytes']}"
        with open(path, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        if digest != expected["sha256"]:
            return f"{name} has changed since it was written"
    states = sum(name.startswith("rng_state") for name in files)
    if states != processes:
        return f"it was written by {states} processes, and {processes} would resume"
    return None


def step_of(folder: Path) -> int:
    """The optimiser step of `checkpoint-N`."""
    return int(folder.name.rpartition("-")[2])


def checkpoints(folder: Path) -> list[Path]:
    """All `checkpoint-N` folders, oldest first, verified or not."""
    return sorted((p for p in folder.glob("checkpoint-*") if p.name.rpartition("-")[2].isdigit()), key=step_of)


def newest_sound(folder: Path, processes: int = 1) -> tuple[Path | None, list[str]]:
    """The newest checkpoint that verifies, and a line for each newer one that was passed over."""
    passed_over: list[str] = []
    for path in reversed(checkpoints(folder)):
        if (reason := defect(path, processes)) is None:
            return path, passed_over
        passed_over.append(f"{path.name}: {reason}")
    return None, passed_over


def publish(staged: Path, folder: Path, keep: int | None) -> None:
    """Seal `staged` and rename it into `folder`; then remove all but the newest `keep` checkpoints."""
    seal(staged)
    target = folder / staged.name
    if target.exists():  # an unsound one that a resume passed over, or the same step once more
        shutil.rmtree(target)
    move_into_place(staged, target)
    older = [p for p in checkpoints(folder) if step_of(p) <= step_of(target)]
    for path in older[: -keep if keep else 0]:
        shutil.rmtree(path)


def go_back(run: Run, wanted: str, processes: int = 1) -> str:
    """Make a chosen checkpoint the newest of a run, whose later ones are moved aside.

    A best model that was written after it goes with them, and the best of what follows takes its place.

    Args:
        run: whose training has not ended.
        wanted: the path of a checkpoint, or its name in the run: `40`, `checkpoint-40`, `stage-2/checkpoint-40`.
        processes: the number that will resume.

    Returns:
        A line that says what has been moved, and where to.

    Raises:
        UserError: there is no such checkpoint, or it is unsound. Nothing has been moved then.
    """
    stages = sorted(run.checkpoints.glob("stage-*"), key=step_of)
    places = [path for folder in (run.checkpoints, *stages) for path in checkpoints(folder)]
    known = [path.relative_to(run.checkpoints).as_posix() for path in places]
    name, given = f"checkpoint-{wanted}" if wanted.isdigit() else wanted, Path(wanted).resolve()
    named = [p for key, p in zip(known, places, strict=True) if name in (key, p.name) or p.resolve() == given]
    if len(named) != 1:
        what = "several checkpoints are called so" if named else "there is no such checkpoint"
        raise UserError(f"--resume-from {wanted}: {what} in {run.checkpoints}, which has {', '.join(known) or 'none'}.")
    if reason := defect(named[0], processes):
        raise UserError(f"--resume-from {wanted}: {named[0]} cannot be resumed from: {reason}. Choose another one.")
    later = places[places.index(named[0]) + 1 :]
    weights = run.model / "model.safetensors"
    if weights.is_file() and weights.stat().st_mtime > (named[0] / MANIFEST).stat().st_mtime:
        later.append(run.model)
    aside = next(path for n in itertools.count(1) if not (path := run.path / "aside" / str(n)).exists())
    for path in later:
        target = aside / path.relative_to(run.path)
        target.parent.mkdir(parents=True, exist_ok=True)
        move_into_place(path, target)
    return f"what came after {named[0].name} has been moved to {aside}" if later else f"{named[0].name} is the newest"

"""Publish a run, or a dataset, on the Hugging Face Hub."""

from dataclasses import dataclass
from pathlib import Path

from fer_hf import hub
from fer_hf.errors import UserError
from fer_hf.recipe.load import load_recipe
from fer_hf.runs.folder import Run


@dataclass(frozen=True)
class Published:
    """The address of a repository or commit on the Hub, and what was, or would be, sent there."""

    url: str
    files: list[hub.PlannedFile]


def push(run: str | Path | Run, repo_id: str | None = None, private: bool = False, dry_run: bool = False) -> Published:
    """Upload a run's model, ONNX files, card and figures in one commit. Needs a token with write access.

    Args:
        run: a run folder.
        repo_id: `"someone/name"`; the recipe's `hub.repo_id` when None.
        private: make a new repository private.
        dry_run: check everything, send nothing.

    Raises:
        UserError: the run has no model or card, or the token may not write there.
        FerError: the network or the Hub failed; nothing was changed there.

    Example:
        `push("runs/mine/20260131-175900", "someone/name", private=True).url`
    """
    run = Run.open(run)
    settings = load_recipe(run.recipe_file).hub
    repo_id = repo_id or settings.repo_id
    if not repo_id:
        raise UserError("Where to? Give --repo-id someone/name.")
    files = hub.plan(run, repo_id)
    return Published(hub.push(run, repo_id, private or settings.private, dry_run=dry_run), files)


def push_faces(folder: str | Path, repo_id: str, private: bool = False, dry_run: bool = False) -> str:
    """Upload a prepared dataset, as `fer-hf data save` writes it; returns the address of the commit."""
    return hub.push_dataset(Path(folder), repo_id, private, dry_run=dry_run)

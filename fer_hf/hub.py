"""Publishing a run or a prepared dataset on the Hugging Face Hub; no other module writes there.

- One push is one commit, so that the Hub never shows weights of one run with the card of another. This is why
  `HfApi.upload_folder` is not used: from huggingface_hub 2 on, it spreads a folder over several commits.
- The card is uploaded as a plain file: the helpers of huggingface_hub for cards use a fixed address.
- No path of the user's disk leaves the machine: metrics.json holds none, and recipe.yaml is written from there.
- Pickles (`training_args.bin`, optimiser states) are not sent: nobody should have to unpickle to use a model.
"""

import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import yaml
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, constants, get_token
from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled, RepositoryNotFoundError
from huggingface_hub.utils import filter_repo_objects, validate_repo_id

from fer_hf.errors import FerError, UserError
from fer_hf.runs.folder import PLACEHOLDER, Run

HIDDEN = [".*", "*/.*", "__pycache__/*", "*/__pycache__/*"]
NOT_SENT = [*HIDDEN, *(f"*.{ending}" for ending in ("bin", "pt", "pth", "pkl", "tmp", "part", "lock"))]
DATASET_PLACEHOLDER = "PATH/TO/DATASET"
CARDS = {"model": "model/README.md", "dataset": "README.md"}
# What an earlier push may have left that no longer belongs to the model or dataset.
REPLACED = {"model": ["onnx/*", "figures/*", "model*"], "dataset": ["data/train-*", "data/validation-*", "data/test-*"]}
LOG_IN = "Run `hf auth login`, or set HF_TOKEN, with a token that may write (https://huggingface.co/settings/tokens)."


@dataclass(frozen=True)
class PlannedFile:
    """A file that a push sends: its name on the Hub, and its content, or the path of the file that holds it."""

    path_in_repo: str
    content: bytes | Path

    @property
    def bytes(self) -> int:
        """Its size in bytes."""
        return self.content.stat().st_size if isinstance(self.content, Path) else len(self.content)


def plan(run: Run, repo_id: str | None = None) -> list[PlannedFile]:
    """The files that a push of a run sends: the model folder with its parts, `recipe.yaml` and `metrics.json`.

    Hidden and temporary files, pickles, and links that lead out of the model folder are left out.

    Args:
        run: a finished run.
        repo_id: the name that the snippets of the card load; by default a placeholder.

    Returns:
        The files, by name.

    Raises:
        UserError: the model, its card or its metrics.json is missing.
    """
    name = repr(str(run.path))
    if not any(run.model.glob("model*.safetensors")) or not (run.model / "config.json").is_file():
        raise UserError(f"{name} has no trained model in model/. Run `fer-hf train RECIPE` to the end first.")
    if not run.card.is_file():
        raise UserError(f"{name} has no model card, model/README.md. Run `fer-hf report {run.path}` first.")
    recipe = run.metrics.recipe
    if not recipe:
        raise UserError(f"{name} has no metrics.json of a training. Run `fer-hf train RECIPE --resume` first.")
    root = run.model.resolve()
    paths = [path for path in run.model.rglob("*") if path.is_file() and path.resolve().is_relative_to(root)]
    files: dict[str, bytes | Path] = {path.relative_to(run.model).as_posix(): path for path in paths}
    files = {name: files[name] for name in filter_repo_objects(files, ignore_patterns=NOT_SENT)}
    if repo_id:
        files["README.md"] = run.card.read_text(encoding="utf-8").replace(PLACEHOLDER, repo_id).encode()
    files["metrics.json"] = run.metrics_file
    files["recipe.yaml"] = yaml.safe_dump(dict(recipe), sort_keys=False, allow_unicode=True).encode()
    return [PlannedFile(name, content) for name, content in sorted(files.items())]


def push(
    run: Run,
    repo_id: str,
    private: bool = False,
    token: str | None = None,
    dry_run: bool = False,
    message: str = "Upload the model, its card and its figures",
) -> str:
    """Upload a run to a model repository in one commit. The run folder is never changed.

    Weights, ONNX files and figures of an earlier push that this one does not have are deleted by the same commit.

    Args:
        run: a finished run; `plan` lists what is sent.
        repo_id: `someone/name`; the repository is made if it does not exist.
        private: make a new repository private. Otherwise it is as its owner's default says, public for most; an
            existing one stays as it is.
        token: by default the one of `hf auth login` or HF_TOKEN.
        dry_run: check the run and the name, and send nothing.
        message: of the commit.

    Returns:
        The address of the commit: the last one's when nothing has changed since, the repository's for a dry run.

    Raises:
        UserError: the name is not one of a repository, the token is missing or may not write, or the repository is
            public although `private` is set.
        FerError: the network or the Hub fails.

    Example:
        `push(Run.open("runs/quickstart/20260131-175900"), "someone/faces", private=True)`
    """
    _check_repo_id(repo_id)
    files = plan(run, repo_id)
    return _address("model", repo_id) if dry_run else _upload("model", files, repo_id, private, token, message)


def plan_dataset(folder: Path, repo_id: str | None = None) -> list[PlannedFile]:
    """The files that a push of a prepared dataset sends: its card and `data/*.parquet`.

    Args:
        folder: as `fer-hf data save` writes it.
        repo_id: the name that the snippets of the card load; by default a placeholder.

    Raises:
        UserError: `folder` holds no such dataset.
    """
    card, shards = folder / "README.md", sorted(folder.glob("data/*.parquet"))
    if not card.is_file() or not shards:
        raise UserError(
            f"{str(folder)!r} is no prepared dataset: README.md and data/*.parquet are wanted, as "
            "`fer-hf data save SOURCE --output FOLDER` writes them."
        )
    text = card.read_text(encoding="utf-8")
    if repo_id:
        text = text.replace(f"folder:{DATASET_PLACEHOLDER}", f"hub:{repo_id}").replace(DATASET_PLACEHOLDER, repo_id)
    return [PlannedFile("README.md", text.encode()), *(PlannedFile(f"data/{path.name}", path) for path in shards)]


def push_dataset(
    folder: Path, repo_id: str, private: bool = False, token: str | None = None, dry_run: bool = False
) -> str:
    """Upload a prepared dataset to a dataset repository in one commit, just as `push` uploads a run.

    Parquet files of an earlier push that this one does not have are deleted by the same commit.

    Args:
        folder: the dataset; `plan_dataset` lists what is sent.
        repo_id: as for `push`, and so are `private`, `token`, `dry_run`, what is returned and what is raised.
    """
    _check_repo_id(repo_id)
    files, message = plan_dataset(folder, repo_id), "Upload the dataset and its card"
    return _address("dataset", repo_id) if dry_run else _upload("dataset", files, repo_id, private, token, message)


def _address(kind: str, repo_id: str) -> str:
    return f"{constants.ENDPOINT}/{'datasets/' if kind == 'dataset' else ''}{repo_id}"


def _upload(kind: str, files: list[PlannedFile], repo_id: str, private: bool, token: str | None, message: str) -> str:
    """Make the repository if need be, and commit the files; returns the commit's address."""
    token = (token or get_token() or "").strip()
    if not re.fullmatch(r"[!-~]+", token):  # the client would quote any other in an error message
        raise UserError(f"There is no valid Hugging Face token to push with. {LOG_IN}")
    api = HfApi(token=token)
    try:
        api.create_repo(repo_id, repo_type=kind, private=private or None, exist_ok=True)
        # Asked after creation, so that it also holds when the Hub did not do as it was told.
        if private and not api.repo_info(repo_id, repo_type=kind).private:
            raise UserError(
                f"{repo_id!r} exists and is public, so --private cannot be kept. Nothing was uploaded. Make it private "
                f"in its settings ({_address(kind, repo_id)}/settings), choose another name, or leave out --private."
            )
        added = {file.path_in_repo: CommitOperationAdd(file.path_in_repo, file.content) for file in files}
        stale = filter_repo_objects(api.list_repo_files(repo_id, repo_type=kind), allow_patterns=REPLACED[kind])
        deleted = [CommitOperationDelete(name) for name in stale if name not in added]
        return api.create_commit(
            repo_id, [*added.values(), *deleted], repo_type=kind, commit_message=message
        ).commit_url
    except FerError:
        raise
    except Exception as error:  # the client's errors come from three HTTP libraries; all of them mean: not pushed
        raise _explained(error, kind, repo_id, token) from error


def _check_repo_id(repo_id: str) -> None:
    with suppress(ValueError):
        validate_repo_id(repo_id)
        if repo_id.count("/") == 1:
            return
    raise UserError(
        f"{repo_id!r} is not the name of a repository. Names look like someone/name: your user or organisation "
        "name, then letters, digits, '-', '_' and '.', at most 96 characters, without '--' and '..'."
    )


def _explained(error: Exception, kind: str, repo_id: str, token: str) -> FerError:
    """An error of the Hub's client as one of ours, which says what to do."""
    response = error.response if isinstance(error, HfHubHTTPError) else None
    status = response.status_code if response is not None else None
    if status == 401:
        return UserError(f"The Hub does not accept the token for {repo_id!r}: it is wrong or has expired. {LOG_IN}")
    if status == 403 or isinstance(error, RepositoryNotFoundError):
        return UserError(
            f"The token may not write to {repo_id!r}. Push to a name of your own, ask its owner for the right, "
            "or make a token that may write (https://huggingface.co/settings/tokens)."
        )
    if isinstance(error, OfflineModeIsEnabled):
        return UserError("HF_HUB_OFFLINE is set, so nothing can be pushed. Unset it and run the same command again.")
    if isinstance(error, ValueError) and "README.md" in str(error):
        return UserError(f"The Hub refuses the {kind} card: {error} Correct {CARDS[kind]} and push again.")
    if isinstance(error, RuntimeError) or (status and status <= 500):  # while uploading, or refused
        outcome = "A push is one commit, all or nothing, so no file on the Hub was changed"
    else:  # no answer, or a gateway's: the commit may have arrived all the same
        outcome = "A push is one commit, so either all of it has arrived on the Hub or nothing"
    return FerError(
        f"The push to {repo_id!r} failed: {_reason(error, token)}. {outcome}; the files here are untouched. "
        "Run the same command again."
    )


def _reason(error: Exception, token: str) -> str:
    """What failed, in one line, without the token."""
    cause = error.__cause__ if isinstance(error, RuntimeError) and error.__cause__ else error  # what broke an upload
    text = str(cause)
    if isinstance(cause, HfHubHTTPError) and cause.response is not None:
        text = f"the Hub answered {cause.response.status_code} ({cause.server_message or 'without a reason'})"
    return " ".join(text.replace(token, "***").split()).rstrip(".")

"""Publishing a run or a prepared dataset on the Hugging Face Hub; no other module writes there.

- One push is one commit, so that the Hub never shows weights of one run with the card of another.
- The card is uploaded as a plain file: the helpers of huggingface_hub for cards talk to a fixed address.
- No path of the user's disk leaves the machine: metrics.json holds none, and recipe.yaml is uploaded from there.
- Pickles (`training_args.bin`, optimiser states) stay at home: nobody should have to unpickle to use a model.
"""

import re
from dataclasses import dataclass
from pathlib import Path

import yaml
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, constants, get_token
from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled, RepositoryNotFoundError
from huggingface_hub.utils import validate_repo_id

from fer_hf.errors import FerError, UserError
from fer_hf.runs.folder import Run

PICKLES_AND_LEFTOVERS = {".bin", ".pt", ".pth", ".pkl", ".tmp", ".part", ".lock"}
PLACEHOLDER = "PATH/TO/MODEL"  # what the card's snippets load as long as the model has no name on the Hub
DATASET_PLACEHOLDER = "PATH/TO/DATASET"
CARDS = {"model": "model/README.md", "dataset": "README.md"}
# What an earlier push may have left that no longer belongs to the model or dataset.
OURS = {"model": ("onnx/", "figures/", "model"), "dataset": ("data/train-", "data/validation-", "data/test-")}
LOG_IN = "Run `hf auth login`, or set HF_TOKEN, with a token that may write (https://huggingface.co/settings/tokens)."


@dataclass(frozen=True)
class PlannedFile:
    """A file that a push sends: its name on the Hub, and its content, or where that lies."""

    path_in_repo: str
    content: bytes | Path

    @property
    def bytes(self) -> int:
        """Its size."""
        return self.content.stat().st_size if isinstance(self.content, Path) else len(self.content)


def plan(run: Run, repo_id: str | None = None) -> list[PlannedFile]:
    """The files a push of `run` sends, by name: the model folder with its parts, `recipe.yaml` and `metrics.json`.

    The snippets of the card name `repo_id`. Left out are hidden and temporary files, pickles, and links to elsewhere.
    Raises `UserError` when the model or its card is missing.
    """
    weights = list(run.model.glob("model*.safetensors"))
    if not weights or not (run.model / "config.json").is_file():
        raise UserError(
            f"{str(run.path)!r} has no trained model in model/. Run `fer-hf train RECIPE` to the end first."
        )
    if not (run.model / "README.md").is_file():
        raise UserError(f"{str(run.path)!r} has no model card, model/README.md. Run `fer-hf report {run.path}` first.")
    if "recipe" not in run.metrics():
        raise UserError(
            f"{str(run.path)!r} has no metrics.json of a training. Run `fer-hf train RECIPE --resume` first."
        )
    found: dict[str, bytes | Path] = {}
    for path in run.model.rglob("*"):
        name = path.relative_to(run.model)
        hidden = any(part.startswith(".") or part == "__pycache__" for part in name.parts)
        inside = path.resolve().is_relative_to(run.model.resolve())  # a link to elsewhere is not ours to publish
        if path.is_file() and inside and not hidden and path.suffix not in PICKLES_AND_LEFTOVERS:
            found[name.as_posix()] = path
    if repo_id:
        card = (run.model / "README.md").read_text(encoding="utf-8")
        found["README.md"] = card.replace(PLACEHOLDER, repo_id).encode()
    found["metrics.json"] = run.metrics_file
    found["recipe.yaml"] = yaml.safe_dump(run.metrics()["recipe"], sort_keys=False, allow_unicode=True).encode()
    return [PlannedFile(name, content) for name, content in sorted(found.items())]


def push(
    run: Run,
    repo_id: str,
    private: bool = False,
    token: str | None = None,
    dry_run: bool = False,
    message: str = "Upload the model, its card and its figures",
) -> str:
    """Upload what `plan(run)` lists to the model repository `repo_id`, in one commit; returns the commit's address.

    The repository is made if it does not exist. `private` makes a new one private; without it, the owner's default
    holds (public, for most), and an existing repository stays as it is; weights, ONNX files and figures of an earlier
    push that this one does not have are deleted by the same commit. Without `token`, the one of `hf auth login`
    or HF_TOKEN is used. If nothing has changed since the last push, no commit is made and the last one's address is
    returned. `dry_run` checks the run and the name, sends nothing and returns the address of the repository.

    Raises `UserError` for a wrong name, no token or one without the right to write, and for `private` on a repository
    that is public; `FerError` when the network or the Hub fails. The run folder is never changed.
    """
    _check_repo_id(repo_id)
    return _upload("model", plan(run, repo_id), repo_id, private, token, dry_run, message)


def plan_dataset(folder: Path, repo_id: str | None = None) -> list[PlannedFile]:
    """The files a push of a prepared dataset sends: its card, whose snippets name `repo_id`, and `data/*.parquet`.

    Raises `UserError` when `folder` holds no such dataset.
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
    """Upload what `plan_dataset(folder)` lists to the dataset repository `repo_id`, in one commit, just as `push` does.

    Parquet files that an earlier push left and this one does not have are deleted by the same commit.
    """
    _check_repo_id(repo_id)
    files = plan_dataset(folder, repo_id)
    return _upload("dataset", files, repo_id, private, token, dry_run, "Upload the dataset and its card")


def _upload(
    kind: str, files: list[PlannedFile], repo_id: str, private: bool, token: str | None, dry_run: bool, message: str
) -> str:
    address = f"{constants.ENDPOINT}/{'datasets/' if kind == 'dataset' else ''}{repo_id}"
    if dry_run:
        return address
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
                f"in its settings ({address}/settings), choose another name, or leave out --private."
            )
        operations: list[CommitOperationAdd | CommitOperationDelete]
        operations = [CommitOperationAdd(path_in_repo=f.path_in_repo, path_or_fileobj=f.content) for f in files]
        planned = {file.path_in_repo for file in files}
        there = api.list_repo_files(repo_id, repo_type=kind)
        stale = [name for name in there if name.startswith(OURS[kind]) and name not in planned]
        operations += [CommitOperationDelete(path_in_repo=name) for name in stale]
        return api.create_commit(repo_id, operations, repo_type=kind, commit_message=message).commit_url
    except FerError:
        raise
    except Exception as error:  # the client's errors come from three HTTP libraries; all of them mean: not pushed
        raise _explained(error, kind, repo_id, token) from error


def _check_repo_id(repo_id: str) -> None:
    try:
        validate_repo_id(repo_id)
        valid = repo_id.count("/") == 1
    except ValueError:
        valid = False
    if not valid:
        raise UserError(
            f"{repo_id!r} is not the name of a repository. Names look like someone/name: your user or organisation "
            "name, then letters, digits, '-', '_' and '.', at most 96 characters, without '--' and '..'."
        )


def _explained(error: Exception, kind: str, repo_id: str, token: str) -> FerError:
    """The error of ours that says what an error of the Hub's client means."""
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
    cause = error.__cause__ if isinstance(error, RuntimeError) and error.__cause__ else error  # what broke an upload
    text = str(cause)
    if isinstance(cause, HfHubHTTPError) and cause.response is not None:
        text = f"the Hub answered {cause.response.status_code} ({cause.server_message or 'without a reason'})"
    return " ".join(text.replace(token, "***").split()).rstrip(".")

"""What the name of a model means: a run, a folder with a model, an architecture of timm, or a model on the Hub."""

import errno
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import timm
import transformers
from safetensors import SafetensorError
from transformers import AutoConfig

from fer_hf.errors import UserError
from fer_hf.models.weights import check_file
from fer_hf.runs.folder import Run

OTHERS = "Take another network, such as timm/resnet18.a1_in1k or timm/efficientnet_b0.ra_in1k."


@dataclass(frozen=True)
class Source:
    """Where a model is to be loaded from.

    Exactly one of `folder` and `timm_name` is set, or neither for any other model on the Hub.
    """

    name: str
    """As the caller gave it, or the model's folder in a run."""
    folder: Path | None = None
    timm_name: str | None = None
    """Architecture, and maybe the tag of its weights, such as `resnet18.a1_in1k`."""

    @property
    def location(self) -> str:
        """The folder or Hub id of the weights. Raises `UserError` when timm has none for this architecture."""
        config: Any = timm.get_pretrained_cfg(self.timm_name) if self.timm_name else None
        if config and not config.hf_hub_id:
            name = repr(self.timm_name)
            raise UserError(f"timm has no weights for {name}: choose another tag, or set model.pretrained=false.")
        return config.hf_hub_id if config else self.name


def resolve(source: str | Path | Run) -> Source:
    """Say what the name of a model means. Folders go before names of timm, and these before the Hub.

    Args:
        source: a run, a run folder, a model folder, `timm/<name>`, a bare timm name, or a Hub id.

    Raises:
        UserError: a run has no model yet, a folder holds none, or timm does not know the tag of its weights.

    Example:
        >>> resolve("timm/resnet18").timm_name
        'resnet18'
        >>> resolve("google/vit-base-patch16-224-in21k").location
        'google/vit-base-patch16-224-in21k'
    """
    run = Run(source)
    folder = run.model if (run.model / "config.json").is_file() else run.path
    if run.exists():
        folder = run.finished_model()
    if run.path.is_file() or "://" in (given := os.fspath(source)):
        what = f"{str(run.path)!r} is a file" if run.path.is_file() else f"{given!r} is an address"
        raise UserError(f"{what}: a run folder, a model folder, timm/NAME or a Hub id is wanted.")
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise UserError(f"{str(folder)!r} holds no model: there is no config.json in it, nor in its model/ folder.")
        return Source(str(folder), folder=folder)
    name = str(run.path)
    timm_name = name.removeprefix("timm/")
    if not timm.is_model(timm_name):
        return Source(name)
    try:
        timm.get_pretrained_cfg(timm_name)
    except RuntimeError as error:  # its tag is wrong
        raise UserError(f"{name!r} could not be loaded from timm: {error}") from error
    return Source(name, timm_name=timm_name)


def check_there(name: str | Path | Run, pretrained: bool = True, weights: str | None = None) -> None:
    """Look whether there is what `load_model` would load, without loading it; its arguments.

    Raises:
        UserError: there is no such model, or no such file as `weights`.
    """
    source = resolve(name)
    if weights:
        check_file(Path(weights))
    elif pretrained or not source.timm_name:
        with explained(source, ()):
            load_config(source)


def load_config(source: Source) -> Any:
    """The config of a checkpoint in a folder or on the Hub, timm's included."""
    return AutoConfig.from_pretrained(source.location, trust_remote_code=False)


@contextmanager
def explained(source: Source, timm_keys: Sequence[str]) -> Iterator[None]:
    """Inside, what timm, transformers and the Hub raise becomes a `UserError` that says what to do.

    Args:
        source: what is being loaded.
        timm_keys: the recipe's keys of what timm's constructor is given, such as `model.drop_rate`.
    """
    try:
        yield
    except UserError:
        raise
    except TypeError as error:  # of timm's constructors, which do not all take the same
        if not timm_keys:
            raise
        raise UserError(f"{source.name!r} does not take {' or '.join(timm_keys)}: {error}.") from error
    except RuntimeError as error:  # of timm's constructors, under the way in which transformers calls them
        reason = str(error).strip().splitlines()[0]
        raise UserError(
            f"transformers {transformers.__version__} cannot load {source.name!r}: {reason} {OTHERS}"
        ) from error
    except (OSError, ValueError, SafetensorError) as error:
        if getattr(error, "errno", None) == errno.ENOSPC:
            raise
        reason = str(error).strip().splitlines()[0]
        if source.folder:
            raise UserError(f"The model in {source.name!r} could not be loaded: {reason}") from error
        near = get_close_matches(source.name.removeprefix("timm/").split(".")[0], timm.list_models(), n=3)
        hint = f" timm models of a similar name: {', '.join(near)}." if near else ""
        message = f"The model {source.name!r} could not be loaded: neither as a folder, nor from timm or the Hub: "
        raise UserError(message + reason + hint) from error

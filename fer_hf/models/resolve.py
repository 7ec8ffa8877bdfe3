"""What the name of a model means: a run, a folder with a model, an architecture of timm, or a model on the Hub."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import timm

from fer_hf.errors import UserError
from fer_hf.runs.folder import Run


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

"""`fer-hf quickstart`: the whole path on procedural faces."""

from pathlib import Path
from typing import Annotated

import typer


def quickstart(
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="[SECTION.KEY=VALUE]...", help="Changes to the recipe.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option(help="The run folder. Default: runs/quickstart/<time>.", show_default=False)
    ] = None,
) -> None:
    """Train, evaluate, export and report on faces drawn on the spot: no download, no account, a few minutes.

    Example: [bold]fer-hf quickstart[/bold]
    """
    from fer_hf.recipe.load import load_recipe
    from fer_hf.workflows.train import run_recipe

    run_recipe(load_recipe("quickstart", overrides), output)

"""`fer-hf train`: a recipe becomes a run folder."""

from pathlib import Path
from typing import Annotated

import typer


def train(
    recipe: Annotated[str, typer.Argument(help="A recipe file, or the name of a shipped recipe.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="[SECTION.KEY=VALUE]...", help="Changes to it.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the newest run of this recipe.")] = False,
    profile: Annotated[
        bool, typer.Option("--profile", help="Say where the time of the training goes, and what holds it up.")
    ] = False,
    output: Annotated[
        Path | None, typer.Option(help="The run folder. Default: runs/<recipe>/<time>.", show_default=False)
    ] = None,
) -> None:
    """Train, evaluate, export if the recipe says so, and write the model card.

    Example: [bold]fer-hf train fer2013/cpu_from_scratch data.source=fer2013:PATH train.seed=1[/bold]

    On several processes: [bold]accelerate launch --config_file accelerate_config.yaml -m fer_hf train RECIPE[/bold]
    """
    from fer_hf.recipe.load import load_recipe
    from fer_hf.workflows.train import run_recipe

    run_recipe(load_recipe(recipe, overrides), output, resume, profile)

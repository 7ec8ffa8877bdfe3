"""`fer-hf recipe`: look at recipes, check them, and take one as a start."""

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="Show, validate and copy recipes.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(metavar="RECIPE", help="A recipe file, or the name of a shipped recipe.")]
Overrides = Annotated[list[str] | None, typer.Argument(metavar="[SECTION.KEY=VALUE]...", help="Changes to it.")]


@app.command()
def show(recipe: Name, overrides: Overrides = None) -> None:
    """Print a recipe with every default filled in.

    Example: [bold]fer-hf recipe show quickstart train.seed=1[/bold]
    """
    from fer_hf.recipe.load import load_recipe

    typer.echo(load_recipe(recipe, overrides).to_yaml(), nl=False)


@app.command()
def validate(recipe: Name, overrides: Overrides = None) -> None:
    """Check every key and value of a recipe.

    Example: [bold]fer-hf recipe validate my_recipe.yaml[/bold]
    """
    from fer_hf.recipe.load import load_recipe

    typer.echo(f"{load_recipe(recipe, overrides).name}: valid")


@app.command()
def copy(recipe: Name, target: Annotated[Path, typer.Argument(help="Where to; it must not exist yet.")]) -> None:
    """Copy a recipe, to edit and run it.

    Example: [bold]fer-hf recipe copy fer2013/cpu_from_scratch my_recipe.yaml[/bold]
    """
    from fer_hf.recipe.load import copy_recipe

    copy_recipe(recipe, target)
    typer.echo(f"copied to {target}")

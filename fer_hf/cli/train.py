"""`fer-hf train`: a recipe becomes a run folder."""

from pathlib import Path
from typing import Annotated

import typer

Overrides = Annotated[list[str] | None, typer.Argument(metavar="[SECTION.KEY=VALUE]...", help="Changes to the recipe.")]
Output = Annotated[Path | None, typer.Option(help="The run folder. Default: runs/<recipe>/<time>.", show_default=False)]


def train(
    recipe: Annotated[str, typer.Argument(help="A recipe file, or the name of a shipped recipe.")],
    overrides: Overrides = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the newest run of this recipe.")] = False,
    resume_from: Annotated[
        str | None,
        typer.Option(help="Go on from this checkpoint of that run, by path or step.", metavar="CHECKPOINT"),
    ] = None,
    profile: Annotated[
        bool, typer.Option("--profile", help="Say where the time of the training goes, and what holds it up.")
    ] = False,
    output: Output = None,
) -> None:
    """Train, evaluate, export if the recipe says so, and write the model card.

    Example: [bold]fer-hf train fer2013/cpu_from_scratch data.source=fer2013:PATH train.seed=1[/bold]

    On several processes: [bold]accelerate launch --config_file accelerate_config.yaml -m fer_hf train RECIPE[/bold]
    """
    run_recipe(recipe, overrides, output, resume, profile, resume_from)


def run_recipe(
    recipe: str,
    overrides: list[str] | None,
    output: Path | None,
    resume: bool = False,
    profile: bool = False,
    resume_from: str | None = None,
) -> None:
    """Train by a recipe and print the results."""
    from fer_hf.cli.evaluations import print_without_copies
    from fer_hf.cli.tables import print_profile, print_results
    from fer_hf.recipe.load import load_recipe
    from fer_hf.workflows.train import keep_freed_memory, train

    settings = load_recipe(recipe, overrides)
    keep_freed_memory()
    run = train(settings, output, resume, profile, resume_from)
    if profile:
        print_profile(run.metrics.training)
    print_results(run)
    for evaluation in run.metrics.evaluations.values():
        if evaluation.plain:
            print_without_copies(evaluation)

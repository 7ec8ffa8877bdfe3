"""`fer-hf data grid`: synthetic faces, from prompts to a folder that can be trained on."""

from pathlib import Path
from typing import Annotated

import typer

from fer_hf.cli.faces import DetectorName

app = typer.Typer(
    help="Make synthetic faces: prompts, pictures with a grid of faces, and their cells.", no_args_is_help=True
)


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",")]


@app.command()
def prompts(
    output: Annotated[Path, typer.Option(help="The JSONL file.")],
    emotions: Annotated[
        str | None, typer.Option(help="Joined by commas, such as happy,sad. Default: all eight.")
    ] = None,
    genders: Annotated[str, typer.Option(help="female, male or both, joined by a comma.")] = "female,male",
    ages: Annotated[str, typer.Option(help="Some of 4-19, 20-39, 40-69, 70+, joined by commas.")] = "20-39",
    intensities: Annotated[str, typer.Option(help="Some of mild, strong, extreme, joined by commas.")] = "extreme",
    per_kind: Annotated[int, typer.Option(min=1, help="Pictures of each emotion, gender, age and intensity.")] = 1,
    rows: Annotated[int, typer.Option(min=2, max=8, help="Rows of faces to ask for.")] = 6,
    columns: Annotated[int, typer.Option(min=2, max=8, help="Columns of faces to ask for.")] = 6,
    seed: Annotated[int, typer.Option(help="From which each picture gets a seed of its own.")] = 0,
) -> None:
    """Write a prompt for every emotion, gender, age range and intensity.

    Example: [bold]fer-hf data grid prompts --output prompts.jsonl --emotions happy,sad[/bold]
    """
    from fer_hf.workflows.collect import write_prompts

    kinds = {"genders": _names(genders), "ages": _names(ages), "intensities": _names(intensities)}
    shape = {"per_kind": per_kind, "cells": (rows, columns), "seed": seed}
    count, faces = write_prompts(output, _names(emotions) if emotions else None, **kinds, **shape)
    typer.echo(f"{count} prompts for {faces:,} faces: {output}")


@app.command()
def generate(
    prompts: Annotated[Path, typer.Argument(help="A JSONL file of prompts.")],
    output: Annotated[Path, typer.Option(help="A folder; what it holds already is not made again.")],
    model: Annotated[str, typer.Option(help="A Hub id, or a server's address; it gets your token.")],
    provider: Annotated[str, typer.Option(help="Who computes: auto, hf-inference, fal-ai, replicate, ...")] = "auto",
    size: Annotated[int, typer.Option(min=64, max=4096, help="Width and height in pixels.")] = 1024,
    price_per_image: Annotated[float | None, typer.Option(min=0, help="In dollars, for the estimate.")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask before the first picture.")] = False,
) -> None:
    """Have the pictures made, after an estimate of the cost. Stopped, the same command goes on.

    Example: [bold]fer-hf data grid generate prompts.jsonl --output grids --model MODEL --price-per-image 0.04[/bold]
    """
    from fer_hf.workflows.collect import make_pictures, pictures_to_make

    count, rest = pictures_to_make(prompts, output)
    cost = "the price is not known: look it up with the provider, and give --price-per-image"
    if price_per_image is not None:
        cost = f"about {len(rest) * price_per_image:,.2f} dollars at {price_per_image:g} each"
    typer.echo(f"{len(rest)} of {count} pictures are to be made by {model}; {cost}")
    if rest and not yes:
        typer.confirm("Go on?", abort=True)
    done = make_pictures(rest, output, model, provider, size)
    typer.echo(f"made {done['made']}, refused {done['refused']}: {output}")
    if done["refused"]:
        typer.echo(f"{output / 'refused.jsonl'} says why; take lines out of it to ask again")


@app.command("slice")
def slice_(
    pictures: Annotated[Path, typer.Argument(help="A folder of pictures, such as `generate` makes.")],
    output: Annotated[Path, typer.Option(help="A new folder.")],
    emotion: Annotated[
        str | None, typer.Option(help="The emotion of all pictures. Default: what images.jsonl or their folders say.")
    ] = None,
    detector: Annotated[DetectorName, typer.Option(help="Which detector has to find one face.")] = "auto",
    min_sharpness: Annotated[float, typer.Option(min=0, help="Least sharpness.")] = 25,
) -> None:
    """Find the grid in each picture, cut out the faces, and sort out what is no good face.

    Look at contact_sheets/, write no beside what is wrong in review.csv, and run `fer-hf data grid review`.

    Example: [bold]fer-hf data grid slice grids --output synthetic[/bold]
    """
    from fer_hf.workflows.collect import slice_grids

    counts = slice_grids(pictures, output, emotion, detector, min_sharpness)
    for surprise in counts["surprises"]:
        typer.echo(surprise)
    typer.echo(
        f"{counts['pictures']} pictures ({counts['without_grid']} without a grid), {counts['cells']} cells, "
        f"{counts['kept']} kept"
    )
    typer.echo(f"detector: {counts['detector']}")
    typer.echo(f"faces:    {output / 'faces'}")
    typer.echo(f"look at:  {output / 'contact_sheets'}, then edit {output / 'review.csv'}")


@app.command()
def review(output: Annotated[Path, typer.Argument(help="A folder that `slice` wrote.")]) -> None:
    """Keep and reject faces as an edited review.csv says.

    Example: [bold]fer-hf data grid review synthetic[/bold]
    """
    from fer_hf.workflows.collect import review_cells

    typer.echo(f"{review_cells(output)} faces are kept: {output / 'faces'}")

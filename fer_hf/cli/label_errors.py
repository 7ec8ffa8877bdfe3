"""`fer-hf data label-errors`: images whose label is likely wrong."""

from typing import Annotated

import typer

from fer_hf.cli.evaluate import Split


def label_errors(
    run: Annotated[str, typer.Argument(help="A run folder.")],
    split: Annotated[Split, typer.Option(help="Which split of the run's own data.")] = "validation",
    folds: Annotated[
        int, typer.Option(min=2, max=20, help="For --split train: into how many parts it is divided.")
    ] = 5,
) -> None:
    """Rank images whose label is likely wrong (confident learning), and draw them on a contact sheet.

    For the train split, new models are trained, each without the images that it then judges; stopped, it goes on.

    Example: [bold]fer-hf data label-errors runs/quickstart/20260131-175900[/bold]
    """
    from rich.table import Column, Table

    from fer_hf.cli.tables import print_places
    from fer_hf.console import output
    from fer_hf.workflows.label_errors import find_label_errors

    result = find_label_errors(run, split, folds)
    figures = (Column(heading, justify="right") for heading in ("probability", "quality"))
    table = Table("id", "label", "suggested", *figures)
    for row in result.rows[:10]:
        table.add_row(row.id, row.label, row.suggested, f"{row.probability:.1%}", f"{row.quality:.3f}")
    output.print(table)
    output.print(
        f"{len(result.rows):,} of {result.images:,} {split} images are candidates: look at the first ones first"
    )
    print_places({"list": result.list, "sheet": result.sheet})

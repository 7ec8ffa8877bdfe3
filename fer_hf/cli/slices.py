"""`fer-hf slices`: how well groups of images are recognised."""

from typing import Annotated

import typer

from fer_hf.cli.evaluate import Split


def slices(
    run: Annotated[str, typer.Argument(help="A run folder.")],
    by: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ATTRIBUTE",
            help="Such as gender, or gender,age for both together; brightness and size are measured. May stand several "
            "times. Default: every attribute that the predictions have, and pairs of gender, age and race.",
        ),
    ] = None,
    data: Annotated[
        str | None, typer.Option(help="toy, KIND:PATH or hub:org/name, as in data.source. Default: the run's own.")
    ] = None,
    split: Annotated[Split, typer.Option(help="Which split.")] = "test",
) -> None:
    """Print accuracy and macro F1 of groups of images, and whether the gap between them is more than chance.

    Expected is the accuracy that the classes of a group alone would give. Figures go to metrics.json and model/figures.

    Example: [bold]fer-hf slices runs/rafdb_b0/20260131-175900 --by gender --by gender,age[/bold]
    """
    from fer_hf.cli.tables import print_plain_table
    from fer_hf.console import output
    from fer_hf.workflows.slices import slice_run

    result = slice_run(run, by or (), data, split)
    evaluation = result.evaluation
    output.print(f"{evaluation.dataset} {evaluation.split}: {evaluation.images:,} images{evaluation.of_all}")
    for table, figure in zip(result.tables, result.figures, strict=True):
        print_plain_table(table.header, table.rows)
        for line in [*table.sentences, f"figure: {figure}"]:
            output.print(line, soft_wrap=True)

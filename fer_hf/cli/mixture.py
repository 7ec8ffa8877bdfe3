"""`fer-hf mixture`: accuracy over the mixture of two groups."""

from pathlib import Path
from typing import Annotated

import typer

from fer_hf.cli.evaluate import Split


def mixture(
    runs: Annotated[list[str], typer.Argument(metavar="RUN...", help="Run folders, or folders of runs.")],
    of: Annotated[str, typer.Option(help="The group: an attribute and its value.")] = "gender=female",
    split: Annotated[Split, typer.Option(help="Which split.")] = "test",
    output: Annotated[
        Path | None, typer.Option(help="Folder of the results. Default: the folder of runs, or runs/mixture.")
    ] = None,
) -> None:
    """Print the accuracy of runs on test sets with 0 to 100 % of a group, and draw it over both mixtures.

    It follows from stored predictions on images of both groups, with the same class shares in every mixture.

    Example: [bold]fer-hf mixture runs/e_gender --of gender=female[/bold]
    """
    from fer_hf.cli.tables import print_places, print_plain_table
    from fer_hf.console import output as out
    from fer_hf.workflows.mixture import SHARES, compare_mixtures

    result = compare_mixtures(runs, of, split, output)
    out.print(
        f"{result.evaluation.dataset} {result.evaluation.split}: {result.images:,} images, of which {result.members:,} "
        f"are {result.group}. Columns: its share in the test set. Accuracy in %, 95 % interval."
    )
    header = ["configuration", "trained", *(f"{share:.0%}" for share in SHARES)]
    rows = [
        [
            row.name,
            "–" if row.trained is None else f"{row.trained:.0%}",
            *(f"{100 * e.value:.1f} [{100 * e.low:.1f}, {100 * e.high:.1f}]" for e in row.accuracy),
        ]
        for row in result.rows
    ]
    print_plain_table(header, rows)
    print_places({"list": result.list, "figure": result.figure})

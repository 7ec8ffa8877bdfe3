"""`fer-hf compare`: which configuration is best, how sure that is, and what it costs."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from fer_hf.cli.evaluate import Split

Metric = Literal["accuracy", "balanced_accuracy", "macro_f1"]


def compare(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Run folders, or folders of runs.")],
    split: Annotated[Split, typer.Option(help="Which split.")] = "test",
    metric: Annotated[Metric, typer.Option(help="What the runs are ranked by.")] = "accuracy",
    output: Annotated[
        Path | None, typer.Option(help="Folder of the results. Default: the folder of runs, or runs/compare.")
    ] = None,
) -> None:
    """Rank finished runs, and say whether the best is significantly better than the second.

    Runs that differ in train.seed only are seeds of one configuration. Writes compare.csv, compare.md and compare.png.

    Example: [bold]fer-hf compare runs/phase1 --metric macro_f1[/bold]
    """
    from rich.console import Console
    from rich.table import Column, Table

    from fer_hf.console import output as out
    from fer_hf.workflows.compare import cells, compare_runs, heading

    comparison = compare_runs(runs, split, metric, output)
    (first, *others), rows = cells(comparison)
    table = Table(Column(first, overflow="fold"))
    for name in others:
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    out.print(heading(comparison))
    # Into a narrow terminal or a pipe too, it goes unabridged.
    Console(width=max(out.width, 120), markup=False, emoji=False).print(table)
    out.print(comparison.verdict)
    out.print(f"table and figure: {comparison.folder}/compare.csv, compare.md, compare.png", soft_wrap=True)

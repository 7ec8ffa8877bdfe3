"""`fer-hf compare`: which configuration is best, how sure that is, and what it costs."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from fer_hf.cli.evaluate import Format, Split

Metric = Literal["accuracy", "balanced_accuracy", "macro_f1"]


def compare(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Run folders, or folders of runs.")],
    split: Annotated[Split, typer.Option(help="Which split.")] = "test",
    metric: Annotated[Metric, typer.Option(help="What the runs are ranked by.")] = "accuracy",
    dataset: Annotated[
        str | None,
        typer.Option(help="Name of the data, or the beginning of their hash. Default: their own, or what all share."),
    ] = None,
    format: Annotated[Format, typer.Option(help="Which file of the models.")] = "pytorch",
    baseline: Annotated[Path | None, typer.Option(help="A run to hold the others against, class by class.")] = None,
    x: Annotated[
        str,
        typer.Option(
            "--x",
            help="Horizontal axis of the figure: latency, images (of training), minutes, memory, parameters, size, or "
            "a key of the recipe such as data.fraction.",
        ),
    ] = "latency",
    output: Annotated[
        Path | None, typer.Option(help="Folder of the results. Default: the folder of runs, or runs/compare.")
    ] = None,
) -> None:
    """Rank finished runs, and say whether the best is significantly better than the second.

    Runs that differ in train.seed only are seeds of one configuration. Writes compare.html, which shows everything and
    needs no network, and compare.csv, compare.md, compare.png and compare.svg.

    Example: [bold]fer-hf compare runs/phase1 --metric macro_f1 --baseline runs/phase1/resnet18[/bold]
    """
    from fer_hf.cli.tables import print_plain_table
    from fer_hf.console import output as out
    from fer_hf.workflows.compare import cells, change_cells, compare_runs, each_run, heading, pair_cells

    comparison = compare_runs(runs, split, metric, output, dataset=dataset, format=format, baseline=baseline, x=x)
    out.print(heading(comparison))
    print_plain_table(*cells(comparison))
    if runs_listed := each_run(comparison):
        out.print(runs_listed)
    out.print(comparison.verdict)
    if len(comparison.pairs) > 1:
        about, header, rows = pair_cells(comparison)
        out.print(f"\n{about}")
        print_plain_table(header, rows)
    if comparison.changes:
        about, header, rows = change_cells(comparison)
        out.print(f"\n{about}")
        print_plain_table(header, rows)
    out.print(f"page: {comparison.folder}/compare.html", soft_wrap=True)
    out.print(f"tables and figure: {comparison.folder}/compare.csv, compare.md, compare.png", soft_wrap=True)

"""`fer-hf compare`: which configuration is best, how sure that is, and what it costs."""

from pathlib import Path
from typing import Annotated, Any, Literal

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

    from fer_hf.console import console, quiet_libraries, track
    from fer_hf.console import output as out
    from fer_hf.deploy.latency import cpu_latency
    from fer_hf.evaluation.compare import compare, configurations, find_runs
    from fer_hf.files import write_csv, write_text
    from fer_hf.report.markdown import markdown
    from fer_hf.report.figures import accuracy_latency_figure, save_figure
    from fer_hf.runs.folder import Run

    quiet_libraries()
    finished, unfinished = find_runs(runs)
    configs, repeated = configurations(finished)
    for line in [*unfinished, *repeated]:
        console.print(f"left out: {line}", style="yellow", soft_wrap=True)
    rows, verdict = compare(configs, split, metric)
    for row in track(rows, "measuring latency"):
        row |= cpu_latency(configs[row["name"]][0].finished_model())
    only_folder = len(runs) == 1 and not Run(runs[0]).recipe_file.is_file()
    folder = output or (runs[0] if only_folder else Path("runs/compare"))
    folder.mkdir(parents=True, exist_ok=True)

    first = rows[0]
    heading = (
        f"{first['dataset']}, {split} split, {first['images']:,} images. Mean over seeds ± their standard "
        f"deviation; 95 % interval. Latency: one image, PyTorch float32 on {first['cpu']} (threads: "
        f"{first['threads']}), median (least - most); training: minutes."
    )
    columns = (metric, "95 %", "seeds", "params, M", "MB", "latency, ms", "training")
    table = Table(Column("configuration", overflow="fold"))
    for column in columns:
        table.add_column(column, justify="right", no_wrap=True)
    lines = [f"| configuration | {' | '.join(columns)} |", f"|---{'|---:' * len(columns)}|"]
    for row in rows:
        cells = _cells(row)
        table.add_row(row["name"], *cells)
        lines.append(f"| {markdown(row['name'])} | {' | '.join(cells)} |")
    write_csv(folder / "compare.csv", list(first), [list(row.values()) for row in rows])
    figure = "![accuracy and latency](compare.png)"
    write_text(
        folder / "compare.md", "\n\n".join([markdown(heading), "\n".join(lines), markdown(verdict), figure]) + "\n"
    )
    save_figure(accuracy_latency_figure(rows, metric), folder / "compare.png")
    out.print(heading)
    # Into a narrow terminal or a pipe too, it goes unabridged.
    Console(width=max(out.width, 120), markup=False, emoji=False).print(table)
    out.print(verdict)
    out.print(f"table and figure: {folder}/compare.csv, compare.md, compare.png", soft_wrap=True)


def _cells(row: dict[str, Any]) -> list[str]:
    spread = "" if row["std"] is None else f" ± {row['std'] * 100:.1f}"
    return [
        f"{row['mean'] * 100:.1f}{spread}",
        f"[{row['low'] * 100:.1f}, {row['high'] * 100:.1f}]",
        str(row["seeds"]),
        f"{row['parameters'] / 1e6:.1f}",
        f"{row['megabytes']:.1f}",
        f"{row['latency_ms']:.1f} ({row['latency_min_ms']:.1f} - {row['latency_max_ms']:.1f})",
        f"{row['train_minutes']:.1f}",
    ]

"""Compare trained runs: which configuration is best, how sure that is, and what it costs."""

import logging
from collections.abc import Sequence
from dataclasses import astuple, fields, replace
from os import PathLike
from pathlib import Path

from fer_hf.console import track
from fer_hf.deploy.latency import cpu_latency
from fer_hf.evaluation.compare import Comparison, Row, compare, configurations, find_runs
from fer_hf.files import write_csv, write_text
from fer_hf.report.figures import accuracy_latency_figure, save_figure
from fer_hf.report.markdown import markdown
from fer_hf.runs.folder import Run

logger = logging.getLogger(__name__)


def compare_runs(
    folders: str | PathLike[str] | Sequence[str | PathLike[str]],
    split: str = "test",
    metric: str = "accuracy",
    output: str | Path | None = None,
) -> Comparison:
    """Rank finished runs, and say whether the best is significantly better than the second.

    Runs that differ in `train.seed` only are seeds of one configuration. Writes `compare.csv`, `compare.md` and
    `compare.png`.

    Args:
        folders: run folders, or folders of runs; a single one, or several.
        split: the split that they were evaluated on.
        metric: what they are ranked by: "accuracy", "balanced_accuracy" or "macro_f1".
        output: the folder of the results; by default the folder of runs, or runs/compare where several are given.

    Returns:
        The rows with their latency, the verdict, and the folder that was written to.

    Raises:
        UserError: there is no finished run, or they were not evaluated on the same images.

    Example:
        `compare_runs(["runs/phase1"], metric="macro_f1").rows[0].name`
    """
    places = [Path(folders)] if isinstance(folders, str | PathLike) else [Path(folder) for folder in folders]
    runs, unfinished = find_runs(places)
    configs, repeated = configurations(runs)
    for line in [*unfinished, *repeated]:
        logger.warning("left out: %s", line)
    comparison = compare(configs, split, metric)
    of_runs = len(places) == 1 and not Run(places[0]).exists()
    folder = Path(output) if output else places[0] if of_runs else Path("runs/compare")
    folder.mkdir(parents=True, exist_ok=True)  # what cannot be written is not worth the wait
    rows = [
        replace(row, **cpu_latency(configs[row.name][0].finished_model()))
        for row in track(comparison.rows, "measuring latency")
    ]
    comparison = replace(comparison, rows=rows, folder=folder)
    _write(comparison, folder)
    return comparison


def heading(comparison: Comparison) -> str:
    """What the table shows, in a paragraph."""
    first = comparison.rows[0]
    return (
        f"{first.dataset}, {first.split} split, {first.images:,} images. Mean over seeds ± their standard "
        f"deviation; 95 % interval. Latency: one image, PyTorch float32 on {first.cpu} (threads: "
        f"{first.threads}), median (least - most); training: minutes."
    )


def cells(comparison: Comparison) -> tuple[list[str], list[list[str]]]:
    """The header of the table, and a row of cells for each configuration, its name first."""
    header = [comparison.metric, "95 %", "seeds", "params, M", "MB", "latency, ms", "training"]
    return ["configuration", *header], [_row_cells(row) for row in comparison.rows]


def _row_cells(row: Row) -> list[str]:
    spread = "" if row.std is None else f" ± {row.std * 100:.1f}"
    return [
        row.name,
        f"{row.mean * 100:.1f}{spread}",
        f"[{row.low * 100:.1f}, {row.high * 100:.1f}]",
        str(row.seeds),
        "–" if row.parameters is None else f"{row.parameters / 1e6:.1f}",
        f"{row.megabytes:.1f}",
        f"{row.latency_ms:.1f} ({row.latency_min_ms:.1f} - {row.latency_max_ms:.1f})",
        f"{row.train_minutes:.1f}",
    ]


def _write(comparison: Comparison, folder: Path) -> None:
    write_csv(folder / "compare.csv", [field.name for field in fields(Row)], map(astuple, comparison.rows))
    header, rows = cells(comparison)
    lines = [f"| {' | '.join(header)} |", f"|---{'|---:' * (len(header) - 1)}|"]
    lines += [f"| {markdown(name)} | {' | '.join(rest)} |" for name, *rest in rows]
    parts = [markdown(heading(comparison)), "\n".join(lines), markdown(comparison.verdict)]
    write_text(folder / "compare.md", "\n\n".join([*parts, "![accuracy and latency](compare.png)"]) + "\n")
    save_figure(accuracy_latency_figure(comparison.rows, comparison.metric), folder / "compare.png")

"""Compare trained runs: which configuration is best, how sure that is, and what it costs."""

import logging
from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields, replace
from difflib import get_close_matches
from os import PathLike
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from fer_hf.console import track
from fer_hf.deploy.latency import cpu_latency
from fer_hf.errors import UserError
from fer_hf.evaluation.compare import (
    LEFT_OUT,
    SHAPES_WEIGHTS,
    Change,
    Choice,
    Comparison,
    Configurations,
    Row,
    compare,
    configurations,
    find_runs,
)
from fer_hf.evaluation.pairs import Pair
from fer_hf.files import write_csv, write_text
from fer_hf.models.classifier import Format
from fer_hf.recipe.load import load_recipe
from fer_hf.report.blocks import Table
from fer_hf.report.compare_page import Compared, comparison_page
from fer_hf.report.facts import FORMATS
from fer_hf.report.figures.comparison import comparison_figure
from fer_hf.report.figures.style import save_figure
from fer_hf.report.markdown import markdown, table
from fer_hf.report.scaling import Trained
from fer_hf.runs.folder import Run

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Axis:
    """A figure of a `Row` to plot against: its field, and what the axis is called."""

    field: str
    label: str


AXES = {
    "latency": Axis("latency_ms", "CPU latency of one image, ms (median)"),
    "images": Axis("train_images", "training images"),
    "minutes": Axis("train_minutes", "minutes of training"),
    "memory": Axis("memory_mb", "most memory that training took, MiB"),
    "parameters": Axis("parameters", "parameters"),
    "size": Axis("megabytes", "size of the model's file, MB"),
}


def compare_runs(  # noqa: PLR0913 (what people choose, each by its own name, as on the command line)
    folders: str | PathLike[str] | Sequence[str | PathLike[str]],
    split: str = "test",
    metric: str = "accuracy",
    output: str | Path | None = None,
    *,
    dataset: str | None = None,
    format: Format = "pytorch",
    baseline: str | PathLike[str] | None = None,
    x: str = "latency",
) -> Comparison:
    """Rank finished runs, and say whether the best is significantly better than the second.

    Runs that differ in `train.seed` only are seeds of one configuration. Writes `compare.html`, a page that needs no
    other file, `compare.csv`, `compare.md`, `compare.png` and `compare.svg`, and `compare_changes.csv` where there is a
    baseline.

    Args:
        folders: run folders, or folders of runs; a single one, or several.
        split: the split that they were evaluated on.
        metric: what they are ranked by: "accuracy", "balanced_accuracy" or "macro_f1".
        output: the folder of the results; by default the folder of runs, or runs/compare where several are given.
        dataset: the name of the data that they were evaluated on, or the beginning of the hash in the key that
            metrics.json has for other data of the same name; by default their own, or else data that all share.
        format: which file of the models: "pytorch", "onnx" or "int8".
        baseline: a run whose configuration the others are held against, class by class.
        x: the horizontal axis of the figure: "latency", "images" (of training), "minutes", "memory", "parameters",
            "size", or a key of the recipe such as "data.fraction" or "data.mixture.gender.female".

    Returns:
        The rows with their latency, the verdict, and the folder that was written to.

    Raises:
        UserError: there is no finished run, or they were not evaluated on the same images.

    Example:
        `compare_runs(["runs/phase1"], metric="macro_f1").rows[0].name`
    """
    places = [Path(folders)] if isinstance(folders, str | PathLike) else [Path(folder) for folder in folders]
    compared = [*places, Run.open(Path(baseline)).path] if baseline else places
    runs, unfinished = find_runs(compared)
    configs, repeated = configurations(runs)
    for line in [*unfinished, *repeated]:
        logger.warning("left out: %s", line)
    settings = {} if x in AXES else _settings(configs, x)
    reference = _configuration_of(Path(baseline), configs) if baseline else None
    comparison = compare(configs, metric, Choice(split, format, dataset), reference)
    of_runs = len(places) == 1 and not Run(places[0]).exists()
    folder = Path(output) if output else places[0] if of_runs else Path("runs/compare")
    folder.mkdir(parents=True, exist_ok=True)  # what cannot be written is not worth the wait
    rows = []
    for row in track(comparison.rows, "measuring latency"):
        measured = replace(row, **cpu_latency(configs[row.name][0].finished_model(), format=format))
        place = getattr(measured, AXES[x].field) if x in AXES else settings[row.name]
        if place is None:
            logger.warning("not in the figure: %s, which has no %s", row.name, x)
        rows.append(replace(measured, x=place))
    comparison = replace(comparison, rows=rows, x=x, folder=folder)
    _write(comparison, folder, configs)
    return comparison


def _configuration_of(baseline: Path, configs: Configurations) -> str:
    """The configuration that a run belongs to."""
    for name, seeds in configs.items():
        if any(run.path.resolve() == baseline.resolve() for run in seeds):
            return name
    raise UserError(f"The baseline {baseline} is left out, see above: choose a finished run that no later one repeats.")


def _settings(configs: Configurations, key: str) -> dict[str, float | str | None]:
    """The value of a key of the recipe in each configuration: all numbers or all text, None where there is none."""
    values = {name: _setting(seeds[0], key) for name, seeds in configs.items()}
    known = [value for value in values.values() if value is not None]
    if not known:
        there = [*AXES, *(name for seeds in configs.values() for name in load_recipe(seeds[0].recipe_file).flat())]
        near = get_close_matches(key, there, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise UserError(f"No run has a value of {key!r}: x is one of {', '.join(AXES)}, or a key of the recipe.{hint}")
    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in known):
        return values
    return {name: value if value is None else str(value) for name, value in values.items()}


def _setting(run: Run, key: str) -> Any:
    """The value of a key such as `data.mixture.gender.female` in a run's recipe; None where there is none."""
    value: Any = load_recipe(run.recipe_file).model_dump(mode="json")
    for part in key.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    model = run.metrics.model
    if key == "model.image_size" and value is None and model and model.image_size:
        return model.image_size[0]  # what the model was made for
    return value


def heading(comparison: Comparison) -> str:
    """What the table shows, in a paragraph."""
    first = comparison.rows[0]
    threads = "" if first.threads is None else f" (threads: {first.threads})"
    return (
        f"{first.dataset}, {first.split} split, {first.images:,} images. Mean over seeds ± their standard "
        f"deviation; 95 % interval. Latency: one image, {FORMATS[comparison.choice.format]} on {first.cpu}{threads}, "
        "median."
    )


def cells(comparison: Comparison) -> tuple[list[str], list[list[str]]]:
    """The header of the table, with names of two lines, and a row of cells for each configuration, its name first."""
    costs = ["training\nimages", "weights\nM", "file\nMB", "latency\nms", "time\nmin", "memory\nMiB"]
    header = ["configuration", comparison.metric.replace("_", "\n"), "95 %", "seeds", *costs]
    return header, [_row_cells(row) for row in comparison.rows]


def _row_cells(row: Row) -> list[str]:
    spread = "" if row.std is None else f" ± {row.std * 100:.1f}"
    return [
        row.name,
        f"{row.mean * 100:.1f}{spread}",
        f"[{row.low * 100:.1f}, {row.high * 100:.1f}]",
        str(row.seeds),
        "–" if row.train_images is None else f"{row.train_images:,}",
        "–" if row.parameters is None else f"{row.parameters / 1e6:.1f}",
        f"{row.megabytes:.1f}",
        f"{row.latency_ms:.1f}",
        f"{row.train_minutes:.1f}",
        "–" if row.memory_mb is None else f"{row.memory_mb:,.0f}",
    ]


def each_run(comparison: Comparison) -> str:
    """The metric of every run of the configurations that have several, in %; "" where none has."""
    several = [(row.name, ", ".join(f"{100 * score:.1f}" for score in row.scores)) for row in comparison.rows]
    listed = [f"{name} {scores}" for name, scores in several if "," in scores]
    return f"Each run, in %: {'; '.join(listed)}." if listed else ""


PAIRS = (
    "The best against each other, by points of {}. p: paired bootstrap over the images and seeds; McNemar: exact test "
    "of accuracy, between single runs only. Both after Holm's correction for all {} pairs, which compare_pairs.csv has."
)


def pair_cells(comparison: Comparison) -> tuple[str, list[str], list[list[str]]]:
    """What the table of pairs shows, its header, and a row of cells for the best configuration and each other."""
    of_best = [pair for pair in comparison.pairs if pair.first == comparison.rows[0].name]
    rows = [
        [
            pair.second,
            f"{pair.points:+.1f}",
            f"{pair.low:.1f} to {pair.high:.1f}",
            f"{pair.p:.2g}",
            "–" if pair.mcnemar is None else f"{pair.mcnemar:.2g}",
        ]
        for pair in of_best
    ]
    about = PAIRS.format(comparison.metric, len(comparison.pairs))
    return about, [f"{comparison.rows[0].name} against", "points", "95 %", "p", "McNemar"], rows


CHANGES = (
    "Against {}, whose own figures stand in its row, in %; the others' change, in points, of {} and of the F1 of each "
    "class. * is more than chance: p < 0.05, paired bootstrap over the images and seeds, for the classes after Holm's "
    "correction for their number."
)


def change_cells(comparison: Comparison) -> tuple[str, list[str], list[list[str]]]:
    """What the table of changes shows, its header, and a row of cells for each configuration, the baseline first."""
    by_name: dict[str, list[Change]] = {}
    for change in comparison.changes:
        by_name.setdefault(change.configuration, []).append(change)
    figures = next(iter(by_name.values()))
    rows = [[str(comparison.baseline), *(f"{100 * change.baseline:.1f}" for change in figures)]]
    rows += [
        [name, *(f"{change.points:+.1f}{'*' if change.more_than_chance else ''}" for change in changes)]
        for name, changes in by_name.items()
    ]
    about = CHANGES.format(comparison.baseline, comparison.metric)
    return about, ["configuration", *(change.figure for change in figures)], rows


SIZES = {"data.fraction", "data.per_class"}
"""Keys of the recipe that say how many images are trained on, and nothing else."""


def _shaping(run: Run) -> dict[str, Any]:
    """The settings of a run that shape its weights, by key."""
    flat = load_recipe(run.recipe_file).flat()
    return {key: value for key, value in flat.items() if key.split(".")[0] in SHAPES_WEIGHTS and key not in LEFT_OUT}


def _shown(run: Run) -> dict[str, Any]:
    """The same settings for others to see: without paths of this machine."""
    sections = [(name, settings) for name, settings in run.metrics.recipe.items() if name in SHAPES_WEIGHTS]
    values = {f"{name}.{key}": value for name, settings in sections for key, value in settings.items()}
    return {key: value for key, value in values.items() if key not in LEFT_OUT}


def _trained(comparison: Comparison, configs: Configurations) -> list[Trained]:
    """The rows of which the number of training images is known, with their epochs."""
    trained = []
    for row in comparison.rows:
        training = configs[row.name][0].metrics.training
        if row.train_images is not None and training:
            others = {key: value for key, value in _shaping(configs[row.name][0]).items() if key not in SIZES}
            cost = (row.train_images, training.epochs, row.train_minutes)
            trained.append(Trained(row.name, *cost, row.mean, row.low, row.high, str(others)))
    return trained


def _page(comparison: Comparison, configs: Configurations) -> str:
    header, rows = cells(comparison)
    numbered = [[f"{number}  {name}", *rest] for number, (name, *rest) in enumerate(rows, 1)]
    compared = Compared(
        comparison,
        heading(comparison),
        Table([name.replace("\n", ", ") for name in header], numbered),
        each_run(comparison),
        _figure(comparison),
        _table(*pair_cells(comparison)) if len(comparison.pairs) > 1 else None,
        _table(*change_cells(comparison)) if comparison.changes else None,
        {row.name: _shown(configs[row.name][0]) for row in comparison.rows},
        _trained(comparison, configs),
    )
    return comparison_page(compared)


def _table(about: str, header: list[str], rows: list[list[str]]) -> tuple[str, Table]:
    return about, Table(header, rows)


def _figure(comparison: Comparison) -> Figure:
    cost = AXES[comparison.x].label if comparison.x in AXES else None
    return comparison_figure(comparison.rows, comparison.metric, comparison.x, cost)


def _write(comparison: Comparison, folder: Path, configs: Configurations) -> None:
    names = [comparison.x if field.name == "x" else field.name for field in fields(Row)]
    write_csv(folder / "compare.csv", names, map(astuple, comparison.rows))
    header, rows = cells(comparison)
    parts = [markdown(heading(comparison)), table([name.replace("\n", ", ") for name in header], rows)]
    parts += [markdown(text) for text in (each_run(comparison), comparison.verdict) if text]
    if len(comparison.pairs) > 1:
        about, header, rows = pair_cells(comparison)
        parts += [markdown(about), table(header, rows)]
    write_csv(folder / "compare_pairs.csv", [field.name for field in fields(Pair)], map(astuple, comparison.pairs))
    changes_file = folder / "compare_changes.csv"
    changes_file.unlink(missing_ok=True)  # those against an earlier baseline
    if comparison.changes:
        about, header, rows = change_cells(comparison)
        parts += [markdown(about), table(header, rows)]
        names = [*(field.name for field in fields(Change)), "more_than_chance"]
        write_csv(changes_file, names, [(*astuple(each), each.more_than_chance) for each in comparison.changes])
    picture = f"![{comparison.metric} and {markdown(comparison.x)}](compare.png)"
    write_text(folder / "compare.md", "\n\n".join([*parts, picture]) + "\n")
    save_figure(_figure(comparison), folder / "compare.png")
    write_text(folder / "compare.html", _page(comparison, configs))

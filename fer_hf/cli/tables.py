"""Tables that several commands print."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import zip_longest
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Column, Table

from fer_hf.console import output

SCORES = ("precision", "recall", "f1")
NETWORK = "the network itself: a smaller model.image_size, or a smaller model, is faster"
ADVICE = {  # for the part of a training that takes longest
    "data": "decoding images anew in each epoch: for want of room on the disk, or since they have many sizes and "
    "augment.enabled is false",
    "augmentation": "the transforms: see the section augment of the recipe",
    "forward": NETWORK,
    "backward": NETWORK,
    "optimiser": "the optimiser: a larger batch takes fewer steps",
    "checkpoint": "checkpoints: raise train.save_steps",
    "logging": "logging: raise train.logging_steps",
    "evaluation": "evaluation, after each epoch: of large images, or of many beside those of training",
    "other": "the Trainer's own loop: a larger batch takes fewer turns of it",
}


def print_results(run: Any, evaluations: Iterable[Any] | None = None) -> None:
    """Print the figures of a run, all of them or only these, as a table, and where the run's files are."""
    evaluations = list(run.metrics.evaluations.values() if evaluations is None else evaluations)
    table = Table(Column("split", no_wrap=True), Column("format", no_wrap=True))
    ks = sorted({k for e in evaluations for k in e.top_k})
    for heading in ("accuracy [95 %]", "macro F1", *(f"top {k}" for k in ks), "ECE"):
        table.add_column(heading, justify="right", no_wrap=True)
    for e in evaluations:
        table.add_row(
            e.split,
            e.format if e.tta == "none" else f"{e.format} + {e.tta}",
            _share(e.accuracy, e.accuracy_ci),
            f"{e.macro_f1:.1%}",
            *(f"{e.top_k[k]:.1%}" if k in e.top_k else "–" for k in ks),
            f"{e.expected_calibration_error:.1%}",
        )
    output.print("\n".join(sorted({f"{e.dataset} {e.split}: {e.images:,} images{e.of_all}" for e in evaluations})))
    output.print(table)
    print_places({"metrics": run.metrics_file, "model": run.model, "card": run.card})


def print_classes(evaluation: Any) -> None:
    """Print the figures of each class and their averages, all single figures with intervals, and the largest errors."""
    headings = ("precision", "recall", "F1", "AUC", "AP", "images")
    table = Table(Column("class", no_wrap=True), *(Column(name, justify="right") for name in headings))
    for name, score in evaluation.per_class.items():
        ranked = (_share(score.roc_auc), _share(score.average_precision))
        table.add_row(name, *(_share(getattr(score, key)) for key in SCORES), *ranked, f"{score.support:,}")
    table.add_section()
    for average in ("macro", "weighted"):
        means = (_share(getattr(evaluation, f"{average}_{key}", None)) for key in (*SCORES, *RANKED))
        table.add_row(f"{average} average", *means, f"{evaluation.images:,}")
    output.print(table)
    if evaluation.intervals:
        output.print(_figure_table(evaluation))
    if evaluation.valence:
        groups = (f"{name} {_share(group.recall)} of {group.images:,}" for name, group in evaluation.valence.items())
        output.print(f"Given an emotion of the right group: {', '.join(groups)}.")
    if largest := evaluation.confusions(3):
        output.print(f"Largest errors: {'; '.join(map(str, largest))}.")


def _figure_table(evaluation: Any) -> Table:
    """The single figures of an evaluation with their intervals, two to a row."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for _ in range(2):
        table.add_column("figure", no_wrap=True)
        table.add_column("value [95 %]", justify="right", no_wrap=True)
    cells = []
    for name, (heading, unit) in FIGURES.items():
        value = getattr(evaluation, name)
        cells.append((heading, unit(value, evaluation.intervals.get(name)) if value is not None else "–"))
    half = -(-len(cells) // 2)
    for left, right in zip_longest(cells[:half], cells[half:], fillvalue=("", "")):
        table.add_row(*left, *right)
    return table


def _share(value: float | None, interval: tuple[float, float] | None = None) -> str:
    """`54.0% [52.4, 55.7]`."""
    limits = f" [{100 * interval[0]:.1f}, {100 * interval[1]:.1f}]" if interval else ""
    return "–" if value is None else f"{value:.1%}{limits}"


def _number(value: float, interval: tuple[float, float] | None = None) -> str:
    """`0.44 [0.42, 0.46]`."""
    return f"{value:.2f}" + (f" [{interval[0]:.2f}, {interval[1]:.2f}]" if interval else "")


RANKED = ("roc_auc", "average_precision")
FIGURES = {  # what each is called, and how it is written
    "accuracy": ("accuracy", _share),
    "balanced_accuracy": ("balanced acc.", _share),
    "macro_f1": ("macro F1", _share),
    "top_2_accuracy": ("top 2", _share),
    "valence_accuracy": ("emotion group", _share),
    "macro_roc_auc": ("macro AUC", _share),
    "macro_average_precision": ("macro AP", _share),
    "cohen_kappa": ("Cohen's kappa", _number),
    "matthews_correlation": ("Matthews corr.", _number),
    "log_loss": ("log loss", _number),
    "brier_score": ("Brier score", _number),
    "expected_calibration_error": ("ECE", _share),
    "classwise_calibration_error": ("class-wise ECE", _share),
    "adaptive_calibration_error": ("adaptive ECE", _share),
    "confidence_when_right": ("conf. if right", _share),
    "confidence_when_wrong": ("conf. if wrong", _share),
    "aurc": ("AURC", _share),
}


def print_plain_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print names, which are folded where it is narrow, and columns of figures; a pipe counts as 100 columns."""
    table = Table(Column(header[0], overflow="fold"), box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for name in header[1:]:
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    Console(width=max(output.width, 100), markup=False, emoji=False).print(table)


def print_places(places: Mapping[str, Any]) -> None:
    """Print where things are, a line each, of those that exist."""
    width = max(map(len, places)) + 2
    for what, path in places.items():
        if path.exists():
            output.print(f"{what + ':':{width}}{path}", soft_wrap=True)


def print_profile(training: Any) -> None:
    """Print where the time of a training went, and what to do about the part that took longest."""
    if not training.profile:
        output.print("No profile: the training was over before.")
        return
    seconds = dict(sorted(training.profile.items(), key=lambda item: -item[1]))
    total = sum(seconds.values())
    table = Table("part", Column("seconds", justify="right"), Column("share", justify="right"))
    for part, spent in seconds.items():
        table.add_row(part, f"{spent:.1f}", f"{spent / total:.1%}")
    output.print(table)
    message = f"It is held up by {ADVICE[next(iter(seconds))]}. Memory: {training.peak_memory_mb:,.0f} MiB at most."
    output.print(message, soft_wrap=True)


def class_table(counts: Mapping[str, tuple[Mapping[str, int], Any]]) -> Table:
    """The images of each class and their share in each split; how the first split's compares with equal shares."""
    table = Table(Column("class", no_wrap=True))
    for split in counts:
        table.add_column(split, justify="right", no_wrap=True)
        table.add_column("%", justify="right", no_wrap=True)
    table.add_column("represented", no_wrap=True)
    if not counts:
        return table
    first, balance = next(iter(counts.values()))
    totals = [sum(of.values()) for of, _ in counts.values()]
    for name in first:
        cells = []
        for (of, _), total in zip(counts.values(), totals, strict=True):
            cells += [f"{of[name]:,}", f"{of[name] / total:.1%}"[:-1]]
        mark = "over" if name in balance.over else "under" if name in balance.under else ""
        table.add_row(name, *cells, f"{balance.times[name]:.2f}x {mark}")
    table.add_section()
    table.add_row("all", *(cell for total in totals for cell in (f"{total:,}", "")))
    table.add_row("imbalance", *(cell for _, each in counts.values() for cell in (f"{each.ratio:.1f}:1", "")))
    return table

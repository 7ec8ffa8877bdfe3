"""Tables that several commands print."""

from collections.abc import Iterable, Mapping, Sequence
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
        low, high = e.accuracy_ci
        table.add_row(
            e.split,
            e.format if e.tta == "none" else f"{e.format} + {e.tta}",
            f"{e.accuracy:.1%} [{low * 100:.1f}, {high * 100:.1f}]",
            f"{e.macro_f1:.1%}",
            *(f"{e.top_k[k]:.1%}" if k in e.top_k else "–" for k in ks),
            f"{e.expected_calibration_error:.1%}",
        )
    output.print("\n".join(sorted({f"{e.dataset} {e.split}: {e.images:,} images{e.of_all}" for e in evaluations})))
    output.print(table)
    print_places({"metrics": run.metrics_file, "model": run.model, "card": run.card})


def print_classes(evaluation: Any) -> None:
    """Print precision, recall and F1 of each class, and their averages over classes (macro) and images (weighted)."""
    table = Table(
        Column("class", no_wrap=True),
        *(Column(name, justify="right") for name in ("precision", "recall", "F1", "images")),
    )
    for name, score in evaluation.per_class.items():
        table.add_row(name, *(f"{getattr(score, key):.1%}" for key in SCORES), f"{score.support:,}")
    table.add_section()
    for average in ("macro", "weighted"):
        means = (f"{getattr(evaluation, f'{average}_{key}'):.1%}" for key in SCORES)
        table.add_row(f"{average} average", *means, f"{evaluation.images:,}")
    output.print(table)


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

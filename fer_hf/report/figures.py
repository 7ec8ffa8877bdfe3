"""The figures of the model card (confusion matrix, per-class bars, learning curves, reliability) and of `compare`.

Each function is pure: a record of `metrics.json` in, a Matplotlib `Figure` out. None uses pyplot, so no global state
is left behind and no display is needed. Colours are Okabe and Ito's (https://jfly.uni-koeln.de/color/) and `cividis`,
which people with a colour-vision deficiency can tell apart; bars and lines differ in more than hue. Figures are seven
inches wide, so that their text can be read at the width of a README.
"""

import textwrap
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, PercentFormatter, StrMethodFormatter

from fer_hf.files import written_whole
from fer_hf.report.facts import stage_name
from fer_hf.report.markdown import counted
from fer_hf.runs.records import Epoch, Evaluation, Training

BLUE, ORANGE, GREEN, VERMILION, GREY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#666666"
STYLE: Any = {
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "grid.color": "#DDDDDD",
    "legend.frameon": False,
    "text.parse_math": False,  # a dollar sign in the name of a class is a dollar sign
}
PERCENT = PercentFormatter(xmax=1, decimals=0)
FINE_PERCENT = PercentFormatter(xmax=1)
"""For axes whose ticks may stand closer than a percent."""


def _title(what: str, evaluation: Any) -> str:
    return _wrapped(f"{what}: {evaluation.dataset}, {evaluation.split} split ({counted(evaluation.images, 'image')})")


def _wrapped(title: str) -> str:
    """A title in lines that fit the width of a figure, whatever names are in it."""
    return textwrap.fill(" ".join(title.split()), width=75, max_lines=3, placeholder=" …")


@matplotlib.rc_context(STYLE)
def confusion_matrix_figure(evaluation: Evaluation, labels: Sequence[str]) -> Figure:
    """True class by predicted class: the share of the true class (colour, percent) and the count below it.

    Args:
        evaluation: with `confusion_matrix`, counts `(C, C)`, a row for each true class.
        labels: the names of the C classes.
    """
    counts = np.asarray(evaluation.confusion_matrix, dtype=float)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    figure = Figure(figsize=(7, 5.8), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(shares, cmap="cividis", norm=Normalize(0, 1), aspect="auto")
    for row, column in np.ndindex(*shares.shape):
        colour = "black" if shares[row, column] > 0.5 else "white"
        at = (column, row)
        centred: dict[str, Any] = {"color": colour, "ha": "center", "textcoords": "offset points"}
        axes.annotate(f"{shares[row, column]:.0%}", at, xytext=(0, 1), va="bottom", fontsize=11, **centred)
        axes.annotate(f"{counts[row, column]:,.0f}", at, xytext=(0, -2), va="top", fontsize=8, **centred)
    axes.set_xticks(range(len(labels)), labels)
    axes.set_yticks(range(len(labels)), labels)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set(xlabel="predicted class", ylabel="true class")
    figure.suptitle(_title("Confusion matrix", evaluation), fontsize=11)
    bar = figure.colorbar(image, ax=axes, format=PERCENT, shrink=0.8, label="share of the true class (row)")
    bar.outline.set_visible(False)
    return figure


@matplotlib.rc_context(STYLE)
def per_class_figure(evaluation: Evaluation, labels: Sequence[str]) -> Figure:
    """Precision, recall and F1 of each class as bars, with the number of its images (support) under its name."""
    scores = [evaluation.per_class[label] for label in labels]
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    places = np.arange(len(labels))
    for offset, metric, colour in ((-1, "precision", BLUE), (0, "recall", ORANGE)):
        heights = [getattr(score, metric) for score in scores]
        axes.bar(places + 0.27 * offset, heights, 0.25, label=metric, color=colour)
    bars = axes.bar(places + 0.27, [score.f1 for score in scores], 0.25, label="F1", color=GREEN, hatch="///")
    for bar in bars:
        bar.set(edgecolor="white", linewidth=0)
    shown = axes.bar_label(bars, [f"{score.f1:.0%}" for score in scores], padding=3, fontsize=8, color="#00664B")
    for text in shown:
        text.set_bbox({"facecolor": "white", "edgecolor": "none", "pad": 0.8})
    mean = evaluation.macro_f1
    axes.axhline(mean, color=GREY, linestyle="--", linewidth=1, zorder=0.6, label=f"macro F1, {mean:.1%}")
    axes.set_yticks(np.linspace(0, 1, 6))
    axes.set_xticks(places, [f"{label}\n{score.support:,}" for label, score in zip(labels, scores, strict=True)])
    axes.set(ylim=(0, 1.06), xlabel="class, and its number of images")
    axes.yaxis.set_major_formatter(PERCENT)
    axes.tick_params(axis="x", length=0)
    axes.grid(axis="y")
    figure.suptitle(_title("Scores by class", evaluation), fontsize=11)
    figure.legend(loc="outside lower center", ncols=4)
    return figure


def _curve(axes: Axes, history: Sequence[Epoch], key: str, **style: Any) -> None:
    """Draw one figure of the history; epochs that lack it are left out."""
    points = [(epoch.epoch, getattr(epoch, key)) for epoch in history if getattr(epoch, key) is not None]
    if points:
        axes.plot(*zip(*points, strict=True), markersize=4, **style)


@matplotlib.rc_context(STYLE)
def learning_curves_figure(training: Training, dataset: str) -> Figure:
    """Loss of both splits, and accuracy of both and macro F1 on the validation split, by epoch.

    Args:
        training: with a history; a dotted line marks the epoch whose weights were kept, and a solid one the beginning
            of each stage after the first.
        dataset: the name of the data, for the title.
    """
    history, best = training.history, training.best
    figure = Figure(figsize=(7, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    _curve(left, history, "train_loss", label="training", color=BLUE, marker="o")
    _curve(left, history, "validation_loss", label="validation", color=VERMILION, marker="s", linestyle="--")
    _curve(right, history, "accuracy", label="validation accuracy", color=BLUE, marker="o")
    _curve(right, history, "macro_f1", label="validation macro F1", color=ORANGE, marker="s", linestyle="--")
    _curve(right, history, "train_accuracy", label="training accuracy", color=GREY, marker="^", linestyle="-.")
    left.set_title("Loss")
    right.set_title("Scores")
    right.yaxis.set_major_formatter(FINE_PERCENT)
    for axes in (left, right):
        if best:
            label = f"best: epoch {best.epoch:g}"
            axes.axvline(best.epoch, color=GREY, linestyle=":", linewidth=1.5, label=label)
        _mark_stages(axes, training)
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid()
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=2, fontsize=8.5)
    figure.suptitle(_wrapped(f"Learning curves: {dataset}, training and validation splits"), fontsize=11)
    return figure


def _mark_stages(axes: Axes, training: Training) -> None:
    """A line where each stage begins, with its name beside it; nothing for a training in one piece."""
    if len(training.stages) < 2:
        return
    starts = [0.0, *accumulate(stage.epochs for stage in training.stages)]
    axes.set_xlim(left=0)
    for number, (start, stage) in enumerate(zip(starts, training.stages, strict=False), 1):
        if start:
            axes.axvline(start, color="black", linewidth=0.8)
        name = textwrap.shorten(f"{number}: {stage_name(stage)}", 24, placeholder="…")
        at: dict[str, Any] = {"xycoords": ("data", "axes fraction"), "textcoords": "offset points"}
        # below the curves, which it must not hide
        text = axes.annotate(name, (start, 1), xytext=(3, -3), rotation=90, va="top", fontsize=8, zorder=1, **at)
        text.set_in_layout(False)


@matplotlib.rc_context(STYLE)
def reliability_figure(evaluation: Evaluation) -> Figure:
    """Accuracy against confidence (above), and how many images have each confidence (below).

    After Guo et al. 2017, https://arxiv.org/abs/1706.04599.

    Args:
        evaluation: with the bins of `reliability`; empty ones are left out.
    """
    bins = [(b.confidence, b.accuracy, b.count) for b in evaluation.reliability if b.count]
    confidence, accuracy, count = np.array(bins).T
    figure = Figure(figsize=(7, 6), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    above.plot([0, 1], [0, 1], color=GREY, linestyle="--", linewidth=1, label="perfectly calibrated")
    above.vlines(confidence, accuracy, confidence, color=VERMILION, alpha=0.5, linewidth=5, label="gap")
    above.plot(confidence, accuracy, color=BLUE, marker="o", label="this model")
    error = evaluation.expected_calibration_error
    above.text(0.98, 0.04, f"expected calibration error: {error:.1%}", transform=above.transAxes, ha="right")
    above.set(xlim=(0, 1), ylim=(0, 1), ylabel="accuracy")
    above.yaxis.set_major_formatter(PERCENT)
    above.legend(loc="upper left")
    width = min([0.05, *(0.85 * np.diff(confidence))])  # bars stand at the mean of their bin and must not overlap
    below.bar(confidence, count / max(count.sum(), 1), width=width, color=BLUE)
    below.set(xlabel="confidence (probability of the predicted class)", ylabel="share of images")
    below.xaxis.set_major_formatter(PERCENT)
    below.yaxis.set_major_formatter(FINE_PERCENT)
    for axes in (above, below):
        axes.grid()
    figure.suptitle(_title("Reliability", evaluation), fontsize=11)
    return figure


@matplotlib.rc_context(STYLE)
def comparison_figure(rows: Sequence[Any], metric: str, x: str, cost: str | None = None) -> Figure:
    """A metric against something else: a numbered point with its 95 % interval for each row.

    The axis is logarithmic when the largest value is more than five times the least. Values that are text stand side
    by side. The Pareto front of a cost is drawn; points of other values are joined where none stands above another.

    Args:
        rows: numbered in their order; each has `name`, `mean`, `low` and `high` (shares in [0, 1]), `x` (a number, or
            text in all of them; None leaves it out), and the `dataset`, `split` and `images` that all share.
        metric: what `mean` is a mean of, such as "macro_f1".
        x: the name of what `x` is, such as "latency" or "data.fraction".
        cost: what is written at the axis of something of which less is better.
    """
    drawn = [(number, row) for number, row in enumerate(rows, 1) if row.x is not None]
    texts = sorted({row.x for _, row in drawn if isinstance(row.x, str)})
    placed = [(number, texts.index(row.x) if texts else row.x, row) for number, row in drawn]
    placed.sort(key=lambda each: (each[1], -each[2].mean))
    places, mean, low, high = np.array([(at, row.mean, row.low, row.high) for _, at, row in placed]).reshape(-1, 4).T
    named = metric.replace("_", " ").replace("f1", "F1")
    figure = Figure(figsize=(7, 5), layout="constrained")
    axes = figure.subplots()
    front = np.zeros(len(placed), dtype=bool)
    if cost:
        front = mean > np.maximum.accumulate(np.r_[-np.inf, mean])[:-1]  # better than all that cost less
        axes.plot(places[front], mean[front], color=ORANGE, drawstyle="steps-post", label=f"best up to this {x}")
    elif not texts and len({*places}) == len(places):
        axes.plot(places, mean, color=BLUE, linewidth=1, alpha=0.5)
    gaps = np.maximum([mean - low, high - mean], 0)
    axes.errorbar(places, mean, gaps, fmt="none", ecolor=GREY, elinewidth=1, capsize=2, label="95 % interval")
    axes.scatter(places[front], mean[front], 30, color=ORANGE, edgecolor="black", linewidth=0.6, zorder=3)
    axes.scatter(places[~front], mean[~front], 24, color=BLUE, marker="s", zorder=3)
    if texts:
        axes.set_xticks(range(len(texts)), texts)
    elif 0 < places.min(initial=np.inf) < places.max(initial=-np.inf) / 5:
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
    axes.margins(0.12)
    axes.set(xlabel=cost or x, ylabel=named)
    axes.yaxis.set_major_formatter(FINE_PERCENT)
    axes.grid()
    figure.suptitle(_title(f"{named[0].upper()}{named[1:]} and {x}", rows[0]), fontsize=11)
    figure.legend(loc="outside lower center", ncols=2)
    for number, at, row in placed:
        axes.annotate(str(number), (at, row.mean), (5, 5), textcoords="offset points", fontsize=9)
    names = [Line2D([], [], linestyle="none", label=f"{number}  {row.name}") for number, row in drawn]
    figure.legend(handles=names, loc="outside right center", fontsize=8, handlelength=0, handletextpad=0)
    return figure


def write_figures(
    folder: Path, evaluation: Evaluation, labels: Sequence[str], training: Training | None, trained_on: str
) -> list[str]:
    """Write the PNG files at 150 dpi and return the stems of their names, without the curves if there is no history.

    Curves of an earlier run that lie in `folder` are removed in that case. Raises `OSError` when it cannot be written.
    """
    figures = {
        "confusion_matrix": confusion_matrix_figure(evaluation, labels),
        "per_class": per_class_figure(evaluation, labels),
        "reliability": reliability_figure(evaluation),
    }
    if training and training.history:
        figures["learning_curves"] = learning_curves_figure(training, trained_on)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "learning_curves.png").unlink(missing_ok=True)
    for name, figure in figures.items():
        save_figure(figure, folder / f"{name}.png")
    return list(figures)


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure as PNG, equal bytes for an equal figure."""
    with written_whole(path) as aside, matplotlib.rc_context(STYLE):  # ticks are made while drawing
        figure.savefig(aside, dpi=150, metadata={"Software": None})

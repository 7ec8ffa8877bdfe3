"""The figures of the model card: confusion matrix, scores by class, learning curves, reliability.

Each function is pure: a record of `metrics.json` in, a Matplotlib `Figure` out.
"""

import textwrap
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any, Literal

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from fer_hf.report.facts import stage_name
from fer_hf.report.figures.style import (
    BLUE,
    FINE_PERCENT,
    GREEN,
    GREY,
    ORANGE,
    PERCENT,
    STYLE,
    VERMILION,
    save_figure,
    title_of,
    wrapped,
)
from fer_hf.runs.records import Epoch, Evaluation, Training

ALT = {
    "confusion_matrix": "Confusion matrix: share and number of images by true and predicted class",
    "per_class": "Bars: precision, recall and F1 of each class",
    "reliability": "Reliability diagram: accuracy against confidence, with a histogram of confidences",
    "learning_curves": "Learning curves: losses and scores by epoch",
}
"""What is seen on the figures of the card, for those who do not see them."""


@matplotlib.rc_context(STYLE)
def confusion_matrix_figure(
    evaluation: Evaluation, labels: Sequence[str], share_of: Literal["true", "predicted"] = "true"
) -> Figure:
    """True class by predicted class: the share of one of them (colour, percent) and the count below it.

    Args:
        evaluation: with `confusion_matrix`, counts `(C, C)`, a row for each true class.
        labels: the names of the C classes.
        share_of: "true" divides by the images of the true class (recall), "predicted" by the answers of the predicted
            class (precision).
    """
    counts = np.asarray(evaluation.confusion_matrix, dtype=float)
    shares = counts / np.maximum(counts.sum(axis=1 if share_of == "true" else 0, keepdims=True), 1)
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
    figure.suptitle(title_of("Confusion matrix", evaluation), fontsize=11)
    line = "row" if share_of == "true" else "column"
    bar = figure.colorbar(image, ax=axes, format=PERCENT, shrink=0.8, label=f"share of the {share_of} class ({line})")
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
    figure.suptitle(title_of("Scores by class", evaluation), fontsize=11)
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
    figure.suptitle(wrapped(f"Learning curves: {dataset}, training and validation splits"), fontsize=11)
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
    figure.suptitle(title_of("Reliability", evaluation), fontsize=11)
    return figure


def write_figures(
    folder: Path, evaluation: Evaluation, labels: Sequence[str], training: Training | None, trained_on: str
) -> list[str]:
    """Write figures as PNG (150 dpi) and SVG; returns the stems of their names, without the curves of no history.

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
    for ending in (".png", ".svg"):
        (folder / "learning_curves").with_suffix(ending).unlink(missing_ok=True)
    for name, figure in figures.items():
        save_figure(figure, folder / f"{name}.png", ALT[name])
    return list(figures)

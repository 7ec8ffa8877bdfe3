"""The figures of calibration: reliability before and after, over all images and for each class, and abstention.

Each function is pure: predictions and a record of `metrics.json` in, a Matplotlib `Figure` out.
"""

from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.special import softmax

from fer_hf.metrics import Array, calibration_error_per_class, expected_calibration_error, reliability, risk_coverage
from fer_hf.metrics.calibration import bin_of
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
)
from fer_hf.runs.analyses import Calibration
from fer_hf.runs.predictions import Predictions
from fer_hf.runs.records import Evaluation

BINS = 15
CLASS_BINS = 10
FEWEST = 10
"""Images of a bin of one class, below which its frequency says nothing and is not drawn."""
COLUMNS = 4
BEFORE: Any = {"color": VERMILION, "linestyle": "--", "marker": "s", "markersize": 4, "clip_on": False}
AFTER: Any = {"color": BLUE, "linestyle": "-", "marker": "o", "markersize": 4, "clip_on": False}


@matplotlib.rc_context(STYLE)
def calibration_figure(calibration: Calibration, predictions: Predictions, evaluation: Evaluation) -> Figure:
    """Accuracy against confidence before and after temperature scaling (above), and how many images have which (below).

    After Guo et al. 2017, https://arxiv.org/abs/1706.04599.

    Args:
        calibration: the record.
        predictions: what it was measured on, as the file has them.
        evaluation: the figures of the same file.
    """
    figure = Figure(figsize=(7, 6), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    above.plot([0, 1], [0, 1], color=GREY, linewidth=1, label="perfectly calibrated")
    edges = np.linspace(0, 1, BINS + 1)
    for (name, probabilities), style in zip(_before_and_after(calibration, predictions), (BEFORE, AFTER), strict=True):
        rows = reliability(probabilities, predictions.labels, BINS)
        label = f"{name}: calibration error {expected_calibration_error(rows):.1%}"
        above.plot([row["confidence"] for row in rows], [row["accuracy"] for row in rows], label=label, **style)
        counts = np.histogram(probabilities.max(axis=1), edges)[0]
        line = {key: style[key] for key in ("color", "linestyle")}
        below.stairs(counts / len(probabilities), edges, linewidth=1.5, **line)
    above.set(xlim=(0, 1), ylim=(0, 1), ylabel="accuracy")
    above.yaxis.set_major_formatter(PERCENT)
    above.legend(loc="upper left")
    below.set(xlabel="confidence (probability of the predicted class)", ylabel="share of images")
    below.xaxis.set_major_formatter(PERCENT)
    below.yaxis.set_major_formatter(FINE_PERCENT)
    for axes in (above, below):
        axes.grid()
    figure.suptitle(title_of("Reliability before and after temperature scaling", evaluation), fontsize=11)
    return figure


@matplotlib.rc_context(STYLE)
def class_calibration_figure(calibration: Calibration, predictions: Predictions, evaluation: Evaluation) -> Figure:
    """For each class, how often an image is of it, against the probability that was given to it.

    Points of fewer than ten images are left out. The arguments are those of `calibration_figure`.
    """
    names = predictions.label_names
    rows = -(-len(names) // COLUMNS)
    figure = Figure(figsize=(7, 1.2 + 2.0 * rows), layout="constrained")
    grid = figure.subplots(rows, COLUMNS, sharex=True, sharey=True, squeeze=False)
    both = _before_and_after(calibration, predictions)
    errors = [calibration_error_per_class(probabilities, predictions.labels, CLASS_BINS) for _, probabilities in both]
    for label, name in enumerate(names):
        axes = grid.flat[label]
        axes.plot([0, 1], [0, 1], color=GREY, linewidth=1)
        for (when, probabilities), style in zip(both, (BEFORE, AFTER), strict=True):
            points = _frequencies(probabilities[:, label], predictions.labels == label)
            axes.plot(*points, label=when, **(style | {"markersize": 3}))
        before, after = (error[label] for error in errors)
        axes.set_title(f"{name}\n{before:.1%} → {after:.1%}", fontsize=8.5)
        _finish_small(axes)
    for axes in grid.flat[len(names) :]:
        axes.set_axis_off()
    for axes in grid.flat[max(0, len(names) - COLUMNS) : len(names)]:
        axes.tick_params(labelbottom=True)
        axes.set_xlabel("probability", fontsize=8.5)
    for axes in grid[:, 0]:
        axes.set_ylabel("how often it is true", fontsize=8.5)
    figure.legend(*grid.flat[0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    figure.suptitle(title_of("Reliability of each class and its calibration error", evaluation), fontsize=11)
    return figure


@matplotlib.rc_context(STYLE)
def risk_coverage_figure(calibration: Calibration, predictions: Predictions, evaluation: Evaluation) -> Figure:
    """The share of wrong answers against the share of images that are answered, the surest first.

    After Geifman and El-Yaniv 2017, https://arxiv.org/abs/1705.08500. Points are the thresholds of the record, with
    the intervals of their errors. The arguments are those of `calibration_figure`.
    """
    probabilities = softmax(calibration.after(predictions.logits), axis=1)
    curve = risk_coverage(probabilities, predictions.labels)
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    axes.plot(curve.x, curve.y, color=BLUE, label="surest answers first")
    axes.axhline(curve.y[-1], color=GREY, linestyle=":", linewidth=1, label=f"all images: {curve.y[-1]:.1%} wrong")
    colours = (VERMILION, ORANGE, GREEN)
    for number, abstention in enumerate(calibration.abstention):
        colour, error = colours[number % len(colours)], abstention.error
        if error is None:
            continue
        gaps = [[abs(error - end)] for end in abstention.error_ci or (error, error)]
        label = f"from {abstention.threshold:.1%} on, for {abstention.target_error:.0%} wrong: {error:.1%}"
        style: Any = {"color": colour, "marker": "osD"[number % 3], "capsize": 3, "linestyle": "none", "zorder": 3}
        axes.errorbar([abstention.coverage], [error], gaps, label=label, **style)
        axes.axhline(abstention.target_error, color=colour, linestyle="--", linewidth=1)
    axes.set(xlim=(0, 1), ylim=0, xlabel="share of images that are answered", ylabel="share of answers that are wrong")
    axes.xaxis.set_major_formatter(PERCENT)
    axes.yaxis.set_major_formatter(FINE_PERCENT)
    axes.grid()
    axes.legend(loc="lower right", frameon=True, framealpha=1, edgecolor="none")
    figure.suptitle(title_of("Abstention", evaluation), fontsize=11)
    return figure


def write_calibration_figures(
    folder: Path, calibration: Calibration, predictions: Predictions, evaluation: Evaluation
) -> list[str]:
    """Write calibration.png, calibration_per_class.png and risk_coverage.png; returns the stems of their names."""
    figures = {
        "calibration": calibration_figure(calibration, predictions, evaluation),
        "calibration_per_class": class_calibration_figure(calibration, predictions, evaluation),
        "risk_coverage": risk_coverage_figure(calibration, predictions, evaluation),
    }
    folder.mkdir(parents=True, exist_ok=True)
    for name, figure in figures.items():
        save_figure(figure, folder / f"{name}.png")
    return list(figures)


def _before_and_after(calibration: Calibration, predictions: Predictions) -> list[tuple[str, Array]]:
    """The probabilities before and after, each under what a legend says of them."""
    after = f"after (temperature {calibration.temperature:.2f})"
    both = {"before": calibration.before(predictions.logits), after: calibration.after(predictions.logits)}
    return [(name, softmax(logits, axis=1)) for name, logits in both.items()]


def _frequencies(probability: Array, own: Array) -> tuple[list[float], list[float]]:
    """Mean probability of the bins with images enough, and how often their images are of the class."""
    bins = bin_of(probability, CLASS_BINS)
    groups = [bins == index for index in range(CLASS_BINS) if (bins == index).sum() >= FEWEST]
    return [float(probability[group].mean()) for group in groups], [float(own[group].mean()) for group in groups]


def _finish_small(axes: Axes) -> None:
    axes.set(xlim=(0, 1), ylim=(0, 1), xticks=(0, 0.5, 1), yticks=(0, 0.5, 1))
    axes.xaxis.set_major_formatter(PERCENT)
    axes.yaxis.set_major_formatter(PERCENT)
    axes.tick_params(labelsize=8)
    axes.grid()

"""Curves over all thresholds: ROC and precision-recall of each class, and risk against coverage."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fer_hf.metrics import Array
from fer_hf.report.figures.style import BLUE, GREY, PERCENT, STYLE, class_styles, title_of
from fer_hf.runs.records import Evaluation


@dataclass(frozen=True)
class Curve:
    """Points of a curve, `x` and `y` `(M,)` in [0, 1], and the area under it."""

    x: Array
    y: Array
    area: float


@matplotlib.rc_context(STYLE)
def roc_and_precision_figure(evaluation: Evaluation, roc: Mapping[str, Curve], recall: Mapping[str, Curve]) -> Figure:
    """Each class against all others: ROC on the left, precision against recall on the right.

    Args:
        evaluation: what they are of, for the title.
        roc: by class, the true positive rate by the false positive rate.
        recall: by class, precision by recall.
    """
    figure = Figure(figsize=(7, 4.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    styles = class_styles(list(roc))
    left.plot([0, 1], [0, 1], color=GREY, linestyle=":", linewidth=1)
    for label, style in styles.items():
        named = f"{label}: {roc[label].area:.3f}, {recall[label].area:.3f}"
        line: dict[str, Any] = {"color": style.colour, "marker": style.marker, "markersize": 4, "linewidth": 1.3}
        left.plot(roc[label].x, roc[label].y, markevery=0.2, **line)
        right.plot(recall[label].x, recall[label].y, markevery=0.2, **line)
        left.plot([], [], label=named, **line)
    left.set(xlabel="false positive rate", ylabel="true positive rate", title="ROC")
    right.set(xlabel="recall", ylabel="precision", title="Precision and recall")
    for axes in (left, right):
        _unit_square(axes)
    figure.suptitle(title_of("Each class against the others", evaluation), fontsize=11)
    figure.legend(loc="outside lower center", ncols=3, fontsize=8.5, title="class: area under ROC, average precision")
    return figure


@matplotlib.rc_context(STYLE)
def risk_coverage_figure(evaluation: Evaluation, curve: Curve, marked: Sequence[tuple[float, float]] = ()) -> Figure:
    """The share of wrong answers among the most confident ones, by the share of images that are answered.

    Args:
        evaluation: what it is of, for the title.
        curve: the risk (`y`) by the coverage (`x`).
        marked: coverage and risk of thresholds that were chosen.
    """
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    axes.plot(curve.x, curve.y, color=BLUE, label=f"answers above a confidence (area {curve.area:.3f})")
    axes.axhline(1 - evaluation.accuracy, color=GREY, linestyle="--", linewidth=1, label="all images answered")
    if marked:
        axes.scatter(*zip(*marked, strict=True), marker="D", color="black", zorder=3, label="thresholds chosen")
    axes.set(xlim=(0, 1), xlabel="coverage: share of images answered", ylabel="risk: share of answers wrong")
    axes.set_ylim(bottom=0)
    axes.xaxis.set_major_formatter(PERCENT)
    axes.yaxis.set_major_formatter(PERCENT)
    axes.grid()
    axes.legend(loc="lower right")
    figure.suptitle(title_of("Risk and coverage", evaluation), fontsize=11)
    return figure


def _unit_square(axes: Axes) -> None:
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.02), aspect="equal")
    axes.xaxis.set_major_formatter(PERCENT)
    axes.yaxis.set_major_formatter(PERCENT)
    axes.grid()

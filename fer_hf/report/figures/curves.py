"""Curves over all thresholds: ROC and precision-recall of each class, and risk against coverage."""

from collections.abc import Mapping
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fer_hf.metrics import Curve
from fer_hf.report.figures.style import BLUE, FINE_PERCENT, GREY, PERCENT, STYLE, class_styles, title_of
from fer_hf.runs.records import Evaluation


@matplotlib.rc_context(STYLE)
def roc_and_precision_figure(
    evaluation: Evaluation,
    roc: Mapping[str, Curve],
    recall: Mapping[str, Curve],
    areas: Mapping[str, tuple[float, float]],
) -> Figure:
    """Each class against all others: ROC on the left, precision against recall on the right.

    Args:
        evaluation: what they are of, for the title.
        roc: by class, the true positive rate by the false positive rate.
        recall: by class, precision by recall.
        areas: by class, the area below the ROC curve and the average precision.
    """
    figure = Figure(figsize=(7, 4.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    styles = class_styles(list(roc))
    left.plot([0, 1], [0, 1], color=GREY, linestyle=":", linewidth=1)
    for label, style in styles.items():
        named = "{}: {:.3f}, {:.3f}".format(label, *areas[label])
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
def risk_coverage_figure(evaluation: Evaluation, curve: Curve, area: float) -> Figure:
    """The share of wrong answers among the most confident ones, by the share of images that are answered.

    Args:
        evaluation: what it is of, for the title.
        curve: the risk (`y`) by the coverage (`x`).
        area: below the curve.
    """
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    axes.plot(curve.x, curve.y, color=BLUE, label=f"surest answers first (area {area:.3f})")
    axes.axhline(1 - evaluation.accuracy, color=GREY, linestyle="--", linewidth=1, label="all images answered")
    axes.set(xlim=(0, 1), xlabel="share of images that are answered", ylabel="share of answers that are wrong")
    axes.set_ylim(bottom=0)
    axes.xaxis.set_major_formatter(PERCENT)
    axes.yaxis.set_major_formatter(FINE_PERCENT)
    axes.grid()
    axes.legend(loc="lower right")
    figure.suptitle(title_of("Risk and coverage", evaluation), fontsize=11)
    return figure


def _unit_square(axes: Axes) -> None:
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.02), aspect="equal")
    axes.xaxis.set_major_formatter(PERCENT)
    axes.yaxis.set_major_formatter(PERCENT)
    axes.grid()

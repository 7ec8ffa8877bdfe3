"""The figure of `slices`: the accuracy of each group with its interval."""

import textwrap
from typing import Any

import matplotlib
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from fer_hf.report.figures.style import BLUE, GREY, ORANGE, PERCENT, STYLE, title_of
from fer_hf.report.slices import group_name
from fer_hf.runs.analyses import Slices
from fer_hf.runs.records import Evaluation

ROW = 0.3
"""Inches of a group."""
LEAST = 0.2
"""The least range of the axis: on a narrower one, a difference of a point looks like a gulf."""


@matplotlib.rc_context(STYLE)
def slices_figure(slices: Slices, evaluation: Evaluation) -> Figure:
    """A dot for the accuracy of each group, with its 95 % interval, beside what its classes alone would give.

    Small groups are hollow and grey. A dashed line marks the accuracy on all images.

    Args:
        slices: with at least one group.
        evaluation: the one that is sliced.
    """
    groups = slices.groups
    figure = Figure(figsize=(7, 1.9 + ROW * len(groups)), layout="constrained")
    axes = figure.subplots()
    axes.axvline(evaluation.accuracy, color=GREY, linestyle="--", linewidth=1)
    for row, group in enumerate(groups):
        colour, inside = (GREY, "white") if group.small else (BLUE, BLUE)
        axes.plot([group.accuracy.low, group.accuracy.high], [row, row], color=colour, linewidth=1.5)
        axes.plot(group.accuracy.value, row, "o", color=colour, markerfacecolor=inside, markersize=7)
        if group.expected is not None:
            axes.plot(group.expected, row, "|", color=ORANGE, markersize=13, markeredgewidth=2.5, zorder=2.5)
    names = [textwrap.shorten(group_name(group.values), 40, placeholder="…") for group in groups]
    axes.set_yticks(range(len(groups)), [f"{name}  ({g.images:,})" for name, g in zip(names, groups, strict=True)])
    axes.set(ylim=(len(groups) - 0.4, -0.6), xlabel="accuracy")
    low, high = axes.get_xlim()
    more = max(0, LEAST - (high - low)) / 2
    axes.set_xlim(max(low - more, -0.02), min(high + more, 1.02))
    axes.xaxis.set_major_locator(MaxNLocator(nbins=8, steps=[1, 2, 5, 10]))  # whole percents
    axes.xaxis.set_major_formatter(PERCENT)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x")
    figure.suptitle(title_of(f"Accuracy by {' and '.join(slices.attributes)}", evaluation), fontsize=11)
    figure.legend(handles=_legend(slices, evaluation), loc="outside lower center", ncols=2)
    return figure


def _legend(slices: Slices, evaluation: Evaluation) -> list[Line2D]:
    """The marks that the figure has, in words."""
    dot: dict[str, Any] = {"marker": "o", "markersize": 7, "linewidth": 1.5}
    marks = [Line2D([], [], color=BLUE, label="group (images), 95 % interval", **dot)]
    if any(group.small for group in slices.groups):
        marks.append(Line2D([], [], color=GREY, markerfacecolor="white", label="small group", **dot))
    line = {"color": GREY, "linestyle": "--", "linewidth": 1}
    marks.append(Line2D([], [], label=f"all images, {evaluation.accuracy:.1%}", **line))  # type: ignore[arg-type]
    if any(group.expected is not None for group in slices.groups):
        tick: dict[str, Any] = {"marker": "|", "markersize": 13, "markeredgewidth": 2.5, "linestyle": "none"}
        marks.append(Line2D([], [], color=ORANGE, label="what its classes alone would give", **tick))
    return marks

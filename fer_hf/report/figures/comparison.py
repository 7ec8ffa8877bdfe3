"""The figure of `compare`: a metric against what it costs, or against anything else."""

from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

from fer_hf.report.figures.style import BLUE, FINE_PERCENT, GREY, ORANGE, STYLE, title_of


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
    figure.suptitle(title_of(f"{named[0].upper()}{named[1:]} and {x}", rows[0]), fontsize=11)
    figure.legend(loc="outside lower center", ncols=2)
    for number, at, row in placed:
        axes.annotate(str(number), (at, row.mean), (5, 5), textcoords="offset points", fontsize=9)
    names = [Line2D([], [], linestyle="none", label=f"{number}  {row.name}") for number, row in drawn]
    figure.legend(handles=names, loc="outside right center", fontsize=8, handlelength=0, handletextpad=0)
    return figure

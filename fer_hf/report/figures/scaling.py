"""Accuracy against training images, with the fitted curve and how unsure it is."""

from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

from fer_hf.metrics.scaling import FARTHEST, PowerLaw
from fer_hf.report.figures.style import BLUE, FINE_PERCENT, GREY, ORANGE, STYLE, wrapped


@matplotlib.rc_context(STYLE)
def scaling_figure(rows: Sequence[Any], metric: str, law: PowerLaw) -> Figure:
    """The runs that were fitted, and the curve as far as it is believed; dashed beyond the largest run.

    Args:
        rows: each has `images`, and `mean`, `low` and `high` of the metric, in [0, 1].
        metric: such as "accuracy".
        law: what was fitted to them.
    """
    images = np.array([row.images for row in rows], dtype=float)
    mean, low, high = np.array([(row.mean, row.low, row.high) for row in rows]).T
    figure = Figure(figsize=(7, 4.2), layout="constrained")
    axes = figure.subplots()
    grid = np.geomspace(images.min(), FARTHEST * images.max(), 80)
    error, least, most = np.array([law.error(float(each)) for each in grid]).T
    axes.fill_between(grid, 1 - most, 1 - least, color=ORANGE, alpha=0.18, linewidth=0, label="95 % interval of a run")
    known = grid <= images.max()
    axes.plot(grid[known], 1 - error[known], color=ORANGE, label=f"error falls as images to the −{law.exponent:.2f}")
    axes.plot(grid[~known], 1 - error[~known], color=ORANGE, linestyle="--", label="beyond the largest run")
    axes.errorbar(
        images,
        mean,
        np.maximum([mean - low, high - mean], 0),
        fmt="o",
        color=BLUE,
        ecolor=GREY,
        capsize=2,
        label="runs",
    )
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.yaxis.set_major_formatter(FINE_PERCENT)
    axes.set(xlabel="training images", ylabel=metric.replace("_", " ").replace("f1", "F1"))
    axes.grid()
    axes.legend(loc="lower right", fontsize=8.5)
    figure.suptitle(wrapped(f"{metric.replace('_', ' ').capitalize()} and training images"), fontsize=11)
    return figure

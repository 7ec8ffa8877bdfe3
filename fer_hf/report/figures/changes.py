"""How a model differs from another one, class by class."""

from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from fer_hf.report.figures.style import BLUE, GREY, STYLE, VERMILION, wrapped


@matplotlib.rc_context(STYLE)
def changes_figure(changes: Sequence[Any], name: str, baseline: str) -> Figure:
    """Differences in points with their 95 % intervals; what is more than chance is filled.

    Args:
        changes: each has `figure`, `points`, `low`, `high` and `more_than_chance`, as `evaluation.compare.Change`.
        name, baseline: the two models.
    """
    figure = Figure(figsize=(7, 1.3 + 0.36 * len(changes)), layout="constrained")
    axes = figure.subplots()
    axes.axvline(0, color=GREY, linewidth=1)
    for place, change in enumerate(changes):
        colour = BLUE if change.points >= 0 else VERMILION
        face = colour if change.more_than_chance else "white"
        axes.plot([change.low, change.high], [place, place], color=colour, linewidth=1.5)
        axes.plot(change.points, place, marker="o", color=colour, markerfacecolor=face, markersize=7)
        axes.annotate(f"{change.points:+.1f}", (change.points, place), (0, 7), textcoords="offset points", fontsize=8)
    axes.set_yticks(np.arange(len(changes)), [change.figure.replace("_", " ") for change in changes])
    axes.set_ylim(len(changes) - 0.4, -0.8)
    axes.set_xlabel("points, with 95 % interval (filled: more than chance)")
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x")
    figure.suptitle(wrapped(f"{name} against {baseline}"), fontsize=11)
    return figure

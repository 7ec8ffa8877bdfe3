"""Images as points on a plane, coloured by what they show or where they are from."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from fer_hf.metrics import Array
from fer_hf.report.figures.style import BLUE, GREEN, GREY, ORANGE, STYLE, VERMILION, wrapped

COLOURS = (BLUE, ORANGE, GREEN, VERMILION, "#CC79A7", "#56B4E9", "black", GREY, "#F0E442")
MARKERS = "os^Dv<>pP"


@matplotlib.rc_context(STYLE)
def planes_figure(planes: Mapping[str, Array], groups: Mapping[str, Sequence[Any]], title: str) -> Figure:
    """A row for each plane, a column for each way to group the images; groups differ in colour and marker.

    Args:
        planes: places `(N, 2)` by what is written beside the row, such as "PCA" or "t-SNE".
        groups: the group of each of the N images by what is written above the column, such as "by class".
        title: above all.
    """
    columns = len(groups)
    # One column leaves room for the planes beside one another.
    shape = (len(planes), columns) if columns > 1 else (1, len(planes))
    figure = Figure(figsize=(7, 0.9 + 3.2 * shape[0] + 0.3 * columns), layout="constrained")
    grid = figure.subplots(*shape, squeeze=False)
    cells = [(plane, group) for plane in planes for group in groups]
    for axes, (plane, group) in zip(grid.flat, cells, strict=True):
        _scatter(axes, planes[plane], groups[group])
        axes.set_title(f"{plane}, {group}", fontsize=10)
        axes.set_xticks([])
        axes.set_yticks([])
    places: Any = ("outside lower center",) if columns == 1 else ("outside lower left", "outside lower right")
    for axes, place in zip(grid[-1, :columns], places, strict=True):
        handles, labels = axes.get_legend_handles_labels()
        figure.legend(handles, labels, loc=place, ncols=4 // columns, fontsize=8, markerscale=2)
    figure.suptitle(wrapped(title), fontsize=11)
    return figure


def _scatter(axes: Any, places: Array, groups: Sequence[Any]) -> None:
    names = list(dict.fromkeys(sorted(groups)))
    of = np.array([names.index(group) for group in groups])
    for number, name in enumerate(names):
        style = {"color": COLOURS[number % len(COLOURS)], "marker": MARKERS[number % len(MARKERS)]}
        chosen = places[of == number]
        axes.scatter(*chosen.T, s=9, alpha=0.6, linewidth=0, label=str(name), zorder=2, **style)

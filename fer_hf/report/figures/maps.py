"""Maps of what a network looks at: over a face, and the mean of each class."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import matplotlib
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from fer_hf.metrics import Array
from fer_hf.report.figures.style import STYLE, wrapped

COLOURS = matplotlib.colormaps["viridis"]
OPACITY = 0.65
"""Of a map where it is highest; where it is 0, the face alone is seen."""


def overlay(face: Array, heat: Array) -> Array:
    """A face under a map: the higher the map, the more of its colour.

    Args:
        face: `(h, w, 3)` in [0, 1].
        heat: the map, `(h, w)` in [0, 1].

    Returns:
        `(h, w, 3)` in [0, 1].

    Example:
        >>> import numpy as np
        >>> overlay(np.ones((1, 1, 3)), np.zeros((1, 1))).tolist()
        [[[1.0, 1.0, 1.0]]]
    """
    opacity = OPACITY * heat[..., None]
    return (1 - opacity) * face + opacity * COLOURS(heat)[..., :3]


@dataclass(frozen=True)
class MeanMap:
    """The mean of some maps `(h, w)` and of the faces under them `(h, w, 3)`, both in [0, 1]."""

    heat: Array
    face: Array
    images: int


@matplotlib.rc_context(STYLE)
def mean_maps_figure(rows: Mapping[str, Mapping[str, MeanMap]], labels: Sequence[str], title: str) -> Figure:
    """The mean map of each class over its mean face, with the number of images below.

    Args:
        rows: by what is written beside a row, such as "right": the mean of each class that has images.
        labels: the classes, a column each.
        title: above all.
    """
    edge = 6.6 / len(labels)
    lines = wrapped(title)
    figure = Figure(figsize=(7, 0.7 + 0.18 * lines.count("\n") + (edge + 0.42) * len(rows)), layout="constrained")
    grid = figure.subplots(len(rows), len(labels), squeeze=False)
    for row, (name, means) in zip(grid, rows.items(), strict=True):
        for axes, label in zip(row, labels, strict=True):
            axes.set_xticks([])
            axes.set_yticks([])
            axes.spines[:].set_visible(False)
            if mean := means.get(label):
                axes.imshow(overlay(mean.face, mean.heat))
                axes.set_xlabel(f"{mean.images:,} image{'s' * (mean.images != 1)}", fontsize=8)
            else:
                axes.text(0.5, 0.5, "none", ha="center", va="center", fontsize=8, transform=axes.transAxes)
        row[0].set_ylabel(name, fontsize=9)
    for axes, label in zip(grid[0], labels, strict=True):
        axes.set_title(label, fontsize=10)
    scale = matplotlib.cm.ScalarMappable(Normalize(0, 1), COLOURS)
    bar = figure.colorbar(scale, ax=grid, orientation="horizontal", shrink=0.5, aspect=40, ticks=[0, 1])
    bar.ax.set_xticklabels(["speaks least for the prediction", "most"], fontsize=8)
    bar.outline.set_visible(False)
    figure.suptitle(lines, fontsize=11)
    return figure

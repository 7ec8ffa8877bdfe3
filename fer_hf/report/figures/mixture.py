"""The figure of `mixture`: accuracy over the make-up of the training set and of the test set."""

from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fer_hf.report.figures.style import BLUE, FINE_PERCENT, GREEN, GREY, ORANGE, PERCENT, STYLE, VERMILION, title_of
from fer_hf.runs.records import Evaluation

COLOURS = (BLUE, ORANGE, GREEN, VERMILION, GREY, "black")
MARKERS = "os^Dvx"


@matplotlib.rc_context(STYLE)
def mixture_figure(rows: Sequence[Any], shares: Sequence[float], group: str, evaluation: Evaluation) -> Figure:
    """Accuracy over the share of a group in the test set, a line for each configuration, and in the training set.

    The panel of the training set, with a line for the tests without the group, half of it and nothing else, is there
    where two configurations or more were trained on shares of it. Intervals are 95 %.

    Args:
        rows: each with `name`, `trained` (a share, or None) and `accuracy`, an estimate for each of `shares`.
        shares: of the group in the test set.
        group: what it is called, such as "gender female".
        evaluation: the one that all share, for the title.
    """
    trained = sorted((row for row in rows if row.trained is not None), key=lambda row: row.trained)
    figure = Figure(figsize=(7, 4.6), layout="constrained")
    panels = np.atleast_1d(figure.subplots(1, 1 + (len(trained) > 1), sharey=True))
    if len(trained) > 1:
        tested = [(0, f"tested without {group}"), (len(shares) // 2, "tested on half of each")]
        for line, (place, name) in enumerate([*tested, (len(shares) - 1, f"tested on {group} only")]):
            _line(panels[0], [row.trained for row in trained], [row.accuracy[place] for row in trained], name, line)
        panels[0].set_xlabel(f"{group} in the training set")
    for line, row in enumerate(rows):
        _line(panels[-1], shares, row.accuracy, row.name, line)
    panels[-1].set_xlabel(f"{group} in the test set")
    panels[0].set_ylabel("accuracy")
    for axes in panels:
        axes.xaxis.set_major_formatter(PERCENT)
        axes.yaxis.set_major_formatter(FINE_PERCENT)
        axes.grid()
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), fontsize=8)
    figure.suptitle(title_of(f"Accuracy and the share of {group}", evaluation), fontsize=11)
    return figure


def _line(axes: Axes, places: Sequence[float], estimates: Sequence[Any], name: str, number: int) -> None:
    """A line of estimates with its band."""
    style: dict[str, Any] = {"color": COLOURS[number % 6], "marker": MARKERS[number % 6], "markersize": 5}
    axes.plot(places, [one.value for one in estimates], label=name, **style)
    axes.fill_between(places, [e.low for e in estimates], [e.high for e in estimates], color=style["color"], alpha=0.12)

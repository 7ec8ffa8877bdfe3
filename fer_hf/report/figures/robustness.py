"""The figure of `robustness`: accuracy and calibration error by the strength of each corruption."""

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from fer_hf.report.figures.style import BLUE, GREY, PERCENT, STYLE, VERMILION, wrapped
from fer_hf.runs.analyses import Robustness

COLUMNS = 3


@matplotlib.rc_context(STYLE)
def robustness_figure(record: Robustness, title: str) -> Figure:
    """A small plot for each corruption: accuracy and expected calibration error over strengths 0 (clean) to 5.

    Args:
        record: with all strengths of each corruption.
        title: what the images are called, such as "FER2013, test".
    """
    corruptions, clean = record.by_name(), record.clean
    rows = -(-len(corruptions) // COLUMNS)
    figure = Figure(figsize=(7, 1.0 + 1.75 * rows), layout="constrained")
    grid = figure.subplots(rows, COLUMNS, sharex=True, sharey=True, squeeze=False)
    for axes, (name, strengths) in zip(grid.flat, corruptions.items(), strict=False):
        points = [clean, *strengths]
        at = [each.strength for each in points]
        errors = [each.expected_calibration_error for each in points]
        axes.axhline(clean.accuracy, color=GREY, linestyle=":", linewidth=1, label=f"clean: {clean.accuracy:.1%}")
        axes.plot(at, [each.accuracy for each in points], color=BLUE, marker="o", markersize=4, label="accuracy")
        axes.plot(at, errors, color=VERMILION, marker="s", markersize=3, linestyle="--", label="calibration error")
        last = points[-1]
        beside = {"textcoords": "offset points", "ha": "right", "fontsize": 8, "color": BLUE}
        axes.annotate(f"{last.accuracy:.0%}", (last.strength, last.accuracy), xytext=(4, 6), **beside)
        axes.set_title(name.replace("_", " "), fontsize=10)
        axes.set_xticks(at)
        axes.grid(axis="y")
    for axes in grid.flat[len(corruptions) :]:
        axes.set_visible(False)
    highest = max(each.accuracy for each in [clean, *record.corruptions])
    grid[0, 0].set(ylim=(0, min(1.02, np.ceil(highest * 10 + 0.5) / 10)))
    grid[0, 0].yaxis.set_major_formatter(PERCENT)
    grid[-1, COLUMNS // 2].set_xlabel("strength of the corruption (0: the images as they are)")
    figure.suptitle(wrapped(f"Robustness: {title} ({record.images:,} images)"), fontsize=11)
    handles, labels = grid[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3)
    return figure

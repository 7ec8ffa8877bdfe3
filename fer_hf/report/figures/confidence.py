"""How confident a model is where it is right and where it is wrong."""

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from fer_hf.metrics import Array
from fer_hf.report.figures.style import BLUE, PERCENT, STYLE, VERMILION, title_of
from fer_hf.runs.records import Evaluation


@matplotlib.rc_context(STYLE)
def confidence_figure(evaluation: Evaluation, confidence: Array, right: Array) -> Figure:
    """Histograms of the confidence of right and of wrong answers, one above the other, on one scale.

    Args:
        evaluation: what they are of, for the title.
        confidence: the probability of the predicted class, `(N,)` in [0, 1].
        right: whether it is the true one, `(N,)`.
    """
    figure = Figure(figsize=(7, 4), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, sharey=True)
    bins = np.linspace(0, 1, 21)
    for axes, which, name, colour, hatch in (
        (above, right, "right", BLUE, ""),
        (below, ~right, "wrong", VERMILION, "///"),
    ):
        values = confidence[which]
        axes.hist(values, bins=bins, color=colour, hatch=hatch, edgecolor="white", linewidth=0.5)
        if len(values):
            mean = float(values.mean())
            axes.axvline(mean, color="black", linestyle="--", linewidth=1, label=f"mean, {mean:.1%}")
            axes.legend(loc="upper left")
        axes.set_ylabel("images")
        axes.set_title(f"{name}: {len(values):,}", loc="right", fontsize=10)
        axes.grid(axis="y")
    below.set(xlim=(0, 1), xlabel="confidence (probability of the predicted class)")
    below.xaxis.set_major_formatter(PERCENT)
    figure.suptitle(title_of("Confidence of right and wrong answers", evaluation), fontsize=11)
    return figure

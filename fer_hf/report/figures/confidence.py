"""How confident a model is where it is right and where it is wrong, and what a scaling changes."""

from collections.abc import Sequence

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from fer_hf.metrics import Array
from fer_hf.report.figures.style import BLUE, GREY, PERCENT, STYLE, VERMILION, title_of
from fer_hf.runs.records import Evaluation, ReliabilityBin


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


@matplotlib.rc_context(STYLE)
def calibration_figure(
    evaluation: Evaluation, before: Sequence[ReliabilityBin], after: Sequence[ReliabilityBin], temperature: float
) -> Figure:
    """Reliability before and after temperature scaling, side by side; points are as large as their bin has images.

    After Guo et al. 2017, https://arxiv.org/abs/1706.04599.
    """
    figure = Figure(figsize=(7, 3.9), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    names = ("before", f"after: logits / {temperature:.2f}")
    for axes, bins, name in zip(panels, (before, after), names, strict=True):
        kept = [(b.confidence, b.accuracy, b.count) for b in bins if b.count]
        confidence, accuracy, count = np.array(kept).T
        axes.plot([0, 1], [0, 1], color=GREY, linestyle="--", linewidth=1)
        axes.plot(confidence, accuracy, color=BLUE, linewidth=1)
        axes.scatter(confidence, accuracy, 15 + 150 * count / count.max(), color=BLUE, alpha=0.7)
        error = float((count * np.abs(confidence - accuracy)).sum() / count.sum())
        axes.set_title(f"{name} (ECE {error:.1%})", fontsize=10)
        axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="confidence")
        axes.xaxis.set_major_formatter(PERCENT)
        axes.grid()
    panels[0].set_ylabel("accuracy")
    panels[0].yaxis.set_major_formatter(PERCENT)
    figure.suptitle(title_of("Temperature scaling", evaluation), fontsize=11)
    return figure

"""One style for every figure: palette, theme, titles, and how a figure is written.

Colours are Okabe and Ito's (https://jfly.uni-koeln.de/color/) and `cividis`, which people with a colour-vision
deficiency can tell apart; bars and lines differ in more than hue. Figures are seven inches wide, so that their text can
be read at the width of a README. No figure uses pyplot, so no global state is left behind and no display is needed.
"""

import textwrap
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from fer_hf.console import counted
from fer_hf.files import written_whole

BLUE, ORANGE, GREEN, VERMILION, GREY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#666666"
STYLE: Any = {
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "grid.color": "#DDDDDD",
    "legend.frameon": False,
    "text.parse_math": False,  # a dollar sign in the name of a class is a dollar sign
}
PERCENT = PercentFormatter(xmax=1, decimals=0)
FINE_PERCENT = PercentFormatter(xmax=1)
"""For axes whose ticks may stand closer than a percent."""


def title_of(what: str, evaluation: Any) -> str:
    return wrapped(f"{what}: {evaluation.dataset}, {evaluation.split} split ({counted(evaluation.images, 'image')})")


def wrapped(title: str) -> str:
    """A title in lines that fit the width of a figure, whatever names are in it."""
    return textwrap.fill(" ".join(title.split()), width=75, max_lines=3, placeholder=" …")


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure as PNG, equal bytes for an equal figure."""
    with written_whole(path) as aside, matplotlib.rc_context(STYLE):  # ticks are made while drawing
        figure.savefig(aside, dpi=150, metadata={"Software": None})

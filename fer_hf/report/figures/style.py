"""One style for every figure: palette, theme, titles, and how a figure is written.

Colours are Okabe and Ito's (https://jfly.uni-koeln.de/color/) and `cividis`, which people with a colour-vision
deficiency can tell apart; bars and lines differ in more than hue. Figures are seven inches wide, so that their text can
be read at the width of a README. No figure uses pyplot, so no global state is left behind and no display is needed.
"""

import re
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from io import BytesIO
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from fer_hf.console import counted
from fer_hf.emotions import EMOTIONS, emotion_of
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
    "svg.fonttype": "none",  # text stays text, which is small, and can be searched and read aloud
    "svg.hashsalt": "fer_hf",  # or equal figures would have other ids each time
}
PERCENT = PercentFormatter(xmax=1, decimals=0)
FINE_PERCENT = PercentFormatter(xmax=1)
"""For axes whose ticks may stand closer than a percent."""


CLASS_COLOURS = (VERMILION, "#000000", GREEN, "#CC79A7", ORANGE, "#8A8A8A", BLUE, "#56B4E9")
MARKERS = ("o", "X", "D", "v", "s", "P", "^", "*")
CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")
"""Signs that no XML may hold."""


@dataclass(frozen=True)
class ClassStyle:
    """How a class is drawn wherever classes are told apart by colour."""

    colour: str
    marker: str


def class_styles(labels: Sequence[str]) -> dict[str, ClassStyle]:
    """The colour and marker of each class: an emotion has its own in every figure, others take what is left, in order.

    Example:
        >>> class_styles(["happy", "bored"])["happy"] == class_styles(["angry", "Happiness"])["Happiness"]
        True
    """
    styles = [ClassStyle(*both) for both in zip(CLASS_COLOURS, MARKERS, strict=True)]
    known = {label: styles[EMOTIONS.index(emotion_of(label))] for label in labels if emotion_of(label)}
    free = [style for style in styles if style not in known.values()] or styles
    others = [label for label in labels if label not in known]
    result = known | {label: free[place % len(free)] for place, label in enumerate(others)}
    return {label: result[label] for label in labels}


def title_of(what: str, evaluation: Any) -> str:
    return wrapped(f"{what}: {evaluation.dataset}, {evaluation.split} split ({counted(evaluation.images, 'image')})")


def wrapped(title: str) -> str:
    """A title in lines that fit the width of a figure, whatever names are in it."""
    return textwrap.fill(" ".join(title.split()), width=75, max_lines=3, placeholder=" …")


def save_figure(figure: Figure, path: Path, description: str = "") -> None:
    """Write a figure as PNG and, beside it, as SVG; equal bytes for an equal figure.

    Args:
        path: of the PNG.
        description: what is seen, for those who do not see it; its title when empty.
    """
    with written_whole(path) as aside, matplotlib.rc_context(STYLE):  # ticks are made while drawing
        figure.savefig(aside, dpi=150, metadata={"Software": None})
    figure.set_layout_engine("none")  # everything has its place now, and to find it again takes most of the time
    with written_whole(path.with_suffix(".svg")) as aside:
        aside.write_bytes(svg(figure, description))


def svg(figure: Figure, description: str = "") -> bytes:
    """A figure as SVG whose text is text, with a title and a description for screen readers."""
    drawn, title = BytesIO(), figure.get_suptitle()
    with matplotlib.rc_context(STYLE):
        figure.savefig(drawn, format="svg", metadata={"Date": None, "Creator": None})
    text = CONTROL.sub("", drawn.getvalue().decode("utf-8"))
    title, description = (escape(CONTROL.sub("", words)) for words in (title, description or title))
    about = f"<title>{title}</title><desc>{description}</desc>"
    return re.sub(r"(<svg\b[^>]*)>", lambda start: f'{start[1]} role="img">{about}', text, count=1).encode("utf-8")

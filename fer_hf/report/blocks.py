"""What the pages of reports are made of: sections of blocks, which `templates/report.html.jinja` prints.

Blocks hold plain text; the template escapes it. A function that draws a section yields blocks and knows no HTML.
"""

import base64
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from io import BytesIO

import matplotlib
from matplotlib.figure import Figure

from fer_hf.report.figures.style import STYLE, svg


@dataclass(frozen=True)
class Text:
    """A paragraph; `kind` is "plain", "lead", "note" (a warning) or "quiet"."""

    text: str
    kind: str = "plain"


@dataclass(frozen=True)
class Sentence:
    """A sentence, and the id of the section that holds the figures it rests on."""

    text: str
    section: str = ""


@dataclass(frozen=True)
class Bullets:
    """A list of sentences, with a heading where there is one."""

    items: Sequence[str | Sentence]
    heading: str = ""


@dataclass(frozen=True)
class Table:
    """A table that can be sorted; the first cell of a row names it. The last `footer` rows stay below, as sums do."""

    header: Sequence[str]
    rows: Sequence[Sequence[object]]
    caption: str = ""
    footer: int = 0

    @property
    def body(self) -> Sequence[Sequence[object]]:
        return self.rows[: len(self.rows) - self.footer]

    @property
    def foot(self) -> Sequence[Sequence[object]]:
        return self.rows[len(self.rows) - self.footer :]

    @property
    def word_columns(self) -> list[int]:
        """The columns after the first whose cells are text rather than numbers."""
        columns = list(zip(*self.rows, strict=True))[1:]
        return [at for at, cells in enumerate(columns, 1) if not all(map(_is_number, cells))]


def _is_number(cell: object) -> bool:
    return re.match(r"[<\[]?\s*[+−–-]?\s*\d|[–-]?$", str(cell)) is not None


@dataclass(frozen=True)
class Picture:
    """A picture of the page: its data URI, what is seen for those who do not see it, and a caption."""

    source: str
    alt: str
    caption: str = ""


@dataclass(frozen=True)
class Face:
    """A small picture of a face and what is said of it, in lines."""

    source: str
    alt: str
    lines: Sequence[str]


@dataclass(frozen=True)
class Faces:
    """Faces side by side."""

    faces: Sequence[Face]


@dataclass(frozen=True)
class Code:
    """Lines of a terminal or of a file, shown as they are."""

    text: str


@dataclass(frozen=True)
class Missing:
    """What was not measured, and the command that measures it."""

    what: str
    command: str = ""


@dataclass(frozen=True)
class Broken:
    """Why something cannot be shown."""

    reason: str


@dataclass(frozen=True)
class Heading:
    """A heading within a section."""

    text: str


@dataclass(frozen=True)
class Details:
    """Blocks that are folded away until they are asked for."""

    summary: str
    blocks: "Sequence[Block]"


Block = Text | Bullets | Table | Picture | Faces | Code | Missing | Broken | Heading | Details


@dataclass(frozen=True)
class Section:
    """A part of a page with its heading; `id` is what links point at."""

    id: str
    title: str
    blocks: Sequence[Block] = field(default_factory=list)

    @property
    def measured(self) -> bool:
        """Whether it says more than that nothing was measured."""
        return not all(isinstance(block, Missing) for block in self.blocks)


def data_uri(content: bytes, kind: str) -> str:
    """A file as an address that holds it; `kind` is "png", "jpeg" or "svg+xml"."""
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def picture(figure: Figure, alt: str, caption: str = "") -> Picture:
    """A figure for a page, as SVG or, where that is smaller, as PNG.

    Args:
        alt: what is seen, with the figures that matter.
    """
    drawing = svg(figure, alt)
    if len(drawing) < MAX_SVG:
        return Picture(data_uri(drawing, "svg+xml"), alt, caption)
    file = BytesIO()
    with matplotlib.rc_context(STYLE):
        figure.savefig(file, format="png", dpi=150, metadata={"Software": None})
    content, kind = min((file.getvalue(), "png"), (drawing, "svg+xml"), key=lambda each: len(each[0]))
    return Picture(data_uri(content, kind), alt, caption)


MAX_SVG = 100_000
"""Bytes up to which a drawing is taken without a look at how large its PNG is, which is about as large as that."""

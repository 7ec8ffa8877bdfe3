"""The Markdown of both cards: escaping, tables, small formats, and the licence in the metadata.

What a template prints passes through `markdown`, which escapes every value that is not `Markdown` already, so a name
with pipes or line breaks cannot break a table, a list or the metadata.
"""

import math
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader

from fer_hf.console import counted


class Markdown(str):
    """Text that is Markdown already; every other value is escaped when a template prints it."""

    __slots__ = ()


class Literal(str):
    """A name such as a key of a recipe, which is set as code, in Markdown and in HTML."""

    __slots__ = ()


def markdown(value: Any) -> Markdown:
    """Escape a value for running text and table cells: one line, and nothing in it is markup.

    Args:
        value: any object, of which `str(value)` is printed; `Markdown` is returned as it is.

    Example:
        >>> print(markdown("a|b *c* cpu_from_scratch"))
        a\\|b \\*c\\* cpu_from_scratch
    """
    if isinstance(value, Markdown):
        return value
    if isinstance(value, Literal):
        return code(value)
    text = " ".join(str(value).split()).replace("&", "&amp;").replace("<", "&lt;")
    text = re.sub(r"([\\`*\[\]|~$])|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])", r"\\\g<0>", text)
    text = re.sub(r"(?<!\S)(?=#)|^(?=[>=]|[+-](?:[\s-]|$))", r"\\", text)
    return Markdown(re.sub(r"^(\d+)(?=[.)](?:\s|$))", r"\1\\", text))


def code(value: Any) -> Markdown:
    """A value as inline code. Backticks become quotation marks and bars `¦`, so that it is safe in a table too."""
    return Markdown("`" + " ".join(str(value).split()).replace("`", "'").replace("|", "¦") + "`")


def fenced(text: str, language: str) -> Markdown:
    """A block of code, in a fence that no line of the text can close."""
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
    return Markdown(f"{fence}{language}\n{text.strip()}\n{fence}")


def percent(value: float | None, interval: Sequence[float] | None = None) -> Markdown:
    """A share in [0, 1] as percent, and its interval in brackets: `64.1% [62.5, 65.7]`; a dash for None.

    One decimal, or as many as it takes not to call nearly nothing 0.0% and nearly all 100.0%.
    """
    if value is None:
        return Markdown("–")
    ends = f" [{interval[0] * 100:.1f}, {interval[1] * 100:.1f}]" if interval else ""
    distance = 100 * min(value, 1 - value)  # from 0 or 100 %
    digits = -math.floor(math.log10(distance)) if 1e-6 < distance < 0.05 else 1
    return Markdown(f"{value * 100:.{digits}f}%{ends}")


def number(value: float | None) -> Markdown:
    """A number, such as a loss, with three decimals, or one digit where that would be 0.000; a dash for None."""
    if value is None:
        return Markdown("–")
    return Markdown(f"{value:.1g}" if 0 < abs(value) < 0.0005 else f"{value:.3f}")


def duration(seconds: float) -> str:
    """Seconds as `45 s`, `39 min` or `2 h 5 min`."""
    hours, minutes = divmod(round(seconds / 60), 60)
    if seconds < 120:
        return f"{seconds:.0f} s" if seconds >= 1 else "less than a second"
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"


def table(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> Markdown:
    """A Markdown table whose columns line up in the source too; columns of numbers are right-aligned.

    Args:
        header: the names of the columns.
        rows: of as many cells as the header has; each cell is escaped as `markdown` does.

    Example:
        >>> print(table(["class", "images"], [["happy", "1,200"], ["sad", "98"]]))
        | class | images |
        | ----- | -----: |
        | happy |  1,200 |
        | sad   |     98 |
    """
    cells = [[str(markdown(cell)) for cell in row] for row in (header, *rows)]
    columns = []
    for head, *body in zip(*cells, strict=True):
        width = max(3, len(head), *map(len, body))
        if all(re.match(r"[\d–-]", cell) for cell in body):
            columns.append([cell.rjust(width) for cell in (head, "-" * (width - 1) + ":", *body)])
        else:
            columns.append([cell.ljust(width) for cell in (head, "-" * width, *body)])
    return Markdown("\n".join(f"| {' | '.join(row)} |" for row in zip(*columns, strict=True)))


def licence_metadata(licence: str | None) -> dict[str, Any]:
    """A licence as the metadata of a card wants it.

    Args:
        licence: an id of the Hub such as "apache-2.0", any other text, or None where it is not known.

    Returns:
        `license`, an id or "other", and `license_name`, the text of a licence that has no id; None where not known.

    Example:
        >>> licence_metadata("mit"), licence_metadata("Ask us")
        ({'license': 'mit', 'license_name': None}, {'license': 'other', 'license_name': 'Ask us'})
    """
    text = " ".join((licence or "").split()) or None
    is_id = text is None or re.fullmatch(r"[a-z0-9][a-z0-9.+-]*", text)  # the Hub takes no other
    return {"license": text if is_id else "other", "license_name": None if is_id else text}


def render(template: str, **values: Any) -> str:
    """A card from a template of this package.

    Args:
        template: the file name in `templates/`.
        values: what the template can use; functions too.
    """
    loader = FileSystemLoader(Path(__file__).parent / "templates")
    # No HTML escapes: this is Markdown, and `finalize` escapes it.
    jinja = Environment(loader=loader, finalize=markdown, trim_blocks=True, lstrip_blocks=True)  # noqa: S701
    jinja.filters["as_is"] = Markdown
    jinja.globals.update({f.__name__: f for f in (code, counted, duration, fenced, number, percent, table)})
    text = jinja.get_template(template).render(**values)
    outside_code = r"(?ms)^(`{3,})\w*$.*?^\1$|\n{3,}"
    return re.sub(outside_code, lambda match: match[0] if match[1] else "\n\n", text).strip() + "\n"

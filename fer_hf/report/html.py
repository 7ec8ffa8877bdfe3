"""Pages that need no other file: everything in them is escaped, and no script runs but the one that sorts tables."""

import base64
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2

from fer_hf import __version__
from fer_hf.console import counted
from fer_hf.report.blocks import Section
from fer_hf.report.markdown import Literal

TEMPLATES = Path(__file__).parent / "templates"
SCRIPT = (TEMPLATES / "sort.js").read_text(encoding="utf-8")
POLICY = (
    "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; "
    "script-src 'sha256-{}'"
)
"""What a browser lets a page do: show its own pictures and styles, and run one script, by its hash."""


def render_page(template: str, **values: Any) -> str:
    """A page from a template of this package.

    Args:
        template: the file name in `templates/`, which extends `base.html.jinja`.
        values: what the template can use; all text among them is escaped.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    environment.tests["literal"] = lambda value: isinstance(value, Literal)
    environment.filters["kind"] = lambda block: type(block).__name__
    script = SCRIPT.strip()
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    environment.globals.update(
        counted=counted, policy=POLICY.format(digest), script=jinja2.utils.markupsafe.Markup(script)
    )
    return environment.get_template(template).render(**values)


def page(title: str, lead: str, sections: Sequence[Section]) -> str:
    """A report as a page: a list of contents, then its sections.

    Args:
        title: the heading.
        lead: what the page is about, in a line below it.
        sections: in their order.
    """
    return render_page("report.html.jinja", title=title, lead=lead, sections=sections, version=__version__)

"""The audit of a dataset as one HTML page that needs no other file: it holds its pictures; everything is escaped."""

from collections.abc import Callable
from typing import Any

from fer_hf.report.blocks import data_uri
from fer_hf.report.html import render_page

MOST = 40  # groups shown in each part of the page
METHOD = (
    "Exact copies have the same decoded pixels. Near copies are one photograph cropped, scaled or compressed anew: "
    "their 64-bit perceptual hashes differ in at most 10 bits, and their grey thumbnails of 24 x 24 pixels correlate "
    "with at least 0.95. Mirrored copies are not looked for. An image without contrast (below 0.02) is blank."
)


def summary(audit: dict[str, Any]) -> dict[str, int]:
    """The counts that the page and the terminal show, by what they count."""
    duplicates = audit["duplicates"]
    across = {
        f"{row['split']} images with a copy in {row['also_in']}": row["near_or_exact"] for row in duplicates["across"]
    }
    return across | {
        "exact copies beyond the first": duplicates["exact"]["redundant"],
        "exact and near copies beyond the first": duplicates["near_or_exact"]["redundant"],
        "photographs under different labels": duplicates["one_photograph_two_labels"],
        "of these with the same pixels": duplicates["one_image_two_labels"],
        "blank": len(audit["blank"]),
        "broken": len(audit["broken"]),
        "listed in exclude.csv": len(audit["exclude"]),
    }


def shown(audit: dict[str, Any]) -> list[dict[str, str]]:
    """The rows of the images that the page shows, so that only these have to be loaded."""
    groups = [group for part in _parts(audit).values() for group in part[:MOST]]
    return [*audit["blank"][:MOST], *(row for group in groups for row in group["images"][:8])]


def audit_page(audit: dict[str, Any], picture: Callable[[dict[str, str]], bytes]) -> str:
    """The page.

    Args:
        audit: what `data.audit.audit` returns.
        picture: the PNG of an image, given its row (`split`, `id`, `label`) of `shown`.
    """
    return render_page(
        "audit.html.jinja",
        audit=audit,
        summary=summary(audit),
        method=METHOD,
        most=MOST,
        picture=lambda row: data_uri(picture(row), "png"),
        **_parts(audit),
    )


def _parts(audit: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """Groups of copies by what is wrong with them; a group can be in two parts."""
    groups = audit["groups"]
    return {
        "across": [group for group in groups if group["splits"] > 1],
        "conflicts": [group for group in groups if group["labels"] > 1],
        "within": [group for group in groups if group["splits"] == 1 and group["labels"] == 1],
    }

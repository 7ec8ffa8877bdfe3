"""The card of a dataset that `fer-hf data save` writes, drawn from its record; the prose is in `templates/`."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from huggingface_hub import DatasetCardData
from jinja2 import Environment, FileSystemLoader

from fer_hf import __version__
from fer_hf.runs import records


def dataset_card(data: records.Data, title: str, columns: Mapping[str, str]) -> str:
    """The text of a dataset card: what it is, counts, how it was made, how to load it, limits, licence.

    Args:
        data: what the dataset holds, as `Faces.describe` says it.
        title: the heading.
        columns: the columns beside `image`, `label` and `id`, each with a sentence on its values (`prepared.columns`).

    Returns:
        Markdown, with the metadata that the Hub reads at its top.
    """
    title = " ".join(title.split())
    licence = data.license and " ".join(data.license.split())
    counts = {name: split.per_class for name, split in data.splits.items()}
    label_names = list(next(iter(counts.values())))
    rows = [[name, *(f"{count[name]:,}" for count in counts.values())] for name in label_names]
    totals = [f"{split.images:,}" for split in data.splits.values()]
    # No HTML escapes: this is Markdown, and the template escapes what it must.
    loader = FileSystemLoader(Path(__file__).parent / "templates")
    jinja = Environment(loader=loader, trim_blocks=True, lstrip_blocks=True)  # noqa: S701
    jinja.filters["escaped"] = _escaped
    text = jinja.get_template("dataset_card.md.jinja").render(
        data=data,
        label_names=label_names,
        metadata=_metadata(data, title, licence),
        title=title,
        version=__version__,
        images=sum(split.images for split in data.splits.values()),
        table=_table([["class", *counts], *rows, ["all", *totals]]),
        columns=columns,
        drawn=data.source == "toy",
        license=licence,
    )
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


def _metadata(data: records.Data, title: str, licence: str | None) -> str:
    is_id = re.fullmatch(r"[a-z0-9][a-z0-9.+-]*", licence or "")  # the Hub takes no other
    files = [{"split": split, "path": f"data/{split}-*"} for split in data.splits]
    metadata = DatasetCardData(
        license=licence if is_id or not licence else "other",
        license_name=None if is_id else licence,
        task_categories=["image-classification"],
        tags=["facial-expression-recognition"],
        pretty_name=title,
        configs=[{"config_name": "default", "data_files": files}],
    )
    return metadata.to_yaml(line_break="\n").strip()


def _escaped(text: str) -> str:
    """Anybody's text in one line of Markdown, nothing in it being markup."""
    return re.sub(r"([\\`*\[\]<>|~$#])|(?<!\w)_|_(?!\w)", r"\\\g<0>", " ".join(text.split()))


def _table(rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table whose columns line up in the source too; all but the first hold numbers."""
    first, *others = (max(3, *map(len, column)) for column in zip(*rows, strict=True))
    rule = ["-" * first, *("-" * (width - 1) + ":" for width in others)]
    lines = [
        [row[0].ljust(first), *(cell.rjust(width) for cell, width in zip(row[1:], others, strict=True))]
        for row in (rows[0], rule, *rows[1:])
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)

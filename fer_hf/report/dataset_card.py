"""The card of a dataset that `fer-hf data save` writes, drawn from its record; the prose is in `templates/`."""

from collections.abc import Mapping

from huggingface_hub import DatasetCardData

from fer_hf import __version__
from fer_hf.report.markdown import Markdown, licence_metadata, render, table
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
    counts = {name: split.per_class for name, split in data.splits.items()}
    label_names = list(next(iter(counts.values())))
    rows = [[name, *(f"{count[name]:,}" for count in counts.values())] for name in label_names]
    totals = [f"{split.images:,}" for split in data.splits.values()]
    return render(
        "dataset_card.md.jinja",
        data=data,
        label_names=label_names,
        metadata=_metadata(data, " ".join(title.split())),
        title=title,
        version=__version__,
        images=sum(split.images for split in data.splits.values()),
        counts=table(["class", *counts], [*rows, ["all", *totals]]),
        columns=columns,
        drawn=data.source == "toy",
    )


def _metadata(data: records.Data, title: str) -> Markdown:
    files = [{"split": split, "path": f"data/{split}-*"} for split in data.splits]
    metadata = DatasetCardData(
        **licence_metadata(data.license),
        task_categories=["image-classification"],
        tags=["facial-expression-recognition"],
        pretty_name=title,
        configs=[{"config_name": "default", "data_files": files}],
    )
    return Markdown(metadata.to_yaml(line_break="\n").strip())

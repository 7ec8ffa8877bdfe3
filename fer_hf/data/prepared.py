"""Prepared datasets: checked faces as Parquet files that hold the images, with a dataset card.

`datasets.load_dataset`, `folder:PATH` and, once pushed, `hub:someone/name` read them back. The bytes of each image file
are kept as they are, and of its path only the file name. The columns are those of `Faces.splits`.
"""

import os
import re
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import groupby
from operator import itemgetter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from datasets import Dataset, Features, Image
from huggingface_hub import DatasetCardData
from jinja2 import Environment, FileSystemLoader

from fer_hf import __version__
from fer_hf.console import track
from fer_hf.data.faces import Faces, per_class_counts
from fer_hf.data.splits import ATTRIBUTES
from fer_hf.errors import FerError, UserError
from fer_hf.files import move_into_place, write_text

SHARD_BYTES = 500_000_000
BATCH = 100  # images in memory at once, and in a row group
MOST_VALUES = 12  # of an attribute that are listed in the card


def save(faces: Faces, folder: Path, title: str) -> list[Path]:
    """Write `data/<split>-00000-of-0000N.parquet` and the card `README.md` to a new folder; returns the files.

    The folder appears when all of it is written. Raises `UserError` when it exists and is not empty, and `FerError`
    when an image file has gone since it was checked.
    """
    folder = folder.resolve()
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{str(folder)!r} exists and is no empty folder. Name a new folder.")
    aside = folder.with_name(f".{folder.name}.{os.getpid()}")
    try:
        (aside / "data").mkdir(parents=True)
        columns = Features({name: what for data in faces.splits.values() for name, what in data.features.items()})
        for split, data in faces.splits.items():
            _write_shards(data, str(split), columns.arrow_schema, aside / "data")
        write_text(aside / "README.md", card_text(faces, title))
        move_into_place(aside, folder)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return [folder / "README.md", *sorted(folder.glob("data/*.parquet"))]


def _write_shards(data: Dataset, split: str, schema: pa.Schema, folder: Path) -> None:
    """`schema` has the columns of all splits, since `datasets` wants the same in each, and the names of the classes."""
    count = 0
    for count, (_, tables) in enumerate(groupby(_tables(data, split), key=itemgetter(0)), 1):
        # Chunks by content: when a changed dataset is pushed again, what has not changed is not uploaded again.
        with pq.ParquetWriter(folder / f"{split}-{count - 1}", schema, use_content_defined_chunking=True) as writer:
            for _, table in tables:
                for name in schema.names:
                    if name not in table.column_names:
                        table = table.append_column(schema.field(name), pa.nulls(len(table), schema.field(name).type))
                writer.write_table(table.select(schema.names).cast(schema))
    for number in range(count):
        move_into_place(folder / f"{split}-{number}", folder / f"{split}-{number:05}-of-{count:05}.parquet")


def _tables(data: Dataset, split: str) -> Iterator[tuple[int, pa.Table]]:
    """A split in small tables that hold the images, each with the number of its shard."""
    shard = size = 0
    batches = data.with_format("arrow").iter(BATCH)
    for table in track(batches, f"saving {split} images", -(-len(data) // BATCH)):
        table = table.set_column(table.column_names.index("image"), "image", _embedded(table["image"]))
        size += table.nbytes
        if size > SHARD_BYTES and size > table.nbytes:
            shard, size = shard + 1, table.nbytes
        yield shard, table


def _embedded(images: pa.ChunkedArray) -> pa.Array:
    """Images with their bytes, and plain file names for paths."""
    whole = []
    for image in images.to_pylist():
        path, content = (image["path"], image["bytes"]) if image else (None, None)
        if content is None and path:
            try:
                content = Path(path).read_bytes()
            except OSError as error:
                raise FerError(f"The image {path!r} can no longer be read: {error.strerror}.") from error
        whole.append(image and {"bytes": content, "path": path and re.split(r"[/\\]", path)[-1]})
    return pa.array(whole, Image().pa_type)


# --- the card


def card_text(faces: Faces, title: str) -> str:
    """The dataset card: metadata, what it is, counts, how it was made, how to load it, limits, licence."""
    title = " ".join(title.split())
    licence = faces.license and " ".join(faces.license.split())
    is_id = re.fullmatch(r"[a-z0-9][a-z0-9.+-]*", licence or "")  # the Hub takes no other
    metadata = DatasetCardData(
        license=licence if is_id or not licence else "other",
        license_name=None if is_id else licence,
        task_categories=["image-classification"],
        tags=["facial-expression-recognition"],
        pretty_name=title,
        configs=[
            {
                "config_name": "default",
                "data_files": [{"split": str(split), "path": f"data/{split}-*"} for split in faces.splits],
            }
        ],
    )
    counts = {str(split): per_class_counts(data) for split, data in faces.splits.items()}
    rows = [[name, *(f"{count[name]:,}" for count in counts.values())] for name in faces.label_names]
    totals = [f"{len(data):,}" for data in faces.splits.values()]
    loader = FileSystemLoader(Path(__file__).parent / "templates")
    # No HTML escapes: this is Markdown, and the template escapes what it must.
    jinja = Environment(loader=loader, trim_blocks=True, lstrip_blocks=True)  # noqa: S701
    jinja.filters["escaped"] = _escaped
    text = jinja.get_template("dataset_card.md.jinja").render(
        faces=faces,
        metadata=metadata.to_yaml(line_break="\n").strip(),
        title=title,
        version=__version__,
        images=sum(map(len, faces.splits.values())),
        table=_table([["class", *counts], *rows, ["all", *totals]]),
        columns={name for data in faces.splits.values() for name in data.column_names},
        attributes=_attributes(faces),
        drawn=faces.source == "toy",
        license=licence,
    )
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


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


def _attributes(faces: Faces) -> dict[str, str]:
    """What there is of each attribute."""
    found = {}
    for name, feature in ATTRIBUTES.items():
        values = [value for data in faces.splits.values() if name in data.column_names for value in data[name][:]]
        known = Counter(value for value in values if value is not None)
        if feature.dtype != "string":
            says = "numbers from -1 to 1"
        elif len(known) > MOST_VALUES:
            says = f"{len(known):,} different values"
        else:
            says = ", ".join(f"{_escaped(value)} {count:,}" for value, count in known.most_common())
        if values:
            found[name] = f"known of {known.total():,} images: {says}"
    return found

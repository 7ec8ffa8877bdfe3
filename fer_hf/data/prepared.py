"""Prepared datasets: checked faces as Parquet files that hold the images, with a dataset card.

`datasets.load_dataset`, `folder:PATH` and, once pushed, `hub:someone/name` read them back. The bytes of each image file
are kept as they are, and of its path only the file name. The columns are those of `Faces.splits`.
"""

import math
import os
import re
from collections import Counter
from pathlib import Path

import pyarrow as pa
from datasets import Dataset, Image

from fer_hf.console import counted, track
from fer_hf.data.columns import RESERVED, same_columns
from fer_hf.data.decode import BATCH, undecoded
from fer_hf.data.faces import Faces
from fer_hf.errors import FerError
from fer_hf.files import new_folder, write_text, written_whole

SHARD_BYTES = 500_000_000
"""Bytes of images in a file, about."""
ROW_GROUP = 100
"""Images that are read from a file at once."""
MOST_VALUES = 12
"""Values of an attribute that are listed."""


def save(faces: Faces, folder: Path, card: str) -> list[Path]:
    """Write a dataset to a new folder, which appears when all of it is written.

    Args:
        faces: what to write.
        folder: a new or empty folder.
        card: the text of its README.md, as `report.dataset_card` makes it.

    Returns:
        The files: README.md, and `data/<split>-00000-of-0000N.parquet` of each split.

    Raises:
        UserError: the folder exists and is not empty.
        FerError: an image file has gone since it was checked.
    """
    folder = folder.resolve()
    new_folder(folder)
    with written_whole(folder) as aside:
        (aside / "data").mkdir(parents=True)
        # `datasets` wants the same columns in each split.
        for split, data in zip(faces.splits, same_columns(list(faces.splits.values())), strict=True):
            _write_shards(data, str(split), aside / "data")
        write_text(aside / "README.md", card)
    return [folder / "README.md", *sorted(folder.glob("data/*.parquet"))]


def columns(faces: Faces) -> dict[str, str]:
    """The columns beside `image`, `label` and `id`, each with a sentence on its values."""
    sentences = {"soft_label": "one probability per class, in the order of the labels"}
    features = {name: feature for data in faces.splits.values() for name, feature in data.features.items()}
    for name, feature in features.items():
        if name in RESERVED:
            continue
        values = [value for data in faces.splits.values() if name in data.column_names for value in data[name][:]]
        known = Counter(value for value in values if value is not None)
        if feature.dtype != "string":
            about = "numbers from -1 to 1"
        elif len(known) > MOST_VALUES:
            about = f"{len(known):,} different values"
        else:
            about = ", ".join(f"{value} {count:,}" for value, count in known.most_common())
        sentences[name] = f"known of {counted(known.total(), 'image')}: {about}"
    sentences["source"] = "the dataset that the image is from"
    return {name: sentence for name, sentence in sentences.items() if name in features}


def _write_shards(data: Dataset, split: str, folder: Path) -> None:
    images = (image for batch in undecoded(data).iter(BATCH) for image in batch["image"])
    try:
        sizes = [os.path.getsize(image["path"]) if image["bytes"] is None else len(image["bytes"]) for image in images]
    except OSError as error:
        raise FerError(f"The image {error.filename!r} can no longer be read: {error.strerror}.") from error
    count = max(1, math.ceil(sum(sizes) / SHARD_BYTES))
    for number in track(range(count), f"saving {split} images"):
        shard = data.shard(count, number, contiguous=True).with_format("arrow")
        shard = shard.map(_embed, batched=True, batch_size=ROW_GROUP, features=data.features, keep_in_memory=True)
        with open(folder / f"{split}-{number:05}-of-{count:05}.parquet", "wb") as file:
            shard.to_parquet(file, batch_size=ROW_GROUP)


def _embed(table: pa.Table) -> pa.Table:
    """Images with their bytes, and plain file names for paths."""
    images = [
        {
            "bytes": Path(image["path"]).read_bytes() if image["bytes"] is None else image["bytes"],
            "path": image["path"] and re.split(r"[/\\]", image["path"])[-1],
        }
        for image in table["image"].to_pylist()
    ]
    return table.set_column(table.column_names.index("image"), "image", pa.array(images, Image().pa_type))

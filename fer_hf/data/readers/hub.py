"""A dataset on the Hugging Face Hub. Loading scripts are never run (`datasets` refuses them)."""

import math
import re
from pathlib import Path

import pyarrow as pa
from datasets import Dataset, DatasetInfo, Image, IterableDataset, load_dataset_builder
from datasets.exceptions import DatasetNotFoundError
from datasets.table import embed_table_storage
from huggingface_hub import HfApi

from fer_hf.console import track
from fer_hf.data.columns import image_paths, license_in
from fer_hf.data.readers import Raw
from fer_hf.data.splits import SPLIT_HELP, split_name
from fer_hf.data.tables import files_alike, load_tables, standard_table
from fer_hf.errors import FerError, UserError

NAME = "a dataset on the Hugging Face Hub"
WANTED = "hub:org/name or hub:org/name:config, each perhaps with @revision at its end"
OPTIONS = ("stream_images",)
STREAM_BUFFER = 1000
"""Images that are shuffled at a time while streaming."""
STREAM_BATCH = 32


def layout(path: Path) -> None:
    """None: nothing on this disk is a dataset on the Hub."""


def read(place: str, stream_images: int | None = None) -> Raw:
    """The Hub dataset `org/name`, `org/name:config` or either with `@revision`; its whole is downloaded to a cache.

    With `stream_images`, only so many images of each split are fetched, and no cache is used.

    Raises `UserError` when it does not exist, may not be read or has no such columns, `FerError` when the Hub cannot be
    reached or the download fails.
    """
    dataset, at, revision = place.partition("@")
    name, colon, config = dataset.partition(":")
    if not re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]*", name) or (at and not revision) or (colon and not config):
        raise UserError(f"{place!r} is not the name of a Hub dataset. Wanted: {WANTED}.")
    if Path(name).exists():
        raise UserError(
            f"A folder {name!r} lies in the working directory, and `datasets` would take it for the Hub dataset. "
            f"Use folder:{name} for the folder, or start the command somewhere else."
        )
    loaded = _download(name, config or None, revision or None, stream_images)
    splits, notes = {}, []
    for hub_split, tables in loaded.items():
        split = split_name(hub_split)
        if split is None:
            count = "" if stream_images else f" ({sum(map(len, tables)):,} images)"
            notes.append(f"The split {hub_split!r}{count} was left out.")
        elif split in splits:
            raise UserError(f"{dataset} has two {split} splits among {', '.join(loaded)}.")
        else:
            splits[split] = standard_table(tables, split, f"The split {hub_split!r} of {dataset}", notes)
    if not splits:
        raise UserError(f"{dataset} has the splits {', '.join(loaded)}, and none of {SPLIT_HELP}.")
    if stream_images:
        notes.append(
            f"Only the first {stream_images:,} images of each split were taken, shuffled with a buffer of "
            f"{STREAM_BUFFER:,} (seed 0): where the dataset is sorted, they do not stand for all of it."
        )
    return Raw(splits, dataset=dataset, hub_id=name, license=_license(name, revision or None), notes=notes)


def _download(name: str, config: str | None, revision: str | None, stream_images: int | None) -> dict[str, list]:
    """The tables of each split: several where its Parquet files differ in columns or class names."""
    try:
        builder = load_dataset_builder(name, config, revision=revision)
        files = {str(split): list(of) for split, of in (builder.config.data_files or {}).items()}
        parquet = all(file.endswith(".parquet") for of in files.values() for file in of)
        # To look into each of many files would take longer than the stream.
        alike = files_alike(files, first=bool(stream_images)) if parquet else []
        if len(alike) > 1:
            loaded = load_tables(alike, streaming=bool(stream_images))
        elif stream_images:
            loaded = {str(split): [stream] for split, stream in builder.as_streaming_dataset().items()}
        else:
            builder.download_and_prepare()
            return {str(split): [table] for split, table in builder.as_dataset().items()}
        return {
            split: [_take(table, stream_images, f"streaming {split} images") for table in tables]
            if stream_images and split_name(split)
            else tables
            for split, tables in loaded.items()
        }
    except FerError:
        raise
    except DatasetNotFoundError as error:
        raise UserError(
            f"{error} Check the name. If the dataset is private or gated, ask for access on its page, then run "
            "`hf auth login` or set HF_TOKEN."
        ) from error
    except (ValueError, RuntimeError, FileNotFoundError) as error:  # several configurations, a script, no data files
        if listed := re.search(r"(?:available configs|Available): \['(.+)'\]", str(error)):
            known = listed[1].split("', '")
            raise UserError(
                f"{name} has {'no configuration ' + repr(config) if config else 'several configurations'}. Choose one "
                f"of {', '.join(known)}, such as hub:{name}:{known[0]}{f'@{revision}' if revision else ''}."
            ) from error
        raise UserError(f"`datasets` cannot load {name}: {error}") from error
    except Exception as error:
        # `datasets` wraps failures of the network, the disk and the parsers into many unrelated classes.
        cause = f" ({error.__cause__})" if error.__cause__ else ""
        raise FerError(
            f"{name} could not be loaded: {error}{cause} Check the connection and the room on the disk, and try again. "
            "A dataset that was loaded before also loads without a connection, with HF_HUB_OFFLINE=1."
        ) from error


def _take(stream: IterableDataset, count: int, what: str) -> Dataset:
    """The first rows of a shuffled stream, in memory, with the bytes of their images."""
    rows = stream.shuffle(seed=0, buffer_size=STREAM_BUFFER).take(count).with_format("arrow").iter(STREAM_BATCH)
    tables = []
    for table in track(rows, what, math.ceil(count / STREAM_BATCH)):
        for name, feature in (stream.features or {}).items():
            if isinstance(feature, Image):
                image_paths(table[name], "The stream")
        tables.append(embed_table_storage(table))
    return Dataset(pa.concat_tables(tables), info=DatasetInfo(features=stream.features))


def _license(name: str, revision: str | None) -> str | None:
    """The licence that the dataset's card names, when the Hub can be asked."""
    try:
        card = HfApi().dataset_info(name, revision=revision, timeout=10).card_data
    except Exception:  # the images are here already: an unreachable Hub must not stop the run
        return None
    return license_in(card.to_dict() if card else {})

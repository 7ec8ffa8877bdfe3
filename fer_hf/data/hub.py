"""A dataset on the Hugging Face Hub, or any `datasets` table: its image and label columns are found by their types.

Loading scripts are never run (`datasets` refuses them), and a column of bare numbers is refused as a label: every
dataset of this field numbers the emotions in an order of its own.
"""

import re
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
from datasets import ClassLabel, Dataset, DatasetDict, Features, Image, Value, load_dataset
from datasets.exceptions import DatasetNotFoundError
from huggingface_hub import HfApi

from fer_hf.data.splits import SPLIT_HELP, Raw, split_name
from fer_hf.emotions import LabelError, canonical
from fer_hf.errors import FerError, UserError

USUAL_NAMES = {"image": ("image", "img"), "label": ("label", "labels", "emotion", "expression")}


def read(place: str) -> Raw:
    """The Hub dataset `org/name` or `org/name@revision`, from the Hub or the local cache of `datasets`.

    Raises `UserError` when it does not exist, may not be read or has no such columns, `FerError` when the Hub cannot be
    reached or the download fails.
    """
    name, _, revision = place.partition("@")
    if not re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]*", name) or ("@" in place and not revision):
        raise UserError(f"{place!r} is not the name of a Hub dataset: hub:org/name or hub:org/name@revision is wanted.")
    if Path(name).exists():
        raise UserError(
            f"A folder {name!r} lies in the working directory, and `datasets` would take it for the Hub dataset. "
            f"Use folder:{name} for the folder, or start the command somewhere else."
        )
    loaded = _download(name, revision or None)
    splits, notes = {}, []
    for theirs, data in loaded.items():
        split = split_name(str(theirs))
        if split is None:
            notes.append(f"The split {str(theirs)!r} was left out.")
        elif split in splits:
            raise UserError(f"{name} has two {split} splits among {', '.join(map(str, loaded))}.")
        else:
            splits[split] = standard_columns(data, split, f"The split {str(theirs)!r} of {name}")
    if not splits:
        raise UserError(f"{name} has the splits {', '.join(map(str, loaded))}, and none of {SPLIT_HELP}.")
    return Raw(splits, dataset=name, hub_id=name, license=_license(name, revision or None), notes=notes)


def standard_columns(data: Dataset, split: str, where: str) -> Dataset:
    """The columns `image`, `label` and `id` of a table of any column names; `where` begins the error messages.

    Ids are the file names that the images carry; `<split>_<row>`, rows counted from 0, for an image that carries none,
    or one that another image carries too.
    """
    image = _image_column(data.features, where)
    label, names = _label_column(data, where)
    table = data.select_columns([image, label]).with_format("arrow")[:]
    labels = table[label]
    if not isinstance(data.features[label], ClassLabel):
        labels = pc.index_in(labels, pa.array(names, labels.type))
    paths = pc.struct_field(table[image].combine_chunks(), "path").to_pylist()
    files = [re.split(r"[/\\]", path)[-1] if path else "" for path in paths]
    count = Counter(files)
    rows = [f"{split}_{row}" for row in range(len(files))]
    ids = [file if file and count[file] == 1 else row for file, row in zip(files, rows, strict=True)]
    ids = ids if len(set(ids)) == len(ids) else rows  # a file may be called train_7, of all things
    features = Features(image=Image(), label=ClassLabel(names=names), id=Value("string"))
    data = data.select_columns(image)
    data = data if image == "image" else data.rename_column(image, "image")
    data = data.cast_column("image", features["image"])
    data = data.add_column("label", pc.fill_null(labels, -1).to_pylist(), feature=features["label"])
    return data.add_column("id", ids, feature=features["id"])


def _download(name: str, revision: str | None) -> DatasetDict:
    try:
        return load_dataset(name, revision=revision)
    except DatasetNotFoundError as error:
        raise UserError(
            f"{error} Check the name. If the dataset is private or gated, ask for access on its page, then run "
            "`hf auth login` or set HF_TOKEN."
        ) from error
    except (ValueError, RuntimeError, FileNotFoundError) as error:  # several configurations, a script, no data files
        raise UserError(f"`datasets` cannot load {name}: {error}") from error
    except Exception as error:
        # `datasets` wraps failures of the network, the disk and the parsers into many unrelated classes.
        cause = f" ({error.__cause__})" if error.__cause__ else ""
        raise FerError(
            f"{name} could not be loaded: {error}{cause} Check the connection and the room on the disk, and try again. "
            "A dataset that was loaded before also loads without a connection, with HF_HUB_OFFLINE=1."
        ) from error


def _license(name: str, revision: str | None) -> str | None:
    """The licence that the dataset's card names, when the Hub can be asked."""
    try:
        card = HfApi().dataset_info(name, revision=revision, timeout=10).card_data
    except Exception:  # the images are here already: an unreachable Hub must not stop the run
        return None
    found = card.get("license") if card else None
    return ", ".join(found) if isinstance(found, list) else found


def _image_column(features: Features, where: str) -> str:
    raw = {"bytes": Value("binary"), "path": Value("string")}  # an Image whose Parquet file lost its metadata
    found = [name for name, feature in features.items() if isinstance(feature, Image) or feature == raw]
    return _choose(found, "image", "column of images", features, where)


def _label_column(data: Dataset, where: str) -> tuple[str, list[str]]:
    """The column whose class names, or strings, are emotions, and these names."""
    found = {}
    for column, feature in data.features.items():
        if isinstance(feature, ClassLabel):
            names = feature.names
        elif feature in (Value("string"), Value("large_string")):
            names = sorted(value for value in data.unique(column) if value is not None)
        else:
            continue
        if any(_is_emotion(name) for name in names):
            found[column] = names
    column = _choose(list(found), "label", "column of labels with the names of emotions", data.features, where)
    return column, found[column]


def _choose(found: list[str], kind: str, what: str, features: Features, where: str) -> str:
    usual = [name for name in found if name.lower() in USUAL_NAMES[kind]]
    if len(found) != 1 and len(usual) != 1:
        columns = "; ".join(f"{name}: {_describe(feature)}" for name, feature in features.items())
        raise UserError(
            f"{where} has {'no' if not found else 'more than one'} {what}. Its columns: {columns}. Wanted: one Image "
            "column, and one column of ClassLabel or strings that names emotions. Bare numbers are refused, since "
            "every dataset numbers the emotions in an order of its own."
        )
    return found[0] if len(found) == 1 else usual[0]


def _describe(feature: object) -> str:
    if isinstance(feature, ClassLabel):
        return f"ClassLabel ({', '.join(feature.names[:10])})"
    return feature.dtype if isinstance(feature, Value) else type(feature).__name__


def _is_emotion(name: str) -> bool:
    try:
        canonical(name)
    except LabelError:
        return False
    return True

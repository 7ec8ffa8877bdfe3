"""The expression in each picture."""

import logging
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image

from fer_hf.data.decode import decode
from fer_hf.data.readers.folder import EXTENSIONS, walk
from fer_hf.errors import UserError
from fer_hf.models.classifier import Format, load_classifier
from fer_hf.runs.folder import Run

logger = logging.getLogger(__name__)
BATCH_SIZE = 64
"""Pictures that are in memory at once."""
BATCH_PIXELS = 2**25
"""Pixels after which no further picture is read into a batch."""


@dataclass(frozen=True)
class Prediction:
    """The answer for a picture file.

    `answers` are `[{"label": ..., "score": ...}, ...]`, all labels, the most probable first. There are none for a file
    that could not be read; `reason` says why.
    """

    file: str
    answers: list[dict[str, float]] = field(default_factory=list)
    reason: str = ""


def predict(model: str | Path | Run, images: Sequence[str | Path], format: Format = "pytorch") -> Iterator[Prediction]:
    """Classify picture files.

    Args:
        model: a run, a run folder, a model folder or a Hub id.
        images: files, each a picture of a face, and folders of them, with any sub-folders.
        format: `"pytorch"`, `"onnx"` or `"int8"`.

    Yields:
        Each picture in the order given, those of a folder sorted by name; then the files that could not be read.

    Raises:
        UserError: there is no such model.
    """
    classifier = load_classifier(model, format)
    files, failed = find_pictures(images)
    for part in read_pictures(files, failed):
        answers = classifier([picture for _, picture in part], top_k=len(classifier.label_names))
        yield from (Prediction(file, answer) for (file, _), answer in zip(part, answers, strict=True))
    yield from failed


def find_pictures(images: Sequence[str | Path]) -> tuple[list[str], list[Prediction]]:
    """The files, those in folders too, and the folders without any."""
    files, failed = list[str](), list[Prediction]()
    for name in map(str, images):
        if not os.path.isdir(name):
            files.append(name)
            continue
        try:
            tree = walk(Path(name))
        except UserError as error:  # it may not be read
            failed.append(Prediction(name, reason=str(error)))
            continue
        files += [os.path.join(name, *parts) for parts in tree.images]
        if tree.links:
            logger.info("%s: %s link(s) were not followed, since they lead out of it.", name, tree.links)
        if not tree.images:
            endings = ", ".join(sorted(EXTENSIONS))
            failed.append(Prediction(name, reason=f"it is a folder without pictures, which end in {endings}"))
    return files, failed


def read_pictures(files: Sequence[str], failed: list[Prediction]) -> Iterator[list[tuple[str, Image.Image]]]:
    """Batches of decoded pictures; those that cannot be read go to `failed`."""
    part, pixels = list[tuple[str, Image.Image]](), 0
    for file in files:
        try:
            part.append((file, decode(file)))
        except ValueError as error:
            failed.append(Prediction(file, reason=str(error)))
            continue
        pixels += part[-1][1].width * part[-1][1].height
        if len(part) == BATCH_SIZE or pixels > BATCH_PIXELS:
            yield part
            part, pixels = [], 0
    if part:
        yield part

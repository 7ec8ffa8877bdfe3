"""Rank the pictures of a folder by how useful their labels would be."""

import re
from dataclasses import astuple, dataclass, fields
from pathlib import Path

import numpy as np

from fer_hf.collect.sheet import contact_sheet
from fer_hf.data.decode import decode
from fer_hf.errors import UserError
from fer_hf.evaluation.ranking import rank_for_labelling, uncertainty
from fer_hf.explain.features import features_kept
from fer_hf.files import write_csv, written_whole
from fer_hf.images.batches import to_uint8
from fer_hf.models.classifier import Classifier, load_classifier
from fer_hf.runs.folder import Run
from fer_hf.workflows.predict import Prediction, find_pictures, read_pictures


@dataclass(frozen=True)
class RankedPicture:
    """A picture to label. `uncertainty` is in [0, 1], `predicted` the likeliest label and `probability` its own.

    `distance` is how far the picture is from those of a better rank, in what it would change in the network.
    """

    rank: int
    file: str
    uncertainty: float
    predicted: str
    probability: float
    distance: float


@dataclass(frozen=True)
class Ranking:
    """The pictures to label, the most useful first, out of how many `images`; and those that could not be read."""

    rows: list[RankedPicture]
    images: int
    unread: list[Prediction]
    list: Path
    sheet: Path


COLUMNS = tuple(field.name for field in fields(RankedPicture))


def rank_pictures(
    model: str | Path | Run, folder: str | Path, most: int = 100, output: str | Path | None = None
) -> Ranking:
    """Choose which unlabelled pictures to label next, by uncertainty and variety (see `rank_for_labelling`).

    Writes `rank.csv` and a contact sheet, `rank.png`. The same pictures give the same list.

    Args:
        model: a run, a run folder, a model folder or a Hub id.
        folder: of pictures, each of a face, with any sub-folders.
        most: how many to choose.
        output: the folder of both files; `runs/rank/<folder>` when None.

    Raises:
        UserError: there is no such model or folder, or no picture in it can be read.

    Example:
        `rank_pictures("runs/mine/20260131-175900", "unlabelled", most=50).rows[0].file`
    """
    if not Path(folder).is_dir():
        raise UserError(f"{str(folder)!r} is no folder of pictures.")
    place = Path(output) if output else Path("runs/rank") / re.sub(r"[^\w.-]+", "-", Path(folder).resolve().name)
    classifier = load_classifier(model)
    place.mkdir(parents=True, exist_ok=True)  # what cannot be written is not worth the wait
    files, unread = find_pictures([folder])
    names, probabilities, features = _look(classifier, files, unread)
    if not names:
        reasons = f" The first: {unread[0].file}: {unread[0].reason}." if unread else ""
        raise UserError(f"Of {len(unread):,} files in {str(folder)!r} none can be read as a picture.{reasons}")
    chosen, distances = rank_for_labelling(probabilities, features, most)
    doubts, best = uncertainty(probabilities), probabilities.argmax(axis=1)
    rows = [
        RankedPicture(
            rank,
            names[row],
            round(float(doubts[row]), 4),
            classifier.label_names[best[row]],
            round(float(probabilities[row].max()), 4),
            round(float(distance), 4),
        )
        for rank, (row, distance) in enumerate(zip(chosen, distances, strict=True), 1)
    ]
    result = Ranking(rows, len(names), unread, place / "rank.csv", place / "rank.png")
    write_csv(result.list, COLUMNS, map(astuple, rows))
    captions = [f"{row.rank}\n{row.predicted} {row.probability:.0%}" for row in rows]
    title = f"the {len(rows)} of {len(names):,} pictures to label next: rank, what the model says"
    with written_whole(result.sheet) as aside:
        contact_sheet([decode(row.file) for row in rows], captions, title=title).save(aside)
    return result


def _look(
    classifier: Classifier, files: list[str], unread: list[Prediction]
) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Names, probabilities `(N, C)` and features `(N, D)` of the pictures; those that cannot be read go to `unread`."""
    names, probabilities = list[str](), list[np.ndarray]()
    with features_kept(classifier) as features:
        for part in read_pictures(files, unread):
            names += [name for name, _ in part]
            logits = classifier.logits([to_uint8(picture) for _, picture in part])
            probabilities.append(logits.softmax(dim=-1).cpu().numpy().astype(np.float64))
    if not names:
        return names, np.empty((0, 0)), np.empty((0, 0))
    return names, np.concatenate(probabilities), np.concatenate(features)

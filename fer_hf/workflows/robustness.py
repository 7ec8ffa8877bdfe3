"""How a model fares under corruption: the same images under each corruption at five strengths."""

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from datasets import Dataset, Features, Value
from PIL import Image
from scipy.special import softmax
from sklearn.metrics import confusion_matrix
from torch import Tensor

from fer_hf.collect.sheet import contact_sheet
from fer_hf.console import track
from fer_hf.data.subsets import thin_out
from fer_hf.errors import UserError
from fer_hf.files import written_whole
from fer_hf.images.corruptions import CORRUPTIONS, STRENGTHS, corrupt
from fer_hf.machine import process_settings_kept
from fer_hf.metrics import Array, expected_calibration_error, macro_f1_of, reliability
from fer_hf.metrics.corruption import mean_corruption_error
from fer_hf.models.classifier import Format
from fer_hf.report.figures.robustness import robustness_figure
from fer_hf.report.figures.style import save_figure
from fer_hf.runs.analyses import Corruption, Robustness
from fer_hf.runs.folder import Run
from fer_hf.runs.predictions import write_predictions
from fer_hf.workflows.report import redraw
from fer_hf.workflows.subject import Subject, load_subject

logger = logging.getLogger(__name__)
SEED = 0
"""Of the images that are drawn and of what is random in a corruption: equal for all models."""
CLEAN = "none"


@process_settings_kept()
def robustness(
    run: str | Path | Run,
    data: str | None = None,
    split: str = "test",
    per_class: int | None = None,
    baseline: str | Path | Run | None = None,
    format: Format = "pytorch",
    batch_size: int = 128,
) -> Robustness:
    """Measure accuracy, macro F1 and calibration under every corruption of `images.corruptions` at five strengths.

    Writes a figure, one image under each corruption, and the logits of all corrupted images (Parquet) to `robustness/`
    of the run, and the figures to its metrics.json.

    Args:
        run: a finished run folder.
        data: a source of faces such as `"rafdb:PATH"`; the run's own when None.
        split: "train", "validation" or "test".
        per_class: take at most so many images of each class, drawn by a fixed seed; all when None.
        baseline: a run whose errors are 1 in the mean corruption error. It is measured too, unless it was.
        format: which file of the model: "pytorch", "onnx" or "int8".
        batch_size: images per step.

    Returns:
        The figures.

    Raises:
        UserError: a run is not finished, or the baseline was trained on other data and no `data` is given.

    Example:
        `robustness("runs/mine/20260131-175900", per_class=100).mean_corruption_error`
    """
    subject = load_subject(run, data, split, format, batch_size)
    record = _measure(subject, per_class, batch_size)
    if baseline is not None:
        record = _relative(record, subject, load_subject(baseline, data, split, "pytorch", batch_size), batch_size)
    subject.run.update(robustness={record.evaluation: record})
    redraw(subject.run)
    return record


def _measure(subject: Subject, per_class: int | None, batch_size: int) -> Robustness:
    """Corrupt and classify, and write what `robustness` says, but for metrics.json."""
    whole = subject.faces.splits[subject.split]
    chosen, _ = thin_out(whole, per_class=per_class, seed=SEED)
    row_of = {name: row for row, name in enumerate(whole["id"][:])}
    rows = [row_of[name] for name in chosen["id"][:]]
    labels, clean = subject.predictions.labels[rows], subject.predictions.logits[rows]
    corrupted = _corrupted_logits(subject, rows, batch_size)
    folder = subject.run.path / "robustness"
    folder.mkdir(exist_ok=True)
    places = {"predictions": f"{subject.key}.parquet", "figure": f"{subject.key}.png"}
    places["examples"] = f"{subject.key}-examples.png"
    figures = [_figures(name, strength, labels, logits) for (name, strength), logits in corrupted.items()]
    errors = {name: [1 - each.accuracy for each in figures if each.name == name] for name in CORRUPTIONS}
    record = Robustness(
        evaluation=subject.key,
        images=len(rows),
        clean=_figures(CLEAN, 0, labels, clean),
        corruptions=figures,
        mean_corruption_error=mean_corruption_error(errors),
        per_class=per_class,
        **{what: f"robustness/{name}" for what, name in places.items()},
    )
    _write_logits(folder / places["predictions"], chosen, corrupted)
    save_figure(robustness_figure(record, subject.title), folder / places["figure"])
    with written_whole(folder / places["examples"]) as aside:
        _examples(subject, rows[0]).save(aside)
    return record


def _corrupted_logits(subject: Subject, rows: list[int], batch_size: int) -> dict[tuple[str, int], Array]:
    """Logits `(N, C)` of the images in `rows` under each corruption at each strength."""
    kinds = [(name, strength) for name in CORRUPTIONS for strength in STRENGTHS]
    parts: dict[tuple[str, int], list[Array]] = {kind: [] for kind in kinds}
    images = subject.images()
    starts = range(0, len(rows), batch_size)
    for start, kind in track([(start, kind) for start in starts for kind in kinds], "classifying corrupted images"):
        if kind == kinds[0]:
            index = rows[start : start + batch_size]
            batch = images.__getitems__(index)["images"]
        corrupted = _corrupt_any(batch, kind, index)
        parts[kind].append(subject.classifier.logits(corrupted).cpu().numpy())
    return {kind: np.concatenate(part) for kind, part in parts.items()}


def _corrupt_any(images: Tensor | list[Tensor], kind: tuple[str, int], index: list[int]) -> Tensor | list[Tensor]:
    """`corrupt` for a batch, or one by one for images of mixed shapes."""
    if isinstance(images, Tensor):
        return corrupt(images, *kind, index, SEED)
    return [corrupt(image[None], *kind, [own], SEED)[0] for image, own in zip(images, index, strict=True)]


def _figures(name: str, strength: int, labels: Array, logits: Array) -> Corruption:
    predicted, bins = logits.argmax(axis=1), reliability(softmax(logits, axis=1), labels)
    confusion = confusion_matrix(labels, predicted, labels=range(logits.shape[1]))
    accuracy = float((predicted == labels).mean())
    return Corruption(name, strength, accuracy, float(macro_f1_of(confusion)), expected_calibration_error(bins))


def _relative(record: Robustness, subject: Subject, other: Subject, batch_size: int) -> Robustness:
    """The record with its error relative to another run's on the same images."""
    name = other.run.path.resolve().name
    contents = [each.faces.content(each.split) for each in (subject, other)]
    if contents[0] != contents[1]:
        remedy = "Name the data of both with --data." if subject.faces.dataset != other.faces.dataset else ""
        raise UserError(
            f"--baseline {other.run.path}: its {other.split} images are not those of {subject.run.path}, so their "
            f"errors cannot be held against each other. {remedy}".strip()
        )
    known = other.run.metrics.robustness.get(other.key)
    if known is None or known.per_class != record.per_class:
        logger.info("measuring the baseline %s", other.run.path)
        known = _measure(other, record.per_class, batch_size)
        other.run.update(robustness={known.evaluation: known})
    errors, theirs = (
        {name: [1 - each.accuracy for each in of] for name, of in measured.by_name().items()}
        for measured in (record, known)
    )
    try:
        return replace(record, mean_corruption_error=mean_corruption_error(errors, theirs), baseline=name)
    except ValueError as error:
        raise UserError(f"--baseline {other.run.path}: {error}.") from error


def _write_logits(path: Path, chosen: Dataset, corrupted: dict[tuple[str, int], Array]) -> None:
    """One row for each image, corruption and strength; the id is `<id of the image>:<corruption>:<strength>`."""
    kinds, ids = list(corrupted), chosen["id"][:]
    columns = {
        "id": [f"{image}:{name}:{strength}" for name, strength in kinds for image in ids],
        "image_id": ids * len(kinds),
        "label": chosen["label"][:] * len(kinds),
        "corruption": np.repeat([name for name, _ in kinds], len(chosen)),
        "strength": np.repeat([strength for _, strength in kinds], len(chosen)),
    }
    kept = {name: chosen.features[name] for name in ("id", "label")}
    others = {"image_id": Value("string"), "corruption": Value("string"), "strength": Value("int8")}
    features = Features(kept | others)
    write_predictions(path, Dataset.from_dict(columns, features=features), np.concatenate(list(corrupted.values())))


def _examples(subject: Subject, row: int) -> Image.Image:
    """One image as it is and at each strength, a row for each corruption."""
    [image] = subject.images().__getitems__([row])["images"]
    tiles = [
        image if strength == 0 else corrupt(image[None], name, strength, [row], SEED)[0]
        for name in CORRUPTIONS
        for strength in (0, *STRENGTHS)
    ]
    pictures = [Image.fromarray(torch.squeeze(tile.cpu().permute(1, 2, 0), dim=2).numpy()) for tile in tiles]
    captions = [
        f"strength {strength}" if strength else name.replace("_", " ")
        for name in CORRUPTIONS
        for strength in (0, *STRENGTHS)
    ]
    wide = [
        picture.resize((96, 96), Image.Resampling.NEAREST) if picture.width < 96 else picture for picture in pictures
    ]
    return contact_sheet(wide, captions, columns=1 + len(STRENGTHS), title=f"{subject.title}: the corruptions")


def verdict(record: Robustness) -> str:
    """What the figures say, in sentences."""
    worst = min(record.at(STRENGTHS[-1]), key=lambda each: each.accuracy)
    mean = np.mean([each.accuracy for each in record.corruptions])
    calibration = np.mean([each.expected_calibration_error for each in record.corruptions])
    named = worst.name.replace("_", " ")
    lines = [
        f"Accuracy is {record.clean.accuracy:.1%} on the {record.images:,} images as they are, and {mean:.1%} in the "
        f"mean over all corruptions and strengths; least under {named} at strength 5, {worst.accuracy:.1%}.",
        f"Calibration error: {record.clean.expected_calibration_error:.1%} as they are, {calibration:.1%} corrupted.",
    ]
    if record.baseline:
        than = "fewer" if record.mean_corruption_error < 1 else "more"
        lines.append(
            f"Mean corruption error: {record.mean_corruption_error:.3f} of that of {record.baseline} "
            f"(below 1: fewer errors than it; this run makes {than})."
        )
    else:
        lines.append(
            f"Mean error over corruptions: {record.mean_corruption_error:.1%} (no --baseline to hold it against)."
        )
    return "\n".join(lines)

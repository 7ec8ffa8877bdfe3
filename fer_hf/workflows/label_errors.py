"""Rank the likely label errors in the data of a run."""

import logging
from dataclasses import astuple, dataclass
from pathlib import Path

import numpy as np
from datasets import Dataset, concatenate_datasets
from sklearn.model_selection import StratifiedGroupKFold

from fer_hf.collect.sheet import contact_sheet
from fer_hf.data import Faces
from fer_hf.data.columns import per_class_counts
from fer_hf.data.decode import decode_rows, undecoded
from fer_hf.data.splits import groups
from fer_hf.errors import UserError
from fer_hf.evaluation.label_errors import COLUMNS, LabelError, label_errors_in
from fer_hf.files import write_csv, written_whole
from fer_hf.machine import process_settings_kept
from fer_hf.models.classifier import load_classifier
from fer_hf.recipe.load import load_recipe
from fer_hf.recipe.schema import Recipe
from fer_hf.runs.folder import Run
from fer_hf.runs.predictions import write_predictions
from fer_hf.training.fit import fit
from fer_hf.workflows.evaluate import EvaluationOptions, evaluate_on
from fer_hf.workflows.faces import check_splits, recipe_faces
from fer_hf.workflows.report import redraw

logger = logging.getLogger(__name__)
SHOWN = 100
"""Candidates on the contact sheet."""


@dataclass(frozen=True)
class LabelErrors:
    """The candidates, likeliest first, out of how many `images`."""

    rows: list[LabelError]
    images: int
    list: Path
    sheet: Path


@process_settings_kept()
def find_label_errors(run: str | Path | Run, split: str = "validation", folds: int = 5) -> LabelErrors:
    """Rank images whose label is likely wrong, by confident learning (arXiv 1911.00068).

    Writes `label_errors/<split>.csv` and `.png` in the run.

    Args:
        run: a finished run folder.
        split: of the run's own data. For `"train"` the recipe is trained anew on each part's complement, since a model
            must not have seen the images that it judges; stopped, that goes on where it was.
        folds: into how many parts the training split is divided.

    Raises:
        UserError: the run is not finished, its data have changed, or there are too few images for so many folds.
    """
    run = Run.open(run)
    run.finished_model()
    recipe = load_recipe(run.recipe_file)
    faces = recipe_faces(recipe)
    check_splits(run, faces)
    if split == "train":
        predictions = _predict_out_of_fold(run, recipe, faces, folds)
    else:
        [evaluation] = evaluate_on(faces, split, [load_classifier(run)], run, EvaluationOptions.of(recipe))
        redraw(run)
        predictions = run.path / evaluation.predictions
    rows = label_errors_in(predictions, split)
    folder = run.path / "label_errors"
    folder.mkdir(exist_ok=True)
    result = LabelErrors(rows, len(faces.splits[split]), folder / f"{split}.csv", folder / f"{split}.png")
    write_csv(result.list, COLUMNS, map(astuple, rows))
    _draw(rows, faces, split, result.sheet)
    return result


def _draw(rows: list[LabelError], faces: Faces, split: str, path: Path) -> None:
    """A contact sheet of the likeliest candidates: the given label, then what the model says."""
    data, first = faces.splits[split], rows[:SHOWN]
    place_of = {name: place for place, name in enumerate(data["id"][:])}
    pictures = decode_rows(undecoded(data), [place_of[row.id] for row in first])
    captions = [f"{row.label}\n{row.suggested} {row.probability:.0%}" for row in first]
    title = f"{faces.dataset}, {split}: given label, then what the model says; the {len(first)} likeliest of"
    with written_whole(path) as aside:
        contact_sheet(pictures, captions, title=f"{title} {len(rows)}").save(aside)


def _predict_out_of_fold(run: Run, recipe: Recipe, faces: Faces, folds: int) -> Path:
    """Predictions for each training image by a model that was trained without it; people stay in one fold."""
    train, parts, logits = faces.splits["train"], list[Dataset](), list[np.ndarray]()
    group_of = groups(train)
    most = min(len(np.unique(group_of)), max(per_class_counts(train).values()))
    if folds > most:
        raise UserError(f"--folds is {folds}: the {len(train):,} training images can be split into {most} at most.")
    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=recipe.train.seed)
    for number, (rest, held_out) in enumerate(splitter.split(group_of, train["label"][:], group_of), start=1):
        fold = Run(run.path / "folds" / f"{number}-of-{folds}")
        logger.info("fold %s of %s", number, folds, extra={"style": "bold"})
        fit(recipe, faces.with_train(rest), fold, resume=True)
        parts.append(train.select(held_out))
        logits.append(load_classifier(fold.model).predict(parts[-1]))
    path = run.predictions / "train-out-of-fold.parquet"
    write_predictions(path, concatenate_datasets(parts), np.concatenate(logits))
    return path

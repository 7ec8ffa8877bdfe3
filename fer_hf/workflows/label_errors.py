"""What the commands of `fer-hf data` do: load faces to look at, and write tables, sheets, audits and lists."""

from pathlib import Path

import numpy as np
from accelerate import Accelerator
from datasets import Dataset, DatasetDict, concatenate_datasets
from rich.table import Column, Table
from sklearn.model_selection import StratifiedGroupKFold

from fer_hf.collect.sheet import contact_sheet
from fer_hf.console import console, output, quiet_libraries
from fer_hf.data import Faces
from fer_hf.data.columns import per_class_counts
from fer_hf.data.splits import people
from fer_hf.errors import UserError
from fer_hf.evaluation.label_errors import COLUMNS, label_errors_in
from fer_hf.files import write_csv
from fer_hf.images.spec import ImageSpec
from fer_hf.models.classifier import predict_logits
from fer_hf.models.load import load_model
from fer_hf.recipe.load import load_recipe
from fer_hf.recipe.schema import Recipe
from fer_hf.runs.folder import Run
from fer_hf.runs.predictions import write_predictions
from fer_hf.workflows.evaluate import evaluate_to
from fer_hf.workflows.faces import check_splits, load

SHEET = 100  # likely label errors on the contact sheet


def write_label_errors(run: Run, split: str, folds: int) -> None:
    """Rank the likely label errors of a split of the run's data; label_errors/<split>.csv and .png in the run."""
    quiet_libraries()
    recipe = load_recipe(run.recipe_file)
    run.finished_model()
    faces = load(recipe)
    check_splits(run, faces)
    if split == "train":
        predictions = _out_of_fold(run, recipe, faces, folds)
    else:
        predictions = (
            run.predictions / f"{evaluate_to(run, run.model, faces, split, accelerator=Accelerator())}.parquet"
        )
    rows = label_errors_in(predictions, split)
    folder = run.path / "label_errors"
    folder.mkdir(exist_ok=True)
    write_csv(folder / f"{split}.csv", COLUMNS, [[row[name] for name in COLUMNS] for row in rows])
    data = faces.splits[split]
    place_of = {name: place for place, name in enumerate(data["id"][:])}
    first = rows[:SHEET]
    pictures = data[[place_of[row["id"]] for row in first]]["image"] if first else []
    captions = [f"{row['label']}\n{row['suggested']} {row['probability']:.0%}" for row in first]
    title = (
        f"{faces.dataset}, {split}: given label, then what the model says; the {len(first)} likeliest of {len(rows)}"
    )
    contact_sheet(pictures, captions, title=title).save(folder / f"{split}.png")
    table = Table(
        "id", "label", "suggested", Column("probability", justify="right"), Column("quality", justify="right")
    )
    for row in rows[:10]:
        table.add_row(row["id"], row["label"], row["suggested"], f"{row['probability']:.1%}", f"{row['quality']:.3f}")
    output.print(table)
    output.print(f"{len(rows):,} of {len(data):,} {split} images are candidates: look at the first ones first")
    for what, ending in {"list": "csv", "sheet": "png"}.items():
        output.print(f"{what + ':':7}{folder / f'{split}.{ending}'}", soft_wrap=True)


def _out_of_fold(run: Run, recipe: Recipe, faces: Faces, folds: int) -> Path:
    """Predictions for each training image by a model that was trained without it; people stay in one fold."""
    from fer_hf.training.fit import fit

    train, parts, logits = faces.splits["train"], list[Dataset](), list[np.ndarray]()
    groups = people(train)
    most = min(len(set(groups)), max(per_class_counts(train).values()))
    if folds > most:
        raise UserError(f"--folds is {folds}: the {len(train):,} training images can be split into {most} at most.")
    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=recipe.train.seed)
    for number, (rest, held_out) in enumerate(splitter.split(groups, train["label"][:], groups), start=1):
        fold = Run(run.path / "folds" / f"{number}-of-{folds}")
        console.print(f"fold {number} of {folds}", style="bold")
        splits = DatasetDict(train=train.select(rest), validation=faces.splits["validation"])
        fit(recipe, splits, fold, resume=True)
        loaded = load_model(str(fold.model))
        parts.append(train.select(held_out))
        logits.append(
            predict_logits(loaded.model, parts[-1], ImageSpec.from_processor(loaded.processor), 128, Accelerator())
        )
    path = run.predictions / "train-out-of-fold.parquet"
    write_predictions(path, concatenate_datasets(parts), np.concatenate(logits))
    return path

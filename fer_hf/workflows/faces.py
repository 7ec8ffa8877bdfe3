"""The faces of a run: loaded by its recipe, and held against those that it was started with."""

from fer_hf.data import Faces, load_faces
from fer_hf.data.subsets import SUBSETS
from fer_hf.errors import UserError
from fer_hf.files import csv_text
from fer_hf.recipe.schema import Recipe
from fer_hf.runs.folder import Run
from fer_hf.training.launch import processes

TRAINING_ONLY = ("exclude", "mixture", "fraction", *SUBSETS, "absent_classes")
"""Keys of the section `data` that say nothing of data from elsewhere."""


def recipe_faces(recipe: Recipe) -> Faces:
    """The faces that a recipe names; the main process of a launch loads them first."""
    with processes().main_process_first():
        faces = load_faces(recipe.data)
    if not set(recipe.evaluate.splits) & faces.splits.keys():
        raise UserError(
            f"evaluate.splits is {recipe.evaluate.splits}, but the data have only {', '.join(faces.splits)}: "
            "add one of these, or let data.test_fraction make a test split."
        )
    return faces


def other_faces(recipe: Recipe, source: str, label_names: tuple[str, ...]) -> Faces:
    """The faces of a source elsewhere, to evaluate a model with these labels on them, read as the recipe says."""
    settings = recipe.data.model_dump(exclude={"source", "label_set", *TRAINING_ONLY})
    with processes().main_process_first():
        return load_faces(source, label_names, purpose="evaluation", **settings)


def splits_csv(faces: Faces) -> str:
    """The ids and labels in each split, as the run folder keeps them."""
    rows = (
        (split, name, faces.label_names[label])
        for split, data in faces.splits.items()
        for name, label in zip(data["id"][:], data["label"][:], strict=True)
    )
    return csv_text(("split", "id", "label"), rows)


def check_splits(run: Run, faces: Faces) -> None:
    """Refuse other images than those that the run was started with: some may have moved to another split."""
    file = run.splits_file
    if file.is_file() and file.read_text(encoding="utf-8").splitlines() != splits_csv(faces).splitlines():
        raise UserError(
            f"{run.path} was started with other images, labels or splits (splits.csv): the dataset, or the file that "
            "data.exclude names, has changed since. Bring it back to what it was, or start a new run."
        )


def require_split(faces: Faces, split: str) -> None:
    """Raises `UserError` when the faces have no such split."""
    if split not in faces.splits:
        raise UserError(f"{faces.dataset} has no {split} split; it has {', '.join(faces.splits)}.")


def remarks(faces: Faces) -> list[str]:
    """What a user should know of a dataset, in sentences: how it was split, what was dropped and skipped."""
    dropped = [f"{count:,} images of {emotion} were dropped." for emotion, count in faces.dropped.items() if count]
    skipped = [f"skipped: {', '.join(faces.skipped[:5])}{' ...' if len(faces.skipped) > 5 else ''}"]
    return [*faces.notes, *dropped, *(skipped if faces.skipped else [])]

"""The stages that several commands share: load, evaluate, export, show.

Each reads the run folder, does its work through the library, and writes back plain files and its section of
metrics.json. All processes of a launch evaluate together; the main one alone exports, reports and prints.
"""

from fer_hf.data import Faces, load_faces
from fer_hf.errors import UserError
from fer_hf.files import csv_text
from fer_hf.recipe.schema import Recipe
from fer_hf.runs.folder import Run
from fer_hf.training.launch import processes


def load(recipe: Recipe, elsewhere: str | None = None, labels: tuple[str, ...] | None = None) -> Faces:
    """The faces of a recipe, or to evaluate on those of a source elsewhere; the main process goes first."""
    settings = recipe.data.model_dump()
    source, label_set = settings.pop("source"), settings.pop("label_set")
    if elsewhere:
        about_own_data = ("exclude", "mixture", "fraction", "per_class", "absent_classes")
        settings = {key: value for key, value in settings.items() if key not in about_own_data}
        settings["purpose"] = "evaluation"
    with processes().main_process_first():
        return load_faces(elsewhere or source, labels or label_set, **settings)


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


def remarks(faces: Faces) -> list[str]:
    """What a user should know of a dataset: how it was split, what was dropped and skipped."""
    dropped = [f"{count:,} images of {emotion} were dropped." for emotion, count in faces.dropped.items() if count]
    skipped = [f"skipped: {', '.join(faces.skipped[:5])}{' ...' if len(faces.skipped) > 5 else ''}"]
    return [*faces.notes, *dropped, *(skipped if faces.skipped else [])]

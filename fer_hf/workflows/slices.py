"""How well groups of images are recognised, and whether the gap between them is more than chance."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from fer_hf.data import Faces
from fer_hf.data.appearance import MEASURED, appearance
from fer_hf.errors import UserError
from fer_hf.evaluation.attributes import usual
from fer_hf.evaluation.slices import slice_predictions
from fer_hf.machine import process_settings_kept
from fer_hf.recipe.load import load_recipe
from fer_hf.recipe.schema import Recipe
from fer_hf.report.slices import slice_cells, slice_sentences
from fer_hf.runs.analyses import Slices
from fer_hf.runs.folder import Run
from fer_hf.runs.predictions import Predictions, read_predictions
from fer_hf.runs.records import Evaluation
from fer_hf.workflows.evaluate import evaluate
from fer_hf.workflows.faces import check_splits, other_faces, recipe_faces, require_split
from fer_hf.workflows.people import write_slices
from fer_hf.workflows.report import redraw

WANTED = (
    "Datasets that tell some are RAF-DB as its authors hand it out (gender, race, age), AffectNet (valence, arousal), "
    "CK+ (subject), and any folder whose metadata.csv has a column such as gender beside file_name. Of any images, "
    "--by brightness and --by size can be measured."
)


@dataclass(frozen=True)
class Table:
    """Slices for people to read: the groups as cells, the attribute's name first in the header, and what they say."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    sentences: Sequence[str]


@dataclass(frozen=True)
class SlicedRun:
    """An evaluation, the slices that were made of it, and a figure of each."""

    evaluation: Evaluation
    slices: Sequence[Slices]
    figures: Sequence[Path]

    @property
    def tables(self) -> list[Table]:
        return [Table(*slice_cells(each), slice_sentences(each)) for each in self.slices]


@process_settings_kept()
def slice_run(run: str | Path | Run, by: Sequence[str] = (), data: str | None = None, split: str = "test") -> SlicedRun:
    """Slice the predictions of a run by attributes of the images.

    Predictions that are not there are made. The figures go to the section `slices` of metrics.json, pictures of them to
    `model/figures/`, and the run's card is drawn again.

    Args:
        run: a run folder.
        by: attributes, several together joined by commas: `["gender", "gender,age"]`. Those of the predictions, and
            "brightness" and "size", which are measured of the images. By default every attribute that makes groups,
            and the pairs of gender, age and race.
        data: a source of faces, such as `"rafdb:PATH"`; the run's own when None.
        split: `"train"`, `"validation"` or `"test"`.

    Returns:
        The slices, in the order of `by`.

    Raises:
        UserError: an attribute is not known, or none is.

    Example:
        `slice_run("runs/mine/20260131-175900", ["gender", "gender,age"]).slices[0].gap`
    """
    run = Run.open(run)
    wanted = [tuple(name.strip() for name in names.split(",")) for names in dict.fromkeys(by)]
    evaluation, faces = _evaluation(run, data, split)
    predictions = read_predictions(run.path / evaluation.predictions)
    if any(name in MEASURED and name not in predictions.attributes for names in wanted for name in names):
        predictions = _with_appearance(predictions, faces or _own_faces(run), split)
    wanted = wanted or usual(predictions.attributes)
    if not wanted:
        raise UserError(f"Nothing is known of the images of {evaluation.dataset} that would make groups. {WANTED}")
    key = Path(evaluation.predictions).stem
    slices = slice_predictions(predictions, wanted, key)
    figures = write_slices(run, key, slices)
    redraw(run)
    return SlicedRun(evaluation, slices, figures)


def _evaluation(run: Run, data: str | None, split: str) -> tuple[Evaluation, Faces | None]:
    """The plain evaluation of a run on a split, made where there is none; of other data with their faces."""
    recipe, metrics = load_recipe(run.recipe_file), run.metrics
    faces = None
    stored = [e for e in metrics.evaluations.values() if e.split == split and e.plain]
    if data in (None, recipe.data.source):
        stored = [e for e in stored if metrics.owns(e)]
    else:
        faces = _other_faces(run, recipe, str(data), split)
        content = faces.content(split)
        stored = [e for e in stored if e.content == content]
    return next((e for e in stored if (run.path / e.predictions).is_file()), None) or evaluate(run, data, split), faces


def _other_faces(run: Run, recipe: Recipe, data: str, split: str) -> Faces:
    faces = other_faces(recipe, data, tuple(run.metrics.label_names))
    require_split(faces, split)
    return faces


def _own_faces(run: Run) -> Faces:
    faces = recipe_faces(load_recipe(run.recipe_file))
    check_splits(run, faces)
    return faces


def _with_appearance(predictions: Predictions, faces: Faces, split: str) -> Predictions:
    """Predictions with what is measured of their images as attributes."""
    place = {name: row for row, name in enumerate(faces.splits[split]["id"][:])}
    if missing := [name for name in predictions.ids if name not in place]:
        raise UserError(
            f"{faces.dataset} lacks {len(missing):,} of the predicted images, such as {missing[0]!r}: evaluate again."
        )
    measured = appearance(faces.splits[split])
    rows = [place[name] for name in predictions.ids]
    columns = {name: [values[row] for row in rows] for name, values in measured.items()}
    return replace(predictions, attributes=predictions.attributes | columns)

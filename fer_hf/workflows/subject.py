"""A finished run on one split of some data, with its stored predictions: what analyses of a model begin with."""

from dataclasses import dataclass
from pathlib import Path

from fer_hf.data import Faces
from fer_hf.images.batches import FaceDataset
from fer_hf.models.classifier import Classifier, Format, load_classifier
from fer_hf.recipe.load import load_recipe
from fer_hf.runs.folder import Run
from fer_hf.runs.predictions import Predictions, read_predictions
from fer_hf.runs.records import PLAIN
from fer_hf.training.launch import processes
from fer_hf.workflows.evaluate import EvaluationOptions, evaluate_on
from fer_hf.workflows.faces import check_splits, other_faces, recipe_faces, require_split
from fer_hf.workflows.report import redraw


@dataclass(frozen=True)
class Subject:
    """What `load_subject` returns: the run, its classifier, and the faces with the classifier's predictions.

    `key` is that of the evaluation in metrics.json; `predictions` are in the order of `faces.splits[split]`.
    """

    run: Run
    classifier: Classifier
    faces: Faces
    split: str
    key: str
    predictions: Predictions

    def images(self) -> FaceDataset:
        """The images of the split, decoded where the check has kept them."""
        return FaceDataset(self.faces.splits[self.split], pixels=self.faces.pixels(self.split))

    @property
    def title(self) -> str:
        """What the images are called in figures: `FER2013, test`."""
        return f"{self.faces.dataset}, {self.split}"


def load_subject(
    run: str | Path | Run,
    data: str | None = None,
    split: str = "test",
    format: Format = "pytorch",
    batch_size: int = 128,
) -> Subject:
    """Load a run, its faces or those of another source, and its predictions on them.

    Stored predictions are read; where there are none for these very images, the run is evaluated, as by `evaluate`.

    Args:
        run: a finished run folder.
        data: a source of faces; the run's own when None.
        split: "train", "validation" or "test".
        format: which file of the model.
        batch_size: images per step, where they have to be predicted.

    Raises:
        UserError: the run is not finished, the data have no such split, or labels do not fit.
    """
    run = Run.open(run)
    device = processes().device if format == "pytorch" else None
    classifier = load_classifier(run.finished_model(), format, device)
    recipe = load_recipe(run.recipe_file)
    own = data in (None, recipe.data.source)
    faces = recipe_faces(recipe) if own else other_faces(recipe, str(data), classifier.label_names)
    if own:
        check_splits(run, faces)
    require_split(faces, split)
    file = _stored(run, (split, format, PLAIN, faces.content(split)))
    if file is None:
        options = EvaluationOptions(batch_size=batch_size, own=own, alone=True)
        [evaluation] = evaluate_on(faces, split, [classifier], run, options)
        redraw(run)
        file = run.path / evaluation.predictions
    return Subject(run, classifier, faces, split, file.stem, read_predictions(file))


def _stored(run: Run, wanted: tuple[str, str, str, str]) -> Path | None:
    """The predictions file of the evaluation with this split, format, augmentation and content, if there is one."""
    for evaluation in run.metrics.evaluations.values():
        file = run.path / evaluation.predictions
        if (evaluation.split, evaluation.format, evaluation.tta, evaluation.content) == wanted and file.is_file():
            return file
    return None

"""Export a run's model to ONNX and INT8, and measure what came out."""

from pathlib import Path

from fer_hf.data import Faces
from fer_hf.deploy.onnx import export_onnx, pixel_values, sample
from fer_hf.deploy.quantise import quantise
from fer_hf.machine import process_settings_kept
from fer_hf.models.classifier import Classifier, Format, load_classifier, require_optimum
from fer_hf.recipe.load import load_recipe
from fer_hf.recipe.schema import Recipe
from fer_hf.runs.folder import Run
from fer_hf.runs.records import ExportedFile
from fer_hf.workflows.evaluate import EvaluationOptions, evaluate_on
from fer_hf.workflows.faces import recipe_faces
from fer_hf.workflows.report import redraw

CHECKED = 64
"""Images on which the logits of the exported network are held against PyTorch's."""


@process_settings_kept()
def export(run: str | Path | Run, int8: bool = False) -> dict[Format, ExportedFile]:
    """Write `model/onnx/model.onnx`, and `model_int8.onnx` when asked, and evaluate them on the validation split.

    The run's card, if it has one, is drawn again.

    Args:
        run: a run folder.
        int8: quantise as well, calibrated on training images.

    Returns:
        The files by format, `"onnx"` and `"int8"`.

    Raises:
        UserError: the run has no model yet, or the extra `onnx` is not installed.
        FerError: the exported network gives other logits than PyTorch.

    Example:
        `export("runs/mine/20260131-175900", int8=True)["int8"].megabytes`
    """
    run = Run.open(run)
    require_optimum()
    recipe = load_recipe(run.recipe_file)
    exported = export_model(run, recipe, int8, recipe_faces(recipe), load_classifier(run))
    redraw(run)
    return exported


def export_model(
    run: Run, recipe: Recipe, int8: bool, faces: Faces, classifier: Classifier
) -> dict[Format, ExportedFile]:
    """What `export` does, with the faces and the classifier of the run; the main process of a launch alone calls it."""
    check = pixel_values(sample(faces.splits["validation"], CHECKED), classifier.spec)
    exported: dict[Format, ExportedFile] = {"onnx": export_onnx(classifier, run.model, check)}
    if int8:
        calibration = sample(faces.splits["train"], recipe.export.calibration_images)
        exported["int8"] = quantise(run.model, calibration, classifier.spec, recipe.export.calibration)
    run.update(export=exported)
    options = EvaluationOptions.of(recipe, alone=True)
    known = any(e.plain for e in run.metrics.own_evaluations("validation"))
    files = [load_classifier(run, format) for format in exported]
    evaluate_on(faces, "validation", files if known else [classifier, *files], run, options)
    return exported

"""The stages that several commands share: load, evaluate, export, show.

Each reads the run folder, does its work through the library, and writes back plain files and its section of
metrics.json. All processes of a launch evaluate together; the main one alone exports, reports and prints.
"""

from fer_hf.data import Faces
from fer_hf.deploy.onnx import export_onnx, pixel_values, sample
from fer_hf.deploy.quantise import quantise
from fer_hf.images.spec import ImageSpec
from fer_hf.models.classifier import require_optimum
from fer_hf.models.load import load_model
from fer_hf.recipe.schema import Recipe
from fer_hf.runs.folder import Run
from fer_hf.workflows.evaluate import evaluate_to
from fer_hf.workflows.faces import load


def export_run(run: Run, recipe: Recipe, int8: bool, faces: Faces | None = None) -> None:
    """ONNX, and INT8 when asked, each measured on the validation split."""
    require_optimum()
    spec = ImageSpec.from_processor(load_model(str(run.finished_model())).processor)
    faces = faces or load(recipe)
    check = pixel_values(sample(faces.splits["validation"], 64), spec)
    exported = {"onnx": export_onnx(run.model, check)}
    if int8:
        calibration = sample(faces.splits["train"], recipe.export.calibration_images)
        exported["int8"] = quantise(run.model, calibration, spec, recipe.export.calibration)
    run.update_metrics(export=exported)
    rows = run.metrics().get("evaluations", {}).values()
    known = [(row["dataset"], row["split"], row["format"]) for row in rows if "tta" not in row]
    for format in exported if (faces.dataset, "validation", "pytorch") in known else ("pytorch", *exported):
        evaluate_to(run, run.model, faces, "validation", format, recipe.train.per_device_eval_batch_size)

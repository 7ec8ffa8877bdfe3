"""Fold a temperature into the model of a run, and bring everything that was made of the model up to date.

The folded weights, the predictions and metrics.json are written aside, into a folder that is renamed when it is whole.
From then on the step counts as done: the files are moved to their places, by the next call if this one is stopped.
"""

import logging
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast

from fer_hf.files import move_into_place, written_whole
from fer_hf.images.spec import ImageSpec
from fer_hf.models.classifier import Format, require_optimum
from fer_hf.models.folding import fold_temperature
from fer_hf.models.load import load_model, save_model
from fer_hf.recipe.load import load_recipe
from fer_hf.runs.folder import ONNX_FILES, Run
from fer_hf.runs.predictions import divide_logits, figures_of
from fer_hf.runs.records import PLAIN, Evaluation
from fer_hf.workflows.evaluate import evaluate
from fer_hf.workflows.export import export
from fer_hf.workflows.faces import check_splits, recipe_faces

logger = logging.getLogger(__name__)
ASIDE = ".folding"
OTHERS = ("robustness", "explanations")
"""Sections whose figures depend on how sure the network is, and which are not computed from predictions files."""


def folded_temperature(run: Run) -> float | None:
    """The temperature in the weights of a run, or None; finishes a folding that was stopped."""
    _put_in_place(run)
    return next((record.temperature for record in run.metrics.calibration.values() if record.folded), None)


def fold(run: Run, temperature: float) -> None:
    """Divide the logits of a run's model by a temperature, in its weights, exported files and predictions.

    The records in `calibration`, of which there has to be one, say so from then on: that is what keeps a second call
    from dividing again.

    ONNX and INT8 files are made again. Probabilities that were averaged over views of an image cannot be divided: such
    evaluations of the run's own data are made again, others are removed from metrics.json.

    Raises:
        UserError: the model cannot take it, or what exporting needs is missing; nothing has changed then.
    """
    recipe = load_recipe(run.recipe_file)
    top_k = recipe.evaluate.top_k
    averaged = {key: e for key, e in run.metrics.evaluations.items() if e.tta != PLAIN}
    if run.metrics.export:
        require_optimum()
    if run.metrics.export or averaged:
        check_splits(run, recipe_faces(recipe))
    with written_whole(run.path / ASIDE) as path:
        staged = Run(path)
        staged.path.mkdir()
        loaded = load_model(run.finished_model())
        fold_temperature(loaded.model, temperature, ImageSpec.from_processor(loaded.processor).size)
        save_model(loaded.model, loaded.processor, staged.model)
        shutil.copy(run.metrics_file, staged.metrics_file)
        staged.forget(averaged.keys())
        evaluations, records = staged.metrics.evaluations, staged.metrics.calibration
        staged.update(
            evaluations={k: _divided(run, staged, e, temperature, top_k) for k, e in evaluations.items()},
            calibration={k: replace(r, temperature=temperature, folded=True) for k, r in records.items()},
        )
        for file in _files(path):
            move_into_place(file, file)  # flushes it
    _put_in_place(run)
    export_again(run)
    for evaluation in averaged.values():
        if run.owns(evaluation):
            evaluate(run, split=evaluation.split, format=cast(Format, evaluation.format), tta=evaluation.tta)
        else:
            (run.path / evaluation.predictions).unlink(missing_ok=True)
            logger.warning("Removed, since they average over views: %s", run.evaluate_command(evaluation))
    if stale := [name for name in OTHERS if getattr(run.metrics, name)]:
        logger.warning("Measured before folding, and to be made again: %s", ", ".join(stale))


def export_again(run: Run) -> None:
    """Make the exported files of metrics.json that are not there, such as those of a model from before folding."""
    files = run.metrics.export
    if any(not (run.model / file.file).is_file() for file in files.values()):
        logger.info("exporting again: %s", ", ".join(files))
        export(run, int8="int8" in files)


def _divided(run: Run, staged: Run, evaluation: Evaluation, temperature: float, top_k: Sequence[int]) -> Evaluation:
    """An evaluation after its predictions have been divided."""
    target = staged.path / evaluation.predictions
    divide_logits(run.path / evaluation.predictions, target, temperature)
    return replace(evaluation, **figures_of(target, top_k))


def _put_in_place(run: Run) -> None:
    """Move the files of a whole `.folding` to where they belong, metrics.json last."""
    staged = Run(run.path / ASIDE)
    if not staged.path.is_dir():
        return
    for name in ONNX_FILES.values():
        (run.onnx / name).unlink(missing_ok=True)
    for file in sorted(_files(staged.path), key=lambda file: file == staged.metrics_file):
        move_into_place(file, run.path / file.relative_to(staged.path))
    shutil.rmtree(staged.path)


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]

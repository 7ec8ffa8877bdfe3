"""Evaluate a model: predict once, keep the predictions as Parquet, compute every figure from them."""

import logging
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

from accelerate import Accelerator

from fer_hf.data import Faces
from fer_hf.errors import UserError
from fer_hf.machine import process_settings_kept
from fer_hf.models.classifier import Classifier, Format, load_classifier
from fer_hf.recipe.load import load_recipe
from fer_hf.recipe.schema import Recipe
from fer_hf.runs.folder import Run
from fer_hf.runs.predictions import figures_of, write_predictions
from fer_hf.runs.records import Evaluation
from fer_hf.training.batch_size import memory_explained
from fer_hf.training.launch import processes
from fer_hf.workflows.faces import check_splits, other_faces, recipe_faces, remarks
from fer_hf.workflows.people import slice_people
from fer_hf.workflows.report import redraw

logger = logging.getLogger(__name__)


@process_settings_kept()
def evaluate(
    model: str | Path | Run,
    data: str | None = None,
    split: str = "test",
    format: Format = "pytorch",
    tta: str = "none",
    batch_size: int = 128,
    output: str | Path | None = None,
) -> Evaluation:
    """Evaluate one file of a model on a split of a dataset.

    The predictions go to `predictions/` and the figures to `metrics.json` of the run, or of `output`, whose card, if it
    has one, is drawn again. Figures on other data stand beside the run's own and never take their place. All processes
    of a launch call this.

    Args:
        model: a run, a run folder, a model folder or a Hub id.
        data: a source of faces such as `"rafdb:PATH"` or `"hub:org/name"`; the run's own when None.
        split: `"train"`, `"validation"` or `"test"`.
        format: `"pytorch"`, `"onnx"` or `"int8"`.
        tta: test-time augmentation, `"none"`, `"flip"` or `"ten_crop"`: an evaluation of its own, beside the plain one.
        batch_size: images per step.
        output: where predictions and figures go; the run when None, or `runs/evaluate/<model>` for another model.

    Returns:
        The figures.

    Raises:
        UserError: there is no such model, split or file, or the labels do not fit.

    Example:
        `evaluate("runs/mine/20260131-175900", data="rafdb:PATH", split="test").accuracy`
    """
    run, target = Run(model), evaluation_folder(model, output)
    if data is None and not run.exists():
        what = f"{str(run.path)!r} is no run folder, which would have data of its own"
        wanted = "toy, KIND:PATH (such as fer2013:PATH or folder:PATH) or hub:org/name"
        raise UserError(f"--data is missing: {what}. Give {wanted}.")
    processes()
    classifier = load_classifier(run.finished_model() if run.exists() else model, format)
    recipe = load_recipe(run.recipe_file) if run.exists() else Recipe()
    own = run.exists() and data in (None, recipe.data.source)
    faces = recipe_faces(recipe) if own else other_faces(recipe, str(data), classifier.label_names)
    if own:
        check_splits(run, faces)
    target.predictions.mkdir(parents=True, exist_ok=True)  # what cannot be written is not worth the wait
    [evaluation] = evaluate_on(faces, split, [classifier], target, EvaluationOptions([tta], batch_size, own))
    redraw(target)
    for line in remarks(faces):
        logger.info(line)
    return evaluation


def evaluation_folder(model: str | Path | Run, output: str | Path | None = None) -> Run:
    """Where `evaluate` writes: `output`, or the run, or `runs/evaluate/<model>` for a model that is no run."""
    run = Run(model)
    if output or run.exists():
        return Run(output) if output else run
    return Run(Path("runs/evaluate") / re.sub(r"[^\w.-]+", "-", str(model).strip("/.")))


@dataclass(frozen=True)
class EvaluationOptions:
    """How `evaluate_on` works.

    Each of `ttas` is an evaluation of its own. `own` says whether the faces are the data of the run itself; `alone`,
    whether this process evaluates without the others of a launch, which are not asked to take part.
    """

    ttas: Sequence[str] = ("none",)
    batch_size: int = 128
    own: bool = True
    alone: bool = False


DEFAULTS = EvaluationOptions()


def evaluate_on(
    faces: Faces, split: str, classifiers: Iterable[Classifier], run: Run, options: EvaluationOptions = DEFAULTS
) -> list[Evaluation]:
    """Evaluate loaded classifiers, and write predictions and figures to `run`; the main process writes.

    Args:
        faces: with labels in the order of the classifiers.
    """
    if split not in faces.splits:
        raise UserError(f"{faces.dataset} has no {split} split; it has {', '.join(faces.splits)}.")
    accelerator, dataset = None if options.alone else Accelerator(), faces.splits[split]
    pixels, content = faces.pixels(split), faces.content(split)
    own = options.own or any(e.content == content for e in run.metrics.own_evaluations(split))
    settings = "train.per_device_eval_batch_size, or --batch-size of fer-hf evaluate"
    top_k = load_recipe(run.recipe_file).evaluate.top_k if run.exists() else []
    keys = []
    for classifier, tta in product(classifiers, options.ttas):
        with memory_explained(lambda: f"with {options.batch_size} images at once: lower {settings}."):
            logits = classifier.predict(dataset, options.batch_size, accelerator, tta, pixels)
        evaluation = Evaluation(
            dataset=faces.dataset,
            split=split,
            format=classifier.format,
            tta=tta,
            processes=accelerator.num_processes if accelerator else 1,
            label_names=list(faces.label_names),
            images_of=faces.whole.get(split),
            content=content,
            own=own,
        )
        keys.append(run.evaluation_key(faces.file_name, evaluation))
        if accelerator is None or accelerator.is_main_process:
            file = run.predictions / f"{keys[-1]}.parquet"
            write_predictions(file, dataset, logits)
            run.record(faces.file_name, replace(evaluation, **figures_of(file, top_k)))
            slice_people(run, keys[-1])
        if accelerator:
            accelerator.wait_for_everyone()
    return [run.metrics.evaluations[key] for key in keys]

"""Evaluate a model: predict once, keep the predictions as Parquet, compute every figure from them."""

import logging
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

from accelerate import Accelerator

from fer_hf.data import Faces
from fer_hf.errors import UserError
from fer_hf.evaluation.leaks import without_copies
from fer_hf.machine import process_settings_kept
from fer_hf.models.classifier import Classifier, Format, load_classifier
from fer_hf.recipe.load import load_recipe
from fer_hf.recipe.schema import FIND, Recipe
from fer_hf.runs.folder import Run
from fer_hf.runs.predictions import figures_of, read_predictions, write_predictions
from fer_hf.runs.records import Evaluation
from fer_hf.training.batch_size import memory_explained
from fer_hf.training.launch import processes
from fer_hf.workflows.copies import CopiedImages, copied_images, wanted_copies
from fer_hf.workflows.faces import check_splits, other_faces, recipe_faces, remarks, require_split
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
    of a launch call this. `workflows.across.evaluate_all` does so for several models and datasets.

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
    evaluated = evaluate_one(model, data, Settings(split, format, tta, batch_size), output)
    redraw(evaluated.run)
    return evaluated.evaluation


@dataclass(frozen=True)
class Settings:
    """What `evaluate` is told of an evaluation beside model and data.

    `copies` is as `evaluate.copies` of a recipe, which is taken for the run's own data when it is None.
    """

    split: str = "test"
    format: Format = "pytorch"
    tta: str = "none"
    batch_size: int = 128
    copies: str | None = None


USUAL = Settings()


@dataclass(frozen=True)
class Evaluated:
    """An evaluation that was made: its figures, the folder that has them, and the faces that it was made on."""

    evaluation: Evaluation
    run: Run
    faces: Faces


def evaluate_one(
    model: str | Path | Run, data: str | None, settings: Settings, output: str | Path | None = None
) -> Evaluated:
    """What `evaluate` does, without drawing the card; its arguments are explained there."""
    run, target = Run(model), evaluation_folder(model, output)
    if data is None and not run.exists():
        what = f"{str(run.path)!r} is no run folder, which would have data of its own"
        wanted = "toy, KIND:PATH (such as fer2013:PATH or folder:PATH) or hub:org/name"
        raise UserError(f"--data is missing: {what}. Give {wanted}.")
    processes()
    classifier = load_classifier(run.finished_model() if run.exists() else model, settings.format)
    recipe = load_recipe(run.recipe_file) if run.exists() else Recipe()
    own = run.exists() and data in (None, recipe.data.source)
    faces = recipe_faces(recipe) if own else other_faces(recipe, str(data), classifier.label_names)
    if own:
        check_splits(run, faces)
    require_split(faces, settings.split)
    target.predictions.mkdir(parents=True, exist_ok=True)  # what cannot be written is not worth the wait
    options = EvaluationOptions(
        [settings.tta],
        settings.batch_size,
        own,
        top_k=recipe.evaluate.top_k,
        copied=_copied(run, recipe, faces, settings, own),
    )
    [evaluation] = evaluate_on(faces, settings.split, [classifier], target, options)
    for line in remarks(faces):
        logger.info(line)
    return Evaluated(evaluation, target, faces)


def _copied(run: Run, recipe: Recipe, faces: Faces, settings: Settings, own: bool) -> CopiedImages | None:
    """The images with a copy among those that the model has learnt from, so far as that is known.

    A model that is no run is taken to have learnt from the training split of the data that it is evaluated on.
    """
    if own:
        return copied_images(settings.copies or wanted_copies(run, recipe), run, faces, settings.split)
    if settings.copies is None or not run.exists():
        return copied_images(settings.copies, run, faces, settings.split)
    if settings.copies != FIND:
        raise UserError(
            f"--copies is {settings.copies!r}, an audit of one dataset, but {faces.dataset} is not what {run.path} has "
            f"learnt from. --copies {FIND} looks for its images among those of the run's training."
        )
    return copied_images(FIND, run, faces, settings.split, recipe_faces(recipe))


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
    whether this process evaluates without the others of a launch, which are not asked to take part. `top_k` is that of
    the recipe's section `evaluate`, and `copied` has the images without which the figures are given as well.
    """

    ttas: Sequence[str] = ("none",)
    batch_size: int = 128
    own: bool = True
    alone: bool = False
    top_k: Sequence[int] = ()
    copied: CopiedImages | None = None

    @classmethod
    def of(cls, recipe: Recipe, **others: Any) -> "EvaluationOptions":
        """Those of a recipe."""
        return cls(batch_size=recipe.train.per_device_eval_batch_size, top_k=recipe.evaluate.top_k, **others)


DEFAULTS = EvaluationOptions()


def evaluate_on(
    faces: Faces, split: str, classifiers: Iterable[Classifier], run: Run, options: EvaluationOptions = DEFAULTS
) -> list[Evaluation]:
    """Evaluate loaded classifiers, and write predictions and figures to `run`; the main process writes.

    Args:
        faces: with labels in the order of the classifiers.
    """
    require_split(faces, split)
    accelerator, dataset = None if options.alone else Accelerator(), faces.splits[split]
    pixels, content = faces.pixels(split), faces.content(split)
    own = options.own or any(e.content == content for e in run.metrics.own_evaluations(split))
    settings = "train.per_device_eval_batch_size, or --batch-size of fer-hf evaluate"
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
            run.record(faces.file_name, replace(evaluation, **_figures(file, options)))
            slice_people(run, keys[-1])
        if accelerator:
            accelerator.wait_for_everyone()
    return [run.metrics.evaluations[key] for key in keys]


def _figures(file: Path, options: EvaluationOptions) -> dict[str, Any]:
    """The figures of a predictions file; those without copies too, where it is known which images are copies."""
    figures = figures_of(file, options.top_k)
    if options.copied is None:
        return figures
    rest = without_copies(read_predictions(file), options.copied.ids, options.copied.audit)
    if rest is None:
        logger.warning("copies: every image has a copy among the training images, so no figure without them exists.")
    return figures | {"without_copies": rest}

"""A whole experiment: choose the run folder, train, evaluate, export, report."""

import json
import logging
from pathlib import Path
from typing import Any

from accelerate import PartialState
from accelerate.utils import broadcast_object_list

from fer_hf.data import Faces
from fer_hf.errors import UserError
from fer_hf.files import write_text
from fer_hf.machine import environment, process_settings_kept
from fer_hf.models.classifier import load_classifier, require_optimum
from fer_hf.recipe.load import load_recipe
from fer_hf.recipe.schema import Recipe
from fer_hf.report.model_card import write_report
from fer_hf.runs.folder import Run
from fer_hf.runs.records import Hub
from fer_hf.training.arguments import training_arguments
from fer_hf.training.fit import fit
from fer_hf.training.launch import keep_memory, processes
from fer_hf.workflows.evaluate import EvaluationOptions, evaluate_on
from fer_hf.workflows.export import export_model
from fer_hf.workflows.faces import check_splits, recipe_faces, remarks, splits_csv
from fer_hf.workflows.tensorboard import add_pictures

logger = logging.getLogger(__name__)


@process_settings_kept()
def train(recipe: Recipe, output: str | Path | None = None, resume: bool = False, profile: bool = False) -> Run:
    """Run a recipe from beginning to end: train, evaluate, export if it says so, and write the model card.

    Args:
        recipe: from `load_recipe`.
        output: the run folder; `runs/<recipe>/<time>` when None.
        resume: go on where the newest run of this very recipe stopped, and end with the same weights as a run that
            was not stopped.
        profile: measure where the time of the training goes; `run.metrics.training.profile` holds the seconds.

    Returns:
        The finished run. All processes of a launch call this and get the same.

    Raises:
        UserError: the recipe, the data or the folder have to change first.
        FerError: training diverged, or the disk is full; what was saved stays, and `resume` goes on from it.

    Example:
        `train(load_recipe("fer2013/fer2013_b0", ["data.source=fer2013:PATH"])).evaluation("test").accuracy`
    """
    if not isinstance(recipe, Recipe):
        raise UserError(f"train takes a recipe, not {recipe!r}: train(load_recipe({str(recipe)!r})).")
    if recipe.export.onnx:
        require_optimum()  # now, not after an hour of training
    training_arguments(recipe.train, Path("runs"))  # what transformers refuses, it refuses before anything is made
    state = processes()
    faces = recipe_faces(recipe)  # before there is a folder: a mistake in the data leaves nothing behind
    run = _open_run(recipe, Path(output) if output else None, resume, state)
    try:
        if run.metrics.finished:
            logger.info("%s is finished already: a new run starts without --resume.", run.path)
        else:
            _finish(recipe, faces, run, state, (resume, profile))
    finally:
        run.unlock()
    return run


def _finish(recipe: Recipe, faces: Faces, run: Run, state: PartialState, how: tuple[bool, bool]) -> None:
    """Do what an opened run still lacks; `how` is whether to resume and to profile its training."""
    check_splits(run, faces)
    if state.is_main_process:
        _describe(recipe, run, faces)
    if run.metrics.training is None:
        fit(recipe, faces, run, *how)
    classifier = load_classifier(run)
    for split in (split for split in recipe.evaluate.splits if split in faces.splits):
        for tta in dict.fromkeys(("none", recipe.evaluate.tta)):
            options = EvaluationOptions(tta, recipe.train.per_device_eval_batch_size)
            evaluate_on(faces, split, classifier, run, options)
    if state.is_main_process:
        if recipe.export.onnx:
            write_report(run)  # for who stops the export
            export_model(run, recipe, recipe.export.int8, faces, classifier)
        write_report(run)
        if "tensorboard" in recipe.train.report_to:
            add_pictures(run, faces)
        run.update(finished=True)
    state.wait_for_everyone()


def keep_freed_memory() -> None:
    """Let this process keep the memory that a training on a CPU frees, for good, which makes steps a sixth faster.

    For a process that does nothing else: the command line calls this before `train`.
    """
    if processes().device.type == "cpu":
        keep_memory()


def _open_run(recipe: Recipe, output: Path | None, resume: bool, state: PartialState) -> Run:
    """The run folder, new or to be resumed; the main process chooses and makes it, the others are told."""
    chosen: list[Any] = [None]
    run: Run | None = None
    if state.is_main_process:
        try:
            run = _choose_run(recipe, output, resume)
            run.lock()
            chosen = [str(run.path)]
        except Exception as error:  # the other processes must hear of it, or they would wait for ever
            chosen = [error]
    if state.num_processes > 1:
        broadcast_object_list(chosen)
    if isinstance(chosen[0], Exception):
        raise chosen[0]
    return run or Run(chosen[0])  # the main process goes on with the one that it has locked


def _choose_run(recipe: Recipe, output: Path | None, resume: bool) -> Run:
    """A new run, or with `resume` the newest one of this very recipe."""
    folder = Path("runs") / recipe.name
    if resume:
        candidates = [run for run in ([Run(output)] if output else Run.all(folder)) if run.exists()]
        differences: list[str] = []
        for run in candidates:
            differences = load_recipe(run.recipe_file).differences(recipe)
            if not differences:
                return run
        if candidates:
            raise UserError(
                f"{candidates[-1].path} was started with another recipe: {'; '.join(differences)}. Give the same "
                "recipe and overrides, or leave out --resume to start a new run."
            )
        logger.info("there is no run to resume in %s: a new one starts", output or folder)
    run = Run(output or Run.new_path(folder))
    taken = f"{run.path} holds a run already: add --resume to go on with it, or choose another --output."
    if run.exists():
        raise UserError(taken)
    run.path.mkdir(parents=True, exist_ok=True)
    try:
        run.checkpoints.mkdir(exist_ok=resume)
    except FileExistsError as error:  # another process was faster
        raise UserError(taken) from error
    write_text(run.recipe_file, recipe.to_yaml())
    return run


def _describe(recipe: Recipe, run: Run, faces: Faces) -> None:
    """Write the first sections of metrics.json, splits.csv and environment.json; none holds a path of this machine."""
    settings, surroundings = recipe.public(), environment(recipe.train.seed)
    write_text(run.environment_file, json.dumps(surroundings, indent=1) + "\n")
    write_text(run.splits_file, splits_csv(faces))
    run.update(
        schema_version=1,
        name=recipe.name,
        label_names=list(faces.label_names),
        recipe=settings,
        data=faces.describe(),
        hub=Hub(**settings["hub"]),
        environment=surroundings,
    )
    counts = ", ".join(f"{len(split):,} {name}" for name, split in faces.splits.items())
    logger.info("%s: %s (%s) -> %s", recipe.name, faces.dataset, counts, run.path, extra={"style": "bold"})
    for line in remarks(faces):
        logger.info("  %s", line)

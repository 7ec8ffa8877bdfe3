"""A whole experiment: choose the run folder, train, evaluate, export, report."""

import json
import logging
from pathlib import Path

from fer_hf.data import Faces
from fer_hf.errors import UserError
from fer_hf.files import write_text
from fer_hf.machine import environment, process_settings_kept
from fer_hf.models.classifier import load_classifier, require_optimum
from fer_hf.recipe.load import load_recipe
from fer_hf.recipe.schema import FIND, Recipe
from fer_hf.report.model_card import write_report
from fer_hf.runs.folder import Run
from fer_hf.runs.records import Hub
from fer_hf.training.arguments import training_arguments
from fer_hf.training.checkpoints import go_back
from fer_hf.training.fit import fit
from fer_hf.training.launch import keep_memory, processes, told_by_main
from fer_hf.workflows.copies import copied_images, wanted_copies
from fer_hf.workflows.evaluate import EvaluationOptions, evaluate_on
from fer_hf.workflows.export import export_model
from fer_hf.workflows.faces import check_splits, recipe_faces, remarks, splits_csv
from fer_hf.workflows.tensorboard import add_pictures

logger = logging.getLogger(__name__)


@process_settings_kept()
def train(
    recipe: Recipe,
    output: str | Path | None = None,
    resume: bool = False,
    profile: bool = False,
    resume_from: str | Path | int | None = None,
) -> Run:
    """Run a recipe from beginning to end: train, evaluate, export if it says so, and write the model card.

    Args:
        recipe: from `load_recipe`.
        output: the run folder; `runs/<recipe>/<time>` when None.
        resume: go on where the newest run of this very recipe stopped, and end with the same weights as a run that
            was not stopped.
        resume_from: a checkpoint of that run to go on from, by its path or step, instead of the newest one. Later ones
            are moved to the run's `aside/`.
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
    training_arguments(recipe, Path("runs"))  # what transformers refuses, it refuses before anything is made
    faces = recipe_faces(recipe)  # before there is a folder: a mistake in the data leaves nothing behind
    wanted = None if resume_from is None else str(resume_from)
    run = _open_run(recipe, Path(output) if output else None, resume, wanted)
    try:
        if run.metrics.finished:
            logger.info("%s is finished already: a new run starts without --resume.", run.path)
        else:
            _finish(recipe, faces, run, resume or wanted is not None, profile)
    finally:
        run.unlock()
    return run


def _finish(recipe: Recipe, faces: Faces, run: Run, resume: bool, profile: bool) -> None:
    """Do what an opened run still lacks."""
    state = processes()
    check_splits(run, faces)
    if recipe.evaluate.copies not in (None, FIND):  # what is refused, is refused before the training
        copied_images(recipe.evaluate.copies, run, faces, "test" if "test" in faces.splits else "validation")
    if state.is_main_process:
        _describe(recipe, run, faces)
    if run.metrics.training is None:
        fit(recipe, faces, run, resume, profile)
    classifier = load_classifier(run)
    ttas = list(dict.fromkeys(("none", recipe.evaluate.tta)))
    for split in (split for split in recipe.evaluate.splits if split in faces.splits):
        copied = copied_images(wanted_copies(run, recipe), run, faces, split)
        evaluate_on(faces, split, [classifier], run, EvaluationOptions.of(recipe, ttas=ttas, copied=copied))
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


def _open_run(recipe: Recipe, output: Path | None, resume: bool, resume_from: str | None) -> Run:
    """The run folder, new or to be resumed; the main process chooses and makes it, the others are told."""
    opened: list[Run] = []  # and locked, in this process

    def choose() -> str:
        back = resume_from is not None
        run = _run_of(recipe, output, str(resume_from)) if back else _choose_run(recipe, output, resume)
        run.lock()
        opened.append(run)
        if back:
            logger.info("%s", go_back(run, str(resume_from), processes().num_processes))
        return str(run.path)

    try:
        path = told_by_main(choose)
    except Exception:
        for run in opened:
            run.unlock()
        raise
    return opened[0] if opened else Run(path)


def _run_of(recipe: Recipe, output: Path | None, checkpoint: str) -> Run:
    """The run of a chosen checkpoint: the folder in which its path lies, or else the one to be resumed."""
    above = [Run(folder) for folder in Path(checkpoint).resolve().parents if Run(folder).exists()]
    run = _choose_run(recipe, output or (above[0].path if above else None), True, must_exist=True)
    if run.metrics.training is not None:
        raise UserError(f"{run.path} has been trained to its end: --resume-from goes back in a training that has not.")
    return run


def _choose_run(recipe: Recipe, output: Path | None, resume: bool, must_exist: bool = False) -> Run:
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
        if must_exist:
            raise UserError(f"There is no run in {output or folder}, so no checkpoint to resume from: leave it out.")
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

"""A whole experiment: choose the run folder, train, evaluate, export, report."""

import json
from pathlib import Path
from typing import Any

from accelerate import Accelerator, PartialState
from accelerate.utils import broadcast_object_list

from fer_hf.cli.results import print_profile, print_results
from fer_hf.console import console, quiet_libraries
from fer_hf.data import Faces
from fer_hf.errors import UserError
from fer_hf.files import write_text
from fer_hf.machine import environment
from fer_hf.models.classifier import require_optimum
from fer_hf.recipe.load import load_recipe
from fer_hf.recipe.schema import Recipe
from fer_hf.report import write_report
from fer_hf.runs.folder import Run
from fer_hf.training.arguments import training_arguments
from fer_hf.training.fit import fit
from fer_hf.training.launch import keep_memory, processes
from fer_hf.workflows.evaluate import evaluate_to
from fer_hf.workflows.export import export_run
from fer_hf.workflows.faces import check_splits, load, remarks, splits_csv
from fer_hf.workflows.pictures import add_pictures


def run_recipe(recipe: Recipe, output: Path | None = None, resume: bool = False, profile: bool = False) -> None:
    """Run a recipe from beginning to end, or go on where its newest run stopped."""
    quiet_libraries()
    if recipe.export.onnx:
        require_optimum()  # now, not after an hour of training
    training_arguments(recipe.train, Path("runs"))  # what transformers refuses, it refuses before anything is made
    state = processes()
    if state.device.type == "cpu":
        keep_memory()
    faces = load(recipe)  # before there is a folder: a mistake in the data leaves nothing behind
    run, done = _open_run(recipe, output, resume, state)
    if "finished" in done:
        if state.is_main_process:
            console.print(f"{run.path} is finished already: a new run starts without --resume.")
            print_results(run)
        return
    check_splits(run, faces)
    if state.is_main_process:
        _describe(recipe, run, faces)
    if "training" not in done:
        fit(recipe, faces.splits, run, resume, profile)
    if profile and state.is_main_process:
        print_profile(run)
    accelerator = Accelerator()
    for split in recipe.evaluate.splits:
        for tta in dict.fromkeys(("none", recipe.evaluate.tta)):
            batch = recipe.train.per_device_eval_batch_size
            evaluate_to(run, run.model, faces, split, "pytorch", batch, accelerator, tta)
    if state.is_main_process:
        write_report(run)
        if recipe.export.onnx:
            export_run(run, recipe, recipe.export.int8, faces)
            write_report(run)
        if "tensorboard" in recipe.train.report_to:
            add_pictures(run, faces)
        run.update_metrics(finished=True)
        print_results(run)


def _open_run(recipe: Recipe, output: Path | None, resume: bool, state: PartialState) -> tuple[Run, list[str]]:
    """The run folder, new or to be resumed, and which sections its metrics.json has already.

    The main process chooses and makes it, the others are told.
    """
    chosen: list[Any] = [None, None]
    run: Run | None = None
    if state.is_main_process:
        try:
            run = _choose_run(recipe, output, resume)
            run.lock()
            chosen = [str(run.path), list(run.metrics())]
        except Exception as error:  # the other processes must hear of it, or they would wait for ever
            chosen[0] = error
    if state.num_processes > 1:
        broadcast_object_list(chosen)
    if isinstance(chosen[0], Exception):
        raise chosen[0]
    return run or Run(chosen[0]), chosen[1]  # the main process goes on with the one that it has locked


def _choose_run(recipe: Recipe, output: Path | None, resume: bool) -> Run:
    """A new run, or with `resume` the newest one of this very recipe."""
    folder = Path("runs") / recipe.name
    if resume:
        candidates = [run for run in ([Run(output)] if output else Run.all(folder)) if run.recipe_file.is_file()]
        differing: list[str] = []
        for run in candidates:
            differing = load_recipe(run.recipe_file).differences(recipe)
            if not differing:
                return run
        if candidates:
            raise UserError(
                f"{candidates[-1].path} was started with another recipe: {'; '.join(differing)}. Give the same recipe "
                "and overrides, or leave out --resume to start a new run."
            )
        console.print(f"there is no run to resume in {output or folder}: a new one starts")
    run = Run(output or Run.new_path(folder))
    taken = f"{run.path} holds a run already: add --resume to go on with it, or choose another --output."
    if run.recipe_file.exists():
        raise UserError(taken)
    run.path.mkdir(parents=True, exist_ok=True)
    try:
        run.checkpoints.mkdir(exist_ok=resume)
    except FileExistsError as error:  # another process was faster
        raise UserError(taken) from error
    write_text(run.recipe_file, recipe.to_yaml())
    return run


def _describe(recipe: Recipe, run: Run, faces: Faces) -> None:
    """The first sections of metrics.json; none of them holds a path of this machine."""
    settings = recipe.public()
    surroundings = environment(recipe.train.seed)
    write_text(run.environment_file, json.dumps(surroundings, indent=1) + "\n")
    write_text(run.splits_file, splits_csv(faces))
    run.update_metrics(
        schema_version=1,
        name=recipe.name,
        label_names=list(faces.label_names),
        recipe=settings,
        data=faces.describe(),
        hub=settings["hub"],
        environment=surroundings,
    )
    counts = ", ".join(f"{len(split):,} {name}" for name, split in faces.splits.items())
    console.print(f"{recipe.name}: {faces.dataset} ({counts}) -> {run.path}", style="bold", soft_wrap=True)
    for line in remarks(faces):
        console.print(f"  {line}", style="dim")

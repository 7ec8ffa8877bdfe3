"""`fer-hf study`: every run of a study, one after another on this machine or as a Slurm job array."""

import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any

import typer


def study(
    study: Annotated[str, typer.Argument(help="A study file, or the name of a shipped study.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="[SECTION.KEY=VALUE]...", help="For all runs.")
    ] = None,
    entry: Annotated[str | None, typer.Option(help="Run the entry of this name or number alone, right here.")] = None,
    show: Annotated[bool, typer.Option("--list", help="Print the entries with number and state.")] = False,
    slurm: Annotated[bool, typer.Option("--slurm", help="Submit a job array instead, one task per entry.")] = False,
    slurm_options: Annotated[str, typer.Option(help="For sbatch: '--partition=gpu --gres=gpu:1 --time=2:00:00'.")] = "",
    output: Annotated[Path | None, typer.Option(help="Folder of its runs. [default: runs/<study>]")] = None,
) -> None:
    """Run a study: finished entries are skipped, unfinished ones go on, and a failed one does not stop the others.

    Example: [bold]fer-hf study b_selection data.source=fer2013:PATH[/bold]
    """
    from fer_hf.errors import UserError
    from fer_hf.recipe.study import load_study

    plan, overrides = load_study(study), overrides or []
    folder, names = output or Path("runs") / plan.name, list(plan.entries)
    if entry is not None:
        name = entry if entry in names else dict(zip(map(str, range(len(names))), names, strict=True)).get(entry)
        if name is None:
            raise UserError(f"The study {plan.name} has no entry {entry!r}: --list shows names and numbers.")
        from fer_hf.workflows.train import run_recipe

        return run_recipe(plan.recipe(name, overrides), folder / name, resume=True)
    if os.environ.get("WORLD_SIZE", "1") != "1":
        raise UserError("Several processes run one entry together: say which with --entry.")
    recipes = {name: plan.recipe(name, overrides) for name in names}  # all of them, before the first one starts
    command = [sys.executable, "-m", "fer_hf", "study", study, *overrides, "--output", str(folder)]
    if slurm_options and not slurm:
        raise UserError("--slurm-options goes with --slurm.")
    if not show:
        (folder / "logs").mkdir(parents=True, exist_ok=True)
    states = {name: _state(folder / name, recipe) for name, recipe in recipes.items()}
    if show:
        for number, name in enumerate(names):
            typer.echo(f"{number:3}  {name}  {states[name]}")
    elif others := [name for name in names if states[name] == "of another recipe"]:
        raise UserError(
            f"{folder} holds runs that were started with other settings ({', '.join(others[:3])}): choose another "
            "--output, give the same overrides, or remove them."
        )
    elif slurm:
        todo = [number for number, name in enumerate(names) if states[name] != "finished"]
        _submit(command, folder, names, todo, shlex.split(slurm_options))
    else:
        _run_all(command, folder, recipes)


def _state(path: Path, recipe: Any) -> str:
    from fer_hf.recipe.load import load_recipe
    from fer_hf.runs.folder import Run

    run = Run(path)
    if not run.recipe_file.is_file():
        return "not started"
    if load_recipe(run.recipe_file).differences(recipe):
        return "of another recipe"
    return "finished" if run.metrics().get("finished") else "unfinished"


def _run_all(command: list[str], folder: Path, recipes: dict[str, Any]) -> None:
    """Each entry in a process of its own, with a line on each. Raises `FerError` when one failed."""
    from fer_hf.console import console
    from fer_hf.errors import FerError

    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: the entry is stopped too
    logs, failed = folder / "logs", []
    for number, (name, recipe) in enumerate(recipes.items(), 1):
        state, began, error = _state(folder / name, recipe), time.monotonic(), ""
        if state != "finished":
            with console.status(f"{number} of {len(recipes)}: {name}, see {logs / name}.log"):
                error = _run_one([*command, "--entry", name], logs / f"{name}.log")
        took = timedelta(seconds=round(time.monotonic() - began))
        said = {"finished": "skipped, finished already", "unfinished": f"resumed, finished in {took}"}
        line = f"failed after {took}: {error}" if error else said.get(state, f"finished in {took}")
        if error:
            failed.append(name)
        typer.echo(f"{number} of {len(recipes)}  {name}  {line}")
    typer.echo(f"{len(recipes) - len(failed)} of {len(recipes)} are finished. Rank them: fer-hf compare {folder}")
    if failed:
        raise FerError(f"These failed: {', '.join(failed)}. Why is in {logs}; the same command runs them once more.")


def _run_one(command: list[str], log: Path) -> str:
    """Run a command to its end, what it prints appended to `log`; returns what went wrong, if anything.

    It has a session of its own: of Ctrl-C it gets the SIGTERM below, after which it saves, not the terminal's SIGINT.
    """
    with (
        open(log, "ab") as file,
        subprocess.Popen(command, stdout=file, stderr=file, start_new_session=True) as child,  # noqa: S603
    ):
        try:
            code = child.wait()
        finally:
            child.terminate()  # does nothing to one that has ended
            child.wait()
    said = " ".join(log.read_text(encoding="utf-8", errors="replace").rpartition("Error: ")[2].split())
    return f"killed by signal {-code}" if code < 0 else said[-300:] or f"exit code {code}" if code else ""


def _submit(command: list[str], folder: Path, names: list[str], todo: list[int], options: list[str]) -> None:
    """Write the batch script, unless it is there, and submit one task for each entry that is not finished."""
    from fer_hf.errors import UserError
    from fer_hf.recipe.load import shipped_recipes

    def slurm(*call: str) -> str:
        done = subprocess.run(call, capture_output=True, text=True, check=False)  # noqa: S603
        if done.returncode:
            raise UserError(f"Slurm does not take `{shlex.join(call)}`: {done.stderr.strip()}")
        return done.stdout.strip()

    script, logs = folder / "slurm.sh", folder / "logs"
    if not script.exists():
        shutil.copy(shipped_recipes() / "slurm" / "study.sh", script)
    if not shutil.which("sbatch"):
        raise UserError(f"There is no sbatch here. {script} is written: submit the study on a machine with Slurm.")
    if f"{folder.name} {Path.cwd()}" in slurm("squeue", "--me", "--noheader", "--format=%j %Z").splitlines():
        raise UserError(f"{folder} is in the queue already: wait for it, or `scancel --name={folder.name}` first.")
    if not todo:
        return typer.echo("All are finished.")
    settings = [
        f"--array={','.join(map(str, todo))}",
        f"--job-name={folder.name}",
        f"--output={logs}/slurm-%a.log",
        *options,
    ]
    job = slurm("sbatch", "--parsable", *settings, str(script), str(logs), " ".join(names), *command).partition(";")[0]
    typer.echo(f"Job {job}: {len(todo)} of {len(names)} entries. Watch: squeue -j {job}, {logs}. Stop: scancel {job}")

"""Every run of a study, one after another on this machine or as a Slurm job array."""

import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from rich.text import Text

from fer_hf.console import console
from fer_hf.errors import UserError
from fer_hf.recipe.load import load_recipe, shipped_recipes
from fer_hf.recipe.schema import Recipe
from fer_hf.recipe.study import load_study
from fer_hf.runs.folder import Run


@dataclass(frozen=True)
class StudyRuns:
    """A study, the recipe of each of its entries, the folder of its runs, and the command that runs it."""

    name: str
    recipes: dict[str, Recipe]
    folder: Path
    command: list[str]

    @property
    def names(self) -> list[str]:
        """The entries, in their order."""
        return list(self.recipes)

    def state(self, entry: str) -> str:
        """`"not started"`, `"unfinished"`, `"finished"` or `"of another recipe"`."""
        run = Run(self.folder / entry)
        if not run.exists():
            return "not started"
        if load_recipe(run.recipe_file).differences(self.recipes[entry]):
            return "of another recipe"
        return "finished" if run.metrics.finished else "unfinished"


def open_study(study: str, overrides: list[str] | None = None, output: Path | None = None) -> StudyRuns:
    """A study with the recipes of all its entries, checked before the first one starts.

    Args:
        study: a study file, or the name of a shipped study.
        overrides: `section.key=value`, for all runs.
        output: the folder of its runs; `runs/<study>` when None.

    Raises:
        UserError: the study, or the recipe of an entry, is not valid.
    """
    plan, overrides = load_study(study), overrides or []
    folder = output or Path("runs") / plan.name
    command = [sys.executable, "-m", "fer_hf", "study", study, *overrides, "--output", str(folder)]
    return StudyRuns(plan.name, {name: plan.recipe(name, overrides) for name in plan.entries}, folder, command)


def run_entry(study: StudyRuns, entry: str) -> Run:
    """Run the entry of this name or number in this process, or go on with it."""
    by_number = dict(zip(map(str, range(len(study.names))), study.names, strict=True))
    name = entry if entry in study.names else by_number.get(entry)
    if name is None:
        raise UserError(f"The study {study.name} has no entry {entry!r}: --list shows names and numbers.")
    from fer_hf.workflows.train import train  # takes seconds to import, and the list of a study need not wait for it

    return train(study.recipes[name], study.folder / name, resume=True)


@dataclass(frozen=True)
class EntryResult:
    """How the run of an entry went, in words."""

    name: str
    outcome: str
    failed: bool = False


def run_entries(study: StudyRuns) -> Iterator[EntryResult]:
    """Run each entry that is not finished in a process of its own; a failed one does not stop the others.

    What an entry prints goes to `logs/<entry>.log` in the study's folder.
    """
    _prepare(study)
    logs = study.folder / "logs"
    for number, name in enumerate(study.names, 1):
        state, began, error = study.state(name), time.monotonic(), ""
        if state == "finished":
            yield EntryResult(name, "skipped, finished already")
            continue
        status = Text(f"{number} of {len(study.names)}: {name}, see {logs / name}.log")  # a string would be markup
        with console.status(status):
            error = _run_one([*study.command, "--entry", name], logs / f"{name}.log")
        took = timedelta(seconds=round(time.monotonic() - began))
        outcome = f"{'resumed, ' if state == 'unfinished' else ''}finished in {took}"
        yield EntryResult(name, f"failed after {took}: {error}" if error else outcome, bool(error))


def _prepare(study: StudyRuns) -> None:
    """Make the folder of the logs. Raises `UserError` when the folder holds runs of other settings."""
    if others := [name for name in study.names if study.state(name) == "of another recipe"]:
        raise UserError(
            f"{study.folder} holds runs that were started with other settings ({', '.join(others[:3])}): choose "
            "another --output, give the same overrides, or remove them."
        )
    (study.folder / "logs").mkdir(parents=True, exist_ok=True)


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
    message = " ".join(log.read_text(encoding="utf-8", errors="replace").rpartition("Error: ")[2].split())
    return f"killed by signal {-code}" if code < 0 else message[-300:] or f"exit code {code}" if code else ""


def submit_study(study: StudyRuns, options: str = "") -> str:
    """Write the batch script, unless it is there, and submit one Slurm task for each entry that is not finished.

    Args:
        options: for sbatch, such as `"--partition=gpu --gres=gpu:1"`.

    Returns:
        What was submitted, in a sentence.

    Raises:
        UserError: there is no Slurm here, or the study is in its queue already.
    """
    _prepare(study)
    folder, script, logs = study.folder, study.folder / "slurm.sh", study.folder / "logs"
    if not script.exists():
        shutil.copy(shipped_recipes() / "slurm" / "study.sh", script)
    if not shutil.which("sbatch"):
        raise UserError(f"There is no sbatch here. {script} is written: submit the study on a machine with Slurm.")
    if f"{folder.name} {Path.cwd()}" in _slurm("squeue", "--me", "--noheader", "--format=%j %Z").splitlines():
        raise UserError(f"{folder} is in the queue already: wait for it, or `scancel --name={folder.name}` first.")
    entries = [str(number) for number, name in enumerate(study.names) if study.state(name) != "finished"]
    if not entries:
        return "All are finished."
    escaped = str(logs).replace("%", "%%")  # as the pattern of a file's name has it
    settings = [f"--array={','.join(entries)}", f"--job-name={folder.name}", f"--output={escaped}/slurm-%a.log"]
    settings += [*shlex.split(options), str(script), str(logs), " ".join(study.names)]
    job = _slurm("sbatch", "--parsable", *settings, *study.command).partition(";")[0]
    return (
        f"Job {job}: {len(entries)} of {len(study.names)} entries. Watch: squeue -j {job}, {logs}. Stop: scancel {job}"
    )


def _slurm(*call: str) -> str:
    """What a command of Slurm prints. Raises `UserError` with its reason when it fails."""
    done = subprocess.run(call, capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode:
        raise UserError(f"Slurm does not take `{shlex.join(call)}`: {done.stderr.strip()}")
    return done.stdout.strip()


def check_one_process() -> None:
    """Refuse to run a whole study in a launch of several processes."""
    if os.environ.get("WORLD_SIZE", "1") != "1":
        raise UserError("Several processes run one entry together: say which with --entry.")

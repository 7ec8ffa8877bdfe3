"""`fer-hf study`: every run of a study, one after another on this machine or as a Slurm job array."""

import signal
from pathlib import Path
from typing import Annotated

import typer


def study(
    study: Annotated[str, typer.Argument(help="A study file, or the name of a shipped study.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="[SECTION.KEY=VALUE]...", help="Changes to the recipe of all runs.")
    ] = None,
    entry: Annotated[str | None, typer.Option(help="Run the entry of this name or number alone, right here.")] = None,
    show: Annotated[bool, typer.Option("--list", help="Print the entries with number and state.")] = False,
    slurm: Annotated[bool, typer.Option("--slurm", help="Submit a job array instead, one task per entry.")] = False,
    slurm_options: Annotated[
        str, typer.Option(help="Passed on to sbatch, such as '--partition=gpu --gres=gpu:1 --time=2:00:00'.")
    ] = "",
    output: Annotated[Path | None, typer.Option(help="Folder of its runs. Default: runs/<study>.")] = None,
) -> None:
    """Run a study: finished entries are skipped, unfinished ones go on, and a failed one does not stop the others.

    Example: [bold]fer-hf study b_selection data.source=fer2013:PATH[/bold]
    """
    from fer_hf.errors import FerError, UserError
    from fer_hf.workflows import study as studies

    if slurm_options and not slurm:
        raise UserError("--slurm-options goes with --slurm.")
    runs = studies.open_study(study, overrides, output)
    if entry is not None:
        from fer_hf.cli.tables import print_results
        from fer_hf.workflows.train import keep_freed_memory

        keep_freed_memory()
        return print_results(studies.run_entry(runs, entry))
    studies.check_one_process()
    if show:
        for number, name in enumerate(runs.names):
            typer.echo(f"{number:3}  {name}  {runs.state(name)}")
    elif slurm:
        typer.echo(studies.submit_study(runs, slurm_options))
    else:
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: the entry is stopped too
        failed, count = [], len(runs.names)
        for number, result in enumerate(studies.run_entries(runs), 1):
            typer.echo(f"{number} of {count}  {result.name}  {result.outcome}")
            failed += [result.name] if result.failed else []
        typer.echo(f"{count - len(failed)} of {count} are finished. Rank them: fer-hf compare {runs.folder}")
        if failed:
            logs = runs.folder / "logs"
            raise FerError(
                f"These failed: {', '.join(failed)}. Why is in {logs}; the same command runs them once more."
            )
    return None

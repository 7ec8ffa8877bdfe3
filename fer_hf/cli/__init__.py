"""The command line. One file per command: it parses its options, calls one function and prints what that returns.

Heavy imports wait until a command runs. Every failure ends in one message that says what to do: exit code 2 when the
input has to change, 1 for anything else.
"""

import errno
import gc
import os
import sys
from typing import Annotated, Any

import typer

from fer_hf import __version__
from fer_hf.cli.cache import cache
from fer_hf.cli.calibrate import calibrate
from fer_hf.cli.compare import compare
from fer_hf.cli.data import app as data
from fer_hf.cli.evaluate import evaluate
from fer_hf.cli.explain import explain
from fer_hf.cli.export import export
from fer_hf.cli.features import features
from fer_hf.cli.mixture import mixture
from fer_hf.cli.predict import predict
from fer_hf.cli.push import push
from fer_hf.cli.quickstart import quickstart
from fer_hf.cli.recipe import app as recipe
from fer_hf.cli.report import report
from fer_hf.cli.robustness import robustness
from fer_hf.cli.slices import slices
from fer_hf.cli.study import study
from fer_hf.cli.train import train
from fer_hf.console import quiet_libraries, show_log

INTERRUPTED = 130
RESUME = "Stopped. A training goes on with the same command and --resume, a study with the same command."
NOT_WRITABLE = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENOENT}
app = typer.Typer(
    name="fer-hf",
    help="Fine-tune, evaluate, compress and publish facial-expression models with the Hugging Face stack.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)
PANELS = {
    "Train": (quickstart, train, study),
    "Judge": (evaluate, calibrate, slices, robustness, explain, features, compare, mixture, report),
    "Use": (predict, export, push),
}
for panel, commands in PANELS.items():
    for command in commands:
        app.command(rich_help_panel=panel)(command)
app.command(rich_help_panel="Prepare")(cache)
app.add_typer(recipe, name="recipe", rich_help_panel="Prepare")
app.add_typer(data, name="data", rich_help_panel="Prepare")


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"fer_hf {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error. May stand anywhere.")] = False,
) -> None:
    """Fine-tune, evaluate, compress and publish facial-expression models with the Hugging Face stack.

    Start with: [bold]fer-hf quickstart[/bold]
    """


def main() -> None:
    """The entry point of `fer-hf` and `python -m fer_hf`."""
    # What comes with the libraries stays: a quarter of a short command's time went into looking through it for garbage.
    gc.set_threshold(10_000)
    streams: Any = (sys.stdout, sys.stderr)
    for stream in streams:  # a file's name may hold what the terminal cannot show
        stream.reconfigure(errors="backslashreplace")
    show_log()
    quiet_libraries()
    debug = "--debug" in sys.argv[1:]
    sys.argv[1:] = [argument for argument in sys.argv[1:] if argument != "--debug"]
    try:
        app()
    except SystemExit as stop:
        if stop.code == INTERRUPTED:  # typer has turned Ctrl-C into this
            typer.echo(RESUME, err=True)
        raise
    except Exception as error:
        if debug:
            raise
        code, message = _explain(error)
        if os.environ.get("RANK", "0") == "0":  # in a launch, one process speaks for all
            typer.secho("Error: ", fg="red", bold=True, nl=False, err=True)
            typer.echo(message, err=True)
        sys.exit(code)


def _explain(error: Exception) -> tuple[int, str]:
    """Exit code and message of a failure."""
    from fer_hf.emotions import LabelError
    from fer_hf.errors import FerError

    if isinstance(error, FerError):
        return error.exit_code, str(error)
    if isinstance(error, LabelError):
        return 2, str(error)
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return 1, f"The disk is full{_where(error)}. Free some space, then go on (a training: with --resume)."
    if isinstance(error, OSError) and error.errno in NOT_WRITABLE:
        return 2, f"{error.strerror}{_where(error)}. Choose another place, make the folder, or mend the permissions."
    if isinstance(error, OSError) and error.strerror:
        return 1, f"{error.strerror}{_where(error)}. Nothing finished was lost."
    return (
        1,
        f"{type(error).__name__}: {error}\nThis should not happen. Run the command with --debug for the traceback.",
    )


def _where(error: OSError) -> str:
    return f": {error.filename}" if error.filename else ""

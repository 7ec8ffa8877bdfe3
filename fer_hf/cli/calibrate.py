"""`fer-hf calibrate`: probabilities that say how often they are right."""

from typing import Annotated

import typer

from fer_hf.cli.evaluate import Split


def calibrate(
    run: Annotated[str, typer.Argument(help="A run folder.")],
    split: Annotated[Split, typer.Option(help="What to measure on, of the run's own data.")] = "test",
    error: Annotated[
        list[float], typer.Option(help="Share of the answers that may be wrong when it may give none. May be repeated.")
    ] = [0.1],  # noqa: B006 - typer wants a list, and nobody changes it
    coverage: Annotated[float, typer.Option(help="How often sets of labels are to hold the right one.")] = 0.9,
    fold: Annotated[
        bool, typer.Option("--fold", help="Put the temperature into the weights, and into ONNX and INT8 files.")
    ] = False,
) -> None:
    """Fit temperature, vector and isotonic scaling on validation, and show what they do on test.

    Also a confidence below which to give no answer, and sets of labels that hold the right one (conformal prediction).

    Example: [bold]fer-hf calibrate runs/quickstart/20260131-175900 --fold[/bold]
    """
    from fer_hf.cli.calibration_tables import print_calibration
    from fer_hf.workflows.calibrate import calibrate

    print_calibration(run, calibrate(run, split, error, coverage, fold))

"""`fer-hf evaluate`: predictions and figures of a model, of several or of their mean, on one dataset or several."""

from pathlib import Path
from typing import Annotated, Literal

import typer

Split = Literal["train", "validation", "test"]
Format = Literal["pytorch", "onnx", "int8"]
Tta = Literal["none", "flip", "ten_crop"]
DATA = "toy, KIND:PATH or hub:org/name, as in data.source; may be given several times. Default: the run's own."
COPIES = (
    "Report also the figures without images that have a copy in train: `find` looks for copies in the data; or the "
)
COPIES += "folder of `fer-hf data audit`. Default: the run's evaluate.copies."
OUTPUT = "Folder for predictions and metrics.json. Default: the run, or runs/evaluate/<model>."


def evaluate(
    models: Annotated[
        list[str], typer.Argument(metavar="RUN_OR_MODEL...", help="Run folders, model folders, or Hub ids.")
    ],
    data: Annotated[list[str] | None, typer.Option(help=DATA)] = None,
    split: Annotated[Split, typer.Option(help="Which split.")] = "test",
    format: Annotated[Format, typer.Option(help="Which file of the model.")] = "pytorch",
    tta: Annotated[
        Tta, typer.Option(help="Test-time augmentation: an evaluation of its own, beside the plain one.")
    ] = "none",
    batch_size: Annotated[int, typer.Option(min=1, help="Images per step.")] = 128,
    copies: Annotated[str | None, typer.Option(help=COPIES)] = None,
    distances: Annotated[
        bool, typer.Option("--distances", help="Measure how far the data are from the run's own test set in features.")
    ] = False,
    ensemble: Annotated[
        bool, typer.Option("--ensemble", help="Evaluate the mean of the runs' probabilities, beside each of them.")
    ] = False,
    output: Annotated[Path | None, typer.Option(help=OUTPUT)] = None,
) -> None:
    """Predict once, keep the predictions as Parquet, print every figure, and draw the run's card again.

    Example: [bold]fer-hf evaluate runs/quickstart/20260131-175900 --data rafdb:PATH --data folder:faces[/bold]
    """
    from fer_hf.cli.evaluations import print_ensemble, print_evaluations
    from fer_hf.workflows.across import RULE, evaluate_all
    from fer_hf.workflows.ensemble import evaluate_ensemble
    from fer_hf.workflows.evaluate import Settings

    settings = Settings(split, format, tta, batch_size, copies)
    if ensemble:
        print_ensemble(evaluate_ensemble(models, data or (), settings, output))
    else:
        print_evaluations(evaluate_all(models, data or (), settings, output, distances), RULE)

"""`fer-hf evaluate`: predictions and figures of a model on a dataset."""

from pathlib import Path
from typing import Annotated, Literal

import typer

Split = Literal["train", "validation", "test"]
Format = Literal["pytorch", "onnx", "int8"]
Tta = Literal["none", "flip", "ten_crop"]


def evaluate(
    model: Annotated[str, typer.Argument(metavar="RUN_OR_MODEL", help="A run folder, a model folder, or a Hub id.")],
    data: Annotated[
        str | None,
        typer.Option(help="toy, KIND:PATH or hub:org/name, as in data.source. Default: the run's own."),
    ] = None,
    split: Annotated[Split, typer.Option(help="Which split.")] = "test",
    format: Annotated[Format, typer.Option(help="Which file of the model.")] = "pytorch",
    tta: Annotated[
        Tta, typer.Option(help="Test-time augmentation: an evaluation of its own, beside the plain one.")
    ] = "none",
    batch_size: Annotated[int, typer.Option(min=1, help="Images per step.")] = 128,
    output: Annotated[
        Path | None,
        typer.Option(help="Folder for predictions and metrics.json. Default: the run, or runs/evaluate/<model>."),
    ] = None,
) -> None:
    """Predict once, keep the predictions as Parquet, print every figure, and draw the run's card again.

    Example: [bold]fer-hf evaluate runs/quickstart/20260131-175900 --data toy --split test[/bold]
    """
    from fer_hf.cli.tables import print_classes, print_results
    from fer_hf.workflows.evaluate import evaluate, evaluation_folder

    figures = evaluate(model, data, split, format, tta, batch_size, output)
    print_classes(figures)
    print_results(evaluation_folder(model, output), [figures])

"""`fer-hf export`: ONNX and INT8 files beside the model."""

from typing import Annotated

import typer


def export(
    run: Annotated[str, typer.Argument(help="A run folder.")],
    int8: Annotated[bool, typer.Option("--int8", help="Quantise as well, calibrated on training images.")] = False,
) -> None:
    """Export a run's model with Optimum and measure what came out on the validation split.

    Example: [bold]fer-hf export runs/quickstart/20260131-175900 --int8[/bold]
    """
    from fer_hf.cli.tables import print_results
    from fer_hf.workflows.evaluate import evaluation_folder
    from fer_hf.workflows.export import export

    export(run, int8)
    print_results(evaluation_folder(run))

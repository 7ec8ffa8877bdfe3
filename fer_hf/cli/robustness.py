"""`fer-hf robustness`: a model under blur, noise, bad light and occlusion."""

from pathlib import Path
from typing import Annotated

import typer

from fer_hf.cli.evaluate import Format, Split


def robustness(
    run: Annotated[Path, typer.Argument(help="A run folder.")],
    data: Annotated[
        str | None, typer.Option(help="toy, KIND:PATH or hub:org/name, as in data.source. Default: the run's own.")
    ] = None,
    split: Annotated[Split, typer.Option(help="Which split.")] = "test",
    per_class: Annotated[
        int | None, typer.Option(min=1, help="At most so many images of each class. Default: all of them, 46 times.")
    ] = None,
    baseline: Annotated[
        Path | None, typer.Option(help="A run whose errors count as 1. It is measured too, unless it was.")
    ] = None,
    format: Annotated[Format, typer.Option(help="Which file of the model.")] = "pytorch",
    batch_size: Annotated[int, typer.Option(min=1, help="Images per step.")] = 128,
) -> None:
    """Classify the same images under nine corruptions at five strengths: accuracy, calibration, one figure.

    Blur, motion, noise, JPEG, low light, low resolution, rotation, covered eyes and mouth; equal for every model.

    Example: [bold]fer-hf robustness runs/mine/20260131-175900 --per-class 100 --baseline runs/other/RUN[/bold]
    """
    from fer_hf.cli.tables import print_places, print_plain_table
    from fer_hf.console import output
    from fer_hf.workflows.robustness import robustness, verdict

    record = robustness(run, data, split, per_class, baseline, format, batch_size)
    rows = [
        (name.replace("_", " "), *(f"{c.accuracy:.1%}" for c in of), f"{of[-1].expected_calibration_error:.1%}")
        for name, of in record.by_name().items()
    ]
    print_plain_table(("accuracy at strength", *"12345", "ECE at 5"), rows)
    output.print(verdict(record), soft_wrap=True)
    files = {"figure": record.figure, "examples": record.examples, "logits": record.predictions}
    print_places({what: run / str(file) for what, file in files.items()})

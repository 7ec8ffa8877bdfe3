"""`fer-hf explain`: what a model looks at."""

from pathlib import Path
from typing import Annotated

import typer

from fer_hf.cli.evaluate import Split


def explain(
    run: Annotated[Path, typer.Argument(help="A run folder.")],
    data: Annotated[
        list[str] | None,
        typer.Option(help="toy, KIND:PATH or hub:org/name. Twice: side by side. Default: the run's own."),
    ] = None,
    split: Annotated[Split, typer.Option(help="Which split.")] = "test",
    per_class: Annotated[int, typer.Option(min=1, help="Right predictions of each class, and as many wrong ones.")] = 5,
    output: Annotated[Path | None, typer.Option(help="Folder of the files. Default: explain/ of the run.")] = None,
) -> None:
    """Draw what the network looks at (Grad-CAM), and say whether the maps are better than random ones (ROAD).

    Needs pip install 'fer_hf\\[analysis]'.

    Example: [bold]fer-hf explain runs/mine/20260131-175900 --data rafdb:PATH --data folder:SYNTHETIC[/bold]
    """
    from fer_hf.cli.tables import print_places
    from fer_hf.console import output as out
    from fer_hf.workflows.explain import explain, verdict

    records = explain(run, data or [], split, per_class, output)
    for record in records:
        out.print(f"{record.evaluation}: {record.images} images, {record.right} classified rightly; {record.layer}")
        out.print(verdict(record), soft_wrap=True)
    folder, stem = output or run / "explain", "+".join(record.evaluation for record in records)
    files = {"sheet": "grad-cam.png", "mean maps": "mean-maps.png", "scores": "road.csv"}
    print_places({what: folder / f"{stem}-{name}" for what, name in files.items()})

"""`fer-hf report`: figures, model card and page of a run."""

from pathlib import Path
from typing import Annotated

import typer


def report(
    run: Annotated[str, typer.Argument(help="A run folder.")],
    images: Annotated[bool, typer.Option("--images/--no-images", help="Show faces on the page, or none.")] = True,
    baseline: Annotated[
        Path | None, typer.Option(help="A run, evaluated on the same images, to hold this one against.")
    ] = None,
) -> None:
    """Draw the figures, and write the model card and report.html, a page with everything that was measured.

    The page opens without a network. Everything is drawn from metrics.json and the predictions of the run.

    Example: [bold]fer-hf report runs/quickstart/20260131-175900[/bold]
    """
    from fer_hf.workflows.report import report

    written = report(run, images, baseline)
    typer.echo(f"card: {written.card}")
    typer.echo(f"page: {written.page}")

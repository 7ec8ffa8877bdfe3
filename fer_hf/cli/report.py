"""`fer-hf report`: figures and model card of a run."""

from typing import Annotated

import typer


def report(
    run: Annotated[str, typer.Argument(help="A run folder.")],
) -> None:
    """Draw the figures and write the model card again, from metrics.json alone.

    Example: [bold]fer-hf report runs/quickstart/20260131-175900[/bold]
    """
    from fer_hf.workflows.report import report

    typer.echo(f"card: {report(run)}")

"""`fer-hf predict`: the expression in each picture."""

from pathlib import Path
from typing import Annotated

import typer

from fer_hf.cli.evaluate import Format


def predict(
    model: Annotated[str, typer.Argument(help="A run folder, a model folder, or a Hub id.")],
    images: Annotated[list[Path], typer.Argument(help="Picture files, each a face.")],
    format: Annotated[Format, typer.Option(help="Which file of the model.")] = "pytorch",
    top_k: Annotated[int, typer.Option(min=1, help="How many labels to show.")] = 3,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object per picture, with all probabilities.")
    ] = False,
) -> None:
    """Print the most probable expressions of pictures of faces.

    Example: [bold]fer-hf predict someone/faces face.jpg[/bold]
    """
    import json

    from fer_hf.console import output
    from fer_hf.workflows.predict import predict

    for file, answers in predict(model, images, format):
        if as_json:
            probabilities = {answer["label"]: answer["score"] for answer in answers}
            typer.echo(json.dumps({"file": file, "probabilities": probabilities}, ensure_ascii=False))
        else:
            best = "  ".join(f"{answer['label']} {answer['score']:.1%}" for answer in answers[:top_k])
            output.print(f"{file}  {best}", soft_wrap=True)

"""`fer-hf predict`: the expression in each picture."""

from typing import Annotated

import typer

from fer_hf.cli.evaluate import Format


def predict(
    model: Annotated[str, typer.Argument(help="A run folder, a model folder, or a Hub id.")],
    images: Annotated[
        list[str],
        typer.Argument(help="Pictures of a face, and folders of them. Put -- before a name that begins with a dash."),
    ],
    format: Annotated[Format, typer.Option(help="Which file of the model.")] = "pytorch",
    top_k: Annotated[int, typer.Option(min=1, help="How many labels to show.")] = 3,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object per picture, with all probabilities or an error.")
    ] = False,
) -> None:
    """Print the most probable expressions of pictures of faces.

    Pictures that cannot be read come last, with the reason. The exit code is 1 then, and 2 if there are no others.

    Example: [bold]fer-hf predict someone/faces face.jpg[/bold]
    """
    import json

    from fer_hf.console import output
    from fer_hf.errors import FerError, UserError
    from fer_hf.workflows.predict import predict

    answered, failed = 0, list[str]()
    for found in predict(model, images, format):
        answered += bool(found.answers)
        if found.reason:
            failed.append(f"{found.file} is no picture that can be read: {found.reason}.")
        if as_json:
            probabilities = {answer["label"]: answer["score"] for answer in found.answers}
            rest = {"error": found.reason} if found.reason else {"probabilities": probabilities}
            typer.echo(json.dumps({"file": found.file} | rest, ensure_ascii=False))
        elif found.answers:
            best = "  ".join(f"{answer['label']} {answer['score']:.1%}" for answer in found.answers[:top_k])
            output.print(f"{found.file}  {best}", soft_wrap=True)
    if failed:
        kind = FerError if answered else UserError
        raise kind("\n".join([f"{len(failed):,} of {answered + len(failed):,} could not be read.", *failed]))

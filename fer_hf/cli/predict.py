"""`fer-hf predict`: the expression in each picture."""

from pathlib import Path
from typing import Annotated

import typer

from fer_hf.cli.evaluate import Format

BATCH_SIZE = 64  # pictures that are in memory at once


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
    from typing import Any

    import torch

    from fer_hf.console import output, quiet_libraries
    from fer_hf.data.decode import decode
    from fer_hf.errors import UserError
    from fer_hf.images.batches import to_uint8
    from fer_hf.images.spec import ImageSpec
    from fer_hf.images.transforms import EvalTransform
    from fer_hf.models.classifier import load_onnx
    from fer_hf.models.load import load_model
    from fer_hf.runs.folder import Run
    from fer_hf.workflows.evaluate import ONNX_FILES

    quiet_libraries()
    source = Run(model).finished_model() if Run(model).recipe_file.is_file() else model
    loaded = load_model(str(source))
    loaded.model.eval()
    classifier: Any = loaded.model if format == "pytorch" else load_onnx(source, ONNX_FILES[format])
    transform = EvalTransform(ImageSpec.from_processor(loaded.processor))
    for start in range(0, len(images), BATCH_SIZE):
        pictures = []
        for path in images[start : start + BATCH_SIZE]:
            try:
                pictures.append(to_uint8(decode(path)))
            except ValueError as error:
                raise UserError(f"{path} is no picture that can be read: {error}") from error
        with torch.inference_mode():
            probabilities = torch.softmax(classifier(pixel_values=transform(pictures)).logits, dim=-1).tolist()
        for path, row in zip(images[start : start + BATCH_SIZE], probabilities, strict=True):
            ranked = sorted(zip(loaded.label_names, row, strict=True), key=lambda pair: -pair[1])
            if as_json:
                typer.echo(json.dumps({"file": str(path), "probabilities": dict(ranked)}, ensure_ascii=False))
            else:
                best = "  ".join(f"{label} {probability:.1%}" for label, probability in ranked[:top_k])
                output.print(f"{path}  {best}", soft_wrap=True)

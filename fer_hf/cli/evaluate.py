"""`fer-hf evaluate`: predictions and figures of a model on a dataset."""

import re
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
    """Predict once, keep the predictions as Parquet, and print every figure.

    Example: [bold]fer-hf evaluate runs/quickstart/20260131-175900 --data toy --split test[/bold]
    """
    from accelerate import Accelerator

    from fer_hf.cli.results import print_results
    from fer_hf.console import console, quiet_libraries
    from fer_hf.errors import UserError
    from fer_hf.models.load import load_model
    from fer_hf.recipe.load import load_recipe
    from fer_hf.recipe.schema import Recipe
    from fer_hf.runs.folder import Run
    from fer_hf.training.launch import processes
    from fer_hf.workflows.evaluate import evaluate_to
    from fer_hf.workflows.faces import check_splits, load, remarks

    quiet_libraries()
    own = Run(model)
    is_run = own.recipe_file.is_file()
    if data is None and not is_run:
        raise UserError("--data is missing: toy, KIND:PATH (such as fer2013:PATH or folder:PATH) or hub:org/name.")
    processes()
    accelerator = Accelerator()
    source = own.finished_model() if is_run else model
    recipe = load_recipe(own.recipe_file) if is_run else Recipe()
    same = is_run and data in (None, recipe.data.source)
    faces = load(recipe, None if same else data, load_model(str(source)).label_names)
    if same:
        check_splits(own, faces)
    named_alike = faces.source == "folder" and faces.dataset == own.metrics().get("data", {}).get("dataset")
    if is_run and named_alike and not same and not output:
        raise UserError(f"{data} has the name of the run's own dataset: give --output to keep their figures apart.")
    run = Run(output or (own.path if is_run else Path("runs/evaluate") / re.sub(r"[^\w.-]+", "-", model.strip("/."))))
    name = evaluate_to(run, source, faces, split, format, batch_size, accelerator, tta)
    if accelerator.is_main_process:
        for line in remarks(faces):
            console.print(line, style="dim")
        print_results(run, only=name)
    accelerator.wait_for_everyone()

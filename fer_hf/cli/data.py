"""`fer-hf data`: look at faces, audit them, find label errors, and make datasets."""

from pathlib import Path
from typing import Annotated

import typer

from fer_hf.cli.evaluate import Split
from fer_hf.cli.faces import faces
from fer_hf.cli.grid import app as grid

app = typer.Typer(help="Look at faces, audit them, find label errors, and make datasets.", no_args_is_help=True)
app.command()(faces)
app.add_typer(grid, name="grid")

Sources = Annotated[
    list[str],
    typer.Argument(metavar="SOURCE...", help="toy, KIND:PATH or hub:org/name, as in data.source; several make one."),
]
LabelSet = Annotated[
    str | None, typer.Option(help="fer6, fer7, fer8 or names joined by commas. Default: all emotions that there are.")
]


@app.command()
def show(
    source: Sources,
    label_set: LabelSet = None,
    split: Annotated[Split | None, typer.Option(help="Which split. Default: the first there is.")] = None,
    per_class: Annotated[int, typer.Option(min=1, max=40, help="Faces of each class on the sheet.")] = 12,
    seed: Annotated[int, typer.Option(help="Which faces are drawn.")] = 0,
    output: Annotated[Path | None, typer.Option(help="The PNG. Default: runs/show/<dataset>-<split>.png.")] = None,
) -> None:
    """Print the number of faces in each class, and draw some of them on a contact sheet.

    Example: [bold]fer-hf data show toy[/bold]
    """
    from fer_hf.console import output as out
    from fer_hf.workflows.audit import class_sheet, class_table, inspect

    loaded = inspect(source, label_set)
    out.print(class_table(loaded))
    chosen: str = split or next(iter(loaded.splits))
    path = class_sheet(loaded, chosen, per_class, seed, output)
    out.print(f"sheet: {path}", soft_wrap=True)


@app.command()
def audit(
    source: Sources,
    label_set: LabelSet = None,
    output: Annotated[Path | None, typer.Option(help="The folder. Default: runs/audit/<dataset>.")] = None,
) -> None:
    """Find duplicates, also across splits, blank and broken images, and images under two labels.

    Writes audit.html (with the pictures), audit.json, and exclude.csv for data.exclude.

    Example: [bold]fer-hf data audit fer2013:PATH[/bold]
    """
    from fer_hf.workflows.audit import inspect, write_audit

    write_audit(inspect(source, label_set, check_images=False), output)


@app.command("label-errors")
def label_errors(
    run: Annotated[str, typer.Argument(help="A run folder.")],
    split: Annotated[Split, typer.Option(help="Which split of the run's own data.")] = "validation",
    folds: Annotated[
        int, typer.Option(min=2, max=20, help="For --split train: how many models are trained, each without a part.")
    ] = 5,
) -> None:
    """Rank images whose label is likely wrong (confident learning), and draw them on a contact sheet.

    For the train split, the run's recipe is trained anew on each part's complement; stopped, it goes on where it was.

    Example: [bold]fer-hf data label-errors runs/quickstart/20260131-175900[/bold]
    """
    from fer_hf.runs.folder import Run
    from fer_hf.workflows.label_errors import write_label_errors

    write_label_errors(Run.open(run), split, folds)


@app.command()
def save(
    source: Sources,
    output: Annotated[Path, typer.Option(help="A new folder.")],
    label_set: LabelSet = None,
    exclude: Annotated[str | None, typer.Option(help="A csv of images to leave out, as `audit` writes it.")] = None,
    title: Annotated[str | None, typer.Option(help="Title of the dataset card. Default: the dataset's name.")] = None,
) -> None:
    """Write faces as Parquet, image bytes included, with a dataset card.

    Example: [bold]fer-hf data save folder:faces --output prepared[/bold]
    """
    from fer_hf.console import output as out
    from fer_hf.data.prepared import columns, save
    from fer_hf.report.dataset_card import dataset_card
    from fer_hf.workflows.audit import inspect

    loaded = inspect(source, label_set, exclude=exclude)
    save(loaded, output, dataset_card(loaded.describe(), title or loaded.dataset, columns(loaded)))
    out.print(f"dataset: {output}", soft_wrap=True)


@app.command()
def push(
    folder: Annotated[Path, typer.Argument(help="A folder that `fer-hf data save` wrote.")],
    repo_id: Annotated[str, typer.Option(help="someone/name")],
    private: Annotated[bool, typer.Option("--private", help="Make a new repository private.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check everything, send nothing.")] = False,
) -> None:
    """Publish a prepared dataset. Faces are personal data: publish only what you have the right to publish.

    Example: [bold]fer-hf data push prepared --repo-id someone/faces --private --dry-run[/bold]
    """
    from fer_hf import hub
    from fer_hf.console import output as out

    url = hub.push_dataset(folder, repo_id, private, dry_run=dry_run)
    out.print(f"dry run, nothing was sent to {url}" if dry_run else f"published: {url}", soft_wrap=True)

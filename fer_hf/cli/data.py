"""`fer-hf data`: look at faces, audit them, find label errors, choose what to label, and make datasets."""

from pathlib import Path
from typing import Annotated

import typer

from fer_hf.cli.evaluate import Split
from fer_hf.cli.faces import faces
from fer_hf.cli.grid import app as grid
from fer_hf.cli.label_errors import label_errors
from fer_hf.cli.rank import rank

app = typer.Typer(
    help="Look at faces, audit them, find label errors, choose what to label, make datasets.", no_args_is_help=True
)
app.command()(faces)
app.command("label-errors")(label_errors)
app.command()(rank)
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
    output: Annotated[
        Path | None, typer.Option(dir_okay=False, help="The PNG. Default: runs/show/<dataset>-<split>.png.")
    ] = None,
) -> None:
    """Print the number of faces in each class, and draw some of them on a contact sheet.

    Example: [bold]fer-hf data show toy[/bold]
    """
    from fer_hf.cli.tables import class_table
    from fer_hf.console import output as out
    from fer_hf.workflows.datasets import class_counts, draw_classes, inspect_faces

    loaded = inspect_faces(source, label_set)
    out.print(class_table(class_counts(loaded)))
    out.print(f"sheet: {draw_classes(loaded, split, per_class, seed, output)}", soft_wrap=True)


@app.command()
def audit(
    source: Sources,
    label_set: LabelSet = None,
    output: Annotated[
        Path | None, typer.Option(file_okay=False, help="The folder. Default: runs/audit/<dataset>.")
    ] = None,
) -> None:
    """Find duplicates, also across splits, blank and broken images, and images under two labels.

    Writes audit.html (with the pictures), audit.json, exclude.csv for data.exclude, and copies.csv, which says which
    image is a copy of which, for evaluate.copies.

    Example: [bold]fer-hf data audit fer2013:PATH[/bold]
    """
    from rich.table import Column, Table

    from fer_hf.cli.tables import class_table, print_places
    from fer_hf.console import output as out
    from fer_hf.workflows.datasets import audit_faces, class_counts, inspect_faces

    loaded = inspect_faces(source, label_set, check_images=False)
    result = audit_faces(loaded, output)
    table = Table(result.dataset, Column("images", justify="right"))
    for what, count in result.counts.items():
        table.add_row(what, f"{count:,}")
    out.print(class_table(class_counts(loaded)), table, sep="\n")
    places = {"page": result.page, "figures": result.figures, "to leave out": result.exclude, "copies": result.copies}
    print_places(places)


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
    from fer_hf.workflows.datasets import inspect_faces, save_faces

    save_faces(inspect_faces(source, label_set, exclude=exclude), output, title)
    out.print(f"dataset: {output}", soft_wrap=True)


@app.command()
def push(
    folder: Annotated[Path, typer.Argument(help="A folder that `fer-hf data save` wrote.")],
    repo_id: Annotated[str, typer.Option(help="Where to: someone/name.")],
    private: Annotated[bool, typer.Option("--private", help="Make a new repository private.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check everything, send nothing.")] = False,
) -> None:
    """Publish a prepared dataset. Faces are personal data: publish only what you have the right to publish.

    Example: [bold]fer-hf data push prepared --repo-id someone/faces --private --dry-run[/bold]
    """
    from fer_hf.console import output as out
    from fer_hf.workflows.push import push_faces

    url = push_faces(folder, repo_id, private, dry_run)
    out.print(f"dry run, nothing was sent to {url}" if dry_run else f"published: {url}", soft_wrap=True)

"""`fer-hf features`: what a network makes of images before it classifies them."""

from pathlib import Path
from typing import Annotated

import typer

from fer_hf.cli.evaluate import Split


def features(
    run: Annotated[Path, typer.Argument(help="A run folder.")],
    data: Annotated[
        list[str] | None,
        typer.Option(help="toy, KIND:PATH or hub:org/name. Twice: how far apart they are. Default: the run's own."),
    ] = None,
    split: Annotated[Split, typer.Option(help="Which split.")] = "test",
    query: Annotated[
        list[str] | None, typer.Option(help="Id of an image whose neighbours are shown. Default: one of each class.")
    ] = None,
    k: Annotated[int, typer.Option("--neighbours", "-k", min=1, help="Nearest neighbours of each.")] = 8,
    output: Annotated[Path | None, typer.Option(help="Folder of the files. Default: features/ of the run.")] = None,
) -> None:
    """Write the features before the classifier (Parquet), draw PCA, t-SNE and nearest neighbours, compare two sources.

    Example: [bold]fer-hf features runs/mine/20260131-175900 --data rafdb:PATH --data folder:SYNTHETIC[/bold]
    """
    from fer_hf.cli.tables import print_places
    from fer_hf.console import output as out
    from fer_hf.workflows.features import features

    space = features(run, data or [], split, query or [], k, output)
    out.print(f"{' and '.join(f'{count:,}' for count in space.images)} images, {space.dimensions:,} features each")
    if d := space.domains:
        out.print(
            f"{d.first} and {d.second}: a linear probe tells them apart in {d.probe_accuracy:.1%} of cases (chance "
            f"{d.probe_chance:.1%}); Frechet distance {d.frechet:.2f}, MMD {d.mmd:.4f}",
            soft_wrap=True,
        )
    tables = {f"features {number}": path for number, path in enumerate(space.tables, 1)}
    print_places({**tables, "planes": space.planes, "neighbours": space.neighbours})

"""`fer-hf data rank`: which unlabelled pictures to label next."""

from pathlib import Path
from typing import Annotated

import typer


def rank(
    model: Annotated[str, typer.Argument(help="A run folder, a model folder, or a Hub id.")],
    folder: Annotated[str, typer.Argument(help="A folder of pictures of a face, with any sub-folders.")],
    most: Annotated[int, typer.Option(min=1, help="How many pictures to choose.")] = 100,
    output: Annotated[Path | None, typer.Option(help="The folder. Default: runs/rank/<folder>.")] = None,
) -> None:
    """Choose the pictures whose labels would teach the model most: uncertain ones, each unlike the others.

    Writes rank.csv and rank.png, a contact sheet. Pictures that cannot be read come last; the exit code is 1 then.

    Example: [bold]fer-hf data rank runs/quickstart/20260131-175900 unlabelled --most 50[/bold]
    """
    from fer_hf.cli.tables import print_places, print_plain_table
    from fer_hf.console import output as out
    from fer_hf.errors import FerError
    from fer_hf.workflows.rank import rank_pictures

    result = rank_pictures(model, folder, most, output)
    header = ["picture", "rank", "uncertainty", "predicted", "probability", "distance"]
    rows = [
        [r.file, str(r.rank), f"{r.uncertainty:.2f}", r.predicted, f"{r.probability:.1%}", f"{r.distance:.3f}"]
        for r in result.rows[:10]
    ]
    print_plain_table(header, rows)
    out.print(f"{len(result.rows):,} of {result.images:,} pictures are chosen; the first {len(rows)} are shown")
    print_places({"list": result.list, "sheet": result.sheet})
    if result.unread:
        lines = [f"{one.file} is no picture that can be read: {one.reason}." for one in result.unread]
        raise FerError("\n".join([f"{len(lines):,} could not be read.", *lines]))

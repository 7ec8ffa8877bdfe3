"""`fer-hf data faces`: from photographs to aligned, scored crops of faces."""

from pathlib import Path
from typing import Annotated, Literal

import typer

DetectorName = Literal["auto", "yunet", "haar"]


def faces(
    source: Annotated[Path, typer.Argument(help="A folder of photographs, with any sub-folders.")],
    output: Annotated[Path, typer.Option(help="A new folder. Sub-folders, such as classes, are kept.")],
    detector: Annotated[
        DetectorName,
        typer.Option(help="yunet is the better one and needs a model from the Hub; auto takes it if it can."),
    ] = "auto",
    size: Annotated[int, typer.Option(min=16, max=2048, help="Width and height of a crop in pixels.")] = 224,
    margin: Annotated[float, typer.Option(min=0, max=2, help="Room on each side, in parts of the face.")] = 0.25,
    every: Annotated[bool, typer.Option("--all", help="All faces of a photograph, not only the largest.")] = False,
    min_score: Annotated[float, typer.Option(min=0, max=1, help="How sure the detector has to be.")] = 0.6,
    min_face: Annotated[int, typer.Option(min=1, help="Smallest face in pixels.")] = 48,
    min_sharpness: Annotated[float, typer.Option(min=0, help="Least sharpness; below about 25 is blurred.")] = 25,
    max_yaw: Annotated[float, typer.Option(min=0, max=90, help="How far a face may be turned away, in degrees.")] = 45,
) -> None:
    """Find the faces in photographs, turn them upright, crop them, and sort out poor ones.

    Writes faces/ with metadata.csv (the scores of each crop), and rejects.csv (what was left out, and why).

    Example: [bold]fer-hf data faces photographs --output crops[/bold]
    """
    from fer_hf.workflows.collect import crop_faces

    limits = {"face_size": min_face, "sharpness": min_sharpness, "yaw": max_yaw}
    counts = crop_faces(source, output, detector, min_score, limits, size=size, margin=margin, every=every)
    rows = {"photographs": counts["photographs"], "faces looked at": counts["faces"], "faces kept": counts["kept"]}
    rows |= {f"left out: {reason}": number for reason, number in counts["rejected"].items()}
    rows |= {"links not followed": counts["links"]} if counts["links"] else {}
    for what, number in rows.items():
        typer.echo(f"{what:24} {number:8,}")
    typer.echo(f"detector: {counts['detector']}")
    typer.echo(f"faces:    {output / 'faces'}")

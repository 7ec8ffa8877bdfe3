"""`fer-hf cache`: the decoded images that training keeps."""

from typing import Annotated

import typer


def cache(
    clear: Annotated[bool, typer.Option("--clear", help="Remove them; they are made again when needed.")] = False,
) -> None:
    """Say where training keeps the images that it has decoded, and how much they take.

    Example: [bold]fer-hf cache --clear[/bold]
    """
    from contextlib import suppress

    from fer_hf.console import output
    from fer_hf.data.cache import folder

    size = 0
    for file in folder().glob("*"):
        with suppress(FileNotFoundError):  # a training has just moved it
            size += file.stat().st_size
            if clear and file.suffix != ".lock":
                file.unlink()
    said = "removed" if clear else "kept"
    output.print(f"decoded images: {size / 1e6:,.0f} MB {said}, {folder()}", soft_wrap=True)

"""`fer-hf cache`: the decoded images that training keeps."""

from typing import Annotated

import typer


def cache(
    clear: Annotated[bool, typer.Option("--clear", help="Remove them; they are made again when needed.")] = False,
) -> None:
    """Say where training keeps the images that it has decoded, and how much they take.

    Example: [bold]fer-hf cache --clear[/bold]
    """
    from fer_hf.console import output
    from fer_hf.workflows.cache import decoded_images

    images = decoded_images(clear)
    output.print(
        f"decoded images: {images.bytes / 1e6:,.0f} MB {'removed' if clear else 'kept'}, {images.folder}",
        soft_wrap=True,
    )

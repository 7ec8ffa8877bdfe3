"""The decoded images that training keeps."""

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from fer_hf.data.cache import folder


@dataclass(frozen=True)
class DecodedImages:
    """Where decoded images are kept, and how many bytes they take, or took before they were removed."""

    folder: Path
    bytes: int


def decoded_images(clear: bool = False) -> DecodedImages:
    """Where training keeps the images that it has decoded, and their size; with `clear` they are removed."""
    size = 0
    for file in folder().glob("*"):
        with suppress(FileNotFoundError):  # a training has just moved it
            size += file.stat().st_size
            if clear and file.suffix != ".lock":
                file.unlink()
    return DecodedImages(folder(), size)

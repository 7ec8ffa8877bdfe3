"""A contact sheet: pictures in rows, each with a caption, for people to look through."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont, ImageOps

from fer_hf.files import written_whole

MARGIN = 8  # pixels
LINE = 15  # height of a line of text
COLOURS = {"bad": (213, 94, 0), "good": (0, 114, 178)}  # Okabe and Ito's colour-blind-safe vermilion and blue


def contact_sheet(
    pictures: Sequence[Image.Image],
    captions: Sequence[str],
    columns: int = 10,
    size: int = 96,
    title: str = "",
    marks: Sequence[str | None] | None = None,
) -> Image.Image:
    """An RGB sheet of `pictures`, each fitted into `size` x `size` pixels above its caption (lines split at a newline).

    A picture whose mark is "bad" or "good" gets a frame of that colour.
    """
    columns = max(1, min(columns, len(pictures)))
    lines = max((caption.count("\n") + 1 for caption in captions), default=0)
    cell_w, cell_h = size + MARGIN, size + lines * LINE + MARGIN
    top = MARGIN + (LINE + MARGIN if title else 0)
    rows = -(-len(pictures) // columns)
    width = max(columns * cell_w + MARGIN, 7 * len(title) + 2 * MARGIN)
    sheet = Image.new("RGB", (width, top + rows * cell_h), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=12)
    pen.text((MARGIN, MARGIN), title, fill="black", font=font)
    for place, (picture, caption) in enumerate(zip(pictures, captions, strict=True)):
        x, y = MARGIN + place % columns * cell_w, top + place // columns * cell_h
        fitted = ImageOps.contain(picture.convert("RGB"), (size, size))
        sheet.paste(fitted, (x + (size - fitted.width) // 2, y + (size - fitted.height) // 2))
        if marks and (mark := marks[place]):
            pen.rectangle((x - 2, y - 2, x + size + 1, y + size + 1), outline=COLOURS[mark], width=2)
        for line, text in enumerate(caption.split("\n")):
            pen.text((x, y + size + line * LINE), _fit(text, size, font), fill=(40, 40, 40), font=font)
    return sheet


def save_sheet(path: Path, pictures: Sequence[Image.Image], captions: Sequence[str], **layout: Any) -> None:
    """Write a contact sheet as PNG, whole or not at all; `layout` is that of `contact_sheet`."""
    with written_whole(path) as aside:
        contact_sheet(pictures, captions, **layout).save(aside, "PNG")


def _fit(text: str, width: int, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> str:
    """The text, cut to `width` pixels."""
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "…") > width:
        text = text[:-1]
    return text + "…"

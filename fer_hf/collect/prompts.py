"""Prompts for synthetic faces: a picture is a grid of headshots that show one emotion.

They hold what a study of such pictures found: naming the emotion first, and once more, and "extreme" strengthen it;
"movie" helps; "realistic" makes cartoons, so it never occurs; and now and then a face of the other gender slips in, so
the gender is said twice. Models do not keep to the number of rows and columns: `fer-hf data grid slice` finds the grid
that is there.
"""

import zlib
from collections.abc import Sequence
from itertools import product
from typing import Any

from fer_hf.emotions import EMOTIONS, canonical
from fer_hf.errors import UserError

SHOWN = {
    "angry": ("anger", "brows pulled down, eyes glaring, lips pressed or teeth bared"),
    "contempt": ("contempt", "one corner of the mouth raised and tightened"),
    "disgust": ("disgust", "nose wrinkled, upper lip raised"),
    "fear": ("fear", "brows raised and drawn together, eyes wide, mouth stretched"),
    "happy": ("happiness", "a broad smile that reaches the eyes"),
    "neutral": ("a neutral expression", "face relaxed, mouth closed, no emotion"),
    "sad": ("sadness", "inner brows raised, corners of the mouth down, eyes heavy"),
    "surprise": ("surprise", "brows raised, eyes wide, jaw dropped"),
}
GENDERS = {"female": ("women", "girls"), "male": ("men", "boys")}  # grown up, and children
AGES = {"4-19": "aged 10 to 19", "20-39": "aged 20 to 39", "40-69": "aged 40 to 69", "70+": "aged 70 and over"}
INTENSITIES = {"mild": "slight", "strong": "strong", "extreme": "extreme"}


def prompt_set(
    emotions: Sequence[str] = EMOTIONS,
    genders: Sequence[str] = ("female", "male"),
    ages: Sequence[str] = ("20-39",),
    intensities: Sequence[str] = ("extreme",),
    per_kind: int = 1,
    cells: tuple[int, int] = (6, 6),
    seed: int = 0,
) -> list[dict[str, Any]]:
    """One record for each picture: every emotion x gender x age x intensity, `per_kind` times with seeds of their own.
    `cells` are the rows and columns of a picture.

    Keys: id, prompt, emotion, gender, age, intensity, rows, columns, seed. A neutral face has no intensity, and
    comes as often as the others all together. Raises `UserError` for a value that is not known.
    """
    for what, values, known in (
        ("gender", genders, [*GENDERS]),
        ("age", ages, [*AGES]),
        ("intensity", intensities, [*INTENSITIES]),
    ):
        if unknown := [value for value in values if value not in known]:
            raise UserError(f"{unknown[0]!r} is no {what}: use {', '.join(known)}.")
    kinds = [
        (emotion, gender, age, "none" if emotion == "neutral" else intensity)
        for emotion, gender, age, intensity in product(map(canonical, emotions), genders, ages, intensities)
    ]
    pictures = [
        (kind, "-".join([*kind, f"{number:03d}"]))
        for kind in dict.fromkeys(kinds)
        for number in range(per_kind * kinds.count(kind))
    ]
    return [
        {
            "id": name,
            "prompt": prompt(*kind, *cells),
            **dict(zip(("emotion", "gender", "age", "intensity"), kind, strict=True)),
            "rows": cells[0],
            "columns": cells[1],
            "seed": zlib.crc32(f"{seed} {name}".encode()) >> 1,
        }
        for kind, name in pictures
    ]


def prompt(emotion: str, gender: str, age: str, intensity: str, rows: int, columns: int) -> str:
    """The text for one picture."""
    noun, look = SHOWN[emotion]
    feeling = noun if emotion == "neutral" else f"{INTENSITIES[intensity]} {noun}"
    people = GENDERS[gender][age == "4-19"]
    return (
        f"{feeling[0].upper()}{feeling[1:]}, movie still: {rows * columns} headshots of different {people} "
        f"{AGES[age]}, arranged in a grid of {rows} rows and {columns} columns. Every face shows {feeling}: {look}. "
        f"Only {people}, of many origins, one face in each cell, facing the camera, plain background, all cells of "
        "equal size, no text."
    )

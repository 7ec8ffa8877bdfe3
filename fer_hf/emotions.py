"""The taxonomy: canonical emotion names, their aliases, label sets, and alignment of label lists by name.

Every dataset and checkpoint of the field numbers the emotions in an order of its own, and mixing two orders up is the
field's commonest silent error. So ids never travel in this package: names do, and this module is where names meet.
"""

from collections.abc import Sequence
from difflib import get_close_matches
from functools import cache

EMOTIONS = ("angry", "contempt", "disgust", "fear", "happy", "neutral", "sad", "surprise")

LABEL_SETS: dict[str, tuple[str, ...]] = {
    "fer6": tuple(e for e in EMOTIONS if e not in ("contempt", "disgust")),
    "fer7": tuple(e for e in EMOTIONS if e != "contempt"),
    "fer8": EMOTIONS,
}

ALIASES: dict[str, str] = {
    "anger": "angry",
    "contemptuous": "contempt",
    "disgusted": "disgust",
    "afraid": "fear",
    "fearful": "fear",
    "happiness": "happy",
    "joy": "happy",
    "neutrality": "neutral",
    "calm": "neutral",
    "sadness": "sad",
    "surprised": "surprise",
    "suprise": "surprise",  # so spelt in datasets that people use
}

VALENCE: dict[str, tuple[str, ...]] = {
    "positive": ("happy",),
    "negative": ("angry", "contempt", "disgust", "fear", "sad"),
    "neutral": ("neutral",),
    "surprise": ("surprise",),
}
"""Groups of emotions. Surprise can be pleasant or not, and is a group of its own, as in the MEGC 2019 challenge."""


class LabelError(ValueError):
    """A label name that is no emotion, or two label lists that do not fit together."""


def canonical(name: str) -> str:
    """The canonical name of an emotion: `canonical("Happiness") == "happy"`.

    Case, surrounding blanks and the separators `_`, `-` and `.` at the ends do not matter. Raises `LabelError` with the
    nearest known name when `name` is no emotion.
    """
    key = name.strip(" \t\n_-.").lower()
    key = ALIASES.get(key, key)
    if key not in EMOTIONS:
        near = get_close_matches(key, [*EMOTIONS, *ALIASES], n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise LabelError(f"{name!r} is not an emotion.{hint} Known names: {', '.join(EMOTIONS)}.")
    return key


@cache
def emotion_of(name: str) -> str:
    """The canonical name, or "" where `name` is no emotion."""
    try:
        return canonical(name)
    except LabelError:
        return ""


def label_names(label_set: str | Sequence[str]) -> tuple[str, ...]:
    """The names of a label set (`"fer7"`), or of an own list of emotions, which must hold no name twice."""
    if isinstance(label_set, str):
        if label_set not in LABEL_SETS:
            raise LabelError(f"{label_set!r} is not a label set. Known label sets: {', '.join(LABEL_SETS)}.")
        return LABEL_SETS[label_set]
    names = tuple(canonical(name) for name in label_set)
    if len(set(names)) != len(names):
        raise LabelError(f"The labels {', '.join(label_set)} name one emotion twice: {', '.join(names)}.")
    return names


def align(source: Sequence[str], target: Sequence[str]) -> list[int]:
    """For each target label, its index in `source`: `logits[:, align(source, target)]` has the order of `target`.

    Names are compared after `canonical`. Raises `LabelError` when a target label has no counterpart in `source`, or
    when either list names one emotion twice; labels that only `source` has are left out.
    """
    source_names, target_names = label_names(source), label_names(target)
    missing = [name for name in target_names if name not in source_names]
    if missing:
        raise LabelError(
            f"The labels do not fit: {', '.join(missing)} is wanted, but there is only {', '.join(source_names)}."
        )
    return [source_names.index(name) for name in target_names]

"""Make new faces: crops of photographs, and cells of generated pictures."""

import json
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

from huggingface_hub import InferenceClient

from fer_hf.collect.cells import apply_review, one_good_face, slice_pictures
from fer_hf.collect.crops import Limits, extract
from fer_hf.collect.detect import detector
from fer_hf.collect.generate import generate, read_prompts, to_make
from fer_hf.collect.prompts import prompt_set
from fer_hf.emotions import EMOTIONS
from fer_hf.files import write_text

DetectorName = Literal["auto", "yunet", "haar"]


def crop_faces(
    source: Path,
    output: Path,
    detector_name: DetectorName = "auto",
    min_score: float = 0.6,
    limits: Mapping[str, Any] | None = None,
    **options: Any,
) -> dict[str, Any]:
    """Find the faces in photographs, turn them upright, crop them, and sort out poor ones.

    Args:
        source: a folder of photographs, with any sub-folders.
        output: a new folder; gets faces/ with metadata.csv, and rejects.csv.
        detector_name: `"auto"` takes YuNet where its model can be had, Haar cascades elsewhere.
        min_score: how sure the detector has to be, in [0, 1].
        limits: fields of `collect.crops.Limits` that a crop has to keep.
        options: `size` (pixels), `margin` (parts of the face) and `every` (all faces of a photograph).

    Returns:
        The counts of `collect.crops.extract`, and `detector`, which one was used and why.
    """
    chosen = detector(detector_name, min_score)
    counts = extract(source, output, chosen, limits=Limits(**dict(limits or {})), **options)
    return counts | {"detector": f"{chosen.name}: {chosen.why}"}


def write_prompts(output: Path, emotions: Sequence[str] | None = None, **options: Any) -> tuple[int, int]:
    """Write prompts for pictures with a grid of faces to a JSONL file; returns how many prompts and faces they are.

    Args:
        output: the file.
        emotions: all eight when None.
        options: those of `collect.prompts.prompt_set`.
    """
    records = prompt_set(emotions or EMOTIONS, **options)
    write_text(output, "".join(json.dumps(record) + "\n" for record in records))
    return len(records), sum(record["rows"] * record["columns"] for record in records)


def pictures_to_make(prompts: Path, output: Path) -> tuple[int, list[dict[str, Any]]]:
    """How many prompts a JSONL file holds, and those of which `output` has no picture yet."""
    records = read_prompts(prompts)
    return len(records), to_make(records, output)


def make_pictures(
    records: list[dict[str, Any]], output: Path, model: str, provider: str = "auto", size: int = 1024
) -> dict[str, int]:
    """Have pictures made; stopped, the same call goes on. Returns how many were `made` and `refused`.

    Args:
        records: from `pictures_to_make`.
        output: a folder.
        model: a Hub id, or the address of a server, which gets your token.
        provider: who computes, as `huggingface_hub.InferenceClient` names it.
        size: width and height in pixels.
    """
    address = model.startswith(("http://", "https://"))
    client = InferenceClient(provider="hf-inference" if address else provider)  # type: ignore[arg-type]
    return generate(records, output, client, model, size)


def slice_grids(
    pictures: Path,
    output: Path,
    emotion: str | None = None,
    detector_name: DetectorName = "auto",
    min_sharpness: float = 25,
) -> dict[str, Any]:
    """Find the grid in each picture, cut out the faces, and sort out what is no good face.

    Args:
        pictures: a folder, such as `make_pictures` fills.
        output: a new folder.
        emotion: of all pictures; as images.jsonl or the folders say when None.
        detector_name: which detector has to find exactly one face in a cell.
        min_sharpness: least sharpness of a face.

    Returns:
        The counts of `collect.cells.slice_pictures`, and `detector`, which one was used and why.
    """
    chosen = detector(detector_name)
    check = partial(one_good_face, detector=chosen, limits=Limits(sharpness=min_sharpness))
    return slice_pictures(pictures, output, check, emotion) | {"detector": f"{chosen.name}: {chosen.why}"}


def review_cells(output: Path) -> int:
    """Keep and reject faces as the edited review.csv of `slice_grids` says; returns how many are kept."""
    return apply_review(output)

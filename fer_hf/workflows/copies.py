"""Test images that have a copy among the training images: found in the data themselves, or read from an audit."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass

from datasets import Dataset

from fer_hf.data import Faces
from fer_hf.data.audit import find_copies
from fer_hf.data.copies import leaks, read_copies, write_copies
from fer_hf.recipe.schema import FIND, Recipe
from fer_hf.runs.folder import Run
from fer_hf.training.launch import processes, told_by_main

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class CopiedImages:
    """The ids of the images of a split that have a copy in train, and the name of the data that were audited."""

    ids: frozenset[str]
    audit: str


def wanted_copies(run: Run, recipe: Recipe) -> str | None:
    """What `copied_images` is to read for the data of a run: what it has kept, or else what its recipe names."""
    return str(run.copies_file) if run.copies_file.is_file() else recipe.evaluate.copies


def copied_images(
    wanted: str | None, run: Run, faces: Faces, split: str, train: Faces | None = None
) -> CopiedImages | None:
    """The images of a split that have a copy among the training images.

    Args:
        wanted: `"find"`, which looks at all images, or the csv of an audit, or its folder. The copies in the data of a
            run are kept as its `copies.csv`.
        run: the run, or a folder of evaluations.
        faces: whose split is asked for.
        split: one of its splits.
        train: the faces that the model has learnt from, where they are not `faces`.

    Returns:
        The images; None where nothing is wanted, for the training split, and where there is none.

    Raises:
        UserError: there is no such audit, or it is of other data.
    """
    learnt = (train or faces).splits.get("train")
    if wanted is None or split == "train":
        return None
    if learnt is None:
        logger.warning("copies: %s has no training images, so there is nothing to look for.", faces.dataset)
        return None
    splits: Mapping[str, Dataset] = faces.splits if train is None else {"train": learnt, split: faces.splits[split]}
    copies = told_by_main(lambda: find_copies(splits) if wanted == FIND else read_copies(wanted))
    leaked = leaks(copies, {str(name): data["id"][:] for name, data in splits.items()}, split)
    shown = f"{len(leaked.ids):,} of the {len(faces.splits[split]):,} {split} images of {faces.dataset}"
    logger.info("copies: %s have a copy among the training images.", shown)
    if leaked.unknown:
        logger.info("copies: %s of the %s images listed are not in the data.", leaked.unknown, leaked.listed)
    if train is None and run.exists() and processes().is_main_process:
        write_copies(run.copies_file, copies)
    return CopiedImages(leaked.ids, faces.dataset if train is None else f"{train.dataset} and {faces.dataset}")

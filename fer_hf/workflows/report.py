"""Draw the figures, the model card and the page of a run again."""

import io
from dataclasses import dataclass
from pathlib import Path

from fer_hf.data import Faces
from fer_hf.data.decode import decode_rows, undecoded
from fer_hf.errors import FerError, UserError
from fer_hf.evaluation.compare import Choice, changes, evaluations, predictions
from fer_hf.files import write_text
from fer_hf.recipe.load import load_recipe
from fer_hf.report.material import Baseline, Material, Pictures
from fer_hf.report.model_card import write_report
from fer_hf.report.page import run_page
from fer_hf.report.sections.study import SHOWN
from fer_hf.runs.folder import Run
from fer_hf.training.launch import processes
from fer_hf.workflows.faces import recipe_faces

THUMBNAIL = 112
"""Pixels of a picture on the page."""


@dataclass(frozen=True)
class Report:
    """The files that `report` has written."""

    card: Path
    page: Path


def report(run: str | Path | Run, images: bool = True, baseline: str | Path | None = None) -> Report:
    """Write `model/figures/` and `model/README.md` of a run, and `report.html`, a page that holds everything in it.

    Everything is drawn from metrics.json and the predictions that it names; what cannot be read is named on the page,
    and the rest is drawn. Pictures of the most confident errors come from the run's own data.

    Args:
        run: a run folder, or a folder that `evaluate` has made for a model that is no run.
        images: show faces; False leaves all of them out, for data that are private.
        baseline: another run, evaluated on the same images, to hold this one against class by class.

    Returns:
        The card and the page.

    Raises:
        UserError: `run` is no such folder, nothing in it was evaluated, or `baseline` was evaluated on other images.

    Example:
        `report("runs/mine/20260131-175900", baseline="runs/plain/20260131-120000").page`
    """
    run = run if isinstance(run, Run) else Run(run)
    if not run.metrics_file.is_file():
        run = Run.open(run)
    metrics, problems = run.readable_metrics()
    material = Material(run, metrics, problems, baseline=_against(run, Path(baseline)) if baseline else None)
    card = write_report(run)
    pictures = _pictures(material) if images else Pictures(reason=LEFT_OUT, left_out=True)
    page = run.path / "report.html"
    write_text(page, run_page(Material(run, metrics, problems, pictures, material.baseline)))
    return Report(card, page)


LEFT_OUT = "Pictures of faces are left out (--no-images)."


def redraw(run: Run) -> None:
    """Draw the card of a run again, if it has one, after its figures have changed; the main process does."""
    if run.card.is_file() and processes().is_main_process:
        write_report(run)


def _against(run: Run, other: Path) -> Baseline:
    """How a run differs from another one on the images of its main evaluation."""
    base = Run.open(other)
    main = Material(run, run.readable_metrics()[0]).main
    pair = [run, base]
    found = evaluations(pair, Choice(main.split, main.format, main.dataset))
    references, predicted = predictions(pair, found)
    names = {"this": predicted[:1], "baseline": predicted[1:]}
    made = changes(references, names, "baseline", "accuracy", sorted(main.per_class))
    name = base.metrics.name or other.name
    return Baseline(name if name != run.metrics.name else f"{name} ({other.name})", made)


def _pictures(material: Material) -> Pictures:
    """JPEGs of the most confident errors, or why there are none."""
    try:
        wanted = [mistake.id for mistake in material.predictions.mistakes(SHOWN)]
        if not material.metrics.owns(material.main):
            return Pictures(reason="There are no pictures: the images are not the run's own data.")
        if not material.run.exists():
            return Pictures(reason="There are no pictures: the folder has no recipe.yaml that says where the data are.")
        faces = recipe_faces(load_recipe(material.run.recipe_file))
        return Pictures(_thumbnails(faces, material.main.split, wanted, material))
    except (FerError, OSError) as error:
        return Pictures(reason=f"There are no pictures, since the data cannot be loaded: {error}")


def _thumbnails(faces: Faces, split: str, wanted: list[str], material: Material) -> dict[str, bytes]:
    """A small JPEG of each image, by id. Raises `UserError` when the split has other images now."""
    data = faces.splits.get(split)
    places = {name: place for place, name in enumerate(data["id"][:])} if data is not None else {}
    if data is None or places.keys() != set(material.predictions.ids):
        raise UserError(f"the {split} split holds other images than those that were evaluated.")
    pictures = {}
    for name, picture in zip(wanted, decode_rows(undecoded(data), [places[name] for name in wanted]), strict=True):
        file, small = io.BytesIO(), picture.convert("RGB")
        small.thumbnail((THUMBNAIL, THUMBNAIL))
        small.save(file, "JPEG", quality=85)
        pictures[name] = file.getvalue()
    return pictures

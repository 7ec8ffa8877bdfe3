"""The page of a run: `metrics.json` and predictions in, one HTML file out that holds all figures and pictures."""

import logging
from collections.abc import Callable, Iterator

from fer_hf.console import track
from fer_hf.errors import FerError
from fer_hf.report.blocks import Block, Broken, Section
from fer_hf.report.html import page
from fer_hf.report.material import Material
from fer_hf.report.sections import elsewhere, overview, results, study, trust

logger = logging.getLogger(__name__)
Draw = Callable[[Material], Iterator[Block]]
SECTIONS: dict[str, tuple[str, Draw]] = {
    "summary": ("Summary", overview.summary),
    "data": ("Data", overview.data),
    "configuration": ("Configuration", overview.configuration),
    "learning": ("Learning curves", overview.learning),
    "results": ("Results", results.results),
    "classes": ("Per class", results.classes),
    "baseline": ("Against a baseline", study.baseline),
    "confusions": ("Confusions", results.confusions),
    "curves": ("ROC and precision-recall", results.curves),
    "confidence": ("Confidence of right and wrong", results.confidence),
    "calibration": ("Calibration", trust.calibration),
    "abstention": ("Abstention and conformal sets", trust.abstention),
    "selective": ("Risk and coverage", trust.selective),
    "copies": ("Without leaked copies", trust.copies),
    "slices": ("Slices", elsewhere.slices),
    "datasets": ("Other datasets and domains", elsewhere.datasets),
    "robustness": ("Robustness", elsewhere.robustness),
    "explanation": ("Explanation", elsewhere.explanation),
    "exports": ("Exported files and INT8", elsewhere.exports),
    "errors": ("Most confident errors", study.errors),
    "environment": ("Environment", study.environment),
    "reproduction": ("How to reproduce", study.reproduction),
}
"""The heading of each section and what draws it, by the id that links point at."""


def run_page(material: Material) -> str:
    """The page. Raises `UserError` when there is no evaluation of the PyTorch model to draw."""
    main, metrics = material.main, material.metrics
    settings = metrics.recipe.get("report") or {}
    title = settings.get("title") or metrics.name or "Facial expression model"
    sections = [_section(material, id, *about) for id, about in track(SECTIONS.items(), "drawing", len(SECTIONS))]
    made = metrics.training.date if metrics.training and metrics.training.date else ""
    author = f" by {settings['author']}" if settings.get("author") else ""
    lead = (
        f"{main.dataset}, {main.split} split. Facial expression recognition{author}{f', trained {made}' * bool(made)}."
    )
    return page(title, lead, sections)


def _section(material: Material, id: str, title: str, draw: Draw) -> Section:
    """A section with as much as could be drawn: what is wrong in one place must not take the rest of the page away."""
    blocks: list[Block] = []
    try:
        blocks += draw(material)
    except FerError as error:
        blocks.append(Broken(str(error)))
    except Exception as error:
        logger.warning("the section %r could not be drawn: %s", title, error, exc_info=error)
        blocks.append(Broken(f"This section could not be drawn: {type(error).__name__}: {error}"))
    return Section(id, title, blocks)

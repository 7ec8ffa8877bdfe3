"""What a model looks at: Grad-CAM on right and wrong predictions of each class, and whether it can be believed."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from fer_hf.collect.sheet import contact_sheet
from fer_hf.errors import UserError
from fer_hf.explain.maps import explainable, grad_cam, random_maps, road_scores
from fer_hf.files import write_csv, written_whole
from fer_hf.images.spec import ImageSpec
from fer_hf.images.transforms import EvalTransform
from fer_hf.machine import process_settings_kept
from fer_hf.metrics import Array
from fer_hf.report.figures.maps import MeanMap, mean_maps_figure, overlay
from fer_hf.report.figures.style import save_figure
from fer_hf.runs.analyses import Estimate, Explanation
from fer_hf.runs.folder import Run
from fer_hf.workflows.report import redraw
from fer_hf.workflows.subject import Subject, load_subject

logger = logging.getLogger(__name__)
SEED = 0
SCORED = 70
"""Images that ROAD scores at most; it takes about a third of a second for each."""
RESAMPLES = 10_000
LEAST = 0.01
"""A difference in ROAD that matters: one percent of confidence."""
COLUMNS = ("id", "label", "predicted", "probability", "road", "road_random")


@dataclass(frozen=True)
class Explained:
    """The images of one source that were explained, class by class, right predictions first.

    `rows` are their numbers in the split, `faces` `(N, h, w, 3)` what the network sees of them, in [0, 1], and `maps`
    `(N, h, w)` its Grad-CAM. `road` and `road_random` `(n,)` are the scores of those at the places `scored`.
    """

    subject: Subject
    rows: list[int]
    faces: Array
    maps: Array
    scored: Array
    road: Array
    road_random: Array

    @property
    def labels(self) -> Array:
        return self.subject.predictions.labels[self.rows]

    @property
    def predicted(self) -> Array:
        return self.subject.predictions.predicted[self.rows]

    @property
    def right(self) -> Array:
        return self.labels == self.predicted

    @property
    def probability(self) -> Array:
        """Of the predicted class."""
        return self.subject.predictions.probabilities[self.rows].max(axis=1)


@process_settings_kept()
def explain(
    run: str | Path | Run,
    data: Sequence[str] = (),
    split: str = "test",
    per_class: int = 5,
    output: str | Path | None = None,
    batch_size: int = 32,
) -> list[Explanation]:
    """Draw Grad-CAM maps of the predicted class, and score them against random ones by ROAD.

    Of each class, up to `per_class` right and as many wrong predictions are drawn by a fixed seed. Writes a sheet of
    faces and maps, the mean maps of each class, and the scores of each image, and records the scores in metrics.json.

    Args:
        run: a finished run folder.
        data: up to two sources of faces, such as real and synthetic ones, drawn side by side; the run's own when empty.
        split: "train", "validation" or "test".
        per_class: right predictions of each class, and wrong ones.
        output: where the files go; `explain/` of the run when None.
        batch_size: images per step.

    Returns:
        The scores for each source.

    Raises:
        UserError: the run is not finished, its network has no feature map at its image size, `grad-cam` is missing, or
            there are more than two sources.

    Example:
        `explain("runs/mine/20260131-175900")[0].better_than_random`
    """
    if len(data) > 2:
        raise UserError(f"--data is given {len(data)} times: two sources can be drawn side by side.")
    run = Run.open(run)
    folder = Path(output) if output else run.path / "explain"
    folder.mkdir(parents=True, exist_ok=True)
    sources: Sequence[str | None] = data or [None]
    parts = [_explained(load_subject(run, each, split), per_class, batch_size) for each in sources]
    stem = "+".join(part.subject.key for part in parts)
    files = {what: folder / f"{stem}-{what}" for what in ("grad-cam.png", "mean-maps.png", "road.csv")}
    inside = {what: f"explain/{path.name}" if output is None else None for what, path in files.items()}
    records = [_record(part, *inside.values()) for part in parts]
    with written_whole(files["grad-cam.png"]) as aside:
        _side_by_side([_sheet(part, record, per_class) for part, record in zip(parts, records, strict=True)]).save(
            aside
        )
    save_figure(_means(parts, records), files["mean-maps.png"])
    write_csv(files["road.csv"], COLUMNS, [row for part in parts for row in _scores(part)])
    run.update(explanations={record.evaluation: record for record in records})
    redraw(run)
    return records


def verdict(record: Explanation) -> str:
    """Whether the maps can be believed, in sentences."""
    scores = f"ROAD {_shown(record.road)}, random maps {_shown(record.road_random)}; {record.scored:,} images scored"
    if record.better_than_random:
        return f"The maps are better than random ones ({scores})."
    return f"The maps are no better than random ones, so they explain nothing ({scores})."


def _shown(estimate: Estimate) -> str:
    return f"{estimate.value:.3f} [{estimate.low:.3f}, {estimate.high:.3f}]"


def _explained(subject: Subject, per_class: int, batch_size: int) -> Explained:
    """Choose, draw and score."""
    place = explainable(subject.classifier)
    predictions, spec = subject.predictions, subject.classifier.spec
    rows = choose(predictions.labels, predictions.predicted, per_class)
    images, targets = subject.images().__getitems__(rows)["images"], predictions.predicted[rows]
    maps = grad_cam(subject.classifier, images, targets, batch_size)
    scored = np.sort(np.random.default_rng(SEED).permutation(len(rows))[:SCORED])
    some = images[torch.from_numpy(scored)] if isinstance(images, Tensor) else [images[place] for place in scored]
    both = (maps[scored], random_maps(len(scored), place.grid, spec.size, SEED))
    road, road_random = (road_scores(subject.classifier, some, each, targets[scored]) for each in both)
    return Explained(subject, rows, _as_seen(images, spec), maps, scored, road, road_random)


def choose(labels: Array, predicted: Array, per_class: int, seed: int = SEED) -> list[int]:
    """Rows of up to `per_class` right and as many wrong predictions of each class, class by class, right ones first.

    Args:
        labels: `(N,)` true class ids.
        predicted: `(N,)` predicted ones.
        per_class: images of each kind.
        seed: of the order in which they are drawn.

    Example:
        >>> choose(np.array([1, 0, 0, 0]), np.array([1, 1, 0, 0]), per_class=1)
        [2, 1, 0]
    """
    order = np.random.default_rng(seed).permutation(len(labels))
    kinds = [(label, right) for label in np.unique(labels) for right in (True, False)]
    own, hit = labels[order], labels[order] == predicted[order]
    return [int(row) for label, right in kinds for row in order[(own == label) & (hit == right)][:per_class]]


def _as_seen(images: Tensor | Sequence[Tensor], spec: ImageSpec) -> Array:
    """What the network sees of images, resized and cropped: `(N, h, w, 3)` in [0, 1]."""
    pixel_values = EvalTransform(spec)(images).cpu().permute(0, 2, 3, 1)
    return (pixel_values * torch.tensor(spec.std) + torch.tensor(spec.mean)).clamp(0, 1).numpy()


def _record(part: Explained, sheet: str | None, means: str | None, scores: str | None) -> Explanation:
    difference = mean_estimate(part.road - part.road_random)
    return Explanation(
        evaluation=part.subject.key,
        method="Grad-CAM",
        layer=explainable(part.subject.classifier).name,
        images=len(part.rows),
        road=mean_estimate(part.road),
        road_random=mean_estimate(part.road_random),
        better_than_random=believable(difference),
        sheet=sheet,
        means=means,
        right=int(part.right.sum()),
        scored=len(part.scored),
        difference=difference,
        scores=scores,
    )


def believable(difference: Estimate) -> bool:
    """Whether maps are better than random ones: surely, and by enough to matter.

    Args:
        difference: of their ROAD scores.

    Example:
        >>> believable(Estimate(0.06, 0.04, 0.08)), believable(Estimate(0.06, -0.01, 0.13))
        (True, False)
    """
    return difference.low > 0 and difference.value >= LEAST


def mean_estimate(values: Array) -> Estimate:
    """The mean of values `(N,)` and its 95 % bootstrap interval, of images drawn with replacement.

    Example:
        >>> mean_estimate(np.ones(5))
        Estimate(value=1.0, low=1.0, high=1.0)
    """
    drawn = np.random.default_rng(SEED).integers(len(values), size=(RESAMPLES, len(values)))
    low, high = np.quantile(values[drawn].mean(axis=1), [0.025, 0.975])
    return Estimate(float(values.mean()), float(low), float(high))


# --- what is drawn


def _sheet(part: Explained, record: Explanation, per_class: int) -> Image.Image:
    """Each class in two rows, right predictions and wrong ones: a face, and beside it the face under its map."""
    pictures, captions, marks = list[Image.Image](), list[str](), list[str | None]()
    names, blank = part.subject.faces.label_names, Image.new("RGB", (1, 1), "white")
    for label in np.unique(part.labels):
        for right in (True, False):
            places = np.flatnonzero((part.labels == label) & (part.right == right))
            for place in places:
                seen = overlay(part.faces[place], part.maps[place])
                pictures += [_picture(part.faces[place]), _picture(seen)]
                captions += [f"{names[label]} ->", f"{names[part.predicted[place]]} {part.probability[place]:.0%}"]
                marks += [None, "good" if right else "bad"]
            empty = 2 * (per_class - len(places))
            pictures += [blank] * empty
            captions += [""] * empty
            marks += [None] * empty
    title = f"{part.subject.title}: {record.images} images, {record.right} right (blue). {verdict(record)}"
    return contact_sheet(pictures, captions, columns=2 * per_class, title=title, marks=marks)


def _picture(values: Array) -> Image.Image:
    """Values `(h, w, 3)` in [0, 1], enlarged to be looked at."""
    picture = Image.fromarray((values * 255).round().astype(np.uint8))
    return picture.resize((96, 96), Image.Resampling.BICUBIC)


def _side_by_side(sheets: Sequence[Image.Image]) -> Image.Image:
    whole = Image.new("RGB", (sum(s.width for s in sheets), max(s.height for s in sheets)), "white")
    left = 0
    for sheet in sheets:
        whole.paste(sheet, (left, 0))
        left += sheet.width
    return whole


def _means(parts: Sequence[Explained], records: Sequence[Explanation]) -> Figure:
    """The figure of the mean maps: rows of right and of wrong predictions for each source."""
    names = parts[0].subject.faces.label_names
    rows = {}
    for part in parts:
        before = f"{part.subject.faces.dataset}\n" if len(parts) > 1 else ""
        for kind, right in (("right", True), ("wrong", False)):
            chosen = {name: (part.labels == label) & (part.right == right) for label, name in enumerate(names)}
            rows[before + kind] = {
                name: MeanMap(part.maps[of].mean(axis=0), part.faces[of].mean(axis=0), int(of.sum()))
                for name, of in chosen.items()
                if of.any()
            }
    doubted = "" if all(record.better_than_random for record in records) else " (no better than random maps)"
    titles = " and ".join(part.subject.title for part in parts)
    return mean_maps_figure(rows, names, f"Mean Grad-CAM of the predicted class, by true class: {titles}{doubted}")


def _scores(part: Explained) -> list[tuple[object, ...]]:
    names, ids = part.subject.faces.label_names, part.subject.predictions.ids
    return [
        (
            ids[part.rows[place]],
            names[part.labels[place]],
            names[part.predicted[place]],
            f"{part.probability[place]:.4f}",
            f"{road:.4f}",
            f"{road_random:.4f}",
        )
        for place, road, road_random in zip(part.scored, part.road, part.road_random, strict=True)
    ]

"""How a model sees images: its features as a table, on planes, by domain, and the neighbours of an image."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from datasets import ClassLabel, Dataset, Features, List, Value
from matplotlib.figure import Figure
from PIL import Image

from fer_hf.collect.sheet import contact_sheet
from fer_hf.data.decode import decode_rows, undecoded
from fer_hf.errors import UserError
from fer_hf.explain.features import penultimate_features
from fer_hf.explain.space import domain_probe, nearest, pca_plane, tsne_plane
from fer_hf.files import written_whole
from fer_hf.machine import process_settings_kept
from fer_hf.metrics import Array
from fer_hf.metrics.distances import frechet_distance, maximum_mean_discrepancy
from fer_hf.report.figures.space import planes_figure
from fer_hf.report.figures.style import save_figure
from fer_hf.runs.analyses import Domains
from fer_hf.runs.folder import Run
from fer_hf.workflows.report import redraw
from fer_hf.workflows.subject import Subject, load_subject

logger = logging.getLogger(__name__)
SEED = 0
ON_PLANES = 2000
"""Images that are drawn as points at most: t-SNE compares each with each."""


@dataclass(frozen=True)
class FeatureSpace:
    """What `features` has written, and how far two sources are apart; `domains` is None of one source."""

    images: list[int]
    dimensions: int
    tables: list[Path]
    planes: Path
    neighbours: Path
    domains: Domains | None = None


@process_settings_kept()
def features(
    run: str | Path | Run,
    data: Sequence[str] = (),
    split: str = "test",
    query: Sequence[str] = (),
    k: int = 8,
    output: str | Path | None = None,
) -> FeatureSpace:
    """Write what a network makes of images before it classifies them, and draw how they lie to one another.

    Writes the features (Parquet: id, label, features) of each source, PCA and t-SNE by class and by source, and a sheet
    of the nearest neighbours of some images. Of two sources it measures how far they are apart.

    Args:
        run: a finished run folder.
        data: up to two sources of faces; the run's own when empty. One alone is measured by itself.
        split: "train", "validation" or "test".
        query: ids of images whose neighbours are shown; one of each class, drawn by a fixed seed, when empty.
        k: neighbours of each.
        output: where the files go; `features/` of the run when None.

    Raises:
        UserError: the run is not finished, a source has no such split, there is no such image, or there are more than
            two sources.

    Example:
        `features("runs/mine/20260131-175900", ["rafdb:PATH", "folder:SYNTHETIC"]).domains.probe_accuracy`
    """
    if len(data) > 2:
        raise UserError(f"--data is given {len(data)} times: two sources can be compared.")
    run = Run.open(run)
    folder = Path(output) if output else run.path / "features"
    folder.mkdir(parents=True, exist_ok=True)
    sources: Sequence[str | None] = data or [None]
    parts = [load_subject(run, each, split) for each in sources]
    sets = [penultimate_features(p.classifier, p.faces.splits[split], pixels=p.faces.pixels(split)) for p in parts]
    queries = _queries(parts[0], query)
    stem = "+".join(part.key for part in parts)
    tables = [folder / f"{part.key}.parquet" for part in parts]
    planes, neighbours = folder / f"{stem}-planes.png", folder / f"{stem}-neighbours.png"
    for part, values, table in zip(parts, sets, tables, strict=True):
        _write(table, part, values)
    with written_whole(neighbours) as aside:
        _neighbours(parts, sets, queries, k).save(aside)
    save_figure(_planes(parts, sets), planes)
    domains = _domains(parts, sets) if len(parts) == 2 else None
    if domains:
        run.update(domains={"+".join(part.key for part in reversed(parts)): domains})
        redraw(run)
    return FeatureSpace([len(values) for values in sets], sets[0].shape[1], tables, planes, neighbours, domains)


def _write(path: Path, part: Subject, values: Array) -> None:
    names = list(part.predictions.label_names)
    columns = {"id": part.predictions.ids, "label": part.predictions.labels, "features": values.tolist()}
    wide = List(Value("float32"), length=values.shape[1])
    kinds = Features({"id": Value("string"), "label": ClassLabel(names=names), "features": wide})
    with written_whole(path) as aside, open(aside, "wb") as file:
        Dataset.from_dict(columns, features=kinds).to_parquet(file)


def _domains(parts: Sequence[Subject], sets: Sequence[Array]) -> Domains:
    accuracy, chance = domain_probe(sets[0], sets[1])
    return Domains(
        first=f"{parts[0].faces.dataset} {parts[0].split}",
        second=f"{parts[1].faces.dataset} {parts[1].split}",
        images=[len(values) for values in sets],
        frechet=frechet_distance(*sets),
        mmd=maximum_mean_discrepancy(*sets),
        probe_accuracy=accuracy,
        probe_chance=chance,
    )


def _planes(parts: Sequence[Subject], sets: Sequence[Array]) -> Figure:
    """PCA and t-SNE of at most `ON_PLANES` images, as many of each source, drawn by a fixed seed."""
    share = ON_PLANES // len(parts)
    rng = np.random.default_rng(SEED)
    rows = [np.sort(rng.permutation(len(values))[:share]) for values in sets]
    chosen = np.concatenate([values[of] for values, of in zip(sets, rows, strict=True)])
    if len(chosen) < 4:
        raise UserError(f"There are {len(chosen)} images: planes are drawn of four or more.")
    labels = [
        part.faces.label_names[part.predictions.labels[row]] for part, of in zip(parts, rows, strict=True) for row in of
    ]
    groups = {"by class": labels}
    if len(parts) > 1:
        names = _domain_names(parts)
        groups["by source"] = [name for name, of in zip(names, rows, strict=True) for _ in of]
    places, shares = pca_plane(chosen)
    drawn = {f"PCA ({shares.sum():.0%} of variance)": places, "t-SNE": tsne_plane(chosen, SEED)}
    titles = " and ".join(part.title for part in parts)
    return planes_figure(drawn, groups, f"Features before the classifier: {titles} ({len(chosen):,} images)")


def _domain_names(parts: Sequence[Subject]) -> list[str]:
    """The names of the datasets, which may be the same twice."""
    names = [part.faces.dataset for part in parts]
    return names if len(set(names)) == len(names) else [f"{number}: {name}" for number, name in enumerate(names, 1)]


def _queries(part: Subject, ids: Sequence[str]) -> list[int]:
    """The rows of these images in the first source, or of one of each class."""
    row_of = {name: row for row, name in enumerate(part.predictions.ids)}
    if unknown := [name for name in ids if name not in row_of]:
        raise UserError(f"--query {unknown[0]!r}: {part.title} has no such id; they are like {next(iter(row_of))!r}.")
    if ids:
        return [row_of[name] for name in ids]
    order = np.random.default_rng(SEED).permutation(len(row_of))
    labels = part.predictions.labels
    return [int(order[labels[order] == label][0]) for label in np.unique(labels)]


def _neighbours(parts: Sequence[Subject], sets: Sequence[Array], queries: Sequence[int], k: int) -> Image.Image:
    """A row for each query, framed: the image, and its neighbours among all sources with their similarity."""
    whole, owners = (
        np.concatenate(list(sets)),
        [(part, row) for part, s in zip(parts, sets, strict=True) for row in range(len(s))],
    )
    pictures, captions, marks = list[Image.Image](), list[str](), list[str | None]()
    for query in queries:
        rows, similarity = nearest(whole, query, k)
        for row, beside in [(query, "query"), *((r, f"{s:.3f}") for r, s in zip(rows, similarity, strict=True))]:
            part, own = owners[row]
            name = part.faces.label_names[part.predictions.labels[own]]
            pictures += decode_rows(undecoded(part.faces.splits[part.split]), [own])
            captions.append(f"{name}\n{_end(part.predictions.ids[own])}\n{beside}")
            marks.append("good" if beside == "query" else None)
    enlarged = [p.resize((96, 96), Image.Resampling.NEAREST) if max(p.size) < 96 else p for p in pictures]
    title = " and ".join(part.title for part in parts)
    return contact_sheet(
        enlarged, captions, 1 + min(k, len(whole) - 1), title=f"{title}: true class, id, cosine", marks=marks
    )


def _end(name: str) -> str:
    """The end of an id, which tells it from the others, as long as a picture is wide."""
    return name if len(name) < 15 else f"…{name[-12:]}"

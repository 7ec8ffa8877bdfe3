"""Runs side by side: runs in, one row for each configuration out, the best one first.

Runs that differ in `train.seed` only are seeds of one configuration; what does not shape the weights (names, what is
exported or published) makes no difference. All are compared on the same images, matched by id.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fer_hf.errors import UserError
from fer_hf.evaluation.significance import contrast, interval, mcnemar, p_value, resampled
from fer_hf.metrics import Array
from fer_hf.recipe.load import load_recipe
from fer_hf.recipe.schema import NOT_OF_WEIGHTS
from fer_hf.runs.folder import Run
from fer_hf.runs.predictions import read_predictions
from fer_hf.runs.records import Evaluation, Interval

Configurations = Mapping[str, Sequence[Run]]  # by name, one run for each seed
SHAPES_WEIGHTS = {"model", "data", "augment", "train", "loss"}
LEFT_OUT = {f"train.{key}" for key in ("seed", *NOT_OF_WEIGHTS)}


@dataclass(frozen=True)
class Row:
    """One configuration. `mean`, `std`, `low` and `high` are of the metric, in [0, 1].

    `std` is the sample standard deviation over seeds, None for one seed, and `low` and `high` the 95 % interval.
    `latency_ms` is the median of one image on the CPU; the figures from there on are None until they are measured.
    """

    name: str
    seeds: int
    mean: float
    std: float | None
    low: float
    high: float
    parameters: int | None
    megabytes: float
    train_minutes: float
    dataset: str
    split: str
    images: int
    latency_ms: float | None = None
    latency_min_ms: float | None = None
    latency_max_ms: float | None = None
    threads: int | None = None
    cpu: str | None = None


@dataclass(frozen=True)
class Comparison:
    """`rows`, ranked by the mean of `metric`, and in `verdict` whether the first is better than the second."""

    metric: str
    rows: Sequence[Row]
    verdict: str
    folder: Path | None = None


def find_runs(folders: Sequence[Path]) -> tuple[list[Run], list[str]]:
    """The finished runs in `folders`, and a line for each that is left out. Runs inside of a run do not count.

    Raises `UserError` when a folder holds no run, or none of them is finished.
    """
    runs: dict[Path, Run] = {}
    empty = []
    for folder in folders:
        files = [file for file in sorted(folder.rglob("recipe.yaml")) if file.with_name("metrics.json").is_file()]
        places = {file.parent.resolve(): Run(file.parent) for file in files}
        empty += [] if places else [folder]
        runs |= {place: run for place, run in places.items() if places.keys().isdisjoint(place.parents)}
    finished = [run for run in runs.values() if run.metrics.finished]
    if not finished or empty:
        raise UserError(
            f"There is no finished run in {', '.join(map(str, empty or folders))} (unfinished: "
            f"{0 if empty else len(runs)}). Give run folders, or folders of runs, as `fer-hf train` and `fer-hf study` "
            "make them."
        )
    return finished, [f"{run.path}: not finished" for run in runs.values() if run not in finished]


def configurations(runs: Sequence[Run]) -> tuple[Configurations, list[str]]:
    """Runs grouped by configuration, and a line for each whose recipe and seed a later one repeats."""
    groups: dict[tuple[tuple[str, str], ...], dict[int, Run]] = {}
    repeated = []
    for run in runs:
        recipe = load_recipe(run.recipe_file).flat()
        shaping = [key for key in recipe if key.split(".")[0] in SHAPES_WEIGHTS and key not in LEFT_OUT]
        seeds = groups.setdefault(tuple((key, str(recipe[key])) for key in shaping), {})
        if earlier := seeds.get(recipe["train.seed"]):
            repeated.append(f"{earlier.path}: repeated by {run.path}")
        seeds[recipe["train.seed"]] = run
    names = [_folder_name(next(iter(seeds.values())).path.resolve()) for seeds in groups.values()]
    if len(set(names)) < len(names):  # then by the settings that differ
        shared = set.intersection(*map(set, groups))
        names = [", ".join(f"{key}={value}" for key, value in flat if (key, value) not in shared) for flat in groups]
    return {name: list(seeds.values()) for name, seeds in zip(names, groups.values(), strict=True)}, repeated


def _folder_name(path: Path) -> str:
    """The configuration that a run's folder names: `mixup` of `mixup-seed=0`, `mine` of `mine/20260131-175900`."""
    name = path.parent.name if re.fullmatch(r"\d{8}-\d{6}", path.name) else path.name
    return re.sub(r"(^|[-_])(?<!split_)seed[=_-]?\d+", "", name).strip("-_") or path.parent.name


def evaluations(runs: Sequence[Run], split: str) -> list[Evaluation]:
    """Each run's plain evaluation of one dataset that all share. Raises `UserError` saying which differs."""
    plain: list[dict[str, Evaluation]] = []
    for run in runs:
        metrics, by_dataset = run.metrics, dict[str, Evaluation]()
        for row in metrics.evaluations.values():
            if row.plain and row.split == split and (row.dataset not in by_dataset or metrics.owns(row)):
                by_dataset[row.dataset] = row
        if not by_dataset:
            raise UserError(f"{run.path} has no figures on a {split} split: fer-hf evaluate {run.path} --split {split}")
        plain.append(by_dataset)
    shared = [name for name in plain[0] if all(name in rows for rows in plain)]
    if not shared:
        listed = {", ".join(rows): run.path for run, rows in zip(runs, plain, strict=True)}
        raise UserError(
            f"The runs were evaluated on the {split} splits of different datasets: "
            f"{'; '.join(f'{names} ({path})' for names, path in listed.items())}. Evaluate all of them on one dataset "
            "with `fer-hf evaluate RUN --data`, or compare fewer."
        )
    data = runs[0].metrics.data
    return [rows[data.dataset if data and data.dataset in shared else shared[0]] for rows in plain]


def predictions(runs: Sequence[Run], rows: Sequence[Evaluation]) -> tuple[Array, Array]:
    """The predictions of S runs on the same N images, images by id and classes by name in sorted order.

    Args:
        runs: the S runs.
        rows: their evaluations.

    Returns:
        True class ids `(N,)` and predicted ones `(S, N)`.

    Raises:
        UserError: a file is missing, or classes, images or their labels differ.
    """
    first: dict[str, list[Any]] = {}
    predicted = []
    for run, row in zip(runs, rows, strict=True):
        data = read_predictions(run.path / row.predictions)
        order, names = np.argsort(data.ids), sorted(data.label_names)
        class_id = np.array([names.index(name) for name in data.label_names])
        labels = class_id[data.labels[order]].tolist()
        about = {"classes": names, "images": sorted(data.ids), "labels of the images": labels}
        for what, values in about.items():
            if values != first.setdefault(what, values):
                other = sorted(map(str, set(values) ^ set(first[what])))[:3]
                raise UserError(
                    f"{run.path} and {runs[0].path} differ in the {what} ({', '.join(other) or 'their order'}): only "
                    "runs that were evaluated on the same images under the same labels can be compared."
                )
        predicted.append(class_id[data.predicted[order]])
    return np.array(first["labels of the images"]), np.stack(predicted)


def compare(configs: Configurations, split: str, metric: str) -> Comparison:
    """Rank configurations by a metric's mean over seeds, and test the best one against the second.

    Args:
        configs: runs by configuration, one for each seed, as `configurations` returns them.
        split: the split that all were evaluated on.
        metric: "accuracy", "balanced_accuracy" or "macro_f1".

    Returns:
        The rows, without latency, and a sentence on the best two.

    Raises:
        UserError: the runs were not evaluated on the same images.
    """
    runs = [run for seeds in configs.values() for run in seeds]
    evaluated = evaluations(runs, split)
    references, predicted = predictions(runs, evaluated)
    ends = np.cumsum([len(seeds) for seeds in configs.values()])[:-1]
    parts = dict(zip(configs, np.split(predicted, ends), strict=True))
    draws = [resampled(references, part, metric, 2000) for part in parts.values()]
    rows, rest = [], iter(evaluated)
    for (name, seeds), weights in zip(configs.items(), np.eye(len(draws)).tolist(), strict=True):
        limits = interval(contrast(draws, weights))
        rows.append(_row(name, seeds, [next(rest) for _ in seeds], metric, limits))
    rows.sort(key=lambda row: -row.mean)
    if len(rows) == 1:
        return Comparison(metric, rows, "There is nothing to compare it with.")
    best, second = rows[0].name, rows[1].name
    better, difference = compare_two(references, parts[best], parts[second], metric)
    verdict = "is better than" if better else "is not significantly better than"
    return Comparison(metric, rows, f"{best} {verdict} {second}: {difference}")


def _row(name: str, seeds: Sequence[Run], evaluated: Sequence[Evaluation], metric: str, limits: Interval) -> Row:
    """A configuration; `limits` is its interval, unless its only run has one already."""
    first, scores = evaluated[0], [getattr(evaluation, metric) for evaluation in evaluated]
    its_interval = getattr(first, f"{metric}_ci", None) if len(seeds) == 1 else None
    low, high = its_interval or np.clip(limits, 0, 1).tolist()
    std = float(np.std(scores, ddof=1)) if len(seeds) > 1 else None
    about = [run.metrics for run in seeds]
    parameters = about[0].model.parameters if about[0].model else None
    megabytes = (seeds[0].finished_model() / "model.safetensors").stat().st_size / 1e6
    minutes = float(np.mean([metrics.training.seconds for metrics in about if metrics.training])) / 60
    size, data = (parameters, megabytes, minutes), (first.dataset, first.split, first.images)
    return Row(name, len(seeds), float(np.mean(scores)), std, low, high, *size, *data)


def compare_two(references: Array, best: Array, second: Array, metric: str) -> tuple[bool, str]:
    """Whether two configurations differ significantly.

    Args:
        references: true class ids `(N,)`.
        best, second: predicted class ids of their seeds, `(S, N)` each.
        metric: "accuracy", "balanced_accuracy" or "macro_f1".

    Returns:
        True where p < 0.05, and by how much they differ, as a sentence.
    """
    scores, draws = resampled(references, np.vstack([best, second]), metric)
    first, other = slice(0, len(best)), slice(len(best), None)
    differences = contrast([(scores[first], draws[:, first]), (scores[other], draws[:, other])], [1, -1])
    p, (low, high) = p_value(differences), interval(differences)
    points = 100 * (scores[first].mean() - scores[other].mean())
    text = f"{points:.1f} points of {metric} [{low * 100:.1f}, {high * 100:.1f}], {_p(p)} (paired bootstrap over "
    if len(scores) > 2:
        return p < 0.05, f"{text}{len(references):,} images, and {len(best)} and {len(second)} seeds)."
    exact = _p(mcnemar(best[0] == references, second[0] == references))
    note = "This is about these two trained models, not about other seeds of theirs."
    return p < 0.05, f"{text}{len(references):,} images; McNemar's exact test of accuracy: {exact}). {note}"


def _p(p: float) -> str:
    return f"p = {p:.2g}" if p >= 0.001 else "p < 0.001"

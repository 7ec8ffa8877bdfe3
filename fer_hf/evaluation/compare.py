"""Runs side by side: runs in, one row for each configuration out, the best one first.

Runs that differ in `train.seed` only are seeds of one configuration; what does not shape the weights (names, what is
exported or published) makes no difference. All are compared on the same images, matched by id.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from fer_hf.errors import UserError
from fer_hf.evaluation.pairs import Pair, all_pairs
from fer_hf.evaluation.significance import METRICS, contrast, holm, interval, p_value, resampled
from fer_hf.metrics import Array, f1_of
from fer_hf.recipe.load import load_recipe
from fer_hf.recipe.schema import NOT_OF_WEIGHTS
from fer_hf.runs.folder import Run
from fer_hf.runs.predictions import read_predictions
from fer_hf.runs.records import PLAIN, Evaluation, Interval

Configurations = Mapping[str, Sequence[Run]]  # by name, one run for each seed
SHAPES_WEIGHTS = {"model", "data", "augment", "train", "loss"}
LEFT_OUT = {f"train.{key}" for key in ("seed", *NOT_OF_WEIGHTS)}


@dataclass(frozen=True)
class Choice:
    """Which evaluation of each run is compared.

    `dataset` is its name, or the beginning of the hash that the keys of metrics.json have for data of the same name.
    When it is None, it is the data of the first run, or else others that all runs share.
    """

    split: str = "test"
    format: str = "pytorch"
    dataset: str | None = None

    def fits(self, row: Evaluation) -> bool:
        """Whether an evaluation may be the one."""
        hashed = self.dataset is not None and len(self.dataset) >= 6 and (row.content or "").startswith(self.dataset)
        named = self.dataset in (None, row.dataset) or hashed
        return named and (row.split, row.format, row.tta) == (self.split, self.format, PLAIN)


@dataclass(frozen=True)
class Row:
    """One configuration. `mean`, `std`, `low`, `high` and the `scores` of each seed are of the metric, in [0, 1].

    `std` is the sample standard deviation over seeds, None for one seed, and `low` and `high` the 95 % interval.
    `train_images` and `memory_mb` (the most that training took) are None where a run has not recorded them, and the
    figures from `latency_ms` on, the median of one image on the CPU, until they are measured. `x` is where it stands in
    the figure.
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
    train_images: int | None = None
    memory_mb: float | None = None
    latency_ms: float | None = None
    latency_min_ms: float | None = None
    latency_max_ms: float | None = None
    threads: int | None = None
    cpu: str | None = None
    x: float | str | None = None
    scores: Sequence[float] = ()


@dataclass(frozen=True)
class Change:
    """How a configuration differs from the baseline: in the metric, or in the F1 of a class, which `figure` names.

    `baseline` is the baseline's value, in [0, 1]. The difference and its 95 % interval are in points. `p` is that of a
    paired bootstrap, for classes corrected by Holm for their number.
    """

    configuration: str
    figure: str
    baseline: float
    points: float
    low: float
    high: float
    p: float

    @property
    def more_than_chance(self) -> bool:
        return self.p < 0.05


@dataclass(frozen=True)
class Comparison:
    """`rows`, ranked by the mean of `metric`, and in `verdict` whether the first is better than the second.

    `changes` are those against the configuration `baseline`, where one is given. `pairs` has every pair of rows, the
    better one first. `choice` says what was compared, and `x` what the rows' `x` is.
    """

    metric: str
    rows: Sequence[Row]
    verdict: str
    choice: Choice = Choice()
    baseline: str | None = None
    changes: Sequence[Change] = ()
    pairs: Sequence[Pair] = ()
    x: str = "latency"
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


def evaluations(runs: Sequence[Run], choice: Choice = Choice()) -> list[Evaluation]:
    """Each run's evaluation on data that all share, by content or, as far as older files tell, by name.

    Raises `UserError` saying which run lacks one, or which differ.
    """
    candidates = [_candidates(run, choice) for run in runs]
    for by_content in (True, False):
        for first in candidates[0]:
            found = [[row for row in rows if _same_data(first, row, by_content)] for rows in candidates]
            if all(found):
                return [rows[0] for rows in found]
    listed = {", ".join(row.dataset for row in rows): run.path for run, rows in zip(runs, candidates, strict=True)}
    raise UserError(
        f"The runs were evaluated on the {choice.split} splits of different datasets: "
        f"{'; '.join(f'{names} ({path})' for names, path in listed.items())}. Evaluate all of them on one dataset "
        "with `fer-hf evaluate RUN --data`, or compare fewer."
    )


def _candidates(run: Run, choice: Choice) -> list[Evaluation]:
    """The evaluations of a run that fit, those on its own data first. Raises `UserError` when there is none."""
    metrics = run.metrics
    fitting = [row for row in metrics.evaluations.values() if choice.fits(row)]
    if not fitting:
        trained_on = metrics.data.dataset if metrics.data else None
        own = choice.dataset in (None, trained_on)
        wanted = Evaluation(choice.dataset or "", choice.split, choice.format, own=own)
        of = f" of {choice.dataset}" if choice.dataset else ""
        file = "" if choice.format == "pytorch" else f" with its {choice.format} file"
        raise UserError(
            f"{run.path} has no figures on a {choice.split} split{of}{file}: {run.evaluate_command(wanted)}. "
            f"It has: {', '.join(metrics.evaluations) or 'none'}."
        )
    return sorted(fitting, key=lambda row: not metrics.owns(row))


def _same_data(one: Evaluation, other: Evaluation, by_content: bool) -> bool:
    if by_content and one.content and other.content:
        return one.content == other.content
    return one.dataset == other.dataset


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
        file = run.path / row.predictions
        if not file.is_file():
            raise UserError(f"{file} is missing, which this makes again: {run.evaluate_command(row)}")
        data = read_predictions(file)
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


def compare(
    configs: Configurations, metric: str = "accuracy", choice: Choice = Choice(), baseline: str | None = None
) -> Comparison:
    """Rank configurations by a metric's mean over seeds, and test each pair of them.

    Args:
        configs: runs by configuration, one for each seed, as `configurations` returns them.
        metric: "accuracy", "balanced_accuracy" or "macro_f1".
        choice: the evaluations that are compared.
        baseline: a configuration that all others are held against, class by class.

    Returns:
        The rows, without latency, and a sentence on the best two.

    Raises:
        UserError: the runs were not evaluated on the same images.
    """
    runs = [run for seeds in configs.values() for run in seeds]
    evaluated = evaluations(runs, choice)
    references, predicted = predictions(runs, evaluated)
    ends = np.cumsum([len(seeds) for seeds in configs.values()])[:-1]
    parts = dict(zip(configs, np.split(predicted, ends), strict=True))
    scores, resamples = resampled(references, predicted, metric)
    draws = dict(zip(configs, zip(np.split(scores, ends), np.split(resamples, ends, axis=1), strict=True), strict=True))
    rows, rest = [], iter(evaluated)
    for (name, seeds), weights in zip(configs.items(), np.eye(len(draws)).tolist(), strict=True):
        limits = interval(contrast([*draws.values()], weights))
        rows.append(_row(name, seeds, [next(rest) for _ in seeds], metric, limits))
    rows.sort(key=lambda row: -row.mean)
    verdict, pairs, changed = "There is nothing to compare it with.", list[Pair](), list[Change]()
    if len(rows) > 1:
        pairs = all_pairs({row.name: draws[row.name] for row in rows}, {n: p == references for n, p in parts.items()})
        verdict = _verdict(rows[0], rows[1], pairs[0], len(pairs), metric)
    if baseline:
        ranked = {row.name: parts[row.name] for row in rows}
        changed = changes(references, ranked, baseline, metric, sorted(evaluated[0].per_class))
    return Comparison(metric, rows, verdict, choice, baseline, changed, pairs)


def _row(name: str, seeds: Sequence[Run], evaluated: Sequence[Evaluation], metric: str, limits: Interval) -> Row:
    """A configuration; `limits` is its interval, unless its only run has one already."""
    first, scores = evaluated[0], [getattr(evaluation, metric) for evaluation in evaluated]
    its_interval = (first.intervals or {}).get(metric) or getattr(first, f"{metric}_ci", None)
    low, high = (len(seeds) == 1 and its_interval) or np.clip(limits, 0, 1).tolist()
    std = float(np.std(scores, ddof=1)) if len(seeds) > 1 else None
    about = [run.metrics for run in seeds]
    parameters = about[0].model.parameters if about[0].model else None
    seeds[0].finished_model()
    file = seeds[0].model_file(first.format)
    if not file.is_file():
        raise UserError(f"{file} is missing: `fer-hf export {seeds[0].path} --int8` makes it again.")
    minutes = float(np.mean([metrics.training.seconds for metrics in about if metrics.training])) / 60
    size, data = (parameters, file.stat().st_size / 1e6, minutes), (first.dataset, first.split, first.images)
    splits = about[0].data.splits if about[0].data else {}
    images = splits["train"].images if "train" in splits else None
    memory = [m.training.peak_memory_mb for m in about if m.training and m.training.peak_memory_mb]
    row = Row(name, len(seeds), float(np.mean(scores)), std, low, high, *size, *data)
    return replace(row, train_images=images, memory_mb=max(memory, default=None), scores=scores)


def changes(
    references: Array, predicted: Mapping[str, Array], baseline: str, metric: str, label_names: Sequence[str]
) -> list[Change]:
    """How each configuration differs from the baseline, in the metric and in the F1 of each class that has images.

    Args:
        references: true class ids `(N,)`.
        predicted: predicted ones of each configuration's seeds, `(S, N)`.
        baseline: which of them is the baseline.
        metric: "accuracy", "balanced_accuracy" or "macro_f1".
        label_names: of the class ids.
    """
    figures = {metric: 0} | {label_names[i]: 1 + i for i in np.unique(references).tolist()}

    def measure(confusion: Array) -> Array:
        return np.concatenate([METRICS[metric](confusion)[..., None], f1_of(confusion)], axis=-1)

    rows = []
    for name, seeds in predicted.items():
        if name == baseline:
            continue
        scores, draws = resampled(references, np.vstack([seeds, predicted[baseline]]), measure)
        own, base = slice(0, len(seeds)), slice(len(seeds), None)
        changed = []
        for figure, at in figures.items():
            groups = [(scores[part, at], draws[:, part, at]) for part in (own, base)]
            differences = contrast(groups, [1, -1])
            (low, high), (after, before) = interval(differences), (float(group[0].mean()) for group in groups)
            points = 100 * (after - before)
            changed.append(Change(name, figure, before, points, 100 * low, 100 * high, p_value(differences)))
        corrected = holm([change.p for change in changed[1:]])
        rows += [changed[0], *(replace(change, p=p) for change, p in zip(changed[1:], corrected, strict=True))]
    return rows


def _verdict(best: Row, second: Row, pair: Pair, pairs: int, metric: str) -> str:
    """Whether the best configuration is better than the second, and by how much, in words; there are so many pairs."""
    text = f"{best.name} {'is better than' if pair.more_than_chance else 'is not significantly better than'} "
    text += f"{second.name}: {pair.points:.1f} points of {metric} [{pair.low:.1f}, {pair.high:.1f}], {_p(pair.p)} "
    text += f"after Holm's correction for {pairs} pairs " if pairs > 1 else ""
    text += f"(paired bootstrap over {best.images:,} images"
    if pair.mcnemar is None:
        return f"{text}, and {best.seeds} and {second.seeds} seeds)."
    note = "This is about these two trained models, not about other seeds of theirs."
    return f"{text}; McNemar's exact test of accuracy: {_p(pair.mcnemar)}). {note}"


def _p(p: float) -> str:
    return f"p = {p:.2g}" if p >= 0.001 else "p < 0.001"

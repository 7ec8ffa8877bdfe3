"""Runs side by side: run folders in, plain rows out, the best configuration first.

Runs that differ in `train.seed` only are seeds of one configuration; what does not shape the weights (names, what is
exported or published) makes no difference. All are compared on the same images, matched by id.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from fer_hf.errors import UserError
from fer_hf.evaluation.significance import contrast, interval, mcnemar, p_value, resampled
from fer_hf.metrics import Array
from fer_hf.recipe.load import load_recipe
from fer_hf.recipe.schema import NOT_OF_WEIGHTS
from fer_hf.runs.folder import Run

Configurations = dict[str, list[Run]]  # by name, one run for each seed
SHAPES_WEIGHTS = {"model", "data", "augment", "train", "loss"}
LEFT_OUT = {f"train.{key}" for key in ("seed", *NOT_OF_WEIGHTS)}


def find_runs(folders: Sequence[Path]) -> tuple[list[Run], list[str]]:
    """The finished runs in `folders`, and those left out, with the reason. Raises `UserError` when there are none."""
    found: dict[Path, Run] = {}
    for folder in folders:
        places = {
            file.parent.resolve(): file.parent
            for file in sorted(folder.rglob("recipe.yaml"))
            if file.with_name("metrics.json").is_file()
        }
        found |= {place: Run(path) for place, path in places.items() if places.keys().isdisjoint(place.parents)}
    finished = [run for run in found.values() if run.metrics().get("finished")]
    if not finished:
        raise UserError(
            f"There is no finished run in {', '.join(map(str, folders))} (unfinished: {len(found)}). Give run folders, "
            "or folders of runs, as `fer-hf train` and `fer-hf study` make them."
        )
    return finished, [f"{run.path}: not finished" for run in found.values() if run not in finished]


def configurations(runs: Sequence[Run]) -> tuple[Configurations, list[str]]:
    """Runs grouped by configuration, and those left out since a later one repeats their recipe and seed."""
    groups: dict[str, dict[int, Run]] = {}
    settings: dict[str, dict[str, Any]] = {}
    repeated = []
    for run in runs:
        recipe = load_recipe(run.recipe_file).flat()
        seed = recipe["train.seed"]
        flat = {k: v for k, v in recipe.items() if k.split(".")[0] in SHAPES_WEIGHTS and k not in LEFT_OUT}
        seeds = groups.setdefault(repr(flat), {})
        settings[repr(flat)] = flat
        if seed in seeds:
            repeated.append(f"{seeds[seed].path}: repeated by {run.path}")
        seeds[seed] = run
    names = [_folder_name(next(iter(seeds.values())).path.resolve()) for seeds in groups.values()]
    if len(set(names)) < len(names):  # what differs in the recipes then
        keys = dict.fromkeys(key for flat in settings.values() for key in flat)
        differing = [key for key in keys if len({repr(flat.get(key)) for flat in settings.values()}) > 1]
        names = [", ".join(f"{key}={flat.get(key)}" for key in differing) for flat in settings.values()]
    return {name: list(seeds.values()) for name, seeds in zip(names, groups.values(), strict=True)}, repeated


def _folder_name(path: Path) -> str:
    """What a run's folder says of its configuration: `mixup` of `mixup-seed=0`, `mine` of `mine/20260131-175900`."""
    name = path.parent.name if re.fullmatch(r"\d{8}-\d{6}", path.name) else path.name
    return re.sub(r"(^|[-_])(?<!split_)seed[=_-]?\d+", "", name).strip("-_") or path.parent.name


def evaluations(runs: Sequence[Run], split: str) -> list[dict[str, Any]]:
    """Each run's plain PyTorch evaluation of one dataset that all share. Raises `UserError` saying which differs."""
    plain = []
    for run in runs:
        rows = run.metrics().get("evaluations", {}).values()
        rows = [row for row in rows if row["split"] == split and row["format"] == "pytorch" and "tta" not in row]
        if not rows:
            raise UserError(f"{run.path} has no figures on a {split} split: fer-hf evaluate {run.path} --split {split}")
        plain.append({row["dataset"]: row for row in rows})
    shared = [name for name in plain[0] if all(name in rows for rows in plain)]
    if not shared:
        listed = {", ".join(rows): run.path for run, rows in zip(runs, plain, strict=True)}
        raise UserError(
            f"The runs were evaluated on the {split} splits of different datasets: "
            f"{'; '.join(f'{names} ({path})' for names, path in listed.items())}. Evaluate all of them on one dataset "
            "with `fer-hf evaluate RUN --data`, or compare fewer."
        )
    own = runs[0].metrics().get("data", {}).get("dataset")
    return [rows[own if own in shared else shared[0]] for rows in plain]


def predictions(runs: Sequence[Run], rows: Sequence[dict[str, Any]]) -> tuple[Array, Array]:
    """Class ids `(N,)` and predicted ones `(S, N)` of S runs, images by id and classes by name in sorted order.

    Raises `UserError` when a file is missing, or when classes, images or their labels differ.
    """
    read: list[dict[str, Any]] = []
    for run, row in zip(runs, rows, strict=True):
        path = run.path / row["predictions"]
        if not path.is_file():
            raise UserError(f"{path} is missing: `fer-hf evaluate {run.path} --split {row['split']}` makes it again.")
        table = pq.read_table(path, columns=["id", "label", "logits"]).sort_by("id")
        names = sorted(row["label_names"])
        place = np.array([names.index(name) for name in row["label_names"]])
        labels = place[table["label"].to_numpy()].tolist()
        read.append({"classes": names, "images": table["id"].to_pylist(), "labels of the images": labels})
        for what, values in read[-1].items():
            if values != read[0][what]:
                other = sorted(map(str, set(values) ^ set(read[0][what])))[:3]
                raise UserError(
                    f"{run.path} and {runs[0].path} differ in the {what} ({', '.join(other) or 'their order'}): only "
                    "runs that were evaluated on the same images under the same labels can be compared."
                )
        read[-1]["predicted"] = place[np.stack(table["logits"].to_numpy()).argmax(axis=1)]
    return np.array(labels), np.stack([one["predicted"] for one in read])


def compare(configs: Configurations, split: str, metric: str) -> tuple[list[dict[str, Any]], str]:
    """One plain row per configuration, ranked by the metric's mean over seeds, and a sentence on the best two.

    `mean`, `std` (sample standard deviation over seeds, None for one seed), `low` and `high` (95 %) are shares.
    """
    runs = [run for seeds in configs.values() for run in seeds]
    evaluated = evaluations(runs, split)
    references, predicted = predictions(runs, evaluated)
    ends = np.cumsum([len(seeds) for seeds in configs.values()])
    parts = dict(zip(configs, np.split(predicted, ends[:-1]), strict=True))
    draws = [resampled(references, part, metric, 2000) for part in parts.values()]
    rows = []
    for number, (name, seeds) in enumerate(configs.items()):
        mine = evaluated[ends[number] - len(seeds) : ends[number]]
        scores = [row[metric] for row in mine]
        limits = mine[0].get(f"{metric}_ci") if len(seeds) == 1 else None
        limits = limits or np.clip(interval(contrast(draws, np.arange(len(draws)) == number)), 0, 1).tolist()
        about = [run.metrics() for run in seeds]
        rows.append(
            {
                "name": name,
                "seeds": len(seeds),
                "mean": float(np.mean(scores)),
                "std": float(np.std(scores, ddof=1)) if len(seeds) > 1 else None,
                "low": limits[0],
                "high": limits[1],
                "parameters": about[0]["model"]["parameters"],
                "megabytes": (seeds[0].finished_model() / "model.safetensors").stat().st_size / 1e6,
                "train_minutes": float(np.mean([one["training"]["seconds"] for one in about])) / 60,
                **{key: evaluated[0][key] for key in ("dataset", "split", "images")},
            }
        )
    rows.sort(key=lambda row: -row["mean"])
    if len(rows) == 1:
        return rows, "There is nothing to compare it with."
    best, second = (row["name"] for row in rows[:2])
    better, found = difference(references, parts[best], parts[second], metric)
    return rows, f"{best} {'is better than' if better else 'is not significantly better than'} {second}: {found}"


def difference(references: Array, best: Array, second: Array, metric: str) -> tuple[bool, str]:
    """Whether two configurations differ significantly, and by how much, from predictions `(S, N)` of their seeds."""
    scores, draws = resampled(references, np.vstack([best, second]), metric)
    first, other = slice(0, len(best)), slice(len(best), None)
    differences = contrast([(scores[first], draws[:, first]), (scores[other], draws[:, other])], [1, -1])
    p, (low, high) = p_value(differences), interval(differences)
    points = 100 * (scores[first].mean() - scores[other].mean())
    found = f"{points:.1f} points of {metric} [{low * 100:.1f}, {high * 100:.1f}], {_p(p)} (paired bootstrap over "
    if len(scores) > 2:
        return p < 0.05, f"{found}{len(references):,} images, and {len(best)} and {len(second)} seeds)."
    exact = _p(mcnemar(best[0] == references, second[0] == references))
    note = "This is about these two trained models, not about other seeds of theirs."
    return p < 0.05, f"{found}{len(references):,} images; McNemar's exact test of accuracy: {exact}). {note}"


def _p(p: float) -> str:
    return f"p = {p:.2g}" if p >= 0.001 else "p < 0.001"

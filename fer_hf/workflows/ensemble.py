"""The mean of several models: from stored predictions where there are some, beside each member, with what it costs."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow.parquet as pq
from datasets import Dataset

from fer_hf.console import track
from fer_hf.deploy.latency import cpu_latency
from fer_hf.errors import UserError
from fer_hf.evaluation.ensemble import against_best, aligned, mean_logits
from fer_hf.machine import process_settings_kept
from fer_hf.metrics import Array
from fer_hf.recipe.load import load_recipe
from fer_hf.runs.analyses import Ensemble, Member
from fer_hf.runs.folder import Run, file_stem
from fer_hf.runs.predictions import figures_of, read_predictions, write_predictions
from fer_hf.runs.records import Evaluation
from fer_hf.workflows.evaluate import USUAL, Settings, evaluate_one
from fer_hf.workflows.faces import other_faces


@dataclass(frozen=True)
class EnsembleResult:
    """The figures of an ensemble, its members and costs, and the folder that holds them."""

    run: Run
    evaluation: Evaluation
    ensemble: Ensemble


@process_settings_kept()
def evaluate_ensemble(
    runs: Sequence[str | Path],
    data: Sequence[str] = (),
    settings: Settings = USUAL,
    output: str | Path | None = None,
) -> EnsembleResult:
    """Evaluate the mean of the probabilities of several runs, on the same images.

    Predictions that a run has kept are used; others are made, and stay in it. The ensemble gets a folder of its own
    with its predictions and a metrics.json, like a model that was evaluated only: it is no run, and has no card.

    Args:
        runs: two or more finished run folders.
        data: one source of faces; their own data, which have to be the same, when empty.
        settings: which split, which file of the models and which test-time augmentation.
        output: the folder; `runs/evaluate/ensemble-of-<number>-<hash of their paths>` when None.

    Returns:
        The figures, beside those of each member and those of the best one in particular.

    Raises:
        UserError: there are fewer than two runs, or they differ in images, labels or classes.

    Example:
        `evaluate_ensemble(["runs/a", "runs/b", "runs/c"]).ensemble.difference`
    """
    members = [Run.open(Path(run)) for run in runs]
    names = _names([run.path for run in members])
    if len(set(names)) < 2:
        raise UserError(
            f"An ensemble needs two runs or more, and there is {', '.join(names)}. Give several run folders."
        )
    if len(data) > 1:
        raise UserError(f"--ensemble is evaluated on one dataset at a time, and --data names {len(data)}: give one.")
    if settings.copies:
        raise UserError("--copies is of single models: evaluate the members with it, without --ensemble.")
    target = Run(output or Path("runs/evaluate") / f"ensemble-of-{len(members)}-{_hash(members)}")
    target.predictions.mkdir(parents=True, exist_ok=True)  # what cannot be written is not worth the wait
    evaluations = _evaluations(members, data[0] if data else None, settings)
    files = [run.path / one.predictions for run, one in zip(members, evaluations, strict=True)]
    labels, probabilities = aligned({name: read_predictions(file) for name, file in zip(names, files, strict=True)})
    evaluation = _record(target, members[0], names, files[0], evaluations[0], mean_logits(probabilities))
    ensemble = _beside(members, names, evaluations, labels, probabilities, settings)
    target.update(ensembles={Path(evaluation.predictions).stem: ensemble})
    return EnsembleResult(target, evaluation, ensemble)


def _names(paths: Sequence[Path]) -> list[str]:
    """What to call runs: the last part of their paths, or as many more as tell them apart."""
    parts = [path.resolve().parts for path in paths]
    for length in range(1, max(map(len, parts)) + 1):
        names = ["/".join(part[-length:]) for part in parts]
        if len(set(names)) == len(set(parts)):
            return names
    return names


def _hash(members: Sequence[Run]) -> str:
    """Six digits that tell one ensemble from others, and stay the same in whichever order its members are given."""
    paths = sorted(str(run.path.resolve()) for run in members)
    return hashlib.sha256("\0".join(paths).encode()).hexdigest()[:6]


def _evaluations(members: Sequence[Run], data: str | None, settings: Settings) -> list[Evaluation]:
    """An evaluation of each member on the same images, made where there is none."""
    content = None
    if data is not None:
        labels = tuple(members[0].metrics.label_names)
        content = other_faces(load_recipe(members[0].recipe_file), data, labels).content(settings.split)
    evaluations = [_kept(run, content, settings) or evaluate_one(run, data, settings).evaluation for run in members]
    first = evaluations[0]
    for run, one in zip(members, evaluations, strict=True):
        if None not in (one.content, first.content) and one.content != first.content:
            raise UserError(
                f"{run.path} and {members[0].path} were evaluated on different images: {one.dataset} {one.split} and "
                f"{first.dataset} {first.split}. Give the data for all of them with --data."
            )
    return evaluations


def _kept(run: Run, content: str | None, settings: Settings) -> Evaluation | None:
    """The evaluation that is wanted of a run, if its predictions are there; `content` is that of other data."""
    for one in run.metrics.evaluations.values():
        same = (one.split, one.format, one.tta) == (settings.split, settings.format, settings.tta)
        if same and (run.owns(one) if content is None else one.content == content):
            return one if (run.path / one.predictions).is_file() else None
    return None


def _record(
    target: Run, first: Run, names: Sequence[str], file: Path, of_first: Evaluation, logits: Array
) -> Evaluation:
    """Write the predictions and figures of the ensemble as those of a PyTorch model on the images of its members."""
    data = first.metrics.data if of_first.own else None
    name = file_stem(data.source if data else None, of_first.dataset)
    title = f"Ensemble of {', '.join(names)}"
    target.update(name=title, label_names=list(of_first.label_names or first.metrics.label_names), data=data)
    evaluation = Evaluation(
        dataset=of_first.dataset,
        split=of_first.split,
        format=of_first.format,
        tta=of_first.tta,
        label_names=of_first.label_names,
        images_of=of_first.images_of,
        content=of_first.content,
        own=of_first.own,
    )
    path = target.predictions / f"{target.evaluation_key(name, evaluation)}.parquet"
    write_predictions(path, Dataset(pq.read_table(file)).remove_columns("logits"), logits)
    top_k = load_recipe(first.recipe_file).evaluate.top_k
    key = target.record(name, replace(evaluation, **figures_of(path, top_k)))
    return target.metrics.evaluations[key]


def _beside(
    members: Sequence[Run],
    names: Sequence[str],
    evaluations: Sequence[Evaluation],
    labels: Array,
    probabilities: Array,
    settings: Settings,
) -> Ensemble:
    """The members with their figures and costs, and whether the ensemble is better than the best of them."""
    against = against_best(labels, probabilities.argmax(axis=2), mean_logits(probabilities).argmax(axis=1))
    latencies = [
        cpu_latency(run.finished_model(), format=settings.format) for run in track(members, "measuring latency")
    ]
    rows = []
    for run, name, one, latency in zip(members, names, evaluations, latencies, strict=True):
        model, file = run.metrics.model, run.model_file(settings.format)
        cost = (model.parameters if model else None, file.stat().st_size / 1e6, latency["latency_ms"])
        rows.append(Member(name, one.accuracy, one.macro_f1, *cost))
    parameters = [row.parameters for row in rows if row.parameters]
    return Ensemble(
        members=rows,
        best=names[against.best],
        difference=against.difference,
        p=against.p,
        mcnemar_p=against.mcnemar_p,
        parameters=sum(parameters) if len(parameters) == len(rows) else None,
        megabytes=sum(row.megabytes for row in rows),
        latency_ms=sum(row.latency_ms for row in rows),
        threads=latencies[0]["threads"],
        cpu=latencies[0]["cpu"],
    )

"""A model, or several, on one dataset or several: each evaluation stands in its run, and the table beside them."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from fer_hf.console import track
from fer_hf.errors import UserError
from fer_hf.evaluation.transfer import RULE, transfer
from fer_hf.explain.features import penultimate_features, require_pytorch
from fer_hf.files import write_csv
from fer_hf.machine import process_settings_kept
from fer_hf.metrics.distances import frechet_distance, maximum_mean_discrepancy
from fer_hf.models.classifier import load_classifier
from fer_hf.recipe.load import load_recipe
from fer_hf.runs.analyses import Domains, Transfer
from fer_hf.runs.folder import Run
from fer_hf.runs.predictions import read_predictions
from fer_hf.runs.records import Evaluation
from fer_hf.training.launch import processes
from fer_hf.workflows.evaluate import USUAL, Evaluated, Settings, evaluate_one
from fer_hf.workflows.faces import recipe_faces
from fer_hf.workflows.report import redraw

logger = logging.getLogger(__name__)
__all__ = ["RULE", "Result", "Results", "evaluate_all"]
COLUMNS = (
    *("model", "dataset", "split", "images", "left_out", "accuracy", "low", "high", "accuracy_of_shared", "macro_f1"),
    *("gap", "gap_low", "gap_high", "balanced_gap", "balanced_gap_low", "balanced_gap_high", "frechet", "mmd"),
)


@dataclass(frozen=True)
class Result:
    """An evaluation of `model`, as it was named, whose figures are in `run`.

    `own` is the evaluation on the model's own test set, None where it is no run, or has no such figures. `transfer` is
    None for an evaluation on its own data.
    """

    model: str
    run: Run
    evaluation: Evaluation
    own: Evaluation | None = None
    transfer: Transfer | None = None
    domains: Domains | None = None

    @property
    def key(self) -> str:
        """The key of the evaluation in metrics.json."""
        return Path(self.evaluation.predictions).stem


@dataclass(frozen=True)
class Results:
    """Evaluations, model by model, and the csv that holds their table; None for a single evaluation."""

    rows: Sequence[Result]
    table: Path | None = None


@process_settings_kept()
def evaluate_all(
    models: Sequence[str | Path],
    data: Sequence[str] = (),
    settings: Settings = USUAL,
    output: str | Path | None = None,
    distances: bool = False,
) -> Results:
    """Evaluate each model on each dataset, and hold each figure against the model's own test set.

    What has no counterpart by name is settled by the rules of `evaluation.transfer`. Predictions, figures and gaps go
    where `evaluate` puts them; of more than one evaluation, `datasets.csv` in the run, or in `runs/evaluate` for
    several models, has the table.

    Args:
        models: runs, run folders, model folders or Hub ids.
        data: sources of faces; each run's own when there is none.
        settings: what is evaluated, and how.
        output: as for `evaluate`, where there is one model.
        distances: measure also how far the images are from the own test set in the features before the classifier
            (`metrics.distances`): a second pass over both.

    Returns:
        The evaluations in the order of the models, then of the data.

    Raises:
        UserError: as `evaluate` does; or several models have one `output`.

    Example:
        `evaluate_all(["runs/mine/20260131-175900"], ["rafdb:PATH", "folder:faces"]).rows[1].transfer.gap.value`
    """
    if output and len(models) > 1:
        raise UserError(f"--output is {str(output)!r}, but there are {len(models)} models: each keeps its own figures.")
    rows: list[Result] = []
    for model in models:
        sources: Sequence[str | None] = data or [None]
        evaluated = [evaluate_one(model, source, settings, output) for source in sources]
        own = None if all(one.evaluation.own for one in evaluated) else _own_test(Run(model), settings)
        results = [_result(str(model), one, own) for one in evaluated]
        if distances:
            results = _with_distances(results, evaluated, settings)
        redraw(evaluated[0].run)
        rows += results
    if len(rows) == 1:
        return Results(rows)
    folder = rows[0].run.path if len(models) == 1 else Path("runs/evaluate")
    if processes().is_main_process:
        folder.mkdir(parents=True, exist_ok=True)
        write_csv(folder / "datasets.csv", COLUMNS, map(_cells, rows))
    return Results(rows, folder / "datasets.csv")


def _own_test(run: Run, settings: Settings) -> Evaluation | None:
    """The figures of a run on its own test set, made in the same way; None, and a word on it, where there are none."""
    if not run.exists():
        return None
    try:
        return run.evaluation("test", settings.format, settings.tta)
    except UserError as error:
        logger.warning("no gap to its own test set: %s", error)
        return None


def _result(model: str, evaluated: Evaluated, own: Evaluation | None) -> Result:
    """An evaluation beside that on the model's own test set; what is found goes to metrics.json."""
    evaluation, run = evaluated.evaluation, evaluated.run
    result = Result(model, run, evaluation, own)
    if evaluation.own:
        return result
    left_out = evaluated.faces.dropped_in.get(evaluation.split, {})
    named = (Path(own.predictions).stem, own) if own else None
    found = transfer(evaluation, read_predictions(run.path / evaluation.predictions), left_out, named)
    if processes().is_main_process:
        run.update(transfers={result.key: found})
    return replace(result, transfer=found)


def _with_distances(results: list[Result], evaluated: list[Evaluated], settings: Settings) -> list[Result]:
    """The results with how far their images are from the own test set in the features of the model."""
    run = Run(results[0].model)
    if not run.exists():
        raise UserError(
            f"distances: {run.path} is no run, so it has no test set to measure from. Leave --distances out."
        )
    classifier = load_classifier(run.finished_model(), settings.format)
    require_pytorch(classifier, "Distances between the features")
    own = recipe_faces(load_recipe(run.recipe_file))
    if "test" not in own.splits:
        raise UserError(f"distances: the data of {run.path} have no test split to measure from. Leave --distances out.")
    measured = [(own, "test"), *((one.faces, one.evaluation.split) for one in evaluated)]
    first, *others = (
        penultimate_features(classifier, faces.splits[split], settings.batch_size, faces.pixels(split))
        for faces, split in track(measured, "features of datasets")
    )
    found = []
    for result, features in zip(results, others, strict=True):
        if result.evaluation.own:
            found.append(result)
            continue
        name = f"{run.metrics.data.dataset if run.metrics.data else own.dataset} test"
        second = f"{result.evaluation.dataset} {result.evaluation.split}"
        images = [len(first), len(features)]
        figures = frechet_distance(first, features), maximum_mean_discrepancy(first, features)
        domains = Domains(name, second, images, *figures)
        if processes().is_main_process:
            result.run.update(domains={result.key: domains})
        found.append(replace(result, domains=domains))
    return found


def _cells(result: Result) -> list[object]:
    """A row of datasets.csv; what is not known is empty."""
    e, found = result.evaluation, result.transfer
    gaps = [found.gap, found.balanced_gap] if found else [None, None]
    left_out = sum(found.left_out.values()) if found else 0
    return [
        *(result.model, e.dataset, e.split, e.images, left_out, e.accuracy, *(e.accuracy_ci or ("", ""))),
        *(found.accuracy_of_shared if found else e.accuracy, e.macro_f1),
        *(value for gap in gaps for value in ((gap.value, gap.low, gap.high) if gap else ("", "", ""))),
        *((result.domains.frechet, result.domains.mmd) if result.domains else ("", "")),
    ]

"""How accuracy depends on the mixture of two groups in the training set and in the test set."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fer_hf.errors import UserError
from fer_hf.evaluation.compare import Choice, configurations, evaluations, find_runs, predictions
from fer_hf.evaluation.mixture import SHARES, MixtureRow, accuracy_on_mixtures
from fer_hf.files import write_csv
from fer_hf.metrics import Array
from fer_hf.recipe.load import load_recipe
from fer_hf.report.figures.mixture import mixture_figure
from fer_hf.report.figures.style import save_figure
from fer_hf.runs.folder import Run
from fer_hf.runs.predictions import read_predictions
from fer_hf.runs.records import Evaluation

logger = logging.getLogger(__name__)
COLUMNS = ("configuration", "seeds", "trained_share", "test_share", "accuracy", "low", "high")


@dataclass(frozen=True)
class Mixtures:
    """The configurations on mixtures with the shares `SHARES` of `group`, which has `members` of `images`."""

    rows: Sequence[MixtureRow]
    evaluation: Evaluation
    group: str
    members: int
    images: int
    list: Path
    figure: Path


def compare_mixtures(
    folders: Sequence[str | Path], of: str = "gender=female", split: str = "test", output: str | Path | None = None
) -> Mixtures:
    """Accuracy of runs on test sets with 0, 25, 50, 75 and 100 % of a group, from their stored predictions.

    Runs that differ in `train.seed` only are seeds of one configuration. Writes `mixture.csv` and `mixture.png`.

    Args:
        folders: run folders, or folders of runs, evaluated on the same images.
        of: an attribute and the value that makes the group; all other known values make the rest.
        split: the split that the runs were evaluated on.
        output: the folder of the results; by default the folder of runs, or runs/mixture where several are given.

    Raises:
        UserError: the attribute or the value is not known, or the runs were not evaluated on the same images.

    Example:
        `compare_mixtures(["runs/e_gender"]).rows[0].accuracy`
    """
    places = [Path(folder) for folder in folders]
    runs, unfinished = find_runs(places)
    configs, repeated = configurations(runs)
    for line in [*unfinished, *repeated]:
        logger.warning("left out: %s", line)
    ordered = [run for seeds in configs.values() for run in seeds]
    evaluated = evaluations(ordered, Choice(split))
    references, predicted = predictions(ordered, evaluated)
    name, _, value = of.partition("=")
    known, member = _members(ordered[0], evaluated[0], name, value)
    rows, first = [], 0
    for configuration, seeds in configs.items():
        part = predicted[first : first + len(seeds), known]
        first += len(seeds)
        shares = (load_recipe(seeds[0].recipe_file).data.mixture or {}).get(name, {})
        accuracy = accuracy_on_mixtures(references[known], part, member[known], len(evaluated[0].per_class))
        rows.append(MixtureRow(configuration, len(seeds), shares.get(value), accuracy))
    single = len(places) == 1 and not Run(places[0]).exists()
    folder = Path(output) if output else places[0] if single else Path("runs/mixture")
    folder.mkdir(parents=True, exist_ok=True)
    group, files = f"{name} {value}", (folder / "mixture.csv", folder / "mixture.png")
    result = Mixtures(rows, evaluated[0], group, int(member.sum()), int(known.sum()), *files)
    lines = [
        (row.name, row.seeds, row.trained, share, one.value, one.low, one.high)
        for row in rows
        for share, one in zip(SHARES, row.accuracy, strict=True)
    ]
    write_csv(result.list, COLUMNS, lines)
    save_figure(mixture_figure(rows, SHARES, group, evaluated[0]), result.figure)
    return result


def _members(run: Run, evaluation: Evaluation, name: str, value: str) -> tuple[Array, Array]:
    """Which images `(N,)` have a known value, and which of them are of the group, in the order of their ids."""
    data = read_predictions(run.path / evaluation.predictions)
    values = np.array(data.attributes.get(name, [None] * len(data.ids)), dtype=object)[np.argsort(data.ids)]
    known = np.array([one is not None for one in values])
    there = sorted({str(one) for one in values[known]})
    if not there:
        has = ", ".join(column for column in data.attributes if column != "soft_label") or "none"
        raise UserError(f"Of no image is {name!r} known. Attributes that the predictions have: {has}.")
    if value not in there or len(there) < 2:
        raise UserError(f"No mixture can be made of {name}={value!r}: the images have {name} {', '.join(there)}.")
    return known, values == value

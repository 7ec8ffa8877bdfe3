"""Slices of an evaluation in the run folder: whoever predicts on images of known people also says how these fare."""

import re
from collections.abc import Sequence
from pathlib import Path

from fer_hf.evaluation.attributes import usual
from fer_hf.evaluation.slices import slice_predictions
from fer_hf.report.figures.slices import slices_figure
from fer_hf.report.figures.style import save_figure
from fer_hf.runs.analyses import Slices
from fer_hf.runs.folder import Run
from fer_hf.runs.predictions import PERSONAL, read_predictions


def slice_people(run: Run, key: str) -> None:
    """Slice an evaluation by what is known of the people: gender, age, race and pairs of them; nothing without.

    Args:
        run: the folder that has the evaluation.
        key: of the evaluation. One of an exported file, or with test-time augmentation, is passed over.
    """
    evaluation = run.metrics.evaluations[key]
    if evaluation.plain and evaluation.attributes:
        data = read_predictions(run.path / evaluation.predictions)
        by = usual({name: data.attributes[name] for name in PERSONAL if name in data.attributes})
        write_slices(run, key, slice_predictions(data, by, key))


def write_slices(run: Run, key: str, slices: Sequence[Slices]) -> list[Path]:
    """Keep slices of an evaluation in metrics.json, and a figure of each in `model/figures/`, whose paths it returns.

    Their keys are that of the evaluation and the attributes, as in `rafdb-test/gender,age`.
    """
    evaluation, figures = run.metrics.evaluations[key], list[Path]()
    run.update(slices={f"{key}/{','.join(each.attributes)}": each for each in slices})
    run.figures.mkdir(parents=True, exist_ok=True)
    for each in slices:
        name = re.sub(r"[^\w.-]+", "-", "-".join(["slices", key, *each.attributes]))
        figures.append(run.figures / f"{name}.png")
        save_figure(slices_figure(each, evaluation), figures[-1])
    return figures

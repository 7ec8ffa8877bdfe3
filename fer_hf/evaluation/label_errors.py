"""Likely label errors by confident learning (Northcutt et al. 2021, arXiv 1911.00068), with `cleanlab`.

The probabilities have to come from a model that did not see the image in training: a validation or test split, or
out-of-fold predictions. The result is a list for people to look at, not a list of errors: a model and a person can
both be right about a face.
"""

from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np

from fer_hf.metrics import Array
from fer_hf.runs.predictions import read_predictions


@dataclass(frozen=True)
class LabelError:
    """An image whose label is likely wrong.

    `probability` is that of the `suggested` label. `quality` is the normalised margin: 0 where the model is sure of
    another label, 1 where it is sure of the given one.
    """

    split: str
    id: str
    label: str
    suggested: str
    probability: float
    quality: float


COLUMNS = tuple(field.name for field in fields(LabelError))


def likely_label_errors(labels: Array, probabilities: Array) -> tuple[Array, Array]:
    """Rank the likely label errors.

    A row is one by the confident joint: the model gives another label a higher probability than it gives it on average
    to the images that carry it.

    Args:
        labels: `(N,)` the given class ids.
        probabilities: `(N, C)` of the model, in [0, 1].

    Returns:
        The row numbers of likely errors, the likeliest first, and the label quality `(N,)` of every row, in [0, 1].
    """
    from cleanlab.filter import find_label_issues
    from cleanlab.rank import get_label_quality_scores

    quality = get_label_quality_scores(labels, probabilities, method="normalized_margin")
    rows = np.flatnonzero(find_label_issues(labels, probabilities, filter_by="confident_learning", n_jobs=1))
    return rows[np.argsort(quality[rows], kind="stable")], quality


def label_errors_in(path: Path, split: str) -> list[LabelError]:
    """The likely label errors in a predictions file of a split, the likeliest first."""
    data = read_predictions(path)
    names, probabilities, predicted = data.label_names, data.probabilities, data.predicted
    rows, quality = likely_label_errors(data.labels, probabilities)
    figures = np.stack([probabilities.max(axis=1), quality], axis=1).round(4).tolist()
    return [
        LabelError(split, data.ids[row], names[data.labels[row]], names[predicted[row]], *figures[row])
        for row in rows.tolist()
    ]

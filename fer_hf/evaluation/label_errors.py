"""Likely label errors by confident learning (Northcutt et al. 2021, arXiv 1911.00068), with `cleanlab`.

The probabilities have to come from a model that did not see the image in training: a validation or test split, or
out-of-fold predictions. What is found is a list for people to look at, not a list of errors: on faces, a sure model and
a person may both be right.
"""

from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset
from scipy.special import softmax

COLUMNS = ("split", "id", "label", "suggested", "probability", "quality")


def likely_label_errors(labels: np.ndarray, probabilities: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Row numbers of likely label errors, the likeliest first, and the label quality of every row (N,).

    `labels` (N,) are the given ones, `probabilities` (N, C) the model's. Quality is the normalised margin, from 0 (the
    model is sure of another label) to 1 (it is sure of the given one). Rows are found by the confident joint: the model
    is surer of another label than it is on average of the images that carry that label.
    """
    from cleanlab.filter import find_label_issues
    from cleanlab.rank import get_label_quality_scores

    quality = get_label_quality_scores(labels, probabilities, method="normalized_margin")
    found = find_label_issues(labels, probabilities, filter_by="confident_learning", n_jobs=1)
    rows = np.flatnonzero(found)
    return rows[np.argsort(quality[rows], kind="stable")], quality


def label_errors_in(predictions: Path, split: str) -> list[dict[str, Any]]:
    """The likely label errors in a predictions file, ranked, as rows of `COLUMNS`."""
    data = Dataset.from_parquet(str(predictions), keep_in_memory=True)
    names = data.features["label"].names
    labels = np.asarray(data["label"][:])
    probabilities = softmax(np.asarray(data["logits"][:], dtype=np.float64), axis=1)
    rows, quality = likely_label_errors(labels, probabilities)
    ids = data["id"][:]
    return [
        {
            "split": split,
            "id": ids[row],
            "label": names[labels[row]],
            "suggested": names[int(probabilities[row].argmax())],
            "probability": round(float(probabilities[row].max()), 4),
            "quality": round(float(quality[row]), 4),
        }
        for row in rows.tolist()
    ]

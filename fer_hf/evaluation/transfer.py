"""An evaluation on other data, held against the run's own test set.

Labels are aligned by name, and two rules settle what has no counterpart:

- Images of emotions that the model does not know are left out, and counted: no answer of it could be right.
- Probabilities of emotions that the data lack stay in the competition. That is what `pipeline` and every exported file
  answer; it needs no knowledge of the data's label set, which nobody has in use; and it never flatters. Others take the
  largest probability among the shared emotions (HSEmotion does so with 8 classes on 7), which suits data whose
  annotators had no such choice: `accuracy_of_shared` is that figure, beside the main one.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np

from fer_hf.evaluation.significance import METRICS, interval
from fer_hf.metrics import Array
from fer_hf.runs.analyses import Estimate, Transfer
from fer_hf.runs.predictions import Predictions
from fer_hf.runs.records import Evaluation

RESAMPLES = 5000
RULE = (
    "Labels are aligned by name. Images of emotions that a model does not know are left out; the probabilities of "
    "emotions that the data lack stay in the competition."
)


def transfer(
    evaluation: Evaluation, predictions: Predictions, left_out: Mapping[str, int], own: tuple[str, Evaluation] | None
) -> Transfer:
    """What an evaluation on other data says beside its figures.

    Args:
        evaluation: on the other data.
        predictions: its predictions file.
        left_out: images of emotions that the model does not know, by emotion.
        own: the evaluation on the run's own test set, with its key; None where there is none.

    Returns:
        The record, with gaps where `own` is given.
    """
    present = [name for name, score in evaluation.per_class.items() if score.support]
    ids = np.array([predictions.label_names.index(name) for name in present])
    among_shared = ids[predictions.logits[:, ids].argmax(axis=1)]
    result = Transfer(
        own=own[0] if own else None,
        left_out={name: count for name, count in left_out.items() if count},
        absent=[name for name in evaluation.per_class if name not in present],
        answered_absent=int((~np.isin(predictions.predicted, ids)).sum()),
        accuracy_of_shared=float((among_shared == predictions.labels).mean()) if len(ids) > 1 else None,
    )
    return _with_gaps(result, own[1], evaluation) if own else result


def _with_gaps(result: Transfer, own: Evaluation, other: Evaluation) -> Transfer:
    """The record with the gaps of accuracy and recall between two evaluations, whose images have nothing in common.

    The images of each are resampled on their own; to draw images is to draw the cells of the confusion matrix.
    """
    names, rng = list(own.per_class), np.random.default_rng(0)
    counts = [_confusion(evaluation, names) for evaluation in (own, other)]
    draws = [rng.multinomial(c.sum(), c.ravel() / c.sum(), RESAMPLES).reshape(-1, *c.shape) for c in counts]
    shared = [place for place in range(len(names)) if all(matrix[place].any() for matrix in counts)]

    def gap(figure: Callable[[Array], Array]) -> Estimate:
        here, there = (figure(matrix) for matrix in counts)
        differences = figure(draws[0]) - figure(draws[1])
        return Estimate(float(here - there), *interval(differences[np.isfinite(differences)]))

    def recall_of(classes: list[int]) -> Callable[[Array], Array]:
        return lambda matrices: recalls(matrices)[..., classes].mean(axis=-1)

    return replace(
        result,
        gap=gap(METRICS["accuracy"]),
        balanced_gap=gap(recall_of(shared)) if shared else None,
        recall_gap={names[place]: gap(recall_of([place])) for place in shared},
    )


def recalls(confusion: Array) -> Array:
    """Recall of each class `(..., C)` of confusion matrices `(..., C, C)`; NaN for a class without images."""
    support = confusion.sum(axis=-1)
    hits = np.diagonal(confusion, axis1=-2, axis2=-1)
    return np.divide(hits, support, out=np.full(support.shape, np.nan), where=support > 0)


def _confusion(evaluation: Evaluation, names: list[str]) -> Array:
    """The confusion matrix `(C, C)` with the classes in the order of `names`."""
    order = [list(evaluation.per_class).index(name) for name in names]
    return np.asarray(evaluation.confusion_matrix)[np.ix_(order, order)]

"""An ensemble: the mean of the probabilities of several models on the same images, beside its best member."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from fer_hf.errors import UserError
from fer_hf.evaluation.significance import contrast, interval, mcnemar, p_value, resampled
from fer_hf.metrics import Array
from fer_hf.runs.analyses import Estimate
from fer_hf.runs.predictions import Predictions


@dataclass(frozen=True)
class AgainstBest:
    """How an ensemble differs from its best member, whose place is `best`; see `runs.analyses.Ensemble`."""

    best: int
    difference: Estimate
    p: float
    mcnemar_p: float


def aligned(members: Mapping[str, Predictions]) -> tuple[Array, Array]:
    """The probabilities of S models on the same N images, images by id and classes by name, as the first has them.

    Args:
        members: predictions files by the name of the model, for messages.

    Returns:
        True class ids `(N,)`, and probabilities `(S, N, C)`.

    Raises:
        UserError: classes, images or labels differ; says of which models and where.
    """
    (first_name, first), *_ = members.items()
    names, place = list(first.label_names), {name: row for row, name in enumerate(first.ids)}
    if len(place) < len(first.ids):
        raise UserError(f"{first_name} has several images of one id, so they cannot be matched with those of others.")
    probabilities = []
    for name, member in members.items():
        differ = {
            "classes": set(member.label_names) ^ set(names),
            "images": set(member.ids) ^ place.keys(),
        }
        for what, values in differ.items():
            if values or len(member.ids) != len(first.ids):
                shown = ", ".join(sorted(values)[:3]) or "their number"
                raise UserError(
                    f"{name} and {first_name} differ in the {what} ({shown}): the members of an ensemble answer for "
                    "the same images with the same classes. Give --data, or leave one out."
                )
        rows, columns = np.argsort([place[image] for image in member.ids]), [member.label_names.index(n) for n in names]
        labels = np.argsort(columns)[member.labels[rows]]
        if (wrong := np.flatnonzero(labels != first.labels)).size:
            image = first.ids[wrong[0]]
            raise UserError(
                f"{name} and {first_name} have different labels for {len(wrong):,} images, such as {image}."
            )
        probabilities.append(member.probabilities[rows][:, columns])
    return first.labels, np.stack(probabilities)


def mean_logits(probabilities: Array) -> Array:
    """Logits `(N, C)` whose softmax is the mean of the members' probabilities `(S, N, C)`.

    Example:
        >>> logits = mean_logits(np.array([[[0.75, 0.25]], [[0.25, 0.75]]]))
        >>> (np.exp(logits) / np.exp(logits).sum()).tolist()
        [[0.5, 0.5]]
    """
    return np.log(np.maximum(probabilities.mean(axis=0), np.finfo(np.float32).tiny))


def against_best(references: Array, members: Array, ensemble: Array) -> AgainstBest:
    """Whether an ensemble is more accurate than the best of its members.

    The member is chosen on the same images, which favours it: the test is, if anything, too hard on the ensemble.

    Args:
        references: true class ids `(N,)`.
        members: predicted ones of S models, `(S, N)`.
        ensemble: of the ensemble `(N,)`.
    """
    right: Sequence[float] = (members == references).mean(axis=1).tolist()
    best = int(np.argmax(right))
    scores, draws = resampled(references, np.stack([ensemble, members[best]]), "accuracy")
    differences = contrast([(scores[:1], draws[:, :1]), (scores[1:], draws[:, 1:])], [1, -1])
    difference = Estimate(float(scores[0] - scores[1]), *interval(differences))
    exact = mcnemar(ensemble == references, members[best] == references)
    return AgainstBest(best, difference, p_value(differences), exact)

"""What the figures of a run suggest to do next: sentences, each with the section of the page that shows its figures."""

from collections.abc import Iterator

from fer_hf.metrics import class_balance
from fer_hf.report.blocks import Sentence
from fer_hf.report.facts import WEAK, changes, evaluations, overfits_since
from fer_hf.report.markdown import percent
from fer_hf.runs.records import Data, Evaluation, Metrics, Training

FEW = 100
"""Images of a class, below which its figures are uncertain."""


def recommendations(metrics: Metrics, evaluation: Evaluation, key: str) -> list[Sentence]:
    """What to try, as far as the figures of one evaluation, and of the analyses of it, say.

    Args:
        metrics: of the run.
        evaluation: the one that the page is about.
        key: its key in `metrics.evaluations`.

    Returns:
        Sentences, with the id of the section that holds the figures of each.
    """
    return [
        *_weak_classes(evaluation, metrics.data or Data(), metrics.recipe),
        *(_training(metrics.training, metrics.recipe) if metrics.training else ()),
        *_confidence(metrics, evaluation),
        *_trust(metrics, evaluation, key),
        *_exports(metrics),
    ]


def _weak_classes(evaluation: Evaluation, data: Data, recipe: object) -> Iterator[Sentence]:
    scores = {label: score for label, score in evaluation.per_class.items() if score.support}
    weak = [label for label, score in scores.items() if score.f1 < WEAK]
    train = data.splits.get("train")
    counts = dict(train.per_class) if train else {}
    rare = set(class_balance(counts).under) if any(counts.values()) else set()
    loss = (recipe.get("loss") if isinstance(recipe, dict) else None) or {}
    weights = loss.get("class_weights", "none") != "none"
    for label in weak:
        if label in rare:
            remedy = "More images of it" if weights else "More images of it, or loss.class_weights=balanced,"
            yield Sentence(
                f"“{label}” is weak (F1 {percent(scores[label].f1)}) and rare in training ({counts[label]:,} of "
                f"{sum(counts.values()):,} images). {remedy} may help.",
                "classes",
            )
    common = [label for label in weak if counts and label not in rare]
    if common:
        listed = ", ".join(f"“{label}” (F1 {percent(scores[label].f1)})" for label in common)
        one = len(common) == 1
        yield Sentence(
            f"{listed} {'is' if one else 'are'} weak though not rare in training: look at {'its' if one else 'their'} "
            "confusions, and at likely wrong labels (fer-hf data label-errors RUN).",
            "confusions",
        )
    if few := [f"{label} ({score.support})" for label, score in scores.items() if score.support < FEW]:
        yield Sentence(f"Measure {', '.join(few)} on more images before its figures are relied on.", "classes")


def _training(training: Training, recipe: object) -> Iterator[Sentence]:
    history = [epoch for epoch in training.history if epoch.validation_loss is not None]
    if since := overfits_since(training):
        augment = (recipe.get("augment") if isinstance(recipe, dict) else None) or {}
        remedy = "stronger augmentation" if augment.get("enabled") else "augmentation (augment.enabled=true)"
        yield Sentence(
            f"The model over-fits after epoch {since:g}: try {remedy}, or stop earlier "
            "(train.early_stopping_patience).",
            "learning",
        )
    elif len(history) > 2 and min(history, key=lambda epoch: epoch.validation_loss or 0.0) is history[-1]:
        yield Sentence(
            f"Validation loss still fell at the last epoch ({history[-2].validation_loss:.3f} to "
            f"{history[-1].validation_loss:.3f}): more epochs may help.",
            "learning",
        )


def _confidence(metrics: Metrics, evaluation: Evaluation) -> Iterator[Sentence]:
    error = evaluation.expected_calibration_error
    for calibration in metrics.calibration.values():
        before, after = calibration.methods.get("none"), calibration.methods.get("temperature")
        if before and after and not calibration.folded:
            gain = before.expected_calibration_error - after.expected_calibration_error
            if gain > 0.005:
                yield Sentence(
                    f"Temperature {calibration.temperature:.2f} lowers the calibration error from "
                    f"{percent(before.expected_calibration_error)} to {percent(after.expected_calibration_error)}: "
                    "fold it into the model (fer-hf calibrate RUN --fold).",
                    "calibration",
                )
    if error >= 0.05 and not metrics.calibration:
        yield Sentence(
            f"Probabilities are off by {percent(error)} on average: fer-hf calibrate RUN fits them on validation.",
            "calibration",
        )


def _trust(metrics: Metrics, evaluation: Evaluation, key: str) -> Iterator[Sentence]:
    if (copies := evaluation.without_copies) and copies.difference.low > 0:
        yield Sentence(
            f"Quote the accuracy without copies ({percent(copies.accuracy.value)}) beside the official one: it is "
            f"{100 * copies.difference.value:.1f} points lower.",
            "copies",
        )
    for slices in metrics.slices.values():
        if slices.evaluation == key and slices.gap and slices.p is not None and slices.p < 0.05:
            yield Sentence(
                f"Accuracy differs between groups of {' and '.join(slices.attributes)} by "
                f"{100 * slices.gap.value:.1f} points, more than chance would explain: do not rely on the overall "
                f"figure for {', '.join(slices.worst)}.",
                "slices",
            )
    for robustness in metrics.robustness.values():
        if robustness.evaluation == key and robustness.corruptions:
            worst = min(robustness.corruptions, key=lambda corruption: corruption.accuracy)
            loss = 100 * (robustness.clean.accuracy - worst.accuracy)
            if loss >= 5:
                name = worst.name.replace("_", " ").capitalize()
                yield Sentence(
                    f"{name} at strength {worst.strength} costs {loss:.1f} points: if such images are expected, train "
                    "with them.",
                    "robustness",
                )


def _exports(metrics: Metrics) -> Iterator[Sentence]:
    for _, after, points in changes(evaluations(metrics)):
        if after.format == "int8" and points <= -1:
            yield Sentence(
                f"INT8 loses {-points:.1f} points on {after.dataset} {after.split}: try another export.calibration, or "
                "more calibration images.",
                "exports",
            )

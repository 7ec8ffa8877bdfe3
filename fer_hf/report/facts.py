"""What the card says in words: rankings and sentences drawn from the figures of metrics.json, and from nothing else."""

from collections.abc import Iterator, Sequence
from itertools import accumulate

from fer_hf.errors import UserError
from fer_hf.metrics import Confusion, class_balance, largest_confusions
from fer_hf.report.markdown import Markdown, code, percent
from fer_hf.runs.records import PLAIN, Data, Evaluation, Metrics, Model, Stage, Training

FORMATS = {"pytorch": "PyTorch", "onnx": "ONNX float32", "int8": "ONNX INT8"}
SPLITS = ("test", "validation")
STRONG, WEAK = 0.85, 0.60
"""F1 above and below which a class is called strong and weak."""
FLAT = 1.01
"""Times the lowest validation loss, below which a later one is called as low."""


def evaluations(metrics: Metrics) -> list[Evaluation]:
    """All evaluations in the card's order: test, validation, others; the run's own data first; PyTorch, ONNX, INT8.

    One with test-time augmentation follows the plain one.
    """

    def place(name: str, order: Sequence[str]) -> int:
        return order.index(name) if name in order else len(order)

    def order(e: Evaluation) -> tuple[int, bool, int, bool, str]:
        return place(e.split, SPLITS), not metrics.owns(e), place(e.format, [*FORMATS]), e.tta != PLAIN, e.tta

    return sorted(metrics.evaluations.values(), key=order)


def headline(ordered: Sequence[Evaluation]) -> Evaluation:
    """The evaluation the card opens with, the first plain one. Raises `UserError` when there is none."""
    for evaluation in ordered:
        if evaluation.plain:
            return evaluation
    raise UserError(
        "metrics.json holds no evaluation of the PyTorch model, so there is nothing to report. "
        "Evaluate it first: fer-hf evaluate RUN --data fer2013:PATH --split test"
    )


def labels_of(evaluation: Evaluation, metrics: Metrics) -> list[str]:
    """The classes in the order of the confusion matrix: the model's, or fewer when the dataset has fewer."""
    names = set(metrics.label_names) == set(evaluation.per_class)
    return list(metrics.label_names if names else evaluation.per_class)


def changes(ordered: Sequence[Evaluation]) -> list[tuple[Evaluation, Evaluation, float]]:
    """PyTorch's evaluation, that of an exported file on the same images, and by how many points accuracy changes."""
    exported = [e for e in ordered if e.tta == PLAIN and e.format in FORMATS and not e.plain]
    result = []
    for e in exported:
        if base := next((one for one in ordered if one.plain and _same_images(one, e)), None):
            result.append((base, e, round(100 * (e.accuracy - base.accuracy), 3) + 0.0))  # + 0.0: never "-0.0"
    return result


def change(points: float) -> str:
    """A change of accuracy in words; one that would be rounded to nothing is no longer called a change."""
    if not points:
        return "leaves accuracy as it is"
    return f"changes accuracy by {f'{points:+.1f}' if abs(points) >= 0.05 else 'less than 0.1'} points"


def _same_images(one: Evaluation, other: Evaluation) -> bool:
    """Whether two evaluations are on the same images, as far as older files tell."""
    contents = {one.content, other.content} - {None}
    same = (one.dataset, one.split, one.images) == (other.dataset, other.split, other.images)
    return same and len(contents) < 2


def confusions(evaluation: Evaluation, labels: Sequence[str], most: int = 5) -> list[Confusion]:
    """The largest confusions, see `metrics.largest_confusions`; `labels` are in the order of the confusion matrix."""
    return largest_confusions(evaluation.confusion_matrix, labels, most)


def findings(evaluation: Evaluation) -> tuple[list[str], list[str]]:
    """Strengths and limits that the figures of one evaluation show, in sentences."""
    facts = [_commonest_class(evaluation), *_classes(evaluation), *_images(evaluation), _calibration(evaluation)]
    return [sentence for good, sentence in facts if good], [sentence for good, sentence in facts if not good]


def _commonest_class(evaluation: Evaluation) -> tuple[bool, str]:
    """Whether the model surely beats the answer that needs none, and a sentence on it."""
    supports = {label: score.support for label, score in evaluation.per_class.items()}
    most = max(supports.values())
    first, *others = (label for label, support in supports.items() if support == most)
    base = most / evaluation.images
    gain = round(100 * (evaluation.accuracy - base), 1)
    distance = f"{abs(gain):.1f} points {'above' if gain > 0 else 'below'}" if gain else "about"
    low, high = evaluation.accuracy_ci or (evaluation.accuracy, evaluation.accuracy)
    unsure = ", a difference that chance could explain" if gain and low <= base <= high else ""
    return gain > 0 and not unsure, (
        f"Accuracy is {distance} that of always answering “{first}”, "
        f"{'one of the commonest classes' if others else 'the commonest class'} ({percent(base)}){unsure}."
    )


def _classes(evaluation: Evaluation) -> Iterator[tuple[bool, str]]:
    """What is good (True) and bad about the classes that have images."""
    scores = {label: score for label, score in evaluation.per_class.items() if score.support}
    ranked = sorted(scores, key=lambda label: scores[label].f1)
    described = {
        label: f"F1 {percent(s.f1)}, precision {percent(s.precision)}, recall {percent(s.recall)}."
        for label, s in scores.items()
    }
    best, worst = ranked[-1], ranked[0]
    if scores[best].f1 >= WEAK:
        yield True, f"“{best}” is recognised best: {described[best]}"
    else:
        yield False, f"No class is recognised well, “{best}” best: {described[best]}"
    if len(ranked) > 1 and scores[worst].f1 > STRONG:
        yield True, f"All classes are recognised well, “{worst}” worst: {described[worst]}"
    elif worst != best:
        yield False, f"“{worst}” is recognised worst: {described[worst]}"
    top_2 = evaluation.top_2_accuracy
    if len(evaluation.per_class) > 2 and not WEAK <= top_2 < STRONG:
        yield top_2 >= STRONG, f"For {percent(top_2)} of the images the true class is one of the two most probable."
    if missed := [label for label, score in scores.items() if score.recall < 0.5]:
        yield False, f"Fewer than half of the faces are found in: {', '.join(missed)}."
    gap = 100 * (evaluation.accuracy - evaluation.balanced_accuracy)
    if gap >= 1:
        yield False, f"Balanced accuracy is {gap:.1f} points below accuracy: rare classes do worse than frequent ones."


def _images(evaluation: Evaluation) -> Iterator[tuple[bool, str]]:
    """Classes of which too few images were evaluated to say much."""
    supports = {label: score.support for label, score in evaluation.per_class.items()}
    if few := [f"{label} ({support})" for label, support in supports.items() if 0 < support < 100]:
        yield False, f"Few images, so uncertain figures: {', '.join(few)}."
    if absent := [label for label, support in supports.items() if not support]:
        yield False, f"No images, so nothing is known of how well these are recognised: {', '.join(absent)}."


def _calibration(evaluation: Evaluation) -> tuple[bool, str]:
    """Whether confidence is close to accuracy, and a sentence on it."""
    error, bins = evaluation.expected_calibration_error, evaluation.reliability
    confidence = sum(b.confidence * b.count for b in bins if b.count) / max(sum(b.count for b in bins), 1)
    bias = confidence - evaluation.accuracy
    tendency = "over-confident" if bias > 0.01 else "under-confident" if bias < -0.01 else "off in both directions"
    return error < 0.05, (
        f"Probabilities are {'close to what they claim' if error < 0.05 else tendency}: mean confidence is "
        f"{percent(confidence)} at an accuracy of {percent(evaluation.accuracy)} "
        f"(expected calibration error {percent(error)})."
    )


def origin(model: Model) -> Markdown:
    """Where the weights come from, back to the first that are known."""
    first = "random weights" if not model.pretrained else ""
    if model.base_model:
        first = code(model.base_model)
    elif model.weights:
        first = f"{code(model.weights)}, a file of weights"
    name = model.parent or (None if first else model.name)
    if not name:
        return Markdown(first or "pretrained weights")
    return Markdown(f"{code(name)}, {f'which goes back to {first}' if first else 'whose own origin is not recorded'}")


def stage_name(stage: Stage) -> str:
    """What learns in a stage: `all`, `head`, `head + 2 layers`, `head + blocks.6`."""
    what = stage.trainable
    if isinstance(what, int):
        return f"head + {what} layer{'s' * (what > 1)}"
    return what if isinstance(what, str) else " + ".join(["head", *what])


def stage_of(training: Training, epoch: float) -> int:
    """The place in `training.stages` of the stage that an epoch, counted over all stages, belongs to."""
    ends = list(accumulate(stage.epochs for stage in training.stages))
    return next(number for number, end in enumerate(ends) if epoch <= end + 1e-3 or end == ends[-1])


def known_people(evaluation: Evaluation) -> str:
    """What is known of the people in the images, by which accuracy could be measured."""
    if not evaluation.attributes:
        recorded = evaluation.attributes is not None
        return (
            "No such attributes are known of these images."
            if recorded
            else ("Whether such attributes are known of these images is not recorded.")
        )
    known = ", ".join(
        f"{name} (of {count:,} of the {evaluation.images:,} images)" for name, count in evaluation.attributes.items()
    )
    return Markdown(f"Known are {known}: {code(evaluation.predictions)} of the run holds them beside the predictions.")


def groups(evaluation: Evaluation, labels: Sequence[str]) -> dict[str, list[str]]:
    """The classes with images, by F1: `strong` (above 85 %), `moderate` (60 to 85 %), `weak` (below), best first."""
    scores = {label: evaluation.per_class[label].f1 for label in labels if evaluation.per_class[label].support}
    result: dict[str, list[str]] = {"strong": [], "moderate": [], "weak": []}
    for label, f1 in sorted(scores.items(), key=lambda item: -item[1]):
        result["strong" if f1 > STRONG else "weak" if f1 < WEAK else "moderate"].append(f"{label} ({percent(f1)})")
    return result


def balance(data: Data) -> str | None:
    """How uneven the training classes are, in sentences; None when fewer than two have images."""
    train = data.splits.get("train")
    counts = {label: count for label, count in train.per_class.items() if count} if train else {}
    if len(counts) < 2:
        return None
    classes = class_balance(counts)
    if round(classes.ratio, 1) == 1:
        return "The training classes have about equally many images."
    text = f"The commonest training class ({classes.commonest}) has {classes.ratio:.1f} times the images of the "
    text += f"rarest ({classes.rarest})."
    for kind, names, share in (
        ("Over", classes.over, "more than 1.5 times an even share"),
        ("Under", classes.under, "less than half of an even share"),
    ):
        text += f" {kind}-represented, with {share}: {', '.join(names)}." if names else ""
    return text


def _losses(training: Training) -> list[tuple[float, float, float]]:
    """Validation loss, training loss and epoch, of the epochs that have both losses."""
    return [
        (epoch.validation_loss, epoch.train_loss, epoch.epoch)
        for epoch in training.history
        if epoch.validation_loss is not None and epoch.train_loss is not None
    ]


def fitting(training: Training) -> str | None:
    """What the two losses say about over-fitting, in a sentence; None when fewer than two epochs have both."""
    points = _losses(training)
    if len(points) < 2:
        return None
    low, last = min(points, key=lambda point: point[0]), points[-1]
    losses = f"validation {low[0]:.3f} to {last[0]:.3f}, training {low[1]:.3f} to {last[1]:.3f}"
    if low is last:
        return f"Validation loss was lowest at the last epoch ({last[0]:.3f}): no sign of over-fitting."
    if last[1] >= low[1]:
        return f"Neither loss has improved since epoch {low[2]:g} ({losses})."
    if last[0] < FLAT * low[0]:
        return f"Validation loss has been flat since epoch {low[2]:g} while training loss fell on ({losses})."
    return (
        f"Validation loss has risen since epoch {low[2]:g} while training loss kept falling ({losses}): "
        "the model over-fits from there on."
    )


def overfits_since(training: Training) -> float | None:
    """The epoch after which validation loss rose while training loss fell on; None where they did not."""
    points = _losses(training)
    if len(points) < 2:
        return None
    low, last = min(points, key=lambda point: point[0]), points[-1]
    return low[2] if last[1] < low[1] and last[0] >= FLAT * low[0] else None

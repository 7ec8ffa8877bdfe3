"""What the card says of the analyses of a run, in a sentence or two each; the page has the rest."""

from collections.abc import Iterator

from fer_hf.report.markdown import percent
from fer_hf.report.slices import gap_sentences
from fer_hf.runs.analyses import Estimate
from fer_hf.runs.records import Evaluation, Metrics


def _points(estimate: Estimate) -> str:
    return f"{100 * estimate.value:.1f} points [{100 * estimate.low:.1f}, {100 * estimate.high:.1f}]"


def calibration_sentences(metrics: Metrics, key: str) -> list[str]:
    """What scaling does to the probabilities, when to abstain, and how sets of labels do.

    Args:
        metrics: of the run.
        key: of the evaluation that the card is about.
    """
    sentences = []
    for record in metrics.calibration.values():
        if record.measured_on != key:
            continue
        before, after = record.methods.get("none"), record.methods.get("temperature")
        if before and after:
            done = "is folded into the weights" if record.folded else "is not in the weights"
            sentences.append(
                f"Temperature scaling, fitted on validation, changes that error from "
                f"{percent(before.expected_calibration_error)} to {percent(after.expected_calibration_error)}; its "
                f"temperature of {record.temperature:.2f} {done}."
            )
        sentences += [
            f"Answering only from a probability of {each.threshold:.2f} on, it answers {percent(each.coverage)} of the "
            f"images and errs in {percent(each.error)} of them ({percent(each.target_error)} were wanted)."
            for each in record.abstention
            if each.threshold is not None
        ]
        if sets := record.conformal:
            coverage = percent(sets.coverage.value, (sets.coverage.low, sets.coverage.high))
            sentences.append(
                f"Sets of {sets.mean_size:.1f} labels on average hold the right one for {coverage} of the images "
                f"({percent(sets.level)} were promised)."
            )
    return sentences


def beyond(metrics: Metrics, main: Evaluation, key: str) -> list[str]:
    """Figures without leaked copies, on other data, under corruption, and what maps of attention are worth.

    Args:
        metrics: of the run.
        main: the evaluation that the card is about.
        key: its key in `metrics.evaluations`.
    """
    return [*_copies(main), *_transfers(metrics), *_robustness(metrics, key), *_explanations(metrics, key)]


def _copies(main: Evaluation) -> Iterator[str]:
    if without := main.without_copies:
        accuracy = percent(without.accuracy.value, (without.accuracy.low, without.accuracy.high))
        yield (
            f"Without the {without.copies:,} images that have a copy, exact or near, among the training images, "
            f"accuracy is {accuracy}; the official figure less this one is {_points(without.difference)}."
        )


def _transfers(metrics: Metrics) -> Iterator[str]:
    for key, record in metrics.transfers.items():
        other = metrics.evaluations.get(key)
        if other and record.gap:
            yield (
                f"On {other.dataset} {other.split}, accuracy is {percent(other.accuracy, other.accuracy_ci)}: "
                f"that on its own test set less this one is {_points(record.gap)}."
            )


def _robustness(metrics: Metrics, key: str) -> Iterator[str]:
    for record in metrics.robustness.values():
        if record.evaluation == key and record.corruptions:
            worst = min(record.corruptions, key=lambda corruption: corruption.accuracy)
            against = f", relative to {record.baseline}" if record.baseline else ""
            there, clean = percent(worst.accuracy), percent(record.clean.accuracy)
            yield (
                f"Under corruption, the mean error is {percent(record.mean_corruption_error)}{against}. The worst is "
                f"{worst.name.replace('_', ' ')} at strength {worst.strength} of 5: accuracy is {there} there, and "
                f"{clean} on the same {record.images:,} images as they are."
            )


def _explanations(metrics: Metrics, key: str) -> Iterator[str]:
    for record in metrics.explanations.values():
        if record.evaluation == key:
            verdict = "better" if record.better_than_random else "no better"
            yield f"Maps of what it looks at ({record.method}) are {verdict} than random ones by their ROAD score."


def group_sentences(metrics: Metrics, key: str) -> list[str]:
    """The gap between groups, for each attribute, or pair of attributes, that was measured.

    Args:
        metrics: of the run.
        key: of the evaluation that the card is about.
    """
    records = [record for record in metrics.slices.values() if record.evaluation == key]
    first = [gap_sentences(record)[0] for record in records]
    named = [" and ".join(record.attributes) for record in records]
    return [f"By {name}: {text[0].lower()}{text[1:]}" for name, text in zip(named, first, strict=True)]

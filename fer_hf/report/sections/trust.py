"""How far the probabilities and the headline can be believed: calibration, abstention, risk-coverage, leaked copies."""

from collections.abc import Iterator, Sequence

import numpy as np

from fer_hf.console import counted
from fer_hf.metrics import aurc, risk_coverage
from fer_hf.report.blocks import Block, Heading, Missing, Table, Text, picture
from fer_hf.report.figures.calibration import calibration_figure, class_calibration_figure
from fer_hf.report.figures.calibration import risk_coverage_figure as coverage_figure
from fer_hf.report.figures.classification import ALT, reliability_figure
from fer_hf.report.figures.curves import risk_coverage_figure
from fer_hf.report.markdown import number, percent
from fer_hf.report.material import Material
from fer_hf.runs.analyses import Calibration, Conformal, Estimate

SCALINGS = {"none": "as trained", "temperature": "temperature", "vector": "vector", "isotonic": "isotonic"}


def shown(estimate: Estimate) -> str:
    """A share with its interval: `64.1% [62.5, 65.7]`."""
    return percent(estimate.value, (estimate.low, estimate.high))


def points(estimate: Estimate) -> str:
    """A difference of shares in points, with its interval: `+1.2 [0.3, 2.1]`."""
    return f"{100 * estimate.value:+.1f} [{100 * estimate.low:.1f}, {100 * estimate.high:.1f}]"


def calibration(material: Material) -> Iterator[Block]:
    """Whether confidence is what it claims to be, before and after the scalings that were fitted."""
    main = material.main
    if any(each.count for each in main.reliability):
        yield Text(
            f"The expected calibration error is {percent(main.expected_calibration_error)}. Points below the diagonal "
            "mean more confidence than accuracy."
        )
        yield picture(reliability_figure(main), ALT["reliability"])
    else:
        yield Missing("The run has no reliability diagram.", material.again)
    records = _calibrations(material)
    if not records:
        yield Missing(
            "Calibration before and after scaling was not measured. This measures it:", "fer-hf calibrate RUN"
        )
    for record in records:
        yield from _scalings(record, material)


def _calibrations(material: Material) -> list[Calibration]:
    return [record for record in material.metrics.calibration.values() if record.measured_on == material.key]


def _scalings(record: Calibration, material: Material) -> Iterator[Block]:
    yield Heading("Before and after scaling")
    folded = (
        "It is folded into the last layer of the model, so every file of it gives calibrated probabilities."
        if record.folded
        else "It is not folded into the model: its probabilities are those “as trained”."
    )
    yield Text(
        f"Fitted on {record.fitted_on} alone, measured on {record.measured_on}. The temperature is "
        f"{record.temperature:.3f}. {folded}"
    )
    rows = [
        [
            SCALINGS.get(name, name),
            *(percent(scores.accuracy), number(scores.log_loss), number(scores.brier_score)),
            *(percent(scores.expected_calibration_error), percent(scores.classwise_calibration_error)),
            percent(scores.adaptive_calibration_error),
        ]
        for name, scores in record.methods.items()
    ]
    header = ["Scaling", "Accuracy", "Log loss", "Brier", "ECE", "Class-wise ECE", "Adaptive ECE"]
    yield Table(header, rows, "ECE: expected calibration error; all but accuracy: lower is better")
    if len(record.methods) < 4:
        yield Text("Vector and isotonic scaling take more validation images of every class than there were.", "quiet")
    found = material.predictions
    yield picture(
        calibration_figure(record, found, material.main),
        "Accuracy against confidence before and after temperature scaling, and how many images have which confidence",
    )
    yield picture(
        class_calibration_figure(record, found, material.main),
        "For each class, how often it is the true one against the probability given to it, before and after scaling",
    )


def abstention(material: Material) -> Iterator[Block]:
    """When not to answer, and sets of labels that hold the right one as often as is promised."""
    records = _calibrations(material)
    if not any(record.abstention or record.conformal for record in records):
        yield Missing("Abstention and conformal sets were not measured. This measures them:", "fer-hf calibrate RUN")
    for record in records:
        if record.abstention:
            rows = [
                [
                    percent(a.target_error),
                    "none would do" if a.threshold is None else f"{a.threshold:.3f}",
                    *(percent(a.coverage), percent(a.error, a.error_ci)),
                ]
                for a in record.abstention
            ]
            yield Table(
                ["Errors wanted at most", "Answer from a probability of", "Answered", "Of these wrong"],
                rows,
                f"Thresholds chosen on {record.fitted_on}, measured on {record.measured_on}, after temperature scaling",
            )
            yield Text("The last column may exceed the first: the threshold was chosen on other images.", "quiet")
            figure = coverage_figure(record, material.predictions, material.main)
            yield picture(figure, "Share of wrong answers by the share of images answered, with the chosen thresholds")
        if record.conformal:
            yield from _conformal(record.conformal)


def _conformal(record: Conformal) -> Iterator[Block]:
    yield Heading("Conformal sets")
    low, high = record.coverage.low, record.coverage.high
    kept = "holds" if low <= record.level <= high else "was exceeded" if low > record.level else "was missed"
    yield Text(
        f"A set of {record.mean_size:.2f} labels on average holds the right one for {shown(record.coverage)} of the "
        f"images; {percent(record.level)} were promised, and that {kept}."
    )
    if record.sizes:
        total = max(sum(record.sizes), 1)
        rows = [[str(size), f"{count:,}", percent(count / total)] for size, count in enumerate(record.sizes) if count]
        yield Table(["Labels in a set", "Images", "Share"], rows)
    if record.coverage_per_class:
        rows = [[label, percent(share)] for label, share in record.coverage_per_class.items()]
        yield Table(
            ["Class", "Sets that hold it"], rows, "The promise is about all images; a class may fall short of it"
        )


def selective(material: Material) -> Iterator[Block]:
    """How the share of wrong answers falls when only the most confident ones are given."""
    found, probabilities = material.predictions, material.predictions.probabilities
    area = aurc(probabilities, found.labels)
    curve = risk_coverage(probabilities, found.labels)
    alt = "Curve: share of wrong answers by the share of images that are answered, the most confident first"
    yield picture(risk_coverage_figure(material.main, curve, area), alt)
    wrong = (found.predicted != found.labels)[np.argsort(-probabilities.max(axis=1), kind="stable")]
    rows = []
    for share in (0.5, 0.7, 0.8, 0.9, 0.95, 1.0):
        images = max(1, round(share * len(wrong)))
        rows.append([f"{share:.0%}", f"{images:,}", percent(float(wrong[:images].mean()))])
    yield Table(["Answered, the most confident first", "Images", "Of these wrong"], rows)
    yield Text(f"The area under the curve (AURC) is {number(area)}; lower is better.")


def copies(material: Material) -> Iterator[Block]:
    """The official figures beside those without the test images that have a copy in training."""
    measured = [(e, e.without_copies) for e in material.evaluations if e.without_copies]
    if not measured:
        yield Missing(
            "Accuracy without the test images that have a copy among those of training was not measured. This does it:",
            "fer-hf evaluate RUN --copies find",
        )
        return
    rows: list[Sequence[str]] = []
    for e, without in measured:
        name = f"{e.dataset} {e.split}" + (f" {e.files}" if e.files else "")
        accuracy, f1 = percent(e.accuracy, e.accuracy_ci), percent(e.macro_f1, e.macro_f1_ci)
        rows.append([name, "official", f"{e.images:,}", accuracy, f1, ""])
        figures = (shown(without.accuracy), shown(without.macro_f1), points(without.difference))
        rows.append([name, "without copies", f"{without.images:,}", *figures])
    header = ["Data", "Images taken", "Images", "Accuracy", "Macro F1", "Official less this, points"]
    yield Table(header, rows)
    for e, without in measured:
        text = f"{counted(without.copies, 'image')} of {e.dataset} {e.split} "
        text += f"{'has' if without.copies == 1 else 'have'} a copy, exact or near, among the training images"
        if without.accuracy_of_copies is not None:
            text += f"; accuracy on these is {percent(without.accuracy_of_copies)}"
        sure = without.difference.low > 0 or without.difference.high < 0
        text += ". The difference is more than chance." if sure else ". Chance could explain the difference."
        yield Text(f"{text} Audit: {without.audit}.")

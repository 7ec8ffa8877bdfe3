"""What the model gets right and wrong: all evaluations, classes, confusions, curves, and confidence."""

from collections.abc import Iterator

import numpy as np

from fer_hf.metrics import average_precision, precision_recall_curve, roc_auc, roc_curve
from fer_hf.report import facts, tables
from fer_hf.report.blocks import Block, Bullets, Heading, Missing, Table, Text, picture
from fer_hf.report.facts import FORMATS
from fer_hf.report.figures.classification import ALT, confusion_matrix_figure, per_class_figure
from fer_hf.report.figures.confidence import confidence_figure
from fer_hf.report.figures.curves import roc_and_precision_figure
from fer_hf.report.markdown import number, percent
from fer_hf.report.material import Material
from fer_hf.runs.analyses import Ensemble

MEASURES = {
    "accuracy": ("accuracy", percent),
    "balanced_accuracy": ("balanced accuracy", percent),
    "macro_precision": ("precision, mean of classes", percent),
    "macro_recall": ("recall, mean of classes", percent),
    "macro_f1": ("F1, mean of classes", percent),
    "weighted_f1": ("F1, mean of images", percent),
    "top_2_accuracy": ("top-2 accuracy", percent),
    "cohen_kappa": ("Cohen's kappa", number),
    "matthews_correlation": ("Matthews correlation", number),
    "macro_roc_auc": ("area under ROC, mean of classes", number),
    "macro_average_precision": ("average precision, mean of classes", number),
    "log_loss": ("log loss, nats (lower is better)", number),
    "brier_score": ("Brier score, 0 to 2 (lower is better)", number),
    "expected_calibration_error": ("expected calibration error", percent),
    "classwise_calibration_error": ("class-wise calibration error", percent),
    "adaptive_calibration_error": ("adaptive calibration error", percent),
    "aurc": ("area under risk-coverage (lower is better)", number),
    "valence_accuracy": ("right group: positive, negative, neutral, surprise", percent),
}
"""Single figures of an evaluation: what each is called, and how it is written."""


def results(material: Material) -> Iterator[Block]:
    """Every evaluation in the run, and the single figures of the main one."""
    yield tables.results_table(material.evaluations)
    yield Text(
        "Balanced: mean recall of the classes. Top-k: the true class is one of the k most probable. ECE: expected "
        "calibration error. “+ flip” and “+ ten crops” are means over changed copies of an image, at two or ten times "
        "the cost.",
        "quiet",
    )
    main, rows = material.main, list[list[str]]()
    intervals = {"accuracy": main.accuracy_ci, "macro_f1": main.macro_f1_ci, **(main.intervals or {})}
    for field, (name, written) in MEASURES.items():
        if (value := getattr(main, field)) is not None:
            ends = intervals.get(field)
            rows.append([name, written(value), f"{written(ends[0])} to {written(ends[1])}" if ends else "–"])
    yield Table(["Figure", "Value", "95 % interval"], rows, f"{main.dataset}, {main.split} split, {FORMATS['pytorch']}")
    if ensemble := material.metrics.ensembles.get(material.key):
        yield from _ensemble(ensemble)
    if main.cohen_kappa is None:
        yield Missing("This run is older than some of the figures. This computes all of them:", material.again)


def _ensemble(record: Ensemble) -> Iterator[Block]:
    """The members of an ensemble, and whether it is better than the best of them."""
    rows = [
        [
            *(member.name, percent(member.accuracy), percent(member.macro_f1)),
            *(f"{member.megabytes:.1f}", f"{member.latency_ms:.1f}"),
        ]
        for member in record.members
    ]
    total = ["all of them", "", "", f"{record.megabytes:.1f}", f"{record.latency_ms:.1f}"]
    header = ["Member", "Accuracy", "Macro F1", "MB", "Latency, ms"]
    yield Table(header, [*rows, total], "This is the mean of the probabilities of these models", footer=1)
    gain = record.difference
    chance = "more than chance would explain" if record.p < 0.05 else "which chance could explain"
    yield Text(
        f"Its accuracy is {100 * gain.value:+.1f} points [{100 * gain.low:.1f}, {100 * gain.high:.1f}] from that of "
        f"its best member, {record.best}: {chance}."
    )


def classes(material: Material) -> Iterator[Block]:
    """Scores of each class, and which are strong, moderate and weak."""
    main, labels = material.main, material.labels
    yield tables.class_table(main, labels)
    yield picture(per_class_figure(main, labels), ALT["per_class"])
    grouped = facts.groups(main, labels)
    yield Bullets(
        [
            f"Strong (F1 above 85 %): {', '.join(grouped['strong']) or 'none'}",
            f"Moderate (F1 60 to 85 %): {', '.join(grouped['moderate']) or 'none'}",
            f"Weak (F1 below 60 %): {', '.join(grouped['weak']) or 'none'}",
        ]
    )
    if main.valence:
        rows = [
            [name, ", ".join(of.labels), f"{of.images:,}", percent(of.accuracy), percent(of.recall)]
            for name, of in main.valence.items()
        ]
        yield Table(["Group", "Classes", "Images", "Right class", "Right group"], rows, "Groups of emotions")


def confusions(material: Material) -> Iterator[Block]:
    """The largest confusions in words; counts, and shares of the true and of the predicted class."""
    main, labels = material.main, material.labels
    largest = facts.confusions(main, labels, most=10)
    if largest:
        yield Bullets(
            [f"{true} → {said}: {count:,}, {percent(share)} of {true}" for true, said, count, share in largest]
        )
    else:
        yield Text("No pair of classes was confused three times or more.")
    alt = "Confusion matrix: share of the {} class, and number of images"
    yield picture(confusion_matrix_figure(main, labels), alt.format("true"), "Rows add up to 100 %: recall.")
    figure = confusion_matrix_figure(main, labels, "predicted")
    yield picture(figure, alt.format("predicted"), "Columns add up to 100 %: precision.")
    rows = [[label, *row] for label, row in zip(labels, main.confusion_matrix, strict=True)]
    yield Table(["True class", *labels], rows, "Images by true class (row) and predicted class (column)")


def curves(material: Material) -> Iterator[Block]:
    """ROC and precision-recall curves of each class that has images, and images of others."""
    found, probabilities = material.predictions, material.predictions.probabilities
    roc, recall, areas = {}, {}, {}
    for label in material.labels:
        place = found.label_names.index(label)
        score, own = probabilities[:, place], found.labels == place
        curves = roc_curve(score, own), precision_recall_curve(score, own)
        both = roc_auc(score, own), average_precision(score, own)
        if curves[0] and curves[1] and both[0] is not None and both[1] is not None:
            roc[label], recall[label], areas[label] = curves[0], curves[1], (both[0], both[1])
    if not roc:
        yield Missing("There are no curves: they take images of at least two classes.")
        return
    alt = "Two panels with a curve for each class: ROC, and precision against recall; the table has the areas"
    yield picture(roc_and_precision_figure(material.main, roc, recall, areas), alt)
    rows = [[label, *map(number, both)] for label, both in areas.items()]
    means = np.mean(list(areas.values()), axis=0).tolist()
    header = ["Class", "Area under ROC", "Average precision"]
    yield Table(header, [*rows, ["mean", *map(number, means)]], footer=1)


def confidence(material: Material) -> Iterator[Block]:
    """How sure the model is where it is right and where it is wrong."""
    found = material.predictions
    sure = found.probabilities.max(axis=1)
    right = found.predicted == found.labels
    yield picture(
        confidence_figure(material.main, sure, right),
        "Histograms of confidence, of right answers above and of wrong ones below",
    )
    rows = []
    for name, which in (("right", right), ("wrong", ~right)):
        if values := sure[which].tolist():
            low, middle, high = np.quantile(values, [0.25, 0.5, 0.75])
            mean = float(np.mean(values))
            rows.append([name, f"{len(values):,}", *map(percent, (mean, float(low), float(middle), float(high)))])
    yield Table(["Answers", "Images", "Mean confidence", "First quartile", "Median", "Third quartile"], rows)
    yield Heading("Wrong with confidence")
    levels = (0.5, 0.7, 0.9, 0.95)
    rows = [[f"{level:.0%}", f"{(sure >= level).sum():,}", _share(~right[sure >= level])] for level in levels]
    yield Table(["Confidence of at least", "Images", "Of these wrong"], rows)


def _share(of: np.ndarray) -> str:
    return percent(float(of.mean())) if len(of) else "–"

"""What the model gets right and wrong: all evaluations, classes, confusions, curves, and confidence."""

from collections.abc import Iterator

import numpy as np
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score, roc_curve

from fer_hf.report import facts, tables
from fer_hf.report.blocks import Block, Bullets, Heading, Missing, Table, Text, picture
from fer_hf.report.figures.classification import ALT, confusion_matrix_figure, per_class_figure
from fer_hf.report.figures.confidence import confidence_figure
from fer_hf.report.figures.curves import Curve, roc_and_precision_figure
from fer_hf.report.markdown import number, percent
from fer_hf.report.material import Material

MEASURES = {
    "cohen_kappa": "Cohen's kappa",
    "matthews_correlation": "Matthews correlation",
    "brier_score": "Brier score",
    "macro_roc_auc": "area under ROC, mean of classes",
    "macro_average_precision": "average precision, mean of classes",
    "classwise_calibration_error": "class-wise calibration error",
    "adaptive_calibration_error": "adaptive calibration error",
    "aurc": "area under risk-coverage",
}
"""Single figures that newer runs have beside those of the table of results."""


def results(material: Material) -> Iterator[Block]:
    """Every evaluation in the run, and the single figures of the main one."""
    yield tables.results_table(material.evaluations)
    yield Text(
        "Balanced: mean recall of the classes. Top-k: the true class is one of the k most probable. ECE: expected "
        "calibration error. “+ flip” and “+ ten crops” are means over changed copies of an image, at two or ten times "
        "the cost.",
        "quiet",
    )
    main = material.main
    known = {name: getattr(main, field, None) for field, name in MEASURES.items()}
    rows = [[name, number(value)] for name, value in known.items() if value is not None]
    if rows:
        yield Table(["Measure", "Value"], rows, f"{main.dataset}, {main.split} split")
    if lost := [name for name, value in known.items() if value is None and rows]:
        yield Text(f"Not in this run's records: {', '.join(lost)}.", "quiet")


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
    found = material.predictions
    roc, recall = {}, {}
    for label in material.labels:
        place = found.label_names.index(label)
        own, score = found.labels == place, found.probabilities[:, place]
        if 0 < own.sum() < len(own):
            false, true, _ = roc_curve(own, score)
            precise, recalled, _ = precision_recall_curve(own, score)
            roc[label] = Curve(false, true, float(roc_auc_score(own, score)))
            recall[label] = Curve(recalled[::-1], precise[::-1], float(average_precision_score(own, score)))
    if not roc:
        yield Missing("There are no curves: they take images of at least two classes.")
        return
    alt = "Two panels with a curve for each class: ROC, and precision against recall; the table has the areas"
    yield picture(roc_and_precision_figure(material.main, roc, recall), alt)
    rows = [[label, number(roc[label].area), number(recall[label].area)] for label in roc]
    means = [number(float(np.mean([curve.area for curve in each.values()]))) for each in (roc, recall)]
    yield Table(["Class", "Area under ROC", "Average precision"], [*rows, ["mean", *means]], footer=1)


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

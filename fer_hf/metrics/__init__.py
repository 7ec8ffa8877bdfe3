"""Every figure of a classifier, as pure functions of its logits or probabilities and of the true class ids.

They know no files and no records: arrays in, numbers out.
"""

from fer_hf.metrics.calibration import (
    adaptive_calibration_error,
    brier_score,
    calibration_error_per_class,
    classwise_calibration_error,
    expected_calibration_error,
    reliability,
)
from fer_hf.metrics.classification import (
    ClassBalance,
    ExpressionMetric,
    class_balance,
    classification_metrics,
    top_k_accuracy,
)
from fer_hf.metrics.confusion import (
    Confusion,
    accuracy_of,
    balanced_accuracy_of,
    cohen_kappa_of,
    f1_of,
    largest_confusions,
    macro_f1_of,
    matthews_correlation_of,
    normalised,
)
from fer_hf.metrics.curves import (
    Array,
    Curve,
    average_precision,
    precision_recall_curve,
    roc_auc,
    roc_curve,
)
from fer_hf.metrics.headline import bootstrap_intervals, headline_figures
from fer_hf.metrics.selective import aurc, risk_coverage

__all__ = [
    "Array",
    "ClassBalance",
    "Confusion",
    "Curve",
    "ExpressionMetric",
    "accuracy_of",
    "adaptive_calibration_error",
    "aurc",
    "average_precision",
    "balanced_accuracy_of",
    "bootstrap_intervals",
    "brier_score",
    "calibration_error_per_class",
    "class_balance",
    "classification_metrics",
    "classwise_calibration_error",
    "cohen_kappa_of",
    "expected_calibration_error",
    "f1_of",
    "headline_figures",
    "largest_confusions",
    "macro_f1_of",
    "matthews_correlation_of",
    "normalised",
    "precision_recall_curve",
    "reliability",
    "risk_coverage",
    "roc_auc",
    "roc_curve",
    "top_k_accuracy",
]

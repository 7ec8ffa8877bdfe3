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
    SCORES,
    Array,
    ClassBalance,
    ExpressionMetric,
    bootstrap_intervals,
    class_balance,
    classification_metrics,
    f1_of,
    macro_f1_of,
    top_k_accuracy,
)

__all__ = [
    "SCORES",
    "Array",
    "ClassBalance",
    "ExpressionMetric",
    "adaptive_calibration_error",
    "bootstrap_intervals",
    "brier_score",
    "calibration_error_per_class",
    "class_balance",
    "classification_metrics",
    "classwise_calibration_error",
    "expected_calibration_error",
    "f1_of",
    "macro_f1_of",
    "reliability",
    "top_k_accuracy",
]

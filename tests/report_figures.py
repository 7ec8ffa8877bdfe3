"""Evaluations as metrics.json has them, whose figures follow from a confusion matrix."""

import numpy as np
from sklearn.metrics import precision_recall_fscore_support

LABELS = ["angry", "happy", "sad"]
NAMES = ("precision", "recall", "f1")


def evaluation(split, model_format, counts, labels=LABELS, dataset="FER2013"):
    """An evaluation whose figures follow from its confusion matrix."""
    counts = np.array(counts)
    true = np.repeat(np.arange(len(labels)), counts.sum(axis=1))
    predicted = np.concatenate([np.repeat(np.arange(len(labels)), row) for row in counts])
    scores = precision_recall_fscore_support(true, predicted, labels=range(len(labels)), zero_division=0)
    accuracy = float((true == predicted).mean())
    return {
        "dataset": dataset,
        "split": split,
        "format": model_format,
        "predictions": f"predictions/{split}.parquet",
        "images": len(true),
        "accuracy": accuracy,
        "accuracy_ci": [accuracy - 0.1, accuracy + 0.1],
        "balanced_accuracy": float(scores[1][scores[3] > 0].mean()),
        "macro_f1": float(scores[2].mean()),
        "macro_f1_ci": [float(scores[2].mean()) - 0.12, float(scores[2].mean()) + 0.12],
        "macro_precision": float(scores[0].mean()),
        "macro_recall": float(scores[1].mean()),
        **{
            f"weighted_{name}": float(values @ scores[3] / len(true))
            for name, values in zip(NAMES, scores, strict=False)
        },
        "top_2_accuracy": 0.925,
        "expected_calibration_error": 0.0625,
        "log_loss": 0.7321,
        "per_class": {
            label: dict(zip((*NAMES, "support"), (*map(float, s[:3]), int(s[3])), strict=True))
            for label, s in zip(labels, zip(*scores, strict=True), strict=True)
        },
        "confusion_matrix": counts.tolist(),
        "reliability": [
            {"confidence": 0.5, "accuracy": 0.5, "count": len(true) // 2},
            {"confidence": 0.9, "accuracy": 2 * accuracy - 0.5, "count": len(true) // 2},
        ],
    }

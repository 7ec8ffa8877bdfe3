"""Predictions are made once and kept: every figure is computed from the Parquet file that is written here."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from datasets import Dataset

from fer_hf.data import Faces
from fer_hf.errors import UserError
from fer_hf.images.spec import ImageSpec
from fer_hf.models.classifier import FLOAT, INT8, load_onnx, predict_logits
from fer_hf.models.load import load_model
from fer_hf.runs.folder import Run
from fer_hf.runs.predictions import metrics_from, write_predictions
from fer_hf.training.batch_size import memory_explained


def evaluate_split(
    model: Callable[..., Any],
    dataset: Dataset,
    spec: ImageSpec,
    path: Path,
    batch_size: int = 128,
    accelerator: Accelerator | None = None,
    tta: str = "none",
) -> dict[str, Any]:
    """Predict, write the predictions to `path` (the main process does), and return all figures."""
    logits = predict_logits(model, dataset, spec, batch_size, accelerator, tta)
    if accelerator is None or accelerator.is_main_process:
        write_predictions(path, dataset, logits)
    if accelerator is not None:
        accelerator.wait_for_everyone()
    return metrics_from(path)


ONNX_FILES = {"onnx": FLOAT, "int8": INT8}


def evaluate_to(
    run: Run,
    model: str | Path,
    faces: Faces,
    split: str,
    format: str = "pytorch",
    batch_size: int = 128,
    accelerator: Accelerator | None = None,
    tta: str = "none",
) -> str:
    """Evaluate one file of a model and write predictions and figures to `run`; returns their name.

    The labels of `faces` are in the model's order. Figures with test-time augmentation have a name of their own, and
    the key `tta` beside `format`, which plain ones lack.
    """
    if split not in faces.splits:
        raise UserError(f"{faces.dataset} has no {split} split; it has {', '.join(faces.splits)}.")
    loaded = load_model(str(model))
    classifier = loaded.model if format == "pytorch" else load_onnx(model, ONNX_FILES[format])
    dataset = faces.source if faces.source in ("fer2013", "toy") else re.sub(r"[^\w.-]+", "-", faces.dataset)
    name = f"{dataset}-{split}" + ("" if format == "pytorch" else f"-{format}") + ("" if tta == "none" else f"-{tta}")
    path = run.predictions / f"{name}.parquet"
    spec = ImageSpec.from_processor(loaded.processor)
    settings = "train.per_device_eval_batch_size, or --batch-size of fer-hf evaluate"
    with memory_explained(lambda: f"with {batch_size} images at once: lower {settings}."):
        figures = evaluate_split(classifier, faces.splits[split], spec, path, batch_size, accelerator, tta)
    if accelerator is None or accelerator.is_main_process:
        entry = {
            "dataset": faces.dataset,
            "split": split,
            "format": format,
            **({} if tta == "none" else {"tta": tta}),
            "predictions": f"predictions/{path.name}",
            "processes": accelerator.num_processes if accelerator else 1,
            "label_names": list(faces.label_names),
        }
        run.update_metrics(evaluations={name: entry | figures})
    return name

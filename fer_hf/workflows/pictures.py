"""Pictures for TensorBoard, beside the scalars that training wrote: confusion matrices and misclassified faces."""

from typing import Any

import matplotlib
import numpy as np
import pyarrow.parquet as pq
from datasets import Dataset
from scipy.special import softmax
from torch.utils.tensorboard import SummaryWriter

from fer_hf.collect.sheet import contact_sheet
from fer_hf.data import Faces
from fer_hf.report.figures import STYLE, confusion_matrix_figure
from fer_hf.runs.folder import Run


def add_pictures(run: Run, faces: Faces, most: int = 50) -> None:
    """Add `confusion_matrix/<split>` and `misclassified/<split>` to the events of a run, at its best step.

    They show the plain evaluations of the PyTorch model on `faces`, whose predictions are in the order of its splits;
    of the misclassified faces, the `most` confident ones, most confident first. A run without events gets none.
    """
    metrics = run.metrics
    training = metrics.training
    if not training or not training.events or not training.best:
        return
    step = training.best.step
    with SummaryWriter(str(run.path / training.events)) as writer:
        for entry in metrics.evaluations.values():
            if entry.dataset != faces.dataset or not entry.plain:
                continue
            split, labels = entry.split, list(entry.label_names)
            with matplotlib.rc_context(STYLE):
                figure = confusion_matrix_figure(entry, labels)
                writer.add_figure(f"confusion_matrix/{split}", figure, step, close=False)  # pyplot does not know it
            rows, captions = misclassified(Dataset(pq.read_table(run.path / entry.predictions)), labels, most)
            if rows:
                pictures = faces.splits[split].select(rows)["image"][:]
                sheet = contact_sheet(pictures, captions, size=128, title=f"misclassified: {faces.dataset} {split}")
                writer.add_image(f"misclassified/{split}", np.asarray(sheet), step, dataformats="HWC")


def misclassified(predictions: Any, labels: list[str], most: int) -> tuple[list[int], list[str]]:
    """Rows and captions (`true -> predicted`, then `98 %`) of the most confident mistakes, most confident first."""
    columns = predictions.with_format("numpy")
    probability, true = softmax(columns["logits"][:].astype(float), axis=1), columns["label"][:]
    guess, confidence = probability.argmax(axis=1), probability.max(axis=1)
    wrong = np.flatnonzero(guess != true)
    rows = [int(row) for row in wrong[np.argsort(-confidence[wrong], kind="stable")][:most]]
    return rows, [f"{labels[true[row]]} -> {labels[guess[row]]}\n{100 * confidence[row]:.0f} %" for row in rows]

"""Pictures for TensorBoard, beside the scalars that training wrote: confusion matrices and misclassified faces."""

import matplotlib
import numpy as np
from torch.utils.tensorboard import SummaryWriter

from fer_hf.collect.sheet import contact_sheet
from fer_hf.data import Faces
from fer_hf.data.decode import decode_rows, undecoded
from fer_hf.report.figures.classification import confusion_matrix_figure
from fer_hf.report.figures.style import STYLE
from fer_hf.runs.folder import Run
from fer_hf.runs.predictions import read_predictions


def add_pictures(run: Run, faces: Faces, most: int = 50) -> None:
    """Add `confusion_matrix/<split>` and `misclassified/<split>` to the TensorBoard events of a run, at its best step.

    They show the plain evaluations on the run's own data. A run without events gets none.

    Args:
        run: trained and evaluated.
        faces: its data; the rows of a predictions file are in the order of their split.
        most: how many misclassified faces are shown, the most confident ones first.
    """
    metrics = run.metrics
    if metrics.training is None or not metrics.training.events or metrics.training.best is None:
        return
    step = metrics.training.best.step
    with SummaryWriter(str(run.path / metrics.training.events)) as writer:
        for evaluation in metrics.evaluations.values():
            if not (evaluation.plain and run.owns(evaluation)):
                continue
            split = evaluation.split
            with matplotlib.rc_context(STYLE):
                figure = confusion_matrix_figure(evaluation, evaluation.label_names)
                writer.add_figure(f"confusion_matrix/{split}", figure, step, close=False)  # pyplot does not know it
            if mistakes := read_predictions(run.path / evaluation.predictions).mistakes(most):
                pictures = decode_rows(undecoded(faces.splits[split]), [mistake.row for mistake in mistakes])
                captions = [f"{m.true} -> {m.predicted}\n{100 * m.confidence:.0f} %" for m in mistakes]
                sheet = contact_sheet(pictures, captions, size=128, title=f"misclassified: {faces.dataset} {split}")
                writer.add_image(f"misclassified/{split}", np.asarray(sheet), step, dataformats="HWC")

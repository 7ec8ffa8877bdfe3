"""Draw the figures and write the model card of a run again."""

from pathlib import Path

from fer_hf.report.model_card import write_report
from fer_hf.runs.folder import Run
from fer_hf.training.launch import processes


def report(run: str | Path | Run) -> Path:
    """Write `model/figures/` and `model/README.md` of a run from its metrics.json; returns the card's path.

    Raises:
        UserError: `run` is no run folder, or nothing in it was evaluated.
    """
    return write_report(Run.open(run))


def redraw(run: Run) -> None:
    """Draw the card of a run again, if it has one, after its figures have changed; the main process does."""
    if run.card.is_file() and processes().is_main_process:
        write_report(run)

"""Draw the figures and write the model card of a run again."""

from pathlib import Path

from fer_hf.report.model_card import write_report
from fer_hf.runs.folder import Run


def report(run: str | Path | Run) -> Path:
    """Write `model/figures/` and `model/README.md` of a run from its metrics.json; returns the card's path.

    Raises:
        UserError: `run` is no run folder, or nothing in it was evaluated.
    """
    return write_report(Run.open(run))

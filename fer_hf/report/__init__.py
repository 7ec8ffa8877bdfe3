"""The report of a run: figures and model card, drawn from metrics.json alone."""

from fer_hf.report.model_card import write_report

__all__ = ["write_report"]

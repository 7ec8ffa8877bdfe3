"""What `fer-hf calibrate` prints."""

from typing import Any

from rich.table import Column, Table

from fer_hf.console import output

FIGURES = {
    "accuracy": "accuracy",
    "log_loss": "log loss",
    "brier_score": "Brier",
    "expected_calibration_error": "ECE",
    "classwise_calibration_error": "class-wise ECE",
    "adaptive_calibration_error": "adaptive ECE",
}
NO_SHARES = ("log_loss", "brier_score")


def print_calibration(run: str, calibration: Any) -> None:
    """Print each scaling, before and after, and what abstention and sets of labels come to."""
    table = Table(Column("scaling", no_wrap=True), *(Column(name, justify="right") for name in FIGURES.values()))
    for name, scores in calibration.methods.items():
        title = f"{name} ({calibration.temperature:.3f})" if name == "temperature" else name
        values = {key: getattr(scores, key) for key in FIGURES}
        table.add_row(title, *(f"{v:.4f}" if key in NO_SHARES else f"{v:.1%}" for key, v in values.items()))
    output.print(f"{calibration.measured_on}, scaled as fitted on {calibration.fitted_on}")
    output.print(table)
    losses = ", ".join(f"{name} {loss:.4f}" for name, loss in calibration.validation_log_loss.items())
    output.print(f"Best by log loss on validation (cross-fitted: {losses}): {calibration.best}.", soft_wrap=True)
    for abstention in calibration.abstention:
        output.print(_of_abstention(abstention), soft_wrap=True)
    output.print(_of_sets(calibration.conformal), soft_wrap=True)
    if calibration.folded:
        state = "The temperature is in the weights: `pipeline`, ONNX and INT8 give these probabilities."
    else:
        state = f"The model itself gives those of the first row still. To change that: fer-hf calibrate {run} --fold"
    output.print(state, soft_wrap=True)


def _of_abstention(abstention: Any) -> str:
    wanted = f"Abstention, for at most {abstention.target_error:.0%} of the answers wrong"
    if abstention.threshold is None:
        return f"{wanted}: no confidence is high enough, as far as validation shows."
    answers = f"{wanted}: answer from a confidence of {abstention.threshold:.1%} on"
    if abstention.error is None:
        return f"{answers}. No image reaches it."
    wrong = f"{abstention.error:.1%} {_interval(*abstention.error_ci)}"
    return f"{answers}. {abstention.coverage:.1%} of the images reach it; of these answers, {wrong} are wrong."


def _of_sets(sets: Any) -> str:
    coverage, per_class = sets.coverage, sets.coverage_per_class
    worst = min(per_class, key=per_class.__getitem__)
    return (
        f"Sets of labels, for the right one in {sets.level:.0%} of them: the labels with {sets.threshold:.1%} or more. "
        f"{coverage.value:.1%} {_interval(coverage.low, coverage.high)} of the sets hold it, least of {worst} with "
        f"{per_class[worst]:.1%}; they have {sets.mean_size:.2f} labels on average."
    )


def _interval(low: float, high: float) -> str:
    return f"[{low * 100:.1f}, {high * 100:.1f}]"

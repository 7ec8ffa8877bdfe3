"""Calibrate a run: scalings, abstention and conformal sets fitted on validation, measured on another split."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from fer_hf.errors import UserError
from fer_hf.evaluation.abstention import abstention_threshold, measure_abstention
from fer_hf.evaluation.calibration import (
    NO_TEMPERATURE,
    at_limit,
    calibration_scores,
    fit_scalings,
    temperature_scaling,
)
from fer_hf.evaluation.conformal import conformal_threshold, measure_conformal
from fer_hf.machine import process_settings_kept
from fer_hf.report.figures.calibration import write_calibration_figures
from fer_hf.runs.analyses import Calibration
from fer_hf.runs.folder import Run
from fer_hf.runs.predictions import Predictions, read_predictions
from fer_hf.workflows import folding
from fer_hf.workflows.evaluate import evaluate
from fer_hf.workflows.report import redraw

logger = logging.getLogger(__name__)


@process_settings_kept()
def calibrate(
    run: str | Path | Run,
    split: str = "test",
    errors: Sequence[float] = (0.1,),
    coverage: float = 0.9,
    fold: bool = False,
) -> Calibration:
    """Fit scalings of the logits on the validation predictions of a run, and measure them on another split.

    Predictions that are not there are made. The figures go to `calibration` in metrics.json, under the key of the
    evaluation that they were measured on, and pictures of them to `model/figures/`.

    Validation has chosen the weights. So what is fitted on it is a little too hopeful for other images: look at the
    figures on test.

    Args:
        run: a run folder whose training has ended.
        split: of the run's own data, what to measure on: `"test"` or `"train"`.
        errors: for each of them, the confidence is sought from which on at most this share of answers is wrong.
        coverage: how often conformal sets are to hold the right label.
        fold: divide the weights of the last layer by the temperature, so that `pipeline`, ONNX and INT8 give
            calibrated probabilities. Predictions files are divided, too, and exported files made again.

    Returns:
        The figures before and after.

    Raises:
        UserError: there are too few validation images, a prediction is no number, the split is validation itself, or
            the model cannot take a temperature into its weights.

    Example:
        `calibrate("runs/mine/20260131-175900").temperature`
    """
    run = Run.open(run)
    run.finished_model()
    _check(run, split, errors, coverage)
    run.lock()
    try:
        temperature = folding.folded_temperature(run)
        (fitted_on, fitted), (measured_on, measured) = (_predictions(run, each) for each in ("validation", split))
        if _same_images(fitted, measured):
            raise UserError(
                f"The {split} split of {run.path} has the same images as validation, on which it is fitted."
            )
        record = Calibration(fitted_on, measured_on, temperature or 1.0, {}, folded=temperature is not None)
        record = _measured(record, fitted, measured, errors, coverage)
        run.update(calibration={measured_on: record})
        if fold and at_limit(record.temperature):
            raise UserError(f"The weights stay as they are. {NO_TEMPERATURE.format(record.temperature)}")
        if fold and not record.folded:
            folding.fold(run, record.temperature)
            record, measured = replace(record, folded=True), _predictions(run, split)[1]
        elif fold:
            logger.info("temperature %.3f is in the weights already: they stay as they are", record.temperature)
            folding.export_again(run)
        write_calibration_figures(run.figures, record, measured, run.metrics.evaluations[measured_on])
        redraw(run)
    finally:
        run.unlock()
    return record


def _check(run: Run, split: str, errors: Sequence[float], coverage: float) -> None:
    """Refuse what cannot be, before anything is read or made."""
    if run.metrics.training is None:
        raise UserError(f"The training of {run.path} has not ended: its weights may still change. Resume it first.")
    if split == "validation":
        raise UserError("split is 'validation', on which everything is fitted: measure on 'test'.")
    for name, share in [("coverage", coverage), *(("error", error) for error in errors)]:
        if not 0 < share < 1:
            raise UserError(f"{name} is {share}: it is a share between 0 and 1, such as 0.1 for 10 %.")


def _predictions(run: Run, split: str) -> tuple[str, Predictions]:
    """The key and the predictions of the PyTorch model on a split of the run's own data; made where they are not."""
    evaluations = run.metrics.evaluations
    there = [k for k, e in evaluations.items() if (run.path / e.predictions).is_file()]
    keys = [k for k in there if (e := evaluations[k]).split == split and e.plain and run.owns(e)]
    if not keys:
        logger.info("%s has no predictions on its %s split: they are made now", run.path, split)
        evaluate(run, split=split)
        return _predictions(run, split)
    return keys[0], read_predictions(run.path / evaluations[keys[0]].predictions)


def _same_images(first: Predictions, second: Predictions) -> bool:
    return first.logits.shape == second.logits.shape and np.array_equal(
        np.sort(first.logits, axis=0), np.sort(second.logits, axis=0)
    )


def _measured(
    record: Calibration, fitted: Predictions, measured: Predictions, errors: Sequence[float], coverage: float
) -> Calibration:
    """The record with everything in it that follows from the predictions."""
    labels, logits = fitted.labels, record.before(fitted.logits)
    test_labels, test_logits = measured.labels, record.before(measured.logits)
    scalings = fit_scalings(logits, labels, record.temperature if record.folded else None)
    for note in scalings.notes:
        logger.warning("%s", note)
    scaled = temperature_scaling(scalings.temperature)
    probabilities, test_probabilities = scaled(logits), scaled(test_logits)
    level = conformal_threshold(probabilities, labels, coverage)
    thresholds = {error: abstention_threshold(probabilities, labels, error) for error in errors}
    return replace(
        record,
        temperature=scalings.temperature,
        methods={name: calibration_scores(f(test_logits), test_labels) for name, f in scalings.methods.items()},
        validation_log_loss=scalings.log_losses,
        abstention=[measure_abstention(test_probabilities, test_labels, at, e) for e, at in thresholds.items()],
        conformal=measure_conformal(test_probabilities, test_labels, level, coverage, measured.label_names),
    )

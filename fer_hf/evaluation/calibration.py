"""Scalings of logits that make probabilities say how often they are right.

They are fitted on predictions of images that the network was not trained on, and measured on yet others. The first
three keep to a handful of numbers; isotonic regression follows any curve, and needs more images for it:

- temperature (Guo et al. 2017, https://arxiv.org/abs/1706.04599): all logits divided by one number. The most probable
  class stays the same, and so does accuracy. It alone can be folded into the weights, see `models.folding`.
- vector scaling (the same paper): each class has a scale and a bias, so the order of the classes can change.
- isotonic regression (Zadrozny and Elkan 2002, https://doi.org/10.1145/775047.775151): a rising step function for each
  class against the rest, then normalised to a sum of 1. The order of the classes can change, and ties appear.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize, minimize_scalar
from scipy.special import log_softmax, softmax
from sklearn.isotonic import IsotonicRegression
from sklearn.model_selection import KFold

from fer_hf.errors import UserError
from fer_hf.metrics import (
    Array,
    adaptive_calibration_error,
    brier_score,
    classwise_calibration_error,
    expected_calibration_error,
    reliability,
)
from fer_hf.runs.analyses import CalibrationScores

Scaling = Callable[[Array], Array]
"""Logits `(N, C)` in, probabilities `(N, C)` out."""
FEWEST_IMAGES = 50
"""Fewer tell nothing of a temperature: with 50 it is off by a sixth, in simulations of seven classes."""
FOLDS = 5
"""Parts of the validation images for cross-fitting."""
LIMITS = (0.05, 20.0)
"""Of temperatures and scales: where all images are right, the best temperature would be 0."""
BIAS_LIMIT = 20.0
NO_TEMPERATURE = (
    "The temperature, {:.3g}, is at the end of those that are tried: either validation images are all right, and more "
    "of them are needed, or what the network is sure of has nothing to do with what is right."
)


@dataclass(frozen=True)
class Scalings:
    """Fitted scalings by name; `log_losses` are cross-fitted, in nats. `notes` say what was not fitted, and why."""

    temperature: float
    methods: dict[str, Scaling]
    log_losses: dict[str, float]
    notes: list[str]


def fit_scalings(logits: Array, references: Array, temperature: float | None = None) -> Scalings:
    """Fit every scaling that there are images enough for, and say how good each is on images that it has not seen.

    Vector scaling and isotonic regression are left out where a class has fewer than five images.

    Args:
        logits: `(N, C)` on validation images, all finite.
        references: `(N,)` their true class ids.
        temperature: one that was chosen before, instead of a new one.

    Raises:
        UserError: there are fewer than 50 images.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> logits = 3 * rng.normal(size=(1000, 3))
        >>> references = np.array([rng.choice(3, p=p) for p in softmax(logits / 2, axis=1)])
        >>> scalings = fit_scalings(logits, references)
        >>> list(scalings.methods), round(scalings.temperature)
        (['none', 'temperature', 'vector', 'isotonic'], 2)
    """
    _check(references)
    temperature = temperature or _temperature(logits, references)
    methods = {"none": temperature_scaling(1.0), "temperature": temperature_scaling(temperature)}
    fits: dict[str, Callable[[Array, Array], Scaling]] = {
        "none": lambda *_: temperature_scaling(1.0),
        "temperature": lambda *rows: temperature_scaling(_temperature(*rows)),
    }
    notes = [NO_TEMPERATURE.format(temperature)] if at_limit(temperature) else []
    if rare := int((np.bincount(references, minlength=logits.shape[1]) < FOLDS).sum()):
        notes.append(f"no vector and isotonic scaling: {rare} class(es) have fewer than {FOLDS} validation images")
    else:
        fits |= {"vector": fit_vector, "isotonic": fit_isotonic}
        methods |= {"vector": fit_vector(logits, references), "isotonic": fit_isotonic(logits, references)}
    losses = {name: _cross_fitted_log_loss(fit, logits, references) for name, fit in fits.items()}
    return Scalings(temperature, methods, losses, notes)


def at_limit(temperature: float) -> bool:
    """Whether a temperature is at the end of those that are tried, so that no image says what it should be."""
    return not 1.01 * LIMITS[0] < temperature < 0.99 * LIMITS[1]


def temperature_scaling(temperature: float) -> Scaling:
    """The scaling that divides all logits by a temperature."""
    return lambda logits: softmax(logits / temperature, axis=1)


def fit_temperature(logits: Array, references: Array) -> float:
    """The temperature of the smallest log loss; above 1 for a network that is too sure of itself.

    Args:
        logits: `(N, C)` on validation images, all finite.
        references: `(N,)` their true class ids.

    Raises:
        UserError: there are fewer than 50 images.

    Example:
        >>> logits = np.tile([[4.0, 0.0]], (100, 1))
        >>> temperature = fit_temperature(logits, np.array([0] * 88 + [1] * 12))
        >>> round(float(softmax(logits[0] / temperature)[0]), 2)
        0.88
    """
    _check(references)
    return _temperature(logits, references)


def _temperature(logits: Array, references: Array) -> float:
    # The loss has one minimum in 1 / T, where it is convex, and so in log T, where a step means the same everywhere.
    found = minimize_scalar(
        lambda log_t: log_loss(softmax(logits / np.exp(log_t), axis=1), references),
        bounds=np.log(LIMITS),
        method="bounded",
    )
    return float(np.exp(found.x))


def fit_vector(logits: Array, references: Array) -> Scaling:
    """Vector scaling: a scale and a bias for the logit of each class, those of the smallest log loss."""
    rows, classes = np.arange(len(logits)), logits.shape[1]

    def loss(parameters: Array) -> tuple[float, Array]:
        scale, bias = parameters.reshape(2, classes)
        log_probabilities = log_softmax(logits * scale + bias, axis=1)
        residual = np.exp(log_probabilities)
        residual[rows, references] -= 1
        gradient = np.concatenate([(residual * logits).mean(axis=0), residual.mean(axis=0)])
        return -log_probabilities[rows, references].mean(), gradient

    limits = [LIMITS] * classes + [(-BIAS_LIMIT, BIAS_LIMIT)] * classes
    start = np.concatenate([np.ones(classes), np.zeros(classes)])
    scale, bias = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=limits).x.reshape(2, classes)
    return lambda others: softmax(others * scale + bias, axis=1)


def fit_isotonic(logits: Array, references: Array) -> Scaling:
    """Isotonic regression of each class against the rest, on the probabilities.

    Its steps end at 0 and 1, which N images cannot show: they are kept from both by 1 / 2N.
    """
    probabilities, least = softmax(logits, axis=1), 0.5 / len(logits)
    curves = [
        IsotonicRegression(y_min=least, y_max=1 - least, out_of_bounds="clip").fit(column, references == label)
        for label, column in enumerate(probabilities.T)
    ]

    def scaling(others: Array) -> Array:
        columns = zip(curves, softmax(others, axis=1).T, strict=True)
        shares = np.stack([curve.predict(column) for curve, column in columns], axis=1)
        return shares / shares.sum(axis=1, keepdims=True)

    return scaling


def log_loss(probabilities: Array, references: Array) -> float:
    """The mean of -log p of the true class, in nats."""
    own = probabilities[np.arange(len(probabilities)), references]
    return float(-np.log(np.maximum(own, np.finfo(np.float64).tiny)).mean())


def calibration_scores(probabilities: Array, references: Array) -> CalibrationScores:
    """All figures of how good probabilities are.

    Example:
        >>> scores = calibration_scores(np.array([[0.75, 0.25], [0.5, 0.5]]), np.array([0, 0]))
        >>> scores.accuracy, scores.expected_calibration_error
        (1.0, 0.375)
    """
    return CalibrationScores(
        accuracy=float((probabilities.argmax(axis=1) == references).mean()),
        log_loss=log_loss(probabilities, references),
        brier_score=brier_score(probabilities, references),
        expected_calibration_error=expected_calibration_error(reliability(probabilities, references)),
        classwise_calibration_error=classwise_calibration_error(probabilities, references),
        adaptive_calibration_error=adaptive_calibration_error(probabilities, references),
    )


def _cross_fitted_log_loss(fit: Callable[[Array, Array], Scaling], logits: Array, references: Array) -> float:
    """The log loss of each part of the images by a scaling that was fitted on the others."""
    parts = KFold(FOLDS, shuffle=True, random_state=0).split(logits)
    held_out = [(fit(logits[rest], references[rest])(logits[part]), references[part]) for rest, part in parts]
    probabilities, labels = (np.concatenate(each) for each in zip(*held_out, strict=True))
    return log_loss(probabilities, labels)


def _check(references: Array) -> None:
    if len(references) < FEWEST_IMAGES:
        raise UserError(
            f"A temperature cannot be fitted on {len(references)} validation images: it takes {FEWEST_IMAGES} or more. "
            "Train with more of them (data.validation_fraction)."
        )

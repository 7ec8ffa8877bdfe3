"""A power law through the errors of runs, which says how unsure it is and does not go too far."""

import numpy as np
import pytest
from scipy.stats import linregress, t

from fer_hf.metrics.scaling import fit_power_law

IMAGES, ERRORS = [700, 2871, 7177, 14354, 28709], [0.62, 0.53, 0.47, 0.42, 0.38]


def test_the_fit_and_its_prediction_interval_are_those_of_a_straight_line_on_logarithmic_axes():
    law = fit_power_law(IMAGES, ERRORS, [1e-6] * 5)
    x, y = np.log(IMAGES), np.log(ERRORS)
    line = linregress(x, y)
    assert law.exponent == pytest.approx(-line.slope)
    wide = t.ppf(0.975, 3) * line.stderr
    assert law.exponent_interval == pytest.approx((law.exponent - wide, law.exponent + wide))
    residual = np.sqrt(((y - line.intercept - line.slope * x) ** 2).sum() / 3)
    at = np.log(57418)
    half = t.ppf(0.975, 3) * residual * np.sqrt(1 + 1 / 5 + (at - x.mean()) ** 2 / ((x - x.mean()) ** 2).sum())
    middle = line.intercept + line.slope * at
    assert law.error(57418) == pytest.approx(np.exp([middle, middle - half, middle + half]).tolist())


def test_runs_that_happen_to_lie_on_a_line_are_no_surer_than_their_test_images_make_them():
    images, errors = [1000, 2000, 4000], [0.4, 0.2, 0.1]
    _, low, high = fit_power_law(images, errors, [0.02, 0.01, 0.005]).error(8000)
    assert high / low > 2  # one degree of freedom


def test_too_few_sizes_a_run_without_error_and_a_look_too_far_are_refused():
    for images in ([700, 28709], [700, 28709, 28709]):
        with pytest.raises(ValueError, match="at least 3 different numbers of training images, not 2"):
            fit_power_law(images, [0.5] * len(images), [0.01] * len(images))
    with pytest.raises(ValueError, match="without any error"):
        fit_power_law([1, 2, 3], [0.2, 0.1, 0.0], [0.01] * 3)
    law = fit_power_law(IMAGES, ERRORS, [0.01] * 5)
    assert law.error(4 * 28709)[0] < ERRORS[-1]
    with pytest.raises(ValueError, match=r"more than 4 times the 28,709"):
        law.error(4 * 28709 + 1)

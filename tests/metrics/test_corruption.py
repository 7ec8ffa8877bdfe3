"""The mean corruption error, by hand."""

import pytest

from fer_hf.metrics.corruption import mean_corruption_error

ERRORS = {"blur": [0.1, 0.3], "noise": [0.5, 0.7]}


def test_the_error_is_the_mean_or_relative_to_a_baseline():
    assert mean_corruption_error(ERRORS) == pytest.approx(0.4)
    assert mean_corruption_error(ERRORS, ERRORS) == 1
    theirs = {"noise": [0.3, 0.3], "blur": [0.4, 0.4]}
    assert mean_corruption_error(ERRORS, theirs) == pytest.approx((0.4 / 0.8 + 1.2 / 0.6) / 2)


@pytest.mark.parametrize(
    ("errors", "baseline", "message"),
    [
        ({}, None, "there are no corruptions"),
        (ERRORS, {"blur": [0.1, 0.3]}, "other corruptions or strengths"),
        (ERRORS, ERRORS | {"blur": [0.1]}, "other corruptions or strengths"),
        (ERRORS, ERRORS | {"blur": [0.0, 0.0]}, "no error under blur"),
    ],
)
def test_what_cannot_be_compared_is_refused(errors, baseline, message):
    with pytest.raises(ValueError, match=message):
        mean_corruption_error(errors, baseline)

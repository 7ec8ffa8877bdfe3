"""Weighted images are drawn images, and intervals are those of a plain bootstrap."""

import numpy as np
import pytest

from fer_hf.metrics import bootstrap_intervals, headline_figures
from fer_hf.metrics.headline import BIASED

LABELS = ("angry", "fear", "happy", "sad")


@pytest.fixture(scope="module")
def sample():
    rng = np.random.default_rng(0)
    references = rng.choice(4, size=300, p=[0.1, 0.2, 0.5, 0.2])
    logits = rng.normal(size=(300, 4)).round(2)  # some of them tie
    logits[np.arange(300), references] += 1.2
    return logits, references


def test_a_weight_is_how_often_an_image_is_there(sample):
    logits, references = sample
    drawn = np.random.default_rng(1).integers(300, size=(3, 300))
    weights = np.stack([np.bincount(draw, minlength=300) for draw in drawn], axis=1).astype(float)
    weighted = headline_figures(logits, references, LABELS, weights)
    for column, draw in enumerate(drawn):
        for name, values in headline_figures(logits[draw], references[draw], LABELS).items():
            assert weighted[name][column] == pytest.approx(values[0]), name


def test_intervals_agree_with_a_plain_bootstrap(sample, monkeypatch):
    logits, references = sample
    rng = np.random.default_rng(1)
    plain = [headline_figures(logits[draw], references[draw], LABELS) for draw in rng.integers(300, size=(200, 300))]
    figures, intervals = headline_figures(logits, references, LABELS), bootstrap_intervals(logits, references, LABELS)
    monkeypatch.setattr("fer_hf.metrics.headline.AT_ONCE", 300 * 128)
    in_parts = bootstrap_intervals(logits, references, LABELS)
    assert intervals.keys() == in_parts.keys() == figures.keys()
    for name, (low, high) in intervals.items():
        expected = np.quantile([draw[name][0] for draw in plain], [0.025, 0.975])
        if name in BIASED:  # reflected at the figure
            expected = (2 * figures[name][0] - expected)[::-1].clip(0)
            expected[1] = max(expected[1], figures[name][0])
        width = expected[1] - expected[0]
        assert (low, high) == pytest.approx(expected, abs=0.2 * width + 1e-3), name
        assert in_parts[name] == pytest.approx([low, high], abs=0.2 * width + 1e-3), name
        assert low <= figures[name][0] <= high, name


def test_equal_seeds_give_equal_intervals(sample):
    one = bootstrap_intervals(*sample, LABELS, resamples=50)
    assert one == bootstrap_intervals(*sample, LABELS, resamples=50)
    assert one != bootstrap_intervals(*sample, LABELS, resamples=50, seed=1)

"""Distances between features, against their definitions written out."""

from itertools import combinations

import numpy as np
import pytest
from scipy.linalg import sqrtm

from fer_hf.metrics import distances
from fer_hf.metrics.distances import frechet_distance, maximum_mean_discrepancy


@pytest.fixture(scope="module")
def features():
    rng = np.random.default_rng(0)
    return rng.normal(size=(60, 12)) @ rng.normal(size=(12, 12)), 2 * rng.normal(size=(45, 12)) + 0.5


@pytest.mark.parametrize("images", [60, 8])
def test_frechet_distance_is_its_formula_for_many_images_and_for_fewer_than_features(features, images):
    a, b = features[0][:images], features[1]
    covariances = np.cov(a.T), np.cov(b.T)
    root = sqrtm(covariances[0] @ covariances[1]).real
    expected = ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(sum(covariances) - 2 * root)
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-5)
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-9)


def test_mmd_is_the_mean_of_its_kernel_over_pairs(features, monkeypatch):
    a, b = features
    monkeypatch.setattr(distances, "BLOCK", 7)
    scale = np.median([((x - y) ** 2).sum() for x, y in combinations(np.vstack([a, b]), 2)])

    def kernel(x, y):
        return np.exp(-((x - y) ** 2).sum() / scale)

    within = [np.mean([kernel(x, y) for x, y in combinations(part, 2)]) for part in (a, b)]
    between = np.mean([kernel(x, y) for x in a for y in b])
    assert maximum_mean_discrepancy(a, b) == pytest.approx(sum(within) - 2 * between)
    assert maximum_mean_discrepancy(100 * a, 100 * b) == pytest.approx(maximum_mean_discrepancy(a, b))


@pytest.mark.parametrize("distance", [frechet_distance, maximum_mean_discrepancy])
@pytest.mark.parametrize(
    ("a", "says"),
    [(np.ones((1, 3)), "two|2 or more"), (np.ones((4, 2)), r"\(4, 2\)"), (np.full((4, 3), np.nan), "no number")],
)
def test_what_has_no_distance_is_refused(distance, a, says):
    with pytest.raises(ValueError, match=says):
        distance(a, np.eye(3))


def test_equal_images_are_at_no_distance():
    same = np.ones((5, 3))
    assert (frechet_distance(same, same), maximum_mean_discrepancy(same, same)) == (0, 0)


def test_large_sets_are_thinned(monkeypatch):
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(400, 4)), rng.normal(1, 1, size=(300, 4))
    monkeypatch.setattr("fer_hf.metrics.distances.MOST_ROWS", 200)
    places = [np.linspace(0, len(x) - 1, 200).astype(int) for x in (a, b)]
    assert maximum_mean_discrepancy(a, b) == maximum_mean_discrepancy(a[places[0]], b[places[1]])

"""Planes, domains and neighbours of features that are known."""

import numpy as np
import pytest
from sklearn.metrics.pairwise import cosine_similarity

from fer_hf.errors import UserError
from fer_hf.explain.space import domain_probe, nearest, pca_plane, tsne_plane

RNG = np.random.default_rng(0)
CLOUD = RNG.normal(size=(60, 12)).astype(np.float32)


def test_a_probe_tells_far_domains_and_not_equal_ones():
    assert domain_probe(CLOUD[:40], CLOUD[40:] + 5) == (1.0, pytest.approx(2 / 3))
    accuracy, chance = domain_probe(CLOUD[:30], CLOUD[30:])
    assert abs(accuracy - chance) < 0.25
    with pytest.raises(UserError, match="needs 5 images of each source: there are 60 and 3"):
        domain_probe(CLOUD, CLOUD[:3])


def test_neighbours_are_those_of_the_cosine():
    rows, similarity = nearest(CLOUD, query=7, k=5)
    expected = cosine_similarity(CLOUD)[7]
    expected[7] = -2
    assert rows.tolist() == np.argsort(-expected)[:5].tolist()
    np.testing.assert_allclose(similarity, expected[rows], rtol=1e-5)
    assert len(nearest(CLOUD[:3], query=0, k=8)[0]) == 2


def test_planes_are_repeatable_and_keep_groups_apart():
    two = np.concatenate([CLOUD[:30], CLOUD[30:] + 10])
    for places in (pca_plane(two)[0], tsne_plane(two, seed=1)):
        centres = places[:30].mean(axis=0), places[30:].mean(axis=0)
        assert np.linalg.norm(centres[0] - centres[1]) > 2 * places[:30].std()
    np.testing.assert_array_equal(tsne_plane(two, seed=1), tsne_plane(two, seed=1))

"""What is chosen for labelling is uncertain and spread out, and beats chance where classes hide in small clusters."""

import numpy as np
import pytest
from scipy.stats import entropy

from fer_hf.evaluation.ranking import rank_for_labelling, uncertainty


@pytest.fixture
def clusters():
    """1,000 images: a large cluster of which the network is sure; a middling and seven tiny ones of which it is not."""
    rng = np.random.default_rng(1)
    cluster = np.repeat(np.arange(9), [725, 240, *[5] * 7])
    features = rng.normal(0, 1, (9, 16))[cluster] + rng.normal(0, 0.1, (1000, 16))
    logits = rng.normal(0, 0.3, (1000, 4)) + 5 * (cluster == 0)[:, None] * np.eye(4)[rng.integers(4, size=1000)]
    return cluster, features, np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)


def test_all_uncertain_clusters_are_covered(clusters):
    cluster, features, probabilities = clusters
    rows, distances = rank_for_labelling(probabilities, features, 24)
    covered = len({*cluster[rows]} - {0})
    rng = np.random.default_rng(1)
    by_chance = [len({*cluster[rng.choice(1000, 24, replace=False)]} - {0}) for _ in range(200)]
    by_doubt = len({*cluster[np.argsort(-uncertainty(probabilities))[:24]]} - {0})
    assert covered == 8
    assert by_doubt < 6  # the most uncertain are many of one kind
    assert np.mean(by_chance) < 3
    assert (np.diff(distances) <= 1e-9).all()
    assert (cluster[rows] > 0).mean() > 0.9


def test_distances_are_those_of_gradients_written_out(clusters):
    _, features, probabilities = (part[::10] for part in clusters)
    centred = features - features.mean(axis=0)
    unit = centred / np.linalg.norm(centred, axis=1, keepdims=True)
    image = np.hstack([np.ones((100, 1)), unit]) / 2**0.5
    change = probabilities - np.eye(4)[probabilities.argmax(axis=1)]
    gradients = np.einsum("nc,nd->ncd", change, image).reshape(100, -1)
    rows, distances = rank_for_labelling(probabilities, features, 10)
    before = [np.zeros(gradients.shape[1])]
    for row, distance in zip(rows, distances, strict=True):
        away = [np.linalg.norm(gradients - other, axis=1) for other in before]
        assert distance == pytest.approx(np.min(away, axis=0).max())
        assert row == np.min(away, axis=0).argmax()
        before.append(gradients[row])


def test_copies_are_not_chosen_twice(clusters):
    _, features, probabilities = (part[-30:] for part in clusters)
    twice = np.vstack([probabilities] * 2), np.vstack([features] * 2)
    rows, _ = rank_for_labelling(*twice, 60)
    assert sorted(row % 30 for row in rows) == list(range(30))
    assert rank_for_labelling(*twice, 60)[0].tolist() == rows.tolist()
    one, _ = rank_for_labelling(probabilities[:1], features[:1], 5)
    assert one.tolist() == [0]
    assert len(rank_for_labelling(np.vstack([probabilities[:3]] * 4), None, 12)[0]) == 3


def test_uncertainty_is_the_normalised_entropy(clusters):
    probabilities = clusters[2]
    np.testing.assert_allclose(uncertainty(probabilities), entropy(probabilities, axis=1) / np.log(4), atol=1e-9)

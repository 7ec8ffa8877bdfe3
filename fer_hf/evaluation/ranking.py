"""Which unlabelled images to label next: those that would change the network most, and each in another way."""

import numpy as np

from fer_hf.metrics import Array

SAME = 1e-3
"""A distance below which an image is a copy of one that was chosen, up to rounding."""


def uncertainty(probabilities: Array) -> Array:
    """The entropy of each answer as a share of the largest possible: 0 is sure, 1 says all classes are alike.

    Args:
        probabilities: `(N, C)`.

    Example:
        >>> uncertainty(np.array([[1.0, 0.0], [0.5, 0.5]])).tolist()
        [0.0, 1.0]
    """
    logarithms = np.log(np.maximum(probabilities, 1e-12))
    return np.abs((probabilities * logarithms).sum(axis=1)) / np.log(probabilities.shape[1])


def rank_for_labelling(probabilities: Array, features: Array | None, most: int) -> tuple[Array, Array]:
    """Choose images to label by uncertainty and variety at once, the most useful first.

    An image stands for the change that it would make to the last layer if its most probable label were right: the
    gradient of BADGE (Ash et al. 2020, https://arxiv.org/abs/1906.03671), short where the network is sure. Features are
    taken relative to their mean and of length one, so that they add what an image is like, and not how large its
    features are. Each choice is the image farthest from all that were chosen and from 0, where the network is sure
    (k-center greedy, Sener and Savarese 2018, https://arxiv.org/abs/1708.00489). Nothing is drawn at random.

    Args:
        probabilities: `(N, C)` of the network.
        features: `(N, D)` before its last layer; None: images differ by their probabilities alone.
        most: how many to choose.

    Returns:
        The rows of the chosen images, at most `most`, and the distance of each to those before it, falling. A copy of a
        chosen image is never chosen, nor is one of which the network is perfectly sure.

    Example:
        >>> sure, torn = [0.98, 0.01, 0.01], [0.5, 0.5, 0.0]
        >>> features = np.array([[0.0, 1], [1, 0], [1, 0], [0, 1]])
        >>> rows, distance = rank_for_labelling(np.array([sure, torn, torn, torn]), features, 3)
        >>> rows.tolist()
        [1, 3, 0]
    """
    change = probabilities - np.eye(probabilities.shape[1])[probabilities.argmax(axis=1)]
    images = np.zeros((len(change), 1)) if features is None else features - features.mean(axis=0)
    images = images / np.maximum(np.linalg.norm(images, axis=1, keepdims=True), 1e-12)
    squares = _products(change, images, slice(None))
    nearest, rows, distances = squares.copy(), list[int](), list[float]()
    for _ in range(min(most, len(change))):
        row = int(nearest.argmax())
        if nearest[row] < SAME**2:
            break
        rows.append(row)
        distances.append(float(np.sqrt(nearest[row])))
        apart = squares + squares[row] - 2 * _products(change, images, row)
        nearest = np.minimum(nearest, np.maximum(apart, 0))
    return np.array(rows, dtype=int), np.array(distances)


def _products(change: Array, images: Array, others: int | slice) -> Array:
    """The inner products `(N,)` of each image's gradient with that of another, or with its own.

    A gradient is the outer product of `change` `(N, C)` and a constant beside `images` `(N, D)`, halved; it need not be
    written out for that.
    """
    alike = (images * images[others]).sum(axis=1)
    return (change * change[others]).sum(axis=1) * (1 + alike) / 2

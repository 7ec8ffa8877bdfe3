"""How images lie to one another in the features of a network: on a plane, by domain, and one beside the other.

Pure functions of features `(N, D)`, as `features.penultimate_features` gives them.
"""

import numpy as np
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.manifold import TSNE
from sklearn.model_selection import StratifiedKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler, normalize

from fer_hf.errors import UserError
from fer_hf.metrics import Array

COMPONENTS = 50
"""Principal components that t-SNE begins with, as its authors do (van der Maaten and Hinton 2008)."""


def pca_plane(features: Array) -> tuple[Array, Array]:
    """The first two principal components.

    Args:
        features: `(N, D)`, N of 2 or more, D of 2 or more.

    Returns:
        The images' places `(N, 2)`, and the share of all variance that each of the two axes holds, `(2,)`.

    Example:
        >>> pca_plane(np.array([[0.0, 0.0], [2.0, 0.0], [4.0, 0.0]]))[1].tolist()
        [1.0, 0.0]
    """
    pca = PCA(2, random_state=0)
    return pca.fit_transform(features), pca.explained_variance_ratio_


def tsne_plane(features: Array, seed: int = 0) -> Array:
    """t-SNE (van der Maaten and Hinton 2008, https://jmlr.org/papers/v9/vandermaaten08a.html).

    Near places mean near features; distances between far groups mean nothing.

    Args:
        features: `(N, D)`, N of 4 or more.
        seed: equal seeds give equal planes.

    Returns:
        Places `(N, 2)`.

    Example:
        >>> tsne_plane(np.random.default_rng(0).random((10, 3))).shape
        (10, 2)
    """
    reduced = PCA(min(COMPONENTS, *features.shape), random_state=seed).fit_transform(features)
    perplexity = min(30.0, (len(features) - 1) / 3)
    return TSNE(perplexity=perplexity, init="pca", random_state=seed).fit_transform(reduced)


def domain_probe(first: Array, second: Array, folds: int = 5, seed: int = 0) -> tuple[float, float]:
    """How often a linear classifier tells which of two sets an image is from (logistic regression, cross-validated).

    Args:
        first: features `(N, D)`.
        second: features `(M, D)`.
        folds: parts of the cross-validation.
        seed: of the parts.

    Returns:
        The accuracy on held-out images, and that of always naming the larger set.

    Raises:
        UserError: a set has fewer images than there are folds.

    Example:
        >>> domain_probe(np.arange(20.0)[:, None], np.arange(100.0, 120.0)[:, None])
        (1.0, 0.5)
    """
    if min(len(first), len(second)) < folds:
        raise UserError(
            f"The linear probe needs {folds} images of each source: there are {len(first)} and {len(second)}."
        )
    features, domain = np.concatenate([first, second]), np.repeat([0, 1], [len(first), len(second)])
    probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=500, C=0.01))
    parts = StratifiedKFold(folds, shuffle=True, random_state=seed)
    return float(cross_val_score(probe, features, domain, cv=parts).mean()), float(
        max(domain.mean(), 1 - domain.mean())
    )


def nearest(features: Array, query: int, k: int) -> tuple[Array, Array]:
    """The nearest neighbours of an image by cosine similarity.

    Args:
        features: `(N, D)`.
        query: the row of the image, which is no neighbour of itself.
        k: how many; all others when there are fewer.

    Returns:
        Rows `(k,)`, the nearest first, and their similarities in [-1, 1].

    Example:
        >>> nearest(np.array([[1.0, 0.0], [0.0, 1.0], [2.0, 0.1]]), query=0, k=1)[0].tolist()
        [2]
    """
    unit = normalize(features)
    similarity = unit @ unit[query]
    order = np.argsort(-similarity, kind="stable")
    rows = order[order != query][:k]
    return rows, similarity[rows]

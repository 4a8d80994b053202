"""Null models of a path: which property of its steps makes it rough?

The inner products of a path's steps determine its distances. So we can change one property of the steps and get the
distances of the new path, without any coordinates.
"""

import numpy as np

from loupe.topology.distances import checked_distances


def step_gram(distances):
    r"""Inner products of the steps of a path, from the distances between its points.

    With :math:`s_a=x_{a+1}-x_a`, the mixed second difference of squared distances is
    :math:`-2\,\langle s_a,s_b\rangle`.

    Parameters
    ----------
    distances : array, shape (n, n)
        Euclidean, rows in the order of time.

    Returns
    -------
    numpy.ndarray, shape (n - 1, n - 1), float64
    """
    squares = checked_distances(None, distances) ** 2
    return -np.diff(np.diff(squares, axis=0), axis=1) / 2


def path_distances(gram):
    """Distances between the points of a path whose steps have the given inner products.

    Parameters
    ----------
    gram : numpy.ndarray, shape (n - 1, n - 1)

    Returns
    -------
    numpy.ndarray, shape (n, n), float64
    """
    positions = np.pad(gram.cumsum(axis=0).cumsum(axis=1), ((1, 0), (1, 0)))
    norms = positions.diagonal()
    squares = norms[:, None] + norms - positions - positions.T
    np.fill_diagonal(squares, 0)
    return np.sqrt(np.maximum(squares, 0))


def surrogate_paths(distances, rng):
    """Paths that share one property with a given path and are random or regular in the others.

    Parameters
    ----------
    distances : array, shape (n, n)
        Euclidean, rows in the order of time.
    rng : numpy.random.Generator or int
        Draws the order of the shuffled steps; or a seed.

    Returns
    -------
    dict of str to numpy.ndarray, shape (n, n)
        ``same directions, equal lengths``; ``same lengths, orthogonal directions``; ``orthogonal, equal lengths``
        (a random walk in so many dimensions that all steps are orthogonal); ``same steps, shuffled``.
    """
    gram = step_gram(distances)
    lengths = np.sqrt(np.maximum(gram.diagonal(), 0))
    unit = np.divide(1, lengths, out=np.zeros_like(lengths), where=lengths > 0)
    order = np.random.default_rng(rng).permutation(len(gram))
    grams = {
        "same directions, equal lengths": gram * unit[:, None] * unit,
        "same lengths, orthogonal directions": np.diag(lengths**2),
        "orthogonal, equal lengths": np.eye(len(gram)),
        "same steps, shuffled": gram[np.ix_(order, order)],
    }
    return {name: path_distances(changed) for name, changed in grams.items()}

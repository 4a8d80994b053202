r"""The magnitude of a finite metric space: its effective number of points at a given scale.

The similarity of two points at scale :math:`s` is :math:`e^{-s\,d}`. Weights :math:`\beta` that solve
:math:`e^{-sD}\beta=1` give each point a total similarity of 1, and their sum is the magnitude: near 1 at scales so
small that all points look like one, near the number of points at scales that separate them all.
"""

import numpy as np

from loupe.topology.distances import checked_distances

# Points nearer than this, in units of 1 / scale, count as one: float64 would not determine their separate weights, and
# together they add no more than this to the magnitude.
TOGETHER = 1e-12

# Largest deviation of similarity @ weights from 1 that is accepted as a solution.
SOLVED = 1e-6


def magnitude_weights(distances, scale):
    r"""Weights :math:`\beta` with :math:`\sum_j e^{-s\,d_{ij}}\beta_j=1` at every point.

    Parameters
    ----------
    distances : array, shape (n, n)
        Of at least two points. Points at distance zero, or below rounding at this scale, count as one and share
        its weight equally.
    scale : float
        The factor :math:`s`, positive, per unit of distance. Andreeva et al. (2024) take :math:`\sqrt n` with n
        the number of training examples.

    Returns
    -------
    numpy.ndarray, shape (n,), float64
        Some may be negative.

    Raises
    ------
    ValueError
        If the distances or the scale are not valid, or the similarities are singular: no weights solve them.

    Notes
    -----
    Similarities of Euclidean and of :func:`loss_distances` are positive definite: one Cholesky factorization,
    :math:`n^3/3` multiply-adds. Where that fails, as it may for other metrics, a symmetric solver takes over.

    Examples
    --------
    >>> magnitude_weights([[0, 50, 50], [50, 0, 0], [50, 0, 0]], scale=1.0).round(6).tolist()
    [1.0, 0.5, 0.5]
    """
    from scipy.sparse.csgraph import connected_components

    distances = checked_distances(None, distances)
    if not (np.isfinite(scale) and scale > 0):
        raise ValueError(f"scale must be a positive number, got {scale}")
    _, place = connected_components(scale * distances <= TOGETHER, directed=False)
    _, first, multiplicity = np.unique(place, return_index=True, return_counts=True)
    weights = solved_weights(np.exp(-scale * distances[np.ix_(first, first)]))
    return (weights / multiplicity)[place]


def magnitude(distances, scale):
    r"""Magnitude :math:`\sum_i\beta_i` of a finite metric space at a scale.

    Parameters and errors are those of :func:`magnitude_weights`.

    Returns
    -------
    float

    Examples
    --------
    >>> round(magnitude([[0, 1], [1, 0]], scale=np.log(3)), 12)  # 2 / (1 + exp(-scale * distance))
    1.5
    """
    return float(magnitude_weights(distances, scale).sum())


def positive_magnitude(distances, scale):
    r"""Positive magnitude :math:`\sum_i\max(0,\beta_i)` (Andreeva et al. 2024).

    Parameters and errors are those of :func:`magnitude_weights`.

    Returns
    -------
    float

    Examples
    --------
    >>> round(positive_magnitude([[0, 1], [1, 0]], scale=np.log(3)), 12)
    1.5
    """
    return float(np.maximum(magnitude_weights(distances, scale), 0).sum())


def solved_weights(similarity):
    """Solution (n,) of a symmetric similarity matrix (n, n) against ones; ValueError if it is not accurate."""
    from scipy.linalg import LinAlgError, cho_factor, cho_solve, lapack

    ones = np.ones(len(similarity))
    try:
        weights = cho_solve(cho_factor(similarity, lower=True), ones)
    except LinAlgError:
        _, _, weights, _ = lapack.dsysv(similarity, ones, lower=True)
    with np.errstate(invalid="ignore", over="ignore"):  # a singular matrix may leave infinities
        solved = np.abs(similarity @ weights - 1).max() <= SOLVED
    if not solved:
        raise ValueError(
            f"no weights solve the similarities of these {len(similarity)} points, which are singular: "
            "choose another scale"
        )
    return weights

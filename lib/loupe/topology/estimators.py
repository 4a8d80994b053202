"""Four other estimators of intrinsic dimension, for comparison.

Each needs only the distance matrix, so one matrix is enough for all of them, whatever the ambient dimension. They agree
with scikit-dimension, which the tests check; that package builds nearest-neighbor trees on the raw coordinates and
takes seconds to import.
"""

import numpy as np

from loupe.checks import whole
from loupe.topology.distances import checked_distances


def two_nn(points=None, *, distances=None):
    r"""TwoNN dimension (Facco et al. 2017), from the ratio of second to first neighbor distances.

    On a :math:`d`-dimensional set the ratio :math:`\mu=r_2/r_1` has distribution :math:`F(\mu)=1-\mu^{-d}`;
    :math:`d` is the slope of :math:`-\log(1-F)` on :math:`\log\mu` through the origin, without the largest
    tenth of the ratios.

    Parameters
    ----------
    points : array or torch.Tensor, shape (n, d), optional
    distances : array, shape (n, n), optional
        Instead of points. Duplicate points count once.

    Returns
    -------
    float

    Raises
    ------
    ValueError
        For points or distances that are not valid, or fewer than three different points.
    """
    nearest = neighbor_distances(points, distances, k=2)
    log_ratio = np.sort(np.log(nearest[:, 1] / nearest[:, 0]))
    kept = int(0.9 * len(log_ratio))
    log_tail = -np.log1p(-np.arange(1, kept + 1) / len(log_ratio))
    return float(log_ratio[:kept] @ log_tail / (log_ratio[:kept] @ log_ratio[:kept]))


def mle_dimension(points=None, *, distances=None, k=10):
    r"""Maximum-likelihood dimension (Levina and Bickel 2004), averaged as MacKay and Ghahramani propose.

    The inverse dimension at a point is the mean of :math:`\log(r_k/r_j)` over :math:`j<k`; inverses are
    averaged.

    Parameters
    ----------
    points : array or torch.Tensor, shape (n, d), optional
    distances : array, shape (n, n), optional
        Instead of points. Duplicate points count once.
    k : int
        Number of neighbors, at least 2.

    Returns
    -------
    float

    Raises
    ------
    ValueError
        For points or distances that are not valid, k below 2, or no more than k different points.
    """
    k = whole("k", k, 2)
    nearest = neighbor_distances(points, distances, k)
    inverse = np.log(nearest[:, -1:] / nearest[:, :-1]).mean(axis=1)
    return float(1 / inverse.mean())


def correlation_dimension(points=None, *, distances=None):
    r"""Correlation dimension (Grassberger and Procaccia 1983) between two scales.

    The fraction of pairs closer than :math:`r` grows as :math:`r^d`; the slope is taken between the medians
    of the 10th and 20th neighbor distances.

    Parameters
    ----------
    points : array or torch.Tensor, shape (n, d), optional
    distances : array, shape (n, n), optional
        Instead of points. Duplicate points count once.

    Returns
    -------
    float

    Raises
    ------
    ValueError
        For points or distances that are not valid, or no more than 20 different points.
    """
    distances = without_duplicates(checked_distances(points, distances))
    nearest = neighbor_distances(None, distances, k=20)
    radii = np.median(nearest[:, [9, 19]], axis=0)
    pairs = [np.count_nonzero(distances < radius) - len(distances) for radius in radii]
    return float(np.diff(np.log(pairs))[0] / np.diff(np.log(radii))[0])


def pca_dimension(points=None, *, distances=None, variance=0.95):
    r"""Number of principal components that hold a given share of the variance.

    The spectrum of the covariance is that of :math:`-\frac12JD^{\circ2}J`, the doubly centered squared
    distances, so the ambient dimension does not enter the cost.

    Parameters
    ----------
    points : array or torch.Tensor, shape (n, d), optional
    distances : array, shape (n, n), optional
        Instead of points; Euclidean.
    variance : float
        Share of the variance to keep, in (0, 1).

    Returns
    -------
    float
        A whole number.

    Raises
    ------
    ValueError
        For points or distances that are not valid, or a variance outside (0, 1).
    """
    if not 0 < variance < 1:
        raise ValueError(f"variance must be between 0 and 1, got {variance}")
    squares = checked_distances(points, distances) ** 2
    means = squares.mean(axis=0)
    spectrum = np.linalg.eigvalsh(-(squares - means - means[:, None] + means.mean()) / 2)[::-1]
    explained = np.cumsum(np.maximum(spectrum, 0))
    return float(np.searchsorted(explained, variance * explained[-1]) + 1)


def neighbor_distances(points, distances, k):
    """Distances (m, k) of each of m different points to its k nearest others, in increasing order."""
    distances = without_duplicates(checked_distances(points, distances))
    if len(distances) <= k:
        raise ValueError(f"need more than {k} different points, got {len(distances)}")
    return np.sort(np.partition(distances, k, axis=1)[:, : k + 1], axis=1)[:, 1:]


def without_duplicates(distances):
    """The rows and columns of a distance matrix (n, n) that have no zero distance to an earlier point."""
    first = ~np.triu(distances == 0, k=1).any(axis=0)
    return distances if first.all() else distances[np.ix_(first, first)]


ESTIMATORS = {
    "TwoNN": two_nn,
    "MLE (k = 10)": mle_dimension,
    "correlation": correlation_dimension,
    "PCA (95 %)": pca_dimension,
}

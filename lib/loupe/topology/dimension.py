"""The persistent-homology dimension, from the growth of lifetime sums with the number of points."""

import math
import warnings
from dataclasses import dataclass

import numpy as np

from loupe.checks import unmasked, whole
from loupe.topology.distances import checked_distances, is_tensor
from loupe.topology.estimators import without_duplicates
from loupe.topology.persistence import check_alpha
from loupe.topology.trees import lifetimes_of

BOOTSTRAP_SAMPLES = 200

SIZES = range(200, 1000, 50)  # as published

# Subsets larger than this share of a path leave regular gaps in time, and the estimate rises.
EXHAUSTED = 0.5

# Within this fraction of alpha the sum may be saturated: sets full of gaps, of any dimension below alpha, end up here.
SATURATION = 0.02


@dataclass(frozen=True, eq=False, repr=False)
class DimensionEstimate:
    """What :func:`ph_dimension` found, with all that the figures need.

    Attributes
    ----------
    dimension : float
        The estimate; nan where the slope is not below 1.
    standard_error : float
        Bootstrap over repeats: the error of drawing subsets, not of drawing the cloud. nan for one repeat.
    slope, intercept : float
        Of the line through ``log(lifetime_sums.mean(axis=1))`` against ``log(sizes)``.
    residual : float
        Mean squared deviation from that line.
    sizes : numpy.ndarray of int, shape (s,)
    lifetime_sums : numpy.ndarray, shape (s, repeats), float64
    alpha : float
    """

    dimension: float
    standard_error: float
    slope: float
    intercept: float
    residual: float
    sizes: np.ndarray
    lifetime_sums: np.ndarray
    alpha: float

    def __repr__(self):
        error = "" if math.isnan(self.standard_error) else f" ± {self.standard_error:.2g}"
        return (
            f"DimensionEstimate({self.dimension:.4g}{error}, alpha={self.alpha:g}, slope={self.slope:.4g}, "
            f"sizes={self.sizes[0]}..{self.sizes[-1]}, repeats={self.lifetime_sums.shape[1]})"
        )


def ph_dimension(
    points=None, *, distances=None, alpha=1.0, sizes=SIZES, repeats=10, seed=0, legacy_seed=None
):
    r"""Persistent-homology dimension of a point set (Algorithm 1 of the paper).

    The lifetime sum of :math:`n` points of a :math:`d`-dimensional set grows as :math:`n^{(d-\alpha)/d}`;
    with :math:`m` the slope of :math:`\log E_\alpha` on :math:`\log n`, the dimension is
    :math:`\alpha/(1-m)`.

    Parameters
    ----------
    points : array or torch.Tensor, shape (n, d), optional
    distances : array, shape (n, n), optional
        Instead of points, in any metric.
    alpha : float
        Power of the lifetimes; must be below the true dimension.
    sizes : sequence of int
        Subset sizes, increasing, at least three; by default those published, for clouds of a thousand points or more.
    repeats : int
        Subsets drawn of each size. Their lifetime sums are averaged before the logarithm.
    seed : int or numpy.random.Generator
        Draws the subsets and the bootstrap.
    legacy_seed : int, optional
        Follow the published protocol exactly: one subset for each size, in the order of sizes, drawn by
        ``numpy.random.RandomState(legacy_seed).choice``. Then ``repeats`` and ``seed`` are not used.

    Returns
    -------
    DimensionEstimate

    Raises
    ------
    ValueError
        If there are fewer points than the largest size, fewer than three sizes, repeats or alpha are not
        positive, all lifetimes are zero, or the points or distances are not valid.
    TypeError
        If a tensor requires a gradient: use :func:`differentiable_ph_dimension`.

    Warns
    -----
    UserWarning
        If the slope is not below 1 (the dimension is then nan), or alpha is not clearly below the estimate:
        on a set full of gaps the sum then tends to a constant, and the formula returns alpha whatever the set.
        If points are duplicated: they count in sizes but have lifetime zero, so the estimate is too low. If default
        sizes use more than half of the points of a path.

    Notes
    -----
    With a thousand points the estimate is too low beyond about four dimensions. On evenly timed points of a path it is
    too high when the largest subsets take nearly all points: small subsets then leave irregular gaps in time, large
    ones regular gaps.

    Examples
    --------
    >>> square = np.random.default_rng(0).random((1000, 2))
    >>> round(ph_dimension(square).dimension)
    2

    The iterates of your own training loop, one row after each step:

    >>> import torch
    >>> network = torch.nn.Linear(5, 1)
    >>> optimiser, path = torch.optim.SGD(network.parameters(), lr=0.1), []
    >>> for x in torch.randn(400, 8, 5):
    ...     optimiser.zero_grad()
    ...     (network(x) - x.sum(1, keepdim=True) - torch.randn(8, 1)).square().mean().backward()
    ...     optimiser.step()
    ...     path.append(torch.nn.utils.parameters_to_vector(network.parameters()).detach())
    >>> 1 < ph_dimension(torch.stack(path[100:]), sizes=range(30, 150, 10)).dimension < 6
    True
    """
    if any(is_tensor(given) and given.requires_grad for given in (points, distances)):
        raise TypeError(
            "ph_dimension carries no gradient: use differentiable_ph_dimension, or pass tensor.detach()"
        )
    check_alpha(alpha)
    distances = checked_distances(points, distances)
    published, sizes = sizes is SIZES, checked_sizes(sizes, len(distances))
    repeats = whole("repeats", repeats)

    if legacy_seed is None:
        rng = np.random.default_rng(seed)
    else:
        rng, repeats = np.random.RandomState(whole("legacy_seed", legacy_seed, 0)), 1
    sums = subset_sums(distances, sizes, repeats, alpha, rng)
    estimate = estimate_from_sums(sizes, sums, alpha, rng)
    warn_of_points(distances, sizes, published)
    return estimate


def warn_of_points(distances, sizes, published):
    """Warn about duplicate points, and about a path that the published sizes use up."""
    n = len(distances)
    if np.count_nonzero(distances) < n * (n - 1):
        different = len(without_duplicates(distances))
        warnings.warn(
            f"{n} points lie at {different} different places, and repeats make the dimension too low: leave them out",
            stacklevel=3,
        )
    elif published and sizes[-1] > EXHAUSTED * n and lies_along_path(distances):
        warnings.warn(
            f"the default sizes take up to {sizes[-1]} of {n} points along a path, and its dimension comes out too high: "
            f"record more iterates or pass sizes up to {int(EXHAUSTED * n)}",
            stacklevel=3,
        )


def lies_along_path(distances):
    """Whether the nearest neighbor of most points is the previous or the next point."""
    steps = np.pad(distances.diagonal(1), 1, constant_values=np.inf)
    next_to = np.minimum(steps[1:], steps[:-1])
    return np.mean(np.count_nonzero(distances < next_to[:, None], axis=1) <= 1) > 0.5


def subset_sums(distances, sizes, repeats, alpha, rng):
    r"""Lifetime sums :math:`E_\alpha` of random subsets, drawn without replacement.

    Parameters
    ----------
    distances : numpy.ndarray, shape (n, n)
        A valid distance matrix; subsets use parts of it, so no distance is computed twice.
    sizes : numpy.ndarray of int, shape (s,)
    repeats : int
        Subsets of each size.
    alpha : float
    rng : numpy.random.Generator or numpy.random.RandomState

    Returns
    -------
    numpy.ndarray, shape (s, repeats), float64
    """
    sums = np.empty((len(sizes), repeats))
    for i, j in np.ndindex(*sums.shape):
        subset = rng.choice(len(distances), size=sizes[i], replace=False)
        sums[i, j] = (lifetimes_of(submatrix(distances, subset)) ** alpha).sum()
    return sums


def submatrix(distances, subset):
    """Distances (m, m) among a subset of points, in increasing order of index, which reads memory faster."""
    subset = np.sort(subset)
    return distances.take(subset, axis=0).take(subset, axis=1)


def estimate_from_sums(sizes, lifetime_sums, alpha, rng):
    """Fit the power law and invert its slope; warn where the result is unreliable.

    Parameters
    ----------
    sizes : numpy.ndarray of int, shape (s,)
    lifetime_sums : numpy.ndarray, shape (s, repeats)
    alpha : float
    rng : numpy.random.Generator or numpy.random.RandomState
        For the bootstrap.

    Returns
    -------
    DimensionEstimate

    Raises
    ------
    ValueError
        If all lifetimes of some size are zero.
    """
    means = lifetime_sums.mean(axis=1)
    if not means.all():
        raise ValueError(
            f"all lifetimes are zero in subsets of {sizes[np.argmin(means)]} points: they are identical"
        )
    slope, intercept, residual = fit_power_law(sizes, means)
    dimension = float(dimension_from_slope(slope, alpha))
    if math.isnan(dimension):
        warnings.warn(
            f"the slope {slope:.3g} is not below 1: these points have no dimension to report", stacklevel=3
        )
    elif dimension <= (1 + SATURATION) * alpha:
        warnings.warn(
            f"alpha is not below the estimated dimension ({alpha:g}, {dimension:.3g}): try a smaller alpha",
            stacklevel=3,
        )
    error = bootstrap_error(sizes, lifetime_sums, alpha, rng)
    return DimensionEstimate(
        dimension, error, float(slope), float(intercept), float(residual), sizes, lifetime_sums, float(alpha)
    )


def fit_power_law(sizes, sums):
    r"""Least-squares line :math:`\log E = m \log n + b` through one or many series of lifetime sums.

    Parameters
    ----------
    sizes : array, shape (s,)
    sums : array, shape (..., s)
        Positive.

    Returns
    -------
    slope, intercept, residual : numpy.ndarray, shape (...)
        :math:`m`, :math:`b` and the mean squared deviation.

    Examples
    --------
    >>> slope, intercept, residual = fit_power_law([1, 2, 4], [3, 6, 12])
    >>> round(float(slope), 12)
    1.0
    """
    log_n, log_e = np.log(sizes), np.log(sums)
    centered = log_n - log_n.mean()
    slope = log_e @ centered / (centered @ centered)
    intercept = log_e.mean(axis=-1) - slope * log_n.mean()
    deviation = log_e - slope[..., None] * log_n - intercept[..., None]
    return slope, intercept, (deviation**2).mean(axis=-1)


def dimension_from_slope(slope, alpha):
    r"""The dimension :math:`\alpha/(1-m)` for which :math:`m=(d-\alpha)/d`; nan where :math:`m\ge1`."""
    slope = np.asarray(slope, dtype=np.float64)
    return alpha / np.where(slope < 1, 1 - slope, np.nan)


def bootstrap_error(sizes, lifetime_sums, alpha, rng):
    """Standard error of the dimension, by resampling the repeats of each size with replacement.

    Shapes as in :class:`DimensionEstimate`; nan for one repeat, and where a redrawn slope is not below 1.
    """
    s, repeats = lifetime_sums.shape
    if repeats == 1:
        return math.nan
    drawn = np.floor(rng.random((BOOTSTRAP_SAMPLES, s, repeats)) * repeats).astype(np.intp)
    means = np.take_along_axis(lifetime_sums[None], drawn, axis=2).mean(axis=2)
    dimensions = dimension_from_slope(fit_power_law(sizes, means)[0], alpha)
    shrinkage = math.sqrt((repeats - 1) / repeats)  # a bootstrap over few repeats underestimates the spread
    return float(dimensions.std() / shrinkage)


def checked_sizes(sizes, n_points):
    """Subset sizes as an integer array (s,); ValueError if there are too few points."""
    given = np.asarray(unmasked("sizes", sizes))
    # int64 before subtraction: differences of unsigned numbers are never negative.
    sizes = given.astype(np.int64) if given.dtype.kind in "iu" else None
    if sizes is None or sizes.ndim != 1 or len(sizes) < 3 or np.diff(sizes).min() <= 0:
        raise ValueError(f"sizes must be at least 3 increasing integers, got {given.tolist()}")
    if sizes[0] < 2:
        raise ValueError(f"sizes must be at least 2, as one point has no lifetime; got {sizes[0]}")
    if sizes[-1] > n_points:
        raise ValueError(
            f"need at least {sizes[-1]} points, got {n_points}: pass smaller sizes or more points"
        )
    return sizes

"""The Fréchet mean as a function that networks can be trained through, on every manifold of this package.

Lou et al. 2020: the mean has no closed form in hyperbolic space, but a solver without a step size (section 4), and a
derivative by the implicit function theorem (section 3) that needs none of the solver's iterations. Here the solver is
the paper's, started at the Einstein midpoint and recentered there (:mod:`loupe.geometry.unit_ball`); Newton's method
finishes the few means that have not converged after sixteen iterations. The derivative needs its Hessian anyway.
"""

import warnings

import torch

from loupe.checks import edge_list, whole
from loupe.derivatives import readable
from loupe.geometry.base import Manifold, full
from loupe.geometry.groups import Batch, Segments
from loupe.geometry.hyperbolic import PoincareBall

TOLERANCES = {torch.float64: 1e-12, torch.float32: 1e-6}
"""Default tolerances, as lengths in units of the curvature radius."""

_BALL = PoincareBall()


def frechet_mean(
    points: torch.Tensor,
    weights: torch.Tensor | None = None,
    manifold: Manifold = _BALL,
    *,
    start: torch.Tensor | None = None,
    max_iterations: int = 1000,
    tolerance: float | None = None,
) -> torch.Tensor:
    """The point with the least weighted sum of squared distances to given points; differentiable.

    It is differentiable in points, weights and curvature, by the implicit function theorem. On the hyperboloid, where
    points may leave the manifold, gradients are those of ``arcosh(K <x, y>_L) / sqrt(-K)``; project them with
    ``to_tangent`` for Riemannian ones.

    Parameters
    ----------
    points : torch.Tensor, shape (..., n, d)
        Points of the manifold. Half precision is computed and returned in float32.
    weights : torch.Tensor, shape (..., n), optional
        At least 0, and not all 0; they need not sum to 1. Equal weights by default. Broadcast over leading axes.
    manifold : Manifold
        :class:`~loupe.geometry.PoincareBall` (the default, of curvature -1), :class:`~loupe.geometry.Hyperboloid`,
        :class:`~loupe.geometry.Euclidean`, or :class:`~loupe.geometry.Sphere`, where the points must lie in an open
        hemisphere. A curvature may be one number, or one for each mean.
    start : torch.Tensor, shape (..., d), optional
        Where the solver starts, such as the mean of the previous epoch.
    max_iterations : int
    tolerance : float, optional
        Tolerance for the estimated error of the mean, a length in units of the curvature radius; by default 1e-12 in
        float64, 1e-6 in float32.

    Returns
    -------
    torch.Tensor, shape (..., d)

    Raises
    ------
    ValueError
        If shapes do not match, there are no points, a point is off the manifold, or weights are negative, not finite
        or all 0.

    Warns
    -----
    RuntimeWarning
        If the tolerance was not reached; the mean is returned anyway. Also if float32 points are so close to the
        boundary of the ball that few digits are left.

    Examples
    --------
    >>> points = torch.tensor([[0.0, 0.0], [0.8, 0.0]])
    >>> frechet_mean(points)
    tensor([0.5000, 0.0000])
    """
    points, weights = _checked(points, weights, manifold)
    lead, (n, d) = points.shape[:-2], points.shape[-2:]
    if start is not None:
        start = _checked_start(start, (*lead, d), points, manifold).reshape(-1, d)
    K = getattr(manifold, "curvature", None)
    if isinstance(K, torch.Tensor) and K.dim():
        manifold = type(manifold)(K.expand(lead).reshape(-1))
    found = _mean(
        Batch(), points.reshape(-1, n, d), weights.reshape(-1, n), manifold, start, max_iterations, tolerance
    )
    return found.reshape(*lead, d)


def frechet_variance(
    points: torch.Tensor,
    weights: torch.Tensor | None = None,
    manifold: Manifold = _BALL,
    *,
    mean: torch.Tensor | None = None,
    **options,
) -> torch.Tensor:
    """The weighted mean of squared distances to the Fréchet mean; differentiable.

    Parameters
    ----------
    points : torch.Tensor, shape (..., n, d)
    weights : torch.Tensor, shape (..., n), optional
    manifold : Manifold
    mean : torch.Tensor, shape (..., d), optional
        The Fréchet mean, if it is already known.
    **options
        As for :func:`frechet_mean`.

    Returns
    -------
    torch.Tensor, shape (...)
    """
    if mean is None:
        mean = frechet_mean(points, weights, manifold, **options)
    points, weights = _checked(points, weights, manifold)
    squares = manifold.beside().squared_dist(mean.unsqueeze(-2), points)
    return (weights * squares).sum(-1) / weights.sum(-1)


def graph_frechet_mean(
    points: torch.Tensor,
    edges: torch.Tensor,
    weights: torch.Tensor | None = None,
    manifold: Manifold = _BALL,
    *,
    start: torch.Tensor | None = None,
    max_iterations: int = 1000,
    tolerance: float | None = None,
) -> torch.Tensor:
    """For each node of a graph, the Fréchet mean of the points at the sources of its incoming edges.

    There is no padding: the work is proportional to the number of edges. A node without incoming edges keeps its own
    point. Differentiable, like :func:`frechet_mean`.

    Parameters
    ----------
    points : torch.Tensor, shape (N, d)
        One point of the manifold at each node.
    edges : torch.Tensor of int64, shape (2, E)
        Source and destination of each edge, in any order; fastest if sorted by destination. A self loop makes a
        node count in its own mean.
    weights : torch.Tensor, shape (E,), optional
    manifold : Manifold
    start : torch.Tensor, shape (N, d), optional
    max_iterations, tolerance
        As for :func:`frechet_mean`.

    Returns
    -------
    torch.Tensor, shape (N, d)

    Raises
    ------
    ValueError
        As for :func:`frechet_mean`, and if an edge names a node that is not there.
    """
    if _tensor(points).dim() != 2:
        raise ValueError(f"points must have shape (N, d), one for each node, got {tuple(points.shape)}")
    if manifold.beside() is not manifold:
        raise ValueError(f"means on graphs take one curvature, got {manifold!r}: use frechet_mean")
    nodes = len(points)
    source, owner = edge_list(edges, nodes, axis=0)
    points, weights = _checked_weights(full(points), weights, source.shape)
    if not readable(points, weights):
        raise ValueError("means on graphs do not work under vmap or torch.compile: use frechet_mean")
    manifold.check(points.detach())
    alone = torch.bincount(owner, minlength=nodes) == 0
    if alone.any():
        nobody = alone.nonzero().squeeze(1)
        source, owner = torch.cat([source, nobody]), torch.cat([owner, nobody])
        weights = torch.cat([weights, weights.new_ones(len(nobody))])
    if (owner.diff() < 0).any():
        order = owner.argsort(stable=True)
        source, owner, weights = source[order], owner[order], weights[order]
    groups = Segments(owner, nodes)
    _check_totals(groups.total(weights.detach()), "node")
    if start is not None:
        start = _checked_start(start, points.shape, points, manifold)
    return _mean(groups, points.index_select(0, source), weights, manifold, start, max_iterations, tolerance)


def _tensor(points):
    if not isinstance(points, torch.Tensor):
        raise ValueError(
            f"points must be a tensor, got {type(points).__name__}: convert it with torch.as_tensor"
        )
    return points


def _checked(points, weights, manifold):
    if _tensor(points).dim() < 2:
        raise ValueError(f"points must have shape (..., n, d), got {tuple(points.shape)}")
    if points.shape[-2] == 0:
        raise ValueError(f"a mean needs at least one point, got points of shape {tuple(points.shape)}")
    points = full(points)
    points, weights = _checked_weights(points, weights, points.shape[:-1])
    each = manifold.beside()
    if not readable(points, weights, getattr(manifold, "curvature", None)):
        (points,) = each.sound(points)
        return points, torch.where((weights >= 0) & (weights < torch.inf), weights, torch.nan)
    each.check(points.detach())
    _check_totals(weights.detach().sum(-1), "element")
    return points, weights


def _checked_weights(points, weights, shape):
    if not points.is_floating_point():
        raise ValueError(f"points must be floating-point numbers, got {points.dtype}")
    if weights is None:
        return points, points.new_ones(shape)
    weights = weights.to(points.dtype)
    try:
        weights = weights.expand(shape)
    except RuntimeError:
        raise ValueError(
            f"weights must have shape {tuple(shape)}, one for each of points {tuple(points.shape)}, "
            f"got {tuple(weights.shape)}"
        ) from None
    if not readable(weights):
        return points, weights
    low, high = weights.detach().aminmax() if weights.numel() else (0, 0)
    if not (low >= 0 and high < torch.inf):
        index = tuple((~((weights >= 0) & (weights < torch.inf))).nonzero()[0].tolist())
        raise ValueError(
            f"weights must be at least 0 and finite, got {weights[index].item():g} at index {index}"
        )
    return points, weights


def _check_totals(totals, what):
    empty = totals == 0
    if empty.any():
        index = tuple(empty.nonzero()[0].tolist())
        raise ValueError(f"weights must not all be 0, but they are for {what} {index}")


def _checked_start(start, shape, points, manifold):
    if tuple(start.shape) != tuple(shape):
        raise ValueError(f"start must have shape {tuple(shape)}, got {tuple(start.shape)}")
    start = start.detach().to(points)
    if readable(start):
        manifold.check(start)
    return start


def _mean(groups, points, weights, manifold, start, max_iterations, tolerance):
    max_iterations = whole("max_iterations", max_iterations)
    tolerance = TOLERANCES[points.dtype] if tolerance is None else tolerance
    limits = {"tolerance": tolerance, "max_iterations": max_iterations}
    with torch.autocast(points.device.type, enabled=False):
        found, error = manifold.mean(groups, points, weights, start, **limits)
    if readable(error) and not (error <= tolerance).all():
        warnings.warn(
            f"the Fréchet mean has an estimated error of {error.max().item():.3g} after {max_iterations} iterations, "
            f"above the tolerance of {tolerance:g}: raise max_iterations or the tolerance",
            RuntimeWarning,
            stacklevel=3,
        )
    return found

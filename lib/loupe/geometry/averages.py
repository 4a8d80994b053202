"""Averages to compare with the Fréchet mean, and single steps of its solvers from the literature."""

import torch

from loupe.geometry.base import Manifold
from loupe.geometry.hyperbolic import Hyperboloid, PoincareBall, lorentz, to_ball, to_hyperboloid
from loupe.geometry.series import arsinh_ratio


def tangent_mean(points, weights=None, manifold=None):
    """The average in the tangent space of the origin, as HGCN takes it: close to the mean only near the origin.

    Parameters
    ----------
    points : torch.Tensor, shape (..., n, d)
    weights : torch.Tensor, shape (..., n), optional
    manifold : Manifold, optional
        The Poincaré ball of curvature -1 by default.

    Returns
    -------
    torch.Tensor, shape (..., d)
    """
    manifold = manifold or PoincareBall()
    origin = manifold.origin_like(points.select(-1 - manifold.ndim, 0))
    logs = manifold.log(origin.unsqueeze(-1 - manifold.ndim), points)
    return manifold.exp(origin, _average(logs, weights, manifold.ndim))


def einstein_midpoint(points, weights=None, manifold=None):
    """The weighted sum on the hyperboloid, scaled back onto it; also called Lorentz centroid.

    It minimizes the sum of ``cosh(sqrt(c) d)`` instead of ``d**2``.

    Parameters
    ----------
    points : torch.Tensor, shape (..., n, d)
        On the ball or on the hyperboloid.
    weights : torch.Tensor, shape (..., n), optional
    manifold : PoincareBall or Hyperboloid, optional
        The ball of curvature -1 by default.

    Returns
    -------
    torch.Tensor, shape (..., d)
    """
    manifold = manifold or PoincareBall()
    if isinstance(manifold, Hyperboloid):
        total = _average(points, weights)
        return total / (-manifold.c * lorentz(total, total)).sqrt()
    lifted = to_hyperboloid(points, manifold.curvature)
    middle = einstein_midpoint(lifted, weights, Hyperboloid(manifold.curvature))
    return to_ball(middle, manifold.curvature)


def ball_step(points, weights, mean, manifold):
    """One iteration of the paper's Algorithm 1, in the ball.

    ``d**2 = g(t) / c`` is concave in ``t = c |x - y|**2 / ((1 - c |x|**2) (1 - c |y|**2))``: its tangent at the current
    mean is an upper bound, and the sum of tangents has a closed-form minimum.

    Parameters
    ----------
    points : torch.Tensor, shape (..., n, d)
    weights : torch.Tensor, shape (..., n)
    mean : torch.Tensor, shape (..., d)
    manifold : PoincareBall

    Returns
    -------
    torch.Tensor, shape (..., d)
    """
    points, mean = manifold.sound(points, mean)
    K, c = manifold.curvature, manifold.c
    y = mean.unsqueeze(-2)
    room_x, room_y = 1 + K * points.square().sum(-1), 1 + K * y.square().sum(-1)
    t = c * (points - y).square().sum(-1) / (room_x * room_y)
    # g'(t) = 4 arsinh(sqrt t) / sqrt(t (1 + t))
    alpha = weights * 4 * arsinh_ratio(t) / room_x
    b = (alpha.unsqueeze(-1) * points).sum(-2)
    p = (alpha * (1 - K * points.square().sum(-1))).sum(-1, keepdim=True)
    q = b / p  # divide first: squares of large weights overflow
    # This form of the root also holds at the origin.
    return 2 * q / (1 + (1 + 4 * K * q.square().sum(-1, keepdim=True)).clamp_min(0).sqrt())


def hyperboloid_step(points, weights, mean, manifold):
    """One iteration of the paper's Algorithm 2: the same iteration as in the ball, on the hyperboloid.

    Parameters
    ----------
    points : torch.Tensor, shape (..., n, d + 1)
    weights : torch.Tensor, shape (..., n)
    mean : torch.Tensor, shape (..., d + 1)
    manifold : Hyperboloid

    Returns
    -------
    torch.Tensor, shape (..., d + 1)
    """
    points, mean = manifold.sound(points, mean)
    step = points - mean.unsqueeze(-2)
    t = (0.25 * manifold.c * lorentz(step, step)[..., 0]).clamp_min(0)
    total = _average(points, weights * arsinh_ratio(t))
    return total / (-manifold.c * lorentz(total, total)).sqrt()


def karcher_step(points, weights, mean, manifold):
    """One iteration of Karcher flow: average the logarithms, then map back to the manifold."""
    return gradient_step(points, weights, mean, manifold, 0.5)


def gradient_step(points, weights, mean, manifold, step):
    """One iteration of Riemannian gradient descent on the weighted mean of squared distances.

    Parameters
    ----------
    points : torch.Tensor, shape (..., n, d)
    weights : torch.Tensor, shape (..., n)
    mean : torch.Tensor, shape (..., d)
    manifold : Manifold
    step : float
        1/2 is Karcher flow.

    Returns
    -------
    torch.Tensor, shape (..., d)
    """
    axis = -1 - manifold.ndim
    descent = 2 * _average(manifold.log(mean.unsqueeze(axis), points), weights, manifold.ndim)
    return manifold.exp(mean, step * descent)


def karcher_flow(points, weights=None, manifold=None, *, start=None, iterations=100):
    """The Fréchet mean by Karcher flow from the first point; autograd differentiates through all iterations.

    It works on every manifold; points of matrix manifolds have shape ``(..., n, d, d)``.

    Parameters
    ----------
    points : torch.Tensor, shape (..., n, d)
    weights : torch.Tensor, shape (..., n), optional
    manifold : Manifold, optional
        The Poincaré ball of curvature -1 by default.
    start : torch.Tensor, shape (..., d), optional
    iterations : int

    Returns
    -------
    torch.Tensor, shape (..., d)
    """
    return riemannian_gradient_descent(
        points, weights, manifold, step=0.5, start=start, iterations=iterations
    )


def riemannian_gradient_descent(
    points, weights=None, manifold: Manifold | None = None, *, step=0.01, start=None, iterations=1000
):
    """The Fréchet mean by Riemannian gradient descent with a fixed step; otherwise like :func:`karcher_flow`."""
    manifold = manifold or PoincareBall()
    axis = -1 - manifold.ndim
    if weights is None:
        weights = torch.ones_like(points.flatten(axis + 1)[..., 0].real)
    mean = points.select(axis, 0) if start is None else start
    for _ in range(iterations):
        mean = gradient_step(points, weights, mean, manifold, step)
    return mean


def _average(vectors, weights, ndim=1):
    axis = -1 - ndim
    if weights is None:
        return vectors.mean(axis)
    total = weights.sum(-1)
    return (weights[(..., *[None] * ndim)] * vectors).sum(axis) / total[(..., *[None] * ndim)]

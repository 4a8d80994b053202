r"""The probability flow of a score on a manifold: samples and likelihoods.

In :math:`s=\log\sigma` the flow is :math:`\mathrm dx/\mathrm ds=-\sigma^2\nabla\log p_\sigma(x)`, whatever the schedule
([1]): its times are levels of noise. The base is the uniform distribution.

References
----------
.. [1] Lou et al., Scaling Riemannian Diffusion Models, 2023.
"""

import math
import warnings
from functools import partial

import torch

from loupe.checks import whole
from loupe.diffusion.riemannian.losses import _check_noise, _tangent
from loupe.geometry import SpecialOrthogonal, SpecialUnitary, Sphere, Torus


def probability_flow(score, manifold):
    """The flow's velocity, ``(x, log_sigma)`` to tangent vectors; ``log_sigma`` is one number.

    Parameters
    ----------
    score : callable
        ``(x, sigma)`` to vectors of the shape of ``x``, for sigma of shape (B,).
    manifold : Manifold
    """

    def velocity(x, log_sigma):
        sigma = torch.full(x.shape[: x.dim() - manifold.ndim], math.exp(log_sigma), dtype=torch.float64)
        return -math.exp(2 * log_sigma) * _tangent(score, manifold, x, sigma.to(x.device))

    return velocity


@torch.no_grad()
def sample(
    score, manifold, shape, *, sigma_min, sigma_max, steps=100, path=False, generator=None, start=None
):
    """Samples: uniform points that follow the flow back from ``sigma_max`` to ``sigma_min``.

    Parameters
    ----------
    score : callable
        ``(x, sigma)`` to vectors of the shape of ``x``, for sigma of shape (B,).
    manifold : Manifold
    shape : tuple of int
        That of the samples, which ends with that of a point.
    sigma_min, sigma_max : float
    steps : int
        Steps of the classical Runge-Kutta method, even in log sigma, of four evaluations each.
    path : bool
        Also return all steps, along a new first axis.
    generator : torch.Generator, optional
    start : torch.Tensor, optional
        Points at ``sigma_max`` instead of uniform ones.

    Returns
    -------
    torch.Tensor, shape ``shape``, or (steps + 1, *shape)

    Warns
    -----
    UserWarning
        If ``sigma_max`` leaves data far from uniform, and no start is given.
    """
    grid = _grid(sigma_min, sigma_max, steps)
    x = manifold.random(*shape, generator=generator) if start is None else start
    if start is None:
        _warn_unless_uniform(manifold, x, sigma_max)
    velocity, points = probability_flow(score, manifold), [x]
    for s, h in reversed(grid):
        points.append(_step(velocity, manifold, points[-1], s + h, -h)[0])
    return torch.stack(points) if path else points[-1]


@torch.no_grad()
def log_likelihood(score, x, manifold, *, sigma_min, sigma_max, steps=100, noise=None):
    """Log densities of points under the flow, relative to the measure of :class:`~loupe.diffusion.riemannian.HeatKernel`.

    Parameters
    ----------
    score : callable
        ``(x, sigma)`` to vectors of the shape of ``x``, for sigma of shape (B,), differentiable in ``x``.
    x : torch.Tensor, shape (B,) and that of a point
    manifold : Manifold
    sigma_min, sigma_max : float
        The density is that of the data after heat of ``sigma_min``.
    steps : int
        As in :func:`sample`.
    noise : torch.Tensor, shape (B, dimension), optional
        A noise vector for Hutchinson's estimate of the divergence, such as random signs; by default it is exact.

    Returns
    -------
    torch.Tensor, shape (B,)

    Raises
    ------
    RuntimeError
        If a log density is not finite; the message names the first such point.

    Warns
    -----
    UserWarning
        If ``sigma_max`` leaves the data far from uniform.
    """
    manifold.shaped(x)
    _check_noise(noise, manifold, x)
    _warn_unless_uniform(manifold, x, sigma_max)
    velocity = probability_flow(score, manifold)
    gain = x.new_zeros(x.shape[: x.dim() - manifold.ndim], dtype=x.dtype.to_real())
    for s, h in _grid(sigma_min, sigma_max, steps):
        x, change = _step(velocity, manifold, x, s, h, divergence=True, noise=noise)
        gain = gain + change
    # On SU(n) densities are relative to normalised Haar measure.
    log = gain if isinstance(manifold, SpecialUnitary) else gain - manifold.log_volume_like(x)
    bad = ~log.isfinite()
    if bad.any():
        raise RuntimeError(
            f"the log-likelihood of point {int(bad.nonzero()[0, 0])} is not finite: look at the score there"
        )
    return log


def _grid(sigma_min, sigma_max, steps):
    """Logs of sigma at the beginnings of even steps, and their length."""
    if not 0 < sigma_min < sigma_max < math.inf:
        raise ValueError(f"sigma_min must be positive and below sigma_max, got {sigma_min} and {sigma_max}")
    first = math.log(sigma_min)
    h = (math.log(sigma_max) - first) / whole("steps", steps)
    return [(first + k * h, h) for k in range(steps)]


def _step(velocity, manifold, x, s, h, divergence=False, noise=None):
    """One Runge-Kutta step in ambient space, put back on the manifold, and the gain of the log density."""
    slopes, gains, at = [], [], x
    for part in (0.0, 0.5, 0.5, 1.0):
        at = manifold.project(x + part * h * slopes[-1]) if slopes else x
        slopes.append(velocity(at, s + part * h))
        if divergence:
            gains.append(manifold.divergence(partial(velocity, log_sigma=s + part * h), at, noise))
    first, second, third, fourth = slopes
    x = manifold.project(x + h / 6 * (first + 2 * second + 2 * third + fourth))
    gain = h / 6 * (gains[0] + 2 * gains[1] + 2 * gains[2] + gains[3]) if divergence else None
    return x, gain


def _warn_unless_uniform(manifold, x, sigma_max):
    n = manifold.dimension_like(x)
    # The smallest eigenvalue of the Laplacian.
    gaps = {Torus: 1, Sphere: n, SpecialOrthogonal: 2, SpecialUnitary: n / (n + 1) ** 0.5}
    gap = gaps.get(type(manifold), math.inf)
    if gap * sigma_max**2 / 2 < 3:
        warnings.warn(
            f"at sigma_max = {sigma_max:g} the slowest mode is still at {math.exp(-gap * sigma_max**2 / 2):.2g} of its "
            "size, so the base is not uniform: take a larger one",
            stacklevel=3,
        )

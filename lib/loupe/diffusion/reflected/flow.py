"""The probability flow, an ODE with the same marginals at all times, and its likelihood.

References
----------
.. [1] Lou and Ermon, Reflected Diffusion Models, 2023.
.. [2] Hutchinson, A stochastic estimator of the trace of the influence matrix, 1990.
"""

from dataclasses import replace

import torch

from loupe.checks import of_shape
from loupe.deprecation import renamed
from loupe.diffusion.continuous import flow as continuous
from loupe.diffusion.continuous.flow import FIXED, METHODS, STAGES, Flow, LogLikelihood, solve_flow
from loupe.diffusion.reflected.kernel import per_row
from loupe.diffusion.reflected.sde import checked_data
from loupe.diffusion.times import checked_times

__all__ = ["FIXED", "METHODS", "STAGES", "Flow", "LogLikelihood", "bump", "flow", "log_likelihood"]

MOLLIFIER = 200.0
"""Width of the mollifier in the published sampler."""

SMALLEST = 1e-12
SHORTEST = 1e-4
"""Smallest step: if a score pushes through a wall, the flow slides along it in such steps."""


def bump(x, width=MOLLIFIER):
    """The mollifier ``exp((4 - 1 / (x (1 - x))) / width)``: 1 in the middle of [0, 1], 0 at its ends.

    The true score never points through a wall, but a network's may; slowing the flow at the walls keeps it inside.

    Parameters
    ----------
    x : torch.Tensor
    width : float
        Above 0; the larger, the closer to the walls it acts.
    """
    return ((4 - 1 / (x * (1 - x)).clamp(min=SMALLEST)) / width).exp()


def flow(
    score,
    sde,
    x,
    *,
    start=1.0,
    end=0.0,
    mollifier=None,
    method="dopri5",
    rtol=1e-5,
    atol=1e-5,
    steps=None,
    times=None,
):
    r"""Follow :math:`\dot x=-\tfrac12g(t)^2s(x,\sigma_t)` ([1]), backward from noise by default.

    For a reflected process the ODE is solved on the unfolded line and folded at the end: a solver's stages may cross a
    wall, but points stay inside.

    Parameters
    ----------
    score : callable
        ``(x, sigma)`` to scores.
    sde : ReflectedSDE or VESDE
    x : torch.Tensor, shape (B, ...)
        Starting points; ``sde.limit`` draws them for time 1.
    start, end : float
        Times.
    mollifier : float, optional
        Width of :func:`bump`, which multiplies the velocity of each coordinate; none by default.
    method : str
        From torchdiffeq: ``dopri5`` and others adapt their steps to the root mean square error of the whole batch;
        ``euler``, ``midpoint``, ``heun2`` and ``rk4`` take ``steps`` equal steps.
    rtol, atol : float
        Tolerances of adaptive methods.
    steps : int, optional
        Number of steps of fixed-step methods.
    times : sequence of float, optional
        Times at which to return points, from ``start`` to ``end``, instead of the end alone; they are the first axis of
        the result's ``x``. Values between steps are interpolated.

    Returns
    -------
    Flow

    Raises
    ------
    ValueError
        For unknown methods, ``steps`` given to an adaptive method or missing from a fixed-step one, a mollifier that is
        not positive or used without walls, points outside the cube, times that are not monotone in [0, 1], or a score
        whose shape differs from that of the points.
    RuntimeError
        If the score or the points are not finite; the message names the step and the noise.
    """
    checked_data(x, sde, "x")
    drift, options = _on_the_line(score, sde, mollifier, x.dtype)
    grid = checked_times([start, end] if times is None else times, 0, 1)
    found = solve_flow(drift, x, grid, method=method, rtol=rtol, atol=atol, steps=steps, **options)
    path = sde.folded(found.x)
    return Flow(path[-1] if times is None else path, found.evaluations)


@renamed(probes="noise_vectors")
def log_likelihood(
    score,
    sde,
    x0,
    *,
    noise_vectors=None,
    mollifier=None,
    method="dopri5",
    rtol=1e-5,
    atol=1e-5,
    steps=None,
    generator=None,
):
    r"""Log-density of points under the probability flow ([1]).

    .. math:: \log p_0(x_0)=\log p_1(x_1)+\int_0^1\nabla\cdot v\,\mathrm dt,\qquad v=-\tfrac12g^2s

    In the cube this is a density only if the normal component of the score vanishes at the walls, as the true score's
    does. A network's need not. Its paths then stick to a wall, the divergence misses this, and the density does not
    integrate to 1: integrate it before you call it a likelihood. With a mollifier the velocity vanishes at the walls,
    so the result is a density again, that of the mollified flow.

    Parameters
    ----------
    score : callable
        ``(x, sigma)`` to scores, differentiable in ``x``.
    sde : ReflectedSDE or VESDE
    x0 : torch.Tensor, shape (B, ...)
    noise_vectors : int, optional
        Number of random noise vectors (signs) for Hutchinson's unbiased estimate of the divergence [2], fixed along
        each path. By default the divergence is exact, at the cost of one derivative for each dimension.
    mollifier, method, rtol, atol, steps
        As in :func:`flow`. With a mollifier it is the density of that flow.
    generator : torch.Generator, optional
        For the signs; on the device.

    Returns
    -------
    LogLikelihood

    Raises
    ------
    ValueError
        As :func:`flow`, and for fewer than one noise vector, or a score that cannot be differentiated.
    RuntimeError
        As :func:`flow`.
    """
    checked_data(x0, sde)
    drift, options = _on_the_line(score, sde, mollifier, x0.dtype)
    found = continuous.log_likelihood(
        drift,
        lambda end: sde.limit_log_density(sde.folded(end)),
        x0,
        (0.0, 1.0),
        noise_vectors=noise_vectors,
        generator=generator,
        method=method,
        rtol=rtol,
        atol=atol,
        steps=steps,
        **options,
    )
    return replace(found, end=sde.folded(found.end))


def _on_the_line(score, sde, mollifier, dtype):
    """The velocity on the unfolded line as a drift, and the solver's options."""
    walls = not isinstance(sde.chart(torch.zeros(1))[1], float)
    if mollifier is not None:
        if not 0 < mollifier < float("inf"):
            raise ValueError(f"a mollifier must be a number above 0, or None for none, got {mollifier}")
        if not walls:
            raise ValueError("a mollifier slows the flow at walls, and this process has none")

    def drift(x, t):
        inside, direction = sde.chart(x)
        sigma = sde.sigma(t[0]).to(x).expand(len(x))
        v = -sde.growth * per_row(sigma, x) ** 2 * of_shape("the score", score(inside, sigma), x.shape)
        if mollifier is not None:
            v = v * bump(inside, mollifier)
        return direction * v

    return drift, {
        "name_time": lambda t: f"sigma {sde.sigma(t).item():.3g}",
        # So far beyond the walls, rounding leaves no digits for the fold.
        "limit": 1e-2 / torch.finfo(dtype).eps if walls else None,
        "min_step": SHORTEST,
    }

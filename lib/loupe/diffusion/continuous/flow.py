"""Flows along a drift, and the densities that they carry: the probability flow and its likelihood.

References
----------
.. [1] Song et al., Score-Based Generative Modeling through Stochastic Differential Equations, 2021.
.. [2] Hutchinson, A stochastic estimator of the trace of the influence matrix, 1990.
"""

from dataclasses import dataclass

import torch
from torchdiffeq import odeint

from loupe.checks import of_shape, whole
from loupe.diffusion.times import checked_times

FIXED = ("euler", "midpoint", "heun2", "rk4")
STAGES = {
    "dopri5": 6,
    "dopri8": 13,
    "bosh3": 3,
    "adaptive_heun": 1,
    "euler": 1,
    "midpoint": 2,
    "heun2": 2,
    "rk4": 4,
}
"""Methods of torchdiffeq, and evaluations of each step, accepted or not."""

METHODS = tuple(STAGES)


@dataclass(frozen=True)
class Flow:
    """Where the flow has come to.

    Attributes
    ----------
    x : torch.Tensor, shape (B, ...)
    evaluations : int
        How often the score was asked about the batch.
    """

    x: torch.Tensor
    evaluations: int


@dataclass(frozen=True)
class LogLikelihood:
    """Densities, and what they cost.

    Attributes
    ----------
    nats : torch.Tensor, shape (B,)
        Natural logarithm of each point's density.
    end : torch.Tensor, shape (B, ...)
        Where the flow carries the points.
    evaluations : int
    """

    nats: torch.Tensor
    end: torch.Tensor
    evaluations: int


@torch.no_grad()
def solve_flow(
    drift,
    x,
    times,
    *,
    method="dopri5",
    rtol=1e-5,
    atol=1e-5,
    steps=None,
    name_time=None,
    limit=None,
    **options,
):
    """Solve ``dx/dt = drift(x, t)`` from the first of the times to the last.

    Parameters
    ----------
    drift : callable
        ``(x, t)`` to the shape of ``x``, for times (B,): :func:`probability_flow` makes it of a score.
    x : torch.Tensor, shape (B, ...)
    times : sequence of float
        At least 2, rising or falling: ``[sde.t_max, sde.t_min]`` from noise to data.
    method : str
        Of torchdiffeq: ``dopri5`` and others choose their steps for the whole batch by its root mean square error,
        ``euler``, ``midpoint``, ``heun2`` and ``rk4`` take ``steps`` equal ones.
    rtol, atol : float
        Tolerances of the former.
    steps : int, optional
        Steps of the latter.
    name_time : callable, optional
        Times to the words by which errors name them.
    limit : float, optional
        Coordinates beyond it are an error.
    **options
        Of torchdiffeq, for methods that choose their steps; by default these end exactly at the times, since a drift
        need not exist beyond.

    Returns
    -------
    Flow
        ``x`` has the times as its first axis.

    Raises
    ------
    ValueError
        For unknown methods, steps where there are none or none where they are needed, times that do not run one way, or
        a drift of another shape than the points.
    RuntimeError
        If the drift or the points are not finite; the message names the step and the time.
    """
    grid = checked_times(times).to(x)
    watched = _Watched(drift, method, grid, name_time, limit)
    options = _solver(method, rtol, atol, steps, grid, options)
    if not x.numel():
        return Flow(x.expand(len(grid), *x.shape), 0)
    (path,) = _solved(watched, watched, (x,), grid, options)
    return Flow(path, watched.evaluations)


@torch.no_grad()
def log_likelihood(
    drift,
    prior_log_density,
    x0,
    times,
    *,
    probes=None,
    generator=None,
    method="dopri5",
    rtol=1e-5,
    atol=1e-5,
    steps=None,
    name_time=None,
    limit=None,
    **options,
):
    r"""Log-density of points, from that of where a flow carries them ([1], eq. 39).

    .. math:: \log p_0(x_0)=\log p_1(x_1)+\int_0^1\nabla\cdot v(x_t,t)\,\mathrm dt

    Parameters
    ----------
    drift : callable
        v: ``(x, t)`` to the shape of ``x``, differentiable by ``x``.
    prior_log_density : callable
        Where the flow ends to log-densities (B,): ``sde.prior_log_density``.
    x0 : torch.Tensor, shape (B, ...)
    times : sequence of float
        ``[sde.t_min, sde.t_max]``.
    probes : int, optional
        Random signs by which Hutchinson's estimate of the divergence is taken [2], the same along the whole path of a
        point; unbiased. By default the divergence is exact, for as many derivatives as there are dimensions.
    generator : torch.Generator, optional
        For the signs; on the device.
    method, rtol, atol, steps, name_time, limit, **options
        As in :func:`solve_flow`.

    Returns
    -------
    LogLikelihood

    Raises
    ------
    ValueError
        As :func:`solve_flow`, and for less than one probe, a drift that cannot be differentiated, or a prior of another
        shape.
    RuntimeError
        As :func:`solve_flow`.
    """
    grid = checked_times(times).to(x0)
    if probes is not None:
        probes = whole("probes (None for the exact divergence)", probes)
    watched = _Watched(drift, method, grid, name_time, limit)
    options = _solver(method, rtol, atol, steps, grid, options)
    shape = (probes or 0, *x0.shape)
    signs = 1 - 2 * torch.randint(2, shape, generator=generator, device=x0.device).to(x0.dtype)

    def joint(t, state):
        with torch.enable_grad():
            x = state[0].detach().requires_grad_()
            v = watched(t, x)
            if not v.requires_grad:
                raise ValueError(
                    "the score must be differentiable by x: it was detached, or does not depend on x"
                )
            change = divergence(v, x, signs if probes else None)
        watched.look(change, x)
        return v.detach(), change

    if not x0.numel():
        return LogLikelihood(x0.new_zeros(len(x0)), x0, 0)
    x, gain = _solved(joint, watched, (x0, x0.new_zeros(len(x0))), grid, options)
    prior = of_shape("the prior's log-density", prior_log_density(x[-1]), x0.shape[:1])
    return LogLikelihood(prior + gain[-1], x[-1], watched.evaluations)


def divergence(v, x, signs=None):
    """Divergence by ``x (B, ...)`` of values ``v`` that were computed from it, shape (B,).

    Parameters
    ----------
    v, x : torch.Tensor, shape (B, ...)
        Each sample of ``v`` must depend on its own of ``x`` only.
    signs : torch.Tensor, shape (probes, B, ...), optional
        Noise vectors of variance 1 for Hutchinson's estimate ([2]); None for the exact divergence.
    """
    if signs is not None:
        products = [
            (torch.autograd.grad(v, x, sign, retain_graph=True)[0] * sign).flatten(1) for sign in signs
        ]
        return torch.stack(products).mean(0).sum(1)
    total, flat = 0.0, v.flatten(1)
    for k in range(flat.shape[1]):
        (slope,) = torch.autograd.grad(flat[:, k].sum(), x, retain_graph=True)
        total = total + slope.flatten(1)[:, k]
    return total


class _Watched:
    """A drift that counts how often it is asked, and stops where it is not finite.

    On a GPU a method of equal steps does not wait for the answer: whether all were finite is looked at in the end.
    """

    def __init__(self, drift, method, grid, name_time, limit):
        self.drift, self.method, self.limit = drift, method, limit
        self.span, self.time, self.evaluations = (grid.min(), grid.max()), None, 0
        self.name_time = name_time or (lambda t: f"time {t.item():.3g}")

    def __call__(self, t, x):
        x = x[0] if isinstance(x, tuple) else x
        self.evaluations += 1
        self.time = t
        v = of_shape("the drift", self.drift(x, t.to(x.device).expand(len(x))), x.shape)
        self.look(v, x)
        return v

    def look(self, values, x, last=False):
        """RuntimeError unless values are finite, and points in reach; it names the step and the time."""
        if values.device.type != "cpu" and self.method in FIXED and not last:
            return
        # A solver that looks for its first step may try times that are no times of the process.
        if not last and not self.span[0] <= self.time <= self.span[1]:
            return
        far = self.limit is not None and x.abs().max() > self.limit
        if far or not values.isfinite().all():
            step = max(0, self.evaluations - 1) // STAGES[self.method]
            raise RuntimeError(
                f"the flow is not finite, at step {step} (evaluation {self.evaluations}) and "
                f"{self.name_time(self.time)}: look at the score there"
            )


def _solved(function, watched, state, grid, options):
    """The paths by ``odeint``; RuntimeError where it loses its way."""
    try:
        paths = odeint(function, state if len(state) > 1 else state[0], grid, **options)
    except AssertionError as error:  # torchdiffeq's way to say that steps have become too short
        raise RuntimeError(
            f"the flow finds no step that is short enough, at evaluation {watched.evaluations} and "
            f"{watched.name_time(watched.time)} ({error}): look at the score there"
        ) from None
    paths = paths if isinstance(paths, tuple) else (paths,)
    for values in paths:
        watched.look(values, paths[0], last=True)
    return paths


def _solver(method, rtol, atol, steps, grid, options):
    """Arguments of ``odeint``."""
    if method not in METHODS:
        raise ValueError(f"method must be one of {', '.join(METHODS)}, got {method!r}")
    if (steps is not None) != (method in FIXED):
        need = (
            f"{method} takes equal steps: say how many"
            if steps is None
            else f"{method} chooses its own steps"
        )
        raise ValueError(f"{need} (steps is {steps})")
    if steps is not None:
        return {"method": method, "options": {"grid_constructor": _equal_steps(whole("steps", steps))}}
    if not min(rtol, atol) > 0:
        raise ValueError(f"rtol and atol must be above 0, got {rtol} and {atol}")
    return {"method": method, "rtol": rtol, "atol": atol, "options": options or {"step_t": grid[1:]}}


def _equal_steps(steps):
    """The grid of torchdiffeq; with a step size in its place, rounding would sometimes make it one step more."""

    def grid(function, x, times):
        shares = torch.linspace(0, 1, steps + 1, dtype=times.dtype, device=times.device)
        return torch.lerp(times[0], times[-1], shares)

    return grid

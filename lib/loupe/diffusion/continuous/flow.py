"""ODE flows along a drift, such as the probability flow, and their likelihoods.

References
----------
.. [1] Song et al., Score-Based Generative Modeling through Stochastic Differential Equations, 2021.
.. [2] Hutchinson, A stochastic estimator of the trace of the influence matrix, 1990.
"""

from dataclasses import dataclass

import torch
from torchdiffeq import odeint

from loupe.checks import of_shape, whole
from loupe.deprecation import renamed
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
    """The result of following a flow.

    Attributes
    ----------
    x : torch.Tensor, shape (B, ...)
    evaluations : int
        Number of score evaluations of the batch.
    """

    x: torch.Tensor
    evaluations: int


@dataclass(frozen=True)
class LogLikelihood:
    """Log-densities, and how many evaluations they took.

    Attributes
    ----------
    nats : torch.Tensor, shape (B,)
        Natural logarithm of each point's density.
    end : torch.Tensor, shape (B, ...)
        The points at the end of the flow.
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
        ``(x, t)`` to the shape of ``x``, for times (B,): :func:`probability_flow` makes one from a score.
    x : torch.Tensor, shape (B, ...)
    times : sequence of float
        At least 2, rising or falling: ``[sde.t_max, sde.t_min]`` from noise to data.
    method : str
        From torchdiffeq: ``dopri5`` and others adapt their steps to the root mean square error of the whole batch;
        ``euler``, ``midpoint``, ``heun2`` and ``rk4`` take ``steps`` equal steps.
    rtol, atol : float
        Tolerances of adaptive methods.
    steps : int, optional
        Number of steps of fixed-step methods.
    name_time : callable, optional
        Turns a time into text for error messages.
    limit : float, optional
        Larger coordinates raise an error.
    **options
        Passed to torchdiffeq's adaptive methods. By default these stop exactly at the given times, since the drift may
        be undefined beyond them.

    Returns
    -------
    Flow
        ``x`` has the times as its first axis.

    Raises
    ------
    ValueError
        For unknown methods, ``steps`` given to an adaptive method or missing from a fixed-step one, times that are not
        monotone, or a drift whose shape differs from that of the points.
    RuntimeError
        If the drift or the points are not finite; the message names the step and the time.
    """
    grid = checked_times(times).to(x)
    checked = _CheckedDrift(drift, method, grid, name_time, limit)
    options = _solver(method, rtol, atol, steps, grid, options)
    if not x.numel():
        return Flow(x.expand(len(grid), *x.shape), 0)
    (path,) = _solved(checked, checked, (x,), grid, options)
    return Flow(path, checked.evaluations)


@renamed(probes="noise_vectors")
@torch.no_grad()
def log_likelihood(
    drift,
    prior_log_density,
    x0,
    times,
    *,
    noise_vectors=None,
    generator=None,
    method="dopri5",
    rtol=1e-5,
    atol=1e-5,
    steps=None,
    name_time=None,
    limit=None,
    **options,
):
    r"""Log-density of points, from the prior density at the end of the flow ([1], eq. 39).

    .. math:: \log p_0(x_0)=\log p_1(x_1)+\int_0^1\nabla\cdot v(x_t,t)\,\mathrm dt

    Parameters
    ----------
    drift : callable
        v: ``(x, t)`` to the shape of ``x``, differentiable by ``x``.
    prior_log_density : callable
        End points to log-densities (B,): ``sde.prior_log_density``.
    x0 : torch.Tensor, shape (B, ...)
    times : sequence of float
        ``[sde.t_min, sde.t_max]``.
    noise_vectors : int, optional
        Number of random noise vectors (signs) for Hutchinson's unbiased estimate of the divergence [2], fixed along
        each path. By default the divergence is exact, at the cost of one derivative for each dimension.
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
        As :func:`solve_flow`, and for fewer than one noise vector, a drift that cannot be differentiated, or a prior of
        the wrong shape.
    RuntimeError
        As :func:`solve_flow`.
    """
    grid = checked_times(times).to(x0)
    if noise_vectors is not None:
        noise_vectors = whole("noise_vectors (None for the exact divergence)", noise_vectors)
    checked = _CheckedDrift(drift, method, grid, name_time, limit)
    options = _solver(method, rtol, atol, steps, grid, options)
    shape = (noise_vectors or 0, *x0.shape)
    signs = 1 - 2 * torch.randint(2, shape, generator=generator, device=x0.device).to(x0.dtype)

    def joint(t, state):
        with torch.enable_grad():
            x = state[0].detach().requires_grad_()
            v = checked(t, x)
            if not v.requires_grad:
                raise ValueError(
                    "the score must be differentiable by x: it was detached, or does not depend on x"
                )
            change = divergence(v, x, signs if noise_vectors else None)
        checked.look(change, x)
        return v.detach(), change

    if not x0.numel():
        return LogLikelihood(x0.new_zeros(len(x0)), x0, 0)
    x, gain = _solved(joint, checked, (x0, x0.new_zeros(len(x0))), grid, options)
    prior = of_shape("the prior's log-density", prior_log_density(x[-1]), x0.shape[:1])
    return LogLikelihood(prior + gain[-1], x[-1], checked.evaluations)


def divergence(v, x, signs=None):
    """Divergence with respect to ``x (B, ...)`` of values ``v`` computed from it, shape (B,).

    Parameters
    ----------
    v, x : torch.Tensor, shape (B, ...)
        Each sample of ``v`` may depend only on the same sample of ``x``.
    signs : torch.Tensor, shape (noise_vectors, B, ...), optional
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


class _CheckedDrift:
    """A drift that counts its evaluations and raises where it is not finite.

    On a GPU, fixed-step methods don't wait for this check: it happens once, at the end.
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
        """RuntimeError unless values are finite and points within the limit; it names the step and the time."""
        if values.device.type != "cpu" and self.method in FIXED and not last:
            return
        # While choosing its first step, a solver may try times outside the process.
        if not last and not self.span[0] <= self.time <= self.span[1]:
            return
        far = self.limit is not None and x.abs().max() > self.limit
        if far or not values.isfinite().all():
            step = max(0, self.evaluations - 1) // STAGES[self.method]
            raise RuntimeError(
                f"the flow is not finite, at step {step} (evaluation {self.evaluations}) and "
                f"{self.name_time(self.time)}: look at the score there"
            )


def _solved(function, checked, state, grid, options):
    """The paths from ``odeint``; RuntimeError where it fails."""
    try:
        paths = odeint(function, state if len(state) > 1 else state[0], grid, **options)
    except AssertionError as error:  # torchdiffeq raises this when steps become too short
        raise RuntimeError(
            f"the flow finds no step that is short enough, at evaluation {checked.evaluations} and "
            f"{checked.name_time(checked.time)} ({error}): look at the score there"
        ) from None
    paths = paths if isinstance(paths, tuple) else (paths,)
    for values in paths:
        checked.look(values, paths[0], last=True)
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
    """The grid for torchdiffeq; with a step size instead, rounding would sometimes add a step."""

    def grid(function, x, times):
        fractions = torch.linspace(0, 1, steps + 1, dtype=times.dtype, device=times.device)
        return torch.lerp(times[0], times[-1], fractions)

    return grid

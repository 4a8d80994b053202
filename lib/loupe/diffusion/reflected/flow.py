"""The probability flow: the same laws at all times without any noise, and the likelihood that follows.

References
----------
.. [1] Lou and Ermon, Reflected Diffusion Models, 2023.
.. [2] Hutchinson, A stochastic estimator of the trace of the influence matrix, 1990.
"""

from dataclasses import dataclass

import torch
from torchdiffeq import odeint

from loupe.checks import of_shape, whole
from loupe.diffusion.reflected.kernel import per_row
from loupe.diffusion.reflected.sde import ReflectedSDE, checked_data

MOLLIFIER = 200.0
"""Width of the mollifier in the published sampler."""

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

SMALLEST = 1e-12
SHORTEST = 1e-4
"""Steps never get shorter: where a score pushes through a wall, the flow slides along it in such steps."""


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
        Where the flow carries the points at time 1.
    evaluations : int
    """

    nats: torch.Tensor
    end: torch.Tensor
    evaluations: int


def bump(x, width=MOLLIFIER):
    """The mollifier ``exp((4 - 1 / (x (1 - x))) / width)``: 1 in the middle of [0, 1], 0 at its ends.

    The true score does not point through a wall; a network's may, and a flow that is slowed down there stays inside.

    Parameters
    ----------
    x : torch.Tensor
    width : float
        Above 0; the greater, the nearer to the walls is it felt.
    """
    return ((4 - 1 / (x * (1 - x)).clamp(min=SMALLEST)) / width).exp()


@torch.no_grad()
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
    r"""Follow :math:`\dot x=-\tfrac12g(t)^2s(x,\sigma_t)` ([1]), backwards from noise by default.

    For a reflected process it is solved on the unfolded line and folded at the end, so that stages of a solver may
    step over a wall and points may not.

    Parameters
    ----------
    score : callable
        ``(x, sigma)`` to scores.
    sde : ReflectedSDE or ExplodingSDE
    x : torch.Tensor, shape (B, ...)
        Where the flow begins; ``sde.limit`` draws it for time 1.
    start, end : float
        Times.
    mollifier : float, optional
        Width of :func:`bump`, by which the velocity of each coordinate is multiplied; none by default.
    method : str
        Of torchdiffeq: ``dopri5`` and others choose their steps for the whole batch by its root mean square error,
        ``euler``, ``midpoint``, ``heun2`` and ``rk4`` take ``steps`` equal ones.
    rtol, atol : float
        Tolerances of the former.
    steps : int, optional
        Steps of the latter.
    times : sequence of float, optional
        Times at which points are wanted, from ``start`` to ``end``, in place of the end alone: ``x`` of the result then
        has them as its first axis. Between steps it is interpolated.

    Returns
    -------
    Flow

    Raises
    ------
    ValueError
        For unknown methods, steps where there are none or none where they are needed, a mollifier that is not
        positive or has no walls, points outside the cube, times that do not run one way within [0, 1], or a score of
        another shape than the points.
    RuntimeError
        If the score or the points are not finite; the message names the step and the noise.
    """
    checked_data(x, sde, "x")
    grid = _checked_times([start, end] if times is None else times).to(x)
    velocity = _Velocity(score, sde, mollifier, method)
    options = _solver(method, rtol, atol, steps)
    if not x.numel():
        return Flow(x if times is None else x.expand(len(grid), *x.shape), 0)
    path = sde.folded(_solved(velocity, velocity, x, grid, options))
    return Flow(path[-1] if times is None else path, velocity.evaluations)


def log_likelihood(
    score,
    sde,
    x0,
    *,
    probes=None,
    mollifier=None,
    method="dopri5",
    rtol=1e-5,
    atol=1e-5,
    steps=None,
    generator=None,
):
    r"""Log-density of points under the probability flow ([1]).

    .. math:: \log p_0(x_0)=\log p_1(x_1)+\int_0^1\nabla\cdot v\,\mathrm dt,\qquad v=-\tfrac12g^2s

    Between walls this is a density only if the normal component of the score vanishes at them, as the true score's does.
    Nothing makes a network's do so. Its paths then stick to a wall, which the divergence does not see, and the
    exponential of what is returned does not integrate to 1: integrate it before you call it a likelihood. With a
    mollifier the velocity vanishes at the walls, and it is a density again, of that other flow.

    Parameters
    ----------
    score : callable
        ``(x, sigma)`` to scores, differentiable by ``x``.
    sde : ReflectedSDE or ExplodingSDE
    x0 : torch.Tensor, shape (B, ...)
    probes : int, optional
        Random signs by which Hutchinson's estimate of the divergence is taken [2], the same along the whole path of a
        point; unbiased. By default the divergence is exact, for as many derivatives as there are dimensions.
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
        As :func:`flow`, and for less than one probe, or a score that cannot be differentiated.
    RuntimeError
        As :func:`flow`.
    """
    checked_data(x0, sde)
    if probes is not None:
        probes = whole("probes (None for the exact divergence)", probes)
    velocity = _Velocity(score, sde, mollifier, method)
    options = _solver(method, rtol, atol, steps)
    shape = (probes or 0, *x0.shape)
    signs = 1 - 2 * torch.randint(2, shape, generator=generator, device=x0.device).to(x0.dtype)

    def joint(t, state):
        with torch.enable_grad():
            x = state[0].detach().requires_grad_()
            v = velocity(t, x)
            if not v.requires_grad:
                raise ValueError(
                    "the score must be differentiable by x: it was detached, or does not depend on x"
                )
            divergence = _divergence(v, x, signs)
        velocity.look(divergence, x)
        return v.detach(), divergence

    if not x0.numel():
        return LogLikelihood(x0.new_zeros(len(x0)), x0, 0)
    with torch.no_grad():
        grid = torch.tensor([0.0, 1.0], dtype=x0.dtype, device=x0.device)
        x, gain = _solved(joint, velocity, (x0, x0.new_zeros(len(x0))), grid, options)
    end = sde.folded(x[-1])
    return LogLikelihood(sde.limit_log_density(end) + gain[-1], end, velocity.evaluations)


class _Velocity:
    """The velocity of the flow on the unfolded line; it counts how often it is asked, and stops where it is not finite.

    On a GPU a method of equal steps does not wait for the answer: whether all were finite is looked at in the end.
    """

    def __init__(self, score, sde, mollifier, method):
        if mollifier is not None:
            if not 0 < mollifier < float("inf"):
                raise ValueError(f"a mollifier must be a number above 0, or None for none, got {mollifier}")
            if isinstance(sde.chart(torch.zeros(1))[1], float):
                raise ValueError("a mollifier slows the flow at walls, and this process has none")
        self.score, self.sde, self.mollifier, self.evaluations = score, sde, mollifier, 0
        self.method, self.time, self.sigma = method, None, None

    def __call__(self, t, x):
        self.evaluations += 1
        inside, direction = self.sde.chart(x)
        sigma = self.sde.sigma(t).to(x).expand(len(x))
        self.time, self.sigma = t, sigma[:1]
        found = of_shape("the score", self.score(inside, sigma), x.shape)
        v = -self.sde.growth * per_row(sigma, x) ** 2 * found
        if self.mollifier is not None:
            v = v * bump(inside, self.mollifier)
        v = direction * v
        self.look(v, x)
        return v

    def look(self, values, x, last=False):
        """RuntimeError unless values are finite, and points of the line in reach; it names the step and the noise."""
        if values.device.type != "cpu" and self.method in FIXED and not last:
            return
        # A solver that looks for its first step may try times that are no times of the process.
        if not last and not 0 <= self.time <= 1:
            return
        # So far beyond the walls a number has no digits left that say where it folds to.
        far = isinstance(self.sde, ReflectedSDE) and x.abs().max() > 1e-2 / torch.finfo(x.dtype).eps
        if far or not values.isfinite().all():
            step = max(0, self.evaluations - 1) // STAGES[self.method]
            raise RuntimeError(
                f"the flow is not finite, at step {step} (evaluation {self.evaluations}) and sigma "
                f"{self.sigma.item():.3g}: look at the score there"
            )


def _divergence(v, x, signs):
    """Divergence of ``v`` by ``x``, shape (B,): exact where there are no signs."""
    if len(signs):
        products = [
            (torch.autograd.grad(v, x, sign, retain_graph=True)[0] * sign).flatten(1) for sign in signs
        ]
        return torch.stack(products).mean(0).sum(1)
    total, flat = 0.0, v.flatten(1)
    for k in range(flat.shape[1]):
        (slope,) = torch.autograd.grad(flat[:, k].sum(), x, retain_graph=True)
        total = total + slope.flatten(1)[:, k]
    return total


def _solved(function, velocity, state, grid, options):
    """The path by ``odeint``; RuntimeError where it loses its way."""
    try:
        path = odeint(function, state, grid, **options)
    except AssertionError as error:  # torchdiffeq's way to say that steps have become too short
        raise RuntimeError(
            f"the flow finds no step that is short enough, at evaluation {velocity.evaluations} and sigma "
            f"{velocity.sigma.item():.3g} ({error}): look at the score there"
        ) from None
    x, *others = path if isinstance(path, tuple) else (path,)
    for values in (x, *others):
        velocity.look(values, x, last=True)
    return path


def _checked_times(times):
    """Times of a flow as float64, shape (at least 2,)."""
    times = times if isinstance(times, torch.Tensor) else list(times)
    grid = torch.as_tensor(times, dtype=torch.float64).cpu()
    if grid.ndim != 1 or len(grid) < 2:
        raise ValueError(f"times must be at least 2, the first and the last, got {grid.tolist()}")
    if not ((grid >= 0) & (grid <= 1)).all():
        raise ValueError(f"times must lie in [0, 1], got {grid.tolist()}")
    steps = grid.diff()
    if not ((steps > 0).all() or (steps < 0).all()):
        raise ValueError(f"times must rise or fall, each different from the one before, got {grid.tolist()}")
    return grid


def _solver(method, rtol, atol, steps):
    """Options of ``odeint``."""
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
    return {"method": method, "rtol": rtol, "atol": atol, "options": {"min_step": SHORTEST}}


def _equal_steps(steps):
    """The grid of torchdiffeq; with a step size in its place, rounding would sometimes make it one step more."""

    def grid(function, x, times):
        shares = torch.linspace(0, 1, steps + 1, dtype=times.dtype, device=times.device)
        return torch.lerp(times[0], times[-1], shares)

    return grid

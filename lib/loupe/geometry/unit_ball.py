"""The weighted Fréchet mean in the ball of curvature -1: solver and implicit derivative.

Every mean of the hyperbolic charts is computed here, scaled to curvature -1. Both parts recenter the points at the mean
(or at a guess near it) by a Möbius translation. In this view all quantities are sums of positive terms. So they stay
accurate next to the boundary, in tight clusters, and in single precision, where formulas in fixed coordinates lose
digits. Below, ``z`` are the recentered points, ``t = |z|**2 / (1 - |z|**2)`` is ``sinh(distance / 2)**2``, and ``h =
arsinh(sqrt t) / sqrt(t (1 + t))`` is a distance over its hyperbolic sine.
"""

from dataclasses import dataclass

import torch

from loupe.derivatives import full_precision
from loupe.geometry.groups import SOLVERS, Batch, Segments, solved
from loupe.geometry.implicit import attached
from loupe.geometry.series import (
    HALF,
    NEAR,
    arsinh_bend,
    arsinh_ratio,
    arsinh_root,
    arsinh_square,
    power_series,
    tanh_ratio,
)

MAJORIZATIONS = 16
"""Iterations of the paper's solver before Newton's method takes over the remaining means."""

FEW = 64
"""This many means, or fewer, are not worth regrouping while they converge one by one."""


@dataclass(frozen=True)
class View:
    """Points recentered at a mean, one for each entry of the groups; ``z`` and ``step`` have an extra axis ``d``."""

    step: torch.Tensor  # x - m
    square: torch.Tensor  # |x - m|**2
    center_room: torch.Tensor  # 1 - |m|**2
    scale: torch.Tensor  # (1 - |m|**2) (1 - |x|**2) + |x - m|**2
    z: torch.Tensor
    t: torch.Tensor


def view(groups, x, m):
    """The points ``x`` after the Möbius translation that takes each mean ``m`` to 0."""
    m_spread = groups.spread(m)
    step = x - m_spread
    square = torch.linalg.vecdot(step, step)
    center_room = groups.spread(1 - torch.linalg.vecdot(m, m))
    both = center_room * (1 - torch.linalg.vecdot(x, x))
    scale = both + square
    z = (center_room / scale).unsqueeze(-1) * step
    z = z.addcmul((square / scale).unsqueeze(-1), m_spread, value=-1)
    return View(step, square, center_room, scale, z, square / both)


def moved(m, y):
    """``m`` after a step from 0 to ``y`` in its own view."""
    mm, my, yy = (torch.linalg.vecdot(a, b).unsqueeze(-1) for a, b in ((m, m), (m, y), (y, y)))
    return clipped(
        ((1 + 2 * my + yy) * m + (1 - mm) * y) / (1 + 2 * my + mm * yy), 8 * torch.finfo(m.dtype).eps
    )


def clipped(x, margin):
    """``x`` with norm at most ``1 - margin``, so that rounding cannot cross the boundary."""
    return x * ((1 - margin) / torch.linalg.vector_norm(x, dim=-1, keepdim=True).clamp_min(1 - margin))


def _lowest(groups, alpha, z, one_plus_square):
    """The minimum of ``sum alpha |z - y|**2 / (1 - |y|**2)``, in a form that holds at 0."""
    b, p = groups.combine(alpha, z), groups.total(alpha * one_plus_square)
    # Divide first: squares of large weights overflow.
    q = b / p.unsqueeze(-1)
    y = 2 * q / (1 + (1 - 4 * torch.linalg.vecdot(q, q)).clamp_min(0).sqrt()).unsqueeze(-1)
    # Where rounding destroys the root, y is on the boundary or beyond.
    return clipped(y, torch.finfo(y.dtype).eps ** 0.5)


def midpoint(groups, x, w):
    """The Einstein midpoint: the centroid on the hyperboloid, normalized."""
    square = torch.linalg.vecdot(x, x)
    return _lowest(groups, w / (1 - square), x, 1 + square)


def solve(groups, x, w, start=None, *, tolerance, max_iterations):
    """The means, and for each an estimate of its error as a hyperbolic length.

    Parameters
    ----------
    groups : Batch or Segments
    x : torch.Tensor, shape (entries, d)
        Points of the open unit ball.
    w : torch.Tensor, shape (entries)
        Weights, at least 0, not all 0 for any mean.
    start : torch.Tensor, shape (means, d), optional
        Where to start; the Einstein midpoint by default.
    tolerance : float
    max_iterations : int

    Returns
    -------
    torch.Tensor, shape (means, d)
    torch.Tensor, shape (means,)
    """
    mean = midpoint(groups, x, w) if start is None else start
    # Half of the digits of 1 - |m|**2 are enough to start with; none is too few.
    mean = clipped(mean, torch.finfo(x.dtype).eps ** 0.5)
    error = torch.full_like(mean[:, 0], torch.inf)
    some, some_x, some_w, still = groups, x, w, error > tolerance
    left = min(max_iterations, MAJORIZATIONS)
    while left > 0 and still.any():
        mean[still], error[still], taken = _majorize(some, some_x, some_w, mean[still], tolerance, left)
        left -= taken
        still = error > tolerance
        some, entries = groups.select(still)
        some_x, some_w = x[entries], w[entries]
    if max_iterations > MAJORIZATIONS and still.any():
        late = _newton(some, some_x, some_w, mean[still], tolerance, max_iterations - MAJORIZATIONS)
        mean[still], error[still] = late
    return mean, error


def _majorize(groups, x, w, mean, tolerance, iterations):
    """The paper's solver: d**2 is concave in t, so its tangent bounds it, and the bound has a closed minimum.

    Its steps shrink geometrically, and two of them give the ratio. Each step but the first is extended by the predicted
    rest of the series (Anderson acceleration of depth one), unless steps have grown.

    Returns means, errors, and the number of steps. It stops early when more than half of many means have converged; the
    caller continues with the others.
    """
    eps, tiny = torch.finfo(x.dtype).eps, torch.finfo(x.dtype).tiny
    seen = view(groups, x, mean)
    squares = torch.linalg.vecdot(seen.z, seen.z)
    # 1 - |z|**2 from its factors: near the boundary the difference has no digits left.
    room = 1 / (1 + seen.t)
    scaled, one_plus_square = w / room, 1 + squares
    y, t, before = torch.zeros_like(mean), seen.t, None
    error = torch.full_like(mean[:, 0], torch.inf)
    whole, going = torch.ones_like(error), torch.ones_like(error, dtype=torch.bool)
    enough = len(mean) // 2 if len(mean) > FEW else 0
    taken = 0
    while taken < iterations:
        taken += 1
        t = t.clamp_min(tiny)
        alpha = scaled * (arsinh_root(t) / (t * (1 + t)).sqrt())
        new = _lowest(groups, alpha, seen.z, one_plus_square)
        step = new - y
        length = 2 * torch.linalg.vector_norm(step, dim=-1)
        if before is None:
            error, longer = length, new
        else:
            old_y, old_new, old_step, old_length = before
            change = step - old_step
            square = torch.linalg.vecdot(change, change).clamp_min(tiny)
            # 1 / (1 - ratio), the sum of the series over its first step; the largest so far, since a slow error
            # component may hide behind a fast one.
            whole = torch.maximum(whole, torch.linalg.vector_norm(y - old_y, dim=-1) / square.sqrt())
            ahead = torch.where(length <= 8 * eps, length, length * whole)
            error = torch.where(going, ahead, error)
            factor = torch.linalg.vecdot(step, change) / square
            longer = new - factor.unsqueeze(-1) * (new - old_new)
            sound = (error > tolerance) & (length < old_length) & (torch.linalg.vecdot(longer, longer) < 0.99)
            longer = torch.where(sound.unsqueeze(-1), longer, new)
        before = y, new, step, length
        # A converged mean stays, so it does not depend on the rest of the batch. A mean far from the center of the
        # view, where digits are lost, also stays: it is recentered and continued later.
        y = torch.where(going.unsqueeze(-1), longer, y)
        y_square = torch.linalg.vecdot(y, y)
        error = torch.where(y_square > 0.25, torch.inf, error)
        going = (error > tolerance) & (error < torch.inf)
        if int(going.sum()) <= enough:
            break
        away = (squares - 2 * groups.dot(seen.z, y) + groups.spread(y_square)).clamp_min(0)
        t = away / (room * groups.spread(1 - y_square))
    return moved(mean, y), error, taken


def _newton(groups, x, w, mean, tolerance, iterations):
    """Newton's method on the manifold; each step is replaced by one of the solver above where that is lower."""
    error = torch.full_like(mean[..., 0], torch.inf)
    for _ in range(iterations):
        seen = view(groups, x, mean)
        h = arsinh_ratio(seen.t)
        log = (h * (1 + seen.t)).unsqueeze(-1) * seen.z
        v = solve_hessian(groups, seen, w, h, groups.combine(w, log))
        length = torch.linalg.vector_norm(v, dim=-1)
        by_newton = tanh_ratio(length.square()).unsqueeze(-1) * v
        alpha = w * (1 + seen.t) * h
        by_bound = _lowest(groups, alpha, seen.z, 1 + torch.linalg.vecdot(seen.z, seen.z))
        lower = _cost(groups, seen, w, by_newton) <= _cost(groups, seen, w, by_bound) * (
            1 + 8 * torch.finfo(x.dtype).eps
        )
        going = error > tolerance
        mean = torch.where(
            going.unsqueeze(-1), moved(mean, torch.where(lower.unsqueeze(-1), by_newton, by_bound)), mean
        )
        quadratic = torch.where(lower & (length < 0.01), 100 * length.square(), length)
        error = torch.where(going, quadratic, error)
        if (error <= tolerance).all():
            break
    return mean, error


def _cost(groups, seen, w, y):
    square = torch.linalg.vecdot(y, y)
    away = (
        torch.linalg.vecdot(seen.z, seen.z) - 2 * groups.dot(seen.z, y) + groups.spread(square)
    ).clamp_min(0)
    return groups.total(w * arsinh_square(away * (1 + seen.t) / groups.spread(1 - square)))


def solve_hessian(groups, seen, w, h, right):
    """H^-1 right; H, of half the sum of squared distances, is 1 along each geodesic and d coth d across it."""
    t = seen.t
    across = h * (1 + 2 * t)
    near = t < NEAR
    # (across - 1) / |z|**2, where |z|**2 = t / (1 + t)
    series = power_series(
        [a + 2 * b for a, b in zip((*HALF[1:], 0), HALF, strict=True)], torch.where(near, t, 0.0)
    )
    excess = torch.where(near, series, (across - 1) / torch.where(near, 1.0, t)) * (1 + t)
    return groups.solve(groups.total(w * across), -w * excess, seen.z, right)


def newton_step(groups, x, w, m, stretch=1.0):
    """One step from ``m``, exact and differentiable, for points that are off the hyperboloid by factors ``stretch``."""
    seen = view(groups, x, m)
    t, away = seen.t, (stretch * (1 + 2 * seen.t) - 1) / 2
    pull = w * stretch * arsinh_ratio(away) * (1 + t)
    excess = 2 * pull * stretch * (1 + t) * arsinh_bend(away)
    across = groups.total(pull * (1 + 2 * t) / (1 + t))
    v = groups.solve(across, -excess, seen.z, groups.combine(pull, seen.z))
    return moved(m, tanh_ratio(torch.linalg.vecdot(v, v)).unsqueeze(-1) * v)


class Attached(torch.autograd.Function):
    """A mean found without recording, with its derivative by the implicit function theorem.

    At the mean ``sum w log(z) = 0``, so ``H dmu = sum (w Dlog dz + dw log)``: one solve with the Hessian H, and one
    pass over the points. No tensor ``(entries, d, d)`` is formed. This is the first derivative only, and not recorded;
    :func:`~loupe.geometry.implicit.attached` computes higher ones differently.
    """

    @staticmethod
    def forward(x, w, mean, groups):
        return mean.clone()

    @staticmethod
    def setup_context(ctx, inputs, output):
        *tensors, ctx.groups = inputs
        ctx.save_for_backward(*tensors)

    @staticmethod
    @full_precision
    def backward(ctx, cotangent):
        x, w, m = ctx.saved_tensors
        groups = ctx.groups
        seen = view(groups, x, m)
        t, scale, room, square = seen.t, seen.scale, seen.center_room, seen.square
        h = arsinh_ratio(t)
        mm = torch.linalg.vecdot(m, m)
        lam = solve_hessian(groups, seen, w, h, (1 - mm).unsqueeze(-1) * cotangent)

        z_lam = groups.dot(seen.z, lam)
        log_scale = h * (1 + t)
        grad_w = log_scale * z_lam

        # The cotangent of z is a lam + b z: the tangential derivative of log, plus the radial correction.
        near = t < NEAR
        series = -power_series(HALF[1:], torch.where(near, t, 0.0))
        missing = torch.where(near, series, (1 - h) / torch.where(near, 1.0, t))
        a = w * log_scale
        b = w * (1 + t).square() * missing * z_lam

        # Back through the Möbius translation to x, as a combination of x - m, lam and m.
        z_v = a * z_lam + b * square / scale
        m_z = (room * groups.dot(seen.step, m) - square * groups.spread(mm)) / scale
        m_v = a * groups.spread(torch.linalg.vecdot(m, lam)) + b * m_z
        of_step = (room.square() * b / scale - 2 * m_v - 2 * z_v * groups.spread(mm)) / scale
        of_m = room * (2 * z_v - b * square / scale) / scale
        grad_x = of_step.unsqueeze(-1) * seen.step
        grad_x += (room * a / scale).unsqueeze(-1) * groups.spread(lam)
        grad_x += of_m.unsqueeze(-1) * groups.spread(m)
        return grad_x, grad_w, None, None


def mean(groups: Batch | Segments, x, w, start=None, *, tolerance, max_iterations):
    """Like :func:`solve`, with gradients in ``x`` and ``w``."""
    limits = {"tolerance": tolerance, "max_iterations": max_iterations}
    found, error = solved("ball", groups, x.detach(), w.detach(), start, **limits)

    def step(found, x, w):
        return newton_step(groups, x, w, found)

    return attached(found, step, (x, w), lambda: Attached.apply(x, w, found, groups)), error


SOLVERS["ball"] = solve

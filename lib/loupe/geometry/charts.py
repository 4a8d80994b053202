"""The Fréchet mean on each manifold: maps between its chart and the chart of the solver.

Every function takes the manifold (it is used as a method), points and weights as entries of groups, and returns the
means with estimates of their errors.
"""

import torch

from loupe.derivatives import full_precision
from loupe.geometry import unit_ball
from loupe.geometry.groups import SOLVERS, solved
from loupe.geometry.implicit import attached
from loupe.geometry.series import arsinh_bend, arsinh_ratio


def euclidean_mean(groups, points, weights, manifold, start, *, tolerance, max_iterations):
    total = groups.total(weights).unsqueeze(-1)
    return groups.combine(weights, points) / total, torch.zeros_like(total)


def ball_mean(groups, points, weights, manifold, start, **limits):
    # All of the curvature's gradient comes from this change of scale.
    unit = torch.as_tensor(manifold.c, dtype=points.dtype, device=points.device).sqrt()
    each = unit
    if unit.dim():  # a curvature for each mean
        unit, each = unit[:, None], unit[:, None, None]
    start = None if start is None else start * unit.detach()
    found, error = unit_ball.mean(groups, points * each, weights, start, **limits)
    return found / unit, error


def hyperboloid_mean(groups, points, weights, manifold, start, **limits):
    """Through the ball, where distant points keep their digits."""
    curvature = torch.as_tensor(manifold.curvature, dtype=points.dtype, device=points.device)
    if curvature.dim():  # one for each mean
        curvature = curvature[:, None]
    radius = (-curvature).rsqrt()
    fixed = points.detach()

    def beside(number):
        """The number (one, or one for each mean), broadcast to the points."""
        return number.unsqueeze(1) if number.dim() else number

    def chart(x):
        far = beside(radius) if x.dim() == 3 else radius
        return x[..., 1:] / (far + x[..., :1])

    with torch.no_grad():
        start = None if start is None else chart(start)
        found, error = solved("ball", groups, chart(fixed).detach(), weights.detach(), start, **limits)

    def first():
        # When K moves and the points do not, they are off the manifold by a factor 1 + stretch, whose value is 1; with
        # K <x, y> greater in proportion a point counts as one of greater weight.
        stretch = _as_zero(0.5 * (-curvature).log())
        t = unit_ball.view(groups, chart(fixed), found).t.detach()
        gain = 1 - (1 + 2 * t) * arsinh_bend(t) / 2
        mean = unit_ball.Attached.apply(
            chart(fixed * (1 - beside(stretch))), weights * (1 + gain * stretch), found, groups
        )
        return _lifted(mean, radius) + _FollowPoints.apply(
            points, weights.detach(), found, radius.detach(), groups
        )

    def step(mean, points, weights, curvature):
        unit = (-curvature).sqrt()
        lorentz = (points[..., 1:] * points[..., 1:]).sum(-1, keepdim=True) - points[..., :1] * points[
            ..., :1
        ]
        square = beside(curvature) * lorentz
        # Exactly 1 in value, where a difference of large squares has no digits.
        norm = (1 + _as_zero(square)).sqrt()
        pairs = (points, norm, beside(unit)), (mean, 1, unit)
        x, m = (k * p[..., 1:] / (n + k * p[..., :1]) for p, n, k in pairs)
        return _lifted(unit_ball.newton_step(groups, x, weights, m, norm[..., 0]), 1 / unit)

    lifted = _lifted(found, radius.detach())
    return attached(lifted, step, (points, weights, curvature), first), error


def _lifted(mean, radius):
    square = mean.square().sum(-1, keepdim=True)
    return radius * torch.cat([1 + square, 2 * mean], dim=-1) / (1 - square)


class _FollowPoints(torch.autograd.Function):
    """Zero, with the derivative of the lifted mean with respect to points of the ambient space.

    It avoids the chart, where tangential and normal parts of cotangents nearly cancel far out. Here the product of a
    point with the solution of the Hessian system comes from the recentered view.
    """

    @staticmethod
    def forward(points, weights, mean, radius, groups):
        return points.new_zeros(len(mean), points.shape[-1])

    @staticmethod
    def setup_context(ctx, inputs, output):
        *tensors, ctx.groups = inputs
        ctx.save_for_backward(*tensors)

    @staticmethod
    @full_precision
    def backward(ctx, cotangent):
        points, weights, m, radius = ctx.saved_tensors
        groups, far = ctx.groups, radius.unsqueeze(1) if radius.dim() else radius
        seen = unit_ball.view(groups, points[..., 1:] / (far + points[..., :1]), m)
        h = arsinh_ratio(seen.t)
        square = m.square().sum(-1, keepdim=True)
        lifted = torch.cat([1 + square, 2 * m], dim=-1) / (1 - square)
        # The origin's frame, carried to the mean by Möbius translation: e_i goes to
        # (2 m_i / (1 - |m|^2), e_i + 2 m_i m / (1 - |m|^2)).
        fall = 2 * (cotangent[..., :1] + (m * cotangent[..., 1:]).sum(-1, keepdim=True)) / (1 - square)
        lam = unit_ball.solve_hessian(groups, seen, weights, h, radius * (cotangent[..., 1:] + fall * m))
        along = 2 * (m * lam).sum(-1, keepdim=True) / (1 - square)
        ambient = torch.cat([along, lam + along * m], dim=-1)
        product = 2 * (1 + seen.t) * groups.dot(seen.z, lam)  # <x, ambient>_L, for a unit point
        flip = cotangent.new_ones(cotangent.shape[-1])
        flip[0] = -1
        gradient = (weights * h).unsqueeze(-1) * groups.spread(flip * ambient)
        gradient += (weights * arsinh_bend(seen.t) * h / 2 * product).unsqueeze(-1) * groups.spread(
            flip * lifted
        )
        return gradient / far, None, None, None, None


def _as_zero(value):
    """Zero, with the derivative of the value."""
    return value - value.detach()


def sphere_mean(groups, points, weights, manifold, start, **limits):
    """Karcher flow; the implicit derivative is that of one Newton step at its end."""
    fixed = points.detach()
    mean, error = solved("sphere", groups, fixed, weights.detach(), start, **limits)

    def newton(mean, points, weights, hessian_of):
        log = manifold.log(groups.spread(mean), hessian_of)
        square = log.square().sum(-1)
        across = _cotangent_ratio(manifold, groups.spread(mean), hessian_of)
        along = (1 - across) / torch.where(square > 0, square, 1.0)
        pull = groups.combine(weights, manifold.log(groups.spread(mean), points))
        solution = groups.solve(groups.total(weights * across), weights * along, log, pull)
        return manifold.to_tangent(mean, solution)

    def step(mean, points, weights):
        return manifold.exp(mean, newton(mean, points, weights, points))

    def first():
        return mean + _as_zero(newton(mean, points, weights, fixed))

    return attached(mean, step, (points, weights), first), error


def _cotangent_ratio(manifold, x, y):
    """angle / tan(angle), shape (entries,)."""
    angle = manifold.dist(x, y)
    near = angle < 1e-4
    return torch.where(near, 1 - angle.square() / 3, angle / torch.where(near, 1.0, angle).tan())


def _karcher(groups, x, w, start, *, tolerance, max_iterations):
    from loupe.geometry.manifolds import Sphere  # which takes its mean from here

    sphere, total = Sphere(), groups.total(w).unsqueeze(-1)
    mean = sphere.project(groups.combine(w, x)) if start is None else start
    for _ in range(max_iterations):
        velocity = groups.combine(w, sphere.log(groups.spread(mean), x)) / total
        mean = sphere.exp(mean, velocity)
        error = velocity.norm(dim=-1)
        if (error <= tolerance).all():
            break
    return mean, error


SOLVERS["sphere"] = _karcher

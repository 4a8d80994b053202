"""Hyperbolic space in two charts, the Poincaré ball and the hyperboloid, with learnable curvature.

With ``c = -K`` the ball is ``{|x|**2 < 1/c}`` and the hyperboloid ``{<x, x>_L = -1/c, x_0 > 0}``. All distances go
through ``t = sinh(sqrt(c) d / 2)**2``, a quotient of sums of positive terms, which stays accurate both for points that
nearly coincide and for points near the boundary.

References
----------
.. [1] Ganea, Bécigneul and Hofmann, Hyperbolic Neural Networks, 2018: gyrovector formulas of the ball.
.. [2] Lou et al., Differentiating through the Fréchet Mean, 2020, appendix: both charts.
"""

import math
import warnings

import torch
from torch.nn.functional import pad

from loupe.derivatives import readable
from loupe.geometry.base import OFF, nan_where, normal, spoilt
from loupe.geometry.charts import ball_mean, hyperboloid_mean
from loupe.geometry.negative import Hyperbolic
from loupe.geometry.series import arsinh_ratio, arsinh_square, artanh_ratio, cosh_root, sinh_ratio, tanh_ratio

MARGINS = {torch.float32: 4e-3, torch.float64: 1e-5}
"""Smallest distance of network outputs from the boundary of the ball, relative to its radius, as in HGCN."""

COARSE = 1e-4
"""Below this ``1 - c |x|**2``, single precision has lost half of its digits: the check warns."""


def _dot(u, v):
    return (u * v).sum(-1, keepdim=True)


def _room(x, c):
    """``1 - c |x|**2``, shape ``(..., 1)``; 0 on the boundary, and for points that rounding moved beyond it."""
    return _not_below_zero(1 - c * _dot(x, x))


def _not_below_zero(room):
    # Added, so that gradients elsewhere stay the same bit for bit.
    return room + (room.clamp_min(0) - room).detach()


def mobius_add(x, y, c=1.0):
    """Möbius addition in the ball of radius ``1/sqrt(c)``: ``y`` after the translation that takes 0 to ``x``.

    Parameters
    ----------
    x, y : torch.Tensor, shape (..., d)
    c : float or torch.Tensor
        Minus the curvature: one number, or one for each element of a batch.

    Returns
    -------
    torch.Tensor, shape (..., d)
    """
    # As sums of positive terms: the usual form cancels where x and -y are near the boundary.
    (x, y), c = PoincareBall(-c).sound(x, y), _column(c)
    step, room = x + y, _room(x, c)
    square = c * _dot(step, step)
    return (room * step + square * x) / (room * _room(y, c) + square)


def recentered(x, y, c=1.0):
    """Möbius addition ``(-x) + y``, and ``t = sinh(sqrt(c) d(x, y) / 2)**2``, without cancellation.

    A tensor ``c`` of more than one number has a last axis of size 1.

    Returns
    -------
    torch.Tensor, shape (..., d)
        The position of ``y`` after ``x`` is moved to 0.
    torch.Tensor, shape (..., 1)
    """
    step = y - x
    square, room = c * _dot(step, step), _room(x, c)
    both = room * _room(y, c)
    return (room * step - square * x) / (both + square), square / both


class PoincareBall(Hyperbolic):
    """The Poincaré ball: ``|x|**2 < -1/curvature``, with the metric ``(2 / (1 + K |x|**2))**2`` times the Euclidean.

    Parameters
    ----------
    curvature : float or torch.Tensor
        Below 0. A tensor may require gradients; its shape is a batch shape of points, ``(...)``, or broadcasts to one.

    Raises
    ------
    ValueError
        If the curvature is not negative.

    Examples
    --------
    >>> ball = PoincareBall(curvature=-1.0)
    >>> x = torch.tensor([0.0, 0.0]), torch.tensor([0.5, 0.0])
    >>> round(ball.dist(*x).item(), 6) == round(2 * math.atanh(0.5), 6)
    True
    """

    def conformal_factor(self, x):
        """``2 / (1 + K |x|**2)``, shape ``(..., 1)``: the factor from Euclidean to hyperbolic length at ``x``."""
        (x,) = self.sound(x)
        return 2 / _room(x, self._c)

    def project(self, x, margin=None):
        """``x``, or the nearest point of norm ``(1 - margin) / sqrt(c)`` where it lies beyond.

        The default margin, the root of the dtype's resolution, leaves ``1 - c |x|**2`` half of its digits.
        """
        margin = torch.finfo(x.dtype).eps ** 0.5 if margin is None else margin
        square = self._c * _dot(x, x)
        beyond = square > (1 - margin) ** 2
        shorter = (1 - margin) / torch.where(beyond, square, 1.0).sqrt()
        # Avoid squares that overflow: the direction of the point must survive.
        return torch.where(beyond, x * spoilt(shorter, shorter == 0), x)

    def to_tangent(self, x, u):
        self.sound(x, vectors=(u,))
        return nan_where(u, x)

    def exp(self, x, u):
        (x,) = self.sound(x, vectors=(u,))
        half = self.conformal_factor(x) / 2
        step = half * tanh_ratio(self._c * half * half * _dot(u, u)) * u
        return self.project(mobius_add(x, step, self.c))

    def log(self, x, y):
        x, y = self.sound(x, y)
        seen, t = recentered(x, y, self._c)
        return _room(x, self._c) * (arsinh_ratio(t) * (1 + t)) * seen

    def exp0(self, u):
        """:meth:`exp` at the origin, at half the cost; vectors there have twice their Euclidean length."""
        return self.project(tanh_ratio(self._c * _dot(u, u)) * u)

    def log0(self, x):
        """:meth:`log` at the origin."""
        (x,) = self.sound(x)
        square = self._c * _dot(x, x)
        return artanh_ratio(square + (square.clamp_max(1) - square).detach()) * x

    def squared_dist(self, x, y):
        x, y = self.sound(x, y)
        square = self.c * (y - x).square().sum(-1)
        room_x, room_y = (_not_below_zero(1 - self.c * p.square().sum(-1)) for p in (x, y))
        return 4 / self.c * arsinh_square(square / (room_x * room_y))

    def inner(self, x, u, v):
        self.sound(x, vectors=(u, v))
        return self.conformal_factor(x)[..., 0] ** 2 * (u * v).sum(-1)

    def transport(self, x, y, u):
        x, y = self.sound(x, y, vectors=(u,))
        scale = self.conformal_factor(x) / self.conformal_factor(y)
        return scale * gyration(y, -x, u, self.c)

    def random(self, *shape, generator=None, dtype=None, device=None):
        """The exponential map at 0 of standard normal vectors (in orthonormal coordinates)."""
        # Vectors at 0 have twice their Euclidean length.
        return self.exp0(0.5 * normal(shape, generator, dtype, device))

    def random_tangent(self, x, generator=None):
        return normal(x.shape, generator, x.dtype, x.device) / self.conformal_factor(x)

    def origin_like(self, x):
        return torch.zeros_like(x)

    def off(self, x):
        # How far rounding in a sum of squares can exceed the boundary.
        return self.c * x.square().sum(-1) > 1 + (4 + x.shape[-1]) * torch.finfo(x.dtype).eps

    def check(self, x):
        super().check(x, finite=False)
        curvature, square = self.number(), (x * x).sum(-1)
        fraction = -curvature * square
        # Scaling points to radius 1 rounds them once more.
        if not (fraction < 1 - 4 * torch.finfo(x.dtype).eps).all():
            super().check(x)
            worst = fraction.argmax()
            K = curvature.expand_as(fraction).flatten()[worst].item() if self._batched else curvature
            raise ValueError(
                f"points must lie inside the ball of radius {(-K) ** -0.5:.6g}, got one of norm "
                f"{square.flatten()[worst].sqrt().item():.9g}: use PoincareBall(...).project(points)"
            )
        if x.dtype == torch.float32 and fraction.numel() and fraction.max() > 1 - COARSE:
            warnings.warn(
                f"points as near the boundary as {(1 - fraction.max()).item():.2g} of the squared radius have fewer than "
                "four digits left in float32: use .double()",
                RuntimeWarning,
                stacklevel=3,
            )

    def dimension_like(self, x):
        return x.shape[-1]

    def from_frame(self, x, a):
        return a / self.conformal_factor(x)

    def coordinates(self, x, u):
        return self.conformal_factor(x) * u

    def _volume_slope(self, x, u):
        return 2 * x.shape[-1] * self.c * (x * u).sum(-1) / _room(x, self._c)[..., 0]

    def inside(self, x):
        return self.project(x, MARGINS[x.dtype])

    def translated(self, x, shift):
        return mobius_add(x, shift, self.c)

    def entered(self, u):
        """The two maps cancel up to the margin, which matters only for long vectors: no extra pass over wide ones."""
        longest = math.atanh(1 - MARGINS[u.dtype]) / self._c**0.5
        norms = torch.linalg.vector_norm(u, dim=-1, keepdim=True)
        if readable(norms, longest) and not (norms > longest).any():
            return u
        return u * (longest / norms.clamp_min(1e-30)).clamp_max(1)

    def mean(self, groups, points, weights, start, **limits):
        return ball_mean(groups, points, weights, self, start, **limits)


def gyration(u, v, w, c=1.0):
    """The rotation ``gyr[u, v] w`` by which Möbius addition fails to be associative, in closed form.

    Parameters
    ----------
    u, v, w : torch.Tensor, shape (..., d)
    c : float or torch.Tensor

    Returns
    -------
    torch.Tensor, shape (..., d)
    """
    # A quarter turn in the plane of u and v, written with u + v: the usual closed form cancels near the boundary.
    (u, v), c = PoincareBall(-c).sound(u, v, vectors=(w,)), _column(c)
    step = u + v
    room_u, room_v, square = _room(u, c), _room(v, c), c * _dot(step, step)

    def turned(w):
        return c * (_dot(v, w) * step - _dot(step, w) * v)

    once = turned(w)
    half = (room_u + room_v + square) / 2  # 1 + c <u, v>
    return w + 2 * (half * once + turned(once)) / (room_u * room_v + square)


def lorentz(u, v):
    """The Lorentz product ``-u_0 v_0 + u_1 v_1 + ...``, shape ``(..., 1)``."""
    return _dot(u[..., 1:], v[..., 1:]) - u[..., :1] * v[..., :1]


class Hyperboloid(Hyperbolic):
    """The upper sheet ``<x, x>_L = 1/curvature`` in d + 1 coordinates, the time-like one first.

    Parameters
    ----------
    curvature : float or torch.Tensor
        Below 0. A tensor may require gradients; its shape is a batch shape of points, ``(...)``, or broadcasts to one.

    Raises
    ------
    ValueError
        If the curvature is not negative.
    """

    def project(self, x):
        """The point with the same space-like coordinates."""
        space = nan_where(x[..., 1:], x[..., :1])
        return torch.cat([(1 / self._c + _dot(space, space)).sqrt(), space], dim=-1)

    def to_tangent(self, x, u):
        (x,) = self.sound(x, vectors=(u,))
        return u + self._c * lorentz(x, u) * x

    def exp(self, x, u):
        (x,) = self.sound(x, vectors=(u,))
        square = self._c * lorentz(u, u).clamp_min(0)
        return self.project(cosh_root(square) * x + sinh_ratio(square) * u)

    def log(self, x, y):
        t = self._t(x, y)
        # arcosh(1 + 2t) / sinh of it; subtract first, for points that nearly coincide.
        return arsinh_ratio(t) * ((y - x) - 2 * t * x)

    def squared_dist(self, x, y):
        return 4 / self.c * arsinh_square(self._t(x, y)[..., 0])

    def _t(self, x, y):
        x, y = self.sound(x, y)
        step, product = y - x, x[..., :1] * y[..., :1]
        near = _not_below_zero(0.25 * self._c * lorentz(step, step))
        # Take the form with smaller squares to cancel: the difference, or <x, y>_L.
        return torch.where(step[..., :1].square() <= product, near, -0.5 * (self._c * lorentz(x, y) + 1))

    def inner(self, x, u, v):
        self.sound(x, vectors=(u, v))
        return nan_where(lorentz(u, v), x)[..., 0]

    def transport(self, x, y, u):
        self.sound(x, y, vectors=(u,))
        return u + self._c * lorentz(y, u) / (2 + 2 * self._t(x, y)) * (x + y)

    def random(self, *shape, generator=None, dtype=None, device=None):
        """The exponential map at the origin of standard normal vectors."""
        u = normal(shape, generator, dtype, device)
        u[..., 0] = 0
        return self.exp0(u)

    def random_tangent(self, x, generator=None):
        u = normal(x.shape, generator, x.dtype, x.device)
        u[..., 0] = 0
        return self.transport(self.origin_like(x), x, u)

    def origin_like(self, x):
        """``(1/sqrt(c), 0, ..., 0)``."""
        first = torch.as_tensor(self._c, dtype=x.dtype, device=x.device).rsqrt()
        lead = torch.broadcast_shapes(first.shape[:-1], x.shape[:-1])
        return torch.cat([first.expand(*lead, 1), torch.zeros_like(x[..., 1:]).expand(*lead, -1)], dim=-1)

    def off(self, x):
        return (x[..., 0] <= 0) | (self._gap(x, self.c) > max(OFF, 16 * torch.finfo(x.dtype).eps))

    def _gap(self, x, c):
        # Relative to the size of the terms: far out, <x, x>_L is the small difference of large squares.
        return (1 + c * lorentz(x, x)[..., 0]).abs() / (c * x[..., 0].square()).clamp_min(1)

    def check(self, x):
        curvature = self.number()
        super().check(x)
        gap = self._gap(x, self.c)
        tolerance = max(1e-6, 16 * torch.finfo(x.dtype).eps)
        if not (x[..., 0] > 0).all():
            raise ValueError(
                f"points must lie on the upper sheet, got one whose first coordinate is {x[..., 0].min().item():.6g}: "
                "use Hyperboloid(...).project(points)"
            )
        if not (gap <= tolerance).all():
            raise ValueError(
                f"points must lie on the upper sheet of <x, x>_L = {_shown(1 / curvature)}, got one that misses it by "
                f"{gap.max().item():.3g} (relative): use Hyperboloid(...).project(points)"
            )

    def dimension_like(self, x):
        return x.shape[-1] - 1

    def from_frame(self, x, a):
        """The frame of the origin, carried to ``x`` along the geodesic."""
        return self.transport(self.origin_like(x), x, pad(a, (1, 0)))

    def coordinates(self, x, u):
        (x,) = self.sound(x, vectors=(u,))
        return self.transport(x, self.origin_like(x), u)[..., 1:]

    def mean(self, groups, points, weights, start, **limits):
        return hyperboloid_mean(groups, points, weights, self, start, **limits)


def to_ball(x, curvature=-1.0):
    """The chart map from the hyperboloid ``(..., d + 1)`` to the ball ``(..., d)`` of the same curvature."""
    (x,) = Hyperboloid(curvature).sound(x)
    radius = _radius(_column(curvature), x)
    return radius * x[..., 1:] / (radius + x[..., :1])


def to_hyperboloid(x, curvature=-1.0):
    """The chart map from the ball ``(..., d)`` to the hyperboloid ``(..., d + 1)`` of the same curvature."""
    (x,) = PoincareBall(curvature).sound(x)
    K = _column(curvature)
    radius, c = _radius(K, x), -K
    square = (c * _dot(x, x)).clamp_max(1)
    return torch.cat([radius * (1 + square), 2 * x], dim=-1) / (1 - square)


def _column(numbers):
    """The number; a batch of numbers gets an extra axis for coordinates."""
    several = isinstance(numbers, torch.Tensor) and numbers.numel() != 1
    return numbers.unsqueeze(-1) if several else numbers


def _radius(curvature, like):
    return torch.as_tensor(-curvature, dtype=like.dtype, device=like.device).rsqrt()


def _shown(number):
    return f"{number:.6g}" if isinstance(number, float) else "1 / curvature"

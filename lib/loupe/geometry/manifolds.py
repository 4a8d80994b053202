"""Flat space and the sphere, of any dimension."""

import math

import torch
from torch.nn.functional import pad

from loupe.checks import whole
from loupe.geometry.base import OFF, Manifold, nan_where, normal
from loupe.geometry.charts import euclidean_mean, sphere_mean
from loupe.geometry.series import arcsin_ratio, arcsin_square, cos_root, sin_ratio

__all__ = ["Euclidean", "Manifold", "Sphere"]


class Euclidean(Manifold):
    """Flat space of any dimension."""

    curvature = 0.0

    def project(self, x):
        return x

    def to_tangent(self, x, u):
        self.sound(x, vectors=(u,))
        return nan_where(u, x)

    def exp(self, x, u):
        self.sound(x, vectors=(u,))
        return x + u

    def log(self, x, y):
        self.sound(x, y)
        return y - x

    def squared_dist(self, x, y):
        self.sound(x, y)
        return (y - x).square().sum(-1)

    def inner(self, x, u, v):
        self.sound(x, vectors=(u, v))
        return nan_where(u * v, x).sum(-1)

    def transport(self, x, y, u):
        self.sound(x, y, vectors=(u,))
        return nan_where(u, x, y)

    def random(self, *shape, generator=None, dtype=None, device=None):
        """Standard normal points."""
        return normal(shape, generator, dtype, device)

    def random_tangent(self, x, generator=None):
        return normal(x.shape, generator, x.dtype, x.device)

    def origin_like(self, x):
        return torch.zeros_like(x)

    def dimension_like(self, x):
        return x.shape[-1]

    def from_frame(self, x, a):
        self.sound(x)
        return nan_where(a, x)

    def coordinates(self, x, u):
        return self.to_tangent(x, u)

    def log_volume_density(self, x, u):
        return 0 * self.inner(x, u, u)

    def translated(self, x, shift):
        return x + shift

    def mean(self, groups, points, weights, start, **limits):
        return euclidean_mean(groups, points, weights, self, start, **limits)


class Sphere(Manifold):
    """The unit sphere in d coordinates: dimension d - 1, curvature 1.

    The logarithm is undefined at a point's antipode; there it returns one of the many shortest geodesics, or 0.

    Parameters
    ----------
    dimension : int, optional
        d - 1; by default points may have any number of coordinates.
    """

    curvature = 1.0

    def __init__(self, dimension=None):
        self.event_shape = None if dimension is None else (whole("dimension", dimension) + 1,)

    def __repr__(self):
        return f"Sphere({'' if self.event_shape is None else self.event_shape[0] - 1})"

    def project(self, x):
        return x / x.norm(dim=-1, keepdim=True)

    def to_tangent(self, x, u):
        (x,) = self.sound(x, vectors=(u,))
        return u - (x * u).sum(-1, keepdim=True) * x

    def exp(self, x, u):
        (x,) = self.sound(x, vectors=(u,))
        square = u.square().sum(-1, keepdim=True)
        return self.project(cos_root(square) * x + sin_ratio(square) * u)

    def log(self, x, y):
        quarter, rest = (leg[..., None] for leg in self._legs(x, y))
        # cos(angle) = 1 - 2 quarter; subtract (or add) first, for points that nearly coincide or are nearly antipodal.
        direction = torch.where(quarter < 0.5, (y - x) + 2 * quarter * x, (y + x) - 2 * rest * x)
        return arcsin_ratio(quarter, rest) * direction

    def squared_dist(self, x, y):
        return 4 * arcsin_square(*self._legs(x, y))

    def _legs(self, x, y):
        """sin**2 and cos**2 of half the angle: quarters of the squared distances to y and to its antipode."""
        x, y = self.sound(x, y)
        return 0.25 * (y - x).square().sum(-1), 0.25 * (y + x).square().sum(-1)

    def inner(self, x, u, v):
        (x,) = self.sound(x, vectors=(u, v))
        return nan_where(u * v, x).sum(-1)

    def transport(self, x, y, u):
        self.sound(x, y, vectors=(u,))
        rest = self._legs(x, y)[1][..., None]
        return u - (y * u).sum(-1, keepdim=True) / (2 * rest) * (x + y)

    def random(self, *shape, generator=None, dtype=None, device=None):
        """Uniformly distributed points."""
        return self.project(normal(shape, generator, dtype, device))

    def random_tangent(self, x, generator=None):
        return self.to_tangent(x, normal(x.shape, generator, x.dtype, x.device))

    def origin_like(self, x):
        """The north pole: the first coordinate is 1."""
        origin = torch.zeros_like(x)
        origin[..., 0] = 1
        return origin

    def off(self, x):
        return (x.square().sum(-1) - 1).abs() > max(OFF, 16 * torch.finfo(x.dtype).eps)

    def check(self, x):
        super().check(x)
        gap = (x.square().sum(-1) - 1).abs()
        if (gap > 1e2 * torch.finfo(x.dtype).eps ** 0.75).any():
            raise ValueError(
                f"points must lie on the unit sphere, got one of norm {x.norm(dim=-1).flatten()[gap.argmax()].item():.9g}: "
                "use Sphere().project(points)"
            )

    def dimension_like(self, x):
        return x.shape[-1] - 1

    def from_frame(self, x, a):
        """The frame of the nearer pole, carried to ``x`` along the geodesic."""
        pole, scale = self._pole(x)
        rest = (x[..., 1:] * a).sum(-1, keepdim=True)
        return pad(a, (1, 0)) - rest * scale * (pole + x)

    def coordinates(self, x, u):
        self.sound(x, vectors=(u,))
        pole, scale = self._pole(x)
        return u[..., 1:] - ((pole + x) * u).sum(-1, keepdim=True) * scale * x[..., 1:]

    def _pole(self, x):
        """The pole on the side of ``x``, and ``1 / (1 + |x_0|)``."""
        (x,) = self.sound(x)
        side = torch.where(x[..., :1] < 0, -1.0, 1.0).to(x.dtype)
        return side * self.origin_like(x), 1 / (1 + side * x[..., :1])

    def log_volume_density(self, x, u):
        square = self.inner(x, u, u)
        across = self.dimension_like(x) - 1
        return across * sin_ratio(square).abs().log() if across else 0 * square

    def log_volume_like(self, x):
        half = x.shape[-1] / 2
        return math.log(2) + half * math.log(math.pi) - math.lgamma(half)

    def windings(self, x, u):
        return wound(u, self.norm(x, u)[..., None])

    def mean(self, groups, points, weights, start, **limits):
        return sphere_mean(groups, points, weights, self, start, **limits)


TURNS = 4
"""Number of counted windings of a wrapped distribution, in each direction."""


def wound(u, length):
    """``u`` and its multiples that differ by full turns, in both directions, along a new first axis.

    Where ``u`` is 0 there is no direction: all are 0.
    """
    turns = [0, *range(1, TURNS + 1), *range(-TURNS, 0)]
    turns = (
        2
        * math.pi
        * torch.tensor(turns, dtype=length.dtype, device=u.device)[(slice(None), *[None] * u.dim())]
    )
    return (1 + turns / torch.where(length == 0, 1.0, length)) * u

"""What every manifold of the book can do: eight verbs, for points in any leading shape.

Each method takes tensors ``(..., d)`` whose leading shapes broadcast, and returns the dtype that it got. The formulas
are plain tensor operations, so gradients flow through points, tangent vectors and, in hyperbolic space, curvature;
they are finite where points coincide.

A number that is nan gives nan. A point that is off the manifold, by more than rounding and the steps of a solver, gives a
ValueError; where looking at values would cost a wait or is not possible, on a GPU and under ``torch.compile`` or
``torch.func``, it gives nan.

Why not geoopt's classes? Our benchmarks compare with them, but in its ball the inverse hyperbolic tangent is clamped
at 1 - 1e-7, points are held 1e-5 (float64) or 4e-3 (float32) away from the boundary, ball and hyperboloid take
curvature in different ways, and there is no mean to differentiate: exactness is what this book is about. Its Riemannian
optimisers are sound and should be taken as they are by a chapter whose *parameters* lie on a manifold; the networks of
this package keep theirs in tangent spaces, where any optimiser of torch will do.
"""

import torch

from loupe.derivatives import transformed
from loupe.geometry.series import arcsin_ratio, arcsin_square, cos_root, sin_ratio


class Manifold:
    """A Riemannian manifold of constant curvature, by its verbs.

    Attributes
    ----------
    curvature : float or torch.Tensor
        The sectional curvature; a scalar tensor may ask for gradients.
    """

    curvature = 0.0

    def project(self, x):
        """The point of the manifold that stands for ``x (..., d)``, after rounding or a step off it."""
        raise NotImplementedError

    def to_tangent(self, x, u):
        """The part of an ambient vector ``u (..., d)`` that is tangent at ``x``."""
        raise NotImplementedError

    def exp(self, x, u):
        """The point reached from ``x`` along the geodesic with initial velocity ``u``, after time 1."""
        raise NotImplementedError

    def log(self, x, y):
        """The initial velocity at ``x`` of the shortest geodesic that is at ``y`` after time 1."""
        raise NotImplementedError

    def exp0(self, u):
        """:meth:`exp` at the origin."""
        return self.exp(self.origin_like(u), u)

    def log0(self, x):
        """:meth:`log` at the origin."""
        return self.log(self.origin_like(x), x)

    def squared_dist(self, x, y):
        """The squared geodesic distance, shape ``(...)``; smooth also where points coincide."""
        raise NotImplementedError

    def dist(self, x, y):
        """The geodesic distance, shape ``(...)``; its gradient is 0 where points coincide."""
        return _root(self.squared_dist(x, y))

    def inner(self, x, u, v):
        """The inner product of two vectors that are tangent at ``x``, shape ``(...)``."""
        raise NotImplementedError

    def norm(self, x, u):
        """The length of a tangent vector, shape ``(...)``; its gradient is 0 at the vector 0."""
        return _root(self.inner(x, u, u).clamp_min(0))

    def transport(self, x, y, u):
        """``u``, tangent at ``x``, carried in parallel along the geodesic to ``y``."""
        raise NotImplementedError

    def random(self, *shape, generator=None, dtype=None, device=None):
        """Random points of shape ``shape``, the last number of which is that of the coordinates."""
        raise NotImplementedError

    def random_tangent(self, x, generator=None):
        """A standard normal tangent vector at each ``x``: every orthonormal coordinate has variance 1."""
        raise NotImplementedError

    def origin_like(self, x):
        """The manifold's chosen origin, in the shape, dtype and place of ``x``."""
        raise NotImplementedError

    def check(self, x):
        """Raise ValueError if a point is off the manifold; the message names the worst one and the remedy."""
        if not torch.isfinite(x).all():
            raise ValueError(f"points must be finite, got {_first_bad(x)} among them")

    def sound(self, *points, vectors=()):
        """The points, once they are seen to be on the manifold and to have as many coordinates as the vectors.

        Raises
        ------
        ValueError
            If they have not, or a point is off the manifold; where values are not looked at, its coordinates are nan.
        """
        sizes = {x.shape[-1:] for x in (*points, *vectors)}
        if len(sizes) > 1 or torch.Size() in sizes:
            shapes = ", ".join(str(tuple(x.shape)) for x in (*points, *vectors))
            raise ValueError(f"points and vectors must have the same number of coordinates, got {shapes}")
        return [self._sound(x) for x in points]

    def _sound(self, x):
        if not x.is_floating_point():
            raise ValueError(
                f"points must be floating-point numbers, got {x.dtype}: convert them with .float()"
            )
        off = self.off(x.detach())
        if off is None:
            return x
        if torch.compiler.is_compiling() or x.device.type != "cpu" or transformed():
            return torch.where(off.unsqueeze(-1), torch.nan, x)
        if off.any():
            self.check(x.detach()[off])
        return x

    def off(self, x):
        """Which points are off the manifold by far, shape ``(...)``; None where none can be. A nan is not."""
        return None

    def __repr__(self):
        return f"{type(self).__name__}()"


def _first_bad(x):
    return x[~torch.isfinite(x)].flatten()[0].item()


def _root(square):
    """The root, with the gradient 0 at 0."""
    zero = square == 0
    return torch.where(zero, 0.0, torch.where(zero, 1.0, square).sqrt())


def nan_where(value, *points):
    """``value (..., k)``, nan where a point is: for what does not depend on the point."""
    for x in points:
        value = spoilt(value, x.isnan().any(-1, keepdim=True))
    return value


def spoilt(value, where):
    """The value, nan in places. Added, so that gradients elsewhere are the same to the bit."""
    return value + torch.where(where, torch.nan, 0.0).to(value.dtype)


OFF = 2e-3
"""How far off points may be, in squares: solvers and differences leave the manifold a little."""


def normal(shape, generator, dtype, device):
    """Standard normal numbers; the generator's device where none is named."""
    if device is None and generator is not None:
        device = generator.device
    return torch.randn(shape, generator=generator, dtype=dtype, device=device)


class Euclidean(Manifold):
    """Flat space of any dimension."""

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


class Sphere(Manifold):
    """The unit sphere in d coordinates, that is of dimension d - 1, with curvature 1.

    The logarithm of a point's antipode is not defined; there it is one of the many shortest ways, or 0.
    """

    curvature = 1.0

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
        # cos(angle) = 1 - 2 quarter; the difference first, or the sum, for points that nearly coincide or oppose.
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

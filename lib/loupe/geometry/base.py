"""The interface of every manifold, for points of any batch shape.

Each method takes tensors whose batch shapes broadcast, and returns the dtype of its arguments. A point is a vector
``(..., d)``, or a matrix ``(..., n, n)`` where ``ndim`` is 2; a tangent vector has the shape of its point. The formulas
are plain tensor operations, so gradients of every order flow through points, tangent vectors and, in hyperbolic space,
curvature; they are finite where points coincide.

NaN in gives NaN out. A point off the manifold, beyond rounding and solver error, raises a ValueError. On a GPU the
check would wait, and under ``torch.compile`` or ``torch.func`` it is impossible: there such a point gives NaN.

Why not geoopt's classes? Our benchmarks and tests compare with them, but in its ball the inverse hyperbolic tangent is
clamped at 1 - 1e-7, points are held 1e-5 (float64) or 4e-3 (float32) away from the boundary, ball and hyperboloid take
curvature in different ways, and there is no differentiable mean; this book needs exactness. Its Riemannian optimizers
are sound: use them if *parameters* lie on a manifold. The networks of this package keep parameters in tangent spaces,
where any torch optimizer works.
"""

import math

import torch

from loupe.derivatives import transformed


class Manifold:
    """A Riemannian manifold.

    Attributes
    ----------
    ndim : int
        Axes of one point: 1 for vectors, 2 for matrices.
    event_shape : tuple of int or None
        Shape of one point, where the manifold fixes it.
    complex : bool
        Whether points are complex.
    """

    ndim = 1
    event_shape = None
    complex = False

    def project(self, x):
        """The point on the manifold for ``x (..., d)``, which may be off it by rounding or a step."""
        raise NotImplementedError

    def to_tangent(self, x, u):
        """The part of an ambient vector ``u (..., d)`` that is tangent at ``x``."""
        raise NotImplementedError

    def exp(self, x, u):
        """The point reached from ``x`` along the geodesic with initial velocity ``u``, after time 1."""
        raise NotImplementedError

    def log(self, x, y):
        """The initial velocity at ``x`` of the shortest geodesic that reaches ``y`` at time 1."""
        raise NotImplementedError

    def exp0(self, u):
        """:meth:`exp` at the origin of the tangent part of ``u``."""
        origin = self.origin_like(u)
        return self.exp(origin, self.to_tangent(origin, u))

    def log0(self, x):
        """:meth:`log` at the origin."""
        return self.log(self.origin_like(x), x)

    def geodesic(self, x, y, t):
        """The point at time ``t`` of the shortest geodesic from ``x`` (time 0) to ``y`` (time 1).

        Parameters
        ----------
        x, y : torch.Tensor
        t : float or torch.Tensor, shape (...)
            One number, or one for each geodesic.
        """
        t = _beside(t, self.ndim) if isinstance(t, torch.Tensor) else t
        return self.exp(x, t * self.log(x, y))

    def squared_dist(self, x, y):
        """The squared geodesic distance, shape ``(...)``; smooth also where points coincide."""
        u = self.log(x, y)
        return self.inner(x, u, u)

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
        """Parallel transport of ``u``, tangent at ``x``, along the geodesic to ``y``."""
        raise NotImplementedError

    def random(self, *shape, generator=None, dtype=None, device=None):
        """Random points of shape ``shape``, which ends with that of one point; uniform where the volume is finite."""
        raise NotImplementedError

    def random_tangent(self, x, generator=None):
        """A standard normal tangent vector at each ``x``: every orthonormal coordinate has variance 1."""
        shape = *x.shape[: x.dim() - self.ndim], self.dimension_like(x)
        return self.from_frame(x, normal(shape, generator, x.dtype.to_real(), x.device))

    def origin_like(self, x):
        """The manifold's chosen origin, with the shape, dtype and device of ``x``."""
        raise NotImplementedError

    # ---- frames, volumes and divergences

    def dimension_like(self, x):
        """The dimension of the manifold, for points of the shape of ``x``."""
        raise NotImplementedError

    def from_frame(self, x, a):
        """The tangent vector at ``x`` with coordinates ``a (..., dimension)`` in the :meth:`frame`, which is not formed."""
        raise NotImplementedError

    def frame(self, x):
        """An orthonormal basis of the tangent space, one axis before those of the point: ``(..., dimension, d)``."""
        eye = torch.eye(self.dimension_like(x), dtype=x.dtype.to_real(), device=x.device)
        return self.beside().from_frame(x.unsqueeze(-1 - self.ndim), eye)

    def coordinates(self, x, u):
        """The coordinates ``(..., dimension)`` of a tangent vector in :meth:`frame`."""
        each = x.unsqueeze(-1 - self.ndim), u.unsqueeze(-1 - self.ndim)
        return self.beside().inner(each[0], self.frame(x), each[1])

    def log_volume_density(self, x, u):
        """``log |det d exp_x|`` at ``u``, between orthonormal frames, shape ``(...)``: how ``exp`` stretches volumes."""
        raise NotImplementedError

    def log_volume_like(self, x):
        """The log of the volume, a float (minus the uniform log-density). ValueError where it is infinite."""
        raise ValueError(f"{self!r} has no finite volume, and no uniform distribution")

    def divergence(self, field, x, noise=None):
        """The Riemannian divergence of a tangent field, shape ``(...)``; differentiable.

        Parameters
        ----------
        field : callable
            Points to tangent vectors, independently for each element of the batch.
        x : torch.Tensor
        noise : torch.Tensor, shape (..., dimension), optional
            A noise vector for Hutchinson's estimate, in coordinates of :meth:`frame`, of mean 0 and covariance 1, such
            as random signs; it takes one derivative. Without it the divergence is exact, with one derivative for each
            direction of the frame.
        """

        def along(a):
            def component(y):
                return self._component(x, a, y, field(y)).sum()

            slope = torch.func.grad(component)(x)
            axes = tuple(range(-self.ndim, 0))
            return (slope.conj() * self.from_frame(x, a)).real.sum(axes)

        if noise is None:
            eye = torch.eye(self.dimension_like(x), dtype=x.dtype.to_real(), device=x.device)
            trace = torch.func.vmap(along, randomness="same")(eye).sum(0)
        else:
            trace = along(noise)
        return trace + self._volume_slope(x, field(x))

    def _component(self, x, a, y, v):
        """The part of ``v``, a field near ``x`` at ``y``, that the divergence differentiates along a frame direction."""
        return self.inner(x, self.from_frame(x, a), v)

    def _volume_slope(self, x, u):
        """The derivative along ``u`` of ``log sqrt(det g)`` in the flat coordinates of the points."""
        return 0.0

    def windings(self, x, u):
        """Initial velocities of all geodesics to one point, ``u`` the shortest, along a new first axis."""
        return u.unsqueeze(0)

    def log_wrapped_normal(self, x, y, scale):
        """The log density at ``y`` of ``exp_x(u)`` with ``u`` normal; see :class:`~loupe.geometry.WrappedNormal`."""
        branches = self.windings(x, self.log(x, y))
        a = self.coordinates(x, branches)
        logs = log_normal(a, scale).sum(-1) - self.log_volume_density(x, branches)
        if len(logs) == 1:
            return logs.squeeze(0)
        # The zero vector has no direction to wind around: count it once.
        again = (branches[1:] == branches[:1]).flatten(-self.ndim).all(-1)
        others = torch.where(again, -torch.inf, logs[1:])
        return torch.cat([logs[:1], others]).logsumexp(0)

    # ---- for means and networks

    def beside(self):
        """The same manifold for points with an extra axis before their coordinates, for batches of curvatures."""
        return self

    def mean(self, groups, points, weights, start, *, tolerance, max_iterations):
        """The Fréchet means of groups of points, and estimates of their errors; see :mod:`loupe.geometry.charts`."""
        raise ValueError(
            f"no Fréchet mean is known on {self!r}: choose PoincareBall, Hyperboloid, Euclidean or Sphere, or use "
            "karcher_flow"
        )

    def inside(self, x):
        """Network outputs, kept away from the manifold's boundary by a margin of their dtype."""
        return x

    def translated(self, x, shift):
        """``x``, moved along the geodesic whose velocity is that from the origin to ``shift``, transported to ``x``."""
        origin = self.origin_like(x)
        return self.exp(x, self.transport(origin, x, self.log0(shift)))

    def entered(self, u):
        """``log0(inside(exp0(u)))``: network inputs from features that are tangent vectors at the origin."""
        return u

    # ---- checks

    def check(self, x, *, finite=True):
        """Raise ValueError if a point is off the manifold; the message names the worst one and the remedy."""
        self.shaped(x)
        if finite and not torch.isfinite(x).all():
            raise ValueError(f"points must be finite, got {_first_bad(x)} among them")

    def shaped(self, *tensors):
        """ValueError unless all are tensors, each with as many coordinates as a point."""
        for x in tensors:
            if not isinstance(x, torch.Tensor):
                raise ValueError(
                    f"points and vectors must be tensors, got {type(x).__name__}: convert them with torch.as_tensor"
                )
        sizes = {x.shape[-self.ndim :] for x in tensors}
        if len(sizes) > 1 or len(next(iter(sizes))) < self.ndim:
            shapes = ", ".join(str(tuple(x.shape)) for x in tensors)
            raise ValueError(f"points and vectors must have the same number of coordinates, got {shapes}")
        self.check_shape(tuple(sizes.pop()))

    def check_shape(self, shape):
        """ValueError unless the shape ends with that of a point."""
        if self.event_shape not in (None, tuple(shape[-self.ndim :])):
            wanted = ", ".join(map(str, self.event_shape))
            raise ValueError(f"points of {self!r} must have shape (..., {wanted}), got {shape}")

    def sound(self, *points, vectors=()):
        """The points, checked to be on the manifold and to have as many coordinates as the vectors.

        Raises
        ------
        ValueError
            If they do not, or a point is off the manifold; where values are not checked, its coordinates become nan.
        """
        self.shaped(*points, *vectors)
        return [self._sound(x) for x in points]

    def _sound(self, x):
        if not (x.is_complex() if self.complex else x.is_floating_point()):
            kind, way = (
                ("complex", ".to(torch.complex64)") if self.complex else ("floating-point", ".float()")
            )
            raise ValueError(f"points must be {kind} numbers, got {x.dtype}: convert them with {way}")
        off = self.off(x.detach())
        if off is None:
            return x
        if torch.compiler.is_compiling() or x.device.type != "cpu" or transformed():
            return torch.where(_beside(off, self.ndim), torch.nan, x)
        if off.any():
            self.check(self._only(x.detach(), off))
        return x

    def _only(self, x, off):
        return x[off]

    def off(self, x):
        """Which points are far off the manifold, shape ``(...)``; None if none can be. NaN does not count."""
        return None

    def __repr__(self):
        return f"{type(self).__name__}()"


def _first_bad(x):
    return x[~torch.isfinite(x)].flatten()[0].item()


def _beside(values, axes):
    return values[(..., *[None] * axes)]


def _root(square):
    """The square root, with gradient 0 at 0."""
    zero = square == 0
    return torch.where(zero, 0.0, torch.where(zero, 1.0, square).sqrt())


def log_normal(a, scale):
    """The log density of a normal number of mean 0 and standard deviation ``scale``."""
    scale = torch.as_tensor(scale, dtype=a.dtype, device=a.device)
    return -0.5 * (a / scale).square() - scale.log() - 0.5 * math.log(2 * math.pi)


def full(x):
    """The points; half precision becomes float32, since the formulas need the digits."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def nan_where(value, *points):
    """``value (..., k)``, set to nan where a point is nan: for values that do not depend on the point."""
    for x in points:
        value = spoilt(value, x.isnan().any(-1, keepdim=True))
    return value


def spoilt(value, where):
    """The value, nan where marked. It is added, so that gradients elsewhere stay the same bit for bit."""
    return value + torch.where(where, torch.nan, 0.0).to(value.dtype)


OFF = 2e-3
"""Tolerance for points, in squares: solvers and differences leave the manifold slightly."""


def normal(shape, generator, dtype, device):
    """Standard normal numbers; the generator's device where none is named."""
    if device is None and generator is not None:
        device = generator.device
    return torch.randn(shape, generator=generator, dtype=dtype, device=device)

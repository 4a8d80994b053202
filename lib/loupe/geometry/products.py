"""Products of manifolds, whose points are packed into one vector."""

import math

import torch

from loupe.geometry.base import Manifold


class Product(Manifold):
    """The Riemannian product: squared distances add up, and everything else acts on each factor.

    Points are vectors ``(..., d)``: the factors' points concatenated, complex numbers as pairs of reals.

    Parameters
    ----------
    *factors : tuple of (Manifold, int or tuple of int)
        Each manifold, with the shape of its points.

    Raises
    ------
    ValueError
        If there are none, or a shape does not fit its manifold.

    Examples
    --------
    >>> from loupe.geometry import SpecialOrthogonal, Sphere
    >>> space = Product((Sphere(), 3), (SpecialOrthogonal(3), (3, 3)))
    >>> x = space.random(5, 12)
    >>> [tuple(part.shape) for part in space.split(x)]
    [(5, 3), (5, 3, 3)]
    """

    def __init__(self, *factors):
        if not factors:
            raise ValueError("a product needs factors, such as (Sphere(), 3)")
        self.factors = [(one, (shape,) if isinstance(shape, int) else tuple(shape)) for one, shape in factors]
        for one, shape in self.factors:
            if len(shape) != one.ndim or one.event_shape not in (None, shape):
                raise ValueError(f"{one!r} has no points of shape {shape}: see its ndim and event_shape")
        self.sizes = [math.prod(shape) * (2 if one.complex else 1) for one, shape in self.factors]
        self.event_shape = (sum(self.sizes),)
        self.dimensions = [one.dimension_like(torch.empty(shape)) for one, shape in self.factors]

    def split(self, x):
        """The points or vectors of the factors, each in its own shape."""
        (x,) = self.sound(x)
        parts = []
        for part, (one, shape) in zip(x.split(self.sizes, -1), self.factors, strict=True):
            pair = (2,) if one.complex else ()
            part = part.reshape(*part.shape[:-1], *shape, *pair)
            parts.append(torch.complex(part[..., 0], part[..., 1]) if one.complex else part)
        return parts

    def join(self, parts):
        """The inverse of :meth:`split`, broadcast over batch axes."""
        flat = []
        for part, (one, shape) in zip(parts, self.factors, strict=True):
            part = torch.stack([part.real, part.imag], -1) if one.complex else part
            flat.append(part.reshape(*part.shape[: part.dim() - len(shape) - one.complex], -1))
        lead = torch.broadcast_shapes(*(part.shape[:-1] for part in flat))
        return torch.cat([part.expand(*lead, -1) for part in flat], -1)

    def _each(self, verb, *arguments):
        columns = zip(*arguments, strict=True) if arguments else [()] * len(self.factors)
        return [getattr(one, verb)(*column) for (one, _), column in zip(self.factors, columns, strict=True)]

    def _joined(self, verb, *tensors):
        return self.join(self._each(verb, *map(self.split, tensors)))

    def _summed(self, verb, *tensors):
        return sum(self._each(verb, *map(self.split, tensors)))

    def project(self, x):
        return self._joined("project", x)

    def to_tangent(self, x, u):
        return self._joined("to_tangent", x, u)

    def exp(self, x, u):
        return self._joined("exp", x, u)

    def log(self, x, y):
        return self._joined("log", x, y)

    def squared_dist(self, x, y):
        return self._summed("squared_dist", x, y)

    def inner(self, x, u, v):
        return self._summed("inner", x, u, v)

    def transport(self, x, y, u):
        return self._joined("transport", x, y, u)

    def origin_like(self, x):
        return self._joined("origin_like", x)

    def random(self, *shape, generator=None, dtype=None, device=None):
        self.check_shape(shape)
        dtype = torch.get_default_dtype() if dtype is None else dtype
        options = {"generator": generator, "device": device}
        return self.join(
            one.random(*shape[:-1], *own, dtype=dtype.to_complex() if one.complex else dtype, **options)
            for one, own in self.factors
        )

    def dimension_like(self, x):
        return sum(self.dimensions)

    def from_frame(self, x, a):
        return self.join(self._each("from_frame", self.split(x), a.split(self.dimensions, -1)))

    def coordinates(self, x, u):
        return torch.cat(self._each("coordinates", self.split(x), self.split(u)), -1)

    def log_volume_density(self, x, u):
        return self._summed("log_volume_density", x, u)

    def log_volume_like(self, x):
        return sum(self._each("log_volume_like", self.split(x)))

    def log_wrapped_normal(self, x, y, scale):
        scale = torch.as_tensor(scale, dtype=x.dtype, device=x.device)
        scales = scale.expand(*scale.shape[:-1], sum(self.dimensions)).split(self.dimensions, -1)
        return sum(self._each("log_wrapped_normal", self.split(x), self.split(y), scales))

    def _component(self, x, a, y, v):
        parts = self.split(x), a.split(self.dimensions, -1), self.split(y), self.split(v)
        return sum(self._each("_component", *parts))

    def _volume_slope(self, x, u):
        return self._summed("_volume_slope", x, u)

    def check(self, x):
        super().check(x)
        self._each("check", self.split(x))

    def __repr__(self):
        return f"Product({', '.join(f'{one!r}' for one, _ in self.factors)})"

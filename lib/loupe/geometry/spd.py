"""Symmetric positive definite matrices with two metrics: affine-invariant, and log-Euclidean."""

import math

import torch

from loupe.checks import of_shape
from loupe.geometry.base import Manifold, normal, spoilt
from loupe.geometry.matrices import (
    exp_slope,
    expm,
    eye_like,
    largest,
    log1p_slope,
    log1p_symmetric,
    log_det_sinhc,
    product,
    sound_matrix,
    sym,
)

METRICS = ("affine_invariant", "log_euclidean")


class SPD(Manifold):
    """Symmetric positive definite matrices ``(..., n, n)``.

    ``affine_invariant``: ``tr(x^-1 u x^-1 v)``, invariant under ``x -> g x g^T``. ``log_euclidean``: the Frobenius
    product of the derivatives of the matrix logarithm along ``u`` and ``v``, a flat metric.

    Parameters
    ----------
    metric : str

    Raises
    ------
    ValueError
        If the metric is neither.
    """

    ndim = 2

    def __init__(self, metric="affine_invariant"):
        if metric not in METRICS:
            raise ValueError(f"metric must be one of {', '.join(METRICS)}, got {metric!r}")
        self.metric = metric
        self.flat = metric == "log_euclidean"

    def project(self, x):
        """The symmetric part, plus enough of the identity to keep eigenvalues above rounding."""
        x = sym(x)
        other = torch.diag(1.0 + torch.arange(x.shape[-1], device=x.device)).to(x)
        room = torch.finfo(x.dtype).eps ** 0.5
        inside = torch.linalg.cholesky_ex(x.detach() - room * largest(x.detach()) * eye_like(x))[1] == 0
        # Eigenvalues have poor derivatives where they coincide: use only those of matrices outside.
        safe, bad = sound_matrix(torch.where(inside[..., None, None], other, x), other)
        values = torch.linalg.eigvalsh(safe)
        top = values.abs().amax(-1)
        lacking = 3 * room * torch.where(top > 0, top, 1.0) - values[..., 0]
        moved = x + lacking[..., None, None] * eye_like(x)
        return spoilt(torch.where(inside[..., None, None], x, moved), bad & ~inside[..., None, None])

    def to_tangent(self, x, u):
        (x,) = self.sound(x, vectors=(u,))
        return spoilt(sym(u), x.isnan().any(-1).any(-1)[..., None, None])

    # In the affine-invariant metric a point is the identity moved by a Cholesky factor; in the flat one, a logarithm.

    def exp(self, x, u):
        (x,) = self.sound(x, vectors=(u,))
        if self.flat:
            return sym(expm(_log(x) + _log_slope(x, sym(u))))
        factor = _factor(x)
        return _moved(factor, expm(_seen(factor, u)))

    def log(self, x, y):
        x, y = self.sound(x, y)
        if self.flat:
            return sym(exp_slope(_log(x), _log(y) - _log(x)))
        return _moved(*_step(x, y))

    def squared_dist(self, x, y):
        x, y = self.sound(x, y)
        step = _log(y) - _log(x) if self.flat else _step(x, y)[1]
        return step.square().sum((-2, -1))

    def inner(self, x, u, v):
        (x,) = self.sound(x, vectors=(u, v))
        if self.flat:
            return (_log_slope(x, u) * _log_slope(x, v)).sum((-2, -1))
        factor = _factor(x)
        return (_seen(factor, u) * _seen(factor, v)).sum((-2, -1))

    def transport(self, x, y, u):
        x, y = self.sound(x, y, vectors=(u,))
        if self.flat:
            return sym(exp_slope(_log(y), _log_slope(x, u)))
        factor, step = _step(x, y)
        half = expm(0.5 * step)
        return _moved(factor, product(half, _seen(factor, u), half))

    def random(self, *shape, generator=None, dtype=None, device=None):
        """The exponential map at the identity of standard normal vectors."""
        self.check_shape(shape)
        a = normal((*shape[:-2], shape[-1] * (shape[-1] + 1) // 2), generator, dtype, device)
        return sym(expm(_unpacked(a, shape[-1])))

    def origin_like(self, x):
        return eye_like(x).expand_as(x).clone()

    def dimension_like(self, x):
        return x.shape[-1] * (x.shape[-1] + 1) // 2

    def from_frame(self, x, a):
        (x,) = self.sound(x)
        of_shape("coordinates", a, (*a.shape[:-1], self.dimension_like(x)))
        u = _unpacked(a, x.shape[-1])
        return sym(exp_slope(_log(x), u)) if self.flat else _moved(_factor(x), u)

    def coordinates(self, x, u):
        (x,) = self.sound(x, vectors=(u,))
        return _packed(_log_slope(x, u) if self.flat else _seen(_factor(x), u))

    def log_volume_density(self, x, u):
        """The affine-invariant metric needs a matrix as large as the dimension: meant for small n."""
        if self.flat:
            return 0 * self.inner(x, u, u)
        (x,) = self.sound(x, vectors=(u,))
        a, n = _seen(_factor(x), u).unsqueeze(-3), x.shape[-1]
        basis = _unpacked(torch.eye(self.dimension_like(x), dtype=x.dtype, device=x.device), n)
        once = product(a, basis) - product(basis, a)
        return log_det_sinhc(0.25 * _packed(product(a, once) - product(once, a)))

    def _component(self, x, a, y, v):
        # The frame of the flat metric is parallel: differentiate the coordinates of the field.
        return (self.coordinates(y, v) * a).sum(-1) if self.flat else super()._component(x, a, y, v)

    def _volume_slope(self, x, u):
        if self.flat:
            return super()._volume_slope(x, u)
        trace = _seen(_factor(x), u).diagonal(dim1=-2, dim2=-1).sum(-1)
        return -0.5 * (x.shape[-1] + 1) * trace

    def check_shape(self, shape):
        if len(shape) < 2 or shape[-1] != shape[-2]:
            raise ValueError(f"points must be square matrices, got shape {tuple(shape)}")

    def off(self, x):
        return ((_asymmetry(x) > 1e-3) | (torch.linalg.cholesky_ex(x)[1] != 0)) & ~x.isnan().any(-1).any(-1)

    def check(self, x):
        super().check(x)
        gap = _asymmetry(x).max().item() if x.numel() else 0
        least = torch.linalg.eigvalsh(sym(x)).min().item() if x.numel() else 1
        if not (gap <= 1e-6 and least > 0):
            raise ValueError(
                f"points must be symmetric and positive definite, got a relative asymmetry of {gap:.3g} and an eigenvalue "
                f"of {least:.6g}: use SPD().project(points)"
            )

    def __repr__(self):
        return f"SPD(metric={self.metric!r})"


def _asymmetry(x):
    return (largest(x - x.mT) / largest(x).clamp_min(torch.finfo(x.dtype).tiny))[..., 0, 0]


def _factor(x):
    return torch.linalg.cholesky_ex(x)[0]


def _from(x, y):
    """``y / c - x`` and the size c of ``y`` beside ``x``, or 1 where they are about as large.

    A matrix much smaller than ``x`` would lose its digits in the difference.
    """
    one, other = (a.detach().diagonal(dim1=-2, dim2=-1).sum(-1)[..., None, None] for a in (x, y))
    c = torch.where((other > 0.5 * one) & (other < 2 * one), 1.0, other / one)
    return y / c - x, c


def _log(x):
    z, c = _from(eye_like(x), x)
    return log1p_symmetric(z) + c.log() * eye_like(x)


def _log_slope(x, u):
    """The derivative of :func:`_log` along ``u``."""
    z, c = _from(eye_like(x), x)
    return log1p_slope(z, u / c)


def _step(x, y):
    """A Cholesky factor of ``x``, and the logarithm of ``y`` moved to the identity with it."""
    factor = _factor(x)
    z, c = _from(x, y)
    return factor, log1p_symmetric(_seen(factor, z)) + c.log() * eye_like(x)


def _seen(factor, u):
    """``L^-1 u L^-T``: a tangent vector, or a difference of points, moved to the identity."""
    half = torch.linalg.solve_triangular(factor, u, upper=False)
    return sym(torch.linalg.solve_triangular(factor, half.mT, upper=False))


def _moved(factor, s):
    """``L s L^T``, the inverse of :meth:`_seen`."""
    return sym(product(factor, s, factor.mT))


def _places(n, device):
    """Rows and columns of the upper triangle, and the position in it of each matrix entry."""
    rows, columns = torch.triu_indices(n, n, device=device)
    place = torch.empty(n, n, dtype=torch.int64, device=device)
    place[rows, columns] = place[columns, rows] = torch.arange(len(rows), device=device)
    return rows, columns, place


def _unpacked(a, n):
    """The symmetric matrix with orthonormal coordinates ``a (..., n (n + 1) / 2)``."""
    scale = torch.full((n, n), math.sqrt(0.5), dtype=a.dtype, device=a.device).fill_diagonal_(1)
    return a[..., _places(n, a.device)[2]] * scale


def _packed(s):
    rows, columns, _ = _places(s.shape[-1], s.device)
    return sym(s)[..., rows, columns] * (1 + (math.sqrt(2) - 1) * (rows != columns).to(s.dtype))

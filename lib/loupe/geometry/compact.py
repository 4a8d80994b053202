"""Compact groups: the flat torus, rotations of space, and special unitary matrices.

Lengths are angles on the torus, the angle of rotation on SO(3), and come from ``Re tr X^dagger Y`` on SU(n). A tangent
vector at ``x`` of a matrix group is ``x`` times an element of the Lie algebra.
"""

import math

import torch

from loupe.checks import of_shape, whole
from loupe.geometry.base import OFF, Manifold, log_normal, normal, spoilt
from loupe.geometry.manifolds import TURNS, Euclidean, wound
from loupe.geometry.matrices import adjoint, expm, eye_like, largest, log1p_unitary, log_det_sinhc, product
from loupe.geometry.series import angle_ratio, sin_ratio

TURN = 2 * math.pi


class Torus(Euclidean):
    """Angles ``(..., n)`` modulo 2 pi, with the flat metric.

    Every finite number is an angle; returned points lie in [0, 2 pi).

    Parameters
    ----------
    dimension : int
    """

    # The parts that differ from flat space.
    squared_dist, translated, mean = Manifold.squared_dist, Manifold.translated, Manifold.mean

    def __init__(self, dimension=1):
        self.event_shape = (whole("dimension", dimension),)

    def project(self, x):
        rest = x.remainder(TURN)
        # The remainder of a small negative number rounds up to a full turn.
        return torch.where(rest >= TURN, rest - TURN, rest)

    def exp(self, x, u):
        return self.project(super().exp(x, u))

    def log(self, x, y):
        step = super().log(x, y)
        return step - TURN * (step / TURN).round()

    def random(self, *shape, generator=None, dtype=None, device=None):
        self.check_shape(shape)
        device = generator.device if device is None and generator is not None else device
        return TURN * torch.rand(shape, generator=generator, dtype=dtype, device=device)

    def log_volume_like(self, x):
        return self.event_shape[0] * math.log(TURN)

    def log_wrapped_normal(self, x, y, scale):
        """Summed over all turns of each angle separately, or over waves where the scale is large."""
        counts = torch.arange(-TURNS, TURNS + 1, dtype=x.dtype, device=x.device)
        u = self.log(x, y).unsqueeze(-1)
        scale = torch.as_tensor(scale, dtype=u.dtype, device=u.device).unsqueeze(-1)
        by_turns = log_normal(u + TURN * counts, scale).logsumexp(-1)
        # Poisson's summation: the Fourier series of the same density.
        large = scale > 2.5
        damping = (-0.5 * (counts * torch.where(large, scale, 2.5)).square()).exp()
        by_waves = (damping * (counts * u).cos()).sum(-1).log() - math.log(TURN)
        return torch.where(large.squeeze(-1), by_waves, by_turns).sum(-1)

    def __repr__(self):
        return f"Torus({self.event_shape[0]})"


class _MatrixGroup(Manifold):
    """A compact matrix group with the bi-invariant metric ``factor * Re tr(u^dagger v)``."""

    ndim = 2
    factor = 1.0

    def _algebra(self, a):
        """The part of a matrix that belongs to the Lie algebra."""
        return 0.5 * (a - adjoint(a))

    def _log(self, z):
        """The logarithm of ``1 + z``, an element of the group."""
        raise NotImplementedError

    def _basis(self, like):
        """An orthonormal basis of the Lie algebra, shape (dimension, n, n)."""
        raise NotImplementedError

    def _left(self, x, u):
        """``x^dagger u``, in the Lie algebra."""
        return self._algebra(product(adjoint(x), u))

    def project(self, x):
        """The nearest unitary matrix, by Newton's method for the polar factor; nan where there is none."""
        for _ in range(12):
            inverse = adjoint(torch.linalg.inv_ex(x)[0])
            # The limit is the same for every factor; this one brings large and small singular values near 1 at once.
            pull = (largest(inverse) / largest(x)).sqrt().detach()
            x = 0.5 * (pull * x + inverse / pull)
        return x

    def to_tangent(self, x, u):
        (x,) = self.sound(x, vectors=(u,))
        return product(x, self._left(x, u))

    def exp(self, x, u):
        (x,) = self.sound(x, vectors=(u,))
        return product(x, expm(self._left(x, u)))

    def log(self, x, y):
        x, y = self.sound(x, y)
        # Subtract first, for points that nearly coincide.
        return product(x, self._log(product(adjoint(x), y - x)))

    def inner(self, x, u, v):
        self.sound(x, vectors=(u, v))
        values = self.factor * (u.conj() * v).real.sum((-2, -1))
        return spoilt(values, x.isnan().any(-1).any(-1))

    def transport(self, x, y, u):
        x, y = self.sound(x, y, vectors=(u,))
        half = expm(0.5 * self._log(product(adjoint(x), y - x)))
        return product(x, half, self._left(x, u), half)

    def random(self, *shape, generator=None, dtype=None, device=None):
        """Haar-distributed matrices."""
        self.check_shape(shape)
        dtype = torch.get_default_dtype() if dtype is None else dtype
        dtype = dtype.to_complex() if self.complex else dtype
        # QR is unique, and Q uniform, only with a positive diagonal of R.
        q, r = torch.linalg.qr(normal(shape, generator, dtype, device))
        return self._special(q * torch.sgn(r.diagonal(dim1=-2, dim2=-1)).unsqueeze(-2))

    def origin_like(self, x):
        return eye_like(x).expand_as(x).clone()

    def from_frame(self, x, a):
        (x,) = self.sound(x)
        of_shape("coordinates", a, (*a.shape[:-1], self.dimension_like(x)))
        basis = self._basis(x)
        return product(x, (a[..., None, None] * basis).sum(-3))

    def coordinates(self, x, u):
        (x,) = self.sound(x, vectors=(u,))
        left = product(adjoint(x), u).unsqueeze(-3)
        return self.factor * (self._basis(x).conj() * left).real.sum((-2, -1))

    def log_volume_density(self, x, u):
        (x,) = self.sound(x, vectors=(u,))
        a, basis = self._left(x, u).unsqueeze(-3), self._basis(x)
        brackets = product(a, basis) - product(basis, a)
        ad = self.factor * (brackets.unsqueeze(-3) * basis.conj()).real.sum((-2, -1))  # or its transpose
        return log_det_sinhc(0.25 * product(ad, ad))

    def off(self, x):
        gap, det = self._gap(x)
        return (gap > OFF) | (det > OFF)

    def _gap(self, x):
        """How far the columns are from orthonormal, and the determinant from 1."""
        gram = product(adjoint(x), x) - eye_like(x)
        return gram.abs().amax((-2, -1)), (torch.linalg.det(x) - 1).abs()

    def check(self, x):
        super().check(x)
        gap, det = self._gap(x)
        if not (torch.maximum(gap, det) <= 1e2 * torch.finfo(x.dtype).eps ** 0.75).all():
            raise ValueError(
                f"points must be matrices of {self!r}, got one with x^dagger x off the identity by {gap.max().item():.3g} "
                f"and a determinant off 1 by {det.max().item():.3g}: use {self!r}.project(points)"
            )

    def __repr__(self):
        return f"{type(self).__name__}({self.event_shape[0]})"


class SpecialOrthogonal(_MatrixGroup):
    """Rotations of space, ``(..., 3, 3)``; distances are angles of rotation, and the volume is 8 pi**2.

    The logarithm of a half turn is one of its two shortest geodesics.

    Parameters
    ----------
    n : int
        3.

    Raises
    ------
    ValueError
        For any other n.
    """

    factor = 0.5

    def __init__(self, n=3):
        if n != 3:
            raise ValueError(f"rotations are those of space, n = 3, got {n!r}: a circle is Torus(1)")
        self.event_shape = (3, 3)

    def project(self, x):
        """The nearest rotation; nan where the determinant is not positive."""
        return torch.where(torch.linalg.det(x)[..., None, None] > 0, super().project(x), torch.nan)

    def off(self, x):
        # Each row is the cross product of the others, and none is 0: cheaper than the determinant.
        gap = torch.linalg.cross(x, x.roll(-1, -2)) - x.roll(1, -2)
        return (gap.abs().amax((-2, -1)) > OFF) | (x.square().sum((-2, -1)) < 1.0)

    def _special(self, q):
        return q * torch.sgn(torch.linalg.det(q))[..., None, None]

    def _basis(self, like):
        basis = torch.zeros(3, 3, 3, dtype=like.dtype, device=like.device)
        for i, j, k in ((0, 1, 2), (1, 2, 0), (2, 0, 1)):
            basis[i, k, j], basis[i, j, k] = 1, -1
        return basis

    def _log(self, z):
        """From the quaternion q of the rotation: its products fill a symmetric matrix, and one row suffices."""
        flip = torch.tensor(
            [[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]], dtype=z.dtype, device=z.device
        )
        # 4 times the squares: 1 + trace, ...; the first three parts are small where z is.
        diagonal = (flip * z.diagonal(dim1=-2, dim2=-1).unsqueeze(-2)).sum(-1)
        diagonal = diagonal + torch.tensor([4, 0, 0, 0], dtype=z.dtype, device=z.device)
        x, y, w = z[..., 2, 1], z[..., 0, 2], z[..., 1, 0]
        tx, ty, tw = z[..., 1, 2], z[..., 2, 0], z[..., 0, 1]
        a, b, c, d = diagonal.unbind(-1)
        rows = [[a, x - tx, y - ty, w - tw], [x - tx, b, w + tw, y + ty]]
        rows += [[y - ty, w + tw, c, x + tx], [w - tw, y + ty, x + tx, d]]
        table = torch.stack([torch.stack(row, -1) for row in rows], -2)
        best = diagonal.argmax(-1, keepdim=True)
        row = table.gather(-2, best.unsqueeze(-1).expand(*best.shape, 4)).squeeze(-2)
        q = 0.5 * row / row.gather(-1, best).sqrt()
        q = torch.where(q[..., :1] < 0, -q, q)
        real, imaginary = q[..., 0], q[..., 1:]
        turn = 2 * angle_ratio(imaginary.square().sum(-1), real).unsqueeze(-1) * imaginary
        return (turn[..., None, None] * self._basis(z)).sum(-3)

    def dimension_like(self, x):
        return 3

    def log_volume_density(self, x, u):
        return 2 * sin_ratio(0.25 * self.inner(x, u, u)).abs().log()

    def log_volume_like(self, x):
        return math.log(8 * math.pi**2)

    def windings(self, x, u):
        return wound(u, self.norm(x, u)[..., None, None])


class SpecialUnitary(_MatrixGroup):
    """Complex matrices ``(..., n, n)`` with ``x^dagger x = 1`` and determinant 1, with the Frobenius metric.

    Volumes: ``4 sqrt(2) pi**2`` for n = 2, ``16 sqrt(3) pi**5`` for n = 3. The logarithm is the shortest one, or
    one of several; it differs from the principal one where the principal angles do not sum to 0.

    Parameters
    ----------
    n : int
        At least 2; tests go to 3.
    """

    complex = True

    def __init__(self, n):
        n = whole("n", n, 2)
        self.event_shape = (n, n)

    def project(self, x):
        """The nearest unitary matrix, turned to determinant 1."""
        return self._special(super().project(x))

    def _special(self, q):
        phase = torch.linalg.det(q).angle() / self.event_shape[0]
        return q * torch.polar(torch.ones_like(phase), -phase)[..., None, None]

    def _algebra(self, a):
        skew = super()._algebra(a)
        trace = skew.diagonal(dim1=-2, dim2=-1).mean(-1)
        return skew - trace[..., None, None] * eye_like(a)

    def _basis(self, like):
        """Gell-Mann's matrices times ``i / sqrt(2)``."""
        n, root = self.event_shape[0], 0.5**0.5
        basis = torch.zeros(n * n - 1, n, n, dtype=like.dtype, device=like.device)
        places = iter(range(n * n - 1))
        for j in range(n):
            for k in range(j):
                one, other = next(places), next(places)
                basis[one, j, k] = basis[one, k, j] = 1j * root
                basis[other, j, k], basis[other, k, j] = root, -root
        for k in range(1, n):
            row = torch.tensor([1.0] * k + [-float(k)] + [0.0] * (n - k - 1), dtype=torch.float64)
            basis[next(places)] = torch.diag(1j * row / row.norm()).to(basis)
        return basis

    def _log(self, z):
        return self._algebra(log1p_unitary(z))

    def dimension_like(self, x):
        return self.event_shape[0] ** 2 - 1

    def log_volume_like(self, x):
        n = self.event_shape[0]
        factorials = sum(math.lgamma(k + 1) for k in range(1, n))
        return 0.5 * math.log(n) + (n - 1) * (n + 2) / 2 * math.log(TURN) - factorials

    def log_wrapped_normal(self, x, y, scale):
        """From the shortest geodesic only, so the scale must make the others negligible."""
        widest, half = torch.as_tensor(scale).detach().max().double(), self.dimension_like(x) / 2
        # Vectors shorter than half of the shortest loop, of length 2 sqrt(2) pi, lead to different points.
        outside = torch.special.gammaincc(torch.tensor(half).double(), (math.pi / widest) ** 2)
        if outside > 1e-6:
            raise ValueError(
                f"a wrapped normal of {self!r} with a scale of {widest.item():g} leads round the group with "
                f"probability {outside.item():.2g}, which its density does not count: take a smaller scale"
            )
        return super().log_wrapped_normal(x, y, scale)

r"""Heat kernels that depend on the distance alone: spheres, and rotations of space.

A log density is a function of the squared angle, smooth at 0, so the score is -2 times its derivative times the
manifold's logarithm: it needs no axis and no division by a sine. Below a switch in sigma it comes from a sum over
geodesics (exact for S^3 and SO(3), an expansion with a table elsewhere), from there on from eigenfunctions.

Each function returns the log density and its derivative in the squared angle.

References
----------
.. [1] Lou et al., Scaling Riemannian Diffusion Models, 2023.
"""

import math
from functools import lru_cache

import numpy as np
import torch
from numpy.polynomial import chebyshev

from loupe.diffusion.riemannian import tables
from loupe.geometry import SpecialOrthogonal
from loupe.geometry.base import normal
from loupe.geometry.series import cos_root, power_series, sin_ratio

TURN = 2 * math.pi
BEFORE_ANTIPODE = 2.9**2
"""Corrections of the short-time forms stay constant beyond this squared angle, at least six standard deviations away."""

ROTATION_SWITCH = 1.0

_FIRST = (1 / 3, 1 / 45, 2 / 945, 1 / 4725, 2 / 93555, 1382 / 638512875, 4 / 18243225, 3617 / 162820783125)
_FIRST_SLOPE = tuple(k * a for k, a in enumerate(_FIRST))[1:]
"""Coefficients of (1 - r cot r) / r**2 in powers of r**2, and of its derivative."""


def sphere(square, sigma, dimension):
    """The heat kernel of a sphere, relative to its volume.

    Parameters
    ----------
    square : torch.Tensor of float64, shape (...)
        Squared angles.
    sigma : torch.Tensor, of a shape that broadcasts
    dimension : int
        At least 2.

    Returns
    -------
    log, slope : torch.Tensor, shape (...)
    """
    near = _three_sphere_near if dimension == 3 else _sphere_near
    return _switched(square, sigma, tables.longest(dimension), near, _sphere_waves, dimension)


def rotation(square, sigma):
    """The heat kernel of SO(3), relative to the volume 8 pi**2; see :func:`sphere`."""
    return _switched(square, sigma, ROTATION_SWITCH, _rotation_near, _rotation_waves)


def _switched(square, sigma, switch, near, waves, *dimension):
    early = sigma < switch
    short = near(square, torch.where(early, sigma, 0.5 * switch), *dimension)
    long = waves(square, torch.where(early, switch, sigma), *dimension)
    return tuple(torch.where(early, *pair) for pair in zip(short, long, strict=True))


# --- sums over geodesics ------------------------------------------------------------------------------------


def _gaussian(square, sigma, dimension):
    variance = sigma.square()
    return -square / (2 * variance) - dimension / 2 * (TURN * variance).log(), -1 / (2 * variance)


def _sphere_near(square, sigma, dimension):
    """The short-time expansion, and the table of what it leaves ([1], section 4; see :mod:`tables`)."""
    log, slope = _gaussian(square, sigma, dimension)
    alpha, tau = (dimension - 1) / 2, sigma.square() / 2
    inside, held = _held(square, BEFORE_ANTIPODE)
    ratio, first, first_slope = _first(held)
    reach = (sigma * (dimension**0.5 + tables.REACH)).square()
    in_table, angle = _held(square / reach, 1.0)
    values, slopes = _remainder(dimension, square.device)
    late = _chebyshev(2 * (sigma / tables.longest(dimension)).square() - 1, len(values.T))
    angles = _chebyshev(2 * angle - 1, len(values))
    rest, rest_slope = ((angles @ coefficients * late).sum(-1) for coefficients in (values, slopes))
    bend = alpha * (1 - alpha)
    log = log - alpha * ratio.log() + tau * (alpha**2 + bend * first + tau * rest)
    slope = slope + inside * (alpha / 2 * first + tau * bend * first_slope)
    return log, slope + in_table * tau.square() * rest_slope * 2 / reach


def _held(square, most):
    return (square < most).to(square.dtype), square.clamp_max(most)


@lru_cache
def _remainder(dimension, device):
    """Coefficients of the table, and of its derivative."""
    values = tables.remainder(dimension)
    slopes = np.zeros_like(values)
    slopes[:-1] = chebyshev.chebder(values, axis=0)
    return torch.tensor(values, device=device), torch.tensor(slopes, device=device)


def _first(square):
    """``sin(r) / r``, ``(1 - r cot r) / r**2``, and the derivative of the latter in ``r**2``."""
    ratio, near = sin_ratio(square), square < 0.1
    small, safe = torch.where(near, square, 0.0), torch.where(near, 1.0, square)
    sine = torch.where(near, math.sin(1.0), ratio)
    cotangent = cos_root(safe) / sine
    closed = (1 - cotangent) / safe
    slope = -(cotangent - sine**-2) / (2 * safe.square()) - closed / safe
    return (
        ratio,
        torch.where(near, power_series(_FIRST, small), closed),
        torch.where(near, power_series(_FIRST_SLOPE, small), slope),
    )


def _three_sphere_near(square, sigma, dimension):
    """S^3 = SU(2): exact."""
    log, slope = _gaussian(square, sigma, 3)
    inside, held = _held(square, BEFORE_ANTIPODE)
    ratio, first, _ = _first(held)
    others, others_slope = _longer_geodesics(held, sigma, 1)
    log = log - ratio.log() + sigma.square() / 2 + others.log()
    return log, slope + inside * (first / 2 + others_slope / others)


def _rotation_near(square, sigma):
    """SO(3): exact."""
    log, slope = _gaussian(square, sigma, 3)
    ratio, first, _ = _first(square / 4)
    others, others_slope = _longer_geodesics(square, sigma, -1)
    log = log - ratio.log() + sigma.square() / 8 + others.log()
    return log, slope + first / 8 + others_slope / others


def _longer_geodesics(square, sigma, sign):
    """The sum over all geodesics, of lengths ``theta + 2 pi k``, divided by the term of the shortest one.

    Two pairs are enough for sigma up to 1. ``sign`` is that of odd k. The geodesics k and -k are added first, since
    apart they have poles at angle 0.
    """
    total, slope = torch.ones_like(square * sigma), torch.zeros_like(square * sigma)
    near = square < 1e-4
    theta, small = torch.where(near, 1.0, square).sqrt(), torch.where(near, square, 0.0)
    for turn, signed in ((TURN, sign), (2 * TURN, 1)):
        pull = turn / sigma.square()
        damped = (-turn * pull / 2).exp()
        with_, against = (-pull * (turn / 2 + theta)).exp(), (-pull * (turn / 2 - theta)).exp()
        plus, minus = with_ + against, (with_ - against) / theta
        far = plus + turn * minus
        far_slope = -(pull * minus + turn * (pull * plus + minus) / theta.square()) / 2
        y = pull.square() * small
        close = 2 * damped * (1 + y / 2 - turn * pull * (1 + y / 6))
        close_slope = damped * pull.square() * (1 + y / 6 - turn * pull * (1 + y / 10) / 3)
        total = total + signed * torch.where(near, close, far)
        slope = slope + signed * torch.where(near, close_slope, far_slope)
    return total.clamp_min(1e-300), slope


# --- sums over eigenfunctions -------------------------------------------------------------------------------


def _sphere_waves(square, sigma, dimension, terms=None):
    terms = _enough(dimension) if terms is None else terms
    return _waves(square, sigma, *_sphere_coefficients(dimension, terms, square.device))


def _rotation_waves(square, sigma, terms=12):
    return _waves(square, sigma, *_rotation_coefficients(terms, square.device))


def _waves(square, sigma, log_volume, eigenvalues, values, slopes):
    """``log sum_m b_m cos(m theta)``, where b depends on sigma, less the log volume; and its derivative."""
    decay = torch.exp(-eigenvalues * sigma.square().unsqueeze(-1) / 2)
    cosines = _chebyshev(cos_root(square), len(eigenvalues))
    total = (cosines * (decay @ values)).sum(-1)
    by_cosine = (cosines * (decay @ slopes)).sum(-1)
    return total.clamp_min(1e-300).log() - log_volume, -by_cosine * sin_ratio(square) / (2 * total)


@lru_cache
def _sphere_coefficients(dimension, terms, device):
    """The log volume, eigenvalues, the cosine series of zonal functions, and their derivatives in the cosine."""
    n, alpha = terms + 1, (dimension - 1) / 2
    k = np.arange(n)
    rising = np.array([math.lgamma(alpha + j) - math.lgamma(alpha) - math.lgamma(j + 1) for j in k])
    table = np.zeros((n, n))
    for degree in k:
        j = np.arange(degree + 1)
        np.add.at(table[degree], abs(degree - 2 * j), np.exp(rising[j] + rising[degree - j]))
    half = (dimension + 1) / 2
    log_volume = math.log(2) + half * math.log(math.pi) - math.lgamma(half)
    table *= ((k + alpha) / alpha)[:, None]
    return log_volume, *_series(k * (k + dimension - 1.0), table, device)


@lru_cache
def _rotation_coefficients(terms, device):
    n = terms + 1
    level = np.arange(n)
    table = np.tril(np.full((n, n), 2.0))
    table[:, 0] = 1
    table *= (2 * level + 1)[:, None]
    return math.log(8 * math.pi**2), *_series(level * (level + 1.0), table, device)


def _series(eigenvalues, table, device):
    slopes = np.zeros_like(table)
    slopes[:, :-1] = chebyshev.chebder(table, axis=1)
    return [torch.tensor(a, device=device) for a in (eigenvalues, table, slopes)]


def _enough(dimension):
    """How many eigenfunctions give the digits of float64 from the switch on, at all angles that matter."""
    sigma, alpha = tables.longest(dimension), (dimension - 1) / 2
    cosine = math.cos(max(0.0, sigma * (dimension**0.5 - tables.REACH)))
    before, value, sizes = 0.0, 1.0, []
    while len(sizes) < 2 * dimension + 60:
        k = len(sizes)
        sizes.append((k + alpha) / alpha * abs(value))
        decay = math.exp(-(2 * k + dimension) * sigma**2 / 2)  # part of the recurrence, which would overflow
        rising, falling = 2 * (k + alpha) * cosine * value, (k + 2 * alpha - 1) * before
        before, value = value * decay, decay * (rising - falling) / (k + 1)
    return int(np.nonzero(np.array(sizes) > 1e-17 * max(sizes))[0].max()) + 1


def _chebyshev(x, n):
    """The Chebyshev polynomials of degrees below n, along a new last axis; each round doubles their number."""
    rows = torch.stack([torch.ones_like(x), x], -1)
    while (top := rows.shape[-1] - 1) < n - 1:
        rows = torch.cat([rows, 2 * rows[..., -1:] * rows[..., 1:] - rows[..., :top].flip(-1)], -1)
    return rows[..., :n]


# --- the kernel of a manifold -------------------------------------------------------------------------------


class RadialKernel:
    """Log densities, scores and samples on a sphere or SO(3); sigma is a tensor of float64 with the batch's shape."""

    def __init__(self, manifold):
        self.manifold, self.rotations = manifold, isinstance(manifold, SpecialOrthogonal)

    def radial(self, square, sigma, dimension, terms=None):
        """The log density and its derivative, as functions of the squared angle; ``terms`` cuts the series off."""
        if self.rotations:
            return rotation(square, sigma) if terms is None else _rotation_waves(square, sigma, terms)
        return (
            sphere(square, sigma, dimension)
            if terms is None
            else _sphere_waves(square, sigma, dimension, terms)
        )

    def evaluate(self, x, x0, sigma, terms=None):
        """The log density (...), and the score."""
        back = self.manifold.log(x, x0)
        square = self.manifold.inner(x, back, back).double()
        log, slope = self.radial(square, sigma, self.dimension(x), terms)
        return log, -2 * self.beside(slope).to(x.dtype) * back

    def dimension(self, x):
        """The dimension of the manifold; ValueError for a circle."""
        dimension = self.manifold.dimension_like(x)
        if dimension < 2:
            raise ValueError(
                "a heat kernel needs points of a sphere in at least 3 coordinates: a circle is Torus(1)"
            )
        return dimension

    def beside(self, values):
        """Values of the batch's shape, to multiply points."""
        return values[(..., *[None] * self.manifold.ndim)]

    def sample(self, x0, sigma, generator=None):
        """A uniform direction, and an angle from a table of quantiles."""
        u = self.manifold.random_tangent(x0, generator)
        length = self.manifold.norm(x0, u)
        z = normal(sigma.shape, generator, torch.float64, x0.device)
        angle = _quantiles(self.rotations, self.dimension(x0), x0.device)(z, sigma)
        return self.manifold.exp(x0, self.beside((angle / length).to(x0.dtype)) * u)


@lru_cache
def _quantiles_table(rotations, dimension):
    """Quantiles of the angle over sigma; log sigmas and normal scores of its rows and columns."""
    spread = np.linspace(math.log(0.02), math.log(9), 257) - 0.5 * math.log(dimension)
    scores = np.linspace(-6, 6, 1025)

    def log_density(theta, sigma):
        square, sigma = torch.from_numpy(theta).square(), torch.tensor(sigma, dtype=torch.float64)
        log = (rotation(square, sigma) if rotations else sphere(square, sigma, dimension))[0].numpy()
        with np.errstate(divide="ignore"):
            return log + (
                2 * np.log(np.sin(theta / 2)) if rotations else (dimension - 1) * np.log(np.sin(theta))
            )

    return spread, scores, tables.angle_quantiles(log_density, dimension, np.exp(spread), scores)


@lru_cache
def _quantiles(rotations, dimension, device):
    """Angles as a function of normal numbers and sigmas: bilinear interpolation in the table."""
    spread, scores, table = _quantiles_table(rotations, dimension)
    table = torch.tensor(table, device=device)

    def look(z, sigma):
        row, along = _place(sigma.log(), spread)
        column, across = _place(z, scores)
        lower, upper = (torch.lerp(table[r, column], table[r, column + 1], across) for r in (row, row + 1))
        return sigma.clamp_max(math.exp(spread[-1])) * torch.lerp(lower, upper, along)

    return look


def _place(values, grid):
    """Index and fraction of values on an even grid, held at its ends."""
    place = ((values - grid[0]) / (grid[1] - grid[0])).clamp(0, len(grid) - 1)
    index = place.long().clamp_max(len(grid) - 2)
    return index, place - index

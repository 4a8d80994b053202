r"""Heat kernels that depend on the distance alone: spheres, and rotations of space.

A log density is a smooth function of the angle's cosine, so the score is its derivative times the gradient of the
cosine: it needs no axis and no logarithm. Below a switch in sigma it comes from a sum over geodesics (exact for S^3 and
SO(3), an expansion with a table elsewhere), from there on from eigenfunctions.

References
----------
.. [1] Lou et al., Scaling Riemannian Diffusion Models, 2023.
"""

import math
from functools import lru_cache

import numpy as np
import torch
from numpy.polynomial import chebyshev, polynomial
from scipy.special import zeta

from loupe.derivatives import readable
from loupe.diffusion.riemannian import tables
from loupe.geometry import SpecialOrthogonal, Sphere
from loupe.geometry.base import normal
from loupe.geometry.matrices import product

TURN = 2 * math.pi
BEFORE_ANTIPODE = 2.9**2
"""Corrections of the short-time forms stay constant beyond this squared angle, at least six standard deviations away."""

ROTATION_SWITCH = 0.8
"""From this sigma on SO(3) sums eigenfunctions."""


class RadialKernel:
    """Log densities, scores and samples on a sphere or SO(3); sigma is a tensor of float64 with the batch's shape."""

    def __init__(self, manifold):
        self.manifold, self.rotations = manifold, isinstance(manifold, SpecialOrthogonal)

    def evaluate(self, x, x0, sigma, terms=None):
        """The log density (...), and the score; ``terms`` cuts the series of eigenfunctions off."""
        apart = x0 - x
        square = apart.square().sum(tuple(range(-self.manifold.ndim, 0))).double()
        quarter = square * (0.125 if self.rotations else 0.25)
        log, slope = self.radial(quarter, sigma, self.dimension(x), terms)
        if self.rotations:
            gradient = 0.5 * (apart - product(x, apart.mT, x))
        else:
            gradient = apart + (2.0 * quarter).unsqueeze(-1).to(x.dtype) * x
        return log, self.beside(slope).to(x.dtype) * gradient

    def radial(self, quarter, sigma, dimension, terms=None):
        """The log density, and its derivative in the cosine of the angle.

        Parameters
        ----------
        quarter : torch.Tensor of float64, shape (...)
            The squared sine of half the angle.
        sigma : torch.Tensor of float64, of a shape that broadcasts
        dimension : int
            At least 2.
        terms : int, optional
            The highest eigenfunction of the series, which is cut off there; by default the density is accurate.
        """
        quarter, sigma = torch.broadcast_tensors(quarter, sigma)
        found = self._flat(quarter.reshape(-1), sigma.reshape(-1), dimension, terms)
        return [each.reshape(quarter.shape) for each in found]

    def _flat(self, quarter, sigma, dimension, terms):
        if terms is not None:
            return self._waves(quarter, sigma, dimension, terms)
        switch = ROTATION_SWITCH if self.rotations else tables.longest(dimension)
        early = sigma < switch
        if readable(early, quarter):
            log, slope = torch.empty_like(quarter), torch.empty_like(quarter)
            for chosen, part in ((early, self._geodesics), (~early, self._waves)):
                (index,) = torch.where(chosen)
                if len(index):
                    log[index], slope[index] = part(quarter[index], sigma[index], dimension)
            return log, slope
        short = self._geodesics(quarter, torch.where(early, sigma, 0.5 * switch), dimension)
        long = self._waves(quarter, torch.where(early, switch, sigma), dimension)
        return [torch.where(early, *pair) for pair in zip(short, long, strict=True)]

    def _geodesics(self, quarter, sigma, dimension):
        # Rounding takes points beyond both ends. At the lower one, the roots have no derivative.
        sine = quarter.clamp(1e-30, 1).sqrt()
        cosine = (1.0 - quarter).clamp_min(1e-30).sqrt()
        stretch = torch.atan2(sine, cosine) / sine
        square = 4.0 * quarter * stretch.square()
        if self.rotations:
            log, slope = _group(square, sigma, 0.25, -1)
        elif dimension == 3:
            log, slope = _group(square, sigma, 1.0, 1)
        else:
            log, slope = _expansion(square, sigma, dimension)
        return log, -2.0 * slope * stretch / cosine.clamp_min(1e-8)

    def _waves(self, quarter, sigma, dimension, terms=None):
        """``log sum_m b_m cos(m theta)``, where b depends on sigma, less the log volume; and its derivative."""
        if self.rotations:
            series = _rotation_coefficients(terms or 12, quarter.device)
        else:
            series = _sphere_coefficients(dimension, terms or _enough(dimension), quarter.device)
        log_volume, exponents, table = series
        heights = (table @ (exponents * sigma.square()).exp()).unflatten(0, (2, -1))
        total, slope = (heights * _chebyshev(1.0 - 2.0 * quarter, len(exponents))).sum(1)
        return total.clamp_min(1e-300).log() - log_volume, slope / total

    def dimension(self, x):
        """The dimension of the manifold; ValueError for a circle, and beyond the tables."""
        dimension = self.manifold.dimension_like(x)
        if dimension < 2:
            raise ValueError("heat kernels need spheres in at least 3 coordinates: a circle is Torus(1)")
        if dimension > tables.SHIPPED[-1]:
            raise ValueError(f"heat kernels go up to dimension {tables.SHIPPED[-1]}, got {dimension}")
        return dimension

    def beside(self, values):
        """Values of the batch's shape, to multiply points."""
        return values[(..., *[None] * self.manifold.ndim)]

    def sample(self, x0, sigma, generator=None):
        """A uniform direction, and an angle from a table of quantiles."""
        z = normal(sigma.shape, generator, torch.float64, x0.device)
        angle = self.beside(_quantiles(self.rotations, self.dimension(x0), x0.device)(z, sigma)).to(x0.dtype)
        towards = normal(x0.shape[: sigma.dim() + 1], generator, x0.dtype, x0.device)
        if self.rotations:
            axis = (towards / towards.norm(dim=-1, keepdim=True)).unsqueeze(-2).expand_as(x0)
            once = torch.linalg.cross(x0, axis)
            return x0 + angle.sin() * once + 2 * (angle / 2).sin().square() * torch.linalg.cross(once, axis)
        towards = towards - (towards * x0).sum(-1, keepdim=True) * x0
        towards = towards / towards.norm(dim=-1, keepdim=True)
        return self.manifold.project(angle.cos() * x0 + angle.sin() * towards)


# --- sums over geodesics: the log density and its derivative in the squared angle ---------------------------


def _gaussian(square, sigma, dimension):
    slope = -0.5 / sigma.square()
    return slope * square + dimension / 2 * (slope / -math.pi).log(), slope


def _expansion(square, sigma, dimension):
    """The short-time expansion, and the table of what it leaves ([1]; see :mod:`tables`)."""
    log, slope = _gaussian(square, sigma, dimension)
    alpha, tau = (dimension - 1) / 2, 0.5 * sigma.square()
    reach = (dimension**0.5 + tables.REACH) ** 2
    inside, held = _held(square, BEFORE_ANTIPODE)
    in_table, angle = _held(square / (2 * reach * tau), 1.0)
    time = tau * (2 / tables.longest(dimension) ** 2)
    sines, angles, times = _powers(2.0 * torch.stack([held / math.pi**2, angle, time]) - 1.0).unbind(1)
    log_ratio, first, first_slope = log_sine(held, sines)
    along = (_remainder(dimension, square.device) @ angles).unflatten(0, (2, -1))
    rest, rest_slope = (along * times[: along.shape[1]]).sum(1)
    bend = alpha * (1 - alpha)
    log = log - alpha * log_ratio + tau * (alpha**2 + bend * first + tau * rest)
    slope = slope + inside * (alpha / 2 * first + tau * bend * first_slope)
    return log, slope + in_table * (tau / reach) * rest_slope


def _held(square, most):
    return (square < most).to(square.dtype), square.clamp_max(most)


@lru_cache
def _remainder(dimension, device):
    """Coefficients of powers for the table, and below them for its derivative: a column for each power of the angle."""
    values = _of_powers(_of_powers(tables.remainder(dimension)).T)
    slopes = np.pad(polynomial.polyder(values, axis=1), ((0, 0), (0, 1)))
    return torch.tensor(np.vstack([values, slopes]), device=device)


def _of_powers(coefficients):
    """Coefficients of powers, along the first axis, from those of Chebyshev polynomials, which decay fast enough."""
    n = len(coefficients)
    powers = [np.pad(chebyshev.cheb2poly(row[: k + 1]), (0, n - 1 - k)) for k, row in enumerate(np.eye(n))]
    return np.transpose(powers) @ coefficients


def log_sine(square, powers=None):
    """``log(sin(r) / r)``, ``(1 - r cot r) / r**2``, and the derivative of the latter in ``r**2 < pi**2``.

    The second is -2 times the derivative of the first. The product of the sine's zeros leaves a smooth function beside
    the first pair of them. Powers of the square, moved from [0, pi**2] to [-1, 1], may be given.
    """
    powers = _powers(square * (2 / math.pi**2) - 1.0) if powers is None else powers
    smooth, first, first_slope = torch.tensordot(_smooth_part(square.device), powers, 1)
    gap = math.pi**2 - square
    return smooth + gap.log(), first + 2.0 / gap, first_slope + 2.0 / gap.square()


@lru_cache
def _smooth_part(device):
    """Coefficients of powers for ``log(sin(r) / r / (pi**2 - r**2))``, and -2 times its two derivatives in ``r**2``."""
    k = np.arange(1, 60)

    def function(u):
        return -(zeta(2 * k, 2) / k * ((1 + u[:, None]) / 2) ** k).sum(-1)

    value = _of_powers(chebyshev.chebinterpolate(function, tables.SHAPE[0] - 1))
    value[0] -= 2 * math.log(math.pi)
    slopes = (-2 * np.pad(polynomial.polyder(value, m, scl=2 / math.pi**2), (0, m)) for m in (1, 2))
    return torch.tensor(np.stack([value, *slopes]), device=device)


def _powers(x):
    """The powers of degrees up to 16 = SHAPE[0] - 1, along a new first axis; each round doubles their number."""
    rows = torch.stack([torch.ones_like(x), x])
    while len(rows) < tables.SHAPE[0]:
        rows = torch.cat([rows, rows[-1] * rows[1:]])
    return rows


def _group(square, sigma, part, sign):
    """S^3 = SU(2) with ``part`` 1, and SO(3) with 1/4, both exact; ``sign`` is that of the next geodesics."""
    log, slope = _gaussian(square, sigma, 3)
    inside, held = _held(part * square, BEFORE_ANTIPODE)
    log_ratio, first, _ = log_sine(held)
    others, others_slope = _two_more(held / part, sigma, sign)
    log = log - log_ratio + 0.5 * part * sigma.square() + others.log()
    return log, slope + inside * (0.5 * part * first + others_slope / others)


def _two_more(square, sigma, sign):
    """The sum over geodesics of lengths ``theta + 2 pi k``, k from -1 to 1, divided by the term of the shortest one.

    The others are below e^-60 for sigma up to 0.8. Apart, the two have poles at angle 0.
    """
    theta, push = square.clamp_min(1e-8).sqrt(), -TURN / sigma.square()
    more, less = (push * (math.pi + theta)).exp(), (push * (math.pi - theta)).exp()
    plus, minus = sign * (more + less), (more - less) * (sign / theta)
    return 1.0 + plus + TURN * minus, 0.5 * push * minus + math.pi * (push * plus - minus) / theta.square()


# --- sums over eigenfunctions -------------------------------------------------------------------------------


@lru_cache
def _sphere_coefficients(dimension, terms, device):
    """The log volume, exponents, and the cosine series of zonal functions over that of their derivatives in the cosine."""
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
    level = np.arange(terms + 1)
    table = np.tril(np.full((terms + 1, terms + 1), 2.0))
    table[:, 0] = 1
    table *= (2 * level + 1)[:, None]
    return math.log(8 * math.pi**2), *_series(level * (level + 1.0), table, device)


def _series(eigenvalues, table, device):
    slopes = np.pad(chebyshev.chebder(table, axis=1), ((0, 0), (0, 1)))
    # Transposed, for twice the Chebyshev polynomials, and the heat's exponents at sigma 1.
    rows = np.ascontiguousarray(np.hstack([table, slopes]).T) / 2
    return [torch.tensor(a, device=device) for a in (-eigenvalues[:, None] / 2, rows)]


@lru_cache
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
    """Twice the Chebyshev polynomials of degrees below n, along a new first axis; each round doubles their number."""
    rows = torch.stack([torch.full_like(x, 2.0), 2.0 * x])
    while len(rows) < n:
        rows = torch.cat([rows, rows[-1] * rows[1:] - rows[:-1].flip(0)])
    return rows[:n]


# --- samples ------------------------------------------------------------------------------------------------


@lru_cache
def _quantiles_table(rotations, dimension):
    """Quantiles of the angle over sigma; log sigmas and normal scores of its rows and columns."""
    spread = np.linspace(math.log(0.02), math.log(9), 257) - 0.5 * math.log(dimension)
    scores = np.linspace(-6, 6, 1025)
    kernel = RadialKernel(SpecialOrthogonal() if rotations else Sphere(dimension))

    def log_density(theta, sigma):
        quarter = torch.from_numpy(np.sin(theta / 2) ** 2)
        log = kernel.radial(quarter, torch.tensor(sigma, dtype=torch.float64), dimension)[0].numpy()
        with np.errstate(divide="ignore"):
            return log + (
                2 * np.log(np.sin(theta / 2)) if rotations else (dimension - 1) * np.log(np.sin(theta))
            )

    return spread, scores, tables.angle_quantiles(log_density, dimension, np.exp(spread), scores)


@lru_cache
def _quantiles(rotations, dimension, device):
    """Angles as a function of normal numbers and sigmas: bilinear interpolation in the table."""
    spread, scores, table = _quantiles_table(rotations, dimension)
    columns, table = table.shape[1], torch.tensor(table, device=device)

    def look(z, sigma):
        (row, along), (column, across) = _place(sigma.log(), spread), _place(z, scores)
        first = row * columns + column
        lower, upper = (
            torch.lerp(table.take(k), table.take(k + 1), across) for k in (first, first + columns)
        )
        return sigma.clamp_max(math.exp(spread[-1])) * torch.lerp(lower, upper, along)

    return look


def _place(values, grid):
    """Index and fraction of values on an even grid, held at its ends."""
    place = ((values - grid[0]) / (grid[1] - grid[0])).clamp(0.0, len(grid) - 1.0 - 1e-9)
    index = place.long()
    return index, place - index

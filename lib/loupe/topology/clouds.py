"""Random point sets of known dimension, and diffusion paths whose dimension is set by the noise."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from loupe.checks import whole


@dataclass(frozen=True)
class Cloud:
    """A recipe for random points on a set of known dimension.

    Attributes
    ----------
    sampler : callable
        ``sampler(n, rng)`` returns n points, shape (n, ambient_dimension), float64.
    dimension : float
        The true (box-counting) dimension.
    ambient_dimension : int
    label : str
        Name for tables and figures.
    alpha : float
        The power of lifetimes to use: below the dimension.
    """

    sampler: Callable
    dimension: float
    ambient_dimension: int
    label: str
    alpha: float = 1.0

    def sample(self, n, seed=0):
        """Draw n points, shape (n, ambient_dimension), with a numpy Generator or a seed for one."""
        return self.sampler(n, np.random.default_rng(seed))


def circle(n, rng):
    """Uniform points on the unit circle, shape (n, 2)."""
    angle = rng.uniform(0, 2 * np.pi, n)
    return np.column_stack([np.cos(angle), np.sin(angle)])


def sphere(n, rng):
    """Uniform points on the unit sphere, shape (n, 3): normalized Gaussian vectors."""
    points = rng.standard_normal((n, 3))
    return points / np.linalg.norm(points, axis=1, keepdims=True)


def flat_torus(n, rng):
    """Uniform points on the product of two unit circles, shape (n, 4)."""
    return np.hstack([circle(n, rng), circle(n, rng)])


def torus(n, rng, major=2.0, minor=1.0):
    r"""Uniform points on the torus of revolution, shape (n, 3).

    The area element is proportional to :math:`R+r\cos b`, so angles :math:`b` are accepted with that
    probability.
    """
    around = rng.uniform(0, 2 * np.pi, n)
    tube = np.empty(0)
    while len(tube) < n:
        proposed = rng.uniform(0, 2 * np.pi, n)
        accepted = rng.uniform(0, major + minor, n) < major + minor * np.cos(proposed)
        tube = np.append(tube, proposed[accepted])
    tube = tube[:n]
    radius = major + minor * np.cos(tube)
    return np.column_stack([radius * np.cos(around), radius * np.sin(around), minor * np.sin(tube)])


def cube(n, rng, dimension):
    """Uniform points in the unit cube, shape (n, dimension)."""
    return rng.random((n, dimension))


def swiss_roll(n, rng):
    """Points on a rolled-up strip of height 21, shape (n, 3), uniform in angle and height."""
    angle = 1.5 * np.pi * (1 + 2 * rng.random(n))
    return np.column_stack([angle * np.cos(angle), 21 * rng.random(n), angle * np.sin(angle)])


def gaussian_plane(n, rng):
    """Standard normal points of the plane, shape (n, 2)."""
    return rng.standard_normal((n, 2))


def sierpinski_triangle(n, rng, burn_in=50):
    """Points on the Sierpinski triangle, shape (n, 2): jump halfway to a random corner, repeatedly."""
    corners = np.array([[0, 0], [1, 0], [0.5, np.sqrt(3) / 2]])[rng.integers(3, size=burn_in + n)]
    path = np.empty((burn_in + n, 2))
    point = corners[0]
    for step, corner in enumerate(corners):
        point = path[step] = (point + corner) / 2
    return path[burn_in:]


def cantor_set(n, rng, dimension=1, digits=40):
    """Points of the Cantor set, or of its powers, shape (n, dimension): ternary digits are 0 or 2."""
    ternary = 2.0 * rng.integers(2, size=(n, dimension, digits))
    return ternary @ 3.0 ** -np.arange(1, digits + 1)


CLOUDS = {
    "circle": Cloud(circle, 1, 2, "circle", alpha=0.5),
    "sphere": Cloud(sphere, 2, 3, "sphere"),
    "flat_torus": Cloud(flat_torus, 2, 4, "flat torus in R⁴"),
    "torus": Cloud(torus, 2, 3, "torus of revolution"),
    "cube_1": Cloud(partial(cube, dimension=1), 1, 1, "interval", alpha=0.5),
    "cube_2": Cloud(partial(cube, dimension=2), 2, 2, "square"),
    "cube_3": Cloud(partial(cube, dimension=3), 3, 3, "cube"),
    "cube_5": Cloud(partial(cube, dimension=5), 5, 5, "5-cube"),
    "cube_10": Cloud(partial(cube, dimension=10), 10, 10, "10-cube"),
    "swiss_roll": Cloud(swiss_roll, 2, 3, "Swiss roll"),
    "gaussian_plane": Cloud(gaussian_plane, 2, 2, "Gaussian plane"),
    "sierpinski": Cloud(sierpinski_triangle, np.log2(3), 2, "Sierpinski triangle"),
    "cantor_set": Cloud(cantor_set, np.log(2) / np.log(3), 1, "Cantor set", alpha=0.5),
    "cantor_dust": Cloud(
        partial(cantor_set, dimension=2), np.log(4) / np.log(3), 2, "Cantor dust", alpha=0.5
    ),
}


def embed_isometrically(points, dimension, rng):
    r"""Embed points in a larger space by a random orthogonal map; distances stay the same.

    Parameters
    ----------
    points : numpy.ndarray, shape (n, d)
    dimension : int
        Of the space to embed into, at least d.
    rng : numpy.random.Generator or int
        Draws the map, the :math:`Q` factor of a Gaussian matrix; or a seed.

    Returns
    -------
    numpy.ndarray, shape (n, dimension), float64

    Raises
    ------
    ValueError
        If the dimension is smaller than d.
    """
    d, dimension = points.shape[1], whole("dimension", dimension)
    if dimension < d:
        raise ValueError(f"dimension must be at least {d}, that of the points; got {dimension}")
    frame, _ = np.linalg.qr(np.random.default_rng(rng).standard_normal((dimension, d)))
    return points @ frame.T


def stable_ou_path(steps, dimension, beta, rng, *, mean_reversion=1.0):
    r"""Path of an Ornstein-Uhlenbeck process driven by symmetric stable noise (section 5 of the paper).

    Euler steps of length :math:`h=1/K` of :math:`dX=-\lambda X\,dt+dL^\beta`, from the origin, with
    independent coordinates. In two or more dimensions and for :math:`1\le\beta\le2` the path has dimension
    :math:`\beta`.

    Parameters
    ----------
    steps : int
        The number of points :math:`K`.
    dimension : int
        Of the ambient space.
    beta : float
        Stable index in (0, 2]; 2 is Brownian motion (of variance 2 a unit of time).
    rng : numpy.random.Generator or int
        Draws the noise; or a seed.
    mean_reversion : float
        The coefficient :math:`\lambda`, per unit of time.

    Returns
    -------
    numpy.ndarray, shape (steps, dimension), float64
        The positions at times 1/K, 2/K, ..., 1.

    Raises
    ------
    ValueError
        If beta is outside (0, 2] or there is no step.

    Examples
    --------
    >>> stable_ou_path(1000, 10, 1.5, 0).shape
    (1000, 10)
    """
    steps, dimension = whole("steps", steps), whole("dimension", dimension)
    if not 0 < beta <= 2:
        raise ValueError(f"beta must be in (0, 2], got {beta}")
    h = 1 / steps
    increments = h ** (1 / beta) * stable_noise((steps, dimension), beta, np.random.default_rng(rng))
    path, x = np.empty_like(increments), np.zeros(dimension)
    for k, increment in enumerate(increments):
        x = path[k] = x - h * mean_reversion * x + increment
    return path


def stable_noise(shape, beta, rng):
    r"""Symmetric stable variables by the method of Chambers, Mallows and Stuck (1976).

    With :math:`U` uniform on :math:`(-\pi/2,\pi/2)` and :math:`W` exponential,
    :math:`\xi=\frac{\sin\beta U}{\cos^{1/\beta}U}\left(\frac{\cos((1-\beta)U)}{W}\right)^{(1-\beta)/\beta}`.

    Parameters
    ----------
    shape : tuple of int
    beta : float
        Stable index in (0, 2]. At 2 the variables are normal of variance 2, at 1 Cauchy.
    rng : numpy.random.Generator

    Returns
    -------
    numpy.ndarray, float64
        With characteristic function :math:`e^{-|t|^\beta}`.
    """
    u = rng.uniform(-np.pi / 2, np.pi / 2, shape)
    w = rng.standard_exponential(shape)
    return np.sin(beta * u) / np.cos(u) ** (1 / beta) * (np.cos((1 - beta) * u) / w) ** ((1 - beta) / beta)

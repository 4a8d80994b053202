r"""Tables that make heat kernels of spheres fast: what the short-time expansion leaves over, and quantiles of the angle.

At short times :math:`\tau=\sigma^2/2` the kernel of the sphere of dimension d is

.. math::

   \log K=-\frac{\theta^2}{2\sigma^2}-\frac d2\log 2\pi\sigma^2+\alpha\log\frac\theta{\sin\theta}+\tau u_1(\theta)
   +\tau^2Q,\qquad\alpha=\frac{d-1}2,

with the first coefficients of its asymptotic series ([1]). Q is smooth in :math:`\tau` down to 0 and in the square of
:math:`\theta/\sigma`, so a few dozen Chebyshev coefficients hold it. They come from the eigenfunction series in
multiprecision: near a typical distance its terms cancel to e^(-d/2) of their size, so no fixed precision is enough.

References
----------
.. [1] Lou et al., Scaling Riemannian Diffusion Models, 2023.
"""

import math
from functools import lru_cache
from importlib.resources import files

import numpy as np
from scipy.special import ndtri

SHAPE = 17, 14
"""Numbers of coefficients, for the angle and for the time."""

REACH = 5.0
"""The table covers angles up to ``sigma (sqrt(d) + REACH)``; the chance of a larger one is below 1e-5."""

SHIPPED = (2, 15, 63, 127, 511)
"""Dimensions whose tables come with the package."""

_FILE = "sphere_tables.txt"


def longest(dimension):
    """The largest sigma of a table; from there on float64 is enough for the eigenfunction series.

    In high dimension its terms add up to ``exp(d exp(-d sigma^2 / 2))``, far above the density.
    """
    flat = (2 * math.log(dimension / 30) / dimension) ** 0.5 if dimension > 30 else 0.0
    return max(2.05 / (dimension + 26) ** 0.5, flat)


@lru_cache
def remainder(dimension):
    """Chebyshev coefficients of Q for the sphere of a dimension, as an array of shape :data:`SHAPE`.

    The variables are ``(theta / (sigma (sqrt(d) + REACH)))**2`` and ``(sigma / longest(d))**2``, both moved from [0, 1]
    to [-1, 1].
    """
    if dimension in SHIPPED:
        rows = np.loadtxt(files(__package__) / _FILE)
        return rows[SHIPPED.index(dimension)].reshape(SHAPE)
    # Not at the top: it takes longer to import than the rest, and few need it.
    from loupe.diffusion.riemannian.multiprecision import computed_remainder

    return computed_remainder(dimension)


def angle_quantiles(log_density, dimension, sigmas, scores):
    """Quantiles of ``theta / sigma`` at the normal distribution's levels ``scores``.

    Parameters
    ----------
    log_density : callable
        Angles ``(n,)`` and sigma to logs of their density, up to a constant.
    dimension : int
        Of the manifold; angles up to ``sigma (sqrt(dimension) + 9)`` are counted.
    sigmas, scores : array, shapes (s,) and (z,)

    Returns
    -------
    array, shape (s, z)
    """
    table = []
    for sigma in sigmas:
        theta = np.linspace(0, min(np.pi, sigma * (dimension**0.5 + 9)), 1501)
        log = log_density(theta, sigma)
        density = np.exp(log - log.max())
        steps = np.r_[0, 0.5 * (density[1:] + density[:-1])]
        below, above = steps.cumsum(), steps[::-1].cumsum()[::-1]
        lower, upper = below / below[-1], np.r_[above[1:], 0] / below[-1]
        level = np.where(lower < 0.5, ndtri(lower), -ndtri(upper))
        rising = np.isfinite(level)
        rising[1:] &= level[1:] > level[:-1]
        table.append(np.interp(scores, level[rising], theta[rising]) / sigma)
    return np.array(table)

"""The heat kernel of spheres in multiprecision, for tables and references."""

from itertools import count

import mpmath
import numpy as np
from numpy.polynomial import chebyshev

from loupe.diffusion.riemannian.tables import REACH, SHAPE, longest


def computed_remainder(dimension):
    """Chebyshev coefficients as :func:`~loupe.diffusion.riemannian.tables.remainder` returns them.

    It takes 5 s for small dimensions, minutes for hundreds.
    """
    nodes = [chebyshev.chebpts1(n) for n in SHAPE]
    values = np.array([[_q(dimension, u, v) for v in nodes[1]] for u in nodes[0]])
    half = np.linalg.solve(chebyshev.chebvander(nodes[0], SHAPE[0] - 1), values)
    return np.linalg.solve(chebyshev.chebvander(nodes[1], SHAPE[1] - 1), half.T).T


def _q(dimension, u, v):
    """Q at one node."""
    with mpmath.workdps(40 + 6 * dimension // 5):
        sigma = longest(dimension) * mpmath.sqrt((1 + mpmath.mpf(v)) / 2)
        theta = sigma * (mpmath.sqrt(dimension) + REACH) * mpmath.sqrt((1 + mpmath.mpf(u)) / 2)
        alpha, tau = mpmath.mpf(dimension - 1) / 2, sigma**2 / 2
        first = alpha**2 + alpha * (1 - alpha) * (1 - theta * mpmath.cot(theta)) / theta**2
        lead = alpha * mpmath.log(theta / mpmath.sin(theta)) - theta**2 / (2 * sigma**2)
        lead -= mpmath.mpf(dimension) / 2 * mpmath.log(2 * mpmath.pi * sigma**2)
        return float((exact_log_density(dimension, theta, sigma) - lead - tau * first) / tau**2)


def exact_log_density(dimension, theta, sigma):
    """The log density of the sphere's heat kernel from its eigenfunction series, in mpmath's working precision.

    Parameters
    ----------
    dimension : int
        At least 2.
    theta, sigma : float or mpmath.mpf
        Near and beyond typical angles at least ``1.2 dimension + 20`` digits are needed.
    """
    theta, tau = mpmath.mpf(theta), mpmath.mpf(sigma) ** 2 / 2
    alpha, cosine = mpmath.mpf(dimension - 1) / 2, mpmath.cos(theta)
    before, gegenbauer, total = mpmath.mpf(1), 2 * alpha * cosine, mpmath.mpf(1)
    decay, ratio, step = (mpmath.exp(-n * tau) for n in (dimension, dimension + 2, 2))
    for k in count(1):
        total += (k + alpha) / alpha * gegenbauer * decay
        if k * k * tau > 20 and abs(gegenbauer * decay) * k < mpmath.eps * abs(total):
            break
        rising, falling = 2 * (k + alpha) * cosine * gegenbauer, (k + 2 * alpha - 1) * before
        before, gegenbauer = gegenbauer, (rising - falling) / (k + 1)
        decay, ratio = decay * ratio, ratio * step
    half = mpmath.mpf(dimension + 1) / 2
    return mpmath.log(total * mpmath.gamma(half) / (2 * mpmath.pi**half))

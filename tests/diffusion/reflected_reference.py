"""Reflected diffusion by definition: two hundred images, two hundred cosines, SciPy's solvers, loops; all in float64.

Nothing of the library is used. Functions of a kernel take numbers and arrays and are elementwise; points of a mixture
have shape ``(n, d)``.
"""

import math

import numpy as np
from scipy import integrate, special

IMAGES = np.arange(-50, 50)
COSINES = np.arange(1, 201)
CORNERS = np.array([(0.0, 0.0), (1.0, 0.3), (0.4, 1.0), (0.8, 0.75)])
SHARES = np.array([0.4, 0.3, 0.2, 0.1])
WIDTH = 0.05


def fold(u):
    v = np.mod(u, 2)
    return np.where(v <= 1, v, 2 - v)


def images(x0):
    """Of each x0, all 200 along a last axis."""
    x0 = np.asarray(x0, float)[..., None]
    return np.concatenate([2 * IMAGES + x0, 2 * (IMAGES + 1) - x0], -1)


def log_density(x, x0, sigma):
    x, x0, sigma = np.broadcast_arrays(*(np.asarray(each, float)[..., None] for each in (x, x0, sigma)))
    exponents = -(((x - images(x0[..., 0])) / sigma) ** 2) / 2
    return special.logsumexp(exponents, axis=-1) - np.log(sigma[..., 0] * math.sqrt(2 * math.pi))


def score(x, x0, sigma):
    x, x0, sigma = np.broadcast_arrays(*(np.asarray(each, float)[..., None] for each in (x, x0, sigma)))
    away = x - images(x0[..., 0])
    return -(special.softmax(-((away / sigma) ** 2) / 2, axis=-1) * away).sum(-1) / sigma[..., 0] ** 2


def _decay(sigma):
    return np.exp(-((COSINES * math.pi * np.asarray(sigma, float)[..., None]) ** 2) / 2)


def density_by_cosines(x, x0, sigma):
    at, at0 = (np.cos(math.pi * COSINES * np.asarray(each, float)[..., None]) for each in (x, x0))
    return 1 + 2 * (_decay(sigma) * at * at0).sum(-1)


def score_by_cosines(x, x0, sigma):
    k = math.pi * COSINES
    at, at0 = np.sin(k * np.asarray(x, float)[..., None]), np.cos(k * np.asarray(x0, float)[..., None])
    return -2 * (k * _decay(sigma) * at0 * at).sum(-1) / density_by_cosines(x, x0, sigma)


def distribution(x, x0, sigma):
    """Probability to be at most x."""
    y, sigma = images(x0), np.asarray(sigma, float)[..., None]
    x = np.asarray(x, float)[..., None]
    return (special.ndtr((x - y) / sigma) - special.ndtr(-y / sigma)).sum(-1)


def mean(x0, sigma):
    k = COSINES[::2]
    return 0.5 - (4 / (k * math.pi) ** 2 * _decay(sigma)[..., ::2] * np.cos(k * math.pi * x0)).sum(-1)


def second_moment(x0, sigma):
    k = COSINES
    return 1 / 3 + (4 * (-1.0) ** k / (k * math.pi) ** 2 * _decay(sigma) * np.cos(k * math.pi * x0)).sum(-1)


# ---- mixtures


def mixture_log_joint(x, sigma, means=CORNERS, shares=SHARES, width=WIDTH):
    total = np.sqrt(np.asarray(sigma, float) ** 2 + width**2)
    each = log_density(x[:, None, :], means[None], np.reshape(total, (-1, 1, 1)))
    return each.sum(-1) + np.log(shares / shares.sum())


def mixture_log_density(x, sigma, **mixture):
    return special.logsumexp(mixture_log_joint(x, sigma, **mixture), axis=1)


def mixture_score(x, sigma, means=CORNERS, shares=SHARES, width=WIDTH):
    """The kernels' scores, weighted by the posterior of their points."""
    total = np.sqrt(np.asarray(sigma, float) ** 2 + width**2)
    posterior = special.softmax(mixture_log_joint(x, sigma, means, shares, width), axis=1)
    each = score(x[:, None, :], means[None], np.reshape(total, (-1, 1, 1)))
    return (posterior[..., None] * each).sum(1)


# ---- process


def level(t, smallest=0.01, largest=5.0):
    return smallest * (largest / smallest) ** t


def loss(score_of, x0, t, noise, smallest, largest, weighting):
    """Half the weighted squared error of each point, from its time and the noise that it gets."""
    found = []
    for start, time, z in zip(x0, t, noise, strict=True):
        sigma = level(time, smallest, largest)
        x = fold(start + sigma * z)
        error = score_of(x[None], np.array([sigma]))[0] - score(x, start, sigma)
        weight = sigma**2 if weighting == "variance" else 2 * math.log(largest / smallest) * sigma**2
        found.append(weight * (error**2).sum() / 2)
    return np.array(found)


def sampler(score_of, x, noises, smallest=0.01, largest=5.0, *, wall=fold):
    """As many steps as there are noises, each from one level to the next; no denoising."""
    steps = len(noises)
    for k, z in enumerate(noises):
        before, after = level(1 - k / steps, smallest, largest), level(1 - (k + 1) / steps, smallest, largest)
        gap = before**2 - after**2
        x = wall(x + gap * score_of(x, np.full(len(x), before)) + math.sqrt(gap) * z)
    return x


def published_sampler(score_of, x, noises, smallest=0.01, largest=5.0, *, corrections=None, ratio=0.01):
    """Equation by equation as released: ``noises`` are N - 1, and so are ``corrections`` (lists of noises)."""
    steps = len(noises) + 1
    grid = np.linspace(1, 1e-5, steps)
    for k, z in enumerate(noises):
        sigma = level(grid[k], smallest, largest)
        squared = 2 * math.log(largest / smallest) * sigma**2
        levels = np.full(len(x), sigma)
        x = fold(x + squared * score_of(x, levels) / steps + math.sqrt(squared / steps) * z)
        for z in corrections[k] if corrections else ():
            s = score_of(x, levels)
            norms = [np.sqrt((each.reshape(len(x), -1) ** 2).sum(1)).mean() for each in (z, s)]
            step = 2 * (ratio * norms[0] / norms[1]) ** 2
            x = fold(x + step * s + math.sqrt(2 * step) * z)
    return x


def velocity(t, x, score_of, smallest, largest):
    squared = 2 * math.log(largest / smallest) * level(t, smallest, largest) ** 2
    return -squared / 2 * score_of(x[None], np.array([level(t, smallest, largest)]))[0]


def flow(score_of, x, start, end, smallest=0.01, largest=5.0, *, factor=None):
    """Each point by itself, by Dormand and Prince's method of order 8; ``factor(x)`` slows it."""

    def slope(t, x):
        v = velocity(t, x, score_of, smallest, largest)
        return v if factor is None else v * factor(x)

    return np.array(
        [
            integrate.solve_ivp(slope, (start, end), point, method="DOP853", rtol=1e-10, atol=1e-12).y[:, -1]
            for point in x
        ]
    )


def log_likelihood(score_of, x, smallest=0.01, largest=5.0, *, difference=1e-5):
    """Each point by itself; divergences are central differences of the score, reflected at the walls."""

    def outside(x, sigma):
        backwards = np.mod(x, 2) > 1
        return np.where(backwards, -1, 1) * score_of(fold(x), sigma)

    found = []
    for point in x:
        d = len(point)

        def slope(t, state, d=d):
            place, sigma = state[:d], np.full(2 * d, level(t, smallest, largest))
            size = difference * sigma[0]
            moved = np.concatenate([place + size * np.eye(d), place - size * np.eye(d)])
            scores = outside(moved, sigma)
            divergence = np.trace(scores[:d] - scores[d:]) / (2 * size)
            gain = -math.log(largest / smallest) * sigma[0] ** 2 * divergence
            return [*velocity(t, place, outside, smallest, largest), gain]

        run = integrate.solve_ivp(slope, (0, 1), [*point, 0.0], method="RK45", rtol=1e-6, atol=1e-7)
        found.append(run.y[-1, -1])
    return np.array(found)


def cells(levels, means=CORNERS, shares=SHARES, width=WIDTH):
    edges = np.clip((np.arange(levels + 1) - 0.5) / (levels - 1), 0, 1)
    table = 0.0
    for point, share in zip(means, shares / shares.sum(), strict=True):
        a, b = (np.diff(distribution(edges, coordinate, width)) for coordinate in point)
        table = table + share * np.outer(a, b)
    return table


def threshold(x, sigma, s, how, share):
    """Of one image: its score after the clean image that it predicts has been put into the cube."""
    clean = x + sigma**2 * s
    if how == "static":
        clean = np.clip(clean, 0, 1)
    else:
        centred = 2 * clean - 1
        bound = max(1.0, np.quantile(np.abs(centred), share))
        clean = (np.clip(centred, -bound, bound) / bound + 1) / 2
    return (clean - x) / sigma**2


def kolmogorov_smirnov(values, cumulative):
    values = np.sort(np.asarray(values, float))
    n, at = len(values), cumulative(values)
    return max((np.arange(1, n + 1) / n - at).max(), (at - np.arange(n) / n).max())

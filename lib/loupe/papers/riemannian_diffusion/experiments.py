"""What the chapter computes without training: identities, estimators of the score, samplers, and fields on a circle."""

import math
from functools import partial
from itertools import product

import mpmath
import numpy as np
import torch
from scipy import stats

from loupe.diffusion import riemannian
from loupe.diffusion.riemannian.multiprecision import exact_log_density
from loupe.experiment import experiment
from loupe.experiment.results import columns
from loupe.geometry import SpecialOrthogonal, SpecialUnitary, Sphere, Torus

SPACES = {
    "S²": Sphere(2), "S¹²⁷": Sphere(127), "SO(3)": SpecialOrthogonal(3), "SU(3)": SpecialUnitary(3),
}  # fmt: skip
RANGES = {"S²": (0.01, 3.0), "S¹²⁷": (0.01, 0.5), "SO(3)": (0.01, 3.0), "SU(3)": (0.03, 3.0)}
"""Noise levels at which estimators are compared."""

METHODS = {"combined": {}, "series": {"terms": 10}, "varadhan": {}}
SWITCHED = {
    "T²": (Torus(2), 0.5),
    "S³": (Sphere(3), 0.35),
    "SO(3)": (SPACES["SO(3)"], 0.7),
    "SU(3)": (SPACES["SU(3)"], 0.7),
}
"""Manifolds, and a noise level at which the combined estimator does not sum eigenfunctions."""

RELEASED = {"SO(3)": 0.5, "S¹²⁷": 0.5, "SU(3)": 0.25}
"""Variance of the noise that the released samplers draw, over the variance that their scores have."""

WALK = 100
"""Steps of a random walk."""


def points_of(manifold, count, generator, dtype=torch.float64):
    """Uniform points; complex where the manifold is."""
    dtype = dtype.to_complex() if manifold.complex else dtype
    return manifold.random(count, *manifold.event_shape, generator=generator, dtype=dtype)


# --- identities ---------------------------------------------------------------------------------------------


@experiment(seeds="one_seed")
def identities(config, *, seed, device):
    """SRD-1, SRD-2, SRD-8, SRD-11: expansions, normalization, likelihoods, and fields on a circle."""
    generator = torch.Generator().manual_seed(seed)
    expansions = np.array([_expansions(*each, config.points, generator) for each in SWITCHED.values()])
    semigroup = np.array([_semigroup(SPACES[name]) for name in ("S²", "SO(3)")])
    mixtures = list(_mixtures(generator))
    return {
        "expansions": np.array(list(SWITCHED)), "expansion errors": expansions[:, 0],
        "short series errors": expansions[:, 1], "normalization errors": semigroup[:, 0],
        "semigroup errors": semigroup[:, 1], "added sigma errors": semigroup[:, 2],
        "flows": np.array(["S²", "SO(3)", "T²"]),
        "flow errors": np.array([_likelihood_error(*each, generator) for each in mixtures]),
        "half score error": _likelihood_error(*mixtures[0], generator, factor=0.5),
    } | _circle() | _profiles()  # fmt: skip


def _expansions(manifold, sigma, count, generator):
    """Largest difference of log densities from those of a long series, at exact samples; then that of a short one."""
    x0 = points_of(manifold, count, generator)
    exact = riemannian.HeatKernel(manifold)
    x = exact.sample(x0, sigma, generator)
    logs = [exact.log_density(x, x0, sigma)]
    for terms in (30, 4):
        logs.append(
            riemannian.HeatKernel(manifold, "series", terms).log_density(x, x0, sigma).nan_to_num(0.0)
        )
    return [float((log - logs[1]).abs().max()) for log in (logs[0], logs[2])]


def _semigroup(manifold, first=0.5, second=0.6, apart=1.2):
    """Errors of the integral of a kernel, of that of two kernels' product, and of the latter if sigmas were added."""
    nodes, weights = (torch.from_numpy(each) for each in np.polynomial.legendre.leggauss(200))
    theta, turn = (math.pi / 2 * (nodes + 1) for _ in range(2))
    area = (math.pi / 2) ** 2 * weights[:, None] * weights
    theta, turn = theta[:, None], turn[None]
    if isinstance(manifold, Sphere):
        area = area * 2 * theta.sin()
        other = (
            (theta.cos() * math.cos(apart) + theta.sin() * math.sin(apart) * turn.cos()).clamp(-1, 1).acos()
        )
    else:
        area = area * 8 * math.pi * (theta / 2).sin().square() * turn.sin()
        half = (theta / 2).cos() * math.cos(apart / 2) + (theta / 2).sin() * math.sin(apart / 2) * turn.cos()
        other = 2 * half.abs().clamp(max=1).acos()

    def density(angle, sigma):
        return riemannian.HeatKernel(manifold).radial_log_density(angle, sigma).exp()

    angle = torch.tensor(apart, dtype=torch.float64)
    total = (area * density(theta, first)).sum()
    both = (area * density(theta, first) * density(other, second)).sum()
    sums = [float(both / density(angle, sigma) - 1) for sigma in (math.hypot(first, second), first + second)]
    return np.abs([float(total - 1), *sums])


def _mixtures(generator):
    """Mixtures whose density and score are known, and the level at which they are uniform."""
    for manifold, sigma_max in ((SPACES["S²"], 4.0), (SPACES["SO(3)"], 5.0), (Torus(2), 6.5)):
        sigmas = torch.tensor([0.3, 0.4, 0.5, 0.6])
        centers = points_of(manifold, 4, generator)
        yield manifold, riemannian.heat_mixture(manifold, centers, sigmas=sigmas), sigma_max


def _likelihood_error(manifold, mixture, sigma_max, generator, factor=1.0, sigma_min=0.05):
    """Largest error of log-likelihoods along the flow of a multiple of the exact score."""
    x = mixture.sample(8, generator)
    levels = {"sigma_min": sigma_min, "sigma_max": sigma_max, "steps": 60}
    found = riemannian.log_likelihood(
        lambda x, sigma: factor * mixture.score(x, sigma), x, manifold, **levels
    )
    return float((found - mixture.log_density(x, sigma_min)).abs().max())


def _circle():
    """Fields that lead to one point of a circle, and how their largest slope grows as a grid is refined."""
    circle, kernel = Torus(1), riemannian.HeatKernel(Torus(1))
    zero = torch.zeros(1, dtype=torch.float64)
    fields = {
        "matching": lambda angle: circle.log(angle, zero.expand_as(angle)) / 0.5,
        "diffusion": lambda angle: 1.0 * kernel.score(angle, zero.expand_as(angle), 1.0),
    }
    shown = torch.linspace(-math.pi, math.pi, 401, dtype=torch.float64) + math.pi
    widths, result = 2.0 ** -np.arange(3, 12), {"circle": shown.numpy()}
    for name, field in fields.items():
        slopes = []
        for width in widths:
            grid = math.pi + width * (torch.arange(-4, 4, dtype=torch.float64) + 0.5)
            slopes.append(float(field(grid.unsqueeze(-1))[:, 0].diff().abs().max()) / width)
        result |= {
            f"{name} field": field(shown.unsqueeze(-1))[:, 0].numpy(),
            f"{name} slopes": np.array(slopes),
        }
    levels = (0.5, 1.0, 1.5, 2.0)
    each = [
        level**2 * kernel.score(shown.unsqueeze(-1), zero.expand(401, 1), level)[:, 0] for level in levels
    ]
    return result | {
        "widths": widths,
        "circle levels": np.array(levels),
        "circle fields": torch.stack(each).numpy(),
    }


def _profiles():
    """Log densities of the estimators on the sphere by angle, for a few noise levels."""
    angles, levels = torch.linspace(0, math.pi, 181, dtype=torch.float64), (0.1, 0.3, 1.0, 2.0)
    result = {"profile angles": angles.numpy(), "profile levels": np.array(levels)}
    for name, options in METHODS.items():
        kernel = riemannian.HeatKernel(SPACES["S²"], name, **options)
        result[f"profile {name}"] = torch.stack(
            [kernel.radial_log_density(angles, s) for s in levels]
        ).numpy()
    return result


# --- estimators ---------------------------------------------------------------------------------------------


@experiment(seeds="one_seed")
def estimators(config, *, seed, device):
    """SRD-3: relative errors of three estimators of the score, at exact samples, against multiprecision."""
    generator, result = torch.Generator().manual_seed(seed), {}
    for name, manifold in SPACES.items():
        levels = np.geomspace(*RANGES[name], config.levels)
        errors = [_score_errors(name, manifold, float(level), config.points, generator) for level in levels]
        result |= {f"{name} levels": levels, f"{name} errors": np.array(errors)}  # (levels, methods)
    return result | {"methods": np.array(list(METHODS))}


def _score_errors(name, manifold, sigma, count, generator):
    """Root mean squared error of each method over the root mean squared score."""
    identity = manifold.origin_like(points_of(manifold, count, generator))
    x = riemannian.HeatKernel(manifold).sample(identity, sigma, generator)
    kernels = [riemannian.HeatKernel(manifold, method, **options) for method, options in METHODS.items()]
    if name == "SU(3)":
        # Only eigenvalues matter, so that a diagonal matrix shows the error.
        angles = torch.linalg.eigvals(x).angle()
        x = torch.diag_embed(torch.polar(torch.ones_like(angles), angles))
        scores = [
            (x.conj() * kernel.score(x, identity, sigma)).diagonal(dim1=-2, dim2=-1).imag
            for kernel in kernels
        ]
        exact = np.array([_unitary_score(one, two, sigma) for one, two, _ in angles.tolist()])
    else:
        angles = manifold.dist(x, identity)
        scores = [kernel.radial_score(angles, sigma) for kernel in kernels]
        exact = np.array([_radial_score(name, angle, sigma) for angle in angles.tolist()])
    scale = np.sqrt((exact**2).mean())
    return [float(np.sqrt(((score.numpy() - exact) ** 2).mean()) / scale) for score in scores]


def _radial_score(name, angle, sigma):
    """The exact derivative in the angle."""
    dimension = SPACES[name].dimension_like(torch.empty(SPACES[name].event_shape))
    log = _rotation_log if name == "SO(3)" else partial(exact_log_density, dimension)
    with mpmath.workdps(60 + 7 * dimension // 5):
        return float(_difference(lambda moved: log(moved, sigma), angle))


def _difference(function, at):
    step = mpmath.mpf(10) ** -20
    return (function(mpmath.mpf(at) + step) - function(mpmath.mpf(at) - step)) / (2 * step)


def _rotation_log(angle, sigma):
    """The log of the kernel of SO(3) by geodesics, up to a constant."""
    each = [angle + 2 * mpmath.pi * k for k in range(-5, 6)]
    waves = (one * (-1) ** k * mpmath.exp(-one * one / (2 * sigma**2)) for k, one in enumerate(each))
    return mpmath.log(abs(sum(waves) / mpmath.sin(angle / 2)))


def _unitary_score(one, two, sigma):
    """The exact derivatives in the eigenangles, which sum to zero."""
    with mpmath.workdps(60):
        tiny = mpmath.mpf(10) ** -15  # beside coincident angles
        one, two = one + tiny, two + 2 * tiny
        first = _difference(lambda moved: _unitary_log(moved, two, sigma), one)
        second = _difference(lambda moved: _unitary_log(one, moved, sigma), two)
        return [float(value) / 3 for value in (2 * first - second, 2 * second - first, -first - second)]


def _unitary_log(one, two, sigma):
    """The log of the kernel of SU(3) by geodesics, up to a constant."""
    total, turn = mpmath.mpf(0), 2 * mpmath.pi
    for k, m in product(range(-4, 5), repeat=2):
        a, b = one + turn * k, two + turn * m
        gaps = (a - b) * (2 * a + b) * (a + 2 * b)
        total += gaps * mpmath.exp(-(a * a + a * b + b * b) / sigma**2)
    sines = mpmath.sin((one - two) / 2) * mpmath.sin(one + two / 2) * mpmath.sin(one / 2 + two)
    return mpmath.log(abs(total / sines))


# --- samplers -----------------------------------------------------------------------------------------------


@experiment(seeds="one_seed")
def samplers(config, *, seed, device):
    """SRD-4: tests of samples against their distribution, and the moments of samplers as they were released."""
    generator, rows = torch.Generator().manual_seed(seed), []
    for name, manifold in SPACES.items():
        for sigma in np.geomspace(0.05, 0.4 if name == "S¹²⁷" else 1.2, 8):
            identity = manifold.origin_like(points_of(manifold, config.draws, generator))
            x = riemannian.HeatKernel(manifold).sample(identity, float(sigma), generator)
            row = {"manifold": name, "sigma": sigma} | _moments(name, manifold, x, identity, sigma)
            if name in RELEASED:
                other = _walk(
                    manifold, identity[: config.draws // 10], sigma * RELEASED[name] ** 0.5, generator
                )
                found = _moments(name, manifold, other, identity[: len(other)], sigma)
                row |= {f"released {key}": value for key, value in found.items() if key != "exact"}
            else:
                row |= dict.fromkeys(("released mean", "released error", "released p"), np.nan)
            rows.append(row)
    return columns(rows)


def _moments(name, manifold, x, identity, sigma):
    """A mean with its exact value, and the p value of a test of the distribution."""
    if name == "SU(3)":
        values = x.diagonal(dim1=-2, dim2=-1).sum(-1).real / 3
        exact = math.exp(-4 * sigma**2 / 3)
    elif name == "SO(3)":
        values, exact = x.diagonal(dim1=-2, dim2=-1).sum(-1) / 3, math.exp(-(sigma**2))
    else:
        values, exact = (x * identity).sum(-1), math.exp(-(x.shape[-1] - 1) * sigma**2 / 2)
    values = values.numpy()
    error = values.std() / math.sqrt(len(values))
    if name == "SU(3)":
        p = 2 * stats.norm.sf(abs(values.mean() - exact) / error)
    else:
        p = stats.kstest(manifold.dist(x, identity).numpy(), _distribution(name, manifold, sigma)).pvalue
    return {"exact": exact, "mean": values.mean(), "error": error, "p": p}


def _distribution(name, manifold, sigma):
    """The cumulative distribution of the angle."""
    angles = torch.linspace(0, math.pi, 20_001, dtype=torch.float64)[1:-1]
    log = riemannian.HeatKernel(manifold).radial_log_density(angles, float(sigma))
    stretch = (angles / 2).sin() * 2 if name == "SO(3)" else angles.sin()
    power = 2 if name == "SO(3)" else manifold.event_shape[0] - 2
    log = log + power * stretch.log()
    total = (log - log.max()).exp().cumsum(0).numpy()
    return lambda x: np.interp(x, angles.numpy(), total / total[-1])


def _walk(manifold, x, sigma, generator):
    """A geodesic random walk whose steps have a total standard deviation of sigma in each direction."""
    for _ in range(WALK):
        x = manifold.project(manifold.exp(x, sigma / WALK**0.5 * manifold.random_tangent(x, generator)))
    return x

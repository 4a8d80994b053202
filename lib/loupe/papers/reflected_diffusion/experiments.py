"""What the chapter runs without a network: the kernel's identities, and what walls do to a discretisation."""

import math
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch

from loupe.diffusion.reflected import (
    VESDE,
    KernelMixture,
    ReflectedSDE,
    bump,
    corner_mixture,
    denoising_loss,
    euler_reflected,
    flow,
    kernel_cdf,
    kernel_log_density,
    kernel_score,
    log_likelihood,
    sample_kernel,
)
from loupe.experiment import experiment

SIGMAS = np.geomspace(1e-3, 5, 60)
PAIRS = ((0.1, 0.02), (0.0, 0.1), (0.5, 0.2), (0.9, 0.5), (0.3, 1.0), (1.0, 3.0))  # (x0, sigma)
LEVELS = (0.01, 0.05, 0.3, 1.0, 3.0)
GUARD = 1e-12  # what the published quotient adds to its denominator
REFERENCE = 50  # images 2k + x0 and 2k - x0 for k from -50 to 50: two hundred of them
CUBE = ReflectedSDE()

GROUPS = 5  # of paths, whose noise is independent
PULL, CENTRE, NOISE = 4.0, 0.1, 0.6  # dx = -PULL (x - CENTRE) dt + NOISE dB


@experiment(seeds="one_seed")
def identities(config, *, seed, device):
    """R1 to R5, and R7 with an exact score; beside each, what a wrong implementation gives (the controls)."""
    generator = torch.Generator().manual_seed(seed)
    return (
        _two_series(generator)
        | _truncation()
        | _draws(config, generator)
        | _minimiser(generator)
        | _loss_minimiser()
        | _weightings(generator)
        | _weighting_in_time()
        | _boundary_term()
        | _exact_likelihood(config, generator)
    )


def _reference(x, x0, sigma):
    """Log-density and score from two hundred images, in float64."""
    x, x0, sigma = (each.double().unsqueeze(-1) for each in (x, x0, sigma))
    shifts = 2.0 * torch.arange(-REFERENCE, REFERENCE + 1, dtype=torch.float64)
    away = x - torch.cat([shifts + x0, shifts - x0], -1)
    energy = -((away / sigma) ** 2) / 2
    log_density = energy.logsumexp(-1) - (sigma.squeeze(-1) * math.sqrt(2 * math.pi)).log()
    return log_density, -(energy.softmax(-1) * away).sum(-1) / sigma.squeeze(-1) ** 2


def _two_series(generator):
    """R1: where points land for each sigma, and elsewhere as far as four sigma from an image, walls included."""
    sigma = torch.from_numpy(SIGMAS).repeat_interleave(400)
    x0 = torch.rand(len(sigma), generator=generator, dtype=torch.float64)
    x0[::20], x0[1::20] = 0, 1
    x = sample_kernel(x0, sigma, generator)
    x[2::20], x[3::20] = 0, 1
    near = _reference(x, x0, sigma)[0] > -8 - (sigma * math.sqrt(2 * math.pi)).log()
    found = {}
    for dtype in (torch.float64, torch.float32):
        given = tuple(each[near].to(dtype) for each in (x, x0, sigma))
        log_density, score = _reference(*given)
        errors = {
            "density": (kernel_log_density(*given) - log_density).abs(),
            "score": (kernel_score(*given) - score).abs() * given[2],
        }
        name = str(dtype).removeprefix("torch.")
        found |= {f"{what}_error_{name}": float(error.max()) for what, error in errors.items()}
    given = x[near], x0[near], sigma[near]
    log_density, score = _reference(*given)
    away = (given[0] - given[1]) / given[2]
    bell = -(away**2) / 2 - (given[2] * math.sqrt(2 * math.pi)).log()
    far = torch.full((99,), 0.99, dtype=torch.float64), torch.linspace(0.01, 0.9, 99).double()
    sigma = torch.full((99,), 0.01, dtype=torch.float64)
    right = _reference(*far, sigma)[1]
    bells = torch.exp(-(((far[0] - far[1]) / sigma) ** 2) / 2)
    quotient = bells * (far[1] - far[0]) / sigma**2 / (bells + GUARD)
    return found | {
        "density_error_free": float((bell - log_density).abs().max()),
        "score_error_free": float((away + score * given[2]).abs().max()),
        "far_error": float(((kernel_score(*far, sigma) - right) / right).abs().max()),
        "far_error_quotient": float(((quotient - right) / right).abs().max()),
    }


def _truncation():
    """How far the density is off with so many terms of each series, at its worst place, for each sigma."""
    sigma = np.geomspace(0.05, 3, 80)
    x = np.linspace(0, 1, 21)
    x, x0, s = (each[..., None] for each in np.meshgrid(x, x, sigma, indexing="ij"))
    bells = np.arange(-20, 21)
    each = sum(np.exp(-(((x - 2 * bells - sign * x0) / s) ** 2) / 2) for sign in (1, -1))
    each = each / (s * math.sqrt(2 * math.pi))
    waves = np.arange(1, 200)
    cosines = 2 * np.exp(-((waves * math.pi * s) ** 2) / 2) * np.cos(waves * math.pi * x0)
    cosines = cosines * np.cos(waves * math.pi * x)
    rest_of_images = [each[..., np.abs(bells) > reach].sum(-1).max((0, 1)) for reach in (0, 1, 2, 3)]
    rest_of_cosines = [np.abs(cosines[..., n:].sum(-1)).max((0, 1)) for n in (1, 2, 4, 5, 20)]
    return {
        "truncation_sigma": sigma,
        "truncation_images": np.array(rest_of_images),
        "truncation_cosines": np.array(rest_of_cosines),
    }


def _draws(config, generator):
    """R2: Kolmogorov-Smirnov distances of folded noise from the kernel's distribution."""
    ranks = torch.arange(config.draws + 1, dtype=torch.float64) / config.draws

    def distance(x, x0, sigma):
        cdf = kernel_cdf(x.sort().values, x0, sigma)
        return float(torch.maximum(cdf - ranks[:-1], ranks[1:] - cdf).max())

    folded, clipped, other = [], [], torch.Generator().manual_seed(1)
    for start, sigma in PAIRS:
        x0 = torch.full((config.draws,), start, dtype=torch.float64)
        folded.append(distance(sample_kernel(x0, sigma, generator), x0, sigma))
        noisy = x0 + sigma * torch.randn(x0.shape, generator=other, dtype=x0.dtype)
        clipped.append(distance(noisy.clamp(0, 1), x0, sigma))
    return {"ks": np.array(folded), "ks_clipped": np.array(clipped), "ks_draws": config.draws}


def _minimiser(generator):
    """R3: scores of the kernel, averaged over where a point may have come from, against the score of the mixture."""
    mixture = corner_mixture()
    x = torch.rand(400, 2, generator=generator, dtype=torch.float64)
    B, K = len(x), len(mixture.means)
    errors = []
    for sigma in LEVELS:
        kernels = kernel_score(
            x.repeat_interleave(K, 0), mixture.means.repeat(B, 1), math.hypot(sigma, mixture.width)
        )
        posterior = mixture.log_posterior(x, sigma).exp().unsqueeze(-1)
        right = mixture.score(x, sigma)
        average = (posterior * kernels.view(B, K, 2)).sum(1)
        errors.append(float((average - right).abs().max() / right.abs().max()))
    return {"minimiser_error": np.array(errors)}


@dataclass(frozen=True)
class _OnNodes(ReflectedSDE):
    """The reflected process whose noisy points are given: a mean of its losses is then a quadrature."""

    nodes: torch.Tensor | None = None

    def noised(self, x0, sigma, generator=None):
        return self.nodes


class _FreeTarget(_OnNodes):
    """A wrong one: its noise is reflected, and what its loss regresses on is the score of noise without walls."""

    def kernel_score(self, x, x0, sigma):
        return VESDE().kernel_score(x, x0, sigma)


def _loss_minimiser(sigma=0.3, degree=5):
    """R3, R5: the polynomial that minimizes ``denoising_loss``, against the projection of the true score.

    One coordinate of four points of data without noise of their own; expectations by quadrature.
    """
    means, shares = corner_mixture().means[:, :1], corner_mixture().log_weights.exp()
    nodes, weights = np.polynomial.legendre.leggauss(400)
    basis = torch.from_numpy(np.polynomial.legendre.legvander(nodes, degree))
    x, weights = torch.from_numpy((nodes + 1) / 2).unsqueeze(1), torch.from_numpy(weights / 2)
    K, N = len(means), len(x)
    x0, at, features = means.repeat_interleave(N, 0), x.repeat(K, 1), basis.repeat(K, 1)
    mass = shares.repeat_interleave(N) * weights.repeat(K) * kernel_log_density(at, x0, sigma).exp()[:, 0]

    def minimum(sde):
        times = sde.time(torch.full((K * N,), sigma, dtype=torch.float64))

        def loss(weights):
            return (
                mass * denoising_loss(lambda x, _: (features @ weights).unsqueeze(1), x0, sde, times)
            ).sum()

        zero = torch.zeros(degree + 1, dtype=torch.float64)
        slope, curvature = (
            of(loss, zero) for of in (torch.autograd.functional.jacobian, torch.autograd.functional.hessian)
        )
        return basis @ torch.linalg.solve(curvature, -slope)

    mixture = KernelMixture(means, shares)
    p, score = weights * mixture.log_density(x, sigma).exp(), mixture.score(x, sigma)[:, 0]
    right = basis @ torch.linalg.solve(basis.T @ (p.unsqueeze(1) * basis), basis.T @ (p * score))
    errors = [
        float((minimum(sde) - right).abs().max() / right.abs().max())
        for sde in (_OnNodes(nodes=at), _FreeTarget(nodes=at))
    ]
    return dict(zip(("loss_minimiser_error", "loss_minimiser_error_free"), errors, strict=True))


def _weighting_in_time():
    """R4: the ratio of the two weightings against (d sigma^2 / dt) / sigma^2, at each of nineteen times."""
    errors, linear = [], []
    times = torch.linspace(0.05, 0.95, 19, dtype=torch.float64, requires_grad=True)
    x0 = torch.full((19, 2), 0.3, dtype=torch.float64)
    for sde in (CUBE, ReflectedSDE(sigma_min=1e-4)):
        likelihood, variance = (
            denoising_loss(
                lambda x, _: 0 * x, x0, sde, times.detach(), torch.Generator().manual_seed(1), weighting=name
            )
            for name in ("likelihood", "variance")
        )
        straight = sde.sigma_min + times * (sde.sigma_max - sde.sigma_min)
        growths = [
            torch.autograd.grad((each**2).sum(), times)[0] / each.detach() ** 2
            for each in (sde.sigma(times), straight)
        ]
        for found, growth in zip((errors, linear), growths, strict=True):
            found.append(float((likelihood / variance / growth - 1).abs().max()))
    return {"weighting_error": max(errors), "weighting_error_linear": min(linear)}


def _weightings(generator):
    """R4: the two weightings of the loss, for one score that is wrong."""
    mixture = corner_mixture()
    x0, _ = mixture.sample(1000, generator)

    def wrong(x, sigma):
        return 0.7 * mixture.score(x, sigma) + x - 0.5

    ratios = []
    for sigma_min in (0.01, 1e-4):
        sde = ReflectedSDE(sigma_min=sigma_min)
        losses = [
            denoising_loss(wrong, x0, sde, generator=torch.Generator().manual_seed(1), weighting=weighting)
            for weighting in ("likelihood", "variance")
        ]
        ratios.append([float(losses[0].mean() / losses[1].mean()), 2 * math.log(5 / sigma_min)])
    return {"weightings": np.array(ratios)}


def _boundary_term(sigma=0.3, degree=5):
    """R5: the two forms of score matching on [0, 1] for s(x) = x, and the polynomials that minimize each."""
    nodes, weights = np.polynomial.legendre.leggauss(400)
    x, weights = torch.from_numpy((nodes + 1) / 2), torch.from_numpy(weights / 2)
    mixture = corner_mixture()
    mixture = type(mixture)(mixture.means[:, :1].clone(), mixture.log_weights.exp(), mixture.width)
    p, slope = mixture.log_density(x.unsqueeze(1), sigma).exp(), mixture.score(x.unsqueeze(1), sigma)[:, 0]
    ends = mixture.log_density(torch.tensor([[0.0], [1.0]], dtype=torch.float64), sigma).exp()
    explicit, implicit = (weights * p * x * slope).sum(), -(weights * p).sum()
    term = ends[1]  # p(1) s(1) - p(0) s(0)
    powers = x.unsqueeze(1) ** torch.arange(degree + 1)
    slopes = torch.cat([0 * powers[:, :1], powers[:, :-1] * torch.arange(1, degree + 1)], 1)
    gram = powers.T @ ((weights * p).unsqueeze(1) * powers)
    right = {"implicit": -slopes.T @ (weights * p), "explicit": powers.T @ (weights * p * slope)}
    grid = torch.linspace(0, 1, 101, dtype=torch.float64)
    fits = {
        f"{name}_fit": (grid.unsqueeze(1) ** torch.arange(degree + 1) @ torch.linalg.solve(gram, b)).numpy()
        for name, b in right.items()
    }
    return fits | {
        "boundary_term": float(term),
        "boundary_residual": abs(float(explicit - implicit - term)),
        "boundary_residual_without": abs(float(explicit - implicit)),
        "fit_x": grid.numpy(),
        "fit_score": mixture.score(grid.unsqueeze(1), sigma)[:, 0].numpy(),
    }


def _exact_likelihood(config, generator):
    """R7 with the exact score; and what the mollifier changes."""
    mixture = corner_mixture()
    points = min(500, max(60, config.toy_likelihood_points))
    x, _ = mixture.sample(points, generator)
    found = log_likelihood(mixture.score, CUBE, x, rtol=2e-8, atol=2e-8)
    right = mixture.log_density(x, CUBE.sigma_min)

    def pressing(x, sigma):
        """A score that does not vanish at the walls."""
        return mixture.score(x, sigma) - 0.5 * torch.cos(math.pi * x) / (1 + sigma.unsqueeze(1) ** 2)

    wrong = log_likelihood(pressing, CUBE, x, rtol=1e-4, atol=1e-4)
    start = CUBE.limit((points, 2), generator, dtype=torch.float64)
    times = np.linspace(1, 0, 41)
    plain = flow(mixture.score, CUBE, start, times=times)
    slowed = flow(mixture.score, CUBE, start, mollifier=200.0)
    return {
        "likelihood_points": points,
        "likelihood_error": float((found.nats - right).abs().max()),
        "likelihood_error_pressing": float((wrong.nats - right).abs().max()),
        "likelihood_evaluations": found.evaluations,
        "flow_times": times,
        "flow_paths": plain.x[:, :60].numpy().astype(np.float32),
        "flow_lowest": float(plain.x.min()),
        "flow_highest": float(plain.x.max()),
        "mollified_change": (slowed.x - plain.x[-1]).abs().amax(1).numpy(),
        "bump_least": float(bump(plain.x).min()),
    }


@experiment(seeds="one_seed")
def thresholding(config, *, seed, device):
    """R6: a process that is pulled toward one wall, by steps that fold and by steps that clip."""
    from scipy.stats import truncnorm  # a second to import, in every process

    spread, generator = NOISE / math.sqrt(2 * PULL), torch.Generator().manual_seed(seed)
    exact = truncnorm((0 - CENTRE) / spread, (1 - CENTRE) / spread, loc=CENTRE, scale=spread)

    @cache
    def quantiles(n):
        return torch.from_numpy(exact.ppf((np.arange(n) + 0.5) / n))

    def distance(x):
        return float((x.sort().values - quantiles(len(x))).abs().mean())

    found, groups = ({walls: [] for walls in ("fold", "clip")} for _ in range(2))
    for steps in config.path_steps:
        for walls in found:
            end = euler_reflected(
                lambda x: -PULL * (x - CENTRE), NOISE, quantiles(config.paths), time=1.0, steps=steps, walls=walls,
                generator=torch.Generator().manual_seed(seed + steps),  # the same noise for both
            )  # fmt: skip
            found[walls].append(distance(end))
            groups[walls].append([distance(end[k::GROUPS]) for k in range(GROUPS)])
    anew = torch.rand(config.paths, generator=generator, dtype=torch.float64).numpy()
    return {
        "paths": config.paths,
        "path_steps": np.array(config.path_steps),
        **{f"distance_{walls}": np.array(distances) for walls, distances in found.items()},
        **{f"group_distance_{walls}": np.array(groups[walls]).T for walls in groups},
        "noise_floor": distance(torch.from_numpy(exact.ppf(anew))),
    }

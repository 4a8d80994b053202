"""What the chapter runs without a network: the kernel's identities, and what walls do to a discretization."""

import math
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch

from loupe.diffusion import reflected
from loupe.experiment import experiment

SIGMAS = np.geomspace(1e-3, 5, 60)
PAIRS = ((0.1, 0.02), (0.0, 0.1), (0.5, 0.2), (0.9, 0.5), (0.3, 1.0), (1.0, 3.0))  # (x0, sigma)
LEVELS = (0.01, 0.05, 0.3, 1.0, 3.0)
GUARD = 1e-12  # what the published quotient adds to its denominator
REFERENCE = 50  # images 2k + x0 and 2k - x0 for k from -50 to 50: two hundred of them
CUBE = reflected.ReflectedSDE()
SIGMA, DEGREE = 0.3, 5  # of the noise and of the polynomials that losses are minimized over

GROUPS = 5  # of paths, whose noise is independent
PULL, CENTRE, NOISE = 4.0, 0.1, 0.6  # dx = -PULL (x - CENTRE) dt + NOISE dB


@experiment(seeds="one_seed")
def identities(config, *, seed, device):
    """R1 to R5, and R7 with an exact score. Most errors are pairs: ours, and that of a wrong implementation."""
    generator, fit = torch.Generator().manual_seed(seed), _loss_minimiser()
    return (
        _two_series(generator) | _draws(config, generator) | _posterior_mean(generator) | {"minimiser": fit}
        | _weightings(generator) | _boundary_term(fit[0]) | _exact_likelihood(config, generator)
    )  # fmt: skip


def _largest(*errors):
    return np.array([float(error.abs().max()) for error in errors])


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
    x = reflected.sample_kernel(x0, sigma, generator)
    x[2::20], x[3::20] = 0, 1
    peak = -(sigma * math.sqrt(2 * math.pi)).log()
    near = _reference(x, x0, sigma)[0] > peak - 8
    x, x0, sigma, peak = (each[near] for each in (x, x0, sigma, peak))
    (right, right_score), away, found = _reference(x, x0, sigma), (x - x0) / sigma, {}
    for name, dtype in (("float64", torch.float64), ("float32", torch.float32)):
        given = tuple(each.to(dtype) for each in (x, x0, sigma))
        log_density, score = _reference(*given)
        errors = reflected.kernel_log_density(*given) - log_density, reflected.kernel_score(*given) - score
        found[f"density_{name}"] = _largest(errors[0], peak - away**2 / 2 - right)
        found[f"score_{name}"] = _largest(errors[1] * given[2], away + right_score * sigma)
    x, x0 = torch.full((99,), 0.99, dtype=torch.float64), torch.linspace(0.01, 0.9, 99).double()
    sigma = torch.full_like(x, 0.01)
    right, bells = _reference(x, x0, sigma)[1], torch.exp(-(((x - x0) / sigma) ** 2) / 2)
    scores = reflected.kernel_score(x, x0, sigma), bells * (x0 - x) / sigma**2 / (bells + GUARD)
    return found | {"far": _largest(*((score - right) / right for score in scores))}


def _draws(config, generator):
    """R2: Kolmogorov-Smirnov distances of folded noise from the kernel's distribution, and of clipped noise."""
    ranks = torch.arange(config.draws + 1, dtype=torch.float64) / config.draws
    found, other = [], torch.Generator().manual_seed(1)
    for start, sigma in PAIRS:
        x0 = torch.full((config.draws,), start, dtype=torch.float64)
        noisy = x0 + sigma * torch.randn(x0.shape, generator=other, dtype=x0.dtype)
        drawn = reflected.sample_kernel(x0, sigma, generator), noisy.clamp(0, 1)
        cdfs = (reflected.kernel_cdf(x.sort().values, x0, sigma) for x in drawn)
        found.append([float(torch.maximum(cdf - ranks[:-1], ranks[1:] - cdf).max()) for cdf in cdfs])
    return {"ks": np.array(found).T, "draws": config.draws}


def _posterior_mean(generator):
    """R3: scores of the kernel, averaged over where a point may have come from, against the score of the mixture."""
    mixture, errors = reflected.corner_mixture(), []
    x = torch.rand(400, 2, generator=generator, dtype=torch.float64)
    B, K = len(x), len(mixture.means)
    points = x.repeat_interleave(K, 0), mixture.means.repeat(B, 1)
    for sigma in LEVELS:
        kernels = reflected.kernel_score(*points, math.hypot(sigma, mixture.width)).view(B, K, 2)
        average = (mixture.log_posterior(x, sigma).exp().unsqueeze(-1) * kernels).sum(1)
        right = mixture.score(x, sigma)
        errors.append(float((average - right).abs().max() / right.abs().max()))
    return {"posterior": np.array([max(errors)])}


# --- polynomials that minimize losses on an interval ----------------------------------------------------------


def _interval():
    """Means and shares of the corner mixture in one coordinate; Gauss nodes on [-1, 1], and on [0, 1] with weights."""
    corners = reflected.corner_mixture()
    nodes, weights = np.polynomial.legendre.leggauss(400)
    x, weights = torch.from_numpy((nodes + 1) / 2), torch.from_numpy(weights / 2)
    return corners.means[:, :1].clone(), corners.log_weights.exp(), nodes, x, weights


def _projection(basis, mass, *sides):
    """Coefficients of least squares with these masses, for each right-hand side."""
    gram = basis.T @ (mass.unsqueeze(1) * basis)
    return [torch.linalg.solve(gram, side) for side in sides]


@dataclass(frozen=True)
class _OnNodes(reflected.ReflectedSDE):
    """The reflected process whose noisy points are given: a mean of its losses is then a quadrature."""

    nodes: torch.Tensor | None = None

    def noised(self, x0, sigma, generator=None):
        return self.nodes


class _FreeTarget(_OnNodes):
    """A wrong one: its noise is reflected, and what its loss regresses on is the score of noise without walls."""

    def kernel_score(self, x, x0, sigma):
        return reflected.VESDE().kernel_score(x, x0, sigma)


def _loss_minimiser():
    """R3, R5: the polynomial that minimizes ``denoising_loss``, against the projection of the true score.

    One coordinate of four points of data without noise of their own; expectations by quadrature.
    """
    means, shares, nodes, x, weights = _interval()
    basis = torch.from_numpy(np.polynomial.legendre.legvander(nodes, DEGREE))
    K, N = len(means), len(x)
    x0, at, features = means.repeat_interleave(N, 0), x.repeat(K).unsqueeze(1), basis.repeat(K, 1)
    mass = shares.repeat_interleave(N) * weights.repeat(K)
    mass = mass * reflected.kernel_log_density(at, x0, SIGMA).exp()[:, 0]

    def minimum(sde):
        times = sde.time(torch.full((K * N,), SIGMA, dtype=torch.float64))

        def loss(weights):
            score = (features @ weights).unsqueeze(1)
            return (mass * reflected.denoising_loss(lambda x, _: score, x0, sde, times)).sum()

        zero = torch.zeros(DEGREE + 1, dtype=torch.float64)
        slope = torch.autograd.functional.jacobian(loss, zero)
        return basis @ torch.linalg.solve(torch.autograd.functional.hessian(loss, zero), -slope)

    mixture, x = reflected.KernelMixture(means, shares), x.unsqueeze(1)
    p, score = weights * mixture.log_density(x, SIGMA).exp(), mixture.score(x, SIGMA)[:, 0]
    right = basis @ _projection(basis, p, basis.T @ (p * score))[0]
    fits = (minimum(sde) for sde in (_OnNodes(nodes=at), _FreeTarget(nodes=at)))
    return _largest(*((fit - right) / right.abs().max() for fit in fits))


def _boundary_term(denoising):
    """R5: the two forms of score matching on [0, 1] for s(x) = x, and the polynomials that minimize each.

    The error of the one that minimizes the implicit form is beside that of ``denoising``, and the other way round.
    """
    means, shares, _, x, weights = _interval()
    mixture = reflected.KernelMixture(means, shares, reflected.corner_mixture().width)
    mass = weights * mixture.log_density(x.unsqueeze(1), SIGMA).exp()
    grid = torch.linspace(0, 1, 101, dtype=torch.float64)
    score, right = (mixture.score(each.unsqueeze(1), SIGMA)[:, 0] for each in (x, grid))
    term = mixture.log_density(torch.ones(1, 1, dtype=torch.float64), SIGMA).exp()  # p(1) s(1) - p(0) s(0)
    gap = (mass * x * score).sum() + mass.sum()  # of the explicit form from the implicit one
    powers, powers_of_grid = (each.unsqueeze(1) ** torch.arange(DEGREE + 1) for each in (x, grid))
    slopes = torch.cat([0 * powers[:, :1], powers[:, :-1] * torch.arange(1, DEGREE + 1)], 1)
    fits = _projection(powers, mass, -slopes.T @ mass, powers.T @ (mass * score))
    implicit, explicit = ((powers_of_grid @ fit).numpy() for fit in fits)
    error = np.abs(implicit - explicit).max() / np.abs(explicit).max()
    return {
        "boundary": _largest(gap - term, gap), "implicit": np.array([error, denoising]),
        "denoising": np.array([denoising, error]), "implicit_fit": implicit, "explicit_fit": explicit,
        "fit_x": grid.numpy(), "fit_score": right.numpy(),
    }  # fmt: skip


# --- weightings and likelihoods -------------------------------------------------------------------------------


def _weightings(generator):
    """R4: the ratio of the two weightings, against (d sigma^2 / dt) / sigma^2 at nineteen times, and on average."""
    mixture = reflected.corner_mixture()
    points, _ = mixture.sample(1000, generator)
    times = torch.linspace(0.05, 0.95, 19, dtype=torch.float64, requires_grad=True)
    one = torch.full((19, 2), 0.3, dtype=torch.float64)

    def both(score, x0, sde, t=None):
        return (
            reflected.denoising_loss(score, x0, sde, t, torch.Generator().manual_seed(1), weighting=weighting)
            for weighting in ("likelihood", "variance")
        )

    def wrong(x, sigma):
        return 0.7 * mixture.score(x, sigma) + x - 0.5

    found = {"geometric": [], "linear": [], "mean": []}  # errors
    for sde in (CUBE, reflected.ReflectedSDE(sigma_min=1e-4)):
        likelihood, variance = both(lambda x, _: 0 * x, one, sde, times.detach())
        linear = sde.sigma_min + times * (sde.sigma_max - sde.sigma_min)
        for name, sigma in (("geometric", sde.sigma(times)), ("linear", linear)):
            growth = torch.autograd.grad((sigma**2).sum(), times)[0] / sigma.detach() ** 2
            found[name].append(float((likelihood / variance / growth - 1).abs().max()))
        likelihood, variance = both(wrong, points, sde)
        ratio = float(likelihood.mean() / variance.mean())
        found["mean"].append(abs(ratio / (2 * math.log(sde.sigma_max / sde.sigma_min)) - 1))
    weighting = np.array([max(found["geometric"]), min(found["linear"])])
    return {"weighting": weighting, "mean_weighting": np.array([max(found["mean"])])}


def _exact_likelihood(config, generator):
    """R7 with the exact score, and the paths of its flow."""
    mixture = reflected.corner_mixture()
    points = min(500, max(60, config.toy_likelihood_points))
    x, _ = mixture.sample(points, generator)

    def pressing(x, sigma):
        """A score that does not vanish at the walls."""
        return mixture.score(x, sigma) - 0.5 * torch.cos(math.pi * x) / (1 + sigma.unsqueeze(1) ** 2)

    found, wrong = (
        reflected.log_likelihood(score, CUBE, x, rtol=tolerance, atol=tolerance)
        for score, tolerance in ((mixture.score, 2e-8), (pressing, 1e-4))
    )
    right = mixture.log_density(x, CUBE.sigma_min)
    start = CUBE.limit((points, 2), generator, dtype=torch.float64)
    paths = reflected.flow(mixture.score, CUBE, start, times=np.linspace(1, 0, 41)).x
    return {
        "likelihood": _largest(found.nats - right, wrong.nats - right), "likelihood_points": points,
        "likelihood_evaluations": found.evaluations, "flow_paths": paths[:, :60].numpy().astype(np.float32),
        "flow_range": np.array([float(paths.min()), float(paths.max())]),
    }  # fmt: skip


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

    def end(steps, walls):
        return reflected.euler_reflected(
            lambda x: -PULL * (x - CENTRE), NOISE, quantiles(config.paths), time=1.0, steps=steps, walls=walls,
            generator=torch.Generator().manual_seed(seed + steps),  # the same noise for both
        )  # fmt: skip

    ends = {walls: [end(steps, walls) for steps in config.path_steps] for walls in ("fold", "clip")}
    anew = torch.rand(config.paths, generator=generator, dtype=torch.float64).numpy()
    found = {"paths": config.paths, "path_steps": np.array(config.path_steps)}
    found |= {walls: np.array([distance(x) for x in each]) for walls, each in ends.items()}
    for walls, each in ends.items():
        found[f"{walls}_groups"] = np.array([[distance(x[k::GROUPS]) for x in each] for k in range(GROUPS)])
    return found | {"floor": distance(torch.from_numpy(exact.ppf(anew)))}

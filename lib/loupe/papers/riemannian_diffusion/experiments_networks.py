"""What the chapter trains: scores of events on the globe, of synthetic sets, and of mixtures on spheres."""

import math
from functools import partial

import numpy as np
import torch

from loupe.data import load
from loupe.diffusion import riemannian
from loupe.experiment import experiment
from loupe.experiment.results import columns
from loupe.geometry import SpecialOrthogonal, Sphere, Torus, VonMisesFisher
from loupe.papers.riemannian_diffusion.config import EVENTS
from loupe.papers.riemannian_diffusion.scores import denoising, device_of, nll, noise_levels, sliced, trained

GLOBE = Sphere(2)
ESTIMATORS = {
    "combined": partial(denoising, riemannian.HeatKernel(GLOBE)),
    "varadhan": partial(denoising, riemannian.HeatKernel(GLOBE, "varadhan")),
    "series": partial(denoising, riemannian.HeatKernel(GLOBE, "series")),
    "sliced": partial(sliced, riemannian.HeatKernel(GLOBE)),
}
WIDTHS = (0.005, 0.01, 0.02, 0.04, 0.08, 0.16)
CONCENTRATIONS = (1e5, 3e3, 300.0, 30.0, 3.0)
GRID = 48  # latitudes of a map
FRAMES, MOVED = 30, 400
TORUS = ((-1.1, -0.8), (-1.2, 2.4), (1.0, 0.7), (-1.5, 2.8)), (0.45, 0.3, 0.05, 0.2), (0.25, 0.3, 0.2, 0.35)
CENTERS = 16


# --- events on the globe ------------------------------------------------------------------------------------


def split(name, seed, most):
    """Points of training, validation and test, float32 (n, 3), and which test points repeat one of training."""
    points = load("earth")[name].xyz
    order = np.random.default_rng(seed).permutation(len(points))
    train, valid, test = np.split(points[order], [round(0.8 * len(points)), round(0.9 * len(points))])
    test = test[:most]
    repeated = (test[:, None] == train).all(-1).any(1)
    return *(torch.from_numpy(part).float() for part in (train, valid[:most], test)), repeated


def globe_map():
    """Points of a map of the globe, (rows, columns, 3), from north to south."""
    latitude = math.pi * (0.5 - (torch.arange(GRID) + 0.5) / GRID)
    longitude = 2 * math.pi * ((torch.arange(2 * GRID) + 0.5) / (2 * GRID) - 0.5)
    latitude, longitude = torch.meshgrid(latitude, longitude, indexing="ij")
    around = latitude.cos()
    return torch.stack([around * longitude.cos(), around * longitude.sin(), latitude.sin()], -1)


def _events(config, estimator, names, training, seed, device, work):
    """Train on each set; negative log-likelihoods while it trains on validation points, and in the end on test points."""
    score = partial(nll, manifold=GLOBE, settings=config.earth, steps=config.flow_steps)
    rows, result = [], {}
    for name in names:
        points, valid, test, repeated = split(name, seed, config.tested)

        def evaluate(network, valid=valid):
            return {"nll": score(network, valid).mean()}

        options = {"seed": seed, "device": device, "work": work / name, "evaluate": evaluate}
        run = trained(points, ESTIMATORS[estimator](config.earth), config.earth, training, **options)
        each = score(run.network, test).numpy()
        rows.append({
            "sets": name, "nll": each.mean(), "new nll": each[~repeated].mean(), "repeated": repeated.mean(),
            "seconds": run.history["seconds"][-1], "parameters": run.parameters, "count": len(points),
        })  # fmt: skip
        result |= {f"{name} steps": run.history["step"], f"{name} nll": run.history["nll"]}
        if estimator == "combined" and seed == min(config.seeds):
            result |= _shown(config, name, run.network, score, test, seed)
    return result | columns(rows)


def _shown(config, name, network, score, test, seed):
    """A map of the log density, test points, and uniform points on their way to the data."""
    place = globe_map()
    logs = torch.cat([-score(network, part) for part in place.reshape(-1, 3).split(1024)])
    start = GLOBE.random(MOVED, 3, generator=torch.Generator().manual_seed(seed)).to(device_of(network))
    levels = {"sigma_min": config.earth.sigma_min, "sigma_max": config.earth.sigma_max}
    path = riemannian.sample(network, GLOBE, start.shape, steps=FRAMES, path=True, start=start, **levels)
    return {
        f"{name} map": logs.reshape(place.shape[:2]).numpy(), f"{name} test": test.numpy(),
        f"{name} path": path.cpu().half().numpy(),
    }  # fmt: skip


@experiment(seeds="seeds")
def combined(config, *, seed, device, work):
    """SRD-5: denoising score matching with the accurate score of the kernel."""
    return _events(config, "combined", config.sets, config.training, seed, device, work)


@experiment(seeds="seeds")
def varadhan(config, *, seed, device, work):
    """SRD-5: denoising score matching with Varadhan's approximation, that of earlier work."""
    return _events(config, "varadhan", config.sets, config.training, seed, device, work)


@experiment(seeds="seeds")
def series(config, *, seed, device, work):
    """SRD-5: denoising score matching with ten eigenfunctions."""
    return _events(config, "series", config.sets, config.training, seed, device, work)


@experiment(seeds="seeds")
def sliced_matching(config, *, seed, device, work):
    """SRD-5: sliced score matching, which needs no score of the kernel."""
    return _events(config, "sliced", config.sets, config.training, seed, device, work)


@experiment(seeds="long_seeds")
def all_sets(config, *, seed, device, work):
    """SRD-6: the accurate score on all four sets, for longer."""
    return _events(config, "combined", EVENTS, config.long_training, seed, device, work)


@experiment(seeds="seeds")
def trivial(config, *, seed, device):
    """Densities that need no network: uniform, a heat kernel at each training point, and von Mises-Fisher kernels."""
    rows = []
    for name in EVENTS if config.long_seeds else config.sets:
        points, valid, test, repeated = split(name, seed, config.tested)
        for label, log in (("heat kernels", _heat_kernels), ("von Mises-Fisher mixture", _mixture)):
            each, chosen = log(points.double(), valid.double(), test.double())
            rows.append({"rows": label, "sets": name, "nll": -each.mean(), "new nll": -each[~repeated].mean(),
                         "chosen": chosen, "repeated": repeated.mean()})  # fmt: skip
        uniform = GLOBE.log_volume_like(points)
        rows.append({"rows": "uniform", "sets": name, "nll": uniform, "new nll": uniform, "chosen": 0.0,
                     "repeated": repeated.mean()})  # fmt: skip
    return columns(rows)


def _heat_kernels(points, valid, test):
    """Log densities at test points, of the width that is best on validation points; and that width."""
    mixtures = [riemannian.heat_mixture(GLOBE, points, sigmas=width) for width in WIDTHS]
    best = max(range(len(WIDTHS)), key=lambda k: _in_parts(mixtures[k].log_density, valid).mean())
    return _in_parts(mixtures[best].log_density, test).numpy(), WIDTHS[best]


def _mixture(points, valid, test, rounds=200):
    """The same for kernels of five concentrations, with weights from validation points by EM; and the first weight."""
    kernels = [VonMisesFisher(points, torch.tensor(kappa, dtype=torch.float64)) for kappa in CONCENTRATIONS]

    def logs(x):
        each = [kernel.log_prob(x.unsqueeze(1)).logsumexp(1) for kernel in kernels]
        return torch.stack(each, 1) - math.log(len(points))

    seen = _in_parts(logs, valid)
    weights = torch.full((len(kernels),), 1 / len(kernels), dtype=torch.float64)
    for _ in range(rounds):
        weights = (seen + weights.log()).softmax(1).mean(0)
    return (_in_parts(logs, test) + weights.log()).logsumexp(1).numpy(), float(weights[0])


def _in_parts(function, x):
    """A function of points, in parts that fit into memory."""
    return torch.cat([function(part) for part in x.split(64)])


# --- sets whose density is known ----------------------------------------------------------------------------


def synthetic_sets(seed):
    """Mixtures of heat kernels on a torus and on SO(3), by name, with the largest noise level."""
    generator = torch.Generator().manual_seed(seed)
    means, weights, sigmas = (torch.tensor(each) for each in TORUS)
    torus = riemannian.heat_mixture(Torus(2), means % (2 * math.pi), weights, sigmas)
    centers = SpecialOrthogonal(3).random(CENTERS, 3, 3, generator=generator)
    spread = 0.1 + 0.2 * torch.rand(CENTERS, generator=generator)
    return {
        "T²": (torus, 6.0),
        "SO(3)": (riemannian.heat_mixture(SpecialOrthogonal(3), centers, sigmas=spread), 4.0),
    }


@experiment(seeds="seeds")
def synthetic(config, *, seed, device, work):
    """Kullback-Leibler divergences of networks from mixtures on a torus and on SO(3), by estimator."""
    rows = []
    for name, (mixture, sigma_max) in synthetic_sets(seed).items():
        manifold, generator = mixture.kernel.manifold, torch.Generator().manual_seed(seed)
        points, test = mixture.sample(20_000, generator), mixture.sample(config.tested, generator)
        settings = config.earth.model_copy(update={"sigma_min": 0.01, "sigma_max": sigma_max})
        for method in ("combined", "varadhan", "series"):
            loss = denoising(riemannian.HeatKernel(manifold, method), settings)
            run = trained(
                points, loss, settings, config.synthetic_training, seed=seed, device=device, angles=name == "T²",
                work=work / f"{manifold.event_shape[0]}-{method}",
            )  # fmt: skip
            found = nll(run.network, test, manifold, settings, config.flow_steps)
            exact = mixture.log_density(test, settings.sigma_min)
            uniform = manifold.log_volume_like(test)
            rows.append({"sets": name, "methods": method, "kl": float((exact + found).mean()),
                         "entropy": float(-exact.mean()), "uniform": float(uniform + exact.mean())})  # fmt: skip
    return columns(rows)


# --- mixtures on spheres of many dimensions -----------------------------------------------------------------


@experiment(seeds="seeds")
def spheres(config, *, seed, device, work):
    """SRD-7: errors of scores by denoising and by sliced score matching, while they train, by dimension."""
    rows = []
    for dimension in config.dimensions:
        manifold, root = Sphere(dimension), dimension**0.5
        # At the largest noise level, the slowest mode is at e^-8 of its size.
        settings = config.sphere.model_copy(update={"sigma_min": 0.2 / root, "sigma_max": 4 / root})
        centers = manifold.random(CENTERS, dimension + 1, generator=torch.Generator().manual_seed(seed))
        mixture = riemannian.heat_mixture(manifold, centers, sigmas=1e-3 * settings.sigma_min)
        error = partial(_score_error, mixture=mixture, settings=settings)
        for name, loss in (("denoising", denoising), ("sliced", sliced)):
            run = trained(
                centers[torch.arange(4096) % CENTERS], loss(riemannian.HeatKernel(manifold), settings), settings,
                config.sphere_training, seed=seed, device=device, work=work / f"{dimension}-{name}",
                evaluate=lambda network, error=error: {"error": error(network)},
            )  # fmt: skip
            rows.append({"dimensions": dimension, "methods": name, "errors": run.history["error"],
                         "seconds": run.history["seconds"], "steps": run.history["step"]})  # fmt: skip
    return columns(rows)


def _score_error(network, mixture, settings, count=2048):
    """Root mean squared error of sigma times the score, over the root mean square of sigma times the score."""
    generator = torch.Generator().manual_seed(0)
    sigma = noise_levels(settings, count, generator)
    x = mixture.kernel.sample(mixture.centers[torch.arange(count) % CENTERS], sigma, generator)
    exact = mixture.score(x, sigma)
    device = device_of(network)
    found = mixture.kernel.manifold.to_tangent(x, network(x.to(device), sigma.to(device)).cpu())
    scale = sigma.unsqueeze(-1)
    return float((scale * (found - exact)).norm() / (scale * exact).norm())

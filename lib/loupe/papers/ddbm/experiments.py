"""What the chapter computes without images: identities, bridges between numbers, and small networks for them."""

import math
import warnings
from functools import partial
from itertools import product

import numpy as np
import torch

from loupe.diffusion import bridges
from loupe.diffusion.continuous import edm_preconditioning
from loupe.experiment import experiment
from loupe.networks.mlp import TranslationMLP
from loupe.training import train

PROBLEMS = 200
NOISES = (1.0, 0.1, 0.01, 0.001)
TIMES = (1e-3, 0.02, 0.1, 0.3, 0.5, 0.7, 0.9, 0.98)
SOURCE = 0.3  # of the two-mode pair, slightly off the middle
BINS = np.linspace(-1.2, 1.2, 49)


def both_bridges(config):
    """Both bridges of the paper, by the names of its tables."""
    return {"VP": bridges.VPBridge(config.beta_d, config.beta_min), "VE": bridges.VEBridge(config.sigma_max)}


@experiment(seeds="one_seed")
def identities(config, *, seed, device):
    """B1 to B4: the bridge's kernel, its preconditioning, EDM as a special case, and flow matching as a limit."""
    generator = torch.Generator().manual_seed(seed)
    each = list(both_bridges(config).values())
    kernel = np.array([_score_errors(bridge, generator) for bridge in each])
    # With the noise of the usual VE bridge, a covariance of the data does not matter.
    mild = [each[0], bridges.VEBridge(1.0)]
    moments = np.array([_unit_variances(bridge, config.draws, generator) for bridge in mild])
    reduction = np.array([_edm_errors(sigma_0, config.sigma_max) for sigma_0 in (0.25, 0.5, 1.0)])
    return {
        "bridges": np.array(list(both_bridges(config))),
        "score errors": kernel[..., 0],  # (bridges, problems)
        "score errors without pull": kernel[..., 1],
        "variances": moments[:, 0],  # (bridges, times, input and target)
        "variances without covariance": moments[:, 1],
        "EDM errors": reduction[:, 0],
        "EDM errors without covariance": reduction[:, 1],
        "flow noises": np.array(NOISES),
        "flow deviations": _flow_deviations(generator),  # (noises,)
    } | _curves(config)


def _score_errors(bridge, generator):
    """Relative differences of the kernel's score from the transition's score plus h, and from the former alone."""
    x, x0, x_T = torch.randn(3, PROBLEMS, generator=generator, dtype=torch.float64)
    t = bridge.t_max * torch.rand(PROBLEMS, generator=generator, dtype=torch.float64).clamp(1e-3, 1 - 1e-3)
    score = bridge.score(x, t, x_T, x0)
    transition = (bridge.sde.alpha(t) * x0 - x) / bridge.sde.sigma(t) ** 2
    summed = transition + bridge.h(x, t, x_T)
    scale = score.abs() + transition.abs()
    return torch.stack([(each - score).abs() / scale for each in (summed, transition)], -1).tolist()


def _unit_variances(bridge, draws, generator, sigma_0=0.5, sigma_T=0.8, covariance=0.2):
    """Variances of the network's input and target for pairs of these moments; then with the covariance ignored."""
    x0, other, noise = torch.randn(3, draws, generator=generator, dtype=torch.float64)
    x0 = sigma_0 * x0
    slope = covariance / sigma_0**2
    x_T = slope * x0 + math.sqrt(sigma_T**2 - slope * covariance) * other
    rows = []
    for kappa in (covariance, 0.0):
        form = bridges.Preconditioning(bridge, sigma_0, sigma_T, kappa)
        rows.append([])
        for share in TIMES:
            t = torch.tensor(share * bridge.t_max, dtype=torch.float64)
            x = bridge.sample(x0, x_T, t, noise=noise)
            target = (x0 - form.c_skip(t) * x) / form.c_out(t)
            rows[-1].append([float((form.c_in(t) * x).var()), float(target.var())])
    return rows


def _edm_errors(sigma_0, sigma_max):
    """Largest relative difference from EDM's coefficients where the source is the target plus noise."""
    bridge, t = bridges.VEBridge(sigma_max), sigma_max * torch.tensor(TIMES, dtype=torch.float64)
    edm, source = edm_preconditioning(t, sigma_0), math.hypot(sigma_0, sigma_max)
    errors = []
    for covariance in (sigma_0**2, 0.0):
        form = bridges.Preconditioning(bridge, sigma_0, source, covariance)
        pairs = ((form.c_in(t), edm.c_in), (form.c_skip(t), edm.c_skip), (form.c_out(t), edm.c_out))
        errors.append(max(float((ours / theirs - 1).abs().max()) for ours, theirs in pairs))
    return errors


def _flow_deviations(generator):
    """Distance of the flow's velocity from ``x_1 - x_0``, for a Brownian bridge of standard deviation c at time 1.

    A Brownian bridge is a VE bridge in the time ``c sqrt(t)``; its velocity in t is that in its own time, times
    ``c / (2 sqrt(t))``.
    """
    x0, x1, noise = torch.randn(3, PROBLEMS, generator=generator, dtype=torch.float64)
    t = torch.rand(PROBLEMS, generator=generator, dtype=torch.float64).clamp(0.05, 0.95)
    deviations = []
    for c in NOISES:
        bridge, own = bridges.VEBridge(c), c * t.sqrt()
        x = bridge.sample(x0, x1, own, noise=noise)
        velocity = bridge.probability_flow(lambda x, s, y: x0, x1)(x, own) * c / (2 * t.sqrt())
        deviations.append(float((velocity - (x1 - x0)).abs().mean()))
    return np.array(deviations)


def _curves(config):
    """Coefficients over the bridge: of the kernel, and of the preconditioning for three covariances, beside EDM's."""
    shares = torch.linspace(0.005, 0.995, 100, dtype=torch.float64)
    result = {"shares": shares.numpy()}
    for name, bridge in both_bridges(config).items():
        t = shares * bridge.t_max
        a, b, c = bridge.coefficients(t)
        forms = [bridges.Preconditioning(bridge, 0.5, 0.5, kappa) for kappa in (0.0, 0.125, 0.2)]
        forms = [torch.stack([form.c_in(t), form.c_skip(t), form.c_out(t)]) for form in forms]
        result[f"{name} kernel"] = torch.stack([a, b, c.sqrt()]).numpy()
        result[f"{name} form"] = torch.stack(forms).numpy()
    return result


@experiment(seeds="one_seed")
def toys(config, *, seed, device):
    """B6: what the ODE and the hybrid sampler return for exact denoisers, and how the spread depends on the churn."""
    one_mode, two_modes, result = bridges.GaussianPair(), bridges.TwoModePair(), {}
    source = torch.full((config.toy_paths,), SOURCE, dtype=torch.float64)
    for name, bridge in both_bridges(config).items():
        variances, modes = [], []
        for steps, churn in product(config.toy_steps, config.toy_churns):
            drawn = partial(_drawn, source, bridge, steps, churn, seed, device)
            normal, two = drawn(one_mode), drawn(two_modes)
            variances.append(float(normal.var()) / one_mode.v)
            near = np.abs(np.abs(two - two_modes.slope * SOURCE) - two_modes.mode) < 0.2
            modes.append([float((two > 0).mean()), float(near.mean()), float(np.ptp(two))])
            if steps == 40:
                result[f"{name} histogram {churn:g}"] = np.histogram(two, BINS, density=True)[0]
        shape = len(config.toy_steps), len(config.toy_churns)
        result[f"{name} variance"] = np.reshape(variances, shape)
        result[f"{name} modes"] = np.reshape(modes, (*shape, 3))  # upper mode, near a mode, range
        result |= {f"{name} {key}": value for key, value in _paths(bridge, seed).items()}
    return result | {
        "churns": np.array(config.toy_churns), "steps": np.array(config.toy_steps), "bins": BINS, "source": SOURCE,
    }  # fmt: skip


def _drawn(source, bridge, steps, churn, seed, device, pair):
    generator = torch.Generator(device).manual_seed(seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # small churns are what is studied
        options = {"steps": steps, "churn": churn, "generator": generator}
        drawn = bridges.bridge_sample(pair.denoiser(bridge), source.to(device), bridge, **options)
    return drawn.samples.cpu().numpy()


def _paths(bridge, seed, count=40, points=101):
    """Forward paths of the two-mode pair's bridge, and backward paths of the sampler from one source."""
    generator, pair = torch.Generator().manual_seed(seed), bridges.TwoModePair()
    source = torch.full((count,), SOURCE, dtype=torch.float64)
    times = torch.linspace(0, bridge.t_max, points, dtype=torch.float64)
    forward = bridge.path(pair.sample(source, generator), source, times, generator)
    result = {"times": times.numpy(), "forward": forward.numpy()}
    for name, churn in (("flow", 0.0), ("hybrid", 0.33)):
        options = {"steps": 80, "churn": churn, "generator": generator, "path": True}
        result[f"{name} path"] = bridges.bridge_sample(
            pair.denoiser(bridge), source, bridge, **options
        ).path.numpy()
    return result


@experiment(seeds="toy_seeds")
def toy_networks(config, *, seed, device, work):
    """B5: networks that learn the bridge's denoiser from pairs alone, over one that outputs zero."""
    result = {}
    for key, form, draw, *points in _problems(config, seed, device):
        for kind, shuffled in (("error", False), ("shuffled error", True)):
            network = _learned(config, form, draw, seed, device, work / f"{key} {shuffled}", shuffled)
            result[f"{key} {kind}"] = _error(network, form, *points) / _error(_zero, form, *points)
    return result


@experiment(seeds="toy_seeds")
def affine_networks(config, *, seed, device):
    """B5: the best network that is affine in ``c_in x`` and the source, over one that outputs zero."""
    result = {}
    for key, form, _, (x, t, x_T), exact in _problems(config, seed, device):
        wanted = (exact - form.c_skip(t) * x) / form.c_out(t)
        inputs = torch.stack([torch.ones_like(x), form.c_in(t) * x, x_T], -1)
        left = wanted - inputs @ torch.linalg.lstsq(inputs, wanted).solution
        result[f"{key} error"] = float(left.square().mean() / wanted.square().mean())
    return result


def _zero(x, x_T, log_time):
    return torch.zeros_like(x)


def _problems(config, seed, device):
    """Each bridge and pair: its name, preconditioning, pairs, points ``(x, t, x_T)``, and the exact denoiser's values."""
    for name, bridge in both_bridges(config).items():
        for kind, pair in (("normal", bridges.GaussianPair()), ("two modes", bridges.TwoModePair())):
            generator, draw = torch.Generator(device).manual_seed(seed + 2**20), partial(_pairs, pair, device)
            form = bridges.Preconditioning.of_pairs(bridge, *draw(100_000, generator))
            x0, x_T = draw(20_000, generator)
            t = bridge.t_max * torch.linspace(1e-3, 0.999, len(x_T), device=device)
            x = bridge.sample(x0, x_T, t, generator)
            yield f"{name} {kind}", form, draw, (x, t, x_T), pair.denoiser(bridge)(x, t, x_T)


def _pairs(pair, device, count, generator):
    x_T = 2 * torch.rand(count, generator=generator, device=device) - 1
    return pair.sample(x_T, generator), x_T


@torch.no_grad()
def _error(network, form, points, exact):
    """The denoiser's weighted squared error, which is the squared error of the network's output."""
    return float((form.weight(points[1]) * (form.denoiser(network)(*points) - exact) ** 2).mean())


def _learned(config, form, draw, seed, device, work, shuffled):
    """A network trained on pairs, or on shuffled ones; they are drawn in the loss, since the data have no end."""
    training = config.toy_training

    def loss(network, batch, generator):
        x0, x_T = draw(training.batch, generator)
        return bridges.bridge_loss(network, x0, x_T.roll(1) if shuffled else x_T, form, generator).mean()

    network = TranslationMLP(1, width=config.toy_width, seed=seed)
    return train(network, loss, lambda *at: [], training, seed=seed, device=device, work=work).network

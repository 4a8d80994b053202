"""Networks in the square and the triangle: distributions whose samples, densities and bounds can be checked."""

from dataclasses import replace
from functools import partial

import numpy as np
import torch

from loupe.diffusion import reflected
from loupe.experiment import experiment
from loupe.experiment.results import columns
from loupe.metrics import energy_distance
from loupe.networks.mlp import NoiseMLP
from loupe.training import train

SHOWN = 1500  # points that are stored for pictures
FAR = 1_000_000  # seeds of held-out points lie as far from those of training
LOGIT_MARGIN = 1e-3
LEVELS = 256


def edge_squares(n, generator):
    """Points of the dark cells of a chessboard of four by four, half of which touch a wall."""
    row = torch.randint(4, (n,), generator=generator)
    column = 2 * torch.randint(2, (n,), generator=generator) + row % 2
    inside = torch.rand(n, 2, generator=generator)
    return ((torch.stack([row, column], 1) + inside) / 4).clamp(0, 1)


def corners(n, generator):
    """Points of the mixture that is known exactly."""
    return reflected.corner_mixture(torch.float32).sample(n, generator)[0]


def dirichlets(n, generator):
    """Points of the triangle: half of them Dirichlet (1, 2, 8), half (10, 2, 2); the third piece is left out."""
    shape = torch.tensor([[1.0, 2.0, 8.0], [10.0, 2.0, 2.0]])
    chosen = shape[torch.randint(2, (n,), generator=generator)]
    pieces = torch._standard_gamma(chosen, generator=generator)
    return (pieces / pieces.sum(1, keepdim=True))[:, :2]


TOYS = {"squares": edge_squares, "corners": corners}


@experiment
def toys_reflected(config, *, seed, device):
    """R8, R7: trained with walls; sampled with walls that fold, with walls that clip, and by the flow."""
    sde = reflected.ReflectedSDE(config.sigma_min, config.sigma_max)
    # The same network, from where hardly anything of the data is left: its score depends on the noise, not on time.
    short = replace(sde, sigma_max=config.short_sigma)

    def follow(network, side=0.0, mollifier=None):
        start = sde.limit((config.toy_points, 2), torch.Generator().manual_seed(seed), side=side)
        with torch.no_grad():
            return reflected.flow(network, sde, start, mollifier=mollifier, rtol=1e-4, atol=1e-4).x

    draw = partial(run, config, sde, seed)
    samplers = {
        "fold": draw, "clip": partial(draw, walls="clip"), "short": partial(run, config, short, seed),
        "flow": follow, "mollified": partial(follow, side=0.01, mollifier=config.mollifier),
    }  # fmt: skip
    found, network = _in_the_square(config, sde, seed, samplers)
    # Log-densities by the flow of the network trained on corners, against the true ones with the first noise.
    x = corners(config.toy_likelihood_points, torch.Generator().manual_seed(seed + FAR))
    x = sde.noised(x, sde.sigma_min, torch.Generator().manual_seed(seed + FAR + 1))
    learned = reflected.log_likelihood(network, sde, x, rtol=1e-4, atol=1e-4).nats
    right = reflected.corner_mixture().log_density(x.double(), sde.sigma_min)
    return found | {"log_density": learned.numpy(), "true_log_density": right.numpy()}


@experiment
def toys_exploding(config, *, seed, device):
    """R8: the same network, trained without walls; with no threshold, a static and a dynamic one."""
    sde = reflected.VESDE(config.sigma_min, config.sigma_max)
    draw = partial(run, config, sde, seed)
    samplers = {"none": draw} | {how: partial(draw, threshold=how) for how in ("static", "dynamic")}
    return _in_the_square(config, sde, seed, samplers)[0]


@experiment(seeds="extra_seeds")
def toys_logit(config, *, seed, device):
    """The same network on logits of the data, which have no walls: they are infinitely far away."""
    # A logit of the margin is 6.9 from the middle: eight times the data's spread of the square, and so is the noise.
    sde = reflected.VESDE(8 * config.sigma_min, 8 * config.sigma_max, center=0.0, spread=4.0)

    def logits(x):
        return (LOGIT_MARGIN + (1 - 2 * LOGIT_MARGIN) * x).logit()

    def back(network):
        end = run(config, sde, seed, network, denoise=False)
        return ((end.sigmoid() - LOGIT_MARGIN) / (1 - 2 * LOGIT_MARGIN)).clamp(0, 1)

    return _in_the_square(config, sde, seed, {"logit": back}, logits)[0]


@experiment(seeds="extra_seeds")
def simplex(config, *, seed, device):
    """A triangle by way of the square, and without any walls."""

    def sticks(n, generator):
        return reflected.from_simplex(dirichlets(n, generator))

    walls = reflected.ReflectedSDE(config.sigma_min, config.sigma_max)
    free = reflected.VESDE(config.sigma_min, config.sigma_max, center=1 / 3, spread=0.3)
    inside = reflected.to_simplex(run(config, walls, seed, trained(config, sticks, walls, seed)))
    anywhere = run(config, free, seed, trained(config, dirichlets, free, seed), denoise=False)
    rows, _ = compared(config, "", dirichlets, {"reflected": inside, "none": anywhere}, seed)
    outside = (anywhere.min(1).values < 0) | (anywhere.sum(1) > 1)
    return columns(rows) | {"outside": float(outside.double().mean())}


@experiment(seeds="grey_seeds")
def grey_bound(config, *, seed, device):
    """R7: the bound of 256 gray levels in each direction, against their entropy."""
    cell = reflected.cell_probabilities(reflected.corner_mixture(), LEVELS)

    def cells(n, generator):
        chosen = torch.multinomial(cell.flatten(), n, replacement=True, generator=generator)
        return torch.stack([chosen // LEVELS, chosen % LEVELS], 1).float() / (LEVELS - 1)

    sde = reflected.ReflectedSDE(config.bound_sigma_min, config.sigma_max)
    network = trained(config, cells, sde, seed, levels=LEVELS)
    generator = torch.Generator().manual_seed(seed + FAR)
    held_out = cells(config.toy_likelihood_points, generator)
    nats = reflected.likelihood_bound(
        network, held_out, sde, times=config.grey_times, batch=8192, generator=generator
    )
    row, column = (held_out * (LEVELS - 1)).round().long().T
    surprise = -cell[row, column].log()  # of the very same points
    found = {"bound": nats, "surprise": surprise, "entropy": torch.special.entr(cell).sum()}
    return {name: reflected.bits_per_dimension(each, 2).numpy() for name, each in found.items()}


# --- training and judging -----------------------------------------------------------------------------------


def trained(config, draw, sde, seed, levels=None):
    """A network's score after training on fresh points; the moving average, in evaluation mode."""
    inputs = 6 if levels else 2
    network = NoiseMLP(inputs, outputs=2, width=config.toy_width, layers=config.toy_layers, seed=seed)

    def loss(network, batch, generator):
        x0 = draw(config.toy_training.batch, generator)
        return reflected.denoising_loss(network, x0, sde, generator=generator).mean()

    # Points are drawn in the loss: the data have no end.
    data, model = lambda step, part, parts: [], reflected.ScoreNetwork(network, sde, levels)
    return train(model, loss, data, config.toy_training, seed=seed).network


def run(config, sde, seed, score, threshold=None, **options):
    """Draws of a sampler."""
    score = reflected.thresholded(score, threshold) if threshold else score
    options |= {"steps": config.toy_sampler_steps, "generator": torch.Generator().manual_seed(seed)}
    return reflected.sample(score, sde, (config.toy_points, 2), **options)


def _in_the_square(config, sde, seed, samplers, coordinates=lambda x: x):
    """Rows and points, by each sampler of a network trained in these coordinates on each distribution; the last network."""
    rows, shown = [], []
    for toy, draw in TOYS.items():
        network = trained(config, lambda n, generator, draw=draw: coordinates(draw(n, generator)), sde, seed)
        drawn = {name: sampler(network) for name, sampler in samplers.items()}
        measured, points = compared(config, toy, draw, drawn, seed)
        rows, shown = rows + measured, [*shown, points]
    return columns(rows) | {name: np.stack([each[name] for each in shown]) for name in shown[0]}, network


def compared(config, toy, draw, drawn, seed):
    """Rows with energy distances to held-out data, for "data" that of other data, and shares at walls; and points."""
    generator = torch.Generator().manual_seed(seed + FAR)
    held_out, others = (draw(config.toy_points, generator) for _ in range(2))
    points = {"data": held_out, **drawn}
    rows = [
        {"method": name, "variant": toy, "distance": energy_distance(others if name == "data" else x, held_out),
         "at_walls": float(((x < 0.01) | (x > 0.99)).any(1).double().mean())}
        for name, x in points.items()
    ]  # fmt: skip
    return rows, {name: x[:SHOWN].numpy() for name, x in points.items()}

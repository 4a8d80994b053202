"""Networks in the square and the triangle: distributions whose samples, densities and bounds can be checked."""

import torch

from loupe.diffusion.reflected import (
    VESDE,
    ReflectedSDE,
    ScoreNetwork,
    bits_per_dimension,
    cell_probabilities,
    corner_mixture,
    denoising_loss,
    flow,
    from_simplex,
    likelihood_bound,
    log_likelihood,
    sample,
    thresholded,
    to_simplex,
)
from loupe.experiment import experiment
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
    return corner_mixture(torch.float32).sample(n, generator)[0]


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
    found = {}
    for toy, draw in TOYS.items():
        sde = ReflectedSDE(config.sigma_min, config.sigma_max)
        network = trained(config, draw, sde, seed)
        drawn = {walls: run(config, network, sde, seed, walls=walls) for walls in ("fold", "clip")}
        # The same network, from where hardly anything of the data is left: its score depends on the noise, not on time.
        short = ReflectedSDE(config.sigma_min, config.short_sigma)
        drawn["short"] = run(config, network, short, seed)
        for name, side, mollifier in (("flow", 0.0, None), ("mollified", 0.01, config.mollifier)):
            generator = torch.Generator().manual_seed(seed)
            start = sde.limit((config.toy_points, 2), generator, side=side)
            with torch.no_grad():
                drawn[name] = flow(network, sde, start, mollifier=mollifier, rtol=1e-4, atol=1e-4).x
        found |= compared(config, toy, draw, drawn, seed)
    return found | _learned_density(config, network, sde, seed)


@experiment
def toys_exploding(config, *, seed, device):
    """R8: the same network, trained without walls; with no threshold, a static and a dynamic one."""
    found = {}
    for toy, draw in TOYS.items():
        sde = VESDE(config.sigma_min, config.sigma_max)
        network = trained(config, draw, sde, seed)
        drawn = {"none": run(config, network, sde, seed)}
        for how in ("static", "dynamic"):
            drawn[how] = run(config, thresholded(network, how), sde, seed)
        found |= compared(config, toy, draw, drawn, seed)
    return found


@experiment(seeds="extra_seeds")
def toys_logit(config, *, seed, device):
    """The same network on logits of the data, which have no walls: they are infinitely far away."""
    found = {}
    # A logit of the margin is 6.9 from the middle: eight times the data's spread of the square, and so is the noise.
    sde = VESDE(8 * config.sigma_min, 8 * config.sigma_max, center=0.0, spread=4.0)
    for toy, draw in TOYS.items():

        def logits(n, generator, draw=draw):
            return (LOGIT_MARGIN + (1 - 2 * LOGIT_MARGIN) * draw(n, generator)).logit()

        network = trained(config, logits, sde, seed)
        end = run(config, network, sde, seed, denoise=False)
        back = ((end.sigmoid() - LOGIT_MARGIN) / (1 - 2 * LOGIT_MARGIN)).clamp(0, 1)
        found |= compared(config, toy, draw, {"logit": back}, seed)
    return found


@experiment(seeds="extra_seeds")
def simplex(config, *, seed, device):
    """A triangle by way of the square, and without any walls."""
    walls = ReflectedSDE(config.sigma_min, config.sigma_max)
    broken = trained(config, lambda n, generator: from_simplex(dirichlets(n, generator)), walls, seed)
    free = VESDE(config.sigma_min, config.sigma_max, center=1 / 3, spread=0.3)
    plain = trained(config, dirichlets, free, seed)
    drawn = {
        "reflected": to_simplex(run(config, broken, walls, seed)),
        "none": run(config, plain, free, seed, denoise=False),
    }
    outside = (drawn["none"].min(1).values < 0) | (drawn["none"].sum(1) > 1)
    return compared(config, "simplex", dirichlets, drawn, seed) | {"outside": float(outside.double().mean())}


@experiment(seeds="grey_seeds")
def grey_bound(config, *, seed, device):
    """R7: the bound of 256 gray levels in each direction, against their entropy."""
    cell = cell_probabilities(corner_mixture(), LEVELS)
    flat = cell.flatten()

    def cells(n, generator):
        chosen = torch.multinomial(flat, n, replacement=True, generator=generator)
        return torch.stack([chosen // LEVELS, chosen % LEVELS], 1).float() / (LEVELS - 1)

    sde = ReflectedSDE(config.bound_sigma_min, config.sigma_max)
    network = trained(config, cells, sde, seed, levels=LEVELS)
    generator = torch.Generator().manual_seed(seed + FAR)
    held_out = cells(config.toy_likelihood_points, generator)
    nats = likelihood_bound(network, held_out, sde, times=config.grey_times, batch=8192, generator=generator)
    row, column = (held_out * (LEVELS - 1)).round().long().T
    surprise = -cell[row, column].log()  # of the very same points
    entropy = -(flat * flat.clamp(min=torch.finfo(flat.dtype).tiny).log()).sum()
    return {
        "bound": bits_per_dimension(nats, 2).numpy(),
        "surprise": bits_per_dimension(surprise, 2).numpy(),
        "entropy": float(bits_per_dimension(entropy, 2)),
    }


# --- training and judging -----------------------------------------------------------------------------------


def trained(config, draw, sde, seed, levels=None):
    """A network's score after training on fresh points; the moving average, in evaluation mode."""
    network = NoiseMLP(
        6 if levels else 2, outputs=2, width=config.toy_width, layers=config.toy_layers, seed=seed
    )

    def loss(network, batch, generator):
        x0 = draw(config.toy_training.batch, generator)
        return denoising_loss(network, x0, sde, generator=generator).mean()

    # Points are drawn in the loss: the data have no end.
    model = ScoreNetwork(network, sde, levels)
    return train(model, loss, lambda step, part, parts: [], config.toy_training, seed=seed).network


def run(config, score, sde, seed, **options):
    """Draws of a sampler."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        return sample(
            score, sde, (config.toy_points, 2), steps=config.toy_sampler_steps, generator=generator, **options
        )


def compared(config, toy, draw, drawn, seed):
    """Energy distances to held-out points, beside that of other points of the same distribution; and points to draw."""
    generator = torch.Generator().manual_seed(seed + FAR)
    held_out, others = (draw(config.toy_points, generator) for _ in range(2))
    found = {f"{toy} floor": energy_distance(others, held_out)}
    for name, points in {"data": held_out, **drawn}.items():
        at_walls = ((points < 0.01) | (points > 0.99)).any(1)
        found |= {
            f"{toy} {name}": points[:SHOWN].numpy(),
            f"{toy} {name} at walls": float(at_walls.double().mean()),
        }
        if name != "data":
            found[f"{toy} {name} distance"] = energy_distance(points, held_out)
    return found


def _learned_density(config, network, sde, seed):
    """Log-densities by the flow of the network trained on corners, against the true ones with the first noise."""
    mixture = corner_mixture(torch.float32)
    x, _ = mixture.sample(config.toy_likelihood_points, torch.Generator().manual_seed(seed + FAR))
    x = sde.noised(x, sde.sigma_min, torch.Generator().manual_seed(seed + FAR + 1))
    found = log_likelihood(network, sde, x, rtol=1e-4, atol=1e-4)
    right = corner_mixture().log_density(x.double(), sde.sigma_min)
    return {
        "log_density": found.nats.numpy(),
        "true_log_density": right.numpy(),
        "likelihood_evaluations": found.evaluations,
    }

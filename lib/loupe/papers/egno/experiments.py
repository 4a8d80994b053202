"""What the chapter runs without training: symmetry and convolutions of random networks, and spectra of the data."""

import numpy as np
import torch
from torch import nn

import loupe.data
from loupe.dynamics import (
    EGNO,
    TemporalConvolution,
    charged_windows,
    input_features,
    molecule_windows,
    motion_windows,
    walk_starts,
)
from loupe.experiment import experiment
from loupe.networks.egnn import Graph

FARTHEST = 10.0  # of shifts
TRIALS = 8
SHAPES = ((5, 2), (8, 5), (16, 3), (40, 4))  # slices and modes; the second keeps every frequency


class _CoordinateByCoordinate(nn.Module):
    """A temporal convolution of vectors with different weights for each coordinate: what must not be done."""

    def __init__(self, modes):
        super().__init__()
        self.each = nn.ModuleList(TemporalConvolution(2, modes, vectors=True) for _ in range(3))

    def forward(self, z):
        parts = [convolve(z[..., d : d + 1, :]) for d, convolve in enumerate(self.each)]
        return torch.cat(parts, dim=-2)


@experiment(seeds="one_seed")
def identities(config, *, seed, device):
    """EG1 to EG3, with random weights."""
    generator, found = torch.Generator().manual_seed(seed), {}

    def add(name, network, graph, dtype=torch.float64, **options):
        each = _deviations(network.to(dtype), graph, dtype, generator, **options)
        found.update({f"{name} {what}": value for what, value in each.items()})

    for dtype, digits in ((torch.float64, "float64"), (torch.float32, "float32")):
        for kind, graph in _graphs(config).items():
            add(f"{kind} {digits}", _network(config, seed), graph, dtype)
    wrong = _network(config, seed)
    torch.manual_seed(seed)
    wrong.on_vectors = nn.ModuleList(_CoordinateByCoordinate(config.modes) for _ in wrong.layers)
    add("apart", wrong, _graphs(config)["complete"])
    del found["apart shifted"], found["apart renumbered"]
    add("naive", _network(config, seed), _graphs(config)["tree"], naive=True)
    right, cut = zip(*(_time_domain(P, modes, seed) for P, modes in SHAPES), strict=True)
    return found | {"convolutions": np.array(right), "not circular": np.array(cut)}


def _graphs(config):
    """A few complete graphs, and a few trees."""
    ends = torch.arange(1, 31)
    starts = (ends - 1) // 2
    tree = torch.stack([torch.cat([ends, starts]), torch.cat([starts, ends])])
    return {"complete": Graph.complete(6, 5), "tree": Graph.repeated(tree, 31, 3)}


def _network(config, seed):
    sizes = {name: getattr(config, name) for name in ("width", "layers", "modes", "slices")}
    return EGNO(2, 2, **sizes, seed=seed)


def _deviations(network, graph, dtype, generator, naive=False):
    """Largest deviation over output scale: for rotations and reflections, for shifts, and for renumbering.

    The control, ``naive``, is given a coordinate as a feature, and its edges are not renumbered with its points.
    """
    known = torch.randn(graph.nodes, 1, generator=generator, dtype=torch.float64).to(dtype)
    of_edges = torch.randn(graph.edges.shape[1], 1, generator=generator, dtype=torch.float64).to(dtype)
    worst = dict.fromkeys(("turned", "shifted", "renumbered"), 0.0)

    def ends(x, v, graph, known, of_edges):
        with torch.no_grad():
            features, edge_features = input_features(x, v, graph, x[:, :1] if naive else known, of_edges)
            return network(x, v, features, graph, edge_features)

    for _ in range(TRIALS):
        x, v = torch.randn(2, graph.nodes, 3, generator=generator, dtype=torch.float64).to(dtype)
        out = ends(x, v, graph, known, of_edges)
        scale = (out - x.mean(0)).abs().max()
        turn = torch.linalg.qr(torch.randn(3, 3, generator=generator, dtype=torch.float64))[0].to(dtype)
        shift = (FARTHEST * (2 * torch.rand(3, generator=generator, dtype=torch.float64) - 1)).to(dtype)
        order = torch.randperm(graph.nodes, generator=generator)
        place = order.argsort()
        nodes = graph.nodes // graph.graphs
        renumbered = graph if naive else Graph(place[graph.edges], graph.nodes, batch=(order // nodes))
        moved = {
            "turned": ends(x @ turn.T, v @ turn.T, graph, known, of_edges) - out @ turn.T,
            "shifted": ends(x + shift, v, graph, known, of_edges) - (out + shift),
            "renumbered": ends(x[order], v[order], renumbered, known[order], of_edges) - out[:, order],
        }
        for name, difference in moved.items():
            # Not Python's max, which may keep the other of two where one is NaN.
            worst[name] = float(np.maximum(worst[name], float(difference.abs().max() / scale)))
    return worst


def _time_domain(P, modes, seed):
    """EG2: largest difference of both forms of a temporal convolution from a sum over time with its kernel.

    Beside it, as a control, the difference from the same sum without its wrap from the last time to the first.
    """
    torch.manual_seed(seed)
    worst = control = 0.0
    for vectors in (False, True):
        C = 2 if vectors else 6
        layer = TemporalConvolution(C, modes, vectors=vectors).double()
        z = torch.randn(P, 7, *([3] if vectors else []), C, dtype=torch.float64)
        weights = torch.zeros(P // 2 + 1, C, C, dtype=torch.complex128)
        weights[:modes] = torch.view_as_complex(layer.weight.detach()).permute(2, 0, 1)
        kernel = torch.fft.irfft(weights, n=P, dim=0)
        with torch.no_grad():
            summed = sum(z.roll(late, 0) @ kernel[late] for late in range(P))
            cut = torch.stack([sum(z[t - late] @ kernel[late] for late in range(t + 1)) for t in range(P)])
            for form in (layer.by_fft, layer.by_matrices):
                worst = float(np.maximum(worst, float((form(z) - summed).abs().max())))
                control = float(np.maximum(control, float((form(z) - cut).abs().max())))
    return worst, control


# --- how much of a motion each frequency has ----------------------------------------------------------------


@experiment(seeds="one_seed")
def spectra(config, *, seed, device):
    """Power of true trajectories by frequency within the window: as they are, and less the straight line to their end."""
    found = {}
    for name in config.shown:
        each = _shown(config, name)
        way = (each.targets - each.positions.unsqueeze(1)).double()
        line = each.times.view(-1, 1, 1) * way[:, -1:]
        for what, path in (("way", way), ("bend", way - line)):
            power = torch.fft.rfft(path, dim=1).abs().square().mean((0, 2, 3))
            power[1 : len(each.times) // 2] *= 2  # these frequencies stand for their conjugates as well
            found[f"{name} {what}"] = power.numpy()
    return found


def _shown(config, name):
    P = 2 * config.slices
    if name == "charged":
        return charged_windows("test", config.test_systems, slices=P)
    if name == "run":
        run = loupe.data.load("cmu09_run")
        return motion_windows(run, run.starts["test"], slices=P)
    if name == "walk":
        walk = loupe.data.load("cmu35_walk")
        return motion_windows(walk, walk_starts(walk)["test"], slices=P)
    return molecule_windows(loupe.data.load("ethanol"), "test", distance=config.molecule_frames, slices=P)

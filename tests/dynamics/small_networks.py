"""What tests of networks of dynamics share: small networks and graphs, and Fourier sums in numpy."""

import math

import numpy as np
import torch
from layers import generator, perturbed

from loupe.dynamics import EGNN, EGNO, Linear, RadialField, SequentialEGNN
from loupe.networks.egnn import Graph

TINY = dict(width=6, layers=2, modes=2, slices=5, embedding=4)
TREE = torch.tensor([[0, 1, 1, 2, 1, 3, 3, 4], [1, 0, 2, 1, 3, 1, 4, 3]])
SIZES = Graph(torch.tensor([[0, 1, 2, 3, 4], [1, 0, 3, 4, 2]]), 5, batch=torch.tensor([0, 0, 1, 1, 1]))
GRAPHS = {"complete": Graph.complete(3, 4), "trees": Graph.repeated(TREE, 5, 2), "of two sizes": SIZES}


def normal(seed, *shape):
    return torch.randn(*shape, generator=generator(seed), dtype=torch.float64)


def network(kind=EGNO, **options):
    return perturbed(kind(2, 3, **TINY | options))


def given(graph, dtype=torch.float64):
    """Positions, velocities, features, the graph, edge features: what networks are called with."""
    n, m = graph.nodes, graph.edges.shape[1]
    x, v, f, e = (normal(k, *s).to(dtype) for k, s in enumerate([(n, 3), (n, 3), (n, 2), (m, 3)], start=1))
    return x, v, f, graph, e


def rotation(sign, dtype):
    R = torch.linalg.qr(normal(7, 3, 3)).Q
    return (sign * R.det().sign() * R).to(dtype)


MODELS = {
    "EGNO": lambda: network(),
    "EGNO, FFT": lambda: network(slices=17, modes=4),
    "EGNN": lambda: perturbed(EGNN(2, 3, width=6, layers=2)),
    "sequential": lambda: perturbed(SequentialEGNN(2, 3, width=6, layers=3, slices=5)),
    "radial": lambda: perturbed(RadialField(3, width=6, layers=2)),
    "linear": lambda: Linear(5).double(),
}


def spectral_by_definition(z, weight, between=()):
    """Fourier sums of ``z [P + Q, rows, C]``, frequency by frequency, with its conjugate on the way back."""
    P = len(z) - len(between)
    out = np.zeros((len(z), z.shape[1], weight.shape[1]))
    for k in range(weight.shape[2]):
        turn = np.exp(-2j * np.pi * k * np.arange(P) / P)
        M = weight[:, :, k, 0] + 1j * weight[:, :, k, 1]
        mode = sum(turn[p] * z[p] for p in range(P)) @ M
        twice = 1 if k in (0, P / 2) else 2
        for row, p in enumerate((*range(P), *between)):
            out[row] += twice * (mode * np.exp(2j * np.pi * k * p / P)).real / P
    return out


def embedding_by_definition(tau, dim):
    half = dim // 2
    waves = [math.exp(-math.log(10_000) * k / (half - 1)) for k in range(half)]
    return [math.sin(w * tau) for w in waves] + [math.cos(w * tau) for w in waves]

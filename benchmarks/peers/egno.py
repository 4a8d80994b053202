"""Peers to measure the equivariant graph neural operator and the simulator of charges against.

What is called a re-statement puts published equations in our words, edge by edge and system by system; it is not the
authors' code.
"""

import numpy as np
import torch
from torch import nn
from torch.nn.functional import leaky_relu

LARGEST_SHIFT = 100.0
SLOPE = 0.01


class EdgeListEGNO(nn.Module):
    """Re-statement of the operator on one long list of edges: gather, one map for each edge, scatter, FFT.

    Time slices are more graphs: their nodes follow each other, and the list of edges is repeated once for each. What
    depends on the graph alone, these lists and the degrees, is prepared beforehand, and no call pays for it.

    Parameters
    ----------
    ours : loupe.dynamics.EGNO
        Whose weights are copied.
    graph : loupe.networks.egnn.Graph
        Graphs of equal size.
    """

    def __init__(self, ours, graph):
        super().__init__()
        self.slices, self.graph = ours.slices, graph
        width, known = ours.embed.out_features, ours.edge_features
        self.embed = nn.Linear(ours.embed.in_features, width)
        self.layers = nn.ModuleList(EdgeListLayer(width, known) for _ in ours.layers)
        self.on_invariants = nn.ModuleList(SpectralConvolution(one) for one in ours.on_invariants)
        self.on_vectors = nn.ModuleList(SpectralConvolution(one) for one in ours.on_vectors)
        self.load_state_dict(ours.state_dict())
        first = graph.nodes * torch.arange(self.slices, device=graph.edges.device)
        self.row, self.col = (graph.edges.unsqueeze(1) + first.unsqueeze(1)).flatten(1)
        self.degree = self.row.bincount(minlength=self.slices * graph.nodes).clamp(min=1).unsqueeze(1)
        self.register_buffer("time", embedding(torch.arange(self.slices), ours.embedding), persistent=False)

    def forward(self, x0, v0, features, edge_features):
        """Positions ``[P, n, 3]``."""
        P, n = self.slices, self.graph.nodes
        center = (
            x0.view(self.graph.graphs, -1, 3).mean(1, keepdim=True).expand(-1, n // self.graph.graphs, -1)
        )
        center = center.reshape(n, 3).repeat(P, 1)
        x, v, known = x0.repeat(P, 1), v0.repeat(P, 1), edge_features.repeat(P, 1)
        time = self.time.to(x0.dtype).repeat_interleave(n, dim=0)
        h = self.embed(torch.cat([features.repeat(P, 1), time], dim=1))
        for k, layer in enumerate(self.layers):
            h = h + leaky_relu(self.on_invariants[k](h.view(P, n, -1)).flatten(0, 1), SLOPE)
            z = torch.stack([x - center, v], dim=-1)
            z = z + self.on_vectors[k](z.view(P, n, 3, 2)).flatten(0, 1)
            x, v = z[..., 0] + center, z[..., 1]
            x, h = layer(x, v, h, self.row, self.col, known, self.degree)
        return x.view(P, n, 3)


class EdgeListLayer(nn.Module):
    """Messages along the edges of the list, by the equations as they are written."""

    def __init__(self, width, edge_features):
        super().__init__()
        self.message = nn.Sequential(
            nn.Linear(2 * width + 1 + edge_features, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU()
        )
        self.position, self.velocity, self.feature = (
            nn.Sequential(nn.Linear(fan_in, width), nn.SiLU(), nn.Linear(width, fan_out))
            for fan_in, fan_out in ((width, 1), (width, 1), (2 * width, width))
        )

    def forward(self, x, v, h, row, col, edge_features, degree):
        """New positions and features."""
        apart = x[row] - x[col]
        distance = apart.square().sum(-1, keepdim=True)
        message = self.message(torch.cat([distance, h[row], h[col], edge_features], dim=-1))
        shift = torch.zeros_like(x).index_add(0, row, apart * self.position(message)) / degree
        heard = torch.zeros_like(h).index_add(0, row, message)
        x = x + self.velocity(h) * v + shift.clamp(-LARGEST_SHIFT, LARGEST_SHIFT)
        return x, self.feature(torch.cat([h, heard], dim=-1))


class SpectralConvolution(nn.Module):
    """What is added along time, by the fast Fourier transform and one complex product for each frequency."""

    def __init__(self, ours):
        super().__init__()
        self.modes = ours.modes
        self.weight = nn.Parameter(ours.weight.detach().clone())

    def forward(self, z):
        """``z [P, ..., C]`` to the same shape."""
        kernel = torch.view_as_complex(self.weight)
        modes = torch.fft.rfft(z, dim=0)[: self.modes]
        # Frequencies that are left out count as 0 in the inverse transform.
        return torch.fft.irfft(torch.einsum("k...c,cok->k...o", modes, kernel), n=len(z), dim=0)


def embedding(times, dim):
    """Sines and cosines of the numbers of slices, ``[P, dim]`` with an even dim."""
    waves = 10_000.0 ** -(torch.arange(dim // 2, dtype=torch.float64) / (dim // 2 - 1))
    angles = times.unsqueeze(1) * waves
    return torch.cat([angles.sin(), angles.cos()], dim=1)


def simulate_system(positions, velocities, charges, *, steps, save_every, step=1e-3):
    """Re-statement of the published loop for one system, in numpy: frames ``(F, N, 3)`` of positions.

    Parameters
    ----------
    positions, velocities : numpy.ndarray, shape (N, 3)
    charges : numpy.ndarray, shape (N, 1)
    steps, save_every, step
        As of :func:`loupe.dynamics.simulate_charged`.
    """
    x, products, frames = positions.copy(), charges * charges.T, []

    def force():
        apart = x[:, None] - x
        distance = np.sqrt((apart**2).sum(-1))
        np.fill_diagonal(distance, 1.0)  # a particle is no distance from itself, and exerts no force there
        return np.clip(((products / distance**3)[..., None] * apart).sum(1), -100.0, 100.0)

    v = velocities + step * force()
    for i in range(1, steps):
        x += step * v
        if i % save_every == 0:
            frames.append(x.copy())
        v += step * force()
    return np.array(frames)

"""The equivariant graph neural operator: sections 3 and 4 of the paper."""

import torch
from torch import nn
from torch.nn.functional import linear

from loupe.checks import whole
from loupe.dynamics.states import Dynamics, States, check_features, check_states, seeded
from loupe.dynamics.temporal import TemporalConvolution, check_modes, rising, time_embedding, window_times
from loupe.networks.egnn import EGNNLayer, check_sizes, fold_edge_features

CONVOLVED = ("invariants", "vectors")
TIME_COORDS = ("index", "physical")


class EGNO(Dynamics):
    """Equivariant graph neural operator: maps the current state to states at all times of a window, in one pass.

    The state is repeated for each time, and features get a time embedding. Then follow blocks: temporal convolutions of
    features, and of positions and velocities together, then a graph-network layer in each time slice with shared
    weights. Sections 3 and 4 of the paper.

    Parameters
    ----------
    node_features, edge_features : int
        Number of input features of nodes and of edges.
    width : int
        Number of hidden features, H.
    layers : int
        Number of blocks, L; each has its own weights.
    modes : int
        Number of frequencies in the convolutions, I, at most P // 2 + 1.
    slices : int
        Number of times P of a training window; predictions may use others.
    embedding : int
        Dimension of the time embedding; 0 for none.
    time_coord : {"index", "physical"}
        Time input: the index of the slice, from 0, or ``P t - 1`` for the time t in (0, 1]. They agree at training
        times p / P; the latter interpolates for other numbers of slices.
    convolve : collection of {"invariants", "vectors"}
        What to convolve along time. With neither, each slice is an EGNN with a time embedding.
    seed : int
        Of the initial weights.

    Raises
    ------
    ValueError
        For sizes that are not positive, too many modes, or unknown names.

    Examples
    --------
    >>> sum(p.numel() for p in EGNO(1, 2).parameters())
    201672
    """

    def __init__(
        self,
        node_features,
        edge_features,
        *,
        width=64,
        layers=4,
        modes=2,
        slices=5,
        embedding=32,
        time_coord="index",
        convolve=CONVOLVED,
        seed=0,
    ):
        super().__init__()
        node_features, width, layers, modes, slices = check_sizes(
            node_features=node_features, width=width, layers=layers, modes=modes, slices=slices
        )
        if time_coord not in TIME_COORDS:
            raise ValueError(
                f"time_coord must be one of {', '.join(map(repr, TIME_COORDS))}, got {time_coord!r}"
            )
        if isinstance(convolve, str) or not set(convolve) <= set(CONVOLVED):
            raise ValueError(f"convolve must list none, one or both of {CONVOLVED}, got {convolve!r}")
        embedding = whole("embedding", embedding, 0)
        if embedding == 1:
            raise ValueError(f"embedding must be 0 for none or at least 2, got {embedding!r}")
        if convolve:
            check_modes(modes, slices)
        self.node_features, self.edge_features = node_features, edge_features
        self.slices, self.embedding, self.time_coord = slices, embedding, time_coord
        with seeded(seed):
            self.embed = nn.Linear(node_features + embedding, width)
            self.layers = nn.ModuleList(EGNNLayer(width, edge_features) for _ in range(layers))
            count = layers if "invariants" in convolve else 0
            self.on_invariants = nn.ModuleList(TemporalConvolution(width, modes) for _ in range(count))
            count = layers if "vectors" in convolve else 0
            self.on_vectors = nn.ModuleList(TemporalConvolution(2, modes, vectors=True) for _ in range(count))

    def states(self, x0, v0, features, graph, edge_features=None, *, slices=None, times=None):
        """Positions, velocities and features at all times, :class:`States`; only positions are trained.

        Convolutions run over P slices at times p / P of the window; other times are interpolated by the same
        convolutions. So a prediction depends on ``slices``, not on which times are requested.

        Parameters
        ----------
        x0, v0 : torch.Tensor
            Positions and velocities ``[n, D]``.
        features : torch.Tensor
            Invariant features of nodes ``[n, F]``.
        graph : loupe.networks.egnn.Graph or torch.Tensor
            A graph of n nodes, or its edges ``[2, m]``, which are converted at each call.
        edge_features : torch.Tensor, optional
            Invariant features of edges ``[m, E]``.
        slices : int, optional
            Number of slices P; by default as in training.
        times : sequence of float, optional
            Requested times, increasing fractions of the window in (0, 1]; by default those of the slices.

        Raises
        ------
        ValueError
            For shapes that do not fit, states that are not finite, times outside the window or out of order, or too few
            slices for the modes.
        """
        graph = check_states(x0, v0, graph)
        check_features(features, graph, self.node_features)
        edge_features = fold_edge_features(graph, edge_features, self.edge_features, x0)
        at = window_times(self.slices if slices is None else slices)
        P, index, rest = len(at), torch.arange(len(at)), ()
        if times is not None:
            times = rising(times)
            rest = (tuple(P * t - 1 for t in times),)
            at = torch.cat([at, torch.tensor(times, dtype=at.dtype)])
            index = torch.cat([index, torch.tensor(*rest, dtype=at.dtype)])
        x, v = graph.fold(x0), graph.fold(v0)
        center = graph.centroids(x)
        h = self._lifted(graph.fold(features), index if self.time_coord == "index" else self.slices * at - 1)
        x, v = x.expand(len(at), -1, -1, -1), v.expand(len(at), -1, -1, -1)
        for k, layer in enumerate(self.layers):
            if self.on_invariants:
                h = self.on_invariants[k](h, *rest)
            if self.on_vectors:
                x, v = self.on_vectors[k](torch.stack([x - center, v], dim=-1), *rest).unbind(-1)
                x = x + center
            x, h = layer.folded(x, v, h, graph, edge_features)
        wanted = slice(P if rest else 0, None)
        return States(*(graph.unfold(value[wanted], (len(value[wanted]),)) for value in (x, v, h)))

    def _lifted(self, features, tau):
        """Features at each time ``[P, N, B, H]``; the part from node features is computed once."""
        known, of_time = self.embed.weight.split([self.node_features, self.embedding], dim=1)
        h = linear(features, known, self.embed.bias)
        if not self.embedding:
            return h.expand(len(tau), -1, -1, -1)
        time = time_embedding(tau, self.embedding).to(h.device, h.dtype)
        return h + linear(time, of_time)[:, None, None]


class EGNN(EGNO):
    """EGNN: predicts the end of the window only, P = 1, by the graph network of :class:`EGNO` without time.

    Parameters as for :class:`EGNO`.
    """

    def __init__(self, node_features, edge_features, *, width=64, layers=4, seed=0):
        fixed = {"modes": 1, "slices": 1, "embedding": 0, "convolve": ()}
        super().__init__(node_features, edge_features, width=width, layers=layers, seed=seed, **fixed)

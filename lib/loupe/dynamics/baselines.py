"""Baselines of the neural operator: single-slice networks, straight lines, and step-by-step rollouts."""

import torch
from torch import nn
from torch.nn.functional import linear

from loupe.checks import of_shape
from loupe.dynamics.egno import EGNN
from loupe.dynamics.states import Dynamics, States, check_features, check_states, seeded
from loupe.dynamics.temporal import window_times
from loupe.networks.egnn import LARGEST_SHIFT, check_sizes, fold_edge_features, mlp
from loupe.networks.graphs import as_graph


class SequentialEGNN(EGNN):
    """EGNN-S: an EGNN whose layers step through the window; slice p is the output of the layer nearest to p L / P.

    Halves round to the later layer, and layer 1 is the earliest. With fewer layers than slices some slices are equal.

    Parameters as for :class:`EGNO`; ``slices`` is fixed.
    """

    def __init__(self, node_features, edge_features, *, width=64, layers=4, slices=5, seed=0):
        super().__init__(node_features, edge_features, width=width, layers=layers, seed=seed)
        (slices,) = check_sizes(slices=slices)
        self.slices = slices
        self.reads = tuple(max(1, (2 * p * layers + slices) // (2 * slices)) for p in range(1, slices + 1))

    def states(self, x0, v0, features, graph, edge_features=None):
        """Positions, velocities and features at all times, as :meth:`EGNO.states`."""
        graph = check_states(x0, v0, graph)
        check_features(features, graph, self.node_features)
        edge_features = fold_edge_features(graph, edge_features, self.edge_features, x0)
        x, v = graph.fold(x0), graph.fold(v0)
        h = linear(graph.fold(features), self.embed.weight, self.embed.bias)
        after = {}
        for k, layer in enumerate(self.layers, start=1):
            x, h = layer.folded(x, v, h, graph, edge_features)
            after[k] = x, h
        x, h = (torch.cat([after[k][part] for k in self.reads]) for part in (0, 1))
        v = v.expand(self.slices, -1, -1, -1)
        return States(*(graph.unfold(value, (self.slices,)) for value in (x, v, h)))


class Linear(Dynamics):
    """Straight lines: ``x0 + a t v0`` with one learned number a, at times t of the window in (0, 1].

    Parameters
    ----------
    slices : int
        Times p / P; 1 for the end only.
    """

    def __init__(self, slices=1):
        super().__init__()
        (slices,) = check_sizes(slices=slices)
        self.slices = slices
        self.scale = nn.Parameter(torch.ones(()))

    def states(self, x0, v0, features=None, graph=None, edge_features=None, *, slices=None, times=None):
        """Like :meth:`EGNO.states`; features and graph are ignored."""
        slices = self.slices if slices is None else slices
        times = window_times(slices, times).to(x0.device, x0.dtype).view(-1, 1, 1)
        positions = x0 + self.scale * times * v0
        return States(positions, v0.expand_as(positions), None)


class RadialField(Dynamics):
    """RF: predicts the end of the window from forces along lines between points, without hidden features.

    Each layer moves ``x_i`` by ``phi_v(|v_i|) v_i`` and by the mean over neighbors of ``(x_i - x_j) tanh phi(|x_i - x_j|,
    e_ij)``. After Köhler, Klein and Noé, Equivariant Flows, 2019, plus the velocity term; the tanh keeps distant points
    from being thrown out.

    Parameters
    ----------
    edge_features, width, layers, seed : int
        As for :class:`EGNO`.
    """

    def __init__(self, edge_features, *, width=64, layers=4, seed=0):
        super().__init__()
        width, layers = check_sizes(width=width, layers=layers)
        self.edge_features = edge_features
        with seeded(seed):
            self.radial = nn.ModuleList(mlp(1 + edge_features, width, 1) for _ in range(layers))
            self.speed = nn.ModuleList(mlp(1, width, 1) for _ in range(layers))

    def states(self, x0, v0, features, graph, edge_features=None):
        """Like :meth:`EGNO.states`, P = 1; node features are ignored."""
        graph = check_states(x0, v0, graph)
        known = fold_edge_features(graph, edge_features, self.edge_features, x0).unsqueeze(0)
        x, v = graph.fold(x0), graph.fold(v0)
        fast = v.norm(dim=-1, keepdim=True)
        for radial, speed in zip(self.radial, self.speed, strict=True):
            apart = graph.joined(x, x, sign=-1)
            weight = radial(torch.cat([apart.norm(dim=-1, keepdim=True), known], dim=-1)).tanh()
            shift = graph.averaged(apart * weight).clamp(-LARGEST_SHIFT, LARGEST_SHIFT)
            x = x + speed(fast) * v + shift
        return States(graph.unfold(x, (1,)), graph.unfold(v, (1,)), None)


class MessagePassing(Dynamics):
    """MPNN: predicts the end of the window by a network of the same width that treats coordinates as plain features.

    Messages ``phi_m([h_i, h_j, e_ij])`` are summed and ``h_i`` becomes ``h_i + phi_h([h_i, sum])``; the final output is
    added to the positions. It is not equivariant.

    Parameters
    ----------
    node_features, edge_features, width, layers, seed : int
        As for :class:`EGNO`.
    dimension : int
        D, of positions.
    """

    def __init__(self, node_features, edge_features, *, width=64, layers=4, seed=0, dimension=3):
        super().__init__()
        node_features, width, layers, dimension = check_sizes(
            node_features=node_features, width=width, layers=layers, dimension=dimension
        )
        self.node_features, self.edge_features, self.width = node_features, edge_features, width
        self.dimension = dimension
        with seeded(seed):
            self.embed = nn.Linear(2 * dimension + node_features, width)
            self.message = nn.ModuleList(
                nn.Sequential(mlp(2 * width + edge_features, width, width), nn.SiLU()) for _ in range(layers)
            )
            self.feature = nn.ModuleList(mlp(2 * width, width, width) for _ in range(layers))
            self.head = mlp(width, width, dimension)

    def states(self, x0, v0, features, graph, edge_features=None):
        """As :meth:`EGNO.states`, P = 1."""
        graph = check_states(x0, v0, graph)
        of_shape("positions", x0, (graph.nodes, self.dimension))
        check_features(features, graph, self.node_features)
        known = fold_edge_features(graph, edge_features, self.edge_features, x0).unsqueeze(0)
        h = graph.fold(self.embed(torch.cat([x0, v0, features], dim=-1)))
        for message, feature in zip(self.message, self.feature, strict=True):
            first, rest = message[0][0], nn.Sequential(message[0][1:], message[1])
            of_ends, of_starts, of_edges = first.weight.split(
                [self.width, self.width, self.edge_features], dim=1
            )
            pairs = graph.joined(linear(h, of_ends, first.bias), linear(h, of_starts))
            heard = graph.summed(rest(pairs + linear(known, of_edges)))
            h = h + feature(torch.cat([h, heard], dim=-1))
        features = graph.unfold(h, (1,))
        return States(x0 + self.head(features), v0.unsqueeze(0), features)


def rollout(model, x0, v0, steps, features, graph, edge_features=None, *, duration=1.0, reach=None):
    """EGNN-R: a one-step network, applied repeatedly to its own predictions.

    Parameters
    ----------
    model : Dynamics
        A network with P = 1, trained to predict one step.
    x0, v0 : torch.Tensor
        Positions and velocities ``[n, D]``.
    steps : int
        Number of steps, P.
    features, edge_features : torch.Tensor or callable
        Features of nodes and edges. If they depend on the state, as speeds do, pass functions of positions and
        velocities, which are called at each step. If one function returns both, as :func:`input_features` does, leave
        ``edge_features`` out.
    graph : loupe.networks.egnn.Graph or torch.Tensor
        A graph, or its edges ``[2, m]``.
    duration : float
        Duration of a step, in the time unit of velocities: after a step, velocities are displacements divided by it.
    reach : float, optional
        Largest distance of a point from its start; points are held there, or at their last position if not finite.
        Without it a bad path can grow superexponentially.

    Returns
    -------
    torch.Tensor
        Positions ``[P, n, D]``.

    Raises
    ------
    ValueError
        For fewer than one step, a duration or reach that is not positive, or a network that predicts several slices.
    """
    (steps,) = check_sizes(steps=steps)
    if not duration > 0:
        raise ValueError(
            f"duration must be positive, the time of a step in the unit of velocities, got {duration!r}"
        )
    if reach is not None and not reach > 0:
        raise ValueError(f"reach must be positive, or None for no bound, got {reach!r}")
    graph = graph if graph is None else as_graph(graph, len(x0))
    x, v, path = x0, v0, []
    for _ in range(steps):
        of_nodes = features(x, v) if callable(features) else features
        of_edges = edge_features(x, v) if callable(edge_features) else edge_features
        if isinstance(of_nodes, tuple):
            of_nodes, of_edges = of_nodes
        new = model(x, v, of_nodes, graph, of_edges)
        if len(new) != 1:
            raise ValueError(
                f"a rollout needs a network of one step, got one of {len(new)} slices: train it with P = 1"
            )
        new = of_shape("the prediction", new[0], x0.shape)
        if reach is not None:
            way = new - x0
            length = way.norm(dim=-1, keepdim=True)
            new = torch.where(length.isfinite(), x0 + way * (reach / length).clamp(max=1), x)
        x, v = new, (new - x) / duration
        path.append(x)
    return torch.stack(path)

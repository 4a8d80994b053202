"""Inputs and outputs of dynamics networks: states, features, and their checks."""

import inspect
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import nn

from loupe.checks import of_shape
from loupe.derivatives import transformed
from loupe.networks.graphs import as_graph


class States(NamedTuple):
    """A network's prediction: positions and velocities ``[P, n, D]``, invariant features ``[P, n, H]``.

    Training compares positions only. Velocities and features are hidden variables without a training target: for
    velocities, take differences of predicted positions.
    """

    positions: torch.Tensor
    velocities: torch.Tensor
    features: torch.Tensor | None


def input_features(x0, v0, graph, node_values=None, edge_values=None, *, largest=1.0):
    """Invariant input features: speeds of nodes, squared lengths of edges, and any further values.

    Parameters
    ----------
    x0, v0 : torch.Tensor
        Positions and velocities ``[n, D]``.
    graph : loupe.networks.egnn.Graph or torch.Tensor
        Or edges ``[2, m]``.
    node_values : torch.Tensor, optional
        ``[n]`` or ``[n, k]``, such as atomic numbers; they follow the speed.
    edge_values : torch.Tensor, optional
        ``[m]`` or ``[m, k]``, such as products of charges; they come before the squared distance.
    largest : float or torch.Tensor
        Divisor of ``node_values``, one number or k. Use a fixed one: with the largest of each batch, a system's
        prediction would depend on the rest of the batch.

    Returns
    -------
    features, edge_features : torch.Tensor
        ``[n, 1 + k]`` and ``[m, k + 1]``.

    Raises
    ------
    ValueError
        If states do not match the graph's nodes, there is not one value for each node or edge, or ``largest`` is not
        positive.
    """
    graph = as_graph(graph, len(x0))
    of_shape("positions", x0, (graph.nodes, *x0.shape[-1:]))
    of_shape("velocities", v0, x0.shape)
    row, col = graph.edges
    features = [v0.norm(dim=-1, keepdim=True)]
    edge_features = [(x0[row] - x0[col]).square().sum(-1, keepdim=True)]
    if node_values is not None:
        if len(node_values) != graph.nodes:
            raise ValueError(
                f"node values must be one for each of {graph.nodes} nodes, got {len(node_values)}"
            )
        largest = torch.as_tensor(largest, dtype=v0.dtype, device=v0.device)
        if not (largest > 0).all():
            raise ValueError(
                f"largest must be positive, the largest value of the whole data set, got {largest.tolist()}"
            )
        features.append(node_values.reshape(graph.nodes, -1).to(v0.dtype) / largest)
    if edge_values is not None:
        if len(edge_values) != len(row):
            raise ValueError(f"edge values must be one for each of {len(row)} edges, got {len(edge_values)}")
        edge_features.insert(0, edge_values.reshape(len(row), -1).to(x0.dtype))
    return torch.cat(features, dim=1), torch.cat(edge_features, dim=1)


def check_states(x0, v0, graph):
    """The graph of states; ValueError unless positions and velocities are ``[n, D]`` and finite.

    Values on a GPU, or under a compiler or transform, are not read: there NaN gives NaN.
    """
    graph = as_graph(graph, len(x0))
    for name, value in (("positions", x0), ("velocities", v0)):
        wanted = (graph.nodes, *x0.shape[-1:])
        if value.shape != wanted:
            raise ValueError(f"{name} must be of shape {wanted} for this graph, got {tuple(value.shape)}")
        readable = value.device.type == "cpu" and not torch.compiler.is_compiling() and not transformed()
        if readable and not value.isfinite().all():
            node = int(value.isfinite().all(1).logical_not().nonzero()[0])
            system = int(graph.batch[node])
            raise ValueError(f"{name} of system {system} are not finite, first at node {node}: leave it out")
    return graph


def check_features(features, graph, wanted):
    """ValueError unless each node has ``wanted`` features."""
    if features is None or features.shape != (graph.nodes, wanted):
        found = "none" if features is None else tuple(features.shape)
        raise ValueError(
            f"node features must be of shape {(graph.nodes, wanted)}, one row a node, got {found}"
        )


@contextmanager
def seeded(seed):
    """Seed torch's random numbers for the block; afterwards the global state is restored."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield


class Dynamics(nn.Module):
    """Base of dynamics networks: :meth:`states` returns everything, a plain call the positions only.

    Attributes
    ----------
    options : dict of str
        Constructor arguments, for :func:`~loupe.dynamics.save_network`.
    """

    def __new__(cls, *args, **options):
        network = super().__new__(cls)
        network.options = inspect.signature(cls).bind_partial(*args, **options).arguments
        return network

    def forward(self, x0, v0, features=None, graph=None, edge_features=None, **options):
        """Positions ``[P, n, D]``: see :meth:`states`."""
        return self.states(x0, v0, features, graph, edge_features, **options).positions

"""Layers on manifolds, and the encoders of the literature on hyperbolic graph networks.

A layer keeps its parameters in the tangent space of the origin and takes the manifold as an argument of each call. So
the same layers work for any curvature, fixed or learned, and in flat space: with :class:`~loupe.geometry.Euclidean` the
hyperbolic network (HNN) is an MLP, and HGCN is a graph convolutional network.

References
----------
.. [1] Ganea, Bécigneul and Hofmann, Hyperbolic Neural Networks, 2018.
.. [2] Chami, Ying, Ré and Leskovec, Hyperbolic Graph Convolutional Neural Networks, 2019.
.. [3] Lou et al., Differentiating through the Fréchet Mean, 2020, section 5.
"""

from itertools import pairwise

import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits, dropout

from loupe.checks import edge_list
from loupe.deprecation import renamed
from loupe.geometry.base import full
from loupe.geometry.frechet import frechet_mean, graph_frechet_mean
from loupe.geometry.hyperbolic import MARGINS, PoincareBall
from loupe.geometry.manifolds import Euclidean

__all__ = [
    "AGGREGATIONS",
    "MARGINS",
    "GraphEncoder",
    "ManifoldLinear",
    "RiemannianBatchNorm",
    "frechet_aggregation",
    "link_logits",
    "link_loss",
    "tangent_aggregation",
]

FRECHET_TOLERANCE = 1e-6
"""Tolerances of means inside a network, as lengths in units of the curvature radius."""


def seen(points):
    """The number of nodes, to check edges; None on a GPU, where the check would wait."""
    return len(points) if points.device.type == "cpu" else None


@renamed(rate="dropout")
class ManifoldLinear(nn.Module):
    """A linear map in the tangent space of the origin, plus a bias added along geodesics.

    In the ball this is Möbius matrix multiplication followed by Möbius addition of ``exp_0(bias)``. Dropout acts on the
    weights, as in HGCN.

    Parameters
    ----------
    inputs, outputs : int
        Coordinates.
    dropout : float
        Fraction of the weights that training sets to 0.
    generator : torch.Generator, optional
        Of the initial weights.
    dtype : torch.dtype, optional
        torch's default.
    """

    def __init__(self, inputs, outputs, *, dropout=0.0, generator=None, dtype=None):
        super().__init__()
        self.dropout = dropout
        self.weight = nn.Parameter(torch.empty(outputs, inputs, dtype=dtype))
        self.bias = nn.Parameter(torch.zeros(outputs, dtype=dtype))
        nn.init.xavier_uniform_(self.weight, gain=2**0.5, generator=generator)

    def forward(self, x, manifold):
        """Map points ``(n, inputs)`` to points ``(n, outputs)`` of the manifold."""
        return self.from_tangent(manifold.log0(full(x)), manifold)

    def from_tangent(self, u, manifold):
        """Like :meth:`forward`, for points given by their logarithms ``u (n, inputs)`` at the origin."""
        turned = full(u @ dropout(self.weight, self.dropout, self.training).mT)
        moved = manifold.inside(manifold.exp0(turned))
        shift = manifold.inside(manifold.exp0(self.bias))
        return manifold.inside(manifold.translated(moved, shift))


def tangent_aggregation(x, edges, manifold):
    """The average of each node's neighbors in the tangent space of the origin, as in HGCN.

    Parameters
    ----------
    x : torch.Tensor, shape (N, d)
    edges : torch.Tensor of int64, shape (2, E)
        Source and destination, self loops among them; every node has an incoming edge.
    manifold : Manifold

    Returns
    -------
    torch.Tensor, shape (N, d)
    """
    source, destination = edge_list(edges, seen(x), axis=0)
    u = manifold.log0(x)
    sums = torch.zeros_like(u).index_add_(0, destination, u.index_select(0, source))
    counts = torch.bincount(destination, minlength=len(x)).unsqueeze(1)
    return manifold.inside(manifold.exp0(sums / counts))


def frechet_aggregation(x, edges, manifold):
    """The Fréchet mean of each node's neighbors with equal weights; otherwise like :func:`tangent_aggregation`."""
    tolerance = max(FRECHET_TOLERANCE, 64 * torch.finfo(x.dtype).eps)
    return manifold.inside(
        graph_frechet_mean(x, edges, manifold=manifold, tolerance=tolerance),
    )


AGGREGATIONS = {"none": None, "tangent": tangent_aggregation, "frechet": frechet_aggregation}


class RiemannianBatchNorm(nn.Module):
    """Batch normalization on a manifold: points are moved to a learned mean and scaled to a learned variance.

    ``exp_m(sqrt(v / (variance + eps)) P log(x))`` with ``P`` the parallel transport from the batch's Fréchet mean to
    ``m`` (Lou et al. 2020, section 5.2). ``v`` is learned through its logarithm, so it stays positive. The running mean
    moves along geodesics; the running variance is the plain average over updates. They start at the origin and at 1.
    Both are buffers in ``state_dict``.

    Parameters
    ----------
    dim : int
        Coordinates.
    momentum : float
        Share of the running mean that is kept at each update.
    evaluate_with : str
        Statistics in evaluation mode: ``"running"``, or ``"batch"``, computed from all given points.
    eps : float
    dtype : torch.dtype, optional
        torch's default.

    Raises
    ------
    ValueError
        If ``evaluate_with`` is neither.
    """

    def __init__(self, dim, *, momentum=0.9, evaluate_with="running", eps=1e-6, dtype=None):
        super().__init__()
        if evaluate_with not in ("batch", "running"):
            raise ValueError(f"evaluate_with must be 'batch' or 'running', got {evaluate_with!r}")
        self.momentum, self.evaluate_with, self.eps = momentum, evaluate_with, eps
        self.mean = nn.Parameter(torch.zeros(dim, dtype=dtype))  # in the tangent space of the origin
        self.log_variance = nn.Parameter(torch.zeros((), dtype=dtype))
        # Tangent as well: a point could leave the ball when the curvature is learned.
        self.register_buffer("running_mean", torch.zeros(dim, dtype=dtype))
        self.register_buffer("running_variance", torch.ones((), dtype=dtype))
        self.register_buffer("updates", torch.zeros((), dtype=torch.int64))

    def forward(self, x, manifold):
        """Normalise points ``(..., d)`` of the manifold, together; in the dtype of the parameters.

        Raises
        ------
        ValueError
            If the points have another dtype or number of coordinates.
        """
        x = self._fitting(x)
        if self.training or self.evaluate_with == "batch":
            together = x if x.dim() == 2 else x.reshape(-1, x.shape[-1])
            mean = frechet_mean(together, manifold=manifold)
            variance = manifold.squared_dist(mean, together).mean()
            if self.training:
                self._update(mean.detach(), variance.detach(), manifold)
        else:
            mean, variance = manifold.exp0(self.running_mean), self.running_variance
        target = manifold.exp0(self.mean)
        scale = (self.log_variance.exp() / (variance + self.eps)).sqrt()
        moved = manifold.transport(mean, target, manifold.log(mean, x))
        return manifold.exp(target, scale * moved)

    def _fitting(self, x):
        x = full(x)
        if x.dtype != self.mean.dtype or x.shape[-1:] != self.mean.shape:
            raise ValueError(
                f"points must be {self.mean.dtype} of shape (..., {len(self.mean)}), as the layer is, got {x.dtype} of "
                f"shape {tuple(x.shape)}: convert one or the other with .to(dtype)"
            )
        return x

    def _update(self, mean, variance, manifold):
        with torch.no_grad():
            running = manifold.exp0(self.running_mean)
            step = torch.where(self.updates == 0, torch.ones_like(variance), 1 - self.momentum)
            running = manifold.exp(running, step * manifold.log(running, mean))
            self.running_mean.copy_(manifold.log0(running))
            self.updates += 1
            self.running_variance += (variance - self.running_variance) / self.updates


@renamed(rate="dropout")
class GraphEncoder(nn.Module):
    """MLP, GCN, HNN or HGCN, depending on manifold and aggregation; maps features to points of the last manifold.

    Each layer is :class:`ManifoldLinear`, optional batch normalization, aggregation over neighbors, and an activation
    in the tangent space of the origin, which also changes to the next layer's curvature.

    Parameters
    ----------
    widths : sequence of int
        Features, then the coordinates after each layer.
    hyperbolic : bool
        Poincaré ball if True, flat space if False.
    aggregation : str
        ``"none"``, ``"tangent"`` or ``"frechet"``.
    activation : str
        ``"relu"`` or ``"none"``.
    dropout : float
        As in :class:`ManifoldLinear`.
    learn_curvature : bool
        Whether each layer's curvature, initially -1, is learned (through its logarithm, so it stays negative).
    batch_norm : bool
        Whether :class:`RiemannianBatchNorm` follows each linear layer.
    evaluate_with : str
        Statistics of batch normalization in evaluation mode.
    seed : int
        Of the initial weights.
    dtype : torch.dtype, optional
        torch's default.

    Raises
    ------
    ValueError
        If aggregation or activation is unknown.
    """

    def __init__(
        self,
        widths,
        *,
        hyperbolic=True,
        aggregation="none",
        activation="relu",
        dropout=0.0,
        learn_curvature=False,
        batch_norm=False,
        evaluate_with="running",
        seed=0,
        dtype=None,
    ):
        super().__init__()
        for name, value, known in (
            ("aggregation", aggregation, tuple(AGGREGATIONS)),
            ("activation", activation, ("relu", "none")),
        ):
            if value not in known:
                raise ValueError(f"{name} must be one of {', '.join(known)}, got {value!r}")
        generator = torch.Generator().manual_seed(seed)
        self.hyperbolic, self.aggregation, self.activation = hyperbolic, aggregation, activation
        self.linears = nn.ModuleList(
            ManifoldLinear(a, b, dropout=dropout, generator=generator, dtype=dtype)
            for a, b in pairwise(widths)
        )
        self.norms = nn.ModuleList(
            RiemannianBatchNorm(width, evaluate_with=evaluate_with, dtype=dtype)
            for width in widths[1:]
            if batch_norm
        )
        self.log_c = nn.Parameter(torch.zeros(len(widths), dtype=dtype), requires_grad=learn_curvature)

    def manifolds(self):
        """The manifold of the features and of each layer's output."""
        if not self.hyperbolic:
            return [Euclidean()] * len(self.log_c)
        return [PoincareBall(-c) for c in self.log_c.exp()]

    def forward(self, features, edges=None):
        """Points ``(N, widths[-1])`` of ``manifolds()[-1]`` for features ``(N, widths[0])`` and edges ``(2, E)``."""
        spaces = self.manifolds()
        u = spaces[0].entered(full(features))
        for index, linear in enumerate(self.linears):
            x = linear.from_tangent(u, spaces[index])
            if self.norms:
                x = spaces[index].inside(self.norms[index](x, spaces[index]))
            aggregate = AGGREGATIONS[self.aggregation]
            if aggregate is not None:
                x = aggregate(x, edges, spaces[index])
            u = spaces[index].log0(x)
            if self.activation == "relu":
                u = u.relu()
        return spaces[-1].inside(spaces[-1].exp0(u))


def link_logits(points, pairs, manifold, *, radius=2.0, temperature=1.0):
    """Fermi-Dirac scores of pairs of nodes: the logit of ``1 / (exp((d**2 - radius) / temperature) + 1)``.

    Parameters
    ----------
    points : torch.Tensor, shape (N, d)
    pairs : torch.Tensor of int64, shape (m, 2)
    manifold : Manifold
    radius, temperature : float
        2 and 1 in HGCN.

    Returns
    -------
    torch.Tensor, shape (m,)
    """
    pairs = edge_list(pairs, seen(points), axis=1, name="pairs")
    ends = points.index_select(0, pairs.T.reshape(-1)).view(2, len(pairs), points.shape[-1])
    return (radius - manifold.squared_dist(*ends)) / temperature


def link_loss(positive, negative):
    """Binary cross-entropy: the mean over logits of edges plus the mean over logits of non-edges."""
    ones, zeros = torch.ones_like(positive), torch.zeros_like(negative)
    return binary_cross_entropy_with_logits(positive, ones) + binary_cross_entropy_with_logits(
        negative, zeros
    )

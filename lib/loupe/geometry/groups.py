"""Sums over the points of each mean, whether the points lie in a dense batch or along the edges of a graph.

A solver written with these few sums works for both: with :class:`Batch` the entries are ``(B, n)``, with
:class:`Segments` they are the E edges, each belonging to the node that it points to, without padding.
"""

import torch

from loupe.derivatives import readable, transformed


def solve_updated(diagonal, weights, points, right):
    """Solve ``(diagonal I + sum_l weights_l points_l points_l^T) v = right`` for each mean.

    The smaller of two systems is solved: of size d, or, by Woodbury's identity, of size n. No outer product of a
    single point is formed.

    Parameters
    ----------
    diagonal : torch.Tensor, shape (B,)
        Not 0 where n < d.
    weights : torch.Tensor, shape (B, n)
        They may have any sign.
    points : torch.Tensor, shape (B, n, d)
    right : torch.Tensor, shape (B, d)

    Returns
    -------
    torch.Tensor, shape (B, d)
    """
    n, d = points.shape[-2:]
    weighted = weights.unsqueeze(-1) * points
    if n >= d:
        return _solve_shifted(torch.bmm(weighted.mT, points), diagonal, right)
    seen = torch.bmm(weighted, right.unsqueeze(-1)).squeeze(-1)
    inner = _solve_shifted(torch.bmm(weighted, points.mT), diagonal, seen)
    return (right - torch.bmm(inner.unsqueeze(1), points).squeeze(1)) / diagonal.unsqueeze(-1)


def _solve_shifted(system, diagonal, right):
    system.diagonal(dim1=-2, dim2=-1).add_(diagonal.unsqueeze(-1))
    if transformed():
        # In torch 2.13 second-order forward mode is wrong for solve, but right for inv.
        return torch.linalg.vecdot(torch.linalg.inv_ex(system)[0], right.unsqueeze(-2))
    return torch.linalg.solve_ex(system, right)[0]


class Batch:
    """B means of n points each: entries ``(B, n)``, points ``(B, n, d)``, owners ``(B, ...)``."""

    def spread(self, owned):
        """A value of each mean, repeated at each of its points."""
        return owned.unsqueeze(1)

    def total(self, values):
        """Sums of ``(B, n)`` or ``(B, n, d)`` over the points of each mean."""
        return values.sum(1)

    def dot(self, points, owned):
        """Inner products of each point with a vector of its mean."""
        # No product as large as the points is stored: that would cost more than the sums.
        return torch.bmm(points, owned.unsqueeze(-1)).squeeze(-1)

    def combine(self, weights, points):
        """Weighted sums of points, ``(B, d)``."""
        return torch.bmm(weights.unsqueeze(1), points).squeeze(1)

    def solve(self, diagonal, weights, points, right):
        """``(diagonal I + sum weights points points^T)^-1 right`` for each mean; see :func:`solve_updated`."""
        return solve_updated(diagonal, weights, points, right)

    def select(self, chosen):
        """The groups of some means only, and the index of their entries."""
        return self, chosen


class Segments:
    """One mean for each of N nodes, over its entries.

    Parameters
    ----------
    owner : torch.Tensor of int64, shape (E,)
        The node to which each entry belongs, in ascending order.
    nodes : int
        N.
    """

    def __init__(self, owner, nodes):
        self.owner, self.nodes = owner, nodes

    def spread(self, owned):
        return owned.index_select(0, self.owner)

    def total(self, values):
        return values.new_zeros(self.nodes, *values.shape[1:]).index_add_(0, self.owner, values)

    def dot(self, points, owned):
        return torch.linalg.vecdot(points, self.spread(owned))

    def combine(self, weights, points):
        return self.total(weights.unsqueeze(-1) * points)

    def solve(self, diagonal, weights, points, right):
        # Nodes of equal degree form a dense batch: no padding.
        degrees = torch.bincount(self.owner, minlength=self.nodes)
        first = degrees.cumsum(0) - degrees
        solution = torch.empty_like(right)
        for degree in degrees.unique().tolist():
            nodes = (degrees == degree).nonzero().squeeze(1)
            entries = first[nodes].unsqueeze(1) + torch.arange(degree, device=points.device)
            solution[nodes] = solve_updated(diagonal[nodes], weights[entries], points[entries], right[nodes])
        return solution

    def select(self, chosen):
        entries = chosen[self.owner]
        renumbered = chosen.cumsum(0) - 1
        return Segments(renumbered[self.owner[entries]], int(chosen.sum())), entries


SOLVERS = {}
"""Solvers of means by the name of their chart: ``(groups, x, w, start, *, tolerance, max_iterations)`` to two tensors."""


def solved(name, groups, x, w, start, *, tolerance, max_iterations):
    """A solver's result, without gradients: means ``(means, d)`` and estimates of their errors ``(means,)``.

    A solver reads values to decide when to stop. ``torch.func.vmap`` and ``torch.compile`` hide them, so there it runs
    as one opaque operation.
    """
    limits = {"tolerance": tolerance, "max_iterations": max_iterations}
    with torch.no_grad():
        if readable(x, w, start):
            return SOLVERS[name](groups, x, w, start, **limits)
        return _opaque(name, x, w, start, float(tolerance), max_iterations)


@torch.library.custom_op("loupe::frechet_solver", mutates_args=())
def _opaque(
    name: str,
    x: torch.Tensor,
    w: torch.Tensor,
    start: torch.Tensor | None,
    tolerance: float,
    max_iterations: int,
) -> tuple[torch.Tensor, torch.Tensor]:
    return SOLVERS[name](Batch(), x, w, start, tolerance=tolerance, max_iterations=max_iterations)


@_opaque.register_fake
def _(name, x, w, start, tolerance, max_iterations):
    return x.new_empty(x.shape[0], x.shape[2]), x.new_empty(x.shape[0])


@_opaque.register_vmap
def _(info, dims, name, x, w, start, *limits):
    """Means of another axis are more means of the same batch."""

    def flat(tensor, dim):
        if tensor is None:
            return None
        size = info.batch_size
        tensor = tensor.expand(size, *tensor.shape) if dim is None else tensor.movedim(dim, 0)
        return tensor.reshape(-1, *tensor.shape[2:])

    found, error = _opaque(name, *map(flat, (x, w, start), dims[1:4]), *limits)
    return (found.unflatten(0, (info.batch_size, -1)), error.unflatten(0, (info.batch_size, -1))), (0, 0)

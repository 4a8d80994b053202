"""Spanning trees of tensors, found by NumPy, and sums over their edges that work with autograd, vmap and compile."""

import numpy as np
import torch

from loupe.derivatives import transformed
from loupe.topology.distances import checked_distances
from loupe.topology.trees import grow_tree


def is_traced():
    """Whether values cannot be read: under a compiler or a ``torch.func`` transform."""
    return torch.compiler.is_compiling() or transformed()


def trees_of(points, distances, subsets):
    """Edges (m - 1, 2) of a minimum spanning tree of each subset of points (n, d) or of distances (n, n)."""
    if is_traced() and (points is None) != (distances is None):
        values, of_points = (distances, False) if points is None else (points, True)
        return [traced_tree(values.detach(), of_points, list(map(int, subset))) for subset in subsets]
    known = checked_distances(points, distances)
    return [tree_of(known, subset) for subset in subsets]


def tree_of(known, subset):
    """Edges (m - 1, 2), int64, from valid distances (n, n); an edge of length zero is the first point twice."""
    subset = np.sort(subset)
    edges, lengths = grow_tree(known.take(subset, axis=0).take(subset, axis=1).__getitem__, len(subset))
    edges[lengths == 0] = 0
    return torch.from_numpy(subset[edges])


@torch.library.custom_op(
    "loupe::traced_tree", mutates_args=(), schema="(Tensor values, bool of_points, int[] subset) -> Tensor"
)
def traced_tree(values, of_points, subset):
    """:func:`tree_of` as an opaque operation."""
    return tree_of(checked_distances(*((values, None) if of_points else (None, values))), subset)


traced_tree.register_fake(lambda _values, _of, subset: torch.empty(len(subset) - 1, 2, dtype=torch.int64))
traced_tree.register_vmap(
    lambda _, dims, values, *rest: (
        torch.stack([traced_tree(v, *rest) for v in values.movedim(dims[0], 0)]),
        0,
    )
)


def tree_sum(points, distances, edges, alpha):
    """Sum of the lengths of edges to the power alpha, differentiable in points (n, d) or else in distances (n, n)."""
    apart, traced = edges[:, 0] != edges[:, 1], is_traced()
    start, end = (edges if traced else edges[apart]).T

    def kept(values, otherwise):  # stands in for edges that cannot be dropped
        return values.where(apart, otherwise) if traced else values

    if points is None:
        lengths = kept(distances[start, end], 1)
    else:
        lengths = kept((points[start] - points[end]).square().sum(dim=1), 1).sqrt()
    return kept(lengths**alpha, 0).sum()

"""Spanning trees of tensors that a transform or a compiler does not show: found by numpy, as opaque operations of torch."""

import torch

from loupe.derivatives import transformed
from loupe.topology.distances import checked_distances
from loupe.topology.trees import grow_tree


def opaque(shape):
    """A decorator: one operation of torch that is not looked into, and is done one by one where ``vmap`` maps it.

    Parameters
    ----------
    shape : callable
        Of the number of points n: the shape of the result.
    """

    def decorated(function):
        operation = torch.library.custom_op(
            f"loupe::{function.__name__}", function, mutates_args=(), schema="(Tensor values) -> Tensor"
        )
        dtype = torch.int64 if function.__name__ == "tree_edges" else torch.float64
        operation.register_fake(lambda values: torch.empty(shape(len(values)), dtype=dtype))
        operation.register_vmap(
            lambda info, dims, values: (torch.stack([operation(v) for v in values.movedim(dims[0], 0)]), 0)
        )
        return operation

    return decorated


@opaque(lambda n: (n, n))
def distances_of_points(values):
    """Distances (n, n) between points (n, d), float64 on the CPU."""
    return torch.from_numpy(checked_distances(values, None))


@opaque(lambda n: (n, n))
def valid_distances(values):
    """Distances (n, n) without what rounding did to them, float64 on the CPU."""
    return torch.tensor(checked_distances(None, values))  # a copy: the result must not be the argument


@opaque(lambda n: (n - 1, 2))
def tree_edges(values):
    """Edges (n - 1, 2), int64, of a minimum spanning tree of distances (n, n); of length zero, from point 0 to itself."""
    edges, lengths = grow_tree(values.numpy().__getitem__, len(values))
    edges[lengths == 0] = 0
    return torch.from_numpy(edges)


def one_of(points, distances):
    """Valid distances, without gradient, of the one of both that is given."""
    if (points is None) == (distances is None):
        raise ValueError("give either points or distances, and not both")
    return distances_of_points(points.detach()) if distances is None else valid_distances(distances.detach())


def is_hidden():
    """Whether values cannot be read now: in a compiler, or a transform of ``torch.func``."""
    return torch.compiler.is_compiling() or transformed()


def tree_sum(points, distances, edges, alpha):
    """Sum of the lengths of edges to the power alpha, differentiable in points (n, d) or else in distances (n, n)."""
    apart = edges[:, 0] != edges[:, 1]
    if not is_hidden():
        edges, apart = edges[apart], apart[apart]
    start, end = edges.T
    if points is None:
        return (distances[start, end].where(apart, 1) ** alpha).where(apart, 0).sum()
    squares = (points[start] - points[end]).square().sum(dim=1)
    return (squares.where(apart, 1).sqrt() ** alpha).where(apart, 0).sum()

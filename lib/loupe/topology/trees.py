"""Minimum spanning trees of the complete distance graph: grown edge by edge, or read off single linkage."""

import numpy as np

from loupe.topology.distances import checked_distances, finite_points

# Up to this many points single linkage is faster than Prim; beyond, its copy of the matrix leaves the cache.
LINKAGE_POINTS = 2000


def merge_heights(distances):
    """Single-linkage merge heights of a valid distance matrix (n, n), in increasing order, shape (n - 1,)."""
    from scipy.cluster.hierarchy import linkage
    from scipy.spatial.distance import squareform

    return linkage(squareform(distances, checks=False), method="single")[:, 2]


def spanning_tree(points=None, *, distances=None):
    """Minimum spanning tree of the complete distance graph, by Prim's algorithm.

    Read in order, its edges are the events of the filtration: each merges two components into one.

    Parameters
    ----------
    points : array or torch.Tensor, shape (n, d), optional
        The distance matrix is not formed: one row of distances at a time.
    distances : array, shape (n, n), optional
        Instead of points. A distance of zero is an edge like any other.

    Returns
    -------
    edges : numpy.ndarray of int, shape (n - 1, 2)
        Row indices of the two ends, by increasing length.
    lengths : numpy.ndarray, shape (n - 1,), float64

    Raises
    ------
    ValueError
        For points or distances that are not valid.

    Notes
    -----
    O(n^2) time and O(n) memory besides the input. Given points, each step reads all of them, so compute the distances
    first for long vectors.

    Examples
    --------
    >>> edges, lengths = spanning_tree([[0.0], [3.0], [1.0]])
    >>> edges.tolist(), lengths.tolist()
    ([[0, 2], [2, 1]], [1.0, 2.0])
    """
    from scipy.spatial.distance import cdist

    if points is None or distances is not None:
        distances = checked_distances(points, distances)
        return grow_tree(distances.__getitem__, len(distances))
    points = finite_points(points)
    if len(points) < 2:
        raise ValueError("need at least 2 points, got 1")
    return grow_tree(lambda i: cdist(points[i : i + 1], points)[0], len(points))


def grow_tree(distances_from, n):
    """Prim's algorithm: join the vertex closest to the tree, then update the shortest edges to the rest.

    Parameters
    ----------
    distances_from : callable
        Maps a vertex to its distances to all vertices, shape (n,).
    n : int
        Number of vertices.

    Returns
    -------
    edges, lengths
        As :func:`spanning_tree` returns them.
    """
    edges, lengths = np.empty((n - 1, 2), dtype=np.intp), np.empty(n - 1)
    parent = np.zeros(n, dtype=np.intp)
    nearest = np.array(distances_from(0), dtype=np.float64)
    # Infinite for vertices in the tree: adding it excludes them from the minimum.
    joined = np.zeros(n)
    joined[0] = np.inf
    for k in range(n - 1):
        new = np.argmin(nearest + joined)
        edges[k], lengths[k] = (parent[new], new), nearest[new]
        joined[new] = np.inf
        offered = distances_from(new)
        parent[offered < nearest] = new
        np.minimum(nearest, offered, out=nearest)
    order = np.argsort(lengths, kind="stable")
    return edges[order], lengths[order]


def lifetimes_of(distances):
    """Edge lengths (n - 1,) of the spanning tree of a valid distance matrix, by the faster method for its size."""
    if len(distances) <= LINKAGE_POINTS:
        return merge_heights(distances)
    return grow_tree(distances.__getitem__, len(distances))[1]

"""How far a graph is from a tree: hop distances of all pairs, and Gromov's four-point delta."""

from dataclasses import dataclass
from itertools import combinations

import numpy as np

from loupe.checks import edge_list, unmasked, whole

# Marks a pair without a path; lengths up to 254 are lengths.
UNREACHABLE = 255
LONGEST = UNREACHABLE - 1

# Bytes of neighbors' bit sets gathered at once: this limits the number of sources in a block.
GATHER_BYTES = 2**25

# All 4-tuples of 400 nodes are a billion, some tens of seconds.
EXHAUSTIVE_NODES = 400

# Random 4-tuples processed at once: about 30 MB of indices and sums.
TUPLE_BLOCK = 2**18


@dataclass(frozen=True)
class GromovDelta:
    """The four-point delta over a set of 4-tuples of nodes, in hops.

    Attributes
    ----------
    maximum, mean : float
        Over the finite 4-tuples; the maximum is a multiple of one half.
    finite : int
        Number of 4-tuples that were taken and whose six distances are finite.
    """

    maximum: float
    mean: float
    finite: int


def hop_distances(edges, num_nodes, *, sources=None):
    """Numbers of edges on shortest paths, from every node or from some, to every node.

    Breadth-first search from all sources at once: each node keeps the set of sources that have reached it as
    a row of bits, and one step is the union of its neighbors' rows. The distance is the number of steps after
    which the bit is still missing.

    Parameters
    ----------
    edges : numpy.ndarray, int (E, 2)
        Undirected; direction, repetition and self loops do not matter.
    num_nodes : int
        N.
    sources : numpy.ndarray or None, int (S,)
        Nodes to start from; None stands for all, in order.

    Returns
    -------
    numpy.ndarray, uint8 (S, N)
        ``[i, j]`` is the distance from ``sources[i]`` to node j; 255 where there is no path.

    Raises
    ------
    ValueError
        If edges have the wrong shape or are not integers, an edge or a source names no node, or a finite distance
        exceeds 254.

    Notes
    -----
    Costs about E S / 64 word operations a step, and as many steps as the graph's diameter. Memory is S N bytes
    and a few tens of megabytes.

    Examples
    --------
    >>> hop_distances(np.array([[0, 1], [1, 2]]), 4).tolist()
    [[0, 1, 2, 255], [1, 0, 1, 255], [2, 1, 0, 255], [255, 255, 255, 0]]
    """
    num_nodes = whole("num_nodes", num_nodes)
    edges = edge_list(edges, num_nodes, axis=1)
    sources = (
        np.arange(num_nodes) if sources is None else checked_nodes("sources", sources, num_nodes).ravel()
    )
    neighbors, starts = neighbor_lists(edges, num_nodes)
    distances = np.empty((len(sources), num_nodes), np.uint8)
    width = 64 * max(1, GATHER_BYTES // (8 * len(neighbors)))
    for start in range(0, len(sources), width):
        block = slice(start, start + width)
        distances[block] = search(neighbors, starts, sources[block])
    return distances


def search(neighbors, starts, sources):
    """Distances uint8 (S, N) from a block of sources, given the neighbor lists."""
    columns = np.arange(len(sources))
    seen = np.zeros((len(starts), 64 * -(-len(sources) // 64)), np.uint8)
    seen[sources, columns] = 1
    reached = np.packbits(seen, axis=1).view(np.uint64)
    # Still missing after k steps means at least k + 1 steps away, so the missing bits add up to the distance.
    distances = np.zeros((len(starts), len(sources)), np.uint8)
    for _ in range(LONGEST + 1):
        missing = np.unpackbits(~reached.view(np.uint8), axis=1, count=len(sources))
        wider = np.bitwise_or.reduceat(reached[neighbors], starts, axis=0)
        if np.array_equal(wider, reached):
            distances[missing.view(bool)] = UNREACHABLE
            return distances.T
        distances += missing
        reached = wider
    raise ValueError(
        f"a shortest path has more than {LONGEST} edges, too many for one byte: take a graph of smaller diameter"
    )


def neighbor_lists(edges, num_nodes):
    """Each node's neighbors and itself, int64 (2E + N or fewer,), and where each list starts, int64 (N,)."""
    loops = np.arange(num_nodes)
    nodes = np.concatenate([edges[:, 0], edges[:, 1], loops])
    others = np.concatenate([edges[:, 1], edges[:, 0], loops])
    nodes, neighbors = np.divmod(np.unique(nodes * num_nodes + others), num_nodes)
    return neighbors, np.searchsorted(nodes, loops)


def gromov_delta(distances, *, samples=None, seed=0):
    r"""Largest and mean four-point delta of a finite metric, the half-gap convention.

    Of the three ways to pair up four points, let :math:`S_1\ge S_2\ge S_3` be the sums of the two distances.
    The tuple's delta is :math:`(S_1-S_2)/2`. It is 0 for all tuples exactly if the points fit into a tree with
    edge lengths (those of a complete graph fit into a star), at most half the diameter, and :math:`k` at most on
    a cycle of :math:`4k` nodes. Other conventions differ by a factor. A sampled maximum is a lower bound that
    grows with the number of tuples; the mean is an unbiased estimate.

    Parameters
    ----------
    distances : numpy.ndarray, uint8 (N, N)
        From :func:`hop_distances`, symmetric; 255 means no path. If the graph is too large for all pairs, pass the
        square block of some random nodes, ``hop_distances(edges, n, sources=nodes)[:, nodes]``.
    samples : int or None
        Number of uniform random 4-tuples of different nodes; None takes every 4-tuple once.
    seed : int or numpy.random.Generator
        Seed of the random tuples.

    Returns
    -------
    GromovDelta
        Over the tuples with finite distances only.

    Raises
    ------
    ValueError
        If the distances are not a square uint8 matrix of at least 4 nodes, there are too many nodes for all
        tuples, ``samples`` is below 1, or no tuple is finite.

    Notes
    -----
    HGCN (Chami et al. 2019) compares datasets by the maximum over 50,000 random tuples.

    Examples
    --------
    >>> cycle = np.array([[0, 1], [1, 2], [2, 3], [3, 0]])
    >>> gromov_delta(hop_distances(cycle, 4))
    GromovDelta(maximum=1.0, mean=1.0, finite=1)
    """
    distances = checked_hops(distances)
    if samples is None and len(distances) > EXHAUSTIVE_NODES:
        raise ValueError(
            f"every 4-tuple of {len(distances)} nodes would take too long (at most {EXHAUSTIVE_NODES} nodes): "
            "give samples=50_000"
        )
    if samples is None:
        blocks = all_sums(distances)
    else:
        samples = whole("samples (None for every 4-tuple)", samples)
        blocks = random_sums(distances, samples, np.random.default_rng(seed))
    widest = total = finite = 0
    for sums in blocks:
        gaps = largest_gaps(*sums)
        if gaps.size:
            widest = max(widest, int(gaps.max()))
            total += int(gaps.sum(dtype=np.int64))
            finite += gaps.size
    if not finite:
        raise ValueError(
            "no 4-tuple has six finite distances: take the largest connected component or more samples"
        )
    return GromovDelta(widest / 2, total / (2 * finite), finite)


def largest_gaps(first, second, third):
    """Largest minus second largest of three arrays of the same shape."""
    high, low = np.maximum(first, second), np.minimum(first, second)
    return np.maximum(high, third) - np.maximum(low, np.minimum(high, third))


def all_sums(distances):
    """The three sums of every finite 4-tuple i < j < k < l, int16 (3, m), one block for each pair i < j.

    For fixed i and j, all k and l need two rows of the matrix and its lower right corner, so a block costs a few passes
    over at most (N, N) numbers.
    """
    finite = distances != UNREACHABLE
    hops = distances.astype(np.int16)
    upper = np.triu(np.ones(hops.shape, bool), k=1)
    for i, j in combinations(range(len(hops)), 2):
        # Nodes with no path to i cannot be in a finite tuple with it, and the others have paths to each other.
        rest = j + 1 + np.flatnonzero(finite[i, j + 1 :])
        if finite[i, j] and len(rest) > 1:
            pairs = upper[: len(rest), : len(rest)]
            crossed = hops[i, rest, None] + hops[j, rest]
            yield hops[i, j] + hops[np.ix_(rest, rest)][pairs], crossed[pairs], crossed.T[pairs]


def random_sums(distances, samples, rng):
    """The three sums of the finite random 4-tuples, int16 (m,) each, in blocks."""
    for start in range(0, samples, TUPLE_BLOCK):
        a, b, c, d = random_tuples(len(distances), min(TUPLE_BLOCK, samples - start), rng)
        hops = distances[[a, c, a, b, a, b], [b, d, c, d, d, c]].astype(np.int16)
        hops = hops[:, (hops != UNREACHABLE).all(axis=0)]
        yield hops[0] + hops[1], hops[2] + hops[3], hops[4] + hops[5]


def random_tuples(num_nodes, count, rng):
    """Ordered 4-tuples of different nodes, uniform, int64 (4, count).

    The k-th node is drawn among the remaining ones, numbered without gaps, then shifted past the smaller earlier ones
    in ascending order: no rejection.
    """
    nodes = np.empty((4, count), np.int64)
    for k in range(4):
        nodes[k] = rng.integers(num_nodes - k, size=count)
        for earlier in np.sort(nodes[:k], axis=0):
            nodes[k] += nodes[k] >= earlier
    return nodes


def checked_nodes(name, nodes, num_nodes):
    """Node indices as int64, checked for their range."""
    nodes = np.asarray(unmasked(name, nodes))
    if nodes.size and (nodes.dtype.kind not in "iu" or not 0 <= nodes.min() <= nodes.max() < num_nodes):
        raise ValueError(
            f"{name} must be node indices from 0 to {num_nodes - 1}; "
            f"got {nodes.dtype} from {nodes.min()} to {nodes.max()}"
        )
    return nodes.astype(np.int64)


def checked_hops(distances):
    """Distances if they are a square uint8 matrix of at least four nodes."""
    distances = np.asarray(unmasked("distances", distances))
    if distances.ndim != 2 or distances.shape[0] != distances.shape[1] or distances.dtype != np.uint8:
        raise ValueError(
            f"distances must be a square uint8 matrix, as of hop_distances; "
            f"got {distances.dtype} of shape {distances.shape}"
        )
    if len(distances) < 4:
        raise ValueError(f"delta needs at least 4 nodes, got {len(distances)}")
    return distances

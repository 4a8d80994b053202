"""From a graph to an experiment: splits of its edges and nodes, message edges, inputs."""

from dataclasses import dataclass

import numpy as np

from loupe.checks import edge_list
from loupe.data.catalog import DataError
from loupe.data.graphs import disease_tree  # noqa: F401 (a name of this module)
from loupe.deprecation import renamed

TASKS = ("link", "node")

# The column of the airport features whose bins are the labels.
AIRPORT_LABEL_COLUMN = 4
AIRPORT_DEGREES = 5

# Degree features distinguish 0, 1, 2 to 3, 4 to 7, ..., and 128 or more.
DEGREE_LEVELS = 9

# An identity matrix of 4,096 nodes takes 134 MB; above that, nodes get degree features only.
IDENTITY_NODES = 4096


@dataclass(frozen=True, eq=False)
class LinkSplit:
    """Training edges, held-out edges, and as many non-edges.

    Attributes
    ----------
    num_nodes : int
        N.
    train, valid, test : numpy.ndarray
        int64 ``(m, 2)``, edges without self loops, smaller index first. Messages run along ``train`` only.
    valid_negatives, test_negatives : numpy.ndarray
        int64, as many rows as ``valid`` and ``test``; all different, smaller index first.
    taken : numpy.ndarray
        int64, sorted :func:`pair_keys` of all edges and all negatives above: excluded from training negatives.
    """

    num_nodes: int
    train: np.ndarray
    valid: np.ndarray
    test: np.ndarray
    valid_negatives: np.ndarray
    test_negatives: np.ndarray
    taken: np.ndarray


@dataclass(frozen=True, eq=False)
class NodeSplit:
    """Training, validation and test nodes.

    Attributes
    ----------
    train, valid, test : numpy.ndarray
        int64 node indices, sorted; no node is in two of them.
    """

    train: np.ndarray
    valid: np.ndarray
    test: np.ndarray


def link_split(graph, *, valid=0.05, test=0.10, seed):
    """Hold out edges for link prediction, and draw as many non-edges.

    The shares are those of HGCN (Chami et al. 2019): 5 % of the edges for validation, 10 % for testing, rounded down,
    and the rest for training. Unlike HGCN, we never pair a node with itself, neither as an edge nor as a negative.

    Parameters
    ----------
    graph : Graph
    valid, test : float
        Shares of the edges.
    seed : int or numpy.random.Generator
        The same seed gives the same split.

    Returns
    -------
    LinkSplit

    Raises
    ------
    DataError
        If a share is not positive, a part would be empty, or the graph has too few non-edges.
    """
    rng = np.random.default_rng(seed)
    edges = graph.edges[graph.edges[:, 0] != graph.edges[:, 1]]
    num_valid, num_test = int(valid * len(edges)), int(test * len(edges))
    if min(num_valid, num_test) < 1 or num_valid + num_test >= len(edges):
        raise DataError(
            f"shares valid={valid} and test={test} of {len(edges)} edges must leave at least one edge "
            "to validate, to test and to train on: give other shares or a larger graph"
        )
    held_out = num_valid + num_test
    parts = np.split(rng.permutation(len(edges)), [num_valid, held_out])
    valid_edges, test_edges, train_edges = (edges[np.sort(part)] for part in parts)
    taken = np.unique(pair_keys(edges, graph.num_nodes))
    negatives = sample_non_edges(graph.num_nodes, taken, held_out, rng, distinct=True)
    return LinkSplit(
        graph.num_nodes,
        train_edges,
        valid_edges,
        test_edges,
        negatives[:num_valid],
        negatives[num_valid:],
        np.sort(np.concatenate([taken, pair_keys(negatives, graph.num_nodes)])),
    )


def training_negatives(split, rng):
    """One random non-edge for each training edge; draw them again in each epoch.

    Neither edges of the full graph nor held-out negatives are drawn. Excluding only the held-out edges would leak them
    over many epochs, as pairs that are never negatives; this way training sees neither kind. HGCN excludes neither, and
    so sometimes trains against a held-out edge: one draw in 1,800 (airport) to 29,000 (pubmed).

    Parameters
    ----------
    split : LinkSplit
    rng : numpy.random.Generator

    Returns
    -------
    numpy.ndarray
        int64 ``(m, 2)`` for m training edges, smaller index first; repetitions are possible.

    Raises
    ------
    DataError
        If no pair is left.
    """
    return sample_non_edges(split.num_nodes, split.taken, len(split.train), rng)


def sample_non_edges(num_nodes, taken, count, rng, *, distinct=False):
    """Uniform random pairs of nodes, excluding taken ones.

    Parameters
    ----------
    num_nodes : int
        N.
    taken : numpy.ndarray
        int64, sorted, distinct :func:`pair_keys` of excluded pairs.
    count : int
        Number of pairs.
    rng : numpy.random.Generator
    distinct : bool
        Draw without repetition.

    Returns
    -------
    numpy.ndarray
        int64 ``(count, 2)``, smaller index first, in random order.

    Raises
    ------
    DataError
        If there are too few such pairs.
    """
    num_pairs = num_nodes * (num_nodes - 1) // 2
    free = num_pairs - len(taken)
    needed = count if distinct else min(count, 1)
    if needed > free:
        raise DataError(
            f"{needed} pairs without an edge are needed, and {num_nodes} nodes leave {free}: "
            "take a sparser graph or smaller shares"
        )
    if 2 * (needed + len(taken)) > num_pairs:
        keys = pair_keys(np.stack(np.triu_indices(num_nodes, k=1), axis=1), num_nodes)
        keys = rng.choice(np.setdiff1d(keys, taken, assume_unique=True), count, replace=not distinct)
        return np.stack(np.divmod(keys, num_nodes), axis=1)
    # At least half of all pairs are free here, so a few rounds of draws suffice.
    keys = np.empty(0, np.int64)
    while len(keys) < count:
        first = rng.integers(num_nodes, size=count)
        second = rng.integers(num_nodes - 1, size=count)
        second += second >= first
        drawn = pair_keys(np.stack([first, second], axis=1), num_nodes)
        keys = np.concatenate([keys, drawn[~is_taken(drawn, taken)]])
        if distinct:
            # Keep the first of equal keys in draw order: a sorted list would not be random.
            keys = keys[np.sort(np.unique(keys, return_index=True)[1])]
    return np.stack(np.divmod(keys[:count], num_nodes), axis=1)


def pair_keys(pairs, num_nodes):
    """One int64 for each unordered pair of N nodes (m, 2): smaller index times N plus larger."""
    first, second = pairs.T
    return np.minimum(first, second) * num_nodes + np.maximum(first, second)


def is_taken(keys, taken):
    """Which keys (m,) are among the sorted keys taken, bool (m,)."""
    # No key is negative: -1 marks positions past the end.
    return np.append(taken, -1)[np.searchsorted(taken, keys)] == keys


def fixed_node_split(graph):
    """The graph's own :class:`NodeSplit` (Planetoid's for citation graphs); DataError if it has none."""
    if graph.train is None:
        raise DataError(f"{graph.name} has no split of its own: make one with node_split")
    return NodeSplit(np.sort(graph.train), np.sort(graph.valid), np.sort(graph.test))


def node_split(graph, *, fractions, balanced, seed):
    """Split the nodes at random for classification.

    HGCN (Chami et al. 2019) takes 30/10/60 %, balanced, for the disease tree and 70/15/15 % for airports. Its code uses
    the balanced rule for airports, which assumes two classes: with four, nodes end up in two parts, so use
    ``balanced=False`` there.

    Parameters
    ----------
    graph : Graph
    fractions : tuple of three floats
        Shares to train, validate and test, which add up to 1.
    balanced : bool
        If True, validation and test have equally many nodes of each class (their shares of the smallest class), and all
        other nodes are for training. If False, each class is split in these shares.
    seed : int or numpy.random.Generator
        The same seed gives the same split.

    Returns
    -------
    NodeSplit

    Raises
    ------
    DataError
        If the fractions are not three positive numbers of sum 1, or a part would be empty.
    """
    if len(fractions) != 3 or min(fractions) <= 0 or abs(sum(fractions) - 1) > 1e-9:
        raise DataError(f"fractions must be three positive numbers that add up to 1, got {fractions}")
    rng = np.random.default_rng(seed)
    classes = [rng.permutation(np.flatnonzero(graph.labels == label)) for label in np.unique(graph.labels)]
    sizes = [len(nodes) for nodes in classes]
    parts = []
    for nodes, size in zip(classes, [min(sizes)] * len(sizes) if balanced else sizes, strict=True):
        num_valid, num_test = round(fractions[1] * size), round(fractions[2] * size)
        parts.append(np.split(nodes, [num_valid, num_valid + num_test]))
    valid, test, train = (np.sort(np.concatenate(part)) for part in zip(*parts, strict=True))
    if not (len(train) and len(valid) and len(test)):
        raise DataError(
            f"fractions={fractions} of classes of {sizes} nodes leave a part empty: give other fractions"
        )
    return NodeSplit(train, valid, test)


def message_edges(edges, num_nodes):
    """Message edges: both directions of each edge, and a self loop at each node.

    Parameters
    ----------
    edges : numpy.ndarray
        int64 ``(E, 2)``; repetitions and self loops do not matter.
    num_nodes : int
        N.

    Returns
    -------
    numpy.ndarray
        int64 ``(2, M)``, sources above destinations, without repetition, sorted by destination and then by
        source, so that the messages of one node lie together. M = 2E + N for different edges without loops.

    Raises
    ------
    ValueError
        If edges have the wrong shape, are not integers, or name a missing node.
    """
    edges = edge_list(edges, num_nodes, axis=1)
    loops = np.arange(num_nodes)
    sources = np.concatenate([edges[:, 0], edges[:, 1], loops])
    destinations = np.concatenate([edges[:, 1], edges[:, 0], loops])
    destinations, sources = np.divmod(np.unique(destinations * num_nodes + sources), num_nodes)
    return np.stack([sources, destinations])


@renamed(normalise="normalize")
def node_inputs(graph, task, training_edges, *, normalize):
    """Input features of each node.

    These are the graph's features, with extra columns for ``airport``. A graph without features, or with features of
    some nodes only, gets structural ones: the identity matrix up to 4,096 nodes, above that degree features.

    Parameters
    ----------
    graph : Graph
    task : {"link", "node"}
        Link prediction or node classification.
    training_edges : numpy.ndarray
        int64 ``(m, 2)``; degrees are computed from these, so that held-out edges do not leak.
    normalize : bool
        Divide each row of features by its sum, before anything is appended (HGCN; off for the disease trees).
        The sum is signed: a row of negative sum changes its sign, and one whose sum is nearly zero becomes
        large. A row of sum zero becomes zero. Structure is never normalized.

    Returns
    -------
    numpy.ndarray
        float64 ``(N, F)``.

    Raises
    ------
    DataError
        If the task is neither of the two.

    Notes
    -----
    As in HGCN (Chami et al. 2019), airport has six more columns that mark the degree 0, 1, ..., 4, and 5 or
    more, and a constant 1; for classification column 4 is dropped, because the labels are its bins. Degree
    features mark the degree 0, 1, 2 to 3, 4 to 7, ..., and 128 or more, and hold a constant 1 too.
    """
    if task not in TASKS:
        raise DataError(f"no task {task!r}: one of {', '.join(TASKS)}")
    degrees = node_degrees(training_edges, graph.num_nodes)
    if graph.features is None or graph.known is not None:
        if graph.num_nodes <= IDENTITY_NODES:
            return np.eye(graph.num_nodes)
        # frexp writes a degree as m 2^e with 1/2 <= m < 1: the exponent is 0 for 0, and 1 + floor(log2) else.
        levels = np.frexp(degrees)[1]
        return with_constant(one_hot(levels, DEGREE_LEVELS))
    airport = graph.name == "airport"
    features = graph.features.astype(np.float64)
    if airport and task == "node":
        features = np.delete(features, AIRPORT_LABEL_COLUMN, axis=1)
    if normalize:
        features = divided_by_sums(features)
    if airport:
        features = np.hstack([features, with_constant(one_hot(degrees, AIRPORT_DEGREES + 1))])
    return features


def node_degrees(edges, num_nodes):
    """Number of edges at each node, int64 (N,); a self loop counts once, as in a sum of an adjacency row."""
    edges = edge_list(edges, num_nodes, axis=1)
    loops = edges[:, 0] == edges[:, 1]
    return np.bincount(edges[:, 0], minlength=num_nodes) + np.bincount(edges[~loops, 1], minlength=num_nodes)


def one_hot(levels, width):
    """Rows of a unit matrix, float64 (N, width); higher levels count as the last."""
    return np.eye(width)[np.minimum(levels, width - 1)]


def with_constant(features):
    """Features and a column of ones."""
    return np.hstack([features, np.ones((len(features), 1))])


def divided_by_sums(features):
    """Each row divided by its sum; zero where the sum is zero."""
    sums = features.sum(axis=1, keepdims=True)
    return np.divide(features, sums, out=np.zeros_like(features), where=sums != 0)

"""Graphs of the hyperbolic-network chapters: citations, airports, and simulated disease trees."""

import tarfile
from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np

from loupe.data.catalog import DataError
from loupe.data.door import read_arrays


@dataclass(frozen=True, eq=False)
class Graph:
    """An undirected graph with labeled nodes.

    Attributes
    ----------
    name : str
        The set's name in the catalog.
    num_nodes : int
        N.
    edges : numpy.ndarray
        int64 ``(E, 2)``; each undirected edge or self loop once, smaller index first, rows sorted.
    features : numpy.ndarray or None
        ``(N, F)``; float64 if the original is real-valued and dense, else float32. Rows of nodes with unknown features
        are NaN, so that nobody trains on made-up zeros. None if the set has no features.
    known : numpy.ndarray or None
        int64 rows with known features; None if all are.
    labels : numpy.ndarray
        int64 ``(N,)``, from 0.
    train, valid, test : numpy.ndarray or None
        int64 node indices of the fixed Planetoid split; None where the set has none.
    notes : str
        What to know before use.
    """

    name: str
    num_nodes: int
    edges: np.ndarray
    features: np.ndarray | None
    known: np.ndarray | None
    labels: np.ndarray
    train: np.ndarray | None
    valid: np.ndarray | None
    test: np.ndarray | None
    notes: str


def graph(source):
    """A :class:`Graph`, its sparse features made dense."""
    stored = read_arrays(source.path())
    known = stored["feat_known_nodes"].astype(np.int64) if "feat_known_nodes" in stored else None
    split = (
        stored[f"idx_{part}"].astype(np.int64) if f"idx_{part}" in stored else None
        for part in ("train", "val", "test")
    )
    entry = source.entry
    form = "This is the authors' public form. " if source.form == "public" else ""
    return Graph(
        entry.name,
        int(stored["num_nodes"]),
        stored["edges"].astype(np.int64),
        _features(stored, known),
        known,
        stored["labels"].astype(np.int64),
        *split,
        form + entry.source_note,
    )


def _features(stored, known):
    if "features" in stored:
        return stored["features"]
    if "feat_row" not in stored:
        return None
    dense = np.zeros(stored["feat_shape"], stored["feat_val"].dtype)
    dense[stored["feat_row"], stored["feat_col"]] = stored["feat_val"]
    if known is not None:
        unknown = np.ones(len(dense), bool)
        unknown[known] = False
        dense[unknown] = np.nan
    return dense


# --- simulated trees ----------------------------------------------------------------------------------------


MOST_CHILDREN = 4


def disease_tree(num_nodes, seed):
    r"""A random tree along which a disease spreads, of any size.

    Each node but the first is attached to a uniformly chosen earlier node with less than 4 children. It has a
    susceptibility :math:`s_i\sim N(0,1)` and ten further features :math:`s_i a_k+N(0,1)`, the same
    :math:`a_k\sim N(0,1)` for all. The root is infected; a child is if its parent is and
    :math:`s_i+N(0,\tfrac14)>-0.3`, which has a chance of about 0.61. So the share of infected nodes, ``labels.mean()``,
    falls with depth and varies a lot between seeds; ``notes`` reports it.

    Parameters
    ----------
    num_nodes : int
        N, at least 2.
    seed : int or numpy.random.Generator
        The same seed gives the same tree.

    Returns
    -------
    Graph
        Named ``disease_tree``; in each edge the smaller index is the parent. ``features`` are float64
        ``(N, 11)``, susceptibility first; ``labels`` are 1 for infected.

    Raises
    ------
    DataError
        If there are fewer than 2 nodes.

    Notes
    -----
    Similar to HGCN's simulated disease trees (Chami et al. 2019), but with our own rules.
    """
    if num_nodes < 2:
        raise DataError(f"a tree needs at least 2 nodes, got num_nodes={num_nodes}")
    rng = np.random.default_rng(seed)
    susceptibility = rng.standard_normal(num_nodes)
    others = np.outer(susceptibility, rng.standard_normal(10)) + rng.standard_normal((num_nodes, 10))
    catches = susceptibility + rng.normal(0, 0.5, num_nodes) > -0.3
    choices = rng.random(num_nodes)

    parents, children = np.zeros((2, num_nodes), np.int64)
    infected = np.ones(num_nodes, bool)
    open_nodes = [0]
    for i in range(1, num_nodes):
        place = int(choices[i] * len(open_nodes))
        parent = parents[i] = open_nodes[place]
        infected[i] = infected[parent] and catches[i]
        children[parent] += 1
        if children[parent] == MOST_CHILDREN:
            open_nodes[place] = open_nodes[-1]
            open_nodes.pop()
        open_nodes.append(i)
    edges = np.stack([parents[1:], np.arange(1, num_nodes)], axis=1)
    edges = edges[np.lexsort(edges.T[::-1])]
    features = np.column_stack([susceptibility, others])
    labels = infected.astype(np.int64)
    notes = f"Simulated; {infected.mean():.1%} of {num_nodes} nodes are infected."
    return Graph("disease_tree", num_nodes, edges, features, None, labels, None, None, None, notes)


# --- what authors publish: converters ------------------------------------------------------------------------


def _undirected(pairs):
    """Each undirected edge once, smaller index first, rows sorted: int32 ``(E, 2)``."""
    return np.unique(np.sort(np.asarray(pairs, np.int64).reshape(-1, 2), axis=1), axis=0).astype(np.int32)


def _graph_arrays(labels, pairs, rows, columns, values, width):
    return {
        "edges": _undirected(pairs),
        "labels": np.asarray(labels, np.int64),
        "num_nodes": np.int64(len(labels)),
        "feat_row": np.asarray(rows, np.int32),
        "feat_col": np.asarray(columns, np.int32),
        "feat_val": np.asarray(values, np.float32),
        "feat_shape": np.array([len(labels), width], np.int64),
    }


def _tar_lines(path, *endings):
    """Lines of the members of a tar archive with these endings."""
    with tarfile.open(path) as archive:
        members = {member.name: member for member in archive if member.isfile()}
        for ending in endings:
            (name,) = [name for name in members if PurePosixPath(name).name == ending]
            yield archive.extractfile(members[name]).read().decode("utf-8").splitlines()


def cora(paths):
    """Cora from ``cora.tgz`` of LINQS: ``cora.content`` (id, words, class) and ``cora.cites`` (two ids)."""
    (archive,) = paths
    content, cites = _tar_lines(archive, "cora.content", "cora.cites")
    table = [line.split() for line in content if line.strip()]
    node = {row[0]: k for k, row in enumerate(table)}
    classes = sorted({row[-1] for row in table})
    words = np.array([row[1:-1] for row in table]).astype(np.float32)
    rows, columns = np.nonzero(words)
    pairs = [[node[name] for name in line.split()] for line in cites if line.strip()]
    labels = [classes.index(row[-1]) for row in table]
    return _graph_arrays(labels, pairs, rows, columns, words[rows, columns], words.shape[1])


def pubmed(paths):
    """PubMed from ``Pubmed-Diabetes.tgz`` of LINQS: TF-IDF words by name, classes 1 to 3, citations by id."""
    (archive,) = paths
    papers, cites = _tar_lines(
        archive, "Pubmed-Diabetes.NODE.paper.tab", "Pubmed-Diabetes.DIRECTED.cites.tab"
    )
    # Second line: "cat=1,2,3:label", then one "numeric:w-word:0.0" for each word, then the summary.
    word = {}
    for field in papers[1].split("\t"):
        if field.startswith("numeric:"):
            word[field.split(":")[1]] = len(word)
    node, labels, triples = {}, [], []
    for line in papers[2:]:
        name, *fields = line.rstrip("\n").split("\t")
        k = node.setdefault(name, len(node))
        for key, _, value in (field.partition("=") for field in fields):
            if key == "label":
                labels.append(int(value) - 1)
            elif key in word:
                triples.append((k, word[key], float(value)))
    # From the third line on: number, "paper:id", "|", "paper:id".
    pairs = [
        [node[field.removeprefix("paper:")] for field in line.split("\t") if field.startswith("paper:")]
        for line in cites[2:]
        if line.strip()
    ]
    rows, columns, values = zip(*triples, strict=True)
    return _graph_arrays(labels, pairs, rows, columns, values, len(word))

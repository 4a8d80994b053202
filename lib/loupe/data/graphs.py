"""Graphs of the hyperbolic-network chapters: citations, airports, and simulated trees of a disease."""

from dataclasses import dataclass

import numpy as np

from loupe.data.door import read_arrays


@dataclass(frozen=True, eq=False)
class Graph:
    """An undirected graph with labelled nodes.

    Attributes
    ----------
    name : str
        The set's name in the catalog.
    num_nodes : int
        N.
    edges : numpy.ndarray
        int64 ``(E, 2)``; each undirected edge once, smaller index first, rows sorted; a self loop stands
        once.
    features : numpy.ndarray or None
        ``(N, F)``; float64 where the original is real-valued and dense, else float32. Rows of nodes whose
        features are not known are NaN, so that nobody trains on invented zeros. None if the set has no
        features.
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

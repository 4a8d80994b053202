"""Splits, message edges and inputs: counts against HGCN's, and that nothing held out is seen in training."""

import dataclasses

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from small_sets import refused

from loupe.data import DataError, load
from loupe.data import graph_tasks as tasks
from loupe.data.graph_tasks import disease_tree, link_split, message_edges, node_inputs, node_split, pair_keys
from loupe.data.graphs import Graph

SHAPED = settings(deadline=None, max_examples=50)


def make_graph(edges, num_nodes, features=None, labels=None, name="toy", known=None):
    labels = np.zeros(num_nodes, np.int64) if labels is None else labels
    edges = np.array(edges, np.int64).reshape(-1, 2)
    return Graph(name, num_nodes, edges, features, known, labels, None, None, None, "")


@st.composite
def graphs(draw):
    """Graphs of 30 to 60 nodes, sparse to nearly complete, with self loops."""
    n = draw(st.integers(30, 60))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    upper = np.stack(np.triu_indices(n), axis=1)
    most = n * (n - 1) // 2 - n
    edges = upper[np.sort(rng.choice(len(upper), draw(st.integers(80, most)), replace=False))]
    return make_graph(edges, n)


def as_set(pairs):
    assert pairs.dtype == np.int64
    assert (pairs[:, 0] < pairs[:, 1]).all()
    return set(map(tuple, pairs.tolist()))


@SHAPED
@given(graphs(), st.integers(0, 2**32))
def test_link_split_parts_the_edges_and_keeps_negatives_apart(graph, seed):
    proper = as_set(graph.edges[graph.edges[:, 0] < graph.edges[:, 1]])
    free = graph.num_nodes * (graph.num_nodes - 1) // 2 - len(proper)
    assume(free >= len(proper) // 5)
    split = link_split(graph, seed=seed)
    parts = [as_set(part) for part in (split.train, split.valid, split.test)]
    sizes = [len(split.train), len(split.valid), len(split.test)]
    assert sizes[1:] == [int(0.05 * len(proper)), int(0.1 * len(proper))]
    assert sum(sizes) == sum(map(len, parts)) == len(proper)
    assert set.union(*parts) == proper

    negatives = [as_set(split.valid_negatives), as_set(split.test_negatives)]
    assert (
        [len(part) for part in negatives]
        == sizes[1:]
        == [len(split.valid_negatives), len(split.test_negatives)]
    )
    held_out = set.union(*negatives)
    assert len(held_out) == sum(sizes[1:])
    assert not held_out & proper

    drawn = tasks.training_negatives(split, np.random.default_rng(seed))
    assert drawn.shape == split.train.shape
    assert not as_set(drawn) & (proper | held_out)
    assert drawn.max() < graph.num_nodes


def test_link_split_depends_on_its_seed_alone():
    graph = disease_tree(200, 0)
    first, again, other = (link_split(graph, seed=seed) for seed in (1, 1, 2))
    for name in ("train", "valid", "test", "valid_negatives", "test_negatives", "taken"):
        assert np.array_equal(getattr(first, name), getattr(again, name))
        assert not np.array_equal(getattr(first, name), getattr(other, name))
    rng = np.random.default_rng(0)
    assert not np.array_equal(tasks.training_negatives(first, rng), tasks.training_negatives(first, rng))


@pytest.mark.parametrize(
    ("name", "counts"),
    [("cora", (4488, 263, 527)), ("disease_lp", (2265, 133, 266)), ("airport", (15836, 931, 1863))],
)
def test_link_split_has_the_published_sizes(name, counts, box):
    split = link_split(load(name), seed=1234)
    assert (len(split.train), len(split.valid), len(split.test)) == counts


@pytest.mark.parametrize("options", [{}, {"valid": 0.6, "test": 0.5}, {"valid": -0.1}])
def test_link_split_needs_edges_in_each_part(options):
    with pytest.raises(DataError, match="of 9 edges must leave at least one edge"):
        link_split(make_graph([[0, k] for k in range(10)], 10), seed=0, **options)


def test_a_dense_graph_has_no_pairs_to_spare():
    complete = make_graph(np.stack(np.triu_indices(12, k=1), axis=1), 12)
    refused("9 pairs without an edge are needed, and 12 nodes leave 0", link_split, complete, seed=0)


# Few taken pairs are drawn by rejection, many by listing the rest.
@pytest.mark.parametrize("num_taken", [0, 10, 30])
def test_non_edges_are_uniform(num_taken):
    pairs = np.stack(np.triu_indices(9, k=1), axis=1)
    taken = np.sort(np.random.default_rng(0).permutation(pair_keys(pairs, 9))[:num_taken])
    free = set(pair_keys(pairs, 9).tolist()) - set(taken.tolist())
    drawn = tasks.sample_non_edges(9, taken, 20_000, np.random.default_rng(1))
    keys, counts = np.unique(pair_keys(drawn, 9), return_counts=True)
    assert set(keys.tolist()) == free
    expected = 20_000 / len(free)
    assert np.abs(counts - expected).max() < 5 * np.sqrt(expected)


# The second route lists all pairs: when most are wanted.
@pytest.mark.parametrize("count", [4, 30])
def test_distinct_non_edges_are_in_random_order(count):
    taken = pair_keys(np.array([[0, 1], [2, 5]]), 9)
    firsts = np.zeros(81, int)
    for seed in range(3400):
        drawn = tasks.sample_non_edges(9, taken, count, np.random.default_rng(seed), distinct=True)
        keys = pair_keys(drawn, 9)
        assert len(set(keys.tolist())) == count
        firsts[keys[0]] += 1
    assert not firsts[taken].any()
    assert np.count_nonzero(firsts) == 34
    assert np.abs(firsts[firsts > 0] - 100).max() < 50


@SHAPED
@given(graphs())
def test_message_edges_are_the_adjacency_with_loops(graph):
    n = graph.num_nodes
    adjacency = np.eye(n, dtype=bool)
    adjacency[tuple(graph.edges.T)] = adjacency[tuple(graph.edges.T[::-1])] = True
    sources, destinations = message_edges(np.concatenate([graph.edges, graph.edges[:7, ::-1]]), n)
    expected_destinations, expected_sources = np.nonzero(adjacency)
    assert np.array_equal(destinations, expected_destinations)
    assert np.array_equal(sources, expected_sources)
    assert sources.dtype == np.int64


def test_message_edges_of_no_edges_and_of_strangers():
    assert message_edges(np.empty((0, 2), np.int64), 3).tolist() == [[0, 1, 2], [0, 1, 2]]
    with pytest.raises(ValueError, match="edges must name nodes from 0 to 4, got 0 to 5"):
        message_edges(np.array([[0, 5]]), 5)


def test_cora_has_13264_messages(box):
    graph = load("cora")
    assert message_edges(graph.edges, graph.num_nodes).shape == (2, 13264)


def assert_parts(split, num_nodes):
    everyone = np.concatenate([split.train, split.valid, split.test])
    assert np.array_equal(np.sort(everyone), np.arange(num_nodes))
    for part in (split.train, split.valid, split.test):
        assert (np.diff(part) > 0).all()


@given(st.lists(st.integers(10, 60), min_size=2, max_size=4), st.booleans(), st.integers(0, 2**32))
@SHAPED
def test_node_split_parts_the_nodes(sizes, balanced, seed):
    labels = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(sizes)), sizes))
    graph = make_graph([], len(labels), labels=labels)
    split = node_split(graph, fractions=(0.7, 0.1, 0.2), balanced=balanced, seed=seed)
    assert_parts(split, len(labels))
    of_size = [min(sizes)] * len(sizes) if balanced else sizes
    counts = [np.bincount(labels[part], minlength=len(sizes)).tolist() for part in (split.valid, split.test)]
    assert counts == [[round(0.1 * n) for n in of_size], [round(0.2 * n) for n in of_size]]
    other = node_split(graph, fractions=(0.7, 0.1, 0.2), balanced=balanced, seed=seed + 1)
    assert not np.array_equal(split.test, other.test)


def test_node_splits_of_the_real_graphs(box):
    disease = load("disease_lp")
    split = node_split(disease, fractions=(0.3, 0.1, 0.6), balanced=True, seed=0)
    assert [len(part) for part in (split.train, split.valid, split.test)] == [1181, 212, 1272]
    assert disease.labels[split.test].mean() == disease.labels[split.valid].mean() == 0.5
    assert disease.labels[split.train].mean() == pytest.approx(0.27, abs=0.005)
    airport = node_split(load("airport"), fractions=(0.7, 0.15, 0.15), balanced=False, seed=0)
    assert_parts(airport, 3188)
    cora = tasks.fixed_node_split(load("cora"))
    assert [len(part) for part in (cora.train, cora.valid, cora.test)] == [140, 500, 1000]
    assert not set(cora.train) & set(cora.test)


@pytest.mark.parametrize("fractions", [(0.5, 0.5), (0.5, 0.4, 0.2), (1.0, 0.0, 0.0), (0.9, 0.2, -0.1)])
def test_node_split_names_bad_fractions(fractions):
    with pytest.raises(DataError, match="three positive numbers that add up to 1, got"):
        node_split(disease_tree(50, 0), fractions=fractions, balanced=False, seed=0)


def test_node_split_refuses_what_cannot_be():
    refused(
        r"classes of \[1, 1\] nodes leave a part empty",
        lambda: node_split(
            make_graph([], 2, labels=np.array([0, 1])), fractions=(0.3, 0.1, 0.6), balanced=True, seed=0
        ),
    )
    refused("toy has no split of its own", tasks.fixed_node_split, make_graph([], 2))


def test_features_are_as_they_are_or_divided_by_their_sums():
    features = np.array([[1.0, 3.0], [-1.0, -1.0], [2.0, -2.0], [0.0, 0.0]], np.float32)
    graph = make_graph([[0, 1]], 4, features)
    for task in ("link", "node"):
        plain = node_inputs(graph, task, graph.edges, normalize=False)
        assert plain.dtype == np.float64
        assert np.array_equal(plain, features)
        divided = node_inputs(graph, task, graph.edges, normalize=True)
        assert divided.tolist() == [[0.25, 0.75], [0.5, 0.5], [0, 0], [0, 0]]
    refused("no task 'lp': one of link, node", node_inputs, graph, "lp", graph.edges, normalize=False)


def test_airport_has_training_degrees_and_hides_the_label():
    star = [[0, k] for k in range(8)]  # one of them a self loop, which counts once
    graph = make_graph(star, 8, np.arange(40.0).reshape(8, 5) + 1, name="airport")
    link = node_inputs(graph, "link", graph.edges, normalize=False)
    assert np.array_equal(link[:, :5], graph.features)
    assert link[:, 5:11].argmax(axis=1).tolist() == [5, 1, 1, 1, 1, 1, 1, 1]
    assert (link[:, 5:11].sum(axis=1) == 1).all()
    assert (link[:, 11] == 1).all()
    fewer = node_inputs(graph, "link", graph.edges[:4], normalize=True)
    assert fewer[:, 5:11].argmax(axis=1).tolist() == [4, 1, 1, 1, 0, 0, 0, 0]
    assert np.allclose(fewer[:, :5].sum(axis=1), 1)

    node = node_inputs(graph, "node", graph.edges, normalize=True)
    changed = graph.features.copy()
    changed[:, 4] = -7
    other = node_inputs(dataclasses.replace(graph, features=changed), "node", graph.edges, normalize=True)
    assert node.shape == (8, 11)
    assert np.array_equal(node, other)


def test_structure_stands_in_for_missing_features(monkeypatch):
    edges = [[0, k] for k in range(1, 9)]
    unknown = make_graph(edges, 400)
    assert np.array_equal(node_inputs(unknown, "node", unknown.edges, normalize=True), np.eye(400))
    partly = make_graph(edges, 400, np.full((400, 3), np.nan), known=np.array([1]))
    assert np.isfinite(node_inputs(partly, "link", unknown.edges, normalize=False)).all()

    monkeypatch.setattr("loupe.data.graph_tasks.IDENTITY_NODES", 399)
    for degree, level in [(0, 0), (1, 1), (2, 2), (3, 2), (4, 3), (127, 7), (128, 8), (399, 8)]:
        star = np.array([[0, k] for k in range(1, degree + 1)], np.int64).reshape(-1, 2)
        inputs = node_inputs(unknown, "link", star, normalize=True)
        assert inputs.shape == (400, 10)
        assert np.flatnonzero(inputs[0]).tolist() == [level, 9]
        assert (inputs[:, 9] == 1).all()


@given(st.integers(2, 300), st.integers(0, 2**32))
@SHAPED
def test_disease_spreads_from_parent_to_child(num_nodes, seed):
    tree = disease_tree(num_nodes, seed)
    parents, children = tree.edges.T
    assert np.array_equal(np.sort(children), np.arange(1, num_nodes))
    assert (parents < children).all()
    assert np.bincount(parents).max() <= 4
    assert np.array_equal(tree.edges, np.unique(tree.edges, axis=0))
    assert tree.features.shape == (num_nodes, 11)
    assert tree.features.dtype == np.float64
    assert tree.labels[0] == 1
    assert (tree.labels[children] <= tree.labels[parents]).all()
    again = disease_tree(num_nodes, seed)
    assert np.array_equal(tree.edges, again.edges)
    assert np.array_equal(tree.features, again.features)
    assert f"{tree.labels.mean():.1%} of {num_nodes} nodes" in tree.notes


def test_disease_has_its_distributions():
    tree = disease_tree(20_000, 0)
    susceptibility, others = tree.features[:, 0], tree.features[:, 1:]
    assert abs(susceptibility.mean()) < 0.04
    assert abs(susceptibility.std() - 1) < 0.03
    slopes = others.T @ susceptibility / (susceptibility @ susceptibility)
    rest = others - np.outer(susceptibility, slopes)
    assert np.abs(rest.std(axis=0) - 1).max() < 0.03
    assert slopes.std() > 0.3
    trees = [disease_tree(200, seed) for seed in range(200)]
    exposed = [tree.labels[tree.edges[tree.labels[tree.edges[:, 0]] == 1, 1]] for tree in trees]
    assert np.concatenate(exposed).mean() == pytest.approx(0.606, abs=0.03)
    refused("at least 2 nodes, got num_nodes=1", disease_tree, 1, 0)

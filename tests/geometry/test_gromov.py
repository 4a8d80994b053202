"""Hop distances against scipy's, and the four-point delta against brute force and closed forms."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import coo_array
from scipy.sparse.csgraph import shortest_path

from loupe.geometry.gromov import gromov_delta, hop_distances, random_tuples


def path(n):
    return np.stack([np.arange(n - 1), np.arange(1, n)], axis=1)


def cycle(n):
    return np.stack([np.arange(n), (np.arange(n) + 1) % n], axis=1)


def random_tree(n, seed):
    child = np.arange(1, n)
    return np.stack([np.random.default_rng(seed).integers(child), child], axis=1)


@st.composite
def graphs(draw, smallest=1, largest=90):
    """Edges, with repetitions and self loops, and the number of nodes."""
    n = draw(st.integers(smallest, largest))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    return rng.integers(n, size=(draw(st.integers(0, 3 * n)), 2)), n


@given(graphs())
@settings(deadline=None, max_examples=50)
def test_hops_agree_with_another_search(case):
    edges, n = case
    adjacency = coo_array((np.ones(len(edges)), edges.T), shape=(n, n)).tocsr()
    expected = shortest_path(adjacency, directed=False, unweighted=True)
    expected[np.isinf(expected)] = 255
    distances = hop_distances(edges, n)
    assert distances.dtype == np.uint8
    assert np.array_equal(distances, expected)
    sources = np.random.default_rng(n).integers(n, size=5)
    assert np.array_equal(hop_distances(edges, n, sources=sources), expected[sources])


def test_sources_in_blocks_give_the_same(monkeypatch):
    edges = random_tree(300, seed=1)
    whole = hop_distances(edges, 300)
    monkeypatch.setattr("loupe.geometry.gromov.GATHER_BYTES", 1)
    assert np.array_equal(hop_distances(edges, 300), whole)


def test_the_longest_path_that_fits_in_a_byte():
    distances = hop_distances(path(255), 256)
    assert distances[0].tolist() == [*range(255), 255]
    with pytest.raises(ValueError, match="more than 254 edges"):
        hop_distances(path(256), 256)


@pytest.mark.parametrize(
    ("edges", "sources", "message"),
    [
        ([[0, 4]], None, "edges must name nodes from 0 to 3, got 0 to 4"),
        ([[-1, 2]], None, "edges must name nodes from 0 to 3, got -1 to 2"),
        ([[0, 1]], [4], "sources must be node indices"),
        ([[0.0, 1.0]], None, "got float64"),
    ],
)
def test_hops_name_bad_nodes(edges, sources, message):
    with pytest.raises(ValueError, match=message):
        hop_distances(np.array(edges), 4, sources=sources)


def brute_force(distances):
    deltas = []
    for i, j, k, m in combinations(range(len(distances)), 4):
        six = [distances[pair] for pair in ((i, j), (k, m), (i, k), (j, m), (i, m), (j, k))]
        if max(six) < 255:
            sums = sorted(int(six[s]) + int(six[s + 1]) for s in (0, 2, 4))
            deltas.append((sums[2] - sums[1]) / 2)
    return deltas


@given(graphs(smallest=4, largest=10))
@settings(deadline=None, max_examples=50)
def test_delta_of_all_tuples_agrees_with_brute_force(case):
    distances = hop_distances(*case)
    expected = brute_force(distances)
    if not expected:
        with pytest.raises(ValueError, match="largest connected component"):
            gromov_delta(distances)
        return
    delta = gromov_delta(distances)
    assert delta.finite == len(expected)
    assert delta.maximum == max(expected)
    assert delta.mean == pytest.approx(np.mean(expected), abs=1e-12)


@pytest.mark.parametrize("k", [1, 2, 3, 8])
def test_a_cycle_of_4k_nodes_has_delta_k(k):
    assert gromov_delta(hop_distances(cycle(4 * k), 4 * k)).maximum == k


@pytest.mark.parametrize("n", [5, 9, 13])
def test_a_cycle_of_4k_and_one_has_delta_less_by_a_half(n):
    assert gromov_delta(hop_distances(cycle(n), n)).maximum == (n - 1) / 4 - 0.5


@pytest.mark.parametrize("seed", range(3))
def test_a_tree_has_delta_zero(seed):
    distances = hop_distances(random_tree(60, seed), 60)
    for delta in (gromov_delta(distances), gromov_delta(distances, samples=5000)):
        assert delta.maximum == delta.mean == 0
    assert gromov_delta(distances).finite == 487_635  # 60 over 4


def test_a_complete_graph_has_delta_zero():
    distances = 1 - np.eye(12, dtype=np.uint8)
    assert gromov_delta(distances).maximum == gromov_delta(distances, samples=1000).maximum == 0


def test_components_are_taken_by_themselves():
    edges = np.concatenate([cycle(8), 8 + cycle(4)])
    delta, alone = gromov_delta(hop_distances(edges, 13)), gromov_delta(hop_distances(cycle(8), 8))
    assert delta.finite == alone.finite + 1 == 71
    assert (delta.maximum, delta.mean) == (2, (70 * alone.mean + 1) / 71)


def test_samples_agree_with_all_tuples():
    distances = hop_distances(np.concatenate([cycle(24), 24 + cycle(8)]), 32)
    every, some = gromov_delta(distances), gromov_delta(distances, samples=400_000)
    assert some.maximum == every.maximum == 6
    share = every.finite / 35_960  # 32 over 4
    assert some.finite / 400_000 == pytest.approx(share, abs=5 * np.sqrt(share * (1 - share) / 400_000))
    assert some.mean == pytest.approx(every.mean, abs=5 * 6 / np.sqrt(some.finite))
    assert gromov_delta(distances, samples=100) == gromov_delta(distances, samples=100)
    assert gromov_delta(distances, samples=100) != gromov_delta(distances, samples=100, seed=1)


def test_random_tuples_are_uniform_and_without_repetition():
    tuples = random_tuples(5, 60_000, np.random.default_rng(0))
    codes, counts = np.unique(5 ** np.arange(4) @ tuples, return_counts=True)
    assert len(codes) == 120  # all ordered choices of 4 among 5
    assert all(len(set(column)) == 4 for column in tuples.T[:500].tolist())
    assert np.abs(counts - 500).max() < 5 * np.sqrt(500)


@pytest.mark.parametrize(
    ("distances", "options", "message"),
    [
        (np.zeros((4, 4)), {}, "square uint8 matrix, as of hop_distances; got float64"),
        (np.zeros((4, 5), np.uint8), {}, r"shape \(4, 5\)"),
        (np.zeros((3, 3), np.uint8), {}, "at least 4 nodes, got 3"),
        (np.zeros((4, 4), np.uint8), {"samples": 0}, "samples .* must be a positive whole number, got 0"),
        (np.zeros((401, 401), np.uint8), {}, "give samples=50_000"),
    ],
)
def test_delta_says_what_is_wrong(distances, options, message):
    with pytest.raises(ValueError, match=message):
        gromov_delta(distances, **options)

"""Bad input by kinds, in every room of methods: edge lists, masked and sparse arrays, degrees and counts, distances."""

import numpy as np
import pytest
import scipy.sparse
import torch

from loupe.checks import edge_list, of_shape, unmasked, whole
from loupe.data.graph_tasks import message_edges, node_degrees
from loupe.dynamics.neural_operator import input_features, rollout
from loupe.dynamics.simulators import simulate_charged
from loupe.dynamics.windows import bonded
from loupe.geometry import PoincareBall, frechet_mean, graph_frechet_mean
from loupe.geometry.gromov import gromov_delta, hop_distances
from loupe.geometry.networks import frechet_aggregation, link_logits, tangent_aggregation
from loupe.metrics import images, mauve, rank_correlation, text
from loupe.networks.egnn import EGNNLayer, Graph
from loupe.networks.mlp import NoiseMLP
from loupe.networks.transformer import Transformer
from loupe.topology import (
    DimensionPenalty,
    best_plane,
    differentiable_ph_dimension,
    h0_lifetimes,
    lifetime_sum,
    loss_distances,
    magnitude,
    mle_dimension,
    pairwise_distances,
    persistence_diagrams,
    ph_dimension,
    surrogate_paths,
    two_nn,
)

BALL = PoincareBall()
POINTS = 0.3 * torch.rand(5, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
PATH = np.array([[0, 1], [1, 2], [2, 3], [3, 4], [4, 0]])
AS_ROWS = {
    "hop_distances": lambda edges: hop_distances(edges, 5),
    "message_edges": lambda edges: message_edges(edges, 5),
    "node_degrees": lambda edges: node_degrees(edges, 5),
    "link_logits": lambda edges: link_logits(POINTS, edges, BALL),
}
AS_COLUMNS = {
    "Graph": lambda edges: Graph(edges, 5),
    "graph_frechet_mean": lambda edges: graph_frechet_mean(POINTS, edges),
    "tangent_aggregation": lambda edges: tangent_aggregation(POINTS, edges, BALL),
    "frechet_aggregation": lambda edges: frechet_aggregation(POINTS, edges, BALL),
    "bonded": lambda edges: bonded(edges, 5),
}
SPOILT = {
    "transposed": (lambda e: e.T, "transpose them"),
    "floats": (lambda e: e * 1.0, "must be integers .* float64"),
    "booleans": (lambda e: e > 1, "must be integers .* bool"),
    "too large": (lambda e: e + 1, "name nodes from 0 to 4, got 1 to 5"),
    "negative": (lambda e: e - 1, "name nodes from 0 to 4, got -1 to 3"),
    "flat": (lambda e: e.reshape(-1), "shape"),
    "deep": (lambda e: e[None], "shape"),
}


@pytest.mark.parametrize("fault", SPOILT)
@pytest.mark.parametrize("name", [*AS_ROWS, *AS_COLUMNS])
def test_edge_lists(name, fault):
    spoil, match = SPOILT[fault]
    rows = name in AS_ROWS
    call = AS_ROWS[name] if rows else AS_COLUMNS[name]
    good = PATH if rows else PATH.T
    tensors = name not in ("hop_distances", "message_edges", "node_degrees")

    def given(edges):
        return torch.from_numpy(np.ascontiguousarray(edges)) if tensors else edges

    wanted = call(given(good))
    with pytest.raises(ValueError, match=match):
        call(given(spoil(good)))
    if name != "Graph":
        for dtype in (np.int32, np.uint8, np.uint16):
            found = call(given(good.astype(dtype)))
            same = torch.as_tensor(np.asarray(found[0] if name == "bonded" else found))
            assert torch.equal(same, torch.as_tensor(np.asarray(wanted[0] if name == "bonded" else wanted)))


def masked(values):
    return np.ma.masked_array(values, mask=np.arange(np.size(values)).reshape(np.shape(values)) == 3)


ROWS = np.random.default_rng(0).random((30, 3))
COLUMN, IDS = np.arange(6.0), np.random.default_rng(0).integers(27, size=(64, 54))
DISTANCES = pairwise_distances(ROWS)
TAKERS = {
    "kendall": (COLUMN, lambda v: rank_correlation.kendall(v, COLUMN)),
    "kendall, second": (COLUMN, lambda v: rank_correlation.kendall(COLUMN, v)),
    "permutation_test": (COLUMN, lambda v: rank_correlation.permutation_test(COLUMN, COLUMN, strata=v)),
    "partial_kendall": (COLUMN, lambda v: rank_correlation.partial_kendall(COLUMN, COLUMN, v)),
    "granulated_kendall": (COLUMN, lambda v: rank_correlation.granulated_kendall(COLUMN, COLUMN, {"a": v})),
    "bootstrap_kendall": (COLUMN, lambda v: rank_correlation.bootstrap_kendall(v, COLUMN)),
    "frechet_distance": (ROWS, lambda v: images.frechet_distance(v, ROWS)),
    "energy_distance": (ROWS, lambda v: images.energy_distance(ROWS, v)),
    "sliced_wasserstein": (ROWS, lambda v: images.sliced_wasserstein(v, ROWS)),
    "class_score": (np.full((8, 4), 0.25), images.class_score),
    "divergence_area": (np.full(4, 0.25), lambda v: mauve.divergence_area(v, np.full(4, 0.25))),
    "mauve27": (IDS, lambda v: mauve.mauve27(v, IDS)),
    "unigram_entropy": (IDS, text.unigram_entropy),
    "bigram_total_variation": (np.full((27, 27), 1 / 729), lambda v: text.bigram_total_variation(IDS, v)),
    "loglog_fit": (1 + COLUMN, lambda v: text.loglog_fit(1 + COLUMN, v)),
    "pairwise_distances": (ROWS, pairwise_distances),
    "h0_lifetimes": (ROWS, h0_lifetimes),
    "h0_lifetimes by prim": (ROWS, lambda v: h0_lifetimes(v, method="prim")),
    "h0_lifetimes of distances": (DISTANCES, lambda v: h0_lifetimes(distances=v)),
    "persistence_diagrams": (ROWS, persistence_diagrams),
    "ph_dimension": (ROWS, lambda v: ph_dimension(v, sizes=[10, 20, 30])),
    "sizes": (np.arange(5, 30), lambda v: ph_dimension(ROWS, sizes=v)),
    "two_nn": (ROWS, two_nn),
    "best_plane": (DISTANCES, best_plane),
    "loss_distances": (ROWS, loss_distances),
    "magnitude": (DISTANCES, lambda v: magnitude(v, 1.0)),
    "surrogate_paths": (DISTANCES, lambda v: surrogate_paths(v, np.random.default_rng(0))),
    "hop_distances": (PATH, lambda v: hop_distances(v, 5)),
    "sources": (np.arange(5), lambda v: hop_distances(PATH, 5, sources=v)),
    "gromov_delta": (hop_distances(PATH, 5), gromov_delta),
    "node_degrees": (PATH, lambda v: node_degrees(v, 5)),
    "simulate_charged": (
        np.random.default_rng(0).random((2, 3, 3)),
        lambda v: simulate_charged(v, np.ones((2, 3, 3)), np.ones((2, 3, 1)), steps=2, save_every=1),
    ),
}


@pytest.mark.parametrize("name", TAKERS)
def test_masked_arrays_are_refused_and_those_that_hide_nothing_taken(name):
    values, call = TAKERS[name]
    with pytest.raises(ValueError, match="masked array"):
        call(masked(values))
    call(np.ma.masked_array(values, mask=False))


def test_the_masked_column_of_the_report():
    with pytest.raises(ValueError, match=r"x is a masked array.*leave those entries out"):
        rank_correlation.kendall(np.ma.masked_equal([0, 1, 2, -999, 4, 5], -999), range(6))
    with pytest.raises(ValueError, match="masked array"):
        rank_correlation.bootstrap_kendall([COLUMN, masked(COLUMN)], COLUMN)


SPARSE = {
    "csr": scipy.sparse.csr_matrix,
    "coo": scipy.sparse.coo_array,
    "torch": lambda v: torch.from_numpy(v).to_sparse(),
    "torch csr": lambda v: torch.from_numpy(v).to_sparse_csr(),
}


@pytest.mark.filterwarnings("ignore:Sparse .* tensor support is in beta")
@pytest.mark.parametrize("kind", SPARSE)
def test_sparse_matrices_are_one_sentence(kind):
    given = SPARSE[kind](DISTANCES)
    for call in (
        lambda: h0_lifetimes(distances=given),
        lambda: h0_lifetimes(given),
        lambda: persistence_diagrams(distances=given),
        lambda: ph_dimension(distances=given),
        lambda: lifetime_sum(distances=given),
        lambda: magnitude(given, 1.0),
        lambda: two_nn(distances=given),
        lambda: images.energy_distance(given, given),
        lambda: gromov_delta(given),
    ):
        with pytest.raises(ValueError, match=r"is sparse.*(toarray|to_dense)"):
            call()


def correlation():
    return 1 - np.corrcoef(np.random.default_rng(0).random((60, 5)))


def single():
    x = torch.rand(200, 3, generator=torch.Generator().manual_seed(0)) + 3
    return torch.cdist(x, x, compute_mode="use_mm_for_euclid_dist")


ROUNDED = {
    "correlation": correlation,
    "torch.cdist in float32": single,
    "the same in numpy": lambda: single().numpy(),
    "below zero": lambda: DISTANCES - 1e-17 * np.eye(30),
    "asymmetric": lambda: np.float32(DISTANCES) * (1 + 1e-6 * np.triu(np.ones((30, 30)))).astype(np.float32),
}


@pytest.mark.parametrize("name", ROUNDED)
def test_distances_with_rounding_are_taken(name):
    given = ROUNDED[name]()
    clean = np.maximum((np.asarray(given, np.float64) + np.asarray(given, np.float64).T) / 2, 0)
    np.fill_diagonal(clean, 0)
    for call in (
        h0_lifetimes,
        lifetime_sum,
        two_nn,
        lambda distances: ph_dimension(distances=distances, sizes=[10, 20, 30]),
    ):
        found, wanted = call(distances=given), call(distances=clean)
        if hasattr(found, "dimension"):
            found, wanted = found.dimension, wanted.dimension
        np.testing.assert_allclose(np.asarray(found), np.asarray(wanted), rtol=1e-5)
    assert np.isfinite(magnitude(given, 1.0))
    assert len(surrogate_paths(given, np.random.default_rng(0))) == 4


def test_distances_that_are_none():
    for spoil, match in (
        (lambda d: d + 1e-3 * d.max() * np.eye(30), "zero on the diagonal"),
        (lambda d: d + np.eye(30), "zero on the diagonal"),
        (lambda d: d - 0.01 * np.eye(30), "not be negative"),
        (lambda d: np.where(d == d.max(), -1e-9, d), "not be negative"),
        (lambda d: d + 1e-3 * d.max() * np.triu(np.ones((30, 30)), 1), "symmetric"),
        (lambda d: np.eye(30), "zero on the diagonal"),
        (lambda d: d[:, :-1], "square"),
        (lambda d: d * np.nan, "NaN"),
    ):
        with pytest.raises(ValueError, match=match):
            h0_lifetimes(distances=spoil(DISTANCES))
    with pytest.raises(ValueError, match="distances must be a non-empty matrix"):
        h0_lifetimes(distances=DISTANCES[0])


def test_degrees_of_homology():
    wanted = persistence_diagrams(ROWS, homology_dimensions=(1,))
    for one in (1, np.int64(1), (1,), [1], np.array([1]), np.array(1), range(1, 2), (np.uint8(1),)):
        found = persistence_diagrams(ROWS, homology_dimensions=one)
        assert len(found) == 1
        assert np.array_equal(found[0], wanted[0])
    for bad in (-1, (-1,), 1.5, (1.5,), (0, 1.0), True, "1", None):
        with pytest.raises(ValueError, match="homology_dimensions must be a whole number of at least 0"):
            persistence_diagrams(ROWS, homology_dimensions=bad)
    with pytest.raises(ValueError, match="at least one degree"):
        persistence_diagrams(ROWS, homology_dimensions=())


COUNTS = {
    "EGNNLayer": lambda n: EGNNLayer(n(4), n(2)),
    "Graph": lambda n: Graph(torch.from_numpy(PATH.T), n(5), graphs=n(1)),
    "NoiseMLP": lambda n: NoiseMLP(n(2), width=n(8), layers=n(2)),
    "Transformer": lambda n: Transformer(n(5), width=n(8), heads=n(2), blocks=n(1), condition=n(4)),
    "mle_dimension": lambda n: mle_dimension(ROWS, k=n(5)),
    "repeats": lambda n: ph_dimension(ROWS, sizes=[10, 20, 30], repeats=n(2)).dimension,
    "penalty": lambda n: DimensionPenalty(n(3), window=n(60)),
    "draws": lambda n: rank_correlation.permutation_test(COLUMN, COLUMN, draws=n(20)),
    "projections": lambda n: images.sliced_wasserstein(ROWS, ROWS, projections=n(3)),
    "num_nodes": lambda n: hop_distances(PATH, n(5)),
    "samples": lambda n: gromov_delta(hop_distances(PATH, 5), samples=n(20)),
    "symbols": lambda n: text.unigram_entropy(IDS, n(27)),
    "max_iterations": lambda n: frechet_mean(POINTS, max_iterations=n(50)),
}


@pytest.mark.parametrize("name", COUNTS)
def test_counts_of_any_integer_type_and_of_no_other(name):
    def value(found):
        if isinstance(found, torch.nn.Module):
            return [p.shape for p in found.parameters()]
        found = found.edges if isinstance(found, Graph) else getattr(found, "sizes", found)
        return found.tolist() if hasattr(found, "tolist") else found

    for kind in (np.int64, np.int32, np.uint16):
        np.testing.assert_equal(value(COUNTS[name](kind)), value(COUNTS[name](int)))
    for kind in (float, lambda n: n + 0.5, str, lambda n: True, lambda n: -n):
        with pytest.raises(ValueError, match="whole number"):
            COUNTS[name](kind)


def test_sizes_of_any_integer_type():
    wanted = ph_dimension(ROWS, sizes=[10, 20, 30])
    for dtype in (np.uint8, np.uint16, np.int32):
        found = ph_dimension(ROWS, sizes=np.array([10, 20, 30], dtype))
        assert found.dimension == wanted.dimension
        with pytest.raises(ValueError, match="increasing integers"):
            ph_dimension(ROWS, sizes=np.array([30, 20, 10], dtype))
    for sizes in ([10.0, 20.0, 30.0], [10, 20, 20], [True, False, True], 10):
        with pytest.raises(ValueError, match="increasing integers"):
            ph_dimension(ROWS, sizes=sizes)


def test_the_penalty_has_a_first_derivative_only():
    penalty = DimensionPenalty(2, window=40)
    for w in torch.rand(39, 2, generator=torch.Generator().manual_seed(1)):
        penalty(w)
    w = torch.rand(2, generator=torch.Generator().manual_seed(2)).requires_grad_()
    value = penalty(w)
    assert torch.autograd.grad(value, w, retain_graph=True)[0].abs().sum() > 0
    for call in (
        lambda: torch.autograd.grad(value, w, create_graph=True, retain_graph=True),
        lambda: torch.autograd.grad(2 * value.sin(), w, create_graph=True, retain_graph=True),
        lambda: value.backward(create_graph=True, retain_graph=True),
    ):
        with pytest.raises(RuntimeError, match="the dimension penalty has a first derivative only"):
            call()


def test_lifetimes_have_second_derivatives():
    x = torch.rand(12, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for function in (
        lambda x: lifetime_sum(x, 1.5),
        lambda x: differentiable_ph_dimension(x, [range(4), range(8), range(12)]),
    ):
        assert torch.autograd.gradgradcheck(function, x.clone().requires_grad_())


def test_the_checks_themselves():
    assert whole("n", torch.tensor(3)) == 3
    assert type(whole("n", np.uint8(200))) is int
    assert of_shape("x", POINTS, (5, 2)) is POINTS
    assert unmasked("x", [1, 2]) == [1, 2]
    assert edge_list(np.zeros((0, 2)), 3, axis=1).dtype == np.int64


def test_states_and_predictions_have_the_shape_of_the_graph():
    graph, x = Graph.complete(2, 3), torch.rand(6, 3)
    for bad in (x[:1], x[:, :1], x[None], torch.rand(7, 3)):
        with pytest.raises(ValueError, match="must have shape"):
            input_features(bad, x, graph)
        with pytest.raises(ValueError, match="must have shape"):
            input_features(x, bad, graph)

        def model(x, v, features, graph, edges, bad=bad):
            return bad[None]

        with pytest.raises(ValueError, match="the prediction must have shape"):
            rollout(model, x, x, 2, None, graph)

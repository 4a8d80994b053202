import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist

from loupe.topology import best_plane, h0_lifetimes, pairwise_distances
from loupe.topology.distances import BLOCK_BYTES, DIRECT_COLUMNS, centered_gram

WIDE = DIRECT_COLUMNS + 8


def walk(steps, dimension, step_length, norm, rng):
    """A trajectory as training leaves it: a far starting point and tiny steps, shape (steps, dimension)."""
    moves = rng.standard_normal((steps, dimension)) * step_length / np.sqrt(dimension)
    start = rng.standard_normal(dimension)
    return norm * start / np.linalg.norm(start) + np.cumsum(moves, axis=0)


@pytest.mark.parametrize(
    "shape", [(1, 3), (2, 1), (30, 5), (30, WIDE), (1, WIDE), (400, BLOCK_BYTES // 1000)]
)
def test_equal_to_direct_differences_in_every_route_and_over_several_blocks(shape, rng):
    points = rng.standard_normal(shape)
    found = pairwise_distances(points)
    assert found.shape == (shape[0], shape[0])
    assert found.dtype == np.float64
    assert np.array_equal(found, found.T)
    assert not found.diagonal().any()
    some = slice(0, 20)
    np.testing.assert_allclose(found[some], cdist(points[some], points), rtol=1e-11, atol=1e-13)


def test_float32_walk_far_from_the_origin_keeps_its_distances(rng):
    path = walk(300, 20_000, step_length=1e-3, norm=50, rng=rng)
    stored = path.astype(np.float32)
    upper = np.triu_indices(300, 1)
    found = pairwise_distances(stored)[upper]
    assert found.min() > 0
    np.testing.assert_allclose(found, pairwise_distances(path)[upper], rtol=1e-4)
    exact = [np.linalg.norm(stored[i].astype(float) - stored[j]) for i, j in zip(*upper, strict=True)]
    np.testing.assert_allclose(found, exact, rtol=1e-9)


def test_the_trap_is_real(rng):
    stored = torch.as_tensor(walk(300, 20_000, step_length=1e-3, norm=50, rng=rng), dtype=torch.float32)
    naive = torch.cdist(stored, stored)[np.triu_indices(300, 1)]
    assert (naive == 0).float().mean() > 0.5


@pytest.mark.parametrize("columns", [3, WIDE])
def test_duplicate_rows_are_exactly_at_zero(columns, rng):
    points = np.repeat(rng.standard_normal((20, columns)) * 1e3, 3, axis=0)
    points = points[rng.permutation(60)]
    found = pairwise_distances(points)
    same = (points[:, None] == points).all(axis=-1)
    assert np.array_equal(found == 0, same)


def test_rows_that_nearly_coincide_are_resolved_at_every_scale(rng):
    direction = np.linalg.qr(rng.standard_normal((WIDE, 1)))[0][:, 0]
    along = np.array([0, 1, 1 + 1e-3, 1 + 1e-6, 1 + 1e-6 + 1e-9, 1 + 1e-6 + 1e-9])
    points = along[:, None] * direction
    exact = cdist(points, points)
    np.testing.assert_allclose(pairwise_distances(points), exact, rtol=1e-5, atol=1e-16)


def test_mostly_duplicates_as_when_training_has_stopped(rng):
    points = np.repeat(rng.standard_normal((2, WIDE)), [5, 195], axis=0)
    distance = np.linalg.norm(points[0] - points[-1])
    found = pairwise_distances(points)
    assert not found[5:, 5:].any()
    assert not found[:5, :5].any()
    np.testing.assert_allclose(found[:5, 5:], distance, rtol=1e-14)


@pytest.mark.parametrize("columns", [3, WIDE])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64])
def test_tensors_of_every_width_match_arrays(columns, dtype, rng):
    points = torch.as_tensor(100 * rng.standard_normal((20, columns))).to(dtype)
    np.testing.assert_array_equal(pairwise_distances(points), pairwise_distances(points.double().numpy()))


def test_tensors_are_used_detached():
    assert pairwise_distances(torch.eye(3, requires_grad=True))[0, 1] == np.sqrt(2)


def test_gram_matrix_on_a_tensor_is_that_of_the_array(rng):
    points = rng.standard_normal((30, BLOCK_BYTES // 100)).astype(np.float32)
    rows = np.array([4, 0, 9, 9])
    gram = centered_gram(torch.as_tensor(points), rows)
    assert np.array_equal(gram, gram.T)
    np.testing.assert_allclose(gram, centered_gram(points, rows), rtol=1e-12)


def test_memory_map_and_lists_and_integers(tmp_path, rng):
    stored = np.lib.format.open_memmap(tmp_path / "w.npy", mode="w+", dtype=np.float32, shape=(12, WIDE))
    stored[:] = rng.standard_normal((12, WIDE))
    np.testing.assert_array_equal(pairwise_distances(stored), pairwise_distances(np.array(stored)))
    assert pairwise_distances([[0, 0], [3, 4]])[0, 1] == 5


@given(st.integers(0, 2**32 - 1), st.floats(-1e3, 1e3), st.sampled_from([2, WIDE]))
@settings(max_examples=25, deadline=None)
def test_invariant_under_translation_and_rotation(seed, shift, dimension):
    rng = np.random.default_rng(seed)
    points = rng.standard_normal((12, dimension))
    rotation, _ = np.linalg.qr(rng.standard_normal((dimension, dimension)))
    found = pairwise_distances(points @ rotation + shift)
    np.testing.assert_allclose(found, pairwise_distances(points), rtol=0, atol=1e-11)


@pytest.mark.parametrize("columns", [3, WIDE])
@pytest.mark.parametrize("row", [0, 7])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.filterwarnings("ignore:invalid value")
def test_first_row_that_is_not_finite_is_named(columns, row, value, rng):
    points = rng.standard_normal((10, columns))
    points[row:, 1] = value
    with pytest.raises(ValueError, match=rf"row {row} holds NaN or infinity"):
        pairwise_distances(points)


@pytest.mark.parametrize("points", [np.zeros(3), np.zeros((2, 2, 2)), np.zeros((0, 3)), np.zeros((3, 0))])
def test_points_must_be_a_matrix(points):
    with pytest.raises(ValueError, match="points must be a non-empty matrix"):
        pairwise_distances(points)


@pytest.mark.parametrize("points", [np.eye(3) * 1j, np.array([["a"]])])
def test_points_must_be_real_numbers(points):
    with pytest.raises(ValueError, match="points must be real numbers"):
        pairwise_distances(points)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d[:, :-1], "square"),
        (lambda d: d + np.eye(4), "zero on the diagonal"),
        (lambda d: -d, "must not be negative"),
        (np.triu, "symmetric"),
        (lambda d: (np.arange(4) - np.arange(4)[:, None]) % 4, "symmetric"),  # as round a one-way street
        (lambda d: np.where(d > 2, np.nan, d), "row 0 holds NaN"),
        (lambda d: np.where(d > 2, np.inf, d), "row 0 holds NaN"),
    ],
)
def test_distance_matrices_that_are_none_are_refused(change, message):
    distances = cdist(np.arange(4.0)[:, None], np.arange(4.0)[:, None])
    with pytest.raises(ValueError, match=message):
        h0_lifetimes(distances=change(distances))


def test_one_wrong_entry_of_many_is_found(rng):
    distances = pairwise_distances(rng.random((1000, 2)))
    distances[700, 3] *= 1.01
    with pytest.raises(ValueError, match="symmetric"):
        h0_lifetimes(distances=distances)


def test_rounding_may_break_symmetry(rng):
    distances = pairwise_distances(rng.random((300, 2)))
    rounded = distances * (1 + 1e-7 * rng.random((300, 300)))
    np.testing.assert_allclose(h0_lifetimes(distances=rounded), h0_lifetimes(distances=distances), rtol=1e-6)
    by_prim = h0_lifetimes(distances=rounded, method="prim")
    np.testing.assert_allclose(by_prim, h0_lifetimes(distances=rounded), rtol=1e-12)
    np.testing.assert_allclose(by_prim, h0_lifetimes(distances=rounded.T), rtol=1e-12)


def test_points_or_distances_but_not_both():
    with pytest.raises(ValueError, match="either points or distances"):
        h0_lifetimes()
    with pytest.raises(ValueError, match="either points or distances"):
        h0_lifetimes(np.eye(2), distances=1 - np.eye(2))
    with pytest.raises(ValueError, match="at least 2 points"):
        h0_lifetimes(np.eye(1))


def test_the_best_plane_is_that_of_the_principal_components():
    points = np.random.default_rng(0).normal(size=(30, 5)) * (5, 3, 1, 1, 1)
    plane = best_plane(pairwise_distances(points))
    centered = points - points.mean(axis=0)
    expected = centered @ np.linalg.svd(centered)[2][:2].T
    np.testing.assert_allclose(np.abs(plane), np.abs(expected), atol=1e-9)
    np.testing.assert_allclose(pairwise_distances(plane), pairwise_distances(expected), atol=1e-9)
    with pytest.raises(ValueError, match="square"):
        best_plane(points)

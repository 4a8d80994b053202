"""Magnitude against closed forms (Leinster 2013), its limits, and points that coincide."""

import numpy as np
import pytest

from loupe.topology import magnitude, magnitude_weights, pairwise_distances, positive_magnitude

SCALES = [0.01, 0.7, 5.0]


@pytest.mark.parametrize("scale", SCALES)
def test_two_points(scale):
    distance = 1.3
    expected = 2 / (1 + np.exp(-scale * distance))
    assert magnitude([[0, distance], [distance, 0]], scale) == pytest.approx(expected, rel=1e-14)


@pytest.mark.parametrize("scale", SCALES)
def test_equidistant_points(scale):
    n, distance = 7, 0.8
    expected = n / (1 + (n - 1) * np.exp(-scale * distance))
    distances = distance * (1 - np.eye(n))
    assert magnitude(distances, scale) == pytest.approx(expected, rel=1e-12)
    assert positive_magnitude(distances, scale) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("scale", SCALES)
def test_points_on_a_line(scale, rng):
    gaps = rng.uniform(0.1, 2, 20)
    points = np.append(0, gaps.cumsum())
    found = magnitude(np.abs(points[:, None] - points), scale)
    assert found == pytest.approx(1 + np.tanh(scale * gaps / 2).sum(), rel=1e-10)


def test_limits_of_the_scale(sample):
    distances = pairwise_distances(sample)
    distinct = len(np.unique(sample, axis=0))
    nearest = distances[distances > 0].min()
    assert magnitude(distances, 100 / nearest) == pytest.approx(distinct, rel=1e-12)
    assert magnitude(distances, 1e-6) == pytest.approx(1, abs=1e-4)


def test_weights_solve_their_equation_and_units_do_not_matter(rng):
    distances = pairwise_distances(rng.standard_normal((50, 6)))
    weights = magnitude_weights(distances, 2.0)
    np.testing.assert_allclose(np.exp(-2 * distances) @ weights, 1, rtol=1e-12)
    np.testing.assert_allclose(magnitude_weights(1e3 * distances, 2e-3), weights, rtol=1e-9)
    order = rng.permutation(50)
    np.testing.assert_allclose(
        magnitude_weights(distances[np.ix_(order, order)], 2.0), weights[order], rtol=1e-9
    )


def test_positive_magnitude_leaves_negative_weights_out():
    ring = np.exp(2j * np.pi * np.arange(12) / 12)
    # Two points near the center of a circle: the shadow of one falls on the other.
    points = np.append(ring, [0, 0.02])
    distances = np.abs(points[:, None] - points)
    weights = magnitude_weights(distances, 1.0)
    assert (weights < 0).any()
    assert positive_magnitude(distances, 1.0) == pytest.approx(weights[weights > 0].sum(), rel=1e-14)
    assert positive_magnitude(distances, 1.0) > magnitude(distances, 1.0)


def test_duplicates_do_not_matter_and_share_their_weight(rng):
    points = rng.standard_normal((20, 3))
    copies = np.repeat(np.arange(20), rng.integers(1, 4, 20))
    distances, repeated = pairwise_distances(points), pairwise_distances(points[copies])
    weights, shared = magnitude_weights(distances, 1.5), magnitude_weights(repeated, 1.5)
    np.testing.assert_allclose(np.bincount(copies, shared), weights, rtol=1e-11)
    assert positive_magnitude(repeated, 1.5) == pytest.approx(positive_magnitude(distances, 1.5), rel=1e-11)
    assert magnitude(np.zeros((4, 4)), 1.0) == 1


@pytest.mark.parametrize("gap", 10.0 ** -np.arange(5, 20))
def test_near_duplicates_are_as_good_as_one_point(gap, rng):
    points = np.sort(rng.random(10))
    distances = np.abs(points[:, None] - points)
    twice = np.repeat(np.repeat(distances, 2, axis=0), 2, axis=1)
    nearly = twice + gap * (np.kron(np.eye(10), np.ones((2, 2))) - np.eye(20))
    assert magnitude(nearly, 3.0) == pytest.approx(magnitude(distances, 3.0), abs=100 * gap + 1e-10)
    assert positive_magnitude(nearly, 3.0) == pytest.approx(
        positive_magnitude(distances, 3.0), abs=100 * gap + 1e-10
    )


@pytest.mark.parametrize("scale", [0.2, 0.5, 0.9])
def test_a_space_of_indefinite_similarity(scale):
    side = np.array([0, 0, 0, 1, 1])  # the complete bipartite graph of 3 and 2 vertices, at shortest paths
    distances = np.where(side[:, None] == side, 2.0, 1.0) - 2 * np.eye(5)
    q = np.exp(-scale)
    expected = (5 - 7 * q) / ((1 + q) * (1 - 2 * q**2))
    assert magnitude(distances, scale) == pytest.approx(expected, rel=1e-9)


def test_a_space_without_magnitude():
    side = np.array([0, 0, 0, 1, 1])
    distances = np.where(side[:, None] == side, 2.0, 1.0) - 2 * np.eye(5)
    with pytest.raises(ValueError, match="no weights solve the similarities of these 5 points"):
        magnitude(distances, np.log(2) / 2)


@pytest.mark.parametrize("scale", [0, -1, np.nan, np.inf])
def test_the_scale_is_a_positive_number(scale):
    with pytest.raises(ValueError, match="scale must be a positive number"):
        positive_magnitude([[0, 1], [1, 0]], scale)


def test_distances_are_checked():
    with pytest.raises(ValueError, match="symmetric"):
        magnitude([[0, 1], [2, 0]], 1)

"""Null models of a path change what they say and keep the rest."""

import numpy as np
import pytest

from loupe.topology import pairwise_distances, surrogate_paths
from loupe.topology.surrogates import path_distances, step_gram


@pytest.fixture
def path():
    rng = np.random.default_rng(0)
    steps = rng.standard_normal((40, 50)) * rng.uniform(0.1, 3, (40, 1))
    return np.vstack([np.zeros(50), steps.cumsum(axis=0)])


def test_step_gram_is_that_of_the_steps(path):
    steps = np.diff(path, axis=0)
    np.testing.assert_allclose(step_gram(pairwise_distances(path)), steps @ steps.T, atol=1e-9)


def test_distances_come_back(path):
    distances = pairwise_distances(path)
    np.testing.assert_allclose(path_distances(step_gram(distances)), distances, atol=1e-7)


def test_each_surrogate_keeps_and_changes_what_it_says(path):
    steps = np.diff(path, axis=0)
    lengths = np.linalg.norm(steps, axis=1)
    changed = surrogate_paths(pairwise_distances(path), np.random.default_rng(1))
    diagonal = {name: np.sqrt(step_gram(distances).diagonal()) for name, distances in changed.items()}
    np.testing.assert_allclose(diagonal["same directions, equal lengths"], 1, atol=1e-6)
    np.testing.assert_allclose(diagonal["orthogonal, equal lengths"], 1, atol=1e-6)
    np.testing.assert_allclose(diagonal["same lengths, orthogonal directions"], lengths, atol=1e-6)
    np.testing.assert_allclose(np.sort(diagonal["same steps, shuffled"]), np.sort(lengths), atol=1e-6)
    assert not np.allclose(diagonal["same steps, shuffled"], lengths, atol=1e-3)
    unit = steps / lengths[:, None]
    cosines = step_gram(changed["same directions, equal lengths"])
    np.testing.assert_allclose(cosines, unit @ unit.T, atol=1e-6)
    orthogonal = step_gram(changed["same lengths, orthogonal directions"])
    np.testing.assert_allclose(orthogonal, np.diag(lengths**2), atol=1e-6)


def test_a_step_of_length_zero_stays_one(path):
    path[5] = path[4]
    changed = surrogate_paths(pairwise_distances(path), np.random.default_rng(1))
    assert all(np.isfinite(distances).all() for distances in changed.values())

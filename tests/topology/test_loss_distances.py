import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from loupe.topology import loss_distances, ph_dimension


def test_mean_absolute_difference_of_losses(rng):
    losses = rng.exponential(size=(12, 30)).astype(np.float32)
    found = loss_distances(losses)
    expected = np.abs(losses[:, None].astype(float) - losses).mean(axis=-1)
    np.testing.assert_allclose(found, expected, rtol=1e-13)
    assert found.dtype == np.float64
    assert np.array_equal(found, found.T)
    assert not found.diagonal().any()
    np.testing.assert_array_equal(loss_distances(torch.as_tensor(losses)), found)


@given(st.integers(0, 2**32 - 1), st.floats(-10, 10), st.floats(0.1, 10))
@settings(max_examples=25, deadline=None)
def test_a_pseudo_metric_that_scales_and_forgets_the_order_of_examples(seed, shift, factor):
    rng = np.random.default_rng(seed)
    losses = rng.exponential(size=(8, 5))
    found = loss_distances(losses)
    assert (found[:, None] <= found[:, :, None] + found[None] + 1e-12).all()
    np.testing.assert_allclose(loss_distances(losses[:, rng.permutation(5)]), found, atol=1e-14)
    np.testing.assert_allclose(loss_distances(factor * losses + shift), factor * found, atol=1e-12)
    np.testing.assert_allclose(loss_distances(np.tile(losses, 3)), found, atol=1e-14)


def test_equal_losses_are_at_zero(rng):
    losses = np.repeat(rng.random((3, 7)), 2, axis=0)
    assert np.array_equal(loss_distances(losses) == 0, np.kron(np.eye(3), np.ones((2, 2))) > 0)


def test_they_are_distances_for_the_dimension(rng):
    losses = rng.random((150, 1)) @ rng.random((1, 40))  # a segment, whatever the number of examples
    assert ph_dimension(
        distances=loss_distances(losses), alpha=0.5, sizes=range(20, 140, 20)
    ).dimension == pytest.approx(1, abs=0.1)


@pytest.mark.filterwarnings("ignore:invalid value")
def test_losses_that_are_not_finite_are_refused(rng):
    losses = rng.random((5, 4))
    losses[3, 1] = np.inf
    with pytest.raises(ValueError, match="row 3 holds NaN or infinity"):
        loss_distances(losses)
    with pytest.raises(ValueError, match="points must be a non-empty matrix"):
        loss_distances(losses[0])

"""The penalty keeps a window of iterates; from scratch, at every step, the same numbers and gradients follow."""

import io

import numpy as np
import pytest
import torch

from loupe.topology import DimensionPenalty, differentiable_ph_dimension, pairwise_distances
from loupe.topology.penalty import CPU_BLOCK_BYTES, row_distances

SIZE, WINDOW = 50, 40
SIZES = [8, 16, 24, 36]


def walk(steps, dtype=torch.float64, size=SIZE, seed=0):
    """Iterates of a random walk far from the origin, shape (steps, size)."""
    noise = torch.randn(steps, size, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return (10 + 0.01 * noise.cumsum(dim=0)).to(dtype)


def small_penalty(dtype=torch.float64, **options):
    return DimensionPenalty(SIZE, **dict(window=WINDOW, sizes=SIZES, dtype=dtype) | options)


def from_scratch(path, penalty, alpha=1.0):
    """The dimension of the last iterates and its gradient in the newest, by automatic differentiation in full."""
    newest = path[-1].double().requires_grad_()
    points = torch.vstack([path[-WINDOW:-1].double(), newest])
    value = differentiable_ph_dimension(points, penalty.subsets(), alpha)
    return value, torch.autograd.grad(value, newest)[0]


def test_equal_to_recomputation_at_every_step():
    path, penalty = walk(250), small_penalty()
    for k, iterate in enumerate(path, start=1):
        value = penalty(iterate)
        assert penalty.steps == k
        known = path[max(0, k - WINDOW) : k]
        assert torch.equal(penalty.iterates(), known)
        np.testing.assert_allclose(penalty.distances(), pairwise_distances(known), rtol=1e-9)
        if k < WINDOW:
            assert value is None
        else:
            expected, _ = from_scratch(path[:k], penalty)
            assert not value.requires_grad
            assert value.item() == pytest.approx(expected.item(), rel=1e-9)


@pytest.mark.parametrize("alpha", [0.5, 1.0, 2.0])
def test_gradient_is_that_of_the_full_graph(alpha):
    path, penalty = walk(WINDOW + 60), small_penalty(alpha=alpha)
    met = 0
    for k, iterate in enumerate(path, start=1):
        iterate = iterate.clone().requires_grad_()
        value = penalty(iterate)
        if value is None:
            continue
        value.backward()
        expected, gradient = from_scratch(path[:k], penalty, alpha)
        assert value.item() == pytest.approx(expected.item(), rel=1e-9)
        torch.testing.assert_close(iterate.grad, gradient, rtol=1e-8, atol=1e-9)
        met += bool(gradient.any())
    assert met > 50


def test_gradient_in_float32():
    path, penalty = walk(WINDOW + 20, torch.float32), small_penalty(torch.float32)
    for k, iterate in enumerate(path, start=1):
        iterate = iterate.clone().requires_grad_()
        value = penalty(iterate)
        if value is None:
            continue
        assert value.dtype == torch.float32
        value.backward()
        expected, gradient = from_scratch(path[:k], penalty)
        assert value.item() == pytest.approx(expected.item(), rel=1e-6)
        torch.testing.assert_close(
            iterate.grad, gradient.float(), rtol=1e-4, atol=1e-4 * gradient.norm().item()
        )


def test_gradient_against_central_differences():
    path, penalty = walk(WINDOW + 7), small_penalty()
    for iterate in path[:-1]:
        penalty(iterate)
    state, direction = penalty.state_dict(), walk(1, seed=3)[0] - 10
    newest = path[-1].clone().requires_grad_()
    penalty(newest).backward()
    h, values = 1e-5, []
    for sign in (1, -1):
        penalty.load_state_dict(state)
        values.append(penalty(path[-1] + sign * h * direction).item())
    assert newest.grad @ direction == pytest.approx((values[0] - values[1]) / (2 * h), rel=1e-6)


def test_gradient_is_taken_before_the_window_moves_on():
    path, penalty = walk(WINDOW + 60), small_penalty()
    for iterate in path[: WINDOW + 9]:
        penalty(iterate)
    newest = path[WINDOW + 9].clone().requires_grad_()
    value = penalty(newest)
    _, expected = from_scratch(path[: WINDOW + 10], penalty)
    for iterate in path[WINDOW + 10 :]:
        penalty(iterate)
    value.backward()
    torch.testing.assert_close(newest.grad, expected, rtol=1e-8, atol=1e-9)


def test_gradient_passes_on_to_a_network():
    torch.manual_seed(0)
    network, penalty = torch.nn.Linear(9, 5), small_penalty(torch.float32)
    for iterate in walk(WINDOW - 1):
        penalty(iterate)
    (0.5 * penalty(torch.nn.utils.parameters_to_vector(network.parameters()))).backward()
    assert network.weight.grad.isfinite().all()
    assert not penalty.iterates().requires_grad


def test_iterates_that_repeat_leave_the_gradient_finite():
    path, penalty = walk(60).repeat_interleave(2, dim=0), small_penalty()
    for k, iterate in enumerate(path, start=1):
        iterate = iterate.clone().requires_grad_()
        value = penalty(iterate)
        if value is not None:
            value.backward()
            assert iterate.grad.isfinite().all()
            torch.testing.assert_close(iterate.grad, from_scratch(path[:k], penalty)[1], rtol=1e-8, atol=1e-9)


def test_a_run_that_stands_still_has_no_dimension():
    penalty, start = small_penalty(), walk(1)[0]
    for _ in range(WINDOW - 1):
        penalty(start)
    with pytest.raises(ValueError, match="all lifetimes are zero"):
        penalty(start)


def test_no_dimension_is_nan_with_a_gradient_of_zero():
    penalty = DimensionPenalty(WINDOW, window=WINDOW, sizes=SIZES, dtype=torch.float64)
    for corner in torch.eye(WINDOW, dtype=torch.float64)[:-1]:  # all equally far apart: the slope is above 1
        penalty(corner)
    corner = torch.eye(WINDOW, dtype=torch.float64)[-1].requires_grad_()
    value = penalty(corner)
    assert value.isnan()
    value.backward()
    assert not corner.grad.any()


def test_a_value_without_graph_where_none_is_wanted():
    path = walk(WINDOW)
    values = []
    for wants_gradient, enabled in [(True, True), (True, False), (False, True)]:
        penalty = small_penalty()
        for iterate in path[:-1]:
            penalty(iterate)
        with torch.set_grad_enabled(enabled):
            values.append(penalty(path[-1].clone().requires_grad_(wants_gradient)))
    assert [value.requires_grad for value in values] == [True, False, False]
    assert values[0].item() == values[1].item() == values[2].item()


@pytest.mark.parametrize("stop", [5, WINDOW - 1, WINDOW, 3 * WINDOW + 7])
def test_resumes_to_the_same_bits(stop):
    path = walk(stop + WINDOW + 5, torch.float32)
    whole, killed = small_penalty(torch.float32), small_penalty(torch.float32)
    for iterate in path[:stop]:
        whole(iterate), killed(iterate)
    state, saved = killed.state_dict(), io.BytesIO()
    killed(path[stop]), killed(path[stop])  # what happens later does not reach the state
    torch.save(state, saved)
    saved.seek(0)
    resumed = small_penalty(torch.float32)
    resumed.load_state_dict(torch.load(saved, weights_only=True))
    for iterate in path[stop:]:
        one, other = iterate.clone().requires_grad_(), iterate.clone().requires_grad_()
        expected, found = whole(one), resumed(other)
        if expected is None:
            assert found is None
            continue
        assert torch.equal(found, expected)
        expected.backward(), found.backward()
        assert torch.equal(other.grad, one.grad)
    assert torch.equal(resumed.iterates(), whole.iterates())
    np.testing.assert_array_equal(resumed.distances(), whole.distances())


def test_subsets_follow_from_seed_and_step():
    one, same, other = small_penalty(seed=1), small_penalty(seed=1), small_penalty(seed=2)
    first = one.subsets()
    assert [len(subset) for subset in first] == SIZES
    assert all(len(set(subset)) == len(subset) and max(subset) < WINDOW for subset in first)
    assert np.array_equal(np.concatenate(first), np.concatenate(same.subsets()))
    assert not np.array_equal(np.concatenate(first), np.concatenate(other.subsets()))
    one(walk(1)[0])
    assert not np.array_equal(np.concatenate(first), np.concatenate(one.subsets()))


def test_default_sizes_are_those_of_the_paper():
    assert DimensionPenalty(3).sizes.tolist() == list(range(10, 100, 10))


def test_distances_over_several_blocks_in_float32(rng):
    columns = 2 * CPU_BLOCK_BYTES // (4 * 30) + 17
    rows = torch.as_tensor(5 + 1e-4 * rng.standard_normal((30, columns)), dtype=torch.float32)
    found = row_distances(rows, rows[4])
    assert found[4] == 0
    torch.testing.assert_close(found, (rows.double() - rows[4].double()).norm(dim=1), rtol=1e-6, atol=0)


def test_what_is_refused():
    with pytest.raises(ValueError, match="size must be a positive whole number, got 0"):
        DimensionPenalty(0)
    with pytest.raises(ValueError, match="alpha must be a positive number, got 0"):
        DimensionPenalty(3, alpha=0)
    with pytest.raises(ValueError, match="need at least 50 points, got 40"):
        DimensionPenalty(3, window=40, sizes=[10, 20, 50])
    with pytest.raises(ValueError, match="at least 3 increasing integers"):
        DimensionPenalty(3, window=30)
    penalty = small_penalty()
    with pytest.raises(ValueError, match=r"the vector must have shape \(50,\), got \(3,\)"):
        penalty(torch.zeros(3))
    penalty(torch.zeros(SIZE))
    with pytest.raises(ValueError, match="iterate 1 holds NaN or infinity"):
        penalty(torch.full((SIZE,), torch.nan))
    assert penalty.steps == 1
    with pytest.raises(
        ValueError, match=r"the state has \(window, size\) \(40, 50\), and this penalty \(40, 7\)"
    ):
        DimensionPenalty(7, window=WINDOW).load_state_dict(penalty.state_dict())

from itertools import combinations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from loupe.topology import (
    differentiable_ph_dimension,
    h0_lifetimes,
    lifetime_sum,
    pairwise_distances,
    persistence_diagrams,
    spanning_tree,
)

METHODS = ("linkage", "prim", "gudhi", "alpha")


@pytest.mark.parametrize("method", METHODS)
def test_four_routes_give_the_same_lifetimes(sample, method):
    found = h0_lifetimes(sample, method=method)
    assert found.shape == (len(sample) - 1,)
    assert found.dtype == np.float64
    assert (np.diff(found) >= 0).all()
    np.testing.assert_allclose(found, h0_lifetimes(sample), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("method", ["linkage", "prim", "gudhi"])
def test_distances_give_what_their_points_give(sample, method):
    found = h0_lifetimes(distances=pairwise_distances(sample), method=method)
    np.testing.assert_allclose(found, h0_lifetimes(sample), rtol=1e-12, atol=1e-14)


def test_ripser_agrees_to_single_precision(sample):
    ripser = pytest.importorskip("ripser").ripser
    deaths = ripser(pairwise_distances(sample), distance_matrix=True, maxdim=0)["dgms"][0][:, 1]
    deaths = deaths[np.isfinite(deaths)]
    padded = np.append(np.zeros(len(sample) - 1 - len(deaths)), np.sort(deaths))
    np.testing.assert_allclose(padded, h0_lifetimes(sample), rtol=1e-5, atol=1e-6)


def test_duplicates_have_lifetime_zero_and_ties_are_kept():
    assert h0_lifetimes([[0, 0], [0, 0], [2, 0], [2, 0], [2, 0]]).tolist() == [0, 0, 0, 2]
    grid = np.stack(np.meshgrid(range(4), range(3)), axis=-1).reshape(-1, 2)
    assert h0_lifetimes(grid).tolist() == [1.0] * 11


def test_the_tree_spans_and_its_edges_are_lifetimes(sample):
    edges, lengths = spanning_tree(sample)
    assert edges.shape == (len(sample) - 1, 2)
    np.testing.assert_allclose(lengths, h0_lifetimes(sample), rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(
        lengths, np.linalg.norm(np.diff(sample[edges], axis=1)[:, 0], axis=1), atol=1e-14
    )
    component = np.arange(len(sample))
    for u, v in edges:
        assert component[u] != component[v]
        component[component == component[u]] = component[v]
    assert len(set(component)) == 1


def test_bad_method_lists_the_good_ones():
    with pytest.raises(ValueError, match=r"'ripser'.*linkage, prim, gudhi, alpha"):
        h0_lifetimes(np.eye(3), method="ripser")


def test_alpha_complex_is_for_points_of_low_dimension():
    with pytest.raises(ValueError, match="1 to 3 columns, got 4"):
        h0_lifetimes(np.eye(4), method="alpha")
    with pytest.raises(ValueError, match="needs points"):
        h0_lifetimes(distances=1 - np.eye(4), method="alpha")


ALPHAS = pytest.mark.parametrize("alpha", [0.5, 1.0, 2.0])


@ALPHAS
def test_equally_spaced_line(alpha):
    line = 0.3 * np.arange(50.0)[:, None]
    assert lifetime_sum(line, alpha) == pytest.approx(49 * 0.3**alpha, rel=1e-12)


@ALPHAS
def test_regular_polygon(alpha):
    angle = 2 * np.pi * np.arange(17) / 17
    polygon = 2.5 * np.column_stack([np.cos(angle), np.sin(angle)])
    assert lifetime_sum(polygon, alpha) == pytest.approx(16 * (5 * np.sin(np.pi / 17)) ** alpha, rel=1e-12)


@ALPHAS
@pytest.mark.parametrize("d", [1, 2, 3])
def test_grid(alpha, d):
    grid = 0.7 * np.stack(np.meshgrid(*[np.arange(4.0)] * d), axis=-1).reshape(-1, d)
    assert lifetime_sum(grid, alpha) == pytest.approx((4**d - 1) * 0.7**alpha, rel=1e-12)


def test_sum_on_a_line_is_its_extent(rng):
    points = rng.standard_normal((200, 1))
    assert lifetime_sum(points) == pytest.approx(np.ptp(points), rel=1e-12)


def cantor_endpoints(level):
    """Left end points of the intervals of the middle-thirds construction, shape (2 ** level, 1)."""
    points = np.zeros(1)
    for k in range(1, level + 1):
        points = np.concatenate([points, points + 2 * 3.0**-k])
    return points[:, None]


@ALPHAS
def test_cantor_construction(alpha):
    j = np.arange(1, 8)
    exact = (2.0 ** (j - 1) * (3.0**-j + 3.0**-7) ** alpha).sum()
    assert lifetime_sum(cantor_endpoints(7), alpha) == pytest.approx(exact, rel=1e-12)


def test_random_matrix_tends_to_zeta_of_three():
    sums = []
    for seed in range(5):
        upper = np.triu(np.random.default_rng(seed).random((1000, 1000)), 1)
        sums.append(lifetime_sum(distances=upper + upper.T))
    assert np.mean(sums) == pytest.approx(1.2020569, abs=0.05)


def test_mean_over_all_subsets_is_the_limit_of_random_subsets(rng):
    points = rng.standard_normal((8, 3))
    every = [lifetime_sum(points[list(subset)]) for subset in combinations(range(8), 4)]
    assert len(every) == 70
    drawn = [lifetime_sum(points[rng.choice(8, size=4, replace=False)]) for _ in range(2000)]
    assert abs(np.mean(drawn) - np.mean(every)) < 4 * np.std(drawn) / np.sqrt(2000)


SEEDS = st.integers(0, 2**32 - 1)


@given(SEEDS, st.integers(2, 40), st.integers(1, 5), st.sampled_from([0.5, 1.0, 2.0]))
@settings(max_examples=40, deadline=None)
def test_invariances_of_the_lifetime_sum(seed, n, d, alpha):
    rng = np.random.default_rng(seed)
    points = rng.standard_normal((n, d))
    total = lifetime_sum(points, alpha)
    rotation, _ = np.linalg.qr(rng.standard_normal((d, d)))
    copies = points[np.append(np.arange(n), rng.integers(n, size=5))]
    assert lifetime_sum(rng.permutation(points), alpha) == pytest.approx(total, rel=1e-12)
    assert lifetime_sum(points + rng.standard_normal(d), alpha) == pytest.approx(total, rel=1e-11)
    assert lifetime_sum(points @ rotation, alpha) == pytest.approx(total, rel=1e-12)
    assert lifetime_sum(3 * points, alpha) == pytest.approx(3**alpha * total, rel=1e-12)
    assert lifetime_sum(copies, alpha) == pytest.approx(total, rel=1e-12)


@given(SEEDS, st.integers(2, 30))
@settings(max_examples=25, deadline=None)
def test_routes_agree_on_integer_points_full_of_ties_and_duplicates(seed, n):
    points = np.random.default_rng(seed).integers(4, size=(n, 2))
    expected = h0_lifetimes(points)
    for method in METHODS[1:]:
        np.testing.assert_allclose(h0_lifetimes(points, method=method), expected, rtol=1e-12)


@ALPHAS
def test_gradient_of_the_sum_against_central_differences(alpha, rng, central_differences):
    points = torch.as_tensor(rng.standard_normal((24, 3)), dtype=torch.float64).requires_grad_()
    (gradient,) = torch.autograd.grad(lifetime_sum(points, alpha), points)
    numeric = central_differences(lambda x: lifetime_sum(x, alpha), points.detach().numpy())
    np.testing.assert_allclose(gradient, numeric, atol=1e-7)
    np.testing.assert_allclose(gradient.sum(dim=0), 0, atol=1e-12)


@ALPHAS
def test_edges_of_length_zero_have_gradient_zero(alpha):
    points = torch.tensor([[0.0, 0], [0, 0], [3, 4]], dtype=torch.float64, requires_grad=True)
    total = lifetime_sum(points, alpha)
    total.backward()
    assert total.item() == pytest.approx(5**alpha)
    assert torch.isfinite(points.grad).all()
    pull = alpha * 5 ** (alpha - 1) * torch.tensor([0.6, 0.8], dtype=torch.float64)
    torch.testing.assert_close(points.grad[2], pull)
    torch.testing.assert_close(points.grad[:2].sum(dim=0), -pull)


def test_tensor_and_array_give_the_same_sum(sample):
    assert lifetime_sum(torch.as_tensor(sample), 0.7).item() == pytest.approx(
        lifetime_sum(sample, 0.7), rel=1e-12
    )
    assert isinstance(lifetime_sum(sample), float)


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")
@pytest.mark.parametrize("repeated", [0, 3])
@pytest.mark.parametrize("of", ["points", "distances", "dimension"])
def test_transforms_and_compilers(of, repeated, rng):
    """First and second derivatives, maps over clouds, compiled; with edges of length zero too."""
    points = rng.standard_normal((12, 3))
    points[12 - repeated :] = points[:repeated]
    x = torch.as_tensor(pairwise_distances(points) if of == "distances" else points)
    function = {
        "points": lambda x: lifetime_sum(x, 1.5),
        "distances": lambda d: lifetime_sum(distances=(d + d.T) / 2, alpha=1.5),
        "dimension": lambda x: differentiable_ph_dimension(x, [range(4), range(8), range(11)]),
    }[of]
    at = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(function(at), at)
    close = {"rtol": 1e-10, "atol": 1e-11}
    torch.testing.assert_close(torch.func.grad(function)(x), gradient, **close)
    torch.testing.assert_close(torch.func.jacfwd(function)(x), gradient, **close)
    hessian = torch.autograd.functional.hessian(function, x)
    assert hessian.isfinite().all()
    torch.testing.assert_close(torch.func.hessian(function)(x), hessian, **close)
    both = torch.stack([x, 0.5 * x])
    torch.testing.assert_close(torch.func.vmap(function)(both), torch.stack([*map(function, both)]), **close)
    mapped = torch.func.vmap(torch.func.grad(function))(both)
    torch.testing.assert_close(mapped[0], gradient, **close)
    if of != "dimension":
        torch.compiler.reset()
        compiled = torch.compile(function, backend="aot_eager", fullgraph=True)(at)
        torch.testing.assert_close(torch.autograd.grad(compiled, at)[0], gradient, **close)
        torch.compiler.reset()


@pytest.mark.parametrize("alpha", [0, -1, np.nan, np.inf])
def test_alpha_must_be_positive(alpha):
    with pytest.raises(ValueError, match="alpha must be a positive number"):
        lifetime_sum(np.eye(3), alpha)


def test_diagrams_of_a_circle_have_one_long_loop():
    angle = 2 * np.pi * np.arange(40) / 40
    components, loops = persistence_diagrams(np.column_stack([np.cos(angle), np.sin(angle)]))
    np.testing.assert_allclose(components, [[0, 2 * np.sin(np.pi / 40)]] * 39, rtol=1e-12)
    assert loops.shape == (1, 2)
    birth, death = loops[0]
    assert birth == pytest.approx(2 * np.sin(np.pi / 40))
    assert 1.7 < death < 1.8  # a circle fills when a triangle inscribed in it does: the square root of 3

import doctest
import importlib
import pkgutil
import warnings

import numpy as np
import pytest
import torch

import loupe.topology
from loupe.topology import (
    CLOUDS,
    differentiable_ph_dimension,
    embed_isometrically,
    h0_lifetimes,
    lifetime_sum,
    pairwise_distances,
    ph_dimension,
    spanning_tree,
    stable_ou_path,
    trees,
)
from loupe.topology.dimension import bootstrap_error, dimension_from_slope, estimate_from_sums, fit_power_law

SIZES = range(40, 200, 20)


@pytest.fixture(scope="module")
def square():
    return CLOUDS["cube_2"].sample(200, seed=0)


def algorithm_1(points, seed, sizes):
    """The published algorithm to the letter: new distances for each subset, one draw a size."""
    ripser = pytest.importorskip("ripser").ripser
    draw = np.random.RandomState(seed)
    log_sums = []
    for n in sizes:
        subset = points[draw.choice(len(points), size=n, replace=False)]
        bars = ripser(subset, maxdim=0)["dgms"][0]
        log_sums.append(np.log(sum(death - birth for birth, death in bars if np.isfinite(death))))
    slope, _ = np.polyfit(np.log(list(sizes)), log_sums, 1)
    return 1 / (1 - slope)


@pytest.mark.parametrize("seed", [0, 7])
def test_legacy_seed_reproduces_the_published_algorithm(square, seed):
    found = ph_dimension(square, sizes=SIZES, legacy_seed=seed)
    assert found.lifetime_sums.shape == (8, 1)
    assert np.isnan(found.standard_error)
    assert found.dimension == pytest.approx(algorithm_1(square, seed, SIZES), rel=1e-5)


@pytest.mark.parametrize("m", [-0.3, 0.0, 0.5, 0.9])
def test_an_exact_power_law_is_fitted_exactly(m):
    sizes = np.arange(200, 1000, 50)
    slope, intercept, residual = fit_power_law(sizes, 3.7 * sizes**m)
    assert slope == pytest.approx(m, abs=1e-12)
    assert intercept == pytest.approx(np.log(3.7), abs=1e-12)
    assert residual < 1e-24


def test_the_fit_is_ordinary_least_squares(rng):
    sizes, sums = np.arange(10, 60, 10), rng.uniform(1, 2, (4, 5))
    slope, intercept, residual = fit_power_law(sizes, sums)
    expected, squares, *_ = np.polyfit(np.log(sizes), np.log(sums).T, 1, full=True)
    np.testing.assert_allclose([slope, intercept], expected, rtol=1e-10)
    np.testing.assert_allclose(residual, squares / 5, rtol=1e-10)


def test_dimension_inverts_the_scaling_law():
    for d, alpha in [(2, 1.0), (5, 0.5), (1.262, 0.5)]:
        assert dimension_from_slope((d - alpha) / d, alpha) == pytest.approx(d)
    assert np.isnan(dimension_from_slope([1.0, 1.5], 1.0)).all()


@pytest.mark.parametrize("m", [1.0, 1.3])
def test_a_slope_of_one_or_more_is_no_dimension(m, rng):
    sizes = np.array([2, 4, 8, 16])
    with pytest.warns(UserWarning, match="not below 1"):
        found = estimate_from_sums(sizes, sizes[:, None] ** (m + 1e-9), 1.0, rng)
    assert np.isnan(found.dimension)


@pytest.mark.parametrize(
    ("alpha", "first", "last", "expected"),
    [(0.1, 4, 10, 0.726), (0.1, 8, 14, 0.639), (0.5, 4, 10, 0.738), (0.5, 8, 14, 0.674), (1.0, 8, 14, 1.0)],
)
def test_exact_sums_of_the_cantor_construction(alpha, first, last, expected):
    levels = np.arange(first, last + 1)
    sums = [sum(2 ** (j - 1) * (3.0**-j + 3.0**-k) ** alpha for j in range(1, k + 1)) for k in levels]
    slope, _, _ = fit_power_law(2.0**levels, sums)
    assert dimension_from_slope(slope, alpha) == pytest.approx(expected, abs=1e-3)


CLOUDS_AND_BANDS = [
    ("circle", 0.04),
    ("sphere", 0.15),
    ("sierpinski", 0.15),
    ("cantor_set", 0.12),
    ("cube_3", 0.35),
]


@pytest.mark.parametrize(("name", "band"), CLOUDS_AND_BANDS)
@pytest.mark.filterwarnings("ignore:alpha is not below")
def test_known_dimensions(name, band):
    cloud = CLOUDS[name]
    found = ph_dimension(cloud.sample(1000, seed=11), alpha=cloud.alpha, repeats=5)
    assert found.dimension == pytest.approx(cloud.dimension, abs=band)


def test_ambient_dimension_does_not_matter(square, rng):
    embedded = embed_isometrically(square, 10_000, rng)
    flat, high = (ph_dimension(points, sizes=SIZES) for points in (square, embedded))
    assert high.dimension == pytest.approx(flat.dimension, abs=1e-6)


def test_scaling_permutation_of_columns_and_the_distance_route_change_nothing(square):
    found = ph_dimension(square, sizes=SIZES).dimension
    assert ph_dimension(1e-3 * square + 5, sizes=SIZES).dimension == pytest.approx(found, rel=1e-9)
    assert ph_dimension(square[:, ::-1], sizes=SIZES).dimension == pytest.approx(found, rel=1e-12)
    assert ph_dimension(distances=pairwise_distances(square), sizes=SIZES).dimension == found


def test_the_estimate_holds_what_the_figures_need(square):
    found = ph_dimension(square, alpha=0.5, sizes=SIZES, repeats=4, seed=3)
    assert found.lifetime_sums.shape == (8, 4)
    assert found.sizes.tolist() == list(SIZES)
    assert found.alpha == 0.5
    assert found.dimension == pytest.approx(0.5 / (1 - found.slope))
    line = found.slope * np.log(found.sizes) + found.intercept
    deviation = np.log(found.lifetime_sums.mean(axis=1)) - line
    assert found.residual == pytest.approx((deviation**2).mean())
    assert 0 < found.standard_error < 0.5
    assert repr(found).startswith(f"DimensionEstimate({found.dimension:.4g} ± ")
    assert "alpha=0.5" in repr(found)
    assert "sizes=40..180, repeats=4" in repr(found)


def test_lifetime_sums_are_those_of_the_subsets_drawn(square):
    found = ph_dimension(square, alpha=0.5, sizes=SIZES, repeats=2, seed=3)
    draw = np.random.default_rng(3)
    expected = [
        [lifetime_sum(square[draw.choice(200, size=n, replace=False)], 0.5) for _ in range(2)] for n in SIZES
    ]
    np.testing.assert_allclose(found.lifetime_sums, expected, rtol=1e-12)


def test_seeds_decide_and_generators_are_seeds_too(square):
    first, again, other = (
        ph_dimension(square, sizes=SIZES, seed=s) for s in (1, np.random.default_rng(1), 2)
    )
    assert first.dimension == again.dimension != other.dimension
    assert first.standard_error == again.standard_error


def test_bootstrap_error_is_the_spread_over_repetitions(rng):
    sizes = np.arange(200, 1000, 50)
    draws = np.sqrt(sizes)[:, None] * (1 + 0.02 * rng.standard_normal((16, 400 * 10)))
    estimates = dimension_from_slope(fit_power_law(sizes, draws.reshape(16, 400, 10).mean(axis=2).T)[0], 1.0)
    errors = [bootstrap_error(sizes, draws[:, 10 * i : 10 * i + 10], 1.0, rng) for i in range(40)]
    assert np.mean(errors) == pytest.approx(estimates.std(), rel=0.12)


def test_saturation_is_reported():
    cantor = CLOUDS["cantor_set"].sample(200, seed=0)
    with pytest.warns(UserWarning, match="alpha is not below the estimated dimension"):
        ph_dimension(cantor, alpha=1.0, sizes=SIZES)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ph_dimension(cantor, alpha=0.5, sizes=SIZES)


def test_points_that_repeat_and_paths_that_are_exhausted_are_reported(rng):
    repeated, path = np.repeat(rng.random((100, 2)), 10, axis=0), stable_ou_path(1000, 10, 2.0, 0)
    with pytest.warns(UserWarning, match="1000 points lie at 100 different places"):
        ph_dimension(repeated, repeats=1)
    with pytest.warns(UserWarning, match="take up to 950 of 1000 points along a path"):
        ph_dimension(path, repeats=1)
    ph_dimension(path, sizes=range(50, 1000, 50), repeats=1)  # any warning is an error
    ph_dimension(path[rng.permutation(1000)], repeats=1)


def test_points_of_any_scale(square):
    """From 1e-140 to 1e140; beyond, an error that names the reach and not the run."""
    found = ph_dimension(square, sizes=SIZES).dimension
    for scale in (1e-140, 1e140):
        assert ph_dimension(scale * square, sizes=SIZES).dimension == pytest.approx(found, rel=1e-6)
    for scale, wide in ((1e200, 1), (1e-200, 1), (1e200, 30)):
        for function in (pairwise_distances, spanning_tree):
            with pytest.raises(ValueError, match=r"points reach 1e[+-]200.*divide them by a scale"):
                function(np.tile(scale * np.eye(4), wide))


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        (range(50, 500, 50), "need at least 450 points, got 200"),
        (range(1, 100, 20), "at least 2"),
        ([10, 20], "at least 3 increasing integers"),
        ([], "at least 3 increasing integers"),
        (range(100, 20, -20), "at least 3 increasing integers"),
        ([10, 20, 20], "at least 3 increasing integers"),
        ([10.0, 20.0, 30.5], "at least 3 increasing integers"),
        (range(20, 100, 20), None),
    ],
)
def test_sizes_that_cannot_be_served(square, sizes, message):
    if message is None:
        ph_dimension(square, sizes=sizes)
    else:
        with pytest.raises(ValueError, match=message):
            ph_dimension(square, sizes=sizes)


def test_other_wrong_arguments(square):
    with pytest.raises(ValueError, match="repeats must be a positive whole number, got 0"):
        ph_dimension(square, sizes=SIZES, repeats=0)
    with pytest.raises(ValueError, match="alpha must be a positive number, got -1"):
        ph_dimension(square, sizes=SIZES, alpha=-1)
    with pytest.raises(ValueError, match="all lifetimes are zero"):
        ph_dimension(np.ones((200, 3)), sizes=SIZES)
    with pytest.raises(ValueError, match="row 5 holds NaN"):
        ph_dimension(np.where(np.arange(200)[:, None] < 5, square, np.nan), sizes=SIZES)
    with pytest.raises(TypeError, match="use differentiable_ph_dimension"):
        ph_dimension(torch.as_tensor(square).requires_grad_(), sizes=SIZES)


def subsets_of(n, sizes, rng):
    return [rng.choice(n, size=size, replace=False) for size in sizes]


def test_gradient_of_the_dimension_against_central_differences(rng, central_differences):
    points = rng.standard_normal((100, 6))
    subsets = subsets_of(100, range(10, 100, 10), rng)

    def dimension(x):
        sums = [lifetime_sum(x[subset]) for subset in subsets]
        return float(dimension_from_slope(fit_power_law(range(10, 100, 10), sums)[0], 1.0))

    tensor = torch.as_tensor(points).requires_grad_()
    found = differentiable_ph_dimension(tensor, subsets)
    assert found.item() == pytest.approx(dimension(points), rel=1e-12)
    (gradient,) = torch.autograd.grad(found, tensor)
    np.testing.assert_allclose(gradient.sum(dim=0), 0, atol=1e-12)
    some = slice(0, 8)

    def of_some(x):
        return dimension(np.concatenate([x, points[8:]]))

    np.testing.assert_allclose(gradient[some], central_differences(of_some, points[some]), rtol=0, atol=1e-7)


def test_sums_of_one_size_are_averaged(rng):
    points = torch.as_tensor(rng.standard_normal((12, 3)))
    subsets = subsets_of(12, [4, 4, 7, 10, 10], rng)
    sums = [lifetime_sum(points[subset]).item() for subset in subsets]
    means = [(sums[0] + sums[1]) / 2, sums[2], (sums[3] + sums[4]) / 2]
    expected = dimension_from_slope(fit_power_law([4, 7, 10], means)[0], 1.0)
    assert differentiable_ph_dimension(points, subsets).item() == pytest.approx(float(expected), rel=1e-12)


def test_distances_replace_points_with_the_same_gradient(rng):
    points = torch.as_tensor(rng.standard_normal((40, 50))).requires_grad_()
    subsets = subsets_of(40, [10, 20, 30], rng)
    newest = (points[-1] - points[:-1].detach()).norm(dim=1)
    distances = torch.as_tensor(pairwise_distances(points))
    distances[-1, :-1] = distances[:-1, -1] = newest
    (by_row,) = torch.autograd.grad(differentiable_ph_dimension(None, subsets, distances=distances), points)
    (in_full,) = torch.autograd.grad(differentiable_ph_dimension(points, subsets), points)
    torch.testing.assert_close(by_row[-1], in_full[-1])


def test_differentiable_dimension_refuses_what_it_cannot_do(rng):
    points = torch.as_tensor(rng.standard_normal((40, 3))).requires_grad_()
    with pytest.raises(TypeError, match="for arrays use ph_dimension"):
        differentiable_ph_dimension(np.eye(3), [[0, 1]] * 3)
    with pytest.raises(ValueError, match="at least 3 increasing integers"):
        differentiable_ph_dimension(points, subsets_of(40, [10, 20, 20], rng))
    with pytest.raises(ValueError, match="all lifetimes are zero"):
        differentiable_ph_dimension(torch.ones(40, 3), subsets_of(40, [10, 20, 30], rng))
    with pytest.raises(ValueError, match="alpha"):
        differentiable_ph_dimension(points, subsets_of(40, [10, 20, 30], rng), alpha=0)


def test_slope_above_one_is_nan_with_a_gradient_graph():
    points = torch.tensor([[0.0], [1e-3], [2e-3], [1.0], [100.0]], requires_grad=True)
    assert differentiable_ph_dimension(points, [[0, 1], [0, 1, 3], [0, 1, 3, 4]]).isnan()


def test_lifetimes_do_not_depend_on_the_route_chosen_by_size(monkeypatch):
    distances = pairwise_distances(np.random.default_rng(2).random((80, 3)))
    by_linkage = h0_lifetimes(distances=distances)
    monkeypatch.setattr(trees, "LINKAGE_POINTS", 10)
    assert np.array_equal(h0_lifetimes(distances=distances), by_linkage)


@pytest.mark.parametrize("name", [module.name for module in pkgutil.iter_modules(loupe.topology.__path__)])
@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")
def test_examples(name):
    """Those of docstrings, among them a training loop of one's own."""
    assert not doctest.testmod(importlib.import_module(f"loupe.topology.{name}")).failed

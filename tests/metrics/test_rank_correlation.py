"""Rank statistics against their definitions: all pairs, all orders, grids small enough to count by hand."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loupe.metrics import bootstrap_kendall, granulated_kendall, kendall, partial_kendall, permutation_test
from loupe.metrics.rank_correlation import concordance, shuffles_within

# Few different values, so that ties are common.
RUNS = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4), st.integers(0, 2)), min_size=3, max_size=9)


def balance(x, y):
    """Concordant minus discordant pairs, one pair after another."""
    return sum(
        int(np.sign(x[i] - x[j]) * np.sign(y[i] - y[j])) for i, j in itertools.combinations(range(len(x)), 2)
    )


def untied(x):
    return sum(a != b for a, b in itertools.combinations(x, 2))


def tau_by_pairs(x, y):
    return balance(x, y) / math.sqrt(untied(x) * untied(y)) if untied(x) * untied(y) else math.nan


@given(RUNS)
@settings(max_examples=60, deadline=None)
def test_kendall_is_its_definition(runs):
    x, y, _ = zip(*runs, strict=True)
    assert kendall(x, y) == pytest.approx(tau_by_pairs(x, y), abs=1e-12, nan_ok=True)
    assert kendall(y, x) == pytest.approx(kendall(x, y), abs=1e-12, nan_ok=True)
    assert kendall(np.negative(x), y) == pytest.approx(-kendall(x, y), abs=1e-12, nan_ok=True)
    assert kendall(np.exp(x), y) == pytest.approx(kendall(x, y), abs=1e-12, nan_ok=True)


@given(RUNS, st.integers(0, 2**32 - 1))
@settings(max_examples=60, deadline=None)
def test_concordance_of_many_orders_is_that_of_each(runs, seed):
    x, y, _ = map(np.array, zip(*runs, strict=True))
    rng = np.random.default_rng(seed)
    orders = np.array([rng.permutation(len(x)) for _ in range(5)])
    assert concordance(x, y, orders).tolist() == [balance(x[order], y) for order in orders]


@pytest.mark.parametrize("n", [63, 64, 65, 150])
def test_concordance_over_several_words(n):
    rng = np.random.default_rng(n)
    x, y = rng.integers(30, size=n), rng.integers(30, size=n)
    orders = np.array([rng.permutation(n) for _ in range(3)])
    signs = np.sign(y[:, None] - y)
    expected = [int((np.sign(x[o][:, None] - x[o]) * signs).sum()) // 2 for o in orders]
    assert concordance(x, y, orders).tolist() == expected


# --- permutation --------------------------------------------------------------------------------------------

X, Y = [1, 2, 3, 4, 5, 5], [2, 1, 3, 3, 6, 5]


def all_orders(strata):
    """Every order of the runs that keeps them within their strata."""
    n = len(strata)
    return [p for p in itertools.permutations(range(n)) if all(strata[p[i]] == strata[i] for i in range(n))]


@pytest.mark.parametrize("alternative", ["greater", "less", "two-sided"])
@pytest.mark.parametrize("strata", [[0] * 6, [0, 0, 0, 1, 1, 1], ["a", "b", "a", "b", "a", "b"]])
@pytest.mark.parametrize("x", [X, X[::-1], [3, 1, 2, 5, 5, 4]])
def test_p_value_is_that_of_all_orders(x, strata, alternative):
    observed = balance(x, Y)
    every = [balance([x[i] for i in order], Y) for order in all_orders(strata)]
    greater, less = np.mean([s >= observed for s in every]), np.mean([s <= observed for s in every])
    exact = {"greater": greater, "less": less, "two-sided": min(1, 2 * min(greater, less))}[alternative]
    found = permutation_test(x, Y, strata=strata, draws=20_000, alternative=alternative)
    assert found.tau == pytest.approx(tau_by_pairs(x, Y))
    assert found.p_value == pytest.approx(exact, abs=5 * math.sqrt(0.25 / 20_000) * 2)


def test_no_p_value_is_zero_and_seeds_decide():
    x = np.arange(30)
    assert permutation_test(x, x, draws=99).p_value == 0.01
    assert permutation_test(x, x, draws=99, alternative="less").p_value == 1
    assert permutation_test(x, x, draws=99, alternative="two-sided").p_value == 0.02
    noise = np.random.default_rng(0).standard_normal(30)
    one, again, other = (permutation_test(x, noise, draws=500, seed=seed).p_value for seed in (1, 1, 2))
    assert one == again != other


def test_p_values_of_noise_are_uniform():
    rng = np.random.default_rng(0)
    found = [
        permutation_test(rng.random(12), rng.random(12), draws=199, seed=rng).p_value for _ in range(400)
    ]
    for level in (0.05, 0.2, 0.5):
        share = np.mean(np.array(found) <= level)
        assert share <= level + 4 * math.sqrt(level * (1 - level) / 400)
    assert 0.4 < np.mean(found) < 0.65


def test_shuffles_stay_within_their_strata_and_reach_every_place():
    strata = np.array([2, 0, 2, 0, 2, 1])
    orders = shuffles_within(strata, 500, np.random.default_rng(0))
    assert (strata[orders] == strata).all()
    assert (np.sort(orders, axis=1) == np.arange(6)).all()
    assert {tuple(order) for order in orders} == {
        order for order in itertools.permutations(range(6)) if (strata[list(order)] == strata).all()
    }


def test_nothing_to_shuffle_decides_nothing():
    alone = permutation_test(range(5), range(5), strata=range(5), draws=50)
    assert alone.tau == pytest.approx(1)
    assert math.isnan(alone.p_value)
    constant = permutation_test([1, 1, 2, 2], [1, 2, 3, 4], strata=[0, 0, 1, 1], draws=50)
    assert math.isnan(constant.p_value)
    assert math.isnan(partial_kendall(range(5), range(5), [4, 3, 2, 1, 0]).p_value)


def test_a_constant_column_has_no_correlation():
    found = permutation_test([1, 1, 1], [1, 2, 3])
    assert math.isnan(found.tau)
    assert math.isnan(found.p_value)


# --- given a third variable ---------------------------------------------------------------------------------


def test_partial_correlation_by_hand():
    x, y, z = [1, 2, 3, 4, 5], [2, 1, 4, 3, 5], [1, 3, 2, 4, 5]
    xy, xz, yz = 6 / 10, 8 / 10, 4 / 10  # two, one and three discordant pairs of ten
    expected = (xy - xz * yz) / math.sqrt((1 - xz**2) * (1 - yz**2))
    assert partial_kendall(x, y, z, draws=10).tau == pytest.approx(expected, rel=1e-12)


@given(RUNS)
@settings(max_examples=60, deadline=None)
def test_partial_correlation_is_bounded_and_symmetric(runs):
    x, y, z = zip(*runs, strict=True)
    found = partial_kendall(x, y, z, draws=10).tau
    assert math.isnan(found) or abs(found) <= 1 + 1e-9
    assert partial_kendall(y, x, z, draws=10).tau == pytest.approx(found, abs=1e-9, nan_ok=True)


def test_a_correlation_that_is_all_of_the_third_variable_vanishes():
    rng = np.random.default_rng(0)
    z = np.repeat(np.arange(6), 30)
    p_values = []
    for _ in range(100):
        x, y = z + 0.5 * rng.standard_normal((2, 180))
        assert permutation_test(x, y, draws=99).p_value == 0.01
        p_values.append(partial_kendall(x, y, z, draws=99, seed=rng).p_value)
    # Uniform, so their mean has standard error 0.029 and a share of 5 % one of 2.2 %.
    assert np.mean(p_values) == pytest.approx(0.5, abs=0.12)
    assert np.mean(np.array(p_values) <= 0.05) < 0.14
    common = rng.standard_normal(180)
    assert partial_kendall(x + common, y + common, z, draws=999).p_value == 0.001


def test_shuffling_within_strata_orders_partial_and_plain_correlation_alike():
    rng = np.random.default_rng(1)
    z = np.repeat([0, 1, 2], 5)
    x, y = rng.integers(6, size=(2, 15)) + z
    orders = shuffles_within(z, 200, rng)
    partial = np.array([partial_kendall(x[order], y, z, draws=1).tau for order in orders])
    expected = (1 + np.count_nonzero(partial >= partial_kendall(x, y, z, draws=1).tau - 1e-12)) / 201
    plain = concordance(x, y, np.vstack([np.arange(15), orders]))
    assert (1 + np.count_nonzero(plain[1:] >= plain[0])) / 201 == expected


@pytest.mark.parametrize(
    ("x", "z"), [([1, 2, 3, 4], [1, 1, 1, 1]), ([1, 2, 3, 4], [1, 3, 5, 9]), ([7] * 4, [1, 1, 2, 2])]
)
def test_partial_correlation_that_is_not_defined_is_nan(x, z):
    found = partial_kendall(x, [1, 3, 2, 4], z, draws=10)
    assert math.isnan(found.tau)
    assert math.isnan(found.p_value)


# --- within the grid ----------------------------------------------------------------------------------------

GRID = {"rate": [1, 1, 1, 2, 2, 2], "batch": [8, 16, 32, 8, 16, 32]}


def test_granulated_correlation_of_a_grid_of_two_by_three():
    measure, gap = [1, 2, 3, 4, 5, 6], [1, 3, 2, 0, 5, 9]
    found = granulated_kendall(measure, gap, GRID)
    # Batch varies at either rate: one discordant pair of three, and none. Rate varies at three batches: down, up, up.
    assert found.of == pytest.approx({"rate": 1 / 3, "batch": (1 / 3 + 1) / 2})
    assert found.subgrids == {"rate": 3, "batch": 2}
    assert found.tau == pytest.approx((1 / 3 + 2 / 3) / 2)


def test_subgrids_without_a_correlation_are_left_out():
    measure, gap = [1, 2, 3, 4, 5, 6], [1, 1, 1, 1, 5, 9]
    found = granulated_kendall(measure, gap, GRID | {"depth": [3] * 6})
    assert found.of == pytest.approx({"rate": 1, "batch": 1, "depth": math.nan}, nan_ok=True)
    assert found.subgrids == {"rate": 2, "batch": 1, "depth": 0}
    assert found.tau == pytest.approx(1)
    none = granulated_kendall([1] * 6, gap, GRID)
    assert math.isnan(none.tau)
    assert none.subgrids == {"rate": 0, "batch": 0}


def test_a_confounder_shows_and_labels_and_order_do_not_matter():
    names = {"rate": ["low"] * 3 + ["high"] * 3, "batch": list("abcabc")}
    measure, gap = [3, 2, 1, 6, 5, 4], [1, 2, 3, 11, 12, 13]  # rate drives both; within a rate they disagree
    found = granulated_kendall(measure, gap, names)
    assert found.of == {"rate": 1, "batch": pytest.approx(-1)}
    order = np.random.default_rng(0).permutation(6)
    mixed = {name: np.array(column)[order] for name, column in names.items()}
    assert granulated_kendall(np.array(measure)[order], np.array(gap)[order], mixed) == found


def test_seeds_are_held_or_their_pairs_count():
    twice = {name: column * 2 for name, column in GRID.items()}
    measure = [1, 2, 3, 4, 5, 6, 11, 12, 13, 14, 15, 16]
    gap = [1, 2, 3, 4, 5, 6, -9, -8, -7, -6, -5, -4]  # a seed moves both, in opposite directions
    held = granulated_kendall(measure, gap, twice, held={"seed": [0] * 6 + [1] * 6})
    assert held.tau == pytest.approx(1)
    assert held.subgrids == {"rate": 6, "batch": 4}
    together = granulated_kendall(measure, gap, twice)
    assert together.subgrids == {"rate": 3, "batch": 2}
    # A sub-grid of rate: runs (rate 1, 2) of either seed; two pairs within a seed agree, four across disagree.
    assert together.of["rate"] == pytest.approx(-2 / 6)


def test_grids_are_checked():
    with pytest.raises(
        ValueError, match="hyperparameters must name at least one column that varies, got none"
    ):
        granulated_kendall([1, 2, 3], [1, 2, 3], {})
    with pytest.raises(ValueError, match="rate cannot vary and be held: name it once"):
        granulated_kendall(range(6), range(6), GRID, held={"rate": range(6)})
    with pytest.raises(ValueError, match=r"rate must have one value for each of 3 runs, got shape \(2,\)"):
        granulated_kendall([1, 2, 3], [1, 2, 3], {"rate": [1, 2]})
    with pytest.raises(ValueError, match="rate of run 1 is nan"):
        granulated_kendall([1, 2, 3], [1, 2, 3], {"rate": [1, math.nan, 2]})


# --- bootstrap ----------------------------------------------------------------------------------------------


def test_bootstrap_is_tau_of_the_drawn_runs():
    rng = np.random.default_rng(0)
    x, y = rng.integers(6, size=15), rng.normal(size=15)
    counts = np.random.default_rng(4).multinomial(15, np.full(15, 1 / 15), size=30)
    expected = [kendall(np.repeat(x, c), np.repeat(y, c)) for c in counts]
    np.testing.assert_allclose(bootstrap_kendall(x, y, draws=30, seed=4), expected, atol=1e-12)


def test_bootstrap_pairs_measures_of_the_same_runs():
    rng = np.random.default_rng(1)
    gap = rng.normal(size=40)
    good, bad = gap + 0.1 * rng.normal(size=40), rng.normal(size=40)
    taus = bootstrap_kendall([[good, bad], [bad, -good]], gap, draws=200)
    assert taus.shape == (200, 2, 2)
    assert (taus[:, 0, 0] - taus[:, 0, 1]).min() > 0
    np.testing.assert_array_equal(taus[:, 0, 0], -taus[:, 1, 1])
    np.testing.assert_array_equal(taus[:, 0, 1], taus[:, 1, 0])


def test_bootstrap_given_a_third_variable_is_the_partial_tau_of_the_drawn_runs():
    rng = np.random.default_rng(0)
    x, y, z = rng.normal(size=15), rng.normal(size=15), rng.integers(4, size=15)
    counts = np.random.default_rng(4).multinomial(15, np.full(15, 1 / 15), size=30)
    drawn = [[np.repeat(one, c) for one in (x, y, z)] for c in counts]
    expected = [partial_kendall(*each, draws=1).tau for each in drawn]
    found = bootstrap_kendall([x, -x, z], y, given=z, draws=30, seed=4)
    np.testing.assert_allclose(found[:, 0], expected, atol=1e-12)
    np.testing.assert_array_equal(found[:, 1], -found[:, 0])
    assert np.isnan(found[:, 2]).all()  # nothing is left of what is given
    with pytest.raises(ValueError, match="given of run 1 is nan"):
        bootstrap_kendall([1, 2, 3], [1, 2, 3], given=[1, math.nan, 2])


def test_bootstrap_has_no_correlation_where_a_column_is_constant():
    assert np.isnan(bootstrap_kendall([1, 1, 1], [1, 2, 3], draws=5)).all()
    few = bootstrap_kendall([1, 2, 3], [1, 2, 3], draws=600)
    assert 0 < np.isnan(few).sum() < 200  # the same run three times
    assert np.nanmin(few) == 1


# --- refusals -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "function", [kendall, permutation_test, lambda x, y: granulated_kendall(x, y, {"a": x})]
)
@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        ([1, 2, 3], [1, 2], "one value a run, all equally many; got .* 3, .* 2"),
        ([1, 2], [1, 2], "need at least 3 runs, got 2"),
        ([1, 2, 3], [1, math.nan, math.inf], "of run 1 is nan: leave out runs without a finite value"),
        ([1, 2, -math.inf], [1, 2, 3], "of run 2 is -inf"),
        ([[1, 2, 3]], [1, 2, 3], r"must be one column of numbers, got shape \(1, 3\)"),
    ],
)
def test_columns_are_checked(function, x, y, message):
    with pytest.raises(ValueError, match=message):
        function(x, y)


def test_options_are_checked():
    with pytest.raises(
        ValueError, match="unknown alternative 'both'; choose one of greater, less, two-sided"
    ):
        permutation_test([1, 2, 3], [1, 2, 3], alternative="both")
    with pytest.raises(ValueError, match="draws must be a positive whole number, got 0"):
        permutation_test([1, 2, 3], [1, 2, 3], draws=0)
    with pytest.raises(ValueError, match=r"strata must have one value for each of 3 runs, got shape \(2,\)"):
        permutation_test([1, 2, 3], [1, 2, 3], strata=[1, 2])
    with pytest.raises(ValueError, match="z of run 0 is nan"):
        partial_kendall([1, 2, 3], [1, 2, 3], [math.nan, 1, 2])
    with pytest.raises(ValueError, match="draws must be a positive whole number, got 0"):
        bootstrap_kendall([1, 2, 3], [1, 2, 3], draws=0)

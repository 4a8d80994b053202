"""How the claims of the chapter are judged: on hand-made results, right ones and wrong ones."""

import itertools
import json
import math

import numpy as np
import pytest
import torch
from fakes import FakeResult

from loupe.dynamics.windows import Windows
from loupe.experiment import claims as judging
from loupe.experiment.chapter import Runs
from loupe.experiment.folders import PRESET_NAMES, MissingResultError
from loupe.experiment.units import experiments_of
from loupe.papers import egno as room
from loupe.papers.egno import CLAIMS, PRESETS, experiments
from loupe.papers.egno.claims import (
    FEW_STEPS,
    LATE,
    LONG,
    NO_DATA,
    SPREAD,
    bootstrap,
    changed,
    of_windows,
    shared_and_new,
    variants,
)

REPRODUCED, PARTLY, NOT = judging.REPRODUCED, judging.PARTLY, judging.NOT_REPRODUCED
OPEN, NOT_TESTED = judging.INCONCLUSIVE, judging.NOT_TESTED
CLAIM = {claim.id: claim for claim in CLAIMS}
S, P = 60, 5
KINDS, DIGITS, WHATS = ("complete", "tree"), ("float64", "float32"), ("turned", "shifted", "renumbered")
T_OF_THREE = 4.302653  # 97.5 % quantile of Student's law with two degrees of freedom


def runs_of(*results, seeds=None):
    seeds = range(len(results)) if seeds is None else seeds
    return Runs(tuple(FakeResult(seed, values) for seed, values in zip(seeds, results, strict=True)))


def judged(claim, preset="gpu", **results):
    return judging.judge(CLAIM[claim], preset, results)


def verdict(claim, preset="gpu", **results):
    return judged(claim, preset, **results).verdict


def outcomes(found):
    return [measure.outcome for measure in found.measures]


def noise(seed, spread=0.3, count=S):
    """Factors of windows, around 1."""
    return np.exp(spread * np.random.default_rng(seed).standard_normal((count, 1)))


def errors(*levels, seed=0, spread=0.3, common=None):
    """Errors ``(S, P)`` whose means over windows are exactly these levels; ``common`` factors make windows paired."""
    found = noise(seed, spread) * (1.0 if common is None else common)
    return found / found.mean() * np.array(levels, dtype=float)


WORSE = (9.0, 9.0, 9.0, 9.0)
"""Errors before the end, where a claim asks about the end only."""


# --- exact --------------------------------------------------------------------------------------------------


def identities(**changes):
    """Results in the layout of the experiment: every deviation different."""
    run = {
        f"{kind} {digits} {what}": (1e-12 if digits == "float64" else 1e-6) * (1 + k + 3 * (kind == "tree"))
        for kind in KINDS for digits in DIGITS for k, what in enumerate(WHATS)
    }  # fmt: skip
    run |= {"convolutions": np.array([1e-15, 3e-15, 2e-15, 1e-16]), "apart turned": 0.4}
    return runs_of(run | changes)


@pytest.mark.parametrize("preset", PRESET_NAMES)
@pytest.mark.parametrize("claim", ["EG1", "EG2", "EG3"])
def test_identities_are_judged_at_every_preset(claim, preset):
    assert verdict(claim, preset, identities=identities()) == REPRODUCED


def test_hand_made_identities_have_the_layout_of_the_experiment():
    config = PRESETS["smoke"].override({"width": 4, "layers": 1})
    found = experiments.identities(config, seed=0, device="cpu")
    assert found.keys() == identities().first.keys()
    for claim in ("EG1", "EG2", "EG3"):
        assert verdict(claim, identities=runs_of(found)) == REPRODUCED


def test_deviations_are_the_worst_of_both_graphs():
    found = judged("EG1", identities=identities())
    assert [measure.label for measure in found.measures] == [
        f"{word}, {digits}"
        for digits in DIGITS for word in ("rotations and reflections", "shifts", "renumbering")
    ]  # fmt: skip
    values = [measure.value for measure in found.measures]
    assert values == pytest.approx([4e-12, 5e-12, 6e-12, 4e-6, 5e-6, 6e-6])
    assert [measure.accepts.high for measure in found.measures] == [1e-10] * 3 + [1e-4] * 3
    other = judged("EG1", identities=identities(**{"complete float32 shifted": 7e-5}))
    assert [measure.value for measure in other.measures][4] == 7e-5


@pytest.mark.parametrize("key", [" ".join(key) for key in itertools.product(KINDS, DIGITS, WHATS)])
def test_any_broken_symmetry_fails_the_claim(key):
    _, digits, what = key.split()
    found = judged("EG1", identities=identities(**{key: 1.1e-4 if digits == "float32" else 1.1e-10}))
    place = 3 * DIGITS.index(digits) + WHATS.index(what)
    assert [k for k, outcome in enumerate(outcomes(found)) if outcome != REPRODUCED] == [place]
    assert found.verdict == PARTLY
    assert judging.failed_exact([found]) == [found]


@pytest.mark.parametrize("key", [" ".join(key) for key in itertools.product(KINDS, DIGITS, WHATS)])
def test_a_deviation_that_is_no_number_fails_the_claim(key):
    found = judged("EG1", identities=identities(**{key: math.nan}))
    assert judging.failed_exact([found]) == [found]


def test_a_network_that_says_no_numbers_is_not_called_equivariant():
    class Nowhere(torch.nn.Module):
        def forward(self, x, v, features, graph, edge_features):
            return torch.full_like(x, math.nan).unsqueeze(0)

    graph = experiments._graphs(PRESETS["smoke"])["complete"]
    found = experiments._deviations(Nowhere(), graph, torch.float64, torch.Generator().manual_seed(0))
    assert not any(value < 1e-10 for value in found.values())


@pytest.mark.parametrize(
    ("worst", "expected"), [(9e-13, REPRODUCED), (1.1e-12, NOT), (math.nan, OPEN)], ids=str
)
@pytest.mark.parametrize("place", range(4))
def test_every_convolution_is_judged(place, worst, expected):
    values = np.full(4, 1e-15)
    values[place] = worst
    found = judged("EG2", identities=identities(convolutions=values))
    assert found.verdict == expected
    assert found.measures[0].value == pytest.approx(worst, nan_ok=True)
    assert bool(judging.failed_exact([found])) == (expected != REPRODUCED)


@pytest.mark.parametrize(
    ("deviation", "expected"), [(0.011, REPRODUCED), (0.009, NOT), (math.nan, OPEN)], ids=str
)
def test_weights_of_each_coordinate_must_break_the_symmetry(deviation, expected):
    assert verdict("EG3", identities=identities(**{"apart turned": deviation})) == expected


def turned(*deviations, windows=(0, 0)):
    """Results of these deviations of both turns, which change the errors of so many windows."""
    plain, found = errors(1.0, 2.0), []
    for k, values in enumerate(deviations):
        run = {"EGNO errors": plain}
        for what, deviation, count in zip(("turned", "upright"), values, windows, strict=True):
            factors = np.where(np.arange(S) < count + k, 1.002, 1.0009)[:, None]
            factors[1::2] = 2 - factors[1::2]  # an error may fall as well
            run |= {f"EGNO {what} deviation": deviation, f"EGNO {what} errors": plain * factors}
        found.append(run)
    return runs_of(*found)


@pytest.mark.parametrize(
    ("claim", "experiment", "place"), [("EG1b", "charged_egno", 0), ("EG1c", "running", 1)]
)
def test_trained_networks_are_judged_by_their_worst_seed(claim, experiment, place):
    good, bad, other = (2e-6, 3e-6), [2e-6, 3e-6], [5e-6, 5e-6]
    bad[place], other[1 - place] = 2e-4, 0.9
    for seeds in ((good, tuple(bad), good), (tuple(bad), good), (good, good, tuple(bad))):
        found = judged(claim, **{experiment: turned(*seeds)})
        assert found.verdict == NOT
        assert found.measures[0].value == 2e-4
    found = judged(claim, **{experiment: turned(good, tuple(other))})
    assert found.verdict == REPRODUCED  # the other turn is another question
    assert found.measures[0].value == 5e-6


@pytest.mark.parametrize(
    ("claim", "experiment", "count"), [("EG1b", "charged_egno", 7), ("EG1c", "running", 30)]
)
def test_windows_that_change_when_all_is_turned_are_counted(claim, experiment, count):
    found = judged(claim, **{experiment: turned(*[(1e-6, 1e-6)] * 3, windows=(7, 30))})
    assert found.measures[0].basis.endswith(
        f"; {count + 2} of {S} windows have another error"
    )  # of the worst seed


def test_windows_without_a_number_have_changed():
    run = turned((1e-6, 1e-6)).first
    run["EGNO turned errors"][3] = math.nan
    assert changed(run, "EGNO", "turned") == 1


@pytest.mark.parametrize(("claim", "experiment"), [("EG1b", "charged_egno"), ("EG1c", "running")])
def test_a_trained_network_that_says_no_numbers_is_no_success(claim, experiment):
    for seeds in itertools.permutations([(1e-6, 1e-6), (math.nan, math.nan), (1e-6, 1e-6)]):
        assert verdict(claim, **{experiment: turned(*seeds)}) != REPRODUCED


def test_the_network_that_is_told_heights_is_judged_from_cpu_on():
    runs = turned((1e-6, 1e-6))
    assert verdict("EG1c", "cpu", running=runs) == REPRODUCED
    assert verdict("EG1c", "smoke", running=runs) == NOT_TESTED
    assert verdict("EG1b", "smoke", charged_egno=runs) == REPRODUCED


# --- the interval -------------------------------------------------------------------------------------------


def test_the_interval_is_that_of_resampled_windows():
    ours, theirs = noise(1).ravel() * 0.5, noise(2).ravel()
    ratio, low, high = bootstrap(ours, theirs)
    assert ratio == pytest.approx(sum(ours) / sum(theirs))
    generator, ratios = np.random.default_rng(77), []
    for _ in range(4000):
        chosen = [int(generator.integers(S)) for _ in range(S)]
        ratios.append(sum(ours[k] for k in chosen) / sum(theirs[k] for k in chosen))
    ratios.sort()
    wide = ratios[3900] - ratios[100]
    assert low == pytest.approx(ratios[100], abs=0.12 * wide)
    assert high == pytest.approx(ratios[3900], abs=0.12 * wide)
    # And that of a linear approximation.
    rest = (ours - ratio * theirs) / theirs.mean()
    assert high - low == pytest.approx(2 * 1.96 * rest.std() / math.sqrt(S), rel=0.15)


def test_two_windows_have_three_ratios():
    ratio, low, high = bootstrap(np.array([1.0, 3.0]), np.array([2.0, 2.0]))
    assert (ratio, low, high) == (1.0, 0.5, 1.5)
    ratio, low, high = bootstrap(np.array([1.0, 3.0]), np.array([1.0, 6.0]))
    assert (ratio, low, high) == pytest.approx((4 / 7, 0.5, 1.0))


def test_windows_are_paired():
    theirs = noise(3, spread=2.0).ravel()
    assert bootstrap(0.5 * theirs, theirs) == pytest.approx((0.5, 0.5, 0.5))
    _, low, high = bootstrap(0.5 * theirs[::-1], theirs)
    assert high - low > 0.2


def test_the_interval_is_the_same_each_time():
    ours, theirs = noise(1).ravel(), noise(2).ravel()
    assert bootstrap(ours, theirs) == bootstrap(ours, theirs)


def test_errors_of_windows_are_means_over_seeds():
    runs = runs_of(
        *({"A errors": np.full((3, 2), k), "A B errors": np.zeros((3, 2))} for k in (1.0, 2.0, 6.0))
    )
    assert np.array_equal(of_windows(runs, "A"), np.full((3, 2), 3.0))


# --- charged particles --------------------------------------------------------------------------------------


def charged(egno=0.02, egnn=0.03, line=0.08, seeds=1, spread=0.3):
    """Errors at the end; those before it would judge otherwise."""
    common = noise(9, spread)
    own = {"spread": 0.02, "common": common}
    return {
        "charged_egno": runs_of(*(
            {"EGNO errors": errors(*WORSE, egno, seed=k, **own)} for k in range(seeds)
        )),
        "charged_egnn": runs_of(*(
            {"EGNN errors": errors(egnn, seed=10 + k, **own), "EGNN-S errors": errors(*WORSE, 8, **own),
             "EGNN-R errors": errors(*WORSE, 7, **own)} for k in range(seeds)
        )),
        "charged_others": runs_of(*(
            {"Linear errors": errors(0.001, 0.001, 0.001, 0.001, line, seed=20, **own),
             "still errors": errors(*WORSE, 6, **own), "RF errors": errors(5, **own), "MPNN errors": errors(4, **own)}
            for _ in range(seeds)
        )),
    }  # fmt: skip


def test_networks_are_compared_with_lines_at_the_end():
    found = judged("EG4a", "cpu", **charged(seeds=2))
    assert found.verdict == REPRODUCED
    assert [measure.label for measure in found.measures] == [
        "F-MSE, EGNO over straight lines", "F-MSE, EGNN over straight lines",
    ]  # fmt: skip
    assert [measure.value for measure in found.measures] == pytest.approx([0.25, 0.375])
    assert all(measure.low < measure.value < measure.high for measure in found.measures)
    assert all(
        measure.basis == f"mean of 2 seeds; 95 % bootstrap interval over {S} windows, paired"
        for measure in found.measures
    )
    assert judged("EG4a", **charged()).measures[0].basis.startswith("one seed; ")


@pytest.mark.parametrize(
    ("egno", "egnn", "expected"),
    [
        (0.02, 0.02, REPRODUCED),
        (0.08, 0.02, PARTLY),
        (0.02, 0.08, PARTLY),
        (0.08, 0.08, NOT),
        (0.056, 0.02, OPEN),  # 0.7 of lines, in the middle of the interval
        (0.02, 0.056, OPEN),
        (0.056, 0.08, OPEN),
    ],
)
def test_far_better_than_lines_is_below_0_7(egno, egnn, expected):
    assert verdict("EG4a", **charged(egno, egnn)) == expected


@pytest.mark.parametrize("claim", ["EG4a", "EG5a", "EG6a"])
def test_sixty_steps_are_not_judged(claim):
    assert PRESETS["smoke"].steps == 60
    found = judged(claim, "smoke", **charged())
    assert (found.verdict, found.measures) == (NOT_TESTED, ())
    assert found.reason == CLAIM[claim].reason
    assert CLAIM["EG4a"].reason == FEW_STEPS


def ends(name, *values, seeds=None):
    return runs_of(
        *({f"{name} errors": errors(*WORSE, value, seed=k)} for k, value in enumerate(values)), seeds=seeds
    )


def test_egno_is_better_at_each_of_three_seeds():
    ours, theirs = ends("EGNO", 1.0, 2.0, 3.0), ends("EGNN", 2.0, 5.0, 3.2)
    found = judged("EG4b", charged_egno=ours, charged_egnn=theirs)
    assert found.verdict == REPRODUCED
    (measure,) = found.measures
    ratios = [0.5, 0.4, 3 / 3.2]
    assert measure.each == pytest.approx(ratios)
    assert measure.value == pytest.approx(np.mean(ratios))
    assert measure.high - measure.value == pytest.approx(T_OF_THREE * np.std(ratios, ddof=1) / math.sqrt(3))
    assert "every one of 3 seeds" in measure.basis


@pytest.mark.parametrize(
    ("ours", "theirs", "expected"),
    [
        ((1.0, 1.0, 1.0), (2.0, 2.0, 2.0), REPRODUCED),
        ((2.0, 2.0, 2.0), (1.0, 1.0, 1.0), NOT),
        ((1.0, 1.0, 1.1), (9.0, 9.0, 1.0), NOT),  # better on average, and not at each seed
        ((1.1, 1.0, 1.0), (1.0, 9.0, 9.0), NOT),
        ((math.nan, 1.0, 1.0), (2.0, 2.0, 2.0), OPEN),
    ],
)
def test_one_seed_against_it_is_enough(ours, theirs, expected):
    assert verdict("EG4b", charged_egno=ends("EGNO", *ours), charged_egnn=ends("EGNN", *theirs)) == expected


def test_seeds_are_compared_with_themselves():
    ours = ends("EGNO", 3.0, 2.0, 1.0, seeds=(2, 1, 0))
    theirs = ends("EGNN", 2.0, 4.0, 6.0)
    found = judged("EG4b", charged_egno=ours, charged_egnn=theirs)
    assert found.measures[0].each == pytest.approx((0.5, 0.5, 0.5))
    more = ends("EGNO", 1.0, 100.0, 2.0, 3.0, seeds=(0, 7, 1, 2))
    assert judged("EG4b", charged_egno=more, charged_egnn=theirs).measures[0].each == pytest.approx(
        (0.5,) * 3
    )


@pytest.mark.parametrize(
    ("ours", "theirs", "count"),
    [
        ((0, 1), (0, 1), "2"),
        ((0, 1, 2), (0, 1, 3), "2"),
        ((0, 1, 2), (3, 4, 5), "0"),
        ((0,), (0, 1, 2), "1"),
    ],
)
@pytest.mark.parametrize("claim", ["EG4b", "EG5b"])
def test_fewer_than_three_seeds_in_common_are_not_judged(claim, ours, theirs, count):
    results = {
        "charged_egno": whole_runs("EGNO", [1.0] * len(ours), seeds=ours),
        "charged_egnn": whole_runs("EGNN EGNN-S EGNN-R", [9.0] * len(theirs), seeds=theirs),
    }
    found = judged(claim, **results)
    assert found.verdict == NOT_TESTED
    assert found.reason == f"the criterion is asked of 3 seeds; stored: {count}"


# --- the whole window ---------------------------------------------------------------------------------------


def whole_runs(names, levels, seeds=None):
    """A level for each seed; methods of one experiment are 1, 2, 3, ... times as bad as it."""
    return runs_of(*(
        {f"{name} errors": errors(*(k * level * np.linspace(0.5, 1.5, P)), seed=20 * j + k, spread=0.02,
                                  common=noise(9))
         for k, name in enumerate(names.split(), 1)}
        for j, level in enumerate(levels)
    ), seeds=seeds)  # fmt: skip


def at_times(ours, line):
    return {
        "charged_egno": runs_of({"EGNO errors": errors(*ours, seed=1, spread=0.05, common=noise(9))}),
        "charged_others": runs_of(
            {
                "Linear errors": errors(*line, seed=2, spread=0.05, common=noise(9)),
                "still errors": errors(*[1e-9] * 5),
            }
        ),
    }


def test_every_time_has_its_own_line():
    line = np.array([1.0, 2.0, 3.0, 4.0, 5.0])
    found = judged("EG5a", **at_times(line * [0.1, 0.2, 0.3, 0.4, 0.5], line))
    assert found.verdict == REPRODUCED
    assert [measure.value for measure in found.measures] == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5])
    for p, measure in enumerate(found.measures, 1):
        assert measure.label == f"error at {p}/5 of the window, EGNO over a straight line"


@pytest.mark.parametrize("place", range(5))
@pytest.mark.parametrize(("factor", "expected"), [(0.5, REPRODUCED), (2.0, PARTLY), (1.0, OPEN)])
def test_one_time_at_which_lines_are_better_counts(place, factor, expected):
    factors = np.full(5, 0.5)
    factors[place] = factor
    found = judged("EG5a", "cpu", **at_times(factors, np.ones(5)))
    assert found.verdict == expected
    assert [k for k, one in enumerate(outcomes(found)) if one != REPRODUCED] == [place][: factor > 0.5]


def trajectories(egno=1.0, sequential=2.0, rolled=4.0, seeds=3):
    def make(value, k):
        return errors(*(value * np.linspace(0.5, 1.5, P)), seed=k, spread=0.05, common=noise(9))

    return {
        "charged_egno": runs_of(*({"EGNO errors": make(egno, k)} for k in range(seeds))),
        "charged_egnn": runs_of(*(
            {"EGNN errors": errors(0.01), "EGNN-S errors": make(sequential, 10 + k),
             "EGNN-R errors": make(rolled, 20 + k)} for k in range(seeds)
        )),
    }  # fmt: skip


def test_the_whole_window_is_the_mean_over_times():
    found = judged("EG5b", **trajectories(1.0, 1.6, 5.0))
    assert found.verdict == REPRODUCED
    assert {measure.label: measure.value for measure in found.measures} == pytest.approx(
        {
            "A-MSE, EGNO over EGNN-S": 1 / 1.6,
            "A-MSE, EGNO over EGNN-R": 0.2,
            "A-MSE, EGNN-S over EGNN-R": 0.32,
        }
    )
    assert [measure.accepts.high for measure in found.measures] == [1.0, 0.5, 1.0]
    assert all(measure.basis.startswith("mean of 3 seeds; ") for measure in found.measures)


@pytest.mark.parametrize(
    ("egno", "sequential", "rolled", "expected"),
    [
        (1.0, 2.0, 4.0, [REPRODUCED, REPRODUCED, REPRODUCED]),
        (2.0, 1.0, 8.0, [NOT, REPRODUCED, REPRODUCED]),
        (1.0, 1.5, 1.8, [REPRODUCED, NOT, REPRODUCED]),
        (1.0, 8.0, 4.0, [REPRODUCED, REPRODUCED, NOT]),
        (4.0, 2.0, 1.0, [NOT, NOT, NOT]),
        (2.0, 2.0, 4.0, [OPEN, OPEN, REPRODUCED]),
    ],
)
def test_the_order_of_three_methods(egno, sequential, rolled, expected):
    assert outcomes(judged("EG5b", **trajectories(egno, sequential, rolled))) == expected


def test_a_seed_that_only_one_experiment_has_does_not_count():
    ours = whole_runs("EGNO", [1.0, 1.0, 1.0, 1000.0])
    theirs = whole_runs("EGNN-S EGNN-R", [2.0, 2.0, 2.0])
    found = judged("EG5b", charged_egno=ours, charged_egnn=theirs)
    assert [measure.value for measure in found.measures] == pytest.approx([0.5, 0.25, 0.5])


# --- people -------------------------------------------------------------------------------------------------

PEOPLE = ("running", "walking")
METHODS = ("EGNO-L", "EGNO", "EGNN")


def people(levels, line=1.0, seeds=1):
    """Errors at the end by method, for both."""
    return {
        what: runs_of(*(
            {f"{name} errors": errors(*(() if name == "EGNN" else WORSE), level, seed=k)
             for name, level in zip(METHODS, levels[what], strict=True)}
            | {"Linear errors": errors(*[0.001] * 4, line), "still errors": errors(*[0.001] * 5),
               "EGNN-S errors": errors(*[0.002] * 5), "EGNN-R errors": errors(*[0.003] * 5)}
            for k in range(seeds)
        )) for what in PEOPLE
    }  # fmt: skip


@pytest.mark.parametrize("seeds", [1, 2])
def test_people_are_compared_with_lines_by_every_network(seeds):
    levels = {"running": (0.1, 0.2, 0.3), "walking": (0.4, 0.5, 0.6)}
    found = judged("EG6a", "cpu", **people(levels, seeds=seeds))
    assert found.verdict == REPRODUCED
    assert {measure.label: measure.value for measure in found.measures} == pytest.approx({
        f"{what}: F-MSE, {name} over straight lines": level
        for what in PEOPLE for name, level in zip(METHODS, levels[what], strict=True)
    })  # fmt: skip
    for measure in found.measures:
        assert measure.low is None
        assert measure.basis == f"{S} test windows, which overlap: no interval; seeds: {seeds}"


@pytest.mark.parametrize("what", PEOPLE)
@pytest.mark.parametrize("place", range(3))
def test_one_network_that_is_worse_than_lines_counts(what, place):
    levels = {one: [0.5, 0.5, 0.5] for one in PEOPLE}
    levels[what][place] = 1.2
    found = judged("EG6a", "cpu", **people(levels))
    assert found.verdict == PARTLY
    (worse,) = (measure for measure in found.measures if measure.outcome == NOT)
    assert worse.label == f"{what}: F-MSE, {METHODS[place]} over straight lines"


def test_people_of_three_seeds_are_compared_by_seed():
    runs = {
        what: runs_of(*(
            {"EGNO-L errors": errors(*WORSE, ratio * level), "EGNN errors": errors(level),
             "EGNO errors": errors(*WORSE, 50.0)}
            for ratio, level in zip(ratios, (1.0, 10.0, 100.0), strict=True)
        ))
        for what, ratios in (("walking", (0.5, 0.6, 0.55)), ("running", (0.9, 0.91, 0.89)))
    }  # fmt: skip
    found = judged("EG6b", **runs)
    assert found.verdict == REPRODUCED
    assert [measure.label.split(":")[0] for measure in found.measures] == ["walking", "running"]
    assert [measure.value for measure in found.measures] == pytest.approx([0.55, 0.9])
    assert [measure.accepts.high for measure in found.measures] == [0.8, 1.0]
    half = T_OF_THREE * 0.05 / math.sqrt(3)
    assert found.measures[0].high == pytest.approx(0.55 + half)
    assert found.measures[0].low == pytest.approx(0.55 - half)


@pytest.mark.parametrize(
    ("walking", "running", "expected"),
    [
        ((0.5, 0.5, 0.5), (0.9, 0.9, 0.9), [REPRODUCED, REPRODUCED]),
        ((0.9, 0.9, 0.9), (0.9, 0.9, 0.9), [NOT, REPRODUCED]),
        ((0.5, 0.5, 0.5), (1.1, 1.1, 1.1), [REPRODUCED, NOT]),
        ((0.3, 0.6, 0.9), (0.9, 0.9, 0.9), [OPEN, REPRODUCED]),
        ((0.5, 0.5, 0.5), (0.7, 0.9, 1.1), [REPRODUCED, OPEN]),
    ],
)
def test_walking_and_running_have_their_own_limits(walking, running, expected):
    runs = {
        what: runs_of(*({"EGNO-L errors": errors(ratio), "EGNN errors": errors(1.0)} for ratio in ratios))
        for what, ratios in (("walking", walking), ("running", running))
    }
    assert outcomes(judged("EG6b", **runs)) == expected


def test_two_seeds_of_people_are_not_judged():
    levels = {what: (0.1, 0.1, 1.0) for what in PEOPLE}
    found = judged("EG6b", **people(levels, seeds=2))
    assert found.verdict == NOT_TESTED
    assert found.reason == "the criterion is asked of 3 seeds; stored: 2"
    few = people(levels, seeds=3) | {"running": people(levels, seeds=2)["running"]}
    assert verdict("EG6b", **few) == NOT_TESTED
    assert verdict("EG6b", **people(levels, seeds=3)) == REPRODUCED


# --- time ---------------------------------------------------------------------------------------------------


def test_shared_times_are_those_of_the_training():
    times = torch.arange(1, 11, dtype=torch.float64) / 10
    targets = times.view(1, -1, 1, 1).expand(2, -1, 4, 3)
    windows = Windows(
        targets[:, 0], targets[:, 0], targets, times, 1.0, torch.zeros(2, 0), torch.zeros(2, 0, 1)
    )
    trained = windows.thinned(5).times.tolist()
    shared, new = shared_and_new(np.stack([times.numpy(), 10 * times.numpy()]))
    assert shared == pytest.approx([np.mean(trained), 10 * np.mean(trained)])
    assert new == pytest.approx([np.mean([0.1, 0.3, 0.5, 0.7, 0.9]), 5.0])


def fine(shared, new, seeds=1, usual=1.0):
    """Errors at ten times, of which every second is shared; what is told the number of the slice fails."""
    own = noise(9)
    return runs_of(*(
        {"EGNO physical fine errors": errors(*[new, shared] * P, seed=k, spread=0.05, common=own),
         "EGNO index fine errors": errors(*[50.0] * 10),
         "EGNO errors": errors(*[usual] * P, seed=30 + k, spread=0.05, common=own)}
        for k in range(seeds)
    ))  # fmt: skip


@pytest.mark.parametrize(
    ("shared", "new", "usual", "expected"),
    [
        (1.0, 1.5, 1.0, [REPRODUCED, REPRODUCED]),
        (1.0, 2.5, 1.0, [NOT, REPRODUCED]),
        (1.5, 1.0, 1.0, [REPRODUCED, REPRODUCED]),
        (2.5, 2.5, 1.0, [REPRODUCED, NOT]),  # all ten as bad as each other, and worse than as trained
        (0.5, 0.9, 1.0, [REPRODUCED, REPRODUCED]),
        (2.5, 6.0, 1.0, [NOT, NOT]),
        (1.0, 2.01, 1.0, [NOT, REPRODUCED]),  # windows are paired: no interval is left
        (2.0, 2.0, 1.0, [REPRODUCED, OPEN]),
        (math.nan, 1.0, 1.0, [OPEN, OPEN]),
        (1.0, math.nan, 1.0, [OPEN, REPRODUCED]),
        (1.0, 1.0, math.nan, [REPRODUCED, OPEN]),
    ],
)
def test_new_times_and_shared_ones_may_be_twice_as_bad(shared, new, usual, expected):
    found = judged("EG7", charged_egno=fine(shared, new, 3, usual))
    assert outcomes(found) == expected
    assert {measure.label: measure.value for measure in found.measures} == pytest.approx(
        {
            "A-MSE at new times over that at shared times": new / shared,
            "A-MSE at shared times, asked among ten over asked alone": shared / usual,
        },
        nan_ok=True,
    )
    assert [measure.accepts.high for measure in found.measures] == [2.0, 2.0]
    assert all(measure.basis.startswith("mean of 3 seeds") for measure in found.measures)


def test_new_times_about_twice_as_bad_leave_it_open():
    own = {"EGNO index fine errors": errors(*[50.0] * 10), "EGNO errors": errors(*[1.0] * P)}
    rng = np.random.default_rng(0)
    values = np.exp(0.5 * rng.standard_normal((S, 10))) * np.tile([2.0, 1.0], P)
    found = judged("EG7", charged_egno=runs_of(own | {"EGNO physical fine errors": values}))
    assert outcomes(found) == [OPEN, REPRODUCED]
    assert found.verdict == OPEN


# --- parts --------------------------------------------------------------------------------------------------

PARTS = {
    "full": 1.0, "1 modes": 2.0, "3 modes": 1.5, "only invariants": 1.3, "only vectors": 1.4, "no convolution": 1.6,
    "2 slices": 0.2, "10 slices": 0.1,
}  # fmt: skip


def parts(seeds=1, **changes):
    levels = PARTS | {name.replace("_", " "): level for name, level in changes.items()}
    own = noise(9)
    return runs_of(*(
        {"variants": np.array(list(levels))} | {
            f"{name} errors": errors(*[0.001 if name == "1 modes" else 9.0] * 4, level, seed=20 * k + j, spread=0.1,
                                     common=own)
            for j, (name, level) in enumerate(levels.items())
        } for k in range(seeds)
    ))  # fmt: skip


def with_modes(**levels):
    """As ``parts``, of these numbers of frequencies: one, three."""
    words = {"one": "1 modes", "three": "3 modes"}
    return parts(**{words.get(name, name): level for name, level in levels.items()})


def test_variants_are_all_that_are_listed():
    found = variants(parts(seeds=2))
    assert list(found) == list(PARTS)
    for name, level in PARTS.items():
        assert found[name][:, -1].mean() == pytest.approx(level)


def test_two_frequencies_are_compared_with_the_best_number():
    found = judged("EG8", ablations=parts(seeds=3))
    assert found.verdict == REPRODUCED
    (measure,) = found.measures
    assert (measure.value, measure.low, measure.high) == (1.0, 1.0, 1.0)
    assert measure.label == "F-MSE, the full network over the best, itself"
    assert measure.basis.startswith("mean of 3 seeds")


@pytest.mark.parametrize(
    ("levels", "expected", "value", "best"),
    [
        ({"one": 0.5}, NOT, 2.0, "1 modes"),
        ({"three": 0.8}, NOT, 1.25, "3 modes"),
        ({"one": 0.8, "three": 0.5}, NOT, 2.0, "3 modes"),
        ({"three": 1 / 1.05}, OPEN, 1.05, "3 modes"),
    ],
)
def test_another_number_of_frequencies_may_be_better(levels, expected, value, best):
    found = judged("EG8", ablations=with_modes(**levels))
    assert found.verdict == expected
    assert found.measures[0].value == pytest.approx(value)
    assert found.measures[0].label == f"F-MSE, the full network over the best, {best}"


def test_both_convolutions_are_compared_with_one_and_none():
    found = judged("EG9", ablations=parts())
    assert found.verdict == REPRODUCED
    assert {measure.label: measure.value for measure in found.measures} == pytest.approx({
        f"F-MSE, both convolutions over {name}": 1 / PARTS[name]
        for name in ("only invariants", "only vectors", "no convolution")
    })  # fmt: skip


@pytest.mark.parametrize("name", ["only_invariants", "only_vectors", "no_convolution"])
@pytest.mark.parametrize(("level", "expected"), [(0.7, PARTLY), (1.0, OPEN)])
def test_a_part_that_is_better_alone_counts(name, level, expected):
    found = judged("EG9", ablations=parts(**{name: level}))
    assert found.verdict == expected
    place = ["only_invariants", "only_vectors", "no_convolution"].index(name)
    assert [k for k, one in enumerate(outcomes(found)) if one != REPRODUCED] == [place]
    assert verdict("EG9", ablations=parts(full=3.0)) == NOT


# --- all of them --------------------------------------------------------------------------------------------


def everything(seeds=3):
    """Results from which every claim can be judged."""
    levels = {what: (0.1, 0.2, 0.5) for what in PEOPLE}
    found = charged(seeds=seeds)
    motion = {
        what: runs_of(
            *(run | turned((1e-6, 1e-6)).first | {"EGNO errors": run["EGNO errors"]} for run in runs)
        )
        for what, runs in people(levels, seeds=seeds).items()
    }
    ours = runs_of(*(
        one | turned((1e-6, 1e-6)).first | two | {"EGNO errors": one["EGNO errors"]}
        for one, two in zip(found["charged_egno"], fine(1.0, 1.2, seeds), strict=True)
    ))  # fmt: skip
    return found | motion | {"charged_egno": ours, "ablations": parts(seeds), "identities": identities()}


class Watched(dict):
    """Results that know which of them were read."""

    def __init__(self, values):
        super().__init__(values)
        self.read = set()

    def __getitem__(self, name):
        self.read.add(name)
        return super().__getitem__(name)


class Nothing(dict):
    def __missing__(self, key):
        raise MissingResultError(key)


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim.id)
def test_a_claim_that_is_not_tested_says_why(claim):
    for preset in PRESET_NAMES:
        found = judging.judge(claim, preset, Nothing())
        assert found.verdict == NOT_TESTED
        assert found.reason
        if claim.judge and preset in claim.at:
            assert found.reason == f"not computed at {preset} yet"


@pytest.mark.parametrize("claim", [one for one in CLAIMS if one.judge], ids=lambda claim: claim.id)
def test_claims_are_asked_where_their_experiments_are_run(claim):
    results = Watched(everything())
    assert judging.judge(claim, "gpu", results).measures
    assert results.read
    for preset in claim.at:
        for name in results.read:
            seeds = getattr(PRESETS[preset], experiments_of(room)[name].seeds_field)
            assert seeds, (preset, name)
            assert len(seeds) >= 3 or claim.id not in ("EG4b", "EG5b", "EG6b"), (preset, name)


@pytest.mark.parametrize("claim", [one for one in CLAIMS if one.judge], ids=lambda claim: claim.id)
def test_a_missing_experiment_leaves_a_claim_untested(claim):
    results = Watched(everything())
    judging.judge(claim, "gpu", results)
    for name in results.read:
        less = Nothing({key: value for key, value in results.items() if key != name})
        assert judging.judge(claim, "gpu", less).verdict == NOT_TESTED


def test_times_and_what_is_only_reported_are_never_judged():
    for identity in ("EG10", "EG11"):
        for preset in PRESET_NAMES:
            found = judging.judge(CLAIM[identity], preset, everything())
            assert (found.verdict, found.reason) == (NOT_TESTED, CLAIM[identity].reason)
    assert (CLAIM["EG10"].kind, CLAIM["EG11"].kind) == ("timing", "reported")


def test_only_identities_can_break_a_build():
    assert [claim.id for claim in CLAIMS if claim.kind == "exact"] == ["EG1", "EG2", "EG3"]
    for claim in CLAIMS:
        if claim.kind == "exact":
            assert set(claim.at) == set(PRESET_NAMES)


def test_the_ledger_can_be_written():
    found = [judging.judge(claim, "gpu", everything()) for claim in CLAIMS]
    ledger = json.loads(judging.ledger_json("egno", "gpu", found))
    assert [claim["id"] for claim in ledger["claims"]] == [claim.id for claim in CLAIMS]
    assert len({claim.anchor for claim in CLAIMS}) == len(CLAIMS)
    for claim in ledger["claims"]:
        for measure in claim["measures"]:
            assert measure["value"] is not None
            assert measure["basis"]


def test_reasons_are_true_of_the_presets():
    """Claims that long training is asked for: at cpu it is at least ten times as short."""
    cpu, gpu = PRESETS["cpu"], PRESETS["gpu"]
    steps = {
        LATE: {"EG4b": "steps", "EG6b": "motion_steps"},
        SPREAD: {"EG5b": "steps"},
        LONG: {"EG7": "steps", "EG8": "ablation_steps", "EG9": "ablation_steps"},
    }
    for reason, names in steps.items():
        assert [claim.id for claim in CLAIMS if claim.reason == reason] == list(names)
        assert all(reason == judged(claim, "cpu").reason for claim in names)
        assert {
            claim for claim, name in names.items() if 10 * getattr(cpu, name) > getattr(gpu, name)
        } == set()


def test_an_order_of_two_seeds_is_not_judged():
    assert "two seeds" in SPREAD
    assert "three seeds" in SPREAD
    assert [len(PRESETS[name].seeds) for name in ("cpu", "gpu")] == [2, 3]


def test_people_are_not_called_trained_where_they_are_not():
    assert PRESETS["smoke"].motion_seeds == ()
    assert [claim.id for claim in CLAIMS if claim.reason == NO_DATA] == ["EG1c", "EG6a"]
    for claim in ("EG1c", "EG6a"):
        assert judged(claim, "smoke").reason == NO_DATA
    assert "people" in NO_DATA

"""How the claims of the chapter are judged: on hand-made results, right ones and wrong ones."""

import itertools
import json
import math
import types

import numpy as np
import pytest
import torch
from fakes import FakeResult

from loupe.dynamics.windows import Windows
from loupe.experiment import claims as judging
from loupe.experiment.folders import PRESET_NAMES, MissingResultError
from loupe.experiment.results import Runs
from loupe.experiment.units import experiments_of
from loupe.papers import egno as room
from loupe.papers.egno import CLAIMS, PRESETS, experiments
from loupe.papers.egno import claims as claims_of_egno
from loupe.papers.egno.claims import (
    FEW_STEPS,
    LATE,
    LONG,
    NO_DATA,
    SPREAD,
    _ratio,
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


# --- exact --------------------------------------------------------------------------------------------------


def identities(**changes):
    """Results in the layout of the experiment: every deviation different."""
    run = {
        f"{kind} {digits} {what}": (1e-12 if digits == "float64" else 1e-6) * (1 + k + 3 * (kind == "tree"))
        for kind in KINDS for digits in DIGITS for k, what in enumerate(WHATS)
    }  # fmt: skip
    run |= {"convolutions": np.array([1e-15, 3e-15, 2e-15, 1e-16]), "apart turned": 0.4}
    run |= {f"naive {what}": 0.1 * (1 + k) for k, what in enumerate(WHATS)}
    run |= {"not circular": np.array([0.3, 0.2, 0.4, 0.5])}
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
        judgement = judged(claim, identities=runs_of(found))
        assert judgement.verdict == REPRODUCED
        assert all(measure.control.value not in measure.accepts for measure in judgement.measures)


def test_identities_stand_beside_what_is_wrong():
    found = judged("EG1", identities=identities())
    assert [measure.control.value for measure in found.measures] == pytest.approx([0.1, 0.2, 0.3] * 2)
    (measure,) = judged("EG2", identities=identities()).measures
    assert measure.control.value == 0.2  # the nearest of the wrong ones
    (measure,) = judged("EG3", identities=identities()).measures
    assert measure.control.value == identities().first["complete float64 turned"]


@pytest.mark.parametrize(
    ("claim", "change"),
    [
        ("EG1", {"naive shifted": 1e-11}),
        ("EG2", {"not circular": np.array([0.3, 1e-13, 0.4, 0.5])}),
        ("EG3", {"complete float64 turned": 0.1}),
    ],
)
def test_an_identity_whose_control_passes_decides_nothing(claim, change):
    assert verdict(claim, identities=identities(**change)) == OPEN


@pytest.mark.parametrize("claim", ["EG1", "EG2"])
def test_results_without_controls_are_judged_as_well(claim):
    run = {
        name: value for name, value in identities().first.items() if not name.startswith(("naive", "not c"))
    }
    found = judged(claim, identities=runs_of(run))
    assert found.verdict == REPRODUCED
    assert {measure.control for measure in found.measures} == {None}


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
    assert found.verdict == NOT
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


def symmetric(claim, runs, free=0.3):
    """Results for EG1b or EG1c; MPNN has this deviation."""
    others = runs_of({"MPNN turned deviation": free}, {"MPNN turned deviation": 0.4})
    return {"charged_egno": runs, "charged_others": others} if claim == "EG1b" else {"running": runs}


@pytest.mark.parametrize(("claim", "place"), [("EG1b", 0), ("EG1c", 1)])
def test_trained_networks_are_judged_by_their_worst_seed(claim, place):
    good, bad, other = [0.8, 0.8], [0.8, 0.8], [0.9, 0.9]
    good[place], bad[place], other[place] = 2e-6, 2e-4, 5e-6
    for seeds in ((good, bad, good), (bad, good), (good, good, bad)):
        found = judged(claim, **symmetric(claim, turned(*seeds)))
        assert found.verdict == NOT
        assert found.measures[0].value == 2e-4
    found = judged(claim, **symmetric(claim, turned(good, other)))
    assert found.verdict == REPRODUCED  # the other turn is another question
    assert found.measures[0].value == 5e-6
    assert found.measures[0].control.value == (0.3 if claim == "EG1b" else 0.8)


def test_a_test_of_symmetry_that_anything_passes_decides_nothing():
    assert verdict("EG1b", **symmetric("EG1b", turned((1e-6, 0.1)), free=1e-6)) == OPEN
    assert verdict("EG1c", **symmetric("EG1c", turned((1e-6, 1e-6)))) == OPEN


@pytest.mark.parametrize(("claim", "count"), [("EG1b", 7), ("EG1c", 30)])
def test_windows_that_change_when_all_is_turned_are_counted(claim, count):
    found = judged(claim, **symmetric(claim, turned(*[(1e-6, 1e-6)] * 3, windows=(7, 30))))
    assert found.measures[0].basis.endswith(
        f"; {count + 2} of {S} windows have another error"
    )  # of the worst seed


def test_windows_without_a_number_have_changed():
    run = turned((1e-6, 1e-6)).first
    run["EGNO turned errors"][3] = math.nan
    assert changed(run, "EGNO", "turned") == 1


@pytest.mark.parametrize("claim", ["EG1b", "EG1c"])
def test_a_trained_network_that_says_no_numbers_is_no_success(claim):
    for seeds in itertools.permutations([(1e-6, 1e-6), (math.nan, math.nan), (1e-6, 1e-6)]):
        assert verdict(claim, **symmetric(claim, turned(*seeds))) != REPRODUCED


def test_the_network_that_knows_heights_is_judged_from_cpu_on():
    assert verdict("EG1c", "cpu", running=turned((0.1, 1e-6))) == REPRODUCED
    assert verdict("EG1c", "smoke", running=turned((0.1, 1e-6))) == NOT_TESTED
    assert verdict("EG1b", "smoke", **symmetric("EG1b", turned((1e-6, 0.1)))) == REPRODUCED


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


# --- ratios of networks -------------------------------------------------------------------------------------


def group(methods, seeds=3, ramp=None, only=None):
    """Runs with errors of methods by their level, or by a level for each seed; methods share their windows.

    Errors at earlier times are ``ramp`` times those at the end.
    """
    common, found = noise(9), []
    for k in range(seeds) if only is None else only:
        run = {}
        for name, level in methods.items():
            each = level[k] if isinstance(level, tuple) else level
            steps = np.ones(P) if ramp is None else np.asarray(ramp.get(name, np.ones(P)), dtype=float)
            run[f"{name} errors"] = errors(
                *(each * steps), seed=1000 * k + sum(map(ord, name)), spread=0.02, common=common
            )
        found.append(run)
    return runs_of(*found, seeds=only)


LEVELS = {"EGNO": 0.2, "EGNN": 0.3, "EGNN-S": 0.5, "EGNN-R": 0.9, "Linear": 1.0, "still": 3.0, "MPNN": 0.6}


def charged(seeds=3, ramp=None, **levels):
    levels = LEVELS | {name.replace("_", "-"): level for name, level in levels.items()}
    parts = {
        "charged_egno": ("EGNO",), "charged_egnn": ("EGNN", "EGNN-S", "EGNN-R"),
        "charged_others": ("Linear", "still", "MPNN"),
    }  # fmt: skip
    return {part: group({name: levels[name] for name in names}, seeds, ramp) for part, names in parts.items()}


def people(seeds=3, **levels):
    usual = {"EGNO-L": 0.3, "EGNO": 0.4, "EGNN": 0.5, "Linear": 1.0, "still": 4.0}
    return {
        what: group(
            usual | {name.replace("_", "-"): each for name, each in levels.get(what, {}).items()}, seeds
        )
        for what in ("running", "walking")
    }


PARTS = {"full": 1.0, "1 modes": 2.0, "3 modes": 1.5, "only invariants": 1.3, "only vectors": 1.4,
         "no convolution": 3.0, "2 slices": 0.2}  # fmt: skip


def parts(seeds=3, **levels):
    """Changed parts, named ``one`` and ``three`` for numbers of frequencies."""
    words = {"one": "1 modes", "three": "3 modes"}
    every = PARTS | {words.get(name, name.replace("_", " ")): level for name, level in levels.items()}
    runs = group(every, seeds)
    return {"ablations": runs_of(*(dict(run) | {"variants": np.array(list(every))} for run in runs))}


RATIOS = {
    # claim: results by changed levels, the ratio of its first measure, and its limit
    "EG4a": (charged, 0.2, 0.7),
    "EG4b": (charged, 0.2 / 0.3, 1.0),
    "EG5a": (charged, 0.2, 1.0),
    "EG6a": (people, 0.3, 1.0),
    "EG6b": (people, 0.3 / 0.5, 0.8),
    "EG8": (parts, 0.5, 1.05),
    "EG9": (parts, 1 / 1.3, 1.0),
}


@pytest.mark.parametrize("claim", RATIOS)
def test_ratios_of_three_seeds_decide(claim):
    make, value, limit = RATIOS[claim]
    found = judged(claim, **make())
    assert found.verdict == REPRODUCED
    measure = found.measures[0]
    assert measure.value == pytest.approx(value)
    assert measure.accepts.high == limit
    assert measure.low < measure.value < measure.high
    assert measure.units == 3
    assert "geometric mean of 3 seeds" in measure.basis


@pytest.mark.parametrize("claim", RATIOS)
@pytest.mark.parametrize("seeds", [1, 2])
def test_fewer_than_three_seeds_decide_nothing(claim, seeds):
    found = judged(claim, **RATIOS[claim][0](seeds))
    assert found.verdict == OPEN
    for measure in found.measures:
        assert measure.open == f"3 independent runs are needed, and this rests on {seeds}"
        assert math.isnan(measure.low)


@pytest.mark.parametrize("claim", [name for name in RATIOS if name != "EG9"])
def test_ratios_stand_beside_a_control_that_fails(claim):
    for measure in judged(claim, **RATIOS[claim][0]()).measures:
        assert measure.control.value not in measure.accepts


@pytest.mark.parametrize(
    ("claim", "results"),
    [
        ("EG4a", charged(still=0.5)),
        ("EG4b", charged(MPNN=0.25)),
        ("EG5a", charged(still=0.5)),
        ("EG6a", people(running={"still": 0.9}, walking={"still": 0.9})),
        ("EG6b", people(walking={"Linear": 0.35}, running={"Linear": 0.35})),
        ("EG8", parts(no_convolution=1.2)),
    ],
)
def test_a_comparison_that_its_control_passes_decides_nothing(claim, results):
    assert verdict(claim, **results) == OPEN


@pytest.mark.parametrize(
    ("claim", "results", "expected"),
    [
        ("EG4a", charged(EGNO=0.8), [NOT, REPRODUCED]),
        ("EG4a", charged(EGNN=0.8), [REPRODUCED, NOT]),
        ("EG4a", charged(EGNO=(0.4, 0.7, 1.0)), [OPEN, REPRODUCED]),
        ("EG4b", charged(EGNO=0.4), [NOT, NOT]),
        ("EG4b", charged(EGNN=(0.21, 0.2, 0.6)), [OPEN, OPEN]),  # ahead at each seed, by one that went astray
        ("EG6a", people(running={"EGNN": 1.2}), [REPRODUCED, REPRODUCED, NOT] + [REPRODUCED] * 3),
        ("EG6a", people(walking={"EGNO-L": 1.2}), [REPRODUCED] * 3 + [NOT, REPRODUCED, REPRODUCED]),
        ("EG6b", people(walking={"EGNO-L": 0.45}), [NOT, REPRODUCED]),
        ("EG6b", people(running={"EGNO-L": 0.45}), [REPRODUCED, REPRODUCED]),
        ("EG6b", people(running={"EGNO-L": 0.55}), [REPRODUCED, NOT]),
        ("EG6b", people(running={"EGNO-L": (0.3, 0.45, 0.6)}), [REPRODUCED, OPEN]),
        ("EG8", parts(one=0.5), [NOT, REPRODUCED]),
        ("EG8", parts(three=0.8), [REPRODUCED, NOT]),
        ("EG9", parts(only_invariants=0.7), [NOT, REPRODUCED, REPRODUCED]),
        ("EG9", parts(no_convolution=0.7), [REPRODUCED, REPRODUCED, NOT]),
    ],
)
def test_one_part_that_fails_decides(claim, results, expected):
    found = judged(claim, **results)
    assert outcomes(found) == expected
    assert found.verdict == (NOT if NOT in expected else OPEN if OPEN in expected else REPRODUCED)


@pytest.mark.parametrize("place", range(P))
@pytest.mark.parametrize(("factor", "expected"), [(0.5, REPRODUCED), (2.0, NOT), (1.0, OPEN)])
def test_one_time_at_which_lines_are_better_decides(place, factor, expected):
    ramp = np.full(P, 2.5)  # of 0.2
    ramp[place] = 5 * factor
    found = judged("EG5a", **charged(ramp={"EGNO": ramp}))
    assert found.verdict == expected
    assert [k for k, one in enumerate(outcomes(found)) if one != REPRODUCED] == [place][: factor > 0.5]


def test_seeds_are_compared_with_themselves():
    levels = (1.0, 10.0, 100.0)
    results = charged() | {
        "charged_egno": group({"EGNO": levels}, only=(2, 1, 0)),
        "charged_egnn": group({"EGNN": (2.0, 20.0, 200.0, 1.0)}, seeds=4),
        "charged_others": group({"MPNN": (4.0, 40.0, 400.0)}),
    }
    found = judged("EG4b", **results)
    assert found.measures[0].value == pytest.approx(0.5)
    assert found.measures[0].basis.startswith("geometric mean of 3 seeds (0.5, 0.5, 0.5)")
    results["charged_egno"] = group({"EGNO": levels * 2}, only=(4, 5))
    assert judged("EG4b", **results).reason == "the networks that are compared have no seed in common"


def test_the_interval_is_of_seeds_and_windows_together():
    rng, ratios = np.random.default_rng(0), (0.5, 0.6, 0.55)
    theirs = np.exp(rng.standard_normal((1, S)))
    ours = np.array(ratios)[:, None] * theirs
    alone = _ratio("", ours, np.repeat(theirs, 3, 0), judging.at_most(1))
    logs = np.log(ratios)
    half = T_OF_THREE * logs.std(ddof=1) / math.sqrt(3)
    assert math.log(alone.high / alone.low) / 2 == pytest.approx(half, rel=1e-6)  # windows are paired
    loose = _ratio("", ours[:, ::-1], np.repeat(theirs, 3, 0), judging.at_most(1))
    _, low, high = bootstrap(ours[:, ::-1].mean(0), theirs[0])
    assert math.log(loose.high / loose.low) / 2 == pytest.approx(
        math.hypot(half, math.log(high / low) / 2), rel=1e-6
    )


@pytest.mark.parametrize("claim", RATIOS)
def test_errors_that_are_no_numbers_leave_it_open(claim):
    results = RATIOS[claim][0]()
    for runs in results.values():
        for name in runs.first:
            if name in ("EGNO errors", "EGNO-L errors", "full errors"):
                runs.first[name][3] = math.nan
    assert verdict(claim, **results) != REPRODUCED


def test_handicapped_baselines_are_withdrawn():
    found = judged("EG5b", **charged())
    assert (found.verdict, found.measures) == (OPEN, ())
    assert found.reason.startswith("withdrawn: EGNN-S had fewer layers than times")
    assert verdict("EG5b", "cpu", **charged()) == NOT_TESTED
    assert [measure.value for measure in CLAIM["EG5b"].judge(charged())] == pytest.approx(
        [0.4, 0.2 / 0.9, 0.5 / 0.9]
    )


@pytest.mark.parametrize("claim", ["EG4a", "EG5a", "EG6a"])
def test_sixty_steps_are_not_judged(claim):
    assert PRESETS["smoke"].training.steps == 60
    found = judged(claim, "smoke", **charged())
    assert (found.verdict, found.measures) == (NOT_TESTED, ())
    assert found.reason == CLAIM[claim].reason
    assert CLAIM["EG4a"].reason == FEW_STEPS


@pytest.mark.parametrize(
    ("times", "expected"),
    [((2.5, 1.9, 1.6), REPRODUCED), ((2.5, 1.9, 1.1), NOT), ((1.1, 1.9, 1.6), PARTLY)],
)
def test_one_pass_is_judged_by_the_benchmark(times, expected, monkeypatch):
    rows = [
        {"task": "One forward, or a rollout", "systems": systems, "times decoded": 5, "wall, times ours": time,
         "aim, times ours": 1.5}
        for systems, time in zip((1, 10, 100), times, strict=True)
    ]  # fmt: skip
    other = [{"task": "Networks"}, {"task": "One forward, or a rollout", "systems": 1}]
    bench = types.SimpleNamespace(benchmark=lambda: {"rows": other + rows})
    monkeypatch.setattr(claims_of_egno, "open_chapter", lambda slug: bench)
    found = judged("EG10", "cpu")
    assert found.verdict == expected
    assert [measure.primary for measure in found.measures] == [False, False, True]


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


def fine(shared, new, usual=1.0, number=30.0, seeds=3):
    """Errors at ten times, of which every second is shared."""
    own = {"spread": 0.05, "common": noise(9)}
    return runs_of(*(
        {"EGNO physical fine errors": errors(*[new, shared] * P, seed=k, **own),
         "EGNO index fine errors": errors(*[50.0, number] * P, **own),
         "EGNO errors": errors(*[usual] * P, seed=30 + k, **own)}
        for k in range(seeds)
    ))  # fmt: skip


@pytest.mark.parametrize(
    ("shared", "new", "usual", "expected", "total"),
    [
        (1.0, 1.5, 1.0, [REPRODUCED, REPRODUCED], REPRODUCED),
        (1.0, 2.5, 1.0, [NOT, REPRODUCED], NOT),
        (2.5, 2.5, 1.0, [REPRODUCED, NOT], PARTLY),  # all ten as bad as each other, and worse than as trained
        (0.5, 0.9, 1.0, [REPRODUCED, REPRODUCED], REPRODUCED),
        (2.5, 6.0, 1.0, [NOT, NOT], NOT),
        (2.0, 2.0, 1.0, [REPRODUCED, OPEN], OPEN),
        (math.nan, 1.0, 1.0, [OPEN, OPEN], OPEN),
        (1.0, math.nan, 1.0, [OPEN, REPRODUCED], OPEN),
    ],
)
def test_new_times_and_shared_ones_may_be_twice_as_bad(shared, new, usual, expected, total):
    found = judged("EG7", charged_egno=fine(shared, new, usual))
    assert outcomes(found) == expected
    assert found.verdict == total
    assert [measure.value for measure in found.measures] == pytest.approx(
        [new / shared, shared / usual], nan_ok=True
    )
    assert [measure.accepts.high for measure in found.measures] == [2.0, 2.0]
    assert found.measures[1].control.value == pytest.approx(30 / usual)


def test_a_network_that_any_number_fits_decides_nothing():
    assert verdict("EG7", charged_egno=fine(1.0, 1.2, number=1.5)) == OPEN
    assert verdict("EG7", charged_egno=fine(1.0, 1.2, seeds=2)) == OPEN


def test_variants_are_all_that_are_listed():
    found = variants(parts(seeds=2)["ablations"])
    assert list(found) == list(PARTS)
    for name, level in PARTS.items():
        assert found[name][:, -1].mean() == pytest.approx(level)


# --- all of them --------------------------------------------------------------------------------------------


def everything(seeds=3):
    """Results from which every claim can be judged."""
    found = charged(seeds) | parts(seeds) | {"identities": identities()}
    found |= {
        what: runs_of(*(turned((0.2, 1e-6)).first | dict(run) for run in runs))
        for what, runs in people(seeds).items()
    }
    found["charged_egno"] = runs_of(*(
        turned((1e-6, 0.2)).first | dict(one) for one in fine(1.0, 1.2, seeds=seeds)
    ))  # fmt: skip
    found["charged_others"] = runs_of(*(
        {"MPNN turned deviation": 0.2} | dict(one) for one in found["charged_others"]
    ))  # fmt: skip
    return found


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


FROM_RESULTS = [one for one in CLAIMS if one.judge and not one.withdrawn and one.kind != "timing"]


@pytest.mark.parametrize(
    "claim", [one for one in CLAIMS if one.id not in ("EG5b", "EG10")], ids=lambda claim: claim.id
)
def test_a_claim_that_is_not_tested_says_why(claim):
    for preset in PRESET_NAMES:
        found = judging.judge(claim, preset, Nothing())
        assert found.verdict == NOT_TESTED
        assert found.reason
        if claim.judge and preset in claim.at:
            assert found.reason == f"not computed at {preset} yet"


@pytest.mark.parametrize("claim", FROM_RESULTS, ids=lambda claim: claim.id)
def test_claims_are_asked_where_their_experiments_are_run(claim):
    results = Watched(everything())
    assert judging.judge(claim, "gpu", results).measures
    assert results.read
    for preset in claim.at:
        for name in results.read:
            seeds = getattr(PRESETS[preset], experiments_of(room)[name].seeds_field)
            assert seeds, (preset, name)
            assert len(seeds) >= 3 or claim.id not in ("EG4b", "EG6b"), (preset, name)


@pytest.mark.parametrize("claim", FROM_RESULTS, ids=lambda claim: claim.id)
def test_a_missing_experiment_leaves_a_claim_untested(claim):
    results = Watched(everything())
    judging.judge(claim, "gpu", results)
    for name in results.read:
        less = Nothing({key: value for key, value in results.items() if key != name})
        assert judging.judge(claim, "gpu", less).verdict == NOT_TESTED


def test_what_is_only_reported_is_never_judged():
    for preset in PRESET_NAMES:
        found = judging.judge(CLAIM["EG11"], preset, everything())
        assert (found.verdict, found.reason) == (NOT_TESTED, CLAIM["EG11"].reason)


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
        LATE: {"EG4b": "training", "EG6b": "motion_training"},
        SPREAD: {"EG5b": "training"},
        LONG: {"EG7": "training", "EG8": "ablation_steps", "EG9": "ablation_steps"},
    }

    def of(config, name):
        value = getattr(config, name)
        return getattr(value, "steps", value)

    for reason, names in steps.items():
        assert [claim.id for claim in CLAIMS if claim.reason == reason] == list(names)
        assert all(reason == judged(claim, "cpu").reason for claim in names)
        assert all(10 * of(cpu, name) <= of(gpu, name) for name in names.values())


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

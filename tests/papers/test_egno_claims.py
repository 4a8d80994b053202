"""How the claims of the chapter are judged: on hand-made results, right ones and wrong ones."""

import math
import types

import numpy as np
import pytest
import torch
from fakes import FakeResult

from loupe.dynamics import Windows
from loupe.experiment import claims as judging
from loupe.experiment.folders import PRESET_NAMES, MissingResultError
from loupe.experiment.results import Runs
from loupe.experiment.units import experiments_of
from loupe.papers import egno as room
from loupe.papers.egno import CLAIMS, PRESETS, experiments
from loupe.papers.egno import claims as of_egno
from loupe.papers.egno.claims import FEW_STEPS, LATE, LONG, NO_DATA, SPREAD, SYMMETRIES, bootstrap

REPRODUCED, PARTLY, NOT = judging.REPRODUCED, judging.PARTLY, judging.NOT_REPRODUCED
OPEN, NOT_TESTED = judging.INCONCLUSIVE, judging.NOT_TESTED
CLAIM = {claim.id: claim for claim in CLAIMS}
S, P = 60, 5
T_OF_THREE = 4.302653  # 97.5 % quantile of Student's distribution with two degrees of freedom


def runs_of(*results, seeds=None):
    seeds = range(len(results)) if seeds is None else seeds
    return Runs(tuple(FakeResult(seed, values) for seed, values in zip(seeds, results, strict=True)))


def judged(claim, results, preset="gpu"):
    return judging.judge(CLAIM[claim], preset, results)


def outcomes(found):
    return [measure.outcome for measure in found.measures]


def noise(seed, spread=0.3):
    """Factors of windows, around 1."""
    return np.exp(spread * np.random.default_rng(seed).standard_normal((S, 1)))


def errors(*levels, seed=0, spread=0.02):
    """Errors ``(S, P)`` of paired windows whose means over windows are exactly these levels."""
    found = noise(seed, spread) * noise(9)
    return found / found.mean() * np.array(levels, dtype=float)


# --- exact --------------------------------------------------------------------------------------------------

SMALL = {"float64": 1e-12, "float32": 1e-6}
DEVIATIONS = [
    f"{kind} {digits} {what}" for digits in SMALL for what in SYMMETRIES for kind in ("complete", "tree")
]


def identities(**changes):
    """Results in the layout of the experiment: every deviation different."""
    run = {key: SMALL[key.split()[1]] * (1 + k) for k, key in enumerate(DEVIATIONS)}
    run |= {f"naive {what}": 0.1 * (1 + k) for k, what in enumerate(SYMMETRIES)} | {"apart turned": 0.4}
    run |= {
        "convolutions": np.array([1e-15, 3e-15, 2e-15, 1e-16]),
        "not circular": np.array([0.3, 0.2, 0.4, 0.5]),
    }
    return {"identities": runs_of(run | changes)}


def test_hand_made_identities_have_the_layout_of_the_experiment():
    config = PRESETS["smoke"].override({"width": 4, "layers": 1})
    found = experiments.identities(config, seed=0, device="cpu")
    assert found.keys() == identities()["identities"].first.keys()
    for claim in ("EG1", "EG2", "EG3"):
        judgement = judged(claim, {"identities": runs_of(found)}, "smoke")
        assert judgement.verdict == REPRODUCED
        assert all(measure.control.value not in measure.accepts for measure in judgement.measures)


def test_deviations_are_the_worst_of_both_graphs_beside_their_controls():
    values = [measure.value for measure in judged("EG1", identities()).measures]
    assert values == pytest.approx([2e-12, 4e-12, 6e-12, 8e-6, 10e-6, 12e-6])
    controls = [measure.control.value for measure in judged("EG1", identities()).measures]
    assert controls == pytest.approx([0.1, 0.2, 0.3] * 2)
    assert judged("EG2", identities()).measures[0].control.value == 0.2  # the nearest of the wrong ones


@pytest.mark.parametrize(("value", "expected"), [(1.1, NOT), (math.nan, OPEN)])
@pytest.mark.parametrize("key", DEVIATIONS)
def test_any_broken_symmetry_fails_the_claim(key, value, expected):
    limit = 1e-4 if "float32" in key else 1e-10
    found = judged("EG1", identities(**{key: value * limit}))
    assert [k for k, one in enumerate(outcomes(found)) if one != REPRODUCED] == [DEVIATIONS.index(key) // 2]
    assert found.verdict == expected
    assert judging.failed_exact([found]) == [found]


@pytest.mark.parametrize(
    ("claim", "changes", "expected"),
    [("EG2", {"convolutions": np.array([0, 0, worst, 0])}, verdict)
     for worst, verdict in ((9e-13, REPRODUCED), (1.1e-12, NOT), (math.nan, OPEN))]
    + [("EG3", {"apart turned": value}, verdict)
       for value, verdict in ((0.011, REPRODUCED), (0.009, NOT), (math.nan, OPEN))]
    + [("EG1", {"naive shifted": 1e-11}, OPEN),  # these controls pass as well
       ("EG2", {"not circular": np.array([0.3, 1e-13, 0.4, 0.5])}, OPEN),
       ("EG3", {"complete float64 turned": 0.1}, OPEN)],
)  # fmt: skip
def test_identities_that_do_not_hold_and_controls_that_do(claim, changes, expected):
    assert judged(claim, identities(**changes)).verdict == expected


def test_a_network_that_returns_no_numbers_is_not_called_equivariant():
    class Nowhere(torch.nn.Module):
        def forward(self, x, v, features, graph, edge_features):
            return torch.full_like(x, math.nan).unsqueeze(0)

    graph = experiments._graphs(PRESETS["smoke"])["complete"]
    found = experiments._deviations(Nowhere(), graph, torch.float64, torch.Generator().manual_seed(0))
    assert not any(value < 1e-10 for value in found.values())


# --- trained networks, turned -------------------------------------------------------------------------------


def turned(claim, *deviations, free=0.3, windows=0):
    """Results whose turn of this claim deviates by so much, the other by ``free``; so many windows change, and k more."""
    what, other = ("turned", "upright") if claim == "EG1b" else ("upright", "turned")
    plain, found = errors(1.0, 2.0), []
    for k, deviation in enumerate(deviations):
        factors = np.where(np.arange(S) < windows + k, 1.002, 1.0009)[:, None]
        factors[1::2] = 2 - factors[1::2]  # an error may fall as well
        found.append({"EGNO errors": plain, f"EGNO {what} errors": plain * factors,
                      f"EGNO {what} deviation": deviation, f"EGNO {other} deviation": free})  # fmt: skip
    if claim == "EG1c":
        return {"running": runs_of(*found)}
    return {"charged_egno": runs_of(*found), "charged_others": runs_of({"MPNN turned deviation": free})}


both_turns = pytest.mark.parametrize("claim", ["EG1b", "EG1c"])


@both_turns
@pytest.mark.parametrize(
    ("deviations", "free", "expected"),
    [((2e-6, 5e-6), 0.3, REPRODUCED), ((2e-6, 2e-4, 5e-6), 0.3, NOT), ((2e-6, 2e-6), 1e-6, OPEN),
     ((math.nan, 2e-6), 0.3, OPEN), ((2e-6, math.nan), 0.3, OPEN)],
)  # fmt: skip
def test_trained_networks_are_judged_by_their_worst_seed(claim, deviations, free, expected):
    found = judged(claim, turned(claim, *deviations, free=free), "cpu")
    assert found.verdict == expected
    assert found.measures[0].value == pytest.approx(np.max(deviations), nan_ok=True)
    assert found.measures[0].control.value == free


@both_turns
def test_windows_that_change_when_all_is_turned_are_counted_at_the_worst_seed(claim):
    found = judged(claim, turned(claim, 1e-6, 1e-6, 1e-6, windows=7), "cpu")
    assert found.measures[0].basis.endswith(f"; 9 of {S} windows have another error")
    run = turned("EG1b", 1e-6)["charged_egno"].first
    run["EGNO turned errors"][3] = math.nan
    assert of_egno.changed(run, "EGNO", "turned") == 1


# --- the interval -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ours", "theirs", "wanted"),
    [([1.0, 3.0], [2.0, 2.0], (1.0, 0.5, 1.5)), ([1.0, 3.0], [1.0, 6.0], (4 / 7, 0.5, 1.0)),
     (0.5 * noise(3).ravel(), noise(3).ravel(), (0.5, 0.5, 0.5))],
)  # fmt: skip
def test_the_interval_is_that_of_resampled_pairs(ours, theirs, wanted):
    assert bootstrap(np.array(ours), np.array(theirs)) == pytest.approx(wanted)


def test_the_interval_is_of_seeds_and_windows_together():
    ratios, theirs = np.array((0.5, 0.6, 0.55)), noise(0, 1.0).T
    ours = ratios[:, None] * theirs
    half = T_OF_THREE * np.log(ratios).std(ddof=1) / math.sqrt(3)
    _, low, high = bootstrap(ours[:, ::-1].mean(0), theirs[0])
    for these, windows in ((ours, 0.0), (ours[:, ::-1], math.log(high / low) / 2)):  # windows are paired
        found = of_egno._ratio("", these, np.repeat(theirs, 3, 0), judging.at_most(1))
        assert math.log(found.high / found.low) / 2 == pytest.approx(math.hypot(half, windows), rel=1e-6)


# --- ratios of networks -------------------------------------------------------------------------------------


def group(levels, seeds=3, ramp=None):
    """Runs with errors of methods by their level, or by a level for each seed; ``ramp`` times that at earlier times."""
    ramp, seeds = ramp or {}, range(seeds) if isinstance(seeds, int) else seeds
    found = []
    for k in seeds:
        run = {}
        for name, level in levels.items():
            each = (level[k] if isinstance(level, tuple) else level) * np.array(ramp.get(name, [1.0] * P))
            run[f"{name} errors"] = errors(*each, seed=1000 * k + sum(map(ord, name)))
        found.append(run)
    return runs_of(*found, seeds=seeds)


def charged(seeds=3, ramp=None, **levels):
    usual = {"charged_egno": {"EGNO": 0.2}, "charged_egnn": {"EGNN": 0.3, "EGNN-S": 0.5, "EGNN-R": 0.9},
             "charged_others": {"Linear": 1.0, "still": 3.0, "MPNN": 0.6}}  # fmt: skip
    return {where: group({name: levels.get(name, level) for name, level in each.items()}, seeds, ramp)
            for where, each in usual.items()}  # fmt: skip


def people(seeds=3, **levels):
    usual = {"EGNO-L": 0.3, "EGNO": 0.4, "EGNN": 0.5, "Linear": 1.0, "still": 4.0}
    return {what: group(usual | levels.get(what, {}), seeds) for what in ("running", "walking")}


def parts(seeds=3, levels=None):
    every = {"full": 1.0, "1 modes": 2.0, "3 modes": 1.5, "only invariants": 1.3, "only vectors": 1.4,
             "no convolution": 3.0, "2 slices": 0.2} | (levels or {})  # fmt: skip
    runs = group(every, seeds)
    return {"ablations": runs_of(*(dict(run) | {"variants": np.array(list(every))} for run in runs))}


RATIOS = {
    # claim: results, the ratio of its first measure, and its limit
    "EG4a": (charged, 0.2, 0.7),
    "EG4b": (charged, 0.2 / 0.3, 1.0),
    "EG5a": (charged, 0.2, 1.0),
    "EG6a": (people, 0.3, 1.0),
    "EG6b": (people, 0.3 / 0.5, 0.8),
    "EG8": (parts, 0.5, 1.05),
    "EG9": (parts, 1 / 1.3, 1.0),
}


@pytest.mark.parametrize("claim", RATIOS)
def test_ratios_of_three_seeds_decide_and_fewer_do_not(claim):
    make, value, limit = RATIOS[claim]
    found = judged(claim, make())
    assert found.verdict == REPRODUCED
    measure = found.measures[0]
    assert (measure.value, measure.accepts.high, measure.units) == (pytest.approx(value), limit, 3)
    assert measure.low < measure.value < measure.high
    for one in found.measures:
        assert claim == "EG9" or one.control.value not in one.accepts
    for seeds in (1, 2):
        fewer = judged(claim, make(seeds))
        assert fewer.verdict == OPEN
        assert all(math.isnan(one.low) for one in fewer.measures)
    results = make()
    for runs in results.values():
        for name in {"EGNO errors", "EGNO-L errors", "full errors"} & set(runs.first):
            runs.first[name][3] = math.nan
    assert judged(claim, results).verdict != REPRODUCED


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
        ("EG6b", people(running={"EGNO-L": 0.55}), [REPRODUCED, NOT]),
        ("EG6b", people(running={"EGNO-L": (0.3, 0.45, 0.6)}), [REPRODUCED, OPEN]),
        ("EG8", parts(levels={"1 modes": 0.5}), [NOT, REPRODUCED]),
        ("EG8", parts(levels={"3 modes": 0.8}), [REPRODUCED, NOT]),
        ("EG9", parts(levels={"only invariants": 0.7}), [NOT, REPRODUCED, REPRODUCED]),
        ("EG9", parts(levels={"no convolution": 0.7}), [REPRODUCED, REPRODUCED, NOT]),
        # Where the control passes as well, nothing is decided.
        ("EG4a", charged(still=0.5), [OPEN, OPEN]),
        ("EG4b", charged(MPNN=0.25), [OPEN, OPEN]),
        ("EG6b", people(walking={"Linear": 0.35}, running={"Linear": 0.35}), [OPEN, OPEN]),
        ("EG8", parts(levels={"no convolution": 1.2}), [OPEN, OPEN]),
    ],
)
def test_one_part_that_fails_decides(claim, results, expected):
    found = judged(claim, results)
    assert outcomes(found) == expected
    assert found.verdict == (NOT if NOT in expected else OPEN if OPEN in expected else REPRODUCED)


@pytest.mark.parametrize("place", range(P))
@pytest.mark.parametrize(("factor", "expected"), [(0.5, REPRODUCED), (2.0, NOT), (1.0, OPEN)])
def test_one_time_at_which_lines_are_better_decides(place, factor, expected):
    ramp = np.full(P, 2.5)  # of 0.2
    ramp[place] = 5 * factor
    found = judged("EG5a", charged(ramp={"EGNO": ramp}))
    assert found.verdict == expected
    assert [k for k, one in enumerate(outcomes(found)) if one != REPRODUCED] == [place][: factor > 0.5]


def test_seeds_are_compared_with_themselves():
    levels = (1.0, 10.0, 100.0)
    results = charged() | {
        "charged_egno": group({"EGNO": levels}, (2, 1, 0)),
        "charged_egnn": group({"EGNN": (2.0, 20.0, 200.0, 1.0)}, 4),
        "charged_others": group({"MPNN": (4.0, 40.0, 400.0)}),
    }
    basis = judged("EG4b", results).measures[0].basis
    assert basis.startswith("geometric mean of 3 seeds (0.5, 0.5, 0.5)")
    results["charged_egno"] = group({"EGNO": levels * 2}, (4, 5))
    assert judged("EG4b", results).reason == "the networks that are compared have no seed in common"


def test_handicapped_baselines_are_withdrawn():
    found = judged("EG5b", charged())
    assert (found.verdict, found.measures) == (OPEN, ())
    assert found.reason.startswith("withdrawn: EGNN-S had fewer layers")
    values = [measure.value for measure in CLAIM["EG5b"].judge(charged())]
    assert values == pytest.approx([0.4, 0.2 / 0.9, 0.5 / 0.9])


@pytest.mark.parametrize(
    ("times", "expected"), [((2.5, 1.9, 1.6), REPRODUCED), ((2.5, 1.9, 1.1), NOT), ((1.1, 1.9, 1.6), PARTLY)]
)
def test_one_pass_is_judged_by_the_benchmark(times, expected, monkeypatch):
    task = {"task": "One forward, or a rollout", "times decoded": 5}
    rows = [{"task": "Networks"}, task | {"systems": 1}]
    rows += [task | {"systems": systems, "wall, times ours": time, "aim, times ours": 1.5}
             for systems, time in zip((1, 10, 100), times, strict=True)]  # fmt: skip
    bench = types.SimpleNamespace(benchmark=lambda: {"rows": rows})
    monkeypatch.setattr(of_egno, "open_chapter", lambda slug: bench)
    found = judged("EG10", {}, "cpu")
    assert found.verdict == expected
    assert [measure.primary for measure in found.measures] == [False, False, True]


# --- time ---------------------------------------------------------------------------------------------------


def test_shared_times_are_those_of_the_training():
    times = torch.arange(1, 11, dtype=torch.float64) / 10
    path = times.view(1, -1, 1, 1).expand(2, -1, 4, 3)
    windows = Windows(path[:, 0], path[:, 0], path, times, 1.0, torch.zeros(2, 0), torch.zeros(2, 0, 1))
    shared, new = of_egno.shared_and_new(np.stack([times.numpy(), 10 * times.numpy()]))
    assert shared == pytest.approx(windows.thinned(5).times.mean().item() * np.array([1, 10]))
    assert new == pytest.approx([0.5, 5.0])


def fine(shared, new, usual=1.0, number=30.0, seeds=3):
    """Errors at ten times, of which every second is shared."""
    return {"charged_egno": runs_of(*(
        {"EGNO physical fine errors": errors(*[new, shared] * P, seed=k),
         "EGNO index fine errors": errors(*[50.0, number] * P),
         "EGNO errors": errors(*[usual] * P, seed=30 + k)}
        for k in range(seeds)
    ))}  # fmt: skip


@pytest.mark.parametrize(
    ("results", "expected", "total"),
    [
        (fine(1.0, 1.5), [REPRODUCED, REPRODUCED], REPRODUCED),
        (fine(1.0, 2.5), [NOT, REPRODUCED], NOT),
        (fine(2.5, 2.5), [REPRODUCED, NOT], PARTLY),  # all ten are as bad, and worse than as trained
        (fine(0.5, 0.9), [REPRODUCED, REPRODUCED], REPRODUCED),
        (fine(2.0, 2.0), [REPRODUCED, OPEN], OPEN),
        (fine(math.nan, 1.0), [OPEN, OPEN], OPEN),
        (fine(1.0, math.nan), [OPEN, REPRODUCED], OPEN),
        (fine(1.0, 1.2, number=1.5), [REPRODUCED, OPEN], OPEN),  # given any number it does as well
        (fine(1.0, 1.2, seeds=2), [OPEN, OPEN], OPEN),
    ],
)
def test_new_times_and_shared_ones_may_be_twice_as_bad(results, expected, total):
    found = judged("EG7", results)
    assert (outcomes(found), found.verdict) == (expected, total)
    assert [measure.accepts.high for measure in found.measures] == [2.0, 2.0]


# --- all of them --------------------------------------------------------------------------------------------


class Watched(dict):
    """Results that know which of them were read."""

    def __init__(self, values):
        super().__init__(values)
        self.read = set()

    def __getitem__(self, name):
        self.read.add(name)
        return super().__getitem__(name)

    def __missing__(self, name):
        raise MissingResultError(name)


GOOD = {claim: make() for claim, (make, _, _) in RATIOS.items()}
GOOD |= {claim: turned(claim, 1e-6) for claim in ("EG1b", "EG1c")} | {"EG7": fine(1.0, 1.2)}
GOOD |= dict.fromkeys(("EG1", "EG2", "EG3"), identities())


@pytest.mark.parametrize(
    "claim", [claim for claim in CLAIMS if claim.id not in ("EG5b", "EG10")], ids=lambda claim: claim.id
)
@pytest.mark.parametrize("preset", PRESET_NAMES)
def test_claims_are_judged_where_their_experiments_are_run_and_say_why_not_elsewhere(claim, preset):
    found = judging.judge(claim, preset, Watched({}))
    judged_here = preset in claim.at
    assert found.verdict == NOT_TESTED
    assert found.reason == (f"not all computed at {preset} yet" if judged_here else claim.reason) != ""
    results = Watched(GOOD.get(claim.id, {}))
    assert (judging.judge(claim, preset, results).verdict == REPRODUCED) == judged_here
    for name in results.read:
        less = Watched({key: value for key, value in results.items() if key != name})
        assert judging.judge(claim, preset, less).verdict == NOT_TESTED
        seeds = getattr(PRESETS[preset], experiments_of(room)[name].seeds_field)
        assert len(seeds) >= (3 if claim.id in ("EG4b", "EG6b") else 1), (preset, name)


def test_only_identities_can_break_a_build_and_they_are_judged_everywhere():
    exact = [claim for claim in CLAIMS if claim.kind == "exact"]
    assert [claim.id for claim in exact] == ["EG1", "EG2", "EG3"]
    assert {claim.at for claim in exact} == {("smoke", "cpu", "gpu", "paper")}


def test_reasons_are_true_of_the_presets():
    """Claims that need long training: at cpu it is at least ten times as short."""
    smoke, cpu, gpu = (PRESETS[name] for name in ("smoke", "cpu", "gpu"))
    reasons = {LATE: ["EG4b", "EG6b"], SPREAD: ["EG5b"], LONG: ["EG7", "EG8", "EG9"], FEW_STEPS: ["EG4a", "EG5a"],
               NO_DATA: ["EG1c", "EG6a"]}  # fmt: skip
    for reason, claims in reasons.items():
        assert [claim.id for claim in CLAIMS if claim.reason == reason] == claims
        preset = "smoke" if reason in (FEW_STEPS, NO_DATA) else "cpu"
        assert {judged(claim, charged(), preset).verdict for claim in claims} == {NOT_TESTED}
    for course in (
        lambda one: one.training.steps,
        lambda one: one.motion_training.steps,
        lambda one: one.ablation_steps,
    ):
        assert 10 * course(cpu) <= course(gpu)
    assert (len(cpu.seeds), len(gpu.seeds), smoke.training.steps, smoke.motion_seeds) == (2, 3, 60, ())

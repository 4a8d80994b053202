"""How the chapter on the Fréchet mean reads training curves and judges its claims."""

import dataclasses

import numpy as np
import pytest
from fakes import FakeResult

from loupe.errors import LoupeError
from loupe.experiment import claims as judging
from loupe.experiment.folders import PRESET_NAMES, MissingResultError
from loupe.experiment.results import Runs, columns
from loupe.papers.frechet_mean.claims import CLAIMS, areas
from loupe.papers.frechet_mean.claims_links import Outcome, flattened, outcome, outcomes

REPRODUCED, PARTLY, NOT = judging.REPRODUCED, judging.PARTLY, judging.NOT_REPRODUCED
OPEN, NOT_TESTED = judging.INCONCLUSIVE, judging.NOT_TESTED
CLAIM = {claim.id: claim for claim in CLAIMS}


def runs_of(*results):
    return Runs(tuple(FakeResult(seed, values) for seed, values in enumerate(results)))


def verdict(claim, preset="gpu", **results):
    return judging.judge(CLAIM[claim], preset, results).verdict


# --- reading a training curve -------------------------------------------------------------------------------


def read(validation, every=5, patience=None, ended=0):
    """A run with these validation scores, whose test scores rise by a point from each evaluation to the next."""
    test, rest = np.arange(len(validation)) / 100, np.full(ended, np.nan)
    return outcome(np.concatenate([validation, rest]), np.concatenate([test, rest]), every, patience)


def by_the_loop(validation, every, patience):
    """The published training loop, literally: a counter that only a better score sets back."""
    best, at, counter = -1, 0, 0
    for k, score in enumerate(validation):
        if best < score:
            best, at, counter = score, k, 0
        else:
            counter += every
        if counter >= patience and every * (k + 1) > patience:
            return Outcome(every * (at + 1), every * (k + 1), float(at))
    return Outcome(every * (at + 1), every * len(validation), float(at))


def test_without_a_rule_the_best_epoch_of_the_whole_run_counts():
    assert read([0.5, 0.7, 0.6, 0.9, 0.8]) == Outcome(20, 25, pytest.approx(3))
    assert read([0.5, 0.7, 0.6, 0.9, 0.8], ended=7) == Outcome(20, 25, pytest.approx(3))
    assert read([0.9, 0.8], every=1) == Outcome(1, 2, pytest.approx(0))
    assert read([0.3]) == Outcome(5, 5, pytest.approx(0))


def test_the_published_rule_stops_before_a_late_rise():
    late = [0.5, 0.7, *[0.6] * 30, 0.9]
    assert read(late, patience=100) == Outcome(10, 110, pytest.approx(1))
    assert read(late) == Outcome(165, 165, pytest.approx(32))
    soon = [0.5, 0.7, *[0.6] * 19, 0.9]  # 100 epochs after the best: the run is over when the rise is seen
    assert read(soon, patience=100).epoch == 110
    assert read([0.5, 0.7, *[0.6] * 20, 0.9], patience=100).epoch == 10


def test_the_rule_waits_for_as_many_epochs_at_least():
    fell = [0.9, *[0.5] * 30]
    assert read(fell, patience=100) == Outcome(5, 105, pytest.approx(0))
    assert read([0.9, *[0.5] * 10], patience=100).stop == 55


def test_of_equal_scores_the_first_counts():
    assert read([0.5, 0.7, 0.6, 0.7, 0.6]).epoch == 10
    assert read([0.5, 0.7, 0.6, 0.7, 0.6], patience=100).epoch == 10


@pytest.mark.parametrize("every", [1, 5])
@pytest.mark.parametrize("seed", range(10))
def test_the_rule_is_the_published_loop(seed, every):
    rng = np.random.default_rng(seed)
    walk = 0.5 + 0.001 * np.cumsum(rng.normal(0.1, 1, size=300))
    found, expected = read(walk, every, 60), by_the_loop(walk, every, 60)
    assert found == Outcome(expected.epoch, expected.stop, pytest.approx(expected.score))


def test_an_equal_score_is_no_better_one():
    assert read([0.5, *[0.7] * 40], patience=100) == Outcome(10, 110, pytest.approx(1))


def link_rows(tests, best=20, length=60, methods=("HGCN", "Fréchet"), later=None, **labels):
    """Rows of link prediction: each method peaks at one evaluation, with so many points of test AUC throughout.

    The two validation scores differ, and only their mean counts. ``later`` are test scores from the 50th evaluation on,
    where the best validation score then is.
    """
    rows, shift = [], 0.01 * (-1) ** np.arange(length)
    for k, (method, score) in enumerate(zip(methods, tests, strict=True)):
        validation, test = np.full(length, 0.6), np.full(length, score / 100)
        validation[best - 1] = 0.8
        if later is not None:
            validation[49], test[49:] = 0.9, later[k] / 100
        scores = {"validation_roc": validation + shift, "validation_ap": validation - shift, "test_roc": test}
        rows.append(labels | {"graph": "disease_lp", "method": method} | scores)
    return rows


def link_run(*tests, rows=(), **options):
    """A result of link prediction, as an experiment returns it."""
    return columns([*link_rows(*tests, **options), *rows]) | {"check_every": 5, "patience": 100}


def ahead_by(*points, **options):
    return runs_of(*(link_run((80, 80 + ahead), **options) for ahead in points))


def test_outcomes_are_those_of_the_row_asked_for():
    runs = runs_of(
        link_run((70, 80), later=(75, 60), length=80), link_run((71, 81), later=(76, 61), length=80)
    )
    assert [one.score for one in outcomes(runs, patience=True, method="Fréchet")] == pytest.approx([80, 81])
    assert [one.score for one in outcomes(runs, patience=False, method="Fréchet")] == pytest.approx([60, 61])
    assert [one.epoch for one in outcomes(runs, patience=False, method="HGCN")] == [250, 250]
    scaled = runs_of(link_run((70, 80), scale=0.1, rows=link_rows((60, 50), scale=0.3)))
    assert outcomes(scaled, patience=True, method="HGCN", scale=0.1)[0].score == pytest.approx(70)
    assert outcomes(scaled, patience=True, method="Fréchet", scale=0.3)[0].score == pytest.approx(50)
    with pytest.raises(LoupeError, match="2 rows have method='HGCN'"):
        outcomes(scaled, patience=True, method="HGCN")


def test_a_run_is_flat_when_nothing_rose_for_as_long_as_the_rule_waits():
    assert flattened(ahead_by(1, 1, best=20, length=40), method="HGCN")
    assert not flattened(ahead_by(1, 1, best=21, length=40), method="HGCN")
    one_of_two = runs_of(link_run((80, 81)), link_run((80, 81), best=55))
    assert not flattened(one_of_two, method="Fréchet")
    assert flattened(runs_of(link_run((80, 81), scale=0.3)), method="Fréchet", scale=0.3)


# --- verdicts -----------------------------------------------------------------------------------------------

COMPARED = pytest.mark.parametrize(
    ("claim", "experiment", "labels"),
    [("FM6", "disease_links", {}), ("FM6b", "feature_sizes", {"scale": 0.1})],
)


@COMPARED
@pytest.mark.parametrize(
    ("points", "expected"),
    [
        ((2, 3, 2.5, 2, 3), REPRODUCED),
        ((-2, -3, -2.5, -2, -3), NOT),
        ((2, -3, 2.5, -2, 1), OPEN),
        ((-0.1, 3, 2.5, 2, 3), REPRODUCED),  # on average, not in every seed
        ((1, 2, 4, -1, 3), OPEN),  # one-sided p < 0.1 is not enough
        ((2, 2.1), OPEN),  # two seeds decide nothing
    ],
)
def test_who_is_ahead_is_judged_over_seeds(claim, experiment, labels, points, expected):
    assert verdict(claim, **{experiment: ahead_by(*points, **labels)}) == expected


@COMPARED
def test_runs_that_still_improve_are_no_comparison(claim, experiment, labels):
    early = judging.judge(CLAIM[claim], "gpu", {experiment: ahead_by(2, 3, 2, best=55, **labels)})
    assert early.verdict == NOT_TESTED
    assert early.reason == "the runs of Fréchet were still improving when they ended"


@COMPARED
def test_both_rules_must_agree(claim, experiment, labels):
    turned = runs_of(
        *(link_run((80, 83 + k), later=(90, 85 + k), length=80, **labels) for k in (0, 0.1, 0.2))
    )
    judged = judging.judge(CLAIM[claim], "gpu", {experiment: turned})
    assert [measure.outcome for measure in judged.measures] == [REPRODUCED, NOT]
    assert [measure.value for measure in judged.measures] == pytest.approx([3.1, -4.9])
    assert judged.verdict == PARTLY  # the published rule is primary
    other = runs_of(*(link_run((80, 77 - k), later=(90, 95 - k), length=80, **labels) for k in (0, 0.1, 0.2)))
    assert verdict(claim, **{experiment: other}) == NOT


def test_smaller_features_are_judged_at_a_tenth_alone():
    both = runs_of(
        *(link_run((80, 83 + k), scale=0.1, rows=link_rows((80, 60 + k), scale=0.3)) for k in (0, 0.5, 1))
    )
    assert verdict("FM6b", feature_sizes=both) == REPRODUCED


@pytest.mark.parametrize(
    ("points", "expected"),
    [
        ((0, 0.1, -0.1, 0.2, 0), REPRODUCED),
        ((3, 3.1, 2.9, 3, 3), NOT),  # a gain is against the claim
        ((-5, -5.1, -5, -4.9, -5), NOT),
        ((0, 3, -3, 1, -1), OPEN),
    ],
)
def test_no_gain_on_cora_is_a_narrow_band(points, expected):
    assert verdict("FM7", cora_links=ahead_by(*points)) == expected
    assert verdict("FM7", "cpu", cora_links=ahead_by(*points)) == NOT_TESTED


def test_no_gain_is_no_finding_where_an_mlp_has_none_either():
    methods = ("MLP", "HGCN", "Fréchet")
    for flat, expected in ((70, REPRODUCED), (79.5, OPEN)):
        runs = runs_of(*(link_run((flat, 80, 80 + k), methods=methods) for k in (0, 0.1, -0.1)))
        assert verdict("FM7", cora_links=runs) == expected


@pytest.mark.parametrize(
    ("tests", "expected"),
    [
        ((99, 98), REPRODUCED),
        ((99, 80), NOT),  # one network that learns less is enough
        ((80, 81), NOT),
    ],
)
def test_every_network_has_to_beat_one_feature_and_degree_does_not(tests, expected):
    shortcuts = runs_of(
        *({"columns": np.array([0.5, 0.9 + k]), "position": 1, "degree": 0.85} for k in (0, 0.01, -0.01))
    )
    runs = runs_of(*(link_run(tests) for _ in range(3)))
    judged = judging.judge(CLAIM["FM6c"], "cpu", {"disease_links": runs, "shortcuts": shortcuts})
    assert judged.verdict == expected
    assert all(measure.control.value == pytest.approx(-5) for measure in judged.measures)


@pytest.mark.parametrize(
    ("maximum", "mean", "expected"),
    [
        ((0, 1, 11), (0, 0.1, 0.3), REPRODUCED),
        ((0, 1, 2.5), (0, 0.1, 0.3), PARTLY),  # the order without the size
        ((0, 2, 11), (0, 0.1, 0.3), PARTLY),
        ((0.5, 1, 11), (0.1, 0.1, 0.1), NOT),
        ((0, 1, 11), (0.3, 0.2, 0.1), NOT),
        ((0, 1, 11), (0, 0.1, np.nan), OPEN),
        ((0, 0, 11), (0, 0.1, 0.3), NOT),  # a graph that is no tree passes as one
    ],
)
def test_hyperbolicity_must_order_the_graphs(maximum, mean, expected):
    order = [2, 0, 1]  # found by name, wherever they stand
    run = {
        "graph": np.array(["disease_lp", "airport", "cora"])[order],
        "maximum": np.array(maximum, float)[order],
        "mean": np.array(mean, float)[order],
    }
    assert verdict("FM8", "cpu", hyperbolicity=runs_of(run)) == expected


def norm_runs(*gains, graphs=("disease_lp",), late=0.0):
    """One seed for each gain: points of validation AUC that normalization is ahead in the first 40 evaluations."""
    results = []
    for gain in gains:
        rows = []
        for graph, more in zip(graphs, np.broadcast_to(gain, len(graphs)), strict=True):
            curve = 0.5 + np.concatenate([np.full(40, more), np.full(60, late)])
            rows += [
                {"graph": graph, "norm": norm, "validation_roc": curve if norm else np.full(100, 0.5)}
                for norm in (False, True)
            ]
        results.append(columns(rows) | {"area": 200, "check_every": 5})
    return runs_of(*results)


@pytest.mark.parametrize("late", [0, 0.4])  # the end does not count
def test_batch_norm_is_judged_by_paired_areas_and_withdrawn(late):
    found = CLAIM["FM9"].judge({"batch_norm": norm_runs(0.1, 0.12, 0.09, late=late)})
    assert [measure.outcome for measure in found] == [REPRODUCED]
    found = CLAIM["FM9"].judge({"batch_norm": norm_runs(0.1, 0.1, -0.1, late=late)})
    assert [measure.outcome for measure in found] == [OPEN]
    assert verdict("FM9", batch_norm=norm_runs(0.1, 0.1, 0.1, late=late)) == OPEN


def test_batch_norm_is_judged_on_each_graph():
    runs = norm_runs(*[(0.1, -0.1)] * 5, graphs=("disease_lp", "cora"))
    found = CLAIM["FM9"].judge({"batch_norm": runs})
    assert [measure.outcome for measure in found] == [REPRODUCED, NOT]
    assert areas(runs, "disease_lp", True) == pytest.approx([0.6] * 5)
    assert areas(runs, "cora", True) == pytest.approx([0.4] * 5)
    assert areas(runs, "cora", False) == pytest.approx([0.5] * 5)


def study(ours, karcher, small_step, best_step, trials=10):
    """Iterations of four solvers on both charts, each a number or one number for each problem."""
    solvers = {"best step": best_step, "step 0.01": small_step, "Karcher": karcher, "ours": ours}
    return runs_of(columns(
        {"space": space, "solver": solver, "iterations": np.broadcast_to(each, trials)}
        for space in ("ball", "hyperboloid") for solver, each in solvers.items()
    ))  # fmt: skip


@pytest.mark.parametrize(
    ("iterations", "expected"),
    [
        ((14, 60, 800, 20), REPRODUCED),
        ((14, 60, 800, 12), PARTLY),  # a tuned step does better
        ((60, 60, 600, 70), NOT),  # a tenth of the small step, and no better than Karcher's
        ((60, 60, 60, 60), NOT),
        (([10] * 4 + [50] * 6, [40] * 4 + [49] * 6, 800, 60), OPEN),  # fewer on average, not in most problems
    ],
)
def test_iterations_are_compared_problem_by_problem(iterations, expected):
    assert verdict("FM3", solver_study=study(*iterations)) == expected
    assert verdict("FM3", "smoke", solver_study=study(*iterations)) == expected


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim.id)
def test_a_claim_that_is_not_tested_says_why(claim):
    class Nothing(dict):
        def __missing__(self, key):
            raise MissingResultError(key)

    for preset in PRESET_NAMES:
        judged = judging.judge(dataclasses.replace(claim, withdrawn=""), preset, Nothing())
        assert judged.verdict == NOT_TESTED
        assert judged.reason
        if claim.judge and preset in claim.at:
            assert judged.reason == f"not all computed at {preset} yet"

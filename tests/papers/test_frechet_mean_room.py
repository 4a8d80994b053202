"""The glue of the chapter: reading training curves, judging claims, what its experiments return, and what is drawn."""

import dataclasses
import types

import numpy as np
import pytest
import torch
from fakes import FakeResult, FakeStored
from showing import assert_same_thumbnail_each_time
from sklearn.metrics import roc_auc_score

from loupe.data import load
from loupe.data.graph_tasks import disease_tree, link_split, node_inputs, pair_keys
from loupe.data.graphs import Graph
from loupe.errors import LoupeError
from loupe.experiment import claims as judging
from loupe.experiment.folders import PRESET_NAMES, MissingResultError
from loupe.experiment.render import Block
from loupe.experiment.results import Runs
from loupe.papers import frechet_mean as room
from loupe.papers.frechet_mean import PRESETS, experiments, experiments_graphs, figures, figures_graphs
from loupe.papers.frechet_mean.claims import CLAIMS, areas
from loupe.papers.frechet_mean.claims_links import Outcome, flattened, outcome, outcomes
from loupe.papers.frechet_mean.experiments_graphs import CURVES, METHODS, NODE_CURVES

REPRODUCED, PARTLY, NOT = judging.REPRODUCED, judging.PARTLY, judging.NOT_REPRODUCED
OPEN, NOT_TESTED = judging.INCONCLUSIVE, judging.NOT_TESTED
CLAIM = {claim.id: claim for claim in CLAIMS}
TINY = PRESETS["smoke"].override(
    {
        "training": {"steps": 10, "evaluations": 2}, "norm_training": {"steps": 10, "evaluations": 2}, "norm_area": 10,
        "tree_nodes": 120, "width": 4, "delta_samples": 200,
        "identity_problems": 3, "solver_problems": 18, "study_iterations": 60, "tuned_steps": [0.1, 0.5],
        "feature_scales": [0.1, 0.3],
    }
)  # fmt: skip
EVERY = TINY.training.every


def runs_of(*results):
    return Runs(tuple(FakeResult(seed, values) for seed, values in enumerate(results)))


def verdict(claim, preset="gpu", **results):
    return judging.judge(CLAIM[claim], preset, results).verdict


# --- reading a training curve -------------------------------------------------------------------------------

SCORES = ("loss", "validation ROC", "validation AP", "test ROC")


def curve_of(validation, test=None, ended=0):
    """A curve with these validation scores; the two of them differ, and only their mean counts."""
    validation = np.asarray(validation, dtype=float)
    test = np.arange(len(validation)) / 100 if test is None else np.broadcast_to(test, len(validation))
    shift = 0.01 * (-1) ** np.arange(len(validation))
    rows = np.stack([np.ones_like(validation), validation + shift, validation - shift, test], axis=-1)
    return np.vstack([rows, np.full((ended, 4), np.nan)])


def read(validation, every=5, patience=None, **options):
    return outcome(curve_of(validation, **options), SCORES, every, patience)


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


CURVE_NAMES = np.array(CURVES)


def link_run(
    tests, best=20, length=60, prefix="", patience=100, methods=("HGCN", "Fréchet"), later=None, **more
):
    """A result of link prediction: each method peaks at one evaluation, with so many points of test AUC throughout.

    ``later`` are test scores from the 50th evaluation on, where the best validation score then is.
    """
    curves = np.full((len(methods), length, len(CURVES)), 0.5)
    for k, score in enumerate(tests):
        curves[k, :, [2, 3]] = 0.6
        curves[k, best - 1, [2, 3]] = 0.8
        curves[k, :, 4] = score / 100
        if later is not None:
            curves[k, 49, [2, 3]] = 0.9
            curves[k, 49:, 4] = later[k] / 100
    values = {"methods": np.array(methods), "curves": curves, "names": CURVE_NAMES, "check_every": 5,
              "patience": patience, "graph": "disease_lp"}  # fmt: skip
    return {prefix + name: value for name, value in values.items()} | more


def ahead_by(*points, **options):
    return runs_of(*(link_run((80, 80 + ahead), **options) for ahead in points))


def test_outcomes_are_those_of_the_method_asked_for():
    runs = runs_of(
        link_run((70, 80), later=(75, 60), length=80), link_run((71, 81), later=(76, 61), length=80)
    )
    assert [one.score for one in outcomes(runs, "Fréchet", patience=True)] == pytest.approx([80, 81])
    assert [one.score for one in outcomes(runs, "Fréchet", patience=False)] == pytest.approx([60, 61])
    assert [one.epoch for one in outcomes(runs, "HGCN", patience=False)] == [250, 250]
    prefixed = runs_of(link_run((70, 80), prefix="0.1 "))
    assert outcomes(prefixed, "HGCN", patience=True, prefix="0.1 ")[0].score == pytest.approx(70)


def test_a_run_is_flat_when_nothing_rose_for_as_long_as_the_rule_waits():
    assert flattened(ahead_by(1, 1, best=20, length=40), "HGCN")
    assert not flattened(ahead_by(1, 1, best=21, length=40), "HGCN")
    one_of_two = runs_of(link_run((80, 81)), link_run((80, 81), best=55))
    assert not flattened(one_of_two, "Fréchet")
    assert flattened(runs_of(link_run((80, 81), prefix="0.3 ")), "Fréchet", "0.3 ")


# --- verdicts -----------------------------------------------------------------------------------------------

COMPARED = pytest.mark.parametrize(
    ("claim", "experiment", "prefix"), [("FM6", "disease_links", ""), ("FM6b", "feature_sizes", "0.1 ")]
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
def test_who_is_ahead_is_judged_over_seeds(claim, experiment, prefix, points, expected):
    assert verdict(claim, **{experiment: ahead_by(*points, prefix=prefix)}) == expected


@COMPARED
def test_runs_that_still_improve_are_no_comparison(claim, experiment, prefix):
    early = judging.judge(CLAIM[claim], "gpu", {experiment: ahead_by(2, 3, 2, prefix=prefix, best=55)})
    assert early.verdict == NOT_TESTED
    assert early.reason == "the runs of Fréchet were still improving when they ended"


@COMPARED
def test_both_rules_must_agree(claim, experiment, prefix):
    turned = runs_of(
        *(link_run((80, 83 + k), later=(90, 85 + k), length=80, prefix=prefix) for k in (0, 0.1, 0.2))
    )
    judged = judging.judge(CLAIM[claim], "gpu", {experiment: turned})
    assert [measure.outcome for measure in judged.measures] == [REPRODUCED, NOT]
    assert [measure.value for measure in judged.measures] == pytest.approx([3.1, -4.9])
    assert judged.verdict == PARTLY  # the published rule is primary
    other = runs_of(
        *(link_run((80, 77 - k), later=(90, 95 - k), length=80, prefix=prefix) for k in (0, 0.1, 0.2))
    )
    assert verdict(claim, **{experiment: other}) == NOT


def test_smaller_features_are_judged_at_a_tenth_alone():
    both = runs_of(
        *(link_run((80, 83 + k), prefix="0.1 ") | link_run((80, 60 + k), prefix="0.3 ") for k in (0, 0.5, 1))
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
        "graphs": np.array(["disease_lp", "airport", "cora"])[order],
        "maximum": np.array(maximum, float)[order],
        "mean": np.array(mean, float)[order],
    }
    assert verdict("FM8", "cpu", hyperbolicity=runs_of(run)) == expected


def norm_runs(*gains, graphs=("disease_lp",), late=0.0):
    """One seed for each gain: points of validation AUC that normalisation is ahead in the first 40 evaluations."""
    results = []
    for gain in gains:
        curves = np.full((len(graphs), 2, 100, len(CURVES)), 0.5)
        curves[:, 1, :40, 2] += np.broadcast_to(gain, len(graphs))[:, None]
        curves[:, 1, 40:, 2] += late
        results.append(
            {
                "graphs": np.array(graphs),
                "curves": curves,
                "area": 200,
                "names": CURVE_NAMES,
                "check_every": 5,
            }
        )
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
    assert areas(runs, 0, True) == pytest.approx([0.6] * 5)
    assert areas(runs, 1, True) == pytest.approx([0.4] * 5)
    assert areas(runs, 1, False) == pytest.approx([0.5] * 5)


def study(ours, karcher, small_step, best_step, trials=10):
    """Iterations of five solvers on both charts, each a number or one number for each problem."""
    rows = [np.broadcast_to(one, trials) for one in (ours, karcher, small_step, best_step, ours)]
    return runs_of({"spaces": np.array(["ball", "hyperboloid"]), "iterations": np.array([rows, rows])})


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
            assert judged.reason == f"not computed at {preset} yet"


# --- experiments --------------------------------------------------------------------------------------------


def computed(function, config=TINY, seed=0):
    return function(config, seed=seed, device="cpu")


def same_bits(one, other):
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert np.array_equal(value, other[name], equal_nan=np.asarray(value).dtype.kind == "f"), name


@pytest.fixture(scope="module")
def tiny():
    """Every experiment that needs no data set, once, with the settings TINY."""
    return {
        name: Runs((FakeResult(0, computed(getattr(room, name))),))
        for name in ("identities", "solver_study", "hyperbolicity", "three_points", "disease_links", "feature_sizes",
                     "batch_norm", "node_classes")
    }  # fmt: skip


@pytest.mark.parametrize("claim", [one for one in CLAIMS if one.kind == "exact"], ids=lambda claim: claim.id)
def test_identities_hold_at_once(claim, tiny):
    judged = judging.judge(claim, "smoke", tiny)
    assert judged.verdict == REPRODUCED, judged.measures


def test_the_solvers_are_compared_at_smoke(tiny):
    run = tiny["solver_study"].first
    assert run["iterations"].shape == (2, 5, TINY.trials)
    assert run["errors"].shape == (2, 5, TINY.trials, 60)
    assert len(run["solvers"]) == 5
    assert run["best_step"] == 0.5
    assert (run["iterations"][:, 2] == 60).all()  # nowhere near: as many as were allowed
    for k in (0, 1, 4):
        assert (run["iterations"][:, k] < 60).all()
    starts = run["errors"][:, :4, :, 0]
    assert (starts == starts[:, :1]).all()  # all begin at the first point
    np.testing.assert_allclose(
        run["errors"][0, 1, :, :5], run["errors"][1, 1, :, :5], rtol=1e-5
    )  # one geometry


def test_iterations_are_the_steps_to_the_target():
    errors = np.array(
        [[1, 1e-3, 1e-11, 1e-12], [1e-11, 1, 1, 1], [1, 1, 1, 1e-10], [1, 1e-11, np.nan, np.nan]]
    )
    assert experiments._reached(errors).tolist() == [2, 0, 4, 1]


def test_the_generated_tree_has_no_hyperbolicity(tiny):
    run = tiny["hyperbolicity"].first
    assert (run["nodes"][0], run["edges"][0]) == (120, 119)
    assert (run["maximum"][0], run["mean"][0]) == (0, 0)


def test_the_frechet_mean_costs_least(tiny):
    run = tiny["three_points"].first
    assert run["names"][0] == "Fréchet mean"
    assert run["costs"].argmin() == 0
    np.testing.assert_allclose(run["geodesics"][0], np.tile(run["averages"][0], (3, 1)), atol=1e-12)
    np.testing.assert_allclose(run["geodesics"][-1], run["points"], atol=1e-12)
    # Where all points are moved alike the mean moves with them; far points count for less.
    assert (np.linalg.svd(run["jacobians"], compute_uv=False)[:, 0] < 1).all()


def test_link_runs_hold_what_claims_read(tiny):
    run = tiny["disease_links"].first
    assert run["curves"].shape == (2, 10 // EVERY, len(CURVES))
    assert list(run["methods"]) == ["HGCN", "Fréchet"]
    assert list(run["names"]) == list(CURVES)
    assert np.isfinite(run["curves"]).all()
    assert ((run["curves"][..., 2:] >= 0) & (run["curves"][..., 2:] <= 1)).all()
    assert (run["check_every"], run["patience"], run["graph"]) == (
        EVERY,
        TINY.published_patience,
        "generated",
    )
    sizes = tiny["feature_sizes"].first
    assert {name.split()[0] for name in sizes} == {"0.1", "0.3", "scales"}
    for scale in sizes["scales"]:
        assert sizes[f"{scale:g} curves"].shape == run["curves"].shape
    assert not np.array_equal(sizes["0.1 curves"], sizes["0.3 curves"])
    norms = tiny["batch_norm"].first
    assert norms["curves"].shape == (1, 2, 10 // EVERY, len(CURVES))
    assert not np.array_equal(*norms["curves"][0])
    assert areas(tiny["batch_norm"], 0, True).shape == (1,)
    nodes = tiny["node_classes"].first
    assert nodes["curves"].shape == (1, 2, 10 // EVERY, len(NODE_CURVES))
    assert list(nodes["names"]) == list(NODE_CURVES)


@pytest.mark.parametrize(
    "name", ["disease_links", "feature_sizes", "batch_norm", "node_classes", "solver_study", "hyperbolicity"]
)
def test_a_seed_gives_the_same_bits(name, tiny):
    same_bits(dict(tiny[name].first), computed(getattr(room, name)))


def test_another_seed_gives_another_run(tiny):
    other = computed(room.disease_links, seed=1)
    assert not np.array_equal(other["curves"], tiny["disease_links"].first["curves"])


def test_a_method_is_the_same_alone_and_among_others(tiny):
    """Nothing that one method does reaches the next: no random number, no weight."""
    alone = computed(room.disease_links, TINY.override({"methods": ["Fréchet"]}))
    every = computed(room.disease_links, TINY.override({"methods": ["MLP", "GCN", "HNN", "HGCN", "Fréchet"]}))
    assert np.array_equal(alone["curves"][0], tiny["disease_links"].first["curves"][1])
    assert np.array_equal(every["curves"][3:], tiny["disease_links"].first["curves"])
    assert len(np.unique(every["curves"][:, -1, 1])) == 5


def ending(method, steps, patience):
    """Settings of runs that may end early, evaluated every five epochs."""
    training = {"steps": steps, "evaluations": steps // 5, "patience": patience}
    return {"methods": [method], "published_patience": 10, "training": training}


def test_a_run_ends_when_nothing_has_risen_for_long(monkeypatch):
    scores = iter([0.5, 0.7, 0.6, 0.6, 0.6, 0.9])

    def constant(points, space, held_out):
        value = next(scores)
        return {name: value for name in CURVES[1:]}

    monkeypatch.setattr(experiments_graphs, "_link_scores", constant)
    config = TINY.override(ending("HGCN", steps=100, patience=3))
    curve = computed(room.disease_links, config)["curves"][0]
    assert curve.shape == (20, len(CURVES))
    assert np.isfinite(curve).all(axis=1).tolist() == [True] * 5 + [False] * 15
    assert (np.isfinite(curve).all(axis=1) == np.isfinite(curve).any(axis=1)).all()


# --- nothing held out is seen -------------------------------------------------------------------------------


def pairs_among(edges, pairs, num_nodes=120):
    return np.isin(pair_keys(np.asarray(pairs), num_nodes), pair_keys(np.asarray(edges), num_nodes))


def test_no_held_out_edge_is_among_the_messages():
    task = experiments_graphs.link_task(TINY, "generated", 0, "cpu")
    messages = task.messages.numpy().T
    for positive, negative in task.held_out.values():
        assert not pairs_among(messages, positive).any()
        assert not pairs_among(messages, negative).any()
        assert not pairs_among(task.train, positive).any()
        assert len(positive) == len(negative) > 0
    assert pairs_among(messages, task.train).all()
    assert messages.shape == (2 * len(task.train) + 120, 2)


def test_all_methods_get_the_same_splits_negatives_and_weights(monkeypatch):
    drawn, draw = [], experiments_graphs.training_negatives

    def recorded(split, rng):
        drawn.append(draw(split, rng))
        return drawn[-1]

    monkeypatch.setattr(experiments_graphs, "training_negatives", recorded)
    computed(room.disease_links)
    task = experiments_graphs.link_task(TINY, "generated", 0, "cpu")
    for one, other in zip(drawn[:10], drawn[10:], strict=True):
        assert np.array_equal(one, other)
    assert not np.array_equal(drawn[0], drawn[1])
    held_out = np.vstack([pairs for kind in task.held_out.values() for pairs in kind])
    assert not pairs_among(np.vstack(drawn), held_out).any()
    setting = experiments_graphs.LINK_SETTINGS["generated"]
    weights = [experiments_graphs._encoder(TINY, method, task, setting, 0).state_dict() for method in METHODS]
    for other in weights[1:]:
        assert all(torch.equal(value, other[name]) for name, value in weights[0].items())


def test_features_of_another_size_change_nothing_else():
    one, other = (experiments_graphs.link_task(TINY, "generated", 1, "cpu", scale) for scale in (1.0, 0.1))
    assert torch.allclose(other.features, 0.1 * one.features, rtol=1e-6)
    assert torch.equal(one.messages, other.messages)
    for part, pairs in one.held_out.items():
        assert all(map(torch.equal, pairs, other.held_out[part]))


def test_what_is_reported_on_chooses_nothing(monkeypatch):
    """Test scores may be anything: neither the weights nor the end of a run depend on them."""
    scores = experiments_graphs._link_scores

    def spoilt(points, space, held_out):
        found = scores(points, space, held_out)
        return found | {"test ROC": 1 - found["test ROC"], "test AP": 0.0}

    config = TINY.override(ending("Fréchet", steps=40, patience=2))
    plain = computed(room.disease_links, config)["curves"]
    monkeypatch.setattr(experiments_graphs, "_link_scores", spoilt)
    other = computed(room.disease_links, config)["curves"]
    assert np.array_equal(plain[..., :4], other[..., :4], equal_nan=True)


def test_airports_are_classified_without_the_column_of_the_labels(monkeypatch):
    rng = np.random.default_rng(0)
    features = rng.random((60, 5))
    edges = disease_tree(60, 0).edges
    labels = (features[:, 4] * 4).astype(np.int64)
    airport = Graph("airport", 60, edges, features, None, labels, None, None, None, "")
    found = []
    for graph in (airport, dataclasses.replace(airport, features=features * [1, 1, 1, 1, -7])):
        monkeypatch.setattr(experiments_graphs, "load", lambda name, graph=graph: graph)
        found.append(experiments_graphs._node_task(TINY, "airport", 0, "cpu").features)
    assert torch.equal(*found)
    assert found[0].shape == (60, 4 + 6 + 1)


def test_nodes_are_learnt_from_training_nodes_alone(monkeypatch):
    task = experiments_graphs._node_task(TINY, "generated", 0, "cpu")
    parts = [set(part.tolist()) for part in task.parts.values()]
    assert sum(map(len, parts)) == len(set.union(*parts)) == 120

    def weights(labels):
        setting = experiments_graphs.NODE_SETTINGS["generated"]
        encoder = experiments_graphs._encoder(TINY, "HGCN", task, setting, 0, layers=1)
        network = experiments_graphs.Classifier(encoder, task.classes, 0)
        changed = dataclasses.replace(task, labels=labels)
        experiments_graphs._train_nodes(TINY.training, network, changed, setting, 0)
        return torch.cat([one.flatten() for one in network.state_dict().values()])

    hidden = task.labels.clone()
    hidden[task.parts["test"]] = 1 - hidden[task.parts["test"]]
    assert torch.equal(weights(task.labels), weights(hidden))


def best_cut(values, labels):
    """The largest share of balanced labels that one threshold on a feature gets right: (1 + separation) / 2."""
    order = np.argsort(values, kind="stable")
    infected = labels[order] == 1
    gap = np.cumsum(infected) / infected.sum() - np.cumsum(~infected) / (~infected).sum()
    return (1 + np.abs(gap).max()) / 2


def test_no_feature_of_a_simulated_tree_is_its_label():
    for seed in range(5):
        tree = disease_tree(2000, seed)
        assert max(best_cut(column, tree.labels) for column in tree.features.T) < 0.9


def test_no_feature_of_the_disease_tree_is_its_label():
    tree = load("disease_lp")
    assert max(best_cut(column, tree.labels) for column in tree.features.T) < 0.65


def test_one_feature_of_the_disease_tree_gives_its_edges_away():
    """The last column is the place in a drawing of the tree: without any training it ranks held-out edges."""
    tree = load("disease_lp")
    split = link_split(tree, seed=0)
    inputs = node_inputs(tree, "link", split.train, normalise=False)
    pairs = np.vstack([split.test, split.test_negatives])
    truth = np.repeat([1, 0], len(split.test))
    closeness = -np.abs(inputs[pairs[:, 0]] - inputs[pairs[:, 1]])
    assert roc_auc_score(truth, closeness[:, 10]) > 0.99
    assert all(abs(roc_auc_score(truth, column) - 0.5) < 0.1 for column in closeness.T[:10])


# --- settings -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "values",
    [{"training.steps": 0}, {"training.steps": "5000"}, {"training.steps": 2.5}, {"training": {"evaluations": 0}},
     {"training": {"evaluations": 3}}, {"trials": 2}, {"width": 0}, {"training.learning_rate": 0},
     {"training.learning_rate": float("inf")}, {"seeds": []}, {"seeds": [1, 1]}, {"cora_seeds": [-1]},
     {"published_patience": 0}, {"norm_training": {"steps": 9}}, {"tree_nodes": 3}, {"methods": "HGCN"}, {"epochs": 500},
     {"scale": 0.1}],
    ids=str,
)  # fmt: skip
def test_bad_settings_are_refused(values):
    with pytest.raises(LoupeError, match=rf"override '?{next(iter(values))}"):
        PRESETS["smoke"].override(values)


def test_presets_ask_for_what_the_claims_need():
    for name in ("cpu", "gpu", "paper"):
        config = PRESETS[name]
        assert {"HGCN", "Fréchet"} <= set(config.methods) <= set(METHODS)
        assert 0.1 in config.feature_scales
        assert 0 not in config.scale_seeds  # the first look was at seed 0
        assert {"disease_lp", "airport", "cora"} <= set(config.delta_graphs)
        training = config.training
        assert config.published_patience < training.patience * training.every < training.steps
        assert training.every == config.norm_training.every == 5
        assert config.norm_training.patience is None
        assert config.norm_area % 5 == config.published_patience % 5 == 0
    for name in ("gpu", "paper"):
        assert (
            min(len(PRESETS[name].seeds), len(PRESETS[name].cora_seeds), len(PRESETS[name].norm_seeds)) >= 5
        )


# --- figures ------------------------------------------------------------------------------------------------


def chapter_of(preset="cpu", **found):
    """A chapter with these results, all of one preset unless the name says another one."""
    stored = FakeStored(
        {tuple(name.split("__")) if "__" in name else (preset, name): runs for name, runs in found.items()},
        preset,
    )
    return types.SimpleNamespace(preset=preset, stored=stored)


def bench():
    """Measurements of two sizes, one without the peer."""
    rows = [
        {"task": "means", "size": [2, n, 10], "precision": "float64", "method": method,
         "forward, ms": n * 1.0, "backward, ms": None if n > 10 and rank else 2000.0 * n}
        for n in (10, 20)
        for method, rank in figures.MARK.items()
    ]  # fmt: skip
    rows.append({"task": "Cora", "precision": "float32", "method": "loupe", "forward, ms": 1.0})
    return {"rows": rows, "environment": {"hardware": "a machine", "torch": "2"}}


def full_chapter(tiny):
    five = link_run((60, 60, 70, 80, 81), methods=("MLP", "GCN", "HNN", "HGCN", "Fréchet"), graph="cora")
    return chapter_of(
        disease_links=tiny["disease_links"], feature_sizes=tiny["feature_sizes"], batch_norm=tiny["batch_norm"],
        node_classes=tiny["node_classes"], gpu__cora_links=runs_of(five, five),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("draw", "pictures"),
    [
        (lambda tiny: figures.gradients(tiny["three_points"]), 1),
        (lambda tiny: figures.errors(tiny["solver_study"]), 1),
        (lambda tiny: figures.timing(bench()), 1),
        (lambda tiny: figures_graphs.training(full_chapter(tiny)), 1),
        (lambda tiny: figures_graphs.bars(full_chapter(tiny)), 1),
        (lambda tiny: figures_graphs.norm_curves(full_chapter(tiny)), 1),
    ],
    ids=["gradients", "errors", "timing", "training", "bars", "norm_curves"],
)
def test_pictures_are_shown_with_their_captions(draw, pictures, tiny, rendered):
    assert draw(tiny) is None
    kinds = [{"image/png", "text/plain"}, {"text/markdown"}] * pictures
    assert [set(data) for data, _ in rendered.outputs] == kinds


@pytest.mark.parametrize(
    ("draw", "words"),
    [
        (
            lambda tiny: figures.solver_table(tiny["solver_study"]),
            ["majorisation", "gradient, best step (0.5)"],
        ),
        (lambda tiny: figures.hyperbolicity_table(tiny["hyperbolicity"]), ["generated tree", "120"]),
        (lambda tiny: figures.timing_table(bench(), "forward"), ["2×10×10", "2×20×10"]),
        (lambda tiny: figures.timing_table(bench(), "backward"), ["2×10×10", "ours", "20,000"]),
        (lambda tiny: figures.graph_table(bench()), ["float32"]),
        (
            lambda tiny: figures_graphs.link_table(full_chapter(tiny)),
            ["Cora", "92.9 ± 0.1", "81.0", "not available"],
        ),
        (lambda tiny: figures_graphs.sizes_table(full_chapter(tiny)), ["0.1", "0.3"]),
        (lambda tiny: figures_graphs.node_table(full_chapter(tiny)), ["generated tree", "F1"]),
    ],
    ids=["solver", "hyperbolicity", "forward", "backward", "graph", "link", "sizes", "node"],
)
def test_tables_are_blocks_with_the_numbers(draw, words, tiny):
    block = draw(tiny)
    assert isinstance(block, Block)
    assert block.html.count("<table") == 1
    for word in words:
        assert word in str(block)


def test_the_disk_and_the_thumbnail(tiny, tmp_path):
    kinds = figures.disk(tiny["three_points"])._repr_mimebundle_()
    assert "text/html" in kinds
    assert "Einstein midpoint" in kinds["text/html"]
    chapter = types.SimpleNamespace(stored={"three_points": tiny["three_points"]})
    assert_same_thumbnail_each_time(figures.thumbnail, chapter, tmp_path)


@pytest.mark.parametrize("draw", [figures_graphs.training, figures_graphs.bars, figures_graphs.sizes_table,
                                  figures_graphs.shortcut_table, figures_graphs.feature_sentence,
                                  figures_graphs.node_table, figures_graphs.norm_curves])  # fmt: skip
def test_what_is_not_computed_yet_is_said_in_one_sentence(draw):
    block = draw(chapter_of())
    assert str(block).endswith("has not been computed yet.")
    assert block._repr_mimebundle_()["text/markdown"]


def test_a_result_is_that_of_the_preset_or_else_of_gpu():
    chapter = chapter_of(disease_links="own", gpu__disease_links="other", gpu__cora_links="lent")
    found = [figures_graphs.stored(chapter, name) for name in figures_graphs.LINKS]
    assert [one and (one.runs, one.preset) for one in found] == [("own", "cpu"), None, ("lent", "gpu"), None]

"""What the experiments of the chapter on the Fréchet mean return, what they may see, and their settings."""

import numpy as np
import pytest
import torch
from fakes import computed as computed_once
from sklearn.metrics import roc_auc_score

from loupe.data import load
from loupe.data.graph_tasks import disease_tree, link_split, node_inputs, pair_keys
from loupe.errors import LoupeError
from loupe.experiment import claims as judging
from loupe.experiment.results import row
from loupe.papers import frechet_mean as room
from loupe.papers.frechet_mean import PRESETS, experiments, experiments_graphs
from loupe.papers.frechet_mean.claims import CLAIMS, areas
from loupe.papers.frechet_mean.experiments_graphs import METHODS, METRICS

TINY = PRESETS["smoke"].override(
    {
        "training": {"steps": 10, "evaluations": 2}, "norm_training": {"steps": 10, "evaluations": 2}, "norm_area": 10,
        "tree_nodes": 120, "width": 4, "delta_samples": 200,
        "identity_problems": 3, "solver_problems": 18, "study_iterations": 60, "tuned_steps": [0.1, 0.5],
        "feature_scales": [0.1, 0.3],
    }
)  # fmt: skip
EVERY = TINY.training.every


def computed(function, config=TINY, seed=0):
    return function(config, seed=seed, device="cpu")


def same_bits(one, other):
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert np.array_equal(value, other[name], equal_nan=np.asarray(value).dtype.kind == "f"), name


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """Every experiment that needs no dataset, once, with the settings TINY."""
    names = ("identities", "solver_study", "hyperbolicity", "three_points", "disease_links", "feature_sizes",
             "batch_norm")  # fmt: skip
    return computed_once(room, TINY, names, tmp_path_factory)


@pytest.mark.parametrize("claim", [one for one in CLAIMS if one.kind == "exact"], ids=lambda claim: claim.id)
def test_identities_hold_at_once(claim, tiny):
    judged = judging.judge(claim, "smoke", tiny)
    assert judged.verdict == judging.REPRODUCED, judged.measures


def test_the_solvers_are_compared_at_smoke(tiny):
    run = tiny["solver_study"].first
    assert run["iterations"].shape == (10, TINY.trials)
    assert run["errors"].shape == (10, TINY.trials, 60)
    assert run["best_step"] == 0.5
    solver, starts = run["solver"], run["errors"][..., 0]
    assert (run["iterations"][solver == "step 0.01"] == 60).all()  # nowhere near: as many as were allowed
    for name in ("ours", "Karcher", "ours, midpoint"):
        assert (run["iterations"][solver == name] < 60).all()
    for space in ("ball", "hyperboloid"):
        begun = starts[(run["space"] == space) & (solver != "ours, midpoint")]
        assert (begun == begun[0]).all()  # all begin at the first point
    one, other = (row(run, "errors", space=each, solver="Karcher") for each in ("ball", "hyperboloid"))
    np.testing.assert_allclose(one[:, :5], other[:, :5], rtol=1e-5)  # one geometry


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
    assert (run["check_every"], run["patience"]) == (EVERY, TINY.published_patience)
    assert list(zip(run["graph"], run["method"], strict=True)) == [
        ("generated", "HGCN"),
        ("generated", "Fréchet"),
    ]
    for name in METRICS:
        assert run[name].shape == (2, 10 // EVERY)
        assert np.isfinite(run[name]).all()
        assert "loss" in name or ((run[name] >= 0) & (run[name] <= 1)).all()
    sizes = tiny["feature_sizes"].first
    assert list(sizes["scale"]) == [0.1, 0.1, 0.3, 0.3]
    assert list(sizes["method"]) == ["HGCN", "Fréchet"] * 2
    assert len(np.unique(sizes["loss"], axis=0)) == 4
    norms = tiny["batch_norm"].first
    assert list(norms["norm"]) == [False, True]
    assert not np.array_equal(*norms["loss"])
    assert areas(tiny["batch_norm"], "generated", True).shape == (1,)


@pytest.mark.parametrize(
    "name", ["disease_links", "feature_sizes", "batch_norm", "solver_study", "hyperbolicity"]
)
def test_a_seed_gives_the_same_bits(name, tiny):
    same_bits(dict(tiny[name].first), computed(getattr(room, name)))


def test_another_seed_gives_another_run(tiny):
    other = computed(room.disease_links, seed=1)
    assert not np.array_equal(other["loss"], tiny["disease_links"].first["loss"])


def test_a_method_is_the_same_alone_and_among_others(tiny):
    """Nothing that one method does reaches the next: no random number, no weight."""
    alone = computed(room.disease_links, TINY.override({"methods": ["Fréchet"]}))
    every = computed(room.disease_links, TINY.override({"methods": ["MLP", "GCN", "HNN", "HGCN", "Fréchet"]}))
    both = tiny["disease_links"].first
    for name in METRICS:
        assert np.array_equal(alone[name][0], both[name][1])
        assert np.array_equal(every[name][3:], both[name])
    assert len(np.unique(every["validation_loss"][:, -1])) == 5


def ending(method, steps, patience):
    """Settings of runs that may end early, evaluated every five epochs."""
    training = {"steps": steps, "evaluations": steps // 5, "patience": patience}
    return {"methods": [method], "published_patience": 10, "training": training}


def test_a_run_ends_when_nothing_has_risen_for_long(monkeypatch):
    scores = iter([0.5, 0.7, 0.6, 0.6, 0.6, 0.9])

    def constant(points, space, held_out):
        value = next(scores)
        return {name: value for name in METRICS[1:]}

    monkeypatch.setattr(experiments_graphs, "_link_scores", constant)
    config = TINY.override(ending("HGCN", steps=100, patience=3))
    found = computed(room.disease_links, config)
    for name in METRICS:
        assert np.isfinite(found[name]).tolist() == [[True] * 5 + [False] * 15]


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
    weights = [experiments_graphs._encoder(TINY, method, task).state_dict() for method in METHODS]
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
        return found | {"test_roc": 1 - found["test_roc"], "test_ap": 0.0}

    config = TINY.override(ending("Fréchet", steps=40, patience=2))
    plain = computed(room.disease_links, config)
    monkeypatch.setattr(experiments_graphs, "_link_scores", spoilt)
    other = computed(room.disease_links, config)
    assert not np.array_equal(plain["test_roc"], other["test_roc"], equal_nan=True)
    for name in METRICS[:4]:
        assert np.array_equal(plain[name], other[name], equal_nan=True)


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
    inputs = node_inputs(tree, "link", split.train, normalize=False)
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

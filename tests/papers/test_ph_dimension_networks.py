"""The glue of the chapter's second half: training runs, the table of the grid, and how its claims are judged."""

import math
import os
import signal

import numpy as np
import pytest
import torch
from fakes import FakeResult

from loupe.errors import LoupeError
from loupe.experiment.claims import combine, judge
from loupe.experiment.results import Runs
from loupe.metrics import kendall, partial_kendall
from loupe.papers.ph_dimension import PRESETS, claims, experiments_networks
from loupe.papers.ph_dimension.claims_grid import SIMPLE, by_cell, grids, margin_to_best, tau_over_cells
from loupe.papers.ph_dimension.experiments_networks import PenalisedLoss
from loupe.topology import DimensionPenalty

SMOKE = PRESETS["smoke"].override({"image_count": 200, "training": {"steps": 1000, "evaluations": 10}})


def result(seed, **values):
    return FakeResult(seed, values)


def run(seed, rate, batch, *, dimension, gap, converged=True):
    """A run whose other measures are unrelated numbers."""
    other = np.random.default_rng(seed).random(20)
    return result(
        seed, case="toy net", learning_rate=rate, batch=batch, converged=converged, dimension=dimension,
        train_accuracy=1.0, test_accuracy=1 - gap, train_loss=0.0, test_loss=gap, steps=100,
        estimates=other[:4], estimator=np.array(["TwoNN", "MLE", "correlation", "PCA"]), null_dimension=other[4:8],
        null_model=np.array(["same directions, equal lengths", "same lengths, orthogonal directions", "c", "d"]),
        final_norm=other[8], diameter=other[9], lifetime_sum=other[10], dimension_in_losses=other[11],
        lifetime_sum_in_losses=other[12], positive_magnitude=other[13], positive_magnitude_in_losses=other[14],
    )  # fmt: skip


def grid_of(dimension, gap, repetitions=2, **more):
    """Runs of a 4 x 4 grid, by functions of learning rate and batch size."""
    cells = [(rate, batch) for rate in (0.02, 0.05, 0.1, 0.2) for batch in (16, 32, 64, 128)]
    noise = np.random.default_rng(0).normal(size=(16 * repetitions, 2)) * 1e-6
    return Runs(
        tuple(
            run(k, *cells[k % 16], dimension=dimension(*cells[k % 16]) + noise[k, 0],
                gap=gap(*cells[k % 16]) + noise[k, 1], **more)
            for k in range(16 * repetitions)
        )
    )  # fmt: skip


def judged(judge, runs):
    return judge({"gap_grid": runs})


def test_columns_of_the_grid_are_what_its_runs_hold():
    runs = grid_of(lambda rate, batch: batch, lambda rate, batch: rate, repetitions=1)
    (grid,) = grids(runs).values()
    for place, name in enumerate(("TwoNN", None, "correlation")):
        assert name is None or np.array_equal(grid[name], runs["estimates"][:, place])
    for place, name in enumerate(runs.first["null_model"][:2]):
        assert np.array_equal(grid[name], runs["null_dimension"][:, place])
    for name in (
        "dimension",
        "learning_rate",
        "batch",
        "final_norm",
        "lifetime_sum_in_losses",
        "steps",
        "train_loss",
    ):
        assert np.array_equal(grid[name], runs[name])
    assert grid["gap"] == pytest.approx(1 - runs["test_accuracy"])
    assert grid["loss_gap"] == pytest.approx(runs["test_loss"])
    assert grid["ratio"] == pytest.approx(runs["learning_rate"] / runs["batch"], rel=1e-5)


def test_cells_are_means_over_their_runs():
    runs = grid_of(lambda rate, batch: batch, lambda rate, batch: rate)
    (grid,) = grids(runs).values()
    cells = by_cell(grid)
    assert (len(grid["gap"]), len(cells["gap"])) == (32, 16)
    knobs = [list(zip(one["learning_rate"], one["batch"], strict=True)) for one in (grid, cells)]
    assert set(knobs[0]) == set(knobs[1])
    here, there = ((one["learning_rate"] == 0.1) & (one["batch"] == 64) for one in (grid, cells))
    for name in ("gap", "diameter"):
        assert cells[name][there] == pytest.approx(grid[name][here].mean())
    assert len(np.unique(cells["ratio"])) == len({f"{rate / batch:.5g}" for rate, batch in knobs[0]})


def test_runs_without_a_dimension_stay_out_and_none_at_all_is_one_sentence():
    whole = grid_of(lambda rate, batch: batch, lambda rate, batch: rate)
    diverged = result(99, case="toy net", learning_rate=0.2, batch=16, converged=False)
    undefined = run(98, 0.2, 16, dimension=math.nan, gap=0.1)
    (grid,) = grids(Runs((*whole.results, diverged, undefined))).values()
    assert len(grid["gap"]) == 32
    with pytest.raises(LoupeError, match="no run of the grid has a dimension"):
        grids(Runs((diverged,)))


def test_a_dimension_that_follows_the_gap_reproduces_and_one_that_does_not_does_not():
    follows = judged(claims._dimension_follows_gap, grid_of(lambda r, b: b / r, lambda r, b: b / r))
    assert {measure.outcome for measure in follows} == {"reproduced"}
    against = judged(claims._dimension_follows_gap, grid_of(lambda r, b: -b / r, lambda r, b: b / r))
    assert {measure.outcome for measure in against} == {"not reproduced"}


def test_repetitions_do_not_make_an_interval_narrower():
    """Runs of one cell repeat its value: only cells are units."""
    unrelated = np.random.default_rng(3).random((4, 4))
    place = {rate: i for i, rate in enumerate((0.02, 0.05, 0.1, 0.2))}

    def dimension(rate, batch):
        return unrelated[place[rate], int(np.log2(batch)) - 4]

    one, four = (
        judged(claims._dimension_follows_gap, grid_of(dimension, lambda r, b: b + r, repetitions=n))[0]
        for n in (1, 4)
    )
    assert one.units == four.units == 16
    assert (one.value, one.low, one.high) == pytest.approx((four.value, four.low, four.high), abs=0.05)


def test_few_converged_cells_leave_the_claim_open():
    few = grid_of(lambda r, b: b, lambda r, b: b, converged=False)
    outcomes = [measure.outcome for measure in judged(claims._dimension_follows_gap, few)]
    assert outcomes == ["reproduced", "inconclusive"]


def given(dimension, gap, change=lambda runs: runs):
    measures = judged(claims._survives_conditioning, change(grid_of(dimension, gap)))
    return {measure.label.rpartition(" given ")[2]: measure for measure in measures}


def test_what_batch_size_explains_does_not_survive_it():
    found = given(lambda r, b: b + 1e-3 * r, lambda r, b: b - 1e-3 * r)
    assert found["batch size"].outcome != "reproduced"
    assert combine(list(found.values())) != "reproduced"
    found = given(lambda r, b: b - 50 * r, lambda r, b: b - 50 * r + 1e-3 * b)
    assert {measure.outcome for measure in found.values()} == {"reproduced"}


def test_a_partial_tau_is_that_of_its_formula_and_its_cells_are_drawn_together():
    (grid,) = grids(grid_of(lambda r, b: b - 99 * r, lambda r, b: b + 99 * r)).values()
    cells = by_cell(grid)
    found = tau_over_cells("", grid, "learning_rate")
    wanted = partial_kendall(cells["dimension"], cells["gap"], cells["learning_rate"]).tau
    assert found.value == pytest.approx(wanted)
    same = grid | {"gap": grid["dimension"]}  # a column given anything follows itself in every draw
    assert tau_over_cells("", same, "learning_rate").low == pytest.approx(1)


def test_what_rests_on_the_window_before_the_stop_is_withdrawn():
    runs = {"gap_grid": grid_of(lambda r, b: b / r, lambda r, b: b / r)}
    verdicts = {claim.id: judge(claim, "cpu", runs) for claim in claims.CLAIMS if claim.id in ("PH6", "PH9")}
    assert {one.verdict for one in verdicts.values()} == {"inconclusive"}
    assert all("after the stop" in one.reason for one in verdicts.values())


CLAIM = {claim.id: claim for claim in claims.CLAIMS}


def verdict(claim, preset="cpu", **runs):
    return judge(CLAIM[claim], preset, {name: Runs(tuple(one)) for name, one in runs.items()}).verdict


def clouds(**factors):
    """Five clouds of each kind, the estimate so many times the truth."""
    truth = {"circle": 1.0, "cube_3": 3.0, "gaussian_plane": 2.0, "cube_10": 10.0}
    return [
        result(
            seed, cloud=np.array(list(truth)), truth=np.array(list(truth.values())), alpha=np.array([0.5, 1, 1, 1]),
            dimension=np.array([(factors.get(name, 1) + seed / 1000) * d for name, d in truth.items()]),
            slope=np.array([0.5, 2 / 3, 0.5, 0.9]),
        )
        for seed in range(5)
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("factors", "expected"),
    [
        ({}, "reproduced"),
        ({"cube_10": 0.8}, "partly"),
        ({"gaussian_plane": 1.2}, "partly"),
        ({"circle": 1.2}, "not reproduced"),
    ],
)
def test_clouds_have_one_band_and_the_simple_ones_decide(factors, expected):
    assert verdict("PH3", known_dimensions=clouds(**factors)) == expected


def processes(*noise):
    """Ten paths of each process; estimators that err by so much."""
    beta, rng = np.linspace(1.1, 2, 10), np.random.default_rng(0)
    names = np.array(["persistent homology", "TwoNN", "MLE (k = 10)", "correlation", "PCA (95 %)"])
    return [
        result(
            seed, beta=beta, estimator=names, estimates=np.stack([beta + size * rng.normal(size=10) for size in noise])
        )
        for seed in range(10)
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("noise", "order", "distance"),
    [
        ((0.01, 0.2, 0.2, 0.2, 3), "reproduced", "inconclusive"),  # a constant guess is as near as 0.2
        ((0.01, 0.9, 0.9, 0.9, 3), "reproduced", "inconclusive"),
        ((0.06, 0.9, 0.01, 0.9, 3), "partly", "not reproduced"),  # one better rival is enough
        ((0.9, 0.9, 0.9, 0.9, 3), "not reproduced", "inconclusive"),
    ],
)
def test_processes_are_ordered_path_by_path_and_a_constant_is_the_control(noise, order, distance):
    assert verdict("PH5", diffusion_processes=processes(*noise)) == order
    assert verdict("PH5b", diffusion_processes=processes(*noise)) == distance


def pairs_with_penalty(plain_early, penalised, dimension=1.0):
    """Three pairs: training accuracy 0.5 then 0.9 without, 0.5 with the penalty; gaps at these times."""
    return [
        result(
            seed, train_accuracy=np.array([[0.5, 0.9], [0.4, 0.89]]) + seed / 1000,
            test_accuracy=np.array([[0.5 - plain_early, 0.7], [0.4, 0.89 - penalised]]),
            dimension=np.array([[1.5, 1.5], [1.5, dimension + seed / 1000]]),
        )
        for seed in range(3)
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("early", "penalised", "dimension", "expected"),
    [
        (0.9, 0.1, 1.0, "reproduced"),  # stopping early would widen the gap
        (0.0, 0.1, 1.0, "inconclusive"),  # stopping early does the same
        (0.0, 0.1, 2.0, "not reproduced"),
        (0.9, 0.1, 2.0, "partly"),
        (0.9, 0.4, 1.0, "not reproduced"),
    ],
)
def test_a_penalty_has_to_beat_stopping_early(early, penalised, dimension, expected):
    assert verdict("PH8", regularised=pairs_with_penalty(early, penalised, dimension)) == expected


@pytest.mark.parametrize(
    ("rises", "gaps", "expected"),
    [
        ((-0.1, -0.11, -0.12), (0.02, 0.03, 0.02), "reproduced"),
        # Few pairs do not show that it does not rise.
        ((-0.1, 0.1, 0.05), (0.02, 0.03, 0.02), "inconclusive"),
        ((0.1, 0.11, 0.12), (0.02, 0.03, 0.02), "partly"),
        ((-0.1, -0.11, -0.12), (-0.02, -0.03, -0.02), "not reproduced"),
    ],
)
def test_an_adversarial_start_has_to_raise_the_gap_and_not_the_dimension(rises, gaps, expected):
    runs = [
        result(
            seed, memorised=1.0, train_accuracy=np.ones(2), test_accuracy=np.array([0.9, 0.9 - gap]),
            dimension=np.array([2, 2 + rise]),
        )
        for seed, (rise, gap) in enumerate(zip(rises, gaps, strict=True))
    ]  # fmt: skip
    assert verdict("PH10", "gpu", adversarial_start=runs) == expected


def identities(**changes):
    """Two routes on two clouds, two closed forms, and a cloud that was embedded; right unless changed."""
    values = {"clouds": np.array(["a", "b"]), "routes": np.array(["prim", "alpha"]), "route_gaps": np.zeros((2, 2)),
              "nearest_gaps": np.array([0.3, 0.1]), "closed_forms": np.array(["line", "grid"]),
              "closed_form_errors": np.zeros((2, 3)), "nearest_sum_errors": np.full((2, 3), 0.1), "plane_dimension": 2.0,
              "embedded_dimension": 2.0, "sheared_dimension": 1.9}  # fmt: skip
    return [FakeResult(0, values | changes)]


@pytest.mark.parametrize(
    ("claim", "changes", "expected"),
    [
        ("PH1", {}, "reproduced"),
        ("PH1", {"route_gaps": np.array([[0, 0], [0, 1e-6]])}, "not reproduced"),
        # Clouds on which anything is right show nothing.
        ("PH1", {"nearest_gaps": np.zeros(2)}, "inconclusive"),
        ("PH2", {}, "reproduced"),
        ("PH2", {"closed_form_errors": np.array([[0, 0, 0], [0, 0, 1e-6]])}, "not reproduced"),
        ("PH2", {"nearest_sum_errors": np.zeros((2, 3))}, "inconclusive"),
        ("PH4", {}, "reproduced"),
        ("PH4", {"embedded_dimension": 2.01}, "not reproduced"),
        ("PH4", {"sheared_dimension": 2.0}, "inconclusive"),
    ],
)
def test_identities_hold_to_rounding_and_their_controls_do_not(claim, changes, expected):
    assert verdict(claim, identities=identities(**changes)) == expected


@pytest.mark.parametrize(
    ("dimension", "expected"),
    [(lambda r, b: b - 400 * r, "reproduced"), (lambda r, b: (b * r * 1e3) % 7, "not reproduced")],
)
def test_the_dimension_has_to_keep_up_with_simple_measures(dimension, expected):
    assert verdict("PH7", gap_grid=grid_of(dimension, lambda r, b: b - 400 * r).results) == expected


def test_averaging_has_to_beat_another_look_at_one_draw():
    rng = np.random.default_rng(0)
    for first, expected in ((1, "reproduced"), (4, "inconclusive")):
        one = np.concatenate([first * rng.normal(size=100), rng.normal(size=100)])
        run = result(0, repeats=np.array([1, 10]), dimensions=np.stack([one, 0.2 * rng.normal(size=200)]))
        assert verdict("PH11", noise_of_one_draw=[run]) == expected


def test_the_margin_is_over_the_strongest_simple_measure():
    (grid,) = grids(grid_of(lambda r, b: b, lambda r, b: r / b)).values()
    cells = by_cell(grid)
    margin = margin_to_best("toy net", grid)
    strength = {name: abs(kendall(cells[name], cells["gap"])) for name in ("dimension", *SIMPLE)}
    assert max(SIMPLE, key=strength.get) == "ratio"
    assert margin.label == "toy net: |τ| of the dimension minus that of lr / batch"
    assert margin.value == pytest.approx(strength["dimension"] - strength["ratio"])
    assert margin.low <= margin.value <= margin.high <= 0


@pytest.mark.parametrize("preset", PRESETS)
def test_a_run_can_end_at_the_first_evaluation_after_its_window_is_full(preset):
    config = PRESETS[preset]
    for training in (config.training, config.penalty_training):
        assert training.steps % training.evaluations == 0
    assert config.iterates % (config.training.steps // config.training.evaluations) == 0


# --- training -----------------------------------------------------------------------------------------------


def interrupt_at(monkeypatch, call):
    """Ctrl-C at a call of the function that looks at the network while it trains."""
    calls = iter(range(1, 1000))
    for name in ("accuracy", "_scores"):
        measure = getattr(experiments_networks, name)

        def measured(*given, measure=measure):
            if next(calls) == call:
                os.kill(os.getpid(), signal.SIGINT)
            return measure(*given)

        monkeypatch.setattr(experiments_networks, name, measured)


def test_a_run_is_kept_with_its_last_iterates_and_goes_on_to_the_same(tmp_path, monkeypatch):
    def trained(folder):
        return experiments_networks._train(SMOKE, "digits fcn-5", 200, 3, "cpu", tmp_path / folder, batch=16)

    whole, finished = trained("a"), trained("a")
    with monkeypatch.context() as patch:
        interrupt_at(patch, 2)
        with pytest.raises(KeyboardInterrupt):
            trained("b")
    assert (tmp_path / "b" / "run.pt").exists()
    resumed = trained("b")
    assert whole.distances.shape == (SMOKE.iterates, SMOKE.iterates)
    for other in (finished, resumed):
        assert np.array_equal(other.distances, whole.distances)
        assert np.array_equal(other.losses, whole.losses)
        assert other.outcome == whole.outcome
    assert whole.outcome["converged"]
    assert SMOKE.iterates <= whole.outcome["steps"] < SMOKE.training.steps
    assert np.array_equal(whole.last, whole.recorder.iterates()[-1])


def test_training_with_the_penalty_goes_on_to_the_same(tmp_path, monkeypatch):
    def arms(folder):
        return experiments_networks.regularised(SMOKE, seed=0, device="cpu", work=tmp_path / folder)

    whole = arms("a")
    with monkeypatch.context() as patch:
        interrupt_at(patch, 5)  # in the second run, when its window is full
        with pytest.raises(KeyboardInterrupt):
            arms("b")
    assert (tmp_path / "b" / f"weight-{SMOKE.penalty_weights[1]}" / "run.pt").exists()
    resumed = arms("b")
    assert whole["steps"].tolist() == [[20, 40, 60]] * 2
    for name in ("steps", "train_loss", "test_accuracy", "dimension"):
        assert np.array_equal(whole[name], resumed[name], equal_nan=True)
    assert np.isfinite(whole["dimension"]).tolist() == [[False, True, True]] * 2


def test_a_run_that_diverges_is_kept_and_has_no_distances(tmp_path):
    found = experiments_networks.gap_grid(
        SMOKE.override({"grid_learning_rates": [1e6], "grid_batches": [16]}),
        seed=0,
        device="cpu",
        work=tmp_path,
    )
    assert found["converged"] is False
    assert "dimension" not in found
    assert found["steps"] < SMOKE.training.steps


def test_random_labels_are_others_and_the_images_the_same():
    true = experiments_networks._images("digits", 100, "cpu")
    random = experiments_networks._images("digits", 100, "cpu", random_labels=True)
    assert torch.equal(true.x, random.x)
    assert 0 < (true.y == random.y).sum() < 40
    assert true.x.mean().abs() < 1e-5
    assert true.x.std() == pytest.approx(1, abs=1e-3)


def test_the_penalty_joins_the_loss_when_the_window_is_full_and_never_without_weight():
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 3))
    batch = [torch.randn(8, 3, 2, 2), torch.randint(3, (8,))]
    losses = {weight: PenalisedLoss(weight, DimensionPenalty(39, window=40, seed=1)) for weight in (0.0, 0.5)}
    for step in range(45):
        values = {
            weight: loss(network, batch, torch.Generator().manual_seed(step))
            for weight, loss in losses.items()
        }
        if step < 39:
            assert values[0.0] == values[0.5]
        else:
            assert values[0.5] > values[0.0] + 0.2
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.add_(0.01 * torch.randn_like(parameter))
    assert losses[0.0].penalty.steps == losses[0.5].penalty.steps == 45
    restored = PenalisedLoss(0.5, DimensionPenalty(39, window=40, seed=1))
    restored.load_state_dict(losses[0.5].state_dict())
    generators = [torch.Generator().manual_seed(1) for _ in range(2)]
    assert restored(network, batch, generators[0]) == losses[0.5](network, batch, generators[1])

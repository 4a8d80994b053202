"""The glue of the chapter's second half: training runs, the table of the grid, and how its claims are judged."""

import math

import numpy as np
import pytest
import torch

from loupe.errors import LoupeError
from loupe.experiment.chapter import Runs
from loupe.metrics import kendall
from loupe.papers.ph_dimension import PRESETS, claims, experiments_networks
from loupe.papers.ph_dimension.claims_grid import SIMPLE, grids, margin_over_simple
from loupe.papers.ph_dimension.experiments_networks import PenalisedLoss, Task
from loupe.topology import DimensionPenalty

SMOKE = PRESETS["smoke"].override({"image_count": 200, "max_steps": 400})


class FakeResult(dict):
    """A stored result of one run of the grid."""

    def __init__(self, seed, **values):
        super().__init__(values)
        self.seed = seed


def run(seed, rate, batch, *, dimension, gap, converged=True):
    """A run whose other measures are unrelated numbers."""
    other = np.random.default_rng(seed).random(20)
    return FakeResult(
        seed, case="toy net", learning_rate=rate, batch=batch, converged=converged, dimension=dimension,
        train_accuracy=1.0, test_accuracy=1 - gap, train_loss=0.0, test_loss=gap, steps=100,
        competitors=other[:4], competitor_names=np.array(["TwoNN", "MLE", "correlation", "PCA"]),
        surrogate_dimensions=other[4:8],
        surrogates=np.array(["same directions, equal lengths", "same lengths, orthogonal directions", "c", "d"]),
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


def test_cells_are_means_over_their_runs():
    runs = grid_of(lambda rate, batch: batch, lambda rate, batch: rate)
    (grid,) = grids(runs)
    cells = grid.cells
    assert (len(grid.gap), len(cells.gap)) == (32, 16)
    assert set(zip(cells.rate, cells.batch, strict=True)) == set(zip(grid.rate, grid.batch, strict=True))
    here = (grid.rate == 0.1) & (grid.batch == 64)
    there = (cells.rate == 0.1) & (cells.batch == 64)
    assert cells.gap[there] == pytest.approx(grid.gap[here].mean())
    assert cells.measures["diameter of the path"][there] == pytest.approx(
        grid.measures["diameter of the path"][here].mean()
    )
    assert len(np.unique(cells.ratio)) == len(
        {f"{r / b:.5g}" for r, b in zip(grid.rate, grid.batch, strict=True)}
    )


def test_runs_without_a_dimension_stay_out_and_none_at_all_is_one_sentence():
    whole = grid_of(lambda rate, batch: batch, lambda rate, batch: rate)
    diverged = FakeResult(99, case="toy net", learning_rate=0.2, batch=16, converged=False)
    undefined = run(98, 0.2, 16, dimension=math.nan, gap=0.1)
    (grid,) = grids(Runs((*whole.results, diverged, undefined)))
    assert len(grid.gap) == 32
    with pytest.raises(LoupeError, match="no run of the grid has a dimension"):
        grids(Runs((diverged,)))


def test_a_dimension_that_follows_the_gap_reproduces_and_one_that_does_not_does_not():
    follows = judged(claims._dimension_follows_gap, grid_of(lambda r, b: b / r, lambda r, b: b / r))
    assert {measure.outcome for measure in follows} == {"reproduced"}
    against = judged(claims._dimension_follows_gap, grid_of(lambda r, b: -b / r, lambda r, b: b / r))
    assert {measure.outcome for measure in against} == {"not reproduced"}


def test_repetitions_do_not_make_a_test_surer():
    """Runs of one cell repeat its value: with the cells alone the p-value must not fall."""
    unrelated = np.random.default_rng(3).random((4, 4))
    place = {rate: i for i, rate in enumerate((0.02, 0.05, 0.1, 0.2))}

    def dimension(rate, batch):
        return unrelated[place[rate], int(np.log2(batch)) - 4]

    p_values = [
        judged(claims._dimension_follows_gap, grid_of(dimension, lambda r, b: b + r, repetitions=n))[0].value
        for n in (1, 4)
    ]
    assert p_values[0] == pytest.approx(p_values[1], abs=0.005)


def test_few_converged_cells_leave_the_claim_open():
    few = grid_of(lambda r, b: b, lambda r, b: b, converged=False)
    outcomes = [measure.outcome for measure in judged(claims._dimension_follows_gap, few)]
    assert outcomes == ["reproduced", "inconclusive"]


def test_what_batch_size_explains_does_not_survive_it():
    (measure,) = judged(
        claims._survives_conditioning, grid_of(lambda r, b: b + 1e-3 * r, lambda r, b: b - 1e-3 * r)
    )
    assert measure.outcome == "not reproduced"
    (measure,) = judged(
        claims._survives_conditioning, grid_of(lambda r, b: b - 50 * r, lambda r, b: b - 50 * r)
    )
    assert measure.outcome == "reproduced"


def lonely_ratios(runs):
    """The same runs at batch sizes whose ratios with the learning rates never coincide."""
    other = {16: 17, 32: 37, 64: 71, 128: 139}
    for one in runs:
        one["batch"] = other[one["batch"]]
    return runs


def test_a_ratio_that_never_repeats_leaves_the_claim_open_and_saves_none_that_fails():
    survives = lonely_ratios(grid_of(lambda r, b: b - 50 * r, lambda r, b: b - 50 * r))
    (measure,) = judged(claims._survives_conditioning, survives)
    assert measure.outcome == "inconclusive"
    fails = lonely_ratios(grid_of(lambda r, b: b + 1e-3 * r, lambda r, b: b - 1e-3 * r))
    (measure,) = judged(claims._survives_conditioning, fails)
    assert measure.outcome == "not reproduced"


def test_the_margin_is_over_the_strongest_simple_measure():
    (grid,) = grids(grid_of(lambda r, b: b, lambda r, b: r / b))
    best, margin, low, high = margin_over_simple(grid.cells)
    strength = {name: abs(kendall(grid.cells.measures[name], grid.cells.gap)) for name in SIMPLE}
    assert best == max(strength, key=strength.get) == "lr / batch"
    assert margin == pytest.approx(abs(kendall(grid.cells.dimension, grid.cells.gap)) - strength[best])
    assert low <= margin <= high <= 0


# --- training -----------------------------------------------------------------------------------------------


def test_a_run_is_kept_with_its_last_iterates_and_goes_on_to_the_same(tmp_path):
    task = Task("digits fcn-5", 0.1, 16, 200)
    runs = [experiments_networks._train(SMOKE, task, 3, "cpu", tmp_path / name) for name in ("a", "b")]
    again = experiments_networks._train(SMOKE, task, 3, "cpu", tmp_path / "a")  # from its finished checkpoint
    assert runs[0].distances.shape == (SMOKE.iterates, SMOKE.iterates)
    for other in (runs[1], again):
        assert np.array_equal(other.distances, runs[0].distances)
        assert other.outcome == runs[0].outcome
    assert runs[0].outcome["steps"] <= SMOKE.max_steps
    assert np.array_equal(runs[0].last, runs[0].rows[runs[0].order[-1]])


def test_a_run_that_diverges_is_kept_and_has_no_distances(tmp_path):
    found = experiments_networks.gap_grid(
        SMOKE.override({"grid_learning_rates": [1e6], "grid_batches": [16]}),
        seed=0,
        device="cpu",
        work=tmp_path,
    )
    assert found["converged"] is False
    assert "dimension" not in found
    assert found["steps"] < SMOKE.max_steps


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

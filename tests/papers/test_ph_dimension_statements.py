"""What the page of ph_dimension says in words follows from its stored results."""

import contextlib
import io
import re

import numpy as np
import pytest
from showing import page

import loupe
from loupe.experiment.claims import t_interval
from loupe.experiment.results import find, row
from loupe.metrics import kendall
from loupe.papers.ph_dimension.claims import OURS, error_made, error_of_constant, penalty_arms
from loupe.papers.ph_dimension.claims_grid import accuracy_gap, by_cell, chosen, grids
from loupe.publishing.notebooks import notebook_file, read_notebook

CELLS = read_notebook(notebook_file("ph_dimension")).cells
TEXT = page("ph_dimension")


@pytest.fixture(scope="module")
def runs():
    """``runs("name")``: the runs of an experiment that the page is told from."""
    chapter = loupe.open_chapter("ph_dimension", preset="cpu")
    return lambda name: find(chapter, (name,)).runs


def test_cubes_are_ordered_and_the_ten_cube_alone_misses(runs):
    assert "estimates order sets more reliably than they measure them" in TEXT
    found = runs("known_dimensions")
    off = np.abs(found["dimension"] / found["truth"] - 1).max(axis=0)
    assert found.first["cloud"][off > 0.1].tolist() == ["cube_10"]
    three, five, ten = (row(found, "dimension", cloud=f"cube_{d}") for d in (3, 5, 10))
    assert three.max() < five.min() < five.max() < ten.min()


def test_estimators_of_processes_are_too_high_and_the_middle_of_the_range_is_as_good(runs):
    assert "Why is the estimate too high?" in TEXT
    found = runs("diffusion_processes")
    error = found["estimates"] - found.first["beta"]
    assert (error.mean(axis=(0, 2)) > 0).all()
    assert "the level carries little information" in TEXT
    assert 0.8 < error_made(found, OURS).mean() / error_of_constant(found) < 1.2


def test_exhausted_paths_are_biased(runs):
    assert "most of the bias disappears. Scale the sizes up with the path, and it's back" in TEXT
    found = runs("exhausted_paths")
    keys = zip(found.first["points"], found.first["largest"], strict=True)
    bias = dict(zip(keys, found["dimension"].mean(axis=0) - 2, strict=True))
    assert 0 < bias[5000, 950] < bias[1000, 950] / 2
    assert bias[5000, 4750] > 0.8 * bias[1000, 950]


def test_runs_differ_in_the_lengths_of_their_steps(runs):
    found = runs("training_path")
    equal, walk = (
        row(found, "null_dimension", null_model=name)
        for name in ("same directions, equal lengths", "orthogonal, equal lengths")
    )
    assert "With equal step lengths, the five runs nearly agree, and they come close to a random walk" in TEXT
    assert np.ptp(equal) < np.ptp(found["dimension"]) / 2
    assert np.abs(equal - walk).max() < 0.2
    assert "unequal lengths pull the estimate down" in TEXT
    assert (found["dimension"] < equal).all()
    assert "In most of them, steps shrink by a factor of ten or more within the window" in TEXT
    tenths = [np.median(part, axis=1) for part in np.array_split(found["step_lengths"], 10, axis=1)]
    assert (tenths[0] > 10 * tenths[-1]).sum() > len(found) / 2


def test_the_order_of_batches_changes_the_gap_and_not_the_dimension(runs):
    assert "larger in a fixed order for every seed" in TEXT
    shuffled, ordered = runs("training_path"), runs("fixed_order")
    assert shuffled.seeds == ordered.seeds
    assert (accuracy_gap(ordered) > accuracy_gap(shuffled)).all()
    low, high = t_interval((ordered["dimension"] - shuffled["dimension"]).tolist())
    assert low < 0 < high


def test_signs_of_the_correlation_differ_by_batch_size(runs):
    assert "positive at the two small batch sizes and negative at the two large ones" in TEXT
    (grid,) = grids(runs("gap_grid")).values()
    panels = [chosen(grid, grid["batch"] == batch) for batch in np.unique(grid["batch"])]
    assert np.sign([kendall(one["dimension"], one["gap"]) for one in panels]).tolist() == [1, 1, -1, -1]
    share = [np.mean(1 / one["steps"]) for one in panels]
    assert max(share[:2]) < min(share[2:])


def test_simple_measures_win_and_losses_do_not_help(runs):
    assert (
        "The ratio and the norm of the final weights win clearly. (Larger values go with smaller gaps" in TEXT
    )
    (grid,) = grids(runs("gap_grid")).values()
    cells = by_cell(grid)
    names = ("dimension", "ratio", "final_norm", "dimension_in_losses", "lifetime_sum")
    ours, ratio, size, in_losses, total = (kendall(cells[name], cells["gap"]) for name in names)
    assert max(ratio, size) < -1.8 * ours < 0
    assert "the dimension in losses does no better than the plain one. The lifetime sum does a little" in TEXT
    assert in_losses < ours < -total < ours + 0.2


def test_the_penalty_acts_like_early_stopping_and_raises_the_dimension(runs):
    assert "the gap is smaller in all five pairs of runs" in TEXT
    found = runs("regularised")
    (gap, penalised), *_, early = penalty_arms(found)
    drop = gap - penalised
    assert len(drop) == 5
    assert drop.min() > 0
    assert "Test accuracy barely changes" in TEXT
    assert np.abs(np.diff(found["test_accuracy"][:, :, -1])).max() < 0.01
    assert "the penalty mostly does what early stopping does for free" in TEXT
    assert (gap - early > drop / 2).all()
    assert (np.diff(found["dimension"][:, :, -1]) > 0).all()


def test_adversarial_starts(runs):
    assert "The gap in accuracy rises in every pair" in TEXT
    found = runs("adversarial_start")
    accuracy, loss = (
        np.diff(gap)[:, 0] for gap in (accuracy_gap(found), found["test_loss"] - found["train_loss"])
    )
    assert accuracy.min() > 0
    assert TEXT.count("in four pairs of five") == 2
    assert [(np.diff(found["dimension"]) < 0).sum(), (loss < 0).sum(), len(loss)] == [4, 4, 5]
    assert "five pairs can't rule out a rise" in TEXT
    assert t_interval(np.diff(found["dimension"])[:, 0].tolist())[1] > 0


def test_the_recipe_runs_in_twenty_lines():
    (recipe,) = (one.source for one in CELLS if "recorder()" in one.source)
    assert len(recipe.splitlines()) <= 20
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        exec(recipe, {})
    assert 1 < float(re.match(r"DimensionEstimate\((\d\.\d+)", said.getvalue())[1]) < 4

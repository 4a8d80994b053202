"""What is drawn of the chapter from its stored results: every promise of a figure, and the numbers in it."""

import re

import numpy as np
import pytest
from matplotlib.colors import same_color
from showing import assert_same_thumbnail_each_time, cells_of, figures_of, thumbnail_sheet

from loupe import open_chapter
from loupe.experiment.claims import t_interval
from loupe.experiment.results import find, row
from loupe.metrics import kendall, partial_kendall
from loupe.papers.ph_dimension import figures, figures_networks
from loupe.papers.ph_dimension.claims_grid import MEASURES, SIMPLE, by_cell, grids
from loupe.plotting import SERIES


@pytest.mark.parametrize("draw", figures_of(figures, figures_networks))
def test_every_figure(draw, check_figure):
    check_figure("ph_dimension", draw)


@pytest.fixture(scope="module")
def chapter():
    return open_chapter("ph_dimension", preset="cpu")


@pytest.fixture(scope="module")
def runs(chapter):
    """``runs("name")``: the runs that figures of an experiment are drawn from."""
    return lambda name: find(chapter, (name,)).runs


def numbers(cells):
    """The first number of each cell."""
    return [float(re.match(r"−?[\d,.]+", cell)[0].replace(",", "").replace("−", "-")) for cell in cells]


def test_slopes_are_lines_through_mean_sums(chapter, runs, shown):
    figures.slopes(chapter)
    run = runs("known_dimensions").first
    (axes,) = shown.sheet.axes
    for rank, name in enumerate(figures.SLOPE_CLOUDS):
        stored, slope, dimension = (
            row(run, value, cloud=name) for value in ("lifetime_sums", "slope", "dimension")
        )
        sums, line = axes.lines[2 * rank : 2 * rank + 2]
        assert np.allclose(sums.get_ydata(), stored.mean(axis=1))
        assert np.allclose(np.log(line.get_ydata() / sums.get_ydata()), 0, atol=0.05)
        words = f"slope {slope:.2f}\ndimension {dimension:.2f}"
        assert words in axes.texts[rank].get_text()


def test_dimensions_stand_beside_their_truth_in_its_order(chapter, runs, shown):
    figures.dimensions(chapter)
    found = runs("known_dimensions")
    (axes,) = shown.sheet.axes
    for place, k in enumerate(np.argsort(found.first["truth"], kind="stable")):
        true, interval, mean = axes.lines[3 * place : 3 * place + 3]
        assert true.get_xdata() == [found.first["truth"][k]]
        assert np.allclose(interval.get_xdata(), t_interval(found["dimension"][:, k]))
        assert mean.get_xdata() == pytest.approx([found["dimension"][:, k].mean()])


def test_processes_are_errors_and_counting_components_is_left_out(chapter, runs, shown):
    figures.processes(chapter)
    found = runs("diffusion_processes")
    lines = shown.lines()
    assert list(lines) == list(found.first["estimator"][:-1])
    for k, (name, line) in enumerate(lines.items()):
        errors = row(found, "estimates", estimator=name).mean(axis=0) - found.first["beta"]
        assert np.allclose(line.get_ydata(), errors), name
        assert same_color(line.get_color(), SERIES[k].color)


def test_tables_hold_dimensions_that_are_stored(chapter, runs):
    _, rows = cells_of(figures.exhaustion_table(chapter))
    assert numbers(cells[2] for cells in rows) == pytest.approx(
        runs("exhausted_paths")["dimension"].mean(axis=0), abs=6e-3
    )
    _, rows = cells_of(figures_networks.surrogate_table(chapter))
    found = runs("training_path")
    ends = found["dimension"].min(), found["dimension"].max()
    assert numbers(rows[0][1:]) == pytest.approx(ends, abs=6e-3)
    assert [cells[0] for cells in rows[1:]] == list(found.first["null_model"])
    assert numbers(cells[2] for cells in rows[1:]) == pytest.approx(
        found["null_dimension"].max(axis=0), abs=6e-3
    )


def test_a_pair_of_runs_is_a_row_with_the_random_start_first(chapter, runs):
    _, rows = cells_of(figures_networks.adversarial_table(chapter))
    found = runs("adversarial_start")
    pairs = [[float(one) for one in cells[3].split(" → ")] for cells in rows]
    ends = [row(found, "dimension", start=start) for start in ("random", "adversarial")]
    assert pairs == pytest.approx(np.transpose(ends), abs=6e-3)
    gap = 100 * (found["train_accuracy"] - found["test_accuracy"])[:, 0]
    assert numbers(cells[1] for cells in rows) == pytest.approx(gap, abs=0.06)


def test_the_window_of_the_path_is_shaded_and_its_tree_drawn(chapter, runs, shown):
    figures_networks.training(chapter)
    run = runs("training_path").first
    top, bottom = shown.sheet.axes[:2]
    assert top.patches[0].get_x() == run["steps"] - len(run["plane"])
    tree, dots = bottom.collections
    assert len(tree.get_segments()) == len(run["plane"]) - 1
    assert np.allclose(dots.get_offsets(), run["plane"])


def test_every_run_of_the_grid_is_a_point_and_tau_is_that_of_cells(chapter, runs, shown):
    figures_networks.gap_scatter(chapter)
    (grid,) = grids(runs("gap_grid")).values()
    (axes,) = shown.sheet.axes
    points = {tuple(point) for line in axes.lines for point in line.get_xydata().tolist()}
    assert points == set(zip(grid["dimension"], 100 * grid["gap"], strict=True))
    hollow = sum(len(line.get_xdata()) for line in axes.lines if str(line.get_markerfacecolor()) == "none")
    assert hollow == (~grid["converged"]).sum() > 0
    cells = by_cell(grid)
    assert f"τ = {kendall(cells['dimension'], cells['gap']):.2f}" in axes.get_title("left")


def test_measures_are_correlated_over_cells_and_given_a_knob(chapter, runs):
    (grid,) = grids(runs("gap_grid")).values()
    cells = by_cell(grid)
    _, short = cells_of(figures_networks.measure_table(chapter))
    assert [each[0] for each in short] == [MEASURES[name] for name in ("dimension", *SIMPLE)]
    _, rows = cells_of(figures_networks.measure_table(chapter, whole=True))
    assert [each[0] for each in rows] == list(MEASURES.values())
    for name, (_, tau, _, loss, given_rate, given_batch) in zip(MEASURES, rows, strict=True):
        column, gap = cells[name], cells["gap"]
        given = [partial_kendall(column, gap, cells[knob]).tau for knob in ("learning_rate", "batch")]
        wanted = [kendall(column, gap), kendall(column, cells["loss_gap"]), *given]
        assert numbers((tau, loss, given_rate, given_batch)) == pytest.approx(wanted, abs=6e-3)


def test_the_penalty_has_the_color_of_the_method_and_its_own_values(chapter, runs, shown):
    figures_networks.regulariser(chapter)
    found = runs("regularised")
    for (label, line), arm in zip(shown.lines(1).items(), (1, 0), strict=True):
        assert label == f"λ = {found.first['weight'][arm]:g}"
        means = found["dimension"][:, arm].mean(axis=0)
        assert np.allclose(line.get_ydata(), means[np.isfinite(means)])
        assert same_color(line.get_color(), SERIES[1 - arm].color)


def test_tables_of_costs_hold_each_measurement_once(chapter):
    bench = chapter.benchmark()
    _, rows = cells_of(figures.lifetime_costs(bench))
    found = [float(cell) / 1000 for cells in rows for cell in cells[1:] if cell != "not run"]
    measured = [one["seconds"] for one in bench["rows"] if one["task"] == "H0 lifetimes"]
    assert sorted(found) == pytest.approx(sorted(measured), rel=6e-3)
    _, rows = cells_of(figures.estimator_costs(bench))
    whole = [one["seconds"] for one in bench["rows"] if one["task"].startswith("estimator")]
    assert numbers(cells[2] for cells in rows) == pytest.approx(whole, rel=6e-3)


def test_the_slider_has_a_bar_for_each_edge():
    html = figures.filtration(points=12).html
    assert "12 points around a circle" in html


def test_the_thumbnail_shows_the_first_path_the_same_each_time(chapter, tmp_path, monkeypatch):
    assert_same_thumbnail_each_time(figures.thumbnail, chapter, tmp_path)
    sheet = thumbnail_sheet(figures.thumbnail, chapter, tmp_path / "three.svg", monkeypatch)
    run = chapter.stored["training_path"].first
    assert np.allclose(sheet.axes[0].collections[1].get_offsets(), run["plane"])

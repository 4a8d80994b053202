"""What is drawn of the chapter from the stored results of ``cpu``: every promise of a figure, and the numbers in it."""

import re
from dataclasses import replace

import matplotlib.pyplot as plt
import numpy as np
import pytest
from fakes import FakeResult
from matplotlib.colors import same_color
from showing import assert_same_thumbnail_each_time, cells_of, figures_of, thumbnail_sheet

from loupe import open_chapter
from loupe.experiment.claims import t_interval
from loupe.experiment.results import Runs, find
from loupe.metrics import kendall
from loupe.papers.ph_dimension import figures, figures_grid
from loupe.papers.ph_dimension.claims_grid import grids
from loupe.plotting import SERIES


@pytest.mark.parametrize("draw", figures_of(figures, figures_grid))
def test_every_figure(draw, check_figure):
    check_figure("ph_dimension", draw)


@pytest.fixture(scope="module")
def chapter():
    return open_chapter("ph_dimension", preset="cpu")


@pytest.fixture(autouse=True)
def _closed():
    """Pictures that are not shown are closed here."""
    yield
    plt.close("all")


def numbers(cells):
    """The first number of each cell."""
    return [float(re.match(r"−?[\d,.]+", cell)[0].replace(",", "").replace("−", "-")) for cell in cells]


def test_slopes_are_lines_through_mean_sums(chapter, shown):
    figures.slopes(chapter)
    run = chapter.stored["known_dimensions"].first
    (axes,) = shown.sheet.axes
    for rank, name in enumerate(figures.SLOPE_CLOUDS):
        k = list(run["clouds"]).index(name)
        sums, line = axes.lines[2 * rank : 2 * rank + 2]
        assert np.allclose(sums.get_ydata(), run["lifetime_sums"][k].mean(axis=1))
        assert np.allclose(np.log(line.get_ydata() / sums.get_ydata()), 0, atol=0.05)
        assert (
            f"slope {run['slope'][k]:.2f}\ndimension {run['dimension'][k]:.2f}" in axes.texts[rank].get_text()
        )


def test_dimensions_stand_beside_their_truth_in_its_order(chapter, shown):
    figures.dimensions(chapter)
    runs = chapter.stored["known_dimensions"]
    (axes,) = shown.sheet.axes
    order = np.argsort(runs.first["truth"], kind="stable")
    for row, k in enumerate(order):
        true, interval, mean = axes.lines[3 * row : 3 * row + 3]
        assert true.get_xdata() == [runs.first["truth"][k]]
        assert np.allclose(interval.get_xdata(), t_interval(runs["dimension"][:, k]))
        assert mean.get_xdata() == pytest.approx([runs["dimension"][:, k].mean()])


def test_processes_are_errors_and_counting_components_is_left_out(chapter, shown):
    figures.processes(chapter)
    runs = chapter.stored["diffusion_processes"]
    lines = shown.lines()
    assert list(lines) == list(runs.first["estimators"][:-1])
    for k, (name, line) in enumerate(lines.items()):
        assert np.allclose(line.get_ydata(), runs["estimates"][:, k].mean(axis=0) - runs.first["beta"]), name
        assert same_color(line.get_color(), SERIES[k].colour)


def test_the_table_of_processes_marks_the_best_order_and_the_least_error(chapter):
    block = figures.process_table(chapter)
    _, rows = cells_of(block)
    runs = chapter.stored["diffusion_processes"]
    errors = runs["estimates"] - runs.first["beta"]
    for k, (name, *cells) in enumerate(rows):
        assert name == runs.first["estimators"][k]
        assert numbers(cells)[2:] == pytest.approx(
            [np.abs(errors[:, k]).mean(), errors[:, k].mean()], abs=6e-4
        )
    marked = [float(one) for one in re.findall(r"<b>([\d.]+)", block.html)]
    assert marked == [max(numbers(row[2] for row in rows)), min(numbers(row[3] for row in rows))]


@pytest.mark.parametrize(
    ("draw", "values"),
    [
        (figures.exhaustion_table, lambda runs: runs["exhausted_paths"]["dimension"].mean(axis=0)),
        (figures.surrogate_table, lambda runs: [run["dimension"] for run in runs["training_path"]]),
        (figures.path_table, lambda runs: runs["training_path"]["dimension"]),
        (figures_grid.order_table, lambda runs: runs["training_path"]["dimension"]),
    ],
)
def test_tables_hold_dimensions_that_are_stored(draw, values, chapter):
    _, rows = cells_of(draw(chapter))
    values = np.asarray(values(chapter.stored))
    column = {figures.exhaustion_table: 2, figures.path_table: 5}.get(draw)
    cells = rows[0][1 : 1 + len(values)] if column is None else [row[column] for row in rows]
    assert numbers(cells) == pytest.approx(values, abs=6e-3)


def test_the_window_of_the_path_is_shaded_and_its_tree_drawn(chapter, shown):
    figures.training(chapter)
    run = chapter.stored["training_path"].first
    top, bottom = shown.sheet.axes[:2]
    assert top.patches[0].get_x() == run["steps"] - len(run["plane"])
    tree, dots = bottom.collections
    assert len(tree.get_segments()) == len(run["plane"]) - 1
    assert np.allclose(dots.get_offsets(), run["plane"])


def test_bars_are_as_long_as_edges(chapter, shown):
    figures.path_shape(chapter)
    run = chapter.stored["training_path"].first
    bars = shown.sheet.axes[1].collections[0].get_segments()
    assert np.allclose([bar[1, 0] - bar[0, 0] for bar in bars], run["lengths"])
    assert np.array_equal(shown.sheet.axes[0].images[0].get_array(), run["picture"])


def test_every_run_of_the_grid_is_a_point_and_tau_is_that_of_cells(chapter, shown):
    figures_grid.gap_scatter(chapter)
    (grid,) = grids(chapter.stored["gap_grid"])
    (axes,) = shown.sheet.axes
    points = {tuple(point) for line in axes.lines for point in line.get_xydata().tolist()}
    assert points == set(zip(grid.dimension, 100 * grid.gap, strict=True))
    hollow = sum(len(line.get_xdata()) for line in axes.lines if str(line.get_markerfacecolor()) == "none")
    assert hollow == (~grid.converged).sum() > 0
    tau = kendall(grid.cells.dimension, grid.cells.gap)
    assert f"τ = {tau:.2f}" in axes.get_title("left")


def test_panels_split_the_grid_by_batch_size(chapter, shown):
    figures_grid.batch_panels(chapter)
    (grid,) = grids(chapter.stored["gap_grid"])
    for axes, batch in zip(shown.sheet.axes, np.unique(grid.batch), strict=True):
        assert axes.get_title("left").startswith(f"batch {batch}: τ")
        drawn = sorted(x for line in axes.lines for x in line.get_xdata())
        assert drawn == sorted(grid.dimension[grid.batch == batch])


@pytest.mark.parametrize("converged", [True, False])
def test_the_two_ends_of_the_gap_are_of_converged_runs_if_there_are_any(converged, chapter):
    found = find(chapter, ["gap_grid"])
    runs = [FakeResult(run.seed, {**run, "converged": run["converged"] and converged}) for run in found.runs]
    sheet = figures_grid.best_and_worst.__wrapped__(replace(found, runs=Runs(tuple(runs)))).sheet
    gaps = [
        100 * (run["train_accuracy"] - run["test_accuracy"])
        for run in runs
        if run["converged"] or not converged
    ]
    titles = [axes.get_title("left") for axes in sheet.axes[:2]]
    assert titles == [f"Smallest gap: {min(gaps):.1f}", f"Largest gap: {max(gaps):.1f}"]


def test_the_penalty_has_the_color_of_the_method_and_its_own_values(chapter, shown):
    figures_grid.regulariser(chapter)
    runs = chapter.stored["regularised"]
    for (label, line), arm in zip(shown.lines(1).items(), (1, 0), strict=True):
        assert label == f"λ = {runs.first['weights'][arm]:g}"
        means = runs["dimension"][:, arm].mean(axis=0)
        assert np.allclose(line.get_ydata(), means[np.isfinite(means)])
        assert same_color(line.get_color(), SERIES[1 - arm].colour)


def test_adversarial_starts_are_those_of_gpu(chapter, shown):
    figures_grid.adversarial(chapter)
    runs = find(chapter, ["adversarial_start"]).runs
    lines = shown.sheet.axes[1].lines[: len(runs)]
    assert np.array_equal([line.get_ydata() for line in lines], runs["dimension"])


def test_tables_of_costs_hold_each_measurement_once(chapter):
    bench = chapter.benchmark()
    _, rows = cells_of(figures.timing_table(bench))
    found = [float(cell) / 1000 for row in rows for cell in row[1:] if cell != "not run"]
    measured = [row["seconds"] for row in bench["rows"] if row["task"] == "H0 lifetimes"]
    assert sorted(found) == pytest.approx(sorted(measured), rel=6e-3)
    _, rows = cells_of(figures.estimator_table(bench))
    others = [row["seconds"] for row in bench["rows"] if row["task"] != "H0 lifetimes"]
    assert numbers(row[2] for row in rows) == pytest.approx(others, rel=6e-3)


def test_the_clock_is_drawn_by_method(chapter, shown):
    bench = chapter.benchmark()
    figures.timing(bench)
    assert {"loupe linkage", "ripser, maxdim=0"} < set(shown.lines())
    assert bench["environment"]["gudhi"] in shown.caption


def test_the_slider_has_a_bar_for_each_edge():
    html = figures.filtration(points=12).html
    assert "12 points around a circle" in html


def test_the_thumbnail_shows_the_first_path_the_same_each_time(chapter, tmp_path, monkeypatch):
    assert_same_thumbnail_each_time(figures.thumbnail, chapter, tmp_path)
    sheet = thumbnail_sheet(figures.thumbnail, chapter, tmp_path / "three.svg", monkeypatch)
    run = chapter.stored["training_path"].first
    assert np.allclose(sheet.axes[0].collections[1].get_offsets(), run["plane"])

"""What is drawn of the Fréchet mean from stored results: every promise of a figure, and the numbers in it."""

import re

import numpy as np
import pytest
from matplotlib.colors import same_color
from showing import assert_same_thumbnail_each_time, cells_of, figures_of

from loupe import open_chapter
from loupe.experiment.results import row, stored_at
from loupe.papers.frechet_mean import figures, figures_graphs
from loupe.papers.frechet_mean.claims_links import outcome, scores
from loupe.plotting import SERIES


@pytest.fixture(scope="module")
def chapter():
    return open_chapter("frechet_mean", preset="cpu")


def mean_of(cell):
    """The mean that a cell of a table begins with."""
    return float(re.match(r"[\d.]+", cell)[0])


@pytest.mark.parametrize("draw", figures_of(figures, figures_graphs))
def test_every_figure(draw, check_figure):
    check_figure("frechet_mean", draw)


# --- means and solvers --------------------------------------------------------------------------------------


def test_the_bound_lies_above_and_touches(shown):
    figures.majorant()
    assert "−0.9, 0.3 and 0.8" in shown.caption
    lines = shown.lines()
    curve, bound = lines["F"].get_ydata(), lines["sum of tangents"].get_ydata()
    assert (bound - curve).min() == pytest.approx(0, abs=1e-2)
    assert (bound - curve).min() > -1e-12
    now, after = (line.get_xydata()[0] for line in shown.sheet.axes[0].lines if line.get_marker() == "o")
    assert after[1] == bound.min()
    assert np.interp(after[0], lines["F"].get_xdata(), curve) < after[1] < now[1]


def test_errors_are_medians_over_problems(chapter, shown):
    run = stored_at(chapter, "solver_study", "gpu").first
    figures.errors(chapter)
    assert f"{run['iterations'].shape[1]} random problems" in shown.caption
    lines = shown.lines()
    assert list(lines)[1:] == [
        "Karcher flow",
        "gradient, step 0.01",
        f"gradient, best step ({run['best_step']:g})",
    ]
    for line, solver in zip(lines.values(), ("ours", "Karcher", "step 0.01", "best step"), strict=True):
        errors = row(run, "errors", space="ball", solver=solver)
        assert line.get_ydata()[:9] == pytest.approx(np.median(errors[:, :9], axis=0))


def test_the_disk_and_the_thumbnail(chapter, tmp_path):
    content = figures.disk(chapter.stored["three_points"])._repr_mimebundle_()["text/html"]
    assert all(name in content for name in chapter.stored["three_points"].first["names"])
    assert_same_thumbnail_each_time(figures.thumbnail, chapter, tmp_path)


@pytest.mark.parametrize(("part", "columns"), [("forward", 6), ("backward", 3)])
def test_times_are_those_of_the_benchmark(part, columns, chapter):
    bench = chapter.benchmark()
    head, rows = cells_of(figures.timing_table(bench, part))
    assert len(head) == 1 + columns
    measured = [row for row in bench["rows"] if row["task"] == "means" and row["precision"] == "float64"]
    assert [row[0] for row in rows] == list(
        dict.fromkeys("×".join(map(str, row["size"])) for row in measured)
    )
    for column, word in enumerate(("loupe", "explicit", "through"), 1):
        found = [row[f"{part}, ms"] for row in measured if word in row["method"]]
        assert [float(row[column].replace(",", "")) for row in rows] == pytest.approx(found, rel=6e-3)


def test_a_solver_that_did_not_converge_has_no_time():
    means = {"task": "means", "precision": "float64", "backward, ms": None}
    bench = {"rows": [means | {"size": [2, 10, 10], "method": "loupe", "forward, ms": 1234.0},
                      means | {"size": [2, 10, 10], "method": "Karcher flow", "forward, ms": None},
                      means | {"size": [2, 20, 10], "method": "loupe", "forward, ms": 2.0},
                      means | {"size": [2, 20, 10], "precision": "float32", "method": "tuned", "forward, ms": 3.0},
                      {"task": "Cora", "precision": "float32", "method": "loupe", "forward, ms": 0.6,
                       "backward, ms": 2.0, "peak, MiB": 3.0}]}  # fmt: skip
    head, rows = cells_of(figures.timing_table(bench, "forward"))
    first, second = (dict(zip(head, row, strict=True)) for row in rows)
    assert (first["ours"], first["Karcher flow"], first["step 0.01"]) == ("1,234", "not converged", "not run")
    assert (second["ours"], second["gradient, best step"]) == ("2", "not run")
    assert cells_of(figures.graph_table(bench))[1] == [["loupe, float32", "1", "2", "3"]]


# --- networks on graphs -------------------------------------------------------------------------------------


def test_curves_end_at_the_scores_of_whole_runs(chapter, shown):
    runs = stored_at(chapter, "disease_links", "gpu")
    figures_graphs.curves(chapter)
    assert "best validation epoch so far" in shown.caption
    lines = shown.lines()
    assert list(lines) == list(figures_graphs.RANK)
    for method, line in lines.items():
        assert same_color(line.get_color(), SERIES[figures_graphs.RANK[method]].color)
        assert line.get_ydata()[-1] == pytest.approx(scores(runs, patience=False, method=method).mean())
        assert line.get_xdata()[[0, -1]].tolist() == [5, 5000]
    heights = [line.get_ydata()[0] for line in shown.sheet.axes[0].lines if line.get_linestyle() == "--"]
    look = stored_at(chapter, "shortcuts", "gpu")
    assert heights == pytest.approx([100 * look["columns"].mean(0).max(), 100 * look["degree"].mean()])


def test_the_best_so_far_is_what_a_run_cut_there_would_report():
    validation, test = curves = np.random.default_rng(0).random((2, 3, 12)).round(1)  # with ties
    curves[:, 0, 9:] = np.nan
    found = figures_graphs.best_so_far(validation, test)
    for each, *curve in zip(found, validation, test, strict=True):
        expected = [outcome(*(one[:ran] for one in curve), 1).score for ran in range(1, 13)]
        assert each == pytest.approx(expected)


def test_scores_of_links_are_at_full_length_and_beside_the_reported(chapter):
    head, rows = cells_of(figures_graphs.link_table(chapter))
    rows = {cells[0]: dict(zip(head, cells, strict=True)) for cells in rows}
    assert len(rows) == 10
    for name, experiment in (("disease (tree)", "disease_links"), ("Cora", "cora_links")):
        runs = stored_at(chapter, experiment, "gpu")
        for method in runs.first["method"]:
            cells = rows[f"{name}, {method}"]
            for column, patience in (("best epoch", False), ("published rule", True)):
                expected = scores(runs, patience=patience, method=method).mean()
                assert mean_of(cells[column]) == pytest.approx(expected, abs=0.051)
            assert head[0] == f"gpu, {len(runs)} seeds"
    assert rows["Cora, HGCN"]["reported"] == "92.9 ± 0.1"
    assert rows["Cora, Fréchet"]["reported"] == "not available"


def test_features_of_other_sizes_are_compared(chapter):
    head, rows = cells_of(figures_graphs.sizes_table(chapter))
    assert head[0] == "features (gpu, 5 seeds)"
    names = ["as published", "all times 0.1", "all times 0.3", "no position (cpu, 3 seeds)"]
    assert [row[0] for row in rows] == names
    runs = stored_at(chapter, "feature_sizes", "gpu")
    for cells, scale in zip(rows[1:3], (0.1, 0.3), strict=True):
        for cell, method in zip(cells[1:], ("HGCN", "Fréchet"), strict=True):
            expected = scores(runs, patience=False, method=method, scale=scale).mean()
            assert mean_of(cell) == pytest.approx(expected, abs=0.051)

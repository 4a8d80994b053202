"""What is drawn of the Fréchet mean from stored results: every promise of a figure, and the numbers in it."""

import re

import numpy as np
import pytest
from fakes import FakeResult
from matplotlib.colors import same_color
from showing import assert_absent, assert_same_thumbnail_each_time, cells_of, figures_of

from loupe import open_chapter
from loupe.experiment.results import Found, Runs, stored_at
from loupe.papers.frechet_mean import figures, figures_graphs
from loupe.papers.frechet_mean.claims_links import outcomes
from loupe.papers.frechet_mean.experiments_graphs import NODE_CURVES
from loupe.plotting import SERIES

TEXTS = ("node_table", "feature_sentence")  # not stored, and a sentence


@pytest.fixture(scope="module")
def chapter():
    return open_chapter("frechet_mean", preset="cpu")


def mean_of(cell):
    """The mean that a cell of a table begins with."""
    return float(re.match(r"[\d.]+", cell)[0])


@pytest.mark.parametrize("draw", [one for one in figures_of(figures_graphs) if one.id not in TEXTS])
def test_every_figure(draw, check_figure):
    check_figure("frechet_mean", draw)


@pytest.mark.parametrize("name", TEXTS)
def test_what_is_not_computed_is_one_sentence(name, shown, tmp_path, monkeypatch):
    monkeypatch.setenv("LOUPE_RESULTS", str(tmp_path))
    assert_absent(getattr(figures_graphs, name), open_chapter("frechet_mean", preset="cpu"), shown)


# --- means and solvers --------------------------------------------------------------------------------------


def test_ellipses_are_where_the_mean_goes(chapter, shown):
    run = chapter.stored["three_points"].first
    figures.gradients(chapter.stored["three_points"])
    assert "in units of its radius" in shown.caption
    disk, plane = shown.sheet.axes
    for k, name in enumerate("ABC"):
        widths = np.linalg.norm(shown.lines(1)[name].get_xydata(), axis=1)
        stretches = np.linalg.svd(run["jacobians"][k], compute_uv=False)
        assert (widths.max(), widths.min()) == pytest.approx(stretches, rel=1e-3)
        assert same_color(shown.lines(1)[name].get_color(), SERIES[k].colour)
        (way,) = [line for line in disk.lines if np.array_equal(line.get_xydata(), run["geodesics"][:, k])]
        assert way.get_xydata()[-1] == pytest.approx(run["points"][k])
    assert disk.lines[-1].get_xydata()[0] == pytest.approx(run["averages"][0])
    assert plane.get_aspect() == 1


def test_the_bound_lies_above_and_touches(shown):
    figures.majorant()
    assert "can only lower $F$" in shown.caption
    for panel, curve, bound in (
        (0, "g(t), the squared distance", "its tangent"),
        (1, "F", "sum of tangents"),
    ):
        gap = shown.lines(panel)[bound].get_ydata() - shown.lines(panel)[curve].get_ydata()
        assert gap.min() == pytest.approx(0, abs=1e-2)
        assert gap.min() > -1e-12
    below, bound = shown.sheet.axes[1], shown.lines(1)["sum of tangents"]
    place, height = shown.lines(1)["its lowest point, the next mean"].get_xydata()[0]
    assert height == bound.get_ydata().min()
    now = below.lines[2].get_xydata()[0]
    at_next = np.interp(place, bound.get_xdata(), shown.lines(1)["F"].get_ydata())
    assert at_next < height < now[1]


def test_errors_are_medians_over_problems(chapter, shown):
    run = chapter.stored["solver_study"].first
    figures.errors(chapter.stored["solver_study"])
    assert f"{run['iterations'].shape[2]} random problems" in shown.caption
    lines = shown.lines()
    assert list(lines) == [*map(str, run["solvers"][:3]), f"gradient, best step ({run['best_step']:g})"]
    for k, line in enumerate(lines.values()):
        assert line.get_ydata()[:9] == pytest.approx(np.median(run["errors"][0, k, :, :9], axis=0))


def test_a_table_counts_iterations(chapter):
    run = chapter.stored["solver_study"].first
    _, rows = cells_of(figures.solver_table(chapter.stored["solver_study"]))
    for k, (_, mean, extent, other) in enumerate(rows):
        ball, hyperboloid = run["iterations"][:, k]
        assert (float(mean), float(other)) == pytest.approx((ball.mean(), hyperboloid.mean()), abs=0.051)
        assert [int(each) for each in extent.split(" to ")] == [ball.min(), ball.max()]


def test_a_table_of_graphs_holds_what_was_measured(chapter):
    run = chapter.stored["hyperbolicity"].first
    _, rows = cells_of(figures.hyperbolicity_table(chapter.stored["hyperbolicity"]))
    assert [row[0] for row in rows] == ["disease (tree)", "airport", "Cora"]
    for column, key in enumerate(("nodes", "edges", "diameter", "maximum", "mean"), 1):
        found = [float(row[column].replace(",", "")) for row in rows]
        assert found == pytest.approx(run[key], abs=5e-4)


def test_the_disk_and_the_thumbnail(chapter, tmp_path):
    content = figures.disk(chapter.stored["three_points"])._repr_mimebundle_()["text/html"]
    assert all(name in content for name in chapter.stored["three_points"].first["names"])
    assert_same_thumbnail_each_time(figures.thumbnail, chapter, tmp_path)


# --- what it costs ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("part", "columns"), [("forward", 6), ("backward", 3)])
def test_times_are_those_of_the_benchmark(part, columns, chapter, shown):
    bench = chapter.benchmark()
    head, rows = cells_of(figures.timing_table(bench, part))
    assert len(head) == 1 + columns
    measured = [row for row in bench["rows"] if row["task"] == "means" and row["precision"] == "float64"]
    assert [row[0] for row in rows] == list(
        dict.fromkeys("×".join(map(str, row["size"])) for row in measured)
    )
    figures.timing(bench)
    assert "Every method's mean" in shown.caption
    lines = shown.lines(("forward", "backward").index(part))
    for column, (name, word) in enumerate(
        (("ours", "loupe"), ("explicit matrices", "explicit"), ("through the iterations", "through")), 1
    ):
        times = [row[f"{part}, ms"] for row in measured if word in row["method"]]
        assert [float(row[column].replace(",", "")) for row in rows] == pytest.approx(times, rel=6e-3)
        assert lines[name].get_ydata() == pytest.approx(times)


def test_a_solver_that_did_not_converge_is_no_time():
    means = {"task": "means", "precision": "float64", "backward, ms": None}
    bench = {"rows": [means | {"size": [2, 10, 10], "method": "loupe", "forward, ms": 1234.0},
                      means | {"size": [2, 10, 10], "method": "Karcher flow", "forward, ms": None},
                      means | {"size": [2, 20, 10], "method": "loupe", "forward, ms": 2.0},
                      means | {"size": [2, 20, 10], "precision": "float32", "method": "tuned", "forward, ms": 3.0},
                      {"task": "Cora", "precision": "float32", "method": "loupe", "forward, ms": 0.5}]}  # fmt: skip
    head, rows = cells_of(figures.timing_table(bench, "forward"))
    first, second = (dict(zip(head, row, strict=True)) for row in rows)
    assert (first["ours"], first["Karcher flow"], first["step 0.01"]) == ("1,234", "not converged", "not run")
    assert (second["ours"], second["gradient, best step"]) == ("2", "not run")
    assert cells_of(figures.graph_table(bench))[1] == [["loupe, float32", "0.5", "", ""]]


# --- networks on graphs -------------------------------------------------------------------------------------


def test_crosses_are_where_the_rule_stops(chapter, shown):
    runs = chapter.stored["disease_links"]
    figures_graphs.training(chapter)
    (axes,) = shown.sheet.axes
    curves = runs["curves"][..., list(runs.first["names"]).index("validation ROC")]
    for method, m in (("HGCN", 0), ("Fréchet", 1)):
        color = SERIES[figures_graphs.RANK[method]].colour
        mine = [line for line in axes.lines if same_color(line.get_color(), color)]
        crosses = next(line for line in mine if line.get_marker() == "X").get_xydata()
        for curve, line, (stop, height) in zip(curves[:, m], mine, crosses, strict=False):
            assert np.array_equal(line.get_ydata(), 100 * curve[np.isfinite(curve)])
            assert height == 100 * curve[list(line.get_xdata()).index(stop)]
        assert list(crosses[:, 0]) == [one.stop for one in outcomes(runs, method, patience=True)]


def test_scores_of_links_are_at_full_length_and_beside_the_reported(chapter):
    head, rows = cells_of(figures_graphs.link_table(chapter))
    rows = {row[0]: dict(zip(head, row, strict=True)) for row in rows}
    assert len(rows) == 10
    for name, experiment in (("disease (tree)", "disease_links"), ("Cora", "cora_links")):
        runs = stored_at(chapter, experiment, "gpu")
        for method in runs.first["methods"]:
            row, best = rows[f"{name}, {method}"], outcomes(runs, method, patience=False)
            assert mean_of(row["best epoch"]) == pytest.approx(
                np.mean([one.score for one in best]), abs=0.051
            )
            by_rule = [one.score for one in outcomes(runs, method, patience=True)]
            assert mean_of(row["published rule"]) == pytest.approx(np.mean(by_rule), abs=0.051)
            assert float(row["that epoch"].replace(",", "")) == round(np.mean([one.epoch for one in best]))
            assert row["seeds"] == f"{len(runs)}, gpu"
    assert rows["Cora, HGCN"]["reported"] == "92.9 ± 0.1"
    assert rows["Cora, Fréchet"]["reported"] == "not available"


def test_marks_are_means_over_seeds(chapter, shown):
    figures_graphs.bars(chapter)
    (axes,) = shown.sheet.axes
    assert [label.get_text() for label in axes.get_xticklabels()] == ["disease (tree)", "Cora"]
    dots = [line for line in axes.lines if line.get_marker() == "." and len(line.get_xdata())]
    marks = [line for line in axes.lines if line.get_marker() != "." and len(line.get_xdata())]
    assert len(dots) == len(marks) == 10
    for dot, mark in zip(dots, marks, strict=True):
        assert mark.get_ydata() == pytest.approx(dot.get_ydata().mean())
    cora = stored_at(chapter, "cora_links", "gpu")
    assert dots[-1].get_ydata() == pytest.approx(
        [one.score for one in outcomes(cora, "Fréchet", patience=False)]
    )


def test_features_of_other_sizes_are_compared(chapter):
    _, rows = cells_of(figures_graphs.sizes_table(chapter))
    assert [(row[0], row[3]) for row in rows] == [
        ("as they are", "0 to 4, gpu"), ("all times 0.1", "1 to 5, gpu"), ("all times 0.3", "1 to 5, gpu"),
        ("without that one", "1 to 3, cpu"),
    ]  # fmt: skip
    runs = stored_at(chapter, "feature_sizes", "gpu")
    for row, prefix in zip(rows[1:3], ("0.1 ", "0.3 "), strict=True):
        for cell, method in zip(row[1:], ("HGCN", "Fréchet"), strict=False):
            each = [one.score for one in outcomes(runs, method, patience=False, prefix=prefix)]
            assert mean_of(cell) == pytest.approx(np.mean(each), abs=0.051)


def test_single_features_are_in_order(chapter):
    runs = chapter.stored["shortcuts"]
    _, rows = cells_of(figures_graphs.shortcut_table(chapter))
    means = 100 * runs["columns"].mean(axis=0)
    best, second, *_, worst = np.argsort(-means)
    assert [row[0] for row in rows[:3]] == [
        f"nearness in feature {best}", f"nearness in feature {second}", f"nearness in feature {worst}, the worst"
    ]  # fmt: skip
    found = [mean_of(row[1]) for row in rows]
    assert found == pytest.approx([*means[[best, second, worst]], 100 * runs["degree"].mean()], abs=0.051)
    assert f"{100 * runs.first['beyond_margin']:.0f} % of the nodes" in str(
        figures_graphs.feature_sentence(chapter)
    )


def test_nodes_are_scored_by_f1_on_a_tree_and_by_accuracy_elsewhere():
    curves = np.full((2, 2, 3, len(NODE_CURVES)), 0.5)
    curves[:, :, 1, 3] = 0.9  # the best validation F1
    curves[0, :, 1, 5], curves[1, :, 1, 4] = [0.6, 0.7], [0.8, 0.9]
    run = {"graphs": np.array(["disease_nc_structure", "cora"]), "methods": np.array(["HGCN", "Fréchet"]),
           "curves": curves, "names": np.array(NODE_CURVES), "check_every": 5}  # fmt: skip
    block = figures_graphs.node_table.__wrapped__(Found(Runs((FakeResult(0, run),)), "gpu"))
    assert cells_of(block)[1] == [
        ["disease (tree), HGCN", "F1", "60.0"], ["disease (tree), Fréchet", "F1", "70.0"],
        ["Cora, HGCN", "accuracy", "80.0"], ["Cora, Fréchet", "accuracy", "90.0"],
    ]  # fmt: skip


def test_batch_normalization_is_drawn_with_the_mean_over_seeds(chapter, shown):
    runs = chapter.stored["batch_norm"]
    figures_graphs.norm_curves(chapter)
    assert f"the shaded {runs.first['area']} epochs" in shown.caption
    for panel, (name, factor) in enumerate((("validation loss", 1), ("validation ROC", 100))):
        curves = factor * runs["curves"][:, 0, :, :, list(runs.first["names"]).index(name)]
        lines = shown.lines(panel)
        for with_norm, label in enumerate(("without", "with")):
            assert lines[label].get_ydata() == pytest.approx(curves[:, with_norm].mean(axis=0))

"""What is drawn of EGNO from the stored results: every promise of a figure, and the numbers in it."""

import re

import numpy as np
import pytest
import torch
from matplotlib.colors import same_color
from showing import assert_same_thumbnail_each_time, cells_of, figures_of, thumbnail_sheet

from loupe import open_chapter
from loupe.dynamics import TemporalConvolution
from loupe.experiment.results import find
from loupe.papers.egno import figures
from loupe.papers.egno.figures import CHARGED, HOLDER, LABELS, RANK
from loupe.plotting import SERIES


@pytest.mark.parametrize("draw", figures_of(figures))
def test_every_figure(draw, check_figure):
    check_figure("egno", draw)


@pytest.fixture(scope="module")
def chapter():
    return open_chapter("egno", preset="cpu")


@pytest.fixture(scope="module")
def found(chapter):
    """The largest runs of charged particles."""
    return find(chapter, CHARGED)


def of(found, name):
    """Errors ``(seeds, S, P)`` of a method for charges."""
    return found[HOLDER[name]][f"{name} errors"]


def but_one(errors):
    """The mean without the largest: of ``(S,)``, or of each column of ``(S, P)``."""
    return (errors.sum(0) - errors.max(0)) / (len(errors) - 1)


def named(label):
    return next((name for name, words in LABELS.items() if words == label), label)


def number(text):
    return float(text.replace(",", "").replace("−", "-"))


@pytest.mark.parametrize(
    ("draw", "models"), [(figures.view, ["EGNO", "EGNN-S", "EGNN-R"]), (figures.runner, ["EGNO"])]
)
def test_a_view_names_its_scenes_and_the_errors_that_are_stored(draw, models, chapter, found):
    html, people = draw(chapter).html, draw is figures.runner
    scenes = [f"system {k}" for k in range(1, 1 + len(found["charged_egno"].first["start"]))]
    if people:
        scenes = [f"{what}, window {k}" for what in ("running", "walking") for k in (1, 2)]
    assert re.findall(r'<option value="\d+">(.*?)</option>', html) == scenes
    words = re.search(r'<p class="lw-line"[^>]*>(.*?)</p>', html)[1]
    shown = dict(re.findall(r"([A-Z-]+) ([\d.]+)(?:,|$)", words.split("error: ")[1]))
    runs = {name: find(chapter, ("running",)).runs if people else found[HOLDER[name]] for name in models}
    fine = " physical fine" * people
    ends = {name: runs[name].first[f"{name}{fine} errors"][0, -1] for name in models}
    assert {name: float(value) for name, value in shown.items()} == pytest.approx(ends, rel=1e-2)
    # The colors of a view are in the order of its models.
    assert [RANK[name] for name in models] == list(range(len(models)))


def test_scores_are_those_of_the_methods_and_the_least_mean_is_marked(chapter, found):
    block = figures.scores(chapter)
    _, rows = cells_of(block)
    values = {name: 1000 * of(found, name) for name in HOLDER}
    assert [named(row[0]) for row in rows] == list(HOLDER)
    picks = (lambda e: e[:, -1].mean(), lambda e: but_one(e[:, -1]), lambda e: e.mean())
    for column, pick in enumerate(picks, 1):
        each = {name: np.array([pick(one) for one in errors]) for name, errors in values.items()}
        if column == 3:
            each = {name: ends for name, ends in each.items() if values[name].shape[-1] > 1}
        for row, html in zip(rows, block.html.split("<tr>")[2:], strict=True):
            name, cell = named(row[0]), html.split("<td ")[1 + column]
            if name not in each:
                assert row[column] == "–"
                continue
            first = each[name].mean() if "±" in row[column] else each[name][0]
            assert number(re.split(r"\s|,", row[column])[0]) == pytest.approx(
                first, abs=0.06 if first < 100 else 0.6
            )
            assert ("<b>" in cell) == (name == min(each, key=lambda one: each[one].mean())), (column, name)


def test_errors_are_drawn_at_their_times(chapter, found, shown):
    figures.by_time(chapter)
    dotted = [line for line in shown.sheet.axes[0].lines if line.get_linestyle() == ":"]
    for (label, line), median in zip(shown.lines().items(), [*dotted, None], strict=True):
        name = named(label)
        errors = of(found, name)
        P = errors.shape[-1]
        assert same_color(line.get_color(), SERIES[RANK[name]].color)
        assert line.get_xdata() == pytest.approx([1.0] if name == "EGNN" else np.arange(1, P + 1) / P)
        assert line.get_ydata() == pytest.approx(np.mean([but_one(each) for each in errors], axis=0))
        if median:
            assert median.get_ydata() == pytest.approx(np.median(errors, axis=1).mean(0))


def test_training_is_drawn_by_steps_and_by_time_beside_straight_lines(chapter, found, shown):
    figures.learning(chapter)
    for axes, what in zip(shown.sheet.axes, ("steps", "clock"), strict=True):
        wanted = [(name, run) for name in figures.LEARNING for run in found[HOLDER[name]]]
        *lines, straight = axes.lines
        assert straight.get_ydata() == pytest.approx([of(found, "Linear")[..., -1].mean()] * 2)
        for line, (name, run) in zip(lines, wanted, strict=True):
            assert np.array_equal(line.get_xydata().T, [run[f"{name} {what}"], run[f"{name} valid"]])
            assert same_color(line.get_color(), SERIES[RANK[name]].color)


def test_the_symmetry_table_has_the_worst_seed(chapter, found):
    for name, worst, count in cells_of(figures.symmetry(chapter))[1]:
        runs = found[HOLDER[name]]
        assert number(worst) == pytest.approx(max(run[f"{name} turned deviation"] for run in runs), rel=0.5)
        before, after = (runs[f"{name}{part} errors"].mean(-1) for part in ("", " turned"))
        most = int((np.abs(after / before - 1) > 1e-3).sum(1).max())
        assert count == f"{most:,} of {before.shape[1]:,}"


def test_a_line_is_what_the_convolution_of_the_package_makes_of_it(shown):
    figures.line_through_convolution()
    for label, line in list(shown.lines().items())[:3]:
        P, layer = int(label.split()[0]), TemporalConvolution(1, figures.KEPT).double()
        with torch.no_grad():
            layer.weight.zero_()[..., 0] = 1
            z = torch.arange(1, P + 1, dtype=torch.float64).view(P, 1, 1) / P
            assert line.get_ydata() == pytest.approx(layer.convolved(z).flatten().numpy())


def test_finer_times_are_drawn_where_they_are(chapter, found, shown):
    figures.resolution(chapter)
    for line, part in zip(shown.sheet.axes[0].lines, (" physical fine", " index fine", ""), strict=True):
        errors = np.mean([run[f"EGNO{part} errors"] for run in found["charged_egno"]], axis=0)
        assert line.get_xdata() == pytest.approx(np.arange(1, errors.shape[1] + 1) / errors.shape[1])
        assert line.get_ydata() == pytest.approx(but_one(errors))


def test_changed_parts_are_compared_without_the_worst_systems(chapter):
    runs = find(chapter, ("ablations",)).runs
    names = list(map(str, runs.first["variants"]))
    ends = np.array([np.mean([run[f"{name} errors"][:, -1] for run in runs], axis=0) for name in names])
    ends = np.delete(ends, sorted(set(ends.argmax(1))), axis=1)
    _, rows = cells_of(figures.ablations(chapter))
    assert rows[0][0].startswith("full: ")
    for row, errors in zip(rows, ends, strict=True):
        assert number(row[1]) == pytest.approx(errors.mean(), abs=6e-5)
        assert number(row[2].split(" [")[0]) == pytest.approx(errors.mean() / ends[0].mean(), abs=6e-3)


def test_errors_of_people_and_molecules_are_those_of_the_methods(chapter):
    for label, _, end, whole in cells_of(figures.motions(chapter))[1]:
        what, name = label.split(", ")
        errors = 100 * find(chapter, (what,)).runs[f"{name} errors"][0]
        assert number(end) == pytest.approx(errors[:, -1].mean(), rel=5e-3)
        assert (whole == "–") == (name in ("EGNN", "EGNO-L"))
        assert whole == "–" or number(whole) == pytest.approx(errors.mean(), rel=5e-3)


def test_the_table_of_costs_holds_each_measurement_once(chapter):
    bench = chapter.benchmark()
    measured = [row for row in bench["rows"] if row["task"] == "Networks"]
    for row, cells in zip(measured, cells_of(figures.speed_table(bench))[1], strict=True):
        assert cells[:2] == [f"{row['case']}, {row['part']}", row["method"]]
        assert number(cells[3]) == pytest.approx(row["CPU, times ours"], abs=6e-3)


def test_the_thumbnail_shows_the_first_system_the_same_each_time(chapter, tmp_path, monkeypatch):
    assert_same_thumbnail_each_time(figures.thumbnail, chapter, tmp_path)
    sheet = thumbnail_sheet(figures.thumbnail, chapter, tmp_path / "three.svg", monkeypatch)
    run = chapter.stored["charged_egno"].first
    for i, line in enumerate(sheet.axes[0].lines[2::3]):
        assert np.array_equal(line.get_xydata(), run["EGNO shown"][0, :, i, :2])

"""What is drawn of EGNO from the stored results of ``cpu``: every promise of a figure, and the numbers in it."""

import math
import re
from dataclasses import replace

import matplotlib.pyplot as plt
import numpy as np
import pytest
from fakes import FakeResult
from matplotlib.colors import same_color
from showing import (
    assert_same_thumbnail_each_time,
    cells_of,
    figures_of,
    thumbnail_sheet,
)

from loupe import open_chapter
from loupe.experiment.results import Found, Runs, find
from loupe.papers import egno as room
from loupe.papers.egno import figures, figures_motion
from loupe.papers.egno.figures import HOLDER, RANK
from loupe.plotting import SERIES


@pytest.mark.parametrize("draw", figures_of(figures, figures_motion))
def test_every_figure(draw, check_figure):
    check_figure("egno", draw)


@pytest.fixture(autouse=True)
def _closed():
    """Pictures that are not shown are closed here."""
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def chapter():
    return open_chapter("egno", preset="cpu")


@pytest.fixture(scope="module")
def stored(chapter):
    """All runs of ``cpu`` by experiment."""
    return chapter.stored


def of(stored, name):
    """Errors ``(seeds, S, P)`` of a method for charges."""
    return stored[HOLDER[name]][f"{name} errors"]


def but_one(errors):
    """The mean without the largest: of ``(S,)``, or of each column of ``(S, P)``."""
    return (errors.sum(0) - errors.max(0)) / (len(errors) - 1)


def colour_is(line, name):
    return same_color(line.get_color(), SERIES[RANK[name]].colour)


# --- charged particles --------------------------------------------------------------------------------------


def test_paths_are_those_that_are_stored(chapter, stored, shown):
    figures.trajectories(chapter)
    for place, axes in enumerate(shown.sheet.axes):
        name, k = ("EGNO", "EGNN-R")[place // 3], place % 3
        run = stored[HOLDER[name]].first
        start, truth, predicted = (run[what][k][..., :2] for what in ("start", "truth", f"{name} shown"))
        for i in range(5):
            true, _, path, marks = axes.lines[4 * i : 4 * i + 4]
            assert np.array_equal(true.get_xydata(), np.vstack([start[i], truth[:, i]]))
            assert np.array_equal(path.get_xydata(), np.vstack([start[i], predicted[:, i]]))
            assert np.array_equal(marks.get_xydata(), predicted[:, i])
            assert colour_is(path, name)


@pytest.mark.parametrize(
    ("draw", "models", "where", "errors"),
    [(figures.view, ["EGNO", "EGNN-S", "EGNN-R"], None, "errors"),
     (figures_motion.runner, ["EGNO"], "running", "physical fine errors")],
    ids=["view", "runner"],
)  # fmt: skip
def test_a_view_names_its_scenes_and_the_errors_that_are_stored(draw, models, where, errors, chapter, stored):
    html = draw(chapter).html
    scenes = [f"system {k}" for k in range(1, 1 + len(stored["charged_egno"].first["start"]))]
    if where:
        scenes = [f"{what}, window {k}" for what in ("running", "walking") for k in (1, 2)]
    assert re.findall(r'<option value="\d+">(.*?)</option>', html) == scenes
    words = re.search(r'<p class="lw-line"[^>]*>(.*?)</p>', html)[1]
    found = dict(re.findall(r"([A-Z-]+) ([\d.]+)(?:,|$)", words.split("error: ")[1]))
    ends = {name: stored[where or HOLDER[name]].first[f"{name} {errors}"][0, -1] for name in models}
    assert {name: float(value) for name, value in found.items()} == pytest.approx(ends, rel=1e-2)
    # The colors of a view are in the order of its models.
    assert [RANK[name] for name in models] == list(range(len(models)))


@pytest.mark.parametrize(
    ("draw", "pick"), [(figures.scores, lambda e: e[..., -1]), (figures.whole_scores, lambda e: e.mean(-1))]
)
def test_scores_are_those_of_the_methods_and_the_least_mean_is_marked(draw, pick, chapter, stored):
    block = draw(chapter)
    _, rows = cells_of(block)
    names = [row[0].split(" (")[0] for row in rows]
    values = {name: pick(of(stored, name)) for name in names}
    for column, what in enumerate((np.mean, but_one, np.median), 1):
        each = {name: [what(errors) for errors in values[name]] for name in names}
        best = min(names, key=lambda name: np.mean(each[name]))
        for row, name in zip(rows, names, strict=True):
            assert row[column].split(" … ")[0] in (f"{min(each[name]):.4f}", f"{min(each[name]):.2f}")
            marked = re.search(rf"<td[^>]*>{re.escape(row[0])}</td>.*?</tr>", block.html)[0].split("<td ")[
                1 + column
            ]
            assert ("<b>" in marked) == (name == best), (name, column)


def test_what_training_costs_is_that_of_the_networks(chapter, stored):
    for name, weights, clock in cells_of(figures.costs_of_training(chapter))[1]:
        runs = stored[HOLDER[name]]
        assert weights == f"{runs.first[f'{name} parameters']:,}"
        assert clock == f"{np.mean([run[f'{name} clock'][-1] for run in runs]):,.0f}"


def test_what_is_reported_is_written_the_same_everywhere():
    """In the tables and in the claims."""
    claims = {claim.id: claim.paper for claim in room.CLAIMS}
    assert f"running: {figures_motion.REPORTED['running']['EGNO-L'][0]} " in claims["EG6b"]


def test_errors_are_drawn_at_their_times_and_agree_with_the_table(chapter, stored, shown):
    figures.by_time(chapter)
    (axes,) = shown.sheet.axes
    dotted = [line for line in axes.lines if line.get_linestyle() == ":"]
    for (name, line), median in zip(shown.lines().items(), [*dotted, None], strict=True):
        errors = of(stored, name)
        P = errors.shape[-1]
        assert colour_is(line, name)
        assert line.get_xdata() == pytest.approx([1.0] if name == "EGNN" else np.arange(1, P + 1) / P)
        assert line.get_ydata() == pytest.approx(np.mean([but_one(each) for each in errors], axis=0))
        if median:
            assert median.get_ydata() == pytest.approx(np.median(errors, axis=1).mean(0))


def test_training_is_drawn_by_steps_and_by_time(chapter, stored, shown):
    figures.learning(chapter)
    ours, theirs = (
        sum(run[f"{name} clock"][-1] for run in stored[HOLDER[name]]) for name in ("EGNO", "EGNN")
    )
    assert f"A step of EGNO costs {ours / theirs:.1f} times one of EGNN." in shown.caption
    for axes, what in zip(shown.sheet.axes, ("steps", "clock"), strict=True):
        wanted = [(name, run) for name in figures.LEARNING for run in stored[HOLDER[name]]]
        for line, (name, run) in zip(axes.lines, wanted, strict=True):
            assert np.array_equal(line.get_xydata().T, [run[f"{name} {what}"], run[f"{name} valid"]])
            assert colour_is(line, name)


@pytest.mark.parametrize(("factor", "said"), [(1e3, True), (1, False)])
def test_a_line_that_leaves_the_panel_is_said(factor, said, chapter):
    found = find(chapter, ("charged_egnn", "charged_egno"))
    run = found["charged_egnn"].first
    far = FakeResult(
        0, {**run, "EGNN valid": run["EGNN valid"] * [1, factor, *[1] * (len(run["EGNN valid"]) - 2)]}
    )
    made = figures.learning.__wrapped__(replace(found, runs=found.runs | {"charged_egnn": Runs((far,))}))
    assert ("Where a line leaves the panel" in made.caption) == said


def test_numbers_of_systems_are_drawn_in_order(chapter, stored, shown):
    figures.data_sizes(chapter)
    sizes, usual = stored["data_sizes"].first, chapter.config.systems
    counts = sorted([*map(int, sizes["sizes"]), usual])
    for name, line in shown.lines().items():
        means = {n: but_one(sizes[f"{name} {n} errors"][:, -1]) for n in counts if n != usual}
        means[usual] = np.mean([but_one(each[:, -1]) for each in of(stored, name)])
        assert line.get_xdata().tolist() == counts
        assert line.get_ydata() == pytest.approx([means[n] for n in counts])
        assert colour_is(line, name)


def test_settings_given_to_the_chapter_are_those_of_the_figures(chapter, stored):
    config = chapter.config.override({"ablation_width": 12, "ablation_layers": 3, "ablation_steps": 77})
    made = figures.ablations.__wrapped__(Found(stored["ablations"], "cpu", replace(chapter, config=config)))
    assert "Width 12, layers: 3, 77 steps." in made.caption


# --- symmetry and time --------------------------------------------------------------------------------------


def test_the_symmetry_table_has_the_worst_seed(chapter, stored):
    _, rows = cells_of(figures.symmetry(chapter))
    words = {"in any way": "turned", "about the vertical": "upright"}
    assert len(rows) == 7
    for label, way, worst, count in rows:
        data, name = label.split(", ")
        runs, what = stored["running" if data == "running" else HOLDER[name]], words[way]
        deviation = max(run[f"{name} {what} deviation"] for run in runs)
        assert float(worst.replace("−", "-")) == pytest.approx(
            deviation, abs=0.5 * 10 ** math.floor(math.log10(deviation))
        )
        most = 0
        for run in runs:
            before, after = (run[f"{name}{part} errors"].mean(-1) for part in ("", f" {what}"))
            most = max(most, int((np.abs(after / before - 1) > 1e-3).sum()))
        assert count == f"{most:,} of {len(runs.first[f'{name} errors']):,}"


def test_finer_times_are_drawn_where_they_are_and_their_ratio_is_in_the_caption(chapter, stored, shown):
    figures.resolution(chapter)
    fine, index, usual = (
        np.mean([run[f"EGNO{part} errors"] for run in stored["charged_egno"]], axis=0)
        for part in (" physical fine", " index fine", "")
    )
    P = usual.shape[1]
    for line, errors in zip(shown.sheet.axes[0].lines, (fine, index, usual), strict=True):
        n = errors.shape[1]
        assert line.get_xdata() == pytest.approx(np.arange(1, n + 1) / n)
        assert line.get_ydata() == pytest.approx(but_one(errors))
    rest = np.delete(fine, fine.sum(1).argmax(), axis=0)
    new, shared = rest[:, ::2].mean(1), rest[:, 1::2].mean(1)  # of 2 P times every second is shared
    rng = np.random.default_rng(0)
    chosen = rng.integers(len(new), size=(1000, len(new)))
    low, high = np.percentile(new[chosen].sum(1) / shared[chosen].sum(1), (2.5, 97.5))
    assert f"is {new.sum() / shared.sum():.2f} times that at the shared ones" in shown.caption
    assert f"(95 % interval over systems {low:.2f} to {high:.2f};" in shown.caption
    assert f"the error is {but_one(fine)[0] / but_one(usual)[0]:.1f} times that of the first" in shown.caption
    assert f"trained at {P} times" in shown.caption


@pytest.mark.parametrize(
    "names", [("charged", "run", "walk", "ethanol"), ("charged",), ("walk", "run")], ids=str
)
def test_spectra_are_shares_of_all_power_for_whichever_data_there_are(names, chapter, stored):
    run = {key: value for key, value in stored["spectra"].first.items() if key.split()[0] in names}
    made = figures.spectra.__wrapped__(Found(Runs((FakeResult(0, run),)), "cpu", chapter))
    kept = [name for name in ("charged", "run", "walk", "ethanol") if name in names]
    for axes, what in zip(made.sheet.axes, ("way", "bend"), strict=True):
        for line, name in zip(axes.lines, kept, strict=False):
            assert line.get_ydata() == pytest.approx(run[f"{name} {what}"] / run[f"{name} way"].sum())
    ramp = made.sheet.axes[0].lines[-1]
    n = 2 * (len(ramp.get_ydata()) - 1)
    power = np.abs(np.fft.fft(np.arange(1, n + 1) / n)) ** 2
    folded = power[: n // 2 + 1] + np.append(0, power[: n // 2 - 1 : -1])
    folded[-1] /= 2
    assert ramp.get_ydata() == pytest.approx(folded / power.sum())
    shares = [100 * sum(run[f"{name} bend"][:2]) / sum(run[f"{name} bend"]) for name in kept]
    assert [int(share) for share in re.findall(r"(\d+) %", made.caption)] == [
        round(share) for share in shares
    ]


def test_parts_are_bars_in_the_order_of_the_experiment(chapter, stored, shown):
    figures.ablations(chapter)
    (axes,), runs = shown.sheet.axes, stored["ablations"]
    each = {
        name: np.mean([run[f"{name} errors"][:, -1] for run in runs], axis=0)
        for name in map(str, runs.first["variants"])
    }
    worst = sorted({int(errors.argmax()) for errors in each.values()})
    each = {name: np.delete(errors, worst) for name, errors in each.items()}
    full = each["full"]
    for place, (name, bar, text) in enumerate(zip(reversed(each), axes.patches, axes.texts, strict=True)):
        assert bar.get_width() == pytest.approx(each[name].mean())
        assert bar.get_y() + bar.get_height() / 2 == pytest.approx(place)
        assert same_color(bar.get_facecolor(), SERIES[0].colour) == (name == "full")
        assert text.get_text().startswith("" if name == "full" else f"×{each[name].sum() / full.sum():.2f} [")
    assert axes.get_yticklabels()[-1].get_text().startswith("full: ")
    assert f"on {len(full):,} test systems" in shown.caption


# --- people and molecules -----------------------------------------------------------------------------------


@pytest.mark.parametrize("draw", [figures_motion.people, figures_motion.molecules])
def test_errors_of_people_and_molecules_are_those_of_the_methods(draw, chapter, stored):
    _, rows = cells_of(draw(chapter))
    reported = {}
    for label, *cells in rows:
        if ", " not in label:
            assert (label, cells) == ("aspirin", ["not computed yet", "–", "–"])
            continue
        what, name = label.split(", ")
        errors = 100 * stored[what][f"{name} errors"][0]
        end, whole = cells[1::2] if what != "ethanol" else cells[1:]
        assert float(end) == pytest.approx(errors[:, -1].mean(), rel=5e-3)
        assert (whole == "–") == (name in ("EGNN", "EGNO-L"))
        if whole != "–":
            assert float(whole) == pytest.approx(errors.mean(), rel=5e-3)
        reported |= {(label, k): cells[k] for k in (0, 2) if what != "ethanol" and cells[k] != "–"}
    if draw is figures_motion.people:
        assert reported == {("walking, EGNO", 2): "3.5", ("running, EGNO-L", 0): "33.9"}


def test_skeletons_are_those_that_are_stored_and_no_limb_of_the_truth_is_cut(chapter, stored, shown):
    figures_motion.skeletons(chapter)
    run = stored["running"].first
    P = run["EGNO shown"].shape[1]
    every, chosen, side = len(run["truth times"]) // P, (None, 0, P // 2, P - 1), figures_motion.SKELETON
    for place, axes in enumerate(shown.sheet.axes):
        name, column = ("EGNO", "EGNN-S", "EGNN-R", "EGNN")[place // 4], place % 4
        true = run["truth"][0, every * (chosen[column] + 1) - 1] if column else run["start"][0]
        states = [true]
        if column == 3 or (column and name != "EGNN"):  # EGNN predicts the end only
            states.append(run[f"{name} shown"][0, -1 if column == 3 else chosen[column]])
        for person, state in zip(axes.patches, states, strict=True):
            limbs = person.get_path().vertices.reshape(-1, 2, 2)
            assert np.array_equal(limbs, state[run["bones"].astype(int)][..., side])
        assert axes.get_xlim()[0] < true[:, side[0]].min() <= true[:, side[0]].max() < axes.get_xlim()[1]
    # The way that they run is drawn across.
    way = np.abs(run["truth"][0, -1].mean(0) - run["start"][0].mean(0))
    assert (int(way.argmax()), 1) == side


# --- what it costs ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("draw", "task", "columns"),
    [(figures.simulator_table, "The simulator", {2: "CPU seconds", 3: "systems a CPU-second"}),
     (figures.speed_table, "Networks", {2: "CPU ms", 3: "CPU, times ours", 4: "of its system"}),
     (figures.rollout_table, "One forward, or a rollout", {0: "systems", 2: "wall ms", 3: "wall, times ours"})],
)  # fmt: skip
def test_tables_of_costs_hold_each_measurement_once(draw, task, columns, chapter):
    bench = chapter.benchmark()
    measured = [row for row in bench["rows"] if row["task"] == task]
    for row, cells in zip(measured, cells_of(draw(bench))[1], strict=True):
        assert row["method"] in cells
        for column, key in columns.items():
            value = float(cells[column].replace(",", "").replace("−", "-"))
            digit = 0.5 if value >= 5 else 0.06 if value > 1e-3 else 0.5 * 10 ** math.floor(math.log10(value))
            assert value == pytest.approx(row[key], abs=digit)


def test_the_thumbnail_shows_the_first_system_the_same_each_time(chapter, stored, tmp_path, monkeypatch):
    assert_same_thumbnail_each_time(figures.thumbnail, chapter, tmp_path)
    sheet = thumbnail_sheet(figures.thumbnail, chapter, tmp_path / "three.svg", monkeypatch)
    run = stored["charged_egno"].first
    for i, line in enumerate(sheet.axes[0].lines[2::3]):
        assert np.array_equal(line.get_xydata(), run["EGNO shown"][0, :, i, :2])
        assert colour_is(line, "EGNO")

"""What is drawn of EGNO: every figure, table and view on results of a tiny preset, and the numbers in them."""

import json
import math
import re
import types

import numpy as np
import pytest
from fakes import FakeResult, FakeStored, computed
from matplotlib.colors import same_color
from showing import (
    assert_finite,
    assert_same_thumbnail_each_time,
    assert_says_what_is_missing,
    cells_of,
    thumbnail_sheet,
    words_not_of_benchmark,
)

from loupe.experiment.claims import t_interval
from loupe.experiment.render import over_seeds, rounded
from loupe.experiment.results import Runs
from loupe.papers import egno as room
from loupe.papers.egno import PRESETS, experiments_training, figures, figures_motion
from loupe.papers.egno.figures import RANK
from loupe.plotting import SERIES

TINY = PRESETS["smoke"].override(
    {
        "systems": 24, "valid_systems": 10, "test_systems": 13, "batch": 8, "width": 6, "layers": 2, "steps": 6,
        "evaluations": 3, "sizes": [20, 30], "size_steps": 6, "ablation_width": 4, "ablation_layers": 2,
        "ablation_steps": 2, "motion_width": 4, "motion_layers": 1, "motion_steps": 2, "motion_evaluations": 1,
        "molecule_width": 4, "molecule_layers": 1, "molecule_steps": 2, "molecule_evaluations": 1,
        "molecule_windows": 12, "molecule_batch": 6, "shown": ["charged", "run", "walk", "ethanol"],
    }
)  # fmt: skip
P, STEP = TINY.slices, 2  # every second test system is shown: six of thirteen
CHARGED = ("charged_egno", "charged_egnn", "charged_others")
PEOPLE = ("running", "walking")
TRAINED = (*CHARGED, "data_sizes", "ablations", *PEOPLE, "ethanol")
NEEDED = {  # figure, table or view, and the experiments without which there is none
    "trajectories": CHARGED, "by_time": CHARGED, "learning": CHARGED[:2], "data_sizes": ("data_sizes", *CHARGED[:2]),
    "resolution": CHARGED[:1], "spectra": ("spectra",), "ablations": ("ablations",), "skeletons": PEOPLE[:1],
    "scores": CHARGED, "whole_scores": CHARGED, "costs_of_training": CHARGED, "symmetry": (*CHARGED, "running"),
    "people": PEOPLE, "view": CHARGED, "runner": PEOPLE,
}  # fmt: skip
PICTURES = tuple(NEEDED)[:8]
TABLES = (*tuple(NEEDED)[8:13], "molecules")
VIEWS = tuple(NEEDED)[13:]
SEEDS = (3, 5, 8)


def drawn(name):
    """A figure, table or view by name, wherever it lives."""
    return next(getattr(one, name) for one in (figures, figures_motion) if hasattr(one, name))


def chapter_of(found, preset="smoke", config=TINY, overridden=None, **others):
    """A chapter with these results, and with those of other presets, all of which are TINY.

    ``overridden`` are settings that were given when the chapter was opened.
    """
    presets = {name: config for name in PRESETS}
    own = config.override(overridden) if overridden else config
    stored = FakeStored.of(found, preset, overridden, **others)
    return types.SimpleNamespace(
        preset=preset, stored=stored, config=own, room=types.SimpleNamespace(PRESETS=presets)
    )


# --- results ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """Every experiment with pictures once, with the settings TINY."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(experiments_training, "MOLECULE_PARTS", {"valid": 12, "test": 31})
        found = computed(room, TINY, ("spectra", *TRAINED), tmp_path_factory)
    return found | {"aspirin": Runs((FakeResult(0, other(found["ethanol"].first, 99)),))}


def other(result, seed):
    """A result of another seed: what depends on it is a little different."""
    found = {}
    for key, value in result.items():
        name, _, what = key.rpartition(" ")
        moved = what in ("errors", "shown", "valid", "clock", "deviation") and name not in ("Linear", "still")
        # The same factors for all: errors stay what they are where nothing changes them.
        factors = 1 + 0.5 * np.random.default_rng(seed).random(np.shape(value))
        found[key] = value * factors if moved else value
    return FakeResult(seed, found)


def thrice(tiny):
    """As at larger presets, of three seeds."""
    return {name: Runs(tuple(other(one.first, seed) for seed in SEEDS)) for name, one in tiny.items()}


def scaled(tiny, factor):
    """The same with errors so many times as large, by which presets are told apart."""

    def grown(run):
        return FakeResult(run.seed, {
            key: value * factor if key.endswith((" errors", " valid")) else value for key, value in run.items()
        })  # fmt: skip

    return {name: Runs(tuple(map(grown, runs))) for name, runs in tiny.items()}


def changed(tiny, experiment, **values):
    """The same with other values in one experiment, in every seed."""
    values = {key.replace("_", " "): value for key, value in values.items()}
    runs = Runs(tuple(FakeResult(run.seed, dict(run) | values) for run in tiny[experiment]))
    return tiny | {experiment: runs}


def by_name(block):
    """Rows of a table by their first cell."""
    _, rows = cells_of(block)
    found = {row[0]: row[1:] for row in rows}
    assert len(found) == len(rows)
    return found


def colour_is(line, name):
    return same_color(line.get_color(), SERIES[RANK[name]].colour)


def but_one(errors):
    """The mean of these errors without the largest: of ``(S,)``, or of each column of ``(S, P)``."""
    if errors.ndim > 1:
        return np.array([but_one(column) for column in errors.T])
    return np.mean(sorted(errors)[:-1])


def drawn_errors(tiny, experiment, name):
    """Errors at each time: of each seed the mean over windows but for its worst of that time; then over seeds."""
    return np.mean([but_one(run[f"{name} errors"]) for run in tiny[experiment]], axis=0)


def pooled_errors(tiny, experiment, name):
    """Errors at each time: means over seeds, then over windows but for the worst of that time."""
    return but_one(np.mean([run[f"{name} errors"] for run in tiny[experiment]], axis=0))


def resampled(ours, theirs):
    """Ratio of means and the ends of its interval: the definition, one resample after the other."""
    rng, ratios = np.random.default_rng(0), []
    for chosen in rng.integers(len(ours), size=(1000, len(ours))):
        ratios.append(sum(ours[chosen]) / sum(theirs[chosen]))
    return (sum(ours) / sum(theirs), *np.percentile(ratios, (2.5, 97.5)))


# --- every picture ------------------------------------------------------------------------------------------


def test_methods_have_a_colour_each():
    drawn_ones = {"EGNO", "EGNN", "EGNN-S", "EGNN-R", "Linear"}  # RF and MPNN stand in tables only
    assert set(RANK) == drawn_ones
    assert len({SERIES[rank].colour for rank in RANK.values()}) == len(drawn_ones)


@pytest.mark.parametrize("name", PICTURES)
def test_pictures_of_one_seed(name, tiny, rendered):
    assert drawn(name)(chapter_of(tiny)) is None
    assert "Preset `smoke`." in rendered.caption
    assert not re.search(r"(?<![.\d])1 (seeds|layers|windows|systems|times)\b", rendered.caption)


@pytest.mark.parametrize("name", PICTURES)
def test_pictures_of_three_seeds(name, tiny, shown):
    assert drawn(name)(chapter_of(thrice(tiny), "gpu")) is None
    caption = shown.caption
    assert "Preset `gpu`." in caption
    said = {"trajectories": "seed 3", "skeletons": "Seed 3", "spectra": ""}.get(name, "3 seeds")
    assert said in caption


@pytest.mark.parametrize("change", [dict, thrice], ids=["one seed", "three seeds"])
@pytest.mark.parametrize("name", TABLES)
def test_tables(name, change, tiny):
    head, rows = cells_of(drawn(name)(chapter_of(change(tiny))))
    assert rows
    assert len(set(head)) == len(head)
    assert len({row[0] + row[1] for row in rows}) == len(rows)


@pytest.mark.parametrize("name", NEEDED)
def test_what_is_not_computed_yet_is_said_in_one_sentence(name, tiny, shown):
    assert_says_what_is_missing(drawn(name), chapter_of, {one: tiny[one] for one in NEEDED[name]})
    assert not shown.outputs


# --- presets ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PICTURES)
def test_a_picture_of_another_preset_says_so(name, tiny, shown):
    assert drawn(name)(chapter_of({}, cpu=tiny)) is None
    assert "Preset `cpu`." in shown.caption


@pytest.mark.parametrize("name", TABLES)
def test_a_table_of_another_preset_says_so(name, tiny):
    assert "cpu" in str(drawn(name)(chapter_of({}, cpu=tiny)))


@pytest.mark.parametrize("name", VIEWS)
def test_a_view_of_another_preset_says_so(name, tiny):
    html = drawn(name)(chapter_of({}, cpu=tiny)).html
    visible = re.sub(r"<(script|style).*?</\1>", "", html, flags=re.DOTALL)
    assert "cpu" in visible


@pytest.mark.parametrize("name", [one for one in NEEDED if len(NEEDED[one]) > 1])
def test_presets_are_never_mixed(name, tiny, shown):
    needed = NEEDED[name]
    for cut in range(1, len(needed)):
        ours, theirs = ({one: tiny[one] for one in part} for part in (needed[:cut], needed[cut:]))
        for chapter in (
            chapter_of(ours, cpu=theirs),
            chapter_of(ours, gpu=theirs),
            chapter_of({}, gpu=ours, cpu=theirs),
        ):
            assert str(drawn(name)(chapter)).endswith("has not been computed yet.")
    assert not shown.outputs


def test_half_a_preset_does_not_hide_a_whole_one(tiny):
    own = {CHARGED[0]: tiny[CHARGED[0]]}
    wanted = by_name(figures.scores(chapter_of({}, cpu=scaled(tiny, 7))))
    assert by_name(figures.scores(chapter_of(own, cpu=scaled(tiny, 7)))) == wanted
    assert wanted != by_name(figures.scores(chapter_of(tiny)))


def test_the_own_preset_comes_first_and_then_the_larger_one(tiny):
    own, gpu, cpu = (by_name(figures.scores(chapter_of(scaled(tiny, k)))) for k in (1, 7, 9))
    every = {"gpu": scaled(tiny, 7), "cpu": scaled(tiny, 9)}
    assert by_name(figures.scores(chapter_of(tiny, **every))) == own
    assert by_name(figures.scores(chapter_of({}, **every))) == gpu
    assert by_name(figures.scores(chapter_of({}, cpu=every["cpu"]))) == cpu


# --- charged particles --------------------------------------------------------------------------------------


def test_paths_are_those_that_are_stored(tiny, shown):
    figures.trajectories(chapter_of(thrice(tiny)))
    assert f"with dots at {P} times" in shown.caption
    assert len(shown.sheet.axes) == 6
    for place, axes in enumerate(shown.sheet.axes):
        row, k = divmod(place, 3)
        name = ("EGNO", "EGNN-R")[row]
        run = thrice(tiny)[CHARGED[row]].first
        start, truth, predicted = run["start"][k], run["truth"][k], run[f"{name} shown"][k]
        assert len(axes.lines) == 21
        for i in range(5):
            true, dots, path, marks = axes.lines[4 * i : 4 * i + 4]
            assert np.array_equal(dots.get_xydata(), truth[1::2, i, :2])
            assert same_color(dots.get_color(), "black")
            assert np.array_equal(true.get_xydata(), np.vstack([start[i], truth[:, i]])[:, :2])
            assert np.array_equal(path.get_xydata(), np.vstack([start[i], predicted[:, i]])[:, :2])
            assert np.array_equal(marks.get_xydata(), predicted[:, i, :2])
            assert same_color(true.get_color(), "black")
            assert colour_is(path, name)
            assert colour_is(marks, name)
            assert path.get_linestyle() == "--"
        assert np.array_equal(axes.lines[20].get_xydata(), start[:, :2])
        # All of the truth is inside.
        low, high = axes.get_xlim()
        assert (truth[..., 0] > low).all()
        assert (truth[..., 0] < high).all()
        low, high = axes.get_ylim()
        assert (truth[..., 1] > low).all()
        assert (truth[..., 1] < high).all()
    assert [axes.get_ylabel() for axes in shown.sheet.axes[::3]] == ["EGNO", "EGNN-R"]


def scenes_of(view):
    """What a page holds of a view, and the widget's own numbers: places less rounding."""
    kinds = view._repr_mimebundle_()
    assert kinds.keys() == {"text/html", "text/plain"}
    assert_finite(kinds["text/plain"])
    assert "NaN" not in view.html
    (content,) = re.findall(
        r'<script type="application/json" class="lw-data">(.*?)</script>', view.html, flags=re.DOTALL
    )
    return json.loads(content)


def said(errors):
    """Numbers as the widget writes them."""
    raised = str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "-0123456789")
    return [
        float(
            text if "·" not in text else text.split("·10")[0] + "e" + text.split("·10")[1].translate(raised)
        )
        for text in errors
    ]


def test_the_view_holds_the_systems_that_are_stored(tiny):
    found = thrice(tiny)
    data = scenes_of(figures.view(chapter_of(found)))
    assert [scene["name"] for scene in data["scenes"]] == [f"system {k}" for k in range(1, 7)]
    holders = {"EGNO": "charged_egno", "EGNN-S": "charged_egnn", "EGNN-R": "charged_egnn"}
    assert set(data["models"]) == set(holders)
    for k, scene in enumerate(data["scenes"]):
        assert scene["times"] == ["0", "0.20", "0.40", "0.60", "0.80", "1.00"]
        for name, errors in zip(data["models"], scene["now"], strict=True):
            run = found[holders[name]].first
            own = ((run[f"{name} shown"][k] - run["truth"][k, 1::2]) ** 2).mean((1, 2))
            assert said(errors) == pytest.approx([0, *own], rel=1e-2)
        signs = [False, *tiny["charged_egno"].first["groups"][k]]
        assert scene["groups"] == (np.array(signs).astype(int) - min(signs)).tolist() or len(set(signs)) == 2


def test_errors_in_the_view_are_those_of_the_test_part(tiny):
    data = scenes_of(figures.view(chapter_of(tiny)))
    for k, scene in enumerate(data["scenes"]):
        for name, errors in zip(data["models"], scene["now"], strict=True):
            run = tiny[figures.HOLDER[name]].first
            assert said(errors)[1:] == pytest.approx(run[f"{name} errors"][k * STEP], rel=1e-2)


def test_charges_in_the_view_are_those_of_the_systems(tiny):
    data = scenes_of(figures.view(chapter_of(tiny)))
    groups = tiny["charged_egno"].first["groups"]
    assert {True, False} == set(groups.ravel().tolist())
    for scene, row in zip(data["scenes"], groups, strict=True):
        assert scene["groups"] == [0, *row.astype(int).tolist()]


def test_a_reader_of_the_view_is_told_what_its_shapes_are(tiny):
    html = figures.view(chapter_of(tiny)).html
    (legend,) = re.findall(r'<p class="lw-legend">(.*?)</p>', html, flags=re.DOTALL)
    first, second = (re.sub("<.*?>", "", part).strip() for part in legend.split("</svg>")[-2:])
    assert first == "charge like the first"
    assert second.startswith("opposite charge")


@pytest.mark.parametrize("name", VIEWS)
def test_a_method_has_one_colour_in_views_and_figures(name, tiny):
    models = scenes_of(drawn(name)(chapter_of(tiny)))["models"]
    assert [RANK[model] for model in models] == list(
        range(len(models))
    )  # the view's colours are in this order


@pytest.mark.parametrize("name", VIEWS)
def test_views_are_the_same_each_time(name, tiny):
    one, two = (drawn(name)(chapter_of(tiny)).html for _ in range(2))
    assert one == two


WHOLE = ("Linear", "EGNN-R", "EGNN-S", "EGNO")


@pytest.mark.parametrize("table", ["scores", "whole_scores"])
def test_scores_are_those_of_the_methods(table, tiny):
    found, whole = thrice(tiny), table == "whole_scores"
    head, rows = cells_of(drawn(table)(chapter_of(found)))
    assert head[0] == ("A-MSE, smoke, 3 seeds" if whole else "F-MSE, smoke, 3 seeds")
    assert head[1:] == ["mean", "excluding the worst", "median"]
    assert [row[0].split(" (")[0] for row in rows] == list(WHOLE if whole else figures.HOLDER)
    holder = dict(zip(figures.HOLDER, ("others",) * 3 + ("egnn",) * 3 + ("egno",), strict=True))
    for label, mean, less, median in rows:
        name = label.split(" (")[0]
        assert label == ("RF (poor initialization)" if name == "RF" else name)
        runs = found[f"charged_{holder[name]}"]
        errors = [run[f"{name} errors"] for run in runs]
        errors = [each.mean(1) if whole else each[:, -1] for each in errors]
        for cell, of in ((mean, np.mean), (less, but_one), (median, np.median)):
            values = [of(each) for each in errors]
            if name == "Linear":
                assert cell.split("\u00a0±")[0] == f"{values[0]:.4f}"
            else:
                wide = t_interval(values)[0] < 0
                assert cell == (
                    ", ".join(rounded(each, 4) for each in values) if wide else over_seeds(values, 4)
                )


def test_an_interval_wider_than_the_mean_is_not_printed():
    assert figures._over_seeds(np.array([0.0159, 0.255, 0.0164])) == "0.0159, 0.2550, 0.0164"
    assert figures._over_seeds(np.array([0.01, 0.011, 0.012])) == "0.0110\u00a0±\u00a00.0025"


def test_what_training_costs_is_that_of_the_networks(tiny):
    found = thrice(tiny)
    head, rows = cells_of(figures.costs_of_training(chapter_of(found)))
    assert head == ["network, smoke", "weights", "training, CPU-s"]
    assert {row[0] for row in rows} == set(figures.HOLDER) - {"Linear"}
    assert len(rows) == 6
    for name, weights, clock in rows:
        runs = found[figures.HOLDER[name]]
        assert weights == f"{runs.first[f'{name} parameters']:,}"
        assert clock == f"{np.mean([run[f'{name} clock'][-1] for run in runs]):,.0f}"


@pytest.mark.parametrize(("change", "words"), [(dict, "1 seed"), (thrice, "3 seeds")])
def test_tables_name_their_preset_and_seeds(change, words, tiny):
    chapter = chapter_of({}, gpu=change(tiny))
    heads = [cells_of(drawn(name)(chapter))[0][0] for name in ("scores", "whole_scores", "people")]
    assert heads == [f"F-MSE, gpu, {words}", f"A-MSE, gpu, {words}", f"× 100, gpu, {words}"]


def test_scores_of_one_seed_have_no_spread(tiny):
    rows = by_name(figures.scores(chapter_of(tiny)))
    assert "±" not in str(figures.scores(chapter_of(tiny)))
    assert rows["EGNO"][0] == rounded(tiny["charged_egno"].first["EGNO errors"][:, -1].mean(), 4)


def test_what_does_not_depend_on_the_seed_has_no_spread(tiny):
    found = thrice(tiny)
    line = tiny["charged_others"].first["Linear errors"]
    assert by_name(figures.scores(chapter_of(found)))["Linear"][0] == f"{line[:, -1].mean():.4f}"
    assert by_name(figures.whole_scores(chapter_of(found)))["Linear"][0] == f"{line.mean():.4f}"
    rows = by_name(figures_motion.people(chapter_of(found)))
    for name in ("still", "Linear"):
        assert "±" not in rows[f"running, {name}"][1]


def test_what_is_reported_is_written_the_same_everywhere():
    """In the tables and in the claims; what nobody could confirm stands nowhere."""
    claims = {claim.id: claim.paper for claim in room.CLAIMS}
    assert f"running: {figures_motion.REPORTED['running']['EGNO-L'][0]} " in claims["EG6b"]
    for claim in ("EG4a", "EG4b", "EG5b"):
        assert claims[claim].endswith("not available")


def test_errors_are_drawn_at_their_times(tiny, shown):
    found = thrice(tiny)
    figures.by_time(chapter_of(found))
    assert "Error of 13 test systems at each time" in shown.caption
    lines = shown.lines()
    assert list(lines) == ["EGNO", "EGNN-S", "EGNN-R", "Linear", "EGNN"]
    (axes,) = shown.sheet.axes
    for name, line in lines.items():
        assert colour_is(line, name)
        times, errors = line.get_xydata().T
        wanted = drawn_errors(found, figures.HOLDER[name], name)
        assert times == pytest.approx([1.0] if name == "EGNN" else [0.2, 0.4, 0.6, 0.8, 1.0])
        assert errors == pytest.approx(wanted)
    dotted = [line for line in axes.lines if line.get_linestyle() == ":"]
    assert len(dotted) == 4
    for line, name in zip(dotted, lines, strict=False):
        assert colour_is(line, name)
    assert axes.get_yscale() == "log"


@pytest.mark.parametrize("change", [dict, thrice], ids=["one seed", "three seeds"])
@pytest.mark.parametrize("what", ["means", "medians"])
def test_errors_at_the_end_are_those_of_the_table(what, change, tiny, shown):
    found = change(tiny)
    figures.by_time(chapter_of(found))
    rows, lines = by_name(figures.scores(chapter_of(found))), shown.sheet.axes[0].lines
    dotted = [line for line in lines if line.get_linestyle() == ":"]
    for name, median in zip(("EGNO", "EGNN-S", "EGNN-R", "Linear"), dotted, strict=True):
        end = median.get_ydata()[-1] if what == "medians" else shown.lines()[name].get_ydata()[-1]
        assert rounded(end, 4) == rows[name][2 if what == "medians" else 1].split("\u00a0±")[0]


def test_curves_that_fall_are_not_said_to_rise(tiny, shown):
    errors = np.sort(tiny["charged_egnn"].first["EGNN-S errors"], axis=1)[:, ::-1]
    figures.by_time(chapter_of(changed(tiny, "charged_egnn", **{"EGNN-S_errors": errors})))
    assert (np.diff(shown.lines()["EGNN-S"].get_ydata()) < 0).all()
    assert "rising for all" not in shown.alt


def test_systems_that_go_astray_do_not_hide_the_others(tiny, shown):
    errors = tiny["charged_egnn"].first["EGNN-R errors"] * 1e6
    found = changed(tiny, "charged_egnn", **{"EGNN-R_errors": errors})
    figures.by_time(chapter_of(found))
    tops = [drawn_errors(found, figures.HOLDER[name], name)[-1] for name in ("EGNO", "EGNN-S", "Linear")]
    assert shown.sheet.axes[0].get_ylim()[1] == pytest.approx(20 * max(tops))
    assert by_name(figures.scores(chapter_of(found)))["EGNN-R"][1] == rounded(errors[:, -1].mean(), 4)
    assert "·10^" in rounded(errors[:, -1].mean(), 4)


def test_training_is_drawn_by_steps_and_by_time(tiny, shown):
    found = thrice(tiny)
    figures.learning(chapter_of(found))
    assert "a line for each of 3 seeds" in shown.caption
    ours, theirs = (
        sum(run[f"{name} clock"][-1] for run in found[figures.HOLDER[name]]) for name in ("EGNO", "EGNN")
    )
    assert f"A step of EGNO costs {ours / theirs:.1f} times one of EGNN." in shown.caption
    for axes, what in zip(shown.sheet.axes, ("steps", "clock"), strict=True):
        assert len(axes.lines) == 9
        for k, line in enumerate(axes.lines):
            name, run = ("EGNO", "EGNN", "EGNN-S")[k // 3], k % 3
            run = found[figures.HOLDER[name]].results[run]
            assert np.array_equal(line.get_xdata(), run[f"{name} {what}"])
            assert np.array_equal(line.get_ydata(), run[f"{name} valid"])
            assert colour_is(line, name)
    legend = shown.sheet.axes[0].get_legend().get_texts()
    assert [text.get_text() for text in legend] == ["EGNO", "EGNN", "EGNN-S"]


def test_numbers_of_systems_are_drawn_in_order(tiny, shown):
    found = thrice(tiny)
    found["data_sizes"] = Runs(found["data_sizes"].results[:1])
    figures.data_sizes(chapter_of(found))
    assert "1 seed, and 3 seeds at 24 systems" in shown.caption
    for name, line in shown.lines().items():
        sizes = found["data_sizes"].first
        wanted = [but_one(sizes[f"{name} {count} errors"][:, -1]) for count in (20, 30)]
        wanted.insert(1, drawn_errors(found, figures.HOLDER[name], name)[-1])
        assert line.get_xdata().tolist() == [20, 24, 30]
        assert line.get_ydata() == pytest.approx(wanted)
        assert colour_is(line, name)
    assert list(shown.lines()) == ["EGNO", "EGNN"]
    assert [text.get_text() for text in shown.sheet.axes[0].get_xticklabels()] == ["20", "24", "30"]


def test_settings_given_to_the_chapter_are_those_of_the_figures(tiny, shown):
    settings = {"systems": 27, "ablation_width": 12, "ablation_layers": 3, "ablation_steps": 77}
    chapter = chapter_of(tiny, overridden=settings)
    figures.data_sizes(chapter)
    assert "at 27 systems" in shown.caption
    shown.outputs.clear()
    shown.sheets.clear()
    figures.ablations(chapter)
    assert "Width 12, layers: 3, 77 steps." in shown.caption


def test_settings_given_to_the_chapter_are_not_those_of_another_preset(tiny, shown):
    figures.data_sizes(chapter_of({}, overridden={"systems": 27}, cpu=tiny))
    assert "at 24 systems" in shown.caption


@pytest.mark.parametrize("name", PRESETS)
def test_runs_with_other_numbers_of_systems_have_as_many_steps(name, tiny, shown):
    figures.data_sizes(chapter_of(tiny, config=PRESETS[name]))
    config = PRESETS[name]
    other = "" if config.steps == config.size_steps else f" ({config.steps:,} at {config.systems:,} systems)"
    assert f"excluding the worst, after {config.size_steps:,} steps{other}. " in shown.caption
    assert config.systems not in config.sizes


# --- symmetry -----------------------------------------------------------------------------------------------


def short(value):
    """A number of one digit; a power of ten where it is below 1e-4."""
    exponent = math.floor(math.log10(value))
    if exponent >= -4:
        return f"{round(value, -exponent):.{max(0, -exponent)}f}"
    return f"{value / 10.0**exponent:.0f}e−{-exponent}"


def test_the_symmetry_table_has_the_worst_seed(tiny):
    found = thrice(tiny)
    head, rows = cells_of(figures.symmetry(chapter_of(found)))
    assert head[0] == "data, network, smoke"
    words = {"turned": "in any way", "upright": "about the vertical"}
    wanted = [
        (f"charges, {name}", figures.HOLDER[name], name, "turned")
        for name in ("EGNO", "EGNN", "EGNN-S", "RF", "MPNN")
    ]
    wanted += [("running, EGNO", "running", "EGNO", what) for what in ("upright", "turned")]
    for row, (label, experiment, name, what) in zip(rows, wanted, strict=True):
        runs = found[experiment]
        worst = max(run[f"{name} {what} deviation"] for run in runs)
        counts = []
        for run in runs:
            errors, there = (run[f"{name}{part} errors"] for part in ("", f" {what}"))
            counts.append(
                sum(
                    abs(np.mean(two) / np.mean(one) - 1) > 1e-3
                    for one, two in zip(errors, there, strict=True)
                )
            )
        assert row[:3] == [label, words[what], short(worst)]
        assert row[3] == f"{max(counts)} of {240 if experiment == 'running' else 13}"
    changed = {row[0] + row[1]: int(row[3].split()[0]) for row in rows}
    assert changed["running, EGNOabout the vertical"] == 0 < changed["charges, MPNNin any way"]
    worst = {row[0] + row[1]: float(row[2].replace("−", "-")) for row in rows}
    assert worst["charges, EGNOin any way"] < 1e-4 < worst["charges, MPNNin any way"]


def test_a_deviation_that_is_no_number_is_not_hidden(tiny):
    found = thrice(tiny)
    runs = [dict(run) for run in found["charged_egno"]]
    runs[1]["EGNO turned deviation"] = math.nan
    found["charged_egno"] = Runs(tuple(FakeResult(k, run) for k, run in enumerate(runs)))
    assert "nan" in str(figures.symmetry(chapter_of(found)))


# --- time ---------------------------------------------------------------------------------------------------


def test_finer_times_are_drawn_where_they_are(tiny, shown):
    found = thrice(tiny)
    figures.resolution(chapter_of(found))
    physical, index, usual = shown.sheet.axes[0].lines
    for line, key in ((physical, "EGNO physical fine"), (index, "EGNO index fine")):
        assert line.get_xdata() == pytest.approx(np.arange(1, 11) / 10)
        assert line.get_ydata() == pytest.approx(pooled_errors(found, "charged_egno", key))
    assert usual.get_xdata() == pytest.approx(np.arange(1, 6) / 5)
    assert usual.get_ydata() == pytest.approx(pooled_errors(found, "charged_egno", "EGNO"))
    assert [line.get_label() for line in (physical, index, usual)] == [
        "10 times, given the time", "10 times, given the number of the slice", "5 times, as trained",
    ]  # fmt: skip


def test_the_caption_of_finer_times_has_its_numbers(tiny, shown):
    found = thrice(tiny)
    figures.resolution(chapter_of(found))
    fine = np.mean([run["EGNO physical fine errors"] for run in found["charged_egno"]], axis=0)
    trained = [p for p in range(10) if any(abs((p + 1) / 10 - (k + 1) / 5) < 1e-9 for k in range(5))]
    new = [p for p in range(10) if p not in trained]
    rest = fine[[s for s in range(13) if fine[s].sum() < max(fine.sum(1))]]
    assert len(rest) == 12
    ratio, low, high = resampled(rest[:, new].mean(1), rest[:, trained].mean(1))
    assert f"is {ratio:.2f} times that at the shared ones" in shown.caption
    assert f"(95 % interval over systems {low:.2f} to {high:.2f}; seeds vary more)" in shown.caption
    first = but_one(fine)[0] / pooled_errors(found, "charged_egno", "EGNO")[0]
    assert f"the error is {first:.1f} times that of the first trained time" in shown.caption
    assert "trained at 5 times; points are means over test systems excluding the worst" in shown.caption
    assert "At 10 times and given" in shown.caption


def test_spectra_are_shares_of_all_power(tiny, shown):
    figures.spectra(chapter_of(tiny))
    run = tiny["spectra"].first
    names = {"charged": "charges", "run": "running", "walk": "walking", "ethanol": "ethanol"}
    for panel, what in enumerate(("way", "bend")):
        lines = shown.sheet.axes[panel].lines
        for line, name in zip(lines, names, strict=False):
            assert line.get_xdata().tolist() == list(range(6))
            assert line.get_ydata() == pytest.approx(run[f"{name} {what}"] / run[f"{name} way"].sum())
    ramp = shown.lines(0)["a straight line"]
    power = np.zeros(6)
    for k in range(10):
        wave = np.exp(-2j * np.pi * k * np.arange(10) / 10)
        power[min(k, 10 - k)] += abs((wave * np.arange(1, 11) / 10).sum()) ** 2
    assert ramp.get_ydata() == pytest.approx(power / power.sum())
    assert ramp.get_xdata().tolist() == list(range(6))
    shares = ", ".join(
        f"{words} {100 * sum(run[f'{name} bend'][:2]) / sum(run[f'{name} bend']):.0f} %"
        for name, words in names.items()
    )
    assert f"the two lowest frequencies hold: {shares}. Preset" in shown.caption


@pytest.mark.parametrize("names", [("charged",), ("charged", "ethanol"), ("run",), ("walk", "run")], ids=str)
def test_spectra_of_fewer_data(names, tiny, shown):
    """Settings allow any of them; at smoke there are charges only."""
    run = {key: value for key, value in tiny["spectra"].first.items() if key.split()[0] in names}
    figures.spectra(chapter_of({"spectra": Runs((FakeResult(0, run),))}))
    assert shown.caption.count(" %") == len(names)
    assert len(shown.sheet.axes[1].lines) == len(names)
    assert "four" not in shown.alt


def test_parts_are_bars_in_the_order_of_the_experiment(tiny, shown):
    found = thrice(tiny)
    figures.ablations(chapter_of(found))
    (axes,) = shown.sheet.axes
    runs = found["ablations"]
    names = [str(name) for name in runs.first["variants"]]
    each = {name: np.mean([run[f"{name} errors"][:, -1] for run in runs], axis=0) for name in names}
    assert names[0] == "full"
    left_out = {max(range(13), key=errors.__getitem__) for errors in each.values()}
    each = {
        name: np.array([e for s, e in enumerate(errors) if s not in left_out])
        for name, errors in each.items()
    }
    for place, (name, bar, text) in enumerate(zip(names[::-1], axes.patches, axes.texts, strict=True)):
        assert bar.get_width() == pytest.approx(each[name].mean())
        assert bar.get_y() + bar.get_height() / 2 == pytest.approx(place)
        assert same_color(bar.get_facecolor(), SERIES[0].colour) == (name == "full")
        if name == "full":
            assert text.get_text() == ""
        else:
            value, low, high = resampled(each[name], each["full"])
            assert text.get_text() == f"×{value:.2f} [{low:.2f}, {high:.2f}]"
    assert [text.get_text() for text in axes.get_yticklabels()] == [
        "10 times", "2 times", "no convolution", "only vectors", "only invariants", "3 frequencies", "1 frequency",
        "full: 2 frequencies, 5 times",
    ]  # fmt: skip
    assert f"on {13 - len(left_out)} test systems, those left out" in shown.caption
    assert f"worst for any variant ({len(left_out)})" in shown.caption
    assert "3 seeds: differences between seeds are not in it. Width 4, layers: 2, 2 steps." in shown.caption
    assert len(names) == 8
    assert "for 8 variants of EGNO" in shown.alt


def test_one_layer_is_one_layer(tiny, shown):
    assert PRESETS["smoke"].ablation_layers == 1
    figures.ablations(chapter_of(tiny, config=TINY.override({"ablation_layers": 1})))
    assert "1 layers" not in shown.caption


# --- people and molecules -----------------------------------------------------------------------------------

MOVERS = ("still", "Linear", "EGNN", "EGNN-S", "EGNN-R", "EGNO", "EGNO-L")


def test_errors_of_people_are_those_of_the_methods(tiny):
    found = thrice(tiny)
    head, rows = cells_of(figures_motion.people(chapter_of(found)))
    assert head == ["× 100, smoke, 3 seeds", "F-MSE, reported", "F-MSE", "A-MSE, reported", "A-MSE"]
    assert [row[0] for row in rows] == [f"{what}, {name}" for what in PEOPLE for name in MOVERS]
    for row in rows:
        what, name = row[0].split(", ")
        errors = [100 * run[f"{name} errors"] for run in found[what]]
        if name in ("still", "Linear"):
            assert row[1] == row[3] == "–"
            continue
        assert row[2] == over_seeds([each[:, -1].mean() for each in errors], 1)
        whole = name not in ("EGNN", "EGNO-L")
        assert row[4] == (over_seeds([each.mean() for each in errors], 1) if whole else "–")
    by = {row[0]: row for row in rows}
    reported = {(row, k): by[row][k] for row in by for k in (1, 3) if by[row][k] != "–"}
    assert reported == {("walking, EGNO", 3): "3.5", ("running, EGNO-L", 1): "33.9"}


def test_the_runner_holds_the_windows_that_are_stored(tiny):
    data = scenes_of(figures_motion.runner(chapter_of(tiny)))
    assert data["models"] == ["EGNO"]
    names = [scene["name"] for scene in data["scenes"]]
    assert names == ["running, window 1", "running, window 2", "walking, window 1", "walking, window 2"]
    for scene, (what, k) in zip(data["scenes"], [(what, k) for what in PEOPLE for k in (0, 2)], strict=True):
        run = tiny[what].first
        errors = run["EGNO physical fine errors"]
        (now,) = scene["now"]
        assert said(now)[1:] == pytest.approx(errors[k * (len(errors) // 6)], rel=1e-2)
        assert scene["times"] == ["0", *(f"{p / 10:.2f}" for p in range(1, 11))]
        assert scene["edges"] == run["bones"].tolist()
        # The second coordinate of the data points up, and is the third of the view.
        start = np.array(scene["truth"][0]).reshape(31, 3)
        for shown, own in ((2, 1), (0, 2), (1, 0)):
            ways = run["start"][k][:, own] - run["start"][k][:, own].mean()
            assert np.corrcoef(start[:, shown], ways)[0, 1] > 0.999


def test_a_person_is_seen_from_the_side(tiny, shown):
    """The way that they run is drawn across, and up is up."""
    run = tiny["running"].first
    along, up = figures_motion.SKELETON
    way = np.abs(run["truth"][0, -1].mean(0) - run["start"][0].mean(0))
    assert along == int(way.argmax())
    assert up == 1


def test_skeletons_are_those_that_are_stored(tiny, shown):
    figures_motion.skeletons(chapter_of(thrice(tiny)))
    assert "at three of 5 times" in shown.caption
    run, names = thrice(tiny)["running"].first, ("EGNO", "EGNN-S", "EGNN-R", "EGNN")
    assert len(shown.sheet.axes) == 16
    titles = [axes.get_title() or axes.get_title("left") for axes in shown.sheet.axes[:4]]
    assert titles == ["now", "50 ms", "150 ms", "250 ms"]
    frames = (None, 1, 5, 9)  # of ten times: those after 6, 18 and 30 frames
    for place, axes in enumerate(shown.sheet.axes):
        row, column = divmod(place, 4)
        name = names[row]
        true = run["start"][0] if column == 0 else run["truth"][0, frames[column]]
        lines = axes.lines
        foreseen = column == 3 if name == "EGNN" else column > 0
        assert len(lines) == (60 if foreseen else 30)
        for (child, parent), line in zip(run["bones"], lines[:30], strict=True):
            assert np.array_equal(line.get_xydata(), true[[child, parent]][:, [2, 1]])
            assert same_color(line.get_color(), "black")
        for (child, parent), line in zip(run["bones"], lines[30:], strict=False):
            predicted = run[f"{name} shown"][0, -1 if name == "EGNN" else (None, 0, 2, 4)[column]]
            assert np.array_equal(line.get_xydata(), predicted[[child, parent]][:, [2, 1]])
            assert colour_is(line, name)
    assert [axes.get_ylabel() for axes in shown.sheet.axes[::4]] == list(names)


def test_no_limb_is_cut_off(tiny, shown):
    """The truth lies in its panel, which is no wider than it; what is predicted may leave it."""
    far = tiny["running"].first["EGNN-R shown"] * 100
    figures_motion.skeletons(chapter_of(changed(tiny, "running", **{"EGNN-R_shown": far})))
    true = tiny["running"].first["truth"][0, 1::2, :, figures_motion.SKELETON[0]]
    widest = np.abs(true - true.mean(1, keepdims=True)).max()
    for axes in shown.sheet.axes:
        low, high = axes.get_xlim()
        assert high - low == pytest.approx(2 * (widest + 1))
        for line in axes.lines[:30]:
            assert ((line.get_xdata() > low) & (line.get_xdata() < high)).all()


MOLECULES = ("still", "Linear", "EGNN", "EGNN-S", "EGNN-R", "EGNO")


def test_errors_of_molecules_are_those_of_the_methods(tiny):
    found = thrice(tiny)
    head, rows = cells_of(figures_motion.molecules(chapter_of(found)))
    assert head[2:] == ["F-MSE × 100, Å²", "A-MSE × 100, Å²"]
    assert [row[0] for row in rows] == [
        f"{what}, {name}" for what in ("ethanol", "aspirin") for name in MOLECULES
    ]
    for row in rows:
        what, name = row[0].split(", ")
        errors = np.array([100 * run[f"{name} errors"] for run in found[what]])
        assert row[1] == "31 windows, smoke, 3 seeds"
        assert row[2] == rounded(errors[..., -1].mean(), 2)
        assert row[3] == ("–" if name == "EGNN" else rounded(errors.mean(), 2))


@pytest.mark.parametrize("missing", ["ethanol", "aspirin"])
def test_a_molecule_that_is_missing_is_said_to_be(missing, tiny):
    found = {name: runs for name, runs in tiny.items() if name != missing}
    rows = by_name(figures_motion.molecules(chapter_of(found)))
    assert rows.pop(missing) == ["not computed yet", "–", "–"]
    assert len(rows) == 6
    borrowed = by_name(figures_motion.molecules(chapter_of(found, gpu={missing: tiny[missing]})))
    for name, row in borrowed.items():
        assert row[0] == f"31 windows, {'gpu' if name.startswith(missing) else 'smoke'}, 1 seed"


def test_no_molecule_is_said_in_one_sentence():
    block = figures_motion.molecules(chapter_of({}))
    assert str(block) == "Nothing to show here: prediction of molecules has not been computed yet."


# --- what it costs ------------------------------------------------------------------------------------------

METHODS, ROLLOUT = ("loupe", "re-statement"), "rollout of an EGNN"


def bench():
    """Measurements in the layout of the benchmark, with numbers that are easily told apart."""
    rows = [
        {"task": "Networks", "case": case, "part": part, "method": method, "B, N, P, H, L, I": [100, 5, 5, 64, 4, 2],
         "CPU ms": 100 * k + 10 * j + i + 0.25, "wall ms": 7.0, "CPU, times ours": 1.0 + 1.5 * i,
         "largest difference": 0.5, "of its system": 2e-7, "in float64": 1e-15, "of gradients": 1e-6}
        for k, case in enumerate(("charges", "motion capture")) for j, part in enumerate(("forward", "step"))
        for i, method in enumerate(METHODS)
    ] + [
        {"task": "Products in a training step", "method": method, "CPU ms": 9.0} for method in METHODS
    ] + [
        {"task": "One forward, or a rollout", "systems": systems, "times decoded": 5, "method": method, "CPU ms": 7.0,
         "wall ms": systems + 0.5 * i, "CPU, times ours": 99.0, "wall, times ours": 1 + 1.25 * i}
        for systems in (1, 10, 100) for i, method in enumerate(("loupe", ROLLOUT))
    ] + [
        {"task": "The simulator", "systems": 1500, "steps": 4100, "method": method, "measured systems, steps": [1, 2],
         "extrapolated": word, "CPU seconds": seconds, "wall seconds": 1.0, "systems a CPU-second": 1500 / seconds,
         "CPU, times ours": 1.0, "largest difference": 0.0}
        for method, word, seconds in zip(METHODS, ("no", "yes"), (1.25, 800.0), strict=True)
    ]  # fmt: skip
    return {"environment": {"threads": 1}, "rows": rows}


def test_the_hand_made_measurements_have_the_layout_of_the_benchmark():
    named = ("task", "case", "part", "method", "extrapolated")
    assert words_not_of_benchmark("egno", bench()["rows"], named) == []


def test_the_speed_table_holds_each_task_once():
    head, rows = cells_of(figures.speed_table(bench()))
    assert head == ["task", "method", "CPU ms", "over ours", "difference / extent"]
    assert len(rows) == 8
    assert rows[0] == ["charges, forward", "loupe", "0.2", "1.00", "2e−07"]
    assert rows[-1] == ["motion capture, step", "re-statement", "111.2", "2.50", "2e−07"]


def test_the_speed_table_without_motion_capture():
    few = {"rows": [row for row in bench()["rows"] if row.get("case") != "motion capture"]}
    _, rows = cells_of(figures.speed_table(few))
    assert [row[0] for row in rows] == ["charges, forward"] * 2 + ["charges, step"] * 2


def test_the_rollout_table_holds_each_batch_twice():
    head, rows = cells_of(figures.rollout_table(bench()))
    assert head == ["systems in a batch", "method", "ms", "time over one pass"]
    assert [row[0] for row in rows] == ["1", "1", "10", "10", "100", "100"]
    assert rows[4:] == [["100", "loupe", "100.0", "1.00"], ["100", ROLLOUT, "100.5", "2.25"]]


def test_the_simulator_stands_beside_a_loop():
    head, rows = cells_of(figures.simulator_table(bench()))
    assert rows == [
        ["loupe", "1,500 × 4,100", "1.2", "1,200", "no"], ["re-statement", "1,500 × 4,100", "800.0", "2", "yes"],
    ]  # fmt: skip
    assert head == ["method", "systems × steps", "CPU seconds", "systems a CPU-second", "extrapolated"]


# --- the thumbnail ------------------------------------------------------------------------------------------


def test_the_thumbnail_is_the_same_each_time(tiny, tmp_path):
    assert_same_thumbnail_each_time(figures.thumbnail, chapter_of(tiny), tmp_path)


def test_the_thumbnail_shows_the_first_system(tiny, tmp_path, monkeypatch):
    sheet = thumbnail_sheet(figures.thumbnail, chapter_of(tiny), tmp_path / "one.png", monkeypatch)
    lines, run = sheet.axes[0].lines, tiny["charged_egno"].first
    assert len(lines) == 15
    for i in range(5):
        true, marks, predicted = lines[3 * i : 3 * i + 3]
        assert np.array_equal(
            true.get_xydata(), np.vstack([run["start"][0, i], run["truth"][0, :, i]])[:, :2]
        )
        assert np.array_equal(marks.get_xydata(), run["truth"][0, 1::2, i, :2])
        assert np.array_equal(predicted.get_xydata(), run["EGNO shown"][0, :, i, :2])
        assert colour_is(predicted, "EGNO")


def test_the_book_finds_the_thumbnail():
    """It asks the module ``figures`` of every room."""
    assert callable(getattr(figures, "thumbnail", None))


# --- long runs ----------------------------------------------------------------------------------------------


def test_a_line_that_leaves_the_panel_is_said(tiny, shown):
    found = thrice(tiny)
    astray = dict(found["charged_egnn"].results[1])
    astray["EGNN valid"] = astray["EGNN valid"] * [1, 1e3, 1]
    found["charged_egnn"] = Runs((*found["charged_egnn"].results[:1], FakeResult(SEEDS[1], astray)))
    figures.learning(chapter_of(found))
    assert "Where a line leaves the panel, a system has gone astray" in shown.caption
    firsts = [run[f"{name} valid"][0] for name in figures.LEARNING for run in found[figures.HOLDER[name]]]
    assert shown.sheet.axes[0].get_ylim()[1] == pytest.approx(1.2 * max(firsts))

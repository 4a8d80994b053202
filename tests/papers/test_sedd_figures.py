"""What is drawn of SEDD from the stored results of ``cpu``: every promise of a figure, and the numbers in it."""

from dataclasses import replace

import matplotlib.pyplot as plt
import numpy as np
import pytest
from fakes import FakeResult
from showing import assert_absent, assert_same_thumbnail_each_time, cells_of, figures_of

from loupe import open_chapter
from loupe.diffusion.discrete import Absorbing, LogLinearNoise
from loupe.experiment.results import Runs, find
from loupe.papers.sedd import figures, figures_samples, figures_text
from loupe.papers.sedd.figures import LM1B, SENTENCE
from loupe.papers.sedd.figures_text import EXPERIMENTS, REPORTED, TEXT8, words

BLOCKS = (figures_samples.samples_table, figures_samples.infill_figure)
FIGURES = [one for one in figures_of(figures, figures_text, figures_samples) if one.values[0] not in BLOCKS]


@pytest.mark.parametrize("draw", FIGURES)
def test_every_figure(draw, check_figure):
    check_figure("sedd", draw)


@pytest.fixture(autouse=True)
def _closed():
    """Pictures that are not shown are closed here."""
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def chapter():
    return open_chapter("sedd", preset="cpu")


@pytest.fixture(scope="module")
def stored(chapter):
    return chapter.stored


@pytest.mark.parametrize("draw", [figures.corruption, figures.schedules, figures.barrier])
def test_pictures_that_need_no_results(draw, rendered):
    draw()
    assert rendered.caption


@pytest.mark.parametrize("draw", BLOCKS)
def test_texts_say_what_is_missing(draw, shown, tmp_path, monkeypatch):
    monkeypatch.setenv("LOUPE_RESULTS", str(tmp_path))
    assert_absent(draw, open_chapter("sedd", preset="cpu"), shown)


def with_first(found, experiment, change):
    """Found runs with another first run of an experiment."""
    runs = found[experiment]
    values = [FakeResult(runs.first.seed, change(dict(runs.first))), *runs.results[1:]]
    return replace(found, runs=found.runs | {experiment: Runs(tuple(values))})


# --- trained networks ---------------------------------------------------------------------------------------


def test_learning_curves_are_those_of_every_seed(chapter, stored, shown):
    figures_text.curves(chapter)
    lines, run = shown.lines(), stored["counted"].first
    for name, experiment in EXPERIMENTS.items():
        assert np.array_equal(lines[name].get_xdata(), stored[experiment].first["curve_steps"])
        assert lines[name].get_ydata() == pytest.approx(stored[experiment]["curve_strict"].mean(0))
    thin = len(shown.sheet.axes[0].lines) - len(lines)
    assert thin == sum(len(stored[one]) for one in EXPERIMENTS.values() if len(stored[one]) > 1)
    levels = run["bits_valid"].mean(-1)
    for order in (1, 2, 5):
        level = levels[list(run["orders"]).index(order)]
        assert lines[f"{order}-grams, {level:.2f}"].get_ydata()[0] == level
    assert (np.diff(levels) < 0).all()
    assert levels[0] < np.log2(27)


@pytest.mark.parametrize("change", [0.0, 9.0])
def test_what_leaves_the_panel_is_named(change, chapter):
    found = find(chapter, (*EXPERIMENTS.values(), "counted"))
    higher = with_first(
        found, "concrete_score", lambda run: run | {"curve_strict": run["curve_strict"] + change}
    )
    caption = figures_text.curves.__wrapped__(higher).caption
    assert ("Above the panel at the end: concrete score." in caption) == bool(change)


def test_the_excess_is_a_share_of_the_bound(chapter, stored, shown):
    figures_text.excess(chapter)
    runs = stored["sedd_absorb"]
    share = np.mean([run["curve_excess"][-1] / run["curve_bits"][-1] for run in runs])
    assert f"At the end it is {100 * share:.2g} % of the bound" in shown.caption


def test_methods_are_in_the_order_of_their_bits(chapter, stored):
    _, rows = cells_of(figures_text.likelihood_table(chapter))
    means = []
    for name, parameters, published, strict, reported, seeds in rows:
        runs = stored[EXPERIMENTS[name]]
        means.append(runs["bits_valid"].mean())
        assert published.startswith(f"{means[-1]:.3f}")
        assert strict.startswith(f"{runs['strict_valid'].mean():.3f}")
        assert (parameters, seeds) == (f"{runs.first['parameters']:,}", str(len(runs)))
        assert reported == (f"{TEXT8[REPORTED[name]]:.2f}" if name in REPORTED else "–")
    assert means == sorted(means)
    assert len(rows) == len(EXPERIMENTS)


def test_texts_of_other_kinds_have_a_mark_for_each_method(chapter, stored, shown):
    figures_text.zero_shot(chapter)
    (axes,) = shown.sheet.axes
    assert len(axes.get_yticklabels()) == len(stored["mdlm"].first["texts"])
    marks = {each.get_label(): each.lines[0].get_xdata() for each in axes.containers}
    assert "concrete score" not in marks
    for name, found in marks.items():
        runs = stored[EXPERIMENTS[name]]
        wanted = [runs[f"strict_{text}"].mean() for text in runs.first["texts"]]
        assert found == pytest.approx(wanted)


def test_an_interval_is_over_seeds_or_else_over_texts():
    values = np.array([[1.0, 3.0], [2.0, 4.0]])
    runs = Runs(tuple(FakeResult(seed, {"bits": row}) for seed, row in enumerate(values)))
    assert figures_text.mean_and_half(runs, "bits") == (2.5, pytest.approx(12.706 * 0.5, rel=1e-4))
    assert figures_text.mean_and_half(Runs(runs.results[:1]), "bits") == (
        2.0,
        pytest.approx(12.706, rel=1e-4),
    )


# --- what networks write ------------------------------------------------------------------------------------


def test_texts_are_judged_at_every_number_of_steps(chapter, stored, shown):
    figures_samples.quality_figure(chapter)
    for panel, what in enumerate(("bits", "entropy", "bigrams")):
        lines = shown.lines(panel)
        for name, method in (("absorb", "tweedie"), ("uniform", "tweedie"), ("uniform", "euler")):
            run, line = stored[f"sedd_{name}"].first, lines[f"SEDD {name}, {method.title()}"]
            assert line.get_ydata() == pytest.approx(
                [np.mean(run[f"{method} {n} {what}"]) for n in run["sample_steps"]]
            )
        assert lines["held-out text"].get_ydata()[0] == np.mean(
            stored["sedd_absorb"].first[f"held out {what}"]
        )
        causal = stored["autoregressive"].first[f"autoregressive {what}"]
        assert lines["autoregressive"].get_ydata()[0] == pytest.approx(np.mean(causal))


def test_texts_are_shown_as_they_are(chapter, stored):
    assert words([0, 1, 26, 27]) == " az_"
    samples, fills = (draw(chapter) for draw in BLOCKS)
    run = stored["sedd_absorb"].first
    for text in run["tweedie 4 tokens"][:2]:
        assert all(words(text) in found for found in (str(samples), samples.html))
    middle = run["infill_place"].astype(bool)
    for key in ("truth", "tokens_both", "tokens_before"):
        fill = words(run[f"infill_{key}"][0][middle])
        assert f"[{fill}]" in str(fills)
        assert f">{fill}</span>" in fills.html


def test_a_network_that_did_not_write_is_passed_over(chapter):
    found = find(chapter, ("sedd_absorb",))
    silent = FakeResult(9, {"bits_valid": np.ones(3)})
    one, two = (
        str(figures_samples.infill_table.__wrapped__(replace(found, runs=Runs(runs))))
        for runs in (found.runs.results, (silent, *found.runs.results))
    )
    assert one == two
    nothing = figures_samples.infill_table.__wrapped__(replace(found, runs=Runs((silent,))))
    assert str(nothing).endswith("writing with trained networks has not been computed yet.")


def test_bits_of_the_middle_are_those_of_all_texts(chapter, stored):
    run = stored["sedd_absorb"].first
    both, before = run["infill_bits_both"], run["infill_bits_before"]
    wanted = (both, before, None, both - before)
    for (_, cost, near), values, name in zip(
        cells_of(figures_samples.infill_table(chapter))[1], wanted, ("both", "before", "strangers", None), strict=True
    ):  # fmt: skip
        assert cost.split("\u00a0")[0].replace("−", "-") == (
            "–" if values is None else f"{values.mean():.3f}"
        )
        assert near == ("–" if name is None else f"{float(run[f'infill_mauve_{name}']):.3f}")


@pytest.mark.parametrize("held_out", [5.0, 50.0])
def test_held_out_text_is_drawn_where_it_leaves_room_for_the_rest(held_out, chapter):
    found = find(chapter, ("sedd_absorb",))
    values = {
        f"race {digits} bits": 5 + np.sin(np.arange(9.0)) for digits in ("float16", "float32", "float64")
    }
    first = FakeResult(0, {**found.runs.first, **values, "held out bits": held_out + np.sin(np.arange(9.0))})
    made = figures_samples.races.__wrapped__(replace(found, runs=Runs((first,))))
    top = made.sheet.axes[0]
    assert [text.get_text() for text in top.texts] == (
        [] if held_out < 9 else [f"{first['held out bits'].mean():.2f}\n↑"]
    )
    assert top.get_ylim()[1] < 30


# --- exact scores and the paper's numbers -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tweedie", "euler", "title"),
    [
        ([3, 2, 1], [3, 3, 2], "Tweedie ahead"),
        ([3, 2, 1], [4, 1, 0.5], "Euler ahead from 2"),
        ([3, 2, 1], [2, 1, 0.5], "Euler ahead from 1"),
        ([3, 2, 1], [2, 1, 2], "no order"),
    ],
)
def test_the_title_of_samplers_is_true(tweedie, euler, title):
    assert figures._ahead(np.array([tweedie, euler])) == title


@pytest.mark.parametrize("below", [False, True])
def test_a_mean_below_the_entropy_is_drawn(below, chapter):
    found = find(chapter, ("oracle_samplers",))
    first = FakeResult(0, dict(found.runs.first))
    first["entropy"] = np.nanmin(first["bits"]) + (0.02 if below else -0.02)
    made = figures.oracle.__wrapped__(replace(found, runs=Runs((first,))))
    low, high = made.sheet.axes[2].get_ylim()
    assert (
        low < np.nanmin(first["bits"] - first["entropy"]) < np.nanmax(first["bits"] - first["entropy"]) < high
    )


def test_masks_stay():
    states = figures._corrupted(Absorbing(27), LogLinearNoise(), (0, 0.3, 0.6, 1))
    assert words(states[0]) == SENTENCE
    masked = states == 27
    assert (masked[1:] >= masked[:-1]).all()
    assert masked[-1].mean() > 0.9


def test_the_paper_s_tables_with_their_ratios():
    block = figures.headline_table()
    assert block.html.count("<table") == 3
    for cell in ("−46\u00a0%", "+13\u00a0%", "+0.16", "1.95", "−49\u00a0%", *LM1B):
        assert cell in str(block)


def test_speed_is_that_of_large_vocabularies(chapter):
    bench = chapter.benchmark()
    large = [
        row
        for row in bench["rows"]
        if row["task"] == "Score entropy" and row["sequences, length, states"][2] > 1000
    ]
    _, rows = cells_of(figures.loss_table(bench))
    assert [row[1] for row in rows] == [f"{row['both, ms']:.1f}" for row in large]


def test_the_thumbnail_is_the_same_each_time(chapter, tmp_path):
    assert_same_thumbnail_each_time(figures.thumbnail, chapter, tmp_path)

"""What is drawn of SEDD from the stored results: every promise of a figure, and the numbers in it."""

from dataclasses import replace
from itertools import pairwise

import matplotlib.pyplot as plt
import numpy as np
import pytest
from fakes import FakeResult
from showing import assert_absent, assert_same_thumbnail_each_time, cells_of, figures_of

from loupe import open_chapter
from loupe.experiment.render import over_seeds
from loupe.experiment.results import Found, Runs, find, row
from loupe.papers.sedd import figures, figures_samples
from loupe.papers.sedd.claims import bits, common, texts
from loupe.papers.sedd.claims_reported import LM1B
from loupe.papers.sedd.figures import CORE, MORE, REPORTED
from loupe.papers.sedd.figures_samples import words
from loupe.papers.sedd.numbers import numbers

BLOCKS = (figures_samples.samples, figures_samples.infills)
FIGURES = [one for one in figures_of(figures, figures_samples) if one.values[0] not in BLOCKS]


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


def stored(chapter, *names):
    """What a figure of these experiments is drawn from."""
    return find(chapter, names, partial=True)


def test_a_picture_that_needs_no_results(rendered):
    figures.barrier()
    assert rendered.caption


@pytest.mark.parametrize("draw", BLOCKS)
def test_texts_say_what_is_missing(draw, shown, tmp_path, monkeypatch):
    monkeypatch.setenv("LOUPE_RESULTS", str(tmp_path))
    assert_absent(draw, open_chapter("sedd", preset="cpu"), shown)


# --- trained networks ---------------------------------------------------------------------------------------


def test_learning_curves_are_those_of_every_seed(chapter, shown):
    figures.curves(chapter)
    found, lines, axes = stored(chapter, *CORE.values()), shown.lines(), shown.sheet.axes[0]
    for name, experiment in CORE.items():
        assert np.array_equal(lines[name].get_xdata(), found[experiment].first["curve_steps"])
        assert lines[name].get_ydata() == pytest.approx(found[experiment]["curve_strict"].mean(0))
        low, high = axes.get_ylim()
        assert low < lines[name].get_ydata()[-1] < high
    said = " ".join(text.get_text() for text in axes.texts)
    for name, level in figures.counted(found).items():
        assert (f"{name.split()[0]} {level:.2f}" in said) == (name != "4-gram counts")
    assert axes.get_xscale() == "log"


def test_counting_longer_contexts_is_better(chapter):
    levels = list(figures.counted(stored(chapter, *CORE.values())).values())
    assert all(a > b for a, b in pairwise(levels))


def test_methods_and_trivial_rows_are_in_the_order_of_their_bits(chapter):
    found = stored(chapter, *CORE.values())
    methods, counts = figures.trained(found), figures.counted(found)
    _, rows = cells_of(figures.likelihoods(chapter))
    means = []
    for name, strict, gap, reported in rows:
        means.append(bits(methods[name], kind="strict").mean() if name in methods else counts[name])
        assert strict.startswith(f"{means[-1]:.2f}") or "…" in strict
        assert reported == (f"{REPORTED[name]:.2f}" if name in methods and name in REPORTED else "–")
        assert (gap == "–") == (name == "SEDD Absorb" or name in counts)
    assert means == sorted(means)
    assert len(rows) == len(methods) + len(counts)


def test_gaps_are_paired_over_the_seeds_that_both_have(chapter):
    found = stored(chapter, *CORE.values())
    three = [
        FakeResult(k, {"bits_valid": np.full(4, v), "strict_valid": np.full(4, v)})
        for k, v in enumerate((1, 3, 5))
    ]
    runs = {experiment: Runs(tuple(three)) for experiment in CORE.values()}
    runs["mdlm"] = Runs((FakeResult(2, {"bits_valid": np.full(4, 5.5), "strict_valid": np.full(4, 5.5)}),))
    rows = {row[0]: row[2] for row in cells_of(figures.likelihoods.__wrapped__(replace(found, runs=runs)))[1]}
    assert (rows["MDLM"], rows["D3PM"]) == ("0.500", "0.000")


def test_controls_that_are_not_there_yet_are_left_out(chapter, monkeypatch):
    found = stored(chapter, *CORE.values())
    assert {*figures.trained(found)} >= {*CORE}
    monkeypatch.setattr(Found, "beside", lambda *arguments: None)
    assert [*figures.trained(found)] == [*CORE]
    assert {*CORE}.isdisjoint(MORE)


def test_other_texts_have_a_column_each(chapter):
    found = stored(chapter, *CORE.values())
    head, rows = cells_of(figures.zero_shot(chapter))
    names = [str(text) for text in found["mdlm"].first["texts"]]
    assert head[1:] == [figures.TEXTS[name] for name in names]
    for name, *cells in rows[: len(CORE)]:
        for text, cell in zip(names, cells, strict=True):
            assert cell.startswith(f"{bits(found[CORE[name]], text, 'strict').mean():.2f}") or "…" in cell


def test_the_short_runs_have_a_table_of_their_own(chapter):
    found = find(chapter, [*CORE.values()], ["cpu"], True)
    head, rows = cells_of(figures.quick(chapter))
    assert head[0] == f"method (cpu, {found.seeds})"
    (gap,) = (row[2] for row in rows if row[0] == "SEDD Uniform")
    assert gap == over_seeds(np.subtract(*common(found["sedd_uniform"], found["sedd_absorb"])), 3)
    assert {"SEDD Absorb", *MORE} <= {row[0] for row in rows}


# --- what networks write ------------------------------------------------------------------------------------


def test_texts_are_judged_at_every_number_of_steps(chapter, shown):
    figures_samples.steps_figure(chapter)
    found = stored(chapter, *figures_samples.WRITERS, "judged")
    (axes,) = shown.sheet.axes
    drawn = {each.get_label(): each.lines[0] for each in axes.containers}
    for label, name, method in (
        ("SEDD Absorb", "absorb", "tweedie"),
        ("SEDD Uniform, Euler", "uniform", "euler"),
    ):
        steps, judged = texts(found, name, method=method)
        assert list(drawn[label].get_xdata()) == list(steps) == list(found.settings.sample_steps)
        assert drawn[label].get_ydata() == pytest.approx(judged.mean(0))
    level = shown.lines()["autoregressive"].get_ydata()[0]
    assert level == pytest.approx(found["judged"]["autoregressive_network"][:, 0].mean())


def test_sharpened_texts_stand_beside_plain_ones(chapter, shown):
    figures_samples.frontier(chapter)
    found, lines = stored(chapter, *figures_samples.WRITERS, "judged"), shown.lines()
    line = lines["autoregressive, nucleus"]
    assert len(line.get_xdata()) == 1 + len(found.settings.nuclei)
    last = found.settings.nuclei[-1]
    for kind, values in (("entropy", line.get_xdata()), ("network", line.get_ydata())):
        assert values[0] == pytest.approx(found["judged"][f"autoregressive_{kind}"][:, 0].mean())
        assert values[-1] == pytest.approx(texts(found, "autoregressive", kind, top_p=last)[1].mean())
    assert lines["SEDD Absorb, temperature"].get_ydata()[0] == lines["SEDD Absorb, nucleus"].get_ydata()[0]


def test_costs_are_those_of_the_row(chapter):
    found = stored(chapter, *figures_samples.WRITERS, "samples_time_free", "judged")
    rows = {row[0]: row[1:] for row in cells_of(figures_samples.costs(chapter))[1]}
    length = found.settings.length
    assert rows["AR, cached"][0] == rows["first hitting"][0] == f"{length:.1f}"
    assert rows["SEDD, 64 steps"][0] == "65.0"
    counts = found["samples_time_free"]["evaluations"][:, list(found.settings.sample_steps).index(64)]
    assert rows["time-free, 64 steps"][0].startswith(f"{counts.mean():.1f}")
    seconds = 1000 * found["samples_autoregressive"]["seconds"]
    for label, k in (("cached", 0), ("no cache", -1)):
        assert rows[f"AR, {label}"][1].startswith(f"{seconds[:, k].mean():.1f}") or len(seconds) == 2


def test_texts_are_shown_as_they_are(chapter):
    assert words([0, 1, 26, 27]) == " az_"
    samples, fills = (draw(chapter) for draw in BLOCKS)
    run = stored(chapter, *figures_samples.WRITERS, "judged", "infilling")["samples_absorb"].first
    for text in run["tokens"][0][:2]:
        assert all(words(text) in found for found in (str(samples), samples.html))
    found = stored(chapter, "infilling", "counted_infilling")
    place = found["infilling"].first["place"]
    for tokens in (found["infilling"].first["both_tokens"], found["counted_infilling"].first["tokens"]):
        fill = words(tokens[0][place])
        assert f"[{fill}]" in str(fills)
        assert f">{fill}</span>" in fills.html


def test_a_row_of_texts_has_the_options_asked_for(chapter):
    found = stored(chapter, *figures_samples.WRITERS, "judged")
    run, top_p = found["samples_absorb"].first, found.settings.nuclei[0]
    tokens, judged = figures_samples.row_of(found, "absorb", top_p=top_p)
    (row,) = np.flatnonzero(run["top_p"] == top_p)
    assert np.array_equal(tokens, run["tokens"][row])
    assert np.array_equal(judged, found["judged"].first["absorb_network"][row])


def test_bits_of_the_middle_are_those_of_all_texts(chapter):
    found = stored(chapter, "infilling", "counted_infilling")
    rows = {row[0]: row[1] for row in cells_of(figures_samples.infill_table(chapter))[1]}
    for label, name in (("SEDD, both sides", "both"), ("AR, left side", "autoregressive")):
        level = f"{found['infilling'][f'bits_{name}'].mean():.2f}"
        assert rows[label].startswith(level) or "…" in rows[label]
    assert rows["5-grams, both sides"] == f"{found['counted_infilling'].first['bits'].mean():.2f}"


# --- exact scores, the paper's numbers, speed ---------------------------------------------------------------


def test_samplers_with_exact_scores_are_drawn_above_the_entropy(chapter, shown):
    figures.oracle(chapter)
    run = stored(chapter, "oracle_samplers").runs.first
    names = [
        f"{graph}, geometric, {how}" for graph in ("absorbing", "uniform") for how in ("tweedie", "euler")
    ]
    drawn = [each.lines[0] for axes in shown.sheet.axes for each in axes.containers]
    for name, line in zip(names, drawn, strict=True):
        assert line.get_ydata() == pytest.approx(row(run, "bits", samplers=name) - run["entropy"])


def test_the_paper_s_tables_with_their_ratios():
    block = figures.paper_tables()
    assert block.html.count("<table") == 5  # two sizes, one of them in two parts, text8 and LM1B
    for cell in ("−46\u00a0%", "+13\u00a0%", "+0.16", "−49\u00a0%", *LM1B):
        assert cell in str(block)


def test_speed_is_that_of_large_vocabularies(chapter):
    rows = [row for row in chapter.benchmark()["rows"] if row["task"] == "Score entropy"]
    large = [row for row in rows if row["sequences, length, states"][2] > 1000]
    _, shown = cells_of(figures.loss_table(chapter.benchmark()))
    assert [row[3] for row in shown] == [f"{row['both, ms']:.1f}" for row in large]


def test_every_number_of_the_page_is_finite(chapter):
    found = numbers(chapter)
    assert all(np.isfinite(value) for value in found.values() if not isinstance(value, str))
    assert not [name for name, value in found.items() if isinstance(value, str) and "nan" in value]


def test_the_thumbnail_is_the_same_each_time(chapter, tmp_path):
    assert_same_thumbnail_each_time(figures.thumbnail, chapter, tmp_path)

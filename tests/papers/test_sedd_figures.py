"""What is drawn of SEDD: every figure on results of a tiny preset, with any number of seeds and of texts."""

import types

import numpy as np
import pytest
from fakes import FakeResult, FakeStored, computed
from showing import assert_same_thumbnail_each_time

from loupe.experiment.render import Block
from loupe.experiment.results import Runs, stored
from loupe.papers import sedd as room
from loupe.papers.sedd import PRESETS, figures, figures_samples, figures_text
from loupe.papers.sedd.figures import LM1B, RANK, SENTENCE
from loupe.papers.sedd.figures_text import EXPERIMENTS, words

TINY = PRESETS["smoke"].override(
    {
        "toy_problems": 2, "oracle_sequences": 100, "oracle_steps": [2, 4], "characters": 20_000,
        "judge_characters": 20_000, "training": {"steps": 4, "evaluations": 2}, "sequences": 20,
        "curve_sequences": 4, "times": 2, "samples": 20, "sample_batch": 20, "sample_steps": [2, 3, 4], "race_steps": 3,
        "orders": 1,
    }
)  # fmt: skip
CHAPTER_FIGURES = ("curves", "zero_shot", "quality_figure", "evaluations", "races")
CHAPTER_BLOCKS = ("likelihood_table", "samples_table", "infill_figure", "infill_table")


def chapter_of(found, preset="smoke", of="smoke"):
    """A chapter at a preset, with the results of a preset."""
    of_preset = {(of, name): runs for name, runs in found.items()}
    return types.SimpleNamespace(preset=preset, stored=FakeStored(of_preset, preset), config=TINY)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """Every experiment of the chapter once, with the settings TINY."""
    return computed(
        room, TINY, ("identities", "oracle_samplers", "counted", *EXPERIMENTS.values()), tmp_path_factory
    )


def enlarged(tiny):
    """As at larger presets: some methods with two more seeds that wrote nothing, and two more texts for all."""
    rng, found = np.random.default_rng(0), dict(tiny)
    for name in EXPERIMENTS.values():
        first = dict(tiny[name].first)
        for text in ("wikitext2", "ptb"):
            first |= {f"{kind}_{text}": first[f"{kind}_valid"] + 0.1 for kind in ("bits", "strict")}
        first["texts"] = np.array(["valid", "wikitext2", "ptb"])
        own = ("method", "parameters", "steps", "texts", "curve_", "bits_", "strict_")
        others = []
        for seed in (1, 2) if name in ("sedd_absorb", "autoregressive") else ():
            few = {key: value for key, value in first.items() if key.startswith(own) and "sample" not in key}
            few["curve_bits"] = few["curve_bits"] + 0.1 * rng.standard_normal()
            others.append(FakeResult(seed, few))
        found[name] = Runs((FakeResult(0, first), *others))
    return found


def drawn(name):
    """A figure or table by name, wherever it lives."""
    return getattr(figures_samples, name, None) or getattr(figures_text, name)


def one_picture(rendered):
    assert [set(data) for data, _ in rendered.outputs] == [{"image/png", "text/plain"}, {"text/markdown"}]
    return rendered.caption


@pytest.mark.parametrize("name", ["corruption", "schedules", "barrier"])
def test_pictures_that_need_no_results(name, rendered):
    getattr(figures, name)()
    one_picture(rendered)


@pytest.mark.parametrize(
    ("draw", "experiment"),
    [(figures.tightness, "identities"), (figures.steps_of_exact_score, "identities"),
     (figures.oracle, "oracle_samplers"), (figures_text.excess, "sedd_absorb")],
)  # fmt: skip
def test_pictures_of_one_experiment(draw, experiment, tiny, rendered):
    draw(tiny[experiment])
    one_picture(rendered)


@pytest.mark.parametrize("name", CHAPTER_FIGURES)
def test_pictures_of_networks(name, tiny, rendered):
    assert drawn(name)(chapter_of(tiny)) is None
    assert "Preset `smoke`" in one_picture(rendered)


@pytest.mark.parametrize("name", CHAPTER_FIGURES)
def test_pictures_of_several_seeds_and_texts(name, tiny, rendered):
    drawn(name)(chapter_of(enlarged(tiny)))
    one_picture(rendered)


@pytest.mark.parametrize("change", [lambda tiny: tiny, enlarged], ids=["one seed", "three seeds"])
@pytest.mark.parametrize("name", CHAPTER_BLOCKS)
def test_blocks_of_networks(name, change, tiny):
    block = drawn(name)(chapter_of(change(tiny)))
    assert isinstance(block, Block)
    assert str(block)
    assert block.html.startswith(('<table class="loupe-', '<div class="loupe-'))  # pages know these


@pytest.mark.parametrize("name", [*CHAPTER_FIGURES, *CHAPTER_BLOCKS])
def test_what_is_not_computed_yet_is_said_in_one_sentence(name):
    assert str(drawn(name)(chapter_of({}))).endswith("has not been computed yet.")


@pytest.mark.parametrize("there", [True, False])
def test_levels_of_counting_are_drawn_where_they_are_stored(there, tiny, rendered):
    """A figure and its words follow from stored results alone."""
    run = tiny["counted"].first
    assert 0 < run["pairs"] < run["letters"] < np.log2(27)
    chapter = chapter_of({name: runs for name, runs in tiny.items() if there or name != "counted"})
    levels = {"letters counted": run["letters"], "pairs counted": run["pairs"]} if there else {}
    assert figures_text.references(chapter, "smoke") == levels
    figures_text.curves(chapter)
    assert ("entropies of single letters" in one_picture(rendered)) == there


def test_what_is_not_drawn_is_not_named(tiny, rendered):
    figures_text.zero_shot(chapter_of(enlarged(tiny)))
    caption = one_picture(rendered)
    assert "concrete score" not in caption
    assert "MDLM" in caption


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


def test_methods_are_never_of_two_presets(tiny):
    """At a preset that has one method only, that one is shown alone; one that has none borrows all of another."""
    absorb = {("smoke", "sedd_absorb"): tiny["sedd_absorb"]}
    every = {("cpu", name): tiny[name] for name in EXPERIMENTS.values()}
    chapter = types.SimpleNamespace(preset="smoke", stored=FakeStored(absorb | every), config=TINY)
    found = figures_text.trained(chapter)
    assert (found.preset, list(found.runs), found.config) == ("smoke", ["SEDD absorb"], TINY)
    chapter = types.SimpleNamespace(preset="smoke", stored=FakeStored(every), config=TINY)
    found = figures_text.trained(chapter)
    assert (found.preset, list(found.runs), found.config) == ("cpu", list(RANK), PRESETS["cpu"])


def test_results_of_another_preset_say_so():
    chapter = types.SimpleNamespace(preset="smoke", stored=FakeStored({("cpu", "a"): "runs"}))
    assert stored(chapter, "a") is None
    assert stored(chapter, "a", ("gpu", "cpu")).preset == "cpu"


def test_seeds_are_counted_in_words(tiny):
    assert figures_text.trained(chapter_of(tiny)).seeds() == "1 seed of every method"
    seeds = figures_text.trained(chapter_of(enlarged(tiny))).seeds()
    assert seeds.startswith("3 seeds of SEDD absorb, autoregressive; 1 seed of SEDD uniform, D3PM")


def test_an_interval_is_over_seeds_or_else_over_texts():
    values = np.array([[1.0, 3.0], [2.0, 4.0]])
    runs = Runs(tuple(FakeResult(seed, {"bits": row}) for seed, row in enumerate(values)))
    assert figures_text.mean_and_half(runs, "bits") == (2.5, pytest.approx(12.706 * 0.5, rel=1e-4))
    mean, half = figures_text.mean_and_half(Runs(runs.results[:1]), "bits")
    assert (mean, half) == (2.0, pytest.approx(12.706, rel=1e-4))


def test_texts_are_shown_as_they_are(tiny):
    assert words([0, 1, 26, 27]) == " az_"
    block = figures_samples.samples_table(chapter_of(tiny))
    for text in tiny["sedd_absorb"].first["tweedie 4 tokens"][:2]:
        assert words(text) in str(block)
        assert words(text) in block.html


def test_a_sentence_is_lost_for_good_under_masks():
    times = (0, 0.3, 0.6, 1)
    states = figures._corrupted(*(room.experiments.Absorbing(27), room.experiments.LogLinearNoise()), times)
    assert words(states[0]) == SENTENCE
    lost = states == 27
    assert (lost[1:] >= lost[:-1]).all()
    assert lost[-1].mean() > 0.9


def test_the_paper_s_tables_with_their_ratios():
    block = figures.headline_table()
    assert block.html.count("<table") == 3
    for words_of_it in ("−46\u00a0%", "+13\u00a0%", "+0.16", "1.95", "−49\u00a0%"):
        assert words_of_it in str(block)
    assert all(name in str(block) for name in LM1B)


def test_the_thumbnail_is_the_same_each_time(tiny, tmp_path):
    assert_same_thumbnail_each_time(figures.thumbnail, chapter_of(tiny), tmp_path)

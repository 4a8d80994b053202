"""What the paragraphs of the chapter sedd say in numbers follows from its stored results."""

import numpy as np
import pytest
import torch
from prose import prose

import loupe
from loupe.experiment.claims import t_interval
from loupe.experiment.results import stored_at
from loupe.metrics import loglog_fit
from loupe.papers.sedd.claims import CLAIMS, MATCHED, bits, expected_evaluations, quality
from loupe.papers.sedd.claims_reported import LM1B, TEXT8, ZERO_SHOT
from loupe.papers.sedd.config import PRESETS
from loupe.papers.sedd.experiments_text import METHODS
from loupe.papers.sedd.figures_text import EXPERIMENTS, interval

TEXT = prose("sedd")
IGNORANT = np.log2(27)  # bits per character of who knows nothing
VOCABULARY = 50_257  # tokens of GPT-2


@pytest.fixture(scope="module")
def chapter():
    return loupe.open_chapter("sedd", preset="cpu")


@pytest.fixture(scope="module")
def stored(chapter):
    return chapter.stored


@pytest.fixture(scope="module")
def trained(stored):
    """The runs of every method."""
    return {name: stored[experiment] for name, experiment in EXPERIMENTS.items()}


@pytest.fixture(scope="module")
def means(trained):
    """Strict bits per character of each method on validation text, over its seeds."""
    return {name: bits(runs, kind="strict").mean() for name, runs in trained.items()}


@pytest.fixture(scope="module")
def counted(stored):
    """Bits per character that counting characters gives, and counting pairs."""
    run = stored["counted"].first
    return run["letters"], run["pairs"]


# --- losses and steps ---------------------------------------------------------------------------------------


def test_methods_have_seen_as_much(trained):
    assert "seven methods with nearly the same network, the same text and the same number of steps" in TEXT
    assert "All have the same number of steps, so have seen as many characters" in TEXT
    assert len(trained) == 7
    assert len({(run["steps"], run["tokens_seen"]) for runs in trained.values() for run in runs}) == 1


def test_wrong_scores_may_like_a_single_text_better(stored):
    run = stored["identities"].first
    assert "Crosses below the line are texts that the wrong model likes better" in TEXT
    assert (run["bound_wrong"][0] < run["nats"][0]).any(-1).all()
    assert "the bound is tight for each text, not only on average" in TEXT
    assert run["bound_true"] == pytest.approx(run["nats"], rel=0.01)
    assert run["bound_wrong"] != pytest.approx(run["nats"], rel=0.01)


def test_constant_that_loses_its_digits():
    kappa = torch.tensor(1e-4).expm1()

    def constant(ratio):
        """That of a token that is as it was."""
        return (VOCABULARY - 1) * ratio * (ratio.log() - 1) / VOCABULARY

    factor = constant(1 - VOCABULARY / (kappa + VOCABULARY)) / constant(kappa / (kappa + VOCABULARY))
    assert (
        f"a vocabulary of 50,257 it leaves a constant that is wrong by a factor of about {factor:.0f}" in TEXT
    )


def test_scores_of_one_text():
    scores = VOCABULARY * 1024
    assert (
        f"the scores of one text of 1,024 tokens are {scores / 1e6:.0f} million numbers, {4e-6 * scores:.0f} MB"
        in TEXT
    )


def test_texts_of_the_benchmark(chapter):
    assert "For two texts of 64 tokens, forward and backward on one thread" in TEXT
    shapes = [row["sequences, length, states"] for row in chapter.benchmark()["rows"] if "graph" in row]
    assert {tuple(shape[:2]) for shape in shapes if shape[2] > 1000} == {(2, 64)}


def test_two_steps_are_one_for_masks(stored):
    run = stored["identities"].first
    assert "In the absorbing chain with log-linear noise the two are the same step" in TEXT
    gap = np.abs(run["tweedie"] - run["euler"])
    assert gap[:, 0, :3].max() < 1e-12
    assert min(gap[:, 0, 3:].max(), gap[:, 1].max()) > 1e-3


@pytest.fixture(scope="module")
def exact(stored):
    """Distances and bits above the entropy of samplers with exact scores, by sampler and number of steps."""
    run = stored["oracle_samplers"].first

    def by_steps(rows):
        return {
            str(name): dict(zip(run["steps"].tolist(), row, strict=True))
            for name, row in zip(run["samplers"], rows, strict=True)
        }

    return by_steps(run["distances"]), by_steps(run["bits"] - run["entropy"])


def test_schedule_of_masks_matters_more(exact):
    assert "the schedule matters more than the method" in TEXT
    assert "the geometric schedule leaves most of the work to few steps, and there Tweedie helps" in TEXT
    for found in exact:
        even, tweedie, euler = (
            found[f"absorbing, {name}"]
            for name in ("log-linear, tweedie", "geometric, tweedie", "geometric, euler")
        )
        assert all(even[n] < tweedie[n] < euler[n] for n in (2, 4, 8))
        assert tweedie[16] < euler[16]


def test_tweedie_early_and_euler_late(exact, stored):
    (near, far), (cheap, dear) = (
        [found[f"uniform, geometric, {method}"] for method in ("tweedie", "euler")] for found in exact
    )
    assert (
        "For uniform noise Tweedie is ahead at two steps and slightly at four "
        f"(distances {near[4]:.3f} and {far[4]:.3f})"
    ) in TEXT
    assert near[2] < far[2]
    assert 0 < far[4] - near[4] < far[2] - near[2]
    assert (
        "At eight and sixteen the distances are equal and the bits favor Euler "
        f"({cheap[8]:.2f} against {dear[8]:.2f} above the entropy at eight, "
        f"{cheap[16]:.2f} against {dear[16]:.2f} at sixteen), by more than chance"
    ) in TEXT
    errors = np.nanmax(stored["oracle_samplers"].first["bits_error"])
    for n in (8, 16):
        assert near[n] == pytest.approx(far[n], abs=2e-3)
        assert cheap[n] - dear[n] > 3 * errors
    assert "C11 holds for masks with geometric noise only" in TEXT


# --- likelihood ---------------------------------------------------------------------------------------------


def test_where_training_begins(trained):
    assert rf"Training therefore has to begin at $\log_2 27={IGNORANT:.2f}$ bits per character" in TEXT
    for name in ("SEDD absorb", "SEDD uniform"):
        assert trained[name]["loss"][:, 0].mean() == pytest.approx(IGNORANT, abs=0.25)


def test_parameters_that_take_in_the_noise(trained):
    ours = trained["SEDD absorb"].first["parameters"]
    for name in ("autoregressive", "time-free"):
        fewer = f"{100 * (1 - trained[name].first['parameters'] / ours):.0f} % fewer parameters"
        assert f"Networks without noise have no layers that take it in: {fewer}" in TEXT
        assert f"by {fewer.replace('fewer', 'of the')}" in TEXT


def test_margins_of_masks_and_of_order(trained, means):
    masks = means["SEDD uniform"] - means["SEDD absorb"]
    order = means["SEDD absorb"] - means["autoregressive"]
    assert (
        f"Masks are {masks:.2f} bits ahead of uniform letters, and the autoregressive network is {order:.2f} ahead"
        in TEXT
    )
    assert "the data do not say which margin is larger" in TEXT
    ours, uniform, causal = (
        bits(trained[name], kind="strict") for name in ("SEDD absorb", "SEDD uniform", "autoregressive")
    )
    low, high = t_interval(((uniform - ours) - (ours - causal)).tolist())
    assert low < 0 < high
    assert "Both are several times those on text8" in TEXT
    reported = TEXT8["SEDD Absorb"]
    assert masks > 3 * (TEXT8["SEDD Uniform"] - reported)
    assert order > 3 * (reported - TEXT8["autoregressive transformer"])


def test_networks_beside_counting(means, counted):
    letters, pairs = counted
    masks, uniform = means["SEDD absorb"], means["SEDD uniform"]
    assert (
        f"SEDD with masks ({masks:.2f}) has not quite reached what counting pairs gives ({pairs:.2f}), "
        f"SEDD with uniform letters ({uniform:.2f}) is just past counting letters ({letters:.2f})"
    ) in TEXT
    assert pairs < masks < pairs + 0.15
    assert letters - 0.15 < uniform < letters


def test_no_order_beside_d3pm(trained):
    assert "SEDD and D3PM on the same network do not differ by more than chance" in TEXT
    ours, theirs = (bits(trained[name], kind="strict") for name in ("SEDD absorb", "D3PM"))
    low, high = t_interval((ours - theirs).tolist())
    assert low < 0 < high


def test_squares(trained, counted):
    theirs = trained["concrete score"]
    place = trained["SEDD absorb"].seeds.index(theirs.seeds[0])
    ours = bits(trained["SEDD absorb"], kind="strict")[place]
    (found,) = bits(theirs, kind="strict")
    assert (
        f"The strict bound of concrete score matching is {found / ours:.2f} times SEDD's, from one seed"
        in TEXT
    )
    assert f"a network that knows nothing has {IGNORANT / ours:.2f} times as many" in TEXT
    assert f"{found - ours:.1f} bits behind and just below single letters" in TEXT
    letters, _ = counted
    assert letters - 0.15 < found < letters


def test_other_texts(trained):
    assert "Here the autoregressive network is ahead on every set" in TEXT
    assert "what carries over is only the gain of masks over uniform letters" in TEXT
    for text in trained["SEDD absorb"].first["texts"]:
        ours, order, uniform = (
            bits(trained[name], text, "strict") for name in ("SEDD absorb", "autoregressive", "SEDD uniform")
        )
        assert (order < ours).all()
        assert (ours < uniform).all()


def test_what_is_too_small_to_be_tested(chapter, means):
    behind = means["SEDD absorb"] - means["autoregressive"]
    assert (
        f"asks for networks within {MATCHED} bits per character of each other, and SEDD is {behind:.2f} behind"
        in TEXT
    )
    found = {one.claim.id: one for one in chapter.judge(CLAIMS)}
    for name in ("C8", "C10"):
        assert found[name].reason.startswith("not tested at this size: ")
    assert found["C12"].reason.startswith("withdrawn: ")


def test_tables_of_the_paper():
    small = ZERO_SHOT["small"]
    plaid, d3pm = (1 - np.array(small["SEDD Absorb"]) / small[name] for name in ("PLAID", "D3PM"))
    assert "the best of them, PLAID, is beaten by less on every set" in TEXT
    assert plaid.min() > 0
    assert plaid.max() < 0.25
    assert (plaid < d3pm).all()
    assert "on LM1B the smallest factor is just below the 2 that is said" in TEXT
    older = [LM1B[name] for name in ("DiffusionBert", "D3PM Absorb", "Diffusion-LM", "BERT-Mouth")]
    assert 1.9 < min(older) / LM1B["SEDD Absorb"] < 2


# --- writing ------------------------------------------------------------------------------------------------


def test_quality_and_steps(trained):
    ours = trained["SEDD absorb"].first
    steps = ours["sample_steps"].tolist()
    cost, distances = (dict(zip(steps, values, strict=True)) for values in quality(ours))
    asked = {n: expected_evaluations(n, ours["infill_place"].size) for n in (64, 256)}
    assert (
        "Quality rises up to about 64 steps, and little after: "
        f"64 steps already change something in {asked[64]:.0f} of them, 256 in {asked[256]:.0f} (C15)"
    ) in TEXT
    assert cost[4] - cost[64] > 10 * abs(cost[64] - cost[256])
    last = np.array([distances[n] for n in steps if n >= 16])
    assert f"The distance of pairs stops falling at 16 steps, at about {last[0]:.2f}" in TEXT
    assert distances[4] > distances[8] > distances[16] + 0.02
    assert last == pytest.approx(last[0], abs=0.01)
    fit = loglog_fit(steps, 2 ** quality(ours)[0])
    assert f"Over all seven numbers of steps the R² of a line is {fit[2]:.2f}" in TEXT
    assert len(steps) == 7


def test_gains_of_more_steps(chapter):
    (judgement,) = chapter.judge([claim for claim in CLAIMS if claim.id == "C9"])
    gap = judgement.measures[-1]
    half = (gap.high - gap.low) / 2
    assert (
        f"masks gain {-gap.value:.2f} bits more than uniform letters, with an interval of ± {half:.2f} over texts"
        in TEXT
    )
    assert judgement.verdict == "inconclusive"
    assert "All of C9 rests on one seed and stays open" in TEXT


def test_pairs_of_letters_of_other_texts(trained):
    ours, order = trained["SEDD absorb"].first, trained["autoregressive"].first
    real = ours["held out bigrams"]
    assert f"since held-out and autoregressive texts, as many, are at {real:.2f}" in TEXT
    assert order["autoregressive bigrams"] == pytest.approx(real, abs=0.005)
    assert len(order["autoregressive bits"]) == len(ours["held out bits"]) == len(ours["tweedie 64 bits"])


def test_autoregressive_text_is_better(chapter, trained):
    ours, order = trained["SEDD absorb"].first, trained["autoregressive"].first
    gap = ours["tweedie 256 bits"].mean() - order["autoregressive bits"].mean()
    assert f"The autoregressive text is better here, by {gap:.1f} bits. That is no test" in TEXT
    assert "The published configuration has four thousand times as many steps" in TEXT
    here, published = chapter.config, PRESETS["paper"]
    assert round(published.training.steps / here.training.steps, -3) == 4000
    more = published.training.batch * published.length / (here.training.batch * here.length)
    assert f"each of {more:.0f} times as many tokens" in TEXT
    assert "The entropy of masked text is within 2 % of real text" in TEXT
    assert ours["tweedie 256 entropy"].mean() == pytest.approx(ours["held out entropy"].mean(), rel=0.02)


def test_digits_of_a_race(trained):
    ours = trained["SEDD absorb"].first
    assert "text looks better, and varies less" in TEXT
    assert "in half precision 27 letters are enough to see it" in TEXT
    for what in ("bits", "entropy"):
        (half, few), (single, more), (double, most) = (
            interval(ours[f"race {digits} {what}"]) for digits in ("float16", "float32", "float64")
        )
        assert half + few < double - most
        assert abs(single - double) < more + most  # many steps and a large vocabulary it takes there


def test_what_the_right_side_saves(trained):
    ours = trained["SEDD absorb"].first
    both, before = ours["infill_bits_both"], ours["infill_bits_before"]
    saved, half = interval(before - both)
    assert f"The right side saves {saved:.2f} bits of {before.mean():.1f} for this one network" in TEXT
    assert saved > half
    assert (
        "has the very same middles in other places and gets 1, so this number cannot judge infilling" in TEXT
    )
    assert round(float(ours["infill_mauve_strangers"]), 3) == 1


# --- without time -------------------------------------------------------------------------------------------


def test_not_being_told_the_noise(trained, means):
    assert len(trained["time-free"]) == len(trained["MDLM"]) == 1
    assert (
        f"After {trained['MDLM'].first['steps']} batches the network without time has {means['time-free']:.2f} bits, "
        f"its twin with the noise as an input {means['MDLM']:.2f} (MDLM, the same loss, one seed)"
    ) in TEXT
    assert "That is not what the time is worth" in TEXT
    assert "early in training it helped" not in TEXT
    assert "may still help on the way" not in TEXT


# --- limitations --------------------------------------------------------------------------------------------


def test_sizes(chapter, trained):
    count = trained["SEDD absorb"].first["parameters"] / 1e6
    assert f"networks of {count:.1f} million parameters saw a few hundred batches of 64 characters" in TEXT
    assert 200 <= trained["SEDD absorb"].first["steps"] <= 500
    assert chapter.config.length == 64
    large = PRESETS["gpu"]
    millions = sum(each.numel() for each in METHODS["SEDD absorb"].network(large, 27, 0).parameters()) / 1e6
    assert (
        f"The preset `gpu` ({millions:.0f} million parameters, {large.length} characters) is written and has not "
        "been run"
    ) in TEXT
    assert stored_at(chapter, "sedd_absorb", "gpu") is None


def test_what_has_one_seed(trained):
    assert (
        "MDLM, the network without time and concrete score matching have one seed; so have all samples"
        in TEXT
    )
    single = {name for name, runs in trained.items() if len(runs) == 1}
    assert single == {"MDLM", "time-free", "concrete score"}
    for name in ("SEDD absorb", "SEDD uniform", "autoregressive"):
        assert sum("tweedie 64 bits" in run or "autoregressive bits" in run for run in trained[name]) == 1

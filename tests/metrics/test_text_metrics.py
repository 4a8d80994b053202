"""Text metrics against dictionaries, closed forms of chains, and text that is damaged on purpose."""

import itertools
import math
import re
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loupe.data import load
from loupe.metrics import (
    NGramJudge,
    bigram_distribution,
    bigram_rate_entropy,
    bigram_total_variation,
    divergence_area,
    loglog_fit,
    mauve27,
    ngram_infill,
    text,
    token_entropies,
    unigram_entropy,
)
from loupe.metrics.mauve import hash_bins, hashed_features

SHORT = st.integers(1, 12).flatmap(
    lambda length: st.lists(
        st.lists(st.integers(0, 2), min_size=length, max_size=length), min_size=1, max_size=4
    )
)


def entropy(counts):
    total = sum(counts)
    return -sum(count / total * math.log2(count / total) for count in counts if count)


def chain(symbols, seed=0):
    """A random Markov chain: its transitions, and its stationary law."""
    transitions = np.random.default_rng(seed).dirichlet(np.ones(symbols), size=symbols)
    return transitions, np.linalg.matrix_power(transitions, 200)[0]


def walk(transitions, n, seed=0):
    """n steps of a chain from state 0."""
    draws = np.random.default_rng(seed).random(n)
    ladder = transitions.cumsum(axis=1)
    states = np.zeros(n, dtype=np.uint8)
    for i in range(1, n):
        states[i] = min(np.searchsorted(ladder[states[i - 1]], draws[i]), len(ladder) - 1)
    return states


# --- judge --------------------------------------------------------------------------------------------------


def judged_by_dictionaries(rows, context, symbol, symbols, strength):
    """p(symbol | context) as the docstring states it, one n-gram after another."""
    seen = Counter(
        (tuple(row[i : i + len(context)]), row[i + len(context)])
        for row in rows
        for i in range(len(row) - len(context))
    )
    if not context:
        return (seen[(), symbol] + 1) / (sum(seen.values()) + symbols)
    followed = sum(seen[tuple(context), other] for other in range(symbols))
    shorter = judged_by_dictionaries(rows, context[1:], symbol, symbols, strength)
    return (seen[tuple(context), symbol] + strength * shorter) / (followed + strength)


@given(SHORT, SHORT, st.integers(1, 4), st.sampled_from([0.5, 5.0]))
@settings(max_examples=60, deadline=None)
def test_judge_is_its_definition(rows, judged, order, strength):
    judge = NGramJudge(rows, symbols=3, order=order, strength=strength)
    expected = [
        [
            -math.log2(judged_by_dictionaries(rows, row[max(0, i - order + 1) : i], row[i], 3, strength))
            for i in range(len(row))
        ]
        for row in judged
    ]
    np.testing.assert_allclose(judge.bits(judged), expected, atol=1e-12)
    np.testing.assert_allclose(judge.bits_per_character(judged), np.mean(expected, axis=1), atol=1e-12)


@pytest.mark.parametrize("length", [0, 1, 2, 3, 6])
def test_laws_sum_to_one_in_any_context_seen_or_not(length):
    judge = NGramJudge(walk(chain(4)[0], 40), symbols=4, order=4)
    contexts = np.array(list(itertools.product(range(4), repeat=length)))
    laws = judge.probabilities(contexts) if length else judge.tables[0]
    assert laws.shape == (4**length, 4)
    assert (laws > 0).all()
    np.testing.assert_allclose(laws.sum(axis=-1), 1, atol=1e-14)
    for context, law in zip(contexts.tolist(), laws, strict=True):
        whole = [[*context, symbol] for symbol in range(4)]
        np.testing.assert_array_equal(-np.log2(law), judge.bits(whole)[:, -1])


def test_counts_do_not_depend_on_blocks(monkeypatch):
    rows = np.random.default_rng(0).integers(3, size=(7, 50), dtype=np.uint8)

    def tables():
        texts = (rows, rows[0], rows[:, :4], rows[:, :2])
        return [table for ids in texts for table in NGramJudge(ids, symbols=3, order=4).tables]

    whole = tables()
    monkeypatch.setattr(text, "BLOCK", 11)
    for one, other in zip(whole, tables(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_n_grams_do_not_cross_from_one_text_to_the_next():
    apart = NGramJudge([[0, 0], [1, 1]], symbols=2, order=2)
    joined = NGramJudge([0, 0, 1, 1], symbols=2, order=2)
    assert apart.probabilities([0])[1] < joined.probabilities([0])[1]


def test_judge_finds_the_entropy_rate_of_a_chain_and_no_order_beats_it():
    transitions, law = chain(5)
    rate = -(law[:, None] * transitions * np.log2(transitions)).sum()
    ids = walk(transitions, 60_000)
    judge = NGramJudge(ids, symbols=5, order=3)
    fresh = walk(transitions, 60_000, seed=1)
    assert judge.bits(fresh).mean() == pytest.approx(rate, abs=0.02)
    assert bigram_rate_entropy(ids, 5) == pytest.approx(rate, abs=0.02)
    assert unigram_entropy(ids, 5) == pytest.approx(-(law * np.log2(law)).sum(), abs=0.02)


def test_judge_prefers_text_and_the_longer_order():
    train, held = load("novels27", characters=300_000).ids, load("novels27", split="valid").ids[:50_000]
    bits = [NGramJudge(train, order=order).bits(held).mean() for order in (1, 2, 3, 4)]
    assert bits == sorted(bits, reverse=True)
    judge = NGramJudge(train, order=4)
    noise = np.random.default_rng(0).permutation(held)
    assert judge.bits(noise).mean() > bits[0] > bits[3]
    np.testing.assert_array_equal(judge.bits(held), NGramJudge(train.astype(np.int64), order=4).bits(held))


def test_lengths_and_kinds_of_sequences():
    judge = NGramJudge([0, 1, 2, 0, 1, 2], symbols=3, order=3)
    rows = np.random.default_rng(0).integers(3, size=(2, 4, 9))
    assert judge.bits(rows).shape == (2, 4, 9)
    assert judge.bits_per_character(rows).shape == (2, 4)
    np.testing.assert_array_equal(judge.bits(rows)[1, 2], judge.bits(rows[1, 2].astype(np.uint8)))
    np.testing.assert_array_equal(judge.bits(rows)[..., :1], judge.bits(rows[..., :1]))
    assert judge.bits(rows.tolist()).dtype == np.float64


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: NGramJudge([0, 27]), "ids go from 0 to 27, outside 0 to 26"),
        (lambda: NGramJudge([-1, 3]), "ids go from -1 to 3"),
        (lambda: NGramJudge([]), "at least one symbol"),
        (lambda: NGramJudge([0.0, 1.0]), "must be integers"),
        (lambda: NGramJudge([0], order=0), "order must be at least 1"),
        (lambda: NGramJudge([0], order=6), "choose a smaller order"),
        (lambda: NGramJudge([0], strength=0), "strength must be positive"),
        (lambda: NGramJudge([0], strength=math.nan), "strength must be positive"),
        (lambda: NGramJudge([0], symbols=0), "symbols must be a positive whole number, got 0"),
        (
            lambda: NGramJudge([0], symbols=2, order=2).bits([[0, 2]]),
            "sequences go from 0 to 2, outside 0 to 1",
        ),
        (lambda: NGramJudge([0], symbols=2, order=2).probabilities([[0, 2]]), "contexts go from 0 to 2"),
        (lambda: unigram_entropy([[0, 27]]), "sequences go from 0 to 27"),
        (lambda: token_entropies(np.zeros((3, 0), dtype=int)), "at least one symbol"),
        (lambda: bigram_rate_entropy([[0], [1]]), "at least 2 symbols, got 1"),
        (lambda: bigram_total_variation([0, 1], np.ones((2, 3)) / 6), "square"),
        (lambda: bigram_total_variation([0, 1], np.ones((2, 2)) / 2), "a sum 2: of transitions A"),
        (lambda: bigram_total_variation([0, 1], [[1.5, -0.5], [0, 0]]), "a least value -0.5"),
        (lambda: bigram_total_variation([0, 1], [[math.nan, 1], [0, 0]]), "joint probabilities"),
        (lambda: loglog_fit([1, 2, 0], [1, 2, 3]), "x must be positive"),
        (lambda: loglog_fit([1, 2, 3], [1, -2, 3]), "y must be positive to have a logarithm, got -2"),
        (lambda: loglog_fit([2, 2, 2], [1, 2, 3]), "x must vary"),
        (lambda: loglog_fit([1, 2], [1, 2]), "at least 3"),
        (lambda: mauve27(np.zeros((19, 8), int), np.zeros((30, 8), int)), "p_sequences must be at least 20"),
        (lambda: mauve27(np.zeros((30, 8), int), np.zeros((30, 3), int)), "at least 4 symbols"),
        (lambda: mauve27(np.zeros((30, 8), int), np.zeros((30, 9), int)), "length 8, q_sequences 9"),
        (lambda: mauve27(np.zeros((30, 8), int), np.zeros((30, 8), int)), "only 1 sequences differ"),
        (lambda: mauve27(np.zeros((30, 8), int), np.full((30, 8), 27)), "q_sequences go from 27 to 27"),
    ],
)
def test_bad_input_is_named(call, says):
    with pytest.raises(ValueError, match=re.escape(says)):
        call()


# --- entropies and pairs ------------------------------------------------------------------------------------


@given(SHORT)
@settings(max_examples=60, deadline=None)
def test_entropies_are_their_definitions(rows):
    flat = [symbol for row in rows for symbol in row]
    assert unigram_entropy(rows, 3) == pytest.approx(entropy(Counter(flat).values()), abs=1e-12)
    expected = [entropy(Counter(row).values()) for row in rows]
    np.testing.assert_allclose(token_entropies(rows, 3), expected, atol=1e-12)
    assert token_entropies(rows, 3).mean() <= unigram_entropy(rows, 3) + 1e-12  # entropy is concave
    pairs = Counter(pair for row in rows for pair in itertools.pairwise(row))
    if pairs:
        heads = Counter(a for row in rows for a in row[:-1])
        rate = bigram_rate_entropy(rows, 3)
        assert rate == pytest.approx(entropy(pairs.values()) - entropy(heads.values()), abs=1e-12)
        assert rate >= 0
        table = bigram_distribution(rows, 3)
        total = sum(pairs.values())
        assert table.tolist() == [[pairs[a, b] / total for b in range(3)] for a in range(3)]
        reference = np.arange(9).reshape(3, 3) / 36
        distance = sum(abs(pairs[a, b] / total - reference[a, b]) for a in range(3) for b in range(3)) / 2
        assert bigram_total_variation(rows, reference) == pytest.approx(distance, abs=1e-12)


def test_entropies_at_their_ends():
    assert unigram_entropy(np.arange(27)) == pytest.approx(math.log2(27))
    assert math.copysign(1, unigram_entropy([5, 5, 5])) == 1  # zero, not minus zero
    repeats = np.repeat(np.arange(27)[:, None], 8, axis=1)
    assert unigram_entropy(repeats) == pytest.approx(math.log2(27))
    assert not token_entropies(repeats).any()
    assert bigram_rate_entropy(repeats) == pytest.approx(0, abs=1e-12)
    assert token_entropies(np.zeros((2, 3, 4), dtype=np.uint8)).shape == (2, 3)


def test_total_variation_from_zero_to_one():
    ids = walk(chain(4)[0], 500)
    assert bigram_total_variation(ids, bigram_distribution(ids, 4)) == 0
    assert bigram_total_variation(np.zeros(9, dtype=int), [[0, 0.5], [0.5, 0]]) == 1


def test_total_variation_of_samples_is_at_its_floor():
    table = np.random.default_rng(0).dirichlet(np.ones(16)).reshape(4, 4)
    pairs = 4_000
    drawn = np.random.default_rng(1).choice(16, size=(50, pairs), p=table.reshape(-1))
    found = [bigram_total_variation(np.stack([one // 4, one % 4], axis=1), table) for one in drawn]
    floor = np.sqrt(table / (2 * math.pi * pairs)).sum()
    assert np.mean(found) == pytest.approx(floor, rel=0.15)


def test_loglog_fit():
    x = np.array([2.0, 4, 8, 16, 32])
    assert loglog_fit(x, 5 * x**-0.7) == pytest.approx((-0.7, math.log(5), 1))
    y = np.array([3.0, 2, 2.5, 1, 0.7])
    slope, intercept, r_squared = loglog_fit(x, y)
    assert [slope, intercept] == pytest.approx(np.polyfit(np.log(x), np.log(y), 1).tolist())
    assert r_squared == pytest.approx(np.corrcoef(np.log(x), np.log(y))[0, 1] ** 2)
    assert math.isnan(loglog_fit(x, np.ones(5))[2])


# --- MAUVE-27 -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def halves():
    """Two sets of 300 crops of one held-out text, drawn at random."""
    ids = load("novels27", split="valid").ids
    rows = np.random.default_rng(0).permutation(ids[: len(ids) // 64 * 64].reshape(-1, 64))
    return rows[:300], rows[300:600]


def damaged(rows, share):
    rng = np.random.default_rng(1)
    return np.where(rng.random(rows.shape) < share, rng.integers(27, size=rows.shape), rows)


def test_mauve27_falls_as_text_is_damaged(halves):
    p, q = halves
    same = mauve27(p, q)
    light, heavy = mauve27(p, damaged(q, 0.1)), mauve27(p, damaged(q, 0.3))
    noise = mauve27(p, np.random.default_rng(2).permutation(q.reshape(-1)).reshape(q.shape))
    assert 1 >= same > 0.9
    assert same - 0.03 > light > heavy + 0.1
    assert heavy > noise > 0
    assert noise < 0.1


def test_mauve27_is_deterministic_and_nearly_symmetric(halves):
    p, q = halves
    assert mauve27(p, q, seed=3) == mauve27(p.astype(np.int64), q, seed=3)
    assert mauve27(p, q) == pytest.approx(mauve27(q, p), abs=0.05)
    assert mauve27(p, p) == 1


def test_mauve27_of_small_and_of_collapsed_sets(halves):
    p, q = halves
    assert 0 < mauve27(p[:20], q[:20]) <= 1
    assert mauve27(p, np.zeros_like(q)) < 0.05
    assert 0 < mauve27(p[:40], q) <= 1


@given(
    st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=6), st.sampled_from([1, 5])
)
@settings(max_examples=60, deadline=None)
def test_divergence_area_is_its_definition(counts, scaling):
    p, q = (np.add(column, 1e-3 * (sum(column) == 0)) for column in zip(*counts, strict=True))
    p, q = p / p.sum(), q / q.sum()
    points = [(0.0, 1.0)]
    for weight in np.linspace(1 - 1e-6, 1e-6, 25):
        r = [weight * a + (1 - weight) * b for a, b in zip(p, q, strict=True)]
        kl = [sum(a * math.log(a / c) for a, c in zip(one, r, strict=True) if a > 0) for one in (q, p)]
        points.append(tuple(math.exp(-scaling * k) for k in kl))
    points.append((1.0, 0.0))
    area = sum((x1 - x0) * (y0 + y1) / 2 for (x0, y0), (x1, y1) in itertools.pairwise(points))
    assert divergence_area(p, q, scaling=scaling) == pytest.approx(area, abs=1e-12)
    assert divergence_area(q, p, scaling=scaling) == pytest.approx(area, abs=1e-9)
    assert 0 < area <= 1 + 1e-9


def test_features_are_roots_of_hashed_counts():
    rows = np.random.default_rng(0).integers(27, size=(3, 20), dtype=np.uint8)
    expected = np.zeros((3, 4096))
    for i, row in enumerate(rows.tolist()):
        for a, b, c, d in zip(row, row[1:], row[2:], row[3:], strict=False):
            expected[i, murmur_bin(((a * 27 + b) * 27 + c) * 27 + d)] += 1
    expected = np.sqrt(expected)
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(hashed_features(rows), expected, atol=1e-6)


def murmur_bin(code):
    """The hash in whole numbers of any size."""
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        code = (code ^ (code >> shift)) * factor % 2**32
    return (code ^ (code >> 16)) >> 20


def test_bins_are_evenly_filled_and_neighbours_part():
    bins = hash_bins(np.arange(27**4))
    load_of = np.bincount(bins, minlength=4096)
    chi_square = ((load_of - load_of.mean()) ** 2 / load_of.mean()).sum() / 4095
    assert 0.9 < chi_square < 1.1  # one if each code falls at random
    for step in (1, 27, 27**2, 27**3):  # codes that differ in one symbol
        assert np.mean(bins[step:] == bins[:-step]) == pytest.approx(1 / 4096, rel=0.5)


def test_gaps_filled_by_counting_have_the_distribution_of_all_that_could_stand_there():
    rng = np.random.default_rng(0)
    model = NGramJudge(np.where(rng.random(900) < 0.4, np.arange(900) % 3, 0), symbols=3, order=3)
    text, every = rng.integers(3, size=12), np.array(list(itertools.product(range(3), repeat=3)))
    whole = np.tile(text[:9], (27, 1))  # order - 1 characters after the gap are all that matters
    whole[:, 4:7] = every
    chances = 2 ** -model.bits(whole).sum(-1)
    chances /= chances.sum()
    texts = np.tile(text, (4000, 1))
    tokens, bits = ngram_infill(model, texts, 4, 3, rng)
    assert np.allclose(bits, -np.log2(chances[text[4:7] @ [9, 3, 1]]) / 3, rtol=1e-5)
    assert np.array_equal(np.delete(tokens, [4, 5, 6], axis=1), np.delete(texts, [4, 5, 6], axis=1))
    found = np.bincount(tokens[:, 4:7] @ [9, 3, 1], minlength=27) / len(tokens)
    # Three times the total variation that so many draws have on average.
    assert abs(found - chances).sum() / 2 < 3 * np.sqrt(chances / (2 * np.pi * len(tokens))).sum()
    near = text[:8]  # fewer characters after the gap than the model looks back
    assert np.isfinite(ngram_infill(model, near[None], 4, 3, rng)[1]).all()
    for start, size in ((1, 3), (4, 0), (4, 9)):
        with pytest.raises(ValueError, match="a gap is inside the text, after 2 symbols or more; got"):
            ngram_infill(model, texts[:1], start, size, rng)

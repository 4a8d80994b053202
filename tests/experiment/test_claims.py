"""Verdicts follow from measures."""

import json
import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from toy import CLAIMS

from loupe.errors import LoupeError
from loupe.experiment import claims as c
from loupe.experiment import render
from loupe.experiment.claims import Band, Claim, Measure, at_least, at_most, between
from loupe.experiment.folders import MissingResultError, StoreError


@pytest.mark.parametrize(
    ("measure", "outcome"),
    [
        (Measure("x", 1.0, at_most(1.0)), c.REPRODUCED),
        (Measure("x", 1.1, at_most(1.0)), c.NOT_REPRODUCED),
        (Measure("x", 0.5, at_most(1.0), 0.4, 0.9), c.REPRODUCED),
        (Measure("x", 0.9, at_most(1.0), 0.4, 1.4), c.INCONCLUSIVE),
        (Measure("x", 1.1, at_most(1.0), 0.9, 1.3), c.INCONCLUSIVE),
        (Measure("x", 1.5, at_most(1.0), 1.1, 1.9), c.NOT_REPRODUCED),
        (Measure("x", 0.5, at_least(1.0), 0.1, 0.9), c.NOT_REPRODUCED),
        (Measure("x", 2.0, between(1, 3), 0.5, 3.5), c.INCONCLUSIVE),
        (Measure("x", math.nan, at_most(1.0)), c.INCONCLUSIVE),
        (Measure.of_seeds("x", [0.5, math.nan], at_most(1.0)), c.INCONCLUSIVE),
        (Measure.of_seeds("x", [0.5, math.nan], at_most(1.0), every=True), c.INCONCLUSIVE),
        (Measure.of_seeds("x", [0.5], at_most(1.0)), c.INCONCLUSIVE),
        (Measure.of_seeds("x", [0.9, 1.0, 1.2], at_most(1.1), every=True), c.NOT_REPRODUCED),
        # By chance 1 in 16.
        (Measure.of_seeds("x", [0.9, 1.0, 1.05, 1.0], at_most(1.5), every=True), c.INCONCLUSIVE),
        (Measure.of_seeds("x", [0.9, 1.0, 1.05, 1.0, 0.98], at_most(1.5), every=True), c.REPRODUCED),
        # The interval leaves the band.
        (Measure.of_seeds("x", [0.0, 1.0, 1.0, 1.0, 1.0], at_most(1.0), every=True), c.INCONCLUSIVE),
        (Measure.of_seeds("x", [0.9, 1.0, 1.05], at_most(1.2)), c.REPRODUCED),
    ],
)
def test_outcomes(measure, outcome):
    assert measure.outcome == outcome


HOLDS, FAILS, OPEN = (Measure("m", value, at_most(1)) for value in (0, 2, math.nan))


@pytest.mark.parametrize(
    ("measures", "verdict"),
    [
        ([HOLDS] * 2, c.REPRODUCED),
        ([FAILS], c.NOT_REPRODUCED),
        ([HOLDS, FAILS], c.NOT_REPRODUCED),
        ([HOLDS, OPEN], c.INCONCLUSIVE),
        ([FAILS, OPEN], c.NOT_REPRODUCED),
        ([HOLDS.as_primary(), FAILS, OPEN], c.PARTLY),
        ([HOLDS.as_primary(), OPEN], c.INCONCLUSIVE),
        ([OPEN.as_primary(), FAILS], c.NOT_REPRODUCED),
        ([FAILS.as_primary(), HOLDS], c.NOT_REPRODUCED),
    ],
)
def test_one_part_that_fails_decides_unless_the_primary_holds(measures, verdict):
    assert c.combine(measures) == verdict


def test_pairs_are_compared_pair_by_pair():
    ours, theirs = [1.0, 2.0, 4.0], [2.0, 4.0, 8.0]
    apart = Measure.paired("m", ours, theirs, at_most(0))
    assert (apart.value, apart.low, apart.high) == pytest.approx((-7 / 3, *c.t_interval([-1, -2, -4])))
    half = Measure.ratio("m", ours, theirs, at_most(0.6))
    assert (half.value, half.low, half.high) == pytest.approx((0.5, 0.5, 0.5))
    assert (half.units, half.outcome) == (3, c.REPRODUCED)
    with pytest.raises(ValueError, match="shorter"):
        Measure.paired("m", ours, theirs[:2], at_most(0))
    with pytest.raises(ValueError, match="positive values, got 0"):
        Measure.ratio("m", [0.0, 1.0], [1.0, 1.0], at_most(0))


def judged_as(kind, measure):
    claim = Claim("X1", "s", "Sec.", "p", kind, "c", lambda results: [measure], ("cpu",))
    return c.judge(claim, "cpu", {})


def verdict_of(measure, kind="statistical"):
    judged = judged_as(kind, measure)
    return judged.verdict, judged.measures[0].open


@pytest.mark.parametrize(
    ("measure", "word"),
    [
        (Measure("m", 0.5, at_most(1)), "no interval"),
        (Measure("m", 0.5, at_most(1), 0.4, 0.6), "no interval over independent units"),
        (Measure("m", 0.5, at_most(1), units=9), "no interval"),
        (
            Measure.of_seeds("m", [0.5, 0.51], at_most(10)),
            "3 independent runs are needed, and this rests on 2",
        ),
        (Measure.of_seeds("m", [5.0, 5.1], at_most(1)), "rests on 2"),
        (replace(Measure.of_seeds("m", [0.5, 0.5, 0.51], at_most(1)), needs=5), "5 independent runs"),
    ],
)
def test_a_statistical_claim_needs_three_units_and_an_interval(measure, word):
    verdict, why = verdict_of(measure)
    assert verdict == c.INCONCLUSIVE
    assert word in why
    assert verdict_of(measure, "arithmetic")[1] == ""


def test_samples_of_one_network_say_that_they_are():
    measure = Measure.over_samples("m", [0.5, 0.6, 0.55, 0.5], at_most(1))
    assert verdict_of(measure) == (c.REPRODUCED, "")
    assert "one network" in measure.basis


def test_a_measure_that_its_control_passes_decides_nothing():
    measure = Measure.of_seeds("m", [0.5, 0.5, 0.51], at_most(1))
    assert verdict_of(measure.against("constant", 2))[0] == c.REPRODUCED
    assert verdict_of(measure.against("constant", 0.9))[0] == c.INCONCLUSIVE
    assert verdict_of(Measure("m", 3, at_most(1)).against("constant", 0.9), "exact")[0] == c.NOT_REPRODUCED
    with pytest.raises(ValueError, match="nan"):
        measure.against("constant", math.nan)


def test_a_withdrawn_claim_is_open_where_it_was_judged():
    claim = Claim("X1", "s", "Sec.", "p", "exact", "c", lambda r: [HOLDS], ("cpu",), withdrawn="no density")
    judged = c.judge(claim, "cpu", {})
    assert (judged.verdict, judged.measures, judged.reason) == (c.INCONCLUSIVE, (), "withdrawn: no density")
    assert c.judge(claim, "gpu", {}).verdict == c.NOT_TESTED


def test_what_is_too_small_says_both_sides():
    def small(results):
        raise c.too_small("the criterion asks for 1.5", "knowing nothing gives 1.41")

    judged = c.judge(Claim("X", "s", "Sec.", "p", "statistical", "c", small, ("cpu",)), "cpu", {})
    why = "not tested at this size: the criterion asks for 1.5, and knowing nothing gives 1.41"
    assert (judged.verdict, judged.reason) == (c.NOT_TESTED, why)


def test_a_judge_without_measures_is_our_mistake():
    with pytest.raises(ValueError, match="at least one"):
        c.combine([])


def test_t_interval_is_scipys():
    values = [1.0, 2.0, 4.0, 4.5]
    expected = stats.t.interval(0.95, 3, loc=sum(values) / 4, scale=stats.sem(values))
    assert c.t_interval(values) == pytest.approx(expected, rel=1e-12)
    assert all(math.isnan(end) for values in ([1.0], [], [1.0, math.nan]) for end in c.t_interval(values))


def test_judging_at_other_presets_says_why():
    judged = c.judge(CLAIMS[1], "cpu", {})
    assert (judged.verdict, judged.reason) == (c.NOT_TESTED, "needs a telescope")


def test_reported_claims_are_never_judged():
    assert judged_as("reported", HOLDS).verdict == c.NOT_TESTED


def test_a_damaged_result_is_not_excused():
    def broken(results):
        raise StoreError("x.npz is damaged")

    with pytest.raises(StoreError):
        c.judge(Claim("X", "s", "Sec.", "p", "exact", "c", broken, ("cpu",)), "cpu", {})


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (MissingResultError("type `loupe compute`."), "not all computed at cpu yet"),
        (LoupeError("no run converged."), "no run converged."),
    ],
)
def test_what_cannot_be_judged_is_not_a_verdict_on_the_paper(error, reason):
    class Missing(dict):
        def __missing__(self, key):
            raise error

    judged = c.judge(CLAIMS[0], "cpu", Missing())
    assert (judged.verdict, judged.reason) == (c.NOT_TESTED, reason)


def test_only_exact_claims_break_a_build():
    judged = [judged_as("exact", HOLDS), judged_as("exact", FAILS), judged_as("statistical", FAILS)]
    assert c.failed_exact(judged) == [judged[1]]


def test_ledger_json_is_strict_and_complete():
    content = json.loads(c.ledger_json("slug", "cpu", [judged_as("exact", OPEN)]))
    (claim,) = content["claims"]
    assert claim["verdict"] == c.INCONCLUSIVE
    assert claim["measures"][0]["value"] is None
    assert claim["measures"][0]["accepts"] == [None, 1]


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (1.0, "1"), (0.03124, "0.0312"), (1.585, "1.58"), (12.34, "12.3"), (1234.5, "1234"),
     (2.1e-13, "2.1e-13"), (1e-12, "1e-12"), (-0.0242, "−0.0242"), (math.nan, "none"), (None, "none"),
     (1.5e7, "1.5e7"), (0.9999, "0.9999"), (-0.9998, "−0.9998"), (0.99949, "0.999"), (1 - 1e-9, "1")],
)  # fmt: skip
def test_numbers_are_short(value, text):
    assert c.number(value) == text


@given(st.floats(-1e4, 1e4).filter(lambda x: x == 0 or abs(x) > 1e-3))
def test_numbers_keep_three_digits(value):
    assert float(c.number(value).replace("−", "-")) == pytest.approx(value, rel=6e-3, abs=1e-12)


def test_bands_in_words():
    assert [str(band) for band in (at_most(1e-12), at_least(0.9), Band(1, 2))] == [
        "≤ 1e-12",
        "≥ 0.9",
        "in [1, 2]",
    ]


def test_the_ledger_shows_mark_word_and_colour_and_escapes():
    claim = Claim(
        "X1", "a < b", "Sec. 1", "p & q", "exact", "c", lambda r: [Measure("m", 1, at_most(1))], ("cpu",)
    )
    one = [c.judge(claim, "cpu", {})]
    block = render.ledger({"gpu": one, "cpu": one})
    assert 'class="verdict reproduced" href="#claim-x1"' in block.html
    assert '<span class="mark" aria-hidden="true">●</span> reproduced' in block.html
    assert "a &lt; b" in block.html
    assert "p &amp; q" in block.html
    assert "ours · gpu" in block.html
    assert "gpu: ● reproduced" in str(block)
    assert set(block._repr_mimebundle_()) == {"text/html", "text/plain"}


def test_the_ledger_shows_controls_and_what_is_open():
    measure = Measure.of_seeds("m", [0.5], at_most(1)).against("the <score> 0", 3)
    claim = Claim("X1", "s", "Sec. 1", "p", "statistical", "c", lambda r: [measure], ("cpu",))
    block = render.ledger({"cpu": [c.judge(claim, "cpu", {})]})
    assert "control: the &lt;score&gt; 0 3" in block.html
    for shown in ("control: the <score> 0 3", "open: 3 independent runs are needed, and this rests on 1"):
        assert shown in str(block)


def test_tally():
    assert render.tally([c.REPRODUCED, c.PARTLY, c.INCONCLUSIVE, c.NOT_TESTED]) == "● 1  ◐ 2  ○ 1"

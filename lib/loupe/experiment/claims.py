"""Claims: a statement of a paper, a criterion that a machine can judge, and the verdict that follows.

A claim's ``judge`` turns stored results into measures; each measure carries the band of values that the claim
accepts. The verdict follows from the measures alone, and nobody writes one by hand.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from numbers import Number
from statistics import fmean, stdev
from typing import Any, Literal

from loupe.errors import LoupeError
from loupe.experiment.folders import MissingResultError, StoreError, stamped

REPRODUCED, PARTLY, NOT_REPRODUCED = "reproduced", "partly", "not reproduced"
INCONCLUSIVE, NOT_TESTED = "inconclusive", "not tested here"
VERDICTS = (REPRODUCED, PARTLY, INCONCLUSIVE, NOT_REPRODUCED, NOT_TESTED)


@dataclass(frozen=True)
class Band:
    """The closed interval of values that a criterion accepts."""

    low: float = -math.inf
    high: float = math.inf

    def __contains__(self, value: float) -> bool:
        return self.low <= value <= self.high

    def __str__(self) -> str:
        if self.low == -math.inf:
            return f"≤ {number(self.high)}"
        return (
            f"≥ {number(self.low)}"
            if self.high == math.inf
            else f"in [{number(self.low)}, {number(self.high)}]"
        )


def at_most(high: float) -> Band:
    """Values up to ``high``."""
    return Band(high=high)


def at_least(low: float) -> Band:
    """Values from ``low`` on."""
    return Band(low=low)


def between(low: float, high: float) -> Band:
    """Values from ``low`` to ``high``."""
    return Band(low, high)


@dataclass(frozen=True)
class Measure:
    """One measured quantity of a claim with the band that it has to lie in.

    Parameters
    ----------
    label
        What was measured, in a few words.
    value
        The measured value.
    accepts
        The values that the claim accepts.
    low, high
        Ends of the confidence interval, or ``None`` where there is none.
    basis
        What the interval or the value rests on ("95 % t interval, 5 seeds").
    each
        Values that have to lie in the band one by one, where the criterion asks it of every seed; the
        interval is then shown and does not decide.
    """

    label: str
    value: float
    accepts: Band
    low: float | None = None
    high: float | None = None
    basis: str = ""
    each: tuple[float, ...] = ()

    @classmethod
    def of_seeds(
        cls, label: str, values: Iterable[float], accepts: Band, *, every: bool = False
    ) -> "Measure":
        """The mean over seeds with its 95 % t interval.

        The interval decides, and one seed, which has none, decides nothing; with ``every`` the criterion is asked of
        every single seed instead.
        """
        values = [float(value) for value in values]
        low, high = t_interval(values)
        basis = f"mean of {len(values)} seeds, 95 % t interval" if len(values) > 1 else "one seed"
        if every and len(values) > 1:
            basis = f"every one of {len(values)} seeds; shown: mean, 95 % t interval"
        return cls(label, fmean(values), accepts, low, high, basis, tuple(values) if every else ())

    @property
    def outcome(self) -> str:
        """``reproduced``, ``not reproduced``, or ``inconclusive`` if the interval covers both."""
        if math.isnan(self.value):
            return INCONCLUSIVE
        if self.each:
            return REPRODUCED if all(value in self.accepts for value in self.each) else NOT_REPRODUCED
        if self.low is None:
            return REPRODUCED if self.value in self.accepts else NOT_REPRODUCED
        if math.isnan(self.low):
            return INCONCLUSIVE
        if self.low in self.accepts and self.high in self.accepts:
            return REPRODUCED
        apart = self.high < self.accepts.low or self.low > self.accepts.high
        return NOT_REPRODUCED if apart else INCONCLUSIVE


def t_interval(values: Sequence[float], confidence: float = 0.95) -> tuple[float | None, float | None]:
    """The two-sided Student interval for the mean of independent values; nan for fewer than two, or where one is nan."""
    if len(values) < 2 or not all(map(math.isfinite, values)):
        return math.nan, math.nan
    from scipy.stats import t  # heavy, and only needed when something is judged

    half = float(t.ppf((1 + confidence) / 2, len(values) - 1)) * stdev(values) / math.sqrt(len(values))
    return fmean(values) - half, fmean(values) + half


@dataclass(frozen=True)
class Claim:
    """A claim of a paper.

    Parameters
    ----------
    id
        Short name, such as ``PH1``; the chapter's paragraph that earns the verdict is labelled ``claim-ph1``.
    statement
        What is claimed, in one sentence.
    source
        Where the paper says so, or who else does.
    paper
        What the paper reports, as text for the ledger.
    kind
        ``exact`` (an identity, must hold at every preset), ``arithmetic`` (on the paper's own numbers, which may not
        bear it out), ``statistical``, ``timing`` (judged in ``benchmarks/``) or ``reported`` (shown, never judged).
    criterion
        When the claim counts as reproduced, in words.
    judge
        ``judge(results)`` with ``results[experiment]`` the runs of one experiment over its seeds; returns measures.
    at
        The presets at which it is judged.
    reason
        Why it is not tested at other presets.
    """

    id: str
    statement: str
    source: str
    paper: str
    kind: Literal["exact", "arithmetic", "statistical", "timing", "reported"]
    criterion: str
    judge: Callable[[Mapping[str, Any]], list[Measure]] | None = None
    at: tuple[str, ...] = ()
    reason: str = ""

    @property
    def anchor(self) -> str:
        """The label of the paragraph that earns the verdict."""
        return f"claim-{self.id.lower()}"


@dataclass(frozen=True)
class Judgement:
    """A claim with its verdict at one preset."""

    claim: Claim
    preset: str
    verdict: str
    measures: tuple[Measure, ...] = ()
    reason: str = ""

    def to_json(self) -> dict[str, Any]:
        """The judgement as plain JSON types; numbers that JSON lacks (an open end, nan) as ``null``."""
        measures = [
            {
                "label": measure.label,
                "value": measure.value,
                "interval": None
                if measure.low is None or math.isnan(measure.low)
                else [measure.low, measure.high],
                "accepts": [measure.accepts.low, measure.accepts.high],
                "basis": measure.basis,
                "each": list(measure.each),
                "outcome": measure.outcome,
            }
            for measure in self.measures
        ]
        claim = {
            name: value for name, value in asdict(self.claim).items() if name not in ("judge", "at", "reason")
        }
        return claim | {"verdict": self.verdict, "reason": self.reason, "measures": _finite(measures)}


def judge(claim: Claim, preset: str, results: Mapping[str, Any]) -> Judgement:
    """Judge a claim on the results of a preset.

    A result that is missing makes the claim ``not tested here``, with the reason.
    """
    if claim.judge is None or preset not in claim.at or claim.kind in ("reported", "timing"):
        return Judgement(claim, preset, NOT_TESTED, reason=claim.reason or f"not part of the preset {preset}")
    try:
        measures = tuple(claim.judge(results))
    except StoreError:
        raise  # a damaged result is no reason to let a claim pass untested
    except MissingResultError:
        return Judgement(claim, preset, NOT_TESTED, reason=f"not computed at {preset} yet")
    except LoupeError as error:
        return Judgement(claim, preset, NOT_TESTED, reason=str(error))
    return Judgement(claim, preset, combine(measure.outcome for measure in measures), measures)


def combine(outcomes: Iterable[str]) -> str:
    """The verdict of a claim from the outcomes of its measures.

    All reproduced, or all not reproduced, is just that. If some are reproduced and others not, ``partly``;
    whatever else leaves something open is ``inconclusive``.
    """
    outcomes = set(outcomes)
    if not outcomes:
        raise ValueError("a judge must return at least one measure")
    if len(outcomes) == 1:
        return outcomes.pop()
    return PARTLY if {REPRODUCED, NOT_REPRODUCED} <= outcomes else INCONCLUSIVE


def failed_exact(judgements: Iterable[Judgement]) -> list[Judgement]:
    """The exact claims that were tested and do not hold: the only ones that break a build."""
    return [
        one for one in judgements if one.claim.kind == "exact" and one.verdict not in (REPRODUCED, NOT_TESTED)
    ]


def ledger_json(
    slug: str, preset: str, judgements: Iterable[Judgement], results: Mapping[str, str] | None = None
) -> bytes:
    """The machine's copy of a ledger, as written to ``claims.json``; ``results`` are digests of what was judged."""
    claims = [judgement.to_json() for judgement in judgements]
    return stamped({"slug": slug, "preset": preset, "results": dict(results or {}), "claims": claims})


def same_claims(one: Any, other: Any) -> bool:
    """Whether two ledgers say the same, but for the last digits of numbers, which processors differ in."""
    if isinstance(one, float) or isinstance(other, float):
        numbers = all(isinstance(value, int | float) for value in (one, other))
        return numbers and math.isclose(one, other, rel_tol=1e-6, abs_tol=1e-9)
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same_claims(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same_claims, one, other))
    return one == other


def number(value: float | None) -> str:
    """Three significant digits, short: ``0.0312``, ``1.58``, ``2.1e-13``."""
    if value is None or math.isnan(value):
        return "none"
    if value and not 1e-3 <= abs(value) < 1e5:
        return f"{value:.1e}".replace("e-0", "e-").replace("e+0", "e").replace(".0e", "e")
    digits = max(0, 2 - math.floor(math.log10(abs(value)))) if value else 0
    text = f"{value:.{digits}f}"
    return (text.rstrip("0").rstrip(".") if "." in text else text).replace("-", "−")


def _finite(value: Any) -> Any:
    if isinstance(value, Number) and not isinstance(value, bool):
        value = float(value)  # NumPy's numbers are no JSON
        return float(f"{value:.10g}") if math.isfinite(value) else None
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return {name: _finite(item) for name, item in value.items()} if isinstance(value, dict) else value

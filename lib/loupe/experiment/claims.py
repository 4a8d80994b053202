"""Claims: a paper's statement, a criterion that code can judge, and the verdict.

A claim's ``judge`` turns stored results into measures; each measure has a band of values that the claim accepts. The
verdict follows from the measures by one rule; nobody writes it by hand.

The rule: a measure counts for a claim when its whole 95 % interval over at least three independent runs lies in the
band and its control does not; it counts against the claim when the whole interval lies outside. A claim of several
parts fails with one part, and is partly reproduced only where its primary measure holds and another fails.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
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
        if self.high == math.inf:
            return f"≥ {number(self.low)}"
        return f"in [{number(self.low)}, {number(self.high)}]"


def at_most(high: float) -> Band:
    """Values up to ``high``."""
    return Band(high=high)


def at_least(low: float) -> Band:
    """Values of at least ``low``."""
    return Band(low=low)


def between(low: float, high: float) -> Band:
    """Values from ``low`` to ``high``."""
    return Band(low, high)


@dataclass(frozen=True)
class Control:
    """The value that a wrong implementation or a trivial baseline gives for a measure."""

    label: str
    value: float


@dataclass(frozen=True)
class Measure:
    """One measured quantity of a claim, with the band that it has to be in.

    Parameters
    ----------
    label
        What was measured, in a few words.
    value
        The measured value.
    accepts
        The values that the claim accepts.
    low, high
        Ends of the 95 % confidence interval, or ``None`` where there is none.
    basis
        The basis of the interval or the value ("95 % t interval, 5 seeds").
    units
        Number of independent units (seeds, cells, problems) behind the interval; a statistical claim needs ``needs``.
    each
        Values that each have to be in the band, if the criterion requires it of every seed.
    control
        A case that should fail: if the control passes too, the measure decides nothing.
    primary
        Whether the claim stands or falls with this measure; see :func:`combine`.
    open
        Why the measure decides nothing, whatever its value; set by :func:`judge`.
    """

    label: str
    value: float
    accepts: Band
    low: float | None = None
    high: float | None = None
    basis: str = ""
    units: int | None = None
    needs: int = 3
    each: tuple[float, ...] = ()
    control: Control | None = None
    primary: bool = False
    open: str = ""

    @classmethod
    def of_seeds(
        cls, label: str, values: Iterable[float], accepts: Band, *, every: bool = False
    ) -> "Measure":
        """The mean over seeds with its 95 % t interval, which decides; with ``every``, each seed has to be in the band
        too.

        Fewer than five seeds can all agree by chance, so they decide nothing.
        """
        values = [float(value) for value in values]
        basis = f"mean of {len(values)} seeds, 95 % t interval" if len(values) > 1 else "one seed"
        if every:
            basis = f"every one of {len(values)} seeds, and the 95 % t interval of their mean"
        each = tuple(values) if every else ()
        return cls(label, fmean(values), accepts, *t_interval(values), basis, len(values), each=each)

    @classmethod
    def paired(cls, label: str, ours: Iterable[float], theirs: Iterable[float], accepts: Band) -> "Measure":
        """The mean of ``ours - theirs`` over common units (seeds, problems), with its 95 % t interval."""
        gaps = [a - b for a, b in _pairs(ours, theirs)]
        basis = f"mean difference of {len(gaps)} pairs, 95 % t interval"
        return cls(label, fmean(gaps), accepts, *t_interval(gaps), basis, len(gaps))

    @classmethod
    def ratio(cls, label: str, ours: Iterable[float], theirs: Iterable[float], accepts: Band) -> "Measure":
        """The geometric mean of ``ours / theirs`` over pairs of positive values, with the 95 % t interval of its log."""
        pairs = _pairs(ours, theirs)
        if min(value for pair in pairs for value in pair) <= 0:
            raise ValueError(f"{label}: a ratio takes positive values, got {min(map(min, pairs))}")
        logs = [math.log(a) - math.log(b) for a, b in pairs]
        value, low, high = (math.exp(number) for number in (fmean(logs), *t_interval(logs)))
        basis = f"geometric mean of {len(logs)} paired ratios, 95 % t interval of the log"
        return cls(label, value, accepts, low, high, basis, len(logs))

    @classmethod
    def over_samples(cls, label: str, values: Iterable[float], accepts: Band) -> "Measure":
        """The mean over samples of one network with its 95 % t interval: for statements about that network only."""
        values = [float(value) for value in values]
        basis = f"{len(values):,} samples of one network, 95 % t interval; says nothing of other seeds"
        return cls(label, fmean(values), accepts, *t_interval(values), basis, len(values))

    def against(self, label: str, value: float) -> "Measure":
        """The same measure with its control, which should be outside the band."""
        if math.isnan(value):
            raise ValueError(f"the control {label!r} of {self.label!r} is nan: it shows nothing")
        return replace(self, control=Control(label, float(value)))

    def as_primary(self) -> "Measure":
        """The same measure, marked as the claim's primary one."""
        return replace(self, primary=True)

    @property
    def outcome(self) -> str:
        """``reproduced``, ``not reproduced``, or ``inconclusive`` if the interval covers both or nothing can fail."""
        if math.isnan(self.value) or self.open:
            return INCONCLUSIVE
        found = self._by_interval()
        if self.each and not all(value in self.accepts for value in self.each):
            return NOT_REPRODUCED
        # By chance, all of n values are on one side with probability 2^-n.
        by_chance = self.each and 0.5 ** len(self.each) >= 0.05
        cannot_fail = self.control is not None and self.control.value in self.accepts
        return INCONCLUSIVE if found == REPRODUCED and (by_chance or cannot_fail) else found

    def _by_interval(self) -> str:
        if self.low is None:
            return REPRODUCED if self.value in self.accepts else NOT_REPRODUCED
        if math.isnan(self.low):
            return INCONCLUSIVE
        if self.low in self.accepts and self.high in self.accepts:
            return REPRODUCED
        apart = self.high < self.accepts.low or self.low > self.accepts.high
        return NOT_REPRODUCED if apart else INCONCLUSIVE

    def under_rule(self, kind: str) -> "Measure":
        """The same measure, left open if a claim of this kind needs more: three units and an interval."""
        if kind != "statistical":
            return self
        if self.units is None or self.low is None:
            return replace(self, open="no interval over independent units")
        why = f"{self.needs} independent runs are needed, and this rests on {self.units}"
        return replace(self, open=why) if self.units < self.needs else self

    @property
    def interval(self) -> list[float] | None:
        """The ends of the interval, if there is one."""
        return None if self.low is None or math.isnan(self.low) else [self.low, self.high]

    def to_json(self) -> dict[str, Any]:
        """The measure as stored in a ledger."""
        return {
            "label": self.label, "value": self.value, "interval": self.interval,
            "accepts": [self.accepts.low, self.accepts.high], "basis": self.basis, "units": self.units,
            "each": list(self.each), "control": self.control and asdict(self.control), "primary": self.primary,
            "open": self.open, "outcome": self.outcome,
        }  # fmt: skip


def _pairs(ours: Iterable[float], theirs: Iterable[float]) -> list[tuple[float, float]]:
    return [(float(a), float(b)) for a, b in zip(ours, theirs, strict=True)]


def t_interval(values: Sequence[float], confidence: float = 0.95) -> tuple[float | None, float | None]:
    """The two-sided Student interval for the mean of independent values; nan for fewer than two, or where one is nan."""
    if len(values) < 2 or not all(map(math.isfinite, values)):
        return math.nan, math.nan
    from scipy.stats import t  # slow to import, and only needed to judge

    half = float(t.ppf((1 + confidence) / 2, len(values) - 1)) * stdev(values) / math.sqrt(len(values))
    return fmean(values) - half, fmean(values) + half


@dataclass(frozen=True)
class Claim:
    """A claim of a paper.

    Parameters
    ----------
    id
        Short name, such as ``PH1``; the label of the paragraph with the evidence is ``claim-ph1``.
    statement
        The claim, in one sentence.
    source
        Where the paper says so, or another source.
    paper
        What the paper reports, as text for the ledger.
    kind
        ``exact`` (an identity, must hold at every preset), ``arithmetic`` (a deterministic computation on the paper's
        own numbers or a whole dataset, which may contradict it), ``statistical``, ``timing`` (from ``benchmarks/``) or
        ``reported`` (shown, never judged).
    criterion
        The criterion for "reproduced", in words.
    judge
        ``judge(results)`` with ``results[experiment]`` the runs of one experiment over its seeds; returns measures.
    at
        The presets that can judge it.
    reason
        Why it is not tested at other presets.
    withdrawn
        Why an earlier verdict was withdrawn until it is measured again; the claim is then ``inconclusive``.
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
    withdrawn: str = ""

    @property
    def anchor(self) -> str:
        """The label of the paragraph with the evidence."""
        return f"claim-{self.id.lower()}"


_SHOWN = ("id", "statement", "source", "paper", "kind", "criterion")  # of a claim, in a ledger


@dataclass(frozen=True)
class Judgement:
    """A claim with its verdict at one preset."""

    claim: Claim
    preset: str
    verdict: str
    measures: tuple[Measure, ...] = ()
    reason: str = ""
    missing: bool = False
    """Whether there is no verdict because results are missing."""

    def to_json(self) -> dict[str, Any]:
        """The judgment as plain JSON types; infinity and nan become ``null``."""
        claim = {name: getattr(self.claim, name) for name in _SHOWN}
        measures = [_finite(measure.to_json()) for measure in self.measures]
        return claim | {"verdict": self.verdict, "reason": self.reason, "measures": measures}


def judge(claim: Claim, preset: str, results: Mapping[str, Any]) -> Judgement:
    """Judge a claim on the results of a preset.

    If a result is missing, the claim is ``not tested here``, with the reason; a withdrawn claim with results is
    ``inconclusive``, whatever they are.
    """
    if claim.judge is None or preset not in claim.at or claim.kind == "reported":
        return Judgement(claim, preset, NOT_TESTED, reason=claim.reason or f"not part of the preset {preset}")
    try:
        measures, reason = tuple(measure.under_rule(claim.kind) for measure in claim.judge(results)), ""
    except StoreError:
        raise  # a damaged result must not let a claim pass untested
    except MissingResultError:
        return Judgement(claim, preset, NOT_TESTED, reason=f"not all computed at {preset} yet", missing=True)
    except LoupeError as error:
        measures, reason = (), str(error)
    if claim.withdrawn:
        return Judgement(claim, preset, INCONCLUSIVE, reason=f"withdrawn: {claim.withdrawn}")
    return Judgement(claim, preset, NOT_TESTED if reason else combine(measures), measures, reason)


def combine(measures: Sequence[Measure]) -> str:
    """The verdict of a claim from its measures.

    If one part fails, the claim fails, unless it has a primary measure that holds: then it is ``partly``. Otherwise, if
    anything is open, it is ``inconclusive``.
    """
    if not measures:
        raise ValueError("a judge must return at least one measure")
    outcomes = {measure.outcome for measure in measures}
    primary = {measure.outcome for measure in measures if measure.primary}
    if NOT_REPRODUCED in outcomes:
        return PARTLY if primary == {REPRODUCED} else NOT_REPRODUCED
    return INCONCLUSIVE if INCONCLUSIVE in outcomes else REPRODUCED


def too_small(criterion: str, here: str) -> LoupeError:
    """The error of a judge when a preset is too small for its criterion: explains both numbers."""
    return LoupeError(f"not tested at this size: {criterion}, and {here}")


def failed_exact(judgements: Iterable[Judgement]) -> list[Judgement]:
    """The exact claims that were tested and do not hold: only these break a build."""
    fine = (REPRODUCED, NOT_TESTED)
    return [one for one in judgements if one.claim.kind == "exact" and one.verdict not in fine]


def ledger_json(
    slug: str, preset: str, judgements: Iterable[Judgement], results: Mapping[str, str] | None = None
) -> bytes:
    """The ledger as written to ``claims.json``; ``results`` are digests of the judged results."""
    claims = [judgement.to_json() for judgement in judgements]
    return stamped({"slug": slug, "preset": preset, "results": dict(results or {}), "claims": claims})


def same_claims(one: Any, other: Any) -> bool:
    """Whether two ledgers agree, up to the last digits of numbers, which differ between processors."""
    if isinstance(one, float) or isinstance(other, float):
        numbers = all(isinstance(value, int | float) for value in (one, other))
        return numbers and math.isclose(one, other, rel_tol=1e-6, abs_tol=1e-9)
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same_claims(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same_claims, one, other))
    return one == other


def number(value: float | None) -> str:
    """Three significant digits, short: ``0.0312``, ``1.58``, ``2.1e-13``; more just below 1: ``0.9999``."""
    if value is None or math.isnan(value):
        return "none"
    if value and not 1e-3 <= abs(value) < 1e5:
        return f"{value:.1e}".replace("e-0", "e-").replace("e+0", "e").replace(".0e", "e")
    digits = max(0, 2 - math.floor(math.log10(abs(value)))) if value else 0
    # A decay of 0.9999 is not 1.
    text = f"{value:g}" if 0.9995 <= abs(value) < 1 else f"{value:.{digits}f}"
    return (text.rstrip("0").rstrip(".") if "." in text else text).replace("-", "−")


def _finite(value: Any) -> Any:
    if isinstance(value, Number) and not isinstance(value, bool):
        value = float(value)  # NumPy's numbers are not JSON
        return float(f"{value:.10g}") if math.isfinite(value) else None
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return {name: _finite(item) for name, item in value.items()} if isinstance(value, dict) else value

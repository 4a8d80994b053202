"""Cards, tables and ledgers as HTML for pages and as plain text for everywhere else."""

import ast
import inspect
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from html import escape
from statistics import fmean
from textwrap import dedent, fill
from typing import Any

from loupe.experiment.claims import REPRODUCED, VERDICTS, Claim, Judgement, Measure, number, t_interval

MARKS = dict(zip(VERDICTS, "●◐◐✕○", strict=True))


@dataclass(frozen=True)
class Block:
    """Something to show: a page takes the HTML or Markdown, a terminal and ``print`` take the text."""

    text: str
    html: str = ""
    markdown: str = ""

    def _repr_mimebundle_(self, **kwargs):
        kinds = {"text/html": self.html, "text/markdown": self.markdown, "text/plain": self.text}
        return {kind: content for kind, content in kinds.items() if content}

    def __str__(self) -> str:
        return self.text

    def folded(self, title: str) -> "Block":
        """A block folded under a clickable line, for details that only some readers want."""
        html = f'<details class="loupe-fold"><summary>{escape(title)}</summary>{self.html}</details>'
        return Block(f"{title}\n\n{self.text}", html)


def card(items: Mapping[str, str], link: str, warn: str = "") -> Block:
    """The chapter card: values by label. The first has a link and is as wide as the card; ``warn`` is highlighted."""
    first, width = next(iter(items)), max(map(len, items))
    cells, lines = [], []
    for label, value in items.items():
        content = f'<a href="{link}">{escape(value)}</a>' if label == first else escape(value)
        classes = "loupe-card-item" + " wide" * (label == first) + " warn" * (label == warn)
        cells.append(
            f'<div class="{classes}"><span class="label">{escape(label)}</span> '
            f'<span class="value">{content}</span></div>'
        )
        lines.append(fill(f"{label:<{width}}  {value}", 100, subsequent_indent=" " * (width + 2)))
    return Block("\n".join(lines), f'<div class="loupe-card">{"".join(cells)}</div>')


def table(head: Sequence[str], rows: Iterable[Sequence[Any]], *, numeric: bool = False) -> Block:
    """A plain table; cells are shown as :func:`setting` shows them."""
    rows = [[setting(cell) for cell in row] for row in rows]
    cells = [html_row(zip(head, map(_content, row), strict=True)) for row in rows]
    texts = [head, *([f"{cell} *" if isinstance(cell, Strong) else cell for cell in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*texts, strict=True)]
    lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in texts]
    kind = "loupe-table numeric" if numeric else "loupe-table"
    return Block("\n".join(lines), html_table(kind, head, cells))


def html_table(kind: str, head: Iterable[str], rows: Iterable[str]) -> str:
    """A table of this style from its labels and its rows in HTML."""
    heads = "".join(f"<th>{escape(label)}</th>" for label in head)
    return f'<table class="{kind}"><thead><tr>{heads}</tr></thead><tbody>{"".join(rows)}</tbody></table>'


class Strong(str):
    """A highlighted cell: bold on a page, with a star after it in plain text."""

    __slots__ = ()


def score_table(
    head: Sequence[str],
    rows: Iterable[Sequence[Any]],
    *,
    digits: int | Sequence[int] = 4,
    best: str | Sequence[str] = "",
    positive: bool = False,
) -> Block:
    """A table of scores: each cell the mean over seeds with its 95 % interval, the best mean of a column marked.

    Parameters
    ----------
    head
        The labels of the columns.
    rows
        Each a label and its cells: an array with one value for each seed, a text, or ``None`` for a dash. A label of
        several words, such as ``("running", "EGNO")``, is compared with rows that share all but the last word.
    digits
        Digits after the point, for all columns of scores or for each.
    best
        ``"min"``, ``"max"`` or ``""`` (nothing is marked), for all columns of scores or for each. The mark is for the
        best mean; it does not mean that the difference is significant.
    positive
        The scores can't be negative: if the interval of the mean would be, all values are shown instead.

    >>> print(score_table(("loss", "mean"), [("ours", [1.0, 1.5]), ("theirs", [2.0, 2.5])], digits=1, best="min"))
    loss    mean
    ours    1.0 … 1.5 *
    theirs  2.0 … 2.5
    """
    rows = [((row[0],) if isinstance(row[0], str) else tuple(row[0]), *row[1:]) for row in rows]
    columns = len(head) - 1
    digits = [digits] * columns if isinstance(digits, int) else digits
    best = [best] * columns if isinstance(best, str) else best
    means = [[_mean(cell) for cell in row[1:]] for row in rows]

    def shown(r: int, column: int) -> str:
        cell, mean, places = rows[r][1 + column], means[r][column], digits[column]
        if mean is None:
            return "–" if cell is None else cell
        text = over_seeds(cell, places, positive=positive)
        peers = [means[k][column] for k, row in enumerate(rows) if row[0][:-1] == rows[r][0][:-1]]
        peers = [each for each in peers if each is not None and math.isfinite(each)]
        goal = {"min": min, "max": max}.get(best[column])
        marked = goal and len(peers) > 1 and rounded(mean, places) == rounded(goal(peers), places)
        return Strong(text) if marked else text

    cells = [(", ".join(row[0]), *(shown(r, k) for k in range(columns))) for r, row in enumerate(rows)]
    return table(head, cells, numeric=True)


def _mean(cell: Any) -> float | None:
    return None if cell is None or isinstance(cell, str) else fmean(map(float, cell))


def _content(cell: str) -> str:
    return f"<b>{escape(cell)}</b>" if isinstance(cell, Strong) else escape(cell)


def html_row(cells: Iterable[tuple[str, str]], name: str = "") -> str:
    """A row of a table from the labels and contents of its cells."""
    # On phones, where rows become blocks, the label is shown beside the content.
    inner = [f'<td data-label="{escape(label)}">{content}</td>' for label, content in cells]
    place = f' id="{escape(name)}"' if name else ""
    return f"<tr{place}>{''.join(inner)}</tr>"


def setting(value: Any) -> str:
    """A setting or a number in readable form; long regular lists are shortened.

    >>> setting(1_300_000), setting(None), setting([]), setting((4, 8, 16))
    ('1,300,000', '–', 'none', '4, 8, 16')
    """
    if isinstance(value, float):
        return number(value)
    if value is None:
        return "–"
    if isinstance(value, int) and abs(value) >= 10_000:
        return f"{value:,}"
    if isinstance(value, list | tuple):
        if len(value) > 5 and not isinstance(value[0], str):
            return f"{setting(value[0])}, {setting(value[1])}, …, {setting(value[-1])} ({len(value)} values)"
        return ", ".join(setting(item) for item in value) or "none"
    return value if isinstance(value, str) else str(value)


def rounded(value: float, digits: int) -> str:
    """A number rounded to some decimals, or fewer if there are four digits before the point; large ones in powers of
    ten.

    >>> rounded(0.00823, 4), rounded(31.26, 2), rounded(1234.5, 2), rounded(-25000, 2)
    ('0.0082', '31.26', '1234', '−2.5·10^4')
    """
    if not math.isfinite(value):
        return number(value)
    if abs(value) >= 9999.5:
        mantissa, exponent = f"{value:.1e}".split("e")
        text = f"{mantissa}·10^{int(exponent)}"
    else:
        before = max(0, math.floor(math.log10(max(abs(value), 1e-9))))
        text = f"{value:.{min(digits, 3 - before) if before else digits}f}"
    return text.replace("-", "−")


def over_seeds(values: Iterable[float], digits: int, *, positive: bool = False) -> str:
    """The mean over seeds with half its 95 % t interval; for two seeds both values, since their interval is useless.

    If numbers can't be negative (``positive``) but the interval would be, all of them are shown.

    >>> over_seeds([0.25], 3), over_seeds([0.5, 0.25], 3), over_seeds([1, 2, 3], 2)
    ('0.250', '0.250 … 0.500', '2.00\xa0±\xa02.48')
    """
    given = [float(value) for value in values]
    values = sorted(given)
    if not all(map(math.isfinite, values)):
        return number(sum(values))
    shown = list(dict.fromkeys(rounded(value, digits) for value in values))
    if len(values) < 3 or len(shown) == 1:
        return " … ".join(shown)
    low, high = t_interval(values)
    if positive and low < 0:
        return ", ".join(rounded(value, digits) for value in given)
    mean, half = sum(values) / len(values), (high - low) / 2
    if max(abs(mean), half) >= 1e4:
        exponent = math.floor(math.log10(max(abs(mean), half)))
        text = f"({mean / 10**exponent:.1f}\u00a0±\u00a0{half / 10**exponent:.1f})·10^{exponent}"
        return text.replace("-", "−")
    return f"{rounded(mean, digits)}\u00a0±\u00a0{rounded(half, digits)}"


def place_among(level: float, rows: Mapping[str, float]) -> str:
    """Between which of the trivial rows of a table a level lies, in words.

    >>> place_among(2.5, {"guessing": 4.75, "bigram counts": 3.4, "5-gram counts": 2.1})
    'between bigram counts and 5-gram counts'
    >>> place_among(1.9, {"guessing": 4.75, "5-gram counts": 2.1})
    'below all 2 trivial rows'
    """
    above = [name for name, each in rows.items() if each > level]
    below = [name for name in rows if name not in above]
    if above and below:
        return f"between {min(above, key=rows.get)} and {max(below, key=rows.get)}"
    return f"{'below' if above else 'above'} all {len(rows)} trivial rows"


def ledger(columns: Mapping[str, Sequence[Judgement]]) -> Block:
    """The ledger of a chapter from its judged claims by preset: one row for each claim, one column for each preset."""
    rows, texts = [], []
    for judged in zip(*columns.values(), strict=True):
        ours = dict(zip(columns, judged, strict=True))
        rows.append(_ledger_row(judged[0].claim, ours))
        texts.append(_ledger_text(judged[0].claim, ours))
    head = ["claim", "paper", *(f"ours · {preset}" for preset in columns), "criterion", "verdict"]
    return Block("\n\n".join(texts), html_table("loupe-ledger", head, rows))


def verdict_html(verdict: str, href: str = "") -> str:
    """A verdict as mark, word and color, linked to the paragraph with the evidence."""
    inner = f'<span class="mark" aria-hidden="true">{MARKS[verdict]}</span> {verdict}'
    kind = verdict_class(verdict)
    return f'<a class="{kind}" href="{href}">{inner}</a>' if href else f'<span class="{kind}">{inner}</span>'


def verdict_class(verdict: str) -> str:
    """The style of a verdict: ``verdict not-tested`` for "not tested here"."""
    return f"verdict {verdict.removesuffix(' here').replace(' ', '-')}"


def tally(verdicts: Sequence[str]) -> str:
    """Counts of verdicts by kind: ``● 5  ◐ 1  ○ 4``."""
    marks = [MARKS[verdict] for verdict in verdicts]
    return "  ".join(f"{mark} {marks.count(mark)}" for mark in dict.fromkeys(MARKS.values()) if mark in marks)


def _interval(measure: Measure) -> list[str]:
    low, high = measure.interval or (None, None)
    return [] if low is None else [f"[{number(low)}, {number(high)}]"]


def _ledger_row(claim: Claim, ours: Mapping[str, Judgement]) -> str:
    href = f"#{escape(claim.anchor)}"
    source = f'<span class="source">{escape(claim.source)}</span>'
    verdicts = "".join(
        f"<div>{f'{preset}: ' if len(ours) > 1 else ''}{verdict_html(one.verdict, href)}</div>"
        for preset, one in ours.items()
    )
    cells = [
        ("claim", f"<code>{escape(claim.id)}</code> {escape(claim.statement)} {source}"),
        ("paper", escape(claim.paper)),
        *((f"ours · {preset}", _measures_html(one)) for preset, one in ours.items()),
        ("criterion", f"{escape(claim.criterion)} <span class=\"kind\">{escape(claim.kind)}</span>"),
        ("verdict", verdicts),
    ]  # fmt: skip
    return html_row(cells, f"ledger-{claim.id.lower()}")


def _measures_html(judged: Judgement) -> str:
    measures = judged.measures
    if not measures:
        return escape(judged.reason)
    lines = "".join(
        f'<div class="measure" title="{escape(one.basis)}">{MARKS[one.outcome] if len(measures) > 1 else ""} '
        f"{escape(one.label)} <b>{number(one.value)}</b>{_spans('interval', _interval(one))} "
        f'<span class="accepts">({one.accepts})</span>{_spans("control", _remarks(one))}</div>'
        for one in measures
    )
    if len(measures) <= 4:
        return lines
    held = sum(one.outcome == REPRODUCED for one in measures)
    return f"<details><summary>{held} of {len(measures)} hold</summary>{lines}</details>"


def _remarks(measure: Measure) -> list[str]:
    """Remarks on a measure: its control's value, and why it decides nothing, if so."""
    control = measure.control
    said = [f"control: {control.label} {number(control.value)}"] if control else []
    return said + [f"open: {measure.open}"] * bool(measure.open)


def _spans(kind: str, texts: Iterable[str]) -> str:
    return "".join(f' <span class="{kind}">{escape(text)}</span>' for text in texts)


def _ledger_text(claim: Claim, ours: Mapping[str, Judgement]) -> str:
    filled = partial(fill, width=100, subsequent_indent="      ")
    lines = [
        filled(f"{claim.id}  {claim.statement} ({claim.source})"),
        filled(f"      paper: {claim.paper}; criterion: {claim.criterion}"),
    ]
    for preset, one in ours.items():
        reason = f" ({one.reason})" if one.reason else ""
        lines.append(filled(f"      {preset}: {MARKS[one.verdict]} {one.verdict}{reason}"))
        for m in one.measures:
            measured = " ".join([number(m.value), *_interval(m)])
            said = [f"{m.label}: {measured}, {m.accepts}", *_remarks(m)]
            lines.append(f"        {MARKS[m.outcome]} {'; '.join(said)}")
    return "\n".join(lines)


def source(functions: Iterable[Callable]) -> Block:
    """The source of functions of one module as they run, without docstrings."""
    functions = list(functions)
    parts = [_source(function) for function in functions]
    owner = functions[0].__qualname__.rpartition(".")[0]  # the class of a method
    place = f"*from* `{functions[0].__module__}`" + f", class `{owner}`" * bool(owner)
    return Block(text="\n".join(parts), markdown="\n".join(["```python", *parts]) + f"```\n\n{place}")


def _source(function: Callable) -> str:
    text = re.sub(r"^@renamed\(.*\)\n", "", dedent(inspect.getsource(function)))
    if not function.__doc__:
        return text
    first = ast.parse(text).body[0].body[0]
    lines = text.splitlines(keepends=True)
    return "".join(lines[: first.lineno - 1] + lines[first.end_lineno :])

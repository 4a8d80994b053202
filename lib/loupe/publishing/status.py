"""The status page: what is computed for each chapter, when, on which hardware, and how verdicts have changed."""

from html import escape

from loupe.experiment.folders import COMMITTED, read_history
from loupe.experiment.render import html_table, table, tally, verdict_html
from loupe.experiment.results import State, Stored, distinct, judge_all
from loupe.experiment.store import Store
from loupe.papers import PAPERS, load_room

HEAD = ("chapter", "preset", "results", "newest", "CPU-hours", "hardware", "state", "verdicts")


def status() -> str:
    """A table with a row for each chapter and preset that has results, and the history of verdicts below it."""
    store = Store.default()
    rows = [
        row
        for paper in PAPERS.values()
        if not paper.planned
        for preset in COMMITTED
        if (row := _row(paper, preset, store))
    ]
    return f"{table(HEAD, rows).html}\n\n## How verdicts have changed\n\n{_history(store)}\n"


def _row(paper, preset: str, store: Store) -> tuple[str, ...] | None:
    """The row of a chapter at a preset; ``None`` without results."""
    stored = Stored(load_room(paper.slug), preset, store)
    state = State.of(stored)
    made_by = [result.provenance for result in state.found]
    if not made_by:
        return None
    hours = sum(one["cpu_seconds"] for one in made_by) / 3600
    words = [f"{len(units)} {word}" for word, units in state.standings.items()]
    return (
        paper.short,
        preset,
        f"{len(made_by)} of {len(stored.units())}",
        max(one["finished"][:10] for one in made_by),
        f"{hours:.1f}",
        "; ".join(distinct(one["hardware"].partition(",")[0] for one in made_by)),
        ", ".join(words),
        tally([one.verdict for one in judge_all(stored)]),
    )


def _history(store: Store) -> str:
    """The verdicts that replaced another one, newest first."""
    last: dict[tuple[str, str, str], str] = {}
    changes = []
    for one in read_history(store):
        key = (one["slug"], one["preset"], one["claim"])
        if key in last and one["slug"] in PAPERS:
            changes.append((one, last[key]))
        last[key] = one["verdict"]
    rows = [
        f"<tr><td>{one['date']}</td><td>{escape(PAPERS[one['slug']].short)} <code>{escape(one['claim'])}</code></td>"
        f"<td>{one['preset']}</td><td>{verdict_html(before)}</td><td>{verdict_html(one['verdict'])}</td></tr>"
        for one, before in reversed(changes)
    ]
    if not rows:
        return "No verdict has changed yet."
    return html_table("loupe-table", ("date", "claim", "preset", "before", "after"), rows)

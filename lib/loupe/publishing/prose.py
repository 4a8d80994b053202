"""Numbers and verdicts in a chapter's paragraphs, filled in by ``loupe publish`` from results, never by hand.

``<span data-n="gap:.2f"></span>`` is filled with the value ``gap`` of the room's ``numbers(chapter)``, a dictionary;
``<a data-claim="C5"></a>`` becomes a chip with the verdict of claim C5, the target of the ledger's link.
"""

import re
from collections.abc import Callable, Mapping
from html import escape
from typing import Any

from loupe.errors import LoupeError, shortened
from loupe.experiment.chapter import Chapter
from loupe.experiment.claims import Judgement
from loupe.experiment.render import MARKS, verdict_class
from loupe.experiment.results import Stored, leading_verdicts

_NUMBER = re.compile(r'<span data-n="([^"]*)">[^<]*</span>')
_CHIP = re.compile(r'<a [^>]*\bdata-claim="([^"]*)"[^>]*>[^<]*</a>')


def fill(notebook, chapter: Chapter, judged: Callable[[Stored], list[Judgement]] = leading_verdicts) -> None:
    """Fill every number and verdict in the paragraphs of a notebook, in place.

    Raises
    ------
    LoupeError
        If a paragraph names a number or a claim that the room does not have, or a claim has no chip.
    """
    room = chapter.room
    numbers = room.numbers(chapter) if hasattr(room, "numbers") else {}
    verdicts = {one.claim.id: one for one in judged(chapter.stored)}
    seen = set()
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = filled(cell.source, numbers)
            cell.source = _CHIP.sub(lambda found: _chip(found[1], verdicts, seen), cell.source)
    if unseen := [name for name in verdicts if name not in seen]:
        raise LoupeError(
            f'no paragraph of {room.PAPER.slug} has the chip of claim {unseen[0]}: write <a data-claim="{unseen[0]}"></a> '
            "where it is earned."
        )


def filled(text: str, numbers: Mapping[str, Any]) -> str:
    """A paragraph with every ``<span data-n="NAME:FORMAT">`` filled.

    >>> filled('It is <span data-n="gap:.2f"></span> bits.', {"gap": -0.126})
    'It is <span data-n="gap:.2f">−0.13</span> bits.'
    """

    def number(found: re.Match) -> str:
        name, _, form = found[1].partition(":")
        if name not in numbers:
            known = shortened(", ".join(numbers) or "none", 300)
            raise LoupeError(f"no number is called {name!r}: the room has {known}.")
        return f'<span data-n="{found[1]}">{_written(numbers[name], form)}</span>'

    return _NUMBER.sub(number, text)


def _written(value: Any, form: str) -> str:
    """A number as printed: a true minus, and powers of ten instead of ``e``; text is unchanged."""
    if isinstance(value, str):
        return escape(value, quote=False)
    text = format(value, form or ",")
    mantissa, _, exponent = text.partition("e")
    if exponent:
        power = str(int(exponent)).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
        text = f"{mantissa}·10{power}"
    return text.replace("-", "−")


def _chip(name: str, verdicts: Mapping[str, Any], seen: set[str]) -> str:
    """The verdict of a claim as a link to its row in the ledger; the ledger links back to the first chip."""
    if name not in verdicts:
        raise LoupeError(f"no claim is called {name!r}: the room has {', '.join(verdicts)}.")
    one, anchor = verdicts[name], "" if name in seen else f'id="{verdicts[name].claim.anchor}" '
    seen.add(name)
    return (
        f'<a {anchor}class="{verdict_class(one.verdict)}" data-claim="{name}" href="#ledger-{name.lower()}">'
        f"{MARKS[one.verdict]} {one.verdict} ({one.preset})</a>"
    )

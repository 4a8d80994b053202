"""Texts on their way from noise to words, with a slider over the steps of discrete diffusion.

The finished text and three states before it are written here, in Python. The script only changes what is
already there, so the still and the moving picture cannot differ, and without the script the still remains.
"""

import re
from html import escape
from itertools import count

import numpy as np

from loupe.plotting.widgets.fragment import Fragment, assembled, check_words, choice, controls, line

LETTERS = "_abcdefghijklmnopqrstuvwxyz."
"""How the data name the symbols: the space, a to z, and the mask."""

MASK = 27

COLOURS = 16
"""Colours of the scale; the style sheet has them, from dark (fixed early) to light (fixed late)."""

QUARTERS = (1, 2, 3)
"""The states that stand above the text, in quarters of the way."""

ROOM = 160_000
"""Characters that the states may take; if they need more, only every second, third, ... state is kept."""

LONGEST = 1024
"""Characters of the longest text that can be shown."""


class ReversePath(Fragment):
    """Texts that discrete diffusion writes, step by step."""


def reverse_path(paths, times, *, title: str, alt: str) -> ReversePath:
    """Show how discrete diffusion writes a text, and when each of its characters was fixed for good.

    A character is fixed at the first step after which it never differs from the finished text; until then it
    is open. What is fixed is coloured by that step. Where the script runs, what a step before the last has
    changed is ringed.

    Parameters
    ----------
    paths : dict of str to array_like of int, shape (states, L) or (texts, states, L)
        By the name of the graph, such as "masks", the states of a text, or of several: 0 is the space, 1 to 26
        are a to z, 27 is the mask. All graphs have the same shape. The last state has no masks.
    times : array_like, shape (steps,)
        The time before each step, falling from 1 towards 0. With as many times as states, the states are those
        after each step; with one time less, the first state is the noise before all steps.
    title : str
        The heading, in plain words.
    alt : str
        What the picture shows, for someone who cannot see it.

    Returns
    -------
    ReversePath
        Shown by a notebook when it is the last value of a cell. Equal data give equal bytes. Of very many
        states only some can be chosen; colours and counts still come from all of them.
    """
    check_words(title=title, alt=alt)
    paths, times = _checked(paths, times)
    first = next(iter(paths.values()))
    states, length = first.shape[1:]
    fixed = {name: _fixed(texts) for name, texts in paths.items()}
    shown, written = _written(paths)
    data = {
        "alt": alt,
        "states": states,
        "shown": shown,
        "first": int(len(times) == states),
        "times": [f"{time:.2f}" for time in np.append(times, 0)[-states:][shown]],
        "rows": sorted({round(quarter * (len(shown) - 1) / 4) for quarter in QUARTERS}),
        "open": [_open(texts) for texts in paths.values()],
        "fixed": [each.tolist() for each in fixed.values()],
        "paths": written,
    }
    name, last = next(iter(paths)), len(shown) - 1
    rows = "\n".join(_row(data, k, first[0], fixed[name][0]) for k in data["rows"])
    text = _text(data, last, first[0], fixed[name][0])
    words = _line(data, last, fixed[name][0])
    choices = choice("graph", list(paths)) + choice("text", [str(k + 1) for k in range(len(first))])
    body = f"""<div class="lw-choices" hidden>{choices}</div>
<div class="lr-rows">
{rows}
</div>
{line(words)}
<div class="lr-main">{text}</div>
{controls("Next step", last=last, at=last, label="step", said=words)}
<p class="lw-legend">{_legend(paths, data)}</p>"""
    html = assembled("reverse_path", title, body, data)
    return ReversePath(html, f"{title} ({length} characters, {states} states; the slider needs a browser)")


def _fixed(texts: np.ndarray) -> np.ndarray:
    """For each character (texts, L), the first state from which on it is as at the end."""
    differs = texts != texts[:, -1:]
    return np.where(differs.any(1), texts.shape[1] - np.argmax(differs[:, ::-1], axis=1), 0)


def _open(texts: np.ndarray) -> str:
    """What characters are until they are fixed."""
    return "masked" if (texts == MASK).any() else "still to change"


def _written(paths: dict[str, np.ndarray]) -> tuple[list[int], list[list[str]]]:
    """The states that can be chosen, the last among them, and each text as a string, few enough for a page."""
    states = next(iter(paths.values())).shape[1]
    for stride in count(1):
        shown = sorted({0, *range(states - 1, -1, -stride)})
        written = [[_encoded(text[shown]) for text in texts] for texts in paths.values()]
        if stride >= states or sum(len(text) for texts in written for text in texts) <= ROOM:
            return shown, written


def _encoded(states: np.ndarray) -> str:
    """States between commas: new characters as letters, and how many before them stay as a number."""
    before, parts = np.full(states.shape[1], -1), []
    for state in states:
        part, kept = "", 0
        for symbol, same in zip(state.tolist(), (state == before).tolist(), strict=True):
            if same:
                kept += 1
            else:
                part += (str(kept) if kept else "") + LETTERS[symbol]
                kept = 0
        parts.append(part)
        before = state
    return ",".join(parts)


def _row(data: dict, k: int, text: np.ndarray, fixed: np.ndarray) -> str:
    return f'<p class="lr-step">{_line(data, k, fixed)}</p>\n{_text(data, k, text, fixed)}'


def _line(data: dict, k: int, fixed: np.ndarray) -> str:
    """The line over a state; the script writes the same words."""
    state, last = data["shown"][k], data["states"] - 1
    left = int(np.sum(fixed > state))
    return (
        f"Step {state + data['first']} of {last + data['first']} · time {data['times'][k]} · "
        f"{left} {data['open'][0]}"
    )


def _text(data: dict, k: int, text: np.ndarray, fixed: np.ndarray) -> str:
    """The characters of a state as small blocks; the script makes the same."""
    state, at = text[data["shown"][k]].tolist(), data["shown"][k]
    blocks = "".join(
        f'<b class="{_kind(symbol, when, at, data["states"])}">'
        f"{'' if symbol == MASK else LETTERS[symbol].replace('_', ' ')}</b>"
        for symbol, when in zip(state, fixed.tolist(), strict=True)
    )
    return f'<div class="lr-text" role="img" aria-label="{escape(_said(data["alt"], state))}">{blocks}</div>'


def _kind(symbol: int, when: int, at: int, states: int) -> str:
    """Classes of a block: its colour or that it is open, and whether it is a mask or a space."""
    colour = (2 * (COLOURS - 1) * when + states - 1) // (2 * (states - 1))
    return (f"v{colour}" if when <= at else "o") + {MASK: " m", 0: " s"}.get(symbol, "")


def _said(alt: str, state: list[int]) -> str:
    """What a screen reader says of a state: many masks in a row are one ellipsis."""
    words = "".join(LETTERS[symbol] for symbol in state).replace("_", " ")
    return f"{alt} The text now: {re.sub('[.]+', '…', words)}"


def _legend(paths: dict[str, np.ndarray], data: dict) -> str:
    scale = "".join(f'<i class="v{k}"></i>' for k in range(COLOURS))
    first, last = data["first"], data["states"] - 1 + data["first"]
    parts = [
        f'fixed for good: step {first} <span class="lr-scale" aria-hidden="true">{scale}</span> step {last}'
    ]
    if "masked" in data["open"]:
        parts.append('<b class="o m"></b> masked')
    if "still to change" in data["open"]:
        parts.append('<b class="o">a</b> still to change')
    parts.append('<b class="v4 s"> </b> space')
    ringed = '<span class="lr-ringed" hidden><b class="o n">a</b> just changed</span>'
    return "".join(f"<span>{part}</span>" for part in parts) + ringed


def _checked(paths, times) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """All paths with the shape (texts, states, L), and the times."""
    if not paths:
        raise ValueError("paths must hold at least one graph, got none")
    found = {}
    for name, states in paths.items():
        check_words(name=name)
        states = np.asarray(states)
        states = states[None] if states.ndim == 2 else states
        if states.ndim != 3 or not (len(states) and states.shape[1] > 1 and 1 <= states.shape[2] <= LONGEST):
            raise ValueError(
                f"{name} must have shape (states, L) or (texts, states, L) with at least 2 states and L from 1 "
                f"to {LONGEST}, got {states.shape}"
            )
        if states.dtype.kind not in "iu" or states.min() < 0 or states.max() > MASK:
            raise ValueError(f"{name} must hold integers from 0 to {MASK}")
        if (states[:, -1] == MASK).any():
            raise ValueError(f"the last state of {name} must have no masks")
        found[name] = states.astype(np.int64)
    shapes = {states.shape for states in found.values()}
    if len(shapes) > 1:
        raise ValueError(f"all graphs must have the same shape, got {', '.join(map(str, sorted(shapes)))}")
    times, states = np.asarray(times, dtype=np.float64), next(iter(shapes))[1]
    if times.shape not in {(states,), (states - 1,)}:
        raise ValueError(f"{states} states need {states} times, or one less, got {times.shape}")
    if not (np.isfinite(times).all() and (np.diff(times) < 0).all() and times[0] <= 1 and times[-1] > 0):
        raise ValueError(f"times must fall from at most 1, and stay over 0, got {times.tolist()}")
    return found, times

"""Texts from noise to words, with a slider over the steps of discrete diffusion.

Without a script, the finished text and three earlier states are shown.
"""

import math
import re
from html import escape

import numpy as np
from matplotlib.patches import Rectangle

from loupe.plotting.display import thumbnail_axes
from loupe.plotting.style import GRID, GROUND, shades
from loupe.plotting.widgets.fragment import Fragment, check_words
from loupe.plotting.widgets.frames import Frame, Strip, frame_player

CHARACTERS = "_abcdefghijklmnopqrstuvwxyz."
"""How the data name the symbols: the space, a to z, and the mask."""

MASK = 27

COLORS = 16
"""Colours of the scale; the style sheet has them, from dark (fixed early) to light (fixed late)."""

QUARTERS = (1, 2, 3)
"""The states that stand above the text, in quarters of the way."""

ROOM = 160_000
"""Characters that all states may have together; if there are more, only every second, third, ... state is kept."""

LONGEST = 1024
"""Characters of the longest text that can be shown."""


def reverse_path(paths, times, *, title: str, alt: str) -> Fragment:
    """Show how discrete diffusion writes a text, and when each of its characters was fixed for good.

    A character is fixed at the first step after which it never differs from the finished text; until then it
    is open. What is fixed is colored by that step. Where the script runs, what a step before the last has
    changed is ringed.

    Parameters
    ----------
    paths : dict of str to array_like of int, shape (states, L) or (texts, states, L)
        By the name of the noise, such as "absorbing", the states of a text, or of several: 0 is the space, 1 to 26
        are a to z, 27 is the mask. All have the same shape. The last state has no masks.
    times : array_like, shape (steps,)
        The time before each step, falling from 1 toward 0. With as many times as states, the states are those
        after each step; with one time less, the first state is the noise before all steps.
    title : str
        The heading, in plain words.
    alt : str
        What the picture shows, for someone who cannot see it.

    Returns
    -------
    Fragment
        Shown by a notebook when it is the last value of a cell. Equal data give equal bytes. Of very many
        states only some can be chosen; colors and counts still come from all of them.
    """
    check_words(title=title, alt=alt)
    paths, times = _checked(paths, times)
    texts, states, length = next(iter(paths.values())).shape
    stride = math.ceil(len(paths) * texts * states * length / ROOM)
    shown = sorted({0, *range(states - 1, -1, -stride)})
    first = int(len(times) == states)
    times = np.append(times, 0)[-states:]
    waiting = {name: "masked" if (each == MASK).any() else "still to change" for name, each in paths.items()}

    def strip(text, name) -> Strip:
        fixed = _fixed(text)
        words = [
            f"Step {k + first} of {states - 1 + first} · time {times[k]:.2f} · {np.sum(fixed > k)} {waiting[name]}"
            for k in range(states)
        ]
        rows = sorted({shown[round(quarter * (len(shown) - 1) / 4)] for quarter in QUARTERS})
        above = "".join(
            f'<p class="lr-step">{words[k]}</p><div class="lr-text" role="img" '
            f'aria-label="{escape(_said(alt, text[k]))}">{_blocks(text, fixed, k)}</div>'
            for k in rows
        )
        frames = [
            Frame(
                f'<div class="lr-text">{_blocks(text, fixed, k, before)}</div>', words[k], _said(alt, text[k])
            )
            for before, k in zip([shown[0], *shown], shown, strict=False)
        ]
        return Strip(frames, above)

    return frame_player(
        {name: {str(k + 1): strip(text, name) for k, text in enumerate(each)} for name, each in paths.items()},
        title=title, alt=alt, choose=("noise", "text"), label="step", following="Next step", look="reverse_path",
        legend=_legend(waiting.values(), first, states - 1 + first),
        text=f"{title} ({length} characters, {states} states; the slider needs a browser)",
    )  # fmt: skip


def reverse_path_thumbnail(path, target, *, columns: int = 24, rows: int = 13) -> None:
    """Save a text coming out of masks, each character in the color of the step that fixed it, for a landing page.

    Parameters
    ----------
    path : array_like of int, shape (states, L)
        As in :func:`reverse_path`; ``rows`` of its states and ``columns`` of its characters are drawn.
    target : pathlib.Path
        The SVG file.
    """
    path = np.asarray(path)[:, :columns]
    path = path[np.linspace(0, len(path) - 1, rows).round().astype(int)]
    fixed, colors = (path != MASK).argmax(axis=0), shades(rows)
    letter = {"family": "DejaVu Sans Mono", "fontsize": 17, "weight": "bold", "ha": "center", "va": "center"}
    with thumbnail_axes(target) as axes:
        for (at, column), token in np.ndenumerate(path):
            masked, new = token == MASK, at == fixed[column]
            if masked or new:
                side, color = (0.84, GRID) if masked else (0.92, colors[at])
                corner = (column - side / 2, at - side / 2)
                axes.add_patch(Rectangle(corner, side, side, color=color, linewidth=0))
            if not masked:
                color = GROUND if new else colors[fixed[column]]
                axes.text(column, at + 0.02, CHARACTERS[token].replace("_", " "), color=color, **letter)
        axes.set(xlim=(-0.6, columns - 0.4), ylim=(rows - 0.4, -0.6))


def _fixed(text: np.ndarray) -> np.ndarray:
    """For each character of (states, L), the first state from which on it is as at the end."""
    differs = text != text[-1:]
    return np.where(differs.any(0), len(text) - np.argmax(differs[::-1], axis=0), 0)


def _blocks(text: np.ndarray, fixed: np.ndarray, k: int, before: int | None = None) -> str:
    """The characters of a state as small blocks: colored, or open; those changed on the way are ringed."""
    last = len(text) - 1
    colors = (2 * (COLORS - 1) * fixed + last) // (2 * last)
    ringed = text[k] != text[k if before is None or k == last else before]
    return "".join(
        f'<b class="{f"v{color}" if when <= k else "o"}{ {MASK: " m", 0: " s"}.get(symbol, "") }{" n" * ring}">'
        f"{'' if symbol == MASK else CHARACTERS[symbol].replace('_', ' ')}</b>"
        for symbol, when, color, ring in zip(
            *map(np.ndarray.tolist, (text[k], fixed, colors, ringed)), strict=True
        )
    )


def _said(alt: str, state: np.ndarray) -> str:
    """What a screen reader says of a state: many masks in a row are one ellipsis."""
    words = "".join(CHARACTERS[symbol] for symbol in state).replace("_", " ")
    return f"{alt} The text now: {re.sub('[.]+', '…', words)}"


def _legend(waiting, first: int, last: int) -> str:
    scale = "".join(f'<i class="v{k}"></i>' for k in range(COLORS))
    open_ = {"masked": '<b class="o m"></b> masked', "still to change": '<b class="o">a</b> still to change'}
    parts = [
        f'fixed for good: step {first} <span class="lr-scale" aria-hidden="true">{scale}</span> step {last}',
        *(words for name, words in open_.items() if name in waiting),
        '<b class="v4 s"> </b> space',
    ]
    ringed = '<span class="lr-ringed" hidden><b class="o n">a</b> just changed</span>'
    return "".join(f"<span>{part}</span>" for part in parts) + ringed


def _checked(paths, times) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """All paths with the shape (texts, states, L), and the times."""
    if not paths:
        raise ValueError("paths must hold the states of at least one text, got none")
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
        raise ValueError(f"all paths must have the same shape, got {', '.join(map(str, sorted(shapes)))}")
    times, states = np.asarray(times, dtype=np.float64), next(iter(shapes))[1]
    if times.shape not in {(states,), (states - 1,)}:
        raise ValueError(f"{states} states need {states} times, or one less, got {times.shape}")
    if not (np.isfinite(times).all() and (np.diff(times) < 0).all() and times[0] <= 1 and times[-1] > 0):
        raise ValueError(f"times must fall from at most 1, and stay over 0, got {times.tolist()}")
    return found, times

"""The shared parts of interactive pictures: notebook display, page fragment, and controls.

What looks and moves alike in all of them is in ``shared.css``, whose classes begin with ``lw-``, and in ``shared.js``.
A picture of stored frames is made by :func:`loupe.plotting.frame_player` and needs no script of its own.
"""

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from importlib.resources import files

import numpy as np


@dataclass(frozen=True)
class Fragment:
    """A picture that a notebook displays: as HTML where possible, otherwise as one line of text.

    Attributes
    ----------
    html : str
        A fragment that needs nothing else: drawing, style, data and script.
    text : str
        One line that says what is shown.
    """

    html: str
    text: str

    def _repr_mimebundle_(self, include=None, exclude=None) -> dict:
        return {"text/html": self.html, "text/plain": self.text}


def assembled(name: str, title: str, body: str, data: dict, script: str = "") -> str:
    """A page fragment that needs nothing else.

    Parameters
    ----------
    name : str
        The module of the picture, such as ``"reverse_path"``: its style sheet has this name, where it has one, and
        its class is ``loupe-reverse-path``.
    title : str
        The heading.
    body : str
        HTML of the still. What is of no use without the script has the attribute ``hidden``.
    data : dict
        What the script reads.
    script : str
        The script of this folder that moves the picture; by default it has the name of the module.

    Returns
    -------
    str
        HTML whose id comes from all that is given, so that equal pictures have equal bytes.
    """
    kind, heading, script = "loupe-" + name.replace("_", "-"), escape(title), script or name
    # A "</script>" in a text would end the data.
    content = json.dumps(data, separators=(",", ":"), ensure_ascii=False).replace("<", "\\u003c")
    digest = hashlib.sha256((heading + body + content).encode()).hexdigest()[:10]
    # One function around both scripts: pages hold several pictures, whose names must not meet.
    code = f'(function () {{\n"use strict";\n{_bare("shared.js")}{_bare(f"{script}.js")}}})();'
    return f"""<div class="loupe-widget {kind} lw-{script} mathjax_ignore" id="{kind}-{digest}" role="group" \
aria-label="{heading}">
<style>{_bare("shared.css")}{_bare(f"{name}.css")}</style>
<p class="lw-title">{heading}</p>
{body}
<script type="application/json" class="lw-data">{content}</script>
<script>{code}</script>
</div>"""


def controls(following: str, *, last: int, at: int, label: str, said: str) -> str:
    """Play, a button for the next step with the words ``following``, and a slider from 0 to ``last``."""
    return f"""<div class="lw-controls" hidden>
<button type="button" class="lw-play">Play</button>
<button type="button" class="lw-next">{following}</button>
<input type="range" class="lw-slider" min="0" max="{last}" step="1" value="{at}" aria-label="{label}" \
aria-valuetext="{escape(said)}">
</div>"""


def line(words: str) -> str:
    """The line that describes the current frame; the script updates it, and screen readers read it aloud."""
    return f'<p class="lw-line" aria-live="polite">{escape(words, quote=False)}</p>'


def choice(what: str, options: list[str]) -> str:
    """Buttons of which one is pressed, or a list where they are too long; none where there is nothing to choose."""
    if len(options) == 1:
        return ""
    if sum(map(len, options)) > BUTTONS:
        listed = "".join(f'<option value="{k}">{escape(option)}</option>' for k, option in enumerate(options))
        return (
            f'<label class="lw-choice"><span>{escape(what)}</span> '
            f'<select autocomplete="off">{listed}</select></label>'
        )
    buttons = "".join(
        f'<button type="button" aria-pressed="{"false" if k else "true"}">{escape(option)}</button>'
        for k, option in enumerate(options)
    )
    return f'<span class="lw-choice" role="group" aria-label="{escape(what)}"><span>{escape(what)}</span>{buttons}</span>'


BUTTONS = 32
"""Characters that buttons side by side may have together."""


def beside(name: str) -> str:
    """The text of a style sheet or script of this folder."""
    return files("loupe.plotting.widgets").joinpath(name).read_text(encoding="utf-8")


def _bare(name: str) -> str:
    """The same without indents and lines of comment: pages hold it once for each picture; nothing where there is none."""
    if not files("loupe.plotting.widgets").joinpath(name).is_file():
        return ""
    return re.sub(r"(?m)^\s*//.*\n|^/\*[\s\S]*?\*/\n|^\s+", "", beside(name))


def check_words(**words) -> None:
    """ValueError for a heading or description that is empty or not text."""
    for name, text in words.items():
        if not isinstance(text, str) or not text.strip():
            raise ValueError(f"{name} must be a text that is not empty, got {text!r}")


def numbers(name: str, values, shape: Sequence[int | str], **lengths: tuple[int, int]) -> np.ndarray:
    """The values as finite float64 of this shape, or a one-sentence ValueError.

    ``numbers("points", points, ("n", 2), n=(2, 200))`` takes from 2 to 200 points of the plane.
    """
    try:
        values = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        raise ValueError(f"{name} must be an array of numbers, got {type(values).__name__}") from None
    bounds = [lengths.get(axis, (axis, axis)) for axis in shape]
    if values.ndim != len(shape) or any(
        not low <= length <= high for length, (low, high) in zip(values.shape, bounds, strict=True)
    ):
        wanted = f"({', '.join(map(str, shape))}{',' * (len(shape) == 1)})"
        ranges = "".join(f" with {axis} from {low} to {high}" for axis, (low, high) in lengths.items())
        raise ValueError(f"{name} must have shape {wanted}{ranges}, got {values.shape}")
    bad = np.argwhere(~(np.abs(values) <= LARGEST))
    if len(bad):
        place = tuple(bad[0].tolist())
        raise ValueError(f"{name} must be finite (at most {LARGEST:g}), got {values[place]} at {list(place)}")
    return values


LARGEST = 1e100
"""Numbers beyond this cannot be drawn, nor their squares averaged."""

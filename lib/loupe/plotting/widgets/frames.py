"""Stored pictures: played with a slider or chosen by name, and rotated if they are in 3D.

All pictures are made in Python. The script only swaps them, so no chapter needs its own script; without the script, the
still image and its line remain.
"""

import base64
import io
import json
import math
import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any, NamedTuple

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from loupe.plotting.vector import data_address, svg
from loupe.plotting.widgets.fragment import Fragment, assembled, check_words, choice, controls, line

MIDDLE, REACH, STEPS = (240, 200), 186, 1000
"""Of a picture in space, 480 by 400 units large: its middle, and its radius in units of the picture and of places."""

TURN = '<button type="button" class="lw-reset" hidden>Reset view</button>'
HINT = (
    '<span class="lw-hint" hidden>Drag the picture to turn it (on a phone start sideways), or focus it and press the \
arrow keys. </span>'
)


class Frame(NamedTuple):
    """One picture of a player, the line under it, and what a screen reader says of it if that isn't the line."""

    picture: Any
    line: str = ""
    said: str = ""


class Strip(NamedTuple):
    """Frames that follow each other, and HTML that stands above all of them."""

    frames: Sequence
    above: str = ""


def frame_player(
    frames, *, title: str, alt: str, choose: Sequence[str] = (), at: int | None = None, label: str = "frame",
    following: str = "Next", legend: str = "", note: str = "", layers: Mapping | None = None, view=None,
    look: str = "frames", text: str = "",
) -> Fragment:  # fmt: skip
    """Show pictures one after the other, with Play, a button for the next one, and a slider.

    Parameters
    ----------
    frames : sequence or mapping
        The pictures in their order: each a :class:`Frame`, or only its picture, which is

        - a matplotlib figure, which is closed, or the bytes of a PNG file; of width ``"narrow"`` a phone can show it;
        - an array of bytes, shape (H, W) or (H, W, 3), shown in hard pixels;
        - SVG or HTML, which begins with ``<``; any other text is shown as it stands.

        A mapping gives such sequences by name, to choose from; mappings of mappings give several choices.
    title : str
        The heading, in plain words.
    alt : str
        What the pictures show, for someone who cannot see them.
    choose : sequence of str
        What is chosen at each level of mappings, such as ``("graph", "text")``.
    at : int, optional
        The frame that is shown first, and where there is no script; by default the last.
    label, following : str
        What the slider moves, and the words on the button for the next frame.
    legend, note : str
        HTML of what stands under the picture.
    layers : mapping of str to str, optional
        Parts of SVG pictures that can be hidden, by class: what stands beside the tick, as HTML. A part that begins
        hidden has the attribute ``hidden`` in every picture.
    view : pair of float, optional
        The pictures are in space, and can be turned: at first by these degrees, seen from so many degrees above. Places
        are written ``x|y|z`` in them, in whole numbers, z upward; they are drawn in an SVG of 480 by 400 units, in
        which 1000 are the radius of what is seen.
    look : str
        The name of a style sheet of this folder.
    text : str
        One line that says what is shown where HTML can't be; by default the title.

    Returns
    -------
    Fragment
        Shown by a notebook when it is the last value of a cell. Equal data give equal bytes.
    """
    check_words(title=title, alt=alt)
    strips, names = _strips(frames, len(choose))
    first = strips[0]
    last = len(first.frames) - 1
    at = last if at is None else at
    if not 0 <= at <= last:
        raise ValueError(f"at must be one of the frames 0 to {last}, got {at}")
    data = {
        "alt": alt, "at": at, "sizes": [len(each) for each in names],
        "strips": packed([[each.above, *map(list, each.frames)] for each in strips]),
    }  # fmt: skip
    now, grip, extra, hint = first.frames[at], "", "", ""
    picture = now.picture
    if view is not None:
        data |= {"view": _checked_view(view), "middle": MIDDLE, "scale": REACH / STEPS}
        picture, grip = seen(picture, view), '<div class="lw-grip" hidden></div>'
        extra, hint = TURN, HINT
    ticks = "".join(
        f'<label><input type="checkbox" data-layer="{name}" hidden{"" if _begins_hidden(name, picture) else " checked"} '
        f'autocomplete="off"> {words}</label>'
        for name, words in (layers or {}).items()
    )
    choices = "".join(choice(what, each) for what, each in zip(choose, names, strict=True))
    moving = any(len(strip.frames) > 1 for strip in strips)
    moved = controls(following, last=last, at=at, label=label, said=now.line) if moving else ""
    body = f"""<div class="lw-choices" hidden>{choices}</div>
<div class="lw-above">{first.above}</div>
<div class="lw-stage"><div class="lw-picture" role="img" aria-label="{escape(_said(alt, now))}">{picture}</div>{grip}</div>
{moved}{line(now.line)}
<div class="lw-legend">{ticks}{legend}{extra}</div>
<p class="lw-note">{hint}{note}</p>"""
    return Fragment(assembled(look, title, body, data, "frames"), " ".join((text or title).split()))


def picture_chooser(pictures: Mapping, *, title: str, alt: str, choose: Sequence[str], **more) -> Fragment:
    """Show one of several stored pictures or curves, chosen by name.

    Parameters
    ----------
    pictures : mapping
        Pictures by name, of any kind that :func:`frame_player` takes; mappings of mappings give several choices.
    title, alt : str
        As of :func:`frame_player`.
    choose : sequence of str
        What is chosen at each level of mappings, such as ``("noise level", "method")``.
    **more
        ``legend``, ``note``, ``layers``, ``view``, ``look`` and ``text`` as of :func:`frame_player`.

    Returns
    -------
    Fragment
        Shown by a notebook when it is the last value of a cell. Equal data give equal bytes.
    """

    def leaves(tree):
        return {name: leaves(one) if isinstance(one, Mapping) else [one] for name, one in tree.items()}

    if not isinstance(pictures, Mapping) or len(pictures) < 2:
        raise ValueError("pictures must be a mapping of two or more pictures by name")
    return frame_player(leaves(pictures), title=title, alt=alt, choose=choose, **more)


def packed(value) -> str:
    """JSON, deflated and in letters: what pictures have in common takes no room."""
    content = json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    return base64.b64encode(zlib.compress(content.encode(), 9)).decode()


def seen(picture: str, view) -> str:
    """A picture in space as it is seen; the script does the same."""
    (sin_turn, cos_turn), (sin_tilt, cos_tilt) = ((math.sin(a), math.cos(a)) for a in map(math.radians, view))

    def place(found) -> str:
        x, y, z = map(int, found.groups())
        across, upward = x * cos_turn + y * sin_turn, z * cos_tilt + (y * cos_turn - x * sin_turn) * sin_tilt
        scale = REACH / STEPS
        return f"{MIDDLE[0] + scale * across:.1f} {MIDDLE[1] - scale * upward:.1f}"

    return re.sub(r"(-?\d+)\|(-?\d+)\|(-?\d+)", place, picture)


def _strips(frames, levels: int) -> tuple[list[Strip], list[list[str]]]:
    """All strips in order of the choices, the last of which changes fastest; and the names to choose from."""
    trees, names = [frames], []
    for level in range(levels):
        if not all(isinstance(tree, Mapping) and tree for tree in trees):
            raise ValueError(
                f"frames must be mappings by name {levels} deep, as choose says: at level {level} they aren't"
            )
        names.append([str(name) for name in trees[0]])
        for tree in trees:
            if [str(name) for name in tree] != names[-1]:
                raise ValueError(
                    f"every choice must have the same names: got {', '.join(map(str, tree))} beside {', '.join(names[-1])}"
                )
        trees = [one for tree in trees for one in tree.values()]
    strips = []
    for tree in trees:
        if isinstance(tree, Mapping):
            raise ValueError(f"choose must name every level of frames, got {levels} names")
        strip = tree if isinstance(tree, Strip) else Strip(tree)
        strip = Strip(list(_frames(strip.frames)), strip.above)
        if not strip.frames:
            raise ValueError("frames must hold at least one picture, got none")
        strips.append(strip)
    return strips, names


def _frames(frames) -> Iterator[Frame]:
    for one in frames:
        frame = one if isinstance(one, Frame) else Frame(one)
        yield frame._replace(picture=_html(frame.picture))


def _html(picture) -> str:
    if isinstance(picture, str):
        return picture if picture.startswith("<") else f"<pre>{escape(picture)}</pre>"
    if isinstance(picture, Figure):
        source = data_address(svg(picture))
        plt.close(picture)
        return f'<img alt="" src="{source}">'
    kind = ""
    if isinstance(picture, bytes):
        content = picture
    else:
        pixels = np.asarray(picture)
        if pixels.dtype != np.uint8 or not (pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[2] == 3)):
            raise ValueError(
                f"an image must be bytes (uint8) of shape (H, W) or (H, W, 3), got {pixels.dtype} of {pixels.shape}"
            )
        from PIL import Image

        buffer, kind = io.BytesIO(), ' class="lw-pixels"'
        Image.fromarray(pixels).save(buffer, "PNG")
        content = buffer.getvalue()
    if not content.startswith(b"\x89PNG"):
        raise ValueError("a picture of bytes must be a PNG file")
    return f'<img{kind} alt="" src="data:image/png;base64,{base64.b64encode(content).decode()}">'


def _said(alt: str, frame: Frame) -> str:
    """What a screen reader says of a picture; the script says the same."""
    return frame.said or (f"{alt} Now: {frame.line}" if frame.line else alt)


def _begins_hidden(name: str, picture: str) -> bool:
    return re.search(rf'class="{name}"[^>]* hidden', picture) is not None


def _checked_view(view) -> list[float]:
    try:
        turn, tilt = (round(float(angle), 3) for angle in view)
    except (TypeError, ValueError):
        raise ValueError(f"view must be two angles in degrees, such as (30, 18), got {view!r}") from None
    if not (math.isfinite(turn) and -90 <= tilt <= 90):
        raise ValueError(f"view must be a finite angle, and one from -90 to 90 degrees, got {view!r}")
    return [turn % 360, tilt]

"""A cloud of points and its barcode, with a slider over the merges of the filtration."""

import math
from html import escape

import numpy as np

from loupe.checks import edge_list
from loupe.plotting.widgets.fragment import Fragment, check_words, numbers
from loupe.plotting.widgets.frames import Frame, frame_player

SIDE = 360
"""Width and height of each of the two panels in units of their SVG."""

LEFT, SPAN, TOP, BOTTOM = 12, 330, 12, 318
"""The barcode's frame inside its panel."""

AXIS = "scale r, the diameter of the discs"
"""What the slider moves, and the barcode's axis says."""

NOTE = "Two points join when their discs touch. Orange: the newest edge, and the bar that it closes."


def filtration_slider(points, edges, lengths, *, title: str, alt: str) -> Fragment:
    """Show how the components of a plane cloud merge, and how their bars close, as the radius grows.

    At radius ``r`` two points are joined when they are at most ``r`` apart, that is when their discs of
    radius ``r/2`` touch. Of all edges, those of the minimum spanning tree are drawn: each joins two
    components and closes one bar. The newest edge and its bar are orange.

    Parameters
    ----------
    points : array_like, shape (n, 2)
        The cloud, of 2 to 200 points.
    edges : array_like of int, shape (n - 1, 2)
        A spanning tree, as pairs of rows of ``points``.
    lengths : array_like, shape (n - 1,)
        The Euclidean lengths of these edges.
    title : str
        The heading, in plain words.
    alt : str
        What the cloud looks like, for someone who cannot see it.

    Returns
    -------
    Fragment
        Shown by a notebook when it is the last value of a cell. Equal data give equal bytes.
    """
    check_words(title=title, alt=alt)
    points, edges, lengths = _checked(points, edges, lengths)
    order = np.argsort(lengths, kind="stable")
    edges, lengths = edges[order], lengths[order]
    largest = 1.12 * lengths[-1]
    digits = max(0, 2 - math.floor(math.log10(largest)))
    place, scale = _placing(points)
    radii = [0.0, *np.unique(lengths)]

    def frame(radius: float) -> Frame:
        dead = int(np.sum(lengths <= radius))
        components = len(points) - dead
        words = (
            f"r = {radius:.{digits}f} · {components} component{'s' * (components != 1)} · "
            f"E₁ so far {lengths[:dead].sum():.{digits}f}"
        )
        return Frame(
            _cloud(place, edges, radius * scale, dead) + _barcode(lengths, radius, largest, dead), words
        )

    return frame_player(
        list(map(frame, radii)), title=title, alt=alt, at=int(np.searchsorted(radii, np.median(lengths), "right")) - 1,
        label=AXIS, following="Next merge", note=NOTE, look="filtration",
        text=f"{title} ({len(points)} points; the slider needs a browser)",
    )  # fmt: skip


def _placing(points: np.ndarray) -> tuple[np.ndarray, float]:
    """Positions (n, 2) in the panel, y upward, and how many units of the panel one unit of length takes."""
    low, high = points.min(axis=0), points.max(axis=0)
    scale = (SIDE - 52) / float((high - low).max())
    return SIDE / 2 + (points - (low + high) / 2) * scale * np.array([1, -1]), scale


def _split(parts: list[str], dead: int, kind: str = "lf-in") -> str:
    """Three paths: what has merged, what has merged last, and what is still open."""
    last = max(dead - 1, 0)
    named = ((kind, parts[:last]), ("lf-new", parts[last:dead]), ("lf-open", parts[dead:]))
    return "".join(f'<path class="{name}" d="{"".join(each)}"/>' for name, each in named)


def _cloud(place: np.ndarray, edges: np.ndarray, disc: float, dead: int) -> str:
    spots = [f"{x:.1f} {y:.1f}" for x, y in place]
    dots = "".join(f"M{spot}h0" for spot in spots)
    lines = _split([f"M{spots[i]}L{spots[j]}" for i, j in edges[:dead]], dead)
    return (
        f'<svg viewBox="0 0 {SIDE} {SIDE}"><path class="lf-discs" style="stroke-width:{disc:.2f}px" d="{dots}"/>{lines}'
        f'<path class="lf-points" d="{dots}"/></svg>'
    )


def _barcode(lengths: np.ndarray, radius: float, largest: float, dead: int) -> str:
    unit = SPAN / largest
    gap = (BOTTOM - TOP) / (len(lengths) + 2)
    cap = min(3.5, 0.42 * gap)
    now = LEFT + radius * unit
    bars = []
    for k, length in enumerate([*lengths, math.inf]):  # the last stays open
        y, end = BOTTOM - (k + 1) * gap, LEFT + min(length, radius) * unit
        # A closed bar ends in a stroke across it.
        bars.append(
            f"M{LEFT} {y:.1f}H{end:.1f}" + (f"M{end:.1f} {y - cap:.1f}v{2 * cap:.1f}" if k < dead else "")
        )
    ticks = _ticks(largest)
    marks = "".join(f"M{LEFT + tick * unit:.1f} {BOTTOM}v5" for tick in ticks)
    labels = [(LEFT + tick * unit, BOTTOM + 19, f"{tick:g}") for tick in ticks] + [
        (LEFT + SPAN / 2, SIDE - 4, AXIS)
    ]
    words = "".join(f'<text x="{x:.1f}" y="{y}">{escape(text)}</text>' for x, y, text in labels)
    return (
        f'<svg viewBox="0 0 {SIDE} {SIDE}"><path class="lf-axis" d="M{LEFT} {BOTTOM}h{SPAN}{marks}"/>{words}'
        f'<g class="lf-bars">{_split(bars, dead)}</g><path class="lf-radius" d="M{now:.1f} {TOP - 8}V{BOTTOM}"/></svg>'
    )


def _ticks(largest: float) -> list[float]:
    """Four to seven round numbers from 0 to at most ``largest``."""
    power = 10.0 ** math.floor(math.log10(largest / 4))
    step = max(multiple * power for multiple in (1, 2, 5) if multiple * power <= largest / 3.5)
    return [float(f"{k * step:.6g}") for k in range(math.floor(largest / step) + 1)]


def _checked(points, edges, lengths) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    points = numbers("points", points, ("n", 2), n=(2, 200))
    count = len(points)
    edges = edge_list(edges, count, axis=1)
    if len(edges) != count - 1:
        raise ValueError(f"a spanning tree of {count} points has {count - 1} edges, got {len(edges)}")
    lengths = numbers("lengths", lengths, (count - 1,))
    component = np.arange(count)
    for i, j in edges:
        component[component == component[i]] = component[j]
    if len(set(component.tolist())) > 1:
        raise ValueError("edges must join all points: they are no spanning tree")
    distances = np.linalg.norm(points[edges[:, 0]] - points[edges[:, 1]], axis=1)
    if not np.allclose(distances, lengths, rtol=1e-6, atol=1e-9 * distances.max()) or lengths.max() <= 0:
        raise ValueError("lengths must be the Euclidean lengths of the edges, and not all zero")
    return points, edges, lengths

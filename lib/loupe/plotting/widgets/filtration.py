"""A cloud of points and its barcode, with a slider for the radius of the filtration.

The picture is drawn here, in Python, as SVG at the median radius. The script only moves what is already
there, so the still and the moving picture cannot differ, and without the script the still remains.
"""

import math
from html import escape

import numpy as np

from loupe.plotting.widgets.fragment import Fragment, assembled, check_words, controls, line

SIDE = 360
"""Width and height of each of the two panels in units of their SVG."""

STEPS = 500
"""Positions of the slider."""

AXIS = "scale r, the diameter of the discs"
"""What the slider moves, and the barcode's axis says."""

NOTE = "Two points join when their discs touch. Orange: the newest edge, and the bar that it closes."


class FiltrationSlider(Fragment):
    """A cloud with its barcode, and a slider for the radius."""


def filtration_slider(points, edges, lengths, *, title: str, alt: str) -> FiltrationSlider:
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
    FiltrationSlider
        Shown by a notebook when it is the last value of a cell. Equal data give equal bytes.
    """
    check_words(title=title, alt=alt)
    points, edges, lengths = _checked(points, edges, lengths)
    order = np.argsort(lengths, kind="stable")
    edges, lengths = edges[order], lengths[order]

    largest = 1.12 * lengths[-1]
    digits = max(0, 2 - math.floor(math.log10(largest)))
    radius = float(np.median(lengths))
    dead = int(np.sum(lengths <= radius))
    place, scale = _placing(points)
    # Ten significant digits: enough for the sums that are shown, and the same on every machine.
    data = {
        "lengths": [float(f"{length:.10g}") for length in lengths],
        "largest": float(f"{largest:.10g}"),
        "radius": float(f"{radius:.10g}"),
        "scale": float(f"{scale:.10g}"),
        "left": _LEFT,
        "span": _SPAN,
        "digits": digits,
    }
    cloud = _cloud(place, edges, radius * scale / 2, dead, alt)
    barcode = _barcode(lengths, radius, largest, dead)
    count = _count(radius, len(points) - dead, float(lengths[:dead].sum()), digits)
    position = round(STEPS * radius / largest)
    body = f"""<div class="lf-panels">
{cloud}
{barcode}
</div>
{controls("Next merge", last=STEPS, at=position, label=AXIS, said=count)}
{line(count)}
<p class="lw-note">{NOTE}</p>"""
    html = assembled("filtration", title, body, data)
    return FiltrationSlider(html, f"{title} ({len(points)} points; the slider needs a browser)")


_LEFT, _SPAN, _TOP, _BOTTOM = 12, 330, 12, 318  # the barcode's frame inside its panel


def _count(radius: float, components: int, total: float, digits: int) -> str:
    """The line under the slider; the script writes the same words."""
    noun = "component" if components == 1 else "components"
    return f"r = {radius:.{digits}f} · {components} {noun} · E₁ so far {total:.{digits}f}"


def _placing(points: np.ndarray) -> tuple[np.ndarray, float]:
    """Positions (n, 2) in the panel, y upwards, and how many units of the panel one unit of length takes."""
    low, high = points.min(axis=0), points.max(axis=0)
    margin = 26
    scale = (SIDE - 2 * margin) / float((high - low).max())
    centred = (points - (low + high) / 2) * scale
    return SIDE / 2 + centred * np.array([1, -1]), scale


def _cloud(place: np.ndarray, edges: np.ndarray, disc: float, dead: int, alt: str) -> str:
    discs = "".join(f'<circle cx="{x:.2f}" cy="{y:.2f}" r="{disc:.2f}"/>' for x, y in place)
    dots = "".join(f'<circle cx="{x:.2f}" cy="{y:.2f}" r="3"/>' for x, y in place)
    line = '<line x1="{:.2f}" y1="{:.2f}" x2="{:.2f}" y2="{:.2f}"{}/>'
    lines = "".join(line.format(*place[i], *place[j], _state(k, dead)) for k, (i, j) in enumerate(edges))
    return (
        f'<svg class="lf-cloud" viewBox="0 0 {SIDE} {SIDE}" role="img" aria-label="{escape(alt)}">'
        f'<g class="lf-discs">{discs}</g><g class="lf-edges">{lines}</g><g class="lf-points">{dots}</g></svg>'
    )


def _barcode(lengths: np.ndarray, radius: float, largest: float, dead: int) -> str:
    unit = _SPAN / largest
    gap = (_BOTTOM - _TOP) / (len(lengths) + 2)
    cap = min(3.5, 0.42 * gap)
    bars = []
    for k, length in enumerate(lengths):
        y = _BOTTOM - (k + 1) * gap
        end = _LEFT + min(length, radius) * unit
        closed = _state(k, dead)
        # A closed bar ends in a stroke across it; the script reads where, and half its height, from the data.
        tail = f"M{end:.2f} {y - cap:.2f}V{y + cap:.2f}" if closed else ""
        drawn = f"M{_LEFT} {y:.2f}H{end:.2f}{tail}"
        bars.append(f'<path data-y="{y:.2f}" data-cap="{cap:.2f}"{closed} d="{drawn}"/>')
    y = _BOTTOM - (len(lengths) + 1) * gap
    bars.append(f'<path class="lf-last" data-y="{y:.2f}" d="M{_LEFT} {y:.2f}H{_LEFT + radius * unit:.2f}"/>')
    ticks = _ticks(largest)
    marks = "".join(f"M{_LEFT + tick * unit:.2f} {_BOTTOM}v5" for tick in ticks)
    text = '<text x="{:.2f}" y="{}" text-anchor="middle">{}</text>'
    labels = "".join(text.format(_LEFT + tick * unit, _BOTTOM + 19, f"{tick:g}") for tick in ticks)
    labels += text.format(_LEFT + _SPAN / 2, SIDE - 4, AXIS)
    alt = (
        f"Barcode of the components: {len(lengths) + 1} bars start at scale 0; a bar closes when its "
        "component merges into another; one stays open."
    )
    at = _LEFT + radius * unit
    return (
        f'<svg class="lf-barcode" viewBox="0 0 {SIDE} {SIDE}" role="img" aria-label="{alt}">'
        f'<path class="lf-axis" d="M{_LEFT} {_BOTTOM}h{_SPAN}{marks}"/>{labels}'
        f'<g class="lf-bars">{"".join(bars)}</g>'
        f'<line class="lf-radius" x1="{at:.2f}" x2="{at:.2f}" y1="{_TOP - 8}" y2="{_BOTTOM}"/></svg>'
    )


def _state(rank: int, dead: int) -> str:
    """Class of an edge or a bar: merged, merged just now, or (no class) still open."""
    if rank >= dead:
        return ""
    return ' class="lf-in lf-new"' if rank == dead - 1 else ' class="lf-in"'


def _ticks(largest: float) -> list[float]:
    """Four to seven round numbers from 0 to at most ``largest``."""
    power = 10.0 ** math.floor(math.log10(largest / 4))
    step = max(multiple * power for multiple in (1, 2, 5) if multiple * power <= largest / 3.5)
    return [float(f"{k * step:.6g}") for k in range(math.floor(largest / step) + 1)]


def _checked(points, edges, lengths) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    points = np.asarray(points, dtype=np.float64)
    edges = np.asarray(edges)
    lengths = np.asarray(lengths, dtype=np.float64)
    if points.ndim != 2 or points.shape[1] != 2 or not 2 <= len(points) <= 200:
        raise ValueError(f"points must have shape (n, 2) with n from 2 to 200, got {points.shape}")
    if not np.isfinite(points).all():
        raise ValueError("points must be finite")
    count = len(points)
    if edges.shape != (count - 1, 2) or lengths.shape != (count - 1,):
        shapes = f"{edges.shape} and {lengths.shape}"
        raise ValueError(f"a spanning tree of {count} points has {count - 1} edges, got {shapes}")
    if edges.dtype.kind not in "iu" or edges.min() < 0 or edges.max() >= count:
        raise ValueError(f"edges must be pairs of rows of points, integers from 0 to {count - 1}")
    component = np.arange(count)
    for i, j in edges:
        component[component == component[i]] = component[j]
    if len(set(component.tolist())) > 1:
        raise ValueError("edges must join all points: they are no spanning tree")
    distances = np.linalg.norm(points[edges[:, 0]] - points[edges[:, 1]], axis=1)
    if not np.allclose(distances, lengths, rtol=1e-6, atol=1e-9 * distances.max()) or lengths.max() <= 0:
        raise ValueError("lengths must be the Euclidean lengths of the edges, and not all zero")
    return points, edges, lengths

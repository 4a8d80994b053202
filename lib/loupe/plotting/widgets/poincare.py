"""Three points in the Poincaré disk, the averages of them, and how far each average is from the points.

The picture is drawn here, in Python, as SVG. The script only moves what is already there when a point is
moved, and recomputes the averages; without the script the still image remains.
"""

import math
from html import escape

import numpy as np

from loupe.plotting.widgets.fragment import Fragment, assembled, check_words, numbers

SIDE = 360
"""Width and height of the panel in units of its SVG."""

CENTER, SCALE = 180, 156
"""Where the disk's center lies in the panel, and how many units its radius takes."""

LABEL_DISTANCE = 19
"""How far the letter of a point stands from it."""

AVERAGES = {
    "Fréchet mean": ("var(--lw-accent)", "M-7.5 0A7.5 7.5 0 1 1 7.5 0A7.5 7.5 0 1 1-7.5 0Z"),
    "tangent mean": ("var(--lw-second)", "M-5.5-5.5H5.5V5.5H-5.5Z"),
    "Einstein midpoint": ("var(--lw-third)", "M0-7L6.2 4.6H-6.2Z"),
    "Euclidean mean": ("var(--lw-fourth)", "M0-6L6 0L0 6L-6 0Z"),
}
"""The averages that can be shown, in order of drawing: color, and marker around (0, 0).

The first markers are the largest, so that all of them can be seen where averages coincide.
"""

NOTE = "F: summed squared distances to A, B, C, least at the Fréchet mean. Rings: distance 1, 2, 3 from the centre."


def poincare_disk(points, averages, *, title: str, alt: str) -> Fragment:
    """Show how four averages of three points of the hyperbolic plane differ, and follow the points.

    The disk is the Poincaré ball of curvature -1, all points have weight 1. For each average the sum ``F`` of
    the squared hyperbolic distances to the points is shown; three geodesics lead to the Fréchet mean.

    Parameters
    ----------
    points : array_like, shape (3, 2)
        The points at the start, in the open unit disk.
    averages : dict of str to array_like, shape (2,)
        Averages of these points, by name; the names are those of `AVERAGES`, and some may be missing. The
        script computes them by the same definitions when a point is moved.
    title : str
        The heading, in plain words.
    alt : str
        What the picture looks like, for someone who cannot see it.

    Returns
    -------
    Fragment
        Shown by a notebook when it is the last value of a cell. Equal data give equal bytes.
    """
    check_words(title=title, alt=alt)
    points, averages = _checked(points, averages)
    data = {
        "points": points.tolist(),
        "names": list(averages),
        "centre": CENTER,
        "scale": SCALE,
        "letter": LABEL_DISTANCE,
    }
    body = f"""<div class="lp-panels">
{_disk(points, averages, alt)}
<div class="lp-side">
{_table(points, averages)}
<div class="lw-controls" hidden>
<p>Drag a point, or focus it and press the arrow keys (with Shift: smaller steps). \
Push one to the edge: which average follows it?</p>
<button type="button" class="lp-reset">Reset</button>
</div>
</div>
</div>
<p class="lw-note">{NOTE}</p>"""
    html = assembled("poincare", title, body, data)
    return Fragment(html, f"{title} (three points; moving them needs a browser)")


def _disk(points: np.ndarray, averages: dict[str, np.ndarray], alt: str) -> str:
    rings, numbers = "", ""
    for distance in (1, 2, 3):
        radius = SCALE * math.tanh(distance / 2)
        rings += f'<circle cx="{CENTER}" cy="{CENTER}" r="{radius:.2f}"/>'
        numbers += f'<text x="{CENTER}" y="{CENTER + radius:.2f}" dy=".35em">{distance}</text>'
    mean = averages.get("Fréchet mean")
    arcs = "" if mean is None else "".join(f'<path d="{_geodesic(mean, point)}"/>' for point in points)
    marks = "".join(
        f'<path data-name="{name}" fill="{AVERAGES[name][0]}" d="{AVERAGES[name][1]}" {_move(place)}>'
        f"<title>{name}</title></path>"
        for name, place in averages.items()
    )
    handles = "".join(
        f'<g class="lp-point" {_move(point)}><circle class="lp-grip" r="20"/><circle class="lp-ring" r="11"/>'
        f'<circle class="lp-dot" r="6.5"/><text x="{x:.2f}" y="{y:.2f}" dy=".35em">{letter}</text></g>'
        for letter, point, (x, y) in zip("ABC", points, _labels(points), strict=True)
    )
    return (
        f'<svg class="lp-disk" viewBox="0 0 {SIDE} {SIDE}" role="img" aria-label="{escape(alt)}">'
        f'<circle class="lp-boundary" cx="{CENTER}" cy="{CENTER}" r="{SCALE}"/><g class="lp-rings">{rings}'
        f'<path d="M{CENTER - 4} {CENTER}h8M{CENTER} {CENTER - 4}v8"/>{numbers}</g>'
        f'<g class="lp-arcs">{arcs}</g><g class="lp-marks">{marks}</g>{handles}</svg>'
    )


def _table(points: np.ndarray, averages: dict[str, np.ndarray]) -> str:
    shown = {name: f"{_spread(place, points):.3f}" for name, place in averages.items()}
    least = min(shown.values(), key=float)
    rows = "".join(
        f'<tr data-name="{name}"{_LEAST if shown[name] == least else ""}><th scope="row">'
        f'<svg viewBox="-9 -9 18 18" aria-hidden="true"><path fill="{AVERAGES[name][0]}" '
        f'd="{AVERAGES[name][1]}"/></svg>{name}</th><td>{shown[name]}</td></tr>'
        for name in averages
    )
    return (
        '<table class="lw-table"><thead><tr><th scope="col">average</th>'
        f'<th scope="col"><i>F</i></th></tr></thead><tbody>{rows}</tbody></table>'
    )


_LEAST = ' class="lw-least"'


def _spread(place: np.ndarray, points: np.ndarray) -> float:
    """Sum of the squared hyperbolic distances from ``place`` to the points."""
    room = (1 - place @ place) * (1 - np.sum(points**2, axis=1))
    distances = 2 * np.arcsinh(np.sqrt(np.sum((points - place) ** 2, axis=1) / room))
    return float(np.sum(distances**2))


def _seen(place) -> tuple[float, float]:
    """Position in the panel, whose second coordinate grows downward."""
    return CENTER + SCALE * float(place[0]), CENTER - SCALE * float(place[1])


def _move(place) -> str:
    x, y = _seen(place)
    return f'transform="translate({x:.2f} {y:.2f})"'


def _geodesic(start, end) -> str:
    """Path of the geodesic: an arc of the circle through both places that is orthogonal to the boundary.

    Its center ``c`` solves ``2 c·p = 1 + |p|²`` for both places. Where they and the disk's center lie on one
    line there is no such circle, and near that line the arc cannot be told from its chord: the chord is drawn.
    """
    (a, b), (c, d) = map(tuple, (start, end))
    cross = a * d - b * c
    p, q = (1 + a * a + b * b) / 2, (1 + c * c + d * d) / 2
    # Not the radius but its product with the cross product, which stays finite when the circle becomes a line.
    times = math.sqrt(max(0.0, (p * d - q * b) ** 2 + (q * a - p * c) ** 2 - cross * cross))
    # An arc over the chord l rises above it by about l²/8r: less than a twentieth of a unit is not seen.
    chord = (a - c) ** 2 + (b - d) ** 2
    flat = SCALE * chord * abs(cross) <= 0.4 * times
    (x, y), (u, v) = _seen(start), _seen(end)
    if flat:
        return f"M{x:.2f} {y:.2f}L{u:.2f} {v:.2f}"
    radius = SCALE * times / abs(cross)
    return f"M{x:.2f} {y:.2f}A{radius:.2f} {radius:.2f} 0 0 {int(cross > 0)} {u:.2f} {v:.2f}"


def _labels(points: np.ndarray) -> list[tuple[float, float]]:
    """Where each letter stands from its point: away from the others, and beside the letter of a twin."""
    middle = [(float(points[0, i]) + float(points[1, i]) + float(points[2, i])) / 3 for i in (0, 1)]
    places = []
    for k, (x, y) in enumerate(points.tolist()):
        away = math.hypot(x - middle[0], y - middle[1])
        angle = math.atan2(y - middle[1], x - middle[0]) if away > 1e-9 else math.pi / 2
        angle += 2 * math.pi / 3 * sum(math.hypot(x - u, y - v) < 0.06 for u, v in points[:k].tolist())
        places.append((LABEL_DISTANCE * math.cos(angle), -LABEL_DISTANCE * math.sin(angle)))
    return places


def _checked(points, averages) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Points rounded to twelve decimals, the same on every machine, and the averages in order of drawing."""
    points = _inside("points", points, (3, 2)).round(12)
    unknown = [name for name in averages if name not in AVERAGES]
    if unknown:
        raise ValueError(f"unknown average {unknown[0]!r}: the known ones are {', '.join(AVERAGES)}")
    if not averages:
        raise ValueError(f"averages must hold at least one of {', '.join(AVERAGES)}, got none")
    found = {name: _inside(f"the {name}", averages[name], (2,)) for name in AVERAGES if name in averages}
    return points, found


def _inside(name: str, values, shape: tuple[int, ...]) -> np.ndarray:
    values = numbers(name, values, shape)
    if np.linalg.norm(values, axis=-1).max() >= 1 - 1e-9:
        raise ValueError(f"{name} must lie inside the unit disk, got {values.tolist()}")
    return values

"""Trajectories in space that can be turned and followed through time: the truth, and what models predict.

The picture after the last slice is drawn here, in Python, as SVG. The script draws the same from the same
numbers when the view, the time, the scene or the ticks change; without the script the still remains.
"""

import math
from dataclasses import is_dataclass
from html import escape

import numpy as np

from loupe.plotting.style import SERIES
from loupe.plotting.widgets.fragment import Fragment, assembled, check_words, controls, line

WIDE, HIGH = 480, 400
"""Width and height of the picture in units of its SVG."""

REACH = 186
"""How many units of the picture the radius of the scene takes."""

STEPS = 2000
"""Places are whole numbers: the radius of the scene in this many steps."""

BEYOND = 1.25
"""The scene has room for predictions as far out as this many radii of the truth."""

FARTHEST = 10
"""What is predicted farther out than this many radii is drawn in its direction, outside the picture."""

FEW = 12
"""Up to this many particles each slice is marked on their trails, and their shadows have trails."""

SIZES = (5.5, 3, 2)
"""Radius of a mark where there are few particles, up to twice as many, and more."""

SHAPES = (
    "M-1 0A1 1 0 1 1 1 0A1 1 0 1 1-1 0Z",
    "M-.9-.9H.9V.9H-.9Z",
    "M0-1.2L1.1 .8H-1.1Z",
    "M0-1.3L1.3 0L0 1.3L-1.3 0Z",
)
"""Markers of the groups, of radius 1 around (0, 0)."""

LARGEST = 1e100
"""Places farther out cannot be drawn, nor their squares averaged."""

ROOM = 40_000
"""Numbers that all scenes may have together."""

SHORT = 14
"""Names of up to so many characters are not broken over lines."""

MOST_SCENES, MOST_SLICES = 24, 100

NOTE = "Mean squared error: over particles and coordinates, from the unrounded data. Near things are darker and larger."

HINT = (
    "Drag the picture to turn it (on a phone start sideways), or focus it and press the arrow keys, + or −."
)


class TrajectoryView(Fragment):
    """Trajectories in space, with a slider over time and ticks for the predictions."""


def trajectory_view(
    scenes, *, edges=None, up: str = "z", title: str, alt: str, group_names=None, view=(30, 18)
) -> TrajectoryView:
    """Show predicted trajectories of particles over the true ones, in space and through time.

    The truth is black: solid lines and filled dots. Predictions have dashed lines and hollow marks in the
    colours of :data:`loupe.plotting.SERIES`, in the order given. Their mean squared error at the slice shown,
    and over all slices, stands beside the picture.

    Parameters
    ----------
    scenes : dict of str to dict or dataclass
        By name; the first is shown first. Each has

        - ``start``, shape (N, 3): where the particles are at time 0;
        - ``truth``, shape (P, N, 3): where they are after each slice;
        - ``predictions``, a dict of one to six names to arrays (P, N, 3), the same names in every scene;
        - ``times``, shape (P,): rising fractions of the window, the last is 1;
        - ``groups``, shape (N,), optional: integers, drawn as up to four shapes;
        - ``edges``, shape (M, 2), optional: pairs of particles joined by a line.
    edges : array_like of int, shape (M, 2), optional
        Bones or bonds of all scenes that have none of their own.
    up : str
        The axis that points up: ``"z"`` or ``"y"``.
    title : str
        The heading, in plain words.
    alt : str
        What the picture shows, for someone who cannot see it.
    group_names : dict of int to str, optional
        What the groups are called; by default "group 1" and so on.
    view : pair of float
        Degrees by which the scene is turned at first, and degrees from above, from -90 to 90.

    Returns
    -------
    TrajectoryView
        Shown by a notebook when it is the last value of a cell. Equal data give equal bytes.
    """
    check_words(title=title, alt=alt)
    if up not in ("z", "y"):
        raise ValueError(f"up must be 'z' or 'y', got {up!r}")
    view = _checked_view(view)
    scenes = _checked(scenes, edges)
    groups = _checked_names(scenes, group_names)
    data = {
        "alt": alt,
        "models": list(next(iter(scenes.values()))["predictions"]),
        "shapes": SHAPES,
        "view": view,
        "wide": WIDE,
        "high": HIGH,
        "reach": REACH,
        "steps": STEPS,
        "few": FEW,
        "sizes": SIZES,
        "scenes": [_scene(name, scene, up, list(groups)) for name, scene in scenes.items()],
    }
    packed = data | {"scenes": [_packed(scene) for scene in data["scenes"]]}
    first = data["scenes"][0]
    at = len(first["times"]) - 1
    words, spoken = _words(first, at), _spoken(data, first, at)
    body = f"""<div class="lw-choices" hidden>{_choice(list(scenes))}</div>
<div class="lt-panels">
<div class="lt-main">
<div class="lt-stage"><svg viewBox="0 0 {WIDE} {HIGH}" role="img" aria-label="{escape(alt + " Now: " + spoken)}">\
{_picture(data, first, at)}</svg><div class="lt-grip" hidden></div></div>
{controls("Next slice", last=at, at=at, label="time", said=spoken)}
{line(words)}
</div>
<div class="lt-side">
{_table(data, first, at)}
<p class="lw-legend">{_legend(groups, first)}</p>
<div class="lw-controls lt-options" hidden>
<label><input type="checkbox" class="lt-trails" checked autocomplete="off"> trails</label>
<label><input type="checkbox" class="lt-errors" autocomplete="off"> errors</label>
<span class="lw-joined"><button type="button" class="lt-closer" aria-label="closer">+</button>\
<button type="button" class="lt-farther" aria-label="farther">−</button>\
<button type="button" class="lt-reset" aria-label="reset view">Reset</button></span>
</div>
</div>
</div>
<p class="lw-note"><span class="lw-hint" hidden>{HINT} </span>{NOTE}</p>"""
    html = assembled("trajectories", title, body, packed)
    shown = ", ".join(data["models"])
    plain = " ".join(f"{title} (truth and {shown}; turning it needs a browser)".split())
    return TrajectoryView(html, plain)


def _scene(name: str, scene: dict, up: str, groups: list[int]) -> dict:
    """What the page holds of a scene; the still is drawn from the same whole numbers."""
    true = _upright(np.concatenate([scene["start"][None], scene["truth"]]), up)
    predicted = [_upright(places, up) for places in scene["predictions"].values()]
    low, high = true.min(axis=(0, 1)), true.max(axis=(0, 1))
    centre = (low + high) / 2
    radius = np.linalg.norm(true - centre, axis=-1).max()
    if radius == 0:
        radius = 1.0  # nothing moves and all particles are at one place
    far = max(_lengths(places - centre).max() for places in predicted)
    radius = max(radius, min(far, BEYOND * radius))
    spacing = _round_number(radius / 4)
    errors = [_errors(places, scene["truth"]) for places in scene["predictions"].values()]
    if scene["groups"] is None:
        kinds = [0] * len(scene["start"])
    else:
        kinds = [groups.index(group) for group in scene["groups"].tolist()]
    return {
        "name": name,
        "times": ["0", *(f"{time:.2f}" for time in scene["times"])],
        "truth": _places(true, centre, radius),
        "predicted": [_places(places, centre, radius) for places in predicted],
        "groups": kinds,
        "edges": scene["edges"].tolist(),
        "floor": [
            _whole(low[2] - centre[2] - 0.04 * radius, radius),
            *(_lines(low[i], high[i], centre[i], spacing, radius) for i in (0, 1)),
        ],
        "square": f"{spacing:.10g}",
        "now": [[_number(error) for error in each] for each in errors],
        "all": [_number(each[1:].mean()) for each in errors],
        # Which model is best at each slice; at the start none is.
        "least": [-1, *np.argmin([each[1:] for each in errors], axis=0).tolist()],
    }


def _upright(places: np.ndarray, up: str) -> np.ndarray:
    """Coordinates of which the third points up; the two hands stay what they are."""
    return places if up == "z" else places[..., [2, 0, 1]]


def _lengths(offsets: np.ndarray) -> np.ndarray:
    """Lengths that do not overflow."""
    largest = np.abs(offsets).max(axis=-1)
    unit = np.where(largest > 0, largest, 1)
    return unit * np.linalg.norm(offsets / unit[..., None], axis=-1)


def _places(places: np.ndarray, centre: np.ndarray, radius: float) -> list[list[int]]:
    """Whole numbers: for each slice the three coordinates of each particle, one after the other."""
    offsets = places - centre
    lengths = _lengths(offsets) / radius
    offsets = offsets / radius / np.maximum(1, lengths / FARTHEST)[..., None]
    return np.rint(STEPS * offsets).astype(int).reshape(len(places), -1).tolist()


def _packed(scene: dict) -> dict:
    """The same with smaller numbers: the truth less the slice before, predictions less the truth."""
    truth = np.array(scene["truth"])
    return scene | {
        "truth": [scene["truth"][0], *np.diff(truth, axis=0).tolist()],
        "predicted": [(np.array(places) - truth[1:]).tolist() for places in scene["predicted"]],
    }


def _whole(value: float, radius: float) -> int:
    return round(float(STEPS * value / radius))


def _lines(low: float, high: float, centre: float, spacing: float, radius: float) -> list[int]:
    """Where the lines of the floor cross an axis: two or more, also where the scene is flat."""
    first, last = math.floor(low / spacing + 1e-9), math.ceil(high / spacing - 1e-9)
    return [_whole(k * spacing - centre, radius) for k in range(first, max(last, first + 1) + 1)]


def _round_number(goal: float) -> float:
    """The nearest of 1, 2 and 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(goal))
    return min((factor * power for factor in (1, 2, 5, 10)), key=lambda each: abs(math.log(each / goal)))


def _errors(predicted: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Mean squared error at the start, where there is none, and after each slice."""
    return np.append(0.0, np.mean((predicted - truth) ** 2, axis=(1, 2)))


def _number(value: float) -> str:
    """Three digits, as people write them."""
    if value == 0:
        return "0"
    digits, power = f"{value:.2e}".split("e")
    power = int(power)
    if -3 <= power < 5:
        return f"{float(f'{value:.2e}'):.{max(0, 2 - power)}f}"
    raised = str(power).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    return f"{digits}·10{raised}"


def _picture(data: dict, scene: dict, at: int) -> str:
    """What is inside the SVG: floor, shadow, start, truth and predictions; the script writes the same."""
    few = len(scene["groups"]) <= data["few"]
    parts = [_floor(data, scene), _shadow(data, scene, at, few), _start(data, scene, few)]
    parts.append(_layer(data, scene, scene["truth"], at, "true", few))
    # The first model lies on top.
    for k in reversed(range(len(data["models"]))):
        places = [scene["truth"][0], *scene["predicted"][k]]
        parts.append(_layer(data, scene, places, at, f"m{k}", few))
    return "".join(parts)


def _seen(data: dict, place) -> tuple[float, float, float]:
    """Where a place is seen in the picture, and how near it is, from -1 to 1."""
    turn, tilt = map(math.radians, data["view"])
    x, y, z = (value / data["steps"] for value in place)
    across, away = x * math.cos(turn) + y * math.sin(turn), y * math.cos(turn) - x * math.sin(turn)
    upward = z * math.cos(tilt) + away * math.sin(tilt)
    near = z * math.sin(tilt) - away * math.cos(tilt)
    u, v = data["wide"] / 2 + data["reach"] * across, data["high"] / 2 - data["reach"] * upward
    return u, v, min(1, max(-1, near))


def _all_seen(data: dict, flat: list[int]) -> list[tuple[float, float, float]]:
    return [_seen(data, flat[i : i + 3]) for i in range(0, len(flat), 3)]


def _spot(place) -> str:
    return f"{place[0]:.1f} {place[1]:.1f}"


def _segment(places, edge) -> str:
    return f"M{_spot(places[edge[0]])}L{_spot(places[edge[1]])}"


def _shade(near: float) -> str:
    """Opacity: what is far is pale."""
    return f"{0.775 + 0.225 * near:.2f}"


def _floor(data: dict, scene: dict) -> str:
    level, first, second = scene["floor"]
    path = "".join(
        f"M{_spot(_seen(data, (a, second[0], level)))}L{_spot(_seen(data, (a, second[-1], level)))}"
        for a in first
    )
    path += "".join(
        f"M{_spot(_seen(data, (first[0], b, level)))}L{_spot(_seen(data, (first[-1], b, level)))}"
        for b in second
    )
    return f'<path class="lt-floor" d="{path}"/>'


def _shadow(data: dict, scene: dict, at: int, few: bool) -> str:
    """The truth, seen from above on the floor."""

    def fallen(flat: list[int]) -> list[tuple[float, float, float]]:
        level = scene["floor"][0]
        return [_seen(data, (flat[i], flat[i + 1], level)) for i in range(0, len(flat), 3)]

    slices = [fallen(flat) for flat in scene["truth"][: at + 1]]
    lines = "".join(_segment(slices[-1], edge) for edge in scene["edges"])
    if few:
        lines += "".join("M" + "L".join(map(_spot, trail)) for trail in zip(*slices, strict=True))
    dots = "".join(f"M{_spot(place)}h0" for place in slices[-1]) if few else ""
    return f'<path class="lt-shadow" d="{lines}"/><path class="lt-spots" d="{dots}"/>'


def _start(data: dict, scene: dict, few: bool) -> str:
    places = _all_seen(data, scene["truth"][0])
    lines = "".join(_segment(places, edge) for edge in scene["edges"])
    dots = "".join(f"M{_spot(place)}h0" for place in places)
    return f'<g class="lt-start{_many(few)}"><path d="{lines}"/><path class="lt-spots" d="{dots}"/></g>'


def _layer(data: dict, scene: dict, places: list[list[int]], at: int, kind: str, few: bool) -> str:
    """Trails, edges and marks of the truth or of one model, far particles first."""
    slices = [_all_seen(data, flat) for flat in places[: at + 1]]
    now = slices[-1]
    order = sorted(range(len(now)), key=lambda i: (now[i][2], i))
    trails, marks = "", ""
    for i in order:
        near = now[i][2]
        shade = _shade(near)
        trail = [each[i] for each in slices]
        trails += f'<path class="t" opacity="{shade}" d="M{"L".join(map(_spot, trail))}"/>'
        if few:
            passed = "".join(f"M{_spot(place)}{_RING}" for place in trail[1:-1])
            trails += f'<path class="s" opacity="{shade}" d="{passed}"/>'
        size = _size(len(now)) * (1 + 0.2 * near) + (1 if few and kind != "true" else 0)
        marks += (
            f'<path class="p" opacity="{shade}" transform="translate({_spot(now[i])}) scale({size:.2f})" '
            f'd="{data["shapes"][scene["groups"][i]]}"/>'
        )
    joined = "".join(
        f'<path class="e" opacity="{_shade((now[a][2] + now[b][2]) / 2)}" d="{_segment(now, (a, b))}"/>'
        for a, b in scene["edges"]
    )
    return f'<g class="lt-layer {kind}{_many(few)}">{trails}{joined}{marks}</g>'


def _many(few: bool) -> str:
    return "" if few else " many"


_RING = "m-2 0a2 2 0 1 0 4 0a2 2 0 1 0-4 0"


def _size(count: int) -> float:
    """Radius of the mark of a particle at middle distance."""
    return SIZES[0 if count <= FEW else 1 if count <= 2 * FEW else 2]


def _words(scene: dict, at: int) -> str:
    """The line under the picture; the script writes the same."""
    return f"Slice {at} of {len(scene['times']) - 1} · time {scene['times'][at]} of the window"


def _spoken(data: dict, scene: dict, at: int) -> str:
    """What a screen reader says of a slice, with the errors of the models that are ticked."""
    errors = ", ".join(f"{name} {now[at]}" for name, now in zip(data["models"], scene["now"], strict=True))
    return f"{_words(scene, at)}; mean squared error: {errors}"


def _choice(names: list[str]) -> str:
    """A list of the scenes; none where there is nothing to choose."""
    if len(names) == 1:
        return ""
    options = "".join(f'<option value="{k}">{escape(name)}</option>' for k, name in enumerate(names))
    select = f'<select class="lt-scene" autocomplete="off">{options}</select>'
    return f'<label class="lw-choice"><span>scene</span> {select}</label>'


def _table(data: dict, scene: dict, at: int) -> str:
    """Legend, ticks and errors in one."""
    rows = ""
    for k, name in enumerate(data["models"]):
        unbroken = ' class="lt-short"' if len(name) <= SHORT else ""
        least = (
            " lw-least"
            if scene["least"][at] >= 0 and scene["now"][k][at] == scene["now"][scene["least"][at]][at]
            else ""
        )
        rows += (
            f'<tr class="m{k}"><th scope="row"><label><input type="checkbox" checked hidden autocomplete="off">'
            f"{_key(f'm{k}')}<span{unbroken}>{escape(name)}</span></label></th>"
            f'<td class="lt-now{least}">{scene["now"][k][at]}</td><td class="lt-all">{scene["all"][k]}</td></tr>'
        )
    return (
        '<table class="lw-table"><caption>mean squared error</caption>'
        '<thead><tr><td></td><th scope="col">this slice</th><th scope="col">all slices</th></tr></thead>'
        f"<tbody>{rows}</tbody></table>"
    )


def _key(kind: str) -> str:
    return (
        f'<svg class="{kind}" viewBox="0 0 34 14" aria-hidden="true"><path class="t" d="M1 7H33"/>'
        f'<path class="p" transform="translate(17 7) scale(4.5)" d="{SHAPES[0]}"/></svg>'
    )


def _legend(groups: dict[int, str], scene: dict) -> str:
    parts = [f"{_key('true')} truth", '<i class="start"></i> start']
    if len(groups) > 1:
        parts += [
            f'<svg class="true lt-group" viewBox="0 0 14 14" aria-hidden="true"><path class="p" '
            f'transform="translate(7 7) scale(4.5)" d="{shape}"/></svg> {escape(name)}'
            for shape, name in zip(SHAPES, groups.values(), strict=False)
        ]
    parts.append(f'<i class="square"></i> floor: squares of <b class="lt-square">{scene["square"]}</b>')
    return "".join(f"<span>{part}</span>" for part in parts)


def _checked_view(view) -> list[float]:
    try:
        turn, tilt = (round(float(angle), 3) for angle in view)
    except (TypeError, ValueError):
        raise ValueError(f"view must be two angles in degrees, such as (30, 18), got {view!r}") from None
    if not (math.isfinite(turn) and -90 <= tilt <= 90):
        raise ValueError(f"view must be a finite angle, and one from -90 to 90 degrees, got {view!r}")
    return [turn % 360, tilt]


def _checked(scenes, edges) -> dict[str, dict]:
    """All scenes as arrays, each with the edges that it is drawn with."""
    if not hasattr(scenes, "items") or not 1 <= len(scenes) <= MOST_SCENES:
        raise ValueError(f"scenes must be a dict of 1 to {MOST_SCENES} scenes by name, got {_brief(scenes)}")
    found = {}
    for name, scene in scenes.items():
        check_words(**{"the name of a scene": name})
        found[name] = _checked_scene(f"scene {name!r}", scene, edges)
    models = {name: list(scene["predictions"]) for name, scene in found.items()}
    first = next(iter(models))
    for name, each in models.items():
        if each != models[first]:
            raise ValueError(
                f"scene {name!r} predicts by {', '.join(each)} but scene {first!r} by {', '.join(models[first])}: "
                "give all scenes the same predictions in the same order"
            )
    count = sum(
        scene["start"].size + scene["truth"].size * (1 + len(scene["predictions"]))
        for scene in found.values()
    )
    if count > ROOM:
        raise ValueError(
            f"scenes must hold at most {ROOM} numbers for a page, got {count}: show fewer scenes or slices"
        )
    return found


def _brief(value) -> str:
    return f"{len(value)}" if hasattr(value, "items") else type(value).__name__


def _checked_scene(where: str, scene, edges) -> dict:
    if not is_dataclass(scene) and not hasattr(scene, "get"):
        raise ValueError(f"{where} must be a dict or a dataclass, got {type(scene).__name__}")

    def part(name: str):
        value = getattr(scene, name, None) if is_dataclass(scene) else scene.get(name)
        if value is None:
            raise ValueError(f"{where} must have {name}: give it as {_FORMS[name]}")
        return value

    def optional(name: str):
        return getattr(scene, name, None) if is_dataclass(scene) else scene.get(name)

    start = _numbers(f"start of {where}", part("start"))
    if start.ndim != 2 or start.shape[1] != 3 or len(start) == 0:
        raise ValueError(f"start of {where} must have shape (N, 3), got {start.shape}")
    times = _numbers(f"times of {where}", part("times"))
    if times.ndim != 1 or not 1 <= len(times) <= MOST_SLICES:
        raise ValueError(
            f"times of {where} must have shape (P,) with P from 1 to {MOST_SLICES}, got {times.shape}"
        )
    if not (times[0] > 0 and (np.diff(times) > 0).all() and abs(times[-1] - 1) < 1e-6):
        raise ValueError(
            f"times of {where} must rise from more than 0 to 1, got {times.tolist()}: divide by the whole window"
        )
    shape = (len(times), len(start), 3)
    truth = _shaped(f"truth of {where}", part("truth"), shape)
    given = part("predictions")
    if not hasattr(given, "items") or not 1 <= len(given) <= len(SERIES):
        raise ValueError(
            f"predictions of {where} must be a dict of 1 to {len(SERIES)} arrays by name, got {_brief(given)}"
        )
    predictions = {}
    for name, places in given.items():
        check_words(**{f"the name of a prediction of {where}": name})
        predictions[name] = _shaped(f"prediction {name!r} of {where}", places, shape)
    own = optional("edges")
    return {
        "start": start,
        "truth": truth,
        "times": times,
        "predictions": predictions,
        "groups": _checked_groups(where, optional("groups"), len(start)),
        "edges": _checked_edges(where, edges if own is None else own, len(start)),
    }


_FORMS = {
    "start": "an array (N, 3)",
    "truth": "an array (P, N, 3)",
    "predictions": "a dict of arrays (P, N, 3)",
    "times": "an array (P,) of fractions of the window",
}


def _numbers(what: str, values) -> np.ndarray:
    try:
        values = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        raise ValueError(f"{what} must be an array of numbers, got {type(values).__name__}") from None
    bad = np.argwhere(~(np.abs(values) <= LARGEST))
    if len(bad):
        place = tuple(bad[0].tolist())
        raise ValueError(
            f"{what} must be finite (at most {LARGEST:g}), got {values[place]} at {list(place)}: leave such systems out"
        )
    return values


def _shaped(what: str, values, shape: tuple[int, ...]) -> np.ndarray:
    values = _numbers(what, values)
    if values.shape != shape:
        raise ValueError(
            f"{what} must have shape (P, N, 3) = {shape}, as times and start say, got {values.shape}"
        )
    return values


def _checked_groups(where: str, groups, count: int) -> np.ndarray | None:
    if groups is None:
        return None
    groups = np.asarray(groups)
    if groups.shape != (count,):
        raise ValueError(
            f"groups of {where} must have shape ({count},), one for each particle, got {groups.shape}"
        )
    if groups.dtype.kind not in "iuf" or not (
        np.isfinite(groups).all() and (groups == np.rint(groups)).all()
    ):
        raise ValueError(f"groups of {where} must be integers, got {groups.tolist()}")
    return groups.astype(np.int64)


def _checked_edges(where: str, edges, count: int) -> np.ndarray:
    edges = np.asarray([] if edges is None else edges)
    if edges.size == 0:
        return np.zeros((0, 2), dtype=np.int64)
    if edges.ndim != 2 or edges.shape[1] != 2 or edges.dtype.kind not in "iu":
        raise ValueError(
            f"edges of {where} must be integers of shape (M, 2), got {edges.dtype} of shape {edges.shape}"
        )
    outside = edges[(edges < 0) | (edges >= count)]
    if len(outside):
        raise ValueError(
            f"edges of {where} must join particles 0 to {count - 1}, got {outside[0]}: count them from 0"
        )
    return edges.astype(np.int64)


def _checked_names(scenes: dict[str, dict], names) -> dict[int, str]:
    """What the groups of all scenes are called, in rising order."""
    found = sorted(
        {
            group
            for scene in scenes.values()
            if scene["groups"] is not None
            for group in scene["groups"].tolist()
        }
    )
    if len(found) > len(SHAPES):
        raise ValueError(
            f"groups must be at most {len(SHAPES)} different ones, got {found}: merge some of them"
        )
    names = {} if names is None else dict(names)
    for group, name in names.items():
        check_words(**{"the name of a group": name})
        if group not in found:
            raise ValueError(f"group_names must be of groups that there are ({found}), got {group!r}")
    return {group: names.get(group, f"group {group}") for group in found}

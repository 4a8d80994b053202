"""Trajectories in 3D that can be rotated and followed through time: the truth and model predictions."""

import math
from dataclasses import asdict, is_dataclass
from html import escape

import numpy as np

from loupe.checks import edge_list
from loupe.plotting.style import SERIES
from loupe.plotting.widgets.fragment import Fragment, check_words, numbers
from loupe.plotting.widgets.frames import STEPS, Frame, Strip, frame_player

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

ROOM = 40_000
"""Numbers that all scenes may have together."""

MOST_SCENES, MOST_SLICES = 24, 100

NOTE = "Mean squared error: over particles and coordinates, from the unrounded data."


def trajectory_view(
    scenes, *, edges=None, up: str = "z", title: str, alt: str, group_names=None, view=(30, 18)
) -> Fragment:
    """Show predicted trajectories of particles over the true ones, in space and through time.

    The truth is black: solid lines and filled dots. Predictions have dashed lines and hollow marks in the
    colors of :data:`loupe.plotting.SERIES`, in the order given. Their mean squared error at the slice shown
    stands under the picture, that over all slices above it.

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
        What the groups are called, also some that no scene has; by default "group 1" and so on.
    view : pair of float
        Degrees by which the scene is turned at first, and degrees from above, from -90 to 90.

    Returns
    -------
    Fragment
        Shown by a notebook when it is the last value of a cell. Equal data give equal bytes.
    """
    check_words(title=title, alt=alt)
    if up not in ("z", "y"):
        raise ValueError(f"up must be 'z' or 'y', got {up!r}")
    scenes = _checked(scenes, edges)
    groups = _checked_names(scenes, group_names)
    models = list(next(iter(scenes.values()))["predictions"])
    layers = {f"m{k}": f"{_key(f'm{k}')} {escape(name)}" for k, name in enumerate(models)}
    return frame_player(
        {name: _strip(scene, up, list(groups)) for name, scene in scenes.items()},
        title=title, alt=alt, choose=("scene",), view=view, look="trajectories", label="time", following="Next slice",
        layers=layers | {"lt-trails": "trails", "x": "errors"}, legend=_legend(groups), note=NOTE,
        text=f"{title} (truth and {', '.join(models)}; turning it needs a browser)",
    )  # fmt: skip


def _strip(scene: dict, up: str, groups: list[int]) -> Strip:
    """All slices of a scene."""
    true = _upright(np.concatenate([scene["start"][None], scene["truth"]]), up)
    predicted = [_upright(places, up) for places in scene["predictions"].values()]
    low, high = true.min(axis=(0, 1)), true.max(axis=(0, 1))
    center = (low + high) / 2
    radius = np.linalg.norm(true - center, axis=-1).max()
    if radius == 0:
        radius = 1.0  # nothing moves and all particles are at one place
    far = max(_lengths(places - center).max() for places in predicted)
    radius = max(radius, min(far, BEYOND * radius))
    spacing = _round_number(radius / 4)
    level = low[2] - 0.04 * radius
    few, kinds = len(scene["start"]) <= FEW, [groups.index(group) for group in scene["groups"].tolist()]
    floor = _floor(low, high, level, spacing, lambda places: _spots(places, center, radius))
    fallen = _spots(np.concatenate([true[..., :2], np.full_like(true[..., :1], level)], -1), center, radius)
    spots = _spots(true, center, radius)
    ways = [[spots[0], *_spots(places, center, radius)] for places in predicted]
    edges = scene["edges"].tolist()
    still = floor + f'<g class="lt-start"><path d="{_joined(spots[0], edges)}"/>{_dots(spots[0])}</g>'

    def picture(at: int) -> str:
        shadow = _joined(fallen[at], edges) + (_trails(fallen[: at + 1]) if few else "")
        parts = [still, f'<g class="lt-shadow"><path d="{shadow}"/>{_dots(fallen[at]) if few else ""}</g>']
        parts.append(_layer(spots[: at + 1], "true", edges, kinds, few))
        # The first model lies on top.
        for k, places in reversed([*enumerate(ways)]):
            misses = "".join(f"M{a}L{b}" for a, b in zip(spots[at], places[at], strict=True))
            parts.append(_layer(places[: at + 1], f"m{k}", edges, kinds, few, misses))
        many = "" if few else ' class="many"'
        return f'<svg viewBox="0 0 480 400"><g{many}>{"".join(parts)}</g></svg>'

    errors = {
        name: [0.0, *np.mean((places - scene["truth"]) ** 2, axis=(1, 2))]
        for name, places in scene["predictions"].items()
    }
    last = len(true) - 1
    times = ["0", *(f"{time:.2f}" for time in scene["times"])]
    frames = [
        Frame(picture(at), f"Slice {at} of {last} · time {times[at]} of the window · mean squared error: "
              + ", ".join(f"{name} {_number(each[at])}" for name, each in errors.items()))
        for at in range(last + 1)
    ]  # fmt: skip
    whole = ", ".join(f"{escape(name)} {_number(np.mean(each[1:]))}" for name, each in errors.items())
    above = f'<p class="lt-above">mean squared error over all slices: {whole}; squares of the floor: {spacing:.10g}</p>'
    return Strip(frames, above)


def _upright(places: np.ndarray, up: str) -> np.ndarray:
    """Coordinates of which the third points up; the two hands stay what they are."""
    return places if up == "z" else places[..., [2, 0, 1]]


def _lengths(offsets: np.ndarray) -> np.ndarray:
    """Lengths that do not overflow."""
    largest = np.abs(offsets).max(axis=-1)
    unit = np.where(largest > 0, largest, 1)
    return unit * np.linalg.norm(offsets / unit[..., None], axis=-1)


def _spots(places: np.ndarray, center: np.ndarray, radius: float) -> list:
    """Places (..., 3) as nested lists of ``x|y|z``, in whole numbers of the scene's radius over STEPS."""
    offsets = places - center
    offsets = offsets / radius / np.maximum(1, _lengths(offsets) / radius / FARTHEST)[..., None]
    whole = np.rint(STEPS * offsets).astype(int)
    flat = np.array([f"{x}|{y}|{z}" for x, y, z in whole.reshape(-1, 3)], dtype=object)
    return flat.reshape(whole.shape[:-1]).tolist()


def _floor(low, high, level: float, spacing: float, spots) -> str:
    """A grid under all of the truth, at whole multiples of the spacing; two lines or more, also where it is flat."""
    first = [math.floor(each / spacing + 1e-9) for each in low]
    last = [max(math.ceil(each / spacing - 1e-9), least + 1) for each, least in zip(high, first, strict=True)]
    x, y = (spacing * np.arange(first[i], last[i] + 1) for i in (0, 1))
    ends = [((a, y[0], level), (a, y[-1], level)) for a in x] + [
        ((x[0], b, level), (x[-1], b, level)) for b in y
    ]
    return f'<path class="lt-floor" d="{"".join(f"M{a}L{b}" for a, b in spots(np.array(ends)))}"/>'


def _joined(spots: list[str], edges) -> str:
    return "".join(f"M{spots[a]}L{spots[b]}" for a, b in edges)


def _trails(slices: list[list[str]]) -> str:
    return "".join("M" + "L".join(trail) for trail in zip(*slices, strict=True))


def _dots(spots, kind: str = "lt-spots") -> str:
    return f'<path class="{kind}" d="{"".join(f"M{spot}h0" for spot in spots)}"/>'


def _layer(slices: list[list[str]], kind: str, edges, groups: list[int], few: bool, misses: str = "") -> str:
    """Trails, edges and marks of the truth or of one model, and lines to where the truth is."""
    now = slices[-1]
    size = SIZES[0 if few else 1 if len(now) <= 2 * FEW else 2] + (1 if few and kind != "true" else 0)
    passed = _dots([spot for each in slices[1:-1] for spot in each], "s") if few else ""
    marks = "".join(
        f'<path class="p" transform="translate({spot}) scale({size})" d="{SHAPES[group]}"/>'
        for spot, group in zip(now, groups, strict=True)
    )
    missed = f'<path class="x" d="{misses}" hidden/>' if misses else ""
    return (
        f'<g class="{kind}"><g class="lt-trails"><path class="t" d="{_trails(slices)}"/>{passed}</g>'
        f'{missed}<path class="e" d="{_joined(now, edges)}"/>{marks}</g>'
    )


def _round_number(value: float) -> float:
    """The number 1, 2 or 5 times a power of ten that is nearest, by its logarithm."""
    power = 10.0 ** math.floor(math.log10(value))
    return min((multiple * power for multiple in (1, 2, 5, 10)), key=lambda each: abs(math.log(each / value)))


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


def _key(kind: str) -> str:
    return (
        f'<svg class="{kind}" viewBox="0 0 34 14" aria-hidden="true"><path class="t" d="M1 7H33"/>'
        f'<path class="p" transform="translate(17 7) scale(4.5)" d="{SHAPES[0]}"/></svg>'
    )


def _legend(groups: dict[int, str]) -> str:
    parts = [f"{_key('true')} truth", '<i class="start"></i> start']
    if len(groups) > 1:
        parts += [
            f'<svg class="true lt-group" viewBox="0 0 14 14" aria-hidden="true"><path class="p" '
            f'transform="translate(7 7) scale(4.5)" d="{shape}"/></svg> {escape(name)}'
            for shape, name in zip(SHAPES, groups.values(), strict=False)
        ]
    return "".join(f"<span>{part}</span>" for part in parts)


# --- what can be drawn --------------------------------------------------------------------------------------


def _checked(scenes, edges) -> dict[str, dict]:
    """All scenes as arrays, each with the edges that it is drawn with."""
    if not hasattr(scenes, "items") or not 1 <= len(scenes) <= MOST_SCENES:
        raise ValueError(f"scenes must be a dict of 1 to {MOST_SCENES} scenes by name, got {_brief(scenes)}")
    for name in scenes:
        check_words(**{"the name of a scene": name})
    found = {name: _checked_scene(f"scene {name!r}", scene, edges) for name, scene in scenes.items()}
    first, *others = ((name, list(scene["predictions"])) for name, scene in found.items())
    for name, each in others:
        if each != first[1]:
            raise ValueError(
                f"scene {name!r} predicts by {', '.join(each)} but scene {first[0]!r} by {', '.join(first[1])}: "
                "give all scenes the same predictions in the same order"
            )
    count = sum(
        each["start"].size + each["truth"].size * (1 + len(each["predictions"])) for each in found.values()
    )
    if count > ROOM:
        raise ValueError(
            f"scenes must hold at most {ROOM} numbers for a page, got {count}: show fewer scenes or slices"
        )
    return found


def _brief(value) -> str:
    return f"{len(value)}" if hasattr(value, "items") else type(value).__name__


def _checked_scene(where: str, scene, edges) -> dict:
    scene = asdict(scene) if is_dataclass(scene) else scene
    if not hasattr(scene, "get"):
        raise ValueError(f"{where} must be a dict or a dataclass, got {type(scene).__name__}")
    for name in ("start", "truth", "times", "predictions"):
        if scene.get(name) is None:
            raise ValueError(f"{where} must have {name}")
    start = numbers(f"start of {where}", scene["start"], ("N", 3), N=(1, ROOM))
    times = numbers(f"times of {where}", scene["times"], ("P",), P=(1, MOST_SLICES))
    if not (times[0] > 0 and (np.diff(times) > 0).all() and abs(times[-1] - 1) < 1e-6):
        raise ValueError(
            f"times of {where} must rise from more than 0 to 1, got {times.tolist()}: divide by the whole window"
        )
    given = scene["predictions"]
    if not hasattr(given, "items") or not 1 <= len(given) <= len(SERIES):
        raise ValueError(
            f"predictions of {where} must be a dict of 1 to {len(SERIES)} arrays by name, got {_brief(given)}"
        )
    for name in given:
        check_words(**{f"the name of a prediction of {where}": name})
    count, shape = len(start), (len(times), len(start), 3)
    groups = scene.get("groups")
    groups = numbers(f"groups of {where}", np.zeros(count) if groups is None else groups, (count,))
    if (groups != np.rint(groups)).any():
        raise ValueError(f"groups of {where} must be integers, got {groups.tolist()}")
    own = scene.get("edges")
    own = edges if own is None else own
    own = np.zeros((0, 2), dtype=int) if own is None or len(own) == 0 else own
    return {
        "start": start,
        "truth": numbers(f"truth of {where}", scene["truth"], shape),
        "times": times,
        "predictions": {
            name: numbers(f"prediction {name!r} of {where}", one, shape) for name, one in given.items()
        },
        "groups": groups.astype(np.int64),
        "edges": edge_list(own, count, axis=1, name=f"edges of {where}"),
    }


def _checked_names(scenes: dict[str, dict], names) -> dict[int, str]:
    """What the groups of all scenes are called, in rising order."""
    found = sorted({group for scene in scenes.values() for group in scene["groups"].tolist()})
    if len(found) > len(SHAPES):
        raise ValueError(
            f"groups must be at most {len(SHAPES)} different ones, got {found}: merge some of them"
        )
    names = {group: f"group {group}" for group in found} | dict(names or {})
    for name in names.values():
        check_words(**{"the name of a group": name})
    return {group: names[group] for group in found}

"""The distribution of a reflected particle as a folded bell curve, with a slider over the noise.

Without a script, three noise levels are shown, and a larger picture of another one.
"""

import math
from statistics import NormalDist

import numpy as np

from loupe.plotting.widgets.fragment import Fragment, check_words, numbers
from loupe.plotting.widgets.frames import Frame, Strip, frame_player

PIECES = (0, -1, 1, -2, 2)
"""The pieces [k, k+1] of the line that are seen in the strip, as they lie on each other from the bottom up."""

WORDS = ("stays", "1 fold", "2 folds")
"""What happens to a piece, by its number of folds."""

DOTS = 40
"""Dots, each for an equal part of the mass."""

FRAMES = (0.08, 0.3, 1.0)
"""The amounts of noise of the three small frames, or the nearest ones that there are."""

SHOWN = 0.4
"""The amount of noise that the large frame shows first, or the nearest one that there is."""

FLOOR = 1.6
"""The scale of the densities reaches at least this high; the flat distribution has density 1."""

FAINTEST = 0.15
"""A layer that is nowhere as high, in units of the drawing, is not drawn."""

ROOM = 40_000
"""Numbers that the densities may have together."""

LARGE = {
    "width": 480, "height": 292, "left": 22, "right": 468, "strip": 84, "tall": 60, "top": 122, "base": 252,
    "every": 2, "under": 5,
}  # fmt: skip
"""The large frame: where the strip and the panel stand, and every how many points they are drawn."""

SMALL = {
    "width": 240, "height": 152, "left": 6, "right": 234, "strip": 44, "tall": 40, "top": 62, "base": 148,
    "every": 2, "under": 0,
}  # fmt: skip

NOTE = (
    "The line is folded at every whole number, like a strip of paper: after an odd number of folds a piece lies "
    "mirrored. Heights are scaled so that the highest point fits; the dashed line always stands at 1."
)


def folding_kernel(x, sigmas, starts, density, *, title: str, alt: str) -> Fragment:
    """Show how the heat kernel of [0, 1] with reflecting walls comes about by folding a bell curve.

    A particle at ``start`` in [0, 1] is moved by Gaussian noise of standard deviation ``sigma``. The line is
    then folded at the integers: each piece [k, k + 1] of the bell comes to lie on [0, 1], and these layers add
    up to the density of the reflected particle. The layers are computed here, the density is given.

    Parameters
    ----------
    x : array_like, shape (n,)
        A grid that rises from 0 to 1, of 11 to 201 points.
    sigmas : array_like, shape (m,)
        Increasing amounts of noise, 3 to 200 of them, at most 2; some 40 between 0.03 and 1.2 tell the story.
    starts : array_like, shape (s,)
        One to five starting points in [0, 1]; the first is shown first.
    density : array_like, shape (s, m, n)
        The density of the reflected particle on the grid, for each start and each amount of noise.
    title : str
        The heading, in plain words.
    alt : str
        What the picture shows, for someone who cannot see it.

    Returns
    -------
    Fragment
        Shown by a notebook when it is the last value of a cell. Equal data give equal bytes.
    """
    check_words(title=title, alt=alt)
    x, sigmas, starts, density = _checked(x, sigmas, starts, density)
    labels, small, reach = _labels(sigmas), _frames(sigmas), _reach(sigmas)
    dots = np.array([NormalDist().inv_cdf((k + 0.5) / DOTS) for k in range(DOTS)])

    def strip(start: float, rows: np.ndarray) -> Strip:
        tops = np.maximum(FLOOR, 1.08 * rows.max(axis=1))
        folded = [_percent(_folded(start, sigma)) for sigma in sigmas]
        names = [f"σ\u00a0=\u00a0{label}" for label in labels]
        words = [
            f"{name}\u00a0· {part}\u00a0% of the mass has been folded\u00a0· furthest from the flat distribution by "
            f"{_percent(np.abs(row - 1).max())}\u00a0%"
            for name, part, row in zip(names, folded, rows, strict=True)
        ]

        def drawing(i: int, view: dict) -> str:
            layers = _layers(x, start, sigmas[i], reach)
            return _drawing(x, layers, rows[i], tops[i], start, view, sigmas[i] * dots)

        above = "".join(
            f'<div class="lk-frame"><p class="lk-step"><span>{names[i]}</span> <span>{folded[i]}\u00a0% folded</span></p>'
            f'<div role="img" aria-label="Small frame: {words[i]}">{drawing(i, SMALL)}</div></div>'
            for i in small
        )
        frames = [Frame(drawing(i, LARGE), words[i]) for i in range(len(sigmas))]
        return Strip(frames, f'<div class="lk-frames">{above}</div>')

    return frame_player(
        {f"{start:g}": strip(float(start), rows) for start, rows in zip(starts, density, strict=True)},
        title=title, alt=alt, choose=("start",), at=int(np.argmin(np.abs(sigmas - SHOWN))), label="noise σ",
        following="More noise", legend=_LEGEND, note=NOTE, look="folding",
        text=f"{title} (noise from {labels[0]} to {labels[-1]}; the slider needs a browser)",
    )  # fmt: skip


_LEGEND = "".join(
    f"<span>{part}</span>"
    for part in (
        '<i class="sum"></i> reflected density: the sum of the layers',
        '<i class="flat"></i> flat distribution',
        f'<i class="dot"></i> 1/{DOTS} of the mass',
        '<i class="f3"></i> 3 folds or more',
    )
)


def _labels(sigmas: np.ndarray) -> list[str]:
    """The amounts of noise with as few decimals, from two on, as tell them apart."""
    for digits in range(2, 13):
        labels = [f"{sigma:.{digits}f}" for sigma in sigmas]
        if len(set(labels)) == len(labels):
            break
    return labels


def _percent(part: float) -> str:
    """A part of one as per cent; what is below 10 with one decimal."""
    percent = 100 * float(part)
    return f"{percent:.1f}" if percent < 9.95 else f"{percent:.0f}"


def _folded(start: float, sigma: float) -> float:
    """The mass that the noise has carried out of [0, 1]."""
    return (math.erfc(start / sigma / math.sqrt(2)) + math.erfc((1 - start) / sigma / math.sqrt(2))) / 2


def _frames(sigmas: np.ndarray) -> list[int]:
    """Which amounts of noise the small frames show: three different ones."""
    nearest = [int(np.argmin(np.abs(np.log(sigmas / goal)))) for goal in FRAMES]
    return nearest if len(set(nearest)) == 3 else [0, (len(sigmas) - 1) // 2, len(sigmas) - 1]


def _reach(sigmas: np.ndarray) -> int:
    """How many folds are counted: what lies farther out has less than a millionth of the mass."""
    return max(3, math.ceil(5 * sigmas[-1]))


def _layers(x: np.ndarray, start: float, sigma: float, reach: int) -> list[np.ndarray]:
    """Density of each piece at the place where a fold lays it, then of all pieces with three folds or more."""

    def piece(k: int) -> np.ndarray:
        place = k + (x if k % 2 == 0 else 1 - x)
        return np.exp(-(((place - start) / sigma) ** 2) / 2) / (sigma * math.sqrt(2 * math.pi))

    rest = sum(piece(k) + piece(-k) for k in range(3, reach + 1))
    return [*map(piece, PIECES), rest]


def _drawing(x, layers, density, tall, start: float, view: dict, noise) -> str:
    """One frame: the strip with the unfolded bell, and under it the layers, which add up to the density."""
    left, right, strip, top, base = (view[name] for name in ("left", "right", "strip", "top", "base"))
    kept = [*range(0, len(x) - 1, view["every"]), len(x) - 1]
    x, density, layers = x[kept], density[kept], [layer[kept] for layer in layers]
    unit, up, across = (right - left) / 5, (base - top) / tall, left + (right - left) * x
    kinds, bell, pile = [*map(abs, PIECES), 3], "", ""
    for k, layer in zip(PIECES, layers, strict=False):
        along = left + unit * (2 + k + (x if k % 2 == 0 else 1 - x))
        bell += f'<path class="f{abs(k)}" d="{_area(along, layer, strip, view["tall"] / tall, layer)}"/>'
    # The highest first: each of the others hides what is not above it.
    for j in reversed(range(len(layers))):
        pile += f'<path class="f{kinds[j]}" d="{_area(across, sum(layers[: j + 1]), base, up, layers[j])}"/>'
    first, second, high = left + 2 * unit, left + 3 * unit, strip - view["tall"]
    creases = "".join(f"M{left + k * unit:.1f} {high}V{strip}" for k in (1, 4))
    walls = "".join(f"M{wall:.1f} {high - 2}V{strip + 2}" for wall in (first, second))
    fan = f"M{first:.1f} {strip + 4}L{left} {top - 2}M{second:.1f} {strip + 4}L{right} {top - 2}"
    more = _words(view, unit, start, base - up) + _dots(view, start, noise) if view["under"] else ""
    return (
        f'<svg class="{"lk-large" if more else "lk-small"}" viewBox="0 0 {view["width"]} {view["height"]}">'
        f'<g class="lk-bell">{bell}</g><g class="lk-pile">{pile}</g><path class="lk-creases" d="{creases}"/>'
        f'<path class="lk-fan" d="{fan}"/><path class="lk-flat" d="M{left} {base - up:.1f}H{right}"/>'
        f'<path class="lk-sum" d="{_line(across, base - up * density)}"/><path class="lk-walls" '
        f'd="M{left} {strip}H{right}{walls}M{left} {top - 2}V{base}H{right}V{top - 2}"/>{more}</svg>'
    )


def _line(across: np.ndarray, heights: np.ndarray) -> str:
    """A path in steps of tenths, which take little room."""
    places = np.rint(10 * np.stack([across, heights], axis=1)).astype(int)
    steps = " ".join(f"{dx / 10:g} {dy / 10:g}" for dx, dy in np.diff(places, axis=0))
    return f"M{places[0, 0] / 10:g} {places[0, 1] / 10:g}l{steps}"


def _area(across: np.ndarray, upper: np.ndarray, base: float, scale: float, layer: np.ndarray) -> str:
    """Path of the ground under ``upper``; none where the layer on its top could not be seen."""
    if scale * layer.max() < FAINTEST:
        return ""
    return f"{_line(across, base - scale * upper)}V{base}H{across[0]:.1f}Z"


def _words(view: dict, unit: float, place: float, flat: float) -> str:
    """The labels of the large frame: what happens to each piece, the integers, the walls and the start."""
    strip, base, left = view["strip"], view["base"], view["left"]
    text = '<text x="{:.1f}" y="{:.1f}"{}>{}</text>'
    parts = [
        text.format(left + (2.5 + k) * unit, 16, f' class="f{abs(k)}"', WORDS[abs(k)]) for k in sorted(PIECES)
    ]
    for k in range(-2, 4):
        parts.append(text.format(left + (2 + k) * unit, strip + 22, "", str(k).replace("-", "−")))
    for k in (0, 1):
        parts.append(text.format(left + k * (view["right"] - left), base + 32, "", k))
    parts.append(text.format(left - 8, flat, ' dy=".35em"', 1))
    x = left + (view["right"] - left) * place
    parts.append(f'<path class="lk-start" d="M{x:.1f} {base + 11}l4 7h-8Z"/>')
    # The word keeps clear of the 0 and the 1.
    parts.append(text.format(min(max(x, left + 44), view["right"] - 44), base + 32, "", "start"))
    return "".join(parts)


def _dots(view: dict, place: float, noise) -> str:
    """The dots under the strip, some of them beyond it, and the same dots folded under the panel."""
    left, width = view["left"], view["right"] - view["left"]
    unfolded, folded = "", ""
    for u in place + noise:
        kind = f"f{min(3, abs(math.floor(u)))}"
        if -2 <= u <= 3:
            y = view["strip"] + view["under"]
            unfolded += f'<circle class="{kind}" cx="{left + width / 5 * (2 + u):.1f}" cy="{y}" r="1.8"/>'
        y = view["base"] + view["under"]
        folded += f'<circle class="{kind}" cx="{left + width * _fold(u):.1f}" cy="{y}" r="2.4"/>'
    return f'<g class="lk-far">{unfolded}</g><g class="lk-dots">{folded}</g>'


def _fold(u: float) -> float:
    """Where a place of the line comes to lie on [0, 1]."""
    v = math.fmod(abs(u), 2)
    return v if v <= 1 else 2 - v


def _checked(x, sigmas, starts, density) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    x = numbers("x", x, ("n",), n=(11, 201)).round(6)
    if not (x[0] == 0 and x[-1] == 1 and (np.diff(x) > 0).all()):
        raise ValueError("x must rise from 0 to 1")
    sigmas = numbers("sigmas", sigmas, ("m",), m=(3, 200))
    # Ten significant digits: the same on every machine.
    sigmas = np.array([float(f"{sigma:.10g}") for sigma in sigmas])
    if not ((np.diff(sigmas) > 0).all() and sigmas[0] > 0 and sigmas[-1] <= 2):
        raise ValueError(f"sigmas must rise, from more than 0 to at most 2, got {sigmas.tolist()}")
    starts = numbers("starts", starts, ("s",), s=(1, 5)).round(6)
    if not (len(set(starts.tolist())) == len(starts) and (starts >= 0).all() and (starts <= 1).all()):
        raise ValueError(f"starts must be different places in [0, 1], got {starts.tolist()}")
    density = numbers("density", density, (len(starts), len(sigmas), len(x)))
    if density.size > ROOM:
        raise ValueError(f"density must hold at most {ROOM} numbers for a page, got {density.size}")
    reach = _reach(sigmas)
    for start, rows in zip(starts, density, strict=True):
        for sigma, row in zip(sigmas, rows, strict=True):
            total = sum(_layers(x, start, sigma, reach))
            if not np.abs(row - total).max() <= 0.01 * total.max():
                raise ValueError(
                    f"density must be the folded bell curve within 1 %: it is not for start {start:g} and "
                    f"sigma {sigma:g}"
                )
    return x, sigmas, starts, density

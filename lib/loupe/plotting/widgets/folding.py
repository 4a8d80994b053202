"""The law of a reflected particle as a folded bell curve, with a slider over the noise.

Three amounts of noise and a larger picture of one more are drawn here, in Python. The script only changes
what is already there, so the still and the moving picture cannot differ, and without the script the still
remains.
"""

import math
from html import escape
from statistics import NormalDist

import numpy as np

from loupe.plotting.widgets.fragment import Fragment, assembled, check_words, choice, controls, line

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
"""The scale of the densities reaches at least this high; the flat law has density 1."""

FAINTEST = 0.15
"""A layer that is nowhere as high, in units of the drawing, is not drawn."""

ROOM = 40_000
"""Numbers that the densities may have together."""

LARGE = {
    "width": 480, "height": 292, "left": 22, "right": 468, "strip": 84, "tall": 60, "top": 122, "base": 252,
    "every": 1, "under": 5,
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


class FoldingKernel(Fragment):
    """A bell curve folded into [0, 1], with a slider for its width."""


def folding_kernel(x, sigmas, starts, density, *, title: str, alt: str) -> FoldingKernel:
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
    FoldingKernel
        Shown by a notebook when it is the last value of a cell. Equal data give equal bytes.
    """
    check_words(title=title, alt=alt)
    x, sigmas, starts, density = _checked(x, sigmas, starts, density)
    data = _data(x, sigmas, starts, density, alt)
    frames = "\n".join(_frame(data, density, i) for i in data["frames"])
    large, words = _drawing(data, density, data["at"], LARGE), _line(data, data["at"])
    body = f"""<div class="lw-choices" hidden>{choice("start", data["names"])}</div>
<div class="lk-frames">
{frames}
</div>
{large}
{controls("More noise", last=len(sigmas) - 1, at=data["at"], label="noise σ", said=words)}
{line(words)}
<p class="lw-legend">{_LEGEND}</p>
<p class="lw-note">{NOTE}</p>"""
    html = assembled("folding", title, body, data)
    first, final = data["labels"][0], data["labels"][-1]
    return FoldingKernel(html, f"{title} (noise from {first} to {final}; the slider needs a browser)")


_LEGEND = "".join(
    f"<span>{part}</span>"
    for part in (
        '<i class="sum"></i> reflected density: the sum of the layers',
        '<i class="flat"></i> flat law',
        f'<i class="dot"></i> 1/{DOTS} of the mass',
        '<i class="f3"></i> 3 folds or more',
    )
)


def _data(x, sigmas, starts, density, alt: str) -> dict:
    """What the page holds; the still is drawn from the same rounded numbers."""
    whole = np.rint(1000 * density).astype(int)
    peaks = density.max(axis=2)
    return {
        "alt": alt,
        "x": x.tolist(),
        "sigmas": sigmas.tolist(),
        "labels": _labels(sigmas),
        "starts": starts.tolist(),
        "names": [f"{start:g}" for start in starts],
        # In thousandths: the first value, then how far each lies from the one before.
        "density": np.concatenate([whole[..., :1], np.diff(whole, axis=2)], axis=2).tolist(),
        "tops": np.maximum(FLOOR, 1.08 * peaks).round(3).tolist(),
        "folded": [[_percent(_folded(start, sigma)) for sigma in sigmas] for start in starts],
        "far": [[_percent(np.abs(row - 1).max()) for row in rows] for rows in density],
        "frames": _frames(sigmas),
        "at": int(np.argmin(np.abs(sigmas - SHOWN))),
        "dots": [round(NormalDist().inv_cdf((k + 0.5) / DOTS), 4) for k in range(DOTS)],
        "reach": _reach(sigmas),
        "pieces": PIECES,
        "faintest": FAINTEST,
        "large": LARGE,
        "small": SMALL,
    }


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


def _drawing(data: dict, density: np.ndarray, i: int, view: dict, start: int = 0) -> str:
    """One frame: the strip with the unfolded bell, and under it the layers; the script moves both."""
    x, tall = np.array(data["x"]), data["tops"][start][i]
    kept = _kept(len(x), view["every"])
    x, total = x[kept], np.rint(1000 * density[start, i, kept]) / 1000
    place, sigma = data["starts"][start], data["sigmas"][i]
    layers = _layers(x, place, sigma, data["reach"])
    width, unit = view["right"] - view["left"], (view["right"] - view["left"]) / 5
    strip, base, up = view["strip"], view["base"], view["base"] - view["top"]
    across = view["left"] + width * x

    pieces = []
    for k, layer in zip(PIECES, layers[:-1], strict=True):
        along = view["left"] + unit * (2 + k + (x if k % 2 == 0 else 1 - x))
        pieces.append(_area(along, layer, strip, view["tall"] / tall, layer))
    stack = [
        _area(across, sum(layers[: j + 1]), base, up / tall, layer) for j, layer in enumerate(layers)
    ]  # from the bottom up
    kinds = [*map(abs, PIECES), 3]
    bell = "".join(
        f'<path class="f{kind}" d="{path}"/>' for kind, path in zip(kinds[:-1], pieces, strict=True)
    )
    # The highest first: each of the others hides what is not above it.
    pile = "".join(
        f'<path class="f{kind}" d="{path}"/>' for kind, path in zip(kinds[::-1], stack[::-1], strict=True)
    )
    curve = _points(across, base - up / tall * total)
    flat = base - up / tall
    left, right, first, second = view["left"], view["right"], view["left"] + 2 * unit, view["left"] + 3 * unit
    creases = "".join(f"M{left + k * unit:.1f} {strip - view['tall']}V{strip}" for k in (1, 4))
    walls = f"M{first:.1f} {strip - view['tall'] - 2}V{strip + 2}M{second:.1f} {strip - view['tall'] - 2}V{strip + 2}"
    under = view["under"]
    fan = f"M{first:.1f} {strip + 4}L{left} {view['top'] - 2}M{second:.1f} {strip + 4}L{right} {view['top'] - 2}"
    said = f"{data['alt']} Now: {_line(data, i, start)}" if under else f"Small frame: {_line(data, i, start)}"
    words, dots = "", ""
    if under:
        words = _words(view, unit, place, flat)
        dots = _dots(data, view, place, sigma)
    return (
        f'<svg class="{"lk-large" if under else "lk-small"}" viewBox="0 0 {view["width"]} {view["height"]}" '
        f'role="img" aria-label="{escape(said)}"><g class="lk-bell">{bell}</g><g class="lk-pile">{pile}</g>'
        f'<path class="lk-creases" d="{creases}"/><path class="lk-fan" d="{fan}"/>'
        f'<path class="lk-flat" d="M{left} {flat:.1f}H{right}"/><path class="lk-sum" d="M{curve}"/>'
        f'<path class="lk-walls" d="M{left} {strip}H{right}{walls}M{left} {view["top"] - 2}V{base}H{right}'
        f'V{view["top"] - 2}"/>{words}{dots}</svg>'
    )


def _kept(count: int, every: int) -> list[int]:
    """The points of the grid that a frame draws: the ends, and every so manieth between them."""
    return [*range(0, count - 1, every), count - 1]


def _points(across: np.ndarray, heights: np.ndarray) -> str:
    return "L".join(f"{u:.1f} {v:.2f}" for u, v in zip(across, heights, strict=True))


def _area(across: np.ndarray, upper: np.ndarray, base: float, scale: float, layer: np.ndarray) -> str:
    """Path of the ground under ``upper``; none where the layer on its top could not be seen."""
    if scale * layer.max() < FAINTEST:
        return ""
    return f"M{across[0]:.1f} {base}L{_points(across, base - scale * upper)}L{across[-1]:.1f} {base}Z"


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
    parts.append(text.format(left - 8, flat, ' class="lk-one" dy=".35em"', 1))
    seen = _start(view, place)
    parts.append(f'<path class="lk-start" d="M{seen[0]:.1f} {base + 11}l4 7h-8Z"/>')
    parts.append(text.format(seen[1], base + 32, ' class="lk-from"', "start"))
    return "".join(parts)


def _start(view: dict, place: float) -> tuple[float, float]:
    """Where the mark of the start stands, and where its word, which keeps clear of the 0 and the 1."""
    x = view["left"] + (view["right"] - view["left"]) * place
    return x, min(max(x, view["left"] + 44), view["right"] - 44)


def _dots(data: dict, view: dict, place: float, sigma: float) -> str:
    """The dots under the strip, some of them beyond it, and the same dots folded under the panel."""
    left, width = view["left"], view["right"] - view["left"]
    unfolded, folded = [], []
    for z in data["dots"]:
        u = place + sigma * z
        kind = f"f{min(3, abs(math.floor(u)))}"
        if not -2 <= u <= 3:
            kind += " out"
        along, across = left + width / 5 * (2 + u), left + width * _fold(u)
        circle = '<circle class="{}" cx="{:.1f}" cy="{}" r="{}"/>'
        unfolded.append(circle.format(kind, along, view["strip"] + view["under"], 1.8))
        folded.append(circle.format(kind, across, view["base"] + view["under"], 2.4))
    return f'<g class="lk-far">{"".join(unfolded)}</g><g class="lk-dots">{"".join(folded)}</g>'


def _fold(u: float) -> float:
    """Where a place of the line comes to lie on [0, 1]."""
    v = math.fmod(abs(u), 2)
    return v if v <= 1 else 2 - v


def _frame(data: dict, density: np.ndarray, i: int) -> str:
    return f'<div class="lk-frame"><p class="lk-step">{_short(data, i)}</p>{_drawing(data, density, i, SMALL)}</div>'


def _short(data: dict, i: int, start: int = 0) -> str:
    """The words over a small frame; the script writes the same."""
    return f"<span>σ\u00a0=\u00a0{data['labels'][i]}</span> <span>{data['folded'][start][i]}\u00a0% folded</span>"


def _line(data: dict, i: int, start: int = 0) -> str:
    """The line under the large frame; the script writes the same words."""
    return (
        f"σ\u00a0=\u00a0{data['labels'][i]}\u00a0· {data['folded'][start][i]}\u00a0% of the mass has been folded\u00a0· "
        f"furthest from the flat law by {data['far'][start][i]}\u00a0%"
    )


def _checked(x, sigmas, starts, density) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    x, sigmas, starts, density = (np.asarray(each, dtype=np.float64) for each in (x, sigmas, starts, density))
    if x.ndim != 1 or not 11 <= len(x) <= 201:
        raise ValueError(f"x must have shape (n,) with n from 11 to 201, got {x.shape}")
    x = x.round(6)
    if not (x[0] == 0 and x[-1] == 1 and (np.diff(x) > 0).all()):
        raise ValueError("x must rise from 0 to 1")
    if sigmas.ndim != 1 or not 3 <= len(sigmas) <= 200:
        raise ValueError(f"sigmas must have shape (m,) with m from 3 to 200, got {sigmas.shape}")
    # Ten significant digits: the same on every machine.
    sigmas = np.array([float(f"{sigma:.10g}") for sigma in sigmas])
    if not ((np.diff(sigmas) > 0).all() and sigmas[0] > 0 and sigmas[-1] <= 2):
        raise ValueError(f"sigmas must rise, from more than 0 to at most 2, got {sigmas.tolist()}")
    if starts.ndim != 1 or not 1 <= len(starts) <= 5:
        raise ValueError(f"starts must have shape (s,) with s from 1 to 5, got {starts.shape}")
    starts = starts.round(6)
    if not (len(set(starts.tolist())) == len(starts) and (starts >= 0).all() and (starts <= 1).all()):
        raise ValueError(f"starts must be different places in [0, 1], got {starts.tolist()}")
    shape = (len(starts), len(sigmas), len(x))
    if density.shape != shape:
        raise ValueError(f"density must have shape (starts, sigmas, points) {shape}, got {density.shape}")
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

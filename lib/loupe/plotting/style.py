"""One look for all figures: colors, sizes, axes.

A rank in a comparison has one color and one marker in every chapter (:data:`SERIES`): ours or the paper's
method first, the main baseline second, the others after them. Data and truth are black. A figure has no ground of
its own: on a dark page each of these colors has another value (:data:`DARK`). Colors of words and of lines keep a
contrast of at least 4.5 to 1 on both pages.
"""

import math
from typing import NamedTuple

import matplotlib.pyplot as plt
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, to_hex
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from loupe.deprecation import renamed

ACCENT = "#0f766e"
INK = "#1f2933"
MUTED = "#4b5563"
GRID = "#e5e7eb"
BLACK = "#000000"
"""Data and truth."""

GROUND = "#ffffff"
"""The page's background, to fill shapes that hide what lies below, such as hollow markers."""

DARK = {
    "#0f766e": "#5eead4",
    "#c2410c": "#fb923c",
    "#1d4ed8": "#93c5fd",
    "#a16207": "#facc15",
    "#7e22ce": "#d8b4fe",
    MUTED: "#9ca3af",
    INK: "#dbe2e8",
    GRID: "#2f3640",
    BLACK: "#e5e7eb",
    GROUND: "#121212",
}
"""What each color becomes on a dark page."""

ORDERED = "viridis"
"""Colormap of images of ordered quantities."""

STEPS = LinearSegmentedColormap.from_list("steps", ("#2468d8", "#8a4fd0", "#d0408f", "#d9661a"))
"""Colormap of ordered lines and points: they stand out from a white page and from a dark one, 3 to 1 or more."""

DIVERGING = "PuOr"
"""Colormap of signed quantities; center it at 0."""

SCREEN_DPI = 110
RASTER_DPI = 120

WIDTHS = {"narrow": 4.2, "page": 5.4}
"""Widths of figures in inches; at 5.4 inches text of 10 points has 9 pixels on a phone, whose column has 358."""


@renamed(colour="color")
class Series(NamedTuple):
    """How one rank of a comparison is drawn, whatever the chapter."""

    color: str
    marker: str


SERIES = (
    Series("#0f766e", "o"),
    Series("#c2410c", "s"),
    Series("#1d4ed8", "^"),
    Series("#a16207", "D"),
    Series("#7e22ce", "v"),
    Series("#4b5563", "X"),
)
"""Ours or the paper's method, the main baseline, then the others."""

TRUTH = {"color": BLACK, "linestyle": "--", "linewidth": 1.2}
"""Keyword arguments of a line that shows the truth."""

STYLE = {
    "figure.dpi": SCREEN_DPI,
    "figure.facecolor": "white",
    "figure.constrained_layout.use": True,
    "figure.constrained_layout.h_pad": 0.08,  # inches: the title of a panel keeps clear of the label above it
    "font.family": "DejaVu Sans",  # it comes with matplotlib: the same figure on every machine
    "font.size": 10,
    "text.color": INK,
    "axes.facecolor": "white",
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.titlelocation": "left",
    "axes.titlesize": "medium",
    "legend.fontsize": "medium",
    "legend.title_fontsize": "medium",
    "legend.handlelength": 1.6,
    "figure.titlesize": "medium",
    "axes.titleweight": "bold",
    "axes.titlepad": 8,
    "axes.prop_cycle": cycler(color=[rank.color for rank in SERIES]),
    "grid.color": GRID,
    "grid.linewidth": 0.7,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "legend.frameon": False,
    "lines.linewidth": 1.6,
    "lines.markersize": 4.5,
    "image.cmap": ORDERED,
    "image.interpolation": "none",  # the image's own pixels
}


def use_style() -> None:
    """Use the style of the book for all figures drawn from now on in this process.

    :func:`figure` does this by itself, because matplotlib asks for the settings of titles and legends only
    when they are drawn. Wrap the drawing in ``with matplotlib.rc_context():`` to keep settings of your own.
    """
    plt.rcParams.update(STYLE)


def figure(
    width: str | float = "page", height: float | None = None, columns: int = 1, rows: int = 1, **options
):
    """Start a figure in the style of the book.

    Parameters
    ----------
    width : str or float
        ``"narrow"`` or ``"page"`` (4.2 and 5.4 inches), or inches; what is wider than a page scrolls on a phone.
    height : float, optional
        Inches; by default the panels are 0.68 times as high as wide.
    columns, rows : int
        Number of panels.
    **options
        Other options of ``matplotlib.pyplot.subplots``, such as ``sharey=True`` or ``squeeze=False``.

    Returns
    -------
    figure : matplotlib.figure.Figure
    axes : matplotlib.axes.Axes or numpy.ndarray of them
        One axes, or an array of them when there are several panels.
    """
    if isinstance(width, str):
        if width not in WIDTHS:
            raise ValueError(f"width must be inches or one of {', '.join(WIDTHS)}, got {width!r}")
        width = WIDTHS[width]
    if height is None:
        height = 0.68 * width * rows / columns
    if width <= 0 or height <= 0:
        raise ValueError(f"width and height must be positive inches, got {width} and {height}")
    use_style()
    return plt.subplots(rows, columns, figsize=(width, height), **options)


def series(rank: int) -> dict:
    """Colour and marker of a rank, as keyword arguments of ``plot``, ``errorbar`` and ``scatter``.

    Parameters
    ----------
    rank : int
        0 for ours or the paper's method, 1 for the main baseline, 2 to 5 for others.

    Returns
    -------
    dict
        ``color`` and ``marker``.
    """
    if not 0 <= rank < len(SERIES):
        last = len(SERIES) - 1
        raise ValueError(f"rank must be between 0 and {last}, got {rank}: show fewer series in one figure")
    return {"color": SERIES[rank].color, "marker": SERIES[rank].marker}


def shades(count: int) -> list[str]:
    """Colours of so many ordered lines, such as noise levels, from the first to the last."""
    return [to_hex(STEPS(k / max(1, count - 1))) for k in range(count)]


def log_axis(axes: Axes, which: str = "x") -> None:
    """Make an axis logarithmic, with plain numbers at its major ticks; minor ones are left out, they collide.

    Call it after drawing: an axis of less than two decades is marked at 1, 2 and 5, a longer one at the
    powers of ten.

    Parameters
    ----------
    axes : matplotlib.axes.Axes
        The panel, with its data drawn.
    which : str
        ``"x"``, ``"y"`` or ``"xy"``.
    """
    if which not in ("x", "y", "xy"):
        raise ValueError(f"which must be 'x', 'y' or 'xy', got {which!r}")
    for name in which:
        getattr(axes, f"set_{name}scale")("log")
        low, high = getattr(axes, f"get_{name}lim")()
        decades = abs(math.log10(high / low))
        axis = getattr(axes, f"{name}axis")
        axis.set_major_locator(LogLocator(subs=(1, 2, 5) if decades < 2 else (1,)))
        axis.set_minor_locator(NullLocator())
        axis.set_major_formatter(FuncFormatter(_plain_or_power))


def _plain_or_power(value: float, _position) -> str:
    """Write 0.05 or 200 as they are, and what is longer as a power of ten."""
    if value <= 0:
        return ""
    if 1e-3 <= value < 1e5:
        return f"{value:,.10g}" if value < 1e4 else f"{value:,.0f}"
    exponent = math.floor(math.log10(value) + 1e-9)
    factor = value / 10**exponent
    power = rf"10^{{{exponent}}}"
    return f"${power}$" if abs(factor - 1) < 1e-6 else rf"${factor:.0f}\cdot{power}$"


def screen_width(sheet: Figure) -> int:
    """Width in pixels at which a figure is shown.

    Parameters
    ----------
    sheet : matplotlib.figure.Figure
        The figure.

    Returns
    -------
    int
        Pixels on the page.
    """
    return round(sheet.get_figwidth() * SCREEN_DPI)

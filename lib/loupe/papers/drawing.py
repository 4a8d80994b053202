"""How figures of chapters get their runs, and the automatic end of each caption.

A figure reads::

    @drawn_from("charged_egno", what="prediction of charged particles")
    def learning(found):
        sheet, axes = figure()
        axes.plot(found.runs.first["valid"])
        return Picture(sheet, "A falling curve.", "Validation error while the network trains.")

``learning(chapter)`` shows the picture with "Preset `gpu`, 3 seeds." after its caption, or says that the prediction
of charged particles has not been computed yet.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import wraps
from html import escape
from typing import Any, NamedTuple

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from loupe.experiment.claims import t_interval
from loupe.experiment.render import Block, table
from loupe.experiment.results import absent, find
from loupe.plotting import INK, MUTED, SERIES, figure, log_axis, show
from loupe.plotting.display import image


class Picture(NamedTuple):
    """A finished figure with its alt text and its caption."""

    sheet: Figure
    alt: str
    caption: str


def drawn_from(
    *names: str, what: str, presets: Sequence[str] | None = None, seeds: str = "all", partial: bool = False
) -> Callable:
    """Decorator: pass stored runs to a figure, a table or a widget.

    Parameters
    ----------
    *names
        Experiments; their runs are all of one preset.
    what
        The result it shows, as in "prediction of people has not been computed yet".
    presets
        Presets to search for runs, in this order; by default as in :func:`loupe.experiment.results.find`.
    seeds
        What the caption says after the preset: ``"all"`` the number of seeds, ``"first"`` the first seed (for figures
        of one run), ``""`` nothing (for deterministic results).
    partial
        Draw from the seeds computed so far.

    Returns
    -------
    callable
        Turns ``f(found, ...)``, which returns a :class:`Picture` or a block, into a function of a chapter. That
        function shows the picture or returns the block; without results, it returns a block that says so. With
        ``folded="a title"`` it returns either as a block folded under this title; the caption then has no formulas.
        ``found`` is a :class:`loupe.experiment.results.Found`.
    """

    def decorate(draw: Callable) -> Callable:
        @wraps(draw)
        def drawn(chapter, *args, folded="", **options):
            found = find(chapter, names, presets, partial)
            if found is None:
                return absent(what)
            made = draw(found, *args, **options)
            if not isinstance(made, Picture):
                return made.folded(folded) if folded else made
            said = {"all": f", {found.seeds}", "first": f", seed {found.first_seed}", "": ""}[seeds]
            caption = f"{made.caption} Preset `{found.preset}`{said}."
            return (
                _folded(made, caption, folded) if folded else show(made.sheet, alt=made.alt, caption=caption)
            )

        drawn.names, drawn.presets, drawn.partial = names, presets, partial
        return drawn

    return decorate


def _folded(made: Picture, caption: str, title: str) -> Block:
    """A picture and its caption under a title to click on."""
    words = re.sub("`(.*?)`", r"<code>\1</code>", escape(caption))
    line = f'<p style="{QUIET};font-size:.9rem">{words}</p>'
    block = Block(caption, image(made.sheet, made.alt) + line)
    plt.close(made.sheet)
    return block.folded(title)


def band(
    axes: Axes, x: np.ndarray, values: np.ndarray, rank: int, line: str = "-", label: str | None = None, **options
) -> None:  # fmt: skip
    """Draw the mean over seeds of curves, shape (seeds, n), with its 95 % t interval, in the color of a rank."""
    color = SERIES[rank].color
    axes.plot(x, values.mean(axis=0), line, color=color, label=label, **options)
    low, high = np.array([t_interval(column) for column in values.T.tolist()]).T.astype(float)
    axes.fill_between(x, low, high, color=color, alpha=0.2, linewidth=0)


def learning_curves(axes: Axes, curves: Mapping[str, tuple], levels: Mapping[str, float]) -> None:
    """Draw curves on a logarithmic axis of steps, above and below the levels of trivial rows, with a legend below.

    Parameters
    ----------
    axes
        They get a limit a little beyond the last points and the levels.
    curves
        By label: steps ``(n,)``, values ``(seeds, n)`` (thin lines, and a thick one for their mean), and the options of
        the lines.
    levels
        By label, which stands at the right.
    """
    for label, (steps, values, look) in curves.items():
        axes.plot(steps, values.T, **look, linewidth=0.6, alpha=0.5)
        axes.plot(steps, values.mean(0), **look, label=label)
    log_axis(axes)
    for label, level in levels.items():
        axes.axhline(level, color=INK, linewidth=0.7, linestyle=(0, (1, 2)), zorder=1)
        place = {"xycoords": ("axes fraction", "data"), "va": "center", "color": MUTED}
        axes.annotate(f"{label} {level:.2f}", (1.01, level), **place)
    ends = [*(values.mean(0)[-1] for _, values, _ in curves.values()), *levels.values()]
    margin = 0.03 * (max(ends) - min(ends))
    axes.set_ylim(min(ends) - margin, max(ends) + margin)
    axes.legend(ncols=2, loc="upper center", bbox_to_anchor=(0.5, -0.16))


def seed_bars(axes: Axes, x: np.ndarray, values: np.ndarray, **options) -> None:
    """Draw the means over seeds of values (seeds, n), with 95 % t intervals as bars from three seeds on."""
    intervals = [t_interval(column) if len(column) > 2 else (0.0, 0.0) for column in values.T.tolist()]
    axes.errorbar(x, values.mean(axis=0), [(high - low) / 2 for low, high in intervals], capsize=2, **options)


def mosaic(images: np.ndarray, columns: int, gap: int = 1) -> np.ndarray:
    """Images ``(n, C, H, W)`` of uint8 in rows, with transparent gaps between them: ``(height, width, 4)``."""
    images = np.moveaxis(np.asarray(images), 1, -1)
    images = np.concatenate(
        [np.broadcast_to(images, (*images.shape[:3], 3)), np.full_like(images[..., :1], 255)], -1
    )
    images = np.pad(images, ((0, -len(images) % columns), (0, gap), (0, gap), (0, 0)))
    _, height, width, channels = images.shape
    rows = images.reshape(-1, columns, height, width, channels).swapaxes(1, 2)
    return rows.reshape(-1, columns * width, channels)[:-gap, :-gap]


def draw_images(axes: Axes, images: np.ndarray, title: str, columns: int = 10) -> None:
    """Draw images as a :func:`mosaic`, at the left of a panel without axes."""
    axes.imshow(mosaic(images, columns))
    axes.set_axis_off()
    axes.set_anchor("W")
    axes.set_title(title)


def labeled_rows(rows: Mapping[str, np.ndarray]) -> Figure:
    """A figure with a row of images ``(n, height, width[, 3])`` for each label, which stands at its left."""
    sheet, panels = figure(height=0.5 * len(rows), rows=len(rows))
    for axes, (label, images) in zip(panels, rows.items(), strict=True):
        images = images[:, None] if images.ndim == 3 else np.moveaxis(images, -1, 1)
        axes.imshow(mosaic(images, len(images)))
        axes.set(xticks=[], yticks=[], frame_on=False)
        axes.set_ylabel(label, rotation=0, ha="right", va="center")
    return sheet


def image_rows(rows: Mapping[str, np.ndarray], columns: int = 10, **options) -> Figure:
    """A figure of images, with a titled panel for each entry; options are those of :func:`loupe.plotting.figure`."""
    sheet, panels = figure(rows=len(rows), **options)
    for axes, (title, images) in zip(panels, rows.items(), strict=True):
        draw_images(axes, images, title, columns)
    return sheet


QUIET = "color:var(--loupe-quiet,#56616f)"
SPANS = {
    "plain": "",
    "quiet": QUIET,
    "gap": "border-bottom:1px solid",
    "filled": "border-bottom:1px solid;font-weight:600;color:var(--loupe-accent,#0f766e)",
}
"""Styles of parts of a text in :func:`passages`."""


def passages(
    groups: Iterable[tuple[str, Iterable[tuple[str, Sequence[tuple[str, str]]]]]], note: str
) -> Block:
    """Texts, letter for letter, for readers to compare: on a phone each has the whole width.

    Parameters
    ----------
    groups
        A label that stands once, and its texts: each a few words before it, such as its cost, and its parts, with the
        name of a style in :data:`SPANS`.
    note
        The line below.

    >>> print(passages([("SEDD", [("2.50", [("it was ", "quiet"), ("the", "filled")])])], "The first text."))
    SEDD  2.50  it was [the]
    The first text.
    """
    mono = (
        "font-family:var(--pst-font-family-monospace,monospace);white-space:pre-wrap;overflow-wrap:anywhere"
    )
    lines, divs = [], []
    for label, texts in groups:
        divs.append(f'<div style="{QUIET};margin-top:.8rem">{escape(label)}</div>')
        for aside, parts in texts:
            html = "".join(f'<span style="{SPANS[kind]}">{escape(text)}</span>' for text, kind in parts)
            quiet = f'<span style="{QUIET};font-variant-numeric:tabular-nums">{escape(aside)}</span>' * bool(
                aside
            )
            line = f'{quiet}<span style="{mono}">{html}</span>'
            divs.append(f'<div style="display:flex;gap:.8rem;margin:.15rem 0">{line}</div>')
            text = "".join(f"[{text}]" if kind in ("gap", "filled") else text for text, kind in parts)
            lines.append("  ".join(filter(None, (label, aside, text))))
    divs.append(f'<div style="{QUIET};margin-top:.8rem">{escape(note)}</div>')
    html = f'<div class="loupe-passages" style="font-size:.85rem">{"".join(divs)}</div>'
    return Block("\n".join([*lines, note]), html)


def bench_table(bench: Mapping[str, Any], task: str, columns: Mapping[str, str]) -> Block:
    """A table of the measurements of one task that ``make bench`` stored.

    Parameters
    ----------
    bench
        The value of ``chapter.benchmark()``: ``rows``, each with its ``task``.
    task
        The task whose rows are shown.
    columns
        A template for the cells of each column, by its header, such as ``"{systems:,} × {steps:,}"``.

    >>> rows = [{"task": "a", "method": "loupe", "CPU ms": 2.5}, {"task": "b"}]
    >>> print(bench_table({"rows": rows}, "a", {"method": "{method}", "ms": "{CPU ms:.1f}"}))
    method  ms
    loupe   2.5
    """
    rows = [
        [re.sub(r"(?<=\de)-", "−", cell.format_map(row)) for cell in columns.values()]
        for row in bench["rows"]
        if row["task"] == task
    ]
    return table(tuple(columns), rows, numeric=True)

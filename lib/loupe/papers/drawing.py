"""Where the figures of chapters get their runs, and what is said under each by itself.

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
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from loupe.experiment.claims import t_interval
from loupe.experiment.render import Block, table
from loupe.experiment.results import absent, find
from loupe.plotting import SERIES, show


class Picture(NamedTuple):
    """A finished figure, what it shows for someone who cannot see it, and its caption."""

    sheet: Figure
    alt: str
    caption: str


def drawn_from(
    *names: str, what: str, presets: Sequence[str] | None = None, seeds: str = "all", partial: bool = False
) -> Callable:
    """Give a figure, a table or a widget the stored runs that it is drawn from.

    Parameters
    ----------
    *names
        Experiments; their runs are all of one preset.
    what
        What has to be computed for it, as in "prediction of people has not been computed yet".
    presets
        Where runs are looked for, in this order; by default as :func:`loupe.experiment.results.find` does.
    seeds
        What the caption says after the preset: ``"all"`` how many seeds there are, ``"first"`` the first one, for
        pictures of one run, and ``""`` nothing, where chance plays no part.
    partial
        Draw from the seeds that are there, where others have not been computed yet.

    Returns
    -------
    callable
        Makes of ``f(found, ...)``, which returns a :class:`Picture` or a block, a function of a chapter. It shows
        the picture, or returns the block, or one that says what has not been computed. ``found`` is a
        :class:`loupe.experiment.results.Found`.
    """

    def decorate(draw: Callable) -> Callable:
        @wraps(draw)
        def drawn(chapter, *args, **options):
            found = find(chapter, names, presets, partial)
            if found is None:
                return absent(what)
            made = draw(found, *args, **options)
            if not isinstance(made, Picture):
                return made
            said = {"all": f", {found.seeds}", "first": f", seed {found.first_seed}", "": ""}[seeds]
            return show(made.sheet, alt=made.alt, caption=f"{made.caption} Preset `{found.preset}`{said}.")

        drawn.names, drawn.presets, drawn.partial = names, presets, partial
        return drawn

    return decorate


def band(
    axes: Axes, x: np.ndarray, values: np.ndarray, rank: int, line: str = "-", label: str | None = None, **options
) -> None:  # fmt: skip
    """Draw the mean over seeds of curves, shape (seeds, n), with its 95 % t interval, in the color of a rank."""
    colour = SERIES[rank].colour
    axes.plot(x, values.mean(axis=0), line, color=colour, label=label, **options)
    low, high = np.array([t_interval(column) for column in values.T.tolist()]).T.astype(float)
    axes.fill_between(x, low, high, color=colour, alpha=0.2, linewidth=0)


def bench_table(bench: Mapping[str, Any], task: str, columns: Mapping[str, str]) -> Block:
    """A table of the measurements of one task that ``make bench`` stored.

    Parameters
    ----------
    bench
        What ``chapter.benchmark()`` gives: ``rows``, each with its ``task``.
    task
        The rows that are shown.
    columns
        By the head of each column a template of its cells, such as ``"{systems:,} × {steps:,}"``.

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

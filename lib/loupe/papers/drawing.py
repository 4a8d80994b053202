"""Where the figures of chapters get their runs, and what is said under each by itself.

>>> @drawn_from("charged", what="prediction of charged particles")
... def learning(found):
...     sheet, axes = figure()
...     ...
...     return Picture(sheet, "A falling curve.", "Validation error while the network trains.")

``learning(chapter)`` shows the picture with "Preset `gpu`, 3 seeds." after its caption, or says that the prediction
of charged particles has not been computed yet.
"""

from collections.abc import Callable, Sequence
from functools import wraps
from typing import NamedTuple

from matplotlib.figure import Figure

from loupe.experiment.results import OWN, absent, find
from loupe.plotting import show


class Picture(NamedTuple):
    """A finished figure, what it shows for someone who cannot see it, and its caption."""

    sheet: Figure
    alt: str
    caption: str


def drawn_from(
    *names: str, what: str, presets: Sequence[str] = (OWN, "gpu", "cpu"), seeds: str = "all"
) -> Callable:
    """Give a figure, a table or a widget the stored runs that it is drawn from.

    Parameters
    ----------
    *names
        Experiments; their runs are all of one preset.
    what
        What has to be computed for it, as in "prediction of people has not been computed yet".
    presets
        Where runs are looked for, in this order; ``OWN`` is the preset that the chapter is opened at.
    seeds
        What the caption says after the preset: ``"all"`` how many seeds there are, ``"first"`` the first one, for
        pictures of one run, and ``""`` nothing, where chance plays no part.

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
            found = find(chapter, names, presets)
            if found is None:
                return absent(what)
            made = draw(found, *args, **options)
            if not isinstance(made, Picture):
                return made
            said = {"all": f", {found.seeds}", "first": f", seed {found.first_seed}", "": ""}[seeds]
            return show(made.sheet, alt=made.alt, caption=f"{made.caption} Preset `{found.preset}`{said}.")

        drawn.names = names
        return drawn

    return decorate

"""Results for pictures: those of the preset at hand, or of another one where that has none, and what to say without."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from loupe.errors import LoupeError
from loupe.experiment.chapter import Chapter, Runs
from loupe.experiment.folders import StoreError
from loupe.experiment.render import Block


@dataclass(frozen=True)
class Found:
    """The runs of an experiment, or those of several by name, and the preset that they are of."""

    runs: Runs | dict[str, Runs]
    preset: str


def stored(chapter: Chapter, name: str, others: Sequence[str] = ("gpu",)) -> Found | None:
    """The runs of an experiment, at the chapter's preset or else at the first of ``others`` that has them.

    ``None`` if no preset has them. What is found says its preset: captions that show it must say so too.
    """
    for preset in dict.fromkeys((chapter.preset, *others)):
        runs = stored_at(chapter, name, preset)
        if runs is not None:
            return Found(runs, preset)
    return None


def stored_together(chapter: Chapter, names: Sequence[str], others: Sequence[str] = ("gpu",)) -> Found | None:
    """The runs of several experiments by name, all of one preset: the chapter's, or the first of ``others`` with all."""
    for preset in dict.fromkeys((chapter.preset, *others)):
        runs = {name: stored_at(chapter, name, preset) for name in names}
        if None not in runs.values():
            return Found(runs, preset)
    return None


def stored_at(chapter: Chapter, name: str, preset: str) -> Runs | None:
    """The runs of an experiment at this preset and no other; ``None`` where it has none."""
    source = chapter.stored
    if preset != chapter.preset:
        source = replace(source, preset=preset, overrides={}, seed=None)
    try:
        return source[name]
    except StoreError:
        raise  # damaged is not missing
    except LoupeError:
        return None


def absent(what: str) -> Block:
    """A sentence in place of a picture of what has not been computed."""
    text = f"Nothing to show here: {what} has not been computed yet."
    return Block(text, markdown=f"*{text}*")

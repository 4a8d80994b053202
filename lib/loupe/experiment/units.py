"""Experiments and units: an experiment is a plain function; one (experiment, seed) is a unit of work."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from types import ModuleType
from typing import Any

from loupe.errors import LoupeError, shown
from loupe.experiment.presets import Preset


def experiment(function: Callable | None = None, *, seeds: str = "seeds") -> Callable:
    """Mark a function ``f(config, *, seed, device)`` of a paper's room as one of its experiments.

    The function returns a dictionary of NumPy arrays, numbers and strings: all that its figures and claims need.
    One with a further argument ``work`` is given a folder of its own for checkpoints: after an interruption it finds
    there what it left, as long as neither its settings nor the package have changed.

    Parameters
    ----------
    function
        The function to mark.
    seeds
        The field of the chapter's ``Config`` that lists this experiment's seeds. An empty list means that the
        experiment is not run at that preset.
    """

    def mark(function: Callable) -> Callable:
        function.seeds_field = seeds
        return function

    return mark if function is None else mark(function)


def experiments_of(room: ModuleType) -> dict[str, Callable]:
    """The experiments of a paper's room by name, in the order in which they were written."""
    return {name: value for name, value in vars(room).items() if hasattr(value, "seeds_field")}


def room_of(slug: str) -> ModuleType:
    """The room ``loupe.papers.SLUG`` of a written chapter, found by name: this floor knows no paper."""
    return import_module("loupe.papers").load_room(slug)


@dataclass(frozen=True)
class Unit:
    """One experiment at one seed under one configuration.

    ``published`` tells whether its result belongs among the committed ones: an exact preset other than
    ``smoke``, and a seed that the preset lists.
    """

    slug: str
    preset: str
    experiment: str
    seed: int
    config: Preset
    published: bool

    def __str__(self) -> str:
        return f"{self.slug}/{self.experiment} seed {self.seed} at {self.preset}"


def resolve_config(room: ModuleType, preset: str, overrides: Mapping[str, Any] | None = None) -> Preset:
    """The configuration of a preset with overrides applied; unknown names are refused in one sentence."""
    if not isinstance(preset, str) or preset not in room.PRESETS:
        raise LoupeError(f"no preset is called {shown(preset)}: choose one of {', '.join(room.PRESETS)}.")
    config = room.PRESETS[preset]
    return config.override(overrides) if overrides else config


def units_of(
    room: ModuleType,
    preset: str,
    overrides: Mapping[str, Any] | None = None,
    *,
    experiment: str | None = None,
    seed: int | None = None,
) -> list[Unit]:
    """All units of a chapter at a preset, or those of one experiment, or at one seed.

    A seed that the preset does not list is allowed: it asks for one more repetition, kept apart from the
    published results.
    """
    config = resolve_config(room, preset, overrides)
    experiments = experiments_of(room)
    if seed is not None and (isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**32):
        raise LoupeError(
            f"seed {shown(seed)} is refused: give a whole number from 0 to 4294967295, or none for the preset's seeds."
        )
    if experiment is not None and experiment not in experiments:
        raise LoupeError(
            f"{room.PAPER.slug} has no experiment {shown(experiment)}: it has {', '.join(experiments)}."
        )
    exact = preset != "smoke" and config == room.PRESETS[preset]
    units = []
    for name, function in experiments.items():
        if experiment not in (None, name):
            continue
        listed = getattr(config, function.seeds_field)
        for one in listed if seed is None else [seed] * bool(listed):
            units.append(Unit(room.PAPER.slug, preset, name, one, config, exact and one in listed))
    return units

"""Settings and units: a preset is a validated, frozen configuration; one (experiment, seed) under it is a unit of work.

The defaults of a chapter's ``Config`` are the paper's own settings. Every other preset is an instance that states only
its changes, so differences are easy to print. An experiment is a plain function.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from types import ModuleType
from typing import Any, NamedTuple, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator

from loupe.errors import LoupeError, shortened, shown

MOST_CHARACTERS = 50_000  # of all settings together: a unit gets them in one message


class Difference(NamedTuple):
    """One setting that differs between presets."""

    field: str
    meaning: str
    values: tuple
    """its value in each preset"""
    group: str
    """what the group of settings is for that it belongs to; empty outside a group"""

    @property
    def here(self) -> Any:
        """The value in the first preset."""
        return self.values[0]

    @property
    def there(self) -> Any:
        """The value in the last preset."""
        return self.values[-1]


class Preset(BaseModel):
    """Base of every chapter's ``Config``: frozen, no unknown fields, a description for each field.

    Subclasses describe each field, with its unit, in a string below it. A field may hold a group of settings,
    such as :class:`loupe.training.Training`: a frozen pydantic model.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)

    seeds: tuple[int, ...] = Field(min_length=1)
    """seeds of the repetitions; one (experiment, seed) is the unit of work"""

    @field_validator("*")
    @classmethod
    def _seeds_are_distinct(cls, value: Any, info: ValidationInfo) -> Any:
        seeds = value if info.field_name.endswith("seeds") else ()
        if len(set(seeds)) != len(seeds) or not all(0 <= seed < 2**32 for seed in seeds):
            raise ValueError("seeds must be distinct whole numbers from 0 to 4294967295")
        return value

    def override(self, values: Mapping[str, Any]) -> Self:
        """The same settings with some replaced.

        Parameters
        ----------
        values
            New values by field name, as plain JSON types. For a group of settings, only those that change:
            ``{"training": {"steps": 500}}``, or ``{"training.steps": 500}``.

        Raises
        ------
        LoupeError
            If a name is not a field or a value has the wrong type or range; the message lists the fields.
        """
        try:
            settings = json.loads(self.model_dump_json())
            for name, value in values.items():
                group, _, field = name.partition(".")
                grouped = isinstance(getattr(self, group, None), BaseModel)
                if grouped and (field or isinstance(value, dict)):
                    settings[group] |= {field: value} if field else value
                else:
                    settings[name] = value
            content = json.dumps(settings)
            if (found := len(content)) > MOST_CHARACTERS:
                raise LoupeError(f"the overrides have {found} characters: {MOST_CHARACTERS} are allowed.")
            # JSON in strict mode: "500" is not a number, but a list may be a tuple.
            return type(self).model_validate_json(content, strict=True)
        except ValidationError as error:
            raise LoupeError(self._refusal(error.errors()[0], values)) from None
        except (TypeError, ValueError, RecursionError) as error:
            why = shortened(str(error), 160)
            raise LoupeError(f"overrides must be plain numbers, strings and lists ({why}).") from None

    def _refusal(self, problem: Mapping[str, Any], values: Mapping[str, Any]) -> str:
        group, *inside = problem["loc"] or [", ".join(values)]
        known, field = type(self).model_fields, str(group)
        within = getattr(self, field, None)
        if inside and isinstance(within, BaseModel):
            known, field = type(within).model_fields, f"{group}.{inside[0]}"
        if problem["loc"] and field.rpartition(".")[2] not in known:
            what = f"override {shown(field)} is not a setting of this chapter"
        else:
            why = shortened(problem["msg"].lower(), 160)
            given = values.get(field, values.get(group, values))
            what = f"override {field}={shown(given)} is refused ({why})"
        return f"{what}; the settings are: {', '.join(known)}."

    def differences(self, *others: Self) -> list[Difference]:
        """The fields in which ``self`` and ``others`` differ, in class order; ``group.field`` inside a group."""
        return list(_differences((self, *others)))

    def settings(self, names: Iterable[str]) -> dict[str, Any]:
        """The named fields with their values as plain JSON types, in class order.

        A group of settings is stored as its differences from the defaults of the class that defined each field, so a
        new field does not change stored groups.
        """
        found = json.loads(self.model_dump_json(include=set(names)))
        for name, value in found.items():
            if isinstance(group := getattr(self, name), BaseModel):
                changed = (field for field in value if getattr(group, field) != _first_default(group, field))
                found[name] = {field: value[field] for field in changed}
        return found

    def digest(self) -> str:
        """Eight hexadecimal digits that identify these settings in a file name."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()[:8]


def _differences(presets: Sequence[BaseModel], prefix: str = "", group: str = "") -> Iterable[Difference]:
    for name, field in type(presets[0]).model_fields.items():
        values, meaning = tuple(getattr(one, name) for one in presets), field.description or ""
        if isinstance(values[0], BaseModel) and len(set(map(type, values))) == 1:
            yield from _differences(values, f"{name}.", meaning)
        elif any(value != values[0] for value in values):
            yield Difference(prefix + name, meaning, values, group)


def _first_default(group: BaseModel, field: str) -> Any:
    home = next(one for one in reversed(type(group).__mro__) if field in getattr(one, "model_fields", {}))
    return home.model_fields[field].default


class Reading:
    """A preset that records which of its fields were read.

    An experiment gets one of these. Its result then depends on the fields it read and no others, so a new setting of
    another experiment does not make it outdated. A result is valid if its fields have today's values: with equal values
    the experiment would read the same fields again.
    """

    def __init__(self, preset: Preset):
        self._preset = preset
        self._read: set[str] = set()

    def __getattr__(self, name: str):
        fields = type(self._preset).model_fields
        # Anything else (a method, a property) may read every field.
        self._read.update([name] if name in fields else fields)
        return getattr(self._preset, name)

    def settings_read(self) -> dict[str, Any]:
        """The fields read so far with their values, as plain JSON types, in class order."""
        return self._preset.settings(self._read)


# --- units -------------------------------------------------------------------------------------------------


def experiment(
    function: Callable | None = None, *, seeds: str = "seeds", after: tuple[str, ...] = ()
) -> Callable:
    """Mark a function ``f(config, *, seed, device)`` of a paper's room as one of its experiments.

    The function returns a dictionary of NumPy arrays, numbers and strings: everything that its figures and claims need.
    With an extra argument ``work`` it gets its own folder for checkpoints: after an interruption they are still there,
    unless its settings or the package have changed. To start from results of other experiments, such as trained
    networks, name them in ``after`` and take an extra argument ``earlier``: their results at its own seed, by name.

    Parameters
    ----------
    function
        The function to mark.
    seeds
        The field of the chapter's ``Config`` that lists this experiment's seeds. An empty list means that the
        experiment is not run at that preset.
    after
        The experiments whose results it starts from.
    """

    def mark(function: Callable) -> Callable:
        function.seeds_field, function.after = seeds, after
        return function

    return mark if function is None else mark(function)


def experiments_of(room: ModuleType) -> dict[str, Callable]:
    """The experiments of a paper's room by name, in source order."""
    return {name: value for name, value in vars(room).items() if hasattr(value, "seeds_field")}


@dataclass(frozen=True)
class Unit:
    """One experiment at one seed under one configuration.

    ``published`` says whether its result is to be committed: an exact preset other than ``smoke``, and a seed in the
    preset's list. ``module`` is the name of its paper's room.
    """

    slug: str
    preset: str
    experiment: str
    seed: int
    config: Preset
    published: bool
    module: str

    @property
    def room(self) -> ModuleType:
        """The paper's room."""
        return import_module(self.module)

    def __str__(self) -> str:
        return f"{self.slug}/{self.experiment} seed {self.seed} at {self.preset}"

    def before(self) -> list["Unit"]:
        """The units that it starts from, at its own seed."""
        names = getattr(self.room, self.experiment).after
        return [_unit(self.room, self.preset, self.config, name, self.seed) for name in names]


def resolve_config(room: ModuleType, preset: str, overrides: Mapping[str, Any] | None = None) -> Preset:
    """The configuration of a preset with overrides; unknown names raise a one-sentence error."""
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

    A seed outside the preset's list is allowed: it is an extra repetition, kept separate from the published results.
    """
    config = resolve_config(room, preset, overrides)
    experiments = experiments_of(room)
    if seed is not None and (isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**32):
        raise LoupeError(
            f"seed {shown(seed)} is refused: give a whole number from 0 to 4294967295, or none for the preset's seeds."
        )
    slug = room.PAPER.slug
    if experiment is not None and experiment not in experiments:
        raise LoupeError(f"{slug} has no experiment {shown(experiment)}: it has {', '.join(experiments)}.")
    units = []
    for name in experiments if experiment is None else [experiment]:
        listed = getattr(config, experiments[name].seeds_field)
        seeds = listed if seed is None else [seed] * bool(listed)
        units += [_unit(room, preset, config, name, one) for one in seeds]
    return units


def _unit(room: ModuleType, preset: str, config: Preset, name: str, seed: int) -> Unit:
    exact = preset != "smoke" and config == room.PRESETS[preset]
    published = exact and seed in getattr(config, getattr(room, name).seeds_field)
    return Unit(room.PAPER.slug, preset, name, seed, config, published, room.__name__)

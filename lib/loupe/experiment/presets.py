"""Presets: validated, frozen settings of a chapter.

The defaults of a chapter's ``Config`` are the paper's own settings. Every other preset is an instance that
states only what it changes, so the difference is always at hand to print.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator

from loupe.errors import LoupeError, shortened, shown

MOST_CHARACTERS = 50_000  # of all settings together: a unit is told them in one message


class Difference(NamedTuple):
    """One setting that differs between two presets."""

    field: str
    meaning: str
    here: Any
    there: Any


class Preset(BaseModel):
    """Base of every chapter's ``Config``: frozen, no unknown fields, each field with a meaning.

    Subclasses give each field a description, with its unit, in a string under it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)

    seeds: tuple[int, ...] = Field(min_length=1)
    """seeds of the repetitions; one (experiment, seed) is the unit of work"""

    @field_validator("*")
    @classmethod
    def _seeds_are_distinct(cls, value: Any, info: ValidationInfo) -> Any:
        sound = not info.field_name.endswith("seeds") or (
            len(set(value)) == len(value) and all(0 <= seed < 2**32 for seed in value)
        )
        if not sound:
            raise ValueError("seeds must be distinct whole numbers from 0 to 4294967295")
        return value

    def override(self, values: Mapping[str, Any]) -> Self:
        """The same settings with some replaced.

        Parameters
        ----------
        values
            New values by field name, of plain types (as they stand in JSON).

        Raises
        ------
        LoupeError
            If a name is no field or a value has the wrong type or range; the sentence lists the fields.
        """
        settings = json.loads(self.model_dump_json())
        try:
            content = json.dumps({**settings, **values})
            if len(content) > MOST_CHARACTERS:
                raise LoupeError(
                    f"the overrides have {len(content)} characters: {MOST_CHARACTERS} are allowed."
                )
            # JSON in strict mode: "500" is not a number, but a list may be a tuple.
            return type(self).model_validate_json(content, strict=True)
        except ValidationError as error:
            problem = error.errors()[0]
            field = str(problem["loc"][0]) if problem["loc"] else ", ".join(values)
            if problem["loc"] and field not in type(self).model_fields:
                what = f"override {shown(field)} is not a setting of this chapter"
            else:
                why = shortened(problem["msg"].lower(), 160)
                what = f"override {field}={shown(values.get(field, values))} is refused ({why})"
            raise LoupeError(f"{what}; the settings are: {', '.join(type(self).model_fields)}.") from None
        except (TypeError, ValueError, RecursionError) as error:
            why = shortened(str(error), 160)
            raise LoupeError(f"overrides must be plain numbers, strings and lists ({why}).") from None

    def differences(self, other: Self) -> list[Difference]:
        """The fields in which ``self`` and ``other`` differ, in the order of the class."""
        return [
            Difference(name, field.description or "", getattr(self, name), getattr(other, name))
            for name, field in type(self).model_fields.items()
            if getattr(self, name) != getattr(other, name)
        ]

    def settings(self, names: Iterable[str]) -> dict[str, Any]:
        """The named fields with their values as plain JSON types, in the order of the class."""
        return json.loads(self.model_dump_json(include=set(names)))

    def digest(self) -> str:
        """Eight hexadecimal digits that stand for these settings in a file name."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()[:8]


class Reading:
    """A preset that remembers which of its fields were read.

    An experiment gets one of these. Its result then depends on the fields it read and no others, so that a
    new setting of another experiment does not put it out of date. A result whose read fields have today's
    values is valid: with equal values the experiment would read the same fields again.
    """

    def __init__(self, preset: Preset):
        self._preset = preset
        self._read: set[str] = set()

    def __getattr__(self, name: str):
        fields = type(self._preset).model_fields
        # Anything but a field (a method, a property) may look at every field.
        self._read.update([name] if name in fields else fields)
        return getattr(self._preset, name)

    def settings_read(self) -> dict[str, Any]:
        """The fields read so far with their values, as plain JSON types, in the order of the class."""
        return self._preset.settings(self._read)

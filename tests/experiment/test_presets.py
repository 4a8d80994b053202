"""Presets are validated, state only differences, and remember what was read of them."""

import pytest
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from toy import PRESETS, Config

from loupe.errors import LoupeError
from loupe.experiment.units import Preset, Reading


def test_override_replaces_and_leaves_the_original():
    changed = PRESETS["cpu"].override({"steps": 7, "seeds": [4, 5]})
    assert (changed.steps, changed.seeds) == (7, (4, 5))
    assert PRESETS["cpu"].steps == 10


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"stepz": 5}, "'stepz' is not a setting"),
        ({"steps": "500"}, "steps='500' is refused"),
        ({"steps": True}, "steps=True is refused"),
        ({"steps": 0}, "steps=0 is refused"),
        ({"scale": [1]}, "scale=[1] is refused"),
        ({"seeds": []}, "seeds=[] is refused"),
        ({"seeds": [1.5]}, "refused"),
        ({"seeds": [1, 1]}, "seeds=[1, 1] is refused"),
        ({"late_seeds": [-1]}, "late_seeds=[-1] is refused"),
        ({"scale": {1, 2}}, "plain numbers"),
        ({"scale": float("nan")}, "scale=nan is refused"),
    ],
)
def test_a_bad_override_is_one_sentence_with_the_fields(values, words):
    with pytest.raises(LoupeError) as caught:
        PRESETS["cpu"].override(values)
    message = str(caught.value)
    assert words in message
    assert "\n" not in message
    assert "plain" in words or "seeds, steps, scale" in message


def test_an_integer_is_good_enough_for_a_float():
    assert PRESETS["cpu"].override({"scale": 2}).scale == 2.0


def test_frozen():
    with pytest.raises(ValidationError):
        PRESETS["cpu"].steps = 3


def test_differences_name_the_meaning():
    (difference,) = PRESETS["cpu"].differences(PRESETS["paper"])
    assert difference == ("steps", "steps of the walk", (10, 100), "")


def test_digest_depends_on_values_alone():
    assert Config(steps=10).digest() == PRESETS["cpu"].digest() != PRESETS["paper"].digest()


def test_reading_remembers_fields():
    reading = Reading(PRESETS["cpu"])
    _ = reading.steps
    assert reading.settings_read() == {"steps": 10}
    reading.digest()  # a method may look at every field
    assert set(reading.settings_read()) == set(Config.model_fields)


class Group(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    steps: int = Field(5, ge=1)
    """steps of the optimizer"""
    clip: float | None = None
    """largest gradient"""


class Wide(Group):
    steps: int = Field(50, ge=1)
    """steps of the optimizer"""
    width: int = 8
    """units in a layer"""


class Grouped(Preset):
    wide: Wide = Wide()
    """networks"""
    other: int = 1
    """something else"""


GROUPED = Grouped(seeds=(0,))


@pytest.mark.parametrize("values", [{"wide": {"steps": 7}}, {"wide.steps": 7}])
def test_of_a_group_of_settings_a_part_is_replaced(values):
    changed = GROUPED.override({"wide": {"clip": 1.0}}).override(values)
    assert (changed.wide.steps, changed.wide.clip, changed.wide.width) == (7, 1.0, 8)
    assert [(one.field, one.meaning, one.here, one.there) for one in changed.differences(GROUPED)] == [
        ("wide.steps", "steps of the optimizer", 7, 50),
        ("wide.clip", "largest gradient", 1.0, None),
    ]
    third = GROUPED.override({"other": 3})
    assert [(one.field, one.values, one.group) for one in third.differences(changed, GROUPED)] == [
        ("wide.steps", (50, 7, 50), "networks"),
        ("wide.clip", (None, 1.0, None), "networks"),
        ("other", (3, 1, 1), ""),
    ]


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (
            {"wide": {"stepz": 5}},
            "'wide.stepz' is not a setting of this chapter; the settings are: steps, clip, width",
        ),
        ({"wide.steps": 0}, "wide.steps=0 is refused"),
        ({"wide.stepz": 1}, "'wide.stepz' is not a setting"),
        ({"wide": 3}, "wide=3 is refused"),
        ({"other.steps": 3}, "'other.steps' is not a setting"),
    ],
)
def test_a_bad_override_of_a_group_names_its_settings(values, words):
    with pytest.raises(LoupeError) as caught:
        GROUPED.override(values)
    assert words in str(caught.value)


def test_a_group_is_stored_with_what_differs_from_the_class_that_brought_the_field():
    """A further field of the group, with its default, must leave stored results as they are."""
    assert GROUPED.settings(["wide", "other"]) == {"wide": {"steps": 50}, "other": 1}
    assert GROUPED.override({"wide": {"steps": 5, "width": 9}}).settings(["wide"]) == {"wide": {"width": 9}}

"""Numbers as tables show them."""

import math
import re

import pytest

from loupe.diffusion.continuous import threshold
from loupe.experiment.render import over_seeds, rounded, source


@pytest.mark.parametrize(
    ("value", "digits", "text"),
    [
        (0.00537, 4, "0.0054"), (0.0, 2, "0.00"), (-0.25, 2, "−0.25"), (-25_000, 2, "−2.5·10^4"), (9999.7, 1, "1.0·10^4"),
        (math.nan, 2, "none"), (math.inf, 2, "inf"), (0.9312, 4, "0.9312"), (1e4, 4, "1.0·10^4"), (1.3e4, 1, "1.3·10^4"),
        (1.02e7, 4, "1.0·10^7"), (9.9e4, 2, "9.9·10^4"), (26.0796, 4, "26.08"),
        (26.0812, 4, "26.08"), (355.219, 4, "355.2"), (9999.0, 4, "9999"), (8.14, 1, "8.1"),
        (28.74, 1, "28.7"), (816.66, 1, "816.7"), (9999.0, 1, "9999"), (4.624, 2, "4.62"), (12.804, 2, "12.80"),
    ],
)  # fmt: skip
def test_numbers_are_written_as_people_would(value, digits, text):
    assert rounded(value, digits) == text


@pytest.mark.parametrize("value", [9.9e4, 12_345.0, 4.2e5, 8e9])
def test_large_numbers_keep_two_digits(value):
    text = rounded(value, 4)
    assert re.fullmatch(r"[1-9]\.[0-9]·10\^[0-9]+", text)
    assert float(text.replace("·10^", "e")) == pytest.approx(value, rel=0.05)


def test_two_seeds_are_both_shown():
    assert over_seeds([0.25], 3) == "0.250"
    assert over_seeds([0.5, 0.25], 3) == "0.250 … 0.500"
    assert over_seeds([0.25, 0.25], 3) == "0.250"
    assert over_seeds([3.0, 1.0, 2.0], 2) == f"2.00\u00a0±\u00a0{4.302653 / math.sqrt(3):.2f}"
    assert over_seeds([2.0, 1e6], 2) == "2.00 … 1.0·10^6"
    assert over_seeds([0.25004, 0.25001], 3) == "0.250"
    assert over_seeds([0.25004, 0.25001, 0.25], 3) == "0.250"


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ([11_400.0, 11_500.0, 11_600.0], "(1.1\u00a0±\u00a00.0)·10^4"),
        ([1.0, 2e4, 3.0], "(0.7\u00a0±\u00a02.9)·10^4"),
        ([9000.0, 9010.0, 9020.0], "9010\u00a0±\u00a024.8"),
    ],
)
def test_a_mean_and_its_interval_are_written_in_one_way(values, text):
    assert over_seeds(values, 1) == text


def test_what_is_not_a_number_is_said():
    assert over_seeds([1.0, 2.0, math.nan], 2) == "none"


def test_shown_source_has_neither_docstring_nor_old_names():
    shown = source([threshold]).text
    assert shown.startswith("def threshold(")
    assert "Parameters" not in shown
    assert "share" not in shown

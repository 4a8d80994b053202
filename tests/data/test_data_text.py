"""The 27-symbol alphabet: the recipe, and there and back."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_sets import refused

from loupe.data.text import ALPHABET, decode, encode, normalize


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("Café No. 21 & Co.", "cafe no two one and co"),
        ("Æsop's œuvre, Straße", "aesop s oeuvre strasse"),
        ("  \n\t ", ""),
        ("a--b…c", "a b c"),
        ("ﬁne x²", "fine x two"),
        ("naïve ÀÉÎ", "naive aei"),
        ("Łódź", "odz"),
    ],
)
def test_recipe(text, plain):
    assert normalize(text) == plain


@given(st.text())
def test_any_text_ends_up_in_the_alphabet_and_stays_there(text):
    plain = normalize(text)
    assert set(plain) <= set(ALPHABET)
    assert "  " not in plain
    assert plain == plain.strip()
    assert normalize(plain) == plain


@given(st.text(alphabet=ALPHABET))
def test_there_and_back(text):
    ids = encode(text)
    assert ids.dtype == np.uint8
    assert ids.shape == (len(text),)
    assert decode(ids) == text


def test_ids_are_as_documented():
    assert encode(" az").tolist() == [0, 1, 26]
    assert encode(b"b").tolist() == [2]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "abCéC",
            r"Byte 2 of the text, b'C', is not one of the 27 symbols \(outside them are 'C', 'é'\): apply",
        ),
        ("x0123456789?~", r"'0', '1', '2', '3', '4', '5', '6', '7', '8', '9' and 2 more\): apply"),
        ("né".encode(), r"outside them are 'é'\): apply loupe.data.text.normalize"),
    ],
)
def test_characters_outside_the_alphabet_are_listed(text, words):
    refused(words, encode, text)


def test_ids_that_are_no_symbol():
    refused("from 0 to 27: only 0 to 26", decode, [0, 27])

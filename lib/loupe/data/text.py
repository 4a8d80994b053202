"""Text: 27 symbols (space and a to z), and plain words.

Ids are 0 for the space and 1 to 26 for a to z. :func:`normalize` follows the recipe of text8.
"""

import lzma
import re
import unicodedata
import zipfile
from dataclasses import dataclass

import numpy as np

from loupe.data.catalog import DataError
from loupe.deprecation import renamed_names

BOXED_CHARACTERS = 8_000_000
ALPHABET = " abcdefghijklmnopqrstuvwxyz"
_NUMERALS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
_SPELLED = str.maketrans({"æ": "ae", "Æ": "ae", "œ": "oe", "Œ": "oe", "ß": "ss", "&": " and "})


@dataclass(frozen=True, eq=False)
class Text:
    """Text in 27 symbols.

    Attributes
    ----------
    ids : numpy.ndarray
        uint8 ``(n,)``, 0 to 26.
    name, split : str
        The set and its part.
    """

    ids: np.ndarray
    name: str
    split: str


@dataclass(frozen=True)
class Words:
    """Text in words, unprocessed.

    Attributes
    ----------
    text : str
        The whole part; words are separated by spaces, sentences or lines by newlines.
    name, split : str
        The set and its part.
    """

    text: str
    name: str
    split: str


def normalize(text):
    """Convert any text to the 27-symbol alphabet, by the recipe of text8.

    Ligatures are spelled out, ``&`` becomes "and", accents are dropped (Unicode NFKD), letters become lowercase, each
    digit becomes its English word, and every other run of characters becomes one space.

    Parameters
    ----------
    text : str
        Any text.

    Returns
    -------
    str
        Only ``a`` to ``z`` and single spaces, none at the ends.

    Examples
    --------
    >>> normalize("Café No. 21 & Co.")
    'cafe no two one and co'
    """
    plain = unicodedata.normalize("NFKD", text.translate(_SPELLED)).lower()
    plain = "".join(character for character in plain if not unicodedata.combining(character))
    plain = re.sub("[0-9]", lambda digit: f" {_NUMERALS[int(digit.group())]} ", plain)
    return re.sub("[^a-z]+", " ", plain).strip()


def encode(text):
    """Ids of a text in the 27-symbol alphabet.

    Parameters
    ----------
    text : str or bytes
        Only spaces and ``a`` to ``z``.

    Returns
    -------
    numpy.ndarray
        uint8 ``(n,)``, 0 to 26.

    Raises
    ------
    DataError
        If another character occurs; the message lists up to ten.
    """
    raw = text.encode("utf-8") if isinstance(text, str) else text
    codes = np.frombuffer(raw, np.uint8)
    table = np.full(256, 255, np.uint8)
    table[np.frombuffer(ALPHABET.encode(), np.uint8)] = np.arange(27)
    ids = table[codes]
    if ids.size and ids.max() == 255:
        at = int(np.argmax(ids == 255))
        foreign = sorted(set(raw.decode("utf-8", "backslashreplace")) - set(ALPHABET))
        more = f" and {len(foreign) - 10} more" if foreign[10:] else ""
        raise DataError(
            f"Byte {at} of the text, {raw[at : at + 1]!r}, is not one of the 27 symbols (outside them are "
            f"{', '.join(map(repr, foreign[:10]))}{more}): apply loupe.data.text.normalize."
        )
    return ids


def decode(ids):
    """Text of ids.

    Parameters
    ----------
    ids : array_like of int
        ``(n,)``, 0 to 26.

    Returns
    -------
    str

    Raises
    ------
    DataError
        If an id is outside 0 to 26, such as the mask of a diffusion model.
    """
    ids = np.asarray(ids)
    if ids.size and not (ids.min() >= 0 and ids.max() < 27):
        raise DataError(f"The ids go from {ids.min()} to {ids.max()}: only 0 to 26 stand for characters.")
    return np.frombuffer(ALPHABET.encode(), np.uint8)[ids.astype(np.int64)].tobytes().decode("ascii")


def check_split(name, split, splits, characters=None):
    """DataError for a split that a text does not have, or an invalid number of characters."""
    if split not in splits:
        raise DataError(f"The text {name!r} has no split {split!r}: it has {', '.join(map(repr, splits))}.")
    if characters is not None and not (isinstance(characters, int) and characters > 0):
        raise DataError(
            f"Cannot read {characters!r} characters: give a positive whole number, or None for all."
        )


def novels(source, split="train", characters=None):
    """Novels in 27 symbols; only the first `characters` of the compressed training part are unpacked.

    The box holds the first 8,000,000 characters of the training part; more come from a mirror or the cache.
    """
    check_split(source.entry.name, split, ("train", "valid", "test"), characters)
    boxed = source.location.where == "box"
    if boxed and split == "train" and not (characters and characters <= BOXED_CHARACTERS):
        try:
            source, boxed = source.whole(), False
        except DataError as error:
            here = f"The folder data holds the first {BOXED_CHARACTERS:,} characters of novels27: ask for no more"
            raise DataError(f"{here}. {error}") from None
    training = split == "train"
    name = f"novels27_{split}{'_8m' * (boxed and training)}.txt{'.xz' * (boxed or training)}"
    with _opened(source.path(name)) as stream:
        return Text(encode(stream.read(characters or -1)), source.entry.name, split)


def _opened(path):
    return lzma.open(path) if path.suffix == ".xz" else path.open("rb")


def text8(source, split="train", characters=None):
    """text8 in its usual parts of 90, 5 and 5 million characters, in order."""
    starts = {"train": 0, "valid": 90_000_000, "test": 95_000_000}
    check_split(source.entry.name, split, tuple(starts), characters)
    length = 90_000_000 if split == "train" else 5_000_000
    with zipfile.ZipFile(source.path()) as archive, archive.open("text8") as stream:
        stream.seek(starts[split])
        return Text(encode(stream.read(min(characters or length, length))), source.entry.name, split)


def zero_shot(source, characters=None):
    """A text for evaluation only, in 27 symbols; its only part is ``"test"``."""
    check_split(source.entry.name, "test", ("test",), characters)
    with _opened(source.path()) as stream:
        return Text(encode(stream.read(characters or -1)), source.entry.name, "test")


def topics(source, split="train", characters=None):
    """Help topics of CPython in 27 symbols; the first 80 % for training, 10 % to validate, 10 % to test."""
    from pydoc_data.topics import topics as found

    check_split(source.entry.name, split, ("train", "valid", "test"), characters)
    whole = normalize(" ".join(found[key] for key in sorted(found)))
    cuts = [0, len(whole) * 8 // 10, len(whole) * 9 // 10, len(whole)]
    k = ("train", "valid", "test").index(split)
    return Text(encode(whole[cuts[k] : cuts[k + 1]][:characters]), source.entry.name, split)


def words(source, split="test"):
    """WikiText-2 or the Penn Treebank in words, valid or test part."""
    check_split(source.entry.name, split, ("valid", "test"))
    path = source.path(f"_{split}.txt")
    return Words(path.read_bytes().decode("utf-8"), source.entry.name, split)


__getattr__ = renamed_names(__name__, normalise="normalize")

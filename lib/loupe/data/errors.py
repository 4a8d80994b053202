"""The error of this room: one sentence that names the value and what to do."""

from loupe.errors import LoupeError


class DataError(LoupeError):
    """A data set is unknown, missing, damaged or out of reach; the message says what to type."""

"""The errors that a person at the keyboard is meant to read."""


class LoupeError(Exception):
    """Something a user can mend; the message is one sentence that names the value and the remedy."""

    def _render_traceback_(self):
        # IPython shows these lines instead of the stack: the sentence is all that helps.
        return [f"{type(self).__name__}: {self}"]


class CheckpointError(ValueError):
    """A saved state of a run is damaged or of another run: without it the run starts again."""


def shown(value: object, most: int = 80) -> str:
    """A value as a sentence quotes it: its ``repr``, shortened in the middle to at most ``most`` characters."""
    try:
        text = repr(value)
    except (RecursionError, ValueError):  # nested too deep, or a number of too many digits
        return f"a {type(value).__name__} too large to show"
    return shortened(text, most)


def shortened(text: str, most: int = 80) -> str:
    """A text of at most ``most`` characters: the middle of a longer one is left out."""
    half = (most - 3) // 2
    return text if len(text) <= most else f"{text[:half]}...{text[-half:]}"

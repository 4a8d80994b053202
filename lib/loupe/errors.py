"""Errors that are written for users."""


class LoupeError(Exception):
    """Something a user can fix; the message is one sentence that names the value and the remedy."""

    def _render_traceback_(self):
        # IPython shows these lines instead of the traceback: only the message helps.
        return [f"{type(self).__name__}: {self}"]


class CheckpointError(ValueError):
    """A checkpoint is damaged or belongs to another run: without it the run starts over."""


def shown(value: object, most: int = 80) -> str:
    """A value for a message: its ``repr``, shortened in the middle to at most ``most`` characters."""
    try:
        text = repr(value)
    except (RecursionError, ValueError):  # nested too deep, or a number of too many digits
        return f"a {type(value).__name__} too large to show"
    return shortened(text, most)


def shortened(text: str, most: int = 80) -> str:
    """The text, cut in the middle if it has more than ``most`` characters."""
    half = (most - 3) // 2
    return text if len(text) <= most else f"{text[:half]}...{text[-half:]}"

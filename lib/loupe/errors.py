"""The one family of errors that a person at the keyboard is meant to read."""


class LoupeError(Exception):
    """Something a user can mend; the message is one sentence that names the value and the remedy."""

    def _render_traceback_(self):
        # IPython shows these lines instead of the stack: the sentence is all that helps.
        return [f"{type(self).__name__}: {self}"]

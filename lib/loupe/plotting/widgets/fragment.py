"""What the interactive pictures share: how a notebook shows them, and the files that lie beside this one."""

from dataclasses import dataclass
from importlib.resources import files


@dataclass(frozen=True)
class Fragment:
    """A picture that a notebook shows by itself: as HTML where it can, as one line of text elsewhere.

    Attributes
    ----------
    html : str
        A fragment that needs nothing else: drawing, style, data and script.
    text : str
        One line that says what is shown.
    """

    html: str
    text: str

    def _repr_mimebundle_(self, include=None, exclude=None) -> dict:
        return {"text/html": self.html, "text/plain": self.text}


def beside(name: str) -> str:
    """The text of a style sheet or script of this folder."""
    return files("loupe.plotting.widgets").joinpath(name).read_text(encoding="utf-8")


def check_words(**words) -> None:
    """Refuse a heading or a description that is no text, or empty."""
    for name, text in words.items():
        if not isinstance(text, str) or not text.strip():
            raise ValueError(f"{name} must be a text that is not empty, got {text!r}")

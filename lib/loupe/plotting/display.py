"""Show a figure in a notebook with what a page needs: the picture, its description and its caption."""

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from html import escape
from pathlib import Path

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from loupe.plotting.style import STYLE, screen_width
from loupe.plotting.vector import data_address, svg

WIDE = 5.6
"""Inches; wider figures keep their width on a phone, and scroll."""


def show(sheet: Figure, *, alt: str, caption: str) -> None:
    """Publish a figure with its description and its caption, and close it.

    In a notebook this gives two outputs: the picture (an SVG that follows the theme of the page, in HTML with its
    description; the caption as its plain text), and the caption in italics as Markdown, marked
    ``{"loupe": {"caption": true}}``. Outside IPython nothing is shown.

    Parameters
    ----------
    sheet : matplotlib.figure.Figure
        The finished figure.
    alt : str
        What the picture shows, for someone who cannot see it.
    caption : str
        What is drawn, what to see, and of how many runs and seeds; may hold mathematics between dollar signs.
    """
    texts = {"alt": alt, "caption": caption}
    for name, text in texts.items():
        if not isinstance(text, str) or not text.strip():
            raise ValueError(f"{name} must be a text that is not empty, got {text!r}")
        texts[name] = " ".join(text.split())
    if _in_ipython():
        from IPython.display import display

        picture = {"text/html": image(sheet, texts["alt"]), "text/plain": texts["caption"]}
        display(picture, metadata={"loupe": {"figure": True}}, raw=True)
        markdown = f"*{without_html(texts['caption'])}*"
        display({"text/markdown": markdown}, metadata={"loupe": {"caption": True}}, raw=True)
    plt.close(sheet)


def without_html(text: str) -> str:
    """The text for Markdown, in which no tag is left that a page would run; formulas between dollars stay.

    >>> without_html("$a < b$ <script>")
    '$a < b$ &lt;script>'
    """
    parts = re.split(r"(\$[^$]*\$)", text)
    return "".join(
        part if k % 2 else part.replace("&", "&amp;").replace("<", "&lt;") for k, part in enumerate(parts)
    )


def image(sheet: Figure, alt: str) -> str:
    """A figure as an HTML image that needs no other file; wide ones have a class of their own."""
    kind = "loupe-figure wide" if sheet.get_figwidth() > WIDE else "loupe-figure"
    width, source = screen_width(sheet), data_address(svg(sheet))
    return f'<img class="{kind}" alt="{escape(alt)}" width="{width}" src="{source}">'


@contextmanager
def thumbnail_axes(target: Path) -> Iterator[Axes]:
    """A chapter's picture on the landing page: axes without a frame to draw in, saved as SVG, 640 by 480.

    It follows the theme of the page. A PNG file on white is saved beside it, for sites that show a link. Equal drawings
    give equal bytes.

    Parameters
    ----------
    target : pathlib.Path
        The SVG file.

    Yields
    ------
    matplotlib.axes.Axes
        Axes that fill the picture, switched off.
    """
    with plt.rc_context(STYLE | {"figure.constrained_layout.use": False}):
        sheet = plt.figure(figsize=(6.4, 4.8))
        try:
            axes = sheet.add_axes((0.02, 0.02, 0.96, 0.96))
            axes.axis("off")
            yield axes
            white = {"dpi": 100, "facecolor": "white", "metadata": {"Software": None}}
            sheet.savefig(target.with_suffix(".png"), **white)  # sites that show links take no SVG
            target.write_text(svg(sheet), encoding="utf-8")
        finally:
            plt.close(sheet)


def _in_ipython() -> bool:
    # Looked up, not imported: outside IPython, a plain script need not load it.
    module = sys.modules.get("IPython")
    return module is not None and module.get_ipython() is not None

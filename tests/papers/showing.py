"""What tests of figures share: what a notebook is shown, what tables hold, and what every chapter's pictures promise."""

import inspect
import json
import re
from dataclasses import dataclass, field
from functools import cache
from html import unescape

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.text import Text

from loupe.experiment.folders import project_root
from loupe.experiment.render import Block
from loupe.experiment.results import find
from loupe.plotting import display

T_OF_THREE = 4.302653  # 97.5 % quantile of Student's law with two degrees of freedom


@cache
def page(slug):
    """The paragraphs of a published notebook in one line, without tags and marks of emphasis."""
    cells = json.loads((project_root() / "notebooks" / f"{slug}.ipynb").read_text())["cells"]
    text = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    return " ".join(re.sub(r"<[^>]*>|\*", "", text).split())


@dataclass
class Shown:
    """What a notebook was given: outputs with their metadata, and the figures that they were drawn from."""

    outputs: list = field(default_factory=list)
    sheets: list = field(default_factory=list)
    rendering: bool = False

    @property
    def sheet(self):
        """The one figure."""
        (sheet,) = self.sheets
        return sheet

    @property
    def caption(self):
        """The caption of the one figure, whose form is looked at."""
        (picture, about), (words, mark) = self.outputs
        caption, alt = picture["text/plain"], self.alt
        assert picture.keys() == {"text/html", "text/plain"}
        assert about == {"loupe": {"figure": True}}
        assert picture["text/html"].startswith('<img class="loupe-figure" alt="')
        assert len(picture["text/html"]) <= LARGEST
        assert all(text.get_fontsize() >= 9.8 for text in self.sheet.findobj(Text) if text.get_text())
        assert words == {"text/markdown": f"*{caption}*"}
        assert mark == {"loupe": {"caption": True}}
        assert len(alt.split()) > 5
        assert len(caption.split()) > 5
        for text in (alt, caption, *(each.get_text() for each in self.sheet.findobj(Text))):
            assert_finite(text)
        for axes in self.sheet.axes:
            assert all(np.isfinite(line.get_xydata()).all() for line in axes.lines)
        return caption

    @property
    def alt(self):
        """The description of the one figure."""
        return unescape(re.search(' alt="([^"]*)"', self.outputs[0][0]["text/html"])[1])

    def lines(self, panel=0):
        """The lines of a panel that have a name."""
        found = {line.get_label(): line for line in self.sheet.axes[panel].lines}
        return {name: line for name, line in found.items() if not name.startswith("_")}


LARGEST = 60_000
"""Bytes of a figure on a page."""

NOTHING = r"Nothing to show here: [a-zA-Z ]+ (has|have) not been computed yet\."
ENDING = r"Preset `(\w+)`(, seed \d+|, (\d+ to )?\d+ seeds?)?\.$"


def figures_of(*modules):
    """The functions of a chapter that modules of figures have, as parameters of a test."""
    found = [
        (name, one)
        for module in modules
        for name, one in vars(module).items()
        if inspect.isfunction(one) and one.__module__ == module.__name__ and not name.startswith("_")
    ]
    found = [
        (name, one)
        for name, one in found
        if hasattr(one, "names") or list(inspect.signature(one).parameters) == ["chapter"]
    ]
    return [pytest.param(one, id=name) for name, one in found]


def assert_shown(draw, chapter, shown):
    """A figure is drawn from what is stored, and says of which preset and how many seeds that is."""
    block = draw(chapter)
    needed = find(chapter, draw.names, draw.presets, draw.partial) if hasattr(draw, "names") else None
    preset = needed.preset if needed else chapter.preset
    if block is None:
        ending = re.search(ENDING, shown.caption)
        assert ending, shown.caption
        assert ending[1] == preset
        assert (ending[2] or "").strip(", ") in ("", needed.seeds, f"seed {needed.first_seed}")
        assert not re.search(r"(?<![.\d])1 (seeds|layers|windows|systems|times)\b", shown.caption)
    elif block.html.startswith("<table"):
        head, rows = cells_of(block)
        assert rows
        assert len(set(head)) == len(head)
        assert preset in str(block)
    else:
        assert "lw-stage" in block.html or "loupe-widget" in block.html
        visible = re.sub(r"<(script|style).*?</\1>", "", block.html, flags=re.DOTALL)
        assert_finite(block.text)
        assert preset in visible
        assert re.search('role="img" aria-label="[^"]{10,}"', visible)


def assert_absent(draw, chapter, shown):
    """Where nothing is stored there is one sentence, and no picture."""
    block = draw(chapter)
    assert re.fullmatch(NOTHING, str(block)), block
    assert block._repr_mimebundle_()["text/markdown"] == f"*{block}*"
    assert not shown.outputs


def assert_finite(text):
    assert not re.search(r"(?<![a-z])(nan|inf)(?![a-z])", text.lower()), text


def cells_of(block):
    """Head and rows of a table; every row has a cell for each head, labeled with it, and none is not a number."""
    assert isinstance(block, Block)
    assert block.html.startswith('<table class="loupe-table')
    assert block.html.count("<table") == 1
    head = [unescape(each) for each in re.findall("<th>(.*?)</th>", block.html)]
    rows = []
    for row in re.findall("<tr>(.*?)</tr>", block.html)[1:]:
        cells = re.findall('<td data-label="(.*?)">(?:<b>)?(.*?)(?:</b>)?</td>', row)
        assert [unescape(label) for label, _ in cells] == head
        rows.append([unescape(cell) for _, cell in cells])
    assert_finite(str(block))
    assert all(cell in str(block) for row in rows for cell in row)
    return head, rows


def assert_says_what_is_missing(draw, chapter_of, needed):
    """Without all results, or any one of them, there is one sentence.

    Parameters
    ----------
    draw : callable
        Of a chapter, to a block where there is nothing to draw.
    chapter_of : callable
        Of results by experiment, to a chapter.
    needed : dict
        The results without which there is nothing to draw.
    """
    for missing in (needed, *({one} for one in needed)):
        block = draw(chapter_of({one: runs for one, runs in needed.items() if one not in missing}))
        assert re.fullmatch(r"Nothing to show here: [a-zA-Z ]+ has not been computed yet\.", str(block))
        assert block._repr_mimebundle_()["text/markdown"] == f"*{block}*"


def assert_same_thumbnail_each_time(draw, chapter, folder):
    """Byte by byte; of the size that the book expects."""
    for name in ("one.svg", "two.svg"):
        draw(chapter, folder / name)
    content = (folder / "one.svg").read_text()
    assert content == (folder / "two.svg").read_text()
    assert ' width="704" height="528">' in content
    assert len(content) <= LARGEST
    assert not plt.get_fignums()


def thumbnail_sheet(draw, chapter, path, monkeypatch):
    """The figure that a thumbnail is saved from."""
    sheets = []
    monkeypatch.setattr(display, "svg", lambda sheet: sheets.append(sheet) or "none")
    draw(chapter, path)
    return sheets[0]


def words_not_of_benchmark(slug, rows, columns):
    """Keys of rows, and values in these columns, that neither the benchmark nor what it shares with others names."""
    folder = project_root() / "benchmarks"
    source = "".join((folder / name).read_text() for name in (f"{slug}.py", "measuring.py"))
    words = {key for row in rows for key in row} | {row[key] for row in rows for key in columns if key in row}
    return [word for word in words if f'"{word}"' not in source]

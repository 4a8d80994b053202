"""Numbers and verdicts in paragraphs are those that follow from the stored results today."""

from types import SimpleNamespace

import nbformat
import pytest

from loupe.errors import LoupeError
from loupe.experiment.folders import project_root
from loupe.papers import open_chapter
from loupe.publishing import prose
from loupe.publishing.notebooks import read_notebook
from loupe.publishing.pages import shown_preset

PUBLISHED = sorted((project_root() / "notebooks").glob("*.ipynb"))


@pytest.mark.parametrize("path", PUBLISHED, ids=lambda path: path.stem)
def test_paragraphs_say_what_the_results_say(path):
    notebook = read_notebook(path)
    written = [cell.source for cell in notebook.cells]
    prose.fill(notebook, open_chapter(path.stem, preset=shown_preset(path.stem)))
    assert [cell.source for cell in notebook.cells] == written, f"type `loupe publish {path.stem}`"


@pytest.mark.parametrize(
    ("value", "form", "text"),
    [
        (-0.126, ".2f", "−0.13"),
        (15000, "", "15,000"),
        (0.00012, ".1e", "1.2·10⁻⁴"),
        (0.5, ".0%", "50%"),
        ("0.55 ± 0.02 < 1", "", "0.55 ± 0.02 &lt; 1"),
    ],
)
def test_numbers_stand_as_in_print(value, form, text):
    source = f'**a** <span data-n="x{":" * bool(form)}{form}">old</span> b'
    filled = prose.filled(source, {"x": value})
    assert filled == source.replace("old", text)
    assert prose.filled(filled, {"x": value}) == filled


def test_a_number_that_nobody_computes_is_refused():
    with pytest.raises(LoupeError, match=r"no number is called 'gap': the room has bits\."):
        prose.filled('<span data-n="gap:.2f"></span>', {"bits": 1.0})


def claims(text):
    """The paragraph of a toy chapter with one claim, filled."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell(text)])
    claim = SimpleNamespace(id="T1", anchor="claim-t1")
    judged = SimpleNamespace(claim=claim, verdict="not reproduced", preset="gpu")
    room = SimpleNamespace(PAPER=SimpleNamespace(slug="toy"))
    prose.fill(notebook, SimpleNamespace(room=room, stored=None), lambda stored: [judged])
    return notebook.cells[0].source


def test_a_chip_has_the_verdict_and_is_where_the_ledger_links_to():
    filled = claims('Claim <a data-claim="T1"></a> and again <a data-claim="T1">old</a>.')
    first, again = filled.split(" and again ")
    chip = 'class="verdict not-reproduced" data-claim="T1" href="#ledger-t1">✕ not reproduced (gpu)</a>'
    assert (first, again) == (f'Claim <a id="claim-t1" {chip}', f"<a {chip}.")
    assert claims(filled) == filled


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("none", r"no paragraph of toy has the chip of claim T1"),
        ('<a data-claim="T1"></a> <a data-claim="T9"></a>', r"no claim is called 'T9': the room has T1\."),
    ],
)
def test_claims_and_chips_belong_together(text, why):
    with pytest.raises(LoupeError, match=why):
        claims(text)

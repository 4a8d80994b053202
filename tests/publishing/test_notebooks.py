"""Executing, publishing and cleaning notebooks."""

import json
import re
import shutil

import nbformat
import pytest

from loupe.errors import LoupeError
from loupe.experiment.folders import project_root
from loupe.papers import PAPERS
from loupe.publishing import notebooks as nb

PUBLISHED = sorted((project_root() / "notebooks").glob("*.ipynb"))
ORDER = ("## The ledger", "## Limitations", "## Exercises", "## References")


@pytest.fixture(params=PUBLISHED, ids=lambda path: path.stem)
def published(request):
    return request.param, nb.read_notebook(request.param)


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def test_there_is_a_notebook_for_every_written_chapter():
    assert {path.stem for path in PUBLISHED} == {paper.slug for paper in PAPERS.values() if not paper.planned}


def test_parameters(published):
    cell = nb.parameters_cell(published[1])
    assert [line.split(" =")[0] for line in cell.source.splitlines()] == [
        "preset",
        "seed",
        "recompute",
        "overrides",
    ]
    assert re.search(r'^preset = "(cpu|gpu)"', cell.source)


def test_chapter_form(published):
    path, notebook = published
    text = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    assert notebook.cells[0].source.startswith(f"# {PAPERS[path.stem].question}")
    places = [text.index(heading) for heading in ORDER]
    assert places == sorted(places)
    for cell in code_cells(notebook):
        assert len(cell.source.splitlines()) <= 25
        assert not re.search(r"^\s*(def|class) ", cell.source, re.MULTILINE)
        assert "http" not in cell.source


def test_every_claim_has_its_paragraph(published):
    path, notebook = published
    from loupe.papers import load_room

    text = "\n".join(cell.source for cell in notebook.cells)
    for claim in load_room(path.stem).CLAIMS:
        assert f'id="{claim.anchor}"' in text


def test_stored_outputs_are_clean(published):
    _, notebook = published
    for cell in code_cells(notebook):
        for output in cell.outputs:
            assert output.output_type != "error"
            assert output.get("name") != "stderr"
            plain = "".join(output.get("data", {}).get("text/plain", ""))
            assert not re.search(r"<.* at 0x[0-9a-f]+>", plain)
    assert set(notebook.metadata) == {"kernelspec", "language_info"}
    assert not re.search(r"/(home|root|tmp|work|Users)/", nb.notebook_bytes(notebook).decode())


def test_every_picture_has_alt_and_caption(published):
    _, notebook = published
    pictures = [cell for cell in code_cells(notebook) if any("loupe-figure" in html(o) for o in cell.outputs)]
    assert pictures
    for cell in pictures:  # one figure a cell
        picture, *caption = cell.outputs
        image = r'<img class="loupe-figure( wide)?" alt="[^"]{31,}" width="\d+" src="data:[^"]+">'
        if html(picture).startswith("<details"):  # folded, with its caption
            fold = r"<details class=\"loupe-fold\"><summary>[^<]+</summary>{}<p [^>]*>.{{31,}}</p></details>"
            assert re.fullmatch(fold.format(image), html(picture))
            assert not caption
            continue
        assert re.fullmatch(image, html(picture))
        (caption,) = caption
        assert caption.metadata["loupe"]["caption"]
        assert len(caption.data["text/markdown"]) > 30


def html(output):
    return "".join(output.get("data", {}).get("text/html", ""))


def small_notebook(*sources, tags=()):
    notebook = nbformat.v4.new_notebook(metadata={"language_info": {"name": "python"}})
    notebook.cells = [nbformat.v4.new_code_cell(source) for source in sources]
    notebook.cells[0].metadata["tags"] = ["parameters", *tags]
    return notebook


def test_clean_drops_the_traces(tmp_path):
    source, target = tmp_path / "a.ipynb", tmp_path / "b.ipynb"
    lines = ("preset = 'x'", "import sys; print('no', file=sys.stderr); print('yes', preset)")
    source.write_bytes(nb.notebook_bytes(small_notebook(*lines)))
    nb.execute(source, target, {"preset": "smoke"})
    raw = nb.read_notebook(target)
    assert len(raw.cells) == 3
    cleaned = nb.clean(raw)
    assert len(cleaned.cells) == 2
    assert [output.text for output in cleaned.cells[1].outputs] == ["yes smoke\n"]
    assert "papermill" not in json.dumps(cleaned)


def test_an_identical_run_changes_no_byte(tmp_path):
    source = tmp_path / "a.ipynb"
    lines = (
        "preset = 1",
        "from loupe.plotting import figure, show\nsheet, axes = figure()\naxes.plot([1, 2])\n"
        "show(sheet, alt='a line', caption='A line.')",
    )
    source.write_bytes(nb.notebook_bytes(small_notebook(*lines)))
    first, second = (
        (nb.execute(source, tmp_path / name), nb.notebook_bytes(nb.clean(nb.read_notebook(tmp_path / name))))[
            1
        ]
        for name in ("b.ipynb", "c.ipynb")
    )
    assert first == second
    assert b"loupe-figure" in first


def test_a_failing_cell_is_one_sentence(tmp_path):
    source = tmp_path / "a.ipynb"
    source.write_bytes(nb.notebook_bytes(small_notebook("x = 1", "1 / 0")))
    with pytest.raises(LoupeError, match=r"a\.ipynb stopped in cell 2: ZeroDivisionError: division by zero"):
        nb.execute(source, tmp_path / "b.ipynb")


def test_the_preset_is_written_as_a_literal():
    notebook = small_notebook('preset = "smoke"  # which\nseed = None')
    nb.set_preset(notebook, "gpu")
    assert notebook.cells[0].source == 'preset = "gpu"  # which\nseed = None'
    with pytest.raises(LoupeError, match="no line"):
        nb.set_preset(small_notebook("other = 1"), "gpu")


def test_two_parameter_cells_are_refused():
    notebook = small_notebook("a = 1", "b = 1")
    notebook.cells[1].metadata["tags"] = ["parameters"]
    with pytest.raises(LoupeError, match="has 2"):
        nb.parameters_cell(notebook)


def test_a_file_that_is_no_notebook(tmp_path):
    path = tmp_path / "x.ipynb"
    path.write_text("{")
    with pytest.raises(LoupeError, match="is not a notebook"):
        nb.read_notebook(path)


def test_publishing_asks_for_every_label(monkeypatch, tmp_path):
    """A claim without its paragraph is found before anything is executed or written."""
    original = nb.notebook_file("ph_dimension")
    bare = tmp_path / original.name
    bare.write_bytes(original.read_bytes().replace(b'data-claim=\\"PH4', b'data-claim=\\"PH1'))
    monkeypatch.setattr(nb, "notebook_file", lambda slug: bare)
    monkeypatch.setattr(nb, "execute", lambda *arguments: pytest.fail("executed"))
    before = bare.read_bytes()
    with pytest.raises(LoupeError, match=r"no paragraph of ph_dimension has the chip of claim PH4"):
        nb.publish_notebook("ph_dimension")
    assert bare.read_bytes() == before


def test_publishing_takes_the_highest_complete_preset(empty_store):
    with pytest.raises(
        LoupeError, match=r"no complete results to publish: type `loupe compute ph_dimension --preset cpu`"
    ):
        nb.publish_notebook("ph_dimension")
    shutil.copytree(project_root() / "results" / "cpu", empty_store / "cpu")
    assert nb._complete_preset("ph_dimension") == "cpu"
    (empty_store / "cpu" / "ph_dimension" / "identities-s0.json").unlink()
    with pytest.raises(LoupeError, match="no complete results"):
        nb._complete_preset("ph_dimension")

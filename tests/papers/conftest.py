"""Fixtures for tests of what is drawn of a chapter."""

import re

import matplotlib.pyplot as plt
import pytest

from loupe import open_chapter
from loupe.experiment.results import find
from loupe.plotting import display

pytest.register_assert_rewrite("showing")  # so that its assertions say what they saw


@pytest.fixture(scope="module")
def chapter(request):
    """The chapter that a file of tests is named after, ``test_SLUG_figures`` or ``test_SLUG_statements``."""
    slug = re.fullmatch(r"test_(\w+)_(figures|statements)", request.module.__name__)[1]
    return open_chapter(slug, preset="cpu")


@pytest.fixture(scope="module")
def runs(chapter):
    """``runs("name")``: the runs of an experiment that the page is told from."""
    return lambda name: find(chapter, (name,)).runs


@pytest.fixture(autouse=True)
def _closed():
    """Pictures that are drawn and not shown are closed here."""
    yield
    plt.close("all")


@pytest.fixture
def shown(monkeypatch):
    """Figures are shown as in a notebook, without pictures, which take time; gives what it is shown."""
    from showing import Shown

    plt.close("all")  # what another file's tests left is not this one's
    seen, svg = Shown(), display.svg

    def picture(sheet):
        seen.sheets.append(sheet)
        return svg(sheet) if seen.rendering else "none"

    monkeypatch.setattr(display, "_in_ipython", lambda: True)
    monkeypatch.setattr(display, "svg", picture)
    monkeypatch.setattr(
        "IPython.display.display", lambda data, metadata, raw: seen.outputs.append((data, metadata))
    )
    yield seen
    left = plt.get_fignums()
    plt.close("all")
    assert not left


@pytest.fixture
def rendered(shown):
    """The same with pictures."""
    shown.rendering = True
    return shown


@pytest.fixture
def check_figure(rendered, monkeypatch, tmp_path):
    """``check_figure(slug, draw)``: what every figure, table and widget of a chapter promises.

    It is drawn from the stored results of ``cpu``, has a description and says its preset and seeds; where nothing is
    stored it is one sentence. A room asks for it in three lines::

        @pytest.mark.parametrize("draw", figures_of(figures, figures_motion))
        def test_every_figure(draw, check_figure):
            check_figure("egno", draw)
    """
    from showing import assert_absent, assert_shown

    def check(slug, draw):
        assert_shown(draw, open_chapter(slug, preset="cpu"), rendered)
        rendered.outputs.clear()
        monkeypatch.setenv("LOUPE_RESULTS", str(tmp_path / "nothing"))
        assert_absent(draw, open_chapter(slug, preset="cpu"), rendered)

    return check

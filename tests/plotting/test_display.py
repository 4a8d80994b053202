"""What a notebook receives when a figure is shown."""

import matplotlib.pyplot as plt
import pytest
from IPython.core.interactiveshell import InteractiveShell

from loupe import plotting
from loupe.plotting import display


def drawn():
    sheet, axes = plotting.figure("narrow")
    axes.plot([1, 2, 3], [1, 4, 9], **plotting.series(0), label="ours")
    axes.set(xlabel="step", ylabel="loss", title="Loss grows")
    axes.legend()
    return sheet


@pytest.fixture(autouse=True)
def _own_settings():
    with plt.rc_context():
        yield
    plt.close("all")


@pytest.fixture
def published(monkeypatch):
    """A shell, and the list of what is published in it."""
    shell = InteractiveShell.instance()
    outputs = []
    monkeypatch.setattr(
        shell.display_pub, "publish", lambda data, metadata=None, **_: outputs.append((data, metadata or {}))
    )
    yield outputs
    InteractiveShell.clear_instance()


def test_same_figure_same_bytes():
    first, second = display.png(drawn()), display.png(drawn())
    assert first == second
    assert first.startswith(b"\x89PNG")
    for word in (b"Software", b"Creation", b"tIME", b"matplotlib"):
        assert word not in first


def test_shows_picture_then_caption_and_closes(published):
    sheet = drawn()
    plotting.show(sheet, alt="A rising curve.", caption="Squares,\n  $x^2$.")
    (picture, about), (caption, mark) = published
    assert picture["image/png"].startswith(b"\x89PNG")
    assert picture["text/plain"] == "Squares, $x^2$."
    assert about == {"image/png": {"alt": "A rising curve.", "width": 462}}
    assert caption == {"text/markdown": "*Squares, $x^2$.*"}
    assert mark == {"loupe": {"caption": True}}
    assert not plt.fignum_exists(sheet.number)


def test_quiet_outside_a_notebook(monkeypatch, capsys):
    monkeypatch.setattr(display, "_in_ipython", lambda: False)
    sheet = drawn()
    plotting.show(sheet, alt="A curve.", caption="A curve.")
    assert capsys.readouterr().out == ""
    assert not plt.fignum_exists(sheet.number)


@pytest.mark.parametrize("empty", ["", "  \n", None, 3])
@pytest.mark.parametrize("name", ["alt", "caption"])
def test_needs_alt_and_caption(name, empty):
    with pytest.raises(ValueError, match=name):
        plotting.show(drawn(), **({"alt": "words", "caption": "words"} | {name: empty}))

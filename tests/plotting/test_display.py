"""What a notebook receives when a figure is shown, and how it looks on a light and on a dark page."""

import base64
import io
import re
from urllib.parse import unquote

import matplotlib.pyplot as plt
import numpy as np
import pytest
from IPython.core.interactiveshell import InteractiveShell
from matplotlib.image import imread
from widget_examples import EXAMPLES
from widget_pages import Browser, needs_browser

from loupe import plotting
from loupe.plotting import display
from loupe.plotting.style import DARK
from loupe.plotting.vector import svg

rng = np.random.default_rng(0)


def drawn(points=0):
    sheet, axes = plotting.figure("narrow")
    axes.plot([1, 2, 3], [1, 4, 9], **plotting.series(0), label="ours")
    axes.plot(
        [1, 2, 3], [1, 3, 5], **plotting.series(1) | {"markerfacecolor": plotting.GROUND}, label="theirs"
    )
    axes.plot(*rng.uniform(1, 3, (2, points)), ".", color=plotting.SERIES[2].color)
    axes.set(xlabel="step $x^2$", ylabel="loss", title="Loss grows")
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


def test_same_figure_same_bytes_that_say_nothing_of_the_machine():
    first, second = svg(drawn()), svg(drawn())
    assert first == second
    for word in ("Matplotlib", "matplotlib", "date", "metadata", "<!--", "<text"):
        assert word not in first


def test_shows_picture_then_caption_and_closes(published):
    sheet = drawn()
    plotting.show(sheet, alt='A "rising" curve.', caption="Squares,\n  $x^2$.")
    (picture, about), (caption, mark) = published
    assert picture.keys() == {"text/html", "text/plain"}
    assert about == {"loupe": {"figure": True}}
    found = re.fullmatch(
        r'<img class="loupe-figure" alt="A &quot;rising&quot; curve." width="462" src="data:image/svg\+xml,([^"<>#]+)">',
        picture["text/html"],
    )
    assert unquote(found[1]).startswith("<svg ")
    assert picture["text/plain"] == "Squares, $x^2$."
    assert caption == {"text/markdown": "*Squares, $x^2$.*"}
    assert mark == {"loupe": {"caption": True}}
    assert not plt.fignum_exists(sheet.number)


def test_wide_figures_have_a_class():
    assert [' wide"' in display.image(plotting.figure(width)[0], "words") for width in (5.4, 5.7)] == [
        False,
        True,
    ]


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


def test_colours_of_the_house_are_variables_and_no_others():
    sheet, axes = plotting.figure()
    axes.plot([0, 1], color="#0f766e", alpha=0.5)
    axes.fill_between([0, 1], 1, 2, color="#123456", hatch="/", edgecolor="#c2410c")
    light, dark = re.fullmatch(r".*?:root{(.*?)}.*dark\){:root{(.*?)}}.*", svg(sheet), re.DOTALL).groups()
    shown = svg(sheet).partition("}}")[2]
    assert "#123456" in shown
    assert not [color for color in DARK if color in shown]
    pairs = [dict(re.findall(r"(--\w):(#\w+)", values)) for values in (light, dark)]
    assert {pairs[0][name]: pairs[1][name] for name in pairs[0]}.items() <= DARK.items()


def test_many_points_become_an_image_that_keeps_to_the_theme():
    few, many = svg(drawn(300)), svg(drawn(20_000))
    assert "<image" not in few
    assert re.search('<mask id="\\w+"><image .*?</mask><rect [^>]*mask="url', many)
    assert few.count("h0") == 300 + 3
    assert len(few) < 20_000
    assert len(many) < 60_000


def test_images_keep_their_own_pixels():
    pixels = rng.integers(0, 256, (12, 9, 4), np.uint8)
    gray, holes = pixels[..., :1].repeat(3, -1), 255 * (pixels[..., 3:] > 99)
    for sent in (gray, pixels[..., :3], np.dstack([gray, holes])):
        sheet, axes = plotting.figure()
        axes.imshow(sent)
        content = base64.b64decode(re.search('png;base64,([^"]+)"', svg(sheet))[1])
        came = imread(io.BytesIO(content), "png")
        came = np.round(255 * (came if came.ndim == 3 else came[..., None]))
        seen = sent[..., 3] > 0 if sent.shape[-1] == 4 else np.ones(sent.shape[:2], bool)
        assert np.array_equal(np.broadcast_to(came[..., :3], (12, 9, 3))[seen], sent[..., :3][seen])


PAGE = """<style>html {{ color-scheme: {}; background: Canvas }}</style>{}<div>{}</div>"""


@needs_browser
@pytest.mark.parametrize(("scheme", "system"), [("dark", "light"), ("light", "dark"), ("light dark", "dark")])
def test_figures_and_widgets_follow_the_page_and_leave_no_slab(scheme, system, tmp_path):
    picture = display.image(drawn(300), "words")
    browser = Browser(
        tmp_path, PAGE.format(scheme, picture, EXAMPLES["filtration"](title="words", alt="words").html)
    )
    try:
        browser.ask(
            "Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": system}]
        )
        shot = browser.ask("Page.captureScreenshot")["data"]
    finally:
        browser.close()
    pixels = imread(io.BytesIO(base64.b64decode(shot)), "png")[..., :3].min(-1)
    blocks = pixels[: len(pixels) // 20 * 20, :1000].reshape(len(pixels) // 20, 20, 50, 20)
    light, dark = (blocks.min((1, 3)) > 0.8).mean(), (blocks.max((1, 3)) < 0.3).mean()
    assert light == 0 if scheme != "light" else dark == 0
    assert max(light, dark) > 0.4

"""The folded bell as a piece of HTML, and what its script makes of it in a browser without a network."""

import re
from contextlib import closing
from statistics import NormalDist

import numpy as np
import pytest
from widget_examples import SIGMAS, STARTS, X, reflected
from widget_pages import Browser, assert_well_formed, data_of, luminance, needs_browser, probed, still_of

from loupe.plotting import folding_kernel
from loupe.plotting.widgets.fragment import beside

WORDS = {"title": "Where does the wall send it?", "alt": "A bell curve that is folded."}
FRAMES, AT, LAST = [10, 24, 37], 27, 39  # of these amounts of noise, the nearest to 0.08, 0.3, 1 and to 0.4
BASE, TOP, STRIP, LEFT, RIGHT = 252, 122, 84, 22, 468  # of the large frame
SPACE = "\u00a0"


def shown(x=X, sigmas=SIGMAS, starts=STARTS, density=None, **words):
    density = reflected(x, sigmas, starts) if density is None else density
    return folding_kernel(x, sigmas, starts, density, **(WORDS | words))


def percent(part):
    return f"{100 * part:.1f}" if 100 * part < 9.95 else f"{100 * part:.0f}"


def folded(start, sigma):
    law = NormalDist(start, sigma)
    return 1 - (law.cdf(1) - law.cdf(0))


def line(i, start=0):
    far = np.abs(reflected()[start, i] - 1).max()
    text = (
        f"σ = {SIGMAS[i]:.3f} · {percent(folded(STARTS[start], SIGMAS[i]))} % of the mass has been folded · "
        f"furthest from the flat law by {percent(far)} %"
    )
    return text.replace(" ·", SPACE + "·").replace(" %", SPACE + "%").replace(" = ", f"{SPACE}={SPACE}")


def drawings(text):
    """The pictures: three small ones, then the large one."""
    found = re.findall(r'<svg class="(lk-\w+)"[^>]*>(.*?)</svg>', text, re.S)
    assert [name for name, _ in found] == ["lk-small"] * 3 + ["lk-large"]
    return [drawing for _, drawing in found]


def paths(drawing, name):
    """Kind and path of the pieces of the strip (lk-bell) or of the layers (lk-pile)."""
    group = re.search(rf'<g class="{name}">(.*?)</g>', drawing).group(1)
    return re.findall(r'<path class="(f\d)" d="([^"]*)"', group)


def one(drawing, name):
    return re.search(rf'class="{name}" d="([^"]*)"', drawing).group(1)


def corners(path):
    """Places (n, 2) that a path visits."""
    return np.array([place.split() for place in re.split("[MLZ]+", path) if place], dtype=float)


def numbers(text):
    return np.array(re.findall(r"-?\d+\.?\d*", text), dtype=float)


def scale_of(drawing, base):
    """How high density 1 is drawn, by the line of the flat law."""
    return base - float(re.search(r'class="lk-flat" d="M\d+ ([\d.]+)H', drawing).group(1))


def heights(drawing, base):
    """The density that the thick line shows, and the upper edge of all layers together."""
    total, unit = corners(one(drawing, "lk-sum"))[:, 1], scale_of(drawing, base)
    edges = [corners(path)[1:-1, 1] for _, path in paths(drawing, "lk-pile") if path]
    return (base - total) / unit, (base - np.min(edges, axis=0)) / unit


def assert_adds_up(drawing, base, expected):
    """Thick line and layers are the expected density; places are written with one decimal."""
    total, layers = heights(drawing, base)
    digit = 0.051 / scale_of(drawing, base)
    np.testing.assert_allclose(total, expected, atol=0.001 + digit, rtol=digit)
    # Layers that are too thin to be seen are left out.
    np.testing.assert_allclose(layers, total, atol=0.01 * expected.max())


def circles(drawing, name):
    group = re.search(rf'<g class="{name}">(.*?)</g>', drawing).group(1)
    return [(kind, float(x)) for kind, x in re.findall(r'<circle class="([^"]*)" cx="([^"]*)"', group)]


def test_same_data_same_bytes():
    assert shown().html == shown().html
    lists = shown(X.tolist(), SIGMAS.tolist(), STARTS.tolist(), reflected().tolist())
    assert lists.html == shown().html
    assert shown().html != shown(starts=[0.2]).html


def test_is_small_and_asks_nothing_of_other_hosts():
    text = shown().html
    assert len(text.encode()) < 120_000
    assert not re.search(r"https?:|//cdn", text)
    assert "$" not in text, "MathJax would read it"
    most = shown(np.linspace(0, 1, 201), np.geomspace(0.02, 2, 39), np.linspace(0, 1, 5))
    assert len(most.html.encode()) < 300_000


def test_is_well_formed_with_unique_ids():
    assert_well_formed(shown().html + shown(starts=[0.2]).html, ids=2)


def test_the_still_tells_the_story():
    still = still_of(shown().html)
    assert 'class="lw-controls" hidden' in still, "no dead controls where no script runs"
    assert 'class="lw-choices" hidden' in still
    assert "tabindex" not in still
    assert len(drawings(still)) == 4
    steps = re.findall(r'<p class="lk-step"><span>([^<]*)</span> <span>([^<]*)</span></p>', still)
    assert steps == [
        (f"σ{SPACE}={SPACE}{SIGMAS[i]:.3f}", f"{percent(folded(0.1, SIGMAS[i]))}{SPACE}% folded")
        for i in FRAMES
    ]
    assert re.search(r'class="lw-line"[^>]*>([^<]*)<', still).group(1) == line(AT)
    said = re.findall(r'role="img" aria-label="([^"]*)"', still)
    assert said == [*(f"Small frame: {line(i)}" for i in FRAMES), f"{WORDS['alt']} Now: {line(AT)}"]


def test_the_layers_of_the_still_add_up_to_the_density():
    for i, drawing, base in zip([*FRAMES, AT], drawings(shown().html), [148] * 3 + [BASE], strict=True):
        assert_adds_up(drawing, base, reflected()[0, i, :: 1 if base == BASE else 2])


def test_each_piece_of_the_bell_has_its_mass_and_its_layer():
    i = LAST
    sigmas = SIGMAS[[0, 20, i]]
    drawing = drawings(shown(sigmas=sigmas).html)[2]  # the third frame shows the last
    base, strip, left, right = 148, 44, 6, 234
    unit, wide = scale_of(drawing, base), right - left
    ratio = 40 / 86  # of the heights of strip and panel
    law, before = NormalDist(0.1, SIGMAS[i]), np.zeros(51)
    pieces, pile = paths(drawing, "lk-bell"), paths(drawing, "lk-pile")[::-1]
    assert [kind for kind, _ in pieces] == ["f0", "f1", "f1", "f2", "f2"]
    assert [kind for kind, _ in pile] == ["f0", "f1", "f1", "f2", "f2", "f3"]
    for k, (_, piece), (_, layer) in zip((0, -1, 1, -2, 2), pieces, pile, strict=False):
        mass = law.cdf(k + 1) - law.cdf(k)
        along = corners(piece)[1:-1]
        u, p = (along[:, 0] - left) / (wide / 5) - 2, (strip - along[:, 1]) / (unit * ratio)
        assert {round(u.min(), 1), round(u.max(), 1)} == {k, k + 1}
        assert (u[0] > u[-1]) == (k % 2 == 1), "what is folded an odd number of times lies mirrored"
        assert abs(np.trapezoid(p, u)) == pytest.approx(mass, abs=0.005)
        upper = (base - corners(layer)[1:-1, 1]) / unit
        assert np.trapezoid(upper - before, np.linspace(0, 1, 51)) == pytest.approx(mass, abs=0.003)
        np.testing.assert_allclose(upper - before, p, atol=0.004)
        before = upper


def test_dots_are_folded_like_the_line():
    drawing = drawings(shown().html)[3]
    far, dots = circles(drawing, "lk-far"), circles(drawing, "lk-dots")
    assert len(far) == len(dots) == 40
    noise = np.array([NormalDist().inv_cdf((k + 0.5) / 40) for k in range(40)])
    u = 0.1 + SIGMAS[AT] * noise
    v = np.abs(u) % 2
    v = np.where(v <= 1, v, 2 - v)
    np.testing.assert_allclose([x for _, x in far], LEFT + (RIGHT - LEFT) / 5 * (u + 2), atol=0.06)
    np.testing.assert_allclose([x for _, x in dots], LEFT + (RIGHT - LEFT) * v, atol=0.12)
    assert [kind for kind, _ in dots] == [f"f{abs(int(np.floor(place)))}" for place in u]
    beyond = circles(drawings(shown(sigmas=[0.1, 0.2, 2]).html)[3], "lk-far")
    assert not any("out" in kind for kind, _ in beyond), "the middle one of these is shown"


def test_the_data_are_the_density():
    data = data_of(shown().html)
    np.testing.assert_allclose(np.cumsum(data["density"], axis=2) / 1000, reflected(), atol=0.000501)
    assert (data["frames"], data["at"]) == (FRAMES, AT)
    assert data["folded"][2][LAST] == percent(folded(0.5, 1.2))
    assert (np.array(data["tops"]) >= reflected().max(axis=2)).all()


def test_frames_are_three_even_where_the_noise_hardly_differs():
    data = data_of(shown(sigmas=np.linspace(0.3, 0.302, 9)).html)
    assert data["frames"] == [0, 4, 8]
    assert data["labels"][:2] == ["0.3000", "0.3003"], "as many decimals as tell them apart"


def test_one_start_leaves_nothing_to_choose():
    still = still_of(shown(starts=[0.5]).html)
    assert "data-start" not in still
    assert '<div class="lw-choices" hidden></div>' in still


@pytest.mark.parametrize("start", [0.0, 1.0])
def test_a_start_at_a_wall(start):
    still = still_of(shown(starts=[start]).html)
    assert not re.search(r"\b(nan|inf)\b", still)
    assert re.search(r'<text x="([\d.]+)"[^>]*>start<', still).group(1) in {"66.0", "424.0"}, (
        "clear of 0 and 1"
    )


def test_mime_bundle_and_escaping():
    made = shown(title="a < b & c", alt='say "</script>"')
    bundle = made._repr_mimebundle_()
    assert set(bundle) == {"text/html", "text/plain"}
    text = bundle["text/html"]
    assert "a &lt; b &amp; c" in text
    assert "say &quot;&lt;/script&gt;&quot; Now: " in text
    assert text.count("</script>") == 2
    assert data_of(text)["alt"] == 'say "</script>"'
    assert "\n" not in bundle["text/plain"]


def test_colours_can_be_told_from_white_and_lines_from_grounds():
    found = re.findall(r"\.f(\d) \{ --pale: (#\w+); --full: (#\w+); \}", beside("folding.css"))
    assert [kind for kind, *_ in found] == list("0123")
    for _, pale, full in found:
        low, ground = luminance(full) + 0.05, luminance(pale) + 0.05
        assert 1.05 / low >= 4.5, "the words over the pieces"
        assert ground / low >= 3, "the edge of a layer"


HALF = [0.1, 0.2, 0.4]
FLAT = np.ones((3, 3, 101))


@pytest.mark.parametrize(
    ("x", "sigmas", "starts", "density", "words", "message"),
    [
        (X, HALF, STARTS, None, {"title": " "}, "title must be a text"),
        (X, HALF, STARTS, None, {"alt": ""}, "alt must be a text"),
        (X[:10], HALF, STARTS, FLAT, {}, r"x must have shape \(n,\) with n from 11 to 201, got \(10,\)"),
        (X[None], HALF, STARTS, FLAT, {}, r"x must have shape .*got \(1, 101\)"),
        (np.linspace(0, 1, 202), HALF, STARTS, FLAT, {}, r"x must have shape .*got \(202,\)"),
        (X[::-1], HALF, STARTS, FLAT, {}, "x must rise from 0 to 1"),
        (X / 2, HALF, STARTS, FLAT, {}, "x must rise from 0 to 1"),
        (X * np.nan, HALF, STARTS, FLAT, {}, "x must rise from 0 to 1"),
        (X, HALF[:2], STARTS, FLAT, {}, r"sigmas must have shape \(m,\) with m from 3 to 200, got \(2,\)"),
        (X, HALF[::-1], STARTS, FLAT, {}, r"sigmas must rise, .*got \[0.4, 0.2, 0.1\]"),
        (X, [0, 0.1, 0.2], STARTS, FLAT, {}, "sigmas must rise, from more than 0 to at most 2"),
        (X, [0.1, 0.2, 2.1], STARTS, FLAT, {}, "sigmas must rise, from more than 0 to at most 2"),
        (X, [0.1, np.nan, 2], STARTS, FLAT, {}, "sigmas must rise, .*nan"),
        (X, HALF, 0.5, FLAT, {}, r"starts must have shape \(s,\) with s from 1 to 5, got \(\)"),
        (X, HALF, np.linspace(0, 1, 6), FLAT, {}, r"starts must have shape .*got \(6,\)"),
        (X, HALF, [0.1, 0.5, 0.1], FLAT, {}, r"starts must be different places in \[0, 1\], got"),
        (X, HALF, [0.1, 0.5, 1.1], FLAT, {}, r"starts must be different places in \[0, 1\], got"),
        (X, HALF, [0.1, 0.5, np.nan], FLAT, {}, r"starts must be different places .*nan"),
        (X, HALF, STARTS, FLAT[0], {}, r"density must have shape .*\(3, 3, 101\), got \(3, 101\)"),
        (
            X,
            np.linspace(0.1, 1, 200),
            STARTS,
            np.ones((3, 200, 101)),
            {},
            "at most 40000 numbers .*got 60600",
        ),
        (X, HALF, STARTS, FLAT, {}, "within 1 %: it is not for start 0.1 and sigma 0.1"),
        (X, HALF, STARTS, FLAT * np.nan, {}, "within 1 %: it is not for start 0.1 and sigma 0.1"),
        (X, HALF, STARTS, 1.02 * reflected(X, HALF), {}, "density must be the folded bell curve within 1 %"),
    ],
)
def test_refuses_what_cannot_be_drawn(x, sigmas, starts, density, words, message):
    with pytest.raises(ValueError, match=message):
        shown(x, sigmas, starts, density, **words)


PROBE = """
const roots = [...document.querySelectorAll(".loupe-folding")], root = roots[0], seen = {};
const one = (selector) => root.querySelector(selector);
const read = () => ({
  html: one(".lk-frames").outerHTML + one(".lk-large").outerHTML, line: one(".lw-line").textContent,
  value: one("input").value, valuetext: one("input").getAttribute("aria-valuetext"),
  pressed: [...root.querySelectorAll("[aria-pressed=true]")].map((b) => b.textContent),
});
const slide = (k) => { one("input").value = k; one("input").dispatchEvent(new Event("input")); return read(); };
const start = (k) => { one("[data-start='" + k + "']").click(); return read(); };
seen.start = roots.map((each) => each.outerHTML);
seen.first = read();
seen.slid = slide(20);
one(".lw-next").click();
seen.next = read();
seen.chosen = start(2);
seen.far = slide(39);
one(".lw-next").click();
seen.around = read();
slide(27);
seen.back = start(0);
seen.hidden = ["lw-choices", "lw-controls", "lw-play"].map((name) => one("." + name).hidden);
seen.wide = roots.map((each) => each.scrollWidth <= each.clientWidth);
seen.focus = [...root.querySelectorAll("button, input")].map((control) => {
  control.focus();
  return document.activeElement === control && control.tabIndex === 0;
});
report(seen);
"""


@pytest.fixture(scope="module")
def browsed(tmp_path_factory):
    pictures = [shown().html, shown(starts=[0.25]).html]
    body = f'{pictures[0]}<div style="width: 358px">{pictures[1]}</div>'  # as on a phone
    return *probed(tmp_path_factory.mktemp("browser"), body, PROBE), pictures


def unescaped(text):
    """HTML as a browser writes it: all elements with end tags."""
    return re.sub(r"<(path|circle)([^>]*?)/>", r"<\1\2></\1>", text)


@needs_browser
def test_the_script_starts_from_the_still(browsed):
    seen, console, pictures = browsed
    assert console == []
    assert seen["hidden"] == [False, False, False]
    assert seen["wide"] == [True, True]
    for drawn, picture in zip(seen["start"], pictures, strict=True):
        assert drawings(drawn) == drawings(unescaped(picture))
        for name in ("aria-label", "aria-valuetext"):
            assert re.findall(f'{name}="([^"]*)"', drawn.replace(SPACE, "&nbsp;")) == re.findall(
                f'{name}="([^"]*)"', picture.replace(SPACE, "&nbsp;")
            )


def assert_alike(drawn, picture):
    """Two drawings are the same but for the last digit of their numbers."""
    for one_, other in zip(drawings(drawn), drawings(picture), strict=True):
        assert re.sub(r"[\d.]+", "0", one_) == re.sub(r"[\d.]+", "0", other)
        np.testing.assert_allclose(numbers(one_), numbers(other), atol=0.11)


@needs_browser
def test_the_script_draws_what_python_draws(browsed):
    seen, _, pictures = browsed
    back = seen["back"]
    assert_alike(back["html"], unescaped(pictures[0]))
    assert (back["line"], back["value"], back["pressed"]) == (line(AT), str(AT), ["0.1"])
    # A picture that has the third start first.
    expected = drawings(unescaped(shown(starts=STARTS[::-1]).html))
    for drawn, still in zip(drawings(seen["chosen"]["html"])[:3], expected[:3], strict=True):
        np.testing.assert_allclose(numbers(drawn), numbers(still), atol=0.11)


@needs_browser
def test_the_slider_and_the_button_choose_the_noise(browsed):
    seen, _, _ = browsed
    first = drawings(seen["first"]["html"])
    for name, i in (("slid", 20), ("next", 21)):
        state = seen[name]
        frames = drawings(state["html"])
        assert frames[:-1] == first[:-1], "the small frames stay"
        assert one(frames[-1], "lk-sum") != one(first[-1], "lk-sum")
        assert_adds_up(frames[-1], BASE, reflected()[0, i])
        assert (state["line"], state["valuetext"], state["value"]) == (line(i), line(i), str(i))
        assert f'aria-label="{WORDS["alt"]} Now: {line(i)}"' in state["html"].replace("&nbsp;", SPACE)
    assert seen["around"]["value"] == "0"


@needs_browser
def test_buttons_choose_the_start(browsed):
    seen, _, _ = browsed
    state = seen["chosen"]
    assert (seen["first"]["pressed"], state["pressed"]) == (["0.1"], ["0.5"])
    assert (state["line"], state["value"]) == (line(21, 2), "21"), "the noise stays"
    for i, drawing, base in zip([*FRAMES, 21], drawings(state["html"]), [148] * 3 + [BASE], strict=True):
        assert_adds_up(drawing, base, reflected()[2, i, :: 1 if base == BASE else 2])
    text = state["html"].replace("&nbsp;", SPACE)
    assert f"<span>{percent(folded(0.5, SIGMAS[37]))}{SPACE}% folded</span>" in text
    assert f'aria-label="Small frame: {line(37, 2)}"' in text


@needs_browser
def test_much_noise_is_folded_often_and_leaves_the_strip(browsed):
    seen, _, _ = browsed
    drawing = drawings(seen["far"]["html"])[-1]
    assert all(path for _, path in paths(drawing, "lk-pile")), "all six layers are seen"
    u = 0.5 + 1.2 * np.array([NormalDist().inv_cdf((k + 0.5) / 40) for k in range(40)])
    kinds = [f"f{min(3, abs(int(np.floor(v))))}" + " out" * (not -2 <= v <= 3) for v in u]
    assert [kind for kind, _ in circles(drawing, "lk-far")] == kinds
    assert any("out" in kind for kind in kinds)
    assert all(LEFT <= x <= RIGHT for _, x in circles(drawing, "lk-dots"))


@needs_browser
def test_everything_can_be_reached_and_moved_with_the_keyboard(tmp_path):
    with closing(Browser(tmp_path, shown().html)) as keyboard:
        reached = []
        for _ in range(6):
            keyboard.press("Tab", 9)
            reached.append(
                keyboard.value("document.activeElement.textContent || document.activeElement.type")
            )
        assert reached == ["0.1", "0.3", "0.5", "Play", "More noise", "range"]
        assert keyboard.value("getComputedStyle(document.activeElement).outlineStyle") == "solid"
        text = "document.querySelector('.lw-line').textContent"
        assert keyboard.value(text) == line(AT)
        keyboard.press("ArrowRight", 39)
        assert keyboard.value(text) == line(AT + 1)
        keyboard.press("Home", 36)
        assert keyboard.value(text) == line(0)
        keyboard.press("End", 35)
        assert keyboard.value(text) == line(LAST)
        keyboard.value("document.querySelector('[data-start=\"1\"]').focus()")
        keyboard.press("Enter", 13, "\r")
        assert keyboard.value(text) == line(LAST, 1)
        assert keyboard.value("document.querySelector('[aria-pressed=true]').textContent") == "0.3"

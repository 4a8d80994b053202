"""Interactive pictures alone and together: their HTML, and what the shared script makes of them in a browser."""

import json
import re
from contextlib import closing
from html import escape
from itertools import combinations

import numpy as np
import pytest
from widget_examples import EXAMPLES, PLAYED
from widget_pages import Browser, assert_well_formed, needs_browser, probed, still_of, strips_of

from loupe.plotting import Frame, Strip, figure, frame_player, picture_chooser
from loupe.plotting.widgets.fragment import beside
from loupe.plotting.widgets.frames import seen

WORDS = {"title": "What is seen?", "alt": "A picture."}
every_picture = pytest.mark.parametrize("name", EXAMPLES)
every_player = pytest.mark.parametrize("name", PLAYED)


# --- as pieces of HTML ----------------------------------------------------------------------------------------


@every_picture
def test_a_picture_is_a_fragment_that_needs_nothing_else(name):
    make = EXAMPLES[name]
    bundle = make(title="a < b & c", alt='say "</script>"')._repr_mimebundle_()
    assert set(bundle) == {"text/html", "text/plain"}
    assert "\n" not in bundle["text/plain"]
    text = bundle["text/html"]
    assert text.startswith(f'<div class="loupe-widget loupe-{name} lw-')
    assert f' mathjax_ignore" id="loupe-{name}-' in text.split("\n")[0]
    assert 'role="group" aria-label="a &lt; b &amp; c">' in text.split("\n")[0]
    assert '<p class="lw-title">a &lt; b &amp; c</p>' in text
    assert text.count("</script>") == 2, "no text ends the data"
    assert "say &quot;&lt;/script&gt;&quot;" in text
    assert not re.search(r"https?:|//cdn", text)
    assert "$" not in text, "MathJax would read it"
    assert len(text) < 150_000
    assert make(**WORDS).html == make(**WORDS).html
    assert_well_formed(make(**WORDS).html + make(title="Another", alt="picture").html, ids=2)


@every_picture
def test_no_dead_controls_where_no_script_runs(name):
    still = still_of(EXAMPLES[name](**WORDS).html).split("</style>")[1]
    assert "tabindex" not in still
    rows = re.findall(r'<div class="lw-(?:choices|controls)[^>]*>', still)
    assert rows
    assert all(row.endswith(" hidden>") for row in rows)
    rest = re.sub(r'<div class="lw-c.*?</div>|<(input|button)[^>]* hidden', "", still, flags=re.S)
    assert not re.search("<(button|input|select)", rest)
    if name != "poincare":
        assert re.search(r'class="lw-picture" role="img" aria-label="A picture\.[^"]*"><', still)


@every_picture
def test_own_rules_and_names_stay_with_their_picture(name):
    """Every rule begins with the class of its picture, and the shared ones with the class of all."""
    names = {part: set(re.findall(r"^(?:var|function) (\w+)", beside(f"{part}.js"), flags=re.M))
             for part in ("shared", "frames", "poincare")}  # fmt: skip
    assert {"live", "player", "choices"} <= names["shared"]
    assert not names["shared"] & (names["frames"] | names["poincare"])
    for sheet, start in (("shared", "loupe-widget"), (name.replace("-", "_"), f"loupe-{name}")):
        if sheet == "frames":
            continue  # it has no look of its own
        rules = re.sub(r"/\*.*?\*/", "", beside(f"{sheet}.css"), flags=re.S)
        heads = [head.strip() for head in re.findall(r"([^{}]+)\{", rules)]
        for head in heads:
            # Commas inside brackets divide no selectors.
            for selector in re.sub(r"\([^()]*(\([^()]*\)[^()]*)*\)", "", head).split(","):
                start_ = rf"@|(html\S* )?(\.loupe-widget)?\.{start}\b|\.{start}\b"
                assert re.match(start_, selector.strip()), head


def test_pictures_have_prefixes_of_their_own():
    """A class with the prefix of one picture means something in that picture only."""
    sheets = [beside(f"{name.replace('-', '_')}.css") for name in EXAMPLES if name != "frames"]
    found = [set(re.findall(r"\bl([a-z])-", sheet)) - {"w"} for sheet in sheets]
    assert all(len(prefixes) == 1 for prefixes in found)
    assert all(not one & other for one, other in combinations(found, 2))


# --- the player and the chooser -------------------------------------------------------------------------------


def sheet():
    return figure(1, 1)[0]


@pytest.mark.parametrize(
    ("picture", "expected"),
    [
        ("<svg></svg>", r"<svg></svg>"),
        ("a <b>\nc", r"<pre>a &lt;b&gt;\nc</pre>"),
        (np.zeros((2, 3), np.uint8), r'<img class="lw-pixels" alt="" src="data:image/png;base64,[\w+/=]+">'),
        (
            np.zeros((2, 3, 3), np.uint8),
            r'<img class="lw-pixels" alt="" src="data:image/png;base64,[\w+/=]+">',
        ),
        (sheet, r'<img alt="" src="data:image/svg\+xml,[^"]+">'),
        (b"\x89PNG", r'<img alt="" src="data:image/png;base64,[\w+/=]+">'),
    ],
)
def test_a_picture_may_be_of_many_kinds(picture, expected):
    made = picture() if callable(picture) else picture
    text = frame_player([made, Frame("<b>x</b>", "second")], **WORDS).html
    ((above, first, second),) = strips_of(text)
    assert re.fullmatch(expected, first[0])
    assert (above, first[1:], second) == ("", ["", ""], ["<b>x</b>", "second", ""])
    assert '<div class="lw-picture" role="img" aria-label="A picture. Now: second"><b>x</b></div>' in text


def test_choices_are_stored_in_order_the_last_changing_fastest():
    frames = {
        g: {t: Strip([f"<i>{g}{t}{k}</i>" for k in range(2 + t)], f"<p>{g}</p>") for t in (1, 2)}
        for g in "ab"
    }
    text = frame_player(frames, choose=("graph", "text"), at=0, **WORDS).html
    found = [[strip[0], *(frame[0] for frame in strip[1:])] for strip in strips_of(text)]
    assert [strip[1] for strip in found] == ["<i>a10</i>", "<i>a20</i>", "<i>b10</i>", "<i>b20</i>"]
    assert [len(strip) for strip in found] == [4, 5, 4, 5]
    assert re.findall(r'aria-pressed="(\w+)">(\w)<', text) == [
        ("true", "a"),
        ("false", "b"),
        ("true", "1"),
        ("false", "2"),
    ]
    assert '<div class="lw-above"><p>a</p></div>' in text
    assert 'max="2"' in text, "of the first choice"
    assert "<select" in frame_player({"long " * 4: ["a"], "name " * 4: ["b"]}, choose=["x"], **WORDS).html


SOME = ["<b>a</b>", "<b>b</b>"]


@pytest.mark.parametrize(
    ("make", "frames", "more", "message"),
    [
        (frame_player, SOME, {"title": " "}, "title must be a text"),
        (frame_player, SOME, {"alt": None}, "alt must be a text"),
        (frame_player, [], {}, "frames must hold at least one picture, got none"),
        (frame_player, SOME, {"at": 2}, "at must be one of the frames 0 to 1, got 2"),
        (frame_player, SOME, {"choose": ["x"]}, "frames must be mappings by name 1 deep"),
        (frame_player, {"a": SOME}, {}, "choose must name every level of frames, got 0 names"),
        (frame_player, {"a": {"b": SOME}, "c": {"d": SOME}}, {"choose": "xy"}, "must have the same names: got d beside b"),
        (frame_player, [np.zeros((2, 2))], {}, r"must be bytes \(uint8\) of shape .* got float64 of \(2, 2\)"),
        (frame_player, [np.zeros((2, 2, 4), np.uint8)], {}, r"got uint8 of \(2, 2, 4\)"),
        (frame_player, [b"GIF"], {}, "must be a PNG file"),
        (frame_player, SOME, {"view": 3}, "view must be two angles in degrees, .*got 3"),
        (frame_player, SOME, {"view": (0, 91)}, r"view must be .*from -90 to 90 degrees, got \(0, 91\)"),
        (picture_chooser, {"a": "x"}, {"choose": ["x"]}, "two or more pictures by name"),
        (picture_chooser, SOME, {"choose": ["x"]}, "two or more pictures by name"),
    ],
)  # fmt: skip
def test_refuses_what_cannot_be_shown(make, frames, more, message):
    with pytest.raises(ValueError, match=message):
        make(frames, **(WORDS | more))


def test_places_in_space_are_seen_by_rotations():
    places = np.random.default_rng(0).integers(-1000, 1000, (5, 3))
    text = seen(" ".join(f"M{x}|{y}|{z}" for x, y, z in places) + " 1|2", (40, -25))
    a, b = np.radians([40, -25])
    about = np.array([[np.cos(a), np.sin(a), 0], [-np.sin(a), np.cos(a), 0], [0, 0, 1]])
    tilted = np.array([[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]])
    x, _, z = (places @ about.T @ tilted.T).T
    found = np.array([spot.split() for spot in re.findall(r"M(\S+ \S+)", text)], float)
    np.testing.assert_allclose(found, np.stack([240 + 0.186 * x, 200 - 0.186 * z], 1), atol=0.051)
    assert text.endswith(" 1|2")


# --- in a browser ---------------------------------------------------------------------------------------------

BODY = '<!doctype html><meta charset="utf-8"><body style="width: 790px">'
LOOKS = """
const looks = (root) => [root, ...root.querySelectorAll("*:not(style, script)")].map((element) => {
  const style = getComputedStyle(element);
  const kind = element.tagName + "." + element.getAttribute("class") + " ";
  return [...style].map((name) => kind + name + ": " + style.getPropertyValue(name));
});
addEventListener("load", () => setTimeout(() => {
  const seen = {};
  for (const frame of document.querySelectorAll("iframe")) {
    for (const root of frame.contentDocument.querySelectorAll(".loupe-widget")) {
      const found = looks(root).flat(), before = seen[root.id];
      if (!before) { seen[root.id] = {found, pages: 1, live: true, different: []}; continue; }
      before.pages += 1;
      before.live &&= root.dataset.live === "ready";
      before.different.push(...found.filter((look, k) => look !== before.found[k]));
    }
  }
  Object.values(seen).forEach((each) => { each.found = each.found.length > 1000; });
  report(seen);
}, 3000));
"""


@needs_browser
def test_they_look_the_same_alone_and_together_in_any_order(tmp_path):
    """Pages hold the shared sheet several times, before and after each picture's own."""
    pictures = [make(**WORDS).html for make in EXAMPLES.values()]
    pages = [*([each] for each in pictures), pictures, pictures[::-1]]
    frames = "".join(
        f'<iframe width="820" height="900" srcdoc="{escape(BODY + "".join(page))}"></iframe>'
        for page in pages
    )
    looks, console = probed(tmp_path, frames, LOOKS)
    assert console == []
    assert len(looks) == len(pictures)
    for name, found in looks.items():
        assert found == {"found": True, "pages": 3, "live": True, "different": []}, name


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    before = "<script>window.before = Object.keys(window);</script>"
    body = before + "".join(f'<div id="{name}">{make(**WORDS).html}</div>' for name, make in EXAMPLES.items())
    with closing(Browser(tmp_path_factory.mktemp("browser"), body)) as browser:
        yield browser


@pytest.fixture
def browser(opened):
    yield opened.fresh()
    opened.ask("Emulation.setEmulatedMedia", media="", features=[])
    assert opened.value("faults") == []


def each(browser, expression):
    """What an expression of ``root`` is for each picture."""
    code = f"JSON.stringify([...document.querySelectorAll('.loupe-widget')].map((root) => {expression}))"
    return json.loads(browser.value(code))


@needs_browser
def test_they_leave_no_names_on_the_page_and_may_run_again(browser):
    assert (
        browser.value(
            "Object.keys(window).filter((name) => !before.includes(name) && name !== 'before').join()"
        )
        == ""
    )
    before = each(browser, "root.outerHTML")
    browser.value("""document.querySelectorAll('.loupe-widget > script:last-child').forEach((old) => {
      const again = document.createElement('script');
      again.textContent = old.textContent;
      old.replaceWith(again);
    })""")
    assert each(browser, "root.outerHTML") == before


@needs_browser
def test_controls_are_not_printed(browser):
    rows = "[...root.querySelectorAll('.lw-choices, .lw-controls, .lw-hint')].map((row) => {})"
    assert each(browser, rows.format("row.offsetHeight > 0")) == each(
        browser, rows.format("!!row.childNodes.length")
    )
    browser.ask("Emulation.setEmulatedMedia", media="print")
    assert not any(map(any, each(browser, rows.format("row.offsetHeight > 0"))))
    assert all(each(browser, "root.querySelector('svg, img, .lr-text').getBoundingClientRect().height > 2"))


LIGHT, DARK = (["rgb(255, 255, 255)", "rgb(31, 41, 51)"], ["rgb(29, 34, 39)", "rgb(219, 226, 232)"])


@needs_browser
@pytest.mark.parametrize(
    ("theme", "system", "expected"),
    [("light dark", "light", LIGHT), ("light dark", "dark", DARK), ("light", "dark", LIGHT), ("dark", "light", DARK)],
)  # fmt: skip
def test_they_follow_the_colour_scheme_of_the_page(theme, system, expected, browser):
    browser.ask("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": system}])
    browser.value(f"document.documentElement.style.colorScheme = '{theme}'")
    look = "((style) => [style.backgroundColor, style.color])(getComputedStyle(root))"
    assert each(browser, look) == [expected] * len(EXAMPLES)


@needs_browser
def test_a_phone_is_wide_enough(browser):
    browser.value("document.body.style.width = '358px'")
    over = "[root, ...root.querySelectorAll('*')].filter((e) => e.clientWidth && e.scrollWidth > e.clientWidth + 1).length"
    assert each(browser, "root.offsetWidth") == [358] * len(EXAMPLES)
    assert each(browser, over) == [0] * len(EXAMPLES)


class Player:
    """The slider, the line and the buttons of one picture on the page."""

    def __init__(self, browser, name):
        self.browser, self.name = browser, name
        self.max = int(self.value(".lw-slider", ".max"))

    def value(self, selector, rest):
        return self.browser.value(f"document.querySelector({json.dumps(f'#{self.name} {selector}')}){rest}")

    def slide(self, k):
        self.value(".lw-slider", f".value = {k}")
        self.value(".lw-slider", ".dispatchEvent(new Event('input'))")
        return self.state()

    def click(self, selector):
        self.value(selector, ".click()")
        return self.state()

    def state(self):
        return int(self.value(".lw-slider", ".value")), self.value(".lw-line", ".textContent")

    def picture(self):
        return self.value(".lw-picture", ".innerHTML")


@needs_browser
@every_player
def test_slider_and_button_choose_the_frame(name, browser):
    player = Player(browser, name)
    frames = strips_of(EXAMPLES[name](**WORDS).html)[0][1:]
    assert (player.max, player.value(".lw-play", ".textContent")) == (len(frames) - 1, "Play")
    states = [player.slide(2), player.click(".lw-next"), player.slide(player.max)]
    assert states == [(k, frames[k][1]) for k in (2, 3, player.max)]
    assert player.value(".lw-slider", ".getAttribute('aria-valuetext')") == frames[-1][1]
    said = frames[-1][2] or f"A picture. Now: {frames[-1][1]}"
    assert player.value(".lw-picture", ".getAttribute('aria-label')") == said
    last = player.picture()
    assert player.click(".lw-next") == (0, frames[0][1])
    assert player.picture() != last


@needs_browser
@every_player
def test_it_plays_when_asked_from_the_start_to_the_end(name, browser):
    player = Player(browser, name)
    live = ".getAttribute('aria-live')"
    player.slide(player.max)
    assert player.click(".lw-play")[0] <= 1
    assert (player.value(".lw-play", ".textContent"), player.value(".lw-line", live)) == ("Pause", "off")
    browser.wait(f"Number(document.querySelector('#{name} .lw-slider').value) > 2")
    paused = player.click(".lw-play")
    assert (player.value(".lw-play", ".textContent"), player.value(".lw-line", live)) == ("Play", "polite")
    assert player.state() == paused
    player.slide(player.max - 1)
    player.click(".lw-play")
    browser.wait(f"document.querySelector('#{name} .lw-play').textContent === 'Play'")
    assert player.state()[0] == player.max
    player.slide(0)
    player.click(".lw-play")
    browser.value(f"document.querySelector('#{name}').remove()")  # a notebook takes it away while it plays


@needs_browser
@every_player
def test_keys_reach_and_move_it(name, browser):
    browser.value(f"document.querySelectorAll('body > div:not(#{name})').forEach((other) => other.remove())")
    reached, rings = [], []
    while not reached or (reached[-1] != "lw-slider" and len(reached) < 20):
        browser.press("Tab", 9)
        reached.append(browser.value("document.activeElement.className"))
        rings.append(browser.value("getComputedStyle(document.activeElement).outlineStyle"))
    assert reached[-3:] == ["lw-play", "lw-next", "lw-slider"]
    assert set(rings) == {"solid"}
    player = Player(browser, name)
    for key, code, expected in (("Home", 36, 0), ("ArrowRight", 39, 1), ("End", 35, player.max)):
        browser.press(key, code)
        assert player.state()[0] == expected
    browser.one(".lw-play", ".focus()")
    browser.press("Enter", 13, "\r")
    assert browser.text(".lw-play") == "Pause"
    browser.press(" ", 32, " ")
    assert browser.text(".lw-play") == "Play"


@needs_browser
@pytest.mark.parametrize(
    ("name", "choose", "strip"),
    [
        ("frames", "querySelectorAll('.lw-choice')[1].querySelectorAll('button')[1].click()", 1),
        ("frames", "querySelectorAll('.lw-choice')[0].querySelectorAll('button')[1].click()", 2),
        ("reverse-path", "querySelectorAll('.lw-choice')[1].querySelectorAll('button')[2].click()", 2),
        ("folding", "querySelectorAll('button')[1].click()", 1),
        ("trajectories", "querySelectorAll('.lw-choice button')[1].click()", 1),
    ],
)
def test_another_strip_can_be_chosen(name, choose, strip, browser):
    text = EXAMPLES[name](**WORDS).html
    chosen = strips_of(text)[strip]
    at = browser.value(f"(document.querySelector('#{name} .lw-slider') || {{value: 0}}).value")
    browser.value(f"document.querySelector('#{name}').{choose}")
    assert browser.value(f"document.querySelector('#{name} .lw-line').textContent") == chosen[1 + int(at)][1]
    for place, html in ((".lw-above", chosen[0]), (".lw-picture", chosen[1 + int(at)][0])):
        bare = f"new DOMParser().parseFromString({json.dumps(html)}, 'text/html').body.textContent"
        same = f"document.querySelector('#{name} {place}').textContent === {bare}"
        assert browser.value(same), place


@needs_browser
def test_a_picture_in_space_is_turned_by_keys_and_by_dragging(browser):
    player = Player(browser, "trajectories")
    picture = strips_of(EXAMPLES["trajectories"](**WORDS).html)[0][-1][0]

    def assert_seen(turn, tilt):
        numbers = [
            re.findall(r"-?\d+\.\d\b", re.sub("scale.*?[)]", "", text))
            for text in (player.picture(), seen(picture, (turn, tilt)))
        ]
        np.testing.assert_allclose(*[np.array(each, float) for each in numbers], atol=0.11)
        said = player.value(".lw-grip", ".getAttribute('aria-valuetext')")
        assert said == f"turned {turn}°, seen from {abs(tilt)}° {'below' if tilt < 0 else 'above'}"

    assert_seen(30, 18)
    player.value(".lw-grip", ".focus()")
    browser.press("ArrowRight", 39)
    browser.press("ArrowDown", 40)
    browser.press("ArrowLeft", 37, modifiers=8)
    assert_seen(26, 23)
    for _ in range(23):
        browser.press("ArrowUp", 38)
    assert_seen(26, -90)
    player.click(".lw-reset")
    browser.value("document.querySelector('#trajectories').scrollIntoView()")
    place = (
        player.value(".lw-grip", ".getBoundingClientRect().x"),
        player.value(".lw-grip", ".getBoundingClientRect().y"),
    )
    for kind, x, y in (
        ("mousePressed", 100, 100),
        ("mouseMoved", 140, 120),
        ("mouseReleased", 140, 120),
        ("mouseMoved", 9, 9),
    ):
        browser.ask("Input.dispatchMouseEvent", type=kind, x=place[0] + x, y=place[1] + y, button="left", clickCount=1,
                    buttons=int(kind != "mouseReleased"))  # fmt: skip
    assert_seen(10, 28)
    assert browser.value("getComputedStyle(document.querySelector('.lw-grip')).touchAction") == "pan-y"
    kept = "document.querySelector('.lw-grip').dispatchEvent(new KeyboardEvent('keydown', {key: '%s', cancelable: true}))"
    assert [browser.value(kept % key) for key in ("ArrowUp", "Tab")] == [False, True], (
        "arrows must not scroll the page"
    )


@needs_browser
def test_ticks_choose_the_layers(browser):
    player = Player(browser, "trajectories")
    count = "document.querySelectorAll('#trajectories .lw-picture .{}:not([hidden])').length"
    for layer, before, after in (("m1", 1, 0), ("x", 0, 3), ("lt-trails", 4, 0)):
        assert browser.value(count.format(layer)) == before
        player.click(f'[data-layer="{layer}"]')
        assert browser.value(count.format(layer)) == after
    player.click(".lw-next")
    assert browser.value(count.format("lt-trails")) == 0, "they stay away in other frames"


@needs_browser
@pytest.mark.parametrize("old", ["window.DecompressionStream = undefined;", ""])
def test_who_wants_less_motion_has_no_play_button_and_an_old_browser_the_still(old, tmp_path):
    body = f"<script>{old}</script>" + PLAYED["folding"](**WORDS).html + EXAMPLES["poincare"](**WORDS).html
    probe = """addEventListener("load", () => setTimeout(() => report(
      [...document.querySelectorAll(".loupe-widget")].map((root) => [root.dataset.live,
       ...[".lw-play", ".lw-next", ".lp-reset"].map((name) => (root.querySelector(name) || {}).offsetHeight > 0)
      ])), 3000));"""
    found, _ = probed(tmp_path, body, probe, "--force-prefers-reduced-motion")
    assert found == [
        ["", False, False, False] if old else ["ready", False, True, False],
        ["ready", False, False, True],
    ]

"""Play, the button for the next step and the slider, which four interactive pictures share."""

import json
from contextlib import closing

import pytest
from widget_examples import EXAMPLES, PLAYED
from widget_pages import Browser, needs_browser, probed

WORDS = {"title": "What moves?", "alt": "A picture."}
every_player = pytest.mark.parametrize("name", PLAYED)

PROBE = """
const observed = (root) => new Promise((done) => {
  const seen = {}, one = (selector) => root.querySelector(selector), slider = one(".lw-slider");
  const read = () => ({
    line: one(".lw-line").textContent, live: one(".lw-line").getAttribute("aria-live"), play: one(".lw-play").textContent,
    value: Number(slider.value), valuetext: slider.getAttribute("aria-valuetext"), html: root.outerHTML,
  });
  const slide = (k) => { slider.value = k; slider.dispatchEvent(new Event("input")); return read(); };
  const click = (name) => { one(name).click(); return read(); };
  seen.max = Number(slider.max);
  seen.hidden = [...root.querySelectorAll("[hidden]")].map((element) => element.className);
  seen.first = read();
  seen.slid = slide(2);
  seen.next = click(".lw-next");
  seen.again = click(".lw-next");
  seen.last = slide(seen.max);
  seen.around = click(".lw-next");
  seen.zero = slide(0);
  slide(seen.max);
  seen.playing = click(".lw-play");
  const halfway = () => {
    if (Number(slider.value) <= 5) { setTimeout(halfway, 50); return; }
    seen.halfway = read();
    seen.paused = click(".lw-play");
    setTimeout(() => {
      seen.later = read();
      click(".lw-play");
      seen.stopped = [slide(3), (one(".lw-play").click(), click(".lw-next"))];
      click(".lw-play");
      const end = () => {
        if (one(".lw-play").textContent === "Pause") { setTimeout(end, 50); return; }
        seen.end = read();
        done(seen);
      };
      end();
    }, 1500);
  };
  halfway();
});
(async () => {
  const seen = {};
  for (const root of document.querySelectorAll(".loupe-widget")) {
    const name = root.id.replace(/^loupe-(.*)-[0-9a-f]*$/, "$1");
    if (root.querySelector(".lw-play") && !seen[name]) { seen[name] = await observed(root); }
  }
  // A notebook takes pictures away while they play.
  document.querySelectorAll(".lw-play").forEach((play) => play.click());
  document.querySelectorAll(".loupe-widget").forEach((root) => root.remove());
  setTimeout(() => report(seen), 500);
})();
"""


@pytest.fixture(scope="module")
def page():
    """All pictures, and all once more: scripts of every kind run twice, before and after each other."""
    return "".join(make(**WORDS).html for make in EXAMPLES.values()) + "".join(
        make(title="Another", alt="picture").html for make in EXAMPLES.values()
    )


@pytest.fixture(scope="module")
def browsed(tmp_path_factory, page):
    seen, console = probed(tmp_path_factory.mktemp("browser"), page, PROBE)
    assert console == []
    assert set(seen) == set(PLAYED)
    return seen


@needs_browser
@every_player
def test_nothing_moves_until_asked(browsed, name):
    seen = browsed[name]
    assert (seen["first"]["play"], seen["first"]["live"]) == ("Play", "polite")
    assert seen["hidden"] == []


@needs_browser
@every_player
def test_the_slider_chooses(browsed, name):
    seen = browsed[name]
    assert [seen[state]["value"] for state in ("slid", "last", "zero")] == [2, seen["max"], 0]
    assert len({seen[state]["line"] for state in ("slid", "last", "zero")}) == 3
    for state in ("slid", "next", "last", "zero", "end"):
        assert seen[state]["valuetext"].startswith(seen[state]["line"])


@needs_browser
@every_player
def test_the_button_goes_to_the_next_and_around(browsed, name):
    seen = browsed[name]
    values = [seen[state]["value"] for state in ("next", "again", "around")]
    if name == "filtration":
        assert 2 < values[0] < values[1], "its steps are merges"
        assert " 59 components " in seen["next"]["line"]
        assert " 58 components " in seen["again"]["line"]
        assert seen["around"] == seen["next"], "after the last merge comes the first"
    else:
        assert values == [3, 4, 0]
        assert seen["around"] == seen["zero"]


@needs_browser
@every_player
def test_it_plays_from_the_start_and_pauses(browsed, name):
    seen = browsed[name]
    playing = seen["playing"]
    assert (playing["play"], playing["live"], playing["value"]) == ("Pause", "off", 0)
    assert playing["line"] == seen["zero"]["line"]
    assert 5 < seen["halfway"]["value"] < seen["max"]
    assert seen["halfway"]["play"] == "Pause"
    assert (seen["paused"]["play"], seen["paused"]["live"]) == ("Play", "polite")
    assert seen["paused"]["value"] == seen["halfway"]["value"]
    assert seen["later"] == seen["paused"]


@needs_browser
@every_player
def test_slider_and_button_stop_it(browsed, name):
    for state in browsed[name]["stopped"]:
        assert (state["play"], state["live"]) == ("Play", "polite")


@needs_browser
@every_player
def test_it_ends_at_the_last(browsed, name):
    seen = browsed[name]
    assert seen["end"] == seen["last"]
    assert (seen["end"]["value"], seen["end"]["live"]) == (seen["max"], "polite")


@needs_browser
def test_who_asked_for_less_motion_has_no_play_button(tmp_path, page):
    with closing(Browser(tmp_path, page, "--force-prefers-reduced-motion")) as browser:
        hidden = (
            "JSON.stringify([...document.querySelectorAll('.loupe-widget [hidden]')].map((e) => e.className))"
        )
        assert json.loads(browser.value(hidden)) == ["lw-play"] * 2 * len(PLAYED)
        assert browser.one(".lw-next", ".offsetHeight") > 0
        assert browser.one(".lw-play", ".offsetHeight") == 0
        assert browser.value("faults") == []


@needs_browser
@every_player
def test_keys_reach_and_move_it(tmp_path, name):
    with closing(Browser(tmp_path, PLAYED[name](**WORDS).html)) as browser:
        reached, rings = [], []
        for _ in range(25):
            browser.press("Tab", 9)
            reached.append(browser.value("document.activeElement.className"))
            rings.append(browser.value("getComputedStyle(document.activeElement).outlineStyle"))
            if reached[-1] == "lw-slider":
                break
        assert reached[-3:] == ["lw-play", "lw-next", "lw-slider"]
        assert set(rings) == {"solid"}
        value = "Number(document.activeElement.value)"
        browser.press("Home", 36)
        first = browser.text(".lw-line")
        assert browser.value(value) == 0
        browser.press("ArrowRight", 39)
        assert browser.value(value) == 1
        assert browser.text(".lw-line") != first
        browser.press("End", 35)
        assert browser.value(value) == browser.value("Number(document.activeElement.max)")
        browser.one(".lw-play", ".focus()")
        browser.press("Enter", 13, "\r")
        assert browser.text(".lw-play") == "Pause"
        browser.press(" ", 32, " ")
        assert browser.text(".lw-play") == "Play"
        assert browser.value("faults") == []

"""What all interactive pictures have in common as pieces of HTML, alone and together on one page."""

import json
import re
from contextlib import closing
from html import escape
from itertools import combinations

import pytest
from widget_examples import EXAMPLES
from widget_pages import Browser, assert_well_formed, data_of, needs_browser, probed, still_of

from loupe.plotting.widgets.fragment import beside

WORDS = {"title": "What is seen?", "alt": "A picture."}
every_picture = pytest.mark.parametrize("make", EXAMPLES.values(), ids=EXAMPLES)


@every_picture
def test_same_data_same_bytes(make):
    assert make(**WORDS).html == make(**WORDS).html
    ids = {
        re.search(r'\bid="([^"]*)"', make(**words).html).group(1) for words in (WORDS, WORDS | {"title": "?"})
    }
    assert len(ids) == 2


@every_picture
def test_it_is_well_formed_with_unique_ids(make):
    assert_well_formed(make(**WORDS).html + make(title="Another", alt="picture").html, ids=2)


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_screen_reader_is_told_the_title(name):
    text = EXAMPLES[name](title="a < b & c", alt='say "</script>"').html
    opening = f'<div class="loupe-widget loupe-{name} mathjax_ignore" id="loupe-{name}-'
    assert text.startswith(opening)
    assert 'role="group" aria-label="a &lt; b &amp; c">' in text.split("\n")[0]
    assert '<p class="lw-title">a &lt; b &amp; c</p>' in text
    assert text.count("</script>") == 2, "no text ends the data"
    assert "say &quot;&lt;/script&gt;&quot;" in text
    assert isinstance(data_of(text), dict)


@every_picture
def test_it_asks_nothing_of_other_hosts(make):
    text = make(**WORDS).html
    assert not re.search(r"https?:|//cdn", text)
    assert "$" not in text, "MathJax would read it"


@every_picture
def test_no_dead_controls_where_no_script_runs(make):
    still = still_of(make(**WORDS).html).split("</style>")[1]
    assert "tabindex" not in still
    rows = re.findall(r'<div class="lw-(?:choices|controls)[^>]*>', still)
    assert rows
    assert all(row.endswith(" hidden>") for row in rows)
    assert not re.search(
        "<(button|input|select)",
        re.sub(r'<div class="lw-c.*?</div>|<input[^>]* hidden', "", still, flags=re.S),
    )


def names(script):
    """What a script declares outside its functions."""
    return set(re.findall(r"^(?:var|function) (\w+)", script, flags=re.M))


@pytest.mark.parametrize("name", EXAMPLES)
def test_no_own_name_hides_a_shared_one(name):
    shared = names(beside("shared.js"))
    assert {"live", "player", "choice"} <= shared
    assert not shared & names(beside(f"{name.replace('-', '_')}.js"))


@pytest.mark.parametrize("name", EXAMPLES)
def test_own_rules_stay_with_their_picture(name):
    """Every rule begins with the class of its picture, and the shared ones with the class of all."""
    for sheet, start in (("shared", "loupe-widget"), (name.replace("-", "_"), f"loupe-{name}")):
        rules = re.sub(r"/\*.*?\*/", "", beside(f"{sheet}.css"), flags=re.S)
        heads = [head.strip() for head in re.findall(r"([^{}]+)\{", rules)]
        heads = [head for head in heads if not head.startswith("@")]
        # Commas inside brackets divide no selectors.
        for head in heads:
            for selector in re.sub(r"\([^()]*(\([^()]*\)[^()]*)*\)", "", head).split(","):
                assert re.match(rf"(\.loupe-widget)?\.{start}\b|\.{start}\b", selector.strip()), head


LOOKS = """
const looks = (root) => [root, ...root.querySelectorAll("*:not(style, script)")].map((element) => {
  const style = getComputedStyle(element);
  const kind = element.tagName + "." + element.getAttribute("class") + " ";
  return [...style].map((name) => kind + name + ": " + style.getPropertyValue(name));
});
addEventListener("load", () => {
  const seen = {};
  for (const frame of document.querySelectorAll("iframe")) {
    for (const root of frame.contentDocument.querySelectorAll(".loupe-widget")) {
      const found = looks(root), before = seen[root.id];
      if (!before) { seen[root.id] = {found: found.flat(), pages: 1, live: true, different: []}; }
      else { before.pages += 1; }
      seen[root.id].live &&= root.hasAttribute("data-live");
      if (before) { before.different.push(...found.flat().filter((look, k) => look !== before.found[k])); }
    }
  }
  Object.values(seen).forEach((each) => { each.found = each.found.length > 1000; });
  report(seen);
});
"""


BODY = '<!doctype html><meta charset="utf-8"><body style="width: 790px">'  # also where it scrolls


@needs_browser
def test_they_look_the_same_alone_and_together_in_any_order(tmp_path):
    """Pages hold the shared sheet several times, before and after each picture's own."""
    pictures = [make(**WORDS).html for make in EXAMPLES.values()]
    pages = [*([each] for each in pictures), pictures, pictures[::-1]]
    frames = "".join(
        f'<iframe width="820" height="900" srcdoc="{escape(BODY + "".join(page))}"></iframe>'
        for page in pages
    )
    seen, console = probed(tmp_path, frames, LOOKS)
    assert console == []
    assert len(seen) == len(pictures)
    for name, found in seen.items():
        assert found == {"found": True, "pages": 3, "live": True, "different": []}, name


@needs_browser
def test_they_leave_no_names_on_the_page(tmp_path):
    before = "<script>window.before = Object.keys(window);</script>"
    body = before + "".join(make(**WORDS).html for make in EXAMPLES.values())
    probe = "report(Object.keys(window).filter((name) => !before.includes(name) && !['before', 'report'].includes(name)));"
    seen, console = probed(tmp_path, body, probe)
    assert (seen, console) == ([], [])


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    body = "".join(make(**WORDS).html for make in EXAMPLES.values())
    with closing(Browser(tmp_path_factory.mktemp("browser"), f'<div id="phone">{body}</div>')) as browser:
        yield browser


@pytest.fixture
def browser(opened):
    yield opened.fresh()
    opened.ask("Emulation.setEmulatedMedia", media="")
    assert opened.value("faults") == []


def each(browser, expression):
    """What an expression of ``root`` is for each picture."""
    code = f"JSON.stringify([...document.querySelectorAll('.loupe-widget')].map((root) => {expression}))"
    return json.loads(browser.value(code))


@needs_browser
def test_controls_are_not_printed(browser):
    shown = (
        "[...root.querySelectorAll('.lw-choices, .lw-controls, .lw-hint')].map((row) => row.offsetHeight > 0)"
    )
    empty = "[...root.querySelectorAll('.lw-choices, .lw-controls, .lw-hint')].map((row) => !!row.childNodes.length)"
    assert each(browser, shown) == each(browser, empty)
    browser.ask("Emulation.setEmulatedMedia", media="print")
    assert not any(map(any, each(browser, shown)))
    assert set(each(browser, "getComputedStyle(root).printColorAdjust")) == {"exact"}
    assert all(each(browser, "root.querySelector('svg, .lr-text').getBoundingClientRect().height > 20"))


@needs_browser
def test_the_panel_stays_light_on_a_dark_page(browser):
    browser.value(
        "document.documentElement.style.cssText = 'color-scheme: dark; background: #121212; color: #eee'"
    )
    look = "[getComputedStyle(root).colorScheme, getComputedStyle(root).backgroundColor, getComputedStyle(root).color]"
    assert each(browser, look) == [["light", "rgb(255, 255, 255)", "rgb(31, 41, 51)"]] * len(EXAMPLES)


@needs_browser
def test_a_phone_is_wide_enough(browser):
    browser.value("document.querySelector('#phone').style.width = '358px'")
    over = "[root, ...root.querySelectorAll('*')].filter((e) => e.clientWidth && e.scrollWidth > e.clientWidth + 1).length"
    assert each(browser, "root.offsetWidth") == [358] * len(EXAMPLES)
    assert each(browser, over) == [0] * len(EXAMPLES)


@needs_browser
def test_scripts_that_run_again_change_nothing(browser):
    before = each(browser, "root.outerHTML")
    browser.value("""document.querySelectorAll('.loupe-widget > script:last-child').forEach((old) => {
      const again = document.createElement('script');
      again.textContent = old.textContent;
      old.replaceWith(again);
    })""")
    assert each(browser, "root.outerHTML") == before
    browser.value("document.querySelectorAll('.lw-play').forEach((play) => play.click())")
    assert browser.value(
        "[...document.querySelectorAll('.lw-play')].map((play) => play.textContent).join()"
    ) == ",".join(["Pause"] * 4)
    browser.value("document.querySelectorAll('.lw-play').forEach((play) => play.click())")


def test_pictures_have_prefixes_of_their_own():
    """A class with the prefix of one picture means something in that picture only."""
    found = {
        name: set(re.findall(r"\bl([a-z])-", beside(f"{name.replace('-', '_')}.css"))) - {"w"}
        for name in EXAMPLES
    }
    assert all(len(prefixes) == 1 for prefixes in found.values())
    assert all(not one & other for one, other in combinations(found.values(), 2))

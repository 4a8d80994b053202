"""Texts on their way as a piece of HTML, and what the script makes of them in a browser without a network."""

import re

import matplotlib as mpl
import numpy as np
import pytest
from widget_examples import MASK, masks, times, uniform
from widget_pages import assert_well_formed, data_of, luminance, needs_browser, probed

from loupe.plotting import reverse_path
from loupe.plotting.widgets.fragment import beside

WORDS = {"title": "How is a text written?", "alt": "Blocks with letters."}
LETTERS = " abcdefghijklmnopqrstuvwxyz."


def shown(paths=None, when=None, **words):
    paths = {"masks": masks(), "uniform tokens": uniform()} if paths is None else paths
    return reverse_path(paths, times() if when is None else when, **(WORDS | words))


def fixed(states):
    """When each character is as at the end for good, one by one."""
    found = []
    for place in np.asarray(states).T:
        k = len(place)
        while k > 0 and place[k - 1] == place[-1]:
            k -= 1
        found.append(k)
    return found


def level(when, states):
    return int(np.floor(15 * when / (states - 1) + 0.5))


def expected(states, at):
    """Class and letter of each block of a state."""
    blocks = []
    for symbol, when in zip(states[at], fixed(states), strict=True):
        kind = f"v{level(when, len(states))}" if when <= at else "o"
        kind += " m" if symbol == MASK else " s" if symbol == 0 else ""
        blocks.append((kind, LETTERS[symbol].replace(".", "")))
    return blocks


def blocks(text):
    """Class and letter of each block of each state in a piece of HTML."""
    parts = re.findall(r'<div class="lr-text"[^>]*>(.*?)</div>', text)
    return [re.findall(r'<b class="([^"]*)">([^<]*)</b>', part) for part in parts]


def lines(text):
    return re.findall(r'<p class="(?:lr-step|lw-line)"[^>]*>([^<]*)</p>', text)


def decoded(text):
    """The states that the data of the page say."""
    state, found = [], []
    for part in text.split(","):
        at = 0
        for number, letter in re.findall(r"(\d+)|(\D)", part):
            if number:
                at += int(number)
            else:
                state[at : at + 1] = [LETTERS.index(letter.replace("_", " "))]
                at += 1
        found.append(list(state))
    return found


def test_same_data_same_bytes():
    assert shown().html == shown().html
    lists = {"masks": masks().tolist(), "uniform tokens": uniform().astype(np.int64)}
    assert shown(lists, times().tolist()).html == shown().html
    assert shown({"masks": masks()}).html != shown({"masks": masks(seed=1)}).html


def test_is_small_and_asks_nothing_of_other_hosts():
    text = shown().html
    assert len(text.encode()) < 45_000
    assert not re.search(r"https?:|//cdn", text)
    assert "$" not in text, "MathJax would read it"


def test_is_well_formed_with_unique_ids():
    assert_well_formed(shown().html + shown({"masks": masks(seed=1)}).html, ids=2)


@pytest.mark.parametrize("make", [masks, uniform])
def test_the_still_tells_the_story(make):
    states = make()[0]
    still = shown({"graph": states}).html.split("<script")[0]
    assert 'class="lw-controls" hidden' in still, "no dead controls where no script runs"
    assert 'class="lw-choices" hidden' in still
    assert 'class="lr-ringed" hidden' in still
    assert "data-graph" not in still, "one graph and one text leave nothing to choose"
    assert blocks(still) == [expected(states, at) for at in (16, 32, 48, 64)]
    noun = "masked" if make is masks else "still to change"
    left = [sum(when > at for when in fixed(states)) for at in (16, 32, 48, 64)]
    clock = [f"{time:.2f}" for time in [*times()[[17, 33, 49]], 0]]
    assert lines(still) == [
        f"Step {step} of 65 · time {time} · {number} {noun}"
        for step, time, number in zip((17, 33, 49, 65), clock, left, strict=True)
    ]
    if make is masks:
        assert left == [int((states[at] == MASK).sum()) for at in (16, 32, 48, 64)]
    assert ("</b> masked" in still) == (make is masks)
    assert ("</b> still to change" in still) == (make is uniform)


def test_the_first_state_may_be_the_noise():
    noise = np.full((1, 1, 64), MASK, np.uint8)
    states = np.concatenate([noise, masks(1)], axis=1)
    text = shown({"masks": states}).html
    assert lines(text)[0].startswith(f"Step 16 of 65 · time {times()[16]:.2f} · ")
    assert "step 0 <span" in text
    assert (data_of(text)["times"][0], data_of(text)["times"][-1]) == ("1.00", "0.00")


def test_the_data_are_the_states():
    paths = {"masks": masks(2, 9, 32), "uniform tokens": uniform(2, 9, 32)}
    data = data_of(shown(paths, times(9)).html)
    for k, states in enumerate(paths.values()):
        np.testing.assert_array_equal([decoded(text) for text in data["paths"][k]], states)
        assert data["fixed"][k] == [fixed(text) for text in states]


def test_very_many_states_are_thinned_and_colours_are_not():
    paths = {"masks": masks(3, 1025, 256), "uniform tokens": uniform(3, 1025, 256)}
    text = shown(paths, times(1025)).html
    data = data_of(text)
    assert len(text.encode()) < 300_000
    assert len(data["shown"]) < 1025
    assert (data["shown"][0], data["shown"][-1]) == (0, 1024)
    assert data["fixed"][1][2] == fixed(paths["uniform tokens"][2])
    np.testing.assert_array_equal(decoded(data["paths"][1][0]), paths["uniform tokens"][0][data["shown"]])
    assert lines(text)[-1] == "Step 1025 of 1025 · time 0.00 · 0 masked"


def test_letters_can_be_read_on_every_colour_of_viridis():
    style = beside("reverse_path.css")
    scale = re.findall(r"\.v(\d+) \{ background: (#\w+); color: (#\w+); \}", style)
    assert [int(k) for k, *_ in scale] == list(range(16))
    assert [ground for _, ground, _ in scale] == [
        mpl.colors.to_hex(mpl.colormaps["viridis"](k / 15)) for k in range(16)
    ]
    open_ink, open_ground = re.search(r"\.o \{\s*color: (#\w+);\s*background: (#\w+);", style).groups()
    for ground, ink in [*((ground, ink) for _, ground, ink in scale), (open_ground, open_ink)]:
        low, high = sorted([luminance(ground), luminance(ink)])
        assert (high + 0.05) / (low + 0.05) >= 4.5, ground


def test_mime_bundle_and_escaping():
    made = shown({"a < b": masks(1), "c & d": uniform(1)}, title="a < b & c", alt='say "</script>"')
    bundle = made._repr_mimebundle_()
    assert set(bundle) == {"text/html", "text/plain"}
    text = bundle["text/html"]
    assert "a &lt; b &amp; c" in text
    assert "say &quot;&lt;/script&gt;&quot;" in text
    assert ">a &lt; b</button>" in text
    assert text.count("</script>") == 2
    assert data_of(text)["alt"] == 'say "</script>"'
    assert "\n" not in bundle["text/plain"]


WRONG = uniform(1, 4, 8)[0].astype(int)


@pytest.mark.parametrize(
    ("paths", "when", "words", "message"),
    [
        ({"a": WRONG}, times(4), {"title": " "}, "title must be a text"),
        ({"a": WRONG}, times(4), {"alt": ""}, "alt must be a text"),
        ({}, times(4), {}, "at least one graph"),
        ({" ": WRONG}, times(4), {}, "name must be a text"),
        ({"a": WRONG[0]}, times(4), {}, r"a must have shape \(states, L\) or .*got \(8,\)"),
        ({"a": WRONG[:1]}, times(1), {}, r"at least 2 states .*got \(1, 1, 8\)"),
        ({"a": np.zeros((2, 1025), int)}, times(2), {}, r"L from 1 to 1024, got \(1, 2, 1025\)"),
        ({"a": WRONG / 2}, times(4), {}, "a must hold integers from 0 to 27"),
        ({"a": WRONG + 28}, times(4), {}, "a must hold integers from 0 to 27"),
        ({"a": np.full((4, 8), 27)}, times(4), {}, "the last state of a must have no masks"),
        ({"a": WRONG, "b": WRONG[1:]}, times(4), {}, r"the same shape, got \(1, 3, 8\), \(1, 4, 8\)"),
        ({"a": WRONG}, times(5), {}, r"4 states need 4 times, or one less, got \(5,\)"),
        ({"a": WRONG}, times(4)[::-1], {}, "times must fall from at most 1"),
        ({"a": WRONG}, [1, np.nan, 0.5, 0.1], {}, "times must fall from at most 1, .*nan"),
        ({"a": WRONG}, [1, 0.5, 0.25, 0], {}, "times must fall from at most 1"),
    ],
)
def test_refuses_what_cannot_be_drawn(paths, when, words, message):
    with pytest.raises(ValueError, match=message):
        reverse_path(paths, when, **(WORDS | words))


PROBE = """
const roots = [...document.querySelectorAll(".loupe-reverse-path")], root = roots[0], seen = {};
const one = (selector) => root.querySelector(selector);
const read = () => ({
  blocks: [...root.querySelectorAll(".lr-text")].map((text) => [...text.children].map((b) => [b.className, b.textContent])),
  lines: [...root.querySelectorAll(".lr-step, .lw-line")].map((line) => line.textContent),
  said: one(".lr-main .lr-text").getAttribute("aria-label"), value: one("input").value,
  valuetext: one("input").getAttribute("aria-valuetext"),
  pressed: [...root.querySelectorAll("[aria-pressed=true]")].map((b) => b.textContent),
});
const slide = (k) => { one("input").value = k; one("input").dispatchEvent(new Event("input")); return read(); };
seen.start = roots.map((each) => each.outerHTML);
seen.first = read();
seen.slid = slide(20);
one(".lw-next").click();
seen.next = read();
one("[data-graph='1']").click();
one("[data-text='2']").click();
seen.chosen = read();
seen.last = slide(64);
one(".lw-next").click();
seen.around = read();
seen.hidden = ["lw-choices", "lw-controls", "lr-ringed", "lw-play"].map((name) => one("." + name).hidden);
seen.wide = document.documentElement.scrollWidth <= innerWidth;
report(seen);
"""


@pytest.fixture(scope="module")
def browsed(tmp_path_factory):
    pictures = [shown().html, shown({"masks": masks(1, 1025, 256)}, times(1025)).html]
    return *probed(tmp_path_factory.mktemp("browser"), "".join(pictures), PROBE), pictures


def ringed(states, at):
    """The blocks of a state on the way, those that it changed with a ring."""
    new = (states[at] != states[max(at - 1, 0)]).tolist()
    return [
        [kind + " n" * ring, letter] for (kind, letter), ring in zip(expected(states, at), new, strict=True)
    ]


@needs_browser
def test_the_script_starts_from_the_still(browsed):
    seen, console, pictures = browsed
    assert console == []
    assert seen["hidden"] == [False, False, False, False]
    assert seen["wide"]
    for drawn, picture in zip(seen["start"], pictures, strict=True):
        assert blocks(drawn) == blocks(picture)
        assert lines(drawn) == lines(picture)
        for name in ("aria-label", "aria-valuetext"):
            assert re.findall(f'{name}="([^"]*)"', drawn) == re.findall(f'{name}="([^"]*)"', picture)


@needs_browser
def test_the_slider_and_the_button_choose_the_step(browsed):
    seen, _, _ = browsed
    states = masks()[0]
    for name, at in (("slid", 20), ("next", 21)):
        state = seen[name]
        assert state["blocks"][-1] == ringed(states, at)
        assert state["blocks"][:-1] == seen["first"]["blocks"][:-1], "the other states stay"
        left = int((states[at] == MASK).sum())
        assert state["lines"][-1] == f"Step {at + 1} of 65 · time {times()[at + 1]:.2f} · {left} masked"
        assert (state["valuetext"], state["value"]) == (state["lines"][-1], str(at))
        said = re.sub("[.]+", "…", "".join(LETTERS[symbol] for symbol in states[at]))
        assert state["said"] == f"Blocks with letters. The text now: {said}"
    assert seen["around"]["value"] == "0"


@needs_browser
def test_buttons_choose_graph_and_text(browsed):
    seen, _, _ = browsed
    states, state = uniform()[2], seen["chosen"]
    assert seen["first"]["pressed"] == ["masks", "1"]
    assert state["pressed"] == ["uniform tokens", "3"]
    assert state["blocks"][:-1] == [[list(block) for block in expected(states, at)] for at in (16, 32, 48)]
    assert state["blocks"][-1] == ringed(states, 21), "the step stays"
    left = sum(when > 21 for when in fixed(states))
    assert state["lines"][-1] == f"Step 22 of 65 · time {times()[22]:.2f} · {left} still to change"


@needs_browser
def test_the_last_step_is_the_text(browsed):
    seen, _, _ = browsed
    assert seen["last"]["value"] == "64"
    assert seen["last"]["blocks"][-1] == [list(block) for block in expected(uniform()[2], 64)]

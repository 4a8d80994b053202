"""Trajectories in space as a piece of HTML, and what a user can do with them in a browser without a network."""

import re
from dataclasses import dataclass

import numpy as np
import pytest
from widget_examples import MODELS, system
from widget_pages import Browser, assert_well_formed, data_of, luminance, needs_browser, still_of

from loupe.plotting import SERIES, trajectory_view
from loupe.plotting.widgets.fragment import beside

WORDS = {"title": "Where do the charges go?", "alt": "Five charges and their paths."}


SCENES = {
    "first system": system(groups=[-1, 1, 1, -1, 1]),
    "second < system": system(1, groups=[1, 1, -1, -1, 1]),
    "third": system(2, count=4, times=[0.25, 0.5, 1]),
}
BODY = {"body": system(3, count=31, times=np.arange(1, 11) / 10)}
BONES = np.column_stack([np.arange(1, 31), np.arange(30)])


def shown(scenes=None, **more):
    return trajectory_view(SCENES if scenes is None else scenes, **(WORDS | more))


def value_of(text):
    """A number as people write it."""
    digits, _, power = text.partition("·10")
    return float(f"{digits}e{power.translate(str.maketrans('⁻⁰¹²³⁴⁵⁶⁷⁸⁹', '-0123456789')) or 0}")


def error(scene, model, at):
    return np.mean((scene["predictions"][model][at - 1] - scene["truth"][at - 1]) ** 2)


def paths(text, layer, kind):
    """Paths of one kind, such as trails (t), edges (e) or marks (p), of the truth or of a model."""
    group = re.search(rf'<g class="lt-layer {layer}( many)?">(.*?)</g>', text)
    return [] if group is None else re.findall(rf'<path class="{kind}"[^>]*? d="([^"]*)"', group.group(2))


def corners(path):
    return np.array([place.split() for place in re.split("[ML]", path) if place], dtype=float)


def numbers(text):
    return np.array(re.findall(r"-?\d+\.?\d*", text), dtype=float)


def seen(places, radius, centre, turn=30, tilt=18):
    """Where places are seen, by rotations as matrices."""
    a, b = np.radians([turn, tilt])
    about = np.array([[np.cos(a), np.sin(a), 0], [-np.sin(a), np.cos(a), 0], [0, 0, 1]])
    tilted = np.array([[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]])
    x, _, z = np.moveaxis((places - centre) / radius @ about.T @ tilted.T, -1, 0)
    return np.stack([240 + 186 * x, 200 - 186 * z], axis=-1)


def frame_of(scene):
    """Centre of the truth, and its radius; the predictions of these tests hardly leave it."""
    true = np.concatenate([scene["start"][None], scene["truth"]])
    centre = (true.min(axis=(0, 1)) + true.max(axis=(0, 1))) / 2
    far = max(np.linalg.norm(p - centre, axis=-1).max() for p in scene["predictions"].values())
    radius = np.linalg.norm(true - centre, axis=-1).max()
    return true, centre, max(radius, min(far, 1.25 * radius))


def test_same_data_same_bytes():
    assert shown().html == shown().html
    lists = {
        name: {
            key: {n: p.tolist() for n, p in value.items()}
            if key == "predictions"
            else np.asarray(value).tolist()
            for key, value in scene.items()
        }
        for name, scene in SCENES.items()
    }
    assert shown(lists).html == shown().html
    assert shown({"first system": system(9)}).html != shown({"first system": system()}).html


def test_a_dataclass_is_as_good_as_a_dict():
    @dataclass
    class Flight:
        start: np.ndarray
        truth: np.ndarray
        predictions: dict
        times: np.ndarray

    assert shown({"a": Flight(**system())}).html == shown({"a": system()}).html


def test_is_small_and_asks_nothing_of_other_hosts():
    text = shown().html
    assert len(text.encode()) < 60_000
    assert not re.search(r"https?:|//cdn", text)
    assert "$" not in text, "MathJax would read it"
    four = {f"model {k}": 0.1 for k in range(4)}
    bodies = {str(k): system(k, count=31, times=np.arange(1, 11) / 10, models=four) for k in range(2)}
    assert len(shown(bodies, edges=BONES).html.encode()) < 120_000
    most = {str(k): system(k, count=31, times=np.arange(1, 11) / 10) for k in range(10)}
    assert len(shown(most, edges=BONES).html.encode()) < 300_000


def test_is_well_formed_with_unique_ids():
    assert_well_formed(shown().html + shown(BODY, edges=BONES).html, ids=2)


def test_the_still_tells_the_story():
    still = still_of(shown(group_names={-1: "negative"}).html)
    for name in ("lw-choices", "lw-controls", "lw-controls lt-options", "lt-grip", "lw-hint"):
        assert f'class="{name}" hidden' in still, "no dead controls where no script runs"
    assert len(re.findall(r'type="checkbox" checked hidden', still)) == 3
    assert "tabindex" not in still
    assert (
        re.search(r'class="lw-line"[^>]*>([^<]*)<', still).group(1)
        == "Slice 5 of 5 · time 1.00 of the window"
    )
    for k, model in enumerate(MODELS):
        assert len(paths(still, f"m{k}", "t")) == 5
        assert re.search(rf'<tr class="m{k}">.*?>{model}<', still)
    assert re.search(r"</svg> negative</span>.*</svg> group 1</span>", still)
    said = re.search(r'role="img" aria-label="([^"]*)"', still).group(1)
    assert said.startswith(
        f"{WORDS['alt']} Now: Slice 5 of 5 · time 1.00 of the window; mean squared error: EGNO "
    )


def test_errors_are_those_of_the_data():
    data = data_of(shown().html)
    for scene, given in zip(data["scenes"], SCENES.values(), strict=True):
        for k, model in enumerate(MODELS):
            expected = [error(given, model, at) for at in range(1, len(given["times"]) + 1)]
            assert scene["now"][k][0] == "0"
            written = [value_of(text) for text in scene["now"][k][1:]]
            np.testing.assert_allclose(written, expected, rtol=0.006)
            assert value_of(scene["all"][k]) == pytest.approx(np.mean(expected), rel=0.006)
        assert scene["least"] == [-1] + [0] * len(given["times"])


def test_the_page_holds_the_data_to_a_thousandth():
    for scene, given in zip(data_of(shown().html)["scenes"], SCENES.values(), strict=True):
        true, centre, radius = frame_of(given)
        shape, unit = true.shape, radius / 2000
        found = np.cumsum(scene["truth"], axis=0)
        np.testing.assert_allclose(unit * found.reshape(shape) + centre, true, atol=0.51 * unit)
        for places, expected in zip(scene["predicted"], given["predictions"].values(), strict=True):
            all_ = unit * (np.array(places) + found[1:]).reshape(expected.shape) + centre
            np.testing.assert_allclose(all_, expected, atol=0.51 * unit)


@pytest.mark.parametrize(
    ("scale", "written"),
    [(1e-3, "1.00·10⁻⁶"), (0.1, "0.0100"), (3, "9.00"), (100, "10000"), (1e4, "1.00·10⁸"), (0, "0")],
)
def test_errors_are_written_for_people(scale, written):
    scene = system()
    scene["predictions"] = {"a": scene["truth"] + scale}
    assert data_of(shown({"one": scene}).html)["scenes"][0]["all"] == [written]


@pytest.mark.parametrize("up", ["z", "y"])
def test_the_still_shows_the_data_turned(up):
    given = SCENES["first system"]
    turned = (
        given
        if up == "z"
        else given
        | {key: given[key][..., [1, 2, 0]] for key in ("start", "truth")}
        | {"predictions": {name: places[..., [1, 2, 0]] for name, places in given["predictions"].items()}}
    )
    # With y up, z points to where x pointed: the same picture.
    still = still_of(shown({"one": turned}, up=up).html)
    true, centre, radius = frame_of(given)
    expected = seen(true, radius, centre)
    found = np.array([corners(path) for path in paths(still, "true", "t")])
    order = [np.argmin(np.abs(expected[0] - trail[0]).sum(axis=1)) for trail in found]
    assert sorted(order) == list(range(5))
    np.testing.assert_allclose(found, expected[:, order].swapaxes(0, 1), atol=0.15)
    for k, places in enumerate(given["predictions"].values()):
        for trail in (corners(path) for path in paths(still, f"m{k}", "t")):
            i = np.argmin(np.abs(expected[0] - trail[0]).sum(axis=1))
            np.testing.assert_allclose(trail[1:], seen(places, radius, centre)[:, i], atol=0.15)


def test_far_particles_come_first_and_are_pale():
    still = still_of(shown(view=(0, 90)).html)  # seen from above: what is high is near
    group = re.search(r'<g class="lt-layer true">(.*?)</g>', still).group(1)
    marks = re.findall(
        r'class="p" opacity="([\d.]+)" transform="translate\(([\d.]+) [\d.]+\) scale\(([\d.]+)', group
    )
    shades, across, sizes = np.array(marks, dtype=float).T
    assert (np.diff(shades) >= 0).all()
    assert (np.diff(sizes) >= 0).all()
    true, centre, radius = frame_of(SCENES["first system"])
    order = np.argsort(true[-1, :, 2])
    np.testing.assert_allclose(across, 240 + 186 * (true[-1, order, 0] - centre[0]) / radius, atol=0.15)


def test_edges_are_drawn_between_the_places_of_now():
    still = still_of(shown(BODY, edges=BONES).html)
    given = BODY["body"]
    _, centre, radius = frame_of(given)
    expected = seen(given["truth"][-1], radius, centre)
    found = np.array([corners(path) for path in paths(still, "true", "e")])
    np.testing.assert_allclose(found, expected[BONES], atol=0.15)
    assert len(paths(still, "m2", "e")) == 30
    own = still_of(shown({"a": BODY["body"] | {"edges": [[0, 1]]}}, edges=BONES).html)
    assert len(paths(own, "true", "e")) == 1, "a scene's own edges come first"


def test_groups_have_shapes():
    still = still_of(shown().html)
    assert len(set(paths(still, "true", "p"))) == 2
    assert len(set(paths(still_of(shown({"a": system()}).html), "true", "p"))) == 1


def test_one_scene_leaves_nothing_to_choose():
    assert "<select" not in shown(BODY).html


def test_odd_scenes_can_be_drawn():
    still = system(count=1, times=[1])
    still["truth"] = still["start"][None]
    still["predictions"] = {"a": still["start"][None] + 1e99}
    flat = system()
    flat["truth"][..., 2] = flat["start"][..., 2] = 0
    for scene in (still, flat):
        assert not re.search(r"\b(nan|inf)\b", shown({"a": scene}).html)


def test_mime_bundle_and_escaping():
    scene = system(models={'</script>"&': 0.1})
    made = shown({"<b>": scene, "c": scene}, title="a < b & c", alt='say "</script>"')
    bundle = made._repr_mimebundle_()
    assert set(bundle) == {"text/html", "text/plain"}
    text = bundle["text/html"]
    assert "a &lt; b &amp; c" in text
    assert "say &quot;&lt;/script&gt;&quot; Now: " in text
    assert '<option value="0">&lt;b&gt;</option>' in text
    assert text.count("</script>") == 2
    assert data_of(text)["models"] == ['</script>"&']
    assert "\n" not in bundle["text/plain"]


def test_models_have_the_colours_of_the_book_and_dashes_of_their_own():
    found = re.findall(r"\.m(\d) \{ --full: (#\w+); --dash: ([\d ]+); \}", beside("trajectories.css"))
    assert [colour for _, colour, _ in found] == [rank.colour for rank in SERIES]
    assert len({dash for *_, dash in found}) == len(SERIES)
    for _, colour, _ in found:
        assert (luminance("#f8fafc") + 0.05) / (luminance(colour) + 0.05) >= 4.5


def wrong(**more):
    return {"a": system() | more}


def without(name):
    return {"a": {key: value for key, value in system().items() if key != name}}


HOLE = system()["truth"].copy()
HOLE[1, 2, 0] = np.nan


@pytest.mark.parametrize(
    ("scenes", "more", "message"),
    [
        (None, {"title": " "}, "title must be a text"),
        (None, {"alt": ""}, "alt must be a text"),
        (None, {"up": "x"}, "up must be 'z' or 'y', got 'x'"),
        (None, {"view": 3}, "view must be two angles in degrees, .*got 3"),
        (None, {"view": (0, 91)}, r"view must be .*from -90 to 90 degrees, got \(0, 91\)"),
        (None, {"group_names": {7: "a"}}, r"group_names must be of groups that there are \(\[-1, 1\]\), got 7"),
        (None, {"edges": [[0, 5]]}, "edges of scene 'first system' must join particles 0 to 4, got 5: count"),
        (None, {"edges": [[0, -1]]}, "must join particles 0 to 4, got -1"),
        (None, {"edges": [0, 1]}, r"edges of .* must be integers of shape \(M, 2\), got int64 of shape \(2,\)"),
        (None, {"edges": [[0.0, 1.0]]}, r"edges of .* must be integers .*got float64"),
        ({}, {}, "scenes must be a dict of 1 to 24 scenes by name, got 0"),
        ([system()], {}, "scenes must be a dict .*got list"),
        ({"a": 3}, {}, "scene 'a' must be a dict or a dataclass, got int"),
        ({"": system()}, {}, "the name of a scene must be a text"),
        (without("truth"), {}, r"scene 'a' must have truth: give it as an array \(P, N, 3\)"),
        (without("times"), {}, "scene 'a' must have times"),
        (wrong(start=np.zeros((5, 2))), {}, r"start of scene 'a' must have shape \(N, 3\), got \(5, 2\)"),
        (wrong(start="here"), {}, "start of scene 'a' must be an array of numbers, got str"),
        (wrong(start=np.zeros((4, 3))), {}, r"truth of scene 'a' must have .*\(5, 4, 3\), .*got \(5, 5, 3\)"),
        (wrong(truth=HOLE), {}, r"truth of scene 'a' must be finite .*got nan at \[1, 2, 0\]"),
        (wrong(predictions={}), {}, "predictions of scene 'a' must be a dict of 1 to 6 arrays by name, got 0"),
        (wrong(predictions={"m": HOLE}), {}, "prediction 'm' of scene 'a' must be finite"),
        (
            wrong(predictions={"m": np.zeros((4, 5, 3))}),
            {},
            r"prediction 'm' of scene 'a' must have .*\(5, 5, 3\), as times and start say, got \(4, 5, 3\)",
        ),
        (wrong(times=[0.2, 0.6, 0.4, 0.8, 1]), {}, "times of scene 'a' must rise .*0.4.*divide by the whole"),
        (wrong(times=[0, 0.2, 0.4, 0.8, 1]), {}, "times of scene 'a' must rise from more than 0 to 1"),
        (wrong(times=[1, 2, 3, 4, 5]), {}, "times of scene 'a' must rise from more than 0 to 1"),
        (wrong(times=np.ones((5, 1))), {}, r"times of scene 'a' must have shape \(P,\) .*got \(5, 1\)"),
        (wrong(groups=[1, 2]), {}, r"groups of scene 'a' must have shape \(5,\), one for each particle, got \(2,\)"),
        (wrong(groups=[0.5] * 5), {}, "groups of scene 'a' must be integers, got"),
        (wrong(groups=range(5)), {}, r"groups must be at most 4 different ones, got \[0, 1, 2, 3, 4\]: merge"),
        (
            {"a": system(), "b": system(models={"EGNO": 1})},
            {},
            "scene 'b' predicts by EGNO but scene 'a' by EGNO, EGNN-R, EGNN-S: give all scenes the same",
        ),
        ({"a": system(count=800)}, {}, "at most 40000 numbers for a page, got 50400: show fewer scenes"),
    ],
)  # fmt: skip
def test_refuses_what_cannot_be_drawn(scenes, more, message):
    with pytest.raises(ValueError, match=message):
        shown(scenes, **more)


def picture(browser):
    return browser.one(".lt-stage svg", ".innerHTML").replace("></path>", "/>")


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    narrow = shown(BODY, edges=BONES, up="y").html
    browser = Browser(
        tmp_path_factory.mktemp("browser"),
        f'{shown().html}<div id="phone" style="width: 358px">{narrow}</div>',  # as on a phone
    )
    yield browser
    browser.close()


@pytest.fixture
def browser(opened):
    yield opened.fresh()
    assert opened.value("faults") == []


def assert_alike(drawn, expected):
    """Two drawings are the same but for the last digit of their numbers."""
    assert re.sub(r"-?[\d.]+", "0", drawn) == re.sub(r"-?[\d.]+", "0", expected)
    np.testing.assert_allclose(numbers(drawn), numbers(expected), atol=0.11)


def inside(html):
    return re.search(r'<div class="lt-stage"><svg[^>]*>(.*?)</svg>', html).group(1)


@needs_browser
def test_the_script_draws_what_python_draws(browser):
    assert_alike(picture(browser), inside(shown().html))
    phone = browser.value("document.querySelector('#phone .lt-stage svg').innerHTML")
    assert_alike(phone.replace("></path>", "/>"), inside(shown(BODY, edges=BONES, up="y").html))
    for name in ("lw-choices", "lw-controls", "lt-options", "lt-grip", "lw-play"):
        assert browser.one(f".{name}", ".hidden") is False
    wide = "[...document.querySelectorAll('.loupe-trajectories, .loupe-trajectories *')]"
    assert (
        browser.value(f"{wide}.filter((e) => e.clientWidth && e.scrollWidth > e.clientWidth + 1).length") == 0
    )
    assert browser.value("document.querySelector('#phone .loupe-trajectories').offsetWidth") == 358


@needs_browser
def test_the_slider_moves_time(browser):
    scene = SCENES["first system"]
    before = picture(browser)
    browser.slide(2)
    assert browser.text(".lw-line") == "Slice 2 of 5 · time 0.40 of the window"
    assert value_of(browser.text(".m1 .lt-now")) == pytest.approx(error(scene, "EGNN-R", 2), rel=0.006)
    assert "least" in browser.one(".m0 .lt-now", ".className")
    drawn = picture(browser)
    true, centre, radius = frame_of(scene)
    for layer, places in (("true", true), ("m2", [scene["start"], *scene["predictions"]["EGNN-S"]])):
        trails = [corners(path) for path in paths(drawn, layer, "t")]
        expected = seen(np.asarray(places)[:3], radius, centre)
        assert [len(trail) for trail in trails] == [3] * 5
        ends = sorted(trail[-1].tolist() for trail in trails)
        np.testing.assert_allclose(ends, sorted(expected[2].tolist()), atol=0.15)
    spoken = browser.one(".lw-slider", ".getAttribute('aria-valuetext')")
    assert spoken.startswith("Slice 2 of 5 · time 0.40 of the window; mean squared error: EGNO ")
    assert browser.one(".lt-stage svg", ".getAttribute('aria-label')") == f"{WORDS['alt']} Now: {spoken}"
    browser.slide(0)
    assert browser.text(".lw-line") == "Slice 0 of 5 · time 0 of the window"
    assert browser.text(".m1 .lt-now") == "0"
    assert "least" not in browser.one(".m0 .lt-now", ".className")
    for _ in range(5):
        browser.one(".lw-next", ".click()")
    assert picture(browser) == before
    browser.one(".lw-next", ".click()")
    assert browser.one(".lw-slider", ".value") == "0"


@needs_browser
def test_another_scene_can_be_chosen(browser):
    browser.slide(4)
    browser.one(".lt-scene", ".value = 2")
    browser.one(".lt-scene", ".dispatchEvent(new Event('change'))")
    assert browser.text(".lw-line") == "Slice 3 of 3 · time 1.00 of the window", "it has fewer slices"
    assert browser.one(".lw-slider", ".max") == "3"
    assert browser.text(".m2 .lt-all") == data_of(shown().html)["scenes"][2]["all"][2]
    assert_alike(picture(browser), inside(shown({"third": SCENES["third"]}).html))


@needs_browser
def test_ticks_choose_what_is_drawn(browser):
    tick = '[type="checkbox"]'
    browser.one(f".m1 {tick}", ".click()")
    drawn = picture(browser)
    assert [bool(paths(drawn, f"m{k}", "t")) for k in range(3)] == [True, False, True]
    assert "EGNN-R" not in browser.one(".lw-slider", ".getAttribute('aria-valuetext')")
    assert browser.text(".m1 .lt-now") != ""
    assert 'class="x"' not in drawn
    browser.one(".lt-errors", ".click()")
    misses = re.findall(r'<g class="(m\d)"><path class="x" d="([^"]*)"', picture(browser))
    assert [kind for kind, _ in misses] == ["m2", "m0"], "the first lies on top"
    scene = SCENES["first system"]
    _, centre, radius = frame_of(scene)
    ends = corners(misses[1][1]).reshape(5, 2, 2)
    np.testing.assert_allclose(ends[:, 0], seen(scene["truth"][-1], radius, centre), atol=0.15)
    np.testing.assert_allclose(ends[:, 1], seen(scene["predictions"]["EGNO"][-1], radius, centre), atol=0.15)
    browser.one(".lt-trails", ".click()")
    assert not paths(picture(browser), "true", "t")
    assert len(paths(picture(browser), "true", "p")) == 5


@needs_browser
def test_keys_turn_the_view(browser):
    browser.one(".lt-grip", ".focus()")
    for _ in range(3):
        browser.press("ArrowRight", 39)
    browser.press("ArrowDown", 40)
    browser.press("ArrowLeft", 37, modifiers=8)
    assert browser.one(".lt-grip", ".getAttribute('aria-valuetext')") == "turned 16°, seen from 23° above"
    assert_alike(picture(browser), inside(shown(view=(16, 23)).html))
    for _ in range(30):
        browser.press("ArrowUp", 38)
    assert browser.one(".lt-grip", ".getAttribute('aria-valuetext')") == "turned 16°, seen from 90° below"
    for key, kept in (("ArrowDown", True), ("-", True), ("Tab", False), ("PageDown", False)):
        event = f"new KeyboardEvent('keydown', {{key: '{key}', cancelable: true}})"
        assert browser.one(".lt-grip", f".dispatchEvent({event})") is not kept, (
            "arrows must not scroll the page"
        )
    browser.one(".lt-reset", ".click()")
    assert_alike(picture(browser), inside(shown().html))


@needs_browser
def test_the_view_can_be_dragged(browser):
    browser.drag(".lt-stage", 40, 20)
    assert browser.one(".lt-grip", ".getAttribute('aria-valuetext')") == "turned 10°, seen from 28° above"
    assert_alike(picture(browser), inside(shown(view=(10, 28)).html))
    assert browser.value("getComputedStyle(document.querySelector('.lt-grip')).touchAction") == "pan-y"


@needs_browser
def test_a_finger_turns_the_view_sideways(browser):
    x, y = (browser.one(".lt-stage", f".getBoundingClientRect().{axis}") for axis in "xy")
    for kind, across in (("touchStart", 0), ("touchMove", 30), ("touchMove", 60), ("touchEnd", None)):
        points = [] if across is None else [{"x": x + 100 + across, "y": y + 100}]
        browser.ask("Input.dispatchTouchEvent", type=kind, touchPoints=points)
    turned = browser.one(".lt-grip", ".getAttribute('aria-valuetext')")
    assert re.fullmatch(r"turned (359|\d)°, seen from 18° above", turned), turned


@needs_browser
def test_it_comes_closer(browser):
    before = corners(paths(picture(browser), "true", "t")[0])
    browser.one(".lt-closer", ".click()")
    closer = corners(paths(picture(browser), "true", "t")[0])
    np.testing.assert_allclose(closer - [240, 200], 1.25 * (before - [240, 200]), atol=0.15)
    browser.one(".lt-grip", ".focus()")
    browser.press("-", 189, "-")
    np.testing.assert_allclose(corners(paths(picture(browser), "true", "t")[0]), before, atol=0.11)


@needs_browser
def test_it_plays_when_asked_and_ends_at_the_last_slice(browser):
    assert browser.text(".lw-play") == "Play", "no motion until asked"
    browser.one(".lw-play", ".click()")
    assert browser.text(".lw-play") == "Pause"
    assert browser.one(".lw-line", ".getAttribute('aria-live')") == "off"
    assert browser.one(".lw-slider", ".value") == "0"
    browser.wait("document.querySelector('.lw-slider').value === '2'")
    browser.one(".lw-play", ".click()")
    assert browser.text(".lw-play") == "Play"
    assert browser.one(".lw-line", ".getAttribute('aria-live')") == "polite"
    assert browser.one(".lw-slider", ".value") == "2"
    browser.one(".lw-play", ".click()")
    browser.wait("document.querySelector('.lw-play').textContent === 'Play'")
    assert browser.one(".lw-slider", ".value") == "5"


@needs_browser
def test_everything_can_be_reached_with_the_keyboard(browser):
    reached = []
    for _ in range(12):
        browser.press("Tab", 9)
        reached.append(browser.value("document.activeElement.className || document.activeElement.type"))
        assert browser.value("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    assert reached == [
        "lt-scene", "lt-grip", "lw-play", "lw-next", "lw-slider", *["checkbox"] * 3, "lt-trails", "lt-errors",
        "lt-closer", "lt-farther",
    ]  # fmt: skip
    browser.one(".lw-slider", ".focus()")
    browser.press("ArrowLeft", 37)
    assert browser.text(".lw-line").startswith("Slice 4 of 5")
    browser.press("Home", 36)
    assert browser.text(".lw-line").startswith("Slice 0 of 5")
    browser.one(".m0 input", ".focus()")
    browser.press(" ", 32, " ")
    assert browser.one(".m0 input", ".checked") is False
    assert not paths(picture(browser), "m0", "t")

"""The Poincaré disk as a piece of HTML, and what its script computes in a browser without a network."""

import re

import numpy as np
import pytest
from widget_examples import POINTS
from widget_pages import needs_browser, probed

from loupe.plotting.widgets import poincare_disk

WORDS = {"title": "Where is the middle?", "alt": "Three points in a disk."}
NAMES = ["Fréchet mean", "tangent mean", "Einstein midpoint", "Euclidean mean"]
DEGENERATE = {
    "two coincide": [[0.6, 0.3], [0.6, 0.3], [-0.2, 0.7]],
    "all coincide": [[-0.5, 0.4], [-0.5, 0.4], [-0.5, 0.4]],
    "all at the centre": [[0, 0], [0, 0], [0, 0]],
    "on a line through the centre": [[0.84, 0.42], [0.2, 0.1], [-0.6, -0.3]],
    "opposite, and the centre": [[0.7, -0.4], [-0.7, 0.4], [0, 0]],
    "far out": [[0.98, 0], [-0.98, 1e-9], [0, 0.98]],
}


def averages(points):
    """The four averages on the hyperboloid; the Fréchet mean by descent along its gradient."""
    points = np.asarray(points, dtype=float)
    sign = np.array([-1.0, 1.0, 1.0])
    square = np.sum(points**2, axis=1, keepdims=True)
    lifted = np.hstack([1 + square, 2 * points]) / (1 - square)
    centroid = lifted.sum(axis=0)
    centroid /= np.sqrt(-centroid @ (sign * centroid))
    mean = centroid
    for _ in range(500):
        product = np.maximum(1, -lifted @ (sign * mean))
        distance = np.arccosh(product)
        factor = np.divide(distance, np.sinh(distance), out=np.ones(3), where=distance > 1e-7)
        step = 0.4 * np.mean(factor[:, None] * (lifted - product[:, None] * mean), axis=0)
        length = np.sqrt(max(0.0, step @ (sign * step)))
        if length < 1e-14:
            break
        mean = np.cosh(length) * mean + np.sinh(length) / length * step
        mean /= np.sqrt(-mean @ (sign * mean))
    norm = np.sqrt(square)
    tangent = np.mean(
        np.divide(np.arctanh(norm), norm, out=np.ones_like(norm), where=norm > 0) * points, axis=0
    )
    size = np.linalg.norm(tangent)
    tangent = tangent * (np.tanh(size) / size if size > 0 else 1)
    places = (mean[1:] / (1 + mean[0]), tangent, centroid[1:] / (1 + centroid[0]), points.mean(axis=0))
    return dict(zip(NAMES, places, strict=True))


def spread(place, points):
    """Sum of squared distances, by the formula with arcosh."""
    points, place = np.asarray(points, dtype=float), np.asarray(place)
    room = (1 - place @ place) * (1 - np.sum(points**2, axis=1))
    return np.sum(np.arccosh(1 + 2 * np.sum((points - place) ** 2, axis=1) / room) ** 2)


def shown(points=POINTS, **words):
    return poincare_disk(points, averages(points), **(WORDS | words))


def drawing(text):
    """All that the script may change: positions, arcs, letters, table."""
    return [
        re.findall(r'transform="([^"]*)"', text),
        re.findall(r'class="lp-arcs">(.*?)</g>', text),
        re.findall(r'<text x="([\d.-]+)" y="([\d.-]+)"[^>]*>([ABC])', text),
        re.findall(r"<td>([\d.]+)</td>", text),
        re.findall(r'<tr data-name="([^"]*)" class="lw-least"', text),
    ]


def test_the_order_of_the_averages_does_not_matter():
    given = averages(POINTS)
    backwards = {name: given[name].tolist() for name in reversed(given)}
    assert poincare_disk(np.array(POINTS), backwards, **WORDS).html == shown().html


def test_the_still_has_everything():
    text = shown().html
    still = text.split("<script")[0]
    assert 'class="lw-controls" hidden' in still, "no dead controls where no script runs"
    assert "tabindex" not in still
    assert re.findall(r'<th scope="row">.*?</svg>([^<]*)', still) == NAMES
    moves, arcs, letters, numbers, least = drawing(still)
    assert len(moves) == 7, "four averages and three points"
    assert arcs[0].count("<path") == 3
    assert [letter for *_, letter in letters] == ["A", "B", "C"]
    places = averages(POINTS)
    assert numbers == [f"{spread(places[name], POINTS):.3f}" for name in NAMES]
    assert least == ["Fréchet mean"]


def test_arcs_meet_the_boundary_at_right_angles():
    centre, scale = 180, 156
    ends = re.findall(r'd="M([\d.]+) ([\d.]+)A([\d.]+) \S+ 0 0 ([01]) ([\d.]+) ([\d.]+)"', shown().html)
    assert len(ends) == 3
    for end in ends:
        x, y, radius, sweep, u, v = map(float, end)
        start, stop = (np.array([x, y]) - centre) / scale, (np.array([u, v]) - centre) / scale
        chord, middle = stop - start, (start + stop) / 2
        # Of the two circles of this radius through both ends, the one that the flags choose.
        height = np.sqrt((radius / scale) ** 2 - chord @ chord / 4)
        normal = np.array([-chord[1], chord[0]]) / np.linalg.norm(chord)
        about = middle + (height if sweep else -height) * normal
        np.testing.assert_allclose(about @ about, 1 + (radius / scale) ** 2, rtol=2e-3)


@pytest.mark.parametrize("points", DEGENERATE.values(), ids=DEGENERATE)
def test_degenerate_points_have_a_still(points):
    still = shown(points).html.split("<script")[0]
    assert not re.search(r"\b(nan|inf)\b", still)
    assert len(set(drawing(still)[2])) == 3


def test_geodesics_on_a_line_through_the_centre_are_straight():
    arcs = drawing(shown(DEGENERATE["on a line through the centre"]).html)[1][0]
    assert "A" not in arcs
    assert arcs.count("L") == 3


def test_some_averages_are_enough():
    text = poincare_disk(POINTS, {"Euclidean mean": averages(POINTS)["Euclidean mean"]}, **WORDS).html
    moves, arcs, _, numbers, _ = drawing(text.split("<script")[0])
    assert (len(moves), arcs, len(numbers)) == (4, [""], 1)


@pytest.mark.parametrize(
    ("points", "given", "words", "message"),
    [
        (POINTS, None, {"title": " "}, "title must be a text"),
        (POINTS, None, {"alt": ""}, "alt must be a text"),
        (POINTS[:2], None, {}, r"points must have shape \(3, 2\), got \(2, 2\)"),
        ([[np.nan, 0], *POINTS[:2]], None, {}, "points must be finite .*nan"),
        ([[0.6, 0.8], *POINTS[:2]], None, {}, r"points must lie inside the unit disk, got .*0\.6, 0\.8"),
        (POINTS, {"median": [0, 0]}, {}, "unknown average 'median'.*Fréchet mean, tangent mean, Einstein"),
        (POINTS, {}, {}, "at least one of Fréchet mean"),
        (POINTS, {"tangent mean": [0, 0, 0]}, {}, r"the tangent mean must have shape \(2,\), got \(3,\)"),
        (POINTS, {"tangent mean": [np.inf, 0]}, {}, "the tangent mean must be finite .*inf"),
        (POINTS, {"tangent mean": [2, 0]}, {}, r"the tangent mean must lie inside the unit disk, got \[2\.0"),
    ],
)
def test_refuses_what_cannot_be_drawn(points, given, words, message):
    with pytest.raises(ValueError, match=message):
        poincare_disk(points, averages(POINTS) if given is None else given, **(WORDS | words))


PROBE = """
const read = (root) => JSON.parse(root.dataset.averages);
const roots = [...document.querySelectorAll(".loupe-poincare")], seen = {}, first = roots[0];
seen.start = roots.map(read);
seen.drawn = roots.map((root) => root.outerHTML);
const handles = [...first.querySelectorAll(".lp-point")], reset = first.querySelector(".lp-reset");
const press = (k, key, more) => {
  const event = new KeyboardEvent("keydown", {key, bubbles: true, cancelable: true, ...more});
  handles[k].focus();
  return document.activeElement === handles[k] && !handles[k].dispatchEvent(event);
};
seen.held = [press(1, "ArrowRight"), press(1, "ArrowUp"), press(1, "ArrowUp", {shiftKey: true})];
seen.passed = press(1, "Tab");
seen.keys = read(first);
for (let k = 0; k < 60; k += 1) { press(1, "ArrowUp"); }
seen.rim = read(first);
seen.label = handles[1].getAttribute("aria-label") + ": " + handles[1].getAttribute("aria-valuetext");
reset.click();
seen.reset = read(first);
Element.prototype.setPointerCapture = () => {}; // there is no real pointer to capture
const box = first.querySelector(".lp-dot").getBoundingClientRect();
const point = (type, dx, dy) => handles[0].dispatchEvent(new PointerEvent(type, {bubbles: true, cancelable: true,
  pointerId: 7, clientX: box.x + box.width / 2 + dx, clientY: box.y + box.height / 2 + dy}));
point("pointerdown", 3, 3); point("pointermove", -97, 23); point("pointerup", -97, 23); point("pointermove", 0, 0);
seen.dragged = read(first);
seen.unit = first.querySelector(".lp-boundary").getBoundingClientRect().width / 2;
report(seen);
"""


@pytest.fixture(scope="module")
def browsed(tmp_path_factory):
    """What the probe saw in headless Chromium, and the lines of its console."""
    pictures = [shown(points).html for points in (POINTS, *DEGENERATE.values())]
    return *probed(tmp_path_factory.mktemp("browser"), "".join(pictures), PROBE), pictures


@needs_browser
def test_the_script_finds_the_averages_that_were_given(browsed):
    seen, console, _ = browsed
    assert console == []
    for start, points in zip(seen["start"], (POINTS, *DEGENERATE.values()), strict=True):
        np.testing.assert_array_equal(start["points"], points)
        places = averages(points)
        assert list(start["averages"]) == NAMES
        for name in NAMES:
            np.testing.assert_allclose(start["averages"][name], places[name], rtol=0, atol=1e-9)
            np.testing.assert_allclose(
                start["sums"][name], spread(places[name], points), rtol=1e-9, atol=1e-9
            )


@needs_browser
def test_the_script_starts_from_the_still(browsed):
    seen, _, pictures = browsed
    assert drawing(seen["drawn"][0]) == [
        part if k != 1 else [arcs.replace("/>", "></path>") for arcs in part]
        for k, part in enumerate(drawing(pictures[0]))
    ]
    assert not any("NaN" in text.split("<script")[0] for text in seen["drawn"])
    assert "hidden" not in re.search(r'<div class="lw-controls"[^>]*>', seen["drawn"][0]).group()


@needs_browser
def test_keys_move_a_point_and_the_averages_follow(browsed):
    seen, _, _ = browsed
    assert seen["held"] == [True, True, True], "the page does not scroll"
    assert not seen["passed"], "Tab leaves the point"
    moved = np.add(POINTS, [[0, 0], [0.02, 0.025], [0, 0]])
    for state, points in ((seen["keys"], moved), (seen["rim"], seen["rim"]["points"])):
        np.testing.assert_allclose(state["points"], points, rtol=0, atol=1e-12)
        for name, place in averages(points).items():
            np.testing.assert_allclose(state["averages"][name], place, rtol=0, atol=1e-9)
            assert (
                np.linalg.norm(np.subtract(state["averages"][name], seen["start"][0]["averages"][name]))
                > 1e-3
            )
        assert min(state["sums"], key=state["sums"].get) == "Fréchet mean"
    assert np.hypot(*seen["rim"]["points"][1]) == pytest.approx(0.98)
    x, y = seen["rim"]["points"][1]
    assert seen["label"] == f"Point B, moved by the four arrow keys: x {x:.3f}, y {y:.3f}"


@needs_browser
def test_a_pointer_drags_and_reset_brings_back(browsed):
    seen, _, _ = browsed
    assert seen["reset"] == seen["start"][0]
    away = np.subtract(seen["dragged"]["points"], POINTS) * seen["unit"]
    # Lengths on the screen are whole numbers of some small unit, and the boundary's box includes its stroke.
    np.testing.assert_allclose(away, [[-100, -20], [0, 0], [0, 0]], atol=2)

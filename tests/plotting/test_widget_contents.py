"""What is drawn in the frames of texts on their way, folded bells, filtrations and trajectories, and what is refused."""

import re
from dataclasses import dataclass
from statistics import NormalDist

import matplotlib as mpl
import numpy as np
import pytest
from scipy.cluster.hierarchy import linkage
from widget_examples import MASK, MODELS, SIGMAS, STARTS, X, cloud, masks, reflected, system, times, uniform
from widget_pages import contrast, strips_of

from loupe.plotting import DARK, SERIES, filtration_slider, folding_kernel, reverse_path, trajectory_view
from loupe.plotting.widgets.fragment import beside

WORDS = {"title": "What is seen?", "alt": "A picture."}
BAD_WORDS = [({"title": " "}, "title must be a text"), ({"alt": ""}, "alt must be a text")]


def numbers(text):
    return np.array(re.findall(r"-?\d+\.?\d*", text), dtype=float)


def test_colours_can_be_read():
    """Letters on viridis; and the house's colors on the grounds of both schemes, where they are words and lines."""
    scale = re.findall(r"\.v(\d+) \{ background: (#\w+); color: (#\w+); \}", beside("reverse_path.css"))
    assert [ground for _, ground, _ in scale] == [
        mpl.colors.to_hex(mpl.colormaps["viridis"](k / 15)) for k in range(16)
    ]
    assert min(contrast(ground, ink) for _, ground, ink in scale) >= 4.5
    pairs = {
        name: pair
        for name, *pair in re.findall(r"--lw-(\w+): light-dark\((#\w+), (#\w+)\)", beside("shared.css"))
    }
    ranks = [pairs[name] for name in ("accent", "second", "third", "fourth", "fifth")]
    assert ranks == [[rank.color, DARK[rank.color]] for rank in SERIES[:5]]
    for side, ground in enumerate(pairs["ground"]):
        read = [pairs[name][side] for name in ("ink", "quiet", "truth", "focus")] + [
            rank[side] for rank in ranks
        ]
        assert min(contrast(color, ground) for color in read) >= 4.5
    for sheet, kinds in (("folding.css", "f"), ("trajectories.css", "m")):
        fulls = re.findall(rf"\.{kinds}\d \{{.*--full: var\(--lw-(\w+)\);", beside(sheet))
        assert len(set(fulls)) == len(fulls) >= 4
    dashes = re.findall(r"\.m\d \{.*--dash: ([\d ]+);", beside("trajectories.css"))
    assert len(set(dashes)) == len(SERIES)


# --- texts on their way -----------------------------------------------------------------------------------------

LETTERS = " abcdefghijklmnopqrstuvwxyz."


def fixed(states):
    """When each character is as at the end for good, one by one."""
    found = []
    for place in np.asarray(states).T:
        k = len(place)
        while k > 0 and place[k - 1] == place[-1]:
            k -= 1
        found.append(k)
    return found


def expected(states, at, before=None):
    """Class and letter of each block of a state; what it changed since the state before has a ring."""
    blocks = []
    for i, (symbol, when) in enumerate(zip(states[at], fixed(states), strict=True)):
        kind = f"v{int(np.floor(15 * when / (len(states) - 1) + 0.5))}" if when <= at else "o"
        kind += {MASK: " m", 0: " s"}.get(symbol, "")
        ringed = before is not None and at < len(states) - 1 and symbol != states[before][i]
        blocks.append((kind + " n" * bool(ringed), LETTERS[symbol].replace(".", "")))
    return blocks


def blocks(html):
    return re.findall(r'<b class="([^"]*)">([^<]*)</b>', html)


@pytest.mark.parametrize(("make", "noun"), [(masks, "masked"), (uniform, "still to change")])
def test_each_state_of_a_text_is_a_frame_and_three_stand_above(make, noun):
    states = make()[0]
    ((above, *frames),) = strips_of(reverse_path({"graph": states}, times(), **WORDS).html)
    left = [sum(when > at for when in fixed(states)) for at in range(65)]
    clock = [*times()[1:], 0]
    for at in (0, 1, 20, 63, 64):
        html, line, said = frames[at]
        assert blocks(html) == expected(states, at, max(at - 1, 0))
        assert line == f"Step {at + 1} of 65 · time {clock[at]:.2f} · {left[at]} {noun}"
        assert (
            said == f"A picture. The text now: {re.sub('[.]+', '…', ''.join(LETTERS[k] for k in states[at]))}"
        )
    rows = re.findall(r'<p class="lr-step">([^<]*)</p><div [^>]*>(.*?)</div>', above)
    assert [words for words, _ in rows] == [frames[at][1] for at in (16, 32, 48)]
    assert [blocks(row) for _, row in rows] == [expected(states, at) for at in (16, 32, 48)]


def test_the_first_state_may_be_the_noise():
    states = np.concatenate([np.full((1, 1, 64), MASK, np.uint8), masks(1)], axis=1)
    ((_, *frames),) = strips_of(reverse_path({"masks": states}, times(), **WORDS).html)
    assert frames[0][1] == "Step 0 of 65 · time 1.00 · 64 masked"
    assert frames[-1][1] == "Step 65 of 65 · time 0.00 · 0 masked"


def test_very_many_states_are_thinned_and_colours_are_not():
    paths = {"masks": masks(2, 513, 256), "uniform tokens": uniform(2, 513, 256)}
    text = reverse_path(paths, times(513), **WORDS).html
    strips = strips_of(text)
    assert len(text) < 400_000
    assert {len(strip) for strip in strips} == {2 + 512 // 4}
    assert blocks(strips[3][1 + 3][0]) == expected(paths["uniform tokens"][1], 3 * 4, 2 * 4)


WRONG = uniform(1, 4, 8)[0].astype(int)


@pytest.mark.parametrize(
    ("paths", "when", "words", "message"),
    [
        *(({"a": WRONG}, times(4), *bad) for bad in BAD_WORDS),
        ({}, times(4), {}, "at least one text"),
        ({" ": WRONG}, times(4), {}, "name must be a text"),
        ({"a": WRONG[0]}, times(4), {}, r"a must have shape \(states, L\) or .*got \(8,\)"),
        ({"a": WRONG[:1]}, times(1), {}, r"at least 2 states .*got \(1, 1, 8\)"),
        ({"a": np.zeros((2, 1025), int)}, times(2), {}, r"L from 1 to 1024, got \(1, 2, 1025\)"),
        ({"a": WRONG / 2}, times(4), {}, "a must hold integers from 0 to 27"),
        ({"a": np.full((4, 8), 27)}, times(4), {}, "the last state of a must have no masks"),
        ({"a": WRONG, "b": WRONG[1:]}, times(4), {}, r"the same shape, got \(1, 3, 8\), \(1, 4, 8\)"),
        ({"a": WRONG}, times(5), {}, r"4 states need 4 times, or one less, got \(5,\)"),
        ({"a": WRONG}, [1, np.nan, 0.5, 0.1], {}, "times must fall from at most 1, .*nan"),
        ({"a": WRONG}, [1, 0.5, 0.25, 0], {}, "times must fall from at most 1"),
    ],
)
def test_texts_that_cannot_be_drawn_are_refused(paths, when, words, message):
    with pytest.raises(ValueError, match=message):
        reverse_path(paths, when, **(WORDS | words))


# --- the folded bell --------------------------------------------------------------------------------------------

BASE, TOP, STRIP, LEFT, RIGHT = 252, 122, 84, 22, 468  # of the large frame


def corners(path):
    """Places (n, 2) of a line in steps."""
    start, steps = re.match(r"M(.*?)l([^VZ]*)", path).groups()
    return np.cumsum([numbers(start), *numbers(steps).reshape(-1, 2)], axis=0)


def percent(part):
    return f"{100 * part:.1f}" if 100 * part < 9.95 else f"{100 * part:.0f}"


def paths(drawing, name):
    """Kind and path of the pieces of the strip (lk-bell) or of the layers (lk-pile)."""
    return re.findall(
        r'<path class="f(\d)" d="([^"]*)"', re.search(rf'<g class="{name}">(.*?)</g>', drawing)[1]
    )


@pytest.mark.parametrize(("start", "i"), [(0, 5), (0, 27), (1, 20), (2, 39)])
def test_the_layers_of_a_bell_add_up_to_the_density_and_have_the_mass_of_their_pieces(start, i):
    strips = strips_of(folding_kernel(X, SIGMAS, STARTS, reflected(), **WORDS).html)
    drawing, line, _ = strips[start][1 + i]
    bell, law = NormalDist(STARTS[start], SIGMAS[i]), reflected()[start, i]
    part, far = percent(1 - bell.cdf(1) + bell.cdf(0)), percent(np.abs(law - 1).max())
    assert line.replace("\u00a0", " ") == (
        f"σ = {SIGMAS[i]:.3f} · {part} % of the mass has been folded · furthest from the flat distribution by {far} %"
    )
    unit = BASE - float(re.search(r'class="lk-flat" d="M\d+ ([\d.]+)H', drawing)[1])
    curve = corners(re.search(r'class="lk-sum" d="([^"]*)"', drawing)[1])
    np.testing.assert_allclose((curve[:, 0] - LEFT) / (RIGHT - LEFT), X[::2], atol=2e-4)
    digit = 0.101 / unit  # heights and the unit are written in tenths
    np.testing.assert_allclose((BASE - curve[:, 1]) / unit, law[::2], atol=digit, rtol=digit)
    pieces, pile, before = paths(drawing, "lk-bell"), paths(drawing, "lk-pile")[::-1], np.zeros(51)
    assert [int(kind) for kind, _ in pile] == [0, 1, 1, 2, 2, 3]
    for k, (_, piece), (_, layer) in zip((0, -1, 1, -2, 2), pieces, pile, strict=False):
        mass = bell.cdf(k + 1) - bell.cdf(k)
        if not layer:
            assert mass < 0.01, "what could not be seen"
            continue
        upper = (BASE - corners(layer)[:, 1]) / unit
        assert np.trapezoid(upper - before, X[::2]) == pytest.approx(mass, abs=0.006)
        before = upper
        if not piece:
            continue  # in the strip it's too thin to be seen
        u = (corners(piece)[:, 0] - LEFT) / (RIGHT - LEFT) * 5 - 2
        assert {round(u.min(), 1), round(u.max(), 1)} == {k, k + 1}
        assert (u[0] > u[-1]) == (k % 2 == 1), "what is folded an odd number of times lies mirrored"
    dots = [
        np.array(
            [
                float(x)
                for x in re.findall(r'cx="([^"]*)"', re.search(rf'<g class="{name}">(.*?)</g>', drawing)[1])
            ]
        )
        for name in ("lk-far", "lk-dots")
    ]
    u = STARTS[start] + SIGMAS[i] * np.array([NormalDist().inv_cdf((k + 0.5) / 40) for k in range(40)])
    v = np.minimum(np.abs(u) % 2, 2 - np.abs(u) % 2)
    np.testing.assert_allclose(dots[0], LEFT + (RIGHT - LEFT) / 5 * (u[(u >= -2) & (u <= 3)] + 2), atol=0.06)
    np.testing.assert_allclose(dots[1], LEFT + (RIGHT - LEFT) * v, atol=0.06)


def test_small_frames_are_three_even_where_the_noise_hardly_differs():
    sigmas = np.linspace(0.3, 0.302, 9)
    text = folding_kernel(X, sigmas, [0.0], reflected(X, sigmas, [0.0]), **WORDS).html
    steps = re.findall(r'<p class="lk-step"><span>σ\s=\s([\d.]+)</span>', text)
    assert steps == ["0.3000", "0.3010", "0.3020"], "as many decimals as tell them apart"
    assert '<text x="66.0" y="284.0">start<' in text, "clear of the 0"
    assert 'aria-pressed="true">' not in text, "one start leaves nothing to choose"


HALF, FLAT = [0.1, 0.2, 0.4], np.ones((3, 3, 101))


@pytest.mark.parametrize(
    ("x", "sigmas", "starts", "density", "words", "message"),
    [
        *((X, HALF, STARTS, reflected(X, HALF), *bad) for bad in BAD_WORDS),
        (X[:10], HALF, STARTS, FLAT, {}, r"x must have shape \(n,\) with n from 11 to 201, got \(10,\)"),
        (X[None], HALF, STARTS, FLAT, {}, r"x must have shape .*got \(1, 101\)"),
        (X[::-1], HALF, STARTS, FLAT, {}, "x must rise from 0 to 1"),
        (X * np.nan, HALF, STARTS, FLAT, {}, "x must be finite .*nan"),
        (X, HALF[:2], STARTS, FLAT, {}, r"sigmas must have shape \(m,\) with m from 3 to 200, got \(2,\)"),
        (X, HALF[::-1], STARTS, FLAT, {}, r"sigmas must rise, .*got \[0.4, 0.2, 0.1\]"),
        (X, [0.1, 0.2, 2.1], STARTS, FLAT, {}, "sigmas must rise, from more than 0 to at most 2"),
        (X, HALF, 0.5, FLAT, {}, r"starts must have shape \(s,\) with s from 1 to 5, got \(\)"),
        (X, HALF, [0.1, 0.5, 0.1], FLAT, {}, r"starts must be different places in \[0, 1\], got"),
        (X, HALF, [0.1, 0.5, 1.1], FLAT, {}, r"starts must be different places .*1.1"),
        (X, HALF, STARTS, FLAT[0], {}, r"density must have shape .*\(3, 3, 101\), got \(3, 101\)"),
        (X, np.linspace(0.1, 1, 200), STARTS, np.ones((3, 200, 101)), {}, "at most 40000 numbers .*got 60600"),
        (X, HALF, STARTS, FLAT, {}, "within 1 %: it is not for start 0.1 and sigma 0.1"),
        (X, HALF, STARTS, 1.02 * reflected(X, HALF), {}, "density must be the folded bell curve within 1 %"),
    ],
)  # fmt: skip
def test_bells_that_cannot_be_drawn_are_refused(x, sigmas, starts, density, words, message):
    with pytest.raises(ValueError, match=message):
        folding_kernel(x, sigmas, starts, density, **(WORDS | words))


# --- the filtration ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [1e-4, 1.0, 3e3])
def test_each_merge_is_a_frame(scale):
    points, edges, lengths = cloud(scale=scale)
    text = filtration_slider(points, edges[::-1], lengths[::-1], **WORDS).html
    assert text == filtration_slider(points, edges, lengths, **WORDS).html
    ((_, *frames),) = strips_of(text)
    heights = linkage(points, "single")[:, 2]
    assert len(frames) == 60
    for k, (html, line, _) in enumerate(frames):
        radius, count, total = re.fullmatch(
            r"r = ([\d.]+) · (\d+) components? · E₁ so far ([\d.]+)", line
        ).groups()
        assert int(count) == 60 - k
        assert float(radius) == pytest.approx([0, *heights][k], rel=0.05, abs=0.01 * heights[-1])
        assert float(total) == pytest.approx(heights[:k].sum(), rel=0.01, abs=0.01 * heights[-1])
        both = [
            "".join(re.findall(rf'class="{kind}" d="([^"]*)"', html))
            for kind in ("lf-in", "lf-new", "lf-open")
        ]
        assert [each.count("L") for each in both] == [max(k - 1, 0), min(k, 1), 0], "edges"
        assert [each.count("H") for each in both] == [max(k - 1, 0), min(k, 1), 60 - k], "bars"
        assert [each.count("v") for each in both] == [max(k - 1, 0), min(k, 1), 0], (
            "closed ones end in a stroke"
        )
    ticks = [float(tick) for tick in re.findall(r'<text x="[\d.]+" y="\d+">([\d.e+-]+)<', frames[0][0])]
    assert 4 <= len(ticks) <= 9
    assert (ticks[0], ticks[-1] <= 1.12 * heights[-1]) == (0, True)


POINTS, EDGES, LENGTHS = cloud(10)
TWICE = np.vstack([EDGES[:-1], EDGES[:1]])
APART = np.linalg.norm(POINTS[TWICE[:, 0]] - POINTS[TWICE[:, 1]], axis=1)


@pytest.mark.parametrize(
    ("points", "edges", "lengths", "words", "message"),
    [
        *((POINTS, EDGES, LENGTHS, *bad) for bad in BAD_WORDS),
        (np.c_[POINTS, POINTS], EDGES, LENGTHS, {}, "shape"),
        (POINTS * np.nan, EDGES, LENGTHS, {}, "finite"),
        (POINTS, EDGES[:-1], LENGTHS[:-1], {}, "9 edges"),
        (POINTS, EDGES + 1, LENGTHS, {}, "edges must name nodes from 0 to 9, got"),
        (POINTS, TWICE, APART, {}, "join all points"),
        (POINTS, EDGES, 2 * LENGTHS, {}, "Euclidean"),
        (0 * POINTS, EDGES, 0 * LENGTHS, {}, "not all zero"),
    ],
)
def test_what_is_no_spanning_tree_is_refused(points, edges, lengths, words, message):
    with pytest.raises(ValueError, match=message):
        filtration_slider(points, edges, lengths, **(WORDS | words))


# --- trajectories -----------------------------------------------------------------------------------------------

SCENES = {
    "first system": system(groups=[-1, 1, 1, -1, 1]),
    "second < system": system(1, groups=[1, 1, -1, -1, 1]),
    "third": system(2, count=4, times=[0.25, 0.5, 1]),
}
BODY = {"body": system(3, count=31, times=np.arange(1, 11) / 10)}
BONES = np.column_stack([np.arange(1, 31), np.arange(30)])


def view(scenes=None, **more):
    return trajectory_view(SCENES if scenes is None else scenes, **(WORDS | more))


def places(path):
    """Places in space that a path visits."""
    return np.array([spot.split("|") for spot in re.findall(r"-?\d+\|-?\d+\|-?\d+", path)], dtype=int)


def value_of(text):
    """A number as people write it."""
    digits, _, power = text.partition("·10")
    return float(f"{digits}e{power.translate(str.maketrans('⁻⁰¹²³⁴⁵⁶⁷⁸⁹', '-0123456789')) or 0}")


def drawn(html, layer, kind):
    group = re.search(rf'<g class="{layer}"><g class="lt-trails">.*?</g>(.*?)</g>', html)[0]
    return re.findall(rf'<path class="{kind}"[^>]*>', group)


@pytest.mark.parametrize(
    ("scenes", "up", "few"), [(SCENES, "z", True), (BODY, "z", False), (BODY, "y", False)]
)
def test_each_slice_shows_trails_marks_and_errors(scenes, up, few):
    text = view(scenes, up=up, edges=None if few else BONES).html
    for (name, scene), (above, *frames) in zip(scenes.items(), strips_of(text), strict=True):
        true = np.concatenate([scene["start"][None], scene["truth"]])
        centre = (true.min(axis=(0, 1)) + true.max(axis=(0, 1))) / 2
        far = max(np.linalg.norm(each - centre, axis=-1).max() for each in scene["predictions"].values())
        radius = np.linalg.norm(true - centre, axis=-1).max()
        radius = max(radius, min(far, 1.25 * radius))
        axes = [0, 1, 2] if up == "z" else [2, 0, 1]
        assert len(frames) == len(true), name
        for at in (1, len(true) - 1):
            html, line, _ = frames[at]
            assert line.startswith(
                f"Slice {at} of {len(true) - 1} · time {scene['times'][at - 1]:.2f} of the window"
            )
            for k, (model, each) in enumerate(scene["predictions"].items()):
                said = value_of(re.search(rf"{model} ([^,]+)", line)[1])
                assert said == pytest.approx(np.mean((each - scene["truth"])[at - 1] ** 2), rel=0.006)
                ways = np.concatenate([scene["start"][None], each])
                for layer, way in ((f"m{k}", ways), ("true", true)):
                    whole = 1000 * (way[: at + 1] - centre)[..., axes] / radius
                    (trails,) = drawn(html, layer, "t")
                    np.testing.assert_allclose(places(trails), whole.swapaxes(0, 1).reshape(-1, 3), atol=0.51)
                    marks = "".join(drawn(html, layer, "p"))
                    np.testing.assert_allclose(places(marks), whole[-1], atol=0.51)
                    bones = places("".join(drawn(html, layer, "e")))
                    assert few or np.abs(bones - whole[-1][BONES].reshape(-1, 3)).max() <= 0.51
            assert ('class="many"' in html) != few
            assert html.count('class="x"') == html.count(" hidden/>") == len(scene["predictions"])
        assert "mean squared error over all slices: EGNO " in above


def test_groups_have_shapes_and_names():
    text = view(group_names={-1: "negative"}).html
    assert re.search(r"</svg> negative</span>.*</svg> group 1</span>", text)
    marks = drawn(strips_of(text)[0][1][0], "true", "p")
    assert len({re.search(' d="([^"]*)"', mark)[1] for mark in marks}) == 2
    assert "</svg> group" not in view({"a": system()}).html


def test_scenes_may_be_dataclasses_or_lists_and_odd():
    @dataclass
    class Flight:
        start: np.ndarray
        truth: np.ndarray
        predictions: dict
        times: np.ndarray

    assert view({"a": Flight(**system())}).html == view({"a": system()}).html
    still = system(count=1, times=[1])
    still["truth"] = still["start"][None].tolist()
    still["predictions"] = {"a": still["start"][None] + 1e99}
    flat = system()
    flat["truth"][..., 2] = flat["start"][..., 2] = 0
    for scene in (still, flat):
        assert not re.search(r"\b(nan|inf)\b", view({"a": scene}).html)


def wrong(**more):
    return {"a": system() | more}


HOLE = system()["truth"].copy()
HOLE[1, 2, 0] = np.nan
FEWER = np.zeros((4, 5, 3))


@pytest.mark.parametrize(
    ("scenes", "more", "message"),
    [
        *((None, *bad) for bad in BAD_WORDS),
        (None, {"up": "x"}, "up must be 'z' or 'y', got 'x'"),
        (None, {"view": (0, 91)}, r"view must be .*from -90 to 90 degrees, got \(0, 91\)"),
        (None, {"group_names": {7: ""}}, "the name of a group must be a text"),
        (None, {"edges": [[0, 5]]}, "edges of scene 'first system' must name nodes from 0 to 4, got 0 to 5"),
        (None, {"edges": [0, 1]}, r"edges of .* must be integers of shape \(E, 2\), got shape \(2,\)"),
        (None, {"edges": [[0.0, 1.0]]}, r"edges of .* must be integers .*got float64"),
        ({}, {}, "scenes must be a dict of 1 to 24 scenes by name, got 0"),
        ([system()], {}, "scenes must be a dict .*got list"),
        ({"a": 3}, {}, "scene 'a' must be a dict or a dataclass, got int"),
        ({"": system()}, {}, "the name of a scene must be a text"),
        (wrong(truth=None), {}, "scene 'a' must have truth"),
        (wrong(start=np.zeros((5, 2))), {}, r"start of scene 'a' must have shape \(N, 3\) .*, got \(5, 2\)"),
        (wrong(start="here"), {}, "start of scene 'a' must be an array of numbers, got str"),
        (wrong(start=np.zeros((4, 3))), {}, r"truth of scene 'a' must have shape \(5, 4, 3\), got \(5, 5, 3\)"),
        (wrong(truth=HOLE), {}, r"truth of scene 'a' must be finite .*got nan at \[1, 2, 0\]"),
        (wrong(predictions={}), {}, "predictions of scene 'a' must be a dict of 1 to 6 arrays by name, got 0"),
        (wrong(predictions={"m": FEWER}), {}, r"prediction 'm' of scene 'a' must have .*got \(4, 5, 3\)"),
        (wrong(times=[0.2, 0.6, 0.4, 0.8, 1]), {}, "times of scene 'a' must rise .*0.4.*divide by the whole"),
        (wrong(times=[0, 0.2, 0.4, 0.8, 1]), {}, "times of scene 'a' must rise from more than 0 to 1"),
        (wrong(times=np.ones((5, 1))), {}, r"times of scene 'a' must have shape \(P,\) .*got \(5, 1\)"),
        (wrong(groups=[1, 2]), {}, r"groups of scene 'a' must have shape \(5,\), got \(2,\)"),
        (wrong(groups=[0.5] * 5), {}, "groups of scene 'a' must be integers, got"),
        (wrong(groups=range(5)), {}, r"groups must be at most 4 different ones, got \[0, 1, 2, 3, 4\]: merge"),
        ({"a": system(), "b": system(models={"EGNO": 1})}, {}, f"'b' predicts by EGNO but .* by {', '.join(MODELS)}"),
        ({"a": system(count=800)}, {}, "at most 40000 numbers for a page, got 50400: show fewer scenes"),
    ],
)  # fmt: skip
def test_scenes_that_cannot_be_drawn_are_refused(scenes, more, message):
    with pytest.raises(ValueError, match=message):
        view(scenes, **more)

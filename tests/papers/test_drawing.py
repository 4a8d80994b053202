"""Where figures get their runs, and what is said under them by itself."""

import types

import matplotlib.pyplot as plt
import numpy as np
import pytest
from fakes import FakeResult, FakeStored

from loupe.experiment.render import Block, score_table
from loupe.experiment.results import OWN, Runs, find
from loupe.papers.drawing import (
    SPANS,
    Picture,
    drawn_from,
    labeled_rows,
    learning_curves,
    mosaic,
    passages,
    seed_bars,
)
from loupe.papers.egno import PRESETS
from loupe.plotting import figure, thumbnail_axes


def runs(*seeds, of=1.0):
    return Runs(tuple(FakeResult(seed, {"error": of}) for seed in seeds))


def chapter_of(found, preset="cpu", **others):
    """A chapter with runs by experiment, at its own preset and at others."""
    room = types.SimpleNamespace(PRESETS=PRESETS)
    config = PRESETS[preset].override({"systems": 27})
    return types.SimpleNamespace(
        preset=preset,
        stored=FakeStored.of(found, preset, **others),
        config=config,
        room=room,
        recompute=False,
        computes=False,
    )


A, B = {"a": runs(0)}, {"b": runs(0, 1)}


@pytest.mark.parametrize(
    ("names", "own", "others", "presets", "preset", "systems"),
    [
        ("a", A, {"gpu": A}, (OWN, "gpu"), "cpu", 27),
        ("a", A, {"gpu": A}, ("gpu", OWN), "gpu", PRESETS["gpu"].systems),
        ("a", {}, {"gpu": A, "smoke": A}, (OWN, "smoke", "gpu"), "smoke", PRESETS["smoke"].systems),
        ("ab", A | B, {}, (OWN, "gpu"), "cpu", 27),
        ("ab", A, {"gpu": A | B}, (OWN, "gpu"), "gpu", PRESETS["gpu"].systems),
        ("ab", A, {"gpu": B}, (OWN, "gpu"), None, None),
        ("ab", {}, {"gpu": A, "paper": B}, (OWN, "gpu", "paper"), None, None),
        ("a", {}, {"paper": A}, (OWN, "gpu"), None, None),
        ("a", A, {"gpu": A}, None, "gpu", PRESETS["gpu"].systems),
    ],
)
def test_runs_are_of_one_preset_the_first_that_has_them_all(names, own, others, presets, preset, systems):
    found = find(chapter_of(own, **others), tuple(names), presets)
    assert (found and found.preset) == preset
    assert (found and found.settings.systems) == systems


@pytest.mark.parametrize(
    ("counts", "said"), [((1,), "1 seed"), ((3,), "3 seeds"), ((2, 2), "2 seeds"), ((3, 1), "1 to 3 seeds")]
)
def test_seeds_are_counted(counts, said):
    names = "abc"[: len(counts)]
    found = find(chapter_of({name: runs(*range(n)) for name, n in zip(names, counts, strict=True)}), names)
    assert (found.seeds, found.label) == (said, f"cpu, {said}")


@pytest.mark.parametrize(
    ("seeds", "ending"),
    [("all", "Preset `cpu`, 2 seeds."), ("first", "Preset `cpu`, seed 5."), ("", "Preset `cpu`.")],
)
def test_the_caption_ends_with_preset_and_seeds(seeds, ending, shown):
    @drawn_from("a", what="a test", seeds=seeds)
    def one(found, height):
        """A picture."""
        sheet, axes = figure(height=height)
        axes.plot(found.runs["error"])
        return Picture(sheet, "A line that rises up a little.", "What a line of a test shows.")

    assert one(chapter_of({"a": runs(5, 7)}), 3) is None
    assert shown.caption == f"What a line of a test shows. {ending}"
    assert tuple(shown.sheet.get_size_inches()) == (5.4, 3)
    assert (one.__name__, one.__doc__, one.names) == ("one", "A picture.", ("a",))


def test_a_picture_can_be_folded_with_its_caption(shown):
    @drawn_from("a", what="a test")
    def one(found):
        return Picture(figure()[0], "A line that rises up a little.", "What `a` < `b` shows.")

    block = one(chapter_of(A), folded="More")
    assert "<summary>More</summary>" in block.html
    assert 'alt="A line that rises up a little."' in block.html
    assert "What <code>a</code> &lt; <code>b</code> shows. Preset <code>cpu</code>, 1 seed." in block.html
    assert "What `a` < `b` shows. Preset `cpu`, 1 seed." in block.text
    assert not shown.outputs
    table = drawn_from("a", what="a test")(lambda found: Block("text", "<p>text</p>"))
    assert table(chapter_of(A), folded="More").html.endswith("<p>text</p></details>")


def test_curves_of_seeds_with_their_mean_stand_beside_trivial_rows():
    steps, values = np.array([1, 10, 100]), np.array([[4.0, 2.0, 1.0], [6.0, 4.0, 3.0]])
    axes = figure()[1]
    learning_curves(axes, {"ours": (steps, values, {"color": "k"})}, {"guessing": 4.5})
    drawn = {line.get_label(): line.get_ydata() for line in axes.lines}
    assert drawn["ours"].tolist() == [5, 3, 2]
    assert [line.get_ydata().tolist() for line in axes.lines[:2]] == values.tolist()
    assert axes.texts[0].get_text() == "guessing 4.50"
    assert axes.get_xscale() == "log"
    assert axes.get_ylim() == pytest.approx((2 - 0.075, 4.5 + 0.075))


def test_what_is_no_picture_is_given_back_and_what_is_missing_is_said():
    table = drawn_from("a", what="a test")(lambda found: found.preset)
    assert table(chapter_of(A)) == "cpu"
    assert str(table(chapter_of(B))) == "Nothing to show here: a test has not been computed yet."


ROWS = [
    (("one", "ours"), [1.0, 2.0, 3.0], [0.1], "text"),
    (("one", "theirs"), [1.5, 1.51, 1.49], [0.2], None),
    (("two", "ours"), np.array([9.0, 9.0]), [0.3], "–"),
    (("two", "theirs"), [-1.0, 30.0, 1.0], None, "–"),
]


@pytest.mark.parametrize(
    ("best", "positive", "cells"),
    [
        ("", False, ["2.00\u00a0±\u00a02.48", "1.50\u00a0±\u00a00.02", "9.00", "10.00\u00a0±\u00a043.10"]),
        ("min", True, ["1.00, 2.00, 3.00", "1.50\u00a0±\u00a00.02*", "9.00*", "−1.00, 30.00, 1.00"]),
        (
            ["max", "", ""],
            True,
            ["1.00, 2.00, 3.00*", "1.50\u00a0±\u00a00.02", "9.00", "−1.00, 30.00, 1.00*"],
        ),
    ],
)
def test_a_score_is_a_mean_with_its_interval_and_the_best_of_a_part_is_marked(best, positive, cells):
    block = score_table(("a", "b", "c", "d"), ROWS, digits=(2, 1, 0), best=best, positive=positive)
    rows = [line.replace(" *", "*").split("  ") for line in block.text.splitlines()[1:]]
    rows = [[cell.strip() for cell in row if cell.strip()] for row in rows]
    assert [row[1] for row in rows] == cells
    assert rows[0][0] == "one, ours"
    assert [rows[k][3] for k in (0, 1)] == ["text", "–"]
    assert block.html.count("<b>") == block.text.count("*")


def test_a_thumbnail_has_the_same_bytes_each_time_whatever_the_style(tmp_path):
    import matplotlib.pyplot as plt

    for name, size in (("one", 9), ("two", 20)):
        with plt.rc_context({"lines.linewidth": size}), thumbnail_axes(tmp_path / name) as axes:
            axes.plot([1, 2])
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    assert not plt.get_fignums()


@pytest.mark.parametrize(
    ("shape", "columns", "wanted"), [((5, 1, 2, 3), 3, (5, 11)), ((2, 3, 4, 4), 10, (4, 49))]
)
def test_images_stand_in_rows_and_the_page_is_seen_in_the_gaps(shape, columns, wanted):
    sheet = mosaic(np.full(shape, 7, np.uint8), columns=columns)
    assert sheet.shape == (*wanted, 4)
    assert (sheet[..., 3] == 255).sum() == np.prod(shape) / shape[1]
    assert (sheet[: shape[2], : shape[3]] == (7, 7, 7, 255)).all()


def test_rows_of_images_gray_and_in_color_have_their_labels():
    gray, color = np.full((4, 3, 2), 5, np.uint8), np.arange(54, dtype=np.uint8).reshape(3, 3, 2, 3)
    sheet = labeled_rows({"gray": gray, "color": color})
    assert [axes.get_ylabel() for axes in sheet.axes] == ["gray", "color"]
    first, second = (axes.images[0].get_array() for axes in sheet.axes)
    assert (first[:, :2] == (5, 5, 5, 255)).all()
    assert (second[:, 3:5, :3] == color[1]).all()


def test_passages_keep_every_letter():
    groups = [
        (
            "a <b>",
            [("1.50", [("it  was ", "quiet"), ("<i>", "filled"), ("x", "gap")]), ("", [("now", "plain")])],
        )
    ]
    block = passages(groups, "the & note")
    assert str(block) == "a <b>  1.50  it  was [<i>][x]\na <b>  now\nthe & note"
    for part in ("a &lt;b&gt;", ">1.50</span>", ">it  was </span>", ">&lt;i&gt;</span>", "the &amp; note"):
        assert part in block.html
    assert block.html.count("tabular-nums") == 1  # nothing stands before the second text
    for parent, child in (("filled", "font-weight:600"), ("gap", "border-bottom")):
        assert child in SPANS[parent]


def test_bars_over_seeds_need_three():
    _, axes = figure()
    for values in ([[1.0, 2.0], [3.0, 2.0]], [[1.0, 2.0], [2.0, 2.0], [3.0, 2.0]]):
        seed_bars(axes, np.array([1, 2]), np.array(values), label="one")
    two, three = axes.containers
    assert [line.get_ydata().tolist() for line in (two[0], three[0])] == [[2, 2]] * 2
    heights = [[np.ptp(path.vertices[:, 1]) for path in one[2][0].get_paths()] for one in (two, three)]
    assert heights[0] == [0, 0]
    assert heights[1] == pytest.approx(
        [2 * 4.302653 / 3**0.5, 0]
    )  # Student's quantile with two degrees of freedom
    plt.close("all")

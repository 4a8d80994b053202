"""What is drawn of reflected diffusion from the stored results: every promise of a figure, and its numbers."""

import math
from dataclasses import replace

import numpy as np
import pytest
from fakes import FakeResult
from showing import assert_same_thumbnail_each_time, cells_of, figures_of, thumbnail_sheet

from loupe.diffusion.reflected import corner_mixture
from loupe.experiment.render import over_seeds
from loupe.experiment.results import Runs, find
from loupe.papers.reflected_diffusion import figures, figures_images
from loupe.papers.reflected_diffusion.claims import value

IMAGES = ("images_reflected", "images_exploding")


def drawn_of(draw, chapter, change):
    """A figure of changed results: ``change`` maps the runs of an experiment, a dictionary for each seed, to others."""
    found = find(chapter, draw.names)
    changed = {
        name: Runs(tuple(FakeResult(k, run) for k, run in enumerate(change([dict(run) for run in one]))))
        for name, one in found.runs.items()
    }
    return draw.__wrapped__(replace(found, runs=changed))


def thrice(runs):
    """Three seeds: every measured number of the second and third is a little different."""

    def other(run, factor):
        arrays = {key: np.asarray(each) for key, each in run.items()}
        return {key: each * factor if each.dtype == float else each for key, each in arrays.items()}

    return [runs[0], other(runs[0], 1.1), other(runs[0], 0.85)]


def weighted(weights):
    """A change to these weights of guidance in place of what is stored, with other images for each."""

    def renamed(run):
        plain, free = (np.flatnonzero(run["variant"] == word) for word in ("", "0"))
        words = [f"{weight:g}" for weight in sorted(weights)]  # in the order of what is stored
        places, changed = np.r_[plain, np.tile(free, len(words))], dict(run)
        for name, column in run.items():
            if np.shape(column) == run["variant"].shape:
                changed[name] = column[places]
            elif name.startswith("guided_"):
                changed[name] = np.stack([np.roll(column[0], k) for k in range(len(words))])
        return changed | {"variant": np.r_[[""] * len(plain), np.repeat(words, len(free))]}

    return lambda runs: [renamed(run) for run in runs]


@pytest.mark.parametrize("draw", figures_of(figures, figures_images))
def test_every_figure(draw, check_figure):
    check_figure("reflected_diffusion", draw)


# --- the kernel, walls and flows ----------------------------------------------------------------------------


def test_the_kernel_is_that_of_folded_bells(shown):
    figures.kernel()
    above, below = shown.sheet.axes
    solid = above.lines[:-1:2]
    assert [line.get_label() for line in solid] == [f"σ = {sigma:g}" for sigma in figures.SIGMAS]
    k = np.arange(-9, 10)[:, None]
    for line, sigma in zip(solid, figures.SIGMAS, strict=True):
        x, density = line.get_xydata().T
        away = np.concatenate([x - 2 * k - 0.1, x - 2 * k + 0.1])
        bells = np.exp(-((away / sigma) ** 2) / 2).sum(0) / (sigma * math.sqrt(2 * math.pi))
        np.testing.assert_allclose(density, bells, rtol=1e-9)
    for line in below.lines[::2]:
        assert np.abs(line.get_ydata()[[0, -1]]).max() < 1e-9  # at both walls
    assert "$x_0=0.1$" in shown.caption


def test_the_folding_widget_is_a_fragment():
    html = figures.folding().html
    assert html.startswith('<div class="loupe-widget loupe-folding ')
    assert "Noise between walls is noise on a line, folded" in html


def test_slopes_are_those_of_the_distances(chapter, runs, shown):
    figures.convergence(chapter)
    run, (axes,) = runs("thresholding").first, shown.sheet.axes
    for walls, line in zip(("clip", "fold"), axes.lines, strict=False):
        assert np.array_equal(line.get_ydata(), run[walls])
        slope = np.polyfit(np.log(run["path_steps"]), np.log(run[walls]), 1)[0]
        assert line.get_label().endswith(f"slope {slope:.2f}".replace("-", "−"))
    assert f"{run['paths']:,} paths" in shown.caption


def test_flows_run_from_noise_to_clusters_that_are_where_the_words_say(chapter, shown):
    figures.flows(chapter)
    (axes,) = shown.sheet.axes
    paths = [line.get_xydata() for line in axes.lines if len(line.get_xydata()) == 25]
    assert len(paths) == 60
    means, ends = corner_mixture().means.numpy(), np.array([path[-1] for path in paths])
    assert np.linalg.norm(ends[:, None] - means, axis=-1).min(1).max() < 0.3
    at_walls = (means == 0) | (means == 1)
    assert (at_walls.any(1).sum(), at_walls.all(1).sum()) == (3, 1)
    assert "four clusters, one of them in a corner" in shown.alt


def test_likelihoods_are_of_so_many_points(chapter, runs, shown):
    figures.likelihoods(chapter)
    grey, toys = runs("grey_bound"), runs("toys_reflected")
    above, below = shown.sheet.axes
    n = len(above.lines[0].get_xydata())
    assert n == len(toys.first["log_density"])
    assert f"returns for {n} held-out points" in shown.caption
    mean = np.exp(toys.first["log_density"] - toys.first["true_log_density"]).mean()
    assert f"has the mean {mean:.2f};" in shown.caption
    bound, true, entropy = (line.get_ydata() for line in below.lines)
    assert bound == pytest.approx([run["bound"].mean() for run in grey])
    assert true == pytest.approx([run["surprise"].mean() for run in grey])
    assert entropy[0] == grey.first["entropy"]


# --- networks in the square ---------------------------------------------------------------------------------


def test_points_are_those_of_both_twins(chapter, runs, shown):
    figures.scatter(chapter)
    shown_of = [("reflected", "data"), ("reflected", "fold"), ("exploding", "static")]
    wanted = [(k, *one) for k in range(2) for one in shown_of]
    for axes, (k, experiment, name) in zip(shown.sheet.axes, wanted, strict=True):
        points = runs(f"toys_{experiment}").first[name][k]
        assert np.array_equal(axes.lines[0].get_xydata(), points[:1000])


@pytest.mark.parametrize("walls", [False, True])
def test_distances_and_shares_at_walls_are_means_over_seeds(walls, chapter, runs):
    head, rows = cells_of(figures.distances(chapter, walls=walls))
    assert head[1:] == ["chessboard", "corners"]
    by_name = {row[0]: row[1:] for row in rows}
    assert len(by_name) == 10
    what, factor = ("at_walls", 100) if walls else ("distance", 1e4)
    for words, experiment, name in (
        ("reflected, clip each step", "toys_reflected", "clip"), ("other data", "toys_reflected", "data"),
        ("no walls, static threshold", "toys_exploding", "static"), ("logits of the data (1 seed)", "toys_logit", "logit"),
    ):  # fmt: skip
        found = runs(experiment)
        means = [over_seeds(factor * value(found, name, what, toy), 1) for toy in ("squares", "corners")]
        assert by_name[words] == means


# --- images -------------------------------------------------------------------------------------------------


def tiles(sheet, count, size=16):
    """The first images of a mosaic of ten columns."""
    step = size + 1
    return np.stack([
        sheet[step * (k // 10) : step * (k // 10) + size, step * (k % 10) : step * (k % 10) + size] for k in range(count)
    ])  # fmt: skip


def pictures(sheet):
    """The gray of the images that a figure shows, by panel."""
    return [np.asarray(axes.images[0].get_array())[..., 0] for axes in sheet.axes]


def off_by(run, name, weight):
    """Dark and bright pixels astray."""
    each = ((value(run, name, what, weight), value(run, "train", what)) for what in ("dark", "bright"))
    return sum(abs(found - wanted) for found, wanted in each)


def both(runs, change=list):
    """The runs of both image experiments, changed."""
    return [change([dict(run) for run in runs(name)]) for name in IMAGES]


def test_samples_are_in_their_rows(chapter, runs):
    (ours,), (theirs,) = both(runs)
    sheet, _, caption = drawn_of(figures_images.samples, chapter, list)
    wanted = (ours["data"][:10], ours["fold"][:30], ours["neighbours"], theirs["static"][:30])
    for picture, images in zip(pictures(sheet), wanted, strict=True):
        assert np.array_equal(tiles(picture, len(images)), images[:, 0])
    assert f"{ours['images_seen']:,} images" in caption


def test_noise_ends_uniform_with_walls_and_out_of_range_without(chapter, runs, shown):
    figures_images.noising(chapter)
    levels = ", ".join(f"{0.01 * 500**t:.2g}" for t in (0, 0.35, 0.55, 0.7, 1))
    assert f"at noise of {levels}, with" in shown.caption
    data = runs("images_reflected").first["data"][:4, 0].astype(float)
    folded, clipped = (tiles(picture, 20) for picture in pictures(shown.sheet))
    for states in (folded, clipped):
        assert np.abs(states[::5] - data).max() < 255 * 0.06
    extreme = [np.isin(each[4::5], (0, 255)).mean() for each in (folded, clipped)]
    assert extreme[0] < 0.1 < 0.8 < extreme[1]


@pytest.mark.parametrize("change", [list, thrice], ids=["one", "three"])
def test_the_quality_table_holds_what_was_measured(change, chapter, runs):
    head, rows = cells_of(drawn_of(figures_images.quality_table, chapter, change))
    assert len(head) == 5
    by_name = {row[0]: row[1:] for row in rows}
    assert len(by_name) == 11
    ours, theirs = both(runs, change)
    off = [100 * off_by(run, "static", "") for run in theirs]
    columns = (("distance", 1, 2), ("accuracy", 100, 0))
    assert by_name["no walls, static threshold"] == [
        *(over_seeds([factor * value(run, "static", name) for run in theirs], digits, positive=True)
          for name, factor, digits in columns),
        over_seeds(off, 1, positive=True), over_seeds([value(run, "static", "calls") for run in theirs], 0),
    ]  # fmt: skip
    assert by_name["training images"][2:] == ["0.0", ""]
    assert by_name["uniform noise"][0] == over_seeds([value(run, "noise", "distance") for run in ours], 2)


def test_a_lossy_copy_of_the_images_says_so(chapter):
    lossy = drawn_of(
        figures_images.quality_table, chapter, lambda runs: [run | {"copy": "lossy"} for run in runs]
    )
    assert cells_of(lossy)[0][1] == "distance (lossy)"


@pytest.mark.parametrize(
    ("weights", "words"), [((3,), ["3"]), ((0, 1, 2.5, 5, 10), ["0", "2.5", "10"]), ((10, 5, 0), ["0", "5", "10"])],
)  # fmt: skip
def test_a_row_of_the_grid_is_a_weight_and_curves_have_a_point_for_each(weights, words, chapter, runs):
    change = weighted(weights)
    sheet, _, caption = drawn_of(figures_images.guidance_grid, chapter, change)
    assert f"with weights of guidance {', '.join(words)} from top to bottom" in caption
    names = [(0, "fold"), (0, "flow"), (1, "flow"), (1, "static"), (1, "dynamic")]
    every = [f"{w:g}" for w in sorted(weights)]
    for picture, (which, name) in zip(pictures(sheet), names, strict=True):
        images = both(runs, change)[which][0][f"guided_{name}"]
        wanted = np.concatenate([images[every.index(w), :, 0] for w in words])
        assert np.array_equal(tiles(picture, 10 * len(words)), wanted)
    panels = drawn_of(figures_images.guidance_curves, chapter, change).sheet.axes
    assert [len(axes.lines) for axes in panels] == [5, 6]
    assert all(line.get_xdata().tolist() == sorted(weights) for line in panels[0].lines)


def test_curves_are_means_over_seeds(chapter, runs):
    sheet = drawn_of(figures_images.guidance_curves, chapter, thrice).sheet
    ours, theirs = both(runs, thrice)
    above, below = ({line.get_label(): line for line in axes.lines} for axes in sheet.axes)
    over = [100 * (value(run, "dynamic", "bright", "10") - value(run, "train", "bright")) for run in theirs]
    assert below["no walls, dynamic threshold"].get_ydata()[-1] == pytest.approx(np.mean(over))
    off = [100 * off_by(run, "fold", "0") for run in ours]
    assert above["reflected, steps"].get_ydata()[0] == pytest.approx(np.mean(off))


# --- tables of speed, mosaics and the thumbnail -------------------------------------------------------------


def test_tables_of_speed_hold_each_measurement_once(chapter):
    bench = chapter.benchmark()
    _, rows = cells_of(figures.speed_table(bench))
    found = [row for row in bench["rows"] if row["task"] == "The kernel's score"]
    ours, theirs = ([row for row in found if row["method"] == name] for name in ("loupe", "re-statement"))
    assert len({row[0] for row in rows}) == len(rows)
    for row, one, other in zip(rows, ours, theirs, strict=True):
        case = f"{' × '.join(map(str, one['shape']))}, {one['noise']}"
        assert row[:3] == [case, f"{one['ms']:.1f}", f"{other['ms']:.1f}"]
    _, rows = cells_of(figures.network_table(bench))
    measured = [row for row in bench["rows"] if row["task"] == "U-Nets"]
    assert [row[-1] for row in rows] == [f"{row['step, images a second']:,.0f}" for row in measured]


def test_the_thumbnail_shows_the_first_samples_the_same_each_time(chapter, runs, tmp_path, monkeypatch):
    assert_same_thumbnail_each_time(figures.thumbnail, chapter, tmp_path)
    sheet = thumbnail_sheet(figures.thumbnail, chapter, tmp_path / "three.svg", monkeypatch)
    (picture,), fold = pictures(sheet), runs("images_reflected").first["fold"][:, 0]
    assert np.array_equal(picture[:16, -16:], fold[3])
    assert np.array_equal(picture[-16:, :16], fold[10])

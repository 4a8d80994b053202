"""What is drawn of reflected diffusion from the stored results of ``cpu``: every promise of a figure, and its numbers."""

from dataclasses import replace

import matplotlib.pyplot as plt
import numpy as np
import pytest
from fakes import FakeResult
from showing import (
    assert_same_thumbnail_each_time,
    cells_of,
    figures_of,
    thumbnail_sheet,
)

from loupe import open_chapter
from loupe.diffusion.reflected import corner_mixture
from loupe.experiment.render import over_seeds
from loupe.experiment.results import Runs, find
from loupe.papers.reflected_diffusion import figures, figures_images, figures_toys

IMAGES = ("images_reflected", "images_exploding")


@pytest.fixture(scope="module")
def chapter():
    return open_chapter("reflected_diffusion", preset="cpu")


@pytest.fixture(scope="module")
def stored(chapter):
    return chapter.stored


@pytest.fixture(autouse=True)
def _closed():
    """Pictures that are not shown are closed here."""
    yield
    plt.close("all")


def drawn_of(draw, chapter, change):
    """A figure of changed results: ``change`` maps the runs of an experiment, a dictionary for each seed, to others."""
    found = find(chapter, draw.names)
    single = len(draw.names) == 1
    runs = {draw.names[0]: found.runs} if single else found.runs
    runs = {
        name: Runs(tuple(FakeResult(k, run) for k, run in enumerate(change([dict(run) for run in one]))))
        for name, one in runs.items()
    }
    return draw.__wrapped__(replace(found, runs=runs[draw.names[0]] if single else runs))


def thrice(runs):
    """Three seeds: every measured number of the second and third is a little different."""

    def other(run, factor):
        return {key: value * factor if isinstance(value, float) else value for key, value in run.items()}

    return [runs[0], other(runs[0], 1.1), other(runs[0], 0.85)]


def coloured(runs):
    """The same of color images."""

    def three(value):
        is_image = isinstance(value, np.ndarray) and value.dtype == np.uint8 and value.ndim == 4
        return np.concatenate([value, 255 - value, value // 2], 1) if is_image else value

    return [{key: three(value) for key, value in run.items()} for run in runs]


def weighted(weights):
    """A change to these weights of guidance in place of what is stored, with other images for each."""

    def renamed(run):
        found = {key: value for key, value in run.items() if " w=" not in key}
        for key, value in run.items():
            if key.endswith(" w=0") or " w=0 " in key:
                found |= {key.replace(" w=0", f" w={w:g}"): np.roll(value, k) for k, w in enumerate(weights)}
        return found

    return lambda runs: [renamed(run) for run in runs]


# --- every picture ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("draw", figures_of(figures_toys, figures_images))
def test_every_figure(draw, check_figure):
    check_figure("reflected_diffusion", draw)


@pytest.mark.parametrize("change", [coloured, thrice, lambda runs: coloured(thrice(runs))])
@pytest.mark.parametrize("draw", figures_of(figures_images))
def test_pictures_of_images_in_colour_and_of_several_seeds(draw, change, chapter):
    assert drawn_of(draw, chapter, change)


# --- networks in the square ---------------------------------------------------------------------------------


@pytest.mark.parametrize("change", [list, thrice, lambda runs: runs[:1]], ids=["stored", "three", "one"])
def test_distances_are_means_over_seeds(change, chapter, stored):
    head, rows = cells_of(drawn_of(figures_toys.distances, chapter, change))
    assert head[1:] == ["seeds", "chessboard: distance × 10⁴", "chessboard: at walls, %", "corners: distance × 10⁴",
                        "corners: at walls, %"]  # fmt: skip
    assert len(rows) == 10
    by_name = {row[0]: row[1:] for row in rows}
    for words, experiment, name, data in (
        ("reflected, clip each step", "toys_reflected", "clip distance", "clip at walls"),
        ("no walls, static threshold", "toys_exploding", "static distance", "static at walls"),
        ("logits of the data", "toys_logit", "logit distance", "logit at walls"),
        ("other data", "toys_reflected", "floor", "data at walls"),
    ):
        found = change([dict(run) for run in stored[experiment]])
        assert by_name[words] == [str(len(found))] + [
            over_seeds([factor * run[f"{toy} {what}"] for run in found], 2)
            for toy in ("squares", "corners") for what, factor in ((name, 1e4), (data, 100))
        ]  # fmt: skip


def test_points_are_those_of_the_samplers(chapter, stored, shown):
    figures_toys.scatter(chapter)
    assert len(shown.sheet.axes) == 12
    assert f"The first {figures_toys.SHOWN} points" in shown.caption
    wanted = [("reflected", "data"), ("reflected", "fold"), ("reflected", "clip"), ("exploding", "static"),
              ("reflected", "flow"), ("logit", "logit")]  # fmt: skip
    places = [(toy, *one) for toy in ("squares", "corners") for one in wanted]
    for axes, (toy, experiment, name) in zip(shown.sheet.axes, places, strict=True):
        points = stored[f"toys_{experiment}"].first[f"{toy} {name}"]
        assert np.array_equal(axes.lines[0].get_xydata(), points[: figures_toys.SHOWN])


def test_descriptions_say_where_the_clusters_are(chapter, stored, shown):
    means = corner_mixture().means
    at_walls = (means == 0) | (means == 1)
    assert at_walls.any(1).sum() == 3
    assert at_walls.all(1).sum() == 1
    figures_toys.scatter(chapter)
    assert "four clusters, three of them at walls" in shown.alt
    shown.outputs.clear()
    figures.flows(stored["identities"])
    assert "four clusters, one of them in a corner" in shown.alt


def test_likelihoods_are_of_so_many_points(chapter, stored, shown):
    figures_toys.likelihoods(chapter)
    runs, config = stored["grey_bound"], chapter.config
    n = config.toy_likelihood_points
    assert f"returns for {n} held-out points" in shown.caption
    assert f"true bits (dashes) of {n} points on 256 gray levels" in shown.caption
    assert f"noise of {config.sigma_min:g}" in shown.caption
    above, below = shown.sheet.axes
    assert len(above.lines[0].get_xydata()) == n
    bound, true, entropy = (line.get_ydata() for line in below.lines)
    assert bound == pytest.approx([run["bound"].mean() for run in runs])
    assert true == pytest.approx([run["surprise"].mean() for run in runs])
    assert entropy[0] == runs.first["entropy"]
    assert [text.get_text() for text in below.get_xticklabels()] == [f"seed {k}" for k in runs.seeds]


@pytest.mark.parametrize("change", [list, thrice], ids=["one", "three"])
def test_the_triangle_s_caption_has_its_numbers(change, chapter, stored):
    runs = change([dict(run) for run in stored["simplex"]])
    sheet, _, caption = drawn_of(figures_toys.triangle, chapter, change)
    outside = 100 * np.mean([run["outside"] for run in runs])
    ours, theirs, floor = (
        1e4 * np.mean([run[f"simplex {name}"] for run in runs])
        for name in ("reflected distance", "none distance", "floor")
    )
    assert f"without walls {outside:.1f} % leave it" in caption
    assert f"× 10⁴: {ours:.1f} and {theirs:.1f}; of other data {floor:.1f}." in caption
    data, ours, theirs = (axes.lines[0].get_xydata() for axes in sheet.axes)
    for points in (data, ours):
        assert (points >= -1e-6).all()
        assert (points.sum(1) <= 1 + 1e-6).all()
    out = ((theirs < 0).any(1) | (theirs.sum(1) > 1)).mean()
    assert out == pytest.approx(runs[0]["outside"], abs=0.02)  # of those that are drawn


# --- images -------------------------------------------------------------------------------------------------


def tiles(sheet, count, size=16):
    """The first images of a mosaic of ten columns."""
    step = size + 1
    return np.stack([
        sheet[step * (k // 10) : step * (k // 10) + size, step * (k % 10) : step * (k % 10) + size] for k in range(count)
    ])  # fmt: skip


def pictures(sheet):
    """The colors of the images that a figure shows, by panel."""
    return [np.asarray(axes.images[0].get_array())[..., :3] for axes in sheet.axes]


def last(images):
    """Channels last, and three of them."""
    return np.moveaxis(np.broadcast_to(images, (len(images), 3, *images.shape[2:])), 1, -1)


def firsts(stored, change=list):
    """The first runs of both image experiments, changed."""
    return [change([dict(run) for run in stored[name]])[0] for name in IMAGES]


@pytest.mark.parametrize("change", [list, coloured], ids=["gray", "colour"])
def test_samples_are_in_their_rows(change, chapter, stored):
    ours, theirs = firsts(stored, change)
    sheet, _, caption = drawn_of(figures_images.samples, chapter, change)
    wanted = (ours["data"][:20], ours["fold"][:40], ours["neighbours"], theirs["static"][:40])
    for picture, images in zip(pictures(sheet), wanted, strict=True):
        assert np.array_equal(tiles(picture, len(images)), last(images))
    assert len(ours["neighbours"]) == 10
    settings = chapter.config.training
    seen = settings.steps * settings.batch
    assert f"networks of {ours['parameters']:,} parameters that have seen {seen:,} images" in caption


def test_noise_levels_are_those_of_the_caption(chapter, stored, shown):
    figures_images.noising(chapter)
    levels = ", ".join(f"{0.01 * 500**t:.2g}" for t in (0, 0.35, 0.55, 0.7, 1))
    assert f"Six test images at noise of {levels}, with" in shown.caption
    data = firsts(stored)[0]["data"][:6, 0].astype(float)
    folded, clipped = (tiles(picture, 30)[..., 0] for picture in pictures(shown.sheet))
    for states in (folded, clipped):
        assert np.abs(states[::5] - data).max() < 255 * 0.06
    extreme = [np.isin(each[4::5], (0, 255)).mean() for each in (folded, clipped)]
    assert extreme[0] < 0.1 < 0.8 < extreme[1]


def test_colours_do_not_mix(chapter, stored):
    """The channels of a color image are its own noisy channels, each by itself."""
    sheet = drawn_of(figures_images.noising, chapter, coloured).sheet
    first = firsts(stored)[0]["data"][:6, 0].astype(float)
    for picture in pictures(sheet):
        clean = tiles(picture, 30)[::5].astype(float)
        for k, data in enumerate((first, 255 - first, first // 2)):
            assert np.abs(clean[..., k] - data).max() < 255 * 0.06


@pytest.mark.parametrize("change", [list, thrice], ids=["one", "three"])
def test_the_quality_table_holds_what_was_measured(change, chapter, stored):
    head, rows = cells_of(drawn_of(figures_images.quality_table, chapter, change))
    assert len(head) == 7
    assert len(rows) == 11
    by_name = {row[0]: row[1:] for row in rows}
    ours, theirs = (change([dict(run) for run in stored[name]]) for name in IMAGES)
    off = [
        100 * sum(abs(run[f"static {what}"] - run[f"train {what}"]) for what in ("dark", "bright"))
        for run in theirs
    ]
    columns = (("distance", 1, 2), ("class score", 1, 2), ("accuracy", 100, 0), ("sliced", 1, 3))
    assert by_name["no walls, static threshold"] == [
        *(over_seeds([factor * run[f"static {name}"] for run in theirs], digits, positive=True)
          for name, factor, digits in columns),
        over_seeds(off, 1, positive=True), "100",
    ]  # fmt: skip
    assert by_name["training images"][4:] == ["0.0", ""]
    assert by_name["uniform noise"][0] == over_seeds([run["noise distance"] for run in ours], 2)


def test_the_judge_is_described(chapter, stored):
    run = firsts(stored)[0]
    _, rows = cells_of(figures_images.judge_line(chapter))
    wanted = [f"{100 * run['judge_accuracy']:.1f} %", run["judge_digest"], run["variant"]]
    assert [value for _, value in rows] == wanted


def test_a_lossy_copy_of_the_images_says_so(chapter):
    head, _ = cells_of(
        drawn_of(
            figures_images.quality_table,
            chapter,
            lambda runs: [run | {"variant": "a lossy copy"} for run in runs],
        )
    )
    plain, _ = cells_of(figures_images.quality_table(chapter))
    assert head[1] == f"{plain[1]} (a lossy copy)"


@pytest.mark.parametrize(
    ("count", "x", "y", "points"), [(4, [0.5, 1.5], [1, 2], 4), (250, [2, 6], [2.5, 6.5], 62)], ids=str
)
def test_losses_are_means_of_blocks(count, x, y, points, chapter):
    loss = {"loss": np.arange(1.0, count + 1)}
    sheet = drawn_of(figures_images.losses, chapter, lambda runs: [run | loss for run in runs]).sheet
    for line in sheet.axes[0].lines:
        assert line.get_xdata()[:2].tolist() == x
        assert line.get_ydata()[:2].tolist() == y
        assert len(line.get_xdata()) == points


# --- guidance -----------------------------------------------------------------------------------------------

FEW = pytest.mark.parametrize(
    ("weights", "words"),
    [((3,), ["3"]), ((0, 10), ["0", "10"]), ((0, 1, 2.5, 5, 10), ["0", "2.5", "10"]), ((10, 5, 0), ["0", "5", "10"])],
    ids=str,
)  # fmt: skip


@FEW
def test_a_row_of_the_grid_is_a_weight(weights, words, chapter, stored):
    def change(runs):
        return weighted(weights)(coloured(runs) if len(weights) == 2 else runs)

    sheet, _, caption = drawn_of(figures_images.guidance_grid, chapter, change)
    assert f"with weights of guidance {', '.join(words)} from top to bottom" in caption
    names = [(0, "fold"), (0, "flow"), (0, "mollified"), (1, "flow"), (1, "static"), (1, "dynamic")]
    for picture, (which, name) in zip(pictures(sheet), names, strict=True):
        assert len(picture) == len(words) * 17 - 1
        images = np.concatenate([firsts(stored, change)[which][f"{name} w={w}"] for w in words])
        assert np.array_equal(tiles(picture, 10 * len(words)), last(images))


@FEW
def test_curves_have_a_point_for_every_weight(weights, words, chapter):
    panels = drawn_of(figures_images.guidance_curves, chapter, weighted(weights)).sheet.axes
    assert [len(axes.lines) for axes in panels] == [3, 7, 6]
    for line in panels[0].lines:
        assert line.get_xdata().tolist() == sorted(weights)


def test_curves_are_means_over_seeds(chapter, stored):
    sheet, _, caption = drawn_of(figures_images.guidance_curves, chapter, thrice)
    ours, theirs = (thrice([dict(run) for run in stored[name]]) for name in IMAGES)
    assert f"classifier, {100 * ours[0]['judge_accuracy']:.1f} % right on test images" in caption
    above, middle, below = ({line.get_label(): line for line in axes.lines} for axes in sheet.axes)
    mean = np.mean(
        [[run[f"flow w={w} overshoot"] for w in ("0", "1", "2.5", "5", "10")] for run in theirs], axis=0
    )
    assert above["no walls, flow"].get_ydata() == pytest.approx(mean)
    assert not np.any(above["reflected, flow"].get_ydata())
    over = [100 * (run["dynamic w=10 bright"] - run["train bright"]) for run in theirs]
    assert middle["no walls, dynamic"].get_ydata()[-1] == pytest.approx(np.mean(over))
    right = [100 * run["fold w=0 accuracy"] for run in ours]
    assert below["reflected, fold"].get_ydata()[0] == pytest.approx(np.mean(right))


# --- mosaics and the thumbnail ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "columns", "wanted"),
    [((5, 1, 2, 3), 3, (5, 11)), ((2, 3, 4, 4), 10, (4, 49)), ((7, 1, 8, 8), 10, (8, 89)), ((1, 1, 8, 8), 10, (8, 89))],
)  # fmt: skip
def test_images_stand_in_rows_and_the_page_is_seen_in_the_gaps(shape, columns, wanted):
    sheet = figures.mosaic(np.full(shape, 7, np.uint8), columns=columns)
    assert sheet.shape == (*wanted, 4)
    assert (sheet[..., 3] == 255).sum() == np.prod(shape) / shape[1]
    assert np.isin(sheet[..., 3], (0, 255)).all()
    assert (sheet[: shape[2], : shape[3]] == (7, 7, 7, 255)).all()


def test_the_thumbnail_is_the_same_each_time(chapter, tmp_path):
    assert_same_thumbnail_each_time(figures.thumbnail, chapter, tmp_path)


def test_the_thumbnail_shows_the_first_samples(chapter, stored, tmp_path, monkeypatch):
    sheet = thumbnail_sheet(figures.thumbnail, chapter, tmp_path / "one.svg", monkeypatch)
    (picture,), fold = pictures(sheet), firsts(stored)[0]["fold"][:, 0]
    picture = picture[..., 0]
    assert picture.shape == (3 * 17 - 1, 4 * 17 - 1)
    assert np.array_equal(picture[:16, -16:], fold[3])
    assert np.array_equal(picture[-16:, :16], fold[10])

"""What is drawn of reflected diffusion: every figure and table on results of a tiny preset, and the numbers in them."""

import inspect
import math
import re
import types

import numpy as np
import pytest
from fakes import FakeResult, FakeStored, computed
from showing import (
    assert_finite,
    assert_same_thumbnail_each_time,
    assert_says_what_is_missing,
    cells_of,
    thumbnail_sheet,
    words_not_of_benchmark,
)

from loupe.diffusion.reflected import corner_mixture
from loupe.errors import LoupeError
from loupe.experiment.render import over_seeds, rounded
from loupe.experiment.results import Runs
from loupe.papers import reflected_diffusion as room
from loupe.papers.reflected_diffusion import PRESETS, figures, figures_images, figures_toys

TINY = PRESETS["smoke"].override(
    {
        "draws": 1000, "paths": 1000, "toy_training": {"steps": 4}, "toy_width": 8, "toy_points": 60, "grey_times": 2, "training": {"steps": 4},
        "judge_widths": [8], "samples": 30, "bound_times": 2, "width": 8, "sampler_steps": 4, "guided_steps": 2,
        "toy_sampler_steps": 5, "tolerance": 0.1,
    }
)  # fmt: skip
TOYS = ("toys_reflected", "toys_exploding", "toys_logit", "simplex", "grey_bound")
IMAGES = ("images_reflected", "images_exploding", "image_bound")
NEEDED = {  # of the chapter: figure or table, and the experiments without which there is none
    "scatter": TOYS[:3], "likelihoods": ("toys_reflected", "grey_bound"), "triangle": ("simplex",), "distances": TOYS[:3],
    **dict.fromkeys(
        ("noising", "samples", "guidance_grid", "guidance_curves", "losses", "quality_table", "judge_line"),
        IMAGES[:2],
    ),
}  # fmt: skip
TABLES = ("distances", "quality_table", "judge_line")
PICTURES = tuple(name for name in NEEDED if name not in TABLES)


def drawn(name):
    """A figure or table by name, wherever it lives."""
    return next(getattr(one, name) for one in (figures_toys, figures_images, figures) if hasattr(one, name))


def chapter_of(found, preset="smoke", **others):
    """A chapter at a preset with these results, and with those of other presets."""
    return types.SimpleNamespace(preset=preset, stored=FakeStored.of(found, preset, **others), config=TINY)


# --- results ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """Every experiment of the chapter once, with the settings TINY."""
    return computed(room, TINY, ("identities", "thresholding", *TOYS, *IMAGES), tmp_path_factory)


def other(result, seed):
    """A result of another seed: every measured number, and those in lists, a little different."""
    rng, found = np.random.default_rng(seed), {}
    for key, value in result.items():
        moved = isinstance(value, float) or (isinstance(value, np.ndarray) and key in ("bits", "bound"))
        found[key] = value * (1 + 0.1 * rng.random(np.shape(value))) if moved else value
    return FakeResult(seed, found)


def thrice(tiny):
    """As at larger presets, of three seeds."""
    return {
        name: Runs((one.first, *(other(one.first, seed) for seed in (1, 2)))) for name, one in tiny.items()
    }


def coloured(tiny):
    """The same of colour images."""

    def three(value):
        is_image = isinstance(value, np.ndarray) and value.dtype == np.uint8 and value.ndim == 4
        return np.concatenate([value, 255 - value, value // 2], 1) if is_image else value

    return {
        name: Runs(tuple(FakeResult(run.seed, {key: three(value) for key, value in run.items()}) for run in runs))
        for name, runs in tiny.items()
    }  # fmt: skip


def weighted(tiny, weights):
    """The same with these weights of guidance in place of 0 and 10, and other images for each."""

    def renamed(run):
        found = {key: value for key, value in run.items() if " w=" not in key}
        for key, value in run.items():
            if " w=0" in key:
                found |= {key.replace(" w=0", f" w={w:g}"): np.roll(value, k) for k, w in enumerate(weights)}
        return FakeResult(run.seed, found)

    return {name: Runs(tuple(map(renamed, runs))) for name, runs in tiny.items() if name in IMAGES}


VARIANTS = {
    "one seed": lambda tiny: tiny,
    "three seeds": thrice,
    "colour": coloured,
    "three seeds, colour": lambda tiny: coloured(thrice(tiny)),
}
SEVERAL = pytest.mark.parametrize("change", list(VARIANTS.values())[::3], ids=list(VARIANTS)[::3])


# --- every picture ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["kernel", "forward", "mollifier"])
def test_pictures_that_need_no_results(name, rendered):
    assert getattr(figures, name)() is None
    assert rendered.caption


@pytest.mark.parametrize("name", ["truncation", "boundary", "flows", "convergence"])
def test_pictures_of_one_experiment(name, tiny, rendered):
    draw = getattr(figures, name)
    (experiment,) = inspect.signature(draw).parameters
    assert draw(tiny[experiment]) is None
    assert rendered.caption


@SEVERAL
@pytest.mark.parametrize("name", PICTURES)
def test_pictures_of_networks(name, change, tiny, rendered):
    assert drawn(name)(chapter_of(change(tiny))) is None
    assert rendered.caption


@pytest.mark.parametrize("change", VARIANTS.values(), ids=list(VARIANTS))
@pytest.mark.parametrize("name", TABLES)
def test_tables_of_networks(name, change, tiny):
    head, rows = cells_of(drawn(name)(chapter_of(change(tiny))))
    assert rows
    assert len(set(head)) == len(head)


@pytest.mark.parametrize("name", NEEDED)
def test_what_is_not_computed_yet_is_said_in_one_sentence(name, tiny, shown):
    assert_says_what_is_missing(drawn(name), chapter_of, {one: tiny[one] for one in NEEDED[name]})
    assert not shown.outputs


# --- the kernel, and walls in discrete time -----------------------------------------------------------------


def bells(x, x0, sigma, reach):
    """The sum over images 2k + x0 and 2k - x0 for k from -reach to reach."""
    k = np.arange(-reach, reach + 1)[:, None]
    away = np.concatenate([x - 2 * k - x0, x - 2 * k + x0])
    return np.exp(-((away / sigma) ** 2) / 2).sum(0) / (sigma * math.sqrt(2 * math.pi))


def test_the_kernel_is_that_of_folded_bells(shown):
    figures.kernel()
    above, below = shown.sheet.axes
    solid = above.lines[:-1:2]
    assert [line.get_label() for line in solid] == ["σ = 0.05", "σ = 0.15", "σ = 0.4", "σ = 1"]
    for line, sigma in zip(solid, (0.05, 0.15, 0.4, 1.0), strict=True):
        x, density = line.get_xydata().T
        np.testing.assert_allclose(density, bells(x, 0.1, sigma, 9), rtol=1e-9)
    for line in below.lines[::2]:
        x, score = line.get_xydata().T
        assert np.abs(score[[0, -1]]).max() < 1e-9  # of both walls
    assert "$x_0=0.1$" in shown.caption


def test_the_series_are_as_short_as_the_caption_says(tiny, shown):
    figures.truncation(tiny["identities"])
    (axes,) = shown.sheet.axes
    images, cosines = axes.lines[:4], axes.lines[4:9]
    x = np.linspace(0, 1, 21)
    for reach, line in enumerate(images):
        sigma, rest = line.get_xydata()[60]
        missing = [bells(x, x0, sigma, 30) - bells(x, x0, sigma, reach) for x0 in x]
        assert rest == pytest.approx(np.max(missing), rel=1e-6, abs=1e-13)
    counts = (1, 2, 4, 5, 20)
    for count, line in zip(counts, cosines, strict=True):
        sigma, rest = line.get_xydata()[30]
        k = np.arange(count + 1, 200)
        assert rest == pytest.approx(max(2 * np.exp(-((k * math.pi * sigma) ** 2) / 2).sum(), 1e-30))
    assert [int(text.get_text()) for text in axes.texts] == [2, 6, 10, 14, *counts]
    # Nothing left out that double precision could see: of 14 images on the left, of 5 cosines on the right.
    assert "14 images to its left and 5 cosines to its right" in shown.caption
    sigma = images[3].get_xdata()
    assert images[3].get_ydata()[sigma < math.pi**-0.5].max() < 1e-16
    assert cosines[3].get_ydata()[sigma > math.pi**-0.5].max() < 1e-16


def test_the_series_table_counts_the_terms():
    head, rows = cells_of(figures.series_table())
    assert head == ["noise", "series", "terms, float32", "terms, float64"]
    assert rows == [
        ["σ ≤ 0.15", "images", "5", "5"],
        ["σ < 0.564", "images", "9", "13"],
        ["above", "cosines", "4", "5"],
    ]


def test_the_folding_widget_is_a_fragment():
    kinds = figures.folding()._repr_mimebundle_()
    assert kinds.keys() == {"text/html", "text/plain"}
    assert kinds["text/html"].startswith('<div class="loupe-widget loupe-folding ')
    assert "Noise between walls is noise on a line, folded" in kinds["text/html"]
    assert_finite(kinds["text/plain"])
    assert "NaN" not in kinds["text/html"].split("<script")[0]
    assert kinds == figures.folding()._repr_mimebundle_()


def test_noise_between_walls_stays_there(shown):
    figures.forward()
    assert len(shown.sheet.axes) == 6
    points = [axes.lines[0].get_xydata() for axes in shown.sheet.axes]
    assert {len(one) for one in points} == {700}
    assert "700 points" in shown.caption
    for one in points[:3]:
        assert ((one >= 0) & (one <= 1)).all()
    assert (np.abs(points[5] - 0.5) > 0.5).any(1).mean() > 0.9
    assert [axes.get_title() or axes.get_title("left") for axes in shown.sheet.axes[:3]] == [
        "t = 0, σ = 0.01", "t = 0.5, σ = 0.22", "t = 1, σ = 5",
    ]  # fmt: skip


def test_slopes_are_those_of_the_distances(tiny, shown):
    figures.convergence(tiny["thresholding"])
    run, (axes,) = tiny["thresholding"].first, shown.sheet.axes
    labels = [line.get_label() for line in axes.lines[:2]]
    for walls, label in zip(("clip", "fold"), labels, strict=True):
        slope = np.polyfit(np.log(run["path_steps"]), np.log(run[f"distance_{walls}"]), 1)[0]
        assert label.endswith(f"slope {slope:.2f}".replace("-", "−"))
    assert "1,000 paths" in shown.caption


def test_a_slope_that_rises_is_written_with_one_sign(shown):
    run = {"path_steps": np.array([8, 16, 32]), "distance_fold": np.array([4.0, 2.0, 1.0]),
           "distance_clip": np.array([1.0, 2.0, 4.0]), "noise_floor": 0.5, "paths": 1000}  # fmt: skip
    figures.convergence(Runs((FakeResult(0, run),)))
    labels = [line.get_label() for line in shown.sheet.axes[0].lines[:2]]
    assert labels == ["clipping, slope 1.00", "folding, slope −1.00"]


def test_flows_run_from_noise_to_data(tiny, shown):
    figures.flows(tiny["identities"])
    (axes,) = shown.sheet.axes
    paths = [line.get_xydata() for line in axes.lines if len(line.get_xydata()) == 41]
    assert len(paths) == 60
    assert "Sixty paths" in shown.caption
    ends = np.array([path[-1] for path in paths])
    means = np.array([(0.0, 0.0), (1.0, 0.3), (0.4, 1.0), (0.8, 0.75)])
    assert np.linalg.norm(ends[:, None] - means, axis=-1).min(1).max() < 0.3


# --- speed --------------------------------------------------------------------------------------------------

METHODS = ("loupe", "re-statement", "re-statement with exp2")
UNET, SHARE = "U-Nets", "The kernel in a training step"


def bench():
    """Measurements in the layout of the benchmark, with numbers that are easily told apart."""
    cases = [
        ([128, 3, 32, 32], "training, from 0.01"),
        ([128, 3, 32, 32], "cosines"),
        ([64, 1, 16, 16], "cosines"),
    ]
    networks = ("grey, 16 × 16", "colour, 32 × 32, attention")
    rows = [
        {"task": "Accuracy of the kernel's score", "precision": "float32", "method": method,
         "largest error of sigma |score|": 7e-7} for method in METHODS
    ] + [
        {"task": "The kernel's score", "shape": shape, "noise": noise, "sigma from, to": [0.01, 5.0], "method": method,
         "ms": 100 * k + 10 * rank + 0.25, "times ours": 1.0, "largest error of sigma |score|": 10.0 ** -(3 + k + rank)}
        for k, (shape, noise) in enumerate(cases) for rank, method in enumerate(METHODS)
    ] + [
        {"task": UNET, "network": network, "images in a batch": 64, "method": method, "layout": layout,
         "parameters": 250_000 + rank, "step, ms": 8.0, "step, images a second": 1000.4 * (k + 1) + rank}
        for k, network in enumerate(networks)
        for rank, (method, layout) in enumerate(
            (m, where) for m in ("loupe", "diffusers") for where in ("channels last", "channels first")
        )
    ] + [
        {"task": SHARE, "network": network, "images in a batch": 64, "noising, ms": 0.5 + k, "kernel score, ms": 1.5,
         "step, ms": 50.0, "share of noising and score": (2 + k) / 50}
        for k, network in enumerate(networks)
    ]  # fmt: skip
    return {"environment": {"threads": 1}, "rows": rows}


def test_the_hand_made_measurements_have_the_layout_of_the_benchmark():
    named = ("task", "network", "method", "layout", "noise")
    assert words_not_of_benchmark("reflected_diffusion", bench()["rows"], named) == []


def test_the_speed_table_holds_each_case_once():
    head, rows = cells_of(figures.speed_table(bench()))
    assert head[:2] == ["shape", "noise"]
    assert rows == [
        ["128 × 3 × 32 × 32", "training, from 0.01", "0.2", "10.2", "20.2", "1e-03", "1e-04"],
        ["128 × 3 × 32 × 32", "cosines", "100.2", "110.2", "120.2", "1e-04", "1e-05"],
        ["64 × 1 × 16 × 16", "cosines", "200.2", "210.2", "220.2", "1e-05", "1e-06"],
    ]


def test_the_network_table_has_a_row_for_each_network_layout_and_method():
    head, rows = cells_of(figures.network_table(bench()))
    assert head == ["configuration", "layout", "U-Net", "parameters", "images a second"]
    assert len(rows) == 8
    assert rows[0] == ["grey, 16 × 16", "channels last", "loupe", "250,000", "1,000"]
    assert rows[7] == ["colour, 32 × 32, attention", "channels first", "diffusers", "250,003", "2,004"]


def test_the_share_of_the_kernel_of_one_network():
    quick = [row for row in bench()["rows"] if row["task"] != SHARE or row["network"].startswith("grey")]
    _, rows = cells_of(figures.kernel_share({"rows": quick}))
    assert [row[-4:] for row in rows] == [["0.50", "1.50", "50.00", "4.0 %"]]


def test_the_share_of_the_kernel_of_every_network():
    _, rows = cells_of(figures.kernel_share(bench()))
    assert [row[-4:] for row in rows] == [
        ["0.50", "1.50", "50.00", "4.0 %"], ["1.50", "1.50", "50.00", "6.0 %"],
    ]  # fmt: skip


# --- networks in the square ---------------------------------------------------------------------------------


def test_distances_are_means_over_seeds(tiny):
    head, rows = cells_of(drawn("distances")(chapter_of(thrice(tiny))))
    assert head[1:] == ["seeds", "chessboard: distance × 10⁴", "chessboard: at walls, %", "corners: distance × 10⁴",
                        "corners: at walls, %"]  # fmt: skip
    assert len(rows) == 10
    by_name, found = {row[0]: row[1:] for row in rows}, thrice(tiny)
    for words, experiment, name in (
        ("reflected, clip each step", "toys_reflected", "clip"),
        ("no walls, static threshold", "toys_exploding", "static"),
        ("logits of the data", "toys_logit", "logit"),
    ):
        assert by_name[words] == ["3"] + [
            over_seeds([factor * run[f"{toy} {name} {what}"] for run in found[experiment]], 2)
            for toy in ("squares", "corners") for what, factor in (("distance", 1e4), ("at walls", 100))
        ]  # fmt: skip
    run = tiny["toys_reflected"].first
    _, rows = cells_of(drawn("distances")(chapter_of(tiny)))
    assert rows[-1] == ["other data", "1", *(
        f"{value:.2f}".replace("-", "−") for toy in ("squares", "corners")
        for value in (1e4 * run[f"{toy} floor"], 100 * run[f"{toy} data at walls"])
    )]  # fmt: skip


def test_a_sampler_of_fewer_seeds_stands_beside_others(tiny):
    found = thrice(tiny)
    found["toys_logit"] = Runs(found["toys_logit"].results[:2])
    _, rows = cells_of(drawn("distances")(chapter_of(found)))
    (row,) = (row for row in rows if row[0].startswith("logits of the data"))
    values = [1e4 * run["squares logit distance"] for run in found["toys_logit"]]
    assert row[1:3] == ["2", " … ".join(rounded(value, 2) for value in sorted(values))]


def test_points_are_those_of_the_samplers(tiny, shown):
    drawn("scatter")(chapter_of(tiny))
    assert len(shown.sheet.axes) == 12
    assert "60 points" in shown.caption
    assert "seed 0" in shown.caption
    wanted = [("reflected", "data"), ("reflected", "fold"), ("reflected", "clip"), ("exploding", "static"),
              ("reflected", "flow"), ("logit", "logit")]  # fmt: skip
    places = [(toy, *one) for toy in ("squares", "corners") for one in wanted]
    for axes, (toy, experiment, name) in zip(shown.sheet.axes, places, strict=True):
        points = tiny[f"toys_{experiment}"].first[f"{toy} {name}"]
        assert np.array_equal(axes.lines[0].get_xydata(), points)


def test_the_description_says_where_the_clusters_are(tiny, shown):
    means = corner_mixture().means
    assert ((means == 0) | (means == 1)).any(1).sum() == 3
    drawn("scatter")(chapter_of(tiny))
    assert re.search(r"four clusters, three of them at walls", shown.alt)


def test_the_description_of_flows_says_where_they_end(tiny, shown):
    means = corner_mixture().means
    assert ((means == 0) | (means == 1)).all(1).sum() == 1
    figures.flows(tiny["identities"])
    assert re.search(r"four clusters, one of them in a corner", shown.alt)


@pytest.mark.parametrize("change", [VARIANTS["one seed"], thrice], ids=["one", "three"])
def test_likelihoods_are_of_so_many_points(change, tiny, shown):
    found = change(tiny)
    drawn("likelihoods")(chapter_of(found))
    n = TINY.toy_likelihood_points
    assert f"returns for {n} held-out points" in shown.caption
    assert f"true bits (dashes) of {n} points on 256 grey levels" in shown.caption
    assert f"noise of {TINY.sigma_min:g}" in shown.caption
    above, below = shown.sheet.axes
    assert len(above.lines[0].get_xydata()) == n
    bound, true, entropy = (line.get_ydata() for line in below.lines)
    assert bound == pytest.approx([run["bound"].mean() for run in found["grey_bound"]])
    assert true == pytest.approx([run["surprise"].mean() for run in found["grey_bound"]])
    assert entropy[0] == tiny["grey_bound"].first["entropy"]
    assert [text.get_text() for text in below.get_xticklabels()] == [f"seed {k}" for k in range(len(bound))]


def test_the_triangle_s_caption_has_its_numbers(tiny, shown):
    found = thrice(tiny)
    drawn("triangle")(chapter_of(found))
    runs = found["simplex"]
    outside = 100 * np.mean([run["outside"] for run in runs])
    ours, theirs, floor = (
        1e4 * np.mean([run[f"simplex {name}"] for run in runs])
        for name in ("reflected distance", "none distance", "floor")
    )
    assert f"without walls {outside:.1f} % leave it (mean of 3 seeds)" in shown.caption
    assert f"× 10⁴: {ours:.1f} and {theirs:.1f}; of other data {floor:.1f}." in shown.caption
    data, ours, theirs = (axes.lines[0].get_xydata() for axes in shown.sheet.axes)
    for points in (data, ours):
        assert (points >= -1e-6).all()
        assert (points.sum(1) <= 1 + 1e-6).all()
    # All sixty points are stored and drawn.
    out = ((theirs < 0).any(1) | (theirs.sum(1) > 1)).mean()
    assert out == pytest.approx(tiny["simplex"].first["outside"], abs=1e-6)


def test_one_seed_is_not_called_several(tiny, shown):
    drawn("triangle")(chapter_of(tiny))
    assert "1 seeds" not in shown.caption
    assert "1 seed" in shown.caption


# --- images -------------------------------------------------------------------------------------------------


def tiles(sheet, size, count):
    """The first images of a mosaic of ten columns."""
    step = size + 1
    return np.stack([
        sheet[step * (k // 10) : step * (k // 10) + size, step * (k % 10) : step * (k % 10) + size] for k in range(count)
    ])  # fmt: skip


def pictures(sheet):
    """The arrays of the images that a figure shows, by panel."""
    return [np.asarray(axes.images[0].get_array()) for axes in sheet.axes]


def last(images):
    """Channels last, and none for grey ones."""
    images = np.moveaxis(images, 1, -1)
    return images[..., 0] if images.shape[-1] == 1 else images


@pytest.mark.parametrize("change", [VARIANTS["one seed"], coloured], ids=["grey", "colour"])
def test_samples_are_in_their_rows(change, tiny, shown):
    found = change(tiny)
    drawn("samples")(chapter_of(found))
    ours, theirs = (found[name].first for name in IMAGES[:2])
    wanted = (ours["data"][:20], ours["fold"][:40], ours["neighbours"], theirs["static"][:40])
    for picture, images in zip(pictures(shown.sheet), wanted, strict=True):
        assert np.array_equal(tiles(picture, TINY.image_size, len(images)), last(images))
    assert len(ours["neighbours"]) == 10
    assert f"networks of {ours['parameters']:,} parameters that have seen 64 images" in shown.caption
    assert TINY.training.steps * TINY.training.batch == 64


def test_noise_levels_are_those_of_the_caption(tiny, shown):
    drawn("noising")(chapter_of(tiny))
    levels = ", ".join(f"{0.01 * 500**t:.2g}" for t in (0, 0.35, 0.55, 0.7, 1))
    assert f"Six test images at noise of {levels}, with" in shown.caption
    data = tiny["images_reflected"].first["data"][:6, 0].astype(float)
    for picture in pictures(shown.sheet):
        states = tiles(picture, TINY.image_size, 30).reshape(6, 5, TINY.image_size, TINY.image_size)
        assert np.abs(states[:, 0] - data).max() < 255 * 0.06
    folded, clipped = pictures(shown.sheet)
    noise = [tiles(each, TINY.image_size, 30)[4::5] for each in (folded, clipped)]
    extreme = [np.isin(each, (0, 255)).mean() for each in noise]
    assert extreme[0] < 0.1 < 0.8 < extreme[1]


def test_colours_do_not_mix(tiny, shown):
    """The channels of a colour image are its own noisy channels, each by itself."""
    drawn("noising")(chapter_of(coloured(tiny)))
    first = tiny["images_reflected"].first["data"][:6, 0].astype(float)
    for picture in pictures(shown.sheet):
        clean = tiles(picture, TINY.image_size, 30)[::5].astype(float)
        for k, data in enumerate((first, 255 - first, first // 2)):
            assert np.abs(clean[..., k] - data).max() < 255 * 0.06


def test_the_quality_table_holds_what_was_measured(tiny):
    head, rows = cells_of(drawn("quality_table")(chapter_of(tiny)))
    assert len(head) == 7
    assert len(rows) == 11
    by_name, run = {row[0]: row[1:] for row in rows}, tiny["images_exploding"].first
    off = 100 * sum(abs(run[f"static {what}"] - run[f"train {what}"]) for what in ("dark", "bright"))
    assert by_name["no walls, static threshold"] == [
        f"{run['static distance']:.2f}", f"{run['static class score']:.2f}", f"{100 * run['static accuracy']:.0f}",
        f"{run['static sliced']:.3f}", f"{off:.1f}", str(run["static evaluations"]),
    ]  # fmt: skip
    assert by_name["training images"][4:] == ["0.0", ""]
    assert by_name["uniform noise"][0] == f"{tiny['images_reflected'].first['noise distance']:.2f}"


def test_the_quality_of_three_seeds_has_a_spread(tiny):
    found = thrice(tiny)
    _, rows = cells_of(drawn("quality_table")(chapter_of(found)))
    values = np.array([run["fold sliced"] for run in found["images_reflected"]])
    assert rows[0][0] == "reflected, fold"
    assert rows[0][4] == f"{values.mean():.3f} ± {math.sqrt(values.var(ddof=1)):.3f}"
    assert rows[0][6] == f"{found['images_reflected'].first['fold evaluations']} ± 0"


def test_the_judge_is_described(tiny):
    run = tiny["images_reflected"].first
    _, rows = cells_of(drawn("judge_line")(chapter_of(tiny)))
    assert [value for _, value in rows] == [
        f"{100 * run['judge_accuracy']:.1f} %",
        run["judge_digest"],
        run["variant"],
    ]


def test_a_lossy_copy_of_the_images_says_so(tiny):
    said = {
        name: Runs((FakeResult(0, dict(tiny[name].first) | {"variant": "a lossy copy"}),)) for name in IMAGES
    }
    head, _ = cells_of(drawn("quality_table")(chapter_of(said)))
    plain, _ = cells_of(drawn("quality_table")(chapter_of(tiny)))
    assert "(a lossy copy)" in head[1]
    assert head[1].replace(" (a lossy copy)", "") == plain[1]


def test_losses_are_of_every_step(tiny, shown):
    drawn("losses")(chapter_of(tiny))
    for line, name in zip(shown.sheet.axes[0].lines, IMAGES[:2], strict=True):
        assert line.get_xdata().tolist() == [0.5, 1.5, 2.5, 3.5]
        assert np.array_equal(line.get_ydata(), tiny[name].first["loss"])


def test_losses_of_many_steps_are_means_of_blocks(tiny, shown):
    loss = np.arange(1.0, 251)
    found = {name: Runs((FakeResult(0, dict(tiny[name].first) | {"loss": loss}),)) for name in IMAGES[:2]}
    drawn("losses")(chapter_of(found))
    x, y = shown.sheet.axes[0].lines[0].get_xydata().T
    assert x[:2].tolist() == [2, 6]
    assert y[:2].tolist() == [2.5, 6.5]
    assert len(y) == 62


# --- guidance -----------------------------------------------------------------------------------------------

FEW = pytest.mark.parametrize(
    ("weights", "words"),
    [((3,), ["3"]), ((0, 10), ["0", "10"]), ((0, 1, 2.5, 5, 10), ["0", "2.5", "10"]), ((10, 5, 0), ["0", "5", "10"])],
    ids=str,
)  # fmt: skip


@FEW
def test_a_row_of_the_grid_is_a_weight(weights, words, tiny, shown):
    found = weighted(coloured(tiny) if len(weights) == 2 else tiny, weights)
    drawn("guidance_grid")(chapter_of(found))
    assert f"with weights of guidance {', '.join(words)} from top to bottom" in shown.caption
    names = [("reflected", "fold"), ("reflected", "flow"), ("reflected", "mollified"), ("exploding", "flow"),
             ("exploding", "static"), ("exploding", "dynamic")]  # fmt: skip
    for picture, (experiment, name) in zip(pictures(shown.sheet), names, strict=True):
        assert len(picture) == len(words) * (TINY.image_size + 1) - 1
        run = found[f"images_{experiment}"].first
        images = np.concatenate([run[f"{name} w={w}"] for w in words])
        assert np.array_equal(tiles(picture, TINY.image_size, 10 * len(words)), last(images))


@FEW
def test_curves_have_a_point_for_every_weight(weights, words, tiny, shown):
    drawn("guidance_curves")(chapter_of(weighted(tiny, weights)))
    assert shown.caption
    above, middle, below = shown.sheet.axes
    assert [len(axes.lines) for axes in (above, middle, below)] == [3, 7, 6]
    for line in above.lines:
        assert line.get_xdata().tolist() == sorted(weights)


def test_curves_are_means_over_seeds(tiny, shown):
    found = thrice(tiny)
    drawn("guidance_curves")(chapter_of(found))
    run = tiny["images_reflected"].first
    assert f"classifier, {100 * run['judge_accuracy']:.1f} % right on test images" in shown.caption
    above, middle, below = ({line.get_label(): line for line in axes.lines} for axes in shown.sheet.axes)
    runs = found["images_exploding"]
    assert above["no walls, flow"].get_ydata() == pytest.approx(
        [np.mean([run[f"flow w={w} overshoot"] for run in runs]) for w in (0, 10)]
    )
    assert above["reflected, flow"].get_ydata() == pytest.approx([0, 0])
    over = [100 * (run["dynamic w=10 bright"] - run["train bright"]) for run in runs]
    assert middle["no walls, dynamic"].get_ydata()[1] == pytest.approx(np.mean(over))
    right = [100 * run["fold w=0 accuracy"] for run in found["images_reflected"]]
    assert below["reflected, fold"].get_ydata()[0] == pytest.approx(np.mean(right))


def test_curves_say_of_how_many_seeds_they_are_means(tiny, shown):
    drawn("guidance_curves")(chapter_of(thrice(tiny)))
    assert re.search(r"\b(3|three) seeds", shown.caption.lower())


def test_fewer_images_than_a_row_holds_are_refused_before():
    for values in ({"guided": 9}, {"samples": 19}, {"likelihood_images": 9}, {"weights": [1.0]}):
        with pytest.raises(LoupeError, match=next(iter(values))):
            TINY.override(values)


def test_a_short_row_ends_white():
    images = np.zeros((7, 1, 8, 8), np.uint8)
    sheet = figures_images.mosaic(images)
    assert sheet.shape == (8, 89)
    assert (sheet[:, :62] == 0).sum() == 7 * 64
    assert (sheet[:, 62:] == 255).all()
    assert figures_images.mosaic(images[:1]).shape == (8, 89)


def test_few_samples_are_drawn_as_they_are(tiny, shown):
    found = {}
    for name in IMAGES[:2]:
        run = dict(tiny[name].first)
        run |= {key: run[key][:7] for key in ("data", "fold", "static", "neighbours") if key in run}
        found[name] = Runs((FakeResult(0, run),))
    drawn("samples")(chapter_of(found))
    assert shown.caption
    assert {picture.shape for picture in pictures(shown.sheet)} == {(8, 89)}


# --- presets ------------------------------------------------------------------------------------------------


def accurate(runs, judge):
    """The same with a classifier of this accuracy."""
    return Runs(tuple(FakeResult(run.seed, dict(run) | {"judge_accuracy": judge}) for run in runs))


def test_images_are_never_of_two_presets(tiny):
    ours, theirs = ({name: accurate(tiny[name], 0.1)} for name in IMAGES[:2])
    both = {name: accurate(tiny[name], 0.7) for name in IMAGES[:2]}
    for found in (
        chapter_of(ours, cpu=theirs),
        chapter_of(ours, gpu=theirs),
        chapter_of({}, gpu=ours, cpu=theirs),
    ):
        assert str(drawn("judge_line")(found)).endswith("has not been computed yet.")
    for found in (chapter_of({}, gpu=ours, cpu=both), chapter_of(both, gpu=ours | theirs)):
        assert cells_of(drawn("judge_line")(found))[1][0] == ["test accuracy", "70.0 %"]


def test_half_a_preset_does_not_hide_a_whole_one(tiny):
    own, whole = {IMAGES[0]: tiny[IMAGES[0]]}, {name: accurate(tiny[name], 0.7) for name in IMAGES[:2]}
    _, rows = cells_of(drawn("judge_line")(chapter_of(own, cpu=whole)))
    assert rows[0] == ["test accuracy", "70.0 %"]


@pytest.mark.parametrize("name", ["scatter", "distances"])
def test_points_are_never_of_two_presets(name, tiny, shown):
    own = {"toys_reflected": tiny["toys_reflected"]}
    rest = {one: tiny[one] for one in ("toys_exploding", "toys_logit")}
    assert str(drawn(name)(chapter_of(own, cpu=rest))).endswith("has not been computed yet.")


@pytest.mark.parametrize("name", PICTURES)
def test_a_picture_of_another_preset_says_so(name, tiny, shown):
    assert drawn(name)(chapter_of({}, cpu=tiny)) is None
    assert "`cpu`" in shown.caption


@pytest.mark.parametrize("name", TABLES)
def test_a_table_of_another_preset_says_so(name, tiny):
    assert "cpu" in str(drawn(name)(chapter_of({}, cpu=tiny)))


# --- the thumbnail ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("change", [VARIANTS["one seed"], coloured], ids=["grey", "colour"])
def test_the_thumbnail_is_the_same_each_time(change, tiny, tmp_path):
    assert_same_thumbnail_each_time(drawn("thumbnail"), chapter_of(change(tiny)), tmp_path)


def test_the_thumbnail_shows_the_first_samples(tiny, tmp_path, monkeypatch):
    sheet = thumbnail_sheet(drawn("thumbnail"), chapter_of(tiny), tmp_path / "one.png", monkeypatch)
    (picture,), size = pictures(sheet), TINY.image_size
    assert picture.shape == (3 * (size + 1) - 1, 4 * (size + 1) - 1)
    fold = tiny["images_reflected"].first["fold"][:, 0]
    assert np.array_equal(picture[:size, -size:], fold[3])
    assert np.array_equal(picture[-size:, :size], fold[10])


def test_the_book_finds_the_thumbnail():
    """It asks the module ``figures`` of every room."""
    assert callable(getattr(figures, "thumbnail", None))

"""What is drawn of the kernel, of walls in discrete time, and of the benchmark."""

import math

import numpy as np
import pytest
from showing import assert_finite, cells_of

from loupe import open_chapter
from loupe.papers.reflected_diffusion import figures


@pytest.fixture(scope="module")
def stored():
    return open_chapter("reflected_diffusion", preset="cpu").stored


@pytest.mark.parametrize(
    ("name", "experiment"),
    [("kernel", ""), ("forward", ""), ("mollifier", ""), ("truncation", "identities"), ("boundary", "identities"),
     ("flows", "identities"), ("convergence", "thresholding")],
)  # fmt: skip
def test_pictures_of_what_is_exact(name, experiment, stored, rendered):
    given = [stored[experiment]] if experiment else []
    assert getattr(figures, name)(*given) is None
    assert rendered.caption


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


def test_the_series_are_as_short_as_the_caption_says(stored, shown):
    figures.truncation(stored["identities"])
    (axes,) = shown.sheet.axes
    images, cosines = axes.lines[:4], axes.lines[5:10]
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


def test_slopes_are_those_of_the_distances(stored, shown):
    figures.convergence(stored["thresholding"])
    run, (axes,) = stored["thresholding"].first, shown.sheet.axes
    labels = [line.get_label() for line in axes.lines[:2]]
    for walls, label in zip(("clip", "fold"), labels, strict=True):
        slope = np.polyfit(np.log(run["path_steps"]), np.log(run[f"distance_{walls}"]), 1)[0]
        assert label.endswith(f"slope {slope:.2f}".replace("-", "−"))
    assert "400,000 paths" in shown.caption


def test_flows_run_from_noise_to_data(stored, shown):
    figures.flows(stored["identities"])
    (axes,) = shown.sheet.axes
    paths = [line.get_xydata() for line in axes.lines if len(line.get_xydata()) == 41]
    assert len(paths) == 60
    assert "Sixty paths" in shown.caption
    ends = np.array([path[-1] for path in paths])
    means = np.array([(0.0, 0.0), (1.0, 0.3), (0.4, 1.0), (0.8, 0.75)])
    assert np.linalg.norm(ends[:, None] - means, axis=-1).min(1).max() < 0.3


# --- speed --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def bench():
    return open_chapter("reflected_diffusion", preset="cpu").benchmark()


def test_the_speed_table_holds_each_case_once(bench):
    _, rows = cells_of(figures.speed_table(bench))
    found = [row for row in bench["rows"] if row["task"] == "The kernel's score"]
    ours, theirs = ([row for row in found if row["method"] == name] for name in ("loupe", "re-statement"))
    assert len({tuple(row[:2]) for row in rows}) == len(rows)
    for row, one, other in zip(rows, ours, theirs, strict=True):
        assert row[:4] == [
            " × ".join(map(str, one["shape"])),
            one["noise"],
            f"{one['ms']:.1f}",
            f"{other['ms']:.1f}",
        ]
        assert row[5:] == [f"{each['largest error of sigma |score|']:.0e}" for each in (one, other)]


@pytest.mark.parametrize(
    ("draw", "task", "last"),
    [(figures.network_table, "U-Nets", lambda row: f"{row['step, images a second']:,.0f}"),
     (figures.kernel_share, "The kernel in a training step", lambda row: f"{row['share of noising and score']:.1%}")],
)  # fmt: skip
def test_tables_of_the_benchmark_hold_each_measurement(draw, task, last, bench):
    _, rows = cells_of(draw(bench))
    measured = [row for row in bench["rows"] if row["task"] == task]
    assert [(row[0], row[-1]) for row in rows] == [(row["network"], last(row)) for row in measured]

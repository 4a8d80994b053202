"""The chapter's pictures of the kernel, of walls in discrete time, and of flows with an exact score."""

import math

import numpy as np
import torch

from loupe.diffusion.reflected import (
    ReflectedSDE,
    bump,
    corner_mixture,
    fold,
    kernel_log_density,
    kernel_score,
)
from loupe.diffusion.reflected.kernel import BALANCE, COSINES, FEW_IMAGES, REACH
from loupe.experiment.render import table
from loupe.papers.drawing import bench_table
from loupe.papers.reflected_diffusion.claims import orders
from loupe.plotting import (
    MUTED,
    SERIES,
    TRUTH,
    figure,
    folding_kernel,
    log_axis,
    series,
    shades,
    show,
    thumbnail_axes,
)

RANK = {"reflected": 0, "static": 1, "dynamic": 2, "logit": 3, "clip": 4, "none": 5}
"""The color of each way to treat walls, in every figure."""

OURS, PLAIN = SERIES[0].colour, SERIES[RANK["none"]].colour
SIGMAS = (0.05, 0.15, 0.4, 1.0)
START = 0.1
COLUMNS = 10  # of a mosaic


# --- the kernel ---------------------------------------------------------------------------------------------


def folding():
    """F1, to play with: noise that is folded at the walls."""
    x, starts = torch.linspace(0, 1, 101, dtype=torch.float64), (0.1, 0.3, 0.5)
    sigmas = np.unique(np.geomspace(0.05, 1.5, 44).round(2))
    first = torch.tensor(starts, dtype=x.dtype).view(-1, 1, 1)
    grid = torch.broadcast_tensors(x, first, torch.from_numpy(sigmas).unsqueeze(1))
    return folding_kernel(
        x.numpy(), sigmas, starts, kernel_log_density(*grid).exp().numpy(),
        title="Noise between walls is noise on a line, folded",
        alt="A bell curve over the line from minus 2 to 3, cut at the whole numbers. Its pieces, folded onto the interval "
        "from 0 to 1, add up to the density between reflecting walls.",
    )  # fmt: skip


def kernel():
    """F2: density and score of the kernel at four noise levels."""
    x = torch.linspace(0, 1, 401, dtype=torch.float64)
    sheet, panels = figure(height=5.6, rows=2, sharex=True)
    start = torch.full_like(x, START)
    for sigma, colour in zip(SIGMAS, shades(len(SIGMAS)), strict=True):
        panels[0].plot(x, kernel_log_density(x, start, sigma).exp(), color=colour, label=f"σ = {sigma:g}")
        bell = torch.exp(-(((x - START) / sigma) ** 2) / 2) / (sigma * math.sqrt(2 * math.pi))
        panels[0].plot(x, bell, ":", color=colour, linewidth=1)
        panels[1].plot(x, sigma * kernel_score(x, start, sigma), color=colour)
        panels[1].plot(x, (START - x) / sigma, ":", color=colour, linewidth=1)
    panels[0].axvline(START, **TRUTH)
    panels[0].set(ylabel="density", ylim=(0, 9), title="Near a wall the density piles up …")
    panels[0].legend(loc="upper right")
    panels[1].set(
        ylabel="σ · score", xlabel="x", ylim=(-3.2, 1.2), title="… and its score vanishes at both walls"
    )
    show(
        sheet,
        alt="Above, densities over the interval from 0 to 1 for four noise levels: a narrow peak at 0.1, wider ones that "
        "are higher at the left wall than a bell curve, and nearly a flat line. Below, their scores, which all are zero "
        "at both walls, where the straight lines of bell curves are not.",
        caption="Density and score of the kernel from $x_0=0.1$ (dashed), at four noise levels; dotted, in the same "
        "colors, without walls. The score is multiplied by $\\sigma$, which is about what a network has to learn.",
    )


def truncation(identities):
    """F3: what leaving out terms costs, for both series."""
    run = identities.first
    sigma = run["truncation_sigma"]
    sheet, axes = figure(height=3.8)
    for name, counts, line, colour, height, side in (
        ("images", (2, 6, 10, 14), "-", OURS, 1e-15, "right"),
        ("cosines", (1, 2, 4, 5, 20), "--", SERIES[1].colour, 1e-11, "left"),
    ):
        for rest, terms in zip(np.maximum(run[f"truncation_{name}"], 1e-30), counts, strict=True):
            axes.plot(sigma, rest, line, color=colour, linewidth=1.2)
            at = int(np.argmin(np.abs(np.log(rest) - math.log(height))))
            axes.annotate(str(terms), (sigma[at], height), color=colour, ha=side, va="bottom")
        axes.plot([], [], line, color=colour, label=name)
    axes.axvline(BALANCE, **TRUTH)
    axes.set(ylim=(1e-18, 10), xlabel="noise σ", ylabel="largest error of the density")
    axes.set_title("Each series is short on its side of $\\sigma^2=1/\\pi$")
    log_axis(axes, "xy")
    axes.legend(loc="lower left")
    show(
        sheet,
        alt="Errors on a log axis against noise. Solid lines for images rise steeply to the right, dashed lines for "
        "cosines fall steeply to the right; with 14 images and 5 cosines both have left the picture "
        "where they change places.",
        caption="What is left out with so many terms (numbers at the lines), at the worst place of a 21 by 21 grid of $x$ "
        "and $x_0$. Dashed: where the two change places. With 14 images to its left and 5 cosines to its right nothing "
        "is left out that double precision could see. The code drops one image more, the farthest: 13, and 9 in float32.",
    )


def boundary(identities):
    """F5: the score that two forms of score matching find in polynomials of degree five."""
    run = identities.first
    sheet, axes = figure(height=3.6)
    axes.plot(run["fit_x"], run["fit_score"], **TRUTH, label="true score")
    axes.plot(run["fit_x"], run["explicit_fit"], color=OURS, label="denoising, or explicit")
    axes.plot(
        run["fit_x"], run["implicit_fit"], "-.", color=SERIES[1].colour, label="implicit, no boundary term"
    )
    axes.set(xlabel="x", ylabel="score", title="Without the boundary term the fit is wrong everywhere")
    reach = 1.15 * np.abs(run["implicit_fit"][5:-5]).max()
    axes.set_ylim(-reach, reach)
    axes.legend(loc="upper center")
    show(
        sheet,
        alt="Three curves over the interval. The fit by denoising lies on the true score, the fit by implicit score "
        "matching swings far above and below it, and leaves the picture near both walls.",
        caption="The polynomial of degree 5 that minimizes each form exactly (by quadrature), for the first coordinate "
        "of the corner mixture with noise of 0.3. Denoising has the same minimizer as the explicit form, which is drawn.",
    )


# --- walls in discrete time ---------------------------------------------------------------------------------


def forward():
    """F4: the corner mixture under both diffusions."""
    sde, generator = ReflectedSDE(), torch.Generator().manual_seed(0)
    x, _ = corner_mixture().sample(700, generator)
    noise = torch.randn(x.shape, generator=generator, dtype=x.dtype)
    sheet, panels = figure(height=4.2, rows=2, columns=3)
    sheet.suptitle("With walls noise fills the square, without it leaves", x=0.01, ha="left", weight="bold")
    for row, walls in zip(panels, (True, False), strict=True):
        for axes, t in zip(row, (0, 0.5, 1), strict=True):
            sigma = float(sde.sigma(t))
            points = x + sde.sigma(t) * noise
            axes.plot(
                *(fold(points) if walls else points).T, ".", markersize=1.6, color=OURS if walls else PLAIN
            )
            axes.plot([0, 1, 1, 0, 0], [0, 0, 1, 1, 0], **TRUTH)
            half = 0.55 if walls or t == 0 else max(1.1, 2.2 * sigma)
            axes.set(xlim=(0.5 - half, 0.5 + half), ylim=(0.5 - half, 0.5 + half), aspect="equal")
            axes.set_title(f"t = {t:g}, σ = {sigma:.2g}")
            panels[0, 0].set_ylabel("with walls")
    panels[1, 0].set_ylabel("without")
    show(
        sheet,
        alt="Two rows of three scatter plots. Above, four clusters in a square spread out and fill the square evenly. "
        "Below, they spread far beyond the square, which in the end is a speck in the middle.",
        caption="700 points of the corner mixture at times 0, 0.5 and 1, with the same noise. Above the reflected process: "
        "it ends uniform. Below the same without walls; mind the axes. Dashed: the square. One draw.",
    )


def convergence(thresholding):
    """F6: distances from the exact distribution against the number of steps."""
    run = thresholding.first
    fold_slope, clip_slope = (f"{slope:.2f}".replace("-", "−") for slope in orders(run))
    sheet, axes = figure(height=3.8)
    for walls, words, rank in (("clip", f"clipping, slope {clip_slope}", RANK["clip"]),
                               ("fold", f"folding, slope {fold_slope}", 0)):  # fmt: skip
        axes.plot(run["path_steps"], run[f"distance_{walls}"], **series(rank), label=words)
    axes.axhline(run["noise_floor"], **TRUTH)
    axes.annotate("exact draws", (run["path_steps"][0], run["noise_floor"]), va="bottom")
    log_axis(axes, "xy")
    axes.set_xticks(run["path_steps"], [str(n) for n in run["path_steps"]])
    axes.set(xlabel="steps", ylabel="Wasserstein distance", title="Folding converges faster than clipping")
    axes.legend(loc="upper right")
    show(
        sheet,
        alt="Two falling lines on log axes. That of clipping falls by about the square root of the number of steps, that "
        "of folding in proportion to it, to near the level of exact draws.",
        caption=f"A reflected process on [0, 1] that is pulled toward 0.1, after time 1 from its stationary distribution: "
        f"distance from it, {int(run['paths']):,} paths, the same noise for both. Slopes by least squares; "
        "the last points of folding come near the floor.",
    )


# --- flows --------------------------------------------------------------------------------------------------


def flows(identities):
    """F7: paths of the probability flow with an exact score, over the score at one noise level."""
    run, mixture = identities.first, corner_mixture()
    sheet, axes = figure(height=5.0)
    grid = torch.linspace(0.03, 0.97, 13, dtype=torch.float64)
    places = torch.cartesian_prod(grid, grid)
    arrows = 0.15 * mixture.score(places, 0.15)
    size = arrows.norm(dim=1, keepdim=True)
    arrows = arrows / size * size.clamp(max=1.0)
    axes.quiver(*places.T, *arrows.T, color=MUTED, alpha=0.55, width=0.003, scale=26)
    paths = run["flow_paths"]
    seen = paths[np.linspace(0, len(paths) - 1, 25).round().astype(int)]
    for path in seen.transpose(1, 0, 2):
        axes.plot(*path.T, color=OURS, linewidth=0.8, alpha=0.8)
    axes.plot(*paths[0].T, ".", color=SERIES[3].colour, markersize=4, label="noise")
    axes.plot(*paths[-1].T, "o", color=OURS, markersize=3.5, label="end")
    axes.set(xlim=(0, 1), ylim=(0, 1), aspect="equal", xlabel="$x_1$", ylabel="$x_2$")
    axes.set_title("The flow slides along walls and never through them")
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1))
    show(
        sheet,
        alt="A square with sixty curves that start all over it and end in four clusters, one of them in a corner, "
        "two at an edge and one inside. Arrows of the score run along the edges, never across them.",
        caption="Sixty paths of the probability flow with the exact score of the corner mixture, from uniform noise to "
        "data. Arrows: the score at σ = 0.15, long ones shortened.",
    )


def mollifier():
    """F8: the function by which the velocity is multiplied near walls."""
    x = torch.linspace(0, 1, 801, dtype=torch.float64)
    sheet, axes = figure(height=2.6)
    widths = (20.0, 200.0, 2000.0)
    for width, shade in zip(widths, shades(len(widths)), strict=True):
        axes.plot(x, bump(x, width), color=shade, label=f"{width:g}")
    axes.set(xlabel="x", ylabel="factor", title="The mollifier stops the flow at the walls")
    axes.legend(title="width", loc="lower center")
    show(
        sheet,
        alt="Three curves that are 1 over most of the interval and fall to 0 at both walls, the more steeply the greater "
        "their width.",
        caption="The factor $\\exp\\bigl(\\bigl(4-\\tfrac{1}{x(1-x)}\\bigr)/m\\bigr)$ for three widths $m$; "
        "the released sampler's is 200.",
    )


def speed_table(bench):
    """What the kernel's score costs, beside a re-statement of the published algorithm."""
    rows = {}
    for row in bench["rows"]:
        if row["task"] == "The kernel's score":
            rows.setdefault((" × ".join(map(str, row["shape"])), row["noise"]), {})[row["method"]] = row
    ours, theirs, quicker = "loupe", "re-statement", "re-statement with exp2"
    cells = [
        (*case, *(f"{by[name]['ms']:.1f}" for name in (ours, theirs, quicker)),
         *(f"{by[name]['largest error of sigma |score|']:.0e}" for name in (ours, theirs)))
        for case, by in rows.items()
    ]  # fmt: skip
    head = ("shape", "noise", "ours, ms", "re-statement, ms", "with exp2, ms", "our error", "its error")
    return table(head, cells, numeric=True)


def network_table(bench):
    """Images a second in a training step of two U-Nets of equal size."""
    return bench_table(
        bench, "U-Nets",
        {"configuration": "{network}", "layout": "{layout}", "U-Net": "{method}", "parameters": "{parameters:,}",
         "images a second": "{step, images a second:,.0f}"},
    )  # fmt: skip


def kernel_share(bench):
    """The share of noising and the kernel's score in a training step."""
    return bench_table(
        bench, "The kernel in a training step",
        {"configuration": "{network}", "noising, ms": "{noising, ms:.2f}", "kernel's score, ms": "{kernel score, ms:.2f}",
         "step, ms": "{step, ms:.2f}", "share of both": "{share of noising and score:.1%}"},
    )  # fmt: skip


def series_table():
    """Which series is summed where, and how many terms of it."""
    digits = (torch.float32, torch.float64)
    rows = [
        (f"σ ≤ {FEW_IMAGES:g}", "images", "5", "5"),
        (f"σ < {BALANCE:.3f}", "images", *(str(4 * REACH[each] + 1) for each in digits)),
        ("above", "cosines", *(str(COSINES[each]) for each in digits)),
    ]
    return table(("noise", "series", "terms, float32", "terms, float64"), rows, numeric=False)


# --- images -------------------------------------------------------------------------------------------------


def mosaic(images, columns=COLUMNS, gap=1):
    """Images (n, C, H, W) of uint8 in rows, with gaps through which the page is seen: (height, width, 4)."""
    images = np.moveaxis(np.asarray(images), 1, -1)
    images = np.concatenate(
        [np.broadcast_to(images, (*images.shape[:3], 3)), np.full_like(images[..., :1], 255)], -1
    )
    images = np.pad(images, ((0, -len(images) % columns), (0, gap), (0, gap), (0, 0)))
    _, height, width, channels = images.shape
    rows = images.reshape(-1, columns, height, width, channels).swapaxes(1, 2)
    return rows.reshape(-1, columns * width, channels)[:-gap, :-gap]


def thumbnail(chapter, target):
    """Images that came out of noise between walls, four in a row."""
    images = chapter.stored["images_reflected"].first["fold"]
    grid = mosaic(np.concatenate([images[:8], images[10:14]]), columns=4)
    with thumbnail_axes(target) as axes:
        axes.imshow(grid)

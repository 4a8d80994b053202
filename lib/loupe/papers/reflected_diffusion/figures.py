"""The chapter's figures and tables: the kernel, walls in discrete time, flows, and networks in the square."""

import math

import numpy as np
import torch

from loupe.diffusion.reflected import corner_mixture, kernel_log_density, kernel_score
from loupe.experiment.render import score_table, table
from loupe.papers.drawing import Picture, bench_table, drawn_from, mosaic
from loupe.papers.reflected_diffusion.claims import excess_mass, order, value
from loupe.plotting import BLACK, MUTED, SERIES, TRUTH, figure, log_axis, series, shades, show, thumbnail_axes
from loupe.plotting.widgets import folding_kernel

RANK = {"reflected": 0, "static": 1, "dynamic": 2, "clip": 4, "none": 5}
"""The color of each way to treat walls, in every figure."""

METHODS = {  # twin, sampler: words
    ("reflected", "fold"): "reflected", ("reflected", "short"): "reflected, starts at σ = 1.5",
    ("reflected", "clip"): "reflected, clip each step", ("reflected", "flow"): "reflected, flow",
    ("reflected", "mollified"): "reflected, mollified flow", ("exploding", "none"): "no walls, clip at the end",
    ("exploding", "static"): "no walls, static threshold", ("exploding", "dynamic"): "no walls, dynamic threshold",
}  # fmt: skip
TOYS = {"squares": "chessboard", "corners": "corners"}
SQUARE = ("toys_exploding", "toys_logit", "toys_reflected")
SHOWN = 1000  # points of a panel
SIGMAS = (0.05, 0.15, 0.4, 1.0)
START = 0.1


# --- the kernel and the loss --------------------------------------------------------------------------------


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
    x = torch.linspace(0, 1, 201, dtype=torch.float64)
    sheet, (above, below) = figure(height=5.6, rows=2, sharex=True)
    start = torch.full_like(x, START)
    for sigma, color in zip(SIGMAS, shades(len(SIGMAS)), strict=True):
        bell = torch.exp(-(((x - START) / sigma) ** 2) / 2) / (sigma * math.sqrt(2 * math.pi))
        above.plot(x, kernel_log_density(x, start, sigma).exp(), color=color, label=f"σ = {sigma:g}")
        above.plot(x, bell, ":", color=color, linewidth=1)
        below.plot(x, sigma * kernel_score(x, start, sigma), color=color)
        below.plot(x, (START - x) / sigma, ":", color=color, linewidth=1)
    above.axvline(START, **TRUTH)
    above.set(ylabel="density", ylim=(0, 9), title="The density piles up at a near wall …")
    above.legend(loc="upper right")
    below.set(
        xlabel="x", ylabel="σ · score", ylim=(-3.2, 1.2), title="… and the score vanishes at both walls"
    )
    show(
        sheet,
        alt="Above, densities over the interval from 0 to 1 for four noise levels: a narrow peak at 0.1, wider ones that "
        "are higher at the left wall than a bell curve, and nearly a flat line. Below, their scores, which are all zero "
        "at both walls, unlike the straight lines of bell curves.",
        caption="Density and score of the kernel from $x_0=0.1$ (dashed) at four noise levels; dotted: without walls. The "
        "score is multiplied by $\\sigma$, which is what a network learns.",
    )


@drawn_from("identities", what="score matching", seeds="")
def boundary(found):
    """F3: the score that two forms of score matching find in polynomials of degree five."""
    run = found.runs.first
    x, reach = run["fit_x"], 1.15 * np.abs(run["implicit_fit"][5:-5]).max()
    sheet, axes = figure(height=3.4)
    axes.plot(x, run["fit_score"], **TRUTH, label="true score")
    axes.plot(x, run["explicit_fit"], color=SERIES[0].color, label="denoising")
    axes.plot(x, run["implicit_fit"], "-.", color=SERIES[1].color, label="implicit, no boundary term")
    axes.set(xlabel="x", ylabel="score", ylim=(-reach, reach))
    axes.set_title("Without the boundary term the fit is wrong everywhere")
    axes.legend(loc="upper center")
    return Picture(
        sheet,
        "Three curves over the interval. The fit by denoising lies on the true score, the fit by implicit score "
        "matching swings far above and below it, and leaves the picture near both walls.",
        "The polynomial of degree 5 that minimizes each form of score matching, by quadrature, for the first coordinate "
        "of the corner mixture with noise of 0.3.",
    )


# --- the way back -------------------------------------------------------------------------------------------


@drawn_from("thresholding", what="the order of clipping", seeds="first")
def convergence(found):
    """F4: distances from the exact distribution against the number of steps."""
    run = found.runs.first
    steps, floor = run["path_steps"], run["floor"]
    sheet, axes = figure(height=3.6)
    for walls, words, rank in (("clip", "clipping", RANK["clip"]), ("fold", "folding", RANK["reflected"])):
        label = f"{words}, slope {order(run, walls):.2f}".replace("-", "−")
        axes.plot(steps, run[walls], **series(rank), label=label)
    axes.axhline(floor, **TRUTH)
    axes.annotate("exact draws", (steps[0], floor), va="bottom")
    log_axis(axes, "xy")
    axes.set_xticks(steps, map(str, steps))
    axes.set(xlabel="steps", ylabel="Wasserstein distance", title="Folding converges faster than clipping")
    axes.legend(loc="upper right")
    return Picture(
        sheet,
        "Two falling lines on log axes. That of clipping falls by about the square root of the number of steps, that "
        "of folding in proportion to it, to near the level of exact draws.",
        "A reflected process on [0, 1], pulled toward 0.1, after time 1: distance from its stationary distribution, where "
        f"it started. {int(run['paths']):,} paths, with the same noise for both. Slopes by least squares.",
    )


@drawn_from("identities", what="the exact flow", seeds="")
def flows(found):
    """F5: paths of the probability flow with an exact score, over the score at one noise level."""
    paths = found.runs.first["flow_paths"]
    sheet, axes = figure(height=4.6)
    grid = torch.linspace(0.03, 0.97, 13, dtype=torch.float64)
    places = torch.cartesian_prod(grid, grid)
    arrows = 0.15 * corner_mixture().score(places, 0.15)
    size = arrows.norm(dim=1, keepdim=True)
    arrows = arrows / size * size.clamp(max=1.0)
    axes.quiver(*places.T, *arrows.T, color=MUTED, alpha=0.55, width=0.003, scale=26)
    seen = paths[np.linspace(0, len(paths) - 1, 25).round().astype(int)]
    for path in seen.transpose(1, 0, 2):
        axes.plot(*path.T, color=SERIES[0].color, linewidth=0.8, alpha=0.8)
    axes.plot(*paths[0].T, ".", color=SERIES[3].color, markersize=4, label="noise")
    axes.plot(*paths[-1].T, "o", color=SERIES[0].color, markersize=3.5, label="data")
    axes.set(xlim=(0, 1), ylim=(0, 1), aspect="equal", xlabel="$x_1$", ylabel="$x_2$")
    axes.set_title("The true flow slides along walls, never through them")
    sheet.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return Picture(
        sheet,
        "A square with sixty curves that start all over it and end in four clusters, one of them in a corner, "
        "two at an edge and one inside. Arrows of the score run along the edges, never across them.",
        "Sixty paths of the probability flow with the exact score of the corner mixture, from uniform noise to "
        "data. Arrows: the score at σ = 0.15, long ones shortened.",
    )


@drawn_from("toys_reflected", "grey_bound", what="the likelihood in the square")
def likelihoods(found):
    """F6: learned against true log-densities, and the bound against the entropy."""
    toys, grey = found["toys_reflected"], found["grey_bound"]
    truth, learned, entropy = toys.first["true_log_density"], toys.first["log_density"], grey.first["entropy"]
    sheet, (above, below) = figure(height=6.2, rows=2)
    above.plot(truth, learned, ".", color=SERIES[0].color, markersize=2.5)
    above.plot([truth.min(), truth.max()], [truth.min(), truth.max()], **TRUTH)
    above.set(xlabel="true log-density, nats", ylabel="returned, nats")
    above.set_title("Close to the diagonal, yet not a density")
    bound, surprise = (grey[name].mean(1) for name in ("bound", "surprise"))
    seeds, points = np.arange(len(bound)), grey["bound"].shape[1]
    spread = (grey["bound"] - grey["surprise"]).std(axis=1, ddof=1) / points**0.5
    below.errorbar(seeds, bound, spread, linestyle="none", markersize=7, **series(0))
    below.plot(seeds, surprise, linestyle="none", color=BLACK, marker="_", markersize=8)
    below.axhline(entropy, **TRUTH)
    below.annotate("entropy", (len(bound) - 0.35, entropy), va="top", ha="right")
    for words, bits in (("bound", bound[0]), ("true bits of the same points", surprise[0])):
        below.annotate(words, (0, bits), xytext=(8, 0), textcoords="offset points", va="center")
    below.set_ylim(bottom=entropy - 0.03)
    below.set(xlim=(-0.5, len(seeds) - 0.3), ylabel="bits per dimension")
    below.set_title("The bound comes close to the true bits")
    below.set_xticks(seeds, [f"seed {seed}" for seed in grey.seeds])
    return Picture(
        sheet,
        "Above, a cloud of points along the diagonal: what the flow returns against true log-densities. Below, for each "
        "network the bound as a point above a dash, the true bits.",
        f"Above: what the flow of a trained network returns for {len(truth)} held-out points of the corner mixture with "
        f"noise of 0.01, seed {toys.seeds[0]}. Over these points its ratio to the true density has the mean "
        f"{float(excess_mass(toys)[0]):.2f}; no density can exceed 1. Below: bound (points) and true bits (dashes) of "
        f"{points} points on 256 gray levels each way, and the entropy of their distribution; bars: one standard error of "
        "the difference.",
    )


# --- networks in the square ---------------------------------------------------------------------------------


@drawn_from(*SQUARE, what="drawing in the square", seeds="first")
def scatter(found):
    """F7: points that both twins draw, beside the data."""
    sheet, panels = figure(height=4.1, rows=2, columns=3)
    shown = (
        ("toys_reflected", "data", "data", BLACK),
        ("toys_reflected", "fold", "reflected", SERIES[RANK["reflected"]].color),
        ("toys_exploding", "static", "static threshold", SERIES[RANK["static"]].color),
    )
    for column, (experiment, name, title, color) in zip(panels.T, shown, strict=True):
        for axes, points in zip(column, found[experiment].first[name], strict=True):
            axes.plot(*points[:SHOWN].T, ".", markersize=1.6, color=color)
            axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal", xticks=[0, 1], yticks=[0, 1])
            axes.set_title(title)
            axes.label_outer()
    return Picture(
        sheet,
        "Six scatter plots in squares, three for each distribution. Neither twin separates all cells of the chessboard. "
        "On the corner mixture both find the four clusters, three of them at walls, with some points between.",
        f"{SHOWN:,} points of the data and of each twin, for the chessboard (above) and the corner mixture (below).",
    )


@drawn_from(*SQUARE, what="drawing in the square")
def distances(found, walls=False):
    """T1: energy distances from held-out data, or how many points lie at walls, in percent."""
    metric, factor, words = ("at_walls", 100, "at walls, %") if walls else ("distance", 1e4, "× 10⁴")
    methods = METHODS | {("logit", "logit"): "logits of the data", ("reflected", "data"): "other data"}
    rows = []
    for (twin, name), label in methods.items():
        runs = found[f"toys_{twin}"]
        single = " (1 seed)" if len(runs) == 1 else ""
        rows.append((label + single, *(factor * value(runs, name, metric, toy) for toy in TOYS)))
    return score_table((f"{words}, {found.preset}", *TOYS.values()), rows, digits=1)


# --- speed --------------------------------------------------------------------------------------------------


def speed_table(bench):
    """What the kernel's score costs, beside a re-statement of the published algorithm."""
    cases, methods = {}, ("loupe", "re-statement", "re-statement with exp2")
    for row in bench["rows"]:
        if row["task"] == "The kernel's score":
            case = cases.setdefault(f"{' × '.join(map(str, row['shape']))}, {row['noise']}", {})
            error = f"{row['largest error of sigma |score|']:.0e}".replace("e-0", "e−")
            case[row["method"]] = f"{row['ms']:.1f}", error
    head = ("shape, noise", "ours, ms", "restated, ms", "with exp2, ms", "our error", "its error")
    rows = []
    for case, by in cases.items():
        times, errors = zip(*(by[name] for name in methods), strict=True)
        rows.append((case, *times, *errors[:2]))
    return table(head, rows, numeric=True)


def network_table(bench):
    """Images a second in a training step of two U-Nets of equal size."""
    return bench_table(
        bench, "U-Nets",
        {"configuration": "{network}, {layout}", "U-Net": "{method}", "weights": "{parameters:,}",
         "images a second": "{step, images a second:,.0f}"},
    )  # fmt: skip


# --- images -------------------------------------------------------------------------------------------------


def thumbnail(chapter, target):
    """Images that were drawn with walls, four in a row."""
    images = chapter.stored["images_reflected"].first["fold"]
    with thumbnail_axes(target) as axes:
        axes.imshow(mosaic(np.concatenate([images[:8], images[10:14]]), columns=4))

"""The chapter's pictures of sets, of processes and of one training path, drawn from stored results alone."""

import numpy as np
from matplotlib import colormaps
from matplotlib.collections import LineCollection
from scipy.stats import spearmanr

from loupe.experiment.claims import t_interval
from loupe.experiment.render import score_table, table
from loupe.papers.drawing import Picture, drawn_from
from loupe.plotting import (
    BLACK,
    MUTED,
    ORDERED,
    SERIES,
    STEPS,
    TRUTH,
    figure,
    filtration_slider,
    log_axis,
    series,
    show,
    thumbnail_axes,
)
from loupe.topology import CLOUDS, spanning_tree

SLOPE_CLOUDS = ("cube_3", "cube_2", "sierpinski")

from_processes = drawn_from("diffusion_processes", what="the dimension of diffusion processes")
from_paths = drawn_from("training_path", what="the training path")
from_first_path = drawn_from("training_path", what="the training path", seeds="first")


def band(axes, x, values, rank, line="-", label=None, **options):
    """The mean over seeds of curves, shape (seeds, n), with its 95 % t interval."""
    colour = SERIES[rank].colour
    axes.plot(x, values.mean(axis=0), line, color=colour, label=label, **options)
    low, high = np.array([t_interval(column) for column in values.T.tolist()]).T.astype(float)
    axes.fill_between(x, low, high, color=colour, alpha=0.2, linewidth=0)


def draw_distances(axes, run, **options):
    """The distance matrix of a path, in the order of time."""
    first, last = run["picture_steps"][[0, -1]]
    axes.grid(visible=False)
    axes.set_xlabel("step within the window")
    return axes.imshow(
        run["picture"], extent=(first, last, last, first), cmap=colormaps[ORDERED].resampled(64), **options
    )


def draw_diagram(axes, run, size):
    """The persistence diagram of a path in degrees 0 and 1; gives the end of its axes."""
    top = 1.05 * max(run["h0"].max(), run["h1"].max() if run["h1"].size else 0)
    axes.plot([0, top], [0, top], **TRUTH)
    for rank, (name, points) in enumerate((("components", run["h0"]), ("loops", run["h1"]))):
        axes.scatter(*points.T, s=size, label=f"{name}: {len(points)}", zorder=2, **series(rank))
    axes.set_xlabel("birth")
    axes.set_aspect("equal")
    return top


# --- sets and processes -------------------------------------------------------------------------------------


def filtration(points=60, seed=4):
    """The slider: a cloud around a circle, its growing forest, and its barcode."""
    radii = np.random.default_rng(seed + 1).uniform(0.6, 1.1, (points, 1))
    cloud = radii * CLOUDS["circle"].sample(points, seed)
    alt = (
        f"{points} points around a circle; discs grow around them, edges of the spanning tree appear as discs touch, "
        "and one bar of the barcode ends with each edge."
    )
    return filtration_slider(
        cloud, *spanning_tree(cloud), title="Components merge as the discs grow", alt=alt
    )


@drawn_from("known_dimensions", what="the dimension of known sets", seeds="first")
def slopes(found):
    """F1: lifetime sums against subset size for three clouds, and the fitted lines."""
    run = found.runs.first
    names, sizes = list(run["clouds"]), run["sizes"]
    sheet, axes = figure(height=3.6)
    for rank, name in enumerate(name for name in SLOPE_CLOUDS if name in names):
        k = names.index(name)
        axes.plot(sizes, run["lifetime_sums"][k].mean(axis=1), linestyle="none", **series(rank))
        line = np.exp(run["intercept"][k]) * sizes ** run["slope"][k]
        axes.plot(sizes, line, color=SERIES[rank].colour, linewidth=1)
        label = f"{CLOUDS[name].label}\nslope {run['slope'][k]:.2f}\ndimension {run['dimension'][k]:.2f}"
        place = {"xytext": (8, 0), "textcoords": "offset points", "va": "center"}
        axes.annotate(label, (sizes[-1], line[-1]), color=SERIES[rank].colour, **place)
    axes.set_xlim(sizes[0] * 0.93, sizes[-1] * 1.85)
    axes.margins(y=0.12)
    log_axis(axes, "xy")
    axes.set(xlabel="points in the subset, n", ylabel="lifetime sum E₁(n)", title="Slopes give dimensions")
    return Picture(
        sheet,
        "Three straight lines on log-log axes: steepest for the cube, then the square, then the Sierpinski triangle.",
        f"Mean lifetime sum of {run['lifetime_sums'].shape[2]} subsets of each size (their spread is smaller than the "
        "markers), and the least-squares line; one cloud each. The steeper the growth, the higher "
        r"the dimension: $\widehat{\dim}=\alpha/(1-m)$ with $\alpha=1$.",
    )


@drawn_from("known_dimensions", what="the dimension of known sets")
def dimensions(found):
    """F2: estimated against true dimension for every cloud."""
    run, values = found.runs.first, found.runs["dimension"]
    truth = run["truth"]
    order = np.argsort(truth, kind="stable")
    sheet, axes = figure(height=0.27 * len(order) + 1.2)
    tick = {"marker": "|", "color": BLACK, "markersize": 11, "markeredgewidth": 1.6, "linestyle": "none"}
    for row, k in enumerate(order):
        axes.plot(truth[k], row, **tick)
        axes.plot(t_interval(values[:, k]), [row, row], color=SERIES[0].colour, linewidth=2.5)
        axes.plot(values[:, k].mean(), row, **series(0))
    axes.set_yticks(range(len(order)), [CLOUDS[run["clouds"][k]].label for k in order])
    axes.set_xscale("log", base=2)
    axes.set_xticks([0.5, 1, 2, 3, 5, 10], ["0.5", "1", "2", "3", "5", "10"])
    axes.set_xlim(min(0.45, truth.min() * 0.8), truth.max() * 1.25)
    axes.set(xlabel="dimension", title="Close up to three dimensions, too low above")
    handles = [axes.plot([], [], **tick)[0], axes.plot([], [], linewidth=2.5, **series(0))[0]]
    axes.legend(handles, ["truth", "estimate, 95\u202f% interval"], loc="lower right")
    return Picture(
        sheet,
        "A row per cloud. Estimates sit close to the true dimension up to three dimensions and fall below it for the "
        "cubes in five and ten dimensions; the Cantor set and dust come out a little high.",
        "Estimated and true dimension; mean and 95\u202f% t interval over clouds of each kind, one for each seed. In five "
        "and ten dimensions so few points see mostly the boundary, and the estimate is too low.",
    )


@from_processes
def processes(found):
    """F2, second part: how far each estimate is from the stable index."""
    run = found.runs.first
    beta, errors = run["beta"], found.runs["estimates"] - run["beta"]
    sheet, axes = figure(height=3.9)
    axes.axhline(0, **TRUTH)
    for rank, name in enumerate(run["estimators"]):
        if not str(name).startswith("PCA"):
            band(axes, beta, errors[:, rank], rank, label=name, marker=SERIES[rank].marker)
    axes.set(xlabel="stable index β, the true dimension", ylabel="estimate less truth")
    axes.set_title("All too high, and not by the same amount")
    axes.margins(y=0.25)
    axes.legend(ncols=2, loc="upper left")
    return Picture(
        sheet,
        "Errors of four estimators against the stable index, all above zero: TwoNN far above, then maximum likelihood, "
        "persistent homology, and lowest the correlation dimension.",
        "Error on paths of Ornstein–Uhlenbeck processes in ten dimensions, driven by stable noise of index β, which is "
        "the dimension of the path: means over seeds with 95\u202f% t intervals. Counting principal components is off the "
        "scale; it is in the table.",
    )


@from_processes
def process_table(found):
    """How well each estimator orders the processes, and how far it is from their dimension."""
    beta, estimates = found.runs.first["beta"], found.runs["estimates"]
    rows = []
    for k, name in enumerate(found.runs.first["estimators"]):
        means, error = estimates[:, k].mean(axis=0), estimates[:, k] - beta
        of_means, *single = (spearmanr(beta, one).statistic for one in (means, *estimates[:, k]))
        rows.append((str(name), f"{of_means:.3f}", single, np.abs(error).mean(1), error.mean(1)))
    head = (f"estimator, {found.label}", "ρ, means over seeds", "ρ, one path", "absolute error", "error")
    return score_table(head, rows, digits=3, best=("", "max", "min", ""))


@drawn_from("exhausted_paths", what="the dimension of Brownian paths")
def exhaustion_table(found):
    """Brownian paths measured with subsets that take a small or a large part of their points."""
    run, values = found.runs.first, found.runs["dimension"]
    each = zip(run["points"], run["largest"], values.T, strict=True)
    rows = [(f"{n:,}", f"{largest:,}", column) for n, largest, column in each]
    head = (f"points on the path; {found.label}", "largest subset", "estimate (truth 2)")
    return score_table(head, rows, digits=2)


@drawn_from("noise_of_one_draw", what="the spread of one draw", seeds="first")
def noise(found):
    """PH11: how estimates on one cloud spread, with one draw and with ten."""
    run = found.runs.first
    sheet, axes = figure(height=2.9)
    bins = np.histogram_bin_edges(run["dimensions"][0], 25)
    for rank, (repeats, values) in enumerate(zip(run["repeats"], run["dimensions"], strict=True)):
        label = f"{repeats} {'draw' if repeats == 1 else 'draws'} a size: standard deviation {values.std(ddof=1):.3f}"
        axes.hist(values, bins, color=SERIES[1 - rank].colour, alpha=0.75, label=label)
    axes.axvline(2, **TRUTH)
    axes.set(xlabel="estimated dimension of the same square", ylabel="estimates")
    axes.set_title("Ten draws narrow the spread, not the bias")
    axes.margins(y=0.35)
    axes.legend(loc="upper left")
    return Picture(
        sheet,
        "Two histograms a little below two: a wide one for one draw, and a narrow one for ten.",
        f"{run['dimensions'].shape[1]} estimates each on one and the same cloud (uniform in the unit square); only the "
        "random subsets differ. The dashed line is the truth.",
    )


# --- a training path ----------------------------------------------------------------------------------------


@from_first_path
def training(found):
    """The run behind the pictures: its loss, and its last iterates in their best plane with the spanning tree."""
    run = found.runs.first
    sheet, (top, bottom) = figure(height=6.8, rows=2, height_ratios=(2, 3))
    window = max(1, len(run["losses"]) // 200)
    smooth = np.convolve(run["losses"], np.ones(window) / window, mode="valid")
    top.plot(np.arange(len(smooth)) + window, smooth, color=SERIES[0].colour)
    log_axis(top, "y")
    end, kept, colour = run["steps"], len(run["plane"]), SERIES[1].colour
    top.axvspan(end - kept, end, color=colour, alpha=0.15, linewidth=0)
    top.annotate("kept", (end - kept / 2, smooth.max()), ha="center", va="top", color=colour)
    top.set(xlabel="step", ylabel="training loss", title="A network learns …")
    dots = _draw_path(bottom, run, size=6)
    bottom.set(xlabel="first principal direction", ylabel="second", title="… and this is the path it takes")
    sheet.colorbar(dots, ax=bottom, label="step within the window", shrink=0.9)
    return Picture(
        sheet,
        "Above, a training loss that falls over the steps, with the last steps shaded. Below, the iterates as a bent "
        "ribbon of dots from dark to light, joined by a tree.",
        f"Above: training loss (running mean over {window} steps); the last {kept} iterates are kept. Below: those "
        f"iterates, {run['parameters']:,} numbers each, in the plane that holds most of their spread, with the minimum "
        f"spanning tree of their true distances. Data: {run['data']}.",
    )


def _draw_path(axes, run, size):
    plane = run["plane"]
    axes.add_collection(LineCollection(plane[run["edges"]], colors=MUTED, linewidths=0.8, zorder=1))
    axes.set_aspect("equal", adjustable="datalim")
    return axes.scatter(*plane.T, c=np.arange(len(plane)), cmap=STEPS, s=size, zorder=2)


@from_paths
def path_table(found):
    """Each training run of the pictures: how it went, and what five estimators say of its path.

    ``train`` and ``test`` are accuracies; ``along time`` is the share of tree edges that join an iterate to the very
    next one.
    """
    names = [str(name).partition(" ")[0] for name in found.runs.first["competitor_names"]]
    rows = [
        (run.seed, run["steps"], f"{run['train_accuracy']:.1%}", f"{run['test_accuracy']:.1%}",
         f"{np.mean(np.abs(np.diff(run['edges'], axis=1)) == 1):.0%}", f"{run['dimension']:.2f}",
         *(f"{one:.2f}" if one < 10 else f"{one:.0f}" for one in run["competitors"]))
        for run in found.runs
    ]  # fmt: skip
    head = (f"seed, at {found.preset}", "steps", "train", "test", "along time", "PH", *names)
    return table(head, rows, numeric=True)


@from_first_path
def path_shape(found):
    """F4: distance matrix and barcode of the training path."""
    run = found.runs.first
    sheet, (top, bottom) = figure(height=7.4, rows=2, height_ratios=(3, 2))
    picture = draw_distances(top, run)
    top.set(ylabel="step within the window", title="Far in time is far in space")
    sheet.colorbar(picture, ax=top, label="distance", shrink=0.9)
    lengths = run["lengths"]
    segments = [((0, row), (length, row)) for row, length in enumerate(lengths)]
    bottom.add_collection(LineCollection(segments, colors=SERIES[0].colour, linewidths=0.5))
    bottom.set(xlim=(0, lengths.max() * 1.05), ylim=(-5, len(lengths) + 5))
    bottom.set(xlabel="scale r", ylabel="component, by lifetime", title="Each bar is an edge of the tree")
    return Picture(
        sheet,
        "Above, a distance matrix that is dark along the diagonal and brightens away from it. Below, a barcode of "
        "horizontal bars sorted by length: most are short, few are long.",
        f"Above: distances between the kept iterates ({len(run['picture'])} of {len(lengths) + 1} rows shown, in order of "
        f"time). Below: the degree-0 barcode, {len(lengths)} finite bars.",
    )


@from_first_path
def path_diagram(found):
    """F4, second part: the persistence diagram in degrees 0 and 1, by gudhi."""
    run = found.runs.first
    sheet, axes = figure("narrow", 3.6)
    draw_diagram(axes, run, 10)
    axes.set(ylabel="death", title="Components, and hardly a loop")
    axes.legend(loc="lower right")
    loops = ", ".join(str(len(one["h1"])) for one in found.runs)
    return Picture(
        sheet,
        "Persistence diagram: components in a column at birth zero, from short to long lifetimes; no loop stands out.",
        f"Persistence diagram of {len(run['picture_steps'])} of the kept iterates, computed by gudhi. Loops born in each "
        f"of the runs, one for each seed: {loops}.",
    )


@from_paths
def step_lengths(found):
    """How the steps of each run shrink within its window."""
    sheet, axes = figure(height=3.4)
    for rank, run in enumerate(found.runs):
        blocks = np.array_split(run["step_lengths"], 40)
        middle = np.linspace(0, len(run["step_lengths"]), 81)[1::2]
        axes.plot(middle, [np.median(block) for block in blocks], label=f"seed {run.seed}", **series(rank))
    log_axis(axes, "y")
    axes.set(xlabel="step within the window", ylabel="median step length")
    axes.set_title("Steps shrink where the loss falls")
    sheet.legend(loc="outside lower center", ncols=len(found.runs))
    return Picture(
        sheet,
        "One falling, jagged curve a run: the median length of steps over the window, on a logarithmic axis.",
        "Median length of the steps in 40 consecutive parts of the window, one curve for each training run.",
    )


@from_paths
def surrogate_table(found):
    """The dimension of each training path, and of paths that share one property with it."""
    names = ("the path itself", *map(str, found.runs.first["surrogates"]))
    columns = [(run["dimension"], *run["surrogate_dimensions"]) for run in found.runs]
    rows = [(name, *(f"{one:.2f}" for one in row)) for name, *row in zip(names, *columns, strict=True)]
    return table(
        (f"path, at {found.preset}", *(f"seed {one}" for one in found.runs.seeds)), rows, numeric=True
    )


@from_paths
def path_dimensions(found):
    """The dimension of the training path: the averaged estimate of each seed, and fifty one-draw estimates."""
    runs = found.runs
    sheet, axes = figure(height=0.5 * len(runs) + 1.5)
    tick = {"linestyle": "none", "marker": "|", "color": SERIES[1].colour, "markersize": 8}
    for row, run in enumerate(runs):
        draws, labels = run["one_draw_dimensions"], ("published protocol, one draw", "averaged")
        one, averaged = labels if row == 0 else (None, None)
        axes.plot(draws, np.full(len(draws), row + 0.16), label=one, **tick)
        reach = {"xerr": 2 * run["standard_error"], "capsize": 3, "zorder": 3}
        axes.errorbar(run["dimension"], row - 0.16, label=averaged, **reach, **series(0))
    axes.set_yticks(range(len(runs)), [f"seed {seed}" for seed in runs.seeds])
    axes.set_ylim(len(runs) - 0.4, -1.3)
    axes.set_xlabel("estimated dimension of the training path")
    axes.set_title("The same path, measured again and again")
    axes.legend(loc="upper left", ncols=2)
    return Picture(
        sheet,
        "For each seed, a row of fifty scattered ticks and above it one dot with a short error bar.",
        f"One row a training run. Ticks: the published protocol (one subset a size) with {len(draws)} seeds. Dot: the "
        f"mean of {run['lifetime_sums'].shape[1]} subsets a size, with two standard errors of the resampling.",
    )


def timing(bench):
    """F7: seconds for H0 against the number of points, by method; from the stored benchmark."""
    sheet, axes = figure(height=4.4)
    for rank, (method, seconds) in enumerate(_h0_seconds(bench).items()):
        axes.plot(list(seconds), list(seconds.values()), label=method, **series(rank))
    log_axis(axes, "xy")
    axes.set(xlabel="points n", ylabel="CPU-seconds, one thread", title="A tree needs no simplices")
    axes.margins(y=0.3)
    axes.legend(loc="upper left")
    about = bench["environment"]
    show(
        sheet,
        alt="Six rising lines on log-log axes: single linkage and Prim are the lowest, then gudhi, then ripser, highest "
        "ripser with loops.",
        caption="Time to all H0 lifetimes from a given distance matrix: median of five samples, or one call where it takes "
        f"over five seconds. One thread of {about['hardware']}; scipy {about['scipy']}, gudhi {about['gudhi']}, ripser "
        f"{about['ripser']}. Measured by `benchmarks/ph_dimension.py`.",
    )


def timing_table(bench):
    """F7 as a table: CPU time of the routes to H0, one thread."""
    seconds = _h0_seconds(bench)
    sizes = sorted({n for one in seconds.values() for n in one})
    cells = [[f"{1000 * one[n]:.3g}" if n in one else "not run" for n in sizes] for one in seconds.values()]
    rows = [(method, *row) for method, row in zip(seconds, cells, strict=True)]
    return table(("milliseconds", *(f"n = {n}" for n in sizes)), rows, numeric=True)


def estimator_table(bench):
    """The whole estimator, and the distances behind it, against peers and the machine's own limit."""
    rows = [
        (f"{row['task']}: {row['method']}", f"{row['n']} × {row['P']:,}", f"{row['seconds']:.3g}",
         f"{row['times ours']:.3g}" if "times ours" in row else "",
         f"{row['share of GEMM']:.0%}" if "share of GEMM" in row else "")
        for row in bench["rows"] if row["task"] != "H0 lifetimes"
    ]  # fmt: skip
    return table(("what", "points × P", "CPU-seconds", "times ours", "of the limit"), rows, numeric=True)


def _h0_seconds(bench):
    seconds = {}
    for row in bench["rows"]:
        if row["task"] == "H0 lifetimes":
            seconds.setdefault(row["method"], {})[row["n"]] = row["seconds"]
    return seconds


def thumbnail(chapter, target):
    """The path of the first training run with its tree, without axes, for the landing page."""
    with thumbnail_axes(target) as axes:
        _draw_path(axes, chapter.stored["training_path"].first, size=50)

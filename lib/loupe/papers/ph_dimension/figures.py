"""The chapter's pictures, drawn from stored results alone."""

import numpy as np
from matplotlib.collections import LineCollection

from loupe.experiment.claims import t_interval
from loupe.experiment.render import table
from loupe.plotting import ORDERED, SERIES, TRUTH, figure, filtration_slider, log_axis, series, show
from loupe.topology import CLOUDS, spanning_tree

WIDTH = 5.2  # inches: still readable when a phone shows it 360 pixels wide
TREE = "#6b7280"
SLOPE_CLOUDS = ("cube_3", "cube_2", "sierpinski")


def filtration(points=60, seed=4):
    """The slider: a cloud around a circle, its growing forest, and its barcode."""
    radii = np.random.default_rng(seed + 1).uniform(0.6, 1.1, (points, 1))
    cloud = radii * CLOUDS["circle"].sample(points, seed)
    edges, lengths = spanning_tree(cloud)
    return filtration_slider(
        cloud,
        edges,
        lengths,
        title="Components merge as the discs grow",
        alt=f"{points} points around a circle; discs grow around them, edges of the spanning tree appear as discs touch, "
        "and one bar of the barcode ends with each edge.",
    )


def slopes(runs):
    """F1: lifetime sums against subset size for three clouds, and the fitted lines."""
    run = runs.first
    names, sizes = list(run["clouds"]), run["sizes"]
    sheet, axes = figure(WIDTH, 3.6)
    for rank, name in enumerate(name for name in SLOPE_CLOUDS if name in names):
        k = names.index(name)
        sums = run["lifetime_sums"][k]
        axes.plot(sizes, sums.mean(axis=1), linestyle="none", **series(rank))
        line = np.exp(run["intercept"][k]) * sizes ** run["slope"][k]
        axes.plot(sizes, line, color=SERIES[rank].colour, linewidth=1)
        label = f"{CLOUDS[name].label}\nslope {run['slope'][k]:.2f}\ndimension {run['dimension'][k]:.2f}"
        axes.annotate(
            label, (sizes[-1], line[-1]), xytext=(8, 0), textcoords="offset points", color=SERIES[rank].colour,
            va="center", fontsize=8.5,
        )  # fmt: skip
    axes.set_xlim(sizes[0] * 0.93, sizes[-1] * 1.85)
    axes.margins(y=0.12)
    log_axis(axes, "xy")
    axes.set(xlabel="points in the subset, n", ylabel="lifetime sum E₁(n)", title="Slopes give dimensions")
    show(
        sheet,
        alt="Three straight rising lines on log-log axes: steepest for the cube, then the square, then the Sierpinski "
        "triangle.",
        caption=f"Mean lifetime sum of {run['lifetime_sums'].shape[2]} subsets at each size (their spread is smaller "
        "than the markers), and the least-squares line; one cloud each, first seed. The steeper the growth, the higher "
        r"the dimension: $\widehat{\dim}=\alpha/(1-m)$ with $\alpha=1$.",
    )


def dimensions(runs):
    """F2: estimated against true dimension for every cloud."""
    run = runs.first
    truth, values = run["truth"], runs["dimension"]
    intervals = [t_interval(column) for column in values.T]
    order = np.argsort(truth, kind="stable")
    sheet, axes = figure(WIDTH, 0.27 * len(order) + 1.2)
    tick = {"marker": "|", "color": "black", "markersize": 11, "markeredgewidth": 1.6, "linestyle": "none"}
    for row, k in enumerate(order):
        axes.plot(truth[k], row, **tick)
        axes.plot(intervals[k], [row, row], color=SERIES[0].colour, linewidth=2.5)
        axes.plot(values[:, k].mean(), row, **series(0))
    axes.set_yticks(range(len(order)), [CLOUDS[run["clouds"][k]].label for k in order])
    axes.set_xscale("log", base=2)
    axes.set_xticks([0.5, 1, 2, 3, 5, 10], ["0.5", "1", "2", "3", "5", "10"])
    axes.set_xlim(min(0.45, truth.min() * 0.8), truth.max() * 1.25)
    axes.set(xlabel="dimension", title="Close up to three dimensions, too low above")
    handles = [axes.plot([], [], **tick)[0], axes.plot([], [], linewidth=2.5, **series(0))[0]]
    axes.legend(handles, ["truth", "estimate, 95\u202f% interval"], loc="lower right")
    show(
        sheet,
        alt="A row per cloud. Estimates sit close to the true dimension up to three dimensions and fall below it for the "
        "cubes in five and ten dimensions; the Cantor set and dust come out a little high.",
        caption=f"Estimated and true dimension; mean and 95\u202f% t interval over {len(runs)} clouds (seeds) of each "
        "kind. In five and ten dimensions so few points see mostly the boundary, and the estimate is too low.",
    )


def processes(runs):
    """F2, second part: how far each estimate is from the stable index."""
    run = runs.first
    beta, errors = run["beta"], runs["estimates"] - run["beta"]
    sheet, axes = figure(WIDTH, 3.9)
    axes.axhline(0, **TRUTH)
    drawn = [k for k, name in enumerate(run["estimators"]) if not str(name).startswith("PCA")]
    for rank in drawn:
        axes.plot(beta, errors[:, rank].mean(axis=0), label=run["estimators"][rank], **series(rank))
        low, high = np.array([t_interval(column) for column in errors[:, rank].T]).T.astype(float)
        axes.fill_between(beta, low, high, color=SERIES[rank].colour, alpha=0.2, linewidth=0)
    axes.set(
        xlabel="stable index β, the true dimension",
        ylabel="estimate less truth",
        title="All too high, and not by the same amount",
    )
    axes.margins(y=0.25)
    axes.legend(ncols=2, loc="upper left")
    show(
        sheet,
        alt="Errors of four estimators against the stable index, all above zero: TwoNN far above, then maximum likelihood, "
        "persistent homology, and lowest the correlation dimension.",
        caption="Error on paths of Ornstein–Uhlenbeck processes in ten dimensions, driven by stable noise of index β, "
        f"which is the dimension of the path: means over {len(runs)} seeds with 95\u202f% t intervals. Counting principal "
        "components is off the scale; it is in the table.",
    )


def process_table(runs):
    """How well each estimator orders the processes, and how far it is from their dimension."""
    from scipy.stats import spearmanr

    run = runs.first
    beta, estimates = run["beta"], runs["estimates"]
    rows = []
    for k, name in enumerate(run["estimators"]):
        single = [spearmanr(beta, one).statistic for one in estimates[:, k]]
        of_means = spearmanr(beta, estimates[:, k].mean(axis=0)).statistic
        error = estimates[:, k] - beta
        numbers = (of_means, np.mean(single), np.abs(error).mean(), error.mean())
        rows.append((str(name), *(f"{one:.3f}" for one in numbers)))
    head = ("estimator", "ρ, means over seeds", "ρ, one path", "mean absolute error", "mean error")
    return table(head, rows, numeric=True)


def exhaustion_table(runs):
    """Brownian paths measured with subsets that take a small or a large part of their points."""
    run = runs.first
    rows = []
    for k, (points, largest) in enumerate(zip(run["points"], run["largest"], strict=True)):
        low, high = t_interval(runs["dimension"][:, k])
        rows.append(
            (int(points), int(largest), f"{runs['dimension'][:, k].mean():.2f}", f"[{low:.2f}, {high:.2f}]")
        )
    head = (
        "points on the path",
        "largest subset",
        "estimate (truth 2)",
        f"95\u202f% t interval, {len(runs)} seeds",
    )
    return table(head, rows, numeric=True)


def noise(runs):
    """PH11: how estimates on one cloud spread, with one draw and with ten."""
    run = runs.first
    sheet, axes = figure(WIDTH, 2.9)
    bins = np.histogram_bin_edges(run["dimensions"][0], 25)
    for rank, (repeats, values) in enumerate(zip(run["repeats"], run["dimensions"], strict=True)):
        label = f"{repeats} {'draw' if repeats == 1 else 'draws'} a size: standard deviation {values.std(ddof=1):.3f}"
        axes.hist(values, bins, color=SERIES[1 - rank].colour, alpha=0.75, label=label)
    axes.axvline(2, **TRUTH)
    axes.set(
        xlabel="estimated dimension of the same square",
        ylabel="estimates",
        title="Ten draws narrow the spread, not the bias",
    )
    axes.margins(y=0.35)
    axes.legend(loc="upper left")
    show(
        sheet,
        alt="Two histograms a little below two: a wide one for one draw, and a narrow one for ten.",
        caption=f"{run['dimensions'].shape[1]} estimates each on one and the same cloud (uniform in the unit square); only "
        "the random subsets differ. The dashed line is the truth.",
    )


def training(runs):
    """The run behind the pictures: its loss, and its last iterates in their best plane with the spanning tree."""
    run = runs.first
    sheet, (top, bottom) = figure(WIDTH, 6.8, rows=2, height_ratios=(2, 3))
    window = max(1, len(run["losses"]) // 200)
    smooth = np.convolve(run["losses"], np.ones(window) / window, mode="valid")
    top.plot(np.arange(len(smooth)) + window, smooth, color=SERIES[0].colour)
    log_axis(top, "y")
    kept = len(run["plane"])
    top.axvspan(run["steps"] - kept, run["steps"], color=SERIES[1].colour, alpha=0.15, linewidth=0)
    top.annotate(
        "kept", (run["steps"] - kept / 2, smooth.max()), ha="center", va="top", color=SERIES[1].colour
    )
    top.set(xlabel="step", ylabel="training loss", title="A network learns …")
    dots = _draw_path(bottom, run["plane"], run["edges"], np.arange(kept), size=6)
    bottom.set(xlabel="first principal direction", ylabel="second", title="… and this is the path it takes")
    bottom.set_aspect("equal", adjustable="datalim")
    sheet.colorbar(dots, ax=bottom, label="step within the window", shrink=0.9)
    show(
        sheet,
        alt="Above, a training loss that falls over the steps, with the last steps shaded. Below, the iterates as a bent "
        "ribbon of dots from dark to light, joined by a tree.",
        caption=f"Above: training loss (running mean over {window} steps); the last {kept} iterates are kept. Below: those "
        f"iterates, {run['parameters']:,} numbers each, in the plane that holds most of their spread, with the minimum "
        f"spanning tree of their true distances. First seed; data: {run['data']}.",
    )


def _draw_path(axes, plane, edges, steps, size):
    axes.add_collection(LineCollection(plane[edges], colors=TREE, linewidths=0.8, zorder=1))
    return axes.scatter(*plane.T, c=steps, cmap=ORDERED, s=size, zorder=2)


def path_table(runs):
    """Each training run of the pictures: how it went, and what five estimators say of its path.

    ``train`` and ``test`` are accuracies; ``along time`` is the share of tree edges that join an iterate to the very
    next one.
    """
    names = [str(name).partition(" ")[0] for name in runs.first["competitor_names"]]
    head = ("seed", "steps", "train", "test", "along time", "PH", *names)
    rows = [
        (run.seed, run["steps"], f"{run['train_accuracy']:.1%}", f"{run['test_accuracy']:.1%}",
         f"{np.mean(np.abs(np.diff(run['edges'], axis=1)) == 1):.0%}", f"{run['dimension']:.2f}",
         *(f"{one:.2f}" if one < 10 else f"{one:.0f}" for one in run["competitors"]))
        for run in runs
    ]  # fmt: skip
    return table(head, rows, numeric=True)


def path_shape(runs):
    """F4: distance matrix and barcode of the training path."""
    run = runs.first
    sheet, (top, bottom) = figure(WIDTH, 7.4, rows=2, height_ratios=(3, 2))
    steps = run["picture_steps"]
    picture = top.imshow(run["picture"], extent=(steps[0], steps[-1], steps[-1], steps[0]), cmap=ORDERED)
    top.grid(False)
    top.set(
        xlabel="step within the window", ylabel="step within the window", title="Far in time is far in space"
    )
    sheet.colorbar(picture, ax=top, label="distance", shrink=0.9)
    lengths = run["lengths"]
    bars = np.stack([np.zeros_like(lengths), lengths], axis=1)
    rows = np.arange(len(lengths))
    segments = np.stack([bars, np.stack([rows, rows], axis=1)], axis=2)
    bottom.add_collection(LineCollection(segments, colors=SERIES[0].colour, linewidths=0.5))
    bottom.set(xlim=(0, lengths.max() * 1.05), ylim=(-5, len(lengths) + 5))
    bottom.set(xlabel="scale r", ylabel="component, by lifetime", title="Each bar is an edge of the tree")
    show(
        sheet,
        alt="Above, a distance matrix that is dark along the diagonal and brightens away from it. Below, a barcode of "
        "horizontal bars sorted by length: most are short, few are long.",
        caption=f"Above: distances between the kept iterates ({len(steps)} of {len(lengths) + 1} rows shown, in order of "
        f"time). Below: the degree-0 barcode, {len(lengths)} finite bars. First seed.",
    )


def path_diagram(runs):
    """F4, second part: the persistence diagram in degrees 0 and 1, by gudhi."""
    run = runs.first
    sheet, axes = figure("narrow", 3.6)
    top = 1.05 * max(run["h0"].max(), run["h1"].max() if run["h1"].size else 0)
    axes.plot([0, top], [0, top], **TRUTH)
    axes.scatter(*run["h0"].T, s=10, label=f"components: {len(run['h0'])}", zorder=2, **series(0))
    axes.scatter(*run["h1"].T, s=10, label=f"loops: {len(run['h1'])}", zorder=2, **series(1))
    axes.set(xlabel="birth", ylabel="death", title="Components, and hardly a loop")
    axes.set_aspect("equal")
    axes.legend(loc="lower right")
    loops = ", ".join(str(len(one["h1"])) for one in runs)
    show(
        sheet,
        alt="Persistence diagram: components in a column at birth zero, from short to long lifetimes; no loop stands out.",
        caption=f"Persistence diagram of {len(run['picture_steps'])} of the kept iterates, computed by gudhi; first seed. "
        f"Loops born in each of the {len(runs)} runs: {loops}.",
    )


def step_lengths(runs):
    """How the steps of each run shrink within its window."""
    sheet, axes = figure(WIDTH, 3.4)
    for rank, run in enumerate(runs):
        lengths = run["step_lengths"]
        blocks = np.array_split(lengths, 40)
        middle = np.linspace(0, len(lengths), 81)[1::2]
        axes.plot(middle, [np.median(block) for block in blocks], label=f"seed {run.seed}", **series(rank))
    log_axis(axes, "y")
    axes.set(
        xlabel="step within the window",
        ylabel="median step length",
        title="Steps shrink where the loss falls",
    )
    sheet.legend(loc="outside lower center", ncols=len(runs))
    show(
        sheet,
        alt="One falling, jagged curve a run: the median length of steps over the window, on a logarithmic axis.",
        caption=f"Median length of the steps in 40 consecutive parts of the window, {len(runs)} training runs.",
    )


def surrogate_table(runs):
    """The dimension of each training path, and of paths that share one property with it."""
    head = ("path", *(f"seed {seed}" for seed in runs.seeds))
    rows = [("the path itself", *(f"{run['dimension']:.2f}" for run in runs))]
    for k, name in enumerate(runs.first["surrogates"]):
        rows.append((str(name), *(f"{run['surrogate_dimensions'][k]:.2f}" for run in runs)))
    return table(head, rows, numeric=True)


def path_dimensions(runs):
    """The dimension of the training path: the averaged estimate of each seed, and fifty one-draw estimates."""
    sheet, axes = figure(WIDTH, 0.5 * len(runs) + 1.5)
    for row, run in enumerate(runs):
        draws = run["one_draw_dimensions"]
        axes.plot(draws, np.full(len(draws), row + 0.16), linestyle="none", marker="|", color=SERIES[1].colour,
                  markersize=8, label="published protocol, one draw" if row == 0 else None)  # fmt: skip
        axes.errorbar(run["dimension"], row - 0.16, xerr=2 * run["standard_error"], capsize=3, zorder=3,
                      label="averaged" if row == 0 else None, **series(0))  # fmt: skip
    axes.set_yticks(range(len(runs)), [f"seed {seed}" for seed in runs.seeds])
    axes.set_ylim(len(runs) - 0.4, -1.3)
    axes.set(
        xlabel="estimated dimension of the training path", title="The same path, measured again and again"
    )
    axes.legend(loc="upper left", ncols=2)
    show(
        sheet,
        alt="For each seed, a row of fifty scattered ticks and above it one dot with a short error bar.",
        caption=f"One row a training run. Ticks: the published protocol (one subset a size) with {len(draws)} seeds. Dot: "
        f"the mean of {runs.first['lifetime_sums'].shape[1]} subsets a size, with two standard errors of the resampling.",
    )


def timing(bench):
    """F7: seconds for H0 against the number of points, by method; from the stored benchmark."""
    sheet, axes = figure(WIDTH, 4.4)
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
    rows = [
        (method, *(f"{1000 * one[n]:.3g}" if n in one else "not run" for n in sizes))
        for method, one in seconds.items()
    ]
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
    import matplotlib.pyplot as plt

    run = chapter.stored["training_path"].first
    sheet, axes = plt.subplots(figsize=(6.4, 4.8))
    _draw_path(axes, run["plane"], run["edges"], np.arange(len(run["plane"])), size=50)
    axes.set_aspect("equal", adjustable="datalim")
    axes.axis("off")
    sheet.savefig(target, dpi=100, facecolor="white", metadata={"Software": None})
    plt.close(sheet)

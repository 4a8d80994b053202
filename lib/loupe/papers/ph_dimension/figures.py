"""The chapter's pictures, drawn from stored results alone."""

import numpy as np
from matplotlib.collections import LineCollection

from loupe.experiment.render import table
from loupe.plotting import ORDERED, SERIES, TRUTH, figure, filtration_slider, log_axis, series, show
from loupe.topology import CLOUDS, spanning_tree

SLOPE_CLOUDS = ("circle", "sierpinski", "cube_2")


def filtration(points=60, seed=4):
    """The slider: a cloud on a noisy circle, its growing forest, and its barcode."""
    rng = np.random.default_rng(seed)
    cloud = CLOUDS["circle"].sample(points, seed) * rng.uniform(0.75, 1.05, (points, 1))
    edges, lengths = spanning_tree(cloud)
    return filtration_slider(
        cloud,
        edges,
        lengths,
        title="Components merge as the discs grow",
        alt=f"{points} points near a circle; discs grow around them, edges of the spanning tree appear as discs touch, "
        "and one bar of the barcode ends with each edge.",
    )


def slopes(runs):
    """F1: lifetime sums against subset size for three clouds, and the fitted lines."""
    run = runs.first
    names = list(run["clouds"])
    sheet, axes = figure(height=3.6)
    for rank, name in enumerate(name for name in SLOPE_CLOUDS if name in names):
        k = names.index(name)
        sums, sizes = run["lifetime_sums"][k], run["sizes"]
        axes.errorbar(
            sizes, sums.mean(axis=1), yerr=sums.std(axis=1), linestyle="none", capsize=2, **series(rank)
        )
        line = np.exp(run["intercept"][k]) * sizes ** run["slope"][k]
        axes.plot(sizes, line, color=SERIES[rank].colour, linewidth=1)
        label = f"{CLOUDS[name].label}\nslope {run['slope'][k]:.2f}\ndimension {run['dimension'][k]:.2f}"
        axes.annotate(
            label, (sizes[-1], line[-1]), xytext=(8, 0), textcoords="offset points", color=SERIES[rank].colour,
            va="center", fontsize=8.5,
        )  # fmt: skip
    axes.set_xlim(sizes[0] * 0.93, sizes[-1] * 1.5)
    axes.margins(y=0.12)
    log_axis(axes, "xy")
    axes.set(xlabel="points in the subset, n", ylabel="lifetime sum E₁(n)", title="Slopes give dimensions")
    repeats = run["lifetime_sums"].shape[2]
    show(
        sheet,
        alt="Three straight lines on log-log axes: flat for the circle, steeper for the Sierpinski triangle, steepest "
        "for the square.",
        caption=f"Mean lifetime sum of {repeats} subsets at each size, with one standard deviation, and the "
        "least-squares line; one cloud each (first seed). The steeper the growth, the higher the dimension: "
        r"$\widehat{\dim}=\alpha/(1-m)$.",
    )


def dimensions(runs):
    """F2: estimated against true dimension for every cloud."""
    from loupe.experiment.claims import t_interval

    run = runs.first
    truth, values = run["truth"], runs["dimension"]
    intervals = [t_interval(column) for column in values.T]
    order = np.argsort(truth, kind="stable")
    sheet, axes = figure(height=0.27 * len(order) + 1)
    for row, k in enumerate(order):
        low, high = intervals[k]
        axes.plot(
            truth[k], row, marker="|", color="black", markersize=11, markeredgewidth=1.6, linestyle="none"
        )
        axes.plot([low, high], [row, row], color=SERIES[0].colour, linewidth=2.5)
        axes.plot(values[:, k].mean(), row, **series(0))
    axes.set_yticks(range(len(order)), [CLOUDS[run["clouds"][k]].label for k in order])
    axes.set_xscale("log", base=2)
    axes.set_xticks([0.5, 1, 2, 3, 5, 10], ["0.5", "1", "2", "3", "5", "10"])
    axes.set_xlim(min(0.45, truth.min() * 0.8), truth.max() * 1.25)
    axes.set(xlabel="dimension", title="Close up to three dimensions, too low above")
    handles = [
        axes.plot([], [], marker="|", color="black", markersize=11, markeredgewidth=1.6, linestyle="none")[0],
        axes.plot([], [], linewidth=2.5, **series(0))[0],
    ]
    axes.legend(handles, ["truth", "estimate, 95 % interval"], loc="lower right")
    show(
        sheet,
        alt="A row per cloud. Estimates sit on the true dimension up to three dimensions and fall below it for the "
        "cubes in five and ten dimensions.",
        caption=f"Estimated and true dimension; mean and 95 % t interval over {len(runs)} clouds (seeds) of each kind. "
        "In five and ten dimensions so few points see mostly the boundary, and the estimate is too low.",
    )


def processes(runs):
    """F2, second part: estimates against the stable index."""
    run = runs.first
    beta, means = run["beta"], runs["estimates"].mean(axis=0)
    sheet, axes = figure(height=4.0)
    axes.plot(beta, beta, label="truth", **TRUTH)
    for rank, (name, mean) in enumerate(zip(run["estimators"], means, strict=True)):
        axes.plot(beta, mean, label=name, **series(rank))
    spread = runs["estimates"][:, 0]
    axes.fill_between(
        beta, spread.min(axis=0), spread.max(axis=0), color=SERIES[0].colour, alpha=0.15, linewidth=0
    )
    axes.set(
        xlabel="stable index β", ylabel="estimated dimension", title="The paths get rougher, and it shows"
    )
    axes.legend(ncols=2)
    show(
        sheet,
        alt="Estimates of five methods against the stable index. Persistent homology rises along the diagonal, above it.",
        caption="Paths of Ornstein–Uhlenbeck processes in ten dimensions, driven by stable noise of index β, which is "
        f"the dimension of the path; means over {len(runs)} seeds. The band spans the seeds of the persistent-homology "
        "estimate.",
    )


def process_table(runs):
    """How well each estimator orders the processes, and how far it is from their dimension."""
    from scipy.stats import spearmanr

    run = runs.first
    beta, means = run["beta"], runs["estimates"].mean(axis=0)
    rows = [
        (
            str(name),
            float(spearmanr(beta, mean).statistic) if np.ptp(mean) else 0.0,
            float(np.abs(runs["estimates"][:, k] - beta).mean()),
            float((mean - beta).mean()),
        )
        for k, (name, mean) in enumerate(zip(run["estimators"], means, strict=True))
    ]
    head = ("estimator", "Spearman ρ of the means", "mean absolute error", "mean error")
    return table(head, rows, numeric=True)


def noise(runs):
    """PH11: how estimates on one cloud spread, with one draw and with ten."""
    run = runs.first
    sheet, axes = figure(height=2.8)
    bins = np.histogram_bin_edges(run["dimensions"][0], 25)
    for rank, (repeats, values) in enumerate(zip(run["repeats"], run["dimensions"], strict=True)):
        label = f"{repeats} {'draw' if repeats == 1 else 'draws'} a size: standard deviation {values.std(ddof=1):.3f}"
        axes.hist(values, bins, color=SERIES[1 - rank].colour, alpha=0.75, label=label)
    axes.axvline(2, **TRUTH)
    axes.set(
        xlabel="estimated dimension of the same square",
        ylabel="estimates",
        title="One draw is noisy; ten are not",
    )
    axes.margins(y=0.3)
    axes.legend(loc="upper left")
    show(
        sheet,
        alt="Two histograms around two: a wide one for one draw, and a narrow one for ten.",
        caption=f"{run['dimensions'].shape[1]} estimates each on one and the same cloud (uniform in the unit square); only "
        "the random subsets differ. The dashed line is the truth.",
    )


def training(runs):
    """The run behind the pictures: loss, and its last iterates in their best plane with the spanning tree."""
    run = runs.first
    sheet, (left, right) = figure("wide", 3.4, columns=2)
    window = max(1, len(run["losses"]) // 200)
    smooth = np.convolve(run["losses"], np.ones(window) / window, mode="valid")
    left.plot(np.arange(len(smooth)) + window, smooth, color=SERIES[0].colour)
    log_axis(left, "y")
    kept = len(run["plane"])
    left.axvspan(run["steps"] - kept, run["steps"], color=SERIES[1].colour, alpha=0.15, linewidth=0)
    left.annotate(
        "kept", (run["steps"] - kept / 2, smooth.max()), ha="center", va="top", color=SERIES[1].colour
    )
    left.set(xlabel="step", ylabel="training loss", title="A network learns …")
    plane, edges = run["plane"], run["edges"]
    right.add_collection(LineCollection(plane[edges], colors="#9ca3af", linewidths=0.7, zorder=1))
    dots = right.scatter(*plane.T, c=np.arange(kept), cmap=ORDERED, s=5, zorder=2)
    right.set(xlabel="first principal direction", ylabel="second", title="… and this is the path it takes")
    right.set_aspect("equal", adjustable="datalim")
    sheet.colorbar(dots, ax=right, label="step within the window", shrink=0.9)
    show(
        sheet,
        alt="Left, a training loss that falls over the steps, with the last steps shaded. Right, the iterates as a bent "
        "ribbon of dots from dark to light, joined by a tree.",
        caption=f"Left: training loss (running mean over {window} steps); the last {kept} iterates are kept. Right: those "
        f"iterates, {run['parameters']:,} numbers each, in the plane that holds most of their spread, with the minimum "
        f"spanning tree of their true distances. First seed; data: {run['data']}.",
    )


def path_table(runs):
    """Each training run of the pictures: how it went, and what five estimators say of its path.

    ``train`` and ``test`` are accuracies; ``along time`` is the share of tree edges that join an iterate to the very
    next one.
    """
    names = [str(name).partition(" ")[0] for name in runs.first["competitor_names"]]
    head = ("seed", "steps", "train", "test", "along time", "PH", *names)
    rows = [
        (run.seed, run["steps"], f"{run['train_accuracy']:.1%}", f"{run['test_accuracy']:.1%}",
         f"{np.mean(np.abs(np.diff(run['edges'], axis=1)) == 1):.0%}", run["dimension"],
         *map(float, run["competitors"]))
        for run in runs
    ]  # fmt: skip
    return table(head, rows, numeric=True)


def path_shape(runs):
    """F4: distance matrix and barcode of the training path."""
    run = runs.first
    sheet, (left, right) = figure("wide", 3.4, columns=2)
    steps = run["picture_steps"]
    picture = left.imshow(run["picture"], extent=(steps[0], steps[-1], steps[-1], steps[0]), cmap=ORDERED)
    left.grid(False)
    left.set(
        xlabel="step within the window", ylabel="step within the window", title="Far in time is far in space"
    )
    sheet.colorbar(picture, ax=left, label="distance", shrink=0.9)
    lengths = run["lengths"]
    bars = np.stack([np.zeros_like(lengths), lengths], axis=1)
    rows = np.arange(len(lengths))
    segments = np.stack([bars, np.stack([rows, rows], axis=1)], axis=2)
    right.add_collection(LineCollection(segments, colors=SERIES[0].colour, linewidths=0.5))
    right.set(xlim=(0, lengths.max() * 1.05), ylim=(-5, len(lengths) + 5))
    right.set(xlabel="scale r", ylabel="component, by lifetime", title="Each bar is an edge of the tree")
    show(
        sheet,
        alt="Left, a distance matrix that is dark along the diagonal and brightens away from it. Right, a barcode of "
        "horizontal bars sorted by length.",
        caption=f"Left: distances between the kept iterates ({len(steps)} of {len(lengths) + 1} rows shown, in order of "
        f"time). Right: the degree-0 barcode, {len(lengths)} finite bars. First seed.",
    )


def path_diagram(runs):
    """F4, second part: the persistence diagram in degrees 0 and 1, by gudhi."""
    run = runs.first
    sheet, axes = figure("narrow", 3.6)
    top = 1.05 * max(run["h0"].max(), run["h1"].max() if run["h1"].size else 0)
    axes.plot([0, top], [0, top], **TRUTH)
    axes.scatter(*run["h0"].T, s=10, label=f"components ({len(run['h0'])})", zorder=2, **series(0))
    axes.scatter(*run["h1"].T, s=10, label=f"loops ({len(run['h1'])})", zorder=2, **series(1))
    axes.set(xlabel="birth", ylabel="death", title="No loop of the path lives long")
    axes.set_aspect("equal")
    axes.legend(loc="lower right")
    show(
        sheet,
        alt="Persistence diagram: components in a column at birth zero, loops close to the diagonal.",
        caption=f"Persistence diagram of {len(run['picture_steps'])} of the kept iterates, computed by gudhi. Points far "
        "above the diagonal would be features that persist. First seed.",
    )


def path_dimensions(runs):
    """The dimension of the training path: the averaged estimate of each seed, and fifty one-draw estimates."""
    sheet, axes = figure(height=0.45 * len(runs) + 1.2)
    for row, run in enumerate(runs):
        draws = run["one_draw_dimensions"]
        axes.plot(draws, np.full(len(draws), row), linestyle="none", marker="|", color=SERIES[1].colour, markersize=9,
                  label="published protocol, one draw" if row == 0 else None)  # fmt: skip
        axes.errorbar(run["dimension"], row, xerr=2 * run["standard_error"], capsize=3, zorder=3,
                      label="ours, averaged" if row == 0 else None, **series(0))  # fmt: skip
    axes.set_yticks(range(len(runs)), [f"seed {seed}" for seed in runs.seeds])
    axes.set_ylim(-0.6, len(runs) - 0.4)
    axes.invert_yaxis()
    axes.set(
        xlabel="estimated dimension of the training path", title="The same path, measured again and again"
    )
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1))
    show(
        sheet,
        alt="For each seed, a row of fifty scattered ticks and one dot with a short error bar.",
        caption=f"One row a training run. Ticks: the published protocol (one subset a size) with {len(draws)} seeds. Dot: "
        f"the mean of {runs.first['lifetime_sums'].shape[1]} subsets a size, with two standard errors of the resampling.",
    )


def timing(bench):
    """F7: seconds for H0 against the number of points, by method; from the stored benchmark."""
    sheet, axes = figure(height=3.6)
    for rank, (method, seconds) in enumerate(_h0_seconds(bench).items()):
        axes.plot(list(seconds), list(seconds.values()), label=method, **series(rank))
    log_axis(axes, "xy")
    axes.set(xlabel="points n", ylabel="CPU-seconds, one thread", title="A tree needs no simplices")
    axes.legend()
    show(
        sheet,
        alt="Five rising lines on log-log axes; single linkage is the lowest, ripser with loops the highest.",
        caption="Time to all H0 lifetimes from a given distance matrix, median of several runs; see "
        "`benchmarks/ph_dimension.py`.",
    )


def timing_table(bench):
    """F7 as a table: CPU-seconds of the routes to H0, one thread."""
    seconds = _h0_seconds(bench)
    sizes = sorted({n for one in seconds.values() for n in one})
    rows = [(method, *(one.get(n, "") for n in sizes)) for method, one in seconds.items()]
    return table(("CPU-seconds", *(f"n = {n}" for n in sizes)), rows, numeric=True)


def estimator_table(bench):
    """The whole estimator, and the distances behind it, against peers and the machine's own limit."""
    rows = [
        (row["task"], row["method"], row["n"], row["P"], row["seconds"], row.get("times ours", ""),
         f"{row['share of GEMM']:.0%}" if "share of GEMM" in row else "")
        for row in bench["rows"] if row["task"] != "H0 lifetimes"
    ]  # fmt: skip
    return table(
        ("task", "method", "points", "P", "CPU-seconds", "times ours", "of the limit"), rows, numeric=True
    )


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
    axes.add_collection(
        LineCollection(run["plane"][run["edges"]], colors="#9ca3af", linewidths=2.0, zorder=1)
    )
    axes.scatter(*run["plane"].T, c=np.arange(len(run["plane"])), cmap=ORDERED, s=50, zorder=2)
    axes.set_aspect("equal", adjustable="datalim")
    axes.axis("off")
    sheet.savefig(target, dpi=100, facecolor="white", metadata={"Software": None})
    plt.close(sheet)

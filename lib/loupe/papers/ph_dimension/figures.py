"""Figures and tables of sets, of processes and of training paths, drawn from stored results alone."""

import numpy as np
from matplotlib.collections import LineCollection

from loupe.experiment.claims import t_interval
from loupe.experiment.render import score_table, table
from loupe.papers.drawing import Picture, band, bench_table, drawn_from
from loupe.plotting import (
    BLACK,
    MUTED,
    SERIES,
    STEPS,
    TRUTH,
    figure,
    filtration_slider,
    log_axis,
    series,
    thumbnail_axes,
)
from loupe.topology import CLOUDS, spanning_tree

SLOPE_CLOUDS = ("cube_3", "cube_2", "sierpinski")


def filtration(points=60, seed=4):
    """A slider: a cloud around a circle, its growing forest, and its barcode."""
    radii = np.random.default_rng(seed + 1).uniform(0.6, 1.1, (points, 1))
    cloud = radii * CLOUDS["circle"].sample(points, seed)
    alt = (
        f"{points} points around a circle; discs grow around them, an edge of the spanning tree appears whenever two "
        "discs touch, and one bar of the barcode ends with each edge."
    )
    title = "Components merge as the discs grow"
    return filtration_slider(cloud, *spanning_tree(cloud), title=title, alt=alt)


@drawn_from("known_dimensions", what="the dimension of known sets", seeds="first")
def slopes(found):
    """Lifetime sums against subset size for three clouds, and the fitted lines."""
    run = found.runs.first
    names, sizes = list(run["clouds"]), run["sizes"]
    sheet, axes = figure(height=3.6)
    for rank, name in enumerate(name for name in SLOPE_CLOUDS if name in names):
        k = names.index(name)
        axes.plot(sizes, run["lifetime_sums"][k].mean(axis=1), linestyle="none", **series(rank))
        line = np.exp(run["intercept"][k]) * sizes ** run["slope"][k]
        axes.plot(sizes, line, color=SERIES[rank].color, linewidth=1)
        label = f"{CLOUDS[name].label}\nslope {run['slope'][k]:.2f}\ndimension {run['dimension'][k]:.2f}"
        place = {"xytext": (8, 0), "textcoords": "offset points", "va": "center"}
        axes.annotate(label, (sizes[-1], line[-1]), color=SERIES[rank].color, **place)
    axes.set_xlim(sizes[0] * 0.93, sizes[-1] * 1.85)
    axes.margins(y=0.12)
    log_axis(axes, "xy")
    axes.set(
        xlabel="points in the subset, n", ylabel="lifetime sum E₁(n)", title="The slope gives the dimension"
    )
    return Picture(
        sheet,
        "Three straight lines on log-log axes: steepest for the cube, then the square, then the Sierpinski triangle.",
        f"Mean lifetime sums of {run['lifetime_sums'].shape[2]} random subsets of each size (their spread is smaller than "
        "the markers) and least-squares lines, for one cloud of each kind. The steeper the line, the higher the dimension.",
    )


@drawn_from("known_dimensions", what="the dimension of known sets")
def dimensions(found):
    """Estimated against true dimension for every cloud."""
    run, values = found.runs.first, found.runs["dimension"]
    truth = run["truth"]
    order = np.argsort(truth, kind="stable")
    sheet, axes = figure(height=0.27 * len(order) + 1.2)
    tick = {"marker": "|", "color": BLACK, "markersize": 11, "markeredgewidth": 1.6, "linestyle": "none"}
    for row, k in enumerate(order):
        axes.plot(truth[k], row, **tick)
        axes.plot(t_interval(values[:, k]), [row, row], color=SERIES[0].color, linewidth=2.5)
        axes.plot(values[:, k].mean(), row, **series(0))
    axes.set_yticks(range(len(order)), [CLOUDS[run["clouds"][k]].label for k in order])
    axes.set_xscale("log", base=2)
    axes.set_xticks([0.5, 1, 2, 3, 5, 10], ["0.5", "1", "2", "3", "5", "10"])
    axes.set_xlim(min(0.45, truth.min() * 0.8), truth.max() * 1.25)
    axes.set(xlabel="dimension", title="Accurate up to dimension 3, too low above")
    handles = [axes.plot([], [], **tick)[0], axes.plot([], [], linewidth=2.5, **series(0))[0]]
    axes.legend(handles, ["truth", "estimate, 95% interval"], loc="lower right")
    return Picture(
        sheet,
        "A row per cloud. Estimates match the true dimension up to three, and fall below it for the cubes in five and ten "
        "dimensions; the Cantor set and the Gaussian plane come out a little high.",
        "Estimated and true dimension: means and 95% t intervals over one cloud per seed.",
    )


@drawn_from("diffusion_processes", what="the dimension of diffusion processes")
def processes(found):
    """How far each estimate is from the stable index."""
    run = found.runs.first
    beta, errors = run["beta"], found.runs["estimates"] - run["beta"]
    sheet, axes = figure(height=3.7)
    axes.axhline(0, **TRUTH)
    for rank, name in enumerate(run["estimators"]):
        if not str(name).startswith("PCA"):
            band(axes, beta, errors[:, rank], rank, label=name, marker=SERIES[rank].marker)
    axes.set(xlabel="stable index β, the true dimension", ylabel="estimate minus truth")
    axes.set_title("Every estimator is too high on average")
    axes.margins(y=0.25)
    axes.legend(ncols=2, loc="upper left")
    return Picture(
        sheet,
        "Errors of four estimators against the stable index: TwoNN far above zero, then maximum likelihood, then "
        "persistent homology, and the correlation dimension closest to zero.",
        "Error on paths of Ornstein–Uhlenbeck processes driven by β-stable noise in ten dimensions: means and 95% t "
        "intervals over paths, one for each seed. Counting principal components is off the scale.",
    )


@drawn_from("exhausted_paths", what="the dimension of Brownian paths")
def exhaustion_table(found):
    """Brownian paths measured with subsets that take a small or a large share of their points."""
    run, values = found.runs.first, found.runs["dimension"]
    each = zip(run["points"], run["largest"], values.T, strict=True)
    rows = [(f"{n:,}", f"{largest:,}", column) for n, largest, column in each]
    head = (f"points, {found.label}", "largest subset", "estimate, truth 2")
    return score_table(head, rows, digits=2)


# --- training paths -----------------------------------------------------------------------------------------


@drawn_from("training_path", what="the training path", seeds="first")
def training(found):
    """A training run: its loss, and its last iterates with their spanning tree in the plane that fits them best."""
    run = found.runs.first
    sheet, (top, bottom) = figure(height=6.6, rows=2, height_ratios=(2, 3))
    window = max(1, len(run["losses"]) // 200)
    smooth = np.convolve(run["losses"], np.ones(window) / window, mode="valid")
    top.plot(np.arange(len(smooth)) + window, smooth, color=SERIES[0].color)
    log_axis(top, "y")
    end, kept, colour = run["steps"], len(run["plane"]), SERIES[1].color
    top.axvspan(end - kept, end, color=colour, alpha=0.15, linewidth=0)
    top.annotate("kept", (end - kept / 2, smooth.max()), ha="center", va="top", color=colour)
    top.set(xlabel="step", ylabel="training loss", title="A network learns …")
    dots = _draw_path(bottom, run, size=6)
    bottom.set(
        xlabel="first principal direction", ylabel="second", title="… and its last iterates form this path"
    )
    sheet.colorbar(dots, ax=bottom, label="step within the window", shrink=0.9)
    return Picture(
        sheet,
        "Above, a training loss that falls over the steps, with the last steps shaded. Below, the iterates as a bent "
        "ribbon of dots that changes color with time, joined by a tree.",
        f"Above: training loss (running mean over {window} steps). Below: the last {kept} iterates, {run['parameters']:,} "
        "weights each, projected onto the plane that holds most of their spread; lines are the spanning tree of their true "
        f"distances. Data: {run['data']}.",
    )


def _draw_path(axes, run, size):
    plane = run["plane"]
    axes.add_collection(LineCollection(plane[run["edges"]], colors=MUTED, linewidths=0.8, zorder=1))
    axes.set_aspect("equal", adjustable="datalim")
    return axes.scatter(*plane.T, c=np.arange(len(plane)), cmap=STEPS, s=size, zorder=2)


@drawn_from("training_path", what="the training path")
def surrogate_table(found):
    """The lowest and highest dimension of training paths, and of paths that share one property with each of them."""
    names = ("the path itself", *map(str, found.runs.first["surrogates"]))
    each = [found.runs["dimension"], *found.runs["surrogate_dimensions"].T]
    rows = [(name, f"{one.min():.2f}", f"{one.max():.2f}") for name, one in zip(names, each, strict=True)]
    return table((f"path, {found.label}", "lowest", "highest"), rows, numeric=True)


def thumbnail(chapter, target):
    """The path of the first training run with its tree, without axes, for the landing page."""
    with thumbnail_axes(target) as axes:
        _draw_path(axes, chapter.stored["training_path"].first, size=50)


# --- speed --------------------------------------------------------------------------------------------------


def lifetime_costs(bench):
    """CPU time of the routes to the lifetimes of a distance matrix, on one thread."""
    seconds = {}
    for row in bench["rows"]:
        if row["task"] == "H0 lifetimes":
            seconds.setdefault(row["method"], {})[row["n"]] = f"{1000 * row['seconds']:.3g}"
    sizes = list(next(iter(seconds.values())))
    rows = [(method, *(one.get(n, "not run") for n in sizes)) for method, one in seconds.items()]
    return table(("milliseconds", *(f"n = {n}" for n in sizes)), rows, numeric=True)


def estimator_costs(bench):
    """CPU time of the whole estimator with 16 sizes, beside a re-statement of the published procedure."""
    columns = {"estimator": "{method}", "points × weights": "{n} × {P:,}", "CPU-seconds": "{seconds:.3g}"}
    return bench_table(bench, "estimator, 16 sizes", columns | {"times ours": "{times ours:.3g}"})

"""Figures and tables of sets and processes, drawn from stored results alone, and of what estimates cost."""

import numpy as np

from loupe.experiment.claims import t_interval
from loupe.experiment.render import score_table, table
from loupe.experiment.results import row
from loupe.papers.drawing import Picture, band, bench_table, drawn_from
from loupe.papers.ph_dimension.figures_networks import draw_path
from loupe.plotting import BLACK, SERIES, TRUTH, figure, filtration_slider, log_axis, series, thumbnail_axes
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
    sizes, fitted = run["sizes"], ("lifetime_sums", "intercept", "slope", "dimension")
    sheet, axes = figure(height=3.6)
    for rank, name in enumerate(name for name in SLOPE_CLOUDS if name in run["cloud"]):
        sums, intercept, slope, dimension = (row(run, value, cloud=name) for value in fitted)
        axes.plot(sizes, sums.mean(axis=1), linestyle="none", **series(rank))
        line = np.exp(intercept) * sizes**slope
        axes.plot(sizes, line, color=SERIES[rank].color, linewidth=1)
        label = f"{CLOUDS[name].label}\nslope {slope:.2f}\ndimension {dimension:.2f}"
        place = {"xytext": (8, 0), "textcoords": "offset points", "va": "center"}
        axes.annotate(label, (sizes[-1], line[-1]), color=SERIES[rank].color, **place)
    axes.set_xlim(sizes[0] * 0.93, sizes[-1] * 1.85)
    axes.margins(y=0.12)
    log_axis(axes, "xy")
    axes.set(xlabel="points in the subset, n", ylabel="lifetime sum E₁(n)")
    axes.set_title("The slope gives the dimension")
    return Picture(
        sheet,
        "Three straight lines on log-log axes: steepest for the cube, then the square, then the Sierpinski triangle.",
        f"Mean lifetime sums of {run['lifetime_sums'].shape[2]} random subsets of each size (their spread is smaller than "
        "the markers) and least-squares lines, for one cloud of each kind. The steeper the line, the higher the dimension.",
    )


@drawn_from("known_dimensions", what="the dimension of known sets")
def dimensions(found):
    """Estimated against true dimension for every cloud."""
    truth = found.runs.first["truth"]
    order = np.argsort(truth, kind="stable")
    sheet, axes = figure(height=0.27 * len(order) + 1.2)
    tick = {"marker": "|", "color": BLACK, "markersize": 11, "markeredgewidth": 1.6, "linestyle": "none"}
    for height, (true, values) in enumerate(zip(truth[order], found.runs["dimension"].T[order], strict=True)):
        axes.plot(true, height, **tick)
        axes.plot(t_interval(values), [height, height], color=SERIES[0].color, linewidth=2.5)
        axes.plot(values.mean(), height, **series(0))
    axes.set_yticks(range(len(order)), [CLOUDS[name].label for name in found.runs.first["cloud"][order]])
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
    runs, beta = found.runs, found.runs.first["beta"]
    sheet, axes = figure(height=3.7)
    axes.axhline(0, **TRUTH)
    for rank, name in enumerate(runs.first["estimator"][:-1]):
        errors = row(runs, "estimates", estimator=name) - beta
        band(axes, beta, errors, rank, label=name, marker=SERIES[rank].marker)
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


def thumbnail(chapter, target):
    """The path of the first training run with its tree, without axes, for the landing page."""
    with thumbnail_axes(target) as axes:
        draw_path(axes, chapter.stored["training_path"].first, size=50)


# --- speed --------------------------------------------------------------------------------------------------


def lifetime_costs(bench):
    """CPU time of the routes to the lifetimes of a distance matrix, on one thread."""
    found = [one for one in bench["rows"] if one["task"] == "H0 lifetimes"]
    times = {(one["method"], one["n"]): f"{1000 * one['seconds']:.3g}" for one in found}
    methods, sizes = (dict.fromkeys(each) for each in zip(*times, strict=True))
    rows = [(method, *(times.get((method, n), "not run") for n in sizes)) for method in methods]
    return table(("milliseconds", *(f"n = {n}" for n in sizes)), rows, numeric=True)


def estimator_costs(bench):
    """CPU time of the whole estimator with 16 sizes, beside a re-statement of the published procedure."""
    columns = {"estimator": "{method}", "points × weights": "{n} × {P:,}", "CPU-seconds": "{seconds:.3g}"}
    return bench_table(bench, "estimator, 16 sizes", columns | {"times ours": "{times ours:.3g}"})

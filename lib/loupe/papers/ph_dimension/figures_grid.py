"""Pictures of the grid, of the regularizer and of adversarial starts, drawn from stored results alone."""

from dataclasses import replace

import matplotlib as mpl
import numpy as np

from loupe.experiment.render import table
from loupe.metrics import bootstrap_kendall, granulated_kendall, kendall, partial_kendall, permutation_test
from loupe.papers.drawing import Picture, drawn_from
from loupe.papers.ph_dimension.claims import gap_at_accuracy
from loupe.papers.ph_dimension.claims_grid import SIMPLE, Grid, grids
from loupe.papers.ph_dimension.figures import band, draw_diagram, draw_distances
from loupe.plotting import MUTED, figure, series, shades

MARKERS = "osD^vXP*"

from_grid = drawn_from("gap_grid", what="the grid of training runs")
from_penalty = drawn_from("regularised", what="training with the penalty")


def _gap(run):
    """The gap of a run or of runs in points of accuracy."""
    return 100 * (run["train_accuracy"] - run["test_accuracy"])


# --- the grid -----------------------------------------------------------------------------------------------


@from_grid
def gap_scatter(found):
    """F3: generalization gap against dimension, color by learning rate and marker by batch size."""
    every = grids(found.runs)
    repetitions = len(every[0].gap) // len(every[0].cells.gap)
    shares = [(len(run["step_lengths"]) + 1) / run["steps"] for run in found.runs if "step_lengths" in run]
    sheet, panels = figure(height=4.3 * len(every), rows=len(every), squeeze=False)
    for axes, grid in zip(panels[:, 0], every, strict=True):
        test = permutation_test(grid.cells.dimension, grid.cells.gap)
        p = f"p = {test.p_value:.4f}" if test.p_value >= 1e-4 else "p < 0.0001"
        _scatter(axes, grid)
        axes.set_title(f"{grid.case}: τ = {_two(test.tau)}, {p}")
    _keys(sheet, every[0])
    return Picture(
        sheet,
        "Scatter of accuracy gap against dimension, one point a run. Larger batches, with markers of their own, lie at "
        "higher dimensions; colors show learning rates.",
        f"Training accuracy less test accuracy against the dimension of the last iterates before the stop, which are "
        f"{min(shares):.0%} to {max(shares):.0%} of a run: {len(found.runs)} runs, {repetitions} in each cell of the grid. "
        "Hollow: stopped before every training image was right. In the title: Kendall's τ of the means of cells, and its "
        "permutation p.",
    )


def _scatter(axes, grid: Grid):
    for k, batch in enumerate(np.unique(grid.batch)):
        for rate, color in _colors(grid.rate).items():
            for done, face in ((True, color), (False, "none")):
                here = (grid.batch == batch) & (grid.rate == rate) & (grid.converged == done)
                axes.plot(grid.dimension[here], 100 * grid.gap[here], linestyle="none", marker=MARKERS[k], markersize=6,
                          color=color, markerfacecolor=face)  # fmt: skip
    axes.set(xlabel="dimension of the last iterates", ylabel="accuracy gap, points")


def _colors(rates):
    rates = np.unique(rates)
    return dict(zip(rates, shades(len(rates)), strict=True))


def _keys(sheet, grid: Grid):
    def key(title, place, entries):
        handles = [
            mpl.lines.Line2D([], [], linestyle="none", markersize=6, marker=marker, color=color, label=label)
            for label, marker, color in entries
        ]
        below = {"ncols": 4, "handletextpad": 0.1, "columnspacing": 1.0}
        sheet.legend(handles=handles, title=title, loc=f"outside lower {place}", **below)

    key("learning rate", "left", [(f"{rate:g}", "o", color) for rate, color in _colors(grid.rate).items()])
    batches = enumerate(np.unique(grid.batch))
    key("batch size", "right", [(str(batch), MARKERS[k], MUTED) for k, batch in batches])


@from_grid
def measure_table(found):
    """Kendall's tau of every measure with the gap: all runs, those that converged, and with the gap in loss."""
    rows = []
    for grid in grids(found.runs):
        for name in grid.measures:
            known = grid.where(np.isfinite(grid.measures[name]))
            cells, done = known.cells, known.where(known.converged).cells
            rows.append(
                (name + " *" * (name in SIMPLE), _tau(cells, name), _interval(cells, name), _tau(done, name),
                 _tau(replace(cells, gap=cells.loss_gap), name))
            )  # fmt: skip
    head = (
        f"measure, at {found.preset}",
        "τ, accuracy gap",
        "95\u202f% interval",
        "converged",
        "τ, loss gap",
    )
    return table(head, rows, numeric=True)


def _tau(cells: Grid, name: str) -> str:
    return _two(kendall(cells.measures[name], cells.gap)) if len(cells.gap) > 2 else "none"


def _interval(cells: Grid, name: str) -> str:
    if len(cells.gap) < 3:
        return "none"
    low, high = np.nanquantile(bootstrap_kendall(cells.measures[name], cells.gap), (0.025, 0.975))
    return f"{_two(low)} to {_two(high)}"


CONDITIONED = (
    "PH dimension", "PH dimension, in losses", "lifetime sum", "lifetime sum, in losses", "positive magnitude",
    "positive magnitude, in losses", "norm of the weights", "step lengths only",
)  # fmt: skip


@from_grid
def conditioning_table(found):
    """Tau with the gap when something is held fixed: partial, with two-sided p, and along the lines of the grid."""
    rows = []
    for every in grids(found.runs):
        for name in CONDITIONED:
            grid = every.where(np.isfinite(every.measures[name])).cells
            if len(grid.gap) < 3:
                continue
            column = grid.measures[name]
            given = [
                partial_kendall(column, grid.gap, z, alternative="two-sided")
                for z in (grid.rate, grid.batch, grid.ratio)
            ]
            within = granulated_kendall(column, grid.gap, {"rate": grid.rate, "batch": grid.batch}).of
            partial = [f"{_two(one.tau)}\u00a0({one.p_value:.2g})" for one in given]
            rows.append((name, *partial, _two(within["rate"]), _two(within["batch"])))
    given = ("given lr (p)", "given batch (p)", "given ratio (p)")
    return table((f"measure, at {found.preset}", *given, "lr varies", "batch varies"), rows, numeric=True)


@from_grid
def batch_panels(found):
    """F6: the scatter of F3, one panel for each batch size."""
    grid = grids(found.runs)[0]
    batches = np.unique(grid.batch)
    rows = -(-len(batches) // 2)
    sheet, panels = figure(height=2.5 * rows, rows=rows, columns=2, sharey=True, squeeze=False)
    for axes, batch in zip(panels.flat, batches, strict=False):
        part = grid.where(grid.batch == batch)
        _scatter(axes, part)
        axes.set_title(f"batch {batch}: τ = {_tau(part, 'PH dimension')}")
        axes.set_xlabel("dimension")
    for axes in panels[:, 1:].flat:
        axes.set_ylabel("")
    colors = _colors(grid.rate)
    handles = [axes.plot([], [], "o", color=color, label=f"lr {rate:g}")[0] for rate, color in colors.items()]
    sheet.legend(handles=handles, loc="outside lower center", ncols=4)
    return Picture(
        sheet,
        "One scatter of gap against dimension for each batch size, with four learning rates in four colors.",
        f"The runs of {grid.case} by batch size: each panel has its own range of dimensions. Within a panel only the "
        "learning rate (color) and the seed vary.",
    )


@from_grid
def best_and_worst(found):
    """F4: distance matrices and persistence diagrams of the converged runs with the smallest and the largest gap."""
    runs = found.runs
    gap, done = _gap(runs), np.flatnonzero(runs["converged"])
    done = done if len(done) > 1 else np.arange(len(runs))  # a short try converges nowhere
    chosen = [runs.results[done[k]] for k in (np.argmin(gap[done]), np.argmax(gap[done]))]
    sheet, panels = figure(height=5.0, rows=2, columns=2)
    brightest = max(run["picture"].max() for run in chosen)
    for (top, bottom), run, word in zip(panels.T, chosen, ("Smallest", "Largest"), strict=True):
        picture = draw_distances(top, run, vmin=0, vmax=brightest)
        top.set_title(f"{word} gap: {_gap(run):.1f}")
        end = draw_diagram(bottom, run, 8)
        bottom.set(xlim=(-0.05 * end, end), ylim=(0, end), title=f"Dimension {run['dimension']:.2f}")
        bottom.legend(loc="lower right")
    panels[0, 0].set_ylabel("step within the window")
    panels[1, 0].set_ylabel("death")
    sheet.colorbar(picture, ax=panels[0], label="distance", shrink=0.8)
    settings = "; ".join(f"lr {run['learning_rate']:g}, batch {run['batch']}" for run in chosen)
    return Picture(
        sheet,
        "Two distance matrices on one color scale, and below each its persistence diagram of components and loops.",
        f"The converged runs with the smallest and the largest gap ({settings}). Above: distances between "
        f"{len(run['picture'])} of the last iterates, one color scale. Below: their persistence diagrams by gudhi, each on "
        "a scale of its own. Gaps are in points of accuracy.",
    )


# --- the penalty, the order of batches, and adversarial starts ----------------------------------------------


@from_penalty
def regulariser(found):
    """F5: accuracies and running dimension with and without the penalty, equal steps and equal seeds."""
    runs = found.runs
    steps, weights = runs.first["steps"][0], runs.first["weights"]
    full = np.isfinite(runs["dimension"]).all(axis=(0, 1))  # the first windows are not
    sheet, (top, bottom) = figure(height=6.0, rows=2, sharex=True)
    for arm, rank in ((1, 0), (0, 1)):  # the paper's method first, and in its color
        words = f"λ = {weights[arm]:g}"
        for name, line in (("train", "-"), ("test", "--")):
            band(top, steps, 100 * runs[f"{name}_accuracy"][:, arm], rank, line, f"{name}, {words}")
        band(bottom, steps[full], runs["dimension"][:, arm][:, full], rank, label=words)
    top.set(ylabel="accuracy, %", title="What the penalty does to accuracy …")
    top.legend(ncols=2, loc="upper left")
    top.margins(y=0.2)
    bottom.set(xlabel="step", ylabel="dimension of the window", title="… and to the dimension it penalizes")
    bottom.legend()
    return Picture(
        sheet,
        "Above, training and test accuracy over the steps with and without the penalty. Below, the dimension of the "
        "latest iterates for both.",
        f"LeNet on {runs.first.settings['penalty_data']} ({runs.first['data']}), Adam, with the dimension of the last "
        "iterates in the loss (weight λ) and without: means and 95\u202f% t intervals over seeds, the same for both. The "
        "dimension is measured from the same window in both, averaged over subsets.",
    )


@from_penalty
def regulariser_table(found):
    """The end of each pair of runs, and the gap that the run without penalty had at the other's training accuracy."""
    rows = []
    for run in found.runs:
        train, test, gap = 100 * run["train_accuracy"], 100 * run["test_accuracy"], _gap(run)
        earlier = gap_at_accuracy(train[0], gap[0], train[1, -1])
        pairs = [f"{a:.1f}\u00a0→\u00a0{b:.1f}" for a, b in (gap[:, -1], train[:, -1], test[:, -1])]
        dimension = "{:.2f}\u00a0→\u00a0{:.2f}".format(*run["dimension"][:, -1])
        rows.append((run.seed, *pairs, dimension, f"{earlier:.1f}"))
    head = (f"seed, at {found.preset}", "gap", "train", "test", "dimension", "gap without, at equal train")
    return table(head, rows, numeric=True)


@drawn_from("training_path", "fixed_order", what="training in one fixed order")
def order_table(found):
    """The same networks with mini-batches drawn anew in each pass and in one fixed order: dimension and gap."""
    words = {"training_path": "drawn anew in each pass", "fixed_order": "one fixed order"}
    rows = [
        (said, *(f"{one:.2f}" for one in (*runs["dimension"], runs["dimension"].mean())), f"{_gap(runs).mean():.1f}")
        for said, runs in ((said, found[name]) for name, said in words.items())
    ]  # fmt: skip
    seeds = (f"seed {seed}" for seed in found["fixed_order"].seeds)
    return table((f"mini-batches, at {found.preset}", *seeds, "mean", "mean gap"), rows, numeric=True)


@drawn_from("adversarial_start", what="training from adversarial starts")
def adversarial(found):
    """PH10: gap and dimension from random and from adversarial starts, one line a seed."""
    runs = found.runs
    sheet, panels = figure(height=3.2, columns=2)
    shown = (
        (_gap(runs), "accuracy gap, points", "The gap …"),
        (runs["dimension"], "dimension", "… and the dimension"),
    )
    for axes, (values, label, title) in zip(panels, shown, strict=True):
        axes.plot([0, 1], values.T, color=MUTED, alpha=0.6, linewidth=1, zorder=1)
        for arm in range(2):
            axes.plot(np.full(len(values), arm), values[:, arm], linestyle="none", zorder=2, **series(arm))
        axes.set_xticks([0, 1], ["random", "adversarial"])
        axes.set(xlim=(-0.4, 1.4), ylabel=label, title=title)
    return Picture(
        sheet,
        "Two strip plots, random and adversarial start: the gap on the left and the dimension on the right, a line for "
        "each seed.",
        f"{runs.first['case']}: networks trained from random weights, and from weights that had first memorized random "
        "labels of the same images. Lines join the two runs of a seed.",
    )


def _two(value):
    return f"{round(value, 2) + 0.0:.2f}".replace("-", "−")  # adding zero turns -0.00 into 0.00

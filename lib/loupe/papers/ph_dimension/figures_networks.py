"""Figures and tables of training runs: paths, the grid, the penalty and adversarial starts."""

import matplotlib as mpl
import numpy as np
from matplotlib.collections import LineCollection

from loupe.experiment.render import table
from loupe.metrics import bootstrap_kendall, kendall, partial_kendall, permutation_test
from loupe.papers.drawing import Picture, band, drawn_from
from loupe.papers.ph_dimension.claims_grid import MEASURES, SIMPLE, accuracy_gap, by_cell, chosen, grids
from loupe.plotting import MUTED, SERIES, STEPS, figure, log_axis, shades


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
    dots = draw_path(bottom, run, size=6)
    bottom.set(xlabel="first principal direction", ylabel="second")
    bottom.set_title("… and its last iterates form this path")
    sheet.colorbar(dots, ax=bottom, label="step within the window", shrink=0.9)
    return Picture(
        sheet,
        "Above, a training loss that falls over the steps, with the last steps shaded. Below, the iterates as a bent "
        "ribbon of dots that changes color with time, joined by a tree.",
        f"Above: training loss (running mean over {window} steps). Below: the last {kept} iterates, {run['parameters']:,} "
        "weights each, projected onto the plane that holds most of their spread; lines are the spanning tree of their true "
        f"distances. Data: {run['data']}.",
    )


def draw_path(axes, run, size):
    """The iterates in their plane, colored by time, and the spanning tree between them."""
    plane = run["plane"]
    axes.add_collection(LineCollection(plane[run["edges"]], colors=MUTED, linewidths=0.8, zorder=1))
    axes.set_aspect("equal", adjustable="datalim")
    return axes.scatter(*plane.T, c=np.arange(len(plane)), cmap=STEPS, s=size, zorder=2)


@drawn_from("training_path", what="the training path")
def surrogate_table(found):
    """The lowest and highest dimension of training paths, and of paths that share one property with each of them."""
    names = ("the path itself", *map(str, found.runs.first["null_model"]))
    each = [found.runs["dimension"], *found.runs["null_dimension"].T]
    rows = [(name, f"{one.min():.2f}", f"{one.max():.2f}") for name, one in zip(names, each, strict=True)]
    return table((f"path, {found.label}", "lowest", "highest"), rows, numeric=True)


# --- the grid -----------------------------------------------------------------------------------------------


from_grid = drawn_from("gap_grid", what="the grid of training runs")


@from_grid
def gap_scatter(found):
    """Generalization gap against dimension, color by learning rate and marker by batch size."""
    every = grids(found.runs)
    first = next(iter(every.values()))
    repetitions = len(first["gap"]) // len(by_cell(first)["gap"])
    shares = [(len(run["step_lengths"]) + 1) / run["steps"] for run in found.runs if "step_lengths" in run]
    sheet, panels = figure(height=4.3 * len(every), rows=len(every), squeeze=False)
    for axes, (case, grid) in zip(panels[:, 0], every.items(), strict=True):
        test = permutation_test(*(by_cell(grid)[name] for name in ("dimension", "gap")))
        p = f"p = {test.p_value:.4f}" if test.p_value >= 1e-4 else "p < 0.0001"
        _scatter(axes, grid)
        axes.set_title(f"{case}: τ = {_two(test.tau)}, {p}")
    _keys(sheet, first)
    return Picture(
        sheet,
        "Scatter of accuracy gap against dimension, one point per run. Larger batches, with markers of their own, lie at "
        "higher dimensions; larger learning rates, by color, lie at smaller gaps.",
        f"Training minus test accuracy against the dimension of the last iterates before the stop, which are "
        f"{min(shares):.0%} to {max(shares):.0%} of a run: {len(found.runs)} runs, {repetitions} per cell of the grid. "
        "Hollow: stopped before every training image was classified correctly. Title: Kendall's τ over the means of cells, "
        "and its permutation p.",
    )


def _scatter(axes, grid):
    for size, marker in _markers(grid).items():
        for rate, color in _colors(grid).items():
            for done, face in ((True, color), (False, "none")):
                here = (grid["batch"] == size) & (grid["learning_rate"] == rate) & (grid["converged"] == done)
                axes.plot(grid["dimension"][here], 100 * grid["gap"][here], linestyle="none", marker=marker,
                          markersize=6, color=color, markerfacecolor=face)  # fmt: skip
    axes.set(xlabel="dimension of the last iterates", ylabel="accuracy gap, points")


def _colors(grid):
    rates = np.unique(grid["learning_rate"])
    return dict(zip(rates, shades(len(rates)), strict=True))


def _markers(grid):
    return dict(zip(np.unique(grid["batch"]), "osD^vXP*", strict=False))


def _keys(sheet, grid):
    def key(title, place, entries):
        handles = [
            mpl.lines.Line2D([], [], linestyle="none", markersize=6, marker=marker, color=color, label=label)
            for label, marker, color in entries
        ]
        below = {"ncols": 4, "handletextpad": 0.1, "columnspacing": 1.0}
        sheet.legend(handles=handles, title=title, loc=f"outside lower {place}", **below)

    key("learning rate", "left", [(f"{rate:g}", "o", color) for rate, color in _colors(grid).items()])
    key("batch size", "right", [(str(batch), marker, MUTED) for batch, marker in _markers(grid).items()])


@from_grid
def measure_table(found, whole=False):
    """Kendall's tau with the gap: of the dimension and of simple measures, or of all, also with a knob held fixed."""
    head = ("τ", "95% interval", "τ, loss gap") + ("given lr", "given batch") * whole
    rows = []
    for grid in grids(found.runs).values():
        for name in MEASURES if whole else ("dimension", *SIMPLE):
            cells = by_cell(chosen(grid, np.isfinite(grid[name])))
            if len(cells["gap"]) > 2:
                rows.append((MEASURES[name], *_taus(cells, name)[: len(head)]))
    return table((f"measure, at {found.preset}", *head), rows, numeric=True)


def _taus(cells, name):
    column, gap = cells[name], cells["gap"]
    low, high = np.nanquantile(bootstrap_kendall(column, gap), (0.025, 0.975))
    given = [partial_kendall(column, gap, cells[knob], draws=1).tau for knob in ("learning_rate", "batch")]
    plain, loss = kendall(column, gap), kendall(column, cells["loss_gap"])
    return _two(plain), f"{_two(low)} to {_two(high)}", *map(_two, (loss, *given))


# --- the penalty and adversarial starts ---------------------------------------------------------------------


@drawn_from("regularised", what="training with the penalty")
def regulariser(found):
    """Accuracies and running dimension with and without the penalty, equal steps and equal seeds."""
    runs = found.runs
    steps, weights = runs.first["steps"][0], runs.first["weight"]
    full = np.isfinite(runs["dimension"]).all(axis=(0, 1))  # the first windows are not
    sheet, (top, bottom) = figure(height=6.0, rows=2, sharex=True)
    for arm, rank in ((1, 0), (0, 1)):  # the paper's method first, and in its color
        words = f"λ = {weights[arm]:g}"
        for name, line in (("train", "-"), ("test", "--")):
            band(top, steps, 100 * runs[f"{name}_accuracy"][:, arm], rank, line, f"{name}, {words}")
        band(bottom, steps[full], runs["dimension"][:, arm][:, full], rank, label=words)
    top.set(ylabel="accuracy, %", title="The penalty slows down training …")
    top.legend(ncols=2, loc="upper left")
    top.margins(y=0.2)
    bottom.set(xlabel="step", ylabel="dimension of the window")
    bottom.set_title("… and raises the dimension it penalizes")
    bottom.legend()
    return Picture(
        sheet,
        "Above, training and test accuracy over the steps with and without the penalty. Below, the dimension of the "
        "latest iterates for both, higher with the penalty.",
        f"LeNet on {found.settings.penalty_data} ({runs.first['data']}), Adam; λ is the weight of the dimension of the "
        f"last {found.settings.penalty_window} iterates. Means and 95% t intervals over seeds, which both share.",
    )


@drawn_from("adversarial_start", what="training from adversarial starts")
def adversarial_table(found):
    """Gaps and dimension of each pair of runs: from a random start, and from an adversarial one."""
    runs, loss = found.runs, found.runs["test_loss"] - found.runs["train_loss"]
    both = [
        [f"{random:.{digits}f} → {adversarial:.{digits}f}" for random, adversarial in values]
        for digits, values in ((1, 100 * accuracy_gap(runs)), (2, loss), (2, runs["dimension"]))
    ]
    head = (f"seed, at {found.preset}", "accuracy gap", "loss gap", "dimension")
    return table(head, zip(runs.seeds, *both, strict=True), numeric=True)


def _two(value):
    text = f"{round(value, 2) + 0.0:.2f}".replace("-", "−")  # adding zero turns -0.00 into 0.00
    return text if np.isfinite(value) else "none"

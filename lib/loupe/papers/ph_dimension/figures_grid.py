"""Figures and tables of the grid, of the penalty and of adversarial starts, drawn from stored results alone."""

import matplotlib as mpl
import numpy as np

from loupe.experiment.render import table
from loupe.metrics import bootstrap_kendall, kendall, partial_kendall, permutation_test
from loupe.papers.drawing import Picture, band, drawn_from
from loupe.papers.ph_dimension.claims_grid import SIMPLE, Grid, grids
from loupe.plotting import MUTED, figure, shades

MARKERS = "osD^vXP*"

from_grid = drawn_from("gap_grid", what="the grid of training runs")


@from_grid
def gap_scatter(found):
    """Generalization gap against dimension, color by learning rate and marker by batch size."""
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
        "Scatter of accuracy gap against dimension, one point per run. Larger batches, with markers of their own, lie at "
        "higher dimensions; larger learning rates, by color, lie at smaller gaps.",
        f"Training minus test accuracy against the dimension of the last iterates before the stop, which are "
        f"{min(shares):.0%} to {max(shares):.0%} of a run: {len(found.runs)} runs, {repetitions} per cell of the grid. "
        "Hollow: stopped before every training image was classified correctly. Title: Kendall's τ over the means of cells, "
        "and its permutation p.",
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
def measure_table(found, whole=False):
    """Kendall's tau with the gap: of the dimension and of simple measures, or of all, also with a knob held fixed."""
    head = ("τ", "95% interval", "τ, loss gap") + ("given lr", "given batch") * whole
    rows = []
    for every in grids(found.runs):
        for name in every.measures if whole else ("PH dimension", *SIMPLE):
            cells = every.where(np.isfinite(every.measures[name])).cells
            if len(cells.gap) > 2:
                rows.append((name, *_taus(cells, cells.measures[name])[: len(head)]))
    return table((f"measure, at {found.preset}", *head), rows, numeric=True)


def _taus(cells: Grid, column):
    low, high = np.nanquantile(bootstrap_kendall(column, cells.gap), (0.025, 0.975))
    given = [partial_kendall(column, cells.gap, z, draws=1).tau for z in (cells.rate, cells.batch)]
    plain, loss = kendall(column, cells.gap), kendall(column, cells.loss_gap)
    return _two(plain), f"{_two(low)} to {_two(high)}", *map(_two, (loss, *given))


@drawn_from("regularised", what="training with the penalty")
def regulariser(found):
    """Accuracies and running dimension with and without the penalty, equal steps and equal seeds."""
    runs = found.runs
    steps, weights = runs.first["steps"][0], runs.first["weights"]
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
    bottom.set(
        xlabel="step", ylabel="dimension of the window", title="… and raises the dimension it penalizes"
    )
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
    runs = found.runs
    gap, loss = 100 * (runs["train_accuracy"] - runs["test_accuracy"]), runs["test_loss"] - runs["train_loss"]
    both = [
        [f"{random:.{digits}f} → {adversarial:.{digits}f}" for random, adversarial in values]
        for digits, values in ((1, gap), (2, loss), (2, runs["dimension"]))
    ]
    head = (f"seed, at {found.preset}", "accuracy gap", "loss gap", "dimension")
    return table(head, zip(runs.seeds, *both, strict=True), numeric=True)


def _two(value):
    text = f"{round(value, 2) + 0.0:.2f}".replace("-", "−")  # adding zero turns -0.00 into 0.00
    return text if np.isfinite(value) else "none"

"""The runs of the grid as columns of one table: what claims judge and figures draw."""

import numpy as np

from loupe.errors import LoupeError
from loupe.experiment.claims import Measure, at_least
from loupe.experiment.results import columns
from loupe.metrics import bootstrap_kendall, kendall, partial_kendall

COLUMNS = ("learning_rate", "batch", "converged", "gap", "loss_gap")
MEASURES = {
    "dimension": "PH dimension", "ratio": "lr / batch", "final_norm": "norm of the weights",
    "diameter": "diameter of the path", "lifetime_sum": "lifetime sum", "TwoNN": "TwoNN dimension",
    "correlation": "correlation dimension", "dimension_in_losses": "PH dimension, in losses",
    "lifetime_sum_in_losses": "lifetime sum, in losses", "positive_magnitude": "positive magnitude",
    "positive_magnitude_in_losses": "positive magnitude, in losses",
    "same lengths, orthogonal directions": "step lengths only", "same directions, equal lengths": "step directions only",
    "steps": "steps taken", "train_loss": "loss in training",
}  # fmt: skip
"""More columns, which are compared with the gap, and what the page calls them."""
SIMPLE = ("ratio", "final_norm", "diameter", "lifetime_sum", "TwoNN")
"""Measures that cost next to nothing: what the dimension has to beat."""


def accuracy_gap(runs):
    """Training minus test accuracy."""
    return runs["train_accuracy"] - runs["test_accuracy"]


def grids(runs):
    """The runs of each data set and network as columns (n,), by its name; runs without a dimension are left out.

    The columns are :data:`COLUMNS` and :data:`MEASURES`.
    """
    found = {}
    for run in runs:
        if np.isfinite(run.get("dimension", np.nan)):
            found.setdefault(run["case"], []).append(_row(run))
    if not found:
        raise LoupeError("no run of the grid has a dimension.")
    return {case: columns(rows) for case, rows in found.items()}


def _row(run):
    values = dict(zip(run["estimator"], run["estimates"], strict=True))
    values |= dict(zip(run["null_model"], run["null_dimension"], strict=True)) | dict(run)
    values["gap"], values["loss_gap"] = accuracy_gap(run), run["test_loss"] - run["train_loss"]
    values["ratio"] = _ratio(run["learning_rate"], run["batch"])
    return {name: values[name] for name in (*COLUMNS, *MEASURES)}


def _ratio(rate, batch):
    """Rounded so that equal ratios are equal."""
    return float(f"{rate / batch:.6g}")


def chosen(grid, runs):
    """The runs that a boolean column chooses."""
    return {name: column[runs] for name, column in grid.items()}


def by_cell(grid):
    """The means over the runs of each pair of learning rate and batch size.

    Runs of one cell are alike because of the cell: taken for independent, they would make every test too sure.
    """
    pairs = np.stack([grid["learning_rate"], grid["batch"]])
    _, cell, counts = np.unique(pairs, axis=1, return_inverse=True, return_counts=True)
    means = {name: np.bincount(cell.ravel(), column) / counts for name, column in grid.items()}
    return means | {"ratio": np.array(list(map(_ratio, means["learning_rate"], means["batch"])))}


def margin_to_best(case, grid):
    """How much larger the dimension's |tau| with the gap is than that of the best simple measure, over cells."""
    cells = by_cell(grid)
    gap, n = cells["gap"], len(cells["gap"])
    strength = {name: abs(kendall(cells[name], gap)) for name in ("dimension", *SIMPLE)}
    best = max(SIMPLE, key=strength.get)
    drawn = np.abs(bootstrap_kendall([cells["dimension"], cells[best]], gap))
    low, high = np.nanquantile(drawn[:, 0] - drawn[:, 1], (0.025, 0.975)).tolist()
    label, margin = (
        f"|τ| of the dimension minus that of {MEASURES[best]}",
        strength["dimension"] - strength[best],
    )
    basis = f"means of {n} cells, 95% bootstrap interval"
    return Measure(f"{case}: {label}", margin, at_least(-0.05), low, high, basis, units=n)


def tau_over_cells(label, grid, given=None):
    """Kendall's tau of dimension and gap, or the partial tau given a column, with its bootstrap interval over cells.

    nan, which decides nothing, for fewer than three cells.
    """
    cells = by_cell(grid)
    x, y = cells["dimension"], cells["gap"]
    basis, n = f"means of {len(y)} cells, 95% bootstrap interval", len(y)
    if n < 3:
        return Measure(label, np.nan, at_least(0), basis=basis, units=n)
    z = None if given is None else cells[given]
    value = kendall(x, y) if z is None else partial_kendall(x, y, z, draws=1).tau
    low, high = np.nanquantile(bootstrap_kendall(x, y, given=z), (0.025, 0.975))
    return Measure(label, value, at_least(0), float(low), float(high), basis, units=n)

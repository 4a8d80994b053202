"""The runs of the grid as columns of one table: what claims judge and figures draw."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from loupe.errors import LoupeError
from loupe.experiment.claims import Measure, at_least
from loupe.experiment.results import Runs
from loupe.metrics import bootstrap_kendall, kendall

# Measures that cost next to nothing: what the dimension has to beat.
SIMPLE = ("lr / batch", "norm of the weights", "diameter of the path", "lifetime sum", "TwoNN dimension")
COLUMNS = ("rate", "batch", "converged", "gap", "loss_gap")


@dataclass(frozen=True)
class Grid:
    """Runs of one data set and network, one an entry of each column, shape (n,)."""

    case: str
    rate: np.ndarray
    batch: np.ndarray
    converged: np.ndarray
    gap: np.ndarray
    loss_gap: np.ndarray
    measures: dict[str, np.ndarray]

    @property
    def dimension(self) -> np.ndarray:
        """The persistent-homology dimension of each run."""
        return self.measures["PH dimension"]

    @property
    def ratio(self) -> np.ndarray:
        """Learning rate over batch size."""
        return self.measures["lr / batch"]

    @property
    def cells(self) -> "Grid":
        """The means over the runs of each pair of learning rate and batch size.

        Runs of one cell are alike because of the cell: taken for independent, they would make every test too sure.
        """
        pairs = np.stack([self.rate, self.batch])
        _, cell, counts = np.unique(pairs, axis=1, return_inverse=True, return_counts=True)
        means = self._with_each(lambda column: np.bincount(cell.ravel(), column) / counts)
        return replace(means, measures=means.measures | {"lr / batch": _ratio(means.rate, means.batch)})

    def where(self, chosen: np.ndarray) -> "Grid":
        """The runs that a boolean column chooses."""
        return self._with_each(lambda column: column[chosen])

    def _with_each(self, change: Callable) -> "Grid":
        columns = {name: change(getattr(self, name)) for name in COLUMNS}
        measures = {name: change(column) for name, column in self.measures.items()}
        return replace(self, **columns, measures=measures)


def _ratio(rate, batch):
    """Rounded so that equal ratios are equal."""
    return np.array([float(f"{ratio:.6g}") for ratio in rate / batch])


def grids(runs: Runs) -> list[Grid]:
    """One table for each data set and network of the grid, without runs that have no dimension."""
    runs = Runs(tuple(run for run in runs if np.isfinite(run.get("dimension", np.nan))))
    if not runs.results:
        raise LoupeError("no run of the grid has a dimension.")
    first, cases, rate, batch = runs.first, runs["case"], runs["learning_rate"], runs["batch"]
    competitors = dict(zip(first["competitor_names"], runs["competitors"].T, strict=True))
    surrogates = dict(zip(first["surrogates"], runs["surrogate_dimensions"].T, strict=True))
    measures = {
        "PH dimension": runs["dimension"],
        "lr / batch": _ratio(rate, batch),
        "norm of the weights": runs["final_norm"],
        "diameter of the path": runs["diameter"],
        "lifetime sum": runs["lifetime_sum"],
        "TwoNN dimension": competitors["TwoNN"],
        "correlation dimension": competitors["correlation"],
        "PH dimension, in losses": runs["dimension_in_losses"],
        "lifetime sum, in losses": runs["lifetime_sum_in_losses"],
        "positive magnitude": runs["positive_magnitude"],
        "positive magnitude, in losses": runs["positive_magnitude_in_losses"],
        "step lengths only": surrogates["same lengths, orthogonal directions"],
        "step directions only": surrogates["same directions, equal lengths"],
        "steps taken": runs["steps"].astype(np.float64),
        "loss in training": runs["train_loss"],
    }
    gaps = (runs["train_accuracy"] - runs["test_accuracy"], runs["test_loss"] - runs["train_loss"])
    whole = Grid("", rate, batch, runs["converged"], *gaps, measures)
    return [replace(whole.where(cases == case), case=case) for case in dict.fromkeys(cases.tolist())]


def margin_over_simple(grid: Grid) -> tuple[str, float, float, float]:
    """How much stronger the dimension's correlation is than that of the best simple measure.

    Returns
    -------
    best : str
        The simple measure of the largest absolute tau.
    margin, low, high : float
        Difference of absolute taus, and its 95% bootstrap interval over the rows of the table.
    """
    names = ("PH dimension", *SIMPLE)
    columns = np.stack([grid.measures[name] for name in names])
    strength = np.abs([kendall(column, grid.gap) for column in columns])
    best = 1 + int(np.argmax(strength[1:]))
    drawn = np.abs(bootstrap_kendall(columns[[0, best]], grid.gap))
    low, high = np.nanquantile(drawn[:, 0] - drawn[:, 1], (0.025, 0.975))
    return names[best], float(strength[0] - strength[best]), float(low), float(high)


def tau_over_cells(label: str, cells: Grid, given: str | None = None) -> Measure:
    """Kendall's tau of dimension and gap, or the partial tau given a column, with its bootstrap interval over cells.

    nan, which decides nothing, for fewer than three cells.
    """
    x, y, n = cells.dimension, cells.gap, len(cells.gap)
    basis = f"means of {n} cells, 95% bootstrap interval"
    if n < 3:
        return Measure(label, np.nan, at_least(0), basis=basis, units=n)
    if given is None:
        value, drawn = kendall(x, y), bootstrap_kendall(x, y)
    else:
        z = getattr(cells, given)
        value = _partial(kendall(x, y), kendall(x, z), kendall(y, z))
        # The same seed draws the same cells, so that the three correlations belong together.
        drawn = _partial(bootstrap_kendall(x, y), bootstrap_kendall(x, z), bootstrap_kendall(y, z))
    low, high = np.nanquantile(drawn, (0.025, 0.975))
    return Measure(label, float(value), at_least(0), float(low), float(high), basis, units=n)


def _partial(xy, xz, yz):
    """As in :func:`loupe.metrics.partial_kendall`; nan where z orders the cells as x or y does."""
    with np.errstate(divide="ignore", invalid="ignore"):
        tau = (xy - xz * yz) / np.sqrt((1 - np.square(xz)) * (1 - np.square(yz)))
    return np.where(np.isfinite(tau), tau, np.nan)

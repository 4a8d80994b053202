"""Pictures of the grid, of the regulariser and of adversarial starts, drawn from stored results alone."""

from dataclasses import replace

import matplotlib as mpl
import numpy as np

from loupe.errors import LoupeError
from loupe.experiment.claims import t_interval
from loupe.experiment.render import Block, table
from loupe.metrics import bootstrap_kendall, granulated_kendall, kendall, partial_kendall, permutation_test
from loupe.papers.ph_dimension.claims import gap_at_accuracy
from loupe.papers.ph_dimension.claims_grid import SIMPLE, Grid, grids
from loupe.papers.ph_dimension.experiments_networks import fixed_order
from loupe.papers.ph_dimension.figures import WIDTH
from loupe.plotting import ORDERED, SERIES, TRUTH, figure, series, show

MARKERS = "osD^vXP*"


def gap_scatter(runs):
    """F3: generalisation gap against dimension, colour by learning rate and marker by batch size."""
    every = grids(runs)
    repetitions = len(every[0].gap) // len(every[0].cells.gap)
    measured = [run for run in runs if "step_lengths" in run]
    shares = [(len(run["step_lengths"]) + 1) / run["steps"] for run in measured]
    sheet, panels = figure(WIDTH, 4.3 * len(every), rows=len(every), squeeze=False)
    for axes, grid in zip(panels[:, 0], every, strict=True):
        test = permutation_test(grid.cells.dimension, grid.cells.gap)
        _scatter(axes, grid)
        axes.set_title(f"{grid.case}: τ = {_two(test.tau)}, {_p(test.p_value)}")
    _keys(sheet, every[0])
    show(
        sheet,
        alt="Scatter of accuracy gap against dimension, one point a run. Larger batches, with markers of their own, lie at "
        "higher dimensions; colours show learning rates.",
        caption=f"Training accuracy less test accuracy against the dimension of the last iterates before the stop, which "
        f"are {min(shares):.0%} to {max(shares):.0%} of a run: {len(runs)} runs, {repetitions} in each cell of the grid, "
        "each with a seed of its own. "
        "Hollow: stopped before every training image was right. In the title: Kendall's τ of the "
        "means of cells, and its permutation p.",
    )


def _scatter(axes, grid: Grid):
    colours = _colours(grid.rate)
    for k, batch in enumerate(np.unique(grid.batch)):
        for rate, colour in colours.items():
            for done, face in ((True, colour), (False, "none")):
                here = (grid.batch == batch) & (grid.rate == rate) & (grid.converged == done)
                axes.plot(grid.dimension[here], 100 * grid.gap[here], linestyle="none", marker=MARKERS[k], markersize=6,
                          color=colour, markerfacecolor=face)  # fmt: skip
    axes.set(xlabel="dimension of the last iterates", ylabel="accuracy gap, points")


def _colours(rates):
    rates = np.unique(rates)
    return dict(zip(rates, mpl.colormaps[ORDERED](np.linspace(0, 0.85, len(rates))), strict=True))


def _keys(sheet, grid: Grid):
    empty = {"linestyle": "none", "markersize": 6}
    colours, batches = _colours(grid.rate), np.unique(grid.batch)
    rates = [mpl.lines.Line2D([], [], marker="o", color=colour, **empty) for colour in colours.values()]
    shapes = [
        mpl.lines.Line2D([], [], marker=MARKERS[k], color="#4b5563", **empty) for k in range(len(batches))
    ]
    below = {"ncols": 4, "handletextpad": 0.1, "columnspacing": 1.0, "title_fontsize": 8.5}
    sheet.legend(
        rates, [f"{rate:g}" for rate in colours], title="learning rate", loc="outside lower left", **below
    )
    sheet.legend(
        shapes, [str(one) for one in batches], title="batch size", loc="outside lower right", **below
    )


def measure_table(runs):
    """Kendall's tau of every measure with the gap: all runs, those that converged, and with the gap in loss."""
    rows = []
    for grid in grids(runs):
        for name in grid.measures:
            known = grid.where(np.isfinite(grid.measures[name]))
            cells, done = known.cells, known.where(known.converged).cells
            rows.append(
                (name + " *" * (name in SIMPLE), _tau(cells, name), _interval(cells, name), _tau(done, name),
                 _tau(replace(cells, gap=cells.loss_gap), name))
            )  # fmt: skip
    head = ("measure", "τ, accuracy gap", "95\u202f% interval", "converged", "τ, loss gap")
    return table(head, rows, numeric=True)


def _tau(cells: Grid, name: str) -> str:
    return _two(kendall(cells.measures[name], cells.gap)) if len(cells.gap) > 2 else "none"


def _interval(cells: Grid, name: str) -> str:
    if len(cells.gap) < 3:
        return "none"
    low, high = np.nanquantile(bootstrap_kendall(cells.measures[name], cells.gap), (0.025, 0.975))
    return f"{_two(low)} to {_two(high)}"


CONDITIONED = (
    "PH dimension",
    "PH dimension, in losses",
    "lifetime sum",
    "lifetime sum, in losses",
    "positive magnitude",
    "positive magnitude, in losses",
    "norm of the weights",
    "step lengths only",
)


def conditioning_table(runs):
    """Tau with the gap when something is held fixed: partial, with two-sided p, and along the lines of the grid."""
    rows = []
    for every in grids(runs):
        for name in CONDITIONED:
            grid = every.where(np.isfinite(every.measures[name])).cells
            if len(grid.gap) < 3:
                continue
            column = grid.measures[name]
            given = [
                partial_kendall(column, grid.gap, z, alternative="two-sided")
                for z in (grid.rate, grid.batch, grid.ratio)
            ]
            within = granulated_kendall(column, grid.gap, {"rate": grid.rate, "batch": grid.batch})
            rows.append(
                (name, *(f"{_two(one.tau)}\u00a0({one.p_value:.2g})" for one in given),
                 _two(within.of["rate"]), _two(within.of["batch"]))
            )  # fmt: skip
    head = (
        "measure",
        "given lr (p)",
        "given batch (p)",
        "given ratio (p)",
        "lr varies",
        "batch varies",
    )
    return table(head, rows, numeric=True)


def batch_panels(runs):
    """F6: the scatter of F3, one panel for each batch size."""
    grid = grids(runs)[0]
    batches = np.unique(grid.batch)
    columns = 2
    rows = -(-len(batches) // columns)
    sheet, panels = figure(WIDTH, 2.5 * rows, rows=rows, columns=columns, sharey=True, squeeze=False)
    for axes, batch in zip(panels.flat, batches, strict=False):
        part = grid.where(grid.batch == batch)
        _scatter(axes, replace(part, batch=part.batch))
        axes.set_title(f"batch {batch}: τ = {_tau(part, 'PH dimension')}")
        axes.set_xlabel("dimension")
    for axes in panels[:, 1:].flat:
        axes.set_ylabel("")
    handles = [axes.plot([], [], "o", color=colour)[0] for colour in _colours(grid.rate).values()]
    sheet.legend(
        handles, [f"lr {rate:g}" for rate in _colours(grid.rate)], loc="outside lower center", ncols=4
    )
    show(
        sheet,
        alt="One scatter of gap against dimension for each batch size, with four learning rates in four colours.",
        caption=f"The runs of {grid.case} by batch size: each panel has its own range of dimensions. Within a panel only "
        "the learning rate (colour) and the seed vary.",
    )


def best_and_worst(runs):
    """F4: distance matrices and persistence diagrams of the converged runs with the smallest and the largest gap."""
    gap = runs["train_accuracy"] - runs["test_accuracy"]
    done = np.flatnonzero(runs["converged"])
    done = done if len(done) > 1 else np.arange(len(runs))  # a short try converges nowhere
    chosen = [runs.results[done[k]] for k in (np.argmin(gap[done]), np.argmax(gap[done]))]
    sheet, panels = figure(WIDTH, 5.0, rows=2, columns=2)
    brightest = max(run["picture"].max() for run in chosen)
    for (top, bottom), run, word in zip(panels.T, chosen, ("smallest", "largest"), strict=True):
        steps = run["picture_steps"]
        extent = (steps[0], steps[-1], steps[-1], steps[0])
        picture = top.imshow(run["picture"], extent=extent, cmap=ORDERED, vmin=0, vmax=brightest)
        top.grid(False)
        top.set(xlabel="step within the window", title=f"{word.capitalize()} gap: {_gap(run)}")
        longest = 1.05 * max(run["h0"].max(), run["h1"].max() if run["h1"].size else 0)
        bottom.plot([0, longest], [0, longest], **TRUTH)
        bottom.scatter(*run["h0"].T, s=8, label=f"components: {len(run['h0'])}", zorder=2, **series(0))
        bottom.scatter(*run["h1"].T, s=8, label=f"loops: {len(run['h1'])}", zorder=2, **series(1))
        bottom.set(xlabel="birth", xlim=(-0.05 * longest, longest), ylim=(0, longest),
                   title=f"Dimension {run['dimension']:.2f}")  # fmt: skip
        bottom.set_aspect("equal")
        bottom.legend(loc="lower right", fontsize=7.5)
    panels[0, 0].set_ylabel("step within the window")
    panels[1, 0].set_ylabel("death")
    sheet.colorbar(picture, ax=panels[0], label="distance", shrink=0.8)
    settings = "; ".join(f"lr {run['learning_rate']:g}, batch {run['batch']}" for run in chosen)
    show(
        sheet,
        alt="Two distance matrices on one colour scale, and below each its persistence diagram of components and loops.",
        caption=f"The converged runs with the smallest and the largest gap ({settings}). Above: distances between "
        f"{len(steps)} of the last iterates, one colour scale. Below: their persistence diagrams by gudhi, each on a scale "
        "of its own. Gaps are in points of accuracy.",
    )


def _gap(run):
    return f"{100 * (run['train_accuracy'] - run['test_accuracy']):.1f}"


def regulariser(runs):
    """F5: accuracies and running dimension with and without the penalty, equal steps and equal seeds."""
    steps, weights = runs.first["steps"][0], runs.first["weights"]
    sheet, (top, bottom) = figure(WIDTH, 6.0, rows=2, sharex=True)
    for arm, rank in ((1, 0), (0, 1)):  # the paper's method first, and in its colour
        words = f"λ = {weights[arm]:g}"
        for name, line in (("train", "-"), ("test", "--")):
            _band(top, steps, 100 * runs[f"{name}_accuracy"][:, arm], rank, line, f"{name}, {words}")
        _band(bottom, steps, runs["dimension"][:, arm], rank, "-", words)
    top.set(ylabel="accuracy, %", title="What the penalty does to accuracy …")
    top.legend(ncols=2, loc="upper left")
    top.margins(y=0.2)
    bottom.set(xlabel="step", ylabel="dimension of the window", title="… and to the dimension it penalises")
    bottom.legend()
    show(
        sheet,
        alt="Above, training and test accuracy over the steps with and without the penalty. Below, the dimension of the "
        "latest iterates for both.",
        caption=f"LeNet on {runs.first.settings['penalty_data']} ({runs.first['data']}), Adam, with the dimension of the "
        f"last iterates in the loss (weight λ) and without: means and 95\u202f% t intervals over {len(runs)} seeds, the "
        "same for both. The dimension is measured from the same window in both, averaged over subsets.",
    )


def _band(axes, steps, values, rank, line, label):
    colour = SERIES[rank].colour
    axes.plot(steps, values.mean(axis=0), line, color=colour, label=label)
    low, high = np.array([t_interval(column.tolist()) for column in values.T]).T.astype(float)
    axes.fill_between(steps, low, high, color=colour, alpha=0.15, linewidth=0)


def regulariser_table(runs):
    """The end of each pair of runs, and the gap that the run without penalty had at the other's training accuracy."""
    rows = []
    for run in runs:
        train, test = (100 * run[f"{part}_accuracy"] for part in ("train", "test"))
        gap, dimension = train - test, run["dimension"][:, -1]
        earlier = gap_at_accuracy(train[0], gap[0], train[1, -1])
        pairs = [f"{a:.1f}\u00a0→\u00a0{b:.1f}" for a, b in (gap[:, -1], train[:, -1], test[:, -1])]
        rows.append((run.seed, *pairs, "{:.2f}\u00a0→\u00a0{:.2f}".format(*dimension), f"{earlier:.1f}"))
    head = ("seed", "gap", "train", "test", "dimension", "gap without, at equal train")
    return table(head, rows, numeric=True)


def order_table(chapter, shuffled):
    """The same networks with mini-batches drawn anew in each pass and in one fixed order: dimension and gap."""
    if not chapter.stored.units("fixed_order"):
        return Block("Not part of this preset.", markdown="*Not part of this preset.*")
    fixed = chapter.run(fixed_order)
    rows = []
    for word, runs in (("drawn anew in each pass", shuffled), ("one fixed order", fixed)):
        gap = 100 * (runs["train_accuracy"] - runs["test_accuracy"])
        rows.append(
            (
                word,
                *(f"{run['dimension']:.2f}" for run in runs),
                f"{runs['dimension'].mean():.2f}",
                f"{gap.mean():.1f}",
            )
        )
    head = ("mini-batches", *(f"seed {seed}" for seed in fixed.seeds), "mean", "mean gap")
    return table(head, rows, numeric=True)


def adversarial(chapter):
    """PH10: gap and dimension from random and from adversarial starts, one line a seed, as stored at ``gpu``."""
    try:
        runs = replace(chapter.stored, preset="gpu", overrides={}, seed=None)["adversarial_start"]
    except LoupeError as error:
        return Block(f"No picture: {error}", markdown=f"*No picture: {error}*")
    sheet, panels = figure(WIDTH, 3.2, columns=2)
    gap = 100 * (runs["train_accuracy"] - runs["test_accuracy"])
    for axes, values, label in zip(
        panels, (gap, runs["dimension"]), ("accuracy gap, points", "dimension"), strict=True
    ):
        axes.plot([0, 1], values.T, color="#9ca3af", linewidth=1, zorder=1)
        for arm in range(2):
            axes.plot(np.full(len(values), arm), values[:, arm], linestyle="none", zorder=2, **series(arm))
        axes.set_xticks([0, 1], ["random", "adversarial"])
        axes.set_xlim(-0.4, 1.4)
        axes.set(ylabel=label)
    panels[0].set_title("The gap …")
    panels[1].set_title("… and the dimension")
    show(
        sheet,
        alt="Two strip plots, random and adversarial start: the gap on the left and the dimension on the right, a line for "
        "each seed.",
        caption=f"{runs.first['case']}, {len(runs)} seeds: networks trained from random weights, and from weights that had "
        "first memorised random labels of the same images. Lines join the two runs of a seed.",
    )


def _two(value):
    return f"{round(value, 2) + 0.0:.2f}".replace("-", "−")  # adding zero turns -0.00 into 0.00


def _p(value):
    return f"p = {value:.4f}" if value >= 1e-4 else "p < 0.0001"

"""Figures and tables of SU(3) and of outliers, drawn from stored results only."""

import math

import numpy as np

from loupe.experiment.render import score_table
from loupe.experiment.results import row
from loupe.papers.drawing import Picture, drawn_from
from loupe.plotting import BLACK, ORDERED, figure, series

WORDS = {
    "exact": "exact", "HMC": "Hamiltonian Monte Carlo", "loops": "flow, MLP of loops", "MLP": "flow, plain MLP",
    "Haar": "uniform",
}  # fmt: skip
SHARPEST = 0.01  # quantiles that histograms leave out


@drawn_from("site", what="the density of one matrix", seeds="first", partial=True)
def eigenangles(found):
    """Eigenangles of one matrix: exact, and of samples of the flow."""
    run = found.runs.first
    sheet, panels = figure(height=2.9, columns=2, sharey=True)
    most = run["target map"].max()
    for axes, name, title in zip(panels, ("target map", "MLP map"), ("exact", "flow"), strict=True):
        axes.imshow(run[name].T, origin="lower", extent=(0, 2, 0, 2), vmin=0, vmax=most, cmap=ORDERED)
        axes.grid(visible=False)
        axes.set(title=title, xlabel=r"$\theta_1/\pi$", xticks=(0, 1, 2), yticks=(0, 1, 2))
    panels[0].set_ylabel(r"$\theta_2/\pi$")
    return Picture(
        sheet,
        "Two heat maps of pairs of eigenangles with the same bright spots, sharp on the left and grainy on the right.",
        "Two of the eigenangles of a random matrix: the exact density, and samples of the flow. Look for spots that are "
        "missing on the right, and for samples between the spots.",
    )


@drawn_from("site", "lattice", what="sampling on a group", partial=True)
def groups(found):
    """The table of both densities: moments of the action, and weights."""
    rows = []
    for name, words in (("site", "one matrix"), ("lattice", "lattice")):
        runs = found[name]
        for one in (key for key in WORDS if key in runs.first["row"]):
            cells = [row(runs, key, row=one) for key in ("mean", "variance", "ESS", "log Z")]
            rows.append(((words, WORDS[one]), *(None if np.isnan(cell).any() else cell for cell in cells)))
    return score_table((found.label, "mean action", "variance", "ESS", "log Z"), rows, digits=(3, 4, 3, 2))


@drawn_from("site", "lattice", what="the Monte Carlo reference", partial=True)
def chains(found):
    """The table of Monte Carlo: whether it can be trusted as a reference."""
    rows = []
    for name, words in (("site", "one matrix"), ("lattice", "lattice")):
        runs = found[name]
        errors = (
            (row(runs, "mean", row="HMC") - row(runs, "mean", row="exact"))
            if "exact" in runs.first["row"]
            else None
        )
        if errors is not None:
            errors = errors / runs["HMC error"]
        rows.append((words, runs["acceptance"], runs["autocorrelation"], errors))
    return score_table(
        (found.label, "accepted", "autocorrelation time", "error / standard error"), rows, digits=2
    )


@drawn_from("outliers", what="the detection of outliers", partial=True)
def detection(found):
    """The table of AUROC and of false positives, by set and method."""
    runs, rows = found.runs, []
    for method in dict.fromkeys(runs.first["method"]):
        for name in runs.first["sets"][1:]:
            cells = (row(runs, key, method=method, outliers=name) for key in ("AUROC", "FPR95"))
            rows.append(((str(name), str(method)), *cells))
    rows.sort(key=lambda each: list(runs.first["sets"]).index(each[0][0]))
    return score_table((found.label, "AUROC", "FPR95"), rows, digits=3, best=("max", "min"), positive=True)


@drawn_from("outliers", what="the detection of outliers", seeds="first", partial=True)
def likelihoods(found):
    """Histograms of log-likelihoods of embeddings, by set of images."""
    run = found.runs.first
    values = run["log likelihoods"]
    low, high = np.quantile(values, (SHARPEST, 1 - SHARPEST / 2))
    bins = np.linspace(math.floor(low), math.ceil(high), 40)
    sheet, axes = figure(height=2.8)
    for rank, (name, each) in enumerate(zip(run["sets"], values, strict=True)):
        color = BLACK if rank == 0 else series(rank - 1)["color"]
        axes.stairs(np.histogram(each, bins)[0] / len(each), bins, color=color, label=str(name))
    axes.set(xlabel="log-likelihood of the embedding", ylabel="share of images")
    axes.set_ylim(0, 1.6 * axes.get_ylim()[1])
    axes.legend(ncols=3, loc="upper left")
    return Picture(
        sheet,
        "Six overlaid histograms of log-likelihoods: known classes lie to the right, sets of outliers further left.",
        "Log-likelihoods of embeddings. A good detector has outliers (colors) left of the known classes (black); where "
        "they overlap, images can't be told apart.",
    )

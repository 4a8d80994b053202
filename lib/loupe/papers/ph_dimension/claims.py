"""The claims of the chapter: PH1 to PH5 and PH11 on sets and processes, PH6 to PH10 on networks."""

import numpy as np
from scipy.stats import f, spearmanr

from loupe.experiment import Claim, Measure, at_least, at_most, between
from loupe.papers.ph_dimension.claims_grid import grids, margin_over_simple, tau_over_cells

EVERYWHERE = ("smoke", "cpu", "gpu", "paper")
FULL = ("cpu", "gpu", "paper")


def _routes_agree(results):
    run = results["identities"].first
    basis, wrong = f"{len(run['clouds'])} clouds", run["nearest_gaps"].max()
    return [
        Measure(f"{route}, relative difference", float(gap), at_most(1e-12), basis=basis)
        .against("distances to nearest neighbors", wrong)
        for route, gap in zip(run["routes"], run["route_gaps"].max(axis=0), strict=True)
    ]  # fmt: skip


def _closed_forms_hold(results):
    run = results["identities"].first
    errors, wrong, basis = run["closed_form_errors"], run["nearest_sum_errors"], "powers 0.5, 1 and 2"
    return [
        Measure(f"{name}, relative error", float(errors[k].max()), at_most(1e-12), basis=basis)
        .against("distances to nearest neighbors", wrong[k].max())
        for k, name in enumerate(run["closed_forms"])
    ]  # fmt: skip


def _dimensions_found(results):
    runs = results["known_dimensions"]
    names, truth, alpha = (runs.first[name] for name in ("clouds", "truth", "alpha"))
    wrong = (alpha / (1 + runs["slope"])).mean(axis=0)
    measures = []
    for k, (name, d) in enumerate(zip(names, truth, strict=True)):
        label, band = f"{name}, dimension {d:.4g}", between(0.9 * d, 1.1 * d)
        measure = Measure.of_seeds(label, runs["dimension"][:, k], band, every=True)
        measure = measure.against("the formula with the wrong sign of the slope", wrong[k])
        measures.append(measure.as_primary() if d in (1, 2, 3) and name != "gaussian_plane" else measure)
    return measures


def _ambient_space_is_irrelevant(results):
    run = results["identities"].first
    gap, wrong = (abs(run["plane_dimension"] - run[f"{kind}_dimension"]) for kind in ("embedded", "sheared"))
    measure = Measure("difference of the two estimates", gap, at_most(1e-6), basis="one cloud, equal subsets")
    return [measure.against("an embedding that is no isometry", wrong)]


def _tracks_the_stable_index(results):
    runs = results["diffusion_processes"]
    names, beta = runs.first["estimators"], runs.first["beta"]
    rho = np.array([[spearmanr(beta, one).statistic for one in run] for run in runs["estimates"]])
    rho = np.nan_to_num(rho)  # an estimator that gives every process the same value orders nothing
    ours = Measure.of_seeds("Spearman ρ of β and dimension on single paths", rho[:, 0], at_least(0.9))
    return [
        ours.against("counting principal components", rho[:, -1].mean()).as_primary(),
        *(
            Measure.paired(f"ρ minus that of {name}", rho[:, 0], rho[:, k], at_least(0))
            for k, name in enumerate(names)
            if k > 0
        ),
    ]


def _nearer_to_the_truth(results):
    runs = results["diffusion_processes"]
    beta = runs.first["beta"]
    error = np.abs(runs["estimates"] - beta).mean(axis=-1)  # (seeds, estimators)
    constant = np.abs(beta - beta.mean()).mean()
    return [
        Measure.paired(f"error of {name} minus ours", error[:, k], error[:, 0], at_least(0))
        .against("always guessing the middle of the range", (error[:, k] - constant).mean())
        for k, name in enumerate(runs.first["estimators"])
        if k > 0
    ]  # fmt: skip


def _averaging_helps(results):
    run = results["noise_of_one_draw"].first
    one, ten = run["dimensions"].std(axis=1, ddof=1)
    n = run["dimensions"].shape[1]
    ratio = one / ten
    quantiles = f.ppf((0.975, 0.025), n - 1, n - 1)
    low, high = ratio / np.sqrt(quantiles)
    basis = f"{n} independent estimates each on one cloud, 95% F interval; other clouds may differ"
    first, second = (half.std(ddof=1) for half in np.array_split(run["dimensions"][0], 2))
    measure = Measure(
        "spread of single draws over spread of averages of 10",
        ratio,
        at_least(2.5),
        low,
        high,
        basis,
        units=n,
    )
    return [measure.against("1 draw over 1 draw", first / second)]


def _dimension_follows_gap(results):
    return [
        tau_over_cells(f"{grid.case}, {which}: τ of dimension and gap", part.cells)
        for grid in grids(results["gap_grid"])
        for which, part in (("all runs", grid), ("converged runs", grid.where(grid.converged)))
    ]


def _better_than_simple_measures(results):
    measures = []
    for grid in grids(results["gap_grid"]):
        best, margin, low, high = margin_over_simple(grid.cells)
        n = len(grid.cells.gap)
        basis = f"means of {n} cells, 95% bootstrap interval"
        label = f"{grid.case}: |τ| of the dimension minus that of {best}"
        measures.append(Measure(label, margin, at_least(-0.05), low, high, basis, units=n))
    return measures


def _penalty_reduces_the_gap(results):
    runs = results["regularised"]
    train, dimension = runs["train_accuracy"], runs["dimension"]
    gap = train - runs["test_accuracy"]
    plain, penalised = gap[:, 0, -1], gap[:, 1, -1]
    stopped = np.array(
        [gap_at_accuracy(rises[0], gaps[0], rises[1, -1]) for rises, gaps in zip(train, gap, strict=True)]
    )
    return [
        Measure.paired("gap with the penalty minus gap without", penalised, plain, at_most(0))
        .against("no penalty, stopped early at equal training accuracy", (stopped - plain).mean()).as_primary(),
        Measure.paired("dimension with the penalty minus without", dimension[:, 1, -1], dimension[:, 0, -1], at_most(0)),
        Measure.paired("training accuracy lost", train[:, 0, -1], train[:, 1, -1], at_most(0.02)),
    ]  # fmt: skip


def gap_at_accuracy(train, gap, accuracy):
    """The gap of a run when its training accuracy, shape (evaluations,), first reached this value."""
    return np.interp(accuracy, np.maximum.accumulate(train), gap)  # accuracy need not rise at every step


def _survives_conditioning(results):
    return [
        tau_over_cells(f"{one.case}: τ of dimension and gap given {name}", one.cells, given)
        for one in grids(results["gap_grid"])
        for name, given in (("learning rate", "rate"), ("batch size", "batch"), ("their ratio", "ratio"))
    ]


def _adversarial_start_raises_the_gap(results):
    runs = results["adversarial_start"]
    random, adversarial = range(2)
    gap, dimension = runs["train_accuracy"] - runs["test_accuracy"], runs["dimension"]
    return [
        Measure.of_seeds("accuracy on the random labels", runs["memorised"], at_least(1)),
        Measure.of_seeds("accuracy on the true labels", runs["train_accuracy"].min(axis=1), at_least(1)),
        Measure.paired("gap, adversarial minus random", gap[:, adversarial], gap[:, random], at_least(0)).as_primary(),
        Measure.paired(
            "dimension, adversarial minus random", dimension[:, adversarial], dimension[:, random], at_most(0)
        ),
    ]  # fmt: skip


WITHDRAWN = (
    "the window before the stop holds most of training in some cells; to be measured again after the stop"
)
TOO_FEW = "four short runs are too few for a correlation"

CLAIMS = (
    Claim(
        "PH1", "The lifetimes of connected components are the edge lengths of a minimum spanning tree.", "Sec. 3",
        "an identity", "exact", "all routes give the same lifetimes to 10⁻¹²", _routes_agree, EVERYWHERE,
    ),
    Claim(
        "PH2", "Lifetime sums match their closed forms.", "Sec. 2, definition", "an identity", "exact",
        "relative error at most 10⁻¹²", _closed_forms_hold, EVERYWHERE,
    ),
    Claim(
        "PH3", "The growth of lifetime sums gives the dimension of a set.", "Sec. 3, Algorithm 1", "shown in figures",
        "statistical", "within 10% of the truth for every cloud, every seed and the whole interval; curves, surfaces and "
        "the cube are primary", _dimensions_found, FULL, "the clouds of smoke are too small for this band",
    ),
    Claim(
        "PH4", "The dimension of the surrounding space doesn't matter.", "Sec. 3", "stated", "exact", "equal to 10⁻⁶",
        _ambient_space_is_irrelevant, EVERYWHERE,
    ),
    Claim(
        "PH5", "The dimension orders diffusion processes by their stable index at least as well as other estimators do.",
        "Sec. 5", "shown in figures", "statistical", "on single paths: rank correlation at least 0.9 (primary), and not "
        "below that of any other estimator", _tracks_the_stable_index, FULL, "three processes are too few for a ranking",
    ),
    Claim(
        "PH5b", "It recovers the dimension of diffusion processes more accurately than other estimators do.",
        "Sec. 5; abstract", "claimed", "statistical", "mean absolute error below that of each other estimator, paired "
        "over seeds", _nearer_to_the_truth, FULL, "three short processes are too few",
    ),
    Claim(
        "PH6", "A lower dimension goes with a smaller generalization gap.", "Sec. 5; abstract",
        "positive correlation on MNIST, CIFAR-10 and CIFAR-100", "statistical", "Kendall τ over cells of the grid above 0, "
        "among all runs and among those that converged", _dimension_follows_gap, FULL, TOO_FEW, WITHDRAWN,
    ),
    Claim(
        "PH7", "The dimension orders runs at least as well as simple measures do.", "question of Tan et al. 2024",
        "no claim found", "statistical", "|τ| over cells at least that of every simple measure, minus 0.05 (window before "
        "the stop)", _better_than_simple_measures, FULL, TOO_FEW,
    ),
    Claim(
        "PH8", "Penalizing the dimension during training reduces the gap.", "Sec. 5", "reduces", "statistical",
        "paired differences of gap (primary) and dimension below 0, training accuracy down by at most 2 points; stopping "
        "early without the penalty must not do the same", _penalty_reduces_the_gap, FULL,
        "sixty steps on generated noise only try out the code",
    ),
    Claim(
        "PH9", "Beyond the paper: the correlation survives when learning rate and batch size are held fixed.",
        "Tan et al. 2024", "later work: often not significant", "statistical", "partial Kendall τ over cells above 0 given "
        "learning rate, given batch size, and given their ratio", _survives_conditioning, FULL, TOO_FEW, WITHDRAWN,
    ),
    Claim(
        "PH10", "Beyond the paper: an adversarial start raises the gap but not the dimension.", "Tan et al. 2024",
        "later work: yes", "statistical", "random and true labels learned to 100%, accuracy gap higher (primary), "
        "dimension not higher", _adversarial_start_raises_the_gap, ("gpu", "paper"),
        "needs three trainings to convergence per seed: part of the preset gpu",
    ),
    Claim(
        "PH11", "Beyond the paper: an estimate from one draw of subsets is noisy, and averaging ten draws helps.",
        "a user's question about the official code", "not in the paper", "statistical",
        "spread over new draws at least 2.5 times smaller", _averaging_helps, FULL, "smoke makes too few estimates",
    ),
)  # fmt: skip

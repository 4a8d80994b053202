"""The claims of the chapter: PH1 to PH5 and PH11 on sets and processes, PH6 to PH10 on networks."""

import numpy as np
from scipy.stats import f, spearmanr

from loupe.experiment import Claim, Measure, at_least, at_most, between
from loupe.experiment.results import row
from loupe.papers.ph_dimension.claims_grid import accuracy_gap, chosen, grids, margin_to_best, tau_over_cells

EVERYWHERE = ("smoke", "cpu", "gpu", "paper")
FULL = ("cpu", "gpu", "paper")
OURS = "persistent homology"
NEAREST = "distances to nearest neighbors"  # in place of tree edges


def _exact(label, error, limit, basis, wrong, other):
    return Measure(label, float(error), at_most(limit), basis=basis).against(wrong, other)


def _routes_agree(results):
    run = results["identities"].first
    basis, wrong = f"{len(run['clouds'])} clouds", run["nearest_gaps"].max()
    return [
        _exact(f"{route}, relative difference", gap, 1e-12, basis, NEAREST, wrong)
        for route, gap in zip(run["routes"], run["route_gaps"].max(axis=0), strict=True)
    ]


def _closed_forms_hold(results):
    run = results["identities"].first
    errors = (run[name].max(axis=1) for name in ("closed_form_errors", "nearest_sum_errors"))
    return [
        _exact(f"{name}, relative error", error, 1e-12, "powers 0.5, 1 and 2", NEAREST, wrong)
        for name, error, wrong in zip(run["closed_forms"], *errors, strict=True)
    ]


def _dimensions_found(results):
    runs, measures = results["known_dimensions"], []
    wrong = (runs["alpha"] / (1 + runs["slope"])).mean(axis=0)
    columns = (runs.first["cloud"], runs.first["truth"], runs["dimension"].T, wrong)
    for name, d, dimension, other in zip(*columns, strict=True):
        label, band = f"{name}, dimension {d:.4g}", between(0.9 * d, 1.1 * d)
        measure = Measure.of_seeds(label, dimension, band, every=True)
        measure = measure.against("the formula with the wrong sign of the slope", other)
        measures.append(measure.as_primary() if d in (1, 2, 3) and name != "gaussian_plane" else measure)
    return measures


def _ambient_space_is_irrelevant(results):
    run = results["identities"].first
    gap, wrong = (abs(run["plane_dimension"] - run[f"{kind}_dimension"]) for kind in ("embedded", "sheared"))
    basis, other = "one cloud, equal subsets", "an embedding that is no isometry"
    return [_exact("difference of the two estimates", gap, 1e-6, basis, other, wrong)]


def order_found(runs, estimator):
    """Spearman's ρ of the stable index and an estimate of it on single paths, one value for each seed."""
    rho = [
        spearmanr(runs.first["beta"], one).statistic for one in row(runs, "estimates", estimator=estimator)
    ]
    return np.nan_to_num(rho)  # an estimator that gives every process the same value orders nothing


def error_made(runs, estimator):
    """The mean absolute error of an estimate of the stable index, one value for each seed."""
    return np.abs(row(runs, "estimates", estimator=estimator) - runs.first["beta"]).mean(axis=-1)


def error_of_constant(runs):
    """The same of always guessing the middle of the range."""
    beta = runs.first["beta"]
    return np.abs(beta - beta.mean()).mean()


def _tracks_the_stable_index(results):
    runs = results["diffusion_processes"]
    (_, ours), *others = ((name, order_found(runs, name)) for name in runs.first["estimator"])
    measure = Measure.of_seeds("Spearman ρ of β and dimension on single paths", ours, at_least(0.9))
    return [
        measure.against("counting principal components", others[-1][1].mean()).as_primary(),
        *(Measure.paired(f"ρ minus that of {name}", ours, rho, at_least(0)) for name, rho in others),
    ]


def _nearer_to_the_truth(results):
    runs, constant = results["diffusion_processes"], error_of_constant(results["diffusion_processes"])
    (_, ours), *others = ((name, error_made(runs, name)) for name in runs.first["estimator"])
    return [
        Measure.paired(f"error of {name} minus ours", error, ours, at_least(0))
        .against("always guessing the middle of the range", (error - constant).mean())
        for name, error in others
    ]  # fmt: skip


def _averaging_helps(results):
    run = results["noise_of_one_draw"].first
    (n,) = run["dimensions"].shape[1:]
    one, ten = (row(run, "dimensions", repeats=repeats).std(ddof=1) for repeats in (1, 10))
    low, high = one / ten / np.sqrt(f.ppf((0.975, 0.025), n - 1, n - 1))
    basis = f"{n} independent estimates each on one cloud, 95% F interval; other clouds may differ"
    first, second = (half.std(ddof=1) for half in np.array_split(row(run, "dimensions", repeats=1), 2))
    label = "spread of single draws over spread of averages of 10"
    measure = Measure(label, one / ten, at_least(2.5), low, high, basis, units=n)
    return [measure.against("1 draw over 1 draw", first / second)]


def _dimension_follows_gap(results):
    return [
        tau_over_cells(f"{case}, {which}: τ of dimension and gap", part)
        for case, grid in grids(results["gap_grid"]).items()
        for which, part in (("all runs", grid), ("converged runs", chosen(grid, grid["converged"])))
    ]


def _better_than_simple_measures(results):
    return [margin_to_best(case, grid) for case, grid in grids(results["gap_grid"]).items()]


def penalty_arms(runs):
    """At the end without and with the penalty, a value for each seed: gap, dimension, and training accuracy.

    Last, the gap without it at the first time that training accuracy was as high as it ends with the penalty.
    """
    train, gap = runs["train_accuracy"], accuracy_gap(runs)
    # Accuracy need not rise at every step.
    early = [np.interp(a[1, -1], np.maximum.accumulate(a[0]), g[0]) for a, g in zip(train, gap, strict=True)]
    return *(one[..., -1].T for one in (gap, runs["dimension"], train)), np.array(early)


def _penalty_reduces_the_gap(results):
    (gap, penalised), (dimension, raised), (train, slower), early = penalty_arms(results["regularised"])
    return [
        Measure.paired("gap with the penalty minus gap without", penalised, gap, at_most(0))
        .against("no penalty, stopped early at equal training accuracy", (early - gap).mean()).as_primary(),
        Measure.paired("dimension with the penalty minus without", raised, dimension, at_most(0)),
        Measure.paired("training accuracy lost", train, slower, at_most(0.02)),
    ]  # fmt: skip


def _survives_conditioning(results):
    return [
        tau_over_cells(f"{case}: τ of dimension and gap given {words}", grid, given)
        for case, grid in grids(results["gap_grid"]).items()
        for words, given in (
            ("learning rate", "learning_rate"),
            ("batch size", "batch"),
            ("their ratio", "ratio"),
        )
    ]


def _adversarial_start_raises_the_gap(results):
    runs = results["adversarial_start"]
    # The random start is first.
    (random, gap), (usual, dimension) = accuracy_gap(runs).T, runs["dimension"].T
    return [
        Measure.of_seeds("accuracy on the random labels", runs["memorised"], at_least(1)),
        Measure.of_seeds("accuracy on the true labels", runs["train_accuracy"].min(axis=1), at_least(1)),
        Measure.paired("gap, adversarial minus random", gap, random, at_least(0)).as_primary(),
        Measure.paired("dimension, adversarial minus random", dimension, usual, at_most(0)),
    ]


WITHDRAWN = (
    "the window before the stop holds most of training in some cells; to be measured again after the stop"
)
TOO_FEW = "four short runs are too few for a correlation"

CLAIMS = (
    Claim("PH1", "The lifetimes of connected components are the edge lengths of a minimum spanning tree.", "Sec. 3",
          "an identity", "exact", "all routes give the same lifetimes to 10⁻¹²", _routes_agree, EVERYWHERE),
    Claim("PH2", "Lifetime sums match their closed forms.", "Sec. 2, definition", "an identity", "exact",
          "relative error at most 10⁻¹²", _closed_forms_hold, EVERYWHERE),
    Claim("PH3", "The growth of lifetime sums gives the dimension of a set.", "Sec. 3, Algorithm 1",
          "shown in figures", "statistical", "within 10% of the truth for every cloud, every seed and the whole "
          "interval; curves, surfaces and the cube are primary", _dimensions_found, FULL, "the clouds of smoke are "
          "too small for this band"),
    Claim("PH4", "The dimension of the surrounding space doesn't matter.", "Sec. 3", "stated", "exact",
          "equal to 10⁻⁶", _ambient_space_is_irrelevant, EVERYWHERE),
    Claim("PH5", "The dimension orders diffusion processes by their stable index at least as well as other "
          "estimators do.", "Sec. 5", "shown in figures", "statistical", "on single paths: rank correlation at least "
          "0.9 (primary), and not below that of any other estimator", _tracks_the_stable_index, FULL,
          "three processes are too few for a ranking"),
    Claim("PH5b", "It recovers the dimension of diffusion processes more accurately than other estimators do.",
          "Sec. 5; abstract", "claimed", "statistical", "mean absolute error below that of each other estimator, "
          "paired over seeds", _nearer_to_the_truth, FULL, "three short processes are too few"),
    Claim("PH6", "A lower dimension goes with a smaller generalization gap.", "Sec. 5; abstract", "positive "
          "correlation on MNIST, CIFAR-10 and CIFAR-100", "statistical", "Kendall τ over cells of the grid above 0, "
          "among all runs and among those that converged", _dimension_follows_gap, FULL, TOO_FEW, WITHDRAWN),
    Claim("PH7", "The dimension orders runs at least as well as simple measures do.", "question of Tan et al. 2024",
          "no claim found", "statistical", "|τ| over cells at least that of every simple measure, minus 0.05 (window "
          "before the stop)", _better_than_simple_measures, FULL, TOO_FEW),
    Claim("PH8", "Penalizing the dimension during training reduces the gap.", "Sec. 5", "reduces", "statistical",
          "paired differences of gap (primary) and dimension below 0, training accuracy down by at most 2 points; "
          "stopping early without the penalty must not do the same", _penalty_reduces_the_gap, FULL,
          "sixty steps on generated noise only try out the code"),
    Claim("PH9", "Beyond the paper: the correlation survives when learning rate and batch size are held fixed.",
          "Tan et al. 2024", "later work: often not significant", "statistical", "partial Kendall τ over cells above "
          "0 given learning rate, given batch size, and given their ratio", _survives_conditioning, FULL, TOO_FEW,
          WITHDRAWN),
    Claim("PH10", "Beyond the paper: an adversarial start raises the gap but not the dimension.", "Tan et al. 2024",
          "later work: yes", "statistical", "random and true labels learned to 100%, accuracy gap higher (primary), "
          "dimension not higher", _adversarial_start_raises_the_gap, ("gpu", "paper"), "needs three trainings to "
          "convergence per seed: part of the preset gpu"),
    Claim("PH11", "Beyond the paper: an estimate from one draw of subsets is noisy, and averaging ten draws helps.",
          "a user's question about the official code", "not in the paper", "statistical", "spread over new draws at "
          "least 2.5 times smaller", _averaging_helps, FULL, "smoke makes too few estimates"),
)  # fmt: skip

"""The numbers in the chapter's paragraphs, by name, each from the largest preset that has its results."""

import numpy as np
from scipy.stats import norm

from loupe.experiment.render import over_seeds
from loupe.experiment.results import find, row, stored_at
from loupe.metrics import kendall
from loupe.papers.ph_dimension.claims import OURS, error_made, error_of_constant, order_found, penalty_arms
from loupe.papers.ph_dimension.claims_grid import MEASURES, accuracy_gap, by_cell, grids, tau_over_cells
from loupe.topology.dimension import dimension_from_slope, fit_power_law

FLAT = ("circle", "cube_1", "sphere", "flat_torus", "torus", "cube_2", "swiss_roll", "cube_3", "sierpinski")
DETECTED = 0.05  # the difference of dimensions in the exercise on how many runs it takes


def numbers(chapter):
    """Numbers and finished strings by the name that a paragraph gives."""
    parts = (_sets, _processes, _paths, _grid, _penalty, _adversarial, _speed)
    return {name: value for part in parts for name, value in part(chapter).items()}


def _sets(chapter):
    found, identities = find(chapter, ("known_dimensions",)), find(chapter, ("identities",))
    exact, runs = identities.runs.first, found.runs
    smooth = [(row(runs, "dimension", cloud=one) / row(runs, "truth", cloud=one)).mean() - 1 for one in FLAT]
    cube, small = (
        over_seeds(row(each, "dimension", cloud="cube_10"), 2)
        for each in (runs, stored_at(chapter, "known_dimensions", "cpu"))
    )
    return {
        "route_gap": exact["route_gaps"].max(), "closed_error": exact["closed_form_errors"].max(),
        "embedding": identities.settings.embedding_dimension, "cloud_kinds": len(runs.first["cloud"]),
        "ambient_gap": abs(exact["plane_dimension"] - exact["embedded_dimension"]),
        "cloud_points": found.settings.cloud_points, "smooth_error": np.abs(smooth).max(),
        "cube_10": cube, "cube_10_small": small, "cantor_low": _cantor(4, 10), "cantor_high": _cantor(8, 14),
    }  # fmt: skip


def _cantor(first, last, alpha=0.5):
    """The estimate from the exact sums over the end points of these levels of the Cantor set."""
    levels = np.arange(first, last + 1)
    each = [np.arange(1, k + 1) for k in levels]
    sums = [(2.0 ** (j - 1) * (3.0**-j + 3.0 ** -j[-1]) ** alpha).sum() for j in each]
    return float(dimension_from_slope(fit_power_law(2.0**levels, sums)[0], alpha))


def _processes(chapter):
    found = find(chapter, ("diffusion_processes",))
    runs = found.runs
    return {
        "betas": len(runs.first["beta"]), "process_paths": len(runs), "process_points": found.settings.process_points,
        "rho_ph": over_seeds(order_found(runs, OURS), 3), "rho_mle": over_seeds(order_found(runs, "MLE (k = 10)"), 3),
        "error_ph": over_seeds(error_made(runs, OURS), 2), "error_constant": error_of_constant(runs),
        "error_correlation": over_seeds(error_made(runs, "correlation"), 2),
    }  # fmt: skip


def _paths(chapter):
    found, noise = find(chapter, ("training_path", "fixed_order")), find(chapter, ("noise_of_one_draw",))
    shuffled, ordered = found["training_path"], found["fixed_order"]
    one, ten = (row(noise.runs.first, "dimensions", repeats=repeats).std(ddof=1) for repeats in (1, 10))
    draws = shuffled["one_draw_dimensions"]
    between, within = draws.mean(axis=1).var(ddof=1), draws.var(axis=1, ddof=1).mean()
    z = norm.ppf(0.975) + norm.ppf(0.8)
    return {
        "images": found.settings.image_count, "window": found.settings.iterates, "noise_ratio": one / ten,
        "shuffled_dimension": over_seeds(shuffled["dimension"], 2),
        "ordered_dimension": over_seeds(ordered["dimension"], 2),
        "order_gap": over_seeds(100 * (accuracy_gap(ordered) - accuracy_gap(shuffled)), 1),
        "sd_runs": between**0.5, "sd_draws": within**0.5,
        "runs_needed": 2 * z**2 * (between + within) / DETECTED**2,
    }  # fmt: skip


def _grid(chapter):
    found = find(chapter, ("gap_grid",))
    grid = next(iter(grids(found.runs).values()))
    cells, share = by_cell(grid), found.settings.iterates / grid["steps"]
    loss = {name: kendall(cells[name], cells["loss_gap"]) for name in MEASURES}
    tau, rates, large = tau_over_cells("", grid), np.unique(grid["learning_rate"]), grid["batch"].max()
    fast = share[(grid["batch"] == large) & (grid["learning_rate"] >= rates[-2])]
    given = {name: tau_over_cells("", grid, column).value
             for name, column in (("rate", "learning_rate"), ("batch", "batch"), ("ratio", "ratio"))}  # fmt: skip
    return {
        "grid_runs": len(found.runs), "grid_cells": len(cells["gap"]), "grid_cap": found.settings.training.steps,
        "unfinished": int((~grid["converged"]).sum()), "tau": tau.value, "tau_low": tau.low, "tau_high": tau.high,
        "tau_ratio": kendall(cells["ratio"], cells["gap"]),
        "tau_loss": loss["dimension"], "tau_loss_most": max(map(abs, loss.values())),
        "small_batch": int(grid["batch"].min()), "large_batch": int(large),
        "small_share": share[grid["batch"] == grid["batch"].min()].mean(),
        "large_share_low": fast.min(), "large_share_high": fast.max(),
        **{f"given_{name}": value for name, value in given.items()},
    }  # fmt: skip


def _penalty(chapter):
    found = find(chapter, ("regularised",))
    (gap, penalised), (dimension, raised), (train, slower), early = penalty_arms(found.runs)
    return {
        "gap_drop": over_seeds(100 * (gap - penalised), 1), "early_drop": over_seeds(100 * (gap - early), 1),
        "train_drop": over_seeds(100 * (train - slower), 1), "dimension_rise": over_seeds(raised - dimension, 2),
        "penalty_steps": found.settings.penalty_training.steps, "penalty_images": found.settings.penalty_images,
    }  # fmt: skip


def _adversarial(chapter):
    found = find(chapter, ("adversarial_start",))
    gap, dimension = (np.diff(each)[:, 0] for each in (accuracy_gap(found.runs), found.runs["dimension"]))
    return {
        "adversarial_images": found.settings.adversarial_images,
        "adversarial_gap": over_seeds(100 * gap, 1), "adversarial_dimension": over_seeds(dimension, 2),
    }  # fmt: skip


def _speed(chapter):
    bench = chapter.benchmark()
    ours = next(row for row in bench["rows"] if row["method"] == "loupe ph_dimension")
    far = next(row for row in bench["rows"] if row["task"].startswith("distances"))
    return {
        "machine": bench["environment"]["hardware"], "ten_draws": 10 * ours["seconds"],
        "distance_seconds": far["seconds"], "gemm_share": far["share of GEMM"],
    }  # fmt: skip

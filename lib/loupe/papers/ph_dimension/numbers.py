"""The numbers in the chapter's paragraphs, by name, each from the largest preset that has its results."""

import numpy as np
from scipy.stats import norm, spearmanr

from loupe.experiment.render import over_seeds
from loupe.experiment.results import find, stored_at
from loupe.metrics import kendall, partial_kendall
from loupe.papers.ph_dimension.claims import gap_at_accuracy
from loupe.papers.ph_dimension.claims_grid import grids, tau_over_cells
from loupe.topology.dimension import dimension_from_slope, fit_power_law

FLAT = ("circle", "cube_1", "sphere", "flat_torus", "torus", "cube_2", "swiss_roll", "cube_3", "sierpinski")
DETECTED = 0.05  # the difference of dimensions in the exercise on how many runs it takes


def numbers(chapter):
    """Numbers and finished strings by the name that a paragraph gives."""
    parts = (_sets, _processes, _paths, _grid, _penalty, _adversarial, _speed)
    return {name: value for part in parts for name, value in part(chapter).items()}


def _sets(chapter):
    found, identities = find(chapter, ("known_dimensions",)), find(chapter, ("identities",))
    truth, names, exact = found.runs.first["truth"], list(found.runs.first["clouds"]), identities.runs.first
    off = np.abs(found.runs["dimension"].mean(axis=0) / truth - 1)
    small = stored_at(chapter, "known_dimensions", "cpu")
    cube = names.index("cube_10")
    return {
        "route_gap": exact["route_gaps"].max(), "closed_error": exact["closed_form_errors"].max(),
        "embedding": identities.settings.embedding_dimension, "cloud_kinds": len(names),
        "ambient_gap": abs(exact["plane_dimension"] - exact["embedded_dimension"]),
        "cloud_points": found.settings.cloud_points, "smooth_error": max(off[names.index(name)] for name in FLAT),
        "cube_10": over_seeds(found.runs["dimension"][:, cube], 2),
        "cube_10_small": over_seeds(small["dimension"][:, list(small.first["clouds"]).index("cube_10")], 2),
        "cantor_low": _cantor(4, 10), "cantor_high": _cantor(8, 14),
    }  # fmt: skip


def _cantor(first, last, alpha=0.5):
    """The estimate from the exact sums over the end points of these levels of the Cantor set."""
    levels = np.arange(first, last + 1)
    each = [np.arange(1, k + 1) for k in levels]
    sums = [(2.0 ** (j - 1) * (3.0**-j + 3.0 ** -j[-1]) ** alpha).sum() for j in each]
    return float(dimension_from_slope(fit_power_law(2.0**levels, sums)[0], alpha))


def _processes(chapter):
    found = find(chapter, ("diffusion_processes",))
    beta, names = found.runs.first["beta"], ("ph", "two_nn", "mle", "correlation", "pca")
    error = np.abs(found.runs["estimates"] - beta).mean(axis=-1)
    rho = [[spearmanr(beta, one).statistic for one in run] for run in found.runs["estimates"][:, :3]]
    return {
        "betas": len(beta), "process_paths": len(found.runs), "process_points": found.settings.process_points,
        "error_constant": np.abs(beta - beta.mean()).mean(),
        **{f"error_{name}": over_seeds(error[:, k], 2) for k, name in enumerate(names)},
        **{f"rho_{name}": over_seeds(column, 3) for name, column in zip(names, zip(*rho, strict=True), strict=False)},
    }  # fmt: skip


def _paths(chapter):
    found, noise = find(chapter, ("training_path", "fixed_order")), find(chapter, ("noise_of_one_draw",))
    shuffled, ordered = found["training_path"], found["fixed_order"]
    one, ten = noise.runs.first["dimensions"].std(axis=1, ddof=1)
    draws = shuffled["one_draw_dimensions"]
    between, within = draws.mean(axis=1).var(ddof=1), draws.var(axis=1, ddof=1).mean()
    z = norm.ppf(0.975) + norm.ppf(0.8)
    return {
        "images": found.settings.image_count, "window": found.settings.iterates, "noise_ratio": one / ten,
        "path_low": shuffled["dimension"].min(), "path_high": shuffled["dimension"].max(),
        "shuffled_dimension": over_seeds(shuffled["dimension"], 2),
        "ordered_dimension": over_seeds(ordered["dimension"], 2),
        "order_gap": over_seeds(_gap(ordered) - _gap(shuffled), 1),
        "sd_runs": between**0.5, "sd_draws": within**0.5,
        "runs_needed": 2 * z**2 * (between + within) / DETECTED**2,
    }  # fmt: skip


def _gap(runs):
    """Training minus test accuracy, in points."""
    return 100 * (runs["train_accuracy"] - runs["test_accuracy"])


def _grid(chapter):
    found = find(chapter, ("gap_grid",))
    grid = grids(found.runs)[0]
    cells, share = grid.cells, found.settings.iterates / grid.measures["steps taken"]
    tau = {name: kendall(column, cells.gap) for name, column in cells.measures.items()}
    loss = {name: kendall(column, cells.loss_gap) for name, column in cells.measures.items()}
    interval = tau_over_cells("", cells)
    fast = share[(grid.batch == grid.batch.max()) & (grid.rate >= np.unique(grid.rate)[-2])]
    given = {name: partial_kendall(cells.dimension, cells.gap, getattr(cells, name), draws=1).tau
             for name in ("rate", "batch", "ratio")}  # fmt: skip
    return {
        "grid_runs": len(found.runs), "grid_cells": len(cells.gap), "grid_cap": found.settings.training.steps,
        "unfinished": int((~grid.converged).sum()), "tau": tau["PH dimension"], "tau_ratio": tau["lr / batch"],
        "tau_low": interval.low, "tau_high": interval.high, "tau_loss": loss["PH dimension"],
        "tau_loss_most": max(map(abs, loss.values())),
        "small_batch": int(grid.batch.min()), "large_batch": int(grid.batch.max()),
        "small_share": share[grid.batch == grid.batch.min()].mean(),
        "large_share_low": fast.min(), "large_share_high": fast.max(),
        **{f"given_{name}": value for name, value in given.items()},
    }  # fmt: skip


def _penalty(chapter):
    found = find(chapter, ("regularised",))
    runs, train, gap = found.runs, 100 * found.runs["train_accuracy"], _gap(found.runs)
    early = [gap_at_accuracy(a[0], g[0], a[1, -1]) for a, g in zip(train, gap, strict=True)]
    return {
        "gap_drop": over_seeds(gap[:, 0, -1] - gap[:, 1, -1], 1), "early_drop": over_seeds(gap[:, 0, -1] - early, 1),
        "train_drop": over_seeds(train[:, 0, -1] - train[:, 1, -1], 1),
        "dimension_rise": over_seeds(runs["dimension"][:, 1, -1] - runs["dimension"][:, 0, -1], 2),
        "penalty_steps": found.settings.penalty_training.steps, "penalty_images": found.settings.penalty_images,
    }  # fmt: skip


def _adversarial(chapter):
    found = find(chapter, ("adversarial_start",))
    return {
        "adversarial_images": found.settings.adversarial_images,
        "adversarial_gap": over_seeds(np.diff(_gap(found.runs))[:, 0], 1),
        "adversarial_dimension": over_seeds(np.diff(found.runs["dimension"])[:, 0], 2),
    }


def _speed(chapter):
    bench = chapter.benchmark()
    ours = next(row for row in bench["rows"] if row["method"] == "loupe ph_dimension")
    far = next(row for row in bench["rows"] if row["task"].startswith("distances"))
    return {
        "machine": bench["environment"]["hardware"], "ten_draws": 10 * ours["seconds"],
        "distance_seconds": far["seconds"], "gemm_share": far["share of GEMM"],
    }  # fmt: skip

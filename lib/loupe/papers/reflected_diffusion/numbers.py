"""The numbers in the chapter's paragraphs, by name, each from the largest preset that has its results."""

import math

import numpy as np
import torch

from loupe.diffusion.reflected.kernel import COSINES, REACH
from loupe.experiment.render import over_seeds
from loupe.experiment.results import find
from loupe.papers.reflected_diffusion.claims import astray, excess_mass, guidance_weights, orders
from loupe.papers.reflected_diffusion.experiments import SIGMAS


def numbers(chapter):
    """Numbers and finished strings by the name that a paragraph gives."""
    parts = (_exact, _speed, _walls, _densities, _square, _digits, _guided)
    return {name: value for part in parts for name, value in part(chapter).items()}


def _exact(chapter):
    run = find(chapter, ("identities",)).runs.first
    implicit, explicit = run["implicit_fit"], run["explicit_fit"]
    return {
        "image_terms": 4 * REACH[torch.float64] + 1, "cosine_terms": COSINES[torch.float64], "levels": len(SIGMAS),
        "error_64": run["score_error_float64"], "error_32": run["score_error_float32"],
        "quotient_error": run["far_error_quotient"], "draws": run["ks_draws"],
        "ks": run["ks"].max(), "ks_clipped": run["ks_clipped"].max(),
        "fit_error": run["loss_minimiser_error"], "fit_error_free": run["loss_minimiser_error_free"],
        "implicit_error": np.abs(implicit - explicit).max() / np.abs(explicit).max(),
        "exact_error": run["likelihood_error"], "pressing_error": run["likelihood_error_pressing"],
    }  # fmt: skip


def _speed(chapter):
    bench = chapter.benchmark()
    times = {task: [row for row in bench["rows"] if row["task"] == task] for task in
             ("The kernel's score", "The kernel in a training step")}  # fmt: skip
    slower = [row["times ours"] for row in times["The kernel's score"] if row["method"] == "re-statement"]
    share = max(row["share of noising and score"] for row in times["The kernel in a training step"])
    return {
        "slower_low": min(slower), "slower_high": max(slower), "kernel_share": share,
        "machine": bench["environment"]["hardware"],
    }  # fmt: skip


def _walls(chapter):
    run = find(chapter, ("thresholding",)).runs.first
    local = np.diff(np.log(run["distance_clip"])) / np.diff(np.log(run["path_steps"]))
    fold, clip = orders(run)
    return {
        "slope_fold": fold, "slope_clip": clip, "local_low": local.min(), "local_high": local.max(),
        "most_steps": int(run["path_steps"][-1]),
    }  # fmt: skip


def _densities(chapter):
    found = find(chapter, ("toys_reflected", "grey_bound"))
    runs, grey = found["toys_reflected"], found["grey_bound"]
    gap = (runs["true_log_density"] - runs["log_density"]).mean(1) / 2
    *rest, last = (f"{max(over, 0):.2f}" for over in (grey["bound"] - grey["surprise"]).mean(1))
    return {
        "ratio_low": excess_mass(runs).min(), "ratio_high": excess_mass(runs).max(), "density_seeds": len(runs),
        "gap_negative": int((gap < 0).sum()), "bound_over": f"{', '.join(rest)} and {last}",
    }  # fmt: skip


def _square(chapter):
    found = find(chapter, ("toys_reflected", "toys_exploding", "toys_logit"))
    ours, theirs = found["toys_reflected"], found["toys_exploding"]
    gaps = {
        toy: 1e4 * (ours[f"{toy} fold distance"] - theirs[f"{toy} static distance"])
        for toy in ("squares", "corners")
    }
    triangle, sigma = find(chapter, ("simplex",)).runs.first, found.settings.short_sigma
    return {
        "square_seeds": len(ours), "square_steps": found.settings.toy_training.steps,
        **{f"gap_{toy}": over_seeds(gap, 2) for toy, gap in gaps.items()},
        "board": 1e4 * ours["squares fold distance"].mean(), "board_static": 1e4 * theirs["squares static distance"].mean(),
        "board_floor": 1e4 * ours["squares floor"].mean(), "board_clip": 1e4 * ours["squares clip distance"].mean(),
        "board_logit": 1e4 * found["toys_logit"]["squares logit distance"].mean(),
        "short": sigma, "uniform": 2 * math.exp(-((math.pi * sigma) ** 2) / 2),
        **{f"triangle_{name}": 1e4 * triangle[f"simplex {key}"] for name, key in
           (("walls", "reflected distance"), ("free", "none distance"), ("floor", "floor"))},
        "triangle_outside": triangle["outside"],
    }  # fmt: skip


def _digits(chapter):
    found = find(chapter, ("images_reflected", "images_exploding"))
    ours, theirs, sigma = (
        found["images_reflected"].first,
        found["images_exploding"].first,
        found.settings.sigma_min,
    )
    names = {"fold": ours, "flow": ours, "clip": ours, "mollified": ours, "static": theirs, "none": theirs}
    parts = (("distance", "distance"), ("right", "accuracy"), ("calls", "evaluations"))
    return {
        "weights": int(ours["parameters"]), "image_steps": found.settings.training.steps, "seen": int(ours["images_seen"]),
        "drawn": found.settings.samples, "judge": ours["judge_accuracy"],
        **{f"{name}_{part}": run[f"{name} {key}"] for name, run in names.items() for part, key in parts},
        "sliced": ours["fold sliced"], "sliced_static": theirs["static sliced"],
        "bits_free": theirs["bits"].mean(), "bits_floor": 8 + math.log2(sigma * math.sqrt(2 * math.pi)),
    }  # fmt: skip


def _guided(chapter):
    found = find(chapter, ("images_reflected", "images_exploding"))
    ours, theirs = found["images_reflected"].first, found["images_exploding"].first
    *_, before, last = guidance_weights(ours)
    samplers = {"fold": (ours, "fold"), "flow": (ours, "flow"), "static": (theirs, "static"),
                "free": (theirs, "flow"), "dynamic": (theirs, "dynamic")}  # fmt: skip
    return {
        "guided": found.settings.guided, "outside_free": theirs[f"flow w={last} outside"], "bright": ours["train bright"],
        "dynamic_right_last": theirs[f"dynamic w={last} accuracy"],
        **{f"{name}_bright": run[f"{key} w={last} bright"] for name, (run, key) in samplers.items()},
        **{f"{name}_astray": astray(run, f"{key} w={last}") for name, (run, key) in samplers.items()},
        **{f"{name}_astray_before": astray(run, f"{key} w={before}") for name, (run, key) in samplers.items()},
    }  # fmt: skip

"""The numbers in the chapter's paragraphs, by name, each from the largest preset that has its results."""

import math

import numpy as np
import torch

from loupe.diffusion.reflected.kernel import COSINES, REACH
from loupe.experiment.render import over_seeds
from loupe.experiment.results import find
from loupe.papers.reflected_diffusion import claims
from loupe.papers.reflected_diffusion.claims import value
from loupe.papers.reflected_diffusion.experiments import SIGMAS


def numbers(chapter):
    """Numbers and finished strings by the name that a paragraph gives."""
    parts = (_exact, _speed, _walls, _densities, _square, _digits)
    return {name: number for part in parts for name, number in part(chapter).items()}


def _exact(chapter):
    run = find(chapter, ("identities",)).runs.first
    return {
        "image_terms": 4 * REACH[torch.float64] + 1, "cosine_terms": COSINES[torch.float64], "levels": len(SIGMAS),
        "error_64": run["score_float64"][0], "error_32": run["score_float32"][0], "quotient_error": run["far"][1],
        "draws": run["draws"], "ks": run["ks"][0].max(), "ks_clipped": run["ks"][1].max(),
        "fit_error": run["minimiser"][0], "fit_error_free": run["minimiser"][1],
        "exact_error": run["likelihood"][0], "pressing_error": run["likelihood"][1],
        "implicit_error": run["implicit"][0],
    }  # fmt: skip


def _speed(chapter):
    bench, by_task = chapter.benchmark(), {}
    for row in bench["rows"]:
        by_task.setdefault(row["task"], []).append(row)
    slower = [row["times ours"] for row in by_task["The kernel's score"] if row["method"] == "re-statement"]
    share = max(row["share of noising and score"] for row in by_task["The kernel in a training step"])
    return {
        "slower_low": min(slower), "slower_high": max(slower), "kernel_share": share,
        "machine": bench["environment"]["hardware"],
    }  # fmt: skip


def _walls(chapter):
    run = find(chapter, ("thresholding",)).runs.first
    local = np.diff(np.log(run["clip"])) / np.diff(np.log(run["path_steps"]))
    return {
        "slope_fold": claims.order(run, "fold"), "slope_clip": claims.order(run, "clip"), "local_low": local.min(),
        "local_high": local.max(), "most_steps": int(run["path_steps"][-1]),
    }  # fmt: skip


def _densities(chapter):
    found = find(chapter, ("toys_reflected", "grey_bound"))
    runs, mass = found["toys_reflected"], claims.excess_mass(found["toys_reflected"])
    *rest, last = (f"{max(over, 0):.2f}" for over in claims.over_truth(found["grey_bound"]))
    return {
        "ratio_low": mass.min(), "ratio_high": mass.max(), "density_seeds": len(runs),
        "gap_negative": int((claims.likelihood_gap(runs) < 0).sum()), "bound_over": f"{', '.join(rest)} and {last}",
    }  # fmt: skip


def _square(chapter):
    found, triangle = (
        find(chapter, ("toys_reflected", "toys_exploding")),
        find(chapter, ("simplex",)).runs.first,
    )
    ours, theirs, sigma = found["toys_reflected"], found["toys_exploding"], found.settings.short_sigma
    gaps = {
        toy: value(ours, "fold", "distance", toy) - value(theirs, "static", "distance", toy)
        for toy in ("squares", "corners")
    }
    return {
        "square_seeds": len(ours), "square_steps": found.settings.toy_training.steps,
        **{f"gap_{toy}": over_seeds(1e4 * gap, 2) for toy, gap in gaps.items()},
        "short": sigma, "uniform": 2 * math.exp(-((math.pi * sigma) ** 2) / 2),
        **{f"triangle_{name}": 1e4 * value(triangle, name, "distance") for name in ("reflected", "none", "data")},
        "triangle_outside": triangle["outside"],
    }  # fmt: skip


def _digits(chapter):
    found = find(chapter, ("images_reflected", "images_exploding"))
    ours, theirs = found["images_reflected"].first, found["images_exploding"].first
    settings, last, samplers = (
        found.settings,
        claims.guidance_weights(ours)[-1],
        {"fold": ours, "flow": ours, "static": theirs},
    )
    return {
        **{f"{name}_{metric}": value(run, name, metric) for name, run in samplers.items()
           for metric in ("distance", "accuracy", "calls", "sliced")},
        **{f"{name}_bright": value(run, name, "bright", last) for name, run in samplers.items()},
        **{f"{name}_astray": claims.astray(run, name, last) for name, run in samplers.items()},
        "free_bright": value(theirs, "flow", "bright", last), "free_outside": value(theirs, "flow", "outside", last),
        "dynamic_accuracy": value(theirs, "dynamic", "accuracy", last), "bright": value(ours, "train", "bright"),
        "weights": int(ours["parameters"]), "image_steps": settings.training.steps, "judge": ours["judge_accuracy"],
        "drawn": settings.samples, "guided": settings.guided, "bits_free": theirs["bits"].mean(),
        "bits_floor": 8 + math.log2(settings.sigma_min * math.sqrt(2 * math.pi)),
    }  # fmt: skip

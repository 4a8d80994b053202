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
    right, wrong = ({name: pair[k] for name, pair in run.items() if np.size(pair) == 2} for k in (0, 1))
    return {
        "image_terms": 4 * REACH[torch.float64] + 1, "cosine_terms": COSINES[torch.float64], "levels": len(SIGMAS),
        "draws": run["draws"], "ks": run["ks"][0].max(), "ks_clipped": run["ks"][1].max(),
        "error_64": right["score_float64"], "error_32": right["score_float32"], "quotient_error": wrong["far"],
        "fit_error": right["minimiser"], "fit_error_free": wrong["minimiser"], "implicit_error": right["implicit"],
        "exact_error": right["likelihood"], "pressing_error": wrong["likelihood"],
    }  # fmt: skip


def _speed(chapter):
    bench, key = chapter.benchmark(), "share of noising and score"
    rows = [row for row in bench["rows"] if row["task"] == "The kernel's score"]
    slower = [row["times ours"] for row in rows if row["method"] == "re-statement"]
    return {
        "slower_low": min(slower), "slower_high": max(slower), "machine": bench["environment"]["hardware"],
        "kernel_share": max(row[key] for row in bench["rows"] if key in row),
    }  # fmt: skip


def _walls(chapter):
    run = find(chapter, ("thresholding",)).runs.first
    local = np.diff(np.log(run["clip"])) / np.diff(np.log(run["path_steps"]))
    return {f"slope_{walls}": claims.order(run, walls) for walls in ("fold", "clip")} | {
        "local_low": local.min(), "local_high": local.max(), "most_steps": int(run["path_steps"][-1]),
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
    found = find(chapter, ("toys_reflected", "toys_exploding"))
    ours, theirs, sigma = found["toys_reflected"], found["toys_exploding"], found.settings.short_sigma
    values = {
        "square_seeds": len(ours), "square_steps": found.settings.toy_training.steps, "short": sigma,
        "uniform": 2 * math.exp(-((math.pi * sigma) ** 2) / 2),
    }  # fmt: skip
    for toy in ("squares", "corners"):
        gap = value(ours, "fold", "distance", toy) - value(theirs, "static", "distance", toy)
        values[f"gap_{toy}"] = over_seeds(1e4 * gap, 2)
    triangle = find(chapter, ("simplex",)).runs.first
    for name in ("reflected", "none", "data"):
        values[f"triangle_{name}"] = 1e4 * value(triangle, name, "distance")
    return values | {"triangle_outside": triangle["outside"]}


def _digits(chapter):
    found = find(chapter, ("images_reflected", "images_exploding"))
    ours, theirs, settings = *(runs.first for runs in found.runs.values()), found.settings
    last, values = claims.guidance_weights(ours)[-1], {}
    for name, run in (("fold", ours), ("flow", ours), ("static", theirs)):
        for metric in ("distance", "accuracy", "calls", "sliced"):
            values[f"{name}_{metric}"] = value(run, name, metric)
        values[f"{name}_bright"] = value(run, name, "bright", last)
        values[f"{name}_astray"] = claims.astray(run, name, last)
    return values | {
        "free_bright": value(theirs, "flow", "bright", last), "free_outside": value(theirs, "flow", "outside", last),
        "dynamic_accuracy": value(theirs, "dynamic", "accuracy", last), "bright": value(ours, "train", "bright"),
        "weights": int(ours["parameters"]), "image_steps": settings.training.steps, "judge": ours["judge_accuracy"],
        "drawn": settings.samples, "guided": settings.guided, "bits_free": theirs["bits"].mean(),
        "bits_floor": 8 + math.log2(settings.sigma_min * math.sqrt(2 * math.pi)),
    }  # fmt: skip

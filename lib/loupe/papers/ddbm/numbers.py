"""The numbers in the chapter's paragraphs, by name."""

import numpy as np

from loupe.experiment.results import find, row
from loupe.papers.ddbm.claims import SAMPLERS, at_churn, equal_calls, learned, slope, without_pull


def numbers(chapter):
    """Values of stored results: of the largest preset that has them."""
    found = find(chapter, ("toy_networks", "affine_networks"), partial=True)
    errors = {name: learned(found, f"{name} two modes")[0].mean() for name in ("VP", "VE")}
    shuffled = [values.mean() for values in (learned(found, f"{name} two modes")[1] for name in errors)]
    spreads = find(chapter, ("spreads",)).runs.first["diversity"]
    return _exact(find(chapter, ("toys", "identities"))) | _images(chapter) | _fewer_calls(chapter) | {
        "learned_vp": errors["VP"], "learned_ve": errors["VE"], "learned_shuffled": min(shuffled),
        "spread_class": spreads[0], "spread_near": spreads[1],
    }  # fmt: skip


def _exact(found):
    run = found["toys"].first
    small, usual = (at_churn(run, churn) for churn in (0.01, 0.33))
    return {
        "vp_usual": run["VP variance"][usual], "vp_small": run["VP variance"][small],
        "ve_usual": run["VE variance"][usual], "upper": 100 * run["VP modes"][usual][0],
        "slope": slope(found["identities"].first), "paths": int(run.settings["toy_paths"]), "source": run["source"],
    }  # fmt: skip


def _images(chapter):
    names = ("vp", "ve", "regression", "rectified_flow", "i2sb", "trivial")
    found = find(chapter, names, partial=True)
    values = {
        "preset": found.preset, "steps": found.settings.training.steps, "seeds": found.seeds,
        "samples": found.settings.samples, "cpu_steps": chapter.room.PRESETS["cpu"].training.steps,
        "parameters": int(found["vp"].first["parameters"]),
    }  # fmt: skip
    for name in names[:-1]:
        for key in ("distance", "mse", "diversity"):
            values[f"{name}_{key}"] = row(found[name], key, samplers=SAMPLERS[name]).mean()
    for name in ("vp", "ve"):
        values[f"{name}_ode_distance"] = row(found[name], "distance", samplers="ODE").mean()
        values[f"{name}_no_pull"] = np.mean(list(without_pull(found[name]).values()))
    trivial = found["trivial"].first
    pairs = np.array([pair for pair in map(equal_calls, found["vp"]) if pair])
    return values | dict(zip(("sigma_0", "sigma_T", "covariance"), trivial["moments"], strict=True)) | {
        "mse_ratio": values["vp_mse"] / values["regression_mse"],
        "equal_calls": (pairs[:, 0] / pairs[:, 1]).mean() if len(pairs) else float("nan"),
        "nearest": row(trivial, "distance", rows="nearest training pair"),
        "nearest_mse": row(trivial, "mse", rows="nearest training pair"),
        "two": row(trivial, "distance", rows="mean of the two nearest"),
        "two_mse": row(trivial, "mse", rows="mean of the two nearest"),
        "ten": row(trivial, "distance", rows="mean of the ten nearest"),
        "ten_mse": row(trivial, "mse", rows="mean of the ten nearest"),
        "real": row(trivial, "distance", rows="other real images"), "judge": 100 * trivial["judge accuracy"],
    }  # fmt: skip


def _fewer_calls(chapter):
    """DDBM with about as many calls as I2SB, beside it, at one preset."""
    found = find(chapter, ("fewer_calls", "i2sb"), partial=True)
    budget, values = found["fewer_calls"].first["budget"].min(), {}
    for sampler in ("hybrid", "ODE"):
        for key in ("distance", "calls"):
            value = row(found["fewer_calls"], key, samplers=sampler, budget=budget).mean()
            values[f"few_{sampler.lower()}_{key}"] = value
    return values | {"few_i2sb_distance": row(found["i2sb"], "distance", samplers="I2SB").mean()}

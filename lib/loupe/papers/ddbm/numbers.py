"""The numbers in the chapter's paragraphs, by name."""

import numpy as np

from loupe.experiment.results import find
from loupe.papers.ddbm.claims import SAMPLERS, at_churn, equal_calls, slope


def numbers(chapter):
    """Values of stored results: of the largest preset that has them."""
    learned = find(chapter, ("toy_networks",), partial=True).runs
    modes = {f"learned_{name.lower()}": learned[f"{name} two modes error"].mean() for name in ("VP", "VE")}
    modes["learned_shuffled"] = min(
        learned[key].mean() for key in learned.first if key.endswith("shuffled error")
    )
    return _exact(find(chapter, ("toys", "identities"))) | modes | _images(chapter)


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
    }  # fmt: skip
    for name in names[:-1]:
        runs = found[name]
        k = list(runs.first["samplers"]).index(SAMPLERS[name])
        values |= {f"{name}_{key}": runs[key][:, k].mean() for key in ("distance", "mse", "diversity")}
    runs, trivial = found["vp"], found["trivial"].first
    flow = list(runs.first["samplers"]).index("ODE")
    rows = list(trivial["rows"])
    pairs = np.array([pair for pair in map(equal_calls, runs) if pair])
    for name in ("vp", "ve"):
        distances, weights = found[name]["guidance distance"], list(found.settings.guidances)
        values[f"{name}_no_pull"] = (
            distances[:, weights.index(0.0)] / distances[:, weights.index(1.0)]
        ).mean()
    return values | {
        "mse_ratio": values["vp_mse"] / values["regression_mse"],
        "ve_ode_distance": found["ve"]["distance"][:, flow].mean(),
        "parameters": int(runs.first["parameters"]), "vp_ode_distance": runs["distance"][:, flow].mean(),
        "vp_ode_mse": runs["mse"][:, flow].mean(), "vp_ode_diversity": runs["diversity"][:, flow].mean(),
        "equal_calls": (pairs[:, 0] / pairs[:, 1]).mean() if len(pairs) else float("nan"),
        "nearest": trivial["distance"][rows.index("nearest training pair")],
        "nearest_mse": trivial["mse"][rows.index("nearest training pair")],
        "ten": trivial["distance"][rows.index("mean of the ten nearest")],
        "ten_mse": trivial["mse"][rows.index("mean of the ten nearest")],
        "real": trivial["distance"][rows.index("other real images")],
        "judge": 100 * trivial["judge accuracy"], "sigma_0": trivial["moments"][0], "sigma_T": trivial["moments"][1],
        "covariance": trivial["moments"][2],
    }  # fmt: skip

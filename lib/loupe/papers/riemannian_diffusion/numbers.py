"""The numbers in the chapter's paragraphs, by name."""

import math

import numpy as np

from loupe.experiment.results import find, row
from loupe.papers.riemannian_diffusion.claims import (
    OTHERS,
    growth,
    kernels,
    likelihoods,
    sphere_errors,
    worst,
)


def numbers(chapter):
    """Values of stored results: of the largest preset that has them."""
    parts = (_exact, _globe, _spheres, _synthetic, _groups, _outliers)
    return {name: value for part in parts for name, value in part(chapter).items()}


def _exact(chapter):
    found = find(chapter, ("identities", "estimators", "samplers"))
    run, errors, moments = (found[name].first for name in ("identities", "estimators", "samplers"))
    k = int(np.flatnonzero(moments["manifold"] == "SU(3)")[5])
    spaces = ("S²", "S¹²⁷", "SO(3)", "SU(3)")
    return {
        "exact_preset": found.preset, "matching_growth": growth(run, "matching"), "likelihood": run["flow errors"].max(),
        "combined_error": max(worst(errors, space)[0] for space in spaces), "points": errors.settings["points"],
        "half_likelihood": run["half score error"], "draws": moments.settings["draws"],
        "unitary_sigma": moments["sigma"][k], "unitary_exact": moments["exact"][k], "unitary_ours": moments["mean"][k],
        "unitary_released": moments["released mean"][k], "added": run["added sigma errors"].max(),
    }  # fmt: skip


def _globe(chapter):
    names = ("combined", *OTHERS, "trivial")
    found = find(chapter, names, partial=True)
    sets, settings = found["combined"].first["sets"], found.settings
    values = {
        "preset": found.preset, "seeds": found.seeds, "steps": settings.training.steps, "width": settings.earth.width,
        "waves": settings.earth.waves, "parameters": int(found["combined"].first["parameters"][0]),
        "uniform": math.log(4 * math.pi), "cpu_steps": chapter.room.PRESETS["cpu"].training.steps,
    }  # fmt: skip
    for name in names[:-1]:
        values[name] = np.mean(list(likelihoods(found[name]).values()))
        values |= {f"{name}_{each}": row(found[name], "nll", sets=each).mean() for each in sets}
    for label, key in (("heat kernels", "kernels"), ("von Mises-Fisher mixture", "mixture")):
        values[key] = np.mean(list(kernels(found, sets, label).values()))
        values |= {
            f"{key}_{each}": np.mean([row(run, "nll", rows=label, sets=each) for run in found["trivial"]])
            for each in sets
        }
    values["quakes_repeated"] = (
        100 * row(found["combined"], "repeated", sets="quakes").mean() if "quakes" in sets else 0.0
    )
    return values


def _spheres(chapter):
    found = find(chapter, ("spheres",), partial=True)
    runs, high = found.runs, found.settings.dimensions[-1]
    return {
        "dimension": high, "sphere_steps": found.settings.sphere_training.steps, "sphere_preset": found.preset,
        "sphere_denoising": sphere_errors(runs, "denoising", high).mean(),
        "sphere_sliced": sphere_errors(runs, "sliced", high).mean(),
        "sphere_timed": sphere_errors(runs, "sliced", high, seconds=True).mean(),
    }  # fmt: skip


def _synthetic(chapter):
    found, values = find(chapter, ("synthetic",), partial=True), {}
    for name, key in (("T²", "torus"), ("SO(3)", "rotations")):
        for method in ("combined", "varadhan"):
            values[f"{key}_{method}"] = row(found.runs, "kl", sets=name, methods=method).mean()
    return values


def _groups(chapter):
    found = find(chapter, ("site", "lattice"), partial=True)
    values = {"group_preset": found.preset, "group_seeds": found.seeds, "beta": found.settings.beta}
    for key, experiment, measure, name in (
        ("site_ess", "site", "ESS", "MLP"), ("site_haar", "site", "ESS", "Haar"),
        ("lattice_ess", "lattice", "ESS", "loops"),
        ("lattice_mean", "lattice", "mean", "loops"), ("lattice_exact", "lattice", "mean", "exact"),
    ):  # fmt: skip
        values[key] = row(found[experiment], measure, row=name).mean()
    return values


def _outliers(chapter):
    found = find(chapter, ("outliers",), partial=True)
    values = {"outlier_preset": found.preset, "outlier_seeds": found.seeds}
    for key, method in (("likelihood", "likelihood"), ("neighbor", "k-th neighbor")):
        areas = [np.median(run["AUROC"][run["method"] == method]) for run in found.runs]
        values[f"outliers_{key}"] = np.mean(areas)
    return values

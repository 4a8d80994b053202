"""The numbers in the chapter's paragraphs, by name: from the largest preset that has the results each needs."""

from itertools import product

import numpy as np
import torch

from loupe.experiment.render import over_seeds
from loupe.experiment.results import find
from loupe.papers.sedd.claims import IGNORANT, bits, common, texts
from loupe.papers.sedd.figures_samples import WRITERS
from loupe.papers.sedd.figures_text import CORE, counted

VOCABULARY = 50_257  # of GPT-2


def numbers(chapter):
    """All of them; strings are finished, with their intervals."""
    parts = (_likelihoods, _controls, _squares, _identities, _oracle, _texts, _costs, _infilling)
    return {name: value for part in parts for name, value in part(chapter).items()}


def _found(chapter, *names):
    return find(chapter, names, partial=True)


def _gap(ours, theirs, digits=2):
    """Strict bits of one method minus those of another, paired over the seeds of both."""
    a, b = common(ours, theirs)
    return over_seeds(a - b, digits)


def _likelihoods(chapter):
    found = _found(chapter, *CORE.values())
    run, counts = found["sedd_absorb"].first, counted(found)
    level = {name: float(bits(found[experiment], kind="strict").mean()) for name, experiment in CORE.items()}
    excess = found["sedd_absorb"]["curve_excess"][:, -1] / found["sedd_absorb"]["curve_bits"][:, -1]
    return {
        "preset": found.preset,
        "training_steps": run["steps"],
        "cpu_steps": chapter.room.PRESETS["cpu"].training.steps,
        "million_characters": run["tokens_seen"] / 1e6,
        "parameters": run["parameters"],
        "ar_fewer_parameters": 1 - found["autoregressive"].first["parameters"] / run["parameters"],
        "absorb": level["SEDD Absorb"],
        "absorb_published": float(bits(found["sedd_absorb"]).mean()),
        "ar": level["autoregressive"],
        "absorb_place": place(level["SEDD Absorb"], counts),
        "ar_place": place(level["autoregressive"], counts),
        "fivegram": counts["5-gram counts"],
        "masks_gap": _gap(found["sedd_uniform"], found["sedd_absorb"]),
        "order_gap": _gap(found["sedd_absorb"], found["autoregressive"]),
        "d3pm_gap": _gap(found["sedd_absorb"], found["d3pm"], 3),
        "excess_share": float(excess.mean()),
    }


def place(level, counts):
    """Between which of the trivial rows bits per character lie, in words."""
    worse = [name for name, each in counts.items() if each > level]
    better = [name for name, each in counts.items() if each <= level]
    if not worse or not better:
        return f"below all {len(counts)} trivial rows" if worse else f"above all {len(counts)} trivial rows"
    return f"between {min(worse, key=counts.get)} and {max(better, key=counts.get)}"


def _controls(chapter):
    found = _found(chapter, "mdlm", "constant_noise", "time_free")
    level = {
        name: float(np.mean(values))
        for name, values in zip(found.runs, common(*found.runs.values()), strict=True)
    }
    return level | {
        "controls": f"{found.preset}, {found['mdlm'].first['steps']:,} steps",
        "mdlm_seeds": ", ".join(f"{each:.2f}" for each in bits(found["mdlm"], kind="strict")),
        "constant_gap": _gap(found["constant_noise"], found["mdlm"], 3),
        "time_free_gap": _gap(found["time_free"], found["constant_noise"], 3),
    }


def _squares(chapter):
    found = _found(chapter, "sedd_absorb", "concrete_score")
    ours, theirs = common(*found.runs.values())
    return {
        "squares": over_seeds(theirs, 2),
        "squares_preset": f"{found.preset}, {found['concrete_score'].first['steps']:,} steps",
        "squares_ratio": float((theirs / ours).mean()),
        "ignorance_ratio": float(IGNORANT / ours.mean()),
    }


def _identities(chapter):
    run = _found(chapter, "identities").runs.first
    kappa = torch.tensor(1e-4).expm1()  # float32
    right, official = kappa / (kappa + VOCABULARY), 1 - VOCABULARY / (kappa + VOCABULARY)
    return {
        "toys": len(run["nats"]),
        "gradient_error": run["gradient_errors"].max(),
        "gradient_control": run["gradient_control"].min(),
        "bound_error": run["identity_error"].max(),
        "bound_excess": run["excess"].min(),
        "marginal_error": run["marginal_error"].max(),
        "loss_error": run["loss_gap"],
        "lost_digits": float(official * (official.log() - 1) / (right * (right.log() - 1))),
    }


def _oracle(chapter):
    run = _found(chapter, "oracle_samplers").runs.first
    surplus = dict(zip(map(str, run["samplers"]), run["bits"] - run["entropy"], strict=True))
    at = {n: list(run["steps"]).index(n) for n in (2, 8, 16)}
    found = {"log_linear_2": surplus["absorbing, log-linear, tweedie"][at[2]]}
    for name, chain in (("masks", "absorbing"), ("uniform", "uniform")):
        for method, (n, k) in product(("tweedie", "euler"), at.items()):
            found[f"{name}_{method}_{n}"] = surplus[f"{chain}, geometric, {method}"][k]
    return found


def _texts(chapter):
    found = _found(chapter, *WRITERS, "judged")
    steps, absorb = texts(found, "absorb")
    uniform, causal = texts(found, "uniform")[1].mean(0), texts(found, "autoregressive")[1][:, 0].mean()
    reached = [f"it takes {n} steps to match" for n in steps[absorb.mean(0) <= causal]]
    nucleus = found.settings.nuclei[1]
    return {
        "writers": f"{found.preset}, {found.seeds}",
        "few": steps[0],
        "many": steps[-1],
        "judged_few": absorb.mean(0)[0],
        "judged_many": absorb.mean(0)[-1],
        "judged_uniform_few": uniform[0],
        "judged_uniform_many": uniform[-1],
        "judged_ar": causal,
        "judged_real": found["judged"]["held_out_network"].mean(),
        "reached": [*reached, f"no number of steps up to {steps[-1]} matches"][0],
        "judged_nucleus": texts(found, "absorb", top_p=nucleus)[1].mean(),
        "judged_ar_nucleus": texts(found, "autoregressive", top_p=nucleus)[1].mean(),
        "nucleus": str(nucleus),
    }  # fmt: skip


def _costs(chapter):
    found = _found(chapter, *WRITERS, "samples_time_free")
    length = found.settings.length
    absorb, causal, free = (found[f"samples_{name}"] for name in ("absorb", "autoregressive", "time_free"))
    steps, budget = found.settings.sample_steps, 1000 * causal["seconds"].mean(0)
    at_length = list(absorb.first["steps"]).index(length)
    milliseconds = 1000 * absorb["seconds"][:, at_length].mean()
    return {
        "length": length,
        "ms_ar": budget[0],
        "ms_ar_uncached": budget[-1],
        "ms_length": milliseconds,
        "steps_equal_time": budget[0] / milliseconds * absorb["evaluations"][:, at_length].mean(),
        "nfe_most": free["evaluations"].mean((0, 2))[len(steps) - 1],
        "most": steps[-1],
    }


def _infilling(chapter):
    found = _found(chapter, "infilling", "counted_infilling")
    runs = found["infilling"]
    means = {name: runs[f"bits_{name}"].mean(-1) for name in ("both", "before", "autoregressive")}
    return {f"fill_{name}": float(values.mean()) for name, values in means.items()} | {
        "fill_gain": over_seeds(means["before"] - means["both"], 2),
        "fill_counts": found["counted_infilling"].first["bits"].mean(),
        "fill_judged": runs["both_network"].mean(),
        "fill_judged_nucleus": runs["nucleus_network"].mean(),
        "fill_preset": f"{found.preset}, {len(runs)} seed{'s' * (len(runs) > 1)}",
    }

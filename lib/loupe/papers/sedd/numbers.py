"""The numbers in the chapter's paragraphs, by name: from the largest preset that has the results each needs."""

from itertools import product

import numpy as np
import torch

from loupe.experiment.claims import REPRODUCED
from loupe.experiment.render import over_seeds, place_among
from loupe.experiment.results import find, row
from loupe.papers.sedd.claims import IGNORANT, PLAIN, bits, common, headlines, texts
from loupe.papers.sedd.claims_reported import LM1B, ZERO_SHOT, ZERO_SHOT_SETS
from loupe.papers.sedd.figures import CORE, counted
from loupe.papers.sedd.figures_samples import WRITERS

VOCABULARY = 50_257  # of GPT-2


def numbers(chapter):
    """All of them; strings are finished, with their intervals."""
    parts = {
        _likelihoods: [*CORE.values()], _time_free: ["mdlm", "time_free"],
        _squares: ["sedd_absorb", "concrete_score"], _identities: ["identities"], _oracle: ["oracle_samplers"],
        _texts: [*WRITERS, "judged"], _costs: [*WRITERS, "samples_time_free"],
        _infilling: ["infilling", "counted_infilling"],
    }  # fmt: skip
    found = [_reported(), *(part(find(chapter, names, partial=True)) for part, names in parts.items())]
    return {name: value for each in found for name, value in each.items()}


def _reported():
    """Arithmetic on the paper's own tables."""
    rows, judged = ZERO_SHOT["small"], headlines(None)
    wins = sum(a < b for a, b in zip(rows["SEDD Absorb"], rows["GPT-2"], strict=True))
    lower = 100 * (1 - np.divide(rows["SEDD Absorb"], rows["PLAID"]))
    return {
        "gpt2_wins": f"{wins} of {len(ZERO_SHOT_SETS)}", "plaid": f"{lower.min():.0f} to {lower.max():.0f} %",
        "headlines": f"{sum(one.outcome == REPRODUCED for one in judged)} of {len(judged)}",
        "lm1b_factor": LM1B["DiffusionBert"] / LM1B["SEDD Absorb"],
    }  # fmt: skip


def _gap(ours, theirs, digits=2):
    """Strict bits of one method minus those of another, paired over the seeds of both."""
    return over_seeds(np.subtract(*common(ours, theirs)), digits)


def _likelihoods(found):
    absorb, causal, counts = found["sedd_absorb"], found["autoregressive"], counted(found)
    run, (ours, theirs) = absorb.first, (float(bits(runs, kind="strict").mean()) for runs in (absorb, causal))
    return {
        "million_text": found.settings.characters / 1e6, "d3pm_steps": found.settings.d3pm_steps,
        "runs": found.label, "training_steps": run["steps"], "million_characters": run["tokens_seen"] / 1e6,
        "cpu_steps": found.chapter.room.PRESETS["cpu"].training.steps, "parameters": run["parameters"],
        "ar_fewer_parameters": 1 - causal.first["parameters"] / run["parameters"],
        "absorb": ours, "absorb_published": float(bits(absorb).mean()), "absorb_place": place_among(ours, counts),
        "ar": theirs, "ar_place": place_among(theirs, counts), "fivegram": counts["5-gram counts"],
        "masks_gap": _gap(found["sedd_uniform"], absorb), "order_gap": _gap(absorb, causal),
        "d3pm_gap": _gap(absorb, found["d3pm"], 3), "ignorance_longer": IGNORANT / ours,
        "excess_share": float((absorb["curve_excess"][:, -1] / absorb["curve_bits"][:, -1]).mean()),
    }  # fmt: skip


def _time_free(found):
    return {"free_runs": found.label, "free_gap": _gap(found["time_free"], found["mdlm"], 3)}


def _squares(found):
    (ours, theirs), steps = common(*found.runs.values()), found["concrete_score"].first["steps"]
    return {
        "squares": over_seeds(theirs, 2), "squares_preset": f"{found.preset}, {steps:,} steps",
        "squares_ratio": float((theirs / ours).mean()), "ignorance_ratio": float(IGNORANT / ours.mean()),
    }  # fmt: skip


def _identities(found):
    run, kappa = found.runs.first, torch.tensor(1e-4).expm1()  # float32
    right, official = kappa / (kappa + VOCABULARY), 1 - VOCABULARY / (kappa + VOCABULARY)
    return {
        "toys": len(run["nats"]), "lost_digits": float(official * (official.log() - 1) / (right * (right.log() - 1))),
        "gradient_error": run["gradient_errors"].max(), "gradient_control": run["gradient_control"].min(),
        "bound_error": run["identity_error"].max(), "bound_excess": run["excess"].min(),
        "marginal_error": run["marginal_error"].max(), "loss_error": run["loss_gap"],
    }  # fmt: skip


def _oracle(found):
    run = found.runs.first

    def surplus(sampler):
        values = row(run, "bits", samplers=sampler) - run["entropy"]
        return dict(zip(run["steps"].tolist(), values, strict=True))

    chains, methods = {"masks": "absorbing", "uniform": "uniform"}, ("tweedie", "euler")
    return {"log_linear_2": surplus("absorbing, log-linear, tweedie")[2]} | {
        f"{name}_{method}_{n}": surplus(f"{chain}, geometric, {method}")[n]
        for (name, chain), method, n in product(chains.items(), methods, (2, 8, 16))
    }


def _texts(found):
    steps, absorb = texts(found, "absorb")
    ours, uniform = absorb.mean(0), texts(found, "uniform")[1].mean(0)
    causal, nucleus = texts(found, "autoregressive")[1][:, 0].mean(), found.settings.nuclei[1]
    euler = texts(found, "uniform", method="euler")[1].mean(0)
    reached = [f"it takes {n} steps to match" for n in steps[ours <= causal]]
    return {
        "writers": found.label, "few": steps[0], "many": steps[-1], "judged_few": ours[0], "judged_many": ours[-1],
        "judged_uniform_few": uniform[0], "judged_uniform_many": uniform[-1],
        "euler_wins": f"{(euler < uniform).sum()} of {len(steps)}", "judged_ar": causal,
        "judged_real": found["judged"]["held_out_network"].mean(),
        "reached": [*reached, f"no number of steps up to {steps[-1]} matches"][0],
        "judged_nucleus": texts(found, "absorb", top_p=nucleus)[1].mean(),
        "judged_ar_nucleus": texts(found, "autoregressive", top_p=nucleus)[1].mean(), "nucleus": str(nucleus),
    }  # fmt: skip


def _costs(found):
    length, most = found.settings.length, found.settings.sample_steps[-1]
    causal, absorb, free = (found[f"samples_{name}"] for name in ("autoregressive", "absorb", "time_free"))
    at_length = PLAIN | {"steps": length}
    cached = 1000 * row(causal, "seconds", **PLAIN, cached=True).mean()
    ours = 1000 * row(absorb, "seconds", **at_length).mean()
    return {
        "length": length, "most": most, "sample_batch": found.settings.sample_batch, "ms_ar": cached, "ms_length": ours,
        "ms_ar_uncached": 1000 * row(causal, "seconds", cached=False).mean(),
        "steps_equal_time": cached / ours * row(absorb, "evaluations", **at_length).mean(),
        "nfe_most": row(free, "evaluations", steps=most).mean(),
    }  # fmt: skip


def _infilling(found):
    runs = found["infilling"]
    means = {name: runs[f"bits_{name}"].mean(-1) for name in ("both", "before", "autoregressive")}
    return {f"fill_{name}": float(values.mean()) for name, values in means.items()} | {
        "fill_gain": over_seeds(means["before"] - means["both"], 3),
        "fill_counts": found["counted_infilling"].first["bits"].mean(),
        "fill_judged": runs["both_network"].mean(), "fill_judged_nucleus": runs["nucleus_network"].mean(),
        "fill_preset": f"{found.preset}, {len(runs)} seed{'s' * (len(runs) > 1)}",
    }  # fmt: skip

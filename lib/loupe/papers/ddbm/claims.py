"""What the chapter judges: identities (B1 to B4), numbers (B5, B6), and images (B7 to B11).

The criteria were written on 30 November 2026, before any image network of the chapter was trained beyond a smoke test.
On the same day, after the first runs at ``cpu`` and before any results of three seeds at ``gpu`` were seen, four changed.
Methods are compared once DDBM beats the nearest training pair, not only a mean of ten. Its squared error is not compared
with that of regression, which nothing can beat. Networks for two modes are compared with the best affine one, not with one
that outputs zero. And what has to beat something else has to beat it by 5 %, and by more than two seeds of it differ.

The condition under which methods are compared changed once more, also on 30 November 2026, after seed 0 of ``gpu`` was seen
and before seeds 1 and 2. Until then DDBM needed a smaller distance than the nearest training pair: 0.31; seed 0 has 0.39.
But the answers of nearest pairs are real images, and no distance between sets shows that they miss their sources. Squared
error shows it: 0.115 against 0.096. So both measures count now, as :data:`UNTRAINED` says.
Measures and limits stayed. Found after that, on the same day and before seeds 1 and 2: the mean of the *two* nearest
training targets has 0.357 and 0.087 at ``gpu``, better than seed 0 in both. It became a row that DDBM has to beat, too.
"""

import math
from itertools import permutations

import numpy as np

from loupe.experiment import Claim, Measure, at_least, at_most, between
from loupe.experiment.claims import too_small
from loupe.experiment.results import row

EVERYWHERE = ("smoke", "cpu", "gpu", "paper")
FULL = ("cpu", "gpu", "paper")
LARGE = ("gpu", "paper")
FEW_STEPS = "twenty training steps are too few"
FEW_SEEDS = "networks of this experiment are trained at gpu only"
SAME = 0.15  # largest difference of log distances that counts as none
TIE = 0.95  # ratio of distances from which on two methods are level
APART = "and by more than two seeds of DDBM differ"
SOURCE = "the source itself"
MEASURE = {"distance": "a distance of", "mse": "a squared error of"}
UNTRAINED = {
    SOURCE: ("distance", "mse"),
    "nearest training pair": ("mse",),
    "mean of the two nearest": ("distance", "mse"),
    "mean of the ten nearest": ("distance",),
}
"""Rows that need no training, each with measures: DDBM has to be strictly better in one of them.

No row is then as good in both measures. A copy doesn't pass, nor do sharp answers to other sources or blurred ones.
"""


# --- exact --------------------------------------------------------------------------------------------------


def _kernel(results):
    run = results["identities"].first
    basis = f"{run['score errors'].shape[1]} random points and times, float64"
    errors = zip(run["bridges"], run["score errors"], run["score errors without pull"], strict=True)
    return [
        Measure(f"{name}: largest relative error", float(right.max()), at_most(1e-9), basis=basis)
        .against("without the pull h", float(np.median(wrong)))
        for name, right, wrong in errors
    ]  # fmt: skip


def _preconditioning(results):
    run = results["identities"].first
    off, wrong = (np.abs(run[key] - 1).max((1, 2)) for key in ("variances", "variances without covariance"))
    basis = f"{run.settings['draws']:,} draws at each of {run['variances'].shape[1]} times"
    label = "{}: largest deviation of a variance from 1, inputs and targets"
    return [
        Measure(label.format(name), float(ours), at_most(0.02), basis=basis)
        .against("covariance taken for 0", float(other))
        for name, ours, other in zip(("VP", "VE with T = 1"), off, wrong, strict=True)
    ]  # fmt: skip


def _edm(results):
    run = results["identities"].first
    measure = Measure("largest relative error of a coefficient", float(run["EDM errors"].max()), at_most(1e-10),
                      basis="three sets of data, eight times, float64")  # fmt: skip
    return [measure.against("covariance taken for 0", float(run["EDM errors without covariance"].max()))]


def slope(run):
    """Slope of log deviation from the flow's velocity against log noise."""
    return float(np.polyfit(np.log(run["flow noises"]), np.log(run["flow deviations"]), 1)[0])


def _flow_limit(results):
    run = results["identities"].first
    return [Measure("slope of log deviation against log noise", slope(run), between(0.98, 1.02),
                    basis=f"{len(run['flow noises'])} noise levels from 1 to 0.001")]  # fmt: skip


# --- numbers ------------------------------------------------------------------------------------------------


def _learns(results):
    measures = []
    for name in ("VP normal", "VE normal", "VP two modes", "VE two modes"):
        errors, shuffled, reference = learned(results, name)
        measure = Measure.of_seeds(f"{name}: error over that of {reference}", errors, at_most(0.05))
        measures.append(measure.against("trained on shuffled pairs", shuffled.mean()))
    return measures


def learned(results, name):
    """Errors over that of a reference, those of networks that saw shuffled pairs, and what the reference is.

    For two modes it is the best affine network. For normal pairs the exact denoiser is affine at each time, so that a small
    multiple of an affine network's error is no fair limit: there it is a network that outputs zero.
    """
    runs, reference = results["toy_networks"], "a network that outputs zero"
    errors = [runs[f"{name} {kind}"] for kind in ("error", "shuffled error")]
    if "modes" not in name:
        return *errors, reference
    affine = {run.seed: run[f"{name} error"] for run in results["affine_networks"]}
    affine = np.array([affine[seed] for seed in runs.seeds])
    return *(each / affine for each in errors), "the best affine network"


def at_churn(run, churn, steps=40):
    """Indices of a number of steps and of a churn in the table of toys."""
    return list(run["steps"]).index(steps), int(np.abs(run["churns"] - churn).argmin())


def _noise_is_needed(results):
    run, measures = results["toys"].first, []
    basis = f"{run.settings['toy_paths']:,} paths from one source, exact denoiser, 40 steps"
    flow, small, hybrid = (at_churn(run, churn) for churn in (0.0, 0.01, 0.33))
    for name in ("VP", "VE"):
        variance, modes = run[f"{name} variance"], run[f"{name} modes"]
        upper, near = "fraction of hybrid answers in the upper one", "fraction of hybrid answers near a mode"
        rows = (
            ("variance of the ODE's answers over the true one", at_most(1e-20), variance, flow, "s = 0.33", hybrid),
            ("variance of hybrid answers over the true one", between(0.9, 1.25), variance, hybrid, "s = 0.01", small),
            (f"two modes: {upper}", between(0.45, 0.55), modes[..., 0], hybrid, "the ODE", flow),
            (f"two modes: {near}", at_least(0.98), modes[..., 1], hybrid, "s = 0.01", small),
        )  # fmt: skip
        for label, accepts, of, at, wrong, other in rows:
            measure = Measure(f"{name}, {label}", float(of[at]), accepts, basis=basis)
            measures.append(measure.against(wrong, float(of[other])))
    return measures


# --- images -------------------------------------------------------------------------------------------------


def of_seeds(results, name, sampler, key="distance"):
    """A measure of one sampler of an experiment, by seed."""
    runs = results[name]
    return dict(zip(runs.seeds, row(runs, key, samplers=sampler).tolist(), strict=True))


def shared(*each):
    """Values of the seeds that all have, as arrays."""
    seeds = sorted(set.intersection(*map(set, each)))
    return [np.array([one[seed] for seed in seeds]) for one in each]


def known(results, name=SOURCE, key="distance"):
    """A measure of something that needs no training."""
    return float(row(results["trivial"].first, key, rows=name))


def lower(results, label, ours, theirs, seeds):
    """Distances over those of another method: lower by 5 %, and by more than two seeds of ours differ."""
    limit = min([TIE, *(a / b for a, b in permutations(seeds, 2))])
    measure = Measure.ratio(label, ours, theirs, at_most(limit))
    return measure.against(SOURCE, known(results) / theirs.mean())


def _passed(results):
    """Raise unless DDBM (VP) beats each row of :data:`UNTRAINED`; a comparison of worse networks says nothing."""
    ours = {
        key: np.mean(list(of_seeds(results, "vp", "hybrid", key).values())) for key in ("distance", "mse")
    }
    for name, keys in UNTRAINED.items():
        theirs = {key: known(results, name, key) for key in keys}
        if not any(ours[key] < theirs[key] for key in keys):
            raise too_small(
                f"methods are compared once DDBM (VP) beats {name}, which has {_listed(theirs)}",
                f"DDBM has {_listed({key: ours[key] for key in keys})}",
            )


def _listed(values):
    return " and ".join(f"{MEASURE[key]} {value:.3g}" for key, value in values.items())


def _hybrid_beats_ode(results):
    ours, theirs = shared(*(of_seeds(results, "vp", sampler) for sampler in ("hybrid", "ODE")))
    _passed(results)
    label = "distance, hybrid over ODE, at {}"
    measures = [lower(results, label.format("40 steps"), ours, theirs, ours).as_primary()]
    pairs = [equal_calls(run) for run in results["vp"]]
    if all(pairs):
        ours, theirs = np.transpose(pairs)
        measures.append(lower(results, label.format("equal calls of the network"), ours, theirs, ours))
    return measures


def equal_calls(run):
    """Distances of the hybrid sampler and of the ODE with nearly as many calls, or None if none were swept."""
    ours, theirs = run["hybrid steps calls"], run["ODE steps calls"]
    gaps = np.abs(ours[:, None] / theirs - 1)
    i, j = max(np.argwhere(gaps < 0.05), key=lambda at: ours[at[0]], default=(None, None))
    return None if i is None else (run["hybrid steps distance"][i], run["ODE steps distance"][j])


def _preconditioning_helps(results):
    ours, theirs, shuffled = (of_seeds(results, name, "hybrid") for name in ("vp", "simple", "shuffled"))
    errors = [of_seeds(results, name, "hybrid", "mse") for name in ("vp", "simple", "shuffled")]
    seeds = list(ours.values())
    ours, theirs, (*errors, shuffled) = *shared(ours, theirs), shared(*errors)
    _passed(results)
    return [
        lower(results, "distance, with over without preconditioning", ours, theirs, seeds).as_primary(),
        Measure.ratio("squared error, with over without", *errors, at_most(1))
        .against("shuffled pairs", shuffled.mean() / errors[1].mean()),
    ]  # fmt: skip


SAMPLERS = {"vp": "hybrid", "ve": "hybrid", "regression": "regression", "rectified_flow": "rectified flow", "i2sb": "I2SB",
            "edm_with_source": "EDM with source"}  # fmt: skip
"""The sampler of each experiment that stands in the main table."""


def _beats_others(results):
    vp, measures = of_seeds(results, "vp", "hybrid"), []
    _passed(results)
    for name in ("regression", "rectified_flow", "i2sb"):
        ours, theirs = shared(vp, of_seeds(results, name, SAMPLERS[name]))
        label = f"distance, DDBM (VP) over {SAMPLERS[name]}"
        measures.append(lower(results, label, ours, theirs, list(vp.values())))
    return measures


def without_pull(runs):
    """Distance with weight 0 of the pull over that with weight 1, by seed."""
    weights = list(runs.first.settings["guidances"])
    none, full = (runs["guidance distance"][:, weights.index(w)] for w in (0.0, 1.0))
    return dict(zip(runs.seeds, none / full, strict=True))


def _weight_of_pull(results):
    _passed(results)
    vp, ve = shared(*(without_pull(results[name]) for name in ("vp", "ve")))
    return [
        Measure.ratio("VP: distance with w = 0 over that with w = 1", vp, np.ones_like(vp), at_least(1.5))
        .against("w = 1", 1.0),
        Measure.ratio("that ratio, VE over VP", ve, vp, at_most(1)),
    ]  # fmt: skip


def _unconditional(results):
    runs = results["unconditional"]
    ours, theirs = (runs[f"{name} distance"][:, 0] for name in ("bridge", "EDM"))
    accepts = between(math.exp(-SAME), math.exp(SAME))
    blurred = known(results, "targets, blurred") / theirs.mean()
    measure = Measure.ratio("distance, bridge over EDM", ours, theirs, accepts)
    return [measure.against("blurred images", blurred)]


CLAIMS = (
    Claim(
        "B1", "Conditioning a diffusion on its end gives a bridge with Gaussian marginals.", "eq. 8", "a theorem", "exact",
        "score of the marginal equal to that of the transition plus h, relative error below 10⁻⁹", _kernel, EVERYWHERE,
    ),
    Claim(
        "B2", "The preconditioning gives the network inputs and targets of variance 1.", "Sec. 4", "a derivation", "exact",
        "variances within 2 % of 1 at eight times", _preconditioning, EVERYWHERE,
    ),
    Claim(
        "B3", "Diffusion is a special case: with a noisy target as source, the preconditioning is EDM's.", "App. A",
        "a derivation", "exact", "coefficients equal to 10⁻¹⁰", _edm, EVERYWHERE,
    ),
    Claim(
        "B4", "Without noise, the bridge is flow matching.", "Sec. 5", "a derivation", "exact",
        "distance of the velocity from x_T − x_0 proportional to the noise: slope 1 ± 0.02", _flow_limit, EVERYWHERE,
    ),
    Claim(
        "B5", "Denoising bridge score matching learns the score of the bridge.", "Thm 2", "a theorem", "statistical",
        "error at most 5 % of the best affine network's (two modes), or of a network's that outputs zero (normal)",
        _learns, FULL, FEW_STEPS,
    ),
    Claim(
        "B6", "From a fixed source the ODE has one answer; stochastic steps give nearly the right distribution.", "Fig. 4",
        "blurred images without stochastic steps", "exact",
        "variance 0 by the ODE, 0.9 to 1.25 times the true one by the hybrid sampler, both modes 45 to 55 %",
        _noise_is_needed, EVERYWHERE,
    ),
    Claim(
        "B7", "The hybrid sampler gives better images than the ODE.", "Table 3, Fig. 4",
        "FID 11.76 to 1.83 (VP) and 14.02 to 2.93 (VE), with preconditioning", "statistical",
        f"feature distance at most {TIE} of the ODE's, {APART}, at equal steps (primary) and at equal calls",
        _hybrid_beats_ode, FULL, FEW_STEPS,
    ),
    Claim(
        "B8", "Preconditioning gives better images.", "Table 3", "FID 11.76 to 1.83 (VP), with the hybrid sampler",
        "statistical", f"feature distance at most {TIE} of that without it, {APART} (primary); a lower squared error",
        _preconditioning_helps, LARGE, FEW_SEEDS,
    ),
    Claim(
        "B9", "DDBM beats regression, rectified flow and I2SB.", "Table 2",
        "FID 1.83 against 74.8 (Pix2Pix), 25.3 and 7.43",
        "statistical", f"feature distance at most {TIE} of each of theirs, {APART}", _beats_others, FULL, FEW_STEPS,
    ),
    Claim(
        "B10", "The variance-preserving bridge needs the full pull to the source; the variance-exploding one hardly does.",
        "Fig. 4", "shown in a figure", "statistical",
        "VP: distance at w = 0 at least 1.5 times that at w = 1; VE: a smaller ratio", _weight_of_pull, FULL, FEW_STEPS,
    ),
    Claim(
        "B11", "An unconditional bridge is as good as EDM.", "Table 4", "FID 2.06 against 2.04 on CIFAR-10", "statistical",
        "ratio of feature distances between e⁻⁰·¹⁵ and e⁰·¹⁵", _unconditional, LARGE, FEW_SEEDS,
    ),
    Claim(
        "B12", "FID of 1.83 on Edges to Handbags and 4.43 on DIODE.", "Table 2", "1.83 and 4.43", "reported",
        "not computed: the datasets are not in the book", reason="needs the paper's datasets and four A100 GPUs",
    ),
)  # fmt: skip

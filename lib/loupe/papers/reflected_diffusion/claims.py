"""What the chapter judges: identities of the kernel (R1 to R5), walls in discrete time (R6), and what networks do."""

from dataclasses import replace

import numpy as np

from loupe.errors import LoupeError
from loupe.experiment import Claim, Measure, at_least, at_most, between
from loupe.experiment.claims import too_small
from loupe.experiment.results import row
from loupe.metrics import loglog_fit
from loupe.papers.reflected_diffusion.experiments import LEVELS, PAIRS

EVERYWHERE = ("smoke", "cpu", "gpu", "paper")
FULL, LARGE = EVERYWHERE[1:], EVERYWHERE[2:]
FEW_STEPS = "sixty steps of training say nothing"
ONE_SEED = "the criterion needs three seeds"
KERNEL = "60 noise levels from 0.001 to 5, against 202 images in float64"
FITS = "polynomials of degree 5, quadrature"


def value(runs, method, metric, variant=""):
    """A number of one method, or one by seed; the variant is a toy or a weight of guidance, "" where there is none."""
    return row(runs, metric, method=method, variant=variant)


# --- identities and walls in discrete time -------------------------------------------------------------------


def _measure(run, name, label, accepts, basis, control=""):
    """A number of the identities; stored in a pair with what a wrong implementation gives, where there is a control."""
    ours, *wrong = (float(np.max(each)) for each in run[name])
    measure = Measure(label, ours, accepts, basis=basis.format_map(run))
    return measure.against(control, *wrong) if control else measure


def _exact(*rows, primary=False):
    """A judge of identities, from a row of arguments of :func:`_measure` each; whether the first is the primary one."""

    def judge(results):
        first, *rest = (_measure(results["identities"].first, *row) for row in rows)
        return [first.as_primary() if primary else first, *rest]

    return judge


def _folding_is_exact(results):
    run = results["identities"].first
    basis = f"{{draws:,}} draws for each of {len(PAIRS)} pairs of x₀ and σ"
    accepts = at_most(1.95 / np.sqrt(run["draws"]))
    return [_measure(run, "ks", "largest Kolmogorov–Smirnov distance", accepts, basis, "clipped")]


def order(run, walls):
    """Slope of the distance over the number of steps, both logarithmic, of steps that fold or that clip."""
    return loglog_fit(run["path_steps"], run[walls])[0]


def _thresholding_converges(results):
    run = results["thresholding"].first
    fold, clip = run["fold_groups"], run["clip_groups"]
    slopes, shares = [loglog_fit(run["path_steps"], each)[0] for each in clip], (fold / clip).max(1)
    slope = Measure.of_seeds("slope of clipping", slopes, between(-0.6, -0.35)).as_primary()
    share = Measure.of_seeds("largest distance of folding over that of clipping", shares, at_most(0.5))
    basis = f"mean of {len(fold)} groups of paths with independent noise, 95 % t interval"
    return [replace(each, basis=basis) for each in (slope.against("folding", order(run, "fold")), share)]


# --- networks in the square ---------------------------------------------------------------------------------


def excess_mass(runs):
    """By seed, the mean of learned over true density at points of the truth: at most 1 if what is learned is a density."""
    return np.exp(runs["log_density"] - runs["true_log_density"]).mean(1)


def likelihood_gap(runs):
    """By seed, true less learned log-density, in nats per dimension."""
    return (runs["true_log_density"] - runs["log_density"]).mean(1) / 2


def over_truth(grey):
    """By seed, the bound less the true bits per dimension of the same points."""
    return (grey["bound"] - grey["surprise"]).mean(1)


def _learned_likelihood(results):
    runs, over = results["toys_reflected"], over_truth(results["grey_bound"])
    rows = (
        ("mean of learned over true density", excess_mass(runs), at_most(1)),
        ("true log p less learned log p, nats per dimension", likelihood_gap(runs), between(0, 0.05)),
        ("bound less true bits per dimension", over, between(0, 0.2)),
    )
    return [Measure.of_seeds(*row) for row in rows]


def _walls_beat_thresholds(results):
    ours, theirs = results["toys_reflected"], results["toys_exploding"]
    methods = (ours, "fold"), (ours, "clip"), (theirs, "static")
    fold, clip, static = (1e4 * value(*method, "distance", "squares") for method in methods)
    gap = Measure.paired("energy distance × 10⁴, reflected less static clipping", fold, static, at_most(0))
    return [gap.against("reflected, clipped at each step", (clip - static).mean())]


# --- images -------------------------------------------------------------------------------------------------


def _twins(results):
    """The runs of both image networks, if there are enough of them, all judged by one classifier."""
    both = results["images_reflected"], results["images_exploding"]
    if len(both[0]) < 3:
        raise too_small("the criterion needs 3 seeds", f"{len(both[0])} is stored")
    if len({digest for runs in both for digest in runs["judge_digest"]}) > 1:
        raise LoupeError("the networks were judged by different classifiers: compute them on one machine")
    return both


def _images_with_walls(results):
    ours, theirs = _twins(results)
    static, noise = (value(theirs, name, "distance") for name in ("static", "noise"))
    label = "classifier Fréchet distance, reflected over static clipping"
    ratio = Measure.ratio(label, value(ours, "fold", "distance"), static, at_most(1.1))
    return [ratio.against("uniform noise", (noise / static).mean())]


def guidance_weights(run):
    """Weights of guidance at which a run has drawn, as its rows name them."""
    return sorted({str(weight) for weight in run["variant"]} - {""}, key=float)


def _never_outside(results):
    runs, free = results["images_reflected"], results["images_exploding"]
    weights = guidance_weights(runs.first)
    samplers, label = ("flow", "mollified", "fold"), "largest share of pixels outside [0, 1], before any clip"

    def most(runs, *names):
        return max(float(value(runs, name, "outside", weight).max()) for name in names for weight in weights)

    basis = f"{len(samplers) * len(weights)} samplers and weights"
    inside = Measure(label, most(runs, *samplers), at_most(0), basis=basis)
    return [inside.against("flow without walls", most(free, "flow"))]


def astray(run, name, weight=""):
    """By how much the shares of dark and of bright pixels differ from those of the data, one added to the other."""
    return sum(abs(value(run, name, what, weight) - value(run, "train", what)) for what in ("dark", "bright"))


def _faithful_at_large_weights(results):
    ours, theirs = _twins(results)
    last = guidance_weights(ours.first)[-1]
    methods = (ours, "fold"), (theirs, "static"), (theirs, "dynamic")
    reflected, static, dynamic = (astray(*method, last) for method in methods)
    label = f"dark and bright pixels astray at w={last}, reflected over static clipping"
    ratio = Measure.ratio(label, reflected, static, at_most(1))
    return [ratio.against("dynamic threshold", (dynamic / static).mean())]


def _few_evaluations(results):
    runs = results["images_reflected"]
    flow, steps, noise = (value(runs, name, "distance") for name in ("flow", "fold", "noise"))
    ratio = Measure.ratio("classifier Fréchet distance, flow over steps", flow, steps, at_most(1.5))
    return [
        Measure.of_seeds("evaluations of the flow", value(runs, "flow", "calls"), at_most(299)),
        ratio.against("uniform noise", (noise / steps).mean()).as_primary(),
    ]


CLAIMS = (
    Claim("R1", "Images and cosines are two series of one kernel, whose score can be computed exactly at all noise levels.",
          "published code, cube.py", "two formulas", "exact",
          "log p and σ · score within 10⁻⁹ (float64) and 10⁻⁴ (float32) of a sum over 202 images", _exact(
              ("density_float64", "largest error of log p, float64", at_most(1e-9), KERNEL, "without walls"),
              ("score_float64", "largest error of σ · score, float64", at_most(1e-9), KERNEL, "without walls"),
              ("density_float32", "largest error of log p, float32", at_most(1e-4), KERNEL, "without walls"),
              ("score_float32", "largest error of σ · score, float32", at_most(1e-4), KERNEL, "without walls"),
              ("far", "largest relative error 9 to 98 σ from x₀", at_most(1e-9), "σ = 0.01, float64",
               "as a quotient with 10⁻¹² in its denominator")), EVERYWHERE),
    Claim("R2", "Gaussian noise, folded at the walls, is an exact draw from the kernel.", "published code, cube.py",
          "an identity", "exact", "Kolmogorov–Smirnov distance below 1.95 / √n for each of six pairs",
          _folding_is_exact, EVERYWHERE),
    Claim("R3", "Denoising score matching with the kernel learns the score of the noisy data.",
          "abstract; published code, losses.py", "a proposition", "exact",
          "the minimizer of denoising_loss among polynomials is the projection of the true score, to 10⁻⁸", _exact(
              ("minimiser", "minimizer of denoising_loss from the projected true score, relative", at_most(1e-8),
               "polynomials of degree 5, σ = 0.3, quadrature", "regressed on the score of noise without walls"),
              ("posterior", "posterior mean of kernel scores, largest relative error", at_most(1e-8),
               f"400 points, {len(LEVELS)} noise levels, float64"), primary=True), EVERYWHERE),
    Claim("R4", "The weightings for likelihood and for sample quality give the same loss, up to a constant factor.",
          "published code, commands of its README", "one flag for both", "exact",
          "ratio within 10⁻⁶ of (dσ²/dt) / σ² at all times, and of 2 ln(σ_max / σ_min)", _exact(
              ("weighting", "ratio of the weightings over (dσ²/dt) / σ², largest deviation from 1", at_most(1e-6),
               "19 times, σ_min of 0.01 and 0.0001", "σ linear in time"),
              ("mean_weighting", "ratio over 2 ln(σ_max / σ_min), largest deviation from 1", at_most(1e-6),
               "σ_min of 0.01 and 0.0001"), primary=True), EVERYWHERE),
    Claim("R5", "Implicit score matching needs a boundary term on a bounded domain; denoising does not.",
          "abstract: a generalized loss", "a proposition", "exact",
          "identity with the term to 10⁻⁸; the implicit fit without it off by a tenth or more, the denoising fit by 10⁻⁸",
          _exact(
              ("boundary", "identity with the boundary term, residual", at_most(1e-8),
               "mixture in [0, 1] with noise of 0.3, s(x) = x", "without the term"),
              # Each fit is the control of the other: the implicit one needs the term, and denoising does not.
              ("implicit", "implicit fit without the term from the best fit, relative", at_least(0.1), FITS,
               "denoising fit, which has no such term"),
              ("denoising", "denoising fit from the best fit, relative", at_most(1e-8), FITS,
               "implicit fit without the term")), EVERYWHERE),
    Claim("R6", "Clipping after each step is a discretization of the reflected process, of lower order than folding.",
          "abstract", "a discretization; the order comes from theory", "statistical",
          "slope of clipping between −0.6 and −0.35; error of folding at most half of it at every number of steps",
          _thresholding_converges, EVERYWHERE),
    Claim("R7a", "The flow of the true score gives the likelihood exactly.", "abstract: ODE sampling", "a theorem", "exact",
          "with the exact score within 10⁻⁴ nats at every point of a known mixture", _exact(
              ("likelihood", "largest error of log p, nats", at_most(1e-4),
               "{likelihood_points} points of the corner mixture, {likelihood_evaluations} evaluations",
               "with a score that presses against the walls")), EVERYWHERE),
    Claim("R7b", "A network's flow gives nearly the true likelihood, and its loss is a bound in bits.",
          "abstract: likelihood-based training", "a theorem", "statistical",
          "mean of learned over true density at most 1; gap below 0.05 nats per dimension; bound above the truth by at "
          "most 0.2 bits", _learned_likelihood, FULL, FEW_STEPS,
          "the densities that its verdict rested on do not integrate to 1; to be measured again"),
    Claim("R8a", "In the square, training with walls beats training without them plus thresholding.",
          "abstract: thresholding differs from training", "not available", "statistical",
          "mean paired difference of energy distances from held-out points below 0 on the chessboard",
          _walls_beat_thresholds, FULL, FEW_STEPS),
    Claim("R8b", "On images, training with walls is no worse than training without them plus thresholding.",
          "abstract; FID as listed by others", "FID 2.72; of a twin without walls: not available", "statistical",
          "classifier Fréchet distance at most 1.1 times that with static clipping, three seeds",
          _images_with_walls, FULL, ONE_SEED),
    Claim("R9a", "Guided samples stay in the cube for every weight and solver.", "abstract: guidance with ODEs",
          "by construction", "exact", "no pixel outside before any clip", _never_outside, EVERYWHERE),
    Claim("R9b", "At large guidance weights, they stay faithful where diffusion without walls saturates.",
          "abstract: more faithful samples", "shown in figures", "statistical",
          "at the largest weight, the shares of dark and bright pixels deviate from the data's by no more than with static "
          "clipping, three seeds", _faithful_at_large_weights, FULL, ONE_SEED,
          "its criterion added dark and bright pixels with their signs, so an image that turned gray did well; to be "
          "measured again"),
    Claim("R10", "The flow needs far fewer evaluations than a thousand steps, at similar quality.",
          "abstract: fast exact sampling with ODEs", "not available", "statistical",
          "fewer than 300, and at most 1.5 times the classifier Fréchet distance", _few_evaluations, LARGE,
          "judged at gpu, on larger images"),
    Claim("R11", "CIFAR-10: FID 2.72 and 2.68 bits per dimension; ImageNet 32: 3.74 bits.", "listings by others",
          "2.72; 2.68; 3.74", "reported", "not judged here",
          reason="smaller budget, another copy of the images, and no Inception network here"),
)  # fmt: skip

"""What the chapter judges: symmetry and convolutions (EG1 to EG3), and how well motion is predicted (EG4 to EG10)."""

import math
from dataclasses import replace

import numpy as np

from loupe.errors import LoupeError
from loupe.experiment import Claim, Measure, at_least, at_most
from loupe.papers import open_chapter

EVERYWHERE = ("smoke", "cpu", "gpu", "paper")
FULL = ("cpu", "gpu", "paper")
LARGE = ("gpu", "paper")
FEW_STEPS = "sixty steps of training say nothing"
LATE = "judged at gpu only: EGNO starts more slowly, and this is the start of training"
SPREAD = "judged at gpu only: two seeds after so few steps give no order"
LONG = "judged at gpu only, after long training"
NO_DATA = "smoke has no data of people"
LIMITS = {"float64": 1e-10, "float32": 1e-4}
RESAMPLES = 1000
PUBLISHED_BATCH = 100
EGNO, EGNN = ("charged_egno", "EGNO"), ("charged_egnn", "EGNN")
LINES, STILL = ("charged_others", "Linear"), ("standing still", ("charged_others", "still"))
SYMMETRIES = {  # in words, and what breaks each
    "turned": ("rotations and reflections", "a coordinate as a feature"),
    "shifted": ("shifts", "a coordinate as a feature"), "renumbered": ("renumbering", "edges not renumbered"),
}  # fmt: skip


# --- exact --------------------------------------------------------------------------------------------------


def _beside(measure, label, value):
    """The measure with its control, the smallest of these values, where that is a number."""
    return measure if np.isnan(np.min(value)) else measure.against(label, np.min(value))


def _equivariant(results):
    run, measures = results["identities"].first, []
    basis = "largest deviation over output scale; random weights, complete graphs and a tree"
    for digits, limit in LIMITS.items():
        for what, (words, wrong) in SYMMETRIES.items():
            worst = float(np.max([run[f"{kind} {digits} {what}"] for kind in ("complete", "tree")]))
            measure = Measure(f"{words}, {digits}", worst, at_most(limit), basis=basis)
            measures.append(_beside(measure, wrong, run[f"naive {what}"]))
    return measures


def _convolution(results):
    run, label = results["identities"].first, "largest difference from the sum over time"
    basis = "features and vectors, by FFT and by matrices, for four numbers of times and frequencies"
    measure = Measure(label, float(run["convolutions"].max()), at_most(1e-12), basis=basis)
    return [_beside(measure, "a sum that does not wrap around", run["not circular"])]


def _apart(results):
    run = results["identities"].first
    basis = "the same test, with other weights for each coordinate"
    measure = Measure("deviation over output scale", run["apart turned"], at_least(1e-2), basis=basis)
    return [_beside(measure, "one kernel for all", run["complete float64 turned"])]


def changed(run, name, what):
    """Of how many windows the error changes by more than a thousandth when all is turned."""
    plain, turned = (run[f"{name}{part} errors"].mean(1) for part in ("", f" {what}"))
    return int((~(np.abs(turned - plain) <= 1e-3 * plain)).sum())  # NaN is a change


def _turned(runs, what):
    worst = float(np.max([run[f"EGNO {what} deviation"] for run in runs]))
    windows, most = len(runs.first["EGNO errors"]), max(changed(run, "EGNO", what) for run in runs)
    basis = f"largest deviation over extent of predictions; {most} of {windows:,} windows have another error"
    return Measure("random rotation", worst, at_most(LIMITS["float32"]), basis=basis)


def _still_equivariant(results):
    free = [run["MPNN turned deviation"] for run in results["charged_others"]]
    return [_beside(_turned(results["charged_egno"], "turned"), "MPNN, which reads coordinates", free)]


def _about_the_vertical(results):
    runs = results["running"]
    other = [run["EGNO turned deviation"] for run in runs]
    return [_beside(_turned(runs, "upright"), "turned in any other way", other)]


# --- errors -------------------------------------------------------------------------------------------------


def bootstrap(ours, theirs):
    """The ratio of mean errors of the same windows, each ``(S,)``, and its 95 % interval over windows."""
    rng = np.random.default_rng(0)
    chosen = rng.integers(len(ours), size=(RESAMPLES, len(ours)))
    ratios = ours[chosen].mean(1) / theirs[chosen].mean(1)
    return ours.mean() / theirs.mean(), *np.quantile(ratios, (0.025, 0.975))


def of_windows(runs, name):
    """Errors ``(S, P)`` of test windows, averaged over all seeds."""
    return np.mean([run[f"{name} errors"] for run in runs], axis=0)


def by_seed(results, *named):
    """Errors ``(seeds, S, P)`` of the seeds that all have, for each pair of an experiment and a method's name."""
    each = [{run.seed: run[f"{name} errors"] for run in results[where]} for where, name in named]
    seeds = sorted(set.intersection(*map(set, each)))
    if not seeds:
        raise LoupeError("the networks that are compared have no seed in common")
    return [np.stack([errors[seed] for seed in seeds]) for errors in each]


def _ratio(label, ours, theirs, accepts, control=None, over_windows=True):
    """The ratio of mean errors ``(seeds, S)``, with an interval over seeds and windows together.

    That of the log over seeds (Student) and that over windows (bootstrap), as independent errors; where windows
    overlap, seeds alone. ``control`` is a label and the errors that should fail in the place of ours.
    """
    measure = Measure.ratio(label, ours.mean(1), theirs.mean(1), accepts)
    if control:
        words, rival = control
        measure = _beside(measure, words, np.exp(np.log(rival.mean(1) / theirs.mean(1)).mean()))
    each = ", ".join(f"{ratio:.3g}" for ratio in ours.mean(1) / theirs.mean(1))
    basis = f"geometric mean of {len(ours)} seeds ({each})" if len(ours) > 1 else "one seed"
    if len(ours) < measure.needs:  # the interval of two seeds spans powers of ten
        return replace(measure, low=math.nan, high=math.nan, basis=f"{basis}; no interval")
    if not over_windows:
        return replace(measure, basis=f"{basis}; 95 % t interval over seeds")
    _, low, high = bootstrap(ours.mean(0), theirs.mean(0))
    factor = math.exp(math.hypot(math.log(measure.high / measure.value), math.log(high / low) / 2))
    basis += f"; 95 % interval over seeds (t) and {ours.shape[1]:,} windows (bootstrap), paired"
    return replace(measure, low=measure.value / factor, high=measure.value * factor, basis=basis)


def _compared(results, label, ours, theirs, limit, control=None, *, at=-1, over_windows=True):
    """The ratio of two networks' errors at one time, or over the whole window: ``at=None``; the control beside it."""
    words, named = control or ("", None)
    found = by_seed(results, ours, theirs, *([named] if control else []))
    ours, theirs, *rival = (each.mean(2) if at is None else each[..., at] for each in found)
    return _ratio(label, ours, theirs, at_most(limit), control and (words, *rival), over_windows)


def _better_than_lines(results):
    return [
        _compared(results, f"F-MSE, {ours[1]} over straight lines", ours, LINES, 0.7, STILL)
        for ours in (EGNO, EGNN)
    ]


def _end_of_window(results):
    found = [errors[..., -1] for errors in by_seed(results, EGNO, EGNN, ("charged_others", "MPNN"))]
    worst, measures = np.unique([errors.argmax(1) for errors in found[:2]]), []
    for label, left in (("", []), (f", without the {len(worst)} worst systems", worst)):
        ours, theirs, free = (np.delete(errors, left, axis=1) for errors in found)
        label = f"F-MSE, EGNO over EGNN{label}"
        measures.append(_ratio(label, ours, theirs, at_most(1.0), ("MPNN", free)))
    return [measures[0].as_primary(), measures[1]]


def _each_slice(results):
    P = results["charged_egno"].first["EGNO errors"].shape[1]
    label = "of the window, EGNO over a straight line"
    return [
        _compared(results, f"error at {p + 1}/{P} {label}", EGNO, LINES, 1.0, STILL, at=p) for p in range(P)
    ]


def _whole_window(results):
    one_by_one, rollout = (("charged_egnn", name) for name in ("EGNN-S", "EGNN-R"))
    pairs = (EGNO, one_by_one, 1.0), (EGNO, rollout, 0.5), (one_by_one, rollout, 1.0)
    return [
        _compared(results, f"A-MSE, {ours[1]} over {theirs[1]}", ours, theirs, limit, at=None)
        for ours, theirs, limit in pairs
    ]


def _people_better_than_lines(results):
    return [
        _compared(results, f"{what}: F-MSE, {name} over straight lines", (what, name), (what, "Linear"), 1.0,
                  ("standing still", (what, "still")), over_windows=False)
        for what in ("running", "walking") for name in ("EGNO-L", "EGNO", "EGNN")
    ]  # fmt: skip


def _people(results):
    return [
        _compared(results, f"{what}: F-MSE, EGNO over EGNN", (what, "EGNO-L"), (what, "EGNN"), limit,
                  ("straight lines", (what, "Linear")), over_windows=False)
        for what, limit in (("walking", 0.8), ("running", 1.0))
    ]  # fmt: skip


def shared_and_new(errors):
    """A-MSE of each window at the times of training, every second one, and at those between: each ``(..., S)``."""
    return errors[..., 1::2].mean(-1), errors[..., 0::2].mean(-1)


def _resolution(results):
    names = ("EGNO physical fine", "EGNO index fine", "EGNO")
    given, number, usual = by_seed(results, *(("charged_egno", name) for name in names))
    shared, new = shared_and_new(given)
    wrong = ("given the number of the slice", shared_and_new(number)[0])
    label = "A-MSE at the shared times, ten times over five"
    return [
        _ratio("A-MSE at new times over that at shared times", new, shared, at_most(2.0)).as_primary(),
        _ratio(label, shared, usual.mean(2), at_most(2.0), wrong),
    ]


def variants(runs):
    """Errors ``(S, P)`` by variant, averaged over the seeds."""
    return {str(name): of_windows(runs, str(name)) for name in runs.first["variants"]}


def _two_modes(results):
    full, control = ("ablations", "full"), ("no convolution", ("ablations", "no convolution"))
    return [
        _compared(results, f"F-MSE, the full network over {name}".replace("1 modes", "1 mode"), full,
                  ("ablations", name), 1.05, control)
        for name in map(str, results["ablations"].first["variants"]) if name.endswith("modes")
    ]  # fmt: skip


def _both_convolutions(results):
    return [
        _compared(results, f"F-MSE, both convolutions over {name}", ("ablations", "full"), ("ablations", name), 1.0)
        for name in ("only invariants", "only vectors", "no convolution")
    ]  # fmt: skip


def _one_pass(results):
    """Times of the benchmark, which is not part of any preset."""
    return [
        Measure(
            f"time of a rollout over that of one pass, {row['systems']} systems in a batch", row["wall, times ours"],
            at_least(row["aim, times ours"]), basis=f"{row['times decoded']} times, one thread of a processor",
            primary=row["systems"] == PUBLISHED_BATCH,
        )
        for row in open_chapter("egno").benchmark()["rows"]
        if row["task"] == "One forward, or a rollout" and "aim, times ours" in row
    ]  # fmt: skip


CLAIMS = (
    Claim(
        "EG1", "The output rotates, shifts and is renumbered with the input.", "on equivariance", "a theorem", "exact",
        "deviation over output scale below 10⁻¹⁰ in float64 and 10⁻⁴ in float32", _equivariant, EVERYWHERE,
    ),
    Claim(
        "EG1b", "A trained network does so too, on test data.", "on equivariance", "a theorem", "arithmetic",
        "deviation over the extent of predictions below 10⁻⁴, in float32", _still_equivariant, EVERYWHERE,
    ),
    Claim(
        "EG1c", "Given heights of joints, it still rotates with a person about the vertical.", "motion capture", "implied",
        "arithmetic", "deviation over the extent of predictions below 10⁻⁴, in float32", _about_the_vertical, FULL, NO_DATA,
    ),
    Claim(
        "EG2", "The convolution in Fourier space is a circular convolution in time.", "on the layer", "theory", "exact",
        "within 10⁻¹² of the sum over time with the kernel", _convolution, EVERYWHERE,
    ),
    Claim(
        "EG3", "The symmetry needs one kernel for all three coordinates.", "on the layer", "implied", "exact",
        "with a kernel for each coordinate the deviation is above 0.01", _apart, EVERYWHERE,
    ),
    Claim(
        "EG4a", "Charges, end of the window: networks are far better than straight lines.", "Table 1",
        "errors not available", "statistical", "F-MSE of EGNO and EGNN at most 0.7 times that of lines",
        _better_than_lines, FULL, FEW_STEPS,
    ),
    Claim(
        "EG4b", "Charges, end of the window: EGNO is better than EGNN after the same number of steps.", "Table 1",
        "errors not available", "statistical", "ratio of F-MSE below 1, with and without the worst systems, three seeds",
        _end_of_window, LARGE, LATE,
    ),
    Claim(
        "EG5a", "Charges, whole window: EGNO is better than straight lines at every time.", "state to trajectory",
        "not tabled", "statistical", "lower error at every time, lines fitted to each", _each_slice, FULL, FEW_STEPS,
    ),
    Claim(
        "EG5b", "Charges, whole window: EGNO is better than EGNN-S, and EGNN-S than EGNN-R.", "state to trajectory",
        "A-MSE not available", "statistical",
        "A-MSE at most that of EGNN-S and half that of EGNN-R, and EGNN-S at most EGNN-R", _whole_window, LARGE, SPREAD,
        "EGNN-S had fewer layers than times, and EGNN-R saw a fifth of the data; equal baselines are still to be run",
    ),
    Claim(
        "EG6a", "People, end of the window: networks are better than straight lines.", "motion capture", "not tabled",
        "statistical", "lower F-MSE, EGNO and EGNN, running and walking", _people_better_than_lines, FULL, NO_DATA,
    ),
    Claim(
        "EG6b", "People, end of the window: EGNO is better than EGNN.", "motion capture",
        "EGNO, running: 33.9 (×100); others not available", "statistical",
        "ratio of F-MSE at most 0.8 walking and 1.0 running, three seeds", _people, LARGE, LATE,
    ),
    Claim(
        "EG7", "Trained at five times, it predicts at ten.", "on temporal resolution", "shown", "statistical",
        "A-MSE at new times (primary) below twice that at shared times, and that below twice what it is as trained",
        _resolution, LARGE, LONG,
    ),
    Claim(
        "EG8", "Two frequencies suffice.", "ablations", "shown", "statistical",
        "F-MSE at most 1.05 times that with one, and with three", _two_modes, LARGE, LONG,
    ),
    Claim(
        "EG9", "Both temporal convolutions help.", "ablations", "shown", "statistical",
        "F-MSE at most that with one or none of them", _both_convolutions, LARGE, LONG,
    ),
    Claim(
        "EG10", "One pass predicts all times, faster than a rollout.", "on efficiency", "not tabled", "timing",
        "1.5 times as fast at five times on a processor, at every batch; primary: the published batch of 100",
        _one_pass, ("cpu", "gpu"), "judged by the benchmark, at cpu and gpu",
    ),
    Claim(
        "EG11", "On molecules of MD17 and on a protein EGNO is best or near.", "the tables of MD17 and of the protein",
        "aspirin 9.18, benzene 48.85 (×100)", "reported", "not judged here",
        reason="MD17 and the protein's trajectory are not at hand; the chapter's molecules are others",
    ),
)  # fmt: skip

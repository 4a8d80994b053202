"""What the chapter judges of SU(3) and of outliers: SRD-9 and SRD-10.

The criteria were written on 30 November 2026, after trials of 1,000 steps on SU(3), and before any results of ``cpu`` or
``gpu`` were seen.
"""

import numpy as np

from loupe.experiment import Claim, Measure, at_least, between
from loupe.experiment.claims import too_small
from loupe.experiment.results import row

LARGE = ("gpu", "paper")
FEW_SEEDS = "one seed is trained here; three are at gpu"
SITE_ESS, LATTICE_ESS = 0.7, 0.3
CLOSE = 0.01  # of a plaquette, relative
SLACK = 0.01  # of an area under a curve


# --- SU(3) --------------------------------------------------------------------------------------------------


def _ess(runs, label, network, least):
    measure = Measure.of_seeds(label, row(runs, "ESS", row=network), at_least(least))
    return measure.against("uniform samples", row(runs, "ESS", row="Haar").mean())


def _learns_groups(results):
    site, lattice = results["site"], results["lattice"]
    reference = row(lattice, "mean", row="HMC")
    measures = [
        _ess(site, "one matrix: effective sample size", "MLP", SITE_ESS),
        _ess(lattice, "lattice: effective sample size", "loops", LATTICE_ESS),
        Measure.of_seeds("lattice: mean plaquette of the flow over that of HMC",
                         row(lattice, "mean", row="loops") / reference, between(1 - CLOSE, 1 + CLOSE))
        .against("uniform samples", (row(lattice, "mean", row="Haar") / reference).mean()),
    ]  # fmt: skip
    if "exact" in lattice.first["row"]:
        # Weights of a flow that misses a part of the density look even.
        gap, wrong = (
            row(lattice, "log Z", row=name) - row(lattice, "log Z", row="exact") for name in ("loops", "MLP")
        )
        label = "lattice: log Z by weights minus the exact one"
        measures.append(
            Measure.of_seeds(label, gap, between(-0.2, 0.2)).against("without its symmetry", wrong.mean())
        )
    return measures


# --- outliers -----------------------------------------------------------------------------------------------


def lead(run, other):
    """The median over sets of outliers of the likelihood's AUROC minus that of another method."""
    ours, theirs = (run["AUROC"][run["method"] == name] for name in ("likelihood", other))
    return float(np.median(ours - theirs))


def _finds_outliers(results):
    runs, measures = results["outliers"], []
    known, trivial = (float(runs[key].mean()) for key in ("accuracy", "accuracy of pixels"))
    if known <= trivial:
        raise too_small(
            f"embeddings must tell classes apart better than pixels, {trivial:.3g} right", f"got {known:.3g}"
        )
    for other, least in (("k-th neighbor", -SLACK), ("class mean", 0.0)):
        label = f"AUROC of the likelihood minus that of {other}, median over sets"
        measure = Measure.of_seeds(label, [lead(run, other) for run in runs], at_least(least))
        chance = np.mean([np.median(0.5 - run["AUROC"][run["method"] == other]) for run in runs])
        measures.append(measure.against("a constant score", chance))
    return [measures[0].as_primary(), *measures[1:]]


CLAIMS = (
    Claim(
        "SRD-9", "The likelihood of embeddings on a sphere detects outliers at least as well as neighbors do.",
        "abstract", "see paper", "statistical",
        f"median over sets of the AUROC at most {SLACK} below the k-th neighbor's (primary), and above the class mean's",
        _finds_outliers, LARGE, FEW_SEEDS,
    ),
    Claim(
        "SRD-10", "Diffusion learns densities on SU(3).", "abstract", "see paper", "statistical",
        f"effective sample size at least {SITE_ESS} for one matrix and {LATTICE_ESS} on the lattice of 2 by 2; plaquette "
        f"within {CLOSE:.0%} of HMC; log Z by weights within 0.2 of the exact one",
        _learns_groups, LARGE, FEW_SEEDS,
    ),
)  # fmt: skip

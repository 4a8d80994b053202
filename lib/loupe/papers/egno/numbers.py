"""The measured numbers of the chapter's paragraphs, by name; ``loupe publish`` writes them there."""

import numpy as np

from loupe.experiment.results import find, leading_verdicts
from loupe.papers.egno.claims import changed, of_windows, shared_and_new, variants
from loupe.papers.egno.figures import CHARGED, HOLDER, LEARNING, but_worst, errors_of, kept

FIRST_LOSSES = 5  # of those that are stored, before which a peak is no surprise
DATA = ("charged", "run", "walk", "ethanol")


def numbers(chapter):
    """By name: numbers, or finished words where there is an interval or a value for each seed."""
    found, people = find(chapter, CHARGED), ("motion capture", "step")
    steps = [r["CPU ms"] for r in chapter.benchmark()["rows"] if (r.get("case"), r.get("part")) == people]
    several = _judged(chapter) | _charges(found) | _training(found) | _times(found) | _short(chapter)
    return several | {"people_step": min(steps) / 1000}


def listed(values):
    """Values of seeds in words: ``7, 2 and 53``."""
    *rest, last = (f"{value:.0f}" for value in values)
    return f"{', '.join(rest)} and {last}"


def span(values, form=".0f"):
    """The least and the largest: ``0.0018 to 0.0035``."""
    return f"{min(values):{form}} to {max(values):{form}}"


def _judged(chapter):
    """What the ledger has, by claim and place of the measure: ``eg4b_2``, its interval and its control."""
    found = {}
    for one in leading_verdicts(chapter.stored):
        for place, measure in enumerate(one.measures, 1):
            name = f"{one.claim.id.lower()}_{place}"
            found |= {name: measure.value, f"{name}_control": getattr(measure.control, "value", None)}
            if measure.low is not None:
                found[f"{name}_interval"] = f"{measure.value:.2f} [{measure.low:.2f}, {measure.high:.2f}]"
    return found


def _charges(found):
    errors = {name: errors_of(found, name) for name in HOLDER}
    ends = {name: each[..., -1] for name, each in errors.items()}
    ours, theirs = (errors[name].mean(1) for name in ("EGNO", "EGNN-S"))  # (seeds, times)
    apart, free = (theirs - ours).mean(0), found["charged_others"]
    same, others = [1, 2], [0, 3, 4]  # at its second and third time EGNN-S must predict the same
    plain, turned = (free[f"MPNN{part} errors"].mean(-1) for part in ("", " turned"))
    return {
        "ahead": listed(100 * (1 - ends["EGNO"].mean(1) / ends["EGNN"].mean(1))),
        "ahead_rest": listed(100 * (1 - but_worst(ends["EGNO"]) / but_worst(ends["EGNN"]))),
        "worst_egnn": np.sqrt(ends["EGNN"].max()), "astray": int((ends["EGNN-R"] > 1).sum(1).max()),
        "below_sequential": span(100 * (1 - ours.mean(1) / theirs.mean(1))),
        "same_share": apart[same].sum() / apart.sum(),
        "below_others": 1 - ours[:, others].mean() / theirs[:, others].mean(),
        "mpnn_window": np.median(np.abs(turned / plain - 1)), "mpnn_error": ends["MPNN"].mean(),
        "mpnn_mean": np.abs(turned.mean(1) / plain.mean(1) - 1).max(),
    }  # fmt: skip


def _training(found):
    ours, theirs, free = (found[name] for name in CHARGED)
    steps, losses, ends = found.settings.training.steps, theirs["EGNN losses"], theirs["EGNN clock"][:, -1:]
    count, last = losses.shape[1], losses.shape[1] // 10
    seed, peak = np.unravel_index(losses[:, FIRST_LOSSES:].argmax(), losses[:, FIRST_LOSSES:].shape)
    peak += FIRST_LOSSES
    return {
        "steps": steps, "peak": losses[seed, peak], "peak_step": peak * steps // count,
        "weights": int(ours.first["EGNO parameters"]), "weights_egnn": int(theirs.first["EGNN parameters"]),
        "step_cost": ours["EGNO clock"][:, -1].mean() / ends.mean(),
        "steps_in_time": span(np.where(ours["EGNO clock"] <= ends, ours["EGNO steps"], 0).max(1), ",.0f"),
        "loss": span(ours["EGNO losses"][:, -last:].mean(1), ".4f"),
        "test": span(ours["EGNO errors"].mean((1, 2)), ".4f"), "mpnn_loss": free["MPNN losses"][:, -last:].mean(),
    }  # fmt: skip


def _times(found):
    fine = of_windows(found["charged_egno"], "EGNO physical fine")
    lines = {f"line_{P}": kept(P)[P // 5 - 1] for P in (5, 10, 40)}
    return lines | {"new_but_first": fine[:, 2::2].mean() / shared_and_new(fine)[0].mean()}


def _short(chapter):
    """What only short training has: changed parts, fewer systems, ethanol, and where the clip acts; and spectra."""
    names = ("data_sizes", "ablations", "ethanol", "spectra")
    few, parts, ethanol, power = (find(chapter, (name,)) for name in names)
    usual, count = find(chapter, CHARGED, (few.preset,)), int(few.runs.first["sizes"][0])
    egno, egnn = (
        but_worst(few.runs[f"{name} {count} errors"][..., -1]) / but_worst(errors_of(usual, name)[..., -1])
        for name in ("EGNO", "EGNN")
    )
    networks = variants(parts.runs)
    full, none = (but_worst(networks[name][None, :, -1])[0] for name in ("full", "no convolution"))
    still, *ends = (of_windows(ethanol.runs, name)[:, -1].mean() for name in ("still", "EGNN-R", *LEARNING))
    way, bend = (np.stack([power.runs.first[f"{name} {of}"] for name in DATA]) for of in ("way", "bend"))
    straight = 100 * (1 - bend.sum(1) / way.sum(1))
    return {
        "few": count, "few_egno": span(egno, ".1f"), "few_egnn": egnn.mean(), "full_over_none": full / none,
        "ethanol": span([100 * (1 - end / still) for end in ends]),
        "clipped": max(changed(run, "EGNO", "turned") for run in usual["charged_egno"]),
        "straight": span(straight[:-1]), "straight_ethanol": straight[-1] / 100,
        "bend": span(100 * bend[:, :2].sum(1) / bend.sum(1)),
    }  # fmt: skip

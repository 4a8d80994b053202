"""What trained networks have learned: learning curves, likelihoods, other texts. Drawn from stored results alone."""

import numpy as np

from loupe.experiment.claims import t_interval
from loupe.experiment.render import score_table
from loupe.experiment.results import stored_at
from loupe.papers.drawing import Picture, drawn_from
from loupe.papers.sedd.claims import IGNORANT, bits, common
from loupe.papers.sedd.claims_reported import TEXT8
from loupe.plotting import INK, MUTED, SERIES, figure, log_axis

CORE = {
    "SEDD Absorb": "sedd_absorb",
    "autoregressive": "autoregressive",
    "SEDD Uniform": "sedd_uniform",
    "MDLM": "mdlm",
    "D3PM": "d3pm",
}
"""The methods that are compared throughout, in the order of their colors, with their experiments."""

MORE = {"concrete score": "concrete_score", "time-free": "time_free", "constant noise": "constant_noise"}
"""Controls, which may be computed later."""

REPORTED = TEXT8 | {"D3PM": TEXT8["D3PM Absorb"], "autoregressive": TEXT8["autoregressive transformer"]}
TEXTS = {
    "valid": "novels",
    "wikitext2": "WikiText-2",
    "ptb": "Penn Treebank",
    "shakespeare": "Shakespeare",
    "state_union": "State of the Union",
}


def style(name):
    """Colour, marker and line of a method, in every figure."""
    place = [*CORE, *MORE].index(name)
    rank = SERIES[min(place, 5)]
    return {
        "color": rank.color,
        "marker": rank.marker,
        "linestyle": ("-", ":", "-.", "--")[max(0, place - 4)],
    }


def interval(values):
    """Mean and half of the 95 % t interval of some values."""
    low, high = t_interval(np.asarray(values, dtype=float).tolist())
    return float(np.mean(values)), (high - low) / 2


def beside(found, experiment):
    """The runs of another experiment at the same preset, as far as they are there."""
    return stored_at(found.chapter, experiment, found.preset, partial=True)


def trained(found):
    """The runs of every method that has been trained at the preset, by its name."""
    more = {name: beside(found, experiment) for name, experiment in MORE.items()}
    return {name: found[one] for name, one in CORE.items()} | {
        name: runs for name, runs in more.items() if runs
    }


def counted(found, text="valid"):
    """Bits per character of the trivial rows: knowing nothing, and n-gram counts of the training text."""
    run = beside(found, "counted").first
    names = {1: "unigram counts", 2: "bigram counts"}
    levels = zip(run["orders"].tolist(), run[f"bits_{text}"].mean(-1).tolist(), strict=True)
    return {"uniform guess": IGNORANT} | {names.get(n, f"{n}-gram counts"): level for n, level in levels}


@drawn_from(*CORE.values(), what="training", partial=True)
def curves(found):
    """Validation bits per character while training, for all methods, beside the trivial rows."""
    sheet, axes = figure(height=4.6)
    methods = trained(found)
    for name, runs in methods.items():
        steps, values = runs.first["curve_steps"], runs["curve_strict"]
        look = style(name) | {"marker": "none"}
        axes.plot(steps, values.T, **look, linewidth=0.6, alpha=0.5)
        axes.plot(steps, values.mean(0), **look, label=name)
    longer = {name: beside(found, f"long_{CORE[name]}".replace("sedd_", "")) for name in list(CORE)[:2]}
    for name, runs in longer.items():
        if runs:
            look = style(name) | {"marker": "none", "linestyle": "--", "label": f"{name}, longer"}
            axes.plot(runs.first["curve_steps"], runs["curve_strict"].mean(0), **look)
    log_axis(axes)
    for name, level in counted(found).items():
        if name != "4-gram counts":
            axes.axhline(level, color=INK, linewidth=0.7, linestyle=(0, (1, 2)), zorder=1)
            label = f"{name.partition(' ')[0]} {level:.2f}"
            axes.annotate(label, (1.01, level), xycoords=("axes fraction", "data"), va="center", color=MUTED)
    last = [runs["curve_strict"].mean(0)[-1] for runs in methods.values()]
    low = min([*last, *counted(found).values()])
    axes.set(ylim=(low - 0.1, max(5, *last) + 0.1), xlabel="training steps", ylabel="bits per character")
    axes.legend(ncols=2, loc="upper center", bbox_to_anchor=(0.5, -0.16))
    config = found.settings
    return Picture(
        sheet,
        "Bits per character on validation text against training steps on a logarithmic axis, one color per method, above "
        "and below dotted levels of n-gram counts.",
        "Validation bits per character of the averaged weights (EMA). For diffusion the strict bound is drawn, for the "
        f"autoregressive network the exact value. Thin lines: seeds; thick: their mean. {config.curve_sequences} sequences "
        f"with {config.curve_times} random times each, so the curves are noisier than the table. Dotted: models that only "
        "count the training text.",
    )  # fmt: skip


@drawn_from(*CORE.values(), what="training", partial=True)
def likelihoods(found):
    """Validation bits per character of every method and trivial row, paired with SEDD absorb, beside the paper's text8."""
    methods = trained(found)
    rows = []
    for name, runs in methods.items():
        theirs, ours = common(runs, methods["SEDD Absorb"])
        strict = bits(runs, kind="strict")
        gap = None if name == "SEDD Absorb" else theirs - ours
        reported = f"{REPORTED[name]:.2f}" if name in REPORTED else None
        rows.append((strict.mean(), (name, strict, gap, reported)))
    rows += [(level, (name, f"{level:.3f}", None, None)) for name, level in counted(found).items()]
    head = ("method", f"bits ({found.label})", "minus SEDD Absorb", "paper, text8")
    return score_table(head, [row for _, row in sorted(rows, key=lambda row: row[0])], digits=3)


@drawn_from(*CORE.values(), what="training", partial=True)
def zero_shot(found):
    """Strict bits per character on texts of other kinds."""
    texts = [str(text) for text in found["sedd_absorb"].first["texts"]]
    rows = [(name, *(bits(found[one], text, "strict") for text in texts)) for name, one in CORE.items()]
    levels = [counted(found, text)["5-gram counts"] for text in texts]
    rows.append(("5-gram counts", *([level] for level in levels)))
    return score_table((f"bits per character, {found.label}", *(TEXTS[text] for text in texts)), rows, digits=2,
                       best="min")  # fmt: skip

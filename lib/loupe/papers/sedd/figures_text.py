"""What trained networks have learned: learning curves, likelihoods, other texts. Drawn from stored results alone."""

import numpy as np

from loupe.experiment.render import score_table
from loupe.experiment.results import stored_at
from loupe.papers.drawing import Picture, drawn_from
from loupe.papers.sedd.claims import IGNORANT, bits, common
from loupe.papers.sedd.claims_reported import TEXT8
from loupe.plotting import INK, MUTED, SERIES, figure, log_axis

CORE = {
    "SEDD Absorb": "sedd_absorb", "autoregressive": "autoregressive", "SEDD Uniform": "sedd_uniform", "MDLM": "mdlm",
    "D3PM": "d3pm",
}  # fmt: skip
"""The methods that are compared throughout, in the order of their colors, with their experiments."""

MORE = {"concrete score": "concrete_score", "time-free": "time_free", "constant noise": "constant_noise"}
"""Controls, which may be computed later."""

LONGER = {"SEDD Absorb": "long_absorb", "autoregressive": "long_autoregressive"}
REPORTED = TEXT8 | {"D3PM": TEXT8["D3PM Absorb"], "autoregressive": TEXT8["autoregressive transformer"]}
TEXTS = {
    "valid": "novels", "wikitext2": "WikiText-2", "ptb": "Penn Treebank", "shakespeare": "Shakespeare",
    "state_union": "State of the Union",
}  # fmt: skip
COUNTED = (
    "uniform guess",
    "unigram counts",
    "bigram counts",
    "3-gram counts",
    "4-gram counts",
    "5-gram counts",
)


def style(name):
    """Colour, marker and line of a method, in every figure."""
    place = [*CORE, *MORE].index(name)
    rank, line = SERIES[min(place, 5)], ("-", ":", "-.", "--")[max(0, place - 4)]
    return {"color": rank.color, "marker": rank.marker, "linestyle": line}


def beside(found, experiment):
    """The runs of another experiment at the same preset, as far as they are there."""
    return stored_at(found.chapter, experiment, found.preset, partial=True)


def trained(found):
    """The runs of every method that has been trained at the preset, by its name."""
    more = {name: beside(found, experiment) for name, experiment in MORE.items()}
    runs = {name: found[experiment] for name, experiment in CORE.items()} | more
    return {name: each for name, each in runs.items() if each}


def counted(found, text="valid"):
    """Bits per character of the trivial rows: knowing nothing, and n-gram counts of the training text."""
    levels = beside(found, "counted").first[f"bits_{text}"].mean(-1).tolist()
    return dict(zip(COUNTED, [IGNORANT, *levels], strict=True))


from_training = drawn_from(*CORE.values(), what="training", partial=True)


@from_training
def curves(found):
    """Validation bits per character while training, for all methods, beside the trivial rows."""
    sheet, axes = figure(height=4.6)
    methods, levels, config = trained(found), counted(found), found.settings
    for name, runs in methods.items():
        steps, values, look = (
            runs.first["curve_steps"],
            runs["curve_strict"],
            style(name) | {"marker": "none"},
        )
        axes.plot(steps, values.T, **look, linewidth=0.6, alpha=0.5)
        axes.plot(steps, values.mean(0), **look, label=name)
    for name, experiment in LONGER.items():
        if runs := beside(found, experiment):
            look = {"color": style(name)["color"], "linestyle": "--", "label": f"{name}, longer"}
            axes.plot(runs.first["curve_steps"], runs["curve_strict"].mean(0), marker="none", **look)
    log_axis(axes)
    for name, level in levels.items():
        if name != "4-gram counts":
            axes.axhline(level, color=INK, linewidth=0.7, linestyle=(0, (1, 2)), zorder=1)
            place = {"xy": (1.01, level), "xycoords": ("axes fraction", "data"), "va": "center"}
            axes.annotate(f"{name.partition(' ')[0]} {level:.2f}", color=MUTED, **place)
    last = [runs["curve_strict"].mean(0)[-1] for runs in methods.values()]
    limits = min(*last, *levels.values()) - 0.1, max(5, *last) + 0.1
    axes.set(ylim=limits, xlabel="training steps", ylabel="bits per character")
    axes.legend(ncols=2, loc="upper center", bbox_to_anchor=(0.5, -0.16))
    return Picture(
        sheet,
        "Bits per character on validation text against training steps on a logarithmic axis, one color per method, above "
        "and below dotted levels of n-gram counts.",
        "Validation bits per character of the averaged weights (EMA). For diffusion the strict bound is drawn, for the "
        f"autoregressive network the exact value. Thin lines: seeds; thick: their mean. {config.curve_sequences} sequences "
        f"with {config.curve_times} random times each, so the curves are noisier than the table. Dotted: models that only "
        "count the training text.",
    )


@from_training
def likelihoods(found):
    """Validation bits per character of every method and trivial row, paired with SEDD absorb, beside the paper's text8."""
    methods, rows = trained(found), []
    for name, runs in methods.items():
        theirs, ours = common(runs, methods["SEDD Absorb"])
        gap = None if name == "SEDD Absorb" else theirs - ours
        reported = f"{REPORTED[name]:.2f}" if name in REPORTED else None
        rows.append((name, bits(runs, kind="strict"), gap, reported))
    rows += [(name, np.array([level]), None, None) for name, level in counted(found).items()]
    rows.sort(key=lambda row: row[1].mean())
    head = ("method", f"bits ({found.label})", "minus SEDD Absorb", "paper, text8")
    return score_table(head, rows, digits=3)


@from_training
def zero_shot(found):
    """Strict bits per character on texts of other kinds."""
    texts = [str(text) for text in found["sedd_absorb"].first["texts"]]
    rows = [(name, *(bits(found[one], text, "strict") for text in texts)) for name, one in CORE.items()]
    rows.append(("5-gram counts", *([counted(found, text)["5-gram counts"]] for text in texts)))
    head = (f"bits per character, {found.label}", *(TEXTS[text] for text in texts))
    return score_table(head, rows, digits=2, best="min")

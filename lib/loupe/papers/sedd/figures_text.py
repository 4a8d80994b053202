"""The chapter's pictures of trained networks, drawn from stored results alone."""

import numpy as np

from loupe.data.text import ALPHABET
from loupe.experiment.claims import t_interval
from loupe.experiment.render import score_table
from loupe.papers.drawing import Picture, drawn_from
from loupe.papers.sedd.claims import bits
from loupe.papers.sedd.claims_reported import TEXT8
from loupe.papers.sedd.figures import RANK
from loupe.plotting import GRID, GROUND, SERIES, TRUTH, figure, log_axis

EXPERIMENTS = {name: name.replace(" ", "_").replace("-", "_").lower() for name in RANK}
REPORTED = {
    "SEDD absorb": "SEDD Absorb",
    "SEDD uniform": "SEDD Uniform",
    "D3PM": "D3PM Absorb",
    "autoregressive": "autoregressive transformer",
}
TEXTS = {
    "valid": "validation",
    "wikitext2": "WikiText-2",
    "ptb": "Penn Treebank",
    "shakespeare": "Shakespeare",
    "state_union": "State of the Union",
}


def interval(values):
    """Mean and half of the 95 % t interval of some values."""
    low, high = t_interval(np.asarray(values, dtype=float).tolist())
    return float(np.mean(values)), (high - low) / 2


def mean_and_half(runs, name):
    """Mean of a value per text, and half of its 95 % interval: over seeds, or with one seed over its texts."""
    values = runs[name]
    return interval(values.mean(axis=1) if len(values) > 1 else values[0])


def style(name, hollow=False):
    """Colour, marker and line of a method."""
    rank, other = SERIES[RANK[name]], name == "concrete score"
    return {
        "color": rank.colour, "marker": "P" if other else rank.marker, "linestyle": ":" if other else "-",
        "markerfacecolor": GROUND if hollow else rank.colour,
    }  # fmt: skip


def words(tokens):
    """Tokens as text, with an underscore for a mask."""
    return "".join((ALPHABET + "_")[min(token, 27)] for token in np.asarray(tokens).tolist())


def _over_seeds(axes, steps, values, name, **options):
    """A thin line for each seed, and a thick one for their mean."""
    look = style(name) | options
    if len(values) > 1:
        axes.plot(steps, values.T, **look | {"linewidth": 0.6, "alpha": 0.45, "marker": "none"})
    axes.plot(steps, values.mean(axis=0), **look, label=name)


@drawn_from(*EXPERIMENTS.values(), "counted", what="training")
def curves(found):
    """F5: validation bits per character while training, for all methods."""
    sheet, axes = figure(height=4.2)
    every = {name: found[experiment]["curve_strict"] for name, experiment in EXPERIMENTS.items()}
    steps, counted = found["sedd_absorb"].first["curve_steps"], found["counted"].first
    for name, values in every.items():
        _over_seeds(axes, steps, values, name, marker="none")
    for order, line in ((1, "--"), (2, ":"), (5, "-.")):
        level = counted["bits_valid"][list(counted["orders"]).index(order)].mean()
        axes.axhline(level, **TRUTH | {"linestyle": line}, label=f"{order}-grams, {level:.2f}")
    log_axis(axes)
    # Concrete score matching leaves the panel; the caption says so.
    axes.set(ylim=(min(map(np.nanmin, every.values())) - 0.15, 5.2))
    order, masks, uniform = (
        bits(found[name]).mean() for name in ("autoregressive", "sedd_absorb", "sedd_uniform")
    )
    title = "Order helps most, masks next" if order < masks < uniform else "Learning curves"
    axes.set(xlabel="steps of training", ylabel="bits per character", title=title)
    axes.legend(ncols=3, loc="upper center", bbox_to_anchor=(0.5, -0.16), columnspacing=1, handlelength=1.6)
    beyond = [name for name, values in every.items() if values.mean(axis=0)[-1] > 5.2]
    config = found.settings
    return Picture(
        sheet,
        "Bits per character on validation text against steps of training, a color for each method. Black lines show what "
        "counting single characters, pairs, and groups of five gives.",
        "Validation bits per character of the averaged weights, all parts of the bound. "
        f"Thin: seeds, thick: their mean; {config.curve_sequences} sequences of {config.length} characters "
        f"with {config.curve_times} random times each, which for uniform noise alone moves a line by some tenths of a "
        f"bit. The first point is after {steps[0]} steps. Black: n-gram models of "
        "the text to learn."
        + (f" Above the panel at the end: {', '.join(beyond)}." if beyond else ""),
    )  # fmt: skip


@drawn_from("sedd_absorb", what="training")
def excess(found):
    """Bits per character that SEDD's loss loses to scores which do not sum to what they must."""
    runs = found.runs
    sheet, axes = figure(height=2.9)
    _over_seeds(axes, runs.first["curve_steps"], runs["curve_excess"], "SEDD absorb")
    log_axis(axes, "y")
    axes.set(xlabel="steps of training", ylabel="bits per character", title="What unnormalized scores cost")
    share = (runs["curve_excess"][:, -1] / runs["curve_bits"][:, -1]).mean()
    return Picture(
        sheet,
        "Excess of the score entropy over a masked cross-entropy, in bits per character, against steps of training.",
        "The part of SEDD’s bound (masks) that is lost because the scores do not sum to what true ones sum to; with a "
        f"softmax it would be 0. At the end it is {100 * share:.2g} % of the bound.",
    )


@drawn_from(*EXPERIMENTS.values(), what="training")
def likelihood_table(found):
    """Validation bits per character of every method, beside what the paper reports for text8."""
    every = {name: found[experiment] for name, experiment in EXPERIMENTS.items()}
    rows = [
        (name, f"{runs.first['parameters']:,}", bits(runs), bits(runs, kind="strict"),
         f"{TEXT8[REPORTED[name]]:.2f}" if name in REPORTED else None, f"{len(runs)}")
        for name, runs in sorted(every.items(), key=lambda item: bits(item[1]).mean())
    ]  # fmt: skip
    head = (
        "method",
        "parameters",
        f"bits per character, {found.preset}",
        "strict bound",
        "paper, text8",
        "seeds",
    )
    return score_table(head, rows, digits=3, best=("", "min", "min", "", ""))


@drawn_from(*(one for one in EXPERIMENTS.values() if one != "concrete_score"), what="training")
def zero_shot(found):
    """F7: bits per character on texts of other kinds."""
    every = {name: found[one] for name, one in EXPERIMENTS.items() if one != "concrete_score"}
    first = found["sedd_absorb"].first
    texts = [str(text) for text in first["texts"]]
    sheet, axes = figure(height=1.4 + 0.75 * len(texts))
    for k, (name, runs) in enumerate(every.items()):
        places = np.arange(len(texts)) + 0.12 * (k - (len(every) - 1) / 2)
        means, halves = zip(*(mean_and_half(runs, f"strict_{text}") for text in texts), strict=True)
        axes.errorbar(means, places, xerr=halves, label=name, capsize=2, elinewidth=1,
                      **style(name) | {"linestyle": "none"})  # fmt: skip
    axes.set_yticks(range(len(texts)), [TEXTS.get(text, text) for text in texts])
    axes.set_ylim(len(texts) - 0.4, -0.6)
    for k in range(len(texts) - 1):
        axes.axhline(k + 0.5, color=GRID, linewidth=0.8)
    axes.grid(False, axis="y")
    axes.tick_params(axis="y", length=0)
    orders = {
        tuple(sorted(every, key=lambda name, text=text: bits(every[name], text, "strict").mean()))
        for text in texts
    }
    title = "Other texts, the same order of methods" if len(orders) == 1 else "Texts of other kinds"
    axes.set(xlabel="bits per character", title=title if len(texts) > 1 else "Held-out text")
    sheet.legend(ncols=3, loc="outside lower center", columnspacing=1)
    return Picture(
        sheet,
        "A row for each text with a mark for each method at its bits per character, all higher on texts of other kinds "
        "than on the validation text.",
        "Bits per character on the validation text and on texts of other kinds; strict bounds, except for the "
        "autoregressive network. Bars: 95 % t intervals over seeds, or with one seed over its up to "
        f"{len(first['bits_valid'])} sequences.",
    )

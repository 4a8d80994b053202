"""The chapter's pictures of trained networks and of what they write, drawn from stored results alone."""

from dataclasses import dataclass

import numpy as np

from loupe.data.text import ALPHABET
from loupe.experiment.claims import t_interval
from loupe.experiment.render import table
from loupe.experiment.results import Runs, absent, stored
from loupe.papers.sedd.claims import bits
from loupe.papers.sedd.claims_reported import TEXT8
from loupe.papers.sedd.config import PRESETS
from loupe.papers.sedd.figures import RANK, WIDTH
from loupe.plotting import SERIES, TRUTH, figure, log_axis, show

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
OTHERS = ("gpu", "cpu")


# --- what is stored -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Trained:
    """The runs of every method that one preset has."""

    runs: dict[str, Runs]
    preset: str
    config: object

    def seeds(self):
        """How many seeds each method has, in words."""
        counts = {}
        for name, runs in self.runs.items():
            counts.setdefault(len(runs), []).append(name)
        words = {n: f"{n} seed{'s' * (n > 1)}" for n in counts}
        if len(counts) == 1:
            return f"{next(iter(words.values()))} of every method"
        return "; ".join(f"{words[n]} of {', '.join(counts[n])}" for n in sorted(counts, reverse=True))


def trained(chapter, names=tuple(RANK)):
    """All methods at one preset, never of several: they would not be comparable. None where there are none."""
    for preset in dict.fromkeys((chapter.preset, *OTHERS)):
        found = {name: stored(chapter, EXPERIMENTS[name], (preset,)) for name in names}
        runs = {name: one.runs for name, one in found.items() if one is not None and one.preset == preset}
        if runs:
            return Trained(runs, preset, chapter.config if preset == chapter.preset else PRESETS[preset])
    return None


def writer(runs, key):
    """The first of the runs that holds what its network wrote; None if none did."""
    return next((run for run in runs if key in run), None)


def mean_and_half(runs, name):
    """Mean of a value per text, and half of its 95 % interval: over seeds, or with one seed over its texts."""
    values = runs[name]
    means = values.mean(axis=1)
    spread = means if len(means) > 1 else values[0]
    low, high = t_interval(spread.tolist())
    return float(means.mean()), (high - low) / 2


def interval(values):
    """Mean and half of the 95 % interval of values of single texts."""
    low, high = t_interval(np.asarray(values, dtype=float).tolist())
    return float(np.mean(values)), (high - low) / 2


def style(name, hollow=False):
    """Colour, marker and line of a method."""
    rank = SERIES[RANK[name]]
    other = name == "concrete score"
    return {
        "color": rank.colour, "marker": "P" if other else rank.marker, "linestyle": ":" if other else "-",
        "markerfacecolor": "white" if hollow else rank.colour,
    }  # fmt: skip


def words(tokens):
    """Tokens as text, with a low line for a mask."""
    return "".join((ALPHABET + "_")[min(token, 27)] for token in np.asarray(tokens).tolist())


# --- likelihood ---------------------------------------------------------------------------------------------


def references(chapter, preset):
    """Bits per character that counting letters, and counting pairs, gives; none where that is not stored."""
    found = stored(chapter, "counted", (preset,))
    if found is None or found.preset != preset:
        return {}
    run = found.runs.first
    return {"letters counted": run["letters"], "pairs counted": run["pairs"]}


def curves(chapter):
    """F5: validation bits per character while training, for all methods."""
    found = trained(chapter)
    if found is None:
        return absent("training")
    sheet, axes = figure(WIDTH, 4.2)
    low, last = np.inf, 0
    for name, runs in found.runs.items():
        steps, values = runs.first["curve_steps"], runs["curve_bits"]
        look = style(name) | {"marker": "none"}
        if len(runs) > 1:
            axes.plot(steps, values.T, **look | {"linewidth": 0.6, "alpha": 0.45})
        axes.plot(steps, values.mean(axis=0), **look, label=name)
        low, last = min(low, np.nanmin(values)), max(last, steps[-1])
    first = min(runs.first["curve_steps"][0] for runs in found.runs.values())
    known = references(chapter, found.preset)
    for (label, value), line in zip(known.items(), ("--", ":"), strict=False):
        axes.axhline(value, **TRUTH | {"linestyle": line}, label=f"{label}, {value:.2f}")
    # Concrete score matching leaves the panel: there it is said, not drawn.
    axes.set(xlim=(min(first, 0.02 * last), last * 1.01), ylim=(low - 0.15, 5.2))
    axes.set(xlabel="steps of training", ylabel="bits per character", title=_ranking(found))
    axes.legend(ncols=3, loc="upper center", bbox_to_anchor=(0.5, -0.16), columnspacing=1, handlelength=1.6)
    beyond = [name for name, runs in found.runs.items() if runs["curve_bits"].mean(axis=0)[-1] > 5.2]
    return show(
        sheet,
        alt="Bits per character on validation text against steps of training, a color for each method."
        + (" Black lines show what counting letters and counting pairs of letters give." if known else ""),
        caption=f"Validation bits per character of the averaged weights, counted as published: for diffusion without the "
        f"ends of the integral. "
        f"Thin: seeds, thick: their mean; {found.seeds()}, {found.config.curve_sequences} sequences of "
        f"{found.config.length} characters with {found.config.curve_times} random times each, which for uniform noise "
        f"alone moves a line by some tenths of a bit. The first point is after {first} steps. "
        + ("Black: entropies of single letters and of a letter given the one before. " if known else "")
        + (f"Above the panel at the end: {', '.join(beyond)}. " if beyond else "")
        + f"Preset `{found.preset}`.",
    )


def _ranking(found):
    """A title that is true of what was found."""
    names = ("autoregressive", "SEDD absorb", "SEDD uniform")
    if not set(names) <= set(found.runs):
        return "Learning curves"
    order, masks, uniform = (bits(found.runs[name]).mean() for name in names)
    return "Order helps most, masks next" if order < masks < uniform else "Learning curves"


def excess(runs):
    """Bits per character that SEDD's loss loses to scores which do not sum to what they must."""
    steps, values = runs.first["curve_steps"], runs["curve_excess"]
    sheet, axes = figure(WIDTH, 2.9)
    look = style("SEDD absorb")
    if len(runs) > 1:
        axes.plot(steps, values.T, color=look["color"], linewidth=0.6, alpha=0.45)
    axes.plot(steps, values.mean(axis=0), color=look["color"], marker="o")
    log_axis(axes, "y")
    axes.set(xlabel="steps of training", ylabel="bits per character", title="What unnormalised scores cost")
    shares = values[:, -1] / runs["curve_bits"][:, -1]
    return show(
        sheet,
        alt="Excess of the score entropy over a masked cross-entropy, in bits per character, against steps of training.",
        caption="The part of SEDD’s bound (masks) that scores lose because they do not sum to what true ones sum to; with "
        f"a softmax it would be 0. At the end it is {100 * shares.mean():.2g} % of the bound. {len(runs)} "
        f"seed{'s' * (len(runs) > 1)}.",
    )


def likelihood_table(chapter):
    """Validation bits per character of every method, beside what the paper reports for text8."""
    found = trained(chapter)
    if found is None:
        return absent("training")
    rows = []
    for name, runs in sorted(found.runs.items(), key=lambda item: bits(item[1]).mean()):
        mean, half = mean_and_half(runs, "bits_valid")
        strict = runs["strict_valid"].mean()
        reported = f"{TEXT8[REPORTED[name]]:.2f}" if name in REPORTED else "none"
        rows.append(
            (name, f"{runs.first['parameters']:,}", f"{mean:.3f}\u00a0±\u00a0{half:.3f}", f"{strict:.3f}", reported,
             f"{len(runs)}, ± over {'seeds' if len(runs) > 1 else 'texts'}")
        )  # fmt: skip
    head = (
        "method",
        "parameters",
        f"bits per character, {found.preset}",
        "strict bound",
        "paper, text8",
        "seeds",
    )
    return table(head, rows, numeric=True)


def zero_shot(chapter):
    """F7: bits per character on texts of other kinds."""
    found = trained(chapter, [name for name in RANK if name != "concrete score"])
    if found is None:
        return absent("training")
    texts = [str(text) for text in next(iter(found.runs.values())).first["texts"]]
    names = list(found.runs)
    sheet, axes = figure(WIDTH, 1.4 + 0.75 * len(texts))
    for k, name in enumerate(names):
        runs = found.runs[name]
        places = np.arange(len(texts)) + 0.12 * (k - (len(names) - 1) / 2)
        means, halves = zip(*(mean_and_half(runs, f"strict_{text}") for text in texts), strict=True)
        axes.errorbar(means, places, xerr=halves, label=name, capsize=2, elinewidth=1,
                      **style(name) | {"linestyle": "none"})  # fmt: skip
    axes.set_yticks(range(len(texts)), [TEXTS.get(text, text) for text in texts])
    axes.set_ylim(len(texts) - 0.4, -0.6)
    for k in range(len(texts) - 1):
        axes.axhline(k + 0.5, color="#e5e7eb", linewidth=0.8)
    axes.grid(False, axis="y")
    axes.tick_params(axis="y", length=0)
    orders = {
        tuple(sorted(names, key=lambda name, text=text: bits(found.runs[name], text, "strict").mean()))
        for text in texts
    }
    title = "Other texts, the same order of methods" if len(orders) == 1 else "Texts of other kinds"
    title = title if len(texts) > 1 else "Held-out text"
    axes.set(xlabel="bits per character", title=title)
    sheet.legend(ncols=3, loc="outside lower center", columnspacing=1)
    sequences = len(next(iter(found.runs.values())).first["bits_valid"])
    return show(
        sheet,
        alt="A row for each text with a mark for each method at its bits per character, all higher on texts of other kinds "
        "than on the validation text.",
        caption=f"Bits per character on the validation text and on texts of other kinds; strict bounds, except for "
        f"the autoregressive network. Bars: 95 % t intervals over seeds, or with one seed over its up to {sequences} "
        f"sequences; {found.seeds()}. Preset `{found.preset}`.",
    )

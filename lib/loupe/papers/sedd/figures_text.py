"""The chapter's pictures of trained networks and of what they write, drawn from stored results alone."""

from dataclasses import dataclass
from html import escape

import numpy as np

from loupe.data import load
from loupe.data.text import ALPHABET
from loupe.errors import LoupeError
from loupe.experiment.chapter import Runs
from loupe.experiment.claims import t_interval
from loupe.experiment.found import absent, stored
from loupe.experiment.render import Block, table
from loupe.metrics import bigram_rate_entropy, unigram_entropy
from loupe.papers.sedd.claims import bits, expected_evaluations, quality
from loupe.papers.sedd.config import PRESETS
from loupe.papers.sedd.figures import METHODS, RANK, WIDTH
from loupe.papers.sedd.claims_reported import TEXT8
from loupe.plotting import MUTED, SERIES, TRUTH, figure, log_axis, show

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
COUNTED = 5_000_000  # characters are enough to three digits of an entropy
MONO = "font-family:var(--pst-font-family-monospace,monospace);white-space:pre-wrap;overflow-wrap:anywhere"
QUIET, COLOURED = "var(--loupe-quiet,#56616f)", "var(--loupe-accent,#0f766e)"


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


def references(config):
    """Bits per character that counting letters, and counting pairs, would give; None without the text."""
    if config.text in ("lm1b", "openwebtext"):
        return None
    try:
        ids = load(config.text, split="train", characters=min(config.characters or COUNTED, COUNTED)).ids
    except LoupeError:
        return None
    return unigram_entropy(ids), bigram_rate_entropy(ids)


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
    known, first = references(found.config), min(runs.first["curve_steps"][0] for runs in found.runs.values())
    for value, label in zip(known or (), ("letters counted", "pairs counted"), strict=False):
        axes.axhline(value, **TRUTH)
        axes.annotate(f"{label}, {value:.2f}", (last, value), xytext=(0, 2), textcoords="offset points", ha="right",
                      fontsize=8.5, bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 0.5})  # fmt: skip
    # Concrete score matching leaves the panel: there it is said, not drawn.
    axes.set(xlim=(min(first, 0.02 * last), last * 1.01), ylim=(low - 0.15, 5.2))
    axes.set(xlabel="steps of training", ylabel="bits per character", title=_ranking(found))
    axes.legend(ncols=3, loc="upper center", bbox_to_anchor=(0.5, -0.16), columnspacing=1, handlelength=1.6)
    beyond = [name for name, runs in found.runs.items() if runs["curve_bits"].mean(axis=0)[-1] > 5.2]
    return show(
        sheet,
        alt="Bits per character on validation text against steps of training, a colour for each method. The "
        "autoregressive network is lowest; dashed lines show what counting letters and counting pairs of letters give.",
        caption=f"Validation bits per character of the averaged weights; bounds, but for the autoregressive network. "
        f"Thin: seeds, thick: their mean; {found.seeds()}, {found.config.curve_sequences} sequences of "
        f"{found.config.length} characters. Dashed: entropies of single letters and of a letter given the one before. "
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
    found = trained(chapter)
    if found is None:
        return absent("training")
    texts = [str(text) for text in next(iter(found.runs.values())).first["texts"]]
    names = [name for name in found.runs if name != "concrete score"]
    sheet, axes = figure(WIDTH, 1.4 + 0.75 * len(texts))
    for k, name in enumerate(names):
        runs = found.runs[name]
        places = np.arange(len(texts)) + 0.12 * (k - (len(names) - 1) / 2)
        means, halves = zip(*(mean_and_half(runs, f"bits_{text}") for text in texts), strict=True)
        axes.errorbar(means, places, xerr=halves, label=name, capsize=2, elinewidth=1,
                      **style(name) | {"linestyle": "none"})  # fmt: skip
    axes.set_yticks(range(len(texts)), [TEXTS.get(text, text) for text in texts])
    axes.set_ylim(len(texts) - 0.4, -0.6)
    for k in range(len(texts) - 1):
        axes.axhline(k + 0.5, color="#e5e7eb", linewidth=0.8)
    axes.grid(False, axis="y")
    axes.tick_params(axis="y", length=0)
    orders = {
        tuple(sorted(names, key=lambda name, text=text: bits(found.runs[name], text).mean()))
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
        caption=f"Bits per character on the validation text and on texts of other kinds; bounds, but for the "
        f"autoregressive network. Bars: 95 % t intervals over seeds, or with one seed over its up to {sequences} "
        f"sequences; {found.seeds()}. Preset `{found.preset}`.",
    )


# --- samples ------------------------------------------------------------------------------------------------

_WRITERS = ("SEDD absorb", "SEDD uniform", "autoregressive")


def quality_figure(chapter):
    """F6: the judge's bits, entropy and bigrams of written texts against the number of steps."""
    found = trained(chapter, _WRITERS)
    ours = found and found.runs.get("SEDD absorb") and writer(found.runs["SEDD absorb"], "sample_steps")
    if not ours:
        return absent("writing with trained networks")
    sheet, panels = figure(WIDTH, 7.2, rows=3, sharex=True)
    for name in ("SEDD absorb", "SEDD uniform"):
        run = name in found.runs and writer(found.runs[name], "sample_steps")
        if not run:
            continue
        steps = run["sample_steps"]
        for method in run["sample_methods"]:
            label, line, _ = METHODS[str(method)]
            look = style(name, hollow=method == "euler") | {"linestyle": line, "label": f"{name}, {label}"}
            judged, pairs = quality(run, method)
            entropy = [run[f"{method} {n} entropy"].mean() for n in steps]
            for axes, values in zip(panels, (judged, entropy, pairs), strict=True):
                axes.plot(steps, values, **look)
    causal = "autoregressive" in found.runs and writer(found.runs["autoregressive"], "autoregressive bits")
    for axes, what in zip(panels, ("bits", "entropy", "bigrams"), strict=True):
        if causal:
            value = np.mean(causal[f"autoregressive {what}"])
            axes.axhline(value, color=SERIES[1].colour, linewidth=1.4, label="autoregressive")
        axes.axhline(np.mean(ours[f"held out {what}"]), **TRUTH, label="held-out text")
    for axes, label, title in zip(
        panels,
        ("judge’s bits per letter", "token entropy, bits", "distance of bigrams"),
        (
            "More steps write better text …"
            if quality(ours)[0][-1] < quality(ours)[0][0]
            else "More steps …",
            "… with the variety of real text?",
            "… and with its pairs of letters?",
        ),
        strict=True,
    ):
        axes.set(ylabel=label, title=title)
    log_axis(panels[2], "y")
    log_axis(panels[2], "x")
    steps = ours["sample_steps"]
    panels[2].set_xticks(steps, [str(n) for n in steps])
    panels[2].set_xlabel("steps of the sampler")
    panels[2].legend(ncols=2, loc="upper center", bbox_to_anchor=(0.5, -0.3), columnspacing=1)
    return show(
        sheet,
        alt="Three panels against the number of steps: bits of a judge, token entropy and distance of bigrams, for masks "
        "and for uniform noise, with levels of the autoregressive network and of held-out text.",
        caption=f"{len(ours['held out bits'])} texts for each mark, from networks of one seed, drawn exactly. The judge is "
        "a 5-gram model of the training text; two to its bits is the generative perplexity per character. Token entropy is "
        "that of the letters within one text. Distance: total variation of pairs of letters from the training text; few "
        "held-out texts are at a distance too. With masks and log-linear noise Euler is Tweedie. Preset "
        f"`{found.preset}`.",
    )


def samples_table(chapter, each=2):
    """The first texts of each sampler as they came, with the judge's bits."""
    found = trained(chapter, _WRITERS)
    ours = found and found.runs.get("SEDD absorb") and writer(found.runs["SEDD absorb"], "sample_steps")
    if not ours:
        return absent("writing with trained networks")
    causal = "autoregressive" in found.runs and writer(found.runs["autoregressive"], "autoregressive bits")
    uniform = "SEDD uniform" in found.runs and writer(found.runs["SEDD uniform"], "sample_steps")
    few, many = ours["sample_steps"][[0, -1]]
    rows = [("held-out text", ours, "held out"), (f"SEDD absorb, {many} steps", ours, f"tweedie {many}"),
            (f"SEDD absorb, {few} steps", ours, f"tweedie {few}")]  # fmt: skip
    if uniform:
        most = uniform["sample_steps"][-1]
        rows.append((f"SEDD uniform, {most} steps", uniform, f"tweedie {most}"))
    if causal:
        rows.append(("autoregressive", causal, "autoregressive"))
    lines, cells = [], []
    for label, run, key in rows:
        for k in range(min(each, len(run[f"{key} bits"]))):
            text, cost = words(run[f"{key} tokens"][k]), f"{run[f'{key} bits'][k]:.2f}"
            lines.append(f"{label}, {cost} bits: {text}")
            # The label stands once, above its texts, so that a phone has the whole width for them.
            head = f'<div style="color:{QUIET};margin-top:.8rem">{escape(label)}</div>' if k == 0 else ""
            cells.append(
                f'{head}<div style="display:flex;gap:.8rem;margin:.15rem 0"><span style="color:{QUIET};'
                f'font-variant-numeric:tabular-nums">{cost}</span><span style="{MONO}">{escape(text)}</span></div>'
            )
    note = f"Judge’s bits per character, and the text. The first {each} of each as they came. Preset {found.preset}."
    html = f'<div class="loupe-samples" style="font-size:.85rem">{"".join(cells)}' \
           f'<div style="color:{QUIET};margin-top:.8rem">{escape(note)}</div></div>'  # fmt: skip
    return Block("\n".join([*lines, note]), html)


def infill_figure(chapter, texts=3):
    """F8: the middle of held-out texts, true, written with both sides given, and with one."""
    found = stored(chapter, "sedd_absorb", OTHERS)
    run = found and writer(found.runs, "infill_truth")
    if not run:
        return absent("filling in")
    place = np.flatnonzero(run["infill_place"])
    start, stop = place[0], place[-1] + 1
    margin = 24  # characters of either side that are shown
    kinds = (("as it was", "infill_truth"), ("both sides given", "infill_tokens_both"),
             ("only what stands before", "infill_tokens_before"))  # fmt: skip
    lines, parts = [], []
    for k in range(min(texts, len(run["infill_truth"]))):
        rows = []
        for label, key in kinds:
            tokens = run[key][k]
            before, fill = words(tokens[max(0, start - margin) : start]), words(tokens[start:stop])
            after = "" if key.endswith("before") else words(tokens[stop : stop + margin])
            lines.append(f"{label:<24} {before}[{fill}]{after}")
            weight = "400" if key == "infill_truth" else "600"
            colour = "inherit" if key == "infill_truth" else COLOURED
            rows.append(
                f'<div style="margin:.2rem 0"><div style="color:{QUIET};font-size:.8rem">{label}</div>'
                f'<div style="{MONO}"><span style="color:{QUIET}">{escape(before)}</span>'
                f'<span style="color:{colour};font-weight:{weight};border-bottom:1px solid">{escape(fill)}</span>'
                f'<span style="color:{QUIET}">{escape(after)}</span></div></div>'
            )
        lines.append("")
        parts.append(f'<div style="margin:0 0 1.1rem">{"".join(rows)}</div>')
    note = (
        f"The first {min(texts, len(run['infill_truth']))} held-out texts; {stop - start} characters to fill in "
        f"(underlined), up to {margin} on either side shown. Preset {found.preset}."
    )
    html = f'<div class="loupe-fills" style="font-size:.85rem">{"".join(parts)}' \
           f'<div style="color:{QUIET}">{escape(note)}</div></div>'  # fmt: skip
    return Block("\n".join([*lines, note]), html)


def infill_table(chapter):
    """Bits of the true middle, and how near what was written comes to held-out text."""
    found = stored(chapter, "sedd_absorb", OTHERS)
    run = found and writer(found.runs, "infill_truth")
    if not run:
        return absent("filling in")
    rows = []
    for label, name in (
        ("both sides", "both"),
        ("only before", "before"),
        ("middle of another text", "strangers"),
    ):
        cost = "none"
        if name != "strangers":
            mean, half = interval(run[f"infill_bits_{name}"])
            cost = f"{mean:.3f}\u00a0±\u00a0{half:.3f}"
        rows.append((label, cost, f"{float(run[f'infill_mauve_{name}']):.3f}"))
    mean, half = interval(run["infill_bits_both"] - run["infill_bits_before"])
    rows.append(("both less only before", f"{mean:+.3f}\u00a0±\u00a0{half:.3f}".replace("-", "−"), "none"))
    head = (
        "given",
        f"bits per character of the true middle, {found.preset}",
        "MAUVE-27, middles and three letters around",
    )
    return table(head, rows, numeric=True)


def evaluations(chapter):
    """F9: how often a network without time is asked for a text, with and without the cache."""
    found = stored(chapter, "time_free", OTHERS)
    run = found and writer(found.runs, "evaluations")
    if not run:
        return absent("the network without time")
    steps, asked, length = run["sample_steps"], run["evaluations"], int(run["length"])
    sheet, axes = figure(WIDTH, 3.5)
    fine = np.geomspace(min(steps), max(steps), 200)
    axes.plot(steps, steps + 1, color=MUTED, label="without a cache")
    axes.plot(fine, expected_evaluations(fine, length), **TRUTH, label="n (1 − (1 − 1/n)$^{L}$)")
    axes.errorbar(steps, asked.mean(axis=1), 1.96 * asked.std(axis=1, ddof=1) / asked.shape[1] ** 0.5, capsize=2,
                  **style("time-free") | {"linestyle": "none"}, label="with the cache")  # fmt: skip
    axes.axhline(length, color=MUTED, linewidth=0.8, linestyle=":")
    axes.annotate(f"{length} characters of a text", (steps[0], length), xytext=(0, 3), textcoords="offset points",
                  fontsize=8.5)  # fmt: skip
    log_axis(axes, "xy")
    axes.set_xticks(steps, [str(n) for n in steps])
    axes.set(
        xlabel="steps of the sampler", ylabel="evaluations for a text", title="Nothing new, nothing to ask"
    )
    axes.legend(loc="lower right")
    return show(
        sheet,
        alt="Network evaluations against steps on logarithmic axes. Without a cache they grow in a straight line; with it "
        "they follow a curve that levels off below the length of a text.",
        caption=f"Mean evaluations over {asked.shape[1]} texts of {length} characters, with 95 % intervals, one seed. The "
        "network is not told the time, so its answer holds until a token changes; the curve counts the steps in which one "
        f"does. The texts are the same. Preset `{found.preset}`.",
    )


def races(chapter):
    """F10: texts drawn by races in fewer digits look better to a judge, and have lost variety."""
    found = stored(chapter, "sedd_absorb", OTHERS)
    run = found and writer(found.runs, "race float64 bits")
    if not run:
        return absent("drawing in fewer digits")
    steps = int(run["race_steps"])
    kinds = [(f"race\n{digits}", f"race {digits}") for digits in ("float16", "float32", "float64")]
    if f"tweedie {steps} bits" in run:
        kinds.append(("exact\ndraws", f"tweedie {steps}"))
    kinds.append(("held-out\ntext", "held out"))
    sheet, panels = figure(WIDTH, 4.6, rows=2, sharex=True)
    for axes, what, label in zip(
        panels, ("bits", "entropy"), ("judge’s bits per letter", "token entropy, bits"), strict=True
    ):
        found_here = [interval(run[f"{key} {what}"]) for _, key in kinds]
        for place, (mean, half) in enumerate(found_here[:-1]):
            axes.errorbar(place, mean, half, capsize=3, marker="o", markersize=6, color=SERIES[0].colour)
        low, high = (f(m + sign * h for m, h in found_here[:-1]) for f, sign in ((min, -1), (max, 1)))
        real, half = found_here[-1]
        if low - 1.5 * (high - low) < real < high + 1.5 * (high - low):
            axes.axhline(real, **TRUTH)
            axes.errorbar(len(kinds) - 1, real, half, capsize=3, marker="s", markersize=6, color="black")
        else:  # far away it would leave no room for what is compared
            axes.annotate(f"{real:.2f}\n" + ("↓" if real < low else "↑"), (len(kinds) - 1, low), ha="center",
                          va="bottom", color="black")  # fmt: skip
        axes.grid(False, axis="x")
        axes.set_ylabel(label)
    few, many = (interval(run[f"race {digits} bits"]) for digits in ("float16", "float64"))
    better = few[0] + few[1] < many[0] - many[1]
    panels[0].set_title(
        "Fewer digits seem to write better …" if better else "What the judge sees of digits …"
    )
    panels[1].set_title("… and what they do to variety")
    panels[1].set_xticks(range(len(kinds)), [label for label, _ in kinds])
    panels[1].set_xlim(-0.5, len(kinds) - 0.5)
    return show(
        sheet,
        alt="Judge’s bits above and token entropy below, for texts drawn by races in float16, float32 and float64, by "
        "exact draws, and for held-out text, each a mark with an interval.",
        caption=f"SEDD with masks, {steps} steps, {len(run['held out bits'])} texts each, one seed, 95 % intervals over "
        "texts. A race in few digits cannot draw the rarest, as if at a lower temperature. Black: held-out text. "
        f"Preset `{found.preset}`.",
    )

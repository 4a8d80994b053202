"""The chapter's pictures of what networks write: texts on their way, judged texts, gaps that are filled, and their cost."""

from functools import wraps
from html import escape

import numpy as np

from loupe.diffusion.discrete.samplers import LAST_TIME
from loupe.experiment.render import Block, score_table
from loupe.experiment.results import absent
from loupe.papers.drawing import Picture, drawn_from
from loupe.papers.sedd.claims import expected_evaluations
from loupe.papers.sedd.figures import METHODS
from loupe.papers.sedd.figures_text import interval, style, words
from loupe.plotting import BLACK, MUTED, SERIES, TRUTH, figure, log_axis, reverse_path

MONO = "font-family:var(--pst-font-family-monospace,monospace);white-space:pre-wrap;overflow-wrap:anywhere"
QUIET, COLOURED = "var(--loupe-quiet,#56616f)", "var(--loupe-accent,#0f766e)"
WRITERS = ("sedd_absorb", "sedd_uniform", "autoregressive")


def quality(run, method="tweedie"):
    """Judge's bits per character and distance of bigrams at each number of steps."""
    steps = run["sample_steps"]
    return tuple(
        np.array([np.mean(run[f"{method} {n} {what}"]) for n in steps]) for what in ("bits", "bigrams")
    )


def from_texts(*names):
    """Give a figure, for each experiment, the first run whose network also wrote texts: some seeds only train."""
    what = "writing with trained networks"

    def decorate(draw):
        @wraps(draw)
        def of_writers(found, **options):
            every = found.runs if len(names) > 1 else {names[0]: found.runs}
            wrote = [[run for run in runs if any(" tokens" in key for key in run)] for runs in every.values()]
            return draw(found, *(runs[0] for runs in wrote), **options) if all(wrote) else absent(what)

        return drawn_from(*names, what=what, seeds="")(of_writers)

    return decorate


@from_texts("sedd_absorb", "sedd_uniform")
def paths(found, masks, uniform):
    """F1, to play with: texts that come out of masks, and out of random characters."""
    return reverse_path(
        {"masks": masks["path"], "random characters": uniform["path"]},
        np.linspace(1, LAST_TIME, int(masks["race_steps"]) + 1),
        title=f"A text comes out of the noise (preset {found.preset})",
        alt="A text of small networks at three moments on its way and at its end, each character colored by when it was "
        "fixed: characters appear all over the text, in no order.",
    )


@from_texts(*WRITERS)
def quality_figure(found, masks, uniform, causal):
    """F6: the judge's bits, entropy and bigrams of written texts against the number of steps."""
    sheet, panels = figure(height=7.2, rows=3, sharex=True)
    steps = masks["sample_steps"]
    for name, run in (("SEDD absorb", masks), ("SEDD uniform", uniform)):
        for method in run["sample_methods"]:
            label, line, _ = METHODS[str(method)]
            look = style(name, hollow=method == "euler") | {"linestyle": line, "label": f"{name}, {label}"}
            judged, pairs = quality(run, method)
            entropy = [run[f"{method} {n} entropy"].mean() for n in run["sample_steps"]]
            for axes, values in zip(panels, (judged, entropy, pairs), strict=True):
                axes.plot(run["sample_steps"], values, **look)
    judged = quality(masks)[0]
    better = "More steps write better text …" if judged[-1] < judged[0] else "More steps …"
    rows = (
        ("bits", "judge’s bits per character", better),
        ("entropy", "token entropy, bits", "… with the variety of real text?"),
        ("bigrams", "distance of bigrams", "… and with its pairs of characters?"),
    )
    for axes, (what, label, title) in zip(panels, rows, strict=True):
        level = np.mean(causal[f"autoregressive {what}"])
        axes.axhline(level, color=SERIES[1].colour, linewidth=1.4, label="autoregressive")
        axes.axhline(np.mean(masks[f"held out {what}"]), **TRUTH, label="held-out text")
        axes.set(ylabel=label, title=title)
    log_axis(panels[2], "xy")
    panels[2].set_xticks(steps, [str(n) for n in steps])
    panels[2].set_xlabel("steps of the sampler")
    panels[2].legend(ncols=2, loc="upper center", bbox_to_anchor=(0.5, -0.3), columnspacing=1)
    return Picture(
        sheet,
        "Three panels against the number of steps: bits of a judge, token entropy and distance of bigrams, for masks and "
        "for uniform noise, with levels of the autoregressive network and of held-out text.",
        f"{len(masks['held out bits'])} texts for each mark, from networks of one seed, drawn exactly. The judge is a "
        "5-gram model of the training text; two to its bits is the generative perplexity per character. Token entropy is "
        "that of the characters within one text. Distance: total variation of pairs of characters from the training "
        "text; few held-out texts are at a distance too. With masks and log-linear noise Euler is Tweedie.",
    )


def _texts(kind, lines, parts, note):
    style = f"color:{QUIET};margin-top:.8rem"
    note_html = f'<div style="{style}">{escape(note)}</div>'
    html = f'<div class="loupe-{kind}" style="font-size:.85rem">{"".join(parts)}{note_html}</div>'
    return Block("\n".join([*lines, note]), html)


@from_texts(*WRITERS)
def samples_table(found, masks, uniform, causal, each=2):
    """The first texts of each sampler as they came, with the judge's bits."""
    few, many = masks["sample_steps"][[0, -1]]
    most = uniform["sample_steps"][-1]
    rows = (
        ("held-out text", masks, "held out"),
        (f"SEDD absorb, {many} steps", masks, f"tweedie {many}"),
        (f"SEDD absorb, {few} steps", masks, f"tweedie {few}"),
        (f"SEDD uniform, {most} steps", uniform, f"tweedie {most}"),
        ("autoregressive", causal, "autoregressive"),
    )
    lines, parts = [], []
    for label, run, key in rows:
        # The label stands once, above its texts, so that a phone has the whole width for them.
        parts.append(f'<div style="color:{QUIET};margin-top:.8rem">{escape(label)}</div>')
        for tokens, bits in zip(run[f"{key} tokens"][:each], run[f"{key} bits"], strict=False):
            text, cost = words(tokens), f"{bits:.2f}"
            lines.append(f"{label}, {cost} bits: {text}")
            parts.append(
                f'<div style="display:flex;gap:.8rem;margin:.15rem 0"><span style="color:{QUIET};'
                f'font-variant-numeric:tabular-nums">{cost}</span><span style="{MONO}">{escape(text)}</span></div>'
            )
    note = f"Judge’s bits per character, and the text. The first {each} of each as they came. Preset {found.preset}."
    return _texts("samples", lines, parts, note)


@from_texts("sedd_absorb")
def infill_figure(found, run, texts=3, margin=24):
    """F8: the middle of held-out texts, true, written with both sides given, and with one."""
    place = np.flatnonzero(run["infill_place"])
    start, stop = place[0], place[-1] + 1
    kinds = (("as it was", "truth"), ("both sides given", "tokens_both"),
             ("only the text before it given", "tokens_before"))  # fmt: skip
    lines, parts = [], []
    for k in range(min(texts, len(run["infill_truth"]))):
        for label, key in kinds:
            tokens = run[f"infill_{key}"][k]
            before, fill = words(tokens[max(0, start - margin) : start]), words(tokens[start:stop])
            after = "" if key == "tokens_before" else words(tokens[stop : stop + margin])
            lines.append(f"{label:<30} {before}[{fill}]{after}")
            look = "400" if key == "truth" else f"600;color:{COLOURED}"
            parts.append(
                f'<div style="margin:.2rem 0"><div style="color:{QUIET};font-size:.8rem">{label}</div>'
                f'<div style="{MONO}"><span style="color:{QUIET}">{escape(before)}</span>'
                f'<span style="border-bottom:1px solid;font-weight:{look}">{escape(fill)}</span>'
                f'<span style="color:{QUIET}">{escape(after)}</span></div></div>'
            )
        lines.append("")
        parts.append('<div style="height:1.1rem"></div>')
    note = (
        f"The first {min(texts, len(run['infill_truth']))} held-out texts; {stop - start} characters to fill in "
        f"(underlined), up to {margin} on either side shown. Preset {found.preset}."
    )
    return _texts("fills", lines, parts, note)


@from_texts("sedd_absorb")
def infill_table(found, run):
    """Bits of the true middle, and how near what was written comes to held-out text."""
    both, before = run["infill_bits_both"], run["infill_bits_before"]
    near = {name: f"{float(run[f'infill_mauve_{name}']):.3f}" for name in ("both", "before", "strangers")}
    rows = [
        ("both sides", both, near["both"]),
        ("only before", before, near["before"]),
        ("the same middles, interchanged", None, near["strangers"]),
        ("both less only before", both - before, None),
    ]
    head = ("given", f"bits per character of the true middle, {found.preset}",
            "MAUVE-27, middles and three characters around")  # fmt: skip
    return score_table(head, rows, digits=3)


@from_texts("time_free")
def evaluations(found, run):
    """F9: how often a network without time is evaluated for a text, with and without the cache."""
    steps, counts, length = run["sample_steps"], run["evaluations"], int(run["length"])
    sheet, axes = figure(height=3.5)
    fine = np.geomspace(min(steps), max(steps), 200)
    axes.plot(steps, steps + 1, color=MUTED, label="without a cache")
    axes.plot(fine, expected_evaluations(fine, length), **TRUTH, label="n (1 − (1 − 1/n)$^{L}$)")
    axes.errorbar(steps, counts.mean(axis=1), 1.96 * counts.std(axis=1, ddof=1) / counts.shape[1] ** 0.5, capsize=2,
                  **style("time-free") | {"linestyle": "none"}, label="with the cache")  # fmt: skip
    axes.axhline(length, color=MUTED, linewidth=0.8, linestyle=":")
    axes.annotate(
        f"{length} characters of a text", (steps[0], length), xytext=(0, 3), textcoords="offset points"
    )
    log_axis(axes, "xy")
    axes.set_xticks(steps, [str(n) for n in steps])
    axes.set(
        xlabel="steps of the sampler",
        ylabel="evaluations for a text",
        title="Nothing new, nothing to compute",
    )
    axes.legend(loc="lower right")
    return Picture(
        sheet,
        "Network evaluations against steps on logarithmic axes. Without a cache they grow in a straight line; with it "
        "they follow a curve that levels off below the length of a text.",
        f"Mean evaluations over {counts.shape[1]} texts of {length} characters, with 95 % intervals, one seed. The "
        "network does not depend on the time, so its answer holds until a token changes; the curve counts the steps in "
        "which one does. The texts are the same.",
    )


@from_texts("sedd_absorb")
def races(found, run):
    """F10: texts drawn by exponential races in fewer digits look better to a judge, and have lost variety."""
    steps = int(run["race_steps"])
    kinds = {f"race\n{digits}": f"race {digits}" for digits in ("float16", "float32", "float64")}
    if f"tweedie {steps} bits" in run:
        kinds["exact\ndraws"] = f"tweedie {steps}"
    kinds["held-out\ntext"] = "held out"
    sheet, panels = figure(height=4.6, rows=2, sharex=True)
    rows = (("bits", "judge’s bits per character"), ("entropy", "token entropy, bits"))
    for axes, (what, label) in zip(panels, rows, strict=True):
        *drawn, (real, half) = (interval(run[f"{key} {what}"]) for key in kinds.values())
        means, halves = np.array(drawn).T
        axes.errorbar(range(len(drawn)), means, halves, capsize=3, marker="o", markersize=6, color=SERIES[0].colour,
                      linestyle="none")  # fmt: skip
        low, high = (means - halves).min(), (means + halves).max()
        if low - 1.5 * (high - low) < real < high + 1.5 * (high - low):
            axes.axhline(real, **TRUTH)
            axes.errorbar(len(drawn), real, half, capsize=3, marker="s", markersize=6, color=BLACK)
        else:  # far away it would leave no room for what is compared
            axes.annotate(f"{real:.2f}\n" + ("↓" if real < low else "↑"), (len(drawn), low), ha="center",
                          va="bottom", color=BLACK)  # fmt: skip
        axes.grid(False, axis="x")
        axes.set_ylabel(label)
    few, many = (interval(run[f"race {digits} bits"]) for digits in ("float16", "float64"))
    better = few[0] + few[1] < many[0] - many[1]
    panels[0].set_title(
        "Fewer digits seem to write better …" if better else "What the judge sees of digits …"
    )
    panels[1].set_title("… and what they do to variety")
    panels[1].set_xticks(range(len(kinds)), list(kinds))
    panels[1].set_xlim(-0.5, len(kinds) - 0.5)
    return Picture(
        sheet,
        "Judge’s bits above and token entropy below, for texts drawn by exponential races in float16, float32 and "
        "float64, by exact draws, and for held-out text, each a mark with an interval.",
        f"SEDD with masks, {steps} steps, {len(run['held out bits'])} texts each, one seed, 95 % intervals over texts. "
        "An exponential race in few digits cannot draw the rarest characters, as if at a lower temperature. Black: "
        "held-out text.",
    )

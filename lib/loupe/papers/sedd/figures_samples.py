"""The chapter's pictures of what networks write: texts on their way, judged texts, gaps that are filled, and their cost."""

from html import escape

import numpy as np

from loupe.diffusion.discrete.samplers import LAST_TIME
from loupe.experiment.render import Block, table
from loupe.experiment.results import absent, stored
from loupe.papers.sedd.claims import expected_evaluations, quality
from loupe.papers.sedd.figures import METHODS, WIDTH
from loupe.papers.sedd.figures_text import OTHERS, interval, style, trained, words, writer
from loupe.plotting import MUTED, SERIES, TRUTH, figure, log_axis, reverse_path, show

MONO = "font-family:var(--pst-font-family-monospace,monospace);white-space:pre-wrap;overflow-wrap:anywhere"
QUIET, COLOURED = "var(--loupe-quiet,#56616f)", "var(--loupe-accent,#0f766e)"
_WRITERS = ("SEDD absorb", "SEDD uniform", "autoregressive")


def paths(chapter):
    """F1, to play with: texts that come out of masks, and out of random letters."""
    found = {
        name: stored(chapter, experiment, OTHERS)
        for name, experiment in (("masks", "sedd_absorb"), ("random letters", "sedd_uniform"))
    }
    runs = {name: one.runs.first for name, one in found.items() if one is not None}
    if not runs:
        return absent("the texts on their way")
    steps = int(next(iter(runs.values()))["race_steps"])
    return reverse_path(
        {name: run["path"] for name, run in runs.items()},
        np.linspace(1, LAST_TIME, steps + 1),
        title="A text comes out of the noise",
        alt="A text of small networks at three moments on its way and at its end, each letter coloured by when it was "
        "fixed: letters appear all over the text, in no order.",
    )


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
        ("the same middles, interchanged", "strangers"),
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

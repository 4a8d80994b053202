"""What trained networks write: texts on their way, judged texts, filled gaps, and what they cost."""

from html import escape

import numpy as np

from loupe.data.text import ALPHABET
from loupe.diffusion.discrete.samplers import LAST_TIME
from loupe.experiment.claims import t_interval
from loupe.experiment.render import Block, score_table
from loupe.experiment.results import row
from loupe.papers.drawing import Picture, drawn_from
from loupe.papers.sedd.claims import PLAIN, texts
from loupe.papers.sedd.figures_text import style
from loupe.plotting import GROUND, SERIES, TRUTH, figure, log_axis, reverse_path

MONO = "font-family:var(--pst-font-family-monospace,monospace);white-space:pre-wrap;overflow-wrap:anywhere"
QUIET, COLORED = "var(--loupe-quiet,#56616f)", "var(--loupe-accent,#0f766e)"
WRITERS = ("samples_absorb", "samples_uniform", "samples_autoregressive")
WRITING = {"what": "sampling from trained networks", "partial": True}


@drawn_from("samples_absorb", "samples_uniform", **WRITING)
def paths(found):
    """The hero: texts that come out of masks, and out of random characters."""
    kinds = {"masks": "samples_absorb", "random characters": "samples_uniform"}
    return reverse_path(
        {name: found[experiment].first["path"] for name, experiment in kinds.items()},
        np.linspace(1, LAST_TIME, found.settings.race_steps + 1),
        title=f"SEDD writes, step by step (preset {found.preset}, {found.settings.training.steps:,} training steps)",
        alt="A text at three moments of its generation and at its end, each character colored by when it was fixed: "
        "characters appear all over the text, in no order.",
    )


def words(tokens):
    """Tokens as text, with an underscore for a mask."""
    return "".join((ALPHABET + "_")[min(token, 27)] for token in np.asarray(tokens).tolist())


def row_of(found, name, **options):
    """A writer's texts with these options: texts ``(samples, L)``, judge's bits ``(samples,)``."""
    run = dict(found[f"samples_{name}"].first) | {"bits": found["judged"].first[f"{name}_network"]}
    return [row(run, value, **PLAIN | options) for value in ("tokens", "bits")]


@drawn_from(*WRITERS, "judged", "infilling", **WRITING)
def samples(found, each=2):
    """The first texts of each sampler as they came, with the judge's bits."""
    config, top_p = found.settings, found.settings.nuclei[1]
    few, many = config.sample_steps[0], config.sample_steps[-1]
    rows = {
        "held-out novels": (found["infilling"].first["truth"], found["judged"].first["held_out_network"][0]),
        f"SEDD Absorb, {many} steps": row_of(found, "absorb", steps=many),
        f"SEDD Absorb, {few} steps": row_of(found, "absorb", steps=few),
        f"SEDD Absorb, {config.race_steps} steps, nucleus {top_p}": row_of(found, "absorb", top_p=top_p),
        f"SEDD Uniform, {many} steps": row_of(found, "uniform", steps=many),
        "autoregressive": row_of(found, "autoregressive", cached=True),
        f"autoregressive, nucleus {top_p}": row_of(found, "autoregressive", top_p=top_p),
    }
    lines, parts = [], []
    for label, (written, costs) in rows.items():
        # The label stands once, above its texts, so that a phone has the whole width for them.
        parts.append(f'<div style="color:{QUIET};margin-top:.8rem">{escape(label)}</div>')
        for tokens, cost in zip(written[:each], costs, strict=False):
            lines.append(f"{label}, {cost:.2f} bits: {words(tokens)}")
            parts.append(
                f'<div style="display:flex;gap:.8rem;margin:.15rem 0"><span style="color:{QUIET};'
                f'font-variant-numeric:tabular-nums">{cost:.2f}</span><span style="{MONO}">{words(tokens)}</span></div>'
            )
    note = f"The first {each} texts of each, not selected, and their bits per character under the judge."
    return _texts("samples", lines, parts, f"{note} Preset {found.preset}, seed {found.first_seed}.")


def _texts(kind, lines, parts, note):
    note_html = f'<div style="color:{QUIET};margin-top:.8rem">{escape(note)}</div>'
    html = f'<div class="loupe-{kind}" style="font-size:.85rem">{"".join(parts)}{note_html}</div>'
    return Block("\n".join([*lines, note]), html)


# --- quality ------------------------------------------------------------------------------------------------


@drawn_from(*WRITERS, "judged", **WRITING)
def steps_figure(found):
    """C9: the judge's bits against the number of steps, beside autoregressive and held-out text."""
    sheet, axes = figure(height=3.9)
    for name, method, look in (
        ("absorb", "tweedie", {"label": "SEDD Absorb"}),
        ("uniform", "tweedie", {"label": "SEDD Uniform, Tweedie"}),
        ("uniform", "euler", {"label": "SEDD Uniform, Euler", "linestyle": "--", "markerfacecolor": GROUND}),
    ):
        steps, values = texts(found, name, method=method)
        halves = [np.ptp(t_interval(column)) / 2 if len(column) > 2 else 0.0 for column in values.T.tolist()]
        look = style(f"SEDD {name.title()}") | look
        axes.errorbar(steps, values.mean(0), halves, capsize=2, **look)
    causal, real = texts(found, "autoregressive")[1][:, 0].mean(), found["judged"]["held_out_network"].mean()
    axes.axhline(causal, color=SERIES[1].color, label="autoregressive")
    axes.axhline(real, **TRUTH, label="held-out text")
    log_axis(axes)
    axes.set_xticks(steps, [str(n) for n in steps])
    axes.set(xlabel="sampling steps", ylabel="judge’s bits per character")
    axes.legend(ncols=2, loc="upper center", bbox_to_anchor=(0.5, -0.18))
    return Picture(
        sheet,
        "Bits per character under a judge against the number of sampling steps: curves for masks and for uniform tokens, "
        "level lines for autoregressive and for held-out text.",
        "Generative perplexity as bits per character (2 to these bits): what the sampled text costs an autoregressive "
        f"judge trained on other novels. {found.settings.samples} texts of {found.settings.length} characters per point "
        "and seed; bars are 95 % t intervals over seeds, where there are three.",
    )


def _mean(found, name, kind, **options):
    """Mean over seeds and texts, of those written with these options."""
    return texts(found, name, kind, **options)[1][:, 0].mean()


@drawn_from(*WRITERS, "judged", **WRITING)
def frontier(found):
    """C10: the judge's bits against entropy, along numbers of steps, temperatures and nuclei."""
    config, (sheet, axes) = found.settings, figure(height=4.2)

    def draw(name, choices, label, **look):
        kinds = ("entropy", "network")
        points = [[_mean(found, name, kind, **one) for one in choices] for kind in kinds]
        axes.plot(*points, label=label, **look)

    for name, label in (("absorb", "SEDD Absorb"), ("autoregressive", "autoregressive")):
        start, color = {"steps": config.race_steps} if name == "absorb" else {}, style(label)["color"]
        hot, nuclei = ({"temperature": t} for t in config.temperatures), ({"top_p": p} for p in config.nuclei)
        draw(name, [start, *hot], f"{label}, temperature", color=color, linestyle="-", marker="o")
        draw(name, [start, *nuclei], f"{label}, nucleus", color=color, linestyle="--", marker="s")
    look = {"color": style("SEDD Uniform")["color"], "linestyle": ":", "marker": "^"}
    draw("uniform", [{"steps": n} for n in config.sample_steps], "SEDD Uniform, steps", **look)
    real = [found["judged"][f"held_out_{kind}"].mean() for kind in ("entropy", "network")]
    axes.plot(*real, "*", color=TRUTH["color"], markersize=10, label="held-out text")
    axes.set(xlabel="entropy of characters within a text, bits", ylabel="judge’s bits per character")
    axes.legend(ncols=2, loc="upper center", bbox_to_anchor=(0.5, -0.16))
    return Picture(
        sheet,
        "Judge’s bits against the entropy of the text. Curves for SEDD Absorb and for the autoregressive network along "
        "temperatures and nuclei, for SEDD Uniform along steps, and a star for held-out text.",
        f"Quality against diversity. SEDD Absorb with {config.race_steps} steps and the autoregressive network, each at "
        f"temperature 1 (right end), then at {', '.join(map(str, config.temperatures))} or with a nucleus of "
        f"{', '.join(map(str, config.nuclei))}; SEDD Uniform with {config.sample_steps[0]} to {config.sample_steps[-1]} "
        "steps. Low bits at low entropy are repetition, not quality: compare at equal entropy, and with the star.",
    )


@drawn_from(*WRITERS, "samples_time_free", "judged", **WRITING)
def costs(found):
    """Network evaluations (NFE) and CPU time per text, beside its quality."""
    some = [n for n in found.settings.sample_steps if n in (16, 64, 256)] or found.settings.sample_steps
    rows = [
        ("AR, cached", "autoregressive", {"cached": True}),
        ("AR, no cache", "autoregressive", {"cached": False}),
        *((f"SEDD, {n} steps", "absorb", {"steps": n}) for n in some),
        *((f"time-free, {n} steps", "time_free", {"steps": n}) for n in some),
        ("first hitting", "time_free", {"steps": 0}),
    ]
    kinds = {"evaluations": 1, "seconds": 1000, "network": 1}
    shown = [
        (label, *(scale * texts(found, name, kind, **options)[1][:, 0] for kind, scale in kinds.items()))
        for label, name, options in rows
    ]
    return score_table((f"sampler ({found.label})", "NFE", "CPU ms", "judge’s bits"), shown, digits=(1, 1, 2))


@drawn_from("samples_absorb", "judged", **WRITING)
def races(found):
    """Texts drawn by exponential sampling in fewer digits: better to the judge, and less diverse."""
    kinds, judged = ("network", "entropy"), found["judged"]
    options = {digits: {"race": digits} for digits in ("float16", "float32", "float64")}
    options["exact draws"] = {"steps": found.settings.race_steps}
    rows = [
        (label, *(texts(found, "absorb", kind, **one)[1][:, 0] for kind in kinds))
        for label, one in options.items()
    ]
    rows.append(("held-out text", *(judged[f"held_out_{kind}"].mean((1, 2)) for kind in kinds)))
    head = (f"precision, {found.label}", "judge’s bits per character", "entropy, bits")
    return score_table(head, rows, digits=3)


# --- filling in ---------------------------------------------------------------------------------------------


@drawn_from("infilling", "counted_infilling", **WRITING)
def infills(found, each=3, margin=24):
    """The middle of held-out texts: as it was, and as three models fill it."""
    run, counts = found["infilling"].first, found["counted_infilling"].first
    start, stop = run["place"][0], run["place"][-1] + 1
    kinds = {"the novel": run["truth"], "SEDD, both sides": run["both_tokens"], "5-grams, both sides": counts["tokens"],
             "autoregressive, left side": run["autoregressive_tokens"]}  # fmt: skip
    lines, parts, count = [], [], min(each, len(run["truth"]))
    for k in range(count):
        for label, tokens in kinds.items():
            text, first = words(tokens[k]), max(0, start - margin)
            before, fill, after = text[first:start], text[start:stop], text[stop : stop + margin]
            lines.append(f"{label:<26} {before}[{fill}]{after}")
            look = "400" if label == "the novel" else f"600;color:{COLORED}"
            parts.append(
                f'<div style="margin:.2rem 0"><div style="color:{QUIET};font-size:.8rem">{label}</div>'
                f'<div style="{MONO}"><span style="color:{QUIET}">{before}</span><span style="border-bottom:1px solid;'
                f'font-weight:{look}">{fill}</span><span style="color:{QUIET}">{after}</span></div></div>'
            )
        lines.append("")
        parts.append('<div style="height:1.1rem"></div>')
    note = f"The first {count} held-out texts, with {stop - start} characters to fill in (underlined)."
    return _texts("fills", lines, parts, f"{note} Preset {found.preset}, seed {found['infilling'].seeds[0]}.")


@drawn_from("infilling", "counted_infilling", **WRITING)
def infill_table(found):
    """Bits of the true middle, and how what was filled in fits the page."""
    runs, counts = found["infilling"], found["counted_infilling"].first

    def mean(name):
        return runs[name].mean(-1) if name in runs.first else None

    rows = {
        "SEDD, both sides": "both", "SEDD, left side": "before", "autoregressive, left side": "autoregressive",
        f"the same, nucleus {found.settings.infill_top_p}": "nucleus",
    }  # fmt: skip
    shown = [
        (label, mean(f"bits_{name}"), mean(f"{name}_network"), 100 * mean(f"{name}_right"))
        for label, name in rows.items()
    ]
    shown.append(("5-grams, both sides", [counts["bits"].mean()], None, [100 * counts["right"].mean()]))
    shown.append(("the true middle", None, mean("truth_network"), None))
    head = (f"model ({found.preset})", "bits of the true middle", "judge’s bits", "right, %")
    return score_table(head, shown, digits=(3, 3, 1), best=("min", "", ""))

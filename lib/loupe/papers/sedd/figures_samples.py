"""What trained networks write: texts on their way, judged texts, filled gaps, and what they cost."""

from html import escape
from itertools import pairwise

import numpy as np

from loupe.data.text import ALPHABET
from loupe.diffusion.discrete.samplers import LAST_TIME
from loupe.experiment.render import Block, score_table
from loupe.papers.drawing import Picture, drawn_from
from loupe.papers.sedd.claims import texts
from loupe.papers.sedd.figures_text import interval, style
from loupe.plotting import GROUND, SERIES, TRUTH, figure, log_axis, reverse_path

MONO = "font-family:var(--pst-font-family-monospace,monospace);white-space:pre-wrap;overflow-wrap:anywhere"
QUIET, COLORED = "var(--loupe-quiet,#56616f)", "var(--loupe-accent,#0f766e)"
WRITERS = ("samples_absorb", "samples_uniform", "samples_autoregressive")
WRITING = {"what": "sampling from trained networks", "partial": True}


@drawn_from("samples_absorb", "samples_uniform", **WRITING)
def paths(found):
    """The hero: texts that come out of masks, and out of random characters."""
    return reverse_path(
        {"masks": found["samples_absorb"].first["path"], "random characters": found["samples_uniform"].first["path"]},
        np.linspace(1, LAST_TIME, found.settings.race_steps + 1),
        title=f"SEDD writes, step by step (preset {found.preset}, {found.settings.training.steps:,} training steps)",
        alt="A text at three moments of its generation and at its end, each character colored by when it was fixed: "
        "characters appear all over the text, in no order.",
    )  # fmt: skip


def words(tokens):
    """Tokens as text, with an underscore for a mask."""
    return "".join((ALPHABET + "_")[min(token, 27)] for token in np.asarray(tokens).tolist())


def row_of(found, name, **options):
    """The first row of a writer's texts with these options: texts ``(samples, L)``, judge's bits ``(samples,)``."""
    run, judged = found[f"samples_{name}"].first, found["judged"].first
    row = np.flatnonzero(np.all([run[key] == value for key, value in options.items()], axis=0))[0]
    return run["tokens"][row], judged[f"{name}_network"][row]


@drawn_from(*WRITERS, "judged", "infilling", **WRITING)
def samples(found, each=2):
    """The first texts of each sampler as they came, with the judge's bits."""
    few, many = (found["samples_absorb"].first["steps"][k] for k in (0, len(found.settings.sample_steps) - 1))
    top_p = found.settings.nuclei[1]
    plain = {"temperature": 1.0, "top_p": 1.0}
    rows = {
        "held-out novels": (found["infilling"].first["truth"], found["judged"].first["held_out_network"][0]),
        f"SEDD Absorb, {many} steps": row_of(found, "absorb", steps=many, **plain),
        f"SEDD Absorb, {few} steps": row_of(found, "absorb", steps=few, **plain),
        f"SEDD Absorb, {found.settings.race_steps} steps, nucleus {top_p}": row_of(found, "absorb", top_p=top_p),
        f"SEDD Uniform, {many} steps": row_of(found, "uniform", steps=many, method="tweedie"),
        "autoregressive": row_of(found, "autoregressive", **plain),
        f"autoregressive, nucleus {top_p}": row_of(found, "autoregressive", top_p=top_p),
    }  # fmt: skip
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
    note = (
        f"The first {each} texts of each, not selected, and their bits per character under the judge. Preset "
        f"{found.preset}, seed {found.first_seed}."
    )
    return _texts("samples", lines, parts, note)


def _texts(kind, lines, parts, note):
    note_html = f'<div style="color:{QUIET};margin-top:.8rem">{escape(note)}</div>'
    html = f'<div class="loupe-{kind}" style="font-size:.85rem">{"".join(parts)}{note_html}</div>'
    return Block("\n".join([*lines, note]), html)


# --- quality ------------------------------------------------------------------------------------------------


def _spread(values):
    """Mean and half of a 95 % interval over seeds ``(seeds,)``; none for fewer than three."""
    return interval(values) if len(values) > 2 else (float(np.mean(values)), 0.0)


@drawn_from(*WRITERS, "judged", **WRITING)
def steps_figure(found):
    """C9: the judge's bits against the number of steps, beside autoregressive and held-out text."""
    sheet, axes = figure(height=3.9)
    for name, method, look in (
        ("absorb", "tweedie", {"label": "SEDD Absorb"}),
        ("uniform", "tweedie", {"label": "SEDD Uniform, Tweedie"}),
        ("uniform", "euler", {"label": "SEDD Uniform, Euler", "linestyle": "--", "markerfacecolor": GROUND}),
    ):
        steps, found_bits = texts(found, name, method=method)
        means, halves = zip(*map(_spread, found_bits.T), strict=True)
        axes.errorbar(steps, means, halves, capsize=2, **style(f"SEDD {name.title()}") | look)
    causal = texts(found, "autoregressive")[1][:, 0].mean()
    axes.axhline(causal, color=SERIES[1].color, label="autoregressive")
    axes.axhline(found["judged"]["held_out_network"].mean(), **TRUTH, label="held-out text")
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
    )  # fmt: skip


@drawn_from(*WRITERS, "judged", **WRITING)
def frontier(found):
    """C10: the judge's bits against entropy, along numbers of steps, temperatures and nuclei."""
    config, sheet = found.settings, figure(height=4.2)
    sheet, axes = sheet
    hot, nuclei = ([{key: one} for one in values] for key, values in (("temperature", config.temperatures),
                                                                     ("top_p", config.nuclei)))  # fmt: skip
    for name, rank, label in (("absorb", "SEDD Absorb", "SEDD Absorb"), ("autoregressive",) * 3):
        start = {"steps": config.race_steps} if name == "absorb" else {}
        for choices, line, marker, how in ((hot, "-", "o", "temperature"), (nuclei, "--", "s", "nucleus")):
            points = np.array([_point(found, name, **one) for one in [start, *choices]])
            axes.plot(
                *points.T, linestyle=line, marker=marker, color=style(rank)["color"], label=f"{label}, {how}"
            )
    points = np.array([_point(found, "uniform", steps=n) for n in config.sample_steps])
    axes.plot(*points.T, ":^", color=style("SEDD Uniform")["color"], label="SEDD Uniform, steps")
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
    )  # fmt: skip


def _point(found, name, steps=None, **options):
    """Entropy and judge's bits of a writer's texts, mean over seeds."""
    rows = [texts(found, name, kind, **options) for kind in ("entropy", "network")]
    at = 0 if steps is None else list(rows[0][0]).index(steps)
    return [values[:, at].mean() for _, values in rows]


@drawn_from(*WRITERS, "samples_time_free", "judged", **WRITING)
def costs(found):
    """Network evaluations (NFE) and CPU time per text, beside its quality."""
    some = [n for n in found.settings.sample_steps if n in (16, 64, 256)] or found.settings.sample_steps
    rows = [("AR, cached", *_cost(found, "autoregressive", cached=True)),
            ("AR, no cache", *_cost(found, "autoregressive", cached=False))]  # fmt: skip
    rows += [(f"SEDD, {n} steps", *_cost(found, "absorb", steps=n)) for n in some]
    rows += [(f"time-free, {n} steps", *_cost(found, "time_free", steps=n)) for n in some]
    rows += [("first hitting", *_cost(found, "time_free", steps=0))]
    head = (f"sampler ({found.label})", "NFE", "CPU ms", "judge’s bits")
    return score_table(head, rows, digits=(1, 1, 2))


def _cost(found, name, **options):
    runs, judged = found[f"samples_{name}"], found["judged"]
    plain = options | {"temperature": 1.0, "top_p": 1.0, "race": ""}
    row = np.flatnonzero(np.all([runs.first[key] == value for key, value in plain.items()], axis=0))[0]
    scores = judged[f"{name}_network"][:, row].mean(-1)
    return runs["evaluations"][:, row].mean(-1), 1000 * runs["seconds"][:, row], scores


@drawn_from("samples_absorb", "judged", **WRITING)
def races(found):
    """Texts drawn by exponential sampling in fewer digits: better to the judge, and less diverse."""
    rows = [
        (digits, *(texts(found, "absorb", kind, race=digits)[1][:, 0] for kind in ("network", "entropy")))
        for digits in ("float16", "float32", "float64")
    ]
    exact = list(texts(found, "absorb")[0]).index(found.settings.race_steps)
    rows.append(
        ("exact draws", *(texts(found, "absorb", kind)[1][:, exact] for kind in ("network", "entropy")))
    )
    real = (found["judged"][f"held_out_{kind}"].mean((1, 2)) for kind in ("network", "entropy"))
    rows.append(("held-out text", *real))
    return score_table(
        (f"precision, {found.label}", "judge’s bits per character", "entropy, bits"), rows, digits=3
    )


# --- filling in ---------------------------------------------------------------------------------------------


@drawn_from("infilling", "counted_infilling", **WRITING)
def infills(found, each=3, margin=24):
    """The middle of held-out texts: as it was, and as three models fill it."""
    run, counts = found["infilling"].first, found["counted_infilling"].first
    start, stop = run["place"][0], run["place"][-1] + 1
    kinds = {"the novel": run["truth"], "SEDD, both sides": run["both_tokens"], "5-grams, both sides": counts["tokens"],
             "autoregressive, left side": run["autoregressive_tokens"]}  # fmt: skip
    lines, parts = [], []
    for k in range(min(each, len(run["truth"]))):
        for label, tokens in kinds.items():
            bounds = max(0, start - margin), start, stop, stop + margin
            before, fill, after = (words(tokens[k][a:b]) for a, b in pairwise(bounds))
            lines.append(f"{label:<26} {before}[{fill}]{after}")
            look = "400" if label == "the novel" else f"600;color:{COLORED}"
            parts.append(
                f'<div style="margin:.2rem 0"><div style="color:{QUIET};font-size:.8rem">{label}</div>'
                f'<div style="{MONO}"><span style="color:{QUIET}">{before}</span><span style="border-bottom:1px solid;'
                f'font-weight:{look}">{fill}</span><span style="color:{QUIET}">{after}</span></div></div>'
            )
        lines.append("")
        parts.append('<div style="height:1.1rem"></div>')
    note = (
        f"The first {min(each, len(run['truth']))} held-out texts, with {stop - start} characters to fill in (underlined). "
        f"Preset {found.preset}, seed {found['infilling'].seeds[0]}."
    )
    return _texts("fills", lines, parts, note)


@drawn_from("infilling", "counted_infilling", **WRITING)
def infill_table(found):
    """Bits of the true middle, and how what was filled in fits the page."""
    runs, counts = found["infilling"], found["counted_infilling"].first
    rows = (
        ("SEDD, both sides", "both", "both"),
        ("SEDD, left side", "before", "before"),
        ("autoregressive, left side", "autoregressive", "autoregressive"),
        (f"the same, nucleus {found.settings.infill_top_p}", None, "nucleus"),
    )
    mean = lambda key: runs[key].mean(-1)  # noqa: E731
    shown = [
        (label, cost and mean(f"bits_{cost}"), mean(f"{name}_network"), 100 * mean(f"{name}_right"))
        for label, cost, name in rows
    ]
    shown.append(("5-grams, both sides", [counts["bits"].mean()], None, [100 * counts["right"].mean()]))
    shown.append(("the true middle", None, mean("truth_network"), None))
    head = (f"model ({found.preset})", "bits of the true middle", "judge’s bits", "right, %")
    return score_table(head, shown, digits=(3, 3, 1), best=("min", "", ""))

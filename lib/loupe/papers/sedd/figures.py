"""The chapter's pictures of losses, samplers with exact scores, the paper's own numbers, and what networks have learned."""

import numpy as np
from matplotlib.patches import Rectangle

from loupe import plotting
from loupe.data.text import ALPHABET
from loupe.experiment.render import Block, score_table, table
from loupe.experiment.results import find, row, stored_at
from loupe.papers.drawing import Picture, bench_table, drawn_from
from loupe.papers.sedd.claims import IGNORANT, bits, common
from loupe.papers.sedd.claims_reported import LM1B, TEXT8, ZERO_SHOT, ZERO_SHOT_SETS
from loupe.plotting import SERIES, TRUTH, figure, log_axis, shades, show, thumbnail_axes

CORE = {
    "SEDD Absorb": "sedd_absorb", "autoregressive": "autoregressive", "SEDD Uniform": "sedd_uniform", "MDLM": "mdlm",
    "D3PM": "d3pm",
}  # fmt: skip
"""The methods that are compared throughout, in the order of their colors, with their experiments."""

MORE = {"concrete score": "concrete_score", "time-free": "time_free", "constant noise": "constant_noise"}
"""Controls, which may be computed later."""

LONGER = {"SEDD Absorb": "long_absorb", "autoregressive": "long_autoregressive"}
REPORTED = TEXT8 | {"D3PM": TEXT8["D3PM Absorb"], "autoregressive": TEXT8["autoregressive transformer"]}
TEXTS = dict(valid="novels", wikitext2="wiki", ptb="news", shakespeare="plays", state_union="speeches")


def barrier():
    """Score entropy and the squared error around a true ratio of 0.2."""
    r, s, beside = 0.2, np.geomspace(2e-4, 3, 400), {"textcoords": "offset points"}
    entropy, square = s - r * np.log(s) + r * (np.log(r) - 1), (s - r) ** 2 / 2
    sheet, panels = figure(height=4.4, rows=2, sharex=True)
    for label, loss, slope, line, color in (
        ("score entropy", entropy, 1 - r / s, "-", SERIES[0].color),
        ("half the squared error", square, s - r, "--", SERIES[1].color),
    ):
        panels[0].plot(s, loss, line, color=color)
        panels[1].plot(s, slope, line, color=color)
        panels[0].annotate(label, (s[60], loss[60]), xytext=(8, 4), color=color, **beside)
    for axes in panels:
        axes.axvline(r, **TRUTH)
    panels[0].annotate("true ratio 0.2", (r, 1.5), xytext=(-5, 0), ha="right", **beside)
    panels[0].set(ylim=(-0.05, 1.7), ylabel="loss", title="Score entropy is a barrier at 0")
    log_axis(panels[1], "x")
    panels[1].set(ylim=(-4, 3), ylabel="derivative", xlabel="estimated ratio s")
    show(
        sheet,
        alt="Two losses of an estimated ratio on a logarithmic axis, both zero at the true ratio 0.2. Towards 0 score "
        "entropy and its slope grow without bound, while the squared error flattens at 0.02.",
        caption="Loss of an estimate s when the true ratio is r = 0.2, and its derivative in s. Half the squared error "
        "never exceeds r²/2 below r. Score entropy, s − r log s + r (log r − 1), grows without bound towards 0.",
    )


@drawn_from("oracle_samplers", what="sampling with exact scores", seeds="")
def oracle(found):
    """C11: samplers with the exact scores of a bigram chain."""
    run = found.runs.first
    steps, highest = run["steps"], np.nanmax(run["bits"]) - run["entropy"]
    sheet, panels = figure(height=3.4, columns=2, sharey=True)
    looks = {"tweedie": {"fmt": "-o"}, "euler": {"fmt": "--s", "markerfacecolor": plotting.GROUND}}
    chains = (("absorbing", "Masks", SERIES[0].color), ("uniform", "Uniform tokens", SERIES[2].color))
    for axes, (chain, title, color) in zip(panels, chains, strict=True):
        for method, look in looks.items():
            label = f"{chain}, geometric, {method}"
            bits, error = (row(run, value, samplers=label) for value in ("bits", "bits_error"))
            look |= {"color": color, "capsize": 2, "label": method.title()}
            axes.errorbar(steps, bits - run["entropy"], 1.96 * error, **look)
        axes.axhline(0, **TRUTH)
        axes.set_yscale("symlog", linthresh=0.05, linscale=0.4)
        axes.legend(loc="lower left", bbox_to_anchor=(0, 0.12))
        axes.set_yticks(levels := (0, 0.1, 0.3, 1, 3), [str(level) for level in levels])
        log_axis(axes)
        axes.set_xticks(steps, [str(n) for n in steps])
        axes.set(xlabel="steps", title=title)
    panels[0].set(ylabel="bits above the entropy", ylim=(-0.03, 1.2 * highest))
    return Picture(
        sheet,
        "Excess bits per character against the number of steps, masks left and uniform tokens right, Tweedie solid and "
        "Euler dashed. All curves fall towards 0.",
        "Error of the sampler alone: geometric noise and the exact scores of a bigram chain. Bits per character under the "
        f"chain minus its entropy, {found.settings.oracle_sequences:,} texts per point, 95 % intervals; 0 is perfect.",
    )


# --- the paper's numbers, speed -----------------------------------------------------------------------------


def paper_tables():
    """The paper's tables 1 to 3, with SEDD Absorb against each row."""
    own, tables = "SEDD Absorb", {}
    tables["table 1, perplexity", *ZERO_SHOT_SETS] = [
        (f"{name}, {size}", *(f"{a:.2f} ({_percent(b / a)})" for a, b in zip(row, rows[own], strict=True)))
        for size, rows in ZERO_SHOT.items() for name, row in rows.items()
    ]  # fmt: skip
    tables["table 2, text8", "bits per character", "SEDD minus this"] = [
        (name, f"{one:.2f}", f"{TEXT8[own] - one:+.2f}".replace("-", "−")) for name, one in TEXT8.items()
    ]
    tables["table 3, LM1B", "perplexity", "SEDD against this"] = [
        (name, f"{one:.2f}", _percent(LM1B[own] / one)) for name, one in LM1B.items()
    ]
    blocks = [table(head, rows, numeric=True) for head, rows in tables.items()]
    return Block("\n\n".join(map(str, blocks)), "".join(block.html for block in blocks))


def _percent(ratio):
    return f"{100 * (ratio - 1):+.0f}\u00a0%".replace("-", "−")


def loss_table(bench):
    """Score entropy of 50,257 tokens, forward and backward together, on one thread."""
    columns = {
        "chain": "{graph}", "corrupted": "{lost tokens, share:.0%}", "code": "{method}", "CPU ms": "{both, ms:.1f}",
        "memory, in score tensors": "{peak, score tensors:.1f}",
    }  # fmt: skip
    large = [row for row in bench["rows"] if "peak, score tensors" in row]
    rows = [row | {"method": row["method"].replace("loupe", "ours")} for row in large]
    return bench_table({"rows": rows}, "Score entropy", columns)


# --- what networks have learned -----------------------------------------------------------------------------


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
    run, names = beside(found, "counted").first, {1: "unigram counts", 2: "bigram counts"}
    levels = zip(run["orders"].tolist(), run[f"bits_{text}"].mean(-1).tolist(), strict=True)
    return {"uniform guess": IGNORANT} | {names.get(n, f"{n}-gram counts"): level for n, level in levels}


from_training = drawn_from(*CORE.values(), what="training", partial=True)


@from_training
def curves(found):
    """Validation bits per character while training, for all methods, beside the trivial rows."""
    sheet, axes = figure(height=4.6)
    methods, levels, config = trained(found), counted(found), found.settings
    longer = {name: runs for name, one in LONGER.items() if (runs := beside(found, one))}
    for name, runs in methods.items():
        steps, look = runs.first["curve_steps"], style(name) | {"marker": "none"}
        look["zorder"] = 3 if name == "SEDD Absorb" else 2  # else MDLM and D3PM hide it
        axes.plot(steps, runs["curve_strict"].T, **look, linewidth=0.6, alpha=0.5)
        axes.plot(steps, runs["curve_strict"].mean(0), **look, label=name)
    for name, runs in longer.items():
        look = style(name) | {"marker": "none", "linestyle": "--", "label": f"{name}, longer"}
        axes.plot(runs.first["curve_steps"], runs["curve_strict"].mean(0), **look)
    log_axis(axes)
    for name, level in levels.items():
        if name != "4-gram counts":
            axes.axhline(level, color=plotting.INK, linewidth=0.7, linestyle=(0, (1, 2)), zorder=1)
            place = {"xycoords": ("axes fraction", "data"), "va": "center", "color": plotting.MUTED}
            axes.annotate(f"{name.partition(' ')[0]} {level:.2f}", (1.01, level), **place)
    thin = "Thin lines: seeds; thick: their mean. " if len(methods["SEDD Absorb"]) > 1 else ""
    last = [runs["curve_strict"].mean(0)[-1] for runs in methods.values()]
    limits = min(*last, *levels.values()) - 0.1, max(5, *last) + 0.1
    axes.set(ylim=limits, xlabel="training steps", ylabel="bits per character")
    axes.legend(ncols=2, loc="upper center", bbox_to_anchor=(0.5, -0.16))
    return Picture(
        sheet,
        "Bits per character on validation text against training steps on a logarithmic axis, one color per method, above "
        "and below dotted levels of n-gram counts.",
        "Validation bits per character of the averaged weights (EMA). For diffusion the strict bound is drawn, for the "
        f"autoregressive network the exact value. {thin}A point takes {config.curve_sequences} sequences with "
        f"{config.curve_times} times each, the table {config.sequences:,} with {config.times}, so the last points differ "
        "from the table. Dotted: models that only count the training text.",
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
    head = (f"method ({found.label})", "bits", "minus SEDD Absorb", "paper, text8")
    return score_table(head, rows, digits=(2, 3, 2))


@from_training
def zero_shot(found):
    """Strict bits per character on texts of other kinds."""
    texts = [str(text) for text in found["sedd_absorb"].first["texts"]]
    rows = [(name, *(bits(found[one], text, "strict") for text in texts)) for name, one in CORE.items()]
    rows.append(("5-gram counts", *([counted(found, text)["5-gram counts"]] for text in texts)))
    head = (f"bits ({found.label})", *(TEXTS[text] for text in texts))
    return score_table(head, rows, digits=2, best="min")


# --- landing page -------------------------------------------------------------------------------------------


def thumbnail(chapter, target):
    """A text coming out of masks, each character in the color of the step at which it was fixed."""
    path = find(chapter, ["samples_absorb"], partial=True).runs.first["path"][0]
    columns, rows = 24, 13
    path = path[np.linspace(0, len(path) - 1, rows).round().astype(int), :columns]
    fixed, colors = (path < 27).argmax(axis=0), shades(rows)
    letter = {"family": "DejaVu Sans Mono", "fontsize": 17, "weight": "bold", "ha": "center", "va": "center"}
    with thumbnail_axes(target) as axes:
        for (at, column), token in np.ndenumerate(path):
            masked, new = token >= 27, at == fixed[column]
            if masked or new:
                side, color = (0.84, plotting.GRID) if masked else (0.92, colors[at])
                corner = (column - side / 2, at - side / 2)
                axes.add_patch(Rectangle(corner, side, side, color=color, linewidth=0))
            if not masked:
                color = plotting.GROUND if new else colors[fixed[column]]
                axes.text(column, at + 0.02, ALPHABET[token], color=color, **letter)
        axes.set(xlim=(-0.6, columns - 0.4), ylim=(rows - 0.4, -0.6))

"""The chapter's pictures of losses, samplers with exact scores, the paper's own numbers, and what networks have learned."""

import numpy as np

from loupe.experiment.render import Block, score_table, table
from loupe.experiment.results import find, row
from loupe.papers.drawing import Picture, bench_table, drawn_from, learning_curves
from loupe.papers.sedd.claims import IGNORANT, bits, common
from loupe.papers.sedd.claims_reported import LM1B, TEXT8, ZERO_SHOT, ZERO_SHOT_SETS
from loupe.plotting import GROUND, SERIES, TRUTH, figure, log_axis, reverse_path_thumbnail, show

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
    """Score entropy and the squared error around a true ratio."""
    r, s, beside = 0.2, np.geomspace(2e-4, 3, 400), {"textcoords": "offset points"}
    entropy, square = s - r * np.log(s) + r * (np.log(r) - 1), (s - r) ** 2 / 2
    sheet, panels = figure(height=4.4, rows=2, sharex=True)
    curves = {"score entropy": (entropy, 1 - r / s), "half the squared error": (square, s - r)}
    for k, (label, each) in enumerate(curves.items()):
        look = {"color": SERIES[k].color, "linestyle": ("-", "--")[k]}
        for axes, values in zip(panels, each, strict=True):
            axes.plot(s, values, **look)
            axes.axvline(r, **TRUTH)
        panels[0].annotate(label, (s[60], each[0][60]), xytext=(8, 4), color=SERIES[k].color, **beside)
    panels[0].annotate("true ratio 0.2", (r, 1.5), xytext=(-5, 0), ha="right", **beside)
    panels[0].set(ylim=(-0.05, 1.7), ylabel="loss", title="Score entropy is a barrier at 0")
    log_axis(panels[1], "x")
    panels[1].set(ylim=(-4, 3), ylabel="derivative", xlabel="estimated ratio s")
    show(
        sheet,
        alt="Two losses of an estimated ratio on a logarithmic axis, both zero at the true ratio 0.2. Towards 0 score "
        "entropy and its slope grow without bound, while the squared error flattens at 0.02.",
        caption="Loss of an estimate s when the true ratio is r = 0.2, and its derivative in s. Towards 0, half the "
        "squared error never exceeds r²/2; score entropy grows without bound.",
    )


@drawn_from("oracle_samplers", what="sampling with exact scores", seeds="")
def oracle(found):
    """C11: samplers with the exact scores of a bigram chain."""
    run = found.runs.first
    steps = run["steps"]
    sheet, panels = figure(height=3.4, columns=2, sharey=True)
    looks = {"tweedie": {"fmt": "-o"}, "euler": {"fmt": "--s", "markerfacecolor": GROUND}}
    chains = {"absorbing": ("Masks", SERIES[0]), "uniform": ("Uniform tokens", SERIES[2])}
    for axes, (chain, (title, rank)) in zip(panels, chains.items(), strict=True):
        for method, look in looks.items():
            label = {"samplers": f"{chain}, geometric, {method}"}
            bits, error = row(run, "bits", **label) - run["entropy"], 1.96 * row(run, "bits_error", **label)
            axes.errorbar(steps, bits, error, **look, color=rank.color, capsize=2, label=method.title())
        axes.axhline(0, **TRUTH)
        axes.set_yscale("symlog", linthresh=0.05, linscale=0.4)
        axes.legend(loc="lower left", bbox_to_anchor=(0, 0.12))
        axes.set_yticks(levels := (0, 0.1, 0.3, 1, 3), [str(level) for level in levels])
        log_axis(axes)
        axes.set_xticks(steps, [str(n) for n in steps])
        axes.set(xlabel="steps", title=title)
    highest = np.nanmax(run["bits"]) - run["entropy"]
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
    for size, rows in ZERO_SHOT.items():
        for names in filter(None, ([*rows][:3], [*rows][3:])):  # few columns, so that they fit a phone
            of_sets = zip(ZERO_SHOT_SETS, rows[own], *(rows[name] for name in names), strict=True)
            tables[f"table 1, {size}", *names] = [
                (of, *(f"{one:.2f} {_percent(ours / one)}" for one in each)) for of, ours, *each in of_sets
            ]
    less = {name: f"{TEXT8[own] - one:+.2f}".replace("-", "−") for name, one in TEXT8.items()}
    tables["table 2, text8", "bits per character", "SEDD minus this"] = [
        (k, f"{v:.2f}", less[k]) for k, v in TEXT8.items()
    ]
    rows = [(name, f"{one:.2f}", _percent(LM1B[own] / one)) for name, one in LM1B.items()]
    tables["table 3, LM1B", "perplexity", "SEDD against this"] = rows
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


def trained(found):
    """The runs of every method that has been trained at the preset, by its name."""
    more = {name: found.beside(experiment) for name, experiment in MORE.items()}
    runs = {name: found[experiment] for name, experiment in CORE.items()} | more
    return {name: each for name, each in runs.items() if each}


def counted(found, text="valid"):
    """Bits per character of the trivial rows: knowing nothing, and n-gram counts of the training text."""
    run, names = found.beside("counted").first, {1: "unigram counts", 2: "bigram counts"}
    levels = zip(run["orders"].tolist(), run[f"bits_{text}"].mean(-1).tolist(), strict=True)
    return {"uniform guess": IGNORANT} | {names.get(n, f"{n}-gram counts"): level for n, level in levels}


from_training = drawn_from(*CORE.values(), what="training", partial=True)


@from_training
def curves(found):
    """Validation bits per character while training, for all methods, beside the trivial rows."""
    (sheet, axes), config = figure(height=4.6), found.settings
    drawn = [(name, style(name) | {"zorder": 2}, runs) for name, runs in trained(found).items()]
    drawn[0][1]["zorder"] = 3  # else MDLM and D3PM hide SEDD Absorb
    for name, one in LONGER.items():
        if runs := found.beside(one):
            drawn.append((f"{name}, longer", style(name) | {"linestyle": "--"}, runs))
    lines = {
        name: (runs.first["curve_steps"], runs["curve_strict"], look | {"marker": "none"})
        for name, look, runs in drawn
    }
    levels = {name.partition(" ")[0]: level for name, level in counted(found).items() if name[0] != "4"}
    learning_curves(axes, lines, levels)
    axes.set(xlabel="training steps", ylabel="bits per character")
    return Picture(
        sheet,
        "Bits per character on validation text against training steps on a logarithmic axis, one color per method, above "
        "and below dotted levels of n-gram counts.",
        "Validation bits per character of the averaged weights (EMA, an exponential moving average). For diffusion the "
        "strict bound is drawn, for the autoregressive network the exact value. Thin lines: seeds; thick: their mean. A "
        f"point takes {config.curve_sequences} sequences with {config.curve_times} times each, the table "
        f"{config.sequences:,} with {config.times}. Dotted: models that only count the training text.",
    )


@from_training
def likelihoods(found, paper=True):
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
    columns = slice(4 if paper else 3)
    return score_table(head[columns], [row[columns] for row in rows], digits=(2, 3, 2)[: 3 if paper else 2])


@drawn_from(*CORE.values(), what="the short training", presets=["cpu"], partial=True)
def quick(found):
    """The same after the short runs, without the paper's numbers."""
    return likelihoods.__wrapped__(found, paper=False)


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
    reverse_path_thumbnail(path, target)

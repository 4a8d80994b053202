"""The chapter's pictures that need no trained network: losses, samplers with exact scores, the paper's own numbers."""

import numpy as np
from matplotlib.patches import Rectangle

from loupe.data.text import ALPHABET
from loupe.experiment.render import Block, table
from loupe.experiment.results import find
from loupe.papers.drawing import Picture, bench_table, drawn_from
from loupe.papers.sedd.claims_reported import LM1B, TEXT8, ZERO_SHOT, ZERO_SHOT_SETS
from loupe.plotting import GRID, GROUND, SERIES, TRUTH, figure, log_axis, shades, show, thumbnail_axes

MASKS, UNIFORM = SERIES[0].color, SERIES[2].color
STEPS = {"tweedie": ("Tweedie", "-", "o"), "euler": ("Euler", "--", "s")}


def barrier():
    """Score entropy and the squared error around a true ratio of 0.2."""
    r, s = 0.2, np.geomspace(2e-4, 3, 400)
    curves = (
        (s - r * np.log(s) + r * (np.log(r) - 1), 1 - r / s, SERIES[0].color, "-", "score entropy"),
        ((s - r) ** 2 / 2, s - r, SERIES[1].color, "--", "half the squared error"),
    )
    sheet, panels = figure(height=4.4, rows=2, sharex=True)
    for loss, slope, color, line, label in curves:
        panels[0].plot(s, loss, line, color=color)
        panels[1].plot(s, slope, line, color=color)
        panels[0].annotate(label, (s[60], loss[60]), xytext=(8, 4), textcoords="offset points", color=color)
    for axes in panels:
        axes.axvline(r, **TRUTH)
    panels[0].annotate("true ratio 0.2", (r, 1.5), xytext=(-5, 0), textcoords="offset points", ha="right")
    panels[0].set(ylim=(-0.05, 1.7), ylabel="loss", title="Score entropy is a barrier at 0")
    panels[1].set(ylim=(-4, 3), ylabel="derivative")
    log_axis(panels[1], "x")
    panels[1].set_xlabel("estimated ratio s")
    show(
        sheet,
        alt="Two losses of an estimated ratio on a logarithmic axis, both zero at the true ratio 0.2. Towards 0 score "
        "entropy and its slope grow without bound, while the squared error flattens at 0.02.",
        caption="Loss of an estimate s when the true ratio is r = 0.2, and its derivative in s. An estimate near 0 costs a "
        "squared error of at most r²/2. Score entropy, s − r log s + r (log r − 1), has no such ceiling.",
    )


@drawn_from("oracle_samplers", what="sampling with exact scores", seeds="")
def oracle(found):
    """C11: samplers with the exact scores of a bigram chain."""
    run = found.runs.first
    steps, surplus = run["steps"], run["bits"] - run["entropy"]
    sheet, panels = figure(height=3.4, columns=2, sharey=True)
    for k, (graph, noise, method) in enumerate(str(name).split(", ") for name in run["samplers"]):
        if noise == "log-linear":  # there both methods are one
            continue
        axes, color = (panels[0], MASKS) if graph == "absorbing" else (panels[1], UNIFORM)
        label, line, marker = STEPS[method]
        axes.errorbar(steps, surplus[k], 1.96 * run["bits_error"][k], capsize=2, linestyle=line, marker=marker,
                      color=color, markerfacecolor=GROUND if method == "euler" else color, label=label)  # fmt: skip
    for axes, title in zip(panels, ("Masks", "Uniform tokens"), strict=True):
        axes.axhline(0, **TRUTH)
        axes.set_yscale("symlog", linthresh=0.05, linscale=0.4)
        axes.set_title(title)
        axes.legend(loc="lower left", bbox_to_anchor=(0, 0.12))
        log_axis(axes)
        axes.set_xticks(steps, [str(n) for n in steps])
        axes.set_xlabel("steps")
    panels[0].set(ylabel="bits above the entropy", ylim=(-0.03, 1.2 * np.nanmax(surplus)))
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
    own, zero_shot = "SEDD Absorb", [
        (f"{name}, {size}", *(f"{a:.2f} ({_percent(b / a)})" for a, b in zip(row, rows["SEDD Absorb"], strict=True)))
        for size, rows in ZERO_SHOT.items() for name, row in rows.items()
    ]  # fmt: skip
    text8 = [
        (name, f"{one:.2f}", f"{TEXT8[own] - one:+.2f}".replace("-", "−")) for name, one in TEXT8.items()
    ]
    lm1b = [(name, f"{one:.2f}", _percent(LM1B[own] / one)) for name, one in LM1B.items()]
    blocks = [
        table(head, rows, numeric=True)
        for head, rows in (
            (("table 1, perplexity", *ZERO_SHOT_SETS), zero_shot),
            (("table 2, text8", "bits per character", "SEDD minus this"), text8),
            (("table 3, LM1B", "perplexity", "SEDD against this"), lm1b),
        )
    ]
    return Block("\n\n".join(map(str, blocks)), "".join(block.html for block in blocks))


def _percent(ratio):
    return f"{100 * (ratio - 1):+.0f}\u00a0%".replace("-", "−")


def loss_table(bench):
    """Score entropy of 50,257 tokens, forward and backward together, on one thread."""
    rows = [
        row | {"method": row["method"].replace("loupe", "ours")}
        for row in bench["rows"]
        if row["task"] == "Score entropy" and "peak, score tensors" in row
    ]
    columns = {
        "chain": "{graph}", "corrupted": "{lost tokens, share:.0%}", "code": "{method}", "CPU ms": "{both, ms:.1f}",
        "memory, in score tensors": "{peak, score tensors:.1f}",
    }  # fmt: skip
    return bench_table({"rows": rows}, "Score entropy", columns)


# --- landing page -------------------------------------------------------------------------------------------


def thumbnail(chapter, target):
    """A text coming out of masks, each character in the color of the step at which it was fixed."""
    path = find(chapter, ["samples_absorb"], partial=True).runs.first["path"][0]
    columns, rows = 24, 13
    path = path[np.linspace(0, len(path) - 1, rows).round().astype(int), :columns]
    fixed = (path < 27).argmax(axis=0)
    colors = shades(rows)
    with thumbnail_axes(target) as axes:
        for row, column in np.ndindex(path.shape):
            token, new = path[row, column], row == fixed[column]
            if token >= 27 or new:
                side, color = (0.84, GRID) if token >= 27 else (0.92, colors[row])
                corner = (column - side / 2, row - side / 2)
                axes.add_patch(Rectangle(corner, side, side, color=color, linewidth=0))
            if token < 27:
                axes.text(column, row + 0.02, ALPHABET[token], family="DejaVu Sans Mono", fontsize=17, weight="bold",
                          ha="center", va="center", color=GROUND if new else colors[fixed[column]])  # fmt: skip
        axes.set(xlim=(-0.6, columns - 0.4), ylim=(rows - 0.4, -0.6))

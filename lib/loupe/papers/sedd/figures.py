"""The chapter's pictures of noise, losses and samplers whose scores are exact, and the paper's own numbers."""

import numpy as np
import torch
from matplotlib.patches import Rectangle

from loupe.data.text import ALPHABET, encode
from loupe.diffusion.discrete import Absorbing, GeometricNoise, LogLinearNoise, Uniform
from loupe.experiment.render import Block, table
from loupe.papers.drawing import Picture, drawn_from
from loupe.papers.sedd.claims_reported import LM1B, TEXT8, ZERO_SHOT, ZERO_SHOT_SETS
from loupe.papers.sedd.experiments import SAMPLER_STEPS
from loupe.plotting import (
    GRID,
    GROUND,
    INK,
    MUTED,
    SERIES,
    TRUTH,
    figure,
    log_axis,
    shades,
    show,
    thumbnail_axes,
)

SENTENCE = "each letter is lost at a time of its own"
RANK = {
    "SEDD absorb": 0,
    "autoregressive": 1,
    "SEDD uniform": 2,
    "D3PM": 3,
    "MDLM": 4,
    "time-free": 5,
    "concrete score": 5,
}
"""The colour of each method, in every figure; the two that share one differ in their lines."""

MASKS, UNIFORM = SERIES[RANK["SEDD absorb"]].colour, SERIES[RANK["SEDD uniform"]].colour
NOISES = {
    "masks, log-linear": (LogLinearNoise(), MASKS, "-"),
    "uniform, geometric": (GeometricNoise(), UNIFORM, "--"),
}
METHODS = {"tweedie": ("Tweedie", "-", "o"), "euler": ("Euler", "--", "s")}


# --- noise and losses ---------------------------------------------------------------------------------------


def corruption():
    """F1: one sentence on its way into noise, for both graphs."""
    times = (0, 0.2, 0.4, 0.6, 0.8, 1)
    sheet, panels = figure(height=3.3, rows=2)
    kinds = (
        ("Masks say which characters are gone …", Absorbing(27), LogLinearNoise(), MASKS),
        ("… wrong characters do not", Uniform(27), GeometricNoise(), UNIFORM),
    )
    for axes, (title, graph, noise, colour) in zip(panels, kinds, strict=True):
        states = _corrupted(graph, noise, times)
        for row, (t, state) in enumerate(zip(times, states, strict=True)):
            axes.text(-0.9, row, f"{t:g}", ha="right", va="center")
            for column, (token, truth) in enumerate(zip(state, states[0], strict=True)):
                changed = token != truth
                if changed:
                    axes.add_patch(
                        Rectangle((column - 0.5, row - 0.44), 1, 0.88, color=colour, alpha=0.22, linewidth=0)
                    )
                if token < 27:
                    axes.text(column, row, ALPHABET[token], family="DejaVu Sans Mono", ha="center",
                              va="center", color=colour if changed else INK)  # fmt: skip
        axes.set(xlim=(-0.6, len(SENTENCE) - 0.4), ylim=(len(times) - 0.4, -0.6))
        axes.set_title(title)
        axes.axis("off")
        axes.text(-3.4, (len(times) - 1) / 2, "time", ha="right", va="center", rotation=90)
    show(
        sheet,
        alt="A sentence of forty characters at six times from 0 to 1. Above, more and more of them become blank tinted "
        "cells until none is left; below, more and more become other characters.",
        caption="One sentence under both kinds of noise. Above, log-linear noise: at time t a character is a mask (tinted, "
        "blank) with a probability of almost t. Below, geometric noise: characters are drawn anew, and those that differ "
        "from the sentence are tinted, which a network does not see. One draw.",
    )


def _corrupted(graph, noise, times):
    """The states of one chain at growing times, as tokens ``(times, L)``."""
    generator = torch.Generator().manual_seed(7)
    x = torch.from_numpy(encode(SENTENCE).astype(np.int64))
    totals = noise(torch.tensor(times))[0]
    states = [x]
    for step in totals[1:] - totals[:-1]:
        masked = x >= 27  # a mask stays one, and is no token to start from
        x = torch.where(masked, x, graph.corrupt(x.clamp_max(26), step, generator))
        states.append(x)
    return torch.stack(states).numpy()


def schedules():
    """F2: what both noises do over time."""
    t = torch.linspace(0, 1, 400, dtype=torch.float64)
    sheet, panels = figure(height=6.0, rows=3, sharex=True)
    for name, (noise, colour, line) in NOISES.items():
        total, rate = noise(t)
        weight = (rate / torch.expm1(total))[1:]
        panels[0].plot(t[1:], total[1:], line, color=colour, label=name)
        panels[1].plot(t, -torch.expm1(-total), line, color=colour)
        panels[2].plot(t[1:], weight, line, color=colour)
    panels[0].set(ylabel="total noise", title="One starts early, the other late")
    panels[1].set(ylabel="share of tokens hit", title="Masks come at an even pace")
    panels[2].set(ylabel="weight in the loss", title="Scores count most when few are hit")
    for axes in panels[[0, 2]]:
        log_axis(axes, "y")
    panels[0].set_yticks([1e-4, 1e-2, 1], ["0.0001", "0.01", "1"])
    panels[0].legend(loc="lower right")
    panels[2].set(xlabel="time t")
    show(
        sheet,
        alt="Three panels over time. Total noise grows gently for log-linear noise and by a factor of 200,000 in a "
        "straight line on a log axis for geometric noise. The share of tokens hit is a straight line for the one and "
        "stays near zero until time 0.5 for the other. The weight falls over several decades for both.",
        caption="Total noise, the share of tokens that it has hit, and the weight of a score in the loss, which is the "
        "rate of noise over expm1 of the total. For masks and log-linear noise the share is (1 − ε) t, the weight 1 / t.",
    )


def barrier():
    """F3: score entropy and the squared error around a true ratio of 0.2."""
    r = 0.2
    s = np.geomspace(2e-4, 3, 400)
    entropy = s - r * np.log(s) + r * (np.log(r) - 1)
    square = (s - r) ** 2 / 2
    sheet, panels = figure(height=4.6, rows=2, sharex=True)
    curves = (
        (entropy, 1 - r / s, SERIES[0].colour, "-", "score entropy"),
        (square, s - r, SERIES[RANK["concrete score"]].colour, "--", "half the squared error"),
    )
    for loss, slope, colour, line, label in curves:
        panels[0].plot(s, loss, line, color=colour)
        panels[1].plot(s, slope, line, color=colour)
        panels[0].annotate(label, (s[60], loss[60]), xytext=(8, 4), textcoords="offset points", color=colour)
    for axes in panels:
        axes.axvline(r, **TRUTH)
    panels[0].annotate("true ratio 0.2", (r, 1.5), xytext=(-5, 0), textcoords="offset points", ha="right")
    panels[0].set(ylim=(-0.05, 1.7), ylabel="loss", title="Score entropy is a wall at 0 …")
    panels[1].set(ylim=(-4, 3), ylabel="slope of the loss", title="… and its slope has no bound there")
    log_axis(panels[1], "x")
    panels[1].set_xlabel("ratio s that a network gives")
    show(
        sheet,
        alt="Two losses of a guessed ratio on a logarithmic axis, both zero at the true ratio 0.2. Towards 0 score entropy "
        "rises and its slope falls below any bound, while the squared error flattens at 0.02.",
        caption="One true ratio r = 0.2 and the loss of a guess s. A ratio of nearly 0 costs the squared error at "
        "most r²/2, so a network may call anything rare impossible; score entropy, s − r log s + r (log r − 1), has no "
        "bound there. Below, the derivatives.",
    )


# --- identities ---------------------------------------------------------------------------------------------


@drawn_from("identities", what="checking the identities", seeds="")
def tightness(found):
    """F4: the bound of each text against its negative log-likelihood, at true and at wrong scores."""
    run = found.runs.first
    sheet, panels = figure(height=3.1, columns=len(run["graphs"]), sharex=True, sharey=True)
    for k, axes in enumerate(panels):
        nats, true, wrong = (run[name][0, k] for name in ("nats", "bound_true", "bound_wrong"))
        ends = [nats.min(), nats.max()]
        axes.plot(ends, ends, **TRUTH, zorder=1)
        axes.plot(nats, wrong, "x", color=SERIES[1].colour, markersize=3.5, alpha=0.8, label="wrong scores")
        axes.plot(nats, true, "o", color=SERIES[0].colour, markersize=3, label="true scores")
        axes.set(xlabel="−log p, nats", title=("Masks: exact if true", "Uniform: the same")[k])
        axes.set_aspect("equal", adjustable="box")
        axes.set(xticks=range(0, int(ends[1]) + 5, 5), yticks=range(0, int(ends[1]) + 5, 5))
    panels[0].set_ylabel("bound, nats")
    panels[0].legend(loc="lower right", handletextpad=0.2, borderpad=0)
    return Picture(
        sheet,
        "For both kinds of noise, the bound of 81 texts against their exact negative log-likelihood. With true scores all "
        "points lie on the diagonal; with wrong scores most lie above it, and a few below.",
        "The bound of theorem 3.6 for each of the 81 texts of one random distribution (of "
        f"{run['nats'].shape[0]}), with a quadrature for the integral. With true scores it is the negative log-likelihood "
        "itself. With wrong scores it lies higher on average; a single text may be more likely under a wrong model.",
    )


@drawn_from("identities", what="checking the identities", seeds="")
def steps_of_exact_score(found):
    """How far from the data's distribution a sampler ends that takes n steps with the exact scores, enumerated."""
    run = found.runs.first
    graphs = list(run["graphs"])
    distances = run["sampler_distances"].reshape(-1, len(graphs), len(METHODS), len(SAMPLER_STEPS))
    sheet, panels = figure(height=3.3, columns=len(graphs), sharey=True)
    for k, (axes, graph) in enumerate(zip(panels, graphs, strict=True)):
        colour = MASKS if graph == "absorbing" else UNIFORM
        for m, (label, line, marker) in enumerate(METHODS.values()):
            curves = distances[:, k, m]
            axes.plot(SAMPLER_STEPS, curves.T, line, color=colour, linewidth=0.5, alpha=0.3)
            axes.plot(SAMPLER_STEPS, np.median(curves, axis=0), line, color=colour, marker=marker, label=label,
                      markerfacecolor=GROUND if m else colour)  # fmt: skip
        title = ("Masks: ", "Uniform: ")[k] + _ahead(np.median(distances[:, k], axis=0))
        axes.set(xlabel="steps", title=title)
        axes.legend(loc="lower left")
        log_axis(axes, "xy")
        axes.set_xticks(SAMPLER_STEPS, SAMPLER_STEPS)
    panels[0].set_ylabel("total variation")
    return Picture(
        sheet,
        "Total variation between what a sampler writes and the distribution it should write, falling with the number "
        "of steps on logarithmic axes, for masks and for uniform noise, Tweedie solid and Euler dashed.",
        "The distribution of a whole text after n steps with exact scores and geometric noise, enumerated: "
        f"{len(distances)} random distributions over 81 texts (thin) and their median (thick). Tweedie steps are the best "
        "single steps that draw tokens independently (C4); what n of them give is another question. More steps leave less "
        "to guess at once.",
    )


def _ahead(medians):
    """What is true of the distances of Tweedie and of Euler ``(2, steps)``."""
    behind = medians[0] > medians[1]
    if not behind.any():
        return "Tweedie ahead"
    first = behind.argmax()
    return f"Euler ahead from {SAMPLER_STEPS[first]}" if behind[first:].all() else "no order"


@drawn_from("oracle_samplers", what="writing with exact scores", seeds="")
def oracle(found):
    """C11: samplers with the exact scores of a bigram chain."""
    run = found.runs.first
    steps, surplus = run["steps"], run["bits"] - run["entropy"]
    sheet, panels = figure(height=5.6, rows=2, columns=2, sharex=True, sharey="row")
    for k, (graph, noise, method) in enumerate(str(name).split(", ") for name in run["samplers"]):
        column, twins = int(graph == "uniform"), noise == "log-linear"
        if twins and method == "euler":
            continue  # the same draws as Tweedie's
        label, line, marker = METHODS[method]
        colour = MUTED if twins else (MASKS, UNIFORM)[column]
        style = {"color": colour, "linestyle": ":" if twins else line, "marker": "D" if twins else marker,
                 "markerfacecolor": GROUND if method == "euler" else colour,
                 "label": "log-linear, both" if twins else f"{noise}, {label}"}  # fmt: skip
        done = np.isfinite(surplus[k])
        panels[0, column].plot(steps[done], run["distances"][k][done], **style)
        halves = 1.96 * run["bits_error"][k][done]
        panels[1, column].errorbar(steps[done], surplus[k][done], halves, capsize=2, **style)
    for column, title in enumerate(("Masks: schedule first", "Uniform: Euler late")):
        panels[0, column].axhline(run["floor"], **TRUTH)
        panels[0, column].set_title(title)
        panels[1, column].set_xlabel("steps")
        panels[1, column].legend(loc="upper center", bbox_to_anchor=(0.5, -0.24), borderpad=0)
        log_axis(panels[1, column], "x")
        panels[1, column].set_xticks(steps, [str(n) for n in steps])
    panels[0, 0].annotate("floor", (steps[0], run["floor"]), xytext=(0, 3), textcoords="offset points")
    log_axis(panels[0, 0], "y")
    if np.nanmin(surplus) > 0:
        log_axis(panels[1, 0], "y")
    else:  # chance may take a mean below the entropy
        panels[1, 0].set_yscale("symlog", linthresh=0.01, linscale=0.5)
        panels[1, 0].set_ylim(min(-0.01, 2 * np.nanmin(surplus)), 2 * np.nanmax(surplus))
    panels[0, 0].set_ylabel("distance of bigrams")
    panels[1, 0].set_ylabel("bits above the entropy")
    return Picture(
        sheet,
        "Two rows of panels over the number of steps, masks left and uniform noise right. Above, the distance of "
        "bigrams falls towards a dashed floor; below, the surplus of bits under the chain falls towards zero.",
        f"{found.settings.oracle_sequences:,} texts of each sampler, written with the exact scores of a bigram chain, so "
        "that all error is the sampler's. Above: total variation of pairs of characters, and the floor of texts of the "
        "chain itself (dashed). Below: bits per character under the chain less its entropy, with 95 % intervals; 0 is "
        "right. Masks with log-linear noise: both methods are the same, computed up to 8 steps.",
    )


# --- the paper's numbers ------------------------------------------------------------------------------------


def headline_table():
    """The paper's tables 1 to 3, with what SEDD with masks gains on each row."""
    own, text8, lm1b = "SEDD Absorb", TEXT8["SEDD Absorb"], LM1B["SEDD Absorb"]
    blocks = (
        table(("table 1, perplexity", *ZERO_SHOT_SETS), [
            (f"{name}, {size}", *(_against(theirs, ours, name) for theirs, ours in zip(row, rows[own], strict=True)))
            for size, rows in ZERO_SHOT.items() for name, row in rows.items()
        ], numeric=True),
        table(("table 2, text8", "bits", "SEDD less this"), [
            (name, f"{value:.2f}", "" if name == own else _signed(text8 - value)) for name, value in TEXT8.items()
        ], numeric=True),
        table(("table 3, LM1B", "perplexity", "over SEDD’s", "SEDD against this"), [
            (name, f"{value:.2f}", *(("", "") if name == own else (f"{value / lm1b:.2f}", _percent(lm1b / value - 1))))
            for name, value in LM1B.items()
        ], numeric=True),
    )  # fmt: skip
    return Block("\n\n".join(map(str, blocks)), "".join(block.html for block in blocks))


def _against(theirs, own, name):
    return f"{theirs:.2f}" if name == "SEDD Absorb" else f"{theirs:.2f} ({_percent(own / theirs - 1)})"


def _percent(share):
    return f"{_signed(100 * share, 0)}\u00a0%"


def _signed(value, digits=2):
    return f"{value:+.{digits}f}".replace("-", "−")


# --- speed --------------------------------------------------------------------------------------------------


def loss_table(bench):
    """Score entropy of 50,257 tokens, forward and backward together."""
    rows = [
        (
            f"{row['graph']}, {row['lost tokens, share']:.0%} hit: {row['method'].replace('loupe', 'ours')}",
            f"{row['both, ms']:.1f}",
            f"{row['peak, score tensors']:.1f}" if "peak, score tensors" in row else "",
        )
        for row in bench["rows"]
        if row["task"] == "Score entropy" and row["sequences, length, states"][2] > 1000
    ]
    return table(("chain, tokens hit", "CPU ms", "memory"), rows, numeric=True)


# --- landing page -------------------------------------------------------------------------------------------


def thumbnail(chapter, target):
    """A text coming out of masks, each character in the colour of the step at which it was fixed."""
    run = next(run for run in chapter.stored["sedd_absorb"] if "path" in run)
    columns, rows = 24, 13
    path = run["path"][0][:, :columns]
    path = path[np.linspace(0, len(path) - 1, rows).round().astype(int)]
    fixed = (path < 27).argmax(axis=0)
    colours = shades(rows)
    with thumbnail_axes(target) as axes:
        for row, column in np.ndindex(path.shape):
            token, new = path[row, column], row == fixed[column]
            if token >= 27 or new:
                side, colour = (0.84, GRID) if token >= 27 else (0.92, colours[row])
                corner = (column - side / 2, row - side / 2)
                axes.add_patch(Rectangle(corner, side, side, color=colour, linewidth=0))
            if token < 27:
                axes.text(column, row + 0.02, ALPHABET[token], family="DejaVu Sans Mono", fontsize=17, weight="bold",
                          ha="center", va="center", color=GROUND if new else colours[fixed[column]])  # fmt: skip
        axes.set(xlim=(-0.6, columns - 0.4), ylim=(rows - 0.4, -0.6))

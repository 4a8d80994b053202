"""The chapter's pictures of charged particles, of symmetry, of time, and of what EGNO is made of."""

import numpy as np

from loupe.experiment.render import score_table, table
from loupe.papers.drawing import Picture, bench_table, drawn_from
from loupe.papers.egno.claims import bootstrap, changed, of_windows, shared_and_new, variants
from loupe.plotting import (
    BLACK,
    GROUND,
    MUTED,
    SERIES,
    TRUTH,
    figure,
    log_axis,
    series,
    thumbnail_axes,
    trajectory_view,
)

RANK = {"EGNO": 0, "EGNN-S": 1, "EGNN-R": 2, "EGNN": 3, "Linear": 5}
"""The colour of each method, in every figure."""

CHARGED = ("charged_egno", "charged_egnn", "charged_others")
HOLDER = {"Linear": "charged_others", "RF": "charged_others", "MPNN": "charged_others", "EGNN": "charged_egnn",
          "EGNN-R": "charged_egnn", "EGNN-S": "charged_egnn", "EGNO": "charged_egno"}  # fmt: skip
LABELS = {"RF": "RF (poor initialization)"}
LEARNING = ("EGNO", "EGNN", "EGNN-S")
GROUPS = {0: "charge like the first", 1: "opposite charge"}
WINDOW = r"time in the window, $\Delta t_p/\Delta T$"

from_charged = drawn_from(*CHARGED, what="prediction of charged particles")


def but_worst(errors):
    """The mean over systems but for the one with the largest error, of each seed: ``(seeds, S)`` to ``(seeds,)``."""
    return np.sort(errors, axis=1)[:, :-1].mean(1)


def _errors(found, name):
    return found[HOLDER[name]][f"{name} errors"]


def _log_error(axes):
    log_axis(axes, "y")
    axes.set(xlabel=WINDOW, ylabel="mean squared error")


# --- charged particles --------------------------------------------------------------------------------------


@from_charged
def view(found):
    """E1, to turn: true and predicted trajectories of a few test systems."""
    ours, theirs = found["charged_egno"].first, found["charged_egnn"].first
    names = {"EGNO": ours, "EGNN-S": theirs, "EGNN-R": theirs}
    every = len(ours["truth times"]) // ours["EGNO shown"].shape[1]
    scenes = {
        f"system {k + 1}": {
            "start": ours["start"][k],
            "truth": ours["truth"][k, every - 1 :: every],
            "times": ours["truth times"][every - 1 :: every],
            "predictions": {name: run[f"{name} shown"][k] for name, run in names.items()},
            "groups": np.array([0, *ours["groups"][k]], dtype=int),
        }
        for k in range(len(ours["start"]))
    }
    present = {int(group) for scene in scenes.values() for group in scene["groups"]}
    return trajectory_view(
        scenes,
        group_names={group: GROUPS[group] for group in sorted(present)},
        title=f"Five charges, predicted (preset {found.preset})",
        alt="Paths of five charged particles in space, from a common start: the true ones and those that networks "
        "predict.",
    )


@drawn_from(*CHARGED, what="prediction of charged particles", seeds="first")
def trajectories(found):
    """E2: three test systems in one plane, as EGNO and as EGNN-R predict them."""
    ours, theirs = found["charged_egno"].first, found["charged_egnn"].first
    sheet, panels = figure(height=4.0, rows=2, columns=3)
    for row, (name, run) in enumerate((("EGNO", ours), ("EGNN-R", theirs))):
        panels[row, 0].set_ylabel(name)
        for k, axes in enumerate(panels[row]):
            start, shown = ours["start"][k], run[f"{name} shown"][k]
            true = np.concatenate([start[None], ours["truth"][k]])
            every = (len(true) - 1) // len(shown)
            for i in range(len(start)):
                path = np.concatenate([start[None], shown])[:, i, :2].T
                axes.plot(*true[:, i, :2].T, color=BLACK, linewidth=1.1)
                axes.plot(*true[every::every, i, :2].T, ".", color=BLACK, markersize=3.5)
                axes.plot(*path, "--", linewidth=0.9, color=SERIES[RANK[name]].colour)
                axes.plot(*path[:, 1:], linestyle="none", markersize=3.8, markerfacecolor=GROUND, markeredgewidth=0.9,
                          **series(RANK[name]))  # fmt: skip
            axes.plot(*start[:, :2].T, "o", color=GROUND, markeredgecolor=BLACK, markersize=4)
            (x, y), reach = true.mean((0, 1))[:2], np.abs(true - true.mean((0, 1)))[..., :2].max() * 1.15
            axes.set(
                xlim=(x - reach, x + reach), ylim=(y - reach, y + reach), aspect="equal", xticks=[], yticks=[]
            )
            if row == 0:
                axes.set_title(f"system {k + 1}")
    return Picture(
        sheet,
        "Six panels with paths of five particles: three systems, above as EGNO predicts them, below as EGNN-R does.",
        f"The first three systems of the viewer, seen along z. Black: the truth, from the circles on, with dots at "
        f"{ours['EGNO shown'].shape[1]} times. Colored: predictions at these, by EGNO in one pass (above) and by EGNN-R "
        "step by step (below); what leaves the panel is cut.",
    )


def _scores(what, found, errors):
    """Mean, mean excluding the worst system, and median of errors ``(seeds, S)`` of each method."""
    rows = [
        (LABELS.get(name, name), each.mean(1), but_worst(each), np.median(each, axis=1))
        for name, each in errors.items()
    ]
    head = (f"{what}, {found.label}", "mean", "excluding the worst", "median")
    return score_table(head, rows, best="min", positive=True)


@from_charged
def scores(found):
    """T1: errors at the end of the window."""
    return _scores("F-MSE", found, {name: _errors(found, name)[..., -1] for name in HOLDER})


@from_charged
def whole_scores(found):
    """T2: errors over the whole window."""
    names = ("Linear", "EGNN-R", "EGNN-S", "EGNO")
    return _scores("A-MSE", found, {name: _errors(found, name).mean(-1) for name in names})


@drawn_from(*CHARGED, what="training on charged particles")
def costs_of_training(found):
    """T9: weights and processor time of the networks for charges."""
    rows = []
    for name in ("RF", "MPNN", "EGNN", "EGNN-R", "EGNN-S", "EGNO"):
        runs = found[HOLDER[name]]
        seconds = np.mean([run[f"{name} clock"][-1] for run in runs])
        rows.append((name, f"{int(runs.first[f'{name} parameters']):,}", f"{seconds:,.0f}"))
    return table((f"network, {found.preset}", "weights", "training, CPU-s"), rows, numeric=True)


@from_charged
def by_time(found):
    """E3: error at each time of the window."""
    sheet, axes = figure(height=3.6)
    P = _errors(found, "EGNO").shape[-1]
    times, top = np.arange(1, P + 1) / P, 0.0
    for name in ("EGNO", "EGNN-S", "EGNN-R", "Linear"):
        errors = _errors(found, name)
        means = np.mean([but_worst(each.T) for each in errors], axis=0)
        axes.plot(times, means, label=name, **series(RANK[name]))
        axes.plot(times, np.median(errors, axis=1).mean(0), ":", linewidth=1, color=SERIES[RANK[name]].colour)
        top = max(top, means[-1] if name != "EGNN-R" else 0.0)
    end = _errors(found, "EGNN")[..., -1]
    axes.plot(
        [1], [but_worst(end).mean()], linestyle="none", label="EGNN", markersize=7, **series(RANK["EGNN"])
    )
    axes.set_yscale("log")
    axes.set_ylim(top=min(axes.get_ylim()[1], 20 * top))
    _log_error(axes)
    axes.set_xticks(times)
    axes.legend(ncols=2)
    return Picture(
        sheet,
        "Curves of error against time in the window for four methods, and a point for EGNN at the end.",
        f"Error of {end.shape[1]:,} test systems at each time: means excluding the worst (lines) and medians "
        "(dotted). Each straight line has a factor fitted to its time. Where EGNN-R's mean leaves the panel, some of its "
        "rollouts have diverged.",
    )


@drawn_from(*CHARGED[:2], what="training on charged particles")
def learning(found):
    """E4: validation error against steps, and against processor time."""
    sheet, panels = figure(height=5.6, rows=2, sharey=True)
    valid, clock = [], {}
    for name in LEARNING:
        for k, run in enumerate(found[HOLDER[name]]):
            valid.append(run[f"{name} valid"])
            clock.setdefault(name, []).append(run[f"{name} clock"][-1])
            for axes, what in zip(panels, ("steps", "clock"), strict=True):
                # Of many points only some have a marker.
                axes.plot(run[f"{name} {what}"], valid[-1], label=name if k == 0 else None, **series(RANK[name]),
                          markevery=max(1, len(found[HOLDER[name]].first[f"{name} steps"]) // 10))  # fmt: skip
    first, most, least = max(each[0] for each in valid), max(map(max, valid)), min(map(min, valid))
    panels[0].set_yscale("log")
    panels[0].set_ylim(0.9 * least, 1.2 * first)
    log_axis(panels[0], "y")
    panels[0].xaxis.set_major_formatter("{x:,.0f}")
    log_axis(panels[1], "xy")
    panels[0].set(xlabel="steps of training", ylabel="F-MSE, validation", title="After as many steps")
    panels[1].set(
        xlabel="processor time of training, s", ylabel="F-MSE, validation", title="After as much time"
    )
    panels[0].legend()
    diverged = " Where a line leaves the panel, predictions of some system diverge for a while."
    return Picture(
        sheet,
        "Validation error of EGNO, EGNN and EGNN-S, falling, above against steps and below against processor time.",
        "Error at the end of the window on validation systems while networks train; a line for each seed. "
        f"A step of EGNO costs {np.mean(clock['EGNO']) / np.mean(clock['EGNN']):.1f} times one of EGNN."
        + (diverged if most > 1.2 * first else ""),
    )


@drawn_from("data_sizes", *CHARGED[:2], what="training on fewer systems")
def data_sizes(found):
    """E5: error at the end of the window against the number of systems for training."""
    sheet, axes = figure(height=3.4)
    runs, usual = found["data_sizes"], found.settings.systems
    counts = sorted([*map(int, runs.first["sizes"]), usual])
    for name in ("EGNO", "EGNN"):
        errors = [_errors(found, name) if n == usual else runs[f"{name} {n} errors"] for n in counts]
        axes.plot(
            counts, [but_worst(each[..., -1]).mean() for each in errors], label=name, **series(RANK[name])
        )
    steps, usual_steps = found.settings.size_steps, found.settings.training.steps
    other = f" ({usual_steps:,} at {usual:,} systems)" if usual_steps != steps else ""
    log_axis(axes, "xy")
    axes.set_xticks(counts, [f"{count:,}" for count in counts])
    axes.set(xlabel="systems for training", ylabel="F-MSE")
    axes.legend()
    return Picture(
        sheet,
        "Two falling lines, error against number of systems.",
        "Error at the end of the window, mean over test systems excluding the worst, after "
        f"{steps:,} steps{other}. Runs of each network: {len(runs)}, and {len(found['charged_egno'])} at {usual:,} "
        "systems.",
    )


# --- symmetry -----------------------------------------------------------------------------------------------


@drawn_from(*CHARGED, "running", what="turning the input of trained networks")
def symmetry(found):
    """T3: what turning the input does to trained networks."""
    cases = [("charges", name, "turned", "in any way") for name in ("EGNO", "EGNN", "EGNN-S", "RF", "MPNN")]
    cases += [
        ("running", "EGNO", "upright", "about the vertical"),
        ("running", "EGNO", "turned", "in any way"),
    ]
    rows = []
    for data, name, what, words in cases:
        runs = found["running" if data == "running" else HOLDER[name]]
        worst = f"{np.max([run[f'{name} {what} deviation'] for run in runs]):.1g}".replace("e-0", "e−")
        windows, most = len(runs.first[f"{name} errors"]), max(changed(run, name, what) for run in runs)
        rows.append((f"{data}, {name}", words, worst, f"{most:,} of {windows:,}"))
    head = (f"data, network, {found.preset}", "turned", "largest deviation / extent", "windows that change")
    return table(head, rows, numeric=True)


# --- time ---------------------------------------------------------------------------------------------------


@drawn_from("charged_egno", what="prediction at more times")
def resolution(found):
    """E6: one network at twice the times of its training, given the time or the number of the slice."""
    usual = of_windows(found.runs, "EGNO")
    P = usual.shape[1]
    physical, index = (of_windows(found.runs, f"EGNO {name} fine") for name in ("physical", "index"))
    times = np.arange(1, 2 * P + 1) / (2 * P)
    sheet, axes = figure(height=3.4)
    axes.plot(times, but_worst(physical.T), label=f"{2 * P} times, given the time", **series(0))
    axes.plot(times, but_worst(index.T), label=f"{2 * P} times, given the slice", **series(3))
    axes.plot(times[1::2], but_worst(usual.T), "o", label=f"{P} times, as trained", markersize=9,
              markerfacecolor="none", color=BLACK)  # fmt: skip
    _log_error(axes)
    axes.legend(loc="lower right")
    shared, new = shared_and_new(np.delete(physical, physical.mean(1).argmax(), axis=0))
    ratio, low, high = bootstrap(new, shared)
    first = but_worst(physical.T)[0] / but_worst(usual.T)[0]
    return Picture(
        sheet,
        "Error against time for the same network, at five times and at ten in two ways.",
        f"One set of weights, trained at {P} times; points are means over test systems excluding the worst. "
        f"At {2 * P} times and given the physical time, its A-MSE at the new times is {ratio:.2f} times that at the "
        f"shared ones (95 % interval over systems {low:.2f} to {high:.2f}; seeds vary more); at the first new time, before "
        f"any it was trained at, the error is {first:.1f} times that of the first trained time.",
    )


@drawn_from("spectra", what="spectra of the data", seeds="")
def spectra(found):
    """E7: power of true trajectories by frequency within the window."""
    run = found.runs.first
    names = {"charged": "charges", "run": "running", "walk": "walking", "ethanol": "ethanol"}
    names = {name: words for name, words in names.items() if f"{name} way" in run}
    sheet, panels = figure(height=5.8, rows=2, sharex=True)
    for rank, (name, words) in enumerate(names.items()):
        way = run[f"{name} way"]
        for axes, power in zip(panels, (way, run[f"{name} bend"]), strict=True):
            axes.plot(np.arange(len(power)), power / way.sum(), label=words, **series(rank))
    P = 2 * (len(way) - 1)
    ramp = np.abs(np.fft.rfft(np.arange(1, P + 1) / P)) ** 2
    ramp[1:-1] *= 2
    panels[0].plot(ramp / ramp.sum(), **TRUTH, label="a straight line")
    for axes, title in zip(
        panels, ("The way made", "What bends: less the straight line to its end"), strict=True
    ):
        log_axis(axes, "y")
        axes.set(ylabel="share of all power", title=title)
    panels[0].legend(ncols=2)
    panels[1].set(xlabel="frequency k, turns in the window", xticks=range(len(way)))
    shares = ", ".join(
        f"{words} {100 * run[f'{name} bend'][:2].sum() / run[f'{name} bend'].sum():.0f} %"
        for name, words in names.items()
    )
    return Picture(
        sheet,
        f"Power against frequency for {', '.join(names.values())}: above of the way made, beside that of a straight "
        "line; below of what bends.",
        "Mean power of the way from the start, by frequency k within the window. Above, for "
        "motions that hardly bend, it is the spectrum of a ramp and says nothing about them. Below, the straight line from "
        f"start to end is taken off; of what is left the two lowest frequencies hold: {shares}.",
    )


@drawn_from("ablations", what="changing parts of EGNO")
def ablations(found):
    """E8: errors with a part changed."""
    each, config = {name: errors[:, -1] for name, errors in variants(found.runs).items()}, found.settings
    worst = sorted({int(errors.argmax()) for errors in each.values()})
    each = {name: np.delete(errors, worst) for name, errors in reversed(each.items())}
    full, ticks = each["full"], []
    sheet, axes = figure(height=3.6)
    for place, (name, ends) in enumerate(each.items()):
        words, text, colour = f"full: {config.modes} frequencies, {config.slices} times", "", SERIES[0].colour
        if name != "full":
            words = (
                name.replace("1 modes", "1 frequency")
                .replace("modes", "frequencies")
                .replace("slices", "times")
            )
            value, low, high = bootstrap(ends, full)
            text, colour = f"×{value:.2f} [{low:.2f}, {high:.2f}]", MUTED
        ticks.append(words)
        axes.barh(place, ends.mean(), color=colour, height=0.62, zorder=2)
        axes.annotate(text, (ends.mean(), place), xytext=(5, 0), textcoords="offset points", va="center")
    axes.set_yticks(range(len(ticks)), ticks)
    axes.set(xlim=(0, 1.6 * max(errors.mean() for errors in each.values())), xlabel="F-MSE")
    axes.grid(visible=False, axis="y")
    return Picture(
        sheet,
        f"Bars of the error at the end of the window for {len(ticks)} variants of EGNO.",
        f"Error at the end of the window on {len(full):,} test systems, those left out that are the worst for any "
        f"variant ({len(worst)}); and its ratio to the full network with a 95 % bootstrap interval over systems, paired; "
        "differences between seeds are not in it. "
        f"Width {config.ablation_width}, layers: {config.ablation_layers}, {config.ablation_steps:,} steps.",
    )


# --- what it costs ------------------------------------------------------------------------------------------


def simulator_table(bench):
    """T4: the simulator beside a loop over systems."""
    return bench_table(bench, "The simulator", {
        "method": "{method}", "systems × steps": "{systems:,} × {steps:,}", "CPU seconds": "{CPU seconds:.1f}",
        "systems a CPU-second": "{systems a CPU-second:,.0f}", "extrapolated": "{extrapolated}",
    })  # fmt: skip


def speed_table(bench):
    """T5: EGNO beside a restatement that lists edges."""
    return bench_table(bench, "Networks", {
        "task": "{case}, {part}", "method": "{method}", "CPU ms": "{CPU ms:.1f}", "over ours": "{CPU, times ours:.2f}",
        "difference / extent": "{of its system:.0e}",
    })  # fmt: skip


def rollout_table(bench):
    """T6: all times in one pass, or one after the other."""
    return bench_table(bench, "One forward, or a rollout", {
        "systems in a batch": "{systems}", "method": "{method}", "ms": "{wall ms:.1f}",
        "time over one pass": "{wall, times ours:.2f}",
    })  # fmt: skip


def thumbnail(chapter, target):
    """Paths of five charges, true and predicted."""
    run = chapter.stored["charged_egno"].first
    every = len(run["truth times"]) // run["EGNO shown"].shape[1]
    true = np.concatenate([run["start"][0][None], run["truth"][0]])
    with thumbnail_axes(target) as axes:
        for i in range(true.shape[1]):
            axes.plot(*true[:, i, :2].T, color=BLACK, linewidth=2.5)
            axes.plot(*true[every::every, i, :2].T, "o", color=BLACK, markersize=7)
            axes.plot(*run["EGNO shown"][0, :, i, :2].T, linestyle="none", markersize=15, markerfacecolor="none",
                      markeredgewidth=2.5, **series(0))  # fmt: skip
        axes.set_aspect("equal", adjustable="datalim")

"""The chapter's pictures of charged particles, of symmetry, of time, and of what EGNO is made of."""

import matplotlib.pyplot as plt
import numpy as np

from loupe.experiment.claims import t_interval
from loupe.experiment.render import over_seeds, rounded, table
from loupe.experiment.results import absent, stored, stored_together
from loupe.papers.egno.claims import bootstrap, changed, of_windows, shared_and_new, variants
from loupe.plotting import MUTED, SERIES, TRUTH, figure, log_axis, series, show, trajectory_view

WIDTH = 5.2  # inches: still readable when a phone shows it 360 pixels wide
OTHERS = ("gpu", "cpu")
RANK = {"EGNO": 0, "EGNN-S": 1, "EGNN-R": 2, "EGNN": 3, "Linear": 5}
"""The colour of each method, in every figure."""

CHARGED = ("charged_egno", "charged_egnn", "charged_others")
HOLDER = {"Linear": "charged_others", "RF": "charged_others", "MPNN": "charged_others", "EGNN": "charged_egnn",
          "EGNN-R": "charged_egnn", "EGNN-S": "charged_egnn", "EGNO": "charged_egno"}  # fmt: skip
LABELS = {"RF": "RF (poor initialization)"}
LEARNING = ("EGNO", "EGNN", "EGNN-S")
GROUPS = {0: "charge like the first", 1: "opposite charge"}


def charged(chapter):
    """Runs of all networks for charged particles at one preset; None where none has them."""
    return stored_together(chapter, CHARGED, OTHERS)


def settings_of(chapter, preset):
    """The settings of results: with overrides where they are the chapter's own."""
    return chapter.config if preset == chapter.preset else chapter.room.PRESETS[preset]


def seeds_of(runs):
    """``1 seed`` or ``3 seeds``."""
    return f"{len(runs)} seed" + "s" * (len(runs) > 1)


# --- charged particles --------------------------------------------------------------------------------------


def view(chapter):
    """E1, to turn: true and predicted trajectories of a few test systems."""
    found = charged(chapter)
    if found is None:
        return absent("prediction of charged particles")
    ours, theirs = found.runs["charged_egno"].first, found.runs["charged_egnn"].first
    names = {"EGNO": ours, "EGNN-S": theirs, "EGNN-R": theirs}
    P = ours["EGNO shown"].shape[1]
    every = len(ours["truth times"]) // P
    scenes = {}
    for k in range(len(ours["start"])):
        charges = np.concatenate([[False], ours["groups"][k]])
        scenes[f"system {k + 1}"] = {
            "start": ours["start"][k],
            "truth": ours["truth"][k, every - 1 :: every],
            "times": ours["truth times"][every - 1 :: every],
            "predictions": {name: run[f"{name} shown"][k] for name, run in names.items()},
            "groups": charges.astype(int),
        }
    present = sorted({int(group) for scene in scenes.values() for group in scene["groups"]})
    return trajectory_view(
        scenes,
        group_names={group: GROUPS[group] for group in present},
        title=f"Five charges, predicted (preset {found.preset})",
        alt="Paths of five charged particles in space, from a common start: the true ones and those that networks "
        "predict.",
    )


def trajectories(chapter):
    """E2: three test systems in one plane, as EGNO and as EGNN-R predict them."""
    found = charged(chapter)
    if found is None:
        return absent("prediction of charged particles")
    ours, theirs = found.runs["charged_egno"].first, found.runs["charged_egnn"].first
    sheet, panels = figure(WIDTH, 4.0, rows=2, columns=3)
    for row, (name, run) in enumerate((("EGNO", ours), ("EGNN-R", theirs))):
        for k, axes in enumerate(panels[row]):
            start, truth, shown = ours["start"][k], ours["truth"][k], run[f"{name} shown"][k]
            true = np.concatenate([start[None], truth])
            reach = np.abs(true - true.mean((0, 1)))[..., :2].max() * 1.15
            every = len(truth) // len(shown)
            for i in range(len(start)):
                axes.plot(*true[:, i, :2].T, color="#000000", linewidth=1.1)
                axes.plot(*true[every::every, i, :2].T, ".", color="#000000", markersize=3.5)
                path = np.concatenate([start[None], shown])[:, i, :2].T
                axes.plot(*path, "--", linewidth=0.9, color=SERIES[RANK[name]].colour)
                axes.plot(*path[:, 1:], linestyle="none", markersize=3.8, markerfacecolor="white", markeredgewidth=0.9,
                          **series(RANK[name]))  # fmt: skip
            axes.plot(
                *start[:, :2].T,
                linestyle="none",
                marker="o",
                color="white",
                markeredgecolor="#000000",
                markersize=4,
            )
            middle = true.mean((0, 1))[:2]
            axes.set(xlim=(middle[0] - reach, middle[0] + reach), ylim=(middle[1] - reach, middle[1] + reach),
                     aspect="equal", xticks=[], yticks=[])  # fmt: skip
            if row == 0:
                axes.set_title(f"system {k + 1}", fontsize=9)
        panels[row, 0].set_ylabel(name)
    P = ours["EGNO shown"].shape[1]
    show(
        sheet,
        alt="Six panels with paths of five particles: three systems, above as EGNO predicts them, below as EGNN-R does.",
        caption=f"The first three systems of the viewer, seen along z. Black: the truth, from the circles on, with dots at "
        f"{P} times. Colored: predictions at these, by EGNO in one pass (above) and by EGNN-R step by step (below), seed "
        f"{found.runs['charged_egno'].seeds[0]}; what leaves the panel is cut. Preset `{found.preset}`.",
    )


def scores(chapter):
    """T1: errors at the end of the window."""
    found = charged(chapter)
    if found is None:
        return absent("prediction of charged particles")
    return _table("F-MSE", found, {name: errors[..., -1] for name, errors in _errors(found, HOLDER)})


def whole_scores(chapter):
    """T2: errors over the whole window."""
    found = charged(chapter)
    if found is None:
        return absent("prediction of charged particles")
    names = ("Linear", "EGNN-R", "EGNN-S", "EGNO")
    return _table("A-MSE", found, {name: errors.mean(-1) for name, errors in _errors(found, names)})


def _errors(found, names):
    return ((name, found.runs[HOLDER[name]][f"{name} errors"]) for name in names)


def _table(what, found, errors):
    """Mean, mean excluding the worst system, and median of errors ``(seeds, S)`` of each method."""
    rows = [
        (LABELS.get(name, name), *map(_over_seeds, (each.mean(1), but_worst(each), np.median(each, axis=1))))
        for name, each in errors.items()
    ]
    head = (
        f"{what}, {found.preset}, {seeds_of(found.runs['charged_egno'])}",
        "mean",
        "excluding the worst",
        "median",
    )
    return table(head, rows, numeric=True)


def _over_seeds(values):
    """As elsewhere; of three and more all values where half of their interval is larger than the mean."""
    wide = len(values) > 2 and t_interval(values.tolist())[0] < 0
    return ", ".join(rounded(value, 4) for value in values) if wide else over_seeds(values, 4)


def but_worst(errors):
    """The mean over systems but for the one with the largest error, of each seed: ``(seeds, S)`` to ``(seeds,)``."""
    return np.sort(errors, axis=1)[:, :-1].mean(1)


def costs_of_training(chapter):
    """T9: weights and processor time of the networks for charges."""
    found = charged(chapter)
    if found is None:
        return absent("training on charged particles")
    rows = [
        (
            name, f"{int(found.runs[HOLDER[name]].first[f'{name} parameters']):,}",
            f"{np.mean([run[f'{name} clock'][-1] for run in found.runs[HOLDER[name]]]):,.0f}",
        )
        for name in ("RF", "MPNN", "EGNN", "EGNN-R", "EGNN-S", "EGNO")
    ]  # fmt: skip
    return table((f"network, {found.preset}", "weights", "training, CPU-s"), rows, numeric=True)


def by_time(chapter):
    """E3: error at each time of the window."""
    found = charged(chapter)
    if found is None:
        return absent("prediction of charged particles")
    sheet, axes = figure(WIDTH, 3.6)
    P = found.runs["charged_egno"]["EGNO errors"].shape[-1]
    times = np.arange(1, P + 1) / P
    top = 0.0
    for name in ("EGNO", "EGNN-S", "EGNN-R", "Linear"):
        errors = found.runs[HOLDER[name]][f"{name} errors"]
        means = np.mean([but_worst(each.T) for each in errors], axis=0)
        middle = np.median(errors, axis=1).mean(0)
        axes.plot(times, means, label=name, **series(RANK[name]))
        axes.plot(times, middle, ":", linewidth=1, color=SERIES[RANK[name]].colour)
        top = max(top, means[-1] if name != "EGNN-R" else 0.0)
    end = found.runs["charged_egnn"]["EGNN errors"][..., -1]
    axes.plot(
        [1], [but_worst(end).mean()], linestyle="none", label="EGNN", markersize=7, **series(RANK["EGNN"])
    )
    axes.set_yscale("log")
    axes.set_ylim(top=min(axes.get_ylim()[1], 20 * top))
    log_axis(axes, "y")
    axes.set(xlabel=r"time in the window, $\Delta t_p/\Delta T$", ylabel="mean squared error")
    axes.set_xticks(times)
    axes.legend(ncols=2)
    runs = found.runs["charged_egno"]
    show(
        sheet,
        alt="Curves of error against time in the window for four methods, and a point for EGNN at the end.",
        caption=f"Error of {end.shape[1]:,} test systems at each time: means excluding the worst (lines) and medians "
        f"(dotted), {seeds_of(runs)}. Each straight line has a factor fitted to its time. Where EGNN-R's mean leaves the "
        f"panel, systems have gone astray. Preset `{found.preset}`.",
    )


def learning(chapter):
    """E4: validation error against steps, and against processor time."""
    found = stored_together(chapter, CHARGED[:2], OTHERS)
    if found is None:
        return absent("training on charged particles")
    runs = {name: found.runs[HOLDER[name]] for name in LEARNING}
    sheet, panels = figure(WIDTH, 5.6, rows=2, sharey=True)
    for name in LEARNING:
        # So many points are a line; few are told apart by their marks.
        marks = {"markevery": max(1, len(runs[name].first[f"{name} steps"]) // 10)}
        for k, run in enumerate(runs[name]):
            label = name if k == 0 else None
            panels[0].plot(
                run[f"{name} steps"], run[f"{name} valid"], label=label, **series(RANK[name]), **marks
            )
            panels[1].plot(
                run[f"{name} clock"], run[f"{name} valid"], label=label, **series(RANK[name]), **marks
            )
    valid = [run[f"{name} valid"] for name in LEARNING for run in runs[name]]
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
    ours, theirs = (np.mean([run[f"{name} clock"][-1] for run in runs[name]]) for name in ("EGNO", "EGNN"))
    show(
        sheet,
        alt="Validation error of EGNO, EGNN and EGNN-S, falling, above against steps and below against processor time.",
        caption="Error at the end of the window on validation systems while networks train; a line for each of "
        f"{seeds_of(runs['EGNO'])}. A step of EGNO costs {ours / theirs:.1f} times one of EGNN. "
        + (
            "Where a line leaves the panel, a system has gone astray for a while. "
            if most > 1.2 * first
            else ""
        )
        + f"Preset `{found.preset}`.",
    )


def data_sizes(chapter):
    """E5: error at the end of the window against the number of systems for training."""
    found = stored_together(chapter, ("data_sizes", *CHARGED[:2]), OTHERS)
    if found is None:
        return absent("training on fewer systems")
    runs = found.runs["data_sizes"]
    sheet, axes = figure(WIDTH, 3.4)
    counts = [int(count) for count in runs.first["sizes"]]
    config = settings_of(chapter, found.preset)
    usual = config.systems
    for name in ("EGNO", "EGNN"):
        errors = {count: runs[f"{name} {count} errors"] for count in counts}
        errors[usual] = found.runs[HOLDER[name]][f"{name} errors"]
        ends = {count: but_worst(each[..., -1]).mean() for count, each in errors.items()}
        places = sorted(ends)
        axes.plot(places, [ends[place] for place in places], label=name, **series(RANK[name]))
    steps = f"after {config.size_steps:,} steps"
    if config.steps != config.size_steps:
        steps += f" ({config.steps:,} at {usual:,} systems)"
    log_axis(axes, "xy")
    axes.set_xticks(sorted([*counts, usual]), [f"{count:,}" for count in sorted([*counts, usual])])
    axes.set(xlabel="systems for training", ylabel="F-MSE")
    axes.legend()
    show(
        sheet,
        alt="Two falling lines, error against number of systems.",
        caption=f"Error at the end of the window, mean over test systems excluding the worst, {steps}. "
        f"{seeds_of(runs)}, and {seeds_of(found.runs['charged_egno'])} at {usual:,} systems. Preset `{found.preset}`.",
    )


# --- symmetry -----------------------------------------------------------------------------------------------


def symmetry(chapter):
    """T3: what turning the input does to trained networks."""
    found = stored_together(chapter, (*CHARGED, "running"), OTHERS)
    if found is None:
        return absent("turning the input of trained networks")
    rows = []
    for name in ("EGNO", "EGNN", "EGNN-S", "RF", "MPNN"):
        rows.append(_symmetry_row("charges", name, found.runs[HOLDER[name]], "turned", "in any way"))
    for what, words in (("upright", "about the vertical"), ("turned", "in any way")):
        rows.append(_symmetry_row("running", "EGNO", found.runs["running"], what, words))
    head = (f"data, network, {found.preset}", "turned", "largest deviation / extent", "windows that change")
    return table(head, rows, numeric=True)


def _symmetry_row(data, name, runs, what, words):
    worst = float(np.max([run[f"{name} {what} deviation"] for run in runs]))
    windows = runs.first[f"{name} errors"].shape[0]
    most = max(changed(run, name, what) for run in runs)
    return f"{data}, {name}", words, _short(worst), f"{most:,} of {windows:,}"


def _short(value):
    """One digit; small numbers by powers of ten."""
    return f"{value:.1g}".replace("e-0", "e−")


# --- time ---------------------------------------------------------------------------------------------------


def resolution(chapter):
    """E6: one network at twice the times of its training, given the time or the number of the slice."""
    found = stored(chapter, "charged_egno", OTHERS)
    if found is None:
        return absent("asking for more times")
    runs = found.runs
    usual = of_windows(runs, "EGNO")
    P = usual.shape[1]
    sheet, axes = figure(WIDTH, 3.4)
    fine = {name: of_windows(runs, f"EGNO {name} fine") for name in ("physical", "index")}
    times = np.arange(1, 2 * P + 1) / (2 * P)
    axes.plot(times, but_worst(fine["physical"].T), label=f"{2 * P} times, given the time", **series(0))
    axes.plot(
        times, but_worst(fine["index"].T), label=f"{2 * P} times, given the number of the slice", **series(3)
    )
    axes.plot(times[1::2], but_worst(usual.T), linestyle="none", label=f"{P} times, as trained", markersize=9, marker="o",
              markerfacecolor="none", color="#000000")  # fmt: skip
    log_axis(axes, "y")
    axes.set(xlabel=r"time in the window, $\Delta t_p/\Delta T$", ylabel="mean squared error")
    axes.legend()
    rest = np.delete(fine["physical"], fine["physical"].mean(1).argmax(), axis=0)
    shared, new = shared_and_new(rest)
    ratio, low, high = bootstrap(new, shared)
    first = but_worst(fine["physical"].T)[0] / but_worst(usual.T)[0]
    show(
        sheet,
        alt="Error against time for the same network, at five times and at ten in two ways.",
        caption=f"One set of weights, trained at {P} times; points are means over test systems excluding the worst. "
        f"At {2 * P} times and given the physical time, its A-MSE at the new times is {ratio:.2f} times that at the "
        f"shared ones (95 % interval over systems {low:.2f} to {high:.2f}; seeds vary more); at the first new time, before "
        f"any it was trained at, the error is {first:.1f} times that of the first trained time. "
        f"{seeds_of(runs)}. Preset `{found.preset}`.",
    )


def spectra(chapter):
    """E7: power of true trajectories by frequency within the window."""
    found = stored(chapter, "spectra", OTHERS)
    if found is None:
        return absent("spectra of the data")
    run = found.runs.first
    names = {"charged": "charges", "run": "running", "walk": "walking", "ethanol": "ethanol"}
    names = {name: words for name, words in names.items() if f"{name} way" in run}
    sheet, panels = figure(WIDTH, 5.8, rows=2, sharex=True)
    for rank, (name, words) in enumerate(names.items()):
        whole = run[f"{name} way"].sum()
        K = len(run[f"{name} way"])
        for axes, what in zip(panels, ("way", "bend"), strict=True):
            power = run[f"{name} {what}"]
            axes.plot(np.arange(len(power)), power / whole, label=words, **series(rank))
    k = np.arange(1, K)
    P = 2 * (K - 1)
    ramp = np.abs(np.fft.rfft(np.arange(1, P + 1) / P)) ** 2
    ramp[1:-1] *= 2
    panels[0].plot([0, *k], ramp / ramp.sum(), **TRUTH, label="a straight line")
    for axes, title in zip(
        panels, ("The way made", "What bends: less the straight line to its end"), strict=True
    ):
        log_axis(axes, "y")
        axes.set(ylabel="share of all power", title=title)
    panels[0].legend(ncols=2)
    panels[1].set(xlabel="frequency k, turns in the window", xticks=range(K))
    shares = ", ".join(
        f"{words} {100 * run[f'{name} bend'][:2].sum() / run[f'{name} bend'].sum():.0f} %"
        for name, words in names.items()
    )
    show(
        sheet,
        alt=f"Power against frequency for {', '.join(names.values())}: above of the way made, beside that of a straight "
        "line; below of what bends.",
        caption="Mean power of the way from the start, by frequency k within the window. Above, for "
        "motions that hardly bend, it is the spectrum of a ramp and says nothing about them. Below, the straight line from "
        f"start to end is taken off; of what is left the two lowest frequencies hold: {shares}. Preset `{found.preset}`.",
    )


def ablations(chapter):
    """E8: errors with a part changed."""
    found = stored(chapter, "ablations", OTHERS)
    if found is None:
        return absent("changing parts of EGNO")
    runs = found.runs
    each = {name: errors[:, -1] for name, errors in variants(runs).items()}
    worst = sorted({int(errors.argmax()) for errors in each.values()})
    each = {name: np.delete(errors, worst) for name, errors in each.items()}
    full = each["full"]
    config = settings_of(chapter, found.preset)
    words = {"full": f"full: {config.modes} frequencies, {config.slices} times"} | {
        name: name.replace("1 modes", "1 frequency")
        .replace("modes", "frequencies")
        .replace("slices", "times")
        for name in each
        if name != "full"
    }
    sheet, axes = figure(WIDTH, 3.6)
    names = list(each)[::-1]
    for place, name in enumerate(names):
        ends = each[name]
        colour = SERIES[0].colour if name == "full" else MUTED
        axes.barh(place, ends.mean(), color=colour, height=0.62, zorder=2)
        if name == "full":
            text = ""
        else:
            value, low, high = bootstrap(ends, full)
            text = f"×{value:.2f} [{low:.2f}, {high:.2f}]"
        axes.annotate(
            text, (ends.mean(), place), xytext=(5, 0), textcoords="offset points", va="center", fontsize=8.5
        )
    axes.set_yticks(range(len(names)), [words[name] for name in names])
    axes.set_xlim(0, 1.45 * max(errors.mean() for errors in each.values()))
    axes.set_xlabel("F-MSE")
    axes.grid(visible=False, axis="y")
    show(
        sheet,
        alt=f"Bars of the error at the end of the window for {len(names)} variants of EGNO.",
        caption=f"Error at the end of the window on {len(full):,} test systems, those left out that are the worst for any "
        f"variant ({len(worst)}); and its ratio to the full network with a 95 % bootstrap interval over systems, paired. "
        f"{seeds_of(runs)}: differences between seeds are not in it. "
        f"Width {config.ablation_width}, layers: {config.ablation_layers}, {config.ablation_steps:,} steps. "
        f"Preset `{found.preset}`.",
    )


# --- what it costs ------------------------------------------------------------------------------------------


def simulator_table(bench):
    """T4: the simulator beside a loop over systems."""
    rows = [
        (
            row["method"], f"{row['systems']:,} × {row['steps']:,}", f"{row['CPU seconds']:.1f}",
            f"{row['systems a CPU-second']:,.0f}", row["extrapolated"],
        )
        for row in bench["rows"] if row["task"] == "The simulator"
    ]  # fmt: skip
    return table(
        ("method", "systems × steps", "CPU seconds", "systems a CPU-second", "extrapolated"),
        rows,
        numeric=True,
    )


def speed_table(bench):
    """T5: EGNO beside a restatement that lists edges."""
    rows = [
        (
            f"{row['case']}, {row['part']}", row["method"], f"{row['CPU ms']:.1f}", f"{row['CPU, times ours']:.2f}",
            f"{row['of its system']:.0e}".replace("-", "−"),
        )
        for row in bench["rows"] if row["task"] == "Networks"
    ]  # fmt: skip
    head = ("task", "method", "CPU ms", "over ours", "difference / extent")
    return table(head, rows, numeric=True)


def rollout_table(bench):
    """T6: all times in one pass, or one after the other."""
    rows = [
        (
            f"{row['systems']}", row["method"], f"{row['wall ms']:.1f}", f"{row['wall, times ours']:.2f}",
        )
        for row in bench["rows"] if row["task"] == "One forward, or a rollout"
    ]  # fmt: skip
    return table(("systems in a batch", "method", "ms", "time over one pass"), rows, numeric=True)


def thumbnail(chapter, target):
    """Paths of five charges, true and predicted."""
    run = chapter.stored["charged_egno"].first
    every = len(run["truth times"]) // run["EGNO shown"].shape[1]
    sheet = plt.figure(figsize=(6.4, 4.8), layout="none")
    axes = sheet.add_axes((0.02, 0.02, 0.96, 0.96))
    true = np.concatenate([run["start"][0][None], run["truth"][0]])
    shown = np.concatenate([run["start"][0][None], run["EGNO shown"][0]])
    for i in range(true.shape[1]):
        axes.plot(*true[:, i, :2].T, color="#000000", linewidth=2.5)
        axes.plot(*true[every::every, i, :2].T, "o", color="#000000", markersize=7)
        axes.plot(*shown[1:, i, :2].T, linestyle="none", markersize=15, markerfacecolor="none", markeredgewidth=2.5,
                  **series(0))  # fmt: skip
    axes.set_aspect("equal", adjustable="datalim")
    axes.axis("off")
    sheet.savefig(target, dpi=100, facecolor="white", metadata={"Software": None})
    plt.close(sheet)

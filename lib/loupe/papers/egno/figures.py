"""The chapter's figures and tables: charged particles, symmetry, other times, the parts of EGNO, and other motions."""

import numpy as np

from loupe.experiment.render import score_table, table
from loupe.experiment.results import absent, find
from loupe.papers.drawing import Picture, bench_table, drawn_from
from loupe.papers.egno.claims import bootstrap, changed, of_windows, variants
from loupe.plotting import BLACK, TRUTH, figure, log_axis, series, show, thumbnail_axes, trajectory_view

RANK = {"EGNO": 0, "EGNN-S": 1, "EGNN-R": 2, "EGNN": 3, "Linear": 5}
"""The color of each method, in every figure."""

CHARGED = ("charged_egno", "charged_egnn", "charged_others")
HOLDER = {"still": "charged_others", "Linear": "charged_others", "RF": "charged_others", "MPNN": "charged_others",
          "EGNN": "charged_egnn", "EGNN-R": "charged_egnn", "EGNN-S": "charged_egnn", "EGNO": "charged_egno"}  # fmt: skip
LABELS = {"still": "standing still", "Linear": "straight lines"}
LEARNING = ("EGNO", "EGNN", "EGNN-S")
GROUPS = {0: "charge like the first", 1: "opposite charge"}
MOTIONS = ("running", "walking", "ethanol", "aspirin")
REPORTED = (  # what, EGNO, EGNO again by arXiv 2510.05482, GF-NODE, SGDD; as far as it could be confirmed
    ("MD17, aspirin, F-MSE × 100", "9.18", "9.64", "7.93", "7.29"),
    ("MD17, benzene, F-MSE × 100", "48.85", "–", "4.82", "2.74"),
    ("MD17, salicylic acid, F-MSE × 100", "not available", "0.89", "–", "–"),
    ("MD17, toluene, F-MSE × 100", "not available", "11.00", "–", "–"),
    ("MD17, uracil, F-MSE × 100", "not available", "0.58", "–", "–"),
    ("running, F-MSE × 100", "33.9", "–", "–", "28.2"),
    ("walking, F-MSE × 100", "not available", "–", "9.3", "6.5"),
    ("walking, A-MSE × 100", "3.5", "–", "–", "3.2"),
    ("the protein AdK, F-MSE", "2.231", "–", "–", "1.75"),
)
WINDOW = r"time in the window, $\Delta t_p/\Delta T$"
KEPT = 2  # frequencies, in the figure of a straight line

from_charged = drawn_from(*CHARGED, what="prediction of charged particles")


def but_worst(errors):
    """The mean over systems excluding the one with the largest error, of each seed: ``(seeds, S)`` to ``(seeds,)``."""
    return np.sort(errors, axis=1)[:, :-1].mean(1)


def errors_of(found, name):
    """Errors ``(seeds, S, P)`` of a method for charges."""
    return found[HOLDER[name]][f"{name} errors"]


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
    return trajectory_view(
        scenes,
        group_names=GROUPS,
        title=f"Five charges, predicted (preset {found.preset})",
        alt="Paths of five charged particles in space from a common start: the true paths, and those that three "
        "networks predict.",
    )


@from_charged
def scores(found):
    """T1: errors at the end of the window and over all of it, trivial rows first."""
    rows = []
    for name in HOLDER:
        errors = 1000 * errors_of(found, name)
        ends, whole = errors[..., -1], errors.mean((1, 2)) if errors.shape[-1] > 1 else None
        rows.append((LABELS.get(name, name), ends.mean(1), but_worst(ends), whole))
    head = (found.label, "F-MSE × 1000", "excluding the worst", "A-MSE × 1000")
    return score_table(head, rows, digits=1, best="min", positive=True)


@from_charged
def by_time(found):
    """E2: error at each time of the window."""
    sheet, axes = figure(height=3.6)
    P = errors_of(found, "EGNO").shape[-1]
    times = np.arange(1, P + 1) / P
    for name in ("EGNO", "EGNN-S", "EGNN-R", "Linear"):
        errors = errors_of(found, name)
        means = np.mean([but_worst(each.T) for each in errors], axis=0)
        (line,) = axes.plot(times, means, label=LABELS.get(name, name), **series(RANK[name]))
        axes.plot(times, np.median(errors, axis=1).mean(0), ":", linewidth=1, color=line.get_color())
    end = but_worst(errors_of(found, "EGNN")[..., -1]).mean()
    axes.plot([1], [end], linestyle="none", label="EGNN", markersize=7, **series(RANK["EGNN"]))
    log_axis(axes, "y")
    axes.set(xlabel=WINDOW, ylabel="mean squared error", xticks=times)
    axes.legend(ncols=2)
    return Picture(
        sheet,
        "Curves of error against time in the window for four methods, and a point for EGNN at the end.",
        "Error on test systems at each time: means excluding the worst system (lines) and medians (dotted). "
        "EGNN-R's mean rises where some of its rollouts diverge.",
    )


@from_charged
def learning(found):
    """E3: validation error against steps, and against processor time."""
    sheet, panels = figure(height=5.6, rows=2, sharey=True)
    line, lowest = errors_of(found, "Linear")[..., -1].mean(), np.inf
    for name in LEARNING:
        for k, run in enumerate(found[HOLDER[name]]):
            valid, label = run[f"{name} valid"], name if k == 0 else None
            lowest = min(lowest, valid.min())
            for axes, what in zip(panels, ("steps", "clock"), strict=True):
                # Of many points only some have a marker.
                axes.plot(run[f"{name} {what}"], valid, label=label, **series(RANK[name]), markevery=10)
    for axes, title in zip(panels, ("steps of training", "processor time of training, s"), strict=True):
        axes.axhline(line, **TRUTH, label="straight lines")
        log_axis(axes, "xy")
        axes.set(xlabel=title, ylabel="F-MSE, validation", ylim=(0.8 * lowest, 2.5 * line))
    sheet.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return Picture(
        sheet,
        "Validation error of EGNO, EGNN and EGNN-S, falling: above against steps, below against processor time.",
        "Error at the end of the window while networks train, a line for each seed; dashed: straight lines, on test "
        "systems. Where a line leaves the panel, predictions of some system diverge for a while.",
    )


# --- symmetry -----------------------------------------------------------------------------------------------


@from_charged
def symmetry(found):
    """T2: what turning the input does to trained networks."""
    rows = []
    for name in ("EGNO", "EGNN", "EGNN-S", "EGNN-R", "RF", "MPNN"):
        runs = found[HOLDER[name]]
        worst = f"{np.max(runs[f'{name} turned deviation']):.0e}".replace("e-0", "e−").replace("e+00", "")
        most = max(changed(run, name, "turned") for run in runs)
        rows.append((name, worst, f"{most:,} of {len(runs.first[f'{name} errors']):,}"))
    return table((found.label, "largest deviation / extent", "systems that change"), rows, numeric=True)


# --- time ---------------------------------------------------------------------------------------------------


def kept(P):
    """The line z(t) = t at P times, with nothing left of it but its two lowest frequencies: ``(P,)``."""
    transform = np.fft.rfft(np.arange(1, P + 1) / P)
    transform[KEPT:] = 0
    return np.fft.irfft(transform, n=P)


def line_through_convolution():
    """E4: one convolution at several resolutions, without any learning."""
    sheet, axes = figure(height=3.2)
    for rank, P in enumerate((5, 10, 40)):
        axes.plot(
            np.arange(1, P + 1) / P, kept(P), label=f"{P} times", **series(rank), markevery=max(1, P // 10)
        )
    axes.plot([0, 1], [0, 1], **TRUTH, label="the line itself")
    axes.set(xlabel=WINDOW, ylabel="value")
    axes.legend()
    show(
        sheet,
        alt="A straight line, and three curves that follow it at 5, 10 and 40 times and disagree near both ends.",
        caption="A straight line after a temporal convolution that keeps its two lowest frequencies as they are. The "
        "weights are the same at 5, 10 and 40 times, the results differ.",
    )


@drawn_from("charged_egno", what="prediction at more times")
def resolution(found):
    """E5: one network at twice the times of its training, given the time or the number of the slice."""
    usual, physical, index = (
        but_worst(of_windows(found.runs, f"EGNO{name}").T) for name in ("", " physical fine", " index fine")
    )
    P = len(usual)
    times = np.arange(1, 2 * P + 1) / (2 * P)
    sheet, axes = figure(height=3.4)
    axes.plot(times, physical, label=f"{2 * P} times, given the time", **series(0))
    axes.plot(times, index, label=f"{2 * P} times, given the slice", **series(3))
    axes.plot(times[1::2], usual, "o", label=f"{P} times, as trained", markersize=9, markerfacecolor="none",
              color=BLACK)  # fmt: skip
    log_axis(axes, "y")
    axes.set(xlabel=WINDOW, ylabel="mean squared error")
    axes.legend(loc="lower right")
    return Picture(
        sheet,
        "Error against time for the same network, at five times and at ten in two ways.",
        f"The same weights, trained at {P} times. Points are means over test systems excluding the worst.",
    )


@drawn_from("ablations", what="changing parts of EGNO")
def ablations(found):
    """T3: errors with a part changed, excluding the systems that are the worst for any variant."""
    each, config = {name: errors[:, -1] for name, errors in variants(found.runs).items()}, found.settings
    worst = sorted({int(errors.argmax()) for errors in each.values()})
    each = {name: np.delete(errors, worst) for name, errors in each.items()}
    rows = []
    for name, ends in each.items():
        value, low, high = bootstrap(ends, each["full"])
        words = (
            name.replace("1 modes", "1 frequency").replace("modes", "frequencies").replace("slices", "times")
        )
        rows.append((words, f"{ends.mean():.4f}", f"{value:.2f} [{low:.2f}, {high:.2f}]"))
    rows[0] = (f"full: {config.modes} frequencies, {config.slices} times", rows[0][1], "1")
    return table((found.label, "F-MSE", "over the full network (95 %, systems)"), rows, numeric=True)


# --- what it costs ------------------------------------------------------------------------------------------


def speed_table(bench):
    """T4: EGNO beside a restatement that lists edges."""
    return bench_table(bench, "Networks", {
        "task": "{case}, {part}", "method": "{method}", "CPU ms": "{CPU ms:.1f}", "over ours": "{CPU, times ours:.2f}",
        "difference / extent": "{of its system:.0e}",
    })  # fmt: skip


# --- people and molecules -----------------------------------------------------------------------------------


def reported_table():
    """T5: the paper's numbers that could be confirmed, and those of later papers for the same tasks."""
    return table(("reported", "EGNO", "EGNO, rerun", "GF-NODE", "SGDD"), REPORTED, numeric=True)


def motions(chapter):
    """T6: errors for people and molecules, each at the largest preset that has them."""
    rows = []
    for found in (one for what in MOTIONS if (one := find(chapter, (what,)))):
        run = found.runs.first
        for name in [name for name in (*HOLDER, "EGNO-L") if f"{name} errors" in run]:
            errors = 100 * found.runs[f"{name} errors"]
            whole = errors.mean((1, 2)) if errors.shape[-1] > 1 and name != "EGNO-L" else None
            rows.append(((run.experiment, name), found.label, errors[..., -1].mean(1), whole))
    if not rows:
        return absent("prediction of people and molecules")
    return score_table(("× 100", "results", "F-MSE", "A-MSE"), rows, digits=2, best="min", positive=True)


@drawn_from(*MOTIONS[:2], what="prediction of people")
def runner(found):
    """E6, to turn: a person who runs or walks, at twice the times of training."""
    scenes = {
        f"{what}, window {k // 2 + 1}": {
            "start": run["start"][k],
            "truth": run["truth"][k],
            "times": run["truth times"],
            "predictions": {"EGNO": run["EGNO fine shown"][k]},
            "edges": run["bones"],
        }
        for what in MOTIONS[:2]
        for run in [found[what].first]
        for k in (0, 2)
    }
    return trajectory_view(
        scenes,
        up="y",
        title=f"A quarter of a second, predicted (preset {found.preset})",
        alt="A skeleton of 31 joints that runs or walks: where it is, and where EGNO predicts it.",
    )


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

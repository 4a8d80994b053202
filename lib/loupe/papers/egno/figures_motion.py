"""The chapter's pictures of people and of molecules."""

import numpy as np
from matplotlib.patches import PathPatch
from matplotlib.path import Path

from loupe.experiment.render import score_table
from loupe.experiment.results import absent, find
from loupe.papers.drawing import Picture, drawn_from
from loupe.papers.egno.claims import of_windows
from loupe.papers.egno.figures import RANK
from loupe.plotting import BLACK, SERIES, figure, trajectory_view

PEOPLE = ("running", "walking")
REPORTED = {  # F-MSE and A-MSE, times 100, as far as they could be confirmed
    "walking": {"EGNO": (None, "3.5")},
    "running": {"EGNO-L": ("33.9", None)},  # the published default
}
FRAME_RATE = 120.0
SKELETON = (2, 1)  # a person seen from the side: the axes that are drawn


@drawn_from(*PEOPLE, what="prediction of people")
def people(found):
    """T7: errors for people who run and walk."""
    rows = []
    for what in PEOPLE:
        for name in ("still", "Linear", "EGNN", "EGNN-S", "EGNN-R", "EGNO", "EGNO-L"):
            errors = 100 * found[what][f"{name} errors"]
            end, whole = REPORTED[what].get(name, (None, None))
            along = errors.shape[-1] > 1 and name != "EGNO-L"
            rows.append(
                ((what, name), end, errors[..., -1].mean(1), whole, errors.mean((1, 2)) if along else None)
            )
    head = (f"× 100, {found.label}", "F-MSE, reported", "F-MSE", "A-MSE, reported", "A-MSE")
    return score_table(head, rows, digits=1, best="min")


@drawn_from(*PEOPLE, what="prediction of people")
def runner(found):
    """E9, to turn: a person who runs or walks, at twice the times of training."""
    scenes = {
        f"{what}, window {k // 2 + 1}": {
            "start": run["start"][k],
            "truth": run["truth"][k],
            "times": run["truth times"],
            "predictions": {"EGNO": run["EGNO fine shown"][k]},
            "edges": run["bones"],
        }
        for what in PEOPLE
        for run in [found[what].first]
        for k in (0, 2)
    }
    return trajectory_view(
        scenes,
        up="y",
        title=f"A quarter of a second, predicted (preset {found.preset})",
        alt="A skeleton of 31 joints that runs or walks, where it is and where EGNO predicts it.",
    )


@drawn_from("running", what="prediction of people", seeds="first")
def skeletons(found):
    """E10: a person at four times, true and predicted."""
    run, k, depth = found.runs.first, 0, SKELETON[0]
    P = run["EGNO shown"].shape[1]
    every, chosen = len(run["truth times"]) // P, [0, P // 2, P - 1]
    truth = run["truth"][k, every - 1 :: every]
    names = ("EGNO", "EGNN-S", "EGNN-R", "EGNN")
    sheet, panels = figure(height=6.8, rows=len(names), columns=1 + len(chosen), sharey=True)
    reach = max(np.abs(state[:, depth] - state[:, depth].mean()).max() for state in truth) + 1
    for row, name in enumerate(names):
        shown = run[f"{name} shown"][k]
        known = range(P - len(shown), P)  # EGNN knows the end only
        states = [
            (run["start"][k], None),
            *((truth[p], shown[p - P] if p in known else None) for p in chosen),
        ]
        for axes, (true, predicted) in zip(panels[row], states, strict=True):
            _draw(axes, true, run["bones"], BLACK, 1.3)
            if predicted is not None:
                _draw(axes, predicted, run["bones"], SERIES[RANK[name]].colour, 1.1, "--")
            centre = true[:, depth].mean()
            axes.set(xlim=(centre - reach, centre + reach), aspect="equal", xticks=[], yticks=[])
            axes.grid(visible=False)
        panels[row, 0].set_ylabel(name)
    times = [f"{1000 * 30 * (p + 1) / P / FRAME_RATE:.0f} ms" for p in chosen]
    for axes, words in zip(panels[0], ["now", *times], strict=True):
        axes.set_title(words)
    return Picture(
        sheet,
        "Rows of stick figures of a person who runs: the truth in black, predictions of four networks in colour over "
        "it.",
        "A test window of running, seen from the side; black: the truth, colored: what networks predict from the "
        f"state on the left, at three of {P} times, EGNN at the last only; what leaves a panel is cut.",
    )


def _draw(axes, joints, bones, colour, width, line="-"):
    corners = joints[np.asarray(bones).ravel()][:, SKELETON]
    steps = np.tile([Path.MOVETO, Path.LINETO], len(bones))
    axes.add_patch(
        PathPatch(Path(corners, steps), fill=False, edgecolor=colour, linewidth=width, linestyle=line)
    )
    axes.autoscale_view()


def molecules(chapter):
    """T8: errors for molecules, of each at the preset that has it."""
    found = {name: find(chapter, (name,)) for name in ("ethanol", "aspirin")}
    if not any(found.values()):
        return absent("prediction of molecules")
    rows = []
    for name, one in found.items():
        if one is None:
            rows.append((name, "not computed yet", None, None))
            continue
        for method in ("still", "Linear", "EGNN", "EGNN-S", "EGNN-R", "EGNO"):
            errors = 100 * of_windows(one.runs, method)
            whole = [errors.mean()] if errors.shape[1] > 1 else None
            rows.append(
                ((name, method), f"{len(errors):,} windows, {one.label}", [errors[:, -1].mean()], whole)
            )
    head = ("molecule, method", "test", "F-MSE × 100, Å²", "A-MSE × 100, Å²")
    return score_table(head, rows, digits=2, best="min")

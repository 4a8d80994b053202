"""The chapter's pictures of people and of molecules."""

import numpy as np

from loupe.experiment.render import over_seeds, table
from loupe.experiment.results import absent, stored, stored_together
from loupe.papers.egno.claims import of_windows
from loupe.papers.egno.figures import OTHERS, RANK, WIDTH, seeds_of
from loupe.plotting import SERIES, figure, show, trajectory_view

PEOPLE = ("running", "walking")
REPORTED = {  # F-MSE and A-MSE, times 100, as far as they could be confirmed
    "walking": {"EGNO": (None, 3.5)},
    "running": {"EGNO-L": (33.9, None)},  # the published default
}
FRAME_RATE = 120.0
SKELETON = (2, 1)  # a person seen from the side: the axes that are drawn


def people(chapter):
    """T7: errors for people who run and walk."""
    found = stored_together(chapter, PEOPLE, OTHERS)
    if found is None:
        return absent("prediction of people")
    rows = []
    for what in PEOPLE:
        runs = found.runs[what]
        for name in ("still", "Linear", "EGNN", "EGNN-S", "EGNN-R", "EGNO", "EGNO-L"):
            errors = 100 * runs[f"{name} errors"]
            end, whole = REPORTED[what].get(name, (None, None))
            along = errors.shape[-1] > 1 and name != "EGNO-L"
            rows.append((
                f"{what}, {name}",
                "–" if end is None else f"{end:.1f}",
                over_seeds(errors[..., -1].mean(1), 1),
                "–" if whole is None else f"{whole:.1f}",
                over_seeds(errors.mean((1, 2)), 1) if along else "–",
            ))  # fmt: skip
    head = (
        f"× 100, {found.preset}, {seeds_of(found.runs['running'])}", "F-MSE, reported", "F-MSE",
        "A-MSE, reported", "A-MSE",
    )  # fmt: skip
    return table(head, rows, numeric=True)


def runner(chapter):
    """E9, to turn: a person who runs or walks, at twice the times of training."""
    found = stored_together(chapter, PEOPLE, OTHERS)
    if found is None:
        return absent("prediction of people")
    scenes = {}
    for what in PEOPLE:
        run = found.runs[what].first
        for k in (0, 2):
            scenes[f"{what}, window {k // 2 + 1}"] = {
                "start": run["start"][k],
                "truth": run["truth"][k],
                "times": run["truth times"],
                "predictions": {"EGNO": run["EGNO fine shown"][k]},
                "edges": run["bones"],
            }
    return trajectory_view(
        scenes,
        up="y",
        title=f"A quarter of a second, predicted (preset {found.preset})",
        alt="A skeleton of 31 joints that runs or walks, where it is and where EGNO predicts it.",
    )


def skeletons(chapter):
    """E10: a person at four times, true and predicted."""
    found = stored(chapter, "running", OTHERS)
    if found is None:
        return absent("prediction of people")
    run = found.runs.first
    k, bones = 0, run["bones"]
    P = run["EGNO shown"].shape[1]
    every = len(run["truth times"]) // P
    truth = run["truth"][k, every - 1 :: every]
    chosen = [0, P // 2, P - 1]
    names = ("EGNO", "EGNN-S", "EGNN-R", "EGNN")
    sheet, panels = figure(WIDTH, 6.8, rows=len(names), columns=1 + len(chosen), sharey=True)
    depth = SKELETON[0]
    reach = max(np.abs(state[:, depth] - state[:, depth].mean()).max() for state in truth) + 1
    for row, name in enumerate(names):
        shown = run[f"{name} shown"][k]
        known = range(P - len(shown), P)  # EGNN knows the end only
        states = [
            (run["start"][k], None),
            *((truth[p], shown[p - P] if p in known else None) for p in chosen),
        ]
        for axes, (true, predicted) in zip(panels[row], states, strict=True):
            _draw(axes, true, bones, "#000000", 1.3)
            if predicted is not None:
                _draw(axes, predicted, bones, SERIES[RANK[name]].colour, 1.1, "--")
            centre = true[:, depth].mean()
            axes.set(xlim=(centre - reach, centre + reach), aspect="equal", xticks=[], yticks=[])
            axes.grid(visible=False)
        panels[row, 0].set_ylabel(name)
    for axes, words in zip(
        panels[0], ["now", *(f"{1000 * 30 * (p + 1) / P / FRAME_RATE:.0f} ms" for p in chosen)], strict=True
    ):
        axes.set_title(words, fontsize=9)
    show(
        sheet,
        alt="Rows of stick figures of a person who runs: the truth in black, predictions of four networks in colour over "
        "it.",
        caption="A test window of running, seen from the side; black: the truth, colored: what networks predict from the "
        f"state on the left, at three of {P} times, EGNN at the last only; what leaves a panel is cut. "
        f"Seed {found.runs.seeds[0]}. Preset `{found.preset}`.",
    )


def _draw(axes, joints, bones, colour, width, line="-"):
    for child, parent in bones:
        ends = joints[[child, parent]]
        axes.plot(ends[:, SKELETON[0]], ends[:, SKELETON[1]], line, color=colour, linewidth=width)


def molecules(chapter):
    """T8: errors for molecules."""
    rows, presets = [], set()
    for name in ("ethanol", "aspirin"):
        found = stored(chapter, name, OTHERS)
        if found is None:
            rows.append((name, "not computed yet", "–", "–"))
            continue
        presets.add(found.preset)
        for method in ("still", "Linear", "EGNN", "EGNN-S", "EGNN-R", "EGNO"):
            errors = 100 * of_windows(found.runs, method)
            rows.append((
                f"{name}, {method}", f"{len(errors):,} windows, {found.preset}, {seeds_of(found.runs)}",
                over_seeds([errors[:, -1].mean()], 2),
                over_seeds([errors.mean()], 2) if errors.shape[1] > 1 else "–",
            ))  # fmt: skip
    if not presets:
        return absent("prediction of molecules")
    return table(("molecule, method", "test", "F-MSE × 100, Å²", "A-MSE × 100, Å²"), rows, numeric=True)

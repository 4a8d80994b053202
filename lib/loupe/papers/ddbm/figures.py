"""The chapter's figures and tables, drawn from stored results only."""

import numpy as np

from loupe.diffusion.bridges import VPBridge, karras_grid
from loupe.diffusion.bridges.sampler import MARGIN
from loupe.experiment.render import score_table, table
from loupe.experiment.results import absent, row
from loupe.papers.ddbm.claims import SAMPLERS
from loupe.papers.ddbm.experiments_images import SHARES
from loupe.papers.drawing import Picture, draw_images, drawn_from, labeled_rows
from loupe.plotting import BLACK, MUTED, figure, log_axis, series, shades, thumbnail_axes
from loupe.plotting.widgets import Frame, frame_player

RANK = {"vp": 0, "ve": 2, "regression": 3, "rectified_flow": 1, "i2sb": 4}
WORDS = {
    "vp": "DDBM (VP)", "ve": "DDBM (VE)", "regression": "L2 regression", "rectified_flow": "rectified flow", "i2sb": "I2SB",
}  # fmt: skip
SHOWN = 24  # paths
MAIN = ("vp", "ve", "regression", "rectified_flow", "i2sb")
MEASURES = ("distance", "mse", "diversity")
CONTROLS = {  # their experiment, its sampler, and what stands before its values
    "VP, no preconditioning": ("simple", "hybrid", ""), "VP, shuffled pairs": ("shuffled", "hybrid", ""),
    "VP, source withheld": ("source_withheld", "hybrid", ""),
    "EDM with source": ("edm_with_source", "EDM with source", ""), "SDEdit": ("unconditional", "SDEdit", "EDM "),
    "EDM without source": ("unconditional", "unconditional", "EDM "),
}  # fmt: skip
NAMES = {"hybrid": "DDBM (VP), hybrid", "ODE": "DDBM (VP), ODE", "regression": "L2 regression"}
REPORTED = (  # Table 2 of the paper: FID, IS, LPIPS and MSE on Edges to Handbags, then on DIODE
    ("Pix2Pix", 74.8, "3.24 (4.24 in other reprints)", 0.356, 0.209, 82.4, 4.22, 0.556, 0.133),
    ("DDIB", 186.84, 2.04, 0.869, 1.05, 242.3, 4.22, 0.798, 0.794),
    ("SDEdit", 26.5, 3.58, 0.271, 0.510, 31.14, 5.70, 0.714, 0.534),
    ("Rectified flow", 25.3, 2.80, 0.241, 0.088, 77.18, 5.87, 0.534, 0.157),
    ("I2SB", 7.43, 3.40, 0.244, 0.191, 9.34, 5.77, 0.373, 0.145),
    ("DDBM (VE)", 2.93, "3.58 (not confirmed)", 0.131, 0.013, 8.51, "5.96 (not confirmed)", 0.226, 0.0107),
    ("DDBM (VP)", 1.83, 3.73, 0.142, 0.0402, 4.43, 6.21, 0.244, 0.0839),
)
LATER = (  # FID with 5, 10 and 20 calls, then with 50 and 100, of the released VP networks by other samplers
    ("DDBM's own sampler", "317 / 137 / 46.7", "11.1 (50 calls)", "328 / 152 / 41.0", "15.8 (50 calls)"),
    ("DBIM", "3.60 / 2.46 / 1.74", "1.14 / 0.89", "14.25 / 7.98 / 4.99", "3.20 / 2.57"),
    ("ECSI", "2.36 / 2.25 / 1.53", "–", "10.87 / 6.83 / 4.12", "–"),
)

on_numbers = drawn_from("toys", what="the bridge between numbers", seeds="first")


# --- numbers ------------------------------------------------------------------------------------------------


@on_numbers
def paths(found):
    """F1: the VP bridge of the two-mode pair, forward and backward."""
    run = found.runs.first
    sheet, panels = figure(height=2.3, columns=3, sharey=True)
    rows = (
        ("forward", run["VP times"], run["VP forward"], BLACK),
        ("backward, ODE", sampler_times(), run["VP flow path"], series(0)["color"]),
        ("backward, hybrid", sampler_times(), run["VP hybrid path"], series(0)["color"]),
    )
    for axes, (title, times, x, color) in zip(panels, rows, strict=True):
        axes.plot(times, x[:, :SHOWN], color=color, linewidth=0.5, alpha=0.7)
        axes.set(title=title, xlabel="$t$", xticks=(0, 0.5, 1))
    panels[0].set_ylabel("$x_t$")
    for axes in panels[1:]:
        axes.invert_xaxis()
    return Picture(
        sheet,
        "Three panels of paths between a source and two modes. Forward paths start in the modes and meet in the source. "
        "Backward, the ODE gives one curve; the hybrid sampler fans out into both modes.",
        "Targets in two modes, one source, VP. Left: the bridge, forward to the source. Middle and right: time runs "
        "backward. The ODE has one path; with stochastic steps, both modes come back. VE looks alike, but its standard "
        "deviation is 40 in the middle.",
    )


def sampler_times(steps=80):
    """Times of the stored backward paths of the VP bridge, from the source on."""
    bridge = VPBridge()
    return karras_grid(steps, bridge.t_min, bridge.t_max - MARGIN).numpy()


@on_numbers
def spread(found):
    """F3: the variance of the answers against the churn, by number of steps."""
    run = found.runs.first
    churns = run["churns"][1:]
    sheet, panels = figure(height=2.7, columns=2, sharey=True)
    for axes, name in zip(panels, ("VP", "VE"), strict=True):
        curves = zip(shades(len(run["steps"])), run["steps"], run[f"{name} variance"], strict=True)
        for color, steps, curve in curves:
            axes.plot(churns, curve[1:], marker="o", markersize=3, color=color, label=f"{steps} steps")
        axes.axhline(1, color=MUTED, linestyle="--", linewidth=1)
        log_axis(axes, "xy")
        axes.set(xlabel="churn $s$", title=name)
    panels[0].set_ylabel("variance / true variance")
    panels[1].legend()
    return Picture(
        sheet,
        "Two panels of falling curves: the variance of the answers over the true one, from about a hundred at a churn of "
        "0.001 to one at 0.3 and above; more steps lower them.",
        "Variance of the answers to one source, with the exact denoiser, for normal targets; the dashed line is right. At "
        "$s=0$ the variance is zero (off the axis). With a small churn it is far too large: one Heun step from next to the "
        "pinned end overshoots.",
    )


@drawn_from("identities", what="the coefficients of the bridge", seeds="")
def coefficients(found):
    """F2: the kernel's coefficients, and the preconditioning for three covariances, for VP."""
    run = found.runs.first
    sheet, (left, right) = figure(height=2.5, columns=2)
    for rank, label in enumerate(("$a_t$", "$b_t$", r"$\sqrt{c_t}$")):
        left.plot(run["shares"], run["VP kernel"][rank], color=series(rank)["color"], label=label)
    for k, line in enumerate(("-", "--", ":")):
        for rank, name in enumerate(("in", "skip", "out")):
            label = None if k else rf"$c_{{\mathrm{{{name}}}}}$"
            right.plot(run["shares"], run["VP form"][k, rank], line, color=series(rank)["color"], label=label)
    for axes, title in ((left, "bridge"), (right, "preconditioning")):
        axes.legend()
        axes.set(title=title, xlabel="$t$")
    right.set_ylim(0, 3.4)
    return Picture(
        sheet,
        "Two panels of smooth curves over time: the factors of source and target cross while the noise rises and falls; "
        "the preconditioning for three covariances differs only toward the source.",
        "VP. Left: on the way from target to source, the factor $a_t$ of the source rises, $b_t$ of the target falls, and "
        "the noise $\\sqrt{c_t}$ is largest in between. Right: for data of standard deviation 0.5 on both sides and "
        "covariance 0 (solid), 0.125 (dashed) and 0.2 (dotted); the covariance matters toward the source.",
    )


# --- images -------------------------------------------------------------------------------------------------


@drawn_from("edges", "toys", what="coloring in edge maps", seeds="first", partial=True)
def answers(found):
    """F5, to slide: eight answers to a few sources, by churn, above the exact distribution of a number's answers."""
    run, toys = found["edges"].first, found["toys"].first
    frames = []
    for churn, images in zip(run["churns"], run["answers"], strict=True):
        sheet, (top, low) = figure("narrow", height=3.4, rows=2, height_ratios=(2.4, 1))
        rows = np.concatenate([run["sources"][: len(images), None], images], 1)
        draw_images(top, rows.reshape(-1, 1, *rows.shape[2:]), "source, and eight answers", rows.shape[1])
        nearest = toys["churns"][np.abs(toys["churns"] - churn).argmin()]
        low.stairs(toys[f"VP histogram {nearest:g}"], toys["bins"], fill=True, color=series(0)["color"])
        low.set(yticks=[], xlabel=f"answers to the number {toys['source']}, exact denoiser")
        frames.append(Frame(sheet, f"churn s = {churn:g}" + (": the ODE, one answer" if churn == 0 else "")))
    return frame_player(
        frames, title=f"One source, many answers (preset {found.preset})", label="churn",
        alt="Rows of an edge map and eight digits drawn for it, above a histogram of answers in the two-mode toy. Without "
        "churn, the eight are equal; with it they vary.",
        at=int(np.abs(np.array(run["churns"]) - 0.33).argmin()), text="Eight answers to each of four edge maps, by churn.",
        note="Move the slider to churn 0: the eight answers in a row become equal, and one of the two peaks vanishes.",
    )  # fmt: skip


@drawn_from(*MAIN, "trivial", what="image translation", seeds="first", partial=True)
def grid(found):
    """F4: sources, answers of each method, and targets."""
    trivial, vp = found["trivial"].first, found["vp"].first
    rows = {"source": trivial["sources"], "nearest training pair": trivial["shown"][1]}
    for name in ("regression", "rectified_flow", "i2sb", "ve"):
        rows[WORDS[name] + ", hybrid" * (name == "ve")] = found[name].first["shown"][0]
    rows |= {f"DDBM (VP), {sampler}": row(vp, "shown", samplers=sampler) for sampler in ("ODE", "hybrid")}
    return Picture(
        labeled_rows(rows | {"target": trivial["targets"]}),
        "A grid of small images, a row for each method: coarse blocks, gray averages by regression, sharper digits by "
        "the bridges, and the true digits.",
        "The first ten test pairs. Each column is one source, and the last row has the true targets. Look for blur, stray "
        "pixels and wrong digits.",
    )


@drawn_from("fewer_calls", what="the path of a bridge", seeds="first", partial=True)
def strip(found):
    """F6: states on the way from a source to a target, by both samplers."""
    run, rows = found.runs.first, {}
    for k, which in enumerate(("one source", "another")):
        for sampler in ("hybrid", "ODE"):
            rows[f"{which}, {sampler}"] = np.stack([*run[f"{sampler} path"][:, k], run["targets"][k]])
    return Picture(
        labeled_rows(rows),
        "Four rows of small images, each from a coarse image to a digit. In between, those of the hybrid sampler are noisy "
        "and those of the ODE not.",
        "From left to right: the source, states on the way at the times "
        f"{', '.join(f'{share:g}' for share in SHARES[1:-1])}, the answer, and last the true target. The hybrid sampler "
        "goes through noise; the ODE doesn't. DDBM (VP).",
    )


def trivial_rows(found, names):
    """Rows of a table for what needs no training, and gives one answer: without a spread."""
    trivial = found["trivial"].first
    return [(name, *([row(trivial, key, rows=name)] for key in ("distance", "mse")), [0.0]) for name in names]


def values(runs, sampler, keys=MEASURES):
    """Cells of a table: measures of a sampler, of all seeds."""
    return [row(runs, key, samplers=sampler) for key in keys]


@drawn_from(*MAIN, "trivial", "spreads", what="image translation", partial=True)
def scores(found):
    """T1: the main table; trivial rows first, then anchors of the spread."""
    rows = [(*cells, "–") for cells in trivial_rows(found, found["trivial"].first["rows"][:5])]
    one_class, near, real = ([each] for each in found["spreads"].first["diversity"])
    rows[-1] = (*rows[-1][:3], real, "–")
    count = found.settings.answers
    for words, anchor in ((f"{count} of one class", one_class), (f"{count} nearest pairs", near)):
        rows.append((words, None, None, anchor, "–"))
    for name in MAIN:
        runs = found[name]
        for sampler, calls in zip(runs.first["samplers"], runs.first["calls"], strict=True):
            words = WORDS[name] + (f", {sampler}" if len(runs.first["samplers"]) > 1 else "")
            rows.append((words, *values(runs, sampler), str(calls)))
    head = (found.label, "distance", "MSE", "spread", "calls")
    return score_table(head, rows, digits=(2, 3, 3, 0), positive=True)


@drawn_from("fewer_calls", "vp", "i2sb", "rectified_flow", what="the comparison at equal calls", partial=True)
def equal_calls(found):
    """T2: methods with as many calls of the network as I2SB makes, then as rectified flow, then as DDBM."""
    few, keys, rows = found["fewer_calls"], ("distance", "mse"), []
    budgets = dict(zip(("i2sb", "rectified_flow"), np.unique(few.first["budget"]), strict=True))
    for name in (*budgets, "vp"):
        words, runs = WORDS[name] + ", hybrid" * (name == "vp"), found[name]
        rows.append((words, str(runs.first["calls"][0]), *values(runs, SAMPLERS[name], keys)))
        for sampler in ("hybrid", "ODE") if name in budgets else ():
            labels = {"samplers": sampler, "budget": budgets[name]}
            calls, *cells = (row(few, key, **labels) for key in ("calls", *keys))
            rows.append((f"DDBM (VP), {sampler}", str(calls[0]), *cells))
    return score_table((found.label, "calls", "distance", "MSE"), rows, digits=(0, 2, 3), positive=True)


@drawn_from("vp", "trivial", what="the comparison with networks that should fail", partial=True)
def controls(found):
    """T3: what preconditioning, pairs and the network's view of the source are worth; and SDEdit, which needs no pairs."""
    rows = []
    for words, (name, sampler, of) in CONTROLS.items():
        runs = found.beside(name)
        label = {f"{of}samplers": sampler}
        rows += [(words, *(row(runs, of + key, **label) for key in MEASURES))] if runs else []
    if not rows:
        return absent("the comparison with networks that should fail")
    ours = (WORDS["vp"], *values(found["vp"], "hybrid"))
    rows = [*trivial_rows(found, ("the source itself", "nearest training pair")), ours, *rows]
    return score_table((found.label, "distance", "MSE", "spread"), rows, digits=(2, 3, 3), positive=True)


@drawn_from("photos_from_blocks", "photos_from_edges", what="translation to photographs", partial=True)
def photographs(found):
    """T4: CIFAR-10, with sources of two kinds."""
    rows = []
    for words, runs in zip(("gray blocks", "edge maps"), found.runs.values(), strict=True):
        for k, name in enumerate(runs.first["rows"]):
            cells = (runs[key][:, k] for key in ("distance", "mse", "agreement"))
            rows.append(((words, NAMES.get(str(name), str(name))), *cells, str(runs.first["calls"][k])))
    head = (found.label, "distance", "MSE", "class", "calls")
    return score_table(head, rows, digits=(2, 3, 2, 0), positive=True)


@drawn_from("vp", what="the sweep of the sampler", partial=True)
def sweeps(found):
    """F7: distance and error against the churn, and against calls of the network."""
    runs, settings = found.runs, found.runs.first.settings
    sheet, panels = figure(height=2.7, columns=2)
    panels[0].plot(settings["churns"], runs["churn distance"].mean(0), label="distance", **series(0))
    panels[0].plot(settings["churns"], 10 * runs["churn mse"].mean(0), "--", label="10 × MSE", **series(1))
    panels[0].set(xlabel="churn $s$", ylim=(0, None))
    for rank, sampler in enumerate(("hybrid", "ODE")):
        calls, distances = (runs[f"{sampler} steps {key}"].mean(0) for key in ("calls", "distance"))
        panels[1].plot(calls, distances, label=sampler, **series(rank))
    log_axis(panels[1])
    panels[1].set(xlabel="calls of the network", ylabel="distance", ylim=(0, None))
    for axes in panels:
        axes.legend()
    return Picture(
        sheet,
        "Left: distance and squared error against churn. Right: distance against calls of the network, for the hybrid "
        "sampler and for the ODE.",
        f"DDBM (VP); lower is better. Left: by churn, at {settings['sampler_steps']} steps. Right: by calls of the "
        f"network; compare the two curves at one number of calls. Each point is from {settings['swept']} answers, fewer "
        "than in the tables.",
    )


@drawn_from("vp", "ve", what="the weight of the pull", partial=True)
def guidance(found):
    """F8: distance against the weight of the pull to the source."""
    sheet, axes = figure("narrow", height=2.7)
    for name in ("vp", "ve"):
        distances = found[name]["guidance distance"].mean(0)
        axes.plot(found.settings.guidances, distances, label=WORDS[name], **series(RANK[name]))
    axes.set(xlabel="weight $w$ of the pull $h$", ylabel="distance", ylim=(0, None))
    axes.legend()
    caption = "Distance by the weight of the pull; 1 is the bridge. A flat curve means that the pull hardly matters."
    return Picture(sheet, "Two curves of the distance against the weight of the pull.", caption)


@drawn_from(*MAIN, what="image translation", partial=True)
def learning(found):
    """Training losses, each of its own kind, on a log axis."""
    sheet, axes = figure(height=2.6)
    for name in MAIN:
        losses = found[name]["losses"]
        steps = found.settings.training.steps * (np.arange(losses.shape[1]) + 1) / losses.shape[1]
        relative = losses.mean(0) / losses[:, 0].mean()
        axes.plot(steps, relative, label=WORDS[name], **series(RANK[name]), markevery=0.1)
    log_axis(axes, "xy")
    axes.set(xlabel="step", ylabel="loss / first loss")
    axes.legend(ncols=2)
    caption = (
        "Training losses, each divided by its first value. They measure different things, so don't compare heights: look "
        "for curves that still fall at the end."
    )
    return Picture(sheet, "Falling curves of the training losses of five methods.", caption)


def reported():
    """T5: Table 2 of the paper."""
    head = [
        f"{data} {measure}" for data in ("Handbags", "DIODE") for measure in ("FID", "IS", "LPIPS", "MSE")
    ]
    return table(("", *head), [[str(cell) for cell in cells] for cells in REPORTED], numeric=True)


def later():
    """T6: the released networks with later samplers."""
    head = ("sampler", "Handbags, 5 / 10 / 20 calls", "50 / 100", "DIODE, 5 / 10 / 20 calls", "50 / 100")
    return table(head, LATER, numeric=True)


def thumbnail(chapter, target):
    """The picture on the landing page: reverse paths from one source into both modes."""
    run = chapter.stored["toys"].first
    with thumbnail_axes(target) as axes:
        axes.plot(sampler_times(), run["VP hybrid path"], color=series(0)["color"], linewidth=1.2, alpha=0.7)
        axes.plot(sampler_times(), run["VP flow path"][:, 0], color=BLACK, linewidth=3)
        axes.invert_xaxis()

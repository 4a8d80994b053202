"""The chapter's pictures of networks in the square and in the triangle."""

import numpy as np

from loupe.experiment.render import over_seeds, table
from loupe.experiment.results import absent, stored, stored_together
from loupe.papers.reflected_diffusion.claims import excess_mass
from loupe.papers.reflected_diffusion.figures import OURS, RANK, WIDTH
from loupe.plotting import SERIES, TRUTH, figure, series, show

OTHERS = ("gpu", "cpu")
METHODS = {  # sampler: experiment, name of its points, words
    "reflected": ("toys_reflected", "fold", "reflected, fold"),
    "clip": ("toys_reflected", "clip", "reflected, clip each step"),
    "short": ("toys_reflected", "short", "reflected, fold, from less noise"),
    "flow": ("toys_reflected", "flow", "reflected, flow"),
    "mollified": ("toys_reflected", "mollified", "reflected, mollified flow"),
    "none": ("toys_exploding", "none", "no walls, clip at the end"),
    "static": ("toys_exploding", "static", "no walls, static threshold"),
    "dynamic": ("toys_exploding", "dynamic", "no walls, dynamic threshold"),
    "logit": ("toys_logit", "logit", "logits of the data"),
}
TOYS = {"squares": "chessboard", "corners": "corners"}
SHORT = {
    "reflected": "reflected",
    "clip": "clip each step",
    "static": "static",
    "flow": "flow",
    "logit": "logits",
}
SCATTERED = ("data", "reflected", "clip", "static", "flow", "logit")


def _found(chapter):
    names = {experiment for experiment, _, _ in METHODS.values()}
    return stored_together(chapter, sorted(names), OTHERS)


def scatter(chapter):
    """F9: points that samplers draw, beside the data."""
    found = _found(chapter)
    if found is None:
        return absent("drawing in the square")
    runs = found.runs
    sheet, panels = figure(WIDTH, 7.4, rows=4, columns=3)
    for k, toy in enumerate(TOYS):
        for axes, method in zip(panels[2 * k : 2 * k + 2].flat, SCATTERED, strict=True):
            experiment, name, words = METHODS.get(method, ("toys_reflected", "data", "data"))
            points = runs[experiment].first[f"{toy} {name}"]
            colour = "#000000" if method == "data" else SERIES[RANK.get(method, 0)].colour
            axes.plot(*points.T, ".", markersize=1.4, color=colour)
            axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal", xticks=[0, 1], yticks=[0, 1])
            axes.set_title(SHORT.get(method, words), fontsize=8.5)
    first = next(iter(runs["toys_reflected"])).seed
    show(
        sheet,
        alt="Twelve scatter plots in squares, six for each law. None of the samplers separates all cells: "
        "with walls there are blurred clumps, with the static threshold stripes, with logits a nearly even square. On the "
        "corner mixture all find the four clusters, three of them at walls, with some points between.",
        caption=f"{len(points):,} points of the data and of five samplers, seed {first}, for the chessboard (above) and "
        "the corner mixture (below). With clipping, points lie on the walls themselves. "
        f"Preset `{found.preset}`.",
    )


def distances(chapter):
    """T1: energy distances from held-out data, and how many points lie at walls."""
    found = _found(chapter)
    if found is None:
        return absent("drawing in the square")
    runs = found.runs
    rows = []
    for experiment, name, words in METHODS.values():
        row = [words, str(len(runs[experiment]))]
        for toy in TOYS:
            row += [
                _over_seeds(runs[experiment][f"{toy} {name} distance"], 1e4),
                _over_seeds(runs[experiment][f"{toy} {name} at walls"], 100),
            ]
        rows.append(row)
    last = ["other data", str(len(runs["toys_reflected"]))]
    for toy in TOYS:
        last += [
            _over_seeds(runs["toys_reflected"][f"{toy} floor"], 1e4),
            _over_seeds(runs["toys_reflected"][f"{toy} data at walls"], 100),
        ]
    head = [f"sampler, {found.preset}", "seeds"] + [
        f"{words}: {what}" for words in TOYS.values() for what in ("distance × 10⁴", "at walls, %")
    ]
    return table(head, [*rows, last], numeric=True)


def _over_seeds(values, factor):
    return over_seeds(factor * np.asarray(values, dtype=float), 2)


def likelihoods(chapter):
    """F10: learned against true log-densities, and the bound against the entropy."""
    found = stored_together(chapter, ("toys_reflected", "grey_bound"), OTHERS)
    if found is None:
        return absent("the likelihood in the square")
    toys, grey = found.runs["toys_reflected"], found.runs["grey_bound"]
    run = toys.first
    sheet, panels = figure(WIDTH, 6.6, rows=2)
    panels[0].plot(run["true_log_density"], run["log_density"], ".", color=OURS, markersize=2.5)
    ends = np.quantile(run["true_log_density"], [0, 1])
    panels[0].plot(ends, ends, **TRUTH)
    panels[0].set(
        xlabel="true log-density, nats",
        ylabel="returned, nats",
        title="What a network's flow returns is not a density",
    )
    bound, surprise = (grey[name].mean(1) for name in ("bound", "surprise"))
    seeds = np.arange(len(bound))
    over = grey["bound"] - grey["surprise"]
    spread = over.std(axis=1, ddof=1) / over.shape[1] ** 0.5
    panels[1].errorbar(seeds, bound, spread, linestyle="none", markersize=7, **series(0))
    panels[1].plot(seeds, surprise, linestyle="none", color="#000000", marker="_", markersize=8)
    entropy = float(grey.first["entropy"])
    panels[1].axhline(entropy, **TRUTH)
    panels[1].set_ylim(bottom=entropy - 0.02)
    panels[1].annotate("entropy", (-0.4, entropy), va="bottom", fontsize=8.5)
    for words, value in (("bound", bound[0]), ("true bits of the same points", surprise[0])):
        place = {"xytext": (8, 0), "textcoords": "offset points"}
        panels[1].annotate(words, (seeds[0], value), **place, va="center", fontsize=8.5)
    panels[1].set(xlim=(-0.5, len(seeds) - 0.3), ylabel="bits per dimension")
    panels[1].set_title("How close the bound comes to the true bits")
    panels[1].set_xticks(seeds, [f"seed {seed}" for seed in grey.seeds])
    n = len(run["log_density"])
    show(
        sheet,
        alt="Above, a cloud of points along the diagonal: what the flow returns against true log-densities. Below, for "
        "each network the bound as a point above a dash, the true bits.",
        caption=f"Above: what the flow of a trained network returns for {n} held-out points of the corner mixture with "
        f"noise of 0.01, seed {toys.seeds[0]}. Its ratio to the true density has the mean "
        f"{float(excess_mass(toys)[0]):.2f} over these points; that of a density is at most 1. Below: bound (points) "
        f"and true bits (dashes) of {grey['bound'].shape[1]} points on 256 grey levels each way, and the entropy of "
        "their distribution; bars, one standard error of the difference. "
        f"Preset `{found.preset}`.",
    )


def triangle(chapter):
    """F11: a law on the simplex by way of the square, and without walls."""
    found = stored(chapter, "simplex", OTHERS)
    if found is None:
        return absent("drawing in the triangle")
    run = found.runs.first
    sheet, panels = figure(WIDTH, 2.4, columns=3, sharey=True)
    shown = (
        ("data", "data", "#000000"),
        ("reflected", "broken sticks", OURS),
        ("none", "no walls", SERIES[RANK["none"]].colour),
    )
    for axes, (name, words, colour) in zip(panels, shown, strict=True):
        axes.plot(*run[f"simplex {name}"].T, ".", markersize=1.4, color=colour)
        axes.plot([0, 1, 0, 0], [0, 0, 1, 0], **TRUTH)
        axes.set(xlim=(-0.12, 1.05), ylim=(-0.12, 1.05), aspect="equal", xticks=[0, 1], yticks=[0, 1])
        axes.set_title(words, fontsize=9)
    outside, n = found.runs["outside"], len(found.runs)
    seeds = f"mean of {n} seeds" if n > 1 else "1 seed"
    ours, floor = (found.runs[f"simplex {name}"].mean() for name in ("reflected distance", "floor"))
    theirs = found.runs["simplex none distance"].mean()
    show(
        sheet,
        alt="Three triangles with points. Data and broken sticks fill two regions near the corners inside the triangle; "
        "without walls some points lie outside of it.",
        caption=f"A mixture of two Dirichlet laws on the triangle. Diffusion in the square, mapped by stick-breaking, "
        f"stays in it; without walls {100 * outside.mean():.1f} % leave it ({seeds}). "
        f"Energy distances from held-out data, × 10⁴: {1e4 * ours:.1f} and {1e4 * theirs:.1f}; of other data "
        f"{1e4 * floor:.1f}. Preset `{found.preset}`.",
    )

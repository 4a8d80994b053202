"""The chapter's pictures of networks in the square and in the triangle."""

import numpy as np

from loupe.experiment.render import over_seeds, table
from loupe.papers.drawing import Picture, drawn_from
from loupe.papers.reflected_diffusion.claims import excess_mass
from loupe.papers.reflected_diffusion.figures import OURS, PLAIN, RANK
from loupe.plotting import BLACK, SERIES, TRUTH, figure, series

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
SCATTERED = {  # sampler: title
    "data": "data",
    "reflected": "reflected",
    "clip": "clip each step",
    "static": "static",
    "flow": "flow",
    "logit": "logits",
}
SHOWN = 600  # points of a panel
SQUARE = ("toys_exploding", "toys_logit", "toys_reflected")


@drawn_from(*SQUARE, what="drawing in the square", seeds="first")
def scatter(found):
    """F9: points that samplers draw, beside the data."""
    sheet, panels = figure(height=7.4, rows=4, columns=3)
    for k, toy in enumerate(TOYS):
        for axes, (method, title) in zip(panels[2 * k : 2 * k + 2].flat, SCATTERED.items(), strict=True):
            experiment, name, _ = METHODS.get(method, ("toys_reflected", "data", ""))
            points = found[experiment].first[f"{toy} {name}"][:SHOWN]
            colour = BLACK if method == "data" else SERIES[RANK.get(method, 0)].colour
            axes.plot(*points.T, ".", markersize=1.8, color=colour)
            axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal", xticks=[0, 1], yticks=[0, 1])
            axes.set_title(title)
            axes.label_outer()
    return Picture(
        sheet,
        "Twelve scatter plots in squares, six for each distribution. None of the samplers separates all cells: with walls "
        "there are blurred clumps, with the static threshold stripes, with logits a nearly even square. On the corner "
        "mixture all find the four clusters, three of them at walls, with some points between.",
        f"The first {len(points):,} points of the data and of five samplers, for the chessboard (above) and the corner "
        "mixture (below). With clipping, points lie on the walls themselves.",
    )


@drawn_from(*SQUARE, what="drawing in the square")
def distances(found):
    """T1: energy distances from held-out data, and how many points lie at walls."""
    cases = [
        (experiment, f"{name} distance", f"{name} at walls", words)
        for experiment, name, words in METHODS.values()
    ]
    rows = []
    for experiment, distance, walls, words in [
        *cases,
        ("toys_reflected", "floor", "data at walls", "other data"),
    ]:
        runs = found[experiment]
        cells = [
            (runs[f"{toy} {name}"], factor)
            for toy in TOYS
            for name, factor in ((distance, 1e4), (walls, 100))
        ]
        rows.append([words, str(len(runs)), *(over_seeds(factor * values, 2) for values, factor in cells)])
    head = [f"{words}: {what}" for words in TOYS.values() for what in ("distance × 10⁴", "at walls, %")]
    return table([f"sampler, {found.preset}", "seeds", *head], rows, numeric=True)


@drawn_from("toys_reflected", "grey_bound", what="the likelihood in the square")
def likelihoods(found):
    """F10: learned against true log-densities, and the bound against the entropy."""
    toys, grey = found["toys_reflected"], found["grey_bound"]
    run = toys.first
    sheet, (above, below) = figure(height=6.6, rows=2)
    above.plot(run["true_log_density"], run["log_density"], ".", color=OURS, markersize=2.5)
    ends = np.quantile(run["true_log_density"], [0, 1])
    above.plot(ends, ends, **TRUTH)
    above.set(
        xlabel="true log-density, nats",
        ylabel="returned, nats",
        title="What a network's flow returns is not a density",
    )
    bound, surprise = (grey[name].mean(1) for name in ("bound", "surprise"))
    seeds, over = np.arange(len(bound)), grey["bound"] - grey["surprise"]
    spread = over.std(axis=1, ddof=1) / over.shape[1] ** 0.5
    below.errorbar(seeds, bound, spread, linestyle="none", markersize=7, **series(0))
    below.plot(seeds, surprise, linestyle="none", color=BLACK, marker="_", markersize=8)
    entropy = float(grey.first["entropy"])
    below.axhline(entropy, **TRUTH)
    below.set_ylim(bottom=entropy - 0.02)
    below.annotate("entropy", (-0.4, entropy), va="bottom")
    for words, value in (("bound", bound[0]), ("true bits of the same points", surprise[0])):
        place = {"xytext": (8, 0), "textcoords": "offset points"}
        below.annotate(words, (seeds[0], value), **place, va="center")
    below.set(xlim=(-0.5, len(seeds) - 0.3), ylabel="bits per dimension")
    below.set_title("How close the bound comes to the true bits")
    below.set_xticks(seeds, [f"seed {seed}" for seed in grey.seeds])
    return Picture(
        sheet,
        "Above, a cloud of points along the diagonal: what the flow returns against true log-densities. Below, for each "
        "network the bound as a point above a dash, the true bits.",
        f"Above: what the flow of a trained network returns for {len(run['log_density'])} held-out points of the corner "
        f"mixture with noise of 0.01, seed {toys.seeds[0]}. Its ratio to the true density has the mean "
        f"{float(excess_mass(toys)[0]):.2f} over these points; that of a density is at most 1. Below: bound (points) "
        f"and true bits (dashes) of {grey['bound'].shape[1]} points on 256 gray levels each way, and the entropy of "
        "their distribution; bars, one standard error of the difference.",
    )


@drawn_from("simplex", what="drawing in the triangle")
def triangle(found):
    """F11: a distribution on the simplex by way of the square, and without walls."""
    runs = found.runs
    sheet, panels = figure(height=2.4, columns=3, sharey=True)
    shown = (("data", "data", BLACK), ("reflected", "broken sticks", OURS), ("none", "no walls", PLAIN))
    for axes, (name, words, colour) in zip(panels, shown, strict=True):
        axes.plot(*runs.first[f"simplex {name}"].T, ".", markersize=1.4, color=colour)
        axes.plot([0, 1, 0, 0], [0, 0, 1, 0], **TRUTH)
        axes.set(xlim=(-0.12, 1.05), ylim=(-0.12, 1.05), aspect="equal", xticks=[0, 1], yticks=[0, 1])
        axes.set_title(words)
    ours, theirs, floor = (
        1e4 * runs[f"simplex {name}"].mean() for name in ("reflected distance", "none distance", "floor")
    )
    return Picture(
        sheet,
        "Three triangles with points. Data and broken sticks fill two regions near the corners inside the triangle; "
        "without walls some points lie outside of it.",
        "A mixture of two Dirichlet distributions on the triangle. Diffusion in the square, mapped by stick-breaking, "
        f"stays in it; without walls {100 * runs['outside'].mean():.1f} % leave it. Energy distances from held-out data, "
        f"× 10⁴: {ours:.1f} and {theirs:.1f}; of other data {floor:.1f}.",
    )

"""The chapter's pictures and tables of means and solvers."""

import numpy as np
import torch

from loupe.experiment.render import table
from loupe.experiment.results import row
from loupe.geometry.series import arsinh_ratio, arsinh_square
from loupe.papers.drawing import Picture, bench_table, drawn_from
from loupe.plotting import BLACK, MUTED, SERIES, figure, poincare_disk, series, show, thumbnail_axes


def disk(runs):
    """The widget: three points that can be dragged, their averages, geodesics to the mean."""
    run = runs.first
    return poincare_disk(
        run["points"],
        dict(zip(run["names"], run["averages"], strict=True)),
        title="Four averages of three points",
        alt="Three points in the Poincaré disk joined by geodesics to their Fréchet mean; the tangent mean, the Einstein "
        "midpoint and the Euclidean mean lie nearby, each with a larger sum of squared distances.",
    )


def majorant():
    """Why the solver needs no step size: the sum of tangents is a bound that can be minimized at once."""
    points, now = torch.tensor([-0.9, 0.3, 0.8]).double(), torch.tensor([-0.75]).double()
    y, color = torch.linspace(-0.93, 0.9, 300).double(), SERIES[0].color

    def t(place):
        """The argument of g for each place and point, (places, 3)."""
        away = (points - place.unsqueeze(-1)).square()
        return away / ((1 - points.square()) * (1 - place.square()).unsqueeze(-1))

    level, slope = 4 * arsinh_square(t(now)), 4 * arsinh_ratio(t(now))
    bound = (level + slope * (t(y) - t(now))).sum(-1)
    sheet, axes = figure(height=3.1)
    axes.plot(y, 4 * arsinh_square(t(y)).sum(-1), color=BLACK, label="F")
    axes.plot(y, bound, color=color, label="sum of tangents")
    places = (
        (now, level.sum(), "current mean", (10, 6)),
        (y[bound.argmin()], bound.min(), "next mean", (-54, -24)),
    )
    for x, height, words, away in places:
        axes.plot(x, height, "o", color=color, markersize=7)
        axes.annotate(words, (float(x), float(height)), away, textcoords="offset points", color=color)
    axes.set(xlabel="position of y on a diameter of the disk", ylabel="F(y)", ylim=(0, 60))
    axes.set_title("The bound touches F, and its minimum is lower")
    axes.legend(loc="upper center")
    show(
        sheet,
        alt="F along a diameter of the disk, and above it a bound that touches it at the current mean. The minimum of "
        "the bound is the next mean, nearer to the minimum of F.",
        caption="Three points on a diameter, at −0.9, 0.3 and 0.8. The bound is a weighted sum of $|x_l-y|^2/(1-y^2)$.",
    )


@drawn_from("solver_study", what="the comparison of solvers", seeds="")
def errors(found):
    """Error after each iteration, for four solvers."""
    run = found.runs.first
    labels = {"ours": "majorization", "Karcher": "Karcher flow", "step 0.01": "gradient, step 0.01",
              "best step": f"gradient, best step ({run['best_step']:g})"}  # fmt: skip
    sheet, axes = figure(height=3.4)
    for k, (solver, label) in enumerate(labels.items()):
        curves = np.maximum(row(run, "errors", space="ball", solver=solver)[:, :61], 1e-14)
        curves = curves[:, np.isfinite(curves).all(axis=0)]  # all have arrived after that
        axes.plot(curves.T, color=SERIES[k].color, linewidth=0.5, alpha=0.35)
        axes.plot(np.median(curves, axis=0), color=SERIES[k].color, label=label)
    axes.set_yscale("log")
    axes.set_yticks([1e-12, 1e-9, 1e-6, 1e-3, 1], ["10⁻¹²", "10⁻⁹", "10⁻⁶", "10⁻³", "1"])
    axes.set(xlim=(0, 60), xlabel="iterations", ylabel="distance to the mean")
    axes.set_title("Majorization needs the fewest iterations")
    axes.legend(loc="upper right", bbox_to_anchor=(1.0, 0.86))
    return Picture(
        sheet,
        "Four falling lines on a logarithmic axis: the paper's solver falls fastest, then gradient descent with its best "
        "step, then Karcher flow; gradient descent with step 0.01 hardly moves.",
        f"{run['iterations'].shape[1]} random problems of ten points in ten dimensions, radius up to 0.9 (thin lines), and "
        "their median. All solvers start at the first point. The best step was chosen on these very problems.",
    )


COLUMNS = {
    "loupe": "ours", "explicit": "explicit matrices", "through": "through the iterations", "Karcher": "Karcher flow",
    "tuned": "gradient, best step", "step 0.01": "step 0.01",
}  # fmt: skip
"""Words in the methods of the benchmark, and the columns of the tables."""


def times(bench, part):
    """Milliseconds of a call by size, then by the word of a method; ``None`` where a solver did not converge."""
    found = {}
    for one in bench["rows"]:
        if one["task"] == "means" and one["precision"] == "float64":
            word = next(word for word in COLUMNS if word in one["method"])
            found.setdefault("×".join(map(str, one["size"])), {})[word] = one.get(f"{part}, ms")
    return found


def timing_table(bench, part):
    """``forward`` or ``backward`` times, one row for each size, one column for each method."""
    words = list(COLUMNS)[: 3 if part == "backward" else None]
    rows = [
        (size, *(_ms(each[word]) if word in each else "not run" for word in words))
        for size, each in times(bench, part).items()
    ]
    return table((f"{part}, ms", *(COLUMNS[word] for word in words)), rows, numeric=True)


def _ms(value):
    return "not converged" if value is None else f"{value:,.3g}" if value < 1000 else f"{value:,.0f}"


def graph_table(bench):
    """Means over the neighbors of Cora, forward and backward, and peak memory."""
    columns = {key: f"{{{key}:,.0f}}" for key in ("forward, ms", "backward, ms", "peak, MiB")}
    return bench_table(bench, "Cora", {"method": "{method}, {precision}"} | columns)


def thumbnail(chapter, target):
    """The three points with their geodesics and averages, without axes, for the landing page."""
    run, angle = chapter.stored["three_points"].first, np.linspace(0, 2 * np.pi, 300)
    with thumbnail_axes(target) as axes:
        axes.plot(np.cos(angle), np.sin(angle), color=MUTED, linewidth=1)
        axes.set_aspect("equal")
        axes.axis("off")
        for point, way in zip(run["points"], np.moveaxis(run["geodesics"], 1, 0), strict=True):
            axes.plot(*way.T, color=SERIES[0].color, linewidth=3)
            axes.plot(*point, "o", color=BLACK, markersize=13)
        for rank, place in enumerate(run["averages"]):
            axes.plot(*place, linestyle="none", markersize=13, zorder=5, **series(rank))

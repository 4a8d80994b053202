"""The chapter's pictures of means and solvers, drawn from stored results alone."""

import numpy as np
import torch

from loupe.experiment.render import table
from loupe.geometry.series import arsinh_ratio, arsinh_square
from loupe.plotting import (
    BLACK,
    GRID,
    MUTED,
    SERIES,
    figure,
    log_axis,
    poincare_disk,
    series,
    show,
    thumbnail_axes,
)

GRAPHS = {
    "disease_lp": "disease (tree)", "disease_nc_structure": "disease (tree)", "airport": "airport", "cora": "Cora",
    "pubmed_partial": "PubMed (structure)", "generated": "generated tree",
}  # fmt: skip


def graph_name(name):
    """A graph as a reader knows it."""
    return GRAPHS[str(name)]


def draw_runs(axes, x, curves, **look):
    """Lines of curves ``(runs, m)`` against ``x``, each up to where it ended."""
    for curve in curves:
        ran = np.isfinite(curve)
        axes.plot(x[ran], curve[ran], **look)


def disk(runs):
    """F1, to play with: three points, their averages, geodesics to the mean."""
    run = runs.first
    averages = dict(zip(run["names"], run["averages"], strict=True))
    return poincare_disk(
        run["points"],
        averages,
        title="Four averages of three points",
        alt="Three points in the Poincaré disk joined by geodesics to their Fréchet mean; the tangent mean, the Einstein "
        "midpoint and the Euclidean mean lie nearby, each with a larger sum of squared distances.",
    )


def _empty_disk(axes):
    angle = np.linspace(0, 2 * np.pi, 300)
    circle = np.stack([np.cos(angle), np.sin(angle)])
    axes.plot(*circle, color=MUTED, linewidth=1)
    for distance in (1, 2, 3):
        axes.plot(*(np.tanh(distance / 2) * circle), color=GRID, linewidth=0.8, zorder=0)
    axes.set_aspect("equal")
    axes.axis("off")


def gradients(runs):
    """F2: what the mean does when each point moves."""
    run = runs.first
    sheet, (disk, plane) = figure(height=3.0, columns=2)
    _empty_disk(disk)
    angle = np.linspace(0, 2 * np.pi, 200)
    circle = np.stack([np.cos(angle), np.sin(angle)])
    for k, name in enumerate("ABC"):
        point, ellipse, color = run["points"][k], run["jacobians"][k] @ circle, SERIES[k].colour
        disk.plot(*run["geodesics"][:, k].T, color=color, linewidth=1.2)
        disk.plot(*point, "o", color=color)
        away = 11 * (point - run["averages"][0]) / np.linalg.norm(point - run["averages"][0])
        disk.annotate(name, point, away, textcoords="offset points", color=color, ha="center", va="center")
        plane.fill(*ellipse, color=color, alpha=0.15, linewidth=0)
        plane.plot(*ellipse, color=color, linewidth=1.4, label=name)
    disk.plot(*run["averages"][0], "o", color=BLACK, markersize=5)
    disk.set_title("Three points and their mean")
    plane.plot(0, 0, "o", color=BLACK, markersize=4)
    plane.set(aspect="equal", title="How it follows each")
    plane.axhline(0, color=GRID, zorder=0)
    plane.axvline(0, color=GRID, zorder=0)
    plane.legend(ncols=3, loc="upper center", bbox_to_anchor=(0.5, -0.12), handlelength=1)
    show(
        sheet,
        alt="Left, three colored points in the Poincaré disk with geodesics to their mean. Right, three flat ellipses "
        "around the mean, each tilted in another direction.",
        caption="Left: points A, B, C and their mean (black). Right: where the mean goes when one point runs once around "
        "a small circle, in units of its radius; lengths are hyperbolic on both sides. Sideways moves of a distant "
        "point count less than moves toward the mean, and across their own geodesics the other points hold the mean.",
    )


def majorant():
    """Why the solver needs no step: d**2 under its tangent, and F under the sum of tangents."""
    points, y = (
        torch.tensor([-0.9, 0.3, 0.8]).double(),
        torch.linspace(-0.93, 0.9, 300, dtype=torch.float64),
    )
    t, at, now = (
        torch.linspace(0, 6, 200, dtype=torch.float64),
        torch.tensor(1.0).double(),
        torch.tensor(-0.75).double(),
    )

    def squared(t):
        return 4 * arsinh_square(t)

    def tangent(t, at):
        return squared(at) + 4 * arsinh_ratio(at) * (t - at)

    def of(place):
        away = (points - place.unsqueeze(-1)).square()
        return away / ((1 - points.square()) * (1 - place.square()).unsqueeze(-1))

    bound, ours = tangent(of(y), of(now)).sum(-1), {"color": SERIES[0].colour}
    lowest = bound.argmin()
    sheet, (above, below) = figure(height=4.6, rows=2)
    above.plot(t, squared(t), color=BLACK, label="g(t), the squared distance")
    above.plot(t, tangent(t, at), **ours, label="its tangent")
    above.plot(at, squared(at), "o", **ours)
    above.set(xlabel="t", ylabel="squared distance", title="A tangent lies above …")
    below.plot(y, squared(of(y)).sum(-1), color=BLACK, label="F")
    below.plot(y, bound, **ours, label="sum of tangents")
    below.plot(now, squared(of(now)).sum(), "o", **ours)
    below.plot(y[lowest], bound[lowest], "v", **ours, label="its lowest point, the next mean")
    below.set(
        xlabel="y, along a diameter of the disk", ylabel="F", title="… and so does their sum", ylim=(0, 60)
    )
    above.legend()
    below.legend(loc="upper center")
    show(
        sheet,
        alt="Above, the concave curve g(t) with its tangent. Below, F along a diameter with a bound above it that "
        "touches it at the current mean; the lowest point of the bound lies nearer to the lowest point of F.",
        caption="Above: the squared distance as a function of $t$ is concave. Below: three points on a diameter; the bound "
        "touches $F$ at the current mean (dot), and going to its lowest point (triangle) can only lower $F$.",
    )


def errors(runs):
    """F3: error after each iteration, for the four solvers."""
    run = runs.first
    sheet, axes = figure(height=3.6)
    for k in range(4):
        curves, color = np.maximum(run["errors"][0, k], 1e-14), SERIES[k].colour  # in the ball
        iterations = np.arange(curves.shape[1])
        draw_runs(axes, iterations, curves, color=color, linewidth=0.5, alpha=0.35)
        draw_runs(axes, iterations, np.median(curves, axis=0)[None], color=color, label=_label(run, k))
    axes.set_yscale("log")
    axes.set_yticks([1e-12, 1e-9, 1e-6, 1e-3, 1], ["10⁻¹²", "10⁻⁹", "10⁻⁶", "10⁻³", "1"])
    axes.set(xlim=(0, 60), xlabel="iterations", ylabel="distance to the mean")
    axes.set_title("The tangent of a concave function wins")
    axes.legend(loc="upper right", bbox_to_anchor=(1.0, 0.86))
    show(
        sheet,
        alt="Four falling lines on a logarithmic axis: the paper's solver falls fastest, gradient descent with its best "
        "step and Karcher flow follow, gradient descent with step 0.01 hardly moves.",
        caption=f"Error after each iteration on {run['iterations'].shape[2]} random problems of ten points in ten "
        "dimensions, radius up to 0.9 (thin) and their median (thick). All start at the first point. The best step of "
        "gradient descent is the best of six on these very problems. On the hyperboloid the curves are the same.",
    )


def _label(run, k):
    name = str(run["solvers"][k])
    return f"gradient, best step ({run['best_step']:g})" if name == "gradient, best step" else name


def solver_table(runs):
    """Iterations to an error of 1e-10: mean and range over the problems."""
    run = runs.first
    rows = [
        (_label(run, k), f"{ball.mean():.1f}", f"{ball.min()} to {ball.max()}", f"{hyperboloid.mean():.1f}")
        for k, (ball, hyperboloid) in enumerate(zip(*run["iterations"], strict=True))
    ]
    return table(("iterations", "ball, mean", "range", "hyperboloid, mean"), rows, numeric=True)


def hyperbolicity_table(runs):
    """Gromov's delta of each graph."""
    run = runs.first
    rows = [
        (graph_name(name), f"{nodes:,}", f"{edges:,}", str(diameter), f"{maximum:g}", f"{mean:.3f}")
        for name, nodes, edges, diameter, maximum, mean in zip(
            *(run[key] for key in ("graphs", "nodes", "edges", "diameter", "maximum", "mean")), strict=True
        )
    ]
    return table(("graph", "nodes", "edges", "diameter", "δ max", "δ mean"), rows, numeric=True)


PEERS = {
    "loupe": "ours",
    "re-statement, explicit matrices": "explicit matrices",
    "autograd through the iterations": "through the iterations",
}
"""What differentiates the mean in the benchmark, and its name here."""

SOLVERS = {"Karcher": "Karcher flow", "tuned": "gradient, best step", "step 0.01": "step 0.01"}


def _times(bench, part, names):
    """Milliseconds by size and method, ``None`` where a solver did not converge; a method by a part of its name."""
    times = {}
    for row in bench["rows"]:
        name = next((short for word, short in names.items() if word in row["method"]), None)
        if name and row["task"] == "means" and row["precision"] == "float64":
            times.setdefault("×".join(map(str, row["size"])), {})[name] = row.get(f"{part}, ms")
    return times


def timing(bench):
    """F4: time of forward and backward at each size, against the two peers that differentiate."""
    sheet, panels = figure(height=4.6, rows=2, sharex=True)
    for axes, part in zip(panels, ("forward", "backward"), strict=True):
        times = _times(bench, part, PEERS)
        for rank, name in enumerate(PEERS.values()):
            each = np.array(
                [[np.nan if found.get(name) is None else found[name] for found in times.values()]]
            )
            draw_runs(axes, np.arange(len(times)), each, linestyle="none", label=name, **series(rank))
        log_axis(axes, "y")
        axes.set_ylabel(f"{part}, ms")
    panels[0].set_title("Backward is where matrices cost")
    panels[1].set_xticks(range(len(times)), list(times), rotation=35, ha="right")
    panels[1].set_xlabel("means × points × dimension")
    panels[1].legend(ncols=3, loc="upper center", bbox_to_anchor=(0.5, -0.62), columnspacing=1)
    about = bench["environment"]
    show(
        sheet,
        alt="Two panels over seven problem sizes. Forward times of three methods lie within a factor of a few; backward, "
        "they lie much further apart, ours below the others.",
        caption=f"CPU time of one call in float64, one thread of {about['hardware']}; torch {about['torch']}. Every "
        "method's mean and gradients were checked against each other before they were timed. Measured by "
        "`benchmarks/frechet_mean.py`.",
    )


def timing_table(bench, part):
    """F4 as a table: ``forward`` or ``backward`` times, one row a size, one column a method."""
    names = PEERS | (SOLVERS if part == "forward" else {})
    rows = [
        (size, *(_ms(found[one]) or "not converged" if one in found else "not run" for one in names.values()))
        for size, found in _times(bench, part, names).items()
    ]
    return table((f"{part}, ms", *names.values()), rows, numeric=True)


def graph_table(bench):
    """Means over the neighbours of Cora, forward and backward, and peak memory."""
    rows = [
        (
            f"{row['method']}, {row['precision']}",
            *(_ms(row.get(key)) for key in ("forward, ms", "backward, ms", "peak, MiB")),
        )
        for row in bench["rows"]
        if row["task"] == "Cora"
    ]
    return table(("method", "forward, ms", "backward, ms", "peak, MiB"), rows, numeric=True)


def _ms(value):
    return "" if value is None else f"{value:,.3g}" if value < 1000 else f"{value:,.0f}"


def thumbnail(chapter, target):
    """The three points with their geodesics and averages, without axes, for the landing page."""
    run = chapter.stored["three_points"].first
    with thumbnail_axes(target) as axes:
        _empty_disk(axes)
        for point, way in zip(run["points"], np.moveaxis(run["geodesics"], 1, 0), strict=True):
            axes.plot(*way.T, color=SERIES[0].colour, linewidth=3)
            axes.plot(*point, "o", color=BLACK, markersize=13)
        for rank, place in enumerate(run["averages"]):
            axes.plot(*place, linestyle="none", markersize=13, zorder=5, **series(rank))

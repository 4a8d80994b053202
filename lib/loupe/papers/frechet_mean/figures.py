"""The chapter's pictures of means and solvers, drawn from stored results alone."""

import numpy as np
import torch

from loupe.experiment.render import table
from loupe.geometry.series import arsinh_ratio, arsinh_square
from loupe.plotting import MUTED, SERIES, figure, log_axis, poincare_disk, series, show

WIDTH = 5.2  # inches: still readable when a phone shows it 360 pixels wide


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
    axes.plot(np.cos(angle), np.sin(angle), color=MUTED, linewidth=1)
    for distance in (1, 2, 3):
        radius = np.tanh(distance / 2)
        axes.plot(radius * np.cos(angle), radius * np.sin(angle), color="#e5e7eb", linewidth=0.8, zorder=0)
    axes.set_aspect("equal")
    axes.axis("off")


def gradients(runs):
    """F2: what the mean does when each point moves."""
    run = runs.first
    sheet, panels = figure(WIDTH, 3.0, columns=2)
    colours = [rank.colour for rank in SERIES[:3]]
    _empty_disk(panels[0])
    for k, (name, colour) in enumerate(zip("ABC", colours, strict=True)):
        panels[0].plot(*run["geodesics"][:, k].T, color=colour, linewidth=1.2)
        panels[0].plot(*run["points"][k], "o", color=colour)
        panels[0].annotate(name, run["points"][k], xytext=(6, 4), textcoords="offset points", color=colour)
    panels[0].plot(*run["averages"][0], "o", color="black", markersize=5)
    panels[0].set_title("Three points and their mean")
    circle = np.stack([np.cos(np.linspace(0, 2 * np.pi, 200)), np.sin(np.linspace(0, 2 * np.pi, 200))])
    for k, (name, colour) in enumerate(zip("ABC", colours, strict=True)):
        ellipse = run["jacobians"][k] @ circle
        panels[1].fill(*ellipse, color=colour, alpha=0.15, linewidth=0)
        panels[1].plot(*ellipse, color=colour, linewidth=1.4, label=name)
    panels[1].plot(0, 0, "o", color="black", markersize=4)
    panels[1].set_aspect("equal")
    panels[1].axhline(0, color="#e5e7eb", zorder=0)
    panels[1].axvline(0, color="#e5e7eb", zorder=0)
    panels[1].set_title("How it follows each")
    panels[1].legend(ncols=3, loc="upper center", bbox_to_anchor=(0.5, -0.12), handlelength=1)
    show(
        sheet,
        alt="Left, three coloured points in the Poincaré disk with geodesics to their mean. Right, three flat ellipses "
        "around the mean, each tilted in another direction.",
        caption="Left: points A, B, C and their mean (black). Right: where the mean goes when one point runs once around "
        "a small circle, in units of its radius; lengths are hyperbolic on both sides. Sideways moves of a distant "
        "point count less than moves towards the mean, and across their own geodesics the other points hold the mean.",
    )


def majorant():
    """Why the solver needs no step: d**2 under its tangent, and F under the sum of tangents."""
    points = torch.tensor([-0.9, 0.3, 0.8], dtype=torch.float64)
    sheet, panels = figure(WIDTH, 4.6, rows=2)
    t = torch.linspace(0, 6, 200, dtype=torch.float64)
    at = torch.tensor(1.0, dtype=torch.float64)
    tangent = 4 * arsinh_square(at) + 4 * arsinh_ratio(at) * (t - at)
    panels[0].plot(t, 4 * arsinh_square(t), color="black", label="g(t), the squared distance")
    panels[0].plot(t, tangent, color=SERIES[0].colour, label="its tangent")
    panels[0].plot(at, 4 * arsinh_square(at), "o", color=SERIES[0].colour)
    panels[0].set(xlabel="t", ylabel="squared distance", title="A tangent lies above …")
    y = torch.linspace(-0.93, 0.9, 300, dtype=torch.float64)
    now = torch.tensor(-0.75, dtype=torch.float64)

    def of(place):
        away = (points - place.unsqueeze(-1)).square()
        return away / ((1 - points.square()) * (1 - place.square()).unsqueeze(-1))

    bound = (4 * arsinh_square(of(now)) + 4 * arsinh_ratio(of(now)) * (of(y) - of(now))).sum(-1)
    panels[1].plot(y, 4 * arsinh_square(of(y)).sum(-1), color="black", label="F")
    panels[1].plot(y, bound, color=SERIES[0].colour, label="sum of tangents")
    panels[1].plot(now, 4 * arsinh_square(of(now)).sum(), "o", color=SERIES[0].colour)
    lowest = bound.argmin()
    panels[1].plot(
        y[lowest], bound[lowest], "v", color=SERIES[0].colour, label="its lowest point, the next mean"
    )
    panels[1].set(
        xlabel="y, along a diameter of the disk", ylabel="F", title="… and so does their sum", ylim=(0, 60)
    )
    for axes in panels:
        axes.legend()
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
    sheet, axes = figure(WIDTH, 3.6)
    space = 0
    for rank, k in enumerate((0, 1, 2, 3)):
        curves = np.maximum(run["errors"][space, k], 1e-14)
        axes.plot(curves.T, color=SERIES[rank].colour, linewidth=0.5, alpha=0.35)
        axes.plot(np.median(curves, axis=0), color=SERIES[rank].colour, label=_label(run, k))
    axes.set_yscale("log")
    axes.set_yticks([1e-12, 1e-9, 1e-6, 1e-3, 1], ["10⁻¹²", "10⁻⁹", "10⁻⁶", "10⁻³", "1"])
    axes.set_xlim(0, 60)
    axes.set(
        xlabel="iterations", ylabel="distance to the mean", title="The tangent of a concave function wins"
    )
    axes.legend(loc="upper right", bbox_to_anchor=(1.0, 0.86))
    shape = run["iterations"].shape
    show(
        sheet,
        alt="Four falling lines on a logarithmic axis: the paper's solver falls fastest, gradient descent with its best "
        "step and Karcher flow follow, gradient descent with step 0.01 hardly moves.",
        caption=f"Error after each iteration on {shape[2]} random problems of ten points in ten dimensions, radius up to "
        "0.9 (thin) and their median (thick). All start at the first point. The best step of gradient descent is the best "
        "of six on these very problems. On the hyperboloid the curves are the same.",
    )


def _label(run, k):
    name = str(run["solvers"][k])
    return f"gradient, best step ({run['best_step']:g})" if name == "gradient, best step" else name


def solver_table(runs):
    """Iterations to an error of 1e-10: mean and range over the problems."""
    run = runs.first
    rows = []
    for k in range(len(run["solvers"])):
        ball, hyperboloid = run["iterations"][:, k]
        rows.append(
            (
                _label(run, k),
                f"{ball.mean():.1f}",
                f"{ball.min()} to {ball.max()}",
                f"{hyperboloid.mean():.1f}",
            )
        )
    return table(("iterations", "ball, mean", "range", "hyperboloid, mean"), rows, numeric=True)


def hyperbolicity_table(runs):
    """Gromov's delta of each graph."""
    run = runs.first
    rows = [
        (_graph(name), f"{nodes:,}", f"{edges:,}", str(diameter), f"{maximum:g}", f"{mean:.3f}")
        for name, nodes, edges, diameter, maximum, mean in zip(
            *(run[key] for key in ("graphs", "nodes", "edges", "diameter", "maximum", "mean")), strict=True
        )
    ]
    return table(("graph", "nodes", "edges", "diameter", "δ max", "δ mean"), rows, numeric=True)


def _graph(name):
    return {
        "disease_lp": "disease (tree)",
        "disease_nc_structure": "disease (tree)",
        "airport": "airport",
        "cora": "Cora",
        "pubmed_partial": "PubMed (structure)",
        "generated": "generated tree",
    }.get(str(name), str(name))


_SHORT = {
    "loupe": "ours",
    "re-statement, explicit matrices": "explicit matrices",
    "autograd through the iterations": "through the iterations",
}
MARK = {"loupe": 0, "re-statement, explicit matrices": 1, "autograd through the iterations": 2}


def timing(bench):
    """F4: time of forward and backward at each size, against the two peers that differentiate."""
    rows = [
        row
        for row in bench["rows"]
        if row["task"] == "means" and row["precision"] == "float64" and row["method"] in MARK
    ]
    sizes = list(dict.fromkeys(tuple(row["size"]) for row in rows))
    sheet, panels = figure(WIDTH, 4.6, rows=2, sharex=True)
    for axes, part in zip(panels, ("forward", "backward"), strict=True):
        for method, rank in MARK.items():
            times = {tuple(row["size"]): row[f"{part}, ms"] for row in rows if row["method"] == method}
            drawn = [k for k, size in enumerate(sizes) if times.get(size) is not None]
            axes.plot(
                drawn,
                [times[sizes[k]] for k in drawn],
                linestyle="none",
                label=_SHORT[method],
                **series(rank),
            )
        log_axis(axes, "y")
        axes.set(ylabel=f"{part}, ms")
    panels[1].set_xticks(
        range(len(sizes)), ["×".join(map(str, size)) for size in sizes], rotation=35, ha="right"
    )
    panels[0].set_title("Backward is where matrices cost")
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
    columns = dict(_SHORT)
    if part == "forward":
        columns |= {"Karcher": "Karcher flow", "tuned": "gradient, best step", "step 0.01": "step 0.01"}
    times = {}
    for row in bench["rows"]:
        column = next((label for key, label in columns.items() if key in row["method"]), None)
        if row["precision"] == "float64" and row["task"] == "means" and column:
            found = times.setdefault("×".join(map(str, row["size"])), {})
            found[column] = _ms(row.get(f"{part}, ms")) or "not converged"
    rows = [(size, *(found.get(one, "not run") for one in columns.values())) for size, found in times.items()]
    return table((f"{part}, ms", *columns.values()), rows, numeric=True)


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
    """The three points with their geodesics and mean, without axes, for the landing page."""
    import matplotlib.pyplot as plt

    run = chapter.stored["three_points"].first
    sheet, axes = plt.subplots(figsize=(6.4, 4.8))
    _empty_disk(axes)
    for k in range(3):
        axes.plot(*run["geodesics"][:, k].T, color=SERIES[0].colour, linewidth=3)
        axes.plot(*run["points"][k], "o", color="black", markersize=13)
    for rank, place in enumerate(run["averages"]):
        axes.plot(*place, linestyle="none", markersize=13, zorder=5, **series(rank))
    sheet.savefig(target, dpi=100, facecolor="white", metadata={"Software": None})
    plt.close(sheet)

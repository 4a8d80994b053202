"""The chapter's figures and tables, drawn from stored results only."""

import math

import numpy as np
import torch

from loupe.diffusion.riemannian import HeatKernel
from loupe.experiment.render import score_table, table
from loupe.experiment.results import row
from loupe.papers.drawing import Picture, bench_table, drawn_from, seed_bars
from loupe.papers.riemannian_diffusion.claims import RSGM, kernels, sphere_errors
from loupe.papers.riemannian_diffusion.experiments import METHODS, SPACES
from loupe.plotting import MUTED, figure, log_axis, series, shades, thumbnail_axes
from loupe.plotting.widgets import Frame, frame_player

WORDS = {
    "combined": "combined",
    "series": "ten eigenfunctions",
    "varadhan": "Varadhan",
    "sliced_matching": "sliced",
}
RANK = {"combined": 0, "varadhan": 1, "series": 2, "sliced_matching": 3}
SETS = {"volc": "volcanoes", "quakes": "earthquakes", "flood": "floods", "fire": "fires"}
TRIVIAL = ("uniform", "heat kernels", "von Mises-Fisher mixture")
VIEW = -1.2, 0.35  # longitude and latitude of the globe's middle: the Pacific's eastern rim
REPORTED = (  # negative log-likelihoods; what the paper itself reports could not be read
    ("Mixture of Kent", "−0.80 ± 0.47", "0.33 ± 0.05", "0.73 ± 0.07", "−1.18 ± 0.06"),
    ("Riemannian CNF", "−6.05 ± 0.61", "0.14 ± 0.23", "1.11 ± 0.19", "−0.80 ± 0.54"),
    ("Moser flow", "−4.21 ± 0.17", "−0.16 ± 0.06", "0.57 ± 0.10", "−1.28 ± 0.05"),
    ("Stereographic SGM", "−3.80 ± 0.27", "−0.19 ± 0.05", "0.59 ± 0.07", "−1.28 ± 0.12"),
    ("RSGM", "−4.92 ± 0.25", "−0.19 ± 0.07", "0.45 ± 0.17", "−1.33 ± 0.06"),
    ("RDM", "−6.61 ± 0.96", "−0.40 ± 0.05", "0.43 ± 0.07 (not confirmed)", "−1.38 ± 0.05 (not confirmed)"),
    ("Flow matching", "−7.93 ± 1.67", "−0.28 ± 0.08", "0.42 ± 0.05 (not confirmed)", "−1.86 ± 0.11"),
    ("This paper", "not available", "not available", "not available", "not available"),
)


# --- kernels ------------------------------------------------------------------------------------------------


@drawn_from("estimators", what="the error of the estimators", seeds="")
def errors(found):
    """F1: relative error of the score against the noise level, by estimator and manifold."""
    run = found.runs.first
    sheet, panels = figure(height=4.2, columns=2, rows=2, sharey=True)
    for axes, space in zip(panels.flat, SPACES, strict=True):
        for k, method in enumerate(METHODS):
            values = np.clip(run[f"{space} errors"][:, k], 1e-16, 1e3)
            axes.plot(
                run[f"{space} levels"], values, label=WORDS[method], markersize=4, **series(RANK[method])
            )
        axes.axhline(1e-3, color=MUTED, linestyle="--", linewidth=1)
        log_axis(axes, "xy")
        low, high = run[f"{space} levels"][[0, -1]]
        axes.set(
            title=space, ylim=(1e-17, 1e4), xticks=[tick for tick in (0.01, 0.1, 1) if low <= tick <= high]
        )
    for axes in panels[1]:
        axes.set_xlabel(r"noise level $\sigma$")
    for axes in panels[:, 0]:
        axes.set_ylabel("relative error")
    panels[0, 0].legend(loc="center left", bbox_to_anchor=(0, 0.35))
    return Picture(
        sheet,
        "Four panels of the error of the score against the noise level. The combined estimator stays at rounding; ten "
        "eigenfunctions are useless at small noise and Varadhan's limit at large noise.",
        "Root mean squared error of the score over its root mean square, at exact samples, against multiprecision. The "
        "dashed line is the limit of the claim. Ten eigenfunctions miss sharp kernels, Varadhan's limit wide ones.",
    )


@drawn_from("identities", what="the kernel's profiles", seeds="")
def profiles(found):
    """F2: log densities on the sphere by angle, for a few noise levels."""
    run = found.runs.first
    sheet, axes = figure(height=2.9)
    for color, level, *curves in zip(
        shades(len(run["profile levels"])),
        run["profile levels"],
        *(run[f"profile {m}"] for m in METHODS),
        strict=True,
    ):
        for line, curve in zip(("-", ":", "--"), curves, strict=True):
            label = rf"$\sigma={level:g}$" if line == "-" else None
            axes.plot(
                run["profile angles"],
                curve,
                line,
                color=color,
                linewidth=1.6 if line == "-" else 1,
                label=label,
            )
    axes.set(xlabel="angle", ylabel="log density", ylim=(-14, 4), xticks=(0, math.pi / 2, math.pi))
    axes.set_xticklabels(("0", "π/2", "π"))
    axes.legend(ncols=2)
    return Picture(
        sheet,
        "Falling curves of the log density against the angle, flatter for more noise, with dotted and dashed ones "
        "that leave them at small and at large noise.",
        "The heat kernel of the sphere. Dotted: ten eigenfunctions, which end where their sum is negative. Dashed: "
        "Varadhan's limit, which is a Gaussian whatever the noise level, and doesn't become uniform.",
    )


@drawn_from("identities", what="fields on a circle", seeds="")
def circle(found):
    """F3: fields that lead to one point of a circle."""
    run = found.runs.first
    sheet, (left, right) = figure(height=2.5, columns=2)
    angles = run["circle"] / math.pi
    field = run["matching field"]
    jump = np.argmax(np.abs(np.diff(field))) + 1
    for part in (slice(jump), slice(jump, None)):
        left.plot(angles[part], field[part], color=series(1)["color"])
    for color, level, field in zip(shades(4), run["circle levels"], run["circle fields"], strict=True):
        right.plot(angles, field, color=color, label=rf"$\sigma={level:g}$")
    for axes, title in ((left, "flow matching"), (right, "diffusion")):
        axes.set(title=title, xlabel="angle from the data / π", xticks=(0, 1, 2))
    left.set_ylabel("velocity")
    right.legend()
    return Picture(
        sheet,
        "Two panels of velocities on a circle: a line with a jump opposite of the data, and smooth curves that pass "
        "through zero there.",
        "Velocities toward data at angle 0, halfway along flow matching's path, and for diffusion by noise level (times "
        "$\\sigma^2$). Look at angle π: a network has to learn a jump on the left, and nothing on the right.",
    )


@drawn_from("samplers", what="the moments of samplers", seeds="")
def moments(found):
    """T3: moments of exact samplers and of those with the released variance."""
    run, rows = found.runs.first, []
    for space in SPACES:
        for k in np.flatnonzero(run["manifold"] == space)[[1, 5]]:
            cells = (run[key][k] for key in ("exact", "mean", "released mean"))
            cells = ["–" if np.isnan(cell) else f"{cell:.4f}" for cell in cells]
            rows.append((space, f"{run['sigma'][k]:.2f}", *cells, f"{run['error'][k]:.4f}"))
    head = (found.preset, "σ", "exact", "ours", "released variance", "standard error (ours)")
    return table(head, rows, numeric=True)


def speed_table(bench):
    """T6: milliseconds of a sample and its score for 512 points, beside a re-statement of the published routes."""
    return bench_table(
        bench, "A sample and its score",
        {"manifold": "{space}", "route": "{method}", "ms": "{ms:.1f}", "times ours": "{times ours:.0f}"},
    )  # fmt: skip


# --- the globe ----------------------------------------------------------------------------------------------


def seen(points):
    """Points on the near half of the globe, in the plane of the picture: (n, 2)."""
    longitude, latitude = VIEW
    east = np.array([-math.sin(longitude), math.cos(longitude), 0])
    up = np.array(
        [
            math.cos(latitude) * math.cos(longitude),
            math.cos(latitude) * math.sin(longitude),
            math.sin(latitude),
        ]
    )
    north = np.cross(up, east)
    near = points[points @ up > 0]
    return near @ np.stack([east, north], 1)


def draw_globe(axes):
    """The outline of a globe, with circles of latitude and longitude."""
    turn = np.linspace(0, 2 * math.pi, 181)
    axes.plot(np.cos(turn), np.sin(turn), color=MUTED, linewidth=1)
    rings = [np.stack([math.cos(a) * np.cos(turn), math.cos(a) * np.sin(turn), np.full_like(turn, math.sin(a))], 1)
             for a in np.deg2rad((-60, -30, 0, 30, 60))]  # fmt: skip
    rings += [np.stack([np.cos(turn) * math.cos(a), np.cos(turn) * math.sin(a), np.sin(turn)], 1)
              for a in np.deg2rad(range(0, 180, 30))]  # fmt: skip
    for ring in rings:
        axes.plot(*seen(ring).T, ".", markersize=0.4, color=MUTED)
    axes.set(aspect="equal", xlim=(-1.03, 1.03), ylim=(-1.03, 1.03))
    axes.set_axis_off()


@drawn_from("combined", what="events on the globe", seeds="first", partial=True)
def flow(found):
    """F4, to play: uniform points that flow to earthquakes."""
    run, frames = found.runs.first, []
    name = "quakes" if "quakes" in run["sets"] else run["sets"][0]
    path = run[f"{name} path"].astype(float)
    settings = found.settings.earth
    levels = np.geomspace(settings.sigma_max, settings.sigma_min, len(path))
    for level, points in list(zip(levels, path, strict=True))[4::2]:
        sheet, axes = figure("narrow", height=3.6)
        draw_globe(axes)
        axes.plot(*seen(points).T, "o", markersize=2.2, color=series(0)["color"])
        frames.append(Frame(sheet, f"noise level {level:.3f}"))
    return frame_player(
        frames, title=f"From uniform points to {SETS[name]} (preset {found.preset})", label="step",
        alt=f"A globe with points that are uniform at first and end where {SETS[name]} were.", at=len(frames) - 1,
        note="Press play, or move the slider back to the left: the points were uniform. They stop on the edges of plates.",
        text=f"Uniform points flow to {SETS[name]} along the learned probability flow.",
    )  # fmt: skip


@drawn_from("estimators", what="the error of the estimators", seeds="")
def caps(found):
    """F5, to slide: the kernel as a cap on the globe by noise level, with the error of each estimator."""
    run, frames, grid = found.runs.first, [], 61
    across = np.linspace(-1, 1, grid)
    x, y = np.meshgrid(across, across)
    radius = np.hypot(x, y)
    angles = torch.from_numpy(np.arcsin(np.clip(radius, 0, 1)))
    kernel = HeatKernel(SPACES["S²"])
    for level, values in zip(run["S² levels"], run["S² errors"], strict=True):
        sheet, (left, right) = figure("narrow", height=2.4, columns=2)
        density = kernel.radial_log_density(angles, float(level)).exp().numpy()
        left.imshow(
            np.where(radius <= 1, density, np.nan),
            cmap="viridis",
            vmin=0,
            extent=(-1, 1, -1, 1),
            origin="lower",
        )
        left.set_axis_off()
        shown = np.clip(np.nan_to_num(values, nan=np.inf), 1e-16, 1e3)
        colors = [series(RANK[name])["color"] for name in METHODS]
        right.barh(range(3), np.log10(shown) + 17, color=colors)
        right.set(yticks=range(3), xlim=(0, 20.5), xticks=(1, 9, 17), xlabel="relative error")
        right.set_yticklabels([WORDS[name].replace(" ", "\n") for name in METHODS])
        right.set_xticklabels(("$10^{-16}$", "$10^{-8}$", "1"))
        right.invert_yaxis()
        frames.append(Frame(sheet, f"σ = {level:.3g}"))
    return frame_player(
        frames, title=f"Heat on the sphere, and three estimators of its score (preset {found.preset})", label="noise level",
        alt="A cap of density on a disk that spreads as the noise level rises, and bars of the errors of three estimators.",
        at=len(frames) // 2, text="The heat kernel on the sphere by noise level, with the error of each estimator.",
        note="Move the slider. At small noise ten eigenfunctions fail, at large noise Varadhan's limit; a network is "
        "trained on all of these levels.",
    )  # fmt: skip


@drawn_from("combined", what="events on the globe", seeds="first", partial=True)
def maps(found):
    """F6: learned log densities, with test points."""
    run = found.runs.first
    sheet, panels = figure(height=2.5 * len(run["sets"]), rows=len(run["sets"]))
    for axes, name in zip(np.atleast_1d(panels), run["sets"], strict=True):
        points = run[f"{name} test"]
        drawn = axes.imshow(np.clip(run[f"{name} map"], -8, 4), extent=(-180, 180, -90, 90), cmap="viridis")
        longitude, latitude = np.arctan2(points[:, 1], points[:, 0]), np.arcsin(np.clip(points[:, 2], -1, 1))
        axes.plot(*np.rad2deg((longitude, latitude)), ".", markersize=1.5, color="white")
        axes.grid(visible=False)
        axes.set(title=SETS[name], xticks=(-180, 0, 180), yticks=(-90, 0, 90))
        sheet.colorbar(drawn, ax=axes, label="log density", shrink=0.8)
    return Picture(
        sheet,
        "Maps of the learned log density, bright where events are frequent, with white points for test events.",
        "Learned log density, clipped to −8 and 4, with test events in white. Events on dark ground cost most.",
    )


@drawn_from(
    "combined",
    "varadhan",
    "series",
    "sliced_matching",
    "trivial",
    what="the comparison of estimators",
    partial=True,
)
def learning(found):
    """F7: validation likelihood while networks train, beside trivial rows."""
    sets = found["combined"].first["sets"]
    sheet, axes = figure(height=2.8)
    for name, rank in RANK.items():
        runs = found[name]
        curves = np.mean([runs[f"{each} nll"] for each in sets], 0)
        axes.plot(runs.first[f"{sets[0]} steps"], curves.mean(0), label=WORDS[name], **series(rank))
    for label, line in zip(TRIVIAL, ("-", "--", ":"), strict=True):
        value = np.mean(list(kernels({"trivial": found["trivial"]}, sets, label).values()))
        axes.axhline(value, color=MUTED, linestyle=line, linewidth=1, label=label)
    log_axis(axes, "x")
    axes.set(xlabel="step", ylabel="NLL (nats)", ylim=(None, 4.6))
    axes.legend(ncols=2, loc="upper center")
    return Picture(
        sheet,
        "Falling curves of the negative log-likelihood of four estimators against the step, with level lines of three "
        "rows that need no training.",
        "NLL on validation points, mean over sets and seeds; the level lines are on test points. Look for curves that "
        "still fall at the end.",
    )


@drawn_from(
    "combined",
    "varadhan",
    "series",
    "sliced_matching",
    "trivial",
    what="the comparison of estimators",
    partial=True,
)
def scores(found):
    """T1: the main table; trivial rows first."""
    return _scores(found, "nll")


@drawn_from(
    "combined",
    "varadhan",
    "series",
    "sliced_matching",
    "trivial",
    what="the comparison of estimators",
    partial=True,
)
def new_places(found):
    """T1b: the same without test points that repeat a training point."""
    return _scores(found, "new nll")


def _scores(found, key):
    sets = found["combined"].first["sets"]
    trivial = {
        label: [np.array([row(run, key, rows=label, sets=name) for run in found["trivial"]]) for name in sets]
        for label in TRIVIAL
    }
    networks = {WORDS[name]: [row(found[name], key, sets=each) for each in sets] for name in RANK}
    rows = [(label, *cells) for label, cells in (trivial | networks).items()]
    return score_table((found.label, *(SETS[name] for name in sets)), rows, digits=2, best="min")


@drawn_from("all_sets", "trivial", what="longer training on all sets", partial=True)
def all_sets(found):
    """T2: all four sets beside what RSGM reports."""
    rows = []
    for name in found["all_sets"].first["sets"]:
        trivial = [
            np.array([row(run, "nll", rows=label, sets=name) for run in found["trivial"]])
            for label in TRIVIAL[1:]
        ]
        ours = [row(found["all_sets"], key, sets=name) for key in ("nll", "new nll")]
        value, interval = RSGM[name]
        rows.append((SETS[name], *trivial, *ours, f"{value} ± {interval}".replace("-", "−")))
    head = (found.label, "heat kernels", "vMF mixture", "combined", "new places", "RSGM")
    return score_table(head, rows, digits=2)


@drawn_from("spheres", what="the comparison on spheres", partial=True)
def dimensions(found):
    """F8: error of the score by dimension, for denoising and sliced score matching."""
    runs, sizes = found.runs, np.array(found.settings.dimensions)
    sheet, axes = figure("narrow", height=2.8)
    lines = (
        ("denoising", False, "denoising", 0),
        ("sliced", False, "sliced, equal steps", 1),
        ("sliced", True, "sliced, equal time", 2),
    )
    for name, seconds, label, rank in lines:
        values = np.stack([sphere_errors(runs, name, d, seconds) for d in sizes.tolist()], 1)
        seed_bars(axes, sizes, values, label=label, **series(rank))
    log_axis(axes, "xy")
    axes.set(xlabel="dimension", ylabel="relative error", ylim=(None, 2))
    axes.legend()
    return Picture(
        sheet,
        "Error of the score against the dimension: rising for sliced score matching, lower for denoising.",
        "Relative error of the score of a mixture of 16 kernels. At 1 a network is no better than one that returns zero.",
    )


@drawn_from("synthetic", what="synthetic sets", partial=True)
def synthetic(found):
    """T4: divergences from mixtures whose density is known."""
    rows = []
    for name in ("T²", "SO(3)"):
        rows.append(((name, "uniform"), row(found.runs, "uniform", sets=name, methods="combined")))
        rows += [((name, WORDS[m]), row(found.runs, "kl", sets=name, methods=m)) for m in METHODS]
    return score_table((found.label, "KL (nats)"), rows, digits=3)


def reported():
    """T5: negative log-likelihoods of the literature."""
    return table(("", *SETS.values()), REPORTED, numeric=True)


def thumbnail(chapter, target):
    """The picture on the landing page: events on the globe, as the flow finds them."""
    run = chapter.stored["combined"].first
    name = "quakes" if "quakes" in run["sets"] else run["sets"][0]
    with thumbnail_axes(target) as axes:
        draw_globe(axes)
        axes.plot(*seen(run[f"{name} path"][-1].astype(float)).T, "o", markersize=7, color=series(0)["color"])

"""The chapter's figures and tables of image networks: samples, guidance, and what papers report."""

import numpy as np
import torch

from loupe.diffusion.reflected import ReflectedSDE, fold
from loupe.experiment.render import score_table, table
from loupe.papers.drawing import Picture, draw_images, drawn_from
from loupe.papers.reflected_diffusion.claims import astray, guidance_weights, value
from loupe.papers.reflected_diffusion.figures import METHODS, RANK
from loupe.plotting import TRUTH, figure, log_axis, series

SAMPLERS = {  # words: experiment, name of the samples
    words: (experiment.replace("toys", "images"), name)
    for words, (experiment, name) in METHODS.items()
    if name not in ("logit", "data")
} | {"no walls, flow": ("images_exploding", "flow")}
ANCHORS = {"training images": ("images_reflected", "train"), "uniform noise": ("images_reflected", "noise")}
GUIDED = {  # words: experiment, name, rank, line
    "reflected, steps": ("images_reflected", "fold", "reflected", "--"),
    "reflected, flow": ("images_reflected", "flow", "reflected", "-"),
    "no walls, flow": ("images_exploding", "flow", "none", "-"),
    "no walls, static threshold": ("images_exploding", "static", "static", "--"),
    "no walls, dynamic threshold": ("images_exploding", "dynamic", "dynamic", "--"),
}
BOTH = ("images_reflected", "images_exploding")
REPORTED = (  # listed by others, as far as it could be confirmed
    ("DDPM", "3.17", "≤ 3.69", "–"), ("ScoreFlow", "–", "2.83", "3.76"), ("VDM", "–", "≤ 2.65", "≤ 3.72"),
    ("Flow Matching", "–", "2.99", "–"), ("reflected", "2.72", "2.68", "3.74"),
)  # fmt: skip


@drawn_from(*BOTH, what="diffusion of images", seeds="")
def noising(found):
    """F8: images on their way into noise, under both diffusions."""
    data = torch.from_numpy(found["images_reflected"].first["data"][:4].astype(np.float64) / 255)
    noise = torch.randn(data.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    levels = [ReflectedSDE().sigma(torch.tensor(t)) for t in (0.0, 0.35, 0.55, 0.7, 1.0)]
    sheet, panels = figure(height=3.0, rows=2)
    for axes, title in zip(panels, ("With walls", "Without, shown clipped"), strict=True):
        states = [data + sigma * noise for sigma in levels]
        states = [fold(x) if title == "With walls" else x.clamp(0, 1) for x in states]
        stack = torch.stack(states, 1).flatten(0, 1)  # an image's five states beside each other
        draw_images(axes, (255 * stack).numpy().astype(np.uint8), title, columns=2 * len(levels))
    return Picture(
        sheet,
        "Two blocks of four images, each at five noise levels. With walls an image dissolves into even gray noise; "
        "without, clipped for display, into black and white.",
        f"Four test images at noise of {', '.join(f'{float(sigma):.2g}' for sigma in levels)}, with the same noise in both "
        "blocks. Reflected noise ends uniform. Without walls, most pixels leave the range of an image.",
    )


@drawn_from(*BOTH, what="drawing images", seeds="first")
def samples(found):
    """F9: images that both twins draw, below test images."""
    ours, theirs = (found[name].first for name in BOTH)
    rows = (
        ("Test images", ours["data"], 1),
        ("Reflected", ours["fold"], 3),
        ("Nearest training images of its first row", ours["neighbours"], 1),
        ("No walls, static threshold", theirs["static"], 3),
    )
    heights = [count + 0.6 for _, _, count in rows]
    sheet, panels = figure(height=0.62 * sum(heights), rows=len(rows), height_ratios=heights)
    for axes, (words, images, count) in zip(panels, rows, strict=True):
        draw_images(axes, images[: 10 * count], words)
    return Picture(
        sheet,
        "Rows of small images: test images, images drawn with walls, the training images nearest to the first of them, and "
        "images drawn without walls.",
        "The first images that each twin draws, each class in turn, after training on "
        f"{int(ours['images_seen']):,} images. Nearest by Euclidean distance of pixels.",
    )


@drawn_from(*BOTH, what="drawing images")
def quality_table(found):
    """T2: how far images are from test images, in a classifier's features and in shares of dark and bright pixels."""
    rows = []
    for words, (experiment, name) in (SAMPLERS | ANCHORS).items():
        runs, anchor = found[experiment], words in ANCHORS
        distance, right = (value(runs, name, metric) for metric in ("distance", "accuracy"))
        calls = "" if anchor else value(runs, name, "calls")
        rows.append((words, distance, 100 * right, 100 * astray(runs, name), calls))
    # Distances of images that are not the original ones must say so.
    copy = str(found["images_reflected"].first["copy"])
    lossy = f" ({copy})" if "lossy" in copy else ""
    head = (found.label, f"distance{lossy}", "class, %", "astray, %", "calls")
    return score_table(head, rows, digits=(2, 0, 1, 0), positive=True)


# --- guidance -----------------------------------------------------------------------------------------------


@drawn_from(*BOTH, what="guidance", seeds="first")
def guidance_grid(found):
    """F10: one image of every class at growing weights of guidance, by sampler."""
    weights = guidance_weights(found["images_reflected"].first)
    rows = sorted({0, len(weights) // 2, len(weights) - 1})
    sheet, panels = figure(height=len(GUIDED) * (0.53 * len(rows) + 0.3), rows=len(GUIDED))
    for axes, (words, (experiment, name, _, _)) in zip(panels, GUIDED.items(), strict=True):
        draw_images(axes, np.concatenate(found[experiment].first[f"guided_{name}"][rows]), words)
    return Picture(
        sheet,
        "Blocks of images, by sampler, in rows of growing guidance. Strokes become bold with the weight. At the largest "
        "one the flow without walls leaves gray specks, and the dynamic threshold gray grounds and broken shapes.",
        "Ten images, one of each class, with weights of guidance "
        f"{', '.join(weights[k] for k in rows)} from top to bottom of each block, and the same noise in every row. Shown "
        "after the last denoising and clip.",
    )


@drawn_from(*BOTH, what="guidance")
def guidance_curves(found):
    """F11: what guidance does to dark and to bright pixels."""
    weights = guidance_weights(found["images_reflected"].first)
    sheet, panels = figure(height=5.6, rows=2, sharex=True)
    for words, (experiment, name, rank, line) in GUIDED.items():
        runs, look = found[experiment], series(RANK[rank]) | {"linestyle": line, "label": words}
        off = [astray(runs, name, weight) for weight in weights]
        bright = [value(runs, name, "bright", weight) - value(runs, "train", "bright") for weight in weights]
        for axes, shares in zip(panels, (off, bright), strict=True):
            axes.plot([float(weight) for weight in weights], 100 * np.mean(shares, axis=1), **look)
    log_axis(panels[0], "y")
    panels[1].axhline(0, **TRUTH)
    panels[0].set(ylabel="astray, % of pixels", title="Dark and bright pixels go astray with the weight …")
    panels[1].set(ylabel="excess, % of pixels", xlabel="weight of guidance w", title="… and images saturate")
    sheet.legend(*panels[1].get_legend_handles_labels(), loc="outside lower center", ncols=2, handlelength=3)
    return Picture(
        sheet,
        "Two panels over the weight of guidance. Above, pixels astray grow for every sampler, most of all for the dynamic "
        "threshold. Below, bright pixels grow for both flows, less for reflected steps, least for the static threshold, "
        "and fall for the dynamic one.",
        "Above: by how much the shares of dark and of bright pixels differ from those of training images, added without "
        "their signs. Below: the difference for bright pixels alone. Dark and bright: within 0.02 of 0 or 1.",
    )


def reported_table():
    """T3: what papers report, as reprinted by others."""
    head = ("as reported", "CIFAR-10, FID", "CIFAR-10, bits/dim", "ImageNet 32, bits/dim")
    return table(head, REPORTED, numeric=True)

"""The chapter's figures and tables of image networks: samples, guidance, and what papers report."""

import numpy as np
import torch

from loupe.diffusion.reflected import ReflectedSDE, fold
from loupe.experiment.render import score_table, table
from loupe.papers.drawing import Picture, drawn_from, image_rows
from loupe.papers.reflected_diffusion.claims import astray, guidance_weights, value
from loupe.papers.reflected_diffusion.figures import METHODS, RANK
from loupe.plotting import TRUTH, figure, log_axis, series

SAMPLERS = METHODS | {("exploding", "flow"): "no walls, flow"}
ANCHORS = {("reflected", "train"): "training images", ("reflected", "noise"): "uniform noise"}
GUIDED = {  # twin, sampler: words, rank, line
    ("reflected", "fold"): ("reflected, steps", "reflected", "--"),
    ("reflected", "flow"): ("reflected, flow", "reflected", "-"),
    ("exploding", "flow"): ("no walls, flow", "none", "-"),
    ("exploding", "static"): ("no walls, static threshold", "static", "--"),
    ("exploding", "dynamic"): ("no walls, dynamic threshold", "dynamic", "--"),
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

    def states(bounded):
        stack = torch.stack([bounded(data + sigma * noise) for sigma in levels], 1)
        return (255 * stack.flatten(0, 1)).numpy().astype(np.uint8)  # those of an image beside each other

    rows = {"With walls": states(fold), "Without, shown clipped": states(lambda x: x.clamp(0, 1))}
    return Picture(
        image_rows(rows, columns=2 * len(levels), height=3.0),
        "Two blocks of four images, each at five noise levels. With walls an image dissolves into even gray noise; "
        "without, clipped for display, into black and white.",
        f"Four test images at noise of {', '.join(f'{float(sigma):.2g}' for sigma in levels)}, with the same noise in both "
        "blocks. Reflected noise ends uniform. Without walls, most pixels leave the range of an image.",
    )


@drawn_from(*BOTH, what="drawing images", seeds="first")
def samples(found):
    """F9: images that both twins draw, below test images."""
    ours, theirs = (found[name].first for name in BOTH)
    rows = {
        "Test images": ours["data"][:10],
        "Reflected": ours["fold"][:30],
        "Nearest training images of its first row": ours["neighbours"],
        "No walls, static threshold": theirs["static"][:30],
    }
    heights = [len(images) / 10 + 0.6 for images in rows.values()]
    return Picture(
        image_rows(rows, height=0.62 * sum(heights), height_ratios=heights),
        "Rows of small images: test images, images drawn with walls, the training images nearest to the first of them, and "
        "images drawn without walls.",
        "The first images that each twin draws, each class in turn, after training on "
        f"{int(ours['images_seen']):,} images. Nearest by Euclidean distance of pixels.",
    )


@drawn_from(*BOTH, what="drawing images")
def quality_table(found):
    """T2: how far images are from test images, in a classifier's features and in shares of dark and bright pixels."""
    rows = []
    for (twin, name), words in (SAMPLERS | ANCHORS).items():
        runs = found[f"images_{twin}"]
        distance, right, calls = (value(runs, name, metric) for metric in ("distance", "accuracy", "calls"))
        calls = "" if (twin, name) in ANCHORS else calls
        rows.append((words, distance, 100 * right, 100 * astray(runs, name), calls))
    # Distances of images that are not the original ones must say so.
    copy = str(found["images_reflected"].first["copy"])
    distance = f"distance ({copy})" if "lossy" in copy else "distance"
    head = (found.label, distance, "class, %", "astray, %", "calls")
    return score_table(head, rows, digits=(2, 0, 1, 0), positive=True)


# --- guidance -----------------------------------------------------------------------------------------------


@drawn_from(*BOTH, what="guidance", seeds="first")
def guidance_grid(found):
    """F10: one image of every class at growing weights of guidance, by sampler."""
    weights = guidance_weights(found["images_reflected"].first)
    shown = sorted({0, len(weights) // 2, len(weights) - 1})
    rows = {
        words: np.concatenate(found[f"images_{twin}"].first[f"guided_{name}"][shown])
        for (twin, name), (words, _, _) in GUIDED.items()
    }
    return Picture(
        image_rows(rows, height=len(rows) * (0.53 * len(shown) + 0.3)),
        "Blocks of images, by sampler, in rows of growing guidance. Strokes become bold with the weight. At the largest "
        "one the flow without walls leaves gray specks, and the dynamic threshold gray grounds and broken shapes.",
        "Ten images, one of each class, with weights of guidance "
        f"{', '.join(weights[k] for k in shown)} from top to bottom of each block, and the same noise in every row. Shown "
        "after the last denoising and clip.",
    )


@drawn_from(*BOTH, what="guidance")
def guidance_curves(found):
    """F11: what guidance does to dark and to bright pixels."""
    weights = guidance_weights(found["images_reflected"].first)
    sheet, panels = figure(height=5.6, rows=2, sharex=True)
    for (twin, name), (words, rank, line) in GUIDED.items():
        runs, look = found[f"images_{twin}"], series(RANK[rank]) | {"linestyle": line, "label": words}
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

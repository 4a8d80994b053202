"""The chapter's pictures of image networks: samples, guidance and training."""

import numpy as np
import torch

from loupe.diffusion.reflected import ReflectedSDE, fold
from loupe.experiment.render import score_table, table
from loupe.papers.drawing import Picture, drawn_from
from loupe.papers.reflected_diffusion.claims import astray, guidance_weights
from loupe.papers.reflected_diffusion.figures import COLUMNS, OURS, PLAIN, RANK, mosaic
from loupe.papers.reflected_diffusion.figures_toys import METHODS
from loupe.plotting import TRUTH, figure, log_axis, series

SAMPLERS = {  # words: experiment, name of the samples
    words: (experiment.replace("toys", "images"), name)
    for experiment, name, words in METHODS.values()
    if name != "logit"
} | {"no walls, flow": ("images_exploding", "flow")}
GUIDED = {  # words: experiment, name, rank, line
    "reflected, flow": ("images_reflected", "flow", "reflected", "-"),
    "reflected, mollified": ("images_reflected", "mollified", "reflected", ":"),
    "reflected, fold": ("images_reflected", "fold", "reflected", "--"),
    "no walls, flow": ("images_exploding", "flow", "none", "-"),
    "no walls, static": ("images_exploding", "static", "static", "-"),
    "no walls, dynamic": ("images_exploding", "dynamic", "dynamic", "-"),
}
BOTH = ("images_reflected", "images_exploding")


def _draw(axes, images, title, **options):
    axes.imshow(mosaic(images, **options))
    axes.set_axis_off()
    axes.set_title(title)


@drawn_from(*BOTH, what="diffusion of images", seeds="")
def noising(found):
    """F12: images on their way into noise, under both diffusions."""
    data = torch.from_numpy(found["images_reflected"].first["data"][:6].astype(np.float64) / 255)
    noise = torch.randn(data.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    levels = [ReflectedSDE().sigma(torch.tensor(t)) for t in (0.0, 0.35, 0.55, 0.7, 1.0)]
    sheet, panels = figure(height=4.3, rows=2)
    for axes, title in zip(panels, ("With walls", "Without, shown clipped"), strict=True):
        states = [data + sigma * noise for sigma in levels]
        states = [fold(x) if title == "With walls" else x.clamp(0, 1) for x in states]
        stack = torch.stack(states, 1).flatten(0, 1)  # an image's five states beside each other
        _draw(axes, (255 * stack).numpy().astype(np.uint8), title, columns=2 * len(levels))
    return Picture(
        sheet,
        "Two blocks of six images, each at five noise levels. With walls an image dissolves into even gray noise; without, "
        "clipped for display, into black and white.",
        f"Six test images at noise of {', '.join(f'{float(sigma):.2g}' for sigma in levels)}, with the same noise in both "
        "blocks. Folded noise ends uniform; what is not folded has left the range of a picture, and is clipped here to be "
        "shown.",
    )


@drawn_from(*BOTH, what="drawing images", seeds="first")
def samples(found):
    """F13: images that samplers draw, below test images."""
    ours, theirs = (found[name].first for name in BOTH)
    rows = (
        ("test images", ours["data"], 2),
        ("reflected, fold", ours["fold"], 4),
        ("nearest training images of the first ten", ours["neighbours"], 1),
        ("no walls, static threshold", theirs["static"], 4),
    )
    heights = [count + 0.6 for _, _, count in rows]
    sheet, panels = figure(height=0.55 * sum(heights), rows=len(rows), height_ratios=heights)
    for axes, (words, images, count) in zip(panels, rows, strict=True):
        _draw(axes, images[: count * COLUMNS], words)
    return Picture(
        sheet,
        "Rows of small images: test images, images drawn with walls, the training images nearest to the first of them, and "
        "images drawn without walls.",
        "Test images, and the first images that two samplers draw, none picked, each class in turn; networks of "
        f"{int(ours['parameters']):,} parameters that have seen {int(ours['images_seen']):,} images. Nearest by Euclidean "
        "distance of pixels.",
    )


@drawn_from(*BOTH, what="drawing images")
def quality_table(found):
    """T2: how far images are from test images, in a classifier's features and in pixels."""
    anchors = {
        words: ("images_reflected", name)
        for words, name in (("training images", "train"), ("uniform noise", "noise"))
    }
    rows = []
    for words, (experiment, name) in (SAMPLERS | anchors).items():
        runs = found[experiment]
        evaluations = "" if words in anchors else runs[f"{name} evaluations"]
        distance, class_score, right, sliced = (
            runs[f"{name} {what}"] for what in ("distance", "class score", "accuracy", "sliced")
        )
        rows.append(
            (words, distance, class_score, 100 * right, sliced, 100 * astray(runs, name), evaluations)
        )
    # What must be said beside a distance of images that are not the original ones.
    variant = str(found["images_reflected"].first["variant"])
    copy = f" ({variant})" if "lossy" in variant else ""
    head = (f"images, {found.preset}", f"Fréchet distance{copy}", "class score", "right class, %", "sliced W₂",
            "dark and bright astray, %", "evaluations")  # fmt: skip
    return score_table(head, rows, digits=(2, 2, 0, 3, 1, 0), positive=True)


@drawn_from(*BOTH, what="the classifier")
def judge_line(found):
    """What the classifier is, in a line of a table."""
    run = found["images_reflected"].first
    rows = [
        ("test accuracy", f"{100 * run['judge_accuracy']:.1f} %"),
        ("digest of its weights", str(run["judge_digest"])),
        ("images", str(run["variant"])),
    ]
    return table((f"the classifier that judges, {found.preset}", ""), rows)


# --- guidance and training ----------------------------------------------------------------------------------


@drawn_from(*BOTH, what="guidance", seeds="first")
def guidance_grid(found):
    """F14: one image of every class at growing weights of guidance, by sampler."""
    weights = guidance_weights(found["images_reflected"].first)
    chosen = list(dict.fromkeys([weights[0], weights[len(weights) // 2], weights[-1]]))
    names = ("reflected, fold", "reflected, flow", "reflected, mollified", "no walls, flow", "no walls, static",
             "no walls, dynamic")  # fmt: skip
    sheet, panels = figure(height=len(names) * (0.53 * len(chosen) + 0.3), rows=len(names))
    for axes, words in zip(panels, names, strict=True):
        experiment, name, _, _ = GUIDED[words]
        _draw(axes, np.concatenate([found[experiment].first[f"{name} w={w}"] for w in chosen]), words)
    return Picture(
        sheet,
        "Blocks of images, by sampler, in rows of growing guidance. Strokes become bold with the weight. At the largest "
        "one the mollified flow leaves single white pixels, the flow without walls gray specks, and the dynamic threshold "
        "gray grounds and broken shapes.",
        f"Ten images, one of each class, with weights of guidance {', '.join(chosen)} from top to bottom of each block, "
        "the same noise in every row. Shown after the last denoising and clip.",
    )


@drawn_from(*BOTH, what="guidance")
def guidance_curves(found):
    """F15: what guidance does to pixels and to classes."""
    run = found["images_reflected"].first
    weights = guidance_weights(run)
    sheet, panels = figure(height=7.2, rows=3, sharex=True)
    for words, (experiment, name, rank, line) in GUIDED.items():
        runs, look = found[experiment], series(RANK[rank]) | {"linestyle": line, "label": words}
        outside, bright, right = (
            np.array([runs[f"{name} w={w} {what}"].mean() for w in weights])
            for what in ("overshoot", "bright", "accuracy")
        )
        curves = (outside, 100 * (bright - runs["train bright"].mean()), 100 * right)
        for axes, values in zip(panels, curves, strict=True):
            if axes is not panels[0] or name in ("flow", "mollified"):
                axes.plot([float(w) for w in weights], values, **look)
    panels[0].set(ylabel="mean overshoot", title="Without walls the flow leaves the cube")
    panels[1].axhline(0, **TRUTH)
    panels[1].set(ylabel="excess, % of pixels", title="Flows brighten most, with walls or without")
    panels[2].set(
        ylabel="right class, %",
        xlabel="weight of guidance w",
        title="The dynamic threshold loses the class again",
    )
    lines, labels = panels[1].get_legend_handles_labels()
    sheet.legend(lines, labels, loc="outside lower center", ncols=3, handlelength=3.2)
    return Picture(
        sheet,
        "Three panels over the weight of guidance. The overshoot of the flow without walls grows, with walls it is 0. "
        "Bright pixels grow for all flows, less for reflected steps, least for the static threshold, and fall for the "
        "dynamic one. The right class is found nearly always from weight 1 on, less often with the dynamic threshold.",
        "Above: by how much a mean pixel lies outside [0, 1] at the end of a flow, before any clip; with walls 0. Middle: "
        "the share of pixels within 0.02 of full brightness, less that of training images. Below: how often the judging "
        f"classifier, {100 * run['judge_accuracy']:.1f} % right on test images, sees the class that was wanted. Means over "
        "seeds.",
    )


@drawn_from(*BOTH, what="training on images", seeds="first")
def losses(found):
    """F16: both losses during training, in units of what knowing nothing costs at little noise."""
    sheet, axes = figure(height=3.0)
    for words, experiment, colour in zip(("reflected", "no walls"), BOTH, (OURS, PLAIN), strict=True):
        loss = found[experiment].first["loss"]
        block = max(1, len(loss) // 60)
        smooth = loss[: len(loss) // block * block].reshape(-1, block).mean(1)
        axes.plot(block * (np.arange(len(smooth)) + 0.5), smooth, color=colour, label=words)
    log_axis(axes, "y")
    axes.set(xlabel="step", ylabel="loss per pixel", title="Both losses fall alike, which proves little")
    axes.legend()
    return Picture(
        sheet,
        "Two falling curves on a log axis that nearly coincide after the first steps.",
        "Mean training loss in blocks, $\\sigma^2$-weighted, per pixel. They are errors against two different kernels and "
        "do not compare: at large noise one kernel's score is nearly 0.",
    )

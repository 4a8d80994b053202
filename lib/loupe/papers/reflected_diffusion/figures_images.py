"""The chapter's pictures of image networks: samples, guidance and training."""

import numpy as np

from loupe.experiment.render import table
from loupe.experiment.results import absent, stored_together
from loupe.papers.reflected_diffusion.claims import astray, guidance_weights
from loupe.papers.reflected_diffusion.figures import COLUMNS, RANK, WIDTH, mosaic
from loupe.plotting import TRUTH, figure, log_axis, series, show

OTHERS = ("gpu", "cpu")
SAMPLERS = {  # words: experiment, name of the samples
    "reflected, fold": ("images_reflected", "fold"),
    "reflected, clip each step": ("images_reflected", "clip"),
    "reflected, fold, from less noise": ("images_reflected", "short"),
    "reflected, flow": ("images_reflected", "flow"),
    "reflected, mollified flow": ("images_reflected", "mollified"),
    "no walls, clip at the end": ("images_exploding", "none"),
    "no walls, static threshold": ("images_exploding", "static"),
    "no walls, dynamic threshold": ("images_exploding", "dynamic"),
    "no walls, flow": ("images_exploding", "flow"),
}
GUIDED = {  # words: experiment, name, rank, line
    "reflected, flow": ("images_reflected", "flow", "reflected", "-"),
    "reflected, mollified": ("images_reflected", "mollified", "reflected", ":"),
    "reflected, fold": ("images_reflected", "fold", "reflected", "--"),
    "no walls, flow": ("images_exploding", "flow", "none", "-"),
    "no walls, static": ("images_exploding", "static", "static", "-"),
    "no walls, dynamic": ("images_exploding", "dynamic", "dynamic", "-"),
}


def trained(chapter):
    """The runs of both image networks at one preset, never of several; None where none has both."""
    return stored_together(chapter, ("images_reflected", "images_exploding"), OTHERS)


def _draw(axes, images, **options):
    axes.imshow(mosaic(images, **options), cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    axes.set_axis_off()


def noising(chapter):
    """F12: images on their way into noise, under both diffusions."""
    import torch

    from loupe.diffusion.reflected import ReflectedSDE, fold

    found = trained(chapter)
    if found is None:
        return absent("diffusion of images")
    data = found.runs["images_reflected"].first["data"][:6].astype(np.float64) / 255
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(data.shape, generator=generator, dtype=torch.float64)
    sde, times = ReflectedSDE(), (0.0, 0.35, 0.55, 0.7, 1.0)
    sheet, panels = figure(WIDTH, 4.3, rows=2)
    for axes, walls in zip(panels, (True, False), strict=True):
        rows = []
        for t in times:
            x = torch.from_numpy(data) + sde.sigma(torch.tensor(t)) * noise
            rows.append((fold(x) if walls else x.clamp(0, 1)).numpy())
        stack = np.stack(rows, 1).reshape(-1, *data.shape[1:])  # an image's five states beside each other
        _draw(axes, (255 * stack).astype(np.uint8), columns=2 * len(times))
        axes.set_title("With walls" if walls else "Without, shown clipped", fontsize=9)
    levels = ", ".join(f"{float(sde.sigma(torch.tensor(t))):.2g}" for t in times)
    show(
        sheet,
        alt="Two blocks of six images, each at five noise levels. With walls an image dissolves into even grey noise; "
        "without, clipped for display, into black and white.",
        caption=f"Six test images at noise of {levels}, with the same noise in both blocks. Folded noise ends uniform; "
        "what is not folded has left the range of a picture, and is clipped here to be shown. "
        f"Preset `{found.preset}`.",
    )


def samples(chapter):
    """F13: images that samplers draw, below test images."""
    found = trained(chapter)
    if found is None:
        return absent("drawing images")
    ours, theirs = found.runs["images_reflected"].first, found.runs["images_exploding"].first
    rows = (
        ("test images", ours["data"]),
        ("reflected, fold", ours["fold"]),
        ("nearest training images of the first ten", ours["neighbours"]),
        ("no walls, static threshold", theirs["static"]),
    )
    counts = (2, 4, 1, 4)
    heights = [count + 0.6 for count in counts]
    sheet, panels = figure(WIDTH, 0.55 * sum(heights), rows=len(rows), height_ratios=heights)
    for axes, (words, images), count in zip(panels, rows, counts, strict=True):
        _draw(axes, images[: count * COLUMNS])
        axes.set_title(words, fontsize=9)
    seen = int(ours["images_seen"])
    show(
        sheet,
        alt="Rows of small images: test images, images drawn with walls, the training images nearest to the first of "
        "them, and images drawn without walls.",
        caption=f"Test images, and the first images that two samplers draw, none picked, each class in turn; networks of "
        f"{int(ours['parameters']):,} parameters that have seen {seen:,} images. Nearest by Euclidean distance of pixels. "
        f"Preset `{found.preset}`, seed {found.runs['images_reflected'].seeds[0]}.",
    )


def quality_table(chapter):
    """T2: how far images are from test images, in a classifier's features and in pixels."""
    found = trained(chapter)
    if found is None:
        return absent("drawing images")
    rows = []
    for words, (experiment, name) in SAMPLERS.items():
        rows.append(
            (
                words,
                *_measures(found.runs[experiment], name),
                _mean(found.runs[experiment], f"{name} evaluations", ".0f"),
            )
        )
    anchors = found.runs["images_reflected"]
    for words, name in (("training images", "train"), ("uniform noise", "noise")):
        rows.append((words, *_measures(anchors, name), ""))
    head = (
        f"images, {found.preset}",
        f"Fréchet distance{_copy(anchors)}",
        "class score",
        "right class, %",
        "sliced W₂",
        "dark and bright astray, %",
        "evaluations",
    )
    return table(head, rows, numeric=True)


def _copy(runs):
    """What must be said beside a distance or a likelihood of images that are not the original ones."""
    variant = str(runs.first["variant"])
    return f" ({variant})" if "lossy" in variant else ""


def _mean(runs, name, form, factor=1.0):
    values = factor * np.asarray(runs[name], dtype=float)
    spread = f" ± {values.std(ddof=1):{form}}" if len(values) > 1 else ""
    return f"{values.mean():{form}}{spread}"


def _measures(runs, name):
    off = 100 * float(np.mean(astray(runs, name)))
    return (
        _mean(runs, f"{name} distance", ".2f"),
        _mean(runs, f"{name} class score", ".2f"),
        _mean(runs, f"{name} accuracy", ".0f", 100),
        _mean(runs, f"{name} sliced", ".3f"),
        f"{off:.1f}",
    )


def judge_line(chapter):
    """What the classifier is, in a line of a table."""
    found = trained(chapter)
    if found is None:
        return absent("the classifier")
    run = found.runs["images_reflected"].first
    rows = [
        ("test accuracy", f"{100 * run['judge_accuracy']:.1f} %"),
        ("digest of its weights", str(run["judge_digest"])),
        ("images", str(run["variant"])),
    ]
    return table((f"the classifier that judges, {found.preset}", ""), rows, numeric=False)


# --- guidance -----------------------------------------------------------------------------------------------


def guidance_grid(chapter):
    """F14: one image of every class at growing weights of guidance, by sampler."""
    found = trained(chapter)
    if found is None:
        return absent("guidance")
    weights = guidance_weights(found.runs["images_reflected"].first)
    chosen = [weights[0], weights[len(weights) // 2], weights[-1]]
    chosen = list(dict.fromkeys(chosen))
    names = (
        "reflected, fold",
        "reflected, flow",
        "reflected, mollified",
        "no walls, flow",
        "no walls, static",
        "no walls, dynamic",
    )
    sheet, panels = figure(WIDTH, len(names) * (0.53 * len(chosen) + 0.3), rows=len(names))
    for axes, words in zip(panels, names, strict=True):
        experiment, name, _, _ = GUIDED[words]
        run = found.runs[experiment].first
        _draw(axes, np.concatenate([run[f"{name} w={w}"] for w in chosen]))
        axes.set_title(words, fontsize=9)
    show(
        sheet,
        alt="Blocks of images, by sampler, in rows of growing guidance. Strokes become bold with the weight. At the "
        "largest one the mollified flow leaves single white pixels, the flow without walls grey specks, and the dynamic "
        "threshold grey grounds and broken shapes.",
        caption=f"Ten images, one of each class, with weights of guidance {', '.join(chosen)} from top to bottom of each "
        "block, the same noise in every row. Shown after the last denoising and clip. "
        f"Preset `{found.preset}`.",
    )


def guidance_curves(chapter):
    """F15: what guidance does to pixels and to classes."""
    found = trained(chapter)
    if found is None:
        return absent("guidance")
    weights = guidance_weights(found.runs["images_reflected"].first)
    x = [float(w) for w in weights]
    sheet, panels = figure(WIDTH, 7.2, rows=3, sharex=True)
    for words, (experiment, name, rank, line) in GUIDED.items():
        runs = found.runs[experiment]
        look = series(RANK[rank]) | {"linestyle": line, "label": words}
        over = [100 * float(np.mean(runs[f"{name} w={w} bright"] - runs["train bright"])) for w in weights]
        right = [100 * float(np.mean(runs[f"{name} w={w} accuracy"])) for w in weights]
        panels[1].plot(x, over, **look)
        panels[2].plot(x, right, **look)
        if name in ("flow", "mollified"):
            panels[0].plot(x, [float(np.mean(runs[f"{name} w={w} overshoot"])) for w in weights], **look)
    panels[0].set(ylabel="mean overshoot", title="Without walls the flow leaves the cube")
    panels[1].axhline(0, **TRUTH)
    panels[1].set(ylabel="excess, % of pixels", title="Flows brighten most, with walls or without")
    panels[2].set(
        ylabel="right class, %",
        xlabel="weight of guidance w",
        title="The dynamic threshold loses the class again",
    )
    lines, labels = panels[1].get_legend_handles_labels()
    sheet.legend(lines, labels, loc="outside lower center", ncols=3, fontsize=7.5, handlelength=3.2)
    run = found.runs["images_reflected"].first
    show(
        sheet,
        alt="Three panels over the weight of guidance. The overshoot of the flow without walls grows, with walls it is 0. "
        "Bright pixels grow for all flows, less for reflected steps, least for the static threshold, and fall for the "
        "dynamic one. The right class is found nearly always from weight 1 on, less often with the dynamic threshold.",
        caption="Above: by how much a mean pixel lies outside [0, 1] at the end of a flow, before any clip; with walls 0. "
        "Middle: the share of pixels within 0.02 of full brightness, less that of training images. Below: how often "
        f"the judging classifier, {100 * run['judge_accuracy']:.1f} % right on test images, sees the class asked for. "
        f"{seeds_of(found.runs)}. Preset `{found.preset}`.",
    )


def seeds_of(runs):
    """Of how many seeds each point of a curve is, in words."""
    most = max(len(one) for one in runs.values())
    return "One seed" if most == 1 else f"Means of {most} seeds"


# --- training ---------------------------------------------------------------------------------------------


def losses(chapter):
    """F16: both losses during training, in units of what knowing nothing costs at little noise."""
    found = trained(chapter)
    if found is None:
        return absent("training on images")
    sheet, axes = figure(WIDTH, 3.0)
    for words, experiment, rank in (
        ("reflected", "images_reflected", "reflected"),
        ("no walls", "images_exploding", "none"),
    ):
        loss = found.runs[experiment].first["loss"]
        block = max(1, len(loss) // 60)
        smooth = loss[: len(loss) // block * block].reshape(-1, block).mean(1)
        axes.plot(
            block * (np.arange(len(smooth)) + 0.5), smooth, color=series(RANK[rank])["color"], label=words
        )
    log_axis(axes, "y")
    axes.set(xlabel="step", ylabel="loss per pixel", title="Both losses fall alike, which proves little")
    axes.legend()
    show(
        sheet,
        alt="Two falling curves on a log axis that nearly coincide after the first steps.",
        caption="Mean training loss in blocks, $\\sigma^2$-weighted, per pixel. They are errors against two different "
        "kernels and do not compare: at large noise one kernel's score is nearly 0. "
        f"Preset `{found.preset}`.",
    )

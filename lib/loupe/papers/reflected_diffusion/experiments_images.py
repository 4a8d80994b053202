"""Image networks: one diffusion with walls and one without, on the same images, in the same number of steps."""

from dataclasses import replace
from functools import partial
from itertools import product
from typing import NamedTuple

import numpy as np
import torch

from loupe.diffusion import reflected
from loupe.experiment import experiment
from loupe.experiment.results import columns
from loupe.metrics import sliced_wasserstein
from loupe.networks.unet import make_unet
from loupe.papers.judging import ImageJudge, flipped, image_set
from loupe.training import train

SHOWN, FEW = 100, 10  # samples that are stored for pictures, and guided ones
GRAY_LEVELS = 256
AT_WALL = 0.02  # twice the first noise: nearer to a wall the last denoising does not resolve


@experiment(seeds="image_seeds")
def images_reflected(config, *, seed, device, work):
    """R8 to R10: trained with walls; sampled with walls that fold, with walls that clip, and by two flows."""
    sde = reflected.ReflectedSDE(config.sigma_min, config.sigma_max)
    short = replace(sde, sigma_max=config.short_sigma)  # from where hardly anything of the data is left
    samplers = {
        "fold": partial(by_steps, sde), "clip": partial(by_steps, sde, walls="clip"), "short": partial(by_steps, short),
        "mollified": partial(by_flow, sde, mollifier=config.mollifier), "flow": partial(by_flow, sde),
    }  # fmt: skip
    return _judged(config, sde, samplers, ("mollified", "flow", "fold"), seed, device, work / "reflected")


@experiment(seeds="image_seeds")
def images_exploding(config, *, seed, device, work):
    """R8, R9: the same network without walls; sampled without a threshold, with a static one, and a dynamic one."""
    sde = reflected.VESDE(config.sigma_min, config.sigma_max)
    thresholds = {how: partial(by_steps, sde, threshold=how) for how in ("static", "dynamic")}
    samplers = {"none": partial(by_steps, sde), **thresholds, "flow": partial(by_flow, sde)}
    return _judged(config, sde, samplers, ("flow", *thresholds), seed, device, work / "exploding")


@experiment(seeds="bound_seeds")
def image_bound(config, *, seed, device, work):
    """R11's measure: a network for the likelihood alone, given how far each pixel is from a gray level."""
    sde = reflected.ReflectedSDE(config.bound_sigma_min, config.sigma_max)
    data = image_set(config.images, config.image_size)
    score, known = trained(config, data, sde, seed, device, work / "bound", levels=GRAY_LEVELS)
    test, generator = gray_levels(config, data, device), torch.Generator(device).manual_seed(seed)
    nats = reflected.likelihood_bound(
        partial(score, labels=None), test / (GRAY_LEVELS - 1), sde, times=config.bound_times, batch=config.sample_batch,
        generator=generator,
    )  # fmt: skip
    return known | {"bits": reflected.bits_per_dimension(nats, test[0].numel()).cpu().numpy()}


# --- training and drawing -----------------------------------------------------------------------------------


def trained(config, data, sde, seed, device, work, levels=None):
    """``score(x, sigma, labels)`` after training, and what is known of it; ``levels``: it sees how far gray levels are."""
    channels, classes, settings = data.x_train.shape[1], len(data.classes), config.training
    network = make_unet(
        backbone=config.backbone, channels=channels * (3 if levels else 1), out_channels=channels,
        width=config.width, multipliers=config.multipliers, blocks=config.blocks, attention=config.attention,
        size=config.image_size, classes=classes, dropout=config.dropout, seed=seed,
    )  # fmt: skip
    # Faster on a GPU and slower on a processor.
    layout = torch.contiguous_format if torch.device(device).type == "cpu" else torch.channels_last
    model = reflected.ScoreNetwork(network, sde, levels=levels).to(device, memory_format=layout)

    def loss(network, batch, generator):
        x0, labels = batch
        hidden, turned = torch.rand(2, len(x0), generator=generator, device=x0.device)
        labels = torch.where(hidden < config.label_drop, classes, labels)
        if config.flips and levels is None:  # a flipped image is none of those whose likelihood is wanted
            x0 = flipped(x0, turned)
        score, x0 = reflected.conditional(network, labels), x0.contiguous(memory_format=layout)
        return reflected.denoising_loss(score, x0, sde, generator=generator).mean()

    run = train(model, loss, (data.x_train, data.y_train), settings, seed=seed, device=device, work=work)

    def score(x, sigma, labels):
        with torch.autocast(x.device.type, torch.bfloat16, enabled=settings.precision == "bf16-mixed"):
            return run.network(x, sigma, labels).to(x.dtype)

    seen = settings.steps * settings.batch
    return score, {"parameters": run.parameters, "images_seen": seen, "copy": data.variant}


class Drawn(NamedTuple):
    """Images as they came, and without their last noise; the calls of the network for one of them; their classes."""

    raw: torch.Tensor
    clean: torch.Tensor
    evaluations: int
    labels: torch.Tensor


def by_steps(sde, score, shape, generator, steps, tolerance, *, threshold=None, **options):
    """The stochastic sampler: what it draws, the same without its last noise, and its steps."""
    score = reflected.thresholded(score, threshold) if threshold else score
    settings = options | {"steps": steps, "generator": generator, "device": generator.device}
    raw = reflected.sample(score, sde, shape, denoise=False, **settings)
    return raw, reflected.interior_tweedie(score, raw, sde), steps


def by_flow(sde, score, shape, generator, steps, tolerance, *, mollifier=None):
    """The same of the flow; with a mollifier it begins away from the walls, as published."""
    side = {"side": 0.01} if mollifier else {}
    start = sde.limit(shape, generator, generator.device, **side)
    end = reflected.flow(score, sde, start, mollifier=mollifier, rtol=tolerance, atol=tolerance)
    return end.x, reflected.interior_tweedie(score, end.x, sde), end.evaluations


def drawn(config, data, sampler, score, seed, device, weight=None):
    """Images of every class in turn; with a weight as many, and in as many steps, as guidance is given."""
    plain = weight is None
    count, steps = (config.samples, config.sampler_steps) if plain else (config.guided, config.guided_steps)
    classes, shape, parts = len(data.classes), data.x_train.shape[1:], []
    labels = (torch.arange(count) % classes).to(device)
    for k, some in enumerate(labels.split(config.sample_batch)):
        generator = torch.Generator(device).manual_seed(1000 * seed + k)
        guided = reflected.classifier_free(score, some, weight or 0.0, classes=classes)
        with torch.no_grad():
            parts.append(sampler(guided, (len(some), *shape), generator, steps, config.tolerance))
    raw, clean, evaluations = zip(*parts, strict=True)
    return Drawn(torch.cat(raw), torch.cat(clean), max(evaluations), labels)


def gray_levels(config, data, device):
    """Test images as gray levels from 0 to 255."""
    x = data.x_test[_spread(len(data.x_test), config.likelihood_images)]
    return (x * (GRAY_LEVELS - 1)).round().to(device)


def flow_bits(config, data, sde, score, seed, device):
    """Bits per dimension of test images by the flow, with uniform noise within their gray levels."""
    generator, levels = torch.Generator(device).manual_seed(seed), gray_levels(config, data, device)
    x = (levels + torch.rand(levels.shape, generator=generator, device=device)) / GRAY_LEVELS
    tolerance = config.tolerance
    settings = {"noise_vectors": 1, "rtol": tolerance, "atol": tolerance, "generator": generator}
    found = partial(reflected.log_likelihood, partial(score, labels=None), sde, **settings)
    nats = torch.cat([found(part).nats.double().cpu() for part in x.split(config.sample_batch)])
    return np.log2(GRAY_LEVELS) - reflected.bits_per_dimension(nats, x[0].numel()).numpy()


def _spread(total, wanted):
    """Places evenly spread over a set."""
    return torch.linspace(0, total - 1, min(wanted, total)).long()


# --- judging ------------------------------------------------------------------------------------------------


def _judged(config, sde, samplers, guided, seed, device, work):
    """What is known of a network, and of images by each sampler, without guidance and with each of its weights."""
    data = image_set(config.images, config.image_size)
    score, known = trained(config, data, sde, seed, device, work)
    judge = ImageJudge(
        data.x_train, data.y_train, data.x_test, widths=config.judge_widths if config.judge == "small" else None,
        epochs=config.judge_epochs, classes=len(data.classes), flips=config.flips, device=device,
    )  # fmt: skip
    known |= {"judge_accuracy": judge.accuracy(data.x_test, data.y_test), "judge_digest": judge.digest}
    known |= {"bits": flow_bits(config, data, sde, score, seed, device)}
    some, weights = _spread(len(data.x_train), config.samples), sorted(config.weights)
    noise = torch.rand(len(some), *data.x_train.shape[1:], generator=torch.Generator().manual_seed(0))
    anchors = {"train": data.x_train[some], "noise": noise}
    sets = {(name, ""): Drawn(x, x, 0, data.y_train[some]) for name, x in anchors.items()}
    for name, weight in [*product(samplers, [None]), *product(guided, weights)]:
        word = "" if weight is None else f"{weight:g}"
        sets[name, word] = drawn(config, data, samplers[name], score, seed, device, weight)
    rows = [
        {"method": name, "variant": word} | _measures(judge, one, far=not word)
        for (name, word), one in sets.items()
    ]
    shown = {"data": data.x_test[:SHOWN]} | {name: sets[name, ""].clean[:SHOWN] for name in samplers}
    for name in guided:
        shown[f"guided_{name}"] = torch.stack([sets[name, f"{weight:g}"].clean[:FEW] for weight in weights])
    first = shown[next(iter(samplers))][:FEW].cpu().flatten(1)
    shown["neighbours"] = data.x_train[torch.cdist(first, data.x_train.flatten(1)).argmin(1)]
    pictures = {name: (images.cpu() * 255).round().to(torch.uint8).numpy() for name, images in shown.items()}
    return known | columns(rows) | pictures


def _measures(judge, drawn, far):
    """Measures of images; without distances, which need more images than guidance draws, unless they are wanted."""
    raw, clean, calls, labels = drawn
    shares = {"dark": clean < AT_WALL, "bright": clean > 1 - AT_WALL, "outside": (raw < 0) | (raw > 1)}
    return {name: float(which.double().mean()) for name, which in shares.items()} | {
        "accuracy": judge.accuracy(clean, labels), "calls": calls, "distance": judge.distance(clean) if far else np.nan,
        "sliced": sliced_wasserstein(clean.cpu(), judge.reference) if far else np.nan,
    }  # fmt: skip

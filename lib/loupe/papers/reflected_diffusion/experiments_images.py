"""Image networks: one diffusion with walls and one without, on the same images, in the same number of steps."""

from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch

from loupe.data.images import Images
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
    model = trained(config, sde, seed, device, work / "reflected")
    samplers = {
        "fold": model.draw,
        "clip": partial(model.draw, walls="clip"),
        "short": replace(model, sde=short).draw,
        "mollified": partial(model.follow, mollifier=config.mollifier),
        "flow": model.follow,
    }
    return _judged(model, samplers, guided=("mollified", "flow", "fold"))


@experiment(seeds="image_seeds")
def images_exploding(config, *, seed, device, work):
    """R8, R9: the same network without walls; sampled without a threshold, with a static one, and a dynamic one."""
    sde = reflected.VESDE(config.sigma_min, config.sigma_max)
    model = trained(config, sde, seed, device, work / "exploding")
    thresholds = {how: partial(model.draw, threshold=how) for how in ("static", "dynamic")}
    samplers = {"none": model.draw, **thresholds, "flow": model.follow}
    return _judged(model, samplers, guided=("flow", *thresholds))


@experiment(seeds="bound_seeds")
def image_bound(config, *, seed, device, work):
    """R11's measure: a network for the likelihood alone, given how far each pixel is from a gray level."""
    sde = reflected.ReflectedSDE(config.bound_sigma_min, config.sigma_max)
    model = trained(config, sde, seed, device, work / "bound", levels=GRAY_LEVELS)
    test = model.test_levels() / (GRAY_LEVELS - 1)
    generator, score = torch.Generator(device).manual_seed(seed), partial(model.score, labels=None)
    options = {"times": config.bound_times, "batch": config.sample_batch, "generator": generator}
    nats = reflected.likelihood_bound(score, test, sde, **options)
    return model.result | {"bits": reflected.bits_per_dimension(nats, test[0].numel()).cpu().numpy()}


# --- training and drawing -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Drawn:
    """Images of every class in turn: as they came, and without their last noise."""

    raw: torch.Tensor
    clean: torch.Tensor
    labels: torch.Tensor
    evaluations: int


@dataclass(frozen=True, eq=False)
class Model:
    """A trained network, ``score(x, sigma, labels)`` without gradients of its weights, and what is drawn from it."""

    config: Any
    sde: Any
    score: Any
    data: Images
    device: str
    seed: int
    result: Any = None

    def draw(self, weight=None, *, threshold=None, **options):
        """Samples of the stochastic sampler; with a weight as many, and in as many steps, as guidance is given."""
        options |= {"steps": self.config.sampler_steps if weight is None else self.config.guided_steps}

        def run(score, shape, generator):
            settings = options | {"generator": generator, "device": self.device, "denoise": False}
            return reflected.sample(score, self.sde, shape, **settings), options["steps"]

        return self._in_batches(run, weight, threshold)

    def follow(self, weight=None, *, mollifier=None):
        """Samples of the flow; with a mollifier it begins away from the walls, as published."""
        side, tolerance = {"side": 0.01} if mollifier else {}, self.config.tolerance

        def run(score, shape, generator):
            start = self.sde.limit(shape, generator, self.device, **side)
            end = reflected.flow(score, self.sde, start, mollifier=mollifier, rtol=tolerance, atol=tolerance)
            return end.x, end.evaluations

        return self._in_batches(run, weight)

    def _in_batches(self, run, weight, threshold=None):
        count = self.config.samples if weight is None else self.config.guided
        classes, shape, parts = len(self.data.classes), self.data.x_train.shape[1:], []
        labels = (torch.arange(count) % classes).to(self.device)
        for k, some in enumerate(labels.split(self.config.sample_batch)):
            generator = torch.Generator(self.device).manual_seed(1000 * self.seed + k)
            score = reflected.classifier_free(self.score, some, weight or 0.0, classes=classes)
            score = reflected.thresholded(score, threshold) if threshold else score
            with torch.no_grad():
                raw, evaluations = run(score, (len(some), *shape), generator)
                parts.append((raw, reflected.interior_tweedie(score, raw, self.sde), evaluations))
        raw, clean, evaluations = zip(*parts, strict=True)
        return Drawn(torch.cat(raw), torch.cat(clean), labels, max(evaluations))

    def test_levels(self):
        """Test images as gray levels from 0 to 255."""
        x = self.data.x_test[_spread(len(self.data.x_test), self.config.likelihood_images)]
        return (x * (GRAY_LEVELS - 1)).round().to(self.device)

    def bits(self):
        """Bits per dimension of test images by the flow, with uniform noise within their gray levels."""
        generator = torch.Generator(self.device).manual_seed(self.seed)
        level, tolerance = self.test_levels(), self.config.tolerance
        x = (level + torch.rand(level.shape, generator=generator, device=self.device)) / GRAY_LEVELS
        settings = {"noise_vectors": 1, "rtol": tolerance, "atol": tolerance, "generator": generator}
        found = partial(reflected.log_likelihood, partial(self.score, labels=None), self.sde, **settings)
        nats = torch.cat([found(part).nats.double().cpu() for part in x.split(self.config.sample_batch)])
        return np.log2(GRAY_LEVELS) - reflected.bits_per_dimension(nats, x[0].numel()).numpy()


def trained(config, sde, seed, device, work, levels=None):
    """The model that comes of training; ``levels``: its network sees how far each pixel is from a gray level."""
    data, settings = image_set(config.images, config.image_size), config.training
    channels, classes = data.x_train.shape[1], len(data.classes)
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
    result = {"parameters": run.parameters, "images_seen": seen, "copy": data.variant}
    return Model(config, sde, score, data, device, seed, result)


def _spread(total, wanted):
    """Places evenly spread over a set."""
    return torch.linspace(0, total - 1, min(wanted, total)).long()


# --- judging ------------------------------------------------------------------------------------------------


def _judged(model, samplers, guided):
    """What is known of the network, and of images by each sampler, without guidance and with each of its weights."""
    config, data = model.config, model.data
    judge = ImageJudge(
        data.x_train, data.y_train, data.x_test, widths=config.judge_widths if config.judge == "small" else None,
        epochs=config.judge_epochs, classes=len(data.classes), flips=config.flips, device=model.device,
    )  # fmt: skip
    some, weights = _spread(len(data.x_train), config.samples), sorted(config.weights)
    noise = torch.rand(len(some), *data.x_train.shape[1:], generator=torch.Generator().manual_seed(0))
    anchors = {"train": data.x_train[some], "noise": noise}
    drawn = {(name, ""): Drawn(x, x, data.y_train[some], 0) for name, x in anchors.items()}
    drawn |= {(name, ""): draw() for name, draw in samplers.items()}
    drawn |= {(name, f"{weight:g}"): samplers[name](weight) for name in guided for weight in weights}
    rows = [
        {"method": name, "variant": word} | _measures(judge, each, far=not word)
        for (name, word), each in drawn.items()
    ]
    shown = {"data": data.x_test[:SHOWN]} | {name: drawn[name, ""].clean[:SHOWN] for name in samplers}
    for name in guided:
        shown[f"guided_{name}"] = torch.stack([drawn[name, f"{weight:g}"].clean[:FEW] for weight in weights])
    first = shown[next(iter(samplers))][:FEW].cpu().flatten(1)
    shown["neighbours"] = data.x_train[torch.cdist(first, data.x_train.flatten(1)).argmin(1)]
    pictures = {name: (images.cpu() * 255).round().to(torch.uint8).numpy() for name, images in shown.items()}
    known = {"judge_accuracy": judge.accuracy(data.x_test, data.y_test), "judge_digest": judge.digest}
    return model.result | known | {"bits": model.bits()} | columns(rows) | pictures


def _measures(judge, drawn, far):
    """Measures of images; without distances, which need more images than guidance draws, unless they are wanted."""
    clean, raw = drawn.clean, drawn.raw
    shares = {"dark": clean < AT_WALL, "bright": clean > 1 - AT_WALL, "outside": (raw < 0) | (raw > 1)}
    return {name: float(which.double().mean()) for name, which in shares.items()} | {
        "accuracy": judge.accuracy(clean, drawn.labels),
        "calls": drawn.evaluations,
        "distance": judge.distance(clean) if far else np.nan,
        "sliced": sliced_wasserstein(clean.cpu(), judge.reference) if far else np.nan,
    }

"""Image networks: one diffusion with walls and one without, on the same images, in the same number of steps."""

import hashlib
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from loupe.data import load
from loupe.data.images import unit_interval
from loupe.diffusion.reflected import (
    ExplodingSDE,
    ReflectedSDE,
    ScoreNetwork,
    bits_per_dimension,
    classifier_free,
    conditional,
    denoising_loss,
    flow,
    interior_tweedie,
    likelihood_bound,
    log_likelihood,
    sample,
    thresholded,
)
from loupe.experiment import experiment
from loupe.metrics import class_score, frechet_distance, inception_scores, sliced_wasserstein
from loupe.networks.feature_classifier import FeatureClassifier, WideResNet
from loupe.networks.unet import make_unet
from loupe.training import Batches, MovingAverage, accuracy, cosine, evaluating, fit, logits_of

SHOWN = 100  # samples that are stored for pictures
GUIDED_SHOWN = 10
GREY_LEVELS = 256
AT_WALL = 0.02  # twice the first noise: nearer to a wall the last denoising does not resolve
PROJECTIONS = 200
SIDE = 0.01


@experiment(seeds="image_seeds")
def images_reflected(config, *, seed, device, work):
    """R8 to R10: trained with walls; sampled with walls that fold, with walls that clip, and by two flows."""
    sde = ReflectedSDE(config.sigma_min, config.sigma_max)
    data, trained = _data(config), _train(config, sde, seed, device, work / "reflected.pt")
    judge = _Judge(config, data, device)
    plain = partial(_draw, config, trained, sde, config.samples, config.sampler_steps)
    found = {
        "fold": plain(),
        "clip": plain(walls="clip"),
        # The same network, from where hardly anything of the data is left.
        "short": _draw(
            config,
            trained,
            ReflectedSDE(config.sigma_min, config.short_sigma),
            config.samples,
            config.sampler_steps,
        ),
        "mollified": _follow(config, trained, sde, config.samples, mollifier=config.mollifier),
        "flow": _follow(config, trained, sde, config.samples),
    }
    result = trained.result | judge.anchors | judge.all(found)
    for weight in config.weights:
        few = {
            "mollified": _follow(config, trained, sde, config.guided, weight, mollifier=config.mollifier),
            "flow": _follow(config, trained, sde, config.guided, weight),
            "fold": _draw(config, trained, sde, config.guided, config.guided_steps, weight),
        }
        result |= judge.guided(few, weight)
    return result | _likelihood(config, trained, sde, data, seed)


@experiment(seeds="image_seeds")
def images_exploding(config, *, seed, device, work):
    """R8, R9: the same network without walls; sampled without a threshold, with a static one, and a dynamic one."""
    sde = ExplodingSDE(config.sigma_min, config.sigma_max)
    data, trained = _data(config), _train(config, sde, seed, device, work / "exploding.pt")
    judge = _Judge(config, data, device)
    found = {"none": _draw(config, trained, sde, config.samples, config.sampler_steps)}
    for how in ("static", "dynamic"):
        found[how] = _draw(config, trained, sde, config.samples, config.sampler_steps, threshold=how)
    found["flow"] = _follow(config, trained, sde, config.samples)
    result = trained.result | judge.anchors | judge.all(found)
    for weight in config.weights:
        few = {"flow": _follow(config, trained, sde, config.guided, weight)}
        for how in ("static", "dynamic"):
            few[how] = _draw(config, trained, sde, config.guided, config.guided_steps, weight, threshold=how)
        result |= judge.guided(few, weight)
    return result | _likelihood(config, trained, sde, data, seed)


@experiment(seeds="bound_seeds")
def image_bound(config, *, seed, device, work):
    """R11's measure: a network for the likelihood alone, told how far each pixel is from a grey level."""
    sde = ReflectedSDE(config.bound_sigma_min, config.sigma_max)
    data = _data(config)
    trained = _train(config, sde, seed, device, work / "bound.pt", levels=GREY_LEVELS)
    test = data.quantised(data.x_test[_spread(len(data.x_test), config.likelihood_images)]).to(device)
    generator = torch.Generator(device).manual_seed(seed)
    nats = likelihood_bound(
        partial(trained.score, labels=None), test, sde, times=config.bound_times, batch=config.sample_batch,
        generator=generator,
    )  # fmt: skip
    return trained.result | {"bits": bits_per_dimension(nats, test[0].numel()).cpu().numpy()}


# --- data and training --------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Data:
    """Images as tensors (n, C, H, W) in [0, 1], float32, and their classes."""

    x_train: torch.Tensor
    y_train: torch.Tensor
    x_test: torch.Tensor
    y_test: torch.Tensor
    classes: int

    def quantised(self, x):
        """The nearest of 256 grey levels."""
        return (x * (GREY_LEVELS - 1)).round() / (GREY_LEVELS - 1)


def _data(config):
    stored = load(config.images)
    x_train, x_test = (
        torch.from_numpy(unit_interval(x, config.image_size, brightest=stored.brightest))
        for x in (stored.x_train, stored.x_test)
    )
    labels = torch.from_numpy(stored.y_train), torch.from_numpy(stored.y_test)
    return Data(x_train, labels[0], x_test, labels[1], len(stored.classes))


@dataclass(frozen=True)
class Trained:
    """A trained network, and what is known of it."""

    score: object  # (x, sigma, labels) to scores, without gradients of the weights
    shape: tuple  # of an image
    classes: int
    device: str
    seed: int
    result: dict


def _train(config, sde, seed, device, checkpoint, levels=None):
    data = _data(config)
    channels, classes = data.x_train.shape[1], data.classes
    network = make_unet(
        backbone=config.backbone, channels=channels * (3 if levels else 1), out_channels=channels,
        width=config.width, multipliers=config.multipliers, blocks=config.blocks, attention=config.attention,
        size=config.image_size, classes=classes, dropout=config.dropout, seed=seed,
    )  # fmt: skip
    # Faster on a GPU and slower on a processor.
    layout = torch.contiguous_format if torch.device(device).type == "cpu" else torch.channels_last
    model = ScoreNetwork(network, sde, levels=levels).to(device, memory_format=layout)
    average = MovingAverage(model, config.ema)
    if config.compiled:
        model.compile()
        average.network.compile()

    def loss(network, batch, generator):
        x0, labels = batch
        hidden, turned = torch.rand(2, len(x0), generator=generator, device=x0.device)
        labels = torch.where(hidden < config.label_drop, classes, labels)
        if config.flips and levels is None:  # a flipped image is none of those whose likelihood is wanted
            x0 = torch.where((turned < 0.5).view(-1, 1, 1, 1), x0.flip(-1), x0)
        x0 = x0.contiguous(memory_format=layout)
        return denoising_loss(conditional(network, labels), x0, sde, generator=generator).mean()

    batches = Batches(data.x_train, data.y_train, size=config.batch, seed=seed)
    optimiser = torch.optim.Adam(model.parameters(), lr=config.learning_rate)
    run = fit(
        model, loss, batches, optimiser, steps=config.steps, seed=seed, schedule=_schedule(config),
        clip=config.clip, precision=config.precision, device=device, hooks=[average], checkpoint=checkpoint,
    )  # fmt: skip
    averaged = average.network
    half = config.precision.startswith("bf16")

    def score(x, sigma, labels):
        with torch.autocast(x.device.type, torch.bfloat16) if half else nullcontext():
            return averaged(x, sigma, labels).to(x.dtype)

    pixels = data.x_train[0].numel()
    result = {
        "parameters": sum(each.numel() for each in model.parameters()),
        "images_seen": config.steps * config.batch,
        "loss": run.losses.cpu().double().numpy() / pixels,
        "variant": load(config.images).variant,
    }
    return Trained(score, tuple(data.x_train.shape[1:]), classes, device, seed, result)


def _schedule(config):
    """A line up, then a line down to a share of the learning rate."""

    def factor(step):
        rise = min(1.0, (step + 1) / max(1, config.warm))
        return rise * (1 - (1 - config.last_rate) * step / config.steps)

    return factor


# --- drawing ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Drawn:
    """Images of every class in turn: as they came, and without their last noise."""

    raw: torch.Tensor
    clean: torch.Tensor
    labels: torch.Tensor
    evaluations: int


def _draw(config, trained, sde, count, steps, weight=0.0, *, threshold=None, **options):
    """Draws of the stochastic sampler."""

    def one(score, shape, generator):
        if threshold:
            score = thresholded(score, threshold)
        with torch.no_grad():
            raw = sample(
                score, sde, shape, steps=steps, generator=generator, device=trained.device, denoise=False, **options
            )  # fmt: skip
            return raw, interior_tweedie(score, raw, sde), steps

    return _in_batches(config, trained, count, weight, one)


def _follow(config, trained, sde, count, weight=0.0, *, mollifier=None):
    """Draws of the flow; with a mollifier, begun away from the walls, as published."""
    side = {} if mollifier is None else {"side": SIDE}

    def one(score, shape, generator):
        start = sde.limit(shape, generator, trained.device, **side)
        with torch.no_grad():
            end = flow(score, sde, start, mollifier=mollifier, rtol=config.tolerance, atol=config.tolerance)
            return end.x, interior_tweedie(score, end.x, sde), end.evaluations

    return _in_batches(config, trained, count, weight, one)


def _in_batches(config, trained, count, weight, one):
    parts = []
    for k, labels in enumerate((torch.arange(count) % trained.classes).split(config.sample_batch)):
        labels = labels.to(trained.device)
        generator = torch.Generator(trained.device).manual_seed(1000 * trained.seed + k)
        score = classifier_free(trained.score, labels, weight, classes=trained.classes)
        parts.append((*one(score, (len(labels), *trained.shape), generator), labels))
    raw, clean, evaluations, labels = zip(*parts, strict=True)
    return Drawn(torch.cat(raw), torch.cat(clean), torch.cat(labels), max(evaluations))


def _likelihood(config, trained, sde, data, seed):
    """Bits per dimension of test images by the flow, with uniform noise within their grey levels."""
    generator = torch.Generator(trained.device).manual_seed(seed)
    chosen = data.quantised(data.x_test[_spread(len(data.x_test), config.likelihood_images)])
    level = (chosen * (GREY_LEVELS - 1)).round().to(trained.device)
    x = (level + torch.rand(level.shape, generator=generator, device=trained.device)) / GREY_LEVELS
    nats, evaluations = [], []
    for part in x.split(config.sample_batch):
        found = log_likelihood(
            partial(trained.score, labels=None), sde, part, probes=1, rtol=config.tolerance, atol=config.tolerance,
            generator=generator,
        )  # fmt: skip
        nats.append(found.nats.double().cpu())
        evaluations.append(found.evaluations)
    bits = np.log2(GREY_LEVELS) - bits_per_dimension(torch.cat(nats), x[0].numel()).numpy()
    return {"bits": bits, "bits_evaluations": max(evaluations)}


def _spread(total, wanted):
    """So many of all indices, from all over."""
    return torch.linspace(0, total - 1, min(wanted, total)).long()


# --- judging ------------------------------------------------------------------------------------------------


class _Judge:
    """Compares images with test images in the features of a classifier that is trained here, on the training images."""

    def __init__(self, config, data, device):
        self.config, self.data, self.device = config, data, device
        channels = data.x_train.shape[1]
        wide = config.judge == "wide"
        self.network = (
            WideResNet(channels, classes=data.classes)
            if wide
            else FeatureClassifier(channels, widths=config.judge_widths, classes=data.classes)
        ).to(device)

        def loss(network, batch, generator):
            x, labels = batch
            if config.flips:
                turned = torch.rand(len(x), 1, 1, 1, generator=generator, device=x.device) < 0.5
                x = torch.where(turned, x.flip(-1), x)
            return cross_entropy(network(x), labels)

        size = min(128, len(data.x_train))
        steps = -(-config.judge_epochs * len(data.x_train) // size)
        rate = 2e-3 if wide else 4e-3
        fit(
            self.network, loss, Batches(data.x_train, data.y_train, size=size),
            torch.optim.Adam(self.network.parameters(), lr=rate), steps=steps, schedule=cosine(steps, warmup=50),
            device=device,
        )  # fmt: skip
        self.test = self._features(data.x_test)
        few = _spread(len(data.x_train), config.samples)
        generator = torch.Generator().manual_seed(0)
        noise = torch.rand(len(few), *data.x_train.shape[1:], generator=generator)
        state = b"".join(each.cpu().numpy().tobytes() for each in self.network.state_dict().values())
        with evaluating(self.network):
            correct = accuracy(self.network, data.x_test.to(device), data.y_test.to(device))
        self.anchors = (
            {
                "judge_accuracy": correct,
                "judge_digest": hashlib.sha256(state).hexdigest()[:16],
                "data": _bytes(data.x_test[:SHOWN]),
            }
            | self._one("train", data.x_train[few], data.y_train[few])
            | self._one("noise", noise, data.y_train[few])
        )

    def all(self, drawn):
        """Measures of samples by the name of their sampler, and the first of them."""
        result = {}
        for name, one in drawn.items():
            result |= self._one(name, one.clean, one.labels) | _outside(name, one.raw)
            result |= {f"{name} evaluations": one.evaluations, name: _bytes(one.clean[:SHOWN])}
        first = next(iter(drawn.values())).clean[:GUIDED_SHOWN]
        apart = torch.cdist(first.cpu().flatten(1), self.data.x_train.flatten(1))
        result["neighbours"] = _bytes(self.data.x_train[apart.argmin(1)])
        if self.config.inception:
            name, one = next(iter(drawn.items()))
            scores = inception_scores(_colours(one.clean), _colours(self.data.x_train))
            result |= {
                f"{name} FID": scores.frechet_inception_distance,
                f"{name} IS": scores.inception_score,
            }
        return result

    def guided(self, drawn, weight):
        """The same of guided samples, without distances, which need more of them."""
        result = {}
        for name, one in drawn.items():
            key = f"{name} w={weight:g}"
            result |= _outside(key, one.raw) | _walls(key, one.clean) | self._agreement(key, one)
            result |= {f"{key} evaluations": one.evaluations, key: _bytes(one.clean[:GUIDED_SHOWN])}
        return result

    def _one(self, name, images, labels):
        features, probabilities = self._features(images), self._probabilities(images)
        correct = (probabilities.argmax(1) == labels.to(probabilities.device)).double().mean()
        return {
            f"{name} distance": frechet_distance(features, self.test),
            f"{name} class score": class_score(probabilities.cpu()),
            f"{name} accuracy": float(correct),
            f"{name} sliced": sliced_wasserstein(
                images.cpu(), self.data.x_test, projections=PROJECTIONS, seed=0
            ),
        } | _walls(name, images)

    def _agreement(self, name, one):
        probabilities = self._probabilities(one.clean)
        return {f"{name} accuracy": float((probabilities.argmax(1) == one.labels).double().mean())}

    def _features(self, images):
        with evaluating(self.network):
            return torch.cat([self.network.features(part.to(self.device)) for part in images.split(1000)])

    def _probabilities(self, images):
        return logits_of(self.network, images.to(self.device)).double().softmax(1)


def _walls(name, images):
    """Shares of pixels that are as dark, and as bright, as can be told apart."""
    dark, bright = (images < AT_WALL), (images > 1 - AT_WALL)
    return {
        f"{name} {what}": float(which.double().mean()) for what, which in (("dark", dark), ("bright", bright))
    }


def _outside(name, raw):
    """Share of pixels outside the cube before any clip, and by how much the mean pixel is."""
    over = (raw - raw.clamp(0, 1)).abs()
    return {
        f"{name} outside": float((over > 0).double().mean()),
        f"{name} overshoot": float(over.double().mean()),
    }


def _bytes(images):
    return (images.cpu() * 255).round().to(torch.uint8).numpy()


def _colours(images):
    return torch.from_numpy(_bytes(images))

"""Image networks: one diffusion with walls and one without, on the same images, in the same number of steps."""

import hashlib
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from loupe.data import load
from loupe.data.images import unit_interval
from loupe.diffusion.reflected import (
    VESDE,
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
from loupe.metrics import class_score, frechet_distance, sliced_wasserstein
from loupe.networks.feature_classifier import FeatureClassifier, WideResNet
from loupe.networks.unet import make_unet
from loupe.training import Training, accuracy, evaluating, logits_of, train

SHOWN = 100  # samples that are stored for pictures
GUIDED_SHOWN = 10
GRAY_LEVELS = 256
AT_WALL = 0.02  # twice the first noise: nearer to a wall the last denoising does not resolve
PROJECTIONS = 200
SIDE = 0.01


@experiment(seeds="image_seeds")
def images_reflected(config, *, seed, device, work):
    """R8 to R10: trained with walls; sampled with walls that fold, with walls that clip, and by two flows."""
    sde, short = (ReflectedSDE(config.sigma_min, last) for last in (config.sigma_max, config.short_sigma))
    model = trained(config, sde, seed, device, work / "reflected")
    samplers = {
        "fold": model.draw,
        "clip": partial(model.draw, walls="clip"),
        "short": replace(model, sde=short).draw,  # from where hardly anything of the data is left
        "mollified": partial(model.follow, mollifier=config.mollifier),
        "flow": model.follow,
    }
    return _judged(model, samplers, guided=("mollified", "flow", "fold"))


@experiment(seeds="image_seeds")
def images_exploding(config, *, seed, device, work):
    """R8, R9: the same network without walls; sampled without a threshold, with a static one, and a dynamic one."""
    sde = VESDE(config.sigma_min, config.sigma_max)
    model = trained(config, sde, seed, device, work / "exploding")
    samplers = {
        "none": model.draw,
        "static": partial(model.draw, threshold="static"),
        "dynamic": partial(model.draw, threshold="dynamic"),
        "flow": model.follow,
    }
    return _judged(model, samplers, guided=("flow", "static", "dynamic"))


@experiment(seeds="bound_seeds")
def image_bound(config, *, seed, device, work):
    """R11's measure: a network for the likelihood alone, given how far each pixel is from a gray level."""
    sde = ReflectedSDE(config.bound_sigma_min, config.sigma_max)
    model = trained(config, sde, seed, device, work / "bound", levels=GRAY_LEVELS)
    test = model.test_levels() / (GRAY_LEVELS - 1)
    nats = likelihood_bound(
        partial(model.score, labels=None), test, sde, times=config.bound_times, batch=config.sample_batch,
        generator=torch.Generator(device).manual_seed(seed),
    )  # fmt: skip
    return model.result | {"bits": bits_per_dimension(nats, test[0].numel()).cpu().numpy()}


def _judged(model, samplers, guided):
    """What is known of the network, and of images by each sampler, without guidance and with each of its weights."""
    judge = Judge(model)
    result = model.result | judge.anchors() | judge.all({name: draw() for name, draw in samplers.items()})
    for weight in model.config.weights:
        result |= judge.guided({name: samplers[name](weight) for name in guided}, weight)
    return result | model.likelihood()


# --- training and drawing -----------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Data:
    """Images as tensors (n, C, H, W) in [0, 1], float32, and their classes."""

    x_train: torch.Tensor
    y_train: torch.Tensor
    x_test: torch.Tensor
    y_test: torch.Tensor
    classes: int
    variant: str

    @classmethod
    def of(cls, config):
        """The images that the settings name, at their size."""
        stored = load(config.images)
        x_train, x_test = (
            torch.from_numpy(unit_interval(x, config.image_size, brightest=stored.brightest))
            for x in (stored.x_train, stored.x_test)
        )
        labels = torch.from_numpy(stored.y_train), torch.from_numpy(stored.y_test)
        return cls(x_train, labels[0], x_test, labels[1], len(stored.classes), stored.variant)


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

    config: object
    sde: object
    score: object
    data: Data
    device: str
    seed: int
    result: dict = field(default_factory=dict)

    def draw(self, weight=None, *, threshold=None, **options):
        """Samples of the stochastic sampler; with a weight as many, and in as many steps, as guidance is given."""
        steps = self.config.sampler_steps if weight is None else self.config.guided_steps

        def one(score, shape, generator):
            score = thresholded(score, threshold) if threshold else score
            raw = sample(
                score, self.sde, shape, steps=steps, generator=generator, device=self.device, denoise=False, **options
            )  # fmt: skip
            return raw, interior_tweedie(score, raw, self.sde), steps

        return self._in_batches(weight, one)

    def follow(self, weight=None, *, mollifier=None):
        """Samples of the flow; with a mollifier it begins away from the walls, as published."""
        side, tolerance = {} if mollifier is None else {"side": SIDE}, self.config.tolerance

        def one(score, shape, generator):
            start = self.sde.limit(shape, generator, self.device, **side)
            end = flow(score, self.sde, start, mollifier=mollifier, rtol=tolerance, atol=tolerance)
            return end.x, interior_tweedie(score, end.x, self.sde), end.evaluations

        return self._in_batches(weight, one)

    def _in_batches(self, weight, one):
        count = self.config.samples if weight is None else self.config.guided
        parts, classes, shape = [], self.data.classes, self.data.x_train.shape[1:]
        for k, labels in enumerate((torch.arange(count) % classes).split(self.config.sample_batch)):
            labels = labels.to(self.device)
            generator = torch.Generator(self.device).manual_seed(1000 * self.seed + k)
            score = classifier_free(self.score, labels, weight or 0.0, classes=classes)
            with torch.no_grad():
                parts.append((*one(score, (len(labels), *shape), generator), labels))
        raw, clean, evaluations, labels = zip(*parts, strict=True)
        return Drawn(torch.cat(raw), torch.cat(clean), torch.cat(labels), max(evaluations))

    def test_levels(self):
        """Test images as gray levels from 0 to 255."""
        x = self.data.x_test[_spread(len(self.data.x_test), self.config.likelihood_images)]
        return (x * (GRAY_LEVELS - 1)).round().to(self.device)

    def likelihood(self):
        """Bits per dimension of test images by the flow, with uniform noise within their gray levels."""
        generator = torch.Generator(self.device).manual_seed(self.seed)
        level, tolerance = self.test_levels(), self.config.tolerance
        x = (level + torch.rand(level.shape, generator=generator, device=self.device)) / GRAY_LEVELS
        found = [
            log_likelihood(
                partial(self.score, labels=None), self.sde, part, noise_vectors=1, rtol=tolerance, atol=tolerance,
                generator=generator,
            )
            for part in x.split(self.config.sample_batch)
        ]  # fmt: skip
        nats = torch.cat([each.nats.double().cpu() for each in found])
        bits = np.log2(GRAY_LEVELS) - bits_per_dimension(nats, x[0].numel()).numpy()
        return {"bits": bits, "bits_evaluations": max(each.evaluations for each in found)}


def trained(config, sde, seed, device, work, levels=None):
    """The model that comes of training; ``levels``: its network sees how far each pixel is from a gray level."""
    data, settings = Data.of(config), config.training
    channels, classes = data.x_train.shape[1], data.classes
    network = make_unet(
        backbone=config.backbone, channels=channels * (3 if levels else 1), out_channels=channels,
        width=config.width, multipliers=config.multipliers, blocks=config.blocks, attention=config.attention,
        size=config.image_size, classes=classes, dropout=config.dropout, seed=seed,
    )  # fmt: skip
    # Faster on a GPU and slower on a processor.
    layout = torch.contiguous_format if torch.device(device).type == "cpu" else torch.channels_last
    model = ScoreNetwork(network, sde, levels=levels).to(device, memory_format=layout)

    def loss(network, batch, generator):
        x0, labels = batch
        hidden, turned = torch.rand(2, len(x0), generator=generator, device=x0.device)
        labels = torch.where(hidden < config.label_drop, classes, labels)
        if config.flips and levels is None:  # a flipped image is none of those whose likelihood is wanted
            x0 = torch.where((turned < 0.5).view(-1, 1, 1, 1), x0.flip(-1), x0)
        x0 = x0.contiguous(memory_format=layout)
        return denoising_loss(conditional(network, labels), x0, sde, generator=generator).mean()

    run = train(model, loss, (data.x_train, data.y_train), settings, seed=seed, device=device, work=work)
    half = settings.precision.startswith("bf16")

    def score(x, sigma, labels):
        with torch.autocast(x.device.type, torch.bfloat16) if half else nullcontext():
            return run.network(x, sigma, labels).to(x.dtype)

    result = {
        "parameters": run.parameters,
        "images_seen": settings.steps * settings.batch,
        "loss": run.losses.astype(float) / data.x_train[0].numel(),
        "variant": data.variant,
    }
    return Model(config, sde, score, data, device, seed, result)


def _spread(total, wanted):
    """Places evenly spread over a set."""
    return torch.linspace(0, total - 1, min(wanted, total)).long()


# --- judging ------------------------------------------------------------------------------------------------


class Judge:
    """Compares images with test images in the features of a classifier that is trained here, on the training images."""

    def __init__(self, model):
        config, data = model.config, model.data
        self.data, self.device, self.samples = data, model.device, config.samples
        channels, wide = data.x_train.shape[1], config.judge == "wide"
        kind = WideResNet if wide else partial(FeatureClassifier, widths=config.judge_widths)

        def loss(network, batch, generator):
            x, labels = batch
            if config.flips:
                turned = torch.rand(len(x), 1, 1, 1, generator=generator, device=x.device) < 0.5
                x = torch.where(turned, x.flip(-1), x)
            return cross_entropy(network(x), labels)

        n, rate = len(data.x_train), 2e-3 if wide else 4e-3
        batch = min(128, n)
        steps = -(-config.judge_epochs * n // batch)
        settings = Training(steps=steps, batch=batch, learning_rate=rate, schedule="cosine", warmup=50)
        network, train_set = kind(channels, classes=data.classes), (data.x_train, data.y_train)
        self.network = train(network, loss, train_set, settings, device=self.device).network
        self.test = self._features(data.x_test)

    def anchors(self):
        """What is known of the classifier, and the measures of training images and of noise."""
        data, few = self.data, _spread(len(self.data.x_train), self.samples)
        noise = torch.rand(len(few), *data.x_train.shape[1:], generator=torch.Generator().manual_seed(0))
        state = b"".join(each.cpu().numpy().tobytes() for each in self.network.state_dict().values())
        test = data.x_test.to(self.device), data.y_test.to(self.device)
        return {
            "judge_accuracy": accuracy(self.network, *test),
            "judge_digest": hashlib.sha256(state).hexdigest()[:16],
            "data": _bytes(data.x_test[:SHOWN]),
            **self._one("train", data.x_train[few], data.y_train[few]),
            **self._one("noise", noise, data.y_train[few]),
        }

    def all(self, drawn):
        """Measures of samples by the name of their sampler, and the first of them."""
        result = {}
        for name, one in drawn.items():
            result |= self._one(name, one.clean, one.labels) | _drawn(name, one, SHOWN)
        first = next(iter(drawn.values())).clean[:GUIDED_SHOWN]
        apart = torch.cdist(first.cpu().flatten(1), self.data.x_train.flatten(1))
        return result | {"neighbours": _bytes(self.data.x_train[apart.argmin(1)])}

    def guided(self, drawn, weight):
        """The same of guided samples, without distances, which need more of them."""
        result = {}
        for name, one in drawn.items():
            key, right = f"{name} w={weight:g}", self._right(self._probabilities(one.clean), one.labels)
            result |= _drawn(key, one, GUIDED_SHOWN) | _walls(key, one.clean) | {f"{key} accuracy": right}
        return result

    def _one(self, name, images, labels):
        probabilities = self._probabilities(images)
        apart = sliced_wasserstein(images.cpu(), self.data.x_test, projections=PROJECTIONS, seed=0)
        return {
            f"{name} distance": frechet_distance(self._features(images), self.test),
            f"{name} class score": class_score(probabilities.cpu()),
            f"{name} accuracy": self._right(probabilities, labels),
            f"{name} sliced": apart,
        } | _walls(name, images)

    @staticmethod
    def _right(probabilities, labels):
        return float((probabilities.argmax(1) == labels.to(probabilities.device)).double().mean())

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


def _drawn(name, one, shown):
    """The first samples, what they cost, and how far pixels are outside the cube before any clip: share, and mean."""
    over = (one.raw - one.raw.clamp(0, 1)).abs()
    return {
        name: _bytes(one.clean[:shown]),
        f"{name} evaluations": one.evaluations,
        f"{name} outside": float((over > 0).double().mean()),
        f"{name} overshoot": float(over.double().mean()),
    }


def _bytes(images):
    return (images.cpu() * 255).round().to(torch.uint8).numpy()

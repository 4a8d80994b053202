"""Image networks: one diffusion with walls and one without, on the same images, in the same number of steps."""

import hashlib
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from loupe.data import load
from loupe.data.images import Images, unit_interval
from loupe.diffusion import reflected
from loupe.experiment import experiment
from loupe.experiment.results import columns
from loupe.metrics import frechet_distance, sliced_wasserstein
from loupe.networks.feature_classifier import FeatureClassifier, WideResNet
from loupe.networks.unet import make_unet
from loupe.training import Training, accuracy, evaluating, train

SHOWN, FEW = 100, 10  # samples that are stored for pictures, and guided ones
GRAY_LEVELS = 256
AT_WALL = 0.02  # twice the first noise: nearer to a wall the last denoising does not resolve
PROJECTIONS = 200
SIDE = 0.01


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
    sde = reflected.ReflectedSDE(config.bound_sigma_min, config.sigma_max)
    model = trained(config, sde, seed, device, work / "bound", levels=GRAY_LEVELS)
    test = model.test_levels() / (GRAY_LEVELS - 1)
    generator, score = torch.Generator(device).manual_seed(seed), partial(model.score, labels=None)
    options = {"times": config.bound_times, "batch": config.sample_batch, "generator": generator}
    nats = reflected.likelihood_bound(score, test, sde, **options)
    return model.result | {"bits": reflected.bits_per_dimension(nats, test[0].numel()).cpu().numpy()}


def _judged(model, samplers, guided):
    """What is known of the network, and of images by each sampler, without guidance and with each of its weights."""
    config, data, judge = model.config, model.data, Judge(model)
    some = _spread(len(data.x_train), config.samples)
    noise = torch.rand(len(some), *data.x_train.shape[1:], generator=torch.Generator().manual_seed(0))
    weights = {f"{weight:g}": weight for weight in sorted(config.weights)}
    anchors = {"train": data.x_train[some], "noise": noise}
    drawn = {(name, ""): Drawn(x, x, data.y_train[some], 0) for name, x in anchors.items()}
    drawn |= {(name, ""): draw() for name, draw in samplers.items()}
    drawn |= {(name, word): samplers[name](weight) for name in guided for word, weight in weights.items()}
    rows = [{"method": name, "variant": word} | judge(each, not word) for (name, word), each in drawn.items()]
    shown = {"data": data.x_test[:SHOWN]} | {name: drawn[name, ""].clean[:SHOWN] for name in samplers}
    few = {key: each.clean[:FEW] for key, each in drawn.items()}
    shown |= {f"guided_{name}": torch.stack([few[name, word] for word in weights]) for name in guided}
    first = few[next(iter(samplers)), ""].cpu().flatten(1)
    shown["neighbours"] = data.x_train[torch.cdist(first, data.x_train.flatten(1)).argmin(1)]
    pictures = {name: (images.cpu() * 255).round().to(torch.uint8).numpy() for name, images in shown.items()}
    return model.result | judge.result | model.likelihood() | columns(rows) | pictures


# --- training and drawing -----------------------------------------------------------------------------------


def images_of(config):
    """The images that the settings name, at their size, as tensors: (n, C, H, W) in [0, 1], float32."""
    stored = load(config.images)
    found = {part: torch.from_numpy(getattr(stored, part)) for part in ("y_train", "y_test")}
    for part in ("x_train", "x_test"):
        images = unit_interval(getattr(stored, part), config.image_size, brightest=stored.brightest)
        found[part] = torch.from_numpy(images)
    return replace(stored, **found)


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
    data: Images
    device: str
    seed: int
    result: dict = field(default_factory=dict)

    def draw(self, weight=None, *, threshold=None, **options):
        """Samples of the stochastic sampler; with a weight as many, and in as many steps, as guidance is given."""
        steps = self.config.sampler_steps if weight is None else self.config.guided_steps
        settings = {"steps": steps, "device": self.device, "denoise": False} | options

        def one(score, shape, generator):
            score = reflected.thresholded(score, threshold) if threshold else score
            raw = reflected.sample(score, self.sde, shape, generator=generator, **settings)
            return raw, reflected.interior_tweedie(score, raw, self.sde), steps

        return self._in_batches(weight, one)

    def follow(self, weight=None, *, mollifier=None):
        """Samples of the flow; with a mollifier it begins away from the walls, as published."""
        side, tolerance = {} if mollifier is None else {"side": SIDE}, self.config.tolerance

        def one(score, shape, generator):
            start = self.sde.limit(shape, generator, self.device, **side)
            end = reflected.flow(score, self.sde, start, mollifier=mollifier, rtol=tolerance, atol=tolerance)
            return end.x, reflected.interior_tweedie(score, end.x, self.sde), end.evaluations

        return self._in_batches(weight, one)

    def _in_batches(self, weight, one):
        count = self.config.samples if weight is None else self.config.guided
        parts, classes, shape = [], len(self.data.classes), self.data.x_train.shape[1:]
        for k, labels in enumerate((torch.arange(count) % classes).split(self.config.sample_batch)):
            labels = labels.to(self.device)
            generator = torch.Generator(self.device).manual_seed(1000 * self.seed + k)
            score = reflected.classifier_free(self.score, labels, weight or 0.0, classes=classes)
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
        settings = {"noise_vectors": 1, "rtol": tolerance, "atol": tolerance, "generator": generator}
        found = partial(reflected.log_likelihood, partial(self.score, labels=None), self.sde, **settings)
        nats = torch.cat([found(part).nats.double().cpu() for part in x.split(self.config.sample_batch)])
        return {"bits": np.log2(GRAY_LEVELS) - reflected.bits_per_dimension(nats, x[0].numel()).numpy()}


def trained(config, sde, seed, device, work, levels=None):
    """The model that comes of training; ``levels``: its network sees how far each pixel is from a gray level."""
    data, settings = images_of(config), config.training
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
            x0 = torch.where((turned < 0.5).view(-1, 1, 1, 1), x0.flip(-1), x0)
        score, x0 = reflected.conditional(network, labels), x0.contiguous(memory_format=layout)
        return reflected.denoising_loss(score, x0, sde, generator=generator).mean()

    run = train(model, loss, (data.x_train, data.y_train), settings, seed=seed, device=device, work=work)
    half = settings.precision.startswith("bf16")

    def score(x, sigma, labels):
        with torch.autocast(x.device.type, torch.bfloat16) if half else nullcontext():
            return run.network(x, sigma, labels).to(x.dtype)

    seen = settings.steps * settings.batch
    result = {"parameters": run.parameters, "images_seen": seen, "copy": data.variant}
    return Model(config, sde, score, data, device, seed, result)


def _spread(total, wanted):
    """Places evenly spread over a set."""
    return torch.linspace(0, total - 1, min(wanted, total)).long()


# --- judging ------------------------------------------------------------------------------------------------


class Judge:
    """Compares images with test images in the features of a classifier that is trained here, on the training images."""

    def __init__(self, model):
        config, data, self.device = model.config, model.data, model.device
        wide = config.judge == "wide"
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
        network, parts = kind(data.x_train.shape[1], classes=len(data.classes)), (data.x_train, data.y_train)
        self.network = train(network, loss, parts, settings, device=self.device).network
        self.test, self.features = data.x_test, self._features(data.x_test)
        state = b"".join(each.cpu().numpy().tobytes() for each in self.network.state_dict().values())
        self.result = {
            "judge_accuracy": self._accuracy(data.x_test, data.y_test),
            "judge_digest": hashlib.sha256(state).hexdigest()[:16],
        }

    def __call__(self, drawn, far):
        """Measures of images; without distances, which need more images than guidance draws, unless they are wanted."""
        clean, outside = drawn.clean, (drawn.raw < 0) | (drawn.raw > 1)
        shares = {"dark": clean < AT_WALL, "bright": clean > 1 - AT_WALL, "outside": outside}
        found = {name: float(which.double().mean()) for name, which in shares.items()}
        found |= {"accuracy": self._accuracy(clean, drawn.labels), "calls": drawn.evaluations}
        if not far:
            return found | {"distance": np.nan, "sliced": np.nan}
        apart = sliced_wasserstein(clean.cpu(), self.test, projections=PROJECTIONS, seed=0)
        return found | {"distance": frechet_distance(self._features(clean), self.features), "sliced": apart}

    def _accuracy(self, images, labels):
        return accuracy(self.network, images.to(self.device), labels.to(self.device))

    def _features(self, images):
        with evaluating(self.network):
            return torch.cat([self.network.features(part.to(self.device)) for part in images.split(1000)])

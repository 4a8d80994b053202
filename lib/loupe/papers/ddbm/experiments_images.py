"""Image networks: bridges, what they are compared with, and what should fail, on the same pairs and the same U-Net."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.functional import avg_pool2d, pixel_shuffle, pixel_unshuffle

from loupe.data import load
from loupe.data.images import unit_interval
from loupe.data.pairs import block_means, edge_maps
from loupe.diffusion import bridges, continuous
from loupe.experiment import experiment
from loupe.experiment.results import columns
from loupe.networks.unet import TranslationUNet, make_unet
from loupe.papers.ddbm.experiments import both_bridges
from loupe.papers.judging import ImageJudge, as_bytes, spread
from loupe.training import train

SHOWN = 10
CLAMP = (-1.0, 1.0)
EDM_RANGE = (80.0, 0.002)
SDEDIT = 1.0  # noise level at which SDEdit enters the diffusion
NEIGHBORS = 10
PATHS = 2  # sources
SHARES = (1, 0.9, 0.75, 0.5, 0.25, 0.1, 0.03, 0)  # of the bridge's time, on pictures of a path
BATCH = 250  # images drawn at once


# --- data ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Pairs:
    """Targets and sources (n, C, H, W) in [-1, 1], float32, with pixels folded into channels; and classes."""

    settings: Any
    targets: torch.Tensor
    sources: torch.Tensor
    labels: torch.Tensor
    test_targets: torch.Tensor
    test_sources: torch.Tensor
    test_labels: torch.Tensor
    classes: int

    @classmethod
    def of(cls, settings):
        """The pairs of these settings."""
        stored, parts = load(settings.data), []
        for images, labels in ((stored.x_train, stored.y_train), (stored.x_test, stored.y_test)):
            images = unit_interval(images, settings.size, brightest=stored.brightest)
            if settings.source == "edges":
                sources = edge_maps(images, threshold=settings.threshold, smoothing=settings.smoothing)
            else:
                sources = block_means(images, settings.block)
            folded = (pixel_unshuffle(torch.from_numpy(2 * x - 1), settings.fold) for x in (images, sources))
            parts += [*folded, torch.from_numpy(labels)]
        return cls(settings, *parts, len(stored.classes))

    def images(self, x):
        """Images in [0, 1], unfolded, of the network's form."""
        return (pixel_shuffle(x, self.settings.fold).clamp(-1, 1) + 1) / 2

    def pictures(self, x):
        """Images as bytes, shape (n, H, W) or (n, H, W, 3)."""
        return as_bytes(self.images(x))

    def network(self, seed, *, sources=True):
        """A U-Net on x, and on the sources beside it unless they are withheld."""
        one, channels = self.settings, self.targets.shape[1]
        return TranslationUNet(
            make_unet(
                channels=channels * (1 + sources), out_channels=channels, width=one.width, multipliers=one.multipliers,
                blocks=one.blocks, attention=one.attention, size=one.size // one.fold, dropout=one.dropout, seed=seed,
            ),
            sources,
        )  # fmt: skip


# --- methods ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Method:
    """How a network is trained, and how it answers: samplers take ``(network, x_T, generator, **options)``."""

    loss: Callable
    samplers: dict[str, Callable]
    sees_source: bool = True


def _bridge(config, pairs, name, **options):
    """DDBM on one of the bridges, answered by the ODE and by the hybrid sampler."""
    bridge = both_bridges(config)[name]
    form = bridges.Preconditioning.of_pairs(bridge, pairs.targets, pairs.sources, **options)

    def answer(network, x_T, generator, **options):
        options = {"steps": config.sampler_steps, "churn": config.churn, "clamp": CLAMP} | options
        return bridges.bridge_sample(form.denoiser(network), x_T, bridge, generator=generator, **options)

    def loss(network, x0, x_T, generator):
        return bridges.bridge_loss(network, x0, x_T, form, generator)

    return Method(loss, {"hybrid": answer, "ODE": partial(answer, churn=0.0)})


VP, VE = partial(_bridge, name="VP"), partial(_bridge, name="VE")


def _regression(config, pairs):
    """L2 regression: the mean target of a source, in one call."""

    def loss(network, x0, x_T, generator):
        return (network.at(x_T, 1.0) - x0).square().flatten(1).mean(1)

    def answer(network, x_T, generator):
        return bridges.Drawn(network.at(x_T, 1.0).clamp(*CLAMP), 1, None)

    return Method(loss, {"regression": answer}, sees_source=False)


def _flow(config, pairs):
    """Rectified flow on pairs, whose network sees x_t alone, as published."""

    def loss(network, x0, x_T, generator):
        return bridges.rectified_flow_loss(network.at, x0, x_T, generator)

    def answer(network, x_T, generator):
        return bridges.rectified_flow_sample(network.at, x_T, steps=config.sampler_steps, clamp=CLAMP)

    return Method(loss, {"rectified flow": answer}, sees_source=False)


def _i2sb(config, pairs):
    """I2SB, whose network sees x_t alone, as published."""
    bridge, options = bridges.BrownianBridge(), {"steps": config.sampler_steps, "clamp": CLAMP}

    def loss(network, x0, x_T, generator):
        return bridges.i2sb_loss(network.at, x0, x_T, bridge, generator)

    def answer(network, x_T, generator):
        return bridges.i2sb_sample(network.at, x_T, bridge, generator=generator, **options)

    return Method(loss, {"I2SB": answer}, sees_source=False)


def _edm(config, pairs, *, sees_source=True, uniform=False):
    """EDM from noise; with the source as an input, or with none and then SDEdit; times lognormal, or a bridge's."""
    form = partial(continuous.edm_preconditioning, sigma_data=float(pairs.targets.std()))
    draw = partial(continuous.training_times, start=EDM_RANGE[1], end=EDM_RANGE[0])
    draw = partial(draw if uniform else continuous.lognormal_sigmas, stratified=False)

    def denoiser(network):
        return continuous.Preconditioned(lambda x, log_t, x_T: network(x, x_T, log_t.expand(len(x))), form)

    def loss(network, x0, x_T, generator):
        t = draw(len(x0), generator, device=x0.device)
        noise = torch.randn(x0.shape, generator=generator, device=x0.device)
        return denoiser(network).loss(x0, x0 + continuous.per_sample("t", t, x0) * noise, t, x_T)

    def answer(network, x_T, generator, *, start=EDM_RANGE[0], around=0.0):
        noise = torch.randn(x_T.shape, generator=generator, device=x_T.device)
        times = bridges.karras_grid(config.sampler_steps, EDM_RANGE[1], start)
        denoised = denoiser(network)

        def flow(x, t):
            return (x - denoised(x, t, x_T).clamp(*CLAMP)) / continuous.per_sample("t", t, x)

        x = continuous.heun(flow, around * x_T + start * noise, times).clamp(*CLAMP)
        return bridges.Drawn(x, 2 * config.sampler_steps - 1, None)

    samplers = {"unconditional": answer, "SDEdit": partial(answer, start=SDEDIT, around=1.0)}
    return Method(loss, {"EDM with source": answer} if sees_source else samplers, sees_source)


# --- training and judging -----------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Trained:
    """A trained method: what answers sources, what judges the answers, and what is known of the training."""

    config: Any
    pairs: Pairs
    method: Method
    network: nn.Module
    judge: ImageJudge
    seed: int
    device: str
    result: dict

    def answer(self, sampler, x_T, **options):
        """Answers (n, C, H, W) in [-1, 1], on the CPU, and the calls of the network for one of them."""
        generator, parts = torch.Generator(self.device).manual_seed(self.seed), []
        with torch.no_grad():
            for one in x_T.split(BATCH):
                drawn = self.method.samplers[sampler](self.network, one.to(self.device), generator, **options)
                parts.append(drawn.samples.cpu())
        return torch.cat(parts), drawn.evaluations

    def measured(self, sampler, count, **options):
        """Answers to the first test sources, and measures of them."""
        x, calls = self.answer(sampler, self.pairs.test_sources[:count], **options)
        return x, measures(self.pairs, self.judge, x, count) | {"calls": calls}

    def table(self):
        """What is known of the training; measures of all samplers, in arrays by name; and their first pictures."""
        rows, shown, config = [], [], self.config
        asked = self.pairs.test_sources[: config.asked].repeat_interleave(config.answers, 0)
        for name in self.method.samplers:
            x, found = self.measured(name, config.samples)
            many = self.pairs.images(self.answer(name, asked)[0])
            rows.append(found | {"diversity": spread(many, config.answers)})
            shown.append(self.pairs.pictures(x[:SHOWN]))
        shown = {"samplers": np.array(list(self.method.samplers)), "shown": np.stack(shown)}
        return self.result | shown | columns(rows)

    def sweeps(self):
        """Measures of the hybrid sampler by churn, by number of steps, and by the weight of the pull."""
        config, result = self.config, {}
        sweeps = {
            "churn": [{"churn": churn} for churn in config.churns],
            "ODE steps": [{"churn": 0.0, "steps": steps} for steps in config.steps_swept],
            "hybrid steps": [{"steps": steps} for steps in config.steps_swept],
            "guidance": [{"guidance": weight} for weight in config.guidances],
        }
        for name, options in sweeps.items():
            result |= named(name, columns(self.measured("hybrid", config.swept, **one)[1] for one in options))
        return result


def measures(pairs, judge, x, count):
    """Distance of a set from all test images, and paired measures against the targets of the first test pairs."""
    truth, images, labels = pairs.test_targets[:count], pairs.images(x), pairs.test_labels[:count]
    targets, error = pairs.images(truth), float((x - truth).square().mean())
    return {
        "distance": judge.distance(images), "mse": error, "psnr": float(10 * np.log10(4 / error)),
        "features": judge.apart(images, targets), "agreement": judge.accuracy(images, labels),
    }  # fmt: skip


def named(name, values):
    """Values of an experiment, with a name before theirs."""
    return {f"{name} {key}": value for key, value in values.items()}


def trained(
    config, build, seed, device, work, *, settings=None, training=None, shuffled=False, sees_source=True
):
    """Train a method's network on pairs, and the classifier that judges it."""
    settings, training = settings or config.images, training or config.training
    pairs = Pairs.of(settings)
    method, sources = build(config, pairs), pairs.sources
    if shuffled:
        sources = sources[torch.randperm(len(sources), generator=torch.Generator().manual_seed(seed))]

    def loss(network, batch, generator):
        return method.loss(network, *batch, generator).mean()

    network = pairs.network(seed, sources=method.sees_source and sees_source)
    options = {"seed": seed, "device": device, "work": work / "network"}
    run = train(network, loss, (pairs.targets, sources), training, **options)
    part = max(1, len(run.losses) // 100)
    losses = run.losses[: len(run.losses) // part * part].reshape(-1, part).mean(1)
    result = {"parameters": run.parameters, "losses": losses}
    return Trained(config, pairs, method, run.network, judge_of(config, pairs, device), seed, device, result)


def judge_of(config, pairs, device):
    """The classifier that judges answers, trained on the targets; the same for every method and seed."""
    return ImageJudge(
        pairs.images(pairs.targets), pairs.labels, pairs.images(pairs.test_targets), widths=config.judge_widths,
        epochs=config.judge_epochs, classes=pairs.classes, device=device,
    )  # fmt: skip


# --- experiments --------------------------------------------------------------------------------------------


@experiment(seeds="seeds")
def vp(config, *, seed, device, work):
    """B7 to B10: DDBM on the variance-preserving bridge, and sweeps of its sampler."""
    one = trained(config, VP, seed, device, work)
    return one.table() | one.sweeps()


@experiment(seeds="seeds")
def ve(config, *, seed, device, work):
    """B9, B10: DDBM on the variance-exploding bridge, and sweeps of its sampler."""
    one = trained(config, VE, seed, device, work)
    return one.table() | one.sweeps()


@experiment(seeds="seeds")
def regression(config, *, seed, device, work):
    """B9: L2 regression, the mean target of each source."""
    return trained(config, _regression, seed, device, work).table()


@experiment(seeds="seeds")
def rectified_flow(config, *, seed, device, work):
    """B9: rectified flow from sources to targets."""
    return trained(config, _flow, seed, device, work).table()


@experiment(seeds="seeds")
def i2sb(config, *, seed, device, work):
    """B9: the image-to-image Schrödinger bridge."""
    return trained(config, _i2sb, seed, device, work).table()


@experiment(seeds="control_seeds")
def edm_with_source(config, *, seed, device, work):
    """Not in the paper: diffusion from noise that sees the source as DDBM does."""
    return trained(config, _edm, seed, device, work).table()


@experiment(seeds="control_seeds")
def simple(config, *, seed, device, work):
    """B8: the same bridge without preconditioning."""
    return trained(config, partial(VP, simple=True), seed, device, work).table()


@experiment(seeds="control_seeds")
def shuffled(config, *, seed, device, work):
    """Control: the same bridge trained on pairs whose sources were shuffled."""
    return trained(config, VP, seed, device, work, shuffled=True).table()


@experiment(seeds="control_seeds")
def source_withheld(config, *, seed, device, work):
    """Control: the same bridge whose network sees x_t alone."""
    return trained(config, VP, seed, device, work, sees_source=False).table()


@experiment(seeds="control_seeds")
def unconditional(config, *, seed, device, work):
    """B11: EDM on targets alone, and SDEdit with it; then the unconditional bridge, which has other training times."""
    result = {}
    for name, uniform in (("EDM", False), ("bridge", True)):
        build = partial(_edm, sees_source=False, uniform=uniform)
        result |= named(name, trained(config, build, seed, device, work / name).table())
    return result


@experiment(seeds="edge_seeds")
def edges(config, *, seed, device, work):
    """Edge maps to images, by the variance-preserving bridge: many answers to a few sources, by churn."""
    one = trained(config, VP, seed, device, work, settings=config.edges)
    sources, answers = one.pairs.test_sources[:SHOWN], []
    asked = sources[:4].repeat_interleave(config.answers, 0)
    for churn in config.churns:
        answers.append(one.pairs.pictures(one.answer("hybrid", asked, churn=churn)[0]))
    shape = len(config.churns), 4, config.answers
    return one.table() | {
        "churns": np.array(config.churns), "answers": np.stack(answers).reshape(*shape, *answers[0].shape[1:]),
        "sources": one.pairs.pictures(sources), "targets": one.pairs.pictures(one.pairs.test_targets[:SHOWN]),
    }  # fmt: skip


@experiment(seeds="seeds")
def fewer_calls(config, *, seed, device, work):
    """B9: DDBM with as many calls of its network as I2SB and rectified flow make, and paths from a few sources."""
    one = trained(config, VP, seed, device, work)
    sources, rows, pictures = one.pairs.test_sources[:PATHS], [], one.pairs.pictures
    result = {"sources": pictures(sources), "targets": pictures(one.pairs.test_targets[:PATHS])}
    for sampler, per_step in (("hybrid", 3), ("ODE", 2)):
        for calls in (config.sampler_steps, 2 * config.sampler_steps - 1):
            steps = max(2, round((calls + 1) / per_step))
            found = one.measured(sampler, config.samples, steps=steps)[1]
            rows.append({"samplers": sampler, "budget": calls} | found)
        generator = torch.Generator(device).manual_seed(seed)
        with torch.no_grad():
            drawn = one.method.samplers[sampler](one.network, sources.to(device), generator, path=True)
        result[f"{sampler} path"] = np.stack([pictures(x.cpu()) for x in drawn.path[path_steps(config)]])
    return result | columns(rows)


def path_steps(config):
    """The states of a path, by their numbers, whose times are next to :data:`SHARES` of the bridge's."""
    bridge = both_bridges(config)["VP"]
    times = bridges.karras_grid(config.sampler_steps, bridge.t_min, bridge.t_max)
    return [int((times - share * bridge.t_max).abs().argmin()) for share in SHARES]


@experiment(seeds="large_seeds")
def large_vp(config, *, seed, device, work):
    """DDBM on larger images."""
    return _large(config, VP, seed, device, work)


@experiment(seeds="large_seeds")
def large_regression(config, *, seed, device, work):
    """L2 regression on larger images."""
    return _large(config, _regression, seed, device, work)


@experiment(seeds="large_seeds")
def large_flow(config, *, seed, device, work):
    """Rectified flow on larger images."""
    return _large(config, _flow, seed, device, work)


def _large(config, *others):
    return trained(config, *others, settings=config.large, training=config.large_training).table()


@experiment(seeds="photo_seeds")
def photos_from_edges(config, *, seed, device, work):
    """Edge maps to photographs, by DDBM, regression and I2SB; and what is known without training."""
    return _photos(config, "edges", seed, device, work)


@experiment(seeds="photo_seeds")
def photos_from_blocks(config, *, seed, device, work):
    """Blocks of gray to photographs in color, by the same methods."""
    return _photos(config, "blocks", seed, device, work)


def _photos(config, source, seed, device, work):
    settings, n = config.photos.model_copy(update={"source": source}), config.samples
    pairs, options = Pairs.of(settings), {"settings": settings, "training": config.photo_training}
    judge, untrained = judge_of(config, pairs, device), _untrained(pairs, n, seed)
    rows = [{"rows": name, "calls": 0} | measures(pairs, judge, x, n) for name, x in untrained.items()]
    for build in (VP, _regression, _i2sb):
        one = trained(config, build, seed, device, work / str(len(rows)), **options)
        rows += [{"rows": name} | one.measured(name, n)[1] for name in one.method.samplers]
    return columns(rows)


@experiment(seeds="one_seed")
def trivial(config, *, seed, device):
    """What is known without training: sources themselves, nearest training pairs, and anchors of the distance."""
    pairs, n = Pairs.of(config.images), config.samples
    judge, rows = judge_of(config, pairs, device), _untrained(pairs, n, seed)
    product = (pairs.targets * pairs.sources).mean() - pairs.targets.mean() * pairs.sources.mean()
    return columns(measures(pairs, judge, x, n) for x in rows.values()) | {
        "rows": np.array(list(rows)), "shown": np.stack([pairs.pictures(x[:SHOWN]) for x in rows.values()]),
        "sources": pairs.pictures(pairs.test_sources[:SHOWN]), "targets": pairs.pictures(pairs.test_targets[:SHOWN]),
        "judge accuracy": judge.accuracy(pairs.images(pairs.test_targets), pairs.test_labels),
        "moments": np.array([pairs.targets.std(), pairs.sources.std(), float(product)]),
    }  # fmt: skip


def _untrained(pairs, n, seed):
    """Answers to the first test sources that need no training, by name."""
    generator, truth = torch.Generator().manual_seed(seed), pairs.test_targets[:n]
    near = pairs.targets[_nearest(pairs, n, NEIGHBORS)]
    return {
        "the source itself": pairs.test_sources[:n],
        "nearest training pair": near[:, 0],
        "mean of the two nearest": near[:, :2].mean(1),
        "mean of the ten nearest": near.mean(1),
        "other real images": pairs.targets[torch.randperm(len(pairs.targets), generator=generator)[:n]],
        "targets, blurred": avg_pool2d(truth, 3, stride=1, padding=1, count_include_pad=False),
        "noise": 2 * torch.rand(truth.shape, generator=generator) - 1,
    }


def _nearest(pairs, n, count):
    """The training pairs with the nearest sources, for each of the first test sources, by their numbers."""
    sources = (each.flatten(1) for each in (pairs.test_sources[:n], pairs.sources))
    return torch.cdist(*sources).topk(count, largest=False).indices


@experiment(seeds="one_seed")
def spreads(config, *, seed, device):
    """Anchors of the spread: that of as many images as there are answers, of one class, of near sources, or any."""
    pairs, n, groups = Pairs.of(config.images), config.answers, config.asked
    order = torch.randperm(len(pairs.targets), generator=torch.Generator().manual_seed(seed))
    labels, each = pairs.labels[order], groups // pairs.classes * n + n
    chosen = {
        "real images of one class": torch.cat([order[labels == k][:each] for k in range(pairs.classes)]),
        "nearest training pairs": _nearest(pairs, groups, n).flatten(),
        "any real images": order[: groups * n],
    }
    found = [spread(pairs.images(pairs.targets[which]), n) for which in chosen.values()]
    return {"rows": np.array(list(chosen)), "diversity": np.array(found)}

"""Image networks: bridges, what they are compared with, and what should fail, on the same pairs and the same U-Net."""

from collections.abc import Callable
from dataclasses import dataclass, replace
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
from loupe.networks.unet import make_unet
from loupe.papers.ddbm.experiments import both_bridges
from loupe.papers.judging import ImageJudge
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
            folded = (
                pixel_unshuffle(torch.from_numpy(2 * each - 1), settings.fold) for each in (images, sources)
            )
            parts += [*folded, torch.from_numpy(labels)]
        return cls(settings, *parts, len(stored.classes))

    def images(self, x):
        """Images in [0, 1], unfolded, of the network's form."""
        return (pixel_shuffle(x, self.settings.fold).clamp(-1, 1) + 1) / 2

    def network(self, seed, *, sources=True):
        """A U-Net on x, and on the sources beside it unless they are withheld."""
        one, channels = self.settings, self.targets.shape[1]
        return Network(
            make_unet(
                channels=channels * (1 + sources), out_channels=channels, width=one.width, multipliers=one.multipliers,
                blocks=one.blocks, attention=one.attention, size=one.size // one.fold, dropout=one.dropout, seed=seed,
            )
        )  # fmt: skip


class Network(nn.Module):
    """A U-Net called ``(x, x_T, ln(t) / 4)``, as bridges call theirs; without sources it ignores them."""

    def __init__(self, unet):
        super().__init__()
        self.unet = unet

    def forward(self, x, x_T, log_time):
        """Outputs of the shape of ``x``."""
        seen = x if self.unet.channels == x.shape[1] else torch.cat([x, x_T], 1)
        return self.unet(seen, (4 * log_time).exp())

    def at(self, x, t, x_T=None):
        """Outputs at times, one for all or one per sample."""
        return self(x, x_T, (torch.as_tensor(t, dtype=x.dtype, device=x.device).log() / 4).expand(len(x)))


# --- methods ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Method:
    """How a network is trained, and how it answers: samplers take ``(network, x_T, generator, **options)``."""

    loss: Callable
    samplers: dict[str, Callable]
    sees_source: bool = True


def _bridge(config, pairs, name, **options):
    """DDBM on one of the bridges, answered by the ODE and by the hybrid sampler."""
    form = bridges.Preconditioning.of_pairs(
        both_bridges(config)[name], pairs.targets, pairs.sources, **options
    )

    def drawn(network, x_T, generator, *, churn, steps=config.sampler_steps, **others):
        return bridges.bridge_sample(
            form.denoiser(network), x_T, form.bridge, steps=steps, churn=churn, generator=generator, clamp=CLAMP, **others
        )  # fmt: skip

    def loss(network, x0, x_T, generator):
        return bridges.bridge_loss(network, x0, x_T, form, generator)

    return Method(loss, {"hybrid": partial(drawn, churn=config.churn), "ODE": partial(drawn, churn=0.0)})


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
    bridge = bridges.BrownianBridge()

    def loss(network, x0, x_T, generator):
        return bridges.i2sb_loss(network.at, x0, x_T, bridge, generator)

    def answer(network, x_T, generator):
        return bridges.i2sb_sample(
            network.at, x_T, bridge, steps=config.sampler_steps, generator=generator, clamp=CLAMP
        )

    return Method(loss, {"I2SB": answer}, sees_source=False)


def _edm(config, pairs, *, sees_source=True, uniform=False):
    """EDM from noise; with the source as an input, or with none and then SDEdit; times lognormal, or a bridge's."""
    form = partial(continuous.edm_preconditioning, sigma_data=float(pairs.targets.std()))

    def denoiser(network):
        return continuous.Preconditioned(
            lambda x, log_time, x_T: network(x, x_T, log_time.expand(len(x))), form
        )

    def loss(network, x0, x_T, generator):
        device = x0.device
        draw = partial(continuous.training_times, start=EDM_RANGE[1], end=EDM_RANGE[0])
        t = (draw if uniform else continuous.lognormal_sigmas)(
            len(x0), generator, stratified=False, device=device
        )
        noise = torch.randn(x0.shape, generator=generator, device=device)
        x = x0 + t.to(x0.dtype).reshape(-1, 1, 1, 1) * noise
        return denoiser(network).loss(x0, x, t, x_T)

    def answer(network, x_T, generator, *, start=EDM_RANGE[0], around=0.0):
        denoised = denoiser(network)
        noise = torch.randn(x_T.shape, generator=generator, device=x_T.device)
        times = bridges.karras_grid(config.sampler_steps, EDM_RANGE[1], start)

        def flow(x, t):
            return (x - denoised(x, t, x_T).clamp(*CLAMP)) / t.to(x.dtype).reshape(-1, 1, 1, 1)

        x = continuous.heun(flow, around * x_T + start * noise, times).clamp(*CLAMP)
        return bridges.Drawn(x, 2 * config.sampler_steps - 1, None)

    if sees_source:
        return Method(loss, {"EDM with source": answer})
    return Method(
        loss,
        {"unconditional": answer, "SDEdit": partial(answer, start=SDEDIT, around=1.0)},
        sees_source=False,
    )


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
        generator, calls = torch.Generator(self.device).manual_seed(self.seed), set()
        parts = []
        with torch.no_grad():
            for one in x_T.split(BATCH):
                drawn = self.method.samplers[sampler](self.network, one.to(self.device), generator, **options)
                parts.append(drawn.samples.cpu())
                calls.add(drawn.evaluations)
        return torch.cat(parts), calls.pop()

    def measured(self, sampler, count, **options):
        """Answers to the first test sources, and measures of them."""
        x, calls = self.answer(sampler, self.pairs.test_sources[:count], **options)
        return x, measures(self.pairs, self.judge, x, count) | {"calls": calls}

    def table(self):
        """Measures of all samplers, in arrays by name, and their first pictures."""
        rows, shown = [], []
        asked = self.pairs.test_sources[: self.config.asked].repeat_interleave(self.config.answers, 0)
        for name in self.method.samplers:
            x, found = self.measured(name, self.config.samples)
            many = self.pairs.images(self.answer(name, asked)[0])
            rows.append(found | {"diversity": diversity(many, self.config.answers)})
            shown.append(pictures(self.pairs, x[:SHOWN]))
        return {"samplers": np.array(list(self.method.samplers)), "shown": np.stack(shown)} | columns(rows)

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
            rows = columns(self.measured("hybrid", config.swept, **one)[1] for one in options)
            result |= named(name, rows)
        return result


def measures(pairs, judge, x, count):
    """Distance of a set from all test images, and paired measures against the targets of the first test pairs."""
    truth, images, labels = pairs.test_targets[:count], pairs.images(x), pairs.test_labels[:count]
    targets, error = pairs.images(truth), float((x - truth).square().mean())
    return {
        "distance": judge.distance(images), "mse": error, "psnr": float(10 * np.log10(4 / error)),
        "features": judge.apart(images, targets), "agreement": judge.accuracy(images, labels),
    }  # fmt: skip


def diversity(images, answers):
    """Standard deviation of a pixel, in [0, 1], over each group of answers; its mean over groups."""
    return float(images.unflatten(0, (-1, answers)).std(1).mean())


def named(name, values):
    """Values of an experiment, with a name before theirs."""
    return {f"{name} {key}": value for key, value in values.items()}


def pictures(pairs, x):
    """Images as bytes, shape (n, H, W) or (n, H, W, 3)."""
    images = (pairs.images(x) * 255).round().to(torch.uint8).permute(0, 2, 3, 1)
    return images.squeeze(-1).numpy()


def trained(
    config, build, seed, device, work, *, settings=None, training=None, shuffled=False, sees_source=None
):
    """Train a method's network on pairs, and the classifier that judges it."""
    settings, training = settings or config.images, training or config.training
    pairs = Pairs.of(settings)
    method = build(config, pairs)
    if sees_source is not None:
        method = replace(method, sees_source=sees_source)
    sources = pairs.sources
    if shuffled:
        sources = sources[torch.randperm(len(sources), generator=torch.Generator().manual_seed(seed))]

    def loss(network, batch, generator):
        return method.loss(network, *batch, generator).mean()

    run = train(
        pairs.network(seed, sources=method.sees_source), loss, (pairs.targets, sources), training, seed=seed, device=device,
        work=work / "network",
    )  # fmt: skip
    part = max(1, len(run.losses) // 100)
    result = {
        "parameters": run.parameters,
        "losses": run.losses[: len(run.losses) // part * part].reshape(-1, part).mean(1),
    }
    return Trained(config, pairs, method, run.network, judge_of(config, pairs, device), seed, device, result)


def judge_of(config, pairs, device):
    """The classifier that judges answers, trained on the targets; the same for every method and seed."""
    return ImageJudge(
        pairs.images(pairs.targets), pairs.labels, pairs.images(pairs.test_targets), widths=config.judge_widths,
        epochs=config.judge_epochs, classes=pairs.classes, device=device,
    )  # fmt: skip


# --- experiments --------------------------------------------------------------------------------------------


def _measured(config, build, seed, device, work, **options):
    one = trained(config, build, seed, device, work, **options)
    return one.result | one.table()


def _several(config, builds, seed, device, work, **options):
    result = {}
    for name, build in builds.items():
        result |= named(name, _measured(config, build, seed, device, work / name, **options))
    return result


@experiment(seeds="seeds")
def vp(config, *, seed, device, work):
    """B7 to B10: DDBM on the variance-preserving bridge, and sweeps of its sampler."""
    one = trained(config, partial(_bridge, name="VP"), seed, device, work)
    return one.result | one.table() | one.sweeps()


@experiment(seeds="seeds")
def ve(config, *, seed, device, work):
    """B9, B10: DDBM on the variance-exploding bridge, and sweeps of its sampler."""
    one = trained(config, partial(_bridge, name="VE"), seed, device, work)
    return one.result | one.table() | one.sweeps()


@experiment(seeds="seeds")
def regression(config, *, seed, device, work):
    """B9: L2 regression, the mean target of each source."""
    return _measured(config, _regression, seed, device, work)


@experiment(seeds="seeds")
def rectified_flow(config, *, seed, device, work):
    """B9: rectified flow from sources to targets."""
    return _measured(config, _flow, seed, device, work)


@experiment(seeds="seeds")
def i2sb(config, *, seed, device, work):
    """B9: the image-to-image Schrödinger bridge."""
    return _measured(config, _i2sb, seed, device, work)


@experiment(seeds="control_seeds")
def edm_with_source(config, *, seed, device, work):
    """Not in the paper: diffusion from noise that sees the source as DDBM does."""
    return _measured(config, _edm, seed, device, work)


@experiment(seeds="control_seeds")
def simple(config, *, seed, device, work):
    """B8: the same bridge without preconditioning."""
    return _measured(config, partial(_bridge, name="VP", simple=True), seed, device, work)


@experiment(seeds="control_seeds")
def shuffled(config, *, seed, device, work):
    """Control: the same bridge trained on pairs whose sources were shuffled."""
    return _measured(config, partial(_bridge, name="VP"), seed, device, work, shuffled=True)


@experiment(seeds="control_seeds")
def source_withheld(config, *, seed, device, work):
    """Control: the same bridge whose network sees x_t alone."""
    return _measured(config, partial(_bridge, name="VP"), seed, device, work, sees_source=False)


@experiment(seeds="control_seeds")
def unconditional(config, *, seed, device, work):
    """B11: EDM on targets alone, and SDEdit with it; then the unconditional bridge, which has other training times."""
    builds = {"EDM": False, "bridge": True}
    builds = {name: partial(_edm, sees_source=False, uniform=uniform) for name, uniform in builds.items()}
    return _several(config, builds, seed, device, work)


@experiment(seeds="edge_seeds")
def edges(config, *, seed, device, work):
    """Edge maps to images, by the variance-preserving bridge: many answers to a few sources, by churn."""
    one = trained(config, partial(_bridge, name="VP"), seed, device, work, settings=config.edges)
    sources, answers = one.pairs.test_sources[:SHOWN], []
    asked = sources[:4].repeat_interleave(config.answers, 0)
    for churn in config.churns:
        answers.append(pictures(one.pairs, one.answer("hybrid", asked, churn=churn)[0]))
    shape = len(config.churns), 4, config.answers
    return one.result | one.table() | {
        "churns": np.array(config.churns), "answers": np.stack(answers).reshape(*shape, *answers[0].shape[1:]),
        "sources": pictures(one.pairs, sources), "targets": pictures(one.pairs, one.pairs.test_targets[:SHOWN]),
    }  # fmt: skip


@experiment(seeds="seeds")
def fewer_calls(config, *, seed, device, work):
    """B9: DDBM with as many calls of its network as I2SB and rectified flow make, and paths from a few sources."""
    one = trained(config, partial(_bridge, name="VP"), seed, device, work)
    sources, rows = one.pairs.test_sources[:PATHS].to(device), []
    result = {
        "sources": pictures(one.pairs, sources.cpu()),
        "targets": pictures(one.pairs, one.pairs.test_targets[:PATHS]),
    }
    for sampler, per_step in (("hybrid", 3), ("ODE", 2)):
        for calls in (config.sampler_steps, 2 * config.sampler_steps - 1):
            steps = max(2, round((calls + 1) / per_step))
            rows.append(
                {"samplers": sampler, "budget": calls} | one.measured(sampler, config.samples, steps=steps)[1]
            )
        generator = torch.Generator(device).manual_seed(seed)
        with torch.no_grad():
            path = one.method.samplers[sampler](one.network, sources, generator, path=True).path
        result[f"{sampler} path"] = np.stack([pictures(one.pairs, x.cpu()) for x in path[path_steps(config)]])
    return result | columns(rows)


def path_steps(config):
    """The states of a path, by their numbers, whose times are next to :data:`SHARES` of the bridge's."""
    bridge = both_bridges(config)["VP"]
    times = bridges.karras_grid(config.sampler_steps, bridge.t_min, bridge.t_max)
    return [int((times - share * bridge.t_max).abs().argmin()) for share in SHARES]


@experiment(seeds="large_seeds")
def large_vp(config, *, seed, device, work):
    """DDBM on larger images."""
    return _large(config, partial(_bridge, name="VP"), seed, device, work)


@experiment(seeds="large_seeds")
def large_regression(config, *, seed, device, work):
    """L2 regression on larger images."""
    return _large(config, _regression, seed, device, work)


@experiment(seeds="large_seeds")
def large_flow(config, *, seed, device, work):
    """Rectified flow on larger images."""
    return _large(config, _flow, seed, device, work)


def _large(config, *others):
    return _measured(config, *others, settings=config.large, training=config.large_training)


@experiment(seeds="photo_seeds")
def photos_from_edges(config, *, seed, device, work):
    """Edge maps to photographs, by DDBM, regression and I2SB; and what is known without training."""
    return _photos(config, "edges", seed, device, work)


@experiment(seeds="photo_seeds")
def photos_from_blocks(config, *, seed, device, work):
    """Blocks of gray to photographs in color, by the same methods."""
    return _photos(config, "blocks", seed, device, work)


def _photos(config, source, seed, device, work):
    settings = config.photos.model_copy(update={"source": source})
    builds = {"DDBM": partial(_bridge, name="VP"), "L2 regression": _regression, "I2SB": _i2sb}
    return named("trivial", _known(config, settings, seed, device)) | _several(
        config, builds, seed, device, work, settings=settings, training=config.photo_training
    )


@experiment(seeds="one_seed")
def trivial(config, *, seed, device):
    """What is known without training: sources themselves, nearest training pairs, and anchors of the distance."""
    return _known(config, config.images, seed, device)


@experiment(seeds="one_seed")
def spreads(config, *, seed, device):
    """Anchors of the spread: as many images as there are answers, of one class, of near sources, or any."""
    pairs, n, groups = Pairs.of(config.images), config.answers, config.asked
    near = _nearest(pairs, pairs.test_sources[:groups], n)
    order = torch.randperm(len(pairs.targets), generator=torch.Generator().manual_seed(seed))
    labels = pairs.labels[order]
    one_class = torch.cat(
        [order[labels == k][: groups // pairs.classes * n + n] for k in range(pairs.classes)]
    )
    chosen = {
        "real images of one class": one_class,
        "nearest training pairs": near.flatten(),
        "any real images": order[: groups * n],
    }
    found = [diversity(pairs.images(pairs.targets[which]), n) for which in chosen.values()]
    return {"rows": np.array(list(chosen)), "diversity": np.array(found)}


def _nearest(pairs, sources, count):
    return torch.cdist(sources.flatten(1), pairs.sources.flatten(1)).topk(count, largest=False).indices


def _known(config, settings, seed, device):
    pairs, n = Pairs.of(settings), config.samples
    judge, sources = judge_of(config, pairs, device), pairs.test_sources[:n]
    near = _nearest(pairs, sources, NEIGHBORS)
    generator, truth = torch.Generator().manual_seed(seed), pairs.test_targets[:n]
    blurred = avg_pool2d(truth, 3, stride=1, padding=1, count_include_pad=False)
    rows = {
        "the source itself": sources,
        "nearest training pair": pairs.targets[near[:, 0]],
        "mean of the ten nearest": pairs.targets[near].mean(1),
        "other real images": pairs.targets[torch.randperm(len(pairs.targets), generator=generator)[:n]],
        "targets, blurred": blurred,
        "noise": 2 * torch.rand(truth.shape, generator=generator) - 1,
    }
    return columns(measures(pairs, judge, x, n) for x in rows.values()) | {
        "rows": np.array(list(rows)), "shown": np.stack([pictures(pairs, x[:SHOWN]) for x in rows.values()]),
        "sources": pictures(pairs, sources[:SHOWN]), "targets": pictures(pairs, truth[:SHOWN]),
        "judge accuracy": judge.accuracy(pairs.images(pairs.test_targets), pairs.test_labels),
        "moments": np.array([pairs.targets.std(), pairs.sources.std(), _covariance(pairs)]),
    }  # fmt: skip


def _covariance(pairs):
    return float((pairs.targets * pairs.sources).mean() - pairs.targets.mean() * pairs.sources.mean())

"""What the chapter trains: one network after another on the same text, in the same number of steps.

What is stored of a network is enough to go on from, its averaged weights. Sampling, infilling and judging are experiments
of their own, in another module: an edit there does not put the training out of date.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from loupe.data import load
from loupe.data.token_blocks import BlockBatches, Crops, PackedText, blocks
from loupe.diffusion.discrete import (
    Absorbing,
    Denoiser,
    GeometricNoise,
    LogLinearNoise,
    ScoreNetwork,
    Uniform,
    autoregressive_nats,
    concrete_score_loss,
    d3pm_loss,
    likelihood_bound,
    masked_cross_entropy,
    score_entropy_loss,
    training_times,
)
from loupe.experiment import experiment
from loupe.networks.transformer import Transformer
from loupe.training import evaluating, fit

BITS = 1 / np.log(2)
KINDS = ("bits", "strict")  # as published, and with all parts of the bound


@experiment
def sedd_absorb(config, *, seed, device, work):
    """SEDD with masks."""
    return _trained(config, "SEDD absorb", seed, device, work)


@experiment
def sedd_uniform(config, *, seed, device, work):
    """SEDD with uniform tokens for noise."""
    return _trained(config, "SEDD uniform", seed, device, work)


@experiment
def autoregressive(config, *, seed, device, work):
    """The same network with a causal mask and no time."""
    return _trained(config, "autoregressive", seed, device, work)


@experiment
def d3pm(config, *, seed, device, work):
    """D3PM with masks, on the network of SEDD."""
    return _trained(config, "D3PM", seed, device, work)


@experiment
def mdlm(config, *, seed, device, work):
    """MDLM: the masked cross-entropy, on the network of SEDD."""
    return _trained(config, "MDLM", seed, device, work)


@experiment(seeds="sample_seeds")
def judge(config, *, seed, device, work):
    """The second judge of samples: the autoregressive network on text that no other network sees."""
    return _trained(config, "autoregressive", seed, device, work, part="judges")


@experiment(seeds="extra_seeds")
def time_free(config, *, seed, device, work):
    """MDLM on a network without time, as in RADD."""
    return _trained(config, "time-free", seed, device, work)


@experiment(seeds="extra_seeds")
def constant_noise(config, *, seed, device, work):
    """The control of ``time_free``: MDLM's own network, at one noise level always."""
    return _trained(config, "constant noise", seed, device, work)


@experiment(seeds="extra_seeds")
def concrete_score(config, *, seed, device, work):
    """C8: concrete score matching, the loss before score entropy, on the network of SEDD."""
    return _trained(config, "concrete score", seed, device, work)


@experiment(seeds="long_seeds")
def long_absorb(config, *, seed, device, work):
    """SEDD with masks for more steps."""
    return _trained(config, "SEDD absorb", seed, device, work, steps=config.long_steps)


@experiment(seeds="long_seeds")
def long_autoregressive(config, *, seed, device, work):
    """The autoregressive network for as many steps."""
    return _trained(config, "autoregressive", seed, device, work, steps=config.long_steps)


# --- methods ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Method:
    """How a network is made, what it is trained on, and what a text costs under it."""

    network: Callable  # (config, tokens, seed) -> module
    loss: Callable  # (config, tokens, model, x0, generator) -> nats (B,)
    bound: Callable  # (tokens, model, x0, times, generator) -> nats (n,), and those of the strict bound


def _transformer(config, states, seed, **options):
    return Transformer(
        states, width=config.width, heads=config.heads, blocks=config.blocks, dropout=config.dropout,
        length=config.length, seed=seed, **{"condition": config.condition} | options,
    )  # fmt: skip


class ConstantNoise(torch.nn.Module):
    """A network that gets the noise level at which half the tokens are masked, whatever the level is."""

    condition = 0  # it needs no noise

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, x, noise=None, **options):
        return self.network(x, np.log(2), **options)


def _diffusion(graph, noise, wrap, loss, **options):
    """A method that learns scores."""

    def network(config, tokens, seed):
        chain = graph(tokens)
        return wrap(_transformer(config, chain.states, seed, **options), chain)

    def nats(config, tokens, model, x0, generator):
        times = training_times(len(x0), generator, stratified=config.stratified, device=x0.device)
        return loss(model, x0, graph(tokens), noise, times, generator)

    def bound(config, tokens, model, x0, times, generator):
        found = likelihood_bound(
            model, x0, graph(tokens), noise, times=times, batch=config.sample_batch, generator=generator
        )
        return found.path, found.path + found.end + found.prior

    return Method(network, nats, bound)


def _d3pm_nats(config, tokens, model, x0, generator):
    times = training_times(len(x0), generator, start=0, stratified=config.stratified, device=x0.device)
    auxiliary = config.d3pm_auxiliary
    return d3pm_loss(model, x0, Absorbing(tokens), config.d3pm_steps, times, generator, auxiliary=auxiliary)


def _d3pm_bound(config, tokens, model, x0, times, generator):
    draws = torch.rand(len(x0), times, generator=generator, device=x0.device, dtype=torch.float64)
    t = ((draws + torch.arange(times, device=x0.device)) / times).flatten()
    rows = torch.arange(len(x0), device=x0.device).repeat_interleave(times)
    parts = zip(rows.split(config.sample_batch), t.split(config.sample_batch), strict=True)
    chain = Absorbing(tokens)
    terms = [d3pm_loss(model, x0[row], chain, config.d3pm_steps, at, generator) for row, at in parts]
    nats = torch.cat(terms).view(len(x0), times).mean(1)
    return nats, nats


def _causal_bound(config, tokens, model, x0, times, generator):
    parts = x0.split(config.sample_batch)
    nats = torch.cat([autoregressive_nats(model, part, tokens).sum(-1) for part in parts]).double()
    return nats, nats


_MASKED = (Absorbing, LogLinearNoise())
METHODS = {
    "SEDD absorb": _diffusion(*_MASKED, ScoreNetwork, score_entropy_loss),
    "SEDD uniform": _diffusion(Uniform, GeometricNoise(), ScoreNetwork, score_entropy_loss),
    "MDLM": _diffusion(*_MASKED, Denoiser, masked_cross_entropy),
    "time-free": _diffusion(*_MASKED, Denoiser, masked_cross_entropy, condition=0, gate=0.0),
    "constant noise": _diffusion(
        *_MASKED, lambda network, chain: Denoiser(ConstantNoise(network), chain), masked_cross_entropy
    ),
    "concrete score": _diffusion(*_MASKED, ScoreNetwork, concrete_score_loss),
    "D3PM": Method(
        lambda config, tokens, seed: _transformer(config, tokens + 1, seed), _d3pm_nats, _d3pm_bound
    ),
    "autoregressive": Method(
        lambda config, tokens, seed: _transformer(config, tokens + 1, seed, condition=0, causal=True),
        lambda config, tokens, model, x0, generator: autoregressive_nats(model, x0, tokens).sum(-1),
        _causal_bound,
    ),
}


# --- training -----------------------------------------------------------------------------------------------


def load_weights(network, weights):
    """Put flat weights of any precision into a network."""
    with torch.no_grad():
        vector_to_parameters(weights.float(), network.parameters())


class _Curve:
    """A callback that evaluates the average at given steps."""

    def __init__(self, steps, measure):
        self.steps, self.measure, self.rows = set(steps), measure, []

    def __call__(self, run):
        if run.step in self.steps:
            with evaluating(run.average) as network:
                self.rows.append({"steps": run.step} | self.measure(network))

    def state_dict(self):
        return {"rows": self.rows}

    def load_state_dict(self, state):
        self.rows = state["rows"]


def _trained(config, name, seed, device, work, part="writers", steps=None):
    """Train a method's network, and judge it on held-out texts as it is stored, in half precision."""
    method, settings = METHODS[name], config.training
    settings = settings.model_copy(update={"steps": steps or settings.steps})
    batches, tokens = training_text(config, part, seed)
    texts = {split: each.to(device) for split, each in held_out_texts(config).items()}
    built = method.network(config, tokens, seed).to(device)
    if settings.compile:
        built.compile()

    def loss(network, batch, generator):
        return method.loss(config, tokens, network, batch[0], generator).mean() / config.length

    def nats(network, x0, times):
        generator = torch.Generator(device).manual_seed(seed)
        return method.bound(config, tokens, network, x0, times, generator)

    def measure(network):
        shown = texts["valid"][: config.curve_sequences]
        found = nats(network, shown, config.curve_times)
        bits = {
            kind: float(BITS * each.mean()) / config.length for kind, each in zip(KINDS, found, strict=True)
        }
        return bits | (_excess(network, tokens, shown, seed) if name == "SEDD absorb" else {})

    curve = _Curve(curve_steps(settings), measure)
    run = fit(
        built, loss, batches, settings.new_optimizer(built.parameters()), steps=settings.steps, seed=seed,
        schedule=settings.schedule_factor(), clip=settings.clip, ema=settings.ema, accumulate=settings.accumulate,
        precision=settings.precision, device=device, callbacks=[curve], checkpoint=work / "run.pt",
    )  # fmt: skip
    weights = parameters_to_vector(run.average.parameters()).half()
    load_weights(run.average, weights)
    found = {
        "method": name,
        "vocabulary": tokens,
        "parameters": len(weights),
        "steps": settings.steps,
        "tokens_seen": settings.steps * settings.batch * config.length,
        "loss": _means(BITS * run.losses.cpu().numpy()),
        "texts": np.array(list(texts)),
    } | {f"curve_{key}": np.array([row[key] for row in curve.rows]) for key in curve.rows[0]}
    if seed in config.sample_seeds:
        found["weights"] = weights.cpu().numpy()
    with torch.no_grad():
        for split, x0 in texts.items():
            for kind, each in zip(KINDS, nats(run.average, x0, config.times), strict=True):
                found[f"{kind}_{split}"] = BITS * each.cpu().double().numpy() / config.length
    return found


def curve_steps(settings):
    """The steps of evaluations, evenly spaced in their logarithm: from a thousandth of the run to its end."""
    steps = np.geomspace(max(1, settings.steps / 1000), settings.steps, settings.evaluations)
    return np.unique(steps.round().astype(int)).tolist()


def _means(losses, most=300):
    """Means of groups of equally many steps, at most so many."""
    size = -(-len(losses) // most)
    return losses[: len(losses) // size * size].reshape(-1, size).mean(1)


def _excess(network, tokens, x0, seed):
    """What the loss loses to scores that do not sum to what they must: rate / e (C - 1 - log C), in bits per token."""
    graph, noise = Absorbing(tokens), LogLinearNoise()
    generator = torch.Generator(x0.device).manual_seed(seed)
    total, rate = noise(training_times(len(x0), generator, device=x0.device))
    x = graph.corrupt(x0, total, generator)
    with torch.no_grad():
        scores = network(x, total)[..., :tokens].double()
    log_c = (scores.logsumexp(-1) + torch.expm1(total).log().unsqueeze(-1)).masked_fill(x != graph.mask, 0)
    each = (rate / torch.expm1(total)).unsqueeze(-1) * (torch.expm1(log_c) - log_c)
    return {"excess": float(BITS * each.mean())}


# --- text ---------------------------------------------------------------------------------------------------


def characters(config, part):
    """Ids of the text that writers learn from, or of what follows it, for judges; of all of it without a limit."""
    ours, theirs = config.characters, config.judge_characters
    ids = load(config.text, split="train", characters=ours and ours + (theirs or 0)).ids
    return ids[ours:] if theirs and part == "judges" else ids[:ours]


def training_text(config, part, seed):
    """Batches of the text for writers or for judges, and how many different tokens it has."""
    if config.text in ("lm1b", "openwebtext"):
        packed = load(config.text, split="train")
        return BlockBatches(packed.ids, size=config.training.batch, seed=seed), packed.vocabulary.size
    ids = characters(config, part)
    return Crops(ids, length=config.length, size=config.training.batch, seed=seed), 27


def held_out_texts(config):
    """Sequences ``(n, L)`` of int64 from all over each held-out text: validation, and texts of other kinds."""
    sources = {"valid": partial(load, config.text, split="test" if config.text == "lm1b" else "valid")}
    sources |= {name.removeprefix("zs_"): partial(load, name) for name in config.zero_shot}
    found = {}
    for name, source in sources.items():
        text = source()
        rows = text.ids if isinstance(text, PackedText) else blocks(text.ids, config.length)
        chosen = np.linspace(0, len(rows) - 1, min(config.sequences, len(rows))).astype(int)
        found[name] = torch.from_numpy(rows[chosen].astype(np.int64))
    return found

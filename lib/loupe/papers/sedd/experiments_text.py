"""What the chapter trains: one network after another on the same text, in the same number of steps."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

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
from loupe.papers.sedd.experiments_samples import (
    fills,
    samples_autoregressive,
    samples_of_denoiser,
    samples_of_scores,
)
from loupe.training import train

BITS = 1 / np.log(2)


@experiment
def sedd_absorb(config, *, seed, device, work):
    """SEDD with masks: trained, judged, and at some seeds made to write."""

    def write(trained):
        found = samples_of_scores(config, trained, Absorbing, LogLinearNoise(), ("tweedie",), races=True)
        return found | fills(config, trained)

    return _result(config, "SEDD absorb", seed, device, work, write)


@experiment
def sedd_uniform(config, *, seed, device, work):
    """SEDD with uniform tokens for noise."""
    graph, noise, methods = Uniform, GeometricNoise(), ("tweedie", "euler")
    return _result(config, "SEDD uniform", seed, device, work,
                   lambda trained: samples_of_scores(config, trained, graph, noise, methods))  # fmt: skip


@experiment
def autoregressive(config, *, seed, device, work):
    """The same network with a causal mask and no time."""
    return _result(config, "autoregressive", seed, device, work,
                   lambda trained: samples_autoregressive(config, trained))  # fmt: skip


@experiment
def d3pm(config, *, seed, device, work):
    """D3PM with masks, on the network of SEDD."""
    return _result(config, "D3PM", seed, device, work)


@experiment(seeds="extra_seeds")
def mdlm(config, *, seed, device, work):
    """MDLM: the masked cross-entropy, on the network of SEDD."""
    return _result(config, "MDLM", seed, device, work)


@experiment(seeds="extra_seeds")
def time_free(config, *, seed, device, work):
    """The same without time, as in RADD: what a network need not know, and what that is good for."""
    return _result(config, "time-free", seed, device, work,
                   lambda trained: samples_of_denoiser(config, trained, LogLinearNoise()))  # fmt: skip


@experiment(seeds="extra_seeds")
def concrete_score(config, *, seed, device, work):
    """C8: concrete score matching, the loss before score entropy, on the network of SEDD."""
    return _result(config, "concrete score", seed, device, work)


def _result(config, name, seed, device, work, write=None):
    """What is stored of a method, with texts at the seeds that write."""
    trained = _train(config, name, seed, device, work)
    return trained.result | (write(trained) if write and seed in config.sample_seeds else {})


# --- methods ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Method:
    """How a network is made, what it is trained on, and what a text costs under it."""

    network: Callable  # (config, tokens, seed) -> module
    loss: Callable  # (config, tokens, model, x0, generator) -> nats (B,)
    bound: Callable  # (tokens, model, x0, times, generator) -> nats (n,), and those of the strict bound


def _transformer(config, states, seed, **options):
    return Transformer(
        states, width=config.width, heads=config.heads, blocks=config.blocks, rate=config.dropout,
        length=config.length, seed=seed, **{"condition": config.condition} | options,
    )  # fmt: skip


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
    shares = torch.rand(len(x0), times, generator=generator, device=x0.device, dtype=torch.float64)
    t = ((shares + torch.arange(times, device=x0.device)) / times).flatten()
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
    "time-free": _diffusion(*_MASKED, Denoiser, masked_cross_entropy, condition=0),
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


@dataclass(frozen=True)
class Writer:
    """A trained network, and what is known of it."""

    network: torch.nn.Module  # the moving average, in evaluation mode
    tokens: int
    device: str
    seed: int
    held_out: torch.Tensor  # (n, L), the sequences on which it was judged
    result: dict


def _train(config, name, seed, device, work):
    method, settings = METHODS[name], config.training
    batches, tokens = _training_text(config, seed)
    texts = {split: each.to(device) for split, each in held_out_texts(config).items()}

    def loss(network, batch, generator):
        return method.loss(config, tokens, network, batch[0], generator).mean() / config.length

    def nats(network, x0, times):
        generator = torch.Generator(device).manual_seed(seed)
        return method.bound(config, tokens, network, x0, times, generator)

    def evaluate(network):
        few = texts["valid"][: config.curve_sequences]
        bits = BITS * float(nats(network, few, config.curve_times)[0].mean()) / config.length
        return {"bits": bits} | (_excess(network, tokens, few, seed) if name == "SEDD absorb" else {})

    trained = train(
        method.network(config, tokens, seed), loss, batches, settings, seed=seed, device=device, work=work / "run",
        evaluate=evaluate,
    )  # fmt: skip
    result = {
        "method": name,
        "parameters": trained.parameters,
        "steps": settings.steps,
        "tokens_seen": settings.steps * settings.batch * config.length,
        "loss": BITS * trained.losses.astype(np.float64),
        "curve_steps": trained.history["step"],
        **{f"curve_{key}": trained.history[key] for key in ("bits", "excess") if key in trained.history},
        "texts": np.array(list(texts)),
    }
    with torch.no_grad():
        for split, x0 in texts.items():
            for kind, each in zip(("bits", "strict"), nats(trained.network, x0, config.times), strict=True):
                result[f"{kind}_{split}"] = BITS * each.cpu().double().numpy() / config.length
    return Writer(trained.network, tokens, device, seed, texts["valid"], result)


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
    return {"excess": BITS * float(each.mean())}


# --- text ---------------------------------------------------------------------------------------------------


def _training_text(config, seed):
    """Batches of a text, and how many different tokens it has."""
    if config.text in ("lm1b", "openwebtext"):
        packed = load(config.text, split="train")
        return BlockBatches(packed.ids, size=config.training.batch, seed=seed), packed.vocabulary.size
    text = load(config.text, split="train", characters=config.characters)
    return Crops(text.ids, length=config.length, size=config.training.batch, seed=seed), 27


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

"""What the chapter trains: one network after another on the same text, in the same number of steps.

What is stored of a network is enough to go on from, its averaged weights. Sampling, infilling and judging are experiments
of their own, in another module: an edit there does not put the training out of date.
"""

from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np
import torch
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from loupe.data import load
from loupe.data.token_blocks import BlockBatches, Crops, PackedText, blocks
from loupe.diffusion import discrete
from loupe.experiment import experiment
from loupe.metrics import NGramJudge
from loupe.networks.transformer import Transformer
from loupe.training import History, evaluating, fit

BITS = 1 / np.log(2)
KINDS = ("bits", "strict")  # as published, and with all parts of the bound
ORDERS = (1, 2, 3, 4, 5)  # of n-grams
MASKS = (discrete.Absorbing, discrete.LogLinearNoise())
RANDOM = (discrete.Uniform, discrete.GeometricNoise())


# --- methods ------------------------------------------------------------------------------------------------


class Method(NamedTuple):
    """How a network is made, what it is trained on, and what a text costs under it."""

    network: Callable  # (config, tokens, seed) -> module
    loss: Callable  # (config, tokens, model, x0, generator) -> nats (B,)
    bound: (
        Callable  # (config, tokens, model, x0, times, generator) -> nats (n,), and those of the strict bound
    )


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


def _times(config, x0, generator, **options):
    return discrete.training_times(
        len(x0), generator, stratified=config.stratified, device=x0.device, **options
    )


def _diffusion(graph, noise, wrap, loss, **options):
    """A method that learns scores."""

    def network(config, tokens, seed):
        chain = graph(tokens)
        return wrap(_transformer(config, chain.states, seed, **options), chain)

    def nats(config, tokens, model, x0, generator):
        return loss(model, x0, graph(tokens), noise, _times(config, x0, generator), generator)

    def bound(config, tokens, model, x0, times, generator):
        options = {"times": times, "batch": config.sample_batch, "generator": generator}
        found = discrete.likelihood_bound(model, x0, graph(tokens), noise, **options)
        return found.path, found.path + found.end + found.prior

    return Method(network, nats, bound)


def _d3pm_nats(config, tokens, model, x0, generator):
    chain, steps, times = (
        discrete.Absorbing(tokens),
        config.d3pm_steps,
        _times(config, x0, generator, start=0),
    )
    return discrete.d3pm_loss(model, x0, chain, steps, times, generator, auxiliary=config.d3pm_auxiliary)


def _d3pm_bound(config, tokens, model, x0, times, generator):
    options = {"times": times, "batch": config.sample_batch, "generator": generator}
    return [discrete.d3pm_bound(model, x0, discrete.Absorbing(tokens), config.d3pm_steps, **options)] * 2


def _causal_nats(config, tokens, model, x0, generator):
    return discrete.autoregressive_nats(model, x0, tokens).sum(-1)


def _causal_bound(config, tokens, model, x0, times, generator):
    nats = in_batches(config, x0, lambda part: _causal_nats(config, tokens, model, part, generator))
    return [nats.double()] * 2


def in_batches(config, x0, compute):
    """What is computed of some texts at a time, in one tensor."""
    return torch.cat([compute(part) for part in x0.split(config.sample_batch)])


METHODS = {
    "SEDD absorb": _diffusion(*MASKS, discrete.ScoreNetwork, discrete.score_entropy_loss),
    "SEDD uniform": _diffusion(*RANDOM, discrete.ScoreNetwork, discrete.score_entropy_loss),
    "MDLM": _diffusion(*MASKS, discrete.Denoiser, discrete.masked_cross_entropy),
    "time-free": _diffusion(*MASKS, discrete.Denoiser, discrete.masked_cross_entropy, condition=0, gate=0.0),
    "constant noise": _diffusion(
        *MASKS, lambda net, chain: discrete.Denoiser(ConstantNoise(net), chain), discrete.masked_cross_entropy
    ),
    "concrete score": _diffusion(*MASKS, discrete.ScoreNetwork, discrete.concrete_score_loss),
    "D3PM": Method(
        lambda config, tokens, seed: _transformer(config, tokens + 1, seed), _d3pm_nats, _d3pm_bound
    ),
    "autoregressive": Method(
        lambda config, tokens, seed: _transformer(config, tokens + 1, seed, condition=0, causal=True),
        _causal_nats,
        _causal_bound,
    ),
}


# --- training -----------------------------------------------------------------------------------------------


def load_weights(network, weights):
    """Put flat weights of any precision into a network."""
    with torch.no_grad():
        vector_to_parameters(weights.float(), network.parameters())


def network(result, config=None):
    """The trained network of a stored result, in evaluation mode: a score, or of D3PM and autoregressive ones logits.

    It has the sizes of ``config``; by default those with which the result was made.
    """
    config = SimpleNamespace(**result.settings) if config is None else config
    built = METHODS[result["method"]].network(config, int(result["vocabulary"]), 0)
    load_weights(built, torch.from_numpy(result["weights"]))
    return built.eval().requires_grad_(False)


def train_method(config, name, seed, device, work, part="writers", steps=None):
    """Train a method's network, and judge it on held-out texts as it is stored, in half precision."""
    method, training = METHODS[name], config.training
    training = training.model_copy(update={"steps": steps or training.steps})
    batches, tokens = training_text(config, part, seed)
    texts = {split: each.to(device) for split, each in held_out_texts(config).items()}
    built = method.network(config, tokens, seed).to(device)
    if training.compile:
        built.compile()

    def loss(network, batch, generator):
        return method.loss(config, tokens, network, batch[0], generator).mean() / config.length

    def nats(network, x0, times):
        generator = torch.Generator(device).manual_seed(seed)
        found = method.bound(config, tokens, network, x0, times, generator)
        return dict(zip(KINDS, found, strict=True))

    def measure(run):
        shown = texts["valid"][: config.curve_sequences]
        with evaluating(run.average) as network:
            found = nats(network, shown, config.curve_times)
            bits = {kind: float(BITS * each.mean()) / config.length for kind, each in found.items()}
            return bits | (_excess(network, tokens, shown, seed) if name == "SEDD absorb" else {})

    curve = History(curve_steps(training), measure)
    run = fit(
        built, loss, batches, training.new_optimizer(built.parameters()), steps=training.steps, seed=seed,
        schedule=training.schedule_factor(), clip=training.clip, ema=training.ema, accumulate=training.accumulate,
        precision=training.precision, device=device, callbacks=[curve], checkpoint=work / "run.pt",
    )  # fmt: skip
    weights = parameters_to_vector(run.average.parameters()).half()
    load_weights(run.average, weights)
    found = {
        "method": name, "vocabulary": tokens, "parameters": len(weights), "steps": training.steps,
        "tokens_seen": training.steps * training.batch * config.length,
        "loss": _means(BITS * run.losses.cpu().numpy()), "texts": np.array(list(texts)),
        "curve_steps": np.array(curve.steps),
    }  # fmt: skip
    found |= {f"curve_{key}": np.array(values) for key, values in curve.values.items()}
    if seed in config.sample_seeds:
        found["weights"] = weights.cpu().numpy()
    for split, x0 in texts.items():
        with torch.no_grad():
            each = nats(run.average, x0, config.times)
        for kind in KINDS:
            found[f"{kind}_{split}"] = BITS * each[kind].cpu().double().numpy() / config.length
    return found


def curve_steps(training):
    """The steps of evaluations, evenly spaced in their logarithm: from a thousandth of the run to its end."""
    steps = np.geomspace(max(1, training.steps / 1000), training.steps, training.evaluations)
    return np.unique(steps.round().astype(int)).tolist()


def _means(losses, most=300):
    """Means of groups of equally many steps, at most so many."""
    size = -(-len(losses) // most)
    return losses[: len(losses) // size * size].reshape(-1, size).mean(1)


def _excess(network, tokens, x0, seed):
    """What the loss loses to scores that do not sum to what they must: rate / e (C - 1 - log C), in bits per token."""
    graph, noise = MASKS[0](tokens), MASKS[1]
    generator = torch.Generator(x0.device).manual_seed(seed)
    total, rate = noise(discrete.training_times(len(x0), generator, device=x0.device))
    x = graph.corrupt(x0, total, generator)
    scores = network(x, total)[..., :tokens].double()
    log_c = (scores.logsumexp(-1) + torch.expm1(total).log().unsqueeze(-1)).masked_fill(x != graph.mask, 0)
    each = (rate / torch.expm1(total)).unsqueeze(-1) * (torch.expm1(log_c) - log_c)
    return {"excess": float(BITS * each.mean())}


# --- experiments --------------------------------------------------------------------------------------------


def _training(name, method, seeds="seeds", part="writers", longer=False):
    """An experiment that trains one method."""

    def run(config, *, seed, device, work):
        steps = config.long_steps if longer else None
        return train_method(config, method, seed, device, work, part, steps)

    run.__name__ = name
    return experiment(run, seeds=seeds)


sedd_absorb = _training("sedd_absorb", "SEDD absorb")
sedd_uniform = _training("sedd_uniform", "SEDD uniform")
autoregressive = _training("autoregressive", "autoregressive")
d3pm = _training("d3pm", "D3PM")
mdlm = _training("mdlm", "MDLM")
# The second judge of samples learns from text that no other network sees.
judge = _training("judge", "autoregressive", "sample_seeds", part="judges")
# MDLM without time, as in RADD; its control is MDLM's own network at one noise level always.
time_free = _training("time_free", "time-free", "extra_seeds")
constant_noise = _training("constant_noise", "constant noise", "extra_seeds")
# C8: the loss before score entropy.
concrete_score = _training("concrete_score", "concrete score", "extra_seeds")
long_absorb = _training("long_absorb", "SEDD absorb", "long_seeds", longer=True)
long_autoregressive = _training("long_autoregressive", "autoregressive", "long_seeds", longer=True)


@experiment(seeds="one_seed")
def counted(config, *, seed, device):
    """Bits per character of held-out texts under n-grams of the text to learn: trivial rows, as the others are judged."""
    texts = {name: x0.numpy() for name, x0 in held_out_texts(config).items()}
    models = [NGramJudge(characters(config, "writers"), order=order) for order in ORDERS]
    return {"orders": np.array(ORDERS), "texts": np.array(list(texts)), "uniform": np.log2(27)} | {
        f"bits_{name}": np.array([model.bits_per_character(x0) for model in models])
        for name, x0 in texts.items()
    }


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

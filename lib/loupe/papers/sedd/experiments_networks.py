"""What the chapter trains, and what the trained networks write and fill in.

All networks learn from the same text, in the same number of steps. What is stored of one is enough to go on from, its
averaged weights: sampling, infilling and judging are experiments of their own, which start from stored results.
"""

import time
from functools import partial
from types import SimpleNamespace

import numpy as np
import torch

from loupe import metrics
from loupe.data import load
from loupe.data.token_blocks import BlockBatches, Crops, spread_blocks
from loupe.diffusion import discrete
from loupe.diffusion.discrete import in_batches
from loupe.experiment import experiment
from loupe.experiment.results import columns
from loupe.networks.transformer import Transformer
from loupe.training import History, evaluating, fit, flat_parameters, log_spaced, set_parameters

BITS = 1 / np.log(2)
KINDS = ("bits", "strict")  # as published, and with all parts of the bound
ORDERS = (1, 2, 3, 4, 5)  # of n-grams
SIZES = ("width", "heads", "blocks", "condition", "dropout", "length")  # of the network
WRITERS = ("samples_absorb", "samples_uniform", "samples_time_free", "samples_autoregressive")
MASKS = (discrete.Absorbing(27), discrete.LogLinearNoise())
RANDOM = (discrete.Uniform(27), discrete.GeometricNoise())
USUAL = {"steps": 0, "method": "tweedie", "temperature": 1.0, "top_p": 1.0, "race": "", "cached": False}
"""Options of a sampler, as far as it has them, where a run states no others."""


# --- training -----------------------------------------------------------------------------------------------


def new_model(config, name, tokens, seed=0):
    """A method by its name, and its untrained model."""
    chain = {"steps": config.d3pm_steps, "auxiliary": config.d3pm_auxiliary} if name == "D3PM" else {}
    method = discrete.named_method(name, tokens, **chain)
    options = {size: getattr(config, size) for size in SIZES} | method.options
    return method, method.model(Transformer(method.states, seed=seed, **options))


def network(result, config=None):
    """The trained network of a stored result, in evaluation mode: a score, or of D3PM and autoregressive ones logits.

    It has the sizes of ``config``; by default those with which the result was made.
    """
    config = SimpleNamespace(**result.settings) if config is None else config
    _, built = new_model(config, result["method"], int(result["vocabulary"]))
    set_parameters(built, torch.from_numpy(result["weights"]))
    return built.eval().requires_grad_(False)


def train_method(config, name, seed, device, work, part="writers", steps=None):
    """Train a method's network, and judge it on held-out texts as it is stored, in half precision."""
    training = config.training.model_copy(update={"steps": steps or config.training.steps})
    batches, tokens = training_text(config, part, seed)
    texts = {split: x0.to(device) for split, x0 in held_out_texts(config).items()}
    method, built = new_model(config, name, tokens, seed)
    built.to(device)
    if training.compile:
        built.compile()

    def loss(network, batch, generator):
        x0, times = batch[0], None
        if method.first is not None:
            options = {"start": method.first, "stratified": config.stratified, "device": x0.device}
            times = discrete.training_times(len(x0), generator, **options)
        return method.loss(network, x0, times, generator).mean() / config.length

    def nats(network, x0, times):
        options = {"batch": config.sample_batch, "generator": torch.Generator(device).manual_seed(seed)}
        return dict(zip(KINDS, method.bound(network, x0, times=times, **options), strict=True))

    def measure(run):
        x0 = texts["valid"][: config.curve_sequences]
        with evaluating(run.average) as network:
            each = nats(network, x0, config.curve_times)
            found = {kind: float(BITS * one.mean()) / config.length for kind, one in each.items()}
            return found | (_excess(network, x0, tokens, seed) if name == "SEDD absorb" else {})

    curve = History(log_spaced(training.steps, training.evaluations), measure)
    run = fit(
        built, loss, batches, training.new_optimizer(built.parameters()), steps=training.steps, seed=seed,
        schedule=training.schedule_factor(), clip=training.clip, ema=training.ema, accumulate=training.accumulate,
        precision=training.precision, device=device, callbacks=[curve], checkpoint=work / "run.pt",
    )  # fmt: skip
    weights = flat_parameters(run.average).half()
    set_parameters(run.average, weights)
    found = {
        "method": name, "vocabulary": tokens, "parameters": len(weights), "steps": training.steps,
        "tokens_seen": training.steps * training.batch * config.length, "texts": np.array(list(texts)),
        "loss": _means(BITS * run.losses.cpu().numpy()), "curve_steps": np.array(curve.steps),
        **{f"curve_{name}": np.array(values) for name, values in curve.values.items()},
    }  # fmt: skip
    if seed in config.sample_seeds:
        found["weights"] = weights.cpu().numpy()
    with torch.no_grad():
        for split, x0 in texts.items():
            for kind, each in nats(run.average, x0, config.times).items():
                found[f"{kind}_{split}"] = BITS * each.cpu().double().numpy() / config.length
    return found


def _excess(network, x0, tokens, seed):
    """What the loss loses to scores that are not normalized, in bits per token."""
    chain, generator = discrete.Absorbing(tokens), torch.Generator(x0.device).manual_seed(seed)
    times, noise = discrete.training_times(len(x0), generator, device=x0.device), discrete.LogLinearNoise()
    nats = discrete.normalization_excess(network, x0, chain, noise, times, generator)
    return {"excess": float(BITS * nats.mean())}


def _means(losses, most=300):
    """Means of groups of equally many steps, at most so many."""
    size = -(-len(losses) // most)
    return losses[: len(losses) // size * size].reshape(-1, size).mean(1)


# --- experiments --------------------------------------------------------------------------------------------


def _training(name, method, seeds="seeds", part="writers"):
    """An experiment that trains one method."""

    def run(config, *, seed, device, work):
        steps = config.long_steps if seeds == "long_seeds" else config.training.steps
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
long_absorb = _training("long_absorb", "SEDD absorb", "long_seeds")
long_autoregressive = _training("long_autoregressive", "autoregressive", "long_seeds")


@experiment(seeds="one_seed")
def counted(config, *, seed, device):
    """Bits per character of held-out texts under n-grams of the text to learn: trivial rows, as the others are judged."""
    texts, ids = held_out_texts(config), characters(config, "writers")
    judges = [metrics.NGramJudge(ids, order=order) for order in ORDERS]
    return {"orders": np.array(ORDERS), "texts": np.array(list(texts)), "uniform": np.log2(27)} | {
        f"bits_{name}": np.stack([one.bits_per_character(x0.numpy()) for one in judges]) for name, x0 in texts.items()
    }  # fmt: skip


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
    texts = {"valid": load(config.text, split="test" if config.text == "lm1b" else "valid")}
    texts |= {name.removeprefix("zs_"): load(name) for name in config.zero_shot}
    chosen = {name: spread_blocks(text.ids, config.length, config.sequences) for name, text in texts.items()}
    return {name: torch.from_numpy(rows) for name, rows in chosen.items()}


# --- writing ------------------------------------------------------------------------------------------------


@experiment(seeds="sample_seeds", after=("sedd_absorb",))
def samples_absorb(config, *, seed, device, earlier):
    """Texts of SEDD with masks: at each number of steps, sharpened, and drawn in fewer digits."""
    score = network(earlier["sedd_absorb"], config).to(device)
    races = [{"race": digits} for digits in ("float16", "float32", "float64")]
    runs = [{"steps": n} for n in config.sample_steps]
    runs += [{"steps": config.race_steps} | one for one in (*_sharpened(config), *races)]
    return _written(config, seed, score, discrete.sample, runs, *MASKS) | _path(config, seed, score, *MASKS)


@experiment(seeds="sample_seeds", after=("sedd_uniform",))
def samples_uniform(config, *, seed, device, earlier):
    """Texts of SEDD with uniform noise, in both kinds of steps."""
    score = network(earlier["sedd_uniform"], config).to(device)
    runs = [{"steps": n, "method": method} for method in ("tweedie", "euler") for n in config.sample_steps]
    return _written(config, seed, score, discrete.sample, runs, *RANDOM) | _path(config, seed, score, *RANDOM)


@experiment(seeds="sample_seeds", after=("time_free",))
def samples_time_free(config, *, seed, device, earlier):
    """Texts of a network without time, which is evaluated only after a change; last, without any grid of times."""
    score = network(earlier["time_free"], config).to(device)
    runs = [{"steps": n, "cached": True} for n in config.sample_steps]
    found = _written(config, seed, score, discrete.sample, runs, *MASKS)
    last = _written(config, seed, score, discrete.first_hitting, [{}], MASKS[0])
    return {name: np.concatenate([found[name], last[name]]) for name in found}


@experiment(seeds="sample_seeds", after=("autoregressive",))
def samples_autoregressive(config, *, seed, device, earlier):
    """Texts of the autoregressive network: as it is, at lower temperatures, and from a nucleus; last, without a cache."""
    causal = network(earlier["autoregressive"], config).to(device)
    runs = [{"cached": True} | one for one in ({}, *_sharpened(config))] + [{}]
    return _written(config, seed, causal, discrete.sample_autoregressive, runs, start=27)


def _sharpened(config):
    return [*({"temperature": t} for t in config.temperatures), *({"top_p": p} for p in config.nuclei)]


def _written(config, seed, model, sampler, runs, *chain, **options):
    """A row for each run: its options, texts (samples, L), network evaluations (samples,), and CPU-seconds a text."""
    rows, sizes = [], [len(part) for part in torch.arange(config.samples).split(config.sample_batch)]
    for run in runs:
        shared = _drawing(model, seed) | options | run
        if race := shared.pop("race", ""):
            shared["exponential_dtype"] = getattr(torch, race)
        begin = time.process_time()
        written = [sampler(model, *chain, shape=(n, config.length), **shared) for n in sizes]
        seconds = (time.process_time() - begin) / config.samples
        tokens = _stored(torch.cat([each.tokens for each in written]))
        evaluations = torch.cat([each.evaluations for each in written]).cpu().numpy().astype(np.int32)
        rows.append(USUAL | run | {"tokens": tokens, "evaluations": evaluations, "seconds": seconds})
    return columns(rows)


def _path(config, seed, score, *chain):
    """Every state of three texts on their way, noise first, for the page."""
    states, options = (
        [],
        _drawing(score, seed + 1) | {"steps": config.race_steps, "shape": (3, config.length)},
    )
    discrete.sample(score, *chain, callback=lambda k, x: states.append(_stored(x)), **options)
    return {"path": np.stack(states, axis=1)}


def _drawing(model, seed):
    device = next(model.parameters()).device
    return {"generator": torch.Generator(device).manual_seed(seed), "device": device}


def _stored(tokens):
    return tokens.cpu().numpy().astype(np.uint8)


# --- judging ------------------------------------------------------------------------------------------------


@experiment(seeds="sample_seeds", after=(*WRITERS, "judge"))
def judged(config, *, seed, device, earlier):
    """Bits per character of all written texts under two judges that learnt from other text, entropy, and bigrams."""
    second, ids = network(earlier["judge"], config).to(device), characters(config, "judges")
    first, pairs = metrics.NGramJudge(ids), metrics.bigram_distribution(ids)
    texts = {name.removeprefix("samples_"): earlier[name]["tokens"] for name in WRITERS}
    texts["held_out"] = held_out_texts(config)["valid"][None, : config.samples].numpy()
    found = {}
    for name, tokens in texts.items():
        bits = [_causal_bits(config, second, each).mean(-1) for each in tokens]
        found |= {f"{name}_network": np.stack(bits), f"{name}_ngrams": first.bits_per_character(tokens)}
        found[f"{name}_entropy"] = metrics.token_entropies(tokens)
        found[f"{name}_bigrams"] = np.array([metrics.bigram_total_variation(each, pairs) for each in tokens])
    return found


def _causal_bits(config, causal, tokens):
    """Bits of each character ``(n, L)`` under an autoregressive network, given those before it."""
    x0 = torch.from_numpy(np.asarray(tokens, np.int64)).to(next(causal.parameters()).device)
    nats = in_batches(config.sample_batch, x0, partial(discrete.autoregressive_nats, causal, start=27))
    return BITS * nats.cpu().double().numpy()


# --- filling in ---------------------------------------------------------------------------------------------


@experiment(seeds="sample_seeds", after=("sedd_absorb", "autoregressive", "judge"))
def infilling(config, *, seed, device, earlier):
    """C12: the middle of held-out texts, judged and written again, from both sides and from the left."""
    names = ("sedd_absorb", "autoregressive", "judge")
    score, causal, second = (network(earlier[name], config).to(device) for name in names)
    x0 = held_out_texts(config)["valid"][: config.samples].to(device)
    before, middle, after = sides(config, device)
    truth, place = _stored(x0), np.flatnonzero(middle.cpu().numpy())
    # The middle with three characters on either side, so that groups of four see the joints.
    window = slice(max(0, place[0] - 3), place[-1] + 4)
    written = {
        "both": _infilled(config, seed, score, x0, before | after),
        "before": _infilled(config, seed, score, x0, before),
        "autoregressive": _continued(config, seed, causal, x0, before | middle, 1.0),
        "nucleus": _continued(config, seed, causal, x0, before | middle, config.infill_top_p),
        "strangers": x0.roll(1, 0),
    }
    found = {
        "bits_both": _any_order_bits(config, seed, score, x0, middle, None),
        "bits_before": _any_order_bits(config, seed, score, x0, middle, after),
        "bits_autoregressive": _causal_bits(config, causal, x0.cpu())[:, place].mean(-1),
        "truth": truth, "truth_network": _causal_bits(config, second, truth).mean(-1), "place": place,
    }  # fmt: skip
    for name, each in written.items():
        tokens = _stored(torch.where(middle, each, x0))  # around the middle the page stays as it is
        found[f"{name}_tokens"] = tokens
        found[f"{name}_network"] = _causal_bits(config, second, tokens).mean(-1)
        found[f"{name}_right"] = (tokens == truth)[:, place].mean(-1)
        found[f"{name}_mauve"] = metrics.mauve27(truth[:, window], tokens[:, window], seed=seed)
    return found


def sides(config, device="cpu"):
    """Where a text stands before, in, and after the gap in its middle: three masks ``(L,)``."""
    place = torch.arange(config.length, device=device) - (config.length - config.infill) // 2
    return place < 0, (place >= 0) & (place < config.infill), place >= config.infill


def _any_order_bits(config, seed, score, x0, middle, masked):
    """Bits per character of the true middle: the bound, in the same orders whatever is masked."""
    generator = torch.Generator(x0.device).manual_seed(seed)

    def nats(part):
        return discrete.any_order_nats(score, part, MASKS[0], middle, masked, generator=generator)

    draws = torch.stack([in_batches(config.sample_batch, x0, nats) for _ in range(config.orders)])
    return BITS * draws.mean(0).cpu().double().numpy() / config.infill


def _infilled(config, seed, score, x0, given):
    """Texts with what is given, and the rest by SEDD."""
    where, options = given.nonzero().squeeze(1), _drawing(score, seed) | {"steps": config.race_steps}

    def write(part):
        return discrete.sample(score, *MASKS, part.shape, given=(where, part[:, where]), **options).tokens

    return in_batches(config.sample_batch, x0, write)


def _continued(config, seed, causal, x0, until, top_p):
    """Texts up to the end of the middle, continued from what stands before it; what follows is left as it is."""
    stop, options = int(until.sum()), _drawing(causal, seed) | {"top_p": top_p, "cached": True}

    def write(part):
        given = part[:, : stop - config.infill]
        new = discrete.sample_autoregressive(causal, (len(part), stop), 27, given=given, **options).tokens
        return torch.cat([new, part[:, stop:]], 1)

    return in_batches(config.sample_batch, x0, write)


@experiment(seeds="one_seed")
def counted_infilling(config, *, seed, device):
    """The trivial row of C12: 5-grams of the text to learn fill the middle, exactly, from both sides."""
    x0 = held_out_texts(config)["valid"][: config.samples].numpy()
    place = np.flatnonzero(sides(config)[1].numpy())
    model, random = metrics.NGramJudge(characters(config, "writers")), np.random.default_rng(seed)
    tokens, bits = metrics.ngram_infill(model, x0, place[0], len(place), random)
    return {"bits": bits, "tokens": tokens.astype(np.uint8), "right": (tokens == x0)[:, place].mean(-1)}

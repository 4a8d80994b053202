"""What the trained networks write and fill in, and how that is judged: all from stored networks and stored texts."""

import time

import numpy as np
import torch

from loupe import metrics
from loupe.diffusion import discrete
from loupe.experiment import experiment
from loupe.experiment.results import columns
from loupe.papers.sedd.experiments_text import BITS, characters, held_out_texts, in_batches, network

WRITERS = ("samples_absorb", "samples_uniform", "samples_time_free", "samples_autoregressive")
MASKS = (discrete.Absorbing(27), discrete.LogLinearNoise())
RANDOM = (discrete.Uniform(27), discrete.GeometricNoise())
USUAL = {"steps": 0, "method": "tweedie", "temperature": 1.0, "top_p": 1.0, "race": "", "cached": False}
"""Options of a sampler, as far as it has them, where a run states no others."""


# --- writing ------------------------------------------------------------------------------------------------


@experiment(seeds="sample_seeds", after=("sedd_absorb",))
def samples_absorb(config, *, seed, device, earlier):
    """Texts of SEDD with masks: at each number of steps, sharpened, and drawn in fewer digits."""
    score, digits = network(earlier["sedd_absorb"], config).to(device), ("float16", "float32", "float64")
    special = [*_sharpened(config), *({"exponential_dtype": getattr(torch, one)} for one in digits)]
    runs = [{"steps": n} for n in config.sample_steps] + [
        {"steps": config.race_steps} | one for one in special
    ]
    found = _written(config, seed, device, discrete.sample, runs, score, *MASKS)
    return found | _path(config, seed, device, score, *MASKS)


@experiment(seeds="sample_seeds", after=("sedd_uniform",))
def samples_uniform(config, *, seed, device, earlier):
    """Texts of SEDD with uniform noise, in both kinds of steps."""
    score = network(earlier["sedd_uniform"], config).to(device)
    runs = [{"steps": n, "method": method} for method in ("tweedie", "euler") for n in config.sample_steps]
    found = _written(config, seed, device, discrete.sample, runs, score, *RANDOM)
    return found | _path(config, seed, device, score, *RANDOM)


@experiment(seeds="sample_seeds", after=("time_free",))
def samples_time_free(config, *, seed, device, earlier):
    """Texts of a network without time, which is evaluated only after a change; last, without any grid of times."""
    score, runs = (
        network(earlier["time_free"], config).to(device),
        [{"steps": n} for n in config.sample_steps],
    )
    runs = [run | {"cached": True} for run in runs]
    found = _written(config, seed, device, discrete.sample, runs, score, *MASKS)
    last = _written(config, seed, device, discrete.first_hitting, [{}], score, MASKS[0])
    return {name: np.concatenate([found[name], last[name]]) for name in found}


@experiment(seeds="sample_seeds", after=("autoregressive",))
def samples_autoregressive(config, *, seed, device, earlier):
    """Texts of the autoregressive network: as it is, at lower temperatures, and from a nucleus; last, without a cache."""
    causal = network(earlier["autoregressive"], config).to(device)
    runs = [*({"cached": True} | one for one in [{}, *_sharpened(config)]), {}]
    return _written(config, seed, device, discrete.sample_autoregressive, runs, causal, start=27)


def _sharpened(config):
    return [*({"temperature": t} for t in config.temperatures), *({"top_p": p} for p in config.nuclei)]


def _written(config, seed, device, sampler, runs, *arguments, **options):
    """A row for each run: its options, texts (samples, L), network evaluations (samples,), and CPU-seconds a text."""
    sizes = [len(part) for part in torch.arange(config.samples).split(config.sample_batch)]
    rows = []
    for run in runs:
        generator, begin = torch.Generator(device).manual_seed(seed), time.process_time()
        shared = {"generator": generator, "device": device} | options | run
        written = [sampler(*arguments, shape=(n, config.length), **shared) for n in sizes]
        seconds = (time.process_time() - begin) / config.samples
        race = str(run.get("exponential_dtype", "")).removeprefix("torch.")
        rows.append({name: run.get(name, usual) for name, usual in USUAL.items()} | {
            "race": race,
            "tokens": _stored(torch.cat([each.tokens for each in written])),
            "evaluations": torch.cat([each.evaluations for each in written]).cpu().numpy().astype(np.int32),
            "seconds": seconds,
        })  # fmt: skip
    return columns(rows)


def _path(config, seed, device, score, graph, noise):
    """Every state of three texts on their way, noise first, for the page."""
    states, generator = [], torch.Generator(device).manual_seed(seed + 1)
    discrete.sample(
        score, graph, noise, (3, config.length), steps=config.race_steps, generator=generator, device=device,
        callback=lambda k, x: states.append(_stored(x)),
    )  # fmt: skip
    return {"path": np.stack(states, axis=1)}


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
        found[f"{name}_ngrams"] = first.bits_per_character(tokens)
        found[f"{name}_network"] = np.stack([_causal_bits(config, second, each).mean(-1) for each in tokens])
        found[f"{name}_entropy"] = metrics.token_entropies(tokens)
        found[f"{name}_bigrams"] = np.array([metrics.bigram_total_variation(each, pairs) for each in tokens])
    return found


def _causal_bits(config, causal, tokens):
    """Bits of each character ``(n, L)`` under an autoregressive network, given those before it."""
    tokens = torch.from_numpy(np.asarray(tokens, np.int64)).to(next(causal.parameters()).device)
    nats = in_batches(config, tokens, lambda part: discrete.autoregressive_nats(causal, part, 27))
    return BITS * nats.cpu().double().numpy()


# --- filling in ---------------------------------------------------------------------------------------------


@experiment(seeds="sample_seeds", after=("sedd_absorb", "autoregressive", "judge"))
def infilling(config, *, seed, device, earlier):
    """C12: the middle of held-out texts, judged and written again, from both sides and from the left."""
    score, causal, second = (
        network(earlier[name], config).to(device) for name in ("sedd_absorb", "autoregressive", "judge")
    )
    x0 = held_out_texts(config)["valid"][: config.samples].to(device)
    before, middle, after = sides(config, device)
    truth, place = _stored(x0), np.flatnonzero(middle.cpu().numpy())
    # The middle with three characters on either side, so that groups of four see the joints.
    window = slice(max(0, place[0] - 3), place[-1] + 4)
    found = {
        "bits_both": _any_order_bits(config, seed, score, x0, middle, None),
        "bits_before": _any_order_bits(config, seed, score, x0, middle, after),
        "bits_autoregressive": _causal_bits(config, causal, x0.cpu())[:, place].mean(-1),
        "truth": truth, "truth_network": _causal_bits(config, second, truth).mean(-1), "place": place,
    }  # fmt: skip
    for name, written in {
        "both": _infilled(config, seed, score, x0, before | after),
        "before": _infilled(config, seed, score, x0, before),
        "autoregressive": _continued(config, seed, causal, x0, before | middle, 1.0),
        "nucleus": _continued(config, seed, causal, x0, before | middle, config.infill_top_p),
        "strangers": x0.roll(1, 0),
    }.items():
        tokens = _stored(torch.where(middle, written, x0))  # around the middle the page stays as it is
        found |= {
            f"{name}_tokens": tokens,
            f"{name}_network": _causal_bits(config, second, tokens).mean(-1),
            f"{name}_right": (tokens == truth)[:, place].mean(-1),
            f"{name}_mauve": metrics.mauve27(truth[:, window], tokens[:, window], seed=seed),
        }
    return found


def sides(config, device="cpu"):
    """Where a text stands before, in, and after the gap in its middle: three masks ``(L,)``."""
    place, start = torch.arange(config.length, device=device), (config.length - config.infill) // 2
    before, after = place < start, place >= start + config.infill
    return before, ~(before | after), after


def _any_order_bits(config, seed, score, x0, middle, masked):
    """Bits per character of the true middle: the bound, in the same orders whatever is masked."""
    generator = torch.Generator(x0.device).manual_seed(seed)

    def nats(part):
        return discrete.any_order_nats(score, part, MASKS[0], middle, masked, generator=generator)

    draws = torch.stack([in_batches(config, x0, nats) for _ in range(config.orders)])
    return BITS * draws.mean(0).cpu().double().numpy() / config.infill


def _infilled(config, seed, score, x0, given):
    """Texts with what is given, and the rest by SEDD."""
    generator, where = torch.Generator(x0.device).manual_seed(seed), given.nonzero().squeeze(1)
    options = {"steps": config.race_steps, "generator": generator, "device": x0.device}

    def write(part):
        return discrete.sample(
            score, *MASKS, tuple(part.shape), given=(where, part[:, where]), **options
        ).tokens

    return in_batches(config, x0, write)


def _continued(config, seed, causal, x0, until, top_p):
    """Texts up to the end of the middle, continued from what stands before it; what follows is left as it is."""
    generator, stop = torch.Generator(x0.device).manual_seed(seed), int(until.sum())
    options = {"generator": generator, "top_p": top_p, "device": x0.device, "cached": True}

    def write(part):
        given = part[:, : stop - config.infill]
        new = discrete.sample_autoregressive(causal, (len(part), stop), 27, given=given, **options).tokens
        return torch.cat([new, part[:, stop:]], 1)

    return in_batches(config, x0, write)


@experiment(seeds="one_seed")
def counted_infilling(config, *, seed, device):
    """The trivial row of C12: 5-grams of the text to learn fill the middle, exactly, from both sides."""
    x0 = held_out_texts(config)["valid"][: config.samples].numpy()
    place = np.flatnonzero(sides(config)[1].numpy())
    model, random = metrics.NGramJudge(characters(config, "writers")), np.random.default_rng(seed)
    tokens, bits = metrics.ngram_infill(model, x0, place[0], len(place), random)
    return {"bits": bits, "tokens": tokens.astype(np.uint8), "right": (tokens == x0)[:, place].mean(-1)}

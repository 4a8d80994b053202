"""What the trained networks write and fill in, and how that is judged: all from stored networks and stored texts."""

import time
from types import SimpleNamespace

import numpy as np
import torch

from loupe.diffusion.discrete import (
    Absorbing,
    GeometricNoise,
    LogLinearNoise,
    Uniform,
    any_order_nats,
    autoregressive_nats,
    first_hitting,
    sample,
    sample_autoregressive,
)
from loupe.experiment import experiment
from loupe.metrics import (
    NGramJudge,
    bigram_distribution,
    bigram_total_variation,
    mauve27,
    token_entropies,
)
from loupe.papers.sedd.experiments_text import BITS, METHODS, characters, held_out_texts, load_weights
from loupe.papers.sedd.ngram_filling import fill

WRITERS = ("samples_absorb", "samples_uniform", "samples_time_free", "samples_autoregressive")
MASKS = (Absorbing(27), LogLinearNoise())
RANDOM = (Uniform(27), GeometricNoise())


def network(result, config=None):
    """The trained network of a stored result, in evaluation mode: a score, or of D3PM and autoregressive ones logits.

    It has the sizes of ``config``; by default those with which the result was made.
    """
    config = SimpleNamespace(**result.settings) if config is None else config
    built = METHODS[result["method"]].network(config, int(result["vocabulary"]), 0)
    load_weights(built, torch.from_numpy(result["weights"]))
    return built.eval().requires_grad_(False)


# --- writing ------------------------------------------------------------------------------------------------


@experiment(seeds="sample_seeds", after=("sedd_absorb",))
def samples_absorb(config, *, seed, device, earlier):
    """Texts of SEDD with masks: at each number of steps, sharpened, and drawn in fewer digits."""
    score, steps = network(earlier["sedd_absorb"], config).to(device), config.race_steps
    runs = [{"steps": n} for n in config.sample_steps]
    runs += [{"steps": steps, "temperature": t} for t in config.temperatures]
    runs += [{"steps": steps, "top_p": p} for p in config.nuclei]
    runs += [
        {"steps": steps, "exponential_dtype": getattr(torch, digits)}
        for digits in ("float16", "float32", "float64")
    ]
    return _written(config, seed, device, sample, runs, score, *MASKS) | _path(
        config, seed, device, score, *MASKS
    )


@experiment(seeds="sample_seeds", after=("sedd_uniform",))
def samples_uniform(config, *, seed, device, earlier):
    """Texts of SEDD with uniform noise, in both kinds of steps."""
    score = network(earlier["sedd_uniform"], config).to(device)
    runs = [{"steps": n, "method": method} for method in ("tweedie", "euler") for n in config.sample_steps]
    found = _written(config, seed, device, sample, runs, score, *RANDOM)
    return found | _path(config, seed, device, score, *RANDOM)


@experiment(seeds="sample_seeds", after=("time_free",))
def samples_time_free(config, *, seed, device, earlier):
    """Texts of a network without time, which is evaluated only after a change; last, without any grid of times."""
    score, (graph, noise) = network(earlier["time_free"], config).to(device), MASKS
    runs = [{"steps": n, "cached": True} for n in config.sample_steps]
    found = _written(config, seed, device, sample, runs, score, graph, noise)
    last = _written(config, seed, device, first_hitting, [{}], score, graph)
    return {name: np.concatenate([found[name], last[name]]) for name in found}


@experiment(seeds="sample_seeds", after=("autoregressive",))
def samples_autoregressive(config, *, seed, device, earlier):
    """Texts of the autoregressive network: as it is, at lower temperatures, and from a nucleus; last, without a cache."""
    causal = network(earlier["autoregressive"], config).to(device)
    runs = [{"cached": True}, *({"cached": True, "temperature": t} for t in config.temperatures)]
    runs += [{"cached": True, "top_p": p} for p in config.nuclei] + [{}]
    return _written(config, seed, device, sample_autoregressive, runs, causal, start=27)


def _written(config, seed, device, sampler, runs, *arguments, **options):
    """One row for each run: its options, texts ``(rows, samples, L)``, and what they cost."""
    rows = [_texts(config, seed, device, sampler, *arguments, **options, **run) for run in runs]
    tokens, evaluations, seconds = zip(*rows, strict=True)
    kinds = {"steps": 0, "method": "tweedie", "temperature": 1.0, "top_p": 1.0, "race": "", "cached": False}
    named = [
        run | {"race": str(run.get("exponential_dtype", "")).removeprefix("torch.")} for run in runs
    ]  # stored under an older name of the option
    return {
        **{name: np.array([run.get(name, usual) for run in named]) for name, usual in kinds.items()},
        "tokens": np.stack(tokens),
        "evaluations": np.stack(evaluations),
        "seconds": np.array(seconds),  # of CPU time for a text
    }


def _texts(config, seed, device, sampler, *arguments, **options):
    """Tokens ``(samples, L)``, network evaluations ``(samples,)``, and seconds for a text, written batch by batch."""
    generator, begin = torch.Generator(device).manual_seed(seed), time.process_time()
    sizes = [
        min(config.sample_batch, config.samples - k) for k in range(0, config.samples, config.sample_batch)
    ]
    written = [
        sampler(*arguments, shape=(n, config.length), generator=generator, device=device, **options)
        for n in sizes
    ]
    seconds = (time.process_time() - begin) / config.samples
    tokens = torch.cat([each.tokens for each in written])
    evaluations = torch.cat([each.evaluations for each in written])
    return _stored(tokens), evaluations.cpu().numpy().astype(np.int32), seconds


def _path(config, seed, device, score, graph, noise):
    """Every state of three texts on their way, noise first, for the page."""
    states, generator = [], torch.Generator(device).manual_seed(seed + 1)
    sample(
        score, graph, noise, (3, config.length), steps=config.race_steps, generator=generator, device=device,
        callback=lambda k, x: states.append(_stored(x)),
    )  # fmt: skip
    return {"path": np.stack(states, axis=1)}


# --- judging ------------------------------------------------------------------------------------------------


@experiment(seeds="sample_seeds", after=(*WRITERS, "judge"))
def judged(config, *, seed, device, earlier):
    """Bits per character of all written texts under two judges that learnt from other text, entropy, and bigrams."""
    second, ids = network(earlier["judge"], config).to(device), characters(config, "judges")
    first, pairs = NGramJudge(ids), bigram_distribution(ids)
    texts = {name.removeprefix("samples_"): earlier[name]["tokens"] for name in WRITERS}
    texts["held_out"] = held_out_texts(config)["valid"][None, : config.samples].numpy()
    found = {}
    for name, tokens in texts.items():
        found[f"{name}_ngrams"] = first.bits_per_character(tokens)
        found[f"{name}_network"] = np.stack([_causal_bits(config, second, each).mean(-1) for each in tokens])
        found[f"{name}_entropy"] = token_entropies(tokens)
        found[f"{name}_bigrams"] = np.array([bigram_total_variation(each, pairs) for each in tokens])
    return found


def _causal_bits(config, causal, tokens):
    """Bits of each character ``(n, L)`` under an autoregressive network, given those before it."""
    device = next(causal.parameters()).device
    parts = torch.from_numpy(np.asarray(tokens, dtype=np.int64)).to(device).split(config.sample_batch)
    with torch.no_grad():
        return (
            BITS * torch.cat([autoregressive_nats(causal, part, 27) for part in parts]).cpu().double().numpy()
        )


# --- filling in ---------------------------------------------------------------------------------------------


@experiment(seeds="sample_seeds", after=("sedd_absorb", "autoregressive", "judge"))
def infilling(config, *, seed, device, earlier):
    """C12: the middle of held-out texts, judged and written again, from both sides and from the left."""
    score, causal, second = (
        network(earlier[name], config).to(device) for name in ("sedd_absorb", "autoregressive", "judge")
    )
    x0 = held_out_texts(config)["valid"][: config.samples].to(device)
    before, middle, after = sides(config, device)
    bits = {
        "both": _any_order_bits(config, seed, score, x0, middle, None),
        "before": _any_order_bits(config, seed, score, x0, middle, after),
        "autoregressive": _causal_bits(config, causal, x0.cpu())[:, middle.cpu().numpy()].mean(-1),
    }
    texts = {
        "both": _infilled(config, seed, score, x0, before | after),
        "before": _infilled(config, seed, score, x0, before),
        "autoregressive": _continued(config, seed, causal, x0, before | middle, 1.0),
        "nucleus": _continued(config, seed, causal, x0, before | middle, config.infill_top_p),
        "strangers": x0.roll(1, 0),
    }
    # What stands outside the middle is that of the page.
    texts = {name: _stored(torch.where(middle, tokens, x0)) for name, tokens in texts.items()}
    return {f"bits_{name}": each for name, each in bits.items()} | _seen(
        config, seed, second, texts, _stored(x0), middle
    )


def sides(config, device="cpu"):
    """Where a text stands before, in, and after the gap in its middle: three masks ``(L,)``."""
    place, start = torch.arange(config.length, device=device), (config.length - config.infill) // 2
    return place < start, (place >= start) & (place < start + config.infill), place >= start + config.infill


def _any_order_bits(config, seed, score, x0, middle, masked):
    """Bits per character of the true middle: the bound, in the same orders whatever is masked."""
    generator = torch.Generator(x0.device).manual_seed(seed)
    with torch.no_grad():
        draws = [
            torch.cat([
                any_order_nats(score, part, MASKS[0], middle, masked, generator=generator)
                for part in x0.split(config.sample_batch)
            ])
            for _ in range(config.orders)
        ]  # fmt: skip
    return BITS * torch.stack(draws).mean(0).cpu().double().numpy() / config.infill


def _infilled(config, seed, score, x0, given):
    generator, where = torch.Generator(x0.device).manual_seed(seed), given.nonzero().squeeze(1)
    return torch.cat([
        sample(
            score, *MASKS, tuple(part.shape), steps=config.race_steps, given=(where, part[:, where]),
            generator=generator, device=x0.device,
        ).tokens
        for part in x0.split(config.sample_batch)
    ])  # fmt: skip


def _continued(config, seed, causal, x0, until, top_p):
    """Texts up to the end of the middle, continued from what stands before it; what follows is left as it is."""
    generator, stop = torch.Generator(x0.device).manual_seed(seed), int(until.sum())
    parts = x0.split(config.sample_batch)
    written = [
        sample_autoregressive(
            causal, (len(part), stop), 27, given=part[:, : stop - config.infill], generator=generator, top_p=top_p,
            device=x0.device, cached=True,
        ).tokens
        for part in parts
    ]  # fmt: skip
    return torch.cat([torch.cat([new, part[:, stop:]], 1) for new, part in zip(written, parts, strict=True)])


def _seen(config, seed, second, texts, truth, middle):
    """The texts, how they fit the page under the second judge, characters that are right, and MAUVE-27 at the joints."""
    place = np.flatnonzero(middle.cpu().numpy())
    # The middle with three characters on either side, so that groups of four see the joints.
    window = slice(max(0, place[0] - 3), place[-1] + 4)
    found = {"truth": truth, "truth_network": _causal_bits(config, second, truth).mean(-1), "place": place}
    for name, tokens in texts.items():
        found |= {
            f"{name}_tokens": tokens,
            f"{name}_network": _causal_bits(config, second, tokens).mean(-1),
            f"{name}_right": (tokens == truth)[:, place].mean(-1),
            f"{name}_mauve": mauve27(truth[:, window], tokens[:, window], seed=seed),
        }
    return found


@experiment(seeds="one_seed")
def counted_infilling(config, *, seed, device):
    """The trivial row of C12: 5-grams of the text to learn fill the middle, exactly, from both sides."""
    x0 = held_out_texts(config)["valid"][: config.samples].numpy()
    place = np.flatnonzero(sides(config)[1].numpy())
    model = NGramJudge(characters(config, "writers"))
    tokens, bits = fill(model, x0, place[0], len(place), np.random.default_rng(seed))
    return {"bits": bits, "tokens": tokens.astype(np.uint8), "right": (tokens == x0)[:, place].mean(-1)}


def _stored(tokens):
    return tokens.cpu().numpy().astype(np.uint8)

"""What the trained networks write, and how that is judged: by a 5-gram model, beside the entropy of what they wrote."""

import numpy as np
import torch

from loupe.data import load
from loupe.diffusion.discrete import (
    Absorbing,
    LogLinearNoise,
    any_order_nats,
    first_hitting,
    sample,
    sample_autoregressive,
)
from loupe.metrics import (
    NGramJudge,
    bigram_distribution,
    bigram_total_variation,
    mauve27,
    token_entropies,
)

RACES = {"float16": torch.float16, "float32": torch.float32, "float64": torch.float64}


def samples_of_scores(config, trained, graph, noise, methods, races=False):
    """Texts of a score network at each number of steps; with ``races``, also drawn in fewer digits."""
    graph, judge = graph(trained.tokens), _judge(config)
    found = {"sample_steps": np.array(config.sample_steps), "sample_methods": np.array(methods)}
    found["race_steps"] = config.race_steps
    runs = {
        f"{method} {n}": {"steps": n, "method": method} for method in methods for n in config.sample_steps
    }
    if races:
        runs |= {f"race {name}": {"steps": config.race_steps, "race": dtype} for name, dtype in RACES.items()}
    for name, options in runs.items():
        tokens, _ = _written(config, trained, sample, graph, noise, **options)
        found |= _judged(name, tokens, judge)
    held_out = _judged("held out", _stored(trained.held_out[: config.samples]), judge)
    return found | held_out | _path(config, trained, graph, noise)


def samples_of_denoiser(config, trained, noise):
    """Texts of a network without time: what the cache saves, and the sampler that needs no grid."""
    graph, judge = Absorbing(trained.tokens), _judge(config)
    found, counts = {"sample_steps": np.array(config.sample_steps)}, []
    for steps in config.sample_steps:
        tokens, evaluations = _written(config, trained, sample, graph, noise, steps=steps, cached=True)
        found |= _judged(f"tweedie {steps}", tokens, judge)
        counts.append(evaluations)
    found |= {"evaluations": np.stack(counts), "length": config.length}
    return found | _judged("first hitting", _written(config, trained, first_hitting, graph)[0], judge)


def samples_autoregressive(config, trained):
    """Texts of the causal network, as it is and without any change of temperature."""
    tokens, _ = _written(config, trained, sample_autoregressive, start=trained.tokens)
    return _judged("autoregressive", tokens, _judge(config))


def fills(config, trained):
    """C12: the middle of held-out texts, judged and written anew with one side given, and with both."""
    graph, noise = Absorbing(trained.tokens), LogLinearNoise()
    x0 = trained.held_out[: config.samples]
    start = (config.length - config.infill) // 2
    place = torch.arange(config.length, device=x0.device)
    middle, after = (place >= start) & (place < start + config.infill), place >= start + config.infill
    generator = torch.Generator(x0.device).manual_seed(trained.seed)

    def bits(hidden):
        # The same orders for one side and for both.
        generator = torch.Generator(x0.device).manual_seed(trained.seed)
        draws = [
            torch.cat([
                any_order_nats(trained.network, part, graph, middle, hidden, generator=generator)
                for part in x0.split(config.sample_batch)
            ])
            for _ in range(config.orders)
        ]  # fmt: skip
        return torch.stack(draws).mean(0).cpu().double().numpy() / (np.log(2) * config.infill)

    with torch.no_grad():
        found = {"infill_bits_both": bits(None), "infill_bits_before": bits(after)}
    found["infill_place"] = middle.cpu().numpy()
    for sides, given in (("both", ~middle), ("before", place < start)):
        where = given.nonzero().squeeze(1)
        tokens = torch.cat([
            sample(
                trained.network, graph, noise, tuple(part.shape), steps=config.race_steps,
                given=(where, part[:, where]), generator=generator, device=trained.device,
            ).tokens
            for part in x0.split(config.sample_batch)
        ])  # fmt: skip
        # After the middle the text of the page is compared, whether it was given or not.
        tokens = torch.where(after, x0, tokens)
        found[f"infill_tokens_{sides}"] = _stored(tokens)
    found["infill_truth"] = _stored(x0)
    # Middles with the three characters on either side, so that groups of four see the joints; the yardstick is the
    # middle of another text.
    window = slice(max(0, start - 3), start + config.infill + 3)
    strangers = _stored(torch.where(middle, x0.roll(1, 0), x0))
    written = {"both": found["infill_tokens_both"], "before": found["infill_tokens_before"]}
    for name, tokens in (written | {"strangers": strangers}).items():
        truth = found["infill_truth"][:, window]
        found[f"infill_mauve_{name}"] = mauve27(truth, tokens[:, window], seed=trained.seed)
    return found


def _written(config, trained, sampler, *arguments, **options):
    """Tokens ``(samples, L)`` of uint8 and network evaluations ``(samples,)``, written batch by batch."""
    generator = torch.Generator(trained.device).manual_seed(trained.seed)
    tokens, evaluations = [], []
    for start in range(0, config.samples, config.sample_batch):
        shape = (min(config.sample_batch, config.samples - start), config.length)
        written = sampler(
            trained.network, *arguments, shape=shape, generator=generator, device=trained.device, **options
        )
        tokens.append(_stored(written.tokens))
        evaluations.append(written.evaluations.cpu().numpy())
    return np.concatenate(tokens), np.concatenate(evaluations)


def _path(config, trained, graph, noise):
    """Every state of three texts on their way, noise first, for the page."""
    states = []
    generator = torch.Generator(trained.device).manual_seed(trained.seed + 1)
    sample(
        trained.network, graph, noise, (3, config.length), steps=config.race_steps, generator=generator,
        device=trained.device, watch=lambda k, x: states.append(_stored(x)),
    )  # fmt: skip
    return {"path": np.stack(states, axis=1)}


def _judge(config):
    text = load(config.text, split="train", characters=config.judge_characters)
    return NGramJudge(text.ids), bigram_distribution(text.ids)


def _judged(name, tokens, judge):
    """Bits per character under the judge, entropy and distance of bigrams, of texts ``(n, L)``."""
    model, pairs = judge
    return {
        f"{name} tokens": tokens,
        f"{name} bits": model.bits_per_character(tokens),
        f"{name} entropy": token_entropies(tokens),
        f"{name} bigrams": bigram_total_variation(tokens, pairs),
    }


def _stored(tokens):
    return tokens.cpu().numpy().astype(np.uint8)

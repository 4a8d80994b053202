"""What the chapter computes without training: identities over all short texts, and samplers with exact scores."""

from itertools import product

import numpy as np
import torch

from loupe.data import load
from loupe.diffusion.discrete import (
    Absorbing,
    BigramOracle,
    Denoiser,
    Enumeration,
    GeometricNoise,
    LogLinearNoise,
    ScoreNetwork,
    Uniform,
    masked_cross_entropy,
    sample,
    score_entropy_loss,
    total_variation,
    training_times,
)
from loupe.experiment import experiment
from loupe.metrics import bigram_distribution, bigram_total_variation
from loupe.networks.transformer import Transformer

GRAPHS = {"absorbing": Absorbing, "uniform": Uniform}
NOISES = {"log-linear": LogLinearNoise(), "geometric": GeometricNoise()}
TOY = (3, 4)  # tokens, length
STEP_TIMES = ((0.9, 0.7), (0.6, 0.5), (0.3, 0.1))
NODES = {"nodes": 16, "pieces": 6}  # of the integral: enough for 1e-11
SAMPLER_STEPS = (1, 2, 4, 8, 16, 32)


@experiment(seeds="one_seed")
def identities(config, *, seed, device):
    """C2, C3, C4 and C14 on random distributions over all texts of four tokens."""
    generator = torch.Generator().manual_seed(seed)
    rows = [
        _identities_of(Enumeration(_random_distribution(generator), graph(TOY[0])), generator)
        for _ in range(config.toy_problems)
        for graph in GRAPHS.values()
    ]
    shape = (config.toy_problems, len(GRAPHS))
    found = {name: np.array([row[name] for row in rows]).reshape(*shape, -1) for name in rows[0]}
    return found | {"graphs": np.array(list(GRAPHS))} | _two_losses(generator) | _cache(generator)


def _random_distribution(generator):
    """Far from uniform: logarithms are normal with deviation 2."""
    weights = torch.randn((TOY[0],) * TOY[1], generator=generator, dtype=torch.float64)
    return (2 * weights).exp() / (2 * weights).exp().sum()


def _identities_of(toy, generator):
    total = 0.5
    table = toy.table(toy, total)
    guess = (table + torch.randn(table.shape, generator=generator, dtype=torch.float64)).requires_grad_()
    objectives = (toy.explicit_objective, toy.implicit_objective, toy.denoising_objective)
    # Entries at the tokens themselves, and of moves that never happen, are none of theirs.
    explicit, implicit, denoising = (torch.autograd.grad(each(guess, total), guess)[0] for each in objectives)
    # The control: ratios of other noise.
    other = [torch.autograd.grad(each(guess, 2 * total), guess)[0] for each in objectives[1:]]

    start, end = 1e-6, 12.0
    truth = toy.path(toy, start, end, **NODES)
    gap = truth - (toy.divergence_from_marginal(start) - toy.divergence_from_marginal(end))
    shift = torch.randn(toy.length, toy.graph.states, generator=generator, dtype=torch.float64)
    wrong = toy.path(lambda x, noise: toy(x, noise) + 0.5 * shift, start, end, **NODES)

    steps = list(product(NOISES.values(), STEP_TIMES))
    tweedie, euler = (
        [toy.step_divergence(toy, noise, *times, method=method).item() for noise, times in steps]
        for method in ("tweedie", "euler")
    )
    distances = [
        [
            total_variation(
                toy.sampler_distribution(toy, NOISES["geometric"], n, method), toy.distribution
            ).item()
            for n in SAMPLER_STEPS
        ]
        for method in ("tweedie", "euler")
    ]
    return {
        "gradient_errors": [(each - explicit).abs().max().item() for each in (implicit, denoising)],
        "gradient_control": [(each - explicit).abs().max().item() for each in other],
        "identity_error": gap.abs().max().item(),
        # On average over texts: a single one may be more likely under a wrong model.
        "excess": (toy.distribution.flatten() * (wrong - truth)).sum().item(),
        "nats": -toy.distribution.flatten().log().numpy(),
        "bound_true": (truth + toy.divergence_from_marginal(end)).numpy(),
        "bound_wrong": (wrong + toy.divergence_from_marginal(end)).numpy(),
        "marginal_error": max(_marginal_error(toy, *one, "tweedie") for one in steps),
        "marginal_control": max(_marginal_error(toy, *one, "euler") for one in steps),
        "tweedie": tweedie,
        "euler": euler,
        "sampler_distances": distances,
    }


def _marginal_error(toy, noise, times, method):
    """The distribution of each token after one step, against the true one."""
    (start, end), states = times, toy.graph.states
    (total, rate), later = noise(start), noise(end)[0]
    step = total - later if method == "tweedie" else rate * (start - end)
    found = toy.graph.probabilities(toy.table(toy, total), toy.sequences, step, method)
    true = toy.true_step(total, later)
    own = torch.nn.functional.one_hot(toy.sequences, states).double()  # (to, i, state)
    gap = torch.einsum("ft,tis->fis", true, own) - found
    return gap[toy.marginal(total) > 0].abs().max().item()


def _two_losses(generator):
    """C14: score entropy and masked cross-entropy of one denoiser on the same draws, in float32."""
    graph, noise = Absorbing(27), LogLinearNoise()
    network = Transformer(graph.states, width=32, heads=4, blocks=2, condition=16, seed=1)
    torch.nn.init.normal_(network.head.weight, generator=generator)
    x0 = torch.randint(27, (256, 32), generator=generator)
    losses = []
    with torch.no_grad():
        # The control: the same network without a softmax.
        for loss, wrap in (
            (masked_cross_entropy, Denoiser), (score_entropy_loss, Denoiser), (score_entropy_loss, ScoreNetwork),
        ):  # fmt: skip
            draws = torch.Generator().manual_seed(2)
            times = training_times(len(x0), draws)
            losses.append(loss(wrap(network, graph), x0, graph, noise, times, draws))
    gaps = [(each - losses[0]).abs() / losses[0].abs().clamp_min(1) for each in losses[1:]]
    return {"loss_gap": gaps[0].max().item(), "loss_gap_control": gaps[1].max().item()}


def _cache(generator):
    """C14: texts of a network without time, with and without evaluating it again when nothing has changed."""
    graph, noise = Absorbing(27), LogLinearNoise()
    network = Transformer(graph.states, width=32, heads=4, blocks=2, condition=0, seed=1).eval()
    torch.nn.init.normal_(network.head.weight, generator=generator)
    written = [
        sample(
            Denoiser(network, graph), graph, noise, (64, 16), steps=48, cached=cached,
            generator=torch.Generator().manual_seed(3),
        )
        for cached in (False, True)
    ]  # fmt: skip
    return {
        "cache_differences": int((written[0].tokens != written[1].tokens).sum()),
        "cache_evaluations": np.array([each.evaluations.double().mean().item() for each in written]),
    }


@experiment(seeds="one_seed")
def oracle_samplers(config, *, seed, device):
    """C11: texts written with the exact scores of a bigram chain, by both methods, for both graphs."""
    text = load(config.text, split="train", characters=config.judge_characters)
    pairs = torch.from_numpy(bigram_distribution(text.ids)) + 1e-9
    chain = pairs / pairs.sum(1, keepdim=True)
    found, names = {}, []
    for (graph_name, graph), (noise_name, noise) in product(GRAPHS.items(), NOISES.items()):
        if (graph_name, noise_name) == ("uniform", "log-linear"):
            continue  # geometric noise is that of the shipped configuration
        oracle = BigramOracle(_stationary(chain), chain, graph(27))
        for method in ("tweedie", "euler"):
            names.append(f"{graph_name}, {noise_name}, {method}")
            # For masks and log-linear noise both methods are one: a few numbers of steps show it.
            most = 8 if noise_name == "log-linear" else max(config.oracle_steps)
            rows = [
                _written(config, oracle, noise, steps, method, seed) if steps <= most else (np.nan,) * 3
                for steps in config.oracle_steps
            ]
            found[names[-1]] = np.array(rows)
    bigrams = (_stationary(chain)[:, None] * chain).numpy()
    own = oracle.sample((config.oracle_sequences, config.oracle_length), torch.Generator().manual_seed(seed))
    return {
        "samplers": np.array(names),
        "distances": np.stack([found[name][:, 0] for name in names]),
        "bits": np.stack([found[name][:, 1] for name in names]),
        "bits_error": np.stack([found[name][:, 2] for name in names]),
        "floor": bigram_total_variation(own.numpy().astype(np.uint8), bigrams),
        "entropy": float(oracle.entropy(config.oracle_length)) / (config.oracle_length * np.log(2)),
        "steps": np.array(config.oracle_steps),
    }


def _stationary(chain):
    distribution = torch.full((len(chain),), 1 / len(chain), dtype=torch.float64)
    for _ in range(200):
        distribution = distribution @ chain
    return distribution


def _written(config, oracle, noise, steps, method, seed):
    """Distance of bigrams, mean bits per token under the chain, and their standard error."""
    written = sample(
        oracle, oracle.graph, noise, (config.oracle_sequences, config.oracle_length), steps=steps,
        method=method, generator=torch.Generator().manual_seed(seed),
    ).tokens  # fmt: skip
    bigrams = (oracle.initial[:, None] * oracle.transitions).numpy()
    bits = oracle.nats(written) / (config.oracle_length * np.log(2))
    distance = bigram_total_variation(written.numpy().astype(np.uint8), bigrams)
    return distance, bits.mean().item(), (bits.std() / len(bits) ** 0.5).item()

"""What the chapter computes without training: identities over all short texts, and samplers with exact scores."""

from functools import partial
from itertools import product

import numpy as np
import torch

from loupe.data import load
from loupe.diffusion import discrete
from loupe.experiment import experiment
from loupe.experiment.results import columns
from loupe.metrics import bigram_distribution, bigram_total_variation
from loupe.networks.transformer import Transformer

GRAPHS = {"absorbing": discrete.Absorbing, "uniform": discrete.Uniform}
NOISES = {"log-linear": discrete.LogLinearNoise(), "geometric": discrete.GeometricNoise()}
SAMPLERS = ("tweedie", "euler")
CHAINS = (("absorbing", "log-linear"), ("absorbing", "geometric"), ("uniform", "geometric"))
STEP_TIMES = ((0.9, 0.7), (0.6, 0.5), (0.3, 0.1))
NODES = {"nodes": 16, "pieces": 6}  # of the integral: enough for 1e-11
SAMPLER_STEPS = (1, 2, 4, 8, 16, 32)
MASKS = (discrete.Absorbing(27), NOISES["log-linear"])


@experiment(seeds="one_seed")
def identities(config, *, seed, device):
    """C2, C3, C4 and C14 on random distributions over all texts of four tokens."""
    generator, rows = torch.Generator().manual_seed(seed), []
    for _, graph in product(range(config.toy_problems), GRAPHS.values()):
        rows.append(_identities_of(_random_toy(graph, generator), generator))
    shape = (config.toy_problems, len(GRAPHS), -1)
    found = {name: values.reshape(shape) for name, values in columns(rows).items()}
    return found | {"graphs": np.array(list(GRAPHS))} | _two_losses(generator) | _cache(generator)


def _random_toy(graph, generator):
    """All texts of four tokens out of three, far from equally likely: logarithms are normal with deviation 2."""
    weights = (2 * torch.randn((3,) * 4, generator=generator, dtype=torch.float64)).exp()
    return discrete.Enumeration(weights / weights.sum(), graph(3))


def _identities_of(toy, generator):
    total = 0.5
    table = toy.table(toy, total)
    guess = (table + torch.randn(table.shape, generator=generator, dtype=torch.float64)).requires_grad_()

    def gradient(objective, noise):  # not of the tokens themselves, nor of moves that never happen
        return torch.autograd.grad(objective(guess, noise), guess)[0]

    explicit, forms = (
        gradient(toy.explicit_objective, total),
        (toy.implicit_objective, toy.denoising_objective),
    )
    errors, others = (  # others: the control, ratios of other noise
        [(gradient(form, noise) - explicit).abs().max().item() for form in forms]
        for noise in (total, 2 * total)
    )

    start, end = 1e-6, 12.0
    truth = toy.path(toy, start, end, **NODES)
    gap = truth - (toy.divergence_from_marginal(start) - toy.divergence_from_marginal(end))
    shift = torch.randn(toy.length, toy.graph.states, generator=generator, dtype=torch.float64)
    wrong = toy.path(lambda x, noise: toy(x, noise) + 0.5 * shift, start, end, **NODES)

    steps = [(toy, noise, *times) for noise, times in product(NOISES.values(), STEP_TIMES)]
    error, control = (max(toy.token_error(*one, method).item() for one in steps) for method in SAMPLERS)
    tweedie, euler = ([toy.step_divergence(*one, method).item() for one in steps] for method in SAMPLERS)
    samplers, noise = product(SAMPLERS, SAMPLER_STEPS), NOISES["geometric"]
    ends = (toy.sampler_distribution(toy, noise, n, method) for method, n in samplers)
    return {
        "gradient_errors": errors, "gradient_control": others, "identity_error": gap.abs().max().item(),
        # On average over texts: a single one may be more likely under a wrong model.
        "excess": (toy.distribution.flatten() * (wrong - truth)).sum().item(),
        "nats": -toy.distribution.flatten().log().numpy(),
        "bound_true": (truth + toy.divergence_from_marginal(end)).numpy(),
        "bound_wrong": (wrong + toy.divergence_from_marginal(end)).numpy(),
        "marginal_error": error, "marginal_control": control, "tweedie": tweedie, "euler": euler,
        "sampler_distances": [discrete.total_variation(each, toy.distribution).item() for each in ends],
    }  # fmt: skip


def _random_network(generator, condition):
    network = Transformer(28, width=32, heads=4, blocks=2, condition=condition, seed=1).eval()
    torch.nn.init.normal_(network.head.weight, generator=generator)
    return network


def _two_losses(generator):
    """C14: score entropy and masked cross-entropy of one denoiser on the same draws, in float32."""
    network = _random_network(generator, condition=16)
    x0 = torch.randint(27, (256, 32), generator=generator)

    def loss(objective, wrap):
        draws = torch.Generator().manual_seed(2)
        times = discrete.training_times(len(x0), draws)
        with torch.no_grad():
            return objective(wrap(network, MASKS[0]), x0, *MASKS, times, draws)

    expected = loss(discrete.masked_cross_entropy, discrete.Denoiser)
    found = {"loss_gap": discrete.Denoiser, "loss_gap_control": discrete.ScoreNetwork}  # control: no softmax
    gaps = {name: (loss(discrete.score_entropy_loss, wrap) - expected).abs() for name, wrap in found.items()}
    return {name: (gap / expected.abs().clamp_min(1)).max().item() for name, gap in gaps.items()}


def _cache(generator):
    """C14: texts of a network without time, with and without evaluating it again when nothing has changed."""
    score = discrete.Denoiser(_random_network(generator, condition=0), MASKS[0])

    def write(cached):
        generator = torch.Generator().manual_seed(3)
        return discrete.sample(score, *MASKS, (64, 16), steps=48, cached=cached, generator=generator)

    plain, cached = write(False), write(True)
    differences = int((plain.tokens != cached.tokens).sum())
    evaluations = np.array([one.evaluations.double().mean().item() for one in (plain, cached)])
    return {"cache_differences": differences, "cache_evaluations": evaluations}


@experiment(seeds="one_seed")
def oracle_samplers(config, *, seed, device):
    """C11: texts written with the exact scores of a bigram chain, by both methods, for both graphs."""
    text = load(config.text, split="train", characters=config.judge_characters)
    initial, transitions = discrete.stationary_chain(bigram_distribution(text.ids) + 1e-9)
    pairs = (initial[:, None] * transitions).numpy()
    rows = []
    for (graph, noise), method in product(CHAINS, SAMPLERS):
        oracle = discrete.BigramOracle(initial, transitions, GRAPHS[graph](27))
        # For masks and log-linear noise both methods are one: a few numbers of steps show it.
        most = 8 if noise == "log-linear" else np.inf
        run = partial(_written, config, oracle, NOISES[noise], method, seed)
        each = np.transpose([run(n) if n <= most else [np.nan] * 3 for n in config.oracle_steps])
        found = dict(zip(("distances", "bits", "bits_error"), each, strict=True))
        rows.append({"samplers": f"{graph}, {noise}, {method}"} | found)
    own = oracle.sample((config.oracle_sequences, config.oracle_length), torch.Generator().manual_seed(seed))
    entropy = float(oracle.entropy(config.oracle_length)) / (config.oracle_length * np.log(2))
    floor, steps = bigram_total_variation(own.numpy(), pairs), np.array(config.oracle_steps)
    return columns(rows) | {"floor": floor, "entropy": entropy, "steps": steps}


def _written(config, oracle, noise, method, seed, steps):
    """Distance of bigrams, mean bits per token under the chain, and their standard error."""
    shape, generator = (config.oracle_sequences, config.oracle_length), torch.Generator().manual_seed(seed)
    options = {"steps": steps, "method": method, "generator": generator}
    written = discrete.sample(oracle, oracle.graph, noise, shape, **options).tokens
    bits = oracle.nats(written) / (config.oracle_length * np.log(2))
    distance = bigram_total_variation(written.numpy(), (oracle.initial[:, None] * oracle.transitions).numpy())
    return distance, bits.mean().item(), (bits.std() / len(bits) ** 0.5).item()

"""What the chapter computes without training: identities over all short texts, and samplers with exact scores."""

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
METHODS = ("tweedie", "euler")
CHAINS = (
    ("absorbing", "log-linear"),
    ("absorbing", "geometric"),
    ("uniform", "geometric"),
)  # as released, and more
TOY = (3, 4)  # tokens, length
STEP_TIMES = ((0.9, 0.7), (0.6, 0.5), (0.3, 0.1))
NODES = {"nodes": 16, "pieces": 6}  # of the integral: enough for 1e-11
SAMPLER_STEPS = (1, 2, 4, 8, 16, 32)
MASKS = (discrete.Absorbing(27), NOISES["log-linear"])


@experiment(seeds="one_seed")
def identities(config, *, seed, device):
    """C2, C3, C4 and C14 on random distributions over all texts of four tokens."""
    generator, shape = torch.Generator().manual_seed(seed), (config.toy_problems, len(GRAPHS), -1)
    found = columns(
        _identities_of(discrete.Enumeration(_random_distribution(generator), graph(TOY[0])), generator)
        for _ in range(config.toy_problems)
        for graph in GRAPHS.values()
    )
    found = {name: values.reshape(shape) for name, values in found.items()}
    return found | {"graphs": np.array(list(GRAPHS))} | _two_losses(generator) | _cache(generator)


def _random_distribution(generator):
    """Far from uniform: logarithms are normal with deviation 2."""
    weights = torch.randn((TOY[0],) * TOY[1], generator=generator, dtype=torch.float64)
    return (2 * weights).exp() / (2 * weights).exp().sum()


def _identities_of(toy, generator):
    total = 0.5
    table = toy.table(toy, total)
    guess = (table + torch.randn(table.shape, generator=generator, dtype=torch.float64)).requires_grad_()

    def gradient(objective, noise):  # not of the tokens themselves, nor of moves that never happen
        return torch.autograd.grad(objective(guess, noise), guess)[0]

    explicit = gradient(toy.explicit_objective, total)
    # The control: ratios of other noise.
    forms = (toy.implicit_objective, toy.denoising_objective)
    errors, control = (
        [(gradient(form, noise) - explicit).abs().max().item() for form in forms]
        for noise in (total, 2 * total)
    )

    start, end = 1e-6, 12.0
    truth = toy.path(toy, start, end, **NODES)
    gap = truth - (toy.divergence_from_marginal(start) - toy.divergence_from_marginal(end))
    shift = torch.randn(toy.length, toy.graph.states, generator=generator, dtype=torch.float64)
    wrong = toy.path(lambda x, noise: toy(x, noise) + 0.5 * shift, start, end, **NODES)

    steps = list(product(NOISES.values(), STEP_TIMES))
    ends = [
        toy.sampler_distribution(toy, NOISES["geometric"], n, method)
        for method in METHODS
        for n in SAMPLER_STEPS
    ]
    return {
        "gradient_errors": errors,
        "gradient_control": control,
        "identity_error": gap.abs().max().item(),
        # On average over texts: a single one may be more likely under a wrong model.
        "excess": (toy.distribution.flatten() * (wrong - truth)).sum().item(),
        "nats": -toy.distribution.flatten().log().numpy(),
        "bound_true": (truth + toy.divergence_from_marginal(end)).numpy(),
        "bound_wrong": (wrong + toy.divergence_from_marginal(end)).numpy(),
        "marginal_error": max(_marginal_error(toy, *one, "tweedie") for one in steps),
        "marginal_control": max(_marginal_error(toy, *one, "euler") for one in steps),
        **{
            method: [toy.step_divergence(toy, noise, *times, method=method).item() for noise, times in steps]
            for method in METHODS
        },
        "sampler_distances": [discrete.total_variation(each, toy.distribution).item() for each in ends],
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


def _random_network(generator, condition):
    network = Transformer(28, width=32, heads=4, blocks=2, condition=condition, seed=1).eval()
    torch.nn.init.normal_(network.head.weight, generator=generator)
    return network


def _two_losses(generator):
    """C14: score entropy and masked cross-entropy of one denoiser on the same draws, in float32."""
    network = _random_network(generator, condition=16)
    x0 = torch.randint(27, (256, 32), generator=generator)

    def loss(of, wrap):
        draws = torch.Generator().manual_seed(2)
        times = discrete.training_times(len(x0), draws)
        return of(wrap(network, MASKS[0]), x0, *MASKS, times, draws)

    with torch.no_grad():
        expected = loss(discrete.masked_cross_entropy, discrete.Denoiser)
        # The control: the same network without a softmax.
        found = [
            loss(discrete.score_entropy_loss, wrap) for wrap in (discrete.Denoiser, discrete.ScoreNetwork)
        ]
    gaps = [((each - expected).abs() / expected.abs().clamp_min(1)).max().item() for each in found]
    return dict(zip(("loss_gap", "loss_gap_control"), gaps, strict=True))


def _cache(generator):
    """C14: texts of a network without time, with and without evaluating it again when nothing has changed."""
    score = discrete.Denoiser(_random_network(generator, condition=0), MASKS[0])
    written = [
        discrete.sample(
            score, *MASKS, (64, 16), steps=48, cached=cached, generator=torch.Generator().manual_seed(3)
        )
        for cached in (False, True)
    ]
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
    initial = torch.full((27,), 1 / 27, dtype=torch.float64)
    for _ in range(200):  # to the stationary distribution
        initial = initial @ chain
    names, rows = [], []
    for (graph, noise), method in product(CHAINS, METHODS):
        oracle = discrete.BigramOracle(initial, chain, GRAPHS[graph](27))
        # For masks and log-linear noise both methods are one: a few numbers of steps show it.
        most = 8 if noise == "log-linear" else max(config.oracle_steps)
        names.append(f"{graph}, {noise}, {method}")
        rows.append([
            _written(config, oracle, NOISES[noise], n, method, seed) if n <= most else [np.nan] * 3
            for n in config.oracle_steps
        ])  # fmt: skip
    own = oracle.sample((config.oracle_sequences, config.oracle_length), torch.Generator().manual_seed(seed))
    distances, bits, errors = np.moveaxis(rows, -1, 0).copy()
    return {
        "samplers": np.array(names), "distances": distances, "bits": bits, "bits_error": errors,
        "floor": bigram_total_variation(_stored(own), (initial[:, None] * chain).numpy()),
        "entropy": float(oracle.entropy(config.oracle_length)) / (config.oracle_length * np.log(2)),
        "steps": np.array(config.oracle_steps),
    }  # fmt: skip


def _written(config, oracle, noise, steps, method, seed):
    """Distance of bigrams, mean bits per token under the chain, and their standard error."""
    shape, generator = (config.oracle_sequences, config.oracle_length), torch.Generator().manual_seed(seed)
    options = {"steps": steps, "method": method, "generator": generator}
    written = discrete.sample(oracle, oracle.graph, noise, shape, **options).tokens
    bits = oracle.nats(written) / (config.oracle_length * np.log(2))
    bigrams = (oracle.initial[:, None] * oracle.transitions).numpy()
    distance = bigram_total_variation(_stored(written), bigrams)
    return distance, bits.mean().item(), (bits.std() / len(bits) ** 0.5).item()


def _stored(tokens):
    return tokens.numpy().astype(np.uint8)

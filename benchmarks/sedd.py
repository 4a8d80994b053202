"""Discrete diffusion on one thread: score entropy, sampling steps, training steps, evaluations of a network.

    python benchmarks/sedd.py [--quick] [--json FILE]

CPU milliseconds in float32 unless stated, compared with reimplementations of the published functions and a plain causal
transformer. Nothing is timed before its values, gradients or probabilities agree with the others'.
"""

import math
import statistics
import time
from functools import partial
from itertools import pairwise

import torch
from measuring import (
    PEAKS,
    command_line,
    environment,
    in_fresh_process,
    keep_memory,
    matmul_rates,
    milliseconds,
    name_of,
    peak_bytes,
    publish,
    table,
    wide_console,
    with_tasks,
)
from peers.sedd import (
    PlainGPT,
    absorbing_score_entropy,
    analytic_last_step,
    analytic_probabilities,
    analytic_step,
    uniform_score_entropy,
)
from torch import nn

from loupe.diffusion.discrete import (
    Absorbing,
    Denoiser,
    GeometricNoise,
    LogLinearNoise,
    ScoreNetwork,
    Uniform,
    autoregressive_nats,
    sample,
    score_entropy_loss,
    training_times,
)
from loupe.diffusion.discrete.samplers import LAST_TIME
from loupe.networks.transformer import Transformer

PACKAGES = ("torch", "loupe")
LENGTH = 64
WORDS, CHARACTERS = 50_257, 27
LOSSES = (  # graph, tokens, sequences, which tokens are masked
    ("absorbing", WORDS, 2, "spread times"),
    ("absorbing", WORDS, 2, "all"),
    ("uniform", WORDS, 2, "spread times"),
    ("absorbing", CHARACTERS, 32, "spread times"),
    ("absorbing", CHARACTERS, 32, "all"),
    ("uniform", CHARACTERS, 32, "spread times"),
)
CHAINS = {"absorbing": (Absorbing, LogLinearNoise()), "uniform": (Uniform, GeometricNoise())}
VALUE_ERROR, GRADIENT_ERROR = 1e-5, 1e-5  # of the size of all values together, of the gradient's length
GRID = 64  # steps of the sampler
MASKED = (1.0, 0.5, 0.05, 0.0)  # shares of tokens
TRAINED = {"width": 128, "heads": 4, "blocks": 4}
BATCH, TRAINED_LENGTH = 16, 128
PRODUCTS = {  # whose rates are measured: a large one, and one of a block's shape
    "1024": (1024, 1024, 1024),
    "block": (BATCH * TRAINED_LENGTH, TRAINED["width"], 4 * TRAINED["width"]),
}
STEPS = (16, 32, 64, 128, 256, 512, 1024)

OURS, RESTATED = "loupe", "re-statement"


def random_numbers(seed=0):
    """A generator of its own for each task."""
    return torch.Generator().manual_seed(seed)


def loss_problem(kind, tokens, count, masked, dtype=torch.float32):
    """Graph, log-score, total noise, tokens, tokens as they were; and rates as the cotangent."""
    graph, noise = CHAINS[kind][0](tokens), CHAINS[kind][1]
    generator = random_numbers()
    total, rate = noise((torch.arange(count) + 0.5) / count)  # in the middle of stratified intervals
    x0 = torch.randint(tokens, (count, LENGTH), generator=generator)
    x = graph.limit(x0.shape) if masked == "all" else graph.corrupt(x0, total, generator)
    log_score = torch.randn(count, LENGTH, graph.states, generator=generator)
    if kind == "absorbing":  # scores of about the right size
        log_score -= (math.log(tokens) + total.expm1().log()).view(-1, 1, 1).float()
    log_score = log_score.scatter(-1, x.unsqueeze(-1), 0).to(dtype).requires_grad_()
    return graph, log_score, total, x, x0, rate.unsqueeze(-1).expand(x.shape).to(dtype)


def loss_methods(kind, graph, total):
    """Functions of (log_score, x, x0)."""
    restated = {"absorbing": absorbing_score_entropy, "uniform": uniform_score_entropy}[kind]
    return {
        OURS: lambda scores, x, x0: graph.score_entropy(scores, total, x, x0),
        # Its constants in the digits of the scores, as published.
        RESTATED: lambda scores, x, x0: restated(scores, total.to(scores).unsqueeze(-1), x, x0),
    }


def both_ways(method, problem):
    """Values and the gradient."""
    _, log_score, _, x, x0, cotangent = problem
    values = method(log_score, x, x0)
    return values.detach(), torch.autograd.grad(values, log_score, cotangent)[0]


def loss_rows(losses, rounds):
    """Score entropy forward and backward."""
    for kind, tokens, count, masked in losses:
        exact = loss_problem(kind, tokens, count, masked, torch.float64)
        right, slope = both_ways(loss_methods(kind, exact[0], exact[2])[RESTATED], exact)
        del exact
        problem = loss_problem(kind, tokens, count, masked)
        graph, _, total, x, x0, _ = problem
        methods, errors = loss_methods(kind, graph, total), {}
        for name, run in methods.items():
            values, gradient = both_ways(run, problem)
            errors[name] = relative(values, right), relative(gradient, slope)
            assert errors[name][0] < VALUE_ERROR, f"{kind}, {name}: values are off by {errors[name][0]:.1e}"
            assert errors[name][1] < GRADIENT_ERROR, f"{kind}, {name}: gradient off by {errors[name][1]:.1e}"
            del values, gradient
        del slope
        forward, backward, exponential = loss_times(methods, problem, rounds)
        ours = forward[OURS] + backward[OURS]
        for name in methods:
            both = forward[name] + backward[name]
            yield {
                "graph": kind,
                "sequences, length, states": [count, LENGTH, graph.states],
                "lost": masked,
                "lost tokens, share": (x != x0).double().mean().item(),
                "method": name,
                "forward, ms": forward[name],
                "backward, ms": backward[name],
                "both, ms": both,
                "times ours": both / ours,
                "exponentials": both / exponential,
                "error of values": errors[name][0],
                "error of gradient": errors[name][1],
            }


def loss_times(methods, problem, rounds):
    """Milliseconds of each method forward and backward, and of the exponential of every score alone.

    All take turns: a busy moment hits all alike.
    """
    _, log_score, _, x, x0, cotangent = problem
    scores, out = log_score.detach(), torch.empty_like(log_score, requires_grad=False)
    runs = {"exp": lambda: torch.exp(scores, out=out)}
    for name, run in methods.items():
        runs[name, "forward"] = lambda run=run: run(log_score, x, x0)
        # A backward pass needs a forward pass of its own: what that keeps is used up.
        runs[name, "both"] = lambda run=run: torch.autograd.grad(run(log_score, x, x0), log_score, cotangent)
    times = milliseconds(runs, rounds)
    forward = {name: times[name, "forward"] for name in methods}
    backward = {name: times[name, "both"] - times[name, "forward"] for name in methods}
    return forward, backward, times["exp"]


def relative(found, right):
    """Length of the difference over the length of what is right."""
    return ((found - right).norm() / right.norm()).item()


def peak_memory(kind, tokens, count, masked, method):
    """Memory of a forward and a backward pass beyond their input, in score tensors, in this fresh process."""
    torch.set_num_threads(1)
    small = loss_problem(kind, 2000, 2, masked)
    both_ways(loss_methods(kind, small[0], small[2])[method], small)  # what is loaded once
    problem = loss_problem(kind, tokens, count, masked)
    run = loss_methods(kind, problem[0], problem[2])[method]
    return peak_bytes(partial(both_ways, run, problem)) / (problem[1].numel() * problem[1].element_size())


def add_memory(rows, losses):
    """Measure the peak memory of large cases, each in a process of its own."""
    if not PEAKS.exists():
        return
    for row in rows:
        case = next(
            one for one in losses if (one[0], one[3]) == (row["graph"], row["lost"]) and one[1] == WORDS
        )
        if row["sequences, length, states"][2] >= WORDS:
            row["peak, score tensors"] = in_fresh_process(peak_memory, *case, row["method"])


def step_problem(tokens, count, fraction, last):
    """Graph, normalized log-scores, tokens with a fraction masked, and the noise that the step takes away."""
    graph, noise, generator = Absorbing(tokens), LogLinearNoise(), random_numbers()
    k = GRID if last else min(round(GRID * (1 - fraction)), GRID - 1)
    times = torch.linspace(1, LAST_TIME, GRID + 1, dtype=torch.float64)
    total = noise(times)[0]
    logs = torch.randn(count, LENGTH, graph.states, generator=generator)
    logs = logs - logs[..., :tokens].logsumexp(-1, keepdim=True) - total[k].expm1().log().float()
    masked = torch.zeros(count * LENGTH, dtype=torch.bool)
    masked[torch.randperm(masked.numel(), generator=generator)[: round(fraction * masked.numel())]] = True
    kept = torch.randint(tokens, (count, LENGTH), generator=generator)
    x = torch.where(masked.view(count, LENGTH), graph.mask, kept)
    log_score = logs.scatter(-1, x.unsqueeze(-1), 0)
    return graph, log_score, x, (total[k] if last else total[k] - total[k + 1]).expand(count)


def step_methods(graph, log_score, x, step, last):
    """Functions that draw new tokens with a generator."""
    restated = analytic_last_step if last else analytic_step
    ours = graph.denoise if last else graph.advance
    methods = {OURS: lambda generator: ours(log_score, x, step, generator=generator)}
    for dtype in (torch.float32, torch.float64):
        methods[f"{RESTATED}, {name_of(dtype)}"] = lambda generator, dtype=dtype: restated(
            log_score, x, step.unsqueeze(-1), generator, dtype
        )
    return methods


def check_step(fraction):
    """Stop unless both methods have the same distribution: by probabilities, and by draws with few states."""
    graph, log_score, x, step = step_problem(CHARACTERS, 2, fraction, False)
    p = analytic_probabilities(log_score.double(), x, step.unsqueeze(-1))
    assert torch.allclose(graph.tweedie_probabilities(log_score, x, step), p, rtol=1e-9, atol=1e-12)
    repeats = 2000
    for last in (False, True):
        graph, log_score, x, step = step_problem(CHARACTERS, 1, 1.0, last)
        p = analytic_probabilities(log_score.double(), x, step.unsqueeze(-1))
        p = graph.denoise_probabilities(log_score, x, step) if last else p
        many = log_score.expand(repeats, -1, -1), x.expand(repeats, -1), step.expand(repeats)
        for name, run in step_methods(graph, *many, last).items():
            drawn = run(random_numbers(1))
            count = nn.functional.one_hot(drawn, graph.states).double().sum(0)
            expected = repeats * p.flatten(0, -2)
            possible = expected > 0
            assert not count[~possible].any(), f"{name}: drew what cannot be"
            excess = ((count - expected)[possible].square() / expected[possible]).mean().item()
            assert 0.8 < excess < 1.2, f"{name}: {excess:.2f} times the variance of its distribution"


def step_times(methods, rounds):
    """Milliseconds of each method, all with one generator."""
    generator = random_numbers()
    return milliseconds({name: lambda run=run: run(generator) for name, run in methods.items()}, rounds)


def step_rows(tokens, count, rounds):
    """One step of the sampler, with scores given."""
    check_step(0.5)
    for last, fractions in ((False, MASKED), (True, (1.0, 0.05))):
        for fraction in fractions:
            problem = step_problem(tokens, count, fraction, last)
            methods = step_methods(*problem, last)
            for name, run in methods.items():
                x = problem[2]
                moved = run(random_numbers(1))
                stays = x != problem[0].mask
                assert torch.equal(moved[stays], x[stays]), f"{name}: a token changed that was no mask"
                assert not last or (moved < tokens).all(), f"{name}: a mask is left"
            times = step_times(methods, rounds)
            for name, found in times.items():
                yield {
                    "step": "last" if last else f"one of {GRID}",
                    "masked tokens": int((problem[2] == problem[0].mask).sum()),
                    "of": problem[2].numel(),
                    "method": name,
                    "ms": found,
                    "times ours": found / times[OURS],
                }


def same_gradients(one, other):
    """Relative difference of the gradients of two networks alike."""
    pairs = zip(one.parameters(), other.parameters(), strict=True)
    found, right = zip(*[(a.grad.flatten(), b.grad.flatten()) for a, b in pairs], strict=True)
    return relative(torch.cat(found), torch.cat(right))


class Restated(nn.Module):
    """Stands in for a graph: corrupts as it does, and has the re-stated loss."""

    def __init__(self, graph):
        super().__init__()
        self.corrupt = graph.corrupt

    def score_entropy(self, log_score, total_noise, x, x0):
        return absorbing_score_entropy(log_score, total_noise.to(log_score).unsqueeze(-1), x, x0)


def training_methods():
    """Networks, and their losses in nats a token as functions of (batch, generator)."""
    graph, noise = Absorbing(CHARACTERS), LogLinearNoise()

    def diffusion(loss_graph):
        network = Transformer(graph.states, condition=64, **TRAINED)
        generator = random_numbers()
        with torch.no_grad():  # away from 0, where most gradients are 0
            for part in (network.head.weight, *[block.modulation.linear.weight for block in network.blocks]):
                part.normal_(std=0.1, generator=generator)
        model = ScoreNetwork(network, graph)

        def loss(x0, generator):
            times = training_times(len(x0), generator)
            return score_entropy_loss(model, x0, loss_graph, noise, times, generator).mean() / x0.shape[1]

        return model, loss

    def causal(network, nats):
        return network, lambda x0, generator: nats(x0).mean()

    ours = Transformer(graph.states, condition=0, causal=True, **TRAINED)
    torch.manual_seed(0)
    deep, shallow = (
        PlainGPT(graph.states, length=TRAINED_LENGTH, **TRAINED | {"blocks": blocks})
        for blocks in (TRAINED["blocks"] + 1, TRAINED["blocks"])
    )
    return {
        OURS: diffusion(graph),
        f"{OURS}, {RESTATED} of the loss": diffusion(Restated(graph)),
        f"{OURS}, causal": causal(ours, lambda x0: autoregressive_nats(ours, x0, CHARACTERS)),
        "plain GPT of as many parameters": causal(deep, deep.nats),
        "plain GPT of as many blocks": causal(shallow, shallow.nats),
    }


def model_flops(network, count, length):
    """Floating-point operations of a step: 6 for each weight that meets a token, and those of attention.

    Weights of the noise meet a sequence only; of embeddings none is multiplied. Causal attention needs half
    of all pairs.
    """
    total = 0
    for name, part in network.named_modules():
        if isinstance(part, nn.Linear):
            times = count if "modulation" in name or "noise" in name else count * length
            total += 6 * part.weight.numel() * times
    blocks = next(part for part in network.modules() if hasattr(part, "blocks")).blocks
    causal = getattr(blocks[0], "causal", True)
    pairs = count * length**2 / (2 if causal else 1)
    return total + 12 * len(blocks) * TRAINED["width"] * pairs


def training_rows(batch, length, rounds):
    """Training steps: forward, loss, backward and AdamW."""
    methods = training_methods()
    x0 = torch.randint(CHARACTERS, (batch, length), generator=random_numbers())
    for _, loss in methods.values():  # the same random numbers for all
        loss(x0, random_numbers(1)).backward()
    names = list(methods)
    one, other = (methods[name][0] for name in names[:2])
    difference = same_gradients(one, other)
    assert difference < GRADIENT_ERROR, f"the re-stated loss has other gradients, by {difference:.1e}"
    sizes = {name: sum(one.numel() for one in network.parameters()) for name, (network, _) in methods.items()}
    assert abs(sizes["plain GPT of as many parameters"] / sizes[OURS] - 1) < 0.03
    runs = {}
    for name, (network, loss) in methods.items():
        runs[name] = training_step(network, loss, x0)
        runs[name]()  # the optimizer's memory
    found = {name: [] for name in names}
    for _ in range(rounds):
        for name in names:
            found[name].append(runs[name]())
    rates = matmul_rates(PRODUCTS, rounds)
    usual = statistics.median(sum(phases) for phases in found["plain GPT of as many parameters"])
    for name in names:
        network = methods[name][0]
        whole = statistics.median(sum(phases) for phases in found[name])
        speed = model_flops(network, batch, length) / whole / 1e6
        steps = [statistics.median(times) for times in zip(*found[name], strict=True)]
        yield {
            "method": name,
            "parameters": sizes[name],
            **dict(zip(PHASES, steps, strict=True)),
            "step, ms": whole,
            "times plain GPT": whole / usual,
            "tokens a second": 1e3 * batch * length / whole,
            "GFLOP/s": speed,
            "of a large product": speed / rates["1024"],
            "of a block's product": speed / rates["block"],
        }


PHASES = ("forward and loss, ms", "backward, ms", "AdamW, ms")


def training_step(network, loss, x0):
    """A function that makes one step: CPU milliseconds of its phases."""
    optimizer, generator = torch.optim.AdamW(network.parameters(), lr=1e-3), random_numbers(2)

    def step():
        marks = [time.process_time()]
        nats = loss(x0, generator)
        marks.append(time.process_time())
        nats.backward()
        marks.append(time.process_time())
        optimizer.step()
        optimizer.zero_grad()
        marks.append(time.process_time())
        return [1e3 * (b - a) for a, b in pairwise(marks)]

    return step


class Flat(nn.Module):
    """A uniform score without noise input: when tokens change does not depend on what they become."""

    condition = 0

    def forward(self, x, noise=None):
        return torch.zeros(*x.shape, CHARACTERS + 1)


def evaluation_rows(steps, count):
    """Evaluations of a network for each sample, with the cache and without."""
    graph, noise = Absorbing(CHARACTERS), LogLinearNoise()
    for n in steps:
        found = {}
        for cached in (False, True):
            drawn = sample(
                Denoiser(Flat(), graph),
                graph,
                noise,
                (count, LENGTH),
                steps=n,
                cached=cached,
                generator=random_numbers(),
            )
            found[cached] = drawn.evaluations.double()
            assert (drawn.tokens < graph.tokens).all()
        mean, error = found[True].mean().item(), found[True].std().item() / count**0.5
        expected = n * (1 - (1 - 1 / n) ** LENGTH)
        assert abs(mean - expected) < 5 * error, f"{n} steps: {mean:.2f} evaluations, not {expected:.2f}"
        yield {
            "steps n": n,
            "without cache": found[False].mean().item(),
            "with cache": mean,
            "standard error": error,
            "n (1 - (1 - 1/n)^L)": expected,
            "min(n, L)": min(n, LENGTH),
            "saved, times": found[False].mean().item() / mean,
        }


def main(arguments=None):
    options = command_line(__doc__, arguments)
    torch.set_num_threads(1)
    kept = keep_memory()
    rounds = 1 if options.quick else 9
    losses = LOSSES[3:] if options.quick else LOSSES
    entropies = list(loss_rows(losses, rounds))
    if not options.quick:
        add_memory(entropies, losses)
    tables = {
        "Score entropy": entropies,
        "One step of the absorbing sampler": list(
            step_rows(*((CHARACTERS, 2) if options.quick else (WORDS, 2)), rounds)
        ),
        "A training step": list(
            training_rows(
                *((2, 16) if options.quick else (BATCH, TRAINED_LENGTH)), 2 if options.quick else 25
            )
        ),
        "Evaluations of the network for a sample": list(
            evaluation_rows(STEPS[:2] if options.quick else STEPS, 200)
        ),
    }
    console = wide_console()
    for title, rows in tables.items():
        console.print(table(f"{title}: CPU time, one thread, medians", rows))
    rates = matmul_rates(PRODUCTS, rounds)
    about = environment(PACKAGES, kept=kept, others={"matrix product, GFLOP/s": rates})
    publish(console, about, with_tasks(tables), options.json)


if __name__ == "__main__":
    main()

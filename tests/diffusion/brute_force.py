"""Diffusion of tokens by definition: matrix exponentials, products of matrices over whole sequences, loops over states.

Matrices have the paper's orientation: ``Q[y, x]`` is the rate from x to y, columns sum to 0. Nothing of the library's
formulas is used but the graphs' numbers of tokens and states.
"""

import itertools
import math
from functools import reduce

import torch

from loupe.diffusion.discrete import Absorbing


def rate_matrix(graph):
    """``Q[y, x]``."""
    n = graph.states
    Q = -torch.eye(n, dtype=torch.float64)
    if isinstance(graph, Absorbing):
        Q[n - 1, :] += 1
        return Q
    return Q + 1 / n


def kernel(graph, noise):
    """``exp(noise Q)[y, x]``."""
    return torch.matrix_exp(float(noise) * rate_matrix(graph))


def sequences(states, length):
    """All of them, in the order of the Kronecker product."""
    return list(itertools.product(range(states), repeat=length))


def kron(matrices):
    return reduce(torch.kron, matrices)


def embedded(distribution, graph):
    """A distribution ``(N,) * d`` of clean sequences as one ``(states**d,)`` of all."""
    whole = torch.zeros((graph.states,) * distribution.dim(), dtype=torch.float64)
    whole[(slice(graph.tokens),) * distribution.dim()] = distribution
    return whole.flatten()


def marginal(distribution, graph, noise):
    """``p_t (states**d,)``."""
    return kron([kernel(graph, noise)] * distribution.dim()) @ embedded(distribution, graph)


def log_scores(p, states, length):
    """The table (states**d, d, states) of ``log p(x with y at i) - log p(x)``."""
    number = {x: k for k, x in enumerate(sequences(states, length))}
    table = torch.zeros(len(p), length, states, dtype=torch.float64)
    for x, k in number.items():
        for i, y in itertools.product(range(length), range(states)):
            table[k, i, y] = math.log(p[number[(*x[:i], y, *x[i + 1 :])]]) - math.log(p[k])
    return table


def score_entropy(graph, log_score, noise, x, x0):
    """Of one token, with ratios from the matrix exponential."""
    Q, P = rate_matrix(graph), kernel(graph, noise)
    value = 0.0
    for y in range(graph.states):
        weight = Q[x, y].item()
        if y == x or weight == 0:
            continue
        r, s = (P[y, x0] / P[x, x0]).item(), math.exp(log_score[y].item())
        value += weight * (s - r * log_score[y].item() + (r * (math.log(r) - 1) if r > 0 else 0.0))
    return value


def step_probabilities(graph, log_score, x, step, method):
    """Of one token, clamped and normalized: ``(states,)``."""
    Q, n = rate_matrix(graph), graph.states
    s = log_score.double().exp().clone()
    s[x] = 1
    if method == "euler":
        rates = Q[x] * s
        rates[x] = 0
        rates[x] = -rates.sum()
        p = torch.eye(n, dtype=torch.float64)[x] + step * rates
    else:
        p = (torch.matrix_exp(-step * Q) @ s) * torch.matrix_exp(step * Q)[x]
    p = p.clamp_min(0)
    return p / p.sum()


def step_matrix(graph, table, step, method, *, last=False):
    """``M[x', x]`` of a step in which each token goes by itself."""
    length = table.shape[1]
    columns = []
    for k, x in enumerate(sequences(graph.states, length)):
        each = [step_probabilities(graph, table[k, i], x[i], step, method) for i in range(length)]
        if last:
            for p in each:
                p[graph.tokens :] = 0
                p /= p.sum()
        columns.append(kron(each))
    return torch.stack(columns, 1)


def sampler_distribution(distribution, graph, noise, steps, method, *, tables=None):
    """The distribution ``(N,) * d`` of a sampler with the true scores of a distribution, or with ``tables(total)``."""
    states, length = graph.states, distribution.dim()
    if tables is None:

        def tables(total):
            return log_scores(marginal(distribution, graph, total), states, length)

    one = torch.full((states,), 1 / states, dtype=torch.float64)
    if isinstance(graph, Absorbing):
        one = torch.eye(states, dtype=torch.float64)[-1]
    found = kron([one] * length)
    times = [1 - k * (1 - 1e-5) / steps for k in range(steps)] + [1e-5]
    for t, s in itertools.pairwise(times):
        (total, rate), later = noise(t), noise(s)[0]
        step = float(total - later) if method == "tweedie" else float(rate) * (t - s)
        found = step_matrix(graph, tables(float(total)), step, method) @ found
    total = float(noise(times[-1])[0])
    found = step_matrix(graph, tables(total), total, "tweedie", last=True) @ found
    return found.view((states,) * length)[(slice(graph.tokens),) * length]


def divergence(p, q):
    """KL(p || q) of vectors."""
    return sum(a * math.log(a / b) for a, b in zip(p.tolist(), q.tolist(), strict=True) if a > 0)


def total_variation(p, q):
    return 0.5 * (p - q).abs().sum().item()


def variation_floor(p, draws):
    """What the total variation of so many draws from p is by chance, on average."""
    return 0.5 * (2 * p * (1 - p) / (math.pi * draws)).sqrt().sum().item()


def random_distribution(tokens, length, seed=0):
    """Positive and far from independent."""
    generator = torch.Generator().manual_seed(seed)
    distribution = torch.rand((tokens,) * length, generator=generator, dtype=torch.float64) ** 3 + 1e-3
    return distribution / distribution.sum()

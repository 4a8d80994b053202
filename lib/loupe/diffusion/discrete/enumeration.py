"""Diffusion of sequences short enough to list them all: exact distributions, scores, bounds and samplers.

With N tokens (and a mask) and length d there are ``states**d`` sequences, numbered in lexicographic order. A
distribution over them is a tensor of shape (states**d,); a score at all of them is a *table* (states**d, d, states).
Everything is float64.

References
----------
.. [1] Lou, Meng and Ermon, Discrete Diffusion Modeling by Estimating the Ratios of the Data Distribution, 2024.
"""

import math
from functools import cached_property, reduce
from itertools import pairwise

import numpy as np
import torch
from torch.nn.functional import one_hot

from loupe.deprecation import renamed
from loupe.diffusion.discrete.samplers import LAST_TIME

MOST = 2**14
"""Largest number of sequences: transition tables have its square."""


@renamed(law="distribution", sampler_law="sampler_distribution")
class Enumeration:
    """All sequences of a length, a distribution of the clean ones, and its corruption by a graph.

    Called with tokens ``x (..., d)`` and total noise ``(...)``, it returns the true log-score ``(..., d, states)``, for
    samplers and for the bound. Where ``x`` has probability 0, the log-score is 0.

    Parameters
    ----------
    distribution : torch.Tensor, shape (N,) * d
        Distribution of the clean sequences.
    graph : Absorbing or Uniform

    Raises
    ------
    ValueError
        If the distribution is invalid, does not match the graph, or there are too many sequences.
    """

    def __init__(self, distribution, graph):
        distribution = torch.as_tensor(distribution).double()
        if distribution.dim() < 1 or set(distribution.shape) != {graph.tokens}:
            raise ValueError(
                f"the distribution of {graph} needs {graph.tokens} entries on each axis, got {tuple(distribution.shape)}"
            )
        if not (distribution.min() >= 0 and abs(distribution.sum().item() - 1) < 1e-6):
            raise ValueError(
                "a distribution must be at least 0 and sum to 1, "
                f"got {distribution.min().item():g} and {distribution.sum().item():g}"
            )
        if graph.states ** distribution.dim() > MOST:
            raise ValueError(
                f"{graph.states}**{distribution.dim()} sequences are too many to list: at most {MOST}, take fewer tokens"
            )
        self.distribution = distribution / distribution.sum()
        self.graph, self.length = graph, distribution.dim()

    @cached_property
    def sequences(self):
        """All corrupted sequences, shape (states**d, d), int64."""
        return _all_sequences(self.graph.states, self.length)

    @cached_property
    def clean(self):
        """All clean sequences, shape (N**d, d), int64."""
        return _all_sequences(self.graph.tokens, self.length)

    def index(self, x):
        """Indices of corrupted sequences ``x (..., d)``."""
        place = self.graph.states ** torch.arange(self.length - 1, -1, -1)
        return (x.long() * place).sum(-1)

    def kernel(self, total_noise):
        """Probabilities of the states of one token (columns) from each clean one (rows), shape (N, states)."""
        return self.graph.transition(torch.arange(self.graph.tokens), total_noise)

    def marginal(self, total_noise):
        """``p_t`` of all corrupted sequences, shape (states**d,)."""
        kernel, p = self.kernel(total_noise), self.distribution
        for _ in range(self.length):
            p = torch.tensordot(p, kernel, dims=([0], [0]))  # appends the first axis, corrupted
        return p.flatten()

    def conditional(self, total_noise):
        """``p(x_t | x0)``, shape (N**d, states**d)."""
        return _product(self.kernel(total_noise)[self.clean])

    def __call__(self, x, total_noise):
        noise = torch.as_tensor(total_noise, dtype=torch.float64).expand(x.shape[:-1]).flatten()
        levels, which = noise.unique(return_inverse=True)
        logs = (
            torch.stack([self.marginal(level).log() for level in levels]) if len(levels) else noise[:0, None]
        )
        flat = x.reshape(-1, self.length).long()
        place = self.graph.states ** torch.arange(self.length - 1, -1, -1)
        there = torch.arange(self.graph.states) - flat.unsqueeze(-1)
        index = self.index(flat)[:, None, None] + there * place[:, None]
        ratios = logs[which[:, None, None], index] - logs[which, self.index(flat)][:, None, None]
        ratios = ratios.masked_fill((logs[which, self.index(flat)] == -torch.inf)[:, None, None], 0)
        return ratios.view(*x.shape, self.graph.states)

    def table(self, score, total_noise):
        """Any score at all corrupted sequences, shape (states**d, d, states)."""
        x = self.sequences
        return score(x, torch.as_tensor(total_noise, dtype=torch.float64).expand(len(x))).double()

    # ---- the bound

    def divergence_from_marginal(self, total_noise):
        """``KL(p(x_t | x0) || p_t)`` for each clean sequence, shape (N**d,), in nats."""
        return divergence(self.conditional(total_noise), self.marginal(total_noise))

    def denoising_rate(self, table, total_noise):
        """The expectation in the denoising score entropy ([1], theorem 3.6) without the noise rate, for each x0.

        ``sum_x p(x | x0) sum_i sum_y Q(x_i, y) (s_y - r_y log s_y + r_y (log r_y - 1))`` with conditional ratios r.

        Parameters
        ----------
        table : torch.Tensor, shape (states**d, d, states)
            A log-score, differentiable.
        total_noise : float

        Returns
        -------
        torch.Tensor, shape (N**d,)
        """
        kernel = self.kernel(total_noise)
        ratios = kernel.unsqueeze(1) / kernel.unsqueeze(2)  # (x0, x, y)
        # Where x cannot come from x0, the value is multiplied by 0 below: it must be finite.
        ratios = torch.where(kernel.unsqueeze(2) > 0, ratios, 0)
        weights, x = self._weights(), self.sequences
        entropy = _score_entropy(table.unsqueeze(2), ratios.transpose(0, 1)[x], weights[x].unsqueeze(2))
        own = entropy.sum(-1)  # (x, i, x0_i)
        each = sum(own[:, i].index_select(1, self.clean[:, i]) for i in range(self.length))
        p = self.conditional(total_noise)
        return torch.where(p > 0, p * each.T, 0).sum(1)

    def path(self, score, start, end, *, noise=None, nodes=40, pieces=8):
        """Diffusion-weighted score entropy ([1], eq. 10) from start to end for each clean sequence, by Gauss-Legendre.

        Parameters
        ----------
        score : callable
        start, end : float
            Total noise above 0 (nodes lie on its logarithm); with ``noise``, times.
        noise : GeometricNoise or LogLinearNoise, optional
        nodes, pieces : int
            Nodes in each piece; number of equal pieces.

        Returns
        -------
        torch.Tensor, shape (N**d,)
        """
        if noise is not None:
            # An integral over time is one over total noise: the noise rate is its derivative.
            start, end = (noise(time)[0].item() for time in (start, end))
        if not 0 < start <= end:
            raise ValueError(f"total noise must rise from above 0, got {start} to {end}")
        points, weights = np.polynomial.legendre.leggauss(nodes)
        width = math.log(end / start) / pieces
        value = torch.zeros(len(self.clean), dtype=torch.float64)
        for k in range(pieces):
            for point, weight in zip(points, weights, strict=True):
                total = start * math.exp(width * (k + (point + 1) / 2))
                value += weight * width / 2 * total * self.denoising_rate(self.table(score, total), total)
        return value

    def explicit_objective(self, table, total_noise):
        """Score entropy ([1], definition 3.1) with true ratios and weights ``Q(x, y)``, a scalar; 0 at the truth."""
        p, x = self.marginal(total_noise), self.sequences
        truth = self.table(self, total_noise).exp()
        return (p * _score_entropy(table, truth, self._weights()[x]).sum((1, 2))).sum()

    def implicit_objective(self, table, total_noise):
        """``E_x sum_y Q(x, y) s(x)_y - Q(y, x) log s(y)_x`` ([1], proposition 3.3): no ratio needed; a scalar."""
        p, x, weights = self.marginal(total_noise), self.sequences, self._weights()
        place = self.graph.states ** torch.arange(self.length - 1, -1, -1)
        there = torch.arange(self.graph.states) - x.unsqueeze(-1)
        neighbor = torch.arange(len(x))[:, None, None] + there * place[:, None]
        i = torch.arange(self.length)[:, None].expand(neighbor.shape)
        back = table[neighbor, i, x.unsqueeze(-1).expand(neighbor.shape)]
        back_weights = weights.T[x]  # Q(y, x) for y on the last axis
        used = back_weights > 0
        ahead = (weights[x] * table.exp().masked_fill(weights[x] == 0, 0)).sum((1, 2))
        behind = (back_weights * torch.where(used, back, 0)).sum((1, 2))
        return (p * (ahead - behind)).sum()

    def denoising_objective(self, table, total_noise):
        """The mean of :meth:`denoising_rate` over the distribution ([1], theorem 3.4), a scalar."""
        return (self.distribution.flatten() * self.denoising_rate(table, total_noise)).sum()

    def _weights(self):
        """``Q(x, y)``, rows x, columns y, 0 on the diagonal, shape (states, states)."""
        return self.graph.rate_to(torch.arange(self.graph.states)).fill_diagonal_(0)

    # ---- samplers

    def true_step(self, start, end):
        """``p(x_end | x_start)`` as total noise decreases from start to end, rows x_start, (states**d, states**d)."""
        p = self.marginal(end)
        forward = _product(
            self.graph.transition(torch.arange(self.graph.states), start - end)[self.sequences]
        )
        joint = p.unsqueeze(1) * forward
        whole = joint.sum(0)
        return torch.where(whole > 0, joint / whole, 0).T

    def step(self, score, noise, start, end, method="tweedie"):
        """A sampler's step from time start to end, tokens independent; each row is a starting sequence."""
        return self._factorized(self._step_of_tokens(score, noise, start, end, method))

    def _step_of_tokens(self, score, noise, start, end, method):
        (total, rate), later = noise(start), noise(end)[0]
        length = total - later if method == "tweedie" else rate * (start - end)
        return self.graph.probabilities(self.table(score, total), self.sequences, length, method)

    def step_divergence(self, score, noise, start, end, method="tweedie"):
        """Mean over ``p_start`` of the KL between the true step and a sampler's, in nats: smallest for ``"tweedie"``."""
        total, later = noise(start)[0], noise(end)[0]
        gaps = divergence(self.true_step(total, later), self.step(score, noise, start, end, method))
        return (self.marginal(total) * gaps).sum()

    def token_error(self, score, noise, start, end, method="tweedie"):
        """Largest error of a token's probability after a sampler's step, over starts of positive probability."""
        total, later = noise(start)[0], noise(end)[0]
        own = one_hot(self.sequences, self.graph.states).double()  # (to, i, state)
        gap = torch.einsum("ft,tis->fis", self.true_step(total, later), own)
        gap = gap - self._step_of_tokens(score, noise, start, end, method)
        return gap[self.marginal(total) > 0].abs().max()

    def sampler_distribution(self, score, noise, steps, method="tweedie", given=None):
        """The distribution of :func:`~loupe.diffusion.discrete.sample` with these arguments, shape (N,) * d."""
        graph, times = self.graph, np.linspace(1, LAST_TIME, steps + 1)
        one = torch.full((graph.states,), 1 / graph.states, dtype=torch.float64)
        if graph.states > graph.tokens:
            one = torch.eye(graph.states, dtype=torch.float64)[graph.mask]
        p = self._restored(reduce(torch.kron, [one] * self.length), given)
        for start, end in pairwise(times):
            p = self._restored(p @ self.step(score, noise, float(start), float(end), method), given)
        total = noise(LAST_TIME)[0]
        last = graph.denoise_probabilities(self.table(score, total), self.sequences, total)
        p = self._restored(p @ self._factorized(last), given).view((graph.states,) * self.length)
        return p[(slice(graph.tokens),) * self.length]

    def _factorized(self, probabilities):
        return _product(probabilities / probabilities.sum(-1, keepdim=True))

    def _restored(self, p, given):
        if given is None:
            return p
        p = p.view((self.graph.states,) * self.length)
        for i, token in zip(*(torch.as_tensor(each).tolist() for each in given), strict=True):
            whole = p.sum(i)
            p = torch.zeros_like(p)
            p.select(i, token).copy_(whole)
        return p.flatten()


def divergence(p, q):
    """``KL(p || q)`` in nats, distributions along the last axis."""
    return (torch.special.xlogy(p, p) - torch.special.xlogy(p, q)).sum(-1)


def total_variation(p, q):
    """Half the sum of absolute differences of two distributions of one shape."""
    return 0.5 * (p - q).abs().sum()


def frequencies(x, states):
    """Relative frequencies of the sequences among samples ``x (n, d)``, shape (states,) * d."""
    place = states ** torch.arange(x.shape[1] - 1, -1, -1)
    counts = torch.bincount((x * place).sum(-1), minlength=states ** x.shape[1])
    return (counts.double() / len(x)).view((states,) * x.shape[1])


def _all_sequences(states, length):
    return torch.cartesian_prod(*[torch.arange(states)] * length).view(-1, length)


def _product(each):
    """Distributions of sequences, shape (n, states**d), from those of independent tokens ``(n, d, states)``."""
    p = each[:, 0]
    for i in range(1, each.shape[1]):
        p = (p.unsqueeze(2) * each[:, i].unsqueeze(1)).flatten(1)
    return p


def _score_entropy(log_score, ratios, weights):
    """``w (s - r log s + r (log r - 1))``, elementwise; 0 where the weight is."""
    used = weights > 0
    logs, ratios = torch.where(used, log_score, 0), torch.where(used, ratios, 1)
    linear = torch.where(ratios > 0, ratios * logs, 0)
    return weights * (logs.exp() - linear + torch.special.xlogy(ratios, ratios) - ratios)

"""A Markov chain as text: the true scores after corruption are known exactly at any length.

Given the corrupted tokens, the clean ones form a hidden Markov model. Forward and backward messages, one pass over the
sequence each, give the posterior of every position in O(L N^2). Messages are normalized at each position and never
underflow.
"""

import torch
from torch.nn.functional import one_hot, pad

from loupe.diffusion.discrete.draws import categorical
from loupe.diffusion.discrete.graphs import Absorbing, noise_like
from loupe.diffusion.discrete.models import log_expm1

CHUNK = 2**17
"""Numbers in a message of one chunk of sequences: few enough to stay in the cache."""


class BigramOracle:
    """The true log-score of a Markov chain after corruption, called as ``oracle(x, total_noise)``; float64.

    Some sequences cannot come from the chain: this happens when tokens are drawn independently and some transitions are
    impossible. Conventions for these:

    * * absorbing, at a mask: the posterior given the nearest tokens, or given the left one alone if no token fits both;
    * * absorbing, at an impossible token: 0 (samplers and losses do not use this entry).

    The log-score of an impossible replacement is ``-inf``. With the uniform graph no sequence is impossible while there
    is noise.

    Parameters
    ----------
    initial : torch.Tensor, shape (N,)
        Distribution of the first token.
    transitions : torch.Tensor, shape (N, N)
        Each row is the distribution of the next token.
    graph : Absorbing or Uniform

    Raises
    ------
    ValueError
        If they are not distributions, or their number of tokens is not the graph's.
    """

    def __init__(self, initial, transitions, graph):
        initial, transitions = (torch.as_tensor(each).double() for each in (initial, transitions))
        N = graph.tokens
        if initial.shape != (N,) or transitions.shape != (N, N):
            raise ValueError(
                f"a chain of {N} tokens has distributions of shape ({N},) and ({N}, {N}), "
                f"got {tuple(initial.shape)} and {tuple(transitions.shape)}"
            )
        sums = torch.cat([initial.sum().view(1), transitions.sum(1)])
        if not (initial.min() >= 0 and transitions.min() >= 0 and (sums - 1).abs().max() < 1e-6):
            raise ValueError(
                "distributions must be at least 0 and sum to 1, "
                f"got sums from {sums.min().item():.6g} to {sums.max().item():.6g} "
                f"and a least entry of {min(initial.min(), transitions.min()).item():.3g}: normalize each row"
            )
        # Rounding to float32 may have spoiled the sums: normalize again.
        self.initial, self.transitions = initial / sums[0], transitions / sums[1:, None]
        self.graph = graph

    def __call__(self, x, total_noise):
        """The log-score ``(..., L, states)`` of tokens ``x (..., L)`` at total noise ``(...)`` or one for all, above 0."""
        noise = noise_like(total_noise, x)[..., :1].reshape(-1, 1)
        if not (noise > 0).all():
            raise ValueError(f"scores need noise: total_noise must be above 0, got {noise.min().item():g}")
        self.graph.check_tokens(x, self.graph.states, "x")
        batch, x = x.shape[:-1], x.reshape(-1, x.shape[-1])
        absorbing = isinstance(self.graph, Absorbing)
        some = self._absorbing if absorbing else self._uniform
        size = max(1, CHUNK // self.graph.tokens // max(1, x.shape[1]))
        found = torch.empty(*x.shape, self.graph.states, dtype=torch.float64, device=x.device)
        for first in range(0, len(x), size):
            part = slice(first, first + size)
            some(x[part].long(), noise[part], found[part])
        return found.view(*batch, *found.shape[1:])

    def _token_likelihood(self, x, noise):
        """The likelihood ``p(x_i | a)`` of clean tokens a, up to a factor at each position, shape (L, B, N)."""
        N, x = self.graph.tokens, x.T
        if isinstance(self.graph, Absorbing):
            masked = x == self.graph.mask
            here = one_hot(x.masked_fill(masked, 0), N).double()
            return here.masked_fill_(masked.unsqueeze(-1), 1)
        return -torch.expm1(-noise) / N + (-noise).exp() * one_hot(x, N)

    def _messages(self, likelihood):
        """Messages to each position from the left and from the right, each (L, B, N)."""
        A, last = self.transitions.to(likelihood.device), len(likelihood) - 1
        left, right = torch.empty_like(likelihood), torch.empty_like(likelihood)
        left[0], right[last] = self.initial.to(likelihood.device), 1
        for i in range(last):
            torch.mm(_normalized(left[i] * likelihood[i], likelihood[i]), A, out=left[i + 1])
        for i in range(last, 0, -1):
            torch.mm(_normalized(right[i] * likelihood[i], likelihood[i]), A.T, out=right[i - 1])
        return left, right

    def _cavity(self, likelihood):
        """``p(a | all other tokens)`` over clean tokens a at each position, up to a factor, shape (L, B, N)."""
        left, right = self._messages(likelihood)
        both = left * right
        impossible = both.sum(-1, keepdim=True) == 0
        return torch.where(impossible, left, both) if impossible.any() else both

    def _absorbing(self, x, noise, found):
        cavity = self._cavity(self._token_likelihood(x, noise)).transpose(0, 1)
        masked = (x == self.graph.mask).unsqueeze(-1)
        here = x.unsqueeze(-1).masked_fill(masked, 0)
        scale = log_expm1(noise).unsqueeze(-1)
        logs, whole = cavity.log(), cavity.sum(-1, keepdim=True).log()
        own = torch.where(masked, whole + scale, logs.gather(-1, here))
        found[..., :-1] = logs - own
        found[..., -1:] = torch.where(masked, 0, whole + scale - own)
        found.masked_fill_(own == -torch.inf, 0)

    def _uniform(self, x, noise, found):
        cavity = self._cavity(self._token_likelihood(x, noise)).transpose(0, 1)
        kept, fresh = (-noise).exp().unsqueeze(-1), -torch.expm1(-noise).unsqueeze(-1) / self.graph.tokens
        logs = (kept * cavity + fresh * cavity.sum(-1, keepdim=True)).log()  # sum_a g(a) p(y | a)
        torch.sub(logs, logs.gather(-1, x.unsqueeze(-1)), out=found)

    # ---- the chain itself

    def sample(self, shape, generator=None):
        """Clean sequences of the chain, shape (B, L), int64."""
        x = torch.empty(shape, dtype=torch.int64)
        draws = torch.rand(shape, generator=generator, dtype=torch.float64)
        p = self.initial.expand(shape[0], -1)
        for i in range(shape[1]):
            x[:, i] = categorical(p, draws[:, i].contiguous())
            p = self.transitions[x[:, i]]
        return x

    def nats(self, x):
        """Negative log-likelihood of clean sequences ``x (..., L)`` under the chain, exact, shape (...)."""
        self.graph.check_tokens(x, self.graph.tokens, "x")
        x = x.long()
        logs = self.transitions.log()[x[..., :-1], x[..., 1:]]
        return -pad(logs, (1, 0)).sum(-1) - self.initial.log()[x[..., 0]]

    def stationary(self):
        """A stationary distribution, shape (N,); one of them if there are several."""
        N = len(self.initial)
        system = torch.cat(
            [self.transitions.T - torch.eye(N, dtype=torch.float64), torch.ones(1, N).double()]
        )
        return torch.linalg.lstsq(system, pad(torch.zeros(N, 1).double(), (0, 0, 0, 1), value=1.0)).solution[
            :, 0
        ]

    def entropy_rate(self):
        """Entropy per token in the stationary distribution, in nats."""
        return (self.stationary() * self._row_entropies()).sum()

    def entropy(self, length):
        """The mean of :meth:`nats` over sequences of a length, exact."""
        p, rows = self.initial, self._row_entropies()
        total = torch.special.entr(p).sum()
        for _ in range(length - 1):
            total, p = total + (p * rows).sum(), p @ self.transitions
        return total

    def _row_entropies(self):
        return torch.special.entr(self.transitions).sum(1)


def stationary_chain(pairs):
    """The chain with these frequencies of pairs of neighbors, as text has them: for :class:`BigramOracle`.

    Parameters
    ----------
    pairs : torch.Tensor or array, shape (N, N)
        Positive; rows are the first token.

    Returns
    -------
    initial : torch.Tensor, shape (N,), float64
        The distribution after 200 steps from equally likely tokens.
    transitions : torch.Tensor, shape (N, N), float64
    """
    pairs = torch.as_tensor(pairs).double()
    transitions = pairs / pairs.sum(1, keepdim=True)
    initial = torch.full_like(pairs[0], 1 / len(pairs))
    for _ in range(200):
        initial = initial @ transitions
    return initial, transitions


def _normalized(message, likelihood):
    """Messages normalized to sum 1; where one is all zero, the token's own likelihood replaces it."""
    total = message.sum(-1, keepdim=True)
    if (total == 0).any():
        message = torch.where(total > 0, message, likelihood)
        total = message.sum(-1, keepdim=True)
    return message / total

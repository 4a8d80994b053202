"""Peers to measure score entropy, sampling steps and the transformer of discrete diffusion against.

What is called a re-statement puts a published algorithm in our words; it is not the authors' code. Noise is
one number for each sequence, shape (B, 1).
"""

import torch
from torch import nn
from torch.nn.functional import cross_entropy, gelu, one_hot, pad, scaled_dot_product_attention

# The authors' guard against the logarithm of 0 in exponential sampling.
TINY = 1e-10


def absorbing_score_entropy(log_score, total_noise, x, x0):
    """Re-statement of the published loss with masks: rows of masks are copied out, and exponentials of them.

    Parameters
    ----------
    log_score : torch.Tensor, shape (B, L, N + 1)
    total_noise : torch.Tensor, shape (B, 1)
    x, x0 : torch.Tensor of int64, shape (B, L)

    Returns
    -------
    torch.Tensor, shape (B, L)
    """
    masked = x == log_score.shape[-1] - 1
    ratio = (1 / torch.expm1(total_noise)).expand(x.shape)[masked]
    right = log_score[masked].gather(-1, x0[masked].unsqueeze(-1)).squeeze(-1)
    total = log_score[masked][:, :-1].exp().sum(-1)
    values = log_score.new_zeros(x.shape)
    values[masked] += total - ratio * right + ratio * (ratio.log() - 1)
    return values


def uniform_score_entropy(log_score, total_noise, x, x0):
    """Re-statement of the published loss without masks: means of log-scores and of scores, and gathers.

    The published ``1 - N / (e + N)`` has no digits of single precision left for small noise; here it is
    ``e / (e + N)``, so that results can be compared. Arguments as for
    :func:`absorbing_score_entropy`, with N states.
    """
    N = log_score.shape[-1]
    here, right = x.unsqueeze(-1), x0.unsqueeze(-1)
    e = torch.expm1(total_noise)
    rho = (e / (e + N)).expand(x.shape)
    scores = log_score.exp()
    positive = scores.mean(-1) - scores.gather(-1, here).squeeze(-1) / N
    logs = log_score.mean(-1) - log_score.gather(-1, here).squeeze(-1) / N
    kept = x == x0
    negative = torch.where(kept, rho * logs, log_score.gather(-1, right).squeeze(-1) / e + logs)
    constant = torch.where(kept, (N - 1) / N * rho * (rho.log() - 1), ((-rho.log() - 1) / rho - (N - 2)) / N)
    return positive - negative + constant


def analytic_probabilities(log_score, x, step):
    """Re-statement of the published analytic step with masks: probabilities of every state at every token.

    Parameters
    ----------
    log_score : torch.Tensor, shape (B, L, N + 1)
    x : torch.Tensor of int64, shape (B, L)
    step : torch.Tensor, shape (B, 1)
        Total noise that the step takes away.

    Returns
    -------
    torch.Tensor, shape (B, L, N + 1)
    """
    states = log_score.shape[-1]
    score, step = log_score.exp(), step.unsqueeze(-1)
    masked = -torch.expm1(step.squeeze(-1)) * score.sum(-1)
    score = score * step.exp()
    score[..., -1] += masked
    forward = (-step).exp() * one_hot(x, states)
    forward += torch.where(x == states - 1, -torch.expm1(-step.squeeze(-1)), 0).unsqueeze(-1)
    return score * forward


def exponential_sampling(weights, generator=None, dtype=torch.float32):
    """Re-statement of the published draw: a random number for each state, and the largest quotient wins."""
    weights = weights.to(dtype)
    waits = torch.rand(weights.shape, generator=generator, dtype=dtype)
    return (weights / (TINY - (waits + TINY).log())).argmax(-1)


def analytic_step(log_score, x, step, generator=None, dtype=torch.float32):
    """One published step: probabilities, then exponential sampling, both in ``dtype``."""
    return exponential_sampling(
        analytic_probabilities(log_score.to(dtype), x, step.to(dtype)), generator, dtype
    )


def analytic_last_step(log_score, x, total_noise, generator=None, dtype=torch.float32):
    """The published step that takes all noise away: the mask is never drawn."""
    weights = analytic_probabilities(log_score.to(dtype), x, total_noise.to(dtype))
    return exponential_sampling(weights[..., :-1], generator, dtype)


class Layer(nn.Module):
    """Attention to what came before, then a layer at each position, behind norms, with biases: as GPT-2."""

    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.widen, self.narrow = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x):
        """``x (B, L, width)`` to the same shape."""
        B, L, width = x.shape
        parts = self.qkv(self.norm1(x)).view(B, L, 3, self.heads, width // self.heads)
        q, k, v = parts.permute(2, 0, 3, 1, 4)
        h = scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(h.transpose(1, 2).reshape(B, L, width))
        return x + self.narrow(gelu(self.widen(self.norm2(x)), approximate="tanh"))


class PlainGPT(nn.Module):
    """A causal transformer with learned positions: nothing is turned, nothing is told the noise.

    Parameters
    ----------
    states : int
        Real tokens, and the one that stands before a text, of the number ``states - 1``.
    width, heads, blocks : int
    length : int
        Longest text.
    """

    def __init__(self, states, *, width, heads, blocks, length):
        super().__init__()
        self.start = states - 1
        self.embedding, self.positions = nn.Embedding(states, width), nn.Embedding(length, width)
        self.blocks = nn.Sequential(*[Layer(width, heads) for _ in range(blocks)])
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, states)

    def forward(self, tokens):
        """Logits (B, L, states) of what follows each of ``tokens (B, L)``."""
        x = self.embedding(tokens) + self.positions.weight[: tokens.shape[1]]
        return self.head(self.norm(self.blocks(x)))

    def nats(self, x0):
        """Cross-entropy of each token of ``x0 (B, L)`` given those before it, shape (B, L)."""
        logits = self(pad(x0[:, :-1], (1, 0), value=self.start))
        return cross_entropy(logits.transpose(1, 2), x0, reduction="none")
